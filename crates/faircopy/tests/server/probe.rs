//! The probe: what it finds, how long it says so, and what it costs. Each test makes the turns itself and moves the clock.

use std::sync::Arc;
use std::time::Duration;

use faircopy::app::ManualClock;
use faircopy::sweep::Order;
use faircopy::worker::probe::{LEASE, MAX_REQUESTS, Probe};
use faircopy_core::Millis;
use faircopy_store::{Address, Error, Store};
use faircopy_testkit::clerk::{Clerk, Mood};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::app::{Engine, TestApp, manual_clock};
use crate::confirm::clerk;
use crate::events::{THEN, event, user};

const ENGINES: [Engine; 2] = [Engine::Sqlite, Engine::Postgres];
const MINUTE: i64 = 60_000;
/// When [`manual_clock`] begins.
const BEGIN: i64 = 1_760_000_000_000;
/// How long a replica has the lease.
const LEASE_MS: i64 = 150_000;

/// A service beside an instance of Clerk's that it has copied, and a worker that probes.
struct Scene {
    clerk: Clerk,
    clock: ManualClock,
    app: TestApp,
    probe: Probe,
    soon: Arc<Notify>,
}

impl Scene {
    async fn on(engine: Engine) -> Self {
        let (clerk, clock) = (clerk().await, manual_clock());
        clerk.has_user("user_ada", "Ada");
        clerk.has_user("user_bob", "Bob");
        clerk.has_organization("org_a", "The first");
        clerk.joins("org_a", "user_ada", "org:admin");
        clerk.invites("org_a", "orginv_1");
        let app = TestApp::build().on(engine).clerk(&clerk).without_reconcile().clock(&clock).start().await;
        app.sweep(Order::backfill()).await;
        clock.advance(MINUTE);
        let (probe, soon) = app.probe("one");
        Self { clerk, clock, app, probe, soon }
    }

    /// A turn, and a minute. Returns what is found after it.
    async fn turn(&mut self) -> Vec<String> {
        assert!(self.probe.step().await.unwrap(), "nobody else has the lease");
        self.clock.advance(MINUTE);
        names(&self.app).await
    }

    async fn finding(&self, name: &str) -> Value {
        let findings = self.app.admin_json("/admin/v1/findings").await;
        let found = findings["data"].as_array().unwrap().iter().find(|finding| finding["name"] == name).cloned();
        found.unwrap_or_else(|| panic!("{name} is not found: {findings}"))
    }

    /// Whether a reconcile was asked for since this was last looked at.
    async fn wanted(&self) -> bool {
        tokio::time::timeout(Duration::ZERO, self.soon.notified()).await.is_ok()
    }

    /// What the probe itself has asked: not whose key it is, which all share.
    fn asked(&self) -> Vec<String> {
        let asked = self.clerk.asked().into_iter();
        asked.filter(|path| !["/v1/jwks", "/v1/instance"].contains(&path.as_str())).collect()
    }

    /// A delivery of an event that happens now.
    async fn delivers(&self, id: &str) {
        let at = Millis(self.app.now() * 1000);
        self.delivers_of(id, at).await;
    }

    async fn delivers_of(&self, id: &str, at: Millis) {
        let mut body = event("session.created", &json!({ "id": "sess_1", "object": "session" }));
        body["timestamp"] = at.0.into();
        assert_eq!(self.app.outcome(id, body.to_string()).await, "ignored");
    }
}

async fn names(app: &TestApp) -> Vec<String> {
    let findings = app.admin_json("/admin/v1/findings").await;
    let name = |finding: &Value| finding["name"].as_str().unwrap().to_owned();
    findings["data"].as_array().unwrap().iter().map(name).collect()
}

/// What is equal is no trouble, and to know it costs five small requests.
#[tokio::test]
async fn a_probe_costs_five_requests() {
    for engine in ENGINES {
        let mut scene = Scene::on(engine).await;
        let before = scene.asked().len();
        assert_eq!(scene.turn().await, [] as [&str; 0]);
        let asked = scene.asked()[before..].to_vec();
        let expected = [
            "/v1/users/count",
            "/v1/organizations?limit=1&order_by=created_at",
            "/v1/organization_memberships?limit=1&order_by=created_at",
            "/v1/organization_invitations?limit=1&order_by=created_at",
            "/v1/users?limit=1&order_by=-updated_at",
        ];
        assert_eq!(asked, expected);
        assert_eq!(asked.len(), MAX_REQUESTS);
        assert_eq!(scene.turn().await, [] as [&str; 0]);
        assert!(!scene.wanted().await);
        let figures = scene.app.get("/metrics").await.text();
        for figure in ["faircopy_upstream_rows{kind=\"user\"}", "faircopy_copy_rows{kind=\"invitation\"}"] {
            assert!(figures.contains(figure), "{figure}");
        }
    }
}

/// Counts that differ at two probes in a row, the same way, are told until they are equal.
#[tokio::test]
async fn counts_that_differ_are_told() {
    for engine in ENGINES {
        let mut scene = Scene::on(engine).await;
        scene.clerk.has_organization("org_b", "The second");
        scene.clerk.leaves("org_a", "user_ada");
        assert_eq!(scene.turn().await, [] as [&str; 0], "a delivery may be on its way");
        assert_eq!(scene.turn().await, ["counts-differ"]);
        let found = scene.finding("counts-differ").await;
        assert_eq!(found["detail"], "organizations: 2 at Clerk, 1 in the copy; members: 0 at Clerk, 1 in the copy");
        assert_eq!(found["since"], Millis(BEGIN + MINUTE).to_string(), "when they first differed");
        assert!(scene.wanted().await, "a reconcile is asked for");
        assert_eq!(scene.turn().await, ["counts-differ"]);
        let kept = scene.finding("counts-differ").await;
        assert_eq!(
            (&kept["since"], &kept["seen_at"]),
            (&found["since"], &json!(Millis(BEGIN + 3 * MINUTE).to_string()))
        );
        assert!(!scene.wanted().await, "once in ten minutes");

        // One of them is settled: the other is told alone.
        scene.clerk.joins("org_a", "user_ada", "org:admin");
        assert_eq!(scene.turn().await, ["counts-differ"]);
        assert_eq!(scene.finding("counts-differ").await["detail"], "organizations: 2 at Clerk, 1 in the copy");
        scene.app.sweep(Order::backfill()).await;
        scene.clock.advance(MINUTE);
        assert_eq!(scene.turn().await, [] as [&str; 0]);
    }
}

/// What was never delivered is read after two minutes, and told until something later is delivered.
#[tokio::test]
async fn what_is_not_delivered_is_read_and_told() {
    for engine in ENGINES {
        let mut scene = Scene::on(engine).await;
        let changed_at = scene.app.now() * 1000 - 1;
        scene.clerk.has_user_since("user_ada", "Augusta", changed_at);
        assert_eq!(scene.turn().await, [] as [&str; 0]);
        assert_eq!(scene.turn().await, [] as [&str; 0], "its delivery may be on its way");
        assert_eq!(scene.turn().await, ["undelivered"]);
        let found = scene.finding("undelivered").await;
        assert_eq!(found["since"], Millis(changed_at).to_string());
        assert!(scene.wanted().await, "a reconcile is asked for");
        let row = &scene.app.tables().await.users["user_ada"];
        assert_eq!((row.first_name.as_deref(), row.provenance.as_deref()), (Some("Augusta"), Some("api")));

        // The copy knows it now; that it was told is another matter.
        assert_eq!(scene.turn().await, ["undelivered"]);
        scene.delivers_of("msg_before", Millis(changed_at)).await;
        assert_eq!(scene.turn().await, ["undelivered"], "it happened before");
        scene.delivers("msg_after").await;
        assert_eq!(scene.turn().await, [] as [&str; 0]);

        // A delivered change is no trouble, and neither is one that Clerk has forgotten about since.
        let now = scene.app.now() * 1000;
        scene.clerk.has_user_since("user_bob", "Robert", now);
        scene.app.outcome("msg_bob", event("user.updated", &user("user_bob", now)).to_string()).await;
        scene.clock.advance(5 * MINUTE);
        assert_eq!(scene.turn().await, [] as [&str; 0]);
    }
}

/// No delivery for longer than usual, without any key: told until the next one.
#[tokio::test]
async fn silence_is_told_without_a_key() {
    for engine in ENGINES {
        let clock = manual_clock();
        let app = TestApp::build().on(engine).clock(&clock).start().await;
        let (mut probe, _) = app.probe("one");
        for number in 0..25 {
            clock.advance(MINUTE);
            app.outcome(&format!("msg_{number}"), event("user.created", &user("user_ada", THEN + number)).to_string())
                .await;
        }
        let last = clock_of(&app);
        clock.advance(10 * MINUTE);
        probe.step().await.unwrap();
        assert_eq!(names(&app).await, [] as [&str; 0]);
        clock.advance(1);
        probe.step().await.unwrap();
        let findings = app.admin_json("/admin/v1/findings").await;
        let found = &findings["data"][0];
        assert_eq!((&found["name"], &found["since"]), (&json!("silence"), &json!(last.to_string())));
        assert!(found["detail"].as_str().unwrap().contains("within 60 seconds"), "{found}");
        let figures = app.get("/metrics").await.text();
        assert!(figures.contains("faircopy_finding{name=\"silence\"}"), "{figures}");
        clock.advance(60 * MINUTE);
        probe.step().await.unwrap();
        assert_eq!(names(&app).await, ["silence"]);
        app.outcome("msg_next", event("user.created", &user("user_eve", THEN)).to_string()).await;
        probe.step().await.unwrap();
        assert_eq!(names(&app).await, [] as [&str; 0]);
    }
}

fn clock_of(app: &TestApp) -> Millis {
    Millis(app.now() * 1000)
}

/// A key that is refused is told after three probes; to be asked for patience, or a bad minute, is not.
#[tokio::test]
async fn a_key_that_reads_nothing_is_told() {
    for engine in ENGINES {
        let mut scene = Scene::on(engine).await;
        for mood in [Mood::Limited(Some(30)), Mood::Status(500), Mood::Html, Mood::CutOff] {
            scene.clerk.is(mood.clone());
            for _ in 0..4 {
                assert_eq!(scene.turn().await, [] as [&str; 0], "{mood:?}");
            }
            scene.clerk.is(Mood::Fine);
            assert_eq!(scene.turn().await, [] as [&str; 0], "{mood:?}");
        }
        let since = clock_of(&scene.app);
        scene.clerk.is(Mood::Status(401));
        assert_eq!(scene.turn().await, [] as [&str; 0]);
        assert_eq!(scene.turn().await, [] as [&str; 0]);
        assert_eq!(scene.turn().await, ["clerk-unreadable"]);
        let found = scene.finding("clerk-unreadable").await;
        assert_eq!(found["since"], since.to_string());
        assert_eq!(found["detail"], "3 probes in a row have failed: CLERK_SECRET_KEY was refused (status 401)");
        assert!(!scene.wanted().await, "there is nobody to compare with");
        scene.clerk.is(Mood::Fine);
        assert_eq!(scene.turn().await, [] as [&str; 0]);
        scene.clerk.becomes("ins_other", &crate::mint::jwks(&[("ins_other", crate::mint::other())]));
        let mut found = Vec::new();
        for _ in 0..10 {
            found = scene.turn().await;
        }
        assert_eq!(found, ["clerk-unreadable"], "the key of another instance: its empty lists say nothing about ours");
    }
}

/// A stand-in that counts nothing is not compared, and what it does tell is.
#[tokio::test]
async fn what_is_not_counted_is_not_compared() {
    let mut scene = Scene::on(Engine::Sqlite).await;
    scene.clerk.has_user_since("user_new", "New", scene.app.now() * 1000 - 3 * MINUTE);
    scene.clerk.next([Mood::Status(405)]);
    assert_eq!(scene.turn().await, ["undelivered"]);
    assert!(scene.app.tables().await.users.contains_key("user_new"));
}

/// I13: one replica probes; another takes over when it is gone, and what the first one still wants to say is not said.
#[tokio::test]
async fn one_replica_probes() {
    for engine in ENGINES {
        let mut scene = Scene::on(engine).await;
        let (mut other, _) = scene.app.probe("other");
        assert!(scene.probe.step().await.unwrap());
        let asked = scene.asked().len();
        assert!(!other.step().await.unwrap());
        assert_eq!(scene.asked().len(), asked, "it asks nothing");
        scene.clock.advance(LEASE_MS);
        assert!(other.step().await.unwrap(), "the first one is gone");
        assert!(!scene.probe.step().await.unwrap());

        // While it asks, somebody else takes over.
        scene.clock.advance(LEASE_MS);
        let changed_at = scene.app.now() * 1000 - 10 * MINUTE;
        scene.clerk.has_user_since("user_ada", "Augusta", changed_at);
        scene.clerk.is(Mood::Late(Duration::from_millis(200)));
        let writer = Store::new(Address::parse(&scene.app.database_url).unwrap());
        let before = scene.clerk.asked().len();
        let take_over = async {
            while scene.clerk.asked().len() <= before {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            scene.clock.advance(LEASE_MS);
            let taken = writer.writer().take_lease(LEASE, "third", clock_of(&scene.app), LEASE_MS).await.unwrap();
            assert!(taken.is_some());
        };
        let (stepped, ()) = tokio::join!(scene.probe.step(), take_over);
        assert!(matches!(stepped, Err(Error::LeaseLost(LEASE))), "{stepped:?}");
        assert_eq!(names(&scene.app).await, [] as [&str; 0]);
        assert_eq!(
            scene.app.tables().await.users["user_ada"].first_name.as_deref(),
            Some("Ada"),
            "and it reads no more"
        );
    }
}

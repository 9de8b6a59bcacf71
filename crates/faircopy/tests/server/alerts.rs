//! Each alarm, raised by breaking the thing itself and resolved by mending it; and who is told of it, how often, in which form.
//! Each test makes the turns itself and moves the clock; a receiver remembers what it is told.

use std::time::Duration;

use faircopy::app::{Clock as _, ManualClock, SystemClock};
use faircopy::sweep::{Ending, Order};
use faircopy::worker::alerts::{AWAY_MS, Alerts};
use faircopy::worker::watch::Watch;
use faircopy_core::Millis;
use faircopy_store::Error;
use faircopy_testkit::clerk::Clerk;
use faircopy_testkit::postgres::Postgres;
use faircopy_testkit::receiver::{Post, Receiver};
use faircopy_testkit::sender::Sender;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use svix::webhooks::Webhook;

use crate::app::{Builder, Engine, SECRET, TestApp, assert_problem, eventually, manual_clock};
use crate::confirm::clerk;
use crate::events::{THEN, event, user, user_created};

const ENGINES: [Engine; 2] = [Engine::Sqlite, Engine::Postgres];
const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// Another secret than the configured one.
const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
/// How long something is waited for that happens by itself.
const SOON: Duration = Duration::from_secs(20);
/// Turns, a minute each, after which whatever stands was told, and whatever is over, too: the window of the counts is a quarter
/// of an hour.
const TURNS: usize = 25;

/// A service, what watches it and tells, and who is told.
struct Scene {
    clock: ManualClock,
    app: TestApp,
    watch: Watch,
    alerts: Alerts,
    receiver: Receiver,
}

fn told_at(receiver: &Receiver) -> String {
    format!("name = 'ops'\nurl = '{}/faircopy'", receiver.url())
}

/// The real time, for what is compared with somebody else's clock, standing still.
fn real_clock() -> ManualClock {
    ManualClock::at(SystemClock.now())
}

impl Scene {
    async fn of(builder: Builder, clock: ManualClock, receiver: Receiver) -> Self {
        let app = builder.clock(&clock).alert(&told_at(&receiver)).start().await;
        let (watch, alerts) = app.watchers("one");
        Self { clock, app, watch, alerts, receiver }
    }

    /// On either engine, at the real time: PostgreSQL has a clock of its own.
    async fn on(engine: Engine) -> Self {
        Self::of(TestApp::build().on(engine), real_clock(), Receiver::start().await).await
    }

    async fn beside(clerk: &Clerk) -> Self {
        let builder = TestApp::build().clerk(clerk).without_reconcile();
        Self::of(builder, manual_clock(), Receiver::start().await).await
    }

    /// A look and a minute.
    async fn turn(&mut self) {
        self.watch.step().await.unwrap();
        self.alerts.step().await.unwrap();
        self.clock.advance(MINUTE);
    }

    async fn turns(&mut self, number: usize) {
        for _ in 0..number {
            self.turn().await;
        }
    }

    /// What was taken about a finding, in order: the types, without `alert.`.
    fn told(&self, name: &str) -> Vec<String> {
        let about = self.receiver.taken().into_iter().map(|post| post.json()).filter(|it| it["alert"]["name"] == name);
        about.map(|it| it["type"].as_str().unwrap().trim_start_matches("alert.").to_owned()).collect()
    }

    /// The last message about a finding.
    fn last(&self, name: &str) -> Value {
        let about = self.receiver.taken().into_iter().map(|post| post.json()).filter(|it| it["alert"]["name"] == name);
        about.last().unwrap_or_else(|| panic!("{name} was not told: {:?}", self.receiver.posts()))
    }

    /// Takes turns until something is told of a finding.
    async fn until(&mut self, name: &str, told: &[&str]) {
        for _ in 0..TURNS {
            if self.told(name) == told {
                return;
            }
            self.turn().await;
        }
        let findings = self.app.admin_json("/admin/v1/findings").await;
        panic!("{name}: {:?} was told and not {told:?}; {findings}", self.told(name));
    }

    async fn delivers(&self, id: &str) {
        let mut body = event("session.created", &json!({ "id": "sess_1", "object": "session" }));
        body["timestamp"] = (self.app.now() * 1000).into();
        assert_eq!(self.app.outcome(id, body.to_string()).await, "ignored");
    }

    /// A delivery that was signed so, this many seconds from now.
    async fn sent(&self, id: &str, secret: &str, seconds: i64) -> u16 {
        let sender = Sender::new(self.app.url("/"), secret);
        let body = user_created("user_1");
        let signed = sender.sign_at(id, body.as_bytes(), self.app.now() + seconds);
        self.app.post(&signed.headers(), body).await.status
    }

    /// Behind the service's back. `{s}` is the schema.
    async fn sql(&self, statement: &str) {
        let url = &self.app.database_url;
        if url.starts_with("sqlite:") {
            let mut connection = SqliteConnection::connect(url).await.unwrap();
            let text = statement.replace("{s}", "");
            sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        } else {
            let mut connection = PgConnection::connect(url).await.unwrap();
            let text = statement.replace("{s}", "faircopy.");
            sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await.unwrap();
            connection.close().await.unwrap();
        }
    }

    /// The database refuses this user, whatever is written of it, until [`Scene::takes_all`].
    async fn refuses_user(&self, id: &str) {
        if self.app.database_url.starts_with("sqlite:") {
            let refuse = "CREATE TRIGGER poison BEFORE INSERT ON users WHEN NEW.clerk_user_id =";
            self.sql(&format!("{refuse} '{id}' BEGIN SELECT RAISE(ABORT, 'poison'); END")).await;
        } else {
            self.sql(&format!("ALTER TABLE {{s}}users ADD CONSTRAINT poison CHECK (clerk_user_id <> '{id}')")).await;
        }
    }

    async fn takes_all(&self) {
        let sqlite = self.app.database_url.starts_with("sqlite:");
        self.sql(if sqlite { "DROP TRIGGER poison" } else { "ALTER TABLE {s}users DROP CONSTRAINT poison" }).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_is_told_until_it_is_replayed_or_acknowledged() {
    for engine in ENGINES {
        let mut scene = Scene::on(engine).await;
        scene.refuses_user("user_poison").await;
        assert_eq!(scene.app.outcome("msg_1", user_created("user_poison")).await, "quarantined");
        scene.until("failures", &["raised"]).await;
        let told = scene.last("failures");
        assert_eq!(told["alert"]["severity"], "warning");
        assert!(told["alert"]["detail"].as_str().unwrap().starts_with("1 deliveries are quarantined"), "{told}");

        scene.takes_all().await;
        let replayed = scene.app.admin("POST", "/admin/v1/deliveries/msg_1/replay").await;
        assert_eq!(replayed.json().unwrap()["outcome"], "applied");
        scene.until("failures", &["raised", "resolved"]).await;

        // One about which nothing can be done is known once somebody says so; the next one is told again.
        assert_eq!(scene.app.outcome("msg_2", "not JSON").await, "quarantined");
        scene.until("failures", &["raised", "resolved", "raised"]).await;
        assert_eq!(scene.app.admin("POST", "/admin/v1/alerts/acknowledge").await.status, 200);
        scene.until("failures", &["raised", "resolved", "raised", "resolved"]).await;
        assert_eq!(scene.app.outcome("msg_3", "not JSON").await, "quarantined");
        scene.until("failures", &["raised", "resolved", "raised", "resolved", "raised"]).await;
    }
}

/// The webhook path is dead: everything is sent back, for want of a secret. The alarm comes all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_takes_nothing_is_told() {
    let clock = real_clock();
    let home = TestApp::build().clock(&clock).start().await;
    let url = home.database_url.clone();
    let without = TestApp::build().without_secrets().database_url(&url);
    let mut scene = Scene::of(without, clock.clone(), Receiver::start().await).await;
    for number in 0..3 {
        let response = scene.app.deliver(&format!("msg_{number}"), user_created("user_1")).await;
        assert_problem(&response, 503, "no-signing-secret");
    }
    scene.until("failures", &["raised"]).await;
    let told = scene.last("failures");
    assert_eq!(told["alert"]["severity"], "critical");
    assert_eq!(told["alert"]["detail"], "3 of 3 deliveries were sent back (503) within 15 minutes");

    // Mended: the same database and the same receiver, with a secret.
    let Scene { app, receiver, .. } = scene;
    app.stop().await;
    let mut scene = Scene::of(TestApp::build().database_url(&url), clock, receiver).await;
    scene.delivers("msg_good").await;
    scene.until("failures", &["raised", "resolved"]).await;
}

/// Nobody answers any request: there is no listener at all. What is started is the service itself, whose workers run by
/// themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_told_although_nothing_listens() {
    let (clock, receiver) = (manual_clock(), Receiver::start().await);
    let app = TestApp::build().clock(&clock).start().await;
    for number in 0..25 {
        clock.advance(MINUTE);
        let body = event("user.created", &user("user_ada", THEN + number));
        app.outcome(&format!("msg_{number}"), body.to_string()).await;
    }
    let is_told = |wanted: &str| {
        let taken = receiver.taken();
        taken.iter().map(Post::json).any(|told| told["type"] == wanted && told["alert"]["name"] == "silence")
    };
    let target = told_at(&receiver);
    let service = TestApp::build().clock(&clock).alert(&target).by_itself();
    let (unreachable, _workers) = service.start_unreachable(&app.database_url).await;
    let passes = async || {
        clock.advance(10 * SECOND);
        is_told("alert.raised")
    };
    eventually("silence is told", SOON * 3, passes).await;
    // Deliveries come again, at another replica.
    app.outcome("msg_again", user_created("user_eve")).await;
    let passes = async || {
        clock.advance(10 * SECOND);
        if clock.now().0 % MINUTE < 10 * SECOND {
            app.outcome(&format!("msg_{}", clock.now().0), user_created("user_eve")).await;
        }
        is_told("alert.resolved")
    };
    eventually("the end of it is told", SOON * 3, passes).await;
    drop(unreachable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drift_is_told_with_the_guard_that_held_it_back() {
    let clerk = clerk().await;
    for number in 0..40 {
        clerk.has_user(&format!("user_{number:02}"), "Ada");
    }
    let mut scene = Scene::beside(&clerk).await;
    scene.app.sweep(Order::backfill()).await;
    assert_eq!(scene.app.sweep(Order::reconcile()).await.outcome, Some(Ending::Exact));
    scene.turns(5).await;
    assert_eq!(scene.told("drift"), [] as [&str; 0]);
    for number in 0..30 {
        clerk.deletes_user(&format!("user_{number:02}"));
    }
    scene.clock.advance(HOUR);
    assert_eq!(scene.app.sweep(Order::reconcile()).await.outcome, Some(Ending::Differences));
    scene.until("drift", &["raised"]).await;
    let detail = scene.last("drift")["alert"]["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("users: 30 left, held back: 30 are absent, more than 20"), "{detail}");
    // They were not gone: somebody had the wrong instance open.
    for number in 0..30 {
        clerk.has_user(&format!("user_{number:02}"), "Ada");
    }
    scene.clock.advance(HOUR);
    assert_eq!(scene.app.sweep(Order::reconcile()).await.outcome, Some(Ending::Exact));
    scene.until("drift", &["raised", "resolved"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comparison_that_is_too_old_is_told() {
    let clerk = clerk().await;
    clerk.has_user("user_ada", "Ada");
    let mut scene = Scene::beside(&clerk).await;
    scene.turns(3).await;
    scene.clock.advance(DAY - 4 * MINUTE);
    scene.turns(2).await;
    assert_eq!(scene.told("drift"), [] as [&str; 0], "not a day yet");
    scene.until("drift", &["raised"]).await;
    assert!(scene.last("drift")["alert"]["detail"].as_str().unwrap().contains("24 hours"));
    scene.app.sweep(Order::reconcile()).await;
    scene.until("drift", &["raised", "resolved"]).await;
    let figures = scene.app.get("/metrics").await.text();
    assert!(figures.contains("faircopy_reconcile_last_success_timestamp_seconds"), "{figures}");
}

/// Liveblocks does not answer for hours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_that_waits_for_liveblocks_is_told() {
    let liveblocks = Receiver::start().await;
    liveblocks.answers(500, None);
    let builder = TestApp::build().liveblocks(liveblocks.url());
    let mut scene = Scene::of(builder, manual_clock(), Receiver::start().await).await;
    let organization = json!({
        "object": "organization", "id": "org_a", "name": "Acme", "slug": null, "public_metadata": {},
        "created_at": THEN, "updated_at": THEN,
    });
    scene.app.outcome("msg_1", event("organization.created", &organization).to_string()).await;
    scene.sql("INSERT INTO {s}rooms (id, workspace_id) VALUES ('r1', 'org_a')").await;
    let gone = json!({ "object": "organization", "id": "org_a", "deleted": true });
    let mut gone = event("organization.deleted", &gone);
    gone["timestamp"] = (THEN + 1).into();
    scene.app.outcome("msg_2", gone.to_string()).await;
    let called = async || liveblocks.posts().iter().any(|post| post.method == "DELETE");
    eventually("Liveblocks is called", SOON, called).await;
    scene.turns(3).await;
    assert_eq!(scene.told("jobs-stuck"), [] as [&str; 0]);
    scene.clock.advance(2 * HOUR);
    scene.until("jobs-stuck", &["raised"]).await;
    let detail = scene.last("jobs-stuck")["alert"]["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("1 steps outside wait, the oldest for 12"), "{detail}");
    liveblocks.answers(204, None);
    let over = async || {
        scene.clock.advance(MINUTE);
        liveblocks.taken().iter().any(|post| post.method == "DELETE")
    };
    eventually("the room is deleted", SOON, over).await;
    scene.until("jobs-stuck", &["raised", "resolved"]).await;
}

/// Two replicas see two each: together they are a burst. One of them tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_signatures_are_added_up_and_told_once() {
    for engine in ENGINES {
        let mut scene = Scene::on(engine).await;
        let target = told_at(&scene.receiver);
        let replica =
            TestApp::build().database_url(&scene.app.database_url).clock(&scene.clock).alert(&target).start().await;
        let (mut watch, mut alerts) = replica.watchers("two");
        scene.delivers("msg_before").await;
        scene.turns(2).await;
        scene.clock.advance(HOUR);
        for number in 0..2 {
            assert_eq!(scene.sent(&format!("msg_{number}"), OTHER, 0).await, 400);
            let body = user_created("user_1");
            let signed = Sender::new("", OTHER).sign_at(&format!("msg_r{number}"), body.as_bytes(), replica.now());
            assert_eq!(replica.post(&signed.headers(), body).await.status, 400);
        }
        scene.turn().await;
        assert!(!watch.step().await.unwrap() && !alerts.step().await.unwrap(), "the first has both leases");
        scene.until("signature-failures", &["raised"]).await;
        let told = scene.last("signature-failures");
        assert_eq!(told["alert"]["severity"], "critical");
        let detail = told["alert"]["detail"].as_str().unwrap();
        assert!(
            detail.starts_with("4 deliveries fitted no signing secret") && detail.contains("CLERK_WEBHOOK"),
            "{told}"
        );
        for _ in 0..3 {
            assert!(!alerts.step().await.unwrap());
        }
        // The secret is right again. The first replica goes, and the other tells what is left to tell.
        scene.delivers("msg_good").await;
        scene.watch.step().await.unwrap();
        for _ in 0..TURNS {
            scene.clock.advance(MINUTE);
            watch.step().await.unwrap();
            alerts.step().await.unwrap();
        }
        assert_eq!(scene.told("signature-failures"), ["raised", "resolved"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_wrong_is_told() {
    // Beside a database with a clock of its own.
    let mut scene = Scene::on(Engine::Postgres).await;
    scene.watch.step().await.unwrap();
    let calm = scene.app.admin_json("/admin/v1/findings").await;
    assert_eq!(calm["data"], json!([]), "it is right");
    scene.clock.advance(95 * SECOND);
    scene.turn().await;
    scene.until("clock-skew", &["raised"]).await;
    let told = scene.last("clock-skew");
    let detail = told["alert"]["detail"].as_str().unwrap();
    assert!(detail.contains("s ahead of the database's"), "{detail}");
    let wrong = scene.clock.now().0 - SystemClock.now().0;
    scene.clock.advance(-wrong);
    // It stands still, and is set again by each turn: what passes for the alerts is not this clock's time.
    let deadline = scene.clock.clone();
    for _ in 0..3 {
        scene.watch.step().await.unwrap();
        deadline.advance(SystemClock.now().0 - deadline.now().0);
    }
    let calm = scene.app.admin_json("/admin/v1/findings").await;
    assert!(calm["data"].as_array().unwrap().iter().all(|of| of["name"] != "clock-skew"), "{calm}");
    for _ in 0..8 {
        scene.alerts.step().await.unwrap();
        scene.clock.advance(MINUTE);
    }
    assert_eq!(scene.told("clock-skew").last().map(String::as_str), Some("resolved"));

    // Beside whoever signs: what arrives was signed long ago, by this clock.
    let mut scene = Scene::on(Engine::Sqlite).await;
    for number in 0..5 {
        assert_eq!(scene.sent(&format!("msg_{number}"), SECRET, -100).await, 200);
    }
    scene.until("clock-skew", &["raised"]).await;
    let detail = scene.last("clock-skew")["alert"]["detail"].as_str().unwrap().to_owned();
    assert_eq!(detail, "this clock is 100 s ahead of that of whoever signs deliveries");
    for number in 0..5 {
        assert_eq!(scene.sent(&format!("msg_right_{number}"), SECRET, 0).await, 200);
    }
    scene.until("clock-skew", &["raised", "resolved"]).await;

    // So far ahead that nothing is accepted any more.
    scene.turns(15).await;
    for number in 0..3 {
        assert_eq!(scene.sent(&format!("msg_old_{number}"), SECRET, -301).await, 400);
    }
    scene.until("clock-skew", &["raised", "resolved", "raised"]).await;
    assert_eq!(scene.last("clock-skew")["alert"]["severity"], "critical");
    assert_eq!(scene.sent("msg_at_last", SECRET, 0).await, 200);
    scene.until("clock-skew", &["raised", "resolved", "raised", "resolved"]).await;
}

/// Clerk's clock, as its answers show it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clerks_clock_is_looked_at() {
    let clerk = clerk().await;
    let builder = TestApp::build().clerk(&clerk).without_reconcile();
    let mut scene = Scene::of(builder, real_clock(), Receiver::start().await).await;
    scene.clock.advance(-10 * MINUTE);
    scene.app.sweep(Order::reconcile()).await;
    scene.watch.step().await.unwrap();
    let findings = scene.app.admin_json("/admin/v1/findings").await;
    let found = findings["data"].as_array().unwrap().iter().find(|of| of["name"] == "clock-skew").unwrap();
    let detail = found["detail"].as_str().unwrap();
    assert!(detail.ends_with("behind Clerk's") && found["severity"] == "critical", "{found}");
    let wrong = scene.clock.now().0 - SystemClock.now().0;
    scene.clock.advance(-wrong);
    scene.app.sweep(Order::reconcile()).await;
    scene.watch.step().await.unwrap();
    assert_eq!(scene.app.admin_json("/admin/v1/findings").await["data"], json!([]));
}

/// Svix tries for days, and each attempt fails: told after one day and again after three, across a restart, until one is
/// accepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_fails_for_days_is_told_before_it_is_disabled() {
    for engine in ENGINES {
        let mut scene = Scene::on(engine).await;
        let database = scene.app.database_url.clone();
        scene.delivers("msg_good").await;
        scene.turn().await;
        scene.clock.advance(HOUR);
        for attempt in 0..4 {
            assert_eq!(scene.sent(&format!("msg_a{attempt}"), OTHER, 0).await, 400);
            scene.turn().await;
            scene.clock.advance(5 * HOUR);
        }
        assert_eq!(scene.told("endpoint-failing"), [] as [&str; 0]);
        scene.clock.advance(4 * HOUR);
        scene.until("endpoint-failing", &["raised"]).await;
        let told = scene.last("endpoint-failing");
        assert_eq!(told["alert"]["severity"], "warning");
        assert!(told["alert"]["detail"].as_str().unwrap().contains("each of 4 attempts"), "{told}");

        // Another process; what was counted is there, and what was told is known.
        let (clock, receiver) = (scene.clock.clone(), scene.receiver);
        let again = TestApp::build().on(engine).database_url(&database);
        let mut next = Scene::of(again, clock, receiver).await;
        next.clock.advance(2 * DAY);
        next.turns(3).await;
        assert_eq!(next.last("endpoint-failing")["alert"]["severity"], "critical");
        assert_eq!(next.told("endpoint-failing"), ["raised", "raised"], "worse, and not a second alarm");
        assert_eq!(next.last("endpoint-failing")["alert"]["id"], told["alert"]["id"]);
        next.delivers("msg_mended").await;
        next.until("endpoint-failing", &["raised", "raised", "resolved"]).await;
    }
}

/// Nothing reaches us at all, and Clerk changes: the probe has found it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_never_reached_is_told() {
    let clerk = clerk().await;
    clerk.has_user("user_ada", "Ada");
    let mut scene = Scene::beside(&clerk).await;
    scene.app.sweep(Order::backfill()).await;
    let (mut probe, _) = scene.app.probe("probe");
    clerk.has_user_since("user_ada", "Augusta", scene.app.now() * 1000 - 10 * MINUTE);
    probe.step().await.unwrap();
    scene.clock.advance(23 * HOUR);
    scene.turns(3).await;
    assert_eq!(scene.told("undelivered"), ["raised"]);
    assert_eq!(scene.told("endpoint-failing"), [] as [&str; 0]);
    scene.clock.advance(HOUR);
    scene.until("endpoint-failing", &["raised"]).await;
    scene.delivers("msg_at_last").await;
    probe.step().await.unwrap();
    scene.until("endpoint-failing", &["raised", "resolved"]).await;
}

/// The receiver is away for an hour: told later, with one id, and once. Messages are signed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_was_away_is_told_later_and_once() {
    let receiver = Receiver::start().await;
    let signed = format!("name = 'ops'\nurl = '{}'\nsecret = '{OTHER}'", receiver.url());
    let clock = real_clock();
    let app = TestApp::build().clock(&clock).alert(&signed).start().await;
    let (watch, alerts) = app.watchers("one");
    let mut scene = Scene { clock, app, watch, alerts, receiver };
    scene.receiver.answers(503, Some(600));
    assert_eq!(scene.app.outcome("msg_1", "not JSON").await, "quarantined");
    scene.turns(11).await;
    let posts = scene.receiver.posts();
    assert_eq!(posts.len(), 1, "ten minutes of quiet were asked for");
    let overview = scene.app.admin_json("/admin/v1/alerts").await;
    assert_eq!(overview["targets"][0]["last_error"], "the service asked for quiet");
    assert_eq!(
        (&overview["targets"][0]["last_ok_at"], &overview["data"][0]["state"]),
        (&Value::Null, &json!("raised"))
    );
    scene.receiver.answers(500, None);
    scene.turns(50).await;
    let tries = scene.receiver.posts().len();
    assert!((4..=12).contains(&tries), "{tries} tries in an hour: ever longer pauses");
    scene.receiver.answers(204, None);
    scene.turns(30).await;
    assert_eq!(scene.told("failures"), ["raised"], "once");
    let ids: Vec<String> = scene.receiver.posts().iter().map(|post| post.header("webhook-id").to_owned()).collect();
    assert!(ids.iter().all(|id| *id == ids[0] && id.starts_with("msg_")), "{ids:?}");
    let overview = scene.app.admin_json("/admin/v1/alerts").await;
    assert!(overview["targets"][0]["last_error"].is_null() && overview["targets"][0]["last_ok_at"].is_string());
    // The reference library of Standard Webhooks takes it, whose own clock is the real one.
    let first = &posts[0];
    let webhook = Webhook::new(OTHER).unwrap();
    webhook.verify(&first.body, &first.headers).expect("a good signature");
    assert_eq!(first.json()["id"], first.header("webhook-id"));

    // It lasts, and is said again after a day, as another message of the same alert.
    scene.clock.advance(DAY);
    scene.turns(2).await;
    assert_eq!(scene.told("failures"), ["raised", "repeated"]);
    let taken = scene.receiver.taken();
    assert_ne!(taken[0].json()["id"], taken[1].json()["id"]);
    assert_eq!(taken[0].json()["alert"]["id"], taken[1].json()["alert"]["id"]);
}

/// The database is away: no finding can be written, and it is told all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_away_is_told() {
    let mut cluster = Postgres::start().await;
    let url = cluster.create_database("away").await;
    let builder = TestApp::build().database_url(&url);
    let mut scene = Scene::of(builder, real_clock(), Receiver::start().await).await;
    scene.alerts.step().await.unwrap();
    cluster.kill();
    let fails = async |scene: &mut Scene| {
        assert!(matches!(scene.alerts.step().await, Err(Error::Unavailable(_) | Error::Busy(_))));
    };
    fails(&mut scene).await;
    assert_eq!(scene.told("database-unavailable"), [] as [&str; 0], "a restart takes less");
    scene.clock.advance(AWAY_MS);
    fails(&mut scene).await;
    fails(&mut scene).await;
    assert_eq!(scene.told("database-unavailable"), ["raised"]);
    let told = scene.last("database-unavailable");
    assert_eq!(told["alert"]["severity"], "critical");
    assert!(!told.to_string().contains(&cluster.port().to_string()), "{told}");
    assert!(scene.app.get("/metrics").await.text().contains("faircopy_finding{name=\"database-unavailable\"} 1"));
    cluster.restart().await;
    scene.alerts.step().await.unwrap();
    assert_eq!(scene.told("database-unavailable"), ["raised", "resolved"]);
    assert!(scene.app.get("/metrics").await.text().contains("faircopy_finding{name=\"database-unavailable\"} 0"));
}

/// Each target hears what it wants to, in its own form; one that is broken holds nobody else up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_target_is_told_what_it_wants() {
    let (slack, loud) = (Receiver::start().await, Receiver::start().await);
    let clock = real_clock();
    let builder = TestApp::build()
        .clock(&clock)
        .alert("name = 'broken'\nurl = 'http://127.0.0.1:9/canary?key=canary'")
        .alert(&format!("name = 'slack'\nformat = 'slack'\nurl = '{}/services/canary'", slack.url()))
        .alert(&format!("name = 'loud'\nminimum = 'critical'\nurl = '{}'", loud.url()));
    let receiver = Receiver::start().await;
    let mut scene = Scene::of(builder, clock, receiver).await;
    assert_eq!(scene.app.outcome("msg_1", "not JSON").await, "quarantined");
    scene.until("failures", &["raised"]).await;
    let [post] = &slack.posts()[..] else { panic!("{:?}", slack.posts()) };
    let text = post.json()["text"].as_str().unwrap().to_owned();
    assert!(
        text.starts_with(":warning: *Faircopy: Deliveries are quarantined or sent back* (warning, `failures`)"),
        "{text}"
    );
    assert_eq!(loud.posts().len(), 0, "it is no more than a warning");

    let overview = scene.app.admin_json("/admin/v1/alerts").await;
    assert!(!overview.to_string().contains("canary"), "{overview}");
    let target = |at: usize, key: &str| overview["targets"][at][key].clone();
    assert_eq!(
        [target(0, "name"), target(1, "format"), target(2, "minimum")],
        [json!("broken"), json!("slack"), json!("critical")]
    );
    assert_eq!((target(0, "url"), target(0, "last_error")), (json!("127.0.0.1/…"), json!("no connection")));
    let alert = &overview["data"][0];
    assert_eq!(
        (&alert["name"], &alert["state"], &alert["help"]),
        (&json!("failures"), &json!("raised"), &json!("docs/errors.md#failures"))
    );
    let figures = scene.app.get("/metrics").await.text();
    for figure in [
        "faircopy_alerts_total{name=\"failures\",event=\"raised\"}",
        "faircopy_alert_posts_total{target=\"slack\",result=\"2xx\"}",
    ] {
        assert!(figures.contains(figure), "{figure}");
    }

    let tested = scene.app.admin("POST", "/admin/v1/alerts/loud/test").await.json().unwrap();
    assert_eq!((&tested["status"], &tested["error"]), (&json!(204), &Value::Null));
    let [post] = &loud.posts()[..] else { panic!("{:?}", loud.posts()) };
    assert_eq!((&post.json()["type"], &post.json()["id"]), (&json!("alert.test"), &tested["id"]));
    let tested = scene.app.admin("POST", "/admin/v1/alerts/broken/test").await.json().unwrap();
    assert_eq!((&tested["status"], &tested["error"]), (&Value::Null, &json!("no connection")));
    assert_problem(&scene.app.admin("POST", "/admin/v1/alerts/nobody/test").await, 404, "record-not-found");
}

/// What flickers is not told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finding_that_flickers_is_not_told() {
    let mut scene = Scene::on(Engine::Sqlite).await;
    for round in 0..3 {
        assert_eq!(scene.app.outcome(&format!("msg_{round}"), "not JSON").await, "quarantined");
        scene.turn().await;
        scene.clock.advance(-30 * SECOND);
        assert_eq!(scene.app.admin("POST", "/admin/v1/alerts/acknowledge").await.status, 200);
        scene.turns(3).await;
    }
    assert_eq!(scene.receiver.posts().len(), 0, "{:?}", scene.receiver.posts());
    assert_eq!(scene.app.admin_json("/admin/v1/alerts").await["data"], json!([]));
}

/// A time in a message is one that the service's own clock showed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn since_is_when_it_began() {
    let mut scene = Scene::of(TestApp::build(), manual_clock(), Receiver::start().await).await;
    let began = Millis(scene.app.now() * 1000);
    assert_eq!(scene.app.outcome("msg_1", "not JSON").await, "quarantined");
    scene.clock.advance(HOUR);
    scene.until("failures", &["raised"]).await;
    assert_eq!(scene.last("failures")["alert"]["since"], began.to_string());
}

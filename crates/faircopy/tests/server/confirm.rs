//! Provisional rows are confirmed by a read of Clerk, or taken back: with an API of the test's own that fails, lags, and is
//! somebody else's (faults.md C1 to C4).

use std::time::Duration;

use faircopy::app::ManualClock;
use faircopy_testkit::clerk::{Clerk, Mood};
use faircopy_testkit::postgres::fresh_database;
use faircopy_testkit::tables::Tables;
use serde_json::json;

use crate::app::{Engine, TestApp, eventually, manual_clock};
use crate::events::{INSTANCE, THEN, event, user};
use crate::mint::{self, KID};

const ENGINES: [Engine; 2] = [Engine::Sqlite, Engine::Postgres];
/// How long a test waits for the worker, whose own clock the test moves.
const SOON: Duration = Duration::from_secs(10);
/// The longest rest of the worker after failures.
const LONGEST_REST_MS: i64 = 300_000;

/// The Backend API of the instance whose session tokens the tests mint.
pub(crate) async fn clerk() -> Clerk {
    Clerk::start(INSTANCE, &mint::jwks(&[(KID, mint::instance())])).await
}

/// Waits until the key is known to belong to the instance.
pub(crate) async fn ready(app: &TestApp) {
    eventually("the key is checked", SOON, async || says(app).await == "ready").await;
}

async fn says(app: &TestApp) -> String {
    let state = app.get("/readyz").await;
    assert_eq!(state.status, 200, "the service is ready whatever Clerk says: {}", state.text());
    state.json().unwrap()["clerk"].as_str().unwrap().to_owned()
}

/// Somebody signs in, and the copy knows it from the token alone.
async fn signs_in(app: &TestApp, user: &str, organization: &str) -> String {
    let token = app.token(user, Some((organization, "admin")));
    let answer = app.bearer("POST", "/v1/session", &token).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    token
}

/// The provenances of the user, organization and membership; `None` for what is not there.
pub(crate) async fn provenances(app: &TestApp, user: &str, organization: &str) -> [Option<String>; 3] {
    let tables = app.tables().await;
    let member = tables.members.values().find(|row| row.clerk_org_id == organization && row.clerk_user_id == user);
    [
        tables.users.get(user).and_then(|row| row.provenance.clone()),
        tables.organizations.get(organization).and_then(|row| row.provenance.clone()),
        member.and_then(|row| row.provenance.clone()),
    ]
}

/// How many rows only a token speaks for.
fn provisional(tables: &Tables) -> usize {
    let of = |provenance: &Option<String>| usize::from(provenance.as_deref() == Some("token"));
    let users: usize = tables.users.values().map(|row| of(&row.provenance)).sum();
    let organizations: usize = tables.organizations.values().map(|row| of(&row.provenance)).sum();
    users + organizations + tables.members.values().map(|row| of(&row.provenance)).sum::<usize>()
}

fn all(provenance: &str) -> [Option<String>; 3] {
    [provenance; 3].map(|provenance| Some(provenance.to_owned()))
}

/// Looks until it holds, and lets a little time pass at each look: the worker gathers what comes within a second.
async fn soon<F: Future<Output = bool>>(what: &str, clock: &ManualClock, mut holds: impl FnMut() -> F) {
    let look = || {
        clock.advance(50);
        holds()
    };
    eventually(what, SOON, look).await;
}

/// Once no row is provisional, nothing is asked about any.
async fn asks_nothing_more(clerk: &Clerk, clock: &ManualClock) {
    let before = clerk.asked().len();
    clock.advance(60_000);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(clerk.asked()[before..], [] as [&str; 0]);
}

/// Moves the clock so far, and a little more at each look, until the worker has asked again: a turn that was under way when
/// the clock was moved rests from then on.
async fn asks_again(clerk: &Clerk, clock: &ManualClock, after_ms: i64) {
    let before = clerk.asked().len();
    clock.advance(after_ms);
    let look = async || {
        clock.advance(200);
        clerk.asked().len() > before
    };
    eventually("Clerk is asked", SOON, look).await;
}

/// A row that only a token knew becomes Clerk's within a second or two: names, ids, times, and the placeholder's real name.
#[tokio::test]
async fn what_a_token_said_is_confirmed() {
    for engine in ENGINES {
        let (clerk, clock) = (clerk().await, manual_clock());
        clerk.has_user("user_new", "Ada");
        clerk.has_organization("org_new", "The new one");
        clerk.joins("org_new", "user_new", "org:member");
        let app = TestApp::build().on(engine).sessions().clerk(&clerk).clock(&clock).start().await;
        ready(&app).await;
        let token = signs_in(&app, "user_new", "org_new").await;
        assert_eq!(provenances(&app, "user_new", "org_new").await, all("token"));
        clock.advance(1_000);
        let confirmed = async || provenances(&app, "user_new", "org_new").await == all("api");
        soon("the rows are confirmed", &clock, confirmed).await;
        let me = app.bearer_json("/v1/me", &token).await;
        assert_eq!((&me["name"], &me["email"]), (&json!("Ada Of-Clerk"), &json!("user_new@example.com")));
        assert_eq!(app.bearer_json("/v1/organization", &token).await["name"], "The new one");
        let members = app.bearer_json("/v1/organization/members", &token).await;
        assert_eq!(members["data"][0]["clerk_membership_id"], "orgmem_org_new_user_new");
        assert_eq!(members["data"][0]["role"], "org:member", "the role is Clerk's and not the token's");

        asks_nothing_more(&clerk, &clock).await;
    }
}

/// After a restart the rows are found in the database.
#[tokio::test]
async fn a_restart_forgets_nothing() {
    for engine in ENGINES {
        let (clerk, clock, database) = (clerk().await, manual_clock(), fresh_database().await);
        let folder = tempfile::tempdir().unwrap();
        let url = match engine {
            Engine::Sqlite => format!("sqlite://{}", folder.path().join("copy.db").display()),
            Engine::Postgres => database.url().to_owned(),
        };
        let app = TestApp::build().database_url(&url).sessions().clock(&clock).start().await;
        signs_in(&app, "user_new", "org_new").await;
        app.stop().await;
        clerk.has_user("user_new", "Ada");
        clerk.has_organization("org_new", "The new one");
        clerk.joins("org_new", "user_new", "org:member");
        let app = TestApp::build().database_url(&url).sessions().clerk(&clerk).clock(&clock).start().await;
        let confirmed = async || provenances(&app, "user_new", "org_new").await == all("api");
        soon("the rows are confirmed", &clock, confirmed).await;
        app.stop().await;
    }
}

/// Clerk says that the user is no member: the row goes, the token that spoke for it does not bring it back, a later one
/// does until Clerk is asked again; and there is no tombstone, so the real membership shows when it comes.
#[tokio::test]
async fn what_clerk_denies_is_taken_back() {
    for engine in ENGINES {
        let (clerk, clock) = (clerk().await, manual_clock());
        clerk.has_user("user_new", "Ada");
        clerk.has_organization("org_new", "The new one");
        let app = TestApp::build().on(engine).sessions().clerk(&clerk).clock(&clock).start().await;
        ready(&app).await;
        let token = signs_in(&app, "user_new", "org_new").await;
        clock.advance(1_000);
        let user_confirmed = async || provenances(&app, "user_new", "org_new").await[0].as_deref() == Some("api");
        soon("the user is confirmed", &clock, user_confirmed).await;
        // The token is seconds old, and Clerk's API may be behind it: nothing is taken back yet.
        assert_eq!(provenances(&app, "user_new", "org_new").await[2].as_deref(), Some("token"));
        clock.advance(25_000);
        let taken_back = async || provenances(&app, "user_new", "org_new").await[2].is_none();
        soon("the membership is taken back", &clock, taken_back).await;
        soon("the placeholder is confirmed", &clock, async || {
            provenances(&app, "user_new", "org_new").await[1].as_deref() == Some("api")
        })
        .await;
        assert_eq!(app.bearer("GET", "/v1/organization", &token).await.status, 404);
        assert!(provenances(&app, "user_new", "org_new").await[2].is_none(), "the same token brings nothing back");
        assert_eq!(app.bearer("GET", "/v1/me", &token).await.status, 200);

        clerk.joins("org_new", "user_new", "org:member");
        signs_in(&app, "user_new", "org_new").await;
        clock.advance(1_000);
        let confirmed = async || provenances(&app, "user_new", "org_new").await == all("api");
        soon("the membership is confirmed", &clock, confirmed).await;
    }
}

/// Clerk knows neither the user nor the organization: the rows go, without a tombstone.
#[tokio::test]
async fn what_clerk_does_not_know_goes() {
    for engine in ENGINES {
        let (clerk, clock) = (clerk().await, manual_clock());
        let app = TestApp::build().on(engine).sessions().clerk(&clerk).clock(&clock).start().await;
        ready(&app).await;
        signs_in(&app, "user_new", "org_new").await;
        clock.advance(30_000);
        let gone = async || provenances(&app, "user_new", "org_new").await == [None, None, None];
        soon("the rows are gone", &clock, gone).await;
        // They exist after all: Clerk's API was behind for long. The delivery shows them.
        let body = event("user.created", &user("user_new", THEN));
        assert_eq!(app.outcome("msg_late", body.to_string()).await, "applied");
        assert_eq!(provenances(&app, "user_new", "org_new").await[0].as_deref(), Some("webhook"));
    }
}

/// C2: whatever Clerk answers but a clear yes or no, nothing changes; once it answers, the rows are confirmed.
#[tokio::test]
async fn while_clerk_fails_nothing_changes() {
    let failures = [
        Mood::Status(500),
        Mood::Status(503),
        Mood::Status(401),
        Mood::Status(403),
        Mood::Status(422),
        Mood::Html,
        Mood::HtmlNotFound,
        Mood::CutOff,
        Mood::Redirect("http://127.0.0.1:9/v1/users".into()),
        Mood::Limited(None),
        Mood::Limited(Some(5)),
    ];
    let (clerk, clock) = (clerk().await, manual_clock());
    let app = TestApp::build().sessions().clerk(&clerk).clock(&clock).start().await;
    ready(&app).await;
    signs_in(&app, "user_new", "org_new").await;
    clerk.is(Mood::Status(500));
    for mood in failures {
        clerk.is(mood.clone());
        asks_again(&clerk, &clock, LONGEST_REST_MS + 1).await;
        asks_again(&clerk, &clock, LONGEST_REST_MS + 1).await;
        assert_eq!(provenances(&app, "user_new", "org_new").await, all("token"), "{mood:?}");
    }
    clerk.has_user("user_new", "Ada");
    clerk.has_organization("org_new", "The new one");
    clerk.joins("org_new", "user_new", "org:member");
    clerk.is(Mood::Fine);
    clock.advance(LONGEST_REST_MS + 1);
    let confirmed = async || provenances(&app, "user_new", "org_new").await == all("api");
    soon("the rows are confirmed", &clock, confirmed).await;
}

/// Only the reads about rows fail: that the key is good is known.
#[tokio::test]
async fn failures_after_the_key_was_checked_change_nothing() {
    for mood in [Mood::Status(500), Mood::HtmlNotFound, Mood::CutOff, Mood::Limited(Some(3)), Mood::Unfiltered] {
        let (clerk, clock) = (clerk().await, manual_clock());
        // Somebody else is there, for whoever does not read the filter.
        clerk.has_user("user_other", "Bob");
        clerk.has_organization("org_new", "The new one");
        clerk.joins("org_new", "user_other", "org:member");
        let app = TestApp::build().sessions().clerk(&clerk).clock(&clock).start().await;
        ready(&app).await;
        clerk.is(mood.clone());
        signs_in(&app, "user_new", "org_new").await;
        asks_again(&clerk, &clock, 30_000).await;
        asks_again(&clerk, &clock, 60_000).await;
        assert_eq!(provenances(&app, "user_new", "org_new").await[2].as_deref(), Some("token"), "{mood:?}");
    }
}

/// C3: the key of another instance, from the start or from one day on: nothing is taken back, nothing is read, and it is
/// said.
#[tokio::test]
async fn the_key_of_another_instance_takes_nothing_back() {
    for engine in ENGINES {
        let (wrong, clock) =
            (Clerk::start("ins_other", &mint::jwks(&[("ins_other", mint::other())])).await, manual_clock());
        let app = TestApp::build().on(engine).sessions().clerk(&wrong).clock(&clock).start().await;
        eventually("the key is refused", SOON, async || says(&app).await == "wrong instance").await;
        signs_in(&app, "user_new", "org_new").await;
        asks_again(&wrong, &clock, LONGEST_REST_MS + 1).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(provenances(&app, "user_new", "org_new").await, all("token"));
        assert!(wrong.asked().iter().all(|path| path == "/v1/jwks" || path == "/v1/instance"), "{:?}", wrong.asked());
        let metrics = app.get("/metrics").await.text();
        assert!(metrics.contains("faircopy_clerk_wrong_instance 1"), "{metrics}");

        let (clerk, clock) = (clerk().await, manual_clock());
        let app = TestApp::build().on(engine).sessions().clerk(&clerk).clock(&clock).start().await;
        ready(&app).await;
        clerk.becomes("ins_other", &mint::jwks(&[("ins_other", mint::other())]));
        signs_in(&app, "user_new", "org_new").await;
        asks_again(&clerk, &clock, 30_000).await;
        eventually("the key is refused", SOON, async || says(&app).await == "wrong instance").await;
        assert_eq!(provenances(&app, "user_new", "org_new").await, all("token"));
    }
}

/// The configured instance is compared too, and a key of the right name with other keys is still a wrong one.
#[tokio::test]
async fn a_key_must_fit_all_that_is_known_of_the_instance() {
    let check = async |configured: Option<&str>, instance: &str, key: &'static mint::RsaKeyPair, expected: &str| {
        let clerk = Clerk::start(instance, &mint::jwks(&[(instance, key)])).await;
        let mut builder = TestApp::build().sessions().clerk(&clerk);
        if let Some(configured) = configured {
            builder = builder.instance(configured);
        }
        let app = builder.start().await;
        eventually("the key is checked", SOON, async || says(&app).await != "not asked yet").await;
        assert_eq!(says(&app).await, expected, "{configured:?} {instance}");
    };
    check(None, INSTANCE, mint::instance(), "ready").await;
    check(Some(INSTANCE), INSTANCE, mint::instance(), "ready").await;
    check(Some("ins_ours"), INSTANCE, mint::instance(), "wrong instance").await;
    check(None, INSTANCE, mint::other(), "wrong instance").await;
    check(Some(INSTANCE), INSTANCE, mint::other(), "wrong instance").await;
}

/// A stand-in for the API may not tell whose key it takes: what it finds is believed, and what it does not find once it has
/// found something of ours.
#[tokio::test]
async fn an_api_that_does_not_tell_whose_key_it_takes() {
    for engine in ENGINES {
        let (clerk, clock) = (Clerk::start("", "").await, manual_clock());
        let app = TestApp::build().on(engine).sessions().clerk(&clerk).clock(&clock).start().await;
        eventually("the key is checked", SOON, async || says(&app).await == "unproven").await;
        signs_in(&app, "user_new", "org_new").await;
        asks_again(&clerk, &clock, 30_000).await;
        asks_again(&clerk, &clock, LONGEST_REST_MS).await;
        assert_eq!(provenances(&app, "user_new", "org_new").await, all("token"), "nothing of ours was found");

        clerk.has_user("user_new", "Ada");
        clock.advance(LONGEST_REST_MS);
        let settled = async || {
            let [user, organization, member] = provenances(&app, "user_new", "org_new").await;
            user.as_deref() == Some("api") && organization.is_none() && member.is_none()
        };
        soon("the user is confirmed, the rest is taken back", &clock, settled).await;
    }
}

/// The issuer's keys come over the network too, and may come later.
#[tokio::test]
async fn the_key_is_compared_with_the_issuers_once_those_are_there() {
    let (clerk, clock) = (clerk().await, manual_clock());
    let issuer = mint::Issuer::start(mint::Answer::Status(500, String::new())).await;
    let app = TestApp::build().issuer(&issuer.url).clerk(&clerk).clock(&clock).start().await;
    eventually("the issuer is asked", SOON, async || issuer.asked() > 0).await;
    clock.advance(2_000);
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!((says(&app).await.as_str(), clerk.asked().len()), ("not asked yet", 0));
    issuer.answers(mint::Answer::Status(200, mint::jwks(&[(KID, mint::instance())])));
    soon("the key is checked", &clock, async || says(&app).await == "ready").await;
}

/// The instance is learned from the key: deliveries of another are recorded and ignored from then on.
#[tokio::test]
async fn the_instance_is_learned_from_the_key() {
    let clerk = clerk().await;
    let app = TestApp::build().clerk(&clerk).start().await;
    ready(&app).await;
    let mut foreign = event("user.created", &user("user_foreign", THEN));
    foreign["instance_id"] = "ins_another".into();
    assert_eq!(app.outcome("msg_foreign", foreign.to_string()).await, "ignored");
    assert_eq!(app.outcome("msg_ours", event("user.created", &user("user_ours", THEN)).to_string()).await, "applied");
    let without = TestApp::start().await;
    assert_eq!(without.outcome("msg_foreign", foreign.to_string()).await, "applied", "unchecked without a key");
    assert_eq!(says(&without).await, "not configured");
}

/// C1: quiet is kept for as long as Clerk asks, by everything in the process.
#[tokio::test]
async fn quiet_is_kept() {
    let (clerk, clock) = (clerk().await, manual_clock());
    clerk.has_user("user_new", "Ada");
    let app = TestApp::build().sessions().clerk(&clerk).clock(&clock).start().await;
    ready(&app).await;
    clerk.next([Mood::Limited(Some(120))]);
    signs_in(&app, "user_new", "org_new").await;
    asks_again(&clerk, &clock, 1_000).await;
    let refused = clerk.asked().len();
    for _ in 0..8 {
        clock.advance(14_000);
        signs_in(&app, "user_other", "org_other").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(clerk.asked().len(), refused, "{:?}", clerk.asked());
    }
    clock.advance(10_000);
    let confirmed = async || provenances(&app, "user_new", "org_new").await[0].as_deref() == Some("api");
    soon("the user is confirmed", &clock, confirmed).await;
}

/// Whatever comes first, a webhook or the read, and however old what Clerk answers is: the rows end as they should.
#[tokio::test]
async fn a_webhook_and_a_read_may_race() {
    for engine in ENGINES {
        let (clerk, clock) = (clerk().await, manual_clock());
        clerk.has_user("user_new", "Ada");
        clerk.has_organization("org_new", "The new one");
        clerk.joins("org_new", "user_new", "org:member");
        let app = TestApp::build().on(engine).sessions().clerk(&clerk).clock(&clock).start().await;
        ready(&app).await;
        // The member has left, and the delivery comes before the read, which answers from the past.
        let membership = json!({
            "object": "organization_membership", "id": "orgmem_org_new_user_new", "role": "org:member",
            "organization": { "id": "org_new" }, "public_user_data": { "user_id": "user_new" },
            "created_at": THEN, "updated_at": THEN,
        });
        signs_in(&app, "user_new", "org_new").await;
        let mut left = event("organizationMembership.deleted", &membership);
        left["timestamp"] = (app.now() * 1000 + 500).into();
        assert_eq!(app.outcome("msg_left", left.to_string()).await, "applied");
        assert!(provenances(&app, "user_new", "org_new").await[2].is_none());
        clock.advance(1_000);
        let read = async || provenances(&app, "user_new", "org_new").await[0].as_deref() == Some("api");
        soon("the user is read", &clock, read).await;
        assert!(provenances(&app, "user_new", "org_new").await[2].is_none(), "a deletion is never undone");

        // Somebody joins, and Clerk's API does not know of it for long: the row goes, and the delivery shows it again.
        clerk.has_user("user_late", "Bob");
        clerk.falls_behind();
        signs_in(&app, "user_late", "org_new").await;
        clock.advance(25_000);
        let taken_back = async || provenances(&app, "user_late", "org_new").await[2].is_none();
        soon("the membership is taken back", &clock, taken_back).await;
        let mut joined = membership.clone();
        joined["id"] = "orgmem_late".into();
        joined["public_user_data"]["user_id"] = "user_late".into();
        let body = event("organizationMembership.created", &joined).to_string();
        assert_eq!(app.outcome("msg_joined", body).await, "applied");
        assert_eq!(provenances(&app, "user_late", "org_new").await[2].as_deref(), Some("webhook"));
        asks_nothing_more(&clerk, &clock).await;
        assert_eq!(provenances(&app, "user_late", "org_new").await[2].as_deref(), Some("webhook"));
    }
}

/// Several replicas do not do the work several times over; where two meet, it does no harm.
#[tokio::test]
async fn replicas_share_the_work() {
    let (clerk, clock, database) = (clerk().await, manual_clock(), fresh_database().await);
    clerk.has_organization("org_new", "The new one");
    let replica = || TestApp::build().database_url(database.url()).sessions().clerk(&clerk).clock(&clock).start();
    let replicas = [replica().await, replica().await, replica().await];
    for app in &replicas {
        ready(app).await;
    }
    let users: Vec<String> = (0..30).map(|number| format!("user_{number}")).collect();
    for user in &users {
        clerk.has_user(user, "Ada");
        clerk.joins("org_new", user, "org:member");
        signs_in(&replicas[0], user, "org_new").await;
    }
    let before = clerk.asked().len();
    clock.advance(1_000);
    soon("all are confirmed", &clock, async || provisional(&replicas[0].tables().await) == 0).await;
    clock.advance(60_000);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let asked = clerk.asked().len() - before;
    // One list of users and one of members; and once more where replicas met.
    assert!(asked <= 2 * replicas.len(), "{asked} requests: {:?}", clerk.asked());
    assert_eq!(provisional(&replicas[1].tables().await), 0);
}

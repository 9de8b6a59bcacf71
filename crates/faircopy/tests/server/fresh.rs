//! Reads no staler than asked: with a key of Clerk's Backend API, what a route shows is read from Clerk first.

use std::time::Duration;

use faircopy::sweep::Order;
use faircopy_testkit::clerk::{Clerk, Mood};
use faircopy_testkit::client::Response;
use serde_json::json;

use crate::app::{Engine, TestApp, assert_problem, eventually, manual_clock};
use crate::confirm::{clerk, provenances, ready};
use crate::events::{THEN, event, user};

const ENGINES: [Engine; 2] = [Engine::Sqlite, Engine::Postgres];
const ROUTES: [&str; 6] = [
    "/v1/me",
    "/v1/me/organizations",
    "/v1/organization",
    "/v1/organization/members",
    "/v1/workspace",
    "/v1/users/user_bob",
];

/// A request that bears this much staleness, in seconds.
async fn no_staler(app: &TestApp, path: &str, token: &str, seconds: u32) -> Response {
    let (bearer, seconds) = (format!("Bearer {token}"), seconds.to_string());
    let headers = [("authorization", bearer.as_str()), ("faircopy-max-staleness", seconds.as_str())];
    let method = if path == "/v1/session" { "POST" } else { "GET" };
    app.request(method, path, &headers, "").await
}

/// An instance with an organization of two members.
async fn two_members() -> Clerk {
    let clerk = clerk().await;
    clerk.has_user("user_ada", "Ada");
    clerk.has_user("user_bob", "Bob");
    clerk.has_organization("org_a", "The first");
    clerk.joins("org_a", "user_ada", "org:admin");
    clerk.joins("org_a", "user_bob", "org:member");
    clerk
}

fn as_of(response: &Response) -> &str {
    response.header("faircopy-as-of").expect("a time")
}

/// Nothing was ever delivered: each route reads what it shows, answers from the copy, and says since when it holds.
#[tokio::test]
async fn what_a_route_shows_is_read() {
    for engine in ENGINES {
        for path in ROUTES {
            let (clerk, clock) = (two_members().await, manual_clock());
            let app = TestApp::build().on(engine).sessions().clerk(&clerk).clock(&clock).start().await;
            ready(&app).await;
            let token = app.token("user_ada", Some(("org_a", "admin")));
            let answer = no_staler(&app, path, &token, 0).await;
            assert_eq!(answer.status, 200, "{path}: {}", answer.text());
            assert_eq!(as_of(&answer), "2025-10-09T08:53:20.000Z", "{path}");
            let body = answer.json().unwrap();
            let shown = match path {
                "/v1/me" => body["name"] == "Ada Of-Clerk" && body["provenance"] == "api",
                "/v1/me/organizations" => {
                    body["data"][0]["name"] == "The first" && body["data"][0]["role"] == "org:admin"
                }
                "/v1/organization" | "/v1/workspace" => body["name"] == "The first",
                "/v1/organization/members" => {
                    body["data"][0]["email"] == "user_ada@example.com" && body["data"][1]["name"] == "Bob Of-Clerk"
                }
                _ => body["name"] == "Bob Of-Clerk",
            };
            assert!(shown, "{path}: {body}");
            // The rest of the copy is no fresher.
            let plain = app.bearer("GET", path, &token).await;
            assert_eq!(as_of(&plain), "1970-01-01T00:00:00.000Z", "{path}");
            assert_eq!(plain.header("faircopy-sequence"), answer.header("faircopy-sequence"), "{path}");
        }
    }
}

/// A change whose delivery is lost is seen by whoever asks for no more staleness than that.
#[tokio::test]
async fn a_lost_change_is_read() {
    for engine in ENGINES {
        let (clerk, clock) = (two_members().await, manual_clock());
        let app = TestApp::build().on(engine).sessions().clerk(&clerk).clock(&clock).start().await;
        ready(&app).await;
        app.outcome("msg_1", event("user.created", &user("user_ada", THEN)).to_string()).await;
        let token = app.token("user_ada", None);
        // Fresh enough: the newest delivery has just come.
        let asked = clerk.count("/v1/users");
        assert_eq!(no_staler(&app, "/v1/me", &token, 60).await.json().unwrap()["name"], "Ada Lovelace");
        assert_eq!(clerk.count("/v1/users"), asked);
        clerk.has_user("user_ada", "Augusta");
        clock.advance(61_000);
        let token = app.token("user_ada", None);
        assert_eq!(app.bearer_json("/v1/me", &token).await["name"], "Ada Lovelace");
        let answer = no_staler(&app, "/v1/me", &token, 60).await;
        assert_eq!(answer.json().unwrap()["name"], "Augusta Of-Clerk");
        assert_eq!(as_of(&answer), "2025-10-09T08:54:21.000Z");
        let answer = app.bearer("POST", "/v1/session", &token).await;
        assert_eq!(answer.json().unwrap()["identity"]["name"], "Augusta Of-Clerk");
    }
}

fn basis(response: &Response) -> &str {
    response.header("faircopy-as-of-basis").expect("what the time is known from")
}

/// What may be claimed, and from what it is known: nothing, deliveries, a reconcile that left nothing, a read of Clerk.
#[tokio::test]
async fn each_answer_says_what_its_freshness_is_known_from() {
    for engine in ENGINES {
        let (clerk, clock) = (two_members().await, manual_clock());
        let app = TestApp::build().on(engine).sessions().clerk(&clerk).without_reconcile().clock(&clock).start().await;
        ready(&app).await;
        let ask = async |seconds: Option<u32>| {
            let token = app.token("user_ada", None);
            let answer = match seconds {
                None => app.bearer("GET", "/v1/me", &token).await,
                Some(seconds) => no_staler(&app, "/v1/me", &token, seconds).await,
            };
            assert_eq!(answer.status, 200, "{}", answer.text());
            (as_of(&answer).to_owned(), basis(&answer).to_owned())
        };
        let claim = |as_of: &str, basis: &str| (as_of.to_owned(), basis.to_owned());
        assert_eq!(ask(None).await, claim("1970-01-01T00:00:00.000Z", "none"));
        app.outcome("msg_1", event("user.created", &user("user_ada", THEN)).to_string()).await;
        assert_eq!(ask(None).await, claim("2025-10-09T08:53:20.000Z", "delivered"));
        clock.advance(60_000);
        app.sweep(Order::backfill()).await;
        assert_eq!(ask(None).await, claim("2025-10-09T08:53:20.000Z", "delivered"), "a backfill proves nothing");
        assert_eq!(ask(Some(10)).await, claim("2025-10-09T08:54:20.000Z", "read"));

        clock.advance(120_000);
        app.sweep(Order::reconcile()).await;
        // Since it began, less what Clerk's lists may be behind.
        let proven = claim("2025-10-09T08:56:00.000Z", "reconciled");
        assert_eq!(ask(None).await, proven);
        clock.advance(10_000);
        app.outcome("msg_2", event("user.created", &user("user_bob", THEN)).to_string()).await;
        assert_eq!(ask(None).await, proven, "a delivery proves no more");
        let asked = clerk.count("/v1/users/");
        assert_eq!(ask(Some(30)).await, proven, "it is fresh enough");
        assert_eq!(clerk.count("/v1/users/"), asked);
        assert_eq!(ask(Some(29)).await, claim("2025-10-09T08:56:30.000Z", "read"));
        let forwarded = app.bearer("GET", "/v1/auth", &app.token("user_ada", None)).await;
        assert_eq!((as_of(&forwarded), basis(&forwarded)), ("2025-10-09T08:56:00.000Z", "reconciled"));
    }
}

/// While something is known to be missing and nothing is proven, deliveries carry the time no further than that.
#[tokio::test]
async fn what_is_known_to_be_missing_holds_the_time_back() {
    let (clerk, clock) = (two_members().await, manual_clock());
    let app = TestApp::build().sessions().clerk(&clerk).without_reconcile().clock(&clock).start().await;
    ready(&app).await;
    app.outcome("msg_1", event("user.created", &user("user_ada", THEN)).to_string()).await;
    clock.advance(60_000);
    clerk.has_user_since("user_bob", "Robert", app.now() * 1000);
    clock.advance(180_000);
    app.outcome("msg_2", event("user.created", &user("user_cyd", THEN)).to_string()).await;
    let ask = async || app.bearer("GET", "/v1/me", &app.token("user_ada", None)).await;
    assert_eq!(as_of(&ask().await), "2025-10-09T08:57:20.000Z");
    let (mut probe, _) = app.probe("one");
    assert!(probe.step().await.unwrap());
    let answer = ask().await;
    assert_eq!((as_of(&answer), basis(&answer)), ("2025-10-09T08:54:20.000Z", "delivered"));
}

/// A reading serves whoever asks for nothing fresher, in flight and afterwards.
#[tokio::test]
async fn equal_readings_are_one() {
    let (clerk, clock) = (two_members().await, manual_clock());
    let app = TestApp::build().sessions().clerk(&clerk).clock(&clock).start().await;
    ready(&app).await;
    let token = app.token("user_ada", Some(("org_a", "admin")));
    assert_eq!(app.bearer("POST", "/v1/session", &token).await.status, 200);
    let asked = || clerk.count("/v1/users/user_ada");
    clerk.is(Mood::Late(Duration::from_millis(300)));
    let ask = || no_staler(&app, "/v1/me", &token, 10);
    let answers = tokio::join!(ask(), ask(), ask(), ask(), ask());
    for answer in [answers.0, answers.1, answers.2, answers.3, answers.4] {
        assert_eq!((answer.status, as_of(&answer)), (200, "2025-10-09T08:53:20.000Z"));
    }
    assert_eq!(asked(), 1);
    clerk.is(Mood::Fine);
    clock.advance(10_000);
    let answer = ask().await;
    assert_eq!((answer.status, as_of(&answer), asked()), (200, "2025-10-09T08:53:20.000Z", 1));
    clock.advance(1);
    let answer = ask().await;
    assert_eq!((answer.status, as_of(&answer), asked()), (200, "2025-10-09T08:53:30.001Z", 2));
}

/// Whoever hangs up takes nothing along that others wait for, and leaves nothing behind that they would wait for in vain.
#[tokio::test]
async fn a_caller_who_hangs_up_harms_nobody() {
    let (clerk, clock) = (two_members().await, manual_clock());
    let app = TestApp::build().sessions().clerk(&clerk).clock(&clock).start().await;
    ready(&app).await;
    let token = app.token("user_ada", None);
    clerk.is(Mood::Silent);
    let hung_up = tokio::time::timeout(Duration::from_millis(200), no_staler(&app, "/v1/me", &token, 60)).await;
    assert!(hung_up.is_err(), "Clerk says nothing");
    clerk.is(Mood::Fine);
    eventually("the next one is answered", Duration::from_secs(3), async || {
        no_staler(&app, "/v1/me", &token, 60).await.status == 200
    })
    .await;
}

/// Without an answer of Clerk's there is none, in bounded time, and nothing has changed.
#[tokio::test]
async fn without_clerk_the_copy_is_stale() {
    for mood in Mood::without_an_answer() {
        let (clerk, clock) = (two_members().await, manual_clock());
        let app = TestApp::build().sessions().clerk(&clerk).clock(&clock).start().await;
        ready(&app).await;
        app.outcome("msg_1", event("user.created", &user("user_ada", THEN)).to_string()).await;
        clock.advance(61_000);
        let token = app.token("user_ada", None);
        clerk.is(mood.clone());
        let start = std::time::Instant::now();
        assert_problem(&no_staler(&app, "/v1/me", &token, 60).await, 503, "copy-stale");
        assert!(start.elapsed() < Duration::from_secs(7), "{mood:?}: {:?}", start.elapsed());
        assert_eq!(app.bearer_json("/v1/me", &token).await["name"], "Ada Lovelace", "{mood:?}");
        // Once Clerk answers, so does the copy; quiet is kept until it is over.
        clerk.is(Mood::Fine);
        clock.advance(30_000);
        let token = app.token("user_ada", None);
        let answer = no_staler(&app, "/v1/me", &token, 60).await;
        assert_eq!(answer.status, 200, "{mood:?}: {}", answer.text());
    }
}

/// Clerk no longer has a member, and the deletion has not arrived. One read takes no full row away, so the copy does not
/// claim to be fresh; a provisional row goes, and the answer is that of nobody.
#[tokio::test]
async fn what_clerk_denies_is_not_answered_as_fresh() {
    for engine in ENGINES {
        let (clerk, clock) = (two_members().await, manual_clock());
        let app = TestApp::build().on(engine).sessions().clerk(&clerk).clock(&clock).start().await;
        ready(&app).await;
        let token = || app.token("user_bob", Some(("org_a", "member")));
        for path in ["/v1/organization", "/v1/me"] {
            assert_eq!(no_staler(&app, path, &token(), 0).await.status, 200);
        }
        clerk.leaves("org_a", "user_bob");
        for path in ["/v1/organization", "/v1/workspace", "/v1/organization/members", "/v1/me/organizations"] {
            clock.advance(5_000);
            assert_problem(&no_staler(&app, path, &token(), 0).await, 503, "copy-stale");
        }
        clerk.deletes_user("user_bob");
        assert_problem(&no_staler(&app, "/v1/me", &token(), 0).await, 503, "copy-stale");
        assert_eq!(provenances(&app, "user_bob", "org_a").await, [(); 3].map(|()| Some("api".to_owned())));
        let gone = event("user.deleted", &json!({ "id": "user_bob", "object": "user", "deleted": true }));
        assert_eq!(app.outcome("msg_gone", gone.to_string()).await, "applied");
        assert_problem(&no_staler(&app, "/v1/me", &token(), 0).await, 401, "user-deleted");

        // Known from a token alone, which is older than Clerk's answer can be behind.
        clock.advance(20_000);
        let token = app.token("user_eve", Some(("org_a", "admin")));
        clerk.has_user("user_eve", "Eve");
        assert_eq!(app.bearer("GET", "/v1/organization", &token).await.status, 200);
        assert_problem(&no_staler(&app, "/v1/organization", &token, 0).await, 503, "copy-stale");
        clock.advance(20_001);
        let denied = no_staler(&app, "/v1/organization", &token, 0).await;
        assert_problem(&denied, 404, "record-not-found");
    }
}

/// The key of another instance reads nothing, and so makes nothing fresh.
#[tokio::test]
async fn the_key_of_another_instance_makes_nothing_fresh() {
    let wrong = Clerk::start("ins_other", &crate::mint::jwks(&[("ins_other", crate::mint::other())])).await;
    wrong.has_user("user_ada", "Somebody else");
    let app = TestApp::build().sessions().clerk(&wrong).clock(&manual_clock()).start().await;
    let token = app.token("user_ada", None);
    let problem = assert_problem(&no_staler(&app, "/v1/me", &token, 0).await, 503, "copy-stale");
    assert!(problem["detail"].as_str().unwrap().contains("another instance"), "{problem}");
    assert_eq!(wrong.count("/v1/users"), 0);
}

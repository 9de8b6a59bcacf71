//! The issuer's keys under fire: faults.md J1 to J5, with an issuer of the test's own.

use std::time::Duration;

use crate::app::{Engine, TestApp, assert_problem, eventually, manual_clock};
use crate::events::user_created;
use faircopy_world::token::jwks;

use crate::mint::{Answer, Issuer, KID, instance, other};

/// The kid of the key that comes next.
const NEXT: &str = "ins_neXt";

async fn ready(app: &TestApp) {
    let ready = async || app.get("/readyz").await.json().unwrap()["sessions"] == "ready";
    eventually("keys", Duration::from_secs(10), ready).await;
}

/// J1: the issuer is away at the start. Deliveries are taken; once it is back, so are tokens.
#[tokio::test]
async fn without_keys_deliveries_go_on() {
    let issuer = Issuer::start(Answer::Status(500, String::new())).await;
    let clock = manual_clock();
    let app = TestApp::build().issuer(&issuer.url).clock(&clock).start().await;
    let token = issuer.token("user_1", KID, instance(), app.now());
    assert_problem(&app.bearer("GET", "/v1/auth", &token).await, 503, "jwk-remote-failed-to-load");
    let state = app.get("/readyz").await;
    assert_eq!((state.status, &state.json().unwrap()["sessions"]), (200, &"no keys".into()));
    assert_eq!(app.outcome("msg_1", user_created("user_1")).await, "applied");
    issuer.answers(Answer::Status(200, jwks(&[(KID, instance())])));
    clock.advance(5_001);
    assert_eq!(app.bearer("GET", "/v1/auth", &token).await.status, 200);
    ready(&app).await;
}

/// J2: an hour without the issuer. The keys at hand go on; after a day they do not.
#[tokio::test]
async fn keys_at_hand_outlive_an_outage() {
    let issuer = Issuer::with(&[(KID, instance())]).await;
    let clock = manual_clock();
    let app = TestApp::build().issuer(&issuer.url).clock(&clock).start().await;
    ready(&app).await;
    issuer.answers(Answer::Status(500, String::new()));
    for (hours, expected) in [(1, 200), (22, 200), (2, 503)] {
        clock.advance(hours * 3_600_000);
        let token = issuer.token("user_1", KID, instance(), app.now());
        assert_eq!(app.bearer("GET", "/v1/auth", &token).await.status, expected, "{hours}");
    }
    let metrics = app.get("/metrics").await.text();
    assert!(metrics.contains("faircopy_session_keys_age_seconds"), "{metrics}");
    assert!(metrics.contains("faircopy_session_keys_fetches_total{result=\"status\"}"), "{metrics}");
}

/// J3: the key changes. The first token of the new one costs one fetch; the old one is good for its grace only.
#[tokio::test]
async fn a_new_key_is_found_with_one_fetch() {
    let issuer = Issuer::with(&[(KID, instance())]).await;
    let clock = manual_clock();
    let app = TestApp::build().issuer(&issuer.url).clock(&clock).start().await;
    ready(&app).await;
    issuer.answers(Answer::Status(200, jwks(&[(NEXT, other())])));
    clock.advance(31_000);
    let before = issuer.asked();
    let new = issuer.token("user_1", NEXT, other(), app.now());
    let answers = futures_util::future::join_all((0..20).map(|_| app.bearer("GET", "/v1/auth", &new))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(issuer.asked(), before + 1, "one fetch for all");
    let old = |now| issuer.token("user_1", KID, instance(), now);
    assert_eq!(app.bearer("GET", "/v1/auth", &old(app.now())).await.status, 200);
    clock.advance(66_000);
    assert_problem(&app.bearer("GET", "/v1/auth", &old(app.now())).await, 401, "jwk-kid-mismatch");
}

/// J4: a storm of made-up key names costs at most one fetch each 30 seconds, and holds no good token up.
#[tokio::test]
async fn unknown_names_cost_one_fetch() {
    let issuer = Issuer::with(&[(KID, instance())]).await;
    let clock = manual_clock();
    let app = TestApp::build().issuer(&issuer.url).clock(&clock).start().await;
    ready(&app).await;
    clock.advance(31_000);
    let before = issuer.asked();
    issuer.answers(Answer::Silence);
    let good = issuer.token("user_1", KID, instance(), app.now());
    let storm = async {
        let token = |number| issuer.token("user_1", &format!("ins_{number}"), other(), app.now());
        let tokens: Vec<String> = (0..40).map(token).collect();
        futures_util::future::join_all(tokens.iter().map(|token| app.bearer("GET", "/v1/me", token))).await
    };
    let goods = async {
        for _ in 0..20 {
            let answer = tokio::time::timeout(Duration::from_secs(3), app.bearer("GET", "/v1/auth", &good)).await;
            assert_eq!(answer.expect("nobody waits whose key is there").status, 200);
        }
    };
    let (answers, ()) = tokio::join!(storm, goods);
    for answer in answers {
        assert_problem(&answer, 401, "jwk-kid-mismatch");
    }
    assert_eq!(issuer.asked(), before + 1);
    // What can be nobody's name is not asked for at all.
    for kid in ["../../etc/passwd", "' OR 1=1 --", "\u{0}", &"x".repeat(2000)] {
        let token = issuer.token("user_1", kid, other(), app.now());
        assert_problem(&app.bearer("GET", "/v1/auth", &token).await, 401, "jwk-kid-mismatch");
    }
    assert_eq!(issuer.asked(), before + 1);
}

/// J5: whatever the issuer's place answers instead of keys, those at hand stay.
#[tokio::test]
async fn poisoned_answers_change_nothing() {
    let issuer = Issuer::with(&[(KID, instance())]).await;
    let clock = manual_clock();
    let app = TestApp::build().issuer(&issuer.url).clock(&clock).start().await;
    ready(&app).await;
    let conflict = {
        let twice = jwks(&[(KID, instance()), (KID, other())]);
        Answer::Status(200, twice)
    };
    let poison = [
        Answer::Status(200, "<html>hello</html>".into()),
        Answer::Status(200, format!("{{\"keys\":[],\"padding\":\"{}\"}}", "x".repeat(8 * 1024 * 1024))),
        Answer::Status(200, r#"{"keys":[]}"#.into()),
        Answer::Status(200, r#"{"keys":[{"kty":"oct","kid":"ins_x","k":"AAAA"}]}"#.into()),
        Answer::Status(200, r#"{"keys":[{"kty":"RSA","kid":"ins_x","n":"AQAB","e":"AQAB"}]}"#.into()),
        Answer::Status(302, String::new()),
        conflict,
    ];
    for answer in poison {
        issuer.answers(answer);
        clock.advance(300_001);
        let asked = issuer.asked();
        eventually("another fetch", Duration::from_secs(10), async || issuer.asked() > asked).await;
        let token = issuer.token("user_1", KID, instance(), app.now());
        assert_eq!(app.bearer("GET", "/v1/auth", &token).await.status, 200);
        let foreign = issuer.token("user_1", KID, other(), app.now());
        assert_problem(&app.bearer("GET", "/v1/auth", &foreign).await, 401, "token-invalid-signature");
    }
}

/// A PEM needs nobody.
#[tokio::test]
async fn a_pem_needs_no_network() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let app = TestApp::build().on(engine).sessions().start().await;
        assert_eq!(app.get("/readyz").await.json().unwrap()["sessions"], "ready");
        assert_eq!(app.bearer("GET", "/v1/auth", &app.token("user_1", None)).await.status, 200);
    }
}

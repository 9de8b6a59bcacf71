//! Is it alive, is it ready, its figures; and a database that is away (faults.md, W30 and D4).

use std::time::{Duration, Instant};

use faircopy_testkit::postgres::Postgres;

use crate::app::{Engine, TestApp, assert_problem, eventually};
use crate::events::{self, THEN, event, user, user_created};

#[tokio::test]
async fn a_service_that_works_says_so() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let app = TestApp::build().on(engine).start().await;
        let (live, ready) = (app.get("/healthz").await, app.get("/readyz").await);
        assert_eq!((live.status, ready.status), (200, 200), "{} {}", live.text(), ready.text());
        assert_eq!(live.json().unwrap()["status"], "ok");
        assert_eq!(ready.json().unwrap()["status"], "ready");
    }
}

#[tokio::test]
async fn pending_migrations_are_said() {
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let app = TestApp::build().on(engine).without_migrations().start().await;
        assert_eq!(app.get("/healthz").await.status, 200);
        let problem = assert_problem(&app.get("/readyz").await, 503, "database-unavailable");
        assert!(problem["detail"].as_str().unwrap().contains("faircopy migrate"));
        let response = app.deliver("msg_1", user_created("user_1")).await;
        assert_problem(&response, 503, "database-unavailable");
        assert_problem(&app.admin("GET", "/admin/v1/statistics").await, 503, "database-unavailable");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_gone_loses_nothing() {
    let mut cluster = Postgres::start().await;
    let url = cluster.create_database("gone").await;
    let app = TestApp::build().database_url(&url).start().await;
    assert_eq!(app.outcome("msg_1", user_created("user_1")).await, "applied");
    for round in 0..3 {
        cluster.kill();
        assert_problem(&app.get("/readyz").await, 503, "database-unavailable");
        assert_eq!(app.get("/healthz").await.status, 200);
        let (id, body) = (format!("msg_round_{round}"), user_created(&format!("user_{round}")));
        let start = Instant::now();
        let problem = assert_problem(&app.deliver(&id, &body).await, 503, "database-unavailable");
        assert!(start.elapsed() < Duration::from_secs(10));
        let text = problem.to_string();
        assert!(!text.contains("postgres") && !text.contains(&cluster.port().to_string()), "{text}");
        assert_problem(&app.admin("GET", "/admin/v1/deliveries").await, 503, "database-unavailable");
        cluster.restart().await;
        let ready = async || app.get("/readyz").await.status == 200;
        eventually("ready again", Duration::from_secs(10), ready).await;
        let outcome = app.outcome(&id, &body).await;
        assert!(outcome == "applied" || outcome == "stale", "{outcome}");
    }
    assert_eq!(app.deliveries().await.len(), 4);
}

/// D4: the database hangs. Every request is answered within 10 s, and what waits is taken once it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_hangs_holds_nobody_longer_than_ten_seconds() {
    let cluster = Postgres::start().await;
    let url = cluster.create_database("hangs").await;
    let app = TestApp::build().database_url(&url).start().await;
    assert_eq!(app.outcome("msg_1", user_created("user_1")).await, "applied");
    cluster.pause();
    let start = Instant::now();
    let answers = futures_util::future::join_all((0..40).map(async |number| {
        // Some at once, some while the first wait.
        tokio::time::sleep(Duration::from_millis(number * 50)).await;
        let start = Instant::now();
        let response = app.deliver(&format!("msg_hang_{number}"), user_created(&format!("user_{number}"))).await;
        (response, start.elapsed())
    }));
    let answers = answers.await;
    for (response, elapsed) in &answers {
        assert_problem(response, 503, "database-unavailable");
        assert!(*elapsed < Duration::from_secs(10), "{elapsed:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(13));
    assert_eq!(app.get("/readyz").await.status, 503);
    cluster.resume();
    let again = Instant::now();
    let taken = async || app.deliver("msg_after", user_created("user_after")).await.status == 200;
    eventually("a delivery is taken again", Duration::from_secs(10), taken).await;
    for number in 0..40 {
        app.outcome(&format!("msg_hang_{number}"), user_created(&format!("user_{number}"))).await;
    }
    assert!(again.elapsed() < Duration::from_secs(12), "{:?}", again.elapsed());
    assert_eq!(app.tables().await.users.len(), 41);
}

/// A line of the figures: its name with labels, and its value.
fn figure(metrics: &str, series: &str) -> Option<f64> {
    metrics.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[tokio::test]
async fn the_figures_count_and_name_nobody() {
    let app = TestApp::build().start().await;
    let read = async || app.get("/metrics").await.text();
    // Other tests of this process share the registry, so every figure is compared with itself.
    let before = read().await;
    let mut person = user("user_canary_metrics", THEN);
    person["first_name"] = "canary-metrics-name".into();
    let body = event("user.created", &person).to_string();
    app.outcome("msg_canary_metrics", &body).await;
    app.outcome("msg_canary_metrics", &body).await;
    app.outcome("msg_made_up", r#"{"type":"canary.made.up","data":{}}"#).await;
    app.outcome("msg_not_json", "not json").await;
    app.post(&[("svix-id", "msg_canary_metrics")], "{}").await;
    let response = app.get("/metrics").await;
    assert!(response.header("content-type").unwrap().starts_with("text/plain"));
    let after = response.text();
    let grew = |series: &str| {
        let count = |text: &str| figure(text, series).unwrap_or_default();
        assert!(count(&after) > count(&before), "{series} does not grow:\n{after}");
    };
    grew(r#"faircopy_deliveries_total{type="user.created",outcome="applied"}"#);
    grew(r#"faircopy_deliveries_total{type="user.created",outcome="duplicate"}"#);
    grew(r#"faircopy_deliveries_total{type="other",outcome="ignored"}"#);
    grew(r#"faircopy_deliveries_total{type="other",outcome="quarantined"}"#);
    grew(r#"faircopy_signature_failures_total{reason="missing_header"}"#);
    grew("faircopy_delivery_duration_seconds_count");
    grew("faircopy_event_lag_seconds_count");
    grew("faircopy_batch_deliveries_count");
    let build = format!(r#"faircopy_build_info{{version="{}"}}"#, env!("CARGO_PKG_VERSION"));
    assert_eq!(figure(&after, &build), Some(1.0), "{after}");
    assert!(figure(&after, "faircopy_intake_waiting").is_some());
    for canary in ["canary", "user_", "msg_", "org_", "ins_", "Lovelace", "@", events::INSTANCE] {
        assert!(!after.contains(canary), "{canary} is in the figures:\n{after}");
    }
}

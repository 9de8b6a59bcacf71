//! Every status of the webhook endpoint (contract.md, section 3), with its exact answer, on both databases.

use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _, PgConnection, SqliteConnection};

use crate::app::{ADMIN_TOKEN, Engine, PATH, SECRET, TestApp, assert_problem};
use crate::events::{self, THEN, user, user_created};

async fn assert_answer(app: &TestApp, id: &str, body: &str, outcome: &str) {
    let response = app.deliver(id, body).await;
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(response.json(), Some(json!({ "outcome": outcome, "id": id })));
}

async fn every_outcome(engine: Engine) {
    let app = TestApp::build().on(engine).instance(events::INSTANCE).start().await;
    let version = |at: i64, name: &str| {
        let mut user = user("user_1", at);
        user["first_name"] = name.into();
        events::event("user.updated", &user).to_string()
    };
    let first = version(THEN + 1000, "Grace");
    assert_answer(&app, "msg_1", &first, "applied").await;
    assert_answer(&app, "msg_2", &version(THEN, "Older"), "stale").await;
    assert_answer(&app, "msg_1", &first, "duplicate").await;
    assert_answer(&app, "msg_2", &version(THEN, "Older"), "duplicate").await;
    assert_answer(&app, "msg_3", &version(THEN + 2000, "Newer"), "applied").await;
    assert_answer(&app, "msg_4", r#"{"type":"session.created","data":{"id":"sess_1"}}"#, "ignored").await;
    assert_answer(&app, "msg_5", r#"{"type":"moon.risen","data":{}}"#, "ignored").await;
    let mut foreign: Value = serde_json::from_str(&user_created("user_2")).unwrap();
    foreign["instance_id"] = "ins_other".into();
    assert_answer(&app, "msg_6", &foreign.to_string(), "ignored").await;
    assert_answer(&app, "msg_7", "not json", "quarantined").await;
    assert_answer(&app, "msg_8", r#"{"data":{"id":"user_1"}}"#, "quarantined").await;

    let stored = app.deliveries().await;
    let told = |id: &str| (stored[id].outcome.as_str(), stored[id].attempts, stored[id].entity_id.as_deref());
    assert_eq!(stored.len(), 8);
    assert_eq!(told("msg_1"), ("applied", 2, Some("user_1")));
    assert_eq!(told("msg_2"), ("stale", 2, Some("user_1")));
    assert_eq!(told("msg_3"), ("applied", 1, Some("user_1")));
    assert_eq!(told("msg_4"), ("ignored", 1, Some("sess_1")));
    assert_eq!(told("msg_6"), ("ignored", 1, Some("user_2")));
    assert_eq!(told("msg_7"), ("quarantined", 1, None));
    assert!(stored["msg_7"].error.is_some() && stored["msg_1"].error.is_none());
    let tables = app.tables().await;
    assert_eq!(tables.users.keys().collect::<Vec<_>>(), ["user_1"]);
    assert_eq!(tables.users["user_1"].first_name.as_deref(), Some("Newer"));
    app.stop().await;
}

#[tokio::test]
async fn every_outcome_has_its_answer_on_sqlite() {
    every_outcome(Engine::Sqlite).await;
}

#[tokio::test]
async fn every_outcome_has_its_answer_on_postgres() {
    every_outcome(Engine::Postgres).await;
}

/// A copy that was damaged by hand is healed by what is sent again: the merge is run again for a duplicate.
async fn a_duplicate_heals(engine: Engine) {
    let app = TestApp::build().on(engine).start().await;
    assert_answer(&app, "msg_1", &user_created("user_1"), "applied").await;
    let before = app.tables().await;
    if engine == Engine::Postgres {
        let mut connection = PgConnection::connect(&app.database_url).await.unwrap();
        connection.execute("DELETE FROM faircopy.users").await.unwrap();
    } else {
        let mut connection = SqliteConnection::connect(&app.database_url).await.unwrap();
        connection.execute("DELETE FROM users").await.unwrap();
    }
    assert!(app.tables().await.users.is_empty());
    assert_answer(&app, "msg_1", &user_created("user_1"), "duplicate").await;
    assert_eq!(app.tables().await, before);
}

#[tokio::test]
async fn a_duplicate_heals_a_damaged_copy_on_sqlite() {
    a_duplicate_heals(Engine::Sqlite).await;
}

#[tokio::test]
async fn a_duplicate_heals_a_damaged_copy_on_postgres() {
    a_duplicate_heals(Engine::Postgres).await;
}

#[tokio::test]
async fn what_is_not_authentic_is_named_and_not_stored() {
    let app = TestApp::start().await;
    let body = user_created("user_1");
    let good = app.sign("msg_1", &body);
    let (id, at, signature) = (good.id.as_str(), good.timestamp.as_str(), good.signature.as_str());
    let long_ago = (app.now() - 301).to_string();
    let wrong = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let check = async |headers: &[(&str, &str)], reason: &str| {
        let response = app.post(headers, body.clone()).await;
        let problem = assert_problem(&response, 400, "signature-invalid");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.ends_with(&format!("({reason}).")), "{detail}");
        let text = format!("{:?} {}", response.headers, response.text());
        // The one value that would fit, and the secret that makes it.
        assert!(!text.contains(&signature[3..]) && !text.contains(&SECRET[6..]), "{text}");
    };
    check(&[("svix-timestamp", at), ("svix-signature", signature)], "missing_header").await;
    check(&[("svix-id", id), ("svix-timestamp", "now"), ("svix-signature", signature)], "malformed_timestamp").await;
    check(&[("svix-id", id), ("svix-timestamp", &long_ago), ("svix-signature", signature)], "timestamp").await;
    check(&[("svix-id", id), ("svix-timestamp", at), ("svix-signature", wrong)], "no_match").await;
    check(&[("svix-id", "a.b"), ("svix-timestamp", at), ("svix-signature", signature)], "malformed_id").await;
    assert_eq!(app.deliveries().await.len(), 0);
    assert!(app.tables().await.users.is_empty());
}

#[tokio::test]
async fn without_a_secret_every_delivery_is_sent_back() {
    let app = TestApp::build().without_secrets().start().await;
    let problem = assert_problem(&app.deliver("msg_1", user_created("user_1")).await, 503, "no-signing-secret");
    assert!(problem["detail"].as_str().unwrap().contains("CLERK_WEBHOOK_SIGNING_SECRET"));
    assert_eq!(app.deliveries().await.len(), 0);
}

#[tokio::test]
async fn deliveries_arrive_at_every_configured_path_and_nowhere_else() {
    let paths = ["/clerk", "/webhook/clerk", "/api/webhooks/clerk"];
    let app = TestApp::build().webhook(&format!("paths = {}", json!(paths))).start().await;
    for (number, path) in paths.iter().enumerate() {
        let (id, body) = (format!("msg_{number}"), user_created(&format!("user_{number}")));
        let response = app.request("POST", path, &app.sign(&id, &body).headers(), body).await;
        assert_eq!(response.json(), Some(json!({ "outcome": "applied", "id": id })));
    }
    let body = user_created("user_x");
    assert_problem(&app.request("POST", PATH, &app.sign("msg_x", &body).headers(), body).await, 404, "not-found");
    assert_eq!(app.deliveries().await.len(), 3);
    // The admin token is no secret to sign with, and opens nothing here.
    let response = app.post(&[("authorization", &format!("Bearer {ADMIN_TOKEN}"))], "{}").await;
    assert_problem(&response, 400, "signature-invalid");
}

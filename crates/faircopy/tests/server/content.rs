//! Signed, and strange: faults.md W22 to W28, Clerk's own 45 examples, and the minimal profile mode.

use std::collections::BTreeMap;

use faircopy_core::example::EXAMPLES;
use faircopy_core::signature::Secret;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _, SqliteConnection};

use crate::app::{Engine, SECRET, TestApp, assert_problem};
use crate::events::{INSTANCE, THEN, event, user, user_created};

/// One delivery that is strange: its row of faults.md, its body, what becomes of it, and a word of the reason.
struct Case {
    row: &'static str,
    body: Vec<u8>,
    outcome: &'static str,
    error: &'static str,
}

fn strange_bodies() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |row, body: Vec<u8>, outcome, error| cases.push(Case { row, body, outcome, error });
    let plain = user_created("user_plain");

    let unreadable = "cannot be read";
    add("W22 not JSON", b"not json".to_vec(), "quarantined", unreadable);
    add("W22 nothing", vec![], "quarantined", unreadable);
    add("W22 truncated", plain.as_bytes()[..plain.len() - 2].to_vec(), "quarantined", unreadable);
    add("W22 byte order mark", [b"\xef\xbb\xbf", plain.as_bytes()].concat(), "quarantined", unreadable);
    add("W22 NaN", plain.replace("false", "NaN").into(), "quarantined", unreadable);
    add("W22 trailing junk", format!("{plain} x").into(), "quarantined", unreadable);
    add("W22 two documents", format!("{plain}{plain}").into(), "quarantined", unreadable);
    add("W22 1e400", plain.replace("false", "1e400").into(), "quarantined", unreadable);
    add("W22 lone surrogate", plain.replace("Ada", "\\ud800").into(), "quarantined", unreadable);
    add(
        "W22 not UTF-8",
        plain.replace("Ada", "?").into_bytes().iter().map(|&b| if b == b'?' { 0xff } else { b }).collect(),
        "quarantined",
        unreadable,
    );
    add("W22 a control character", plain.replace("Ada", "A\u{1}a").into(), "quarantined", unreadable);
    add("W22 an array", b"[]".to_vec(), "quarantined", "");
    add("W22 a number", b"1".to_vec(), "quarantined", "");
    add("W22 null", b"null".to_vec(), "quarantined", "");
    add("W22 no type", br#"{"data":{"id":"user_1"}}"#.to_vec(), "quarantined", "type");
    add("W22 no data", br#"{"type":"user.created"}"#.to_vec(), "quarantined", "data");
    add("W22 data is a text", br#"{"type":"user.created","data":"user_1"}"#.to_vec(), "quarantined", "data");

    let deep = |depth: usize| {
        let metadata = format!(r#"{{"a":{}1{}}}"#, "[".repeat(depth), "]".repeat(depth));
        user_created("user_deep").replace(r#""public_metadata":{}"#, &format!(r#""public_metadata":{metadata}"#))
    };
    add("W23 depth 100", deep(100).into(), "applied", "");
    add("W23 depth 130", deep(130).into(), "quarantined", unreadable);
    add("W23 depth 100,000", deep(100_000).into(), "quarantined", unreadable);
    add("W23 depth 100,000 that does not end", "[".repeat(100_000).into(), "quarantined", unreadable);

    add(
        "W24 type twice",
        br#"{"type":"user.created","type":"user.deleted","data":{"id":"user_1"}}"#.to_vec(),
        "quarantined",
        "",
    );
    let twice = user_created("user_twice").replace(r#""id":"user_twice""#, r#""id":"user_twice","id":"user_other""#);
    add("W24 id twice", twice.into(), "quarantined", "");
    add(
        "W24 data twice",
        br#"{"type":"user.deleted","data":{"id":"user_1"},"data":{"id":"user_2"}}"#.to_vec(),
        "quarantined",
        "",
    );

    add("W26 unknown type", br#"{"type":"moon.risen","data":{"id":"moon_1"}}"#.to_vec(), "ignored", "");
    add("W26 unknown type, no data", br#"{"type":"moon.risen"}"#.to_vec(), "ignored", "");
    let mut unknown = event("user.created", &user("user_unknown_fields", THEN));
    unknown["data"]["brand_new"] = json!({ "a": [1, { "b": null }] });
    unknown["another"] = json!(7);
    add("W26 unknown fields", unknown.to_string().into(), "applied", "");
    unknown["data"]["id"] = "user_without_instance".into();
    unknown.as_object_mut().unwrap().remove("instance_id");
    add("W26 no instance", unknown.to_string().into(), "applied", "");

    let mut with_id = |row, id: Value| {
        let mut body = event("user.created", &user("user_x", THEN));
        body["data"]["id"] = id;
        add(row, body.to_string().into(), "quarantined", "data.id");
    };
    with_id("W27 null", Value::Null);
    with_id("W27 number", json!(7));
    with_id("W27 empty", json!(""));
    with_id("W27 wrong prefix", json!("org_2g7np7Hrk0SN6kj5EDMLDaKNL0S"));
    with_id("W27 10 KB", json!(format!("user_{}", "x".repeat(10_000))));
    with_id("W27 SQL", json!("user_1'; DROP TABLE users; --"));
    with_id("W27 path", json!("user_../../etc/passwd"));
    with_id("W27 NUL", json!("user_\u{0}"));
    let mut missing = event("user.created", &user("user_x", THEN));
    missing["data"].as_object_mut().unwrap().remove("id");
    add("W27 missing", missing.to_string().into(), "quarantined", "data.id");
    let no_user = json!({ "id": "orgmem_1", "organization": { "id": "org_1" }, "role": "org:admin" });
    add("W27 no user", event("organizationMembership.created", &no_user).to_string().into(), "quarantined", "user_id");

    let mut at = |row, id: &str, updated_at: Value, outcome, error| {
        let mut body = event("user.created", &user(id, THEN));
        body["data"]["updated_at"] = updated_at;
        add(row, body.to_string().into(), outcome, error);
    };
    at("W28 digits in a text", "user_text", json!(THEN.to_string()), "applied", "");
    at("W28 words", "user_words", json!("yesterday"), "quarantined", "updated_at");
    at("W28 float", "user_float", json!(1_716_883_200_000.5), "applied", "");
    at("W28 negative", "user_negative", json!(-1), "quarantined", "updated_at");
    at("W28 largest", "user_largest", json!(i64::MAX), "quarantined", "updated_at");
    at("W28 past 64 bits", "user_past", json!(u64::MAX), "quarantined", "updated_at");
    at("W28 seconds", "user_seconds", json!(THEN / 1000), "applied", "");
    at("W28 far future", "user_future", json!(THEN + 10_000_000_000_000), "quarantined", "updated_at");
    cases
}

/// Bytes as a delivery's payload shows them: those that are no text as `\xNN`.
fn shown_bytes(body: &[u8]) -> String {
    let show = |chunk: std::str::Utf8Chunk<'_>| {
        let invalid: String = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")).collect();
        format!("{}{invalid}", chunk.valid())
    };
    body.utf8_chunks().map(show).collect()
}

async fn strange_bodies_are_kept(engine: Engine) {
    let app = TestApp::build().on(engine).start().await;
    let secret = Secret::parse(SECRET).unwrap();
    let cases = strange_bodies();
    for (number, case) in cases.iter().enumerate() {
        let (id, at) = (format!("msg_{number:03}"), app.now());
        // Our own signature: the reference library refuses to sign what is not UTF-8.
        let signature = secret.sign(&id, at, &case.body);
        let headers = [("svix-id", id.as_str()), ("svix-timestamp", &at.to_string()), ("svix-signature", &signature)];
        let response = app.post(&headers, case.body.clone()).await;
        assert_eq!(response.status, 200, "{}: {}", case.row, response.text());
        assert_eq!(response.json(), Some(json!({ "outcome": case.outcome, "id": id })), "{}", case.row);

        let shown = app.admin_json(&format!("/admin/v1/deliveries/{id}")).await;
        assert_eq!(shown["outcome"], case.outcome, "{}", case.row);
        let error = shown["error"].as_str().unwrap_or_default();
        assert!(
            error.contains(case.error) && error.is_empty() == (case.outcome != "quarantined"),
            "{}: {error}",
            case.row
        );
        // Stored whole: what could not be understood can be looked at.
        let kept = shown["payload"].as_str().unwrap_or_default();
        if error.contains("cannot be read") {
            assert_eq!(kept, shown_bytes(&case.body), "{}", case.row);
        } else {
            assert!(!kept.is_empty(), "{}", case.row);
        }
    }
    let tables = app.tables().await;
    let applied =
        ["user_deep", "user_float", "user_seconds", "user_text", "user_unknown_fields", "user_without_instance"];
    assert_eq!(tables.users.keys().collect::<Vec<_>>(), applied);
    for id in ["user_float", "user_seconds", "user_text"] {
        assert_eq!(tables.users[id].updated_at_ms, Some(THEN), "{id}");
    }

    // Each is listed with its reason, and a replay reads it again without doing harm.
    let mut listed = BTreeMap::new();
    let mut path = "/admin/v1/deliveries?outcome=quarantined&limit=7".to_owned();
    loop {
        let page = app.admin_json(&path).await;
        for delivery in page["data"].as_array().unwrap() {
            assert!(!delivery["error"].as_str().unwrap().is_empty());
            listed.insert(delivery["svix_id"].as_str().unwrap().to_owned(), delivery["error"].clone());
        }
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/admin/v1/deliveries?outcome=quarantined&limit=7&after={next}");
    }
    let expected = cases.iter().filter(|case| case.outcome == "quarantined").count();
    assert_eq!(listed.len(), expected);
    // What was no text is kept as one that cannot be read either; only the reason is put otherwise.
    let not_text = cases.iter().position(|case| case.row == "W22 not UTF-8").unwrap();
    let not_text = format!("msg_{not_text:03}");
    for (id, error) in listed {
        let response = app.admin("POST", &format!("/admin/v1/deliveries/{id}/replay")).await;
        if response.status == 200 {
            assert_eq!(response.json().unwrap()["outcome"], "quarantined", "{id}");
        } else {
            // An empty body leaves nothing to read again.
            assert_problem(&response, 400, "invalid-parameter");
        }
        let now = app.admin_json(&format!("/admin/v1/deliveries/{id}")).await["error"].clone();
        let unreadable = now.as_str().is_some_and(|now| now.starts_with("the body cannot be read: not JSON"));
        assert!(now == error || (id == not_text && unreadable), "{id}: {now}");
    }
    assert_eq!(app.tables().await, tables);
    app.stop().await;
}

#[tokio::test]
async fn strange_bodies_are_kept_on_sqlite() {
    strange_bodies_are_kept(Engine::Sqlite).await;
}

#[tokio::test]
async fn strange_bodies_are_kept_on_postgres() {
    strange_bodies_are_kept(Engine::Postgres).await;
}

/// W25: text that databases and pages dislike is stored, and the row is applied.
async fn strange_texts_are_applied(engine: Engine) {
    let app = TestApp::build().on(engine).start().await;
    let check = async |id: &str, first_name: &str, stored: Option<&str>| {
        let mut body = event("user.created", &user(id, THEN));
        body["data"]["first_name"] = first_name.into();
        body["data"]["public_metadata"] = json!({ "text": first_name, first_name: 1 });
        assert_eq!(app.outcome(&format!("msg_{id}"), body.to_string()).await, "applied", "{id}");
        let tables = app.tables().await;
        let row = &tables.users[id];
        if let Some(stored) = stored {
            assert_eq!(row.first_name.as_deref(), Some(stored), "{id}");
        }
        assert!(row.first_name.as_ref().is_some_and(|name| name.len() <= first_name.len()), "{id}");
        assert!(row.public_metadata.as_ref().is_some_and(Value::is_object), "{id}");
        let shown = app.admin_json(&format!("/admin/v1/deliveries/msg_{id}")).await;
        let payload: Value = serde_json::from_str(shown["payload"].as_str().unwrap()).unwrap();
        assert_eq!(payload["data"]["first_name"], first_name, "{id}: the payload is what was sent");
    };
    check("user_nul", "A\u{0}da", Some("Ada")).await;
    check("user_override", "\u{202e}adA", Some("\u{202e}adA")).await;
    check("user_emoji", "👩‍🚀", Some("👩‍🚀")).await;
    check("user_decomposed", "A\u{308}da", Some("A\u{308}da")).await;
    check("user_quotes", "'; DROP TABLE users; --\"\\", Some("'; DROP TABLE users; --\"\\")).await;
    check("user_large", &"x".repeat(300_000), None).await;
    check("user_surrogates", "\u{10ffff}\u{fffe}", Some("\u{10ffff}\u{fffe}")).await;
}

#[tokio::test]
async fn strange_texts_are_applied_on_sqlite() {
    strange_texts_are_applied(Engine::Sqlite).await;
}

#[tokio::test]
async fn strange_texts_are_applied_on_postgres() {
    strange_texts_are_applied(Engine::Postgres).await;
}

/// A text of one megabyte fits into a body, and into no index.
#[tokio::test]
async fn a_text_of_a_megabyte_is_applied() {
    let app = TestApp::build().on_postgres().start().await;
    for (id, field) in [("user_name", "first_name"), ("user_address", "image_url"), ("user_external", "external_id")] {
        let mut body = event("user.created", &user(id, THEN));
        body["data"][field] = "x".repeat(1_000_000).into();
        assert_eq!(app.outcome(&format!("msg_{id}"), body.to_string()).await, "applied", "{id}");
    }
    assert_eq!(app.tables().await.users.len(), 3);
}

/// What was quarantined is applied by a replay once its cause is mended, and the record says so.
async fn a_replay_re_arms(engine: Engine) {
    let app = TestApp::build().on(engine).start().await;
    let good = user_created("user_1");
    assert_eq!(app.outcome("msg_1", good.replace("false", "NaN")).await, "quarantined");
    let mend = |table: &str| AssertSqlSafe(format!("UPDATE {table} SET payload = $1 WHERE svix_id = 'msg_1'"));
    if engine == Engine::Postgres {
        let mut connection = PgConnection::connect(&app.database_url).await.unwrap();
        sqlx::query(mend("faircopy.webhook_deliveries")).bind(&good).execute(&mut connection).await.unwrap();
    } else {
        let mut connection = SqliteConnection::connect(&app.database_url).await.unwrap();
        sqlx::query(mend("webhook_deliveries")).bind(&good).execute(&mut connection).await.unwrap();
    }
    let replay = async || app.admin("POST", "/admin/v1/deliveries/msg_1/replay").await.json().unwrap();
    assert_eq!(replay().await["outcome"], "applied");
    let shown = app.admin_json("/admin/v1/deliveries/msg_1").await;
    assert_eq!((&shown["outcome"], &shown["error"]), (&json!("applied"), &Value::Null));
    assert!(app.tables().await.users.contains_key("user_1"));
    let changes = app.admin_json("/admin/v1/changes").await;
    assert_eq!(replay().await["outcome"], "applied");
    assert_eq!(app.admin_json("/admin/v1/changes").await, changes, "a second replay changes nothing");
}

#[tokio::test]
async fn a_replay_applies_what_was_mended_on_sqlite() {
    a_replay_re_arms(Engine::Sqlite).await;
}

#[tokio::test]
async fn a_replay_applies_what_was_mended_on_postgres() {
    a_replay_re_arms(Engine::Postgres).await;
}

/// What was taken for another instance's is applied by a replay once the setting is mended.
#[tokio::test]
async fn a_replay_applies_what_was_taken_for_another_instances() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("faircopy.db").display());
    let wrong = TestApp::build().database_url(&url).instance("ins_other").start().await;
    assert_eq!(wrong.outcome("msg_1", user_created("user_1")).await, "ignored");
    assert!(wrong.tables().await.users.is_empty());
    wrong.stop().await;
    let right = TestApp::build().database_url(&url).instance(INSTANCE).start().await;
    assert_eq!(right.admin("POST", "/admin/v1/deliveries/msg_1/replay").await.status, 200);
    assert!(right.tables().await.users.contains_key("user_1"));
}

/// Clerk's own examples, in the order of their types, all around one organization: what follows its deletion is stale.
/// Memberships still tell of their user, who has no other event.
const EXAMPLE_OUTCOMES: &[(&str, &str)] = &[
    ("email.created", "ignored"),
    ("organization.created", "applied"),
    ("organization.deleted", "applied"),
    ("organization.updated", "stale"),
    ("organizationDomain.created", "ignored"),
    ("organizationDomain.deleted", "ignored"),
    ("organizationDomain.updated", "ignored"),
    ("organizationInvitation.accepted", "stale"),
    ("organizationInvitation.created", "stale"),
    ("organizationInvitation.revoked", "stale"),
    ("organizationMembership.created", "applied"),
    ("organizationMembership.deleted", "stale"),
    ("organizationMembership.updated", "applied"),
    ("paymentAttempt.created", "ignored"),
    ("paymentAttempt.updated", "ignored"),
    ("permission.created", "ignored"),
    ("permission.deleted", "ignored"),
    ("permission.updated", "ignored"),
    ("role.created", "ignored"),
    ("role.deleted", "ignored"),
    ("role.updated", "ignored"),
    ("session.created", "ignored"),
    ("session.ended", "ignored"),
    ("session.pending", "ignored"),
    ("session.removed", "ignored"),
    ("session.revoked", "ignored"),
    ("sms.created", "ignored"),
    ("subscription.active", "ignored"),
    ("subscription.created", "ignored"),
    ("subscription.pastDue", "ignored"),
    ("subscription.updated", "ignored"),
    ("subscriptionItem.abandoned", "ignored"),
    ("subscriptionItem.active", "ignored"),
    ("subscriptionItem.canceled", "ignored"),
    ("subscriptionItem.ended", "ignored"),
    ("subscriptionItem.freeTrialEnding", "ignored"),
    ("subscriptionItem.incomplete", "ignored"),
    ("subscriptionItem.pastDue", "ignored"),
    ("subscriptionItem.upcoming", "ignored"),
    ("subscriptionItem.updated", "ignored"),
    ("user.created", "applied"),
    ("user.deleted", "applied"),
    ("user.updated", "stale"),
    ("waitlistEntry.created", "ignored"),
    ("waitlistEntry.updated", "ignored"),
];

async fn examples(engine: Engine) {
    let app = TestApp::build().on(engine).instance(INSTANCE).start().await;
    let mut outcomes = Vec::new();
    let id_of = |event_type: &str| format!("msg_{}", event_type.replace('.', "_"));
    for example in EXAMPLES {
        let outcome = app.outcome(&id_of(example.event_type), example.body).await;
        outcomes.push((example.event_type, outcome));
    }
    let outcomes: Vec<(&str, &str)> = outcomes.iter().map(|(kind, outcome)| (*kind, outcome.as_str())).collect();
    assert_eq!(outcomes.len(), 45);
    assert_eq!(outcomes, EXAMPLE_OUTCOMES);
    // Once more, all of it is known.
    let before = app.tables().await;
    for example in EXAMPLES {
        assert_eq!(app.outcome(&id_of(example.event_type), example.body).await, "duplicate");
        let again = app.outcome(&format!("{}_again", id_of(example.event_type)), example.body).await;
        assert!(again == "stale" || again == "ignored", "{}: {again}", example.event_type);
    }
    assert_eq!(app.tables().await, before);
}

#[tokio::test]
async fn clerks_examples_have_these_outcomes_on_sqlite() {
    examples(Engine::Sqlite).await;
}

#[tokio::test]
async fn clerks_examples_have_these_outcomes_on_postgres() {
    examples(Engine::Postgres).await;
}

/// Minimal mode from the request to the file: nothing personal is anywhere in the database.
async fn minimal_mode(engine: Engine) {
    let app = TestApp::build().on(engine).minimal().start().await;
    let personal = [
        "Ada",
        "Lovelace",
        "ada@example.com",
        "img.clerk.com",
        "countess",
        "canary-phone",
        "canary-title",
        "192.0.2.7",
    ];
    let mut person = user("user_1", THEN);
    person["username"] = "countess".into();
    person["phone_numbers"] = json!([{ "id": "idn_2", "phone_number": "canary-phone" }]);
    person["public_metadata"] = json!({ "workspaceId": "ws_1", "title": "canary-title" });
    let mut created = event("user.created", &person);
    created["event_attributes"] = json!({ "http_request": { "client_ip": "192.0.2.7", "user_agent": "x" } });
    let member = json!({
        "id": "orgmem_1", "role": "org:admin", "permissions": ["org:a:read"], "created_at": THEN, "updated_at": THEN,
        "organization": { "id": "org_1", "name": "Engines Ltd", "slug": "engines", "created_at": THEN, "updated_at": THEN },
        "public_user_data": {
            "user_id": "user_2", "first_name": "Ada", "last_name": "Lovelace", "identifier": "ada@example.com",
            "image_url": "https://img.clerk.com/x",
        },
    });
    let invitation = json!({
        "id": "orginv_1", "organization_id": "org_1", "email_address": "ada@example.com", "role": "org:member",
        "status": "pending", "url": "https://x?ticket=canary-title", "created_at": THEN, "updated_at": THEN,
    });
    assert_eq!(app.outcome("msg_1", created.to_string()).await, "applied");
    assert_eq!(app.outcome("msg_2", event("organizationMembership.created", &member).to_string()).await, "applied");
    assert_eq!(app.outcome("msg_3", event("organizationInvitation.created", &invitation).to_string()).await, "applied");
    assert_eq!(app.outcome("msg_4", created.to_string().replace("false", "NaN")).await, "quarantined");
    assert_eq!(app.outcome("msg_5", event("session.created", &person).to_string()).await, "ignored");

    let tables = app.tables().await;
    assert_eq!((tables.users.len(), tables.members.len(), tables.invitations.len()), (2, 1, 1));
    for user in tables.users.values() {
        let profile = [&user.username, &user.first_name, &user.last_name, &user.name, &user.email, &user.image_url];
        assert!(profile.iter().all(|column| column.is_none()) && user.public_metadata.is_none(), "{user:?}");
    }
    assert_eq!(tables.users["user_1"].workspace_id.as_deref(), Some("ws_1"));
    assert_eq!(tables.users["user_1"].updated_at_ms, Some(THEN));
    assert_eq!(tables.invitations["orginv_1"].email, None);
    let everything = whole_database(&app, engine).await;
    assert!(everything.contains("user_1") && everything.contains("ws_1"), "the search sees what is there");
    for canary in personal {
        assert!(!everything.contains(canary), "{canary} is in the database");
    }
    app.stop().await;
}

#[tokio::test]
async fn minimal_mode_stores_nothing_personal_on_sqlite() {
    minimal_mode(Engine::Sqlite).await;
}

#[tokio::test]
async fn minimal_mode_stores_nothing_personal_on_postgres() {
    minimal_mode(Engine::Postgres).await;
}

/// Every row of every table as text; of SQLite also the bytes of the file and its log.
async fn whole_database(app: &TestApp, engine: Engine) -> String {
    let mut text = String::new();
    if engine == Engine::Postgres {
        let mut connection = PgConnection::connect(&app.database_url).await.unwrap();
        let tables =
            "SELECT relname::text FROM pg_class WHERE relnamespace = 'faircopy'::regnamespace AND relkind = 'r'";
        for table in connection.fetch_all(tables).await.unwrap() {
            let rows = format!("SELECT row_to_json(t)::text FROM faircopy.{} AS t", table.get::<String, _>(0));
            for row in connection.fetch_all(AssertSqlSafe(rows)).await.unwrap() {
                text.push_str(row.get(0));
            }
        }
    } else {
        let path = app.database_url.trim_start_matches("sqlite://");
        for file in [path.to_owned(), format!("{path}-wal")] {
            text.push_str(&String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default()));
        }
    }
    text
}

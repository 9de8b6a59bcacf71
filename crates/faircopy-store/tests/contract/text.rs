//! Hostile text, and nothing personal in minimal mode.

use faircopy_core::ProfileMode;
use faircopy_store::{Arrival, Outcome};
use serde_json::{Value, json};

use crate::db::{Db, commit, deliver};
use crate::say::{arrival_in, body, event, gone, invitation, member, organization, raw, user};

on_both_engines!(minimal_mode_stores_nothing_personal, hostile_text_is_stored_or_quarantined);

/// Stands in everything that is personal.
const CANARY: &str = "kanarienvogel";

async fn minimal_mode_stores_nothing_personal(db: &Db) {
    let mut writer = db.writer().await;
    let canary = |what: &str| format!("{CANARY}-{what}");
    let mut person = user("user_a", 1, &canary("first"), &json!({"workspaceId": "w_a", "nick": canary("nick")}));
    for key in ["last_name", "username", "external_id", "image_url", "locale", "a_key_of_tomorrow"] {
        person[key] = json!(canary(key));
    }
    person["email_addresses"] = json!([{"id": "idn_1", "email_address": format!("{CANARY}@mail.example"), "verification": {"status": "verified"}}]);
    person["phone_numbers"] = json!([{"phone_number": canary("phone")}]);
    person["external_accounts"] = json!([{"email_address": canary("google"), "first_name": canary("google")}]);
    person["unsafe_metadata"] = json!({"a": canary("unsafe")});
    person["private_metadata"] = json!({"a": canary("private")});
    let mut joined = member("orgmem_a", "org_a", "user_b", 1, 1, "org:member");
    joined["organization"] = organization("org_a", 1, "Acme", &json!({"plan": "gold"}));
    joined["public_user_data"] = json!({"user_id": "user_b", "first_name": canary("b"), "last_name": canary("b"),
        "identifier": format!("{CANARY}-b@mail.example"), "image_url": canary("b"), "username": canary("b")});
    let mut invited = invitation("orginv_a", "org_a", 1, 9_999_999, "pending");
    invited["email_address"] = json!(format!("{CANARY}-c@mail.example"));
    invited["url"] = json!(canary("ticket"));
    let mut deleted = gone("user", "user_d");
    deleted["external_id"] = json!(canary("deleted"));
    let mut nobody = person.clone();
    nobody["id"] = json!(null);
    let events: [(&str, &Value); 8] = [
        ("user.created", &person),
        ("organizationMembership.created", &joined),
        ("organizationInvitation.created", &invited),
        ("user.deleted", &deleted),
        ("user.updated", &nobody),
        (
            "email.created",
            &json!({"id": "ema_1", "body": canary("code"), "to_email_address": canary("to"), "slug": "s"}),
        ),
        ("session.created", &json!({"id": "sess_1", "user": person, "latest_activity": {"city": canary("city")}})),
        ("waitlistEntry.created", &json!({"id": "wl_1", "email_address": canary("waits")})),
    ];
    let mut batch: Vec<Arrival> = Vec::new();
    for (number, (event_type, data)) in events.iter().enumerate() {
        let text = body(event_type, 1, data);
        batch.push(arrival_in(ProfileMode::Minimal, &format!("msg_{number}"), text.as_bytes(), None));
    }
    let broken = body("user.created", 1, &person) + "}";
    batch.push(arrival_in(ProfileMode::Minimal, "msg_broken", broken.as_bytes(), None));
    batch.push(arrival_in(ProfileMode::Minimal, "msg_cut", &broken.as_bytes()[..broken.len() / 2], None));
    for _ in 0..2 {
        commit(&mut writer, &batch).await;
    }
    let delivery = batch[1].clone();
    writer.quarantine(&delivery, "refused").await.unwrap();

    let tables = db.tables().await;
    let ann = &tables.users["user_a"];
    assert_eq!(ann.workspace_id.as_deref(), Some("w_a"));
    assert!(ann.created_at_ms.is_some() && ann.updated_at_ms.is_some());
    for row in tables.users.values() {
        let texts =
            [&row.external_id, &row.username, &row.first_name, &row.last_name, &row.name, &row.email, &row.image_url];
        assert!(texts.iter().all(|text| text.is_none()), "{row:?}");
        assert!(row.public_metadata.is_none() && row.banned.is_none() && row.locked.is_none(), "{row:?}");
    }
    assert_eq!(tables.users.keys().collect::<Vec<_>>(), ["user_a", "user_b"]);
    assert_eq!(tables.invitations["orginv_a"].email, None);
    // What an organization says of itself is not personal.
    assert_eq!(tables.organizations["org_a"].settings, Some(json!({"plan": "gold"})));
    assert_eq!(tables.organizations["org_a"].name.as_deref(), Some("Acme"));

    drop(writer);
    assert_nowhere(db, CANARY).await;
}

fn is_log(file: &std::path::Path) -> bool {
    let name = file.to_string_lossy();
    name.ends_with("-wal") || name.ends_with("-shm")
}

/// Looks for a text in every file of SQLite, and in every row of every table of PostgreSQL.
async fn assert_nowhere(db: &Db, needle: &str) {
    for file in db.files() {
        // SQLite removes its log when the last connection closes, which may be between the listing and the reading.
        let bytes = match std::fs::read(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && is_log(&file) => continue,
            read => read.unwrap(),
        };
        let found = bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
        assert!(!found, "{} holds {needle}", file.display());
    }
    if db.is_sqlite() {
        assert!(!db.files().is_empty());
        return;
    }
    let tables = db
        .sql("SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace = 'faircopy'::regnamespace")
        .await;
    assert!(tables.len() >= 8);
    for table in tables.into_iter().flatten() {
        let found = db.sql(&format!("SELECT t::text FROM faircopy.{table} t WHERE t::text LIKE '%{needle}%'")).await;
        assert!(found.is_empty(), "{table} holds {needle}: {found:?}");
    }
}

async fn hostile_text_is_stored_or_quarantined(db: &Db) {
    let mut writer = db.writer().await;
    let long = "ü".repeat(500_000);
    let hostile =
        ["a\u{0}b", "\u{202e}gnp.exe", "'; DROP TABLE users; --", "{s}{rows}$1?", "\u{feff}\u{1f4a9}\u{fffd}", &long];
    for (number, text) in hostile.into_iter().enumerate() {
        let (id, org) = (format!("user_{number}"), format!("org_{number}"));
        let metadata = json!({text: text, "deep": [{"workspaceId": text}], "workspaceId": text});
        let mut person = user(&id, 1, text, &metadata);
        person["username"] = json!(text);
        person["email_addresses"] =
            json!([{"id": text, "email_address": text, "verification": {"status": "verified"}}]);
        let mut joined = member(&format!("orgmem_{number}"), &org, &id, 1, 1, text);
        joined["permissions"] = json!([text, "org:read"]);
        let batch = [
            event(&format!("msg_u{number}"), "user.created", 1, &person),
            event(&format!("msg_o{number}"), "organization.created", 1, &organization(&org, 1, text, &metadata)),
            event(&format!("msg_m{number}"), "organizationMembership.created", 1, &joined),
            event(&format!("msg_i{number}"), text, 1, &json!({"id": text})),
            event(&format!("msg_q{number}"), "user.created", 1, &json!({"id": text})),
        ];
        let outcomes: Vec<Outcome> = commit(&mut writer, &batch).await.iter().map(|receipt| receipt.outcome).collect();
        let expected = [Outcome::Applied, Outcome::Applied, Outcome::Applied, Outcome::Ignored, Outcome::Quarantined];
        assert_eq!(outcomes, expected, "text {number}");
        let tables = db.tables().await;
        let whole = text.replace('\0', "");
        let column: String = whole.chars().take(4096).collect();
        let row = &tables.users[&id];
        for value in [&row.first_name, &row.username, &row.email, &row.workspace_id] {
            assert_eq!(value.as_ref(), Some(&column), "text {number}");
        }
        let stored = json!({whole.as_str(): whole, "deep": [{"workspaceId": whole}], "workspaceId": whole});
        assert!(row.public_metadata.as_ref() == Some(&stored), "metadata {number}");
        let organization = &tables.organizations[&org];
        assert_eq!(organization.name.as_ref(), Some(&column), "text {number}");
        assert!(organization.settings.as_ref() == Some(&stored), "settings {number}");
        assert_eq!(tables.members[&(org, id)].role.as_ref(), Some(&column));
        // Again: what was cut is not mistaken for a change.
        let before = db.sequence().await;
        let again = commit(&mut writer, &batch).await;
        assert!(again.iter().all(|receipt| receipt.outcome == Outcome::Duplicate && !receipt.news), "text {number}");
        assert_eq!(db.sequence().await, before);
    }

    // Bodies that are no event at all, or that one of the engines could not hold.
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let user_with = |metadata: &str| {
        body("user.created", 1, &user("user_z", 1, "Z", &json!("METADATA"))).replace("\"METADATA\"", metadata)
    };
    let bodies: [(&str, Vec<u8>); 9] = [
        ("nul", b"\0\0{\"type\":\"user.created\"}\0".to_vec()),
        ("latin", b"{\"type\":\"user.created\",\"data\":{\"id\":\"\xff\xfe\"}}".to_vec()),
        ("empty", Vec::new()),
        ("array", b"[1,2,3]".to_vec()),
        ("surrogate", user_with(r#"{"a":"\ud800"}"#).into_bytes()),
        ("number", user_with(r#"{"a":1e400}"#).into_bytes()),
        ("digits", user_with(&format!(r#"{{"a":{}}}"#, "9".repeat(400))).into_bytes()),
        ("small", user_with(r#"{"a":1e-300,"b":1.0,"c":-0.0,"d":18446744073709551615}"#).into_bytes()),
        ("deep", user_with(&deep).into_bytes()),
    ];
    for (name, bytes) in bodies {
        let receipt = deliver(&mut writer, raw(&format!("msg_{name}"), &bytes)).await;
        let expected = if name == "small" { Outcome::Applied } else { Outcome::Quarantined };
        assert_eq!(receipt.outcome, expected, "{name}");
        let again = deliver(&mut writer, raw(&format!("msg_{name}"), &bytes)).await;
        assert_eq!((again.outcome, again.news), (Outcome::Duplicate, false), "{name}");
        assert!(db.store.delivery(&format!("msg_{name}")).await.unwrap().is_some());
    }
}

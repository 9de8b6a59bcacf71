//! A user is deleted, and leaves the files: canaries are planted wherever Clerk speaks of a person, and the raw bytes are searched for
//! them. Another user's stay, so that the search can fail.

use std::path::{Path, PathBuf};
use std::time::Instant;

use faircopy_testkit::postgres::Postgres;
use faircopy_testkit::server::Server;
use serde_json::{Value, json};

use crate::support::{PATIENCE, POLL, Place, admin, administer, faircopy, now_ms, sender};

const ORGANIZATION: &str = "org_erasure";

/// What a person is known by; each is found by its bytes alone.
fn canaries(name: &str) -> [String; 4] {
    [
        format!("Canary{name}"),
        format!("{name}.canary@mail.example"),
        format!("+49301234{name}"),
        format!("https://img.example/{name}-canary.png"),
    ]
}

/// Deliveries in which a person stands: their own, a membership's, an accepted invitation's, a message's, a session's.
fn deliveries(id: &str, name: &str) -> Vec<(String, String)> {
    let [first_name, email, phone, picture] = canaries(name);
    let at = now_ms() - 60_000;
    let event = |kind: &str, event_type: &str, data: Value| {
        let body = json!({"object": "event", "type": event_type, "timestamp": at, "data": data}).to_string();
        (format!("msg_{id}_{kind}"), body)
    };
    let organization = json!({"object": "organization", "id": ORGANIZATION, "name": "Staying Inc", "created_at": at, "updated_at": at});
    let user = json!({"object": "user", "id": id, "first_name": first_name, "image_url": picture,
        "email_addresses": [{"id": "idn_1", "email_address": email, "verification": {"status": "verified"}}],
        "phone_numbers": [{"id": "idn_2", "phone_number": phone}],
        "primary_email_address_id": "idn_1", "created_at": at, "updated_at": at});
    let member = json!({"id": format!("orgmem_{name}"), "role": "org:member", "created_at": at, "updated_at": at,
        "organization": organization,
        "public_user_data": {"user_id": id, "first_name": first_name, "image_url": picture, "identifier": email}});
    let invitation = json!({"id": format!("orginv_{name}"), "organization_id": ORGANIZATION, "status": "accepted", "role": "org:member",
        "email_address": format!("work-{email}"), "user_id": id, "created_at": at, "updated_at": at,
        "public_metadata": {"for": first_name}});
    let message = json!({"id": format!("ema_{name}"), "user_id": id, "to_email_address": email, "body": first_name, "status": "sent"});
    let session =
        json!({"id": format!("sess_{name}"), "user_id": id, "user": {"first_name": first_name, "phone": phone}});
    vec![
        event("1", "user.created", user),
        event("2", "organizationMembership.created", member),
        event("3", "organizationInvitation.accepted", invitation),
        event("4", "email.created", message),
        event("5", "session.created", session),
    ]
}

/// Files below a folder that hold a text.
fn holding(folder: &Path, text: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holding(&path, text));
        } else if std::fs::read(&path).is_ok_and(|bytes| bytes.windows(text.len()).any(|some| some == text.as_bytes()))
        {
            found.push(path);
        }
    }
    found
}

/// Plants both people, deletes one, waits for the receipt, and tries what could bring them back. Returns what was logged.
async fn story(place: &Place, files: &Path) -> String {
    let mut server = Server::start(place.options().env("FAIRCOPY_LOG", "debug")).await;
    let (goes, stays) = (deliveries("user_goes", "Ada"), deliveries("user_stays", "Bob"));
    for (id, body) in goes.iter().chain(&stays) {
        assert_eq!(sender(&server).send(id, body).await.status, 200);
    }
    if !place.is_sqlite() {
        place.sql("CHECKPOINT").await;
    }
    for canary in canaries("Ada") {
        assert!(!holding(files, &canary).is_empty(), "{canary} was not planted");
    }
    let gone = json!({"type": "user.deleted", "data": {"id": "user_goes", "deleted": true}}).to_string();
    assert_eq!(sender(&server).send("msg_gone", &gone).await.status, 200);
    let begun = Instant::now();
    let receipt = loop {
        let receipt = admin(&server, "GET", "erasures/user_goes").await;
        if receipt["scrubbed_at"].is_string() {
            break receipt;
        }
        assert!(begun.elapsed() < PATIENCE, "{receipt}");
        tokio::time::sleep(POLL).await;
    };
    assert_eq!((&receipt["emptied"], &receipt["redacted"], &receipt["late"]), (&json!(3), &json!(2), &json!(0)));
    // Sent again, and sent for the first time: neither is stored with the person.
    let (_, late) = deliveries("user_goes", "Ada").swap_remove(0);
    for (id, body) in goes.iter().chain([&("msg_late".to_owned(), late)]) {
        assert_eq!(sender(&server).send(id, body).await.status, 200);
    }
    assert_eq!(admin(&server, "GET", "erasures/user_goes").await["late"], 1);
    // What was stored for a moment is scrubbed like the rest: on PostgreSQL within the hour, or by the command below.
    let begun = Instant::now();
    while place.is_sqlite() {
        let again = admin(&server, "GET", "erasures/user_goes").await;
        if again["scrubbed_at"].is_string() && again["scrubbed_at"] != receipt["scrubbed_at"] {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{again}");
        tokio::time::sleep(POLL).await;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let env = [("DATABASE_URL", place.url())];
    let shown = faircopy(folder.path(), &env, &["erasures", "show", "user_goes", "--json"]).await;
    assert_eq!(shown.json()["clerk_user_id"], "user_goes");
    let asked = faircopy(folder.path(), &env, &["erasures", "scrub"]).await;
    assert_eq!(asked.code, Some(2), "{asked:?}");
    let replayed = faircopy(folder.path(), &env, &["replay", "--all", "--json"]).await.json();
    assert_eq!((&replayed["erased"], &replayed["applied"]), (&json!(5), &json!(0)), "{replayed}");
    assert!(!place.tables().await.users.contains_key("user_goes"));
    // The invitation's row is Clerk's live data (docs/data-protection.md): a reconcile would write it again. Here it goes too.
    let delete = "DELETE FROM {s}organization_invitations WHERE clerk_invitation_id = 'orginv_Ada'";
    let (overwriting, checkpoint) =
        if place.is_sqlite() { ("PRAGMA secure_delete = ON;", ";PRAGMA wal_checkpoint(TRUNCATE)") } else { ("", "") };
    place.sql(&format!("{overwriting}{delete}{checkpoint}")).await;
    if !place.is_sqlite() {
        let scrubbed = faircopy(folder.path(), &env, &["erasures", "scrub", "--yes"]).await;
        assert_eq!(scrubbed.code, Some(0), "{scrubbed:?}");
    }
    assert!(server.terminate().await.success());
    server.stderr()
}

fn searched(files: &Path, log: &str) {
    for canary in canaries("Ada") {
        assert_eq!(holding(files, &canary), Vec::<PathBuf>::new(), "{canary}");
        assert!(!log.contains(&canary), "the log holds {canary}");
    }
    for canary in canaries("Bob") {
        assert!(!holding(files, &canary).is_empty(), "{canary} should be there still");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_user_leaves_sqlites_files() {
    let place = Place::sqlite();
    let file = place.file();
    let folder = file.parent().expect("a folder");
    let log = story(&place, folder).await;
    searched(folder, &log);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_user_leaves_postgresqls_tables() {
    let postgres = Postgres::start().await;
    let place = Place::at(postgres.create_database("copy").await);
    let base = postgres.data_folder().join("base");
    let log = story(&place, &base).await;
    // What was replaced is unlinked and its pages leave the buffers.
    administer(place.url(), "CHECKPOINT").await;
    searched(&base, &log);
}

//! The schema: applied once, whoever is first, and what it promises to be.

use std::time::Duration;

use faircopy_store::{Address, Error, Store, Writer};
use serde_json::json;

use crate::db::{Db, commit};
use crate::say::{NOW, event, gone, user};

on_both_engines!(
    migrations_are_applied_once,
    many_writers_migrate_at_once,
    a_newer_schema_is_refused,
    tables_are_as_promised,
    the_cursors_key_is_the_copys_own
);
on_postgres!(an_administrator_may_have_made_the_schema, an_administrator_may_migrate, an_update_finds_room_on_its_page);

async fn migrations_are_applied_once(db: &Db) {
    let pending = db.store.pending_migrations().await.unwrap();
    let first: Vec<_> = pending.iter().take(2).map(|migration| (migration.version, migration.name)).collect();
    assert_eq!(first, [(1, "copy"), (2, "row_level_security")]);
    assert!(pending.iter().map(|migration| migration.version).eq((1..).take(pending.len())), "numbered without gaps");
    assert!(!db.store.ready().await.unwrap());
    let mut writer = db.store.writer();
    assert_eq!(writer.migrate(NOW).await.unwrap(), pending);
    assert!(db.store.ready().await.unwrap());
    assert_eq!(writer.migrate(NOW).await.unwrap(), []);
    assert_eq!(db.store.writer().migrate(NOW).await.unwrap(), []);
    assert_eq!(db.store.pending_migrations().await.unwrap(), []);
    let applied = db.sql("SELECT name FROM {s}schema_migrations ORDER BY version").await;
    assert_eq!(applied, pending.iter().map(|migration| Some(migration.name.to_owned())).collect::<Vec<_>>());
    assert_eq!(db.feed().await, []);
}

/// An application's program may write into the same file: its tables refer to users, and it may have put an index or a trigger on them.
#[test]
fn a_table_made_anew_keeps_what_others_hang_on_it() {
    crate::db::on_sqlite(keeps_what_others_hang_on_it);
}

async fn keeps_what_others_hang_on_it(db: &Db) {
    const BEFORE: usize = 14;
    let mut files: Vec<_> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/sqlite"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    db.create_file();
    for file in &files[..BEFORE] {
        db.sql(&std::fs::read_to_string(file).unwrap()).await;
    }
    db.sql(
        "CREATE TABLE schema_migrations (version integer PRIMARY KEY, name text NOT NULL, applied_at text NOT NULL) STRICT;
         WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < 14)
         INSERT INTO schema_migrations SELECT n, 'before', 'before' FROM n;
         INSERT INTO users (clerk_user_id, email, banned, provenance) VALUES ('user_2', 'B@x.example', 1, 'webhook'),
             ('user_1', NULL, NULL, 'token');
         INSERT INTO organizations (clerk_org_id, name, settings, provenance) VALUES ('org_1', 'One', '{}', 'webhook');
         INSERT INTO organization_members (clerk_org_id, clerk_user_id, role, provenance)
             VALUES ('org_1', 'user_2', 'org:admin', 'webhook');
         CREATE TABLE notes (id integer PRIMARY KEY, author text NOT NULL REFERENCES users (clerk_user_id) ON DELETE CASCADE) STRICT;
         INSERT INTO notes (author) VALUES ('user_1'), ('user_2');
         CREATE TABLE seen (id text) STRICT;
         CREATE VIEW authors AS SELECT u.email FROM notes n JOIN users u ON u.clerk_user_id = n.author;
         CREATE INDEX external_id ON users (external_id) WHERE external_id IS NOT NULL;
         CREATE TRIGGER notes_seen AFTER DELETE ON users BEGIN INSERT INTO seen VALUES (OLD.clerk_user_id); END;",
    )
    .await;
    let mut writer = db.writer().await;
    let kept =
        "SELECT clerk_user_id || coalesce(email, '-') || coalesce(banned, '-') || provenance FROM users ORDER BY 1";
    let expected = ["user_1--token", "user_2B@x.example1webhook"].map(|row| Some(row.to_owned()));
    assert_eq!(db.sql(kept).await, expected);
    assert_eq!(db.sql("SELECT name || settings FROM organizations").await, [Some("One{}".to_owned())]);
    assert_eq!(db.sql("SELECT email FROM user_profiles").await, [Some("B@x.example".to_owned())]);
    assert_eq!(db.sql("SELECT count(*) || '' FROM notes").await, [Some("2".to_owned())]);
    let without =
        "SELECT name FROM sqlite_schema WHERE name IN ('users', 'organizations') AND sql LIKE '%WITHOUT ROWID%'";
    assert_eq!(db.sql(without).await, []);
    // Ours and theirs are where they were, and nothing of the way is left.
    let attached = "SELECT count(*) || '' FROM sqlite_schema WHERE tbl_name = 'users' AND name IN ('users_provisional', 'users_email', \
        'users_name', 'external_id', 'notes_seen')";
    assert_eq!(db.sql(attached).await, [Some("5".to_owned())]);
    assert_eq!(db.sql("SELECT name FROM sqlite_schema WHERE name LIKE 'faircopy%'").await, []);
    // Foreign keys hold again, for this very writer.
    let deleted = event("msg_1", "user.deleted", 9, &gone("user", "user_2"));
    commit(&mut writer, &[deleted]).await;
    assert_eq!(db.sql("SELECT author FROM notes").await, [Some("user_1".to_owned())]);
    assert_eq!(db.sql("SELECT id FROM seen").await, [Some("user_2".to_owned())]);
    assert_eq!(db.sql("SELECT email FROM authors").await, [None]);
}

/// Otherwise each update writes every index of the table, too.
async fn an_update_finds_room_on_its_page(db: &Db) {
    let mut writer = db.writer().await;
    let put = |n: i64, version: i64| {
        let id = format!("user_{n:03}");
        event(&format!("msg_{n}_{version}"), "user.updated", version, &user(&id, version, "U", &json!({})))
    };
    commit(&mut writer, &(0..300).map(|n| put(n, 1)).collect::<Vec<_>>()).await;
    let pages = "SELECT (ctid::text::point)[0]::text FROM {s}users ORDER BY clerk_user_id";
    let before = db.sql(pages).await;
    assert!(before.first() != before.last(), "more than a page");
    commit(&mut writer, &(0..300).step_by(20).map(|n| put(n, 2)).collect::<Vec<_>>()).await;
    assert_eq!(db.sql(pages).await, before);
}

async fn many_writers_migrate_at_once(db: &Db) {
    let pending = db.store.pending_migrations().await.unwrap().len();
    let tasks: Vec<_> = (0..4).map(|_| tokio::spawn(migrate(db.store.writer()))).collect();
    let mut applied = 0;
    for task in tasks {
        applied += task.await.unwrap();
    }
    assert_eq!(applied, pending);
    assert!(db.store.ready().await.unwrap());
}

async fn migrate(mut writer: Writer) -> usize {
    for _ in 0..200 {
        match writer.migrate(NOW).await {
            Ok(applied) => return applied.len(),
            Err(Error::Busy(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("busy for too long");
}

async fn a_newer_schema_is_refused(db: &Db) {
    let mut writer = db.writer().await;
    db.sql("INSERT INTO {s}schema_migrations (version, name, applied_at) VALUES (99, 'later', 'x')").await;
    assert!(matches!(db.store.pending_migrations().await, Err(Error::Schema(_))));
    assert!(matches!(writer.migrate(NOW).await, Err(Error::Schema(_))));
    db.sql("DELETE FROM {s}schema_migrations WHERE version = 99").await;
    assert_eq!(writer.migrate(NOW).await.unwrap(), []);
}

async fn tables_are_as_promised(db: &Db) {
    drop(db.writer().await);
    if db.is_sqlite() {
        let lax = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND sql NOT LIKE '%STRICT%'";
        assert_eq!(db.sql(lax).await, [], "tables that are not STRICT");
        assert_eq!(db.sql("PRAGMA journal_mode").await, [Some("wal".to_owned())]);
    } else {
        let elsewhere = "SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
            WHERE n.nspname NOT IN ('faircopy', 'pg_catalog', 'information_schema', 'pg_toast')";
        assert_eq!(db.sql(elsewhere).await, [], "what is not in the schema");
        let options =
            "SELECT array_to_string(reloptions, ',') FROM pg_class WHERE oid = 'faircopy.user_profiles'::regclass";
        assert_eq!(db.sql(options).await, [Some("security_invoker=true".to_owned())]);
    }
}

/// Replicas read the same key, also after another start; another copy has another.
async fn the_cursors_key_is_the_copys_own(db: &Db) {
    assert!(db.store.cursor_key().await.is_err(), "there is no schema yet");
    drop(db.writer().await);
    let key = db.store.cursor_key().await.unwrap();
    assert!(key.len() >= 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'), "{} bytes", key.len());
    let replica = Store::new(db.store.address().clone());
    assert_eq!(replica.cursor_key().await.unwrap(), key);
    replica.close().await;
    let folder = tempfile::tempdir().unwrap();
    let other = Store::new(Address::parse(&format!("sqlite://{}", folder.path().join("other.db").display())).unwrap());
    other.writer().migrate(NOW).await.unwrap();
    assert_ne!(other.cursor_key().await.unwrap(), key);
    other.close().await;
    // A copy that has lost it says so: it makes up none that only it would know.
    db.sql("DELETE FROM {s}secrets").await;
    let late = Store::new(db.store.address().clone());
    assert!(matches!(late.cursor_key().await, Err(Error::Refused(_))));
    late.close().await;
}

/// What is new belongs to who owns the tables, and he can use it.
async fn an_administrator_may_migrate(db: &Db) {
    let name = db.sql("SELECT current_database()::text").await.remove(0).unwrap();
    let holder = format!("holder_{name}");
    db.sql("CREATE SCHEMA faircopy").await;
    db.sql(include_str!("../../migrations/postgres/0001_copy.sql")).await;
    db.sql("CREATE TABLE faircopy.schema_migrations (version bigint PRIMARY KEY, name text NOT NULL, applied_at text NOT NULL)")
        .await;
    db.sql("INSERT INTO faircopy.schema_migrations VALUES (1, 'copy', 'before')").await;
    db.sql(&format!("CREATE ROLE {holder} LOGIN")).await;
    db.sql(&format!("ALTER SCHEMA faircopy OWNER TO {holder}")).await;
    for table in [
        "users",
        "organizations",
        "organization_members",
        "organization_invitations",
        "webhook_deliveries",
        "registers",
        "changes",
        "feed",
        "schema_migrations",
    ] {
        db.sql(&format!("ALTER TABLE faircopy.{table} OWNER TO {holder}")).await;
    }
    db.sql(&format!("ALTER VIEW faircopy.user_profiles OWNER TO {holder}")).await;
    let pending = db.store.pending_migrations().await.unwrap();
    assert_eq!(db.store.writer().migrate(NOW).await.unwrap(), pending);
    let owners = "SELECT DISTINCT pg_get_userbyid(relowner)::text FROM pg_class WHERE relnamespace = 'faircopy'::regnamespace \
        UNION SELECT DISTINCT pg_get_userbyid(proowner)::text FROM pg_proc WHERE pronamespace = 'faircopy'::regnamespace";
    assert_eq!(db.sql(owners).await, [Some(holder.clone())]);
    let store = Store::new(Address::parse(&db.url_of(&holder)).unwrap());
    assert!(store.ready().await.unwrap());
    assert!(!store.cursor_key().await.unwrap().is_empty());
    store.close().await;
}

async fn an_administrator_may_have_made_the_schema(db: &Db) {
    db.sql("CREATE SCHEMA faircopy").await;
    let pending = db.store.pending_migrations().await.unwrap();
    assert_eq!(db.store.writer().migrate(NOW).await.unwrap(), pending);
    assert!(db.store.ready().await.unwrap());
}

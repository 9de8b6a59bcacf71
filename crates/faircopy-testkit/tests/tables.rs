//! The same rows in SQLite and in PostgreSQL are read as equal values, and what the contract forbids is refused.

use std::str::FromStr as _;

use faircopy_testkit::postgres::fresh_database;
use faircopy_testkit::tables::{Tables, deliveries, read};
use serde_json::json;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;

/// The tables of the contract; the words in capitals differ between the databases.
const TABLES: &str = "
CREATE TABLE PLACE.users (clerk_user_id text PRIMARY KEY, external_id text, username text, first_name text,
    last_name text, name text, email text, image_url text, workspace_id text, public_metadata JSONTYPE,
    banned TRUTHTYPE, locked TRUTHTYPE, provenance text, created_at TIMETYPE, updated_at TIMETYPE);
CREATE TABLE PLACE.organizations (clerk_org_id text PRIMARY KEY, name text, slug text, image_url text,
    created_by text, settings JSONTYPE, workspace_id text, provenance text, created_at TIMETYPE, updated_at TIMETYPE);
CREATE TABLE PLACE.organization_members (clerk_org_id text, clerk_user_id text, clerk_membership_id text, role text,
    permissions JSONTYPE, provenance text, created_at TIMETYPE, updated_at TIMETYPE,
    PRIMARY KEY (clerk_org_id, clerk_user_id));
CREATE TABLE PLACE.organization_invitations (clerk_invitation_id text PRIMARY KEY, clerk_org_id text, email text,
    role text, status text, expires_at TIMETYPE, created_at TIMETYPE, updated_at TIMETYPE);
CREATE TABLE PLACE.workspaces (id text PRIMARY KEY, clerk_org_id text, name text, owner_id text, ended_at TIMETYPE,
    created_at TIMETYPE);
CREATE TABLE PLACE.webhook_deliveries (svix_id text PRIMARY KEY, event_type text, entity_id text, outcome text,
    attempts BIGTYPE, error text);
INSERT INTO PLACE.users VALUES ('user_1', NULL, 'ada', 'Ada', '', 'Ada', 'ada@example.com', 'https://x/y', 'ws_1',
    '{\"b\": [1, 2.5, null], \"a\": \"é\"}', FALSE, TRUE, 'webhook', '2024-05-28T08:00:00.000Z',
    '2024-05-28T08:00:00.123Z');
INSERT INTO PLACE.users (clerk_user_id) VALUES ('user_2');
INSERT INTO PLACE.organizations VALUES ('org_1', 'One', NULL, NULL, 'user_1', '{}', NULL, 'api',
    '1969-12-31T23:59:59.999Z', '2024-05-28T08:00:00.000Z');
INSERT INTO PLACE.organization_members VALUES ('org_1', 'user_1', 'orgmem_1', 'org:admin', '[\"org:a:read\"]', 'token',
    '2024-05-28T08:00:00.000Z', '2024-05-28T08:00:00.000Z');
INSERT INTO PLACE.organization_invitations VALUES ('orginv_1', 'org_1', 'b@example.com', 'org:member', 'pending',
    '2024-06-27T08:00:00.000Z', '2024-05-28T08:00:00.000Z', '2024-05-28T08:00:00.000Z');
INSERT INTO PLACE.workspaces VALUES ('org_1', 'org_1', 'One', 'user_1', NULL, '1969-12-31T23:59:59.999Z');
INSERT INTO PLACE.webhook_deliveries VALUES ('msg_1', 'user.created', 'user_1', 'applied', 2, NULL),
    ('msg_2', NULL, NULL, 'quarantined', 1, 'not JSON');
";

async fn in_sqlite(change: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}", folder.path().join("copy.db").display());
    let options = SqliteConnectOptions::from_str(&url).expect("an address").create_if_missing(true);
    let mut connection = options.connect().await.expect("open");
    let types =
        [("PLACE.", ""), ("JSONTYPE", "text"), ("TRUTHTYPE", "integer"), ("TIMETYPE", "text"), ("BIGTYPE", "integer")];
    let sql = types.iter().fold(format!("{TABLES}{change}"), |sql, (from, to)| sql.replace(from, to));
    connection.execute(AssertSqlSafe(sql)).await.expect("create the tables");
    connection.close().await.expect("close");
    (folder, url)
}

fn expect_rows(tables: &Tables) {
    let user = &tables.users["user_1"];
    assert_eq!(user.public_metadata, Some(json!({"a": "é", "b": [1, 2.5, null]})));
    assert_eq!((user.banned, user.locked, user.last_name.as_deref()), (Some(false), Some(true), Some("")));
    assert_eq!((user.created_at_ms, user.updated_at_ms), (Some(1_716_883_200_000), Some(1_716_883_200_123)));
    let bare = &tables.users["user_2"];
    assert_eq!((&bare.name, bare.banned, &bare.public_metadata, bare.created_at_ms), (&None, None, &None, None));
    assert_eq!(tables.organizations["org_1"].created_at_ms, Some(-1));
    let member = &tables.members[&("org_1".to_owned(), "user_1".to_owned())];
    assert_eq!((member.role.as_deref(), &member.permissions), (Some("org:admin"), &Some(json!(["org:a:read"]))));
    assert_eq!(tables.invitations["orginv_1"].expires_at_ms, Some(1_719_475_200_000));
}

#[tokio::test]
async fn both_databases_give_equal_rows() {
    let (_folder, sqlite) = in_sqlite("").await;
    let database = fresh_database().await;
    let types = [
        ("PLACE.", "faircopy."),
        ("JSONTYPE", "jsonb"),
        ("TRUTHTYPE", "boolean"),
        ("TIMETYPE", "timestamptz"),
        ("BIGTYPE", "bigint"),
    ];
    let sql = types.iter().fold(format!("CREATE SCHEMA faircopy; {TABLES}"), |sql, (from, to)| sql.replace(from, to));
    let mut connection = PgConnection::connect(database.url()).await.expect("connect");
    connection.execute("SET TIME ZONE 'Asia/Kolkata'").await.expect("another time zone");
    connection.execute(AssertSqlSafe(sql)).await.expect("create the tables");
    connection.close().await.expect("close");

    let (one, other) = (read(&sqlite).await, read(database.url()).await);
    expect_rows(&one);
    assert_eq!(one, other);

    let journal = deliveries(&sqlite).await;
    assert_eq!(journal, deliveries(database.url()).await);
    assert_eq!((journal["msg_1"].outcome.as_str(), journal["msg_1"].attempts), ("applied", 2));
    assert_eq!(journal["msg_2"].error.as_deref(), Some("not JSON"));
}

#[tokio::test]
#[should_panic(
    expected = "users.created_at of user_2 must be a UTC time with milliseconds, it is \"2024-05-28 08:00:00\""
)]
async fn a_time_in_another_form_is_refused() {
    let change = "UPDATE users SET created_at = '2024-05-28 08:00:00' WHERE clerk_user_id = 'user_2'";
    let (_folder, url) = in_sqlite(change).await;
    read(&url).await;
}

#[tokio::test]
#[should_panic(expected = "organizations.settings of org_1 must be JSON")]
async fn json_that_is_not_is_refused() {
    let (_folder, url) = in_sqlite("UPDATE organizations SET settings = '{' WHERE clerk_org_id = 'org_1'").await;
    read(&url).await;
}

#[tokio::test]
#[should_panic(expected = "open sqlite:///nonexistent/copy.db")]
async fn a_database_that_is_not_there_is_not_made() {
    read("sqlite:///nonexistent/copy.db").await;
}

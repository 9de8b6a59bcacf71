//! Row-level security: who sees what, that nobody crosses, and that the writer does not notice.
//!
//! The copy belongs to a role that is no superuser, as it should in production: superusers pass every policy.

use std::collections::BTreeSet;
use std::time::Duration;

use faircopy_core::WorkspaceMode;
use faircopy_core::id::{OrganizationId, UserId};
use faircopy_store::rls::Application;
use faircopy_store::{Address, Caller, Store, Writer};
use faircopy_testkit::seed::Seed;
use faircopy_testkit::tables;
use faircopy_world::{company, shuffled};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use crate::db::{Db, commit, deliver};
use crate::say::{NOW, START, event, gone, invitation, member, of_world, organization, user};

on_postgres!(
    everybody_sees_his_own_and_nobody_sees_nothing,
    a_removed_member_sees_nothing_at_once,
    members_write_below_their_workspace_alone,
    a_workspace_that_has_ended_is_nobodys,
    organizations_linked_to_one_workspace_share_it,
    nothing_can_be_written_or_probed,
    a_setting_ends_with_its_transaction,
    temporary_objects_do_not_deceive_the_helpers,
    every_table_is_closed_and_holds_its_owner,
    the_writer_pays_nothing,
    a_copy_with_rows_is_migrated,
    an_owner_who_may_make_no_roles,
    reads_for_a_caller_have_a_second_wall,
    the_api_reads_alike_with_and_without_the_wall,
    the_wall_needs_every_right,
    a_wall_that_falls_lets_nobody_through,
    callers_do_not_leak_into_one_another,
    a_dropped_read_leaves_nobody_behind,
);

pub(crate) const TABLES: [&str; 4] = ["users", "organizations", "organization_members", "organization_invitations"];
pub(crate) const OWN: [&str; 30] = [
    "webhook_deliveries",
    "registers",
    "changes",
    "feed",
    "schema_migrations",
    "secrets",
    "leases",
    "sweeps",
    "sweep_seen",
    "sweep_absences",
    "proofs",
    "findings",
    "cascades",
    "cascade_counts",
    "outbox",
    "erasures",
    "walks",
    "readings",
    "alerts",
    "alerts_told",
    "alert_targets",
    "tallies",
    "gauges",
    "marks",
    "activity",
    "activity_place",
    "row_counts",
    "dashboard_sessions",
    "destinations",
    "destination_parked",
];

/// What hangs on a workspace, and the workspaces themselves.
pub(crate) const CONTENT: [&str; 9] =
    ["workspaces", "channels", "messages", "last_reads", "rooms", "documents", "code_files", "whiteboards", "meetings"];

/// A copy of two organizations, its owner, and an application's role.
pub(crate) struct Copy<'a> {
    db: &'a Db,
    pub(crate) owner: String,
    pub(crate) app: String,
    pub(crate) store: Store,
}

impl<'a> Copy<'a> {
    /// Empty, with roles of its own: roles belong to the whole server, which other tests share.
    pub(crate) async fn new(db: &'a Db, attributes: &str) -> Self {
        let name = db.sql("SELECT current_database()::text").await.remove(0).unwrap();
        let (owner, app) = (format!("owner_{name}"), format!("app_{name}"));
        db.sql(&format!("CREATE ROLE {owner} LOGIN {attributes}")).await;
        db.sql(&format!("CREATE ROLE {app} LOGIN")).await;
        db.sql(&format!("GRANT CREATE ON DATABASE {name} TO {owner}")).await;
        let store = Store::new(Address::parse(&db.url_of(&owner)).unwrap());
        Self { db, owner, app, store }
    }

    /// `ada` and `ben` are in `org_a`, `ada` its administrator; `cyd` is alone in `org_b`; `dan` is in both.
    pub(crate) async fn with_people(db: &'a Db) -> (Self, Writer) {
        let copy = Self::new(db, "CREATEROLE").await;
        let mut writer = copy.store.writer();
        writer.migrate(NOW).await.unwrap();
        copy.allow_the_app().await;
        people(&mut writer).await;
        (copy, writer)
    }

    pub(crate) async fn allow_the_app(&self) {
        self.db.sql(&format!("GRANT faircopy_reader TO {}", self.app)).await;
    }

    /// A connection of the application.
    async fn reader(&self) -> PgConnection {
        PgConnection::connect(&self.db.url_of(&self.app)).await.unwrap()
    }

    pub(crate) fn application(&self) -> Application {
        Application { address: Some(Address::parse(&self.db.url_of(&self.app)).unwrap()), role: None }
    }
}

pub(crate) async fn people(writer: &mut Writer) {
    let mut all = Vec::new();
    for name in ["ada", "ben", "cyd", "dan"] {
        let id = format!("user_{name}");
        all.push(event(&format!("msg_{name}"), "user.created", 1, &user(&id, 1, name, &json!({}))));
    }
    for org in ["org_a", "org_b"] {
        let data = organization(org, 1, org, &json!({"workspaceId": format!("ws_{org}")}));
        all.push(event(&format!("msg_{org}"), "organization.created", 1, &data));
        let id = format!("orginv_{org}");
        let data = invitation(&id, org, 1, 100_000_000, "pending");
        all.push(event(&format!("msg_{id}"), "organizationInvitation.created", 1, &data));
    }
    for (org, user, role) in [
        ("org_a", "user_ada", "org:admin"),
        ("org_a", "user_ben", "org:member"),
        ("org_a", "user_dan", "org:member"),
        ("org_b", "user_cyd", "org:admin"),
        ("org_b", "user_dan", "org:member"),
    ] {
        let id = format!("orgmem_{org}_{user}");
        let data = member(&id, org, user, 1, 1, role);
        all.push(event(&format!("msg_{id}"), "organizationMembership.created", 1, &data));
    }
    commit(writer, &all).await;
}

pub(crate) fn v1(user: &str, org: &str) -> String {
    json!({"sub": user, "org_id": org, "org_role": "org:member", "role": "authenticated"}).to_string()
}

pub(crate) fn v2(user: &str, org: &str) -> String {
    json!({"v": 2, "sub": user, "o": {"id": org, "rol": "member"}, "role": "authenticated"}).to_string()
}

/// Runs one statement under some claims in a transaction that is rolled back, and returns the first column as text.
pub(crate) async fn under(
    connection: &mut PgConnection,
    claims: Option<&str>,
    statement: &str,
) -> Result<Vec<Option<String>>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    if let Some(claims) = claims {
        let set = "SELECT set_config('request.jwt.claims', $1, true)";
        sqlx::query(set).bind(claims).execute(&mut *transaction).await?;
    }
    let rows = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).fetch_all(&mut *transaction).await;
    transaction.rollback().await?;
    Ok(rows?.iter().map(|row| row.get(0)).collect())
}

/// The keys of everything that can be read: `users/user_ada`, …
async fn seen(connection: &mut PgConnection, claims: Option<&str>) -> BTreeSet<String> {
    const ALL: &str = "SELECT 'users/' || clerk_user_id FROM faircopy.users \
        UNION ALL SELECT 'organizations/' || clerk_org_id FROM faircopy.organizations \
        UNION ALL SELECT 'members/' || clerk_org_id || '/' || clerk_user_id FROM faircopy.organization_members \
        UNION ALL SELECT 'invitations/' || clerk_invitation_id FROM faircopy.organization_invitations \
        UNION ALL SELECT concat_ws('/', 'profiles', clerk_org_id, clerk_user_id, name) FROM faircopy.user_profiles";
    under(connection, claims, ALL).await.unwrap().into_iter().map(Option::unwrap).collect()
}

fn set(keys: &[&str]) -> BTreeSet<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

const IN_A: [&str; 10] = [
    "users/user_ada",
    "users/user_ben",
    "users/user_dan",
    "organizations/org_a",
    "members/org_a/user_ada",
    "members/org_a/user_ben",
    "members/org_a/user_dan",
    "profiles/org_a/user_ada/ada",
    "profiles/org_a/user_ben/ben",
    "profiles/org_a/user_dan/dan",
];

async fn everybody_sees_his_own_and_nobody_sees_nothing(db: &Db) {
    let (copy, _writer) = Copy::with_people(db).await;
    let mut reader = copy.reader().await;
    let mut check = async |claims: &str, keys: &[&str]| {
        assert_eq!(seen(&mut reader, Some(claims)).await, set(keys), "{claims}");
    };
    let with = |more: &[&'static str]| [&IN_A[..], more].concat();
    // An administrator sees the invitations, by the copy and not by the token.
    check(&v1("user_ada", "org_a"), &with(&["invitations/orginv_org_a"])).await;
    check(&v2("user_ada", "org_a"), &with(&["invitations/orginv_org_a"])).await;
    check(&v1("user_ben", "org_a"), &IN_A).await;
    let boast = json!({"v": 2, "sub": "user_ben", "o": {"id": "org_a", "rol": "admin"}, "org_role": "org:admin"});
    check(&boast.to_string(), &IN_A).await;
    // Profiles, members and organizations are those of the active organization; users, of all that are shared.
    check(&v2("user_dan", "org_a"), &with(&["users/user_cyd"])).await;
    let users = ["users/user_ada", "users/user_ben", "users/user_dan"];
    check(&json!({"sub": "user_ben"}).to_string(), &users).await;
    check(&v2("user_ben", "org_b"), &users).await;
    check(&v1("user_ben", "org_b"), &users).await;
    check(&v1("user_ben", "org_none"), &users).await;
    check(&v1("user_nobody", "org_a"), &[]).await;
    // The version decides which claim counts; without one they must agree.
    let both =
        |version: Value| json!({"v": version, "sub": "user_ben", "org_id": "org_b", "o": {"id": "org_a"}}).to_string();
    check(&both(json!(2)), &IN_A).await;
    check(&both(json!(1)), &users).await;
    check(&both(json!(3)), &users).await;
    check(&json!({"sub": "user_ben", "org_id": "org_b", "o": {"id": "org_a"}}).to_string(), &users).await;
    check(&json!({"sub": "user_ben", "org_id": "org_a", "o": {"id": "org_a"}}).to_string(), &IN_A).await;
    check(&json!({"sub": "user_ben", "o": {"id": "org_a"}}).to_string(), &IN_A).await;
    check(&json!({"sub": "user_ben", "org_id": ["org_a"], "o": "org_a"}).to_string(), &users).await;
    check(&json!({"v": 2, "sts": "active", "sub": "user_ben", "o": {"id": "org_a"}}).to_string(), &IN_A).await;
    check(&json!({"v": 2, "sts": "pending", "sub": "user_ben", "o": {"id": "org_a"}}).to_string(), &[]).await;
    for nobody in [
        "",
        " ",
        "{",
        "{}",
        "null",
        "[]",
        "1",
        "\"user_ada\"",
        "{\"sub\":null}",
        "{\"sub\":\"\"}",
        "{\"sub\":{}}",
        "{\"org_id\":\"org_a\",\"org_role\":\"org:admin\"}",
        r#"{"sub":"\u0000"}"#,
        r#"{"sub":"\ud800"}"#,
        "{\"sub\":\"user_ada\"",
        "{\"sub\":1e999999}",
        &"[".repeat(200_000),
    ] {
        check(nobody, &[]).await;
    }
    assert_eq!(seen(&mut reader, None).await, set(&[]));
    // The helpers, for who they say he is.
    let asked = "SELECT concat_ws(' ', faircopy.current_user_id(), faircopy.current_org_id(), faircopy.current_org_role(), \
        faircopy.current_workspace_id(), faircopy.has_role('org:admin'), faircopy.has_role('admin'), \
        faircopy.has_role('member'), faircopy.is_member('org_a'), faircopy.is_member('org_b'), \
        faircopy.has_permission('org:read'), faircopy.has_permission('org:write'), \
        (SELECT string_agg(clerk_org_id || '=' || name, '+' ORDER BY clerk_org_id) FROM faircopy.current_memberships()))";
    let mut answer = async |claims: &str| under(&mut reader, Some(claims), asked).await.unwrap().remove(0).unwrap();
    assert_eq!(answer(&v2("user_ada", "org_a")).await, "user_ada org_a org:admin ws_org_a t t f t f t f org_a=org_a");
    assert_eq!(
        answer(&v1("user_dan", "org_b")).await,
        "user_dan org_b org:member ws_org_b f f t t t t f org_a=org_a+org_b=org_b"
    );
    assert_eq!(answer(&v1("user_cyd", "org_a")).await, "user_cyd f f f f t f f org_b=org_b");
    assert_eq!(answer("{").await, "f f f f f f f");
}

async fn a_removed_member_sees_nothing_at_once(db: &Db) {
    let (copy, mut writer) = Copy::with_people(db).await;
    let mut reader = copy.reader().await;
    let claims = v2("user_ben", "org_a");
    assert_eq!(seen(&mut reader, Some(&claims)).await, set(&IN_A));
    let mut end = gone("organization_membership", "orgmem_org_a_user_ben");
    end["organization_id"] = json!("org_a");
    end["user_id"] = json!("user_ben");
    deliver(&mut writer, event("msg_end", "organizationMembership.deleted", 2, &end)).await;
    assert_eq!(seen(&mut reader, Some(&claims)).await, set(&["users/user_ben"]));
    deliver(&mut writer, event("msg_gone", "user.deleted", 3, &gone("user", "user_ben"))).await;
    assert_eq!(seen(&mut reader, Some(&claims)).await, set(&[]));
}

/// What an application needs to write the content tables; the claims hold it to a workspace.
pub(crate) async fn allow_writes(copy: &Copy<'_>) {
    let tables: Vec<String> = CONTENT[1..].iter().map(|table| format!("faircopy.{table}")).collect();
    copy.db.sql(&format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {} TO {}", tables.join(", "), copy.app)).await;
}

/// The same below each of two workspaces, written by the owner of the copy.
pub(crate) async fn fill_workspaces(db: &Db) {
    for (org, user) in [("org_a", "user_ada"), ("org_b", "user_cyd")] {
        db.sql(&format!(
            "INSERT INTO faircopy.messages (id, channel_id, author_id) VALUES ('m_{org}', '{org}:general', '{user}'); \
             INSERT INTO faircopy.last_reads (channel_id, clerk_user_id) VALUES ('{org}:general', '{user}'); \
             INSERT INTO faircopy.rooms (id, workspace_id) VALUES ('r_{org}', '{org}'); \
             INSERT INTO faircopy.documents (id, room_id) VALUES ('d_{org}', 'r_{org}'); \
             INSERT INTO faircopy.code_files (id, room_id) VALUES ('f_{org}', 'r_{org}'); \
             INSERT INTO faircopy.whiteboards (id, room_id) VALUES ('b_{org}', 'r_{org}'); \
             INSERT INTO faircopy.meetings (id, room_id) VALUES ('t_{org}', 'r_{org}')"
        ))
        .await;
    }
}

/// The key of everything of the content tables that can be read.
async fn content_seen(reader: &mut PgConnection, claims: Option<&str>) -> BTreeSet<String> {
    let parts: Vec<String> = CONTENT
        .iter()
        .map(|table| match *table {
            "last_reads" => "SELECT 'last_reads/' || clerk_user_id FROM faircopy.last_reads".to_owned(),
            table => format!("SELECT '{table}/' || id FROM faircopy.{table}"),
        })
        .collect();
    under(reader, claims, &parts.join(" UNION ALL ")).await.unwrap().into_iter().flatten().collect()
}

const BELOW_A: [&str; 9] = [
    "workspaces/org_a",
    "channels/org_a:general",
    "messages/m_org_a",
    "last_reads/user_ada",
    "rooms/r_org_a",
    "documents/d_org_a",
    "code_files/f_org_a",
    "whiteboards/b_org_a",
    "meetings/t_org_a",
];

async fn members_write_below_their_workspace_alone(db: &Db) {
    let (copy, mut writer) = Copy::with_people(db).await;
    fill_workspaces(db).await;
    let mut app = copy.reader().await;
    // A reader reads: everything of the active organization's workspace, and nothing else.
    for claims in [v1("user_ben", "org_a"), v2("user_dan", "org_a"), v2("user_ada", "org_a")] {
        assert_eq!(content_seen(&mut app, Some(&claims)).await, set(&BELOW_A), "{claims}");
    }
    for nobody in [Some(v1("user_ben", "org_b")), Some(json!({"sub": "user_ben"}).to_string()), Some("{".into()), None]
    {
        assert_eq!(content_seen(&mut app, nobody.as_deref()).await, set(&[]), "{nobody:?}");
    }
    allow_writes(&copy).await;
    let (ben, cyd) = (v2("user_ben", "org_a"), v2("user_cyd", "org_b"));
    // Each is kept, in turn, and counted by the owner below.
    let mut all = String::new();
    for statement in [
        "INSERT INTO faircopy.channels (id, workspace_id, name) VALUES ('c', 'org_a', 'news')",
        "INSERT INTO faircopy.messages (id, channel_id, author_id, body) VALUES ('m', 'c', 'user_ben', 'Hello')",
        "INSERT INTO faircopy.last_reads (channel_id, clerk_user_id) VALUES ('c', 'user_ben')",
        "INSERT INTO faircopy.rooms (id, workspace_id, kind) VALUES ('r', 'org_a', 'whiteboard')",
        "INSERT INTO faircopy.documents (id, room_id) VALUES ('d', 'r')",
        "INSERT INTO faircopy.meetings (id, room_id) VALUES ('t', 'r')",
        "UPDATE faircopy.messages SET body = 'Hello!' WHERE id = 'm'",
        "DELETE FROM faircopy.meetings WHERE id = 't'",
    ] {
        all += &format!("{statement};");
    }
    let rows = under(&mut app, Some(&ben), &format!("{all} SELECT body FROM faircopy.messages WHERE id = 'm'")).await;
    assert_eq!(rows.unwrap(), [Some("Hello!".to_owned())]);
    // Nobody else's rows are there to be changed.
    for statement in [
        "UPDATE faircopy.channels SET name = 'mine' WHERE workspace_id = 'org_b' RETURNING id",
        "DELETE FROM faircopy.messages WHERE id = 'm_org_b' RETURNING id",
        "DELETE FROM faircopy.last_reads RETURNING clerk_user_id",
        "UPDATE faircopy.last_reads SET read_at = now() RETURNING clerk_user_id",
        "DELETE FROM faircopy.documents WHERE id = 'd_org_b' RETURNING id",
    ] {
        assert_eq!(under(&mut app, Some(&ben), statement).await.unwrap(), [], "{statement}");
    }
    for (claims, statement) in [
        (&ben, "INSERT INTO faircopy.channels (id, workspace_id) VALUES ('x', 'org_b')"),
        (&ben, "INSERT INTO faircopy.rooms (id, workspace_id) VALUES ('x', 'org_none')"),
        (&ben, "INSERT INTO faircopy.messages (id, channel_id) VALUES ('x', 'org_b:general')"),
        (&ben, "INSERT INTO faircopy.last_reads (channel_id, clerk_user_id) VALUES ('org_a:general', 'user_dan')"),
        (&ben, "INSERT INTO faircopy.last_reads (channel_id, clerk_user_id) VALUES ('org_b:general', 'user_ben')"),
        (&ben, "INSERT INTO faircopy.documents (id, room_id) VALUES ('x', 'r_org_b')"),
        (&ben, "UPDATE faircopy.channels SET workspace_id = 'org_b'"),
        (&ben, "UPDATE faircopy.messages SET channel_id = 'org_b:general'"),
        (&ben, "UPDATE faircopy.documents SET room_id = 'r_org_b'"),
        (&ben, "INSERT INTO faircopy.workspaces (id) VALUES ('x')"),
        (&ben, "UPDATE faircopy.workspaces SET name = 'x'"),
        (&ben, "DELETE FROM faircopy.workspaces"),
        (&ben, "TRUNCATE faircopy.messages"),
        (&cyd, "INSERT INTO faircopy.messages (id, channel_id) VALUES ('x', 'org_a:general')"),
    ] {
        let error = under(&mut app, Some(claims), statement).await.unwrap_err();
        let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
        assert_eq!(code, "42501", "{statement}: {error}");
    }
    // Whoever was removed writes nothing from then on, whatever his token says.
    let mut end = gone("organization_membership", "orgmem_org_a_user_ben");
    end["organization_id"] = json!("org_a");
    end["user_id"] = json!("user_ben");
    deliver(&mut writer, event("msg_end", "organizationMembership.deleted", 2, &end)).await;
    let late = "INSERT INTO faircopy.channels (id, workspace_id) VALUES ('x', 'org_a')";
    assert!(under(&mut app, Some(&ben), late).await.is_err());
    assert_eq!(content_seen(&mut app, Some(&ben)).await, set(&[]));
}

async fn a_workspace_that_has_ended_is_nobodys(db: &Db) {
    let (copy, _writer) = Copy::with_people(db).await;
    fill_workspaces(db).await;
    allow_writes(&copy).await;
    let mut app = copy.reader().await;
    let ada = v2("user_ada", "org_a");
    assert_eq!(content_seen(&mut app, Some(&ada)).await, set(&BELOW_A));
    // Also while the caller is still a member, as of an organization that shares a linked one.
    db.sql("UPDATE faircopy.workspaces SET ended_at = now() WHERE id = 'org_a'").await;
    assert_eq!(content_seen(&mut app, Some(&ada)).await, set(&[]));
    for statement in [
        "INSERT INTO faircopy.channels (id, workspace_id) VALUES ('x', 'org_a')",
        "INSERT INTO faircopy.messages (id, channel_id) VALUES ('x', 'org_a:general')",
    ] {
        assert!(under(&mut app, Some(&ada), statement).await.is_err(), "{statement}");
    }
    let own = copy.store.workspace(&caller("user_ada", "org_a")).await.unwrap().unwrap();
    assert!(own.channels.is_empty() && own.rooms.is_empty());
}

async fn organizations_linked_to_one_workspace_share_it(db: &Db) {
    let copy = Copy::new(db, "CREATEROLE").await;
    let linked = copy.store.clone().with_workspaces(WorkspaceMode::Linked);
    let mut writer = linked.writer();
    writer.migrate(NOW).await.unwrap();
    copy.allow_the_app().await;
    people(&mut writer).await;
    allow_writes(&copy).await;
    let mut app = copy.reader().await;
    let active = "SELECT faircopy.active_workspace_id()";
    let (ada, cyd) = (v2("user_ada", "org_a"), v2("user_cyd", "org_b"));
    assert_eq!(under(&mut app, Some(&ada), active).await.unwrap(), [Some("ws_org_a".to_owned())]);
    assert_eq!(copy.store.check_row_level_security(&copy.application()).await.unwrap().findings(), 0);
    for org in ["org_a", "org_b"] {
        let joined = organization(org, 2, org, &json!({"workspaceId": "shared"}));
        deliver(&mut writer, event(&format!("msg_join_{org}"), "organization.updated", 2, &joined)).await;
    }
    for claims in [&ada, &cyd] {
        assert_eq!(under(&mut app, Some(claims), active).await.unwrap(), [Some("shared".to_owned())]);
        let insert = "INSERT INTO faircopy.channels (id, workspace_id) VALUES ('c', 'shared') RETURNING id";
        assert_eq!(under(&mut app, Some(claims), insert).await.unwrap(), [Some("c".to_owned())]);
    }
    // The one that rests is nobody's, though it is named like it was.
    assert_eq!(
        under(&mut app, Some(&cyd), "SELECT id FROM faircopy.workspaces WHERE id = 'ws_org_b'").await.unwrap(),
        []
    );
    // Two who share a workspace are no strangers in it: the check does not take it for a crossing.
    assert_eq!(copy.store.check_row_level_security(&copy.application()).await.unwrap().findings(), 0);
    linked.close().await;
}

async fn nothing_can_be_written_or_probed(db: &Db) {
    let (copy, _writer) = Copy::with_people(db).await;
    let mut reader = copy.reader().await;
    let claims = v2("user_ada", "org_a");
    let mut refused = async |statement: &str| {
        let error = under(&mut reader, Some(&claims), statement).await.unwrap_err();
        let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
        assert_eq!(code, "42501", "{statement}: {error}");
    };
    for table in TABLES.iter().chain(&OWN).chain(&CONTENT) {
        refused(&format!("INSERT INTO faircopy.{table} DEFAULT VALUES")).await;
        refused(&format!("DELETE FROM faircopy.{table}")).await;
        refused(&format!("TRUNCATE faircopy.{table}")).await;
    }
    for table in OWN {
        refused(&format!("SELECT FROM faircopy.{table}")).await;
    }
    // An id that is taken and hidden is refused like one that is free: no oracle.
    for id in ["user_cyd", "user_free"] {
        refused(&format!("INSERT INTO faircopy.users (clerk_user_id, provenance) VALUES ('{id}', 'api')")).await;
    }
    refused("SELECT FROM faircopy.users FOR UPDATE").await;
    refused("SET LOCAL row_security = off; SELECT FROM faircopy.users").await;
    refused("ALTER TABLE faircopy.users DISABLE ROW LEVEL SECURITY").await;
    refused("CREATE TABLE public.mine ()").await;
    let foreign_keys = "SELECT has_any_column_privilege('faircopy.users', 'REFERENCES')::text";
    assert_eq!(under(&mut reader, Some(&claims), foreign_keys).await.unwrap(), [Some("false".to_owned())]);
    // Whatever a role was granted by mistake, the tables of the service's own have no rows for it.
    db.sql(&format!("GRANT ALL ON ALL TABLES IN SCHEMA faircopy TO {}", copy.app)).await;
    for table in OWN {
        let rows = under(&mut reader, Some(&claims), &format!("SELECT 'x' FROM faircopy.{table}")).await.unwrap();
        assert_eq!(rows, [], "{table}");
    }
    let changed = "WITH done AS (DELETE FROM faircopy.users RETURNING 1) SELECT count(*)::text FROM done";
    assert_eq!(under(&mut reader, Some(&claims), changed).await.unwrap(), [Some("0".to_owned())]);
    let taken = "INSERT INTO faircopy.users (clerk_user_id, provenance) VALUES ('user_cyd', 'api')";
    let error = under(&mut reader, Some(&claims), taken).await.unwrap_err().to_string();
    assert!(error.contains("row-level security"), "{error}");
}

async fn a_setting_ends_with_its_transaction(db: &Db) {
    let (copy, _writer) = Copy::with_people(db).await;
    let mut reader = copy.reader().await;
    assert_eq!(seen(&mut reader, Some(&v1("user_ben", "org_a"))).await, set(&IN_A));
    // It is left empty and not null, on the same connection.
    let left = "SELECT current_setting('request.jwt.claims', true)";
    assert_eq!(under(&mut reader, None, left).await.unwrap(), [Some(String::new())]);
    assert_eq!(seen(&mut reader, None).await, set(&[]));
}

async fn temporary_objects_do_not_deceive_the_helpers(db: &Db) {
    let (copy, _writer) = Copy::with_people(db).await;
    let mut reader = copy.reader().await;
    for statement in [
        "CREATE TEMPORARY TABLE organization_members AS SELECT 'org_b' AS clerk_org_id, 'user_ben' AS clerk_user_id",
        "CREATE FUNCTION pg_temp.current_setting(text, boolean) RETURNS text LANGUAGE sql AS \
            $$ SELECT '{\"sub\":\"user_cyd\",\"org_id\":\"org_b\"}' $$",
        "CREATE FUNCTION pg_temp.jsonb_typeof(jsonb) RETURNS text LANGUAGE sql AS $$ SELECT 'object' $$",
        "SET search_path = pg_temp, faircopy, pg_catalog",
    ] {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut reader).await.unwrap();
    }
    assert_eq!(seen(&mut reader, Some(&v1("user_ben", "org_a"))).await, set(&IN_A));
    assert_eq!(seen(&mut reader, None).await, set(&[]));
}

async fn every_table_is_closed_and_holds_its_owner(db: &Db) {
    let (copy, _writer) = Copy::with_people(db).await;
    let open = "SELECT relname::text FROM pg_class WHERE relnamespace = 'faircopy'::regnamespace AND relkind IN ('r', 'p') \
        AND NOT (relrowsecurity AND relforcerowsecurity)";
    assert_eq!(db.sql(open).await, []);
    let closed = "SELECT relname::text FROM pg_class WHERE relnamespace = 'faircopy'::regnamespace AND relrowsecurity";
    assert_eq!(db.sql(closed).await.len(), TABLES.len() + OWN.len() + CONTENT.len());
    let everybody = "SELECT relname::text FROM pg_class, aclexplode(relacl) WHERE relnamespace = 'faircopy'::regnamespace \
        AND grantee = 0 UNION ALL SELECT proname::text FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) \
        WHERE pronamespace = 'faircopy'::regnamespace AND grantee = 0";
    assert_eq!(db.sql(everybody).await, [], "granted to PUBLIC");
    let loose = "SELECT proname::text FROM pg_proc WHERE pronamespace = 'faircopy'::regnamespace \
        AND NOT coalesce(proconfig @> ARRAY['search_path=pg_catalog, pg_temp'], false)";
    assert_eq!(db.sql(loose).await, [], "functions without a fixed search_path");
    let definers = "SELECT proname::text FROM pg_proc WHERE pronamespace = 'faircopy'::regnamespace AND prosecdef \
        AND proowner = (SELECT relowner FROM pg_class WHERE oid = 'faircopy.users'::regclass) ORDER BY 1";
    let expected = [
        "active_workspace_id",
        "current_colleagues",
        "current_membership_ids",
        "current_memberships",
        "refuse_below_ended",
    ]
    .map(|name| Some(name.to_owned()));
    assert_eq!(db.sql(definers).await, expected, "the functions with their owner's rights");
    // Without his policy the owner is held like anybody else.
    let mut owner = PgConnection::connect(&db.url_of(&copy.owner)).await.unwrap();
    let count = "SELECT count(*)::text FROM faircopy.users";
    assert_eq!(under(&mut owner, None, count).await.unwrap(), [Some("4".to_owned())]);
    db.sql("DROP POLICY owner ON faircopy.users").await;
    assert_eq!(under(&mut owner, None, count).await.unwrap(), [Some("0".to_owned())]);
}

async fn the_writer_pays_nothing(db: &Db) {
    let copy = Copy::new(db, "CREATEROLE").await;
    let mut writer = copy.store.writer();
    writer.migrate(NOW).await.unwrap();
    let seed = Seed::of_run();
    let (events, truth) = company(seed.value() + 9, 40, 5, START);
    for batch in of_world(&shuffled(&events, seed.value(), 1)).chunks(50) {
        commit(&mut writer, batch).await;
    }
    tables::read(&db.url_of(&copy.owner)).await.assert_same_as(&truth);
    assert!(copy.store.ready().await.unwrap());
    assert_eq!(copy.store.public_rows("users").await.unwrap().len(), truth.users.len());
    // The owner's policy is folded away: his plans have no trace of one.
    let mut owner = PgConnection::connect(&db.url_of(&copy.owner)).await.unwrap();
    for table in TABLES.iter().chain(&OWN).chain(&CONTENT) {
        let plan = under(&mut owner, None, &format!("EXPLAIN SELECT * FROM faircopy.{table}")).await.unwrap();
        let plan: Vec<String> = plan.into_iter().flatten().collect();
        assert_eq!(plan.len(), 1, "{table}: {plan:?}");
    }
}

async fn a_copy_with_rows_is_migrated(db: &Db) {
    let copy = Copy::new(db, "CREATEROLE").await;
    let mut owner = PgConnection::connect(&db.url_of(&copy.owner)).await.unwrap();
    for statement in [
        "CREATE SCHEMA faircopy",
        include_str!("../../migrations/postgres/0001_copy.sql"),
        "CREATE TABLE faircopy.schema_migrations (version bigint PRIMARY KEY, name text NOT NULL, applied_at text NOT NULL)",
        "INSERT INTO faircopy.schema_migrations VALUES (1, 'copy', 'before')",
        "INSERT INTO faircopy.users (clerk_user_id, provenance) VALUES ('user_old', 'api'), ('user_other', 'api')",
        "INSERT INTO faircopy.organization_members (clerk_org_id, clerk_user_id, provenance) VALUES ('org_old', 'user_old', 'api')",
    ] {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut owner).await.unwrap();
    }
    let applied = copy.store.writer().migrate(NOW).await.unwrap();
    assert!(applied.len() > 1 && applied.iter().map(|migration| migration.version).eq((2..).take(applied.len())));
    assert!(copy.store.ready().await.unwrap());
    assert_eq!(copy.store.counts().await.unwrap().users, 2);
    copy.allow_the_app().await;
    let claims = v1("user_old", "org_old");
    let expected = set(&["users/user_old", "members/org_old/user_old", "profiles/org_old/user_old"]);
    assert_eq!(seen(&mut copy.reader().await, Some(&claims)).await, expected);
}

/// The role `faircopy_reader` may be there, made for another database, or not: either way the copy is closed and works.
async fn an_owner_who_may_make_no_roles(db: &Db) {
    let copy = Copy::new(db, "NOCREATEROLE").await;
    let mut writer = copy.store.writer();
    writer.migrate(NOW).await.unwrap();
    people(&mut writer).await;
    assert!(!copy.store.has_second_wall().await.unwrap());
    assert_eq!(copy.store.public_rows_for(&caller("user_ben", "org_a"), "users").await.unwrap().len(), 4);
    // The grants of the documentation, by hand.
    for grant in [
        "USAGE ON SCHEMA faircopy",
        "SELECT ON faircopy.users, faircopy.organizations, faircopy.organization_members, faircopy.organization_invitations, \
         faircopy.user_profiles",
        "EXECUTE ON ALL FUNCTIONS IN SCHEMA faircopy",
    ] {
        db.sql(&format!("GRANT {grant} TO {}", copy.app)).await;
    }
    assert_eq!(seen(&mut copy.reader().await, Some(&v1("user_ben", "org_a"))).await, set(&IN_A));
}

fn caller(user: &str, organization: &str) -> Caller {
    Caller {
        user: UserId::parse(user).unwrap(),
        organization: (!organization.is_empty()).then(|| OrganizationId::parse(organization).unwrap()),
    }
}

async fn reads_for_a_caller_have_a_second_wall(db: &Db) {
    let (copy, _writer) = Copy::with_people(db).await;
    assert!(copy.store.has_second_wall().await.unwrap());
    for address in [db.url_of(&copy.owner), format!("{}?pgbouncer=true", db.url_of(&copy.owner))] {
        let store = Store::new(Address::parse(&address).unwrap());
        let check = async |user: &str, organization: &str, counts: [usize; 4]| {
            for (table, count) in TABLES.iter().zip(counts) {
                let rows = store.public_rows_for(&caller(user, organization), table).await.unwrap();
                assert_eq!(rows.len(), count, "{user} {organization} {table}");
            }
        };
        check("user_ada", "org_a", [3, 1, 3, 1]).await;
        check("user_ben", "org_a", [3, 1, 3, 0]).await;
        check("user_ben", "org_b", [3, 0, 0, 0]).await;
        check("user_dan", "org_b", [4, 1, 2, 0]).await;
        check("user_cyd", "", [2, 0, 0, 0]).await;
        check("user_nobody", "org_a", [0, 0, 0, 0]).await;
        // The same connections, as the owner again.
        assert_eq!(store.counts().await.unwrap().users, 4);
        assert_eq!(store.public_rows("organization_members").await.unwrap().len(), 5);
        store.close().await;
    }
}

/// Everything that the API reads for a caller, as it would be answered.
async fn told(store: &Store, caller: &Caller) -> Value {
    let mut people = Vec::new();
    for name in ["ada", "ben", "cyd", "dan", "nobody"] {
        people.push(store.person(caller, &UserId::parse(&format!("user_{name}")).unwrap()).await.unwrap());
    }
    json!({
        "me": store.user(caller).await.unwrap(), "people": people,
        "organization": store.organization(caller).await.unwrap(),
        "members": store.members(caller, None, 10).await.unwrap(),
        "rest_of_members": store.members(caller, Some("user_ben"), 1).await.unwrap(),
        "workspace": store.workspace(caller).await.unwrap(),
        "mine": store.memberships_of(caller, None, 10).await.unwrap(),
        "rest_of_mine": store.memberships_of(caller, Some("org_a"), 1).await.unwrap(),
    })
}

/// Under the policies, without them, and on SQLite: the same words to everybody.
async fn the_api_reads_alike_with_and_without_the_wall(db: &Db) {
    let (copy, _writer) = Copy::with_people(db).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy.db");
    let sqlite = Store::new(Address::parse(&format!("sqlite://{}", file.display())).unwrap());
    let mut writer = sqlite.writer();
    writer.migrate(NOW).await.unwrap();
    people(&mut writer).await;
    let bare = Store::new(Address::parse(&db.url_of(&copy.owner)).unwrap());
    db.sql(&format!("REVOKE faircopy_reader FROM {}", copy.owner)).await;
    assert!(!bare.has_second_wall().await.unwrap());
    db.sql(&format!("GRANT faircopy_reader TO {}", copy.owner)).await;
    let pooled = Store::new(Address::parse(&format!("{}?pgbouncer=true", db.url_of(&copy.owner))).unwrap());
    assert!(copy.store.has_second_wall().await.unwrap() && pooled.has_second_wall().await.unwrap());
    assert_eq!((copy.store.second_wall_if_known(), sqlite.second_wall_if_known()), (Some(true), None));
    for user in ["user_ada", "user_ben", "user_cyd", "user_dan", "user_nobody"] {
        for organization in ["org_a", "org_b", "org_none", ""] {
            let caller = caller(user, organization);
            let expected = told(&sqlite, &caller).await;
            for (name, store) in [("wall", &copy.store), ("no wall", &bare), ("pooled", &pooled)] {
                assert_eq!(told(store, &caller).await, expected, "{user} {organization} {name}");
            }
        }
    }
    // What is compared says something.
    let dan = told(&copy.store, &caller("user_dan", "org_a")).await;
    let seen: Vec<bool> = dan["people"].as_array().unwrap().iter().map(|person| !person.is_null()).collect();
    assert_eq!(seen, [true, true, true, true, false]);
    let ids = |list: &Value, id: &str| list.as_array().unwrap().iter().map(|row| row[id].clone()).collect::<Vec<_>>();
    assert_eq!(ids(&dan["mine"], "clerk_org_id"), ["org_a", "org_b"]);
    assert_eq!(ids(&dan["mine"], "clerk_membership_id"), ["orgmem_org_a_user_dan", "orgmem_org_b_user_dan"]);
    assert_eq!(ids(&dan["members"], "clerk_user_id"), ["user_ada", "user_ben", "user_dan"]);
    assert_eq!(ids(&dan["members"], "name"), ["ada", "ben", "dan"]);
    assert_eq!(ids(&dan["rest_of_members"], "clerk_user_id"), ["user_dan"]);
    assert_eq!((&dan["me"]["name"], &dan["organization"]["clerk_org_id"]), (&json!("dan"), &json!("org_a")));
    let stranger = told(&copy.store, &caller("user_ben", "org_b")).await;
    assert_eq!((&stranger["organization"], &stranger["members"]), (&Value::Null, &json!([])));
    for store in [sqlite, bare, pooled] {
        store.close().await;
    }
}

/// A role that lacks one right would only make reads fail: it is no wall. That is found out once, at the start.
async fn the_wall_needs_every_right(db: &Db) {
    let (copy, _writer) = Copy::with_people(db).await;
    for right in [
        "SELECT ON faircopy.users",
        "SELECT ON faircopy.organizations",
        "SELECT ON faircopy.organization_members",
        "SELECT ON faircopy.workspaces",
        "SELECT ON faircopy.channels",
        "SELECT ON faircopy.rooms",
        "EXECUTE ON FUNCTION faircopy.active_workspace_id()",
        "EXECUTE ON FUNCTION faircopy.current_memberships()",
        "EXECUTE ON FUNCTION faircopy.current_membership_ids()",
        "EXECUTE ON FUNCTION faircopy.current_colleagues()",
        "USAGE ON SCHEMA faircopy",
    ] {
        db.sql(&format!("REVOKE {right} FROM faircopy_reader")).await;
        let store = Store::new(Address::parse(&db.url_of(&copy.owner)).unwrap());
        assert!(!store.has_second_wall().await.unwrap(), "{right}");
        assert_eq!(store.second_wall_if_known(), Some(false));
        assert!(store.organization(&caller("user_ben", "org_a")).await.unwrap().is_some(), "one wall is left");
        assert!(store.organization(&caller("user_ben", "org_b")).await.unwrap().is_none(), "one wall is left");
        db.sql(&format!("GRANT {right} TO faircopy_reader")).await;
        store.close().await;
    }
    assert!(copy.store.has_second_wall().await.unwrap());
}

/// Once found, it is never gone without: a role that is taken away while the service runs makes reads fail.
async fn a_wall_that_falls_lets_nobody_through(db: &Db) {
    let (copy, _writer) = Copy::with_people(db).await;
    let ada = caller("user_ada", "org_a");
    assert!(copy.store.organization(&ada).await.unwrap().is_some());
    db.sql(&format!("REVOKE faircopy_reader FROM {}", copy.owner)).await;
    for _ in 0..20 {
        assert!(copy.store.organization(&ada).await.is_err());
        assert!(copy.store.memberships_of(&ada, None, 10).await.is_err());
        assert_eq!(copy.store.counts().await.unwrap().users, 4, "the connections can still be used");
    }
    db.sql(&format!("GRANT faircopy_reader TO {}", copy.owner)).await;
    assert!(copy.store.organization(&ada).await.unwrap().is_some());
}

/// Many callers and the owner share six connections: nobody is answered as who had the connection before.
async fn callers_do_not_leak_into_one_another(db: &Db) {
    let (copy, _writer) = Copy::with_people(db).await;
    let cases = [
        ("user_ada", "org_a", 3, 1),
        ("user_cyd", "org_b", 2, 1),
        ("user_dan", "org_b", 2, 2),
        ("user_eve", "org_a", 0, 0),
    ];
    let reads = (0..400_usize).map(async |number| {
        let (user, organization, members, mine) = cases[number % cases.len()];
        let caller = caller(user, organization);
        match number % 3 {
            0 => assert_eq!(copy.store.members(&caller, None, 10).await.unwrap().len(), members, "{user}"),
            1 => assert_eq!(copy.store.memberships_of(&caller, None, 10).await.unwrap().len(), mine, "{user}"),
            // With no condition of its own: what is left is the wall.
            _ => assert_eq!(copy.store.public_rows_for(&caller, "organization_members").await.unwrap().len(), members),
        }
        assert_eq!(copy.store.public_rows("organization_members").await.unwrap().len(), 5, "the owner sees all");
    });
    futures_util::future::join_all(reads).await;
}

async fn a_dropped_read_leaves_nobody_behind(db: &Db) {
    let (copy, _writer) = Copy::with_people(db).await;
    assert!(copy.store.has_second_wall().await.unwrap());
    let ada = caller("user_ada", "org_a");
    let mut dropped = 0;
    for round in 0..400_u64 {
        let within = Duration::from_micros(round * 5);
        dropped += u32::from(tokio::time::timeout(within, copy.store.public_rows_for(&ada, "users")).await.is_err());
        assert_eq!(copy.store.counts().await.unwrap().users, 4, "a connection is still somebody else's");
    }
    assert!(dropped >= 3, "{dropped} reads were dropped");
}

//! Does `rls check` find what is wrong, and nothing else?

use faircopy_store::rls::{Application, Report, Verdict};
use faircopy_store::{Address, Store};

use crate::db::Db;
use crate::rls::{CONTENT, Copy, OWN, TABLES, allow_writes, fill_workspaces};
use crate::say::NOW;

on_postgres!(
    check_is_content_with_what_the_migrations_made,
    check_finds_what_is_planted,
    check_finds_what_is_planted_below_workspaces,
    check_knows_its_bounds,
);

async fn check_is_content_with_what_the_migrations_made(db: &Db) {
    let (copy, _writer) = Copy::with_people(db).await;
    db.sql(&format!("GRANT {} TO {}", copy.app, copy.owner)).await;
    for application in [copy.application(), Application { address: None, role: Some(copy.app.clone()) }] {
        let report = copy.store.check_row_level_security(&application).await.unwrap();
        assert_eq!(report.findings(), 0, "{:#?}", report.checks);
        assert_eq!(report.role, copy.app);
        assert!(report.reader.is_some() && report.organization != report.other_organization);
        for name in TABLES.iter().chain(&OWN).chain(&CONTENT).chain(&["user_profiles"]) {
            let name = format!("faircopy.{name}");
            assert!(report.checks.iter().any(|check| check.object == name && check.check == "reads"), "{name}");
        }
        let own = |check: &&faircopy_store::rls::Check| check.check == "reads" && check.detail.contains(" own seen");
        assert!(report.checks.iter().filter(own).count() >= 5, "{:#?}", report.checks);
    }
    assert_eq!(copy.store.counts().await.unwrap().users, 4);
}

/// A finding of this check, of such an object, says these words.
fn assert_found(report: &Report, plant: &str, is_of: impl Fn(&str) -> bool, name: &str, words: &str) {
    let found = report.checks.iter().any(|check| {
        let named = is_of(&check.object) && check.check == name;
        check.verdict == Verdict::Finding && named && check.detail.contains(words)
    });
    assert!(found, "{plant}: {name} says nothing of {words:?}:\n{:#?}", report.checks);
}

/// A fault for each that a check must find, planted one after the other and undone.
async fn check_finds_what_is_planted(db: &Db) {
    let (copy, _writer) = Copy::with_people(db).await;
    let app = copy.app.clone();
    let check = async |plant: &str, undo: &str, expected: &[(&str, &str, &str)]| {
        for statement in plant.split(";;") {
            db.sql(&statement.replace("{app}", &app).replace("{owner}", &copy.owner)).await;
        }
        let report = copy.store.check_row_level_security(&copy.application()).await.unwrap();
        for (object, name, words) in expected {
            let object = object.replace("{app}", &app);
            assert_found(&report, plant, |looked_at| looked_at.contains(&object), name, words);
        }
        for statement in undo.split(";;") {
            db.sql(&statement.replace("{app}", &app).replace("{owner}", &copy.owner)).await;
        }
    };
    let (users, members) = ("faircopy.users", "faircopy.organization_members");
    let (force, no_force) = (
        "ALTER TABLE faircopy.users FORCE ROW LEVEL SECURITY",
        "ALTER TABLE faircopy.users NO FORCE ROW LEVEL SECURITY",
    );
    check(no_force, force, &[(users, "row security", "FORCE")]).await;
    let on = "ALTER TABLE faircopy.organization_members ENABLE ROW LEVEL SECURITY";
    let off = "ALTER TABLE faircopy.organization_members DISABLE ROW LEVEL SECURITY";
    check(
        off,
        on,
        &[
            (members, "row security", "is off"),
            (members, "reads", "foreign rows"),
            ("faircopy.user_profiles", "reads", "malformed claims"),
        ],
    )
    .await;
    let policy = "CREATE POLICY owner ON faircopy.feed TO {owner} USING (true) WITH CHECK (true)";
    check("DROP POLICY owner ON faircopy.feed", policy, &[("faircopy.feed", "row security", "cannot write")]).await;
    let (plant, undo) = ("CREATE POLICY lax ON faircopy.users USING (true)", "DROP POLICY lax ON faircopy.users");
    check(plant, undo, &[(users, "reads", "no claims")]).await;

    // The role.
    let who = "role {app}";
    check("ALTER ROLE {app} SUPERUSER", "ALTER ROLE {app} NOSUPERUSER", &[(who, "attributes", "superuser")]).await;
    check(
        "ALTER ROLE {app} BYPASSRLS",
        "ALTER ROLE {app} NOBYPASSRLS",
        &[(who, "attributes", "BYPASSRLS"), (users, "reads", "foreign rows")],
    )
    .await;
    check("GRANT postgres TO {app}", "REVOKE postgres FROM {app}", &[(who, "attributes", "may become")]).await;
    check("GRANT {owner} TO {app}", "REVOKE {owner} FROM {app}", &[(who, "ownership", "may become")]).await;
    let (plant, undo) = ("ALTER TABLE faircopy.feed OWNER TO {app}", "ALTER TABLE faircopy.feed OWNER TO {owner}");
    check(plant, undo, &[(who, "ownership", "owns faircopy.feed")]).await;
    let preset = "ALTER ROLE {app} SET request.jwt.claims = '{\"sub\":\"user_ada\"}'";
    check(preset, "ALTER ROLE {app} RESET request.jwt.claims", &[(who, "claims", "preset")]).await;
    let (plant, undo) = ("GRANT CREATE ON SCHEMA public TO PUBLIC", "REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    check(plant, undo, &[("schema public", "create", "REVOKE CREATE")]).await;

    // Rights.
    let (grant, revoke) = ("GRANT TRUNCATE ON faircopy.users TO {app}", "REVOKE TRUNCATE ON faircopy.users FROM {app}");
    check(grant, revoke, &[(users, "rights", "TRUNCATE"), (users, "writes", "truncate succeeds")]).await;
    let (grant, revoke) =
        ("GRANT REFERENCES ON faircopy.users TO PUBLIC", "REVOKE REFERENCES ON faircopy.users FROM PUBLIC");
    check(grant, revoke, &[(users, "rights", "REFERENCES")]).await;
    let grant = "GRANT SELECT ON faircopy.webhook_deliveries TO {app}";
    let revoke = "REVOKE SELECT ON faircopy.webhook_deliveries FROM {app}";
    check(grant, revoke, &[("faircopy.webhook_deliveries", "rights", "may read")]).await;
    let plant =
        "GRANT INSERT, UPDATE, DELETE ON faircopy.users TO {app};;CREATE POLICY lax ON faircopy.users USING (true)";
    let undo = "REVOKE INSERT, UPDATE, DELETE ON faircopy.users FROM {app};;DROP POLICY lax ON faircopy.users";
    check(
        plant,
        undo,
        &[
            (users, "writes", "delete of 4 rows succeeds"),
            (users, "writes", "insert is only stopped by"),
            (users, "writes", "update is only stopped by"),
        ],
    )
    .await;

    // Views, wherever they are, and functions with their owner's rights.
    let (lax, tight) = ("SET (security_invoker = false)", "SET (security_invoker = true)");
    let view = "faircopy.user_profiles";
    let (lax, tight) = (format!("ALTER VIEW {view} {lax}"), format!("ALTER VIEW {view} {tight}"));
    check(&lax, &tight, &[(view, "view", "its owner's rights"), (view, "reads", "foreign rows")]).await;
    let plant = "CREATE VIEW public.people AS SELECT * FROM faircopy.users;;GRANT SELECT ON public.people TO {app}";
    check(plant, "DROP VIEW public.people", &[("people", "view", "its owner's rights")]).await;
    let plant = "CREATE MATERIALIZED VIEW faircopy.kept AS SELECT * FROM faircopy.users;;GRANT SELECT ON faircopy.kept TO {app}";
    check(
        plant,
        "DROP MATERIALIZED VIEW faircopy.kept",
        &[("faircopy.kept", "view", "materialized"), ("faircopy.kept", "reads", "foreign rows")],
    )
    .await;
    let plant = "CREATE FUNCTION faircopy.all_users() RETURNS SETOF text LANGUAGE sql STABLE SECURITY DEFINER \
        AS 'SELECT clerk_user_id FROM faircopy.users'";
    check(
        plant,
        "DROP FUNCTION faircopy.all_users()",
        &[("faircopy.all_users()", "definer", "search_path"), ("faircopy.all_users()", "calls", "user_cyd")],
    )
    .await;
    let plant = "ALTER FUNCTION faircopy.current_memberships() RESET search_path";
    let undo = "ALTER FUNCTION faircopy.current_memberships() SET search_path = pg_catalog, pg_temp";
    check(plant, undo, &[("faircopy.current_memberships()", "definer", "search_path")]).await;
    let plant = "CREATE OR REPLACE FUNCTION faircopy.is_member(clerk_org_id text) RETURNS boolean LANGUAGE sql STABLE \
        SET search_path = pg_catalog, pg_temp AS 'SELECT faircopy.claimed_org_id() = $1'";
    let undo = "CREATE OR REPLACE FUNCTION faircopy.is_member(clerk_org_id text) RETURNS boolean LANGUAGE sql STABLE \
        SET search_path = pg_catalog, pg_temp \
        AS 'SELECT EXISTS (SELECT FROM faircopy.current_memberships() AS m WHERE m.clerk_org_id = $1)'";
    check(plant, undo, &[("faircopy.is_member(text)", "calls", "answers true")]).await;
    let plant = "CREATE FUNCTION public.anybody() RETURNS bigint LANGUAGE sql SECURITY DEFINER \
        AS 'SELECT count(*) FROM faircopy.users';;ALTER FUNCTION public.anybody() OWNER TO {owner}";
    check(plant, "DROP FUNCTION public.anybody()", &[("anybody()", "definer", "search_path")]).await;

    let report = copy.store.check_row_level_security(&copy.application()).await.unwrap();
    assert_eq!(report.findings(), 0, "what was planted is undone: {:#?}", report.checks);
}

/// What the application may write: below its own workspace, and nowhere else.
async fn check_finds_what_is_planted_below_workspaces(db: &Db) {
    let (copy, _writer) = Copy::with_people(db).await;
    fill_workspaces(db).await;
    allow_writes(&copy).await;
    let find = async |plant: &str, expected: &[(&str, &str, &str)]| {
        db.sql(&plant.replace("{app}", &copy.app)).await;
        let report = copy.store.check_row_level_security(&copy.application()).await.unwrap();
        for (object, name, words) in expected {
            assert_found(&report, plant, |looked_at| looked_at == format!("faircopy.{object}"), name, words);
        }
        assert_eq!(expected.is_empty(), report.findings() == 0, "{plant}: {:#?}", report.checks);
    };
    find("SELECT NULL::text", &[]).await;
    let tables = ["channels", "messages", "last_reads", "documents"];
    let each = |statement: &str| tables.map(|table| statement.replace("{table}", table)).join("; ");
    find(
        &each("CREATE POLICY lax ON faircopy.{table} USING (true)"),
        &[
            ("channels", "reads", "foreign rows"),
            ("channels", "writes", "insert of"),
            ("channels", "writes", "move of"),
            ("channels", "writes", "update of"),
            ("messages", "reads", "foreign rows"),
            ("messages", "writes", "insert of"),
            ("messages", "writes", "move of"),
            ("messages", "writes", "delete of"),
            ("last_reads", "writes", "insert of"),
            ("last_reads", "writes", "delete of others' marks of"),
            ("documents", "writes", "delete of"),
        ],
    )
    .await;
    db.sql(&each("DROP POLICY lax ON faircopy.{table}")).await;
    let right = "SELECT pg_get_functiondef('faircopy.active_workspace_id()'::regprocedure)";
    let right = db.sql(right).await.remove(0).unwrap();
    find(
        "CREATE OR REPLACE FUNCTION faircopy.active_workspace_id() RETURNS text LANGUAGE sql STABLE SECURITY DEFINER \
         SET search_path = pg_catalog, pg_temp AS 'SELECT faircopy.claimed_org_id()'",
        &[("workspaces", "reads", "foreign rows"), ("messages", "reads", "foreign rows")],
    )
    .await;
    db.sql(&right).await;
    find(
        "GRANT TRUNCATE ON faircopy.messages TO {app}; GRANT INSERT ON faircopy.workspaces TO {app}",
        &[
            ("messages", "rights", "TRUNCATE"),
            ("messages", "writes", "truncate succeeds"),
            ("workspaces", "rights", "INSERT"),
        ],
    )
    .await;
}

async fn check_knows_its_bounds(db: &Db) {
    let copy = Copy::new(db, "CREATEROLE").await;
    let missing = copy.store.check_row_level_security(&copy.application()).await.unwrap_err().to_string();
    assert!(missing.contains("faircopy migrate"), "{missing}");
    copy.store.writer().migrate(NOW).await.unwrap();
    copy.allow_the_app().await;
    // Nothing is proven without two tenants, and that is said.
    let report = copy.store.check_row_level_security(&copy.application()).await.unwrap();
    assert_eq!(report.findings(), 1, "{:#?}", report.checks);
    let stranger = Store::new(Address::parse(&db.url_of(&copy.app)).unwrap());
    let refused = stranger.check_row_level_security(&copy.application()).await.unwrap_err().to_string();
    assert!(refused.contains("does not own"), "{refused}");
    let sqlite = Store::new(Address::parse("sqlite:///nowhere.db").unwrap());
    let refused = sqlite.check_row_level_security(&copy.application()).await.unwrap_err().to_string();
    assert!(refused.contains("SQLite has no roles"), "{refused}");
}

//! Whose a workspace is, in each mode and after a change of it, and what may be written below it.

use std::collections::BTreeMap;

use faircopy_core::WorkspaceMode::{self, Linked, Off, PerOrganization};
use faircopy_core::event::{Fact, Observation};
use faircopy_core::id::{OrganizationId, UserId};
use faircopy_core::record::Provenance;
use faircopy_core::{Millis, WORKSPACE_MODES};
use faircopy_store::{Arrival, Caller, Item, Settled, Store, Writer};
use faircopy_testkit::seed::Seed;
use faircopy_testkit::tables::Workspace;
use faircopy_world::{Settings, Workspaces, World, shuffled};
use serde_json::{Value, json};

use crate::db::{Db, commit};
use crate::provisional::{learn, token};
use crate::say::{NOW, START, at, event, gone, member, of_world, organization, user};

on_both_engines!(
    in english;
    an_organization_has_a_workspace_of_its_own,
    a_linked_workspace_belongs_to_the_oldest,
    where_none_are_kept,
    what_only_a_token_said_goes_with_its_workspace,
    content_has_defaults_and_parents,
    nothing_new_goes_below_what_has_ended,
    modes_follow_one_another,
    any_order_gives_the_same_in_each_mode,
);
mod of_the_past {
    use super::{a_copy_from_before_is_brought_up, many_are_settled_in_portions, the_caller_reads_his_workspace};
    on_both_engines!(a_copy_from_before_is_brought_up, many_are_settled_in_portions, the_caller_reads_his_workspace);
}

pub(crate) const DOCUMENT: &str = include_str!("../../../../docs/workspaces.md");

/// As the document says: on PostgreSQL `rls_docs` writes, as an application's role.
async fn an_application_writes_as_documented(db: &Db) {
    Teller::new(db, PerOrganization).await.put("org_a", 1, None).await;
    let block = DOCUMENT.split("```sql\n-- SQLite\n").nth(1).unwrap().split("```").next().unwrap();
    db.sql(block).await;
    db.sql(block.split(";\n").find(|statement| statement.contains("last_reads")).unwrap()).await;
    let found =
        db.sql("SELECT w.title FROM whiteboards w JOIN rooms r ON r.id = w.room_id WHERE r.kind = 'whiteboard'").await;
    assert_eq!(found, [Some("Plan".to_owned())]);
}

#[test]
fn an_application_writes_as_documented_on_sqlite() {
    crate::db::on_sqlite(an_application_writes_as_documented);
}

/// A writer in a mode, which tells what the feed said.
struct Teller<'a> {
    db: &'a Db,
    writer: Writer,
    number: usize,
}

impl<'a> Teller<'a> {
    async fn new(db: &'a Db, mode: WorkspaceMode) -> Self {
        drop(db.writer().await);
        Self { db, writer: db.store.clone().with_workspaces(mode).writer(), number: 0 }
    }

    async fn tell(&mut self, batch: &[(&str, i64, Value)]) -> Vec<String> {
        let before = self.db.sequence().await;
        let mut arrivals: Vec<Arrival> = Vec::new();
        for (event_type, n, data) in batch {
            self.number += 1;
            arrivals.push(event(&format!("msg_{}", self.number), event_type, *n, data));
        }
        commit(&mut self.writer, &arrivals).await;
        self.db.said_since(before).await
    }

    async fn put(&mut self, id: &str, n: i64, link: Option<&str>) -> Vec<String> {
        self.tell(&[("organization.updated", n, linked(id, n, link))]).await
    }

    async fn end(&mut self, id: &str) -> Vec<String> {
        self.tell(&[("organization.deleted", 90, gone("organization", id))]).await
    }

    async fn settle(&mut self) -> Settled {
        self.writer.settle_workspaces(NOW).await.unwrap()
    }
}

fn linked(id: &str, n: i64, link: Option<&str>) -> Value {
    let metadata = link.map_or_else(|| json!({}), |link| json!({ "workspaceId": link }));
    organization(id, n, &format!("{id} at {n}"), &metadata)
}

/// An organization that began at another moment than the others.
fn younger(id: &str, began: i64, link: Option<&str>) -> Value {
    let mut organization = linked(id, began, link);
    organization["created_at"] = json!(at(began));
    organization
}

async fn rows(db: &Db) -> BTreeMap<String, Workspace> {
    db.tables().await.workspaces
}

/// `<id> of <organization>`, with a cross where it has ended.
async fn shown(db: &Db) -> Vec<String> {
    let of = |row: &Workspace| {
        let cross = if row.ended_at_ms.is_some() { " +" } else { "" };
        format!("{} of {}{cross}", row.id, row.clerk_org_id.as_deref().unwrap_or("nobody"))
    };
    rows(db).await.values().map(of).collect()
}

async fn channels(db: &Db) -> Vec<String> {
    db.sql("SELECT id || '=' || name FROM {s}channels ORDER BY id").await.into_iter().flatten().collect()
}

async fn named(db: &Db, id: &str) -> Option<String> {
    db.tables().await.organizations[id].workspace_id.clone()
}

async fn an_organization_has_a_workspace_of_its_own(db: &Db) {
    let mut teller = Teller::new(db, PerOrganization).await;
    assert_eq!(teller.put("org_a", 1, None).await, ["put organization org_a", "put workspace org_a"]);
    let first = Workspace {
        id: "org_a".into(),
        clerk_org_id: Some("org_a".into()),
        name: Some("org_a at 1".into()),
        owner_id: Some("user_boss".into()),
        ended_at_ms: None,
        created_at_ms: Some(at(0)),
    };
    assert_eq!(rows(db).await["org_a"], first);
    assert_eq!(channels(db).await, ["org_a:general=general"]);
    assert_eq!(named(db, "org_a").await.as_deref(), Some("org_a"));
    // What says nothing new touches nothing; a channel that the application removed stays removed.
    db.sql("DELETE FROM {s}channels").await;
    assert_eq!(teller.put("org_a", 1, None).await, Vec::<String>::new());
    assert_eq!(teller.put("org_a", 2, None).await, ["put organization org_a", "put workspace org_a"]);
    assert_eq!(rows(db).await["org_a"], Workspace { name: Some("org_a at 2".into()), ..first });
    assert_eq!(channels(db).await, Vec::<String>::new());
    // A link is told, and does not make a workspace another's.
    teller.put("org_b", 1, Some("org_a")).await;
    assert_eq!(named(db, "org_b").await.as_deref(), Some("org_a"));
    assert_eq!(shown(db).await, ["org_a of org_a", "org_b of org_b"]);
    // It ends with its organization, keeps its content, and never begins again.
    let said = teller.tell(&[("organization.deleted", 3, gone("organization", "org_b"))]).await;
    assert_eq!(said, ["put workspace org_b", "remove organization org_b"]);
    assert_eq!(rows(db).await["org_b"].ended_at_ms, Some(NOW.0));
    assert_eq!(channels(db).await, ["org_b:general=general"]);
    assert_eq!(teller.put("org_b", 9, None).await, Vec::<String>::new());
    assert_eq!(shown(db).await, ["org_a of org_a", "org_b of org_b +"]);
    assert_eq!(db.store.counts().await.unwrap().workspaces, 1);
    // Made and gone in one batch, and deleted before anything else was heard: no workspace.
    let never = [
        ("organization.updated", 1, linked("org_c", 1, None)),
        ("organization.deleted", 2, gone("organization", "org_c")),
    ];
    teller.tell(&never).await;
    teller.tell(&[("organization.deleted", 2, gone("organization", "org_d"))]).await;
    assert_eq!(rows(db).await.len(), 2);
    assert_eq!(teller.settle().await, Settled::default());
}

async fn a_linked_workspace_belongs_to_the_oldest(db: &Db) {
    let mut teller = Teller::new(db, Linked).await;
    assert_eq!(teller.put("org_n", 1, None).await, ["put organization org_n"]);
    let update = "organization.updated";
    let said = teller.tell(&[(update, 5, younger("org_b", 5, Some("w")))]).await;
    assert_eq!(said, ["put organization org_b", "put workspace w"]);
    assert_eq!(channels(db).await, Vec::<String>::new(), "what is in it is the application's");
    assert_eq!(rows(db).await["w"].created_at_ms, Some(at(5)));
    teller.tell(&[(update, 7, younger("org_c", 7, Some("w")))]).await;
    assert_eq!(shown(db).await, ["w of org_b"], "a younger one changes nothing");
    teller.tell(&[(update, 3, younger("org_a", 3, Some("w")))]).await;
    assert_eq!(shown(db).await, ["w of org_a"]);
    assert_eq!(rows(db).await["w"].name.as_deref(), Some("org_a at 3"));
    // Its organization goes: it is passed on. The next one takes the link away: passed on again.
    assert_eq!(teller.end("org_a").await, ["put workspace w", "remove organization org_a"]);
    assert_eq!(shown(db).await, ["w of org_b"]);
    teller
        .tell(&[(update, 8, {
            let mut o = younger("org_b", 5, Some("w2"));
            o["updated_at"] = json!(at(8));
            o
        })])
        .await;
    assert_eq!(shown(db).await, ["w of org_c", "w2 of org_b"]);
    // Two change places in one batch.
    let mut swap = [younger("org_b", 5, Some("w")), younger("org_c", 7, Some("w2"))];
    swap.iter_mut().for_each(|o| o["updated_at"] = json!(at(9)));
    let [first, second] = swap;
    teller.tell(&[(update, 9, first), (update, 9, second)]).await;
    assert_eq!(shown(db).await, ["w of org_b", "w2 of org_c"]);
    // Unlinking destroys nothing, and whoever names it next has it.
    let mut unlinked = younger("org_b", 5, None);
    unlinked["updated_at"] = json!(at(10));
    teller.tell(&[(update, 10, unlinked)]).await;
    assert_eq!((shown(db).await, named(db, "org_b").await), (vec!["w of nobody".into(), "w2 of org_c".into()], None));
    teller.end("org_b").await;
    assert_eq!(shown(db).await, ["w of nobody", "w2 of org_c"], "it belonged to nobody");
    teller.tell(&[(update, 20, younger("org_d", 20, Some("w"))), (update, 21, younger("org_e", 21, Some("w")))]).await;
    assert_eq!(shown(db).await, ["w of org_d", "w2 of org_c"]);
    // All that name it go at once: it ends. Nobody takes it over until it is gone; then it begins anew.
    let gone_at_once = ["org_d", "org_e"].map(|id| ("organization.deleted", 30, gone("organization", id)));
    teller.tell(&gone_at_once).await;
    assert_eq!(shown(db).await, ["w of org_d +", "w2 of org_c"]);
    teller.tell(&[(update, 40, younger("org_f", 40, Some("w")))]).await;
    assert_eq!(shown(db).await, ["w of org_d +", "w2 of org_c"]);
    assert_eq!(teller.settle().await.changes, 0);
    db.sql("DELETE FROM {s}workspaces WHERE id = 'w'").await;
    teller.settle().await;
    assert_eq!(shown(db).await, ["w2 of org_c"], "it may still be looked for what somebody made below it");
    db.sql("UPDATE {s}cascades SET state = 'done', due_at = NULL").await;
    teller.settle().await;
    assert_eq!(shown(db).await, ["w of org_f", "w2 of org_c"]);
    // A link to an id that is an organization's own workspace, from another mode, gives nobody that.
    let mut own = Teller::new(db, PerOrganization).await;
    own.number = 100;
    own.put("org_n", 2, None).await;
    teller.tell(&[(update, 41, younger("org_thief", 41, Some("org_n")))]).await;
    assert_eq!(rows(db).await["org_n"].clerk_org_id.as_deref(), Some("org_n"));
}

async fn where_none_are_kept(db: &Db) {
    let mut teller = Teller::new(db, Off).await;
    teller.put("org_a", 1, None).await;
    teller.put("org_b", 1, Some("w")).await;
    assert_eq!((named(db, "org_a").await, named(db, "org_b").await.as_deref()), (None, Some("w")));
    assert_eq!(teller.end("org_a").await, ["remove organization org_a"]);
    assert_eq!((rows(db).await.len(), teller.settle().await), (0, Settled::default()));
}

async fn what_only_a_token_said_goes_with_its_workspace(db: &Db) {
    let mut writer = db.writer().await;
    learn(&mut writer, token("org_1", "user_a", 10)).await;
    let tables = db.tables().await;
    assert_eq!(tables.users["user_a"].workspace_id.as_deref(), Some("org_1"));
    assert_eq!(tables.workspaces["org_1"].created_at_ms, Some(NOW.0), "it has no age yet");
    // Clerk does not know it: its members' workspace is none any more.
    let fact = Fact::OrganizationNotFound(OrganizationId::parse("org_1").unwrap(), Millis(at(10)));
    writer.commit(&[Item::Learned(vec![Observation { source: Provenance::Api, fact }])], NOW).await.unwrap();
    assert_eq!(shown(db).await, ["org_1 of org_1 +"]);
    assert_eq!(db.tables().await.users["user_a"].workspace_id, None);
    // Another, which Clerk knows: it gets its age and its name.
    learn(&mut writer, token("org_2", "user_b", 10)).await;
    commit(&mut writer, &[event("msg_1", "organization.created", 1, &organization("org_2", 1, "Two", &json!({})))])
        .await;
    let row = &rows(db).await["org_2"];
    assert_eq!((row.name.as_deref(), row.created_at_ms), (Some("Two"), Some(at(0))));
}

async fn content_has_defaults_and_parents(db: &Db) {
    let mut teller = Teller::new(db, PerOrganization).await;
    teller.put("org_a", 1, None).await;
    for statement in [
        "INSERT INTO {s}channels (id, workspace_id) VALUES ('c', 'org_a')",
        "INSERT INTO {s}messages (id, channel_id) VALUES ('m', 'c')",
        "INSERT INTO {s}last_reads (channel_id, clerk_user_id) VALUES ('c', 'user_a')",
        "INSERT INTO {s}rooms (id, workspace_id) VALUES ('r', 'org_a')",
        "INSERT INTO {s}documents (id, room_id) VALUES ('d', 'r')",
        "INSERT INTO {s}code_files (id, room_id) VALUES ('f', 'r')",
        "INSERT INTO {s}whiteboards (id, room_id) VALUES ('b', 'r')",
        "INSERT INTO {s}meetings (id, room_id) VALUES ('t', 'r')",
    ] {
        db.sql(statement).await;
    }
    assert_eq!(db.sql("SELECT kind FROM {s}rooms").await, [Some("document".to_owned())]);
    let texts = "SELECT name FROM {s}channels WHERE id = 'c' UNION ALL SELECT body FROM {s}messages \
        UNION ALL SELECT name FROM {s}rooms UNION ALL SELECT title FROM {s}meetings";
    assert_eq!(db.sql(texts).await, vec![Some(String::new()); 4]);
    for (table, column) in [("channels", "created_at"), ("last_reads", "read_at"), ("documents", "created_at")] {
        let found = db.sql(&format!("SELECT CAST({column} AS text) FROM {{s}}{table} ORDER BY 1 DESC LIMIT 1")).await;
        let time = found[0].as_deref().unwrap_or_default();
        assert!(time.starts_with("20") && (!db.is_sqlite() || time.len() == 24 && time.ends_with('Z')), "{time}");
    }
    for (statement, words) in [
        ("INSERT INTO {s}rooms (id, workspace_id, kind) VALUES ('x', 'org_a', 'pool')", "check"),
        ("INSERT INTO {s}channels (id, workspace_id) VALUES ('x', 'org_none')", "foreign key"),
        ("INSERT INTO {s}messages (id, channel_id) VALUES ('x', 'none')", "foreign key"),
        ("INSERT INTO {s}documents (id, room_id) VALUES ('x', 'none')", "foreign key"),
        ("DELETE FROM {s}workspaces", "foreign key"),
        ("DELETE FROM {s}channels", "foreign key"),
        ("DELETE FROM {s}rooms", "foreign key"),
    ] {
        let refused = db.refused(statement).await.to_lowercase();
        assert!(refused.contains(words), "{statement}: {refused}");
    }
    // The copy goes on with the organization, whatever the application keeps.
    let said = teller.tell(&[("organization.deleted", 3, gone("organization", "org_a"))]).await;
    assert_eq!(said, ["put workspace org_a", "remove organization org_a"]);
    assert_eq!(channels(db).await.len(), 2);
}

async fn nothing_new_goes_below_what_has_ended(db: &Db) {
    let mut teller = Teller::new(db, PerOrganization).await;
    teller.put("org_a", 1, None).await;
    teller.put("org_b", 1, None).await;
    db.sql("INSERT INTO {s}rooms (id, workspace_id) VALUES ('mine', 'org_a'), ('other', 'org_b')").await;
    teller.end("org_a").await;
    for statement in [
        "INSERT INTO {s}channels (id, workspace_id) VALUES ('c', 'org_a')",
        "INSERT INTO {s}rooms (id, workspace_id) VALUES ('r', 'org_a')",
        "UPDATE {s}rooms SET workspace_id = 'org_a' WHERE id = 'other'",
        "UPDATE {s}channels SET workspace_id = 'org_a' WHERE id = 'org_b:general'",
    ] {
        let refused = db.refused(statement).await;
        assert!(refused.contains("the workspace has ended and is being deleted"), "{statement}: {refused}");
    }
    // What is there may still be changed, and go elsewhere.
    db.sql("UPDATE {s}rooms SET name = 'old', workspace_id = 'org_a' WHERE id = 'mine'").await;
    db.sql("UPDATE {s}rooms SET workspace_id = 'org_b' WHERE id = 'mine'").await;
}

/// No mode deletes what another has made: it rests, and wakes when its mode comes back.
async fn modes_follow_one_another(db: &Db) {
    let mut own = Teller::new(db, PerOrganization).await;
    own.put("org_a", 1, None).await;
    own.put("org_b", 1, Some("w")).await;
    own.tell(&[("user.created", 1, user("user_a", 1, "A", &json!({})))]).await;
    own.tell(&[("organizationMembership.created", 2, member("orgmem_a", "org_a", "user_a", 1, 2, "org:member"))]).await;
    let workspace = async || db.tables().await.users["user_a"].workspace_id.clone();
    assert_eq!(workspace().await.as_deref(), Some("org_a"));
    let settle = async |mode: WorkspaceMode| {
        let mut writer = db.store.clone().with_workspaces(mode).writer();
        writer.settle_workspaces(NOW).await.unwrap();
        let before = db.sequence().await;
        assert_eq!(writer.settle_workspaces(NOW).await.unwrap().changes, 0);
        assert_eq!(db.sequence().await, before, "what is settled stays quiet");
    };
    settle(Linked).await;
    assert_eq!(shown(db).await, ["org_a of nobody", "org_b of nobody", "w of org_b"]);
    assert_eq!((named(db, "org_a").await, workspace().await), (None, None));
    settle(Off).await;
    assert_eq!(shown(db).await, ["org_a of nobody", "org_b of nobody", "w of nobody"]);
    assert_eq!(named(db, "org_b").await.as_deref(), Some("w"));
    // Renamed while it rests.
    let mut off = Teller { db, writer: db.store.clone().with_workspaces(Off).writer(), number: 50 };
    off.put("org_a", 7, None).await;
    off.put("org_c", 7, None).await;
    settle(PerOrganization).await;
    assert_eq!(shown(db).await, ["org_a of org_a", "org_b of org_b", "org_c of org_c", "w of nobody"]);
    assert_eq!(rows(db).await["org_a"].name.as_deref(), Some("org_a at 7"));
    assert_eq!(workspace().await.as_deref(), Some("org_a"));
    assert_eq!(channels(db).await.len(), 3);
    // Also a resting one ends with its organization; a linked one that rests is nobody's.
    settle(Linked).await;
    let mut linked = Teller { db, writer: db.store.clone().with_workspaces(Linked).writer(), number: 80 };
    linked.end("org_a").await;
    settle(Off).await;
    let mut off = Teller { db, writer: db.store.clone().with_workspaces(Off).writer(), number: 90 };
    off.end("org_b").await;
    let expected = ["org_a of nobody +", "org_b of nobody +", "org_c of nobody", "w of nobody"];
    assert_eq!(shown(db).await, expected);
    // An organization that is linked to its own id has one workspace in either mode.
    settle(PerOrganization).await;
    let mut own = Teller { db, writer: db.store.writer(), number: 95 };
    own.put("org_c", 10, Some("org_c")).await;
    for mode in [Linked, PerOrganization, Off, Linked, Off, PerOrganization] {
        settle(mode).await;
        let expected = if mode == Off { "org_c of nobody" } else { "org_c of org_c" };
        assert_eq!(shown(db).await[2], expected, "{mode:?}");
    }
}

/// The rows that are held follow from the organizations alone, whatever came when.
async fn any_order_gives_the_same_in_each_mode(db: &Db) {
    let seed = Seed::of_run();
    drop(db.writer().await);
    for (mode, oracle) in
        WORKSPACE_MODES.into_iter().zip([Workspaces::PerOrganization, Workspaces::Linked, Workspaces::Off])
    {
        let mut writer = db.store.clone().with_workspaces(mode).writer();
        for number in 0..6 {
            let seed = seed.value() + number;
            let settings = Settings { ties: number % 2 == 0, start_ms: START, ..Settings::default() };
            let mut world = World::new(seed, settings);
            for _ in 0..40 {
                world.advance();
            }
            // Of the same links that many worlds use one would hold what another's organization has.
            clear(db).await;
            for batch in of_world(&shuffled(&world.take_events(), seed, 25)).chunks(17) {
                commit(&mut writer, batch).await;
            }
            // What has ended is deleted by the cascade, after which whoever names it begins anew.
            db.sql("DELETE FROM {s}channels WHERE workspace_id IN (SELECT id FROM {s}workspaces WHERE ended_at IS NOT NULL)").await;
            db.sql("DELETE FROM {s}workspaces WHERE ended_at IS NOT NULL").await;
            writer.settle_workspaces(NOW).await.unwrap();
            db.tables().await.assert_same_as(&world.truth_in(oracle));
        }
    }
}

async fn clear(db: &Db) {
    for table in [
        "channels",
        "workspaces",
        "users",
        "organizations",
        "organization_members",
        "organization_invitations",
        "registers",
        "webhook_deliveries",
    ] {
        db.sql(&format!("DELETE FROM {{s}}{table}")).await;
    }
}

const BEFORE: [(&str, &str, &str); 6] = [
    (
        "copy",
        include_str!("../../migrations/sqlite/0001_copy.sql"),
        include_str!("../../migrations/postgres/0001_copy.sql"),
    ),
    (
        "row_level_security",
        include_str!("../../migrations/sqlite/0002_row_level_security.sql"),
        include_str!("../../migrations/postgres/0002_row_level_security.sql"),
    ),
    (
        "reading",
        include_str!("../../migrations/sqlite/0003_reading.sql"),
        include_str!("../../migrations/postgres/0003_reading.sql"),
    ),
    (
        "provisional",
        include_str!("../../migrations/sqlite/0004_provisional.sql"),
        include_str!("../../migrations/postgres/0004_provisional.sql"),
    ),
    (
        "sweeps",
        include_str!("../../migrations/sqlite/0005_sweeps.sql"),
        include_str!("../../migrations/postgres/0005_sweeps.sql"),
    ),
    (
        "findings",
        include_str!("../../migrations/sqlite/0006_findings.sql"),
        include_str!("../../migrations/postgres/0006_findings.sql"),
    ),
];

/// A copy of schema 6 with organizations, and an application whose tables then hang on the workspaces.
async fn a_copy_from_before_is_brought_up(db: &Db) {
    if db.is_sqlite() {
        // The file is made by whoever writes first.
        db.create_file();
    } else {
        db.sql("CREATE SCHEMA faircopy").await;
    }
    db.sql(
        "CREATE TABLE {s}schema_migrations (version bigint PRIMARY KEY, name text NOT NULL, applied_at text NOT NULL)",
    )
    .await;
    for (number, (name, sqlite, postgres)) in BEFORE.iter().enumerate() {
        db.sql(if db.is_sqlite() { sqlite } else { postgres }).await;
        db.sql(&format!("INSERT INTO {{s}}schema_migrations VALUES ({}, '{name}', 'before')", number + 1)).await;
    }
    db.sql(
        "INSERT INTO {s}organizations (clerk_org_id, name, created_by, settings, workspace_id, provenance, created_at) VALUES \
         ('org_a', 'A', 'user_a', '{}', NULL, 'webhook', '2025-01-01T00:00:00.000Z'), \
         ('org_b', 'B', 'user_a', '{\"workspaceId\": \"w\"}', 'w', 'webhook', '2025-01-01T00:00:00.000Z'); \
         INSERT INTO {s}users (clerk_user_id, provenance) VALUES ('user_a', 'webhook'); \
         INSERT INTO {s}organization_members (clerk_org_id, clerk_user_id, provenance) VALUES ('org_a', 'user_a', 'webhook')",
    )
    .await;
    let mut writer = db.store.writer();
    let pending = db.store.pending_migrations().await.unwrap();
    assert_eq!(pending.first().map(|migration| (migration.version, migration.name)), Some((7, "workspaces")));
    assert_eq!(writer.migrate(NOW).await.unwrap(), pending);
    assert_eq!(writer.settle_workspaces(NOW).await.unwrap(), Settled { organizations: 2, changes: 4 });
    let said = ["put organization org_a", "put user user_a", "put workspace org_a", "put workspace org_b"];
    assert_eq!(db.said_since(0).await, said);
    assert_eq!(shown(db).await, ["org_a of org_a", "org_b of org_b"]);
    assert_eq!(channels(db).await, ["org_a:general=general", "org_b:general=general"]);
    assert_eq!((named(db, "org_a").await.as_deref(), named(db, "org_b").await.as_deref()), (Some("org_a"), Some("w")));
    assert_eq!(writer.settle_workspaces(NOW).await.unwrap(), Settled::default());

    let place = if db.is_sqlite() { "" } else { "public." };
    db.sql(&format!(
        "CREATE TABLE {place}boards (id text PRIMARY KEY, workspace_id text NOT NULL REFERENCES {{s}}workspaces (id)); \
         INSERT INTO {place}boards VALUES ('x', 'org_a')"
    ))
    .await;
    let refused = db.refused(&format!("INSERT INTO {place}boards VALUES ('y', 'org_none')")).await.to_lowercase();
    assert!(refused.contains("foreign key"), "{refused}");
    let news = [
        event("msg_1", "organization.updated", 1, &organization("org_a", 1, "Renamed", &json!({}))),
        event("msg_2", "organization.deleted", 2, &gone("organization", "org_b")),
        event("msg_3", "organization.deleted", 2, &gone("organization", "org_a")),
    ];
    for delivery in news {
        commit(&mut writer, &[delivery]).await;
    }
    assert_eq!(shown(db).await, ["org_a of org_a +", "org_b of org_b +"]);
}

/// More than one transaction takes, some with more members than follow at once; and a second start has nothing to do.
async fn many_are_settled_in_portions(db: &Db) {
    let mut off = Teller::new(db, Off).await;
    for first in (0..450).step_by(150) {
        let batch: Vec<_> = (first..first + 150)
            .map(|n| ("organization.created", 1, linked(&format!("org_{n:03}"), 1, None)))
            .collect();
        off.tell(&batch).await;
    }
    let people: Vec<String> = (0..700).map(|n| format!("('user_{n:04}', 'webhook')")).collect();
    db.sql(&format!("INSERT INTO {{s}}users (clerk_user_id, provenance) VALUES {}", people.join(", "))).await;
    for organization in ["org_000", "org_001", "org_002", "org_449"] {
        let pairs: Vec<String> = (0..700).map(|n| format!("('{organization}', 'user_{n:04}', 'webhook')")).collect();
        db.sql(&format!(
            "INSERT INTO {{s}}organization_members (clerk_org_id, clerk_user_id, provenance) VALUES {}",
            pairs.join(", ")
        ))
        .await;
    }
    let mut writer = db.store.writer();
    let settled = writer.settle_workspaces(NOW).await.unwrap();
    assert_eq!((settled.organizations, rows(db).await.len()), (450, 450));
    let lost = db.sql("SELECT clerk_user_id FROM {s}users WHERE workspace_id IS NULL").await;
    assert_eq!(lost, [], "whoever is a member of something");
    let before = db.sequence().await;
    assert_eq!(writer.settle_workspaces(NOW).await.unwrap(), Settled::default());
    assert_eq!(db.sequence().await, before);
    // Let go of all of them, and back.
    db.store.clone().with_workspaces(Off).writer().settle_workspaces(NOW).await.unwrap();
    assert!(rows(db).await.values().all(|row| row.clerk_org_id.is_none() && row.ended_at_ms.is_none()));
    writer.settle_workspaces(NOW).await.unwrap();
    assert!(rows(db).await.values().all(|row| row.clerk_org_id.as_ref() == Some(&row.id)));
}

fn caller(user: &str, organization: &str) -> Caller {
    Caller { user: UserId::parse(user).unwrap(), organization: Some(OrganizationId::parse(organization).unwrap()) }
}

async fn the_caller_reads_his_workspace(db: &Db) {
    let created = "organizationMembership.created";
    let mut own = Teller::new(db, PerOrganization).await;
    own.put("org_a", 1, None).await;
    own.put("org_b", 1, Some("w")).await;
    for (org, user, role) in
        [("org_a", "user_ada", "org:admin"), ("org_a", "user_ben", "org:member"), ("org_b", "user_cyd", "org:admin")]
    {
        own.tell(&[(created, 2, member(&format!("orgmem_{user}"), org, user, 1, 2, role))]).await;
    }
    let many = |table: &str| {
        let rows: Vec<String> = (0..1_001).map(|n| format!("('{table}{n:04}', 'org_b')")).collect();
        format!("INSERT INTO {{s}}{table} (id, workspace_id) VALUES {}", rows.join(", "))
    };
    db.sql(&many("channels")).await;
    db.sql("INSERT INTO {s}rooms (id, workspace_id, name, kind) VALUES ('r', 'org_a', 'Plan', 'code')").await;
    let read = async |store: &Store, user: &str, org: &str| store.workspace(&caller(user, org)).await.unwrap();
    let ada = read(&db.store, "user_ada", "org_a").await.unwrap();
    assert_eq!(
        (ada.id.as_deref(), ada.role.as_str(), ada.name.as_deref()),
        (Some("org_a"), "owner", Some("org_a at 1"))
    );
    assert_eq!((ada.owner_id.as_deref(), ada.clerk_org_id.as_str()), (Some("user_boss"), "org_a"));
    assert_eq!(
        ada.channels.iter().map(|c| (c.id.as_str(), c.name.as_str())).collect::<Vec<_>>(),
        [("org_a:general", "general")]
    );
    assert_eq!(ada.rooms.iter().map(|r| (r.id.as_str(), r.kind.as_str())).collect::<Vec<_>>(), [("r", "code")]);
    assert!(!ada.channels_truncated && !ada.rooms_truncated);
    assert_eq!(read(&db.store, "user_ben", "org_a").await.unwrap().role, "member");
    assert_eq!(read(&db.store, "user_ben", "org_b").await, None);
    // Its own, whatever it is linked to.
    let cyd = read(&db.store, "user_cyd", "org_b").await.unwrap();
    assert_eq!((cyd.id.as_deref(), cyd.channels.len(), cyd.channels_truncated), (Some("org_b"), 1_000, true));
    assert_eq!(cyd.channels[0].id, "org_b:general");
    // Two that are linked to one share it.
    let shared = db.store.clone().with_workspaces(Linked);
    shared.writer().settle_workspaces(NOW).await.unwrap();
    let mut linked_teller = Teller { db, writer: shared.writer(), number: 50 };
    let cyd = read(&shared, "user_cyd", "org_b").await.unwrap();
    assert_eq!((cyd.id.as_deref(), cyd.channels.len()), (Some("w"), 0));
    let none = read(&shared, "user_ada", "org_a").await.unwrap();
    assert_eq!((none.id, none.clerk_org_id.as_str(), none.rooms.len()), (None, "org_a", 0));
    linked_teller
        .tell(&[("organization.updated", 9, {
            let mut o = younger("org_a", 9, Some("w"));
            o["updated_at"] = json!(at(9));
            o
        })])
        .await;
    let ada = read(&shared, "user_ada", "org_a").await.unwrap();
    assert_eq!((ada.id.as_deref(), ada.clerk_org_id.as_str(), ada.role.as_str()), (Some("w"), "org_b", "owner"));
    // What has ended is shown to nobody.
    db.sql("UPDATE {s}workspaces SET ended_at = created_at WHERE id = 'w'").await;
    let ada = read(&shared, "user_ada", "org_a").await.unwrap();
    assert_eq!((ada.id.as_deref(), ada.clerk_org_id.as_str()), (Some("w"), "org_a"));
}

//! `status --check`: each fault that can be planted is found, and nothing else is.

use std::path::PathBuf;

use faircopy_core::Millis;
use faircopy_store::{Store, Validated};
use faircopy_testkit::seed::Seed;
use faircopy_world::{Settings, World};
use serde_json::json;

use crate::db::{Db, commit, deliver};
use crate::provisional::{learn, token};
use crate::say::{NOW, START, at, event, gone, invitation, member, of_world, organization, user};

on_both_engines!(
    in english;
    a_whole_copy_has_no_finding,
    every_planted_fault_is_found_alone,
    what_is_missing_and_what_is_late_is_found,
    content_without_a_parent_is_found,
    no_key_can_be_twice,
    examples_are_few_and_in_order,
    the_queries_run_as_they_are_shown,
);

/// The findings alone: check and examples.
fn findings(checks: &[Validated]) -> Vec<(&'static str, Vec<&str>)> {
    checks
        .iter()
        .filter(|check| check.count > 0)
        .map(|check| (check.check, check.examples.iter().map(String::as_str).collect()))
        .collect()
}

async fn validate(db: &Db, now: Millis) -> Vec<Validated> {
    let checks = db.store.validate(now).await.unwrap();
    for check in &checks {
        assert_eq!(usize::try_from(check.count.min(5)), Ok(check.examples.len()), "{check:?}");
        assert!(!check.finds.is_empty() && check.advice.ends_with('.'), "{check:?}");
    }
    checks
}

#[track_caller]
fn assert_found(checks: &[Validated], expected: &[(&'static str, &[&str])]) {
    let expected: Vec<_> = expected.iter().map(|(check, examples)| (*check, examples.to_vec())).collect();
    assert_eq!(findings(checks), expected);
}

/// A small copy: two organizations, three users, a member who has left, one who is gone, a deleted organization.
async fn fill(db: &Db) {
    let mut writer = db.writer().await;
    let created = "organizationMembership.created";
    let link = json!({"workspaceId": "w_a"});
    let batch = [
        event("msg_1", "organization.created", 1, &organization("org_a", 1, "A", &link)),
        event("msg_2", "organization.created", 1, &organization("org_b", 1, "B", &json!({}))),
        event("msg_3", "organization.created", 1, &organization("org_gone", 1, "Gone", &json!({}))),
        event("msg_4", "user.created", 1, &user("user_a", 1, "A", &json!({}))),
        event("msg_5", "user.created", 1, &user("user_b", 1, "B", &json!({"workspaceId": "w_own"}))),
        event("msg_6", "user.created", 1, &user("user_c", 1, "C", &json!({}))),
        event("msg_7", "user.created", 1, &user("user_gone", 1, "Gone", &json!({}))),
        event("msg_8", created, 2, &member("orgmem_aa", "org_a", "user_a", 1, 2, "org:admin")),
        event("msg_9", created, 2, &member("orgmem_ab", "org_a", "user_b", 1, 2, "org:member")),
        event("msg_10", created, 2, &member("orgmem_bc", "org_b", "user_c", 1, 2, "org:member")),
        event("msg_11", created, 2, &member("orgmem_ac", "org_a", "user_c", 1, 2, "org:member")),
        event("msg_12", created, 2, &member("orgmem_gg", "org_gone", "user_gone", 1, 2, "org:member")),
        event("msg_13", "organizationInvitation.created", 1, &invitation("orginv_a", "org_a", 1, 9_999_999, "pending")),
        event(
            "msg_14",
            "organizationMembership.deleted",
            3,
            &member("orgmem_ac", "org_a", "user_c", 1, 3, "org:member"),
        ),
        event("msg_15", "organization.deleted", 4, &gone("organization", "org_gone")),
        event("msg_16", "user.deleted", 4, &gone("user", "user_gone")),
    ];
    commit(&mut writer, &batch).await;
}

async fn a_whole_copy_has_no_finding(db: &Db) {
    let mut writer = db.writer().await;
    assert_found(&validate(db, NOW).await, &[]);
    let mut world = World::new(Seed::of_run().value(), Settings { start_ms: START, ..Settings::default() });
    let mut events = Vec::new();
    while events.len() < 800 {
        world.advance();
        events.extend(world.take_events());
    }
    for batch in of_world(&events).chunks(100) {
        commit(&mut writer, batch).await;
    }
    learn(&mut writer, token("org_token", "user_token", 1)).await;
    let now = Millis(at(1));
    while writer.expire_invitations(now).await.unwrap() > 0 {}
    assert_found(&validate(db, now).await, &[]);
    fill(db).await;
    assert_found(&validate(db, now).await, &[]);
}

/// Each statement damages a whole copy in one way, and is undone.
async fn every_planted_fault_is_found_alone(db: &Db) {
    fill(db).await;
    let check = async |damage: &str, expected: &[(&'static str, &[&str])], repair: &str| {
        db.sql(damage).await;
        let found = validate(db, NOW).await;
        assert_eq!(findings(&found), expected.iter().map(|(c, e)| (*c, e.to_vec())).collect::<Vec<_>>(), "{damage}");
        db.sql(repair).await;
        assert_eq!(findings(&validate(db, NOW).await), [], "{repair}");
    };
    let move_table = |table: &str, key: &str, from: &str, to: &str| {
        format!("UPDATE {{s}}{table} SET {key} = '{to}' WHERE {key} = '{from}'")
    };
    // The row and its register move together, so that only what hangs on them is found.
    let renamed = |table: &str, key: &str, from: &str, to: &str| {
        format!("{}; {}", move_table(table, key, from, to), move_table("registers", "subject", from, to))
    };
    check(
        &renamed("organizations", "clerk_org_id", "org_b", "org_x"),
        &[
            ("member-without-organization", &["org_b/user_c"]),
            ("workspace-without-meaning", &["user_c"]),
            ("organization-without-workspace", &["org_x"]),
            ("workspace-without-organization", &["org_b"]),
        ],
        &renamed("organizations", "clerk_org_id", "org_x", "org_b"),
    )
    .await;
    check(
        &renamed("users", "clerk_user_id", "user_c", "user_x"),
        &[("member-without-user", &["org_b/user_c"]), ("workspace-without-meaning", &["user_x"])],
        &renamed("users", "clerk_user_id", "user_x", "user_c"),
    )
    .await;
    check(
        "UPDATE {s}organization_invitations SET clerk_org_id = 'org_x'",
        &[("invitation-without-organization", &["orginv_a"])],
        "UPDATE {s}organization_invitations SET clerk_org_id = 'org_a'",
    )
    .await;
    check(
        "UPDATE {s}users SET workspace_id = 'w_other'",
        &[("workspace-without-meaning", &["user_a", "user_b", "user_c"])],
        "UPDATE {s}users SET workspace_id = CASE clerk_user_id WHEN 'user_a' THEN 'w_a' WHEN 'user_b' THEN 'w_own' ELSE 'org_b' END",
    )
    .await;
    check(
        "UPDATE {s}workspaces SET clerk_org_id = NULL WHERE id = 'org_a'",
        &[("organization-without-workspace", &["org_a"])],
        "UPDATE {s}workspaces SET clerk_org_id = 'org_a' WHERE id = 'org_a'",
    )
    .await;
    check(
        "INSERT INTO {s}workspaces (id, clerk_org_id, is_linked) VALUES ('w_1', 'org_gone', true), ('w_2', NULL, true); \
         INSERT INTO {s}workspaces (id, ended_at) VALUES ('org_ended', '2025-01-01T00:00:00.000Z')",
        &[("workspace-without-organization", &["w_1"])],
        "DELETE FROM {s}workspaces WHERE id IN ('w_1', 'w_2', 'org_ended')",
    )
    .await;
    check(
        "UPDATE {s}organization_members SET clerk_membership_id = 'orgmem_aa' WHERE clerk_user_id = 'user_b'; \
         UPDATE {s}registers SET generation_id = 'orgmem_aa' WHERE subject = 'org_a/user_b'",
        &[("duplicate-membership", &["orgmem_aa"])],
        "UPDATE {s}organization_members SET clerk_membership_id = 'orgmem_ab' WHERE clerk_user_id = 'user_b'; \
         UPDATE {s}registers SET generation_id = 'orgmem_ab' WHERE subject = 'org_a/user_b'",
    )
    .await;
    let bury = |at: &str| {
        format!("UPDATE {{s}}registers SET tombstone_at = {at} WHERE subject IN ('org_b', 'user_b', 'org_a/user_a')")
    };
    check(
        &bury("7"),
        &[("shown-although-ended", &["org_a/user_a", "org_a/user_b", "org_b", "org_b/user_c", "user_b"])],
        &bury("NULL"),
    )
    .await;
    check(
        "UPDATE {s}registers SET tombstone_at = 7 WHERE subject = 'org_a'",
        &[("shown-although-ended", &["org_a", "org_a/user_a", "org_a/user_b", "orginv_a"])],
        "UPDATE {s}registers SET tombstone_at = NULL WHERE subject = 'org_a'",
    )
    .await;
    let wrong = "1999-01-01T00:00:00.000Z";
    for (table, key, id) in [
        ("users", "clerk_user_id", "user_a"),
        ("organizations", "clerk_org_id", "org_b"),
        ("organization_invitations", "clerk_invitation_id", "orginv_a"),
    ] {
        let set = |time: &str| format!("UPDATE {{s}}{table} SET updated_at = {time} WHERE {key} = '{id}'");
        let (right, none) = (format!("'{}'", Millis(at(1))), "NULL");
        check(&set(&format!("'{wrong}'")), &[("row-of-another-version", &[id])], &set(&right)).await;
        check(&set(none), &[("row-of-another-version", &[id])], &set(&right)).await;
    }
    check(
        "UPDATE {s}organization_members SET clerk_membership_id = 'orgmem_old' WHERE clerk_user_id = 'user_a'",
        &[("row-of-another-version", &["org_a/user_a"])],
        "UPDATE {s}organization_members SET clerk_membership_id = 'orgmem_aa' WHERE clerk_user_id = 'user_a'",
    )
    .await;
    let as_user = |table: &str| format!("UPDATE {{s}}registers SET subject = {table}");
    check(
        &format!("{} WHERE subject = 'user_a'", as_user("'orgmem_aside'")),
        &[("row-without-register", &["user_a"])],
        &format!("{} WHERE subject = 'orgmem_aside'", as_user("'user_a'")),
    )
    .await;
    let last = db.sequence().await;
    check(
        "UPDATE {s}changes SET sequence = sequence + 1000; UPDATE {s}changes SET sequence = sequence - 998 WHERE sequence > 1003; \
         UPDATE {s}feed SET sequence = sequence + 2; UPDATE {s}changes SET sequence = sequence - 1000 WHERE sequence > 1000",
        &[("feed-gap", &["4"])],
        "UPDATE {s}changes SET sequence = sequence + 1000 WHERE sequence > 3; \
         UPDATE {s}changes SET sequence = sequence - 1002 WHERE sequence > 1000; UPDATE {s}feed SET sequence = sequence - 2",
    )
    .await;
    check(
        "UPDATE {s}feed SET sequence = sequence + 1",
        &[("feed-counter", &[&(last + 1).to_string()])],
        "UPDATE {s}feed SET sequence = sequence - 1",
    )
    .await;
    check(
        "UPDATE {s}webhook_deliveries SET outcome = 'quarantined' WHERE svix_id IN ('msg_1', 'msg_16')",
        &[("delivery-quarantined", &["msg_1", "msg_16"])],
        "UPDATE {s}webhook_deliveries SET outcome = 'applied'",
    )
    .await;
}

/// Rows that are not there, tokens that nothing has confirmed, invitations that nothing lets expire.
async fn what_is_missing_and_what_is_late_is_found(db: &Db) {
    fill(db).await;
    let mut writer = db.writer().await;
    learn(&mut writer, token("org_t", "user_t", 1)).await;
    let hour = 3_600_000;
    assert_found(&validate(db, Millis(at(1) + hour)).await, &[]);
    let late = [("provisional-for-long", &["org_t", "org_t/user_t", "user_t"][..])];
    assert_found(&validate(db, Millis(at(1) + hour + 1)).await, &late);
    let now = Millis(at(1));
    let due = at(9_999_999);
    assert_found(&validate(db, Millis(due)).await[14..], &[]);
    let found = validate(db, Millis(due + 300_001)).await;
    assert_found(&found, &[late[0], ("invitation-past-its-time", &["orginv_a"])]);
    writer.expire_invitations(Millis(due)).await.unwrap();
    assert_found(&validate(db, Millis(due + 300_001)).await, &late);

    // A provisional pair whose organization was not found is shown by nothing, and rightly so.
    for statement in [
        "DELETE FROM {s}organization_members WHERE clerk_user_id IN ('user_a', 'user_t')",
        "DELETE FROM {s}organization_invitations",
        "DELETE FROM {s}users WHERE clerk_user_id IN ('user_b', 'user_t')",
        "DELETE FROM {s}organization_members WHERE clerk_user_id = 'user_b'",
        "DELETE FROM {s}organizations WHERE clerk_org_id = 'org_t'",
    ] {
        db.sql(statement).await;
    }
    let found = validate(db, now).await;
    let missing = found.iter().find(|check| check.check == "row-missing").unwrap();
    assert_eq!(missing.count, 7, "{missing:?}");
    assert_eq!(missing.examples, ["org_a/user_a", "org_a/user_b", "org_t", "org_t/user_t", "orginv_a"]);
    let names: Vec<_> = findings(&found).into_iter().map(|(check, _)| check).collect();
    let expected = ["workspace-without-meaning", "workspace-without-organization", "row-missing"];
    assert_eq!(names, expected, "a workspace follows from a membership");

    // A replay heals what Clerk has said.
    let deliveries = [
        event("msg_5", "user.created", 1, &user("user_b", 1, "B", &json!({"workspaceId": "w_own"}))),
        event("msg_8", "organizationMembership.created", 2, &member("orgmem_aa", "org_a", "user_a", 1, 2, "org:admin")),
        event(
            "msg_9",
            "organizationMembership.created",
            2,
            &member("orgmem_ab", "org_a", "user_b", 1, 2, "org:member"),
        ),
    ];
    for delivery in deliveries {
        deliver(&mut writer, delivery).await;
    }
    learn(&mut writer, token("org_t", "user_t", 2)).await;
    let found = validate(db, now).await;
    assert_found(&found, &[("row-missing", &["orginv_a"])]);
}

/// Foreign keys forbid it, where they are switched on.
async fn content_without_a_parent_is_found(db: &Db) {
    fill(db).await;
    let below = ["messages", "last_reads", "documents", "code_files", "whiteboards", "meetings"];
    if !db.is_sqlite() {
        let keys = "SELECT conrelid::regclass::text || ' ' || conname FROM pg_constraint \
            WHERE contype = 'f' AND connamespace = 'faircopy'::regnamespace";
        for name in db.sql(keys).await.into_iter().flatten() {
            let (table, constraint) = name.split_once(' ').unwrap();
            db.sql(&format!("ALTER TABLE {table} DROP CONSTRAINT {constraint}")).await;
        }
    }
    let mut damage = "INSERT INTO {s}channels (id, workspace_id) VALUES ('c', 'w_none'); \
        INSERT INTO {s}rooms (id, workspace_id) VALUES ('r', 'w_none');"
        .to_owned();
    for table in below {
        damage += &match table {
            "messages" => format!("INSERT INTO {{s}}{table} (id, channel_id) VALUES ('{table}', 'none');"),
            "last_reads" => "INSERT INTO {s}last_reads (channel_id, clerk_user_id) VALUES ('none', 'user_a');".into(),
            _ => format!("INSERT INTO {{s}}{table} (id, room_id) VALUES ('{table}', 'none');"),
        };
    }
    let off = if db.is_sqlite() { "PRAGMA foreign_keys = OFF; " } else { "" };
    db.sql(&format!("{off}{damage}")).await;
    let found = validate(db, NOW).await;
    assert_found(&found, &[("content-without-parent", &["c", "code_files", "documents", "meetings", "messages"])]);
    assert_eq!(found.iter().map(|check| check.count).max(), Some(8));
}

/// Two rows of one key are refused by the database itself, so that the check for them can only find a damaged index.
async fn no_key_can_be_twice(db: &Db) {
    fill(db).await;
    let tables = [
        ("users", "clerk_user_id"),
        ("organizations", "clerk_org_id"),
        ("organization_members", "clerk_org_id, clerk_user_id"),
        ("organization_invitations", "clerk_invitation_id"),
    ];
    for (table, key) in tables {
        let unique = if db.is_sqlite() {
            format!(
                "SELECT group_concat(name, ', ') FROM (SELECT name FROM pragma_table_info('{table}') \
                 WHERE pk > 0 ORDER BY pk)"
            )
        } else {
            format!(
                "SELECT string_agg(a.attname, ', ' ORDER BY array_position(i.indkey::int[], a.attnum::int)) \
                 FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) \
                 WHERE i.indrelid = 'faircopy.{table}'::regclass AND i.indisprimary AND i.indisvalid"
            )
        };
        assert_eq!(db.sql(&unique).await, [Some(key.to_owned())], "{table}");
    }
    if db.is_sqlite() {
        return;
    }
    for table in ["users", "organization_members"] {
        db.sql(&format!("ALTER TABLE {{s}}{table} DROP CONSTRAINT {table}_pkey")).await;
        db.sql(&format!("INSERT INTO {{s}}{table} SELECT * FROM {{s}}{table} WHERE clerk_user_id = 'user_a'")).await;
    }
    let found = validate(db, NOW).await;
    assert_eq!(findings(&found)[0], ("duplicate-key", vec!["org_a/user_a", "user_a"]));
}

async fn examples_are_few_and_in_order(db: &Db) {
    fill(db).await;
    for number in (10..30).rev() {
        db.sql(&format!(
            "INSERT INTO {{s}}organization_members (clerk_org_id, clerk_user_id, provenance) VALUES ('org_a', 'user_{number}', 'api')"
        ))
        .await;
    }
    let found = validate(db, NOW).await;
    let five = ["org_a/user_10", "org_a/user_11", "org_a/user_12", "org_a/user_13", "org_a/user_14"];
    assert_found(&found, &[("member-without-user", &five), ("row-without-register", &five)]);
    assert!(found.iter().all(|check| check.count == 0 || check.count == 20));
}

/// What the document shows is what is run, and people can run it.
async fn the_queries_run_as_they_are_shown(db: &Db) {
    fill(db).await;
    let page = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/validation.md");
    let reference = Store::validation_reference();
    if !std::fs::read_to_string(&page).unwrap_or_default().ends_with(&reference) {
        let made = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("validation.md");
        std::fs::write(&made, &reference).unwrap();
        panic!("docs/validation.md does not end with the queries that are run; they are in {}", made.display());
    }
    let queries = Store::validation_queries(db.store.address());
    assert_eq!(queries.len(), validate(db, NOW).await.len());
    for (check, query) in queries {
        assert!(reference.contains(&query), "{check}");
        // The histories here lie in the past, and so does the invitation's time.
        let found = if check == "invitation-past-its-time" { vec![Some("orginv_a".to_owned())] } else { vec![] };
        assert_eq!(db.sql(&query).await, found, "{check}");
    }
}

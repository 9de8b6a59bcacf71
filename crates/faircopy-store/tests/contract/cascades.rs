//! Jobs that delete what hangs on an organization or a user: begun with the tombstone, carried out in batches, each under the
//! fence of the lease and the job's own state.

use faircopy_core::WorkspaceMode;
use faircopy_core::cascade::job::{Event, Rules};
use faircopy_core::cascade::tree::{Declared, Hang, Node, Parent, Root, Target};
use faircopy_core::cascade::{Clerk, State, Tree};
use faircopy_store::{
    Batch, Cascade, Ended, Error, Fence, Mandate, Removed, Step, StepState, Subject, Tried, Which, Writer,
};
use serde_json::json;

use crate::db::{Db, deliver};
use crate::say::{NOW, event, gone, organization, user};

on_both_engines!(
    a_job_begins_with_the_tombstone_and_once,
    an_ended_workspace_goes_with_its_content,
    rows_with_children_wait_for_them,
    whoever_lost_the_lease_deletes_nothing,
    a_cancelled_job_deletes_nothing,
    a_job_is_changed_only_as_it_was_read,
    what_lives_again_is_left_alone,
    a_cancelled_deletion_leaves_its_workspace_to_an_heir,
    keys_are_compared_in_their_own_types,
    what_a_user_leaves_goes_with_the_user,
    steps_are_due_one_after_another,
    a_provisional_organization_that_comes_back_keeps_its_workspace,
    receipts_are_kept_and_forgotten,
);

const LEASE: &str = "cascade";
const MINUTE: i64 = 60_000;
const RULES: Rules = Rules { hold_ms: 0, second_sweep_ms: 0 };

/// A database with one workspace, a channel with messages and read marks in it, and a room with documents.
async fn workspace(db: &Db) -> (Writer, Fence) {
    let mut writer = db.writer().await;
    deliver(&mut writer, event("msg_1", "organization.created", 1, &organization("org_1", 1, "Acme", &json!({}))))
        .await;
    deliver(&mut writer, event("msg_2", "organization.created", 1, &organization("org_2", 1, "Other", &json!({}))))
        .await;
    for org in ["org_1", "org_2"] {
        db.sql(&format!("INSERT INTO {{s}}channels (id, workspace_id, name) VALUES ('c-{org}', '{org}', 'talk')"))
            .await;
        for number in 0..3 {
            db.sql(&format!("INSERT INTO {{s}}messages (id, channel_id) VALUES ('m{number}-{org}', 'c-{org}')")).await;
        }
        db.sql(&format!("INSERT INTO {{s}}last_reads (channel_id, clerk_user_id) VALUES ('c-{org}', 'user_1')")).await;
        db.sql(&format!("INSERT INTO {{s}}rooms (id, workspace_id) VALUES ('r-{org}', '{org}')")).await;
        db.sql(&format!("INSERT INTO {{s}}documents (id, room_id) VALUES ('d-{org}', 'r-{org}')")).await;
    }
    let fence = writer.take_lease(LEASE, "one", NOW, MINUTE).await.unwrap().unwrap();
    (writer, fence)
}

async fn delete(writer: &mut Writer, id: &str) {
    deliver(writer, event(&format!("msg_gone_{id}"), "organization.deleted", 5, &gone("organization", id))).await;
}

async fn job(db: &Db, subject: &str) -> Cascade {
    db.store.cascade(subject).await.unwrap().unwrap()
}

/// Tells a job what happened.
async fn tell(db: &Db, writer: &mut Writer, fence: &Fence, subject: &str, what: Event) -> Cascade {
    let before = job(db, subject).await;
    let after = Cascade { job: before.job.after(what, NOW, &RULES).unwrap(), ..before.clone() };
    assert!(writer.change_cascade(&before, &after, Some(fence)).await.unwrap());
    after
}

/// A job whose hold is over and of which Clerk says that it is right.
async fn deleting(db: &Db, writer: &mut Writer, fence: &Fence, subject: &str) -> Cascade {
    let looked = Event::Looked { clerk: Clerk::Gone, burst: false, chance: 0 };
    let after = tell(db, writer, fence, subject, looked).await;
    assert_eq!(after.job.state, State::Deleting);
    after
}

fn mandate<'a>(cascade: &'a Cascade, workspaces: &'a [String], fence: &'a Fence) -> Mandate<'a> {
    Mandate { cascade, workspaces, fence, without_key: &[], now: NOW }
}

fn node<'a>(tree: &'a Tree, table: &str) -> (&'a Node, &'a Hang) {
    let node = tree.order().iter().find(|node| node.name.table() == table).unwrap();
    (node, &node.hangs[0])
}

/// Deletes everything below these roots as the worker does, and counts the batches.
async fn clear(db: &Db, writer: &mut Writer, mandate: Mandate<'_>, tree: &Tree, parent: &Parent, keys: &[String]) {
    for (node, hang) in tree.hanging_on(parent) {
        let name = Parent::Table(node.name.clone());
        let below: Vec<_> = tree.hanging_on(&name).collect();
        if below.is_empty() {
            let batch = writer.delete_rows(mandate, node, Which::HangingOn(hang, keys)).await.unwrap();
            assert!(matches!(batch, Batch::Deleted(_)), "{batch:?}");
            continue;
        }
        let found = db.store.hanging_on(node, hang, keys, 100).await.unwrap();
        Box::pin(clear(db, writer, mandate, tree, &name, &found)).await;
        let batch = writer.delete_rows(mandate, node, Which::Named(&found, &below)).await.unwrap();
        assert_eq!(batch, Batch::Deleted(i64::try_from(found.len()).unwrap()));
    }
}

async fn count(db: &Db, table: &str) -> i64 {
    let rows = db.sql(&format!("SELECT CAST(count(*) AS text) FROM {{s}}{table}")).await;
    rows[0].as_deref().unwrap().parse().unwrap()
}

async fn a_job_begins_with_the_tombstone_and_once(db: &Db) {
    let (mut writer, _) = workspace(db).await;
    assert_eq!(db.store.cascade("org_1").await.unwrap(), None);
    delete(&mut writer, "org_1").await;
    let begun = job(db, "org_1").await;
    assert_eq!(
        (begun.kind, begun.workspace_id.as_deref(), begun.name.as_deref()),
        (Subject::Organization, Some("org_1"), Some("Acme"))
    );
    assert_eq!((begun.job.state, begun.job.created_at, begun.job.due_at), (State::Waiting, NOW, Some(NOW)));
    let ended = db.sql("SELECT id FROM {s}workspaces WHERE ended_at IS NOT NULL").await;
    assert_eq!(ended, [Some("org_1".to_owned())]);
    assert_eq!(db.store.cascades_due(NOW, 10).await.unwrap(), std::slice::from_ref(&begun));
    assert_eq!(db.store.cascades_due(NOW.plus(-1), 10).await.unwrap(), []);
    // The same again, and an event of another name for the same: the job is there.
    for svix_id in ["msg_gone_org_1", "msg_again"] {
        deliver(&mut writer, event(svix_id, "organization.deleted", 6, &gone("organization", "org_1"))).await;
    }
    assert_eq!(job(db, "org_1").await, begun);
    assert_eq!(db.store.cascades_before(None, false, 10).await.unwrap(), [begun]);
}

async fn an_ended_workspace_goes_with_its_content(db: &Db) {
    let tree = Tree::built_in();
    let (mut writer, fence) = workspace(db).await;
    delete(&mut writer, "org_1").await;
    let cascade = deleting(db, &mut writer, &fence, "org_1").await;
    let workspaces = db.store.ended_workspaces(&cascade).await.unwrap();
    assert_eq!(workspaces, ["org_1"]);
    let mandate = mandate(&cascade, &workspaces, &fence);
    let root = Parent::Root(Root::Workspace);
    clear(db, &mut writer, mandate, &tree, &root, &workspaces).await;
    let before = db.feed().await.len();
    let after = Cascade { job: cascade.job.after(Event::RowsGone, NOW, &RULES).unwrap(), ..cascade.clone() };
    let hanging: Vec<_> = tree.hanging_on(&root).collect();
    assert_eq!(writer.end_rows(mandate, &hanging, &after).await.unwrap(), Ended::Gone);
    assert_eq!(job(db, "org_1").await.job.state, State::Calling);
    let entries = &db.feed().await[before..];
    assert_eq!(entries.len(), 1);
    assert_eq!((entries[0].entity.as_str(), entries[0].operation.as_str()), ("workspace", "remove"));
    // The neighbour has lost nothing (I11).
    for (table, left) in
        [("workspaces", 1), ("channels", 2), ("messages", 3), ("last_reads", 1), ("rooms", 1), ("documents", 1)]
    {
        assert_eq!(count(db, table).await, left, "{table}");
    }
    let removed = |table: &str, rows| Removed { table: format!("faircopy.{table}"), rows };
    let expected = [
        removed("channels", 2),
        removed("documents", 1),
        removed("last_reads", 1),
        removed("messages", 3),
        removed("rooms", 1),
        removed("workspaces", 1),
    ];
    assert_eq!(db.store.cascade_removed("org_1").await.unwrap(), expected);
    let due = db.store.steps_due("liveblocks", NOW, 10).await.unwrap();
    let ids: Vec<&str> = due.iter().map(|step| step.external_id.as_str()).collect();
    assert_eq!(ids, ["doc:d-org_1", "room:r-org_1"]);
}

async fn rows_with_children_wait_for_them(db: &Db) {
    let tree = Tree::built_in();
    let (mut writer, fence) = workspace(db).await;
    delete(&mut writer, "org_1").await;
    let cascade = deleting(db, &mut writer, &fence, "org_1").await;
    let workspaces = ["org_1".to_owned()];
    let mandate = mandate(&cascade, &workspaces, &fence);
    let (channels, _) = node(&tree, "channels");
    let name = Parent::Table(channels.name.clone());
    let below: Vec<_> = tree.hanging_on(&name).collect();
    let keys = ["c-org_1".to_owned(), "org_1:general".to_owned()];
    let batch = writer.delete_rows(mandate, channels, Which::Named(&keys, &below)).await.unwrap();
    assert_eq!(batch, Batch::HasChildren);
    assert_eq!(count(db, "channels").await, 4);
    let hanging: Vec<_> = tree.hanging_on(&Parent::Root(Root::Workspace)).collect::<Vec<_>>();
    let after = Cascade { job: cascade.job.after(Event::RowsGone, NOW, &RULES).unwrap(), ..cascade.clone() };
    assert_eq!(writer.end_rows(mandate, &hanging, &after).await.unwrap(), Ended::HasChildren);
    assert_eq!(job(db, "org_1").await, cascade, "nothing was committed");
    assert_eq!(db.store.cascade_removed("org_1").await.unwrap(), []);
}

async fn whoever_lost_the_lease_deletes_nothing(db: &Db) {
    let tree = Tree::built_in();
    let (mut writer, lost) = workspace(db).await;
    delete(&mut writer, "org_1").await;
    let cascade = deleting(db, &mut writer, &lost, "org_1").await;
    let mut other = db.store.writer();
    let newest = other.take_lease(LEASE, "other", NOW.plus(MINUTE), MINUTE).await.unwrap().unwrap();
    let workspaces = ["org_1".to_owned()];
    let (messages, hang) = node(&tree, "messages");
    let which = ["c-org_1".to_owned()];
    let is_lost = |error: Error| matches!(error, Error::LeaseLost(LEASE));
    let batch =
        writer.delete_rows(mandate(&cascade, &workspaces, &lost), messages, Which::HangingOn(hang, &which)).await;
    assert!(is_lost(batch.unwrap_err()));
    let after = Cascade { job: cascade.job.after(Event::RowsGone, NOW, &RULES).unwrap(), ..cascade.clone() };
    assert!(is_lost(writer.end_rows(mandate(&cascade, &workspaces, &lost), &[], &after).await.unwrap_err()));
    assert!(is_lost(writer.end_rows(mandate(&cascade, &[], &lost), &[], &after).await.unwrap_err()));
    assert!(is_lost(writer.change_cascade(&cascade, &after, Some(&lost)).await.unwrap_err()));
    let step = Step { subject: "org_1".into(), target: "liveblocks".into(), external_id: "doc:1".into(), attempts: 0 };
    let tried = Tried { step, state: StepState::Gone, due_at: NOW, was_called: true, error: None };
    assert!(is_lost(writer.settle_steps(&[tried], NOW, &lost).await.unwrap_err()));
    assert!(is_lost(writer.drop_cascade("org_1", &lost).await.unwrap_err()));
    assert!(is_lost(writer.revive(&cascade, NOW, &lost).await.unwrap_err()));
    assert_eq!((count(db, "messages").await, job(db, "org_1").await), (6, cascade.clone()));
    let batch =
        other.delete_rows(mandate(&cascade, &workspaces, &newest), messages, Which::HangingOn(hang, &which)).await;
    assert_eq!(batch.unwrap(), Batch::Deleted(3));
}

async fn a_cancelled_job_deletes_nothing(db: &Db) {
    let tree = Tree::built_in();
    let (mut writer, fence) = workspace(db).await;
    delete(&mut writer, "org_1").await;
    let cascade = deleting(db, &mut writer, &fence, "org_1").await;
    let cancelled = Cascade { job: cascade.job.after(Event::Cancel, NOW, &RULES).unwrap(), ..cascade.clone() };
    // An operator has no lease.
    assert!(db.store.writer().change_cascade(&cascade, &cancelled, None).await.unwrap());
    let workspaces = ["org_1".to_owned()];
    let (messages, hang) = node(&tree, "messages");
    let which = ["c-org_1".to_owned()];
    let batch =
        writer.delete_rows(mandate(&cascade, &workspaces, &fence), messages, Which::HangingOn(hang, &which)).await;
    assert_eq!(batch.unwrap(), Batch::Stopped);
    let after = Cascade { job: cascade.job.after(Event::RowsGone, NOW, &RULES).unwrap(), ..cascade.clone() };
    assert_eq!(writer.end_rows(mandate(&cascade, &workspaces, &fence), &[], &after).await.unwrap(), Ended::Stopped);
    assert_eq!((count(db, "messages").await, count(db, "workspaces").await), (6, 2));
    assert_eq!(db.store.cascades_due(NOW.plus(MINUTE), 10).await.unwrap(), []);
}

async fn a_job_is_changed_only_as_it_was_read(db: &Db) {
    let (mut writer, fence) = workspace(db).await;
    delete(&mut writer, "org_1").await;
    let before = job(db, "org_1").await;
    deleting(db, &mut writer, &fence, "org_1").await;
    let cancelled = Cascade { job: before.job.after(Event::Cancel, NOW, &RULES).unwrap(), ..before.clone() };
    assert!(!writer.change_cascade(&before, &cancelled, None).await.unwrap(), "it is deleting meanwhile");
    // Everything is read as it was written.
    let now = job(db, "org_1").await;
    let after = Cascade {
        job: faircopy_core::cascade::Job {
            state: State::Paused(faircopy_core::cascade::Reason::KeyRefused),
            due_at: Some(NOW.plus(9)),
            failures: 3,
            passes: 2,
            found_again: true,
            is_released: true,
            has_skipped: true,
            ..now.job
        },
        has_content: Some(true),
        error: Some("trouble".into()),
        confirmed_at: Some(NOW.to_string()),
        rows_gone_at: Some(NOW.plus(1).to_string()),
        steps_gone_at: Some(NOW.plus(2).to_string()),
        finished_at: Some(NOW.plus(3).to_string()),
        ..now.clone()
    };
    assert!(writer.change_cascade(&now, &after, Some(&fence)).await.unwrap());
    assert_eq!(job(db, "org_1").await, after);
    assert_eq!(db.store.cascades_with_content(NOW, 10).await.unwrap(), [NOW]);
    assert_eq!(db.store.cascades_with_content(NOW.plus(1), 10).await.unwrap(), []);
    let standing = db.store.cascades_standing().await.unwrap();
    assert_eq!(
        (standing.len(), standing[0].state.as_str(), standing[0].jobs, standing[0].oldest),
        (1, "paused", 1, NOW)
    );
}

/// I11 where ids come again: a linked workspace is taken over when its deletion is done, and not only when its row is gone.
async fn what_lives_again_is_left_alone(db: &Db) {
    let tree = Tree::built_in();
    db.writer().await;
    let store = db.store.clone().with_workspaces(WorkspaceMode::Linked);
    let mut writer = store.writer();
    let fence = writer.take_lease(LEASE, "one", NOW, MINUTE).await.unwrap().unwrap();
    let link = json!({"workspaceId": "ws"});
    let held = async || db.sql("SELECT clerk_org_id FROM {s}workspaces WHERE ended_at IS NULL").await;
    let heir = |n: i64, name: &str| {
        event(&format!("msg_h{n}"), "organization.updated", n, &organization("org_2", n, name, &link))
    };
    deliver(&mut writer, event("msg_1", "organization.created", 1, &organization("org_1", 1, "Acme", &link))).await;
    delete(&mut writer, "org_1").await;
    // Another one names it while it is being deleted: not yet, neither with its row nor without.
    deliver(&mut writer, heir(7, "Heir")).await;
    assert_eq!(held().await, []);
    let cascade = deleting(db, &mut writer, &fence, "org_1").await;
    let workspaces = store.ended_workspaces(&cascade).await.unwrap();
    assert_eq!(workspaces, ["ws"]);
    let after = Cascade { job: cascade.job.after(Event::RowsGone, NOW, &RULES).unwrap(), ..cascade.clone() };
    assert_eq!(writer.end_rows(mandate(&cascade, &workspaces, &fence), &[], &after).await.unwrap(), Ended::Gone);
    deliver(&mut writer, heir(8, "Heir of")).await;
    assert_eq!((held().await, count(db, "workspaces").await), (vec![], 0));
    let calling = job(db, "org_1").await;
    let confirmed = Event::StepsConfirmed { skipped: false };
    let done = Cascade { job: calling.job.after(confirmed, NOW, &RULES).unwrap(), ..calling.clone() };
    assert!(writer.end_cascade(&calling, &done, NOW, Some(&fence)).await.unwrap());
    assert_eq!(held().await, [Some("org_2".into())], "it begins anew with the end of the old one");
    assert_eq!(db.feed().await.last().unwrap().operation, "put");
    // Even one that had looked before the heir came touches nothing.
    db.sql("INSERT INTO {s}channels (id, workspace_id, name) VALUES ('c', 'ws', 'new')").await;
    db.sql("INSERT INTO {s}messages (id, channel_id) VALUES ('m', 'c')").await;
    let again = job(db, "org_1").await;
    assert_eq!(store.ended_workspaces(&again).await.unwrap(), Vec::<String>::new());
    assert!(store.lives_again(&again).await.unwrap());
    db.sql("UPDATE {s}cascades SET state = 'deleting' WHERE subject = 'org_1'").await;
    let (messages, hang) = node(&tree, "messages");
    let which = ["c".to_owned()];
    let batch =
        writer.delete_rows(mandate(&again, &workspaces, &fence), messages, Which::HangingOn(hang, &which)).await;
    assert_eq!(batch.unwrap(), Batch::Stopped);
    assert_eq!(count(db, "messages").await, 1);
}

/// What a cancelled deletion has left is another organization's, if one names it: at once, or later.
async fn a_cancelled_deletion_leaves_its_workspace_to_an_heir(db: &Db) {
    db.writer().await;
    let store = db.store.clone().with_workspaces(WorkspaceMode::Linked);
    let mut writer = store.writer();
    for (number, comes_first) in [(1, true), (2, false)] {
        let (org, heir, ws) = (format!("org_{number}"), format!("org_h{number}"), format!("ws_{number}"));
        let link = json!({ "workspaceId": ws });
        let created =
            |id: &str, n| event(&format!("msg_{id}"), "organization.created", n, &organization(id, n, "Acme", &link));
        deliver(&mut writer, created(&org, 1)).await;
        delete(&mut writer, &org).await;
        let before = job(db, &org).await;
        let cancelled = Cascade { job: before.job.after(Event::Cancel, NOW, &RULES).unwrap(), ..before.clone() };
        if comes_first {
            deliver(&mut writer, created(&heir, 7)).await;
        }
        assert!(store.writer().end_cascade(&before, &cancelled, NOW, None).await.unwrap());
        if !comes_first {
            deliver(&mut writer, created(&heir, 7)).await;
        }
        let held =
            db.sql(&format!("SELECT clerk_org_id FROM {{s}}workspaces WHERE id = '{ws}' AND ended_at IS NULL")).await;
        assert_eq!(held, [Some(heir)]);
        assert!(store.lives_again(&job(db, &org).await).await.unwrap(), "so that it is not resumed");
    }
}

async fn keys_are_compared_in_their_own_types(db: &Db) {
    let (mut writer, fence) = workspace(db).await;
    let (uuid, number) = if db.is_sqlite() { ("text", "integer") } else { ("uuid", "bigint") };
    let schema = if db.is_sqlite() { "" } else { "public." };
    let one = "6f1c1d0e-7a37-4f7e-9d54-0a3b4b4f9b01";
    let two = "6f1c1d0e-7a37-4f7e-9d54-0a3b4b4f9b02";
    for statement in [
        format!("CREATE TABLE {schema}folders (id {uuid} PRIMARY KEY, org text NOT NULL)"),
        format!("CREATE TABLE {schema}files (number {number} PRIMARY KEY, folder {uuid} NOT NULL, blob_name text)"),
        format!("INSERT INTO {schema}folders VALUES ('{one}', 'org_1'), ('{two}', 'org_2')"),
        format!("INSERT INTO {schema}files VALUES (1, '{one}', 'a'), (2, '{one}', NULL), (3, '{two}', 'c')"),
    ] {
        db.sql(&statement).await;
    }
    let declared = |table: &str, key: &str, parent: &str, parent_key: &str, external: &str| Declared {
        table: table.into(),
        key: vec![key.into()],
        parent: parent.into(),
        parent_key: parent_key.into(),
        external: vec![(Target::Step("blobs".into()), external.into())],
    };
    let declared = [
        declared("folders", "id", "organization", "org", "folder/{id}"),
        declared("files", "number", "folders", "folder", "blob/{blob_name}"),
    ];
    let tree = Tree::build(&declared).unwrap();
    delete(&mut writer, "org_1").await;
    let cascade = deleting(db, &mut writer, &fence, "org_1").await;
    let mandate = mandate(&cascade, &[], &fence);
    clear(db, &mut writer, mandate, &tree, &Parent::Root(Root::Organization), &["org_1".to_owned()]).await;
    let left = db.sql(&format!("SELECT CAST(number AS text) FROM {schema}files")).await;
    assert_eq!(left, [Some("3".to_owned())]);
    assert_eq!(db.sql(&format!("SELECT CAST(id AS text) FROM {schema}folders")).await, [Some(two.to_owned())]);
    let due = db.store.steps_due("blobs", NOW, 10).await.unwrap();
    let ids: Vec<&str> = due.iter().map(|step| step.external_id.as_str()).collect();
    assert_eq!(ids, ["blob/a", &format!("folder/{one}")], "a row without a blob has nothing outside");
    let (files, _) = node(&tree, "files");
    assert!(db.store.has_row(files, &[("blob_name", "c")]).await.unwrap());
    assert!(!db.store.has_row(files, &[("blob_name", "a")]).await.unwrap());
    assert!(db.store.has_row(files, &[("number", "3"), ("folder", two)]).await.unwrap());
}

async fn what_a_user_leaves_goes_with_the_user(db: &Db) {
    let tree = Tree::built_in();
    let (mut writer, fence) = workspace(db).await;
    deliver(&mut writer, event("msg_u", "user.created", 1, &user("user_1", 1, "Ada", &json!({})))).await;
    deliver(&mut writer, event("msg_ug", "user.deleted", 2, &gone("user", "user_1"))).await;
    let cascade = deleting(db, &mut writer, &fence, "user_1").await;
    assert_eq!((cascade.kind, cascade.workspace_id.as_deref()), (Subject::User, None));
    let mandate = mandate(&cascade, &[], &fence);
    clear(db, &mut writer, mandate, &tree, &Parent::Root(Root::User), &["user_1".to_owned()]).await;
    assert_eq!((count(db, "last_reads").await, count(db, "messages").await), (0, 6), "read marks go, messages stay");
    let after = Cascade { job: cascade.job.after(Event::RowsGone, NOW, &RULES).unwrap(), ..cascade.clone() };
    assert_eq!(writer.end_rows(mandate, &[], &after).await.unwrap(), Ended::Gone);
    assert_eq!(job(db, "user_1").await.job.state, State::Calling);
    writer.drop_cascade("user_1", &fence).await.unwrap();
    assert_eq!(db.store.cascade("user_1").await.unwrap(), None);
    assert_eq!(db.store.cascade_removed("user_1").await.unwrap(), []);
}

async fn steps_are_due_one_after_another(db: &Db) {
    let tree = Tree::built_in();
    let (mut writer, fence) = workspace(db).await;
    delete(&mut writer, "org_1").await;
    let cascade = deleting(db, &mut writer, &fence, "org_1").await;
    let without_key = ["liveblocks".to_owned()];
    let workspaces = ["org_1".to_owned()];
    let (documents, hang) = node(&tree, "documents");
    let which = ["r-org_1".to_owned()];
    let mandate = Mandate { without_key: &without_key, ..mandate(&cascade, &workspaces, &fence) };
    writer.delete_rows(mandate, documents, Which::HangingOn(hang, &which)).await.unwrap();
    let state = async || {
        let steps = db.store.steps_of("org_1").await.unwrap();
        assert_eq!(steps.len(), 1);
        (steps[0].state.clone(), steps[0].steps, steps[0].attempts, steps[0].error.clone())
    };
    assert_eq!(state().await, ("skipped".into(), 1, 0, None));
    assert_eq!(db.store.targets_waiting().await.unwrap(), Vec::<String>::new());
    writer.reopen_skipped("org_1", NOW).await.unwrap();
    assert_eq!(db.store.targets_waiting().await.unwrap(), ["liveblocks"]);
    let due = async |at: i64| db.store.steps_due("liveblocks", NOW.plus(at), 10).await.unwrap();
    let [step] = due(0).await.try_into().unwrap();
    let tried = |step: &Step, state, later: i64, error: Option<&str>| Tried {
        step: step.clone(),
        state,
        due_at: NOW.plus(later),
        was_called: true,
        error: error.map(ToOwned::to_owned),
    };
    writer.settle_steps(&[tried(&step, StepState::Waiting, 5, Some("500"))], NOW, &fence).await.unwrap();
    assert_eq!(state().await, ("waiting".into(), 1, 1, Some("500".into())));
    assert_eq!(due(4).await, []);
    let [step] = due(5).await.try_into().unwrap();
    assert_eq!(step.attempts, 1);
    // A job that waits for a word calls nobody.
    db.sql("UPDATE {s}cascades SET state = 'cancelled'").await;
    assert_eq!(due(5).await, []);
    db.sql("UPDATE {s}cascades SET state = 'paused', reason = 'key-refused'").await;
    assert_eq!(due(5).await.len(), 1);
    writer.settle_steps(&[tried(&step, StepState::Gone, 0, None)], NOW, &fence).await.unwrap();
    assert_eq!(state().await, ("gone".into(), 1, 2, None));
    assert_eq!(due(9).await, []);
    let known =
        db.store.steps_done("org_1", "liveblocks", &["doc:other".into(), step.external_id.clone()]).await.unwrap();
    assert_eq!(known, [Step { attempts: 2, ..step }]);
    assert_eq!(db.store.steps_waiting().await.unwrap(), 0);
}

/// Only a token spoke for it, Clerk denied it, and has it after all.
async fn a_provisional_organization_that_comes_back_keeps_its_workspace(db: &Db) {
    let (mut writer, fence) = workspace(db).await;
    delete(&mut writer, "org_1").await;
    let deleted = job(db, "org_1").await;
    assert!(!writer.revive(&deleted, NOW, &fence).await.unwrap(), "what was deleted stays so");
    assert_eq!(job(db, "org_1").await, deleted);
    db.sql("UPDATE {s}workspaces SET ended_at = created_at WHERE id = 'org_2'").await;
    db.sql(
        "INSERT INTO {s}cascades (subject, kind, workspace_id, state, created_at, due_at) \
         VALUES ('org_2', 'organization', 'org_2', 'waiting', 1, 1)",
    )
    .await;
    let withdrawn = job(db, "org_2").await;
    assert!(writer.revive(&withdrawn, NOW, &fence).await.unwrap());
    assert_eq!(db.store.cascade("org_2").await.unwrap(), None);
    assert_eq!(db.sql("SELECT id FROM {s}workspaces WHERE ended_at IS NULL").await, [Some("org_2".into())]);
}

async fn receipts_are_kept_and_forgotten(db: &Db) {
    let (mut writer, fence) = workspace(db).await;
    delete(&mut writer, "org_1").await;
    delete(&mut writer, "org_2").await;
    deleting(db, &mut writer, &fence, "org_1").await;
    tell(db, &mut writer, &fence, "org_1", Event::RowsGone).await;
    let done = tell(db, &mut writer, &fence, "org_1", Event::StepsConfirmed { skipped: false }).await;
    assert_eq!(done.job.state, State::Done);
    let subjects = async |only_open: bool| {
        let found = db.store.cascades_before(None, only_open, 10).await.unwrap();
        found.into_iter().map(|cascade| cascade.subject).collect::<Vec<_>>()
    };
    assert_eq!(subjects(false).await, ["org_1", "org_2"]);
    assert_eq!(subjects(true).await, ["org_2"]);
    let page = db.store.cascades_before(Some((NOW, "org_1")), false, 10).await.unwrap();
    assert_eq!(page.len(), 1, "what stands behind the first");
    assert_eq!(writer.forget_cascades(NOW, 10).await.unwrap(), 0, "not old enough");
    assert_eq!(writer.forget_cascades(NOW.plus(1), 10).await.unwrap(), 1);
    assert_eq!(subjects(false).await, ["org_2"], "what is not done is not forgotten");
}

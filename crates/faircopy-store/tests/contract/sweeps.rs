//! Leases and their fences, what differs from Clerk's records, and what a sweep remembers.

use faircopy_core::Millis;
use faircopy_core::event::api::{self, Context, Kind};
use faircopy_core::{Observation, ProfileMode};
use faircopy_store::{Error, Fence, Item, Progress, Swept, Writer};
use serde_json::{Value, json};

use crate::db::{Db, deliver};
use crate::provisional::{learn, token};
use crate::say::{NOW, at, event, gone, invitation, member, organization, user};

on_both_engines!(
    a_lease_has_one_holder,
    what_comes_in_the_name_of_a_lost_lease_is_not_merged,
    each_column_that_differs_is_named,
    what_equals_is_no_difference,
    a_sweep_goes_on_where_it_was,
    what_was_not_seen_is_found,
    a_proof_never_goes_back,
);

const LEASE: &str = "sweep";
const MINUTE: i64 = 60_000;

async fn take(writer: &mut Writer, holder: &str, now: Millis) -> Option<Fence> {
    writer.take_lease(LEASE, holder, now, MINUTE).await.unwrap()
}

async fn a_lease_has_one_holder(db: &Db) {
    let (mut one, mut other) = (db.writer().await, db.store.writer());
    let first = take(&mut one, "one", NOW).await.unwrap();
    assert_eq!(take(&mut other, "other", NOW.plus(MINUTE - 1)).await, None);
    assert_eq!(take(&mut one, "one", NOW.plus(MINUTE - 1)).await, Some(first.clone()), "renewed");
    assert_eq!(take(&mut other, "other", NOW.plus(MINUTE)).await, None, "for a minute from then");
    let second = take(&mut other, "other", NOW.plus(2 * MINUTE)).await.unwrap();
    assert!(second.number > first.number);
    assert_eq!(take(&mut one, "one", NOW.plus(2 * MINUTE)).await, None);
    one.give_up_lease(&first).await.unwrap();
    assert_eq!(take(&mut one, "one", NOW.plus(2 * MINUTE)).await, None, "it was not his to give up");
    other.give_up_lease(&second).await.unwrap();
    let third = take(&mut one, "one", NOW.plus(2 * MINUTE)).await.unwrap();
    assert!(third.number > second.number);
}

/// I13: a worker that lost its lease commits nothing; whoever shares the batch is not held up.
async fn what_comes_in_the_name_of_a_lost_lease_is_not_merged(db: &Db) {
    let (mut writer, mut other) = (db.writer().await, db.store.writer());
    let lost = take(&mut writer, "one", NOW).await.unwrap();
    let newest = take(&mut other, "other", NOW.plus(MINUTE)).await.unwrap();
    let swept = |id: &str, fence: &Fence| Item::Swept(read(Kind::User, &user(id, 1, "A", &json!({}))), fence.clone());
    let delivered = Item::Delivery(event("msg_1", "user.created", 1, &user("user_c", 1, "C", &json!({}))));
    let batch = [swept("user_a", &lost), swept("user_b", &newest), delivered];
    let receipts = writer.commit(&batch, NOW).await.unwrap();
    let off: Vec<bool> = receipts.iter().map(|receipt| receipt.is_fenced_off).collect();
    assert_eq!(off, [true, false, false]);
    let users: Vec<String> = db.tables().await.users.into_keys().collect();
    assert_eq!(users, ["user_b", "user_c"]);
    let progress = Progress { state: "{}".into(), report: "{}".into(), ..Progress::default() };
    let begun = writer.begin_sweep("reconcile", "{}", NOW, &lost).await;
    assert!(matches!(begun, Err(Error::LeaseLost(LEASE))), "{begun:?}");
    let id = writer.begin_sweep("reconcile", "{}", NOW, &newest).await.unwrap();
    let seen = Progress { seen: vec![(Swept::User, "user_b")], ..progress };
    assert!(matches!(writer.save_sweep(id, &seen, NOW, &lost).await, Err(Error::LeaseLost(_))));
    assert_eq!(db.store.seen(id, Swept::User).await.unwrap(), 0);
    writer.save_sweep(id, &seen, NOW, &newest).await.unwrap();
    assert_eq!(db.store.seen(id, Swept::User).await.unwrap(), 1);
}

/// An object of Clerk's API, read at this moment.
fn read(kind: Kind, object: &Value) -> Vec<Observation> {
    let context = Context { mode: ProfileMode::Full, asked_at: NOW, user: None };
    api::object(kind, &object.to_string(), &context).unwrap().reading.unwrap()
}

fn records() -> [(Kind, Value, &'static str); 4] {
    [
        (Kind::User, user("user_a", 1, "Ada", &json!({"a": 1, "workspaceId": "ws_1"})), "user_a"),
        (Kind::Organization, organization("org_1", 1, "Acme", &json!({"b": [2]})), "org_1"),
        (Kind::Member, member("orgmem_1", "org_1", "user_a", 1, 1, "org:admin"), "org_1/user_a"),
        (Kind::Invitation, invitation("orginv_1", "org_1", 1, 2, "pending"), "orginv_1"),
    ]
}

async fn fill(writer: &mut Writer) {
    for (kind, object, _) in records() {
        learn(writer, read(kind, &object)).await;
    }
}

async fn what_equals_is_no_difference(db: &Db) {
    let mut writer = db.writer().await;
    fill(&mut writer).await;
    for (kind, object, _) in records() {
        let found = db.store.differences(&read(kind, &object)[..1], NOW).await.unwrap();
        assert_eq!(found, [], "{kind:?}; the invitation has expired, and Clerk still calls it pending");
    }
}

async fn each_column_that_differs_is_named(db: &Db) {
    let mut writer = db.writer().await;
    for (kind, object, subject) in records() {
        let found = db.store.differences(&read(kind, &object)[..1], NOW).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].subject.as_str(), &found[0].columns), (subject, &None), "missing");
    }
    fill(&mut writer).await;
    let check = async |statement: &str, kind: Kind, expected: &[&str]| {
        db.sql(statement).await;
        let (_, object, subject) = records().into_iter().find(|(of, ..)| *of == kind).unwrap();
        let observations = read(kind, &object);
        let found = db.store.differences(&observations, NOW).await.unwrap();
        let found = found.iter().find(|difference| difference.subject == subject).unwrap();
        assert_eq!(found.columns.as_deref().unwrap(), expected, "{statement}");
        learn(&mut db.store.writer(), observations.clone()).await;
        let left = db.store.differences(&observations[..1], NOW).await.unwrap();
        assert_eq!(left, [], "the merge heals what the difference names: {statement}");
    };
    check("UPDATE {s}users SET first_name = 'Eve', banned = NULL", Kind::User, &["first_name", "banned"]).await;
    check("UPDATE {s}users SET workspace_id = NULL", Kind::User, &["workspace_id"]).await;
    check("UPDATE {s}users SET public_metadata = '{\"a\":2}'", Kind::User, &["public_metadata"]).await;
    check("UPDATE {s}organizations SET settings = '{}', slug = NULL", Kind::Organization, &["slug", "settings"]).await;
    check("UPDATE {s}organization_members SET role = 'org:member'", Kind::Member, &["role"]).await;
    check("UPDATE {s}organization_invitations SET status = 'revoked'", Kind::Invitation, &["status"]).await;
    db.sql("DELETE FROM {s}organization_members").await;
    let missing = db.store.differences(&read(Kind::Member, &records()[2].1), NOW).await.unwrap();
    assert_eq!(missing[0].columns, None);
}

async fn a_sweep_goes_on_where_it_was(db: &Db) {
    let mut writer = db.writer().await;
    let fence = take(&mut writer, "one", NOW).await.unwrap();
    assert_eq!(db.store.sweep_under_way("backfill").await.unwrap(), None);
    let id = writer.begin_sweep("backfill", "at the beginning", NOW, &fence).await.unwrap();
    let progress = Progress { state: "further".into(), report: "one".into(), ..Progress::default() };
    writer.save_sweep(id, &progress, NOW.plus(1), &fence).await.unwrap();
    let found = db.store.sweep_under_way("backfill").await.unwrap().unwrap();
    assert_eq!((found.id, found.state.as_str(), found.report.as_str()), (id, "further", "one"));
    assert_eq!(found.saved_at, NOW.plus(1).to_string());
    assert_eq!(db.store.sweep_under_way("reconcile").await.unwrap(), None);
    writer.finish_sweep(id, &progress, "exact", None, NOW.plus(2), &fence).await.unwrap();
    assert_eq!(db.store.sweep_under_way("backfill").await.unwrap(), None);
    let second = writer.begin_sweep("backfill", "anew", NOW, &fence).await.unwrap();
    let third = writer.begin_sweep("backfill", "anew", NOW, &fence).await.unwrap();
    let outcomes: Vec<_> = db.store.sweeps(10).await.unwrap().into_iter().map(|s| (s.id, s.outcome)).collect();
    assert_eq!(outcomes, [(third, None), (second, Some("abandoned".into())), (id, Some("exact".into()))]);
}

async fn what_was_not_seen_is_found(db: &Db) {
    let mut writer = db.writer().await;
    fill(&mut writer).await;
    deliver(&mut writer, event("msg_b", "user.created", 1, &user("user_b", 1, "B", &json!({})))).await;
    deliver(&mut writer, event("msg_d", "user.created", 1, &user("user_d", 1, "D", &json!({})))).await;
    deliver(&mut writer, event("msg_e", "user.deleted", 2, &gone("user", "user_d"))).await;
    learn(&mut writer, token("org_2", "user_t", 1)).await;
    let fence = take(&mut writer, "one", NOW).await.unwrap();
    let id = writer.begin_sweep("reconcile", "{}", NOW, &fence).await.unwrap();
    let unseen = async |kind: Swept, after: &str| {
        let found = db.store.unseen(id, kind, after, 10).await.unwrap();
        assert_eq!(found.last, None, "there is no more");
        found
            .unseen
            .into_iter()
            .map(|row| (row.subject, row.is_provisional, row.register.is_some()))
            .collect::<Vec<_>>()
    };
    let row = |id: &str, provisional: bool| (id.to_owned(), provisional, true);
    assert_eq!(unseen(Swept::User, "").await, [row("user_a", false), row("user_b", false), row("user_t", true)]);
    assert_eq!(unseen(Swept::User, "user_a").await, [row("user_b", false), row("user_t", true)]);
    assert_eq!(unseen(Swept::Member, "").await, [row("org_1/user_a", false), row("org_2/user_t", true)]);
    assert_eq!(unseen(Swept::Invitation, "").await, [row("org_1/orginv_1", false)]);
    let progress = Progress {
        seen: vec![(Swept::User, "user_a"), (Swept::User, "user_a"), (Swept::Organization, "org_1")],
        absent: vec![(Swept::User, "user_b", Millis(at(7)), true)],
        ..Progress::default()
    };
    writer.save_sweep(id, &progress, NOW, &fence).await.unwrap();
    assert_eq!(unseen(Swept::User, "").await, [row("user_t", true)]);
    assert_eq!(unseen(Swept::Organization, "").await, [row("org_2", true)]);
    let absences = db.store.absences(id, Swept::User, "", 10).await.unwrap();
    assert_eq!(
        absences.iter().map(|a| (a.subject.as_str(), a.denied_at.0, a.is_provisional)).collect::<Vec<_>>(),
        [("user_b", at(7), true)]
    );
    let settled = Progress { settled: vec![(Swept::User, "user_b")], ..Progress::default() };
    writer.finish_sweep(id, &settled, "exact", None, NOW, &fence).await.unwrap();
    assert_eq!(db.store.absences(id, Swept::User, "", 10).await.unwrap(), []);
    assert_eq!(db.store.seen(id, Swept::User).await.unwrap(), 1);
    writer.forget_seen().await.unwrap();
    assert_eq!(db.store.seen(id, Swept::User).await.unwrap(), 0);
}

async fn a_proof_never_goes_back(db: &Db) {
    let mut writer = db.writer().await;
    let fence = take(&mut writer, "one", NOW).await.unwrap();
    assert_eq!(db.store.proven_at().await.unwrap(), None);
    for (complete_at, expected) in
        [(None, None), (Some(at(5)), Some(at(5))), (Some(at(4)), Some(at(5))), (Some(at(6)), Some(at(6)))]
    {
        let id = writer.begin_sweep("reconcile", "{}", NOW, &fence).await.unwrap();
        let progress = Progress::default();
        writer.finish_sweep(id, &progress, "exact", complete_at.map(Millis), NOW, &fence).await.unwrap();
        assert_eq!(db.store.proven_at().await.unwrap(), expected.map(Millis));
    }
}

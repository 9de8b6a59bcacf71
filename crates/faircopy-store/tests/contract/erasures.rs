//! Do deleted users leave the stored deliveries, late ones too, and is what is old forgotten?

use std::time::{Duration, Instant};

use faircopy_store::{Arrival, Writer};
use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _};

use crate::db::{Db, commit, deliver};
use crate::say::{NOW, event, gone, invitation, member, organization, raw, user};

on_both_engines!(
    a_deleted_user_leaves_the_deliveries,
    what_comes_late_is_stored_without_the_user,
    what_is_stored_before_an_erasure_ends_is_looked_at,
    old_rows_are_named_and_old_tombstones_begin_erasures,
    what_is_old_is_forgotten,
);

/// Stands wherever the person is spoken of.
const CANARY: &str = "Zebedee";

/// The deliveries about a user: each holds the canary but the deletion.
fn about(user_id: &str, canary: &str) -> Vec<Arrival> {
    let with = |mut data: Value, more: Value| {
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        data
    };
    let bond = with(
        member(&format!("orgmem_{user_id}"), "org_a", user_id, 1, 2, "org:member"),
        json!({"organization": organization("org_a", 1, "Acme", &json!({})),
            "public_user_data": {"user_id": user_id, "first_name": canary, "identifier": format!("{canary}@mail.example")}}),
    );
    let accepted = with(
        invitation(&format!("orginv_{user_id}"), "org_a", 2, 900, "accepted"),
        json!({"user_id": user_id, "email_address": format!("{canary}@mail.example")}),
    );
    let session = json!({"id": format!("sess_{user_id}"), "user_id": user_id, "actor": {"name": canary}});
    let id = |kind: &str| format!("msg_{user_id}_{kind}");
    vec![
        event(&id("user"), "user.created", 1, &user(user_id, 1, canary, &json!({}))),
        event(&id("bond"), "organizationMembership.created", 2, &bond),
        event(&id("invitation"), "organizationInvitation.accepted", 2, &accepted),
        event(&id("session"), "session.created", 3, &session),
        raw(&id("poison"), format!("{{\"id\":\"{user_id}\",\"name\":\"{canary}\"").as_bytes()),
    ]
}

#[test]
fn a_reader_that_stays_puts_the_scrubbing_off_and_holds_nobody() {
    crate::db::on_sqlite(is_put_off_by_a_reader);
}

/// Whoever writes waits for 4 s at most, and so must not be kept waiting nearly as long; and the log, which cannot begin anew, gets
/// nothing more from tries that cannot end well.
#[expect(clippy::disallowed_methods, reason = "measures how long the writer is kept, which is SQLite's to say")]
async fn is_put_off_by_a_reader(db: &Db) {
    let mut writer = db.writer().await;
    commit(&mut writer, &about("user_a", CANARY)).await;
    let mut reader = db.reader().await;
    reader.execute("BEGIN; SELECT count(*) FROM users").await.unwrap();
    commit(&mut writer, &[event("msg_gone", "user.deleted", 9, &gone("user", "user_a"))]).await;
    while writer.erase_deliveries("user_a", NOW).await.unwrap() > 0 {}
    let due = db.store.erasures_due(NOW, 1).await.unwrap().remove(0);
    writer.finish_erasure(&due, NOW, NOW).await.unwrap();
    let written = || db.files().iter().map(|file| file.metadata().unwrap().len()).sum::<u64>();
    assert!(!writer.scrub(NOW).await.unwrap());
    let (before, start) = (written(), Instant::now());
    assert!(!writer.scrub(NOW).await.unwrap());
    assert!(start.elapsed() < Duration::from_secs(2), "a try took {:?}", start.elapsed());
    assert_eq!(written(), before);
    reader.execute("ROLLBACK").await.unwrap();
    reader.close().await.unwrap();
    assert!(writer.scrub(NOW).await.unwrap());
}

async fn stored(db: &Db, canary: &str) -> usize {
    let found = db.sql("SELECT coalesce(payload, '') || coalesce(error, '') FROM {s}webhook_deliveries").await;
    found.iter().flatten().filter(|text| text.contains(canary)).count()
}

async fn payload(db: &Db, id: &str) -> Option<String> {
    db.store.delivery(id).await.unwrap().unwrap().payload
}

async fn erase_all(db: &Db, writer: &mut Writer) {
    for due in db.store.erasures_due(NOW, 100).await.unwrap() {
        while writer.erase_deliveries(&due.user, NOW).await.unwrap() > 0 {}
        writer.finish_erasure(&due, NOW, NOW).await.unwrap();
    }
    assert!(writer.scrub(NOW).await.unwrap());
}

async fn a_deleted_user_leaves_the_deliveries(db: &Db) {
    let mut writer = db.writer().await;
    // The other user's id begins with that of the one who goes.
    let (goes, stays) = (about("user_a", CANARY), about("user_ab", "Wilhelmina"));
    commit(&mut writer, &[goes.clone(), stays].concat()).await;
    let names = db
        .sql(
            "SELECT clerk_user_id || ' ' || clerk_org_id FROM {s}webhook_deliveries \
        WHERE clerk_org_id IS NOT NULL ORDER BY svix_id",
        )
        .await;
    let expected = ["user_a org_a", "user_a org_a", "user_ab org_a", "user_ab org_a"].map(|text| Some(text.to_owned()));
    assert_eq!(names, expected);
    assert_eq!((stored(db, CANARY).await, stored(db, "Wilhelmina").await), (5, 5));
    assert_eq!(db.store.erasure("user_a").await.unwrap(), None);

    deliver(&mut writer, event("msg_gone", "user.deleted", 9, &gone("user", "user_a"))).await;
    let begun = db.store.erasure("user_a").await.unwrap().unwrap();
    assert_eq!((begun.finished_at, begun.scrubbed_at, begun.emptied), (None, None, 0));
    erase_all(db, &mut writer).await;
    assert_eq!((stored(db, CANARY).await, stored(db, "Wilhelmina").await), (0, 5));
    let receipt = db.store.erasure("user_a").await.unwrap().unwrap();
    assert_eq!((receipt.emptied, receipt.redacted, receipt.late), (3, 2, 0));
    assert!(receipt.finished_at.is_some() && receipt.scrubbed_at.is_some());
    assert!(payload(db, "msg_user_a_bond").await.unwrap().contains("Acme"));
    assert!(payload(db, "msg_gone").await.is_some(), "a deletion can be replayed");
    assert_eq!(payload(db, "msg_user_a_user").await, None);
    assert!(db.store.erasures_due(NOW, 9).await.unwrap().is_empty());
    // Again there is nothing to do, and a resent delivery brings nothing back.
    assert_eq!(writer.erase_deliveries("user_a", NOW).await.unwrap(), 0);
    commit(&mut writer, &goes[..4]).await;
    assert_eq!(stored(db, CANARY).await, 0);
    assert_eq!(db.store.erasure("user_a").await.unwrap().unwrap(), receipt);
    // The invitation's row is Clerk's, and stays.
    assert_eq!(db.tables().await.invitations["orginv_user_a"].email.as_deref(), Some("Zebedee@mail.example"));
    assert_eq!(db.store.erasures_before(None, 5).await.unwrap(), [receipt]);
}

async fn what_comes_late_is_stored_without_the_user(db: &Db) {
    let mut writer = db.writer().await;
    deliver(&mut writer, event("msg_gone", "user.deleted", 9, &gone("user", "user_a"))).await;
    erase_all(db, &mut writer).await;
    let late = about("user_a", CANARY);
    commit(&mut writer, &late[..4]).await;
    assert_eq!(stored(db, CANARY).await, 0);
    let receipt = db.store.erasure("user_a").await.unwrap().unwrap();
    assert_eq!((receipt.emptied, receipt.redacted, receipt.late), (0, 0, 4));
    // With the deletion in one batch, in either order.
    for (user_id, last) in [("user_b", true), ("user_c", false)] {
        let mut batch = about(user_id, CANARY)[..4].to_vec();
        let deletion = event(&format!("msg_{user_id}"), "user.deleted", 9, &gone("user", user_id));
        batch.insert(if last { 4 } else { 0 }, deletion);
        commit(&mut writer, &batch).await;
        assert_eq!(stored(db, CANARY).await, 0, "{user_id}");
    }
    // What the database refuses is looked at by the next turn.
    let mut poison = late[0].clone();
    poison.svix_id = "msg_refused".into();
    writer.quarantine(&poison, "some fault that quotes Zebedee").await.unwrap();
    assert_eq!(db.store.erasures_due(NOW, 9).await.unwrap().len(), 3);
    erase_all(db, &mut writer).await;
    assert_eq!(stored(db, CANARY).await, 0);
}

async fn what_is_stored_before_an_erasure_ends_is_looked_at(db: &Db) {
    let mut writer = db.writer().await;
    deliver(&mut writer, event("msg_gone", "user.deleted", 9, &gone("user", "user_a"))).await;
    let due = db.store.erasures_due(NOW, 1).await.unwrap().remove(0);
    assert_eq!(writer.erase_deliveries(&due.user, NOW).await.unwrap(), 0);
    let mut poison = about("user_a", CANARY).remove(0);
    poison.received_at = NOW.plus(1);
    writer.quarantine(&poison, "refused").await.unwrap();
    writer.finish_erasure(&due, NOW, NOW).await.unwrap();
    assert!(writer.scrub(NOW).await.unwrap());
    assert_eq!(stored(db, CANARY).await, 1);
    let due = db.store.erasures_due(NOW.plus(1), 1).await.unwrap().remove(0);
    assert_eq!(writer.erase_deliveries(&due.user, NOW).await.unwrap(), 1);
    assert_eq!(stored(db, CANARY).await, 0);
}

async fn old_rows_are_named_and_old_tombstones_begin_erasures(db: &Db) {
    let mut writer = db.writer().await;
    commit(&mut writer, &about("user_a", CANARY)).await;
    deliver(&mut writer, event("msg_gone", "user.deleted", 9, &gone("user", "user_a"))).await;
    // As it was before there were names and erasures.
    db.sql("UPDATE {s}webhook_deliveries SET clerk_user_id = NULL, clerk_org_id = NULL").await;
    db.sql("DELETE FROM {s}erasures").await;
    db.sql("INSERT INTO {s}walks (name, after, until) VALUES ('deliveries', '', '2999-01-01T00:00:00.000Z'), ('tombstones', '', '')")
        .await;
    assert!(!writer.walk(NOW).await.unwrap());
    erase_all(db, &mut writer).await;
    assert_eq!(stored(db, CANARY).await, 0);
    // The walk through the deliveries goes on until its time, the other is over.
    assert_eq!(db.sql("SELECT name FROM {s}walks").await, [Some("deliveries".to_owned())]);
    db.sql("UPDATE {s}walks SET until = '2001-01-01T00:00:00.000Z'").await;
    writer.walk(NOW).await.unwrap();
    assert!(db.sql("SELECT name FROM {s}walks").await.is_empty());
}

async fn what_is_old_is_forgotten(db: &Db) {
    let mut writer = db.writer().await;
    let batch: Vec<Arrival> = (0..10)
        .map(|number| {
            let id = format!("user_{number}");
            let mut arrival = event(&format!("msg_{number}"), "user.created", 1, &user(&id, 1, "N", &json!({})));
            arrival.received_at = NOW.plus(number);
            arrival
        })
        .collect();
    commit(&mut writer, &batch).await;
    deliver(&mut writer, raw("msg_poison", b"not json")).await;
    let (emptied, next) = writer.empty_payloads(NOW.plus(5), None, 3, NOW).await.unwrap();
    assert_eq!(emptied + writer.empty_payloads(NOW.plus(5), next.as_deref(), 9, NOW).await.unwrap().0, 5);
    assert!(payload(db, "msg_poison").await.is_some(), "what waits for a mend is kept");
    assert!(payload(db, "msg_5").await.is_some() && payload(db, "msg_4").await.is_none());

    assert_eq!(writer.forget_deliveries(NOW.plus(5), 3).await.unwrap(), 3);
    while writer.forget_deliveries(NOW.plus(5), 3).await.unwrap() > 0 {}
    assert_eq!(db.deliveries().await.len(), 5);

    // Never the last entry of the feed, and readers can learn what is gone.
    let sequence = db.sequence().await;
    assert_eq!(db.store.forgotten_changes().await.unwrap(), 0);
    assert_eq!(writer.forget_changes(NOW, 4).await.unwrap(), 0, "nothing is so old");
    assert_eq!(writer.forget_changes(NOW.plus(1), 4).await.unwrap(), 4);
    while writer.forget_changes(NOW.plus(1), 4).await.unwrap() > 0 {}
    assert_eq!(db.store.forgotten_changes().await.unwrap(), sequence - 1);
    assert_eq!(db.store.changes_after(0, 99).await.unwrap().len(), 1);

    assert_eq!(db.store.erasures_overdue(NOW.plus(1)).await.unwrap(), None);
    deliver(&mut writer, event("msg_gone", "user.deleted", 9, &gone("user", "user_0"))).await;
    let overdue = db.store.erasures_overdue(NOW.plus(1)).await.unwrap().expect("one that waits");
    assert_eq!(overdue.jobs, 1);
    erase_all(db, &mut writer).await;
    assert_eq!(db.store.erasures_overdue(NOW.plus(1)).await.unwrap(), None);
    assert_eq!(writer.forget_erasures(NOW, 9).await.unwrap(), 0);
    assert_eq!(writer.forget_erasures(NOW.plus(1), 9).await.unwrap(), 1);
}

//! One batch's commit and the next one's beginning, in one turn.

use std::sync::Arc;

use faircopy_store::{Arrival, Error, Receipt, Writer};
use serde_json::json;

use crate::db::{Db, commit};
use crate::faults::refuse_nobody;
use crate::say::{NOW, event, organization, user};

on_both_engines!(
    a_batch_is_durable_while_the_next_is_open,
    a_failed_commit_takes_the_next_beginning_along,
    a_refused_beginning_leaves_the_commit,
    what_is_written_and_left_is_undone,
);

/// A delivery of a user of its own.
fn arrival(n: i64) -> Arrival {
    event(&format!("msg_{n}"), "user.updated", n, &user(&format!("user_{n}"), n, "Ann", &json!({})))
}

/// Finishes what was written and writes `next`; what the first batch's senders were told, and whether another is open.
async fn turn(writer: &mut Writer, next: Option<Vec<Arrival>>) -> (Option<Vec<Receipt>>, Result<bool, Error>) {
    let mut told = None;
    let next = next.map(Arc::from);
    let result = writer.finish_and_write::<Arrival>(NOW, true, |receipts| told = Some(receipts), || next).await;
    (told, result)
}

async fn users(db: &Db) -> Vec<String> {
    db.tables().await.users.into_keys().collect()
}

async fn a_batch_is_durable_while_the_next_is_open(db: &Db) {
    let mut writer = db.writer().await;
    writer.write(&[arrival(1)], NOW).await.unwrap();
    assert_eq!(users(db).await, [""; 0], "written is not committed");
    for n in 1..=3 {
        let (told, open) = turn(&mut writer, Some(vec![arrival(n + 1)])).await;
        assert!(open.unwrap());
        assert_eq!(told.unwrap()[0].sequence, n);
        let rows = [users(db).await.len(), db.deliveries().await.len(), db.feed().await.len()];
        assert_eq!(rows.map(|rows| i64::try_from(rows).unwrap()), [n; 3]);
    }
    let (told, open) = turn(&mut writer, None).await;
    assert!(!open.unwrap() && told.is_some());
    assert_eq!(users(db).await, ["user_1", "user_2", "user_3", "user_4"]);
    assert_eq!(db.feed().await.len(), 4);
    let attempts: Vec<i64> = db.deliveries().await.values().map(|delivery| delivery.attempts).collect();
    assert_eq!(attempts, [1; 4]);
    let (told, open) = turn(&mut writer, None).await;
    assert!(told.is_none() && matches!(open, Err(Error::Refused(_))), "there is nothing to finish");
}

async fn a_failed_commit_takes_the_next_beginning_along(db: &Db) {
    let mut writer = db.writer().await;
    // The first number of the feed is taken, so that its entry is refused.
    db.sql("INSERT INTO {s}changes (sequence, entity, id, operation, changed_at) VALUES (1, 'user', 'x', 'put', '2026-01-01T00:00:00Z')").await;
    writer.write(&[arrival(1)], NOW).await.unwrap();
    let (told, result) = turn(&mut writer, Some(vec![arrival(2)])).await;
    assert!(told.is_none() && matches!(result, Err(Error::Refused(_))), "{result:?}");
    assert_eq!((users(db).await.len(), db.deliveries().await.len()), (0, 0));
    db.sql("DELETE FROM {s}changes").await;
    commit(&mut writer, &[arrival(1), arrival(2)]).await;
    assert_eq!(users(db).await, ["user_1", "user_2"]);
}

async fn a_refused_beginning_leaves_the_commit(db: &Db) {
    let mut writer = db.writer().await;
    refuse_nobody(db).await;
    writer.write(&[arrival(1)], NOW).await.unwrap();
    // With an organization, or the user would only be refused with his commit.
    let nobody = event("msg_2", "user.updated", 2, &user("user_2", 2, "Nobody", &json!({})));
    let somebody = event("msg_3", "organization.updated", 2, &organization("org_1", 2, "O", &json!({})));
    let (told, result) = turn(&mut writer, Some(vec![nobody.clone(), somebody])).await;
    assert!(told.is_some() && matches!(result, Err(Error::Refused(_))), "{result:?}");
    assert_eq!(users(db).await, ["user_1"]);
    commit(&mut writer, &[arrival(3)]).await;
    writer.write(&[arrival(4)], NOW).await.unwrap();
    let (told, result) = turn(&mut writer, Some(vec![nobody])).await;
    let result = match result {
        Ok(is_open) => {
            assert!(is_open && told.is_some() && !db.is_sqlite());
            turn(&mut writer, Some(vec![arrival(5)])).await.1
        }
        result => result,
    };
    assert!(matches!(result, Err(Error::Refused(_))), "{result:?}");
    assert_eq!(users(db).await, ["user_1", "user_3", "user_4"]);
}

async fn what_is_written_and_left_is_undone(db: &Db) {
    let mut writer = db.writer().await;
    writer.write(&[arrival(1)], NOW).await.unwrap();
    commit(&mut writer, &[arrival(2)]).await;
    assert_eq!(users(db).await, ["user_2"]);
    assert_eq!(db.deliveries().await.into_keys().collect::<Vec<_>>(), ["msg_2"]);
    assert_eq!(db.feed().await.len(), 1);
}

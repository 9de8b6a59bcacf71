//! What whoever follows the change feed asks beside it.

use std::sync::Arc;
use std::time::Duration;

use faircopy_store::{Arrival, Outcome};
use serde_json::json;
use tokio::sync::Notify;

use crate::db::{Db, commit};
use crate::say::{NOW, event, member, organization, user};

on_both_engines!(whose_names_lists_show, users_are_entered_when_their_rows_change);
on_postgres!(replicas_hear_each_other, a_commit_announces_itself);

/// How long an announcement may take on a busy machine.
const SOON: Duration = Duration::from_secs(20);

async fn whose_names_lists_show(db: &Db) {
    let mut writer = db.writer().await;
    let mut batch = Vec::new();
    for id in ["user_1", "user_2", "user_3"] {
        batch.push(event(&format!("msg_{id}"), "user.created", 1, &user(id, 1, "U", &json!({}))));
    }
    for org in ["org_1", "org_2"] {
        batch.push(event(&format!("msg_{org}"), "organization.created", 1, &organization(org, 1, "O", &json!({}))));
    }
    for (number, (org, user)) in [("org_1", "user_1"), ("org_2", "user_1"), ("org_1", "user_2")].into_iter().enumerate()
    {
        let id = format!("orgmem_{number}");
        batch.push(event(
            &format!("msg_{id}"),
            "organizationMembership.created",
            2,
            &member(&id, org, user, 1, 2, "org:member"),
        ));
    }
    commit(&mut writer, &batch).await;
    let asked = async |users: &[&str]| {
        let users = users.iter().map(|id| (*id).to_owned()).collect();
        let mut found = db.store.organizations_of(users).await.unwrap();
        found.sort_unstable();
        found
    };
    let pair = |user: &str, org: &str| (user.to_owned(), org.to_owned());
    let all = asked(&["user_1", "user_2", "user_3", "user_nobody"]).await;
    assert_eq!(all, [pair("user_1", "org_1"), pair("user_1", "org_2"), pair("user_2", "org_1")]);
    assert_eq!(asked(&["user_3"]).await, []);
    assert_eq!(asked(&[]).await, []);
    if db.store.address().engine() == "sqlite" {
        assert!(db.store.hear(Arc::default()).await.unwrap().is_none(), "SQLite has no other replica");
        db.store.announce().await.unwrap();
    }
}

async fn users_are_entered_when_their_rows_change(db: &Db) {
    let mut writer = db.writer().await;
    let put = |id: &str, n: i64| event(&format!("msg_{id}_{n}"), "user.updated", n, &user(id, n, "U", &json!({})));
    let receipts = commit(&mut writer, &[put("user_2", 2), put("user_1", 1)]).await;
    assert!(receipts.iter().all(|receipt| receipt.sequence == 2), "{receipts:?}");
    // The row of user_1 is made what the next delivery will say, behind the copy's back.
    let same = |id: &str| {
        format!(
            "UPDATE {{s}}users SET updated_at = (SELECT updated_at FROM {{s}}users WHERE clerk_user_id = 'user_2') \
             WHERE clerk_user_id = '{id}'"
        )
    };
    db.sql(&same("user_1")).await;
    let receipts = commit(&mut writer, &[put("user_1", 2)]).await;
    assert_eq!((receipts[0].outcome, receipts[0].sequence), (Outcome::Applied, 2), "nothing was entered");
    db.sql("UPDATE {s}users SET updated_at = NULL WHERE clerk_user_id = 'user_1'").await;
    let receipts = commit(&mut writer, &[put("user_3", 3), put("user_1", 3), put("user_4", 4)]).await;
    assert!(receipts.iter().all(|receipt| receipt.sequence == 5), "{receipts:?}");
    let receipts = commit(&mut writer, &[put("user_3", 3), put("user_2", 4)]).await;
    assert_eq!(
        receipts.iter().map(|receipt| receipt.outcome).collect::<Vec<_>>(),
        [Outcome::Duplicate, Outcome::Applied]
    );
    let feed: Vec<_> = db.feed().await.into_iter().map(|entry| (entry.entity, entry.id, entry.operation)).collect();
    let entry = |id: &str| ("user".to_owned(), id.to_owned(), "put".to_owned());
    assert_eq!(feed, ["user_1", "user_2", "user_1", "user_3", "user_4", "user_2"].map(entry));
}

async fn a_commit_announces_itself(db: &Db) {
    let mut writer = db.writer().await;
    let heard = Arc::new(Notify::new());
    let _echo = db.store.hear(heard.clone()).await.unwrap().expect("a connection that listens");
    let mut commit = async |announce: bool, n: i64| {
        let arrival = event(&format!("msg_{n}"), "user.updated", n, &user("user_1", n, "U", &json!({})));
        writer.write(&[arrival], NOW).await.unwrap();
        writer.finish_and_write::<Arrival>(NOW, announce, |_| (), || None).await.unwrap();
    };
    // It is asked to listen when it is made, and may have been told before it does: so more than once.
    let (mut n, mut is_heard) = (0, false);
    while !is_heard {
        n += 1;
        assert!(n < 400, "not heard");
        commit(true, n).await;
        is_heard = tokio::time::timeout(Duration::from_millis(50), heard.notified()).await.is_ok();
    }
    while tokio::time::timeout(Duration::from_millis(200), heard.notified()).await.is_ok() {}
    commit(false, n + 1).await;
    assert!(tokio::time::timeout(Duration::from_millis(500), heard.notified()).await.is_err(), "unasked");
    assert_eq!(db.feed().await.len(), usize::try_from(n + 1).unwrap());
}

async fn replicas_hear_each_other(db: &Db) {
    let heard = Arc::new(Notify::new());
    let echo = db.store.hear(heard.clone()).await.unwrap().expect("a connection that listens");
    // It is asked to listen when it is made, and may have been told before it does: so more than once.
    let told = async {
        loop {
            db.store.announce().await.unwrap();
            if tokio::time::timeout(Duration::from_millis(50), heard.notified()).await.is_ok() {
                break;
            }
        }
    };
    tokio::time::timeout(SOON, told).await.expect("it is heard");
    assert!(!echo.is_over());
}

//! What a delivery is called, what is recorded of it, and that a duplicate heals.

use faircopy_core::ProfileMode;
use faircopy_core::event::Context;
use faircopy_store::{Content, DeliveryFilter, Outcome};
use serde_json::json;

use crate::db::{Db, commit, deliver};
use crate::say::{INSTANCE, NOW, START, arrival_in, at, body, event, gone, member, of_world, organization, raw, user};

on_both_engines!(
    each_outcome,
    another_body_under_a_known_id_is_a_conflict,
    a_duplicate_heals,
    ties_are_contested,
    what_was_quarantined_can_be_understood_later,
    deliveries_are_found_and_paged,
);

async fn each_outcome(db: &Db) {
    let mut writer = db.writer().await;
    let ann =
        |svix_id: &str, n: i64, name: &str| event(svix_id, "user.updated", n, &user("user_a", n, name, &json!({})));
    let foreign = body("user.updated", 9, &user("user_x", 9, "X", &json!({})));
    let batch = [
        ann("msg_1", 5, "Ann"),
        ann("msg_2", 3, "Old"),
        ann("msg_3", 5, "Ann"),
        ann("msg_1", 5, "Ann"),
        event("msg_4", "session.created", 6, &json!({"id": "sess_1"})),
        arrival_in(ProfileMode::Full, "msg_5", foreign.as_bytes(), Some("ins_other")),
        event("msg_6", "user.created", 6, &json!({"id": "org_not_a_user"})),
        raw("msg_7", b"{ not json"),
        event("msg_8", "user.deleted", 6, &json!({"deleted": true})),
    ];
    let expected = [
        Outcome::Applied,
        Outcome::Stale,
        Outcome::Stale,
        Outcome::Duplicate,
        Outcome::Ignored,
        Outcome::Ignored,
        Outcome::Quarantined,
        Outcome::Quarantined,
        Outcome::Quarantined,
    ];
    let receipts = commit(&mut writer, &batch).await;
    assert_eq!(receipts.iter().map(|receipt| receipt.outcome).collect::<Vec<_>>(), expected);
    assert!(receipts.iter().enumerate().all(|(place, receipt)| receipt.news == (place == 0) && !receipt.conflict));
    assert!(receipts.iter().all(|receipt| receipt.sequence == 1));
    let again = commit(&mut writer, &batch).await;
    assert!(again.iter().all(|receipt| receipt.outcome == Outcome::Duplicate && !receipt.news && !receipt.conflict));

    let tables = db.tables().await;
    assert_eq!(tables.users.len(), 1);
    assert_eq!(tables.users["user_a"].name.as_deref(), Some("Ann"));
    assert_eq!(tables.users["user_a"].provenance.as_deref(), Some("webhook"));
    let stored = db.deliveries().await;
    let outcome = |id: &str| (stored[id].outcome.as_str(), stored[id].attempts);
    assert_eq!(stored.len(), 8);
    assert_eq!(outcome("msg_1"), ("applied", 4));
    assert_eq!(outcome("msg_2"), ("stale", 2));
    assert_eq!(outcome("msg_4"), ("ignored", 2));
    assert_eq!(outcome("msg_5"), ("ignored", 2));
    assert_eq!(outcome("msg_6"), ("quarantined", 2));
    assert!(stored.values().all(|row| row.error.is_some() == (row.outcome == "quarantined")));
    assert_eq!(db.feed().await.len(), 1);
    // The first attempt is what is kept.
    let first = db.store.delivery("msg_1").await.unwrap().unwrap();
    assert_eq!(
        (first.summary.entity_id.as_deref(), first.summary.instance_id.as_deref()),
        (Some("user_a"), Some(INSTANCE))
    );
    assert_eq!(first.summary.event_at.as_deref(), Some(faircopy_core::Millis(at(5)).to_string().as_str()));
    assert_eq!(first.body_hash, batch[0].body_hash);
    assert_eq!(db.store.delivery("msg_none").await.unwrap(), None);
}

async fn another_body_under_a_known_id_is_a_conflict(db: &Db) {
    let mut writer = db.writer().await;
    let ann = |n: i64, name: &str| event("msg_1", "user.updated", n, &user("user_a", n, name, &json!({})));
    assert!(!deliver(&mut writer, ann(1, "First")).await.conflict);
    let payload = db.store.delivery("msg_1").await.unwrap().unwrap().payload;
    let receipt = deliver(&mut writer, ann(2, "Second")).await;
    assert!((receipt.outcome, receipt.news, receipt.conflict) == (Outcome::Duplicate, true, true));
    assert_eq!(db.tables().await.users["user_a"].name.as_deref(), Some("Second"));
    // Twice in one batch, and once more as it was at first.
    let receipts = commit(&mut writer, &[ann(3, "Third"), ann(1, "First"), ann(3, "Third")]).await;
    assert!(receipts.iter().all(|receipt| receipt.outcome == Outcome::Duplicate));
    assert_eq!(receipts.iter().map(|receipt| receipt.conflict).collect::<Vec<_>>(), [true, false, true]);
    let stored = db.store.delivery("msg_1").await.unwrap().unwrap();
    assert_eq!((stored.summary.attempts, stored.payload), (5, payload));
    assert!(stored.summary.conflicts >= 2, "{}", stored.summary.conflicts);
    assert_eq!(db.tables().await.users["user_a"].name.as_deref(), Some("Third"));

    // Two bodies under a new id in one batch.
    let bob = |n: i64, name: &str| event("msg_2", "user.updated", n, &user("user_b", n, name, &json!({})));
    let receipts = commit(&mut writer, &[bob(1, "First"), bob(2, "Second")]).await;
    assert_eq!(
        receipts.iter().map(|receipt| receipt.outcome).collect::<Vec<_>>(),
        [Outcome::Applied, Outcome::Duplicate]
    );
    assert!(receipts[1].conflict && receipts[1].news);
    let stored = db.store.delivery("msg_2").await.unwrap().unwrap();
    assert_eq!((stored.summary.attempts, stored.summary.conflicts), (2, 1));
    assert_eq!(db.tables().await.users["user_b"].name.as_deref(), Some("Second"));
    // The first of them older than what is known: the delivery has brought something all the same.
    let later = |n: i64, name: &str| event("msg_3", "user.updated", n, &user("user_b", n, name, &json!({})));
    let receipts = commit(&mut writer, &[later(1, "Older"), later(3, "Third")]).await;
    assert_eq!(receipts.iter().map(|receipt| receipt.news).collect::<Vec<_>>(), [false, true]);
    assert_eq!(db.store.delivery("msg_3").await.unwrap().unwrap().summary.outcome, "applied");
}

async fn a_duplicate_heals(db: &Db) {
    let mut writer = db.writer().await;
    let (events, truth) = faircopy_world::company(11, 12, 3, START);
    let deliveries = of_world(&events);
    commit(&mut writer, &deliveries).await;
    db.tables().await.assert_same_as(&truth);
    let damage = [
        "UPDATE {s}users SET name = 'somebody else', workspace_id = 'w_wrong', banned = NULL",
        "DELETE FROM {s}users",
        "UPDATE {s}organizations SET name = NULL, workspace_id = 'w_wrong'",
        "UPDATE {s}users SET workspace_id = 'w_wrong'",
        "DELETE FROM {s}organizations",
        "UPDATE {s}organization_members SET role = 'org:wrong', clerk_membership_id = NULL",
        "DELETE FROM {s}organization_members",
        "UPDATE {s}organization_invitations SET status = 'wrong', expires_at = NULL",
        "DELETE FROM {s}organization_invitations",
        "DELETE FROM {s}users; DELETE FROM {s}organizations; DELETE FROM {s}organization_members",
    ];
    for damage in damage {
        let before = db.sequence().await;
        db.sql(damage).await;
        assert!(!db.tables().await.same_as(&truth).is_empty(), "{damage}");
        // Each on its own: the worker may see a single late duplicate.
        for delivery in &deliveries {
            let receipt = deliver(&mut writer, delivery.clone()).await;
            assert_eq!((receipt.outcome, receipt.news), (Outcome::Duplicate, false));
        }
        let differences = db.tables().await.same_as(&truth);
        assert!(differences.is_empty(), "after `{damage}`:\n{}", differences.join("\n"));
        assert!(db.sequence().await > before, "the feed tells of the repair of `{damage}`");
    }

    // What should not be there goes when its deletion comes again.
    let deletion = event("msg_gone", "user.deleted", 1, &gone("user", "user_gone"));
    assert_eq!(deliver(&mut writer, deletion.clone()).await.outcome, Outcome::Applied);
    db.sql(
        "INSERT INTO {s}users (clerk_user_id, provenance) VALUES ('user_gone', 'webhook'); \
         INSERT INTO {s}organization_members (clerk_org_id, clerk_user_id, provenance) VALUES ('org_x', 'user_gone', 'webhook')",
    )
    .await;
    let before = db.sequence().await;
    assert_eq!(deliver(&mut writer, deletion).await.outcome, Outcome::Duplicate);
    db.tables().await.assert_same_as(&truth);
    assert_eq!(db.said_since(before).await, ["remove member org_x/user_gone", "remove user user_gone"]);
}

async fn ties_are_contested(db: &Db) {
    let mut writer = db.writer().await;
    let tie = |svix_id: &str, n: i64, name: &str| {
        event(svix_id, "organization.updated", n, &organization("org_a", 1, name, &json!({})))
    };
    assert!(!deliver(&mut writer, tie("msg_1", 1, "One")).await.contested);
    assert!(deliver(&mut writer, tie("msg_2", 3, "Three")).await.contested);
    assert!(deliver(&mut writer, tie("msg_3", 2, "Two")).await.contested);
    assert_eq!(db.tables().await.organizations["org_a"].name.as_deref(), Some("Three"));
    let newer = event("msg_4", "organization.updated", 4, &organization("org_a", 4, "Four", &json!({})));
    assert!(!deliver(&mut writer, newer).await.contested);
}

async fn what_was_quarantined_can_be_understood_later(db: &Db) {
    let mut writer = db.writer().await;
    let text = body("user.created", 1, &user("user_a", 1, "Ann", &json!({})));
    let mut early = raw("msg_1", text.as_bytes());
    early.signed_at = faircopy_core::Millis(START - 3_600_000);
    early.content = Content::read(
        text.as_bytes(),
        &Context { mode: ProfileMode::Full, signed_at: early.signed_at, instance: None },
    );
    assert_eq!(deliver(&mut writer, early).await.outcome, Outcome::Quarantined);
    assert!(db.tables().await.users.is_empty());
    let error = db.deliveries().await["msg_1"].error.clone().unwrap();
    assert!(error.contains("ahead"), "{error}");
    let receipt = deliver(&mut writer, raw("msg_1", text.as_bytes())).await;
    assert_eq!((receipt.outcome, receipt.news), (Outcome::Duplicate, true));
    let stored = &db.deliveries().await["msg_1"];
    assert_eq!((stored.outcome.as_str(), stored.attempts, &stored.error), ("applied", 2, &None));
    assert_eq!(db.tables().await.users.len(), 1);
}

async fn deliveries_are_found_and_paged(db: &Db) {
    let mut writer = db.writer().await;
    let batch: Vec<_> = (0..25)
        .map(|number| {
            let id = format!("orgmem_{}", number % 5);
            let data = member(&id, "org_a", &format!("user_{}", number % 5), 0, number, "org:member");
            let mut arrival = event(&format!("msg_{number:02}"), "organizationMembership.updated", number, &data);
            // Several arrive in one millisecond.
            arrival.received_at = NOW.plus(number / 3);
            arrival
        })
        .collect();
    commit(&mut writer, &batch).await;
    for newest_first in [false, true] {
        let (mut found, mut cursor) = (Vec::new(), None::<(String, String)>);
        loop {
            let after = cursor.as_ref().map(|(at, id)| (at.as_str(), id.as_str()));
            let page = db.store.deliveries(&DeliveryFilter::default(), after, newest_first, 4).await.unwrap();
            let Some(last) = page.last() else { break };
            cursor = Some((last.received_at.clone(), last.svix_id.clone()));
            found.extend(page.into_iter().map(|row| row.svix_id));
        }
        if newest_first {
            found.reverse();
        }
        assert!(found.iter().eq(batch.iter().map(|arrival| &arrival.svix_id)), "{found:?}");
    }
    let filter = DeliveryFilter {
        outcome: Some("applied".into()),
        event_type: Some("organizationMembership.updated".into()),
        entity_id: Some("orgmem_2".into()),
        since: Some(NOW.plus(2)),
        until: Some(NOW.plus(7)),
        svix_id: None,
    };
    let found = db.store.deliveries(&filter, None, false, 100).await.unwrap();
    assert_eq!(found.iter().map(|row| row.svix_id.as_str()).collect::<Vec<_>>(), ["msg_07", "msg_12", "msg_17"]);
}

//! What the copy knows of a session: each asker gets their own answer, and none that was already over when they asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use faircopy_core::id::{OrganizationId, UserId};
use faircopy_store::{Error, Standing, Store};
use serde_json::json;

use crate::db::{Db, commit, deliver};
use crate::say::{NOW, event, gone, member, organization, user};

on_both_engines!(each_asker_gets_their_own_answer, no_answer_is_older_than_its_question, a_failure_reaches_every_asker);

/// Users 0 to 39 exist but for every fifth, who was deleted; user `n` is a member of organization `n % 4` with the role `n`.
const USERS: usize = 40;

fn user_id(number: usize) -> UserId {
    UserId::parse(&format!("user_{number}")).unwrap()
}

fn organization_id(number: usize) -> OrganizationId {
    OrganizationId::parse(&format!("org_{number}")).unwrap()
}

async fn each_asker_gets_their_own_answer(db: &Db) {
    let mut writer = db.writer().await;
    let mut batch = Vec::new();
    for number in 0..4 {
        let id = format!("org_{number}");
        batch.push(event(&format!("o{number}"), "organization.created", 1, &organization(&id, 1, "O", &json!({}))));
    }
    for number in 0..USERS {
        let (id, org) = (format!("user_{number}"), format!("org_{}", number % 4));
        batch.push(event(&format!("u{number}"), "user.created", 1, &user(&id, 1, "U", &json!({}))));
        let membership = member(&format!("orgmem_{number}"), &org, &id, 2, 2, &format!("org:r{number}"));
        batch.push(event(&format!("m{number}"), "organizationMembership.created", 2, &membership));
        if number % 5 == 0 {
            batch.push(event(&format!("d{number}"), "user.deleted", 3, &gone("user", &id)));
        }
    }
    commit(&mut writer, &batch).await;
    let sequence = db.sequence().await;
    let ask = |number: usize| {
        let store = db.store.clone();
        tokio::spawn(async move {
            // In the own organization, in another one, in none; in turn, so that one read holds all kinds.
            let organization = match number % 3 {
                0 => Some(organization_id(number % USERS % 4)),
                1 => Some(organization_id((number % USERS + 1) % 4)),
                _ => None,
            };
            store.standing(&user_id(number % USERS), organization.as_ref()).await
        })
    };
    let asked: Vec<_> = (0..600).map(ask).collect();
    for (number, answer) in asked.into_iter().enumerate() {
        let (standing, user) = (answer.await.unwrap().unwrap(), number % USERS);
        let is_gone = user % 5 == 0;
        assert_eq!((standing.is_deleted, standing.has_user), (is_gone, !is_gone), "user {user}");
        assert_eq!(standing.has_organization, number % 3 != 2);
        let role = standing.member.and_then(|member| member.role);
        let expected = (number % 3 == 0 && !is_gone).then(|| format!("org:r{user}"));
        assert_eq!(role, expected, "user {user}, request {number}");
        assert_eq!((standing.freshness.sequence, standing.freshness.as_of), (sequence, Some(NOW)));
    }
    let unknown = db.store.standing(&user_id(999), Some(&organization_id(999))).await.unwrap();
    assert!(!unknown.has_user && !unknown.has_organization && unknown.member.is_none() && !unknown.is_deleted);
}

/// Many ask all the time; whoever asks after a commit sees it, also through another replica's store.
async fn no_answer_is_older_than_its_question(db: &Db) {
    let mut writer = db.writer().await;
    let start = [
        event("o", "organization.created", 1, &organization("org_0", 1, "O", &json!({}))),
        event("u", "user.created", 1, &user("user_0", 1, "U", &json!({}))),
    ];
    commit(&mut writer, &start).await;
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let replica = Store::new(db.store.address().clone());
    let is_member = |standing: Result<Standing, Error>| standing.unwrap().member.is_some();
    let crowd: Vec<_> = (0..12)
        .map(|number| {
            let store = if number % 2 == 0 { db.store.clone() } else { replica.clone() };
            let (stop, asked) = (stop.clone(), asked.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    store.standing(&user_id(0), Some(&organization_id(0))).await.unwrap();
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for round in 0..30_i64 {
        let (membership, n) = (format!("orgmem_{round}"), 10 + 10 * round);
        let joined = member(&membership, "org_0", "user_0", n, n, "org:member");
        deliver(&mut writer, event(&format!("j{round}"), "organizationMembership.created", n, &joined)).await;
        for store in [&db.store, &replica] {
            assert!(is_member(store.standing(&user_id(0), Some(&organization_id(0))).await), "joined in round {round}");
        }
        deliver(&mut writer, event(&format!("l{round}"), "organizationMembership.deleted", n + 1, &joined)).await;
        for store in [&db.store, &replica] {
            assert!(!is_member(store.standing(&user_id(0), Some(&organization_id(0))).await), "left in round {round}");
        }
    }
    stop.store(true, Ordering::Relaxed);
    for one in crowd {
        one.await.unwrap();
    }
    assert!(asked.load(Ordering::Relaxed) > 60, "the crowd has asked meanwhile");
    replica.close().await;
}

async fn a_failure_reaches_every_asker(db: &Db) {
    // The schema is missing.
    let ask = |number| {
        let store = db.store.clone();
        tokio::spawn(async move { store.standing(&user_id(number), None).await })
    };
    for answer in (0..100).map(ask).collect::<Vec<_>>() {
        assert!(answer.await.unwrap().is_err());
    }
    // It is forgotten with its askers.
    drop(db.writer().await);
    assert!(!db.store.standing(&user_id(0), None).await.unwrap().has_user);
}

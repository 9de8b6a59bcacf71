//! What the copy knows of a session: each asker gets their own answer, and none that was already over when they asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use faircopy_core::id::{OrganizationId, UserId};
use faircopy_store::{Error, Standing, Store};
use serde_json::json;

use crate::db::{Db, commit, deliver};
use crate::provisional::{learn, token_of};
use crate::say::{NOW, event, gone, member, organization, user};

on_both_engines!(
    each_asker_gets_their_own_answer,
    the_rows_alone_say_what_the_merge_says,
    no_answer_is_older_than_its_question,
    a_failure_reaches_every_asker,
);

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

/// Where no more than the rows is read, the answer is the one that the registers would have given: for full, provisional,
/// ended, deleted and unknown users, organizations and memberships, and tokens of before and after.
async fn the_rows_alone_say_what_the_merge_says(db: &Db) {
    let mut writer = db.writer().await;
    let batch = [
        event("o1", "organization.created", 5, &organization("org_full", 5, "O", &json!({}))),
        event("o2", "organization.deleted", 6, &gone("organization", "org_gone")),
        event("u1", "user.created", 5, &user("user_full", 5, "U", &json!({}))),
        event("u2", "user.deleted", 6, &gone("user", "user_gone")),
        event("u3", "user.created", 5, &user("user_left", 5, "L", &json!({}))),
    ];
    commit(&mut writer, &batch).await;
    let joined = member("orgmem_1", "org_full", "user_full", 5, 5, "org:admin");
    deliver(&mut writer, event("m1", "organizationMembership.created", 5, &joined)).await;
    let left = member("orgmem_2", "org_full", "user_left", 5, 5, "org:admin");
    deliver(&mut writer, event("m2", "organizationMembership.created", 5, &left)).await;
    deliver(&mut writer, event("m3", "organizationMembership.deleted", 7, &left)).await;
    for (organization, person) in [("org_full", "user_token"), ("org_token", "user_full"), ("org_token", "user_token")]
    {
        learn(&mut writer, token_of(organization, person, 8, Some("slug"), "org:admin")).await;
    }
    let (mut settled, mut news) = (0, 0);
    for person in ["user_full", "user_token", "user_gone", "user_left", "user_new"] {
        for organization in ["org_full", "org_token", "org_gone", "org_new"] {
            for (n, slug, role) in [
                (4, "slug", "org:admin"),
                (8, "slug", "org:admin"),
                (9, "slug", "org:member"),
                (9, "other", "org:admin"),
            ] {
                let said = token_of(organization, person, n, Some(slug), role);
                let (user, active) = (UserId::parse(person).unwrap(), OrganizationId::parse(organization).unwrap());
                let full = db.store.standing(&user, Some(&active)).await.unwrap();
                let found = db.store.standing_after(&said, &user, Some(&active)).await.unwrap();
                let told = format!("{person} {organization} {n} {slug} {role}");
                assert_eq!(
                    (found.is_deleted, found.has_user, &found.member),
                    (full.is_deleted, full.has_user, &full.member),
                    "{told}"
                );
                assert_eq!(found.freshness, full.freshness);
                let (found, full) = (found.news(said.clone()), full.news(said));
                assert_eq!(found, full, "{told}");
                if full.is_empty() { settled += 1 } else { news += 1 }
            }
        }
    }
    assert!(settled > 20 && news > 20, "{settled} settled, {news} with news");
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

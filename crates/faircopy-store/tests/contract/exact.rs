//! Any order, split and repetition of a history gives the truth, and a feed without gaps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use faircopy_store::{Arrival, Entry, Outcome, Store, Writer};
use faircopy_testkit::seed::Seed;
use faircopy_testkit::tables::Tables;
use faircopy_world::{Settings, Truth, World, company, shuffled};
use serde_json::json;

use crate::db::{Db, commit};
use crate::say::{START, event, member, of_world, organization, user};

on_both_engines!(in english; a_company_in_any_order, hard_worlds_in_any_order, two_memberships_of_one_age);
mod of_batches {
    use super::{everything_in_one_batch, three_writers_at_once};
    on_both_engines!(three_writers_at_once, everything_in_one_batch);
}

/// Commits in batches of 1 to 150: below and above the number of rows that one SQLite statement takes.
async fn commit_in_pieces(writer: &mut Writer, arrivals: &[Arrival], seed: u64) -> Vec<(Outcome, bool)> {
    let (mut rest, mut chance, mut outcomes) = (arrivals, seed | 1, Vec::new());
    while !rest.is_empty() {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let size = usize::try_from((chance >> 33) % 150).unwrap() + 1;
        let (batch, others) = rest.split_at(size.min(rest.len()));
        let receipts = commit(writer, batch).await;
        assert_eq!(receipts.len(), batch.len());
        outcomes.extend(receipts.iter().map(|receipt| (receipt.outcome, receipt.news)));
        rest = others;
    }
    outcomes
}

/// What a reader that follows the feed knows to exist.
fn followed(feed: &[Entry]) -> BTreeSet<(String, String)> {
    let mut known = BTreeSet::new();
    for entry in feed {
        let row = (entry.entity.clone(), entry.id.clone());
        if entry.operation == "put" {
            known.insert(row)
        } else {
            known.remove(&row)
        };
    }
    known
}

fn keys(tables: &Tables) -> BTreeSet<(String, String)> {
    let named = |entity: &str, id: String| (entity.to_owned(), id);
    let users = tables.users.keys().map(|id| named("user", id.clone()));
    let organizations = tables.organizations.keys().map(|id| named("organization", id.clone()));
    let members = tables.members.keys().map(|(org, user)| named("member", format!("{org}/{user}")));
    let invitations = tables.invitations.keys().map(|id| named("invitation", id.clone()));
    let workspaces = tables.workspaces.keys().map(|id| named("workspace", id.clone()));
    users.chain(organizations).chain(members).chain(invitations).chain(workspaces).collect()
}

async fn assert_exact(db: &Db, truth: &Truth) {
    let tables = db.tables().await;
    tables.assert_same_as(truth);
    assert_eq!(followed(&db.feed().await), keys(&tables));
}

async fn a_company_in_any_order(db: &Db) {
    let seed = Seed::of_run();
    let (events, truth) = company(seed.value(), 60, 8, START);
    let deliveries = of_world(&shuffled(&events, seed.value(), 25));
    let mut writer = db.writer().await;
    let outcomes = commit_in_pieces(&mut writer, &deliveries, seed.value()).await;
    assert_exact(db, &truth).await;

    let mut attempts: BTreeMap<&str, i64> = BTreeMap::new();
    for delivery in &deliveries {
        *attempts.entry(&delivery.svix_id).or_default() += 1;
    }
    let stored = db.deliveries().await;
    assert_eq!(stored.iter().map(|(id, row)| (id.as_str(), row.attempts)).collect::<BTreeMap<_, _>>(), attempts);
    let duplicates = outcomes.iter().filter(|(outcome, _)| *outcome == Outcome::Duplicate).count();
    assert_eq!(duplicates, deliveries.len() - events.len());
    let counts = db.store.counts().await.unwrap();
    let count = |number: usize| i64::try_from(number).unwrap();
    assert_eq!(
        (counts.users, counts.organizations, counts.members, counts.invitations),
        (
            count(truth.users.len()),
            count(truth.organizations.len()),
            count(truth.members.len()),
            count(truth.invitations.len())
        )
    );
    let total = |of: fn(&faircopy_store::OutcomeCount) -> i64| counts.outcomes.iter().map(of).sum::<i64>();
    assert_eq!((total(|o| o.deliveries), total(|o| o.duplicates)), (count(events.len()), count(duplicates)));

    // A second pass, in another order: nothing is new, no row is written, the feed is silent.
    let (tables, sequence, versions) = (db.tables().await, db.sequence().await, row_versions(db).await);
    let again = of_world(&shuffled(&events, seed.value() + 1, 0));
    let outcomes = commit_in_pieces(&mut writer, &again, seed.value() + 1).await;
    assert!(outcomes.iter().all(|outcome| *outcome == (Outcome::Duplicate, false)));
    assert_eq!((db.tables().await, db.sequence().await), (tables, sequence));
    assert_eq!(row_versions(db).await, versions);
}

/// Which transaction wrote each row, where the engine tells.
async fn row_versions(db: &Db) -> Vec<Option<String>> {
    if db.is_sqlite() {
        return Vec::new();
    }
    let tables = ["users", "organizations", "organization_members", "organization_invitations", "registers"];
    let selects = tables.map(|table| format!("SELECT '{table}' || ctid::text || xmin::text FROM faircopy.{table}"));
    db.sql(&format!("SELECT * FROM ({}) AS all_rows (version) ORDER BY 1", selects.join(" UNION ALL "))).await
}

async fn hard_worlds_in_any_order(db: &Db) {
    let seed = Seed::of_run();
    let mut writer = db.writer().await;
    let mut all = Truth {
        users: BTreeMap::new(),
        organizations: BTreeMap::new(),
        members: BTreeMap::new(),
        invitations: BTreeMap::new(),
        workspaces: BTreeMap::new(),
    };
    let mut deliveries = Vec::new();
    for number in 0..60 {
        let seed = seed.value() + number;
        let settings =
            Settings { child_events: number % 2 == 0, ties: number % 3 == 0, start_ms: START, ..Settings::default() };
        let mut world = World::new(seed, settings);
        for _ in 0..30 {
            world.advance();
        }
        deliveries.extend(shuffled(&world.take_events(), seed, 25));
        let truth = world.truth();
        all.users.extend(truth.users);
        all.organizations.extend(truth.organizations);
        all.members.extend(truth.members);
        all.invitations.extend(truth.invitations);
        all.workspaces.extend(truth.workspaces);
    }
    commit_in_pieces(&mut writer, &of_world(&deliveries), seed.value()).await;
    assert_exact(db, &all).await;
}

async fn everything_in_one_batch(db: &Db) {
    let seed = Seed::of_run();
    let (events, truth) = company(seed.value() + 7, 60, 8, START);
    let mut writer = db.writer().await;
    let receipts = commit(&mut writer, &of_world(&shuffled(&events, seed.value(), 50))).await;
    assert_eq!(receipts.iter().filter(|receipt| receipt.outcome == Outcome::Duplicate).count(), events.len() / 2);
    assert_exact(db, &truth).await;
    assert_eq!(commit(&mut writer, &[]).await, []);
}

async fn three_writers_at_once(db: &Db) {
    let seed = Seed::of_run();
    let (events, truth) = company(seed.value() + 3, 60, 8, START);
    drop(db.writer().await);
    let done = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn(follow(db.store.clone(), Arc::clone(&done)));
    let writers: Vec<_> = (0..3)
        .map(|number| {
            let deliveries = of_world(&shuffled(&events, seed.value() + number, 0));
            let mut writer = db.store.writer();
            tokio::spawn(async move {
                for batch in deliveries.chunks(23) {
                    commit(&mut writer, batch).await;
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    assert_eq!(reader.await.unwrap(), db.feed().await, "the feed as it was followed, and as it is");
    assert_exact(db, &truth).await;
    let stored = db.deliveries().await;
    assert_eq!(stored.len(), events.len());
    assert!(stored.values().all(|delivery| delivery.attempts == 3));
}

/// Follows the feed from the start: each number comes once, in order, and none before it comes later.
async fn follow(store: Store, done: Arc<AtomicBool>) -> Vec<Entry> {
    let mut seen: Vec<Entry> = Vec::new();
    loop {
        let last_look = done.load(Ordering::SeqCst);
        let newest = seen.last().map_or(0, |entry| entry.sequence);
        let news = store.changes_after(newest, 50).await.unwrap();
        for (entry, expected) in news.iter().zip(newest + 1..) {
            assert_eq!(entry.sequence, expected, "a gap that a late commit would fill");
        }
        let quiet = news.is_empty();
        seen.extend(news);
        if quiet && last_look {
            return seen;
        }
        if quiet {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Of two memberships of one millisecond, the one whose id comes first byte by byte is the older, on every engine.
async fn two_memberships_of_one_age(db: &Db) {
    let mut writer = db.writer().await;
    let mut batch = vec![event("msg_u", "user.created", 1, &user("user_a", 1, "A", &json!({})))];
    for name in ["B", "a"] {
        let (org, id) = (format!("org_{name}"), format!("orgmem_{name}"));
        let metadata = json!({"workspaceId": format!("w_{name}")});
        let data = organization(&org, 1, name, &metadata);
        batch.push(event(&format!("msg_o{name}"), "organization.created", 1, &data));
        let data = member(&id, &org, "user_a", 1, 1, "org:member");
        batch.push(event(&format!("msg_m{name}"), "organizationMembership.created", 1, &data));
    }
    commit(&mut writer, &batch).await;
    assert_eq!(db.tables().await.users["user_a"].workspace_id.as_deref(), Some("w_B"));
}

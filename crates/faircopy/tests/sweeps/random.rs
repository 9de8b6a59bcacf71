//! Random worlds: writes at Clerk, of whose deliveries 30 % are lost and the rest doubled and shuffled; then one reconcile.
//! In half of them Clerk's API is out of order meanwhile: stale lists, 429, 5xx, answers that break off, half pages.

use faircopy::sweep::{Ending, Order, Report, Stop};
use faircopy_sandbox::Settings;
use faircopy_sandbox::chaos::{self, ApiChaos, Stale};
use faircopy_sandbox::instance::{Dice, Event, Options, Population};
use faircopy_testkit::seed::Seed;
use tokio::task::JoinSet;

use crate::place::{Engine, HOUR, Place, removed, run};

/// Worlds on SQLite, and on PostgreSQL.
const ON_SQLITE: u64 = 200;
const ON_POSTGRES: u64 = 20;
/// Worlds that live side by side: each waits more than it works.
const AT_ONCE: usize = 8;
/// Of a hundred deliveries so many never arrive.
const LOST: usize = 30;
const DOUBLED: usize = 25;

/// What is out of order at Clerk's API, in every second world. The reconcile of that time need not be exact; it must not
/// remove what lives.
fn disorder(seed: u64, dice: &mut Dice) -> chaos::Settings {
    let mut percent = |most: usize| f64::from(u32::try_from(dice.below(most)).unwrap());
    let api = ApiChaos {
        limited_percent: percent(12),
        retry_after_s: Some(1),
        error_percent: percent(20),
        error_status: 503,
        truncated_percent: percent(10),
        html_percent: percent(10),
        half_page_percent: percent(10),
        stale: Stale { lists: percent(2) > 0.0, reads: false, lag_ms: Some(HOUR / 4) },
        ..ApiChaos::default()
    };
    chaos::Settings { seed, api, ..chaos::Settings::default() }
}

/// What becomes of the deliveries of some writes.
struct Mail {
    waiting: Vec<(String, Event)>,
    number: usize,
}

impl Mail {
    fn take(&mut self, events: Vec<Event>, dice: &mut Dice, lost: usize) {
        for event in events {
            self.number += 1;
            if dice.below(100) < lost {
                continue;
            }
            let id = format!("msg_{}", self.number);
            if dice.below(100) < DOUBLED {
                self.waiting.push((id.clone(), event.clone()));
            }
            self.waiting.push((id, event));
        }
    }

    /// Delivers so many of those that wait, in no order.
    async fn deliver(&mut self, place: &Place, dice: &mut Dice, at_most: usize) {
        for _ in 0..at_most.min(self.waiting.len()) {
            let (id, event) = self.waiting.swap_remove(dice.below(self.waiting.len()));
            place.deliver(&id, &event).await;
        }
    }
}

async fn one_world(engine: Engine, seed: u64) {
    let mut dice = Dice::new(seed);
    let options = Options { child_events: dice.below(2) == 0, cursors: dice.below(4) != 0, ..Options::default() };
    let population = Population { users: 12, organizations: 3, members: 4, seed };
    let place =
        Place::new(engine, Settings { seed, options, population: Some(population), ..Settings::default() }).await;
    let mut mail = Mail { waiting: vec![], number: 0 };
    for _ in 0..40 {
        let (_, events) = place.change(|instance, now| instance.change_at_random(&mut dice, now));
        mail.take(events, &mut dice, LOST);
        place.clock.advance(1_000);
    }
    let half = mail.waiting.len() / 2;
    mail.deliver(&place, &mut dice, half).await;
    place.clock.advance(HOUR);
    // Writes go on while the first reconcile runs; their deliveries are late, and come.
    let order = Order::reconcile();
    let is_disordered = seed.is_multiple_of(2);
    if is_disordered {
        set_chaos(&place, disorder(seed, &mut dice));
    }
    let (report, ()) = tokio::join!(place.sweep(order), async {
        for _ in 0..10 {
            let (_, events) = place.change(|instance, now| instance.change_at_random(&mut dice, now));
            mail.take(events, &mut dice, 0);
            mail.deliver(&place, &mut dice, 3).await;
        }
    });
    match report {
        Ok(report) => assert_nothing_alive_was_removed(&place, &report, seed),
        Err(stop) => assert!(is_disordered && matches!(stop, Stop::Clerk(_)), "seed {seed}: {stop}"),
    }
    set_chaos(&place, chaos::Settings::default());
    mail.deliver(&place, &mut dice, usize::MAX).await;
    place.clock.advance(HOUR);
    let report = place.sweep(order).await.unwrap();
    assert_nothing_alive_was_removed(&place, &report, seed);
    assert_ne!(report.outcome, Some(Ending::Differences), "seed {seed}: {report:?}");
    place.assert_exact(&format!("seed {seed}, after the reconcile")).await;
    let sequence = place.store.freshness().await.unwrap().sequence;
    place.clock.advance(HOUR);
    let report = place.sweep(order).await.unwrap();
    assert_eq!(report.outcome, Some(Ending::Exact), "seed {seed}: {report:?}");
    assert_eq!(place.store.freshness().await.unwrap().sequence, sequence, "seed {seed}: nothing is left to change");
}

fn set_chaos(place: &Place, settings: chaos::Settings) {
    place.sandbox.shared().with(|state, now| state.set_chaos(settings, now)).unwrap();
}

/// I9. Ids of users, organizations and invitations never come back; a pair may.
fn assert_nothing_alive_was_removed(place: &Place, report: &Report, seed: u64) {
    let truth = place.truth();
    for id in removed(report) {
        let ids =
            [truth.users.contains_key(&id), truth.organizations.contains_key(&id), truth.invitations.contains_key(&id)];
        assert!(!ids.contains(&true), "seed {seed}: {id} lives and was removed");
        if let Some((organization, user)) = id.split_once('/') {
            let member = truth.members.get(&(organization.to_owned(), user.to_owned()));
            let was_there = member.is_some_and(|row| row.created_at_ms < report.began_at.0);
            assert!(!was_there, "seed {seed}: {id} lives and was removed");
        }
    }
}

fn every_world(engine: Engine, worlds: u64) {
    run(async {
        let seed = Seed::of_run();
        let (mut under_way, mut left) = (JoinSet::new(), seed.value()..seed.value() + worlds);
        loop {
            while under_way.len() < AT_ONCE
                && let Some(world) = left.next()
            {
                under_way.spawn(one_world(engine, world));
            }
            match under_way.join_next().await {
                None => return,
                Some(Ok(())) => {}
                Some(Err(failed)) => std::panic::resume_unwind(failed.into_panic()),
            }
        }
    });
}

#[test]
fn whatever_was_lost_the_copy_equals_clerk_after_one_reconcile() {
    every_world(Engine::Sqlite, ON_SQLITE);
}

#[test]
fn whatever_was_lost_the_copy_equals_clerk_on_postgres_too() {
    every_world(Engine::Postgres, ON_POSTGRES);
}

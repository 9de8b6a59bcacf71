//! A server compares its copy with Clerk by itself: soon after its start, then at intervals, and only one replica does.

use std::sync::Arc;

use faircopy::config::Every;
use faircopy::sweep::{Ending, Order};
use faircopy::worker::reconcile::Reconciler;
use faircopy_sandbox::Settings;
use faircopy_sandbox::instance::{Dice, Population};
use tokio::sync::Notify;

use crate::place::{Engine, Place, run};

const SECOND: i64 = 1_000;
/// A server that has just started serves first.
const FIRST: i64 = 21 * SECOND;
const MINUTES: u32 = 15;
const INTERVAL: i64 = 15 * 60 * SECOND;

fn worker(place: &Place, every: Every) -> (Reconciler, tokio::task::JoinHandle<()>) {
    let (sweeper, intake) = place.another();
    let order = Order { grace_ms: 0, ..Order::reconcile() };
    (Reconciler::new(sweeper, every, order, Arc::new(Notify::new()), 0), intake)
}

fn change(place: &Place, seed: u64) {
    let mut dice = Dice::new(seed);
    for _ in 0..20 {
        place.change(|instance, now| instance.change_at_random(&mut dice, now));
    }
}

#[test]
fn a_server_with_a_key_reconciles_by_itself_and_its_replicas_need_not() {
    run(async {
        for engine in [Engine::Sqlite, Engine::Postgres] {
            let population = Population { users: 20, organizations: 3, members: 4, seed: 2 };
            let place = Place::new(engine, Settings { population: Some(population), ..Settings::default() }).await;
            let (mut one, _intake) = worker(&place, Every::Minutes(MINUTES));
            let (mut other, _its_intake) = worker(&place, Every::Minutes(MINUTES));
            assert!(one.step().await.is_none(), "{engine:?}: not at its start");
            place.clock.advance(FIRST);
            let report = one.step().await.expect("it is time");
            assert_eq!(report.outcome, Some(Ending::Repaired), "{engine:?}: {report:?}");
            assert!(other.step().await.is_none(), "{engine:?}: the other one has done it");
            place.assert_exact("after the first").await;

            change(&place, 4);
            place.clock.advance(INTERVAL / 2);
            assert!(one.step().await.is_none() && other.step().await.is_none(), "{engine:?}: not before its time");
            place.clock.advance(INTERVAL / 2 + SECOND);
            let report = other.step().await.expect("it is time again");
            assert_eq!(report.outcome, Some(Ending::Repaired), "{engine:?}: {report:?}");
            assert!(one.step().await.is_none(), "{engine:?}");
            place.assert_exact("after the second").await;
        }
    });
}

#[test]
fn whoever_wants_it_never_has_it_never() {
    run(async {
        let place = Place::new(Engine::Sqlite, Settings::default()).await;
        let (mut worker, _intake) = worker(&place, Every::Never);
        place.clock.advance(365 * 24 * 3_600 * SECOND);
        assert!(worker.step().await.is_none());
    });
}

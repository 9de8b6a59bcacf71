//! A sweep that is stopped anywhere goes on; one that has lost its lease commits nothing.

use std::time::Duration;

use faircopy::sweep::{Ending, Glimpse, LEASE, Order, Stop};
use faircopy_sandbox::Settings;
use faircopy_sandbox::instance::{Dice, Population};
use faircopy_sandbox::post::{DeliveryState, NewEndpoint};
use faircopy_store::Swept;
use faircopy_testkit::seed::Seed;
use tokio::sync::watch;

use crate::place::{Engine, HOUR, Place, run};

const MANY: Population = Population { users: 4_000, organizations: 40, members: 20, seed: 3 };
/// Longer than a lease lasts without being renewed.
const LEASE_IS_OVER: i64 = 60_000;

#[test]
fn a_backfill_that_is_stopped_again_and_again_reads_no_page_twice_for_it() {
    run(async {
        let settings = || Settings { population: Some(MANY), ..Settings::default() };
        let undisturbed = Place::new(Engine::Sqlite, settings()).await;
        let requests = undisturbed.sweep(Order::backfill()).await.unwrap().requests;
        let seed = Seed::of_run();
        let mut dice = Dice::new(seed.value());
        let place = Place::new(Engine::Sqlite, settings()).await;
        let (mut stops, mut asked) = (0, 0);
        let report = loop {
            let (sweeper, worker) = place.another();
            let (sender, glimpses) = watch::channel(Glimpse::default());
            let stop_after = Duration::from_millis(20 + dice.below(120) as u64);
            let outcome = tokio::time::timeout(stop_after, sweeper.run(Order::backfill(), &sender)).await;
            worker.abort();
            if let Ok(outcome) = outcome {
                break outcome.unwrap();
            }
            (stops, asked) = (stops + 1, glimpses.borrow().report.requests.max(asked));
            place.clock.advance(LEASE_IS_OVER);
            assert!(stops < 500, "no progress");
        };
        assert!(stops >= 3, "it was over before it could be stopped");
        place.assert_exact(&format!("after {stops} stops")).await;
        assert_eq!(report.kinds[&Swept::User].seen, 4_000);
        // Of each stop, what was on its way is asked for again: a page and a total of each of the four lists.
        assert!(
            report.requests <= requests + 8 * stops,
            "{} requests, {requests} undisturbed, {stops} stops",
            report.requests
        );
    });
}

/// I13.
#[test]
fn whoever_has_lost_the_lease_commits_nothing() {
    run(async {
        let place = Place::new(Engine::Sqlite, Settings { population: Some(MANY), ..Settings::default() }).await;
        let (sender, mut glimpses) = watch::channel(Glimpse::default());
        let took_over = async {
            glimpses.changed().await.unwrap();
            place.clock.advance(LEASE_IS_OVER);
            let mut other = place.store.writer();
            let now = faircopy::app::Clock::now(&place.clock);
            let fence = other.take_lease(LEASE, "somebody else", now, LEASE_IS_OVER).await.unwrap().unwrap();
            let sequence = place.store.freshness().await.unwrap().sequence;
            (fence, sequence)
        };
        let (outcome, (fence, sequence)) = tokio::join!(place.sweeper.run(Order::backfill(), &sender), took_over);
        assert_eq!(outcome.unwrap_err(), Stop::LeaseLost);
        let after = place.store.freshness().await.unwrap().sequence;
        assert_eq!(after, sequence, "nothing was committed after the lease was lost");
        let (busy, _worker) = place.another();
        assert_eq!(place.sweep_with(&busy, Order::backfill()).await.unwrap_err(), Stop::Busy);
        place.store.writer().give_up_lease(&fence).await.unwrap();
        place.sweep_with(&busy, Order::backfill()).await.unwrap();
        place.assert_exact("by whoever went on").await;
    });
}

/// C5: thirty hours of outage, longer than the sender tries: nothing answers, every attempt of the schedule is made and fails.
#[test]
fn after_thirty_hours_of_outage_one_reconcile_is_enough() {
    run(async {
        for engine in [Engine::Sqlite, Engine::Postgres] {
            let population = Population { users: 30, organizations: 5, members: 5, seed: 1 };
            let place = Place::new(engine, Settings { population: Some(population), ..Settings::default() }).await;
            place.sweep(Order::backfill()).await.unwrap();
            let shared = place.sandbox.shared();
            let nobody = NewEndpoint { url: "http://127.0.0.1:9/".to_owned(), ..NewEndpoint::default() };
            shared.with(|state, now| state.post.add_endpoint(nobody, now).map(drop)).unwrap();
            let pass = async |millis: i64| {
                shared.until_sent().await;
                place.clock.advance(millis);
                shared.wake.notify_one();
            };
            let mut dice = Dice::new(5);
            for _ in 0..60 {
                shared.change(|instance, now| instance.change_at_random(&mut dice, now));
                pass(HOUR / 2).await;
            }
            // As long again, so that the last change has been given up, too.
            for _ in 0..40 {
                pass(HOUR).await;
            }
            shared.until_sent().await;
            let deliveries = shared.with(|state, _| state.post.counts());
            let failed = deliveries.get(&DeliveryState::Failed).copied().unwrap_or_default();
            assert!(failed >= 50, "{deliveries:?}");
            assert_eq!(deliveries.values().sum::<usize>(), failed, "nothing waits and nothing arrived: {deliveries:?}");
            assert!(!place.differences().await.is_empty());
            let report = place.sweep(Order::reconcile()).await.unwrap();
            assert_eq!(report.outcome, Some(Ending::Repaired), "{report:?}");
            place.assert_exact("after thirty hours").await;
        }
    });
}

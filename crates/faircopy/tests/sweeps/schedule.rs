//! When `serve` reconciles by itself.

use std::sync::Arc;

use faircopy::config::Every;
use faircopy::sweep::{Ending, Order, Sweeper};
use faircopy::worker::reconcile::Reconciler;
use faircopy_sandbox::Settings;
use faircopy_sandbox::instance::Population;
use tokio::sync::Notify;

use crate::place::{Engine, Place, run};

const MINUTE: i64 = 60_000;

fn worker(sweeper: &Sweeper, every: Every) -> Reconciler {
    Reconciler::new(sweeper.clone(), every, Order::reconcile(), Arc::new(Notify::new()), 0)
}

async fn populated() -> Place {
    let population = Population { users: 10, organizations: 2, members: 3, seed: 1 };
    Place::new(Engine::Sqlite, Settings { population: Some(population), ..Settings::default() }).await
}

#[test]
fn a_new_copy_is_filled_soon_after_the_start_and_compared_from_then_on() {
    run(async {
        let place = populated().await;
        let (another, _worker) = place.another();
        let (mut one, mut other) = (worker(&place.sweeper, Every::Auto), worker(&another, Every::Auto));
        assert_eq!(one.step().await, None, "it serves first");
        place.clock.advance(21_000);
        let report = one.step().await.unwrap();
        assert_eq!(report.outcome, Some(Ending::Repaired));
        place.assert_exact("after the first").await;
        assert_eq!(other.step().await, None, "one replica is enough");
        place.clock.advance(4 * MINUTE);
        assert_eq!((one.step().await, other.step().await), (None, None));
        place.clock.advance(MINUTE + 1_000);
        assert_eq!(other.step().await.unwrap().outcome, Some(Ending::Exact));
        assert_eq!(one.step().await, None);
    });
}

#[test]
fn whoever_has_reason_is_heard_every_ten_minutes_and_never_is_never() {
    run(async {
        let place = populated().await;
        let mut hourly = worker(&place.sweeper, Every::Minutes(60));
        place.clock.advance(21_000);
        assert!(hourly.step().await.is_some());
        hourly.want();
        place.clock.advance(9 * MINUTE);
        assert_eq!(hourly.step().await, None);
        place.clock.advance(MINUTE + 1_000);
        assert!(hourly.step().await.is_some(), "wanted");
        place.clock.advance(30 * MINUTE);
        assert_eq!(hourly.step().await, None, "wanted once");
        place.clock.advance(31 * MINUTE);
        assert!(hourly.step().await.is_some());
        let mut never = worker(&place.sweeper, Every::Never);
        never.want();
        place.clock.advance(24 * 60 * MINUTE);
        assert_eq!(never.step().await, None);
    });
}

#[test]
fn while_clerk_cannot_be_read_it_tries_again_less_and_less_often() {
    run(async {
        let place = populated().await;
        let (refused, _worker) = place.with(&[("CLERK_SECRET_KEY", "sk_live_another-secret-key-for-tests")]);
        let mut worker = worker(&refused, Every::Auto);
        place.clock.advance(21_000);
        assert_eq!(worker.step().await, None);
        for rest in [30_000, 60_000, 120_000] {
            assert!(worker.rests(), "after a failure");
            place.clock.advance(rest - 1_000);
            assert!(worker.rests(), "{rest} ms are not over");
            place.clock.advance(2_000);
            assert!(!worker.rests(), "{rest} ms are over");
            assert_eq!(worker.step().await, None);
        }
    });
}

//! P6: this machine's clock is wrong, jumps, and comes back. Left out of its row: the skew gauge and the leases, which
//! are not built.

use std::collections::BTreeMap;

use faircopy::app::ManualClock;
use faircopy_core::Millis;
use faircopy_testkit::seed::Seed;
use faircopy_testkit::sender::Sender;
use faircopy_world::{Settings, World, shuffled};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::app::{Engine, SECRET, TestApp, assert_problem};
use crate::events::THEN;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// How far the clock is off, and whether a delivery that was signed just now is still taken: up to 300 s either way.
const JUMPS: [(i64, bool); 11] = [
    (0, true),
    (299 * SECOND, true),
    (-299 * SECOND, true),
    (301 * SECOND, false),
    (-302 * SECOND, false),
    (10 * MINUTE, false),
    (-10 * MINUTE, false),
    (HOUR, false),
    (-HOUR, false),
    (-DAY, false),
    (0, true),
];

/// A shuffled history under a clock that jumps before every tenth delivery. Scale: 400 events, some forty jumps. While it
/// is off by more than 300 s nothing is taken, else everything, in whatever order the wrong times lie; when it is right
/// again, what was refused is taken too, by the same process, and the copy is exact.
async fn jumping(engine: Engine) {
    const EVENTS: usize = 400;
    let seed = Seed::of_run();
    let mut world = World::new(seed.value(), Settings { start_ms: THEN, ties: true, ..Settings::default() });
    let mut events = Vec::new();
    while events.len() < EVENTS {
        world.advance();
        events.extend(world.take_events());
    }
    let truth = world.truth();
    let last = events.iter().map(|event| event.at_ms).max().expect("events");
    // An hour later: nothing of the history lies ahead of the true time.
    let true_ms = last + HOUR;
    let clock = ManualClock::at(Millis(true_ms));
    let app = TestApp::build().on(engine).clock(&clock).start().await;
    let sender = Sender::new(app.url("/"), SECRET);
    let mut dice = StdRng::seed_from_u64(seed.value());
    let (mut jump, mut taken) = ((0, true), true);
    let mut met = BTreeMap::<i64, usize>::new();
    let mut refused = Vec::new();
    for (number, event) in shuffled(&events, seed.value(), 25).into_iter().enumerate() {
        if number % 10 == 0 {
            clock.advance(-jump.0);
            // Each of them in turn, and then by chance.
            jump = *JUMPS.get(number / 10).unwrap_or(&JUMPS[dice.random_range(0..JUMPS.len())]);
            clock.advance(jump.0);
            taken = jump.1;
        }
        *met.entry(jump.0).or_default() += 1;
        let signed = sender.sign_at(&event.svix_id, event.body.as_bytes(), true_ms / SECOND);
        let response = app.post(&signed.headers(), event.body.clone()).await;
        if taken {
            assert_eq!(response.status, 200, "off by {} ms: {}", jump.0, response.text());
        } else {
            let problem = assert_problem(&response, 400, "signature-invalid");
            assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("(timestamp)")), "{problem}");
            refused.push(event);
        }
    }
    assert_eq!(met.len(), JUMPS.len() - 1, "each jump was met: {met:?}");
    let kept = app.deliveries().await;
    assert!(kept.values().all(|delivery| delivery.outcome != "quarantined"), "a wrong clock is no delivery's fault");
    clock.advance(-jump.0);
    for event in refused {
        let signed = sender.sign_at(&event.svix_id, event.body.as_bytes(), true_ms / SECOND);
        let response = app.post(&signed.headers(), event.body).await;
        assert_eq!(response.status, 200, "the clock is right again: {}", response.text());
    }
    assert_eq!(app.deliveries().await.len(), events.len());
    app.tables().await.assert_same_as(&truth);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_refuses_or_takes_and_changes_no_order_on_sqlite() {
    jumping(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_refuses_or_takes_and_changes_no_order_on_postgres() {
    jumping(Engine::Postgres).await;
}

//! The courier against a Liveblocks that fails: faults.md L1 to L4.

use std::collections::VecDeque;
use std::time::Duration;

use faircopy::app::Clock as _;
use faircopy::outside::{Outcome, Target};
use faircopy_core::courier::{ALARM_AFTER, BACKOFF, MAX_AT_ONCE, PROBE_EVERY_MS};
use faircopy_sandbox::liveblocks::{Faults, LiveblocksSandbox, Wrong};

use crate::desk::{Desk, KEY, clock, liveblocks, rooms, sandbox};
use crate::fake::{Fake, Reply, bare};
use crate::step::step;

fn target(sandbox: &LiveblocksSandbox) -> Target {
    Target::Liveblocks(liveblocks(sandbox.url(), KEY))
}

/// When each deletion was asked for, by the clock of the test.
fn times(sandbox: &LiveblocksSandbox) -> Vec<i64> {
    sandbox
        .with(|state| state.requests.iter().filter(|asked| asked.call == "delete").map(|asked| asked.at_ms).collect())
}

/// L1: whatever the first answers are, the room is deleted once Liveblocks is well, and as soon as the schedule says.
#[tokio::test]
async fn failures_are_tried_again_on_schedule() {
    const RUNS: u64 = 20;
    for failures in 1..=10_u32 {
        let schedule: i64 = (1..=failures).map(|failure| BACKOFF.ceiling_ms(failure)).sum();
        let mut extra = Vec::new();
        for seed in 0..RUNS {
            let clock = clock();
            let sandbox = sandbox(&clock).await;
            let ids = rooms(&sandbox, 1);
            let next = VecDeque::from(vec![Wrong::Status(500); failures as usize]);
            sandbox.set_faults(Faults { next, ..Faults::default() }).unwrap();
            let mut desk = Desk::of(target(&sandbox), &ids, &clock, seed * 1_000 + u64::from(failures));
            extra.push(desk.run(24 * 3_600_000).await);
            assert_eq!((desk.left(), sandbox.ids().len()), (0, 0));
            assert_eq!(sandbox.count("delete"), u64::from(failures) + 1);
            assert_eq!(desk.done[&0], Outcome::Confirmed { was_gone: false });
        }
        extra.sort_unstable();
        let (p50, p95) = (extra[extra.len() / 2], extra[extra.len() * 95 / 100]);
        // A look is up to 50 ms late, each time.
        assert!(p95 <= schedule + 50 * i64::from(failures), "{failures}: {p95} ms of {schedule} ms");
        eprintln!("L1 k={failures}: extra p50 {p50} ms, p95 {p95} ms; the schedule's sum is {schedule} ms");
    }
}

/// L2: one call a second is allowed, and `Retry-After` is a second.
#[tokio::test]
async fn a_limit_is_kept_and_nothing_is_given_up() {
    let clock = clock();
    let sandbox = sandbox(&clock).await;
    let ids = rooms(&sandbox, 60);
    sandbox.set_faults(Faults { per_second: Some(1), retry_after_s: Some(1), ..Faults::default() }).unwrap();
    let mut desk = Desk::of(target(&sandbox), &ids, &clock, 7);
    desk.run(200_000).await;
    assert_eq!((desk.left(), sandbox.ids().len(), desk.failures), (0, 0, 0), "no step has failed");
    let times = times(&sandbox);
    let seconds = (times[times.len() - 1] - times[0]) as f64 / 1000.0;
    let rate = (times.len() - 1) as f64 / seconds;
    eprintln!("L2: {} calls in {seconds} s, {rate:.3}/s", times.len());
    assert!((0.5..=1.1).contains(&rate), "{rate}/s");
}

/// L3: the room was deleted, and nobody heard so: the next answer is a 404, and that is right.
#[tokio::test]
async fn a_lost_answer_is_found_out_by_the_next() {
    let clock = clock();
    let sandbox = sandbox(&clock).await;
    let ids = rooms(&sandbox, 2);
    sandbox.set_faults(Faults { next: [Wrong::Lost, Wrong::Closed].into(), ..Faults::default() }).unwrap();
    let mut desk = Desk::of(target(&sandbox), &ids, &clock, 7);
    desk.run(60_000).await;
    assert_eq!((desk.left(), sandbox.ids().len(), desk.failures), (0, 0, 2));
    assert_eq!(sandbox.count("delete"), 4);
    let gone = desk.done.values().filter(|outcome| **outcome == Outcome::Confirmed { was_gone: true }).count();
    assert_eq!((gone, desk.done.len()), (1, 2));
}

/// L4: a wrong key is tried once a minute, told after the fifth time, and forgotten as soon as it works.
#[tokio::test]
async fn a_refused_key_is_no_storm() {
    let clock = clock();
    let sandbox = sandbox(&clock).await;
    let ids = rooms(&sandbox, 200);
    let wrong = Target::Liveblocks(liveblocks(sandbox.url(), "sk_wrong"));
    let mut desk = Desk::of(wrong, &ids, &clock, 7);
    let began = clock.now();
    let alarm = |desk: &Desk| desk.courier.unaccepted().iter().any(|of| of.refusal.is_alarm());
    let mut told_after = None;
    while clock.now().0 - began.0 < 30 * 60_000 {
        desk.run(5_000).await;
        if told_after.is_none() && alarm(&desk) {
            told_after = Some(clock.now().0 - began.0);
        }
    }
    assert_eq!((desk.left(), desk.failures, sandbox.ids().len()), (200, 0, 200), "no step is given up or blamed");
    let refused = times(&sandbox);
    assert!(refused.windows(2).all(|pair| pair[1] - pair[0] >= PROBE_EVERY_MS), "{refused:?}");
    let four_minutes = i64::from(ALARM_AFTER - 1) * PROBE_EVERY_MS;
    let told_after = told_after.unwrap();
    assert!((four_minutes..four_minutes + 10_000).contains(&told_after), "{told_after}");
    let unaccepted = &desk.courier.unaccepted()[0];
    assert_eq!((&*unaccepted.target, unaccepted.refusal.since), ("liveblocks", began));
    eprintln!("L4: {} calls in 30 min, alarm after {} s", refused.len(), told_after / 1000);
    // Whoever sets the right key starts anew.
    let mut desk = Desk::of(target(&sandbox), &ids, &clock, 8);
    desk.run(60_000).await;
    assert_eq!((desk.left(), sandbox.ids().len()), (0, 0));
    assert!(desk.courier.unaccepted().is_empty());
}

/// A key that works again is found by the probe, without a restart.
#[tokio::test]
async fn a_key_that_works_again_is_found_by_a_probe() {
    let clock = clock();
    let fake = Fake::start(|number, _| bare(if number < 3 { 401 } else { 204 }, "x: y")).await;
    let ids: Vec<String> = (0..20).map(|at| format!("doc:{at}")).collect();
    let mut desk = Desk::of(Target::Liveblocks(liveblocks(&fake.url, KEY)), &ids, &clock, 7);
    let passed = desk.run(10 * 60_000).await;
    assert_eq!((desk.left(), fake.requests().len()), (0, 23));
    assert!((180_000..190_000).contains(&passed), "{passed}");
    assert!(desk.courier.unaccepted().is_empty());
}

/// A Liveblocks that is down for half an hour is tried by a few calls, whatever the number of rooms, and then all go.
#[tokio::test]
async fn an_outage_is_no_storm_either() {
    let clock = clock();
    let sandbox = sandbox(&clock).await;
    let ids = rooms(&sandbox, 1_000);
    sandbox.set_faults(Faults { error_percent: 100.0, error_status: Some(503), ..Faults::default() }).unwrap();
    let mut desk = Desk::of(target(&sandbox), &ids, &clock, 7);
    desk.run(30 * 60_000).await;
    let in_vain = sandbox.count("delete");
    assert!(in_vain <= 60, "{in_vain} calls in half an hour of outage");
    sandbox.set_faults(Faults::default()).unwrap();
    let after = desk.run(3_600_000).await;
    assert_eq!((desk.left(), sandbox.ids().len()), (0, 0));
    assert_eq!(sandbox.count("delete"), in_vain + 1_000);
    assert!(after <= 5 * 60_000 + 20_000, "{after} ms");
    eprintln!("outage: {in_vain} calls in 30 min, all done {} s after it", after / 1000);
}

/// I4, as far as it is the courier's: with everything going wrong now and then, every room goes, with at most 1.2 calls each.
#[tokio::test]
async fn every_room_goes_whatever_goes_wrong() {
    let clock = clock();
    let sandbox = sandbox(&clock).await;
    let ids = rooms(&sandbox, 1_000);
    let faults = Faults {
        seed: 3,
        limited_percent: 1.0,
        retry_after_s: Some(1),
        error_percent: 5.0,
        lost_percent: 5.0,
        ..Faults::default()
    };
    sandbox.set_faults(faults).unwrap();
    let mut desk = Desk::of(target(&sandbox), &ids, &clock, 7);
    let passed = desk.run(24 * 3_600_000).await;
    assert_eq!((desk.left(), sandbox.ids().len()), (0, 0));
    let calls = sandbox.count("delete");
    assert!(calls <= 1_200, "{calls} calls for 1000 rooms");
    eprintln!("chaos: {calls} calls for 1000 rooms, {} s on the clock", passed / 1000);
}

#[tokio::test]
async fn at_most_eight_calls_are_under_way() {
    let clock = clock();
    let fake = Fake::start(|_, _| {
        let Reply::Bytes(done) = bare(204, "x: y") else { unreachable!("an answer") };
        Reply::After(Duration::from_millis(20), done)
    })
    .await;
    let ids: Vec<String> = (0..120).map(|at| format!("doc:{at}")).collect();
    let mut desk = Desk::of(Target::Liveblocks(liveblocks(&fake.url, KEY)), &ids, &clock, 7);
    desk.run(60_000).await;
    assert_eq!((desk.left(), fake.most()), (0, MAX_AT_ONCE));
}

/// What is wrong with one target holds up no other; what none can do is given back.
#[tokio::test]
async fn targets_are_apart() {
    let clock = clock();
    let sandbox = sandbox(&clock).await;
    let ids = rooms(&sandbox, 10);
    let limited = Fake::start(|_, _| bare(429, "retry-after: 600")).await;
    let refused = Fake::start(|_, _| bare(403, "x: y")).await;
    let targets =
        vec![target(&sandbox), Target::Step(step("search", &limited.url)), Target::Step(step("files", &refused.url))];
    let mut desk = Desk::new(targets, &clock, 7);
    for id in &ids {
        ["search", "files", "liveblocks"].into_iter().for_each(|target| desk.add(target, id));
    }
    desk.add("nobody", "doc:1");
    desk.add("liveblocks", "..");
    desk.run(30_000).await;
    assert_eq!((desk.left(), sandbox.ids().len()), (20, 0));
    assert_eq!((limited.requests().len(), refused.requests().len()), (1, 1));
    assert_eq!((desk.done[&30], desk.done[&31]), (Outcome::NoTarget, Outcome::Impossible));
    assert_eq!(desk.courier.open(), ["liveblocks"]);
    let unaccepted: Vec<String> = desk.courier.unaccepted().into_iter().map(|of| of.target).collect();
    assert_eq!(unaccepted, ["files"]);
}

/// Whoever looked whether a step may be carried out did so just before: what has not begun within a second is given
/// back.
#[tokio::test]
async fn a_batch_that_takes_long_gives_the_rest_back() {
    let clock = clock();
    let moved = clock.clone();
    let fake = Fake::start(move |_, _| {
        moved.advance(400);
        bare(204, "x: y")
    })
    .await;
    let ids: Vec<String> = (0..64).map(|at| format!("doc:{at}")).collect();
    let mut desk = Desk::of(Target::Liveblocks(liveblocks(&fake.url, KEY)), &ids, &clock, 7);
    desk.look().await;
    let calls = fake.requests().len();
    assert!((3..=8).contains(&calls), "{calls}");
    assert_eq!((desk.done.len(), desk.left()), (calls, 64 - calls));
}

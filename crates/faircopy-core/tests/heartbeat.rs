//! Silence, for arrivals of every kind.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use faircopy_core::Millis;
use faircopy_core::heartbeat::{FLOOR_MS, Heartbeat, KNOWN, MIN_KNOWN, listen, usual_gap};
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

/// Random histories of arrivals.
const HISTORIES: u64 = 2_000;

fn arrivals(dice: &mut StdRng) -> Vec<Millis> {
    let mut at = Millis(1_760_000_000_000);
    let count = dice.random_range(0..=KNOWN);
    let longest = [1, 1_000, 60_000, 3_600_000, 86_400_000][dice.random_range(0..5)];
    let mut arrivals = Vec::with_capacity(count);
    for _ in 0..count {
        // Bursts, and pauses.
        at = at.plus(if dice.random_bool(0.7) { dice.random_range(0..200) } else { dice.random_range(0..=longest) });
        arrivals.push(at);
    }
    arrivals.shuffle(dice);
    arrivals
}

#[test]
fn once_silent_always_silent_until_the_next_delivery() {
    for seed in 0..HISTORIES {
        let mut dice = StdRng::seed_from_u64(seed);
        let known = arrivals(&mut dice);
        let newest = known.iter().copied().max().unwrap_or_default();
        let mut was_silent = false;
        let mut now = newest;
        for _ in 0..50 {
            let is_silent = matches!(listen(&known, now), Heartbeat::Silent { .. });
            assert!(is_silent || !was_silent, "seed {seed}: silence ended by itself at {now}");
            was_silent = is_silent;
            now = now.plus(dice.random_range(0..=86_400_000));
        }
        let heard = listen(&known, newest.plus(400 * 86_400_000));
        assert_eq!(matches!(heard, Heartbeat::Silent { .. }), known.len() >= MIN_KNOWN, "seed {seed}: {heard:?}");
        let mut one_more = known.clone();
        one_more.push(now);
        assert!(!matches!(listen(&one_more, now), Heartbeat::Silent { .. }), "seed {seed}: a delivery ends it");
    }
}

#[test]
fn right_after_a_delivery_nothing_is_silent() {
    for seed in 0..HISTORIES {
        let mut dice = StdRng::seed_from_u64(seed);
        let known = arrivals(&mut dice);
        let Some(newest) = known.iter().copied().max() else { continue };
        for after in [i64::MIN, -1, 0, 1, dice.random_range(0..=FLOOR_MS), FLOOR_MS] {
            let heard = listen(&known, newest.plus(after));
            assert!(!matches!(heard, Heartbeat::Silent { .. }), "seed {seed}: {heard:?} {after} ms after");
        }
    }
}

/// The usual gap is one that was there, and its order does not matter.
#[test]
fn the_usual_gap_is_one_of_the_gaps() {
    for seed in 0..HISTORIES {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut known = arrivals(&mut dice);
        let usual = usual_gap(&known);
        known.sort_unstable();
        assert_eq!(usual_gap(&known), usual, "seed {seed}");
        let gaps: Vec<i64> = known.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        match usual {
            None => assert!(known.len() < MIN_KNOWN, "seed {seed}"),
            Some(usual) => {
                assert!(gaps.contains(&usual), "seed {seed}");
                let longer = gaps.iter().filter(|gap| **gap > usual).count();
                assert!(longer * 20 <= gaps.len(), "seed {seed}: {longer} of {} are longer", gaps.len());
            }
        }
    }
}

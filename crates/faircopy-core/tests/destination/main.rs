//! A model of a destination: a copy that changes, a worker that is killed between any two of its steps, answers that say anything or get
//! lost, requests that arrive late. A reader that applies by the highest number ends equal to the copy; readers with a rule less do not.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod model;

use model::{Reader, Rule, World};

/// Random histories for the right rule.
const HISTORIES: u64 = 20_000;
/// And for each wrong one: some of them must catch it.
const FOR_MUTANTS: u64 = 1_500;

fn differs(rule: Rule, seed: u64) -> Option<String> {
    let mut world = World::new(seed, Reader::new(rule));
    world.live();
    world.heal();
    world.difference()
}

#[test]
fn whoever_applies_by_the_highest_number_ends_with_the_copy() {
    for seed in 0..HISTORIES {
        if let Some(difference) = differs(Rule::Right, seed) {
            panic!("seed {seed}: {difference}");
        }
    }
}

#[test]
fn readers_with_a_rule_less_do_not() {
    for rule in [Rule::WithoutNumbers, Rule::ForgetsRemoved, Rule::WithoutFloor, Rule::ResendsLikeOthers] {
        let caught = (0..FOR_MUTANTS).filter(|seed| differs(rule, *seed).is_some()).count();
        assert!(caught > 0, "{rule:?} is never wrong");
    }
}

/// What waits is told in the end, and nothing else is held up by it.
#[test]
fn a_subject_that_is_never_taken_holds_nobody_else_up() {
    for seed in 0..200 {
        let mut world = World::new(seed, Reader::new(Rule::Right));
        world.poison = Some("a".into());
        world.live();
        world.heal();
        assert_eq!(world.difference_but("a"), None, "seed {seed}");
    }
}

//! Every way that one deletion can take, with faults: the transitions are those that run (`faircopy_core::cascade::job`), and
//! what is around them is what decision 18 promises of the worker.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod model;

use std::collections::HashMap;

use model::{AFTER_NO, DONE_STAYS, I4, I11, I13, Mutant, System, World};
use stateright::{Checker, HasDiscoveries, Model};

#[test]
fn the_invariants_hold_in_every_state() {
    let checker = System(None).checker().threads(2).spawn_bfs().join();
    println!("{} states, at most {} steps to one", checker.unique_state_count(), checker.max_depth());
    checker.assert_properties();
}

/// Faults end, and so does every way; and where it ends the job is done, or was cancelled and what it left is another's.
#[test]
fn every_way_comes_to_its_end() {
    let system = System(None);
    // States on the way that is being walked, and those whose every way is known to end.
    let mut known: HashMap<World, bool> = HashMap::new();
    let start = system.init_states().remove(0);
    let mut way = vec![(start.clone(), system.next_states(&start))];
    known.insert(start, false);
    let mut ends = 0;
    while let Some((at, left)) = way.last_mut() {
        let Some(world) = left.pop() else {
            known.insert(at.clone(), true);
            way.pop();
            continue;
        };
        match known.get(&world) {
            Some(true) => continue,
            Some(false) => panic!("a way leads back to where it was: {world:#?}"),
            None => {}
        }
        let further = system.next_states(&world);
        if further.is_empty() {
            ends += 1;
            assert!(world.has_ended(), "{world:#?}");
        }
        known.insert(world.clone(), false);
        way.push((world, further));
    }
    println!("{} states, {ends} ends", known.len());
    assert!(ends > 0);
}

#[test]
fn every_wrong_rule_is_caught() {
    let check = |mutant: Mutant, invariant: &'static str| {
        let caught = HasDiscoveries::AllOf([invariant].into());
        let checker = System(Some(mutant)).checker().threads(2).finish_when(caught).spawn_bfs().join();
        let found: Vec<&str> = checker.discoveries().into_keys().filter(|name| *name == invariant).collect();
        println!("{mutant:?}: {} states, {found:?}", checker.unique_state_count());
        assert!(!found.is_empty(), "{mutant:?} is not caught by {invariant}");
    };
    check(Mutant::NoFence, I13);
    check(Mutant::OutboxAfterTheRows, I4);
    check(Mutant::NoClaims, I11);
    check(Mutant::JobReadOnce, AFTER_NO);
    check(Mutant::ParentsFirst, I4);
    check(Mutant::LinkBeforeDone, I11);
    check(Mutant::ResumeRegardless, I11);
    check(Mutant::ConfirmedFirst, I4);
    check(Mutant::TriggerAnew, DONE_STAYS);
    check(Mutant::StoppedBeforeTheCall, I11);
}

//! What the worker does with a database, with a list in memory and a clock that is moved.

use std::collections::BTreeMap;
use std::sync::Arc;

use faircopy::app::{Clock as _, ManualClock};
use faircopy::config::LiveblocksApi;
use faircopy::outside::{Courier, Errand, Outcome, Target};
use faircopy::telemetry::Metrics;
use faircopy::upstream::liveblocks::Liveblocks;
use faircopy::upstream::step::{About, Subject};
use faircopy_core::Millis;
use faircopy_sandbox::liveblocks::LiveblocksSandbox;
use serde_json::json;

pub(crate) const KEY: &str = "sk_canary_of_the_test";
/// Steps that are given to the courier at once.
const BATCH: usize = 64;
/// How far the clock is moved between two looks.
const LOOK_MS: i64 = 50;

/// A project on the clock of the test.
pub(crate) async fn sandbox(clock: &ManualClock) -> LiveblocksSandbox {
    let clock = clock.clone();
    LiveblocksSandbox::start(KEY, Arc::new(move || clock.now().0)).await.unwrap()
}

pub(crate) fn clock() -> ManualClock {
    ManualClock::at(Millis(1_760_000_000_000))
}

pub(crate) fn liveblocks(url: &str, key: &str) -> Arc<Liveblocks> {
    let settings = LiveblocksApi { secret_key: Some(key.to_owned().into()), url: url.to_owned() };
    Liveblocks::new(&settings, Metrics::install()).unwrap()
}

/// Makes so many rooms; their ids.
pub(crate) fn rooms(sandbox: &LiveblocksSandbox, number: usize) -> Vec<String> {
    let ids: Vec<String> = (0..number).map(|at| format!("doc:{at}")).collect();
    sandbox.with(|state| {
        for id in &ids {
            state.rooms.create(&json!({ "id": id, "defaultAccesses": [] }), false, 0).unwrap();
        }
    });
    ids
}

pub(crate) fn about() -> Arc<About> {
    let subject = Subject::Organization("org_1".into());
    Arc::new(About { subject, workspace_id: Some("org_1".into()), deleted_at: Millis(1_760_000_000_123) })
}

/// Numbers of a seed.
pub(crate) fn chance(seed: u64) -> Box<dyn FnMut() -> u64 + Send> {
    let mut state = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    Box::new(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

/// The steps and the courier.
pub(crate) struct Desk {
    pub(crate) courier: Courier,
    clock: ManualClock,
    left: BTreeMap<i64, (Errand, Millis)>,
    /// What came of each that is done with.
    pub(crate) done: BTreeMap<i64, Outcome>,
    /// Those that were [`Outcome::Again`].
    pub(crate) failures: usize,
}

impl Desk {
    pub(crate) fn new(targets: Vec<Target>, clock: &ManualClock, seed: u64) -> Self {
        let courier = Courier::new(targets, Arc::new(clock.clone()), chance(seed));
        Self { courier, clock: clock.clone(), left: BTreeMap::new(), done: BTreeMap::new(), failures: 0 }
    }

    /// One target, and steps for it.
    pub(crate) fn of(target: Target, external_ids: &[String], clock: &ManualClock, seed: u64) -> Self {
        let name = target.name().to_owned();
        let mut desk = Self::new(vec![target], clock, seed);
        external_ids.iter().for_each(|id| desk.add(&name, id));
        desk
    }

    pub(crate) fn add(&mut self, target: &str, external_id: &str) {
        let id = i64::try_from(self.left.len() + self.done.len()).unwrap();
        let errand =
            Errand { id, target: target.to_owned(), external_id: external_id.to_owned(), failures: 0, about: about() };
        self.left.insert(id, (errand, self.clock.now()));
    }

    pub(crate) fn left(&self) -> usize {
        self.left.len()
    }

    /// One look: what is due is carried out.
    pub(crate) async fn look(&mut self) {
        let (now, open) = (self.clock.now(), self.courier.open());
        let may_go = |target: &String| open.contains(target) || !self.courier.knows(target);
        let due = self.left.values().filter(|(errand, at)| *at <= now && may_go(&errand.target));
        let batch: Vec<Errand> = due.take(BATCH).map(|(errand, _)| errand.clone()).collect();
        for (id, outcome) in self.courier.carry(batch).await {
            let (errand, at) = self.left.get_mut(&id).unwrap();
            match outcome {
                Outcome::Again { at: next, .. } => {
                    (errand.failures, *at) = (errand.failures + 1, next);
                    self.failures += 1;
                }
                Outcome::Refused { at: next, .. } | Outcome::Held { at: next } => *at = next,
                Outcome::Confirmed { .. } | Outcome::Impossible | Outcome::NoTarget => {
                    self.left.remove(&id);
                    self.done.insert(id, outcome);
                }
            }
        }
    }

    /// Looks until everything is done, or so much time has passed on the clock; how much has.
    pub(crate) async fn run(&mut self, at_most_ms: i64) -> i64 {
        let began = self.clock.now();
        loop {
            self.look().await;
            let passed = self.clock.now().0 - began.0;
            if self.left.is_empty() || passed >= at_most_ms {
                return passed;
            }
            let now = self.clock.now();
            let is_due = self.left.values().any(|(errand, at)| *at <= now && self.courier.knows(&errand.target));
            let next = self.left.values().map(|(_, at)| at.0 - now.0).filter(|wait| *wait > 0).min();
            // What is due and was held for the others' sake is looked at again without a pause.
            let is_held = is_due && !self.courier.open().is_empty();
            let step = if is_held { 1 } else { next.unwrap_or(LOOK_MS).min(LOOK_MS) };
            self.clock.advance(step.min(at_most_ms - passed).max(1));
        }
    }
}

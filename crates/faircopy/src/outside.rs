//! What has gone is told to services outside: steps are carried out, and what came of each is given back.
//!
//! A [`Courier`] is given due steps and calls their [`Target`]s, a few at a time. It owns no database: whoever gives it
//! steps stores the [`Outcome`]s. It never waits for a target: what may not be called now is [`Outcome::Held`], and comes with a
//! later batch; so time passes only where the caller lets it pass, and a batch ends within [`BEGIN_WITHIN_MS`] and one
//! exchange. When a target may be called is decided by `faircopy_core::courier::Gate`.

use std::sync::Arc;

use faircopy_core::Millis;
use faircopy_core::courier::{BACKOFF, Closed, Gate, Pass, Refusal, Reply};
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt as _};

use crate::app::Clock;
use crate::config::{Config, LIVEBLOCKS};
use crate::telemetry::Metrics;
use crate::upstream::exchange::Fault;
use crate::upstream::liveblocks::{Deleted, Liveblocks, is_room_id};
use crate::upstream::step::{About, Message, Step, Told};

/// A step that has not begun so long after its batch is held: whoever looked whether it may be carried out must look again.
const BEGIN_WITHIN_MS: i64 = 1_000;

/// The finding that [`Refusal::is_alarm`] is a reason for: a section of docs/errors.md.
pub const KEY_REFUSED: &str = "outside-key-refused";
/// The code of a log line for [`Outcome::Impossible`]: a section of docs/errors.md.
pub const IMPOSSIBLE: &str = "outside-impossible";

/// A service outside.
#[derive(Clone)]
pub enum Target {
    /// Rooms.
    Liveblocks(Arc<Liveblocks>),
    /// A step of the application's own.
    Step(Arc<Step>),
}

/// One step to be carried out.
#[derive(Debug, Clone)]
pub struct Errand {
    /// The caller's own name for it.
    pub id: i64,
    /// The target's name: `liveblocks`, or that of a step.
    pub target: String,
    /// What is to go: a room's id, or whatever the application calls it.
    pub external_id: String,
    /// How often it was [`Outcome::Again`].
    pub failures: u32,
    /// Whose end it is part of.
    pub about: Arc<About>,
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The target has said that it is done.
    Confirmed {
        /// There was nothing any more.
        was_gone: bool,
    },
    /// It failed, or nobody knows: it is due again. Counts as a failure of the step.
    Again {
        /// When.
        at: Millis,
        /// Why.
        error: Fault,
    },
    /// The target asked for quiet, or does not take the key: due again. Nothing about the step: no failure of its own.
    Refused {
        /// When.
        at: Millis,
        /// Why.
        error: Fault,
    },
    /// It was not tried: its target may not be called before then. Nothing about the step.
    Held {
        /// When.
        at: Millis,
    },
    /// It can never be carried out: the target can have nothing of this name.
    Impossible,
    /// No target of this name is set up.
    NoTarget,
}

/// A target whose key is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unaccepted {
    /// The target's name.
    pub target: String,
    /// Since when, how often, and when it is tried next. [`Refusal::is_alarm`] says whether somebody must be told.
    pub refusal: Refusal,
}

/// Draws any number, all equally likely.
pub type Chance = Box<dyn FnMut() -> u64 + Send>;

/// Carries out steps.
pub struct Courier {
    lanes: Vec<Lane>,
    clock: Arc<dyn Clock>,
    chance: Chance,
}

/// One target, and what is known of it.
struct Lane {
    target: Target,
    gate: Gate,
}

impl Target {
    /// Everything that the settings name.
    #[must_use]
    pub fn all(config: &Config, metrics: &Metrics) -> Vec<Self> {
        let liveblocks = Liveblocks::new(&config.liveblocks, metrics.clone()).map(Self::Liveblocks);
        let steps = config.steps.iter().filter_map(|step| Step::new(step.clone(), metrics.clone())).map(Self::Step);
        liveblocks.into_iter().chain(steps).collect()
    }

    /// Its name, as outbox rows have it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Liveblocks(_) => LIVEBLOCKS,
            Self::Step(step) => step.name(),
        }
    }

    /// Whether it can have anything of this name.
    fn can_have(&self, external_id: &str) -> bool {
        match self {
            Self::Liveblocks(_) => is_room_id(external_id),
            Self::Step(_) => true,
        }
    }

    /// Calls it: whether there was nothing any more.
    async fn call(&self, errand: &Errand, now: Millis) -> Result<bool, Fault> {
        match self {
            Self::Liveblocks(liveblocks) => {
                liveblocks.delete_room(&errand.external_id).await.map(|deleted| deleted == Deleted::WasGone)
            }
            Self::Step(step) => {
                let message = Message { external_id: &errand.external_id, about: &errand.about };
                step.send(&message, now).await.map(|told| told == Told::WasGone)
            }
        }
    }
}

impl Courier {
    /// A courier for these targets, which knows nothing of them yet.
    #[must_use]
    pub fn new(targets: Vec<Target>, clock: Arc<dyn Clock>, chance: Chance) -> Self {
        let lanes = targets.into_iter().map(|target| Lane { target, gate: Gate::default() }).collect();
        Self { lanes, clock, chance }
    }

    /// The targets that may be called now: for the others no step need be looked for.
    pub fn open(&mut self) -> Vec<String> {
        let now = self.clock.now();
        let name = |lane: &mut Lane| lane.gate.closed_until(now).is_none().then(|| lane.target.name().to_owned());
        self.lanes.iter_mut().filter_map(name).collect()
    }

    /// Whether there is a target of this name.
    #[must_use]
    pub fn knows(&self, target: &str) -> bool {
        self.lanes.iter().any(|lane| lane.target.name() == target)
    }

    /// The targets whose key is not taken.
    #[must_use]
    pub fn unaccepted(&self) -> Vec<Unaccepted> {
        let lanes = self.lanes.iter().filter_map(|lane| Some((lane.target.name().to_owned(), lane.gate.refusal()?)));
        lanes.map(|(target, refusal)| Unaccepted { target, refusal }).collect()
    }

    /// Carries out these steps as far as it may now, each target's in their order and beside the other targets': what came of
    /// each of them, by their ids.
    pub async fn carry(&mut self, errands: Vec<Errand>) -> Vec<(i64, Outcome)> {
        let began = self.clock.now();
        let mut outcomes = Vec::with_capacity(errands.len());
        let mut of_lanes: Vec<Vec<Errand>> = self.lanes.iter().map(|_| Vec::new()).collect();
        for errand in errands {
            match self.lanes.iter().position(|lane| lane.target.name() == errand.target) {
                None => outcomes.push((errand.id, Outcome::NoTarget)),
                Some(lane) if !self.lanes[lane].target.can_have(&errand.external_id) => {
                    outcomes.push((errand.id, Outcome::Impossible));
                }
                Some(lane) => of_lanes[lane].push(errand),
            }
        }
        // Drawn beforehand, so that lanes share no chance: one number for each step, and the same one for its gate.
        let chance = &mut self.chance;
        let with_chance = |errands: Vec<Errand>| errands.into_iter().map(|errand| (errand, chance())).collect();
        let of_lanes: Vec<Vec<(Errand, u64)>> = of_lanes.into_iter().map(with_chance).collect();
        let clock = &*self.clock;
        let lanes = self.lanes.iter_mut().zip(of_lanes).map(|(lane, errands)| lane.carry(errands, clock, began));
        outcomes.extend(join_all(lanes).await.into_iter().flatten());
        outcomes
    }
}

impl Lane {
    async fn carry(&mut self, errands: Vec<(Errand, u64)>, clock: &dyn Clock, began: Millis) -> Vec<(i64, Outcome)> {
        let Self { target, gate } = self;
        let mut outcomes = Vec::with_capacity(errands.len());
        let mut under_way = FuturesUnordered::new();
        let mut waiting = errands.into_iter().peekable();
        loop {
            while waiting.peek().is_some() {
                let now = clock.now();
                let is_late = now.0 - began.0 >= BEGIN_WITHIN_MS;
                let begun = if is_late { Err(Closed::Until(now)) } else { gate.begin(under_way.len(), now) };
                match begun {
                    Ok(pass) => {
                        under_way
                            .extend(waiting.next().map(|(errand, chance)| call(target, errand, chance, pass, now)));
                    }
                    // What is under way may open the gate again: a probe whose key is taken.
                    Err(_) if !under_way.is_empty() => break,
                    Err(closed) => {
                        let at = if let Closed::Until(at) = closed { at } else { now };
                        outcomes.extend(waiting.by_ref().map(|(errand, _)| (errand.id, Outcome::Held { at })));
                    }
                }
            }
            let Some((errand, chance, pass, answer)) = under_way.next().await else { break };
            let outcome = judge(gate, pass, answer, errand.failures, chance, clock.now());
            outcomes.push((errand.id, outcome));
        }
        outcomes
    }
}

type Called = (Errand, u64, Pass, Result<bool, Fault>);

async fn call(target: &Target, errand: Errand, chance: u64, pass: Pass, now: Millis) -> Called {
    let answer = target.call(&errand, now).await;
    (errand, chance, pass, answer)
}

/// What follows from an answer, for its target and for the step.
fn judge(gate: &mut Gate, pass: Pass, answer: Result<bool, Fault>, failures: u32, chance: u64, now: Millis) -> Outcome {
    let error = match answer {
        Ok(was_gone) => {
            gate.end(pass, Reply::Confirmed, now, chance);
            return Outcome::Confirmed { was_gone };
        }
        Err(error) => error,
    };
    let reply = match error {
        Fault::Limited { retry_after_ms } => Reply::Limited { retry_after_ms },
        Fault::Refused(_) => Reply::Refused,
        _ => Reply::Failed,
    };
    gate.end(pass, reply, now, chance);
    let own = BACKOFF.at(failures.saturating_add(1), chance, now);
    let of_target = gate.closed_until(now).unwrap_or(now);
    match reply {
        Reply::Failed => Outcome::Again { at: own.max(of_target), error },
        _ => Outcome::Refused { at: of_target, error },
    }
}

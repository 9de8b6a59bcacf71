//! What a job has outside: steps of the outbox are carried out, and rooms that came back are found.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use faircopy_core::Millis;
use faircopy_core::cascade::tree::{Target as Named, Tree};
use faircopy_core::courier::Refusal;
use faircopy_store::{Cascade, Error, Fence, Step, StepState, Store, Subject, Tried, Writer};
use tokio::sync::Notify;

use super::{LEASE, LEASE_MS, RENEW_MS};
use crate::app::Clock;
use crate::config::LIVEBLOCKS;
use crate::holder;
use crate::outside::{Courier, Errand, IMPOSSIBLE, Outcome, Target, Unaccepted};
use crate::telemetry::Metrics;
use crate::upstream::exchange::Fault;
use crate::upstream::liveblocks::Liveblocks;
use crate::upstream::step::{About, Subject as Told};

/// Steps of one target that are carried out before what came of them is written down: after a kill so many are done again.
const BATCH: i64 = 16;
/// How often the outbox is looked at while nothing is due.
const TICK: Duration = Duration::from_millis(500);
/// How often steps for targets that are not set up are looked for.
const STRAY_MS: i64 = 10_000;
/// By how much another clock may be behind.
const SKEW_MS: i64 = 5 * 60_000;
/// Pages of the listing that are read for one job: a hundred thousand rooms.
const MAX_PAGES: usize = 1_000;

/// What is known of the services outside.
#[derive(Clone, Default)]
pub struct Outside {
    known: Vec<String>,
    tree: Arc<Tree>,
    liveblocks: Option<Arc<Liveblocks>>,
    unaccepted: Arc<Mutex<Vec<Unaccepted>>>,
    /// Whether there may be steps to be carried out: without any deletion nobody need ask the database for them.
    is_awake: Arc<AtomicBool>,
}

/// Whether rooms came back that a job had deleted.
pub(super) enum Returned {
    Nothing,
    Some,
    /// The listing could not be read.
    Unknown(Fault),
}

impl Outside {
    /// The services that these are.
    #[must_use]
    pub fn new(targets: &[Target], tree: Arc<Tree>) -> Self {
        let liveblocks = targets.iter().find_map(|target| match target {
            Target::Liveblocks(liveblocks) => Some(liveblocks.clone()),
            Target::Step(_) => None,
        });
        let known = targets.iter().map(|target| target.name().to_owned()).collect();
        Self { known, tree, liveblocks, unaccepted: Arc::default(), is_awake: Arc::default() }
    }

    /// Targets of the tree for which there is no key.
    pub(super) fn without_key(&self) -> Vec<String> {
        let named = self.tree.targets().into_iter().map(|target| target.name().to_owned());
        named.filter(|name| !self.known.contains(name)).collect()
    }

    /// Whether a target does not take the key.
    pub(super) fn refusal(&self, target: &str) -> Option<Refusal> {
        self.unaccepted().iter().find(|unaccepted| unaccepted.target == target).map(|unaccepted| unaccepted.refusal)
    }

    /// A target that has not taken the key for so long that somebody must be told.
    pub(super) fn alarm(&self) -> Option<(String, Refusal)> {
        let unaccepted = self.unaccepted();
        let alarm = unaccepted.iter().find(|unaccepted| unaccepted.refusal.is_alarm());
        alarm.map(|unaccepted| (unaccepted.target.clone(), unaccepted.refusal))
    }

    /// Whether there are deletions that are not done.
    pub(super) fn wake(&self, is_awake: bool) {
        self.is_awake.store(is_awake, Ordering::Relaxed);
    }

    fn unaccepted(&self) -> std::sync::MutexGuard<'_, Vec<Unaccepted>> {
        self.unaccepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks through the rooms that were made since a job began for those that it had deleted, and has them deleted again: the
    /// listing is read newest first, so this costs as much as was made since, not as much as was deleted.
    pub(super) async fn look_for_returned(
        &self,
        store: &Store,
        writer: &mut Writer,
        cascade: &Cascade,
        fence: &Fence,
        now: Millis,
    ) -> Result<Returned, Error> {
        let Some(liveblocks) = &self.liveblocks else { return Ok(Returned::Nothing) };
        let since = cascade.job.created_at.plus(-SKEW_MS);
        let (mut cursor, mut returned) = (None::<String>, Vec::new());
        for _ in 0..MAX_PAGES {
            let page = match liveblocks.rooms(cursor.as_deref()).await {
                Ok(page) => page,
                Err(fault) => return Ok(Returned::Unknown(fault)),
            };
            let recent: Vec<String> =
                page.rooms.iter().filter(|room| room.created_at >= since).map(|room| room.id.clone()).collect();
            let is_behind = recent.is_empty();
            if !is_behind {
                for step in store.steps_done(&cascade.subject, LIVEBLOCKS, &recent).await? {
                    if !self.is_claimed(store, &step).await? {
                        returned.push(again(step, now));
                    }
                }
            }
            cursor = page.next;
            if is_behind || cursor.is_none() {
                break;
            }
        }
        writer.settle_steps(&returned, now, fence).await?;
        Ok(if returned.is_empty() { Returned::Nothing } else { Returned::Some })
    }

    /// Whether a live row says that what a step would delete is its own.
    async fn is_claimed(&self, store: &Store, step: &Step) -> Result<bool, Error> {
        let target = if step.target == LIVEBLOCKS { Named::Liveblocks } else { Named::Step(step.target.clone()) };
        for claim in self.tree.claims(&target, &step.external_id) {
            if store.has_row(claim.node, &claim.reading).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn again(step: Step, now: Millis) -> Tried {
    Tried { step, state: StepState::Waiting, due_at: now, was_called: false, error: None }
}

/// Carries out the steps of all jobs.
pub struct Caller {
    store: Store,
    writer: Writer,
    courier: Courier,
    outside: Outside,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    holder: Arc<str>,
    /// Told when steps are settled: their jobs may go on.
    settled: Arc<Notify>,
    held: Option<(Fence, Millis)>,
    looked_for_strays_at: Option<Millis>,
}

impl Caller {
    /// A worker beside the [`Cascader`](super::Cascader), with the same holder's name and the same outside.
    #[must_use]
    pub fn new(
        store: Store,
        courier: Courier,
        outside: Outside,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        holder: Arc<str>,
        settled: Arc<Notify>,
    ) -> Self {
        let writer = store.writer();
        Self {
            store,
            writer,
            courier,
            outside,
            clock,
            metrics,
            holder,
            settled,
            held: None,
            looked_for_strays_at: None,
        }
    }

    /// Runs until it is aborted.
    pub async fn run(mut self) {
        loop {
            if !self.outside.is_awake.load(Ordering::Relaxed) {
                tokio::time::sleep(TICK).await;
                continue;
            }
            match self.step().await {
                Ok(true) => self.settled.notify_one(),
                Ok(false) => {
                    self.writer.discard();
                    tokio::time::sleep(TICK).await;
                }
                Err(Error::LeaseLost(_)) => {
                    self.held = None;
                    tokio::time::sleep(TICK).await;
                }
                Err(error) => {
                    tracing::warn!(%error, "what must be done outside could not be read or written down; it is tried again");
                    tokio::time::sleep(TICK).await;
                }
            }
        }
    }

    /// One batch. Returns whether anything was carried out.
    pub async fn step(&mut self) -> Result<bool, Error> {
        let now = self.clock.now();
        let mut steps = Vec::new();
        for target in self.courier.open() {
            steps.extend(self.store.steps_due(&target, now, BATCH).await?);
        }
        let strays = self.strays(now).await?;
        if steps.is_empty() && strays.is_empty() {
            return Ok(false);
        }
        let Some(fence) = self.lease(now).await? else { return Ok(false) };
        let mut tried = strays;
        let mut errands = Vec::new();
        let mut about: HashMap<String, Arc<About>> = HashMap::new();
        let mut under_way: BTreeMap<i64, Step> = BTreeMap::new();
        for step in steps {
            if self.outside.is_claimed(&self.store, &step).await? {
                let error = Some("a row that lives has this id again".to_owned());
                tried.push(Tried { step, state: StepState::Kept, due_at: now, was_called: false, error });
                continue;
            }
            let of = match about.get(&step.subject) {
                Some(of) => of.clone(),
                None => {
                    let Some(cascade) = self.store.cascade(&step.subject).await? else { continue };
                    let of = Arc::new(about_of(&cascade));
                    about.insert(step.subject.clone(), of.clone());
                    of
                }
            };
            let id = i64::try_from(errands.len()).unwrap_or(i64::MAX);
            errands.push(Errand {
                id,
                target: step.target.clone(),
                external_id: step.external_id.clone(),
                failures: step.attempts,
                about: of,
            });
            under_way.insert(id, step);
        }
        faircopy_store::failpoint::step("pre-http");
        let outcomes = self.courier.carry(errands).await;
        faircopy_store::failpoint::step("post-http-pre-mark");
        *self.outside.unaccepted() = self.courier.unaccepted();
        let now = self.clock.now();
        for (id, outcome) in outcomes {
            tried.extend(under_way.remove(&id).and_then(|step| self.judge(step, outcome, now)));
        }
        self.writer.settle_steps(&tried, now, &fence).await?;
        Ok(!tried.is_empty())
    }

    fn judge(&self, step: Step, outcome: Outcome, now: Millis) -> Option<Tried> {
        let (state, due_at, was_called, error) = match outcome {
            Outcome::Confirmed { was_gone: false } => (StepState::Gone, now, true, None),
            Outcome::Confirmed { was_gone: true } => (StepState::WasGone, now, true, None),
            Outcome::Again { at, error } => (StepState::Waiting, at, true, Some(error.to_string())),
            // That says nothing about the step: it has not failed.
            Outcome::Refused { at, error } => (StepState::Waiting, at, false, Some(error.to_string())),
            // It was not tried, and its turn comes.
            Outcome::Held { .. } => return None,
            Outcome::Impossible => {
                let (target, id) = (step.target.as_str(), step.external_id.as_str());
                tracing::warn!(target_name = target, id, code = IMPOSSIBLE, "a service can have nothing of this name");
                (StepState::WasGone, now, false, Some("the service can have nothing of this name".to_owned()))
            }
            Outcome::NoTarget => (StepState::Skipped, now, false, None),
        };
        self.metrics.cascade_step(state.as_str());
        Some(Tried { step, state, due_at, was_called, error })
    }

    /// Steps for targets that are not set up any more are left.
    async fn strays(&mut self, now: Millis) -> Result<Vec<Tried>, Error> {
        if self.looked_for_strays_at.is_some_and(|at| now >= at && now.0 - at.0 < STRAY_MS) {
            return Ok(vec![]);
        }
        self.looked_for_strays_at = Some(now);
        let mut strays = Vec::new();
        let mut targets = self.store.targets_waiting().await?;
        targets.retain(|target| !self.courier.knows(target));
        for target in targets {
            let steps = self.store.steps_due(&target, now, BATCH).await?;
            let left = |step| Tried { step, state: StepState::Skipped, due_at: now, was_called: false, error: None };
            strays.extend(steps.into_iter().map(left));
        }
        Ok(strays)
    }

    /// The lease, which the worker for the rows has as well: it is the process's.
    async fn lease(&mut self, now: Millis) -> Result<Option<Fence>, Error> {
        if let Some((fence, at)) = &self.held
            && now >= *at
            && now.0 - at.0 < RENEW_MS
        {
            return Ok(Some(fence.clone()));
        }
        let fence = holder::take(&self.store, &mut self.writer, LEASE, &self.holder, now, LEASE_MS).await?;
        self.held = fence.clone().map(|fence| (fence, now));
        Ok(fence)
    }
}

fn about_of(cascade: &Cascade) -> About {
    let subject = match cascade.kind {
        Subject::Organization => Told::Organization(cascade.subject.clone()),
        Subject::User => Told::User(cascade.subject.clone()),
    };
    About { subject, workspace_id: cascade.workspace_id.clone(), deleted_at: cascade.job.created_at }
}

//! Sweeps: backfill and reconcile (docs/decisions/0015-sweeps.md). Both read Clerk's lists from end to end, compare each page
//! with the copy and hand over what differs; reconcile then looks for what the copy has and the lists had not.
//!
//! A sweep is a row of the database. Whoever has the lease goes on with it where it stands, after a kill as well.

mod absent;
pub mod by_hand;
mod catch_up;
mod lanes;
mod lists;
mod report;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use faircopy_core::sweep::{Evidence, Hold, Walk};
use faircopy_core::{Millis, Observation};
use faircopy_store::{Fence, Progress, Store, Swept, Writer};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::Instrument as _;

use crate::app::{Clock, Refusal};
use crate::holder;
use crate::telemetry::Metrics;
use crate::telemetry::traces::{self, LATER, TRACE};
use crate::upstream::clerk::{Clerk, Fault, Share};
use crate::worker::intake::Intake;
use lanes::Lanes;
pub use report::{Direction, Drift, Ending, MAX_TOLD, Report, Tally};

/// The lease that all sweeps share: two at once would ask Clerk for the same twice.
pub const LEASE: &str = "sweep";
/// How long a sweeper has it without renewing it: so much later another one takes over from one that was killed.
const LEASE_MS: i64 = 30_000;
/// How often it is renewed.
const RENEW_MS: i64 = 10_000;
/// How much older than its walks a row's last news must be for its absence to mean anything, and how long after the first
/// denial the second must be (merge.md, reconcile).
pub const DEFAULT_GRACE_MS: i64 = 10 * 60_000;
/// The longest grace: a day, after which a sweep is begun anew.
pub const MAX_GRACE_SECONDS: i64 = 86_400;
/// How often progress is saved while pages come faster than that: a save costs a commit, as a page does. After a kill so much of
/// the reading is done again.
const SAVE_MS: i64 = 250;
/// A sweep that made no progress for so long is begun anew: what it has seen says nothing about today.
const RESUMABLE_MS: i64 = MAX_GRACE_SECONDS * 1000;
/// The longest sleep between two looks at the clock.
const NAP: Duration = Duration::from_millis(100);

/// Which kind of sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Copies what Clerk has.
    Backfill,
    /// Makes the copy equal.
    Reconcile,
}

impl Kind {
    /// As the sweeps' table holds it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Backfill => "backfill",
            Self::Reconcile => "reconcile",
        }
    }
}

/// What is to be done, and how carefully.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Which kind of sweep.
    pub kind: Kind,
    /// Change nothing.
    pub dry_run: bool,
    /// See [`DEFAULT_GRACE_MS`].
    pub grace_ms: i64,
    /// The operator knows that many are gone.
    pub force: bool,
}

impl Order {
    /// Copies everything that Clerk has.
    #[must_use]
    pub fn backfill() -> Self {
        Self { kind: Kind::Backfill, dry_run: false, grace_ms: DEFAULT_GRACE_MS, force: false }
    }

    /// Makes the copy equal to Clerk, with every guard.
    #[must_use]
    pub fn reconcile() -> Self {
        Self { kind: Kind::Reconcile, ..Self::backfill() }
    }
}

/// Why a sweep stopped before its end. What it has done stays done, and it can be gone on with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// Clerk refuses to be read.
    #[error("{0}")]
    Clerk(#[from] Fault),
    /// The database does not take or give what it should.
    #[error("the database: {0}")]
    Copy(String),
    /// Another replica has taken over.
    #[error("another process has taken the sweep over")]
    LeaseLost,
    /// Another process is sweeping.
    #[error("another process is sweeping")]
    Busy,
}

impl From<faircopy_store::Error> for Stop {
    fn from(error: faircopy_store::Error) -> Self {
        match error {
            faircopy_store::Error::LeaseLost(_) => Self::LeaseLost,
            error => Self::Copy(error.to_string()),
        }
    }
}

/// How often and how long a question or a commit is tried again that may succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Tries after the first.
    pub tries: u32,
    /// The first pause; it doubles.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Default for Patience {
    /// Two minutes: what lasts longer is an outage, and the sweep goes on after it.
    fn default() -> Self {
        Self { tries: 8, first: Duration::from_millis(500), longest: Duration::from_secs(30) }
    }
}

impl Patience {
    fn pause(&self, tried: u32) -> Duration {
        self.first.saturating_mul(1 << tried.min(16)).min(self.longest)
    }
}

/// Does sweeps. Cheap to clone.
#[derive(Clone)]
pub struct Sweeper {
    /// Clerk's Backend API.
    pub clerk: Arc<Clerk>,
    /// The copy, for reading.
    pub store: Store,
    /// The way in for what is found.
    pub intake: Intake,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The figures.
    pub metrics: Metrics,
    /// The name of this process as a holder of leases: made by chance for each.
    pub holder: Arc<str>,
    /// On whose share of Clerk's rate limit.
    pub share: Share,
    /// When to give up.
    pub patience: Patience,
}

/// Where a sweep stands: the part that is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    order: Order,
    began_at: Millis,
    lists: BTreeMap<Swept, List>,
    /// The walks are over; what was not seen is being looked for.
    walked: bool,
    /// Everything was looked for once, and the second look is waited for.
    looked: bool,
}

/// Where one list's walk stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct List {
    walk: Walk,
    total_before: Option<u64>,
    total_after: Option<u64>,
    done: bool,
    /// Why it could not be read to its end.
    failed: Option<String>,
}

impl State {
    fn new(order: Order, began_at: Millis) -> Self {
        let list = |kind: Swept| List {
            walk: Walk::new(kind == Swept::User),
            total_before: None,
            total_after: None,
            done: false,
            failed: None,
        };
        let lists = Swept::ALL.into_iter().map(|kind| (kind, list(kind))).collect();
        Self { order, began_at, lists, walked: false, looked: false }
    }
}

/// What others may see of a sweep under way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Glimpse {
    /// Rows read and rows in all, for each kind.
    pub lists: Vec<(Swept, u64, Option<u64>)>,
    /// What was found so far.
    pub report: Report,
    /// What it is doing.
    pub phase: Phase,
}

/// What a sweep is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Reading lists.
    #[default]
    Walking,
    /// Asking for rows one by one.
    Looking,
    /// Waiting out the grace before it asks again; until then.
    Waiting(Millis),
}

/// A sweep under way.
struct Run<'a> {
    sweeper: &'a Sweeper,
    id: i64,
    order: Order,
    bookkeeping: tokio::sync::Mutex<Bookkeeping>,
    shared: Mutex<Shared>,
    lanes: Lanes,
    glimpses: &'a watch::Sender<Glimpse>,
}

/// What only one may use at a time.
struct Bookkeeping {
    writer: Writer,
    renewed_at: Millis,
}

struct Shared {
    state: State,
    report: Report,
    phase: Phase,
    fence: Fence,
    /// What was seen since progress was saved last, where it is to be remembered: it is saved with the walk that saw it, or
    /// neither is.
    seen: Vec<(Swept, String)>,
    saved_at: Option<Millis>,
}

impl Sweeper {
    /// Sweeps to the end, going on with an unfinished sweep of the same order where there is one.
    pub async fn run(&self, order: Order, glimpses: &watch::Sender<Glimpse>) -> Result<Report, Stop> {
        let mut writer = self.store.writer();
        let fence = self.take_lease(&mut writer).await?.ok_or(Stop::Busy)?;
        let span = tracing::info_span!(target: TRACE, "sweep", faircopy.kind = LATER, faircopy.outcome = LATER, trace.failed = LATER);
        let outcome = self.run_with(order, writer, fence.clone(), glimpses).instrument(span.clone()).await;
        match &outcome {
            Ok(report) => {
                span.record("faircopy.kind", report.kind.as_str());
                span.record("faircopy.outcome", report.outcome.map_or("unfinished", Ending::as_str));
            }
            Err(_) => traces::failed(&span),
        }
        // Whoever comes next need not wait for its end; if this fails, it does.
        drop(self.store.writer().give_up_lease(&fence).await);
        outcome
    }

    async fn run_with(
        &self,
        order: Order,
        mut writer: Writer,
        fence: Fence,
        glimpses: &watch::Sender<Glimpse>,
    ) -> Result<Report, Stop> {
        self.check_key().await?;
        self.check_instance(&mut writer, &fence).await?;
        let now = self.clock.now();
        let (id, state, report) = match self.resumable(order, now).await? {
            Some(found) => found,
            None => {
                let state = State::new(order, now);
                let id = writer.begin_sweep(order.kind.as_str(), &json(&state)?, now, &fence).await?;
                let kind = order.kind.as_str().to_owned();
                (id, state, Report { kind, dry_run: order.dry_run, began_at: now, ..Report::default() })
            }
        };
        let run = Run {
            sweeper: self,
            id,
            order,
            bookkeeping: tokio::sync::Mutex::new(Bookkeeping { writer, renewed_at: now }),
            shared: Mutex::new(Shared {
                state,
                report,
                phase: Phase::Walking,
                fence,
                seen: Vec::new(),
                saved_at: None,
            }),
            lanes: Lanes::new(),
            glimpses,
        };
        let report = run.to_the_end().await?;
        let mut bookkeeping = run.bookkeeping.lock().await;
        bookkeeping.writer.forget_seen().await?;
        Ok(report)
    }

    async fn take_lease(&self, writer: &mut Writer) -> Result<Option<Fence>, Stop> {
        let now = self.clock.now();
        Ok(holder::take(&self.store, writer, LEASE, &self.holder, now, LEASE_MS).await?)
    }

    /// Gives the lease up, if this process has it: for whoever drops a sweep that is under way.
    pub async fn release(&self) -> Result<(), Stop> {
        let mut writer = self.store.writer();
        if let Some(fence) = writer.take_lease(LEASE, &self.holder, self.clock.now(), LEASE_MS).await? {
            writer.give_up_lease(&fence).await?;
        }
        Ok(())
    }

    /// Whose key it is, before anything is asked with it.
    async fn check_key(&self) -> Result<(), Stop> {
        for tried in 0.. {
            match self.clerk.check_instance(self.share).await {
                Err(fault) if fault.is_passing() && tried < self.patience.tries => {
                    tokio::time::sleep(self.patience.pause(tried)).await;
                }
                outcome => return Ok(outcome?),
            }
        }
        Ok(())
    }

    /// Whether the copy is of the key's instance. Where the settings do not say which instance that is, what the copy already
    /// holds does.
    async fn check_instance(&self, writer: &mut Writer, fence: &Fence) -> Result<(), Stop> {
        let Some(instance) = self.clerk.instance() else { return Ok(()) };
        match self.store.known_instance().await? {
            Some(known) if known != instance && !self.clerk.is_pinned() => {
                tracing::error!(copy_of = known, key_of = instance, code = "clerk-wrong-instance", "nothing is read");
                return Err(Fault::WrongInstance.into());
            }
            _ => {}
        }
        Ok(writer.keep_instance(instance, fence).await?)
    }

    /// The unfinished sweep to go on with, if it was ordered alike and is not too old.
    async fn resumable(&self, order: Order, now: Millis) -> Result<Option<(i64, State, Report)>, Stop> {
        let Some(sweep) = self.store.sweep_under_way(order.kind.as_str()).await? else { return Ok(None) };
        let is_recent = Millis::parse(&sweep.saved_at).is_some_and(|at| now.0 - at.0 < RESUMABLE_MS);
        let read = || Some((serde_json::from_str(&sweep.state).ok()?, serde_json::from_str(&sweep.report).ok()?));
        let known: Option<(State, Report)> = read();
        Ok(known
            .filter(|(state, _)| is_recent && state.order == order)
            .map(|(state, report)| (sweep.id, state, report)))
    }
}

fn json(value: &impl Serialize) -> Result<String, Stop> {
    serde_json::to_string(value).map_err(|error| Stop::Copy(error.to_string()))
}

impl Run<'_> {
    async fn to_the_end(&self) -> Result<Report, Stop> {
        if !self.shared().state.walked {
            self.walk_all().await?;
            self.shared().state.walked = true;
            self.save(&Progress::default()).await?;
        }
        match self.order.kind {
            Kind::Reconcile => self.look_for_the_unseen().await?,
            Kind::Backfill => self.say_what_was_not_read(),
        }
        self.finish().await
    }

    /// A backfill concludes nothing from what it has not seen, and does not hide that there was something.
    fn say_what_was_not_read(&self) {
        let mut shared = self.shared();
        let Shared { state, report, .. } = &mut *shared;
        for (kind, list) in &state.lists {
            let evidence = Evidence {
                seen: list.walk.rows(),
                total_before: list.total_before,
                total_after: list.total_after,
                ..Evidence::default()
            };
            let failed = list.failed.clone().map(|reason| Hold::Failed { reason });
            report.of(*kind).hold = failed.or_else(|| evidence.judge(true).err());
        }
    }

    async fn finish(&self) -> Result<Report, Stop> {
        let now = self.sweeper.clock.now();
        let (report, state, complete_at, fence) = {
            let mut shared = self.shared();
            let ending = shared.report.ending();
            shared.report.outcome = Some(ending);
            shared.report.finished_at = Some(now);
            let is_proof = self.order.kind == Kind::Reconcile && ending != Ending::Differences;
            let complete_at = is_proof.then(|| shared.state.began_at.plus(-crate::refresh::READ_LAG_MS));
            (shared.report.clone(), shared.state.clone(), complete_at, shared.fence.clone())
        };
        let progress = Progress { state: json(&state)?, report: json(&report)?, ..Progress::default() };
        let ending = report.outcome.unwrap_or(Ending::Differences).as_str();
        let mut bookkeeping = self.bookkeeping.lock().await;
        bookkeeping.writer.finish_sweep(self.id, &progress, ending, complete_at, now, &fence).await?;
        self.sweeper.metrics.swept(&report, now);
        Ok(report)
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers progress, unless that was done [`SAVE_MS`] ago or less.
    async fn save_now_and_then(&self) -> Result<(), Stop> {
        let now = self.sweeper.clock.now();
        let is_recent = |at: Millis| (0..SAVE_MS).contains(&(now.0 - at.0));
        if self.shared().saved_at.is_some_and(is_recent) {
            self.show();
            return Ok(());
        }
        self.save(&Progress::default()).await
    }

    /// Remembers progress, with where the sweep stands now and what it has seen, and keeps the lease.
    async fn save(&self, progress: &Progress<'_>) -> Result<(), Stop> {
        let mut bookkeeping = self.bookkeeping.lock().await;
        let (state, report, seen) = {
            let mut shared = self.shared();
            shared.saved_at = Some(self.sweeper.clock.now());
            (json(&shared.state)?, json(&shared.report)?, std::mem::take(&mut shared.seen))
        };
        let seen = seen.iter().map(|(kind, name)| (*kind, name.as_str())).collect();
        let (absent, settled) = (progress.absent.clone(), progress.settled.clone());
        let progress = Progress { state, report, seen, absent, settled };
        let fence = self.renew(&mut bookkeeping).await?;
        let now = self.sweeper.clock.now();
        for tried in 0.. {
            match bookkeeping.writer.save_sweep(self.id, &progress, now, &fence).await {
                Ok(()) => break,
                Err(error) if error.is_passing() && tried < self.sweeper.patience.tries => {
                    tokio::time::sleep(self.sweeper.patience.pause(tried)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        drop(bookkeeping);
        self.show();
        Ok(())
    }

    async fn renew(&self, bookkeeping: &mut Bookkeeping) -> Result<Fence, Stop> {
        let (now, fence) = (self.sweeper.clock.now(), self.shared().fence.clone());
        if (0..RENEW_MS).contains(&(now.0 - bookkeeping.renewed_at.0)) {
            return Ok(fence);
        }
        let renewed = bookkeeping.writer.take_lease(LEASE, &self.sweeper.holder, now, LEASE_MS).await?;
        // A higher number is the same holder's after somebody else's: what he did meanwhile is not known here.
        if renewed.as_ref() != Some(&fence) {
            return Err(Stop::LeaseLost);
        }
        bookkeeping.renewed_at = now;
        Ok(fence)
    }

    /// Lets whoever looks on see how it goes.
    fn show(&self) {
        let shared = self.shared();
        let list = |(kind, list): (&Swept, &List)| (*kind, list.walk.rows(), list.total_before);
        self.glimpses.send_replace(Glimpse {
            lists: shared.state.lists.iter().map(list).collect(),
            report: shared.report.clone(),
            phase: shared.phase,
        });
    }

    fn enter(&self, phase: Phase) {
        self.shared().phase = phase;
        self.show();
    }

    /// Merges what was found, in the name of the lease. Says of each observation whether it was news.
    async fn learn(&self, observations: Vec<Observation>) -> Result<Vec<bool>, Stop> {
        if observations.is_empty() {
            return Ok(vec![]);
        }
        let fence = self.shared().fence.clone();
        let mut tried = 0;
        loop {
            match self.sweeper.intake.sweep(observations.clone(), fence.clone()).await {
                Ok(receipt) if receipt.is_fenced_off => return Err(Stop::LeaseLost),
                Ok(receipt) => return Ok(receipt.parts),
                Err(Refusal::Stopping) => return Err(Stop::Copy(Refusal::Stopping.to_string())),
                Err(refusal) if tried >= self.sweeper.patience.tries => return Err(Stop::Copy(refusal.to_string())),
                Err(_) => tokio::time::sleep(self.sweeper.patience.pause(tried)).await,
            }
            tried += 1;
        }
    }

    /// Puts a question to Clerk until it is answered, or will not be.
    /// (Boxed: a worker is sent between threads, which the compiler cannot yet see of closures that are async.)
    async fn ask<'q, T>(&self, question: impl Fn() -> BoxFuture<'q, Result<T, Fault>> + Send) -> Result<T, Fault> {
        let (sweeper, mut tried) = (self.sweeper, 0);
        loop {
            let Some(place) = self.lanes.enter().await else {
                return Err(Fault::Unreachable("the service is stopping"));
            };
            self.shared().report.requests += 1;
            let fault = match question().await {
                Ok(answer) => {
                    self.lanes.answered(place);
                    return Ok(answer);
                }
                Err(Fault::Limited(wait_ms)) => {
                    self.lanes.refused(place);
                    let wait_ms = wait_ms.unsigned_abs().max(1);
                    self.shared().report.waited_ms += wait_ms;
                    tokio::time::sleep(Duration::from_millis(wait_ms).min(NAP)).await;
                    continue;
                }
                Err(fault) => {
                    self.lanes.failed(place);
                    fault
                }
            };
            if !fault.is_passing() || tried >= sweeper.patience.tries {
                return Err(fault);
            }
            tracing::debug!(%fault, tried, "a question of a sweep was not answered");
            tokio::time::sleep(sweeper.patience.pause(tried)).await;
            tried += 1;
        }
    }

    /// Waits until a time has come, and keeps the lease meanwhile.
    async fn wait_until(&self, at: Millis) -> Result<(), Stop> {
        while self.sweeper.clock.now() < at {
            let left = (at.0 - self.sweeper.clock.now().0).max(1).unsigned_abs();
            tokio::time::sleep(Duration::from_millis(left).min(NAP)).await;
            let mut bookkeeping = self.bookkeeping.lock().await;
            self.renew(&mut bookkeeping).await?;
        }
        Ok(())
    }
}

//! Reconciles by itself: when a server starts on a copy that was never compared with Clerk, at intervals from then on, and soon
//! when somebody has reason to ask for it. What one replica has done, or is doing, the others need not do: they see it in
//! the database.

use std::sync::Arc;
use std::time::Duration;

use faircopy_core::Millis;
use faircopy_store::Swept;
use tokio::sync::{Notify, watch};

use crate::config::Every;
use crate::sweep::{Ending, Glimpse, Kind, Order, Report, Stop, Sweeper};

/// How often the worker looks whether it is time.
const TICK: Duration = Duration::from_secs(5);
/// A server that has just started serves first.
const AFTER_START_MS: i64 = 20_000;
/// Replicas that start together look at different times: so much apart at most.
const MAX_PHASE_MS: i64 = 10_000;
/// The shortest rest between two reconciles, and the longest; between them, [`ROW_MS`] for each row.
const SHORTEST_MS: i64 = 5 * 60_000;
const LONGEST_MS: i64 = 24 * 3_600_000;
/// So that a copy of a million rows is compared once an hour, and the comparing costs the database little.
const ROW_MS: f64 = 3.6;
/// The rest after a sweep that could not be finished, doubled each time up to [`SHORTEST_MS`].
const FIRST_RETRY_MS: i64 = 30_000;
/// The least time between a reconcile and one that somebody asked for.
const SOON_MS: i64 = 10 * 60_000;

/// The worker.
pub struct Reconciler {
    sweeper: Sweeper,
    every: Every,
    order: Order,
    soon: Arc<Notify>,
    began_at: Millis,
    phase_ms: i64,
    failures: u32,
    retry_at: Option<Millis>,
    /// Somebody has asked for a reconcile.
    is_wanted: bool,
}

impl Reconciler {
    /// A worker that reconciles as ordered; `phase` tells replicas apart.
    #[must_use]
    pub fn new(sweeper: Sweeper, every: Every, order: Order, soon: Arc<Notify>, phase: u8) -> Self {
        let began_at = sweeper.clock.now();
        let phase_ms = MAX_PHASE_MS * i64::from(phase) / i64::from(u8::MAX);
        Self { sweeper, every, order, soon, began_at, phase_ms, failures: 0, retry_at: None, is_wanted: false }
    }

    /// Runs until it is aborted.
    pub async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let soon = self.soon.clone();
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = soon.notified() => self.want(),
            }
            self.step().await;
        }
    }

    /// Somebody has reason to compare soon.
    pub fn want(&mut self) {
        self.is_wanted = true;
    }

    /// Whether it rests after a sweep that could not be finished. A clock that went back must not stop it until it has
    /// caught up.
    #[must_use]
    pub fn rests(&self) -> bool {
        let now = self.sweeper.clock.now();
        self.retry_at.is_some_and(|at| now < at && at.0 - now.0 <= LONGEST_MS)
    }

    /// One look: reconciles if it is time. Returns what was found, if anything was done.
    pub async fn step(&mut self) -> Option<Report> {
        let now = self.sweeper.clock.now();
        let is_due = match self.due().await {
            Ok(due) => due.is_some_and(|due| due <= now),
            Err(error) => {
                tracing::debug!(%error, "it cannot be told whether a reconcile is due");
                false
            }
        };
        if !is_due || self.rests() {
            return None;
        }
        match self.sweeper.run(self.order, &watch::Sender::new(Glimpse::default())).await {
            Ok(report) => {
                (self.failures, self.retry_at, self.is_wanted) = (0, None, false);
                tell(&report);
                Some(report)
            }
            Err(stop) => {
                self.rest(&stop);
                None
            }
        }
    }

    /// When the next one is due; `None` for never.
    async fn due(&self) -> Result<Option<Millis>, faircopy_store::Error> {
        if self.every == Every::Never {
            return Ok(None);
        }
        let first = self.began_at.plus(AFTER_START_MS + self.phase_ms);
        // One that was begun and not finished is gone on with, by whoever gets the lease.
        if self.sweeper.store.sweep_under_way(Kind::Reconcile.as_str()).await?.is_some() {
            return Ok(Some(first));
        }
        let Some(last) = self.sweeper.store.last_sweep(Kind::Reconcile.as_str()).await? else { return Ok(Some(first)) };
        let Some(ended) = last.finished_at.as_deref().and_then(Millis::parse) else { return Ok(Some(first)) };
        let rest = if self.is_wanted { SOON_MS } else { self.interval().await? };
        Ok(Some(first.max(ended.plus(rest))))
    }

    async fn interval(&self) -> Result<i64, faircopy_store::Error> {
        match self.every {
            Every::Never => Ok(LONGEST_MS),
            Every::Minutes(minutes) => Ok(i64::from(minutes) * 60_000),
            Every::Auto => {
                let mut rows = 0;
                for kind in Swept::ALL {
                    rows += self.sweeper.store.shown(kind).await?;
                }
                #[expect(
                    clippy::cast_precision_loss,
                    clippy::cast_possible_truncation,
                    reason = "an interval, roughly"
                )]
                let wanted = (rows as f64 * ROW_MS) as i64;
                Ok(wanted.clamp(SHORTEST_MS, LONGEST_MS))
            }
        }
    }

    fn rest(&mut self, stop: &Stop) {
        let rest = FIRST_RETRY_MS.saturating_mul(1 << self.failures.min(8)).min(SHORTEST_MS);
        self.retry_at = Some(self.sweeper.clock.now().plus(rest));
        match stop {
            // Another replica is at it.
            Stop::Busy | Stop::LeaseLost => {}
            Stop::Clerk(_) | Stop::Copy(_) => {
                if self.failures == 0 {
                    tracing::warn!(%stop, code = "reconcile-failed", "a reconcile could not be finished; it is gone on with");
                }
                self.failures += 1;
                self.sweeper.metrics.sweep_failed();
            }
        }
    }
}

fn tell(report: &Report) {
    let sum = |count: fn(&crate::sweep::Tally) -> u64| report.kinds.values().map(count).sum::<u64>();
    let (missing, extra, different) = (sum(|t| t.missing), sum(|t| t.extra), sum(|t| t.different));
    let (removed, left) = (sum(|t| t.removed), sum(|t| t.left));
    match report.outcome {
        Some(Ending::Differences) => tracing::warn!(
            missing,
            extra,
            different,
            removed,
            left,
            requests = report.requests,
            code = "drift-left",
            "the copy and Clerk differ, and something was left: see `faircopy reconcile --dry-run`"
        ),
        Some(Ending::Repaired) => tracing::warn!(
            missing,
            extra,
            different,
            removed,
            requests = report.requests,
            code = "drift-repaired",
            "the copy differed from Clerk, and was repaired"
        ),
        _ => tracing::info!(requests = report.requests, "the copy equals Clerk"),
    }
}

//! Adds up what arrives, by minute and by hour, and counts the rows of large tables: for the dashboard, which then never asks a
//! full database for more than an empty one (docs/decisions/0024-dashboard.md). One replica does it, under a lease.

use std::sync::Arc;
use std::time::Duration;

use faircopy_core::Millis;
use faircopy_store::{Error, Fence, Store, Writer};

use crate::app::Clock;
use crate::telemetry::Metrics;

/// The lease.
pub const LEASE: &str = "activity";
/// How often the worker looks: the charts are that late, and the grace.
const PERIOD: Duration = Duration::from_secs(5);
/// How long a replica has the lease without renewing it, and after how much of that it does: taking it costs a commit.
const LEASE_MS: i64 = 60_000;
const RENEW_MS: i64 = 30_000;
/// What arrived longer ago is visible: a request is answered within 12 seconds, or not acknowledged.
const GRACE_MS: i64 = 15_000;
/// How much time is added up in one transaction: on a busy instance tens of thousands of deliveries.
const STRETCH_MS: i64 = 10_000;
/// Stretches of one turn: a server that starts on a full week serves in between.
const AT_ONCE: u32 = 60;
/// How far back a server looks that starts on a copy which nobody has added up: as far as the dashboard shows.
const BACK_MS: i64 = 7 * 24 * 3_600_000;
/// The shortest rest between two counts of large tables, and the longest; between them one for each [`ROWS_A_MS`] rows, so that counting
/// takes a hundredth of the time at most.
const SHORTEST_REST_MS: i64 = 15_000;
const LONGEST_REST_MS: i64 = 10 * 60_000;
const ROWS_A_MS: i64 = 50;
/// How often old counts are forgotten.
const FORGET_MS: i64 = 3_600_000;

/// The worker.
pub struct Activity {
    store: Store,
    writer: Writer,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// This process as a holder of leases.
    holder: Arc<str>,
    fence: Option<Fence>,
    /// When the lease was asked for last.
    asked_at: Option<Millis>,
    /// When rows are counted next, and at which number of the change feed they were.
    count_at: Millis,
    counted: Option<i64>,
    forget_at: Millis,
}

impl Activity {
    /// A worker.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, metrics: Metrics, holder: Arc<str>) -> Self {
        let writer = store.writer();
        let (count_at, forget_at) = (Millis(0), Millis(0));
        Self { store, writer, clock, metrics, holder, fence: None, asked_at: None, count_at, counted: None, forget_at }
    }

    /// Runs until it is aborted. The first turn comes after a period: a server that has just started serves first.
    pub async fn run(mut self) {
        let mut tick = tokio::time::interval(PERIOD);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        tick.tick().await;
        loop {
            tick.tick().await;
            match self.step().await {
                Ok(()) => {}
                Err(Error::LeaseLost(_)) => (self.fence, self.asked_at) = (None, None),
                // What is not added up now is at the next turn.
                Err(error) => tracing::debug!(%error, "what arrived could not be added up"),
            }
            // Where connections are few, somebody else may be waiting for this one.
            self.writer.discard();
        }
    }

    /// One turn.
    pub async fn step(&mut self) -> Result<(), Error> {
        let now = self.clock.now();
        self.tell_refused(now).await?;
        self.ask_for_lease(now).await?;
        let Some(fence) = self.fence.clone() else { return Ok(()) };
        self.add_up(now, &fence).await?;
        if self.count_at <= now || self.count_at.0 - now.0 > LONGEST_REST_MS {
            self.count_rows(now, &fence).await?;
        }
        if self.forget_at <= now {
            self.writer.forget_activity(now).await?;
            self.forget_at = now.plus(FORGET_MS);
        }
        Ok(())
    }

    /// Every process writes down what it has refused itself.
    async fn tell_refused(&mut self, now: Millis) -> Result<(), Error> {
        match self.metrics.take_refused() {
            0 => Ok(()),
            refused => self.writer.add_refused(refused, now).await,
        }
    }

    async fn ask_for_lease(&mut self, now: Millis) -> Result<(), Error> {
        let is_recent = |asked: Millis| (0..RENEW_MS).contains(&(now.0 - asked.0));
        if !self.asked_at.is_some_and(is_recent) {
            self.fence = self.writer.take_lease(LEASE, &self.holder, now, LEASE_MS).await?;
            self.asked_at = Some(now);
        }
        Ok(())
    }

    async fn add_up(&mut self, now: Millis, fence: &Fence) -> Result<(), Error> {
        let end = now.plus(-GRACE_MS);
        let mut from = self.store.activity_until().await?.unwrap_or_else(|| now.plus(-BACK_MS));
        for _ in 0..AT_ONCE {
            let Some(first) = self.store.first_arrival_since(from).await?.filter(|first| *first < end) else { break };
            let until = first.plus(STRETCH_MS).min(end);
            self.writer.add_up(&self.store, first, until, fence).await?;
            from = until;
        }
        Ok(())
    }

    /// Counts the tables if one is too large to be counted whenever somebody asks, and anything has changed.
    async fn count_rows(&mut self, now: Millis, fence: &Fence) -> Result<(), Error> {
        let sequence = self.store.freshness().await?.sequence;
        let is_large =
            self.store.row_counts().await?.values().any(|count| count.is_at_least || count.counted_at.is_some());
        let mut rest = SHORTEST_REST_MS;
        if is_large && self.counted != Some(sequence) {
            let rows = self.writer.count_rows(&self.store, now, fence).await?;
            self.counted = Some(sequence);
            rest = (rows / ROWS_A_MS).clamp(SHORTEST_REST_MS, LONGEST_REST_MS);
        }
        self.count_at = now.plus(rest);
        Ok(())
    }
}

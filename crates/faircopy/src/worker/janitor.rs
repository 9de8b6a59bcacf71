//! What time alone changes: pending invitations expire without an event, users who were deleted leave the stored deliveries, and what
//! was kept long enough is forgotten. All of it in small batches, and without a lease: whoever comes second finds nothing to do.

use std::sync::Arc;
use std::time::Duration;

use faircopy_core::Millis;
use faircopy_store::{READINGS_KEPT_MS, RECEIPTS_KEPT_MS, Store, Writer};

use crate::app::Clock;
use crate::config::Retention;
use crate::telemetry::Metrics;

/// How often the janitor looks. An invitation's status is at most this late, and so is the beginning of an erasure.
const PERIOD: Duration = Duration::from_secs(30);
/// Receipts of deletions that are forgotten in one transaction.
const FORGET_AT_ONCE: i64 = 200;
/// Batches of one kind in one turn: a backlog must not keep the other kinds waiting. 200 batches of 200 rows each half minute are more than
/// a server takes in.
const BATCHES: usize = 200;
/// Erasures that one turn goes on with.
const ERASURES_AT_ONCE: i64 = 100;
/// How often PostgreSQL's table is vacuumed for erasures: each reads what changed of it.
const SCRUB_EVERY_MS: i64 = 3_600_000;

/// The worker.
pub struct Janitor {
    store: Store,
    writer: Writer,
    clock: Arc<dyn Clock>,
    retention: Retention,
    metrics: Metrics,
    /// When bytes were last scrubbed.
    scrubbed_at: Option<Millis>,
    /// Up to where payloads were emptied.
    emptied: Option<String>,
}

impl Janitor {
    /// A worker of its own connection.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, retention: Retention, metrics: Metrics) -> Self {
        let writer = store.writer();
        Self { store, writer, clock, retention, metrics, scrubbed_at: None, emptied: None }
    }

    /// Runs until it is aborted. A failing database is tried again at the next turn.
    pub async fn run(mut self) {
        let mut turn = tokio::time::interval(PERIOD);
        turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            turn.tick().await;
            if let Err(error) = self.step().await {
                tracing::warn!(%error, "what is over could not be looked through");
            }
            // Where connections are few, somebody else may be waiting for this one.
            self.writer.discard();
        }
    }

    /// One turn: lets everything expire that is due, goes on with erasures, and forgets what is old. Returns how many invitations
    /// expired. What fails keeps nothing else from being done, and the first error is returned at the end.
    pub async fn step(&mut self) -> Result<usize, faircopy_store::Error> {
        let expired = self.expire().await;
        let walked = self.walk().await;
        let erased = self.erase().await;
        let forgotten = self.forget().await;
        walked.and(erased).and(forgotten).and(expired)
    }

    async fn expire(&mut self) -> Result<usize, faircopy_store::Error> {
        let mut expired = 0;
        loop {
            let now = self.clock.now();
            match self.writer.expire_invitations(now).await? {
                0 => return Ok(expired),
                more => expired += more,
            }
        }
    }

    async fn walk(&mut self) -> Result<(), faircopy_store::Error> {
        for _ in 0..BATCHES {
            if !self.writer.walk(self.clock.now()).await? {
                break;
            }
        }
        Ok(())
    }

    async fn erase(&mut self) -> Result<(), faircopy_store::Error> {
        let due = self.store.erasures_due(self.clock.now(), ERASURES_AT_ONCE).await?;
        for one in &due {
            let mut is_clean = false;
            for _ in 0..BATCHES {
                let erased = self.writer.erase_deliveries(&one.user, self.clock.now()).await?;
                self.metrics.cleaned("erased", erased);
                is_clean = erased == 0;
                if is_clean {
                    break;
                }
            }
            if is_clean {
                let now = self.clock.now();
                let next = self.scrubbed_at.map_or(now, |at| at.plus(SCRUB_EVERY_MS).max(now));
                let next = if self.is_sqlite() { now } else { next };
                self.writer.finish_erasure(one, now, next).await?;
            }
        }
        let now = self.clock.now();
        let may_scrub = self.is_sqlite() || self.scrubbed_at.is_none_or(|at| now >= at.plus(SCRUB_EVERY_MS));
        if !due.is_empty() && may_scrub && self.writer.scrub(now).await? {
            self.scrubbed_at = Some(now);
            tracing::info!(users = due.len(), "deleted users have left the stored deliveries");
        }
        Ok(())
    }

    fn is_sqlite(&self) -> bool {
        self.store.address().engine() == "sqlite"
    }

    async fn forget(&mut self) -> Result<(), faircopy_store::Error> {
        let (now, retention) = (self.clock.now(), self.retention);
        for _ in 0..BATCHES {
            let before = now.plus(-retention.payloads_ms);
            let from = self.emptied.as_deref();
            let (emptied, next) = self.writer.empty_payloads(before, from, FORGET_AT_ONCE, now).await?;
            self.metrics.cleaned("payload", emptied);
            let Some(next) = next else { break };
            self.emptied = Some(next);
        }
        for kind in Kind::ALL {
            for _ in 0..BATCHES {
                let gone = self.forget_some(kind, now, retention).await?;
                self.metrics.cleaned(kind.as_str(), gone);
                if gone == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn forget_some(&mut self, kind: Kind, now: Millis, kept: Retention) -> Result<usize, faircopy_store::Error> {
        let writer = &mut self.writer;
        match kind {
            Kind::Cascade => writer.forget_cascades(now.plus(-RECEIPTS_KEPT_MS), FORGET_AT_ONCE).await,
            Kind::Delivery => writer.forget_deliveries(now.plus(-kept.deliveries_ms), FORGET_AT_ONCE).await,
            Kind::Change => writer.forget_changes(now.plus(-kept.changes_ms), FORGET_AT_ONCE).await,
            Kind::Drift => writer.forget_sweeps(now.plus(-kept.drift_ms), FORGET_AT_ONCE).await,
            Kind::Erasure => writer.forget_erasures(now.plus(-kept.erasures_ms), FORGET_AT_ONCE).await,
            Kind::Reading => writer.forget_readings(now.plus(-READINGS_KEPT_MS), FORGET_AT_ONCE).await,
        }
    }
}

/// What is forgotten row by row.
#[derive(Clone, Copy)]
enum Kind {
    Cascade,
    Delivery,
    Change,
    Drift,
    Erasure,
    Reading,
}

impl Kind {
    /// Not tombstones: their time is that of the event, and one that was learned a moment ago may be years old.
    const ALL: [Self; 6] = [Self::Cascade, Self::Delivery, Self::Change, Self::Drift, Self::Erasure, Self::Reading];

    fn as_str(self) -> &'static str {
        match self {
            Self::Cascade => "cascade",
            Self::Delivery => "delivery",
            Self::Change => "change",
            Self::Drift => "drift",
            Self::Erasure => "erasure",
            Self::Reading => "reading",
        }
    }
}

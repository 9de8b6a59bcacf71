//! Looks once a minute for the trouble that the probe and the cascades do not see, and makes findings of it
//! (docs/decisions/0021-alerts.md). What each number means is judged by `faircopy_core::watch`.
//!
//! It asks no handler: it reads the database and the file system, and takes what the endpoint counted. So what it finds does
//! not depend on whether anything is answered. Every replica adds its counts and measures its clock; one of them, under a lease, looks
//! at all of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use faircopy_core::Millis;
use faircopy_core::alert::Severity;
use faircopy_core::watch::{self, Answered, Clock as Compared, Failed, Found, KEPT_SLOTS, WINDOW_SLOTS};
use faircopy_store::{Error, Fence, Finding, Gauge, Store, Tally, UNDELIVERED, Writer};

use super::settle::{Trouble, settle};
use super::turns::Turns;
use crate::alerts::ACKNOWLEDGED;
use crate::app::Clock;
use crate::config::Every;
use crate::sweep::{Ending, Kind, Report};
use crate::telemetry::Metrics;
use crate::traffic::{Count, Traffic};
use crate::upstream::clerk::Clerk;

/// The lease that judging needs.
pub const LEASE: &str = "watch";
/// Every finding that is made here, each a section of docs/errors.md.
pub const FINDINGS: [&str; 7] =
    ["clock-skew", "disk", "drift", "endpoint-failing", "failures", "jobs-stuck", "signature-failures"];
/// The mark of the first look at this copy.
const WATCHED_SINCE: &str = "watched-since";

/// How often the worker looks.
const PERIOD_MS: i64 = 60_000;
/// The first look of a process comes sooner: what was counted before a restart is there already.
const FIRST_MS: i64 = 5_000;
/// How long a replica has the lease without renewing it: one turn may be missed.
const LEASE_MS: i64 = 150_000;
/// What a replica measured is believed so long: it measures each minute, and deliveries may be few.
const MEASURED_MS: i64 = 10 * 60_000;

/// The clocks that ours is compared with: as the gauge is called, and whose it is.
const CLOCKS: [(&str, &str); 3] = [
    ("clock:clerk", "Clerk's"),
    ("clock:database", "the database's"),
    ("clock:svix", "that of whoever signs deliveries"),
];

/// What there is to compare with Clerk, and how often that is done.
#[derive(Debug, Clone, Copy)]
pub struct Comparing {
    /// There is a key.
    pub has_key: bool,
    /// How often a reconcile begins by itself.
    pub every: Every,
}

/// The worker.
pub struct Watch {
    store: Store,
    writer: Writer,
    clerk: Option<Arc<Clerk>>,
    traffic: Arc<Traffic>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// This process as a holder of leases.
    holder: Arc<str>,
    comparing: Comparing,
    /// What was counted and could not be written yet, by slot.
    counted: BTreeMap<(i64, Count), u64>,
}

impl Watch {
    /// A worker. Nothing is done yet.
    #[must_use]
    pub fn new(
        store: Store,
        clerk: Option<Arc<Clerk>>,
        traffic: Arc<Traffic>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        holder: Arc<str>,
        comparing: Comparing,
    ) -> Self {
        let writer = store.writer();
        Self { store, writer, clerk, traffic, clock, metrics, holder, comparing, counted: BTreeMap::new() }
    }

    /// Runs until it is aborted.
    pub async fn run(mut self) {
        let mut turns = Turns::new(self.clock.clone(), FIRST_MS, PERIOD_MS);
        loop {
            turns.next().await;
            match self.step().await {
                Ok(_) | Err(Error::LeaseLost(_)) => {}
                Err(error) => tracing::warn!(%error, "the copy could not be watched"),
            }
            // Where connections are few, somebody else may be waiting for this one.
            self.writer.discard();
            turns.done();
        }
    }

    /// One turn. Returns whether it was this process's to judge: another one may have the lease.
    pub async fn step(&mut self) -> Result<bool, Error> {
        let now = self.clock.now();
        self.count(now);
        let gauges = self.measure().await?;
        self.tell_counts(&gauges, now).await?;
        let fence = self.writer.take_lease(LEASE, &self.holder, now, LEASE_MS).await?;
        let is_ours = fence.is_some();
        if let Some(fence) = &fence {
            self.judge(fence, now).await?;
        }
        show(&self.store, &self.metrics, now).await?;
        Ok(is_ours)
    }

    /// Takes what the endpoint counted into the slot of now. Slots that nobody would look at any more are let go.
    fn count(&mut self, now: Millis) {
        let slot = watch::slot(now);
        for (what, number) in self.traffic.take() {
            *self.counted.entry((slot, what)).or_default() += number;
        }
        self.counted.retain(|(of, _), _| *of > slot - KEPT_SLOTS);
    }

    /// Compares this process's clock with others.
    async fn measure(&mut self) -> Result<Vec<Gauge>, Error> {
        let mut gauges = Vec::with_capacity(CLOCKS.len());
        let mut add = |name: &str, value: i64| gauges.push(Gauge { name: name.to_owned(), value });
        let before = self.clock.now();
        if let Some(server) = self.store.server_time().await? {
            let after = self.clock.now();
            // It showed this at some time in between.
            let ahead = if server < before { before.0 - server.0 } else { (after.0 - server.0).min(0) };
            add("clock:database", ahead);
        }
        if let Some(ahead) = self.traffic.take_lags().and_then(watch::median) {
            add("clock:svix", ahead);
        }
        if let Some(ahead) = self.clerk.as_ref().and_then(|clerk| clerk.take_clock_lead()) {
            add("clock:clerk", ahead);
        }
        for gauge in &gauges {
            self.metrics.clock_lead(gauge.name.trim_start_matches("clock:"), gauge.value);
        }
        Ok(gauges)
    }

    /// Adds what was counted to what all replicas did.
    async fn tell_counts(&mut self, gauges: &[Gauge], now: Millis) -> Result<(), Error> {
        let tally = |((slot, what), number): (&(i64, Count), &u64)| Tally {
            slot: *slot,
            kind: what.as_str().to_owned(),
            number: i64::try_from(*number).unwrap_or(i64::MAX),
        };
        let tallies: Vec<Tally> = self.counted.iter().map(tally).collect();
        self.writer.add_tallies(&tallies, &self.holder, gauges, now).await?;
        self.counted.clear();
        Ok(())
    }

    async fn judge(&mut self, fence: &Fence, now: Millis) -> Result<(), Error> {
        let known = self.store.findings().await?;
        let first = watch::slot(now) - WINDOW_SLOTS;
        let tallies = self.store.tallies(first).await?;
        let (window, began) = (answered(&tallies), began(&tallies, first));
        let found = [
            clocks(&self.store, &window, began, now).await?,
            watch::disk(self.store.disk(), &window, began, now),
            self.drift(now).await?,
            endpoint(&self.store, &known, now).await?,
            failures(&self.store, &window, began).await?,
            watch::jobs(
                self.store.cascades_overdue(now).await?,
                self.store.steps_overdue().await?,
                self.store.erasures_overdue(now).await?,
                now,
            ),
            watch::signatures(&window, began),
        ];
        for (name, found) in FINDINGS.into_iter().zip(&found) {
            let trouble = found.as_ref().map(|Found { severity, since, detail }| Trouble {
                severity: Some(*severity),
                since: *since,
                detail,
            });
            settle(&mut self.writer, fence, &known, name, trouble, now).await?;
        }
        while self.writer.forget_tallies(watch::slot(now) - KEPT_SLOTS, now.plus(-MEASURED_MS)).await? {}
        Ok(())
    }

    /// What the last reconcile left, or that there was none for too long.
    async fn drift(&mut self, now: Millis) -> Result<Option<Found>, Error> {
        let kind = Kind::Reconcile.as_str();
        if let Some(last) = self.store.last_sweep(kind).await?
            && last.outcome.as_deref() == Some(Ending::Differences.as_str())
        {
            let since = last.finished_at.as_deref().and_then(Millis::parse).unwrap_or(now);
            let report = serde_json::from_str::<Report>(&last.report).unwrap_or_default();
            let severity = Severity::Warning;
            return Ok(Some(Found { severity, since, detail: left(&report) }));
        }
        let bound_ms = match self.comparing.every {
            Every::Never => return Ok(None),
            Every::Auto => watch::COMPARED_MS,
            Every::Minutes(minutes) => watch::COMPARED_MS.max(2 * i64::from(minutes) * 60_000),
        };
        if !self.comparing.has_key {
            return Ok(None);
        }
        let last = match self.store.last_success(kind).await? {
            Some(last) => last,
            None => self.watched_since(now).await?,
        };
        let hours = (now.0 - last.0) / 3_600_000;
        Ok((now.0 - last.0 > bound_ms).then(|| Found {
            severity: Severity::Warning,
            since: last,
            detail: format!("the copy was not compared with Clerk to the end for {hours} hours"),
        }))
    }

    /// When this copy was first looked at.
    async fn watched_since(&mut self, now: Millis) -> Result<Millis, Error> {
        if let Some(since) = self.store.mark(WATCHED_SINCE).await? {
            return Ok(since);
        }
        self.writer.set_mark(WATCHED_SINCE, now).await?;
        Ok(now)
    }
}

async fn clocks(store: &Store, window: &Answered, began: Millis, now: Millis) -> Result<Option<Found>, Error> {
    let measured = store.gauges(now.plus(-MEASURED_MS)).await?;
    let compared = measured.iter().filter_map(|gauge| {
        let (_, other) = *CLOCKS.iter().find(|(name, _)| *name == gauge.name)?;
        Some(Compared { other, ahead_ms: gauge.value })
    });
    Ok(watch::clocks(&compared.collect::<Vec<_>>(), window, began, now))
}

async fn endpoint(store: &Store, known: &[Finding], now: Millis) -> Result<Option<Found>, Error> {
    let failed = store.tallies_since_last(Count::Failed.as_str(), Count::Accepted.as_str()).await?;
    let failed = failed.map(|of| Failed {
        first: watch::slot_began(of.first),
        last: watch::slot_began(of.last),
        attempts: of.number.unsigned_abs(),
    });
    let undelivered = known.iter().find(|finding| finding.name == UNDELIVERED);
    let undelivered = undelivered.and_then(|finding| Millis::parse(&finding.since));
    Ok(watch::endpoint(failed, undelivered, now))
}

async fn failures(store: &Store, window: &Answered, began: Millis) -> Result<Option<Found>, Error> {
    let known_up_to = store.mark(ACKNOWLEDGED).await?.unwrap_or_default();
    Ok(watch::failures(store.quarantined_after(known_up_to).await?, window, began))
}

/// Figures that every replica shows, whoever found out.
async fn show(store: &Store, metrics: &Metrics, now: Millis) -> Result<(), Error> {
    let findings = store.findings().await?;
    for name in FINDINGS {
        metrics.finding(name, findings.iter().any(|finding| finding.name == name));
    }
    if let Some(last) = store.last_sweep(Kind::Reconcile.as_str()).await? {
        metrics.drift(&serde_json::from_str(&last.report).unwrap_or_default());
    }
    if let Some(last) = store.last_success(Kind::Reconcile.as_str()).await? {
        metrics.reconciled_at(last);
    }
    metrics.database(store.database_bytes().await?, store.disk().map(|disk| disk.free));
    metrics.watched_at(now);
    Ok(())
}

/// What the endpoint answered within these slots.
fn answered(tallies: &[Tally]) -> Answered {
    let sum = |what: Count| {
        let of = tallies.iter().filter(|tally| tally.kind == what.as_str());
        of.map(|tally| tally.number.unsigned_abs()).sum::<u64>()
    };
    Answered {
        accepted: sum(Count::Accepted),
        refused: sum(Count::Refused),
        disk_full: sum(Count::DiskFull),
        unfit: sum(Count::Unfit),
        too_old: sum(Count::TooOld),
        too_new: sum(Count::TooNew),
        malformed: sum(Count::Malformed),
    }
}

/// When the first slot began in which anything else than a 200 was answered.
fn began(tallies: &[Tally], first: i64) -> Millis {
    let bad = tallies.iter().filter(|tally| tally.kind != Count::Accepted.as_str());
    watch::slot_began(bad.map(|tally| tally.slot).min().unwrap_or(first))
}

/// What a reconcile left, and what held it back.
fn left(report: &Report) -> String {
    let kinds = report.kinds.iter().filter(|(_, tally)| tally.left + tally.unreadable > 0 || tally.hold.is_some());
    let told = kinds.map(|(kind, tally)| {
        let held = tally.hold.as_ref().map(|hold| format!(", held back: {hold}")).unwrap_or_default();
        format!("{}s: {} left{held}", kind.as_str(), tally.left + tally.unreadable)
    });
    let dry = if report.dry_run { " (a dry run)" } else { "" };
    format!("the last reconcile{dry} left differences; {}", told.collect::<Vec<_>>().join("; "))
}

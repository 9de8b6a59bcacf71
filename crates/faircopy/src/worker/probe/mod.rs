//! Looks once a minute whether the copy is still told of what happens: do deliveries come as they use to, does Clerk have as
//! many rows as the copy, and does the copy know the user that changed last?
//!
//! A probe costs Clerk at most [`MAX_REQUESTS`] small requests and proves little: what it finds is a *finding*, which is kept in
//! the database, told by all replicas and explained in docs/errors.md, and a reason to reconcile soon. One replica probes at a
//! time, under a lease, and whoever has lost it writes nothing (I13).

mod memory;

use std::sync::Arc;

use faircopy_core::Millis;
use faircopy_core::event::Fact;
use faircopy_core::heartbeat::{Heartbeat, KNOWN, listen};
use faircopy_core::id::UserId;
use faircopy_core::merge::Key;
use faircopy_store::{Arrived, COUNTS_DIFFER, Error, Fence, Finding, Store, Swept, UNDELIVERED, Writer};
use tokio::sync::Notify;

use super::settle::{Trouble, settle};
use super::turns::Turns;
use crate::app::Clock;
use crate::sweep::{Kind, Sweeper};
use crate::telemetry::Metrics;
use crate::upstream::clerk::{Clerk, Cut, Fault, List, Share};
use memory::{Count, Memory};

/// The lease that probing needs.
pub const LEASE: &str = "probe";
/// The name of the finding that says that no delivery has come for unusually long.
pub const SILENCE: &str = "silence";
/// The name of the finding that says that Clerk cannot be read.
pub const CLERK_UNREADABLE: &str = "clerk-unreadable";
/// Every finding, each a section of docs/errors.md.
pub const FINDINGS: [&str; 4] = [CLERK_UNREADABLE, COUNTS_DIFFER, SILENCE, UNDELIVERED];
/// Requests of one probe: four counts, and the user that changed last.
pub const MAX_REQUESTS: usize = 5;

/// How often the worker looks.
const PERIOD_MS: i64 = 60_000;
/// Each replica's period is longer by a part of this that is its own, so that they do not keep step.
const MAX_PHASE_MS: i64 = 10_000;
/// How long a replica has the lease without renewing it: one turn may be missed.
const LEASE_MS: i64 = 150_000;
/// How long after a change its delivery is waited for: most take seconds.
const UNDELIVERED_MS: i64 = 2 * 60_000;
/// Failed probes in a row after which Clerk is unreadable, where nothing but a hand can mend it, and where it may pass.
const MAX_REFUSED: u32 = 3;
const MAX_FAILED: u32 = 10;
/// A sweep that made progress within this time is at work: it writes what the counts still differ by.
const SWEEPING_MS: i64 = 15 * 60_000;

/// The worker.
pub struct Probe {
    store: Store,
    writer: Writer,
    /// Reads Clerk; without a key nothing but the deliveries is looked at.
    sweeper: Option<Sweeper>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// This process as a holder of leases.
    holder: Arc<str>,
    reconcile_soon: Arc<Notify>,
    period_ms: i64,
    memory: Memory,
}

/// What Clerk answered.
struct Seen {
    totals: Vec<(Swept, u64)>,
    /// The user that changed last, and when.
    newest: Option<(UserId, Millis)>,
}

/// One turn of the holder of the lease.
struct Turn<'w> {
    now: Millis,
    fence: Fence,
    /// What was known before.
    known: Vec<Finding>,
    arrivals: Vec<Arrived>,
    writer: &'w mut Writer,
}

impl Probe {
    /// A worker; `phase` tells replicas apart.
    #[must_use]
    pub fn new(
        store: Store,
        sweeper: Option<Sweeper>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        holder: Arc<str>,
        reconcile_soon: Arc<Notify>,
        phase: u8,
    ) -> Self {
        let period_ms = PERIOD_MS + MAX_PHASE_MS * i64::from(phase) / i64::from(u8::MAX);
        let writer = store.writer();
        let memory = Memory::default();
        Self { store, writer, sweeper, clock, metrics, holder, reconcile_soon, period_ms, memory }
    }

    /// Runs until it is aborted. The first turn comes after a period: a server that has just started serves first.
    pub async fn run(mut self) {
        let mut turns = Turns::new(self.clock.clone(), self.period_ms, self.period_ms);
        loop {
            turns.next().await;
            match self.step().await {
                Ok(_) | Err(Error::LeaseLost(_)) => {}
                Err(error) => tracing::warn!(%error, "the copy could not be probed"),
            }
            turns.done();
        }
    }

    /// One turn. Returns whether it was this process's: another one may have the lease.
    pub async fn step(&mut self) -> Result<bool, Error> {
        let now = self.clock.now();
        let fence = self.writer.take_lease(LEASE, &self.holder, now, LEASE_MS).await?;
        let is_ours = fence.is_some();
        match fence {
            Some(fence) => self.look(fence, now).await?,
            None => self.memory = Memory::default(),
        }
        let findings = self.store.findings().await?;
        for name in FINDINGS {
            self.metrics.finding(name, findings.iter().any(|finding| finding.name == name));
        }
        Ok(is_ours)
    }

    async fn look(&mut self, fence: Fence, now: Millis) -> Result<(), Error> {
        self.memory.belongs_to(fence.number);
        let known = self.store.findings().await?;
        let arrivals = self.store.last_arrivals(i64::try_from(KNOWN).unwrap_or(i64::MAX)).await?;
        let asked = match &self.sweeper {
            Some(sweeper) => Some(ask(&sweeper.clerk).await),
            None => None,
        };
        let mut turn = Turn { now, fence, known, arrivals, writer: &mut self.writer };
        let (mut is_trouble, mut behind) = (false, None);
        let says = match asked {
            // What only Clerk could tell, nobody can now.
            None => {
                turn.settle(COUNTS_DIFFER, None).await?;
                turn.settle(CLERK_UNREADABLE, None).await?;
                "without CLERK_SECRET_KEY it cannot be told whether something happened"
            }
            Some(Err(fault)) => {
                let unreadable = self.memory.failed(fault, now);
                if let Some((since, failures)) = unreadable {
                    let detail = format!("{failures} probes in a row have failed: {fault}");
                    turn.settle(CLERK_UNREADABLE, Some((since, &detail))).await?;
                }
                "Clerk could not be asked whether something happened"
            }
            Some(Ok(seen)) => {
                self.memory.answered();
                turn.settle(CLERK_UNREADABLE, None).await?;
                let differ = compare(&self.store, &self.metrics, &mut self.memory, &mut turn, &seen.totals).await?;
                let missing = missing(&self.store, &mut self.memory, seen.newest, now).await?;
                behind = missing;
                turn.undelivered(missing).await?;
                is_trouble = differ || missing.is_some();
                if is_trouble { "Clerk has what the copy lacks" } else { "Clerk knows of nothing that the copy lacks" }
            }
        };
        is_trouble |= turn.silence(says).await?;
        if self.memory.wants_reconcile(is_trouble, now) {
            self.reconcile_soon.notify_one();
        }
        let Turn { arrivals, fence, .. } = turn;
        if let Some(changed_at) = behind {
            self.catch_up(&arrivals, &fence, changed_at).await?;
        }
        Ok(())
    }

    /// Reads the users that have changed since what was delivered last.
    async fn catch_up(&mut self, arrivals: &[Arrived], fence: &Fence, changed_at: Millis) -> Result<(), Error> {
        let Some(sweeper) = &self.sweeper else { return Ok(()) };
        // The probe may have taken its time: whoever has lost the lease leaves it to the new holder.
        let now = self.clock.now();
        if self.writer.take_lease(LEASE, &self.holder, now, LEASE_MS).await?.as_ref() != Some(fence) {
            return Err(Error::LeaseLost(LEASE));
        }
        let delivered = arrivals.iter().filter_map(|arrived| arrived.event_at).max();
        let told = match delivered {
            None => self.store.proven_at().await?,
            delivered => delivered,
        };
        let since = told.max(self.memory.caught_up_to).unwrap_or_default().min(changed_at);
        match sweeper.catch_up(since).await {
            Ok(caught) => {
                if caught.is_complete {
                    self.memory.caught_up_to = caught.newest.max(self.memory.caught_up_to);
                }
                tracing::info!(read = caught.read, behind = caught.behind, "users that were not delivered were read");
            }
            // The next probe finds them again.
            Err(stop) => tracing::warn!(%stop, "users that were not delivered could not be read"),
        }
        Ok(())
    }
}

/// Asks Clerk. What it does not count is left out: an older deployment, or a stand-in.
async fn ask(clerk: &Clerk) -> Result<Seen, Fault> {
    let kinds = [Swept::User, Swept::Organization, Swept::Member, Swept::Invitation];
    let mut totals = Vec::with_capacity(kinds.len());
    for kind in kinds {
        totals.extend(clerk.total(kind, Share::Background).await?.map(|total| (kind, total)));
    }
    let page = clerk.page(&List::NewestUsers, Cut::first(1), Share::Background).await?.found;
    let read = page.into_iter().flat_map(|page| page.items).filter_map(|item| item.reading.ok()).flatten();
    let mut users = read.filter_map(|observation| match observation.fact {
        Fact::User(user, _) => user.updated_at.map(|at| (user.id, at)),
        _ => None,
    });
    Ok(Seen { totals, newest: users.next() })
}

/// Compares the counts. The copy is counted after Clerk: what arrives in between is in it.
async fn compare(
    store: &Store,
    metrics: &Metrics,
    memory: &mut Memory,
    turn: &mut Turn<'_>,
    totals: &[(Swept, u64)],
) -> Result<bool, Error> {
    let copied = store.confirmed().await?;
    let mut counts = Vec::with_capacity(totals.len());
    for (kind, clerk) in totals {
        let copy = copied.iter().find(|(of, _)| of == kind).map_or(0, |(_, rows)| *rows);
        metrics.rows(kind.as_str(), *clerk, copy);
        counts.push(Count { kind: *kind, clerk: *clerk, copy });
    }
    // A sweep at work changes the counts, and settles them.
    if is_sweeping(store, turn.now).await? {
        memory.forget_counts();
        return Ok(false);
    }
    let all_equal = counts.iter().all(|count| count.clerk == count.copy);
    match memory.differing(counts, turn.now) {
        // After a change of the holder, one look says nothing yet.
        None if !all_equal => Ok(false),
        None => turn.settle(COUNTS_DIFFER, None).await.map(|()| false),
        Some((since, differing)) if !differing.is_empty() => {
            let told = |count: &Count| {
                format!("{}s: {} at Clerk, {} in the copy", count.kind.as_str(), count.clerk, count.copy)
            };
            let detail = differing.iter().map(told).collect::<Vec<_>>().join("; ");
            turn.settle(COUNTS_DIFFER, Some((since, &detail))).await.map(|()| true)
        }
        Some(_) => turn.settle(COUNTS_DIFFER, None).await.map(|()| false),
    }
}

async fn is_sweeping(store: &Store, now: Millis) -> Result<bool, Error> {
    for kind in [Kind::Backfill, Kind::Reconcile] {
        let saved = store.sweep_under_way(kind.as_str()).await?.and_then(|sweep| Millis::parse(&sweep.saved_at));
        if saved.is_some_and(|at| now.0 - at.0 < SWEEPING_MS) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The oldest change that ought to have been delivered by now and is not in the copy.
async fn missing(
    store: &Store,
    memory: &mut Memory,
    newest: Option<(UserId, Millis)>,
    now: Millis,
) -> Result<Option<Millis>, Error> {
    let due = memory.due(newest, now.plus(-UNDELIVERED_MS));
    let keys: Vec<Key> = due.iter().map(|(id, _)| Key::User(id.clone())).collect();
    let registers = store.registers(&keys).await?;
    let is_known = |id: &UserId, changed_at: Millis| {
        registers.iter().any(|(key, register)| {
            *key == Key::User(id.clone())
                && (register.tombstone.is_some()
                    || register.full.as_ref().is_some_and(|full| full.updated_at >= changed_at))
        })
    };
    Ok(due.into_iter().filter(|(id, at)| !is_known(id, *at)).map(|(_, at)| at).min())
}

impl Turn<'_> {
    fn knows(&self, name: &str) -> Option<&Finding> {
        self.known.iter().find(|finding| finding.name == name)
    }

    /// Raises a finding, keeps it or clears it, and says so once.
    async fn settle(&mut self, name: &'static str, found: Option<(Millis, &str)>) -> Result<(), Error> {
        let found = found.map(|(since, detail)| Trouble { severity: None, since, detail });
        settle(self.writer, &self.fence, &self.known, name, found, self.now).await
    }

    /// What was changed at Clerk and is `missing` in the copy. It is over once a delivery tells of something later.
    async fn undelivered(&mut self, missing: Option<Millis>) -> Result<(), Error> {
        if let Some(changed_at) = missing {
            let detail = format!("a user changed at {changed_at}, and no delivery has told of it");
            return self.settle(UNDELIVERED, Some((changed_at, &detail))).await;
        }
        let Some(since) = self.knows(UNDELIVERED).and_then(|finding| Millis::parse(&finding.since)) else {
            return Ok(());
        };
        if self.arrivals.iter().any(|arrived| arrived.event_at.is_some_and(|at| at > since)) {
            self.settle(UNDELIVERED, None).await?;
        }
        Ok(())
    }

    /// Whether deliveries have stopped; `says` is what Clerk says of it.
    async fn silence(&mut self, says: &str) -> Result<bool, Error> {
        let received: Vec<Millis> = self.arrivals.iter().map(|arrived| arrived.received_at).collect();
        let Heartbeat::Silent { since, usual_ms } = listen(&received, self.now) else {
            return self.settle(SILENCE, None).await.map(|()| false);
        };
        let usual = usual_ms.div_euclid(1000);
        let detail =
            format!("no delivery since {since}, and 95 of 100 come within {usual} seconds of the one before; {says}");
        self.settle(SILENCE, Some((since, &detail))).await.map(|()| true)
    }
}

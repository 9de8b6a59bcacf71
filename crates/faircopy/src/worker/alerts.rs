//! Tells of findings (docs/decisions/0021-alerts.md): raised, still there, over; each target what it wants to hear, once, in order.
//!
//! It depends on no handler and on no other worker: it reads the findings. One replica tells, under a lease. When the database cannot
//! be used, no replica can know what the others do, so each tells of that by itself, from memory.

use std::collections::HashMap;
use std::sync::Arc;

use faircopy_core::Millis;
use faircopy_core::alert::{DATABASE_UNAVAILABLE, Event, Severity, Standing, Told};
use faircopy_core::retry::Backoff;
use faircopy_store::{Alert, AlertTarget, Error, Fence, Finding, Store, Writer};
use futures_util::future::join_all;

use super::turns::Turns;
use crate::app::Clock;
use crate::telemetry::Metrics;
use crate::upstream::alert::{About, NotTaken, Notice, Target, id_of};

/// The lease that telling needs.
pub const LEASE: &str = "alerts";
/// How often the worker looks. A finding is told a minute after it was found, at the soonest.
const PERIOD_MS: i64 = 15_000;
/// How long a replica has the lease without renewing it: longer than a turn in which no target answers.
const LEASE_MS: i64 = 150_000;
/// Messages to one target in one turn: with 10 s each, a turn ends well within the lease. The rest comes with the next.
const MAX_MESSAGES: usize = 8;
/// How soon a target that failed is tried again.
const BACKOFF: Backoff = Backoff { base_ms: 10_000, cap_ms: 15 * 60_000 };
/// A database that cannot be used is told after so long: a restart takes less.
pub const AWAY_MS: i64 = 2 * 60_000;

/// The worker.
pub struct Alerts {
    store: Store,
    writer: Writer,
    targets: Arc<[Arc<Target>]>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// This process as a holder of leases.
    holder: Arc<str>,
    /// Any number, all equally likely.
    chance: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// What this process tells by itself while it has no database.
    away: Option<Away>,
}

/// The database cannot be used.
struct Away {
    since: Millis,
    /// Why, as far as may be told.
    detail: String,
    /// The database works again.
    is_over: bool,
    told: HashMap<String, Told>,
    failing: HashMap<String, AlertTarget>,
}

impl Alerts {
    /// A worker. Nothing is told yet.
    #[must_use]
    pub fn new(
        store: Store,
        targets: Arc<[Arc<Target>]>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        holder: Arc<str>,
        chance: Arc<dyn Fn() -> u64 + Send + Sync>,
    ) -> Self {
        let writer = store.writer();
        Self { store, writer, targets, clock, metrics, holder, chance, away: None }
    }

    /// Runs until it is aborted.
    pub async fn run(mut self) {
        let mut turns = Turns::new(self.clock.clone(), 0, PERIOD_MS);
        loop {
            turns.next().await;
            match self.step().await {
                Ok(_) | Err(Error::LeaseLost(_)) => {}
                Err(error) => tracing::warn!(%error, "alerts could not be looked through"),
            }
            // Where connections are few, somebody else may be waiting for this one.
            self.writer.discard();
            turns.done();
        }
    }

    /// One turn. Returns whether it was this process's: another one may have the lease.
    pub async fn step(&mut self) -> Result<bool, Error> {
        let looked = self.look().await;
        self.tell_away(looked.as_ref().err()).await;
        looked
    }

    async fn look(&mut self) -> Result<bool, Error> {
        let now = self.clock.now();
        let Some(fence) = self.writer.take_lease(LEASE, &self.holder, now, LEASE_MS).await? else { return Ok(false) };
        let (findings, open) = (self.store.findings().await?, self.store.open_alerts().await?);
        let Looked { alerts, forgotten, changed } = compare(&findings, open, now);
        self.writer.keep_alerts(&alerts, &forgotten, &fence).await?;
        for (name, event) in changed {
            self.metrics.alert(&name, event);
            tracing::info!(code = name, event = event.as_str(), "alert");
        }
        self.tell(&fence).await?;
        while self.writer.forget_alerts(&fence).await? > 0 {}
        Ok(true)
    }

    /// Tells each target what it is to be told now.
    async fn tell(&mut self, fence: &Fence) -> Result<(), Error> {
        let names: Vec<&str> = self.targets.iter().map(|target| target.name()).collect();
        let untold = self.store.untold_alerts(&names).await?;
        if untold.is_empty() {
            return Ok(());
        }
        let known = self.store.alert_targets().await?;
        let (clock, chance) = (self.clock.as_ref(), self.chance.as_ref());
        let all = self.targets.iter().map(|target| tell_one(target, &known, &untold, clock, chance));
        // All at once: one that does not answer holds nobody else up.
        for (before, Heard { target, told }) in join_all(all).await {
            for (alert, told) in told {
                self.writer.told_alert(&alert, &target.name, &told, fence).await?;
            }
            if before != target {
                self.writer.keep_alert_target(&target, Some(fence)).await?;
            }
        }
        Ok(())
    }

    /// Tells that the database cannot be used, once it could not for a while; and that it can.
    async fn tell_away(&mut self, error: Option<&Error>) {
        let now = self.clock.now();
        match (error, &mut self.away) {
            (Some(error), None) if error.is_passing() => self.away = Some(Away::new(error, now)),
            (Some(error), Some(away)) if error.is_passing() => away.is_over = false,
            (Some(_), _) | (None, None) => return,
            (None, Some(away)) => away.is_over = true,
        }
        let Some(away) = &mut self.away else { return };
        if now.0 - away.since.0 >= AWAY_MS || !away.told.is_empty() {
            away.tell(&self.targets, &self.holder, self.clock.as_ref(), self.chance.as_ref()).await;
        }
        if away.is_over && away.told.values().all(|told| told.event == Event::Resolved) {
            self.away = None;
        }
        self.metrics.finding(DATABASE_UNAVAILABLE, self.away.as_ref().is_some_and(|away| !away.is_over));
    }
}

impl Away {
    fn new(error: &Error, now: Millis) -> Self {
        // What the database said is logged and not told: it can name hosts and rows.
        let full = if Error::says_disk_full(&error.to_string()) { ": its disk is full" } else { "" };
        let detail = format!("this replica cannot read or write the database{full}; deliveries are sent back (503)");
        Self { since: now, detail, is_over: false, told: HashMap::new(), failing: HashMap::new() }
    }

    async fn tell(
        &mut self,
        targets: &[Arc<Target>],
        holder: &str,
        clock: &dyn Clock,
        chance: &(dyn Fn() -> u64 + Sync),
    ) {
        let now = clock.now();
        let over = self.is_over.then_some(now);
        let alert = Alert {
            id: id_of("alert", &[DATABASE_UNAVAILABLE, holder, &self.since.0.to_string()]),
            name: DATABASE_UNAVAILABLE.to_owned(),
            severity: Severity::Critical,
            detail: self.detail.clone(),
            since: self.since,
            seen_at: now,
            standing: Standing { first_at: self.since, raised_at: Some(self.since), gone_at: over, resolved_at: over },
        };
        let told = self.told.iter().map(|(target, told)| (target.clone(), *told)).collect();
        let untold = [(alert, told)];
        let known: Vec<AlertTarget> = self.failing.values().cloned().collect();
        let all = targets.iter().map(|target| tell_one(target, &known, &untold, clock, chance));
        for (_, Heard { target, told }) in join_all(all).await {
            self.told.extend(told.into_iter().map(|(_, told)| (target.name.clone(), told)));
            self.failing.insert(target.name.clone(), target);
        }
    }
}

/// What a look at the findings makes of the alerts.
#[derive(Debug, Default)]
struct Looked {
    /// To be written down.
    alerts: Vec<Alert>,
    /// Those that came and went before anybody was told.
    forgotten: Vec<String>,
    /// What happened, for the figures and the log.
    changed: Vec<(String, Event)>,
}

fn compare(findings: &[Finding], open: Vec<Alert>, now: Millis) -> Looked {
    let mut looked = Looked::default();
    let new = findings.iter().filter(|finding| open.iter().all(|alert| alert.name != finding.name));
    looked.alerts.extend(new.map(|finding| {
        let alert = Alert {
            id: id_of("alert", &[&finding.name, &now.0.to_string()]),
            name: finding.name.clone(),
            severity: Severity::Warning,
            detail: String::new(),
            since: now,
            seen_at: now,
            standing: Standing::new(now),
        };
        seen(alert, finding, now)
    }));
    for alert in open {
        let finding = findings.iter().find(|finding| finding.name == alert.name);
        let Some(standing) = alert.standing.look(finding.is_some(), now) else {
            looked.forgotten.push(alert.id);
            continue;
        };
        if alert.standing.raised_at.is_none() && standing.raised_at.is_some() {
            looked.changed.push((alert.name.clone(), Event::Raised));
        }
        if standing.resolved_at.is_some() {
            looked.changed.push((alert.name.clone(), Event::Resolved));
        }
        let after = Alert { standing, ..alert.clone() };
        let after = finding.map_or(after.clone(), |finding| seen(after, finding, now));
        // What stays as it is needs no writing; when it was last seen is known to the finding.
        if (Alert { seen_at: alert.seen_at, ..after.clone() }) != alert {
            looked.alerts.push(after);
        }
    }
    looked
}

/// An alert as its finding says it is now.
fn seen(alert: Alert, finding: &Finding, now: Millis) -> Alert {
    Alert {
        severity: Severity::parse(&finding.severity).unwrap_or(Severity::Warning),
        detail: finding.detail.clone(),
        since: Millis::parse(&finding.since).unwrap_or(now),
        seen_at: Millis::parse(&finding.seen_at).unwrap_or(now),
        ..alert
    }
}

/// What came of telling a target.
struct Heard {
    target: AlertTarget,
    told: Vec<(String, Told)>,
}

/// Tells one target what it is to be told, in order, until it does not take something. Returns how it stood before, too.
async fn tell_one(
    target: &Target,
    known: &[AlertTarget],
    untold: &[(Alert, Vec<(String, Told)>)],
    clock: &dyn Clock,
    chance: &(dyn Fn() -> u64 + Sync),
) -> (AlertTarget, Heard) {
    let now = clock.now();
    let stood = known.iter().find(|known| known.name == target.name()).cloned();
    let stood = stood.unwrap_or_else(|| AlertTarget { name: target.name().to_owned(), ..AlertTarget::default() });
    let mut heard = Heard { target: stood.clone(), told: Vec::new() };
    // A clock that went back must not silence a target until it has caught up.
    let rests = now < stood.due_at && stood.due_at.0 - now.0 <= BACKOFF.cap_ms.max(MAX_QUIET_MS);
    if rests {
        return (stood, heard);
    }
    for (alert, told) in untold {
        let told = told.iter().find(|(of, _)| of == target.name()).map(|(_, told)| *told);
        let Some(event) = target.wish().due(alert.standing, alert.severity, told, now) else { continue };
        let number = told.map_or(1, |told| told.number + 1);
        let about = About {
            resolved_at: alert.standing.resolved_at,
            ..About::new(&alert.id, &alert.name, alert.severity, &alert.detail, alert.since)
        };
        let notice = Notice::new(event, number, target.name(), about);
        let sent = target.send(&notice, clock.now()).await;
        answered(&mut heard.target, &sent, chance(), clock.now());
        if let Err(error) = sent {
            tracing::warn!(to = target.name(), %error, code = "alert-not-told", "an alert was not taken; it is told again");
            break;
        }
        heard.told.push((alert.id.clone(), Told { event, severity: alert.severity, at: now, number }));
        if heard.told.len() >= MAX_MESSAGES {
            break;
        }
    }
    (stood, heard)
}

/// The longest quiet that a target may ask for: an alert that comes a day later is none.
const MAX_QUIET_MS: i64 = 3_600_000;

/// What a target's answer makes of it.
fn answered(target: &mut AlertTarget, sent: &Result<u16, NotTaken>, chance: u64, now: Millis) {
    match sent {
        Ok(_) => *target = AlertTarget { name: target.name.clone(), last_ok_at: Some(now), ..AlertTarget::default() },
        Err(error) => {
            target.failures = target.failures.saturating_add(1);
            target.last_error = Some(error.to_string());
            let quiet_ms = match error {
                NotTaken::Limited { retry_after_ms } => retry_after_ms.unwrap_or_default().min(MAX_QUIET_MS),
                _ => 0,
            };
            target.due_at = now.plus(BACKOFF.delay_ms(target.failures, chance).max(quiet_ms));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_760_000_000_000);

    fn finding(detail: &str) -> Finding {
        let (since, seen_at) = (NOW.plus(-5).to_string(), NOW.to_string());
        Finding { name: "disk".into(), severity: "critical".into(), since, seen_at, detail: detail.into() }
    }

    #[test]
    fn a_finding_becomes_an_alert_and_what_did_not_change_is_not_written() {
        let first = compare(&[finding("1 MiB")], vec![], NOW);
        let [alert] = &first.alerts[..] else { panic!("{first:?}") };
        assert_eq!((alert.severity, alert.since, alert.standing.raised_at), (Severity::Critical, NOW.plus(-5), None));
        assert!(first.changed.is_empty());
        let later = NOW.plus(60_000);
        let raised = compare(&[finding("1 MiB")], vec![alert.clone()], later);
        assert_eq!(raised.changed, [("disk".to_owned(), Event::Raised)]);
        let alert = raised.alerts[0].clone();
        let same = compare(&[finding("1 MiB")], vec![alert.clone()], later.plus(1));
        assert!(same.alerts.is_empty() && same.changed.is_empty());
        assert_eq!(compare(&[finding("0 MiB")], vec![alert], later).alerts[0].detail, "0 MiB");
        assert_eq!(compare(&[], first.alerts, NOW.plus(1)).forgotten.len(), 1);
    }

    #[test]
    fn a_target_that_fails_rests_longer_and_longer_or_as_it_asks() {
        let mut target = AlertTarget { name: "ops".into(), ..AlertTarget::default() };
        let mut rests = |error: NotTaken| {
            answered(&mut target, &Err(error), u64::MAX, NOW);
            target.due_at.0 - NOW.0
        };
        assert_eq!(rests(NotTaken::Status(500)), 10_000);
        assert_eq!(rests(NotTaken::Unreachable("no connection")), 20_000);
        assert_eq!(rests(NotTaken::Limited { retry_after_ms: Some(300_000) }), 300_000);
        assert_eq!(rests(NotTaken::Limited { retry_after_ms: Some(86_400_000) }), MAX_QUIET_MS);
        for _ in 0..9 {
            rests(NotTaken::Refused(401));
        }
        assert_eq!(rests(NotTaken::Refused(401)), BACKOFF.cap_ms);
        answered(&mut target, &Ok(204), 0, NOW);
        assert_eq!((target.failures, target.last_error, target.last_ok_at), (0, None, Some(NOW)));
    }
}

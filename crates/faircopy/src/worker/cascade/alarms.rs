//! What somebody must be told of deletions: findings, and figures.

use faircopy_core::Millis;
use faircopy_core::cascade::{Reason, State};
use faircopy_store::{CascadesStanding as Standing, Error, Fence, Store, Writer};

use super::Outside;
use crate::config::Cascade as Cascades;
use crate::outside::KEY_REFUSED;
use crate::telemetry::Metrics;

/// Jobs wait for a word.
const PAUSED: &str = "cascade-paused";
/// A job does not come to its end.
const STUCK: &str = "cascade-stuck";

/// A job is taken for stuck so long after its hold: a million rows and ten thousand rooms take less.
const STUCK_MS: i64 = 3_600_000;
/// How often the figures are renewed.
const PERIOD_MS: i64 = 5_000;

#[derive(Default)]
pub(super) struct Alarms {
    looked_at: Option<Millis>,
    /// What is wanted: each finding's beginning and its sentence, if it is one.
    wanted: Vec<(&'static str, Option<(Millis, String)>)>,
}

impl Alarms {
    /// Looks how the jobs stand. Returns whether something is to be told or taken back.
    pub(super) async fn look(
        &mut self,
        store: &Store,
        plan: &Cascades,
        outside: &Outside,
        metrics: &Metrics,
        now: Millis,
    ) -> Result<bool, Error> {
        if self.looked_at.is_some_and(|at| now >= at && now.0 - at.0 < PERIOD_MS) {
            return Ok(false);
        }
        self.looked_at = Some(now);
        let standing = store.cascades_standing().await?;
        let cancelled = State::Cancelled.name();
        let key_refused = Reason::KeyRefused.name();
        let waits = |of: &&Standing| of.reason.as_deref().is_some_and(|reason| reason != key_refused);
        let open = || standing.iter().filter(|of| of.state != cancelled);
        let oldest_ms = open().map(|of| (now.0 - of.oldest.0).max(0).unsigned_abs()).max().unwrap_or_default();
        metrics.jobs("cascade", open().map(|of| of.jobs.unsigned_abs()).sum(), oldest_ms);
        let steps = store.steps_waiting().await?;
        metrics.jobs("outbox", steps.unsigned_abs(), 0);
        outside.wake(steps > 0 || open().next().is_some());
        let held = open().filter(waits).min_by_key(|of| of.oldest).map(|first| {
            let jobs: i64 = open().filter(waits).map(|of| of.jobs).sum();
            (first.oldest, format!("{jobs} deletions wait for a word; see `faircopy cascade list`"))
        });
        let since = now.plus(-STUCK_MS - plan.rules.hold_ms);
        let stuck = open().filter(|of| !waits(of) && of.oldest < since).min_by_key(|of| of.oldest);
        let stuck = stuck.map(|of| {
            let detail = format!("a deletion is {} for more than an hour; see `faircopy cascade list`", of.state);
            (of.oldest, detail)
        });
        let refused = outside.alarm().map(|(target, refusal)| {
            (
                refusal.since,
                format!("{target} has refused the key {} times; rooms are left until it works", refusal.times),
            )
        });
        self.wanted = vec![(PAUSED, held), (STUCK, stuck)];
        // Another replica may be the one that is refused.
        if refused.is_some() || !open().any(|of| of.reason.as_deref() == Some(key_refused)) {
            self.wanted.push((KEY_REFUSED, refused));
        }
        let known = store.findings().await?;
        for (name, wanted) in &self.wanted {
            metrics.finding(name, wanted.is_some() || known.iter().any(|finding| finding.name == *name));
        }
        Ok(self.wanted.iter().any(|(name, wanted)| {
            let known = known.iter().find(|finding| finding.name == *name);
            wanted.as_ref().map(|(_, detail)| detail.as_str()) != known.map(|finding| finding.detail.as_str())
        }))
    }

    /// Tells and takes back.
    pub(super) async fn tell(&self, writer: &mut Writer, fence: &Fence, now: Millis) -> Result<(), Error> {
        for (name, wanted) in &self.wanted {
            match wanted {
                Some((since, detail)) => {
                    if writer.raise_finding(name, *since, detail, now, fence).await? {
                        tracing::warn!(code = name, detail, "deletions need somebody");
                    }
                }
                None => {
                    writer.clear_finding(name, fence).await?;
                }
            }
        }
        Ok(())
    }
}

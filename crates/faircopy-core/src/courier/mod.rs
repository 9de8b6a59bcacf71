//! When a service outside may be called: the gate before one target of the cascades' outside steps.
//!
//! A gate opens slowly and closes at once. It begins with one call at a time and lets one more in with each that is
//! confirmed, up to [`MAX_AT_ONCE`]. A 429 holds the whole target for as long as was asked, and afterwards calls are paced by
//! what the target took before; a key that is refused lets one probe a minute through; a target that fails again and again is
//! tried by one call after ever longer pauses, whatever the number of steps that wait. Time and chance are arguments.
//!
//! The gate decides about the target. When a step that failed is due again, [`BACKOFF`] says for each by itself.

use std::collections::VecDeque;

use crate::retry::Backoff;
use crate::time::Millis;

/// Calls of one target that may be under way at once: enough for a thousand rooms in half a minute at 250 ms each, few enough
/// to be nobody's flood.
pub const MAX_AT_ONCE: usize = 8;
/// How a step that failed is tried again, and a target that keeps failing: after a second first, every five minutes at last.
pub const BACKOFF: Backoff = Backoff { base_ms: 1_000, cap_ms: 5 * 60_000 };
/// How often a target is asked whether it takes the key again.
pub const PROBE_EVERY_MS: i64 = 60_000;
/// So many refusals of the key in a row are an alarm: by then it has lasted four minutes and is no hiccup.
pub const ALARM_AFTER: u32 = 5;
/// The shortest hold after a 429.
pub const SHORTEST_HOLD_MS: i64 = 1_000;
/// The longest hold, whatever the answer asks for: somebody else's mistake must not stop deletions for a day.
pub const LONGEST_HOLD_MS: i64 = 10 * 60_000;
/// So many failures in a row say that the target is down, and not that some steps are bad: a gate that is wide open has as
/// many under way.
const FAILURES_OF_A_TARGET: u32 = 8;
/// So many confirmations in a row at one pace, and the next calls come twice as fast. Where the target's limit is the pace, one
/// call in so many is refused: less than a tenth.
const STEADY: u32 = 12;
/// What a pace may make up for at once, where it is faster than this: whoever asks at the gate does so some times a second.
const CATCH_UP_MS: i64 = 100;
/// A pace faster than one call in so many milliseconds is none.
const FASTEST_INTERVAL_MS: i64 = 8;
/// Confirmations that are remembered, to tell what a target takes. More in one hold are no pace worth keeping.
const MAX_REMEMBERED: usize = 1_024;

/// What a target answered to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It is done.
    Confirmed,
    /// Too many calls, and perhaps for how long it wants none.
    Limited {
        /// `Retry-After`, in milliseconds.
        retry_after_ms: Option<i64>,
    },
    /// The key is not taken.
    Refused,
    /// Anything else, or nothing.
    Failed,
}

/// The right to make one call; [`Gate::end`] takes it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// The state of the gate when the call began: what was asked before it closed does not close it further.
    epoch: u64,
}

/// Why no call may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// Until one that is under way ends.
    Busy,
    /// Until then.
    Until(Millis),
}

/// A key that is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// When it was first refused.
    pub since: Millis,
    /// How often since, one probe at a time.
    pub times: u32,
    /// When it is tried next.
    pub next_probe: Millis,
}

impl Refusal {
    /// Whether somebody must be told.
    #[must_use]
    pub fn is_alarm(&self) -> bool {
        self.times >= ALARM_AFTER
    }
}

/// The gate before one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    at_once: usize,
    /// Changes whenever the gate closes.
    epoch: u64,
    /// Nothing begins before: since when, and for how long.
    hold: Option<(Millis, i64)>,
    refusal: Option<Refusal>,
    /// Answers of 429 since the last confirmation.
    limits: u32,
    /// Failures since the last answer of another kind.
    failures: u32,
    pace: Option<Pace>,
    /// When the last confirmations came.
    confirmed: VecDeque<Millis>,
}

/// Calls at intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pace {
    interval_ms: i64,
    /// When the next call may begin.
    next: Millis,
    /// Confirmations at this pace.
    steady: u32,
}

impl Pace {
    fn take(&mut self, now: Millis) {
        let catch_up_ms = if self.interval_ms < CATCH_UP_MS { CATCH_UP_MS } else { 0 };
        self.next = self.next.max(now.plus(-catch_up_ms)).plus(self.interval_ms);
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            at_once: 1,
            epoch: 0,
            hold: None,
            refusal: None,
            limits: 0,
            failures: 0,
            pace: None,
            confirmed: VecDeque::new(),
        }
    }
}

impl Gate {
    /// Takes the right to begin a call now, while so many are under way.
    pub fn begin(&mut self, under_way: usize, now: Millis) -> Result<Pass, Closed> {
        if let Some(at) = self.closed_until(now) {
            return Err(Closed::Until(at));
        }
        if under_way >= self.at_once {
            return Err(Closed::Busy);
        }
        if let Some(refusal) = &mut self.refusal {
            refusal.next_probe = now.plus(PROBE_EVERY_MS);
        }
        if let Some(pace) = &mut self.pace {
            pace.take(now);
        }
        Ok(Pass { epoch: self.epoch })
    }

    /// Until when no call may begin; `None` where one may.
    pub fn closed_until(&mut self, now: Millis) -> Option<Millis> {
        let probe = self.refusal.as_mut().map(|refusal| {
            // A clock that went back must not close the gate until it has caught up.
            refusal.next_probe = refusal.next_probe.min(now.plus(PROBE_EVERY_MS));
            refusal.next_probe
        });
        let turn = self.pace.as_mut().map(|pace| {
            pace.next = pace.next.min(now.plus(pace.interval_ms));
            pace.next
        });
        let held = self.hold.as_mut().map(|(since, length_ms)| {
            *since = now.min(*since);
            since.plus(*length_ms)
        });
        let at = [probe, turn, held].into_iter().flatten().max().filter(|at| *at > now);
        if held.is_none_or(|held| held <= now) {
            self.hold = None;
        }
        at
    }

    /// What came of a call. `chance` is any number, all equally likely.
    pub fn end(&mut self, pass: Pass, reply: Reply, now: Millis, chance: u64) {
        match reply {
            Reply::Confirmed => self.confirmed(now),
            Reply::Limited { retry_after_ms } => self.limited(pass, retry_after_ms, now),
            Reply::Refused => self.refused(pass, now),
            Reply::Failed => self.failed(pass, now, chance),
        }
    }

    /// The key that is not taken, if so.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        self.refusal
    }

    fn confirmed(&mut self, now: Millis) {
        self.at_once = (self.at_once + 1).min(MAX_AT_ONCE);
        (self.refusal, self.limits, self.failures) = (None, 0, 0);
        if self.confirmed.len() == MAX_REMEMBERED {
            self.confirmed.pop_front();
        }
        self.confirmed.push_back(now);
        if let Some(pace) = &mut self.pace {
            pace.steady += 1;
            if pace.steady >= STEADY {
                (pace.interval_ms, pace.steady) = (pace.interval_ms / 2, 0);
            }
        }
        self.pace = self.pace.filter(|pace| pace.interval_ms >= FASTEST_INTERVAL_MS);
    }

    fn limited(&mut self, pass: Pass, retry_after_ms: Option<i64>, now: Millis) {
        let is_news = pass.epoch == self.epoch;
        self.limits = self.limits.saturating_add(u32::from(is_news));
        // Whoever says 429 again after the hold it asked for asked for too little.
        let in_a_row_ms = if self.limits > 1 { BACKOFF.ceiling_ms(self.limits) } else { SHORTEST_HOLD_MS };
        let length_ms = retry_after_ms.unwrap_or(0).max(in_a_row_ms).min(LONGEST_HOLD_MS);
        self.hold_for(length_ms, now);
        // It answers, and it takes the key or has not looked at it: what is known of that stays.
        self.failures = 0;
        if !is_news {
            return;
        }
        let taken = self.confirmed.iter().filter(|at| now.0 - at.0 < length_ms).count();
        let measured = length_ms / i64::try_from(taken.max(1)).unwrap_or(i64::MAX);
        // Half as fast as before at most, whatever was measured: what came right after a hold says little.
        let slower = self.pace.map_or(measured, |pace| measured.min(pace.interval_ms * 2));
        let interval_ms = slower.clamp(FASTEST_INTERVAL_MS, LONGEST_HOLD_MS);
        self.pace = Some(Pace { interval_ms, next: now, steady: 0 });
        self.close();
    }

    fn refused(&mut self, pass: Pass, now: Millis) {
        self.failures = 0;
        if pass.epoch != self.epoch {
            return;
        }
        let before = self.refusal.map_or((now, 0), |refusal| (refusal.since, refusal.times));
        let (since, times) = (before.0.min(now), before.1.saturating_add(1));
        self.refusal = Some(Refusal { since, times, next_probe: now.plus(PROBE_EVERY_MS) });
        self.close();
    }

    fn failed(&mut self, pass: Pass, now: Millis, chance: u64) {
        if pass.epoch != self.epoch {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures >= FAILURES_OF_A_TARGET {
            self.hold_for(BACKOFF.delay_ms(self.failures - FAILURES_OF_A_TARGET + 1, chance), now);
            self.close();
        }
    }

    /// A longer hold that is under way stays.
    fn hold_for(&mut self, length_ms: i64, now: Millis) {
        let left = self.hold.map_or(0, |(since, length)| since.plus(length).0 - now.0);
        if left < length_ms {
            self.hold = Some((now, length_ms));
        }
    }

    fn close(&mut self) {
        self.at_once = 1;
        self.epoch += 1;
    }
}

#[cfg(test)]
mod tests;

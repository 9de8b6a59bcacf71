//! What goes wrong with requests for rooms: by number, for the next ones, or by rate. PURE.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::chance::Chance;

/// The longest that an answer is held back, and the longest `Retry-After`: an hour. What is longer is an outage.
const MAX_LATENCY_MS: u64 = 3_600_000;
const MAX_RETRY_AFTER_S: u64 = 3_600;
/// The highest limit: their times are remembered.
const MAX_PER_SECOND: u32 = 1_000;
/// The window of a limit.
const SECOND_MS: i64 = 1_000;
/// Requests whose fate can be laid down beforehand.
const MAX_NEXT: usize = 10_000;

/// What happens to one request in place of a good answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    /// 429 with this `Retry-After` in seconds. Nothing was done.
    Limited(Option<u64>),
    /// An error of this status. Nothing was done.
    Status(u16),
    /// The request is carried out, and the connection ends without an answer.
    Lost,
    /// The connection ends without an answer. Nothing was done.
    Closed,
    /// Nothing goes wrong: so that a list of faults can have gaps.
    Nothing,
}

/// The settings. Rates are in per cent of the requests with a good key; at most one of them happens to a request, in the
/// order in which they stand here.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// The same requests in the same order, with the same seed, meet the same faults.
    pub seed: u64,
    /// What happens to the next requests, one after the other, whatever the rates say.
    pub next: VecDeque<Wrong>,
    /// Answered 429.
    pub limited_percent: f64,
    /// So many requests in any second are allowed, and the others answered 429; any number if null.
    pub per_second: Option<u32>,
    /// `Retry-After` of the answers 429 in seconds; none if null.
    pub retry_after_s: Option<u64>,
    /// Answered with an error.
    pub error_percent: f64,
    /// The status of that error: 500 if null.
    pub error_status: Option<u16>,
    /// Of the deletions: done, and then the connection ends without an answer.
    pub lost_percent: f64,
    /// Each answer comes so many milliseconds later, at least and at most.
    pub latency_ms: [u64; 2],
}

impl Faults {
    /// Whether every setting is within its bounds.
    ///
    /// # Errors
    /// The sentence that names the first that is not.
    pub fn check(&self) -> Result<(), &'static str> {
        let percent = |rate: f64| (0.0..=100.0).contains(&rate);
        let seconds = |after: Option<u64>| after.is_none_or(|seconds| seconds <= MAX_RETRY_AFTER_S);
        let status = |status: u16| (400..=599).contains(&status);
        let [soonest, latest] = self.latency_ms;
        let next_fits = |wrong: &Wrong| match *wrong {
            Wrong::Limited(after) => seconds(after),
            Wrong::Status(wanted) => status(wanted),
            Wrong::Lost | Wrong::Closed | Wrong::Nothing => true,
        };
        let rules = [
            (percent(self.limited_percent), "`limited_percent` must be from 0 to 100"),
            (percent(self.error_percent), "`error_percent` must be from 0 to 100"),
            (percent(self.lost_percent), "`lost_percent` must be from 0 to 100"),
            (self.error_status.is_none_or(status), "`error_status` must be from 400 to 599"),
            (seconds(self.retry_after_s), "`retry_after_s` must be at most 3600"),
            (
                soonest <= latest && latest <= MAX_LATENCY_MS,
                "`latency_ms` must be two numbers, at most 3600000, the smaller first",
            ),
            (
                self.per_second.is_none_or(|allowed| (1..=MAX_PER_SECOND).contains(&allowed)),
                "`per_second` must be from 1 to 1000",
            ),
            (self.next.len() <= MAX_NEXT, "`next` must have at most 10000 members"),
            (self.next.iter().all(next_fits), "`next` names a status that is no error, or a `Retry-After` beyond 3600"),
        ];
        rules.into_iter().find(|(kept, _)| !kept).map_or(Ok(()), |(_, rule)| Err(rule))
    }

    /// Whether one more request is within the limit, those allowed in the last second being these; it is one of them then.
    pub(super) fn allow(&self, lately: &mut VecDeque<i64>, now_ms: i64) -> bool {
        let Some(allowed) = self.per_second else { return true };
        // What is ahead of a clock that went back is forgotten, too.
        lately.retain(|at| (0..SECOND_MS).contains(&(now_ms - at)));
        let is_within = lately.len() < allowed as usize;
        if is_within {
            lately.push_back(now_ms);
        }
        is_within
    }

    /// What happens to the request of this number, and how long its answer waits. What is beyond the limit is 429.
    pub(super) fn decide(&mut self, number: u64, deletes: bool, is_within: bool) -> (Wrong, u64) {
        let mut draw = Chance::new(self.seed).of("rooms", &[number]);
        let [soonest, latest] = self.latency_ms;
        let latency_ms = soonest + draw.below(latest.saturating_sub(soonest) + 1);
        let lost_percent = if deletes { self.lost_percent } else { 0.0 };
        let rates = [
            (self.limited_percent, Wrong::Limited(self.retry_after_s)),
            (self.error_percent, Wrong::Status(self.error_status.unwrap_or(500))),
            (lost_percent, Wrong::Lost),
        ];
        // Every rate is drawn for, so that one setting does not move the chance of another.
        let drawn = rates.map(|(rate, wrong)| draw.percent(rate).then_some(wrong));
        let by_rate = drawn.into_iter().flatten().next().unwrap_or(Wrong::Nothing);
        let by_chance = if is_within { by_rate } else { Wrong::Limited(self.retry_after_s) };
        (self.next.pop_front().unwrap_or(by_chance), latency_ms)
    }
}

//! What goes wrong with requests at the Backend API.

use serde::{Deserialize, Serialize};

use super::{Unfit, check_percent, check_range};
use crate::chance::Draw;

/// The longest `Retry-After` that is made up: an hour.
const MAX_RETRY_AFTER_S: u64 = 3_600;

/// What goes wrong with requests at the Backend API. Rates are in per cent of the requests; at most one of them happens to
/// a request, in the order in which they stand here. The key set and this control API are never touched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiChaos {
    /// Nobody answers properly.
    pub outage: ApiOutage,
    /// When the outage ends by itself, in milliseconds since 1970.
    pub outage_until_ms: Option<i64>,
    /// Answered 429, as if the limit were used up.
    pub limited_percent: f64,
    /// `Retry-After` of those answers in seconds; none if null.
    pub retry_after_s: Option<u64>,
    /// Answered with an error of Clerk's own.
    pub error_percent: f64,
    /// The status of that error.
    pub error_status: u16,
    /// Answered 200 with JSON that ends in the middle.
    pub truncated_percent: f64,
    /// Answered 200 with a page for people.
    pub html_percent: f64,
    /// Of the lists: answered with the first half of the page, the total unchanged.
    pub half_page_percent: f64,
    /// Each answer comes so many milliseconds later, at least and at most.
    pub latency_ms: [i64; 2],
    /// Answers from the past.
    pub stale: Stale,
}

/// How nobody answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiOutage {
    /// Somebody does.
    #[default]
    None,
    /// The connection ends without an answer.
    Closed,
    /// 503 in Clerk's envelope.
    Unavailable,
}

/// Which answers come from the past, and from which past.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stale {
    /// Lists and counts do.
    pub lists: bool,
    /// Single records do.
    pub reads: bool,
    /// By at least so much, and by less than twice as much. Null: from the moment when this was set, until it is unset.
    pub lag_ms: Option<i64>,
}

/// What kind of request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// A list or a count.
    List,
    /// One record.
    Read,
    /// A change.
    Write,
}

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ApiFault {
    /// How long its answer waits.
    pub latency_ms: i64,
    /// What comes in place of its answer.
    pub wrong: Option<Wrong>,
    /// Whether the answer comes from the past.
    pub stale: bool,
}

/// What comes in place of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// The connection ends. The request was not carried out.
    Closed,
    /// 503. The request was not carried out.
    Unavailable,
    /// 429 with this `Retry-After`. The request was not carried out.
    Limited(Option<u64>),
    /// An error of this status. The request was not carried out.
    Status(u16),
    /// The first half of the answer's bytes. The request was carried out.
    Truncated,
    /// A page for people. The request was carried out.
    Html,
    /// The first half of the list. Nothing was to be carried out.
    HalfPage,
}

impl Default for ApiChaos {
    fn default() -> Self {
        Self {
            outage: ApiOutage::None,
            outage_until_ms: None,
            limited_percent: 0.0,
            retry_after_s: Some(1),
            error_percent: 0.0,
            error_status: 500,
            truncated_percent: 0.0,
            html_percent: 0.0,
            half_page_percent: 0.0,
            latency_ms: [0, 0],
            stale: Stale::default(),
        }
    }
}

impl ApiChaos {
    pub(super) fn check(&self) -> Result<(), Unfit> {
        check_percent("api.limited_percent", self.limited_percent)?;
        check_percent("api.error_percent", self.error_percent)?;
        check_percent("api.truncated_percent", self.truncated_percent)?;
        check_percent("api.html_percent", self.html_percent)?;
        check_percent("api.half_page_percent", self.half_page_percent)?;
        check_range("api.latency_ms", self.latency_ms)?;
        if !(500..=599).contains(&self.error_status) {
            return Err(Unfit { name: "api.error_status", rule: "must be from 500 to 599" });
        }
        if self.retry_after_s.is_some_and(|seconds| seconds > MAX_RETRY_AFTER_S) {
            return Err(Unfit { name: "api.retry_after_s", rule: "must be at most 3600" });
        }
        if let Some(lag) = self.stale.lag_ms {
            check_range("api.stale.lag_ms", [1.min(lag), lag])?;
        }
        Ok(())
    }

    pub(super) fn decide(&self, route: Route, now_ms: i64, draw: &mut Draw) -> ApiFault {
        let [soonest, latest] = self.latency_ms;
        let stale = match route {
            Route::List => self.stale.lists,
            Route::Read => self.stale.reads,
            Route::Write => false,
        };
        ApiFault { latency_ms: draw.between(soonest, latest), wrong: self.wrong(route, now_ms, draw), stale }
    }

    fn wrong(&self, route: Route, now_ms: i64, draw: &mut Draw) -> Option<Wrong> {
        if self.outage_until_ms.is_none_or(|end| now_ms < end) {
            match self.outage {
                ApiOutage::None => (),
                ApiOutage::Closed => return Some(Wrong::Closed),
                ApiOutage::Unavailable => return Some(Wrong::Unavailable),
            }
        }
        let half_pages = if route == Route::List { self.half_page_percent } else { 0.0 };
        let rates = [
            (self.limited_percent, Wrong::Limited(self.retry_after_s)),
            (self.error_percent, Wrong::Status(self.error_status)),
            (self.truncated_percent, Wrong::Truncated),
            (self.html_percent, Wrong::Html),
            (half_pages, Wrong::HalfPage),
        ];
        // Every rate is drawn for, so that one setting does not move the chance of another.
        let drawn = rates.map(|(rate, wrong)| draw.percent(rate).then_some(wrong));
        drawn.into_iter().flatten().next()
    }
}

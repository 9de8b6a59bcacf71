//! Endpoints: where messages go, how they are signed, and when an endpoint is given up.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::sign;

/// How long all attempts must fail before an endpoint is disabled: 5 days.
pub const DISABLED_AFTER_MS: i64 = 5 * 24 * HOUR_MS;
/// The five days begin when failures lie so far apart …
pub const FAILING_SPREAD_MS: i64 = 12 * HOUR_MS;
/// … within so long.
pub const FAILING_WINDOW_MS: i64 = 24 * HOUR_MS;
/// How long an old secret signs beside the new one, unless somebody says otherwise.
pub const OVERLAP_MS: i64 = 24 * HOUR_MS;
/// How many secrets can sign at once: Svix keeps 10 old ones.
pub const MAX_SECRETS: usize = 11;
/// Failures closer together than a 144th of the window (10 minutes of 24 hours) are remembered as one.
const FAILURES_KEPT: i64 = 144;

const HOUR_MS: i64 = 3_600_000;

/// Where messages go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Such as `ep_2NPY…`.
    pub id: String,
    /// Counts the endpoints: what chance is asked about.
    pub(super) number: u64,
    /// The address.
    pub url: String,
    /// For people.
    pub description: String,
    /// The event types that are sent: whole (`user.created`) or groups (`user`). Empty: all.
    pub events: Vec<String>,
    /// What signs, the newest first.
    pub secrets: Vec<Secret>,
    /// Why nothing is sent.
    pub disabled: Option<Disabled>,
    /// Since when every attempt has failed.
    pub failing: Option<Failing>,
    /// When it was made, in milliseconds.
    pub created_at_ms: i64,
}

/// A signing secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// `whsec_…`
    pub secret: String,
    /// Until when it signs, if it was replaced.
    pub until_ms: Option<i64>,
}

/// That an endpoint is disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disabled {
    /// Since when, in milliseconds.
    pub since_ms: i64,
    /// By what.
    pub by: DisabledBy,
}

/// Who disabled an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DisabledBy {
    /// A person.
    Person,
    /// Five days of failures.
    Failures,
    /// The receiver, with `webhook-delivery: disable`.
    Receiver,
}

/// Nothing but failures.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Failing {
    /// When attempts failed, within the window; thinned.
    recent: VecDeque<i64>,
    /// When the five days began.
    pub clock_since_ms: Option<i64>,
}

impl Failing {
    /// One more failure. True if it is the one that ends it.
    fn failed(&mut self, at_ms: i64, speed: i64) -> bool {
        if let Some(since) = self.clock_since_ms {
            return at_ms - since >= DISABLED_AFTER_MS / speed;
        }
        let window = FAILING_WINDOW_MS / speed;
        while self.recent.front().is_some_and(|first| at_ms - first > window) {
            self.recent.pop_front();
        }
        if self.recent.back().is_none_or(|last| at_ms - last >= window / FAILURES_KEPT) {
            self.recent.push_back(at_ms);
        }
        if self.recent.front().is_some_and(|first| at_ms - first >= FAILING_SPREAD_MS / speed) {
            self.clock_since_ms = Some(at_ms);
            self.recent.clear();
        }
        false
    }
}

impl Endpoint {
    /// Whether messages of this type are sent to it.
    #[must_use]
    pub fn takes(&self, kind: &str) -> bool {
        let fits = |wanted: &String| {
            kind.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.events.is_empty() || self.events.iter().any(fits)
    }

    /// The secret that a new receiver should use.
    #[must_use]
    pub fn secret(&self) -> &str {
        self.secrets.first().map_or("", |secret| &secret.secret)
    }

    /// A new secret. The one before signs on for so long.
    pub(super) fn rotate(&mut self, secret: String, overlap_ms: i64, now_ms: i64) {
        self.secrets.retain(|old| old.until_ms.is_none_or(|until| now_ms < until));
        for old in &mut self.secrets {
            old.until_ms.get_or_insert(now_ms + overlap_ms);
        }
        self.secrets.insert(0, Secret { secret, until_ms: None });
        self.secrets.truncate(MAX_SECRETS);
    }

    /// The value of `svix-signature`.
    pub(super) fn signatures(&self, message: &str, body: &str, now_ms: i64) -> String {
        let live = self.secrets.iter().filter(|secret| secret.until_ms.is_none_or(|until| now_ms < until));
        let keys: Vec<Vec<u8>> = live.filter_map(|secret| sign::key_of(&secret.secret)).collect();
        sign::signatures(keys.iter().map(Vec::as_slice), message, now_ms.div_euclid(1000), body)
    }

    /// An attempt succeeded.
    pub(super) fn succeeded(&mut self) {
        self.failing = None;
    }

    /// An attempt failed. True if the endpoint is disabled by it.
    pub(super) fn failed(&mut self, at_ms: i64, speed: i64) -> bool {
        let ends = self.failing.get_or_insert_default().failed(at_ms, speed);
        if ends {
            self.disable(at_ms, DisabledBy::Failures);
        }
        ends
    }

    pub(super) fn disable(&mut self, since_ms: i64, by: DisabledBy) {
        self.disabled.get_or_insert(Disabled { since_ms, by });
    }

    pub(super) fn enable(&mut self) {
        self.disabled = None;
        self.failing = None;
    }
}

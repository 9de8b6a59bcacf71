//! When to ask Clerk for its keys, and which key to use meanwhile: a state machine without a clock or a network.
//!
//! The edge reads with [`KeyCache::find`]. Where that says [`Lookup::Fetch`], or [`KeyCache::is_due`] says so in the
//! background, it calls [`KeyCache::begin`]; who gets `true` fetches, and hands the outcome to [`KeyCache::loaded`] or
//! [`KeyCache::failed`]; everybody else waits for that. So there is one fetch at a time and at most one per
//! [`MIN_INTERVAL_MS`], whatever names the tokens of a flood carry (unlike in PyJWT, GHSA-fhv5-28vv-h8m8).
//!
//! A failed fetch and a poisoned document change nothing: the last good set stays in use until it is too old.

use std::collections::BTreeMap;

use super::Rejection;
use super::keys::{Key, Keys, Kid};
use crate::time::Millis;

/// The least time between two fetches while there are keys (faults.md, J4).
pub const MIN_INTERVAL_MS: i64 = 30_000;
/// The least time between two fetches while there is no key to use at all: no token can be accepted then, and a
/// dependency that comes back must be noticed within 10 s.
pub const MIN_INTERVAL_WITHOUT_KEYS_MS: i64 = 5_000;
/// When keys are refreshed in the background: as often as Clerk's SDK does.
pub const REFRESH_MS: i64 = 5 * 60_000;
/// How long keys are used when Clerk cannot be reached (faults.md, J2), unless configured otherwise.
pub const DEFAULT_STALE_MS: i64 = 24 * 60 * 60_000;
/// How long a key is used after a document no longer holds it: the life of a session token, 60 s, and the leeway.
pub const GRACE_MS: i64 = 65_000;
/// After this a fetch without an outcome counts as lost. Its own deadline is 5 s (faults.md).
pub const LOST_MS: i64 = 10_000;

/// What to do with a token that names a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Verify with this key.
    Use(Key),
    /// Clerk may know the key: [`KeyCache::begin`] a fetch, and look again after it.
    Fetch,
    /// A fetch is under way: look again after it.
    Wait,
    /// Refuse the token, and ask nobody.
    Refuse(Rejection),
}

/// The keys of one instance and the state of fetching them. Time is given; where it goes back, keys are fetched anew.
#[derive(Debug, Clone)]
pub struct KeyCache {
    stale_ms: i64,
    held: Held,
    began_at: Option<Millis>,
    is_open: bool,
}

#[derive(Debug, Clone)]
enum Held {
    /// Nothing was loaded yet.
    Nothing,
    /// A key from the configuration: never fetched, never stale.
    Fixed(Keys),
    /// The last good document, and the keys of earlier ones with the time when the next one came: of three documents at
    /// most, as documents are [`MIN_INTERVAL_MS`] apart.
    Loaded { keys: Keys, at: Millis, retiring: BTreeMap<Kid, (Key, Millis)> },
}

impl KeyCache {
    /// An empty cache, whose keys are used for `stale_ms` after the last good document ([`DEFAULT_STALE_MS`]).
    #[must_use]
    pub fn new(stale_ms: i64) -> Self {
        Self { stale_ms, held: Held::Nothing, began_at: None, is_open: false }
    }

    /// Keys that need no network: those of `CLERK_JWT_KEY`.
    #[must_use]
    pub fn fixed(keys: Keys) -> Self {
        Self { held: Held::Fixed(keys), ..Self::new(0) }
    }

    /// The key for tokens that name `kid`, or how to come by it.
    #[must_use]
    pub fn find(&self, kid: Option<&Kid>, now: Millis) -> Lookup {
        if let Some(key) = self.key(kid, now) {
            return Lookup::Use(key.clone());
        }
        let is_ready = self.is_ready(now);
        // A token without a name finds nothing in a new document either.
        let hopeless = matches!(self.held, Held::Fixed(_)) || (is_ready && kid.is_none());
        if !hopeless && self.is_under_way(now) {
            return Lookup::Wait;
        }
        if !hopeless && self.may_fetch(now) {
            return Lookup::Fetch;
        }
        Lookup::Refuse(if is_ready { Rejection::UnknownKey } else { Rejection::NoKeys })
    }

    /// Whether there are keys to verify with.
    #[must_use]
    pub fn is_ready(&self, now: Millis) -> bool {
        match &self.held {
            Held::Nothing => false,
            Held::Fixed(_) => true,
            Held::Loaded { at, .. } => since(*at, now) < self.stale_ms,
        }
    }

    /// The keys of the last good document, or of the configuration, while they are used.
    #[must_use]
    pub fn held(&self, now: Millis) -> Option<&Keys> {
        match &self.held {
            Held::Fixed(keys) => Some(keys),
            Held::Loaded { keys, .. } if self.is_ready(now) => Some(keys),
            Held::Nothing | Held::Loaded { .. } => None,
        }
    }

    /// How old the last good document is; `None` where there is none, or none is needed.
    #[must_use]
    pub fn age_ms(&self, now: Millis) -> Option<i64> {
        match &self.held {
            Held::Nothing | Held::Fixed(_) => None,
            Held::Loaded { at, .. } => Some(since(*at, now)),
        }
    }

    /// Whether the background should fetch now.
    #[must_use]
    pub fn is_due(&self, now: Millis) -> bool {
        let is_old = match &self.held {
            Held::Nothing => true,
            Held::Fixed(_) => false,
            Held::Loaded { at, .. } => !is_within(*at, REFRESH_MS, now),
        };
        is_old && self.may_fetch(now)
    }

    /// Claims the one fetch that may be made now. Who gets `false` leaves it to another.
    #[must_use]
    pub fn begin(&mut self, now: Millis) -> bool {
        if !self.may_fetch(now) {
            return false;
        }
        (self.began_at, self.is_open) = (Some(now), true);
        true
    }

    /// A fetch brought a document. What it no longer holds is used for [`GRACE_MS`] more.
    pub fn loaded(&mut self, keys: Keys, now: Millis) {
        let was_ready = self.is_ready(now);
        self.is_open = false;
        let mut retiring = BTreeMap::new();
        match &mut self.held {
            Held::Fixed(_) => return,
            // Keys that had become too old to use do not come back.
            Held::Loaded { keys: before, retiring: earlier, .. } if was_ready => {
                retiring = std::mem::take(earlier);
                retiring.retain(|_, (_, withdrawn_at)| is_within(*withdrawn_at, GRACE_MS, now));
                retiring.extend(before.named().map(|(kid, key)| (kid.clone(), (key.clone(), now))));
            }
            Held::Nothing | Held::Loaded { .. } => {}
        }
        self.held = Held::Loaded { keys, at: now, retiring };
    }

    /// A fetch brought nothing, or nothing that [`Keys::from_jwks`] accepts.
    pub fn failed(&mut self) {
        self.is_open = false;
    }

    fn key(&self, kid: Option<&Kid>, now: Millis) -> Option<&Key> {
        match &self.held {
            Held::Nothing => None,
            Held::Fixed(keys) => keys.get(kid),
            Held::Loaded { .. } if !self.is_ready(now) => None,
            Held::Loaded { keys, retiring, .. } => {
                let in_grace = |(_, withdrawn_at): &&(Key, Millis)| is_within(*withdrawn_at, GRACE_MS, now);
                keys.get(kid).or_else(|| retiring.get(kid?).filter(in_grace).map(|(key, _)| key))
            }
        }
    }

    fn is_under_way(&self, now: Millis) -> bool {
        self.is_open && self.began_at.is_some_and(|at| is_within(at, LOST_MS, now))
    }

    fn may_fetch(&self, now: Millis) -> bool {
        let interval = if self.is_ready(now) { MIN_INTERVAL_MS } else { MIN_INTERVAL_WITHOUT_KEYS_MS };
        let rested = self.began_at.is_none_or(|at| !is_within(at, interval, now));
        rested && !matches!(self.held, Held::Fixed(_)) && !self.is_under_way(now)
    }
}

/// Whether `at` was less than a span ago. What is to come is not: after a clock went back, nothing waits for it.
fn is_within(at: Millis, span_ms: i64, now: Millis) -> bool {
    at <= now && since(at, now) < span_ms
}

/// How long ago `at` was; nothing where the clock has gone back.
fn since(at: Millis, now: Millis) -> i64 {
    now.0.saturating_sub(at.0).max(0)
}

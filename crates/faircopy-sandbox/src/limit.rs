//! Rate limits: so many requests of an instance in ten seconds, and then quiet for the endpoint that asked too much.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// How many requests a development instance has in a window.
pub const DEVELOPMENT: u32 = 100;
/// How many a production instance has.
pub const PRODUCTION: u32 = 1_000;
/// The window, in milliseconds.
const WINDOW_MS: i64 = 10_000;

/// How many requests may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateLimit {
    /// As many as the secret key's kind of instance has.
    #[default]
    OfTheKey,
    /// So many in ten seconds.
    Requests(u32),
    /// Any number.
    Unlimited,
}

/// What was asked lately.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter {
    /// When the window began, if one did.
    began_ms: Option<i64>,
    used: u32,
    /// Endpoints that are not answered until a time.
    blocked: BTreeMap<&'static str, i64>,
}

impl RateLimit {
    fn most(self, live: bool) -> Option<u32> {
        match self {
            Self::OfTheKey => Some(if live { PRODUCTION } else { DEVELOPMENT }),
            Self::Requests(most) => Some(most),
            Self::Unlimited => None,
        }
    }
}

impl Meter {
    /// Counts a request to an endpoint, or says for how many seconds there is to be quiet.
    pub(crate) fn take(&mut self, limit: RateLimit, live: bool, endpoint: &'static str, now: i64) -> Result<(), i64> {
        let Some(most) = limit.most(live) else { return Ok(()) };
        let goes_on = |began: &i64| (*began..*began + WINDOW_MS).contains(&now);
        let began = self.began_ms.filter(goes_on).unwrap_or_else(|| {
            self.used = 0;
            now
        });
        self.began_ms = Some(began);
        self.blocked.retain(|_, until| *until > now);
        let window_ends = began + WINDOW_MS;
        let until = match self.blocked.get(endpoint) {
            Some(until) => *until,
            None if self.used < most => {
                self.used += 1;
                return Ok(());
            }
            None => {
                self.blocked.insert(endpoint, window_ends);
                window_ends
            }
        };
        Err(((until - now + 999) / 1000).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::{Meter, RateLimit};

    #[test]
    fn a_window_has_so_many_requests_and_then_says_how_long_to_wait() {
        let mut meter = Meter::default();
        let mut take = |endpoint, now| meter.take(RateLimit::Requests(3), false, endpoint, now);
        for at in [1_000, 1_001, 2_000] {
            assert_eq!(take("users", at), Ok(()));
        }
        assert_eq!(take("users", 2_000), Err(9));
        assert_eq!(take("users", 10_999), Err(1));
        assert_eq!(take("organizations", 10_999), Err(1), "the limit is the instance's");
        assert_eq!(take("users", 11_000), Ok(()), "a new window");
    }

    #[test]
    fn a_clock_that_goes_back_begins_a_new_window() {
        let mut meter = Meter::default();
        assert_eq!(meter.take(RateLimit::Requests(1), false, "users", 50_000), Ok(()));
        assert!(meter.take(RateLimit::Requests(1), false, "users", 50_000).is_err());
        assert_eq!(meter.take(RateLimit::Requests(1), false, "organizations", 1_000), Ok(()));
    }

    #[test]
    fn the_key_says_how_many_unless_somebody_else_does() {
        let counted = |limit, live| {
            let mut meter = Meter::default();
            (0..2_000).filter(|_| meter.take(limit, live, "users", 5).is_ok()).count()
        };
        assert_eq!(counted(RateLimit::OfTheKey, false), 100);
        assert_eq!(counted(RateLimit::OfTheKey, true), 1_000);
        assert_eq!(counted(RateLimit::Unlimited, false), 2_000);
    }
}

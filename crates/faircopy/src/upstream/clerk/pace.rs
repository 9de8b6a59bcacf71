//! How fast Clerk is asked: a share of its rate limit, and not at all while it has asked for quiet. A state machine without
//! a clock: time is given.
//!
//! The limit is per instance and not per process: it is shared with the application itself and with other replicas, so that
//! each process takes a part that leaves room for them.

use faircopy_core::Millis;

/// The window that Clerk counts in (clerk-facts.md, section 2.4).
const WINDOW_MS: i64 = 10_000;
/// What Clerk allows in it to a production key, and to a development key.
const PRODUCTION_LIMIT: i64 = 1000;
const DEVELOPMENT_LIMIT: i64 = 100;
/// Per cent of the limit for work that can wait (merge.md, reconcile), and for requests that somebody waits for.
const BACKGROUND_PERCENT: i64 = 20;
const FOREGROUND_PERCENT: i64 = 40;
/// And for what an operator waits for: the application keeps what is left.
const OPERATOR_PERCENT: i64 = 50;
/// The shortest pause after a 429, and the first one where the answer does not say how long: it doubles from there.
const FIRST_PAUSE_MS: i64 = 1_000;
/// The longest pause, whatever the answer says: somebody else's mistake must not stop the service for a day.
const LONGEST_PAUSE_MS: i64 = 10 * 60_000;
/// After so many the pause is [`LONGEST_PAUSE_MS`] anyway.
const MAX_DOUBLINGS: u32 = 10;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// A worker: it can wait.
    Background,
    /// A request that somebody waits for.
    Foreground,
    /// A command that an operator has given, which asks as much as it may: `faircopy backfill`.
    Operator,
}

/// The state of the rate.
#[derive(Debug)]
pub(super) struct Pace {
    background: Bucket,
    foreground: Bucket,
    operator: Bucket,
    /// When the quiet was asked for, and for how long.
    pause: Option<(Millis, i64)>,
    /// Answers of 429 since the last other one.
    refusals: u32,
}

/// A bucket that holds half of its share and is filled with the other half in one window, so that no window sees more than
/// the whole: kept as the time at which it would be full again.
#[derive(Debug)]
struct Bucket {
    interval_ms: i64,
    full_at: Millis,
}

impl Bucket {
    fn of(limit: i64, percent: i64) -> Self {
        let half = limit * percent / 200;
        Self { interval_ms: WINDOW_MS / half, full_at: Millis::default() }
    }

    /// How long to wait, or nothing.
    fn wait_ms(&mut self, now: Millis) -> i64 {
        // A clock that went back must not stop the service until it has caught up.
        if self.full_at > now.plus(WINDOW_MS + self.interval_ms) {
            self.full_at = now;
        }
        (self.full_at.0 - (now.0 + WINDOW_MS - self.interval_ms)).max(0)
    }

    fn take(&mut self, now: Millis) {
        self.full_at = self.full_at.max(now).plus(self.interval_ms);
    }
}

impl Pace {
    /// The pace for a key. Where it is not plainly a production key, the lower limit is kept.
    pub(super) fn new(is_production: bool) -> Self {
        let limit = if is_production { PRODUCTION_LIMIT } else { DEVELOPMENT_LIMIT };
        let bucket = |percent| Bucket::of(limit, percent);
        Self {
            background: bucket(BACKGROUND_PERCENT),
            foreground: bucket(FOREGROUND_PERCENT),
            operator: bucket(OPERATOR_PERCENT),
            pause: None,
            refusals: 0,
        }
    }

    /// Takes the right to send one request now, or says how many milliseconds are to be waited.
    pub(super) fn take(&mut self, share: Share, now: Millis) -> Result<(), i64> {
        let quiet = self.quiet_ms(now);
        let bucket = match share {
            Share::Background => &mut self.background,
            Share::Foreground => &mut self.foreground,
            Share::Operator => &mut self.operator,
        };
        match quiet.max(bucket.wait_ms(now)) {
            0 => {
                bucket.take(now);
                Ok(())
            }
            wait => Err(wait),
        }
    }

    /// How much of the pause is left.
    pub(super) fn quiet_ms(&mut self, now: Millis) -> i64 {
        let Some((began_at, length)) = &mut self.pause else { return 0 };
        *began_at = now.min(*began_at);
        let left = began_at.0 + *length - now.0;
        if left <= 0 {
            self.pause = None;
        }
        left.max(0)
    }

    /// Clerk answered 429, and perhaps for how long it wants quiet. A longer pause that is under way stays.
    pub(super) fn limited(&mut self, retry_after_ms: Option<i64>, now: Millis) {
        let doubled = FIRST_PAUSE_MS << self.refusals.min(MAX_DOUBLINGS);
        let length = retry_after_ms.unwrap_or(doubled).clamp(FIRST_PAUSE_MS, LONGEST_PAUSE_MS);
        self.refusals += 1;
        if self.quiet_ms(now) < length {
            self.pause = Some((now, length));
        }
    }

    /// Clerk answered anything else.
    pub(super) fn answered(&mut self) {
        self.refusals = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_760_000_000_000);

    /// How many requests of a share get through in so many windows, trying every millisecond.
    fn in_windows(pace: &mut Pace, share: Share, windows: i64) -> Vec<usize> {
        let count = |window: i64, pace: &mut Pace| {
            let times = window * WINDOW_MS..(window + 1) * WINDOW_MS;
            times.filter(|at| pace.take(share, NOW.plus(*at)).is_ok()).count()
        };
        (0..windows).map(|window| count(window, pace)).collect()
    }

    #[test]
    fn each_share_stays_within_its_part_of_the_limit() {
        let check = |is_production, share, at_most: usize, lasting: usize| {
            let counts = in_windows(&mut Pace::new(is_production), share, 4);
            assert!(counts.iter().all(|count| *count <= at_most), "{counts:?}");
            assert!(counts[1..].iter().all(|count| count.abs_diff(lasting) <= 1), "{counts:?}");
            assert!(counts[0] >= at_most - 2, "a burst at the beginning: {counts:?}");
        };
        check(false, Share::Background, 20, 10);
        check(false, Share::Foreground, 40, 20);
        check(true, Share::Background, 200, 100);
        check(true, Share::Foreground, 400, 200);
        check(true, Share::Operator, 500, 250);
    }

    #[test]
    fn quiet_lasts_as_long_as_was_asked_for() {
        let mut pace = Pace::new(true);
        pace.limited(Some(7_000), NOW);
        pace.limited(Some(2_000), NOW.plus(1));
        assert_eq!(pace.take(Share::Foreground, NOW.plus(1)), Err(6_999), "the longer pause stays");
        assert_eq!(pace.take(Share::Background, NOW.plus(6_999)), Err(1));
        assert_eq!(pace.take(Share::Background, NOW.plus(7_000)), Ok(()));
    }

    #[test]
    fn without_a_word_pauses_double_until_an_answer() {
        let mut pace = Pace::new(true);
        let mut now = NOW;
        for expected in [1_000, 2_000, 4_000, 8_000] {
            pace.limited(None, now);
            assert_eq!(pace.quiet_ms(now), expected);
            now = now.plus(expected);
        }
        pace.answered();
        pace.limited(None, now);
        assert_eq!(pace.quiet_ms(now), 1_000);
        (0..100).for_each(|_| pace.limited(None, now));
        assert_eq!(pace.quiet_ms(now), LONGEST_PAUSE_MS);
        let mut endless = Pace::new(true);
        endless.limited(Some(i64::MAX), NOW);
        assert_eq!(endless.quiet_ms(NOW), LONGEST_PAUSE_MS);
    }

    #[test]
    fn a_clock_that_goes_back_stops_nothing() {
        let mut pace = Pace::new(false);
        while pace.take(Share::Background, NOW).is_ok() {}
        pace.limited(Some(5_000), NOW);
        let before = NOW.plus(-24 * 3_600_000);
        assert_eq!(pace.take(Share::Background, before), Err(5_000));
        assert_eq!(pace.take(Share::Background, before.plus(5_000)), Ok(()));
    }
}

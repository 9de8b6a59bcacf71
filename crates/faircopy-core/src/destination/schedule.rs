//! When a message that was not taken is sent again: Svix's schedule (clerk-facts.md, 4.2), which is what receivers are used to.

use crate::time::Millis;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;

/// How long is waited after each attempt that failed, but the last: after 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 10 h.
pub const DELAYS_MS: [i64; 7] = [5 * SECOND, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR];
/// Attempts in all: then a message is parked.
pub const ATTEMPTS: u32 = 8;
/// A delay is this many percent shorter or longer, by chance, as Svix's own server has it: what failed together comes back apart.
const JITTER_PERCENT: i64 = 20;

/// An attempt that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Attempts before it.
    pub attempts: u32,
    /// Another attempt with the same message would end the same.
    pub is_for_good: bool,
    /// `Retry-After`, in milliseconds. Between once and twice the delay is granted, as Svix does.
    pub retry_after_ms: Option<i64>,
}

/// When the next attempt is due; `None` where there is none: the message is parked. `chance` is any number, all equally likely.
#[must_use]
pub fn after_failure(failure: Failure, chance: u64, now: Millis) -> Option<Millis> {
    let delay = *DELAYS_MS.get(usize::try_from(failure.attempts).ok()?).filter(|_| !failure.is_for_good)?;
    let spread = 2 * delay * JITTER_PERCENT / 100;
    // The upper half of the product is at most `spread`, which fits into an i64.
    let part = i64::try_from((u128::from(chance) * u128::from(spread.unsigned_abs() + 1)) >> 64).unwrap_or(spread);
    let wanted = failure.retry_after_ms.unwrap_or(0).min(2 * delay);
    Some(now.plus((delay - spread / 2 + part).max(wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_760_000_000_000);

    fn delay_ms(attempts: u32, retry_after_ms: Option<i64>, chance: u64) -> Option<i64> {
        let failure = Failure { attempts, is_for_good: false, retry_after_ms };
        after_failure(failure, chance, NOW).map(|at| at.0 - NOW.0)
    }

    #[test]
    fn delays_are_those_of_svix_and_then_it_is_parked() {
        let middle = u64::MAX / 2;
        let delays: Vec<_> = (0..ATTEMPTS).map_while(|attempts| delay_ms(attempts, None, middle)).collect();
        assert_eq!(delays, DELAYS_MS);
        assert_eq!(delay_ms(ATTEMPTS - 1, None, middle), None, "the eighth was the last");
        assert_eq!(delay_ms(u32::MAX, None, middle), None);
        assert_eq!(usize::try_from(ATTEMPTS), Ok(DELAYS_MS.len() + 1));
        let for_good = Failure { attempts: 0, is_for_good: true, retry_after_ms: Some(5) };
        assert_eq!(after_failure(for_good, middle, NOW), None);
    }

    #[test]
    fn chance_spreads_a_delay_by_a_fifth_and_a_wish_makes_it_twice_as_long_at_most() {
        for (attempts, delay) in (0..).zip(DELAYS_MS) {
            assert_eq!(delay_ms(attempts, None, 0), Some(delay - delay / 5));
            assert_eq!(delay_ms(attempts, None, u64::MAX), Some(delay + delay / 5));
            assert_eq!(delay_ms(attempts, Some(delay * 3 / 2), 0), Some(delay * 3 / 2));
            assert_eq!(delay_ms(attempts, Some(i64::MAX), 0), Some(2 * delay));
        }
    }
}

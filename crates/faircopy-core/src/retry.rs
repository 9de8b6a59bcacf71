//! When what failed is tried again: exponential backoff with full jitter. Chance is an argument.
//!
//! The delay is drawn evenly between nothing and a ceiling that doubles with each failure: those that failed together come
//! back apart, and in sum no later than the ceilings say.

use crate::time::Millis;

/// After so many doublings every ceiling is the highest: no base and cap of this product are further apart.
const MAX_DOUBLINGS: u32 = 32;

/// How long is waited after a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The ceiling after the first failure.
    pub base_ms: i64,
    /// The ceiling that none exceeds.
    pub cap_ms: i64,
}

impl Backoff {
    /// The longest wait after the failure of this number, the first being 1.
    #[must_use]
    pub fn ceiling_ms(&self, failure: u32) -> i64 {
        let doublings = failure.saturating_sub(1).min(MAX_DOUBLINGS);
        self.base_ms.saturating_mul(1 << doublings).min(self.cap_ms).max(0)
    }

    /// How long to wait after the failure of this number; `chance` is any number, all equally likely.
    #[must_use]
    pub fn delay_ms(&self, failure: u32, chance: u64) -> i64 {
        let choices = u128::from(self.ceiling_ms(failure).unsigned_abs()) + 1;
        // The upper half of the product is below `choices`, which fit into an i64 again.
        i64::try_from((u128::from(chance) * choices) >> 64).unwrap_or(self.cap_ms)
    }

    /// When to try again.
    #[must_use]
    pub fn at(&self, failure: u32, chance: u64, now: Millis) -> Millis {
        now.plus(self.delay_ms(failure, chance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff = Backoff { base_ms: 1_000, cap_ms: 300_000 };

    #[test]
    fn ceilings_double_up_to_the_highest() {
        let check = |failure: u32, expected: i64| assert_eq!(BACKOFF.ceiling_ms(failure), expected, "{failure}");
        check(0, 1_000);
        check(1, 1_000);
        check(2, 2_000);
        check(9, 256_000);
        check(10, 300_000);
        check(u32::MAX, 300_000);
        let endless = Backoff { base_ms: i64::MAX, cap_ms: i64::MAX };
        assert_eq!(endless.ceiling_ms(u32::MAX), i64::MAX);
        assert_eq!(endless.delay_ms(u32::MAX, u64::MAX), i64::MAX);
        assert_eq!(endless.at(2, u64::MAX, Millis(1)), Millis(i64::MAX));
    }

    #[test]
    fn chance_spreads_a_delay_evenly_below_its_ceiling() {
        for failure in [1, 3, 7, 20] {
            let ceiling = BACKOFF.ceiling_ms(failure);
            assert_eq!(BACKOFF.delay_ms(failure, 0), 0);
            assert_eq!(BACKOFF.delay_ms(failure, u64::MAX), ceiling);
            assert_eq!(BACKOFF.delay_ms(failure, u64::MAX / 2 + 1), (ceiling + 1) / 2);
            let parts = 1_000;
            let delays: Vec<i64> = (0..parts).map(|part| BACKOFF.delay_ms(failure, u64::MAX / parts * part)).collect();
            assert!(delays.is_sorted() && delays.iter().all(|delay| (0..=ceiling).contains(delay)));
            let mean = delays.iter().sum::<i64>() / i64::try_from(parts).unwrap();
            assert!((mean - ceiling / 2).abs() <= ceiling / 100 + 1, "{failure}: {mean} of {ceiling}");
        }
    }
}

//! How long to wait before something is tried again.

/// A growing wait with full jitter: anything from nothing to a bound that doubles with each attempt, so that those who failed
/// together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The bound after the first failure, in milliseconds.
    pub base_ms: i64,
    /// The bound that is never exceeded, in milliseconds.
    pub cap_ms: i64,
}

impl Backoff {
    /// The longest wait after so many failures before this one: 0 after the first.
    #[must_use]
    pub fn bound_ms(self, failures: u32) -> i64 {
        let doubled = 1_i64.checked_shl(failures).filter(|factor| *factor > 0).unwrap_or(i64::MAX);
        self.base_ms.saturating_mul(doubled).clamp(0, self.cap_ms.max(0))
    }

    /// The wait itself. `chance` is a random number from 0 to 1; what lies outside is taken for the nearer end.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a share of a number of milliseconds is no larger than that")]
    pub fn wait_ms(self, failures: u32, chance: f64) -> i64 {
        let chance = if chance.is_finite() { chance.clamp(0.0, 1.0) } else { 1.0 };
        let bound = self.bound_ms(failures);
        ((bound as f64 * chance) as i64).min(bound)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff = Backoff { base_ms: 1_000, cap_ms: 300_000 };

    #[test]
    fn the_bound_doubles_up_to_the_cap() {
        let check = |failures, expected| assert_eq!(BACKOFF.bound_ms(failures), expected, "{failures}");
        check(0, 1_000);
        check(1, 2_000);
        check(8, 256_000);
        check(9, 300_000);
        check(63, 300_000);
        check(64, 300_000);
        check(u32::MAX, 300_000);
        assert_eq!(BACKOFF.wait_ms(3, f64::NAN), 8_000, "what is no number waits longest");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_wait_lies_between_nothing_and_its_bound(
            base in 0..10_000_i64,
            cap in 0..1_000_000_i64,
            failures in any::<u32>(),
            chance in -1.0..2.0_f64,
        ) {
            let backoff = Backoff { base_ms: base, cap_ms: cap };
            let wait = backoff.wait_ms(failures, chance);
            prop_assert!((0..=backoff.bound_ms(failures)).contains(&wait));
            prop_assert!(backoff.bound_ms(failures) <= backoff.bound_ms(failures.saturating_add(1)));
        }
    }
}

//! The breaker: many organizations that go at once are more often a mistake than a wish.

use crate::time::Millis;

/// So many may go within the window in any copy, however small (decision 18).
pub const MAX_DELETIONS: u64 = 20;
/// And so many per cent of all workspaces, if that is more.
pub const MAX_DELETIONS_PERCENT: u64 = 1;
/// The window.
pub const WINDOW_MS: i64 = 60 * 60_000;

/// How many deletions are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Burst {
    /// See [`MAX_DELETIONS`].
    pub deletions: u64,
    /// See [`WINDOW_MS`].
    pub window_ms: i64,
}

impl Default for Burst {
    fn default() -> Self {
        Self { deletions: MAX_DELETIONS, window_ms: WINDOW_MS }
    }
}

impl Burst {
    /// How many may go within the window where there are so many workspaces.
    #[must_use]
    pub fn limit(self, workspaces: u64) -> u64 {
        self.deletions.max(workspaces.saturating_mul(MAX_DELETIONS_PERCENT) / 100)
    }

    /// Whether the job that began at `began` is one too many. `others` are the begin times of all other jobs that have content of the
    /// application's, whatever became of them; only those that began before count, so that the first ones of a burst
    /// go, and the rest waits for a word. Of those of the same millisecond each counts for the other.
    #[must_use]
    pub fn holds(self, others: &[Millis], began: Millis, workspaces: u64) -> bool {
        let window = began.plus(self.window_ms.saturating_neg())..=began;
        let before = others.iter().filter(|other| window.contains(other)).count();
        u64::try_from(before).unwrap_or(u64::MAX) >= self.limit(workspaces)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: i64 = 60_000;

    #[test]
    fn twenty_go_and_the_next_waits() {
        let check = |others: &[i64], at: i64, workspaces: u64, held: bool| {
            let others: Vec<Millis> = others.iter().map(|minute| Millis(minute * MINUTE)).collect();
            assert_eq!(Burst::default().holds(&others, Millis(at * MINUTE), workspaces), held, "{others:?} {at}");
        };
        check(&[], 0, 0, false);
        check(&[1; 19], 2, 100, false);
        check(&[1; 20], 2, 100, true);
        check(&[1; 20], 1, 100, true);
        check(&[1; 20], 61, 100, true);
        check(&[1; 20], 62, 100, false);
        check(&[3; 20], 2, 100, false);
        check(&[1; 20], 2, 2_099, true);
        check(&[1; 20], 2, 2_100, false);
        check(&[1; 99], 2, 10_000, false);
        check(&[1; 100], 2, 10_000, true);
    }

    #[test]
    fn the_limit_is_the_operators() {
        let burst = Burst { deletions: 0, window_ms: 0 };
        assert!(burst.holds(&[], Millis(0), 99), "no deletion goes without a word");
        assert!(!burst.holds(&[], Millis(0), 100));
        assert!(!Burst { deletions: u64::MAX, window_ms: i64::MAX }.holds(&[Millis(0); 9], Millis(0), u64::MAX));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever comes, no more than the limit go in any window that ends with one that goes.
        #[test]
        fn never_more_than_the_limit_in_a_window(
            mut began in proptest::collection::vec(0..200_i64, 0..60),
            deletions in 1..10_u64,
            window in 0..100_i64,
        ) {
            let burst = Burst { deletions, window_ms: window };
            began.sort_unstable();
            let all: Vec<Millis> = began.into_iter().map(Millis).collect();
            let gone: Vec<Millis> = (0..all.len())
                .filter(|at| {
                    let others: Vec<Millis> = all.iter().enumerate().filter(|(o, _)| o != at).map(|(_, m)| *m).collect();
                    !burst.holds(&others, all[*at], 0)
                })
                .map(|at| all[at])
                .collect();
            for last in &gone {
                let within = gone.iter().filter(|m| (last.0 - window..=last.0).contains(&m.0)).count();
                prop_assert!(within as u64 <= deletions, "{gone:?}");
            }
        }
    }
}

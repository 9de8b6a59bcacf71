//! Chance as a function of a seed: the same question gets the same answer, whenever and in whatever order it is asked.
//!
//! A generator that is drawn from in turn would give another run as soon as two answers of the network changed places.

use serde::{Deserialize, Serialize};

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// The step of SplitMix64.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// A seed that answers questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Chance(u64);

impl Chance {
    /// Chance with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The answers to one question: a word for what is asked, and the numbers of what it is asked about.
    #[must_use]
    pub fn of(self, question: &str, about: &[u64]) -> Draw {
        let mut draw = Draw(self.0);
        for byte in question.bytes() {
            draw = Draw(draw.next() ^ u64::from(byte));
        }
        for number in about {
            draw = Draw(draw.next() ^ number);
        }
        draw
    }
}

/// Answers to one question, one after the other (SplitMix64).
#[derive(Debug, Clone)]
pub struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to below `end`; 0 if `end` is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(end);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// A number from `low` to `high`, both included; `low` if there is none.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        let width = u64::try_from(high.saturating_sub(low)).unwrap_or(0);
        low.saturating_add_unsigned(self.below(width.saturating_add(1)))
    }

    /// True in `rate` of a hundred cases.
    pub fn percent(&mut self, rate: f64) -> bool {
        /// 2^53: as many steps as a float between 0 and 1 can have.
        const STEPS: u64 = 1 << 53;
        self.below(STEPS) as f64 / STEPS as f64 * 100.0 < rate
    }

    /// So many base62 characters.
    pub fn base62(&mut self, length: usize) -> String {
        (0..length).map(|_| char::from(BASE62[usize::try_from(self.below(62)).unwrap_or(0)])).collect()
    }

    /// So many bytes.
    pub fn bytes<const LENGTH: usize>(&mut self) -> [u8; LENGTH] {
        std::array::from_fn(|_| self.next().to_le_bytes()[7])
    }
}

#[cfg(test)]
mod tests {
    use super::Chance;

    #[test]
    fn the_same_question_has_the_same_answer_and_another_has_another() {
        let chance = Chance::new(7);
        let word = |question: &str, about: &[u64]| chance.of(question, about).base62(27);
        assert_eq!(word("id", &[1, 2]), word("id", &[1, 2]));
        assert_eq!(word("id", &[1]).len(), 27);
        for other in
            [word("id", &[2, 1]), word("jd", &[1, 2]), word("id", &[1]), Chance::new(8).of("id", &[1, 2]).base62(27)]
        {
            assert_ne!(other, word("id", &[1, 2]));
        }
    }

    #[test]
    fn rates_are_kept_and_bounds_are_met() {
        let chance = Chance::new(1);
        let hits = (0..10_000).filter(|&at| chance.of("rate", &[at]).percent(30.0)).count();
        assert!((2_850..3_150).contains(&hits), "{hits} of 10,000 at 30 %");
        assert!((0..1_000).all(|at| !chance.of("never", &[at]).percent(0.0)));
        assert!((0..1_000).all(|at| chance.of("always", &[at]).percent(100.0)));
        let seen: std::collections::BTreeSet<i64> =
            (0..1_000).map(|at| chance.of("range", &[at]).between(-2, 2)).collect();
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [-2, -1, 0, 1, 2]);
    }
}

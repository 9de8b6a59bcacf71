//! Chance: a seed and how often it was asked, so that it can be written down and gone on with.

use serde::{Deserialize, Serialize};

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// The step of SplitMix64.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
/// Letters of an id behind its prefix, as Clerk writes them.
const ID_LENGTH: usize = 27;
/// Of these, the first that tell when it was made.
const TIME_LETTERS: usize = 6;
/// When the time of a KSUID begins, in seconds since 1970.
const KSUID_EPOCH_S: i64 = 1_400_000_000;
/// By how much the first letters of a KSUID, read as a number, grow in a second, in hundredths: 2^128 / 62^21.
const SECOND_PERCENT: u64 = 779;

/// A generator of numbers (SplitMix64).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dice {
    seed: u64,
    drawn: u64,
}

impl Dice {
    /// Nothing was drawn yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.drawn += 1;
        let mut mixed = self.seed.wrapping_add(self.drawn.wrapping_mul(GOLDEN));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to below `end`; 0 if `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        let wide = u128::from(self.number()) * (end as u128);
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// One of these, of which there must be one.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// So many base62 letters.
    pub fn letters(&mut self, length: usize) -> String {
        (0..length).map(|_| char::from(BASE62[self.below(BASE62.len())])).collect()
    }

    /// A new id with this prefix.
    pub fn id(&mut self, prefix: &str) -> String {
        format!("{prefix}_{}", self.letters(ID_LENGTH))
    }

    /// A new id with this prefix, as if it had been made at a time, in milliseconds: Clerk's are KSUIDs, which ascend from second to
    /// second. So many rows at once meet a database's indexes as Clerk's own do, one behind the other.
    pub fn id_at(&mut self, prefix: &str, at_ms: i64) -> String {
        let seconds = u64::try_from(at_ms / 1000 - KSUID_EPOCH_S).unwrap_or_default();
        let mut number = seconds * SECOND_PERCENT / 100;
        let mut time = [b'0'; TIME_LETTERS];
        for letter in time.iter_mut().rev() {
            *letter = BASE62[usize::try_from(number % 62).unwrap_or_default()];
            number /= 62;
        }
        let time: String = time.into_iter().map(char::from).collect();
        format!("{prefix}_{time}{}", self.letters(ID_LENGTH - TIME_LETTERS))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Dice;

    #[test]
    fn a_seed_says_the_same_again_and_ids_have_clerks_form() {
        let draw = |seed| {
            let mut dice = Dice::new(seed);
            (0..1000).map(|_| dice.id("user")).collect::<BTreeSet<_>>()
        };
        let ids = draw(1);
        assert_eq!(ids, draw(1));
        assert!(ids.is_disjoint(&draw(2)));
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 32 && id[5..].bytes().all(|byte| byte.is_ascii_alphanumeric())));
    }

    #[test]
    fn ids_ascend_as_clerks_do() {
        let mut dice = Dice::new(3);
        // KSUIDs of 2023-11-14 begin with 2Y.
        let ids: Vec<String> = (0..1000).map(|second| dice.id_at("user", (1_700_000_000 + second) * 1000)).collect();
        assert!(ids.is_sorted());
        assert!(ids[0].starts_with("user_2Y") && ids[0].len() == 32, "{}", ids[0]);
        assert_eq!(dice.id_at("user", 0).len(), 32);
    }

    #[test]
    fn what_was_drawn_is_remembered() {
        let mut dice = Dice::new(7);
        dice.letters(5);
        let written = serde_json::to_string(&dice).expect("text");
        let mut read: Dice = serde_json::from_str(&written).expect("dice");
        assert_eq!(read.number(), dice.number());
    }
}

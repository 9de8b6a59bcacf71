//! Chance: a seed and how often it was asked, so that it can be written down and gone on with.

use serde::{Deserialize, Serialize};

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// The step of SplitMix64.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
/// Letters of an id behind its prefix, as Clerk writes them.
const ID_LENGTH: usize = 27;

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
    fn what_was_drawn_is_remembered() {
        let mut dice = Dice::new(7);
        dice.letters(5);
        let written = serde_json::to_string(&dice).expect("text");
        let mut read: Dice = serde_json::from_str(&written).expect("dice");
        assert_eq!(read.number(), dice.number());
    }
}

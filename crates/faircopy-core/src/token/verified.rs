//! Which signatures were found good already: the costly step of a token that comes again is left out, and no other.
//!
//! What is kept is one digest of the key, the signed text and the signature, and only of those that fitted. Whether a
//! signature fits depends on nothing else, so the answer cannot go out of date; and everything that can (the key's place
//! in the set, `exp`, `nbf`, `iat`, the policy) is asked anew each time, because it is not kept. Nothing of a token can
//! be read from its digest, and nobody fills the memory who has no tokens that the instance has signed.

use std::collections::BTreeSet;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::digest::{Context, SHA256};

use super::keys::Key;
use super::{LEEWAY_MS, Rejection, Unverified};
use crate::time::Millis;

/// The most digests kept: a token each of 65,536 users, who renew theirs once a minute. At [`DIGEST_BYTES`] each and the
/// tree around them it is at most 4 MiB.
pub const MAX_VERIFIED: usize = 2 * GENERATION;
/// What is kept of one token.
pub const DIGEST_BYTES: usize = 32;
/// When this many are new, those that were new before are forgotten.
const GENERATION: usize = 32 * 1024;
/// How long a generation stays new: Clerk's tokens live a minute, and are taken for the leeway after it.
const GENERATION_MS: i64 = 60_000 + LEEWAY_MS;

type Digest = [u8; DIGEST_BYTES];

/// The signatures that were found good lately. Shared by all who verify; nothing costly happens under its lock.
#[derive(Debug, Default)]
pub struct Verified(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    new: BTreeSet<Digest>,
    old: BTreeSet<Digest>,
    /// When the new generation began.
    since: Millis,
}

impl Verified {
    /// Whether the signature fits: known, or found by the cryptography and then known.
    pub(super) fn check(&self, token: &Unverified<'_>, key: &Key, now: Millis) -> Result<(), Rejection> {
        let digest = digest(token, key);
        if self.generations().knows(&digest) {
            return Ok(());
        }
        token.check_signature(key)?;
        self.generations().add(digest, now);
        Ok(())
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        let generations = self.generations();
        generations.new.len() + generations.old.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn generations(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn knows(&self, digest: &Digest) -> bool {
        self.new.contains(digest) || self.old.contains(digest)
    }

    fn add(&mut self, digest: Digest, now: Millis) {
        // A clock that has gone back begins a generation too: nothing is kept for longer because of it.
        let is_young = now >= self.since && now.0.saturating_sub(self.since.0) < GENERATION_MS;
        if !is_young || self.new.len() == GENERATION {
            self.old = mem::take(&mut self.new);
            self.since = now;
        }
        self.new.insert(digest);
    }
}

/// One digest for everything that the cryptography would look at. Each part says how long it is: no two triples give the
/// same text.
fn digest(token: &Unverified<'_>, key: &Key) -> Digest {
    let mut context = Context::new(&SHA256);
    for part in [key.bytes(), token.signed.as_bytes(), &token.signature] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut digest = [0; DIGEST_BYTES];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest_of(number: usize) -> Digest {
        let mut digest = [0; DIGEST_BYTES];
        digest[..8].copy_from_slice(&(number as u64).to_be_bytes());
        digest
    }

    #[test]
    fn ten_thousand_new_tokens_a_second_fill_no_memory() {
        let mut generations = Generations::default();
        let mut most = 0;
        for number in 0..10_000 * 70 {
            let now = Millis(i64::try_from(number / 10).unwrap());
            generations.add(digest_of(number), now);
            most = most.max(generations.new.len() + generations.old.len());
            assert!(generations.knows(&digest_of(number)), "the newest is known");
        }
        assert_eq!(most, MAX_VERIFIED);
        assert!(generations.knows(&digest_of(10_000 * 70 - GENERATION)), "at least a generation is known");
    }

    #[test]
    fn a_digest_is_forgotten_with_its_generation() {
        let mut generations = Generations::default();
        let start = Millis(1_760_000_000_000);
        generations.add(digest_of(1), start);
        generations.add(digest_of(2), start.plus(GENERATION_MS));
        assert!(generations.knows(&digest_of(1)));
        generations.add(digest_of(3), start.plus(2 * GENERATION_MS));
        assert!(!generations.knows(&digest_of(1)) && generations.knows(&digest_of(2)));
        // A clock that goes back and forth keeps nothing longer.
        generations.add(digest_of(4), start);
        generations.add(digest_of(5), Millis(i64::MAX));
        generations.add(digest_of(6), Millis(i64::MIN));
        assert!(!generations.knows(&digest_of(3)) && generations.knows(&digest_of(6)));
    }
}

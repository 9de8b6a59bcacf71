//! Cursors: a place in a list that only the service itself can name.
//!
//! A cursor is sealed for one list and one reader. What anybody made up, took from another list, from somebody else or
//! from another organization is none (docs/decisions/0011-sealed-cursors.md).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::problem::Problem;
use crate::app::App;

/// The seal's bytes: half of SHA-256's, which nobody guesses.
const SEAL_BYTES: usize = 16;
/// The longest cursor that is looked at. The longest position is a time and a delivery's id, which has at most 256 bytes.
const MAX_CURSOR_BYTES: usize = 1024;

/// What a cursor holds for: a list, and whoever reads it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    /// Its route.
    pub(super) list: &'static str,
    /// The user; nobody for lists of the admin API, which have one reader.
    pub(super) user: &'a str,
    /// The active organization, if the list is of one.
    pub(super) organization: &'a str,
}

/// Seals and opens the cursors of all lists. Every replica has the same key, and so has the next start.
#[derive(Clone)]
pub(super) struct Sealer(Hmac<Sha256>);

impl Sealer {
    /// The sealer of the copy.
    pub(super) async fn of(app: &App) -> Result<Self, Problem> {
        Ok(Self::new(&app.store.cursor_key().await?))
    }

    fn new(key: &str) -> Self {
        // An HMAC takes a key of any length.
        Self(Hmac::new_from_slice(key.as_bytes()).unwrap_or_else(|_| unreachable!("a key of any length")))
    }

    /// The cursor of a place.
    pub(super) fn seal(&self, scope: Scope<'_>, place: &str) -> String {
        let mut cursor = self.mac(scope, place).finalize().into_bytes()[..SEAL_BYTES].to_vec();
        cursor.extend_from_slice(place.as_bytes());
        URL_SAFE_NO_PAD.encode(cursor)
    }

    /// The place that a cursor of this very list and reader names.
    pub(super) fn open(&self, scope: Scope<'_>, cursor: &str) -> Result<String, Problem> {
        self.opened(scope, cursor)
            .ok_or_else(|| Problem::new("invalid-parameter", "`after` is not a cursor of this list."))
    }

    fn opened(&self, scope: Scope<'_>, cursor: &str) -> Option<String> {
        if cursor.len() > MAX_CURSOR_BYTES {
            return None;
        }
        let mut seal = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        if seal.len() < SEAL_BYTES {
            return None;
        }
        let place = String::from_utf8(seal.split_off(SEAL_BYTES)).ok()?;
        // In a time that says nothing about how much of the seal is right.
        self.mac(scope, &place).verify_truncated_left(&seal).ok()?;
        Some(place)
    }

    /// Each part with its length: no two scopes and places read alike.
    fn mac(&self, scope: Scope<'_>, place: &str) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        for part in ["faircopy cursor 1", scope.list, scope.user, scope.organization, place] {
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: Scope<'_> = Scope { list: "/v1/organization/members", user: "user_ada", organization: "org_a" };

    #[test]
    fn a_cursor_opens_for_its_own_list_and_reader_alone() {
        let sealer = Sealer::new("key");
        let cursor = sealer.seal(SCOPE, "user_ben");
        assert_eq!(sealer.opened(SCOPE, &cursor).as_deref(), Some("user_ben"));
        assert_eq!(Sealer::new("key").opened(SCOPE, &cursor).as_deref(), Some("user_ben"), "another replica");
        assert_eq!(Sealer::new("other").opened(SCOPE, &cursor), None, "another copy");
        for foreign in [
            Scope { list: "/v1/me/organizations", ..SCOPE },
            Scope { user: "user_eve", ..SCOPE },
            Scope { organization: "org_b", ..SCOPE },
            Scope { organization: "", ..SCOPE },
            // The same letters, cut elsewhere.
            Scope { user: "user_adaorg", organization: "_a", ..SCOPE },
        ] {
            assert_eq!(sealer.opened(foreign, &cursor), None, "{foreign:?}");
        }
    }

    #[test]
    fn no_other_text_is_a_cursor() {
        let sealer = Sealer::new("key");
        let cursor = sealer.seal(SCOPE, "user_ben");
        let mut bytes = URL_SAFE_NO_PAD.decode(&cursor).unwrap();
        for position in 0..bytes.len() {
            for bit in 0..8 {
                bytes[position] ^= 1 << bit;
                assert_eq!(sealer.opened(SCOPE, &URL_SAFE_NO_PAD.encode(&bytes)), None, "bit {bit} of {position}");
                bytes[position] ^= 1 << bit;
            }
        }
        for length in 0..bytes.len() {
            assert_eq!(sealer.opened(SCOPE, &URL_SAFE_NO_PAD.encode(&bytes[..length])), None, "{length} bytes");
        }
        for text in
            ["", "user_ben", "dXNlcl8", "!!", "AAAA", &format!("{cursor}="), &format!("{cursor}A"), &"A".repeat(2000)]
        {
            assert_eq!(sealer.opened(SCOPE, text), None, "{text}");
        }
    }
}

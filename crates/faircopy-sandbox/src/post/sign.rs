//! Svix's signature over a message.
//!
//! Not that of `faircopy-core`: what checks signatures must not be tried only with its own.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::chance::Draw;

/// What secrets begin with.
const PREFIX: &str = "whsec_";
/// The shortest and the longest secret, in bytes: what the Standard Webhooks specification asks for.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A new secret.
pub(super) fn new_secret(draw: &mut Draw) -> String {
    format!("{PREFIX}{}", STANDARD.encode(draw.bytes::<24>()))
}

/// The bytes of `whsec_…`, if it is one.
pub(super) fn key_of(secret: &str) -> Option<Vec<u8>> {
    let key = STANDARD.decode(secret.strip_prefix(PREFIX)?).ok()?;
    SECRET_BYTES.contains(&key.len()).then_some(key)
}

/// The value of `svix-signature`: one `v1,…` for each key, with spaces between.
pub(super) fn signatures<'k>(
    keys: impl Iterator<Item = &'k [u8]>,
    message: &str,
    timestamp_s: i64,
    body: &str,
) -> String {
    let signed = format!("{message}.{timestamp_s}.{body}");
    keys.map(|key| signature(key, signed.as_bytes())).collect::<Vec<_>>().join(" ")
}

fn signature(key: &[u8], signed: &[u8]) -> String {
    // Any length of key is taken.
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    mac.update(signed);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

//! Is this delivery authentic, now? Svix's scheme over the raw bytes, stricter than its own libraries.
//!
//! Signed is `{id}.{timestamp}.{body}` with HMAC-SHA256 under the decoded secret (clerk-facts.md, section 4.1). Stricter
//! on purpose, each row of faults.md W1 to W14: exactly one header line of each name; an id without `.`, spaces or
//! control characters (a dot would let two different messages share one signed text); ten-digit timestamps without
//! sign or leading zero; at most [`MAX_SIGNATURES`] signatures; only padded standard base64 of exactly 32 bytes; secrets of
//! 24 bytes and more.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt;

use crate::time::Millis;

/// How far the signed timestamp may be from now, either way: the tolerance of every Svix library.
pub const TOLERANCE_SECONDS: i64 = 300;
/// How many signatures one header may carry: Svix signs with at most 10 old secrets beside the current one.
pub const MAX_SIGNATURES: usize = 16;
/// The longest signature header read: 16 signatures of 47 characters, with room to spare.
pub const MAX_SIGNATURE_HEADER: usize = 4096;
/// The longest message id: Svix's are 31 characters.
pub const MAX_MESSAGE_ID: usize = 128;
/// The shortest secret: the Standard Webhooks specification asks for 24 to 64 bytes.
pub const MIN_SECRET_BYTES: usize = 24;

/// One signing secret, decoded. Shown as `whsec_[redacted]`.
#[derive(Clone)]
pub struct Secret {
    mac: Hmac<Sha256>,
    last_four: Box<str>,
}

/// Why a configured secret is refused. The secret itself is never part of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Nothing, or nothing after the prefix.
    #[error("is empty")]
    Empty,
    /// Not base64 after the optional `whsec_`.
    #[error("is not base64 after `whsec_`")]
    NotBase64,
    /// Fewer than [`MIN_SECRET_BYTES`] bytes.
    #[error("holds fewer than 24 bytes")]
    TooShort,
}

impl Secret {
    /// Reads `whsec_<base64>` (the prefix may be missing, as in Svix's libraries).
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        let encoded = text.strip_prefix("whsec_").unwrap_or(text);
        if encoded.is_empty() {
            return Err(SecretError::Empty);
        }
        let bytes = STANDARD.decode(encoded).map_err(|_| SecretError::NotBase64)?;
        if bytes.len() < MIN_SECRET_BYTES {
            return Err(SecretError::TooShort);
        }
        let mac = Hmac::new_from_slice(&bytes).map_err(|_| SecretError::TooShort)?;
        // Base64 is ASCII, and 24 bytes are 32 characters of it.
        Ok(Self { mac, last_four: encoded[encoded.len() - 4..].into() })
    }

    /// The last four characters of its text: by these a person tells secrets apart.
    #[must_use]
    pub fn last_four(&self) -> &str {
        &self.last_four
    }

    /// Signs a message as Svix does: `v1,<base64>`.
    #[must_use]
    pub fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        let mac = self.mac(id.as_bytes(), timestamp.to_string().as_bytes(), body);
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    fn mac(&self, id: &[u8], timestamp: &[u8], body: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.mac.clone();
        for part in [id, b".", timestamp, b".", body] {
            mac.update(part);
        }
        mac
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("whsec_[redacted]")
    }
}

/// Every value that arrived under one header name, in order; a name that came twice has two.
pub type HeaderLines<'a> = Vec<&'a [u8]>;

/// The six headers that take part, as they arrived.
#[derive(Debug, Default)]
pub struct SignedHeaders<'a> {
    /// `svix-id`, `svix-timestamp`, `svix-signature`.
    pub svix: [HeaderLines<'a>; 3],
    /// `webhook-id`, `webhook-timestamp`, `webhook-signature`: the white-label names.
    pub webhook: [HeaderLines<'a>; 3],
}

/// The names of [`SignedHeaders::svix`], in order.
pub const SVIX_HEADERS: [&str; 3] = ["svix-id", "svix-timestamp", "svix-signature"];
/// The names of [`SignedHeaders::webhook`], in order.
pub const WEBHOOK_HEADERS: [&str; 3] = ["webhook-id", "webhook-timestamp", "webhook-signature"];

/// Why a delivery is not taken for authentic. None of these holds or reveals an expected value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// One of the three headers is missing or blank.
    #[error("the header `{0}` is missing")]
    MissingHeader(&'static str),
    /// A header came more than once.
    #[error("the header `{0}` came more than once")]
    RepeatedHeader(&'static str),
    /// `svix-*` and `webhook-*` both came and differ.
    #[error("the header `{0}` says otherwise than its `svix-` twin")]
    ConflictingHeader(&'static str),
    /// The id is not 1 to 128 printable characters without `.` and space.
    #[error("the message id is malformed")]
    MalformedId,
    /// The timestamp is not ten digits without sign or leading zero.
    #[error("the timestamp is malformed")]
    MalformedTimestamp,
    /// Signed more than 300 s ago.
    #[error("the timestamp is too old")]
    TimestampTooOld,
    /// Signed more than 300 s ahead.
    #[error("the timestamp is too far ahead")]
    TimestampTooNew,
    /// More than 16 signatures, or a header of more than 4 KiB.
    #[error("there are too many signatures")]
    TooManySignatures,
    /// No signature made with a configured secret fits these bytes.
    #[error("no signature fits the body")]
    NoMatch,
}

impl Rejection {
    /// A stable word for the metric `faircopy_signature_failures_total{reason}` and the problem's `code`.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::MissingHeader(_) => "missing_header",
            Self::RepeatedHeader(_) => "repeated_header",
            Self::ConflictingHeader(_) => "conflicting_header",
            Self::MalformedId => "malformed_id",
            Self::MalformedTimestamp => "malformed_timestamp",
            Self::TimestampTooOld | Self::TimestampTooNew => "timestamp",
            Self::TooManySignatures => "too_many_signatures",
            Self::NoMatch => "no_match",
        }
    }
}

/// The claim of a delivery whose headers are well formed and fresh, before its body has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim<'a> {
    /// The message id: the same on every retry, endpoint and manual resend.
    pub id: &'a str,
    /// When this attempt was signed.
    pub signed_at: Millis,
    timestamp: &'a [u8],
    signatures: &'a [u8],
}

/// Which header names are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Names {
    /// `svix-*` only, as Clerk sends.
    #[default]
    Svix,
    /// `svix-*`, or else `webhook-*`.
    SvixOrWebhook,
}

/// The cheap half of the check: everything that can be said before the body is read.
pub fn claim<'a>(headers: &SignedHeaders<'a>, names: Names, now: Millis) -> Result<Claim<'a>, Rejection> {
    let mut values = [&[][..]; 3];
    let white_label = names == Names::SvixOrWebhook && headers.svix.iter().all(Vec::is_empty);
    let (lines, line_names) =
        if white_label { (&headers.webhook, WEBHOOK_HEADERS) } else { (&headers.svix, SVIX_HEADERS) };
    for (position, name) in line_names.into_iter().enumerate() {
        values[position] = single(&lines[position], name)?;
        if headers.webhook[position].iter().any(|twin| trim(twin) != values[position]) {
            return Err(Rejection::ConflictingHeader(WEBHOOK_HEADERS[position]));
        }
    }
    let [id, timestamp, signatures] = values;
    if id.len() > MAX_MESSAGE_ID || !id.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'.') {
        return Err(Rejection::MalformedId);
    }
    let id = str::from_utf8(id).map_err(|_| Rejection::MalformedId)?;
    let signed_at = read_timestamp(timestamp).ok_or(Rejection::MalformedTimestamp)?;
    let age = now.0.div_euclid(1000) - signed_at;
    if age > TOLERANCE_SECONDS {
        return Err(Rejection::TimestampTooOld);
    }
    if age < -TOLERANCE_SECONDS {
        return Err(Rejection::TimestampTooNew);
    }
    let count = signatures.split(|&byte| byte == b' ').count();
    if signatures.len() > MAX_SIGNATURE_HEADER || count > MAX_SIGNATURES {
        return Err(Rejection::TooManySignatures);
    }
    Ok(Claim { id, signed_at: Millis::from_seconds(signed_at), timestamp, signatures })
}

impl Claim<'_> {
    /// The costly half: does one of the signatures fit these bytes under one of the secrets? Constant time in the
    /// signature's bytes; every secret and signature is tried, so that time says nothing about which one fits.
    pub fn verify(&self, body: &[u8], secrets: &[Secret]) -> Result<(), Rejection> {
        let offered: Vec<[u8; 32]> = self.signatures.split(|&byte| byte == b' ').filter_map(decode_signature).collect();
        let mut fits = false;
        for secret in secrets {
            let mac = secret.mac(self.id.as_bytes(), self.timestamp, body);
            for signature in &offered {
                fits |= mac.clone().verify_slice(signature).is_ok();
            }
        }
        fits.then_some(()).ok_or(Rejection::NoMatch)
    }
}

fn single<'a>(lines: &[&'a [u8]], name: &'static str) -> Result<&'a [u8], Rejection> {
    match lines {
        [] => Err(Rejection::MissingHeader(name)),
        [only] if trim(only).is_empty() => Err(Rejection::MissingHeader(name)),
        [only] => Ok(trim(only)),
        _ => Err(Rejection::RepeatedHeader(name)),
    }
}

fn trim(value: &[u8]) -> &[u8] {
    value.trim_ascii()
}

/// `^[1-9][0-9]{9}$`: whole seconds from 2001 to 2286.
fn read_timestamp(text: &[u8]) -> Option<i64> {
    let digits = text.len() == 10 && text[0] != b'0' && text.iter().all(u8::is_ascii_digit);
    if !digits {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}

fn decode_signature(entry: &[u8]) -> Option<[u8; 32]> {
    let encoded = entry.strip_prefix(b"v1,")?;
    STANDARD.decode(encoded).ok()?.try_into().ok()
}

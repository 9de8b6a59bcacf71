//! Is this session good, now? Clerk's session tokens, verified more strictly than its own SDK does.
//!
//! The way of one token: [`open`] reads its form and its header, and refuses what can be refused without a key;
//! [`KeyCache::find`] says which key to verify with, or whether to ask Clerk for it; [`Unverified::verify`] checks the
//! signature and then every claim, and gives the [`Session`]; [`Session::observations`] are what the merge learns from
//! it. [`verify`] is all of this for whoever has the keys at hand.
//!
//! - `class`: session tokens and Clerk's other tokens, told apart;
//! - `object`: JSON in which nothing is doubtful;
//! - `keys`: the public keys of one instance; `cache`: when to fetch them;
//! - `verified`: signatures that were found good already;
//! - `claims`: the rules; `permissions`: what a version 2 token grants; `session`: what comes out.
//!
//! The rules are the table of faults.md (session-JWT verification). The algorithm is always RS256, whatever the header
//! says; keys come from the configured place only, whatever `jku`, `x5u`, `jwk` or `iss` say; a claim of another type
//! than expected is as bad as a wrong one. Stricter than Clerk's SDK on purpose: no other RSA algorithm, no critical
//! extension, `nbf` and `iat` required, an audience required where one is configured, a bound on the lifetime, exact
//! base64url and JSON without duplicate keys.

mod cache;
mod claims;
mod class;
mod keys;
mod object;
pub mod permissions;
mod session;
mod verified;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::time::Millis;
use object::Object;

pub use cache::{
    DEFAULT_STALE_MS, GRACE_MS, KeyCache, LOST_MS, Lookup, MIN_INTERVAL_MS, MIN_INTERVAL_WITHOUT_KEYS_MS, REFRESH_MS,
};
pub use class::{Class, classify};
pub use keys::{Ignored, JwksError, Key, Keys, Kid, MAX_DOCUMENT, MAX_KEYS, PemError, Unusable};
pub use session::{ActiveOrganization, Session};
pub use verified::{DIGEST_BYTES, MAX_VERIFIED, Verified};

/// The longest token read. Clerk's fit into a cookie, of 4 KiB.
pub const MAX_TOKEN: usize = 8 * 1024;
/// How far the clocks of Clerk and of this machine may differ: as in Clerk's SDK.
pub const LEEWAY_MS: i64 = 5_000;
/// The longest life of a token, unless configured otherwise. Clerk's live 60 seconds.
pub const DEFAULT_MAX_LIFETIME_MS: i64 = 60 * 60_000;

/// What a token must say beyond being signed and in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The one `iss`, exactly. `None` only where a PEM already names the instance.
    pub issuer: Option<String>,
    /// If there are any, `azp` must be one of them.
    pub authorized_parties: Vec<String>,
    /// If there are any, `aud` must name one of them.
    pub audiences: Vec<String>,
    /// The longest time from `iat` to `exp`.
    pub max_lifetime_ms: i64,
    /// Whether a session is good whose user has still something to do (`sts: pending`).
    pub accept_pending: bool,
}

impl Policy {
    /// The strict policy for one issuer: any party and audience, at most an hour, nobody pending.
    #[must_use]
    pub fn new(issuer: Option<String>) -> Self {
        Self {
            issuer,
            authorized_parties: Vec::new(),
            audiences: Vec::new(),
            max_lifetime_ms: DEFAULT_MAX_LIFETIME_MS,
            accept_pending: false,
        }
    }
}

/// Why a token is not a good session. None of these holds anything of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// More than [`MAX_TOKEN`] bytes.
    #[error("the token is longer than 8 KiB")]
    TooLong,
    /// Not three parts of unpadded base64url, of which the first two are JSON objects without duplicate keys.
    #[error("the token is malformed")]
    Malformed,
    /// One of Clerk's other tokens.
    #[error("the token is {0}, not a session token")]
    OtherClass(Class),
    /// `typ` is there and not `JWT`.
    #[error("the header `typ` is not `JWT`")]
    Type,
    /// `alg` is not `RS256`.
    #[error("the header `alg` is not `RS256`")]
    Algorithm,
    /// There is a `crit`: no extension is understood.
    #[error("the header `crit` names an extension")]
    Critical,
    /// `kid` is there and can be nobody's. It is not looked up.
    #[error("the header `kid` is malformed")]
    MalformedKid,
    /// The instance has no key of that name.
    #[error("the instance has no key of the name in the header `kid`")]
    UnknownKey,
    /// No keys could be fetched yet, or the last ones are too old.
    #[error("the instance's keys could not be fetched")]
    NoKeys,
    /// The signature is not that of the key.
    #[error("the signature does not fit the token")]
    Signature,
    /// A required claim is missing, or one is there that cannot be.
    #[error("the claim `{0}` is missing or malformed")]
    Claim(&'static str),
    /// `aud` names no configured audience.
    #[error("the claim `aud` names no accepted audience")]
    Audience,
    /// `azp` is not a configured party.
    #[error("the claim `azp` is not an authorized party")]
    AuthorizedParty,
    /// `iss` is not the configured issuer.
    #[error("the claim `iss` is not the configured issuer")]
    Issuer,
    /// `exp` is past.
    #[error("the token has expired")]
    Expired,
    /// `nbf` is to come.
    #[error("the token is not active yet")]
    NotActiveYet,
    /// `iat` is to come.
    #[error("the token was issued in the future")]
    IssuedInTheFuture,
    /// `exp` is too long after `iat`.
    #[error("the token lives longer than allowed")]
    LivesTooLong,
    /// `v` is neither 1 nor 2.
    #[error("the token's version is unknown")]
    Version,
    /// `sts` is `pending`.
    #[error("the session is pending")]
    Pending,
}

impl Rejection {
    /// A stable word for the answer's `code` and for metrics: Clerk's own reason (`TokenVerificationErrorReason` and
    /// `AuthErrorReason` of its SDK) where it has one.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooLong | Self::Malformed | Self::Type => "token-invalid",
            Self::OtherClass(_) => "token-type-mismatch",
            Self::Algorithm => "token-invalid-algorithm",
            Self::MalformedKid | Self::UnknownKey => "jwk-kid-mismatch",
            Self::NoKeys => "jwk-remote-failed-to-load",
            Self::Signature => "token-invalid-signature",
            Self::Claim(_) | Self::Audience => "token-verification-failed",
            Self::AuthorizedParty => "token-invalid-authorized-parties",
            Self::Issuer => "token-invalid-issuer",
            Self::Expired => "token-expired",
            Self::NotActiveYet => "token-not-active-yet",
            Self::IssuedInTheFuture => "token-iat-in-the-future",
            // Faircopy's own.
            Self::Critical => "token-critical-extension",
            Self::LivesTooLong => "token-lives-too-long",
            Self::Version => "token-unknown-version",
            Self::Pending => "session-pending",
        }
    }
}

/// A token whose form and header are good, before its signature was checked. Shows nothing of itself.
pub struct Unverified<'a> {
    kid: Option<Kid>,
    signed: &'a str,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// The cheap half of the check: everything that can be said without a key.
pub fn open(token: &str) -> Result<Unverified<'_>, Rejection> {
    if token.len() > MAX_TOKEN {
        return Err(Rejection::TooLong);
    }
    if let Some(class) = class::opaque(token) {
        return Err(Rejection::OtherClass(class));
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(Rejection::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(Rejection::Malformed)?;
    let bytes = |part| decode(part).ok_or(Rejection::Malformed);
    let (header, payload, signature) = (bytes(header)?, bytes(payload)?, bytes(signature)?);
    let kid = read_header(&Object::read(&header).ok_or(Rejection::Malformed)?)?;
    Ok(Unverified { kid, signed, payload, signature })
}

/// The whole check of a token, with the keys of the instance.
pub fn verify(token: &str, now: Millis, keys: &Keys, policy: &Policy) -> Result<Session, Rejection> {
    let token = open(token)?;
    token.verify(keys.get(token.kid()).ok_or(Rejection::UnknownKey)?, now, policy)
}

impl Unverified<'_> {
    /// The name of the key that it says it was signed with.
    #[must_use]
    pub fn kid(&self) -> Option<&Kid> {
        self.kid.as_ref()
    }

    /// The costly half: the signature first, so that nothing forged is interpreted, and then every claim.
    pub fn verify(&self, key: &Key, now: Millis, policy: &Policy) -> Result<Session, Rejection> {
        self.check_signature(key)?;
        self.read(now, policy)
    }

    /// The same with the same answer, for less where this key has verified this token before.
    pub fn verify_again(
        &self,
        key: &Key,
        now: Millis,
        policy: &Policy,
        verified: &Verified,
    ) -> Result<Session, Rejection> {
        verified.check(self, key, now)?;
        self.read(now, policy)
    }

    fn check_signature(&self, key: &Key) -> Result<(), Rejection> {
        key.verifies(self.signed.as_bytes(), &self.signature).then_some(()).ok_or(Rejection::Signature)
    }

    fn read(&self, now: Millis, policy: &Policy) -> Result<Session, Rejection> {
        claims::read(&Object::read(&self.payload).ok_or(Rejection::Malformed)?, now, policy)
    }
}

impl fmt::Debug for Unverified<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Unverified").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// What the header must say. Everything that it says beyond this is not listened to.
fn read_header(header: &Object<'_>) -> Result<Option<Kid>, Rejection> {
    let text = |name, otherwise| header.get::<String>(name).map_err(|_| otherwise);
    match class::signed(header)? {
        Class::Session => {}
        other => return Err(Rejection::OtherClass(other)),
    }
    if text("typ", Rejection::Type)?.is_some_and(|typ| typ != "JWT") {
        return Err(Rejection::Type);
    }
    if text("alg", Rejection::Algorithm)?.as_deref() != Some("RS256") {
        return Err(Rejection::Algorithm);
    }
    if header.has("crit") {
        return Err(Rejection::Critical);
    }
    let kid = text("kid", Rejection::MalformedKid)?;
    kid.map(|kid| Kid::parse(&kid).ok_or(Rejection::MalformedKid)).transpose()
}

/// Base64url as JWTs have it: no padding, no stray bits in the last character.
fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

//! The public keys of one Clerk instance: an immutable set, read from a JWKS document or from a PEM.
//!
//! A document is read leniently where that is harmless (entries that cannot sign sessions are left out, each with its
//! reason) and refused as a whole where it could be poisoned: too large, too many keys, two keys of one name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rsa::{PublicKey, PublicKeyComponents};
use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::decode;
use super::object::Object;

/// The longest document read: Clerk's has one key of 450 bytes.
pub const MAX_DOCUMENT: usize = 64 * 1024;
/// How many usable keys one document may hold: an instance has one, and two while it rotates.
pub const MAX_KEYS: usize = 16;
/// The smallest and the largest modulus. 2048 bits is what Clerk uses and the least that RS256 allows (RFC 7518,
/// section 3.3); beyond 8192 bits a verification would cost too much.
const MODULUS_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// 65537, the exponent of all of Clerk's keys. Its SDK takes it for granted when it reads a PEM.
const EXPONENT: [u8; 3] = [1, 0, 1];
/// The longest key name. Clerk's is the instance's id, of 31 characters.
const MAX_KID: usize = 128;

/// The name of a key: 1 to 128 letters, digits, `_` or `-`. What is no such name is never looked up, and so never makes
/// anyone ask Clerk for it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kid(Arc<str>);

impl Kid {
    /// Accepts what can be the name of a key.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        ((1..=MAX_KID).contains(&text.len()) && text.bytes().all(plain)).then(|| Self(text.into()))
    }
}

impl fmt::Display for Kid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for Kid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// One RSA key, parsed once; cheap to clone.
#[derive(Clone)]
pub struct Key {
    parsed: Arc<ParsedPublicKey>,
    bits: usize,
}

impl Key {
    fn new(modulus: &[u8], exponent: &[u8]) -> Result<Self, Unusable> {
        let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
        if !MODULUS_BITS.contains(&bits) {
            return Err(Unusable::Size);
        }
        if exponent != EXPONENT {
            return Err(Unusable::Exponent);
        }
        PublicKeyComponents { n: modulus, e: exponent }
            .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
            .map(|key| Self { parsed: Arc::new(key), bits })
            .map_err(|_| Unusable::Malformed)
    }

    /// The one place where cryptography happens: RSASSA-PKCS1-v1_5 with SHA-256, whatever a token says of itself.
    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(signed, signature).is_ok()
    }

    /// The bits of its modulus.
    #[must_use]
    pub fn bits(&self) -> usize {
        self.bits
    }

    /// What the key is, whatever it is called.
    pub(super) fn bytes(&self) -> &[u8] {
        self.parsed.as_ref().as_ref()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Key")
    }
}

/// Why one entry of a document is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Not an object with a name and a key, or no key that the cryptography accepts.
    #[error("is malformed")]
    Malformed,
    /// `kty` is not `RSA`.
    #[error("is not an RSA key")]
    NotRsa,
    /// `use` is not `sig`, or `key_ops` does not allow to verify.
    #[error("is not for signatures")]
    NotForSignatures,
    /// `alg` is not `RS256`.
    #[error("is for another algorithm")]
    Algorithm,
    /// Fewer than 2048 bits, or more than 8192.
    #[error("has fewer than 2048 or more than 8192 bits")]
    Size,
    /// The exponent is not 65537.
    #[error("has another exponent than 65537")]
    Exponent,
    /// The same key once more.
    #[error("came twice")]
    Repeated,
}

/// An entry of a document that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ignored {
    /// Its name, where it has one.
    pub kid: Option<Kid>,
    /// Why.
    pub why: Unusable,
}

/// Why a JWKS document is refused. Whoever holds an older set keeps it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// More than [`MAX_DOCUMENT`] bytes.
    #[error("the document is longer than 64 KiB")]
    TooLarge,
    /// Not `{"keys": […]}`.
    #[error("the document is not a JSON object with a list `keys`")]
    Malformed,
    /// More than [`MAX_KEYS`] usable keys.
    #[error("the document holds more than 16 usable keys")]
    TooManyKeys,
    /// Two usable keys of one name: one of them is not the instance's.
    #[error("the document holds two different keys named `{0}`")]
    Conflict(Kid),
    /// No key that could sign a session, and what there was instead.
    #[error("the document holds no usable key")]
    NoUsableKey(Vec<Ignored>),
}

/// Why a PEM is refused. None of its content is part of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// Nothing.
    #[error("is empty")]
    Empty,
    /// A private key: it does not belong here, nor in any other place than Clerk's.
    #[error("is a private key; the public key is needed")]
    Private,
    /// Not one PEM of the form `-----BEGIN PUBLIC KEY-----`.
    #[error("is not one PEM public key (`-----BEGIN PUBLIC KEY-----`)")]
    Malformed,
    /// The key cannot be used.
    #[error("{0}")]
    Unusable(Unusable),
}

/// The keys of one instance. Another instance's keys stand in another set: a set shared by all would let a token of one
/// in at the other (a fault that Clerk's SDK had before 3.16.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys(Held);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Held {
    /// By name, from a JWKS document.
    Named(BTreeMap<Kid, Key>),
    /// One key without a name, from a PEM: it is tried for every token.
    Only(Key),
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

impl Keys {
    /// Reads a JWKS document, and says what of it was left out.
    pub fn from_jwks(document: &[u8]) -> Result<(Self, Vec<Ignored>), JwksError> {
        if document.len() > MAX_DOCUMENT {
            return Err(JwksError::TooLarge);
        }
        let text = str::from_utf8(document).map_err(|_| JwksError::Malformed)?;
        let document: Document<'_> = serde_json::from_str(text).map_err(|_| JwksError::Malformed)?;
        let mut keys = BTreeMap::new();
        let mut ignored = Vec::new();
        for entry in document.keys {
            let (kid, key) = match read_entry(entry.get()) {
                Ok(named) => named,
                Err(left_out) => {
                    ignored.push(left_out);
                    continue;
                }
            };
            match keys.get(&kid) {
                None if keys.len() == MAX_KEYS => return Err(JwksError::TooManyKeys),
                None => {
                    keys.insert(kid, key);
                }
                Some(known) if *known == key => ignored.push(Ignored { kid: Some(kid), why: Unusable::Repeated }),
                Some(_) => return Err(JwksError::Conflict(kid)),
            }
        }
        if keys.is_empty() { Err(JwksError::NoUsableKey(ignored)) } else { Ok((Self(Held::Named(keys)), ignored)) }
    }

    /// Reads `CLERK_JWT_KEY`: the PEM of the dashboard, also as environments hand it on (line breaks written as `\n`,
    /// turned into spaces or lost; quoted; only the base64 between the two lines).
    pub fn from_pem(text: &str) -> Result<Self, PemError> {
        let der = STANDARD.decode(pem_body(text)?).map_err(|_| PemError::Malformed)?;
        let key = PublicKey::from_der(&der).map_err(|_| PemError::Malformed)?;
        let (modulus, exponent) = (key.modulus(), key.exponent());
        Key::new(modulus.big_endian_without_leading_zero(), exponent.big_endian_without_leading_zero())
            .map(|key| Self(Held::Only(key)))
            .map_err(PemError::Unusable)
    }

    /// The key for tokens that name `kid`: exactly the key of that name, or the only one where it came without a name.
    #[must_use]
    pub fn get(&self, kid: Option<&Kid>) -> Option<&Key> {
        match &self.0 {
            Held::Named(keys) => keys.get(kid?),
            Held::Only(key) => Some(key),
        }
    }

    /// The names of the keys, in order; none where the key came from a PEM.
    pub fn names(&self) -> impl Iterator<Item = &Kid> {
        self.named().map(|(kid, _)| kid)
    }

    /// Whether both hold the same key, whatever its name: then both are of one instance.
    #[must_use]
    pub fn shares_a_key_with(&self, other: &Self) -> bool {
        self.all().any(|key| other.all().any(|theirs| key == theirs))
    }

    /// Every key.
    pub fn all(&self) -> impl Iterator<Item = &Key> {
        let only = match &self.0 {
            Held::Only(key) => Some(key),
            Held::Named(_) => None,
        };
        self.named().map(|(_, key)| key).chain(only)
    }

    pub(super) fn named(&self) -> impl Iterator<Item = (&Kid, &Key)> {
        match &self.0 {
            Held::Named(keys) => Some(keys),
            Held::Only(_) => None,
        }
        .into_iter()
        .flatten()
    }
}

fn read_entry(json: &str) -> Result<(Kid, Key), Ignored> {
    let left_out = |kid: Option<Kid>, why| Ignored { kid, why };
    let entry = Object::read(json.as_bytes()).ok_or(left_out(None, Unusable::Malformed))?;
    let text = |name| entry.get::<String>(name).map_err(|_| Unusable::Malformed);
    let kid = text("kid").ok().flatten().and_then(|kid| Kid::parse(&kid));
    let key = || {
        if text("kty")?.as_deref() != Some("RSA") {
            return Err(Unusable::NotRsa);
        }
        let operations: Option<Vec<String>> = entry.get("key_ops").map_err(|_| Unusable::Malformed)?;
        let verifies = operations.is_none_or(|allowed| allowed.iter().any(|operation| operation == "verify"));
        if !verifies || text("use")?.is_some_and(|purpose| purpose != "sig") {
            return Err(Unusable::NotForSignatures);
        }
        if text("alg")?.is_some_and(|algorithm| algorithm != "RS256") {
            return Err(Unusable::Algorithm);
        }
        let number = |name| text(name)?.as_deref().and_then(decode).ok_or(Unusable::Malformed);
        Key::new(&number("n")?, &number("e")?)
    };
    match (key(), kid) {
        (Ok(key), Some(kid)) => Ok((kid, key)),
        (Ok(_), None) => Err(left_out(None, Unusable::Malformed)),
        (Err(why), kid) => Err(left_out(kid, why)),
    }
}

/// The base64 of a PEM, without any white space.
fn pem_body(text: &str) -> Result<String, PemError> {
    const DASHES: &str = "-----";
    const LABELS: [&str; 2] = ["PUBLIC KEY", "RSA PUBLIC KEY"];
    if text.len() > MAX_DOCUMENT {
        return Err(PemError::Malformed);
    }
    let text = text.replace("\\r", "\r").replace("\\n", "\n");
    let text = text.trim().trim_matches(['"', '\'']).trim();
    if text.is_empty() {
        return Err(PemError::Empty);
    }
    if text.contains("PRIVATE KEY") {
        return Err(PemError::Private);
    }
    // Before the first dashes, label, body, label, and after the last dashes: or no dashes at all.
    let body = match text.split(DASHES).collect::<Vec<_>>()[..] {
        [body] => body,
        ["", begin, body, end, ""] => {
            let fits =
                |label: &&str| begin.strip_prefix("BEGIN ") == Some(label) && end.strip_prefix("END ") == Some(label);
            LABELS.iter().any(fits).then_some(body).ok_or(PemError::Malformed)?
        }
        _ => return Err(PemError::Malformed),
    };
    Ok(body.split_whitespace().collect())
}

//! Session tokens as a Clerk instance mints them, and as somebody would who forges one.
//!
//! Times are arguments. A key is made by the cryptographic library, with its own randomness; everything else is the same
//! for the same arguments.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaEncoding, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

/// How long Clerk's tokens live, in seconds.
pub const LIFETIME: i64 = 60;
/// The category of session tokens.
pub const SESSION_CATEGORY: &str = "cl_B7d4PD111AAA";

/// A new key of the size that Clerk uses.
///
/// # Panics
///
/// If the machine has no randomness.
#[must_use]
pub fn new_key() -> RsaKeyPair {
    RsaKeyPair::generate(KeySize::Rsa2048).expect("a key")
}

/// Base64url without padding, as tokens have it.
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key as Clerk publishes it.
#[must_use]
pub fn jwk(key: &RsaKeyPair, kid: &str) -> Value {
    let (n, e) = (key.public_key().modulus(), key.public_key().exponent());
    json!({
        "use": "sig", "kty": "RSA", "kid": kid, "alg": "RS256",
        "n": base64url(n.big_endian_without_leading_zero()), "e": base64url(e.big_endian_without_leading_zero()),
    })
}

/// The document of these keys, each with its name.
#[must_use]
pub fn jwks(named: &[(&str, &RsaKeyPair)]) -> String {
    let keys: Vec<Value> = named.iter().map(|(kid, key)| jwk(key, kid)).collect();
    json!({ "keys": keys }).to_string()
}

/// A key as the dashboard shows it.
///
/// # Panics
///
/// Never: a key that was made has a public half.
#[must_use]
pub fn pem(key: &RsaKeyPair) -> String {
    let der: PublicKeyX509Der<'_> = key.public_key().as_der().expect("a public key");
    pem_of(der.as_ref(), "PUBLIC KEY")
}

/// Any bytes as PEM.
#[must_use]
pub fn pem_of(der: &[u8], label: &str) -> String {
    let encoded = STANDARD.encode(der);
    let lines: Vec<&str> = (0..encoded.len()).step_by(64).map(|at| &encoded[at..encoded.len().min(at + 64)]).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A token in the making.
#[derive(Debug, Clone)]
pub struct Draft<'k> {
    key: &'k RsaKeyPair,
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

impl<'k> Draft<'k> {
    /// A good version 2 token without an organization, issued at this second.
    #[must_use]
    pub fn new(key: &'k RsaKeyPair, kid: &str, issuer: &str, user: &str, now: i64) -> Self {
        let object = |value: Value| value.as_object().cloned().unwrap_or_default();
        Self {
            key,
            header: object(json!({"alg": "RS256", "cat": SESSION_CATEGORY, "kid": kid, "typ": "JWT"})),
            claims: object(json!({
                "azp": "https://app.example.com", "exp": now + LIFETIME, "fva": [0, -1], "iat": now, "iss": issuer,
                "jti": "5f2b1c", "nbf": now - 10, "sid": "sess_1", "sts": "active", "sub": user, "v": 2,
            })),
        }
    }

    /// Sets one member of the header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.into(), value.into());
        self
    }

    /// Takes one member from the header.
    #[must_use]
    pub fn without_header(mut self, name: &str) -> Self {
        self.header.remove(name);
        self
    }

    /// Sets one claim.
    #[must_use]
    pub fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self
    }

    /// Sets the claims of an object.
    ///
    /// # Panics
    ///
    /// If it is no object.
    #[must_use]
    pub fn claims(mut self, claims: Value) -> Self {
        let Value::Object(claims) = claims else { panic!("{claims} is no object") };
        self.claims.extend(claims);
        self
    }

    /// Takes one claim away.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    /// With an active organization, in version 2's form: the role without `org:`.
    #[must_use]
    pub fn organization(self, id: &str, role: &str, slug: &str) -> Self {
        self.claim("o", json!({ "id": id, "rol": role, "slg": slug }))
    }

    /// The header as it is signed.
    #[must_use]
    pub fn header_json(&self) -> String {
        Value::Object(self.header.clone()).to_string()
    }

    /// The claims as they are signed.
    #[must_use]
    pub fn claims_json(&self) -> String {
        Value::Object(self.claims.clone()).to_string()
    }

    /// Signed by the instance.
    #[must_use]
    pub fn sign(&self) -> String {
        self.sign_with(self.key)
    }

    /// Signed by another, with the same header.
    #[must_use]
    pub fn sign_with(&self, key: &RsaKeyPair) -> String {
        sign(&self.header_json(), &self.claims_json(), key, &RSA_PKCS1_SHA256)
    }
}

/// Signs any two texts in any way, whether or not they are JSON.
///
/// # Panics
///
/// If the machine has no randomness.
pub fn sign(header: &str, claims: &str, key: &RsaKeyPair, encoding: &'static dyn RsaEncoding) -> String {
    let signed = format!("{}.{}", base64url(header), base64url(claims));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(encoding, &SystemRandom::new(), signed.as_bytes(), &mut signature).expect("a signature");
    format!("{signed}.{}", base64url(signature))
}

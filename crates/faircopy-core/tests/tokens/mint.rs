//! Tokens as Clerk makes them, and as an attacker would.

use std::sync::OnceLock;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaEncoding, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use faircopy_core::Millis;
use faircopy_core::token::{Keys, Policy};
use serde_json::{Map, Value, json};

/// When everything here happens, in seconds.
pub(crate) const NOW: i64 = 1_760_000_000;
pub(crate) const ISSUER: &str = "https://clerk.example.com";
pub(crate) const KID: &str = "ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S";
pub(crate) const OTHER_KID: &str = "ins_33oTHeRiNsTaNcE0000000000000";

/// The instance's key, made once for each run.
pub(crate) fn instance() -> &'static RsaKeyPair {
    static KEY: OnceLock<RsaKeyPair> = OnceLock::new();
    KEY.get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"))
}

/// A key of somebody else.
pub(crate) fn other() -> &'static RsaKeyPair {
    static KEY: OnceLock<RsaKeyPair> = OnceLock::new();
    KEY.get_or_init(|| RsaKeyPair::generate(KeySize::Rsa2048).expect("a key"))
}

pub(crate) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A key as Clerk publishes it.
pub(crate) fn jwk(key: &RsaKeyPair, kid: &str) -> Value {
    let (n, e) = (key.public_key().modulus(), key.public_key().exponent());
    json!({
        "use": "sig", "kty": "RSA", "kid": kid, "alg": "RS256",
        "n": base64url(n.big_endian_without_leading_zero()), "e": base64url(e.big_endian_without_leading_zero()),
    })
}

pub(crate) fn jwks(keys: &[Value]) -> Vec<u8> {
    json!({"keys": keys}).to_string().into_bytes()
}

/// The keys of these names, each with its key pair.
pub(crate) fn keys(named: &[(&str, &RsaKeyPair)]) -> Keys {
    let entries: Vec<Value> = named.iter().map(|(kid, key)| jwk(key, kid)).collect();
    Keys::from_jwks(&jwks(&entries)).expect("good keys").0
}

/// The key as the dashboard shows it.
pub(crate) fn pem(key: &RsaKeyPair) -> String {
    let der: PublicKeyX509Der<'_> = key.public_key().as_der().expect("a public key");
    pem_of(der.as_ref(), "PUBLIC KEY")
}

pub(crate) fn pem_of(der: &[u8], label: &str) -> String {
    let encoded = STANDARD.encode(der);
    let lines: Vec<&str> = (0..encoded.len()).step_by(64).map(|at| &encoded[at..encoded.len().min(at + 64)]).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A token in the making.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

/// A good version 2 token without an organization, issued now.
pub(crate) fn good() -> Draft {
    let object = |value: Value| value.as_object().expect("an object").clone();
    Draft {
        header: object(json!({"alg": "RS256", "cat": "cl_B7d4PD111AAA", "kid": KID, "typ": "JWT"})),
        claims: object(json!({
            "azp": "https://app.example.com", "exp": NOW + 60, "fva": [0, -1], "iat": NOW, "iss": ISSUER,
            "jti": "5f2b1c", "nbf": NOW - 10, "sid": "sess_1", "sts": "active", "sub": "user_1", "v": 2,
        })),
    }
}

impl Draft {
    pub(crate) fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header.insert(name.into(), value.into());
        self
    }

    pub(crate) fn without_header(mut self, name: &str) -> Self {
        self.header.remove(name);
        self
    }

    pub(crate) fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims.insert(name.into(), value.into());
        self
    }

    pub(crate) fn claims(mut self, claims: Value) -> Self {
        let Value::Object(claims) = claims else { panic!("{claims} is no object") };
        self.claims.extend(claims);
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.claims.remove(name);
        self
    }

    pub(crate) fn header_json(&self) -> String {
        Value::Object(self.header.clone()).to_string()
    }

    pub(crate) fn claims_json(&self) -> String {
        Value::Object(self.claims.clone()).to_string()
    }

    /// Signed by the instance.
    pub(crate) fn sign(&self) -> String {
        self.sign_with(instance())
    }

    pub(crate) fn sign_with(&self, key: &RsaKeyPair) -> String {
        sign(&self.header_json(), &self.claims_json(), key, &RSA_PKCS1_SHA256)
    }
}

/// Signs any two texts, whether or not they are JSON.
pub(crate) fn sign(header: &str, claims: &str, key: &RsaKeyPair, encoding: &'static dyn RsaEncoding) -> String {
    let signed = format!("{}.{}", base64url(header), base64url(claims));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(encoding, &SystemRandom::new(), signed.as_bytes(), &mut signature).expect("a signature");
    format!("{signed}.{}", base64url(signature))
}

pub(crate) fn now() -> Millis {
    Millis::from_seconds(NOW)
}

pub(crate) fn policy() -> Policy {
    Policy::new(Some(ISSUER.into()))
}

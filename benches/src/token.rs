//! A session token as Clerk mints it, and its check.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use faircopy_core::Millis;
use faircopy_core::token::{self, Keys, Policy};
use serde_json::json;

const ISSUER: &str = "https://clerk.example.com";
const NOW: i64 = 1_760_000_000;

/// A token, its key and the rules that it keeps.
pub struct Good {
    token: String,
    keys: Keys,
    policy: Policy,
}

/// Mints one with a key of its own.
///
/// # Panics
///
/// If the machine gives no randomness.
#[must_use]
pub fn good() -> Good {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
    let (n, e) = (key.public_key().modulus(), key.public_key().exponent());
    let (n, e) = (n.big_endian_without_leading_zero(), e.big_endian_without_leading_zero());
    let jwk = json!({"use": "sig", "kty": "RSA", "kid": "ins_1", "alg": "RS256", "n": BASE64.encode(n), "e": BASE64.encode(e)});
    let (keys, _) = Keys::from_jwks(json!({"keys": [jwk]}).to_string().as_bytes()).expect("a key set");
    let header = json!({"alg": "RS256", "kid": "ins_1", "typ": "JWT"});
    let claims = json!({
        "azp": "https://app.example.com", "exp": NOW + 60, "iat": NOW, "nbf": NOW - 10, "iss": ISSUER, "sid": "sess_1",
        "sub": "user_1", "v": 2, "sts": "active", "fva": [0, -1], "jti": "0123456789abcdef0123",
        "o": {"id": "org_1", "rol": "admin", "slg": "acme", "per": "read,manage", "fpm": "3"}, "fea": "o:docs",
    });
    let signed = format!("{}.{}", BASE64.encode(header.to_string()), BASE64.encode(claims.to_string()));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).expect("a signature");
    let good = Good {
        token: format!("{signed}.{}", BASE64.encode(signature)),
        keys,
        policy: Policy::new(Some(ISSUER.into())),
    };
    assert!(good.verify());
    good
}

impl Good {
    /// Whether it is good.
    #[must_use]
    pub fn verify(&self) -> bool {
        token::verify(&self.token, Millis(NOW * 1000), &self.keys, &self.policy).is_ok()
    }
}

//! The instance's names: its key pair, its secret key, its publishable key.

use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use faircopy_world::token;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;

use crate::instance::{Claims, Dice};

/// Letters of a made up secret key, as Clerk's have.
const KEY_LETTERS: usize = 42;

/// What the instance is known by and signs with.
#[derive(Debug, Clone)]
pub struct Keys {
    pair: Arc<RsaKeyPair>,
    secret: String,
    instance: String,
    issuer: String,
}

/// The part of it that is written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Written {
    /// PKCS #8 in base64.
    pair: String,
    pub(crate) secret: String,
    pub(crate) instance: String,
}

impl Keys {
    /// Names for an instance whose Frontend API is at this address.
    pub(crate) fn new(pair: Arc<RsaKeyPair>, secret: String, instance: String, issuer: String) -> Self {
        Self { pair, secret, instance, issuer }
    }

    /// The key of the Backend API.
    #[must_use]
    pub fn secret_key(&self) -> &str {
        &self.secret
    }

    /// Whether it is a production instance's.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.secret.starts_with("sk_live_")
    }

    /// The key that a front end has: the Frontend API's host, encoded.
    #[must_use]
    pub fn publishable_key(&self) -> String {
        let host = self.issuer.split_once("://").map_or(self.issuer.as_str(), |(_, host)| host);
        let environment = if self.is_live() { "live" } else { "test" };
        format!("pk_{environment}_{}", STANDARD.encode(format!("{host}$")))
    }

    /// The instance's id, which is the key's name.
    #[must_use]
    pub fn instance_id(&self) -> &str {
        &self.instance
    }

    /// What tokens name as their issuer: the address.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The key that tokens are verified with, as PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        token::pem(&self.pair)
    }

    /// The same as a key set.
    #[must_use]
    pub fn jwks(&self) -> Value {
        json!({ "keys": [token::jwk(&self.pair, &self.instance)] })
    }

    /// The key pair itself, for tokens that are wrong on purpose.
    #[must_use]
    pub fn pair(&self) -> &Arc<RsaKeyPair> {
        &self.pair
    }

    /// A signed token.
    #[must_use]
    pub fn sign(&self, claims: &Claims) -> String {
        let mut header = json!({ "alg": "RS256", "kid": self.instance, "typ": "JWT" });
        if claims.of_session {
            header["cat"] = token::SESSION_CATEGORY.into();
        }
        let claims = Value::Object(claims.claims.clone());
        token::sign(&header.to_string(), &claims.to_string(), &self.pair, &RSA_PKCS1_SHA256)
    }

    /// Whether a request has the right key.
    pub(crate) fn admits(&self, key: &str) -> bool {
        key.as_bytes().ct_eq(self.secret.as_bytes()).into()
    }

    pub(crate) fn written(&self) -> Option<Written> {
        let der: Pkcs8V1Der<'_> = self.pair.as_der().ok()?;
        let pair = STANDARD.encode(der.as_ref());
        Some(Written { pair, secret: self.secret.clone(), instance: self.instance.clone() })
    }
}

impl Written {
    /// The key pair, if it is one.
    pub(crate) fn pair(&self) -> Option<RsaKeyPair> {
        RsaKeyPair::from_pkcs8(&STANDARD.decode(&self.pair).ok()?).ok()
    }
}

/// A secret key that nobody else has, as far as the seed goes.
pub(crate) fn made_up_secret_key(dice: &mut Dice) -> String {
    format!("sk_test_{}", dice.letters(KEY_LETTERS))
}

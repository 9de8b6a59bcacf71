//! The tokens of these tests: those of the model world, at one time and of one instance.

use std::sync::OnceLock;

use aws_lc_rs::signature::RsaKeyPair;
use faircopy_core::Millis;
use faircopy_core::token::{Keys, Policy};
use serde_json::{Value, json};

pub(crate) use faircopy_world::token::{Draft, base64url, jwk, pem, pem_of, sign};

/// When everything here happens, in seconds.
pub(crate) const NOW: i64 = 1_760_000_000;
pub(crate) const ISSUER: &str = "https://clerk.example.com";
pub(crate) const KID: &str = "ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S";
pub(crate) const OTHER_KID: &str = "ins_33oTHeRiNsTaNcE0000000000000";

/// The instance's key, made once for each run.
pub(crate) fn instance() -> &'static RsaKeyPair {
    static KEY: OnceLock<RsaKeyPair> = OnceLock::new();
    KEY.get_or_init(faircopy_world::token::new_key)
}

/// A key of somebody else.
pub(crate) fn other() -> &'static RsaKeyPair {
    static KEY: OnceLock<RsaKeyPair> = OnceLock::new();
    KEY.get_or_init(faircopy_world::token::new_key)
}

/// A document of any entries.
pub(crate) fn jwks(entries: &[Value]) -> Vec<u8> {
    json!({"keys": entries}).to_string().into_bytes()
}

/// The keys of these names, each with its key pair.
pub(crate) fn keys(named: &[(&str, &RsaKeyPair)]) -> Keys {
    Keys::from_jwks(faircopy_world::token::jwks(named).as_bytes()).expect("good keys").0
}

/// A good version 2 token without an organization, issued now.
pub(crate) fn good() -> Draft<'static> {
    Draft::new(instance(), KID, ISSUER, "user_1", NOW)
}

pub(crate) fn now() -> Millis {
    Millis::from_seconds(NOW)
}

pub(crate) fn policy() -> Policy {
    Policy::new(Some(ISSUER.into()))
}

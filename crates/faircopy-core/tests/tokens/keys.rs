//! Key sets: documents and PEMs, whole, odd and poisoned.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use faircopy_core::token::{Ignored, JwksError, Keys, Kid, MAX_DOCUMENT, MAX_KEYS, PemError, Unusable, verify};
use serde_json::{Value, json};

use crate::mint::{KID, OTHER_KID, base64url, good, instance, jwk, jwks, now, other, pem, pem_of, policy};

fn kid(text: &str) -> Kid {
    Kid::parse(text).expect("a name")
}

fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut entry = jwk(instance(), KID);
    entry[name] = value.into();
    entry
}

/// A modulus of so many bits that is the product of nobody knows what.
fn modulus(bits: usize) -> String {
    let mut bytes = vec![0xa5; bits.div_ceil(8)];
    bytes[0] = 1 << ((bits - 1) % 8);
    base64url(&bytes)
}

fn decoded(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).expect("base64url")
}

#[test]
fn a_document_gives_its_usable_keys() {
    let document = jwks(&[jwk(instance(), KID), jwk(other(), OTHER_KID)]);
    let (keys, ignored) = Keys::from_jwks(&document).expect("good keys");
    assert_eq!(keys.names().collect::<Vec<_>>(), [&kid(KID), &kid(OTHER_KID)]);
    assert!(ignored.is_empty());
    assert!(keys.get(Some(&kid("ins_nobody"))).is_none());
    assert!(keys.get(None).is_none());
    assert!(verify(&good().sign(), now(), &keys, &policy()).is_ok());
    assert!(verify(&good().header("kid", OTHER_KID).sign_with(other()), now(), &keys, &policy()).is_ok());

    // What Clerk may add, and what it may leave out.
    let mut sparse = with("x5t", "abc");
    sparse["key_ops"] = json!(["verify"]);
    for optional in ["use", "alg"] {
        sparse.as_object_mut().expect("an object").remove(optional);
    }
    let document = json!({"keys": [sparse], "more": 1}).to_string();
    assert!(Keys::from_jwks(document.as_bytes()).is_ok());
}

#[test]
fn what_cannot_sign_sessions_is_left_out_with_its_reason() {
    let check = |entry: Value, expected: Unusable| {
        let document = jwks(&[entry.clone(), jwk(other(), OTHER_KID)]);
        let (keys, ignored) = Keys::from_jwks(&document).expect("one good key");
        assert_eq!(ignored.iter().map(|ignored| ignored.why).collect::<Vec<_>>(), [expected], "{entry}");
        assert_eq!(keys.names().collect::<Vec<_>>(), [&kid(OTHER_KID)]);
        let alone = Keys::from_jwks(&jwks(&[entry]));
        assert_eq!(alone, Err(JwksError::NoUsableKey(ignored)));
    };
    check(with("use", "enc"), Unusable::NotForSignatures);
    check(with("key_ops", json!(["sign"])), Unusable::NotForSignatures);
    check(with("alg", "RS512"), Unusable::Algorithm);
    check(with("alg", "HS256"), Unusable::Algorithm);
    check(with("kty", "EC"), Unusable::NotRsa);
    check(json!({"kty": "oct", "kid": KID, "k": "c2VjcmV0"}), Unusable::NotRsa);
    check(json!({"kty": "OKP", "kid": KID, "crv": "Ed25519", "x": "AA"}), Unusable::NotRsa);
    check(with("n", modulus(512)), Unusable::Size);
    check(with("n", modulus(1024)), Unusable::Size);
    check(with("n", modulus(2047)), Unusable::Size);
    check(with("n", modulus(8193)), Unusable::Size);
    check(with("n", ""), Unusable::Size);
    check(with("e", "Aw"), Unusable::Exponent);
    check(with("e", "AQ"), Unusable::Exponent);
    check(with("e", "AAEAAQ"), Unusable::Exponent);
    check(with("n", "not base64!"), Unusable::Malformed);
    check(with("n", 7), Unusable::Malformed);
    check(with("e", Value::Null), Unusable::Malformed);
    check(with("kid", Value::Null), Unusable::Malformed);
    check(with("kid", "../../etc/passwd"), Unusable::Malformed);
    check(json!("a text"), Unusable::Malformed);
    check(json!(null), Unusable::Malformed);
    // A modulus of 2048 bits behind a zero: encoded otherwise than RFC 7518 says.
    check(with("n", base64url([&[0], &[0xa5; 256][..]].concat())), Unusable::Malformed);
}

#[test]
fn the_ignored_are_named() {
    let document = jwks(&[with("use", "enc"), jwk(instance(), KID), jwk(instance(), KID), json!({})]);
    let (keys, ignored) = Keys::from_jwks(&document).expect("one good key");
    let expected = [
        Ignored { kid: Some(kid(KID)), why: Unusable::NotForSignatures },
        Ignored { kid: Some(kid(KID)), why: Unusable::Repeated },
        Ignored { kid: None, why: Unusable::NotRsa },
    ];
    assert_eq!(ignored, expected);
    assert_eq!(keys.names().count(), 1);
}

#[test]
fn a_poisoned_document_is_refused() {
    let check = |document: &[u8], expected: JwksError| assert_eq!(Keys::from_jwks(document), Err(expected));
    check(b"", JwksError::Malformed);
    check(b"<html><body>502 Bad Gateway</body></html>", JwksError::Malformed);
    check(b"{}", JwksError::Malformed);
    check(b"[]", JwksError::Malformed);
    check(br#"{"keys":{}}"#, JwksError::Malformed);
    check(br#"{"keys":[],"keys":[]}"#, JwksError::Malformed);
    check(b"{\"keys\":[\xff]}", JwksError::Malformed);
    check(&jwks(&[jwk(instance(), KID)])[..300], JwksError::Malformed);
    check("[".repeat(60_000).as_bytes(), JwksError::Malformed);
    check(br#"{"keys":[]}"#, JwksError::NoUsableKey(vec![]));
    check(&vec![b' '; MAX_DOCUMENT + 1], JwksError::TooLarge);
    check(&jwks(&vec![jwk(instance(), KID); 10_000]), JwksError::TooLarge);
    check(&jwks(&[jwk(instance(), KID), jwk(other(), KID)]), JwksError::Conflict(kid(KID)));
    check(&jwks(&[jwk(other(), KID), jwk(instance(), KID), jwk(other(), OTHER_KID)]), JwksError::Conflict(kid(KID)));

    let many = |count: usize| jwks(&(0..count).map(|n| jwk(instance(), &format!("ins_{n}"))).collect::<Vec<_>>());
    assert_eq!(Keys::from_jwks(&many(MAX_KEYS)).expect("as many as allowed").0.names().count(), MAX_KEYS);
    check(&many(MAX_KEYS + 1), JwksError::TooManyKeys);
}

#[test]
fn a_key_that_nobody_holds_verifies_nothing() {
    let even = base64url([&[0xa5; 255][..], &[0x42]].concat());
    for n in [even, modulus(2048), modulus(8192)] {
        if let Ok((keys, _)) = Keys::from_jwks(&jwks(&[with("n", n)])) {
            assert!(verify(&good().sign(), now(), &keys, &policy()).is_err());
        }
    }
}

#[test]
fn a_pem_is_read_as_environments_hand_it_on() {
    let pem = pem(instance());
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    for text in [
        &pem,
        &pem.replace('\n', "\r\n"),
        &pem.replace('\n', "\\n"),
        &pem.replace('\n', "\\r\\n"),
        &pem.replace('\n', " "),
        &pem.replace('\n', ""),
        &format!("\"{}\"", pem.trim().replace('\n', "\\n")),
        &format!("  \n{pem}\n\n"),
        &body,
        &pem_of(instance().public_key().as_ref(), "RSA PUBLIC KEY"),
    ] {
        let keys = Keys::from_pem(text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
        assert!(verify(&good().sign(), now(), &keys, &policy()).is_ok(), "{text:?}");
        // One key without a name: it is tried whatever the token names, and only its own tokens fit.
        assert!(verify(&good().without_header("kid").sign(), now(), &keys, &policy()).is_ok());
        assert!(verify(&good().sign_with(other()), now(), &keys, &policy()).is_err());
        assert_eq!(keys.names().count(), 0);
    }
}

#[test]
fn a_pem_that_is_no_public_key_is_refused() {
    let check = |text: &str, expected: PemError| assert_eq!(Keys::from_pem(text), Err(expected), "{text}");
    let good = pem(instance());
    check("", PemError::Empty);
    check(" \n", PemError::Empty);
    check("\"\"", PemError::Empty);
    check("not a key", PemError::Malformed);
    check(&good.replace("PUBLIC KEY", "CERTIFICATE"), PemError::Malformed);
    check(&good.replace("-----END PUBLIC KEY-----", ""), PemError::Malformed);
    check(&good.replacen("BEGIN PUBLIC", "BEGIN RSA PUBLIC", 1), PemError::Malformed);
    check(&format!("{good}{good}"), PemError::Malformed);
    check(&good[..200], PemError::Malformed);
    check(&good.replacen('A', "!", 1), PemError::Malformed);
    check(&"A".repeat(MAX_DOCUMENT + 1), PemError::Malformed);
    let weak = PublicKeyComponents { n: decoded(&modulus(1024)), e: vec![1, 0, 1] }.as_der().expect("any numbers");
    check(&pem_of(weak.as_ref(), "PUBLIC KEY"), PemError::Unusable(Unusable::Size));
    let private = instance().as_der().expect("a private key");
    check(&pem_of(private.as_ref(), "PRIVATE KEY"), PemError::Private);
    check(&pem_of(private.as_ref(), "PUBLIC KEY"), PemError::Malformed);
}

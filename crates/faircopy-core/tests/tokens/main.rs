//! Only a session token that Clerk signed for this instance, now, is taken for a session:
//!
//! - each row of the table of faults.md (session-JWT verification) is refused for its own reason, or accepted;
//! - times are judged to the millisecond around the leeway;
//! - every change of one character of a good token is refused, and no bytes make anything panic;
//! - `claims`: both versions, all published permission vectors, and what the merge makes of a session;
//! - `keys`: documents and PEMs, whole, odd and poisoned;
//! - `cache`: rows J1 to J5 of faults.md, as far as they are pure.

mod cache;
mod claims;
mod keys;
mod mint;
mod verified;

use aws_lc_rs::signature::{RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256};
use faircopy_core::Millis;
use faircopy_core::token::{
    Class, Keys, MAX_TOKEN, Policy, Rejection, Session, classify, open, permissions::grants, verify,
};
use hmac::{Hmac, Mac};
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::Sha256;

use mint::{Draft, ISSUER, KID, NOW, OTHER_KID, base64url, good, instance, now, other, pem, policy, sign};

fn instance_keys() -> Keys {
    mint::keys(&[(KID, instance())])
}

fn judge(token: &str) -> Result<Session, Rejection> {
    verify(token, now(), &instance_keys(), &policy())
}

/// The one check of the table: what becomes of a token under the strict policy.
#[track_caller]
fn check(token: &str, expected: Result<(), Rejection>) {
    assert_eq!(judge(token).map(|_| ()), expected, "{token}");
}

#[track_caller]
fn accepted(draft: &Draft) {
    check(&draft.sign(), Ok(()));
}

#[track_caller]
fn refused(draft: &Draft, expected: Rejection) {
    check(&draft.sign(), Err(expected));
}

#[test]
fn a_good_token_is_a_session() {
    accepted(&good());
    accepted(&good().without_header("typ").without_header("cat"));
    // What an instance stamps on every class when it does not tell them apart.
    accepted(&good().header("cat", "cl_I7d4PD111III"));
    accepted(&good().header("oiat", NOW).claim("custom", json!({"any": ["thing", 1.5, null]})));
}

#[test]
fn another_algorithm_is_refused() {
    let none = format!("{}.{}.", base64url(r#"{"alg":"none","typ":"JWT"}"#), base64url(good().claims_json()));
    check(&none, Err(Rejection::Algorithm));
    refused(&good().header("alg", "none"), Rejection::Algorithm);
    refused(&good().header("alg", "RS512"), Rejection::Algorithm);
    refused(&good().header("alg", "rs256"), Rejection::Algorithm);
    refused(&good().header("alg", "PS256"), Rejection::Algorithm);
    refused(&good().header("alg", json!(["RS256"])), Rejection::Algorithm);
    refused(&good().without_header("alg"), Rejection::Algorithm);
    for (alg, encoding) in [("RS384", &RSA_PKCS1_SHA384), ("RS512", &RSA_PKCS1_SHA512), ("PS256", &RSA_PSS_SHA256)] {
        let header = good().header("alg", alg).header_json();
        check(&sign(&header, &good().claims_json(), instance(), encoding), Err(Rejection::Algorithm));
        // The header may say RS256: what was signed decides.
        let header = good().header_json();
        check(&sign(&header, &good().claims_json(), instance(), encoding), Err(Rejection::Signature));
    }
}

#[test]
fn the_public_key_is_no_shared_secret() {
    for alg in ["HS256", "RS256"] {
        let signed =
            format!("{}.{}", base64url(good().header("alg", alg).header_json()), base64url(good().claims_json()));
        let mut mac = Hmac::<Sha256>::new_from_slice(pem(instance()).as_bytes()).expect("any length");
        mac.update(signed.as_bytes());
        let token = format!("{signed}.{}", base64url(mac.finalize().into_bytes()));
        check(&token, Err(if alg == "HS256" { Rejection::Algorithm } else { Rejection::Signature }));
    }
}

#[test]
fn a_signature_must_be_the_instances_own() {
    let token = good().sign();
    let (signed, _) = token.rsplit_once('.').expect("three parts");
    check(&format!("{signed}."), Err(Rejection::Signature));
    check(&format!("{signed}.{}", base64url([0; 256])), Err(Rejection::Signature));
    check(&format!("{signed}.{}", base64url([0xff; 256])), Err(Rejection::Signature));
    check(&good().sign_with(other()), Err(Rejection::Signature));
    let (other_signed, signature) = (good().claim("sub", "user_2").sign(), token.rsplit_once('.').expect("three").1);
    check(&format!("{}.{signature}", other_signed.rsplit_once('.').expect("three").0), Err(Rejection::Signature));
    // Another instance's token, with that instance's real key and name.
    check(&good().header("kid", OTHER_KID).sign_with(other()), Err(Rejection::UnknownKey));
}

#[test]
fn two_instances_in_one_process_do_not_mix() {
    let (ours, theirs) = (instance_keys(), mint::keys(&[(OTHER_KID, other())]));
    let token = good().header("kid", OTHER_KID).sign_with(other());
    assert!(verify(&token, now(), &theirs, &policy()).is_ok());
    assert_eq!(verify(&token, now(), &ours, &policy()), Err(Rejection::UnknownKey));
    assert_eq!(verify(&good().sign(), now(), &theirs, &policy()), Err(Rejection::UnknownKey));
}

#[test]
fn keys_come_from_the_configured_place_only() {
    let stranger = mint::jwk(other(), KID);
    accepted(&good().header("jku", "https://evil.example/jwks.json").header("x5u", "https://evil.example/cert"));
    accepted(&good().header("jwk", stranger.clone()));
    let lured = good().header("jwk", stranger).header("jku", "https://evil.example/jwks.json");
    check(&lured.sign_with(other()), Err(Rejection::Signature));
}

#[test]
fn what_can_be_no_key_is_not_looked_up() {
    for kid in ["../../etc/passwd", "' OR 1=1 --", "ins_1\0", "", "ins 1", "ключ", &"k".repeat(129)] {
        refused(&good().header("kid", kid), Rejection::MalformedKid);
    }
    refused(&good().header("kid", 7), Rejection::MalformedKid);
    refused(&good().header("kid", "k".repeat(10_000)), Rejection::TooLong);
    refused(&good().header("kid", "k".repeat(128)), Rejection::UnknownKey);
    refused(&good().without_header("kid"), Rejection::UnknownKey);
}

#[test]
fn headers_that_change_the_meaning_are_refused() {
    refused(&good().header("crit", json!(["b64"])).header("b64", false), Rejection::Critical);
    refused(&good().header("crit", json!([])), Rejection::Critical);
    refused(&good().header("crit", Value::Null), Rejection::Critical);
    refused(&good().header("typ", "jwt"), Rejection::Type);
    refused(&good().header("typ", "JOSE"), Rejection::Type);
    refused(&good().header("typ", 7), Rejection::Malformed);
}

#[test]
fn other_tokens_are_refused_by_name() {
    let check = |token: &str, class: Class| {
        check(token, Err(Rejection::OtherClass(class)));
        assert_eq!(classify(token), Ok(class), "{token}");
    };
    check("ak_3beecc9c60adb5f9b850e91a8ee1e992", Class::ApiKey);
    check("mt_3beecc9c60adb5f9b850e91a8ee1e992", Class::Machine);
    check("oat_3beecc9c60adb5f9b850e91a8ee1e992", Class::OAuth);
    check(&good().header("cat", "cl_B7d4PD222AAA").sign(), Class::Template);
    check(&good().header("cat", "cl_B7d4PD333AAA").sign(), Class::Machine);
    check(&good().header("cat", "cl_B7d4PD999AAA").sign(), Class::Unknown);
    check(&good().header("typ", "at+jwt").sign(), Class::OAuth);
    check(&good().header("typ", "application/at+jwt").sign(), Class::OAuth);
    assert_eq!(classify(&good().sign()), Ok(Class::Session));
    assert_eq!(classify("sk_test_no_token"), Err(Rejection::Malformed));
    // What only the claims tell.
    refused(&good().claim("sub", "mch_1"), Rejection::OtherClass(Class::Machine));
    let handshake = sign(
        &good().header_json(),
        r#"{"handshake":["__session=; Path=/"]}"#,
        instance(),
        &aws_lc_rs::signature::RSA_PKCS1_SHA256,
    );
    crate::check(&handshake, Err(Rejection::Claim("sub")));
}

#[test]
fn a_token_has_exactly_its_form() {
    let token = good().sign();
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { panic!("three parts") };
    for malformed in [
        "",
        ".",
        "..",
        "...",
        "not a token",
        header,
        &format!("{header}.{payload}"),
        &format!("{token}.{signature}"),
        &format!("{token}."),
        &format!(".{token}"),
        &format!("{header}..{signature}"),
        &format!(".{payload}.{signature}"),
        &format!("{token}=="),
        &format!("{header}=.{payload}.{signature}"),
        &format!("{token} "),
        &format!(" {token}"),
        &format!("Bearer {token}"),
        &token.replace('_', "/").replace('-', "+").replace('.', ". "),
        &format!("{header}.{payload}.{signature}\n"),
    ] {
        let verdict = judge(malformed);
        // An empty payload is base64url: only the signature tells.
        assert!(matches!(verdict, Err(Rejection::Malformed | Rejection::Signature)), "{malformed:?}: {verdict:?}");
    }
    check(&"a".repeat(MAX_TOKEN + 1), Err(Rejection::TooLong));
    check(&good().claim("custom", "x".repeat(MAX_TOKEN)).sign(), Err(Rejection::TooLong));
    accepted(&good().claim("custom", "x".repeat(4000)));
}

#[test]
fn json_that_two_readers_could_read_differently_is_refused() {
    let (header, claims) = (good().header_json(), good().claims_json());
    let sign = |header: &str, claims: &str| sign(header, claims, instance(), &aws_lc_rs::signature::RSA_PKCS1_SHA256);
    let twice = |object: &str, member: &str| object.replacen('{', &format!("{{{member},"), 1);
    check(&sign(&header, &claims), Ok(()));
    check(&sign(&header, &twice(&claims, r#""sub":"user_2""#)), Err(Rejection::Malformed));
    check(&sign(&header, &twice(&claims, r#""s\u0075b":"user_2""#)), Err(Rejection::Malformed));
    check(&sign(&header, &twice(&twice(&claims, r#""mine":1"#), r#""mine":2"#)), Err(Rejection::Malformed));
    check(&sign(&twice(&header, r#""alg":"RS256""#), &claims), Err(Rejection::Malformed));
    check(&sign(&twice(&header, r#""kid":"ins_x""#), &claims), Err(Rejection::Malformed));
    for odd in ["null", "[]", "7", "", "{}x", "\u{feff}{}", r#"{"sub":}"#, &"[".repeat(4000)] {
        check(&sign(&header, odd), Err(Rejection::Malformed));
        check(&sign(odd, &claims), Err(Rejection::Malformed));
    }
    let twice_inside = json!({"o": {"id": "org_1", "rol": "member"}}).to_string();
    let inside = twice(&claims, &twice_inside[1..twice_inside.len() - 1].replace(r#""rol""#, r#""id":"org_2","rol""#));
    check(&sign(&header, &inside), Err(Rejection::Claim("o")));
}

#[test]
fn required_claims_must_be_there_and_of_their_type() {
    for name in ["exp", "nbf", "iat"] {
        refused(&good().without(name), Rejection::Claim(name));
        for odd in [json!("1760000060"), json!(1e300), json!(-1), json!(1_760_000_060.5), json!([NOW]), json!(true)] {
            refused(&good().claim(name, odd), Rejection::Claim(name));
        }
        refused(&good().claim(name, i64::MAX), Rejection::Claim(name));
        refused(&good().claim(name, u64::MAX), Rejection::Claim(name));
        refused(&good().claim(name, Value::Null), Rejection::Claim(name));
    }
    refused(&good().without("sub"), Rejection::Claim("sub"));
    for odd in [json!(7), json!(null), json!("org_1"), json!("user_"), json!("user_../x"), json!(["user_1"])] {
        refused(&good().claim("sub", odd), Rejection::Claim("sub"));
    }
    for name in ["sid", "azp", "act", "sts", "v", "o"] {
        refused(&good().claim(name, json!([1])), Rejection::Claim(name));
    }
}

#[test]
fn the_issuer_is_exactly_the_configured_one() {
    refused(&good().without("iss"), Rejection::Issuer);
    for odd in [
        json!("https://other.example.com"),
        json!(format!("{ISSUER}/")),
        json!(format!("{ISSUER} ")),
        json!("HTTPS://CLERK.EXAMPLE.COM"),
        json!([ISSUER]),
        json!({"iss": ISSUER}),
        json!(""),
        json!(null),
    ] {
        refused(&good().claim("iss", odd), Rejection::Issuer);
    }
    // A PEM can name the instance in its place; some issuer there must be.
    let any = Policy::new(None);
    let by_pem = |draft: Draft| verify(&draft.sign(), now(), &instance_keys(), &any).map(|_| ());
    assert_eq!(by_pem(good().claim("iss", "https://other.example.com")), Ok(()));
    assert_eq!(by_pem(good().without("iss")), Err(Rejection::Issuer));
}

#[test]
fn parties_and_audiences_are_required_where_configured() {
    let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let mut strict = policy();
    strict.authorized_parties = list(&["https://app.example.com", "https://www.example.com"]);
    let check = |draft: Draft, policy: &Policy, expected: Result<(), Rejection>| {
        assert_eq!(verify(&draft.sign(), now(), &instance_keys(), policy).map(|_| ()), expected, "{draft:?}");
    };
    check(good(), &strict, Ok(()));
    check(good().claim("azp", "https://www.example.com"), &strict, Ok(()));
    for odd in [json!("https://evil.example"), json!(""), json!(null), json!(["https://app.example.com"])] {
        check(good().claim("azp", odd), &strict, Err(Rejection::AuthorizedParty));
    }
    check(good().without("azp"), &strict, Err(Rejection::AuthorizedParty));
    check(good().without("azp"), &policy(), Ok(()));

    let mut strict = policy();
    strict.audiences = list(&["convex", "api"]);
    check(good().claim("aud", "convex"), &strict, Ok(()));
    check(good().claim("aud", json!(["other", "api"])), &strict, Ok(()));
    for odd in [json!("other"), json!(["other"]), json!([]), json!(null), json!(7), json!(["api", 7])] {
        check(good().claim("aud", odd), &strict, Err(Rejection::Audience));
    }
    check(good(), &strict, Err(Rejection::Audience));
    check(good().claim("aud", "anybody"), &policy(), Ok(()));
}

#[test]
fn times_have_five_seconds_of_leeway() {
    let token = good().claim("iat", NOW).claim("nbf", NOW).claim("exp", NOW + 60).sign();
    let check = |after_ms: i64, expected: Result<(), Rejection>| {
        let at = now().plus(after_ms);
        assert_eq!(verify(&token, at, &instance_keys(), &policy()).map(|_| ()), expected, "{after_ms} ms");
    };
    check(60_000 + 4_900, Ok(()));
    check(60_000 + 4_999, Ok(()));
    check(60_000 + 5_000, Err(Rejection::Expired));
    check(60_000 + 5_100, Err(Rejection::Expired));
    check(90_000, Err(Rejection::Expired));
    check(-5_000, Ok(()));
    check(-5_001, Err(Rejection::NotActiveYet));
    check(-3_600_000, Err(Rejection::NotActiveYet));
    refused(&good().claim("nbf", NOW + 3600), Rejection::NotActiveYet);
    refused(&good().claim("iat", NOW + 6), Rejection::IssuedInTheFuture);
    refused(&good().claim("iat", NOW + 31_536_000), Rejection::IssuedInTheFuture);
    accepted(&good().claim("iat", NOW + 5));
    let at = |seconds| verify(&good().sign(), Millis(seconds), &instance_keys(), &policy());
    assert_eq!(at(i64::MIN), Err(Rejection::NotActiveYet));
    assert_eq!(at(i64::MAX), Err(Rejection::Expired));
}

#[test]
fn a_token_lives_an_hour_at_most() {
    accepted(&good().claim("exp", NOW + 3600));
    refused(&good().claim("exp", NOW + 3601), Rejection::LivesTooLong);
    refused(&good().claim("exp", 253_402_207_200_i64), Rejection::LivesTooLong);
    let mut short = policy();
    short.max_lifetime_ms = 59_999;
    assert_eq!(verify(&good().sign(), now(), &instance_keys(), &short), Err(Rejection::LivesTooLong));
}

#[test]
fn a_pending_session_is_refused_unless_allowed() {
    let pending = good().claim("sts", "pending");
    refused(&pending, Rejection::Pending);
    let mut lenient = policy();
    lenient.accept_pending = true;
    let session = verify(&pending.sign(), now(), &instance_keys(), &lenient).expect("allowed");
    assert!(session.is_pending);
    accepted(&good().without("sts"));
}

#[test]
fn only_two_versions_are_known() {
    accepted(&good().claim("v", 1));
    accepted(&good().claim("v", 2));
    accepted(&good().without("v"));
    refused(&good().claim("v", 3), Rejection::Version);
    refused(&good().claim("v", 0), Rejection::Version);
    refused(&good().claim("v", "2"), Rejection::Claim("v"));
    refused(&good().claim("v", 2.0), Rejection::Claim("v"));
}

#[test]
fn reasons_are_clerks_where_it_has_one() {
    let check = |rejection: Rejection, expected: &str| assert_eq!(rejection.reason(), expected);
    check(Rejection::Expired, "token-expired");
    check(Rejection::Malformed, "token-invalid");
    check(Rejection::TooLong, "token-invalid");
    check(Rejection::Type, "token-invalid");
    check(Rejection::Algorithm, "token-invalid-algorithm");
    check(Rejection::AuthorizedParty, "token-invalid-authorized-parties");
    check(Rejection::Issuer, "token-invalid-issuer");
    check(Rejection::Signature, "token-invalid-signature");
    check(Rejection::NotActiveYet, "token-not-active-yet");
    check(Rejection::IssuedInTheFuture, "token-iat-in-the-future");
    check(Rejection::Claim("sub"), "token-verification-failed");
    check(Rejection::Audience, "token-verification-failed");
    check(Rejection::UnknownKey, "jwk-kid-mismatch");
    check(Rejection::MalformedKid, "jwk-kid-mismatch");
    check(Rejection::NoKeys, "jwk-remote-failed-to-load");
    check(Rejection::OtherClass(Class::Machine), "token-type-mismatch");
    check(Rejection::Critical, "token-critical-extension");
    check(Rejection::LivesTooLong, "token-lives-too-long");
    check(Rejection::Version, "token-unknown-version");
    check(Rejection::Pending, "session-pending");
}

#[test]
fn nothing_shows_the_token() {
    let token = good().sign();
    let shown = format!("{:?}", open(&token).expect("well formed"));
    assert_eq!(shown, format!("Unverified {{ kid: Some({KID}), .. }}"));
    assert!(!format!("{:?}", instance_keys()).contains(&token[token.len() - 16..]));
}

#[test]
fn every_change_of_one_character_is_refused() {
    let token = good().claim("o", json!({"id": "org_1", "rol": "admin"})).sign();
    let keys = instance_keys();
    let refused = |changed: &str, what: &str, at: usize| {
        assert!(verify(changed, now(), &keys, &policy()).is_err(), "{what} at {at}: {changed}");
    };
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n\0";
    for (at, original) in token.char_indices() {
        for character in alphabet.chars().filter(|&character| character != original) {
            let mut changed = token.clone();
            changed.replace_range(at..=at, character.encode_utf8(&mut [0; 4]));
            refused(&changed, "replaced", at);
        }
        let mut changed = token.clone();
        changed.remove(at);
        refused(&changed, "removed", at);
        let mut changed = token.clone();
        changed.insert(at, original);
        refused(&changed, "doubled", at);
        refused(&token[..at], "cut", at);
    }
}

/// RFC 7515, appendix A.2: a token that somebody else signed, with another library.
#[test]
fn the_published_example_of_rs256_verifies() {
    let text = include_str!("../../../../fixtures/tokens/rfc7515-a2.json");
    let example: Value = serde_json::from_str(text).expect("the example");
    let token = example["token"].as_str().expect("a text");
    let (keys, _) = Keys::from_jwks(&mint::jwks(&[example["jwk"].clone()])).expect("a good key");
    let key = keys.get(keys.names().next()).expect("the only one");
    let judge = |token: &str| open(token).and_then(|token| token.verify(key, now(), &policy())).map(|_| ());
    // The signature is good; it is no session, because nobody is named.
    assert_eq!(judge(token), Err(Rejection::Claim("sub")));
    let of_another = token.replace(&base64url(r#"{"iss":"joe""#), &base64url(r#"{"iss":"jim""#));
    assert_ne!(of_another, token);
    assert_eq!(judge(&of_another), Err(Rejection::Signature));
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "(user|org|mch)_[a-z]{0,3}".prop_map(Value::from),
        "([ou]{1,2}:[a-z],?){0,3}".prop_map(Value::from),
        "([0-9]{1,30},?){0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let key = "(id|rol|slg|per|fpm|sub|[a-z]{1,3})";
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key, inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_anything_panic(text in "\\PC{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(judge(&text).is_err());
        prop_assert!(judge(&String::from_utf8_lossy(&bytes)).is_err());
        let parts = format!("{}.{}.{}", base64url(&text), base64url(&bytes), base64url(&bytes));
        prop_assert!(judge(&parts).is_err());
        let _ = classify(&text);
        let _ = grants(&text, &text, &text);
        prop_assert!(Keys::from_jwks(&bytes).is_err());
        prop_assert!(Keys::from_pem(&text).is_err());
    }

    #[test]
    fn no_signed_claim_makes_anything_panic(
        name in "(sub|iss|aud|azp|exp|nbf|iat|v|sts|sid|act|o|fea|org_id|org_role|org_permissions)",
        value in any_json(),
        header in "(alg|typ|cat|kid|crit)",
        other_value in any_json(),
    ) {
        let draft = good().claim("org_id", "org_1").claim(&name, value);
        if let Ok(session) = judge(&draft.sign()) {
            prop_assert!(session.user.as_str().starts_with("user_"));
            prop_assert!(!session.observations().is_empty());
        }
        let _ = judge(&good().header(&header, other_value).sign());
    }
}

//! A token that was verified before is judged exactly as if it never had been.

use std::sync::OnceLock;

use faircopy_core::Millis;
use faircopy_core::token::{
    DEFAULT_STALE_MS, GRACE_MS, KeyCache, Keys, Lookup, MIN_INTERVAL_MS, Policy, Rejection, Verified, open,
};
use proptest::prelude::*;
use serde_json::json;

use crate::mint::{self, KID, NOW, OTHER_KID, good, instance, now, other, policy};

/// Tokens that are good at some time under some policy and with some keys, and some that never are.
fn tokens() -> &'static [String] {
    static TOKENS: OnceLock<Vec<String>> = OnceLock::new();
    TOKENS.get_or_init(|| {
        let organization = json!({"id": "org_1", "rol": "admin"});
        let mut tokens: Vec<String> = [
            good(),
            good().claim("o", organization).claim("aud", "api"),
            good().claim("iat", NOW + 30).claim("nbf", NOW + 20).claim("exp", NOW + 90),
            good().claim("exp", NOW + 3_000),
            good().claim("sts", "pending"),
            good().claim("azp", "https://other.example.com"),
            good().claim("iss", "https://other.example.com"),
            good().claim("aud", json!(["other", "api"])),
            good().claim("sub", "mch_1"),
            good().claim("v", 3),
        ]
        .iter()
        .map(mint::Draft::sign)
        .collect();
        tokens.push(good().header("kid", OTHER_KID).sign_with(other()));
        // Signed by another than it says, and tampered with.
        tokens.push(good().sign_with(other()));
        let mut claims = good().claims_json();
        claims.push(' ');
        let signed = good().sign();
        let [header, _, signature] = signed.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
        tokens.push(format!("{header}.{}.{signature}", mint::base64url(claims)));
        tokens
    })
}

fn key_sets() -> [Keys; 4] {
    [
        mint::keys(&[(KID, instance())]),
        mint::keys(&[(OTHER_KID, other())]),
        mint::keys(&[(KID, instance()), (OTHER_KID, other())]),
        // The names changed hands.
        mint::keys(&[(KID, other()), (OTHER_KID, instance())]),
    ]
}

fn policies() -> [Policy; 6] {
    let list = |name: &str| vec![name.to_owned()];
    [
        policy(),
        Policy { audiences: list("api"), ..policy() },
        Policy { authorized_parties: list("https://app.example.com"), ..policy() },
        Policy { accept_pending: true, ..policy() },
        Policy { max_lifetime_ms: 60_000, ..policy() },
        Policy::new(None),
    ]
}

/// What happens to one service.
#[derive(Debug, Clone)]
enum Step {
    /// A token comes, under one of the policies.
    Token(usize, usize),
    /// Time passes, or is set back.
    Time(i64),
    /// A fetch brings this document, if one may be made.
    Rotate(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let time = prop_oneof![0..3_000_i64, -70_000..70_000_i64, Just(GRACE_MS), Just(DEFAULT_STALE_MS)];
    prop_oneof![
        8 => (0..tokens().len(), 0..6_usize).prop_map(|(token, policy)| Step::Token(token, policy)),
        2 => time.prop_map(Step::Time),
        1 => (0..4_usize).prop_map(Step::Rotate),
    ]
}

fn find(cache: &KeyCache, token: &faircopy_core::token::Unverified<'_>, now: Millis) -> Result<Lookup, Rejection> {
    match cache.find(token.kid(), now) {
        Lookup::Refuse(rejection) => Err(rejection),
        found => Ok(found),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_verdict_is_that_of_a_fresh_verification(steps in proptest::collection::vec(step(), 1..60)) {
        let (policies, key_sets) = (policies(), key_sets());
        let verified = Verified::default();
        let mut cache = KeyCache::new(DEFAULT_STALE_MS);
        let mut at = now();
        prop_assert!(cache.begin(at));
        cache.loaded(key_sets[0].clone(), at);
        for step in steps {
            match step {
                Step::Time(millis) => at = at.plus(millis),
                Step::Rotate(set) => {
                    if cache.begin(at) {
                        cache.loaded(key_sets[set].clone(), at);
                    }
                }
                Step::Token(index, policy) => {
                    let token = open(&tokens()[index]).expect("its form is good");
                    if let Ok(Lookup::Use(key)) = find(&cache, &token, at) {
                        let fresh = token.verify(&key, at, &policies[policy]);
                        prop_assert_eq!(token.verify_again(&key, at, &policies[policy], &verified), fresh);
                    }
                }
            }
        }
        prop_assert!(verified.len() <= tokens().len() * 2);
    }
}

#[test]
fn a_key_that_was_withdrawn_takes_its_tokens_with_it() {
    let verified = Verified::default();
    let [ours, theirs, ..] = key_sets();
    let token = good().claim("exp", NOW + 3_000).sign();
    let token = open(&token).expect("its form is good");
    let mut cache = KeyCache::new(DEFAULT_STALE_MS);
    assert!(cache.begin(now()));
    cache.loaded(ours, now());
    let judge = |cache: &KeyCache, at: Millis| match cache.find(token.kid(), at) {
        Lookup::Use(key) => token.verify_again(&key, at, &policy(), &verified).map(|_| ()),
        Lookup::Refuse(rejection) => Err(rejection),
        Lookup::Fetch | Lookup::Wait => Err(Rejection::UnknownKey),
    };
    assert_eq!(judge(&cache, now()), Ok(()));
    assert_eq!(verified.len(), 1);
    let rotated = now().plus(MIN_INTERVAL_MS);
    assert!(cache.begin(rotated));
    cache.loaded(theirs, rotated);
    assert_eq!(judge(&cache, rotated.plus(GRACE_MS - 1)), Ok(()));
    assert_eq!(judge(&cache, rotated.plus(GRACE_MS)), Err(Rejection::UnknownKey));
    assert_eq!(verified.len(), 1, "it is still known: the key's place in the set is asked each time");
}

#[test]
fn only_what_fits_is_remembered() {
    let verified = Verified::default();
    let keys = key_sets()[0].clone();
    let judge = |token: &str| {
        let token = open(token).expect("its form is good");
        token.verify_again(keys.get(token.kid()).expect("a key"), now(), &policy(), &verified).map(|_| ())
    };
    let forged = good().sign_with(other());
    for _ in 0..3 {
        assert_eq!(judge(&forged), Err(Rejection::Signature));
    }
    assert!(verified.is_empty());
    // Signed, and refused for what it says: each time again.
    let expired = good().claim("exp", NOW - 60).sign();
    for _ in 0..3 {
        assert_eq!(judge(&expired), Err(Rejection::Expired));
    }
    assert_eq!(judge(&good().sign()), Ok(()));
    assert!(!format!("{verified:?}").contains("eyJ"), "nothing of a token is kept");
}

//! Rows J1 to J5 of faults.md, as far as they are pure: an edge that fetches is played by the test.

use faircopy_core::Millis;
use faircopy_core::token::{
    DEFAULT_STALE_MS, GRACE_MS, KeyCache, Keys, Kid, LOST_MS, Lookup, MIN_INTERVAL_MS, MIN_INTERVAL_WITHOUT_KEYS_MS,
    REFRESH_MS, Rejection,
};

use crate::mint::{self, KID, OTHER_KID, instance, other, pem};

const START: Millis = Millis(1_760_000_000_000);
const HOUR_MS: i64 = 3_600_000;

fn kid(text: &str) -> Kid {
    Kid::parse(text).expect("a name")
}

fn ours() -> Keys {
    mint::keys(&[(KID, instance())])
}

fn rotated() -> Keys {
    mint::keys(&[(OTHER_KID, other())])
}

/// A cache that loaded the instance's key at the start.
fn loaded() -> KeyCache {
    let mut cache = KeyCache::new(DEFAULT_STALE_MS);
    assert!(cache.begin(START));
    cache.loaded(ours(), START);
    cache
}

/// What the cache says of a key at a time after the start.
#[track_caller]
fn check(cache: &KeyCache, kid_text: &str, after_ms: i64, expected: &Lookup) {
    assert_eq!(&cache.find(Some(&kid(kid_text)), START.plus(after_ms)), expected, "{after_ms} ms after the start");
}

fn key(keys: &Keys, name: &str) -> Lookup {
    Lookup::Use(keys.get(Some(&kid(name))).expect("the key").clone())
}

#[test]
fn j1_nothing_is_verified_before_there_are_keys() {
    let mut cache = KeyCache::new(DEFAULT_STALE_MS);
    assert!(!cache.is_ready(START));
    assert!(cache.is_due(START));
    check(&cache, KID, 0, &Lookup::Fetch);
    assert!(cache.begin(START));
    check(&cache, KID, 1, &Lookup::Wait);
    cache.failed();
    check(&cache, KID, 1, &Lookup::Refuse(Rejection::NoKeys));
    // Clerk coming back is noticed soon, although no key is known to wait for.
    check(&cache, KID, MIN_INTERVAL_WITHOUT_KEYS_MS - 1, &Lookup::Refuse(Rejection::NoKeys));
    check(&cache, KID, MIN_INTERVAL_WITHOUT_KEYS_MS, &Lookup::Fetch);
    let back = START.plus(MIN_INTERVAL_WITHOUT_KEYS_MS);
    assert!(cache.is_due(back) && cache.begin(back));
    cache.loaded(ours(), back);
    assert!(cache.is_ready(back));
    check(&cache, KID, MIN_INTERVAL_WITHOUT_KEYS_MS, &key(&ours(), KID));
}

#[test]
fn j1_a_pem_needs_no_network() {
    let mut cache = KeyCache::fixed(Keys::from_pem(&pem(instance())).expect("a good PEM"));
    let much_later = START.plus(365 * 24 * HOUR_MS);
    assert!(cache.is_ready(much_later));
    assert!(!cache.is_due(much_later) && !cache.begin(much_later));
    assert_eq!(cache.age_ms(much_later), None);
    for name in [KID, OTHER_KID] {
        assert!(matches!(cache.find(Some(&kid(name)), much_later), Lookup::Use(_)));
    }
    assert!(matches!(cache.find(None, much_later), Lookup::Use(_)));
    let before = cache.find(None, much_later);
    cache.loaded(rotated(), much_later);
    assert_eq!(cache.find(None, much_later), before, "what is configured stays");
}

#[test]
fn j2_the_last_good_keys_are_used_until_they_are_too_old() {
    let mut cache = loaded();
    let mut at = START;
    for _ in 0..120 {
        at = at.plus(MIN_INTERVAL_MS);
        if cache.is_due(at) {
            assert!(cache.begin(at));
            cache.failed();
        }
        assert!(matches!(cache.find(Some(&kid(KID)), at), Lookup::Use(_)));
    }
    assert_eq!(cache.age_ms(at), Some(HOUR_MS));
    check(&cache, KID, DEFAULT_STALE_MS - 1, &key(&ours(), KID));
    assert!(!cache.is_ready(START.plus(DEFAULT_STALE_MS)));
    check(&cache, KID, DEFAULT_STALE_MS, &Lookup::Fetch);
    // Keys that were too old do not come back through the grace of a rotation.
    let back = START.plus(DEFAULT_STALE_MS);
    assert!(cache.begin(back));
    cache.loaded(rotated(), back);
    check(&cache, OTHER_KID, DEFAULT_STALE_MS, &key(&rotated(), OTHER_KID));
    check(&cache, KID, DEFAULT_STALE_MS, &Lookup::Refuse(Rejection::UnknownKey));
}

#[test]
fn j2_keys_are_refreshed_in_the_background() {
    let mut cache = loaded();
    assert!(!cache.is_due(START.plus(REFRESH_MS - 1)));
    let first = START.plus(REFRESH_MS);
    assert!(cache.is_due(first) && cache.begin(first));
    assert!(!cache.is_due(first), "one fetch at a time");
    cache.failed();
    assert!(!cache.is_due(first.plus(MIN_INTERVAL_MS - 1)));
    let second = first.plus(MIN_INTERVAL_MS);
    assert!(cache.is_due(second) && cache.begin(second));
    cache.loaded(ours(), second);
    assert_eq!(cache.age_ms(second), Some(0));
    assert!(!cache.is_due(second.plus(REFRESH_MS - 1)));
}

#[test]
fn j3_a_new_key_takes_one_fetch_and_the_old_one_a_grace() {
    let mut cache = loaded();
    let at = MIN_INTERVAL_MS;
    check(&cache, OTHER_KID, at, &Lookup::Fetch);
    assert!(cache.begin(START.plus(at)));
    check(&cache, OTHER_KID, at, &Lookup::Wait);
    check(&cache, KID, at, &key(&ours(), KID));
    cache.loaded(rotated(), START.plus(at));
    check(&cache, OTHER_KID, at, &key(&rotated(), OTHER_KID));
    // The last token that the old key signed is good for a minute.
    check(&cache, KID, at + GRACE_MS - 1, &key(&ours(), KID));
    check(&cache, KID, at + GRACE_MS, &Lookup::Fetch);
    assert!(cache.begin(START.plus(at + GRACE_MS)));
    cache.loaded(rotated(), START.plus(at + GRACE_MS));
    check(&cache, KID, at + GRACE_MS, &Lookup::Refuse(Rejection::UnknownKey));
}

#[test]
fn j3_a_grace_is_not_prolonged_by_further_refreshes() {
    let mut cache = loaded();
    for step in 1..=2 {
        let at = START.plus(step * MIN_INTERVAL_MS);
        assert!(cache.begin(at));
        cache.loaded(rotated(), at);
    }
    check(&cache, KID, MIN_INTERVAL_MS + GRACE_MS - 1, &key(&ours(), KID));
    assert!(!matches!(cache.find(Some(&kid(KID)), START.plus(MIN_INTERVAL_MS + GRACE_MS)), Lookup::Use(_)));
    // A key that is published again is as good as new.
    let at = START.plus(3 * MIN_INTERVAL_MS);
    assert!(cache.begin(at));
    cache.loaded(ours(), at);
    check(&cache, KID, HOUR_MS, &key(&ours(), KID));
}

#[test]
fn j3_a_key_that_changes_under_its_name_leaves_no_trace() {
    let mut cache = loaded();
    let (at, changed) = (START.plus(MIN_INTERVAL_MS), mint::keys(&[(KID, other())]));
    assert!(cache.begin(at));
    cache.loaded(changed.clone(), at);
    check(&cache, KID, MIN_INTERVAL_MS, &key(&changed, KID));
}

#[test]
fn j4_a_flood_of_unknown_names_makes_one_fetch_in_thirty_seconds() {
    let mut cache = loaded();
    let mut fetches = 0;
    for tick in 1..=300_000 {
        // 10,000 requests a second for 30 seconds, each with a name of its own.
        let at = START.plus(tick / 10);
        let name = kid(&format!("ins_{tick}"));
        match cache.find(Some(&name), at) {
            Lookup::Use(_) => panic!("nobody has the key {name}"),
            Lookup::Fetch => {
                assert!(cache.begin(at));
                fetches += 1;
                if fetches % 2 == 0 { cache.failed() } else { cache.loaded(ours(), at) }
            }
            Lookup::Wait => panic!("the fetch took no time"),
            Lookup::Refuse(rejection) => assert_eq!(rejection, Rejection::UnknownKey),
        }
        if tick % 1_000 == 0 {
            assert!(matches!(cache.find(Some(&kid(KID)), at), Lookup::Use(_)));
        }
    }
    assert_eq!(fetches, 1);
}

#[test]
fn j4_a_token_without_a_name_asks_nobody() {
    let cache = loaded();
    assert_eq!(cache.find(None, START.plus(HOUR_MS)), Lookup::Refuse(Rejection::UnknownKey));
}

#[test]
fn j5_a_poisoned_document_leaves_the_old_keys() {
    let mut cache = loaded();
    let at = START.plus(REFRESH_MS);
    assert!(cache.begin(at));
    match Keys::from_jwks(b"<html>") {
        Ok((keys, _)) => cache.loaded(keys, at),
        Err(_) => cache.failed(),
    }
    check(&cache, KID, REFRESH_MS, &key(&ours(), KID));
    assert_eq!(cache.age_ms(at), Some(REFRESH_MS));
}

#[test]
fn only_one_may_fetch_and_a_lost_fetch_blocks_nobody_for_long() {
    let mut cache = loaded();
    let at = START.plus(MIN_INTERVAL_MS);
    assert!(cache.begin(at));
    assert!(!cache.begin(at) && !cache.begin(at.plus(1)));
    // Whoever fetched is gone.
    check(&cache, OTHER_KID, MIN_INTERVAL_MS + LOST_MS - 1, &Lookup::Wait);
    check(&cache, OTHER_KID, MIN_INTERVAL_MS + LOST_MS, &Lookup::Refuse(Rejection::UnknownKey));
    check(&cache, OTHER_KID, 2 * MIN_INTERVAL_MS, &Lookup::Fetch);
    assert!(cache.begin(START.plus(2 * MIN_INTERVAL_MS)));

    // Without any key the next fetch may come sooner, and still not beside another.
    let mut empty = KeyCache::new(DEFAULT_STALE_MS);
    assert!(empty.begin(START));
    assert!(!empty.begin(START.plus(LOST_MS - 1)));
    check(&empty, KID, LOST_MS - 1, &Lookup::Wait);
    check(&empty, KID, LOST_MS, &Lookup::Fetch);
}

#[test]
fn a_clock_that_jumps_stops_nothing() {
    let mut cache = loaded();
    let yesterday = START.plus(-24 * HOUR_MS);
    assert!(matches!(cache.find(Some(&kid(KID)), yesterday), Lookup::Use(_)));
    assert_eq!(cache.age_ms(yesterday), Some(0));
    assert!(cache.is_due(yesterday) && cache.begin(yesterday));
    cache.loaded(ours(), yesterday);
    assert!(!cache.is_due(yesterday) && !cache.begin(yesterday));
    // A fetch that was lost before the jump holds nobody up, and a withdrawn key has no second grace.
    let mut jumped = loaded();
    let at = START.plus(MIN_INTERVAL_MS);
    assert!(jumped.begin(at));
    jumped.loaded(rotated(), at);
    assert!(matches!(jumped.find(Some(&kid(KID)), at), Lookup::Use(_)));
    assert!(jumped.begin(at.plus(MIN_INTERVAL_MS)));
    assert_eq!(jumped.find(Some(&kid(KID)), yesterday), Lookup::Fetch);
    assert!(jumped.begin(yesterday));
    // And on again, past the time for which keys are used.
    assert_eq!(cache.find(Some(&kid(KID)), START.plus(HOUR_MS)), Lookup::Fetch);
    for at in [Millis(i64::MIN), Millis(i64::MAX)] {
        let _ = (cache.find(Some(&kid(KID)), at), cache.is_due(at), cache.age_ms(at));
    }
}

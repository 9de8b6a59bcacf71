//! What deliveries mean and what of them is stored:
//!
//! - Clerk's own 45 examples are observed or ignored as contract.md says, in both profile modes, none with an error;
//! - rows W22 to W28 of faults.md are read or quarantined, each for its own reason, and nothing panics on any bytes;
//! - what must not be stored is not: a canary in every text of every example and of 200 events of the model survives
//!   only under the keys that the mode allows;
//! - a stored delivery reads as the live one did, and keeping it again changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use faircopy_world::{Settings, World};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::example::EXAMPLES;
use crate::payload::{Kept, Message, keep};
use crate::record::{MAX_TEXT, Profile};

const MODES: [ProfileMode; 2] = [ProfileMode::Full, ProfileMode::Minimal];
/// When everything here is signed: a little after the examples.
const SIGNED_AT: Millis = Millis(1_716_883_260_000);
const UPDATED_AT: i64 = 1_716_883_200_000;

fn context(mode: ProfileMode) -> Context<'static> {
    Context { mode, signed_at: SIGNED_AT, instance: None }
}

/// Keeps and reads, as the intake does.
fn understand(body: &[u8], context: &Context<'_>) -> Event {
    match keep(body, context.mode) {
        Kept::Json(message) => read(&message, context),
        Kept::Unreadable { fault, .. } => Event::unreadable(fault),
    }
}

fn reading(body: impl AsRef<[u8]>) -> Reading {
    understand(body.as_ref(), &context(ProfileMode::Full)).reading
}

fn kept(body: &str, mode: ProfileMode) -> String {
    match keep(body.as_bytes(), mode) {
        Kept::Json(message) => message.into_text(),
        Kept::Unreadable { fault, .. } => panic!("{fault}: {body}"),
    }
}

/// The facts of a delivery that must be understood.
#[track_caller]
fn facts(body: &Value) -> Vec<Fact> {
    match reading(body.to_string()) {
        Reading::Observed(observations) => observations.into_iter().map(|observation| observation.fact).collect(),
        other => panic!("{other:?}: {body}"),
    }
}

#[track_caller]
fn fault(body: impl AsRef<[u8]>) -> Fault {
    let shown = String::from_utf8_lossy(body.as_ref()).chars().take(300).collect::<String>();
    match reading(body) {
        Reading::Quarantined(fault) => fault,
        other => panic!("{other:?}: {shown}"),
    }
}

#[track_caller]
fn user_of(body: &Value) -> User {
    match facts(body).remove(0) {
        Fact::User(user, _) => user,
        other => panic!("{other:?}: {body}"),
    }
}

#[track_caller]
fn profile_of(body: &Value) -> Profile {
    user_of(body).profile.expect("full mode")
}

fn user_event(data: &Value) -> Value {
    json!({"type": "user.updated", "object": "event", "timestamp": UPDATED_AT, "data": data})
}

/// A user event with one key set, or taken away by a null where `key` is absent in the base.
fn user_with(key: &str, value: Value) -> Value {
    let mut data = json!({"id": "user_1", "created_at": UPDATED_AT - 1000, "updated_at": UPDATED_AT});
    data[key] = value;
    user_event(&data)
}

fn membership(event_type: &str) -> Value {
    json!({"type": event_type, "timestamp": UPDATED_AT, "data": {
        "id": "orgmem_1", "role": "org:admin", "permissions": ["org:a:b"],
        "organization": {"id": "org_1", "name": "Acme", "created_at": 1_000_000_000_000_i64, "updated_at": UPDATED_AT},
        "public_user_data": {"user_id": "user_1", "first_name": "Ada", "identifier": "ada@example.com"},
        "created_at": UPDATED_AT, "updated_at": UPDATED_AT,
    }})
}

fn parse_body(body: &str) -> Value {
    serde_json::from_str(body).expect("JSON")
}

/// Some hundred events of every type that the model emits.
fn world_events(seed: u64, at_least: usize) -> Vec<faircopy_world::Event> {
    let mut world = World::new(seed, Settings { child_events: true, ..Settings::default() });
    let mut events = Vec::new();
    while events.len() < at_least {
        world.advance();
        events.extend(world.take_events());
    }
    events
}

#[test]
fn the_examples_mean_what_the_contract_says() {
    let observed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("organization.created", &["organization"][..]),
        ("organization.deleted", &["no organization"]),
        ("organization.updated", &["organization"]),
        ("organizationInvitation.accepted", &["invitation"]),
        ("organizationInvitation.created", &["invitation"]),
        ("organizationInvitation.revoked", &["invitation"]),
        ("organizationMembership.created", &["member", "organization", "part of user"]),
        ("organizationMembership.deleted", &["no member"]),
        ("organizationMembership.updated", &["member", "organization", "part of user"]),
        ("user.created", &["user"]),
        ("user.deleted", &["no user"]),
        ("user.updated", &["user"]),
    ]);
    assert_eq!(EXAMPLES.len(), 45);
    for example in EXAMPLES {
        for mode in MODES {
            let event = understand(example.body.as_bytes(), &context(mode));
            let found = match &event.reading {
                Reading::Observed(all) => Some(all.iter().map(|one| kind(&one.fact)).collect::<Vec<_>>()),
                Reading::Ignored => None,
                Reading::Quarantined(fault) => panic!("{}, {mode:?}: {fault}", example.event_type),
            };
            let expected = observed.get(example.event_type).map(|kinds| kinds.to_vec());
            assert_eq!(found, expected, "{}, {mode:?}", example.event_type);
            assert_eq!(event.event_type, example.event_type);
            let data = &parse_body(example.body)["data"];
            assert_eq!(event.entity_id.as_deref(), data["id"].as_str(), "{}", example.event_type);
            assert_eq!(event.event_at, Some(Millis(UPDATED_AT)), "{}", example.event_type);
            assert_eq!(event.instance_id.as_deref(), parse_body(example.body)["instance_id"].as_str());
        }
    }
}

fn kind(fact: &Fact) -> &'static str {
    match fact {
        Fact::User(..) => "user",
        Fact::PartOfUser(..) => "part of user",
        Fact::NoUser(..) => "no user",
        Fact::Organization(..) => "organization",
        Fact::PartOfOrganization(..) => "part of organization",
        Fact::NoOrganization(..) => "no organization",
        Fact::Member(..) => "member",
        Fact::NoMember(..) => "no member",
        Fact::NoMembership(..) => "no membership",
        Fact::NotAMember(..) => "not a member",
        Fact::TokenMember(..) => "token member",
        Fact::UserNotFound(..) => "user not found",
        Fact::OrganizationNotFound(..) => "organization not found",
        Fact::Invitation(..) => "invitation",
        Fact::NoInvitation(..) => "no invitation",
    }
}

#[test]
fn another_instance_is_ignored_where_ours_is_known() {
    let check = |ours: Option<&str>, theirs: Value, observed: bool| {
        let mut body = user_with("first_name", json!("Ada"));
        body["instance_id"] = theirs;
        let context = Context { instance: ours, ..context(ProfileMode::Full) };
        let event = understand(body.to_string().as_bytes(), &context);
        assert_eq!(matches!(event.reading, Reading::Observed(_)), observed, "{ours:?}: {body}");
        assert!(!matches!(event.reading, Reading::Quarantined(_)));
    };
    check(Some("ins_1"), json!("ins_1"), true);
    check(Some("ins_1"), json!("ins_2"), false);
    check(Some("ins_1"), json!("INS_1"), false);
    check(Some("ins_1"), Value::Null, true);
    check(Some("ins_1"), json!(7), true);
    check(None, json!("ins_2"), true);
}

#[test]
fn a_foreign_delivery_is_ignored_also_where_it_could_not_be_read() {
    let context = Context { instance: Some("ins_1"), ..context(ProfileMode::Full) };
    let body = json!({"type": "user.created", "instance_id": "ins_2", "timestamp": -5, "data": 7}).to_string();
    assert_eq!(understand(body.as_bytes(), &context).reading, Reading::Ignored);
}

#[test]
fn w22_what_is_not_the_json_of_one_event_is_quarantined() {
    // `role` stands for any key that both modes keep.
    let good = user_with("role", json!("Ada")).to_string();
    let check = |body: &[u8]| {
        let found = fault(body);
        assert!(matches!(found, Fault::Unreadable(_)), "{found:?}");
        // What is told of it repeats none of it.
        assert!(!found.to_string().contains("Ada") && !found.to_string().contains("user_1"), "{found}");
        assert!(matches!(keep(body, ProfileMode::Full), Kept::Unreadable { text: Some(_), .. }));
        assert!(matches!(keep(body, ProfileMode::Minimal), Kept::Unreadable { text: None, .. }));
    };
    check(b"");
    check(b"not json");
    check(b"<html>");
    for length in 0..good.len() {
        check(&good.as_bytes()[..length]);
    }
    check(&[b"\xef\xbb\xbf", good.as_bytes()].concat());
    check(&[good.as_bytes(), b" x"].concat());
    check(&[good.as_bytes(), good.as_bytes()].concat());
    check(&[good.as_bytes(), b"\0"].concat());
    for value in ["NaN", "Infinity", "-", "1e400", "01", "'a'", r#""\ud800""#, r#""\udc00x""#, "\"\n\"", "tru", "[1,]"]
    {
        check(good.replace(r#""Ada""#, value).as_bytes());
    }
    let invalid = [&b"\xff"[..], b"\xc3\x28", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf"];
    for bytes in invalid {
        let at = good.find("Ada").expect("it is there");
        check(&[&good.as_bytes()[..at], bytes, &good.as_bytes()[at..]].concat());
    }
}

#[test]
fn json_that_is_no_event_is_quarantined() {
    let array = r#"["user.created", 1716883200, "ins_1", {"id": "user_1"}]"#;
    for body in ["null", "7", "[]", " []", "\"user.created\"", "[{}]", array] {
        assert!(matches!(fault(body), Fault::Unreadable(_)), "{body}");
    }
    for body in ["{}", r#"{"type":null}"#, r#"{"type":""}"#, r#"{"type":7,"data":{}}"#, r#"{"type":["user.created"]}"#]
    {
        assert_eq!(fault(body), Fault::NoType, "{body}");
    }
    for data in ["null", "7", "[]", "\"x\"", "true"] {
        assert_eq!(fault(format!(r#"{{"type":"user.created","data":{data}}}"#)), Fault::NoData, "{data}");
    }
    assert_eq!(fault(r#"{"type":"user.created"}"#), Fault::NoData);
}

#[test]
fn w23_depth_overflows_nothing() {
    let nested = |depth: usize| {
        user_with("deep", json!(0))
            .to_string()
            .replace(r#""deep":0"#, &format!(r#""deep":{}0{}"#, "[".repeat(depth), "]".repeat(depth)))
    };
    assert!(matches!(reading(nested(100)), Reading::Observed(_)));
    for depth in [128, 1_000, 100_000] {
        assert!(matches!(fault(nested(depth)), Fault::Unreadable(_)), "{depth}");
        let objects = format!(r#"{{"type":"user.created","data":{}1{}}}"#, r#"{"a":"#.repeat(depth), "}".repeat(depth));
        assert!(matches!(fault(objects), Fault::Unreadable(_)), "{depth}");
    }
    assert!(matches!(fault("[".repeat(1_000_000)), Fault::Unreadable(_)));
}

#[test]
fn w24_a_key_that_comes_twice_is_quarantined() {
    let check = |body: &str| assert!(matches!(fault(body), Fault::Unreadable(_)), "{body}");
    check(r#"{"type":"user.created","type":"user.deleted","data":{"id":"user_1"}}"#);
    check(r#"{"type":"user.created","data":{"id":"user_1"},"data":{"id":"user_2"}}"#);
    check(r#"{"type":"user.created","data":{"id":"user_1","id":"user_2"}}"#);
    check(r#"{"type":"user.created","data":{"id":"user_1","\u0069d":"user_2"}}"#);
    check(r#"{"type":"user.deleted","data":{"id":"user_1","id":"user_2"}}"#);
    check(r#"{"type":"user.created","timestamp":1716883200,"timestamp":1716883201,"data":{"id":"user_1"}}"#);
    check(r#"{"type":"user.created","instance_id":"a","instance_id":"b","data":{"id":"user_1"}}"#);
    check(
        r#"{"type":"organizationMembership.created","data":{"id":"orgmem_1","organization":{"id":"org_1","id":"org_2"},"public_user_data":{"user_id":"user_1"}}}"#,
    );
    check(r#"{"type":"user.created","data":{"id":"user_1","email_addresses":[{"id":"a","id":"b"}]}}"#);
}

#[test]
fn w25_strange_texts_are_read_and_fit_a_column() {
    let first = |text: &str| profile_of(&user_with("first_name", json!(text))).first_name.expect("a name");
    for same in [
        "\u{202e}desrever",
        "👩‍👩‍👧‍👦🚀",
        "e\u{301}",
        "<img src=x onerror=alert(1)>",
        "Robert'); DROP TABLE users;--",
        "\t\n\u{7f}",
        "",
    ] {
        assert_eq!(first(same), same);
    }
    assert_eq!(first("\u{0}A\u{0}da\u{0}"), "Ada");
    assert_eq!(first(&"é".repeat(1_000_000)), "é".repeat(MAX_TEXT));
    let metadata = json!({"a\u{0}": ["\u{0}x", {"b": "\u{0}"}]});
    let profile = profile_of(&user_with("public_metadata", metadata));
    assert_eq!(profile.public_metadata, json!({"a": ["x", {"b": ""}]}));
    let addresses =
        json!([{"id": "idn_1", "email_address": "ÅDA@Example.COM ", "verification": {"status": "verified"}}]);
    let email = profile_of(&user_with("email_addresses", addresses)).email;
    assert_eq!(email.as_deref(), Some("ÅDA@Example.COM "), "it is stored as it was sent");
}

#[test]
fn w26_what_is_unknown_is_ignored_or_tolerated() {
    let unknown =
        ["passkey.created", "user", "user.", "user.created ", "User.created", "user.frozen", "a.b.c", "\u{0}", "💥"];
    for event_type in unknown {
        let body = json!({"type": event_type, "timestamp": i64::MAX, "data": {"id": 7}}).to_string();
        assert_eq!(reading(&body), Reading::Ignored, "{event_type}");
    }
    let body = json!({"type": "a\u{0}\n".repeat(500), "data": {"id": "\u{7}x".repeat(500)}}).to_string();
    let event = understand(body.as_bytes(), &context(ProfileMode::Full));
    assert_eq!((event.event_type, event.entity_id), ("a".repeat(128), Some("x".repeat(128))));
    let mut body = user_with("first_name", json!("Ada"));
    body["a new key"] = json!({"type": "user.deleted", "data": [1, {"id": 7}]});
    body["data"]["another"] = json!([[[]]]);
    assert_eq!(profile_of(&body).first_name.as_deref(), Some("Ada"));
}

#[test]
fn w27_an_id_is_one_or_the_delivery_is_quarantined() {
    let bad = [
        json!("org_1"),
        json!("user_"),
        json!(""),
        json!("USER_1"),
        json!("user_1'; DROP TABLE users;--"),
        json!("user_../../etc/passwd"),
        json!("user_\u{0}"),
        json!("user_é"),
        json!(" user_1"),
        json!(format!("user_{}", "a".repeat(10_000))),
    ];
    for event_type in ["user.created", "user.updated", "user.deleted"] {
        for id in [Value::Null, json!(7), json!(true), json!(["user_1"]), json!({"id": "user_1"})] {
            let body = json!({"type": event_type, "data": {"id": id}});
            assert_eq!(fault(body.to_string()), Fault::MissingId("data.id"), "{body}");
        }
        assert_eq!(fault(json!({"type": event_type, "data": {}}).to_string()), Fault::MissingId("data.id"));
        for id in &bad {
            let body = json!({"type": event_type, "data": {"id": id}});
            assert!(matches!(fault(body.to_string()), Fault::BadId("data.id", _)), "{body}");
        }
    }
    for (event_type, path, fails) in [
        ("organization.created", "/data/id", Fault::MissingId("data.id")),
        ("organization.deleted", "/data/id", Fault::MissingId("data.id")),
        ("organizationMembership.created", "/data/id", Fault::MissingId("data.id")),
        ("organizationMembership.created", "/data/organization", Fault::MissingId("data.organization.id")),
        ("organizationMembership.updated", "/data/public_user_data", Fault::MissingId("data.public_user_data.user_id")),
        ("organizationMembership.deleted", "/data/id", Fault::MissingId("data.id")),
        ("organizationInvitation.created", "/data/id", Fault::MissingId("data.id")),
        ("organizationInvitation.accepted", "/data/organization_id", Fault::MissingId("data.organization_id")),
    ] {
        let example = crate::example::find(event_type).expect("there is one of each");
        let mut body = parse_body(example.body);
        *body.pointer_mut(path).expect("the example has it") = Value::Null;
        assert_eq!(fault(body.to_string()), fails, "{event_type} without {path}");
    }
    for path in ["/data/organization/id", "/data/public_user_data/user_id"] {
        for event_type in ["organizationMembership.created", "organizationMembership.deleted"] {
            let mut body = membership(event_type);
            *body.pointer_mut(path).expect("it is there") = json!("../x");
            assert!(matches!(fault(body.to_string()), Fault::BadId(..)), "{event_type} with a bad {path}");
        }
    }
}

#[test]
fn w28_times_are_read_leniently_and_never_from_the_future() {
    let updated_at = |value: Value| user_of(&user_with("updated_at", value)).updated_at.expect("full mode").0;
    assert_eq!(updated_at(json!(UPDATED_AT)), UPDATED_AT);
    assert_eq!(updated_at(json!(UPDATED_AT / 1000)), UPDATED_AT, "seconds");
    assert_eq!(updated_at(json!(1_716_883_200_000.0)), UPDATED_AT, "a float");
    assert_eq!(updated_at(json!(1_716_883_200_000.75)), UPDATED_AT, "a fraction of a millisecond is dropped");
    assert_eq!(updated_at(json!("1716883200000")), UPDATED_AT, "a text");
    assert_eq!(updated_at(json!(" 1716883200 ")), UPDATED_AT, "a text in seconds");
    assert_eq!(updated_at(json!(0)), 0);
    for absent in [Value::Null, json!(true), json!([]), json!({})] {
        assert_eq!(updated_at(absent.clone()), UPDATED_AT - 1000, "{absent}: the time of creation stands in");
    }
    let bad = |value: Value| {
        for key in ["updated_at", "created_at"] {
            assert_eq!(fault(user_with(key, value.clone()).to_string()), Fault::BadTime(key), "{value}");
        }
        let mut body = user_with("first_name", json!("Ada"));
        body["timestamp"] = value.clone();
        assert_eq!(fault(body.to_string()), Fault::BadTime("timestamp"), "{value}");
    };
    bad(json!(-1));
    bad(json!(i64::MIN));
    bad(json!(i64::MAX));
    bad(json!(u64::MAX));
    bad(json!(1e300));
    bad(json!(-0.5e3));
    bad(json!("yesterday"));
    bad(json!(""));
    bad(json!("2024-05-28T08:00:00Z"));
    let limit = SIGNED_AT.0 + MAX_AHEAD_MS;
    assert_eq!(updated_at(json!(limit)), limit);
    for ahead in [json!(limit + 1), json!((limit / 1000) + 1), json!(253_402_207_200_000_i64)] {
        for key in ["updated_at", "created_at"] {
            assert_eq!(fault(user_with(key, ahead.clone()).to_string()), Fault::Ahead(key), "{ahead}");
        }
        let mut body = user_with("first_name", json!("Ada"));
        body["timestamp"] = ahead.clone();
        assert_eq!(fault(body.to_string()), Fault::Ahead("timestamp"), "{ahead}");
        for path in ["/data/organization/updated_at", "/data/organization/created_at", "/data/updated_at"] {
            let mut body = membership("organizationMembership.updated");
            *body.pointer_mut(path).expect("it is there") = ahead.clone();
            assert!(matches!(fault(body.to_string()), Fault::Ahead(_)), "{path} {ahead}");
        }
        let mut body = membership("organizationMembership.deleted");
        body["data"]["created_at"] = ahead.clone();
        assert!(matches!(fault(body.to_string()), Fault::Ahead(_)), "a generation from the future");
    }
}

#[test]
fn a_deletion_from_the_future_is_quarantined_and_one_without_time_is_as_old_as_its_signature() {
    for event_type in ["user.deleted", "organization.deleted"] {
        let id = if event_type.starts_with("user") { "user_1" } else { "org_1" };
        let mut body = json!({"type": event_type, "timestamp": SIGNED_AT.0 + MAX_AHEAD_MS + 1, "data": {"id": id}});
        assert_eq!(fault(body.to_string()), Fault::Ahead("timestamp"));
        body["timestamp"] = Value::Null;
        let at = match facts(&body).remove(0) {
            Fact::NoUser(_, at) | Fact::NoOrganization(_, at) => at,
            other => panic!("{other:?}"),
        };
        assert_eq!(at, SIGNED_AT);
    }
}

#[test]
fn an_invitation_may_expire_in_the_future() {
    let example = crate::example::find("organizationInvitation.created").expect("there is one");
    let mut body = parse_body(example.body);
    body["data"]["expires_at"] = json!(SIGNED_AT.0 + 30 * 86_400_000);
    let Fact::Invitation(invitation, _) = facts(&body).remove(0) else { panic!("no invitation") };
    assert_eq!(invitation.expires_at, Some(Millis(SIGNED_AT.0 + 30 * 86_400_000)));
    assert_eq!(invitation.email.as_deref(), Some("jane.doe@acme.com"));
    body["data"]["expires_at"] = json!(-1);
    assert_eq!(fault(body.to_string()), Fault::BadTime("data.expires_at"));
    body["data"]["expires_at"] = Value::Null;
    for (event_type, status) in [("created", "pending"), ("accepted", "accepted"), ("revoked", "revoked")] {
        body["type"] = json!(format!("organizationInvitation.{event_type}"));
        body["data"]["status"] = Value::Null;
        let Fact::Invitation(invitation, _) = facts(&body).remove(0) else { panic!("no invitation") };
        assert_eq!(invitation.status, status, "the event's name stands in for a missing status");
    }
}

#[test]
fn parts_of_another_type_count_as_absent() {
    let strange = [Value::Null, json!(7), json!(-1.5), json!(true), json!("x"), json!([1]), json!({"a": 1})];
    let keys = [
        "external_id",
        "username",
        "first_name",
        "last_name",
        "image_url",
        "primary_email_address_id",
        "email_addresses",
        "public_metadata",
        "banned",
        "locked",
    ];
    for key in keys {
        for value in &strange {
            let profile = profile_of(&user_with(key, value.clone()));
            let expected_text = value.as_str().map(str::to_owned);
            match key {
                "first_name" => assert_eq!(profile.first_name, expected_text),
                "username" => assert_eq!(profile.username, expected_text),
                "external_id" => assert_eq!(profile.external_id, expected_text),
                "banned" => assert_eq!(profile.banned, value.as_bool()),
                "locked" => assert_eq!(profile.locked, value.as_bool()),
                "public_metadata" => {
                    let expected = if value.is_object() { value.clone() } else { json!({}) };
                    assert_eq!(profile.public_metadata, expected);
                }
                _ => assert_eq!(profile.email, None),
            }
        }
    }
    for value in &strange {
        let mut body = membership("organizationMembership.created");
        for key in ["role", "permissions"] {
            body["data"][key] = value.clone();
        }
        for key in ["name", "slug", "public_metadata", "created_by"] {
            body["data"]["organization"][key] = value.clone();
        }
        for key in ["first_name", "identifier", "username"] {
            body["data"]["public_user_data"][key] = value.clone();
        }
        assert_eq!(facts(&body).len(), 3, "{body}");
    }
}

#[test]
fn the_address_shown_is_the_primary_or_the_first_verified() {
    let address = |id: &str, text: &str, status: &str| json!({"id": id, "email_address": text, "verification": {"status": status}});
    let check = |primary: Value, addresses: Value, expected: Option<&str>| {
        let mut body = user_with("email_addresses", addresses);
        body["data"]["primary_email_address_id"] = primary;
        assert_eq!(profile_of(&body).email.as_deref(), expected, "{body}");
    };
    let (a, b) = (address("idn_a", "a@x", "unverified"), address("idn_b", "b@x", "verified"));
    check(json!("idn_a"), json!([b, a]), Some("a@x"));
    check(json!("idn_gone"), json!([a, b]), Some("b@x"));
    check(Value::Null, json!([a, b]), Some("b@x"));
    check(Value::Null, json!([a]), None);
    check(Value::Null, json!([7, null, b]), Some("b@x"));
    check(Value::Null, json!([{"email_address": "c@x"}]), None);
    check(json!("idn_a"), json!([{"id": "idn_a"}]), None);
    check(json!("idn_a"), json!([]), None);
}

#[test]
fn a_thin_deletion_of_a_membership_names_only_its_id() {
    let at = Millis(UPDATED_AT);
    let id = MembershipId::parse("orgmem_1").expect("an id");
    let thin = json!({"type": "organizationMembership.deleted", "timestamp": UPDATED_AT, "data": {"id": "orgmem_1", "deleted": true}});
    assert_eq!(facts(&thin), [Fact::NoMembership(id.clone(), at)]);
    for path in ["/data/organization", "/data/public_user_data"] {
        let mut half = membership("organizationMembership.deleted");
        *half.pointer_mut(path).expect("it is there") = Value::Null;
        assert_eq!(facts(&half), [Fact::NoMembership(id.clone(), at)], "without {path}");
    }
    let whole = facts(&membership("organizationMembership.deleted"));
    let organization = OrganizationId::parse("org_1").expect("an id");
    let user = UserId::parse("user_1").expect("an id");
    assert_eq!(whole, [Fact::NoMember(organization, user, Generation { created_at: at, id }, at)]);
}

#[test]
fn a_membership_tells_its_pair_by_object_or_by_id() {
    let mut flat = membership("organizationMembership.created");
    flat["data"]["organization"] = Value::Null;
    flat["data"]["public_user_data"] = Value::Null;
    flat["data"]["organization_id"] = json!("org_1");
    flat["data"]["user_id"] = json!("user_1");
    let (flat, full) = (facts(&flat), facts(&membership("organizationMembership.created")));
    assert_eq!(flat, full[..1], "and nothing is embedded");
    let Fact::PartOfUser(user, _) = &full[2] else { panic!("{full:?}") };
    let profile = user.profile.as_ref().expect("full mode");
    assert_eq!((profile.email.as_deref(), profile.first_name.as_deref()), (Some("ada@example.com"), Some("Ada")));
    let mut by_name = membership("organizationMembership.created");
    by_name["data"]["public_user_data"]["identifier"] = json!("ada");
    let Fact::PartOfUser(user, _) = &facts(&by_name)[2] else { panic!("{by_name}") };
    assert_eq!(user.profile.as_ref().and_then(|profile| profile.email.as_ref()), None, "a user name is no address");
}

#[test]
fn minimal_mode_observes_nothing_personal() {
    let bodies = EXAMPLES.iter().map(|example| example.body.to_owned());
    for body in bodies.chain(world_events(1, 200).into_iter().map(|event| event.body)) {
        let signed_at = Millis(1_800_000_000_000);
        let context = Context { signed_at, ..context(ProfileMode::Minimal) };
        let Reading::Observed(observations) = understand(body.as_bytes(), &context).reading else { continue };
        for observation in observations {
            match observation.fact {
                Fact::User(user, _) | Fact::PartOfUser(user, _) => assert_eq!(user.profile, None, "{body}"),
                Fact::Invitation(invitation, _) => assert_eq!(invitation.email, None, "{body}"),
                _ => {}
            }
        }
    }
}

#[test]
fn minimal_mode_links_workspaces_all_the_same() {
    let body = user_with("public_metadata", json!({"workspaceId": "ws_1", "phone": "+1 555"}));
    let event = understand(body.to_string().as_bytes(), &context(ProfileMode::Minimal));
    let Reading::Observed(observations) = event.reading else { panic!("{event:?}") };
    let Fact::User(user, _) = &observations[0].fact else { panic!("{observations:?}") };
    assert_eq!(user.linked_workspace.as_deref(), Some("ws_1"));
    assert!(!kept(&body.to_string(), ProfileMode::Minimal).contains("555"));
}

/// Puts a canary in the place of every text, and tells for each canary the path on which it stands.
fn plant(value: &mut Value, path: &str, paths: &mut Vec<String>) {
    match value {
        Value::Object(entries) => {
            for (key, inner) in entries {
                plant(inner, &format!("{path}.{key}"), paths);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| plant(item, &format!("{path}[]"), paths)),
        Value::String(_) if path == ".type" => {}
        Value::String(text) => {
            *text = format!("canary-{}.", paths.len());
            paths.push(path.to_owned());
        }
        _ => {}
    }
}

/// Every example and 200 events of the model with a value in every place where a text may stand.
fn planted() -> Vec<(String, String, Vec<String>)> {
    let mut bodies: Vec<Value> = EXAMPLES.iter().map(|example| parse_body(example.body)).collect();
    bodies.extend(world_events(2, 200).iter().map(|event| parse_body(&event.body)));
    let mut planted = Vec::new();
    for mut body in bodies {
        let event_type = body["type"].as_str().expect("a type").to_owned();
        fill(&mut body);
        let mut paths = Vec::new();
        plant(&mut body, "", &mut paths);
        planted.push((event_type, body.to_string(), paths));
    }
    planted
}

/// Puts something where the examples have nothing: a null or an empty object may be personal next time.
fn fill(value: &mut Value) {
    match value {
        Value::Null => *value = json!("something"),
        Value::Object(entries) if entries.is_empty() => drop(entries.insert("some".into(), json!("thing"))),
        Value::Object(entries) => {
            for (key, inner) in entries.iter_mut() {
                let metadata = key == "private_metadata" || key == "event_attributes";
                if metadata && !inner.is_object() {
                    *inner = json!({"secret": "thing"});
                }
                fill(inner);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(fill),
        _ => {}
    }
}

/// The paths of the canaries that are still there.
fn survivors(kept: &str, paths: &[String]) -> BTreeSet<String> {
    let alive = paths.iter().enumerate().filter(|(number, _)| kept.contains(&format!("canary-{number}.")));
    alive.map(|(_, path)| path.clone()).collect()
}

#[test]
fn full_mode_stores_everything_but_secrets() {
    let secret = |event_type: &str, path: &str| {
        let ticket = event_type.starts_with("organizationInvitation.") && path == ".data.url";
        let keys: Vec<&str> = path.split(['.', '[']).collect();
        let metadata = keys.iter().any(|key| matches!(*key, "public_metadata" | "unsafe_metadata"));
        let never = ["private_metadata", "event_attributes", "client_ip", "user_agent", "ip_address"];
        let hidden = keys.iter().any(|key| never.contains(key)) && !metadata;
        hidden || ticket
    };
    let mut secrets = 0;
    for (event_type, body, paths) in planted() {
        let alive = survivors(&kept(&body, ProfileMode::Full), &paths);
        if event_type.starts_with("email.") || event_type.starts_with("sms.") {
            continue;
        }
        for path in &paths {
            let must_go = secret(&event_type, path);
            secrets += usize::from(must_go);
            assert_eq!(alive.contains(path), !must_go, "{event_type}: {path}");
        }
    }
    assert!(secrets > 500, "{secrets} secrets were planted");
}

#[test]
fn messages_are_stored_without_what_they_say() {
    let allowed = BTreeSet::from([
        "id",
        "object",
        "slug",
        "status",
        "type",
        "instance_id",
        "user_id",
        "organization_id",
        "email_address_id",
        "phone_number_id",
    ]);
    for (event_type, body, paths) in planted() {
        if !(event_type.starts_with("email.") || event_type.starts_with("sms.")) {
            continue;
        }
        for mode in MODES {
            for path in survivors(&kept(&body, mode), &paths) {
                let key = path.rsplit('.').next().expect("a key").to_owned();
                assert!(allowed.contains(key.as_str()), "{event_type}, {mode:?}: {path}");
            }
        }
    }
}

#[test]
fn minimal_mode_stores_ids_and_what_an_organization_says_of_itself() {
    let ids = [
        "id",
        "object",
        "instance_id",
        "user_id",
        "organization_id",
        "created_by",
        "role",
        "status",
        "permissions[]",
        "type",
    ];
    // Written out, so that another key that survives is a decision.
    let others = BTreeSet::from([
        ".data.image_url of an organization",
        ".data.name of an organization",
        ".data.slug of an organization",
        ".data.public_metadata of an organization",
        ".data.organization.image_url",
        ".data.organization.name",
        ".data.organization.slug",
        ".data.organization.public_metadata",
        ".data.public_metadata.workspaceId",
        ".data.public_metadata.convexWorkspaceId",
    ]);
    let mut met = BTreeSet::new();
    for (event_type, body, paths) in planted() {
        if event_type.starts_with("email.") || event_type.starts_with("sms.") {
            continue;
        }
        for path in survivors(&kept(&body, ProfileMode::Minimal), &paths) {
            let key = path.rsplit('.').next().expect("a key");
            let metadata = path.find(".public_metadata").filter(|_| !event_type.starts_with("user."));
            let path = metadata.map_or(path.clone(), |at| format!("{}.public_metadata", &path[..at]));
            let own = event_type.starts_with("organization.") && path.starts_with(".data.");
            let name = if own { format!("{path} of an organization") } else { path.clone() };
            if metadata.is_none() && ids.contains(&key) {
                continue;
            }
            assert!(others.contains(name.as_str()), "{event_type}: {name}");
            met.insert(name);
        }
    }
    assert_eq!(met, others.iter().map(|name| (*name).to_owned()).collect(), "everything else is met");
}

#[test]
fn a_broken_body_is_stored_without_its_secrets_wherever_it_breaks_off() {
    for event in world_events(3, 30) {
        for length in 0..event.body.len() {
            if let Kept::Unreadable { text: Some(text), .. } = keep(&event.body.as_bytes()[..length], ProfileMode::Full)
            {
                for secret in ["canary-private", "203.0.113.", "Mozilla", "clerk-sdk-go", "accept-invitation"] {
                    assert!(!text.contains(secret), "{secret} in {text}");
                }
            }
        }
    }
}

#[test]
fn what_is_stored_is_read_again_alike() {
    let bodies = EXAMPLES.iter().map(|example| example.body.to_owned());
    let planted = planted().into_iter().map(|(_, body, _)| body);
    for body in bodies.chain(world_events(4, 200).into_iter().map(|event| event.body)).chain(planted) {
        for mode in MODES {
            let signed_at = Millis(1_800_000_000_000);
            let context = Context { signed_at, ..context(mode) };
            let once = kept(&body, mode);
            assert_eq!(kept(&once, mode), once, "keeping again changes it");
            assert_eq!(understand(once.as_bytes(), &context), understand(body.as_bytes(), &context), "{body}");
            assert_eq!(kept(&kept(&body, ProfileMode::Full), mode), once, "from full to minimal");
        }
    }
}

#[test]
fn white_space_and_the_order_of_keys_mean_nothing() {
    for example in EXAMPLES {
        let sorted = parse_body(example.body).to_string();
        let context = context(ProfileMode::Full);
        let (pretty, compact) =
            (understand(example.body.as_bytes(), &context), understand(sorted.as_bytes(), &context));
        assert_eq!(pretty, compact, "{}", example.event_type);
    }
}

#[test]
fn a_copied_row_is_what_was_sent() {
    let example = crate::example::find("organizationMembership.created").expect("there is one");
    let facts = facts(&parse_body(example.body));
    let Fact::Member(member, generation, stamp) = &facts[0] else { panic!("{facts:?}") };
    assert_eq!(member.role.as_deref(), Some("org:member"));
    assert_eq!(member.permissions, ["org:posts:read", "org:posts:write"]);
    assert_eq!((member.created_at, member.updated_at), (Some(Millis(UPDATED_AT)), Some(Millis(UPDATED_AT))));
    assert_eq!((generation.created_at, Some(&generation.id)), (Millis(UPDATED_AT), member.membership.as_ref()));
    assert_eq!((stamp.updated_at, stamp.event_at), (Millis(UPDATED_AT), Millis(UPDATED_AT)));
    let Fact::Organization(organization, _) = &facts[1] else { panic!("{facts:?}") };
    assert_eq!(organization.id, member.organization);
    assert_eq!((organization.name.as_deref(), organization.slug.as_deref()), (Some("Acme Corp"), Some("acme-corp")));
    assert_eq!(organization.settings, json!({}));
    let Fact::PartOfUser(user, _) = &facts[2] else { panic!("{facts:?}") };
    assert_eq!(user.id, member.user);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_filter("JSON has no NaN", |number| number.is_finite()).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop_oneof![Just("user_1"), Just("org_1"), Just("orgmem_1"), Just("orginv_1"), Just("pending")]
            .prop_map(Value::from),
    ];
    let key = prop_oneof![
        4 => proptest::sample::select(vec![
            "id", "data", "timestamp", "instance_id", "created_at", "updated_at", "organization", "public_user_data",
            "user_id", "organization_id", "public_metadata", "private_metadata", "unsafe_metadata", "email_addresses",
            "permissions", "role", "status", "url", "user_agent", "name", "first_name", "expires_at",
        ]).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    leaf.prop_recursive(5, 60, 8, move |inner| {
        prop_oneof![
            1 => proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            3 => proptest::collection::btree_map(key.clone(), inner, 0..8)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        for mode in MODES {
            understand(&bytes, &context(mode));
        }
    }

    #[test]
    fn no_damage_makes_it_panic(
        example in proptest::sample::select(EXAMPLES),
        damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut body = example.body.as_bytes().to_vec();
        for (place, byte) in damage {
            let place = place.index(body.len());
            body[place] = byte;
        }
        for mode in MODES {
            understand(&body, &context(mode));
        }
    }

    #[test]
    fn any_json_is_kept_once_and_for_all_and_read_alike(
        event_type in proptest::sample::select(EXAMPLES).prop_map(|example| example.event_type),
        data in any_json(),
        timestamp in any_json(),
    ) {
        let body = json!({"type": event_type, "timestamp": timestamp, "data": data}).to_string();
        for mode in MODES {
            let once = kept(&body, mode);
            prop_assert_eq!(&kept(&once, mode), &once);
            prop_assert_eq!(read(&Message::whole(&once), &context(mode)), understand(body.as_bytes(), &context(mode)));
            // All that means anything is kept.
            let whole = read(&Message::whole(&body), &context(mode)).reading;
            prop_assert_eq!(whole, understand(once.as_bytes(), &context(mode)).reading);
        }
    }
}

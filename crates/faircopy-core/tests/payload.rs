//! What is kept of a body, beside what the former transcoder kept of it: over random JSON in random spellings, over the
//! damaged examples and over any bytes, both take and refuse the same bodies, and every kept value is the same. What is
//! kept stays as it is when it is kept again, and means the same event.

mod transcoder;

use faircopy_core::event::{self, Context, Event};
use faircopy_core::example::EXAMPLES;
use faircopy_core::payload::{Kept, keep};
use faircopy_core::{Millis, ProfileMode};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::Value;

const MODES: [ProfileMode; 2] = [ProfileMode::Full, ProfileMode::Minimal];

fn understand(body: &[u8], mode: ProfileMode) -> Event {
    let context = Context { mode, signed_at: Millis(1_716_883_260_000), instance: None };
    match keep(body, mode) {
        Kept::Json(message) => event::read(&message, &context),
        Kept::Unreadable { fault, .. } => Event::unreadable(fault),
    }
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Both ways say the same of a body. Returns in how many modes it is taken.
#[track_caller]
fn alike(body: &[u8]) -> usize {
    let taken = MODES.into_iter().filter(|&mode| {
        let shown = || format!("{mode:?}: {}", String::from_utf8_lossy(body));
        let (kept, formerly) = (keep(body, mode), transcoder::keep(body, mode));
        match (&kept, &formerly) {
            (Kept::Json(message), Some(formerly)) => {
                assert_eq!(value(message.text()), value(formerly), "{}", shown());
                assert!(message.text().len() <= body.len(), "{}", shown());
                assert_eq!(keep(message.text().as_bytes(), mode), kept, "kept again, {}", shown());
                assert_eq!(understand(body, mode), understand(formerly.as_bytes(), mode), "{}", shown());
            }
            (Kept::Unreadable { fault, .. }, None) => assert!(!fault.is_empty()),
            _ => panic!("now {kept:?}, formerly {formerly:?}, {}", shown()),
        }
        formerly.is_some()
    });
    taken.count()
}

const KEYS: &[&str] = &[
    "id",
    "data",
    "type",
    "timestamp",
    "instance_id",
    "object",
    "created_at",
    "organization",
    "public_user_data",
    "user_id",
    "public_metadata",
    "private_metadata",
    "unsafe_metadata",
    "email_addresses",
    "permissions",
    "role",
    "status",
    "url",
    "user_agent",
    "client_ip",
    "event_attributes",
    "ip_address",
    "name",
    "slug",
    "workspaceId",
    "",
];
const TYPES: &[&str] = &[
    "user.created",
    "user.deleted",
    "organization.updated",
    "organizationMembership.created",
    "organizationInvitation.created",
    "email.created",
    "sms.created",
    "session.created",
    "waitlistEntry.created",
];

fn space() -> impl Strategy<Value = &'static str> {
    prop_oneof![8 => Just(""), 1 => select(vec![" ", "\n", "\t", "\r\n", "  \n  "])]
}

/// A text in quotes, in any spelling; sometimes, but rarely, one that JSON refuses.
fn text() -> impl Strategy<Value = String> {
    let plain = any::<char>().prop_map(|c| if c < ' ' || matches!(c, '"' | '\\') { 'x' } else { c });
    let right = select(vec!["\\n", "\\\"", "\\\\", "\\/", "\\b", "\\f", "\\r", "\\t", "\\u0041", "\\u00e9", "\\u0000"]);
    let pairs = select(vec!["\\ud83d\\ude00", "\\uD83D\\uDE00", "\\uffff"]);
    let wrong = select(vec!["\\ud800", "\\udc00", "\\ud800\\ud800", "\\ud800\\n", "\\x", "\\u12g4", "\n", "\u{1f}"]);
    let piece = prop_oneof![
        30 => "[a-z0-9 ]{1,12}",
        10 => plain.prop_map(String::from),
        10 => right.prop_map(str::to_owned),
        5 => pairs.prop_map(str::to_owned),
        1 => wrong.prop_map(str::to_owned),
    ];
    vec(piece, 0..5).prop_map(|pieces| format!("\"{}\"", pieces.concat()))
}

fn number() -> impl Strategy<Value = String> {
    let right = select(vec![
        "0",
        "-0",
        "1E5",
        "1e-400",
        "0e999999999999",
        "-1.50e+2",
        "1.0",
        "123456789012345678901234567890",
        "1e308",
    ]);
    let large = prop_oneof![Just("1e400"), Just("-1e309")].prop_map(str::to_owned);
    prop_oneof![
        6 => any::<i64>().prop_map(|number| number.to_string()),
        3 => any::<f64>().prop_filter("JSON has no NaN", |number| number.is_finite()).prop_map(|x| format!("{x:e}")),
        6 => right.prop_map(str::to_owned),
        1 => large,
        1 => (300..320_usize).prop_map(|digits| "9".repeat(digits)),
        1 => select(vec!["01", "-", "1.", ".5", "+1", "1e", "NaN", "Infinity", "1e+"]).prop_map(str::to_owned),
    ]
}

/// A key in quotes, sometimes spelled with an escape.
fn key() -> impl Strategy<Value = String> {
    let escaped = |key: &&str| key.chars().next().map(|c| format!("\"\\u{:04x}{}\"", c as u32, &key[1..]));
    prop_oneof![
        10 => select(KEYS).prop_map(|key| format!("\"{key}\"")),
        1 => select(KEYS).prop_map(move |key| escaped(&key).unwrap_or_default()),
        1 => text(),
    ]
}

fn object(members: Vec<(String, String)>, spaces: &[&str]) -> String {
    let mut spaces = spaces.iter().cycle();
    let mut space = || spaces.next().copied().unwrap_or_default();
    let members: Vec<String> = members
        .into_iter()
        .map(|(key, value)| format!("{}{key}{}:{}{value}{}", space(), space(), space(), space()))
        .collect();
    format!("{{{}}}", if members.is_empty() { space().to_owned() } else { members.join(",") })
}

fn spaces() -> impl Strategy<Value = Vec<&'static str>> {
    vec(space(), 1..6)
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        2 => select(vec!["null", "true", "false"]).prop_map(str::to_owned),
        3 => number(),
        5 => text(),
        2 => select(vec!["\"user_1\"", "\"org_1\"", "\"orgmem_1\"", "\"orginv_1\"", "\"verified\""]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        let items = vec((inner.clone(), space()), 0..5);
        prop_oneof![
            1 => items.prop_map(|items| {
                let items: Vec<String> = items.into_iter().map(|(item, space)| format!("{space}{item}{space}")).collect();
                format!("[{}]", items.join(","))
            }),
            3 => (vec((key(), inner), 0..7), spaces()).prop_map(|(members, spaces)| object(members, &spaces)),
        ]
    })
}

/// A body of one of the types, which stands anywhere among the other keys.
fn body() -> impl Strategy<Value = String> {
    let members = vec((key(), json()), 0..6);
    (select(TYPES), members, json(), any::<Index>(), spaces()).prop_map(
        |(event_type, mut members, data, at, spaces)| {
            // Keys of the envelope that come twice are tried, but not most of the time.
            members.retain(|(key, value)| !matches!(key.as_str(), "\"type\"" | "\"data\"") || value.len() == 4);
            members.insert(at.index(members.len() + 1), ("\"data\"".into(), data));
            members.insert(at.index(members.len() + 1), ("\"type\"".into(), format!("\"{event_type}\"")));
            object(members, &spaces)
        },
    )
}

#[derive(Debug, Clone)]
enum Damage {
    Set(Index, u8),
    Put(Index, &'static str),
    Cut(Index),
    Drop(Index, Index),
    Double(Index, Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let pieces = vec![
        ",",
        ":",
        "{",
        "}",
        "[",
        "]",
        "\"",
        "\\",
        "0",
        "-",
        "e9",
        ".",
        " ",
        "\n",
        "null",
        "\u{feff}",
        "\0",
        "\\u0069",
        "\"type\":1,",
        "\"data\":{},",
        "\"private_metadata\":{\"a\":[\"\\ud800\",1e999]},",
        "\\ud800",
        "[[[",
        "]]]",
        "é",
    ];
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (any::<Index>(), select(pieces)).prop_map(|(at, piece)| Damage::Put(at, piece)),
        any::<Index>().prop_map(Damage::Cut),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Damage::Drop(from, to)),
        (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Damage::Double(from, to)),
    ]
}

fn damaged(mut body: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    let near = |from: usize, to: &Index, length: usize| from..(from + to.index(40)).min(length);
    for damage in damages {
        let length = body.len();
        if length == 0 {
            break;
        }
        match damage {
            Damage::Set(at, byte) => body[at.index(length)] = *byte,
            Damage::Put(at, piece) => {
                let at = at.index(length);
                body.splice(at..at, piece.bytes());
            }
            Damage::Cut(at) => body.truncate(at.index(length)),
            Damage::Drop(from, to) => drop(body.drain(near(from.index(length), to, length))),
            Damage::Double(from, to) => {
                let range = near(from.index(length), to, length);
                let copy = body[range.clone()].to_vec();
                body.splice(range.end..range.end, copy);
            }
        }
    }
    body
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_json_in_any_spelling_is_kept_as_before(body in body()) {
        alike(body.as_bytes());
    }

    #[test]
    fn damaged_examples_are_taken_and_refused_as_before(
        example in select(EXAMPLES), compact in any::<bool>(), damages in vec(damage(), 1..4),
    ) {
        let body = if compact { value(example.body).to_string() } else { example.body.to_owned() };
        alike(&damaged(body.into_bytes(), &damages));
    }

    #[test]
    fn damaged_json_is_taken_and_refused_as_before(body in body(), damages in vec(damage(), 1..3)) {
        alike(&damaged(body.into_bytes(), &damages));
    }

    #[test]
    fn any_bytes_are_taken_and_refused_as_before(bytes in vec(any::<u8>(), 0..200)) {
        alike(&bytes);
    }

    #[test]
    fn any_bytes_of_json_are_taken_and_refused_as_before(pieces in vec(select(vec![
        "{", "}", "[", "]", ",", ":", "\"", "\\", "\"type\"", "\"a\"", "\"private_metadata\"", "1", "-", "0", ".", "e", "null",
        "true", " ", "\n", "\\u0", "\\ud800", "{\"a\":", "{\"event_attributes\":",
    ]), 0..12)) {
        let inner = pieces.concat();
        alike(inner.as_bytes());
        alike(format!("{{\"a\":{inner}}}").as_bytes());
        alike(format!("{{\"private_metadata\":{inner}}}").as_bytes());
    }
}

#[test]
fn the_examples_are_kept_as_before() {
    for example in EXAMPLES {
        assert_eq!(alike(example.body.as_bytes()), 2, "{}", example.event_type);
        assert_eq!(alike(value(example.body).to_string().as_bytes()), 2, "{}", example.event_type);
        for length in 0..example.body.len() {
            assert_eq!(alike(&example.body.as_bytes()[..length]), 0);
        }
    }
}

#[test]
fn what_is_kept_may_nest_as_deep_as_before() {
    for depth in [1, 2, 125, 126, 127, 128, 129, 10_000] {
        for (open, close) in [("[", "]"), (r#"{"id":"#, "}")] {
            let nested = |inner: &str| format!("{}{inner}{}", open.repeat(depth), close.repeat(depth));
            let taken = if depth < 127 { 2 } else { 0 };
            for key in ["data", "id", "type"] {
                assert_eq!(alike(format!(r#"{{"{key}":{}}}"#, nested("0")).as_bytes()), taken, "{key}, {depth}");
            }
            // What is left out may nest at will, and hold what no reader takes.
            let body = format!(r#"{{"type":"user.created","client_ip":{}}}"#, nested(r#"["\udc00",1e999]"#));
            assert_eq!(alike(body.as_bytes()), 2, "{depth}");
            let body = format!(r#"{{"type":"user.created","client_ip":{}}}"#, nested(r"['x']"));
            assert_eq!(alike(body.as_bytes()), 0, "{depth}");
        }
    }
}

#[test]
fn a_type_that_is_no_text_is_ruled_as_every_other_value() {
    assert_eq!(alike(br#"{"type":{"client_ip":1e400,"a":1}}"#), 2);
    assert_eq!(alike(br#"{"type":{"a":1e400}}"#), 1, "minimal mode leaves it out");
    assert_eq!(alike(br#"{"type":["\ud800"]}"#), 0);
}

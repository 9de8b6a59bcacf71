//! Who may send: faults.md W1 to W13, W29 and W31, through the endpoint.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use faircopy_testkit::sender::Sender;

use crate::app::{SECRET, TestApp, assert_problem, manual_clock};
use crate::events::{THEN, event, user, user_created};
use crate::raw;

/// One request of the table: its row, its headers, its body, and the reason for which it is refused, if it is.
struct Case {
    row: &'static str,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    refused: Option<&'static str>,
}

fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A delivery of this id, timestamp, signature and body.
fn case(row: &'static str, [id, at, signature]: [&str; 3], body: &[u8], refused: Option<&'static str>) -> Case {
    let headers = owned(&[("svix-id", id), ("svix-timestamp", at), ("svix-signature", signature)]);
    Case { row, headers, body: body.to_vec(), refused }
}

fn cases(now: i64) -> Vec<Case> {
    let sender = Sender::new("http://127.0.0.1:1/", SECRET);
    let sign = |id: &str, body: &[u8], at: i64| sender.sign_at(id, body, at).signature;
    let text = user_created("user_w");
    let (body, at) = (text.as_bytes(), now.to_string());
    let good = sign("msg_w", body, now);
    let encoded = &good[3..];
    let mut cases = Vec::new();
    let mut add = |row, three: [&str; 3], body: &[u8], refused| cases.push(case(row, three, body, refused));

    add("the plain case", ["msg_w", &at, &good], body, None);
    // W2. An id with a dot shares its signed text with another message: it is signed correctly here.
    for (row, id) in [("W2 dot", "msg.w"), ("W2 space", "msg w"), ("W2 tab", "msg\tw"), ("W2 129", &"m".repeat(129))] {
        add(row, [id, &at, &sign(id, body, now)], body, Some("malformed_id"));
    }
    add("W2 empty", ["", &at, &sign("", body, now)], body, Some("missing_header"));
    add("W2 blank", [" ", &at, &good], body, Some("missing_header"));
    let longest = "m".repeat(128);
    add("W2 128", [&longest, &at, &sign(&longest, body, now)], body, None);
    // W3. Signed over the very text where the number is the same.
    let ahead = (now * 1000).to_string();
    for (row, stamp) in [
        ("W3 letters", "abc"),
        ("W3 negative", "-1"),
        ("W3 float", "1e9"),
        ("W3 milliseconds", ahead.as_str()),
        ("W3 plus", &format!("+{now}")),
        ("W3 zero in front", &format!("0{now}")),
        ("W3 twenty digits", &"1".repeat(20)),
        ("W3 nine digits", "999999999"),
        ("W3 decimals", &format!("{now}.0")),
    ] {
        add(row, ["msg_w", stamp, &good], body, Some("malformed_timestamp"));
    }
    // W4, W5.
    for (row, distance, refused) in [
        ("W4 301 s old", -301, Some("timestamp")),
        ("W4 301 s ahead", 301, Some("timestamp")),
        ("W5 299 s old", -299, None),
        ("W5 299 s ahead", 299, None),
        ("W5 300 s old", -300, None),
        ("W5 300 s ahead", 300, None),
    ] {
        let id = format!("msg_{}", row.replace(' ', "_"));
        add(row, [&id, &(now + distance).to_string(), &sign(&id, body, now + distance)], body, refused);
    }
    // W6, W7.
    let url_safe = URL_SAFE.encode(STANDARD.decode(encoded).unwrap());
    for (row, signature) in [
        ("W6 nothing after v1,", "v1,".to_owned()),
        ("W6 v1", "v1".to_owned()),
        ("W6 a prefix of 8", format!("v1,{}", &encoded[..8])),
        ("W6 no padding", format!("v1,{}", encoded.trim_end_matches('='))),
        ("W6 upper case", good.to_uppercase()),
        ("W6 V1", good.replace("v1,", "V1,")),
        ("W6 doubled", format!("v1,{encoded}{encoded}")),
        ("W7 v2", format!("v2,{encoded}")),
        ("W7 v1a", format!("v1a,{encoded}")),
        ("W7 no prefix", encoded.to_owned()),
        ("W7 separated by commas", format!("v1,AAAA,{good}")),
    ] {
        add(row, ["msg_w", &at, &signature], body, Some("no_match"));
    }
    if url_safe != encoded {
        add("W6 url-safe", ["msg_w", &at, &format!("v1,{url_safe}")], body, Some("no_match"));
    }
    add("W6 empty", ["msg_w", &at, ""], body, Some("missing_header"));
    // W8, W9.
    let wrong = format!("v1,{}", STANDARD.encode([7; 32]));
    let among = |others: usize| format!("{} {}", vec![wrong.as_str(); others].join(" "), good);
    add("W8 one of 16", ["msg_w8", &at, &among(15).replace(&good, &sign("msg_w8", body, now))], body, None);
    add("W9 one of 17", ["msg_w", &at, &among(16)], body, Some("too_many_signatures"));
    let long = format!("v1,{} {good}", "A".repeat(4096));
    add("W9 more than 4 KiB", ["msg_w", &at, &long], body, Some("too_many_signatures"));
    // W10.
    let mut flipped = body.to_vec();
    flipped[10] ^= 1;
    let parsed: serde_json::Value = serde_json::from_slice(body).unwrap();
    add("W10 a line more", ["msg_w", &at, &good], &[body, b"\n"].concat(), Some("no_match"));
    add(
        "W10 written again",
        ["msg_w", &at, &good],
        serde_json::to_string_pretty(&parsed).unwrap().as_bytes(),
        Some("no_match"),
    );
    add("W10 one bit", ["msg_w", &at, &good], &flipped, Some("no_match"));
    add("W10 no body", ["msg_w", &at, &good], b"", Some("no_match"));
    add("W10 other id", ["msg_v", &at, &good], body, Some("no_match"));
    add("W10 other time", ["msg_w", &(now - 1).to_string(), &good], body, Some("no_match"));

    // W1, W12, W13: other sets of headers.
    let three = [("svix-id", "msg_w"), ("svix-timestamp", at.as_str()), ("svix-signature", good.as_str())];
    let mut add = |row, headers, refused| cases.push(Case { row, headers, body: body.to_vec(), refused });
    for missing in 0..3 {
        let mut left = owned(&three);
        left.remove(missing);
        add("W1", left, Some("missing_header"));
    }
    for twice in three {
        add("W12 twice", owned(&[&three[..], &[twice]].concat()), Some("repeated_header"));
    }
    for conflicting in [("webhook-id", "msg_v"), ("webhook-timestamp", "1"), ("webhook-signature", "v1,x")] {
        add("W12 both, and other", owned(&[&three[..], &[conflicting]].concat()), Some("conflicting_header"));
    }
    add("W12 both, and the same", owned(&[&three[..], &[("webhook-id", "msg_w")]].concat()), None);
    let unbranded = three.map(|(name, value)| (name.replace("svix", "webhook"), value.to_owned()));
    add("W13", unbranded.to_vec(), Some("missing_header"));
    cases
}

#[tokio::test]
async fn what_is_authentic_is_taken_and_nothing_else() {
    let app = TestApp::build().clock(&manual_clock()).start().await;
    let mut stored = 0;
    for case in cases(app.now()) {
        let headers: Vec<(&str, &str)> =
            case.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let response = app.post(&headers, case.body).await;
        if let Some(reason) = case.refused {
            let problem = assert_problem(&response, 400, "signature-invalid");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.ends_with(&format!("({reason}).")), "{}: {detail}", case.row);
        } else {
            assert_eq!(response.status, 200, "{}: {}", case.row, response.text());
        }
        let now = app.deliveries().await.len();
        assert!(case.refused.is_none() || now == stored, "{}: a refused delivery is stored", case.row);
        stored = now;
    }
    assert_eq!(stored, 7, "the plain one, W2, four of W5 and W8 have ids of their own");
}

/// Control characters cannot be put into a header by a client library: hyper refuses them before we see them.
#[tokio::test]
async fn control_characters_in_an_id_are_refused() {
    let app = TestApp::start().await;
    let body = user_created("user_w");
    for control in ["\u{0}", "\u{1}", "\u{7f}", "\r", "\u{80}"] {
        let id = format!("msg{control}w");
        let signed = app.sign(&id, &body);
        let bytes = raw::head(&signed, &[&format!("Content-Length: {}", body.len()), "Connection: close"]) + &body;
        let heard = raw::exchange(app.address, bytes.as_bytes(), false, Duration::from_secs(5)).await;
        assert_eq!(heard.statuses().first(), Some(&400), "{control:?}: {}", heard.text());
        assert!(!heard.statuses().contains(&200), "{control:?}");
    }
    assert_eq!(app.deliveries().await.len(), 0);
}

#[tokio::test]
async fn both_secrets_are_accepted_while_they_rotate() {
    const NEW: &str = "whsec_bmV3IHNlY3JldCBvZiAzMiBieXRlcywgb2theT8=";
    let body = user_created("user_1");
    let check = async |app: &TestApp, secret: &str, id: &str, taken: bool| {
        let signed = Sender::new(app.url("/"), secret).sign_at(id, body.as_bytes(), app.now());
        let response = app.post(&signed.headers(), body.clone()).await;
        assert_eq!(response.status, if taken { 200 } else { 400 }, "{id}: {}", response.text());
    };
    for list in [format!("{NEW},{SECRET}"), format!("{NEW} {SECRET}"), format!("{SECRET}, {NEW}")] {
        let during = TestApp::build().secrets(&list).start().await;
        check(&during, SECRET, "msg_old", true).await;
        check(&during, NEW, "msg_new", true).await;
    }
    let after = TestApp::build().secrets(NEW).start().await;
    check(&after, SECRET, "msg_old", false).await;
    check(&after, NEW, "msg_new", true).await;
}

#[tokio::test]
async fn the_unbranded_names_are_accepted_when_it_is_set() {
    let app = TestApp::build().webhook("accept_webhook_headers = true").start().await;
    let body = user_created("user_1");
    let signed = app.sign("msg_1", &body);
    let branded = signed.headers();
    let unbranded = branded.map(|(name, value)| (name.replace("svix", "webhook"), value));
    let unbranded: Vec<(&str, &str)> = unbranded.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(app.post(&unbranded, body.clone()).await.status, 200);
    assert_eq!(app.post(&branded, body.clone()).await.status, 200);
    assert_eq!(app.post(&[&branded[..], &unbranded[..]].concat(), body.clone()).await.status, 200);
    // A set of headers is one or the other: halves of both are none.
    let mixed = [branded[0], unbranded[1], unbranded[2]];
    assert_problem(&app.post(&mixed, body.clone()).await, 400, "signature-invalid");
    let conflicting = [branded[0], branded[1], branded[2], ("webhook-id", "msg_2")];
    assert_problem(&app.post(&conflicting, body).await, 400, "signature-invalid");
}

#[tokio::test]
async fn a_captured_request_is_a_duplicate_and_then_too_old() {
    let clock = manual_clock();
    let app = TestApp::build().clock(&clock).start().await;
    let body = event("user.created", &user("user_1", THEN)).to_string();
    let captured = app.sign("msg_1", &body);
    let send = async || app.post(&captured.headers(), body.clone()).await;
    assert_eq!(send().await.json().unwrap()["outcome"], "applied");
    let before = (app.tables().await, app.admin_json("/admin/v1/changes").await);
    clock.advance(300_000);
    assert_eq!(send().await.json().unwrap()["outcome"], "duplicate");
    clock.advance(1_000);
    assert_problem(&send().await, 400, "signature-invalid");
    assert_eq!((app.tables().await, app.admin_json("/admin/v1/changes").await), before);
    assert_eq!(app.deliveries().await["msg_1"].attempts, 2);
}

#[tokio::test]
async fn only_allowed_networks_may_send_where_any_is_named() {
    let body = user_created("user_1");
    let check = async |lines: &[&str], listen: &'static str, forwarded: Option<&str>, allowed: bool| {
        let app = lines.iter().fold(TestApp::build().listen(listen), |app, line| app.webhook(line)).start().await;
        let signed = app.sign("msg_1", &body);
        let mut headers = signed.headers().to_vec();
        headers.extend(forwarded.map(|chain| ("x-forwarded-for", chain)));
        let response = app.post(&headers, body.clone()).await;
        if allowed {
            assert_eq!(response.status, 200, "{lines:?} {forwarded:?}: {}", response.text());
        } else {
            assert_problem(&response, 403, "sender-not-allowed");
        }
        assert_eq!(app.deliveries().await.len(), usize::from(allowed));
    };
    let svix = r#"allow_from = ["44.228.126.217/32"]"#;
    let here = r#"allow_from = ["127.0.0.0/8"]"#;
    let proxy = r#"trusted_proxies = ["127.0.0.1/32"]"#;
    check(&[here], "127.0.0.1:0", None, true).await;
    check(&[svix], "127.0.0.1:0", None, false).await;
    check(&[svix], "127.0.0.1:0", Some("44.228.126.217"), false).await;
    check(&[svix, proxy], "127.0.0.1:0", Some("44.228.126.217"), true).await;
    check(&[svix, proxy], "127.0.0.1:0", Some("44.228.126.217, 203.0.113.9"), false).await;
    check(&[here, proxy], "127.0.0.1:0", Some("203.0.113.9"), false).await;
    // On a socket for both families an IPv4 sender has an IPv6 address.
    check(&[here], "[::]:0", None, true).await;
    check(&[svix, proxy], "[::]:0", Some("44.228.126.217"), true).await;
    check(&[svix], "[::]:0", None, false).await;
}

use super::*;

fn kept(body: &str, mode: ProfileMode) -> String {
    match keep(body.as_bytes(), mode) {
        Kept::Json(message) => message.into_text(),
        Kept::Unreadable { fault, .. } => panic!("{fault}: {body}"),
    }
}

#[test]
fn full_mode_leaves_out_secrets_and_keeps_metadata_as_it_is() {
    let check = |body: &str, expected: &str| assert_eq!(kept(body, ProfileMode::Full), expected);
    check(
        r#"{"type":"user.created","event_attributes":{"http_request":{"client_ip":"1.2.3.4"}},"data":{"id":"user_1","private_metadata":{"a":1},"x":[1,-2,2.5,null,true,"\u0000\n"]}}"#,
        r#"{"type":"user.created","data":{"id":"user_1","x":[1,-2,2.5,null,true,"\u0000\n"]}}"#,
    );
    check(
        r#"{"type":"user.updated","data":{"public_metadata":{"ip_address":"mine","private_metadata":{}}}}"#,
        r#"{"type":"user.updated","data":{"public_metadata":{"ip_address":"mine","private_metadata":{}}}}"#,
    );
    check(
        r#"{"type":"session.created","data":{"latest_activity":{"ip_address":"1.2.3.4","city":"x"}}}"#,
        r#"{"type":"session.created","data":{"latest_activity":{"city":"x"}}}"#,
    );
    check(
        r#"{"type":"organizationInvitation.created","data":{"url":"https://x?ticket=1","id":"i"}}"#,
        r#"{"type":"organizationInvitation.created","data":{"id":"i"}}"#,
    );
    check(r#"{"data":{"\u0070rivate_metadata":1},"type":"user.created"}"#, r#"{"data":{},"type":"user.created"}"#);
}

#[test]
fn messages_keep_no_code() {
    let body = r#"{"data":{"body":"Your code is 424242","id":"ema_1","subject":"424242","data":{"otp_code":"424242"}},"type":"email.created"}"#;
    assert_eq!(kept(body, ProfileMode::Full), r#"{"data":{"id":"ema_1","data":{}},"type":"email.created"}"#);
}

#[test]
fn minimal_mode_keeps_ids_times_and_links_only() {
    let check = |body: &str, expected: &str| assert_eq!(kept(body, ProfileMode::Minimal), expected);
    check(
        r#"{"type":"user.created","data":{"id":"user_1","first_name":"Ada","email_addresses":[{"id":"idn_1"}],"updated_at":5,"public_metadata":{"workspaceId":"w","phone":"1"}}}"#,
        r#"{"type":"user.created","data":{"id":"user_1","updated_at":5,"public_metadata":{"workspaceId":"w"}}}"#,
    );
    check(
        r#"{"type":"organizationMembership.created","data":{"id":"orgmem_1","organization":{"id":"org_1","name":"Acme","private_metadata":{}},"public_user_data":{"user_id":"user_1","identifier":"a@b.c"}}}"#,
        r#"{"type":"organizationMembership.created","data":{"id":"orgmem_1","organization":{"id":"org_1","name":"Acme"},"public_user_data":{"user_id":"user_1"}}}"#,
    );
}

#[test]
fn what_is_not_json_is_kept_without_its_secrets() {
    let check = |body: &[u8], expected: Option<&str>| match keep(body, ProfileMode::Full) {
        Kept::Unreadable { text, .. } => assert_eq!(text.as_deref(), expected),
        Kept::Json(message) => panic!("read as JSON: {}", message.text()),
    };
    check(b"not json", Some("not json"));
    check(
        b"{\"type\":\"user.created\",\"data\":{\"private_metadata\":{\"a\":[\"}\"]},\"id\":1",
        Some("{\"type\":\"user.created\",\"data\":{\"private_metadata\":null,\"id\":1"),
    );
    check(b"{\"client_ip\" : \"1.2.3.4", Some("{\"client_ip\":null"));
    check(b"{\"type\":\"email.created\",\"data\":{\"body\":\"424242\"", None);
    check(b"{\"a\":\"\xff\"}", Some("{\"a\":\"\\xff\"}"));
    check(b"{\"a\":1e400}", Some("{\"a\":1e400}"));
    check(b"\xef\xbb\xbf{}", Some("\u{feff}{}"));
    check(br#"{"type":"a","type":"b"}"#, Some(r#"{"type":"a","type":"b"}"#));
    check(br#"{"a":"\ud800"}"#, Some(r#"{"a":"\ud800"}"#));
    check(b"{} x", Some("{} x"));
    let deep = "[".repeat(100_000);
    check(deep.as_bytes(), Some(&deep));
    assert_eq!(
        keep(b"not json", ProfileMode::Minimal),
        Kept::Unreadable { text: None, fault: "not JSON (line 1, column 2)".into() }
    );
}

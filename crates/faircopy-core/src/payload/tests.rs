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
    check(br#"{"\u0063lient_ip":"1.2.3.4","id":1"#, Some(r#"{"\u0063lient_ip":null,"id":1"#));
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

#[test]
fn what_is_kept_is_kept_as_it_was_spelled() {
    let check = |body: &str, expected: &str| assert_eq!(kept(body, ProfileMode::Full), expected);
    let spelled =
        r#"{"data":{"a":[-0,1E5,1.50,0.1e-7,12345678901234567890123],"\u0062":"\u0041\/\ud83d\ude00é"},"type":"x"}"#;
    check(spelled, spelled);
    check("\t{ \"a\" : [ 1 , { } , [ ] ] ,\r\n\"b\" : \" x \" } \n", r#"{"a":[1,{},[]],"b":" x "}"#);
    // What is left out takes one comma with it, wherever it stands.
    check(r#"{"client_ip":1, "a":1}"#, r#"{"a":1}"#);
    check(r#"{"a":1 , "client_ip":1}"#, r#"{"a":1}"#);
    check(r#"{"a":1, "client_ip":1 ,"user_agent":[{},[]] , "b":2}"#, r#"{"a":1,"b":2}"#);
    check(r#"{ "client_ip" : {"x":["}"]} , "user_agent":1 }"#, "{}");
}

#[test]
fn the_type_rules_wherever_it_stands_and_however_it_is_spelled() {
    let check = |body: &str, expected: &str| assert_eq!(kept(body, ProfileMode::Full), expected);
    check(r#"{"type":"email.created","data":{"body":"1"}}"#, r#"{"type":"email.created","data":{}}"#);
    check(r#"{"data":{"body":"1"},"type" : "email.created" } "#, r#"{"data":{},"type":"email.created"}"#);
    check(r#"{"data":{"body":"1"},"type":"\u0065mail.created"}"#, r#"{"data":{},"type":"\u0065mail.created"}"#);
    check(r#"{"data":{"body":"1"},"\u0074ype":"sms.created"}"#, r#"{"data":{},"\u0074ype":"sms.created"}"#);
    check(
        r#"{"type":"email.created","data":{"body":"1","type":"x"}}"#,
        r#"{"type":"email.created","data":{"type":"x"}}"#,
    );
    // What looks like the type at the end is none: a key that ends like one.
    check(r#"{"type":"email.created","body\"type":"user.created"}"#, r#"{"type":"email.created"}"#);
    check(r#"{"type":"email.created","\"type\"":"user.created"}"#, r#"{"type":"email.created"}"#);
    check(r#"{"type":["email.created"],"data":{"body":1}}"#, r#"{"type":["email.created"],"data":{"body":1}}"#);
}

#[test]
fn a_fault_says_what_and_where() {
    let check = |body: &str, expected: &str| match keep(body.as_bytes(), ProfileMode::Full) {
        Kept::Unreadable { fault, .. } => assert_eq!(fault, expected, "{body}"),
        Kept::Json(message) => panic!("read as JSON: {}", message.text()),
    };
    check("", "the JSON ends too early (line 1, column 1)");
    check("{\"a\":\n tru}", "not JSON (line 2, column 5)");
    check("{\"a\":1}\n{}", "not JSON (line 2, column 1)");
    check("{\"a\":\"\n\"}", "not JSON (line 1, column 7)");
    check("[{}]", "JSON, but not one object (line 1, column 1)");
    check(r#"{"a":1e400}"#, "JSON with a number that is too large (line 1, column 6)");
    check(r#"{"a":"x\ud800"}"#, "JSON with half a surrogate pair (line 1, column 8)");
    check(r#"{"data":{},"data":{}}"#, "JSON, but a key of the event comes twice (line 1, column 12)");
    check(&format!("{{\"a\":{}", "[".repeat(127)), "JSON nested too deeply (line 1, column 132)");
    assert!(matches!(keep(b"\xff", ProfileMode::Full), Kept::Unreadable { fault, .. } if fault == "not UTF-8"));
}

#[test]
fn what_is_erased_keeps_what_is_not_the_persons() {
    let check = |event_type: &str, body: &str, expected: Option<&str>| {
        let erased = erase(body, event_type);
        assert_eq!(erased.as_deref(), expected);
        // Erased again it is the same.
        if let Some(erased) = erased {
            assert_eq!(erase(&erased, event_type).as_deref(), Some(erased.as_str()));
        }
    };
    for event_type in ["user.created", "user.updated", "email.created", "sms.created", "session.created", "x.y", ""] {
        check(event_type, r#"{"type":"x","data":{"id":"user_1","first_name":"Ada"}}"#, None);
    }
    check(
        "user.deleted",
        r#"{"type":"user.deleted","data":{"id":"user_1","deleted":true,"name":"Ada"}}"#,
        Some(r#"{"type":"user.deleted","data":{"id":"user_1","deleted":true}}"#),
    );
    check(
        "organizationMembership.created",
        r#"{"data":{"id":"orgmem_1","organization":{"id":"org_1","name":"Acme","x":[1.50]},"public_metadata":{"nick":"Ada"},"public_user_data":{"first_name":"Ada","identifier":"a@b.c","image_url":"https://x","user_id":"user_1"},"role":"org:admin"},"timestamp":17,"type":"organizationMembership.created"}"#,
        Some(
            r#"{"data":{"id":"orgmem_1","organization":{"id":"org_1","name":"Acme","x":[1.50]},"public_user_data":{"user_id":"user_1"},"role":"org:admin"},"timestamp":17,"type":"organizationMembership.created"}"#,
        ),
    );
    check(
        "organizationInvitation.accepted",
        r#"{"type":"organizationInvitation.accepted","data":{"id":"orginv_1","email_address":"a@b.c","organization_id":"org_1","status":"accepted","user_id":"user_1"}}"#,
        Some(
            r#"{"type":"organizationInvitation.accepted","data":{"id":"orginv_1","organization_id":"org_1","status":"accepted","user_id":"user_1"}}"#,
        ),
    );
    // What was not kept as JSON cannot be looked through: nothing of it stays.
    check("organizationMembership.created", "{ not json", None);
}

/// Where the user is gone, an erased membership says what the whole one said: the same verdicts and the same rows, whether the deletion
/// comes before it or after.
#[test]
fn an_erased_membership_is_merged_alike() {
    use crate::event::{self, Context, Fact, Observation, Reading};
    use crate::merge::Workset;
    use crate::record::Provenance;
    use crate::time::Millis;

    let context = Context { mode: ProfileMode::Full, signed_at: Millis(4_000_000_000_000), instance: None };
    let observed = |text: &str| match keep(text.as_bytes(), ProfileMode::Full) {
        Kept::Json(message) => match event::read(&message, &context).reading {
            Reading::Observed(observations) => observations,
            other => panic!("{other:?}: {text}"),
        },
        Kept::Unreadable { fault, .. } => panic!("{fault}"),
    };
    let mut seen = 0;
    for example in crate::example::EXAMPLES.iter().filter(|one| one.event_type.starts_with("organizationMembership.")) {
        let whole = kept(example.body, ProfileMode::Full);
        let erased = erase(&whole, example.event_type).expect("a membership");
        assert!(erased.len() < whole.len(), "{}", example.event_type);
        let user = observed(&whole).iter().find_map(|one| match &one.fact {
            Fact::Member(member, ..) => Some(member.user.clone()),
            Fact::NoMember(_, user, ..) => Some(user.clone()),
            _ => None,
        });
        let fact = Fact::NoUser(user.expect("a member"), Millis(5));
        let gone = Observation { source: Provenance::Webhook, fact };
        let merged = |observations: Vec<Observation>, is_late: bool| {
            let mut workset = Workset::new([]);
            if is_late {
                workset.merge(&gone);
            }
            for one in &observations {
                workset.merge(one);
            }
            workset.merge(&gone);
            format!("{:?}", workset.finish())
        };
        for is_late in [true, false] {
            assert_eq!(merged(observed(&erased), is_late), merged(observed(&whole), is_late), "{}", example.event_type);
        }
        seen += 1;
    }
    assert_eq!(seen, 3);
}

//! What changes do: what they answer, what they emit, what they refuse.

use crate::support;
use crate::support::Local;
use serde_json::json;

#[tokio::test]
async fn an_organization_has_its_creator_as_its_first_administrator() {
    let local = Local::start().await;
    let user = local.user("ada@example.com").await;
    let organization = local.organization("Acme", &user).await;
    assert_eq!(local.kinds(), ["user.created", "organization.created", "organizationMembership.created"]);
    let members = local.get(&format!("/v1/organizations/{organization}/memberships")).await.ok();
    assert_eq!(members["total_count"], 1);
    let member = &members["data"][0];
    assert_eq!((&member["role"], &member["public_user_data"]["user_id"]), (&json!("org:admin"), &json!(user)));
    assert_eq!(member["public_user_data"]["identifier"], "ada@example.com");
    assert_eq!(member["organization"]["id"], organization);
}

/// A route's path below `/v1/organizations`.
fn of(organization: &str, rest: &str) -> String {
    format!("/v1/organizations/{organization}{rest}")
}

#[tokio::test]
async fn what_clerk_refuses_is_refused_and_changes_nothing() {
    let local = Local::start().await;
    let ada = local.user("ada@example.com").await;
    let acme = local.organization("Acme", &ada).await;
    local.patch(&of(&acme, ""), json!({"slug": "acme", "max_allowed_memberships": 2})).await.ok();
    let bob = local.post("/v1/users", json!({"username": "bob_b", "external_id": "ext-1"})).await.ok();
    let bob = bob["id"].as_str().expect("an id").to_owned();
    local.bodies();
    let members = of(&acme, "/memberships");
    for (method, path, body, status, code, param) in [
        (
            "POST",
            "/v1/users",
            json!({"email_address": ["ADA@example.com"]}),
            422,
            "form_identifier_exists",
            "email_address",
        ),
        ("POST", "/v1/users", json!({"username": "BOB_b"}), 422, "form_identifier_exists", "username"),
        (
            "POST",
            "/v1/users",
            json!({"username": "carl", "external_id": "ext-1"}),
            422,
            "form_identifier_exists",
            "external_id",
        ),
        ("POST", "/v1/users", json!({"email_address": ["nobody"]}), 422, "form_param_format_invalid", "email_address"),
        (
            "POST",
            "/v1/users",
            json!({"email_address": "x@example.com"}),
            422,
            "form_param_type_invalid",
            "email_address",
        ),
        (
            "POST",
            "/v1/users",
            json!({"email_address": ["x@example.com", "X@example.com"]}),
            422,
            "form_param_duplicate",
            "email_address",
        ),
        (
            "POST",
            "/v1/users",
            json!({"email_address": ["x@example.com"], "nickname": "x"}),
            422,
            "form_param_unknown",
            "nickname",
        ),
        (
            "POST",
            "/v1/users",
            json!({"username": "carl", "password": "short"}),
            422,
            "form_password_length_too_short",
            "password",
        ),
        (
            "POST",
            "/v1/users",
            json!({"username": "carl", "created_at": "yesterday"}),
            422,
            "form_param_invalid_time",
            "created_at",
        ),
        ("POST", "/v1/users", json!({"first_name": "Nobody"}), 422, "form_data_missing", "email_address"),
        (
            "POST",
            "/v1/users",
            json!({"username": "carl", "public_metadata": {"x": "y".repeat(9000)}}),
            422,
            "form_param_exceeds_allowed_size",
            "public_metadata",
        ),
        (
            "PATCH",
            &format!("/v1/users/{ada}"),
            json!({"primary_email_address_id": "idn_1"}),
            422,
            "form_param_value_invalid",
            "primary_email_address_id",
        ),
        (
            "PATCH",
            &format!("/v1/users/{ada}"),
            json!({"public_metadata": {}}),
            422,
            "form_param_deprecated",
            "public_metadata",
        ),
        (
            "PATCH",
            &format!("/v1/users/{bob}"),
            json!({"external_id": 5}),
            422,
            "form_param_type_invalid",
            "external_id",
        ),
        ("PATCH", "/v1/users/user_no", json!({}), 404, "resource_not_found", ""),
        ("DELETE", "/v1/users/user_no", json!({}), 404, "resource_not_found", ""),
        ("POST", "/v1/organizations", json!({}), 422, "form_param_missing", "name"),
        ("POST", "/v1/organizations", json!({"name": "Acme", "slug": "acme"}), 422, "form_identifier_exists", "slug"),
        ("POST", "/v1/organizations", json!({"name": "Acme", "slug": "A b"}), 422, "form_param_format_invalid", "slug"),
        ("POST", "/v1/organizations", json!({"name": "<b>x</b>"}), 422, "form_param_value_invalid", "name"),
        (
            "POST",
            "/v1/organizations",
            json!({"name": "x", "created_by": "user_no"}),
            400,
            "organization_creator_not_found",
            "",
        ),
        (
            "PATCH",
            &of(&acme, ""),
            json!({"max_allowed_memberships": -1}),
            422,
            "form_param_value_invalid",
            "max_allowed_memberships",
        ),
        ("POST", &members, json!({"user_id": ada, "role": "org:member"}), 400, "already_a_member_in_organization", ""),
        ("POST", &members, json!({"user_id": bob, "role": "org:king"}), 404, "resource_not_found", "role"),
        ("POST", &members, json!({"user_id": bob}), 422, "form_param_missing", "role"),
        ("POST", &members, json!({"user_id": "user_no", "role": "org:member"}), 404, "resource_not_found", ""),
        (
            "POST",
            &of("org_no", "/memberships"),
            json!({"user_id": bob, "role": "org:member"}),
            404,
            "resource_not_found",
            "",
        ),
        (
            "PATCH",
            &of(&acme, &format!("/memberships/{ada}")),
            json!({"role": "org:member"}),
            400,
            "organization_minimum_permissions_needed",
            "",
        ),
        (
            "DELETE",
            &of(&acme, &format!("/memberships/{ada}")),
            json!({}),
            400,
            "organization_minimum_permissions_needed",
            "",
        ),
        ("DELETE", &of(&acme, &format!("/memberships/{bob}")), json!({}), 404, "resource_not_found", ""),
        (
            "POST",
            &of(&acme, "/invitations"),
            json!({"email_address": "ada@example.com", "role": "org:member"}),
            400,
            "already_a_member_in_organization",
            "",
        ),
        (
            "POST",
            &of(&acme, "/invitations"),
            json!({"email_address": "x@example.com", "role": "org:member", "inviter_user_id": bob}),
            403,
            "not_an_admin_in_organization",
            "",
        ),
        ("POST", &of(&acme, "/invitations/orginv_no/revoke"), json!({}), 404, "resource_not_found", ""),
        (
            "POST",
            "/v1/sessions",
            json!({"user_id": ada, "active_organization_id": "org_no"}),
            404,
            "resource_not_found",
            "",
        ),
        ("POST", "/v1/sessions/sess_no/tokens", json!({}), 404, "resource_not_found", ""),
    ] {
        let reply = local.send(local.request(method, path).json(&body)).await;
        assert_eq!((reply.status, reply.code(), reply.param()), (status, code, param), "{method} {path} {body}");
        assert!(reply.body["clerk_trace_id"].as_str().is_some_and(|trace| trace.len() == 32), "{}", reply.body);
    }
    assert_eq!(local.kinds(), Vec::<String>::new(), "no refusal is an event");

    local.post(&members, json!({"user_id": bob, "role": "org:member"})).await.ok();
    let carl = local.user("carl@example.com").await;
    let full = local.post(&members, json!({"user_id": carl, "role": "org:member"})).await;
    full.refused(403, "organization_membership_quota_exceeded");
}

#[tokio::test]
async fn an_older_version_takes_metadata_with_the_rest() {
    let local = Local::start().await;
    let ada = local.user("ada@example.com").await;
    let request = local.request("PATCH", &format!("/v1/users/{ada}")).json(&json!({"public_metadata": {"a": 1}}));
    let mut request = request.build().expect("a request");
    request.headers_mut().insert("clerk-api-version", "2025-11-10".parse().expect("a version"));
    let answer = reqwest::Client::new().execute(request).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(local.get(&format!("/v1/users/{ada}")).await.ok()["public_metadata"], json!({"a": 1}));
}

#[tokio::test]
async fn every_change_moves_the_time_of_what_it_changed() {
    let local = Local::start().await;
    let ada = local.user("ada@example.com").await;
    let mut last = support::NOW;
    for name in ["A", "B", "C"] {
        let user = local.patch(&format!("/v1/users/{ada}"), json!({"first_name": name})).await.ok();
        let at = user["updated_at"].as_i64().expect("a time");
        assert!(at > last && at <= support::NOW + 3, "{at} after {last}");
        last = at;
    }
    let acme = local.organization("Acme", &ada).await;
    local.delete(&of(&acme, "")).await.ok();
    let events = local.events();
    let gone = events.iter().find(|event| event.kind == "organization.deleted").expect("a deletion");
    assert!(gone.at_ms > support::NOW, "a deletion is later than what it deletes");
    let born = local.post("/v1/organizations", json!({"name": "Acme"})).await.ok();
    assert!(born["created_at"].as_i64().expect("a time") > gone.at_ms, "what is made after it is younger");
}

#[tokio::test]
async fn an_end_tells_of_what_goes_with_it_or_does_not() {
    for told in [true, false] {
        let options = faircopy_sandbox::instance::Options { child_events: told, ..Default::default() };
        let local = Local::with(faircopy_sandbox::Settings { options, ..support::settings() }).await;
        let (ada, bob) = (local.user("ada@example.com").await, local.user("bob@example.com").await);
        let acme = local.organization("Acme", &ada).await;
        let other = local.organization("Other", &ada).await;
        local.post(&of(&acme, "/memberships"), json!({"user_id": bob, "role": "org:admin"})).await.ok();
        local
            .post(&of(&acme, "/invitations"), json!({"email_address": "c@example.com", "role": "org:member"}))
            .await
            .ok();
        let session = json!({"user_id": ada, "active_organization_id": acme});
        let session = local.post("/v1/sessions", session).await.ok();
        local.bodies();

        local.delete(&of(&acme, "")).await.ok();
        let child =
            ["organizationInvitation.revoked", "organizationMembership.deleted", "organizationMembership.deleted"];
        let mut expected = if told { child.to_vec() } else { Vec::new() };
        expected.push("organization.deleted");
        assert_eq!(local.kinds(), expected);
        for list in ["/v1/organization_invitations", &format!("/v1/users/{bob}/organization_memberships")] {
            assert_eq!(local.get(list).await.ok()["total_count"], 0, "{list}");
        }
        let session = local.get(&format!("/v1/sessions/{}", session["id"].as_str().expect("an id"))).await.ok();
        assert_eq!(session["last_active_organization_id"], json!(null), "no session keeps it active");

        let gone = local.delete(&format!("/v1/users/{ada}")).await.ok();
        assert_eq!(gone, json!({"object": "user", "id": ada, "deleted": true}));
        let expected: &[&str] = if told {
            &["organizationMembership.deleted", "session.removed", "user.deleted"]
        } else {
            &["user.deleted"]
        };
        assert_eq!(local.kinds(), expected);
        assert_eq!(local.get(&of(&other, "/memberships")).await.ok()["total_count"], 0);
    }
}

#[tokio::test]
async fn a_ban_revokes_sessions_and_a_banned_user_begins_none() {
    let local = Local::start().await;
    let ada = local.user("ada@example.com").await;
    let session = local.post("/v1/sessions", json!({"user_id": ada})).await.ok();
    let session = format!("/v1/sessions/{}", session["id"].as_str().expect("an id"));
    local.bodies();
    local.post(&format!("/v1/users/{ada}/ban"), json!({})).await.ok();
    assert_eq!(local.kinds(), ["user.updated", "session.revoked"]);
    assert_eq!(local.get(&session).await.ok()["status"], "revoked");
    local.post(&format!("{session}/tokens"), json!({})).await.refused(404, "resource_not_found");
    local.post("/v1/sessions", json!({"user_id": ada})).await.refused(403, "authorization_invalid");
    local.post(&format!("/v1/users/{ada}/unban"), json!({})).await.ok();
    local.post("/v1/sessions", json!({"user_id": ada})).await.ok();
}

#[tokio::test]
async fn an_invitation_is_accepted_once_revoked_once_and_expires() {
    let local = Local::start().await;
    let ada = local.user("ada@example.com").await;
    let acme = local.organization("Acme", &ada).await;
    let route = of(&acme, "/invitations");
    let invite = |email: &str| json!({"email_address": email, "role": "org:guest", "public_metadata": {"from": "it"}});
    let id = |made: &serde_json::Value| made["id"].as_str().expect("an id").to_owned();
    let bob = local.user("bob@example.com").await;
    let accepted = id(&local.post(&route, invite("bob@example.com")).await.ok());
    local.post(&route, invite("BOB@example.com")).await.refused(400, "organization_invitation_not_unique");
    local.bodies();
    let accept = |id: &str, user: &str| {
        local
            .sandbox
            .shared()
            .change(|instance, now| instance.accept_invitation(id, user, now).map_err(|refusal| refusal.code))
    };
    accept(&accepted, &bob).expect("accepted");
    let events = local.events();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["organizationInvitation.accepted", "organizationMembership.created"]);
    assert_eq!(events[0].data["user_id"], bob);
    assert_eq!(
        (&events[1].data["role"], &events[1].data["public_metadata"]),
        (&json!("org:guest"), &json!({"from": "it"}))
    );
    assert_eq!(accept(&accepted, &bob).err(), Some("organization_invitation_not_pending"));
    local
        .post(&format!("{route}/{accepted}/revoke"), json!({}))
        .await
        .refused(404, "organization_invitation_not_pending");

    let late = id(&local.post(&route, invite("late@example.com")).await.ok());
    local.advance(30 * 86_400_000);
    let shown = local.get(&format!("{route}/{late}")).await.ok();
    assert_eq!((&shown["status"], &shown["url"]), (&json!("expired"), &json!(null)));
    assert_eq!(local.get(&format!("{route}?status=pending")).await.ok()["total_count"], 0);
    assert_eq!(local.get("/v1/organization_invitations?status=expired&status=accepted").await.ok()["total_count"], 2);
    assert_eq!(accept(&late, &ada).err(), Some("organization_invitation_not_pending"));
}

#[tokio::test]
async fn tokens_say_who_where_and_what_in_either_version() {
    use faircopy_sandbox::instance::{Options, TokenTemplate, TokenVersion};
    let claims = json!({"mail": "{{user.primary_email_address}}", "deep": "{{user.public_metadata.a.b || 'none'}}",
        "text": "{{org.role}} of {{org.name}}", "whole": "{{user.public_metadata}}", "no": "{{user.shoe_size}}", "aud": "me", "sid": "x"});
    let claims = serde_json::from_value(claims).expect("claims");
    let template = TokenTemplate { claims, lifetime_s: 90, allowed_clock_skew_s: 3 };
    let templates = [("mine".to_owned(), template)].into();
    let options = Options { templates, authorized_party: Some("http://app.local".into()), ..Options::default() };
    let local = Local::with(faircopy_sandbox::Settings { options: options.clone(), ..support::settings() }).await;
    let ada = local.user("ada@example.com").await;
    let acme = local.organization("Acme", &ada).await;
    local.patch(&format!("/v1/users/{ada}/metadata"), json!({"public_metadata": {"a": {"b": 5}}})).await.ok();
    let session = local.post("/v1/sessions", json!({"user_id": ada, "active_organization_id": acme})).await.ok();
    let tokens = format!("/v1/sessions/{}/tokens", session["id"].as_str().expect("an id"));
    let now = support::NOW / 1000;

    let v2 = read(&local.post(&tokens, json!({})).await.ok());
    assert_eq!(
        (&v2["sub"], &v2["iss"], &v2["azp"]),
        (&json!(ada), &json!(local.sandbox.url()), &json!("http://app.local"))
    );
    assert_eq!(
        (&v2["v"], &v2["sid"], &v2["iat"], &v2["exp"]),
        (&json!(2), &session["id"], &json!(now), &json!(now + 60))
    );
    assert_eq!((&v2["o"]["id"], &v2["o"]["rol"]), (&json!(acme), &json!("admin")));
    assert_eq!(
        (&v2["fea"], &v2["o"]["per"], &v2["o"]["fpm"]),
        (&json!("o:posts,o:billing"), &json!("read,manage"), &json!("3,3"))
    );

    let mine = read(&local.post(&format!("{tokens}/mine"), json!({})).await.ok());
    assert_eq!(
        (&mine["mail"], &mine["deep"], &mine["text"]),
        (&json!("ada@example.com"), &json!(5), &json!("org:admin of Acme"))
    );
    assert_eq!((&mine["whole"], &mine["no"], &mine["aud"]), (&json!({"a": {"b": 5}}), &json!(null), &json!("me")));
    assert_eq!((mine.get("sid"), &mine["exp"], &mine["nbf"]), (None, &json!(now + 90), &json!(now - 3)));
    local.post(&format!("{tokens}/yours"), json!({})).await.refused(404, "resource_not_found");
    local.post(&tokens, json!({"expires_in_seconds": 5})).await.refused(422, "form_param_value_invalid");

    let older = Options { token_version: TokenVersion::V1, ..options };
    local.sandbox.shared().change(|instance, _| instance.set_options(older));
    let v1 = read(&local.post(&tokens, json!({"expires_in_seconds": 30})).await.ok());
    assert_eq!(
        (&v1["org_id"], &v1["org_role"], v1.get("v"), &v1["exp"]),
        (&json!(acme), &json!("org:admin"), None, &json!(now + 30))
    );
    assert_eq!(
        v1["org_permissions"],
        json!(["org:posts:read", "org:posts:manage", "org:billing:read", "org:billing:manage"])
    );
}

/// The claims of a token.
fn read(answer: &serde_json::Value) -> serde_json::Value {
    use base64::Engine as _;
    let jwt = answer["jwt"].as_str().expect("a token");
    let claims = jwt.split('.').nth(1).expect("claims");
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).expect("base64");
    serde_json::from_slice(&claims).expect("JSON")
}

#[tokio::test]
async fn invitations_come_in_bulk_all_of_them_or_none() {
    let local = Local::start().await;
    let ada = local.user("ada@example.com").await;
    let acme = local.organization("Acme", &ada).await;
    local.patch(&of(&acme, ""), json!({"max_allowed_memberships": 4})).await.ok();
    local.kinds();
    let route = of(&acme, "/invitations/bulk");
    let new = |email: &str| json!({"email_address": email, "role": "org:member"});
    let eleven: Vec<_> = (0..11).map(|at| new(&format!("{at}@example.com"))).collect();
    for (body, status, code) in [
        (json!({}), 400, "malformed_request_parameters"),
        (json!([1]), 400, "malformed_request_parameters"),
        (json!([]), 422, "form_param_value_invalid"),
        (json!(eleven), 422, "form_param_value_invalid"),
        (json!([new("b@example.com"), new("B@example.com")]), 400, "organization_invitation_not_unique"),
        (json!([new("b@example.com"), new("ada@example.com")]), 400, "already_a_member_in_organization"),
        (json!([new("b@example.com"), {"email_address": "c@example.com"}]), 422, "form_param_missing"),
        (json!([new("b@example.com"), new("nobody")]), 422, "form_param_format_invalid"),
        (json!(eleven[..4]), 403, "organization_membership_quota_exceeded"),
    ] {
        local.post(&route, body).await.refused(status, code);
    }
    assert!(local.kinds().is_empty(), "nothing is made of what is refused");
    let made = local.post(&route, json!(eleven[..3])).await.ok();
    assert_eq!((made["data"].as_array().map(Vec::len), &made["total_count"]), (Some(3), &json!(3)));
    assert_eq!(local.kinds(), ["organizationInvitation.created"; 3]);
    let listed = local.get(&of(&acme, "/invitations")).await.ok();
    assert_eq!(listed["total_count"], 3);
}

//! The control API: everything that it does, and whom it refuses; and the page beside it.
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::support;
use crate::support::{Local, NOW, ids, settings};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use faircopy_sandbox::clock::Movable;
use faircopy_sandbox::{Sandbox, Settings};
use serde_json::{Value, json};

const C: &str = "/sandbox/v1";

impl Local {
    async fn control(&self, method: &str, path: &str, body: Value) -> support::Reply {
        self.send(self.request(method, &format!("{C}{path}")).json(&body)).await
    }

    async fn endpoint(&self, url: &str) -> Value {
        self.control("POST", "/endpoints", json!({ "url": url })).await.ok()
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

#[tokio::test]
async fn the_status_tells_what_others_need() {
    let local = Local::start().await;
    local.user("ada@example.com").await;
    let status = local.get(&format!("{C}/status")).await.ok();
    let keys = local.sandbox.shared().keys();
    assert_eq!(text(&status["secret_key"]), keys.secret_key());
    assert_eq!(text(&status["issuer"]), local.sandbox.url());
    assert_eq!((&status["counts"]["users"], &status["now_ms"]), (&json!(1), &json!(NOW)));
    assert_eq!(status["deliveries"], json!({"waiting": 0, "delivered": 0, "failed": 0, "lost": 0, "under_way": 0}));
    assert_eq!(status["schedule"]["speed"], 1);
    assert_eq!(status["chaos"]["deliveries"]["drop_percent"], 0.0);
}

#[tokio::test]
async fn endpoints_are_made_changed_and_removed() {
    let local = Local::start().await;
    let made = local.endpoint("http://127.0.0.1:1/hook").await;
    let path = format!("/endpoints/{}", text(&made["id"]));
    assert!(text(&made["secret"]).starts_with("whsec_"));
    assert_eq!((&made["disabled"], &made["events"]), (&json!(false), &json!([])));

    let changed = local.control("PATCH", &path, json!({"disabled": true, "events": ["user"]})).await.ok();
    assert_eq!((&changed["disabled"], &changed["disabled_by"]), (&json!(true), &json!("person")));
    assert_eq!((&changed["events"], &changed["url"]), (&json!(["user"]), &made["url"]));
    let rotated = local.control("POST", &format!("{path}/rotate-secret"), json!({})).await.ok();
    assert_ne!(rotated["secret"], made["secret"]);
    assert_eq!(rotated["secrets"][1]["secret"], made["secret"]);
    assert_eq!(rotated["secrets"][1]["until_ms"], NOW + 86_400_000);

    assert_eq!(local.get(&format!("{C}{path}")).await.ok()["id"], made["id"]);
    assert_eq!(ids(&local.get(&format!("{C}/endpoints")).await.ok()), [text(&made["id"])]);
    local.delete(&format!("{C}{path}")).await.ok();
    local.get(&format!("{C}{path}")).await.refused(404, "resource_not_found");
}

#[tokio::test]
async fn messages_are_listed_shown_and_sent_again() {
    let local = Local::start().await;
    local.control("PUT", "/chaos", json!({"deliveries": {"outage": true}})).await.ok();
    let endpoint = local.endpoint("http://127.0.0.1:1/hook").await;
    for number in 0..5 {
        local.user(&format!("user{number}@example.com")).await;
    }
    let first = local.get(&format!("{C}/messages?limit=2&type=user.created")).await.ok();
    let rest = local.get(&format!("{C}/messages?limit=3&before={}", text(&first["next"]))).await.ok();
    assert_eq!((ids(&first).len(), ids(&rest).len(), &rest["next"]), (2, 3, &Value::Null));
    assert_eq!(ids(&local.get(&format!("{C}/messages?type=user.deleted")).await.ok()), [""; 0]);

    let id = ids(&first)[0].clone();
    // The sender does its part by itself; with a clock that stands still, one attempt is made.
    let shown = loop {
        let shown = local.get(&format!("{C}/messages/{id}")).await.ok();
        if shown["deliveries"][text(&endpoint["id"])]["attempts"][0].is_object() {
            break shown;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    let delivery = &shown["deliveries"][text(&endpoint["id"])];
    assert_eq!((&delivery["state"], &delivery["attempt_count"]), (&json!("waiting"), &json!(1)));
    assert!((NOW + 4_000..=NOW + 6_000).contains(&delivery["next_at_ms"].as_i64().unwrap()));
    let body: Value = serde_json::from_str(text(&shown["body"])).unwrap();
    assert_eq!(
        (&body["type"], &body["instance_id"]),
        (&shown["type"], &json!(local.sandbox.shared().keys().instance_id()))
    );

    assert_eq!(ids(&local.get(&format!("{C}/messages?state=waiting")).await.ok()).len(), 5);
    assert_eq!(local.control("POST", &format!("/messages/{id}/resend"), json!({})).await.ok(), json!({"sent": 1}));
    local.control("POST", "/messages/msg_none/resend", json!({})).await.refused(404, "resource_not_found");
    let path = format!("/endpoints/{}", text(&endpoint["id"]));
    local.control("PATCH", &path, json!({"disabled": true})).await.ok();
    local.control("POST", &format!("{path}/recover"), json!({})).await.refused(409, "conflict");
    local.control("PATCH", &path, json!({"disabled": false})).await.ok();
    assert_eq!(
        local.control("POST", &format!("{path}/recover"), json!({"since_ms": NOW})).await.ok(),
        json!({"sent": 5})
    );
    assert_eq!(local.control("POST", &format!("{path}/replay-missing"), json!({})).await.ok(), json!({"sent": 0}));
}

#[tokio::test]
async fn nonsense_is_refused_with_its_name() {
    let local = Local::start().await;
    for (method, path, body, param) in [
        ("POST", "/endpoints", json!({"url": "ftp://x/"}), "url"),
        ("POST", "/endpoints", json!({"url": "http://x/", "secret": "short"}), "secret"),
        ("POST", "/endpoints", json!({"uri": "http://x/"}), "body"),
        ("PATCH", "/schedule", json!({"speed": 0}), "speed"),
        ("PATCH", "/schedule", json!({"haste": 1}), "body"),
        ("PUT", "/chaos", json!({"deliveries": {"drop_percent": 101}}), "deliveries.drop_percent"),
        ("PATCH", "/chaos", json!({"api": {"outage": "sometimes"}}), "body"),
        ("PATCH", "/options", json!({"token_version": "3"}), "body"),
        ("POST", "/populate", json!({"users": 1_000_001}), "users"),
        ("POST", "/populate", json!({"users": 0, "organizations": 1}), "users"),
        ("POST", "/clock/advance", json!({"ms": -1}), "ms"),
        ("GET", "/messages?state=gone", Value::Null, "query"),
        ("GET", "/messages?limit=0", Value::Null, "limit"),
    ] {
        let reply = local.control(method, path, body).await;
        assert_eq!((reply.status, reply.param()), (422, param), "{method} {path}: {}", reply.body);
    }
    local.control("GET", "/nothing", Value::Null).await.refused(404, "resource_not_found");
    local.control("DELETE", "/status", Value::Null).await.refused(405, "method_not_allowed");
    let broken = local.request("POST", &format!("{C}/endpoints")).body("{");
    assert_eq!(local.send(broken).await.status, 422);
}

#[tokio::test]
async fn foreign_pages_and_names_are_refused_by_every_route() {
    let local = Local::start().await;
    for (name, value) in [("origin", "http://evil.example"), ("sec-fetch-site", "cross-site"), ("host", "evil.example")]
    {
        for (method, path) in [("GET", "/status"), ("POST", "/endpoints"), ("PUT", "/chaos"), ("GET", "/nothing")] {
            let request = local.request(method, &format!("{C}{path}")).header(name, value);
            local.send(request).await.refused(403, "origin_invalid");
        }
    }
}

#[tokio::test]
async fn a_sandbox_that_listens_elsewhere_wants_its_key() {
    let clock = Arc::new(|| NOW);
    let sandbox = Sandbox::start(settings(), clock, ([0, 0, 0, 0], 0).into()).await.unwrap();
    let port = sandbox.url().rsplit(':').next().unwrap().to_owned();
    let url = format!("http://127.0.0.1:{port}{C}/status");
    let client = reqwest::Client::new();
    assert_eq!(client.get(&url).send().await.unwrap().status(), 401);
    assert_eq!(client.get(&url).bearer_auth("sk_test_wrong").send().await.unwrap().status(), 401);
    let key = sandbox.shared().keys().secret_key();
    assert_eq!(client.get(&url).bearer_auth(key).send().await.unwrap().status(), 200);
    let foreign = client.get(&url).bearer_auth(key).header("origin", "http://evil.example");
    assert_eq!(foreign.send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn what_is_named_is_changed_and_the_rest_stays() {
    let local = Local::start().await;
    local.control("PUT", "/chaos", json!({"seed": 7, "deliveries": {"drop_percent": 30}})).await.ok();
    let changed = local.control("PATCH", "/chaos", json!({"deliveries": {"duplicate_percent": 5}})).await.ok();
    assert_eq!((&changed["seed"], &changed["deliveries"]["drop_percent"]), (&json!(7), &json!(30.0)));
    assert_eq!(changed["deliveries"]["duplicate_percent"], 5.0);
    let calm = local.delete(&format!("{C}/chaos")).await.ok();
    assert_eq!((&calm["seed"], &calm["deliveries"]["drop_percent"]), (&json!(7), &json!(0.0)));

    let schedule = local.control("PATCH", "/schedule", json!({"speed": 60})).await.ok();
    assert_eq!((&schedule["speed"], &schedule["jitter_percent"]), (&json!(60), &json!(20)));
    let options = local.control("PATCH", "/options", json!({"child_events": false})).await.ok();
    assert_eq!((&options["child_events"], &options["cursors"]), (&json!(false), &json!(true)));
}

#[tokio::test]
async fn the_clock_moves_where_it_can() {
    let local = Local::start().await;
    assert_eq!(local.get(&format!("{C}/clock")).await.ok(), json!({"now_ms": NOW, "movable": false}));
    local.control("POST", "/clock/advance", json!({"ms": 1})).await.refused(409, "conflict");

    let time = Arc::new(AtomicI64::new(NOW));
    let inner = time.clone();
    let clock = Arc::new(Movable::new(Arc::new(move || inner.load(Ordering::SeqCst))));
    let sandbox = Sandbox::start(settings(), clock, ([127, 0, 0, 1], 0).into()).await.unwrap();
    let advance =
        reqwest::Client::new().post(format!("{}{C}/clock/advance", sandbox.url())).json(&json!({"ms": 5_000}));
    let moved: Value = advance.send().await.unwrap().json().await.unwrap();
    assert_eq!(moved, json!({"now_ms": NOW + 5_000, "movable": true}));
    time.fetch_add(10, Ordering::SeqCst);
    assert_eq!(sandbox.shared().now_ms(), NOW + 5_010);
}

fn claims_of(jwt: &Value) -> Value {
    let part = text(jwt).split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test]
async fn tokens_are_made_as_they_are_wanted() {
    let local = Local::start().await;
    let user = local.user("ada@example.com").await;
    let organization = local.organization("Acme", &user).await;
    local.events();
    let mint = async |more: Value| {
        let mut wanted = json!({"user_id": user});
        wanted.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims_of(&local.control("POST", "/tokens", wanted).await.ok()["jwt"])
    };
    let plain = mint(json!({})).await;
    assert_eq!((&plain["sub"], &plain["v"], &plain["iss"]), (&json!(user), &json!(2), &json!(local.sandbox.url())));
    assert_eq!((&plain["iat"], &plain["exp"]), (&json!(NOW / 1000), &json!(NOW / 1000 + 60)));
    assert!(plain.get("o").is_none());
    assert_eq!(local.kinds(), ["user.updated", "session.created"]);
    assert_eq!(mint(json!({})).await["sid"], plain["sid"]);
    assert_eq!(local.kinds(), [""; 0], "the session goes on");

    let active = mint(json!({"organization_id": organization})).await;
    assert_eq!((&active["o"]["id"], &active["o"]["rol"]), (&json!(organization), &json!("admin")));
    let old = mint(json!({"organization_id": organization, "version": "1", "azp": "https://a.example"})).await;
    assert_eq!(
        (&old["org_id"], &old["org_role"], &old["azp"]),
        (&json!(organization), &json!("org:admin"), &json!("https://a.example"))
    );
    assert_eq!(mint(json!({"organization_id": organization})).await["v"], 2, "the option is as before");

    let past = mint(json!({"age_s": 3_600, "lifetime_s": 120})).await;
    assert_eq!((&past["iat"], &past["exp"]), (&json!(NOW / 1000 - 3_600), &json!(NOW / 1000 - 3_480)));
    let own = mint(json!({"claims": {"plan": "pro", "sid": null}})).await;
    assert_eq!((&own["plan"], own.get("sid")), (&json!("pro"), None));
    let good = local.control("POST", "/tokens", json!({"user_id": user})).await.ok();
    let forged = local.control("POST", "/tokens", json!({"user_id": user, "forged": true})).await.ok();
    let signature = |token: &Value| text(&token["jwt"]).rsplit('.').next().unwrap().to_owned();
    assert_ne!(signature(&good), signature(&forged));

    local.control("POST", "/tokens", json!({"user_id": "user_none"})).await.refused(404, "resource_not_found");
    local
        .control("POST", "/tokens", json!({"user_id": user, "organization_id": "org_none"}))
        .await
        .refused(404, "resource_not_found");
    local
        .control("POST", "/tokens", json!({"user_id": user, "template": "none"}))
        .await
        .refused(404, "resource_not_found");
}

#[tokio::test]
async fn invitations_are_accepted_by_whoever_was_invited() {
    let local = Local::start().await;
    let admin = local.user("ada@example.com").await;
    let organization = local.organization("Acme", &admin).await;
    let grace = local.user("grace@example.com").await;
    let invite = async |email: &str| {
        let body = json!({"email_address": email, "role": "org:member", "inviter_user_id": admin});
        local.post(&format!("/v1/organizations/{organization}/invitations"), body).await.ok()["id"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let member_count =
        async || local.get(&format!("/v1/organizations/{organization}/memberships")).await.ok()["total_count"].clone();

    let known = invite("GRACE@example.com").await;
    let accepted = local.control("POST", &format!("/invitations/{known}/accept"), json!({})).await.ok();
    assert_eq!(accepted["status"], "accepted");
    local.events();
    let stranger = invite("charles@example.com").await;
    local.control("POST", &format!("/invitations/{stranger}/accept"), json!({})).await.ok();
    let kinds = local.kinds();
    for kind in ["user.created", "organizationInvitation.accepted", "organizationMembership.created"] {
        assert!(kinds.iter().any(|told| told == kind), "{kind} in {kinds:?}");
    }
    assert_eq!(member_count().await, 3);
    local.control("POST", &format!("/invitations/{known}/accept"), json!({"user_id": grace})).await;
    assert_eq!(member_count().await, 3);
    local.control("POST", "/invitations/orginv_none/accept", json!({})).await.refused(404, "resource_not_found");
}

#[tokio::test]
async fn deletions_tell_of_children_or_not() {
    for (children, count) in [(true, 2), (false, 1)] {
        let local = Local::start().await;
        let user = local.user("ada@example.com").await;
        let organization = local.organization("Acme", &user).await;
        local.events();
        local.delete(&format!("{C}/organizations/{organization}?child_events={children}")).await.ok();
        let kinds = local.kinds();
        assert_eq!(kinds.iter().filter(|kind| kind.ends_with(".deleted")).count(), count, "{kinds:?}");
        local.get(&format!("/v1/organizations/{organization}")).await.refused(404, "resource_not_found");
        local.delete(&format!("{C}/users/{user}?child_events={children}")).await.ok();
        local.delete(&format!("{C}/users/{user}")).await.refused(404, "resource_not_found");
        assert_eq!(local.get(&format!("{C}/options")).await.ok()["child_events"], true, "the option is as before");
    }
}

#[tokio::test]
async fn a_population_was_always_there() {
    let local = Local::start().await;
    let body = json!({"users": 100, "organizations": 5, "members": 10, "seed": 3});
    assert_eq!(local.control("POST", "/populate", body).await.ok(), json!({"users": 100, "organizations": 5}));
    assert_eq!(local.kinds(), [""; 0]);
    assert_eq!(local.get("/v1/users/count").await.ok()["total_count"], 100);
}

#[tokio::test]
async fn stale_answers_come_from_the_moment_when_it_was_set() {
    let local = Local::start().await;
    let ada = local.user("ada@example.com").await;
    local.control("PATCH", "/chaos", json!({"api": {"stale": {"lists": true}}})).await.ok();
    let grace = local.user("grace@example.com").await;
    local.patch(&format!("/v1/users/{ada}"), json!({"first_name": "Augusta"})).await.ok();

    let listed = local.get("/v1/users").await.ok();
    assert_eq!((ids(&listed), &listed[0]["first_name"]), (vec![ada.clone()], &json!("Ada")));
    assert_eq!(local.get("/v1/users/count").await.ok()["total_count"], 1);
    assert_eq!(
        local.get(&format!("/v1/users/{ada}")).await.ok()["first_name"],
        "Augusta",
        "single records are not stale"
    );
    let onlooker = local.request("GET", "/v1/users").header("faircopy-sandbox-onlooker", "test");
    assert_eq!(ids(&local.send(onlooker).await.ok()).len(), 2);

    local.control("PATCH", "/chaos", json!({"api": {"stale": {"reads": true}}})).await.ok();
    local.get(&format!("/v1/users/{grace}")).await.refused(404, "resource_not_found");
    local.control("DELETE", "/chaos", Value::Null).await.ok();
    assert_eq!(ids(&local.get("/v1/users").await.ok()).len(), 2);
}

#[tokio::test]
async fn a_lag_ends_by_itself() {
    let local = Local::start().await;
    local.control("PATCH", "/chaos", json!({"api": {"stale": {"lists": true, "lag_ms": 1_000}}})).await.ok();
    local.user("ada@example.com").await;
    for (later, seen) in [(0, 0), (999, 0), (1, 1)] {
        local.advance(later);
        assert_eq!(ids(&local.get("/v1/users").await.ok()).len(), seen);
    }
}

#[tokio::test]
async fn the_api_fails_as_it_is_told_and_keys_never_do() {
    let local = Local::start().await;
    local.user("ada@example.com").await;
    let set = async |api: Value| drop(local.control("PUT", "/chaos", json!({"api": api})).await.ok());

    set(json!({"outage": "closed"})).await;
    assert!(local.request("GET", "/v1/users").send().await.is_err(), "nobody answers");
    set(json!({"outage": "unavailable"})).await;
    local.get("/v1/users").await.refused(503, "service_unavailable");
    assert_eq!(local.get("/.well-known/jwks.json").await.status, 200);
    assert_eq!(local.get("/v1/jwks").await.status, 200);
    set(json!({"limited_percent": 100, "retry_after_s": 3})).await;
    let reply = local.post("/v1/users", json!({"first_name": "Grace"})).await;
    assert_eq!((reply.status, reply.retry_after.as_deref()), (429, Some("3")));
    set(json!({"error_percent": 100, "error_status": 502})).await;
    local.get("/v1/users").await.refused(502, "internal_clerk_error");
    set(json!({"truncated_percent": 100})).await;
    let cut = local.request("GET", "/v1/users").send().await.unwrap();
    assert_eq!(cut.status(), 200);
    assert!(serde_json::from_str::<Value>(&cut.text().await.unwrap()).is_err());
    set(json!({})).await;
    assert_eq!(local.get("/v1/users/count").await.ok()["total_count"], 1, "what was refused was not carried out");
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere() {
    let local = Local::start().await;
    for (path, kind) in [
        ("/", "text/html"),
        ("/sandbox/page/page.css", "text/css"),
        ("/sandbox/page/page.js", "text/javascript"),
        ("/sandbox/page/icon.svg", "image/svg+xml"),
    ] {
        let reply = reqwest::get(format!("{}{path}", local.sandbox.url())).await.unwrap();
        assert_eq!(reply.status(), 200, "{path}");
        let header = |name: &str| reply.headers()[name].to_str().unwrap().to_owned();
        assert!(header("content-type").starts_with(kind), "{path}");
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        assert_eq!(header("x-content-type-options"), "nosniff");
        let text = reply.text().await.unwrap();
        for forbidden in [
            "https://",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            " style=",
            " onclick=",
        ] {
            assert!(!text.contains(forbidden), "{path} has {forbidden}");
        }
    }
}

#[tokio::test]
async fn settings_that_make_no_sense_do_not_start() {
    let start =
        async |settings: Settings| Sandbox::start(settings, Arc::new(|| NOW), ([127, 0, 0, 1], 0).into()).await.err();
    let mut wrong = settings();
    wrong.schedule.speed = 0;
    assert_eq!(start(wrong).await.unwrap().to_string(), "`speed` must be from 1 to 1000000");
    let mut wrong = settings();
    wrong.chaos.deliveries.drop_percent = 130.0;
    assert_eq!(start(wrong).await.unwrap().to_string(), "`deliveries.drop_percent` must be from 0 to 100");
}

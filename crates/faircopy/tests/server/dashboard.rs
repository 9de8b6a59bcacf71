//! The dashboard's server side: signing in, what comes with a cookie, headers, figures, and what happens as it happens
//! (faults.md, admin and dashboard).

use std::time::Duration;

use faircopy_core::Millis;
use faircopy_testkit::client::Response;
use serde_json::{Value, json};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::app::{ADMIN_TOKEN, Engine, TestApp, assert_problem, eventually, manual_clock};
use crate::confirm;
use crate::events::{event, user, user_created};
use crate::stream::Stream;

const HOURS: i64 = 3_600_000;

/// A browser that looks at the dashboard's own page.
struct Browser<'a> {
    app: &'a TestApp,
    origin: String,
    cookie: String,
}

impl<'a> Browser<'a> {
    fn new(app: &'a TestApp) -> Self {
        Self { app, origin: format!("http://{}", app.address), cookie: String::new() }
    }

    async fn signed_in(app: &'a TestApp) -> Self {
        let mut browser = Self::new(app);
        let answer = browser.sign_in(&json!({ "token": ADMIN_TOKEN })).await;
        assert_eq!(answer.status, 204, "{}", answer.text());
        browser
    }

    async fn sign_in(&mut self, offer: &Value) -> Response {
        let headers = [("origin", self.origin.as_str()), ("content-type", "application/json")];
        let answer = self.app.request("POST", "/dashboard/login", &headers, offer.to_string()).await;
        if let Some(cookie) = answer.header("set-cookie") {
            cookie.split(';').next().unwrap().clone_into(&mut self.cookie);
        }
        answer
    }

    async fn get(&self, path: &str) -> Response {
        self.app.request("GET", path, &[("cookie", &self.cookie), ("sec-fetch-site", "same-origin")], "").await
    }

    async fn post(&self, path: &str) -> Response {
        let headers = [("cookie", self.cookie.as_str()), ("origin", &self.origin), ("sec-fetch-site", "same-origin")];
        self.app.request("POST", path, &headers, "").await
    }
}

async fn a_cookie_stands_for_the_token(engine: Engine) {
    let clock = manual_clock();
    let app = TestApp::build().on(engine).clock(&clock).start().await;
    app.outcome("msg_1", "not json").await;
    let mut browser = Browser::new(&app);
    assert_problem(&browser.get("/admin/v1/overview").await, 401, "unauthorized");
    let answer = browser.sign_in(&json!({ "token": ADMIN_TOKEN })).await;
    let cookie = answer.header("set-cookie").unwrap();
    for attribute in ["faircopy=", "; HttpOnly", "; SameSite=Strict", "; Path=/", "; Max-Age=43200"] {
        assert!(cookie.contains(attribute), "{attribute}: {cookie}");
    }
    assert!(!cookie.contains("Secure") && !cookie.contains(ADMIN_TOKEN), "{cookie}");
    assert_eq!(browser.get("/admin/v1/overview").await.status, 200);
    assert_eq!(browser.post("/admin/v1/deliveries/msg_1/replay").await.status, 200);
    assert_eq!(browser.get("/dashboard/session").await.json().unwrap()["is_signed_in"], true);

    // It ends by itself, whoever is still there.
    clock.advance(12 * HOURS - 1);
    assert_eq!(browser.get("/admin/v1/overview").await.status, 200);
    clock.advance(1);
    assert_problem(&browser.get("/admin/v1/overview").await, 401, "unauthorized");
    assert_eq!(browser.get("/dashboard/session").await.json().unwrap()["is_signed_in"], false);

    // Signing out ends it wherever the cookie went.
    let mut browser = Browser::signed_in(&app).await;
    let other = Browser::signed_in(&app).await;
    let answer = browser.post("/dashboard/logout").await;
    assert_eq!(answer.status, 204);
    assert!(answer.header("set-cookie").unwrap().starts_with("faircopy=; Path=/; Max-Age=0;"));
    assert_problem(&browser.get("/admin/v1/overview").await, 401, "unauthorized");
    assert_eq!(other.get("/admin/v1/overview").await.status, 200, "somebody else's session goes on");
    // Whatever is in its place is no session.
    browser.cookie = other.cookie.clone();
    let (name, value) = other.cookie.split_once('=').unwrap();
    for forged in [
        String::new(),
        "AAAA".into(),
        "A".repeat(64),
        format!("{}A", &value[..value.len() - 1]),
        format!("{value}AAAA"),
    ] {
        browser.cookie = format!("{name}={forged}");
        if forged != value {
            assert_problem(&browser.get("/admin/v1/overview").await, 401, "unauthorized");
        }
    }
    app.stop().await;
}

#[tokio::test]
async fn a_cookie_stands_for_the_token_on_sqlite() {
    a_cookie_stands_for_the_token(Engine::Sqlite).await;
}

#[tokio::test]
async fn a_cookie_stands_for_the_token_on_postgres() {
    a_cookie_stands_for_the_token(Engine::Postgres).await;
}

/// All replicas know it, also one that starts later; one with another admin token does not.
#[tokio::test]
async fn replicas_share_sessions() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("f.db").display());
    let app = TestApp::build().database_url(&url).start().await;
    let browser = Browser::signed_in(&app).await;
    let replica = TestApp::build().database_url(&url).start().await;
    let elsewhere =
        Browser { app: &replica, cookie: browser.cookie.clone(), origin: format!("http://{}", replica.address) };
    assert_eq!(elsewhere.get("/admin/v1/overview").await.status, 200);
    assert_eq!(elsewhere.post("/dashboard/logout").await.status, 204);
    assert_problem(&browser.get("/admin/v1/overview").await, 401, "unauthorized");

    let browser = Browser::signed_in(&app).await;
    let changed = TestApp::build().database_url(&url).admin_token("another-admin-token-of-32-letters").start().await;
    let elsewhere =
        Browser { app: &changed, cookie: browser.cookie.clone(), origin: format!("http://{}", changed.address) };
    assert_problem(&elsewhere.get("/admin/v1/overview").await, 401, "unauthorized");
}

/// Over https the cookie is one that no neighbour can set and no plain connection carries.
#[tokio::test]
async fn a_cookie_of_https_is_bound_to_the_host() {
    let app = TestApp::start().await;
    let mut browser = Browser { origin: format!("https://{}", app.address), ..Browser::new(&app) };
    let answer = browser.sign_in(&json!({ "token": ADMIN_TOKEN })).await;
    let cookie = answer.header("set-cookie").unwrap();
    assert!(
        cookie.starts_with("__Host-faircopy=") && cookie.ends_with("; Secure") && !cookie.contains("Domain"),
        "{cookie}"
    );
    assert_eq!(browser.get("/admin/v1/overview").await.status, 200);
}

/// A browser sends the cookie for whoever asks; only what the dashboard's own page asks for is done.
#[tokio::test]
async fn another_site_changes_nothing() {
    let app = TestApp::start().await;
    app.outcome("msg_1", user_created("user_1")).await;
    let browser = Browser::signed_in(&app).await;
    let (cookie, own) = (browser.cookie.as_str(), browser.origin.as_str());
    let foreign = "https://evil.example";
    let cases: [&[(&str, &str)]; 9] = [
        &[],
        &[("origin", foreign)],
        &[("origin", "null")],
        &[("origin", own), ("sec-fetch-site", "cross-site")],
        &[("origin", own), ("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "same-origin")],
        &[("origin", own), ("origin", foreign)],
        &[("origin", "http://127.0.0.1")],
        &[("referer", own)],
    ];
    for headers in cases {
        for (method, path) in [
            ("POST", "/admin/v1/deliveries/msg_1/replay"),
            ("POST", "/admin/v1/drift/run"),
            ("POST", "/admin/v1/jobs/org_1/cancel"),
            ("POST", "/dashboard/logout"),
        ] {
            let headers: Vec<_> = headers.iter().copied().chain([("cookie", cookie)]).collect();
            let answer = app.request(method, path, &headers, "").await;
            assert_problem(&answer, 403, "foreign-origin");
            assert!(answer.header("access-control-allow-origin").is_none());
        }
    }
    // Nor may another site read, or sign somebody in as somebody else.
    let read = [("cookie", cookie), ("sec-fetch-site", "cross-site")];
    assert_problem(&app.request("GET", "/admin/v1/overview", &read, "").await, 403, "foreign-origin");
    let offer = json!({ "token": ADMIN_TOKEN }).to_string();
    for origin in [foreign, "null"] {
        let headers = [("origin", origin), ("content-type", "application/json")];
        assert_problem(&app.request("POST", "/dashboard/login", &headers, offer.clone()).await, 403, "foreign-origin");
    }
    assert_eq!(app.deliveries().await["msg_1"].attempts, 1, "nothing was replayed");
    assert_eq!(browser.get("/admin/v1/overview").await.status, 200, "nobody was signed out");
    // A token in the header is sent by no browser of itself: it needs no origin, and no cookie weakens it.
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let headers = [("authorization", bearer.as_str()), ("origin", foreign), ("sec-fetch-site", "cross-site")];
    assert_eq!(app.request("POST", "/admin/v1/deliveries/msg_1/replay", &headers, "").await.status, 200);
    let wrong = [("authorization", "Bearer wrong"), ("cookie", cookie), ("origin", own)];
    assert_problem(&app.request("GET", "/admin/v1/overview", &wrong, "").await, 401, "unauthorized");
}

/// Guesses at the door count with those at the API.
#[tokio::test]
async fn whoever_guesses_at_the_door_is_told_to_wait() {
    let clock = manual_clock();
    let app = TestApp::build().clock(&clock).start().await;
    let mut browser = Browser::new(&app);
    for number in 0..10 {
        assert_problem(&browser.sign_in(&json!({ "token": format!("guess {number}") })).await, 401, "unauthorized");
    }
    assert_problem(&browser.sign_in(&json!({ "token": "guess" })).await, 429, "too-many-attempts");
    let guess = [("authorization", "Bearer guess")];
    assert_problem(&app.request("GET", "/admin/v1/overview", &guess, "").await, 429, "too-many-attempts");
    assert_eq!(browser.sign_in(&json!({ "token": ADMIN_TOKEN })).await.status, 204, "whoever knows it is let in");
    clock.advance(60_000);
    assert_problem(&browser.sign_in(&json!({ "token": "guess" })).await, 401, "unauthorized");
}

#[tokio::test]
async fn what_is_no_offer_is_refused() {
    let app = TestApp::start().await;
    let origin = format!("http://{}", app.address);
    let long = format!("{{\"token\":\"{}\"}}", "x".repeat(5_000));
    for body in ["", "{", "[]", "{\"token\":1}", "{\"token\":\"x\",\"more\":1}", &long] {
        let headers = [("origin", origin.as_str()), ("content-type", "application/json")];
        let answer = app.request("POST", "/dashboard/login", &headers, body.to_owned()).await;
        assert_problem(&answer, 400, "invalid-parameter");
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let headers = [("origin", origin.as_str()), ("content-type", kind)];
        let body = json!({ "token": ADMIN_TOKEN }).to_string();
        assert_problem(&app.request("POST", "/dashboard/login", &headers, body).await, 400, "invalid-parameter");
    }
    // Without the token nobody is let in, from whichever machine.
    let headers = [("origin", origin.as_str()), ("content-type", "application/json")];
    assert_problem(&app.request("POST", "/dashboard/login", &headers, "{}").await, 401, "unauthorized");
    app.stop().await;

    let app = TestApp::build().without_admin_token().start().await;
    let mut browser = Browser::new(&app);
    assert_problem(&browser.sign_in(&json!({ "token": "" })).await, 404, "admin-disabled");
    assert_eq!(browser.get("/dashboard/session").await.json().unwrap()["is_on"], false);
}

/// For development: a browser of this machine, asked for by a name of this machine, and nothing in between.
#[tokio::test]
async fn only_this_machine_needs_no_token_in_development() {
    let app = TestApp::build().open_here().start().await;
    let host = app.address.to_string();
    let enter = async |host: &str, more: &[(&str, &str)]| {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        let more: String = more.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!(
            "POST /dashboard/login HTTP/1.1\r\nhost: {host}\r\norigin: http://{host}\r\ncontent-type: application/json\r\n{more}\
             content-length: 2\r\nconnection: close\r\n\r\n{{}}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await.unwrap();
        line.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(enter(&host, &[]).await, "204");
    assert_eq!(enter("localhost:8787", &[]).await, "204");
    assert_eq!(enter("[::1]:8787", &[]).await, "204");
    assert_eq!(enter("rebound.example:8787", &[]).await, "401");
    assert_eq!(enter("localhost.evil.example", &[]).await, "401");
    for name in ["x-forwarded-for", "forwarded", "x-real-ip", "via", "x-forwarded-host"] {
        assert_eq!(enter(&host, &[(name, "203.0.113.9")]).await, "401", "{name}");
    }
    // The API itself is not open.
    assert_problem(&app.get("/admin/v1/overview").await, 401, "unauthorized");
}

#[tokio::test]
async fn the_page_may_do_little() {
    let app = TestApp::start().await;
    for (path, kind) in [
        ("/dashboard", "text/html; charset=utf-8"),
        ("/dashboard/users/user_1", "text/html; charset=utf-8"),
        ("/dashboard/assets/main.js", "text/javascript; charset=utf-8"),
        ("/dashboard/assets/style.css", "text/css; charset=utf-8"),
        ("/dashboard/assets/icon.svg", "image/svg+xml"),
    ] {
        let answer = app.get(path).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{path}");
        let policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https://img.clerk.com; \
            connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
        assert_eq!(answer.header("content-security-policy"), Some(policy), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("cross-origin-opener-policy"), Some("same-origin"));
    }
    for path in ["/dashboard/assets/nothing.js", "/dashboard/assets/..%2fmod.rs", "/dashboard/assets/index.html"] {
        assert_problem(&app.get(path).await, 404, "not-found");
    }
}

async fn figures(engine: Engine) {
    let clock = manual_clock();
    let app = TestApp::build().on(engine).clock(&clock).start().await;
    let overview = async || app.admin_json("/admin/v1/overview").await;
    let empty = overview().await;
    assert_eq!((&empty["state"], &empty["as_of"], &empty["lag"]), (&json!("empty"), &Value::Null, &Value::Null));
    let start = app.now() * 1000;
    for number in 0..5 {
        let happened = start + number * 1000 - 300 * (number + 1);
        let mut body = event("user.created", &user(&format!("user_{number}"), happened));
        body["timestamp"] = happened.into();
        app.outcome(&format!("msg_{number}"), body.to_string()).await;
        clock.advance(1000);
    }
    app.outcome("msg_bad", "not json").await;
    let full = overview().await;
    assert_eq!(full["state"], "unproven");
    assert_eq!(full["rows"]["users"], json!({ "rows": 5, "is_at_least": false, "counted_at": null }));
    assert_eq!(full["lag"], json!({ "median_ms": 900, "max_ms": 1500, "of": 5 }));
    assert_eq!((&full["last_minute"]["rows"], &full["quarantined"]["rows"]), (&json!(6), &json!(1)));
    assert_eq!(full["sequence"], 5);

    let hour = app.admin_json("/admin/v1/activity?window=hour").await;
    let data = hour["data"].as_array().unwrap();
    assert_eq!((data.len(), &hour["stretch_ms"], &hour["is_partial"]), (60, &json!(60_000), &json!(false)));
    let last = &data[59];
    assert_eq!((&last["applied"], &last["quarantined"], &last["lag_ms"]), (&json!(5), &json!(1), &json!(900)));
    assert_eq!(last["at"], Millis(start.div_euclid(60_000) * 60_000).to_string());
    assert!(data[..59].iter().all(|one| one["applied"] == 0 && one["lag_ms"].is_null()));
    for (window, stretches) in [("day", 96), ("week", 84)] {
        let found = app.admin_json(&format!("/admin/v1/activity?window={window}")).await;
        let data = found["data"].as_array().unwrap();
        assert_eq!((data.len(), &data[stretches - 1]["applied"]), (stretches, &json!(5)), "{window}");
    }
    assert_problem(&app.admin("GET", "/admin/v1/activity?window=year").await, 400, "invalid-parameter");

    // The worker adds it up a little later, and nothing changes by that; a refused signature is counted too.
    let signed = app.sign("msg_forged", "{}");
    assert_problem(&app.post(&signed.headers(), "{ }").await, 400, "signature-invalid");
    clock.advance(20_000);
    let added_up = async || {
        let hour = app.admin_json("/admin/v1/activity?window=hour").await;
        hour["data"].as_array().unwrap().iter().any(|one| one["refused"] != 0)
    };
    eventually("what came is added up", Duration::from_secs(30), added_up).await;
    let store = faircopy_store::Store::new(faircopy_store::Address::parse(&app.database_url).unwrap());
    let is_placed = async || store.activity_until().await.unwrap() >= Some(Millis(start + 5_000));
    eventually("the place moves on", Duration::from_secs(30), is_placed).await;
    let hour = app.admin_json("/admin/v1/activity?window=hour").await;
    let sum = |name: &str| hour["data"].as_array().unwrap().iter().map(|one| one[name].as_i64().unwrap()).sum::<i64>();
    assert_eq!((sum("applied"), sum("quarantined")), (5, 1));
}

#[tokio::test]
async fn figures_on_sqlite() {
    figures(Engine::Sqlite).await;
}

#[tokio::test]
async fn figures_on_postgres() {
    figures(Engine::Postgres).await;
}

/// The operator's stream, with these headers.
async fn listen(app: &TestApp, headers: &[(&str, &str)]) -> Stream {
    Stream::open(app, "GET", "/admin/v1/live", headers, "").await
}

async fn listen_with_token(app: &TestApp, last: Option<&str>) -> Stream {
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let mut headers = vec![("authorization", bearer.as_str())];
    headers.extend(last.map(|last| ("last-event-id", last)));
    listen(app, &headers).await
}

async fn what_happens_is_told(engine: Engine) {
    let app = TestApp::build().on(engine).start().await;
    let mut stream = listen_with_token(&app, None).await;
    assert_eq!(stream.told("beat").await.data["sequence"], 0);
    app.outcome("msg_1", user_created("user_1")).await;
    let delivery = stream.told("deliveries").await;
    assert_eq!(delivery.data["data"][0]["svix_id"], "msg_1");
    assert!(delivery.data["data"][0].get("payload").is_none());
    let changes = stream.told("changes").await;
    assert_eq!(changes.data["data"], app.admin_json("/admin/v1/changes").await["data"]);
    assert!(changes.id.starts_with("1-"), "{}", changes.id);
    drop(stream);

    // Whoever comes again is told what was missed, and what was known is not told anew.
    app.outcome("msg_2", user_created("user_2")).await;
    let mut stream = listen_with_token(&app, Some(&changes.id)).await;
    assert_eq!(stream.told("changes").await.data["data"][0]["id"], "user_2");
    // Attempts are news too.
    app.outcome("msg_2", user_created("user_2")).await;
    let again = stream.told("deliveries").await;
    assert_eq!((&again.data["data"][0]["svix_id"], &again.data["data"][0]["attempts"]), (&json!("msg_2"), &json!(2)));
    app.stop().await;
    while let Some(told) = stream.next().await {
        assert_ne!(told.name, "changes", "{told:?}");
    }
}

#[tokio::test]
async fn what_happens_is_told_on_sqlite() {
    what_happens_is_told(Engine::Sqlite).await;
}

#[tokio::test]
async fn what_happens_is_told_on_postgres() {
    what_happens_is_told(Engine::Postgres).await;
}

/// A stream lives no longer than the session, and no listener keeps the service from ending.
#[tokio::test]
async fn a_stream_ends_with_the_session_and_with_the_service() {
    let mut app = TestApp::start().await;
    let browser = Browser::signed_in(&app).await;
    let mut stream = listen(&app, &[("cookie", &browser.cookie)]).await;
    stream.told("beat").await;
    let mut other = listen_with_token(&app, None).await;
    other.told("beat").await;
    assert_eq!(browser.post("/dashboard/logout").await.status, 204);
    while stream.next().await.is_some() {}
    other.told("beat").await;
    let began = std::time::Instant::now();
    app.tell_to_stop();
    while other.next().await.is_some() {}
    app.stopped().await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

/// One whose place is too far back begins anew; so many at once, and no more.
#[tokio::test]
async fn listeners_are_bounded() {
    let app = TestApp::start().await;
    app.outcome("msg_1", user_created("user_1")).await;
    let mut streams = Vec::new();
    for _ in 0..32 {
        let mut stream = listen_with_token(&app, Some("99999-1")).await;
        stream.told("beat").await;
        streams.push(stream);
    }
    assert_problem(&app.admin("GET", "/admin/v1/live").await, 503, "overloaded");
    streams.truncate(31);
    let free = async || {
        let mut stream = listen_with_token(&app, None).await;
        stream.line().await.is_some_and(|line| line.contains("200"))
    };
    eventually("a place is free again", Duration::from_secs(20), free).await;
}

#[tokio::test]
async fn a_reconcile_by_hand_needs_a_key() {
    let app = TestApp::start().await;
    assert_problem(&app.admin("POST", "/admin/v1/drift/run").await, 503, "clerk-not-configured");
    assert_problem(&app.admin("POST", "/admin/v1/drift/run?dry_run=maybe").await, 400, "invalid-parameter");
}

/// It begins at once, goes on by itself, is listed, and is the only one.
#[tokio::test]
async fn a_reconcile_by_hand_is_one_at_a_time() {
    let clerk = confirm::clerk().await;
    let app = TestApp::build().clerk(&clerk).without_reconcile().start().await;
    let run = async |query: &str| app.admin("POST", &format!("/admin/v1/drift/run{query}")).await;
    // Somebody else sweeps.
    let mut writer = faircopy_store::Store::new(faircopy_store::Address::parse(&app.database_url).unwrap()).writer();
    let fence = writer.take_lease("sweep", "another", Millis(app.now() * 1000), 60_000).await.unwrap().unwrap();
    assert_problem(&run("").await, 409, "sweep-under-way");
    writer.give_up_lease(&fence).await.unwrap();
    let begun = run("?dry_run=true").await;
    assert_eq!((begun.status, begun.json()), (202, Some(json!({ "dry_run": true }))));
    let ended = async || app.admin_json("/admin/v1/drift").await["data"][0]["outcome"].is_string();
    eventually("the dry run ends", Duration::from_secs(20), ended).await;
    assert_eq!(app.admin_json("/admin/v1/drift/1").await["report"]["dry_run"], true);
    // The worker is free again soon after its report is there.
    eventually("another may begin", Duration::from_secs(20), async || run("").await.status == 202).await;
    let second = async || app.admin_json("/admin/v1/overview").await["reconcile"]["id"] == 2;
    eventually("the reconcile ends", Duration::from_secs(20), second).await;
}

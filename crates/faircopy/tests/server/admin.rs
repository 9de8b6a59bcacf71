//! The route table, who may call what, and the admin API.

use std::collections::BTreeSet;
use std::sync::Arc;

use faircopy::app::{App, SystemClock};
use faircopy::config::{Config, Environment, Flags};
use faircopy::http::{self, Access, ROUTES};
use faircopy::sweep::Order;
use faircopy_core::Millis;
use faircopy_store::{Address, Store};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

use crate::app::{ADMIN_TOKEN, Engine, PATIENCE, SECRET, TestApp, assert_problem, eventually, manual_clock};
use crate::confirm;
use crate::events::{THEN, event, user, user_created};

/// The route of the table as a path that can be called.
fn path_of(route: &str) -> String {
    let path = route.replace("{id}", "1").replace("{svix_id}", "msg_1").replace("{clerk_user_id}", "user_1");
    let name = if path.contains("/destinations/") { "crm" } else { "main.js" };
    let path = path.replace("{target}", "ops").replace("{*page}", "users").replace("{name}", name);
    let path = path.replace("{clerk_org_id}", "org_1").replace("{subject}", "user_1");
    // Whose members are listed is always said.
    path.replace("/members", if path.starts_with("/admin/") { "/members?user=user_1" } else { "/members" })
}

/// A sweep that is begun and not gone on with. Returns its number.
async fn begin_sweep(app: &TestApp, kind: &str) -> i64 {
    let mut writer = Store::new(Address::parse(&app.database_url).unwrap()).writer();
    let now = Millis(THEN);
    let fence = writer.take_lease("sweep", "test", now, 1).await.unwrap().unwrap();
    writer.begin_sweep(kind, "{}", now, &fence).await.unwrap()
}

/// A deletion that waits for ever.
async fn begin_deletion(app: &TestApp, id: &str) {
    let mut connection = SqliteConnection::connect(&app.database_url).await.unwrap();
    let insert = format!(
        "INSERT INTO cascades (subject, kind, state, created_at, due_at) VALUES ('{id}', 'organization', 'waiting', {THEN}, {})",
        i64::MAX
    );
    sqlx::raw_sql(AssertSqlSafe(insert)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// An erasure that nobody goes on with.
async fn begin_erasure(app: &TestApp, user: &str) {
    let mut connection = SqliteConnection::connect(&app.database_url).await.unwrap();
    let insert = format!("INSERT INTO erasures (clerk_user_id, began_at) VALUES ('{user}', {THEN})");
    sqlx::raw_sql(AssertSqlSafe(insert)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

fn admin_routes() -> impl Iterator<Item = (&'static str, String)> {
    ROUTES.iter().filter(|(.., access)| *access == Access::Admin).map(|(method, route, _)| (*method, path_of(route)))
}

#[tokio::test]
async fn the_router_and_the_route_table_are_the_same() {
    let nobody = "name = 'ops'\nurl = 'http://127.0.0.1:9/'";
    let crm = format!(
        "name = 'crm'\nkind = 'webhook'\nurl = 'http://127.0.0.1:9/'\nsecret = '{SECRET}'\nallow_private = true"
    );
    let app = TestApp::build().sessions().alert(nobody).destination(&crm).start().await;
    app.outcome("msg_1", user_created("user_1")).await;
    let is_taken_up = async || app.admin_json("/admin/v1/destinations/crm").await["state"] != "not-started";
    eventually("the destination is taken up", PATIENCE, is_taken_up).await;
    let token = app.token("user_1", Some(("org_1", "admin")));
    let one = json!({ "id": "org_1", "name": "One", "created_at": THEN, "updated_at": THEN });
    app.outcome("msg_2", event("organization.created", &one).to_string()).await;
    begin_sweep(&app, "backfill").await;
    begin_deletion(&app, "1").await;
    begin_erasure(&app, "user_1").await;
    // One has no end; `dashboard` listens to it.
    for (method, route, access) in ROUTES.iter().filter(|(_, route, _)| *route != "/admin/v1/live") {
        let path = path_of(route);
        let call = async |method| match access {
            Access::Session => app.bearer(method, &path, &token).await,
            _ => app.admin(method, &path).await,
        };
        let response = call(*method).await;
        let code = response.json().and_then(|body| body["code"].as_str().map(ToOwned::to_owned)).unwrap_or_default();
        // A delivery needs a signature, and says so; everything else answers.
        let expected = match (*access, *route) {
            (Access::Signed, _) => "signature-invalid",
            // Nothing is asked for.
            (_, "/v1/live") => "invalid-parameter",
            // There is no key to ask Clerk with.
            (Access::Admin, "/admin/v1/drift/run") => "clerk-not-configured",
            (Access::Admin, _) if route.ends_with("/compare") => "clerk-not-configured",
            // It does not say to where.
            (Access::Admin, _) if route.ends_with("/rewind") => "invalid-parameter",
            // No page of the dashboard's asks.
            (_, "/dashboard/login" | "/dashboard/logout") => "foreign-origin",
            _ => "",
        };
        assert_eq!(code, expected, "{method} {path}: {}", response.text());
        let response = call("DELETE").await;
        assert_problem(&response, 405, "method-not-allowed");
        let allow: Vec<&str> = response.header("allow").unwrap().split(", ").collect();
        assert!(allow.contains(method), "{path}: {allow:?}");
        assert_eq!(response.headers.get_all("allow").iter().count(), 1);
    }
    for path in
        ["/", "/nowhere", "/admin", "/admin/v1/nowhere", "/webhooks", "/webhooks/clerk/", "/healthz/", "//healthz"]
    {
        assert_problem(&app.admin("GET", path).await, 404, "not-found");
        assert_problem(&app.admin("POST", path).await, 404, "not-found");
    }
    app.stop().await;

    // axum tells its paths only for debugging; that is enough to see that there is no other.
    let folder = tempfile::tempdir().unwrap();
    let database_url = Some(format!("sqlite://{}", folder.path().join("f.db").display()));
    let config = Config::load(&Flags { database_url, ..Flags::default() }, &Environment::default()).unwrap();
    let store = config.store();
    let (app, _workers) = App::start(config, store, Arc::new(SystemClock));
    let shown = format!("{:?}", http::router(&app));
    let registered: BTreeSet<&str> = shown.split('"').filter(|part| part.starts_with('/')).collect();
    let mut listed: BTreeSet<&str> = ROUTES.iter().map(|(_, route, _)| *route).collect();
    // What axum adds where one router is nested in another, for the fallback inside of it.
    listed.extend(
        registered.iter().filter(|path| path.contains("__private__") || ["/", "/admin/v1", "/v1"].contains(path)),
    );
    assert_eq!(registered, listed);
}

#[tokio::test]
async fn without_the_token_no_admin_route_answers() {
    let clock = manual_clock();
    let app = TestApp::build().clock(&clock).start().await;
    app.outcome("msg_1", user_created("user_1")).await;
    let upper = format!("Bearer {}", ADMIN_TOKEN.to_uppercase());
    let longer = format!("Bearer {ADMIN_TOKEN}x");
    let shorter = format!("Bearer {}", &ADMIN_TOKEN[1..]);
    let basic = format!("Basic {ADMIN_TOKEN}");
    let wrong = ["", "Bearer", "Bearer ", ADMIN_TOKEN, &upper, &longer, &shorter, &basic];
    let nowhere = [("GET", "/admin/v1/nowhere".to_owned()), ("DELETE", "/admin/v1/deliveries".to_owned())];
    for (method, path) in admin_routes().chain(nowhere) {
        assert_problem(&app.request(method, &path, &[], "").await, 401, "unauthorized");
        for value in wrong {
            clock.advance(60_000);
            assert_problem(&app.request(method, &path, &[("authorization", value)], "").await, 401, "unauthorized");
        }
        // Two are none: a proxy and we could take different ones.
        let right = format!("Bearer {ADMIN_TOKEN}");
        let twice = [("authorization", right.as_str()), ("authorization", right.as_str())];
        assert_problem(&app.request(method, &path, &twice, "").await, 401, "unauthorized");
        let in_query = format!("{path}?token={ADMIN_TOKEN}&access_token={ADMIN_TOKEN}");
        assert_problem(&app.request(method, &in_query, &[("cookie", &right)], "").await, 401, "unauthorized");
    }
    assert_eq!(app.deliveries().await["msg_1"].attempts, 1, "nothing was replayed");
    // The scheme's name has no case (RFC 9110).
    let lower = format!("bearer {ADMIN_TOKEN}");
    assert_eq!(app.request("GET", "/admin/v1/statistics", &[("authorization", &lower)], "").await.status, 200);
}

#[tokio::test]
async fn without_a_configured_token_the_admin_api_is_off() {
    let app = TestApp::build().without_admin_token().start().await;
    for (method, path) in admin_routes().chain([("GET", "/admin/v1/nowhere".to_owned())]) {
        for value in ["", "Bearer ", "Bearer x"] {
            let response = app.request(method, &path, &[("authorization", value)], "").await;
            assert_problem(&response, 404, "admin-disabled");
        }
    }
}

#[tokio::test]
async fn whoever_guesses_is_told_to_wait() {
    let clock = manual_clock();
    let app = TestApp::build().clock(&clock).start().await;
    let guess = async || app.request("GET", "/admin/v1/statistics", &[("authorization", "Bearer guess")], "").await;
    // To ask without any token is no guess.
    for _ in 0..20 {
        assert_problem(&app.get("/admin/v1/statistics").await, 401, "unauthorized");
    }
    for _ in 0..10 {
        assert_problem(&guess().await, 401, "unauthorized");
    }
    for _ in 0..3 {
        assert_problem(&guess().await, 429, "too-many-attempts");
        assert_problem(&app.get("/admin/v1/statistics").await, 401, "unauthorized");
    }
    // Whoever knows the token is not kept out by others behind the same address.
    assert_eq!(app.admin("GET", "/admin/v1/statistics").await.status, 200);
    clock.advance(60_000);
    assert_problem(&guess().await, 401, "unauthorized");
}

/// Twelve deliveries: users, a session, one that is not JSON; two at each time.
async fn filled(engine: Engine) -> TestApp {
    let clock = manual_clock();
    let app = TestApp::build().on(engine).clock(&clock).start().await;
    for number in 0..10 {
        let id = format!("msg_{number:02}");
        app.outcome(&id, event("user.created", &user(&format!("user_{}", number % 5), THEN + number)).to_string())
            .await;
        clock.advance(1000 * (number % 2));
    }
    assert_eq!(app.outcome("msg_10", r#"{"type":"session.created","data":{"id":"sess_1"}}"#).await, "ignored");
    assert_eq!(app.outcome("msg_11", "not json").await, "quarantined");
    assert_eq!(app.outcome("msg_stale", event("user.updated", &user("user_0", THEN)).to_string()).await, "stale");
    app
}

fn ids(page: &Value) -> Vec<&str> {
    page["data"].as_array().unwrap().iter().map(|delivery| delivery["svix_id"].as_str().unwrap()).collect()
}

async fn lists(engine: Engine) {
    let app = filled(engine).await;
    let list = async |query: &str| app.admin_json(&format!("/admin/v1/deliveries{query}")).await;
    let all = list("").await;
    assert_eq!((all["data"].as_array().unwrap().len(), &all["next"]), (13, &Value::Null));
    let newest = &all["data"][12];
    assert_eq!(newest["svix_id"], "msg_00", "newest first, so the first is the last: {newest}");
    assert!(newest.get("payload").is_none() && newest.get("body_hash").is_none());
    assert_eq!(newest["received_at"], Millis(1_760_000_000_000).to_string());
    assert_eq!(newest["event_at"], Millis(THEN).to_string());

    for size in [1, 2, 5, 12, 13, 100] {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = list(&format!("?limit={size}{after}")).await;
            assert!(page["data"].as_array().unwrap().len() <= size);
            seen.extend(ids(&page).into_iter().map(ToOwned::to_owned));
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(seen, ids(&all), "pages of {size}");
    }

    assert_eq!(ids(&list("?outcome=quarantined").await), ["msg_11"]);
    assert_eq!(ids(&list("?outcome=ignored").await), ["msg_10"]);
    assert_eq!(ids(&list("?outcome=stale").await), ["msg_stale"]);
    assert_eq!(ids(&list("?outcome=applied&limit=100").await).len(), 10);
    assert_eq!(ids(&list("?type=session.created").await), ["msg_10"]);
    assert_eq!(ids(&list("?event_type=user.updated").await), ["msg_stale"]);
    assert_eq!(ids(&list("?entity=user_3").await), ["msg_08", "msg_03"]);
    assert_eq!(ids(&list("?entity_id=user_3&type=user.created&outcome=applied").await), ["msg_08", "msg_03"]);
    let at = |seconds: i64| Millis(1_760_000_000_000 + seconds * 1000).to_string();
    assert_eq!(ids(&list(&format!("?since={}&until={}", at(1), at(2))).await), ["msg_03", "msg_02"]);
    assert_eq!(ids(&list(&format!("?until={}", at(1))).await), ["msg_01", "msg_00"]);
    assert_eq!(ids(&list(&format!("?since={}", at(5))).await), ["msg_stale", "msg_11", "msg_10"]);
    assert_eq!(list("?entity=nobody").await, json!({ "data": [], "next": null }));
    app.stop().await;
}

#[tokio::test]
async fn deliveries_are_listed_on_sqlite() {
    lists(Engine::Sqlite).await;
}

#[tokio::test]
async fn deliveries_are_listed_on_postgres() {
    lists(Engine::Postgres).await;
}

async fn one_delivery(engine: Engine) {
    let app = TestApp::build().on(engine).start().await;
    let body = user_created("user_1");
    app.outcome("msg_1", &body).await;
    let shown = app.admin_json("/admin/v1/deliveries/msg_1").await;
    assert_eq!(
        serde_json::from_str::<Value>(shown["payload"].as_str().unwrap()).unwrap(),
        serde_json::from_str::<Value>(&body).unwrap()
    );
    assert_eq!(
        (&shown["event_type"], &shown["entity_id"], &shown["attempts"]),
        (&json!("user.created"), &json!("user_1"), &json!(1))
    );

    let response = app.admin("POST", "/admin/v1/deliveries/msg_1/replay").await;
    let answer = response.json().unwrap();
    assert_eq!(
        (response.status, &answer["id"], &answer["outcome"]),
        (200, &json!("msg_1"), &json!("applied")),
        "{answer}"
    );
    assert_eq!(app.deliveries().await["msg_1"].outcome, "applied");

    // An id may hold whatever is visible, but for a dot.
    let id = "msg/1?&#%2F+~ä";
    let id: String = id.chars().filter(char::is_ascii).collect();
    app.outcome(&id, user_created("user_2")).await;
    let escaped: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
    assert_eq!(app.admin_json(&format!("/admin/v1/deliveries/{escaped}")).await["svix_id"], id);
    let replay = app.admin("POST", &format!("/admin/v1/deliveries/{escaped}/replay")).await;
    assert_eq!(replay.status, 200, "{}", replay.text());

    for path in ["msg_unknown", "%00", "msg%00", "%FF", "%C3%A4", "msg_1%27%20OR%201=1"] {
        let shown = app.admin("GET", &format!("/admin/v1/deliveries/{path}")).await;
        assert_problem(&shown, 404, "delivery-not-found");
        let replayed = app.admin("POST", &format!("/admin/v1/deliveries/{path}/replay")).await;
        assert_problem(&replayed, 404, "delivery-not-found");
    }
    app.stop().await;
}

#[tokio::test]
async fn one_delivery_is_shown_and_replayed_on_sqlite() {
    one_delivery(Engine::Sqlite).await;
}

#[tokio::test]
async fn one_delivery_is_shown_and_replayed_on_postgres() {
    one_delivery(Engine::Postgres).await;
}

async fn bad_parameters(engine: Engine) {
    let app = TestApp::build().on(engine).start().await;
    let check = async |path: &str, name: &str| {
        let problem = assert_problem(&app.admin("GET", &format!("/admin/v1/{path}")).await, 400, "invalid-parameter");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(name), "{path}: {detail}");
    };
    check("deliveries?limit=0", "limit").await;
    check("deliveries?limit=101", "limit").await;
    check("deliveries?limit=-1", "limit").await;
    check("deliveries?limit=ten", "limit").await;
    check("deliveries?limit=99999999999999999999", "limit").await;
    check("deliveries?limit=1&limit=2", "limit").await;
    check("deliveries?since=yesterday", "since").await;
    check("deliveries?until=12", "until").await;
    check("deliveries?after=nonsense", "after").await;
    check("deliveries?after=2024-05-28T08:00:00Z", "after").await;
    check("deliveries?after=~msg_1", "after").await;
    check("deliveries?outcome=aplied", "outcome").await;
    check("deliveries?outcome=%00", "outcome").await;
    check("deliveries?type=%00", "type").await;
    check("deliveries?entity=user%00", "entity").await;
    check("deliveries?after=2024-05-28T08:00:00Z~%00", "after").await;
    check("deliveries?order=asc", "order").await;
    check("changes?after=first", "after").await;
    check("changes?limit=0", "limit").await;
    check("changes?since=1", "since").await;
    // Times at the far ends of what can be written are times.
    for time in ["0001-01-01T00:00:00Z", "9999-12-30T22:00:00Z", "-009999-01-02T01:59:59Z"] {
        app.admin_json(&format!("/admin/v1/deliveries?since={time}&until={time}")).await;
    }
}

#[tokio::test]
async fn bad_parameters_are_named_on_sqlite() {
    bad_parameters(Engine::Sqlite).await;
}

#[tokio::test]
async fn bad_parameters_are_named_on_postgres() {
    bad_parameters(Engine::Postgres).await;
}

async fn feed_and_statistics(engine: Engine) {
    let app = filled(engine).await;
    let all = app.admin_json("/admin/v1/changes").await;
    let entries = all["data"].as_array().unwrap();
    assert_eq!(entries.len(), 10);
    for (position, entry) in entries.iter().enumerate() {
        assert_eq!(entry["sequence"], position + 1, "without a gap");
        assert_eq!((&entry["entity"], &entry["operation"]), (&json!("user"), &json!("put")));
        assert_eq!(entry["id"], format!("user_{}", position % 5));
    }
    assert_eq!(all["next"], 10);
    let (mut walked, mut after) = (Vec::new(), 0);
    loop {
        let page = app.admin_json(&format!("/admin/v1/changes?after={after}&limit=3")).await;
        let data = page["data"].as_array().unwrap();
        if data.is_empty() {
            assert_eq!(page["next"], after, "at the end the cursor stays");
            break;
        }
        walked.extend(data.iter().cloned());
        after = page["next"].as_i64().unwrap();
    }
    assert_eq!(&walked, entries);
    assert_eq!(app.admin_json("/admin/v1/changes?after=999").await, json!({ "data": [], "next": 999 }));

    app.outcome("msg_gone", event("user.deleted", &json!({ "id": "user_4", "deleted": true })).to_string()).await;
    let gone = app.admin_json("/admin/v1/changes?after=10").await;
    assert_eq!(gone["data"][0]["operation"], "remove");
    app.outcome("msg_00", event("user.created", &user("user_0", THEN - 1)).to_string()).await;

    let statistics = app.admin_json("/admin/v1/statistics").await;
    assert_eq!(
        (&statistics["users"], &statistics["organizations"], &statistics["members"]),
        (&json!(4), &json!(0), &json!(0))
    );
    assert_eq!(statistics["sequence"], 11);
    let outcomes: Vec<(&str, i64)> = statistics["outcomes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|outcome| (outcome["outcome"].as_str().unwrap(), outcome["deliveries"].as_i64().unwrap()))
        .collect();
    assert_eq!(outcomes, [("applied", 11), ("ignored", 1), ("quarantined", 1), ("stale", 1)]);
    assert_eq!(statistics["outcomes"][0]["duplicates"], 1);
    assert_eq!(statistics["outcomes"][0]["conflicts"], 1, "msg_00 came again with another body");
    app.stop().await;
}

#[tokio::test]
async fn the_change_feed_has_no_gap_on_sqlite() {
    feed_and_statistics(Engine::Sqlite).await;
}

#[tokio::test]
async fn the_change_feed_has_no_gap_on_postgres() {
    feed_and_statistics(Engine::Postgres).await;
}

/// Sweeps are told newest first, with what they found; each whole under its number.
async fn drift(engine: Engine) {
    let (clerk, clock) = (confirm::clerk().await, manual_clock());
    clerk.has_user("user_ada", "Ada");
    clerk.has_user("user_bob", "Bob");
    clerk.has_organization("org_a", "The first");
    clerk.joins("org_a", "user_ada", "org:admin");
    let app = TestApp::build().on(engine).clerk(&clerk).without_reconcile().clock(&clock).start().await;
    let none = json!({ "data": [], "next": null });
    assert_eq!(app.admin_json("/admin/v1/drift").await, none);
    app.sweep(Order::backfill()).await;
    clerk.has_user("user_bob", "Robert");
    clock.advance(60_000);
    let report = app.sweep(Order::reconcile()).await;
    let unfinished = begin_sweep(&app, "reconcile").await;

    let all = app.admin_json("/admin/v1/drift").await;
    let told = |sweep: &Value| ["id", "kind", "outcome", "missing", "different", "left"].map(|key| sweep[key].clone());
    let told: Vec<[Value; 6]> = all["data"].as_array().unwrap().iter().map(told).collect();
    let expected = [
        json!([unfinished, "reconcile", null, 0, 0, 0]),
        json!([2, "reconcile", "repaired", 0, 1, 0]),
        json!([1, "backfill", "repaired", 4, 0, 0]),
    ];
    assert_eq!(json!(told), json!(expected));
    assert_eq!(all["data"][1]["began_at"], Millis(1_760_000_060_000).to_string());
    assert_eq!((&all["data"][0]["finished_at"], &all["next"]), (&Value::Null, &Value::Null));
    for size in [1, 2, 3] {
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = app.admin_json(&format!("/admin/v1/drift?limit={size}{after}")).await;
            seen.extend(page["data"].as_array().unwrap().clone());
            let Some(next) = page["next"].as_str() else { break };
            after = format!("&after={next}");
        }
        assert_eq!(Value::from(seen), all["data"], "pages of {size}");
    }

    let shown = app.admin_json("/admin/v1/drift/2").await;
    assert_eq!((&shown["id"], &shown["different"]), (&json!(2), &json!(1)));
    assert_eq!(shown["report"], serde_json::to_value(&report).unwrap());
    let difference = &shown["report"]["differences"][0];
    assert_eq!((&difference["id"], &difference["then"]), (&json!("user_bob"), &json!("repaired")));
    assert!(difference["columns"].as_array().unwrap().contains(&json!("first_name")), "{difference}");
    let unfinished = app.admin_json(&format!("/admin/v1/drift/{unfinished}")).await;
    assert_eq!(unfinished["report"]["began_at"], unfinished["began_at"]);
    for path in ["99", "0", "-1", "x", "99999999999999999999", "%00"] {
        assert_problem(&app.admin("GET", &format!("/admin/v1/drift/{path}")).await, 404, "record-not-found");
    }
    for query in ["limit=0", "after=nonsense", "after=1", "kind=backfill"] {
        assert_problem(&app.admin("GET", &format!("/admin/v1/drift?{query}")).await, 400, "invalid-parameter");
    }
    app.stop().await;
}

#[tokio::test]
async fn drift_is_told_on_sqlite() {
    drift(Engine::Sqlite).await;
}

#[tokio::test]
async fn drift_is_told_on_postgres() {
    drift(Engine::Postgres).await;
}

/// A late delivery about a deleted user is kept without them and cannot be replayed; who asks for changes that are gone is told.
async fn what_is_gone_is_told(engine: Engine) {
    let app = filled(engine).await;
    app.outcome("msg_gone", event("user.deleted", &json!({ "id": "user_4", "deleted": true })).to_string()).await;
    app.outcome("msg_late", user_created("user_4")).await;
    let late = app.admin_json("/admin/v1/deliveries/msg_late").await;
    assert!(late["payload"].is_null() && late["erased_at"].is_string(), "{late}");
    assert_problem(&app.admin("POST", "/admin/v1/deliveries/msg_late/replay").await, 409, "delivery-erased");
    assert_eq!(app.admin("POST", "/admin/v1/deliveries/msg_gone/replay").await.status, 200);
    let receipt = app.admin_json("/admin/v1/erasures/user_4").await;
    assert_eq!((&receipt["clerk_user_id"], &receipt["late"]), (&json!("user_4"), &json!(1)));
    assert_eq!(app.admin_json("/admin/v1/erasures").await, json!({ "data": [receipt], "next": null }));
    assert_problem(&app.admin("GET", "/admin/v1/erasures/user_1").await, 404, "record-not-found");

    let mut writer = Store::new(Address::parse(&app.database_url).unwrap()).writer();
    let far = Millis(i64::from(i32::MAX) * 1000);
    assert!(writer.forget_changes(far, 4).await.unwrap() > 0);
    assert_problem(&app.admin("GET", "/admin/v1/changes").await, 410, "changes-forgotten");
    assert_problem(&app.admin("GET", "/admin/v1/changes?after=3").await, 410, "changes-forgotten");
    assert_eq!(app.admin_json("/admin/v1/changes?after=4").await["data"][0]["sequence"], 5);
    app.stop().await;
}

#[tokio::test]
async fn what_is_gone_is_told_on_sqlite() {
    what_is_gone_is_told(Engine::Sqlite).await;
}

#[tokio::test]
async fn what_is_gone_is_told_on_postgres() {
    what_is_gone_is_told(Engine::Postgres).await;
}

//! Live queries (docs/decisions/0025-live-queries.md): what is told, to whom, and what is not told twice.

use std::time::Duration;

use faircopy_testkit::seed::Seed;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::app::{Engine, TestApp, assert_problem, eventually};
use crate::events::{THEN, event, user};
use crate::mint;
use crate::sessions::{at, joins, leaves, membership, organization};
use crate::stream::{Stream, Told};

const MEMBERS: &str = "/v1/organization/members";

/// A service with one organization: `user_a` administers it, `user_b` is a member.
async fn company(engine: Engine) -> TestApp {
    let app = TestApp::build().on(engine).sessions().start().await;
    app.outcome("msg_org", event("organization.created", &organization("org_1")).to_string()).await;
    joins(&app, "org_1", "user_a", "org:admin").await;
    joins(&app, "org_1", "user_b", "org:member").await;
    app
}

fn token(app: &TestApp, user: &str) -> String {
    app.token(user, Some(("org_1", "member")))
}

/// The stream of one `GET`.
async fn listen(app: &TestApp, token: &str, path: &str, last: Option<i64>) -> Stream {
    let (bearer, last) = (format!("Bearer {token}"), last.map(|last| last.to_string()));
    let mut headers = vec![("authorization", bearer.as_str()), ("accept", "text/event-stream")];
    headers.extend(last.as_deref().map(|last| ("last-event-id", last)));
    Stream::open(app, "GET", path, &headers, "").await
}

/// One stream of several queries.
async fn listen_to(app: &TestApp, token: &str, queries: &Value) -> Stream {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    Stream::open(app, "POST", "/v1/live", &headers, &json!({ "queries": queries }).to_string()).await
}

async fn renamed(app: &TestApp, user_id: &str, name: &str, version: i64) {
    let mut data = user(user_id, THEN + version);
    data["first_name"] = name.into();
    let body = at("user.updated", &data, THEN + version);
    assert_eq!(app.outcome(&format!("msg_{user_id}_{version}"), body).await, "applied");
}

async fn organization_renamed(app: &TestApp, name: &str, version: i64) {
    let mut data = organization("org_1");
    data["name"] = name.into();
    data["updated_at"] = (THEN + version).into();
    let body = at("organization.updated", &data, THEN + version);
    assert_eq!(app.outcome(&format!("msg_org_{version}"), body).await, "applied");
}

/// The next value, after which the copy is that new, as the `GET` has it.
async fn assert_told(app: &TestApp, stream: &mut Stream, token: &str, path: &str) -> i64 {
    let told = stream.told("").await;
    assert_eq!(told.data, app.bearer_json(path, token).await, "{path}");
    told.number()
}

async fn each_query_follows_its_rows(engine: Engine) {
    let app = company(engine).await;
    let token = token(&app, "user_a");
    let paths = ["/v1/me", "/v1/me/organizations", "/v1/users/user_b", "/v1/organization", MEMBERS, "/v1/workspace"];
    let mut streams = Vec::new();
    for path in paths {
        let mut stream = listen(&app, &token, path, None).await;
        let number = assert_told(&app, &mut stream, &token, path).await;
        let beat = stream.told("beat").await;
        assert_eq!((beat.number(), &beat.data["sequence"]), (number, &json!(number)));
        assert!(beat.data["as_of"].is_string() && beat.data["as_of_basis"] == "delivered", "{beat:?}");
        streams.push(stream);
    }
    let [me, organizations, colleague, own, members, workspace] = &mut streams[..] else { unreachable!() };
    // The caller's own name is theirs and the list's; nobody else hears of it.
    renamed(&app, "user_a", "Augusta", 1).await;
    let first = assert_told(&app, me, &token, "/v1/me").await;
    assert_told(&app, members, &token, MEMBERS).await;
    renamed(&app, "user_b", "Bertrand", 2).await;
    let second = assert_told(&app, colleague, &token, "/v1/users/user_b").await;
    assert!(second > first);
    assert_told(&app, members, &token, MEMBERS).await;
    organization_renamed(&app, "Renamed", 3).await;
    assert_told(&app, own, &token, "/v1/organization").await;
    assert_told(&app, organizations, &token, "/v1/me/organizations").await;
    assert_told(&app, workspace, &token, "/v1/workspace").await;
    joins(&app, "org_1", "user_c", "org:member").await;
    assert_told(&app, members, &token, MEMBERS).await;
    // A colleague who leaves is no colleague any more: the stream says so and ends.
    leaves(&app, "org_1", "user_b", THEN + 10_000).await;
    let gone = colleague.told("problem").await;
    assert_eq!((&gone.data["code"], &gone.data["status"]), (&json!("record-not-found"), &json!(404)));
    assert!(colleague.next().await.is_none());
    let list = members.told("").await;
    assert_eq!(list.data, app.bearer_json(MEMBERS, &token).await);
}

#[tokio::test]
async fn each_query_follows_its_rows_on_sqlite() {
    each_query_follows_its_rows(Engine::Sqlite).await;
}

#[tokio::test]
async fn each_query_follows_its_rows_on_postgres() {
    each_query_follows_its_rows(Engine::Postgres).await;
}

/// What a stream refuses, it refuses as the `GET` does. Forward-auth answers a proxy that passes on what the browser accepts.
#[tokio::test]
async fn a_stream_is_refused_as_its_get_is() {
    let app = company(Engine::Sqlite).await;
    let (token, nobody) = (token(&app, "user_a"), app.token("user_x", None));
    let get = async |path: &str, token: &str| {
        let bearer = format!("Bearer {token}");
        app.request("GET", path, &[("authorization", &bearer), ("accept", "text/event-stream")], "").await
    };
    assert_problem(&get("/v1/me", "nonsense").await, 401, "token-invalid");
    assert_problem(&get("/v1/organization", &nobody).await, 404, "no-active-organization");
    assert_problem(&get("/v1/users/user_nobody", &token).await, 404, "record-not-found");
    assert_problem(&get("/v1/organization/members?limit=0", &token).await, 400, "invalid-parameter");
    assert_problem(&get("/v1/nowhere", &token).await, 404, "not-found");
    let answer = get("/v1/auth", &token).await;
    assert_eq!((answer.status, answer.header("x-auth-user-id"), answer.body.len()), (200, Some("user_a"), 0));
    let post = async |body: &str| {
        let bearer = format!("Bearer {token}");
        app.request("POST", "/v1/live", &[("authorization", &bearer)], body.to_owned()).await
    };
    let many: Vec<Value> = (0..33).map(|n| json!({ "path": format!("/v1/users/user_{n}") })).collect();
    for body in [
        String::new(),
        "[]".to_owned(),
        json!({ "queries": [] }).to_string(),
        json!({ "queries": many }).to_string(),
        json!({ "queries": [{ "path": "/v1/me" }, { "path": "/v1/me" }] }).to_string(),
        json!({ "queries": [{ "path": "/v1/me", "since": -1 }] }).to_string(),
        json!({ "queries": [{ "path": "/v1/me", "sinse": 1 }] }).to_string(),
    ] {
        assert_problem(&post(&body).await, 400, "invalid-parameter");
    }
    assert_problem(&post(&"x".repeat(32 * 1024 + 1)).await, 413, "body-too-large");
}

/// Several queries in one stream, and each is told under its path. A path that is no query has a problem, and not the others.
#[tokio::test]
async fn several_queries_share_a_stream() {
    let app = company(Engine::Sqlite).await;
    let token = token(&app, "user_b");
    let queries =
        json!([{ "path": "/v1/me" }, { "path": MEMBERS }, { "path": "/v1/auth" }, { "path": "/v1/users/user_x" }]);
    let mut stream = listen_to(&app, &token, &queries).await;
    for path in ["/v1/me", MEMBERS] {
        let told = stream.told("value").await;
        assert_eq!(told.data["query"], path);
        assert_eq!(told.data["sequence"], told.number());
        assert_eq!(told.data["value"], app.bearer_json(path, &token).await);
    }
    let lost = stream.told("problem").await;
    assert_eq!((&lost.data["query"], &lost.data["problem"]["code"]), (&json!("/v1/auth"), &json!("not-found")));
    let lost = stream.told("problem").await;
    assert_eq!(lost.data["query"], "/v1/users/user_x");
    assert_eq!(lost.data["problem"]["code"], "record-not-found");
    stream.told("beat").await;
    // Whoever joins is seen from then on.
    joins(&app, "org_1", "user_x", "org:member").await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let told = stream.told("value").await;
        seen.push(told.data["query"].as_str().unwrap().to_owned());
        seen.dedup();
    }
    seen.sort_unstable();
    assert_eq!(seen, [MEMBERS, "/v1/users/user_x"]);
}

async fn coming_again(engine: Engine) {
    let app = company(engine).await;
    let token = token(&app, "user_a");
    let mut stream = listen(&app, &token, MEMBERS, None).await;
    let number = assert_told(&app, &mut stream, &token, MEMBERS).await;
    drop(stream);
    // Nothing about it has happened: it is not told again. What is another organization's is nothing.
    joins(&app, "org_2", "user_z", "org:member").await;
    let mut stream = listen(&app, &token, MEMBERS, Some(number)).await;
    let beat = stream.next().await.expect("a beat");
    assert_eq!(beat.name, "beat", "{beat:?}");
    assert!(beat.number() > number);
    drop(stream);
    renamed(&app, "user_b", "Bertrand", 1).await;
    let mut stream = listen(&app, &token, MEMBERS, Some(beat.number())).await;
    let told = stream.next().await.expect("a value");
    assert_eq!((told.name.as_str(), &told.data), ("", &app.bearer_json(MEMBERS, &token).await));
    // A number that this copy has not given out, and one that is none.
    for last in [told.number() + 1_000, 0] {
        let mut stream = listen(&app, &token, MEMBERS, Some(last)).await;
        assert_eq!(stream.next().await.expect("a value").name, "");
    }
    // Each query of several has a number of its own.
    let queries = json!([{ "path": "/v1/me", "since": told.number() }, { "path": MEMBERS, "since": number }]);
    let mut stream = listen_to(&app, &token, &queries).await;
    let first = stream.next().await.expect("a value");
    assert_eq!((first.name.as_str(), &first.data["query"]), ("value", &json!(MEMBERS)));
    assert_eq!(stream.next().await.expect("a beat").name, "beat");
}

#[tokio::test]
async fn coming_again_on_sqlite() {
    coming_again(Engine::Sqlite).await;
}

#[tokio::test]
async fn coming_again_on_postgres() {
    coming_again(Engine::Postgres).await;
}

/// A removed member hears it at once, and nothing more of what was theirs.
async fn a_removed_member_hears_nothing_more(engine: Engine) {
    let app = company(engine).await;
    let token = token(&app, "user_b");
    let mut list = listen(&app, &token, MEMBERS, None).await;
    list.told("beat").await;
    let mut several = listen_to(&app, &token, &json!([{ "path": "/v1/me" }, { "path": MEMBERS }])).await;
    several.told("beat").await;
    leaves(&app, "org_1", "user_b", THEN + 10_000).await;
    let told = list.next().await.expect("a problem");
    assert_eq!((told.name.as_str(), &told.data["code"]), ("problem", &json!("record-not-found")));
    assert!(list.next().await.is_none(), "the stream ends");
    // Its user is still a user.
    let told = several.told("problem").await;
    assert_eq!((&told.data["query"], &told.data["problem"]["code"]), (&json!(MEMBERS), &json!("record-not-found")));
    joins(&app, "org_1", "user_c", "org:member").await;
    renamed(&app, "user_b", "Bertrand", 1).await;
    let told = several.told("value").await;
    assert_eq!(told.data["query"], "/v1/me", "nothing of the organization: {told:?}");
    app.outcome("msg_end", at("user.deleted", &json!({ "id": "user_b", "deleted": true }), THEN + 20_000)).await;
    let told = loop {
        let told = several.next().await.expect("an end");
        assert_ne!(told.name, "value", "{told:?}");
        if told.name == "end" {
            break told;
        }
    };
    assert_eq!(told.data["code"], "user-deleted");
    assert!(several.next().await.is_none());
}

#[tokio::test]
async fn a_removed_member_hears_nothing_more_on_sqlite() {
    a_removed_member_hears_nothing_more(Engine::Sqlite).await;
}

#[tokio::test]
async fn a_removed_member_hears_nothing_more_on_postgres() {
    a_removed_member_hears_nothing_more(Engine::Postgres).await;
}

/// A token carries a stream to its own end and the leeway, and no further.
#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let app = company(Engine::Sqlite).await;
    let now = app.now();
    // Seconds before its end, as the leeway is five.
    let old = mint::draft("user_a", now - 58).claim("exp", now - 3).sign();
    let mut single = listen(&app, &old, "/v1/me", None).await;
    let mut several = listen_to(&app, &old, &json!([{ "path": "/v1/me" }])).await;
    let (single, several) = (single.told("problem").await, several.told("end").await);
    assert_eq!((&single.data["code"], &several.data["code"]), (&json!("token-expired"), &json!("token-expired")));
    assert!(app.now() - now <= 5, "it was let go in time");
}

/// The service does not wait for those who listen, and tells them to come again.
#[tokio::test]
async fn a_stream_ends_with_the_service() {
    let mut app = company(Engine::Sqlite).await;
    let token = token(&app, "user_a");
    let mut stream = listen_to(&app, &token, &json!([{ "path": "/v1/me" }])).await;
    stream.told("beat").await;
    let began = std::time::Instant::now();
    app.tell_to_stop();
    assert_eq!(stream.told("end").await.data["code"], "shutting-down");
    assert!(stream.next().await.is_none());
    app.stopped().await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

/// A page that goes on has a place in it that is sealed for its reader: each is told their own.
#[tokio::test]
async fn pages_that_go_on_are_each_readers_own() {
    let app = company(Engine::Sqlite).await;
    let (a, b) = (token(&app, "user_a"), token(&app, "user_b"));
    let path = "/v1/organization/members?limit=1";
    let (mut first, mut second) = (listen(&app, &a, path, None).await, listen(&app, &b, path, None).await);
    for change in 0..3 {
        let (one, other) = (first.told("").await, second.told("").await);
        assert_eq!(one.data["data"], other.data["data"]);
        for (told, token) in [(&one, &a), (&other, &b)] {
            let next = format!("{path}&after={}", told.data["next"].as_str().expect("a next page"));
            assert_eq!(app.bearer_json(&next, token).await["data"][0]["clerk_user_id"], "user_b", "{change}");
        }
        renamed(&app, "user_a", &format!("Name {change}"), change + 1).await;
    }
}

/// What another replica commits is told here.
#[tokio::test]
async fn replicas_hear_of_each_other() {
    let database = faircopy_testkit::postgres::fresh_database().await;
    let replica = async || TestApp::build().sessions().database_url(database.url()).start().await;
    let (here, there) = (replica().await, replica().await);
    there.outcome("msg_org", event("organization.created", &organization("org_1")).to_string()).await;
    joins(&there, "org_1", "user_a", "org:admin").await;
    let token = token(&here, "user_a");
    let mut stream = listen(&here, &token, MEMBERS, None).await;
    stream.told("beat").await;
    for version in 1..=5 {
        renamed(&there, "user_a", &format!("Name {version}"), version).await;
        assert_told(&here, &mut stream, &token, MEMBERS).await;
    }
}

/// A workspace says what its reader is in it: that is nobody else's.
#[tokio::test]
async fn a_workspace_says_what_its_own_reader_is() {
    let app = company(Engine::Sqlite).await;
    for (user, role) in [("user_a", "owner"), ("user_b", "member")] {
        let mut stream = listen(&app, &token(&app, user), "/v1/workspace", None).await;
        assert_eq!(stream.told("").await.data["role"], role, "{user}");
    }
}

/// A path is taken as it is written: another way to write one is no query, which would never be told of a change.
#[tokio::test]
async fn another_way_to_write_a_path_is_no_query() {
    let app = company(Engine::Sqlite).await;
    let queries = ["/me", "/v1/users/user%5Fb", "/v1/me/", "v1/me", "/admin/v1/statistics"];
    let queries: Vec<Value> = queries.iter().map(|path| json!({ "path": path })).collect();
    let mut stream = listen_to(&app, &token(&app, "user_a"), &json!(queries)).await;
    for query in queries {
        let told = stream.next().await.expect("a problem");
        assert_eq!((told.name.as_str(), &told.data["query"]), ("problem", &query["path"]));
        assert_eq!(told.data["problem"]["code"], "not-found");
    }
}

/// What the application writes has no number in the feed: it is looked for.
#[tokio::test]
async fn a_workspace_shows_what_the_application_writes() {
    use sqlx::{Connection as _, Executor as _};
    let app = company(Engine::Postgres).await;
    let token = token(&app, "user_a");
    let mut stream = listen(&app, &token, "/v1/workspace", None).await;
    assert_told(&app, &mut stream, &token, "/v1/workspace").await;
    let mut application = sqlx::PgConnection::connect(&app.database_url).await.unwrap();
    let write =
        "INSERT INTO faircopy.channels (id, workspace_id, name) SELECT 'ch_1', id, 'plans' FROM faircopy.workspaces";
    application.execute(write).await.unwrap();
    let told = stream.told("").await;
    assert!(told.data.to_string().contains("plans"), "{told:?}");
}

/// Streams are counted while they are open.
#[tokio::test]
async fn whoever_listens_is_counted() {
    let app = company(Engine::Sqlite).await;
    let token = token(&app, "user_a");
    let figures = async || app.get("/metrics").await.text();
    let mut stream = listen(&app, &token, "/v1/me", None).await;
    stream.told("beat").await;
    assert!(figures().await.contains("faircopy_live_subscribers"));
    drop(stream);
    assert_eq!(app.get("/healthz").await.status, 200);
}

/// Versions of one list, written by two replicas at once while readers come and go: each ends at the last state, and none is
/// told a state that never was.
#[tokio::test(flavor = "multi_thread")]
async fn every_reader_ends_at_the_last_state_and_sees_none_that_never_was() {
    const VERSIONS: i64 = 60;
    const USERS: [&str; 3] = ["user_a", "user_b", "user_c"];
    let seed = Seed::of_run();
    let database = faircopy_testkit::postgres::fresh_database().await;
    let replica = async || TestApp::build().sessions().database_url(database.url()).start().await;
    let (one, two) = (replica().await, replica().await);
    one.outcome("msg_org", event("organization.created", &organization("org_1")).to_string()).await;
    for id in USERS {
        joins(&one, "org_1", id, "org:member").await;
    }
    // Each user is renamed in order, by a replica that chance names; users and roles are changed at once.
    let writing = async |id: &str, number: u64| {
        let mut dice = StdRng::seed_from_u64(seed.value().wrapping_add(number));
        for version in 1..=VERSIONS {
            let app = if dice.random_bool(0.5) { &one } else { &two };
            tokio::time::sleep(Duration::from_millis(dice.random_range(0..8))).await;
            let mut data = user(id, THEN + version);
            data["first_name"] = version.to_string().into();
            data["last_name"] = Value::Null;
            let body = at("user.updated", &data, THEN + version);
            assert_eq!(app.outcome(&format!("msg_{id}_{version}"), body).await, "applied");
            let role = if version % 2 == 0 { "org:member" } else { "org:admin" };
            let pair = format!("org_1_{id}");
            let member = membership(&format!("orgmem_{pair}"), "org_1", id, role, THEN + version);
            let body = at("organizationMembership.updated", &member, THEN + version);
            assert_eq!(app.outcome(&format!("msg_m_{id}_{version}"), body).await, "applied");
        }
    };
    let last = VERSIONS.to_string();
    let reading = async |app: &TestApp, id: &str, comes_again: bool| {
        let token = app.token(id, Some(("org_1", "member")));
        let (mut stream, mut number) = (listen(app, &token, MEMBERS, None).await, 0);
        let mut seen: [i64; 3] = [0; 3];
        loop {
            let told: Told = stream.told("").await;
            assert!(told.number() >= number, "{} after {number}", told.number());
            number = told.number();
            let rows = told.data["data"].as_array().unwrap();
            let names = USERS.map(|id| {
                let row = rows.iter().find(|row| row["clerk_user_id"] == id).expect("every member");
                row["name"].as_str().unwrap_or_default().parse::<i64>().unwrap_or_default()
            });
            // The rows of one instant: none goes back, and none is ahead of its own history.
            assert!(names.iter().zip(&seen).all(|(new, old)| new >= old), "{names:?} after {seen:?}");
            seen = names;
            if names.iter().all(|name| name.to_string() == last) && rows.iter().all(|row| row["role"] == "org:member") {
                return;
            }
            if comes_again {
                drop(stream);
                stream = listen(app, &token, MEMBERS, Some(number)).await;
            }
        }
    };
    tokio::join!(
        writing("user_a", 1),
        writing("user_b", 2),
        writing("user_c", 3),
        reading(&one, "user_a", false),
        reading(&two, "user_b", false),
        reading(&one, "user_c", true),
        reading(&two, "user_a", true),
    );
    eventually("nobody is left", Duration::from_secs(20), async || {
        one.get("/metrics").await.text().contains("faircopy_live_subscribers 0")
    })
    .await;
}

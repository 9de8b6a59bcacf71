//! Rooms as Liveblocks documents them, over HTTP, and everything that may go wrong with them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use faircopy_sandbox::liveblocks::{Faults, Liveblocks, LiveblocksSandbox, State, Wrong};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const KEY: &str = "sk_rooms";
/// When the first room is made; the clock goes on by a second at each look.
const THEN: i64 = 1_716_883_200_123;

fn clock() -> Arc<impl Fn() -> i64 + Send + Sync + 'static> {
    let now = AtomicI64::new(THEN);
    Arc::new(move || now.fetch_add(1000, Ordering::Relaxed))
}

/// A project, and a client with its key.
struct Project {
    sandbox: LiveblocksSandbox,
    client: Client,
}

impl Project {
    async fn start() -> Self {
        Self { sandbox: LiveblocksSandbox::start(KEY, clock()).await.unwrap(), client: Client::new() }
    }

    async fn with_rooms(ids: &[&str]) -> Self {
        let project = Self::start().await;
        for id in ids {
            let (status, _) = project.create(json!({ "id": id, "defaultAccesses": [] })).await;
            assert_eq!(status, 200, "{id}");
        }
        project
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.sandbox.url())).bearer_auth(KEY)
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        read(self.request(Method::GET, path).send().await.unwrap()).await
    }

    async fn create(&self, room: Value) -> (u16, Value) {
        read(self.request(Method::POST, "/v2/rooms").json(&room).send().await.unwrap()).await
    }

    async fn delete(&self, id: &str) -> (u16, Value) {
        read(self.request(Method::DELETE, &format!("/v2/rooms/{id}")).send().await.unwrap()).await
    }

    /// The ids that a list shows.
    async fn ids(&self, query: &str) -> Vec<String> {
        let (status, page) = self.get(&format!("/v2/rooms?{query}")).await;
        assert_eq!(status, 200, "{query}: {page}");
        let rooms = page["data"].as_array().unwrap();
        rooms.iter().map(|room| room["id"].as_str().unwrap().to_owned()).collect()
    }
}

async fn read(response: Response) -> (u16, Value) {
    let (status, text) = (response.status().as_u16(), response.text().await.unwrap());
    (status, if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() })
}

#[tokio::test]
async fn a_room_is_made_shown_deleted_and_gone() {
    let project = Project::start().await;
    let room = json!({
        "id": "doc:1", "defaultAccesses": ["room:write"], "organizationId": "org_1", "metadata": { "k": "v", "list": ["a"] },
        "usersAccesses": { "user_1": ["room:read", "room:presence:write"] }, "groupsAccesses": { "g": ["room:write"] },
    });
    let shown = json!({
        "type": "room", "id": "doc:1", "createdAt": "2024-05-28T08:00:00.123Z", "organizationId": "org_1",
        "metadata": { "k": "v", "list": ["a"] }, "defaultAccesses": ["room:write"],
        "usersAccesses": { "user_1": ["room:read", "room:presence:write"] }, "groupsAccesses": { "g": ["room:write"] },
    });
    assert_eq!(project.create(room.clone()).await, (200, shown.clone()));
    assert_eq!(project.get("/v2/rooms/doc:1").await, (200, shown.clone()));
    let (status, refused) = project.create(room.clone()).await;
    assert_eq!((status, refused["error"].as_str()), (409, Some("ROOM_ALREADY_EXISTS")));
    let again = project.request(Method::POST, "/v2/rooms?idempotent").json(&room).send().await.unwrap();
    assert_eq!(read(again).await, (200, shown));

    assert_eq!(project.delete("doc:1").await, (204, Value::Null));
    for (status, body) in [project.delete("doc:1").await, project.get("/v2/rooms/doc:1").await] {
        assert_eq!((status, body["error"].as_str()), (404, Some("ROOM_NOT_FOUND")));
        assert!(body["message"].is_string() && body["suggestion"].is_string() && body["docs"].is_string());
    }
    assert!(project.ids("").await.is_empty());
}

#[tokio::test]
async fn any_name_is_a_name() {
    let names = [
        ("../v2/rooms", "..%2Fv2%2Frooms"),
        ("a/b?c#d", "a%2Fb%3Fc%23d"),
        ("ü 漢", "%C3%BC%20%E6%BC%A2"),
        ("%2f", "%252f"),
    ];
    let project = Project::with_rooms(&names.map(|(name, _)| name)).await;
    for (name, encoded) in names {
        let (status, room) = project.get(&format!("/v2/rooms/{encoded}")).await;
        assert_eq!((status, room["id"].as_str()), (200, Some(name)));
        assert_eq!(project.delete(encoded).await.0, 204, "{name}");
    }
    assert!(project.ids("").await.is_empty());
    assert_eq!(project.get("/v2/rooms/%FF").await.0, 404);
}

#[tokio::test]
async fn pages_are_newest_first_and_a_cursor_outlives_its_room() {
    let names: Vec<String> = (0..45).map(|at| format!("room:{at:02}")).collect();
    let project = Project::with_rooms(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let newest: Vec<String> = names.into_iter().rev().collect();
    assert_eq!(project.ids("").await, newest[..20]);
    assert_eq!(project.ids("limit=100").await, newest);

    let (_, first) = project.get("/v2/rooms?limit=15").await;
    let cursor = first["nextCursor"].as_str().unwrap().to_owned();
    assert_eq!(first["nextPage"], format!("/v2/rooms?startingAfter={cursor}"));
    // The room at the end of the page is deleted, and another is made: nothing is missed and nothing comes twice.
    project.delete(&newest[14]).await;
    project.create(json!({ "id": "new", "defaultAccesses": [] })).await;
    assert_eq!(project.ids(&format!("limit=15&startingAfter={cursor}")).await, newest[15..30]);

    let (_, last) = project.get("/v2/rooms?limit=45").await;
    assert_eq!((&last["nextCursor"], &last["nextPage"]), (&Value::Null, &Value::Null));
    for wrong in ["limit=0", "limit=101", "limit=x", "limit=-1", "startingAfter=x", "startingAfter="] {
        let (status, body) = project.get(&format!("/v2/rooms?{wrong}")).await;
        assert_eq!((status, body["error"].as_str()), (422, Some("UNPROCESSABLE_ENTITY")), "{wrong}");
    }
}

#[tokio::test]
async fn lists_are_filtered_by_everything_that_is_documented() {
    let project = Project::start().await;
    let make = |id: &str, organization: &str, metadata: Value, user: &str, group: &str| {
        project.create(json!({
            "id": id, "defaultAccesses": [], "organizationId": organization, "metadata": metadata,
            "usersAccesses": { user: ["room:write"] }, "groupsAccesses": { group: ["room:write"] },
        }))
    };
    make("doc:1", "org_1", json!({ "ws": "1", "kind": "doc" }), "ann", "red").await;
    make("doc:2", "org_2", json!({ "ws": "2", "kind": "doc" }), "bob", "blue").await;
    make("code:1", "org_1", json!({ "ws": "1", "kind": ["code"] }), "cy", "green").await;
    let check = async |query: &str, expected: &[&str]| assert_eq!(project.ids(query).await, expected, "{query}");
    check("metadata.ws=1", &["code:1", "doc:1"]).await;
    check("metadata.ws=1&metadata.kind=doc", &["doc:1"]).await;
    // A list is not filtered by.
    check("metadata.kind=code", &[]).await;
    check("organizationId=org_1", &["code:1", "doc:1"]).await;
    check("organizationId=org_3", &[]).await;
    check("userId=bob", &["doc:2"]).await;
    check("groupIds=red,green", &["code:1", "doc:1"]).await;
    // The user or one of the groups, and everything else.
    check("userId=bob&groupIds=red", &["doc:2", "doc:1"]).await;
    check("userId=bob&groupIds=red&metadata.ws=1", &["doc:1"]).await;
    check("query=roomId%5E%27doc%3A%27", &["doc:2", "doc:1"]).await;
    check("query=roomId%5E%22doc%3A%22%20AND%20metadata%5B%27ws%27%5D%3A%272%27", &["doc:2"]).await;
    check("limit=1&organizationId=org_1", &["code:1"]).await;
    let (status, body) = project.get("/v2/rooms?query=roomId").await;
    assert_eq!((status, body["error"].as_str()), (422, Some("INVALID_QUERY")));
}

#[tokio::test]
async fn what_is_no_room_is_not_made() {
    let project = Project::start().await;
    let long = "x".repeat(129);
    let many: serde_json::Map<String, Value> = (0..51).map(|at| (at.to_string(), json!("x"))).collect();
    for wrong in [
        json!([]),
        json!({}),
        json!({ "id": "a" }),
        json!({ "id": "", "defaultAccesses": [] }),
        json!({ "id": long, "defaultAccesses": [] }),
        json!({ "id": 1, "defaultAccesses": [] }),
        json!({ "id": "a", "defaultAccesses": "room:write" }),
        json!({ "id": "a", "defaultAccesses": ["write"] }),
        json!({ "id": "a", "defaultAccesses": [], "metadata": { "k": 1 } }),
        json!({ "id": "a", "defaultAccesses": [], "metadata": { "k": "x".repeat(257) } }),
        json!({ "id": "a", "defaultAccesses": [], "metadata": { "x".repeat(41): "v" } }),
        json!({ "id": "a", "defaultAccesses": [], "metadata": many }),
        json!({ "id": "a", "defaultAccesses": [], "usersAccesses": { "u": null } }),
        json!({ "id": "a", "defaultAccesses": [], "organizationId": 7 }),
    ] {
        let (status, body) = project.create(wrong.clone()).await;
        assert_eq!((status, body["error"].as_str()), (422, Some("UNPROCESSABLE_ENTITY")), "{wrong}");
    }
    let text = project.request(Method::POST, "/v2/rooms").body("{").send().await.unwrap();
    assert_eq!(read(text).await.0, 422);
    assert!(project.ids("").await.is_empty());
    assert_eq!(project.create(json!({ "id": "x".repeat(128), "defaultAccesses": [] })).await.0, 200);
}

#[tokio::test]
async fn only_the_secret_key_opens() {
    let project = Project::with_rooms(&["a"]).await;
    let url = format!("{}/v2/rooms/a", project.sandbox.url());
    for (header, status, code) in [
        (None, 401, "MISSING_SECRET_KEY"),
        (Some("Bearer "), 401, "MISSING_SECRET_KEY"),
        (Some("Basic sk_rooms"), 401, "MISSING_SECRET_KEY"),
        (Some("Bearer pk_rooms"), 401, "WRONG_KEY_USED"),
        (Some("Bearer sk_other"), 403, "INVALID_SECRET_KEY"),
    ] {
        let request = project.client.delete(&url);
        let request = header.map_or(request.try_clone().unwrap(), |value| request.header("authorization", value));
        let (found, body) = read(request.send().await.unwrap()).await;
        assert_eq!((found, body["error"].as_str()), (status, Some(code)), "{header:?}");
    }
    assert_eq!(project.sandbox.ids(), ["a"]);
    assert_eq!(project.get("/v2/rooms/a/threads").await.0, 404);
    assert_eq!(project.get("/v2").await.0, 404);
}

#[tokio::test]
async fn the_next_requests_fail_as_they_were_told_to() {
    let project = Project::with_rooms(&["a"]).await;
    let next = [Wrong::Limited(Some(7)), Wrong::Limited(None), Wrong::Status(503), Wrong::Nothing, Wrong::Status(500)];
    project.sandbox.set_faults(Faults { next: next.into(), ..Faults::default() }).unwrap();
    let send = async || {
        let response = project.request(Method::GET, "/v2/rooms/a").send().await.unwrap();
        let after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        (response.status().as_u16(), after)
    };
    assert_eq!(send().await, (429, Some("7".into())));
    assert_eq!(send().await, (429, None));
    assert_eq!(send().await, (503, None));
    assert_eq!(send().await, (200, None));
    assert_eq!(send().await, (500, None));
    assert_eq!(send().await, (200, None));
}

/// Everything that comes back over one connection for a deletion.
async fn deletion(project: &Project, id: &str) -> String {
    let address = project.sandbox.url().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("DELETE /v2/rooms/{id} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {KEY}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_deletion_may_be_done_and_its_answer_lost() {
    let project = Project::with_rooms(&["a", "b"]).await;
    project.sandbox.set_faults(Faults { lost_percent: 100.0, ..Faults::default() }).unwrap();
    assert_eq!(deletion(&project, "a").await, "", "not a byte of an answer");
    assert_eq!(project.sandbox.ids(), ["b"]);
    // Only deletions are lost by rate.
    assert_eq!(project.get("/v2/rooms/b").await.0, 200);
    project.sandbox.set_faults(Faults { next: [Wrong::Closed].into(), ..Faults::default() }).unwrap();
    assert_eq!(deletion(&project, "b").await, "");
    assert_eq!(project.sandbox.ids(), ["b"], "closed before anything was done");
    project.sandbox.with(|state| {
        let seen: Vec<_> = state.requests.iter().filter(|asked| asked.call == "delete").collect();
        let seen: Vec<_> =
            seen.iter().map(|asked| (asked.room.as_deref().unwrap(), asked.status, asked.done)).collect();
        assert_eq!(seen, [("a", None, true), ("b", None, false)]);
    });
}

#[tokio::test]
async fn rates_are_kept_and_repeat_with_their_seed() {
    let statuses = async |seed| {
        let project = Project::with_rooms(&["a"]).await;
        let faults =
            Faults { seed, limited_percent: 20.0, retry_after_s: Some(1), error_percent: 25.0, ..Faults::default() };
        project.sandbox.set_faults(faults).unwrap();
        let mut statuses = Vec::new();
        for _ in 0..400 {
            statuses.push(project.get("/v2/rooms/a").await.0);
        }
        statuses
    };
    let first = statuses(1).await;
    assert_eq!(first, statuses(1).await);
    assert_ne!(first, statuses(2).await);
    let share = |status| first.iter().filter(|&&found| found == status).count();
    assert!((50..110).contains(&share(429)), "{} of 400 at 20 %", share(429));
    assert!((50..110).contains(&share(500)), "{} of 400 at 25 % of the rest", share(500));
}

#[tokio::test]
async fn the_control_routes_set_show_and_bring_back() {
    let project = Project::with_rooms(&["a"]).await;
    let control = |method: Method, path: &str| project.request(method, &format!("/sandbox/v1/liveblocks{path}"));
    project.create(json!({ "id": "b", "defaultAccesses": [], "metadata": { "k": "v" } })).await;
    project.delete("b").await;
    let (status, room) = read(control(Method::POST, "/rooms/b/reconnect").send().await.unwrap()).await;
    assert_eq!((status, &room["metadata"]["k"]), (200, &json!("v")), "as it was");
    assert_eq!(room["createdAt"], room["lastConnectionAt"], "made anew");
    assert_eq!(project.ids("").await, ["b", "a"], "and the newest");
    let (_, room) = read(control(Method::POST, "/rooms/never%2Fseen/reconnect").send().await.unwrap()).await;
    assert_eq!(room["id"], "never/seen");

    let faults =
        json!({ "next": [{ "status": 502 }, { "limited": 3 }, "lost", "closed", "nothing"], "latency_ms": [0, 1] });
    let (status, set) = read(control(Method::PUT, "/faults").json(&faults).send().await.unwrap()).await;
    assert_eq!((status, &set["next"]), (200, &faults["next"]));
    assert_eq!(project.get("/v2/rooms").await.0, 502);
    for wrong in [
        json!({ "latencyms": 1 }),
        json!({ "latency_ms": [2, 1] }),
        json!({ "error_percent": 101 }),
        json!({ "next": [{ "status": 200 }] }),
        json!({ "retry_after_s": 3601 }),
        json!({ "error_status": 302 }),
    ] {
        let refused = control(Method::PUT, "/faults").json(&wrong).send().await.unwrap();
        assert_eq!(refused.status(), 422, "{wrong}");
    }

    let (_, log) = read(control(Method::GET, "/requests").send().await.unwrap()).await;
    assert_eq!(log["counts"], json!({ "create": 2, "delete": 1, "list": 2 }));
    let last = log["requests"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["call"], &last["status"], &last["done"]), (&json!("list"), &json!(502), &json!(false)));
    assert_eq!(control(Method::DELETE, "/requests").send().await.unwrap().status(), 204);
    let (_, shown) = read(control(Method::GET, "").send().await.unwrap()).await;
    assert_eq!(shown["counts"], json!({}));
    assert_eq!(shown["rooms"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn latency_is_waited_and_the_work_done_before() {
    let project = Project::with_rooms(&["a"]).await;
    project.sandbox.set_faults(Faults { latency_ms: [3_600_000, 3_600_000], ..Faults::default() }).unwrap();
    let deletion = project.request(Method::DELETE, "/v2/rooms/a").timeout(std::time::Duration::from_millis(300)).send();
    assert!(deletion.await.unwrap_err().is_timeout());
    assert!(project.sandbox.ids().is_empty());
}

#[tokio::test]
async fn the_whole_state_is_a_document() {
    let project = Project::with_rooms(&["a", "b"]).await;
    project.delete("a").await;
    project.sandbox.set_faults(Faults { next: [Wrong::Limited(Some(1))].into(), ..Faults::default() }).unwrap();
    let document = project.sandbox.with(|state| serde_json::to_value(&*state).unwrap());
    let state: State = serde_json::from_value(document.clone()).unwrap();
    let restored = Liveblocks::restored(KEY, clock(), state);
    assert_eq!(restored.with(|state| serde_json::to_value(&*state).unwrap()), document);
    assert_eq!(restored.reconnect("a").unwrap().id, "a");
    assert_eq!(restored.ids(), ["a", "b"]);
    let empty: State = serde_json::from_value(json!({})).unwrap();
    assert_eq!(empty.rooms.all().count(), 0);
}

#[tokio::test]
async fn more_requests_than_are_allowed_are_answered_429() {
    let now = Arc::new(AtomicI64::new(THEN));
    let shown = now.clone();
    let sandbox = LiveblocksSandbox::start(KEY, Arc::new(move || shown.load(Ordering::Relaxed))).await.unwrap();
    let project = Project { sandbox, client: Client::new() };
    project.sandbox.set_faults(Faults { per_second: Some(2), retry_after_s: Some(1), ..Faults::default() }).unwrap();
    let ask = async |at_ms: i64| {
        now.store(THEN + at_ms, Ordering::Relaxed);
        project.request(Method::GET, "/v2/rooms").send().await.unwrap()
    };
    for (at_ms, expected) in [(0, 200), (500, 200), (999, 429), (1_000, 200), (1_400, 429), (1_500, 200), (-5_000, 200)]
    {
        let response = ask(at_ms).await;
        assert_eq!(response.status(), expected, "{at_ms}");
        let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(retry_after.as_deref(), (expected == 429).then_some("1"));
    }
    for wrong in [0, 1_001] {
        assert!(project.sandbox.set_faults(Faults { per_second: Some(wrong), ..Faults::default() }).is_err());
    }
}

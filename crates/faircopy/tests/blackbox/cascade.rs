//! The story of system C with the real binary: an organization becomes a workspace, an application fills it, and when the
//! organization is deleted at Clerk, everything goes: here and at Liveblocks, once and surely, whoever is killed meanwhile.

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use faircopy_sandbox::liveblocks::Faults;
use faircopy_sandbox::post::{self, NewEndpoint};
use faircopy_sandbox::{Sandbox, Settings};
use faircopy_testkit::client::request;
use faircopy_testkit::seed::Seed;
use faircopy_testkit::server::{Options, Server};
use faircopy_world::token;
use serde_json::{Value, json};

use crate::support::{ADMIN_TOKEN, PATIENCE, POLL, Place, SECRET, faircopy, now_ms, scale};

const KEY: &str = "sk_live_the-key-of-the-cascade-story";
/// Content of the organization that goes, at scale 1.
const CHANNELS: u32 = 120;
const MESSAGES_OF_A_CHANNEL: u32 = 100;
const ROOMS: u32 = 200;
/// Ids at Liveblocks of one room: itself, a document, a code file, a whiteboard.
const IDS_OF_A_ROOM: u32 = 4;
/// How often somebody is killed.
const KILL_EVERY: Duration = Duration::from_secs(2);
/// More than this many calls for one room would be a storm (faults.md, L5).
const CALLS_PERCENT: u64 = 120;
/// So soon after the first pass rooms that came back are looked for.
const SECOND_SWEEP_S: u32 = 2;

/// A Clerk and a Liveblocks, servers, their database, and the one organization that goes.
struct Story {
    sandbox: Sandbox,
    place: Place,
    servers: Vec<Server>,
    options: Options,
    _settings: tempfile::TempDir,
    goes: String,
    stays: String,
}

impl Story {
    async fn begin(place: Place, replicas: usize) -> Self {
        let settings = Settings {
            seed: 11,
            key_pair: Some(Arc::new(token::new_key())),
            secret_key: Some(KEY.to_owned()),
            schedule: post::Settings { speed: 20, ..post::Settings::default() },
            ..Settings::default()
        };
        let sandbox = Sandbox::start(settings, Arc::new(now_ms), ([127, 0, 0, 1], 0).into()).await.expect("a sandbox");
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("faircopy.toml");
        std::fs::write(&file, format!("[cascade]\nsecond_sweep_seconds = {SECOND_SWEEP_S}\n")).expect("its settings");
        let options = place
            .options()
            .env("FAIRCOPY_CONFIG", file.display().to_string())
            .env("CLERK_SECRET_KEY", KEY)
            .env("CLERK_API_URL", sandbox.url())
            .env("LIVEBLOCKS_SECRET_KEY", sandbox.liveblocks().key())
            .env("LIVEBLOCKS_API_URL", sandbox.url());
        let mut servers = Vec::new();
        for _ in 0..replicas {
            servers.push(Server::start(options.clone()).await);
        }
        for server in &servers {
            let url = format!("{}/webhooks/clerk", server.url());
            let endpoint = NewEndpoint { url, secret: Some(SECRET.to_owned()), ..NewEndpoint::default() };
            sandbox.shared().with(|state, now| state.post.add_endpoint(endpoint, now)).expect("an endpoint");
        }
        let ada =
            json!({ "first_name": "Ada", "email_address": ["ada@example.com"], "skip_password_requirement": true });
        let owner = id(&clerk(&sandbox, "POST", "/v1/users", ada).await);
        let organization = async |name: &str| {
            id(&clerk(&sandbox, "POST", "/v1/organizations", json!({ "name": name, "created_by": owner })).await)
        };
        let (goes, stays) = (organization("Going").await, organization("Staying").await);
        let story = Self { sandbox, place, servers, options, _settings: folder, goes, stays };
        // As soon as Clerk has told of it there is a workspace, with its name, its owner and a channel.
        for (id, name) in [(&story.goes, "Going"), (&story.stays, "Staying")] {
            let workspace = format!(
                "SELECT count(*) FROM {s}workspaces w JOIN {s}channels c ON c.workspace_id = w.id WHERE w.clerk_org_id = '{id}' \
                 AND w.name = '{name}' AND w.owner_id IS NOT NULL AND c.name = 'general'",
                s = story.schema()
            );
            story.until(&workspace, 1).await;
        }
        story
    }

    fn schema(&self) -> &'static str {
        if self.place.is_sqlite() { "" } else { "faircopy." }
    }

    /// Waits until a query gives this number.
    async fn until(&self, query: &str, expected: i64) {
        let started = Instant::now();
        loop {
            let found = self.place.number(query).await;
            if found == expected {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "{query}: {found}; {}", self.servers[0].stderr());
            tokio::time::sleep(POLL).await;
        }
    }

    /// An application fills a workspace.
    async fn fill(&self, org: &str, channels: u32, rooms: u32) {
        let s = self.schema();
        let numbers = |count: u32| {
            if self.place.is_sqlite() {
                format!(
                    "(WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < {count}) SELECT n FROM g)"
                )
            } else {
                format!("(SELECT generate_series(1, {count}) AS n)")
            }
        };
        let mut statements = vec![
            format!(
                "INSERT INTO {s}channels (id, workspace_id, name) SELECT '{org}-c' || n, '{org}', 'c' || n FROM {} AS g",
                numbers(channels)
            ),
            format!(
                "INSERT INTO {s}messages (id, channel_id, body) SELECT '{org}-m' || c.n || '-' || m.n, '{org}-c' || c.n, 'hello' \
                 FROM {} AS c, {} AS m",
                numbers(channels),
                numbers(MESSAGES_OF_A_CHANNEL)
            ),
            format!(
                "INSERT INTO {s}last_reads (channel_id, clerk_user_id) SELECT '{org}-c' || n, 'user_x' FROM {} AS g",
                numbers(channels)
            ),
            format!(
                "INSERT INTO {s}rooms (id, workspace_id, name) SELECT '{org}-r' || n, '{org}', 'r' FROM {} AS g",
                numbers(rooms)
            ),
        ];
        for (table, letter) in [("documents", 'd'), ("code_files", 'f'), ("whiteboards", 'w'), ("meetings", 'g')] {
            statements.push(format!(
                "INSERT INTO {s}{table} (id, room_id) SELECT '{org}-{letter}' || n, '{org}-r' || n FROM {} AS g",
                numbers(rooms)
            ));
        }
        for statement in statements {
            self.place.sql(&statement).await;
        }
        for id in room_ids(org, rooms) {
            let wanted = json!({ "id": id, "defaultAccesses": [] });
            self.sandbox
                .liveblocks()
                .with(|state| state.rooms.create(&wanted, true, now_ms()).map(drop))
                .expect("a room");
        }
    }

    /// Rows below a workspace, and its own.
    async fn rows(&self, org: &str) -> Vec<i64> {
        let s = self.schema();
        let mut counts = Vec::new();
        for (table, parent) in [
            ("messages", "channel_id"),
            ("last_reads", "channel_id"),
            ("channels", "workspace_id"),
            ("documents", "room_id"),
            ("code_files", "room_id"),
            ("whiteboards", "room_id"),
            ("meetings", "room_id"),
            ("rooms", "workspace_id"),
            ("workspaces", "id"),
        ] {
            let query = format!("SELECT count(*) FROM {s}{table} WHERE {parent} LIKE '{org}%'");
            counts.push(self.place.number(&query).await);
        }
        counts
    }

    /// How many messages `faircopy cascade plan` says would go.
    async fn plan(&self) -> i64 {
        let folder = tempfile::tempdir().expect("a folder");
        let variables = [("DATABASE_URL", self.place.url())];
        let output = faircopy(folder.path(), &variables, &["cascade", "plan", &self.goes, "--json"]).await;
        assert_eq!(output.code, Some(0), "{output:?}");
        let plan = output.json();
        let messages =
            plan["rows"].as_array().and_then(|rows| rows.iter().find(|of| of["table"] == "faircopy.messages"));
        messages.and_then(|of| of["rows"].as_i64()).unwrap_or_else(|| panic!("{plan}"))
    }

    async fn job(&self, server: usize) -> Option<Value> {
        let path = format!("/admin/v1/jobs/{}", self.goes);
        let headers = [("authorization", format!("Bearer {ADMIN_TOKEN}"))];
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let url = format!("{}{path}", self.servers[server].url());
        let answer = request("GET", &url, &headers, bytes::Bytes::new(), Duration::from_secs(5));
        answer.await.ok().filter(|answer| answer.status == 200)?.json()
    }
}

/// Asks Clerk's API for something that it must grant.
async fn clerk(sandbox: &Sandbox, method: &str, path: &str, body: Value) -> Value {
    let bearer = format!("Bearer {KEY}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let url = format!("{}{path}", sandbox.url());
    let answer = request(method, &url, &headers, body.to_string(), Duration::from_secs(10)).await.expect("Clerk");
    assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
    answer.json().expect("JSON")
}

fn id(document: &Value) -> String {
    document["id"].as_str().expect("an id").to_owned()
}

fn room_ids(org: &str, rooms: u32) -> BTreeSet<String> {
    let of_room = |n: u32| {
        [("room", 'r'), ("doc", 'd'), ("code", 'f'), ("whiteboard", 'w')]
            .map(|(kind, letter)| format!("{kind}:{org}-{letter}{n}"))
    };
    (1..=rooms).flat_map(of_room).collect()
}

/// Liveblocks on a bad day: 5 % errors, some 429, some answers that are lost after the room was deleted.
fn bad_day(seed: u64) -> Faults {
    Faults {
        seed,
        error_percent: 5.0,
        limited_percent: 0.5,
        retry_after_s: Some(1),
        lost_percent: 1.0,
        latency_ms: [20, 80],
        ..Faults::default()
    }
}

async fn everything_goes(place: Place, replicas: usize) {
    let seed = Seed::of_run();
    let mut story = Story::begin(place, replicas).await;
    let (channels, rooms) = (CHANNELS * scale(), ROOMS * scale());
    story.fill(&story.goes, channels, rooms).await;
    story.fill(&story.stays, 3, 2).await;
    let kept = story.rows(&story.stays).await;
    assert!(kept.iter().all(|rows| *rows > 0), "{kept:?}");
    story.sandbox.liveblocks().set_faults(bad_day(seed.value())).expect("its faults");

    let planned = story.plan().await;
    assert_eq!(planned, i64::from(channels * MESSAGES_OF_A_CHANNEL), "what would go is told beforehand");
    clerk(&story.sandbox, "DELETE", &format!("/v1/organizations/{}", story.goes), json!({})).await;

    // Somebody is killed every now and then, and comes back; a client that lost its room connects again, long before the last
    // room has gone: the job must find it when it looks once more at its end.
    let (started, mut kills, mut reconnected) = (Instant::now(), 0, false);
    let room = format!("doc:{}-d1", story.goes);
    let receipt = loop {
        assert!(started.elapsed() < 3 * PATIENCE, "{}", story.servers[0].stderr());
        tokio::time::sleep(KILL_EVERY).await;
        if !reconnected && !story.sandbox.liveblocks().ids().contains(&room) {
            story.sandbox.liveblocks().reconnect(&room).expect("a room again");
            reconnected = true;
        }
        let job = story.job(kills % replicas).await;
        if let Some(job) = job.filter(|job| job["outside_gone_at"].is_string()) {
            if job["state"] == "done" {
                break job;
            }
            continue;
        }
        let victim = kills % replicas;
        story.servers[victim].kill9().await;
        story.servers[victim].restart().await;
        kills += 1;
    };
    assert!(kills > 0, "the story was over before anybody was killed");
    assert!(reconnected, "the story was over before anybody connected again");

    // I4: no row left, every room deleted at least once, one job.
    assert_eq!(story.rows(&story.goes).await, [0; 9]);
    let left: BTreeSet<String> = story.sandbox.liveblocks().ids().into_iter().collect();
    assert_eq!(left, room_ids(&story.stays, 2), "no room of the one, every room of the other (I11)");
    assert_eq!(story.rows(&story.stays).await, kept, "the neighbour has lost nothing (I11)");
    let s = story.schema();
    assert_eq!(story.place.number(&format!("SELECT count(*) FROM {s}cascades WHERE kind = 'organization'")).await, 1);
    let ids = u64::from(rooms * IDS_OF_A_ROOM);
    let calls = story.sandbox.liveblocks().count("delete");
    assert!(calls <= ids * CALLS_PERCENT / 100, "{calls} calls for {ids} rooms after {kills} kills");
    // The receipt says what went.
    let removed = |table: &str| {
        let table = format!("faircopy.{table}");
        receipt["removed"]
            .as_array()
            .expect("a list")
            .iter()
            .find(|of| of["table"] == json!(table))
            .map(|of| of["rows"].clone())
    };
    assert_eq!(removed("messages"), Some(json!(channels * MESSAGES_OF_A_CHANNEL)));
    assert_eq!(removed("channels"), Some(json!(channels + 1)));
    assert_eq!(removed("whiteboards"), Some(json!(rooms)));
    assert_eq!(removed("workspaces"), Some(json!(1)));
    let outside = receipt["outside"].as_array().expect("a list");
    let steps: u64 = outside.iter().filter_map(|of| of["steps"].as_u64()).sum();
    assert_eq!(steps, ids, "{outside:?}");
    assert!(outside.iter().all(|of| of["state"] == "gone" || of["state"] == "was-gone"), "{outside:?}");
    assert!(receipt["confirmed_at"].is_string() && receipt["finished_at"].is_string(), "{receipt}");
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_with_an_organization_on_sqlite() {
    everything_goes(Place::sqlite(), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_with_an_organization_on_postgres_with_two_replicas() {
    everything_goes(Place::postgres().await, 2).await;
}

/// Where a deletion can die, and how often it passes before: each fires (P2).
const DEATHS: [(&str, u32); 8] = [
    ("cascade-chunk", 0),
    ("cascade-chunk", 3),
    ("cascade-end", 0),
    ("cascade-end", 0),
    ("pre-http", 0),
    ("post-http-pre-mark", 0),
    ("pre-http", 1),
    ("post-http-pre-mark", 1),
];

/// Where nobody answers.
const NOWHERE: &str = "http://127.0.0.1:9";

async fn it_dies_at_every_step(place: Place) {
    let mut story = Story::begin(place, 1).await;
    story.fill(&story.goes, 20, 20).await;
    story.fill(&story.stays, 3, 2).await;
    let kept = story.rows(&story.stays).await;
    let options = story.options.clone();
    for (number, (step, passes)) in DEATHS.into_iter().enumerate() {
        let failpoint = format!("{step}={passes}*off->return");
        let mut options = options.clone().env("FAILPOINTS", &failpoint);
        if step.starts_with("cascade") {
            // Nothing outside is done yet, so that it can die there later.
            options = options.env("LIVEBLOCKS_API_URL", NOWHERE);
        }
        story.servers[0].kill9().await;
        story.servers[0].restart_with(options).await;
        if number == 0 {
            clerk(&story.sandbox, "DELETE", &format!("/v1/organizations/{}", story.goes), json!({})).await;
        }
        let status = story.servers[0].wait(PATIENCE).await;
        assert_eq!(status.signal(), Some(6), "{failpoint}: {status}; does anything pass the step?");
    }
    story.servers[0].restart_with(options).await;
    let started = Instant::now();
    while story.job(0).await.is_none_or(|job| job["state"] != "done") {
        assert!(started.elapsed() < PATIENCE, "{}", story.servers[0].stderr());
        tokio::time::sleep(POLL).await;
    }
    assert_eq!(story.rows(&story.goes).await, [0; 9]);
    assert_eq!(story.rows(&story.stays).await, kept);
    let left: BTreeSet<String> = story.sandbox.liveblocks().ids().into_iter().collect();
    assert_eq!(left, room_ids(&story.stays, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_dies_at_every_step_and_everything_goes_on_sqlite() {
    it_dies_at_every_step(Place::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_dies_at_every_step_and_everything_goes_on_postgres() {
    it_dies_at_every_step(Place::postgres().await).await;
}

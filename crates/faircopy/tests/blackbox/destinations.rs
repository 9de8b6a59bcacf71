//! Destinations: a random history, while the service and the destination are killed over and over, ends with the destination equal to the
//! copy. The service also dies between sending and writing down; a webhook also takes a change and loses the answer.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use faircopy_store::{Address, Store};
use faircopy_testkit::convex::Front;
use faircopy_testkit::nats::Nats;
use faircopy_testkit::port::Port;
use faircopy_testkit::seed::Seed;
use faircopy_testkit::server::{Options, Server};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Map, Value, json};
use svix::webhooks::Webhook;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::support::{History, Load, Output, PATIENCE, POLL, Place, admin, check, faircopy, sender};

/// Deliveries of one history.
const EVENTS: usize = 1_200;
/// Faults while they are sent.
const FAULTS: usize = 10;
/// The tables, as messages name what is in them.
const TABLES: [(&str, &str); 5] = [
    ("user", "users"),
    ("organization", "organizations"),
    ("member", "organization_members"),
    ("invitation", "organization_invitations"),
    ("workspace", "workspaces"),
];
const KEYS: [(&str, &[&str]); 5] = [
    ("user", &["clerk_user_id"]),
    ("organization", &["clerk_org_id"]),
    ("member", &["clerk_org_id", "clerk_user_id"]),
    ("invitation", &["clerk_invitation_id"]),
    ("workspace", &["id"]),
];
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const DEPLOY_KEY: &str = "prod:quiet-otter-123|c2VjcmV0";
const TOKEN: &str = "the-token-of-a-private-nats";

/// The rows of a copy, or of a destination, by subject.
type Held = BTreeMap<String, Map<String, Value>>;

/// A place that is told, and that a test can break.
trait Destination {
    /// The part of the settings that names it `there`.
    fn settings(&self) -> String;
    /// Breaks it for a moment.
    async fn fault(&mut self, dice: &mut StdRng);
    /// It works from now on.
    async fn heal(&mut self);
    /// What it holds, as the rows of the copy.
    async fn held(&self) -> Held;
    /// What it would hold of these rows.
    fn expected(&self, rows: Held) -> Held {
        rows
    }
}

/// The copy's own rows, with their keys.
async fn rows(place: &Place) -> Held {
    let store = Store::new(Address::parse(place.url()).expect("an address"));
    let mut held = Held::new();
    for ((entity, table), (_, keys)) in TABLES.into_iter().zip(KEYS) {
        for (id, row) in store.public_rows(table).await.expect("rows") {
            let parts: Vec<&str> = if keys.len() == 1 { vec![&id] } else { id.splitn(2, '/').collect() };
            let keys = keys.iter().zip(parts).map(|(key, part)| ((*key).to_owned(), Value::from(part)));
            held.insert(format!("{entity}/{id}"), keys.chain(row).collect());
        }
    }
    store.close().await;
    held
}

/// Applies messages as docs/destinations.md says.
#[derive(Default)]
struct Reader {
    known: BTreeMap<String, (i64, Option<Map<String, Value>>)>,
    floor: i64,
    /// Messages that it was told, those that it left out too.
    applied: usize,
}

impl Reader {
    fn apply(&mut self, change: &Value) {
        self.applied += 1;
        let number = change["sequence"].as_i64().expect("a number");
        if change["operation"] == "sweep" {
            for (known, row) in self.known.values_mut().filter(|(known, _)| *known < number) {
                (*known, *row) = (number, None);
            }
            self.floor = self.floor.max(number);
            return;
        }
        let text = |name: &str| change[name].as_str().unwrap_or_else(|| panic!("no {name}: {change}")).to_owned();
        let subject = format!("{}/{}", text("entity"), text("id"));
        let known = self.known.get(&subject).map_or(self.floor, |(known, _)| *known);
        if number > known || (number == known && change["resend"] == true) {
            let row = (change["operation"] == "put").then(|| change["row"].as_object().expect("a row").clone());
            self.known.insert(subject, (number, row));
        }
    }

    fn held(&self) -> Held {
        self.known.iter().filter_map(|(subject, (_, row))| Some((subject.clone(), row.clone()?))).collect()
    }
}

/// How often a service may die before it is ready: with one batch in twelve that is not written down, never so often in a row.
const STARTS: u32 = 10;

/// Replicas of the service, each started again whenever it dies.
struct Fleet {
    servers: Vec<Server>,
    settled: Options,
}

impl Fleet {
    async fn start(place: &Place, replicas: usize, settings: &std::path::Path) -> Self {
        let settled = place.options().env("FAIRCOPY_CONFIG", settings.to_str().expect("a readable path"));
        // One batch in twelve is sent and not written down.
        let mortal = settled.clone().env("FAILPOINTS", "destination-sent=8%return");
        let mut servers = Vec::new();
        let mut tries = 0;
        while servers.len() < replicas {
            // It may die before it is ready.
            match Server::try_start(mortal.clone()).await {
                Ok(server) => servers.push(server),
                Err(error) => assert!(tries < STARTS, "{error}"),
            }
            tries += 1;
        }
        Self { servers, settled }
    }

    async fn revive(&mut self) {
        for server in &mut self.servers {
            while !server.is_running() {
                // It may die again before it is ready.
                let _ = server.try_restart().await;
            }
        }
    }

    async fn heal(&mut self) {
        for server in &mut self.servers {
            server.restart_with(self.settled.clone()).await;
        }
    }
}

async fn ends_equal(place: Place, replicas: usize, mut destination: impl Destination) {
    let seed = Seed::of_run();
    let mut dice = StdRng::seed_from_u64(seed.value());
    let history = History::random(seed.value(), EVENTS);
    let folder = tempfile::tempdir().expect("a folder");
    let settings = folder.path().join("faircopy.toml");
    std::fs::write(&settings, destination.settings()).expect("write the settings");
    let mut fleet = Fleet::start(&place, replicas, &settings).await;
    let load = Load::start(fleet.servers.iter().map(sender).collect(), history.deliveries(seed.value()), 3);
    let mut faults = 0;
    while faults < FAULTS || !load.has_passed() {
        fleet.revive().await;
        match dice.random_range(0..3) {
            0 => {
                let which = dice.random_range(0..fleet.servers.len());
                fleet.servers[which].kill9().await;
            }
            _ => destination.fault(&mut dice).await,
        }
        faults += 1;
        // The faults' own rhythm: nothing is waited for here.
        tokio::time::sleep(Duration::from_millis(dice.random_range(50..400))).await;
    }
    fleet.revive().await;
    destination.heal().await;
    fleet.heal().await;
    let sent = load.finish().await;
    check(&place, &fleet.servers[0], &history, &sent).await;
    place.until_calm().await;
    let expected = destination.expected(rows(&place).await);
    let started = Instant::now();
    loop {
        let shown = admin(&fleet.servers[0], "GET", "destinations/there").await;
        // What waits for its next attempt need not wait for its time.
        let is_stuck = shown["waiting"] != 0 || shown["parked"] != 0 || shown["state"] == "failing";
        if is_stuck {
            admin(&fleet.servers[0], "POST", "destinations/there/resume").await;
        }
        if shown["behind"] == 0 && shown["resending_since"].is_null() && !is_stuck {
            let held = destination.held().await;
            if held == expected {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "{}", difference(&expected, &held));
        }
        assert!(started.elapsed() < PATIENCE, "it stays behind: {shown}\n{}", fleet.servers[0].stderr());
        tokio::time::sleep(POLL * 10).await;
    }
    let log = fleet.servers.iter().map(Server::stderr).collect::<String>();
    for canary in [&SECRET[6..], DEPLOY_KEY, TOKEN, "panicked"] {
        assert!(!log.contains(canary), "the log holds {canary}: {log}");
    }
}

fn difference(expected: &Held, held: &Held) -> String {
    let subjects = expected.keys().chain(held.keys()).collect::<std::collections::BTreeSet<_>>();
    let differ = subjects.into_iter().filter(|subject| expected.get(*subject) != held.get(*subject));
    let told = differ.take(5).map(|subject| {
        format!("{subject}: the copy has {:?}, the destination {:?}", expected.get(subject), held.get(subject))
    });
    told.collect::<Vec<_>>().join("\n")
}

// --- A webhook ------------------------------------------------------------------------------------------------------

/// An application that is told by webhook. What it has applied outlives its process.
struct Application {
    port: Port,
    reader: Arc<Mutex<Reader>>,
    /// Percentage of requests that go wrong, each in one of several ways.
    faults: Arc<Mutex<(u32, StdRng)>>,
    serving: Option<JoinHandle<()>>,
}

impl Application {
    async fn start(seed: u64) -> Self {
        let faults = Arc::new(Mutex::new((10, StdRng::seed_from_u64(seed))));
        let mut application = Self { port: Port::take(), reader: Arc::default(), faults, serving: None };
        application.serve().await;
        application
    }

    async fn serve(&mut self) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port.number())).await.expect("our own port");
        let (reader, faults) = (self.reader.clone(), self.faults.clone());
        self.serving = Some(tokio::spawn(async move {
            // Connections end with the task.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (reader, faults) = (reader.clone(), faults.clone());
                connections.spawn(async move {
                    let service = service_fn(move |request| receive(request, reader.clone(), faults.clone()));
                    let served =
                        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    // A fault breaks it off.
                    drop(served.await);
                });
            }
        }));
    }

    async fn kill(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
            drop(serving.await);
        }
    }
}

async fn receive(
    request: Request<Incoming>,
    reader: Arc<Mutex<Reader>>,
    faults: Arc<Mutex<(u32, StdRng)>>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    if head.method != http::Method::POST {
        return Ok(Response::new(Full::default()));
    }
    let Ok(body) = body.collect().await else { return Err(std::io::Error::other("the sender has died")) };
    let body = body.to_bytes();
    let fault = {
        let mut faults = faults.lock().unwrap_or_else(PoisonError::into_inner);
        let percent = faults.0;
        (faults.1.random_range(0..100) < percent).then(|| faults.1.random_range(0..5))
    };
    let answer = |status: StatusCode| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        Ok(response)
    };
    match fault {
        Some(0) => return answer(StatusCode::INTERNAL_SERVER_ERROR),
        Some(1) => return answer(StatusCode::SERVICE_UNAVAILABLE),
        Some(2) => return answer(StatusCode::BAD_REQUEST),
        _ => {}
    }
    let verified = Webhook::new(SECRET).expect("a secret").verify(&body, &head.headers);
    assert!(verified.is_ok(), "{verified:?}");
    let change = serde_json::from_slice(&body).expect("JSON");
    reader.lock().unwrap_or_else(PoisonError::into_inner).apply(&change);
    match fault {
        // It was applied, and nobody hears of it.
        Some(3) => answer(StatusCode::INTERNAL_SERVER_ERROR),
        Some(_) => Err(std::io::Error::other("the answer is lost")),
        None => answer(StatusCode::NO_CONTENT),
    }
}

impl Destination for Application {
    fn settings(&self) -> String {
        format!(
            "[[destination]]\nname = 'there'\nkind = 'webhook'\nurl = 'http://127.0.0.1:{}/changes'\nsecret = '{SECRET}'\n\
             allow_private = true\n",
            self.port.number()
        )
    }

    async fn fault(&mut self, dice: &mut StdRng) {
        self.kill().await;
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..300))).await;
        self.serve().await;
    }

    async fn heal(&mut self) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).0 = 0;
    }

    async fn held(&self) -> Held {
        self.reader.lock().unwrap_or_else(PoisonError::into_inner).held()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_ends_equal_to_the_copy_on_sqlite() {
    ends_equal(Place::sqlite(), 1, Application::start(Seed::of_run().value()).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_ends_equal_to_the_copy_on_postgres() {
    ends_equal(Place::postgres().await, 2, Application::start(Seed::of_run().value()).await).await;
}

// --- Convex ---------------------------------------------------------------------------------------------------------

impl Destination for Front {
    fn settings(&self) -> String {
        format!(
            "[[destination]]\nname = 'there'\nkind = 'convex'\nurl = '{}'\ndeploy_key = '{DEPLOY_KEY}'\nallow_private = true\n",
            self.url()
        )
    }

    async fn fault(&mut self, dice: &mut StdRng) {
        if self.has_ended() || dice.random_bool(0.4) {
            self.kill9().await;
            tokio::time::sleep(Duration::from_millis(dice.random_range(0..300))).await;
            self.restart().await;
            return;
        }
        let kind = ["lost", "cut", "drop", "error", "die_before", "die_after", "slow"][dice.random_range(0..7)];
        if !self.faults(&json!([{ "kind": kind, "times": 1, "delay_ms": 300 }])).await {
            self.restart().await;
        }
    }

    async fn heal(&mut self) {
        self.restart().await;
    }

    async fn held(&self) -> Held {
        let mut held = Held::new();
        for (entity, table) in [
            ("user", "users"),
            ("organization", "organizations"),
            ("member", "organizationMembers"),
            ("invitation", "organizationInvitations"),
            ("workspace", "workspaces"),
        ] {
            for row in self.rows(table).await {
                let mut row = row.as_object().expect("a row").clone();
                for own in ["_id", "_creationTime", "sequence"] {
                    row.remove(own);
                }
                let text = |name: &str| row[name].as_str().expect("an id").to_owned();
                let id = match entity {
                    "user" => text("clerkUserId"),
                    "organization" => text("clerkOrgId"),
                    "member" => format!("{}/{}", text("clerkOrgId"), text("clerkUserId")),
                    "invitation" => text("clerkInvitationId"),
                    _ => text("workspaceId"),
                };
                for json in ["publicMetadata", "settings"] {
                    if let Some(value) = row.get_mut(json) {
                        *value = serde_json::from_str(value.as_str().expect("a text")).expect("JSON");
                    }
                }
                held.insert(format!("{entity}/{id}"), row);
            }
        }
        held
    }

    fn expected(&self, rows: Held) -> Held {
        let column = |subject: &str, (name, value): (String, Value)| {
            if value.is_null() {
                return None;
            }
            let is_time = name.ends_with("_at");
            let at = value.as_str().and_then(faircopy_core::Millis::parse).filter(|_| is_time);
            let name = match (subject.split('/').next(), name.as_str()) {
                (Some("workspace"), "id") => "workspaceId".to_owned(),
                _ => camel(&name),
            };
            Some((name, at.map_or(value, |at| at.0.into())))
        };
        let row = |(subject, row): (String, Map<String, Value>)| {
            let row = row.into_iter().filter_map(|of| column(&subject, of)).collect();
            (subject, row)
        };
        rows.into_iter().map(row).collect()
    }
}

/// `clerk_user_id` as `clerkUserId`.
fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let (head, rest) = word.split_at(1);
        name + &head.to_uppercase() + rest
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn convex_ends_equal_to_the_copy_on_sqlite() {
    ends_equal(Place::sqlite(), 1, Front::start(DEPLOY_KEY).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn convex_ends_equal_to_the_copy_on_postgres() {
    ends_equal(Place::postgres().await, 2, Front::start(DEPLOY_KEY).await).await;
}

/// One subject whose change the function refuses is found among the others of its batch, and alone is parked; metadata with names that
/// Convex refuses arrives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn convex_parks_the_one_that_its_function_refuses() {
    let (place, mut front) = (Place::sqlite(), Front::start(DEPLOY_KEY).await);
    let poison = json!([{ "kind": "error", "id": "user_poison", "message": "Uncaught TypeError: ada@example.com" }]);
    assert!(front.faults(&poison).await);
    let served = Served::start(&place, &front.settings()).await;
    let (now, sender) = (crate::support::now_ms() - 1_000, sender(&served.server));
    for id in (0..30).map(|number| format!("user_{number}")).chain(["user_poison".to_owned()]) {
        let body = json!({
            "object": "event", "type": "user.created", "timestamp": now,
            "data": { "object": "user", "id": id, "created_at": now, "updated_at": now, "public_metadata": { "$odd": { "_ä": 1 } } },
        });
        assert_eq!(sender.send(&format!("msg_{id}"), &body.to_string()).await.status, 200);
    }
    let shown = served.until("the poison", |shown| shown["parked"] == 1 && shown["behind"] == 0).await;
    assert_eq!(shown["subjects"][0]["subject"], "user/user_poison");
    assert_eq!(shown["subjects"][0]["error"], "`faircopy:apply` refuses it (TypeError)");
    let users = front.rows("users").await;
    assert_eq!(users.len(), 30);
    assert!(users.iter().all(|user| user["publicMetadata"] == r#"{"$odd":{"_ä":1}}"#), "{users:?}");
    front.restart().await;
    admin(&served.server, "POST", "destinations/there/resume").await;
    served.until("that nobody waits", |shown| shown["parked"] == 0 && shown["waiting"] == 0).await;
    assert_eq!(front.rows("users").await.len(), 31);
}

/// A function that fails whatever it is given is at fault itself: nothing is parked, and what it lacks follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn convex_whose_function_is_broken_parks_nothing() {
    let (place, front) = (Place::sqlite(), Front::start(DEPLOY_KEY).await);
    assert!(front.faults(&json!([{ "kind": "error" }])).await);
    let served = Served::start(&place, &front.settings()).await;
    served.has_users(40).await;
    let broken = served.until("the trouble", |shown| shown["state"] == "failing").await;
    assert_eq!((&broken["parked"], &broken["waiting"]), (&json!(0), &json!(0)));
    assert_eq!(broken["last_error"], "`faircopy:apply` fails whatever it is given (Error)");
    assert!(front.faults(&json!([])).await);
    served.until("what it lacks", |shown| shown["behind"] == 0 && shown["resending_since"].is_null()).await;
    assert_eq!(front.rows("users").await.len(), 40);
}

// --- What an operator sees ------------------------------------------------------------------------------------------

/// A service with these settings, and its folder.
struct Served {
    server: Server,
    folder: tempfile::TempDir,
    url: String,
}

impl Served {
    async fn start(place: &Place, settings: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("faircopy.toml");
        std::fs::write(&file, settings).expect("write the settings");
        let options = place.options().env("FAIRCOPY_CONFIG", file.to_str().expect("a readable path"));
        Self { server: Server::start(options).await, folder, url: place.url().to_owned() }
    }

    async fn has_users(&self, number: usize) {
        let (now, sender) = (crate::support::now_ms() - 1_000, sender(&self.server));
        for id in (0..number).map(|number| format!("user_{number}")) {
            let body = json!({
                "object": "event", "type": "user.created", "timestamp": now,
                "data": { "object": "user", "id": id, "created_at": now, "updated_at": now },
            });
            assert_eq!(sender.send(&format!("msg_{id}"), &body.to_string()).await.status, 200);
        }
    }

    async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let shown = admin(&self.server, "GET", "destinations/there").await;
            if holds(&shown) {
                return shown;
            }
            assert!(started.elapsed() < PATIENCE, "{what}: {shown}");
            tokio::time::sleep(POLL).await;
        }
    }

    async fn command(&self, arguments: &[&str]) -> Output {
        faircopy(self.folder.path(), &[("DATABASE_URL", &self.url)], arguments).await
    }

    /// How the doctor finds the destination: its status and code, and what was seen.
    async fn examined(&self) -> (String, Value, String) {
        let report = self.command(&["doctor", "--only", "destinations", "--json"]).await.json();
        let check = &report["checks"][0];
        let text = |name: &str| check[name].as_str().unwrap_or_default().to_owned();
        (text("status"), check["code"].clone(), text("evidence"))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_say_where_a_destination_stands_and_move_it() {
    let (place, application) = (Place::sqlite(), Application::start(1).await);
    application.faults.lock().expect("the faults").0 = 0;
    let served = Served::start(&place, &application.settings()).await;
    served.has_users(3).await;
    served.until("everything", |shown| shown["place"] == 3).await;
    let listed = served.command(&["destinations", "list"]).await;
    assert!(
        listed.stdout.contains("there") && listed.stdout.contains("webhook") && listed.stdout.contains("running"),
        "{listed:?}"
    );
    let shown = served.command(&["destinations", "show", "there", "--json"]).await.json();
    assert_eq!((&shown["place"], &shown["url"]), (&json!(3), &json!("127.0.0.1/…")));
    let nobody = served.command(&["destinations", "show", "nobody"]).await;
    assert_eq!((nobody.code, nobody.stderr.contains("no destination has this name")), (Some(1), true), "{nobody:?}");
    let paused = served.command(&["destinations", "pause", "there", "--json"]).await.json();
    assert_eq!(paused["state"], "paused");
    let resumed = served.command(&["destinations", "resume", "there"]).await;
    assert!(resumed.code == Some(0) && resumed.stderr.contains("there: running"), "{resumed:?}");

    // Nothing is sent once more without a word.
    let before = application.reader.lock().expect("the reader").applied;
    for arguments in [["destinations", "resend", "there"].as_slice(), &["destinations", "rewind", "there", "--to", "1"]]
    {
        let asked = served.command(arguments).await;
        assert_eq!((asked.code, asked.stderr.contains("say --yes")), (Some(2), true), "{asked:?}");
        let tried = served.command(&[arguments, &["--dry-run"]].concat()).await;
        assert_eq!(tried.code, Some(0), "{tried:?}");
    }
    assert_eq!(served.command(&["destinations", "show", "there", "--json"]).await.json()["place"], 3);
    let further = served.command(&["destinations", "rewind", "there", "--to", "9", "--yes"]).await;
    assert_eq!((further.code, further.stderr.contains("its place is 3")), (Some(1), true), "{further:?}");
    assert_eq!(application.reader.lock().expect("the reader").applied, before);
    let rewound = served.command(&["destinations", "rewind", "there", "--to", "1", "--yes"]).await;
    assert!(rewound.code == Some(0) && rewound.stderr.contains("2 changes again"), "{rewound:?}");
    let started = Instant::now();
    for (arguments, more) in [(None, 2), (Some(["destinations", "resend", "there", "--yes"]), 2 + 3 + 1)] {
        if let Some(arguments) = arguments {
            let resent = served.command(&arguments).await;
            assert!(resent.code == Some(0) && resent.stderr.contains("3 users"), "{resent:?}");
        }
        while application.reader.lock().expect("the reader").applied < before + more {
            assert!(started.elapsed() < PATIENCE, "it is not told");
            tokio::time::sleep(POLL).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_says_what_a_destination_lacks() {
    let check = async |settings: String, expected: (&str, Option<&str>, &str)| {
        let place = Place::sqlite();
        let (status, code, evidence) = Served::start(&place, &settings).await.examined().await;
        assert_eq!((status.as_str(), code.as_str()), (expected.0, expected.1), "{evidence}");
        assert!(evidence.contains(expected.2), "{evidence}");
        for canary in [&SECRET[6..], DEPLOY_KEY, TOKEN] {
            assert!(!evidence.contains(canary), "{evidence}");
        }
    };
    check(String::new(), ("skipped", None, "no `[[destination]]`")).await;
    let mut application = Application::start(1).await;
    application.faults.lock().expect("the faults").0 = 0;
    check(application.settings(), ("ok", None, "to HEAD")).await;
    application.kill().await;
    check(application.settings(), ("failed", Some("destination-unreachable"), "no connection")).await;

    let front = Front::start(DEPLOY_KEY).await;
    check(front.settings(), ("ok", None, "`faircopy:apply` answers")).await;
    let wrong = front.settings().replace(DEPLOY_KEY, "prod:other|key");
    check(wrong, ("failed", Some("destination-key-refused"), "the key was refused")).await;
    assert!(front.faults(&json!([{ "kind": "error" }])).await);
    check(front.settings(), ("failed", Some("destination-incomplete"), "`faircopy:apply` fails or is not there")).await;

    let stream = Stream::start().await;
    check(stream.settings(), ("ok", None, "stream `COPY`")).await;
    let wrong = stream.settings().replace(TOKEN, "another-token");
    check(wrong, ("failed", Some("destination-key-refused"), "the key was refused")).await;
    let elsewhere = stream.settings().replace("stream = 'COPY'", "").replace("clerk.copy", "nowhere");
    check(elsewhere, ("failed", Some("destination-incomplete"), "no stream takes `nowhere.>`")).await;
}

// --- NATS -----------------------------------------------------------------------------------------------------------

/// A stream, and the server that is killed.
struct Stream(Nats);

impl Stream {
    async fn start() -> Self {
        let stream = Self(Nats::start(TOKEN).await);
        let config = async_nats::jetstream::stream::Config {
            name: "COPY".into(),
            subjects: vec!["clerk.copy.>".into()],
            ..Default::default()
        };
        stream.context().await.create_stream(config).await.expect("a stream");
        stream
    }

    async fn context(&self) -> async_nats::jetstream::Context {
        let options = async_nats::ConnectOptions::with_token(TOKEN.into());
        async_nats::jetstream::new(options.connect(self.0.url()).await.expect("the server answers"))
    }

    /// Everything in the stream, in its order: subject, message id and body.
    async fn messages(&self) -> Vec<(String, String, Value)> {
        let mut stream = self.context().await.get_stream("COPY").await.expect("the stream");
        let last = stream.info().await.expect("its state").state.last_sequence;
        let mut messages = Vec::new();
        for number in 1..=last {
            let message = stream.get_raw_message(number).await.expect("a message");
            let id = message.headers.get("Nats-Msg-Id").map(ToString::to_string).unwrap_or_default();
            let body = serde_json::from_slice(&message.payload).expect("JSON");
            messages.push((message.subject.to_string(), id, body));
        }
        messages
    }
}

impl Destination for Stream {
    fn settings(&self) -> String {
        format!(
            "[[destination]]\nname = 'there'\nkind = 'nats'\nurl = '{}'\nsubject_prefix = 'clerk.copy'\nstream = 'COPY'\n\
             token = '{TOKEN}'\nallow_private = true\n",
            self.0.url()
        )
    }

    async fn fault(&mut self, dice: &mut StdRng) {
        self.0.kill9().await;
        tokio::time::sleep(Duration::from_millis(dice.random_range(0..300))).await;
        self.0.restart().await;
    }

    async fn heal(&mut self) {}

    /// Duplicates are gone, and no subject's messages are out of their order.
    async fn held(&self) -> Held {
        let (mut reader, mut ids, mut last) = (Reader::default(), std::collections::BTreeSet::new(), BTreeMap::new());
        for (subject, id, body) in self.messages().await {
            assert!(id.starts_with("there-") && ids.insert(id.clone()), "{id} is there twice");
            let kind = body["entity"].as_str().filter(|entity| !entity.is_empty()).unwrap_or("all");
            assert_eq!(subject, format!("clerk.copy.{kind}.{}", body["operation"].as_str().expect("an operation")));
            let number = body["sequence"].as_i64().expect("a number");
            let before = last.insert((kind.to_owned(), body["id"].to_string()), number);
            assert!(before.is_none_or(|before| before <= number), "{id} comes after {before:?}");
            reader.apply(&body);
        }
        reader.held()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_equal_to_the_copy_on_sqlite() {
    ends_equal(Place::sqlite(), 1, Stream::start().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_equal_to_the_copy_on_postgres() {
    ends_equal(Place::postgres().await, 2, Stream::start().await).await;
}

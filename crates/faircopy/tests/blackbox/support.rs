//! What the black-box tests share: a database on either engine, histories with their truth, a lasting load, the checks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use faircopy_core::signature::Secret;
use faircopy_testkit::client::{NoAnswer, Response, request};
use faircopy_testkit::postgres::{Database, fresh_database};
use faircopy_testkit::sender::{ANSWER_TIMEOUT, Item, Reply, Report, Sender};
use faircopy_testkit::server::{Options, Server, binary};
use faircopy_testkit::tables::{self, Delivery, Tables};
use faircopy_world::{COMPANY_SPAN_MS, Event, Settings, Truth, World, company, shuffled};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection, Row as _};
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// The signing secret of every server here.
pub(crate) const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
/// The admin token of every server here.
pub(crate) const ADMIN_TOKEN: &str = "the-admin-token-of-the-black-box-tests";
/// Percentage of deliveries that arrive again.
pub(crate) const DUPLICATES: u8 = 25;
/// How long anything here may take before the test gives up: far above what a busy machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// How long to wait between two looks at something that changes soon.
pub(crate) const POLL: Duration = Duration::from_millis(20);

/// The database of one test.
pub(crate) struct Place {
    url: String,
    _keep: Keep,
}

enum Keep {
    Folder(#[expect(dead_code, reason = "removed when it is dropped")] TempDir),
    Database(#[expect(dead_code, reason = "removed when it is dropped")] Database),
    Elsewhere,
}

impl Place {
    /// A SQLite file that does not exist yet.
    pub(crate) fn sqlite() -> Place {
        let folder = tempfile::Builder::new().prefix("faircopy-blackbox-").tempdir().expect("a temporary folder");
        let url = format!("sqlite://{}", folder.path().join("copy.db").display());
        Place { url, _keep: Keep::Folder(folder) }
    }

    /// An empty database in the run's shared cluster.
    pub(crate) async fn postgres() -> Place {
        let database = fresh_database().await;
        Place { url: database.url().to_owned(), _keep: Keep::Database(database) }
    }

    /// A database that the test keeps itself.
    pub(crate) fn at(url: impl Into<String>) -> Place {
        Place { url: url.into(), _keep: Keep::Elsewhere }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The SQLite file.
    pub(crate) fn file(&self) -> PathBuf {
        self.url.strip_prefix("sqlite://").expect("a SQLite address").into()
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        self.url.starts_with("sqlite:")
    }

    /// `faircopy serve` on this database.
    pub(crate) fn options(&self) -> Options {
        Options::new()
            .env("DATABASE_URL", &self.url)
            .env("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
            .env("FAIRCOPY_ADMIN_TOKEN", ADMIN_TOKEN)
    }

    pub(crate) async fn serve(&self) -> Server {
        Server::start(self.options()).await
    }

    pub(crate) async fn tables(&self) -> Tables {
        tables::read(&self.url).await
    }

    pub(crate) async fn deliveries(&self) -> BTreeMap<String, Delivery> {
        tables::deliveries(&self.url).await
    }

    /// Runs a statement behind the service's back. `{s}` is the schema.
    pub(crate) async fn sql(&self, statement: &str) {
        let text = statement.replace("{s}", if self.is_sqlite() { "" } else { "faircopy." });
        if !self.is_sqlite() {
            return administer(self.url(), &text).await;
        }
        let options = SqliteConnectOptions::new().filename(self.file());
        let mut connection = options.connect().await.expect("open the file");
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await.expect("a statement");
        connection.close().await.expect("closed");
    }

    /// Waits until every workspace that has ended is deleted: what follows is nobody's doing but the test's.
    pub(crate) async fn until_calm(&self) {
        let schema = if self.is_sqlite() { "" } else { "faircopy." };
        let ended = format!("SELECT count(*) FROM {schema}workspaces WHERE ended_at IS NOT NULL");
        let started = Instant::now();
        while self.number(&ended).await > 0 {
            assert!(started.elapsed() < PATIENCE, "workspaces are not deleted");
            tokio::time::sleep(POLL).await;
        }
    }

    /// The one number that a query gives.
    pub(crate) async fn number(&self, query: &str) -> i64 {
        if !self.is_sqlite() {
            return number(self.url(), query).await;
        }
        let options = SqliteConnectOptions::new().filename(self.file());
        let mut connection = options.connect().await.expect("open the file");
        let row = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_one(&mut connection).await.expect(query);
        connection.close().await.expect("closed");
        row.get(0)
    }

    /// What SQLite says of its own file.
    pub(crate) async fn integrity(&self) -> String {
        let options = SqliteConnectOptions::new().filename(self.file()).create_if_missing(false);
        let mut connection = options.connect().await.expect("open the file");
        let row = sqlx::query("PRAGMA integrity_check").fetch_one(&mut connection).await.expect("integrity_check");
        row.get(0)
    }
}

/// The webhook endpoint of a server.
pub(crate) fn sender(server: &Server) -> Sender {
    Sender::new(format!("{}/webhooks/clerk", server.url()), SECRET)
}

/// Now, in milliseconds.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a clock past 1970");
    i64::try_from(since.as_millis()).expect("a time of this age")
}

/// Everything that one or more instances emitted, and what must come of it.
pub(crate) struct History {
    pub(crate) events: Vec<Event>,
    pub(crate) truth: Truth,
}

impl History {
    /// Random changes of a small instance, dense with the hard cases. It began a day ago: invitations are still open.
    pub(crate) fn random(seed: u64, events: usize) -> History {
        let start_ms = now_ms() - 24 * 60 * 60 * 1_000;
        let mut world = World::new(seed, Settings { start_ms, ties: true, child_events: true, ..Settings::default() });
        let mut emitted = Vec::with_capacity(events);
        while emitted.len() < events {
            world.advance();
            emitted.extend(world.take_events());
        }
        History { events: emitted, truth: world.truth() }.checked()
    }

    /// The history of a believable company. The same seed makes the ids of [`History::random`] too, hence another one.
    pub(crate) fn company(seed: u64, users: usize, organizations: usize) -> History {
        let (events, truth) = company(!seed, users, organizations, now_ms() - COMPANY_SPAN_MS);
        History { events, truth }.checked()
    }

    /// Both together.
    pub(crate) fn and(mut self, other: History) -> History {
        self.events.extend(other.events);
        self.truth.users.extend(other.truth.users);
        self.truth.organizations.extend(other.truth.organizations);
        self.truth.members.extend(other.truth.members);
        self.truth.invitations.extend(other.truth.invitations);
        self.truth.workspaces.extend(other.truth.workspaces);
        self
    }

    fn checked(self) -> History {
        let last = self.events.iter().map(|event| event.at_ms).max().expect("a history with events");
        assert!(last <= now_ms(), "the history must lie in the past");
        self
    }

    /// The deliveries in random order, a quarter of them twice.
    pub(crate) fn deliveries(&self, seed: u64) -> Vec<Item> {
        shuffled(&self.events, seed, DUPLICATES).into_iter().map(|event| (event.svix_id, event.body)).collect()
    }

    pub(crate) fn ids(&self) -> BTreeSet<&str> {
        self.events.iter().map(|event| event.svix_id.as_str()).collect()
    }
}

/// Sends deliveries over and over until it is told to stop, and all of them at least once.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    passing: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<Vec<Report>>>,
}

/// Deliveries between two looks at whether to stop.
const PIECE: usize = 200;

impl Load {
    /// Spreads the deliveries over the senders, each with so many connections.
    pub(crate) fn start(senders: Vec<Sender>, deliveries: Vec<Item>, connections: usize) -> Load {
        let (stop, passing) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(senders.len())));
        let tasks = shares(deliveries, senders.len()).into_iter().zip(senders);
        let tasks = tasks
            .map(|(share, sender)| {
                let (stop, passing) = (Arc::clone(&stop), Arc::clone(&passing));
                tokio::spawn(async move {
                    let mut reports = Vec::new();
                    for pass in 0.. {
                        for piece in share.chunks(PIECE) {
                            if pass > 0 && stop.load(Ordering::SeqCst) {
                                return reports;
                            }
                            reports.push(sender.send_all(piece.to_vec(), connections, PATIENCE).await);
                        }
                        if pass == 0 {
                            passing.fetch_sub(1, Ordering::SeqCst);
                        }
                    }
                    reports
                })
            })
            .collect();
        Load { stop, passing, tasks }
    }

    /// Whether every delivery was sent and acknowledged once.
    pub(crate) fn has_passed(&self) -> bool {
        self.passing.load(Ordering::SeqCst) == 0
    }

    /// Stops after the first pass, and returns what happened.
    pub(crate) async fn finish(self) -> Sent {
        self.stop.store(true, Ordering::SeqCst);
        let mut sent = Sent::default();
        for task in self.tasks {
            task.await.expect("a sending task").into_iter().for_each(|report| sent.add(&report));
        }
        sent
    }
}

/// Deals the deliveries out.
pub(crate) fn shares(deliveries: Vec<Item>, count: usize) -> Vec<Vec<Item>> {
    let mut shares = vec![Vec::new(); count];
    for (at, delivery) in deliveries.into_iter().enumerate() {
        shares[at % count].push(delivery);
    }
    shares
}

/// What senders saw.
#[derive(Default)]
pub(crate) struct Sent {
    /// The ack journal.
    pub(crate) acked: BTreeSet<String>,
    pub(crate) by_status: BTreeMap<u16, usize>,
    pub(crate) by_outcome: BTreeMap<String, usize>,
    pub(crate) unanswered: usize,
    pub(crate) longest_wait: Duration,
}

impl Sent {
    /// Adds a report in which everything was acknowledged in the end, and no answer was other than 2xx and 503.
    pub(crate) fn add(&mut self, report: &Report) {
        report.assert_complete();
        self.acked.extend(report.acked.iter().cloned());
        for (status, count) in &report.by_status {
            *self.by_status.entry(*status).or_default() += count;
        }
        for (outcome, count) in &report.by_outcome {
            *self.by_outcome.entry(outcome.clone()).or_default() += count;
        }
        self.unanswered += report.unanswered;
        self.longest_wait = self.longest_wait.max(report.longest_wait);
    }

    pub(crate) fn count(&self, status: u16) -> usize {
        self.by_status.get(&status).copied().unwrap_or_default()
    }
}

/// Nothing acknowledged is missing, the tables hold the truth in every column, and the change feed has no gap.
pub(crate) async fn check(place: &Place, server: &Server, history: &History, sent: &Sent) {
    let kept = place.deliveries().await;
    let lost: Vec<&String> = sent.acked.iter().filter(|id| !kept.contains_key(*id)).collect();
    assert!(lost.is_empty(), "{} acknowledged deliveries are lost: {lost:?}", lost.len());
    let kept: BTreeSet<&str> = kept.keys().map(String::as_str).collect();
    assert!(kept == history.ids(), "{} deliveries are kept, {} were sent", kept.len(), history.events.len());
    place.tables().await.assert_same_as(&history.truth);
    feed(server).await;
    if place.is_sqlite() {
        assert_eq!(place.integrity().await, "ok");
    }
    quiet(server, history);
}

/// The change feed as the admin API gives it, checked for gaps; returns its last number.
pub(crate) async fn feed(server: &Server) -> i64 {
    let mut last = 0;
    loop {
        let page = admin(server, "GET", &format!("changes?after={last}&limit=100")).await;
        let entries = page["data"].as_array().expect("a page of the change feed").clone();
        if entries.is_empty() {
            return last;
        }
        for entry in entries {
            last += 1;
            assert_eq!(entry["sequence"].as_i64(), Some(last), "the change feed has a gap: {entry}");
        }
    }
}

/// No log line holds a secret or anything personal.
fn quiet(server: &Server, history: &History) {
    let log = server.stderr();
    let emails = history.truth.users.values().filter_map(|user| user.email.as_deref()).filter(|email| email.len() > 8);
    for canary in [&SECRET[6..], ADMIN_TOKEN, "canary-private"].into_iter().chain(emails) {
        assert!(!log.contains(canary), "the log holds {canary}");
    }
}

/// A call of the admin API that must succeed.
pub(crate) async fn admin(server: &Server, method: &str, path: &str) -> Value {
    let url = format!("{}/admin/v1/{path}", server.url());
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let answer = request(method, &url, &[("authorization", &bearer)], Bytes::new(), Duration::from_secs(20)).await;
    let answer = answer.unwrap_or_else(|error| panic!("{method} {url}: {error}"));
    assert_eq!(answer.status, 200, "{method} {url}: {}", answer.text());
    answer.json().expect("JSON")
}

/// Sends bytes that need not be text, signed.
pub(crate) async fn post(sender: &Sender, svix_id: &str, body: impl Into<Bytes>) -> Result<Response, NoAnswer> {
    let body = body.into();
    let timestamp = now_ms() / 1_000;
    // Svix's library signs nothing but UTF-8.
    let signature = Secret::parse(SECRET).expect("the secret").sign(svix_id, timestamp, &body);
    let timestamp = timestamp.to_string();
    let headers = [("svix-id", svix_id), ("svix-timestamp", &timestamp), ("svix-signature", &signature)];
    request("POST", sender.url(), &headers, body, ANSWER_TIMEOUT).await
}

/// Waits until `/readyz` answers 200, at most ten seconds (CC 5).
pub(crate) async fn ready_soon(server: &Server) {
    let start = Instant::now();
    loop {
        match server.get("/readyz").await {
            Ok(answer) if answer.status == 200 => return,
            answer => assert!(start.elapsed() < Duration::from_secs(10), "not ready again: {answer:?}"),
        }
        tokio::time::sleep(POLL).await;
    }
}

/// One figure of `/metrics`; 0 where it is not there.
pub(crate) async fn metric(server: &Server, name: &str) -> f64 {
    let text = server.get("/metrics").await.expect("the metrics").text();
    let lines = text.lines().filter(|line| line.split([' ', '{']).next() == Some(name));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Multiplies how long and how often the faults last that take a long time to show something: 1 unless
/// `FAIRCOPY_TEST_SCALE` says otherwise.
pub(crate) fn scale() -> u32 {
    match std::env::var("FAIRCOPY_TEST_SCALE") {
        Ok(text) if !text.is_empty() => text.parse().expect("FAIRCOPY_TEST_SCALE is a whole number"),
        _ => 1,
    }
}

/// Svix waits 15 s; an answer must come well before (D4).
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Runs one statement as the administrator.
pub(crate) async fn administer(url: &str, statement: &str) {
    let mut connection = PgConnection::connect(url).await.expect("connect as the administrator");
    connection
        .execute(AssertSqlSafe(statement.to_owned()))
        .await
        .unwrap_or_else(|error| panic!("{statement}: {error}"));
    connection.close().await.expect("close");
}

/// The one number that a query gives.
pub(crate) async fn number(url: &str, query: &str) -> i64 {
    let mut connection = PgConnection::connect(url).await.expect("connect as the administrator");
    let row = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_one(&mut connection).await.expect(query);
    connection.close().await.expect("close");
    row.get(0)
}

/// A 503 that says when to come back, in time.
pub(crate) fn assert_sent_back(reply: &Reply) {
    assert_eq!((reply.status, reply.retry_after.as_deref()), (503, Some("5")), "{}", reply.body);
    assert!(reply.elapsed <= ANSWER_WITHIN, "answered after {:?}", reply.elapsed);
}

/// Sends each delivery once, all at the same time.
pub(crate) async fn all_at_once(sender: &Sender, deliveries: &[Item]) -> Vec<Reply> {
    let sending: Vec<_> = deliveries
        .iter()
        .cloned()
        .map(|(id, body)| {
            let sender = sender.clone();
            tokio::spawn(async move { sender.send(&id, &body).await })
        })
        .collect();
    let mut replies = Vec::new();
    for reply in sending {
        replies.push(reply.await.expect("an answer"));
    }
    replies
}

/// Sends eight at a time until one is sent back, which must happen; returns what was acknowledged.
pub(crate) async fn until_sent_back(sender: &Sender, deliveries: &[Item]) -> Sent {
    let mut sent = Sent::default();
    for some in deliveries.chunks(8) {
        let replies = all_at_once(sender, some).await;
        for ((id, _), reply) in some.iter().zip(&replies) {
            if reply.status == 200 {
                sent.acked.insert(id.clone());
            } else {
                assert_sent_back(reply);
            }
        }
        if replies.iter().any(|reply| reply.status != 200) {
            return sent;
        }
    }
    panic!("everything was taken: {} deliveries", sent.acked.len());
}

/// One figure of a process's memory, in KiB, without the pages of its executable: those the kernel can drop at any time,
/// and a container's limit does not kill for them.
fn memory_figure_kib(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its figures");
    let figure = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).expect(name);
        line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok()).expect("a number of KiB")
    };
    figure(name) - figure("RssFile:")
}

/// The most memory that a process has had at once.
pub(crate) fn peak_memory_kib(pid: u32) -> u64 {
    memory_figure_kib(pid, "VmHWM:")
}

/// The memory that a process has now.
pub(crate) fn memory_kib(pid: u32) -> u64 {
    memory_figure_kib(pid, "VmRSS:")
}

/// A correct event of exactly so many bytes.
pub(crate) fn large_event(number: usize, length: usize) -> Vec<u8> {
    let now = now_ms() - 1_000;
    let mut event = json!({
        "object": "event", "type": "user.created", "timestamp": now,
        "data": {
            "object": "user", "id": format!("user_large{number}"), "created_at": now, "updated_at": now,
            "public_metadata": {"filler": ""},
        },
    });
    let missing = length - event.to_string().len();
    event["data"]["public_metadata"]["filler"] = json!("x".repeat(missing));
    let body = event.to_string().into_bytes();
    assert_eq!(body.len(), length);
    body
}

/// What a command printed.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }
}

/// Runs the binary with nothing in its environment but `PATH` and what is given.
pub(crate) async fn faircopy(folder: &Path, env: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(binary());
    command.args(arguments).current_dir(folder).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs(env.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output.unwrap_or_else(|_| panic!("faircopy {arguments:?} does not end")).expect("run faircopy");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Output { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

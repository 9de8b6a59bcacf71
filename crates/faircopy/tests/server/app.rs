//! One service in this process, on a port of its own.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use faircopy::app::{self, App, Clock, ManualClock, SystemClock};
use faircopy::config::{Config, Environment, Every, Flags};
use faircopy::http;
use faircopy::sweep::{Glimpse, Order, Patience, Report, Sweeper};
use faircopy::upstream::clerk::Share;
use faircopy::worker::alerts::Alerts;
use faircopy::worker::probe::Probe;
use faircopy::worker::watch::{Comparing, Watch};
use faircopy_core::Millis;
use faircopy_testkit::clerk::{self, Clerk};
use faircopy_testkit::client::{self, Response};
use faircopy_testkit::postgres::{Database, fresh_database};
use faircopy_testkit::sender::{Sender, Signed};
use faircopy_testkit::tables::{self, Delivery, Tables};
use serde_json::Value;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;

use crate::mint;

/// The signing secret unless a test names another.
pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// The admin token unless a test names another.
pub(crate) const ADMIN_TOKEN: &str = "an-admin-token-of-32-characters!";
/// Where deliveries arrive unless a test names another path.
pub(crate) const PATH: &str = "/webhooks/clerk";
/// Svix gives an endpoint 15 s; no answer may take longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// The engines that everything a sender can see is tested on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

/// A service that is not started yet: SQLite, one secret, an admin token and the machine's clock, unless told otherwise.
pub(crate) struct Builder {
    postgres: bool,
    database_url: Option<String>,
    listen: &'static str,
    variables: HashMap<String, String>,
    webhook: Vec<String>,
    /// What may be there several times: alerts and destinations.
    tables: Vec<String>,
    clock: Option<ManualClock>,
    migrate: bool,
    unsafe_durability: bool,
    open_here: bool,
}

/// A running service.
pub(crate) struct TestApp {
    pub(crate) address: SocketAddr,
    pub(crate) database_url: String,
    clock: Arc<dyn Clock>,
    app: Weak<App>,
    sender: Sender,
    path: String,
    admin_token: String,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
    _folder: tempfile::TempDir,
    _database: Option<Database>,
}

impl TestApp {
    pub(crate) fn build() -> Builder {
        // Tests probe and watch by hand: a worker that does so by itself would look at times of its own.
        let variables = [
            ("CLERK_WEBHOOK_SIGNING_SECRET", SECRET),
            ("FAIRCOPY_ADMIN_TOKEN", ADMIN_TOKEN),
            ("FAIRCOPY_PROBE", "off"),
            ("FAIRCOPY_WATCH", "off"),
        ];
        Builder {
            postgres: false,
            database_url: None,
            listen: "127.0.0.1:0",
            variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            webhook: Vec::new(),
            tables: Vec::new(),
            clock: None,
            migrate: true,
            unsafe_durability: false,
            open_here: false,
        }
    }

    pub(crate) async fn start() -> Self {
        Self::build().start().await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Now, as the service sees it, in seconds.
    pub(crate) fn now(&self) -> i64 {
        self.clock.now().0.div_euclid(1000)
    }

    pub(crate) fn sign(&self, id: &str, body: impl AsRef<[u8]>) -> Signed {
        self.sender.sign_at(id, body.as_ref(), self.now())
    }

    /// A correctly signed delivery.
    pub(crate) async fn deliver(&self, id: &str, body: impl AsRef<[u8]>) -> Response {
        let signed = self.sign(id, &body);
        self.post(&signed.headers(), Bytes::copy_from_slice(body.as_ref())).await
    }

    /// A correctly signed delivery that is taken: its outcome.
    pub(crate) async fn outcome(&self, id: &str, body: impl AsRef<[u8]>) -> String {
        let response = self.deliver(id, body).await;
        assert_eq!(response.status, 200, "{id}: {}", response.text());
        let answer = response.json().expect("a JSON answer");
        assert_eq!(answer["id"], id);
        answer["outcome"].as_str().expect("an outcome").to_owned()
    }

    /// `POST` to the webhook path with these headers.
    pub(crate) async fn post(&self, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Response {
        self.request("POST", &self.path, headers, body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], "").await
    }

    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response {
        let answer = client::request(method, &self.url(path), headers, body, PATIENCE).await;
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// A request with the admin token.
    pub(crate) async fn admin(&self, method: &str, path: &str) -> Response {
        let bearer = format!("Bearer {}", self.admin_token);
        self.request(method, path, &[("authorization", &bearer)], "").await
    }

    /// `GET` with the admin token: a JSON answer with 200.
    pub(crate) async fn admin_json(&self, path: &str) -> Value {
        let response = self.admin("GET", path).await;
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        response.json().expect("a JSON answer")
    }

    /// A token of a user with an active organization as (id, role), for a service built with [`Builder::sessions`].
    pub(crate) fn token(&self, user: &str, organization: Option<(&str, &str)>) -> String {
        mint::token(user, organization, self.now())
    }

    /// A request with a session token.
    pub(crate) async fn bearer(&self, method: &str, path: &str, token: &str) -> Response {
        self.request(method, path, &[("authorization", &format!("Bearer {token}"))], "").await
    }

    /// `GET` with a session token: a JSON answer with 200.
    pub(crate) async fn bearer_json(&self, path: &str, token: &str) -> Value {
        let response = self.bearer("GET", path, token).await;
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        response.json().expect("a JSON answer")
    }

    /// What is stored of every delivery.
    pub(crate) async fn deliveries(&self) -> BTreeMap<String, Delivery> {
        tables::deliveries(&self.database_url).await
    }

    pub(crate) async fn tables(&self) -> Tables {
        tables::read(&self.database_url).await
    }

    /// Sweeps as the service itself would, under a name of its own.
    pub(crate) fn sweeper(&self, holder: &str) -> Option<Sweeper> {
        let app = self.app.upgrade().expect("a running service");
        Some(Sweeper {
            clerk: app.clerk.clone()?,
            store: app.store.clone(),
            intake: app.intake.clone(),
            clock: app.clock.clone(),
            metrics: app.metrics.clone(),
            holder: holder.into(),
            share: Share::Operator,
            patience: Patience::default(),
        })
    }

    /// One sweep to its end.
    pub(crate) async fn sweep(&self, order: Order) -> Report {
        let sweeper = self.sweeper("test").expect("a key");
        sweeper.run(order, &watch::Sender::new(Glimpse::default())).await.expect("a sweep that ends")
    }

    /// A probing worker as this service or a replica of it has one, and what it tells when a reconcile is wanted.
    pub(crate) fn probe(&self, holder: &str) -> (Probe, Arc<Notify>) {
        let app = self.app.upgrade().expect("a running service");
        let (soon, sweeper) = (Arc::new(Notify::new()), self.sweeper(holder));
        let (clock, metrics) = (app.clock.clone(), app.metrics.clone());
        (Probe::new(app.store.clone(), sweeper, clock, metrics, holder.into(), soon.clone(), 0), soon)
    }

    /// A worker that watches, and one that tells, as this service or a replica of it has them. No chance: the longest pauses.
    pub(crate) fn watchers(&self, holder: &str) -> (Watch, Alerts) {
        let app = self.app.upgrade().expect("a running service");
        let (store, clock, metrics) = (app.store.clone(), app.clock.clone(), app.metrics.clone());
        let comparing = Comparing { has_key: app.clerk.is_some(), every: Every::Auto };
        let (targets, holder): (_, Arc<str>) = (app.alert_targets.clone(), holder.into());
        let alerts =
            Alerts::new(store.clone(), targets, clock.clone(), metrics.clone(), holder.clone(), Arc::new(|| u64::MAX));
        let watch = Watch::new(store, app.clerk.clone(), app.traffic.clone(), clock, metrics, holder, comparing);
        (watch, alerts)
    }

    /// Tells the service to stop, without waiting until it has.
    pub(crate) fn tell_to_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Waits until the service has ended: everything in flight answered, everything accepted committed.
    pub(crate) async fn stopped(&mut self) {
        (&mut self.served).await.expect("the service ends without a panic");
    }

    pub(crate) async fn stop(mut self) {
        self.tell_to_stop();
        self.stopped().await;
    }
}

impl Builder {
    pub(crate) fn on(mut self, engine: Engine) -> Self {
        self.postgres = engine == Engine::Postgres;
        self
    }

    pub(crate) fn on_postgres(self) -> Self {
        self.on(Engine::Postgres)
    }

    /// A database that the test has made.
    pub(crate) fn database_url(mut self, url: &str) -> Self {
        self.database_url = Some(url.to_owned());
        self
    }

    pub(crate) fn listen(mut self, address: &'static str) -> Self {
        self.listen = address;
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Several, separated by commas. Deliveries are signed with the first.
    pub(crate) fn secrets(self, secrets: &str) -> Self {
        self.variable("CLERK_WEBHOOK_SIGNING_SECRET", secrets)
    }

    pub(crate) fn without_secrets(mut self) -> Self {
        self.variables.remove("CLERK_WEBHOOK_SIGNING_SECRET");
        self
    }

    pub(crate) fn admin_token(self, token: &str) -> Self {
        self.variable("FAIRCOPY_ADMIN_TOKEN", token)
    }

    pub(crate) fn without_admin_token(mut self) -> Self {
        self.variables.remove("FAIRCOPY_ADMIN_TOKEN");
        self
    }

    /// As `serve --dev` is: a browser of this machine needs no token.
    pub(crate) fn open_here(mut self) -> Self {
        self.open_here = true;
        self
    }

    /// Session tokens of the test's own key, verified with a PEM.
    pub(crate) fn sessions(self) -> Self {
        self.issuer(mint::ISSUER).variable("CLERK_JWT_KEY", &mint::pem())
    }

    pub(crate) fn issuer(self, url: &str) -> Self {
        self.variable("CLERK_JWT_ISSUER_DOMAIN", url)
    }

    /// The key of this Backend API.
    pub(crate) fn clerk(self, clerk: &Clerk) -> Self {
        self.variable("CLERK_SECRET_KEY", clerk::KEY).variable("CLERK_API_URL", clerk.url())
    }

    /// Only what the test itself orders is compared with Clerk.
    pub(crate) fn without_reconcile(self) -> Self {
        self.variable("FAIRCOPY_RECONCILE_EVERY", "never")
    }

    pub(crate) fn authorized_parties(self, list: &str) -> Self {
        self.variable("CLERK_AUTHORIZED_PARTIES", list)
    }

    pub(crate) fn allowed_origins(self, list: &str) -> Self {
        self.variable("FAIRCOPY_ALLOWED_ORIGINS", list)
    }

    pub(crate) fn workspaces(self, mode: &str) -> Self {
        self.variable("FAIRCOPY_WORKSPACES", mode)
    }

    pub(crate) fn minimal(self) -> Self {
        self.variable("FAIRCOPY_PROFILE_MODE", "minimal")
    }

    pub(crate) fn names_ttl(self, seconds: u32) -> Self {
        self.variable("FAIRCOPY_NAMES_TTL_SECONDS", &seconds.to_string())
    }

    pub(crate) fn instance(self, id: &str) -> Self {
        self.variable("CLERK_INSTANCE_ID", id)
    }

    /// A line of the `[webhook]` part of `faircopy.toml`.
    pub(crate) fn webhook(mut self, line: &str) -> Self {
        self.webhook.push(line.to_owned());
        self
    }

    /// An `[[alert]]` of `faircopy.toml`: its lines.
    pub(crate) fn alert(mut self, lines: &str) -> Self {
        self.tables.push(format!("[[alert]]\n{lines}\n"));
        self
    }

    /// A `[[destination]]` of `faircopy.toml`: its lines.
    pub(crate) fn destination(mut self, lines: &str) -> Self {
        self.tables.push(format!("[[destination]]\n{lines}\n"));
        self
    }

    /// Probes, watches and tells by itself.
    pub(crate) fn by_itself(self) -> Self {
        self.variable("FAIRCOPY_PROBE", "on").variable("FAIRCOPY_WATCH", "on")
    }

    /// A secret key for Liveblocks, and where that is.
    pub(crate) fn liveblocks(self, url: &str) -> Self {
        self.variable("LIVEBLOCKS_SECRET_KEY", "sk_test_liveblocks").variable("LIVEBLOCKS_API_URL", url)
    }

    pub(crate) fn clock(mut self, clock: &ManualClock) -> Self {
        self.clock = Some(clock.clone());
        self
    }

    pub(crate) fn without_migrations(mut self) -> Self {
        self.migrate = false;
        self
    }

    /// The workers alone, as of a service whose endpoint nobody can reach.
    pub(crate) async fn start_unreachable(self, database_url: &str) -> (Arc<App>, app::Workers) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = self.config(&folder, database_url);
        let store = config.store();
        let clock = self.clock.expect("a clock of the test's own");
        App::start(config, store, Arc::new(clock))
    }

    pub(crate) async fn start(self) -> TestApp {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let database = if self.postgres { Some(fresh_database().await) } else { None };
        let database_url = match (&self.database_url, &database) {
            (Some(url), _) => url.clone(),
            (None, Some(database)) => database.url().to_owned(),
            (None, None) => format!("sqlite://{}", folder.path().join("faircopy.db").display()),
        };
        let mut config = self.config(&folder, &database_url);
        config.dashboard.is_open_here = self.open_here;
        let clock: Arc<dyn Clock> = match self.clock {
            Some(clock) => Arc::new(clock),
            None => Arc::new(SystemClock),
        };

        let listener = http::server::bind(config.listen).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let path = config.webhook.paths[0].clone();
        let store = config.store();
        if self.migrate {
            app::prepare(&config, &store, clock.now(), true).await.expect("a database that can be used");
        }
        let (app, workers) = App::start(config, store.clone(), clock.clone());
        let (router, weak) = (http::router(&app), Arc::downgrade(&app));
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            http::server::serve(listener, router, stopped).await;
            drop(app);
            workers.finish().await;
            store.close().await;
        });

        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let first =
            |name: &str| self.variables.get(name).and_then(|text| text.split([',', ' ']).next()).unwrap_or_default();
        let secret = Some(first("CLERK_WEBHOOK_SIGNING_SECRET")).filter(|secret| !secret.is_empty());
        TestApp {
            address,
            database_url,
            clock,
            app: weak,
            sender: Sender::new(format!("http://{address}{path}"), secret.unwrap_or(SECRET)),
            path,
            admin_token: first("FAIRCOPY_ADMIN_TOKEN").to_owned(),
            stop: Some(stop),
            served,
            _folder: folder,
            _database: database,
        }
    }

    fn file(&self) -> String {
        format!("[webhook]\n{}\n{}", self.webhook.join("\n"), self.tables.concat())
    }

    fn config(&self, folder: &tempfile::TempDir, database_url: &str) -> Config {
        let file = folder.path().join("faircopy.toml");
        std::fs::write(&file, self.file()).expect("write faircopy.toml");
        let flags = Flags {
            config: Some(file),
            database_url: Some(database_url.to_owned()),
            listen: Some(self.listen.to_owned()),
            allow_unsafe_durability: self.unsafe_durability,
            ..Flags::default()
        };
        Config::load(&flags, &Environment(self.variables.clone())).expect("usable settings")
    }
}

/// Whether an answer is this problem, in the form that every problem has. Returns its body.
#[track_caller]
pub(crate) fn assert_problem(response: &Response, status: u16, code: &str) -> Value {
    let text = response.text();
    assert_eq!(
        (response.status, response.header("content-type")),
        (status, Some("application/problem+json")),
        "{text}"
    );
    let problem = response.json().expect("a JSON body");
    assert_eq!(problem["code"], code, "{text}");
    assert_eq!(problem["type"], format!("urn:faircopy:problem:{code}"));
    assert_eq!(problem["status"], status);
    for member in ["title", "detail"] {
        assert!(problem[member].as_str().is_some_and(|sentence| !sentence.is_empty()), "{member}: {text}");
    }
    let retry = matches!(status, 429 | 503);
    assert_eq!(response.header("retry-after").is_some_and(|after| after.parse::<u32>().is_ok()), retry, "{text}");
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(response.header("x-content-type-options"), Some("nosniff"));
    assert!(response.header("allow").is_some() || status != 405);
    assert_eq!(response.header("www-authenticate").is_some(), status == 401);
    problem
}

/// A clock at the time that the model's events start: 2025-10-09.
pub(crate) fn manual_clock() -> ManualClock {
    ManualClock::at(Millis(1_760_000_000_000))
}

/// Looks again and again until it holds; fails with what it was waiting for.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, within: Duration, mut holds: impl FnMut() -> F) {
    let start = std::time::Instant::now();
    while !holds().await {
        assert!(start.elapsed() < within, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

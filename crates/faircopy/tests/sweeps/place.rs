//! A sandbox, a copy on a database of its own, and one clock for both, which runs and can be moved.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use faircopy::app::{self, Clock, SystemClock};
use faircopy::compare::truth_of;
use faircopy::config::{Config, Environment, Flags};
use faircopy::sweep::{Glimpse, Order, Patience, Phase, Report, Stop, Sweeper};
use faircopy::telemetry::Metrics;
use faircopy::upstream::clerk::{Clerk, Share};
use faircopy::upstream::keys::KeySet;
use faircopy::worker::intake;
use faircopy_core::{Millis, ProfileMode, event};
use faircopy_sandbox::instance::{Event, Instance};
use faircopy_sandbox::{Sandbox, Settings};
use faircopy_store::{Arrival, Content, Store};
use faircopy_testkit::postgres::{self, Database};
use faircopy_testkit::tables;
use faircopy_world::{Truth, token};
use serde_json::{Value, json};
use tokio::sync::watch;

/// A production key: its share of the rate limit lets a sweep of a small world through at once.
pub(crate) const KEY: &str = "sk_live_a-secret-key-for-tests";
pub(crate) const HOUR: i64 = 3_600_000;
/// Pauses of a sweep are short here: what is tested is that it goes on, not for how long it can wait.
const PATIENCE: Patience = Patience { tries: 8, first: Duration::from_millis(1), longest: Duration::from_millis(20) };

/// Making a key takes longer than a whole world: all share one.
static PAIR: LazyLock<Arc<aws_lc_rs::signature::RsaKeyPair>> = LazyLock::new(|| Arc::new(token::new_key()));

/// The machine's clock, and how far it was moved.
#[derive(Clone, Default)]
pub(crate) struct MovableClock(Arc<AtomicI64>);

impl Clock for MovableClock {
    fn now(&self) -> Millis {
        SystemClock.now().plus(self.0.load(Ordering::SeqCst))
    }
}

impl MovableClock {
    pub(crate) fn advance(&self, millis: i64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

/// Where the copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Sqlite,
    Postgres,
}

enum Home {
    Folder(#[expect(dead_code, reason = "dropping it removes the folder")] tempfile::TempDir),
    Database(#[expect(dead_code, reason = "dropping it removes the database")] Box<Database>),
}

/// A Clerk instance and its copy.
pub(crate) struct Place {
    pub(crate) clock: MovableClock,
    pub(crate) sandbox: Sandbox,
    pub(crate) store: Store,
    pub(crate) sweeper: Sweeper,
    url: String,
    config: Config,
    worker: tokio::task::JoinHandle<()>,
    _home: Home,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

impl Place {
    /// An empty instance and an empty copy.
    pub(crate) async fn new(engine: Engine, settings: Settings) -> Self {
        let clock = MovableClock::default();
        let settings = Settings { key_pair: Some(PAIR.clone()), secret_key: Some(KEY.to_owned()), ..settings };
        let of_sandbox = clock.clone();
        let sandbox = Sandbox::start(settings, Arc::new(move || of_sandbox.now().0), ([127, 0, 0, 1], 0).into());
        let sandbox = sandbox.await.unwrap();
        let (url, home) = match engine {
            Engine::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                (format!("sqlite://{}", folder.path().join("copy.db").display()), Home::Folder(folder))
            }
            Engine::Postgres => {
                let database = postgres::fresh_database().await;
                (database.url().to_owned(), Home::Database(Box::new(database)))
            }
        };
        let variables = [("DATABASE_URL", url.as_str()), ("CLERK_SECRET_KEY", KEY), ("CLERK_API_URL", sandbox.url())];
        let environment = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let config = Config::load(&Flags::default(), &Environment(environment)).unwrap();
        let store = config.store();
        store.writer().migrate(clock.now()).await.unwrap();
        let (sweeper, worker) = sweeper(&config, &store, &clock);
        Self { clock, sandbox, store, sweeper, url, config, worker, _home: home }
    }

    /// Another process on the same copy.
    pub(crate) fn another(&self) -> (Sweeper, tokio::task::JoinHandle<()>) {
        sweeper(&self.config, &self.store, &self.clock)
    }

    /// A sweeper with other settings: another key, another address.
    pub(crate) fn with(&self, change: &[(&str, &str)]) -> (Sweeper, tokio::task::JoinHandle<()>) {
        let mut variables = vec![("CLERK_SECRET_KEY", KEY), ("CLERK_API_URL", self.sandbox.url())];
        variables.retain(|(name, _)| !change.iter().any(|(changed, _)| changed == name));
        variables.extend(change);
        let environment = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let config = Config::load(&Flags::default(), &Environment(environment)).unwrap();
        sweeper(&config, &self.store, &self.clock)
    }

    /// Changes the instance, and takes what it emitted.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Instance, i64) -> T) -> (T, Vec<Event>) {
        self.sandbox.shared().with(|state, now| {
            let result = change(&mut state.instance, now);
            (result, state.instance.take_events())
        })
    }

    /// Delivers an event, as one whose signature was found good.
    pub(crate) async fn deliver(&self, svix_id: &str, event: &Event) {
        let instance = self.change(|instance, _| instance.id().to_owned()).0;
        let body = json!({
            "object": "event", "type": event.kind, "timestamp": event.at_ms, "instance_id": instance, "data": event.data,
        });
        let (body, now) = (body.to_string(), self.clock.now());
        let context = event::Context { mode: ProfileMode::Full, signed_at: now, instance: Some(&instance) };
        let arrival = Arrival {
            svix_id: svix_id.to_owned(),
            signed_at: now,
            received_at: now,
            body_hash: Arrival::hash(body.as_bytes()),
            content: Content::read(body.as_bytes(), &context),
        };
        self.sweeper.intake.submit(arrival, None).await.unwrap();
    }

    /// Sweeps to the end; whenever it waits for a grace, that time has passed.
    pub(crate) async fn sweep(&self, order: Order) -> Result<Report, Stop> {
        self.sweep_with(&self.sweeper, order).await
    }

    pub(crate) async fn sweep_with(&self, sweeper: &Sweeper, order: Order) -> Result<Report, Stop> {
        let (sender, mut glimpses) = watch::channel(Glimpse::default());
        let clock = self.clock.clone();
        let waiting = async move {
            while glimpses.changed().await.is_ok() {
                if let Phase::Waiting(until) = glimpses.borrow_and_update().phase {
                    clock.advance((until.0 - clock.now().0).max(0));
                }
            }
        };
        tokio::select! {
            report = sweeper.run(order, &sender) => report,
            () = waiting => unreachable!("the sender lives as long as the sweep"),
        }
    }

    pub(crate) fn clock_now(&self) -> i64 {
        self.clock.now().0
    }

    pub(crate) fn truth(&self) -> Truth {
        self.change(|instance, now| truth_of(instance, now).unwrap()).0
    }

    /// Everything that sets the copy apart from the instance.
    pub(crate) async fn differences(&self) -> Vec<String> {
        while self.store.writer().expire_invitations(self.clock.now()).await.unwrap() > 0 {}
        tables::read(&self.url).await.same_as(&self.truth())
    }

    pub(crate) async fn assert_exact(&self, when: &str) {
        let differences = self.differences().await;
        assert!(differences.is_empty(), "{when}: the copy is not exact:\n{}", differences.join("\n"));
    }

    /// Runs statements behind the store's back.
    pub(crate) async fn any_sql(&self, statement: &str) {
        use sqlx::{Connection as _, Executor as _};
        let statement = sqlx::AssertSqlSafe(statement.to_owned());
        if self.url.starts_with("sqlite") {
            let mut connection = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
            connection.execute(statement).await.unwrap();
            connection.close().await.unwrap();
        } else {
            let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
            connection.execute(statement).await.unwrap();
            connection.close().await.unwrap();
        }
    }

    /// The one number that a query gives.
    pub(crate) async fn number(&self, query: &str) -> i64 {
        use sqlx::{Connection as _, Row as _};
        let query = sqlx::AssertSqlSafe(query.to_owned());
        if self.url.starts_with("sqlite") {
            let mut connection = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
            sqlx::query(query).fetch_one(&mut connection).await.unwrap().get(0)
        } else {
            let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
            sqlx::query(query).fetch_one(&mut connection).await.unwrap().get(0)
        }
    }

    /// Runs statements behind the store's back, on SQLite.
    pub(crate) async fn sql(&self, statement: &str) {
        use sqlx::Connection as _;
        let mut connection = sqlx::SqliteConnection::connect(&self.url).await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

fn sweeper(config: &Config, store: &Store, clock: &MovableClock) -> (Sweeper, tokio::task::JoinHandle<()>) {
    let clock: Arc<dyn Clock> = Arc::new(clock.clone());
    let metrics = Metrics::install();
    let keys = KeySet::new(&config.sessions, clock.clone(), metrics.clone());
    let clerk = Clerk::new(config, keys, clock.clone(), metrics.clone()).unwrap();
    let (intake, worker) = intake::channel(store.writer(), clock.clone(), metrics.clone());
    let sweeper = Sweeper {
        clerk,
        store: store.clone(),
        intake,
        clock,
        metrics,
        holder: app::holder().into(),
        share: Share::Operator,
        patience: PATIENCE,
    };
    (sweeper, tokio::spawn(worker.run()))
}

pub(crate) fn document(value: Value) -> serde_json::Map<String, Value> {
    match value {
        Value::Object(document) => document,
        other => panic!("{other}"),
    }
}

/// The rows that a report says it removed.
pub(crate) fn removed(report: &Report) -> BTreeSet<String> {
    report.differences.iter().filter(|drift| drift.then == "removed").map(|drift| drift.id.clone()).collect()
}

/// Runs a test with threads: SQLite blocks the one it is called on.
pub(crate) fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

//! The composition root: every part is made here, and so are time and chance.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use faircopy_core::Millis;
use faircopy_core::event::Context;
use faircopy_core::token::{Policy, Verified};
use faircopy_store::{Address, Store, Writer};
use tokio::sync::{Notify, oneshot};

use crate::config::Config;
use crate::doctor::Checkup;
use crate::holder;
use crate::names::Names;
use crate::outside::{Courier, Target};
use crate::refresh::{Reader, Refresh};
use crate::sweep::by_hand::{self, ByHand};
use crate::sweep::{Order, Patience, Sweeper};
use crate::telemetry::Metrics;
use crate::telemetry::lines::Lines;
use crate::traffic::Traffic;
use crate::upstream::alert::Target as AlertTarget;
use crate::upstream::clerk::{Clerk, Share};
use crate::upstream::keys::KeySet;
use crate::worker::activity::Activity;
use crate::worker::alerts::Alerts;
use crate::worker::announce;
use crate::worker::cascade::{Caller, Cascader, Outside};
use crate::worker::confirm::Confirm;
use crate::worker::destinations::Destinations;
use crate::worker::intake::{self, Committed, Intake};
use crate::worker::janitor::Janitor;
use crate::worker::probe::Probe;
use crate::worker::reconcile::Reconciler;
use crate::worker::watch::{Comparing, Watch};

/// How long the last commits may take once every connection has ended: nobody waits for an outcome any more, so what is
/// given up was not acknowledged. With the connections' own 12 s it stays within the 15 s in which the service must end.
const FINISH_DEADLINE: Duration = Duration::from_secs(2);

/// How often a database that did not say whether it has a second wall is asked again. Reads for callers ask by themselves.
const WALL_PERIOD: Duration = Duration::from_secs(5);

/// How often, and after what pause, a database that is busy is asked again to settle its workspaces: with the second that each
/// waits for a lock, about as long as a supervisor waits for a start.
const SETTLE_TRIES: u32 = 20;
const SETTLE_PERIOD: Duration = Duration::from_millis(200);

/// What tells the time. Workers and handlers ask it; the core is told.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Millis;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the composition root is where time is made")]
    fn now(&self) -> Millis {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// A clock that stands still until it is told to move: for tests.
#[derive(Debug, Clone, Default)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that shows this time.
    #[must_use]
    pub fn at(now: Millis) -> Self {
        Self(Arc::new(AtomicI64::new(now.0)))
    }

    /// Moves it by so many milliseconds, back or forth.
    pub fn advance(&self, millis: i64) {
        self.0.fetch_add(millis, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Millis {
        Millis(self.0.load(Ordering::SeqCst))
    }
}

/// How long something takes. What is measured is told and never decided upon, so it needs no [`Clock`].
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    /// Starts it.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the composition root is where time is made")]
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// Seconds since it was started.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }

    /// Milliseconds, to a tenth.
    #[must_use]
    pub fn tenths_of_ms(&self) -> f64 {
        (self.seconds() * 10_000.0).round() / 10.0
    }
}

/// Now, in nanoseconds since 1970, as spans have it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the composition root is where time is made")]
pub fn nanos_now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Chance, for secrets that are made up in development and for ids.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the composition root is where chance is made")]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    rand::random()
}

/// The name of a holder of leases: nobody else has it, and on the same machine it can be seen when its process is gone.
#[must_use]
pub fn holder() -> String {
    let chance: String = random_bytes::<16>().iter().map(|byte| format!("{byte:02x}")).collect();
    holder::name(&chance)
}

/// Why a delivery was not acknowledged. All of these are worth another try by the sender.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// As many deliveries wait as may.
    #[error("too many deliveries are waiting")]
    Full,
    /// The database cannot take it now.
    #[error("{0}")]
    Unavailable(String),
    /// No outcome in time. It may have been committed all the same.
    #[error("the database did not answer in time")]
    Late,
    /// The service is going down.
    #[error("the service is shutting down")]
    Stopping,
}

/// A running service without its listener.
pub struct App {
    /// The settings.
    pub config: Config,
    /// The copy, for reading.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The way in for deliveries.
    pub intake: Intake,
    /// The keys of session tokens.
    pub keys: Arc<KeySet>,
    /// What a session token must say.
    pub policy: Policy,
    /// The signatures of session tokens that were found good lately.
    pub verified: Verified,
    /// Clerk's Backend API, where a key is set.
    pub clerk: Option<Arc<Clerk>>,
    /// Reads Clerk for requests, where a key is set.
    pub refresh: Option<Refresh>,
    /// Names for display, where the copy has none.
    pub names: Names,
    /// Told when a provisional row was written: it is confirmed soon.
    pub provisional: Arc<Notify>,
    /// Told when there is reason to compare the copy with Clerk soon.
    pub reconcile_soon: Arc<Notify>,
    /// Reconciles that an operator orders, where a key is set.
    pub by_hand: Option<ByHand>,
    /// Told when a deletion was let go on: it is looked at at once.
    pub cascades: Arc<Notify>,
    /// Told after commits of the intake: the change feed may have gone on.
    pub committed: Arc<Notify>,
    /// What the webhook endpoint answers.
    pub traffic: Arc<Traffic>,
    /// Who is told of trouble.
    pub alert_targets: Arc<[Arc<AlertTarget>]>,
    /// The doctor's last report.
    pub checkup: Checkup,
    /// Which requests and deliveries have a line of the log.
    pub lines: Lines,
    /// The figures.
    pub metrics: Metrics,
}

/// The background workers of an [`App`]; they end when it is dropped.
pub struct Workers {
    /// Resolves when the intake has ended.
    intake: oneshot::Receiver<()>,
    janitor: tokio::task::JoinHandle<()>,
    keys: tokio::task::JoinHandle<()>,
    confirm: Option<tokio::task::JoinHandle<()>>,
    reconcile: Option<tokio::task::JoinHandle<()>>,
    probe: Option<tokio::task::JoinHandle<()>>,
    by_hand: Option<tokio::task::JoinHandle<()>>,
    activity: tokio::task::JoinHandle<()>,
    announce: tokio::task::JoinHandle<()>,
    wall: tokio::task::JoinHandle<()>,
    names: tokio::task::JoinHandle<()>,
    cascade: [tokio::task::JoinHandle<()>; 2],
    destinations: tokio::task::JoinHandle<()>,
    watch: Option<[tokio::task::JoinHandle<()>; 2]>,
}

impl App {
    /// Starts the workers on a database whose schema is complete.
    #[must_use]
    pub fn start(config: Config, store: Store, clock: Arc<dyn Clock>) -> (Arc<Self>, Workers) {
        let metrics = Metrics::install();
        let (intake, worker) = intake::channel(store.writer(), clock.clone(), metrics.clone());
        let Committed { listeners: committed, destinations: to_destinations, replicas: to_announce } =
            worker.committed();
        let keys = KeySet::new(&config.sessions, clock.clone(), metrics.clone());
        let policy = config.sessions.policy();
        let clerk = Clerk::new(&config, keys.clone(), clock.clone(), metrics.clone());
        let provisional = Arc::new(Notify::new());
        let reader = clerk.clone().map(|clerk| Reader::new(clerk, store.clone(), intake.clone(), metrics.clone()));
        let confirm = clerk.clone().zip(reader.clone()).map(|(clerk, reader)| {
            let [phase] = random_bytes();
            let soon = provisional.clone();
            Confirm::new(clerk, reader, store.clone(), clock.clone(), metrics.clone(), soon, phase)
        });
        let reconcile_soon = Arc::new(Notify::new());
        let sweeper = clerk.clone().map(|clerk| Sweeper {
            clerk,
            store: store.clone(),
            intake: intake.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            holder: holder().into(),
            share: Share::Background,
            patience: Patience::default(),
        });
        let by_hand = sweeper
            .clone()
            .map(|sweeper| by_hand::channel(Sweeper { holder: holder().into(), share: Share::Operator, ..sweeper }));
        let (by_hand, ordered) = by_hand.unzip();
        let activity = Activity::new(store.clone(), clock.clone(), metrics.clone(), holder().into());
        let probe = config.api.probe.then(|| {
            let ([phase], soon) = (random_bytes(), reconcile_soon.clone());
            let (store, clock, metrics) = (store.clone(), clock.clone(), metrics.clone());
            Probe::new(store, sweeper.clone(), clock, metrics, holder().into(), soon, phase)
        });
        let reconcile = sweeper.map(|sweeper| {
            let order = Order { grace_ms: config.reconcile.grace_ms, ..Order::reconcile() };
            let [phase] = random_bytes();
            Reconciler::new(sweeper, config.reconcile.every, order, reconcile_soon.clone(), phase)
        });
        let cascades = Arc::new(Notify::new());
        let (cascader, caller) = cascade(&config, &store, clerk.as_ref(), &clock, &metrics, &cascades);
        let destinations = Destinations::new(
            store.clone(),
            &config.destinations,
            clock.clone(),
            metrics.clone(),
            holder().into(),
            Arc::new(any_number),
            to_destinations,
        );
        let traffic = Arc::new(Traffic::default());
        let alert_targets = AlertTarget::all(&config.alerts, &metrics);
        let watch = config.watch.then(|| {
            let comparing = Comparing { has_key: clerk.is_some(), every: config.reconcile.every };
            let (holder, chance): (Arc<str>, _) = (holder().into(), Arc::new(any_number));
            let (store, clock, metrics) = (store.clone(), clock.clone(), metrics.clone());
            let alerts = Alerts::new(
                store.clone(),
                alert_targets.clone(),
                clock.clone(),
                metrics.clone(),
                holder.clone(),
                chance,
            );
            let watch = Watch::new(store, clerk.clone(), traffic.clone(), clock, metrics, holder, comparing);
            [tokio::spawn(watch.run()), tokio::spawn(alerts.run())]
        });
        let refresh = reader.map(|reader| Refresh::new(reader, clock.clone()));
        let names = Names::new(&config, clerk.as_ref(), &store, &clock, &metrics);
        let workers = Workers {
            intake: run_alone(worker),
            janitor: tokio::spawn(Janitor::new(store.clone(), clock.clone(), config.retention, metrics.clone()).run()),
            keys: tokio::spawn(keys.clone().run()),
            confirm: confirm.map(|confirm| tokio::spawn(confirm.run())),
            reconcile: reconcile.map(|reconcile| tokio::spawn(reconcile.run())),
            probe: probe.map(|probe| tokio::spawn(probe.run())),
            by_hand: ordered.map(|ordered| tokio::spawn(ordered.run())),
            activity: tokio::spawn(activity.run()),
            announce: tokio::spawn(announce::run(store.clone(), to_announce)),
            wall: tokio::spawn(look_for_second_wall(store.clone())),
            names: tokio::spawn(names.clone().run()),
            cascade: [tokio::spawn(cascader.run()), tokio::spawn(caller.run())],
            destinations: tokio::spawn(destinations.run()),
            watch,
        };
        let (verified, lines) = (Verified::default(), Lines::new(config.log_requests));
        let app = Self {
            config,
            store,
            clock,
            intake,
            keys,
            policy,
            verified,
            clerk,
            refresh,
            names,
            provisional,
            reconcile_soon,
            by_hand,
            cascades,
            committed,
            traffic,
            alert_targets,
            checkup: Checkup::default(),
            lines,
            metrics,
        };
        (Arc::new(app), workers)
    }

    /// How a delivery that was signed at this time is read.
    #[must_use]
    pub fn context(&self, signed_at: Millis) -> Context<'_> {
        Context { mode: self.config.profile_mode, signed_at, instance: self.instance() }
    }

    /// The one instance that is copied: the configured one, or else that of the API's key once Clerk has said which it is.
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        self.config.instance_id.as_deref().or_else(|| self.clerk.as_ref()?.instance())
    }
}

/// The workers for deletions: one for the rows, one for what is outside, both under the name of one holder.
fn cascade(
    config: &Config,
    store: &Store,
    clerk: Option<&Arc<Clerk>>,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
    soon: &Arc<Notify>,
) -> (Cascader, Caller) {
    let plan = config.cascade.clone();
    let targets = Target::all(config, metrics);
    let outside = Outside::new(&targets, plan.tree.clone());
    let courier = Courier::new(targets, clock.clone(), Box::new(any_number));
    let holder: Arc<str> = holder().into();
    let (store, clock, metrics) = (store.clone(), clock.clone(), metrics.clone());
    let caller = Caller::new(
        store.clone(),
        courier,
        outside.clone(),
        clock.clone(),
        metrics.clone(),
        holder.clone(),
        soon.clone(),
    );
    let chance = Arc::new(any_number);
    let cascader = Cascader::new(store, clerk.cloned(), clock, metrics, holder, plan, outside, chance, soon.clone());
    (cascader, caller)
}

fn any_number() -> u64 {
    u64::from_le_bytes(random_bytes())
}

/// Finds out at the start, and not with the first caller, whether reads for callers run under row-level security: the log
/// and the figures say it then.
async fn look_for_second_wall(store: Store) {
    while store.has_second_wall().await.is_err() {
        tokio::time::sleep(WALL_PERIOD).await;
    }
}

/// Runs the intake on a thread of its own. Its next step never queues behind requests that are being read, and SQLite may
/// block it without holding anyone up.
///
/// # Panics
///
/// If the machine has no thread left, which is found at the start and not by a delivery.
fn run_alone(worker: intake::Worker) -> oneshot::Receiver<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime for the intake");
    let (ended, end) = oneshot::channel();
    let run = move || {
        runtime.block_on(worker.run());
        // Nobody listens when the program ends without waiting.
        let _ = ended.send(());
    };
    std::thread::Builder::new().name("intake".into()).spawn(run).expect("a thread for the intake");
    end
}

impl Workers {
    /// Waits until everything that was accepted is committed and answered, or [`FINISH_DEADLINE`] has passed. The last
    /// [`App`] must have been dropped.
    pub async fn finish(mut self) {
        self.janitor.abort();
        self.keys.abort();
        for worker in [&self.confirm, &self.reconcile, &self.probe, &self.by_hand].into_iter().flatten() {
            worker.abort();
        }
        self.activity.abort();
        self.announce.abort();
        self.wall.abort();
        self.names.abort();
        self.destinations.abort();
        self.cascade.iter().chain(self.watch.iter().flatten()).for_each(tokio::task::JoinHandle::abort);
        match tokio::time::timeout(FINISH_DEADLINE, &mut self.intake).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => tracing::error!("the intake ended badly"),
            Err(_) => {
                tracing::warn!("the database did not answer in time; what was not acknowledged comes again");
            }
        }
    }
}

/// Brings the rows of workspaces up to the configured mode, before anybody reads them. A row that somebody else holds for a
/// moment is waited for.
pub async fn settle_workspaces(writer: &mut Writer, now: Millis) -> Result<(), faircopy_store::Error> {
    let mut tries = 1;
    loop {
        match writer.settle_workspaces(now).await {
            Ok(settled) => {
                if settled.changes > 0 {
                    let (organizations, changes) = (settled.organizations, settled.changes);
                    tracing::info!(organizations, changes, "workspaces brought up to the configured mode");
                }
                return Ok(());
            }
            Err(faircopy_store::Error::Busy(_)) if tries < SETTLE_TRIES => tries += 1,
            Err(error) => return Err(error),
        }
        tokio::time::sleep(SETTLE_PERIOD).await;
    }
}

/// Checks that what is to go with an organization or user can be found and deleted: a deletion that stops halfway is worse than
/// a service that does not start.
async fn check_content(config: &Config, store: &Store) -> Result<(), faircopy_store::Error> {
    let faults = store.content_faults(&config.cascade.tree).await?;
    if faults.is_empty() { Ok(()) } else { Err(faircopy_store::Error::Content(faults)) }
}

/// [`prepare`], and that deletions can be carried out: what must be before workers start.
pub async fn prepare_to_serve(
    config: &Config,
    store: &Store,
    now: Millis,
    migrate: bool,
) -> Result<(), faircopy_store::Error> {
    prepare(config, store, now, migrate).await?;
    check_content(config, store).await
}

/// Checks the database server's version, applies pending migrations, brings the workspaces up to the configured mode, and checks
/// that the server keeps what it acknowledges.
pub async fn prepare(config: &Config, store: &Store, now: Millis, migrate: bool) -> Result<(), faircopy_store::Error> {
    if let Address::Sqlite(path) = store.address()
        && path.parent().is_some_and(|folder| !folder.as_os_str().is_empty() && !folder.is_dir())
    {
        return Err(faircopy_store::Error::Address("names a folder that does not exist"));
    }
    let mut writer = store.writer();
    if let Some(server) = writer.server().await? {
        for advisory in &server.open_advisories {
            let version = &server.version;
            tracing::warn!(version, advisory, code = "postgres-outdated", "PostgreSQL has a known hole");
        }
    }
    if migrate {
        for migration in writer.migrate(now).await? {
            tracing::info!(version = migration.version, name = migration.name, "migration applied");
        }
    }
    if migrate || store.pending_migrations().await?.is_empty() {
        settle_workspaces(&mut writer, now).await?;
    }
    let unsafe_settings = writer.unsafe_settings().await?;
    if unsafe_settings.is_empty() {
        return Ok(());
    }
    let names = unsafe_settings.join(", ");
    if config.allow_unsafe_durability {
        tracing::warn!(settings = names, "PostgreSQL may lose what was acknowledged");
        return Ok(());
    }
    Err(faircopy_store::Error::UnsafeDurability(names))
}

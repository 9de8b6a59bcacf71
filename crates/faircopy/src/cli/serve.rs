//! `faircopy serve`.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use faircopy_core::signature::Secret;
use faircopy_store::Store;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, Global};
use crate::app::{self, App, Clock, SystemClock, Workers};
use crate::config::{Config, Environment, Flags, LogFormat};
use crate::http::waiting::Waiting;
use crate::{http, telemetry};

/// How long after a try the database is tried again, until it can be used for the first time.
const PREPARE_PERIOD: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Default, clap::Args)]
#[command(after_help = "Examples:\n  faircopy serve --dev\n  \
    DATABASE_URL=postgres://app@db/app CLERK_WEBHOOK_SIGNING_SECRET=whsec_… faircopy serve")]
pub(super) struct Arguments {
    /// Address to serve on [env: FAIRCOPY_LISTEN] [default: 127.0.0.1:8787]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Make up a signing secret and an admin token if none is set, and print them; browsers of this machine
    /// need no token for the dashboard
    #[arg(long)]
    dev: bool,
    /// Do not apply migrations at start
    #[arg(long)]
    no_migrate: bool,
    /// Start although PostgreSQL may lose what it acknowledged (fsync or synchronous_commit off)
    #[arg(long)]
    allow_unsafe_durability: bool,
}

pub(super) async fn run(arguments: Arguments, global: &Global) -> Result<(), Failure> {
    let flags = Flags {
        listen: arguments.listen.clone(),
        allow_unsafe_durability: arguments.allow_unsafe_durability,
        ..global.flags()
    };
    let mut config = Config::load(&flags, &Environment::of_process())?;
    let exporter = telemetry::start(&config).map_err(Failure::Usage)?;
    if arguments.dev {
        make_up_secrets(&mut config)?;
        config.dashboard.is_open_here = true;
    }
    let stop = until_stopped()?;
    tokio::pin!(stop);
    let listener = bind(&config)?;
    let store = config.store();
    tokio::select! {
        prepared = prepare(&config, &store, &listener, !arguments.no_migrate) => prepared?,
        () = &mut stop => return Ok(()),
    }
    let running = Running::new(config, store, SystemClock, listener);
    if running.app.config.log_format == LogFormat::Text {
        anstream::eprintln!("{}", banner(&running));
    }
    running.serve(stop).await;
    if let Some(exporter) = exporter {
        exporter.finish().await;
    }
    Ok(())
}

/// Resolves when the process is told to end.
fn until_stopped() -> Result<impl Future<Output = ()>, Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        tracing::info!("stopping");
    })
}

/// Prepares the database, and waits for one that is away, full or read-only: a service that ended instead would be started in a
/// loop and answer nobody meanwhile. What trying again cannot mend ends it.
async fn prepare(config: &Config, store: &Store, listener: &TcpListener, migrate: bool) -> Result<(), Failure> {
    let mut waiting: Option<Waiting> = None;
    let mut told = String::new();
    loop {
        let error = match app::prepare_to_serve(config, store, SystemClock.now(), migrate).await {
            Ok(()) => break,
            Err(error) if error.is_passing() => error,
            Err(error) => return Err(error.into()),
        };
        if told != error.to_string() {
            told = error.to_string();
            tracing::warn!(%error, code = "database-unavailable", "waiting for the database; is DATABASE_URL right?");
        }
        if waiting.is_none() {
            waiting = Some(Waiting::start(listener)?);
        }
        tokio::time::sleep(PREPARE_PERIOD).await;
    }
    if let Some(waiting) = waiting {
        waiting.finish().await;
    }
    Ok(())
}

/// A service that is ready to take its first connection.
pub(super) struct Running {
    pub(super) app: Arc<App>,
    listener: TcpListener,
    workers: Workers,
}

/// Binds the address, brings the schema up to date and starts the workers.
pub(super) async fn start(config: Config, clock: impl Clock) -> Result<Running, Failure> {
    let listener = bind(&config)?;
    let store = config.store();
    app::prepare_to_serve(&config, &store, clock.now(), true).await?;
    Ok(Running::new(config, store, clock, listener))
}

fn bind(config: &Config) -> Result<TcpListener, Failure> {
    http::server::bind(config.listen)
        .map_err(|error| Failure::Failed(format!("cannot listen on {}: {error}", config.listen)))
}

impl Running {
    fn new(config: Config, store: Store, clock: impl Clock, listener: TcpListener) -> Self {
        let (app, workers) = App::start(config, store, Arc::new(clock));
        Self { app, listener, workers }
    }

    /// The address in use.
    pub(super) fn url(&self) -> String {
        let address = self.listener.local_addr().unwrap_or(self.app.config.listen);
        format!("http://{address}")
    }

    /// Serves until `stop` resolves; then answers what is in flight, commits what was accepted, and returns.
    pub(super) async fn serve(self, stop: impl Future<Output = ()>) {
        raise_open_files();
        let router = http::router(&self.app);
        http::server::serve(self.listener, router, stop).await;
        let store = self.app.store.clone();
        drop(self.app);
        self.workers.finish().await;
        store.close().await;
    }
}

/// Connections are open files, and shells and service managers often allow 1,024 at first and far more when asked.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// Everything that a person needs next.
fn banner(running: &Running) -> String {
    let (app, url) = (&running.app, running.url());
    let path = app.config.webhook.paths.first().map_or("/webhooks/clerk", String::as_str);
    let mut text = format!("faircopy {}   {}", env!("CARGO_PKG_VERSION"), app.store.address());
    if let Some(instance) = &app.config.instance_id {
        text.push_str(&format!("   instance {instance}"));
    }
    text.push_str(&format!("\n  webhook    {url}{path}\n  health     {url}/readyz   metrics {url}/metrics\n"));
    text.push_str(&format!("  the API    {url}/docs\n"));
    if app.config.admin_token.is_some() {
        text.push_str(&format!("  dashboard  {url}/dashboard\n  admin API  {url}/admin/v1/deliveries\n"));
    }
    if app.config.webhook.secrets.is_empty() {
        text.push_str("  warning: no CLERK_WEBHOOK_SIGNING_SECRET is set, so every delivery is sent back (503)\n");
    }
    text.push_str(&format!("next: clerk webhooks listen --forward-to {url}{path}"));
    text
}

/// Secrets for development: random for each start, printed once.
fn make_up_secrets(config: &mut Config) -> Result<(), Failure> {
    if config.webhook.secrets.is_empty() {
        let text = made_up_signing_secret();
        config.webhook.secrets = vec![Secret::parse(&text).map_err(|error| Failure::Failed(error.to_string()))?];
        anstream::eprintln!("CLERK_WEBHOOK_SIGNING_SECRET={text}");
    }
    if config.admin_token.is_none() {
        let text = made_up_admin_token();
        anstream::eprintln!("FAIRCOPY_ADMIN_TOKEN={text}");
        config.admin_token = Some(text.into());
    }
    Ok(())
}

/// An admin token nobody else has.
pub(super) fn made_up_admin_token() -> String {
    app::random_bytes::<24>().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A signing secret nobody else has.
pub(super) fn made_up_signing_secret() -> String {
    format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(app::random_bytes::<32>()))
}

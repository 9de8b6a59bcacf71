//! `faircopy demo`: a local Clerk and the service in one process, a company that lives, and the proof that the copy is exact.

mod story;
mod telling;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use faircopy_core::signature::Names;
use faircopy_sandbox::clock::Movable;
use faircopy_sandbox::instance::Population;
use faircopy_sandbox::post::{self, NewEndpoint};
use faircopy_sandbox::{Sandbox, Settings, StartError, chaos};
use tokio::signal::unix::{SignalKind, signal};

use super::serve::{Running, made_up_admin_token, made_up_signing_secret, start};
use super::{Failure, Global};
use crate::app::{self, Clock as _, SystemClock};
use crate::config::{Config, Environment};
use crate::telemetry;
use story::Scene;

/// How many people and organizations the company has at first, and how many of them are in each organization.
const USERS: usize = 240;
const ORGANIZATIONS: usize = 24;
const MEMBERS: usize = 9;
/// The seed unless another is asked for: everyone sees the same company.
const DEFAULT_SEED: u64 = 1;
/// Where the sandbox is, or at a free port if that is taken.
const SANDBOX: ([u8; 4], u16) = ([127, 0, 0, 1], 8788);
/// The schedule of attempts is so much faster than Svix's: its first second attempt comes after 5 ms, the last after 100 s.
const SPEED: u32 = 1_000;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  faircopy demo\n  faircopy demo --once --seed 7\n\n\
    Exit codes: 0 the copy equals Clerk; 3 it does not; 1 something failed.")]
pub(super) struct Arguments {
    /// Exit after printing instead of serving on
    #[arg(long)]
    once: bool,
    /// Keep the database in this folder [default: a temporary one]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Which company is made up, and what happens to it
    #[arg(long, default_value_t = DEFAULT_SEED)]
    seed: u64,
    /// Address to serve on [default: 127.0.0.1:8787, or a free port if that is taken]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
}

pub(super) async fn run(arguments: Arguments, global: &Global) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let data_dir = arguments.data_dir.clone().unwrap_or_else(|| folder.path().to_owned());
    std::fs::create_dir_all(&data_dir)?;
    let database = data_dir.join("faircopy-demo.db");
    if database.exists() {
        let text = format!(
            "{} is there already; the demo wants a fresh database. Name another --data-dir.",
            database.display()
        );
        return Err(Failure::Usage(text));
    }
    let sandbox = start_sandbox(arguments.seed).await?;
    let secret = made_up_signing_secret();
    let config = config(&arguments, &database, &secret, &sandbox)?;
    telemetry::log_to_stderr(&config.log, config.log_format).map_err(Failure::Usage)?;
    let running = start_server(config, arguments.listen.is_some()).await?;
    let scene = Scene { app: running.app.clone(), url: running.url(), sandbox, secret, seed: arguments.seed };
    deliver_to(&scene)?;

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(running.serve(async { drop(stopped.await) }));
    let outcome = play(&scene, global).await;
    if outcome.is_ok() && !arguments.once {
        anstream::eprintln!("serving until Ctrl-C");
        until_stopped().await?;
    }
    let Scene { app, sandbox, .. } = scene;
    // The service ends when nobody holds it any more.
    drop(app);
    drop(stop);
    drop(server.await);
    sandbox.stop().await;
    outcome
}

/// Tells the story while it happens, and then how it ended.
async fn play(scene: &Scene, global: &Global) -> Result<(), Failure> {
    telling::opening(scene);
    let story = story::play(scene).await?;
    let counts = scene.app.store.counts().await?;
    telling::ending(scene, &story, &counts, global)?;
    if story.differences.is_empty() { Ok(()) } else { Err(Failure::Different) }
}

async fn until_stopped() -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}

/// A company that has been at Clerk for a year, and a mail that is not to be relied on.
async fn start_sandbox(seed: u64) -> Result<Sandbox, Failure> {
    let (host, port) = SANDBOX;
    let failed = |error: StartError| Failure::Failed(error.to_string());
    match Sandbox::start(settings(seed), clock(), (host, port).into()).await {
        Err(StartError::Listen(..)) => Sandbox::start(settings(seed), clock(), (host, 0).into()).await.map_err(failed),
        outcome => outcome.map_err(failed),
    }
}

fn clock() -> Arc<Movable> {
    Arc::new(Movable::new(Arc::new(|| SystemClock.now().0)))
}

fn settings(seed: u64) -> Settings {
    // A production instance: its rate limit lets the story pass in seconds.
    let key: String = app::random_bytes::<20>().iter().map(|byte| format!("{byte:02x}")).collect();
    let population = Population { users: USERS, organizations: ORGANIZATIONS, members: MEMBERS, seed };
    Settings {
        seed,
        secret_key: Some(format!("sk_live_{key}")),
        population: Some(population),
        schedule: post::Settings { speed: SPEED, ..post::Settings::default() },
        chaos: chaos::Settings { seed, deliveries: story::unreliable_mail(), ..chaos::Settings::default() },
        ..Settings::default()
    }
}

fn config(arguments: &Arguments, database: &Path, secret: &str, sandbox: &Sandbox) -> Result<Config, Failure> {
    let keys = sandbox.shared().keys();
    // The demo stands alone: no variable of this machine changes what it shows.
    let variables: HashMap<String, String> = [
        ("DATABASE_URL", format!("sqlite://{}", database.display())),
        ("CLERK_SECRET_KEY", keys.secret_key().to_owned()),
        ("CLERK_API_URL", sandbox.url().to_owned()),
        ("CLERK_JWT_ISSUER_DOMAIN", keys.issuer().to_owned()),
        ("CLERK_INSTANCE_ID", keys.instance_id().to_owned()),
        ("CLERK_WEBHOOK_SIGNING_SECRET", secret.to_owned()),
        ("FAIRCOPY_PROFILE_MODE", "full".to_owned()),
        ("FAIRCOPY_LOG", "warn".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let flags = crate::config::Flags { listen: arguments.listen.clone(), ..Default::default() };
    let mut config = Config::load(&flags, &Environment(variables))?;
    config.webhook.header_names = Names::Svix;
    // The dashboard is for whoever sits before this machine.
    config.admin_token = Some(made_up_admin_token().into());
    config.dashboard.is_open_here = true;
    Ok(config)
}

async fn start_server(mut config: Config, exactly: bool) -> Result<Running, Failure> {
    let free = tokio::net::TcpListener::bind(config.listen).await.is_ok();
    if !free && !exactly {
        config.listen.set_port(0);
    }
    start(config, SystemClock).await
}

/// Every change at Clerk is sent to the service from now on.
fn deliver_to(scene: &Scene) -> Result<(), Failure> {
    let endpoint = NewEndpoint { url: scene.webhook(), secret: Some(scene.secret.clone()), ..NewEndpoint::default() };
    let added = scene.sandbox.shared().with(|state, now| state.post.add_endpoint(endpoint, now));
    added.map(drop).map_err(|refused| Failure::Failed(refused.to_string()))
}

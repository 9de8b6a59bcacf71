//! `faircopy demo`: the whole product in one command, and the proof that it copied what was sent.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use faircopy_core::ProfileMode;
use faircopy_core::example::EXAMPLES;
use faircopy_core::signature::{Names, Secret};
use faircopy_store::{Address, Store};
use faircopy_world::{COMPANY_SPAN_MS, Event, Truth, company, shuffled};
use serde_json::json;
use tokio::task::JoinSet;

use super::serve::{Running, made_up_signing_secret, start};
use super::trigger::{Sender, message_id};
use super::{Failure, Global, output, status};
use crate::app::{Clock, SystemClock};
use crate::compare;
use crate::config::{Config, Database, Environment};
use crate::telemetry;

/// How many people and organizations the company has.
const USERS: usize = 240;
const ORGANIZATIONS: usize = 24;
/// Percentage of its deliveries that arrive twice.
const DUPLICATES: u8 = 25;
/// Senders at once, as many as Svix would use on a small endpoint.
const CONNECTIONS: usize = 16;
/// The seed unless another is asked for: everyone sees the same company.
const DEFAULT_SEED: u64 = 1;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  faircopy demo\n  faircopy demo --once --seed 7")]
pub(super) struct Arguments {
    /// Exit after printing instead of serving on
    #[arg(long)]
    once: bool,
    /// Keep the database in this folder [default: a temporary one]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// Which company is made up
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
    let signing_secret = made_up_signing_secret();
    let config = config(&arguments, database, &signing_secret)?;
    telemetry::log_to_stderr(&config.log, config.log_format).map_err(Failure::Usage)?;
    let running = start_somewhere(config, arguments.listen.is_some()).await?;
    let (url, store) = (running.url(), running.app.store.clone());
    let webhook = format!("{url}/webhooks/clerk");

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(running.serve(async { drop(stopped.await) }));
    let result = show(&arguments, global, &store, &webhook, &signing_secret).await;
    if let (Ok(()), false) = (&result, arguments.once) {
        anstream::eprintln!("\n{}", next_steps(&url, &store, &signing_secret));
        drop(tokio::signal::ctrl_c().await);
    }
    drop(stop);
    drop(server.await);
    result
}

fn config(arguments: &Arguments, database: PathBuf, signing_secret: &str) -> Result<Config, Failure> {
    // The demo stands alone: no setting of this machine changes what it shows.
    let mut config = Config::load(
        &crate::config::Flags { listen: arguments.listen.clone(), ..Default::default() },
        &Environment::default(),
    )?;
    config.database = Database(Address::Sqlite(database));
    config.webhook.secrets = vec![Secret::parse(signing_secret).map_err(|error| Failure::Failed(error.to_string()))?];
    config.webhook.header_names = Names::Svix;
    config.profile_mode = ProfileMode::Full;
    config.log = "warn".into();
    Ok(config)
}

async fn start_somewhere(mut config: Config, exactly: bool) -> Result<Running, Failure> {
    let free = tokio::net::TcpListener::bind(config.listen).await.is_ok();
    if !free && !exactly {
        config.listen.set_port(0);
    }
    start(config, SystemClock, true).await
}

async fn show(
    arguments: &Arguments,
    global: &Global,
    store: &Store,
    webhook: &str,
    secret: &str,
) -> Result<(), Failure> {
    let started = SystemClock.now();
    let (events, truth) = company(arguments.seed, USERS, ORGANIZATIONS, started.0 - COMPANY_SPAN_MS);
    let deliveries = shuffled(&events, arguments.seed, DUPLICATES);
    anstream::eprintln!(
        "A company of {USERS} people and {ORGANIZATIONS} organizations: {} events, {DUPLICATES} % of them twice, in random order,\n\
         and Clerk's {} example deliveries, all signed and sent to {webhook}",
        events.len(),
        EXAMPLES.len(),
    );
    let sender = Arc::new(Sender::new(
        webhook.to_owned(),
        Secret::parse(secret).map_err(|error| Failure::Failed(error.to_string()))?,
    )?);
    let sent = deliveries.len() + EXAMPLES.len();
    send_all(&sender, deliveries).await?;
    let differences = compare::with_truth(store, &truth).await?;
    for example in EXAMPLES {
        send(&sender, &message_id(), example.body.to_owned()).await?;
    }
    let seconds = (SystemClock.now().0 - started.0).max(1);
    let counts = store.counts().await?;
    if global.json {
        let mut value = json!(counts);
        value["differences"] = json!(differences);
        value["sent"] = json!(sent);
        output::json(&value)?;
    } else {
        anstream::println!("{}", status::describe(&counts));
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = sent as f64 * 1000.0 / seconds as f64;
        anstream::println!("{sent} deliveries in {:.1} s, {rate:.0} a second", seconds as f64 / 1000.0);
        anstream::println!("{}", verdict(&differences, &truth));
    }
    if differences.is_empty() { Ok(()) } else { Err(Failure::Different) }
}

fn verdict(differences: &[String], truth: &Truth) -> String {
    if differences.is_empty() {
        return format!(
            "copy = truth: {} users, {} organizations, {} members, {} invitations, every column compared",
            truth.users.len(),
            truth.organizations.len(),
            truth.members.len(),
            truth.invitations.len()
        );
    }
    format!("copy ≠ truth: {} differences\n  {}", differences.len(), differences.join("\n  "))
}

async fn send_all(sender: &Arc<Sender>, deliveries: Vec<Event>) -> Result<(), Failure> {
    let queue = Arc::new(tokio::sync::Mutex::new(deliveries.into_iter()));
    let mut senders: JoinSet<Result<(), Failure>> = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (sender, queue) = (sender.clone(), queue.clone());
        senders.spawn(async move {
            loop {
                let Some(event) = queue.lock().await.next() else { return Ok(()) };
                send(&sender, &event.svix_id, event.body).await?;
            }
        });
    }
    while let Some(done) = senders.join_next().await {
        done.map_err(|error| Failure::Failed(error.to_string()))??;
    }
    Ok(())
}

/// Sends until it is acknowledged, as Svix does, at most for half a minute.
async fn send(sender: &Sender, id: &str, body: String) -> Result<(), Failure> {
    const TRIES: u32 = 60;
    for _ in 0..TRIES {
        let reply = sender.send(id, SystemClock.now().0.div_euclid(1000), body.clone()).await?;
        match reply.status {
            200 => return Ok(()),
            503 => tokio::time::sleep(Duration::from_millis(500)).await,
            other => return Err(Failure::Failed(format!("a delivery was answered with {other}: {}", reply.answer))),
        }
    }
    Err(Failure::Failed("the server did not take a delivery within 30 seconds".into()))
}

fn next_steps(url: &str, store: &Store, secret: &str) -> String {
    let address = match store.address() {
        Address::Sqlite(path) => format!("sqlite://{}", path.display()),
        Address::Postgres(_) => store.address().to_string(),
    };
    format!(
        "Serving on until Ctrl-C.\n  webhook    {url}/webhooks/clerk\n  health     {url}/readyz   metrics {url}/metrics\n  \
         database   {address}\nnext: faircopy trigger user.updated --set data.first_name=Ada --url {url}/webhooks/clerk --secret {secret}"
    )
}

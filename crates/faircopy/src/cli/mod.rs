//! The command line: data on standard output, talk on standard error.
//!
//! Exit codes: 0 done, 1 failed, 2 bad usage or configuration, 3 differences found.

mod alerts;
mod backfill;
mod cascade;
mod clerk;
mod completions;
mod demo;
mod destinations;
mod doctor;
mod endpoint;
mod erasures;
mod explain;
mod migrate;
mod output;
mod reconcile;
mod replay;
mod rls;
mod sandbox;
mod serve;
mod status;
mod sweep;
mod trigger;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use faircopy_store::Store;

use crate::config::{Config, ConfigError, Environment, Flags};

/// An exact, durable copy of your Clerk users, organizations, memberships and invitations in your own database.
#[derive(Debug, Parser)]
#[command(name = "faircopy", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Start here:\n  faircopy demo                 see it work, with a local Clerk\n  \
    faircopy serve --dev          a server for development, with made-up secrets\n  \
    faircopy trigger user.created send a signed example event to it")]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, clap::Args)]
struct Global {
    /// Configuration file [default: faircopy.toml, where it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// sqlite://path or postgres://user@host/database [env: DATABASE_URL]
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// Print data as JSON on standard output
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See it work: a local Clerk and a server on a fresh database, and a company that lives
    Demo(demo::Arguments),
    /// Run the service: webhooks, API, background work
    Serve(serve::Arguments),
    /// Run a local stand-in for Clerk: its API, its tokens, its webhooks, and their faults
    Sandbox(sandbox::Arguments),
    /// Send a correctly signed example event to a running server
    Trigger(trigger::Arguments),
    /// Copy everything from Clerk's Backend API
    Backfill(backfill::Arguments),
    /// Find every difference between Clerk and the copy, and repair it
    Reconcile(reconcile::Arguments),
    /// What goes with an organization or a user, and the deletions that are under way
    Cascade(cascade::Arguments),
    /// Receipts of what left with deleted users
    Erasures(erasures::Arguments),
    /// The places that the copy goes on to: where they stand; stop them, go on, send again
    Destinations(destinations::Arguments),
    /// What trouble was told, and to whom; try the targets
    Alerts(alerts::Arguments),
    /// Apply stored deliveries again
    Replay(replay::Arguments),
    /// Why the copy holds what it holds: all that came of a user, an organization or a member, what won, what lost and why
    Explain(explain::Arguments),
    /// Show what the copy holds and what became of the deliveries
    Status(status::Arguments),
    /// What is wrong, and how to mend it: settings, database, Clerk, endpoint
    Doctor(doctor::Arguments),
    /// How to create the webhook endpoint in Clerk's dashboard, step by step
    Endpoint(endpoint::Arguments),
    /// Row-level security on PostgreSQL: does it hold?
    Rls(rls::Arguments),
    /// Apply schema migrations
    Migrate(migrate::Arguments),
    /// Print a completion script for a shell
    Completions(completions::Arguments),
}

/// Why a command ended without doing its work.
#[derive(Debug)]
enum Failure {
    /// Bad usage or configuration: exit code 2.
    Usage(String),
    /// Everything else: exit code 1.
    Failed(String),
    /// It was told on standard output already: exit code 1.
    Told,
    /// Differences were found and left: exit code 3.
    Different,
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<faircopy_store::Error> for Failure {
    fn from(error: faircopy_store::Error) -> Self {
        let advice = match &error {
            faircopy_store::Error::Unavailable(_) => "\n  Is the database running, and is DATABASE_URL right?",
            faircopy_store::Error::UnsafeDurability(_) => {
                "\n  Switch these on in postgresql.conf, or pass --allow-unsafe-durability if losing deliveries is fine."
            }
            faircopy_store::Error::Content(_) => {
                return Self::Usage(format!("{error}\n  See `content-tree-invalid` in docs/errors.md."));
            }
            faircopy_store::Error::ServerTooOld(_) => "\n  See `postgres-too-old` in docs/errors.md.",
            _ => "",
        };
        Self::Failed(format!("{error}{advice}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Refuses a database whose schema is not complete: for commands that read or change the copy, and never its schema.
async fn require_schema(store: &Store) -> Result<(), Failure> {
    if store.pending_migrations().await?.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed(format!("{} has no complete schema; run `faircopy migrate`", store.address())))
}

impl Global {
    fn flags(&self) -> Flags {
        Flags { config: self.config.clone(), database_url: self.database_url.clone(), ..Flags::default() }
    }

    fn config(&self) -> Result<Config, Failure> {
        self.config_with(&self.flags())
    }

    /// With flags that only one command has.
    fn config_with(&self, flags: &Flags) -> Result<Config, Failure> {
        Ok(Config::load(flags, &Environment::of_process())?)
    }
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    let cli = Cli::parse();
    let runtime =
        match tokio::runtime::Builder::new_multi_thread().enable_all().on_thread_start(stepping_back()).build() {
            Ok(runtime) => runtime,
            Err(error) => return report(Failure::Failed(format!("cannot start: {error}"))),
        };
    let result = runtime.block_on(run(cli));
    // Blocking work in flight (a name look-up) must not hold up the end.
    runtime.shutdown_background();
    result.map_or_else(report, |()| ExitCode::SUCCESS)
}

/// How much less of a busy processor a thread of the runtime asks for than the thread of the intake, as niceness.
#[cfg(target_os = "linux")]
const STEP_BACK: i32 = 2;

/// What each thread of the runtime does first: it lets the intake's go first, which is none of them. Where all cores are busy, every
/// sender waits for the commit that the intake makes, and nobody for the next request to be read
/// (docs/decisions/0008-one-turn-after-another.md). On Linux each thread has a niceness, which it inherits from whoever started it.
fn stepping_back() -> impl Fn() + Send + Sync + 'static {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        let niceness = getpriority_process(None).map(|own| own + STEP_BACK);
        move || {
            if let Err(error) = niceness.and_then(|niceness| setpriority_process(None, niceness)) {
                tracing::debug!(%error, "a thread of the runtime could not step back behind the intake's");
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    || {}
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { global, command } = cli;
    match command {
        Command::Demo(arguments) => demo::run(arguments, &global).await,
        Command::Serve(arguments) => serve::run(arguments, &global).await,
        Command::Sandbox(arguments) => sandbox::run(arguments, &global).await,
        Command::Trigger(arguments) => trigger::run(arguments, &global).await,
        Command::Backfill(arguments) => backfill::run(arguments, &global).await,
        Command::Reconcile(arguments) => reconcile::run(arguments, &global).await,
        Command::Cascade(arguments) => cascade::run(arguments, &global).await,
        Command::Erasures(arguments) => erasures::run(arguments, &global).await,
        Command::Destinations(arguments) => destinations::run(arguments, &global).await,
        Command::Alerts(arguments) => alerts::run(arguments, &global).await,
        Command::Replay(arguments) => replay::run(arguments, &global).await,
        Command::Explain(arguments) => explain::run(arguments, &global).await,
        Command::Status(arguments) => status::run(arguments, &global).await,
        Command::Doctor(arguments) => doctor::run(arguments, &global).await,
        Command::Endpoint(arguments) => endpoint::run(arguments, &global).await,
        Command::Rls(arguments) => rls::run(arguments, &global).await,
        Command::Migrate(arguments) => migrate::run(arguments, &global).await,
        Command::Completions(arguments) => completions::run(&arguments),
    }
}

fn report(failure: Failure) -> ExitCode {
    match failure {
        Failure::Usage(text) => {
            anstream::eprintln!("error: {text}");
            ExitCode::from(2)
        }
        Failure::Failed(text) => {
            anstream::eprintln!("error: {text}");
            ExitCode::from(1)
        }
        Failure::Told => ExitCode::from(1),
        Failure::Different => ExitCode::from(3),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent_and_every_command_has_an_example() {
        let mut command = super::Cli::command();
        command.build();
        command.clone().debug_assert();
        for command in command.get_subcommands().filter(|command| command.get_name() != "help") {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("faircopy "), "`{}` has no example", command.get_name());
        }
    }
}

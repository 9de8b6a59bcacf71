//! `faircopy alerts`.

use faircopy_core::Millis;
use faircopy_store::Store;
use serde_json::json;

use super::{Failure, Global, output, require_schema};
use crate::alerts::{self, Overview, Tested};
use crate::app::{Clock, SystemClock};
use crate::config::Config;
use crate::telemetry::Metrics;
use crate::upstream::alert::Target;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  faircopy alerts list\n  faircopy alerts test --target on-call\n  faircopy alerts acknowledge"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// What is and was told, newest first, and how those who are told answered
    #[command(after_help = "Examples:\n  faircopy alerts list\n  faircopy alerts list --json | jq .targets")]
    List,
    /// Send a message that says that it is a test to each target, or to one; exit code 1 if one did not take it
    #[command(after_help = "Examples:\n  faircopy alerts test\n  faircopy alerts test --target on-call")]
    Test(Test),
    /// Say that the quarantined deliveries are known: they stay, and are no finding any more
    #[command(after_help = "Example:\n  faircopy alerts acknowledge")]
    Acknowledge,
}

#[derive(Debug, clap::Args)]
struct Test {
    /// Only this one: its name in the settings
    #[arg(long, value_name = "NAME")]
    target: Option<String>,
}

pub(super) async fn run(arguments: Arguments, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let store = config.store();
    require_schema(&store).await?;
    let now = SystemClock.now();
    match arguments.command {
        Command::List => list(&config, &store, global).await,
        Command::Test(Test { target }) => test(&config, &store, target.as_deref(), now, global).await,
        Command::Acknowledge => acknowledge(&store, now, global).await,
    }
}

async fn list(config: &Config, store: &Store, global: &Global) -> Result<(), Failure> {
    let overview = alerts::overview(store, &config.alerts).await?;
    if global.json {
        return output::json(&overview);
    }
    anstream::print!("{}", describe(&overview));
    if overview.targets.is_empty() {
        anstream::eprintln!("Nobody is told: name somebody under [[alert]] in faircopy.toml (docs/operate.md).");
    }
    Ok(())
}

fn describe(overview: &Overview) -> String {
    let or_never = |at: &Option<Millis>| at.map_or_else(|| "never".to_owned(), |at| at.to_string());
    let alerts = overview.data.iter().map(|alert| {
        let over = alert.resolved_at.map_or_else(String::new, |at| at.to_string());
        let state = format!("{} ({})", alert.state, alert.severity);
        vec![alert.name.clone(), state, alert.since.to_string(), over, alert.detail.clone()]
    });
    let mut text = output::table(&["ALERT", "STATE", "SINCE", "OVER", "WHAT (docs/errors.md)"], alerts);
    let targets = overview.targets.iter().map(|target| {
        let how = format!("{}, from {}", target.format, target.minimum);
        let error = target.last_error.clone().unwrap_or_default();
        vec![target.name.clone(), target.url.clone(), how, or_never(&target.last_ok_at), error]
    });
    text.push('\n');
    text.push_str(&output::table(&["TARGET", "HOST", "TOLD", "LAST TOOK", "TROUBLE"], targets));
    text
}

async fn test(config: &Config, store: &Store, only: Option<&str>, now: Millis, global: &Global) -> Result<(), Failure> {
    let targets = Target::all(&config.alerts, &Metrics::install());
    let wanted: Vec<_> = targets.iter().filter(|target| only.is_none_or(|name| target.name() == name)).collect();
    if wanted.is_empty() {
        let named = only.map(|name| format!("no [[alert]] has the name `{name}`"));
        return Err(Failure::Usage(named.unwrap_or_else(|| "nobody is named under [[alert]] in faircopy.toml".into())));
    }
    let mut tested: Vec<Tested> = Vec::with_capacity(wanted.len());
    for target in wanted {
        tested.push(alerts::test(target, store, now).await?);
    }
    if global.json {
        output::json(&json!({ "targets": tested }))?;
    } else {
        let rows = tested.iter().map(|tested| {
            let status = tested.status.map_or_else(String::new, |status| status.to_string());
            vec![tested.target.clone(), status, tested.error.clone().unwrap_or_default()]
        });
        anstream::print!("{}", output::table(&["TARGET", "ANSWERED", "TROUBLE"], rows));
    }
    match tested.iter().filter(|tested| tested.error.is_some()).count() {
        0 => Ok(()),
        failed => Err(Failure::Failed(format!("{failed} of {} targets did not take the message", tested.len()))),
    }
}

async fn acknowledge(store: &Store, now: Millis, global: &Global) -> Result<(), Failure> {
    let until = alerts::acknowledge(store, now).await?;
    if global.json {
        return output::json(&json!({ "until": until }));
    }
    anstream::eprintln!(
        "Quarantined deliveries that arrived before {until} are known; `faircopy replay --failed` still finds them."
    );
    Ok(())
}

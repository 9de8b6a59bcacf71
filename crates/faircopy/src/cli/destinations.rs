//! `faircopy destinations`.

use std::io::{IsTerminal as _, stdin};

use faircopy_core::Millis;
use faircopy_store::{DestinationOrder, Store};

use super::{Failure, Global, output, require_schema};
use crate::app::{Clock, SystemClock};
use crate::config::Config;
use crate::destinations::{self, Detail, Shown, Unchanged};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  faircopy destinations list\n  faircopy destinations show crm\n  faircopy destinations pause crm\n  \
    faircopy destinations resume crm\n  faircopy destinations resend crm --yes"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Every destination, and where it stands
    #[command(after_help = "Examples:\n  faircopy destinations list\n  faircopy destinations list --json | jq .data")]
    List,
    /// One destination: what it lacks, why, and whose changes it did not take
    #[command(after_help = "Example:\n  faircopy destinations show crm")]
    Show(Name),
    /// Tell it nothing until it is resumed
    #[command(after_help = "Example:\n  faircopy destinations pause crm")]
    Pause(Name),
    /// Go on, and try at once what waits and what is parked
    #[command(after_help = "Example:\n  faircopy destinations resume crm")]
    Resume(Name),
    /// Tell it the change feed again after an earlier number: for one that was restored from a backup
    #[command(after_help = "Examples:\n  faircopy destinations rewind crm --to 1042 --dry-run\n  \
                            faircopy destinations rewind crm --to 1042 --yes")]
    Rewind(Rewind),
    /// Send it everything that the copy holds, and then tell it what the copy does not hold
    #[command(
        after_help = "Examples:\n  faircopy destinations resend crm --dry-run\n  faircopy destinations resend crm --yes"
    )]
    Resend(Resend),
}

#[derive(Debug, clap::Args)]
struct Name {
    /// Its name in the settings
    #[arg(value_name = "NAME")]
    name: String,
}

#[derive(Debug, clap::Args)]
struct Rewind {
    #[command(flatten)]
    of: Resend,
    /// The number of the change feed after which it is told everything again
    #[arg(long, value_name = "SEQUENCE", value_parser = clap::value_parser!(i64).range(0..))]
    to: i64,
}

#[derive(Debug, clap::Args)]
struct Resend {
    #[command(flatten)]
    name: Name,
    /// Say what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl From<Unchanged> for Failure {
    fn from(unchanged: Unchanged) -> Self {
        match unchanged {
            Unchanged::Store(error) => error.into(),
            other => Self::Failed(other.to_string()),
        }
    }
}

pub(super) async fn run(arguments: Arguments, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let store = config.store();
    require_schema(&store).await?;
    let place = At { config: &config, store: &store, now: SystemClock.now(), global };
    match arguments.command {
        Command::List => place.list().await,
        Command::Show(Name { name }) => place.show(&name).await,
        Command::Pause(Name { name }) => place.order(&name, DestinationOrder::Pause).await,
        Command::Resume(Name { name }) => place.order(&name, DestinationOrder::Resume).await,
        Command::Rewind(Rewind { of, to }) => {
            let before = place.detail(&of.name.name).await?.destination;
            let changes = before.place - to;
            if changes < 0 {
                return Err(Failure::Failed(format!(
                    "it has not been told so much yet: its place is {}",
                    before.place
                )));
            }
            let what = format!("`{}` is told {changes} changes again, from {to} on.", before.name);
            place.repeat(&of, &before, &what, DestinationOrder::Rewind(to)).await
        }
        Command::Resend(of) => {
            let before = place.detail(&of.name.name).await?.destination;
            let counts = store.counts().await?;
            let what = format!(
                "`{}` is sent everything: {} users, {} organizations, {} members, {} invitations, as far as it wants them.",
                before.name, counts.users, counts.organizations, counts.members, counts.invitations
            );
            place.repeat(&of, &before, &what, DestinationOrder::Resend).await
        }
    }
}

/// What every command works with.
struct At<'a> {
    config: &'a Config,
    store: &'a Store,
    now: Millis,
    global: &'a Global,
}

impl At<'_> {
    async fn list(&self) -> Result<(), Failure> {
        let overview = destinations::overview(self.store, &self.config.destinations, self.now).await?;
        if self.global.json {
            return output::json(&overview);
        }
        if overview.data.is_empty() {
            anstream::eprintln!(
                "The copy goes nowhere else: name a place under [[destination]] (docs/destinations.md)."
            );
            return Ok(());
        }
        let rows = overview.data.into_iter().map(|of| {
            let (behind, parked) = (behind(&of), of.parked.to_string());
            let trouble = of.last_error.unwrap_or_default();
            vec![of.name, of.kind, of.state.to_owned(), of.place.to_string(), behind, parked, trouble]
        });
        let header = ["NAME", "KIND", "STATE", "PLACE", "BEHIND", "PARKED", "TROUBLE"];
        anstream::print!("{}", output::table(&header, rows));
        Ok(())
    }

    async fn detail(&self, name: &str) -> Result<Detail, Failure> {
        let detail = destinations::detail(self.store, &self.config.destinations, name, self.now).await?;
        Ok(detail.ok_or(Unchanged::Unknown)?)
    }

    async fn show(&self, name: &str) -> Result<(), Failure> {
        let detail = self.detail(name).await?;
        if self.global.json {
            return output::json(&detail);
        }
        anstream::print!("{}", describe(&detail));
        Ok(())
    }

    async fn order(&self, name: &str, order: DestinationOrder) -> Result<(), Failure> {
        let after = destinations::carry_out(self.store, &self.config.destinations, name, order, self.now).await?;
        if self.global.json {
            return output::json(&after);
        }
        anstream::eprintln!("{name}: {}", after.state);
        Ok(())
    }

    /// Something that the destination is told once more: said first, and asked.
    async fn repeat(&self, of: &Resend, before: &Shown, what: &str, order: DestinationOrder) -> Result<(), Failure> {
        anstream::eprintln!("{what}");
        if of.dry_run {
            return if self.global.json { output::json(before) } else { Ok(()) };
        }
        if !of.yes {
            if !stdin().is_terminal() {
                return Err(Failure::Usage("say --yes: there is no terminal to ask on".into()));
            }
            anstream::eprintln!("Go on? Type `yes`.");
            let mut answer = String::new();
            stdin().read_line(&mut answer)?;
            if answer.trim() != "yes" {
                return Err(Failure::Failed("nothing is sent".into()));
            }
        }
        self.order(&before.name, order).await
    }
}

fn behind(of: &Shown) -> String {
    match (of.behind, of.resending_since) {
        (_, Some(_)) => "everything".to_owned(),
        (0, None) => "0".to_owned(),
        (changes, None) => format!("{changes} ({} s)", of.behind_seconds),
    }
}

fn describe(detail: &Detail) -> String {
    let Detail { destination: of, subjects } = detail;
    let mut text = format!("{}  {} {}\n", of.name, of.kind, of.url.as_deref().unwrap_or_default());
    let time = |at: Option<Millis>| at.map(|at| at.to_string());
    let facts = [
        ("state", Some(of.state.to_owned())),
        ("told of", Some(of.entities.join(", ")).filter(|entities| !entities.is_empty())),
        ("place", Some(of.place.to_string())),
        ("behind", Some(behind(of))),
        ("resending since", time(of.resending_since)),
        ("last took", time(of.last_ok_at)),
        ("failing since", time(of.failing_since)),
        ("trouble", of.last_error.clone()),
    ];
    for (what, fact) in facts {
        text.extend(fact.map(|fact| format!("  {what:<16} {fact}\n")));
    }
    if !subjects.is_empty() {
        let rows = subjects.iter().map(|waiting| {
            let due = waiting.due_at.map_or_else(|| "parked".to_owned(), |at| at.to_string());
            let attempts = waiting.attempts.to_string();
            vec![waiting.subject.clone(), waiting.sequence.to_string(), attempts, due, waiting.error.clone()]
        });
        text.push('\n');
        text.push_str(&output::table(&["SUBJECT", "CHANGE", "ATTEMPTS", "NEXT", "TROUBLE"], rows));
    }
    text
}

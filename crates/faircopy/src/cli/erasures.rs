//! `faircopy erasures`.

use std::io::IsTerminal as _;

use faircopy_store::{Erasure, Store};
use serde_json::json;

use super::{Failure, Global, output, require_schema};

/// Erasures that `list` shows unless asked for more.
const DEFAULT_LIMIT: i64 = 50;
/// And at most.
const MAX_LIMIT: i64 = 1_000;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  faircopy erasures list\n  faircopy erasures show user_2abc --json\n  faircopy erasures scrub --yes"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Users who left the stored deliveries, newest first
    #[command(after_help = "Example:\n  faircopy erasures list --json")]
    List {
        /// How many, 1 to 1000
        #[arg(long, value_name = "N", default_value_t = DEFAULT_LIMIT, value_parser = clap::value_parser!(i64).range(1..=MAX_LIMIT))]
        limit: i64,
    },
    /// One erasure: how far it is; in the end, its receipt
    #[command(after_help = "Example:\n  faircopy erasures show user_2abc")]
    Show {
        /// The user's id at Clerk
        #[arg(value_name = "USER")]
        user: String,
    },
    /// Write the tables anew, so that no page of them holds what was deleted. Nobody can use them meanwhile
    #[command(after_help = "Example:\n  faircopy erasures scrub --yes")]
    Scrub {
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

pub(super) async fn run(arguments: Arguments, global: &Global) -> Result<(), Failure> {
    let store = global.config()?.store();
    require_schema(&store).await?;
    match arguments.command {
        Command::List { limit } => list(&store, limit, global).await,
        Command::Show { user } => show(&store, &user, global).await,
        Command::Scrub { yes } => scrub(&store, yes, global).await,
    }
}

async fn list(store: &Store, limit: i64, global: &Global) -> Result<(), Failure> {
    let erasures = store.erasures_before(None, limit).await?;
    if global.json {
        return output::json(&json!({ "erasures": erasures }));
    }
    if erasures.is_empty() {
        anstream::eprintln!("No user has been erased.");
    }
    for erasure in &erasures {
        anstream::println!("{}  {}", erasure.clerk_user_id, state(erasure));
    }
    Ok(())
}

async fn show(store: &Store, user: &str, global: &Global) -> Result<(), Failure> {
    let unknown = || Failure::Failed(format!("no user was erased under the id {user}"));
    let erasure = store.erasure(user).await?.ok_or_else(unknown)?;
    if global.json {
        return output::json(&erasure);
    }
    anstream::println!("{}: {}", erasure.clerk_user_id, state(&erasure));
    anstream::println!("  begun                       {}", erasure.began_at);
    anstream::println!("  deliveries emptied          {}", erasure.emptied);
    anstream::println!("  deliveries redacted         {}", erasure.redacted);
    anstream::println!("  came later, stored without  {}", erasure.late);
    for (what, at) in [("nothing left since", &erasure.finished_at), ("bytes given up", &erasure.scrubbed_at)] {
        anstream::println!("  {what:<26}  {}", at.as_deref().unwrap_or("not yet"));
    }
    Ok(())
}

fn state(erasure: &Erasure) -> &'static str {
    match (&erasure.finished_at, &erasure.scrubbed_at) {
        (None, _) => "under way",
        (Some(_), None) => "erased; the freed bytes are still to be given up",
        (Some(_), Some(_)) => "done",
    }
}

async fn scrub(store: &Store, yes: bool, global: &Global) -> Result<(), Failure> {
    anstream::eprintln!(
        "The tables that held personal data are written anew. Until that is done nobody can read or write them, and as much free \
         space is needed as they have, on SQLite twice as much. PostgreSQL's write-ahead log and backups are not touched: see docs/data-protection.md."
    );
    if !yes {
        if !std::io::stdin().is_terminal() {
            return Err(Failure::Usage("say --yes: there is no terminal to ask on".into()));
        }
        anstream::eprintln!("Go on? Type `yes`.");
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        if answer.trim() != "yes" {
            return Err(Failure::Failed("nothing was done".into()));
        }
    }
    store.writer().rewrite().await?;
    if global.json {
        return output::json(&json!({ "rewritten": true }));
    }
    anstream::println!("Done.");
    Ok(())
}

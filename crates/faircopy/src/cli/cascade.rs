//! `faircopy cascade`.

use faircopy_core::cascade::tree::Target as Named;
use faircopy_store::{Cascade, Store};
use serde_json::json;

use super::{Failure, Global, output, require_schema};
use crate::app::{Clock, SystemClock};
use crate::cascade::{self, Deletion, Order, Receipt, Unchanged};
use crate::config::Config;
use crate::outside::Target;
use crate::telemetry::Metrics;

/// Deletions that `list` shows unless asked for more.
const DEFAULT_LIMIT: i64 = 50;
/// And at most.
const MAX_LIMIT: i64 = 1_000;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  faircopy cascade plan org_2abc\n  faircopy cascade list\n  faircopy cascade show org_2abc\n  \
    faircopy cascade cancel org_2abc"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// What would go with an organization or a user: rows by table, and what they have outside. Changes nothing
    #[command(after_help = "Example:\n  faircopy cascade plan org_2abc --json")]
    Plan(Id),
    /// Deletions, newest first
    #[command(after_help = "Examples:\n  faircopy cascade list\n  faircopy cascade list --open --json")]
    List(List),
    /// One deletion: how far it is, what went, what is left; in the end, its receipt
    #[command(after_help = "Example:\n  faircopy cascade show org_2abc")]
    Show(Id),
    /// Stop a deletion. Nothing is lost before its hold is over; later, what is gone is gone
    #[command(after_help = "Example:\n  faircopy cascade cancel org_2abc")]
    Cancel(Id),
    /// Let a paused or cancelled deletion go on, and steps that had no key
    #[command(after_help = "Examples:\n  faircopy cascade resume org_2abc\n  faircopy cascade resume --all")]
    Resume(Resume),
    /// Rooms at Liveblocks that no row has: reads the whole listing, changes nothing
    #[command(after_help = "Example:\n  faircopy cascade orphans --json")]
    Orphans,
}

#[derive(Debug, clap::Args)]
struct Id {
    /// The organization's or user's id at Clerk
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only those that are not done
    #[arg(long)]
    open: bool,
    /// How many, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = DEFAULT_LIMIT, value_parser = clap::value_parser!(i64).range(1..=MAX_LIMIT))]
    limit: i64,
}

#[derive(Debug, clap::Args)]
struct Resume {
    /// The organization's or user's id at Clerk
    #[arg(value_name = "ID", required_unless_present = "all")]
    id: Option<String>,
    /// Every deletion that is paused
    #[arg(long, conflicts_with = "id")]
    all: bool,
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
    match arguments.command {
        Command::Plan(Id { id }) => plan(&config, &store, &id, global).await,
        Command::List(list) => show_list(&store, &list, global).await,
        Command::Show(Id { id }) => show(&store, &id, global).await,
        Command::Cancel(Id { id }) => order(&store, &[id], Order::Cancel, global).await,
        Command::Resume(Resume { id: Some(id), .. }) => order(&store, &[id], Order::Resume, global).await,
        Command::Resume(Resume { id: None, .. }) => order(&store, &paused(&store).await?, Order::Resume, global).await,
        Command::Orphans => orphans(&config, &store, global).await,
    }
}

async fn show_list(store: &Store, list: &List, global: &Global) -> Result<(), Failure> {
    let found = store.cascades_before(None, list.open, list.limit).await?;
    let deletions: Vec<Deletion> = found.into_iter().map(Deletion::from).collect();
    if global.json {
        return output::json(&json!({ "deletions": deletions }));
    }
    if deletions.is_empty() {
        anstream::eprintln!("Nothing has been deleted{}.", if list.open { " that is not done" } else { "" });
        return Ok(());
    }
    let rows = deletions.into_iter().map(|deletion| {
        let state = match &deletion.reason {
            Some(reason) => format!("{} ({reason})", deletion.state),
            None => deletion.state.clone(),
        };
        vec![
            deletion.id,
            deletion.name.unwrap_or_default(),
            state,
            deletion.created_at,
            deletion.error.unwrap_or_default(),
        ]
    });
    anstream::print!("{}", output::table(&["ID", "NAME", "STATE", "SINCE", "TROUBLE"], rows));
    Ok(())
}

async fn show(store: &Store, id: &str, global: &Global) -> Result<(), Failure> {
    let receipt = cascade::receipt(store, id).await?.ok_or(Unchanged::Unknown)?;
    if global.json {
        return output::json(&receipt);
    }
    anstream::print!("{}", describe(&receipt));
    Ok(())
}

fn describe(receipt: &Receipt) -> String {
    let Receipt { deletion, removed, outside } = receipt;
    let name = deletion.name.as_ref().map(|name| format!("  {name}")).unwrap_or_default();
    let reason = deletion.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let is_watched = deletion.state == "deleting" && deletion.outside_gone_at.is_some();
    let watched = if is_watched { ": nothing is left, and it is looked for once more" } else { "" };
    let mut text = format!("{}{name}\n  {}{reason}{watched}\n", deletion.id, deletion.state);
    let facts = [
        ("told", Some(&deletion.created_at)),
        ("confirmed by Clerk", deletion.confirmed_at.as_ref()),
        ("rows gone", deletion.rows_gone_at.as_ref()),
        ("outside gone", deletion.outside_gone_at.as_ref()),
        ("done", deletion.finished_at.as_ref()),
        ("goes on", deletion.due_at.as_ref()),
        ("trouble", deletion.error.as_ref()),
    ];
    for (what, fact) in facts {
        text.extend(fact.map(|fact| format!("  {what:<19} {fact}\n")));
    }
    if !removed.is_empty() {
        let rows = removed.iter().map(|of| vec![of.table.clone(), of.rows.to_string()]);
        text.extend(["\n", &output::table(&["TABLE", "DELETED"], rows)]);
    }
    if !outside.is_empty() {
        let rows = outside.iter().map(|of| {
            let trouble = of.error.clone().unwrap_or_default();
            vec![of.target.clone(), of.state.clone(), of.steps.to_string(), of.attempts.to_string(), trouble]
        });
        text.extend(["\n", &output::table(&["OUTSIDE", "STATE", "IDS", "ATTEMPTS", "TROUBLE"], rows)]);
    }
    text
}

/// Every deletion that waits for a word.
async fn paused(store: &Store) -> Result<Vec<String>, Failure> {
    let mut paused = Vec::new();
    let mut last: Option<Cascade> = None;
    loop {
        let before = last.as_ref().map(|last| (last.job.created_at, last.subject.as_str()));
        let found = store.cascades_before(before, true, MAX_LIMIT).await?;
        let Some(end) = found.last().cloned() else { return Ok(paused) };
        let waits = |cascade: &Cascade| matches!(cascade.job.state, faircopy_core::cascade::State::Paused(_));
        paused.extend(found.into_iter().filter(waits).map(|cascade| cascade.subject));
        last = Some(end);
    }
}

async fn order(store: &Store, ids: &[String], order: Order, global: &Global) -> Result<(), Failure> {
    let mut changed = Vec::new();
    for id in ids {
        let cascade = cascade::carry_out(store, id, order, SystemClock.now()).await?;
        if !global.json {
            anstream::eprintln!("{id}: {}", cascade.job.state.name());
        }
        changed.push(Deletion::from(cascade));
    }
    if global.json {
        return output::json(&json!({ "deletions": changed }));
    }
    if ids.is_empty() {
        anstream::eprintln!("No deletion is paused.");
    }
    Ok(())
}

async fn plan(config: &Config, store: &Store, id: &str, global: &Global) -> Result<(), Failure> {
    let plan = cascade::plan(store, config, id).await?;
    if global.json {
        return output::json(&plan);
    }
    let rows: Vec<Vec<String>> = plan
        .rows
        .iter()
        .filter(|of| of.rows > 0)
        .map(|of| vec![of.table.clone(), format!("{}{}", of.rows, if of.is_at_least { " or more" } else { "" })])
        .collect();
    let ids: Vec<Vec<String>> = plan
        .outside
        .iter()
        .filter(|of| of.ids > 0)
        .map(|of| {
            let trouble = if of.has_key { "" } else { "no key: they would be left" };
            vec![of.target.clone(), of.pattern.clone(), of.ids.to_string(), trouble.to_owned()]
        })
        .collect();
    let (what, when) = (plan.kind.as_str(), if plan.is_live { "would go" } else { "is left to go" });
    if rows.is_empty() && ids.is_empty() {
        anstream::eprintln!("Nothing {when} with the {what} {id}.");
        return Ok(());
    }
    anstream::eprintln!("What {when} with the {what} {id}, in this order:");
    anstream::print!("{}", output::table(&["TABLE", "ROWS"], rows));
    if !ids.is_empty() {
        anstream::print!("\n{}", output::table(&["OUTSIDE", "FORM", "IDS", ""], ids));
    }
    match plan.hold_seconds {
        0 => anstream::eprintln!("At once: no hold is set ([cascade] hold_seconds)."),
        seconds => anstream::eprintln!("After a hold of {seconds} seconds, in which it can be cancelled."),
    }
    Ok(())
}

/// Reads the whole listing, and says which rooms have the form of one of the tree's ids and no row.
async fn orphans(config: &Config, store: &Store, global: &Global) -> Result<(), Failure> {
    let tree = &config.cascade.tree;
    let metrics = Metrics::install();
    let liveblocks = Target::all(config, &metrics).into_iter().find_map(|target| match target {
        Target::Liveblocks(liveblocks) => Some(liveblocks),
        Target::Step(_) => None,
    });
    let Some(liveblocks) = liveblocks else {
        return Err(Failure::Usage("which Liveblocks project? Set LIVEBLOCKS_SECRET_KEY".into()));
    };
    let (mut read, mut orphans, mut cursor) = (0_usize, Vec::new(), None::<String>);
    loop {
        let page = liveblocks.rooms(cursor.as_deref()).await;
        let page = page.map_err(|fault| Failure::Failed(format!("Liveblocks could not be read: {fault}")))?;
        read += page.rooms.len();
        for room in page.rooms {
            let claims = tree.claims(&Named::Liveblocks, &room.id);
            let mut is_claimed = claims.is_empty();
            for claim in claims {
                is_claimed = is_claimed || store.has_row(claim.node, &claim.reading).await?;
            }
            if !is_claimed {
                orphans.push((room.id, room.created_at.to_string()));
            }
        }
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    if global.json {
        let orphans: Vec<_> = orphans.iter().map(|(id, at)| json!({ "id": id, "created_at": at })).collect();
        return output::json(&json!({ "rooms": read, "orphans": orphans }));
    }
    anstream::eprintln!("{read} rooms, {} of them without a row.", orphans.len());
    if !orphans.is_empty() {
        anstream::print!("{}", output::table(&["ROOM", "MADE"], orphans.into_iter().map(|(id, at)| vec![id, at])));
    }
    Ok(())
}

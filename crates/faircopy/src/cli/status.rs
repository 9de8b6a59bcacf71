//! `faircopy status`.

use faircopy_store::{Counts, Store};
use serde_json::json;

use super::{Failure, Global, output};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  faircopy status\n  faircopy status --json | jq .users")]
pub(super) struct Arguments {}

pub(super) async fn run(_arguments: Arguments, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let store = Store::new(config.database.0.clone());
    if !store.pending_migrations().await?.is_empty() {
        return Err(Failure::Failed(format!("{} has no complete schema; run `faircopy migrate`", store.address())));
    }
    let counts = store.counts().await?;
    if global.json {
        let mut value = json!(counts);
        value["database"] = json!(store.address().to_string());
        return output::json(&value);
    }
    anstream::eprintln!("{}", store.address());
    anstream::print!("{}", describe(&counts));
    Ok(())
}

/// Both tables, for people.
pub(super) fn describe(counts: &Counts) -> String {
    let rows = [
        ("users", counts.users),
        ("organizations", counts.organizations),
        ("organization_members", counts.members),
        ("organization_invitations", counts.invitations),
    ];
    let mut text = output::table(&["TABLE", "ROWS"], rows.map(|(name, count)| vec![name.into(), count.to_string()]));
    text.push('\n');
    text.push_str(&output::table(
        &["OUTCOME", "DELIVERIES", "DUPLICATES"],
        counts.outcomes.iter().map(|o| vec![o.outcome.clone(), o.deliveries.to_string(), o.duplicates.to_string()]),
    ));
    let shown = |time: &Option<String>| time.clone().unwrap_or_else(|| "never".into());
    text.push_str(&format!(
        "\nchange feed at {}, last delivery {}, newest event {}\n",
        counts.sequence,
        shown(&counts.last_delivery_at),
        shown(&counts.last_event_at),
    ));
    text
}

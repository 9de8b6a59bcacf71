//! `faircopy status`.

use faircopy_store::{Counts, Finding, Freshness, Store};
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
    let (freshness, findings) = (store.freshness().await?, store.findings().await?);
    if global.json {
        let mut value = json!(counts);
        value["database"] = json!(store.address().to_string());
        value["as_of"] = json!(freshness.as_of);
        value["as_of_basis"] = json!(freshness.basis.as_str());
        value["findings"] = json!(findings);
        return output::json(&value);
    }
    anstream::eprintln!("{}", store.address());
    anstream::print!("{}{}", describe(&counts), trusted(&freshness, &findings));
    Ok(())
}

/// How far the copy can be trusted, for people.
fn trusted(freshness: &Freshness, findings: &[Finding]) -> String {
    let mut text = match freshness.as_of {
        Some(as_of) => format!("known complete up to {as_of} ({}: docs/freshness.md)\n", freshness.basis.as_str()),
        None => "nothing is known of how complete it is\n".to_owned(),
    };
    if !findings.is_empty() {
        text.push('\n');
        let row = |found: &Finding| vec![found.name.clone(), found.since.clone(), found.detail.clone()];
        text.push_str(&output::table(&["FINDING", "SINCE", "WHAT (docs/errors.md)"], findings.iter().map(row)));
    }
    text
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

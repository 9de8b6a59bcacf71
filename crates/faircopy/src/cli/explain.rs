//! `faircopy explain`.

use faircopy_core::Millis;

use super::{Failure, Global, output, require_schema};
use crate::app::{Clock, SystemClock};
use crate::explain::{self, ExplainedStep, Explanation, FORMS};

/// Of ids of messages so many characters tell them apart.
const ID_SHOWN: usize = 36;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  faircopy explain user_2abc\n  faircopy explain org_2abc/user_2def\n  \
    faircopy explain orgmem_2abc --as-of 2026-01-31T12:00:00Z\n  faircopy explain user_2abc --json | jq .steps")]
pub(super) struct Arguments {
    /// An id of Clerk's (user_…, org_…, orgmem_…, orginv_…), or a pair org_…/user_…
    #[arg(value_name = "CLERK-ID")]
    id: String,
    /// What the copy held then, as far as what is stored reaches
    #[arg(long, value_name = "TIME")]
    as_of: Option<String>,
}

pub(super) async fn run(arguments: Arguments, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let no_id = || Failure::Usage(format!("{:?} is no id of a subject; expected {FORMS}", arguments.id));
    let subject = explain::subject(&arguments.id).ok_or_else(no_id)?;
    let as_of = arguments.as_of.as_deref().map(|text| {
        Millis::parse(text).ok_or_else(|| Failure::Usage("--as-of expects a time such as 2026-01-31T12:00:00Z".into()))
    });
    let as_of = as_of.transpose()?;
    let store = config.store();
    require_schema(&store).await?;
    let found = explain::explain(&store, config.profile_mode, &subject, as_of, SystemClock.now()).await?;
    let Some(explanation) = found else {
        return Err(Failure::Failed(format!(
            "nothing was ever told of {subject}, as far as {} reaches\n  \
             Is it an id of the instance that is copied? `faircopy reconcile --dry-run` finds what Clerk has and the copy has not.",
            store.address()
        )));
    };
    if global.json {
        return output::json(&explanation);
    }
    show(&explanation)
}

fn show(explanation: &Explanation) -> Result<(), Failure> {
    let header = ["time", "source", "svix-id", "event", "version", "outcome", "reason"];
    if explanation.older > 0 {
        anstream::eprintln!("{} older deliveries are not shown.", explanation.older);
    }
    if explanation.steps.is_empty() {
        anstream::eprintln!("Nothing that is stored had come by then.");
    } else {
        anstream::print!("{}", output::table(&header, explanation.steps.iter().map(line)));
    }
    anstream::println!();
    match &explanation.row {
        None => anstream::println!("{}: no row{}", explanation.subject, when(explanation)),
        Some(row) => {
            anstream::println!("{}{}:", explanation.subject, when(explanation));
            let known = row.iter().filter(|(_, value)| !value.is_null());
            let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
            let lines = known.map(|(column, value)| vec![format!("  {column}"), text(value)]);
            anstream::print!("{}", output::table(&["  column", "value"], lines));
        }
    }
    anstream::println!();
    anstream::println!("{}", completeness(explanation));
    anstream::println!("{}", agreement(explanation));
    Ok(())
}

fn line(step: &ExplainedStep) -> Vec<String> {
    let id: String = step.svix_id.as_deref().unwrap_or("-").chars().take(ID_SHOWN).collect();
    let version = step.updated_at.map_or_else(|| "-".to_owned(), |at| at.to_string());
    vec![
        step.at.to_string(),
        step.source.clone(),
        id,
        step.event_type.clone(),
        version,
        step.outcome.to_owned(),
        step.reason.clone(),
    ]
}

fn when(explanation: &Explanation) -> String {
    explanation.as_of.map_or_else(|| " now".to_owned(), |at| format!(" at {at}"))
}

fn completeness(explanation: &Explanation) -> String {
    match explanation.complete_since {
        Some(since) if explanation.is_complete => format!("complete: nothing is missing since {since}"),
        Some(since) => format!("not complete for that time: only from {since} on nothing is missing"),
        None => "not complete: something came before what is stored, or is not kept any more".to_owned(),
    }
}

fn agreement(explanation: &Explanation) -> String {
    let columns = explanation.differs.join(", ");
    match explanation.verdict {
        "agrees" => "the copy's row is what is explained".to_owned(),
        "damaged" => format!(
            "the copy's row is NOT what is explained ({columns}): somebody else has changed it.\n  \
             `faircopy replay` or `faircopy reconcile` mends it."
        ),
        _ => format!(
            "the copy's row is not what is explained ({columns}): it knows something that is not stored any more.\n  \
             `faircopy reconcile` says whether it is what Clerk has."
        ),
    }
}

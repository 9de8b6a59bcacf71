//! `faircopy status`.

use faircopy_store::{CascadesStanding, Counts, Finding, Freshness, Store, Swept, Validated};
use serde_json::json;

use super::{Failure, Global, clerk, output, require_schema};
use crate::app::{Clock, SystemClock};
use crate::config::Config;
use crate::upstream::clerk::{Clerk, Share};

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  faircopy status\n  faircopy status --json | jq .users\n  \
    faircopy status --check    exit 3 if anything is found")]
pub(super) struct Arguments {
    /// Look for what cannot be: orphans, duplicates, rows against what the merge knows, gaps, counts against Clerk
    #[arg(long)]
    check: bool,
}

pub(super) async fn run(arguments: Arguments, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let store = config.store();
    require_schema(&store).await?;
    if arguments.check {
        return check(&config, &store, global).await;
    }
    let counts = store.counts().await?;
    let (freshness, findings) = (store.freshness().await?, store.findings().await?);
    let jobs = store.cascades_standing().await?;
    if global.json {
        let mut value = json!(counts);
        value["database"] = json!(store.address().to_string());
        value["as_of"] = json!(freshness.as_of);
        value["as_of_basis"] = json!(freshness.basis.as_str());
        value["findings"] = json!(findings);
        value["jobs"] = json!(jobs);
        return output::json(&value);
    }
    anstream::eprintln!("{}", store.address());
    anstream::print!("{}{}{}", describe(&counts), under_way(&jobs), trusted(&freshness, &findings));
    Ok(())
}

/// Deletions that are not done, for people.
fn under_way(jobs: &[CascadesStanding]) -> String {
    let one = |of: &CascadesStanding| match &of.reason {
        Some(reason) => format!("{} {} ({reason})", of.jobs, of.state),
        None => format!("{} {}", of.jobs, of.state),
    };
    let all: Vec<String> = jobs.iter().map(one).collect();
    if all.is_empty() { String::new() } else { format!("deletions: {} (`faircopy cascade list`)\n", all.join(", ")) }
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

/// One total of Clerk's beside the copy's.
#[derive(Debug, serde::Serialize)]
struct Compared {
    check: &'static str,
    /// `ok`, `finding`, or `unknown` where Clerk gave no number.
    status: &'static str,
    copy: i64,
    clerk: Option<i64>,
    /// Why there is no number.
    error: Option<String>,
    advice: &'static str,
}

/// Runs the queries that validate the copy, and counts it against Clerk where there is a key.
async fn check(config: &Config, store: &Store, global: &Global) -> Result<(), Failure> {
    let now = SystemClock.now();
    let checks = store.validate(now).await?;
    let compared = match clerk::client(config).await {
        Some(clerk) => compare(store, &clerk).await?,
        None => Vec::new(),
    };
    let findings = checks.iter().filter(|check| check.count > 0).count()
        + compared.iter().filter(|compared| compared.status == "finding").count();
    let unknown = compared.iter().filter(|compared| compared.status == "unknown").count();
    if global.json {
        let status = |check: &Validated| {
            let mut value = json!(check);
            value["status"] = json!(if check.count == 0 { "ok" } else { "finding" });
            value
        };
        output::json(&json!({
            "database": store.address().to_string(),
            "checked_at": now.to_string(),
            "findings": findings,
            "unknown": unknown,
            "checks": checks.iter().map(status).collect::<Vec<_>>(),
            "clerk": compared,
        }))?;
    } else {
        anstream::eprintln!("{}", store.address());
        anstream::print!("{}", report(&checks, &compared));
    }
    match (findings, unknown) {
        (0, 0) => Ok(()),
        (0, _) => {
            Err(Failure::Failed("the copy is whole in itself; Clerk could not be asked how many there are".into()))
        }
        _ => Err(Failure::Different),
    }
}

/// Clerk's totals beside the copy's. What is committed while Clerk is asked is no difference, so the copy is counted before and
/// after.
async fn compare(store: &Store, clerk: &Clerk) -> Result<Vec<Compared>, Failure> {
    const ADVICE: &str = "look again once deliveries have arrived (`faircopy status`); if it stays, the copy lacks what no \
        delivery has told, or has what was deleted unheard: reconcile.";
    let kinds = [
        ("count-users", Swept::User),
        ("count-organizations", Swept::Organization),
        ("count-members", Swept::Member),
        ("count-invitations", Swept::Invitation),
    ];
    let rows = |counts: &Counts, kind| match kind {
        Swept::User => counts.users,
        Swept::Organization => counts.organizations,
        Swept::Member => counts.members,
        Swept::Invitation => counts.invitations,
    };
    let mut compared = Vec::with_capacity(kinds.len());
    let mut before = store.counts().await?;
    for (check, kind) in kinds {
        let answer = clerk.count(kind, Share::Background).await;
        let after = store.counts().await?;
        let (earlier, later) = (rows(&before, kind), rows(&after, kind));
        let status = match &answer {
            Ok(answer) if (earlier.min(later)..=earlier.max(later)).contains(&answer.found) => "ok",
            Ok(_) => "finding",
            Err(_) => "unknown",
        };
        compared.push(Compared {
            check,
            status,
            copy: later,
            clerk: answer.as_ref().ok().map(|answer| answer.found),
            error: answer.err().map(|fault| fault.to_string()),
            advice: ADVICE,
        });
        before = after;
    }
    Ok(compared)
}

/// Every check and what it found, then what to do about the findings.
fn report(checks: &[Validated], compared: &[Compared]) -> String {
    let word = |is_fine| if is_fine { "ok" } else { "FINDING" };
    let queries = checks.iter().map(|check| {
        let more = if check.count > check.examples.len() as i64 { ", …" } else { "" };
        let examples = format!("{}{more}", check.examples.join(", "));
        vec![check.check.into(), word(check.count == 0).into(), check.count.to_string(), examples]
    });
    let totals = compared.iter().map(|total| {
        let (result, count, detail) = match (&total.clerk, &total.error) {
            (Some(clerk), _) => {
                let detail = format!("the copy has {}, Clerk {clerk}", total.copy);
                (word(total.status == "ok"), (clerk - total.copy).abs().to_string(), detail)
            }
            (None, error) => ("unknown", String::new(), error.clone().unwrap_or_default()),
        };
        vec![total.check.into(), result.into(), count, detail]
    });
    let mut text = output::table(&["CHECK", "RESULT", "COUNT", "EXAMPLES"], queries.chain(totals));
    for check in checks.iter().filter(|check| check.count > 0) {
        text.push_str(&format!("\n{}: {}.\n  What to do: {}\n", check.check, check.finds, check.advice));
    }
    for total in compared.iter().filter(|total| total.status == "finding") {
        text.push_str(&format!("\n{}: the copy and Clerk differ.\n  What to do: {}\n", total.check, total.advice));
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
        ("workspaces", counts.workspaces),
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

//! `faircopy reconcile`.

use super::{Failure, Global, sweep};
use crate::sweep::{DEFAULT_GRACE_MS, Ending, MAX_GRACE_SECONDS, Order};
use crate::upstream::clerk::Share;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  faircopy reconcile --dry-run\n  faircopy reconcile --grace 0   nothing else is writing\n\n\
    Exit codes: 0 the copy is exact, now or after the repair; 3 differences were found and left, by a dry run or a guard \
    that is named; 1 Clerk or the database could not be read."
)]
pub(super) struct Arguments {
    /// Report differences and change nothing
    #[arg(long)]
    dry_run: bool,
    /// How long a row that Clerk's lists lack must be absent before it goes
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_GRACE_MS / 1000,
        value_parser = clap::value_parser!(i64).range(0..=MAX_GRACE_SECONDS))]
    grace: i64,
    /// Remove what is gone even if it is much, or if lists shrank while they were read
    #[arg(long)]
    force: bool,
}

pub(super) async fn run(arguments: Arguments, global: &Global) -> Result<(), Failure> {
    let Arguments { dry_run, grace, force } = arguments;
    let order = Order { dry_run, grace_ms: grace * 1000, force, ..Order::reconcile() };
    let report = Box::pin(sweep::run(order, Share::Background, global)).await?;
    sweep::print(&report, global)?;
    match report.outcome {
        Some(Ending::Exact | Ending::Repaired) => Ok(()),
        Some(Ending::Differences) | None => Err(Failure::Different),
    }
}

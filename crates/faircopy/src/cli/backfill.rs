//! `faircopy backfill`.

use super::{Failure, Global, sweep};
use crate::sweep::Order;
use crate::upstream::clerk::Share;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  CLERK_SECRET_KEY=sk_live_… faircopy backfill\n  \
    faircopy backfill --json > report.json\n\nIt may run beside a server and while deliveries arrive. Killed, it goes on where it was.")]
pub(super) struct Arguments {}

pub(super) async fn run(_arguments: Arguments, global: &Global) -> Result<(), Failure> {
    let report = Box::pin(sweep::run(Order::backfill(), Share::Operator, global)).await?;
    sweep::print_backfill(&report, global)
}

//! `faircopy migrate`.

use serde_json::json;

use super::{Failure, Global, output};
use crate::app::{self, Clock, SystemClock};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  faircopy migrate\n  faircopy migrate --check    exit 1 if any migration is pending"
)]
pub(super) struct Arguments {
    /// Only say what is pending; exit 1 if anything is
    #[arg(long)]
    check: bool,
}

pub(super) async fn run(arguments: Arguments, global: &Global) -> Result<(), Failure> {
    let config = global.config()?;
    let store = config.store();
    let migrations = if arguments.check {
        store.pending_migrations().await?
    } else {
        let mut writer = store.writer();
        let applied = writer.migrate(SystemClock.now()).await?;
        app::settle_workspaces(&mut writer, SystemClock.now()).await?;
        applied
    };
    let word = if arguments.check { "pending" } else { "applied" };
    if global.json {
        let list: Vec<_> = migrations.iter().map(|m| json!({ "version": m.version, "name": m.name })).collect();
        output::json(&json!({ word: list }))?;
    } else {
        for migration in &migrations {
            anstream::println!("{:04} {}  {word}", migration.version, migration.name);
        }
        if migrations.is_empty() {
            anstream::eprintln!("The schema is complete: {}", store.address());
        }
    }
    if arguments.check && !migrations.is_empty() {
        return Err(Failure::Failed(format!("{} pending; run `faircopy migrate`", migrations.len())));
    }
    Ok(())
}

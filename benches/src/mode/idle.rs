//! `--idle`: time from start to ready on an existing database, and memory without load.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use super::{open, settings};
use crate::args::Args;
use crate::contestant::{Contestant, Server};
use crate::database::Database;
use crate::procfs;
use crate::round::{self, Settings};
use crate::summary::Spread;

/// How long a process is left alone before its memory is read.
const REST: Duration = Duration::from_secs(5);

pub(super) fn run(args: &Args) -> Result<()> {
    let contestants = args.contestants(&Contestant::RECEIVERS);
    let (arena, mut report) = open(args, "Start and rest", &contestants)?;
    // One short load makes each database an existing one.
    let short = Settings { warm_up: Duration::ZERO, window: Duration::from_secs(1), ..settings(args) };
    let mut databases = Vec::new();
    for &contestant in &contestants {
        let database = Database::create(&arena, contestant)?;
        round::run_on(&arena, &database, &short)?;
        databases.push(database);
    }
    let mut figures: BTreeMap<Contestant, [Vec<f64>; 2]> = BTreeMap::new();
    for number in 1..=args.rounds {
        eprintln!("round {number} of {}", args.rounds);
        for database in &databases {
            let server = Server::start(&arena, database.contestant(), &database.url()?)?;
            std::thread::sleep(REST);
            let [ready, memory] = figures.entry(database.contestant()).or_default();
            ready.push(server.ready_after.as_secs_f64() * 1000.0);
            memory.push(round::count(procfs::resident(server.pid())?) / (1024.0 * 1024.0));
        }
    }
    let mut rows = Vec::new();
    for (contestant, figures) in figures {
        let [ready, memory] = figures.map(Spread::of);
        rows.push(vec![contestant.title().to_owned(), ready.show(0), memory.show(1)]);
        report.data(contestant.name(), json!({ "ready_ms": ready, "idle_mib": memory }));
    }
    report.table(&["", "start to ready, ms", "resident after 5 s, MiB"], &rows);
    report.note(
        "The database holds a second of deliveries and was left by SIGKILL. Time runs from the spawn of the process \
         to the first 200 of its ready path, asked every millisecond.",
    );
    report.finish(args)
}

//! `--replicas N`: several processes on one Postgres that update the same few users.

use anyhow::{Result, ensure};

use super::{open, settings};
use crate::args::Args;
use crate::contestant::Contestant;
use crate::round::{self, Settings};
use crate::summary::{Ratio, Summary};
use faircopy_bench::delivery::Subjects;

/// Few enough that every batch of every process meets the others' rows.
const HOT_USERS: u64 = 100;

pub(super) fn run(args: &Args, processes: usize) -> Result<()> {
    let contestants = args.contestants(&[Contestant::FaircopyPostgres]);
    ensure!(contestants.iter().all(|contestant| contestant.on_postgres()), "--replicas is for contestants on Postgres");
    ensure!((1..=args.connections).contains(&processes), "--replicas needs a connection for each process");
    let (arena, mut report) = open(args, "Several processes on one Postgres", &contestants)?;
    let one = Settings { subjects: Subjects::Hot { users: HOT_USERS }, ..settings(args) };
    let several = Settings { processes, ..one };
    let (mut summaries, mut ratios, mut deadlocks) = (Vec::new(), Vec::new(), 0);
    for contestant in contestants {
        let (mut alone, mut together) = (Vec::new(), Vec::new());
        for number in 1..=args.rounds {
            eprintln!("round {number} of {}: one process, then {processes}", args.rounds);
            alone.push(round::run(&arena, contestant, &one)?);
            together.push(round::run(&arena, contestant, &several)?);
        }
        let [first, second] = [1, processes].map(|count| format!("{}, {count} ×", contestant.title()));
        ratios.push(Ratio::of(&second, &together, &first, &alone));
        report.keep(&alone);
        report.keep(&together);
        for (name, rounds) in [(first, alone), (second, together)] {
            let summary = Summary::of(&rounds);
            deadlocks += summary.deadlocks;
            summaries.push((name, summary));
        }
    }
    report.summaries(&summaries);
    report.ratios(&ratios);
    report.note(format!(
        "All deliveries update the same {HOT_USERS} users; the {} connections are spread over the processes. Postgres \
         counted {deadlocks} deadlocks. Memory is the sum over the processes.",
        args.connections
    ));
    report.finish(args)
}

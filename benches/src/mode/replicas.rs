//! `--replicas N`: several processes on one Postgres that update the same few users, beside one, and beside as many that share
//! nothing.

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
    let connections = args.connections;
    let arrangements = [
        ("one".to_owned(), one),
        (format!("{processes} with {connections} connections in all"), Settings { processes, ..one }),
        (
            format!("{processes} with {connections} connections each"),
            Settings { processes, connections: processes * connections, ..one },
        ),
        (
            format!("{processes} with {connections} in all and a database each"),
            Settings { processes, apart: true, ..one },
        ),
    ];
    let (mut summaries, mut ratios, mut deadlocks) = (Vec::new(), Vec::new(), 0);
    for contestant in contestants {
        let mut rounds = arrangements.each_ref().map(|_| Vec::new());
        for number in 1..=args.rounds {
            for ((name, settings), rounds) in arrangements.iter().zip(&mut rounds) {
                eprintln!("round {number} of {}: {name}", args.rounds);
                rounds.push(round::run(&arena, contestant, settings)?);
            }
        }
        let names = arrangements.each_ref().map(|(name, _)| format!("{}: {name}", contestant.title()));
        for (name, others) in names.iter().zip(&rounds).skip(1) {
            ratios.push(Ratio::of(name, others, &names[0], &rounds[0]));
        }
        for (name, rounds) in names.into_iter().zip(&rounds) {
            report.keep(rounds);
            let summary = Summary::of(rounds);
            deadlocks += summary.deadlocks;
            summaries.push((name, summary));
        }
    }
    report.summaries(&summaries);
    report.ratios(&ratios);
    report.note(format!(
        "All deliveries update the same {HOT_USERS} users; the connections are spread over the processes. Postgres \
         counted {deadlocks} deadlocks. Memory is the sum over the processes. Processes with a database each share \
         nothing but the machine and the Postgres: they show what several cost here without taking turns."
    ));
    report.finish(args)
}

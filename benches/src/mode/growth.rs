//! `--growth`: throughput with full tables beside throughput with empty ones.

use anyhow::Result;

use super::{open, settings};
use crate::args::Args;
use crate::contestant::{Contestant, Server};
use crate::database::Database;
use crate::fill;
use crate::round::{self, Settings};
use crate::summary::{Ratio, Summary};
use faircopy_bench::delivery::Subjects;

pub(super) fn run(args: &Args) -> Result<()> {
    let contestants = args.contestants(&[Contestant::FaircopyPostgres, Contestant::FaircopySqlite]);
    let (arena, mut report) = open(args, "Full tables beside empty ones", &contestants)?;
    let subjects = Subjects::Stored { users: args.prefill_users.max(1) };
    let settings = Settings { subjects, ..settings(args) };
    let (mut summaries, mut ratios) = (Vec::new(), Vec::new());
    for contestant in contestants {
        let filled = Database::create(&arena, contestant)?;
        drop(Server::start(&arena, contestant, &filled.url()?)?);
        fill::fill(&filled, args.prefill_users, args.prefill_deliveries)?;
        eprintln!(
            "once before the rounds, uncounted: what the fill has pushed out of the page cache is read from the disk"
        );
        round::run_on(&arena, &filled, &settings)?;
        let (mut empty_rounds, mut full_rounds) = (Vec::new(), Vec::new());
        for number in 1..=args.rounds {
            eprintln!("round {number} of {}: empty, then full", args.rounds);
            empty_rounds.push(round::run(&arena, contestant, &settings)?);
            full_rounds.push(round::run_on(&arena, &filled, &settings)?);
        }
        let [empty, full] = ["empty", "full"].map(|state| format!("{}, {state}", contestant.title()));
        ratios.push(Ratio::of(&full, &full_rounds, &empty, &empty_rounds));
        report.keep(&empty_rounds);
        report.keep(&full_rounds);
        summaries.push((empty, Summary::of(&empty_rounds)));
        summaries.push((full, Summary::of(&full_rounds)));
    }
    report.summaries(&summaries);
    report.ratios(&ratios);
    report.note(format!(
        "Full: {} users and {} deliveries of about 3 KB, of the last 80 days, written by SQL, vacuumed, analyzed and under load \
         once before the rounds; later rounds find the rows of earlier ones too. Every other delivery updates a stored user chosen at random, the \
         others create users. On the empty database the same deliveries arrive.",
        args.prefill_users, args.prefill_deliveries
    ));
    report.finish(args)
}

//! The usual mode: all contestants, one after the other, round by round.

use std::collections::BTreeMap;

use anyhow::Result;

use super::{open, settings};
use crate::args::Args;
use crate::contestant::Contestant;
use crate::round::{self, Round};
use crate::summary::{Ratio, Summary};

/// Who is held against whom.
const PAIRS: [(Contestant, Contestant); 3] = [
    (Contestant::FaircopyPostgres, Contestant::Plain),
    (Contestant::FaircopyPostgres, Contestant::Best),
    (Contestant::FaircopySqlite, Contestant::SqlitePeer),
];

pub(super) fn run(args: &Args) -> Result<()> {
    let contestants = args.contestants(&Contestant::RECEIVERS);
    let (arena, mut report) = open(args, "Faircopy beside its peers", &contestants)?;
    let mut rounds: BTreeMap<Contestant, Vec<Round>> = BTreeMap::new();
    for number in 1..=args.rounds {
        eprintln!("round {number} of {}", args.rounds);
        for &contestant in &contestants {
            rounds.entry(contestant).or_default().push(round::run(&arena, contestant, &settings(args))?);
        }
    }
    let title = |contestant: Contestant| contestant.title().to_owned();
    let summaries: Vec<_> = rounds.iter().map(|(&name, rounds)| (title(name), Summary::of(rounds))).collect();
    report.summaries(&summaries);
    report.ratios(&pairs(&rounds));
    rounds.values().for_each(|rounds| report.keep(rounds));
    report.note(format!(
        "{} keep-alive connections with one delivery each in flight; distinct users, about 3 KB a delivery; {} s \
         measured after {} s of warm-up, on a fresh database each time.",
        args.connections, args.seconds, args.warm_up
    ));
    report.note(
        "Only answers 200 count. After each round the contestant was killed (SIGKILL), and its audit table then held \
         exactly the acknowledged deliveries, and its user table their users.",
    );
    report.note("Ratios are taken round by round; below 1 in the CPU column means that Faircopy needs less.");
    report.finish(args)
}

fn pairs(rounds: &BTreeMap<Contestant, Vec<Round>>) -> Vec<Ratio> {
    let pair = |&(one, other): &(Contestant, Contestant)| {
        Some(Ratio::of(one.title(), rounds.get(&one)?, other.title(), rounds.get(&other)?))
    };
    PAIRS.iter().filter_map(pair).collect()
}

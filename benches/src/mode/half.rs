//! `--half`: latency at half of each contestant's own maximum.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::json;

use super::{open, settings};
use crate::args::Args;
use crate::contestant::Contestant;
use crate::load::Arrivals;
use crate::round::{self, Round, Settings};
use crate::summary::Summary;

pub(super) fn run(args: &Args) -> Result<()> {
    let contestants = args.contestants(&[Contestant::FaircopyPostgres, Contestant::FaircopySqlite]);
    let (arena, mut report) = open(args, "Latency at half of the maximum", &contestants)?;
    let mut rounds: BTreeMap<Contestant, [Vec<Round>; 2]> = BTreeMap::new();
    for number in 1..=args.rounds {
        eprintln!("round {number} of {}", args.rounds);
        for &contestant in &contestants {
            let full = round::run(&arena, contestant, &settings(args))?;
            let arrivals = Arrivals::Fixed { per_second: full.per_second / 2.0 };
            let half = round::run(&arena, contestant, &Settings { arrivals, ..settings(args) })?;
            let [fulls, halves] = rounds.entry(contestant).or_default();
            fulls.push(full);
            halves.push(half);
        }
    }
    let mut rows = Vec::new();
    for (contestant, [fulls, halves]) in &rounds {
        report.keep(fulls);
        report.keep(halves);
        let (full, half) = (Summary::of(fulls), Summary::of(halves));
        rows.push(vec![
            contestant.title().to_owned(),
            full.per_second.show(0),
            half.per_second.show(0),
            half.p50_ms.show(2),
            half.p99_ms.show(2),
            half.cpu.show(2),
        ]);
        report.data(contestant.name(), json!({ "maximum": full, "half": half }));
    }
    let header = ["", "maximum a second", "at half of it: answered a second", "p50 ms", "p99 ms", "CPU-s per 10,000"];
    report.table(&header, &rows);
    report.note(format!(
        "The maximum is that of a closed loop over {} connections in the same round; half of it then arrives evenly \
         spaced, and a latency counts from the planned moment of arrival, waiting for a free connection included.",
        args.connections
    ));
    report.finish(args)
}

//! `--cascade`: other tenants' latency while a full workspace is deleted, beside their latency just before.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::json;

use super::open;
use crate::args::Args;
use crate::contestant::Contestant;
use crate::deletion::{self, Deletion, KEPT, Settings};
use crate::fill::Content;
use crate::report::Report;
use crate::summary::Spread;

/// What is told of each contestant.
type Runs = BTreeMap<Contestant, Vec<Deletion>>;

pub(super) fn run(args: &Args) -> Result<()> {
    let contestants = args.contestants(&[Contestant::FaircopyPostgres, Contestant::FaircopySqlite]);
    ensure!(contestants.iter().all(|contestant| contestant.is_faircopy()), "only Faircopy deletes workspaces");
    let title =
        if args.bad_day { "A workspace is deleted on a bad day of Liveblocks'" } else { "A workspace is deleted" };
    let (arena, mut report) = open(args, title, &contestants)?;
    let mut runs = Runs::new();
    for number in 1..=args.rounds {
        for &contestant in &contestants {
            eprintln!("round {number} of {}: {}", args.rounds, contestant.name());
            let settings = Settings { bad_day: args.bad_day.then_some(number), ..settings(args) };
            runs.entry(contestant).or_default().push(deletion::run(&arena, contestant, &settings)?);
        }
    }
    latency_table(&mut report, &runs);
    work_table(&mut report, &runs);
    notes(&mut report, args, &runs);
    let named: BTreeMap<&str, &Vec<Deletion>> = runs.iter().map(|(of, deletions)| (of.name(), deletions)).collect();
    report.data("deletions", json!(named));
    report.finish(args)
}

fn settings(args: &Args) -> Settings {
    let Args { channels, messages, rooms, .. } = *args;
    Settings {
        content: Content { channels, messages, rooms },
        per_second: args.per_second,
        connections: args.connections,
        warm_up: std::time::Duration::from_secs(args.warm_up),
        window: args.window(),
        bad_day: None,
    }
}

fn spread(deletions: &[Deletion], of: impl Fn(&Deletion) -> f64) -> Spread {
    Spread::of(deletions.iter().map(of))
}

/// The spread of what not every deletion has.
fn spread_of_some(deletions: &[Deletion], decimals: usize, of: impl Fn(&Deletion) -> Option<f64>) -> String {
    let values: Vec<f64> = deletions.iter().filter_map(of).collect();
    if values.is_empty() { "–".to_owned() } else { Spread::of(values).show(decimals) }
}

fn latency_table(report: &mut Report, runs: &Runs) {
    let header = [
        "other tenants' deliveries",
        "p50 ms before",
        "… while rows go",
        "p99 ms before",
        "… while rows go",
        "… of before",
        "… while rooms are left",
        "… of before",
        "… after",
    ];
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|(contestant, of)| {
            vec![
                contestant.title().to_owned(),
                spread(of, |deletion| deletion.before.p50_ms).show(2),
                spread(of, |deletion| deletion.rows.p50_ms).show(2),
                spread(of, |deletion| deletion.before.p99_ms).show(2),
                spread(of, |deletion| deletion.rows.p99_ms).show(2),
                format!("{} ×", spread(of, Deletion::ratio).show(2)),
                spread_of_some(of, 2, |deletion| deletion.rooms.map(|rooms| rooms.p99_ms)),
                format!("{} ×", spread_of_some(of, 2, Deletion::rooms_ratio)),
                spread(of, |deletion| deletion.after.p99_ms).show(2),
            ]
        })
        .collect();
    report.table(&header, &rows);
}

fn work_table(report: &mut Report, runs: &Runs) {
    let header = [
        "the deletion",
        "rows",
        "s until they are gone",
        "rows a second",
        "rooms at Liveblocks",
        "s until all are confirmed",
        "calls for a room",
        "peak MiB before",
        "… then",
        "CPU-s",
        "… Postgres",
        "… sandbox",
    ];
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|(contestant, of)| {
            vec![
                contestant.title().to_owned(),
                of[0].removed.to_string(),
                spread(of, |deletion| deletion.rows_seconds).show(1),
                spread(of, Deletion::rows_per_second).show(0),
                of[0].ids.to_string(),
                spread(of, |deletion| deletion.rooms_seconds).show(1),
                spread(of, Deletion::calls_of_a_room).show(3),
                spread(of, |deletion| deletion.peak_before).show(0),
                spread(of, |deletion| deletion.peak).show(0),
                spread(of, |deletion| deletion.cpu).show(1),
                if contestant.on_postgres() {
                    spread(of, |deletion| deletion.postgres_cpu).show(1)
                } else {
                    String::new()
                },
                spread(of, |deletion| deletion.rooms_cpu).show(1),
            ]
        })
        .collect();
    report.table(&header, &rows);
}

fn notes(report: &mut Report, args: &Args, runs: &Runs) {
    report.note(format!(
        "{} deliveries of other tenants a second arrive evenly spaced over {} connections all the time; a latency counts from \
         the planned moment of arrival. {} s are measured before the deletion, after {} s of warm-up, and as long after its end. \
         The job is looked at four times a second; ratios are taken within each round.",
        args.per_second, args.connections, args.seconds, args.warm_up
    ));
    report.note(format!(
        "The workspace has {} channels, {} messages, ten read marks in each channel, and {} rooms with a document each. Beside it \
         is one with {} messages that stays.",
        args.channels, args.messages, args.rooms, KEPT.messages
    ));
    report.note(
        "Afterwards, killed with SIGKILL: no row and no room of the one workspace is left, every row and every room of the other \
         is there, and the audit table holds every delivery that was acknowledged; all were. Otherwise the run fails.",
    );
    report.note(
        "Seconds are those of the receipt, from the moment when the deletion was told. CPU seconds are those of the whole \
         deletion, the deliveries of others included.",
    );
    report.note(if args.bad_day {
        "Liveblocks is the sandbox, in a process of its own: each answer takes 20 to 80 ms, 5 % are errors, 0.5 % are 429 with a \
         second's `Retry-After`, and of 1 % of the deletions the answer is lost."
    } else {
        "Liveblocks is the sandbox, in a process of its own on the same cores: it answers at once, so that calls come as fast as \
         Faircopy makes them."
    });
    let all = || runs.values().flatten();
    report.note(format!(
        "Programs without a part in it used {} cores before the deletions and {} during them, when the hypervisor kept {} cores \
         for others.",
        Spread::of(all().map(|deletion| deletion.foreign_before)).show(2),
        Spread::of(all().map(|deletion| deletion.foreign_cores)).show(2),
        Spread::of(all().map(|deletion| deletion.stolen_cores)).show(2),
    ));
}

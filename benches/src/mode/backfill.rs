//! `--backfill`: copying and comparing everything that a local Clerk holds, beside its own page rate.

use std::collections::BTreeMap;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::json;

use super::open;
use crate::arena::Arena;
use crate::args::Args;
use crate::contestant::Contestant;
use crate::counter::Counter;
use crate::database::Database;
use crate::report::Report;
use crate::summary::Spread;
use crate::sweep::{self, Sweep};
use crate::upstream::{PAGE, Upstream};

/// One organization for so many users.
const USERS_OF_AN_ORGANIZATION: u32 = 100;
/// Users that are renamed and users that are deleted behind the copy's back, in each round.
const CHANGED: usize = 500;
/// How often the counter is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// How long a sweep may take: longer than a million rows do.
const LONGEST: Duration = Duration::from_secs(1800);

const BACKFILL: &[&str] = &["backfill"];
const RECONCILE: &[&str] = &["reconcile", "--grace", "0"];
const DRY_RUN: &[&str] = &["reconcile", "--grace", "0", "--dry-run"];

/// What is told of each kind of run.
type Runs = BTreeMap<(Contestant, &'static str), Vec<Sweep>>;

pub(super) fn run(args: &Args) -> Result<()> {
    let contestants = args.contestants(&[Contestant::FaircopySqlite, Contestant::FaircopyPostgres]);
    ensure!(contestants.iter().all(|contestant| contestant.is_faircopy()), "only Faircopy reads Clerk");
    let (arena, mut report) = open(args, "Backfill and reconcile", &contestants)?;
    let users = args.users.unwrap_or(200_000);
    let organizations = users / USERS_OF_AN_ORGANIZATION;
    let upstream = Upstream::start(&arena, users, organizations, &args.rate_limit)?;
    let (mut runs, mut page_rates) = (Runs::new(), Vec::new());
    let mut pages = 0;
    for number in 1..=args.rounds {
        eprintln!("round {number} of {}: the page rate", args.rounds);
        let walk = upstream.walk()?;
        eprintln!("  {:.0} users a second", walk.per_second());
        page_rates.push(walk.per_second());
        let databases: Vec<Database<'_>> =
            contestants.iter().map(|contestant| Database::create(&arena, *contestant)).collect::<Result<_>>()?;
        let mut each = |what: &'static str, arguments: &[&str]| -> Result<()> {
            for database in &databases {
                let name = database.contestant().name();
                eprintln!("round {number}: {what}, {name}");
                let sweep = sweep::run(&arena, &upstream, database, arguments)?;
                eprintln!(
                    "  {:.0} rows a second, {:.1} s; CPU-s: {:.1}, Postgres {:.1}, sandbox {:.1}",
                    sweep.per_second(),
                    sweep.seconds,
                    sweep.cpu,
                    sweep.postgres_cpu,
                    sweep.upstream_cpu
                );
                runs.entry((database.contestant(), what)).or_default().push(sweep);
                database.settle()?;
            }
            Ok(())
        };
        each("backfill", BACKFILL)?;
        let before: Vec<u64> =
            databases.iter().map(|database| sweep::changes(&arena, database)).collect::<Result<_>>()?;
        each("reconcile, exact", RECONCILE)?;
        for (database, before) in databases.iter().zip(before) {
            ensure!(sweep::changes(&arena, database)? == before, "a reconcile of an exact copy changed it");
        }
        let from = walk.ids.len() / 2;
        let some: Vec<String> = walk.ids.into_iter().skip(from).take(2 * CHANGED).collect();
        let (renamed, deleted) = some.split_at(some.len() / 2);
        upstream.change(renamed, deleted)?;
        each("reconcile, after changes", RECONCILE)?;
        each("reconcile, dry run", DRY_RUN)?;
        pages = runs.values().flatten().map(|sweep| sweep.requests).max().unwrap_or_default().max(pages);
    }
    for ((contestant, what), sweeps) in &runs {
        let name = contestant.name();
        ensure!(sweeps.iter().all(|sweep| sweep.code == 0), "{name}: {what} ended with another code than 0");
    }
    page_table(&mut report, &page_rates);
    run_table(&mut report, &runs, &page_rates);
    memory_table(&mut report, &runs);
    if args.kills > 0 {
        let killed = kill_all(&arena, &upstream, &contestants, args.kills, users)?;
        killed_table(&mut report, &killed, &runs);
    }
    report.note(format!(
        "The sandbox is a process of its own with {users} users, {organizations} organizations of eight members, and an \
         invitation of each; its rate limit is {}. Its key is a production one: `backfill` asks 30 times a second at most, \
         `reconcile` 10 times, after a burst of 300 and 100.",
        args.rate_limit
    ));
    report.note(format!(
        "The page rate is that of a reader that asks for {PAGE} users after another by cursor on one connection and looks for \
         nothing but their ids. Rows are users, organizations, members and invitations; time runs from the start of the \
         process to its end."
    ));
    report.note(format!("Changes: {CHANGED} users renamed and {CHANGED} deleted at Clerk, and no delivery of it."));
    report.data(
        "runs",
        json!(
            runs.iter()
                .map(|((of, what), sweeps)| json!({ "of": of, "what": what, "sweeps": sweeps }))
                .collect::<Vec<_>>()
        ),
    );
    report.data("page_rates", json!(page_rates));
    report.finish(args)
}

fn spread(sweeps: &[Sweep], of: impl Fn(&Sweep) -> f64) -> Spread {
    Spread::of(sweeps.iter().map(of))
}

fn page_table(report: &mut Report, page_rates: &[f64]) {
    let row = vec!["the API's page rate".to_owned(), Spread::of(page_rates.iter().copied()).show(0)];
    report.table(&["", "users a second"], &[row]);
}

fn run_table(report: &mut Report, runs: &Runs, page_rates: &[f64]) {
    let header = [
        "",
        "rows a second",
        "of the page rate",
        "requests",
        "waited for the limit, s",
        "CPU-s",
        "… Postgres",
        "… sandbox",
        "missing, different, extra",
    ];
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|((contestant, what), sweeps)| {
            let share = sweeps.iter().zip(page_rates).map(|(sweep, rate)| sweep.per_second() / rate);
            let last = &sweeps[sweeps.len() - 1];
            vec![
                format!("{what}, {}", contestant.title()),
                spread(sweeps, Sweep::per_second).show(0),
                Spread::of(share).show(2),
                last.requests.to_string(),
                spread(sweeps, |sweep| sweep.report["waited_ms"].as_f64().unwrap_or_default() / 1000.0).show(1),
                spread(sweeps, |sweep| sweep.cpu).show(1),
                spread(sweeps, |sweep| sweep.postgres_cpu).show(1),
                spread(sweeps, |sweep| sweep.upstream_cpu).show(1),
                format!("{}, {}, {}", last.sum("missing"), last.sum("different"), last.sum("extra")),
            ]
        })
        .collect();
    report.table(&header, &rows);
}

fn memory_table(report: &mut Report, runs: &Runs) {
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|((contestant, what), sweeps)| {
            let quarter = |at: usize| spread(sweeps, |sweep| sweep.quarters[at]).show(0);
            let mut row = vec![format!("{what}, {}", contestant.title())];
            row.extend((0..4).map(quarter));
            row.push(spread(sweeps, |sweep| sweep.peak).show(0));
            row
        })
        .collect();
    report.table(&["memory, MiB, after", "25 %", "50 %", "75 %", "100 % of its time", "peak"], &rows);
}

/// A backfill that is killed again and again.
struct Killed<'a> {
    database: Database<'a>,
    counter: Counter,
    child: Option<Child>,
    /// How long it worked: waiting for the lease of the one that was killed does not count.
    worked: Duration,
    kills: u32,
    is_over: bool,
}

/// Kills backfills at even shares of their work and lets them go on. The copies take turns: while one waits for the lease of a
/// killed process, the other works.
fn kill_all<'a>(
    arena: &'a Arena,
    upstream: &Upstream,
    contestants: &[Contestant],
    kills: u32,
    users: u32,
) -> Result<Vec<Killed<'a>>> {
    let mut all = Vec::new();
    for contestant in contestants {
        let (database, counter) = (Database::create(arena, *contestant)?, Counter::to(upstream.address())?);
        all.push(Killed { database, counter, child: None, worked: Duration::ZERO, kills: 0, is_over: false });
    }
    let share = u64::from(users) / PAGE as u64 / u64::from(kills + 1);
    for number in 0..=kills {
        for killed in all.iter_mut().filter(|killed| !killed.is_over) {
            eprintln!("killed {number} times: {}", killed.database.contestant().name());
            killed.go_on(arena, upstream, (number < kills).then_some(share.max(1)))?;
        }
    }
    for killed in &all {
        let name = killed.database.contestant().name();
        let dry = sweep::run(arena, upstream, &killed.database, DRY_RUN)?;
        ensure!(dry.code == 0, "{name}: not exact after {} kills: {}", killed.kills, dry.report["kinds"]);
    }
    Ok(all)
}

impl Killed<'_> {
    /// Goes on for so many pages and is killed, or to the end.
    fn go_on(&mut self, arena: &Arena, upstream: &Upstream, share: Option<u64>) -> Result<()> {
        let before = self.counter.pages();
        let child = sweep::start(arena, upstream, self.counter.address(), &self.database, BACKFILL)?;
        let child = self.child.insert(child);
        let (began, mut first) = (Instant::now(), None);
        let status = loop {
            ensure!(began.elapsed() < LONGEST, "a backfill takes too long");
            let pages = self.counter.pages() - before;
            if pages > 0 && first.is_none() {
                first = Some(Instant::now());
            }
            if let Some(status) = child.try_wait()? {
                break Some(status);
            }
            if share.is_some_and(|share| pages >= share) {
                child.kill()?;
                child.wait()?;
                break None;
            }
            std::thread::sleep(LOOK_EVERY);
        };
        self.child = None;
        self.worked += first.map_or(Duration::ZERO, |first| first.elapsed());
        match status {
            Some(status) => {
                ensure!(status.success(), "a backfill that went on ended with {status}");
                self.is_over = true;
            }
            None => self.kills += 1,
        }
        Ok(())
    }
}

impl Drop for Killed<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn killed_table(report: &mut Report, all: &[Killed<'_>], runs: &Runs) {
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|killed| {
            let contestant = killed.database.contestant();
            let whole = &runs[&(contestant, "backfill")];
            let undisturbed = page_count(&whole[whole.len() - 1]);
            vec![
                contestant.title().to_owned(),
                killed.kills.to_string(),
                format!("{:.1}", killed.worked.as_secs_f64()),
                spread(whole, |sweep| sweep.seconds).show(1),
                killed.counter.pages().to_string(),
                killed.counter.pages().saturating_sub(undisturbed).to_string(),
            ]
        })
        .collect();
    report.table(
        &[
            "killed with SIGKILL and gone on with",
            "kills",
            "seconds of work",
            "… undisturbed",
            "pages asked for",
            "… again",
        ],
        &rows,
    );
    report.note(
        "Killed: at even shares of the pages. Work is counted from the first page that is asked for: before it, the lease of the \
         killed process is waited for, half a minute. The way through the counter costs time of its own. Afterwards `reconcile \
         --dry-run --grace 0` finds the copy exact.",
    );
}

/// Pages of an undisturbed backfill: its requests less the two totals of each list.
fn page_count(sweep: &Sweep) -> u64 {
    sweep.requests.saturating_sub(8)
}

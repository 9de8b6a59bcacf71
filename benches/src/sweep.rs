//! A run of `faircopy backfill` or `faircopy reconcile`, watched from outside.

use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::arena::Arena;
use crate::contestant::{bound_to_us, clear_environment, tail};
use crate::database::Database;
use crate::upstream::Upstream;
use crate::{procfs, round};

/// How often memory and time are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const MIB: f64 = 1024.0 * 1024.0;

/// What a sweep took, and what it said.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sweep {
    pub(crate) seconds: f64,
    /// Rows of all lists.
    pub(crate) rows: u64,
    pub(crate) requests: u64,
    /// CPU seconds of the process, of PostgreSQL, and of the sandbox.
    pub(crate) cpu: f64,
    pub(crate) postgres_cpu: f64,
    pub(crate) upstream_cpu: f64,
    /// Resident memory in MiB after a quarter, a half, three quarters and all of its time; and the most.
    pub(crate) quarters: [f64; 4],
    pub(crate) peak: f64,
    /// The exit code.
    pub(crate) code: i32,
    #[serde(skip)]
    pub(crate) report: Value,
}

impl Sweep {
    pub(crate) fn per_second(&self) -> f64 {
        round::count(self.rows) / self.seconds
    }

    /// The sum of a count over all kinds.
    pub(crate) fn sum(&self, count: &str) -> u64 {
        let kinds = self.report["kinds"].as_object();
        kinds.into_iter().flat_map(serde_json::Map::values).filter_map(|tally| tally[count].as_u64()).sum()
    }
}

/// Starts a sweep that reads the sandbox at `address`.
pub(crate) fn start(
    arena: &Arena,
    upstream: &Upstream,
    address: SocketAddr,
    database: &Database<'_>,
    arguments: &[&str],
) -> Result<Child> {
    let mut command = bound_to_us(arena.faircopy.as_os_str());
    clear_environment(&mut command);
    let report = std::fs::File::create(arena.scratch().join("report.json"))?;
    command
        .args(arguments)
        .arg("--json")
        .env("DATABASE_URL", database.url()?)
        .envs(upstream.environment(address))
        .current_dir(arena.scratch())
        .stdin(Stdio::null())
        .stdout(report)
        .stderr(arena.log_file(database.contestant())?);
    command.spawn().with_context(|| format!("cannot start faircopy {arguments:?}"))
}

/// Runs a sweep to its end.
pub(crate) fn run(arena: &Arena, upstream: &Upstream, database: &Database<'_>, arguments: &[&str]) -> Result<Sweep> {
    let others = |of: Option<u32>| of.map_or(Ok(0), |pid| procfs::tree_ticks(&[pid]));
    let (postgres, sandbox) = (others(arena.postmaster())?, others(Some(upstream.pid()))?);
    let started = Instant::now();
    let mut child = start(arena, upstream, upstream.address(), database, arguments)?;
    let (mut memory, mut peak, mut ticks) = (Vec::new(), 0, 0);
    let status = loop {
        // What cannot be read has just ended.
        if let Ok(resident) = procfs::resident(child.id()) {
            memory.push((started.elapsed(), resident));
        }
        peak = procfs::peak_resident(child.id()).unwrap_or(peak);
        ticks = procfs::tree_ticks(&[child.id()]).unwrap_or(ticks).max(ticks);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(LOOK_EVERY);
    };
    let took = started.elapsed();
    let text = std::fs::read_to_string(arena.scratch().join("report.json"))?;
    let report: Value = serde_json::from_str(&text).with_context(|| {
        format!("faircopy {arguments:?} said no report; {status}; {}", tail(&arena.log_path(database.contestant())))
    })?;
    ensure!(!memory.is_empty(), "it ended before its memory could be read");
    let after = |quarter: u32| {
        let at = memory.iter().rev().find(|(at, _)| *at <= took * quarter / 4).unwrap_or(&memory[0]);
        round::count(at.1) / MIB
    };
    let mut sweep = Sweep {
        seconds: took.as_secs_f64(),
        rows: 0,
        requests: report["requests"].as_u64().unwrap_or_default(),
        cpu: procfs::seconds(ticks),
        postgres_cpu: procfs::seconds(others(arena.postmaster())? - postgres),
        upstream_cpu: procfs::seconds(others(Some(upstream.pid()))? - sandbox),
        quarters: [1, 2, 3, 4].map(after),
        peak: round::count(peak) / MIB,
        code: status.code().unwrap_or(-1),
        report,
    };
    sweep.rows = sweep.sum("seen");
    Ok(sweep)
}

/// The last number of the change feed, as `faircopy status` says it.
pub(crate) fn changes(arena: &Arena, database: &Database<'_>) -> Result<u64> {
    let mut command = std::process::Command::new(&arena.faircopy);
    clear_environment(&mut command);
    command.args(["status", "--json"]).env("DATABASE_URL", database.url()?).current_dir(arena.scratch());
    let said = crate::program::pipe(&mut command, "")?;
    serde_json::from_str::<Value>(&said)?["sequence"].as_u64().context("status names no sequence")
}

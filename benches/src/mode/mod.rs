//! What is compared with what: one function per mode.

mod backfill;
mod cascade;
mod compare;
mod growth;
mod half;
mod idle;
mod instructions;
mod live;
mod replicas;
mod sessions;
mod slow_fsync;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use crate::arena::Arena;
use crate::args::Args;
use crate::contestant::Contestant;
use crate::load::Arrivals;
use crate::machine::Machine;
use crate::report::Report;
use crate::round::Settings;
use faircopy_bench::delivery::Subjects;

/// Runs what the command line asks for.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    if let Some(name) = &args.repeat {
        instructions::repeat(name, args.times)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.instructions {
        return instructions::run();
    }
    if let Some(delay) = args.slow_fsync
        && !slow_fsync::is_active()
    {
        return slow_fsync::run_again_slowed(delay);
    }
    if args.half {
        half::run(args)?;
    } else if args.idle {
        idle::run(args)?;
    } else if args.growth {
        growth::run(args)?;
    } else if args.backfill {
        backfill::run(args)?;
    } else if args.cascade {
        cascade::run(args)?;
    } else if args.live {
        live::run(args)?;
    } else if args.sessions {
        sessions::run(args)?;
    } else if let Some(processes) = args.replicas {
        replicas::run(args, processes)?;
    } else {
        compare::run(args)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The arena for `contestants` and an empty report about it.
fn open(args: &Args, title: &str, contestants: &[Contestant]) -> Result<(Arena, Report)> {
    let arena = Arena::open(args, contestants)?;
    let machine = Machine::look(&arena)?;
    let title = match args.slow_fsync {
        Some(delay) => format!("{title}, every fsync slowed by {} µs", delay.as_micros()),
        None => title.to_owned(),
    };
    let mut report = Report::new(title, machine);
    if args.slow_fsync.is_some() {
        report.note(slow_fsync::NOTE);
    }
    Ok((arena, report))
}

/// The usual round: one process, a closed loop, distinct users.
fn settings(args: &Args) -> Settings {
    Settings {
        warm_up: Duration::from_secs(args.warm_up),
        window: args.window(),
        connections: args.connections,
        processes: 1,
        apart: false,
        arrivals: Arrivals::Closed,
        subjects: Subjects::Distinct,
    }
}

//! The benchmark: Faircopy beside the handlers that its users would write themselves, in one run on one machine.
//!
//! | module | holds |
//! | --- | --- |
//! | [`args`] | the command line |
//! | [`mode`] | what is compared with what: one function per mode |
//! | [`arena`] | Postgres, the scratch folder, the binaries: everything that outlives a round |
//! | [`cluster`] | the private Postgres |
//! | [`contestant`] | who takes part, and how its processes are started |
//! | [`database`] | a fresh database for a round, its row counts |
//! | [`round`] | one contestant under load: start, warm up, measure, verify |
//! | [`load`], [`http`], [`faircopy_bench::delivery`] | the load generator: loops, connections, signed deliveries |
//! | [`faircopy_bench::operation`] | the core's steps, for the micro-benchmarks and `--instructions` |
//! | [`procfs`], [`machine`] | what Linux tells about processes and about the machine |
//! | [`program`] | programs that are run to their end |
//! | [`upstream`], [`counter`], [`sweep`] | for `--backfill`: the local Clerk, the pages that are asked of it, a sweep watched from outside |
//! | [`rooms`], [`deletion`] | for `--cascade`: the local Liveblocks, a deletion watched from outside |
//! | [`sandbox`], [`mod@line`] | the process that stands in for both, and a plain connection to ask it |
//! | [`listeners`] | for `--live`: readers that stay, and note when a change arrives |
//! | [`fill`] | the SQL that fills tables before `--growth` and `--cascade` |
//! | [`summary`], [`report`] | medians, ratios, Markdown |
//!
//! `benches/README.md` says how the figures are taken.
#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock, and starts real processes in a real environment"
)]

mod arena;
mod args;
mod cluster;
mod contestant;
mod counter;
mod database;
mod deletion;
mod fill;
mod http;
mod line;
mod listeners;
mod load;
mod machine;
mod mode;
mod procfs;
mod program;
mod report;
mod rooms;
mod round;
mod sandbox;
mod summary;
mod sweep;
mod upstream;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let args = args::Args::parse();
    match mode::run(&args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

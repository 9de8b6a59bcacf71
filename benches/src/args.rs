//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::contestant::Contestant;

/// Measures Faircopy beside the handlers that its users would write: a Markdown report on stdout, progress on stderr.
///
/// Without a mode it compares throughput, CPU time, latency and memory of all contestants. Example:
/// `cargo run --release -p faircopy-bench -- --seconds 10 --rounds 3`
#[derive(Clone, Debug, Parser)]
#[command(name = "faircopy-bench", version)]
pub(crate) struct Args {
    /// Measured seconds of each contestant in each round
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: u64,

    /// Seconds of load before the measured ones
    #[arg(long, default_value_t = 2)]
    pub(crate) warm_up: u64,

    /// Rounds; the contestants alternate within each
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) rounds: u64,

    /// Keep-alive connections, each with one delivery in flight
    #[arg(long, default_value_t = 32, value_parser = connections)]
    pub(crate) connections: usize,

    /// Contestants, separated by commas: faircopy-postgres, plain, best, faircopy-sqlite, sqlite-peer,
    /// token-peer, jose-peer; groups: postgres, sqlite, faircopy, peers
    #[arg(long, value_delimiter = ',', value_parser = Contestant::parse_names, value_name = "NAMES")]
    pub(crate) only: Vec<Group>,

    /// Write every round and every summary to this file too
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Measure the binary that is there instead of building it first
    #[arg(long)]
    pub(crate) no_build: bool,

    /// Mode: latency at half of each contestant's own maximum, with arrivals at a fixed rate
    #[arg(long, group = "mode")]
    pub(crate) half: bool,

    /// Mode: time from start to ready on an existing database, and memory without load
    #[arg(long, group = "mode")]
    pub(crate) idle: bool,

    /// Mode: throughput with full tables beside throughput with empty ones
    #[arg(long, group = "mode")]
    pub(crate) growth: bool,

    /// Mode: this many processes on one Postgres beside one process, all updating the same 100 users
    #[arg(long, group = "mode", value_name = "N")]
    pub(crate) replicas: Option<usize>,

    /// Mode: checks of session tokens (GET /v1/auth) beside handlers that do the same with Clerk's SDK
    #[arg(long, group = "mode")]
    pub(crate) sessions: bool,

    /// Mode: backfill and reconcile of a local Clerk, beside its own page rate
    #[arg(long, group = "mode")]
    pub(crate) backfill: bool,

    /// With --sessions: signed-in users, with a token each [default: 1000]. With --backfill: users at Clerk [default: 200000]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1000..=10_000_000), value_name = "N")]
    pub(crate) users: Option<u32>,

    /// With --backfill: how often a backfill is killed and gone on with, after the rounds
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub(crate) kills: u32,

    /// With --backfill: requests that the local Clerk answers in ten seconds, or `off`
    #[arg(long, default_value = "1000", value_name = "REQUESTS")]
    pub(crate) rate_limit: String,

    /// Mode: other tenants' latency while a full workspace is deleted, beside their latency before
    #[arg(long, group = "mode")]
    pub(crate) cascade: bool,

    /// With --cascade: channels of the workspace
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pub(crate) channels: u64,

    /// With --cascade: messages in these channels
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pub(crate) messages: u64,

    /// With --cascade: rooms of the workspace, each with a document: two rooms at Liveblocks
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pub(crate) rooms: u64,

    /// With --cascade: deliveries of other tenants that arrive in a second
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub(crate) per_second: u32,

    /// With --cascade: Liveblocks is slow and answers 5 % with errors and some with 429
    #[arg(long, requires = "cascade")]
    pub(crate) bad_day: bool,

    /// Mode: readers of live queries, their memory, and how long a change takes to reach them
    #[arg(long, group = "mode")]
    pub(crate) live: bool,

    /// With --live: how many read; each is an open file of this process and of the service
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub(crate) subscribers: usize,

    /// With --live: changes in a second, where each reaches an organization of twenty
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pub(crate) changes: u64,

    /// Mode: instructions of the core's steps, beside what is committed; fails when a step became dearer; needs valgrind
    #[arg(long, group = "mode")]
    pub(crate) instructions: bool,

    /// Do a step of the core and nothing else: what --instructions counts
    #[arg(long, hide = true, value_name = "STEP")]
    pub(crate) repeat: Option<String>,

    /// How often --repeat does it
    #[arg(long, hide = true, default_value_t = 1)]
    pub(crate) times: u64,

    /// Delay every fsync and fdatasync of contestants and Postgres by this time (500us, 1ms); needs a C compiler
    #[arg(long, value_parser = delay, value_name = "TIME")]
    pub(crate) slow_fsync: Option<Duration>,

    /// With --growth: users stored before the load
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub(crate) prefill_users: u64,

    /// With --growth: deliveries stored before the load, of about 3 KB each
    #[arg(long, default_value_t = 10_000_000, value_name = "N")]
    pub(crate) prefill_deliveries: u64,
}

/// The contestants that one name on the command line stands for.
pub(crate) type Group = &'static [Contestant];

impl Args {
    /// The contestants that were asked for, or `default` when none was named; each once, in the order of the report.
    pub(crate) fn contestants(&self, default: &[Contestant]) -> Vec<Contestant> {
        let named: Vec<Contestant> = self.only.iter().flat_map(|group| group.iter().copied()).collect();
        let wanted = if named.is_empty() { default } else { &named };
        Contestant::ALL.iter().copied().filter(|contestant| wanted.contains(contestant)).collect()
    }

    /// The measured part of a round.
    pub(crate) fn window(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

fn connections(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=4096) => Ok(count),
        _ => Err("expected a number from 1 to 4096".to_owned()),
    }
}

fn delay(text: &str) -> Result<Duration, String> {
    let expected = || "expected a whole number and its unit, such as 500us or 1ms".to_owned();
    let (number, micros) = match (text.strip_suffix("us"), text.strip_suffix("ms")) {
        (Some(number), _) => (number, 1),
        (_, Some(number)) => (number, 1000),
        _ => return Err(expected()),
    };
    let number: u64 = number.trim().parse().map_err(|_| expected())?;
    Ok(Duration::from_micros(number.saturating_mul(micros)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn groups_and_names_give_each_contestant_once() {
        let args = Args::parse_from(["bench", "--only", "sqlite,plain,peers"]);
        let expected = [Contestant::Plain, Contestant::Best, Contestant::FaircopySqlite, Contestant::SqlitePeer];
        assert_eq!(args.contestants(&Contestant::ALL), expected);
    }

    #[test]
    fn delays_carry_a_unit() {
        assert_eq!(delay("1ms"), Ok(Duration::from_millis(1)));
        assert_eq!(delay("250us"), Ok(Duration::from_micros(250)));
        assert!(delay("1").is_err());
    }
}

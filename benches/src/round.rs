//! One contestant under load: start, warm up, measure, kill, verify.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;

use crate::arena::Arena;
use crate::contestant::{Contestant, Server, tail};
use crate::database::Database;
use crate::load::{Arrivals, Load, Plan, Tally, Work};
use crate::procfs::{self, MachineTicks};
use faircopy_bench::delivery::Subjects;

/// What a fresh process may do before its idle memory is read.
const SETTLE: Duration = Duration::from_millis(500);

/// How a round is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Load before the measurement.
    pub(crate) warm_up: Duration,
    /// The measurement.
    pub(crate) window: Duration,
    /// Connections in all.
    pub(crate) connections: usize,
    /// Processes of the contestant.
    pub(crate) processes: usize,
    /// Whether each has a database of its own, instead of one for all.
    pub(crate) apart: bool,
    /// When deliveries are sent.
    pub(crate) arrivals: Arrivals,
    /// Whose deliveries they are.
    pub(crate) subjects: Subjects,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Round {
    pub(crate) contestant: Contestant,
    pub(crate) processes: usize,
    /// Acknowledged deliveries a second.
    pub(crate) per_second: f64,
    /// CPU seconds of the contestant per 10,000 acknowledged deliveries.
    pub(crate) server_cpu: f64,
    /// The same of all processes of Postgres.
    pub(crate) postgres_cpu: f64,
    /// The same of the load generator, which is not part of any total.
    pub(crate) generator_cpu: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
    /// Resident MiB of all processes of the contestant, before the load and at its peak.
    pub(crate) idle_mib: f64,
    pub(crate) peak_mib: f64,
    /// Other answers by status; 0 is a broken connection or no answer.
    pub(crate) refused: BTreeMap<u16, u64>,
    pub(crate) deadlocks: u64,
    /// Deliveries in the audit table that were acknowledged in this round, warm-up included.
    pub(crate) verified: u64,
    /// Cores used by programs that have no part in the benchmark, and cores that the hypervisor kept.
    pub(crate) foreign_cores: f64,
    pub(crate) stolen_cores: f64,
}

impl Round {
    /// The round in a line.
    fn line(&self) -> String {
        let refused = if self.refused.is_empty() { String::new() } else { format!("  REFUSED {:?}", self.refused) };
        format!(
            "{:<20} {:>8.0}/s  {:>6.2} CPU-s/10k  p99 {:>7.2} ms  {:>5.1} MiB{refused}",
            self.contestant.name(),
            self.per_second,
            self.cpu(),
            self.p99_ms,
            self.peak_mib,
        )
    }

    /// CPU seconds of contestant and Postgres per 10,000 deliveries.
    pub(crate) fn cpu(&self) -> f64 {
        self.server_cpu + self.postgres_cpu
    }
}

/// Runs a round on a fresh database, or on one for each process.
pub(crate) fn run(arena: &Arena, contestant: Contestant, settings: &Settings) -> Result<Round> {
    let databases = if settings.apart { settings.processes } else { 1 };
    let databases: Vec<_> = (0..databases).map(|_| Database::create(arena, contestant)).collect::<Result<_>>()?;
    run_over(arena, &databases, settings)
}

/// Runs a round on a database that may hold rows already.
pub(crate) fn run_on(arena: &Arena, database: &Database<'_>, settings: &Settings) -> Result<Round> {
    run_over(arena, std::slice::from_ref(database), settings)
}

fn run_over(arena: &Arena, databases: &[Database<'_>], settings: &Settings) -> Result<Round> {
    let contestant = databases[0].contestant();
    let mut servers = Vec::new();
    for database in databases.iter().cycle().take(settings.processes) {
        servers.push(Server::start(arena, contestant, &database.url()?)?);
    }
    std::thread::sleep(SETTLE);
    let idle_mib = total_mib(&servers, procfs::resident)?;
    let before = Rows::count(databases)?;
    databases.iter().try_for_each(Database::settle)?;

    let measured = measure(arena, &servers, settings, Work::Deliveries(settings.subjects))
        .with_context(|| format!("{} said:\n{}", contestant.name(), tail(&arena.log_path(contestant))))?;
    let peak_mib = total_mib(&servers, procfs::peak_resident)?;
    // SIGKILL, and only then the count: an acknowledged delivery does not need an orderly end.
    drop(servers);
    let verified = before.verify(databases, &measured.tally, settings.subjects)?;
    let round = measured.into_round(databases, settings, [idle_mib, peak_mib], verified)?;
    eprintln!("  {}  {verified} rows verified", round.line(),);
    Ok(round)
}

/// Runs a round of session checks: the requests in turn, on the rows that they themselves have brought into a fresh
/// database. `check` sends each once before, and sees that it is answered as it must be.
pub(crate) fn run_checks(
    arena: &Arena,
    contestant: Contestant,
    settings: &Settings,
    variables: &[(&str, &str)],
    requests: &Arc<Vec<Vec<u8>>>,
    check: impl Fn(&Server) -> Result<()>,
) -> Result<Round> {
    let database = Database::create(arena, contestant)?;
    let server = Server::start_with(arena, contestant, &database.url()?, variables)?;
    std::thread::sleep(SETTLE);
    let servers = [server];
    let idle_mib = total_mib(&servers, procfs::resident)?;
    let said = || format!("{} said:\n{}", contestant.name(), tail(&arena.log_path(contestant)));
    check(&servers[0]).with_context(said)?;
    database.settle()?;
    let users = database.count("users")?;
    let measured = measure(arena, &servers, settings, Work::Requests(Arc::clone(requests))).with_context(said)?;
    let peak_mib = total_mib(&servers, procfs::peak_resident)?;
    drop(servers);
    let expected = u64::try_from(requests.len())?;
    ensure!(users == expected, "{} stored {users} users where {expected} signed in", contestant.name());
    ensure!(measured.tally.refused.is_empty(), "{} refused {:?}", contestant.name(), measured.tally.refused);
    let round = measured.into_round(std::slice::from_ref(&database), settings, [idle_mib, peak_mib], users)?;
    eprintln!("  {}", round.line());
    Ok(round)
}

struct Measured {
    tally: Tally,
    elapsed: Duration,
    server_ticks: u64,
    postgres_ticks: u64,
    generator_s: f64,
    machine: MachineTicks,
}

fn measure(arena: &Arena, servers: &[Server], settings: &Settings, work: Work) -> Result<Measured> {
    let pids: Vec<u32> = servers.iter().map(Server::pid).collect();
    let postmaster: Vec<u32> = arena.postmaster().into_iter().collect();
    let load = Load::start(Plan {
        targets: servers.iter().map(Server::address).collect(),
        connections: settings.connections,
        arrivals: settings.arrivals,
        work,
    });
    std::thread::sleep(settings.warm_up);
    for &pid in &pids {
        procfs::reset_peak(pid)?;
    }
    let server_ticks = procfs::tree_ticks(&pids)?;
    let postgres_ticks = procfs::tree_ticks(&postmaster)?;
    let machine = MachineTicks::now();
    let started = Instant::now();
    load.measure();
    std::thread::sleep(settings.window);
    let ended_early = load.has_ended();
    let generator_s = load.stop();
    let elapsed = started.elapsed();
    let machine_after = MachineTicks::now();
    let server_ticks = procfs::tree_ticks(&pids)? - server_ticks;
    let postgres_ticks = procfs::tree_ticks(&postmaster)? - postgres_ticks;
    let tally = load.finish()?;
    ensure!(!ended_early, "the load ended early: deliveries arrived faster than they could be sent");
    ensure!(tally.windows[0].measured > 0, "no delivery was acknowledged; answers by status: {:?}", tally.refused);
    let machine =
        MachineTicks { busy: machine_after.busy - machine.busy, stolen: machine_after.stolen - machine.stolen };
    Ok(Measured { tally, elapsed, server_ticks, postgres_ticks, generator_s, machine })
}

impl Measured {
    fn into_round(
        self,
        databases: &[Database<'_>],
        settings: &Settings,
        [idle_mib, peak_mib]: [f64; 2],
        verified: u64,
    ) -> Result<Round> {
        let elapsed = self.elapsed.as_secs_f64();
        let window = &self.tally.windows[0];
        let ten_thousands = count(window.measured) / 10_000.0;
        let [server_s, postgres_s] = [self.server_ticks, self.postgres_ticks].map(procfs::seconds);
        let foreign_s = procfs::seconds(self.machine.busy) - server_s - postgres_s - self.generator_s;
        let millis = |micros: u64| count(micros) / 1000.0;
        let contestant = databases[0].contestant();
        Ok(Round {
            contestant,
            processes: settings.processes,
            per_second: count(window.measured) / elapsed,
            server_cpu: server_s / ten_thousands,
            postgres_cpu: if contestant.on_postgres() { postgres_s / ten_thousands } else { 0.0 },
            generator_cpu: self.generator_s / ten_thousands,
            p50_ms: millis(window.latencies.value_at_quantile(0.5)),
            p99_ms: millis(window.latencies.value_at_quantile(0.99)),
            max_ms: millis(window.latencies.max()),
            idle_mib,
            peak_mib,
            refused: self.tally.refused,
            deadlocks: databases.iter().map(Database::deadlocks).sum::<Result<u64>>()?,
            verified,
            foreign_cores: foreign_s.max(0.0) / elapsed,
            stolen_cores: procfs::seconds(self.machine.stolen) / elapsed,
        })
    }
}

/// The rows of a round's databases.
struct Rows {
    deliveries: u64,
    users: u64,
}

impl Rows {
    fn count(databases: &[Database<'_>]) -> Result<Rows> {
        let sum = |table| databases.iter().map(|database| database.count(table)).sum::<Result<u64>>();
        Ok(Rows { deliveries: sum("webhook_deliveries")?, users: sum("users")? })
    }

    /// Fails unless every acknowledged delivery has added its row to the audit table, and its user.
    fn verify(&self, databases: &[Database<'_>], tally: &Tally, subjects: Subjects) -> Result<u64> {
        let after = Rows::count(databases)?;
        let (added, users) = (after.deliveries - self.deliveries, after.users - self.users);
        let name = databases[0].contestant().name();
        let acknowledged = tally.acknowledged;
        // A delivery without an answer may be stored or not; it makes the count uncertain and the round worthless.
        if let Some(unanswered) = tally.refused.get(&0) {
            bail!("{name}: {unanswered} deliveries got no answer");
        }
        ensure!(
            added == acknowledged,
            "{name} acknowledged {acknowledged} deliveries, and its audit table holds {added} of them"
        );
        let expected = match subjects {
            Subjects::Distinct => acknowledged,
            // Each database is told of each of them.
            Subjects::Hot { users: hot } => (hot * databases.len() as u64).min(acknowledged),
            Subjects::Stored { .. } => users,
        };
        ensure!(users == expected, "{name} stored {users} users where {expected} were delivered");
        Ok(added)
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts and microseconds of a run are far below 2^52")]
pub(crate) fn count(number: u64) -> f64 {
    number as f64
}

fn total_mib(servers: &[Server], read: impl Fn(u32) -> Result<u64>) -> Result<f64> {
    let bytes: u64 = servers.iter().map(|server| read(server.pid())).sum::<Result<u64>>()?;
    Ok(count(bytes) / (1024.0 * 1024.0))
}

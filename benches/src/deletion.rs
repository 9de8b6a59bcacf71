//! The deletion of a full workspace, watched from outside while other tenants' deliveries arrive.

use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use faircopy_bench::delivery::{Organization, Subjects};
use faircopy_core::Millis;
use serde::Serialize;
use serde_json::Value;

use crate::arena::Arena;
use crate::contestant::{Contestant, Server, tail};
use crate::database::Database;
use crate::fill::{self, Content};
use crate::line::Line;
use crate::load::{Arrivals, Load, Plan, Tally, Window, Work};
use crate::procfs::{self, MachineTicks};
use crate::rooms::Rooms;
use crate::round::count;

/// The organization that goes, and the one that stays beside it.
const GOES: &str = "org_2goes0000000000000000000000";
const STAYS: &str = "org_2stays000000000000000000000";
/// What the one that stays has: all of it must be there afterwards.
pub(crate) const KEPT: Content = Content { channels: 100, messages: 10_000, rooms: 100 };
/// How often the job is looked at: as an operator would, by the list of jobs, which counts nothing.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long a deletion may take.
const LONGEST: Duration = Duration::from_secs(3600);
/// Fewer deliveries have no p99.
const ENOUGH: u64 = 100;
const ADMIN_TOKEN: &str = "the admin token of the benchmark";
/// The job is over when everything is confirmed: nobody waits to look once more.
const SETTINGS: &str = "[cascade]\nsecond_sweep_seconds = 0\n";
const MIB: f64 = 1024.0 * 1024.0;

/// How a deletion is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// What goes.
    pub(crate) content: Content,
    /// Deliveries of other tenants in a second, and the connections over which they come.
    pub(crate) per_second: u32,
    pub(crate) connections: usize,
    /// Their load before it is measured, and the time that is measured before the deletion.
    pub(crate) warm_up: Duration,
    pub(crate) window: Duration,
    /// The seed of Liveblocks' bad day, if it has one.
    pub(crate) bad_day: Option<u64>,
}

/// Latencies of other tenants' deliveries.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) deliveries: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Deletion {
    /// Before it.
    pub(crate) before: Latency,
    /// While rows went.
    pub(crate) rows: Latency,
    /// While nothing but rooms was left; none where that was over at once.
    pub(crate) rooms: Option<Latency>,
    /// When it was over, as long as before: what changed there was not the deletion, or is what it leaves behind.
    pub(crate) after: Latency,
    /// Rows that went, and the seconds until no row was left.
    pub(crate) removed: u64,
    pub(crate) rows_seconds: f64,
    /// Rooms at Liveblocks, the seconds until each was confirmed, and how often one was asked for.
    pub(crate) ids: u64,
    pub(crate) rooms_seconds: f64,
    pub(crate) calls: u64,
    /// The most that the process was resident with, in MiB, before and then.
    pub(crate) peak_before: f64,
    pub(crate) peak: f64,
    /// CPU seconds from the deletion to its end, what the deliveries took included.
    pub(crate) cpu: f64,
    pub(crate) postgres_cpu: f64,
    pub(crate) rooms_cpu: f64,
    /// Cores used by programs that have no part in it, before and then, and cores that the hypervisor kept then.
    pub(crate) foreign_before: f64,
    pub(crate) foreign_cores: f64,
    pub(crate) stolen_cores: f64,
    /// Deliveries that were acknowledged, all of which are in the audit table.
    pub(crate) verified: u64,
}

impl Deletion {
    pub(crate) fn rows_per_second(&self) -> f64 {
        count(self.removed) / self.rows_seconds
    }

    pub(crate) fn calls_of_a_room(&self) -> f64 {
        count(self.calls) / count(self.ids)
    }

    /// The p99 while rows went, in that of before.
    pub(crate) fn ratio(&self) -> f64 {
        self.rows.p99_ms / self.before.p99_ms
    }

    /// The same while rooms were left.
    pub(crate) fn rooms_ratio(&self) -> Option<f64> {
        self.rooms.map(|rooms| rooms.p99_ms / self.before.p99_ms)
    }
}

impl Latency {
    fn of(window: &Window) -> Latency {
        let millis = |micros: u64| count(micros) / 1000.0;
        Latency {
            deliveries: window.measured,
            p50_ms: millis(window.latencies.value_at_quantile(0.5)),
            p99_ms: millis(window.latencies.value_at_quantile(0.99)),
            max_ms: millis(window.latencies.max()),
        }
    }
}

/// Fills a workspace in a fresh database, measures other tenants' deliveries, and again while the workspace is deleted.
pub(crate) fn run(arena: &Arena, contestant: Contestant, settings: &Settings) -> Result<Deletion> {
    let rooms = Rooms::start(arena)?;
    let database = Database::create(arena, contestant)?;
    let start = || start(arena, &database, &rooms);
    // The organizations come as they always do, and nobody serves while an application fills their workspaces.
    let server = start()?;
    deliver(&server, Organization::Created, GOES)?;
    deliver(&server, Organization::Created, STAYS)?;
    drop(server);
    for (organization, content) in [(GOES, &settings.content), (STAYS, &KEPT)] {
        eprintln!(
            "  {} rows and {} rooms for {organization} …",
            content.rows(),
            content.room_ids(organization).count()
        );
        content.fill(&database, organization)?;
        rooms.make(content.room_ids(organization))?;
    }
    fill::tidy(&database)?;
    if let Some(seed) = settings.bad_day {
        rooms.have_a_bad_day(seed)?;
    }
    let deliveries = database.count("webhook_deliveries")?;
    let server = start()?;
    let watched = watch(arena, &database, &rooms, &server, settings)
        .with_context(|| format!("{} said:\n{}", contestant.name(), tail(&arena.log_path(contestant))))?;
    // SIGKILL, and only then the look: what was confirmed does not need an orderly end.
    drop(server);
    watched.judge(&database, &rooms, settings, deliveries)
}

fn start(arena: &Arena, database: &Database<'_>, rooms: &Rooms) -> Result<Server> {
    let file = arena.scratch().join("cascade.toml");
    std::fs::write(&file, SETTINGS)?;
    let file = file.to_str().context("the scratch folder is no text")?;
    let outside = rooms.environment()?;
    let mut variables = vec![("FAIRCOPY_CONFIG", file), ("FAIRCOPY_ADMIN_TOKEN", ADMIN_TOKEN)];
    variables.extend(outside.iter().map(|(name, value)| (*name, value.as_str())));
    Server::start_with(arena, database.contestant(), &database.url()?, &variables)
}

fn deliver(server: &Server, what: Organization, id: &str) -> Result<()> {
    let (lines, body) = what.delivery(id, SystemTime::now());
    Line::open(server.address(), lines)?.ask("POST", "/webhooks/clerk", &body).map(drop)
}

/// What is known of a deletion when the server has been stopped.
struct Watched {
    tally: Tally,
    receipt: Value,
    before: Cost,
    then: Cost,
}

fn watch(
    arena: &Arena,
    database: &Database<'_>,
    rooms: &Rooms,
    server: &Server,
    settings: &Settings,
) -> Result<Watched> {
    let load = Load::start(Plan {
        targets: vec![server.address()],
        connections: settings.connections,
        arrivals: Arrivals::Fixed { per_second: settings.per_second.into() },
        work: Work::Deliveries(Subjects::Distinct),
    });
    std::thread::sleep(settings.warm_up);
    let mut part = Part::begin(arena, server, rooms)?;
    load.measure();
    std::thread::sleep(settings.window);
    let before = part.end(arena, server, rooms)?;
    load.measure();
    deliver(server, Organization::Deleted, GOES)?;
    // Not sooner: a connection on which nothing is asked is closed after a few seconds.
    let mut admin = Line::open(server.address(), format!("authorization: Bearer {ADMIN_TOKEN}\r\n"))?;
    until(&mut admin, &load, "rows_gone_at")?;
    load.measure();
    until(&mut admin, &load, "finished_at")?;
    let receipt = admin.get(&format!("/admin/v1/jobs/{GOES}"))?;
    let then = part.end(arena, server, rooms)?;
    load.measure();
    std::thread::sleep(settings.window);
    let ended_early = load.has_ended();
    load.stop();
    let tally = load.finish()?;
    ensure!(!ended_early, "the load ended early: deliveries arrived faster than they could be sent");
    ensure!(
        tally.refused.is_empty(),
        "{} refused deliveries of other tenants: {:?}",
        database.contestant().name(),
        tally.refused
    );
    Ok(Watched { tally, receipt, before, then })
}

/// Waits until the job has this time.
fn until(admin: &mut Line, load: &Load, time: &str) -> Result<()> {
    let started = Instant::now();
    loop {
        let jobs = admin.get("/admin/v1/jobs?limit=1")?;
        let job = &jobs["data"][0];
        ensure!(job["id"] == GOES, "the deletion has no job: {jobs}");
        if job[time].is_string() {
            return Ok(());
        }
        if job["state"] == "paused" || job["state"] == "cancelled" {
            bail!("the deletion does not go on: {job}");
        }
        ensure!(!load.has_ended(), "the load ended early: deliveries arrived faster than they could be sent");
        ensure!(started.elapsed() < LONGEST, "the deletion takes too long: {job}");
        std::thread::sleep(LOOK_EVERY);
    }
}

impl Watched {
    /// Fails unless everything of the one organization is gone, everything of the other is there, and every delivery that was
    /// acknowledged is stored.
    fn judge(self, database: &Database<'_>, rooms: &Rooms, settings: &Settings, deliveries: u64) -> Result<Deletion> {
        let name = database.contestant().name();
        fill::is_gone(database, GOES)?;
        KEPT.is_whole(database, STAYS)?;
        let kept: Vec<String> = KEPT.room_ids(STAYS).collect();
        let calls = rooms.deletions_but(&kept)?;
        let acknowledged = self.tally.acknowledged;
        let stored = database.count("webhook_deliveries")? - deliveries;
        // The deletion itself is one of them.
        ensure!(
            stored == acknowledged + 1,
            "{name} acknowledged {acknowledged} deliveries and a deletion, and its audit table holds {stored} of them"
        );
        let sum = |list: &str, number: &str| {
            let entries = self.receipt[list].as_array();
            entries.into_iter().flatten().filter_map(|entry| entry[number].as_u64()).sum::<u64>()
        };
        let (removed, ids) = (sum("removed", "rows"), sum("outside", "steps"));
        let expected = settings.content.rows();
        ensure!(removed == expected, "{name} says that {removed} rows went where there were {expected}");
        let expected = settings.content.room_ids(GOES).count();
        ensure!(usize::try_from(ids)? == expected, "{name} says that {ids} rooms went where there were {expected}");
        // Windows: before, while rows went, while rooms were left, after.
        let window = |number: usize| self.tally.windows.get(number).filter(|window| window.measured >= ENOUGH);
        let measured = |number: usize| {
            let too_short =
                "too few deliveries were measured: take longer --seconds, more --messages, or more --per-second";
            window(number).map(Latency::of).context(too_short)
        };
        let deletion = Deletion {
            before: measured(0)?,
            rows: measured(1)?,
            rooms: window(2).map(Latency::of),
            after: measured(3)?,
            removed,
            rows_seconds: self.seconds_until("rows_gone_at")?,
            ids,
            rooms_seconds: self.seconds_until("outside_gone_at")?,
            calls,
            peak_before: self.before.peak,
            peak: self.then.peak,
            cpu: self.then.server,
            postgres_cpu: self.then.postgres,
            rooms_cpu: self.then.rooms,
            foreign_before: self.before.foreign_cores,
            foreign_cores: self.then.foreign_cores,
            stolen_cores: self.then.stolen_cores,
            verified: stored,
        };
        eprintln!(
            "  {name:<20} p99 {:.2} ms, then {:.2} ms: {:.2} ×; rows gone after {:.1} s, rooms after {:.1} s",
            deletion.before.p99_ms,
            deletion.rows.p99_ms,
            deletion.ratio(),
            deletion.rows_seconds,
            deletion.rooms_seconds
        );
        Ok(deletion)
    }

    /// From the moment when the deletion was told to the one that the receipt names.
    fn seconds_until(&self, time: &str) -> Result<f64> {
        let at = |time: &str| {
            let text = self.receipt[time].as_str().and_then(Millis::parse);
            text.with_context(|| format!("the receipt has no {time}: {}", self.receipt))
        };
        let millis = u64::try_from(at(time)?.0 - at("created_at")?.0).context("a time before the deletion")?;
        // A deletion within the same millisecond took one.
        Ok(count(millis.max(1)) / 1000.0)
    }
}

/// What a part of the time cost: CPU seconds, the most memory in MiB, and cores that others used.
struct Cost {
    server: f64,
    postgres: f64,
    rooms: f64,
    peak: f64,
    foreign_cores: f64,
    stolen_cores: f64,
}

/// A part of the time, from its begin.
struct Part {
    began: Instant,
    ticks: Ticks,
}

impl Part {
    fn begin(arena: &Arena, server: &Server, rooms: &Rooms) -> Result<Part> {
        procfs::reset_peak(server.pid())?;
        Ok(Part { began: Instant::now(), ticks: Ticks::now(arena, server, rooms)? })
    }

    /// Ends it, and begins the next one.
    fn end(&mut self, arena: &Arena, server: &Server, rooms: &Rooms) -> Result<Cost> {
        let peak = procfs::peak_resident(server.pid())?;
        let ended = std::mem::replace(self, Part::begin(arena, server, rooms)?);
        let elapsed = self.began.duration_since(ended.began).as_secs_f64();
        let (now, then) = (self.ticks, ended.ticks);
        let spent = |of: fn(&Ticks) -> u64| procfs::seconds(of(&now) - of(&then));
        let [server, postgres, rooms] = [spent(|it| it.server), spent(|it| it.postgres), spent(|it| it.rooms)];
        let own = spent(|it| it.own);
        let busy = procfs::seconds(now.machine.busy - then.machine.busy);
        let stolen = procfs::seconds(now.machine.stolen - then.machine.stolen);
        Ok(Cost {
            server,
            postgres,
            rooms,
            peak: count(peak) / MIB,
            foreign_cores: (busy - server - postgres - rooms - own).max(0.0) / elapsed,
            stolen_cores: stolen / elapsed,
        })
    }
}

/// CPU time until now of all that have a part in it, and of the machine.
#[derive(Clone, Copy)]
struct Ticks {
    server: u64,
    postgres: u64,
    rooms: u64,
    own: u64,
    machine: MachineTicks,
}

impl Ticks {
    fn now(arena: &Arena, server: &Server, rooms: &Rooms) -> Result<Ticks> {
        let postmaster: Vec<u32> = arena.postmaster().into_iter().collect();
        Ok(Ticks {
            server: procfs::tree_ticks(&[server.pid()])?,
            postgres: procfs::tree_ticks(&postmaster)?,
            rooms: procfs::tree_ticks(&[rooms.pid()])?,
            own: procfs::own_ticks(),
            machine: MachineTicks::now(),
        })
    }
}

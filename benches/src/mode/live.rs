//! `--live`: readers of live queries, their memory, and how long a change takes to reach them.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use faircopy_bench::token::{ISSUER, Instance};
use faircopy_testkit::sender::Sender;
use serde_json::{Value, json};
use tokio::task::LocalSet;

use super::open;
use crate::args::Args;
use crate::contestant::{Contestant, Server};
use crate::database::Database;
use crate::listeners::{self, Seen};
use crate::procfs;
use crate::round;

/// Streams that are opened at once.
const AT_ONCE: usize = 64;
/// Members of one organization, as [`Instance::token`] makes them.
const MEMBERS: usize = 20;
/// Seconds for which a token is good beside the measured ones: opening takes some.
const SPARE: u64 = 240;
/// How long the service is left alone before its memory is read.
const REST: Duration = Duration::from_secs(3);

/// Who listens to what.
#[derive(Clone, Copy)]
enum Scene {
    /// Each to the members of their own organization of twenty; people are renamed.
    Companies,
    /// All to one and the same organization, which is renamed.
    OneForAll,
}

struct Measured {
    per_listener_kib: f64,
    opened_per_second: f64,
    arrived: u64,
    expected: u64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    peak_mib: f64,
}

pub(super) fn run(args: &Args) -> Result<()> {
    let contestants = args.contestants(&[Contestant::FaircopyPostgres, Contestant::FaircopySqlite]);
    ensure!(contestants.iter().all(|contestant| contestant.is_faircopy()), "--live takes Faircopy alone");
    let (arena, mut report) = open(args, "Live queries", &contestants)?;
    let mut rows = Vec::new();
    for &contestant in &contestants {
        for (scene, title, rate) in
            [(Scene::Companies, "their own of 20", args.changes), (Scene::OneForAll, "one and the same", 1)]
        {
            let database = Database::create(&arena, contestant)?;
            let instance = Instance::default();
            let pem = instance.pem();
            let variables = [("CLERK_JWT_KEY", pem.as_str()), ("CLERK_JWT_ISSUER_DOMAIN", ISSUER)];
            let server = Server::start_with(&arena, contestant, &database.url()?, &variables)?;
            std::thread::sleep(REST);
            let sender = Sender::new(format!("http://{}/webhooks/clerk", server.address()), &arena.secret);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let scene = scene_of(args, scene, rate, &instance, &server, &sender);
            let measured = LocalSet::new().block_on(&runtime, scene)?;
            eprintln!("  {} {title}: p99 {:.1} ms", contestant.name(), measured.p99_ms);
            report.data(
                &format!("{}-{}", contestant.name(), rows.len()),
                json!({ "per_listener_kib": measured.per_listener_kib, "p50_ms": measured.p50_ms,
                        "p99_ms": measured.p99_ms, "max_ms": measured.max_ms, "arrived": measured.arrived }),
            );
            rows.push(vec![
                format!("{}, {title}", contestant.title()),
                format!("{rate}"),
                format!("{:.1}", measured.per_listener_kib),
                format!("{:.0}", measured.peak_mib),
                format!("{:.0}", measured.opened_per_second),
                format!("{} of {}", measured.arrived, measured.expected),
                format!("{:.1} / {:.1} / {:.1}", measured.p50_ms, measured.p99_ms, measured.max_ms),
            ]);
        }
    }
    report.table(
        &[
            "listening to an organization",
            "changes a second",
            "KiB a listener",
            "peak MiB",
            "opened a second",
            "values that arrived",
            "p50 / p99 / max ms",
        ],
        &rows,
    );
    report.note(format!(
        "{} streams on one process, each a connection and a signed-in user. A change is a signed delivery; its delay runs \
         from the moment it is sent to the arrival of the value at each listener, so the commit is in it. {} s of changes.",
        args.subscribers, args.seconds
    ));
    report.note("Memory of a listener: resident memory with all of them at rest, less that before the first, divided.");
    report.finish(args)
}

async fn scene_of(
    args: &Args,
    scene: Scene,
    rate: u64,
    instance: &Instance,
    server: &Server,
    sender: &Sender,
) -> Result<Measured> {
    let mib = |bytes: u64| round::count(bytes) / (1024.0 * 1024.0);
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (now, lifetime) = (i64::try_from(seconds)?, i64::try_from(args.seconds + SPARE)?);
    let before = procfs::resident(server.pid())?;
    let seen = Seen::new()?;
    let began = Instant::now();
    let mut opening = tokio::task::JoinSet::new();
    for number in 0..args.subscribers {
        // One organization for all is the first one's.
        let token = match scene {
            Scene::Companies => instance.token(number, now, lifetime),
            Scene::OneForAll => instance.token_in(number, 0, now, lifetime),
        };
        let path = match scene {
            Scene::Companies => "/v1/organization/members",
            Scene::OneForAll => "/v1/organization",
        };
        let (address, seen) = (server.address(), seen.clone());
        opening.spawn_local(async move { listeners::listen(address, path, &token, seen).await });
        while opening.len() >= AT_ONCE {
            opening.join_next().await.transpose()?.transpose()?;
        }
    }
    while let Some(opened) = opening.join_next().await {
        opened??;
    }
    let opened_per_second = round::count(u64::try_from(args.subscribers)?) / began.elapsed().as_secs_f64();
    tokio::time::sleep(REST).await;
    let after = procfs::resident(server.pid())?;
    let expected = changes(args, scene, rate, sender, &seen, now).await?;
    tokio::time::sleep(REST).await;
    let seen = seen.borrow();
    ensure!(seen.lost == 0, "{} streams were lost", seen.lost);
    let ms = |quantile: f64| round::count(seen.delays.value_at_quantile(quantile)) / 1000.0;
    Ok(Measured {
        per_listener_kib: round::count(after.saturating_sub(before))
            / 1024.0
            / round::count(u64::try_from(args.subscribers)?),
        opened_per_second,
        arrived: seen.delays.len(),
        expected,
        p50_ms: ms(0.5),
        p99_ms: ms(0.99),
        max_ms: round::count(seen.delays.max()) / 1000.0,
        peak_mib: mib(procfs::peak_resident(server.pid())?),
    })
}

/// Sends changes at a steady rate; how many arrivals they should lead to.
async fn changes(
    args: &Args,
    scene: Scene,
    rate: u64,
    sender: &Sender,
    seen: &Rc<RefCell<Seen>>,
    now: i64,
) -> Result<u64> {
    let pause = Duration::from_secs_f64(1.0 / round::count(rate));
    let mut tick = tokio::time::interval(pause);
    let mut expected = 0;
    for number in 0..usize::try_from(rate * args.seconds)? {
        tick.tick().await;
        let version = now * 1000 + i64::try_from(number)?;
        // Far apart, so that no list changes twice while it is being told.
        let subject = (number * 7 * MEMBERS) % args.subscribers;
        let (kind, data, listeners) = match scene {
            Scene::Companies => {
                let mates = MEMBERS.min(args.subscribers - subject / MEMBERS * MEMBERS);
                ("user.updated", user(subject, number, version), mates)
            }
            Scene::OneForAll => ("organization.updated", organization(number, version), args.subscribers),
        };
        let event = json!({ "object": "event", "type": kind, "timestamp": version, "data": data });
        seen.borrow_mut().sent.push(Instant::now());
        let reply = sender.send(&format!("msg_live{number}"), &event.to_string()).await;
        ensure!(reply.status == 200, "a change was answered {}: {}", reply.status, reply.body);
        expected += u64::try_from(listeners)?;
    }
    Ok(expected)
}

fn user(number: usize, change: usize, version: i64) -> Value {
    json!({
        "object": "user", "id": format!("user_2{number:026}"), "first_name": format!("change-{change}"), "last_name": "x",
        "public_metadata": {}, "email_addresses": [], "created_at": version, "updated_at": version,
    })
}

fn organization(change: usize, version: i64) -> Value {
    json!({
        "object": "organization", "id": format!("org_2{:026}", 0), "name": format!("change-{change} x"), "slug": "one",
        "public_metadata": {}, "created_at": version, "updated_at": version,
    })
}

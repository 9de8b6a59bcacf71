//! The process dies at every named step (P2): nothing acknowledged is lost, and nothing is half done.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use faircopy_store::failpoint::STEPS;
use faircopy_testkit::seed::Seed;
use faircopy_testkit::server::Server;
use faircopy_world::{Settings, World};
use serde_json::{Value, json};

use crate::support::{History, Load, PATIENCE, POLL, Place, Sent, check, faircopy, feed, now_ms, sender};

/// How often a step is passed before it kills: at the first time, soon, and once batches have formed.
const PASSES: [u32; 4] = [0, 2, 7, 20];
/// Steps that no delivery passes; they have tests of their own.
const APART: [&str; 7] =
    ["migration-step", "expiry", "cascade-chunk", "cascade-end", "pre-http", "post-http-pre-mark", "destination-sent"];

fn assert_died_at_step(status: ExitStatus, what: &str) {
    const SIGABRT: i32 = 6;
    assert_eq!(
        status.signal(),
        Some(SIGABRT),
        "{what}: {status}; is the binary built with --features failpoints, and does anything pass the step?"
    );
}

/// Starts a server with the failpoints that the file `failpoints` in its folder names: the next start has others, on the
/// same port.
const BY_FILE: [&str; 4] =
    ["sh", "-c", "FAILPOINTS=$(cat failpoints 2>/dev/null); export FAILPOINTS; exec \"$@\"", "-"];

/// Starts it again, and returns how it ended, be it before or after it was seen to be ready.
async fn restart_and_die(server: &mut Server, failpoints: &str) -> ExitStatus {
    fs::write(server.folder().join("failpoints"), failpoints).expect("write the file");
    match server.try_restart().await {
        Ok(()) => server.wait(Duration::from_secs(30)).await,
        Err(failed) => failed.status.unwrap_or_else(|| panic!("{failpoints}: {failed}")),
    }
}

async fn restart_for_good(server: &mut Server) {
    fs::write(server.folder().join("failpoints"), "").expect("write the file");
    server.restart().await;
}

async fn die_at_every_step(place: Place) {
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 1_500);
    let mut server = Server::start(place.options().prefix(&BY_FILE)).await;
    let load = Load::start(vec![sender(&server)], history.deliveries(seed.value()), 8);
    for passes in PASSES {
        for step in STEPS.into_iter().filter(|step| !APART.contains(step)) {
            let failpoint = format!("{step}={passes}*off->return");
            assert_died_at_step(restart_and_die(&mut server, &failpoint).await, &failpoint);
        }
    }
    restart_for_good(&mut server).await;
    let sent = load.finish().await;
    assert!(!server.stderr().contains("panicked"), "{}", server.stderr());
    check(&place, &server, &history, &sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dying_at_any_step_loses_nothing_on_sqlite() {
    die_at_every_step(Place::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dying_at_any_step_loses_nothing_on_postgres() {
    die_at_every_step(Place::postgres().await).await;
}

async fn die_in_a_migration(place: Place) {
    let folder = tempfile::tempdir().expect("a folder");
    let env = [("DATABASE_URL", place.url())];
    for _ in 0..3 {
        let failed = Server::try_start(place.options().env("FAILPOINTS", "migration-step=return")).await;
        let failed = failed.expect_err("it dies while it migrates");
        assert_died_at_step(failed.status.expect("it has ended"), "migration-step");
        let check = faircopy(folder.path(), &env, &["migrate", "--check"]).await;
        assert_eq!(check.code, Some(1), "nothing of the migration is left: {check:?}");
    }
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 100);
    let server = place.serve().await;
    let check_again = faircopy(folder.path(), &env, &["migrate", "--check"]).await;
    assert_eq!(check_again.code, Some(0), "{check_again:?}");
    let mut sent = Sent::default();
    sent.add(&sender(&server).send_all(history.deliveries(seed.value()), 4, PATIENCE).await);
    check(&place, &server, &history, &sent).await;
}

#[tokio::test]
async fn dying_in_the_first_migration_leaves_a_start_possible_on_sqlite() {
    die_in_a_migration(Place::sqlite()).await;
}

#[tokio::test]
async fn dying_in_the_first_migration_leaves_a_start_possible_on_postgres() {
    die_in_a_migration(Place::postgres().await).await;
}

async fn start_three_at_once(place: Place) {
    let starting: Vec<_> = (0..3).map(|_| tokio::spawn(Server::try_start(place.options()))).collect();
    let mut servers = Vec::new();
    for server in starting {
        servers.push(server.await.expect("a task").unwrap_or_else(|error| panic!("{error}")));
    }
    for server in &servers {
        assert_eq!(server.get("/readyz").await.expect("an answer").status, 200);
    }
}

#[tokio::test]
async fn three_processes_that_migrate_at_once_take_turns_on_sqlite() {
    start_three_at_once(Place::sqlite()).await;
}

#[tokio::test]
async fn three_processes_that_migrate_at_once_take_turns_on_postgres() {
    start_three_at_once(Place::postgres().await).await;
}

/// Invitations that are pending now and will have expired in two seconds.
fn expiring() -> (History, i64) {
    let expires_at = now_ms() + 2_000;
    let mut world = World::new(1, Settings { start_ms: now_ms() - 60_000, ..Settings::default() });
    let user = world.create_user("Ada", "Byron", "ada@example.com");
    let organization = world.create_organization("Analytical Engines", &user);
    for number in 0..5 {
        world.invite(&organization, &format!("guest{number}@example.com"), "org:member");
    }
    let mut history = History { events: world.take_events(), truth: world.truth() };
    for event in &mut history.events {
        let mut body: Value = serde_json::from_str(&event.body).expect("JSON");
        if let Some(time) = body["data"].get_mut("expires_at") {
            *time = json!(expires_at);
            event.body = body.to_string();
        }
    }
    history.truth.invitations.values_mut().for_each(|row| row.expires_at_ms = expires_at);
    (history, expires_at)
}

async fn die_while_invitations_expire(place: Place) {
    let mut server = Server::start(place.options().prefix(&BY_FILE)).await;
    let (history, expires_at) = expiring();
    let mut sent = Sent::default();
    sent.add(&sender(&server).send_all(history.deliveries(1), 2, PATIENCE).await);
    check(&place, &server, &history, &sent).await;
    let changes = feed(&server).await;
    server.kill9().await;
    while now_ms() <= expires_at {
        tokio::time::sleep(POLL).await;
    }
    for _ in 0..3 {
        assert_died_at_step(restart_and_die(&mut server, "expiry=return").await, "expiry");
        place.tables().await.assert_same_as(&history.truth);
    }
    restart_for_good(&mut server).await;
    let expired = async {
        while place.tables().await.invitations.values().any(|row| row.status.as_deref() != Some("expired")) {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), expired).await.expect("the invitations expire");
    assert_eq!(feed(&server).await, changes + 5, "one change each");
}

#[tokio::test]
async fn dying_while_invitations_expire_loses_nothing_on_sqlite() {
    die_while_invitations_expire(Place::sqlite()).await;
}

#[tokio::test]
async fn dying_while_invitations_expire_loses_nothing_on_postgres() {
    die_while_invitations_expire(Place::postgres().await).await;
}

/// A panic while merging is a bug, and not the sender's loss (P5): the others of the batch are stored, and what panics
/// alone is quarantined and can be replayed.
async fn panic_while_merging(place: Place) {
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 200);
    let server = Server::start(place.options().env("FAILPOINTS", "mid-merge=1*panic->off")).await;
    let deliveries = history.deliveries(seed.value());
    let (id, body) = &deliveries[0];
    let first = sender(&server).send(id, body).await;
    assert_eq!((first.status, first.outcome.as_deref()), (200, Some("quarantined")), "{}", first.body);
    let mut sent = Sent::default();
    sent.add(&sender(&server).send_all(deliveries[1..].to_vec(), 8, PATIENCE).await);
    let folder = tempfile::tempdir().expect("a folder");
    let replayed = faircopy(folder.path(), &[("DATABASE_URL", place.url())], &["replay", id, "--json"]).await;
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    assert_ne!(place.deliveries().await[id].outcome, "quarantined");
    check(&place, &server, &history, &sent).await;
}

#[tokio::test]
async fn a_panic_while_merging_quarantines_one_delivery_on_sqlite() {
    panic_while_merging(Place::sqlite()).await;
}

#[tokio::test]
async fn a_panic_while_merging_quarantines_one_delivery_on_postgres() {
    panic_while_merging(Place::postgres().await).await;
}

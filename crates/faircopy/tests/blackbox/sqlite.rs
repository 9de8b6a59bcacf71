//! The file under SQLite: at its limit, shared with other processes, and proved to be synced before an acknowledgement.

use std::fs;
use std::time::{Duration, Instant};

use faircopy_testkit::seed::Seed;
use faircopy_testkit::server::Server;

use crate::support::{History, Load, PATIENCE, Place, SECRET, Sent, check, faircopy, sender, until_sent_back};

/// S1: a file that may not grow (`RLIMIT_FSIZE`): the write fails with another error than on a full disk. Needs no root.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_cannot_grow_sends_deliveries_back() {
    let place = Place::sqlite();
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 400);
    let limited = ["sh", "-c", "trap '' XFSZ; ulimit -f 1024; exec \"$@\"", "-"];
    let mut server = Server::start(place.options().prefix(&limited)).await;
    let deliveries = history.deliveries(seed.value());
    let mut sent = until_sent_back(&sender(&server), &deliveries).await;
    server.restart_with(place.options()).await;
    sent.add(&sender(&server).send_all(deliveries, 8, PATIENCE).await);
    check(&place, &server, &history, &sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledgement_is_synced_to_the_disk() {
    const ACKS: usize = 300;
    let place = Place::sqlite();
    let seed = Seed::of_run();
    let history = History::random(seed.value(), ACKS);
    let folder = tempfile::tempdir().expect("a folder");
    let counts = folder.path().join("syscalls");
    let counts = counts.to_str().expect("a readable path");
    let strace = ["strace", "-D", "-f", "-c", "-e", "trace=fdatasync,fsync", "-o", counts];
    let mut server = Server::start(place.options().prefix(&strace)).await;
    let mut sent = Sent::default();
    let deliveries: Vec<_> = history.events.iter().take(ACKS).map(|e| (e.svix_id.clone(), e.body.clone())).collect();
    sent.add(&sender(&server).send_all(deliveries, 1, PATIENCE).await);
    assert_eq!(sent.acked.len(), ACKS);
    assert!(server.terminate().await.success());
    // strace writes its table when the last thread is gone, which may be after its tracee was waited for.
    let start = Instant::now();
    let synced = loop {
        let table = fs::read_to_string(counts).unwrap_or_default();
        if table.contains("total") {
            break calls(&table);
        }
        assert!(start.elapsed() < PATIENCE, "strace wrote no table: is ptrace allowed here? {}", server.stderr());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(synced >= ACKS, "{synced} syncs for {ACKS} serial acknowledgements");
}

/// The calls of all lines of `strace -c` that name a sync.
fn calls(table: &str) -> usize {
    let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines
        .filter(|words| words.last().is_some_and(|name| name.ends_with("sync")))
        .filter_map(|w| w[3].parse::<usize>().ok())
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_processes_on_the_same_file_disturb_nobody() {
    let place = Place::sqlite();
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 1_000);
    let servers = [place.serve().await, place.serve().await];
    let load = Load::start(servers.iter().map(sender).collect(), history.deliveries(seed.value()), 4);
    let folder = tempfile::tempdir().expect("a folder");
    let env = [("DATABASE_URL", place.url()), ("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)];
    for _ in 0..3 {
        for arguments in [vec!["status", "--json"], vec!["replay", "--all", "--json"], vec!["migrate", "--check"]] {
            let output = faircopy(folder.path(), &env, &arguments).await;
            assert_eq!(output.code, Some(0), "{arguments:?}: {output:?}");
        }
    }
    let sent = load.finish().await;
    assert_eq!(sent.by_status.keys().collect::<Vec<_>>(), [&200], "no sender was sent back: {:?}", sent.by_status);
    assert_eq!(sent.unanswered, 0);
    check(&place, &servers[1], &history, &sent).await;
}

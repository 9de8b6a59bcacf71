//! Any order, any duplicates, any split over processes, and processes that are killed meanwhile: the same copy.

use std::time::Duration;

use faircopy_testkit::seed::Seed;
use faircopy_testkit::server::Server;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::support::{History, PATIENCE};
use crate::support::{Load, Place, Sent, check, feed, sender, shares};

const CONNECTIONS: usize = 16;

async fn replicas(place: &Place, count: usize) -> Vec<Server> {
    let mut servers = Vec::new();
    for _ in 0..count {
        servers.push(place.serve().await);
    }
    servers
}

fn history(seed: &Seed) -> History {
    History::random(seed.value(), 5_000).and(History::company(seed.value(), 1_000, 40))
}

/// Sends everything once, shuffled and with duplicates, and then, in another order, once more (T5).
async fn shuffle(place: Place, count: usize) {
    let seed = Seed::of_run();
    let history = history(&seed);
    let servers = replicas(&place, count).await;
    let deliveries = history.deliveries(seed.value());
    let number = deliveries.len();
    let mut sent = Sent::default();
    let sending: Vec<_> = shares(deliveries, count)
        .into_iter()
        .zip(&servers)
        .map(|(share, server)| {
            let sender = sender(server);
            tokio::spawn(async move { sender.send_all(share, CONNECTIONS.div_ceil(count), PATIENCE).await })
        })
        .collect();
    for report in sending {
        sent.add(&report.await.expect("a sender"));
    }
    assert_eq!((sent.count(200), sent.by_status.len()), (number, 1), "{:?}", sent.by_status);
    check(&place, &servers[0], &history, &sent).await;
    let attempts: i64 = place.deliveries().await.values().map(|delivery| delivery.attempts).sum();
    assert_eq!(usize::try_from(attempts), Ok(number), "every attempt is counted once");
    let first_time = number - sent.by_outcome.get("duplicate").copied().unwrap_or_default();
    assert_eq!(first_time, history.events.len(), "each svix-id is new once: {:?}", sent.by_outcome);

    place.until_calm().await;
    let changes = feed(&servers[0]).await;
    let again: Vec<_> = history.deliveries(seed.value() ^ 1).into_iter().take(1_000).collect();
    let report = sender(&servers[count - 1]).send_all(again, CONNECTIONS, PATIENCE).await;
    report.assert_complete();
    assert_eq!(report.by_outcome.keys().collect::<Vec<_>>(), ["duplicate"]);
    assert_eq!(feed(&servers[0]).await, changes, "what is known changes nothing");
    place.tables().await.assert_same_as(&history.truth);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shuffled_history_is_copied_exactly_on_sqlite() {
    shuffle(Place::sqlite(), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shuffled_history_over_three_processes_is_copied_exactly_on_postgres() {
    shuffle(Place::postgres().await, 3).await;
}

/// Kills before the load may end.
const KILLS: usize = 12;

/// `kill -9` of a random process about every half second, while the senders send again what was not acknowledged (P1, S2).
async fn shuffle_under_kills(place: Place, count: usize) {
    let seed = Seed::of_run();
    let history = history(&seed);
    let mut servers = replicas(&place, count).await;
    let deliveries = history.deliveries(seed.value());
    let load = Load::start(servers.iter().map(sender).collect(), deliveries, CONNECTIONS.div_ceil(count));
    let mut dice = StdRng::seed_from_u64(seed.value());
    let mut kills = 0;
    while kills < KILLS || !load.has_passed() {
        // The fault's own rhythm: nothing is waited for here.
        tokio::time::sleep(Duration::from_millis(dice.random_range(50..1_000))).await;
        let victim = dice.random_range(0..count);
        servers[victim].kill9().await;
        servers[victim].restart().await;
        kills += 1;
    }
    let sent = load.finish().await;
    assert!(sent.unanswered > 0, "no kill met a request in flight");
    println!("{kills} kills, {} attempts without an answer, {:?}", sent.unanswered, sent.by_status);
    check(&place, &servers[0], &history, &sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_loses_nothing_on_sqlite() {
    shuffle_under_kills(Place::sqlite(), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_of_one_of_three_processes_loses_nothing_on_postgres() {
    shuffle_under_kills(Place::postgres().await, 3).await;
}

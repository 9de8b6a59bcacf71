//! What lies between the server and PostgreSQL: connections cut at any byte, answers that come late.

use std::time::{Duration, Instant};

use faircopy_testkit::postgres::{Database, fresh_database};
use faircopy_testkit::proxy::{Cut, Proxy};
use faircopy_testkit::seed::Seed;
use faircopy_testkit::server::Server;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::support::{
    ANSWER_WITHIN, History, Load, PATIENCE, POLL, Place, Sent, administer, check, memory_kib, ready_soon, scale, sender,
};

/// A proxy before the cluster of a database.
async fn proxy(database: &Database) -> Proxy {
    let (_, port) = database.url().rsplit_once(':').expect("an address with a port");
    let port = port.split('/').next().and_then(|port| port.parse().ok()).expect("a port");
    Proxy::to(port).await
}

/// `faircopy serve` that reaches its database through the proxy.
async fn serve_behind(proxy: &Proxy, place: &Place) -> Server {
    Server::start(place.options().env("DATABASE_URL", proxy.url(place.url()))).await
}

/// D3: every connection is cut at a random byte of either direction, or in place of PostgreSQL's answer to a `COMMIT`:
/// then the transaction is durable and the server never learns it. Scale: 30 cuts, eight of them of the last kind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_at_any_byte_loses_nothing() {
    let (cuts, commits) = (30 * scale() as usize, 8 * scale() as usize);
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 400);
    let database = fresh_database().await;
    let place = Place::at(database.url());
    let proxy = proxy(&database).await;
    let mut server = serve_behind(&proxy, &place).await;
    let mut dice = StdRng::seed_from_u64(seed.value());
    proxy.cut_by(move || {
        Some(match dice.random_range(0..3) {
            // From the first byte of the greeting to the middle of the third or fourth batch of eight.
            0 => Cut::ToServer(dice.random_range(0..100_000)),
            1 => Cut::ToClient(dice.random_range(0..20_000)),
            _ => Cut::CommitAnswer(dice.random_range(0..5)),
        })
    });
    // Those that are open have no cut.
    let faircopy = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND application_name = 'faircopy'";
    administer(place.url(), faircopy).await;
    let load = Load::start(vec![sender(&server)], history.deliveries(seed.value()), 8);
    let start = Instant::now();
    while proxy.cuts() < cuts || proxy.commit_answers_cut() < commits || !load.has_passed() {
        let done = (proxy.cuts(), proxy.commit_answers_cut(), load.has_passed());
        assert!(start.elapsed() < PATIENCE * scale(), "cuts, cut answers to COMMIT, everything acknowledged: {done:?}");
        tokio::time::sleep(POLL).await;
    }
    proxy.cut_by(|| None);
    let sent = load.finish().await;
    println!("{} cuts, {} of a COMMIT's answer, {:?}", proxy.cuts(), proxy.commit_answers_cut(), sent.by_status);
    assert_eq!(sent.unanswered, 0, "each request got an answer");
    assert!(server.is_running(), "it lives through every cut");
    ready_soon(&server).await;
    check(&place, &server, &history, &sent).await;
}

/// D5: the database's answers come late, by 500 ms and then by 5 s. Scale: for two seconds and then until the last delivery
/// that is on its way has waited its longest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_database_is_answered_for_in_time_and_takes_no_memory() {
    // Sixteen that wait at once, as in the ordinary load before.
    const CONNECTIONS: usize = 16;
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 1_500);
    let database = fresh_database().await;
    let place = Place::at(database.url());
    let proxy = proxy(&database).await;
    let mut server = serve_behind(&proxy, &place).await;
    let (sender, deliveries) = (sender(&server), history.deliveries(seed.value()));
    let mut sent = Sent::default();
    sent.add(&sender.send_all(deliveries[..1_000].to_vec(), CONNECTIONS, PATIENCE).await);
    let before = memory_kib(server.pid());
    for delay_ms in [500, 5_000] {
        proxy.delay(Duration::from_millis(delay_ms));
        let lasts = Duration::from_secs(2) * scale();
        let slow = sender.send_all(deliveries[1_000..].to_vec(), CONNECTIONS, lasts).await;
        println!("{delay_ms} ms: {:?}, at most {:?}", slow.by_status, slow.longest_wait);
        assert!(slow.by_status.keys().all(|status| matches!(status, 200 | 503)), "{:?}", slow.by_status);
        assert_eq!(slow.unanswered, 0, "each request got an answer");
        assert!(slow.longest_wait <= ANSWER_WITHIN, "answered after {:?}", slow.longest_wait);
        assert_eq!(server.get("/healthz").await.expect("an answer").status, 200);
        sent.acked.extend(slow.acked);
    }
    let after = memory_kib(server.pid());
    println!("{before} KiB before, {after} KiB after");
    // A fifth, and what sixteen connections' buffers and the allocator's own pages come to on a process this small.
    assert!(after <= before + before / 5 + 4 * 1024, "{before} KiB before, {after} KiB after");
    proxy.delay(Duration::ZERO);
    let healing = Instant::now();
    ready_soon(&server).await;
    sent.add(&sender.send_all(deliveries, CONNECTIONS, PATIENCE).await);
    println!("everything acknowledged {:?} after it was fast again", healing.elapsed());
    assert!(server.is_running(), "it healed without a restart");
    check(&place, &server, &history, &sent).await;
}

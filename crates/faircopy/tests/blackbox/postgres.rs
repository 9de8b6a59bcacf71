//! PostgreSQL is killed, paused, made read-only, filled up with connections, or started unsafe.

use std::time::{Duration, Instant};

use faircopy_testkit::postgres::{Postgres, fresh_database};
use faircopy_testkit::seed::Seed;
use faircopy_testkit::server::Server;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::support::{
    ANSWER_WITHIN, History, Load, PATIENCE, POLL, Place, Sent, administer, all_at_once, assert_sent_back, check,
    number, ready_soon, sender,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_postgres_loses_nothing_and_the_server_recovers_by_itself() {
    const CRASHES: usize = 5;
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 2_000);
    let mut postgres = Postgres::start().await;
    let place = Place::at(postgres.create_database("copy").await);
    let mut server = place.serve().await;
    let deliveries = history.deliveries(seed.value());
    let probe = deliveries[0].clone();
    let load = Load::start(vec![sender(&server)], deliveries, 8);
    let mut dice = StdRng::seed_from_u64(seed.value());
    for _ in 0..CRASHES {
        // The fault's own rhythm: nothing is waited for here.
        tokio::time::sleep(Duration::from_millis(dice.random_range(100..900))).await;
        postgres.kill();
        assert_sent_back(&sender(&server).send(&probe.0, &probe.1).await);
        assert_eq!(server.get("/readyz").await.expect("an answer").status, 503);
        assert_eq!(server.get("/healthz").await.expect("an answer").status, 200, "it is alive, only not ready");
        postgres.restart().await;
        ready_soon(&server).await;
    }
    let sent = load.finish().await;
    assert!(sent.count(503) >= CRASHES, "no crash met a delivery: {:?}", sent.by_status);
    assert_eq!(sent.unanswered, 0, "each request got an answer");
    assert!(server.is_running(), "the first process recovered");
    check(&place, &server, &history, &sent).await;
}

/// Before PostgreSQL runs there is nobody who could apply migrations: the service waits, alive and not ready.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_starts_first_waits_for_postgres() {
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 100);
    let deliveries = history.deliveries(seed.value());
    let mut postgres = Postgres::start().await;
    let place = Place::at(postgres.create_database("copy").await);
    postgres.stop().await;
    let mut server = Server::start(place.options().ready_path("/healthz")).await;
    all_at_once(&sender(&server), &deliveries[..20]).await.iter().for_each(assert_sent_back);
    let answer = server.get("/readyz").await.expect("an answer");
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")), "{}", answer.text());
    assert!(answer.text().contains("database-unavailable"), "{}", answer.text());
    assert!(server.stderr().contains("waiting for the database"), "{}", server.stderr());
    postgres.restart().await;
    ready_soon(&server).await;
    let mut sent = Sent::default();
    sent.add(&sender(&server).send_all(deliveries, 8, PATIENCE).await);
    check(&place, &server, &history, &sent).await;

    postgres.stop().await;
    server.restart_with(place.options().ready_path("/healthz")).await;
    assert!(server.terminate().await.success(), "who waits can be told to end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminated_backends_lose_nothing() {
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 1_000);
    let database = fresh_database().await;
    let place = Place::at(database.url());
    let server = place.serve().await;
    let load = Load::start(vec![sender(&server)], history.deliveries(seed.value()), 8);
    let count = "SELECT coalesce(sum(attempts), 0)::bigint FROM faircopy.webhook_deliveries";
    let terminate = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND application_name = 'faircopy'";
    for _ in 0..4 {
        let before = number(place.url(), count).await;
        let second = Instant::now();
        while second.elapsed() < Duration::from_secs(1) {
            administer(place.url(), terminate).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(number(place.url(), count).await > before, "not one delivery was taken within a second (D2)");
    }
    let sent = load.finish().await;
    check(&place, &server, &history, &sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_hangs_is_answered_in_time() {
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 200);
    let postgres = Postgres::start().await;
    let place = Place::at(postgres.create_database("copy").await);
    let server = place.serve().await;
    let deliveries = history.deliveries(seed.value());
    let sender = sender(&server);
    let mut sent = Sent::default();
    sent.add(&sender.send_all(deliveries[..40].to_vec(), 4, PATIENCE).await);

    postgres.pause();
    let paused = Instant::now();
    let first = all_at_once(&sender, &deliveries[40..60]);
    let readiness = async {
        let start = Instant::now();
        let answer = server.get("/readyz").await;
        assert_eq!(answer.expect("readiness is answered too").status, 503);
        assert!(start.elapsed() <= ANSWER_WITHIN);
    };
    let (first, ()) = tokio::join!(first, readiness);
    // The second wave meets a worker that has lost its connection and gets no other.
    let second = all_at_once(&sender, &deliveries[60..80]).await;
    first.iter().chain(&second).for_each(assert_sent_back);
    tokio::time::sleep(Duration::from_secs(12).saturating_sub(paused.elapsed())).await;
    postgres.resume();

    ready_soon(&server).await;
    sent.add(&sender.send_all(deliveries, 4, PATIENCE).await);
    check(&place, &server, &history, &sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_postgres_sends_deliveries_back_until_it_heals() {
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 500);
    let postgres = Postgres::start().await;
    let place = Place::at(postgres.create_database("copy").await);
    let server = place.serve().await;
    let deliveries = history.deliveries(seed.value());
    let sender = sender(&server);
    let mut sent = Sent::default();
    sent.add(&sender.send_all(deliveries[..200].to_vec(), 8, PATIENCE).await);

    administer(&postgres.url(), "ALTER SYSTEM SET default_transaction_read_only = on").await;
    administer(&postgres.url(), "SELECT pg_reload_conf()").await;
    let (id, body) = &deliveries[200];
    // A reload reaches each backend in its own time.
    let start = Instant::now();
    while sender.send(id, body).await.status == 200 {
        assert!(start.elapsed() < PATIENCE, "PostgreSQL does not become read-only");
        tokio::time::sleep(POLL).await;
    }
    all_at_once(&sender, &deliveries[200..220]).await.iter().for_each(assert_sent_back);

    // The whole session is read-only: the administrator's too, until it says otherwise.
    let write = "SET default_transaction_read_only = off";
    let mut administrator = PgConnection::connect(&postgres.url()).await.expect("connect");
    administrator.execute(write).await.expect(write);
    administrator.execute("ALTER SYSTEM RESET default_transaction_read_only").await.expect("reset");
    administrator.execute("SELECT pg_reload_conf()").await.expect("reload");
    administrator.close().await.expect("close");
    sent.add(&sender.send_all(deliveries, 8, PATIENCE).await);
    check(&place, &server, &history, &sent).await;
}

#[tokio::test]
async fn unsafe_durability_is_refused_unless_it_is_asked_for() {
    let no_fsync = Postgres::start_with(&[("fsync", "off")]).await;
    let no_fsync = Place::at(no_fsync_database(&no_fsync).await);
    let asynchronous = fresh_database().await;
    let name = asynchronous.name();
    administer(asynchronous.url(), &format!("ALTER DATABASE {name} SET synchronous_commit = off")).await;
    let asynchronous = Place::at(asynchronous.url());
    for (place, setting) in [(&no_fsync, "fsync"), (&asynchronous, "synchronous_commit")] {
        let refused = Server::try_start(place.options()).await.expect_err(setting);
        assert_eq!(refused.status.and_then(|status| status.code()), Some(1), "{refused}");
        assert!(refused.stderr.contains(setting), "{refused}");
        assert!(refused.stderr.contains("--allow-unsafe-durability"), "{refused}");
        let server = Server::start(place.options().argument("--allow-unsafe-durability")).await;
        let (id, body) = &History::random(1, 1).deliveries(1)[0];
        assert_eq!(sender(&server).send(id, body).await.status, 200);
    }
}

async fn no_fsync_database(postgres: &Postgres) -> String {
    postgres.create_database("copy").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_live_with_too_few_connections() {
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 1_000);
    // Each would have ten: four workers that write, and six readers.
    let postgres = Postgres::start_with(&[("max_connections", "10")]).await;
    let place = Place::at(postgres.create_database("copy").await);
    let mut servers = Vec::new();
    for _ in 0..3 {
        servers.push(place.serve().await);
    }
    let load = Load::start(servers.iter().map(sender).collect(), history.deliveries(seed.value()), 4);
    // Readers take what connections there are.
    let mut readings = Vec::new();
    for server in &servers {
        for _ in 0..8 {
            let url = format!("{}/readyz", server.url());
            readings.push(tokio::spawn(async move {
                let mut statuses = Vec::new();
                for _ in 0..20 {
                    statuses.push(faircopy_testkit::client::get(&url).await.expect("an answer").status);
                }
                statuses
            }));
        }
    }
    for reading in readings {
        let statuses = reading.await.expect("a reader");
        assert!(statuses.iter().all(|status| matches!(status, 200 | 503)), "{statuses:?}");
    }
    let sent = load.finish().await;
    for server in &mut servers {
        assert!(server.is_running(), "{}", server.stderr());
    }
    // Two processes less, so that this test's own connections find a place.
    servers.truncate(1);
    check(&place, &servers[0], &history, &sent).await;
}

/// D13: senders that hang up at any moment leave no transaction open and take nothing with them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senders_that_hang_up_take_nothing_with_them() {
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 1_500);
    let database = fresh_database().await;
    let place = Place::at(database.url());
    let server = place.serve().await;
    let deliveries = history.deliveries(seed.value());
    let mut sent = Sent::default();
    let storm: Vec<_> = (0..32_u64)
        .map(|number| {
            let (sender, deliveries) = (sender(&server), deliveries.clone());
            let mut dice = StdRng::seed_from_u64(seed.value() ^ number);
            tokio::spawn(async move {
                let mut acked = Vec::new();
                for at in (0..deliveries.len()).filter(|at| at % 32 == usize::try_from(number).expect("small")) {
                    let (id, body) = &deliveries[at];
                    let patience = Duration::from_millis(dice.random_range(0..50));
                    let answer = tokio::time::timeout(patience, sender.try_send(id, body)).await;
                    acked.extend(matches!(answer, Ok(Ok(reply)) if reply.is_ack()).then(|| id.clone()));
                }
                acked
            })
        })
        .collect();
    for acked in storm {
        sent.acked.extend(acked.await.expect("a sender"));
    }
    let hung_up = deliveries.len() - sent.acked.len();
    assert!(hung_up > 0 && !sent.acked.is_empty(), "{hung_up} of {} hung up", deliveries.len());
    let idle = "SELECT count(*) FROM pg_stat_activity \
        WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
    let start = Instant::now();
    while number(place.url(), idle).await > 0 {
        assert!(start.elapsed() < Duration::from_secs(5), "a transaction stays open");
        tokio::time::sleep(POLL).await;
    }
    sent.add(&sender(&server).send_all(deliveries, 16, PATIENCE).await);
    check(&place, &server, &history, &sent).await;
}

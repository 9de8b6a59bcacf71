//! PgBouncer between the server and PostgreSQL.
//!
//! Before 1.21, and Debian 12 has an older one, it hands a prepared statement's connection to whoever comes next. The URL
//! says so with `pgbouncer=true`, and the store then prepares nothing.

use faircopy_testkit::pgbouncer::PgBouncer;
use faircopy_testkit::postgres::Postgres;
use faircopy_testkit::seed::Seed;
use faircopy_testkit::server::Server;

use crate::support::{History, PATIENCE, Place, Sent, check, number, sender, shares};

/// D12: two processes through PgBouncer in transaction mode, where each transaction may run on another connection and
/// meet what another process prepared there. Two connections for both, so that they share them all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_share_connections_through_pgbouncer() {
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 1_500);
    let postgres = Postgres::start().await;
    let place = Place::at(postgres.create_database("copy").await);
    let pooler = PgBouncer::start(&postgres, 2).await;
    let url = format!("{}?pgbouncer=true", pooler.url(place.url()));
    let mut servers = Vec::new();
    for _ in 0..2 {
        servers.push(Server::start(place.options().env("DATABASE_URL", url.clone())).await);
    }
    let sending: Vec<_> = shares(history.deliveries(seed.value()), servers.len())
        .into_iter()
        .zip(&servers)
        .map(|(share, server)| {
            let sender = sender(server);
            tokio::spawn(async move { sender.send_all(share, 8, PATIENCE).await })
        })
        .collect();
    let mut sent = Sent::default();
    for report in sending {
        sent.add(&report.await.expect("a sender"));
    }
    assert_eq!(sent.by_status.keys().collect::<Vec<_>>(), [&200], "{:?}; {}", sent.by_status, servers[0].stderr());
    for server in &servers {
        assert_eq!(server.get("/readyz").await.expect("an answer").status, 200);
    }
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    assert_eq!(number(place.url(), held).await, 0, "no lock outlives its transaction");
    check(&place, &servers[0], &history, &sent).await;
}

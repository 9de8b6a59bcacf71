//! D13: clients that hang up. With sqlx a dropped transaction leaves its connection inside it, and the next borrower's
//! acknowledged insert is lost; that is why no handler owns one. This test stays for ever.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use faircopy_testkit::postgres::Postgres;
use faircopy_testkit::seed::Seed;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sqlx::{Connection as _, PgConnection, Row as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::app::{Engine, PATIENCE, TestApp, eventually};
use crate::events::user_created;
use crate::raw::{self, head};

const REQUESTS: usize = 3_000;
/// At a time: enough that batches form.
const AT_ONCE: usize = 60;

/// What every message to the database takes on its way: with six round trips to a commit, clients hang up at every step of
/// a transaction, and some hear their answer. (At the 20 ms of faults.md nobody would.)
const DELAY: Duration = Duration::from_millis(2);

/// Passes bytes on to the database a little late, so that clients also hang up while a transaction runs.
async fn slow_way_to(port: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
            drop((client.set_nodelay(true), server.set_nodelay(true)));
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { drop(tokio::io::copy(&mut from_server, &mut to_client).await) });
            tokio::spawn(async move {
                let mut piece = vec![0; 64 * 1024];
                while let Ok(count @ 1..) = from_client.read(&mut piece).await {
                    tokio::time::sleep(DELAY).await;
                    if to_server.write_all(&piece[..count]).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    own
}

/// What one client does: it sends a delivery and hangs up after so long. Whether it heard a 200 before.
async fn hang_up(app: &TestApp, id: &str, body: &str, after: Duration, reset: bool) -> bool {
    let request = head(&app.sign(id, body), &[&format!("Content-Length: {}", body.len()), "Connection: close"]);
    let Ok(mut stream) = TcpStream::connect(app.address).await else { return false };
    if reset {
        // The connection is reset instead of closed in order.
        drop(stream.set_zero_linger());
    }
    if stream.write_all(&[request.as_bytes(), body.as_bytes()].concat()).await.is_err() {
        return false;
    }
    raw::listen(&mut stream, after).await.statuses() == [200]
}

async fn storm(app: Arc<TestApp>) {
    let seed = Seed::of_run();
    let mut dice = StdRng::seed_from_u64(seed.value());
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut clients = Vec::new();
    for number in 0..REQUESTS {
        // One in ten is patient: what is taken in the midst of the storm is acknowledged, and must stay.
        let patient = dice.random_ratio(1, 10);
        let after = if patient { PATIENCE } else { Duration::from_micros(dice.random_range(0..50_000)) };
        let reset = dice.random_bool(0.5);
        let permit = permits.clone().acquire_owned().await.unwrap();
        let app = app.clone();
        clients.push(tokio::spawn(async move {
            let id = format!("msg_{number}");
            let acknowledged = hang_up(&app, &id, &user_created(&format!("user_{number}")), after, reset).await;
            assert!(acknowledged || !patient, "{id} is not acknowledged");
            drop(permit);
            acknowledged.then_some(id)
        }));
    }
    let mut acknowledged = BTreeSet::new();
    for client in clients {
        acknowledged.extend(client.await.unwrap());
    }
    assert!(
        acknowledged.len() > REQUESTS / 20 && acknowledged.len() < REQUESTS,
        "{} of {REQUESTS}",
        acknowledged.len()
    );

    // Those that come after: each is taken, and stays.
    for number in 0..100 {
        let id = format!("msg_later_{number}");
        assert_eq!(app.outcome(&id, user_created(&format!("user_later_{number}"))).await, "applied");
        acknowledged.insert(id);
    }
    let stored = app.deliveries().await;
    let lost: Vec<&String> = acknowledged.iter().filter(|id| !stored.contains_key(*id)).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged are lost: {lost:?}", lost.len(), acknowledged.len());
    // Record and row stand together, whether or not the client heard of it.
    let users = app.tables().await.users;
    for id in stored.keys() {
        assert!(users.contains_key(&id.replace("msg", "user")), "{id} is recorded, and its row is missing");
    }
    assert_eq!(users.len(), stored.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_hang_up_lose_nothing_on_postgres() {
    let cluster = Postgres::start().await;
    let url = cluster.create_database("storm").await;
    let through = url.replace(&format!(":{}/", cluster.port()), &format!(":{}/", slow_way_to(cluster.port()).await));
    let app = Arc::new(TestApp::build().database_url(&through).start().await);
    storm(app).await;
    let idle = async || {
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let count = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'";
        sqlx::query(count).fetch_one(&mut connection).await.unwrap().get::<i64, _>(0) == 0
    };
    eventually("no connection is idle in a transaction", Duration::from_secs(5), idle).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_hang_up_lose_nothing_on_sqlite() {
    storm(Arc::new(TestApp::build().on(Engine::Sqlite).start().await)).await;
}

//! The end, with requests in flight (faults.md, P3).

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::app::{Engine, TestApp};
use crate::events::user_created;
use crate::raw::{self, head};

/// Fifty requests are in flight, and connections are idle, when it is told to stop.
async fn stop_with_requests_in_flight(engine: Engine) {
    const IN_FLIGHT: usize = 50;
    let mut app = TestApp::build().on(engine).start().await;
    let request = |app: &TestApp, number: usize| {
        let body = user_created(&format!("user_{number}"));
        head(&app.sign(&format!("msg_{number}"), &body), &[&format!("Content-Length: {}", body.len())]) + &body
    };
    let mut idle = TcpStream::connect(app.address).await.unwrap();
    let mut kept = TcpStream::connect(app.address).await.unwrap();
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert_eq!(raw::listen(&mut kept, Duration::from_millis(300)).await.statuses(), [200]);

    // Half of each request is there when the stop is told; the other half follows.
    let mut streams = Vec::new();
    for number in 0..IN_FLIGHT {
        let request = request(&app, number);
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        let half = if number % 2 == 0 { request.len() } else { request.len() - 100 };
        stream.write_all(&request.as_bytes()[..half]).await.unwrap();
        streams.push((number, stream, request[half..].to_owned()));
    }
    // Connections are accepted in their order: once a later one is answered, all of these were.
    let mut last = TcpStream::connect(app.address).await.unwrap();
    last.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    assert_eq!(raw::listen(&mut last, Duration::from_secs(10)).await.statuses(), [200]);
    let start = Instant::now();
    app.tell_to_stop();
    let mut heard = Vec::new();
    for (number, mut stream, rest) in streams {
        heard.push(tokio::spawn(async move {
            let _ = stream.write_all(rest.as_bytes()).await;
            (number, raw::listen(&mut stream, Duration::from_secs(15)).await)
        }));
    }
    let mut acknowledged = Vec::new();
    for client in heard {
        let (number, heard) = client.await.unwrap();
        assert!(heard.closed, "{number}: the connection stays open");
        match heard.statuses()[..] {
            [200] => acknowledged.push(number),
            [] | [503] => {}
            _ => panic!("{number}: {}", heard.text()),
        }
    }
    assert!(raw::listen(&mut idle, Duration::from_secs(12)).await.closed, "an idle connection stays open");
    assert!(raw::listen(&mut kept, Duration::from_secs(12)).await.closed, "a connection kept alive stays open");
    app.stopped().await;
    assert!(start.elapsed() < Duration::from_secs(15), "it took {:?}", start.elapsed());
    assert!(TcpStream::connect(app.address).await.is_err(), "the port is closed");

    let stored = app.deliveries().await;
    let users = app.tables().await.users;
    assert!(acknowledged.len() >= IN_FLIGHT / 4, "only {} of {IN_FLIGHT} were answered", acknowledged.len());
    for number in acknowledged {
        assert!(stored.contains_key(&format!("msg_{number}")), "msg_{number} is acknowledged and lost");
        assert!(users.contains_key(&format!("user_{number}")), "user_{number} is acknowledged and lost");
    }
    assert_eq!(users.len(), stored.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_is_answered_on_sqlite() {
    stop_with_requests_in_flight(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_is_answered_on_postgres() {
    stop_with_requests_in_flight(Engine::Postgres).await;
}

/// A client that asks and never reads cannot keep the service from ending.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_is_cut_off() {
    let mut app = TestApp::start().await;
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    let ask = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200);
    // Until neither side takes any more.
    while let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(1), stream.write_all(&ask)).await {}
    let start = Instant::now();
    app.tell_to_stop();
    let stopped = tokio::time::timeout(Duration::from_secs(15), app.stopped()).await;
    assert!(stopped.is_ok(), "it still runs after {:?}", start.elapsed());
    drop(stream);
}

/// A database that does not let go cannot keep the service from ending either, and nothing is acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_database_does_not_hold_up_the_end() {
    let app = Arc::new(tokio::sync::Mutex::new(TestApp::build().on_postgres().start().await));
    let (url, address) = {
        let app = app.lock().await;
        (app.database_url.clone(), app.address)
    };
    let mut lock = PgConnection::connect(&url).await.unwrap();
    lock.execute("BEGIN; SELECT * FROM faircopy.feed FOR UPDATE").await.unwrap();
    let mut clients = Vec::new();
    for number in 0..50 {
        let body = user_created(&format!("user_{number}"));
        let signed = app.lock().await.sign(&format!("msg_{number}"), &body);
        let request = head(&signed, &[&format!("Content-Length: {}", body.len())]) + &body;
        clients.push(tokio::spawn(async move {
            raw::exchange(address, request.as_bytes(), false, Duration::from_secs(15)).await
        }));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let start = Instant::now();
    app.lock().await.tell_to_stop();
    for client in clients {
        let heard = client.await.unwrap();
        assert!(heard.closed && !heard.statuses().contains(&200), "{}", heard.text());
    }
    app.lock().await.stopped().await;
    assert!(start.elapsed() < Duration::from_secs(15), "it took {:?}", start.elapsed());
    lock.execute("ROLLBACK").await.unwrap();
}

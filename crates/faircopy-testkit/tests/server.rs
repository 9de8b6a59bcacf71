//! The kit's own promises about the server and the sender, on a stand-in that answers like Faircopy.
//!
//! The stand-in is this test executable, started again: it keeps the `svix-id`s that it acknowledged in a file, and
//! answers 503 to every fifth request.
#![allow(clippy::disallowed_methods, reason = "waits for real processes")]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use faircopy_testkit::client::get;
use faircopy_testkit::sender::{Item, Sender};
use faircopy_testkit::server::{Options, Server};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use svix::webhooks::Webhook;

const INNER: &str = "FAIRCOPY_TESTKIT_INNER";
const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn stand_in() -> Options {
    Options::new()
        .binary(std::env::current_exe().expect("this test"))
        .command(&["--exact", "stand_in_for_faircopy", "--nocapture"])
        .env(INNER, "serve")
}

/// Not a test of its own: it is the stand-in when it is started with [`INNER`].
#[tokio::test]
async fn stand_in_for_faircopy() {
    let Ok(mode) = std::env::var(INNER) else { return };
    eprintln!("stand-in: {mode}");
    if mode == "refuse" {
        std::process::exit(2);
    }
    let address = std::env::var("FAIRCOPY_LISTEN").expect("FAIRCOPY_LISTEN");
    let listener = tokio::net::TcpListener::bind(address).await.expect("listen");
    let mut requests = 0_u32;
    loop {
        let (stream, _) = listener.accept().await.expect("accept");
        requests += 1;
        let connection = requests;
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| answer(request, connection));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, connection: u32) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let reply = |status: u16, text: String| {
        Ok(Response::builder().status(status).header("retry-after", "1").body(Full::new(text.into())).expect("a reply"))
    };
    if head.uri.path() == "/readyz" {
        return reply(200, String::new());
    }
    let Ok(body) = body.collect().await else { return reply(400, "no body".to_owned()) };
    let verified = Webhook::new(SECRET).expect("a secret").verify(&body.to_bytes(), &head.headers);
    if let Err(error) = verified {
        return reply(400, error.to_string());
    }
    let id = head.headers["svix-id"].to_str().expect("a readable id").to_owned();
    let known = fs::read_to_string("acked").unwrap_or_default();
    if (connection as usize + known.len()).is_multiple_of(5) && !known.is_empty() && !known.ends_with("busy\n") {
        append("busy");
        return reply(503, "busy".to_owned());
    }
    let outcome = if known.lines().any(|line| line == id) { "duplicate" } else { "applied" };
    append(&id);
    reply(200, format!(r#"{{"outcome":"{outcome}","id":"{id}"}}"#))
}

fn append(line: &str) {
    let mut file = fs::File::options().create(true).append(true).open("acked").expect("the stand-in's file");
    file.write_all(format!("{line}\n").as_bytes()).expect("append");
}

fn items(count: usize) -> Vec<Item> {
    (0..count).map(|number| (format!("msg_{number}"), format!(r#"{{"number":{number},"text":"é"}}"#))).collect()
}

#[tokio::test]
async fn a_server_is_started_killed_restarted_and_terminated() {
    let mut server = Server::start(stand_in()).await;
    let sender = Sender::new(format!("{}/webhooks/clerk", server.url()), SECRET);
    let first = sender.send("msg_1", "{}").await;
    assert_eq!((first.status, first.outcome.as_deref(), first.is_ack()), (200, Some("applied"), true));
    assert_eq!(sender.send("msg_1", "{}").await.outcome.as_deref(), Some("duplicate"));

    let (url, pid) = (server.url(), server.pid());
    server.kill9().await;
    assert!(!server.is_running() && sender.try_send("msg_2", "{}").await.is_err());
    server.restart().await;
    assert_eq!(server.url(), url, "on the same port");
    assert_ne!(server.pid(), pid);
    assert!(server.is_running() && server.get("/readyz").await.expect("an answer").status == 200);
    assert_eq!(server.stderr().matches("stand-in: serve").count(), 2);

    assert!(!server.terminate().await.success(), "the stand-in does not catch SIGTERM");
    assert!(!server.is_running());
}

#[tokio::test]
async fn a_server_that_refuses_to_start_says_why() {
    let error = Server::try_start(stand_in().env(INNER, "refuse")).await.expect_err("no start");
    assert_eq!(error.status.and_then(|status| status.code()), Some(2));
    assert!(error.to_string().contains("stand-in: refuse"), "{error}");
}

#[tokio::test]
async fn a_server_is_started_through_another_program() {
    let server = Server::start(stand_in().prefix(&["sh", "-c", "ulimit -n 64; exec \"$@\"", "-"])).await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.pid())).expect("its limits");
    let files = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit of files");
    assert_eq!(files.split_whitespace().nth(3), Some("64"), "the process id is the binary's: {files}");
}

#[tokio::test]
async fn a_wrong_secret_is_unexpected_and_not_sent_again() {
    let server = Server::start(stand_in()).await;
    let sender = Sender::new(server.url(), "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    let report = sender.send_all(items(3), 2, Duration::from_secs(10)).await;
    assert_eq!((report.unexpected.len(), report.by_status.get(&400), report.is_complete()), (3, Some(&3), false));
}

#[tokio::test]
async fn everything_is_acknowledged_although_the_server_is_killed_meanwhile() {
    let mut server = Server::start(stand_in()).await;
    let sender = Sender::new(server.url(), SECRET);
    let sending = {
        let sender = sender.clone();
        tokio::spawn(async move { sender.send_all(items(2_000), 8, Duration::from_secs(60)).await })
    };
    let mut kills = 0;
    while !sending.is_finished() {
        server.restart().await;
        kills += 1;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let report = sending.await.expect("the report");
    report.assert_complete();
    assert!(kills > 1 && report.unanswered > 0, "{kills} kills, {report:?}");
    let acked: BTreeSet<String> = report.acked.iter().cloned().collect();
    let all: BTreeSet<String> = items(2_000).into_iter().map(|(id, _)| id).collect();
    assert_eq!(acked, all);
    assert_eq!(report.acked.len(), 2_000, "each once");
    assert_eq!(report.by_outcome.values().sum::<usize>(), 2_000);
    assert!(report.ack_time(50) <= report.ack_time(99) && report.ack_time(99) <= report.ack_times.last().copied());
    let kept = fs::read_to_string(server.folder().join("acked")).expect("the stand-in's file");
    let kept: BTreeSet<&str> = kept.lines().collect();
    assert!(report.acked.iter().all(|id| kept.contains(id.as_str())), "every ack is in the stand-in's file");
}

#[tokio::test]
async fn a_deadline_ends_the_sending() {
    let mut server = Server::start(stand_in()).await;
    let sender = Sender::new(server.url(), SECRET);
    server.kill9().await;
    let report = sender.send_all(items(10), 2, Duration::from_millis(300)).await;
    assert_eq!((report.acked.len(), report.unsent.len()), (0, 10));
    assert!(report.unanswered > 0 && report.elapsed < Duration::from_secs(10));
}

/// This test starts itself as a process of its own, which starts a server and is then killed with SIGKILL.
#[tokio::test]
async fn no_server_outlives_its_process() {
    const OUTER: &str = "FAIRCOPY_TESTKIT_OUTER";
    if std::env::var_os(OUTER).is_some() {
        let server = Server::start(stand_in()).await;
        println!("\nurl {}", server.url());
        std::future::pending::<()>().await;
    }
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "no_server_outlives_its_process", "--nocapture"])
        .env(OUTER, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("start this test again");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines().map(|line| line.expect("a line"));
    let url = lines.find_map(|line| line.strip_prefix("url ").map(str::to_owned)).expect("the server's address");
    assert_eq!(get(&format!("{url}/readyz")).await.expect("an answer").status, 200);

    child.kill().expect("kill the inner test");
    child.wait().expect("wait for the inner test");
    let start = Instant::now();
    while get(&format!("{url}/readyz")).await.is_ok() {
        assert!(start.elapsed() < Duration::from_secs(10), "the server still answers");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

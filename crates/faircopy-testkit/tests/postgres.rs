//! The kit's own promises about clusters: a crash keeps what was committed, and no cluster outlives its process.
#![allow(clippy::disallowed_methods, reason = "waits for real processes")]

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use faircopy_testkit::postgres::{Postgres, SHARED_URL_VARIABLE, fresh_database, shared};
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};

async fn number(url: &str, sql: &'static str) -> i64 {
    let mut connection = PgConnection::connect(url).await.expect("connect");
    let row = connection.fetch_one(sql).await.expect(sql);
    connection.close().await.expect("close");
    row.get(0)
}

async fn run(url: &str, sql: &'static str) {
    let mut connection = PgConnection::connect(url).await.expect("connect");
    connection.execute(sql).await.expect(sql);
    connection.close().await.expect("close");
}

#[tokio::test]
async fn a_killed_cluster_keeps_what_was_committed() {
    let mut cluster = Postgres::start_with(&[("max_connections", "17")]).await;
    let url = cluster.create_database("kept").await;
    run(&url, "CREATE TABLE kept (n bigint)").await;
    run(&url, "INSERT INTO kept VALUES (41)").await;
    assert_eq!(number(&url, "SELECT current_setting('max_connections')::bigint").await, 17);
    assert_eq!(number(&url, "SELECT (current_setting('fsync') = 'on')::int::bigint").await, 1);
    assert!(cluster.pids().len() > 3, "postmaster and children: {:?}", cluster.pids());

    for _ in 0..3 {
        cluster.kill();
        assert_eq!(cluster.pids(), Vec::<u32>::new());
        assert!(PgConnection::connect(&url).await.is_err(), "nobody listens");
        cluster.restart().await;
        assert_eq!(number(&url, "SELECT n FROM kept").await, 41);
    }
    assert!(cluster.log().contains("not properly shut down"), "a crash, not a shutdown: {}", cluster.log());

    cluster.stop().await;
    assert_eq!(cluster.pids(), Vec::<u32>::new());
    cluster.restart().await;
    assert_eq!(number(&url, "SELECT n FROM kept").await, 41);
}

#[tokio::test]
async fn a_paused_cluster_answers_after_it_is_resumed() {
    let cluster = Postgres::start().await;
    let mut connection = PgConnection::connect(&cluster.url()).await.expect("connect");
    cluster.pause();
    let silent = tokio::time::timeout(Duration::from_millis(300), connection.execute("SELECT 1")).await;
    assert!(silent.is_err(), "a paused cluster answers: {silent:?}");
    cluster.resume();
    assert_eq!(number(&cluster.url(), "SELECT 1::bigint").await, 1);

    // Dropped while paused, and with a connection open, it goes nonetheless.
    let folder = cluster.socket_folder().to_owned();
    cluster.pause();
    drop(cluster);
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_dropped_cluster_leaves_nothing() {
    let cluster = Postgres::start().await;
    let (pids, folder) = (cluster.pids(), cluster.socket_folder().to_owned());
    drop(cluster);
    assert!(!folder.exists());
    assert!(pids.iter().all(|pid| is_gone(*pid)), "{pids:?}");
}

#[tokio::test]
async fn fresh_databases_are_apart_and_removed() {
    let one = fresh_database().await;
    let other = shared().await.fresh_database_in_language("en-US").await;
    assert_ne!(one.name(), other.name());
    run(one.url(), "CREATE TABLE only_here (n bigint)").await;
    assert_eq!(number(other.url(), "SELECT count(*) FROM pg_tables WHERE tablename = 'only_here'").await, 0);
    assert_eq!(number(one.url(), "SELECT ('B' < 'a')::int::bigint").await, 1, "by bytes");
    assert_eq!(number(other.url(), "SELECT ('B' < 'a')::int::bigint").await, 0, "as a human sorts");

    let (one_url, open) = (one.url().to_owned(), PgConnection::connect(one.url()).await.expect("connect"));
    drop(one);
    assert!(PgConnection::connect(&one_url).await.is_err(), "removed, although a connection was open");
    drop(open);
}

/// This test starts itself as a process of its own, which uses the shared cluster and is then killed with SIGKILL.
#[tokio::test]
async fn no_cluster_outlives_its_process() {
    const INNER: &str = "FAIRCOPY_TESTKIT_INNER";
    if std::env::var_os(INNER).is_some() {
        let cluster = shared().await;
        let one = Postgres::start().await;
        println!("\npids {:?}", one.pids());
        println!("folder {}", one.socket_folder().display());
        println!("shared {}", cluster.url());
        std::future::pending::<()>().await;
    }
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "no_cluster_outlives_its_process", "--nocapture"])
        .env(INNER, "1")
        .env_remove(SHARED_URL_VARIABLE)
        .stdout(Stdio::piped())
        .spawn()
        .expect("start this test again");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines().map(|line| line.expect("a line"));
    let mut told = |word: &str| {
        let line = lines.find_map(|line| line.strip_prefix(word).map(|rest| rest.trim().to_owned()));
        line.unwrap_or_else(|| panic!("the inner test did not tell its {word}"))
    };
    let pids: Vec<u32> = serde_json::from_str(&told("pids")).expect("process ids");
    let folder = PathBuf::from(told("folder"));
    let shared_url = told("shared");
    assert!(pids.len() > 3 && folder.exists() && PgConnection::connect(&shared_url).await.is_ok());

    child.kill().expect("kill the inner test");
    child.wait().expect("wait for the inner test");
    let start = Instant::now();
    while folder.exists() || !pids.iter().all(|pid| is_gone(*pid)) || PgConnection::connect(&shared_url).await.is_ok() {
        assert!(start.elapsed() < Duration::from_secs(10), "{pids:?} or {} or {shared_url} is left", folder.display());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Gone, or dead and not yet collected by its new parent.
fn is_gone(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

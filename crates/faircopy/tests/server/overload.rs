//! More than can be taken: queues and memory have bounds, and what is refused is told when to come back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use faircopy::http::LARGE_KIB;
use faircopy::worker::intake::{MAX_BATCH, MAX_WAITING};
use faircopy_testkit::client::Response;
use faircopy_testkit::postgres::Postgres;
use serde_json::json;
use sqlx::{Connection as _, Executor as _, PgConnection, SqliteConnection};
use tokio::task::JoinSet;

use crate::app::{Engine, PATIENCE, TestApp, assert_problem, eventually};
use crate::events::{THEN, event, user_created, user_created_of_size};
use crate::raw;

/// Somebody else's transaction that keeps the writer waiting until it is let go.
enum Blocker {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Blocker {
    async fn of(app: &TestApp, engine: Engine) -> Self {
        match engine {
            Engine::Sqlite => {
                let mut connection = SqliteConnection::connect(&app.database_url).await.unwrap();
                connection.execute("BEGIN IMMEDIATE").await.unwrap();
                Self::Sqlite(connection)
            }
            Engine::Postgres => {
                let mut connection = PgConnection::connect(&app.database_url).await.unwrap();
                connection.execute("BEGIN; SELECT * FROM faircopy.feed FOR UPDATE").await.unwrap();
                Self::Postgres(connection)
            }
        }
    }

    async fn let_go(self) {
        match self {
            Self::Sqlite(mut connection) => drop(connection.execute("ROLLBACK").await.unwrap()),
            Self::Postgres(mut connection) => drop(connection.execute("ROLLBACK").await.unwrap()),
        }
    }
}

async fn too_many_waiting(engine: Engine) {
    const MORE: usize = 150;
    let requests = MAX_WAITING + MAX_BATCH + MORE;
    let app = Arc::new(TestApp::build().on(engine).start().await);
    assert_eq!(app.outcome("msg_before", user_created("user_before")).await, "applied");
    let blocker = Blocker::of(&app, engine).await;
    let mut waiting = JoinSet::new();
    for number in 0..requests {
        let app = app.clone();
        waiting.spawn(async move {
            let id = format!("msg_{number}");
            let start = Instant::now();
            let response = app.deliver(&id, user_created(&format!("user_{number}"))).await;
            (id, response, start.elapsed())
        });
    }
    // The first who are sent back: the queue is full.
    let mut answers = Vec::new();
    while answers.len() < MORE / 2 {
        answers.push(waiting.join_next().await.unwrap().unwrap());
    }
    assert_eq!(app.get("/healthz").await.status, 200, "it is alive all the while");
    blocker.let_go().await;
    while let Some(answer) = waiting.join_next().await {
        answers.push(answer.unwrap());
    }
    let stored = app.deliveries().await;
    let (mut taken, mut overloaded, mut longest) = (0, 0, Duration::ZERO);
    for (id, response, elapsed) in &answers {
        longest = longest.max(*elapsed);
        if response.status == 200 {
            taken += 1;
            assert!(stored.contains_key(id), "{id} is acknowledged and lost");
            continue;
        }
        let code = response.json().unwrap()["code"].as_str().unwrap().to_owned();
        assert_problem(response, 503, &code);
        assert!(code == "overloaded" || code == "database-unavailable", "{code}");
        overloaded += usize::from(code == "overloaded");
    }
    assert!(overloaded > 0 && taken > 0, "{overloaded} overloaded, {taken} taken of {requests}");
    assert!(longest < Duration::from_secs(10), "an answer took {longest:?}");
    // Everything drains: what was sent back is taken when it comes again.
    for (id, response, _) in &answers {
        if response.status != 200 {
            let outcome = app.outcome(id, user_created(&id.replace("msg", "user"))).await;
            assert!(outcome == "applied" || outcome == "duplicate", "{outcome}");
        }
    }
    assert_eq!(app.deliveries().await.len(), requests + 1);
    assert_eq!(app.tables().await.users.len(), requests + 1);
    let nothing_waits = async || app.get("/metrics").await.text().contains("faircopy_intake_waiting 0");
    eventually("nothing waits", Duration::from_secs(5), nothing_waits).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_sends_back_on_sqlite() {
    too_many_waiting(Engine::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_sends_back_on_postgres() {
    too_many_waiting(Engine::Postgres).await;
}

/// D9: the application holds a row. What would change that row is sent back, and everything else is taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_held_keeps_only_its_own_deliveries_waiting() {
    let app = Arc::new(TestApp::build().on_postgres().start().await);
    let organization = |updated_at: i64| {
        let data = json!({ "id": "org_hot", "name": "Hot", "created_at": THEN, "updated_at": updated_at });
        event("organization.updated", &data).to_string()
    };
    assert_eq!(app.outcome("msg_first", organization(THEN)).await, "applied");
    let mut holder = PgConnection::connect(&app.database_url).await.unwrap();
    holder.execute("BEGIN; SELECT * FROM faircopy.organizations FOR UPDATE").await.unwrap();
    let mut waiting = JoinSet::new();
    for number in 0..33 {
        // Three would change the row that is held.
        let hot = number % 11 == 5;
        let body = if hot { organization(THEN + number) } else { user_created(&format!("user_{number}")) };
        let app = app.clone();
        waiting.spawn(async move { (hot, app.deliver(&format!("msg_{number}"), body).await) });
    }
    for (hot, response) in waiting.join_all().await {
        if hot {
            assert_problem(&response, 503, "database-unavailable");
        } else {
            assert_eq!(response.status, 200, "{}", response.text());
        }
    }
    holder.execute("ROLLBACK").await.unwrap();
    assert_eq!(app.outcome("msg_5", organization(THEN + 5)).await, "applied");
    assert_eq!(app.tables().await.users.len(), 30);
}

/// While the writer waits, bodies of 1 MiB are held only up to the bound on memory, whether or not their senders still wait; the
/// rest is told to come back, and the bound is free again afterwards.
async fn large_bodies_are_held(hang_up: bool) {
    const HELD: usize = LARGE_KIB / 1024;
    const MORE: usize = 30;
    let cluster = Postgres::start().await;
    let url = cluster.create_database("large").await;
    let app = Arc::new(TestApp::build().database_url(&url).start().await);
    assert_eq!(app.outcome("msg_before", user_created("user_before")).await, "applied");
    let body = user_created_of_size("user_large", 1024 * 1024);
    let send = |waiting: &mut JoinSet<Response>, name: String| {
        let (app, body) = (app.clone(), body.clone());
        waiting.spawn(async move { app.deliver(&format!("msg_{name}"), body).await });
    };
    // A commit waits for up to 7 s for a database that hangs; a body waits for 3 s for its memory.
    cluster.pause();
    let mut waiting = JoinSet::new();
    for number in 0..HELD {
        send(&mut waiting, format!("held_{number}"));
        // One after the other, so that none is left half read.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if hang_up {
        waiting.shutdown().await;
    }
    for number in 0..MORE {
        send(&mut waiting, format!("more_{number}"));
    }
    for _ in 0..MORE {
        assert_problem(&waiting.join_next().await.unwrap().unwrap(), 503, "overloaded");
    }
    cluster.resume();
    for response in waiting.join_all().await {
        assert_eq!(response.status, 200, "{}", response.text());
    }
    let stored = async || app.deliveries().await.len() == 1 + HELD;
    eventually("what was held is stored", PATIENCE, stored).await;
    // The bound is free again.
    let mut again = JoinSet::new();
    for number in 0..HELD {
        send(&mut again, format!("again_{number}"));
    }
    for response in again.join_all().await {
        assert_eq!(response.status, 200, "{}", response.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_are_held_within_the_memory_bound() {
    large_bodies_are_held(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_of_senders_who_hang_up_are_held_within_the_memory_bound() {
    large_bodies_are_held(true).await;
}

/// W33: bodies that nobody finishes fill the memory for large ones. They may take their 12 seconds while nobody waits, and
/// give way when somebody does; an ordinary delivery does not even wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_bodies_give_way_to_those_who_wait() {
    const HELD: usize = LARGE_KIB / 1024;
    let app = Arc::new(TestApp::start().await);
    let length = format!("Content-Length: {}", 1024 * 1024);
    let mut unfinished = JoinSet::new();
    for number in 0..HELD {
        let signed = app.sign(&format!("msg_unfinished_{number}"), "something else");
        let request = raw::head(&signed, &[&length]) + "{";
        let address = app.address;
        unfinished.spawn(async move { raw::exchange(address, request.as_bytes(), false, PATIENCE).await });
    }
    // Longer than they may take once somebody waits.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(unfinished.try_join_next().is_none(), "nobody waits for their memory yet");
    let start = Instant::now();
    assert_eq!(app.outcome("msg_small", user_created("user_small")).await, "applied");
    assert!(unfinished.try_join_next().is_none(), "a small body takes none of it");
    let large = user_created_of_size("user_large", 350_000);
    assert_eq!(app.outcome("msg_large", large).await, "applied");
    assert!(start.elapsed() < Duration::from_secs(2), "they gave way after {:?}", start.elapsed());
    // As many as it took; the others go on until their own time is over.
    let heard = unfinished.join_next().await.unwrap().unwrap();
    assert_eq!(heard.statuses(), [503], "{}", heard.text());
    assert!(heard.closed);
    assert_eq!(app.deliveries().await.len(), 2);
}

/// Twice as many large bodies as fit at once, sent at once: each takes its memory in one piece and in turn, and none is
/// sent back. Without an announced length they take as much as the largest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_take_turns() {
    let app = Arc::new(TestApp::start().await);
    let mut sending = JoinSet::new();
    for number in 0..2 * LARGE_KIB / 1024 {
        let (app, id) = (app.clone(), format!("msg_{number}"));
        sending.spawn(async move {
            let body = user_created_of_size(&format!("user_{number}"), 1024 * 1024);
            if number % 2 == 0 {
                return app.deliver(&id, body).await.status;
            }
            let signed = app.sign(&id, &body);
            let mut request = raw::head(&signed, &["Transfer-Encoding: chunked", "Connection: close"]).into_bytes();
            request.extend(raw::chunked(body.as_bytes(), 16 * 1024));
            raw::exchange(app.address, &request, false, PATIENCE).await.statuses()[0]
        });
    }
    assert_eq!(sending.join_all().await, [200; 2 * LARGE_KIB / 1024]);
}

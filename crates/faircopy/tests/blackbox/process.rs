//! The process's surroundings: told to stop, out of file descriptors, short of memory.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use faircopy_testkit::seed::Seed;
use faircopy_testkit::sender::Sender;
use faircopy_testkit::server::Server;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::{History, PATIENCE, POLL, Place, Sent, check, large_event, peak_memory_kib, post, sender};

/// A delivery of which the head and half of the body are on the way.
struct Half {
    stream: TcpStream,
    svix_id: String,
    rest: Vec<u8>,
}

impl Half {
    async fn send(server: &Server, sender: &Sender, svix_id: &str, body: &str) -> Half {
        let signed = sender.sign(svix_id, body.as_bytes());
        let mut head = format!("POST /webhooks/clerk HTTP/1.1\r\nhost: faircopy\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in signed.headers() {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let (first, rest) = body.as_bytes().split_at(body.len() / 2);
        let mut stream = TcpStream::connect(server.url().trim_start_matches("http://")).await.expect("connect");
        stream.write_all(format!("{head}\r\n").as_bytes()).await.expect("the head");
        stream.write_all(first).await.expect("half of the body");
        Half { stream, svix_id: svix_id.to_owned(), rest: rest.to_vec() }
    }

    /// Sends the rest and returns the status, or `None` when the connection was closed without an answer.
    async fn complete(mut self) -> (String, Option<u16>) {
        // A closed connection shows when the answer is read.
        let _ = self.stream.write_all(&self.rest).await;
        let status = self.status().await;
        (self.svix_id, status)
    }

    /// Waits for an answer or the end of the connection.
    async fn status(&mut self) -> Option<u16> {
        let mut answer = Vec::new();
        let read = self.stream.read_to_end(&mut answer);
        let _ = tokio::time::timeout(PATIENCE, read).await.expect("the connection ends");
        let text = String::from_utf8_lossy(&answer);
        text.split(' ').nth(1).map(|status| status.parse().expect("a status"))
    }
}

async fn terminate_in_flight(place: Place) {
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 800);
    let mut server = place.serve().await;
    let deliveries = history.deliveries(seed.value());
    let mut sent = Sent::default();
    let sender = sender(&server);
    let (mut late, mut never) = (Vec::new(), Vec::new());
    for (at, (id, body)) in deliveries[..50].iter().enumerate() {
        let half = Half::send(&server, &sender, id, body).await;
        if at % 2 == 0 { late.push(half) } else { never.push(half) }
    }
    // Besides the half sent there are twenty whole ones at any moment.
    let busy = {
        let (sender, deliveries) = (sender.clone(), deliveries.clone());
        tokio::spawn(async move { sender.send_all(deliveries, 20, Duration::from_secs(2)).await })
    };
    let start = Instant::now();
    while sender.send(&deliveries[50].0, &deliveries[50].1).await.outcome.as_deref() != Some("duplicate") {
        assert!(start.elapsed() < PATIENCE, "the load does not arrive");
    }
    let told = Instant::now();
    server.signal(Signal::TERM);
    for half in late {
        let (id, status) = half.complete().await;
        match status {
            Some(200) => drop(sent.acked.insert(id)),
            None | Some(503) => {}
            Some(other) => panic!("{id} was answered {other}"),
        }
    }
    let status = server.wait(Duration::from_secs(15).saturating_sub(told.elapsed())).await;
    assert_eq!(status.code(), Some(0), "{}", server.stderr());
    assert!(told.elapsed() <= Duration::from_secs(15), "it took {:?}", told.elapsed());
    assert!(!sent.acked.is_empty(), "what came to its end in time was acknowledged");
    for mut half in never {
        assert_ne!(half.status().await, Some(200), "half a delivery was acknowledged");
    }
    let busy = busy.await.expect("the load");
    assert!(busy.by_status.keys().all(|status| matches!(status, 200 | 503)), "{:?}", busy.by_status);
    sent.acked.extend(busy.acked);

    server.restart().await;
    sent.add(&sender.send_all(deliveries, 8, PATIENCE).await);
    check(&place, &server, &history, &sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_answers_what_is_in_flight_on_sqlite() {
    terminate_in_flight(Place::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_answers_what_is_in_flight_on_postgres() {
    terminate_in_flight(Place::postgres().await).await;
}

/// User and system time of a process.
fn cpu_time(pid: u32) -> Duration {
    // In hundredths of a second on every Linux.
    const TICK_MS: u64 = 10;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its figures");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // After the name, the 12th and 13th field (proc(5): utime and stime are 14 and 15).
    let ticks = |at: usize| fields[at].parse::<u64>().expect("a number of ticks");
    Duration::from_millis((ticks(11) + ticks(12)) * TICK_MS)
}

async fn out_of_descriptors(place: Place) {
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 300);
    let mut server = Server::start(place.options().prefix(&["sh", "-c", "ulimit -n 64; exec \"$@\"", "-"])).await;
    let deliveries = history.deliveries(seed.value());
    let mut sent = Sent::default();
    sent.add(&sender(&server).send_all(deliveries[..100].to_vec(), 8, PATIENCE).await);

    let address = server.url().trim_start_matches("http://").to_owned();
    // Each holds its connection, or waits in the kernel's queue, until the crowd is dropped.
    let mut crowd = JoinSet::new();
    for _ in 0..500 {
        let address = address.clone();
        crowd.spawn(async move {
            let stream = TcpStream::connect(&address).await;
            std::future::pending::<()>().await;
            drop(stream);
        });
    }
    let (before, start) = (cpu_time(server.pid()), Instant::now());
    // The window over which its processor time is measured.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let share = (cpu_time(server.pid()) - before).as_secs_f64() / start.elapsed().as_secs_f64();
    assert!(share < 0.5, "it spins: {:.0} % of a processor", share * 100.0);
    assert!(server.stderr().contains("cannot accept"), "the limit was not met");
    assert!(server.is_running(), "{}", server.stderr());
    drop(crowd);

    sent.add(&sender(&server).send_all(deliveries, 8, PATIENCE).await);
    check(&place, &server, &history, &sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_outlives_a_lack_of_file_descriptors_on_sqlite() {
    out_of_descriptors(Place::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_outlives_a_lack_of_file_descriptors_on_postgres() {
    out_of_descriptors(Place::postgres().await).await;
}

/// P4 without a memory cgroup: the peak is read from the kernel instead of being enforced by it.
async fn large_bodies(place: Place) {
    const CONNECTIONS: usize = 300;
    const LIMIT: usize = 1024 * 1024;
    let server = place.serve().await;
    let sending: Vec<_> = (0..CONNECTIONS)
        .map(|number| {
            let sender = sender(&server);
            // Every third is a byte too large.
            let length = LIMIT + usize::from(number % 3 == 0);
            tokio::spawn(async move {
                let body = large_event(number, length);
                let answer = post(&sender, &format!("msg_large{number}"), body).await;
                (number, answer.map(|answer| answer.status).ok())
            })
        })
        .collect();
    let mut statuses = BTreeMap::<Option<u16>, usize>::new();
    let mut acked = Vec::new();
    for answer in sending {
        let (number, status) = answer.await.expect("a sender");
        *statuses.entry(status).or_default() += 1;
        acked.extend((status == Some(200)).then(|| format!("msg_large{number}")));
    }
    let peak = peak_memory_kib(server.pid());
    println!("{statuses:?}, at most {} MiB", peak / 1024);
    // A refused body may be cut while it is still being written: then the client sees no answer.
    assert!(statuses.keys().all(|status| matches!(status, None | Some(200 | 413 | 503))), "{statuses:?}");
    assert!(peak < 128 * 1024, "{} MiB with {statuses:?}", peak / 1024);
    assert!(!acked.is_empty(), "some are taken: {statuses:?}");
    let kept = place.deliveries().await;
    assert!(acked.iter().all(|id| kept.contains_key(id)), "an acknowledged delivery is lost");
    let history = History::random(1, 10);
    let (id, body) = &history.deliveries(1)[0];
    let start = Instant::now();
    while sender(&server).send(id, body).await.status != 200 {
        assert!(start.elapsed() < Duration::from_secs(10), "it does not recover");
        tokio::time::sleep(POLL).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_large_bodies_fit_into_a_small_memory_on_sqlite() {
    large_bodies(Place::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_large_bodies_fit_into_a_small_memory_on_postgres() {
    large_bodies(Place::postgres().await).await;
}

/// Every sender waits for the intake's thread; the others, of which some are started by others of them, step back by the same.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_intake_goes_first() {
    let server = Place::sqlite().serve().await;
    let start = Instant::now();
    loop {
        let threads = threads(server.pid());
        let of =
            |name: &str| threads.iter().filter(|thread| thread.0 == name).map(|thread| thread.1).collect::<Vec<_>>();
        let (intake, runtime) = (of("intake"), of("tokio-rt-worker"));
        // A thread that has just begun has not stepped back yet.
        if intake.len() == 1 && !runtime.is_empty() && runtime.iter().all(|other| *other == (intake[0] + 2).min(19)) {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{threads:?}");
        tokio::time::sleep(POLL).await;
    }
}

/// The names of a process's threads, and their niceness: the second and the nineteenth field of `stat` (proc(5)).
#[cfg(target_os = "linux")]
fn threads(pid: u32) -> Vec<(String, i32)> {
    let thread = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        Some((name.to_owned(), rest.split_whitespace().nth(16)?.parse().ok()?))
    };
    fs::read_dir(format!("/proc/{pid}/task")).expect("its threads").filter_map(|task| thread(task.ok()?)).collect()
}

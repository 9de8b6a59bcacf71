//! More than can be taken: three times what fits, and a flood that nobody signed.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use faircopy_testkit::client::Connection;
use faircopy_testkit::postgres::fresh_database;
use faircopy_testkit::seed::Seed;
use faircopy_testkit::sender::{Item, Reply, Sender};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::{
    History, PATIENCE, Place, Sent, administer, check, large_event, peak_memory_kib, post, scale, sender,
};

/// What a container of the smallest size gives.
const MEMORY_KIB: u64 = 128 * 1024;
/// How many deliveries wait or are being committed at the most: `MAX_WAITING` and `MAX_BATCH` of `worker/intake`.
const INSIDE: u32 = 1024 + 256;

/// Sends at a steady rate, whatever comes back and when. Returns each delivery with its answer.
async fn open_loop(sender: &Sender, deliveries: &[Item], rate: u32, lasts: Duration) -> Vec<(String, Reply)> {
    let idle: Arc<Mutex<Vec<Connection>>> = Arc::default();
    let mut sending = JoinSet::new();
    let start = Instant::now();
    let mut items = deliveries.iter().cycle();
    let mut begun = 0;
    while start.elapsed() < lasts {
        // Those that are due, also after a turn that came late: the rate holds whatever this machine does.
        let due = (start.elapsed().as_secs_f64() * f64::from(rate)).round();
        while f64::from(begun) < due {
            begun += 1;
            let ((id, body), sender, idle) =
                (items.next().expect("a cycle").clone(), sender.clone(), Arc::clone(&idle));
            sending.spawn(async move {
                let mut connection = idle.lock().expect("idle connections").pop();
                let reply = sender.attempt(&mut connection, &id, &body).await;
                idle.lock().expect("idle connections").extend(connection);
                (id, reply.expect("an answer"))
            });
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    sending.join_all().await
}

/// T4: three times as much as fits. Scale: 5 s instead of five minutes, on a database whose commits take three quarters
/// of a second longer: what fits is then decided by the commits, and not by what else this machine has to do, and three times
/// as much is sent with time to spare. The second within which everything accepted is acknowledged belongs to a queue that drains within it: here it is as long as the queue takes at the rate that was
/// measured before, doubled because the senders take processor time too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_times_what_fits_is_taken_as_far_as_it_fits() {
    let lasts = Duration::from_secs(5) * scale();
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 1_500);
    let database = fresh_database().await;
    let place = Place::at(database.url());
    let mut server = place.serve().await;
    let deliveries = history.deliveries(seed.value());
    let sender = sender(&server);
    let mut sent = Sent::default();
    sent.add(&sender.send_all(deliveries.clone(), 32, PATIENCE).await);
    for statement in [
        "CREATE FUNCTION test_slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.75); RETURN NULL; END $$",
        "CREATE TRIGGER test_slow AFTER INSERT ON faircopy.webhook_deliveries \
            FOR EACH STATEMENT EXECUTE FUNCTION test_slow()",
    ] {
        administer(place.url(), statement).await;
    }
    // As many senders as two batches have members, one being read while the other is committed.
    let fits = sender.send_all(deliveries.clone(), 512, PATIENCE).await;
    fits.assert_complete();
    assert_eq!(fits.by_status.keys().collect::<Vec<_>>(), [&200], "that many fit: {:?}", fits.by_status);
    let capacity = fits.acked.len() as f64 / fits.elapsed.as_secs_f64();
    let rate = (capacity * 3.0).ceil();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate of some thousands")]
    let answers = open_loop(&sender, &deliveries, rate as u32, lasts).await;

    let (taken, back): (Vec<_>, Vec<_>) = answers.iter().partition(|(_, reply)| reply.status == 200);
    for (id, reply) in &back {
        assert_eq!((reply.status, reply.retry_after.as_deref()), (503, Some("5")), "{id}: {}", reply.body);
    }
    let mut times: Vec<Duration> = taken.iter().map(|(_, reply)| reply.elapsed).collect();
    times.sort_unstable();
    let p99 = times[(times.len() - 1) * 99 / 100];
    let bound = Duration::from_secs_f64(2.0 * f64::from(INSIDE) / capacity);
    let peak = peak_memory_kib(server.pid());
    println!(
        "{capacity:.0} a second fit; of {} taken {} (p99 {p99:?}, bound {bound:?}), at most {} MiB",
        answers.len(),
        taken.len(),
        peak / 1024
    );
    assert!(!back.is_empty(), "three times the capacity of {capacity:.0} a second was taken");
    assert!(p99 < bound, "p99 of what was taken is {p99:?}, with {capacity:.0} a second");
    assert!(peak < MEMORY_KIB, "{} MiB", peak / 1024);

    let recovering = Instant::now();
    loop {
        let reply = sender.send(&deliveries[0].0, &deliveries[0].1).await;
        if reply.is_ack() && reply.elapsed < Duration::from_secs(1) {
            break;
        }
        assert!(recovering.elapsed() < Duration::from_secs(30), "it does not recover: {reply:?}");
    }
    sent.acked.extend(taken.into_iter().map(|(id, _)| id.clone()));
    assert!(server.is_running());
    check(&place, &server, &history, &sent).await;
}

/// The length that every body of the flood announces: the most that may be sent.
const FLOOD_BODY: usize = 1024 * 1024;

/// Sends a body whose signature is well formed and wrong as far as `bytes`, over and over again.
async fn flood(sender: Sender, number: usize, bytes: usize) {
    let address = sender.url().trim_start_matches("http://").split('/').next().expect("an address").to_owned();
    let signed = sender.sign(&format!("msg_flood{number}"), b"something else");
    let mut head = format!("POST /webhooks/clerk HTTP/1.1\r\nhost: faircopy\r\ncontent-length: {FLOOD_BODY}\r\n");
    for (name, value) in signed.headers() {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let body = vec![b'x'; bytes];
    loop {
        let Ok(mut stream) = TcpStream::connect(&address).await else { continue };
        // Whoever is cut off comes again.
        if stream.write_all(head.as_bytes()).await.is_err() || stream.write_all(&body).await.is_err() {
            continue;
        }
        let mut answer = [0; 1024];
        let read = stream.read(&mut answer).await.unwrap_or_default();
        let status = String::from_utf8_lossy(&answer[..read]).split(' ').nth(1).map(str::to_owned);
        let expected = matches!(status.as_deref(), None | Some("400" | "408" | "503"));
        assert!(expected, "the flood was answered {status:?}");
    }
}

/// W33: bodies of 1 MiB that nobody signed, some sent whole and some never finished. Ordinary deliveries are answered as
/// ever, and those of the largest size that Svix sends get through too; memory stays within its bound. Scale: what sixteen
/// connections send within 8 s, instead of 10,000 a second.
async fn unsigned_flood(place: Place) {
    // Of each kind more than the memory for large bodies holds at once (six).
    const EACH: usize = 8;
    // What Svix sends at the most (350 kB).
    const LARGEST: usize = 350_000;
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 1_000);
    let server = place.serve().await;
    let sender = sender(&server);
    let deliveries = history.deliveries(seed.value());
    let mut sent = Sent::default();
    let before = sender.send_all(deliveries[..200].to_vec(), 4, PATIENCE).await;
    sent.add(&before);
    let mut flooding = JoinSet::new();
    for number in 0..EACH {
        flooding.spawn(flood(sender.clone(), number, FLOOD_BODY));
        flooding.spawn(flood(sender.clone(), EACH + number, FLOOD_BODY - 1));
    }
    let large = {
        let sender = sender.clone();
        tokio::spawn(async move {
            let (mut acked, mut longest, mut attempts) = (Vec::new(), Duration::ZERO, 0);
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(8) * scale() {
                let number = acked.len();
                let (id, first) = (format!("msg_large{number}"), Instant::now());
                loop {
                    attempts += 1;
                    let answer = post(&sender, &id, large_event(number, LARGEST)).await;
                    match answer.map(|answer| answer.status) {
                        Ok(200) => break,
                        // Sent back while the body was still being written: then no answer is seen.
                        Ok(503) | Err(_) => {}
                        Ok(other) => panic!("{id} was answered {other}"),
                    }
                    assert!(first.elapsed() < PATIENCE, "{id} does not get through");
                }
                longest = longest.max(first.elapsed());
                acked.push(id);
            }
            (acked, longest, attempts)
        })
    };
    let mut ordinary = Vec::new();
    for (id, body) in deliveries.iter().cycle() {
        if large.is_finished() {
            break;
        }
        let reply = sender.send(id, body).await;
        assert_eq!(reply.status, 200, "an ordinary delivery under a flood: {}", reply.body);
        ordinary.push(reply.elapsed);
        sent.acked.insert(id.clone());
    }
    let (acked, longest, attempts) = large.await.expect("the large ones");
    let ended = flooding.try_join_next();
    assert!(ended.is_none(), "the flood ended: {ended:?}");
    flooding.shutdown().await;
    ordinary.sort_unstable();
    let p99 = ordinary[(ordinary.len() - 1) * 99 / 100];
    let peak = peak_memory_kib(server.pid());
    println!(
        "{} ordinary (p99 {p99:?}; {:?} before), {} large in {attempts} attempts (at most {longest:?}), at most {} MiB",
        ordinary.len(),
        before.ack_time(99),
        acked.len(),
        peak / 1024
    );
    // Twice what it takes without the flood, or what sixteen hashes of 1 MiB before it take of two busy processors.
    assert!(p99 < Duration::from_secs(1), "p99 of ordinary deliveries is {p99:?} under a flood");
    assert!(longest < Duration::from_secs(12), "a large delivery took {longest:?}");
    assert!(peak < MEMORY_KIB, "{} MiB", peak / 1024);

    sent.add(&sender.send_all(deliveries, 8, PATIENCE).await);
    let kept = place.deliveries().await;
    assert!(sent.acked.iter().chain(&acked).all(|id| kept.contains_key(id)), "an acknowledged delivery is lost");
    assert_eq!(kept.len(), history.events.len() + acked.len(), "nothing unsigned is kept");
    let mut tables = place.tables().await;
    tables.users.retain(|id, _| !id.starts_with("user_large"));
    tables.assert_same_as(&history.truth);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_that_nobody_signed_keeps_nobody_out_on_sqlite() {
    unsigned_flood(Place::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_that_nobody_signed_keeps_nobody_out_on_postgres() {
    unsigned_flood(Place::postgres().await).await;
}

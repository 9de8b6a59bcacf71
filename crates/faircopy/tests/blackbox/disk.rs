//! SQLite's files: calls that fail, a damaged log, a reader that stays, copies taken under load.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use faircopy_testkit::seed::Seed;
use faircopy_testkit::sender::Item;
use faircopy_testkit::server::Server;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _};
use tokio::process::{Child, Command};

use crate::support::{
    History, Load, PATIENCE, POLL, Place, Sent, all_at_once, assert_sent_back, check, large_event, post, sender,
};

/// The write-ahead log of a SQLite file.
fn log_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// A system call that fails while this lives, for the files of one database. `strace` replaces the call by its error, so
/// no file system has to be made that gives it.
struct Failing(Child);

impl Failing {
    /// `when` is strace's: which of the calls fail, counted for each thread.
    async fn start(server: &Server, place: &Place, call: &str, error: &str, when: &str) -> Failing {
        let inject = format!("inject={call}:error={error}:when={when}");
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject]);
        for file in [place.file(), log_of(&place.file())] {
            strace.arg("-P").arg(file);
        }
        strace.args(["-p", &server.pid().to_string()]).stdin(Stdio::null()).kill_on_drop(true);
        let mut failing = Failing(strace.spawn().expect("run strace"));
        let start = Instant::now();
        while !all_traced(server.pid()) {
            let ended = failing.0.try_wait().expect("look at our own child");
            let fine = ended.is_none() && start.elapsed() < PATIENCE;
            assert!(fine, "strace does not attach ({ended:?}): is ptrace allowed here?");
            tokio::time::sleep(POLL).await;
        }
        failing
    }

    /// Lets the calls through again.
    async fn end(mut self, server: &Server) {
        let pid = self.0.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
        // On SIGTERM it lets go of what it traces; SIGKILL would leave threads stopped half way.
        rustix::process::kill_process(pid.expect("strace runs"), rustix::process::Signal::TERM).expect("end strace");
        tokio::time::timeout(PATIENCE, self.0.wait()).await.expect("strace ends").expect("wait for our own child");
        assert!(!any_traced(server.pid()), "strace has let go");
    }
}

fn tracers(pid: u32) -> Vec<bool> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("its threads");
    let statuses = threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("status")).ok());
    statuses.map(|status| !status.contains("\nTracerPid:\t0\n")).collect()
}

fn all_traced(pid: u32) -> bool {
    tracers(pid).into_iter().all(|traced| traced)
}

fn any_traced(pid: u32) -> bool {
    tracers(pid).into_iter().any(|traced| traced)
}

/// A call that fails every time: no delivery is acknowledged meanwhile, and everything is when it works again.
async fn failing_call(call: &str, error: &str, told: &str) {
    let place = Place::sqlite();
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 300);
    let mut server = place.serve().await;
    let deliveries = history.deliveries(seed.value());
    let sender = sender(&server);
    let mut sent = Sent::default();
    sent.add(&sender.send_all(deliveries[..100].to_vec(), 8, PATIENCE).await);

    let failing = Failing::start(&server, &place, call, error, "1+").await;
    // Alone and together: what is new, and what is known already and only counts an attempt.
    let (new, known) = (&deliveries[100..110], &deliveries[..10]);
    for refused in [all_at_once(&sender, new).await, all_at_once(&sender, known).await] {
        refused.iter().for_each(assert_sent_back);
    }
    assert_sent_back(&sender.send(&new[0].0, &new[0].1).await);
    assert_eq!(server.get("/healthz").await.expect("an answer").status, 200, "it is alive");
    let kept = place.deliveries().await;
    assert!(sent.acked.iter().all(|id| kept.contains_key(id)), "what was acknowledged is there meanwhile");
    assert!(server.stderr().contains(told), "the log says {told:?}: {}", server.stderr());
    failing.end(&server).await;

    sent.add(&sender.send_all(deliveries, 8, PATIENCE).await);
    assert!(server.is_running(), "it healed without a restart");
    check(&place, &server, &history, &sent).await;
}

/// S1: a full disk, where no file system may be mounted for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_find_no_space_send_deliveries_back() {
    failing_call("pwrite64", "ENOSPC", "database or disk is full").await;
}

/// S5: a disk that does not write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_fail_send_deliveries_back() {
    failing_call("pwrite64", "EIO", "disk I/O error").await;
}

/// S5: a disk that takes what is written and does not sync it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn syncs_that_fail_send_deliveries_back() {
    failing_call("fdatasync,fsync", "EIO", "disk I/O error").await;
}

/// S5: a file system that has become read-only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_system_that_became_read_only_sends_deliveries_back() {
    failing_call("pwrite64", "EROFS", "disk I/O error").await;
}

/// S5: every fifth write fails, so that transactions end at each of their writes. Scale: 400 events.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_fail_now_and_then_leave_nothing_half_done() {
    let place = Place::sqlite();
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 400);
    let server = place.serve().await;
    let deliveries = history.deliveries(seed.value());
    let mut sent = Sent::default();
    sent.add(&sender(&server).send_all(deliveries[..50].to_vec(), 8, PATIENCE).await);
    let failing = Failing::start(&server, &place, "pwrite64", "EIO", "4+5").await;
    let meanwhile = sender(&server).send_all(deliveries.clone(), 8, Duration::from_secs(5)).await;
    println!("{:?}", meanwhile.by_status);
    assert!(meanwhile.by_status.keys().all(|status| matches!(status, 200 | 503)), "{:?}", meanwhile.by_status);
    assert!(meanwhile.by_status.contains_key(&503), "no write failed: {:?}", meanwhile.by_status);
    assert_eq!(meanwhile.unanswered, 0);
    sent.acked.extend(meanwhile.acked);
    failing.end(&server).await;
    sent.add(&sender(&server).send_all(deliveries, 8, PATIENCE).await);
    check(&place, &server, &history, &sent).await;
}

/// What of a write-ahead log (sqlite.org/fileformat2.html, section 4) was written since its last start.
struct Log {
    frame: usize,
    /// Where the last frame begins that belongs to the log, and whether it ends a commit.
    last: usize,
    ends_commit: bool,
}

impl Log {
    const HEADER: usize = 32;
    const FRAME_HEADER: usize = 24;

    fn read(path: &Path) -> (Vec<u8>, Log) {
        let bytes = fs::read(path).expect("the log");
        let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let frame = Log::FRAME_HEADER + usize::try_from(word(8)).expect("a page size");
        let salts = bytes[16..24].to_vec();
        let frames = (Log::HEADER..).step_by(frame).take_while(|at| at + frame <= bytes.len());
        let last = frames.take_while(|at| bytes[at + 8..at + 16] == salts).last().expect("a log with frames");
        let ends_commit = word(last + 4) != 0;
        (bytes, Log { frame, last, ends_commit })
    }
}

/// S7: the end of the log is damaged after a kill. What lies behind the last commit is ignored, and nothing is lost. When
/// the last commit itself is damaged, which no crash of the process does and only a disk that lied about a sync, its one
/// delivery is lost and no other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_end_of_the_log_loses_nothing_but_what_was_damaged() {
    const SENT: usize = 60;
    let place = Place::sqlite();
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 150);
    let deliveries: Vec<Item> =
        history.events.iter().map(|event| (event.svix_id.clone(), event.body.clone())).collect();
    let mut server = place.serve().await;
    let mut sent = Sent::default();
    // One commit each.
    sent.add(&sender(&server).send_all(deliveries[..SENT].to_vec(), 1, PATIENCE).await);
    let last = deliveries[SENT - 1].0.clone();
    server.kill9().await;

    let (bytes, log) = Log::read(&log_of(&place.file()));
    assert!(log.ends_commit && log.last + log.frame == bytes.len(), "the log was never begun anew");
    let half = log.frame / 2;
    let torn = [&bytes[..], &bytes[log.last..log.last + half]].concat();
    let mut strange = [&bytes[..], &bytes[log.last..]].concat();
    strange[bytes.len() + half] ^= 1;
    let mut flipped = bytes.clone();
    flipped[log.last + half] ^= 1;
    let cases = [
        ("nothing", bytes.clone(), false),
        ("half a frame more", torn, false),
        ("a whole frame more with a wrong sum", strange, false),
        ("zeros behind", [&bytes[..], &vec![0; 2 * log.frame]].concat(), false),
        ("the last frame cut in half", bytes[..log.last + half].to_vec(), true),
        ("the last frame cut off", bytes[..log.last].to_vec(), true),
        ("a bit of the last frame flipped", flipped, true),
    ];
    for (damage, log, last_is_hit) in cases {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("copy.db");
        fs::copy(place.file(), &file).expect("copy the file");
        fs::write(log_of(&file), log).expect("write the log");
        let copy = Place::at(format!("sqlite://{}", file.display()));
        let server = copy.serve().await;
        assert_eq!(copy.integrity().await, "ok", "{damage}");
        let kept = copy.deliveries().await;
        let lost: Vec<&String> = sent.acked.iter().filter(|id| !kept.contains_key(*id)).collect();
        assert_eq!(lost, if last_is_hit { vec![&last] } else { vec![] }, "{damage}");
        let mut all = Sent::default();
        all.add(&sender(&server).send_all(deliveries.clone(), 8, PATIENCE).await);
        check(&copy, &server, &history, &all).await;
    }
}

async fn read_only(file: &Path) -> SqliteConnection {
    let options = SqliteConnectOptions::new().filename(file).read_only(true);
    options.connect().await.expect("open the file")
}

async fn users(reader: &mut SqliteConnection) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM users").fetch_one(reader).await.expect("count")
}

/// S8: a reader keeps its snapshot, so that the log cannot begin anew. Scale: instead of ten minutes it stays while more
/// is written than the log keeps afterwards (`journal_size_limit`, 64 MiB).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stays_does_not_hold_the_intake_and_the_log_shrinks_after_it() {
    const LIMIT: u64 = 64 * 1024 * 1024;
    const BODY: usize = 1024 * 1024;
    let place = Place::sqlite();
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 400);
    let mut server = place.serve().await;
    let deliveries = history.deliveries(seed.value());
    let mut sent = Sent::default();
    sent.add(&sender(&server).send_all(deliveries[..100].to_vec(), 8, PATIENCE).await);
    let mut reader = read_only(&place.file()).await;
    reader.execute("BEGIN").await.expect("begin");
    let seen = users(&mut reader).await;

    let length = || fs::metadata(log_of(&place.file())).expect("the log").len();
    let mut large = 0;
    while length() <= LIMIT + LIMIT / 8 {
        let id = format!("msg_large{large}");
        let answer = post(&sender(&server), &id, large_event(large, BODY)).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        sent.acked.insert(id);
        large += 1;
        assert!(large < 400, "the log does not grow: the reader holds nothing");
    }
    let meanwhile = sender(&server).send_all(deliveries, 8, PATIENCE).await;
    assert_eq!(meanwhile.by_status.keys().collect::<Vec<_>>(), [&200], "{:?}", meanwhile.by_status);
    sent.add(&meanwhile);
    assert_eq!(users(&mut reader).await, seen, "the reader sees what it saw");
    let longest = length();
    reader.execute("ROLLBACK").await.expect("end");
    reader.close().await.expect("close");

    // The log begins anew with one of the next commits.
    let again = history.deliveries(1);
    let start = Instant::now();
    for (id, body) in again.iter().cycle() {
        assert_eq!(sender(&server).send(id, body).await.status, 200);
        if length() <= LIMIT {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "the log stays at {} MiB", length() >> 20);
    }
    println!("{} MiB with the reader, {} MiB after it", longest >> 20, length() >> 20);
    let kept = place.deliveries().await;
    assert!(sent.acked.iter().all(|id| kept.contains_key(id)), "an acknowledged delivery is lost");
    assert_eq!(kept.len(), history.events.len() + large);
    let mut tables = place.tables().await;
    tables.users.retain(|id, _| !id.starts_with("user_large"));
    tables.assert_same_as(&history.truth);
    assert_eq!(place.integrity().await, "ok");
    assert!(server.is_running());
}

/// S9: copies that SQLite makes while deliveries are written. Each is a moment of the original: whole, with everything that
/// was acknowledged before it began, and exactly what its own deliveries make of an empty database. Served, it catches up.
/// Scale: three copies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_taken_under_load_is_a_moment_of_the_original() {
    let place = Place::sqlite();
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 2_000);
    let server = place.serve().await;
    let deliveries = history.deliveries(seed.value());
    let before = sender(&server).send_all(deliveries[..200].to_vec(), 8, PATIENCE).await;
    let load = Load::start(vec![sender(&server)], deliveries[200..].to_vec(), 8);
    let folder = tempfile::tempdir().expect("a folder");
    let mut copies = Vec::new();
    for number in 1..=3 {
        // Each when a quarter more of the history is there.
        let start = Instant::now();
        while place.deliveries().await.len() < number * history.events.len() / 4 {
            assert!(start.elapsed() < PATIENCE, "the load does not arrive");
        }
        let file = folder.path().join(format!("copy{number}.db"));
        let mut connection = read_only(&place.file()).await;
        let statement = format!("VACUUM INTO '{}'", file.display());
        connection.execute(AssertSqlSafe(statement)).await.expect("copy");
        connection.close().await.expect("close");
        copies.push(Place::at(format!("sqlite://{}", file.display())));
    }
    let mut sent = load.finish().await;
    assert_eq!(sent.by_status.keys().collect::<Vec<_>>(), [&200], "a copy sends nobody back: {:?}", sent.by_status);
    sent.add(&before);
    check(&place, &server, &history, &sent).await;

    let mut sizes = Vec::new();
    for copy in &copies {
        assert_eq!(copy.integrity().await, "ok");
        let kept: BTreeSet<String> = copy.deliveries().await.into_keys().collect();
        sizes.push(kept.len());
        assert!(before.acked.iter().all(|id| kept.contains(id)), "what was acknowledged before is in the copy");
        let own: Vec<Item> = deliveries.iter().filter(|(id, _)| kept.contains(id)).cloned().collect();
        let fresh = Place::sqlite();
        let replayed = fresh.serve().await;
        sender(&replayed).send_all(own, 8, PATIENCE).await.assert_complete();
        let (fresh, copy) = (fresh.tables().await.without_ended(), copy.tables().await.without_ended());
        assert!(fresh == copy, "the copy is what its own deliveries make");
    }
    println!("copies of {sizes:?} deliveries");
    assert!(sizes.is_sorted() && sizes[0] < history.events.len(), "they were taken under load: {sizes:?}");
    let restored = copies[0].serve().await;
    let mut again = Sent::default();
    again.add(&sender(&restored).send_all(deliveries, 8, PATIENCE).await);
    check(&copies[0], &restored, &history, &again).await;
}

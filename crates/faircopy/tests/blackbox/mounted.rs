//! File systems of the test's own: full, or read-only. Mounting needs root, and `./test` leaves this module out by name
//! where it is not allowed; `disk` breaks the same promises for SQLite without it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use faircopy::app::{self, Clock, ManualClock};
use faircopy::config::{Config, Environment, Every, Flags};
use faircopy::telemetry::Metrics;
use faircopy::upstream::alert::Target;
use faircopy::worker::alerts::Alerts;
use faircopy::worker::watch::{Comparing, Watch};
use faircopy_core::Millis;
use faircopy_testkit::postgres::Postgres;
use faircopy_testkit::receiver::Receiver;
use faircopy_testkit::seed::Seed;
use tempfile::TempDir;

use crate::support::{
    History, PATIENCE, Place, Sent, administer, all_at_once, assert_sent_back, check, number, ready_soon, sender,
    until_sent_back,
};

/// A file system of a few megabytes; unmounted when it is dropped.
struct SmallDisk {
    folder: TempDir,
    bytes: usize,
}

impl SmallDisk {
    fn mount(mebibytes: usize) -> SmallDisk {
        let folder = tempfile::Builder::new().prefix("faircopy-disk-").tempdir().expect("a folder");
        let bytes = mebibytes * 1024 * 1024;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(folder.path())
            .output()
            .expect("run mount");
        assert!(mounted.status.success(), "a tmpfs cannot be mounted: {}", String::from_utf8_lossy(&mounted.stderr));
        SmallDisk { folder, bytes }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes space away until the guard's file is removed.
    fn fill(&self, bytes: usize) -> std::path::PathBuf {
        let ballast = self.path().join("ballast");
        fs::write(&ballast, vec![1; bytes]).expect("the ballast fits");
        ballast
    }

    fn remount(&self, option: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{option}")]).arg(self.path()).status();
        assert!(status.expect("run mount").success(), "remount {option}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server is dropped after it when the test fails.
        let unmounted = Command::new("umount").arg("--lazy").arg(self.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.path().display());
        }
    }
}

/// S1. The disk holds the 16 MiB that the log may reach before a checkpoint, and 2 MiB of them are free at first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_sends_deliveries_back_until_there_is_space() {
    let disk = SmallDisk::mount(32);
    let ballast = disk.fill(disk.bytes - 2 * 1024 * 1024);
    let place = Place::at(format!("sqlite://{}", disk.path().join("copy.db").display()));
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 600);
    let mut server = place.serve().await;
    let deliveries = history.deliveries(seed.value());
    let mut sent = until_sent_back(&sender(&server), &deliveries).await;
    assert_eq!(server.get("/healthz").await.expect("an answer").status, 200);
    let kept = place.deliveries().await;
    assert!(sent.acked.iter().all(|id| kept.contains_key(id)), "what was acknowledged is there while the disk is full");

    fs::remove_file(&ballast).expect("remove the ballast");
    let healed = Instant::now();
    sent.add(&sender(&server).send_all(deliveries, 8, PATIENCE).await);
    println!("everything acknowledged {:?} after there was space", healed.elapsed());
    assert!(server.is_running(), "it healed without a restart");
    check(&place, &server, &history, &sent).await;
}

/// S5: started on a read-only file system, it sends deliveries back, says why, harms nothing, and begins its work by itself once
/// the file system can be written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_disk_sends_deliveries_back() {
    let disk = SmallDisk::mount(16);
    let place = Place::at(format!("sqlite://{}", disk.path().join("copy.db").display()));
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 200);
    let mut server = place.serve().await;
    let deliveries = history.deliveries(seed.value());
    let mut sent = Sent::default();
    sent.add(&sender(&server).send_all(deliveries[..100].to_vec(), 8, PATIENCE).await);
    assert!(server.terminate().await.success());
    disk.remount("ro");
    // It is alive, whatever it says of being ready.
    server.restart_with(place.options().ready_path("/healthz")).await;
    let refused = all_at_once(&sender(&server), &deliveries[..20]).await;
    refused.iter().for_each(assert_sent_back);
    assert_eq!(server.get("/readyz").await.expect("an answer").status, 503);
    let why = ["readonly database", "unable to open database file"];
    assert!(why.iter().any(|why| server.stderr().contains(why)), "the log says why: {}", server.stderr());
    disk.remount("rw");
    ready_soon(&server).await;
    let kept = place.deliveries().await;
    assert!(sent.acked.iter().all(|id| kept.contains_key(id)), "what was acknowledged is there");
    assert!(server.is_running(), "it lives on");
    sent.add(&sender(&server).send_all(deliveries, 8, PATIENCE).await);
    check(&place, &server, &history, &sent).await;
}

/// D10: the database's tables lie in a tablespace of 24 MiB, of which a new database takes a third.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_tablespace_sends_deliveries_back_until_there_is_space() {
    let disk = SmallDisk::mount(24);
    let postgres = Postgres::start().await;
    let space = disk.path().join("space");
    fs::create_dir(&space).expect("a folder");
    let owner = fs::metadata(postgres.data_folder()).expect("the data folder");
    for folder in [disk.path(), &space] {
        chown(folder, Some(owner.uid()), Some(owner.gid())).expect("give the folder to PostgreSQL");
    }
    administer(&postgres.url(), &format!("CREATE TABLESPACE small LOCATION '{}'", space.display())).await;
    let place = Place::at(postgres.create_database("copy").await);
    administer(&postgres.url(), "ALTER DATABASE copy SET TABLESPACE small").await;
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 1_500);
    let mut server = place.serve().await;
    let used = "SELECT pg_database_size(current_database())";
    let used = usize::try_from(number(place.url(), used).await).expect("a size");
    // Half a megabyte is left.
    let ballast = disk.fill(disk.bytes - used - 512 * 1024);
    let deliveries = history.deliveries(seed.value());
    let mut sent = until_sent_back(&sender(&server), &deliveries).await;
    // PostgreSQL's hint with 53100, whether nothing of a page found room or half of it.
    assert!(postgres.log().contains("Check free disk space"), "{}", postgres.log());
    assert_eq!(server.get("/healthz").await.expect("an answer").status, 200);
    let kept = place.deliveries().await;
    assert!(sent.acked.iter().all(|id| kept.contains_key(id)), "what was acknowledged is there while the disk is full");
    assert!(kept.values().all(|delivery| delivery.outcome != "quarantined"), "a full disk is no delivery's fault");

    fs::remove_file(&ballast).expect("remove the ballast");
    sent.add(&sender(&server).send_all(deliveries, 8, PATIENCE).await);
    assert!(server.is_running(), "it healed without a restart");
    check(&place, &server, &history, &sent).await;
}

/// The alarm for a disk that is nearly full comes while there is still room to write it down, gets worse with it, and is over when there
/// is room. The workers are those of the service; the turns and the clock are the test's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_nearly_full_is_told() {
    const MIB: usize = 1024 * 1024;
    let disk = SmallDisk::mount(96);
    let receiver = Receiver::start().await;
    let place = Place::at(format!("sqlite://{}", disk.path().join("copy.db").display()));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("faircopy.toml");
    fs::write(&file, format!("[[alert]]\nname = 'ops'\nurl = '{}'\n", receiver.url())).expect("its settings");
    let flags = Flags { config: Some(file), database_url: Some(place.url().to_owned()), ..Flags::default() };
    let config = Config::load(&flags, &Environment::default()).expect("usable settings");
    let (store, metrics, clock) = (config.store(), Metrics::install(), ManualClock::at(Millis(1_760_000_000_000)));
    app::prepare(&config, &store, clock.now(), true).await.expect("a database");
    let targets = Target::all(&config.alerts, &metrics);
    let comparing = Comparing { has_key: false, every: Every::Never };
    let (shared, traffic): (Arc<dyn Clock>, _) = (Arc::new(clock.clone()), Arc::default());
    let mut watch = Watch::new(store.clone(), None, traffic, shared.clone(), metrics.clone(), "one".into(), comparing);
    let mut alerts = Alerts::new(store, targets, shared, metrics, "one".into(), Arc::new(|| 0));
    let mut told = async |turns: usize| {
        for _ in 0..turns {
            watch.step().await.expect("a look");
            alerts.step().await.expect("a turn");
            clock.advance(60_000);
        }
        let about = receiver.taken().into_iter().map(|post| post.json()).filter(|it| it["alert"]["name"] == "disk");
        about.map(|it| format!("{} {}", it["type"], it["alert"]["severity"]).replace('"', "")).collect::<Vec<_>>()
    };
    assert_eq!(told(3).await, [] as [&str; 0]);
    let ballast = disk.fill(disk.bytes - 7 * MIB);
    assert_eq!(told(3).await, ["alert.raised warning"]);
    fs::write(disk.path().join("more"), vec![1; 7 * MIB / 2]).expect("it fits");
    assert_eq!(told(3).await, ["alert.raised warning", "alert.raised critical"]);
    fs::remove_file(&ballast).expect("remove the ballast");
    assert_eq!(told(8).await, ["alert.raised warning", "alert.raised critical", "alert.resolved critical"]);
}

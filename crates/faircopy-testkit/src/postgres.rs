//! Private PostgreSQL clusters that a test can kill, pause and restart, and that never outlive the test process.
//!
//! | for | use |
//! | --- | --- |
//! | a test that only needs a database | [`fresh_database`]: a database of its own in the run's one cluster |
//! | a test that kills, pauses or configures the database | [`Postgres::start`] or [`Postgres::start_with`] |
//!
//! PostgreSQL refuses to run as root: started by root, the cluster runs as the user `postgres`. Durability settings are
//! PostgreSQL's defaults (`fsync=on`): only the cluster's creation skips the sync, for speed.

use std::env;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio::sync::OnceCell;

use crate::port::Port;
use crate::watchdog::Watchdog;

/// When set, [`shared`] uses the cluster of this administrator's address and starts none: `./test` starts one for the
/// whole run, because the test runner gives each test a process of its own.
pub const SHARED_URL_VARIABLE: &str = "FAIRCOPY_TEST_POSTGRES_URL";

/// The dynamic linker's: a library that stands before all others. The server gets ours, which is how the benchmark slows its disk.
pub const PRELOAD: &str = "LD_PRELOAD";

/// Recovery after a crash under load takes seconds; a minute means that something is wrong.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Processes that got SIGKILL are gone as soon as the kernel is done with them.
const GONE_WITHIN: Duration = Duration::from_secs(20);
/// How long to wait between two looks at something that changes within milliseconds.
const POLL: Duration = Duration::from_millis(10);

/// Stops the cluster whose data folder is `$1` and removes its home `$2`. Every server process has the data folder as
/// its working directory, also after its postmaster was killed. SIGQUIT is PostgreSQL's immediate shutdown; what does
/// not follow within two seconds is killed, and then its shared memory segment (line 7 of the pid file) is removed.
const CLEAR_AWAY: &str = r#"
data=$1 home=$2
ours() { find /proc/[0-9]*/cwd -maxdepth 0 -lname "$data*" 2>/dev/null | cut -d/ -f3; }
postmaster=$(sed -n 1p "$data/postmaster.pid" 2>/dev/null)
segment=$(sed -n 7p "$data/postmaster.pid" 2>/dev/null)
for pid in $(ours); do
    kill -CONT "$pid"
    if [ "$pid" = "$postmaster" ]; then kill -QUIT "$pid"; fi
done
rounds=0
while pids=$(ours); [ -n "$pids" ]; do
    rounds=$((rounds + 1))
    if [ "$rounds" -gt 100 ]; then kill -KILL $pids; fi
    sleep 0.02
done
if [ -n "$segment" ]; then ipcrm -m "${segment##* }"; fi
rm -rf "$home"
pids=$(ours)
if [ -n "$pids" ]; then kill -KILL $pids; fi
"#;

/// A private cluster on a port of 127.0.0.1 and a Unix socket, removed when it is dropped or when this process ends in
/// whatever way.
#[derive(Debug)]
pub struct Postgres {
    // Fields drop in this order: the watchdog clears away, then the port may be taken by another.
    watchdog: Option<Watchdog>,
    postmaster: Option<Child>,
    programs: PathBuf,
    home: PathBuf,
    settings: Vec<(String, String)>,
    port: Port,
}

impl Postgres {
    /// A cluster with PostgreSQL's default settings.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start.
    pub async fn start() -> Postgres {
        Postgres::start_with(&[]).await
    }

    /// A cluster with some settings of its own, for example `&[("max_connections", "10")]`.
    ///
    /// # Panics
    /// When PostgreSQL is not installed or does not start.
    pub async fn start_with(settings: &[(&str, &str)]) -> Postgres {
        let programs = programs();
        let home = tempfile::Builder::new().prefix("faircopy-pg-").tempdir().expect("a temporary folder").keep();
        let home = home.canonicalize().expect("the temporary folder's real path");
        let watchdog = Watchdog::start(CLEAR_AWAY, &[text(&home.join("data")), text(&home)]);
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut cluster =
            Postgres { watchdog: Some(watchdog), postmaster: None, programs, home, settings, port: Port::take() };
        if let Some((uid, gid)) = server_user() {
            std::os::unix::fs::chown(&cluster.home, Some(uid), Some(gid)).expect("give the folder to postgres");
        }
        cluster.create();
        cluster.restart().await;
        cluster
    }

    /// The administrator's address: `postgres://postgres@127.0.0.1:PORT/postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@{}:{}/postgres", Ipv4Addr::LOCALHOST, self.port.number())
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The folder of the Unix socket: the `host` of a connection that does not use TCP.
    #[must_use]
    pub fn socket_folder(&self) -> &Path {
        &self.home
    }

    /// The data folder.
    #[must_use]
    pub fn data_folder(&self) -> PathBuf {
        self.home.join("data")
    }

    /// The folder of the PostgreSQL programs (`psql`, `pg_dump`, …).
    #[must_use]
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// What the server has logged until now.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.home.join("log")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Creates a database and returns its address.
    ///
    /// # Panics
    /// When it exists already, or the cluster is down.
    pub async fn create_database(&self, name: &str) -> String {
        create_database(&self.url(), name, "").await
    }

    /// Like [`Postgres::create_database`], with the sort order of a human language (`en-US`), in which text is not
    /// ordered by its bytes. Production databases often have one.
    ///
    /// # Panics
    /// When it exists already, or the cluster is down.
    pub async fn create_database_in_language(&self, name: &str, language: &str) -> String {
        create_database(&self.url(), name, &in_language(language)).await
    }

    /// Kills the postmaster and every other process of the cluster with SIGKILL, as a crash does, and returns when they
    /// are gone.
    ///
    /// # Panics
    /// When they do not go.
    pub fn kill(&mut self) {
        // The postmaster first: it can then start no other.
        if let Some(postmaster) = &mut self.postmaster {
            postmaster.kill().expect("kill our own postmaster");
            postmaster.wait().expect("wait for our own postmaster");
        }
        self.postmaster = None;
        let start = Instant::now();
        while !self.signal_all(Signal::KILL).is_empty() {
            assert!(start.elapsed() < GONE_WITHIN, "processes of the cluster survive SIGKILL: {:?}", self.pids());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Stops the cluster cleanly (fast shutdown: transactions are rolled back, connections closed).
    ///
    /// # Panics
    /// When it does not stop within a minute.
    pub async fn stop(&mut self) {
        let Some(mut postmaster) = self.postmaster.take() else { return };
        signal(postmaster.id(), Signal::INT);
        let start = Instant::now();
        while postmaster.try_wait().expect("look at our own postmaster").is_none() {
            assert!(start.elapsed() < READY_WITHIN, "PostgreSQL does not stop; its log:\n{}", self.log());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Starts the cluster again on the same port and data, and returns when it accepts connections. A cluster that is
    /// running is stopped cleanly first.
    ///
    /// # Panics
    /// When it does not accept connections within a minute.
    pub async fn restart(&mut self) {
        self.stop().await;
        self.spawn();
        let start = Instant::now();
        let url = self.url();
        loop {
            match PgConnection::connect(&url).await {
                Ok(connection) => {
                    let _ = connection.close().await;
                    return;
                }
                Err(error) => {
                    let ended =
                        self.postmaster.as_mut().and_then(|child| child.try_wait().expect("look at our own child"));
                    assert!(
                        ended.is_none() && start.elapsed() < READY_WITHIN,
                        "PostgreSQL does not accept connections: {error}; ended: {ended:?}; its log:\n{}",
                        self.log()
                    );
                    tokio::time::sleep(POLL).await;
                }
            }
        }
    }

    /// Stops every process of the cluster where it stands (SIGSTOP): connections stay open and nothing answers.
    ///
    /// # Panics
    /// When the processes cannot be stopped.
    pub fn pause(&self) {
        if let Some(postmaster) = &self.postmaster {
            signal(postmaster.id(), Signal::STOP);
        }
        let start = Instant::now();
        loop {
            let pids = self.signal_all(Signal::STOP);
            if pids.iter().all(|pid| is_stopped(*pid)) && self.pids() == pids {
                return;
            }
            assert!(start.elapsed() < GONE_WITHIN, "the processes {pids:?} do not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Lets every process of the cluster continue (SIGCONT).
    pub fn resume(&self) {
        self.signal_all(Signal::CONT);
    }

    /// The process ids of the postmaster and its children, ascending.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let data = self.data_folder();
        let mut pids: Vec<u32> = fs::read_dir("/proc")
            .expect("/proc")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|folder| folder == data))
            .collect();
        pids.sort_unstable();
        pids
    }

    fn create(&self) {
        let mut initdb = self.program("initdb");
        initdb.args(["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]);
        initdb.arg("--pgdata").arg(self.data_folder());
        let output = initdb.output().expect("run initdb");
        assert!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn spawn(&mut self) {
        let log = File::options().create(true).append(true).open(self.home.join("log")).expect("the log file");
        let mut postgres = self.program("postgres");
        postgres.arg("-D").arg(self.data_folder()).args(["-p", &self.port.number().to_string()]);
        postgres.arg("-c").arg(format!("listen_addresses={}", Ipv4Addr::LOCALHOST));
        postgres.arg("-c").arg(format!("unix_socket_directories={}", text(&self.home)));
        // In files of the data folder: after a crash nothing stays behind in /dev/shm.
        postgres.args(["-c", "dynamic_shared_memory_type=mmap"]);
        for (name, value) in &self.settings {
            postgres.arg("-c").arg(format!("{name}={value}"));
        }
        postgres.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.postmaster = Some(postgres.spawn().expect("run postgres"));
    }

    /// A PostgreSQL program as the user that the server runs as, apart from our process group: Ctrl-C and a test
    /// runner's kill of the group reach the watchdog through its pipe, which stops the cluster in order.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .current_dir(&self.home)
            .process_group(0);
        if let Some(library) = env::var_os(PRELOAD) {
            command.env(PRELOAD, library);
        }
        if let Some((uid, gid)) = server_user() {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn signal_all(&self, which: Signal) -> Vec<u32> {
        let pids = self.pids();
        pids.iter().for_each(|pid| signal(*pid, which));
        pids
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.watchdog = None;
        if let Some(postmaster) = &mut self.postmaster {
            let _ = postmaster.wait();
        }
    }
}

/// The cluster that many tests share: the one of [`SHARED_URL_VARIABLE`], or one that this process starts at first use.
#[derive(Debug)]
pub struct Shared {
    url: String,
    _own: Option<Postgres>,
}

impl Shared {
    /// The administrator's address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Creates a database whose name no other test has; it is removed when the value is dropped.
    ///
    /// # Panics
    /// When the cluster is down.
    pub async fn fresh_database(&self) -> Database {
        self.create("").await
    }

    /// Like [`Shared::fresh_database`], in the sort order of a human language (`en-US`).
    ///
    /// # Panics
    /// When the cluster is down.
    pub async fn fresh_database_in_language(&self, language: &str) -> Database {
        self.create(&in_language(language)).await
    }

    async fn create(&self, options: &str) -> Database {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // The time keeps apart a process id that is used twice while the cluster runs.
        let since = jiff::Timestamp::now().as_millisecond();
        let name = format!("test_{since}_{}_{number}", std::process::id());
        let url = create_database(&self.url, &name, options).await;
        Database { url, name, administrator: self.url.clone() }
    }
}

/// A database of one test; dropping it removes the database, open connections or not.
#[derive(Debug)]
pub struct Database {
    url: String,
    name: String,
    administrator: String,
}

impl Database {
    /// Its address.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote(&self.name));
        let administrator = self.administrator.clone();
        // A thread with a runtime of its own: a test may drop this inside a runtime, where blocking on it is an error.
        let remove = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut connection = PgConnection::connect(&administrator).await?;
                connection.execute(AssertSqlSafe(statement)).await?;
                connection.close().await
            })
        });
        // A database that stays is removed with its cluster.
        if let Ok(Err(error)) = remove.join() {
            eprintln!("the database {} stays: {error}", self.name);
        }
    }
}

/// The shared cluster. It stops when this process ends, in whatever way.
///
/// # Panics
/// When PostgreSQL is not installed or does not start.
pub async fn shared() -> &'static Shared {
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            match env::var(SHARED_URL_VARIABLE) {
                Ok(url) if !url.is_empty() => Shared { url, _own: None },
                _ => {
                    let own = Postgres::start().await;
                    Shared { url: own.url(), _own: Some(own) }
                }
            }
        })
        .await
}

/// A fresh database in the shared cluster.
///
/// # Panics
/// When PostgreSQL is not installed or does not start.
pub async fn fresh_database() -> Database {
    shared().await.fresh_database().await
}

async fn create_database(administrator: &str, name: &str, options: &str) -> String {
    let statement = format!("CREATE DATABASE {} {options}", quote(name));
    let mut connection = PgConnection::connect(administrator)
        .await
        .unwrap_or_else(|error| panic!("connect to {administrator}: {error}"));
    connection.execute(AssertSqlSafe(statement)).await.unwrap_or_else(|error| panic!("create {name}: {error}"));
    connection.close().await.expect("close the connection");
    let (server, _) = administrator.rsplit_once('/').expect("an address with a database");
    format!("{server}/{name}")
}

fn in_language(language: &str) -> String {
    format!("TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE {}", quote(language))
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder with a readable name")
}

fn signal(pid: u32, which: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    // It may be gone already, which is as good.
    let _ = kill_process(pid, which);
}

fn is_stopped(pid: u32) -> bool {
    // The state follows the program's name, which stands in parentheses; a process that is gone counts as stopped.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['T', 't', 'Z', 'X']))
}

/// User and group that the server runs as when we are root; otherwise it runs as we do.
pub(crate) fn server_user() -> Option<(u32, u32)> {
    if !rustix::process::getuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let fields: Vec<&str> = line.unwrap_or_default().split(':').collect();
    match (fields.get(2).and_then(|uid| uid.parse().ok()), fields.get(3).and_then(|gid| gid.parse().ok())) {
        (Some(uid), Some(gid)) => Some((uid, gid)),
        _ => panic!("PostgreSQL refuses to run as root, and there is no user postgres: apt-get install postgresql"),
    }
}

/// The folder of the server programs: what `pg_config` names, else Debian's folder of the newest version.
fn programs() -> PathBuf {
    let configured = Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output().ok();
    let configured = configured.map(|output| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            Some((path.file_name()?.to_str()?.parse().ok()?, path.join("bin")))
        })
        .collect();
    versions.sort_unstable_by(|one, other| other.cmp(one));
    configured
        .into_iter()
        .chain(versions.into_iter().map(|(_, folder)| folder))
        .find(|folder| folder.join("postgres").is_file() && folder.join("initdb").is_file())
        .expect("PostgreSQL's server programs are missing: apt-get install postgresql (or run ./test, which does)")
}

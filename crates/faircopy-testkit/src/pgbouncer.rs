//! PgBouncer in front of a cluster, in the mode in which each transaction may run on another connection.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::{Connection as _, PgConnection};

use crate::port::Port;
use crate::postgres::{Postgres, server_user};
use crate::watchdog::Watchdog;

/// It starts within milliseconds; ten seconds mean that something is wrong.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// How long to wait between two looks at something that changes within milliseconds.
const POLL: Duration = Duration::from_millis(10);
/// Kills the process `$1` and removes its home `$2`.
const CLEAR_AWAY: &str = r#"kill -KILL "$1"; rm -rf "$2""#;

/// A PgBouncer on a port of its own, killed when it is dropped or when this process ends in whatever way.
#[derive(Debug)]
pub struct PgBouncer {
    // Fields drop in this order: killed, then waited for, then the port may be taken by another.
    watchdog: Option<Watchdog>,
    process: Child,
    home: PathBuf,
    port: Port,
}

impl PgBouncer {
    /// In transaction mode, with so many connections to the cluster for each database.
    ///
    /// # Panics
    /// When PgBouncer is not installed or does not start.
    pub async fn start(cluster: &Postgres, connections: u32) -> PgBouncer {
        let program = program();
        let home = tempfile::Builder::new().prefix("faircopy-pgbouncer-").tempdir().expect("a temporary folder").keep();
        let port = Port::take();
        let settings = format!(
            "[databases]\n* = host={host} port={server}\n[pgbouncer]\npool_mode = transaction\nlisten_addr = {host}\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\nadmin_users = postgres\n\
             default_pool_size = {connections}\nlogfile = {log}\nignore_startup_parameters = extra_float_digits\n",
            host = Ipv4Addr::LOCALHOST,
            server = cluster.port(),
            port = port.number(),
            log = home.join("log").display(),
        );
        // With `auth_type = any` it comes to the cluster as the user that its own settings name.
        let settings = settings.replacen(" port=", " user=postgres port=", 1);
        fs::write(home.join("pgbouncer.ini"), settings).expect("write its settings");
        let mut command = Command::new(program);
        command.arg(home.join("pgbouncer.ini")).env_clear().current_dir(&home).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some((uid, gid)) = server_user() {
            std::os::unix::fs::chown(&home, Some(uid), Some(gid)).expect("give the folder to postgres");
            command.uid(uid).gid(gid);
        }
        let process = command.spawn().expect("run pgbouncer");
        let folder = home.to_str().expect("a temporary folder with a readable name");
        let watchdog = Some(Watchdog::start(CLEAR_AWAY, &[&process.id().to_string(), folder]));
        let mut bouncer = PgBouncer { watchdog, process, home, port };
        let start = Instant::now();
        let url = bouncer.url(&cluster.url());
        while let Err(error) = PgConnection::connect(&url).await {
            let ended = bouncer.process.try_wait().expect("look at our own child");
            assert!(
                ended.is_none() && start.elapsed() < READY_WITHIN,
                "PgBouncer does not accept connections: {error}; ended: {ended:?}; its log:\n{}",
                bouncer.log()
            );
            tokio::time::sleep(POLL).await;
        }
        bouncer
    }

    /// A database's address with PgBouncer in the server's place.
    ///
    /// # Panics
    /// When it is no address of a database.
    #[must_use]
    pub fn url(&self, database_url: &str) -> String {
        let (_, name) = database_url.rsplit_once('/').expect("an address with a database");
        format!("postgres://postgres@127.0.0.1:{}/{name}", self.port.number())
    }

    /// What it has logged until now.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read(self.home.join("log")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        self.watchdog = None;
        let _ = self.process.wait();
    }
}

/// Debian keeps it where only the administrator's path leads.
fn program() -> &'static Path {
    let known = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"];
    let found = known.into_iter().map(Path::new).find(|path| path.is_file());
    found.expect("PgBouncer is missing: apt-get install pgbouncer (or run ./test, which does)")
}

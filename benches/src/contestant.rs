//! Who takes part, and how its processes are started.

use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use faircopy_testkit::port::Port;
use faircopy_testkit::postgres::PRELOAD;
use serde::Serialize;

use crate::arena::Arena;
use crate::args::Group;
use crate::http;

/// How long a contestant may take until it answers; far above what any needs, so that only a broken one meets it.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A program under test on its database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contestant {
    /// Faircopy on Postgres.
    FaircopyPostgres,
    /// Fastify, `svix`, `pg`, one transaction per delivery.
    Plain,
    /// Fastify, HMAC from `node:crypto`, one prepared statement per delivery.
    Best,
    /// Faircopy on SQLite.
    FaircopySqlite,
    /// Fastify, `svix`, better-sqlite3, one transaction per delivery.
    SqlitePeer,
    /// Fastify, `@clerk/backend`, `pg`: checks session tokens.
    TokenPeer,
    /// The same with `jose`.
    JosePeer,
}

use Contestant::{Best, FaircopyPostgres, FaircopySqlite, JosePeer, Plain, SqlitePeer, TokenPeer};

impl Contestant {
    /// All of them, in the order of the report.
    pub(crate) const ALL: [Contestant; 7] =
        [FaircopyPostgres, Plain, Best, FaircopySqlite, SqlitePeer, TokenPeer, JosePeer];
    /// Those that receive deliveries.
    pub(crate) const RECEIVERS: [Contestant; 5] = [FaircopyPostgres, Plain, Best, FaircopySqlite, SqlitePeer];
    /// Those that check session tokens.
    pub(crate) const CHECKERS: [Contestant; 4] = [FaircopyPostgres, FaircopySqlite, TokenPeer, JosePeer];

    /// The name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            FaircopyPostgres => "faircopy-postgres",
            Plain => "plain",
            Best => "best",
            FaircopySqlite => "faircopy-sqlite",
            SqlitePeer => "sqlite-peer",
            TokenPeer => "token-peer",
            JosePeer => "jose-peer",
        }
    }

    /// The name in the report.
    pub(crate) fn title(self) -> &'static str {
        match self {
            FaircopyPostgres => "Faircopy, Postgres",
            Plain => "plain peer (Fastify, `svix`, `pg`)",
            Best => "best peer (Fastify, native HMAC, one statement)",
            FaircopySqlite => "Faircopy, SQLite",
            SqlitePeer => "SQLite peer (Fastify, `svix`, better-sqlite3)",
            TokenPeer => "token peer (Fastify, `@clerk/backend`, `pg`)",
            JosePeer => "the same with `jose`",
        }
    }

    /// Whether it is Faircopy itself.
    pub(crate) fn is_faircopy(self) -> bool {
        matches!(self, FaircopyPostgres | FaircopySqlite)
    }

    /// Whether its database is Postgres.
    pub(crate) fn on_postgres(self) -> bool {
        !matches!(self, FaircopySqlite | SqlitePeer)
    }

    /// The Postgres schema of its tables, with the dot; empty in SQLite.
    pub(crate) fn schema(self) -> &'static str {
        match self {
            FaircopyPostgres => "faircopy.",
            Plain => "plain.",
            Best => "best.",
            TokenPeer | JosePeer => "checks.",
            FaircopySqlite | SqlitePeer => "",
        }
    }

    /// The path that answers 200 once deliveries can be sent.
    pub(crate) fn ready_path(self) -> &'static str {
        if self.is_faircopy() { "/readyz" } else { "/healthz" }
    }

    /// The contestants that a name on the command line stands for.
    pub(crate) fn parse_names(text: &str) -> Result<Group, String> {
        Ok(match text {
            "faircopy-postgres" => &[FaircopyPostgres],
            "plain" => &[Plain],
            "best" => &[Best],
            "faircopy-sqlite" => &[FaircopySqlite],
            "sqlite-peer" => &[SqlitePeer],
            "token-peer" => &[TokenPeer],
            "jose-peer" => &[JosePeer],
            "postgres" => &[FaircopyPostgres, Plain, Best],
            "sqlite" => &[FaircopySqlite, SqlitePeer],
            "faircopy" => &[FaircopyPostgres, FaircopySqlite],
            "peers" => &[Plain, Best, SqlitePeer],
            _ => {
                let names = Contestant::ALL.map(Contestant::name).join(", ");
                return Err(format!("expected one of {names}, postgres, sqlite, faircopy, peers"));
            }
        })
    }

    fn command(self, arena: &Arena, port: u16) -> Command {
        let script = match self {
            FaircopyPostgres | FaircopySqlite => {
                let mut command = bound_to_us(arena.faircopy.as_os_str());
                command.arg("serve").env("FAIRCOPY_LISTEN", format!("127.0.0.1:{port}"));
                return command;
            }
            Plain => "plain.mjs",
            Best => "best.mjs",
            SqlitePeer => "sqlite.mjs",
            TokenPeer => "token.mjs",
            JosePeer => "jose.mjs",
        };
        let mut command = bound_to_us(OsStr::new("node"));
        command.arg(arena.peers.join(script)).env("PORT", port.to_string()).env("NODE_ENV", "production");
        command
    }
}

/// A running process of a contestant; killed when dropped.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    _port: Port,
    /// From the spawn to the first 200 of the ready path.
    pub(crate) ready_after: Duration,
}

impl Server {
    /// Starts a process on the database behind `url` and waits until it is ready.
    pub(crate) fn start(arena: &Arena, contestant: Contestant, url: &str) -> Result<Server> {
        Server::start_with(arena, contestant, url, &[])
    }

    /// The same with more variables in its environment.
    pub(crate) fn start_with(
        arena: &Arena,
        contestant: Contestant,
        url: &str,
        variables: &[(&str, &str)],
    ) -> Result<Server> {
        let port = Port::take();
        let log = arena.log_file(contestant)?;
        let mut command = contestant.command(arena, port.number());
        clear_environment(&mut command);
        command
            .env("DATABASE_URL", url)
            .env("CLERK_WEBHOOK_SIGNING_SECRET", &arena.secret)
            .envs(variables.iter().copied())
            .current_dir(arena.scratch())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {}", contestant.name()))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
        let mut server = Server { child, address, _port: port, ready_after: Duration::ZERO };
        server.wait_until_ready(contestant, started, &arena.log_path(contestant))?;
        Ok(server)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_ready(&mut self, contestant: Contestant, started: Instant, log: &Path) -> Result<()> {
        loop {
            if let Ok(200) = http::get_status(self.address, contestant.ready_path()) {
                self.ready_after = started.elapsed();
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status} before it was ready; it said:\n{}", contestant.name(), tail(log));
            }
            if started.elapsed() > READY_WITHIN {
                let name = contestant.name();
                bail!("{name} was not ready within {} s; it said:\n{}", READY_WITHIN.as_secs(), tail(log));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGKILL on purpose: whatever was acknowledged must be there without an orderly end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that ends when this program ends, however that happens: an orphan would disturb every later measurement.
/// `setpriv` becomes the program, which costs its start about a millisecond.
pub(crate) fn bound_to_us(program: &OsStr) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// Removes what could configure a contestant by chance, but keeps what `command` sets itself.
pub(crate) fn clear_environment(command: &mut Command) {
    let own: Vec<_> = command.get_envs().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect();
    command.env_clear().envs(own);
    for name in ["PATH", PRELOAD] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
}

/// The end of a log file.
pub(crate) fn tail(path: &Path) -> String {
    let text = std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

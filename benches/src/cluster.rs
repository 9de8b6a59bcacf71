//! The private PostgreSQL cluster: that of the test kit, with default settings (`fsync` and `synchronous_commit` on) but for
//! `min_wal_size`.

use std::process::Command;

use anyhow::{Context as _, Result};
use faircopy_testkit::postgres::Postgres;

use crate::program::{pipe, says};

/// Files of the write-ahead log, of 16 MiB: what two rounds write, and PostgreSQL's own limit of what it keeps (`max_wal_size`).
const LOG_FILES: usize = 62;

/// A running cluster; stopped and removed when dropped.
pub(crate) struct Cluster {
    postgres: Postgres,
    postmaster: u32,
}

impl Cluster {
    /// Creates and starts a cluster.
    pub(crate) fn start() -> Result<Cluster> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let postgres = runtime.block_on(Postgres::start_with(&[("min_wal_size", "1GB")]));
        let pid_file = postgres.data_folder().join("postmaster.pid");
        let pid = std::fs::read_to_string(&pid_file).context("postmaster.pid")?;
        let postmaster = pid.lines().next().and_then(|line| line.trim().parse().ok()).context("postmaster.pid")?;
        let cluster = Cluster { postgres, postmaster };
        cluster.age()?;
        Ok(cluster)
    }

    /// Brings the write-ahead log to where it is on a server that has run for a while: its next files are there, and need
    /// not be filled with zeros while somebody waits.
    fn age(&self) -> Result<()> {
        for _ in 0..LOG_FILES {
            self.query("postgres", "SELECT pg_logical_emit_message(false, '', ''); SELECT pg_switch_wal()")?;
        }
        self.query("postgres", "CHECKPOINT").map(drop)
    }

    /// The postmaster's process id; all of the cluster's processes descend from it.
    pub(crate) fn postmaster(&self) -> u32 {
        self.postmaster
    }

    /// The address of a database of this cluster.
    pub(crate) fn url(&self, database: &str) -> String {
        let administrator = self.postgres.url();
        let server = administrator.rsplit_once('/').map_or(administrator.as_str(), |(server, _)| server);
        format!("{server}/{database}")
    }

    /// What `postgres --version` says.
    pub(crate) fn version(&self) -> Option<String> {
        says(Command::new(self.postgres.programs().join("postgres")).arg("--version"))
    }

    /// Runs SQL with `psql` and gives what it prints: rows as lines, columns separated by `|`.
    pub(crate) fn query(&self, database: &str, sql: &str) -> Result<String> {
        let mut command = Command::new(self.postgres.programs().join("psql"));
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1"]).arg(self.url(database));
        pipe(&mut command, sql).context("psql")
    }
}

//! A fresh database for a round.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};

use crate::arena::Arena;
use crate::contestant::Contestant;
use crate::program::pipe;

/// A database of one contestant; removed when dropped, so that no round pays for the disk that another one filled.
pub(crate) struct Database<'a> {
    arena: &'a Arena,
    contestant: Contestant,
    place: Place,
}

enum Place {
    Postgres { name: String },
    Sqlite { folder: PathBuf },
}

impl<'a> Database<'a> {
    /// An empty database.
    pub(crate) fn create(arena: &'a Arena, contestant: Contestant) -> Result<Database<'a>> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("round_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let place = if contestant.on_postgres() {
            arena.cluster()?.query("postgres", &format!("CREATE DATABASE {name};"))?;
            Place::Postgres { name }
        } else {
            let folder = arena.scratch().join(name);
            std::fs::create_dir(&folder)?;
            Place::Sqlite { folder }
        };
        Ok(Database { arena, contestant, place })
    }

    /// Whose it is.
    pub(crate) fn contestant(&self) -> Contestant {
        self.contestant
    }

    /// What the contestant reads as `DATABASE_URL`.
    pub(crate) fn url(&self) -> Result<String> {
        match &self.place {
            Place::Postgres { name } => Ok(self.arena.cluster()?.url(name)),
            Place::Sqlite { folder } => Ok(format!("sqlite://{}", folder.join("bench.db").display())),
        }
    }

    /// Runs SQL and gives the rows of its last statement.
    pub(crate) fn query(&self, sql: &str) -> Result<String> {
        match &self.place {
            Place::Postgres { name } => self.arena.cluster()?.query(name, sql),
            Place::Sqlite { folder } => {
                let mut command = Command::new("node");
                command.arg(self.arena.peers.join("sql.mjs")).arg(folder.join("bench.db"));
                pipe(&mut command, sql).context("sql.mjs")
            }
        }
    }

    /// The number of rows of a table.
    pub(crate) fn count(&self, table: &str) -> Result<u64> {
        let sql = format!("SELECT count(*) FROM {}{table};", self.contestant.schema());
        self.query(&sql)?.parse().with_context(|| format!("no count from: {sql}"))
    }

    /// Writes everything that is pending to disk, so that the next contestant does not pay for it.
    pub(crate) fn settle(&self) -> Result<()> {
        match &self.place {
            Place::Postgres { .. } => self.query("CHECKPOINT;").map(drop),
            Place::Sqlite { .. } => Ok(()),
        }
    }

    /// How many deadlocks Postgres has found in this database.
    pub(crate) fn deadlocks(&self) -> Result<u64> {
        match &self.place {
            Place::Postgres { .. } => {
                let sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database();";
                self.query(sql)?.parse().context("no number of deadlocks")
            }
            Place::Sqlite { .. } => Ok(0),
        }
    }
}

impl Drop for Database<'_> {
    fn drop(&mut self) {
        let removed = match &self.place {
            Place::Postgres { name } => self.arena.cluster().and_then(|cluster| {
                let sql = format!("DROP DATABASE {name} WITH (FORCE);");
                cluster.query("postgres", &sql).map(drop)
            }),
            Place::Sqlite { folder } => std::fs::remove_dir_all(folder).map_err(Into::into),
        };
        if let Err(error) = removed {
            eprintln!("warning: a round's database was not removed: {error:#}");
        }
    }
}

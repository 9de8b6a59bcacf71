//! What is needed to see trouble: what the endpoint answered, what each replica's clock showed, what waits, and how much room there is.

use faircopy_core::Millis;
use faircopy_core::watch::{Disk, Quarantined, Waiting};

use crate::engine::{Call, Row, Rows};
use crate::error::{Error, Result};
use crate::{Address, Store, Writer};

/// Quarantined deliveries are counted up to here: more are as bad.
const MAX_COUNTED: i64 = 10_000;
/// Rows of the oldest tallies that are forgotten in one transaction.
const FORGET_AT_ONCE: i64 = 500;

/// How often the endpoint answered something within a slot of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// The slot.
    pub slot: i64,
    /// What it answered.
    pub kind: String,
    /// How often.
    pub number: i64,
}

/// What a replica measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gauge {
    /// What.
    pub name: String,
    /// How much.
    pub value: i64,
}

/// Tallies of one kind, taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The slot of the first.
    pub first: i64,
    /// The slot of the last.
    pub last: i64,
    /// How many in all.
    pub number: i64,
}

impl Store {
    /// What the endpoint answered from this slot on, all replicas together.
    pub async fn tallies(&self, from: i64) -> Result<Vec<Tally>> {
        const STATEMENT: &str = "SELECT slot, kind, number FROM {s}tallies WHERE slot >= $1 ORDER BY slot, kind";
        let tally = |row: &Row| Ok(Tally { slot: number(row, 0)?, kind: row.required(1)?, number: number(row, 2)? });
        self.readers.read(STATEMENT, vec![from.into()]).await?.iter().map(tally).collect()
    }

    /// The tallies of a kind that came later than the last of another.
    pub async fn tallies_since_last(&self, kind: &str, other: &str) -> Result<Option<Stretch>> {
        const STATEMENT: &str = "SELECT min(slot), max(slot), CAST(sum(number) AS bigint) FROM {s}tallies WHERE kind = $1 \
            AND slot > coalesce((SELECT max(slot) FROM {s}tallies WHERE kind = $2), -1)";
        let rows = self.readers.read(STATEMENT, vec![kind.into(), other.into()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (Some(first), Some(last)) = (row.int(0)?, row.int(1)?) else { return Ok(None) };
        Ok(Some(Stretch { first, last, number: number(row, 2)? }))
    }

    /// What replicas measured since then.
    pub async fn gauges(&self, since: Millis) -> Result<Vec<Gauge>> {
        const STATEMENT: &str = "SELECT name, value FROM {s}gauges WHERE at >= $1 ORDER BY name, holder";
        let gauge = |row: &Row| Ok(Gauge { name: row.required(0)?, value: number(row, 1)? });
        self.readers.read(STATEMENT, vec![since.0.into()]).await?.iter().map(gauge).collect()
    }

    /// When something was done that was to be remembered.
    pub async fn mark(&self, name: &str) -> Result<Option<Millis>> {
        let rows = self.readers.read("SELECT at FROM {s}marks WHERE name = $1", vec![name.into()]).await?;
        Ok(rows.first().map_or(Ok(None), |row| row.int(0))?.map(Millis))
    }

    /// The quarantined deliveries that arrived after then.
    pub async fn quarantined_after(&self, after: Millis) -> Result<Option<Quarantined>> {
        const STATEMENT: &str = "SELECT count(*), min(ms) FROM (SELECT {ms received_at} AS ms FROM {s}webhook_deliveries \
            WHERE outcome = 'quarantined' AND received_at > {as-time $1} ORDER BY received_at LIMIT $2) AS q";
        let rows = self.readers.read(STATEMENT, vec![after.into(), MAX_COUNTED.into()]).await?;
        let Some((row, oldest)) = rows.first().map(|row| Ok::<_, Error>((row, row.int(1)?))).transpose()? else {
            return Ok(None);
        };
        let deliveries = u64::try_from(number(row, 0)?).unwrap_or_default();
        Ok(oldest.map(|oldest| Quarantined { deliveries, oldest: Millis(oldest) }))
    }

    /// Deletions that are due, wait for nobody's word, and are worked on by nobody.
    pub async fn cascades_overdue(&self, now: Millis) -> Result<Option<Waiting>> {
        const STATEMENT: &str = "SELECT count(*), min(due_at) FROM {s}cascades \
            WHERE due_at <= $1 AND state IN ('waiting', 'deleting', 'calling') \
            AND NOT EXISTS (SELECT 1 FROM {s}leases l WHERE l.name = 'cascade' AND l.until_at > $1)";
        self.overdue(STATEMENT, vec![now.0.into()]).await
    }

    /// What is to be done outside, of jobs that wait for nobody's word.
    pub async fn steps_overdue(&self) -> Result<Option<Waiting>> {
        const STATEMENT: &str = "SELECT count(*), min({ms o.written_at}) FROM {s}outbox o \
            JOIN {s}cascades c ON c.subject = o.subject WHERE o.state = 'waiting' AND c.state IN ('deleting', 'calling')";
        self.overdue(STATEMENT, vec![]).await
    }

    /// Erasures that are due.
    pub async fn erasures_overdue(&self, now: Millis) -> Result<Option<Waiting>> {
        const STATEMENT: &str = "SELECT count(*), min(due_at) FROM {s}erasures WHERE due_at <= $1";
        self.overdue(STATEMENT, vec![now.0.into()]).await
    }

    async fn overdue(&self, statement: &str, scalars: Vec<crate::engine::Value>) -> Result<Option<Waiting>> {
        let rows = self.readers.read(statement, scalars).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let jobs = u64::try_from(number(row, 0)?).unwrap_or_default();
        Ok(row.int(1)?.map(|oldest| Waiting { jobs, oldest: Millis(oldest) }))
    }

    /// When a comparison with Clerk last ended well, of all that are remembered.
    pub async fn last_success(&self, kind: &str) -> Result<Option<Millis>> {
        const STATEMENT: &str = "SELECT {ms finished_at} FROM {s}sweeps WHERE kind = $1 AND outcome IN ('exact', 'repaired') \
            AND finished_at IS NOT NULL ORDER BY id DESC LIMIT 1";
        let rows = self.readers.read(STATEMENT, vec![kind.into()]).await?;
        Ok(rows.first().map_or(Ok(None), |row| row.int(0))?.map(Millis))
    }

    /// What the database server's clock shows; `None` on SQLite, which has the machine's.
    pub async fn server_time(&self) -> Result<Option<Millis>> {
        const STATEMENT: &str = "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)";
        match self.address {
            Address::Sqlite(_) => Ok(None),
            Address::Postgres(_) => {
                let rows = self.readers.read(STATEMENT, vec![]).await?;
                Ok(rows.first().map_or(Ok(None), |row| row.int(0))?.map(Millis))
            }
        }
    }

    /// Bytes that the database has on the disk.
    pub async fn database_bytes(&self) -> Result<u64> {
        const STATEMENT: &str = "SELECT pg_database_size(current_database())";
        match &self.address {
            Address::Sqlite(path) => Ok(length(path) + length(&log_of(path))),
            Address::Postgres(_) => {
                let rows = self.readers.read(STATEMENT, vec![]).await?;
                let bytes = rows.first().map_or(Ok(None), |row| row.int(0))?.unwrap_or_default();
                Ok(u64::try_from(bytes).unwrap_or_default())
            }
        }
    }

    /// The disk of an embedded database; `None` where the database is elsewhere, or its disk does not say.
    #[must_use]
    pub fn disk(&self) -> Option<Disk> {
        let Address::Sqlite(path) = &self.address else { return None };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let stat = rustix::fs::statvfs(folder.unwrap_or(std::path::Path::new("."))).ok()?;
        Some(Disk {
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            size: stat.f_blocks.saturating_mul(stat.f_frsize),
            log: length(&log_of(path)),
        })
    }
}

impl Writer {
    /// Adds what this replica counted and writes down what it measured.
    pub async fn add_tallies(&mut self, tallies: &[Tally], holder: &str, gauges: &[Gauge], now: Millis) -> Result<()> {
        const ADD: &str = "INSERT INTO {s}tallies AS t (slot, kind, number) SELECT v.slot, v.kind, v.number FROM {rows} AS v \
            WHERE true ON CONFLICT (slot, kind) DO UPDATE SET number = t.number + excluded.number";
        const MEASURE: &str = "INSERT INTO {s}gauges (holder, name, value, at) SELECT v.holder, v.name, v.value, v.at \
            FROM {rows} AS v WHERE true ON CONFLICT (holder, name) DO UPDATE SET value = excluded.value, at = excluded.at";
        let counted = Rows::new(tallies.len())
            .int("slot", tallies.iter().map(|tally| Some(tally.slot)))
            .text("kind", tallies.iter().map(|tally| Some(tally.kind.as_str())))
            .int("number", tallies.iter().map(|tally| Some(tally.number)));
        let measured = Rows::new(gauges.len())
            .text("holder", gauges.iter().map(|_| Some(holder)))
            .text("name", gauges.iter().map(|gauge| Some(gauge.name.as_str())))
            .int("value", gauges.iter().map(|gauge| Some(gauge.value)))
            .int("at", gauges.iter().map(|_| Some(now.0)));
        if tallies.is_empty() && gauges.is_empty() {
            return Ok(());
        }
        self.run_beside(None, vec![Call::over(ADD, counted), Call::over(MEASURE, measured)]).await.map(drop)
    }

    /// Remembers that something was done now.
    pub async fn set_mark(&mut self, name: &str, now: Millis) -> Result<()> {
        const SET: &str =
            "INSERT INTO {s}marks (name, at) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET at = excluded.at";
        self.run_beside(None, vec![Call::new(SET, vec![name.into(), now.0.into()])]).await.map(drop)
    }

    /// Forgets tallies before this slot and what was measured before then, a part at a time. Returns whether there was any.
    pub async fn forget_tallies(&mut self, before: i64, measured_before: Millis) -> Result<bool> {
        const OLD: &str = "SELECT slot FROM {s}tallies WHERE slot < $1 ORDER BY slot LIMIT 1 OFFSET $2";
        const FORGET: &str = "DELETE FROM {s}tallies WHERE slot < $1 RETURNING slot";
        const UNMEASURE: &str = "DELETE FROM {s}gauges WHERE at < $1 RETURNING name";
        // Up to the slot of the row after so many: a slot has a few rows.
        let far = self.run_beside(None, vec![Call::new(OLD, vec![before.into(), FORGET_AT_ONCE.into()])]).await?;
        let until = far.iter().flatten().next().map_or(Ok(None), |row| row.int(0))?.unwrap_or(before);
        let calls = vec![Call::new(FORGET, vec![until.into()]), Call::new(UNMEASURE, vec![measured_before.0.into()])];
        Ok(self.run_beside(None, calls).await?.iter().any(|rows| !rows.is_empty()))
    }
}

fn number(row: &Row, column: usize) -> Result<i64> {
    Ok(row.int(column)?.unwrap_or_default())
}

fn log_of(path: &std::path::Path) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

fn length(path: &std::path::Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

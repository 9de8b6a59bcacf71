//! Figures for people, each bounded: a table of a million rows costs no more to ask about than one of ten thousand
//! (docs/decisions/0024-dashboard.md).

use std::collections::BTreeMap;

use faircopy_core::Millis;

use crate::engine::{Call, Row, Value};
use crate::error::Result;
use crate::leases::Fence;
use crate::{Store, Writer};

/// Rows of a table that are counted when somebody asks: a millisecond. Beyond it the number is the one that was counted last.
pub const COUNTED_AT_ONCE: i64 = 10_000;
/// Rows that wait for something, or are in trouble: beyond it only that there are more matters.
const WAITING_COUNTED: i64 = 1_000;
/// Deliveries of the last minute that are counted.
const MINUTE_COUNTED: i64 = 5_000;

/// The tables whose rows are counted, as the answer names them.
pub const COUNTED: [&str; 4] = ["users", "organizations", "members", "invitations"];

fn table(name: &str) -> &'static str {
    match name {
        "users" => "users",
        "organizations" => "organizations",
        "members" => "organization_members",
        _ => "organization_invitations",
    }
}

/// How many rows there are, and how far that can be relied on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct RowCount {
    /// Rows.
    pub rows: i64,
    /// There may be more: counting stopped here.
    pub is_at_least: bool,
    /// When they were counted, in milliseconds since 1970; `null` for now.
    pub counted_at: Option<i64>,
}

/// What waits, and what is in trouble.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Deliveries that could not be understood.
    pub quarantined: RowCount,
    /// When the newest of them arrived.
    pub quarantined_at: Option<String>,
    /// Deletions under way.
    pub deletions: RowCount,
    /// When the oldest of them was begun.
    pub oldest_deletion: Option<Millis>,
    /// Deletions that wait for a word of the operator's.
    pub paused: RowCount,
    /// Steps outside that wait.
    pub steps: RowCount,
    /// Rows that only a token speaks for.
    pub provisional: RowCount,
    /// Deliveries that arrived within the last minute.
    pub last_minute: RowCount,
}

/// What changes whenever there is something new.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pulse {
    /// The number of the last change.
    pub sequence: i64,
    /// When the newest delivery arrived.
    pub newest: Option<String>,
    /// Deliveries that arrived lately.
    pub recent: i64,
    /// How often they were sent.
    pub attempts: i64,
}

impl Store {
    /// How many rows the tables of [`COUNTED`] have.
    pub async fn row_counts(&self) -> Result<BTreeMap<&'static str, RowCount>> {
        let each: Vec<String> = COUNTED.map(|name| bounded(&format!("{{s}}{}", table(name)), "true", "$1")).into();
        let statement = format!("SELECT {}", each.join(", "));
        let now = self.readers.read(&statement, vec![(COUNTED_AT_ONCE + 1).into()]).await?;
        let kept = self.readers.read("SELECT name, row_count, counted_at FROM {s}row_counts", vec![]).await?;
        let mut counts = BTreeMap::new();
        for (column, name) in COUNTED.into_iter().enumerate() {
            let mut count = count(now.first(), column, COUNTED_AT_ONCE)?;
            if count.is_at_least
                && let Some(row) = kept.iter().find(|row| row.required(0).is_ok_and(|kept| kept == name))
            {
                let rows = row.int(1)?.unwrap_or_default().max(COUNTED_AT_ONCE);
                count = RowCount { rows, is_at_least: false, counted_at: row.int(2)? };
            }
            counts.insert(name, count);
        }
        Ok(counts)
    }

    /// What waits, and what is in trouble.
    pub async fn waiting(&self, now: Millis) -> Result<Waiting> {
        const OPEN: &str = "state NOT IN ('done', 'cancelled')";
        let counts = [
            bounded("{s}webhook_deliveries", "outcome = 'quarantined'", "$1"),
            bounded("{s}cascades", OPEN, "$1"),
            bounded("{s}cascades", &format!("{OPEN} AND state = 'paused'"), "$1"),
            bounded("{s}outbox", "state = 'waiting'", "$1"),
            format!(
                "(SELECT min(t.created_at) FROM (SELECT created_at FROM {{s}}cascades WHERE {OPEN} LIMIT $1) AS t)"
            ),
            bounded("{s}users", "provenance = 'token'", "$1"),
            bounded("{s}organizations", "provenance = 'token'", "$1"),
            bounded("{s}organization_members", "provenance = 'token'", "$1"),
            bounded("{s}webhook_deliveries", "received_at >= {as-time $2}", "$3"),
            "(SELECT {time received_at} FROM {s}webhook_deliveries WHERE outcome = 'quarantined' \
              ORDER BY received_at DESC LIMIT 1)"
                .to_owned(),
        ];
        let scalars: Vec<Value> =
            vec![(WAITING_COUNTED + 1).into(), now.plus(-60_000).into(), (MINUTE_COUNTED + 1).into()];
        let rows = self.readers.read(&format!("SELECT {}", counts.join(", ")), scalars).await?;
        let row = rows.first();
        let counted = |column| count(row, column, WAITING_COUNTED);
        let mut provisional = RowCount::default();
        for column in 5..8 {
            let count = counted(column)?;
            provisional.rows += count.rows;
            provisional.is_at_least |= count.is_at_least;
        }
        Ok(Waiting {
            quarantined: counted(0)?,
            deletions: counted(1)?,
            paused: counted(2)?,
            steps: counted(3)?,
            oldest_deletion: row.map_or(Ok(None), |row| row.int(4))?.map(Millis),
            provisional,
            last_minute: count(row, 8, MINUTE_COUNTED)?,
            quarantined_at: row.map_or(Ok(None), |row| row.text(9))?,
        })
    }

    /// What changes whenever there is something new: for whoever looks often.
    pub async fn pulse(&self, since: Millis) -> Result<Pulse> {
        const STATEMENT: &str = "SELECT f.sequence, \
            (SELECT {time received_at} FROM {s}webhook_deliveries ORDER BY received_at DESC LIMIT 1), count(d.attempts), \
            CAST(coalesce(sum(d.attempts), 0) AS bigint) FROM {s}feed f LEFT JOIN \
            (SELECT attempts FROM {s}webhook_deliveries WHERE received_at >= {as-time $1} LIMIT $2) AS d ON true \
            GROUP BY f.sequence";
        let rows = self.readers.read(STATEMENT, vec![since.into(), WAITING_COUNTED.into()]).await?;
        let Some(row) = rows.first() else { return Ok(Pulse::default()) };
        let int = |column| Ok::<i64, crate::Error>(row.int(column)?.unwrap_or_default());
        Ok(Pulse { sequence: int(0)?, newest: row.text(1)?, recent: int(2)?, attempts: int(3)? })
    }
}

impl Writer {
    /// Counts every row of the tables of [`COUNTED`] and writes down what was counted. Returns how many there are in all.
    pub async fn count_rows(&mut self, store: &Store, now: Millis, fence: &Fence) -> Result<i64> {
        const KEEP: &str = "INSERT INTO {s}row_counts (name, row_count, counted_at) VALUES ($1, $2, $3) \
            ON CONFLICT (name) DO UPDATE SET row_count = excluded.row_count, counted_at = excluded.counted_at";
        let mut calls = Vec::with_capacity(COUNTED.len());
        let mut all = 0;
        for name in COUNTED {
            let statement = format!("SELECT count(*) FROM {{s}}{}", table(name));
            let rows = store.readers.read(&statement, vec![]).await?;
            let rows = rows.first().map_or(Ok(None), |row| row.int(0))?.unwrap_or_default();
            calls.push(Call::new(KEEP, vec![name.into(), rows.into(), now.0.into()]));
            all += rows;
        }
        self.run_beside(Some(fence), calls).await?;
        Ok(all)
    }
}

/// The number of rows of a table that meet a condition, at most as many as a parameter says. The condition is that of an index.
fn bounded(table: &str, condition: &str, limit: &str) -> String {
    format!("(SELECT count(*) FROM (SELECT 1 FROM {table} WHERE {condition} LIMIT {limit}) AS t)")
}

fn count(row: Option<&Row>, column: usize, limit: i64) -> Result<RowCount> {
    let rows = row.map_or(Ok(None), |row| row.int(column))?.unwrap_or_default();
    Ok(RowCount { rows: rows.min(limit), is_at_least: rows > limit, counted_at: None })
}

//! Schema migrations: paired files, the same number and name for both engines, applied in order and never changed.

use std::collections::BTreeMap;

use crate::engine::{self, Call, Connection, Dialect, Row, Value};
use crate::error::{Error, Result};
use crate::{Store, Writer, failpoint};
use faircopy_core::Millis;

/// One step of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migration {
    /// Its number, from 1 without gaps.
    pub version: i64,
    /// Its name.
    pub name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

macro_rules! migrations {
    ($($version:literal $name:literal $file:literal),+ $(,)?) => {
        /// Every migration, in order.
        const MIGRATIONS: &[Migration] = &[$(Migration {
            version: $version,
            name: $name,
            sqlite: include_str!(concat!("../migrations/sqlite/", $file)),
            postgres: include_str!(concat!("../migrations/postgres/", $file)),
        }),+];
    };
}

migrations!(
    1 "copy" "0001_copy.sql",
    2 "row_level_security" "0002_row_level_security.sql",
    3 "reading" "0003_reading.sql",
    4 "provisional" "0004_provisional.sql",
    5 "sweeps" "0005_sweeps.sql",
    6 "findings" "0006_findings.sql",
    7 "workspaces" "0007_workspaces.sql",
    8 "cascades" "0008_cascades.sql",
    9 "erasure" "0009_erasure.sql",
    10 "explain" "0010_explain.sql",
    11 "alerts" "0011_alerts.sql",
    12 "dashboard" "0012_dashboard.sql",
    13 "destinations" "0013_destinations.sql",
    14 "room" "0014_room.sql",
    15 "rows_by_number" "0015_rows_by_number.sql",
);

/// Any two processes that migrate at once take turns: the lock ends with the transaction, so poolers can carry it.
const POSTGRES_LOCK: &str = "BEGIN; SELECT pg_advisory_xact_lock(4801923340411205377); \
    CREATE SCHEMA IF NOT EXISTS faircopy";
/// A migration may make a table of SQLite's anew. Without foreign keys, which cannot be switched within a transaction, nothing is removed
/// with the old one; and views and triggers that name it wait for the one that takes its name.
const SQLITE_BEGIN: &str = "PRAGMA foreign_keys = OFF; PRAGMA legacy_alter_table = ON; BEGIN IMMEDIATE";
const SQLITE_END: &str = "PRAGMA legacy_alter_table = OFF; PRAGMA foreign_keys = ON";
/// `{bigint}` and `{strict}`: a strict table of SQLite knows no `bigint`.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS {s}schema_migrations \
    (version {bigint} PRIMARY KEY, name text NOT NULL, applied_at text NOT NULL){strict}";

impl Store {
    /// The migrations that are not applied yet. An empty database lacks all.
    pub async fn pending_migrations(&self) -> Result<Vec<Migration>> {
        if let crate::Address::Sqlite(path) = &self.address
            && !path.exists()
        {
            return Ok(MIGRATIONS.to_vec());
        }
        let table = match self.address {
            crate::Address::Sqlite(_) => "SELECT name FROM sqlite_schema WHERE name = 'schema_migrations'",
            crate::Address::Postgres(_) => "SELECT to_regclass('faircopy.schema_migrations')::text",
        };
        let exists =
            self.readers.read(table, vec![]).await?.first().is_some_and(|row| matches!(row.text(0), Ok(Some(_))));
        if !exists {
            return Ok(MIGRATIONS.to_vec());
        }
        missing(&self.readers.read("SELECT version FROM {s}schema_migrations", vec![]).await?)
    }
}

impl Writer {
    /// Applies what is pending, all in one transaction, and returns what was applied.
    pub async fn migrate(&mut self, now: Millis) -> Result<Vec<Migration>> {
        let connection = self.fresh().await?;
        let applied = engine::complete(connection.dialect(), apply(connection, now)).await;
        if applied.is_err() {
            self.discard();
        }
        applied
    }
}

async fn apply(connection: &mut Connection, now: Millis) -> Result<Vec<Migration>> {
    match connection.dialect() {
        Dialect::Sqlite => connection.script(SQLITE_BEGIN).await?,
        Dialect::Postgres => connection.script(POSTGRES_LOCK).await?,
    }
    connection.run(Call::new(TABLE, vec![])).await?;
    let pending = missing(&connection.run(Call::new("SELECT version FROM {s}schema_migrations", vec![])).await?)?;
    let attached = if pending.is_empty() { BTreeMap::new() } else { attached_by_others(connection).await? };
    for migration in &pending {
        let text = match connection.dialect() {
            Dialect::Sqlite => migration.sqlite,
            Dialect::Postgres => migration.postgres,
        };
        connection.script(text).await?;
        failpoint::step("migration-step");
        let record = "INSERT INTO {s}schema_migrations (version, name, applied_at) VALUES ($1, $2, $3)";
        let row = vec![migration.version.into(), migration.name.into(), Value::from(now)];
        connection.run(Call::new(record, row)).await?;
    }
    if !attached.is_empty() {
        let left = attached_by_others(connection).await?;
        for (_, made) in attached.iter().filter(|(name, _)| !left.contains_key(name.as_str())) {
            connection.script(made).await?;
        }
    }
    connection.finish(vec![]).await?;
    if connection.dialect() == Dialect::Sqlite {
        connection.script(SQLITE_END).await?;
    }
    Ok(pending)
}

/// The indexes and triggers in SQLite's file that are not ours, by name, with the statements that make them. They go with their table
/// when it is made anew.
async fn attached_by_others(connection: &mut Connection) -> Result<BTreeMap<String, String>> {
    const ATTACHED: &str = "SELECT name, sql FROM sqlite_schema WHERE type IN ('index', 'trigger') AND sql IS NOT NULL";
    let mut found = BTreeMap::new();
    if connection.dialect() == Dialect::Sqlite {
        for row in connection.run(Call::new(ATTACHED, vec![])).await? {
            let name = row.required(0)?;
            let ours = [format!(" INDEX {name} "), format!(" TRIGGER {name} ")];
            if !MIGRATIONS.iter().any(|migration| ours.iter().any(|made| migration.sqlite.contains(made))) {
                found.insert(name, row.required(1)?);
            }
        }
    }
    Ok(found)
}

/// Whether a migration makes a table of this name, in lower case; on SQLite they share one schema with the application's.
pub(crate) fn names_table(table: &str) -> bool {
    let makes = |sql: &str| {
        let statements = sql.lines().filter_map(|line| line.trim_start().strip_prefix("CREATE TABLE "));
        let names = statements.map(|rest| rest.strip_prefix("IF NOT EXISTS ").unwrap_or(rest));
        names.filter_map(|rest| rest.split([' ', '(']).next()).any(|name| name == table)
    };
    table == "schema_migrations" || MIGRATIONS.iter().any(|migration| makes(migration.sqlite))
}

fn missing(applied: &[Row]) -> Result<Vec<Migration>> {
    let mut known = Vec::new();
    for row in applied {
        known.push(row.int(0)?.unwrap_or_default());
    }
    if let Some(newer) = known.iter().find(|version| MIGRATIONS.iter().all(|ours| ours.version != **version)) {
        return Err(Error::Schema(format!("migration {newer} was applied by a newer faircopy; run that version")));
    }
    Ok(MIGRATIONS.iter().filter(|ours| !known.contains(&ours.version)).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_of_the_migrations_are_known() {
        for table in ["users", "registers", "leases", "findings", "webhook_deliveries", "schema_migrations"] {
            assert!(names_table(table), "{table}");
        }
        assert!(!names_table("notes") && !names_table("user_profiles"));
    }

    #[test]
    fn numbers_have_no_gaps_and_files_come_in_pairs() {
        for (position, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(usize::try_from(migration.version), Ok(position + 1));
            assert!(!migration.sqlite.is_empty() && !migration.postgres.is_empty());
        }
        let names = |engine: &str| {
            let folder = format!("{}/migrations/{engine}", env!("CARGO_MANIFEST_DIR"));
            let mut names: Vec<_> =
                std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names("sqlite"), names("postgres"));
        assert_eq!(names("sqlite").len(), MIGRATIONS.len());
    }
}

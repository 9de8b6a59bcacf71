//! The one file that knows that there are two databases.
//!
//! A statement is written once. What differs is filled in here: `{s}` is the schema, `{rows}` a table made of
//! [`Rows`], `{text c}` and `{time c}` a JSON or time column as text. Scalars are `$1`, `$2`, …

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use faircopy_core::Millis;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, Row as _, SqliteConnection, SqlitePool};

use crate::error::{Error, Result};

/// How many rows one SQLite statement takes: 64 rows of at most 20 columns stay far below its 32,766 parameters, and
/// bound how many different statements are prepared.
const SQLITE_ROWS: usize = 64;
/// Prepared statements kept per connection: every statement at every row count up to [`SQLITE_ROWS`].
const STATEMENT_CACHE: usize = 1024;
/// How long a SQLite writer waits for another process: well below the 10 s in which a sender must be answered.
const BUSY_TIMEOUT: Duration = Duration::from_secs(4);
/// Connections for reading. Reads are short; the writer has a connection of its own.
const READERS: u32 = 6;
/// How long a read waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long PostgreSQL's connections for reading are kept idle: where connections are few, another replica's writer may
/// be waiting for one.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// SQLite's page cache for the writer, in KiB: hot index pages, within the memory that performance.md allows.
const SQLITE_CACHE_KIB: &str = "-8192";
/// The WAL is cut back to this size after a checkpoint (64 MiB), so that one burst does not keep the disk.
const SQLITE_WAL_LIMIT: &str = "67108864";
/// What every write transaction sets, for itself alone: poolers share connections. The timeouts keep one held lock from
/// holding everyone; the planner is told to use the indexes, because a plan made while a table was empty would be kept.
const POSTGRES_BEGIN: &str = "BEGIN; SELECT \
    set_config('lock_timeout', '1s', true), set_config('statement_timeout', '6s', true), \
    set_config('idle_in_transaction_session_timeout', '10s', true), set_config('synchronous_commit', 'on', true), \
    set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), \
    set_config('enable_mergejoin', 'off', true), set_config('jit', 'off', true), \
    set_config('plan_cache_mode', 'force_generic_plan', true); \
    SELECT sequence FROM faircopy.feed FOR UPDATE";

/// Where the database is, checked for form.
#[derive(Clone)]
pub enum Address {
    /// A file.
    Sqlite(PathBuf),
    /// A server, with its credentials: never shown.
    Postgres(Box<PgConnectOptions>),
}

impl Address {
    /// Reads a `DATABASE_URL`.
    pub fn parse(url: &str) -> Result<Self> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path).split('?').next().unwrap_or_default();
            let file = !path.is_empty() && path != ":memory:";
            return if file { Ok(Self::Sqlite(path.into())) } else { Err(Error::Address("names no file")) };
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let options = PgConnectOptions::from_str(url).map_err(|_| Error::Address("is not a PostgreSQL address"))?;
            let options = options.application_name("faircopy");
            return Ok(Self::Postgres(Box::new(options)));
        }
        Err(Error::Address("has an unknown scheme"))
    }

    /// `sqlite` or `postgres`.
    #[must_use]
    pub fn engine(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }
}

/// The address without credentials.
impl std::fmt::Display for Address {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => write!(out, "sqlite {}", path.display()),
            Self::Postgres(options) => write!(
                out,
                "postgres {}:{}/{}",
                options.get_host(),
                options.get_port(),
                options.get_database().unwrap_or_else(|| options.get_username()),
            ),
        }
    }
}

fn sqlite_options(path: &PathBuf, writer: bool) -> SqliteConnectOptions {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(STATEMENT_CACHE)
        .pragma("temp_store", "memory");
    if !writer {
        return options.read_only(true);
    }
    options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // FULL: a commit is on the disk before it is acknowledged.
        .synchronous(SqliteSynchronous::Full)
        .pragma("cache_size", SQLITE_CACHE_KIB)
        .pragma("journal_size_limit", SQLITE_WAL_LIMIT)
        // What is deleted is overwritten: erasure reaches the file.
        .pragma("secure_delete", "on")
}

/// A connection for writing, owned by one worker: never shared, never returned to a pool with work in flight.
pub(crate) enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Connections for reading: single statements, no transactions.
#[derive(Clone)]
pub(crate) enum Readers {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Readers {
    pub(crate) fn open(address: &Address) -> Self {
        match address {
            Address::Sqlite(path) => {
                let pool = SqlitePoolOptions::new()
                    .max_connections(READERS)
                    .min_connections(0)
                    .acquire_timeout(ACQUIRE_TIMEOUT);
                Self::Sqlite(pool.connect_lazy_with(sqlite_options(path, false)))
            }
            Address::Postgres(options) => {
                let pool = PgPoolOptions::new()
                    .max_connections(READERS)
                    .min_connections(0)
                    .acquire_timeout(ACQUIRE_TIMEOUT)
                    .idle_timeout(IDLE_TIMEOUT);
                Self::Postgres(pool.connect_lazy_with((**options).clone()))
            }
        }
    }

    pub(crate) async fn read(&self, statement: &str, scalars: Vec<Value>) -> Result<Vec<Row>> {
        match self {
            Self::Sqlite(pool) => {
                let query =
                    sqlx::query_with(AssertSqlSafe(Dialect::Sqlite.fill(statement)), sqlite_arguments(scalars)?);
                Ok(query.fetch_all(pool).await?.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(pool) => {
                let query =
                    sqlx::query_with(AssertSqlSafe(Dialect::Postgres.fill(statement)), postgres_arguments(scalars)?);
                Ok(query.fetch_all(pool).await?.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

impl Connection {
    pub(crate) async fn open(address: &Address) -> Result<Self> {
        Ok(match address {
            Address::Sqlite(path) => Self::Sqlite(SqliteConnection::connect_with(&sqlite_options(path, true)).await?),
            Address::Postgres(options) => Self::Postgres(PgConnection::connect_with(options).await?),
        })
    }

    /// Begins a write transaction and takes the pen: the row behind the change feed's numbers. Writers of all replicas
    /// take turns from here to the commit, so rows, registers and numbers are seen and changed by one at a time.
    /// Returns the last number given out.
    pub(crate) async fn begin(&mut self) -> Result<i64> {
        match self {
            Self::Sqlite(connection) => {
                sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut *connection).await?;
                let row = sqlx::query("SELECT sequence FROM feed").fetch_one(connection).await?;
                Ok(row.try_get(0)?)
            }
            Self::Postgres(connection) => {
                let rows = sqlx::raw_sql(POSTGRES_BEGIN).fetch_all(connection).await?;
                let pen = rows.last().ok_or_else(|| Error::Refused("the change feed has no counter".into()))?;
                Ok(pen.try_get(0)?)
            }
        }
    }

    pub(crate) async fn commit(&mut self) -> Result<()> {
        self.script("COMMIT").await
    }

    pub(crate) async fn rollback(&mut self) -> Result<()> {
        self.script("ROLLBACK").await
    }

    /// Runs a text of several statements without parameters.
    pub(crate) async fn script(&mut self, text: &str) -> Result<()> {
        match self {
            Self::Sqlite(connection) => {
                sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(connection).await?;
            }
            Self::Postgres(connection) => {
                sqlx::raw_sql(AssertSqlSafe(text.to_owned())).execute(connection).await?;
            }
        }
        Ok(())
    }

    /// Runs one statement with scalars.
    pub(crate) async fn run(&mut self, statement: &str, scalars: Vec<Value>) -> Result<Vec<Row>> {
        match self {
            Self::Sqlite(connection) => {
                let query =
                    sqlx::query_with(AssertSqlSafe(Dialect::Sqlite.fill(statement)), sqlite_arguments(scalars)?);
                Ok(query.fetch_all(connection).await?.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(connection) => {
                let query =
                    sqlx::query_with(AssertSqlSafe(Dialect::Postgres.fill(statement)), postgres_arguments(scalars)?);
                Ok(query.fetch_all(connection).await?.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Runs one statement over many rows: once on Postgres, whatever the number; in pieces of 64 on SQLite, where a
    /// statement costs no round trip. Nothing happens when there are no rows.
    pub(crate) async fn run_rows(&mut self, statement: &str, rows: Rows<'_>) -> Result<Vec<Row>> {
        if rows.length == 0 {
            return Ok(Vec::new());
        }
        match self {
            Self::Postgres(connection) => {
                let text = Dialect::Postgres.fill(&statement.replace("{rows}", &rows.postgres_table()));
                let query = sqlx::query_with(AssertSqlSafe(text), rows.postgres_arguments()?);
                Ok(query.fetch_all(connection).await?.into_iter().map(Row::Postgres).collect())
            }
            Self::Sqlite(connection) => {
                let mut found = Vec::new();
                for start in (0..rows.length).step_by(SQLITE_ROWS) {
                    let end = rows.length.min(start + SQLITE_ROWS);
                    let text = Dialect::Sqlite.fill(&statement.replace("{rows}", &rows.sqlite_table(end - start)));
                    let query = sqlx::query_with(AssertSqlSafe(text), rows.sqlite_arguments(start..end)?);
                    let piece = query.fetch_all(&mut *connection).await?;
                    found.extend(piece.into_iter().map(Row::Sqlite));
                }
                Ok(found)
            }
        }
    }

    pub(crate) fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
        }
    }
}

/// Which words to fill in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// Fills in the words of [`Dialect::word`].
    fn fill(self, statement: &str) -> String {
        let mut out = String::with_capacity(statement.len() + 64);
        let mut rest = statement;
        while let Some((before, after)) = rest.split_once('{') {
            out.push_str(before);
            let (word, after) = after.split_once('}').unwrap_or((after, ""));
            out.push_str(&self.word(word));
            rest = after;
        }
        out.push_str(rest);
        out
    }

    fn word(self, word: &str) -> Cow<'_, str> {
        let (name, column) = word.split_once(' ').unwrap_or((word, ""));
        match (self, name) {
            (Self::Postgres, "s") => Cow::Borrowed("faircopy."),
            (Self::Postgres, "text") => format!("{column}::text").into(),
            (Self::Postgres, "time") => {
                format!(r#"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"#).into()
            }
            // Parameters come as text; a comparison with a time column wants a time.
            (Self::Postgres, "as-time") => format!("({column})::timestamptz").into(),
            // The order of bytes, which is the same everywhere: a database's own may be that of a language.
            (Self::Postgres, "bytes") => format!("{column} COLLATE \"C\"").into(),
            (Self::Postgres, "bigint") => Cow::Borrowed("bigint"),
            (Self::Sqlite, "bigint") => Cow::Borrowed("integer"),
            (Self::Sqlite, "strict") => Cow::Borrowed(" STRICT"),
            (Self::Sqlite, "text" | "time" | "as-time" | "bytes") => Cow::Owned(column.to_owned()),
            _ => Cow::Borrowed(""),
        }
    }
}

/// One parameter.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(Option<String>),
    Int(Option<i64>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Int(Some(number))
    }
}

impl From<Millis> for Value {
    fn from(at: Millis) -> Self {
        Self::Text(Some(at.to_string()))
    }
}

macro_rules! arguments {
    ($name:ident, $arguments:ty) => {
        fn $name(scalars: Vec<Value>) -> Result<$arguments> {
            use sqlx::Arguments as _;
            let mut arguments = <$arguments>::default();
            for scalar in scalars {
                let added = match scalar {
                    Value::Text(text) => arguments.add(text),
                    Value::Int(number) => arguments.add(number),
                };
                added.map_err(|error| Error::Refused(error.to_string()))?;
            }
            Ok(arguments)
        }
    };
}
arguments!(sqlite_arguments, SqliteArguments);
arguments!(postgres_arguments, PgArguments);

/// One column of many rows.
#[derive(Debug, Clone)]
pub(crate) enum Column<'a> {
    Text(Vec<Option<Cow<'a, str>>>),
    Json(Vec<Option<Cow<'a, str>>>),
    Int(Vec<Option<i64>>),
    Bool(Vec<Option<bool>>),
    Time(Vec<Option<Millis>>),
}

/// Many rows as one parameter each column: what `{rows}` stands for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rows<'a> {
    length: usize,
    columns: Vec<(&'static str, Column<'a>)>,
}

impl<'a> Rows<'a> {
    pub(crate) fn new(length: usize) -> Self {
        Self { length, columns: Vec::new() }
    }

    /// Adds a column; its values are taken in row order.
    pub(crate) fn text<T: Into<Cow<'a, str>>>(
        self,
        name: &'static str,
        values: impl Iterator<Item = Option<T>>,
    ) -> Self {
        self.with(name, Column::Text(values.map(|value| value.map(Into::into)).collect()))
    }

    pub(crate) fn json<T: Into<Cow<'a, str>>>(
        self,
        name: &'static str,
        values: impl Iterator<Item = Option<T>>,
    ) -> Self {
        self.with(name, Column::Json(values.map(|value| value.map(Into::into)).collect()))
    }

    pub(crate) fn int(self, name: &'static str, values: impl Iterator<Item = Option<i64>>) -> Self {
        self.with(name, Column::Int(values.collect()))
    }

    pub(crate) fn bool(self, name: &'static str, values: impl Iterator<Item = Option<bool>>) -> Self {
        self.with(name, Column::Bool(values.collect()))
    }

    pub(crate) fn time(self, name: &'static str, values: impl Iterator<Item = Option<Millis>>) -> Self {
        self.with(name, Column::Time(values.collect()))
    }

    fn with(mut self, name: &'static str, column: Column<'a>) -> Self {
        self.columns.push((name, column));
        self
    }

    fn postgres_table(&self) -> String {
        let (mut shown, mut arrays, mut names) = (String::new(), String::new(), String::new());
        for (position, (name, column)) in self.columns.iter().enumerate() {
            let (array, show) = match column {
                Column::Text(_) => ("text", Cow::Borrowed(*name)),
                Column::Json(_) => ("text", format!("{name}::jsonb AS {name}").into()),
                Column::Int(_) => ("bigint", Cow::Borrowed(*name)),
                Column::Bool(_) => ("boolean", Cow::Borrowed(*name)),
                Column::Time(_) => {
                    ("bigint", format!("'epoch'::timestamptz + {name} * interval '1 millisecond' AS {name}").into())
                }
            };
            let comma = if position == 0 { "" } else { ", " };
            let _ = write!(shown, "{comma}{show}");
            let _ = write!(arrays, "{comma}${}::{array}[]", position + 1);
            let _ = write!(names, "{comma}{name}");
        }
        format!("(SELECT {shown} FROM unnest({arrays}) AS given ({names}))")
    }

    fn postgres_arguments(self) -> Result<PgArguments> {
        use sqlx::Arguments as _;
        let mut arguments = PgArguments::default();
        for (_, column) in self.columns {
            let added = match column {
                Column::Text(values) | Column::Json(values) => {
                    arguments.add(values.iter().map(Option::as_deref).collect::<Vec<Option<&str>>>())
                }
                Column::Int(values) => arguments.add(values),
                Column::Bool(values) => arguments.add(values),
                Column::Time(values) => {
                    arguments.add(values.into_iter().map(|at| at.map(|at| at.0)).collect::<Vec<Option<i64>>>())
                }
            };
            added.map_err(|error| Error::Refused(error.to_string()))?;
        }
        Ok(arguments)
    }

    fn sqlite_table(&self, count: usize) -> String {
        let mut text = String::from("(SELECT ");
        for (position, (name, _)) in self.columns.iter().enumerate() {
            let comma = if position == 0 { "" } else { ", " };
            let _ = write!(text, "{comma}column{} AS {name}", position + 1);
        }
        text.push_str(" FROM (VALUES ");
        let row = format!("({})", vec!["?"; self.columns.len()].join(","));
        for at in 0..count {
            if at > 0 {
                text.push(',');
            }
            text.push_str(&row);
        }
        text.push_str("))");
        text
    }

    fn sqlite_arguments(&self, range: std::ops::Range<usize>) -> Result<SqliteArguments> {
        use sqlx::Arguments as _;
        let mut arguments = SqliteArguments::default();
        for at in range {
            for (_, column) in &self.columns {
                let added = match column {
                    Column::Text(values) | Column::Json(values) => arguments.add(values[at].as_deref()),
                    Column::Int(values) => arguments.add(values[at]),
                    Column::Bool(values) => arguments.add(values[at]),
                    Column::Time(values) => arguments.add(values[at].map(|at| at.to_string())),
                };
                added.map_err(|error| Error::Refused(error.to_string()))?;
            }
        }
        Ok(arguments)
    }
}

/// One row of an answer. Columns are read by their place in the statement.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    pub(crate) fn text(&self, column: usize) -> Result<Option<String>> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }

    pub(crate) fn int(&self, column: usize) -> Result<Option<i64>> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }

    pub(crate) fn bool(&self, column: usize) -> Result<Option<bool>> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }

    /// A text that is never null in the tables.
    pub(crate) fn required(&self, column: usize) -> Result<String> {
        Ok(self.text(column)?.unwrap_or_default())
    }
}

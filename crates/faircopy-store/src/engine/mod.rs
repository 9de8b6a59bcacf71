//! The one module that knows that there are two databases.
//!
//! A statement is written once; [`text`] fills in what differs. Statements that do not need one another's answers are
//! handed over together, as a list of [`Call`]s: on PostgreSQL they share one round trip, on SQLite they run in turn.
//! Nothing waits on SQLite, so a future made of its calls is ready at its first poll: see [`complete`].

mod postgres;
mod sqlite;
mod text;
mod tls;

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::Notify;

use crate::error::{Error, Result};

pub(crate) use postgres::{Attempt, Hearing};
use text::Given;
pub(crate) use text::{Call, Dialect, Returning, Rows, Value};

/// Where the database is, checked for form.
#[derive(Clone)]
pub enum Address {
    /// A file.
    Sqlite(PathBuf),
    /// A server, with its credentials: never shown.
    Postgres(Box<PostgresAddress>),
}

/// A PostgreSQL server and how to talk to it.
#[derive(Clone)]
pub struct PostgresAddress(postgres::Target);

impl Address {
    /// Reads a `DATABASE_URL`.
    pub fn parse(url: &str) -> Result<Self> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path).split('?').next().unwrap_or_default();
            let file = !path.is_empty() && path != ":memory:";
            return if file { Ok(Self::Sqlite(path.into())) } else { Err(Error::Address("names no file")) };
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self::Postgres(Box::new(PostgresAddress(postgres::Target::parse(url)?))));
        }
        Err(Error::Address("has an unknown scheme"))
    }

    /// A connection that hears what other replicas announce. `None` where that cannot be: on SQLite, and behind a pooler that gives
    /// each transaction another connection.
    pub(crate) async fn hear(&self, heard: Arc<Notify>) -> Result<Option<Hearing>> {
        match self {
            Self::Postgres(address) if address.0.keeps_statements() => {
                Hearing::begin(&address.0, heard).await.map(Some)
            }
            Self::Postgres(_) | Self::Sqlite(_) => Ok(None),
        }
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
            Self::Postgres(address) => write!(out, "postgres {}", address.0),
        }
    }
}

/// Like the address is shown: without credentials.
impl std::fmt::Debug for Address {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, out)
    }
}

/// A connection for writing, owned by one worker: never shared, never returned to a pool with work in flight.
pub(crate) enum Connection {
    Sqlite(sqlite::Writer),
    Postgres(postgres::Client),
}

impl Connection {
    pub(crate) async fn open(address: &Address) -> Result<Self> {
        Ok(match address {
            Address::Sqlite(path) => Self::Sqlite(blocking(|| sqlite::Writer::open(path))?),
            Address::Postgres(address) => Self::Postgres(postgres::Client::connect(&address.0).await?),
        })
    }

    /// Begins a write transaction and takes the pen: the row behind the change feed's numbers. Writers of all replicas
    /// take turns from there to the commit, so rows, registers and numbers are seen and changed by one at a time. Calls
    /// `before_pen` may run while another writer has it: what they lock must be locked in one order by all.
    pub(crate) async fn begin(&mut self, before_pen: Vec<Call<'_>>, under_pen: Vec<Call<'_>>) -> Result<Begun> {
        match self {
            Self::Sqlite(connection) => connection.begin(&before_pen, &under_pen),
            Self::Postgres(client) => client.begin(&before_pen, &under_pen).await,
        }
    }

    /// Begins a write transaction without the pen: for what is no row of the copy and no entry of the change feed. SQLite has
    /// one writer at a time all the same.
    pub(crate) async fn begin_beside_pen(&mut self, calls: Vec<Call<'_>>) -> Result<Vec<Vec<Row>>> {
        match self {
            Self::Sqlite(connection) => connection.begin_beside_pen(&calls),
            Self::Postgres(client) => client.begin_beside_pen(&calls).await,
        }
    }

    /// The commit to come need not be on the disk when it returns: for work that is simply done again if a crash takes it back.
    /// Whatever is committed after it takes it along. (SQLite can promise that only for a whole connection.)
    pub(crate) async fn commit_lazily(&mut self) -> Result<()> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(client) => client.commit_lazily().await,
        }
    }

    /// Runs statements that do not need one another's answers, in their order. A call over no rows is answered without
    /// being run. The first failure is returned, and the transaction is then lost.
    pub(crate) async fn run_all(&mut self, calls: Vec<Call<'_>>) -> Result<Vec<Vec<Row>>> {
        match self {
            Self::Sqlite(connection) => connection.run_all(&calls),
            Self::Postgres(client) => client.run_all(&calls).await,
        }
    }

    /// Runs one statement.
    pub(crate) async fn run(&mut self, call: Call<'_>) -> Result<Vec<Row>> {
        Ok(self.run_all(vec![call]).await?.pop().unwrap_or_default())
    }

    /// Runs the last statements of a transaction and commits it.
    pub(crate) async fn finish(&mut self, calls: Vec<Call<'_>>) -> Result<()> {
        match self {
            Self::Sqlite(connection) => connection.finish(&calls),
            Self::Postgres(client) => client.finish(&calls).await,
        }
        .map(drop)
    }

    /// Whether the last statements can read what those before them return, as `part_0`, `part_1`, … Where they cannot, nothing
    /// is gained by it: statements cost no round trip there.
    pub(crate) fn has_parts(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    /// [`finish`](Self::finish), and then [`begin`](Self::begin) with what `next` gives, if anything. On PostgreSQL `next` is
    /// asked while the commit runs, and begun without waiting for it; the next transaction is lost when this one is.
    /// `committed` is called as soon as this one is durable, whatever becomes of the next, with what the last statement found.
    /// With `announce`, the commit tells other replicas that the change feed has gone on; nobody but this process writes to SQLite.
    pub(crate) async fn finish_and_begin<O: Opening>(
        &mut self,
        calls: Vec<Call<'_>>,
        announce: bool,
        committed: impl FnOnce(Vec<Row>),
        next: impl FnOnce() -> Option<O>,
    ) -> Result<Option<(O, Begun)>> {
        match self {
            Self::Sqlite(connection) => {
                committed(connection.finish(&calls)?);
                let Some(next) = next() else { return Ok(None) };
                let begun = connection.begin(&next.before_pen(), &next.under_pen())?;
                Ok(Some((next, begun)))
            }
            Self::Postgres(client) => client.finish_and_begin(&calls, announce, committed, next).await,
        }
    }

    pub(crate) async fn rollback(&mut self) -> Result<()> {
        self.script("ROLLBACK").await
    }

    /// Writes SQLite's log into the database and empties it, so that nothing that was removed is left in it. `false` while somebody reads
    /// what is in it. PostgreSQL recycles its own.
    pub(crate) fn empty_log(&mut self) -> Result<bool> {
        match self {
            Self::Sqlite(connection) => connection.empty_log(),
            Self::Postgres(_) => Ok(true),
        }
    }

    /// Writes SQLite's whole file anew, by way of another one in its folder. PostgreSQL does so table by table.
    pub(crate) fn rewrite_file(&mut self) -> Result<()> {
        match self {
            Self::Sqlite(connection) => connection.rewrite(),
            Self::Postgres(_) => Ok(()),
        }
    }

    /// Runs a text of several statements without parameters.
    pub(crate) async fn script(&mut self, text: &str) -> Result<()> {
        match self {
            Self::Sqlite(connection) => connection.script(text),
            Self::Postgres(client) => client.script(text).await,
        }
    }

    /// Runs one statement inside a transaction of PostgreSQL's and undoes what it did. A refusal is an answer, after which
    /// the transaction goes on.
    pub(crate) async fn attempt(&mut self, statement: &str, scalars: Vec<Value>) -> Result<Attempt> {
        match self {
            Self::Sqlite(_) => Err(Error::Refused("SQLite has no roles".into())),
            Self::Postgres(client) => client.attempt(statement, scalars).await,
        }
    }

    pub(crate) fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
        }
    }
}

/// What a transaction begins with: see [`Connection::begin`].
pub(crate) trait Opening {
    fn before_pen(&self) -> Vec<Call<'_>>;
    fn under_pen(&self) -> Vec<Call<'_>>;
}

/// What the first calls of a transaction found.
pub(crate) struct Begun {
    /// The last number of the change feed that was given out.
    pub(crate) last: i64,
    pub(crate) before_pen: Vec<Vec<Row>>,
    pub(crate) under_pen: Vec<Vec<Row>>,
}

/// Connections for reading: single statements, no transactions. Cheap to clone.
#[derive(Clone)]
pub(crate) enum Readers {
    Sqlite(sqlite::Readers),
    Postgres(postgres::Readers),
}

impl Readers {
    pub(crate) fn open(address: &Address) -> Self {
        match address {
            Address::Sqlite(path) => Self::Sqlite(sqlite::Readers::new(path.clone())),
            Address::Postgres(address) => Self::Postgres(postgres::Readers::new(&address.0)),
        }
    }

    pub(crate) async fn read(&self, statement: &str, scalars: Vec<Value>) -> Result<Vec<Row>> {
        let given = Given::Scalars(scalars);
        match self {
            Self::Sqlite(readers) => readers.read(Dialect::Sqlite.fill(statement), given).await,
            Self::Postgres(readers) => readers.read(&Dialect::Postgres.fill(statement), &given).await,
        }
    }

    /// Reads over many rows, as [`Call::over`] says. On SQLite each row is answered by a snapshot of its own.
    pub(crate) async fn read_over(&self, statement: &str, rows: Rows<'static>) -> Result<Vec<Row>> {
        let given = Given::Rows(rows);
        match self {
            Self::Sqlite(readers) => readers.read(given.text(statement, Dialect::Sqlite), given).await,
            Self::Postgres(readers) => readers.read_over(&given.text(statement, Dialect::Postgres), &given).await,
        }
    }

    /// Reads with no more rights than `role` has, under the policies that the claims meet. SQLite has neither.
    pub(crate) async fn read_as(
        &self,
        role: &str,
        claims: &str,
        statement: &str,
        scalars: Vec<Value>,
    ) -> Result<Vec<Row>> {
        match self {
            Self::Sqlite(_) => self.read(statement, scalars).await,
            Self::Postgres(readers) => readers.read_as(role, claims, statement, scalars).await,
        }
    }

    /// Tells the other replicas that the change feed has gone on. SQLite has one process that writes.
    pub(crate) async fn announce(&self) -> Result<()> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(readers) => readers.announce().await,
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(readers) => readers.close(),
            Self::Postgres(readers) => readers.close(),
        }
    }
}

/// Runs work made of a connection's calls. SQLite's block the thread, for as long as a disk takes to sync: the runtime is
/// told once for all of them.
pub(crate) async fn complete<T>(dialect: Dialect, work: impl Future<Output = Result<T>>) -> Result<T> {
    match dialect {
        Dialect::Postgres => work.await,
        Dialect::Sqlite => blocking(|| work.now_or_never())
            .unwrap_or_else(|| Err(Error::Refused("a call on SQLite waited; this is a bug".into()))),
    }
}

/// Work that blocks its thread. A runtime of many threads is told, and goes on elsewhere.
fn blocking<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// One row of an answer. Columns are read by their place in the statement.
pub(crate) enum Row {
    Sqlite(Vec<rusqlite::types::Value>),
    Postgres(tokio_postgres::Row),
}

impl Row {
    pub(crate) fn text(&self, column: usize) -> Result<Option<String>> {
        use rusqlite::types::Value;
        match self {
            Self::Sqlite(values) => match values.get(column) {
                Some(Value::Text(text)) => Ok(Some(text.clone())),
                Some(Value::Null) => Ok(None),
                other => Err(unexpected("a text", other)),
            },
            Self::Postgres(row) => Ok(row.try_get(column)?),
        }
    }

    pub(crate) fn int(&self, column: usize) -> Result<Option<i64>> {
        use rusqlite::types::Value;
        match self {
            Self::Sqlite(values) => match values.get(column) {
                Some(Value::Integer(number)) => Ok(Some(*number)),
                Some(Value::Null) => Ok(None),
                other => Err(unexpected("a whole number", other)),
            },
            Self::Postgres(row) => Ok(row.try_get(column)?),
        }
    }

    pub(crate) fn bool(&self, column: usize) -> Result<Option<bool>> {
        match self {
            Self::Sqlite(_) => Ok(self.int(column)?.map(|number| number != 0)),
            Self::Postgres(row) => Ok(row.try_get(column)?),
        }
    }

    /// A text that is never null in the tables.
    pub(crate) fn required(&self, column: usize) -> Result<String> {
        Ok(self.text(column)?.unwrap_or_default())
    }
}

fn unexpected(wanted: &str, found: Option<&rusqlite::types::Value>) -> Error {
    let found = found.map_or("no such column".to_owned(), |value| value.data_type().to_string());
    Error::Refused(format!("expected {wanted}, found {found}"))
}

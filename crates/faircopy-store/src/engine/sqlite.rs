//! SQLite, called directly. Every function here blocks.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use faircopy_core::Millis;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, MAIN_DB, OpenFlags, Statement};
use tokio::sync::Semaphore;

use super::text::{Call, Column, Dialect, Given, Value};
use super::{Begun, Row};
use crate::error::{Error, Result};

/// Prepared statements kept per connection: more than the store has.
const STATEMENT_CACHE: usize = 128;
/// How long a writer waits for another process: well below the 10 s in which a sender must be answered.
const BUSY_TIMEOUT: Duration = Duration::from_secs(4);
/// How long the log waits for whoever uses it before it is emptied. Nobody else writes meanwhile, so it is no longer than a batch may take.
const EMPTYING_TIMEOUT: Duration = Duration::from_millis(250);
/// Connections for reading. Reads are short; the writer has a connection of its own.
const READERS: usize = 6;
/// How long a read waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// What every connection for writing sets. The journal before `synchronous`: FULL, so that a commit is on the disk before
/// it is acknowledged. 8 MiB of page cache for hot index pages; the log is cut back to 64 MiB after a checkpoint, so that
/// one burst does not keep the disk; a checkpoint every 16 MiB instead of 4 writes pages that many commits touch once; what is
/// deleted is overwritten, so that erasure reaches the file.
const WRITER_SETTINGS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA temp_store = memory; \
    PRAGMA cache_size = -8192; PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864; PRAGMA secure_delete = ON; PRAGMA foreign_keys = ON";

/// The connection for writing.
pub(crate) struct Writer {
    connection: Connection,
    /// What each statement of the store is in SQLite's words.
    texts: HashMap<String, Arc<Text>>,
}

/// A statement, and the one that reads what it wrote, if that is wanted, with how many keys a row is found by.
struct Text {
    statement: String,
    reading: Option<(String, usize)>,
}

impl Writer {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        make_private(path);
        let connection = open(path, flags)?;
        // SQLite falls back to reading only, and then even begins what should be for writing.
        if connection.is_readonly(MAIN_DB)? {
            return Err(Error::Unavailable("attempt to write a readonly database".into()));
        }
        connection.execute_batch(WRITER_SETTINGS)?;
        Ok(Self { connection, texts: HashMap::new() })
    }

    pub(super) fn begin(&mut self, before_pen: &[Call<'_>], under_pen: &[Call<'_>]) -> Result<Begun> {
        self.script("BEGIN IMMEDIATE")?;
        let before_pen = self.run_all(before_pen)?;
        let last = self.run(&Call::new("SELECT sequence FROM feed", vec![]))?;
        let last = last.first().map_or(Ok(None), |row| row.int(0))?.unwrap_or_default();
        Ok(Begun { last, before_pen, under_pen: self.run_all(under_pen)? })
    }

    pub(super) fn begin_beside_pen(&mut self, calls: &[Call<'_>]) -> Result<Vec<Vec<Row>>> {
        self.script("BEGIN IMMEDIATE")?;
        self.run_all(calls)
    }

    pub(super) fn finish(&mut self, calls: &[Call<'_>]) -> Result<Vec<Row>> {
        let found = self.run_all(calls)?.pop().unwrap_or_default();
        self.script("COMMIT")?;
        Ok(found)
    }

    pub(super) fn run_all(&mut self, calls: &[Call<'_>]) -> Result<Vec<Vec<Row>>> {
        calls.iter().map(|call| self.run(call)).collect()
    }

    pub(super) fn run(&mut self, call: &Call<'_>) -> Result<Vec<Row>> {
        if call.is_empty() {
            return Ok(Vec::new());
        }
        let text = match self.texts.get(call.statement) {
            Some(text) => text.clone(),
            None => {
                let reading = call.returning.map(|returning| (returning.reading(), returning.keys.len()));
                let text = Arc::new(Text { statement: call.text(Dialect::Sqlite), reading });
                self.texts.insert(call.statement.to_owned(), text.clone());
                text
            }
        };
        let mut statement = self.connection.prepare_cached(&text.statement)?;
        let mut found = Vec::new();
        match (&text.reading, &call.given) {
            (Some((reading, keys)), Given::Rows(rows)) => {
                let mut reading = self.connection.prepare_cached(reading)?;
                for at in 0..rows.length {
                    bind_row(&mut statement, &rows.columns, at)?;
                    if statement.raw_execute()? > 0 {
                        bind_row(&mut reading, &rows.columns[..*keys], at)?;
                        collect(&mut reading, &mut found)?;
                    }
                }
            }
            (_, given) => run(&mut statement, given, &mut found)?,
        }
        Ok(found)
    }

    /// Writes the whole file anew. The new one is made beside the old one first: where temporary tables are kept, in memory, it
    /// could take more than there is.
    pub(super) fn rewrite(&self) -> Result<()> {
        let folder = self.connection.path().and_then(|path| Path::new(path).parent());
        let folder = folder.and_then(Path::to_str).unwrap_or_default().replace('\'', "''");
        self.script(&format!("PRAGMA temp_store_directory = '{folder}'; PRAGMA temp_store = file"))?;
        let rewritten = self.script("VACUUM");
        self.script("PRAGMA temp_store = memory")?;
        rewritten
    }

    /// Writes the log into the database and empties it; `false` while somebody reads what is in it.
    pub(super) fn empty_log(&mut self) -> Result<bool> {
        self.connection.busy_timeout(EMPTYING_TIMEOUT)?;
        let answer = self.run(&Call::new("PRAGMA wal_checkpoint(TRUNCATE)", vec![]));
        self.connection.busy_timeout(BUSY_TIMEOUT)?;
        Ok(answer?.first().map_or(Ok(None), |row| row.int(0))? == Some(0))
    }

    pub(super) fn script(&self, text: &str) -> Result<()> {
        Ok(self.connection.execute_batch(text)?)
    }
}

/// The connections for reading, opened when they are needed.
#[derive(Clone)]
pub(crate) struct Readers(Arc<Pool>);

struct Pool {
    path: PathBuf,
    turns: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(Arc::new(Pool { path, turns: Arc::new(Semaphore::new(READERS)), idle: Mutex::new(Vec::new()) }))
    }

    pub(super) async fn read(&self, text: String, given: Given<'static>) -> Result<Vec<Row>> {
        let busy = |_| Error::Unavailable("all connections for reading are in use".into());
        let turn = tokio::time::timeout(ACQUIRE_TIMEOUT, self.0.turns.clone().acquire_owned()).await.map_err(busy)?;
        let turn = turn.map_err(|_| Error::Unavailable("the store is closed".into()))?;
        let pool = self.0.clone();
        // A read goes on when nobody waits for it any more, and so does its turn.
        let read = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            pool.read(&text, &given)
        });
        read.await.map_err(|_| Error::Refused("a panic while reading; this is a bug".into()))?
    }

    pub(super) fn close(&self) {
        self.0.turns.close();
        self.0.idle().clear();
    }
}

impl Pool {
    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, text: &str, given: &Given<'_>) -> Result<Vec<Row>> {
        let connection = match self.idle().pop() {
            Some(connection) => connection,
            None => open(&self.path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?,
        };
        let mut found = Vec::new();
        {
            let mut statement = connection.prepare_cached(text)?;
            run(&mut statement, given, &mut found)?;
        }
        // A connection whose read failed is not kept.
        if !self.turns.is_closed() {
            self.idle().push(connection);
        }
        Ok(found)
    }
}

/// Makes the file for its owner alone, where there is none: it holds people's data, and SQLite would let everybody read it. What goes
/// wrong is SQLite's to say.
fn make_private(path: &Path) {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    drop(options.open(path));
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
    Ok(connection)
}

/// Runs a statement once, or once a row.
fn run(statement: &mut Statement<'_>, given: &Given<'_>, found: &mut Vec<Row>) -> Result<()> {
    match given {
        Given::Scalars(scalars) => {
            bind_scalars(statement, scalars)?;
            collect(statement, found)
        }
        Given::Rows(rows) => (0..rows.length).try_for_each(|at| {
            bind_row(statement, &rows.columns, at)?;
            collect(statement, found)
        }),
    }
}

/// To SQLite `$2` is a name, and its place is where it stands first.
fn bind_scalars(statement: &mut Statement<'_>, scalars: &[Value]) -> Result<()> {
    for (at, scalar) in scalars.iter().enumerate() {
        let place = statement.parameter_index(&format!("${}", at + 1))?;
        let place = place.ok_or_else(|| Error::Refused("a statement lacks a parameter; this is a bug".into()))?;
        match scalar {
            Value::Text(text) => statement.raw_bind_parameter(place, text)?,
            Value::Int(number) => statement.raw_bind_parameter(place, number)?,
        }
    }
    Ok(())
}

fn bind_row(statement: &mut Statement<'_>, columns: &[(&str, Column<'_>)], at: usize) -> Result<()> {
    for (position, (_, column)) in columns.iter().enumerate() {
        let parameter = position + 1;
        match column {
            Column::Text(values) | Column::Json(values) => {
                let text = values[at].as_deref().map_or(ValueRef::Null, |text| ValueRef::Text(text.as_bytes()));
                statement.raw_bind_parameter(parameter, ToSqlOutput::Borrowed(text))?;
            }
            Column::Int(values) => statement.raw_bind_parameter(parameter, values[at])?,
            Column::Bool(values) => statement.raw_bind_parameter(parameter, values[at])?,
            Column::Time(values) => {
                statement.raw_bind_parameter(parameter, values[at].map(|at| Millis(at.0).to_string()))?;
            }
        }
    }
    Ok(())
}

fn collect(statement: &mut Statement<'_>, found: &mut Vec<Row>) -> Result<()> {
    let columns = statement.column_count();
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        found.push(Row::Sqlite((0..columns).map(|at| row.get(at)).collect::<rusqlite::Result<_>>()?));
    }
    Ok(())
}

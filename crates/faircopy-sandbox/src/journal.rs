//! The file that everything is in: JSON lines, each a change with all its consequences.
//!
//! A line is written before the change is answered, so a kill loses nothing that was answered; what a crash of the machine
//! may lose is what came within the last second. A last line that was cut off is one change that nobody was told of. At
//! each start the file is written anew: one line for each of many rows, and none for what is gone.

use std::fs::{File, TryLockError};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::chaos::Chaos;
use crate::instance::{Dice, Instance, Put, Remainder};
use crate::keys::Written;
use crate::limit::RateLimit;
use crate::liveblocks::{RoomChange, Rooms};
use crate::post::{Post, Record};

/// The form of the file.
const FORM: u32 = 1;
/// Rows in one line of a file that was written anew.
const ROWS_IN_A_LINE: usize = 100;
/// How often what was written is made sure to be on the disk.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Why a file cannot be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// It cannot be read or written.
    #[error("cannot use {0}: {1}")]
    File(PathBuf, std::io::Error),
    /// Another sandbox has it.
    #[error("{0} is in use by another sandbox")]
    InUse(PathBuf),
    /// A line is not what it should be.
    #[error("line {line} of {path} is not the sandbox's: {error}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number, from 1.
        line: usize,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// The file does not begin as it should.
    #[error("{0} is no file of a sandbox, or of another version")]
    Strange(PathBuf),
}

/// What is neither a row nor a message.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rest {
    pub(crate) instance: Remainder,
    pub(crate) chaos: Chaos,
    pub(crate) rate_limit: RateLimit,
    pub(crate) traces: Dice,
}

impl Rest {
    /// Whether anything changed that is worth a line. How often chaos was asked, and traces, are not.
    fn differs(&self, other: &Self) -> bool {
        self.instance != other.instance
            || self.chaos.settings() != other.chaos.settings()
            || self.rate_limit != other.rate_limit
    }
}

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    faircopy_sandbox: u32,
    keys: Written,
}

/// Any other line.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Line {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rows: Vec<Put>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    post: Vec<Record>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rooms: Vec<RoomChange>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rest: Option<Rest>,
}

/// What a file holds.
pub(crate) struct Kept {
    pub(crate) keys: Written,
    rows: Vec<Put>,
    post: Vec<Record>,
    rooms: Vec<RoomChange>,
    pub(crate) rest: Option<Rest>,
}

impl Kept {
    /// The rooms that it holds.
    pub(crate) fn take_rooms(&mut self) -> Rooms {
        let mut rooms = Rooms::default();
        self.rooms.drain(..).for_each(|change| rooms.apply(change));
        rooms
    }

    /// Puts everything back.
    pub(crate) fn restore(self, instance: &mut Instance, post: &mut Post) {
        for put in &self.rows {
            instance.apply(put);
        }
        if let Some(rest) = self.rest {
            instance.set_remainder(rest.instance);
        }
        post.apply(self.post);
        // It is all in the file already.
        instance.forget_touched();
    }
}

/// An open file.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    rest: Rest,
    unsynced: Arc<AtomicBool>,
    /// A line that was not written whole must be the last.
    broken: bool,
}

/// Makes sure, now and then, that what was written is on the disk.
#[derive(Debug)]
pub(crate) struct Syncing {
    file: File,
    unsynced: Arc<AtomicBool>,
}

fn cannot(path: &Path) -> impl Fn(std::io::Error) -> JournalError + '_ {
    |error| JournalError::File(path.to_owned(), error)
}

/// Reads a file, if there is one that holds something.
pub(crate) fn read(path: &Path) -> Result<Option<Kept>, JournalError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(cannot(path)(error)),
    };
    lock(&file, path)?;
    let mut reader = BufReader::new(file);
    let mut text = String::new();
    if reader.read_line(&mut text).map_err(cannot(path))? == 0 {
        return Ok(None);
    }
    let head: Head = serde_json::from_str(&text).map_err(|_| JournalError::Strange(path.to_owned()))?;
    if head.faircopy_sandbox != FORM {
        return Err(JournalError::Strange(path.to_owned()));
    }
    let mut kept = Kept { keys: head.keys, rows: Vec::new(), post: Vec::new(), rooms: Vec::new(), rest: None };
    for number in 2.. {
        let mut bytes = Vec::new();
        if reader.read_until(b'\n', &mut bytes).map_err(cannot(path))? == 0 {
            break;
        }
        match serde_json::from_slice::<Line>(&bytes) {
            Ok(line) => {
                kept.rows.extend(line.rows);
                kept.post.extend(line.post);
                kept.rooms.extend(line.rooms);
                kept.rest = line.rest.or(kept.rest);
            }
            // The line that a kill cut off.
            Err(_) if bytes.last() != Some(&b'\n') => break,
            Err(error) => return Err(JournalError::Line { path: path.to_owned(), line: number, error }),
        }
    }
    Ok(Some(kept))
}

fn lock(file: &File, path: &Path) -> Result<(), JournalError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(JournalError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(cannot(path)(error)),
    }
}

impl Journal {
    /// Writes the file anew, and goes on with it.
    pub(crate) fn begin(
        path: &Path,
        keys: Written,
        (instance, post, rooms): (&Instance, &Post, &Rooms),
        rest: Rest,
    ) -> Result<Self, JournalError> {
        let new = path.with_extension("new");
        let file = File::create(&new).map_err(cannot(&new))?;
        lock(&file, path)?;
        let mut out = BufWriter::new(file);
        let write = || -> std::io::Result<()> {
            line(&mut out, &Head { faircopy_sandbox: FORM, keys })?;
            let mut rows = instance.puts().peekable();
            while rows.peek().is_some() {
                line(&mut out, &Line { rows: rows.by_ref().take(ROWS_IN_A_LINE).collect(), ..Line::default() })?;
            }
            for record in post.records() {
                line(&mut out, &Line { post: vec![record], ..Line::default() })?;
            }
            let mut rooms = rooms.as_changes().peekable();
            while rooms.peek().is_some() {
                line(&mut out, &Line { rooms: rooms.by_ref().take(ROWS_IN_A_LINE).collect(), ..Line::default() })?;
            }
            line(&mut out, &Line { rest: Some(rest.clone()), ..Line::default() })?;
            out.flush()
        };
        write().map_err(cannot(&new))?;
        let file = out.into_inner().map_err(|error| cannot(&new)(error.into_error()))?;
        file.sync_all().and_then(|()| std::fs::rename(&new, path)).map_err(cannot(path))?;
        Ok(Self { path: path.to_owned(), file, rest, unsynced: Arc::default(), broken: false })
    }

    /// Writes a change down, if it is one.
    pub(crate) fn write(&mut self, rows: Vec<Put>, post: Vec<Record>, rest: Rest) {
        let rest = Some(rest).filter(|rest| rest.differs(&self.rest));
        if self.broken || (rows.is_empty() && post.is_empty() && rest.is_none()) {
            return;
        }
        if let Some(rest) = &rest {
            self.rest = rest.clone();
        }
        self.write_line(&Line { rows, post, rest, ..Line::default() });
    }

    /// Writes down what changed with the rooms.
    pub(crate) fn write_rooms(&mut self, rooms: Vec<RoomChange>) {
        if !self.broken {
            self.write_line(&Line { rooms, ..Line::default() });
        }
    }

    fn write_line(&mut self, change: &Line) {
        if let Err(error) = line(&mut self.file, change) {
            self.broken = true;
            tracing::error!(%error, file = %self.path.display(), "the sandbox's file cannot be written; what changes from now on is lost with the process");
        }
        self.unsynced.store(true, Ordering::Release);
    }

    /// Ends it: another sandbox may have the file from here on, whoever still holds it open.
    pub(crate) fn release(self) {
        if let Err(error) = self.file.sync_data().and_then(|()| self.file.unlock()) {
            tracing::warn!(%error, file = %self.path.display(), "the file of the sandbox");
        }
    }

    /// What makes sure that it is on the disk.
    pub(crate) fn syncing(&self) -> std::io::Result<Syncing> {
        Ok(Syncing { file: self.file.try_clone()?, unsynced: self.unsynced.clone() })
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // Not left to the last handle: whoever syncs has one, too. If it fails, that one still gives it up.
        drop(self.file.unlock());
    }
}

fn line(out: &mut impl std::io::Write, line: &impl Serialize) -> std::io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    out.write_all(&text)
}

impl Syncing {
    /// Does so until it is dropped.
    pub(crate) async fn run(self) {
        let this = Arc::new(self);
        loop {
            tokio::time::sleep(SYNC_EVERY).await;
            let this = this.clone();
            // It fails with the runtime alone.
            drop(tokio::task::spawn_blocking(move || this.sync()).await);
        }
    }

    /// Does so once.
    fn sync(&self) {
        if self.unsynced.swap(false, Ordering::AcqRel)
            && let Err(error) = self.file.sync_data()
        {
            tracing::warn!(%error, "the sandbox's file is not safely on the disk");
        }
    }
}

impl Drop for Syncing {
    fn drop(&mut self) {
        self.sync();
    }
}

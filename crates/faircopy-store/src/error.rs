//! Failures of the store, by what the caller can do about them.

/// Why the store could not do what was asked. Absence is an `Option`, never an error.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Another writer holds what is needed. Try again soon.
    #[error("the database is busy: {0}")]
    Busy(String),
    /// The database cannot be reached, is full, is read-only or is going down. Try again when that has passed.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// The database refuses this very change, and would refuse it again.
    #[error("the database refuses the change: {0}")]
    Refused(String),
    /// A stored value is not what this program writes.
    #[error("the column {table}.{column} holds something unreadable in row {row}")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's key.
        row: String,
    },
    /// The address of the database is not of a known form.
    #[error("DATABASE_URL {0}; expected `sqlite://path` or `postgres://user@host/database`")]
    Address(&'static str),
    /// The schema is older or newer than this program.
    #[error("the schema does not fit: {0}")]
    Schema(String),
    /// The database promises less than a 2xx does.
    #[error("the database does not keep what it acknowledges: {0}")]
    UnsafeDurability(String),
    /// The tree of content does not fit the database, for these reasons.
    #[error("the tree of content does not fit the database:{}", .0.iter().map(|fault| format!("\n  {fault}")).collect::<String>())]
    Content(Vec<crate::ContentFault>),
    /// Somebody else has taken over: nothing was written.
    #[error("another replica has taken over the lease `{0}`")]
    LeaseLost(&'static str),
    /// The server's version lacks what is needed.
    #[error("PostgreSQL {0} is too old; the oldest that is served is 15")]
    ServerTooOld(String),
}

/// What the store's functions return.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Whether the same call may succeed later without anything being changed by hand.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::Unavailable(_))
    }

    /// Whether the text of an error ends with the code for a disk that is full: PostgreSQL's 53100, or SQLite's 13.
    #[must_use]
    pub fn says_disk_full(text: &str) -> bool {
        text.ends_with("(53100)") || text.ends_with("(13)")
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        use std::error::Error as _;
        use tokio_postgres::types::{WasNull, WrongType};
        if let Some(refusal) = error.as_db_error() {
            return Self::of(refusal.code().code(), refusal.message());
        }
        let cause = error.source();
        if cause.is_some_and(|cause| cause.is::<WrongType>() || cause.is::<WasNull>()) {
            return Self::Refused(error.to_string());
        }
        let detail = cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
        Self::Unavailable(detail)
    }
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        match &error {
            rusqlite::Error::SqliteFailure(code, message) => {
                let message = message.clone().unwrap_or_else(|| code.to_string());
                Self::of(&code.extended_code.to_string(), &message)
            }
            _ => Self::Refused(error.to_string()),
        }
    }
}

impl Error {
    fn of(code: &str, message: &str) -> Self {
        let detail = format!("{message} ({code})");
        match classify(code, message) {
            Class::Busy => Self::Busy(detail),
            Class::Unavailable => Self::Unavailable(detail),
            Class::Refused => Self::Refused(detail),
        }
    }
}

enum Class {
    Busy,
    Unavailable,
    Refused,
}

/// SQLSTATE classes of PostgreSQL (its appendix A) and result codes of SQLite (sqlite.org/rescode.html). SQLite's
/// extended codes carry the primary one in their low byte.
fn classify(code: &str, message: &str) -> Class {
    if code.len() == 5 {
        return match code {
            "40001" | "40P01" | "55P03" | "57014" => Class::Busy,
            "25006" => Class::Unavailable,
            _ if ["08", "53", "57", "58", "XX"].contains(&&code[..2]) => Class::Unavailable,
            // A pooler's prepared statement that went away with its connection.
            "26000" | "42P05" | "25P02" => Class::Unavailable,
            _ => Class::Refused,
        };
    }
    match code.parse::<u32>().map(|code| code & 0xff) {
        Ok(5 | 6) => Class::Busy,
        Ok(7 | 8 | 9 | 10 | 11 | 13 | 14 | 26) => Class::Unavailable,
        _ if message.contains("database is locked") => Class::Busy,
        _ => Class::Refused,
    }
}

//! Is the copy whole in itself? Queries that find rows which cannot be, however deliveries came: each names what it finds, how
//! much of it, and what to do. `docs/validation.md` shows them for people; a test holds the two together.
//!
//! All of them read one snapshot and change nothing. None goes through a table more than a few times or compares it with itself
//! row by row: their work grows with the number of rows and not with its square.

mod queries;

use std::fmt::Write as _;

use faircopy_core::{Millis, WorkspaceMode};

use crate::engine::{Call, Connection, Dialect, Row, Value, complete};
use crate::error::{Error, Result};
use crate::{Address, Store};
use queries::{QUERIES, Since};

/// Ids that are told of each finding: enough to look at, few enough to read.
const MAX_EXAMPLES: i64 = 5;
/// What bounds the queries on PostgreSQL. One over a million rows takes seconds; a lock that somebody holds is not waited for.
const LIMITS: &str = "SELECT set_config('lock_timeout', '5s', true), set_config('statement_timeout', '300s', true), \
    set_config('idle_in_transaction_session_timeout', '60s', true)";
/// Whoever does not own the tables sees no rows under row-level security, and would find that all is well.
const SEES_ALL: &str = "SELECT count(*) FROM pg_class WHERE oid = to_regclass('faircopy.users') \
    AND pg_has_role(current_user, relowner, 'USAGE')";

/// What one query has found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Validated {
    /// Its name, which stays.
    pub check: &'static str,
    /// What it finds.
    pub finds: &'static str,
    /// How much of it there is.
    pub count: i64,
    /// Some of the ids, the first in their order: of a member `<organization>/<user>`.
    pub examples: Vec<String>,
    /// What to do where there is any.
    pub advice: &'static str,
}

impl Store {
    /// Runs every query of this module on one snapshot.
    pub async fn validate(&self, now: Millis) -> Result<Vec<Validated>> {
        let mut connection = Connection::open(&self.address).await?;
        let dialect = connection.dialect();
        complete(dialect, validate(&mut connection, self.workspaces, now)).await
    }

    /// Every query as people run it, under its name, in the words of this database.
    #[must_use]
    pub fn validation_queries(address: &Address) -> Vec<(&'static str, String)> {
        let dialect = dialect_of(address);
        QUERIES.iter().map(|query| (query.check, query.for_people(dialect))).collect()
    }

    /// What `docs/validation.md` says of the queries.
    #[must_use]
    pub fn validation_reference() -> String {
        let mut text = String::new();
        for query in QUERIES {
            let _ = write!(text, "\n### `{}`\n\nFinds {}.\n\nWhat to do: {}\n", query.check, query.finds, query.advice);
            for dialect in [Dialect::Postgres, Dialect::Sqlite] {
                let name = if dialect == Dialect::Postgres { "PostgreSQL" } else { "SQLite" };
                let _ = write!(text, "\n```sql\n-- {name}\n{};\n```\n", query.for_people(dialect));
            }
        }
        text
    }
}

fn dialect_of(address: &Address) -> Dialect {
    match address {
        Address::Sqlite(_) => Dialect::Sqlite,
        Address::Postgres(_) => Dialect::Postgres,
    }
}

async fn validate(connection: &mut Connection, mode: WorkspaceMode, now: Millis) -> Result<Vec<Validated>> {
    match connection.dialect() {
        Dialect::Sqlite => connection.script("BEGIN").await?,
        Dialect::Postgres => {
            connection.script("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            rows(connection, LIMITS, vec![]).await?;
            let owner = rows(connection, SEES_ALL, vec![]).await?;
            if owner.first().map_or(Ok(None), |row| row.int(0))? != Some(1) {
                return Err(Error::Refused("the role of DATABASE_URL does not own the copy's tables".into()));
            }
        }
    }
    let mut found = Vec::with_capacity(QUERIES.len());
    for query in QUERIES.iter().filter(|query| query.holds_in(mode)) {
        let statement = format!(
            "WITH found AS ({}) SELECT (SELECT count(*) FROM found), id FROM found ORDER BY {{bytes id}} LIMIT {MAX_EXAMPLES}",
            query.statement()
        );
        let since = match query.since {
            Since::Ever => vec![],
            Since::Time { seconds } => vec![Value::from(now.plus(-1000 * seconds))],
            Since::Millis { seconds } => vec![Value::from(now.0 - 1000 * seconds)],
        };
        let rows = rows(connection, &statement, since).await?;
        found.push(Validated {
            check: query.check,
            finds: query.finds,
            count: rows.first().map_or(Ok(None), |row| row.int(0))?.unwrap_or_default(),
            examples: rows.iter().map(|row| row.required(1)).collect::<Result<_>>()?,
            advice: query.advice,
        });
    }
    connection.rollback().await?;
    Ok(found)
}

async fn rows(connection: &mut Connection, statement: &str, scalars: Vec<Value>) -> Result<Vec<Row>> {
    connection.run(Call::new(statement, scalars)).await
}

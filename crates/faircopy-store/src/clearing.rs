//! Deleting what hangs on a workspace, an organization or a user, a batch at a time
//! (docs/decisions/0018-workspaces-and-cascades.md).
//!
//! Tables and columns are the application's: their names come from a checked [`Tree`](faircopy_core::cascade::Tree), and keys are
//! compared in the columns' own types, so that their indexes serve.

use faircopy_core::Millis;
use faircopy_core::cascade::tree::{Hang, Name, Node};
use faircopy_core::cascade::{State, Unrendered};
use serde_json::{Map, Value as Json};

use crate::cascades::{Cascade, alive, begin_fenced, update};
use crate::changes::{self, Entity, Entry, Operation};
use crate::content::quoted;
use crate::engine::{self, Call, Connection, Dialect, Row, Value};
use crate::error::Result;
use crate::leases::{self, Fence};
use crate::{Store, Writer, failpoint, outbox};

/// Rows of a table on which nothing hangs that go in one transaction: a few milliseconds, because other tenants' deliveries wait
/// behind it on SQLite and share the cores on PostgreSQL.
pub const LEAVES_AT_ONCE: i64 = 50;
/// Rows on which others hang that are looked at together.
pub const PARENTS_AT_ONCE: i64 = 20;

/// In whose name rows are deleted.
#[derive(Debug, Clone, Copy)]
pub struct Mandate<'a> {
    /// The job.
    pub cascade: &'a Cascade,
    /// The workspaces that go with it.
    pub workspaces: &'a [String],
    /// The lease.
    pub fence: &'a Fence,
    /// Targets for which there is no key: what is outside there is written down and left.
    pub without_key: &'a [String],
    /// Now.
    pub now: Millis,
}

/// Which rows.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// At most [`LEAVES_AT_ONCE`] of those that hang on these, in a table on which nothing hangs.
    HangingOn(&'a Hang, &'a [String]),
    /// These, by their one key, if nothing hangs on them: they are locked first, so that nothing new can.
    Named(&'a [String], &'a [(&'a Node, &'a Hang)]),
}

/// What a batch has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batch {
    /// So many rows are gone, and what they had outside is written down.
    Deleted(i64),
    /// Something hangs on them by now: it goes first.
    HasChildren,
    /// The job is not being carried out any more: somebody has cancelled it, or what is there now lives.
    Stopped,
}

/// What became of the end of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// No row is left, and the job knows.
    Gone,
    /// Something was made meanwhile.
    HasChildren,
    /// The job was changed by somebody else.
    Stopped,
}

impl Store {
    /// Keys of rows that hang on these, at most `limit`.
    pub async fn hanging_on(&self, node: &Node, hang: &Hang, parents: &[String], limit: i64) -> Result<Vec<String>> {
        let dialect = self.dialect();
        let statement = format!(
            "SELECT {key} FROM {table} AS t WHERE {hangs} LIMIT $2",
            key = text(&node.key[0], dialect),
            table = quoted(&node.name, dialect),
            hangs = is_one_of(node, std::slice::from_ref(&hang.column), dialect),
        );
        let rows = self.readers.read(&statement, vec![list(&hang.column, parents), limit.into()]).await?;
        rows.iter().map(|row| row.required(0)).collect()
    }

    /// Whether anything hangs on these, but for the rows of these keys.
    pub async fn has_hanging_on(&self, node: &Node, hang: &Hang, parents: &[String], but: &str) -> Result<bool> {
        let dialect = self.dialect();
        let statement = format!(
            "SELECT 1 FROM {table} AS t WHERE {hangs} AND {key} <> $2 LIMIT 1",
            key = text(&node.key[0], dialect),
            table = quoted(&node.name, dialect),
            hangs = is_one_of(node, std::slice::from_ref(&hang.column), dialect),
        );
        let rows = self.readers.read(&statement, vec![list(&hang.column, parents), but.into()]).await?;
        Ok(!rows.is_empty())
    }

    /// Whether there is a row whose columns hold these values: it claims what it has outside.
    pub async fn has_row(&self, node: &Node, columns: &[(&str, &str)]) -> Result<bool> {
        let dialect = self.dialect();
        let names: Vec<String> = columns.iter().map(|(column, _)| (*column).to_owned()).collect();
        let row: Map<String, Json> =
            columns.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        let given = Json::Array(vec![Json::Object(row)]).to_string();
        let statement = format!(
            "SELECT 1 FROM {table} AS t WHERE {is_it} LIMIT 1",
            table = quoted(&node.name, dialect),
            is_it = is_one_of(node, &names, dialect),
        );
        Ok(!self.readers.read(&statement, vec![given.as_str().into()]).await?.is_empty())
    }

    fn dialect(&self) -> Dialect {
        match self.address {
            crate::Address::Sqlite(_) => Dialect::Sqlite,
            crate::Address::Postgres(_) => Dialect::Postgres,
        }
    }
}

impl Writer {
    /// Deletes one batch of rows, and writes down in the same transaction how many and what they had outside. Nothing is deleted
    /// by whoever has lost the lease, nor for a job that is not being carried out any more.
    pub async fn delete_rows(&mut self, mandate: Mandate<'_>, node: &Node, which: Which<'_>) -> Result<Batch> {
        let connection = self.fresh().await?;
        let dialect = connection.dialect();
        let result = engine::complete(dialect, Box::pin(delete(connection, mandate, node, which))).await;
        self.settle(result).await
    }

    /// The last step of the rows: removes the rows of these workspaces, if nothing hangs on them any more, with their entries in the
    /// change feed, and changes the job to `after` in the same transaction.
    pub async fn end_rows(
        &mut self,
        mandate: Mandate<'_>,
        hanging: &[(&Node, &Hang)],
        after: &Cascade,
    ) -> Result<Ended> {
        let connection = self.fresh().await?;
        let dialect = connection.dialect();
        let result = engine::complete(dialect, Box::pin(end(connection, mandate, hanging, after))).await;
        self.settle(result).await
    }
}

async fn delete(connection: &mut Connection, mandate: Mandate<'_>, node: &Node, which: Which<'_>) -> Result<Batch> {
    let dialect = connection.dialect();
    begin_fenced(connection, Some(mandate.fence)).await?;
    failpoint::step("cascade-chunk");
    // Other tenants' commits queue for the same disk.
    connection.commit_lazily().await?;
    if !is_deleting(connection, &mandate.cascade.subject).await? {
        connection.rollback().await?;
        return Ok(Batch::Stopped);
    }
    let count = match which {
        // Nobody need know which they were.
        Which::HangingOn(hang, parents) if node.external.is_empty() => {
            let gone =
                connection.run(Call::new(&some_gone(node, hang, dialect), vec![list(&hang.column, parents)])).await?;
            i64::try_from(gone.len()).unwrap_or(i64::MAX)
        }
        _ => match delete_named(connection, mandate, node, which).await? {
            Some(count) => count,
            None => return Ok(Batch::HasChildren),
        },
    };
    // What was found before this look hung on something that was not alive: otherwise it is all undone.
    let (statement, scalars) = alive(mandate.cascade.kind, &mandate.cascade.subject, mandate.workspaces);
    if !connection.run(Call::new(statement, scalars)).await?.is_empty() {
        connection.rollback().await?;
        return Ok(Batch::Stopped);
    }
    let counted = if count > 0 { vec![counted(&mandate.cascade.subject, &node.name, count)] } else { vec![] };
    connection.run_all(counted).await?;
    connection.finish(vec![]).await?;
    Ok(Batch::Deleted(count))
}

/// Deletes rows whose keys and outside ids are read first, and writes the ids down; `None`, and the end of the transaction, if
/// something hangs on them. They are locked first, so that nothing new can.
async fn delete_named(
    connection: &mut Connection,
    mandate: Mandate<'_>,
    node: &Node,
    which: Which<'_>,
) -> Result<Option<i64>> {
    let dialect = connection.dialect();
    let columns: Vec<&str> = node.columns();
    let shown: Vec<String> = columns.iter().map(|column| text(column, dialect)).collect();
    let (condition, given, limit) = match which {
        Which::HangingOn(hang, parents) => {
            (std::slice::from_ref(&hang.column), list(&hang.column, parents), format!(" LIMIT {LEAVES_AT_ONCE}"))
        }
        Which::Named(keys, _) => (node.key.as_slice(), list(&node.key[0], keys), String::new()),
    };
    let lock = format!(
        "SELECT {shown} FROM {table} AS t WHERE {is_it}{limit}{locked}",
        shown = shown.join(", "),
        table = quoted(&node.name, dialect),
        is_it = is_one_of(node, condition, dialect),
        locked = if dialect == Dialect::Postgres { " FOR UPDATE" } else { "" },
    );
    let rows = connection.run(Call::new(&lock, vec![given])).await?;
    let rows: Vec<Map<String, Json>> = rows.iter().map(|row| values(row, &columns)).collect::<Result<_>>()?;
    if let Which::Named(keys, hanging) = which
        && has_any(connection, hanging, keys).await?
    {
        connection.rollback().await?;
        return Ok(None);
    }
    if !rows.is_empty() {
        let steps = steps(node, &rows);
        let without_key = |target: &str| mandate.without_key.iter().any(|without| without == target);
        connection.run(outbox::insert(&mandate.cascade.subject, &steps, without_key, mandate.now)).await?;
        let gone = format!(
            "DELETE FROM {table} AS t WHERE {is_it}",
            table = quoted(&node.name, dialect),
            is_it = is_one_of(node, &node.key, dialect),
        );
        let keys = rows.iter().map(|row| Json::Object(only(row, &node.key))).collect();
        connection.run(Call::new(&gone, vec![Json::Array(keys).to_string().as_str().into()])).await?;
    }
    Ok(Some(i64::try_from(rows.len()).unwrap_or(i64::MAX)))
}

/// Deletes some of the rows that hang on those of the list `$1`, in one statement that answers a row for each.
fn some_gone(node: &Node, hang: &Hang, dialect: Dialect) -> String {
    let table = quoted(&node.name, dialect);
    let hangs = is_one_of(node, std::slice::from_ref(&hang.column), dialect);
    match dialect {
        Dialect::Postgres => format!(
            "DELETE FROM {table} AS t WHERE t.ctid = ANY (ARRAY(SELECT t.ctid FROM {table} AS t WHERE {hangs} \
             LIMIT {LEAVES_AT_ONCE})) RETURNING 1"
        ),
        Dialect::Sqlite => {
            let named = || node.key.iter().map(|key| format!("t.\"{key}\"")).collect::<Vec<_>>().join(", ");
            format!(
                "DELETE FROM {table} AS t WHERE ({key}) IN (SELECT {of} FROM {table} AS t WHERE {hangs} LIMIT {LEAVES_AT_ONCE}) \
                 RETURNING 1",
                key = named(),
                of = named(),
            )
        }
    }
}

async fn end(
    connection: &mut Connection,
    mandate: Mandate<'_>,
    hanging: &[(&Node, &Hang)],
    after: &Cascade,
) -> Result<Ended> {
    const LOCK: &str = "SELECT id FROM {s}workspaces WHERE id IN {list $1} AND ended_at IS NOT NULL{for-update}";
    const REMOVE: &str = "DELETE FROM {s}workspaces WHERE id IN {list $1} AND ended_at IS NOT NULL RETURNING id";
    let Mandate { cascade: before, workspaces, .. } = mandate;
    if workspaces.is_empty() {
        begin_fenced(connection, Some(mandate.fence)).await?;
        let changed = connection.run(update(before, after)).await?;
        connection.finish(vec![]).await?;
        return Ok(if changed.is_empty() { Ended::Stopped } else { Ended::Gone });
    }
    let fences = [mandate.fence].into_iter().collect();
    let ids = serde_json::to_string(workspaces).unwrap_or_default();
    let lock = Call::new(LOCK, vec![ids.as_str().into()]);
    let begun = connection.begin(vec![], vec![leases::held(&fences), lock]).await?;
    if !leases::read_held(&begun.under_pen[0], &fences).contains(mandate.fence) {
        connection.rollback().await?;
        return Err(crate::Error::LeaseLost(mandate.fence.lease));
    }
    // Nothing can be hung on the rows any more, where foreign keys hold it; what was made before is found here.
    if has_any(connection, hanging, workspaces).await? {
        connection.rollback().await?;
        return Ok(Ended::HasChildren);
    }
    if connection.run(update(before, after)).await?.is_empty() {
        connection.rollback().await?;
        return Ok(Ended::Stopped);
    }
    let removed = connection.run(Call::new(REMOVE, vec![ids.as_str().into()])).await?;
    let entry = |row: &Row| Ok(Entry::of(Entity::Workspace, row.required(0)?, Operation::Remove));
    let entries: Vec<Entry> = removed.iter().map(entry).collect::<Result<_>>()?;
    if let (Some(name), 1..) = (Name::parse("faircopy.workspaces"), removed.len()) {
        let count = i64::try_from(removed.len()).unwrap_or(i64::MAX);
        connection.run(counted(&mandate.cascade.subject, &name, count)).await?;
    }
    failpoint::step("cascade-end");
    connection.finish(changes::append(begun.last, &entries, mandate.now).1).await?;
    Ok(Ended::Gone)
}

/// Whether the job is in the state in which rows go. Its row is locked until the commit: a cancellation waits for this batch, and the
/// next batch finds it.
async fn is_deleting(connection: &mut Connection, subject: &str) -> Result<bool> {
    const STATE: &str = "SELECT state FROM {s}cascades WHERE subject = $1{for-share}";
    let rows = connection.run(Call::new(STATE, vec![subject.into()])).await?;
    Ok(rows.first().map_or(Ok(None), |row| row.text(0))?.as_deref() == Some(State::Deleting.name()))
}

async fn has_any(connection: &mut Connection, hanging: &[(&Node, &Hang)], parents: &[String]) -> Result<bool> {
    let dialect = connection.dialect();
    for (node, hang) in hanging {
        let statement = format!(
            "SELECT 1 FROM {table} AS t WHERE {hangs} LIMIT 1",
            table = quoted(&node.name, dialect),
            hangs = is_one_of(node, std::slice::from_ref(&hang.column), dialect),
        );
        if !connection.run(Call::new(&statement, vec![list(&hang.column, parents)])).await?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn counted(subject: &str, name: &Name, count: i64) -> Call<'static> {
    const COUNT: &str = "INSERT INTO {s}cascade_counts AS c (subject, place, removed) VALUES ($1, $2, $3) \
        ON CONFLICT (subject, place) DO UPDATE SET removed = c.removed + excluded.removed";
    let place: Value = name.to_string().as_str().into();
    Call::new(COUNT, vec![subject.into(), place, count.into()])
}

/// What these rows have outside. A row whose columns are empty has nothing there; an id that is too long for its target cannot be
/// there.
fn steps(node: &Node, rows: &[Map<String, Json>]) -> Vec<(String, String)> {
    let mut steps = Vec::new();
    for row in rows {
        for external in &node.external {
            match external.render(|column| row.get(column).and_then(Json::as_str)) {
                Ok(id) => steps.push((external.target.name().to_owned(), id)),
                Err(Unrendered::Empty(_) | Unrendered::TooLong(_)) => {}
            }
        }
    }
    // One statement writes them: each once.
    steps.sort_unstable();
    steps.dedup();
    steps
}

fn values(row: &Row, columns: &[&str]) -> Result<Map<String, Json>> {
    let value = |at: usize| Ok::<Json, crate::Error>(row.text(at)?.map_or(Json::Null, Json::String));
    columns.iter().enumerate().map(|(at, column)| Ok(((*column).to_owned(), value(at)?))).collect()
}

fn only(row: &Map<String, Json>, columns: &[String]) -> Map<String, Json> {
    columns.iter().filter_map(|column| Some((column.clone(), row.get(column)?.clone()))).collect()
}

/// Texts as the JSON that [`is_one_of`] reads.
fn list(column: &str, keys: &[String]) -> Value {
    let row = |key: &String| Json::Object([(column.to_owned(), Json::String(key.clone()))].into_iter().collect());
    Json::Array(keys.iter().map(row).collect()).to_string().as_str().into()
}

/// A column as text.
fn text(column: &str, dialect: Dialect) -> String {
    match dialect {
        Dialect::Sqlite => format!("CAST(t.\"{column}\" AS text)"),
        Dialect::Postgres => format!("t.\"{column}\"::text"),
    }
}

/// Whether columns of a row of this table are those of one of the objects of the list `$1`. On PostgreSQL the objects are read as
/// rows of the table, so that each value has its column's type.
fn is_one_of(node: &Node, columns: &[String], dialect: Dialect) -> String {
    let names: Vec<String> = columns.iter().map(|column| format!("t.\"{column}\"")).collect();
    let given: Vec<String> = columns
        .iter()
        .map(|column| match dialect {
            Dialect::Sqlite => format!("json_extract(value, '$.{column}')"),
            Dialect::Postgres => format!("\"{column}\""),
        })
        .collect();
    let source = match dialect {
        Dialect::Sqlite => "json_each($1)".to_owned(),
        Dialect::Postgres => {
            format!("jsonb_populate_recordset(NULL::{}, ($1)::jsonb)", quoted(&node.name, Dialect::Postgres))
        }
    };
    let (names, given) = (names.join(", "), given.join(", "));
    match (dialect, columns) {
        // A list of unknown length is looked up in an index; a table of unknown length might be joined with the whole other one.
        (Dialect::Postgres, [_]) => format!("{names} = ANY (ARRAY(SELECT {given} FROM {source}))"),
        _ => format!("({names}) IN (SELECT {given} FROM {source})"),
    }
}

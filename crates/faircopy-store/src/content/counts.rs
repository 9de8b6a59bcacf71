//! How much would go: a dry read.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use faircopy_core::cascade::{External, Name, Node, Parent, Root, Tree};

use super::catalog::{self, Found};
use super::{dialect_of, quoted};
use crate::Store;
use crate::engine::{Call, Connection, Dialect, Row, Value, complete};
use crate::error::Result;

/// Rows that are counted of each table: more is told as "at least". Twice what the largest workspace of the specification has.
const MAX_COUNTED: i64 = 2_000_000;
/// What bounds each count on PostgreSQL, for this transaction alone. Rows are found by the indexes that the check has asked for.
const LIMITS: &str = "SELECT set_config('lock_timeout', '5s', true), set_config('statement_timeout', '60s', true), \
    set_config('idle_in_transaction_session_timeout', '60s', true), set_config('enable_seqscan', 'off', true), \
    set_config('jit', 'off', true)";

/// What would go of one table.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ContentCount {
    /// Which.
    pub table: String,
    /// Rows; exact unless there are more than two million.
    pub rows: i64,
    /// Whether there may be more.
    pub is_at_least: bool,
    /// Ids outside the database, by their target, each with its pattern; rows without one are not counted.
    pub external: Vec<ExternalCount>,
}

/// What would go at one target.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ExternalCount {
    /// Who would be told.
    pub target: String,
    /// Under which ids.
    pub pattern: String,
    /// How many; exact unless there are more than two million rows.
    pub ids: i64,
}

impl Store {
    /// What hangs on a root with this id, table by table in the order in which it would go. All counts are of one moment; nothing
    /// is changed or locked. A row that hangs on it in two ways is counted once.
    pub async fn content_counts(&self, tree: &Tree, root: Root, id: &str) -> Result<Vec<ContentCount>> {
        let mut there = Vec::new();
        for node in tree.below(root) {
            if matches!(catalog::look(self, &node.name).await?, Found::Table(_)) {
                there.push(node);
            }
        }
        let dialect = dialect_of(self.address());
        let mut connection = Connection::open(self.address()).await?;
        complete(dialect, count(&mut connection, &there, root, id)).await
    }
}

async fn count(connection: &mut Connection, nodes: &[&Node], root: Root, id: &str) -> Result<Vec<ContentCount>> {
    let dialect = connection.dialect();
    match dialect {
        Dialect::Sqlite => connection.script("BEGIN").await?,
        Dialect::Postgres => {
            connection.script("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
            connection.run(Call::new(LIMITS, vec![])).await?;
        }
    }
    let mut counts = Vec::with_capacity(nodes.len());
    for node in nodes {
        let statement = statement(nodes, node, root, dialect);
        let rows = connection.run(Call::new(&statement, vec![Value::from(id)])).await?;
        counts.push(read(node, rows.first())?);
    }
    connection.rollback().await?;
    Ok(counts)
}

fn read(node: &Node, row: Option<&Row>) -> Result<ContentCount> {
    let number = |at: usize| row.map_or(Ok(None), |row| row.int(at)).map(Option::unwrap_or_default);
    let rows = number(0)?;
    let external = node.external.iter().enumerate().map(|(at, external)| {
        let (target, pattern) = (external.target.name().to_owned(), external.pattern.to_string());
        Ok(ExternalCount { target, pattern, ids: number(at + 1)? })
    });
    Ok(ContentCount {
        table: node.name.to_string(),
        rows: rows.min(MAX_COUNTED),
        is_at_least: rows > MAX_COUNTED,
        external: external.collect::<Result<_>>()?,
    })
}

/// One row: the number of rows, and of the ids of each pattern. Every table above is asked once, as a part of the statement
/// (`above_<table>`), whatever number of ways leads through it.
fn statement(nodes: &[&Node], node: &Node, root: Root, dialect: Dialect) -> String {
    let mut text = String::new();
    for at in above(nodes, node) {
        let parent = nodes[at];
        let word = if text.is_empty() { "WITH" } else { "," };
        let (key, table) = (parent.key.first().map_or("", String::as_str), quoted(&parent.name, dialect));
        let _ =
            write!(text, "{word} above_{at} AS (SELECT \"{key}\" FROM {table} WHERE {})", hangs(nodes, parent, root));
    }
    let ids: String =
        node.external.iter().map(|external| format!(", count(CASE WHEN {} THEN 1 END)", has_id(external))).collect();
    let columns: Vec<String> = node.columns().iter().map(|column| format!("\"{column}\"")).collect();
    let (columns, table) = (columns.join(", "), quoted(&node.name, dialect));
    let _ = write!(
        text,
        " SELECT count(*){ids} FROM (SELECT {columns} FROM {table} WHERE {} LIMIT {}) AS found",
        hangs(nodes, node, root),
        MAX_COUNTED + 1
    );
    text
}

/// The places of the tables on which rows of `node` hang, by whatever way: parents before children.
fn above(nodes: &[&Node], node: &Node) -> Vec<usize> {
    let places = |node: &Node| -> Vec<usize> {
        let of = |name: &Name| nodes.iter().position(|parent| parent.name == *name);
        node.hangs
            .iter()
            .filter_map(|hang| if let Parent::Table(name) = &hang.parent { of(name) } else { None })
            .collect()
    };
    let (mut found, mut next) = (BTreeSet::new(), places(node));
    while let Some(at) = next.pop() {
        if found.insert(at) {
            next.extend(places(nodes[at]));
        }
    }
    found.into_iter().rev().collect()
}

/// What holds of a row that hangs on the root.
fn hangs(nodes: &[&Node], node: &Node, root: Root) -> String {
    let ways = node.hangs.iter().filter_map(|hang| match &hang.parent {
        Parent::Root(known) => (*known == root).then(|| format!("\"{}\" = $1", hang.column)),
        Parent::Table(name) => {
            let at = nodes.iter().position(|parent| parent.name == *name)?;
            let key = nodes[at].key.first()?;
            Some(format!("\"{}\" IN (SELECT \"{key}\" FROM above_{at})", hang.column))
        }
    });
    // A table whose parents are not there yet holds nothing; the parameter is named all the same.
    let ways: Vec<String> = ways.chain(["$1 IS NULL".to_owned()]).collect();
    ways.join(" OR ")
}

/// What holds of a row that has an id: as [`External::render`] says.
fn has_id(external: &External) -> String {
    let texts = external.pattern.columns().map(|column| format!("CAST(\"{column}\" AS text)"));
    let texts: Vec<String> = texts.collect();
    let filled: Vec<String> = texts.iter().map(|text| format!("{text} <> ''")).collect();
    let lengths: Vec<String> = texts.iter().map(|text| format!("length({text})")).collect();
    let room = external.target.longest_id().saturating_sub(external.pattern.text_length());
    format!("{} AND {} <= {room}", filled.join(" AND "), lengths.join(" + "))
}

//! What the database knows of a table.

use faircopy_core::cascade::Name;
use faircopy_core::cascade::tree::{BUILT_IN_SCHEMA, DEFAULT_SCHEMA};

use super::dialect_of;
use crate::engine::{Dialect, Row};
use crate::error::Result;
use crate::{Store, migrate};

/// Between the names of an index's columns: no name that could be declared has it.
const BETWEEN: char = '\u{1f}';

/// The content tables that the migrations make; every other table of theirs is the program's own.
const BUILT_IN: [&str; 8] =
    ["channels", "messages", "last_reads", "rooms", "documents", "code_files", "whiteboards", "meetings"];

/// What stands under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// A table of the program's own.
    Internal,
    /// A view, a virtual or a foreign table, ….
    Other(String),
    Table(Table),
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Table {
    pub(super) columns: Vec<Column>,
    /// Whole, valid indexes of plain columns.
    pub(super) indexes: Vec<Index>,
    /// Rights that the service's role lacks.
    pub(super) lacks: Vec<String>,
    /// Whether policies may hide rows from the service.
    pub(super) is_hidden: bool,
    /// `table.column` of rows that point here and hold them back, with the table's name alone.
    pub(super) held_by: Vec<(String, Name)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    /// As the database writes it.
    pub(super) written: String,
    pub(super) kind: Option<Kind>,
    pub(super) is_required: bool,
}

/// What can be compared with a value that was read as text, each with its like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Uuid,
    Integer,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) is_unique: bool,
    pub(super) columns: Vec<String>,
}

impl Table {
    pub(super) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

pub(super) async fn look(store: &Store, name: &Name) -> Result<Found> {
    match dialect_of(&store.address) {
        Dialect::Sqlite => look_sqlite(store, name).await,
        Dialect::Postgres => look_postgres(store, name).await,
    }
}

fn index(row: &Row) -> Result<Index> {
    let columns = row.required(1)?.split(BETWEEN).map(ToOwned::to_owned).collect();
    Ok(Index { is_unique: row.bool(0)? == Some(true), columns })
}

async fn look_postgres(store: &Store, name: &Name) -> Result<Found> {
    // Row security may hide rows unless a policy that asks nothing lets this role see all, and none takes that back.
    const TABLE: &str = "SELECT c.relkind::text, has_schema_privilege(n.oid, 'USAGE'), has_table_privilege(c.oid, 'SELECT'), \
            has_table_privilege(c.oid, 'DELETE'), has_any_column_privilege(c.oid, 'UPDATE'), \
            row_security_active(c.oid) AND (EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND NOT p.polpermissive) \
                OR NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polpermissive AND p.polcmd = '*' \
                    AND pg_get_expr(p.polqual, p.polrelid) = 'true' AND (SELECT bool_or(held = 0 OR \
                    pg_has_role(current_user, held, 'USAGE')) FROM unnest(p.polroles) AS held))) \
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2";
    const COLUMNS: &str = "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), t.typname::text, a.attnotnull, \
            coalesce(l.collisdeterministic, true) \
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
        JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_collation l ON l.oid = a.attcollation \
        WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";
    const INDEXES: &str = "SELECT i.indisunique, (SELECT string_agg(a.attname, chr(31) ORDER BY k.place) \
            FROM unnest(i.indkey::int[]) WITH ORDINALITY AS k (number, place) \
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number WHERE k.place <= i.indnkeyatts) \
        FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
        JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam \
        WHERE n.nspname = $1 AND c.relname = $2 AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL \
            AND m.amname IN ('btree', 'hash')";
    const HOLDERS: &str = "SELECT hn.nspname::text, h.relname::text, \
            (SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = h.oid AND a.attnum = f.conkey[1]) \
        FROM pg_constraint f JOIN pg_class c ON c.oid = f.confrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
        JOIN pg_class h ON h.oid = f.conrelid JOIN pg_namespace hn ON hn.oid = h.relnamespace \
        WHERE f.contype = 'f' AND f.confdeltype IN ('a', 'r') AND f.conparentid = 0 AND n.nspname = $1 AND c.relname = $2 ORDER BY 1, 2, 3";
    let schema = name.schema().unwrap_or(DEFAULT_SCHEMA);
    let given = || vec![schema.into(), name.table().into()];
    let rows = store.readers.read(TABLE, given()).await?;
    let Some(row) = rows.first() else { return Ok(Found::Nothing) };
    if schema == BUILT_IN_SCHEMA && !BUILT_IN.contains(&name.table()) {
        return Ok(Found::Internal);
    }
    match row.required(0)?.as_str() {
        "r" | "p" => {}
        "v" => return Ok(Found::Other("view".into())),
        "m" => return Ok(Found::Other("materialized view".into())),
        "f" => return Ok(Found::Other("foreign table".into())),
        _ => return Ok(Found::Other("thing that is no table".into())),
    }
    let mut table = Table { is_hidden: row.bool(5)? == Some(true), ..Table::default() };
    let rights = [(1, "USAGE"), (2, "SELECT"), (3, "DELETE"), (4, "UPDATE")];
    for (at, right) in rights {
        if row.bool(at)? != Some(true) {
            table.lacks.push(right.to_owned());
        }
    }
    for row in store.readers.read(COLUMNS, given()).await? {
        let (kind, is_plain) = (row.required(2)?, row.bool(4)? == Some(true));
        let kind = match kind.as_str() {
            "text" | "varchar" if is_plain => Some(Kind::Text),
            "uuid" => Some(Kind::Uuid),
            "int2" | "int4" | "int8" => Some(Kind::Integer),
            _ => None,
        };
        let (name, written) = (row.required(0)?, row.required(1)?);
        table.columns.push(Column { name, written, kind, is_required: row.bool(3)? == Some(true) });
    }
    for row in store.readers.read(INDEXES, given()).await? {
        table.indexes.push(index(&row)?);
    }
    for row in store.readers.read(HOLDERS, given()).await? {
        let (schema, holder) = (row.required(0)?, row.required(1)?);
        if let Some(name) = Name::parse(&format!("{schema}.{holder}")) {
            table.held_by.push((row.required(2)?, name));
        }
    }
    Ok(Found::Table(table))
}

async fn look_sqlite(store: &Store, name: &Name) -> Result<Found> {
    const TABLE: &str = "SELECT type FROM pragma_table_list WHERE schema = 'main' AND name = $1 COLLATE NOCASE";
    const COLUMNS: &str = "SELECT name, type, \"notnull\", pk FROM pragma_table_info($1) ORDER BY cid";
    const INDEXES: &str = "SELECT l.\"unique\", group_concat(i.name, char(31) ORDER BY i.seqno) \
        FROM pragma_index_list($1) l, pragma_index_info(l.name) i WHERE l.partial = 0 \
        GROUP BY l.name HAVING count(i.name) = count(*)";
    const HOLDERS: &str = "SELECT t.name, f.\"from\" FROM pragma_table_list t, pragma_foreign_key_list(t.name) f \
        WHERE t.schema = 'main' AND t.type = 'table' AND f.\"table\" = $1 COLLATE NOCASE AND f.seq = 0 \
            AND f.on_delete IN ('NO ACTION', 'RESTRICT') ORDER BY 1, 2";
    let given = || vec![name.table().into()];
    // There is one schema. What Faircopy calls `faircopy.channels` is `channels` here.
    let has_place = name.schema().is_none_or(|schema| schema == BUILT_IN_SCHEMA);
    let rows = store.readers.read(TABLE, given()).await?;
    let Some(row) = rows.first().filter(|_| has_place) else { return Ok(Found::Nothing) };
    let table = name.table().to_ascii_lowercase();
    if table.starts_with("sqlite_") || (migrate::names_table(&table) && !BUILT_IN.contains(&table.as_str())) {
        return Ok(Found::Internal);
    }
    match row.required(0)?.as_str() {
        "table" => {}
        other => return Ok(Found::Other(format!("{other} table").replace("view table", "view"))),
    }
    let mut table = Table::default();
    let mut primary: Vec<(i64, String)> = Vec::new();
    for row in store.readers.read(COLUMNS, given()).await? {
        let (name, written, place) = (row.required(0)?, row.required(1)?, row.int(3)?.unwrap_or_default());
        let kind = affinity(&written);
        if place > 0 {
            primary.push((place, name.clone()));
        }
        table.columns.push(Column { name, written, kind, is_required: row.bool(2)? == Some(true) || place > 0 });
    }
    // A whole number as primary key is the row's own place, and has no index.
    primary.sort();
    if !primary.is_empty() {
        let columns = primary.into_iter().map(|(_, name)| name).collect();
        table.indexes.push(Index { is_unique: true, columns });
    }
    for row in store.readers.read(INDEXES, given()).await? {
        table.indexes.push(index(&row)?);
    }
    for row in store.readers.read(HOLDERS, given()).await? {
        if let Some(name) = Name::parse(&row.required(0)?) {
            table.held_by.push((row.required(1)?, name));
        }
    }
    Ok(Found::Table(table))
}

/// How SQLite compares a column with a text (sqlite.org/datatype3.html, section 3.1), for those that it compares by value.
fn affinity(written: &str) -> Option<Kind> {
    let written = written.to_ascii_uppercase();
    if written.contains("INT") {
        Some(Kind::Integer)
    } else if ["CHAR", "CLOB", "TEXT"].iter().any(|word| written.contains(word)) {
        Some(Kind::Text)
    } else {
        None
    }
}

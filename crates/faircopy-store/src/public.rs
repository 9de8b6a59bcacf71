//! The public tables as JSON rows, for comparing and for showing.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::engine;
use crate::error::{Error, Result};
use crate::{Caller, Store};

/// One row: column to value, times as RFC 3339.
pub type Row = BTreeMap<String, Value>;

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Json,
    Bool,
    Time,
}

type Columns = &'static [(&'static str, Kind)];

const USERS: Columns = &[
    ("external_id", Kind::Text),
    ("username", Kind::Text),
    ("first_name", Kind::Text),
    ("last_name", Kind::Text),
    ("name", Kind::Text),
    ("email", Kind::Text),
    ("image_url", Kind::Text),
    ("workspace_id", Kind::Text),
    ("public_metadata", Kind::Json),
    ("banned", Kind::Bool),
    ("locked", Kind::Bool),
    ("provenance", Kind::Text),
    ("created_at", Kind::Time),
    ("updated_at", Kind::Time),
];
const ORGANIZATIONS: Columns = &[
    ("name", Kind::Text),
    ("slug", Kind::Text),
    ("image_url", Kind::Text),
    ("created_by", Kind::Text),
    ("workspace_id", Kind::Text),
    ("settings", Kind::Json),
    ("provenance", Kind::Text),
    ("created_at", Kind::Time),
    ("updated_at", Kind::Time),
];
const MEMBERS: Columns = &[
    ("clerk_membership_id", Kind::Text),
    ("role", Kind::Text),
    ("permissions", Kind::Json),
    ("provenance", Kind::Text),
    ("created_at", Kind::Time),
    ("updated_at", Kind::Time),
];
const INVITATIONS: Columns = &[
    ("clerk_org_id", Kind::Text),
    ("email", Kind::Text),
    ("role", Kind::Text),
    ("status", Kind::Text),
    ("provenance", Kind::Text),
    ("expires_at", Kind::Time),
    ("created_at", Kind::Time),
    ("updated_at", Kind::Time),
];
const WORKSPACES: Columns = &[
    ("clerk_org_id", Kind::Text),
    ("name", Kind::Text),
    ("owner_id", Kind::Text),
    ("is_linked", Kind::Bool),
    ("ended_at", Kind::Time),
    ("created_at", Kind::Time),
];

impl Store {
    /// All rows of a public table by key; a member's key is `<organization>/<user>`. For small copies: everything is
    /// held in memory.
    pub async fn public_rows(&self, table: &str) -> Result<Vec<(String, Row)>> {
        let (statement, columns) = whole(table)?;
        read_all(&self.readers.read(&statement, vec![]).await?, columns)
    }

    /// The rows of a public table that row-level security lets a caller see: all of them where there is none
    /// ([`Store::has_second_wall`]).
    pub async fn public_rows_for(&self, caller: &Caller, table: &str) -> Result<Vec<(String, Row)>> {
        let (statement, columns) = whole(table)?;
        read_all(&self.read_for(caller, &statement, vec![]).await?, columns)
    }
}

fn whole(table: &str) -> Result<(String, Columns)> {
    let (key, columns) = match table {
        "users" => ("clerk_user_id", USERS),
        "organizations" => ("clerk_org_id", ORGANIZATIONS),
        "organization_members" => ("clerk_org_id || '/' || clerk_user_id", MEMBERS),
        "organization_invitations" => ("clerk_invitation_id", INVITATIONS),
        "workspaces" => ("id", WORKSPACES),
        _ => return Err(Error::Refused(format!("{table} is not a public table"))),
    };
    let list: Vec<String> = columns.iter().map(|(name, kind)| expression(name, *kind)).collect();
    Ok((format!("SELECT {key}, {} FROM {{s}}{table} ORDER BY 1", list.join(", ")), columns))
}

fn read_all(rows: &[engine::Row], columns: Columns) -> Result<Vec<(String, Row)>> {
    rows.iter().map(|row| Ok((row.required(0)?, read(row, columns)?))).collect()
}

fn expression(name: &str, kind: Kind) -> String {
    match kind {
        Kind::Text | Kind::Bool => name.to_owned(),
        Kind::Json => format!("{{text {name}}}"),
        Kind::Time => format!("{{time {name}}}"),
    }
}

fn read(row: &engine::Row, columns: Columns) -> Result<Row> {
    let mut values = Row::new();
    for (position, (name, kind)) in columns.iter().enumerate() {
        let column = position + 1;
        let value = match kind {
            Kind::Text | Kind::Time => json!(row.text(column)?),
            Kind::Bool => json!(row.bool(column)?),
            Kind::Json => row.text(column)?.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
        };
        values.insert((*name).to_owned(), value);
    }
    Ok(values)
}

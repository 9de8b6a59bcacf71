//! The public tables as JSON rows, for comparing and for showing.

use std::collections::BTreeMap;

use faircopy_core::explain::{self, Record};
use faircopy_core::merge::Key;
use faircopy_core::record::{Invitation, Organization, Profile};
use faircopy_core::{Millis, WorkspaceMode};
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

    /// The public row of a subject. What is no row (a membership by its id alone) has none.
    pub async fn public_row(&self, subject: &Key) -> Result<Option<Row>> {
        let (table, condition, keys) = match subject {
            Key::User(id) => ("users", "clerk_user_id = $1", vec![id.as_str().into()]),
            Key::Organization(id) => ("organizations", "clerk_org_id = $1", vec![id.as_str().into()]),
            Key::Pair(organization, user) => {
                let keys = vec![organization.as_str().into(), user.as_str().into()];
                ("organization_members", "clerk_org_id = $1 AND clerk_user_id = $2", keys)
            }
            Key::Invitation(id) => ("organization_invitations", "clerk_invitation_id = $1", vec![id.as_str().into()]),
            Key::Membership(_) => return Ok(None),
        };
        let (statement, columns) = select(table)?;
        let rows = self.readers.read(&format!("{statement} WHERE {condition}"), keys).await?;
        rows.first().map(|row| read(row, columns)).transpose()
    }

    /// The rows of a public table under these keys, with one statement.
    pub(crate) async fn rows_by_key(&self, table: &str, keys: &[&str]) -> Result<Vec<(String, Row)>> {
        let (statement, columns) = select(table)?;
        let whole = serde_json::to_string(keys).unwrap_or_default();
        let (condition, scalars) = match key_columns(table) {
            [key] => (format!("{key} IN {{list $1}}"), vec![whole.as_str().into()]),
            // Both columns, so that an index finds them; the last condition tells the pairs apart.
            [first, second] => {
                let (firsts, seconds): (Vec<&str>, Vec<&str>) =
                    keys.iter().filter_map(|key| key.split_once('/')).unzip();
                let lists = [firsts, seconds].map(|list| serde_json::to_string(&list).unwrap_or_default());
                let condition = format!(
                    "{first} IN {{list $1}} AND {second} IN {{list $2}} AND {first} || '/' || {second} IN {{list $3}}"
                );
                (condition, [lists[0].as_str(), lists[1].as_str(), whole.as_str()].map(engine::Value::from).into())
            }
            _ => return Err(Error::Refused(format!("{table} is not a public table"))),
        };
        read_all(&self.readers.read(&format!("{statement} WHERE {condition}"), scalars).await?, columns)
    }

    /// The rows of a public table after a key, in the order of the keys, at most `limit`.
    pub(crate) async fn rows_after_key(&self, table: &str, after: &str, limit: i64) -> Result<Vec<(String, Row)>> {
        let (statement, columns) = select(table)?;
        let (condition, order, scalars) = match key_columns(table) {
            [key] => (format!("{key} > $1"), format!("{key} LIMIT $2"), vec![after.into(), limit.into()]),
            [first, second] => {
                let (of, key) = after.split_once('/').unwrap_or_default();
                let (condition, order) =
                    (format!("({first}, {second}) > ($1, $2)"), format!("{first}, {second} LIMIT $3"));
                (condition, order, vec![of.into(), key.into(), limit.into()])
            }
            _ => return Err(Error::Refused(format!("{table} is not a public table"))),
        };
        read_all(
            &self.readers.read(&format!("{statement} WHERE {condition} ORDER BY {order}"), scalars).await?,
            columns,
        )
    }

    /// The rows of a public table that row-level security lets a caller see: all of them where there is none
    /// ([`Store::has_second_wall`]).
    pub async fn public_rows_for(&self, caller: &Caller, table: &str) -> Result<Vec<(String, Row)>> {
        let (statement, columns) = whole(table)?;
        read_all(&self.read_for(caller, &statement, vec![]).await?, columns)
    }
}

fn whole(table: &str) -> Result<(String, Columns)> {
    let (statement, columns) = select(table)?;
    Ok((format!("{statement} ORDER BY 1"), columns))
}

/// The key and the columns of a public table.
fn select(table: &str) -> Result<(String, Columns)> {
    let (key, columns) = match table {
        "users" => ("clerk_user_id", USERS),
        "organizations" => ("clerk_org_id", ORGANIZATIONS),
        "organization_members" => ("clerk_org_id || '/' || clerk_user_id", MEMBERS),
        "organization_invitations" => ("clerk_invitation_id", INVITATIONS),
        "workspaces" => ("id", WORKSPACES),
        _ => return Err(Error::Refused(format!("{table} is not a public table"))),
    };
    let list: Vec<String> = columns.iter().map(|(name, kind)| expression(name, *kind)).collect();
    Ok((format!("SELECT {key}, {} FROM {{s}}{table}", list.join(", ")), columns))
}

/// The columns that a row of a public table is known by.
fn key_columns(table: &str) -> &'static [&'static str] {
    match table {
        "users" => &["clerk_user_id"],
        "organizations" => &["clerk_org_id"],
        "organization_members" => &["clerk_org_id", "clerk_user_id"],
        "organization_invitations" => &["clerk_invitation_id"],
        "workspaces" => &["id"],
        _ => &[],
    }
}

/// A record as its public row would be. Of a user without `workspace_id`, which follows from more than the user.
#[must_use]
pub fn row((record, source): &explain::Row, workspaces: WorkspaceMode, now: Millis) -> Row {
    let time = |at: Option<Millis>| json!(at);
    let (columns, values): (Columns, Vec<Value>) = match record {
        Record::User(user) => {
            let profile = user.profile.clone();
            let name = profile.as_ref().and_then(Profile::name);
            let metadata = profile.as_ref().map_or(Value::Null, |profile| profile.public_metadata.clone());
            let Profile { external_id, username, first_name, last_name, email, image_url, banned, locked, .. } =
                profile.unwrap_or_default();
            let texts = [external_id, username, first_name, last_name, name, email, image_url];
            let mut values: Vec<Value> = texts.into_iter().map(|text| json!(text)).collect();
            values.extend([json!(user.linked_workspace), metadata, json!(banned), json!(locked)]);
            (USERS, values)
        }
        Record::Organization(organization) => {
            let Organization { name, slug, image_url, created_by, settings, .. } = organization;
            let workspace = organization.workspace(workspaces);
            let values = [json!(name), json!(slug), json!(image_url), json!(created_by), json!(workspace)];
            (ORGANIZATIONS, values.into_iter().chain([settings.clone()]).collect())
        }
        Record::Member(member) => {
            let id = member.membership.as_ref().map(ToString::to_string);
            (MEMBERS, vec![json!(id), json!(member.role), json!(member.permissions)])
        }
        Record::Invitation(invitation) => {
            let Invitation { organization, email, role, .. } = invitation;
            let status = invitation.status_at(now);
            (INVITATIONS, vec![json!(organization), json!(email), json!(role), json!(status)])
        }
    };
    let mut times: Vec<Value> = match record {
        Record::User(user) => vec![time(user.created_at), time(user.updated_at)],
        Record::Organization(organization) => vec![time(organization.created_at), time(organization.updated_at)],
        Record::Member(member) => vec![time(member.created_at), time(member.updated_at)],
        Record::Invitation(invitation) => {
            vec![time(invitation.expires_at), time(invitation.created_at), time(invitation.updated_at)]
        }
    };
    times.insert(0, json!(source.as_str()));
    let mut row: Row = columns
        .iter()
        .zip(values.into_iter().chain(times))
        .map(|((name, _), value)| ((*name).to_owned(), value))
        .collect();
    if matches!(record, Record::User(_)) && row["workspace_id"].is_null() {
        row.remove("workspace_id");
    }
    row
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

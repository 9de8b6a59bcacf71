//! The public tables of either database as plain comparable rows.
//!
//! Every column is read as text and understood by what the contract says about it, so that a copy in SQLite and one in
//! PostgreSQL give equal values: JSON is `jsonb` or text, a truth value is `boolean` or 0/1, a time is `timestamptz` or
//! RFC 3339 text with milliseconds. What the contract does not allow (a time in another form, JSON that is not) panics
//! with table, row and column.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr as _;

use jiff::Timestamp;
use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, Row as _, SqliteConnection};

/// A user's row.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// The key.
    pub clerk_user_id: String,
    /// The application's own id for the user.
    pub external_id: Option<String>,
    /// The username.
    pub username: Option<String>,
    /// The first name.
    pub first_name: Option<String>,
    /// The last name.
    pub last_name: Option<String>,
    /// First and last name joined, or the username.
    pub name: Option<String>,
    /// The primary address, or the first verified.
    pub email: Option<String>,
    /// The picture.
    pub image_url: Option<String>,
    /// The linked workspace.
    pub workspace_id: Option<String>,
    /// The public metadata.
    pub public_metadata: Option<Value>,
    /// Whether the user is banned.
    pub banned: Option<bool>,
    /// Whether the user is locked.
    pub locked: Option<bool>,
    /// `webhook`, `api` or `token`.
    pub provenance: Option<String>,
    /// Unix milliseconds.
    pub created_at_ms: Option<i64>,
    /// Unix milliseconds.
    pub updated_at_ms: Option<i64>,
}

/// An organization's row.
#[derive(Clone, Debug, PartialEq)]
pub struct Organization {
    /// The key.
    pub clerk_org_id: String,
    /// The name.
    pub name: Option<String>,
    /// The slug.
    pub slug: Option<String>,
    /// The picture.
    pub image_url: Option<String>,
    /// The user who created it.
    pub created_by: Option<String>,
    /// Its public metadata.
    pub settings: Option<Value>,
    /// The workspace: the linked one, or its own.
    pub workspace_id: Option<String>,
    /// `webhook`, `api` or `token`.
    pub provenance: Option<String>,
    /// Unix milliseconds.
    pub created_at_ms: Option<i64>,
    /// Unix milliseconds.
    pub updated_at_ms: Option<i64>,
}

/// A membership's row.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The organization.
    pub clerk_org_id: String,
    /// The user.
    pub clerk_user_id: String,
    /// Clerk's id of the membership.
    pub clerk_membership_id: Option<String>,
    /// The role in Clerk's own form.
    pub role: Option<String>,
    /// The permissions, as JSON.
    pub permissions: Option<Value>,
    /// `webhook`, `api` or `token`.
    pub provenance: Option<String>,
    /// Unix milliseconds.
    pub created_at_ms: Option<i64>,
    /// Unix milliseconds.
    pub updated_at_ms: Option<i64>,
}

/// An invitation's row.
#[derive(Clone, Debug, PartialEq)]
pub struct Invitation {
    /// The key.
    pub clerk_invitation_id: String,
    /// The organization.
    pub clerk_org_id: Option<String>,
    /// The invited address.
    pub email: Option<String>,
    /// The role in Clerk's own form.
    pub role: Option<String>,
    /// `pending`, `accepted`, `revoked`, …
    pub status: Option<String>,
    /// Unix milliseconds.
    pub expires_at_ms: Option<i64>,
    /// Unix milliseconds.
    pub created_at_ms: Option<i64>,
    /// Unix milliseconds.
    pub updated_at_ms: Option<i64>,
}

/// A workspace's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// The key.
    pub id: String,
    /// The organization that it belongs to, unless it rests.
    pub clerk_org_id: Option<String>,
    /// That organization's name.
    pub name: Option<String>,
    /// Who created that organization.
    pub owner_id: Option<String>,
    /// Unix milliseconds.
    pub ended_at_ms: Option<i64>,
    /// Unix milliseconds.
    pub created_at_ms: Option<i64>,
}

/// A delivery's row of the audit table, without its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What became of it: `applied`, `stale`, `ignored`, `quarantined`, …
    pub outcome: String,
    /// How often it arrived.
    pub attempts: i64,
    /// The event's type, when it could be read.
    pub event_type: Option<String>,
    /// The Clerk id of its subject, when it could be read.
    pub entity_id: Option<String>,
    /// Why it was quarantined.
    pub error: Option<String>,
}

/// The mirrored tables.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tables {
    /// By `clerk_user_id`.
    pub users: BTreeMap<String, User>,
    /// By `clerk_org_id`.
    pub organizations: BTreeMap<String, Organization>,
    /// By `(clerk_org_id, clerk_user_id)`.
    pub members: BTreeMap<(String, String), Member>,
    /// By `clerk_invitation_id`.
    pub invitations: BTreeMap<String, Invitation>,
    /// By `id`.
    pub workspaces: BTreeMap<String, Workspace>,
}

impl Tables {
    /// The same without the workspaces that have ended: they are being deleted.
    #[must_use]
    pub fn without_ended(mut self) -> Self {
        self.workspaces.retain(|_, workspace| workspace.ended_at_ms.is_none());
        self
    }
}

/// Reads the mirrored tables.
///
/// # Panics
/// When the database or a table cannot be read, or holds what the contract does not allow.
pub async fn read(database_url: &str) -> Tables {
    let mut database = Database::open(database_url).await;
    let tables = Tables {
        users: keyed(database.rows(&USERS).await, |user: &User| user.clerk_user_id.clone()),
        organizations: keyed(database.rows(&ORGANIZATIONS).await, |row: &Organization| row.clerk_org_id.clone()),
        members: keyed(database.rows(&MEMBERS).await, |row: &Member| {
            (row.clerk_org_id.clone(), row.clerk_user_id.clone())
        }),
        invitations: keyed(database.rows(&INVITATIONS).await, |row: &Invitation| row.clerk_invitation_id.clone()),
        workspaces: keyed(database.rows(&WORKSPACES).await, |row: &Workspace| row.id.clone()),
    };
    database.close().await;
    tables
}

/// Reads the audit table, by `svix_id`.
///
/// # Panics
/// When the database or the table cannot be read, or holds what the contract does not allow.
pub async fn deliveries(database_url: &str) -> BTreeMap<String, Delivery> {
    let mut database = Database::open(database_url).await;
    let rows: Vec<(String, Delivery)> = database.rows(&DELIVERIES).await;
    database.close().await;
    let count = rows.len();
    let deliveries: BTreeMap<String, Delivery> = rows.into_iter().collect();
    assert_eq!(deliveries.len(), count, "webhook_deliveries holds a svix_id twice");
    deliveries
}

/// How a column is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Time,
}

/// A table, its columns, and how a row becomes a value.
struct Table<T> {
    name: &'static str,
    columns: &'static [(&'static str, Kind)],
    row: fn(&mut Cells) -> T,
}

use Kind::{Plain, Time};

const USERS: Table<User> = Table {
    name: "users",
    columns: &[
        ("clerk_user_id", Plain),
        ("external_id", Plain),
        ("username", Plain),
        ("first_name", Plain),
        ("last_name", Plain),
        ("name", Plain),
        ("email", Plain),
        ("image_url", Plain),
        ("workspace_id", Plain),
        ("public_metadata", Plain),
        ("banned", Plain),
        ("locked", Plain),
        ("provenance", Plain),
        ("created_at", Time),
        ("updated_at", Time),
    ],
    row: |cells| User {
        clerk_user_id: cells.required(),
        external_id: cells.text(),
        username: cells.text(),
        first_name: cells.text(),
        last_name: cells.text(),
        name: cells.text(),
        email: cells.text(),
        image_url: cells.text(),
        workspace_id: cells.text(),
        public_metadata: cells.json(),
        banned: cells.truth(),
        locked: cells.truth(),
        provenance: cells.text(),
        created_at_ms: cells.time(),
        updated_at_ms: cells.time(),
    },
};

const ORGANIZATIONS: Table<Organization> = Table {
    name: "organizations",
    columns: &[
        ("clerk_org_id", Plain),
        ("name", Plain),
        ("slug", Plain),
        ("image_url", Plain),
        ("created_by", Plain),
        ("settings", Plain),
        ("workspace_id", Plain),
        ("provenance", Plain),
        ("created_at", Time),
        ("updated_at", Time),
    ],
    row: |cells| Organization {
        clerk_org_id: cells.required(),
        name: cells.text(),
        slug: cells.text(),
        image_url: cells.text(),
        created_by: cells.text(),
        settings: cells.json(),
        workspace_id: cells.text(),
        provenance: cells.text(),
        created_at_ms: cells.time(),
        updated_at_ms: cells.time(),
    },
};

const MEMBERS: Table<Member> = Table {
    name: "organization_members",
    columns: &[
        ("clerk_org_id", Plain),
        ("clerk_user_id", Plain),
        ("clerk_membership_id", Plain),
        ("role", Plain),
        ("permissions", Plain),
        ("provenance", Plain),
        ("created_at", Time),
        ("updated_at", Time),
    ],
    row: |cells| Member {
        clerk_org_id: cells.required(),
        clerk_user_id: cells.required(),
        clerk_membership_id: cells.text(),
        role: cells.text(),
        permissions: cells.json(),
        provenance: cells.text(),
        created_at_ms: cells.time(),
        updated_at_ms: cells.time(),
    },
};

const WORKSPACES: Table<Workspace> = Table {
    name: "workspaces",
    columns: &[
        ("id", Plain),
        ("clerk_org_id", Plain),
        ("name", Plain),
        ("owner_id", Plain),
        ("ended_at", Time),
        ("created_at", Time),
    ],
    row: |cells| Workspace {
        id: cells.required(),
        clerk_org_id: cells.text(),
        name: cells.text(),
        owner_id: cells.text(),
        ended_at_ms: cells.time(),
        created_at_ms: cells.time(),
    },
};

const INVITATIONS: Table<Invitation> = Table {
    name: "organization_invitations",
    columns: &[
        ("clerk_invitation_id", Plain),
        ("clerk_org_id", Plain),
        ("email", Plain),
        ("role", Plain),
        ("status", Plain),
        ("expires_at", Time),
        ("created_at", Time),
        ("updated_at", Time),
    ],
    row: |cells| Invitation {
        clerk_invitation_id: cells.required(),
        clerk_org_id: cells.text(),
        email: cells.text(),
        role: cells.text(),
        status: cells.text(),
        expires_at_ms: cells.time(),
        created_at_ms: cells.time(),
        updated_at_ms: cells.time(),
    },
};

const DELIVERIES: Table<(String, Delivery)> = Table {
    name: "webhook_deliveries",
    columns: &[
        ("svix_id", Plain),
        ("outcome", Plain),
        ("attempts", Plain),
        ("event_type", Plain),
        ("entity_id", Plain),
        ("error", Plain),
    ],
    row: |cells| {
        let svix_id = cells.required();
        let outcome = cells.required();
        let attempts = cells.integer();
        let delivery =
            Delivery { outcome, attempts, event_type: cells.text(), entity_id: cells.text(), error: cells.text() };
        (svix_id, delivery)
    },
};

enum Database {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Database {
    async fn open(url: &str) -> Database {
        let opened = if url.starts_with("sqlite:") {
            match SqliteConnectOptions::from_str(url) {
                Ok(options) => options.read_only(true).create_if_missing(false).connect().await.map(Database::Sqlite),
                Err(error) => Err(error),
            }
        } else {
            PgConnection::connect(url).await.map(Database::Postgres)
        };
        opened.unwrap_or_else(|error| panic!("open {url}: {error}"))
    }

    async fn close(self) {
        let closed = match self {
            Database::Sqlite(connection) => connection.close().await,
            Database::Postgres(connection) => connection.close().await,
        };
        closed.expect("close the connection");
    }

    async fn rows<T>(&mut self, table: &Table<T>) -> Vec<T> {
        let name = table.name;
        let rows: Result<Vec<Vec<Option<String>>>, sqlx::Error> = match self {
            Database::Sqlite(connection) => {
                let list = list(table.columns, |column, _| format!("CAST({column} AS TEXT)"));
                let sql = AssertSqlSafe(format!("SELECT {list} FROM {name}"));
                let rows = sqlx::query(sql).fetch_all(connection).await;
                rows.and_then(|rows| {
                    rows.iter().map(|row| (0..row.len()).map(|at| row.try_get(at)).collect()).collect()
                })
            }
            Database::Postgres(connection) => {
                let list = list(table.columns, |column, kind| match kind {
                    Plain => format!("{column}::text"),
                    Time => format!(r#"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#),
                });
                let sql = AssertSqlSafe(format!("SELECT {list} FROM faircopy.{name}"));
                let rows = sqlx::query(sql).fetch_all(connection).await;
                rows.and_then(|rows| {
                    rows.iter().map(|row| (0..row.len()).map(|at| row.try_get(at)).collect()).collect()
                })
            }
        };
        let rows = rows.unwrap_or_else(|error| panic!("read {name}: {error}"));
        rows.into_iter()
            .map(|values| (table.row)(&mut Cells { table: name, columns: table.columns, values, at: 0 }))
            .collect()
    }
}

fn list(columns: &[(&'static str, Kind)], show: impl Fn(&str, Kind) -> String) -> String {
    columns.iter().map(|(column, kind)| show(column, *kind)).collect::<Vec<_>>().join(", ")
}

/// One row's values, taken in the order of the table's columns.
struct Cells {
    table: &'static str,
    columns: &'static [(&'static str, Kind)],
    values: Vec<Option<String>>,
    at: usize,
}

impl Cells {
    fn text(&mut self) -> Option<String> {
        self.at += 1;
        self.values[self.at - 1].clone()
    }

    fn required(&mut self) -> String {
        self.text().unwrap_or_else(|| self.refuse("null", "a value"))
    }

    fn integer(&mut self) -> i64 {
        let text = self.required();
        text.parse().unwrap_or_else(|_| self.refuse(&text, "a whole number"))
    }

    fn json(&mut self) -> Option<Value> {
        let text = self.text()?;
        Some(serde_json::from_str(&text).unwrap_or_else(|_| self.refuse(&text, "JSON")))
    }

    fn truth(&mut self) -> Option<bool> {
        let text = self.text()?;
        Some(match text.as_str() {
            "true" | "1" => true,
            "false" | "0" => false,
            _ => self.refuse(&text, "a truth value"),
        })
    }

    fn time(&mut self) -> Option<i64> {
        let text = self.text()?;
        Some(milliseconds(&text).unwrap_or_else(|| self.refuse(&text, "a UTC time with milliseconds")))
    }

    /// Panics about the value that was taken last.
    fn refuse(&self, value: &str, expected: &str) -> ! {
        let (column, _) = self.columns[self.at - 1];
        let key = self.values[0].as_deref().unwrap_or("?");
        panic!("{}.{column} of {key} must be {expected}, it is {value:?}", self.table)
    }
}

/// `2024-05-28T08:00:00.000Z`, or with `.000000` as PostgreSQL shows it, in Unix milliseconds.
fn milliseconds(text: &str) -> Option<i64> {
    let (_, fraction) = text.strip_suffix('Z')?.split_once('.')?;
    if !text.contains('T') || !matches!((fraction.len(), fraction.get(3..)), (3, _) | (6, Some("000"))) {
        return None;
    }
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

fn keyed<K: Ord + fmt::Debug, T>(rows: Vec<T>, key: impl Fn(&T) -> K) -> BTreeMap<K, T> {
    let mut map = BTreeMap::new();
    for row in rows {
        let key = key(&row);
        assert!(!map.contains_key(&key), "the key {key:?} is there twice");
        map.insert(key, row);
    }
    map
}

#[cfg(test)]
mod tests {
    use super::milliseconds;

    #[test]
    fn times_are_utc_with_milliseconds() {
        let check = |text: &str, expected: Option<i64>| assert_eq!(milliseconds(text), expected, "{text}");
        check("2024-05-28T08:00:00.000Z", Some(1_716_883_200_000));
        check("2024-05-28T08:00:00.123000Z", Some(1_716_883_200_123));
        check("1969-12-31T23:59:59.999Z", Some(-1));
        check("2024-05-28T08:00:00Z", None);
        check("2024-05-28T08:00:00.123456Z", None);
        check("2024-05-28 08:00:00.000Z", None);
        check("2024-05-28T08:00:00.000+00:00", None);
    }
}

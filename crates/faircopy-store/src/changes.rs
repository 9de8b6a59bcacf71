//! The change feed: every change of a public row, numbered without gaps in the order of the commits.

use std::sync::Arc;

use faircopy_core::Millis;
use tokio::sync::Notify;

use crate::Store;
use crate::engine::{Call, Hearing, Rows};
use crate::error::Result;

/// Which table a change is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entity {
    User,
    Organization,
    Member,
    Invitation,
    Workspace,
}

impl Entity {
    fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Organization => "organization",
            Self::Member => "member",
            Self::Invitation => "invitation",
            Self::Workspace => "workspace",
        }
    }
}

/// What happened to the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    Put,
    Remove,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Remove => "remove",
        }
    }
}

/// One change. It names the row and does not repeat it: readers read the row as it is now.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[schema(title = "Change", as = Change)]
pub struct Entry {
    /// Its number: each commit's numbers follow those of the commit before, without a gap.
    pub sequence: i64,
    /// `user`, `organization`, `member`, `invitation` or `workspace`.
    #[schema(example = "member")]
    pub entity: String,
    /// The row's id; of a member `<organization>/<user>`.
    pub id: String,
    /// `put` or `remove`.
    #[schema(example = "put")]
    pub operation: String,
    /// When it was committed.
    #[schema(format = DateTime)]
    pub changed_at: String,
}

impl Entry {
    pub(crate) fn of(entity: Entity, id: String, operation: Operation) -> Self {
        Self {
            sequence: 0,
            entity: entity.as_str().into(),
            id,
            operation: operation.as_str().into(),
            changed_at: String::new(),
        }
    }
}

/// The statements that append entries after number `last`, the one that [`Connection::begin`](crate::engine::Connection::begin)
/// returned, and the last number after them.
pub(crate) fn append(last: i64, entries: &[Entry], now: Millis) -> (i64, Vec<Call<'_>>) {
    const INSERT: &str = "INSERT INTO {s}changes (sequence, entity, id, operation, changed_at) {values v.*}";
    if entries.is_empty() {
        return (last, vec![]);
    }
    let newest = last + i64::try_from(entries.len()).unwrap_or(i64::MAX);
    let rows = Rows::new(entries.len())
        .int("sequence", (last + 1..=newest).map(Some))
        .text("entity", entries.iter().map(|entry| Some(entry.entity.as_str())))
        .text("id", entries.iter().map(|entry| Some(entry.id.as_str())))
        .text("operation", entries.iter().map(|entry| Some(entry.operation.as_str())))
        .time("changed_at", entries.iter().map(|_| Some(now)));
    let counter = Call::new("UPDATE {s}feed SET sequence = $1", vec![newest.into()]);
    (newest, vec![Call::over(INSERT, rows), counter])
}

/// The statements that append an entry for each user whom the first of the statements sent with them, `part_0`, writes. The last
/// number after them is what they find; nothing, if no user was really changed.
pub(crate) fn append_written_users(last: i64, now: Millis) -> [Call<'static>; 2] {
    const INSERT: &str = "INSERT INTO {s}changes (sequence, entity, id, operation, changed_at) \
        SELECT $1 + row_number() OVER (), 'user', written.clerk_user_id, 'put', {as-time $2} FROM part_0 AS written";
    const COUNTER: &str = "UPDATE {s}feed SET sequence = $1 + (SELECT count(*) FROM part_0) \
        WHERE EXISTS (SELECT FROM part_0) RETURNING sequence";
    [Call::new(INSERT, vec![last.into(), now.into()]), Call::new(COUNTER, vec![last.into()])]
}

/// Hears other replicas say that the change feed has gone on, until this is dropped. A hint: what is not heard is read all the same.
pub struct Echo(Hearing);

impl Echo {
    /// Whether nothing is heard any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.is_over()
    }
}

impl Store {
    /// Tells the other replicas that the change feed has gone on.
    pub async fn announce(&self) -> Result<()> {
        self.readers.announce().await
    }

    /// Has `heard` told whenever another replica, or this one, announces that the change feed has gone on. `None` where nobody can
    /// be heard: then the feed is to be read now and then.
    pub async fn hear(&self, heard: Arc<Notify>) -> Result<Option<Echo>> {
        Ok(self.address.hear(heard).await?.map(Echo))
    }

    /// The changes after a number, in order, at most `limit`. Nothing before the newest one returned can appear later.
    pub async fn changes_after(&self, sequence: i64, limit: i64) -> Result<Vec<Entry>> {
        let statement = "SELECT sequence, entity, id, operation, {time changed_at} FROM {s}changes \
            WHERE sequence > $1 ORDER BY sequence LIMIT $2";
        let mut entries = Vec::new();
        for row in self.readers.read(statement, vec![sequence.into(), limit.into()]).await? {
            entries.push(Entry {
                sequence: row.int(0)?.unwrap_or_default(),
                entity: row.required(1)?,
                id: row.required(2)?,
                operation: row.required(3)?,
                changed_at: row.required(4)?,
            });
        }
        Ok(entries)
    }

    /// The organizations that these users are in: pairs of user and organization.
    pub async fn organizations_of(&self, users: Vec<String>) -> Result<Vec<(String, String)>> {
        const STATEMENT: &str = "SELECT m.clerk_user_id, m.clerk_org_id FROM {rows} AS v \
            {find organization_members m m.clerk_user_id = v.id}";
        let rows = Rows::new(users.len()).text("id", users.into_iter().map(Some));
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.readers.read_over(STATEMENT, rows).await?;
        found.iter().map(|row| Ok((row.required(0)?, row.required(1)?))).collect()
    }
}

//! What is told to the places that the copy goes on to (docs/decisions/0026-destinations.md): a message for each change, in order per
//! subject, at least once; what a place refuses waits by itself, and holds nobody else up.
//!
//! A message carries the row as it is when it is sent, under the number of the change that asked for it. So whoever keeps the highest
//! number of each subject, and leaves out what is lower, ends with the copy, whatever is sent twice or arrives late.

mod batch;
mod place;
mod schedule;

use serde::Serialize;
use serde_json::{Map, Value};

pub use batch::{Answer, Batch, Settled, Turn, Waiting, compose, settle};
pub use place::{MAX_WAITING, Next, Place, Resend, Sweep};
pub use schedule::{ATTEMPTS, DELAYS_MS, Failure, after_failure};

use crate::time::Millis;

/// Which table a subject is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entity {
    /// `users`.
    User,
    /// `organizations`.
    Organization,
    /// `organization_members`.
    Member,
    /// `organization_invitations`.
    Invitation,
    /// `workspaces`.
    Workspace,
}

impl Entity {
    /// Every one, in the order in which everything is sent again: what others refer to comes first.
    pub const ALL: [Self; 5] = [Self::User, Self::Organization, Self::Workspace, Self::Member, Self::Invitation];

    /// As the change feed and messages name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Organization => "organization",
            Self::Member => "member",
            Self::Invitation => "invitation",
            Self::Workspace => "workspace",
        }
    }

    /// Reads [`Self::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|entity| entity.as_str() == text)
    }
}

/// Whom a change is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// Of which table.
    pub entity: Entity,
    /// The row's id; of a member `<organization>/<user>`.
    pub id: String,
}

impl Subject {
    /// Reads what its [`Display`](std::fmt::Display) shows: `user/user_1`, `member/org_1/user_1`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (entity, id) = text.split_once('/')?;
        Some(Self { entity: Entity::parse(entity)?, id: id.to_owned() })
    }

    /// The columns that the id stands for.
    fn keys(&self) -> Vec<(&'static str, &str)> {
        match self.entity {
            Entity::User => vec![("clerk_user_id", &self.id)],
            Entity::Organization => vec![("clerk_org_id", &self.id)],
            Entity::Invitation => vec![("clerk_invitation_id", &self.id)],
            Entity::Workspace => vec![("id", &self.id)],
            Entity::Member => {
                let (organization, user) = self.id.split_once('/').unwrap_or((&self.id, ""));
                vec![("clerk_org_id", organization), ("clerk_user_id", user)]
            }
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.entity.as_str(), self.id)
    }
}

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// It is there.
    Put,
    /// It is gone.
    Remove,
}

impl Operation {
    /// As the change feed and messages name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Remove => "remove",
        }
    }

    /// Reads [`Self::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Put, Self::Remove].into_iter().find(|operation| operation.as_str() == text)
    }
}

/// A change that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its number; of a row that is sent again, the number at which that began.
    pub sequence: i64,
    /// Whom it is about.
    pub subject: Subject,
    /// What happened.
    pub operation: Operation,
    /// When it was committed; of a row that is sent again, when that began.
    pub changed_at: Millis,
    /// Part of sending everything again.
    pub is_resend: bool,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// A row as it is now.
    Put(Change, Map<String, Value>),
    /// A row that is gone.
    Remove(Change),
    /// Everything was sent again: whatever has a lower number is not in the copy.
    Sweep {
        /// The number at which that began.
        sequence: i64,
        /// When.
        changed_at: Millis,
    },
}

#[derive(Serialize)]
struct Body<'a> {
    sequence: i64,
    entity: &'a str,
    id: &'a str,
    operation: &'a str,
    changed_at: Millis,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    resend: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    row: Option<Columns<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Columns<'a> {
    Object(&'a Map<String, Value>),
    Text(String),
}

/// How a row stands in a message's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowForm {
    /// As an object.
    Object,
    /// As a text that holds the object: for who refuses some names of fields, which metadata may have.
    Text,
}

impl Message {
    /// The message for a change, with the columns of the row as it is now; `None` where there is nothing to be told: a row that is gone
    /// has its removal further down the feed.
    #[must_use]
    pub fn of(change: Change, columns: Option<impl IntoIterator<Item = (String, Value)>>) -> Option<Self> {
        match (change.operation, columns) {
            (Operation::Remove, _) => Some(Self::Remove(change)),
            (Operation::Put, None) => None,
            (Operation::Put, Some(columns)) => {
                let keys = change.subject.keys().into_iter().map(|(name, value)| (name.to_owned(), value.into()));
                let row = keys.chain(columns).collect();
                Some(Self::Put(change, row))
            }
        }
    }

    /// The change that it tells of; a sweep tells of none.
    #[must_use]
    pub fn change(&self) -> Option<&Change> {
        match self {
            Self::Put(change, _) | Self::Remove(change) => Some(change),
            Self::Sweep { .. } => None,
        }
    }

    /// The table that it is about; a sweep is about `all`.
    #[must_use]
    pub fn entity(&self) -> &'static str {
        self.change().map_or("all", |change| change.subject.entity.as_str())
    }

    /// `put`, `remove` or `sweep`.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        self.change().map_or("sweep", |change| change.operation.as_str())
    }

    /// Its id: the same on each attempt, and in every replica. `run` says how often everything was sent so far: the same row is told
    /// anew each time.
    #[must_use]
    pub fn id(&self, destination: &str, run: i64) -> String {
        match self {
            Self::Put(change, _) | Self::Remove(change) if !change.is_resend => {
                format!("{destination}-{}", change.sequence)
            }
            Self::Put(change, _) | Self::Remove(change) => {
                format!("{destination}-{}-{run}-{}", change.sequence, short(&change.subject.to_string()))
            }
            Self::Sweep { sequence, .. } => format!("{destination}-{sequence}-{run}-sweep"),
        }
    }

    /// Its text.
    #[must_use]
    pub fn body(&self, form: RowForm) -> String {
        let columns = |row| match form {
            RowForm::Object => Columns::Object(row),
            RowForm::Text => Columns::Text(serde_json::to_string(row).unwrap_or_default()),
        };
        let body = match self {
            Self::Put(change, row) => Body { row: Some(columns(row)), ..self.head(change) },
            Self::Remove(change) => self.head(change),
            Self::Sweep { sequence, changed_at } => Body {
                sequence: *sequence,
                entity: "",
                id: "",
                operation: self.operation(),
                changed_at: *changed_at,
                resend: false,
                row: None,
            },
        };
        // Texts, numbers and what was JSON before: nothing that has no form.
        serde_json::to_string(&body).unwrap_or_default()
    }

    fn head<'a>(&'a self, change: &'a Change) -> Body<'a> {
        Body {
            sequence: change.sequence,
            entity: change.subject.entity.as_str(),
            id: &change.subject.id,
            operation: self.operation(),
            changed_at: change.changed_at,
            resend: change.is_resend,
            row: None,
        }
    }
}

/// Bytes of a hash that tell the subjects of one resend apart: of a million, no two are the same in a million resends.
const SHORT_BYTES: usize = 12;

fn short(text: &str) -> String {
    use sha2::{Digest as _, Sha256};
    Sha256::digest(text).iter().take(SHORT_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(subject: &str, operation: Operation, is_resend: bool) -> Change {
        let subject = Subject::parse(subject).unwrap();
        Change { sequence: 1042, subject, operation, changed_at: Millis(1_760_000_000_123), is_resend }
    }

    fn columns() -> Option<Vec<(String, Value)>> {
        Some(vec![("role".into(), "org:admin".into())])
    }

    #[test]
    fn a_message_names_its_row_by_its_columns() {
        let put = Message::of(change("member/org_1/user_1", Operation::Put, true), columns()).unwrap();
        let body: Value = serde_json::from_str(&put.body(RowForm::Object)).unwrap();
        let expected = serde_json::json!({
            "sequence": 1042, "entity": "member", "id": "org_1/user_1", "operation": "put", "resend": true,
            "changed_at": "2025-10-09T08:53:20.123Z",
            "row": { "clerk_org_id": "org_1", "clerk_user_id": "user_1", "role": "org:admin" },
        });
        assert_eq!(body, expected);
        let body: Value = serde_json::from_str(&put.body(RowForm::Text)).unwrap();
        assert_eq!(serde_json::from_str::<Value>(body["row"].as_str().unwrap()).unwrap(), expected["row"]);
        let remove = Message::of(change("user/user_1", Operation::Remove, false), columns()).unwrap();
        let expected = r#"{"sequence":1042,"entity":"user","id":"user_1","operation":"remove","changed_at":"2025-10-09T08:53:20.123Z"}"#;
        assert_eq!(remove.body(RowForm::Object), expected);
        let sweep = Message::Sweep { sequence: 7, changed_at: Millis(0) };
        assert_eq!(
            sweep.body(RowForm::Object),
            r#"{"sequence":7,"entity":"","id":"","operation":"sweep","changed_at":"1970-01-01T00:00:00.000Z"}"#
        );
        let gone = Message::of(change("user/user_1", Operation::Put, false), None::<Vec<(String, Value)>>);
        assert_eq!(gone, None, "its removal stands further down");
    }

    #[test]
    fn an_id_is_the_changes_own_and_stays() {
        let id = |subject: &str, is_resend, run| {
            Message::of(change(subject, Operation::Put, is_resend), columns()).unwrap().id("crm", run)
        };
        assert_eq!(id("user/user_1", false, 0), "crm-1042");
        assert_eq!(id("user/user_1", false, 3), "crm-1042", "a change is the same, however often everything was sent");
        assert_eq!(id("user/user_1", true, 3), id("user/user_1", true, 3));
        assert_ne!(id("user/user_1", true, 3), id("user/user_1", true, 4), "what is sent again is told anew");
        assert_ne!(id("user/user_1", true, 3), id("user/user_2", true, 3));
        let sweep = Message::Sweep { sequence: 1042, changed_at: Millis(0) };
        assert_eq!(sweep.id("crm", 2), "crm-1042-2-sweep");
        // What receivers take: printable, without a point, at most 128 characters.
        let longest = id("user/user_1", true, i64::MAX);
        assert!(longest.len() + 32 < 128 && longest.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'.'));
    }

    #[test]
    fn subjects_and_words_are_read_as_they_are_shown() {
        for text in ["user/user_1", "member/org_1/user_1", "invitation/orginv_1", "workspace/w/1", "organization/org_1"]
        {
            assert_eq!(Subject::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Subject::parse("room/1"), None);
        assert_eq!(Operation::parse("remove"), Some(Operation::Remove));
        assert_eq!(Operation::parse("sweep"), None, "no change of a row");
    }
}

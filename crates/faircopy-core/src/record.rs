//! What is mirrored: the columns of the public tables (contract.md, section 4), and when a snapshot is newer.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::WorkspaceMode;
use crate::id::{InvitationId, MembershipId, OrganizationId, UserId};
use crate::payload::WORKSPACE_LINKS;
use crate::time::Millis;

/// The longest text of one column, in characters. Clerk's own limits are far below; a longer one is cut, and its whole
/// stands in the stored delivery.
pub const MAX_TEXT: usize = 4096;

/// Where a row's content came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Provenance {
    /// A session token: provisional.
    Token,
    /// Clerk's Backend API.
    Api,
    /// A signed delivery.
    Webhook,
}

impl Provenance {
    /// As the `provenance` column holds it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Api => "api",
            Self::Webhook => "webhook",
        }
    }
}

/// Which of two snapshots of one subject is newer: by Clerk's `updated_at`, then by the time of the event, then by the
/// hash of the content, so that every replica decides alike (merge.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// The object's own `updated_at`.
    pub updated_at: Millis,
    /// When the event happened, or the object was read.
    pub event_at: Millis,
    /// The first eight bytes of the SHA-256 of the canonical projected content.
    pub hash: i64,
}

impl Stamp {
    /// Whether both carry the same content at the same `updated_at`.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        (self.updated_at, self.hash) == (other.updated_at, other.hash)
    }
}

/// One generation of a membership: the order in which a person joined one organization again and again.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Generation {
    /// When this membership was created.
    pub created_at: Millis,
    /// Its id, which decides between two of the same millisecond.
    pub id: MembershipId,
}

/// A user's row. In minimal mode all but the ids, the link and the times are `None`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// `clerk_user_id`.
    pub id: UserId,
    /// The profile; `None` in minimal mode.
    pub profile: Option<Profile>,
    /// The workspace that the user's public metadata names.
    pub linked_workspace: Option<String>,
    /// `None` where only a part of the user is known.
    pub created_at: Option<Millis>,
    /// `None` where only a part of the user is known.
    pub updated_at: Option<Millis>,
}

/// The profile columns of `users`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Profile {
    /// The application's own id for the user.
    pub external_id: Option<String>,
    /// `username`.
    pub username: Option<String>,
    /// `first_name`.
    pub first_name: Option<String>,
    /// `last_name`.
    pub last_name: Option<String>,
    /// The primary address, or the first verified one.
    pub email: Option<String>,
    /// `image_url`.
    pub image_url: Option<String>,
    /// `public_metadata`; an object, empty where Clerk sent none.
    pub public_metadata: Value,
    /// `banned`; `None` where Clerk did not say.
    pub banned: Option<bool>,
    /// `locked`; `None` where Clerk did not say.
    pub locked: Option<bool>,
}

impl Profile {
    /// First and last name joined, or the username, or nothing.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        let parts: Vec<&str> = [&self.first_name, &self.last_name]
            .into_iter()
            .flatten()
            .map(|part| part.trim())
            .filter(|part| !part.is_empty())
            .collect();
        if parts.is_empty() { self.username.clone() } else { Some(parts.join(" ")) }
    }
}

/// An organization's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Organization {
    /// `clerk_org_id`.
    pub id: OrganizationId,
    /// `name`.
    pub name: Option<String>,
    /// `slug`; never a key: instances made since October 2025 have none by default.
    pub slug: Option<String>,
    /// `image_url`.
    pub image_url: Option<String>,
    /// The user who created it.
    pub created_by: Option<String>,
    /// Its public metadata; an object, empty where Clerk sent none.
    pub settings: Value,
    /// `None` for a placeholder.
    pub created_at: Option<Millis>,
    /// `None` for a placeholder.
    pub updated_at: Option<Millis>,
}

impl Organization {
    /// The workspace that this organization's public metadata names.
    #[must_use]
    pub fn linked_workspace(&self) -> Option<String> {
        workspace_link(&self.settings)
    }

    /// `workspace_id`: that one, or else what the mode gives.
    #[must_use]
    pub fn workspace(&self, mode: WorkspaceMode) -> Option<String> {
        mode.workspace_of(&self.id, self.linked_workspace())
    }
}

/// A member's row: the effective membership of one pair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// `clerk_org_id`.
    pub organization: OrganizationId,
    /// `clerk_user_id`.
    pub user: UserId,
    /// `clerk_membership_id`; `None` while only a token speaks for the pair.
    pub membership: Option<MembershipId>,
    /// In Clerk's own form: `org:admin`, `org:member`, custom.
    pub role: Option<String>,
    /// The role's permissions.
    pub permissions: Vec<String>,
    /// `None` while only a token speaks for the pair.
    pub created_at: Option<Millis>,
    /// `None` while only a token speaks for the pair.
    pub updated_at: Option<Millis>,
}

/// An invitation's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// `clerk_invitation_id`.
    pub id: InvitationId,
    /// `clerk_org_id`.
    pub organization: OrganizationId,
    /// `None` in minimal mode.
    pub email: Option<String>,
    /// The role that accepting gives.
    pub role: Option<String>,
    /// As Clerk sent it; see [`Invitation::status_at`].
    pub status: String,
    /// When it stops being good.
    pub expires_at: Option<Millis>,
    /// `created_at`.
    pub created_at: Option<Millis>,
    /// `updated_at`.
    pub updated_at: Option<Millis>,
}

/// What Clerk calls an invitation that waits for an answer.
pub const PENDING: &str = "pending";
/// What Clerk calls an invitation whose time has passed. No event says so: it is derived.
pub const EXPIRED: &str = "expired";

impl Invitation {
    /// The status at a given time: a pending invitation expires without an event.
    #[must_use]
    pub fn status_at(&self, now: Millis) -> &str {
        let late = self.status == PENDING && self.expires_at.is_some_and(|at| at <= now);
        if late { EXPIRED } else { &self.status }
    }
}

/// The workspace named by public metadata: the first of [`WORKSPACE_LINKS`] that is a non-empty string.
#[must_use]
pub fn workspace_link(metadata: &Value) -> Option<String> {
    WORKSPACE_LINKS.iter().find_map(|key| metadata.get(key)?.as_str().filter(|link| !link.is_empty())).map(column_text)
}

/// A text as a column holds it: without NUL, which Postgres cannot store, and at most [`MAX_TEXT`] characters.
#[must_use]
pub fn column_text(text: &str) -> String {
    let plain = text.len() <= MAX_TEXT && !text.contains('\0');
    if plain { text.to_owned() } else { text.chars().filter(|&c| c != '\0').take(MAX_TEXT).collect() }
}

/// A JSON value as a column holds it: without NUL in any text.
#[must_use]
pub fn column_json(value: Value) -> Value {
    match value {
        Value::String(text) if text.contains('\0') => Value::String(text.replace('\0', "")),
        Value::Array(items) => items.into_iter().map(column_json).collect(),
        Value::Object(entries) => {
            entries.into_iter().map(|(key, value)| (key.replace('\0', ""), column_json(value))).collect()
        }
        other => other,
    }
}

/// The content of a row, hashed. Each part is written with its length, so that no two contents share a text.
#[derive(Default)]
pub(crate) struct ContentHash(Sha256);

impl ContentHash {
    pub(crate) fn text(mut self, text: Option<&str>) -> Self {
        match text {
            None => self.0.update([0]),
            Some(text) => {
                self.0.update([1]);
                self.0.update((text.len() as u64).to_le_bytes());
                self.0.update(text);
            }
        }
        self
    }

    pub(crate) fn json(self, value: &Value) -> Self {
        // serde_json keeps an object's keys in order, so equal values have one text.
        let text =
            if value.as_object().is_some_and(serde_json::Map::is_empty) { "{}".into() } else { value.to_string() };
        self.text(Some(&text))
    }

    pub(crate) fn number(mut self, number: Option<i64>) -> Self {
        self.0.update([u8::from(number.is_some())]);
        self.0.update(number.unwrap_or_default().to_le_bytes());
        self
    }

    pub(crate) fn finish(self) -> i64 {
        let digest = self.0.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        i64::from_le_bytes(first)
    }
}

impl User {
    pub(crate) fn content_hash(&self) -> i64 {
        let hash = ContentHash::default().text(self.linked_workspace.as_deref()).number(self.created_at.map(|at| at.0));
        match &self.profile {
            None => hash.finish(),
            Some(profile) => hash
                .text(profile.external_id.as_deref())
                .text(profile.username.as_deref())
                .text(profile.first_name.as_deref())
                .text(profile.last_name.as_deref())
                .text(profile.email.as_deref())
                .text(profile.image_url.as_deref())
                .json(&profile.public_metadata)
                .number(profile.banned.map(i64::from))
                .number(profile.locked.map(i64::from))
                .finish(),
        }
    }
}

impl Organization {
    pub(crate) fn content_hash(&self) -> i64 {
        ContentHash::default()
            .text(self.name.as_deref())
            .text(self.slug.as_deref())
            .text(self.image_url.as_deref())
            .text(self.created_by.as_deref())
            .json(&self.settings)
            .number(self.created_at.map(|at| at.0))
            .finish()
    }
}

impl Member {
    pub(crate) fn content_hash(&self) -> i64 {
        let hash = ContentHash::default()
            .text(self.membership.as_ref().map(MembershipId::as_str))
            .text(self.role.as_deref())
            .number(self.created_at.map(|at| at.0));
        self.permissions.iter().fold(hash, |hash, permission| hash.text(Some(permission))).finish()
    }
}

impl Invitation {
    pub(crate) fn content_hash(&self) -> i64 {
        ContentHash::default()
            .text(Some(self.organization.as_str()))
            .text(self.email.as_deref())
            .text(self.role.as_deref())
            .text(Some(&self.status))
            .number(self.expires_at.map(|at| at.0))
            .number(self.created_at.map(|at| at.0))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_is_first_and_last_or_the_username() {
        let check = |first: Option<&str>, last: Option<&str>, username: Option<&str>, expected: Option<&str>| {
            let profile = Profile {
                first_name: first.map(Into::into),
                last_name: last.map(Into::into),
                username: username.map(Into::into),
                ..Profile::default()
            };
            assert_eq!(profile.name().as_deref(), expected);
        };
        check(Some("Ada"), Some("Lovelace"), Some("ada"), Some("Ada Lovelace"));
        check(Some("Ada"), None, Some("ada"), Some("Ada"));
        check(None, Some(""), Some("ada"), Some("ada"));
        check(None, None, None, None);
    }

    #[test]
    fn the_link_is_the_first_non_empty_text() {
        let check =
            |metadata: Value, expected: Option<&str>| assert_eq!(workspace_link(&metadata).as_deref(), expected);
        check(json!({"workspaceId": "a", "convexWorkspaceId": "b"}), Some("a"));
        check(json!({"workspaceId": "", "convexWorkspaceId": "b"}), Some("b"));
        check(json!({"workspaceId": 7}), None);
        check(json!(null), None);
    }

    #[test]
    fn columns_hold_no_nul_and_no_endless_text() {
        assert_eq!(column_text("a\0b"), "ab");
        assert_eq!(column_text(&"é".repeat(5000)).chars().count(), MAX_TEXT);
        assert_eq!(column_json(json!({"a\u{0}": ["\u{0}x"]})), json!({"a": ["x"]}));
    }

    #[test]
    fn a_pending_invitation_expires_by_itself() {
        let invitation = |status: &str| Invitation {
            id: InvitationId::parse("orginv_1").unwrap(),
            organization: OrganizationId::parse("org_1").unwrap(),
            email: None,
            role: None,
            status: status.into(),
            expires_at: Some(Millis(10)),
            created_at: None,
            updated_at: None,
        };
        assert_eq!(invitation("pending").status_at(Millis(9)), "pending");
        assert_eq!(invitation("pending").status_at(Millis(10)), "expired");
        assert_eq!(invitation("accepted").status_at(Millis(10)), "accepted");
    }
}

//! What a verified token says: who is signed in, and in which organization.

use serde_json::{Map, Value};

use crate::event::{Fact, Observation};
use crate::id::{OrganizationId, UserId};
use crate::record::{Member, Organization, Provenance, Stamp, User, column_text};
use crate::time::Millis;

/// A session that was good when it was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// `sub`: who is signed in.
    pub user: UserId,
    /// `sid`: the session's own id.
    pub id: Option<String>,
    /// The organization that is active in the session.
    pub organization: Option<ActiveOrganization>,
    /// `iat`.
    pub issued_at: Millis,
    /// `exp`. The token is still taken for the leeway after it.
    pub expires_at: Millis,
    /// `azp`: the origin that the token was made for.
    pub authorized_party: Option<String>,
    /// `act.sub`: who really sits there, when someone impersonates the user.
    pub actor: Option<String>,
    /// `sts` is `pending`: the user has signed up and has still something to do, such as joining an organization.
    pub is_pending: bool,
}

/// The organization that is active in a session, and what the user may do there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveOrganization {
    /// Its id.
    pub id: OrganizationId,
    /// In Clerk's own form, whatever the version: `org:admin`.
    pub role: Option<String>,
    /// Its slug, where organizations have one.
    pub slug: Option<String>,
    /// `org:<feature>:<permission>`. System permissions are never in a token.
    pub permissions: Vec<String>,
    /// See [`Grants::ambiguous`](super::permissions::Grants::ambiguous).
    pub is_ambiguous: bool,
}

impl Session {
    /// What the token says about the source, the user first: parts of a user and of an organization, which fill a gap,
    /// and a word for the pair, which counts until a deletion that is as late as the token (merge.md).
    #[must_use]
    pub fn observations(&self) -> Vec<Observation> {
        let mut facts = vec![self.part_of_user()];
        if let Some(active) = &self.organization {
            facts.push(self.part_of_organization(active));
            facts.push(self.token_member(active));
        }
        let source = Provenance::Token;
        facts.into_iter().map(|fact| Observation { source, fact }).collect()
    }

    fn part_of_user(&self) -> Fact {
        let user =
            User { id: self.user.clone(), profile: None, linked_workspace: None, created_at: None, updated_at: None };
        let stamp = self.stamp(user.content_hash());
        Fact::PartOfUser(user, stamp)
    }

    fn part_of_organization(&self, active: &ActiveOrganization) -> Fact {
        let organization = Organization {
            id: active.id.clone(),
            name: None,
            slug: active.slug.as_deref().map(column_text),
            image_url: None,
            created_by: None,
            settings: Value::Object(Map::new()),
            created_at: None,
            updated_at: None,
        };
        let stamp = self.stamp(organization.content_hash());
        Fact::PartOfOrganization(organization, stamp)
    }

    fn token_member(&self, active: &ActiveOrganization) -> Fact {
        let member = Member {
            organization: active.id.clone(),
            user: self.user.clone(),
            membership: None,
            role: active.role.as_deref().map(column_text),
            permissions: active.permissions.iter().map(|permission| column_text(permission)).collect(),
            created_at: None,
            updated_at: None,
        };
        Fact::TokenMember(member, self.issued_at)
    }

    /// A token knows no version of what it names. It is older than any part that a delivery has embedded, which says
    /// more (the user's name), and never takes its place.
    fn stamp(&self, hash: i64) -> Stamp {
        Stamp { updated_at: Millis::default(), event_at: self.issued_at, hash }
    }
}

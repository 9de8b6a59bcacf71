//! Rows that only a session token speaks for, to be confirmed by a read of Clerk; and what a listing of Clerk is compared
//! with.

use faircopy_core::id::{OrganizationId, UserId};

use crate::Store;
use crate::engine::{Row, Value};
use crate::error::{Error, Result};

/// One organization and one user.
pub type Pair = (OrganizationId, UserId);

/// Rows whose provenance is a token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provisional {
    /// In the order of their ids, after the one that was named.
    pub users: Vec<UserId>,
    /// As the users.
    pub organizations: Vec<OrganizationId>,
    /// In the order of the organizations and then of the users, after the one that was named.
    pub members: Vec<Pair>,
}

impl Provisional {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.organizations.is_empty() && self.members.is_empty()
    }
}

/// Whose memberships.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of<'a> {
    /// Those of a user.
    User(&'a UserId),
    /// Those of an organization.
    Organization(&'a OrganizationId),
}

impl Store {
    /// The provisional rows of each kind that come after the last ones of an earlier answer, at most `limit` of a kind.
    pub async fn provisional(&self, after: &Provisional, limit: usize) -> Result<Provisional> {
        const USERS: &str = "SELECT clerk_user_id FROM {s}users WHERE provenance = 'token' AND clerk_user_id > $1 \
            ORDER BY clerk_user_id LIMIT $2";
        const ORGANIZATIONS: &str = "SELECT clerk_org_id FROM {s}organizations WHERE provenance = 'token' \
            AND clerk_org_id > $1 ORDER BY clerk_org_id LIMIT $2";
        const MEMBERS: &str = "SELECT clerk_org_id, clerk_user_id FROM {s}organization_members \
            WHERE provenance = 'token' AND (clerk_org_id, clerk_user_id) > ($1, $2) \
            ORDER BY clerk_org_id, clerk_user_id LIMIT $3";
        let limit = Value::from(i64::try_from(limit).unwrap_or(i64::MAX));
        let user = after.users.last().map_or("", UserId::as_str);
        let organization = after.organizations.last().map_or("", OrganizationId::as_str);
        let (first, second) = after.members.last().map_or(("", ""), |(o, u)| (o.as_str(), u.as_str()));
        let users = self.readers.read(USERS, vec![user.into(), limit.clone()]).await?;
        let organizations = self.readers.read(ORGANIZATIONS, vec![organization.into(), limit.clone()]).await?;
        let members = self.readers.read(MEMBERS, vec![first.into(), second.into(), limit]).await?;
        Ok(Provisional {
            users: users.iter().map(|row| user_id(row, 0)).collect::<Result<_>>()?,
            organizations: organizations.iter().map(|row| organization_id(row, 0)).collect::<Result<_>>()?,
            members: members.iter().map(pair).collect::<Result<_>>()?,
        })
    }

    /// The pairs of a user or an organization that the copy shows, at most `limit`.
    pub async fn pairs(&self, of: Of<'_>, limit: usize) -> Result<Vec<Pair>> {
        const OF_USER: &str = "SELECT clerk_org_id, clerk_user_id FROM {s}organization_members \
            WHERE clerk_user_id = $1 LIMIT $2";
        const OF_ORGANIZATION: &str = "SELECT clerk_org_id, clerk_user_id FROM {s}organization_members \
            WHERE clerk_org_id = $1 LIMIT $2";
        let (statement, id) = match of {
            Of::User(id) => (OF_USER, id.as_str()),
            Of::Organization(id) => (OF_ORGANIZATION, id.as_str()),
        };
        let limit = Value::from(i64::try_from(limit).unwrap_or(i64::MAX));
        self.readers.read(statement, vec![id.into(), limit]).await?.iter().map(pair).collect()
    }

    /// Whether the copy shows a user.
    pub async fn has_user(&self, id: &UserId) -> Result<bool> {
        const STATEMENT: &str = "SELECT clerk_user_id FROM {s}users WHERE clerk_user_id = $1";
        Ok(!self.readers.read(STATEMENT, vec![id.as_str().into()]).await?.is_empty())
    }

    /// Whether the copy shows the membership of a pair.
    pub async fn has_member(&self, pair: &Pair) -> Result<bool> {
        const STATEMENT: &str =
            "SELECT clerk_org_id FROM {s}organization_members WHERE clerk_org_id = $1 AND clerk_user_id = $2";
        let rows = self.readers.read(STATEMENT, vec![pair.0.as_str().into(), pair.1.as_str().into()]).await?;
        Ok(!rows.is_empty())
    }
}

pub(crate) fn pair(row: &Row) -> Result<Pair> {
    Ok((organization_id(row, 0)?, user_id(row, 1)?))
}

fn user_id(row: &Row, column: usize) -> Result<UserId> {
    let text = row.required(column)?;
    UserId::parse(&text).map_err(|_| Error::Corrupt { table: "users", column: "clerk_user_id", row: text })
}

fn organization_id(row: &Row, column: usize) -> Result<OrganizationId> {
    let text = row.required(column)?;
    OrganizationId::parse(&text).map_err(|_| Error::Corrupt {
        table: "organizations",
        column: "clerk_org_id",
        row: text,
    })
}

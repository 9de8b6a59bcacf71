//! The copy as applications read it: one user, one organization, pages of members and memberships.

use std::sync::LazyLock;

use faircopy_core::id::UserId;

use crate::caller::Statements;
use crate::engine::{Row, Rows};
use crate::error::Result;
use crate::standing::permissions;
use crate::{Caller, Store};

/// A whole row of `users`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, utoipa::ToSchema)]
#[schema(title = "User")]
pub struct UserRecord {
    /// Whose it is.
    #[schema(example = "user_29w83sxmDNGwOuEthce5gg56FcC")]
    pub clerk_user_id: String,
    /// The application's own id for the user.
    pub external_id: Option<String>,
    /// `username`.
    pub username: Option<String>,
    /// `first_name`.
    pub first_name: Option<String>,
    /// `last_name`.
    pub last_name: Option<String>,
    /// First and last name joined, or the username. In the minimal profile mode as Clerk has it, or else the id.
    pub name: Option<String>,
    /// `true` where nobody could say a name and `name` is the user's id: only in the minimal profile mode. Left out otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub name_is_id: bool,
    /// The primary address, or the first verified one.
    pub email: Option<String>,
    /// `image_url`.
    pub image_url: Option<String>,
    /// From the public metadata, or of the oldest membership.
    pub workspace_id: Option<String>,
    /// The user's public metadata.
    #[schema(value_type = Object, nullable)]
    pub public_metadata: Option<serde_json::Value>,
    /// Whether the user is banned.
    pub banned: Option<bool>,
    /// Whether the user is locked.
    pub locked: Option<bool>,
    /// `webhook`, `api` or `token`.
    #[schema(example = "webhook")]
    pub provenance: String,
    /// RFC 3339.
    #[schema(format = DateTime)]
    pub created_at: Option<String>,
    /// RFC 3339.
    #[schema(format = DateTime)]
    pub updated_at: Option<String>,
}

/// A user as those see them who share an organization with them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Person {
    /// Who it is.
    #[schema(example = "user_29w83sxmDNGwOuEthce5gg56FcC")]
    pub clerk_user_id: String,
    /// `username`.
    pub username: Option<String>,
    /// `first_name`.
    pub first_name: Option<String>,
    /// `last_name`.
    pub last_name: Option<String>,
    /// First and last name joined, or the username. In the minimal profile mode as Clerk has it, or else the id.
    pub name: Option<String>,
    /// `true` where nobody could say a name and `name` is the user's id: only in the minimal profile mode. Left out otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub name_is_id: bool,
    /// The primary address, or the first verified one.
    pub email: Option<String>,
    /// `image_url`.
    pub image_url: Option<String>,
    /// RFC 3339.
    #[schema(format = DateTime)]
    pub created_at: Option<String>,
    /// RFC 3339.
    #[schema(format = DateTime)]
    pub updated_at: Option<String>,
}

/// A whole row of `organizations`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, utoipa::ToSchema)]
#[schema(title = "Organization")]
pub struct OrganizationRecord {
    /// Its id.
    #[schema(example = "org_29w9IfBrPmcpi0IeBVaKtA7R94W")]
    pub clerk_org_id: String,
    /// `null` until a delivery names it, where only a token is known.
    pub name: Option<String>,
    /// `slug`.
    pub slug: Option<String>,
    /// `image_url`.
    pub image_url: Option<String>,
    /// The user who created it.
    pub created_by: Option<String>,
    /// Its public metadata.
    #[schema(value_type = Object, nullable)]
    pub settings: Option<serde_json::Value>,
    /// The workspace that the public metadata names.
    pub workspace_id: Option<String>,
    /// `webhook`, `api` or `token`.
    #[schema(example = "webhook")]
    pub provenance: String,
    /// RFC 3339.
    #[schema(format = DateTime)]
    pub created_at: Option<String>,
    /// RFC 3339.
    #[schema(format = DateTime)]
    pub updated_at: Option<String>,
}

/// The workspace of an organization, with what is in it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[schema(title = "Workspace", as = Workspace)]
pub struct WorkspaceRecord {
    /// Its id; where no workspace is kept (docs/workspaces.md) the one that the organization's public metadata names.
    pub id: Option<String>,
    /// The organization that it belongs to. A linked one may be shared by others.
    #[schema(example = "org_29w9IfBrPmcpi0IeBVaKtA7R94W")]
    pub clerk_org_id: String,
    /// That organization's name.
    pub name: Option<String>,
    /// Who created that organization.
    pub owner_id: Option<String>,
    /// RFC 3339.
    #[schema(format = DateTime)]
    pub created_at: Option<String>,
    /// The caller's: `owner` for whom has the role `org:admin` in the active organization, or else `member`.
    #[schema(example = "owner")]
    pub role: String,
    /// In the order of their creation, at most 1,000.
    #[schema(max_items = 1000)]
    pub channels: Vec<Channel>,
    /// There are more.
    pub channels_truncated: bool,
    /// In the order of their creation, at most 1,000.
    #[schema(max_items = 1000)]
    pub rooms: Vec<Room>,
    /// There are more.
    pub rooms_truncated: bool,
}

/// A row of `channels`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Channel {
    /// Of the application's choosing.
    #[schema(example = "org_29w9IfBrPmcpi0IeBVaKtA7R94W:general")]
    pub id: String,
    /// `name`.
    #[schema(example = "general")]
    pub name: String,
    /// RFC 3339.
    #[schema(format = DateTime)]
    pub created_at: String,
}

/// A row of `rooms`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Room {
    /// Of the application's choosing.
    #[schema(example = "roadmap")]
    pub id: String,
    /// `name`.
    pub name: String,
    /// `document`, `code`, `whiteboard` or `conference`.
    #[schema(example = "document")]
    pub kind: String,
    /// RFC 3339.
    #[schema(format = DateTime)]
    pub created_at: String,
}

/// How many channels, and how many rooms, are told of a workspace: more than anybody looks at at once, and less than 200 kB.
/// Whoever has more reads the tables.
const MAX_LISTED: usize = 1_000;
/// The role that owns a workspace.
const OWNING_ROLE: &str = "org:admin";

/// The workspace `w` of an organization `o`, unless it has ended: its own, or the linked one that it shares.
const OF_ORGANIZATION: &str = "w.ended_at IS NULL AND (w.clerk_org_id = o.clerk_org_id \
    OR (w.id = o.workspace_id AND w.is_linked AND w.clerk_org_id IS NOT NULL))";

/// A membership, with what a list shows of its other side: of the user where an organization's members are listed, of
/// the organization where a user's memberships are.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Membership {
    /// The organization.
    #[schema(example = "org_29w9IfBrPmcpi0IeBVaKtA7R94W")]
    pub clerk_org_id: String,
    /// The user.
    #[schema(example = "user_29w83sxmDNGwOuEthce5gg56FcC")]
    pub clerk_user_id: String,
    /// `null` while only a token speaks for it.
    pub clerk_membership_id: Option<String>,
    /// In Clerk's own form: `org:admin`.
    #[schema(example = "org:admin")]
    pub role: Option<String>,
    /// The role's permissions.
    pub permissions: Vec<String>,
    /// The user's, or the organization's. The user's in the minimal profile mode as Clerk has it, or else the id.
    pub name: Option<String>,
    /// `true` where nobody could say a name and `name` is the user's id: only in the minimal profile mode. Left out otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub name_is_id: bool,
    /// The user's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The organization's slug.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slug: Option<String>,
    /// The user's, or the organization's.
    pub image_url: Option<String>,
    /// `webhook`, `api` or `token`.
    #[schema(example = "webhook")]
    pub provenance: String,
    /// RFC 3339.
    #[schema(format = DateTime)]
    pub created_at: Option<String>,
    /// RFC 3339.
    #[schema(format = DateTime)]
    pub updated_at: Option<String>,
}

/// The columns of both lists, before what they show of the other side: name, address, slug, picture.
pub(crate) const MEMBERSHIP: &str = "m.clerk_org_id, m.clerk_user_id, m.clerk_membership_id, m.role, {text m.permissions}, \
    m.provenance, {time m.created_at}, {time m.updated_at}";

/// The columns of a [`UserRecord`].
pub(crate) const USER: &str = "u.clerk_user_id, u.external_id, u.username, u.first_name, u.last_name, u.name, u.email, \
    u.image_url, u.workspace_id, {text u.public_metadata}, u.banned, u.locked, u.provenance, {time u.created_at}, \
    {time u.updated_at}";

/// The columns of an [`OrganizationRecord`].
pub(crate) const ORGANIZATION: &str = "o.clerk_org_id, o.name, o.slug, o.image_url, o.created_by, {text o.settings}, \
    o.workspace_id, o.provenance, {time o.created_at}, {time o.updated_at}";

/// The columns of a [`Person`].
const PERSON: &str = "u.clerk_user_id, u.username, u.first_name, u.last_name, u.name, u.email, u.image_url, \
    {time u.created_at}, {time u.updated_at}";

/// Every read is for a caller, and holds him to what he may see by itself: the first wall. The second is
/// [`Store::read_for`]'s.
impl Store {
    /// The caller's own record.
    pub async fn user(&self, caller: &Caller) -> Result<Option<UserRecord>> {
        static STATEMENT: LazyLock<String> =
            LazyLock::new(|| format!("SELECT {USER} FROM {{s}}users u WHERE u.clerk_user_id = $1"));
        let rows = self.read_for(caller, &STATEMENT, vec![caller.user.as_str().into()]).await?;
        rows.first().map(user).transpose()
    }

    /// A user whom the caller may see: himself, or a member of an organization that he is a member of. Whoever may not be
    /// seen and whoever does not exist are the same: `None`.
    pub async fn person(&self, caller: &Caller, id: &UserId) -> Result<Option<Person>> {
        static PLAIN: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT {PERSON} FROM {{s}}users u WHERE u.clerk_user_id = $1 \
                 AND (u.clerk_user_id = $2 OR EXISTS (SELECT 1 FROM {{s}}organization_members theirs \
                 JOIN {{s}}organization_members ours ON ours.clerk_org_id = theirs.clerk_org_id \
                 WHERE theirs.clerk_user_id = $1 AND ours.clerk_user_id = $2))"
            )
        });
        static WALLED: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT {PERSON} FROM {{s}}users u WHERE u.clerk_user_id = $1 \
                 AND (u.clerk_user_id = $2 OR u.clerk_user_id IN (SELECT {{s}}current_colleagues()))"
            )
        });
        let statements = Statements { plain: &PLAIN, walled: &WALLED };
        let rows = self.read_behind(caller, statements, vec![id.as_str().into(), caller.user.as_str().into()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        Ok(Some(Person {
            clerk_user_id: row.required(0)?,
            username: row.text(1)?,
            first_name: row.text(2)?,
            last_name: row.text(3)?,
            name: row.text(4)?,
            name_is_id: false,
            email: row.text(5)?,
            image_url: row.text(6)?,
            created_at: row.text(7)?,
            updated_at: row.text(8)?,
        }))
    }

    /// The caller's active organization, if he is a member of it; any other is `None`, as one that does not exist.
    pub async fn organization(&self, caller: &Caller) -> Result<Option<OrganizationRecord>> {
        static STATEMENT: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT {ORGANIZATION} FROM {{s}}organizations o \
                 JOIN {{s}}organization_members m ON m.clerk_org_id = o.clerk_org_id \
                 WHERE o.clerk_org_id = $1 AND m.clerk_user_id = $2"
            )
        });
        let Some(id) = &caller.organization else { return Ok(None) };
        let rows = self.read_for(caller, &STATEMENT, vec![id.as_str().into(), caller.user.as_str().into()]).await?;
        rows.first().map(organization).transpose()
    }

    /// The workspace of the caller's active organization, if he is a member of it, with its channels and rooms. Where there is
    /// none, or none any more, what the organization itself says.
    pub async fn workspace(&self, caller: &Caller) -> Result<Option<WorkspaceRecord>> {
        static STATEMENT: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT w.id, COALESCE(w.id, o.workspace_id), COALESCE(w.clerk_org_id, o.clerk_org_id), \
                 CASE WHEN w.id IS NULL THEN o.name ELSE w.name END, \
                 CASE WHEN w.id IS NULL THEN o.created_by ELSE w.owner_id END, \
                 COALESCE({{time w.created_at}}, {{time o.created_at}}), m.role \
                 FROM {{s}}organizations o JOIN {{s}}organization_members m ON m.clerk_org_id = o.clerk_org_id \
                 LEFT JOIN {{s}}workspaces w ON {OF_ORGANIZATION} \
                 WHERE o.clerk_org_id = $1 AND m.clerk_user_id = $2 \
                 ORDER BY CASE WHEN w.clerk_org_id = o.clerk_org_id THEN 0 ELSE 1 END LIMIT 1"
            )
        });
        static CHANNELS: LazyLock<String> = LazyLock::new(|| below("channels", "b.id, b.name, {time b.created_at}"));
        static ROOMS: LazyLock<String> = LazyLock::new(|| below("rooms", "b.id, b.name, b.kind, {time b.created_at}"));
        let Some(organization) = &caller.organization else { return Ok(None) };
        let (organization, user) = (organization.as_str(), caller.user.as_str());
        let rows = self.read_for(caller, &STATEMENT, vec![organization.into(), user.into()]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let (mut channels, mut rooms) = (Vec::new(), Vec::new());
        if let Some(id) = row.text(0)? {
            let one_more = i64::try_from(MAX_LISTED + 1).unwrap_or(i64::MAX);
            let scalars = || vec![organization.into(), user.into(), id.as_str().into(), one_more.into()];
            for row in self.read_for(caller, &CHANNELS, scalars()).await? {
                channels.push(Channel { id: row.required(0)?, name: row.required(1)?, created_at: row.required(2)? });
            }
            for row in self.read_for(caller, &ROOMS, scalars()).await? {
                let (id, name, kind) = (row.required(0)?, row.required(1)?, row.required(2)?);
                rooms.push(Room { id, name, kind, created_at: row.required(3)? });
            }
        }
        let (channels_truncated, rooms_truncated) = (channels.len() > MAX_LISTED, rooms.len() > MAX_LISTED);
        channels.truncate(MAX_LISTED);
        rooms.truncate(MAX_LISTED);
        let role = if row.text(6)?.as_deref() == Some(OWNING_ROLE) { "owner" } else { "member" };
        Ok(Some(WorkspaceRecord {
            id: row.text(1)?,
            clerk_org_id: row.required(2)?,
            name: row.text(3)?,
            owner_id: row.text(4)?,
            created_at: row.text(5)?,
            role: role.to_owned(),
            channels,
            channels_truncated,
            rooms,
            rooms_truncated,
        }))
    }

    /// The members of the caller's active organization, in the order of their ids, after one of them. The caller's own
    /// membership is part of the statement, so that nothing is shown to whoever was removed meanwhile.
    pub async fn members(&self, caller: &Caller, after: Option<&str>, limit: i64) -> Result<Vec<Membership>> {
        static STATEMENT: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT {MEMBERSHIP}, u.name, u.email, NULL, u.image_url FROM {{s}}organization_members m \
                 LEFT JOIN {{s}}users u ON u.clerk_user_id = m.clerk_user_id \
                 WHERE m.clerk_org_id = $1 AND m.clerk_user_id > $2 AND EXISTS (SELECT 1 FROM \
                 {{s}}organization_members own WHERE own.clerk_org_id = $1 AND own.clerk_user_id = $3) \
                 ORDER BY m.clerk_user_id LIMIT $4"
            )
        });
        let Some(id) = &caller.organization else { return Ok(Vec::new()) };
        let user = caller.user.as_str();
        let scalars = vec![id.as_str().into(), after.unwrap_or_default().into(), user.into(), limit.into()];
        self.read_for(caller, &STATEMENT, scalars).await?.iter().map(membership).collect()
    }

    /// The caller's memberships, in the order of the organizations' ids, after one of them.
    pub async fn memberships_of(&self, caller: &Caller, after: Option<&str>, limit: i64) -> Result<Vec<Membership>> {
        static PLAIN: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT {MEMBERSHIP}, o.name, NULL, o.slug, o.image_url FROM {{s}}organization_members m \
                 LEFT JOIN {{s}}organizations o ON o.clerk_org_id = m.clerk_org_id \
                 WHERE m.clerk_user_id = $1 AND m.clerk_org_id > $2 ORDER BY m.clerk_org_id LIMIT $3"
            )
        });
        // The function knows nobody but the caller: his id is told, and asked for once more.
        static WALLED: LazyLock<String> = LazyLock::new(|| {
            let columns =
                MEMBERSHIP.replace("m.clerk_user_id", "$1").replace("m.clerk_membership_id", "i.clerk_membership_id");
            format!(
                "SELECT {columns}, m.name, NULL, m.slug, m.image_url FROM {{s}}current_memberships() m \
                 LEFT JOIN {{s}}current_membership_ids() i ON i.clerk_org_id = m.clerk_org_id \
                 WHERE $1 = (SELECT {{s}}current_user_id()) AND m.clerk_org_id > $2 ORDER BY m.clerk_org_id LIMIT $3"
            )
        });
        let statements = Statements { plain: &PLAIN, walled: &WALLED };
        let scalars = vec![caller.user.as_str().into(), after.unwrap_or_default().into(), limit.into()];
        self.read_behind(caller, statements, scalars).await?.iter().map(membership).collect()
    }
}

/// For nobody in particular: it tells nothing but which ids are of nobody.
impl Store {
    /// Those of these users whom the copy does not show.
    pub async fn users_not_shown(&self, ids: Vec<UserId>) -> Result<Vec<UserId>> {
        const STATEMENT: &str = "SELECT v.id FROM {rows} AS v \
            WHERE NOT EXISTS (SELECT 1 FROM {s}users u WHERE u.clerk_user_id = v.id)";
        if ids.is_empty() {
            return Ok(ids);
        }
        let rows = Rows::new(ids.len()).text("id", ids.iter().map(|id| Some(id.as_str().to_owned())));
        let gone = self.readers.read_over(STATEMENT, rows).await?;
        gone.iter()
            .map(|row| row.required(0))
            .map(|id| Ok(UserId::parse(&id?).ok()))
            .filter_map(Result::transpose)
            .collect()
    }
}

/// What of a table hangs on a workspace: asked for with the caller's membership, like the workspace itself.
fn below(table: &str, columns: &str) -> String {
    format!(
        "SELECT {columns} FROM {{s}}organization_members m \
         JOIN {{s}}organizations o ON o.clerk_org_id = m.clerk_org_id JOIN {{s}}workspaces w ON {OF_ORGANIZATION} \
         JOIN {{s}}{table} b ON b.workspace_id = w.id \
         WHERE m.clerk_org_id = $1 AND m.clerk_user_id = $2 AND w.id = $3 \
         ORDER BY b.created_at, {{bytes b.id}} LIMIT $4"
    )
}

pub(crate) fn user(row: &Row) -> Result<UserRecord> {
    Ok(UserRecord {
        clerk_user_id: row.required(0)?,
        external_id: row.text(1)?,
        username: row.text(2)?,
        first_name: row.text(3)?,
        last_name: row.text(4)?,
        name: row.text(5)?,
        name_is_id: false,
        email: row.text(6)?,
        image_url: row.text(7)?,
        workspace_id: row.text(8)?,
        public_metadata: json(row, 9)?,
        banned: row.bool(10)?,
        locked: row.bool(11)?,
        provenance: row.required(12)?,
        created_at: row.text(13)?,
        updated_at: row.text(14)?,
    })
}

pub(crate) fn organization(row: &Row) -> Result<OrganizationRecord> {
    Ok(OrganizationRecord {
        clerk_org_id: row.required(0)?,
        name: row.text(1)?,
        slug: row.text(2)?,
        image_url: row.text(3)?,
        created_by: row.text(4)?,
        settings: json(row, 5)?,
        workspace_id: row.text(6)?,
        provenance: row.required(7)?,
        created_at: row.text(8)?,
        updated_at: row.text(9)?,
    })
}

pub(crate) fn membership(row: &Row) -> Result<Membership> {
    Ok(Membership {
        clerk_org_id: row.required(0)?,
        clerk_user_id: row.required(1)?,
        clerk_membership_id: row.text(2)?,
        role: row.text(3)?,
        permissions: permissions(row.text(4)?),
        provenance: row.required(5)?,
        created_at: row.text(6)?,
        updated_at: row.text(7)?,
        name: row.text(8)?,
        name_is_id: false,
        email: row.text(9)?,
        slug: row.text(10)?,
        image_url: row.text(11)?,
    })
}

fn json(row: &Row, column: usize) -> Result<Option<serde_json::Value>> {
    Ok(row.text(column)?.and_then(|text| serde_json::from_str(&text).ok()))
}

//! What the tables must hold once every event was delivered, in whatever order and however often.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::world::{User, World};

/// Every row that must exist, and no other.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth {
    /// Users, by their id.
    pub users: BTreeMap<String, UserRow>,
    /// Organizations, by their id.
    pub organizations: BTreeMap<String, OrganizationRow>,
    /// Members, by (organization id, user id).
    pub members: BTreeMap<(String, String), MemberRow>,
    /// Invitations of any status, by their id.
    pub invitations: BTreeMap<String, InvitationRow>,
    /// Workspaces that belong to a live organization, by their id.
    pub workspaces: BTreeMap<String, WorkspaceRow>,
}

/// Which workspaces organizations have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Workspaces {
    /// Each its own, under its own id.
    PerOrganization,
    /// The one that its public metadata names: it belongs to the oldest organization that does.
    Linked,
    /// None are kept.
    Off,
}

/// A row of `workspaces`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceRow {
    /// The organization that it belongs to.
    pub clerk_org_id: String,
    /// That organization's name.
    pub name: String,
    /// Who created that organization.
    pub owner_id: Option<String>,
    /// When that organization was created, in milliseconds.
    pub created_at_ms: i64,
}

impl Workspaces {
    /// The workspaces that follow from these organizations.
    #[must_use]
    pub fn of(self, organizations: &BTreeMap<String, OrganizationRow>) -> BTreeMap<String, WorkspaceRow> {
        let row = |id: &String, organization: &OrganizationRow| WorkspaceRow {
            clerk_org_id: id.clone(),
            name: organization.name.clone(),
            owner_id: organization.created_by.clone(),
            created_at_ms: organization.created_at_ms,
        };
        match self {
            Self::Off => BTreeMap::new(),
            Self::PerOrganization => organizations.iter().map(|(id, o)| (id.clone(), row(id, o))).collect(),
            Self::Linked => {
                let mut by_age: Vec<_> = organizations.iter().collect();
                by_age.sort_by_key(|(id, organization)| (organization.created_at_ms, (*id).clone()));
                let mut workspaces = BTreeMap::new();
                for (id, organization) in by_age {
                    if let Some(link) = &organization.workspace_id {
                        workspaces.entry(link.clone()).or_insert_with(|| row(id, organization));
                    }
                }
                workspaces
            }
        }
    }

    fn workspace_of(self, organization: &str, link: Option<String>) -> Option<String> {
        match self {
            Self::PerOrganization => link.or_else(|| Some(organization.to_owned())),
            Self::Linked | Self::Off => link,
        }
    }
}

/// A row of `users`.
#[derive(Debug, Clone, PartialEq)]
pub struct UserRow {
    /// The id that the application gave the user.
    pub external_id: Option<String>,
    /// The user name.
    pub username: Option<String>,
    /// The first name, as sent: it may be empty.
    pub first_name: Option<String>,
    /// The last name, as sent: it may be empty.
    pub last_name: Option<String>,
    /// First and last name joined by a space, empty parts left out; else the user name.
    pub name: Option<String>,
    /// The primary address, else the first verified one.
    pub email: Option<String>,
    /// The picture.
    pub image_url: Option<String>,
    /// The link in the public metadata, else the workspace of the organization of the oldest live membership.
    pub workspace_id: Option<String>,
    /// The public metadata, whole.
    pub public_metadata: Value,
    /// Whether the user is banned.
    pub banned: bool,
    /// Whether the user is locked.
    pub locked: bool,
    /// When the user was created, in milliseconds.
    pub created_at_ms: i64,
    /// When the user was last updated, in milliseconds.
    pub updated_at_ms: i64,
}

/// A row of `organizations`.
#[derive(Debug, Clone, PartialEq)]
pub struct OrganizationRow {
    /// The name.
    pub name: String,
    /// The slug; absent where slugs are turned off.
    pub slug: Option<String>,
    /// The picture.
    pub image_url: Option<String>,
    /// The user who created it, who may have been deleted since.
    pub created_by: Option<String>,
    /// The link in the public metadata, else what [`Workspaces`] says.
    pub workspace_id: Option<String>,
    /// The public metadata, whole.
    pub settings: Value,
    /// When the organization was created, in milliseconds.
    pub created_at_ms: i64,
    /// When the organization was last updated, in milliseconds.
    pub updated_at_ms: i64,
}

/// A row of `organization_members`.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberRow {
    /// The id of the membership: a new one after each re-join.
    pub clerk_membership_id: String,
    /// The role in Clerk's own form.
    pub role: String,
    /// The permissions, in the order in which they are sent.
    pub permissions: Vec<String>,
    /// When this membership (not an earlier one of the pair) was created, in milliseconds.
    pub created_at_ms: i64,
    /// When the membership was last updated, in milliseconds.
    pub updated_at_ms: i64,
}

/// A row of `organization_invitations`.
#[derive(Debug, Clone, PartialEq)]
pub struct InvitationRow {
    /// The organization that invites.
    pub clerk_org_id: String,
    /// The address that is invited.
    pub email: String,
    /// The role offered.
    pub role: String,
    /// `pending`, `accepted` or `revoked`.
    pub status: String,
    /// When the invitation expires, in milliseconds: 30 days after its creation.
    pub expires_at_ms: i64,
    /// When the invitation was created, in milliseconds.
    pub created_at_ms: i64,
    /// When the invitation was last updated, in milliseconds.
    pub updated_at_ms: i64,
}

impl World {
    /// What the tables must hold after every event that was emitted so far has been delivered, where each organization has a
    /// workspace of its own.
    #[must_use]
    pub fn truth(&self) -> Truth {
        self.truth_in(Workspaces::PerOrganization)
    }

    /// The same where organizations have these workspaces.
    #[must_use]
    pub fn truth_in(&self, workspaces: Workspaces) -> Truth {
        let organizations: BTreeMap<_, _> = self
            .organizations
            .values()
            .map(|organization| {
                let row = OrganizationRow {
                    name: organization.name.clone(),
                    slug: organization.slug.clone(),
                    image_url: Some(organization.image_url.clone()),
                    created_by: Some(organization.created_by.clone()),
                    workspace_id: workspaces
                        .workspace_of(&organization.id, linked_workspace(&organization.public_metadata)),
                    settings: organization.public_metadata.clone(),
                    created_at_ms: organization.created_at,
                    updated_at_ms: organization.updated_at,
                };
                (organization.id.clone(), row)
            })
            .collect();

        let mut oldest: BTreeMap<&str, (i64, &str, &str)> = BTreeMap::new();
        for ((organization, user), member) in &self.members {
            let candidate = (member.created_at, member.id.as_str(), organization.as_str());
            oldest.entry(user).and_modify(|known| *known = candidate.min(*known)).or_insert(candidate);
        }
        let inherited = |user: &User| organizations[oldest.get(user.id.as_str())?.2].workspace_id.clone();

        let users = self.users.values().map(|user| (user.id.clone(), user_row(user, inherited(user)))).collect();
        let members = self.members.iter().map(|(pair, member)| {
            let row = MemberRow {
                clerk_membership_id: member.id.clone(),
                role: member.role.clone(),
                permissions: member.permissions(),
                created_at_ms: member.created_at,
                updated_at_ms: member.updated_at,
            };
            (pair.clone(), row)
        });
        let invitations = self.invitations.values().map(|invitation| {
            let row = InvitationRow {
                clerk_org_id: invitation.organization.clone(),
                email: invitation.email.clone(),
                role: invitation.role.clone(),
                status: invitation.status.to_owned(),
                expires_at_ms: invitation.expires_at(),
                created_at_ms: invitation.created_at,
                updated_at_ms: invitation.updated_at,
            };
            (invitation.id.clone(), row)
        });
        Truth {
            users,
            members: members.collect(),
            invitations: invitations.collect(),
            workspaces: workspaces.of(&organizations),
            organizations,
        }
    }
}

fn user_row(user: &User, inherited_workspace: Option<String>) -> UserRow {
    UserRow {
        external_id: user.external_id.clone(),
        username: user.username.clone(),
        first_name: user.first_name.clone(),
        last_name: user.last_name.clone(),
        name: display_name(user),
        email: display_email(user),
        image_url: Some(user.image_url.clone()),
        workspace_id: linked_workspace(&user.public_metadata).or(inherited_workspace),
        public_metadata: user.public_metadata.clone(),
        banned: user.banned,
        locked: user.locked,
        created_at_ms: user.created_at,
        updated_at_ms: user.updated_at,
    }
}

fn display_name(user: &User) -> Option<String> {
    let parts: Vec<&str> = [&user.first_name, &user.last_name]
        .into_iter()
        .flatten()
        .map(String::as_str)
        .filter(|p| !p.is_empty())
        .collect();
    if parts.is_empty() { user.username.clone() } else { Some(parts.join(" ")) }
}

fn display_email(user: &User) -> Option<String> {
    let primary = user.emails.iter().find(|email| Some(&email.id) == user.primary_email.as_ref());
    primary.or_else(|| user.emails.iter().find(|email| email.verified)).map(|email| email.address.clone())
}

fn linked_workspace(metadata: &Value) -> Option<String> {
    ["workspaceId", "convexWorkspaceId"]
        .into_iter()
        .filter_map(|key| metadata.get(key)?.as_str())
        .find(|link| !link.is_empty())
        .map(str::to_owned)
}

//! The public rows: what the merge decided, as statements; and what is counted of them.

use std::collections::BTreeSet;

use faircopy_core::Millis;
use faircopy_core::id::{InvitationId, MembershipId, OrganizationId, UserId};
use faircopy_core::merge::{Change, Changes};
use faircopy_core::record::{EXPIRED, Invitation, Member, Organization, PENDING, Profile, Provenance, User};

use crate::changes::{Entity, Entry, Operation};
use crate::engine::{Connection, Rows};
use crate::error::Result;
use crate::{Store, registers};

/// How often an outcome was recorded.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct OutcomeCount {
    /// `applied`, `stale`, `ignored` or `quarantined`.
    pub outcome: String,
    /// Deliveries.
    pub deliveries: i64,
    /// Attempts beyond the first.
    pub duplicates: i64,
    /// Attempts that brought another body under a known id.
    pub conflicts: i64,
}

/// How much is in the copy.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Rows of `users`.
    pub users: i64,
    /// Rows of `organizations`.
    pub organizations: i64,
    /// Rows of `organization_members`.
    pub members: i64,
    /// Rows of `organization_invitations`.
    pub invitations: i64,
    /// Rows known from a token only.
    pub provisional: i64,
    /// The last number of the change feed.
    pub sequence: i64,
    /// When the newest delivery arrived.
    pub last_delivery_at: Option<String>,
    /// When the newest event happened, as far as deliveries say.
    pub last_event_at: Option<String>,
    /// Deliveries by outcome.
    pub outcomes: Vec<OutcomeCount>,
}

impl Store {
    /// Counts the rows of the public tables and the deliveries by outcome.
    pub async fn counts(&self) -> Result<Counts> {
        const ROWS: &str = "SELECT (SELECT count(*) FROM {s}users), (SELECT count(*) FROM {s}organizations), \
            (SELECT count(*) FROM {s}organization_members), (SELECT count(*) FROM {s}organization_invitations), \
            (SELECT count(*) FROM {s}organization_members WHERE provenance = 'token'), (SELECT sequence FROM {s}feed)";
        const OUTCOMES: &str = "SELECT outcome, count(*), CAST(sum(attempts - 1) AS bigint), \
            CAST(sum(conflicts) AS bigint), max({time received_at}), max({time event_at}) \
            FROM {s}webhook_deliveries GROUP BY outcome ORDER BY outcome";
        let rows = self.readers.read(ROWS, vec![]).await?;
        let count =
            |column| Ok::<i64, crate::Error>(rows.first().map_or(Ok(None), |row| row.int(column))?.unwrap_or_default());
        let (mut outcomes, mut last_delivery_at, mut last_event_at) = (Vec::new(), None, None);
        for row in self.readers.read(OUTCOMES, vec![]).await? {
            let number = |column| Ok::<i64, crate::Error>(row.int(column)?.unwrap_or_default());
            outcomes.push(OutcomeCount {
                outcome: row.required(0)?,
                deliveries: number(1)?,
                duplicates: number(2)?,
                conflicts: number(3)?,
            });
            last_delivery_at = last_delivery_at.max(row.text(4)?);
            last_event_at = last_event_at.max(row.text(5)?);
        }
        Ok(Counts {
            users: count(0)?,
            organizations: count(1)?,
            members: count(2)?,
            invitations: count(3)?,
            provisional: count(4)?,
            sequence: count(5)?,
            last_delivery_at,
            last_event_at,
            outcomes,
        })
    }
}

/// Writes the rows and returns what really changed, in the order of the change feed. The statements are as many as there
/// are kinds of change, whatever the number of rows.
pub(crate) async fn write(connection: &mut Connection, changes: &Changes, now: Millis) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    // Users whose fallback workspace may have changed with a membership or with an organization's link.
    let mut unsettled = BTreeSet::new();
    let (put_organizations, gone_organizations) = split(&changes.organizations);
    let (put_members, gone_members) = split(&changes.members);
    let (put_users, gone_users) = split(&changes.users);
    let (put_invitations, gone_invitations) = split(&changes.invitations);

    relinked_members(connection, &put_organizations, &mut unsettled).await?;
    put_all_organizations(connection, &put_organizations, &mut entries).await?;
    remove_organizations(connection, &gone_organizations, &mut entries, &mut unsettled).await?;
    remove_members(connection, &gone_members, &mut entries, &mut unsettled).await?;
    put_all_members(connection, &put_members, &mut entries, &mut unsettled).await?;
    put_all_users(connection, &put_users, &mut entries).await?;
    remove_users(connection, &gone_users, &mut entries).await?;
    put_all_invitations(connection, &put_invitations, now, &mut entries).await?;
    remove_invitations(connection, &gone_invitations, &mut entries).await?;
    settle_workspaces(connection, &unsettled, &mut entries).await?;
    Ok(entries)
}

/// Lets pending invitations expire whose time has passed, at most `limit` of them.
pub(crate) async fn expire(connection: &mut Connection, now: Millis, limit: i64) -> Result<Vec<Entry>> {
    let statement = format!(
        "UPDATE {{s}}organization_invitations SET status = '{EXPIRED}' WHERE clerk_invitation_id IN \
         (SELECT clerk_invitation_id FROM {{s}}organization_invitations \
          WHERE status = '{PENDING}' AND expires_at <= {{as-time $1}} ORDER BY expires_at LIMIT $2) \
         RETURNING clerk_invitation_id"
    );
    let rows = connection.run(&statement, vec![now.into(), limit.into()]).await?;
    let mut entries = Vec::new();
    for row in rows {
        entries.push(Entry::of(Entity::Invitation, row.required(0)?, Operation::Put));
    }
    Ok(entries)
}

type Put<'a, K, T> = Vec<(&'a K, &'a T, Provenance)>;

fn split<K: Ord, T>(changes: &std::collections::BTreeMap<K, Change<T>>) -> (Put<'_, K, T>, Vec<&K>) {
    let (mut put, mut gone) = (Vec::new(), Vec::new());
    for (key, change) in changes {
        match change {
            Change::Put(record, provenance) => put.push((key, record, *provenance)),
            Change::Remove => gone.push(key),
        }
    }
    (put, gone)
}

/// An upsert that touches a row only if a column really changes, or if what only a token knew is now known for sure:
/// triggers and readers stay quiet otherwise. Returns the key of each row that was written.
fn upsert(table: &str, keys: &[&str], columns: &[&str], select: &str) -> String {
    let list = [keys, columns].concat().join(", ");
    let set: Vec<String> = columns.iter().map(|column| format!("{column} = excluded.{column}")).collect();
    let differs: Vec<String> = columns
        .iter()
        .filter(|column| **column != "provenance")
        .map(|column| format!("t.{column} IS DISTINCT FROM excluded.{column}"))
        .collect();
    format!(
        "INSERT INTO {{s}}{table} AS t ({list}) SELECT {select} FROM {{rows}} AS v WHERE true \
         ON CONFLICT ({key}) DO UPDATE SET {set} \
         WHERE {differs} OR (t.provenance = 'token' AND excluded.provenance <> 'token') RETURNING {key}",
        key = keys.join(", "),
        set = set.join(", "),
        differs = differs.join(" OR "),
    )
}

fn provenances<'a, K, T>(put: &'a Put<'_, K, T>) -> impl Iterator<Item = Option<&'a str>> + 'a {
    put.iter().map(|(_, _, provenance)| Some(provenance.as_str()))
}

async fn put_all_organizations(
    connection: &mut Connection,
    put: &Put<'_, OrganizationId, Organization>,
    entries: &mut Vec<Entry>,
) -> Result<()> {
    const COLUMNS: [&str; 9] = [
        "name",
        "slug",
        "image_url",
        "created_by",
        "settings",
        "workspace_id",
        "provenance",
        "created_at",
        "updated_at",
    ];
    let all = || put.iter().map(|(_, organization, _)| *organization);
    let rows = Rows::new(put.len())
        .text("clerk_org_id", put.iter().map(|(id, _, _)| Some(id.as_str())))
        .text("name", all().map(|o| o.name.as_deref()))
        .text("slug", all().map(|o| o.slug.as_deref()))
        .text("image_url", all().map(|o| o.image_url.as_deref()))
        .text("created_by", all().map(|o| o.created_by.as_deref()))
        .json("settings", all().map(|o| Some(o.settings.to_string())))
        .text("workspace_id", all().map(Organization::linked_workspace))
        .text("provenance", provenances(put))
        .time("created_at", all().map(|o| o.created_at))
        .time("updated_at", all().map(|o| o.updated_at));
    let statement = upsert("organizations", &["clerk_org_id"], &COLUMNS, "v.*");
    note(connection, &statement, rows, Entity::Organization, Operation::Put, entries).await
}

async fn put_all_members(
    connection: &mut Connection,
    put: &Put<'_, (OrganizationId, UserId), Member>,
    entries: &mut Vec<Entry>,
    unsettled: &mut BTreeSet<String>,
) -> Result<()> {
    const COLUMNS: [&str; 6] = ["clerk_membership_id", "role", "permissions", "provenance", "created_at", "updated_at"];
    let all = || put.iter().map(|(_, member, _)| *member);
    let rows = Rows::new(put.len())
        .text("clerk_org_id", put.iter().map(|(pair, _, _)| Some(pair.0.as_str())))
        .text("clerk_user_id", put.iter().map(|(pair, _, _)| Some(pair.1.as_str())))
        .text("clerk_membership_id", all().map(|m| m.membership.as_ref().map(MembershipId::as_str)))
        .text("role", all().map(|m| m.role.as_deref()))
        .json("permissions", all().map(|m| Some(serde_json::json!(m.permissions).to_string())))
        .text("provenance", provenances(put))
        .time("created_at", all().map(|m| m.created_at))
        .time("updated_at", all().map(|m| m.updated_at));
    let statement = upsert("organization_members", &["clerk_org_id", "clerk_user_id"], &COLUMNS, "v.*");
    note_members(connection, &statement, rows, Operation::Put, entries, unsettled).await
}

async fn put_all_users(
    connection: &mut Connection,
    put: &Put<'_, UserId, User>,
    entries: &mut Vec<Entry>,
) -> Result<()> {
    const COLUMNS: [&str; 15] = [
        "external_id",
        "username",
        "first_name",
        "last_name",
        "name",
        "email",
        "image_url",
        "public_metadata",
        "banned",
        "locked",
        "linked_workspace_id",
        "provenance",
        "created_at",
        "updated_at",
        "workspace_id",
    ];
    let all = || put.iter().map(|(_, user, _)| *user);
    let profile = |column: fn(&Profile) -> Option<&str>| all().map(move |user| user.profile.as_ref().and_then(column));
    let rows = Rows::new(put.len())
        .text("clerk_user_id", put.iter().map(|(id, _, _)| Some(id.as_str())))
        .text("external_id", profile(|p| p.external_id.as_deref()))
        .text("username", profile(|p| p.username.as_deref()))
        .text("first_name", profile(|p| p.first_name.as_deref()))
        .text("last_name", profile(|p| p.last_name.as_deref()))
        .text("name", all().map(|user| user.profile.as_ref().and_then(Profile::name)))
        .text("email", profile(|p| p.email.as_deref()))
        .text("image_url", profile(|p| p.image_url.as_deref()))
        .json("public_metadata", all().map(|user| user.profile.as_ref().map(|p| p.public_metadata.to_string())))
        .bool("banned", all().map(|user| user.profile.as_ref().and_then(|p| p.banned)))
        .bool("locked", all().map(|user| user.profile.as_ref().and_then(|p| p.locked)))
        .text("linked_workspace_id", all().map(|user| user.linked_workspace.as_deref()))
        .text("provenance", provenances(put))
        .time("created_at", all().map(|user| user.created_at))
        .time("updated_at", all().map(|user| user.updated_at));
    let select = format!("v.*, {}", wanted_workspace("v"));
    let statement = upsert("users", &["clerk_user_id"], &COLUMNS, &select);
    note(connection, &statement, rows, Entity::User, Operation::Put, entries).await
}

async fn put_all_invitations(
    connection: &mut Connection,
    put: &Put<'_, InvitationId, Invitation>,
    now: Millis,
    entries: &mut Vec<Entry>,
) -> Result<()> {
    const COLUMNS: [&str; 8] =
        ["clerk_org_id", "email", "role", "status", "expires_at", "provenance", "created_at", "updated_at"];
    let all = || put.iter().map(|(_, invitation, _)| *invitation);
    let rows = Rows::new(put.len())
        .text("clerk_invitation_id", put.iter().map(|(id, _, _)| Some(id.as_str())))
        .text("clerk_org_id", all().map(|i| Some(i.organization.as_str())))
        .text("email", all().map(|i| i.email.as_deref()))
        .text("role", all().map(|i| i.role.as_deref()))
        .text("status", all().map(|i| Some(i.status_at(now))))
        .time("expires_at", all().map(|i| i.expires_at))
        .text("provenance", provenances(put))
        .time("created_at", all().map(|i| i.created_at))
        .time("updated_at", all().map(|i| i.updated_at));
    let statement = upsert("organization_invitations", &["clerk_invitation_id"], &COLUMNS, "v.*");
    note(connection, &statement, rows, Entity::Invitation, Operation::Put, entries).await
}

async fn remove_organizations(
    connection: &mut Connection,
    gone: &[&OrganizationId],
    entries: &mut Vec<Entry>,
    unsettled: &mut BTreeSet<String>,
) -> Result<()> {
    let ids = || Rows::new(gone.len()).text("id", gone.iter().map(|id| Some(id.as_str())));
    let members = "DELETE FROM {s}organization_members WHERE clerk_org_id IN (SELECT v.id FROM {rows} AS v) \
        RETURNING clerk_org_id, clerk_user_id";
    note_members(connection, members, ids(), Operation::Remove, entries, unsettled).await?;
    let invitations = "DELETE FROM {s}organization_invitations WHERE clerk_org_id IN (SELECT v.id FROM {rows} AS v) \
        RETURNING clerk_invitation_id";
    note(connection, invitations, ids(), Entity::Invitation, Operation::Remove, entries).await?;
    let organizations =
        "DELETE FROM {s}organizations WHERE clerk_org_id IN (SELECT v.id FROM {rows} AS v) RETURNING clerk_org_id";
    note(connection, organizations, ids(), Entity::Organization, Operation::Remove, entries).await?;
    registers::sweep_organizations(connection, gone).await
}

async fn remove_users(connection: &mut Connection, gone: &[&UserId], entries: &mut Vec<Entry>) -> Result<()> {
    let ids = || Rows::new(gone.len()).text("id", gone.iter().map(|id| Some(id.as_str())));
    let members = "DELETE FROM {s}organization_members WHERE clerk_user_id IN (SELECT v.id FROM {rows} AS v) \
        RETURNING clerk_org_id, clerk_user_id";
    note_members(connection, members, ids(), Operation::Remove, entries, &mut BTreeSet::new()).await?;
    let users = "DELETE FROM {s}users WHERE clerk_user_id IN (SELECT v.id FROM {rows} AS v) RETURNING clerk_user_id";
    note(connection, users, ids(), Entity::User, Operation::Remove, entries).await?;
    registers::sweep_users(connection, gone).await
}

async fn remove_members(
    connection: &mut Connection,
    gone: &[&(OrganizationId, UserId)],
    entries: &mut Vec<Entry>,
    unsettled: &mut BTreeSet<String>,
) -> Result<()> {
    let rows = Rows::new(gone.len())
        .text("org", gone.iter().map(|pair| Some(pair.0.as_str())))
        .text("person", gone.iter().map(|pair| Some(pair.1.as_str())));
    let statement = "DELETE FROM {s}organization_members WHERE (clerk_org_id, clerk_user_id) IN \
        (SELECT v.org, v.person FROM {rows} AS v) RETURNING clerk_org_id, clerk_user_id";
    note_members(connection, statement, rows, Operation::Remove, entries, unsettled).await
}

async fn remove_invitations(
    connection: &mut Connection,
    gone: &[&InvitationId],
    entries: &mut Vec<Entry>,
) -> Result<()> {
    let rows = Rows::new(gone.len()).text("id", gone.iter().map(|id| Some(id.as_str())));
    let statement = "DELETE FROM {s}organization_invitations WHERE clerk_invitation_id IN \
        (SELECT v.id FROM {rows} AS v) RETURNING clerk_invitation_id";
    note(connection, statement, rows, Entity::Invitation, Operation::Remove, entries).await
}

/// A user's workspace: the one that the public metadata names, or else that of the oldest live membership, literally
/// the oldest, even when its organization has none (product.md, system A). A provisional membership has no age yet and
/// comes last.
fn wanted_workspace(user: &str) -> String {
    format!(
        "COALESCE({user}.linked_workspace_id, (SELECT o.workspace_id FROM {{s}}organization_members m \
         LEFT JOIN {{s}}organizations o ON o.clerk_org_id = m.clerk_org_id \
         WHERE m.clerk_user_id = {user}.clerk_user_id \
         ORDER BY m.created_at IS NULL, m.created_at, {{bytes m.clerk_membership_id}} LIMIT 1))"
    )
}

/// Finds the members of organizations that are about to get another workspace.
async fn relinked_members(
    connection: &mut Connection,
    put: &Put<'_, OrganizationId, Organization>,
    unsettled: &mut BTreeSet<String>,
) -> Result<()> {
    let statement = "SELECT m.clerk_user_id FROM {rows} AS v LEFT JOIN {s}organizations o ON o.clerk_org_id = v.id \
        JOIN {s}organization_members m ON m.clerk_org_id = v.id WHERE o.workspace_id IS DISTINCT FROM v.workspace_id";
    let rows = Rows::new(put.len())
        .text("id", put.iter().map(|(id, _, _)| Some(id.as_str())))
        .text("workspace_id", put.iter().map(|(_, organization, _)| organization.linked_workspace()));
    for row in connection.run_rows(statement, rows).await? {
        unsettled.insert(row.required(0)?);
    }
    Ok(())
}

/// Brings `users.workspace_id` up to date for users whose memberships or organizations changed.
async fn settle_workspaces(
    connection: &mut Connection,
    unsettled: &BTreeSet<String>,
    entries: &mut Vec<Entry>,
) -> Result<()> {
    let statement = format!(
        "UPDATE {{s}}users AS t SET workspace_id = w.wanted FROM \
         (SELECT u.clerk_user_id AS id, {wanted} AS wanted FROM {{rows}} AS v \
          JOIN {{s}}users u ON u.clerk_user_id = v.id) AS w \
         WHERE t.clerk_user_id = w.id AND t.workspace_id IS DISTINCT FROM w.wanted RETURNING clerk_user_id",
        wanted = wanted_workspace("u"),
    );
    let rows = Rows::new(unsettled.len()).text("id", unsettled.iter().map(|id| Some(id.as_str())));
    note(connection, &statement, rows, Entity::User, Operation::Put, entries).await
}

async fn note(
    connection: &mut Connection,
    statement: &str,
    rows: Rows<'_>,
    entity: Entity,
    operation: Operation,
    entries: &mut Vec<Entry>,
) -> Result<()> {
    for row in connection.run_rows(statement, rows).await? {
        entries.push(Entry::of(entity, row.required(0)?, operation));
    }
    Ok(())
}

async fn note_members(
    connection: &mut Connection,
    statement: &str,
    rows: Rows<'_>,
    operation: Operation,
    entries: &mut Vec<Entry>,
    unsettled: &mut BTreeSet<String>,
) -> Result<()> {
    for row in connection.run_rows(statement, rows).await? {
        let (organization, user) = (row.required(0)?, row.required(1)?);
        entries.push(Entry::of(Entity::Member, format!("{organization}/{user}"), operation));
        unsettled.insert(user);
    }
    Ok(())
}

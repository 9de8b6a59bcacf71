//! The public rows: what the merge decided, as statements; and what is counted of them.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use faircopy_core::id::{InvitationId, MembershipId, OrganizationId, UserId};
use faircopy_core::merge::{Change, Changes};
use faircopy_core::record::{EXPIRED, Invitation, Member, Organization, PENDING, Profile, Provenance, User};
use faircopy_core::{Millis, WorkspaceMode};

use crate::cascades::{self, Subject};
use crate::changes::{Entity, Entry, Operation};
use crate::engine::{Call, Connection, Returning, Row, Rows};
use crate::error::Result;
use crate::{Store, readings, registers, workspaces};

/// How often an outcome was recorded.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
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
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Counts {
    /// Rows of `users`.
    pub users: i64,
    /// Rows of `organizations`.
    pub organizations: i64,
    /// Rows of `organization_members`.
    pub members: i64,
    /// Rows of `organization_invitations`.
    pub invitations: i64,
    /// Rows of `workspaces` that have not ended.
    pub workspaces: i64,
    /// Rows known from a token only.
    pub provisional: i64,
    /// The last number of the change feed.
    pub sequence: i64,
    /// When the newest delivery arrived.
    #[schema(format = DateTime)]
    pub last_delivery_at: Option<String>,
    /// When the newest event happened, as far as deliveries say.
    #[schema(format = DateTime)]
    pub last_event_at: Option<String>,
    /// Deliveries by outcome.
    pub outcomes: Vec<OutcomeCount>,
}

impl Store {
    /// Counts the rows of the public tables and the deliveries by outcome.
    pub async fn counts(&self) -> Result<Counts> {
        const ROWS: &str = "SELECT (SELECT count(*) FROM {s}users), (SELECT count(*) FROM {s}organizations), \
            (SELECT count(*) FROM {s}organization_members), (SELECT count(*) FROM {s}organization_invitations), \
            (SELECT count(*) FROM {s}organization_members WHERE provenance = 'token'), (SELECT sequence FROM {s}feed), \
            (SELECT count(*) FROM {s}workspaces WHERE ended_at IS NULL)";
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
            workspaces: count(6)?,
            provisional: count(4)?,
            sequence: count(5)?,
            last_delivery_at,
            last_event_at,
            outcomes,
        })
    }
}

/// What the rows that a statement returns say.
#[derive(Debug, Clone, Copy)]
enum Says {
    /// Nothing.
    Nothing,
    /// Each is the key of a row that was written or removed.
    Changed(Entity, Operation),
    /// Each is the pair of a membership that was written or removed; the user's workspace may follow from it.
    Member(Operation),
    /// Each is the pair of a membership that was removed with its user.
    MemberOfNobody,
    /// Each is a user whose workspace may follow from an organization's new one.
    Relinked,
    /// Each is a workspace that was released: another organization may name it.
    Released,
}

/// What must be brought up to date once the rows are written, because it follows from more than one of them.
#[derive(Debug, Default)]
pub(crate) struct Unsettled {
    /// Users whose workspace may have changed.
    pub(crate) users: BTreeSet<String>,
    /// Linked workspaces that may belong to another organization now.
    pub(crate) workspaces: BTreeSet<String>,
}

/// The statements that write rows. They are as many as there are kinds of change, whatever the number of rows, and none
/// needs another's answer.
#[derive(Debug, Default)]
pub(crate) struct Writes<'a> {
    calls: Vec<Call<'a>>,
    says: Vec<Says>,
    mode: WorkspaceMode,
}

impl<'a> Writes<'a> {
    /// What must be written for these changes, in the order of the change feed.
    pub(crate) fn of(changes: &'a Changes, mode: WorkspaceMode, now: Millis) -> Self {
        let mut writes = Self { mode, ..Self::default() };
        let (put, gone, withdrawn) = split(&changes.organizations);
        writes.relinked_members(&put, &withdrawn);
        writes.put_organizations(&put);
        writes.remove_organizations(&gone);
        writes.withdraw_organizations(&withdrawn);
        writes.put_workspaces(&put, now);
        let ended = [gone, withdrawn].concat();
        writes.end_workspaces(&ended, now);
        writes.begin_cascades(Subject::Organization, ended.iter().map(|id| id.as_str()), now);
        let (put, gone, _) = split(&changes.members);
        writes.remove_members(&gone);
        writes.put_members(&put);
        let (put, gone, withdrawn) = split(&changes.users);
        writes.put_users(&put);
        writes.remove_users(&gone);
        writes.begin_cascades(Subject::User, gone.iter().map(|id| id.as_str()), now);
        writes.withdraw_users(&withdrawn);
        let (put, gone, _) = split(&changes.invitations);
        writes.put_invitations(&put, now);
        writes.remove_invitations(&gone);
        writes
    }

    /// The statements, to be run; their answers go to [`Answers::read`].
    pub(crate) fn into_calls(self) -> (Vec<Call<'a>>, Answers) {
        (self.calls, Answers { says: self.says })
    }

    fn ask(&mut self, says: Says, call: Call<'a>) {
        self.calls.push(call);
        self.says.push(says);
    }

    /// A statement whose rows say nothing.
    fn quietly(&mut self, call: Call<'a>) {
        self.ask(Says::Nothing, call);
    }

    fn push(&mut self, says: Says, statement: &'a str, rows: Rows<'a>) {
        self.ask(says, Call::over(statement, rows));
    }

    /// An [`upsert`] into a table.
    fn put(&mut self, says: Says, table: Returning<'a>, statement: &'a str, rows: Rows<'a>) {
        self.ask(says, Call::over(statement, rows).returning(table));
    }
}

/// How to read what [`Writes`] found.
pub(crate) struct Answers {
    says: Vec<Says>,
}

impl Answers {
    /// Appends what really changed, and names what may have changed with it.
    pub(crate) fn read(self, found: &[Vec<Row>], entries: &mut Vec<Entry>) -> Result<Unsettled> {
        let mut unsettled = Unsettled::default();
        for (says, rows) in self.says.into_iter().zip(found) {
            for row in rows {
                match says {
                    Says::Nothing => {}
                    Says::Changed(entity, operation) => entries.push(Entry::of(entity, row.required(0)?, operation)),
                    Says::Relinked => {
                        unsettled.users.insert(row.required(0)?);
                    }
                    Says::Member(operation) => {
                        entries.push(member_entry(row, operation)?);
                        unsettled.users.insert(row.required(1)?);
                    }
                    Says::Released => {
                        unsettled.workspaces.insert(row.required(0)?);
                        entries.push(Entry::of(Entity::Workspace, row.required(0)?, Operation::Put));
                    }
                    Says::MemberOfNobody => entries.push(member_entry(row, Operation::Remove)?),
                }
            }
        }
        Ok(unsettled)
    }
}

fn member_entry(row: &Row, operation: Operation) -> Result<Entry> {
    Ok(Entry::of(Entity::Member, format!("{}/{}", row.required(0)?, row.required(1)?), operation))
}

/// Lets pending invitations expire whose time has passed, at most `limit` of them.
pub(crate) fn expire(now: Millis, limit: i64) -> Call<'static> {
    static STATEMENT: LazyLock<String> = LazyLock::new(|| {
        format!(
            "UPDATE {{s}}organization_invitations SET status = '{EXPIRED}' WHERE clerk_invitation_id IN \
             (SELECT clerk_invitation_id FROM {{s}}organization_invitations \
              WHERE status = '{PENDING}' AND expires_at <= {{as-time $1}} ORDER BY expires_at LIMIT $2) \
             RETURNING clerk_invitation_id"
        )
    });
    Call::new(&STATEMENT, vec![now.into(), limit.into()])
}

/// Reads what [`expire`] changed.
pub(crate) fn expired(rows: &[Row]) -> Result<Vec<Entry>> {
    rows.iter().map(|row| Ok(Entry::of(Entity::Invitation, row.required(0)?, Operation::Put))).collect()
}

/// Brings up to date what follows from more than one row: whose a linked workspace is, and `users.workspace_id`.
pub(crate) async fn settle(
    connection: &mut Connection,
    unsettled: &Unsettled,
    mode: WorkspaceMode,
    now: Millis,
    entries: &mut Vec<Entry>,
) -> Result<()> {
    static USERS: LazyLock<String> = LazyLock::new(|| {
        format!(
            "UPDATE {{s}}users AS t SET workspace_id = {wanted} \
             WHERE t.clerk_user_id {{any-of SELECT v.id FROM {{rows}} AS v}} \
             AND t.workspace_id IS DISTINCT FROM {wanted} RETURNING clerk_user_id",
            wanted = wanted_workspace("t"),
        )
    });
    let (mut calls, mut entities) = (Vec::new(), Vec::new());
    if !unsettled.users.is_empty() {
        let ids = unsettled.users.iter().map(|id| Some(id.as_str()));
        calls.push(Call::over(&USERS, Rows::new(unsettled.users.len()).text("id", ids)));
        entities.push(Entity::User);
    }
    if let Some(hold) = workspaces::hold(mode, unsettled.workspaces.iter().cloned(), now) {
        calls.push(hold);
        entities.push(Entity::Workspace);
    }
    if calls.is_empty() {
        return Ok(());
    }
    for (entity, rows) in entities.into_iter().zip(connection.run_all(calls).await?) {
        for row in rows {
            let entry = Entry::of(entity, row.required(0)?, Operation::Put);
            // What was released and is held again has changed once.
            if entity == Entity::User || !entries.contains(&entry) {
                entries.push(entry);
            }
        }
    }
    Ok(())
}

/// Records that rows are made of, with their keys and where they came from.
pub(crate) type Put<'a, K, T> = Vec<(&'a K, &'a T, Provenance)>;

fn split<K: Ord, T>(changes: &std::collections::BTreeMap<K, Change<T>>) -> (Put<'_, K, T>, Vec<&K>, Vec<&K>) {
    let (mut put, mut gone, mut withdrawn) = (Vec::new(), Vec::new(), Vec::new());
    for (key, change) in changes {
        match change {
            Change::Put(record, provenance) => put.push((key, record, *provenance)),
            Change::Remove => gone.push(key),
            Change::Withdraw => withdrawn.push(key),
        }
    }
    (put, gone, withdrawn)
}

/// The tables that rows are put into. Answered is the key of each row that was written.
const ORGANIZATIONS: Returning<'static> =
    Returning { table: "organizations", keys: &["clerk_org_id"], columns: "clerk_org_id" };
const MEMBERS: Returning<'static> = Returning {
    table: "organization_members",
    keys: &["clerk_org_id", "clerk_user_id"],
    columns: "clerk_org_id, clerk_user_id",
};
const USERS: Returning<'static> = Returning { table: "users", keys: &["clerk_user_id"], columns: "clerk_user_id" };
const INVITATIONS: Returning<'static> =
    Returning { table: "organization_invitations", keys: &["clerk_invitation_id"], columns: "clerk_invitation_id" };

/// An upsert that touches a row only if a column really changes, or if what only a token knew is now known for sure:
/// triggers and readers stay quiet otherwise.
fn upsert(Returning { table, keys, .. }: Returning<'_>, columns: &[&str], select: &str) -> String {
    let list = [keys, columns].concat().join(", ");
    let set: Vec<String> = columns.iter().map(|column| format!("{column} = excluded.{column}")).collect();
    let differs: Vec<String> = columns
        .iter()
        .filter(|column| **column != "provenance")
        .map(|column| format!("t.{column} IS DISTINCT FROM excluded.{column}"))
        .collect();
    format!(
        "INSERT INTO {{s}}{table} AS t ({list}) {{values {select}}} \
         ON CONFLICT ({key}) DO UPDATE SET {set} \
         WHERE {differs} OR (t.provenance = 'token' AND excluded.provenance <> 'token')",
        key = keys.join(", "),
        set = set.join(", "),
        differs = differs.join(" OR "),
    )
}

fn provenances<'a, K, T>(put: &Put<'_, K, T>) -> impl Iterator<Item = Option<&'a str>> {
    put.iter().map(|(_, _, provenance)| Some(provenance.as_str()))
}

pub(crate) const ORGANIZATION_COLUMNS: [&str; 9] =
    ["name", "slug", "image_url", "created_by", "settings", "workspace_id", "provenance", "created_at", "updated_at"];
pub(crate) const MEMBER_COLUMNS: [&str; 6] =
    ["clerk_membership_id", "role", "permissions", "provenance", "created_at", "updated_at"];
pub(crate) const USER_COLUMNS: [&str; 15] = [
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
pub(crate) const INVITATION_COLUMNS: [&str; 8] =
    ["clerk_org_id", "email", "role", "status", "expires_at", "provenance", "created_at", "updated_at"];

pub(crate) fn organization_rows<'a>(put: &Put<'a, OrganizationId, Organization>, mode: WorkspaceMode) -> Rows<'a> {
    let all = || put.iter().map(|(_, organization, _)| *organization);
    Rows::new(put.len())
        .text("clerk_org_id", put.iter().map(|(id, _, _)| Some(id.as_str())))
        .text("name", all().map(|o| o.name.as_deref()))
        .text("slug", all().map(|o| o.slug.as_deref()))
        .text("image_url", all().map(|o| o.image_url.as_deref()))
        .text("created_by", all().map(|o| o.created_by.as_deref()))
        .json("settings", all().map(|o| Some(o.settings.to_string())))
        .text("workspace_id", all().map(|o| o.workspace(mode)))
        .text("provenance", provenances(put))
        .time("created_at", all().map(|o| o.created_at))
        .time("updated_at", all().map(|o| o.updated_at))
}

pub(crate) fn member_rows<'a>(put: &Put<'a, (OrganizationId, UserId), Member>) -> Rows<'a> {
    let all = || put.iter().map(|(_, member, _)| *member);
    Rows::new(put.len())
        .text("clerk_org_id", all().map(|m| Some(m.organization.as_str())))
        .text("clerk_user_id", all().map(|m| Some(m.user.as_str())))
        .text("clerk_membership_id", all().map(|m| m.membership.as_ref().map(MembershipId::as_str)))
        .text("role", all().map(|m| m.role.as_deref()))
        .json("permissions", all().map(|m| Some(serde_json::json!(m.permissions).to_string())))
        .text("provenance", provenances(put))
        .time("created_at", all().map(|m| m.created_at))
        .time("updated_at", all().map(|m| m.updated_at))
}

/// Without `workspace_id`, which follows from more than the user.
pub(crate) fn user_rows<'a>(put: &Put<'a, UserId, User>) -> Rows<'a> {
    let all = || put.iter().map(|(_, user, _)| *user);
    let profile =
        |column: fn(&'a Profile) -> Option<&'a str>| all().map(move |user| user.profile.as_ref().and_then(column));
    Rows::new(put.len())
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
        .time("updated_at", all().map(|user| user.updated_at))
}

pub(crate) fn invitation_rows<'a>(put: &Put<'a, InvitationId, Invitation>, now: Millis) -> Rows<'a> {
    let all = || put.iter().map(|(_, invitation, _)| *invitation);
    Rows::new(put.len())
        .text("clerk_invitation_id", put.iter().map(|(id, _, _)| Some(id.as_str())))
        .text("clerk_org_id", all().map(|i| Some(i.organization.as_str())))
        .text("email", all().map(|i| i.email.as_deref()))
        .text("role", all().map(|i| i.role.as_deref()))
        .text("status", all().map(|i| Some(i.status_at(now))))
        .time("expires_at", all().map(|i| i.expires_at))
        .text("provenance", provenances(put))
        .time("created_at", all().map(|i| i.created_at))
        .time("updated_at", all().map(|i| i.updated_at))
}

impl<'a> Writes<'a> {
    fn put_organizations(&mut self, put: &Put<'a, OrganizationId, Organization>) {
        static STATEMENT: LazyLock<String> = LazyLock::new(|| upsert(ORGANIZATIONS, &ORGANIZATION_COLUMNS, "v.*"));
        let says = Says::Changed(Entity::Organization, Operation::Put);
        self.put(says, ORGANIZATIONS, &STATEMENT, organization_rows(put, self.mode));
    }

    fn put_members(&mut self, put: &Put<'a, (OrganizationId, UserId), Member>) {
        static STATEMENT: LazyLock<String> = LazyLock::new(|| upsert(MEMBERS, &MEMBER_COLUMNS, "v.*"));
        self.put(Says::Member(Operation::Put), MEMBERS, &STATEMENT, member_rows(put));
    }

    fn put_users(&mut self, put: &Put<'a, UserId, User>) {
        self.ask(Says::Changed(Entity::User, Operation::Put), put_users(put));
    }

    fn put_invitations(&mut self, put: &Put<'a, InvitationId, Invitation>, now: Millis) {
        static STATEMENT: LazyLock<String> = LazyLock::new(|| upsert(INVITATIONS, &INVITATION_COLUMNS, "v.*"));
        let says = Says::Changed(Entity::Invitation, Operation::Put);
        self.put(says, INVITATIONS, &STATEMENT, invitation_rows(put, now));
    }

    fn remove_organizations(&mut self, gone: &[&'a OrganizationId]) {
        let ids = || Rows::new(gone.len()).text("id", gone.iter().map(|id| Some(id.as_str())));
        let members = "DELETE FROM {s}organization_members WHERE clerk_org_id {any-of SELECT v.id FROM {rows} AS v} \
            RETURNING clerk_org_id, clerk_user_id";
        self.push(Says::Member(Operation::Remove), members, ids());
        let invitations = "DELETE FROM {s}organization_invitations WHERE clerk_org_id {any-of SELECT v.id FROM {rows} AS v} \
            RETURNING clerk_invitation_id";
        self.push(Says::Changed(Entity::Invitation, Operation::Remove), invitations, ids());
        let organizations = "DELETE FROM {s}organizations WHERE clerk_org_id {any-of SELECT v.id FROM {rows} AS v} RETURNING clerk_org_id";
        self.push(Says::Changed(Entity::Organization, Operation::Remove), organizations, ids());
        self.quietly(registers::sweep_organizations(gone));
        self.quietly(readings::erase_organizations(gone));
        self.quietly(readings::erase_invitations(gone));
    }

    fn remove_users(&mut self, gone: &[&'a UserId]) {
        let ids = || Rows::new(gone.len()).text("id", gone.iter().map(|id| Some(id.as_str())));
        let members = "DELETE FROM {s}organization_members WHERE clerk_user_id {any-of SELECT v.id FROM {rows} AS v} \
            RETURNING clerk_org_id, clerk_user_id";
        self.push(Says::MemberOfNobody, members, ids());
        let users =
            "DELETE FROM {s}users WHERE clerk_user_id {any-of SELECT v.id FROM {rows} AS v} RETURNING clerk_user_id";
        self.push(Says::Changed(Entity::User, Operation::Remove), users, ids());
        self.quietly(registers::sweep_users(gone));
        self.quietly(readings::erase_users(gone));
    }

    /// Only the rows themselves: memberships and invitations speak for themselves.
    fn withdraw_organizations(&mut self, withdrawn: &[&'a OrganizationId]) {
        let ids = Rows::new(withdrawn.len()).text("id", withdrawn.iter().map(|id| Some(id.as_str())));
        let statement = "DELETE FROM {s}organizations WHERE clerk_org_id {any-of SELECT v.id FROM {rows} AS v} RETURNING clerk_org_id";
        self.push(Says::Changed(Entity::Organization, Operation::Remove), statement, ids);
    }

    fn withdraw_users(&mut self, withdrawn: &[&'a UserId]) {
        let ids = Rows::new(withdrawn.len()).text("id", withdrawn.iter().map(|id| Some(id.as_str())));
        let statement =
            "DELETE FROM {s}users WHERE clerk_user_id {any-of SELECT v.id FROM {rows} AS v} RETURNING clerk_user_id";
        self.push(Says::Changed(Entity::User, Operation::Remove), statement, ids);
    }

    fn remove_members(&mut self, gone: &[&'a (OrganizationId, UserId)]) {
        let rows = Rows::new(gone.len())
            .text("org", gone.iter().map(|pair| Some(pair.0.as_str())))
            .text("person", gone.iter().map(|pair| Some(pair.1.as_str())));
        let statement = "DELETE FROM {s}organization_members WHERE (clerk_org_id, clerk_user_id) IN \
            (SELECT v.org, v.person FROM {rows} AS v) RETURNING clerk_org_id, clerk_user_id";
        self.push(Says::Member(Operation::Remove), statement, rows);
    }

    fn remove_invitations(&mut self, gone: &[&'a InvitationId]) {
        let rows = Rows::new(gone.len()).text("id", gone.iter().map(|id| Some(id.as_str())));
        let statement = "DELETE FROM {s}organization_invitations WHERE clerk_invitation_id {any-of SELECT v.id FROM {rows} AS v} RETURNING clerk_invitation_id";
        self.push(Says::Changed(Entity::Invitation, Operation::Remove), statement, rows);
    }

    /// Finds the members of organizations that are about to get another workspace, or to lose theirs.
    fn relinked_members(&mut self, put: &Put<'a, OrganizationId, Organization>, withdrawn: &[&'a OrganizationId]) {
        let statement = "SELECT m.clerk_user_id FROM {rows} AS v {find-left organizations o o.clerk_org_id = v.id} \
            {find organization_members m m.clerk_org_id = v.id} WHERE o.workspace_id IS DISTINCT FROM v.workspace_id";
        let rows = Rows::new(put.len())
            .text("id", put.iter().map(|(id, _, _)| Some(id.as_str())))
            .text("workspace_id", put.iter().map(|(_, organization, _)| organization.workspace(self.mode)));
        self.push(Says::Relinked, statement, rows);
        let members = "SELECT m.clerk_user_id FROM {rows} AS v {find organization_members m m.clerk_org_id = v.id}";
        let rows = Rows::new(withdrawn.len()).text("id", withdrawn.iter().map(|id| Some(id.as_str())));
        self.push(Says::Relinked, members, rows);
    }

    /// The workspaces of organizations that were written. What a linked workspace's organization was before may name it no
    /// more while another does: those are settled with the answers.
    fn put_workspaces(&mut self, put: &Put<'a, OrganizationId, Organization>, now: Millis) {
        let kept = |id: &OrganizationId, organization: &Organization| match self.mode {
            WorkspaceMode::PerOrganization => Some(id.to_string()),
            WorkspaceMode::Linked | WorkspaceMode::Off => organization.linked_workspace(),
        };
        let kept: Vec<_> = put.iter().map(|(id, organization, _)| kept(id, organization)).collect();
        let hold = workspaces::hold(self.mode, kept.iter().flatten().cloned(), now);
        if self.mode != WorkspaceMode::Off {
            self.ask(Says::Released, workspaces::release(put.iter().map(|(id, ..)| id.as_str()), kept));
        }
        if let Some(hold) = hold {
            self.ask(Says::Changed(Entity::Workspace, Operation::Put), hold);
        }
    }

    /// The jobs that delete what hangs on those who are gone.
    fn begin_cascades(&mut self, kind: Subject, gone: impl ExactSizeIterator<Item = &'a str>, now: Millis) {
        self.quietly(cascades::begin(kind, gone, now));
    }

    /// The workspaces of organizations that are gone, where no other takes them over.
    fn end_workspaces(&mut self, gone: &[&'a OrganizationId], now: Millis) {
        let ids = || gone.iter().map(|id| id.as_str());
        self.ask(Says::Changed(Entity::Workspace, Operation::Put), workspaces::end(ids(), now));
        if self.mode == WorkspaceMode::Linked {
            self.ask(Says::Released, workspaces::pass_on(ids()));
        }
    }
}

/// Whether users are put, and nothing else is to be written.
pub(crate) fn are_users_put_alone(changes: &Changes) -> bool {
    let Changes { registers: _, users, organizations, members, invitations } = changes;
    let are_put = !users.is_empty() && users.values().all(|change| matches!(change, Change::Put(..)));
    are_put && organizations.is_empty() && members.is_empty() && invitations.is_empty()
}

/// The call that puts the users of such changes.
pub(crate) fn put_users_alone(changes: &Changes) -> Call<'_> {
    put_users(&split(&changes.users).0)
}

fn put_users<'a>(put: &Put<'a, UserId, User>) -> Call<'a> {
    // Most users that are written are members of nothing, and to see that costs less than to look for the oldest of nothing.
    // Not with EXISTS: PostgreSQL may read all members to answer that.
    const IS_PLACED: &str = "v.linked_workspace_id IS NOT NULL OR \
        (SELECT 1 FROM {s}organization_members m WHERE m.clerk_user_id = v.clerk_user_id LIMIT 1) IS NOT NULL";
    static STATEMENT: LazyLock<String> = LazyLock::new(|| {
        let select = format!("v.*, CASE WHEN {IS_PLACED} THEN {} END", wanted_workspace("v"));
        upsert(USERS, &USER_COLUMNS, &select)
    });
    Call::over(&STATEMENT, user_rows(put)).returning(USERS)
}

/// A user's workspace: the one that the public metadata names, or else that of the oldest live membership, literally
/// the oldest, even when its organization has none (product.md, system A). A provisional membership has no age yet and
/// comes last.
pub(crate) fn wanted_workspace(user: &str) -> String {
    format!(
        "COALESCE({user}.linked_workspace_id, (SELECT o.workspace_id FROM {{s}}organization_members m \
         LEFT JOIN {{s}}organizations o ON o.clerk_org_id = m.clerk_org_id \
         WHERE m.clerk_user_id = {user}.clerk_user_id \
         ORDER BY m.created_at IS NULL, m.created_at, {{bytes m.clerk_membership_id}} LIMIT 1))"
    )
}

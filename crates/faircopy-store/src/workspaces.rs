//! The rows of `workspaces`, which follow the organizations (docs/workspaces.md), and bringing a database up to another mode.
//!
//! A workspace is *held* by the organization to which it belongs (`clerk_org_id`). One that the mode in force does not give to
//! anybody *rests*: it keeps its content and is shown to nobody. One that has *ended* is being deleted: nobody holds it
//! again, and it begins anew once it is gone.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use faircopy_core::id::OrganizationId;
use faircopy_core::record::workspace_link;
use faircopy_core::{Millis, WorkspaceMode};

use crate::changes::{Entity, Entry, Operation};
use crate::engine::{Call, Connection, Row, Rows, Value};
use crate::error::{Error, Result};
use crate::records::{self, Unsettled};
use crate::{Writer, changes, engine};

/// How many organizations (or workspaces) one transaction settles: it holds the pen for a few milliseconds.
const SETTLE_AT_ONCE: i64 = 200;
/// How many members' rows may follow in one transaction, unless one organization alone has more.
const FOLLOW_AT_ONCE: i64 = 2_000;

/// The organization to which a linked workspace belongs: of all live ones that name it the oldest. One that only a token
/// speaks for has no age yet and comes last.
const HOLDER: &str = "(SELECT o.clerk_org_id FROM {s}organizations o WHERE o.workspace_id = v.id \
    ORDER BY o.created_at IS NULL, o.created_at, {bytes o.clerk_org_id} LIMIT 1)";

/// Whose a workspace is now, from the organizations as they stand. A row is touched only where a column changes. One that is being
/// deleted is nobody's until that is done, and not only until its row is gone: what is looked for once more must meet nobody
/// else's content. What a cancelled deletion has left is taken over. A row of the other kind is taken over only where it is the same organization's, or where a linked one
/// rests under the organization's own id.
fn holding(holder: &str, is_linked: &str, takes: &str) -> String {
    format!(
        "INSERT INTO {{s}}workspaces AS t (id, clerk_org_id, name, owner_id, is_linked, created_at) \
         SELECT v.id, h.clerk_org_id, h.name, h.created_by, {is_linked}, \
          COALESCE(h.created_at, (SELECT w.created_at FROM {{s}}workspaces w WHERE w.id = v.id), v.began_at) \
         FROM {{rows}} AS v {{find organizations h h.clerk_org_id = {holder}}} WHERE NOT EXISTS \
          (SELECT 1 FROM {{s}}cascades c WHERE c.workspace_id = v.id AND c.state NOT IN ('done', 'cancelled')) \
         ON CONFLICT (id) DO UPDATE SET clerk_org_id = excluded.clerk_org_id, name = excluded.name, \
          owner_id = excluded.owner_id, is_linked = excluded.is_linked, created_at = excluded.created_at, ended_at = NULL \
         WHERE ({takes}) AND (t.ended_at IS NOT NULL OR t.clerk_org_id IS DISTINCT FROM excluded.clerk_org_id \
          OR t.name IS DISTINCT FROM excluded.name OR t.owner_id IS DISTINCT FROM excluded.owner_id \
          OR t.is_linked <> excluded.is_linked OR t.created_at <> excluded.created_at) RETURNING id"
    )
}

/// Gives these workspaces to whom they belong. Nothing to do without any, and where none are kept.
pub(crate) fn hold(mode: WorkspaceMode, ids: impl Iterator<Item = String>, now: Millis) -> Option<Call<'static>> {
    static OWN: LazyLock<String> = LazyLock::new(|| {
        holding("v.id", "false", "NOT t.is_linked OR t.clerk_org_id IS NULL OR t.clerk_org_id = t.id")
    });
    static LINKED: LazyLock<String> =
        LazyLock::new(|| holding(HOLDER, "true", "t.is_linked OR t.id = excluded.clerk_org_id"));
    let statement: &'static str = match mode {
        WorkspaceMode::PerOrganization => &OWN,
        WorkspaceMode::Linked => &LINKED,
        WorkspaceMode::Off => return None,
    };
    // Each once: one statement cannot write a row twice.
    let ids: BTreeSet<String> = ids.collect();
    let length = ids.len();
    let rows = Rows::new(length)
        .text("id", ids.into_iter().map(Some))
        .time("began_at", std::iter::repeat_n(Some(now), length));
    (length > 0).then(|| Call::over(statement, rows))
}

/// Lets go of what these organizations hold and the mode does not give them any more.
pub(crate) fn release<'a>(
    organizations: impl ExactSizeIterator<Item = &'a str>,
    kept: impl IntoIterator<Item = Option<String>>,
) -> Call<'a> {
    let rows = Rows::new(organizations.len()).text("org", organizations.map(Some)).text("kept", kept.into_iter());
    let statement = "UPDATE {s}workspaces AS t SET clerk_org_id = NULL FROM {rows} AS v \
        WHERE t.clerk_org_id = v.org AND t.clerk_org_id {any-of SELECT v.org FROM {rows} AS v} \
        AND t.id IS DISTINCT FROM v.kept RETURNING id";
    Call::over(statement, rows)
}

/// Marks the workspaces of organizations that are gone as ended: the own one, in whatever mode it was made, and the linked one,
/// unless another live organization names it.
pub(crate) fn end<'a>(organizations: impl ExactSizeIterator<Item = &'a str>, now: Millis) -> Call<'a> {
    let length = organizations.len();
    let rows =
        Rows::new(length).text("org", organizations.map(Some)).time("at", std::iter::repeat_n(Some(now), length));
    let statement = "UPDATE {s}workspaces AS t SET ended_at = v.at FROM {rows} AS v \
        WHERE (t.clerk_org_id = v.org OR (t.id = v.org AND NOT t.is_linked)) AND t.ended_at IS NULL \
        AND (t.clerk_org_id {any-of SELECT v.org FROM {rows} AS v} OR t.id {any-of SELECT v.org FROM {rows} AS v}) \
        AND (NOT t.is_linked OR NOT EXISTS (SELECT 1 FROM {s}organizations o WHERE o.workspace_id = t.id)) RETURNING id";
    Call::over(statement, rows)
}

/// Lets go of the linked workspaces of organizations that are gone and which another one names.
pub(crate) fn pass_on<'a>(organizations: impl ExactSizeIterator<Item = &'a str>) -> Call<'a> {
    let rows = Rows::new(organizations.len()).text("org", organizations.map(Some));
    let statement = "UPDATE {s}workspaces AS t SET clerk_org_id = NULL FROM {rows} AS v \
        WHERE t.clerk_org_id = v.org AND t.clerk_org_id {any-of SELECT v.org FROM {rows} AS v} \
        AND t.is_linked AND t.ended_at IS NULL RETURNING id";
    Call::over(statement, rows)
}

/// What bringing a database up to its mode has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settled {
    /// Organizations that were looked at more closely.
    pub organizations: usize,
    /// Entries of the change feed.
    pub changes: usize,
}

/// Workspaces that somebody holds whom this mode gives none of that kind.
fn misplaced(mode: WorkspaceMode) -> &'static str {
    match mode {
        WorkspaceMode::PerOrganization => "t.is_linked AND t.clerk_org_id IS NOT NULL AND t.ended_at IS NULL",
        WorkspaceMode::Linked => "NOT t.is_linked AND t.clerk_org_id IS NOT NULL AND t.ended_at IS NULL",
        WorkspaceMode::Off => "t.clerk_org_id IS NOT NULL AND t.ended_at IS NULL",
    }
}

/// Organizations `o` with whose workspace `w` something is wrong in this mode, or may be. What is being deleted is left alone.
fn doubtful(mode: WorkspaceMode) -> &'static str {
    match mode {
        WorkspaceMode::PerOrganization => {
            "o.workspace_id IS NULL OR w.id IS NULL OR (w.ended_at IS NULL AND (w.is_linked \
             OR w.clerk_org_id IS DISTINCT FROM o.clerk_org_id OR w.name IS DISTINCT FROM o.name \
             OR w.owner_id IS DISTINCT FROM o.created_by))"
        }
        WorkspaceMode::Linked => {
            "o.workspace_id IS NOT NULL AND (w.id IS NULL OR (NOT w.is_linked AND o.workspace_id = o.clerk_org_id) \
             OR (w.ended_at IS NULL AND w.clerk_org_id IS NULL))"
        }
        WorkspaceMode::Off => "o.workspace_id = o.clerk_org_id",
    }
}

impl Writer {
    /// Brings a database that was filled in another mode, or before there were workspaces, up to this writer's mode: the
    /// organizations' `workspace_id`, the users' that follows from it, and whose each workspace is. Nothing is deleted, and
    /// no workspace ends. In many small transactions; where there is nothing to do, none is begun.
    pub async fn settle_workspaces(&mut self, now: Millis) -> Result<Settled> {
        let mode = self.workspaces();
        let mut settled = Settled::default();
        loop {
            let connection = self.fresh().await?;
            let result = engine::complete(connection.dialect(), Box::pin(let_rest(connection, mode, now))).await;
            let released = self.settle(result).await?;
            settled.changes += released;
            if released == 0 {
                break;
            }
        }
        let mut after = String::new();
        loop {
            let connection = self.fresh().await?;
            let dialect = connection.dialect();
            let work = settle_some(connection, mode, &after, now);
            let result = engine::complete(dialect, Box::pin(work)).await;
            let Some(some) = self.settle(result).await? else { return Ok(settled) };
            settled.organizations += some.organizations;
            settled.changes += some.changes;
            after = some.last;
        }
    }
}

/// Releases some of the workspaces that the mode gives to nobody; says how many.
async fn let_rest(connection: &mut Connection, mode: WorkspaceMode, now: Millis) -> Result<usize> {
    let misplaced = misplaced(mode);
    let any = format!("SELECT t.id FROM {{s}}workspaces t WHERE {misplaced} LIMIT 1");
    if connection.run(Call::new(&any, vec![])).await?.is_empty() {
        return Ok(0);
    }
    let release = format!(
        "UPDATE {{s}}workspaces SET clerk_org_id = NULL WHERE id IN \
         (SELECT t.id FROM {{s}}workspaces t WHERE {misplaced} LIMIT {SETTLE_AT_ONCE}) RETURNING id"
    );
    let begun = connection.begin(vec![], vec![Call::new(&release, vec![])]).await?;
    let entry = |row: &Row| Ok(Entry::of(Entity::Workspace, row.required(0)?, Operation::Put));
    let entries: Vec<Entry> = begun.under_pen[0].iter().map(entry).collect::<Result<_>>()?;
    connection.finish(changes::append(begun.last, &entries, now).1).await?;
    Ok(entries.len())
}

/// What one transaction of [`Writer::settle_workspaces`] did.
struct Portion {
    organizations: usize,
    changes: usize,
    last: String,
}

/// Settles the next organizations after one of them; `None` where there is none.
async fn settle_some(
    connection: &mut Connection,
    mode: WorkspaceMode,
    after: &str,
    now: Millis,
) -> Result<Option<Portion>> {
    let named = if mode == WorkspaceMode::Linked { "o.workspace_id" } else { "o.clerk_org_id" };
    let find = format!(
        "SELECT o.clerk_org_id, (SELECT count(*) FROM {{s}}organization_members m WHERE m.clerk_org_id = o.clerk_org_id) \
         FROM {{s}}organizations o LEFT JOIN {{s}}workspaces w ON w.id = {named} \
         WHERE o.clerk_org_id > $1 AND ({doubtful}) ORDER BY o.clerk_org_id LIMIT {SETTLE_AT_ONCE}",
        doubtful = doubtful(mode),
    );
    let (mut ids, mut followers) = (Vec::new(), 0);
    for row in connection.run(Call::new(&find, vec![Value::from(after)])).await? {
        followers += row.int(1)?.unwrap_or_default();
        if followers > FOLLOW_AT_ONCE && !ids.is_empty() {
            break;
        }
        ids.push(row.required(0)?);
    }
    let Some(last) = ids.last().cloned() else { return Ok(None) };
    // Under the pen they are read again: somebody may have written them meanwhile.
    let read = "SELECT o.clerk_org_id, o.workspace_id, {text o.settings} FROM {rows} AS v \
        {find organizations o o.clerk_org_id = v.org}";
    let rows = Rows::new(ids.len()).text("org", ids.iter().map(|id| Some(id.as_str())));
    let begun = connection.begin(vec![], vec![Call::over(read, rows)]).await?;
    let (mut known, mut moved) = (Vec::new(), Vec::new());
    for row in &begun.under_pen[0] {
        let (id, held) = (row.required(0)?, row.text(1)?);
        let settings = row.text(2)?.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let linked = workspace_link(&settings);
        let corrupt = || Error::Corrupt { table: "organizations", column: "clerk_org_id", row: id.clone() };
        let wanted = mode.workspace_of(&OrganizationId::parse(&id).map_err(|_| corrupt())?, linked.clone());
        if wanted != held {
            moved.push((id.clone(), wanted));
        }
        known.push((id.clone(), if mode == WorkspaceMode::PerOrganization { Some(id) } else { linked }));
    }
    let entries = write_some(connection, mode, &known, &moved, now).await?;
    let (organizations, changes) = (known.len(), entries.len());
    connection.finish(changes::append(begun.last, &entries, now).1).await?;
    Ok(Some(Portion { organizations, changes, last }))
}

/// Writes the workspaces of `known` organizations, and `workspace_id` of those that have `moved`.
async fn write_some(
    connection: &mut Connection,
    mode: WorkspaceMode,
    known: &[(String, Option<String>)],
    moved: &[(String, Option<String>)],
    now: Millis,
) -> Result<Vec<Entry>> {
    let members = "SELECT m.clerk_user_id FROM {rows} AS v {find organization_members m m.clerk_org_id = v.org}";
    let update = "UPDATE {s}organizations AS t SET workspace_id = v.wanted FROM {rows} AS v \
        WHERE t.clerk_org_id = v.org AND t.clerk_org_id {any-of SELECT v.org FROM {rows} AS v} \
        AND t.workspace_id IS DISTINCT FROM v.wanted RETURNING clerk_org_id";
    let orgs = || Rows::new(moved.len()).text("org", moved.iter().map(|(id, _)| Some(id.as_str())));
    let wanted = orgs().text("wanted", moved.iter().map(|(_, wanted)| wanted.as_deref()));
    let mut calls = vec![Call::over(members, orgs()), Call::over(update, wanted)];
    if mode != WorkspaceMode::Off {
        let kept = known.iter().map(|(_, kept)| kept.clone());
        calls.push(release(known.iter().map(|(id, _)| id.as_str()), kept));
    }
    let found = connection.run_all(calls).await?;
    let column = |rows: &Vec<Row>| rows.iter().map(|row| row.required(0)).collect::<Result<Vec<_>>>();
    let mut unsettled = Unsettled { users: column(&found[0])?.into_iter().collect(), ..Unsettled::default() };
    let mut entries = Vec::new();
    for id in column(&found[1])? {
        entries.push(Entry::of(Entity::Organization, id, Operation::Put));
    }
    for id in found.get(2).map(column).transpose()?.unwrap_or_default() {
        entries.push(Entry::of(Entity::Workspace, id.clone(), Operation::Put));
        unsettled.workspaces.insert(id);
    }
    unsettled.workspaces.extend(known.iter().filter_map(|(_, kept)| kept.clone()));
    records::settle(connection, &unsettled, mode, now, &mut entries).await?;
    Ok(entries)
}

//! Deletions of organizations and users, as jobs (docs/decisions/0018-workspaces-and-cascades.md).
//!
//! A job is begun by the statements that write the tombstone, and changed by whoever has the lease; an operator changes it
//! without. Either way it is changed only if it is still what it was when that was decided.

use std::sync::LazyLock;

use faircopy_core::cascade::{Job, State};
use faircopy_core::{Millis, WorkspaceMode};

use crate::changes::{Entity, Entry, Operation};
use crate::engine::{self, Call, Connection, Row, Rows, Value};
use crate::error::{Error, Result};
use crate::leases::Fence;
use crate::records::{self, Unsettled};
use crate::{Store, Writer, changes, leases};

/// What went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// An organization, with its workspace.
    Organization,
    /// A user.
    User,
}

impl Subject {
    /// As tables and answers name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Organization => "organization",
            Self::User => "user",
        }
    }

    fn read(name: &str) -> Self {
        if name == Self::User.as_str() { Self::User } else { Self::Organization }
    }
}

/// One deletion, and what it has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cascade {
    /// The id of the organization or user.
    pub subject: String,
    /// Which of the two it is.
    pub kind: Subject,
    /// The workspace that goes with it.
    pub workspace_id: Option<String>,
    /// What the organization was called.
    pub name: Option<String>,
    /// Where it stands.
    pub job: Job,
    /// Whether an application had anything in it; `None` before that was looked for.
    pub has_content: Option<bool>,
    /// What went wrong last.
    pub error: Option<String>,
    /// When Clerk said that it has the subject no more.
    pub confirmed_at: Option<String>,
    /// When no row was left for the first time.
    pub rows_gone_at: Option<String>,
    /// When nothing was left outside for the first time.
    pub steps_gone_at: Option<String>,
    /// When it was done.
    pub finished_at: Option<String>,
}

/// How many rows of a table were deleted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Removed {
    /// The table.
    pub table: String,
    /// Rows.
    pub rows: i64,
}

/// How many jobs there are in a state, and since when.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CascadesStanding {
    /// The state's name.
    pub state: String,
    /// Why they are paused, if they are.
    pub reason: Option<String>,
    /// Jobs.
    pub jobs: i64,
    /// When the oldest of them was begun.
    pub oldest: Millis,
}

const COLUMNS: &str = "subject, kind, workspace_id, name, state, reason, created_at, due_at, failures, passes, found_again, \
    is_released, has_skipped, has_content, error, {time confirmed_at}, {time rows_gone_at}, {time steps_gone_at}, {time finished_at}";

/// How long a receipt is kept: as long as a tombstone (merge.md).
pub const RECEIPTS_KEPT_MS: i64 = 400 * 24 * 3_600_000;

impl Store {
    /// The job of a subject.
    pub async fn cascade(&self, subject: &str) -> Result<Option<Cascade>> {
        static STATEMENT: LazyLock<String> =
            LazyLock::new(|| format!("SELECT {COLUMNS} FROM {{s}}cascades WHERE subject = $1"));
        self.readers.read(&STATEMENT, vec![subject.into()]).await?.first().map(read).transpose()
    }

    /// Jobs that are to be taken up, those that wait longest first.
    pub async fn cascades_due(&self, now: Millis, limit: i64) -> Result<Vec<Cascade>> {
        static STATEMENT: LazyLock<String> = LazyLock::new(|| {
            format!("SELECT {COLUMNS} FROM {{s}}cascades WHERE due_at <= $1 ORDER BY due_at, subject LIMIT $2")
        });
        self.readers.read(&STATEMENT, vec![now.0.into(), limit.into()]).await?.iter().map(read).collect()
    }

    /// The workspaces that go with a job: those of the organization that have ended, and the one that is gone already, below which
    /// somebody may have written all the same; none that lives.
    pub async fn ended_workspaces(&self, cascade: &Cascade) -> Result<Vec<String>> {
        const STATEMENT: &str = "SELECT {bytes id} FROM {s}workspaces WHERE ended_at IS NOT NULL AND (clerk_org_id = $1 OR id = $1) \
            UNION SELECT workspace_id FROM {s}cascades c WHERE subject = $1 AND workspace_id IS NOT NULL \
            AND NOT EXISTS (SELECT 1 FROM {s}workspaces w WHERE w.id = c.workspace_id AND w.ended_at IS NULL) ORDER BY 1";
        let rows = self.readers.read(STATEMENT, vec![cascade.subject.as_str().into()]).await?;
        rows.iter().map(|row| row.required(0)).collect()
    }

    /// The workspaces that would go with an organization, or are going: not one that other organizations name as well.
    pub async fn workspaces_of(&self, organization: &str) -> Result<Vec<String>> {
        const STATEMENT: &str = "SELECT w.id FROM {s}workspaces w WHERE (w.clerk_org_id = $1 OR (w.id = $1 AND NOT w.is_linked)) \
            AND (NOT w.is_linked OR w.ended_at IS NOT NULL OR NOT EXISTS (SELECT 1 FROM {s}organizations o \
              WHERE o.workspace_id = w.id AND o.clerk_org_id <> $1)) ORDER BY w.id";
        self.readers.read(STATEMENT, vec![organization.into()]).await?.iter().map(|row| row.required(0)).collect()
    }

    /// Whether the copy shows an organization, or a user.
    pub async fn is_shown(&self, kind: Subject, subject: &str) -> Result<bool> {
        let statement = match kind {
            Subject::Organization => "SELECT clerk_org_id FROM {s}organizations WHERE clerk_org_id = $1",
            Subject::User => "SELECT clerk_user_id FROM {s}users WHERE clerk_user_id = $1",
        };
        Ok(!self.readers.read(statement, vec![subject.into()]).await?.is_empty())
    }

    /// Jobs, newest first, from behind the one that was begun then; with `only_open` those alone that are not done.
    pub async fn cascades_before(
        &self,
        before: Option<(Millis, &str)>,
        only_open: bool,
        limit: i64,
    ) -> Result<Vec<Cascade>> {
        static STATEMENT: LazyLock<String> = LazyLock::new(|| {
            format!(
                "SELECT {COLUMNS} FROM {{s}}cascades WHERE (created_at < $1 OR (created_at = $1 AND subject > $2)) \
                 AND ($3 = 0 OR state <> 'done') ORDER BY created_at DESC, subject LIMIT $4"
            )
        });
        let (at, subject) = before.unwrap_or((Millis(i64::MAX), ""));
        let scalars: Vec<Value> = vec![at.0.into(), subject.into(), i64::from(only_open).into(), limit.into()];
        self.readers.read(&STATEMENT, scalars).await?.iter().map(read).collect()
    }

    /// Whether what there is now under a job's ids is not what it ended: a workspace that another organization has, a subject that the
    /// copy shows.
    pub async fn lives_again(&self, cascade: &Cascade) -> Result<bool> {
        let workspace = cascade.workspace_id.clone().into_iter().collect::<Vec<_>>();
        let (statement, scalars) = alive(cascade.kind, &cascade.subject, &workspace);
        Ok(!self.readers.read(statement, scalars).await?.is_empty())
    }

    /// What a job has deleted so far, by table.
    pub async fn cascade_removed(&self, subject: &str) -> Result<Vec<Removed>> {
        const STATEMENT: &str = "SELECT place, removed FROM {s}cascade_counts WHERE subject = $1 ORDER BY place";
        let rows = self.readers.read(STATEMENT, vec![subject.into()]).await?;
        rows.iter().map(|row| Ok(Removed { table: row.required(0)?, rows: row.int(1)?.unwrap_or_default() })).collect()
    }

    /// When jobs were begun, since then, in which an application had something: what the burst breaker counts. At most
    /// `limit` of them, the newest.
    pub async fn cascades_with_content(&self, since: Millis, limit: i64) -> Result<Vec<Millis>> {
        const STATEMENT: &str = "SELECT created_at FROM {s}cascades WHERE created_at >= $1 AND has_content = (1 = 1) \
            AND kind = 'organization' ORDER BY created_at DESC LIMIT $2";
        let rows = self.readers.read(STATEMENT, vec![since.0.into(), limit.into()]).await?;
        rows.iter().map(|row| Ok(Millis(row.int(0)?.unwrap_or_default()))).collect()
    }

    /// How many jobs are in which state, those that are done left out.
    pub async fn cascades_standing(&self) -> Result<Vec<CascadesStanding>> {
        const STATEMENT: &str = "SELECT state, count(*), min(created_at), reason FROM {s}cascades \
            WHERE state <> 'done' GROUP BY state, reason";
        let rows = self.readers.read(STATEMENT, vec![]).await?;
        rows.iter()
            .map(|row| {
                Ok(CascadesStanding {
                    state: row.required(0)?,
                    jobs: row.int(1)?.unwrap_or_default(),
                    oldest: Millis(row.int(2)?.unwrap_or_default()),
                    reason: row.text(3)?,
                })
            })
            .collect()
    }
}

impl Writer {
    /// Changes a job, if it still stands as it was read: `false` means that somebody else has changed it. The worker brings the
    /// fence of its lease, and changes nothing without it.
    pub async fn change_cascade(&mut self, before: &Cascade, after: &Cascade, fence: Option<&Fence>) -> Result<bool> {
        let found = self.run_beside(fence, vec![update(before, after)]).await?;
        Ok(found.iter().any(|rows| !rows.is_empty()))
    }

    /// [`Writer::change_cascade`] to the end of a job, or to its cancellation: what another organization names begins anew with it, in the
    /// same transaction.
    pub async fn end_cascade(
        &mut self,
        before: &Cascade,
        after: &Cascade,
        now: Millis,
        fence: Option<&Fence>,
    ) -> Result<bool> {
        let mode = self.workspaces();
        let connection = self.fresh().await?;
        let dialect = connection.dialect();
        let work = end(connection, (before, after), mode, now, fence);
        let result = engine::complete(dialect, Box::pin(work)).await;
        self.settle(result).await
    }

    /// Takes a job back whose subject the copy shows again: only a token had spoken for it, Clerk denied it, and has it now. Its
    /// workspace goes on. Nothing is done for one that was deleted.
    pub async fn revive(&mut self, cascade: &Cascade, now: Millis, fence: &Fence) -> Result<bool> {
        let connection = self.fresh().await?;
        let dialect = connection.dialect();
        let result = engine::complete(dialect, Box::pin(revive(connection, cascade, now, fence))).await;
        self.settle(result).await
    }

    /// Forgets a job of which nobody needs a receipt: nothing went with it.
    pub async fn drop_cascade(&mut self, subject: &str, fence: &Fence) -> Result<()> {
        self.run_beside(Some(fence), forget(&[subject.to_owned()])).await.map(drop)
    }

    /// Forgets receipts of jobs that were begun before then and are done, at most `limit`. Returns how many.
    pub async fn forget_cascades(&mut self, before: Millis, limit: i64) -> Result<usize> {
        const OLD: &str = "SELECT subject FROM {s}cascades WHERE state = 'done' AND created_at < $1 \
            ORDER BY created_at LIMIT $2";
        let found = self.run_beside(None, vec![Call::new(OLD, vec![before.0.into(), limit.into()])]).await?;
        let old: Vec<String> = found.iter().flatten().map(|row| row.required(0)).collect::<Result<_>>()?;
        if !old.is_empty() {
            self.run_beside(None, forget(&old)).await?;
        }
        Ok(old.len())
    }

    /// Runs statements in a transaction beside the pen, in the name of a lease.
    pub(crate) async fn run_beside(&mut self, fence: Option<&Fence>, calls: Vec<Call<'_>>) -> Result<Vec<Vec<Row>>> {
        let connection = self.fresh().await?;
        let dialect = connection.dialect();
        let work = async {
            begin_fenced(connection, fence).await?;
            let found = connection.run_all(calls).await?;
            connection.finish(vec![]).await?;
            Ok(found)
        };
        let result = engine::complete(dialect, Box::pin(work)).await;
        self.settle(result).await
    }
}

/// Asks for a row if a subject is shown, or one of these workspaces lives.
pub(crate) fn alive(kind: Subject, subject: &str, workspaces: &[String]) -> (&'static str, Vec<Value>) {
    let statement = match kind {
        Subject::Organization => {
            "SELECT clerk_org_id FROM {s}organizations WHERE clerk_org_id = $1 \
             UNION ALL SELECT id FROM {s}workspaces WHERE id IN {list $2} AND ended_at IS NULL LIMIT 1"
        }
        Subject::User => {
            "SELECT clerk_user_id FROM {s}users WHERE clerk_user_id = $1 \
             UNION ALL SELECT id FROM {s}workspaces WHERE id IN {list $2} AND ended_at IS NULL LIMIT 1"
        }
    };
    let list = serde_json::to_string(workspaces).unwrap_or_default();
    (statement, vec![subject.into(), list.as_str().into()])
}

fn forget(subjects: &[String]) -> Vec<Call<'static>> {
    let list = serde_json::to_string(subjects).unwrap_or_default();
    [
        "DELETE FROM {s}outbox WHERE subject IN {list $1}",
        "DELETE FROM {s}cascade_counts WHERE subject IN {list $1}",
        "DELETE FROM {s}cascades WHERE subject IN {list $1}",
    ]
    .map(|statement| Call::new(statement, vec![list.as_str().into()]))
    .into()
}

async fn end(
    connection: &mut Connection,
    (before, after): (&Cascade, &Cascade),
    mode: WorkspaceMode,
    now: Millis,
    fence: Option<&Fence>,
) -> Result<bool> {
    let fences = fence.into_iter().collect();
    let begun = connection.begin(vec![], vec![leases::held(&fences)]).await?;
    if let Some(fence) = fence
        && !leases::read_held(&begun.under_pen[0], &fences).contains(fence)
    {
        connection.rollback().await?;
        return Err(Error::LeaseLost(fence.lease));
    }
    if connection.run(update(before, after)).await?.is_empty() {
        connection.rollback().await?;
        return Ok(false);
    }
    let mut entries = Vec::new();
    let freed = Unsettled { workspaces: before.workspace_id.clone().into_iter().collect(), ..Unsettled::default() };
    records::settle(connection, &freed, mode, now, &mut entries).await?;
    connection.finish(changes::append(begun.last, &entries, now).1).await?;
    Ok(true)
}

async fn revive(connection: &mut Connection, cascade: &Cascade, now: Millis, fence: &Fence) -> Result<bool> {
    const SHOWN: &str = "SELECT clerk_org_id FROM {s}organizations WHERE clerk_org_id = $1";
    const REVIVE: &str = "UPDATE {s}workspaces SET ended_at = NULL WHERE ended_at IS NOT NULL \
        AND (clerk_org_id = $1 OR id = $1) RETURNING id";
    let subject = || vec![Value::from(cascade.subject.as_str())];
    let fences = [fence].into_iter().collect();
    let begun = connection.begin(vec![], vec![leases::held(&fences), Call::new(SHOWN, subject())]).await?;
    if !leases::read_held(&begun.under_pen[0], &fences).contains(fence) {
        connection.rollback().await?;
        return Err(Error::LeaseLost(fence.lease));
    }
    if begun.under_pen[1].is_empty() || cascade.job.state != State::Waiting {
        connection.rollback().await?;
        return Ok(false);
    }
    let entry = |row: &Row| Ok(Entry::of(Entity::Workspace, row.required(0)?, Operation::Put));
    let revived = connection.run(Call::new(REVIVE, subject())).await?;
    let entries: Vec<Entry> = revived.iter().map(entry).collect::<Result<_>>()?;
    connection.run_all(forget(std::slice::from_ref(&cascade.subject))).await?;
    connection.finish(changes::append(begun.last, &entries, now).1).await?;
    Ok(true)
}

/// Begins the jobs of subjects that went, with the statements that write their tombstones; after their workspaces were marked as ended.
/// A job that is there is left alone, unless it was done: what comes back after that and goes again is another deletion.
pub(crate) fn begin<'a>(kind: Subject, subjects: impl ExactSizeIterator<Item = &'a str>, now: Millis) -> Call<'a> {
    const STATEMENT: &str = "INSERT INTO {s}cascades AS c (subject, kind, workspace_id, name, state, created_at, due_at) \
        SELECT v.subject, v.kind, w.id, w.name, 'waiting', v.now, v.now FROM {rows} AS v LEFT JOIN {s}workspaces w \
          ON w.id = (SELECT e.id FROM {s}workspaces e WHERE e.ended_at IS NOT NULL \
            AND (e.clerk_org_id = v.subject OR e.id = v.subject) ORDER BY e.is_linked LIMIT 1) WHERE true \
        ON CONFLICT (subject) DO UPDATE SET workspace_id = excluded.workspace_id, name = excluded.name, state = 'waiting', \
          created_at = excluded.created_at, due_at = excluded.due_at, failures = 0, passes = 0, is_released = (1 = 0), \
          has_content = NULL, error = NULL, confirmed_at = NULL, rows_gone_at = NULL, steps_gone_at = NULL, finished_at = NULL \
        WHERE c.state = 'done'";
    let length = subjects.len();
    let rows = Rows::new(length)
        .text("subject", subjects.map(Some))
        .text("kind", std::iter::repeat_n(Some(kind.as_str()), length))
        .int("now", std::iter::repeat_n(Some(now.0), length));
    Call::over(STATEMENT, rows)
}

/// Begins a transaction beside the pen in the name of a lease, and locks the lease's row until the commit: nobody takes it over
/// before.
pub(crate) async fn begin_fenced(connection: &mut Connection, fence: Option<&Fence>) -> Result<()> {
    const HELD: &str = "SELECT fence FROM {s}leases WHERE name = $1 AND fence = $2{for-share}";
    let held = fence.map(|fence| Call::new(HELD, vec![fence.lease.into(), fence.number.into()]));
    let found = connection.begin_beside_pen(held.into_iter().collect()).await?;
    match fence {
        Some(fence) if found.first().is_none_or(Vec::is_empty) => {
            connection.rollback().await?;
            Err(Error::LeaseLost(fence.lease))
        }
        _ => Ok(()),
    }
}

/// The statement of [`Writer::change_cascade`]: returns the subject if it was changed.
pub(crate) fn update(before: &Cascade, after: &Cascade) -> Call<'static> {
    const STATEMENT: &str = "UPDATE {s}cascades SET state = $1, reason = $2, due_at = $3, failures = $4, passes = $5, \
        found_again = ($6 = 1), is_released = ($7 = 1), has_skipped = ($8 = 1), \
        has_content = CASE $9 WHEN 0 THEN (1 = 0) WHEN 1 THEN (1 = 1) END, error = $10, \
        confirmed_at = {as-time $11}, rows_gone_at = {as-time $12}, steps_gone_at = {as-time $13}, finished_at = {as-time $14} \
        WHERE subject = $15 AND state = $16 AND reason IS NOT DISTINCT FROM $17 AND passes = $18 RETURNING subject";
    let text = |text: Option<&str>| Value::Text(text.map(ToOwned::to_owned));
    let number = |number: bool| Value::Int(Some(i64::from(number)));
    let (old, new) = (&before.job, &after.job);
    let scalars = vec![
        new.state.name().into(),
        text(new.state.reason().map(faircopy_core::cascade::Reason::name)),
        Value::Int(new.due_at.map(|at| at.0)),
        i64::from(new.failures).into(),
        i64::from(new.passes).into(),
        number(new.found_again),
        number(new.is_released),
        number(new.has_skipped),
        after.has_content.map_or(Value::Int(None), number),
        text(after.error.as_deref()),
        text(after.confirmed_at.as_deref()),
        text(after.rows_gone_at.as_deref()),
        text(after.steps_gone_at.as_deref()),
        text(after.finished_at.as_deref()),
        before.subject.as_str().into(),
        old.state.name().into(),
        text(old.state.reason().map(faircopy_core::cascade::Reason::name)),
        i64::from(old.passes).into(),
    ];
    Call::new(STATEMENT, scalars)
}

fn read(row: &Row) -> Result<Cascade> {
    let subject = row.required(0)?;
    let (state, reason) = (row.required(4)?, row.text(5)?);
    let state = State::read(&state, reason.as_deref()).ok_or_else(|| Error::Corrupt {
        table: "cascades",
        column: "state",
        row: subject.clone(),
    })?;
    let count = |column| Ok::<u32, Error>(u32::try_from(row.int(column)?.unwrap_or_default()).unwrap_or(u32::MAX));
    let flag = |column| Ok::<bool, Error>(row.bool(column)?.unwrap_or_default());
    let job = Job {
        state,
        created_at: Millis(row.int(6)?.unwrap_or_default()),
        due_at: row.int(7)?.map(Millis),
        failures: count(8)?,
        passes: count(9)?,
        found_again: flag(10)?,
        is_released: flag(11)?,
        has_skipped: flag(12)?,
    };
    Ok(Cascade {
        subject,
        kind: Subject::read(&row.required(1)?),
        workspace_id: row.text(2)?,
        name: row.text(3)?,
        job,
        has_content: row.bool(13)?,
        error: row.text(14)?,
        confirmed_at: row.text(15)?,
        rows_gone_at: row.text(16)?,
        steps_gone_at: row.text(17)?,
        finished_at: row.text(18)?,
    })
}

//! Deletions as people see them: a job with its receipt, and what an operator may do about it.

use faircopy_core::Millis;
use faircopy_core::cascade::job::{Event, Job, Rules};
use faircopy_core::cascade::tree::Root;
use faircopy_core::cascade::{Refusal, State};
use faircopy_store::{Cascade, Error, Removed, StepCount, Store, Subject};
use serde::Serialize;
use utoipa::ToSchema;

use crate::config::{Config, LIVEBLOCKS};

/// How often a change is tried again that met another one.
const TRIES: u32 = 5;

/// The deletion of an organization or a user.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Deletion {
    /// The id of the organization or user that went: there is one deletion for each.
    #[schema(example = "org_2abc")]
    pub id: String,
    /// `organization` or `user`.
    pub kind: Subject,
    /// The workspace that goes with it.
    pub workspace_id: Option<String>,
    /// What the organization was called.
    pub name: Option<String>,
    /// `waiting`, `deleting`, `calling`, `done`, `paused` or `cancelled`.
    #[schema(example = "deleting")]
    pub state: String,
    /// Why it is paused: `burst`, `still-there` or `key-refused`.
    pub reason: Option<String>,
    /// What went wrong last.
    pub error: Option<String>,
    /// When it was told that the organization or user is gone.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it is gone on with; `null` where it waits for a word, or for nothing any more.
    #[schema(format = DateTime)]
    pub due_at: Option<String>,
    /// When Clerk itself said that it is gone; `null` where it was not asked.
    #[schema(format = DateTime)]
    pub confirmed_at: Option<String>,
    /// When no row was left.
    #[schema(format = DateTime)]
    pub rows_gone_at: Option<String>,
    /// When nothing was left outside.
    #[schema(format = DateTime)]
    pub outside_gone_at: Option<String>,
    /// When it was looked for once more and nothing was found.
    #[schema(format = DateTime)]
    pub finished_at: Option<String>,
}

/// A deletion and what it has done so far: in the end, its receipt.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Receipt {
    #[serde(flatten)]
    /// The deletion.
    pub deletion: Deletion,
    /// Rows that were deleted, by table.
    pub removed: Vec<Removed>,
    /// What was done outside, by target and state.
    pub outside: Vec<StepCount>,
}

impl From<Cascade> for Deletion {
    fn from(cascade: Cascade) -> Self {
        let Cascade { subject, kind, workspace_id, name, job, error, confirmed_at, rows_gone_at, .. } = cascade;
        Self {
            id: subject,
            kind,
            workspace_id,
            name,
            state: job.state.name().to_owned(),
            reason: job.state.reason().map(|reason| reason.name().to_owned()),
            error,
            created_at: job.created_at.to_string(),
            due_at: job.due_at.map(|at| at.to_string()),
            confirmed_at,
            rows_gone_at,
            outside_gone_at: cascade.steps_gone_at,
            finished_at: cascade.finished_at,
        }
    }
}

/// The deletion of this organization or user; `None` where there is none.
pub async fn receipt(store: &Store, id: &str) -> Result<Option<Receipt>, Error> {
    let Some(cascade) = store.cascade(id).await? else { return Ok(None) };
    let (removed, outside) = (store.cascade_removed(id).await?, store.steps_of(id).await?);
    Ok(Some(Receipt { deletion: cascade.into(), removed, outside }))
}

/// What would go with an organization or a user, if it went now; or is still to go.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Plan {
    /// The id of the organization or user.
    #[schema(example = "org_2abc")]
    pub id: String,
    /// `organization` or `user`.
    pub kind: Subject,
    /// Whether the copy shows it: otherwise it is being deleted, was deleted, or was never there.
    pub is_live: bool,
    /// The workspaces that would go with it.
    pub workspaces: Vec<String>,
    /// Rows by table, in the order in which they would go.
    pub rows: Vec<PlannedRows>,
    /// What they have outside.
    pub outside: Vec<PlannedIds>,
    /// So long after the deletion nothing goes, and it can be cancelled without any loss.
    pub hold_seconds: i64,
}

/// Rows of one table that would go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PlannedRows {
    /// The table.
    #[schema(example = "faircopy.messages")]
    pub table: String,
    /// Rows.
    pub rows: i64,
    /// Whether there may be more: counting ends at two million.
    pub is_at_least: bool,
}

/// Ids of one form that would be done away with outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct PlannedIds {
    /// `liveblocks`, or the name of a step.
    #[schema(example = "liveblocks")]
    pub target: String,
    /// Their form.
    #[schema(example = "doc:{id}")]
    pub pattern: String,
    /// Ids.
    pub ids: i64,
    /// Whether there is a key for the target: without one they would be left.
    pub has_key: bool,
}

/// What would go. Nothing is changed.
pub async fn plan(store: &Store, config: &Config, id: &str) -> Result<Plan, Error> {
    let kind = match store.cascade(id).await? {
        Some(cascade) => cascade.kind,
        None if store.is_shown(Subject::User, id).await? || id.starts_with("user_") => Subject::User,
        None => Subject::Organization,
    };
    let is_live = store.is_shown(kind, id).await?;
    let workspaces = if kind == Subject::Organization { store.workspaces_of(id).await? } else { vec![] };
    let roots: Vec<(Root, &str)> = match kind {
        Subject::User => vec![(Root::User, id)],
        Subject::Organization => {
            let of_workspaces = workspaces.iter().map(|workspace| (Root::Workspace, workspace.as_str()));
            of_workspaces.chain([(Root::Organization, id)]).collect()
        }
    };
    let (mut rows, mut outside): (Vec<PlannedRows>, Vec<PlannedIds>) = (Vec::new(), Vec::new());
    for (root, key) in roots {
        for count in store.content_counts(&config.cascade.tree, root, key).await? {
            for ids in count.external {
                let has_key = ids.target != LIVEBLOCKS || config.liveblocks.secret_key.is_some();
                match outside.iter_mut().find(|of| of.target == ids.target && of.pattern == ids.pattern) {
                    Some(of) => of.ids += ids.ids,
                    None => {
                        outside.push(PlannedIds { target: ids.target, pattern: ids.pattern, ids: ids.ids, has_key });
                    }
                }
            }
            match rows.iter_mut().find(|of| of.table == count.table) {
                Some(of) => {
                    of.rows += count.rows;
                    of.is_at_least |= count.is_at_least;
                }
                None => rows.push(PlannedRows { table: count.table, rows: count.rows, is_at_least: count.is_at_least }),
            }
        }
    }
    if !workspaces.is_empty() {
        let count = i64::try_from(workspaces.len()).unwrap_or(i64::MAX);
        rows.push(PlannedRows { table: "faircopy.workspaces".into(), rows: count, is_at_least: false });
    }
    let hold_seconds = config.cascade.rules.hold_ms / 1000;
    Ok(Plan { id: id.to_owned(), kind, is_live, workspaces, rows, outside, hold_seconds })
}

/// What an operator says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Nothing more of it is deleted. What is gone is gone.
    Cancel,
    /// It goes on.
    Resume,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Unchanged {
    /// There is no such deletion.
    #[error("nothing is being deleted under this id")]
    Unknown,
    /// It means nothing to it as it stands.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Somebody else changes it all the time.
    #[error("the deletion is being changed; try again")]
    Changing,
    /// The database.
    #[error(transparent)]
    Store(#[from] Error),
}

/// Carries out an order; returns the deletion as it stands then.
pub async fn carry_out(store: &Store, id: &str, order: Order, now: Millis) -> Result<Cascade, Unchanged> {
    let mut writer = store.writer();
    for _ in 0..TRIES {
        let before = store.cascade(id).await?.ok_or(Unchanged::Unknown)?;
        let event = match order {
            Order::Cancel => Event::Cancel,
            Order::Resume => Event::Resume { lives_again: store.lives_again(&before).await? },
        };
        // Neither order asks for the rules.
        let job: Job = before.job.after(event, now, &Rules::default())?;
        let after = Cascade { job, error: None, ..before.clone() };
        if order == Order::Resume && before.job.has_skipped && job.state == State::Calling {
            writer.reopen_skipped(id, now).await?;
        }
        let changed = match order {
            Order::Cancel => writer.end_cascade(&before, &after, now, None).await?,
            Order::Resume => writer.change_cascade(&before, &after, None).await?,
        };
        if changed {
            return Ok(after);
        }
    }
    Err(Unchanged::Changing)
}

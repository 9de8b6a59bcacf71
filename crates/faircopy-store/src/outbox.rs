//! What must be done outside: written with the deletion of the row that it belonged to, and kept with what became of it.

use faircopy_core::Millis;

use crate::engine::{Call, Row, Rows};
use crate::error::Result;
use crate::leases::Fence;
use crate::{Store, Writer};

/// Something outside that goes with a job.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Step {
    /// The job.
    pub subject: String,
    /// Who is to be told: `liveblocks`, or the name of a step of the configuration.
    pub target: String,
    /// What is to go there.
    pub external_id: String,
    /// How often it was tried.
    pub attempts: u32,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// To be tried.
    Waiting,
    /// It was there, and is gone.
    Gone,
    /// It was not there any more: somebody else was quicker, or an answer was lost.
    WasGone,
    /// A live row claims the id again: it is not this job's any more.
    Kept,
    /// There was no key for the target.
    Skipped,
}

impl StepState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Waiting, Self::Gone, Self::WasGone, Self::Kept, Self::Skipped];

    /// As tables and answers name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Gone => "gone",
            Self::WasGone => "was-gone",
            Self::Kept => "kept",
            Self::Skipped => "skipped",
        }
    }
}

/// How many steps of a job stand how.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct StepCount {
    /// The target.
    pub target: String,
    /// `waiting`, `gone`, `was-gone`, `kept` or `skipped`.
    pub state: String,
    /// Steps.
    pub steps: i64,
    /// Attempts in all.
    pub attempts: i64,
    /// What went wrong with one of those that wait.
    pub error: Option<String>,
    /// When the next of those that wait is due, in milliseconds since 1970.
    #[serde(skip)]
    pub due_at: Option<i64>,
}

/// What is to be written down of a step that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Which.
    pub step: Step,
    /// What it is now.
    pub state: StepState,
    /// When it is due again, if it waits.
    pub due_at: Millis,
    /// Whether this was an attempt.
    pub was_called: bool,
    /// What went wrong.
    pub error: Option<String>,
}

impl Store {
    /// Steps for a target that are due, those that wait longest first. A job that is cancelled, or waits for a word, has none.
    pub async fn steps_due(&self, target: &str, now: Millis, limit: i64) -> Result<Vec<Step>> {
        const STATEMENT: &str = "SELECT o.subject, o.target, o.external_id, o.attempts FROM {s}outbox o \
            JOIN {s}cascades c ON c.subject = o.subject \
            WHERE o.state = 'waiting' AND o.target = $1 AND o.due_at <= $2 \
            AND (c.state IN ('deleting', 'calling') OR c.reason = 'key-refused') \
            ORDER BY o.due_at, o.subject, o.external_id LIMIT $3";
        let rows = self.readers.read(STATEMENT, vec![target.into(), now.0.into(), limit.into()]).await?;
        rows.iter().map(step).collect()
    }

    /// The targets for which steps wait.
    pub async fn targets_waiting(&self) -> Result<Vec<String>> {
        const STATEMENT: &str = "SELECT DISTINCT target FROM {s}outbox WHERE state = 'waiting'";
        self.readers.read(STATEMENT, vec![]).await?.iter().map(|row| row.required(0)).collect()
    }

    /// How the steps of a job stand.
    pub async fn steps_of(&self, subject: &str) -> Result<Vec<StepCount>> {
        const STATEMENT: &str = "SELECT target, state, count(*), CAST(sum(attempts) AS bigint), max(error), min(due_at) \
            FROM {s}outbox WHERE subject = $1 GROUP BY target, state ORDER BY target, state";
        let rows = self.readers.read(STATEMENT, vec![subject.into()]).await?;
        rows.iter()
            .map(|row| {
                Ok(StepCount {
                    target: row.required(0)?,
                    state: row.required(1)?,
                    steps: row.int(2)?.unwrap_or_default(),
                    attempts: row.int(3)?.unwrap_or_default(),
                    error: row.text(4)?,
                    due_at: row.int(5)?,
                })
            })
            .collect()
    }

    /// Steps that wait, of all jobs.
    pub async fn steps_waiting(&self) -> Result<i64> {
        const STATEMENT: &str = "SELECT count(*) FROM {s}outbox WHERE state = 'waiting'";
        let rows = self.readers.read(STATEMENT, vec![]).await?;
        Ok(rows.first().map_or(Ok(None), |row| row.int(0))?.unwrap_or_default())
    }

    /// Which of these a job has done away with.
    pub async fn steps_done(&self, subject: &str, target: &str, ids: &[String]) -> Result<Vec<Step>> {
        const STATEMENT: &str = "SELECT subject, target, external_id, attempts FROM {s}outbox WHERE subject = $1 AND target = $2 \
            AND external_id IN {list $3} AND state IN ('gone', 'was-gone')";
        let list = serde_json::to_string(ids).unwrap_or_default();
        let rows = self.readers.read(STATEMENT, vec![subject.into(), target.into(), list.as_str().into()]).await?;
        rows.iter().map(step).collect()
    }
}

impl Writer {
    /// Writes down what became of steps, in the name of the lease. One whose job was cancelled meanwhile is written down all
    /// the same: what is gone is gone.
    pub async fn settle_steps(&mut self, tried: &[Tried], now: Millis, fence: &Fence) -> Result<()> {
        if tried.is_empty() {
            return Ok(());
        }
        self.run_beside(Some(fence), vec![settle(tried, now)]).await.map(drop)
    }

    /// Takes up the steps of a job again that were left out for want of a key.
    pub async fn reopen_skipped(&mut self, subject: &str, now: Millis) -> Result<()> {
        const STATEMENT: &str = "UPDATE {s}outbox SET state = 'waiting', due_at = $2, settled_at = NULL WHERE subject = $1 AND state = 'skipped'";
        self.run_beside(None, vec![Call::new(STATEMENT, vec![subject.into(), now.0.into()])]).await.map(drop)
    }
}

fn step(row: &Row) -> Result<Step> {
    Ok(Step {
        subject: row.required(0)?,
        target: row.required(1)?,
        external_id: row.required(2)?,
        attempts: u32::try_from(row.int(3)?.unwrap_or_default()).unwrap_or(u32::MAX),
    })
}

fn settle(tried: &[Tried], now: Millis) -> Call<'_> {
    const STATEMENT: &str = "UPDATE {s}outbox AS o SET state = v.state, due_at = v.due_at, attempts = o.attempts + v.called, \
        error = v.error, settled_at = v.settled_at FROM {rows} AS v \
        WHERE o.subject = v.subject AND o.target = v.target AND o.external_id = v.external_id";
    let rows = Rows::new(tried.len())
        .text("subject", tried.iter().map(|t| Some(t.step.subject.as_str())))
        .text("target", tried.iter().map(|t| Some(t.step.target.as_str())))
        .text("external_id", tried.iter().map(|t| Some(t.step.external_id.as_str())))
        .text("state", tried.iter().map(|t| Some(t.state.as_str())))
        .int("due_at", tried.iter().map(|t| Some(t.due_at.0)))
        .int("called", tried.iter().map(|t| Some(i64::from(t.was_called))))
        .text("error", tried.iter().map(|t| t.error.as_deref()))
        .time("settled_at", tried.iter().map(|t| (t.state != StepState::Waiting).then_some(now)));
    Call::over(STATEMENT, rows)
}

/// Writes steps that go with deleted rows. One that an earlier pass has settled is due again: somebody has made the row again.
pub(crate) fn insert<'a>(
    subject: &'a str,
    steps: &'a [(String, String)],
    skipped: impl Fn(&str) -> bool,
    now: Millis,
) -> Call<'a> {
    const STATEMENT: &str = "INSERT INTO {s}outbox AS o (subject, target, external_id, state, due_at, written_at) \
        SELECT v.subject, v.target, v.external_id, v.state, v.due_at, v.written_at FROM {rows} AS v WHERE true \
        ON CONFLICT (subject, target, external_id) DO UPDATE SET state = excluded.state, due_at = excluded.due_at, \
        settled_at = NULL WHERE o.state <> 'waiting'";
    let state = |target: &str| if skipped(target) { StepState::Skipped } else { StepState::Waiting }.as_str();
    let rows = Rows::new(steps.len())
        .text("subject", steps.iter().map(|_| Some(subject)))
        .text("target", steps.iter().map(|(target, _)| Some(target.as_str())))
        .text("external_id", steps.iter().map(|(_, id)| Some(id.as_str())))
        .text("state", steps.iter().map(|(target, _)| Some(state(target))))
        .int("due_at", steps.iter().map(|_| Some(now.0)))
        .time("written_at", steps.iter().map(|_| Some(now)));
    Call::over(STATEMENT, rows)
}

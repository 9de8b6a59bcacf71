//! Carries out the deletion of organizations and users (docs/decisions/0018-workspaces-and-cascades.md): the rows of a workspace,
//! and what they had outside. One replica does it at a time; after a crash the next look finds what is left.

mod alarms;
mod outside;
mod rows;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use faircopy_core::cascade::job::{Event, Job};
use faircopy_core::cascade::tree::{Parent, Root, Tree};
use faircopy_core::cascade::{Burst, Clerk as Word, Reason, State};
use faircopy_core::{Millis, OrganizationId, UserId};
use faircopy_store::{Cascade, Ended, Error, Fence, Mandate, StepState, Store, Subject, Swept, Writer};
use tokio::sync::Notify;

use crate::app::Clock;
use crate::config::Cascade as Cascades;
use crate::holder;
use crate::telemetry::Metrics;
use crate::upstream::clerk::{Clerk, Fault, Share};
pub use outside::{Caller, Outside};
use rows::{Cleared, Turn, roots};

/// The lease under which jobs are worked on.
pub const LEASE: &str = "cascade";
/// How long it lasts without being renewed: as long as others wait for one that hangs.
const LEASE_MS: i64 = 15_000;
/// How often it is renewed while there is work.
const RENEW_MS: i64 = 5_000;
/// How often the worker looks for jobs.
const TICK: Duration = Duration::from_secs(1);
/// How soon it looks again while there is work.
const SOON: Duration = Duration::from_millis(50);
/// Jobs that are looked at together: those that wait for their outside steps are among them, and must not stand before others.
const AT_ONCE: i64 = 1_000;
/// How soon a job whose outside steps are under way is looked at again.
const STEPS_AGAIN_MS: i64 = 500;
/// How soon a job is tried again that the database did not let go on.
const RETRY_MS: i64 = 1_000;
/// Jobs that the burst breaker counts at most: more are too many in any copy.
const MAX_COUNTED: i64 = 100_000;

/// The worker.
pub struct Cascader {
    store: Store,
    writer: Writer,
    clerk: Option<Arc<Clerk>>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    holder: Arc<str>,
    rules: Cascades,
    outside: Outside,
    /// Any number, all equally likely.
    chance: Arc<dyn Fn() -> u64 + Send + Sync>,
    soon: Arc<Notify>,
    renewed_at: Option<Millis>,
    /// Jobs that wait for their outside steps, and when they are looked at again: kept here, because a write for each look would
    /// be one too many.
    later: HashMap<String, Millis>,
    /// The pass of a job in which rooms that came back were looked for.
    listed: HashMap<String, u32>,
    alarms: alarms::Alarms,
}

impl Cascader {
    /// A worker with an outside of its own.
    #[must_use]
    #[expect(clippy::too_many_arguments, reason = "each is a part of the service, given by the composition root")]
    pub fn new(
        store: Store,
        clerk: Option<Arc<Clerk>>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        holder: Arc<str>,
        rules: Cascades,
        outside: Outside,
        chance: Arc<dyn Fn() -> u64 + Send + Sync>,
        soon: Arc<Notify>,
    ) -> Self {
        Self {
            writer: store.writer(),
            store,
            clerk,
            clock,
            metrics,
            holder,
            rules,
            outside,
            chance,
            soon,
            renewed_at: None,
            later: HashMap::new(),
            listed: HashMap::new(),
            alarms: alarms::Alarms::default(),
        }
    }

    /// Runs until it is aborted.
    pub async fn run(mut self) {
        let soon = self.soon.clone();
        loop {
            let worked = match self.step().await {
                Ok(worked) => worked,
                // Another replica is at it.
                Err(Error::LeaseLost(_)) => false,
                Err(error) => {
                    tracing::warn!(%error, "deletions could not be gone on with; they are tried again");
                    false
                }
            };
            if !worked {
                self.writer.discard();
            }
            let nap = if worked { SOON } else { TICK };
            tokio::select! {
                () = tokio::time::sleep(nap) => {}
                () = soon.notified() => {}
            }
        }
    }

    /// One look: takes up what is due. Returns whether anything moved on.
    pub async fn step(&mut self) -> Result<bool, Error> {
        let now = self.clock.now();
        let mut due = self.store.cascades_due(now, AT_ONCE).await?;
        self.later.retain(|_, later| *later > now);
        due.retain(|cascade| !self.later.contains_key(&cascade.subject));
        let alarms = self.alarms.look(&self.store, &self.rules, &self.outside, &self.metrics, now).await?;
        if due.is_empty() && !alarms {
            return Ok(false);
        }
        if !due.is_empty() {
            self.outside.wake(true);
        }
        let Some(fence) = self.take_lease().await? else { return Ok(false) };
        if alarms {
            self.alarms.tell(&mut self.writer, &fence, now).await?;
        }
        let mut worked = false;
        for cascade in due {
            worked |= self.take_up(cascade, &fence).await?;
        }
        Ok(worked)
    }

    async fn take_lease(&mut self) -> Result<Option<Fence>, Error> {
        let now = self.clock.now();
        self.renewed_at = Some(now);
        holder::take(&self.store, &mut self.writer, LEASE, &self.holder, now, LEASE_MS).await
    }

    /// Keeps the lease while there is work.
    async fn renew(&mut self, fence: &Fence) -> Result<(), Error> {
        let now = self.clock.now();
        if self.renewed_at.is_some_and(|at| now.0 - at.0 < RENEW_MS && now >= at) {
            return Ok(());
        }
        if self.take_lease().await?.as_ref() == Some(fence) { Ok(()) } else { Err(Error::LeaseLost(LEASE)) }
    }

    /// Goes on with a job. Returns whether it moved on.
    async fn take_up(&mut self, cascade: Cascade, fence: &Fence) -> Result<bool, Error> {
        self.renew(fence).await?;
        let outcome = match cascade.job.state {
            State::Waiting => self.look(&cascade, fence).await,
            State::Deleting => self.delete(&cascade, fence).await,
            State::Calling | State::Paused(Reason::KeyRefused) => self.follow(&cascade, fence).await,
            State::Paused(_) | State::Cancelled | State::Done => Ok(false),
        };
        match outcome {
            // An application holds a row, or the database refuses something: this job waits, and the others go on.
            Err(error @ (Error::Busy(_) | Error::Refused(_))) => {
                let now = self.clock.now();
                self.later.insert(cascade.subject.clone(), now.plus(RETRY_MS));
                if cascade.error.as_deref() != Some(error.to_string().as_str()) {
                    tracing::warn!(subject = cascade.subject, %error, code = "cascade-hindered", "a deletion cannot go on now");
                    let after = Cascade { error: Some(error.to_string()), ..cascade.clone() };
                    self.writer.change_cascade(&cascade, &after, Some(fence)).await?;
                }
                Ok(false)
            }
            other => other,
        }
    }

    /// Before anything irreversible: is the hold over, are there not too many, and is it really gone at Clerk?
    async fn look(&mut self, cascade: &Cascade, fence: &Fence) -> Result<bool, Error> {
        let now = self.clock.now();
        if cascade.job.is_held(now, &self.rules.rules) {
            let job = Job { due_at: Some(cascade.job.held_until(&self.rules.rules)), ..cascade.job };
            return self.writer.change_cascade(cascade, &Cascade { job, ..cascade.clone() }, Some(fence)).await;
        }
        if self.store.is_shown(cascade.kind, &cascade.subject).await? {
            return self.writer.revive(cascade, now, fence).await;
        }
        let has_content = match cascade.has_content {
            Some(known) => known,
            None => has_content(&self.store, &self.rules.tree, cascade).await?,
        };
        let is_one_too_many = has_content
            && cascade.kind == Subject::Organization
            && is_burst(&self.store, self.rules.burst, cascade).await?;
        // For a user with whom nothing goes Clerk need not be troubled.
        let is_harmless = cascade.kind == Subject::User && !has_content;
        let (word, fault) =
            if is_harmless { (Word::NoKey, None) } else { ask_clerk(self.clerk.as_deref(), cascade).await };
        let now = self.clock.now();
        let event = Event::Looked { clerk: word, burst: is_one_too_many, chance: (self.chance)() };
        let Some(job) = self.after(cascade, event, now) else { return Ok(false) };
        let mut after = Cascade { job, has_content: Some(has_content), error: fault, ..cascade.clone() };
        if word == Word::Gone && job.state == State::Deleting {
            after.confirmed_at = Some(now.to_string());
        }
        self.say(&after);
        self.writer.change_cascade(cascade, &after, Some(fence)).await
    }

    /// One turn of deleting.
    async fn delete(&mut self, cascade: &Cascade, fence: &Fence) -> Result<bool, Error> {
        let hangs = roots(&self.store, cascade).await?;
        let workspaces: Vec<String> =
            hangs.iter().filter(|(root, _)| *root == Root::Workspace).map(|(_, id)| id.clone()).collect();
        let mut turn = Turn::new(self, cascade, &workspaces, fence);
        let cleared = turn.clear_all(&hangs).await?;
        let removed = turn.removed;
        let now = self.clock.now();
        let mut before = cascade.clone();
        if removed > 0
            && cascade.job.passes > 0
            && !cascade.job.found_again
            && let Some(job) = self.after(cascade, Event::FoundAgain, now)
        {
            let after = Cascade { job, ..cascade.clone() };
            if !self.writer.change_cascade(cascade, &after, Some(fence)).await? {
                return Ok(false);
            }
            before = after;
        }
        match cleared {
            Cleared::Stopped => Ok(false),
            // Its turn comes again: nothing needs to be written for that.
            Cleared::More => Ok(removed > 0),
            Cleared::All => self.end_rows(&before, &workspaces, fence, now).await,
        }
    }

    async fn end_rows(
        &mut self,
        before: &Cascade,
        workspaces: &[String],
        fence: &Fence,
        now: Millis,
    ) -> Result<bool, Error> {
        let Some(job) = self.after(before, Event::RowsGone, now) else { return Ok(false) };
        let rows_gone_at = before.rows_gone_at.clone().or_else(|| Some(now.to_string()));
        let after = Cascade { job, rows_gone_at, error: None, ..before.clone() };
        let tree = self.rules.tree.clone();
        let root = Parent::Root(Root::Workspace);
        let hanging: Vec<_> = tree.hanging_on(&root).collect();
        let mandate = Mandate { cascade: before, workspaces, fence, without_key: &[], now };
        match self.writer.end_rows(mandate, &hanging, &after).await? {
            Ended::Gone => Ok(true),
            Ended::HasChildren | Ended::Stopped => Ok(false),
        }
    }

    /// The rows are gone: how far is the outside?
    async fn follow(&mut self, cascade: &Cascade, fence: &Fence) -> Result<bool, Error> {
        let now = self.clock.now();
        let steps = self.store.steps_of(&cascade.subject).await?;
        let is = |state: StepState| steps.iter().filter(move |step| step.state == state.as_str());
        if is(StepState::Waiting).next().is_some() {
            let refused = is(StepState::Waiting)
                .filter_map(|step| self.outside.refusal(&step.target))
                .min_by_key(|it| it.next_probe);
            let event = match refused {
                Some(refusal) => Event::KeyRefused { probe: refusal.next_probe },
                None => Event::StepsLeft { next: now.plus(STEPS_AGAIN_MS) },
            };
            self.later.insert(cascade.subject.clone(), now.plus(STEPS_AGAIN_MS));
            let Some(job) = self.after(cascade, event, now) else { return Ok(false) };
            if job.state == cascade.job.state {
                return Ok(false);
            }
            let after = Cascade { job, ..cascade.clone() };
            self.say(&after);
            return self.writer.change_cascade(cascade, &after, Some(fence)).await;
        }
        if cascade.job.passes > 0 && self.listed.get(&cascade.subject) != Some(&cascade.job.passes) {
            match self.outside.look_for_returned(&self.store, &mut self.writer, cascade, fence, now).await? {
                outside::Returned::Nothing => {
                    self.listed.insert(cascade.subject.clone(), cascade.job.passes);
                }
                outside::Returned::Some => {
                    self.listed.insert(cascade.subject.clone(), cascade.job.passes);
                    let Some(job) = self.after(cascade, Event::FoundAgain, now) else { return Ok(false) };
                    return self.writer.change_cascade(cascade, &Cascade { job, ..cascade.clone() }, Some(fence)).await;
                }
                outside::Returned::Unknown(fault) => {
                    tracing::debug!(%fault, "rooms could not be listed");
                    self.later.insert(cascade.subject.clone(), now.plus(10 * RETRY_MS));
                    return Ok(false);
                }
            }
        }
        let skipped = is(StepState::Skipped).next().is_some();
        let Some(job) = self.after(cascade, Event::StepsConfirmed { skipped }, now) else { return Ok(false) };
        let at = || Some(now.to_string());
        let after = Cascade {
            job,
            steps_gone_at: cascade.steps_gone_at.clone().or_else(at),
            finished_at: if job.state == State::Done { at() } else { None },
            error: None,
            ..cascade.clone()
        };
        self.later.remove(&cascade.subject);
        let changed = match after.job.state {
            State::Done => self.writer.end_cascade(cascade, &after, now, Some(fence)).await?,
            _ => self.writer.change_cascade(cascade, &after, Some(fence)).await?,
        };
        if changed && after.job.state == State::Done {
            self.listed.remove(&cascade.subject);
            self.conclude(&after, steps.is_empty(), fence).await?;
        }
        Ok(changed)
    }

    /// The end of a job. A user with whom nothing went needs no receipt.
    async fn conclude(&mut self, done: &Cascade, is_stepless: bool, fence: &Fence) -> Result<(), Error> {
        let removed = self.store.cascade_removed(&done.subject).await?;
        let rows: i64 = removed.iter().map(|removed| removed.rows).sum();
        if done.kind == Subject::User && rows == 0 && is_stepless {
            return self.writer.drop_cascade(&done.subject, fence).await;
        }
        tracing::info!(subject = done.subject, rows, "a deletion is done: nothing is left");
        Ok(())
    }

    fn after(&self, cascade: &Cascade, event: Event, now: Millis) -> Option<Job> {
        match cascade.job.after(event, now, &self.rules.rules) {
            Ok(job) => Some(job),
            Err(refusal) => {
                tracing::debug!(subject = cascade.subject, %refusal, ?event, "a deletion stands elsewhere");
                None
            }
        }
    }

    fn say(&self, after: &Cascade) {
        let subject = after.subject.as_str();
        match after.job.state {
            State::Deleting => tracing::info!(subject, "what hung on it is being deleted"),
            State::Paused(reason) => tracing::warn!(
                subject,
                reason = reason.name(),
                code = "cascade-paused",
                "a deletion is paused: see `faircopy cascade show`"
            ),
            _ => {}
        }
    }
}

/// What Clerk says of a subject, and why it says nothing.
async fn ask_clerk(clerk: Option<&Clerk>, cascade: &Cascade) -> (Word, Option<String>) {
    let Some(clerk) = clerk else { return (Word::NoKey, None) };
    let answer = match cascade.kind {
        Subject::Organization => match OrganizationId::parse(&cascade.subject) {
            Ok(id) => clerk.organization(&id, Share::Background).await,
            Err(_) => return (Word::NoKey, None),
        },
        Subject::User => match UserId::parse(&cascade.subject) {
            Ok(id) => clerk.user(&id, Share::Background).await,
            Err(_) => return (Word::NoKey, None),
        },
    };
    match answer {
        Ok(answer) if answer.found.is_some() => (Word::There, None),
        // An instance that has no organizations any more has not this one.
        Ok(_) | Err(Fault::NoOrganizations) => (Word::Gone, None),
        Err(fault) => (Word::Unknown, Some(format!("Clerk could not be asked whether it is gone: {fault}"))),
    }
}

async fn is_burst(store: &Store, burst: Burst, cascade: &Cascade) -> Result<bool, Error> {
    let since = cascade.job.created_at.plus(-burst.window_ms);
    let mut others = store.cascades_with_content(since, MAX_COUNTED).await?;
    if cascade.has_content == Some(true)
        && let Some(own) = others.iter().position(|at| *at == cascade.job.created_at)
    {
        others.remove(own);
    }
    let workspaces = store.shown(Swept::Organization).await?;
    Ok(burst.holds(&others, cascade.job.created_at, workspaces))
}

/// Whether an application has put anything there: the channel that every workspace begins with is nobody's work.
async fn has_content(store: &Store, tree: &Tree, cascade: &Cascade) -> Result<bool, Error> {
    for (root, key) in roots(store, cascade).await? {
        let general = format!("{key}:general");
        for (node, hang) in tree.hanging_on(&Parent::Root(root)) {
            let but = if root == Root::Workspace && node.is_built_in() { general.as_str() } else { "" };
            if store.has_hanging_on(node, hang, std::slice::from_ref(&key), but).await? {
                return Ok(true);
            }
            let name = Parent::Table(node.name.clone());
            for (child, of_child) in tree.hanging_on(&name).filter(|_| !but.is_empty()) {
                if store.has_hanging_on(child, of_child, std::slice::from_ref(&general), "").await? {
                    return Ok(true);
                }
            }
        }
    }
    Ok(false)
}

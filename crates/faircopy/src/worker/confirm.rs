//! Confirms what only tokens said. A row of the provenance `token` is provisional: this worker reads Clerk, and the row
//! becomes what Clerk says, or goes.
//!
//! What is to be done stands in the database and nowhere else: a restart forgets nothing, and every replica looks for itself.
//! Two of them may ask the same within one turn, which costs a request and changes nothing: the merge is idempotent. As each
//! begins its turn at a time of its own, and looks into the database first, what one has confirmed the others do not find.
//!
//! A denial is not a deletion. It takes back the word of a token that is older than [`READ_LAG_MS`], never a row that is
//! known in full, and leaves no tombstone: if Clerk's answer was behind, the next token brings the row back.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use faircopy_core::Millis;
use faircopy_core::event::api::{Item, Page};
use faircopy_core::event::{Fact, Observation};
use faircopy_core::id::{OrganizationId, UserId};
use faircopy_store::{Provisional, Store};
use tokio::sync::Notify;

use crate::app::Clock;
use crate::refresh::{Failure, READ_LAG_MS, Reader, not_a_member, organization_not_found, user_not_found};
use crate::telemetry::Metrics;
use crate::upstream::clerk::{Answer, Clerk, Cut, Fault, List, MAX_NAMED, Share};

/// How often the worker looks. Three turns and [`READ_LAG_MS`] fit into the minute within which a row is confirmed or taken
/// back.
const PERIOD_MS: i64 = 12_000;
/// Each replica's period is longer by a part of this that is its own, so that they do not keep step.
const MAX_PHASE_MS: i64 = 3_000;
/// How soon after a new provisional row: others that come at the same time are read together.
const SOON_MS: i64 = 1_000;
/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(250);
/// The longest rest after failures; it doubles from one period.
const LONGEST_REST_MS: i64 = 5 * 60_000;
/// Rows of each kind that one turn takes.
const MAX_ROWS: usize = 500;
/// Denials that one turn confirms by a question each. The others' turn comes later.
const MAX_DIRECT: usize = 50;

/// The worker.
pub struct Confirm {
    clerk: Arc<Clerk>,
    reader: Reader,
    store: Store,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    soon: Arc<Notify>,
    period_ms: i64,
    /// The last rows of the turn before. What cannot be settled now must not keep the others waiting.
    after: Provisional,
    failures: u32,
}

/// What one turn did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Provisional rows that were found.
    pub found: usize,
    /// Rows that Clerk has.
    pub confirmed: usize,
    /// Rows that Clerk does not have.
    pub denied: usize,
}

/// Why a turn ended early. The rest is found again at the next.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Clerk cannot be read.
    #[error("Clerk cannot be read: {0}")]
    Clerk(#[from] Fault),
    /// The copy cannot be read.
    #[error("{0}")]
    Read(#[from] faircopy_store::Error),
    /// What was read cannot be written.
    #[error("{0}")]
    Write(#[from] Failure),
}

impl Confirm {
    /// A worker that has its own period, somewhere between 12 and 15 seconds: `phase` says where.
    #[must_use]
    pub fn new(
        clerk: Arc<Clerk>,
        reader: Reader,
        store: Store,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        soon: Arc<Notify>,
        phase: u8,
    ) -> Self {
        let period_ms = PERIOD_MS + MAX_PHASE_MS * i64::from(phase) / i64::from(u8::MAX);
        Self { clerk, reader, store, clock, metrics, soon, period_ms, after: Provisional::default(), failures: 0 }
    }

    /// Runs until it is aborted. The first turn comes at once, and learns which instance the key belongs to.
    pub async fn run(mut self) {
        let mut due = self.clock.now();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let soon = self.soon.clone();
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = soon.notified() => {
                    // While Clerk fails, a rest is a rest.
                    if self.failures == 0 {
                        due = due.min(self.clock.now().plus(SOON_MS));
                    }
                }
            }
            let now = self.clock.now();
            // A clock that went back must not stop the worker until it has caught up.
            due = due.min(now.plus(LONGEST_REST_MS));
            if now >= due {
                due = self.clock.now().plus(self.turn().await);
            }
        }
    }

    /// One turn, and how long to rest after it.
    async fn turn(&mut self) -> i64 {
        match self.step().await {
            Ok(tally) => {
                self.failures = 0;
                if tally.found > 0 {
                    let Tally { found, confirmed, denied } = tally;
                    tracing::info!(found, confirmed, denied, "provisional rows were read from Clerk");
                }
                self.period_ms
            }
            // Both were asked at the start, and the issuer has not answered yet.
            Err(Stop::Clerk(Fault::UnknownInstance)) => SOON_MS,
            Err(stop) => {
                self.failures += 1;
                let doubled = self.period_ms << (self.failures - 1).min(8);
                let rest_ms = doubled.min(LONGEST_REST_MS).max(self.clerk.quiet_ms());
                self.metrics.confirmation_failed();
                tracing::warn!(%stop, rest_ms, "provisional rows could not be confirmed; they stay as they are");
                rest_ms
            }
        }
    }

    /// Reads Clerk about provisional rows, at most [`MAX_ROWS`] of each kind, and merges what it says.
    pub async fn step(&mut self) -> Result<Tally, Stop> {
        self.clerk.check_instance(Share::Background).await?;
        let rows = self.store.provisional(&self.after, MAX_ROWS).await?;
        self.metrics.provisional(rows.users.len() + rows.organizations.len() + rows.members.len());
        // Kinds of which all were seen begin anew.
        let is_full = |count: usize| count == MAX_ROWS;
        self.after = Provisional {
            users: rows.users.last().filter(|_| is_full(rows.users.len())).cloned().into_iter().collect(),
            organizations: rows
                .organizations
                .last()
                .filter(|_| is_full(rows.organizations.len()))
                .cloned()
                .into_iter()
                .collect(),
            members: rows.members.last().filter(|_| is_full(rows.members.len())).cloned().into_iter().collect(),
        };
        let mut turn =
            Turn { worker: self, tally: Tally::default(), direct: MAX_DIRECT, organizations: HashSet::new() };
        turn.tally.found = rows.users.len() + rows.organizations.len() + rows.members.len();
        // Users first: a membership brings a part of its user, and the whole is wanted.
        for users in rows.users.chunks(MAX_NAMED) {
            let named: Vec<_> = users.iter().map(Named::User).collect();
            turn.objects(&List::UsersNamed(users), &named).await?;
        }
        for (organization, users) in by_organization(&rows) {
            for users in users.chunks(MAX_NAMED) {
                turn.members(organization, users).await?;
            }
        }
        let placeholders: Vec<OrganizationId> =
            rows.organizations.iter().filter(|id| !turn.organizations.contains(*id)).cloned().collect();
        for organizations in placeholders.chunks(MAX_NAMED) {
            let named: Vec<_> = organizations.iter().map(Named::Organization).collect();
            turn.objects(&List::OrganizationsNamed(organizations), &named).await?;
        }
        let tally = turn.tally;
        self.metrics.confirmed(tally.confirmed, tally.denied);
        Ok(tally)
    }
}

fn by_organization(rows: &Provisional) -> BTreeMap<&OrganizationId, Vec<UserId>> {
    let mut members: BTreeMap<&OrganizationId, Vec<UserId>> = BTreeMap::new();
    for (organization, user) in &rows.members {
        members.entry(organization).or_default().push(user.clone());
    }
    members
}

struct Turn<'w> {
    worker: &'w Confirm,
    tally: Tally,
    /// Questions about single rows that are left.
    direct: usize,
    /// Organizations that came with a membership.
    organizations: HashSet<OrganizationId>,
}

/// What has an id of its own at Clerk's.
enum Named<'a> {
    User(&'a UserId),
    Organization(&'a OrganizationId),
}

impl Named<'_> {
    fn as_str(&self) -> &str {
        match self {
            Self::User(id) => id.as_str(),
            Self::Organization(id) => id.as_str(),
        }
    }

    async fn read(&self, clerk: &Clerk) -> Result<Answer<Option<Item>>, Fault> {
        match self {
            Self::User(id) => clerk.user(id, Share::Background).await,
            Self::Organization(id) => clerk.organization(id, Share::Background).await,
        }
    }

    fn not_found(&self, at: Millis) -> Observation {
        match self {
            Self::User(id) => user_not_found(id, at),
            Self::Organization(id) => organization_not_found(id, at),
        }
    }
}

impl Turn<'_> {
    /// Reads users or organizations: first their list, and then alone whoever is missing from it.
    async fn objects(&mut self, list: &List<'_>, asked: &[Named<'_>]) -> Result<(), Stop> {
        let answer = self.page(list, asked.len()).await?;
        let (mut observations, mut seen) = (Vec::new(), HashSet::new());
        for item in answer.found.into_iter().flat_map(|page| page.items) {
            seen.extend(item.id.clone());
            self.take(item, &mut observations);
        }
        for named in asked.iter().filter(|named| !seen.contains(named.as_str())) {
            if !self.may_ask() {
                break;
            }
            let answer = named.read(&self.worker.clerk).await?;
            match answer.found {
                Some(item) => self.take(item, &mut observations),
                None => observations.push(named.not_found(self.deny(answer.asked_at))),
            }
        }
        Ok(self.worker.reader.learn(observations, Share::Background).await?)
    }

    async fn members(&mut self, organization: &OrganizationId, asked: &[UserId]) -> Result<(), Stop> {
        let list = List::MembersNamed(organization, asked);
        let answer = self.page(&list, asked.len()).await?;
        let mut observations = Vec::new();
        for item in answer.found.into_iter().flat_map(|page| page.items) {
            self.take(item, &mut observations);
        }
        let mut seen = HashSet::new();
        for observation in &observations {
            match &observation.fact {
                Fact::Member(member, ..) => drop(seen.insert(member.user.clone())),
                Fact::Organization(organization, _) => drop(self.organizations.insert(organization.id.clone())),
                _ => {}
            }
        }
        for user in asked.iter().filter(|user| !seen.contains(*user)) {
            if !self.may_ask() {
                break;
            }
            let alone = std::slice::from_ref(user);
            let answer = self.page(&List::MembersNamed(organization, alone), alone.len()).await?;
            match answer.found {
                // An answer about somebody else is no answer: the filter was not understood.
                Some(Page { items, total }) if !items.is_empty() || total.is_some_and(|total| total > 0) => {
                    items.into_iter().for_each(|item| self.take(item, &mut observations));
                }
                // The organization itself is unknown, or has no such member.
                None | Some(_) => {
                    let at = self.deny(answer.asked_at);
                    observations.push(not_a_member(&(organization.clone(), user.clone()), at));
                }
            }
        }
        Ok(self.worker.reader.learn(observations, Share::Background).await?)
    }

    async fn page(&self, list: &List<'_>, limit: usize) -> Result<Answer<Option<Page>>, Fault> {
        self.worker.clerk.page(list, Cut::first(limit), Share::Background).await
    }

    fn take(&mut self, item: Item, observations: &mut Vec<Observation>) {
        match item.reading {
            Ok(read) => {
                self.tally.confirmed += 1;
                observations.extend(read);
            }
            Err(fault) => tracing::warn!(id = item.id, %fault, "an answer of Clerk's cannot be understood"),
        }
    }

    fn may_ask(&mut self) -> bool {
        let may = self.direct > 0;
        self.direct = self.direct.saturating_sub(1);
        may
    }

    /// Counts a denial; says as of when it holds.
    fn deny(&mut self, asked_at: Millis) -> Millis {
        self.tally.denied += 1;
        asked_at.plus(-READ_LAG_MS)
    }
}

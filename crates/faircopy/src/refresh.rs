//! Reading Clerk into the copy: for the worker that confirms what only tokens said, and for requests that want to know how
//! it is now. What is found goes to the intake as every other observation does.
//!
//! A request's reading is shared: equal ones in flight are one, and one that is over serves whoever asks for nothing
//! fresher. A reading is a success only if the copy then shows nothing that Clerk has denied: a row that is known in full is
//! not taken away by one read (merge.md), so the copy cannot claim to be as fresh as the read either.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use faircopy_core::Millis;
use faircopy_core::event::api::{Item, Page};
use faircopy_core::event::{Fact, Observation};
use faircopy_core::id::{OrganizationId, UserId};
use faircopy_core::record::Provenance;
use faircopy_store::{Of, Pair, Store};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared, WeakShared};

use crate::app::{Clock, Refusal};
use crate::telemetry::Metrics;
use crate::upstream::clerk::{Clerk, Cut, Fault, List, MAX_PAGE, Share, Start};
use crate::worker::intake::Intake;

/// How much older than the question a denial is taken to be. Clerk's API can be behind what its tokens say, and clocks are
/// apart: a token that is younger than this is not contradicted by an answer that finds nothing.
pub const READ_LAG_MS: i64 = 20_000;
/// Pages of one list that a request reads: 1,000 members. A larger organization is for reconcile.
const MAX_PAGES: usize = 2;
/// Readings that are remembered or under way. Beyond it the oldest is forgotten, and read again when it is wanted.
const MAX_READINGS: usize = 1024;
/// Readings under way at once: at Clerk's production limit they are over within a second.
const MAX_UNDER_WAY: usize = 256;

/// What a request shows, and therefore wants to be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A user.
    User(UserId),
    /// All memberships of a user, with their organizations.
    MembershipsOf(UserId),
    /// One membership, with its organization.
    Member(OrganizationId, UserId),
    /// All members of an organization, with their names.
    Members(OrganizationId),
}

/// Why a reading does not make the copy fresh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Clerk could not be read.
    #[error("Clerk could not be read: {0}")]
    Clerk(#[from] Fault),
    /// What Clerk said could not be written, or the copy could not be read.
    #[error("what Clerk said could not be written")]
    Copy(Refusal),
    /// Something could not be understood.
    #[error("an answer of Clerk's could not be understood")]
    NotUnderstood,
    /// More than [`MAX_PAGES`] pages.
    #[error("the list is too long to be read while somebody waits")]
    TooLong,
    /// The copy shows in full what Clerk no longer has.
    #[error("Clerk no longer has what the copy still shows; its deletion has not arrived")]
    Contradicted,
    /// As many are under way as may.
    #[error("too many others are being read")]
    Full,
}

impl From<faircopy_store::Error> for Failure {
    fn from(error: faircopy_store::Error) -> Self {
        Self::Copy(Refusal::Unavailable(error.to_string()))
    }
}

/// When it was read: what Clerk answered held then, or later.
type Outcome = Result<Millis, Failure>;
type Reading = Shared<BoxFuture<'static, Outcome>>;

/// Reads for requests.
pub struct Refresh {
    reader: Reader,
    clock: Arc<dyn Clock>,
    readings: Mutex<HashMap<Vec<Subject>, Entry>>,
}

struct Entry {
    began_at: Millis,
    state: State,
}

enum State {
    /// Alive while somebody waits for it: whoever hangs up last takes it along.
    UnderWay(WeakShared<BoxFuture<'static, Outcome>>),
    Done,
}

impl Refresh {
    /// Reads with this client, and hands over to this intake.
    #[must_use]
    pub fn new(reader: Reader, clock: Arc<dyn Clock>) -> Self {
        Self { reader, clock, readings: Mutex::default() }
    }

    /// Makes sure that these were read at some time not before `since`, and says when. A caller that goes away ends the
    /// reading if nobody else waits for it.
    pub async fn read(&self, mut subjects: Vec<Subject>, since: Millis) -> Outcome {
        subjects.sort();
        subjects.dedup();
        let (began_at, reading) = match self.join(&subjects, since)? {
            Joined::Done(at) => return Ok(at),
            Joined::UnderWay(began_at, reading) => (began_at, reading),
        };
        let outcome = reading.await;
        self.settle(&subjects, began_at, outcome.is_ok());
        outcome
    }

    /// Finds a reading that is fresh enough, or begins one.
    fn join(&self, subjects: &[Subject], since: Millis) -> Result<Joined, Failure> {
        let now = self.clock.now();
        let mut readings = self.readings();
        if let Some(entry) = readings.get(subjects).filter(|entry| (since..=now).contains(&entry.began_at)) {
            match &entry.state {
                State::Done => return Ok(Joined::Done(entry.began_at)),
                State::UnderWay(reading) => {
                    if let Some(reading) = reading.upgrade() {
                        return Ok(Joined::UnderWay(entry.began_at, reading));
                    }
                }
            }
        }
        make_room(&mut readings)?;
        let (reader, wanted) = (self.reader.clone(), subjects.to_vec());
        let reading: Reading = async move { reader.read(&wanted, now).await.map(|()| now) }.boxed().shared();
        // A reading that nobody has polled yet is always alive.
        if let Some(weak) = reading.downgrade() {
            readings.insert(subjects.to_vec(), Entry { began_at: now, state: State::UnderWay(weak) });
        }
        Ok(Joined::UnderWay(now, reading))
    }

    /// Remembers a success and forgets a failure, unless another reading has taken its place.
    fn settle(&self, subjects: &[Subject], began_at: Millis, succeeded: bool) {
        let mut readings = self.readings();
        let Some(entry) = readings.get_mut(subjects).filter(|entry| entry.began_at == began_at) else { return };
        if succeeded {
            entry.state = State::Done;
        } else {
            readings.remove(subjects);
        }
    }

    fn readings(&self) -> MutexGuard<'_, HashMap<Vec<Subject>, Entry>> {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Joined {
    Done(Millis),
    UnderWay(Millis, Reading),
}

fn make_room(readings: &mut HashMap<Vec<Subject>, Entry>) -> Result<(), Failure> {
    if readings.len() < MAX_UNDER_WAY {
        return Ok(());
    }
    let is_alive = |entry: &Entry| matches!(&entry.state, State::UnderWay(weak) if weak.upgrade().is_some());
    readings.retain(|_, entry| matches!(entry.state, State::Done) || is_alive(entry));
    if readings.values().filter(|entry| is_alive(entry)).count() >= MAX_UNDER_WAY {
        return Err(Failure::Full);
    }
    while readings.len() >= MAX_READINGS {
        let oldest = readings.iter().filter(|(_, entry)| !is_alive(entry)).min_by_key(|(_, entry)| entry.began_at);
        let Some(oldest) = oldest.map(|(subjects, _)| subjects.clone()) else { break };
        readings.remove(&oldest);
    }
    Ok(())
}

/// What reading needs. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    clerk: Arc<Clerk>,
    store: Store,
    intake: Intake,
    metrics: Metrics,
}

/// What one subject's answers hold, and what they lack.
#[derive(Default)]
struct Found {
    observations: Vec<Observation>,
    users: BTreeSet<UserId>,
    pairs: BTreeSet<Pair>,
}

impl Reader {
    /// Reads Clerk with `clerk`, and hands over to `intake`.
    #[must_use]
    pub fn new(clerk: Arc<Clerk>, store: Store, intake: Intake, metrics: Metrics) -> Self {
        Self { clerk, store, intake, metrics }
    }

    /// Merges what was observed. Where something was not found, Clerk is asked once more whose key it is.
    pub async fn learn(&self, observations: Vec<Observation>, share: Share) -> Result<(), Failure> {
        if observations.is_empty() {
            return Ok(());
        }
        if observations.iter().any(is_denial) {
            self.clerk.check_instance_again(share).await?;
        }
        self.intake.learn(observations).await.map(drop).map_err(Failure::Copy)
    }

    async fn read(&self, subjects: &[Subject], now: Millis) -> Result<(), Failure> {
        let outcome = self.read_all(subjects, now).await;
        self.metrics.read_through(match &outcome {
            Ok(()) => "read",
            Err(Failure::Clerk(fault)) => fault.kind(),
            Err(Failure::Contradicted) => "contradicted",
            Err(Failure::Copy(_)) => "not_written",
            Err(Failure::NotUnderstood | Failure::TooLong | Failure::Full) => "not_possible",
        });
        outcome
    }

    async fn read_all(&self, subjects: &[Subject], now: Millis) -> Result<(), Failure> {
        let mut found = Found::default();
        for subject in subjects {
            self.read_one(subject, &mut found).await?;
        }
        let denied = self.denied(subjects, &found).await?;
        let at = now.plus(-READ_LAG_MS);
        found.observations.extend(denied.iter().map(|subject| subject.denial(at)));
        self.learn(std::mem::take(&mut found.observations), Share::Foreground).await?;
        // What a token said is gone now; what was known in full, or is younger than the answer, is not.
        if denied.is_empty() || self.denied(subjects, &found).await?.is_empty() {
            Ok(())
        } else {
            Err(Failure::Contradicted)
        }
    }

    async fn read_one(&self, subject: &Subject, found: &mut Found) -> Result<(), Failure> {
        match subject {
            Subject::User(id) => {
                if let Some(item) = self.clerk.user(id, Share::Foreground).await?.found {
                    found.take(item)?;
                }
            }
            Subject::Member(organization, user) => {
                let list = List::MembersNamed(organization, std::slice::from_ref(user));
                self.read_list(&list, found).await?;
            }
            Subject::MembershipsOf(user) => self.read_list(&List::MembershipsOf(user), found).await?,
            Subject::Members(organization) => {
                self.read_list(&List::Members(organization), found).await?;
                self.read_list(&List::UsersOf(organization), found).await?;
            }
        }
        Ok(())
    }

    async fn read_list(&self, list: &List<'_>, found: &mut Found) -> Result<(), Failure> {
        let mut offset = 0;
        for _ in 0..MAX_PAGES {
            let cut = Cut { limit: MAX_PAGE, from: Start::Offset(offset) };
            let Some(Page { items, total }) = self.clerk.page(list, cut, Share::Foreground).await?.found else {
                return Ok(());
            };
            offset += items.len();
            let is_last = items.len() < MAX_PAGE
                || total.is_some_and(|total| usize::try_from(total).is_ok_and(|total| offset >= total));
            for item in items {
                found.take(item)?;
            }
            if is_last {
                return Ok(());
            }
        }
        Err(Failure::TooLong)
    }

    /// What the copy shows of the subjects and Clerk did not answer with.
    async fn denied(&self, subjects: &[Subject], found: &Found) -> Result<Vec<Denied>, Failure> {
        // One more than can have been read.
        const LIMIT: usize = MAX_PAGES * MAX_PAGE + 1;
        let mut denied = Vec::new();
        for subject in subjects {
            let pairs = match subject {
                Subject::User(id) => {
                    if !found.users.contains(id) && self.store.has_user(id).await? {
                        denied.push(Denied::User(id.clone()));
                    }
                    continue;
                }
                Subject::Member(organization, user) => {
                    let pair = (organization.clone(), user.clone());
                    if self.store.has_member(&pair).await? { vec![pair] } else { vec![] }
                }
                Subject::MembershipsOf(user) => self.store.pairs(Of::User(user), LIMIT).await?,
                Subject::Members(organization) => self.store.pairs(Of::Organization(organization), LIMIT).await?,
            };
            denied.extend(pairs.into_iter().filter(|pair| !found.pairs.contains(pair)).map(Denied::Pair));
        }
        Ok(denied)
    }
}

enum Denied {
    User(UserId),
    Pair(Pair),
}

impl Denied {
    fn denial(&self, at: Millis) -> Observation {
        match self {
            Self::User(id) => user_not_found(id, at),
            Self::Pair(pair) => not_a_member(pair, at),
        }
    }
}

impl Found {
    fn take(&mut self, item: Item) -> Result<(), Failure> {
        let observations = item.reading.map_err(|fault| {
            tracing::warn!(id = item.id, %fault, "an answer of Clerk's cannot be understood");
            Failure::NotUnderstood
        })?;
        for observation in &observations {
            match &observation.fact {
                Fact::User(user, _) => drop(self.users.insert(user.id.clone())),
                Fact::Member(member, ..) => {
                    self.pairs.insert((member.organization.clone(), member.user.clone()));
                }
                _ => {}
            }
        }
        self.observations.extend(observations);
        Ok(())
    }
}

fn is_denial(observation: &Observation) -> bool {
    matches!(observation.fact, Fact::UserNotFound(..) | Fact::OrganizationNotFound(..) | Fact::NotAMember(..))
}

/// A read that began at `at` found no such user.
#[must_use]
pub fn user_not_found(id: &UserId, at: Millis) -> Observation {
    Observation { source: Provenance::Api, fact: Fact::UserNotFound(id.clone(), at) }
}

/// A read that began at `at` found no such organization.
#[must_use]
pub fn organization_not_found(id: &OrganizationId, at: Millis) -> Observation {
    Observation { source: Provenance::Api, fact: Fact::OrganizationNotFound(id.clone(), at) }
}

/// A read that began at `at` found no membership of the pair.
#[must_use]
pub fn not_a_member(pair: &Pair, at: Millis) -> Observation {
    Observation { source: Provenance::Api, fact: Fact::NotAMember(pair.0.clone(), pair.1.clone(), at) }
}

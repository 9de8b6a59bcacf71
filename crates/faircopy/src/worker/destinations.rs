//! Feeds the destinations (docs/decisions/0026-destinations.md): reads the change feed like any other reader, sends, and writes down where each
//! stands. One replica does it, under a lease; one destination that is slow holds up neither the others nor the copy.
//!
//! What is sent is decided by `faircopy_core::destination`. Between sending and writing down the process may die: then it is sent once
//! more, which no destination minds.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use faircopy_core::Millis;
use faircopy_core::alert::Severity;
use faircopy_core::destination::{
    Answer, Batch, Change, Message, Next, Operation, Settled, Subject, Sweep, Turn, compose, settle as settled,
};
use faircopy_store::{
    Declared, Destination, DestinationOrder, DestinationStanding, Error, Fence, Finding, Row, Store, Trouble, Writer,
    failpoint,
};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use super::settle::{self, settle as settle_finding};
use crate::app::Clock;
use crate::config::DestinationSettings;
use crate::holder;
use crate::telemetry::Metrics;
use crate::upstream::destination::{Carried, Chance, Lane, Parcel};

/// The lease.
pub const LEASE: &str = "destinations";
/// The findings that are made here, each a section of docs/errors.md.
pub const FINDINGS: [&str; 2] = ["destination-behind", "destination-parked"];
/// How often the feed is looked at while nobody says that there is something new: what another replica commits is on its way within
/// half a second.
const TICK: Duration = Duration::from_millis(500);
/// The shortest time between two looks: under load each finds many changes anyway.
const SHORTEST: Duration = Duration::from_millis(20);
/// How long a replica has the lease without renewing it, and after how much of that it does: taking it costs a commit.
const LEASE_MS: i64 = 30_000;
const RENEW_MS: i64 = 10_000;
/// How often a replica that has not got it asks again.
const ASK_MS: i64 = 5_000;
/// Changes, or rows of a walk, in one batch: after a kill so many are sent again.
const BATCH: i64 = 100;
/// Subjects whose next attempt is due in one batch: they are those that failed before, and must not take all of its time.
const DUE: i64 = 16;
/// How often is told what is behind and what is parked.
const TELL_MS: i64 = 15_000;
/// A change that has waited so long is a trouble: a restart of the destination takes less.
pub const BEHIND_MS: i64 = 15 * 60_000;
/// One that has waited so long is a bad one: by then somebody works with data of yesterday.
const LONG_BEHIND_MS: i64 = 24 * 3_600_000;

/// The worker.
pub struct Destinations {
    store: Store,
    writer: Writer,
    lanes: BTreeMap<String, Slot>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// This process as a holder of leases.
    holder: Arc<str>,
    chance: Chance,
    /// Told after commits of this process: there may be changes to be sent.
    soon: Arc<Notify>,
    held: Option<(Fence, Millis)>,
    asked_at: Option<Millis>,
    /// The fence under which all destinations were declared.
    declared: Option<Fence>,
    told_at: Option<Millis>,
}

/// A destination of the settings.
struct Slot {
    settings: Arc<DestinationSettings>,
    /// Not here while something is under way.
    lane: Option<Lane>,
    /// The revision that was last seen: an order opens the lane.
    revision: i64,
}

/// What is under way for one destination, and gives its lane back.
type UnderWay = FuturesUnordered<BoxFuture<'static, Done>>;

struct Done {
    name: String,
    lane: Lane,
    outcome: Result<Outcome, Error>,
}

/// What came of one turn of one destination.
enum Outcome {
    /// There was nothing to be done.
    Nothing,
    /// The feed begins after the place: everything is to be sent.
    BeginResend,
    /// To be written down.
    Settle { after: Box<Destination>, settled: Settled },
}

/// What one turn of one destination needs.
struct Turning {
    store: Store,
    settings: Arc<DestinationSettings>,
    clock: Arc<dyn Clock>,
    chance: Chance,
    standing: DestinationStanding,
}

impl Destinations {
    /// A worker for these destinations. Nothing is sent yet.
    #[must_use]
    pub fn new(
        store: Store,
        settings: &[DestinationSettings],
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        holder: Arc<str>,
        chance: Chance,
        soon: Arc<Notify>,
    ) -> Self {
        let slot = |settings: &DestinationSettings| {
            let lane = Lane::new(settings, &metrics)?;
            Some((settings.name.clone(), Slot { settings: Arc::new(settings.clone()), lane: Some(lane), revision: 0 }))
        };
        let lanes = settings.iter().filter_map(slot).collect();
        let writer = store.writer();
        Self {
            store,
            writer,
            lanes,
            clock,
            metrics,
            holder,
            chance,
            soon,
            held: None,
            asked_at: None,
            declared: None,
            told_at: None,
        }
    }

    /// Runs until it is aborted. Without any destination it only takes back what was found of earlier ones.
    pub async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut under_way = UnderWay::new();
        loop {
            tokio::select! {
                Some(done) = under_way.next(), if !under_way.is_empty() => self.end(done).await,
                _ = tick.tick() => {}
                () = self.soon.notified() => tokio::time::sleep(SHORTEST).await,
            }
            match self.look(&mut under_way).await {
                Ok(true) if self.lanes.is_empty() => {
                    // Somebody else may have destinations.
                    if let Some((fence, _)) = &self.held {
                        drop(self.writer.give_up_lease(fence).await);
                    }
                    return;
                }
                Ok(_) => {}
                Err(Error::LeaseLost(_)) => self.held = None,
                Err(error) => tracing::debug!(%error, "destinations could not be looked at"),
            }
            if under_way.is_empty() {
                // Where connections are few, somebody else may be waiting for this one.
                self.writer.discard();
            }
        }
    }

    /// One turn of every destination, to its end. Returns whether the lease was this process's.
    pub async fn step(&mut self) -> Result<bool, Error> {
        let mut under_way = UnderWay::new();
        let is_ours = self.look(&mut under_way).await?;
        while let Some(done) = under_way.next().await {
            self.end(done).await;
        }
        Ok(is_ours)
    }

    /// Looks what there is to be done, and begins it for each destination that has nothing under way.
    async fn look(&mut self, under_way: &mut UnderWay) -> Result<bool, Error> {
        let now = self.clock.now();
        let Some(fence) = self.lease(now).await? else {
            if self.told_at.is_none_or(|at| now < at || now.0 - at.0 >= TELL_MS) {
                self.told_at = Some(now);
                let standings = self.store.destinations().await?;
                self.show(&standings, now);
            }
            return Ok(false);
        };
        if self.declared.as_ref() != Some(&fence) {
            self.declare(&fence, now).await?;
        }
        let standings = self.store.destinations().await?;
        if self.told_at.is_none_or(|at| now < at || now.0 - at.0 >= TELL_MS) {
            self.tell(&standings, &fence, now).await?;
            self.told_at = Some(now);
        }
        self.show(&standings, now);
        for standing in standings {
            let Some(slot) = self.lanes.get_mut(&standing.destination.name) else { continue };
            let Some(mut lane) = slot.lane.take() else { continue };
            if slot.revision != standing.destination.revision {
                slot.revision = standing.destination.revision;
                lane.open();
            }
            if !has_work(&standing, now) || lane.closed_until(now).is_some() {
                slot.lane = Some(lane);
                continue;
            }
            let turning = Turning {
                store: self.store.clone(),
                settings: slot.settings.clone(),
                clock: self.clock.clone(),
                chance: self.chance.clone(),
                standing,
            };
            under_way.push(Box::pin(turning.run(lane)));
        }
        Ok(true)
    }

    /// Makes the destinations of the settings known.
    async fn declare(&mut self, fence: &Fence, now: Millis) -> Result<(), Error> {
        for slot in self.lanes.values() {
            let DestinationSettings { name, kind, .. } = &*slot.settings;
            let declared =
                self.writer.declare_destination(name, kind.as_str(), &slot.settings.target(), now, fence).await?;
            if declared == Declared::Begins {
                tracing::info!(destination = name, kind = kind.as_str(), "everything is sent to a destination");
            }
        }
        self.declared = Some(fence.clone());
        Ok(())
    }

    /// Writes down what came of a turn.
    async fn end(&mut self, Done { name, lane, outcome }: Done) {
        let written = match outcome {
            Ok(outcome) => self.write(&name, outcome).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => {}
            Err(Error::LeaseLost(_)) => self.held = None,
            Err(error) => {
                tracing::warn!(%error, destination = name, "what a destination took could not be read or written down; it is sent again");
            }
        }
        if let Some(slot) = self.lanes.get_mut(&name) {
            slot.lane = Some(lane);
        }
    }

    async fn write(&mut self, name: &str, outcome: Outcome) -> Result<(), Error> {
        let Some((fence, _)) = self.held.clone() else { return Ok(()) };
        match outcome {
            Outcome::Nothing => Ok(()),
            Outcome::BeginResend => {
                tracing::warn!(destination = name, "the change feed begins after its place; everything is sent again");
                self.writer.order_destination(name, DestinationOrder::Resend, self.clock.now()).await.map(drop)
            }
            Outcome::Settle { after, settled } => {
                failpoint::step("destination-sent");
                // False where an operator gave an order meanwhile: then it is sent again.
                if self.writer.settle_destination(&after, &settled, Some(&fence)).await? {
                    for (result, number) in
                        [("taken", settled.taken), ("failed", settled.failed), ("parked", settled.parked)]
                    {
                        self.metrics.destination_messages(name, result, number);
                    }
                }
                for parked in settled.waiting.iter().filter(|waiting| waiting.is_parked()) {
                    let (subject, error) = (&parked.change.subject, &parked.error);
                    tracing::warn!(destination = name, %subject, error, code = "destination-parked", "a change is parked");
                }
                Ok(())
            }
        }
    }

    /// The lease: whoever has it feeds all of them.
    async fn lease(&mut self, now: Millis) -> Result<Option<Fence>, Error> {
        if let Some((fence, at)) = &self.held
            && (0..RENEW_MS).contains(&(now.0 - at.0))
        {
            return Ok(Some(fence.clone()));
        }
        let has_asked = self.asked_at.is_some_and(|at| (0..ASK_MS).contains(&(now.0 - at.0)));
        if self.held.is_none() && has_asked {
            return Ok(None);
        }
        self.asked_at = Some(now);
        let fence = holder::take(&self.store, &mut self.writer, LEASE, &self.holder, now, LEASE_MS).await?;
        self.held = fence.clone().map(|fence| (fence, now));
        Ok(fence)
    }

    /// Figures that every replica shows, whoever feeds.
    fn show(&self, standings: &[DestinationStanding], now: Millis) {
        for standing in standings.iter().filter(|standing| self.lanes.contains_key(&standing.destination.name)) {
            let lag_ms = lag_ms(standing, now);
            let behind = standing.newest - standing.destination.place.sequence;
            self.metrics.destination_lag(&standing.destination.name, behind, lag_ms, standing.waiting, standing.parked);
        }
    }

    /// Tells what is behind and what is parked.
    async fn tell(&mut self, standings: &[DestinationStanding], fence: &Fence, now: Millis) -> Result<(), Error> {
        let known: Vec<Finding> = self.store.findings().await?;
        let ours: Vec<&DestinationStanding> =
            standings.iter().filter(|standing| self.lanes.contains_key(&standing.destination.name)).collect();
        for (name, found) in FINDINGS.into_iter().zip([behind(&ours, now), parked(&ours, now)]) {
            let trouble = found.as_ref().map(|(severity, since, detail)| settle::Trouble {
                severity: Some(*severity),
                since: *since,
                detail,
            });
            settle_finding(&mut self.writer, fence, &known, name, trouble, now).await?;
            self.metrics.finding(name, found.is_some());
        }
        Ok(())
    }
}

/// Whether there is anything to be sent.
fn has_work(standing: &DestinationStanding, now: Millis) -> bool {
    let DestinationStanding { destination, newest, forgotten, waiting, parked, due_at, .. } = standing;
    let next = destination.place.next(*forgotten, *newest, *waiting, *parked);
    !destination.is_paused && (next != Next::Rest || due_at.is_some_and(|at| at <= now))
}

/// For how long the oldest change has waited that a destination was not told.
fn lag_ms(standing: &DestinationStanding, now: Millis) -> i64 {
    let resend = standing.destination.place.resend.as_ref().map(|resend| resend.began_at);
    resend.or(standing.oldest_at).map_or(0, |since| (now.0 - since.0).max(0))
}

type Found = Option<(Severity, Millis, String)>;

/// Destinations that are behind. One that an operator paused is not, nor one that is being sent everything and takes it.
fn behind(standings: &[&DestinationStanding], now: Millis) -> Found {
    let mut told = Vec::new();
    let mut oldest: Option<Millis> = None;
    for standing in standings {
        let DestinationStanding { destination, newest, oldest_at, .. } = standing;
        let since = match &destination.place.resend {
            Some(resend) => Some(destination.last_ok_at.map_or(resend.began_at, |at| at.max(resend.began_at))),
            None => *oldest_at,
        };
        let Some(since) = since.filter(|since| !destination.is_paused && now.0 - since.0 > BEHIND_MS) else { continue };
        let why = destination.trouble.as_ref().map(|trouble| format!(" ({})", trouble.error)).unwrap_or_default();
        let (changes, minutes) = (newest - destination.place.sequence, (now.0 - since.0) / 60_000);
        told.push(format!("{}: {changes} changes, for {minutes} minutes{why}", destination.name));
        oldest = Some(oldest.map_or(since, |oldest| oldest.min(since)));
    }
    let since = oldest?;
    let severity = if now.0 - since.0 > LONG_BEHIND_MS { Severity::Critical } else { Severity::Warning };
    Some((severity, since, told.join("; ")))
}

/// Destinations that refuse something.
fn parked(standings: &[&DestinationStanding], now: Millis) -> Found {
    let told: Vec<String> = standings
        .iter()
        .filter(|standing| standing.parked > 0)
        .map(|standing| format!("{}: {} parked", standing.destination.name, standing.parked))
        .collect();
    (!told.is_empty()).then(|| (Severity::Warning, now, told.join("; ")))
}

impl Turning {
    async fn run(self, mut lane: Lane) -> Done {
        let outcome = self.turn(&mut lane).await;
        Done { name: self.settings.name.clone(), lane, outcome }
    }

    async fn turn(&self, lane: &mut Lane) -> Result<Outcome, Error> {
        let DestinationStanding { destination, newest, forgotten, waiting, parked, .. } = &self.standing;
        match destination.place.next(*forgotten, *newest, *waiting, *parked) {
            Next::BeginResend => Ok(Outcome::BeginResend),
            Next::Sweep(sweep) => Ok(self.sweep(sweep, lane).await),
            Next::Walk(entity, after) => {
                if !self.settings.entities.contains(&entity) {
                    let place = destination.place.walked(&[], false, None);
                    let after = Box::new(Destination { place, ..destination.clone() });
                    return Ok(Outcome::Settle { after, settled: Settled::default() });
                }
                let mut page = self.store.rows_after(entity, &after, BATCH + 1).await?;
                let has_more = i64::try_from(page.len()).is_ok_and(|length| length > BATCH);
                if has_more {
                    page.pop();
                }
                let ids: Vec<String> = page.iter().map(|(id, _)| id.clone()).collect();
                let subject = |id: String| Subject { entity, id };
                let piece: Vec<Change> = ids.iter().map(|id| self.resent(subject(id.clone()))).collect();
                let rows = page.into_iter().map(|(id, row)| (subject(id), row)).collect();
                self.batch(piece, Turn::Walk, rows, lane, |destination, settled| {
                    destination.place.walked(&ids, has_more, settled.stopped_at.as_ref())
                })
                .await
            }
            Next::Feed(after) => {
                let mut piece = self.store.feed_after(after, BATCH).await?;
                let until = piece.last().map_or(after, |change| change.sequence);
                piece.retain(|change| self.settings.entities.contains(&change.subject.entity));
                self.batch(piece, Turn::Feed { until }, HashMap::new(), lane, |destination, settled| {
                    let mut place = destination.place.clone();
                    place.sequence = settled.place.unwrap_or(place.sequence);
                    place
                })
                .await
            }
            Next::Rest => {
                let place = destination.place.clone();
                self.batch(vec![], Turn::Walk, HashMap::new(), lane, |_, _| place).await
            }
        }
    }

    /// A row that is sent again.
    fn resent(&self, subject: Subject) -> Change {
        let resend = self.standing.destination.place.resend.as_ref();
        let (sequence, changed_at) = resend.map_or((0, Millis(0)), |resend| (resend.number, resend.began_at));
        Change { sequence, subject, operation: Operation::Put, changed_at, is_resend: true }
    }

    /// Sends a piece and whoever is due, and says where the destination stands afterwards. `rows` are those that are at hand.
    async fn batch(
        &self,
        piece: Vec<Change>,
        turn: Turn,
        mut rows: HashMap<Subject, Row>,
        lane: &mut Lane,
        place: impl FnOnce(&Destination, &Settled) -> faircopy_core::destination::Place,
    ) -> Result<Outcome, Error> {
        let name = &self.settings.name;
        let subjects: Vec<String> = piece.iter().map(|change| change.subject.to_string()).collect();
        let (waiting, due) = match self.standing.waiting + self.standing.parked {
            0 => (BTreeSet::new(), vec![]),
            _ => (
                self.store.waiting_among(name, &subjects).await?,
                self.store.waiting_due(name, self.clock.now(), DUE).await?,
            ),
        };
        let batch = compose(piece, &waiting, due);
        // Those that are due first: they wait longest, and a batch may end before all of it is sent.
        let changes: Vec<&Change> = batch.due.iter().map(|due| &due.change).chain(&batch.fresh).collect();
        let asked: Vec<Subject> = changes
            .iter()
            .filter(|change| change.operation == Operation::Put && !rows.contains_key(&change.subject))
            .map(|change| change.subject.clone())
            .collect();
        rows.extend(self.store.rows_of(&asked).await?);
        let messages: Vec<Option<Message>> =
            changes.into_iter().map(|change| Message::of(change.clone(), rows.remove(&change.subject))).collect();
        let (mut answers, trouble) = self.carry(&messages, lane).await;
        answers.rotate_left(batch.due.len());
        Ok(self.settle(batch, turn, answers, trouble, place))
    }

    /// Sends what there is to be told.
    async fn carry(&self, messages: &[Option<Message>], lane: &mut Lane) -> (Vec<Option<Answer>>, Option<String>) {
        let (name, run) = (&self.settings.name, self.standing.destination.runs);
        let parcels: Vec<Parcel> = messages.iter().flatten().map(|message| lane.parcel(name, run, message)).collect();
        if parcels.is_empty() {
            return (messages.iter().map(|_| None).collect(), None);
        }
        let Carried { answers, trouble } = lane.carry(&parcels, &*self.clock, &self.chance).await;
        let mut answers = answers.into_iter();
        let answers =
            messages.iter().map(|message| message.as_ref().map(|_| answers.next().unwrap_or(Answer::Unsaid))).collect();
        (answers, trouble)
    }

    fn settle(
        &self,
        batch: Batch,
        turn: Turn,
        answers: Vec<Option<Answer>>,
        trouble: Option<String>,
        place: impl FnOnce(&Destination, &Settled) -> faircopy_core::destination::Place,
    ) -> Outcome {
        let (before, now) = (&self.standing.destination, self.clock.now());
        let is_quiet = batch.held.is_empty() && trouble.is_none();
        let was_said = answers.iter().flatten().any(|answer| *answer != Answer::Unsaid);
        let result = settled(batch, turn, answers, || (self.chance)(), now);
        let place = place(before, &result);
        if is_quiet && !was_said && place == before.place && result.cleared.is_empty() {
            return Outcome::Nothing;
        }
        let after = self.after(place, result.taken > 0, trouble, now);
        Outcome::Settle { after: Box::new(after), settled: result }
    }

    /// The destination as it is afterwards.
    fn after(
        &self,
        place: faircopy_core::destination::Place,
        has_taken: bool,
        trouble: Option<String>,
        now: Millis,
    ) -> Destination {
        let before = &self.standing.destination;
        let known = before.trouble.as_ref().filter(|_| !has_taken);
        let trouble = match trouble {
            Some(error) => Some(Trouble {
                failures: known.map_or(0, |known| known.failures).saturating_add(1),
                since: known.map_or(now, |known| known.since),
                error,
            }),
            None => known.cloned(),
        };
        let last_ok_at = if has_taken { Some(now) } else { before.last_ok_at };
        Destination { place, trouble, last_ok_at, ..before.clone() }
    }

    /// Tells what is not in the copy.
    async fn sweep(&self, sweep: Sweep, lane: &mut Lane) -> Outcome {
        let message = Message::Sweep { sequence: sweep.number, changed_at: sweep.began_at };
        let (answers, trouble) = self.carry(&[Some(message)], lane).await;
        let is_taken = answers == [Some(Answer::Taken)];
        // A sweep is no subject's: what fails is the destination's trouble, and it comes again.
        let failed = answers.into_iter().flatten().find_map(|answer| match answer {
            Answer::Failed { error, .. } => Some(error),
            Answer::Taken | Answer::Unsaid => None,
        });
        let trouble = trouble.or(failed);
        if !is_taken && trouble.is_none() {
            return Outcome::Nothing;
        }
        let mut place = self.standing.destination.place.clone();
        if is_taken {
            place.sweep = None;
        }
        let after = self.after(place, is_taken, trouble, self.clock.now());
        Outcome::Settle {
            after: Box::new(after),
            settled: Settled { taken: usize::from(is_taken), ..Settled::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use faircopy_core::destination::Entity;
    use faircopy_core::destination::{Place, Resend};

    const NOW: Millis = Millis(1_760_000_000_000);

    fn standing(name: &str) -> DestinationStanding {
        let destination = Destination {
            name: name.into(),
            kind: "webhook".into(),
            is_paused: false,
            revision: 0,
            place: Place { sequence: 5, resend: None, sweep: None },
            runs: 1,
            trouble: None,
            last_ok_at: None,
        };
        DestinationStanding {
            destination,
            newest: 9,
            forgotten: 0,
            waiting: 0,
            parked: 0,
            due_at: None,
            oldest_at: None,
        }
    }

    #[test]
    fn what_is_behind_is_told_unless_it_is_meant() {
        let old = NOW.plus(-BEHIND_MS - 1);
        let late = DestinationStanding { oldest_at: Some(old), ..standing("crm") };
        assert_eq!(
            behind(&[&standing("app"), &late], NOW),
            Some((Severity::Warning, old, "crm: 4 changes, for 15 minutes".into()))
        );
        let trouble = Some(Trouble { failures: 3, since: NOW, error: "no connection".into() });
        let mut worse = late.clone();
        (worse.destination.trouble, worse.oldest_at) = (trouble, Some(NOW.plus(-LONG_BEHIND_MS - 1)));
        let (severity, _, detail) = behind(&[&worse], NOW).unwrap();
        assert!(severity == Severity::Critical && detail.ends_with("(no connection)"), "{detail}");
        let recent = DestinationStanding { oldest_at: Some(NOW.plus(-BEHIND_MS)), ..standing("crm") };
        assert_eq!(behind(&[&recent], NOW), None);
        let mut paused = late.clone();
        paused.destination.is_paused = true;
        assert_eq!(behind(&[&paused], NOW), None, "an operator knows");
        let resend = Some(Resend { number: 9, began_at: old, entity: Entity::User, after: String::new() });
        let mut sending = late;
        sending.destination.place.resend = resend;
        assert_eq!(behind(&[&sending], NOW).map(|(_, since, _)| since), Some(old), "it has taken nothing since");
        sending.destination.last_ok_at = Some(NOW.plus(-1));
        assert_eq!(behind(&[&sending], NOW), None, "it takes what it is sent");
    }

    #[test]
    fn what_is_parked_is_told() {
        let one = DestinationStanding { parked: 3, ..standing("crm") };
        let (_, _, detail) = parked(&[&standing("app"), &one], NOW).unwrap();
        assert_eq!(detail, "crm: 3 parked");
        assert_eq!(parked(&[&standing("app")], NOW), None);
    }

    #[test]
    fn there_is_work_while_there_is_news_or_somebody_is_due() {
        assert!(has_work(&standing("crm"), NOW));
        let told = DestinationStanding { newest: 5, ..standing("crm") };
        assert!(!has_work(&told, NOW));
        assert!(!has_work(&DestinationStanding { due_at: Some(NOW.plus(1)), waiting: 1, ..told.clone() }, NOW));
        assert!(has_work(&DestinationStanding { due_at: Some(NOW), waiting: 1, ..told }, NOW));
        let mut paused = standing("crm");
        paused.destination.is_paused = true;
        assert!(!has_work(&paused, NOW));
    }
}

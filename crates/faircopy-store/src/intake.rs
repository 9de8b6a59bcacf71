//! A batch in one transaction: records, registers, rows and change feed, or nothing.
//!
//! A batch is made of [`Input`]s: deliveries, which leave a record each, and what was learned without one (a session
//! token). Both are merged alike; only the record differs.

use std::collections::{BTreeSet, HashMap};

use faircopy_core::event::{Event, Observation, Reading};
use faircopy_core::merge::{Key, Verdict, Workset};
use faircopy_core::{Millis, event, payload};
use sha2::{Digest, Sha256};

use crate::engine::{self, Address, Call, Connection, Row, Rows};
use crate::error::{Error, Result};
use crate::records::Writes;
use crate::{changes, failpoint, records, registers};

/// How many invitations expire in one transaction: a bound on how long it may take.
const EXPIRE_AT_ONCE: i64 = 500;

/// One delivery, verified and read, as the intake takes it.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The message id.
    pub svix_id: String,
    /// When this attempt was signed.
    pub signed_at: Millis,
    /// When it arrived.
    pub received_at: Millis,
    /// A hash of the body as it was signed: the same id with another one is a conflict.
    pub body_hash: i64,
    /// What it says.
    pub content: Content,
}

/// What one member of a batch says. Implemented for a delivery alone, so that whoever has only deliveries needs no other
/// type, and for either kind.
pub trait Input {
    /// What is merged, in this order.
    fn observations(&self) -> &[Observation];
    /// The delivery that said it, whose record is kept.
    fn delivery(&self) -> Option<&Arrival>;
}

/// Either kind of input, as one queue holds them.
#[derive(Debug, Clone)]
pub enum Item {
    /// A delivery.
    Delivery(Arrival),
    /// What was learned without a delivery: there is no record of it but the rows.
    Learned(Vec<Observation>),
}

impl Input for Arrival {
    fn observations(&self) -> &[Observation] {
        match &self.content.event.reading {
            Reading::Observed(observations) => observations,
            Reading::Ignored | Reading::Quarantined(_) => &[],
        }
    }

    fn delivery(&self) -> Option<&Arrival> {
        Some(self)
    }
}

impl Input for Item {
    fn observations(&self) -> &[Observation] {
        match self {
            Self::Delivery(arrival) => arrival.observations(),
            Self::Learned(observations) => observations,
        }
    }

    fn delivery(&self) -> Option<&Arrival> {
        match self {
            Self::Delivery(arrival) => Some(arrival),
            Self::Learned(_) => None,
        }
    }
}

/// What a delivery says, and what of it is stored.
#[derive(Debug, Clone)]
pub struct Content {
    /// What is stored of the body; `None` where nothing may be.
    pub payload: Option<String>,
    /// What it means.
    pub event: Event,
}

impl Content {
    /// Takes from a body what may be stored, and reads that: live and on replay alike.
    #[must_use]
    pub fn read(body: &[u8], context: &event::Context<'_>) -> Self {
        match payload::keep(body, context.mode) {
            payload::Kept::Json(message) => {
                let event = event::read(&message, context);
                Self { payload: Some(message.into_text()), event }
            }
            payload::Kept::Unreadable { text, fault } => Self { payload: text, event: Event::unreadable(fault) },
        }
    }
}

impl Arrival {
    /// The hash of a body for [`Arrival::body_hash`].
    #[must_use]
    pub fn hash(body: &[u8]) -> i64 {
        let digest = Sha256::digest(body);
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        i64::from_le_bytes(first)
    }
}

/// What became of a delivery (contract.md, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It brought new information.
    Applied,
    /// It brought nothing that was not known.
    Stale,
    /// Its id was seen before. It was merged again.
    Duplicate,
    /// Its type is not mirrored, or it is another instance's.
    Ignored,
    /// It could not be understood. It is kept, and can be replayed after a mend.
    Quarantined,
}

impl Outcome {
    /// As answers, tables and metrics hold it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Stale => "stale",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::Quarantined => "quarantined",
        }
    }
}

/// What whoever handed it over is told once the commit is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// What became of the delivery.
    pub outcome: Outcome,
    /// It brought new information, whether or not its id was seen before.
    pub news: bool,
    /// The same id has come with another body.
    pub conflict: bool,
    /// Two snapshots with the same `updated_at` and other content were seen.
    pub contested: bool,
    /// Of what was learned without a delivery: whether each observation was news, in their order.
    pub parts: Vec<bool>,
    /// The last number of the change feed once this was committed.
    pub sequence: i64,
}

/// The one connection that writes. Owned by one worker, used by one call at a time.
pub struct Writer {
    address: Address,
    connection: Option<Connection>,
    /// A call was begun and not finished: its future was dropped, or it failed. The connection may be in the middle of
    /// anything and is given up.
    unfinished: bool,
}

impl Writer {
    pub(crate) fn new(address: Address) -> Self {
        Self { address, connection: None, unfinished: false }
    }

    /// Records and merges a batch in one transaction. Either all of it is durable when this returns, or an error says
    /// why none of it is; after a lost connection the commit may have happened all the same, and sending the batch
    /// again is harmless.
    pub async fn commit<I: Input>(&mut self, batch: &[I], now: Millis) -> Result<Vec<Receipt>> {
        let connection = self.fresh().await?;
        let result = engine::complete(connection.dialect(), transact(connection, batch, now)).await;
        self.settle(result).await
    }

    /// Records a delivery that the database refuses to merge as quarantined.
    pub async fn quarantine(&mut self, arrival: &Arrival, error: &str) -> Result<Receipt> {
        let connection = self.fresh().await?;
        let result = engine::complete(connection.dialect(), quarantine(connection, arrival, error)).await;
        self.settle(result).await
    }

    /// Lets pending invitations expire whose time has passed. Returns how many; call again while it is not 0.
    pub async fn expire_invitations(&mut self, now: Millis) -> Result<usize> {
        let connection = self.fresh().await?;
        let result = engine::complete(connection.dialect(), expire(connection, now)).await;
        self.settle(result).await
    }

    /// The names of this server's settings under which an acknowledged commit can be lost (PostgreSQL's `fsync` and
    /// `synchronous_commit`). Empty when a 2xx holds.
    pub async fn unsafe_settings(&mut self) -> Result<Vec<String>> {
        let connection = self.fresh().await?;
        let mut found = Vec::new();
        if let Connection::Postgres(_) = connection {
            let statement = "SELECT name FROM pg_settings WHERE (name = 'fsync' AND setting = 'off') \
                OR (name = 'synchronous_commit' AND setting = 'off') \
                OR (name = 'full_page_writes' AND setting = 'off') ORDER BY name";
            for row in connection.run(Call::new(statement, vec![])).await? {
                found.push(row.required(0)?);
            }
        }
        self.unfinished = false;
        Ok(found)
    }

    /// A connection with nothing in flight: the one at hand, or a new one.
    pub(crate) async fn fresh(&mut self) -> Result<&mut Connection> {
        if self.unfinished {
            self.connection = None;
        }
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(&self.address).await?,
        };
        self.unfinished = true;
        Ok(self.connection.insert(connection))
    }

    /// Gives the connection up.
    pub(crate) fn discard(&mut self) {
        self.connection = None;
    }

    async fn settle<T>(&mut self, result: Result<T>) -> Result<T> {
        match (&result, &mut self.connection) {
            (Ok(_), _) => self.unfinished = false,
            // A refusal leaves the connection usable once the transaction is rolled back.
            (Err(Error::Refused(_) | Error::Busy(_)), Some(connection)) => {
                self.unfinished = connection.rollback().await.is_err();
            }
            _ => {}
        }
        result
    }
}

async fn transact<I: Input>(connection: &mut Connection, batch: &[I], now: Millis) -> Result<Vec<Receipt>> {
    let (last, mut workset) = begin(connection, batch).await?;
    let verdicts: Vec<Merged> = batch.iter().map(|input| merge(&mut workset, input)).collect();
    failpoint::step("mid-merge");
    let changes = workset.finish();
    let record = Record::of(batch, &verdicts);
    let (writes, answers) = Writes::of(&changes, now).into_calls();
    let (record_calls, mut calls) = (record.calls(), vec![registers::save(&changes.registers)]);
    let rounds = record_calls.len();
    calls.extend(record_calls);
    calls.extend(writes);
    failpoint::step("pre-insert");
    let found = connection.run_all(calls).await?;
    let (recorded, written) = found[1..].split_at(rounds);
    let seen = record.read(recorded)?;
    let mut entries = Vec::new();
    let unsettled = answers.read(written, &mut entries)?;
    if !unsettled.is_empty() {
        records::settled(&connection.run(records::settle_workspaces(&unsettled)).await?, &mut entries)?;
    }
    failpoint::step("post-insert-pre-commit");
    let (sequence, calls) = changes::append(last, &entries, now);
    connection.finish(calls).await?;
    failpoint::step("post-commit-pre-ack");
    let receipts = verdicts.into_iter().zip(seen).map(|(merged, seen)| Receipt {
        outcome: if seen.before { Outcome::Duplicate } else { merged.outcome },
        news: merged.outcome == Outcome::Applied,
        conflict: seen.with_another_body,
        contested: merged.contested,
        parts: merged.parts,
        sequence,
    });
    Ok(receipts.collect())
}

/// Begins the transaction and loads what the batch's observations are merged into.
async fn begin<I: Input>(connection: &mut Connection, batch: &[I]) -> Result<(i64, Workset)> {
    let (mut keys, mut unpaired) = (BTreeSet::new(), BTreeSet::new());
    for observation in batch.iter().flat_map(Input::observations) {
        keys.extend(observation.keys());
        unpaired.extend(observation.unpaired_membership());
    }
    let calls = vec![registers::by_key(keys.iter()), registers::by_membership(unpaired.into_iter())];
    let (last, found) = connection.begin(calls).await?;
    let mut stored = registers::read_all(&found[0])?;
    let pairs = registers::read_all(&found[1])?;
    let parents: Vec<Key> = pairs
        .iter()
        .flat_map(|(key, _)| match key {
            Key::Pair(organization, user) => vec![Key::Organization(organization.clone()), Key::User(user.clone())],
            _ => vec![],
        })
        .collect();
    if !parents.is_empty() {
        stored.extend(registers::read_all(&connection.run(registers::by_key(parents.iter())).await?)?);
    }
    stored.extend(pairs);
    Ok((last, Workset::new(stored)))
}

async fn expire(connection: &mut Connection, now: Millis) -> Result<usize> {
    let (last, found) = connection.begin(vec![records::expire(now, EXPIRE_AT_ONCE)]).await?;
    let entries = records::expired(&found[0])?;
    failpoint::step("expiry");
    connection.finish(changes::append(last, &entries, now).1).await?;
    Ok(entries.len())
}

/// What merging one input did.
#[derive(Debug)]
struct Merged {
    outcome: Outcome,
    contested: bool,
    parts: Vec<bool>,
}

fn merge(workset: &mut Workset, input: &impl Input) -> Merged {
    let observations = input.observations();
    let Some(arrival) = input.delivery() else {
        let parts: Vec<bool> = observations.iter().map(|part| workset.merge(part) == Verdict::News).collect();
        let outcome = if parts.contains(&true) { Outcome::Applied } else { Outcome::Stale };
        return Merged { outcome, contested: false, parts };
    };
    let outcome = match &arrival.content.event.reading {
        Reading::Ignored => Outcome::Ignored,
        Reading::Quarantined(_) => Outcome::Quarantined,
        Reading::Observed(_) => {
            let verdict = observations.iter().map(|observation| workset.merge(observation)).max();
            if verdict == Some(Verdict::News) { Outcome::Applied } else { Outcome::Stale }
        }
    };
    let contested = observations.iter().any(|observation| workset.is_contested(observation));
    Merged { outcome, contested, parts: Vec::new() }
}

/// The delivery records of a batch. Within one statement an id stands once, because a statement cannot change a row
/// twice: attempts with the same body are counted together, and those with another body go to a later round.
struct Record<'b> {
    /// Members of the batch, those without a delivery included.
    length: usize,
    rounds: Vec<Vec<Group<'b>>>,
}

/// Attempts of one delivery with one body.
struct Group<'b> {
    arrival: &'b Arrival,
    outcome: Outcome,
    /// The places of its attempts in the batch.
    places: Vec<usize>,
}

impl Group<'_> {
    fn attempts(&self) -> i64 {
        i64::try_from(self.places.len()).unwrap_or(i64::MAX)
    }
}

/// What the records know of an attempt.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    before: bool,
    with_another_body: bool,
}

impl<'b> Record<'b> {
    fn of<I: Input>(batch: &'b [I], verdicts: &[Merged]) -> Self {
        let mut bodies: HashMap<&str, Vec<Group<'b>>> = HashMap::with_capacity(batch.len());
        let deliveries = batch.iter().enumerate().filter_map(|(place, input)| Some((place, input.delivery()?)));
        for (place, arrival) in deliveries {
            let groups = bodies.entry(&arrival.svix_id).or_default();
            match groups.iter_mut().find(|group| group.arrival.body_hash == arrival.body_hash) {
                Some(group) => group.places.push(place),
                None => groups.push(Group { arrival, outcome: verdicts[place].outcome, places: vec![place] }),
            }
        }
        let mut rounds: Vec<Vec<Group<'b>>> = Vec::new();
        for groups in bodies.into_values() {
            for (round, group) in groups.into_iter().enumerate() {
                if rounds.len() <= round {
                    rounds.push(Vec::with_capacity(batch.len()));
                }
                rounds[round].push(group);
            }
        }
        // The primary key's order keeps the index pages together, and replicas' locks in one order.
        for round in &mut rounds {
            round.sort_unstable_by(|a, b| a.arrival.svix_id.cmp(&b.arrival.svix_id));
        }
        Self { length: batch.len(), rounds }
    }

    /// The statements, a round each. A known id counts another attempt and keeps its first payload; what was quarantined or
    /// ignored and is now understood takes its new outcome.
    fn calls(&self) -> Vec<Call<'_>> {
        const STATEMENT: &str = "INSERT INTO {s}webhook_deliveries AS t (svix_id, event_type, entity_id, instance_id, \
            outcome, attempts, conflicts, error, event_at, signed_at, received_at, body_hash, payload) \
            SELECT v.* FROM {rows} AS v WHERE true \
            ON CONFLICT (svix_id) DO UPDATE SET attempts = t.attempts + excluded.attempts, \
            conflicts = t.conflicts + CASE WHEN t.body_hash <> excluded.body_hash THEN excluded.attempts ELSE 0 END, \
            error = CASE WHEN t.outcome IN ('quarantined', 'ignored') THEN excluded.error ELSE t.error END, \
            outcome = CASE WHEN t.outcome IN ('quarantined', 'ignored') THEN excluded.outcome ELSE t.outcome END \
            RETURNING svix_id, attempts, body_hash";
        self.rounds.iter().map(|round| Call::over(STATEMENT, Self::rows(round))).collect()
    }

    fn rows<'a>(round: &'a [Group<'b>]) -> Rows<'a> {
        let all = || round.iter();
        let event = || round.iter().map(|group| &group.arrival.content.event);
        Rows::new(round.len())
            .text("svix_id", all().map(|group| Some(group.arrival.svix_id.as_str())))
            .text("event_type", event().map(|event| Some(event.event_type.as_str())))
            .text("entity_id", event().map(|event| event.entity_id.as_deref()))
            .text("instance_id", event().map(|event| event.instance_id.as_deref()))
            .text("outcome", all().map(|group| Some(group.outcome.as_str())))
            .int("attempts", all().map(|group| Some(group.attempts())))
            .int("conflicts", all().map(|_| Some(0)))
            .text(
                "error",
                event().map(|event| match &event.reading {
                    Reading::Quarantined(fault) => Some(fault.to_string()),
                    Reading::Observed(_) | Reading::Ignored => None,
                }),
            )
            .time("event_at", event().map(|event| event.event_at))
            .time("signed_at", all().map(|group| Some(group.arrival.signed_at)))
            .time("received_at", all().map(|group| Some(group.arrival.received_at)))
            .int("body_hash", all().map(|group| Some(group.arrival.body_hash)))
            .text("payload", all().map(|group| group.arrival.content.payload.as_deref()))
    }

    /// Reads what [`Record::calls`] returned, for each attempt of the batch.
    fn read(&self, found: &[Vec<Row>]) -> Result<Vec<Seen>> {
        let mut seen = vec![Seen::default(); self.length];
        for (round, rows) in self.rounds.iter().zip(found) {
            for row in rows {
                let (svix_id, attempts, body_hash) = (row.required(0)?, row.int(1)?, row.int(2)?);
                let Ok(at) = round.binary_search_by(|group| group.arrival.svix_id.as_str().cmp(&svix_id)) else {
                    continue;
                };
                let group = &round[at];
                let with_another_body = body_hash != Some(group.arrival.body_hash);
                for (nth, place) in group.places.iter().enumerate() {
                    seen[*place] = Seen { before: nth > 0 || attempts != Some(group.attempts()), with_another_body };
                }
            }
        }
        Ok(seen)
    }
}

async fn quarantine(connection: &mut Connection, arrival: &Arrival, error: &str) -> Result<Receipt> {
    let (sequence, _) = connection.begin(vec![]).await?;
    let mut arrival = arrival.clone();
    arrival.content.event.reading = Reading::Quarantined(event::Fault::Refused(error.to_owned()));
    let outcome = Outcome::Quarantined;
    let merged = Merged { outcome, contested: false, parts: Vec::new() };
    connection.finish(Record::of(std::slice::from_ref(&arrival), &[merged]).calls()).await?;
    Ok(Receipt { outcome, news: false, conflict: false, contested: false, parts: Vec::new(), sequence })
}

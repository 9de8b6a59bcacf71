//! A batch of deliveries in one transaction: records, registers, rows and change feed, or nothing.

use std::collections::{BTreeSet, HashMap};

use faircopy_core::event::{Event, Observation, Reading};
use faircopy_core::merge::{Verdict, Workset};
use faircopy_core::{Millis, event, payload};
use sha2::{Digest, Sha256};

use crate::changes::{self, Entry};
use crate::engine::{Address, Connection, Rows};
use crate::error::{Error, Result};
use crate::{failpoint, records, registers};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// What a sender is told once the commit is durable.
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
    pub async fn commit(&mut self, batch: &[Arrival], now: Millis) -> Result<Vec<Receipt>> {
        let connection = self.fresh().await?;
        let result = transact(connection, batch, now).await;
        self.settle(result).await
    }

    /// Records a delivery that the database refuses to merge as quarantined.
    pub async fn quarantine(&mut self, arrival: &Arrival, error: &str, now: Millis) -> Result<Receipt> {
        let connection = self.fresh().await?;
        let result = quarantine(connection, arrival, error, now).await;
        self.settle(result).await
    }

    /// Lets pending invitations expire whose time has passed. Returns how many; call again while it is not 0.
    pub async fn expire_invitations(&mut self, now: Millis) -> Result<usize> {
        let connection = self.fresh().await?;
        let result = async {
            let last = connection.begin().await?;
            let entries = records::expire(connection, now, EXPIRE_AT_ONCE).await?;
            changes::append(connection, last, &entries, now).await?;
            failpoint::step("expiry");
            connection.commit().await?;
            Ok(entries.len())
        }
        .await;
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
            for row in connection.run(statement, vec![]).await? {
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

async fn transact(connection: &mut Connection, batch: &[Arrival], now: Millis) -> Result<Vec<Receipt>> {
    let last = connection.begin().await?;
    let mut workset = load(connection, batch).await?;
    let verdicts: Vec<(Outcome, bool)> = batch.iter().map(|arrival| merge(&mut workset, arrival)).collect();
    failpoint::step("mid-merge");
    let changes = workset.finish();
    failpoint::step("pre-insert");
    registers::save(connection, &changes.registers).await?;
    let (seen, conflicts) = record(connection, batch, &verdicts).await?;
    let entries: Vec<Entry> = records::write(connection, &changes, now).await?;
    let sequence = changes::append(connection, last, &entries, now).await?;
    failpoint::step("post-insert-pre-commit");
    connection.commit().await?;
    failpoint::step("post-commit-pre-ack");
    let receipts = verdicts.into_iter().enumerate().map(|(at, (outcome, contested))| Receipt {
        outcome: if seen[at] { Outcome::Duplicate } else { outcome },
        news: outcome == Outcome::Applied,
        conflict: conflicts[at],
        contested,
        sequence,
    });
    Ok(receipts.collect())
}

async fn load(connection: &mut Connection, batch: &[Arrival]) -> Result<Workset> {
    let (mut keys, mut unpaired) = (BTreeSet::new(), BTreeSet::new());
    for observation in batch.iter().flat_map(observations) {
        keys.extend(observation.keys());
        unpaired.extend(observation.unpaired_membership().cloned());
    }
    let mut stored = registers::load(connection, keys.into_iter().collect()).await?;
    let pairs = registers::load_by_membership(connection, unpaired.into_iter().collect()).await?;
    let parents = pairs.iter().flat_map(|(key, _)| match key {
        faircopy_core::merge::Key::Pair(organization, user) => vec![
            faircopy_core::merge::Key::Organization(organization.clone()),
            faircopy_core::merge::Key::User(user.clone()),
        ],
        _ => vec![],
    });
    stored.extend(registers::load(connection, parents.collect()).await?);
    stored.extend(pairs);
    Ok(Workset::new(stored))
}

fn observations(arrival: &Arrival) -> &[Observation] {
    match &arrival.content.event.reading {
        Reading::Observed(observations) => observations,
        Reading::Ignored | Reading::Quarantined(_) => &[],
    }
}

fn merge(workset: &mut Workset, arrival: &Arrival) -> (Outcome, bool) {
    match &arrival.content.event.reading {
        Reading::Ignored => (Outcome::Ignored, false),
        Reading::Quarantined(_) => (Outcome::Quarantined, false),
        Reading::Observed(observations) => {
            let verdict = observations.iter().map(|observation| workset.merge(observation)).max();
            let outcome = if verdict == Some(Verdict::News) { Outcome::Applied } else { Outcome::Stale };
            (outcome, observations.iter().any(|observation| workset.is_contested(observation)))
        }
    }
}

/// Inserts the delivery records. A known id counts another attempt and keeps its first payload; what was quarantined and
/// is now understood takes its new outcome. Says for each delivery whether its id was seen before and whether its body
/// is another one.
async fn record(
    connection: &mut Connection,
    batch: &[Arrival],
    verdicts: &[(Outcome, bool)],
) -> Result<(Vec<bool>, Vec<bool>)> {
    const STATEMENT: &str = "INSERT INTO {s}webhook_deliveries AS t (svix_id, event_type, entity_id, instance_id, \
        outcome, attempts, conflicts, error, event_at, signed_at, received_at, body_hash, payload) \
        SELECT v.* FROM {rows} AS v WHERE true \
        ON CONFLICT (svix_id) DO UPDATE SET attempts = t.attempts + excluded.attempts, \
        conflicts = t.conflicts + excluded.conflicts \
            + CASE WHEN t.body_hash <> excluded.body_hash THEN 1 ELSE 0 END, \
        error = CASE WHEN t.outcome = 'quarantined' THEN excluded.error ELSE t.error END, \
        outcome = CASE WHEN t.outcome = 'quarantined' THEN excluded.outcome ELSE t.outcome END \
        RETURNING svix_id, attempts, body_hash";
    // Within one batch an id stands once: one statement cannot change a row twice.
    let mut first: HashMap<&str, usize> = HashMap::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut unique: Vec<(&Arrival, Outcome, i64, i64)> = Vec::new();
    let mut seen = vec![false; batch.len()];
    for (at, arrival) in batch.iter().enumerate() {
        if let Some(&place) = first.get(arrival.svix_id.as_str()) {
            let (original, _, attempts, other_bodies) = &mut unique[place];
            *attempts += 1;
            seen[at] = true;
            *other_bodies += i64::from(original.body_hash != arrival.body_hash);
        } else {
            first.insert(&arrival.svix_id, unique.len());
            places.insert(&arrival.svix_id, at);
            unique.push((arrival, verdicts[at].0, 1, 0));
        }
    }
    // The primary key's order keeps the index pages together.
    unique.sort_by(|a, b| a.0.svix_id.cmp(&b.0.svix_id));
    let event = || unique.iter().map(|(arrival, ..)| &arrival.content.event);
    let rows = Rows::new(unique.len())
        .text("svix_id", unique.iter().map(|(arrival, ..)| Some(arrival.svix_id.as_str())))
        .text("event_type", event().map(|event| Some(event.event_type.as_str())))
        .text("entity_id", event().map(|event| event.entity_id.as_deref()))
        .text("instance_id", event().map(|event| event.instance_id.as_deref()))
        .text("outcome", unique.iter().map(|(_, outcome, ..)| Some(outcome.as_str())))
        .int("attempts", unique.iter().map(|(_, _, attempts, _)| Some(*attempts)))
        .int("conflicts", unique.iter().map(|(.., other_bodies)| Some(*other_bodies)))
        .text(
            "error",
            event().map(|event| match &event.reading {
                Reading::Quarantined(fault) => Some(fault.to_string()),
                Reading::Observed(_) | Reading::Ignored => None,
            }),
        )
        .time("event_at", event().map(|event| event.event_at))
        .time("signed_at", unique.iter().map(|(arrival, ..)| Some(arrival.signed_at)))
        .time("received_at", unique.iter().map(|(arrival, ..)| Some(arrival.received_at)))
        .int("body_hash", unique.iter().map(|(arrival, ..)| Some(arrival.body_hash)))
        .text("payload", unique.iter().map(|(arrival, ..)| arrival.content.payload.as_deref()));
    let expected: HashMap<&str, i64> =
        unique.iter().map(|(arrival, _, attempts, _)| (arrival.svix_id.as_str(), *attempts)).collect();
    let mut kept: HashMap<String, i64> = HashMap::new();
    for row in connection.run_rows(STATEMENT, rows).await? {
        let svix_id = row.required(0)?;
        let (Some(&place), Some(&attempts)) = (places.get(svix_id.as_str()), expected.get(svix_id.as_str())) else {
            continue;
        };
        seen[place] = row.int(1)? != Some(attempts);
        kept.insert(svix_id, row.int(2)?.unwrap_or_default());
    }
    let conflicts =
        batch.iter().map(|arrival| kept.get(&arrival.svix_id).is_some_and(|hash| *hash != arrival.body_hash));
    let conflicts = conflicts.collect();
    Ok((seen, conflicts))
}

async fn quarantine(connection: &mut Connection, arrival: &Arrival, error: &str, _now: Millis) -> Result<Receipt> {
    let sequence = connection.begin().await?;
    let mut arrival = arrival.clone();
    arrival.content.event.reading = Reading::Quarantined(event::Fault::Refused(error.to_owned()));
    let verdicts = [(Outcome::Quarantined, false)];
    record(connection, std::slice::from_ref(&arrival), &verdicts).await?;
    connection.commit().await?;
    Ok(Receipt { outcome: Outcome::Quarantined, news: false, conflict: false, contested: false, sequence })
}

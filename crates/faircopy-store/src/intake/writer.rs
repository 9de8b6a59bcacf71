//! The one connection that writes, and how a batch goes through it.
//!
//! A transaction on PostgreSQL costs two waits for the database's answer: for what the batch is merged into, and for what its
//! rows became. The third, for the commit, is shared: while it runs, the next batch is made ready and begun on the same
//! connection, and senders are answered the moment it is durable. So the database always has the next statement at hand.
//! The second wait is left out for a batch that puts users and nothing else, as most do: what its rows became concerns the
//! change feed alone, and the database writes that by itself.

use std::collections::BTreeSet;
use std::sync::Arc;

use faircopy_core::id::MembershipId;
use faircopy_core::merge::{Changes, Key, Verdict, Workset};
use faircopy_core::{Millis, WorkspaceMode, event, event::Reading};

use super::record::Record;
use super::{Arrival, Input, Outcome, Receipt};
use crate::changes::Entry;
use crate::engine::{self, Address, Begun, Call, Connection, Opening, Row};
use crate::error::{Error, Result};
use crate::leases::{self, Fence};
use crate::readings::News;
use crate::records::Writes;
use crate::{changes, erasures, failpoint, records, registers};

/// How many invitations expire in one transaction: a bound on how long it may take.
const EXPIRE_AT_ONCE: i64 = 500;

/// For how many batches another writer is remembered: one that is quicker for a moment is not alone.
const COMPANY: u32 = 64;

/// The one connection that writes. Owned by one worker, used by one call at a time.
pub struct Writer {
    address: Address,
    workspaces: WorkspaceMode,
    connection: Option<Connection>,
    /// A call was begun and not finished: its future was dropped, or it failed. The connection may be in the middle of
    /// anything and is given up.
    unfinished: bool,
    /// The batch whose transaction is open.
    written: Option<Written>,
    /// The last number of the change feed after this writer's newest batch.
    newest: Option<i64>,
    /// For how many more batches others are taken to be writing, too.
    company: u32,
}

/// A batch of which everything is written but what is sent with the commit.
struct Written {
    changes: Changes,
    /// The registers that were there before this batch.
    stored: BTreeSet<Key>,
    /// What was really changed; `None` while its users are still to be written.
    entries: Option<Vec<Entry>>,
    /// The last number of the change feed before this batch.
    last: i64,
    now: Millis,
    receipts: Vec<Receipt>,
}

impl Writer {
    pub(crate) fn new(address: Address, workspaces: WorkspaceMode) -> Self {
        Self { address, workspaces, connection: None, unfinished: false, written: None, newest: None, company: 0 }
    }

    /// Records and merges a batch in one transaction. Either all of it is durable when this returns, or an error says
    /// why none of it is; after a lost connection the commit may have happened all the same, and sending the batch
    /// again is harmless.
    pub async fn commit<I: Input>(&mut self, batch: &[I], now: Millis) -> Result<Vec<Receipt>> {
        self.write(batch, now).await?;
        let mut committed = Vec::new();
        self.finish_and_write::<I>(now, false, |receipts| committed = receipts, || None).await?;
        Ok(committed)
    }

    /// The first part of [`Writer::commit`]: after it the batch is merged and its rows are written, but nothing is durable and
    /// nobody else sees it. What was written before and not finished is undone.
    pub async fn write<I: Input>(&mut self, batch: &[I], now: Millis) -> Result<()> {
        self.written = None;
        let mode = self.workspaces;
        let connection = self.fresh().await?;
        let result = engine::complete(connection.dialect(), Box::pin(write(connection, batch, mode, now))).await;
        self.keep(result.map(Some)).await.map(drop)
    }

    /// Commits what was written and, while that runs, asks for the next batch and writes it. `committed` is called as soon
    /// as the first is durable; if it is not called, that batch failed, and the next one was not written either. Returns
    /// whether there is another batch to be finished. An error after `committed` was called is the next batch's. With `announce`,
    /// the commit tells other replicas that the change feed has gone on, as [`Store::announce`](crate::Store::announce) does.
    pub async fn finish_and_write<I: Input>(
        &mut self,
        now: Millis,
        announce: bool,
        committed: impl FnOnce(Vec<Receipt>),
        next: impl FnOnce() -> Option<Arc<[I]>>,
    ) -> Result<bool> {
        let (Some(written), Some(connection)) = (self.written.take(), &mut self.connection) else {
            return Err(Error::Refused("there is nothing to commit; this is a bug".into()));
        };
        let (dialect, newest) = (connection.dialect(), &mut self.newest);
        let committed = |receipts, sequence| {
            *newest = Some(sequence);
            committed(receipts);
        };
        let work = finish_and_write(connection, written, self.workspaces, (now, announce), committed, next);
        let result = engine::complete(dialect, Box::pin(work)).await;
        self.keep(result).await
    }

    /// Whether somebody else has been writing rows between this writer's last batches.
    #[must_use]
    pub fn has_company(&self) -> bool {
        self.company > 0
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

    /// The mode of workspaces.
    pub(crate) fn workspaces(&self) -> WorkspaceMode {
        self.workspaces
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

    /// Gives the connection up; the next call makes another. For whoever has nothing to do for a while, too: where connections are
    /// few, another replica may be waiting for one.
    pub fn discard(&mut self) {
        self.connection = None;
    }

    /// Keeps what was written and is still to be finished. Until then the connection is in the middle of a transaction.
    async fn keep(&mut self, result: Result<Option<Written>>) -> Result<bool> {
        match result {
            Ok(Some(written)) => {
                let met = self.newest.is_some_and(|newest| newest != written.last);
                self.company = if met { COMPANY } else { self.company.saturating_sub(1) };
                self.written = Some(written);
            }
            other => self.settle(other).await.map(drop)?,
        }
        Ok(self.written.is_some())
    }

    pub(crate) async fn settle<T>(&mut self, result: Result<T>) -> Result<T> {
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

/// A batch as it goes into the database.
struct Lot<B> {
    batch: B,
    keys: BTreeSet<Key>,
    unpaired: BTreeSet<MembershipId>,
    record: Record,
}

/// Whoever holds the members of a batch.
trait Batch {
    type Input: Input;

    fn inputs(&self) -> &[Self::Input];
}

impl<I: Input> Batch for &[I] {
    type Input = I;

    fn inputs(&self) -> &[I] {
        self
    }
}

impl<I: Input> Batch for Arc<[I]> {
    type Input = I;

    fn inputs(&self) -> &[I] {
        self
    }
}

impl<B: Batch> Lot<B> {
    fn of(batch: B) -> Self {
        let (mut keys, mut unpaired) = (BTreeSet::new(), BTreeSet::new());
        for observation in batch.inputs().iter().flat_map(Input::observations) {
            keys.extend(observation.keys());
            unpaired.extend(observation.unpaired_membership().cloned());
        }
        keys.extend(batch.inputs().iter().filter_map(Input::delivery).filter_map(erasures::key_of));
        let record = Record::of(batch.inputs());
        Self { batch, keys, unpaired, record }
    }
}

impl<B: Batch> Opening for Lot<B> {
    fn before_pen(&self) -> Vec<Call<'_>> {
        self.record.calls(self.batch.inputs())
    }

    fn under_pen(&self) -> Vec<Call<'_>> {
        let fences = fences(self.batch.inputs());
        vec![registers::by_key(self.keys.iter()), registers::by_membership(self.unpaired.iter()), leases::held(&fences)]
    }
}

/// The leases in whose names a batch comes: mostly none.
fn fences<I: Input>(batch: &[I]) -> BTreeSet<&Fence> {
    batch.iter().filter_map(Input::fence).collect()
}

async fn write<I: Input>(
    connection: &mut Connection,
    batch: &[I],
    mode: WorkspaceMode,
    now: Millis,
) -> Result<Written> {
    let lot = Lot::of(batch);
    failpoint::step("pre-insert");
    let begun = connection.begin(lot.before_pen(), lot.under_pen()).await?;
    merge(connection, &lot, begun, mode, now).await
}

async fn finish_and_write<I: Input>(
    connection: &mut Connection,
    written: Written,
    mode: WorkspaceMode,
    (now, announce): (Millis, bool),
    committed: impl FnOnce(Vec<Receipt>, i64),
    next: impl FnOnce() -> Option<Arc<[I]>>,
) -> Result<Option<Written>> {
    let Written { changes, stored, entries, last, now: then, mut receipts } = written;
    failpoint::step("post-insert-pre-commit");
    let (mut sequence, mut calls) = (last, Vec::new());
    let registers = registers::save(&changes.registers, &stored);
    match &entries {
        Some(entries) => {
            let (newest, feed) = changes::append(last, entries, then);
            sequence = newest;
            calls.extend(registers.into_iter().chain(feed));
        }
        None => {
            calls.push(records::put_users_alone(&changes));
            calls.extend(registers.into_iter().chain(changes::append_written_users(last, then)));
        }
    }
    let committed = |found: Vec<Row>| {
        failpoint::step("post-commit-pre-ack");
        // Where the number cannot be read, the one before is no lie: it says less than it could.
        let sequence = found.first().and_then(|row| row.int(0).ok().flatten()).unwrap_or(sequence);
        receipts.iter_mut().for_each(|receipt| receipt.sequence = sequence);
        committed(receipts, sequence);
    };
    let next = || {
        let lot = Lot::of(next()?);
        failpoint::step("pre-insert");
        Some(lot)
    };
    match connection.finish_and_begin(calls, announce, committed, next).await? {
        Some((lot, begun)) => Ok(Some(merge(connection, &lot, begun, mode, now).await?)),
        None => Ok(None),
    }
}

/// Merges a batch into what was loaded for it, and writes its rows.
async fn merge<B: Batch>(
    connection: &mut Connection,
    lot: &Lot<B>,
    begun: Begun,
    mode: WorkspaceMode,
    now: Millis,
) -> Result<Written> {
    let batch = lot.batch.inputs();
    let (mut workset, stored) = load(connection, &begun.under_pen).await?;
    let held = leases::read_held(&begun.under_pen[2], &fences(batch));
    let verdicts: Vec<Merged> = batch
        .iter()
        .map(|input| match input.fence() {
            Some(fence) if !held.contains(fence) => Merged::fenced_off(),
            _ => merge_one(&mut workset, input),
        })
        .collect();
    failpoint::step("mid-merge");
    let is_erased =
        |arrival: &Arrival| erasures::person(&arrival.content.event).is_some_and(|user| workset.is_gone(&user));
    let erased: Vec<bool> = batch.iter().map(|input| input.delivery().is_some_and(is_erased)).collect();
    let changes = workset.finish();
    let mut news = News::default();
    batch.iter().zip(&verdicts).for_each(|(input, merged)| news.take(input, &merged.parts));
    let outcomes: Vec<Outcome> = verdicts.iter().map(|merged| merged.outcome).collect();
    let (seen, corrections) = lot.record.read(batch, &outcomes, &begun.before_pen)?;
    let mut others = vec![corrections.call()];
    let late: Vec<(&Arrival, bool)> = batch
        .iter()
        .zip(&seen)
        .zip(&erased)
        .filter_map(|((input, seen), erased)| Some((input.delivery().filter(|_| *erased)?, !seen.before)))
        .collect();
    others.extend(erasures::of_batch(&changes.registers, &late, now));
    others.push(news.record(&changes, now));
    let users_alone = records::are_users_put_alone(&changes) && others.iter().all(Call::is_empty);
    let entries = if connection.has_parts() && users_alone {
        None
    } else {
        let (mut calls, answers) = Writes::of(&changes, mode, now).into_calls();
        calls.extend(others);
        let found = connection.run_all(calls).await?;
        let mut entries = Vec::new();
        let unsettled = answers.read(&found, &mut entries)?;
        records::settle(connection, &unsettled, mode, now, &mut entries).await?;
        Some(entries)
    };
    let receipts = verdicts.into_iter().zip(seen).map(|(merged, seen)| Receipt {
        outcome: if seen.before { Outcome::Duplicate } else { merged.outcome },
        news: merged.outcome == Outcome::Applied,
        conflict: seen.with_another_body,
        contested: merged.contested,
        parts: merged.parts,
        is_fenced_off: merged.is_fenced_off,
        sequence: begun.last,
    });
    let receipts = receipts.collect();
    Ok(Written { changes, stored, entries, last: begun.last, now, receipts })
}

/// Reads the registers that a batch is merged into, and fetches the parents of pairs that only their membership named. Returns
/// which there are, too.
async fn load(connection: &mut Connection, found: &[Vec<Row>]) -> Result<(Workset, BTreeSet<Key>)> {
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
    let keys = stored.iter().map(|(key, _)| key.clone()).collect();
    Ok((Workset::new(stored), keys))
}

async fn expire(connection: &mut Connection, now: Millis) -> Result<usize> {
    let begun = connection.begin(vec![], vec![records::expire(now, EXPIRE_AT_ONCE)]).await?;
    let entries = records::expired(&begun.under_pen[0])?;
    failpoint::step("expiry");
    connection.finish(changes::append(begun.last, &entries, now).1).await?;
    Ok(entries.len())
}

/// What merging one input did.
#[derive(Debug)]
struct Merged {
    outcome: Outcome,
    contested: bool,
    parts: Vec<bool>,
    is_fenced_off: bool,
}

impl Merged {
    fn fenced_off() -> Self {
        Self { outcome: Outcome::Stale, contested: false, parts: Vec::new(), is_fenced_off: true }
    }
}

fn merge_one(workset: &mut Workset, input: &impl Input) -> Merged {
    let observations = input.observations();
    let Some(arrival) = input.delivery() else {
        let parts: Vec<bool> = observations.iter().map(|part| workset.merge(part) == Verdict::News).collect();
        let outcome = if parts.contains(&true) { Outcome::Applied } else { Outcome::Stale };
        return Merged { outcome, contested: false, parts, is_fenced_off: false };
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
    Merged { outcome, contested, parts: Vec::new(), is_fenced_off: false }
}

async fn quarantine(connection: &mut Connection, arrival: &Arrival, error: &str) -> Result<Receipt> {
    let mut arrival = arrival.clone();
    arrival.content.event.reading = Reading::Quarantined(event::Fault::Refused(error.to_owned()));
    let batch = std::slice::from_ref(&arrival);
    let sequence = connection.begin(Record::of(batch).calls(batch), vec![]).await?.last;
    let person = erasures::person(&arrival.content.event).map(|user| user.as_str().to_owned());
    connection.finish(vec![erasures::again(person.into_iter(), arrival.received_at)]).await?;
    let outcome = Outcome::Quarantined;
    Ok(Receipt {
        outcome,
        news: false,
        conflict: false,
        contested: false,
        parts: Vec::new(),
        is_fenced_off: false,
        sequence,
    })
}

//! Group commit: what arrives while a commit runs shares the next one. Deliveries mostly; what session tokens say goes the
//! same way, because rows have one writer.
//!
//! There is no waiting time to be set: a delivery that comes alone commits at once, and under load batches grow by
//! themselves. While one batch is committed the next is already on its way, if half as many wait by then; otherwise the
//! worker lets half as many arrive first, never longer than [`GATHER`]. So one half of the senders is read while the other
//! half is committed. Where replicas take turns, nearly as many: there is time while the others write, and a turn costs much
//! the same whatever is in it.
//!
//! Each request gets its own outcome, and only after the commit. If a batch fails for a reason other than the connection,
//! its members are tried one by one, and only the one that cannot be stored is quarantined.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use faircopy_core::{Millis, Observation};
use faircopy_store::{Arrival, Error, Fence, Item, Receipt, Writer};
use futures_util::FutureExt;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot};
use tracing::{Instrument as _, Span};

use crate::app::{Clock, Refusal};
use crate::telemetry::Metrics;
use crate::telemetry::traces::{self, LATER, TRACE};
use crate::worker::announce::Announcements;

/// Deliveries that may wait for a commit. Beyond it senders are told to come back: at 5,000 a second this is 0.2 s of work.
pub const MAX_WAITING: usize = 1024;
/// Deliveries in one transaction: past 256 a batch gains nothing more (performance.md) and only delays its first.
pub const MAX_BATCH: usize = 256;
/// How long the worker lets a batch grow towards the size of the one before it. Far less than a commit on a slow disk, and
/// nothing at all while deliveries come one by one.
pub const GATHER: Duration = Duration::from_millis(2);
/// Stored bytes in one transaction: 256 ordinary deliveries have 1.3 MiB, and of the largest bodies each is held several
/// times over on its way into the database.
pub const MAX_BATCH_BYTES: usize = 2 * 1024 * 1024;
/// How long one commit may take. Svix gives up after 15 s; two tries must fit before [`MAX_WAIT`].
const COMMIT_DEADLINE: Duration = Duration::from_secs(7);
/// How long a request waits for its outcome before it is told to come back.
const MAX_WAIT: Duration = Duration::from_secs(9);

/// The way in. Cheap to clone.
#[derive(Clone)]
pub struct Intake {
    queue: mpsc::Sender<Waiting>,
}

struct Waiting {
    item: Item,
    /// The memory that a body may take, held for as long as the body is, whether or not its sender still waits.
    share: Option<OwnedSemaphorePermit>,
    reply: Reply,
    /// What waits for it; none where nothing is traced.
    span: Span,
}

type Reply = oneshot::Sender<Result<Receipt, Refusal>>;

/// Tells a sender its outcome. It may have hung up: what was committed stays committed all the same.
fn answer(reply: Reply, outcome: Result<Receipt, Refusal>) {
    drop(reply.send(outcome));
}

/// Tells the senders of a batch their outcomes.
fn answer_all(replies: Vec<Reply>, receipts: Vec<Receipt>) {
    replies.into_iter().zip(receipts).for_each(|(reply, receipt)| answer(reply, Ok(receipt)));
}

/// The worker behind an [`Intake`].
pub struct Worker {
    queue: Queue,
    writer: Writer,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    committed: Committed,
}

/// Who is told after each commit.
#[derive(Debug, Clone, Default)]
pub struct Committed {
    /// Those who listen here.
    pub listeners: Arc<Notify>,
    /// Whoever feeds destinations.
    pub destinations: Arc<Notify>,
    /// Other replicas.
    pub replicas: Arc<Announcements>,
}

impl Committed {
    /// `announced` is when the commit was begun, if it has announced itself.
    fn tell(&self, announced: Option<Millis>) {
        self.listeners.notify_one();
        self.destinations.notify_one();
        match announced {
            Some(now) => self.replicas.announced(now),
            None => self.replicas.owe(),
        }
    }
}

/// What waits, and how much of it makes a batch.
struct Queue {
    waiting: mpsc::Receiver<Waiting>,
    /// How many the batch before had: what is likely to come at once again.
    last_batch: usize,
    /// Whether other replicas write too.
    has_company: bool,
}

/// What shares a transaction, and who waits for each outcome.
struct Batch {
    items: Arc<[Item]>,
    /// Let go with the items.
    shares: Vec<OwnedSemaphorePermit>,
    replies: Vec<Reply>,
    /// From the first member to the commit; none where nothing is traced.
    span: Span,
}

/// Where the worker stands between two turns.
enum Turn {
    /// There is nothing at hand.
    Rest,
    /// This batch is to be written.
    Write(Batch),
    /// This batch is written, and is to be committed.
    Finish(Batch),
}

/// An intake and its worker.
#[must_use]
pub fn channel(writer: Writer, clock: Arc<dyn Clock>, metrics: Metrics) -> (Intake, Worker) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    (
        Intake { queue: sender },
        Worker {
            queue: Queue { waiting: receiver, last_batch: 1, has_company: false },
            writer,
            clock,
            metrics,
            committed: Committed::default(),
        },
    )
}

impl Intake {
    /// Hands a delivery over and waits for its outcome, which is known only once it is durable. A caller that goes away
    /// changes nothing: the worker owns the delivery, and its `share` of the memory for bodies, if it has one.
    pub async fn submit(&self, arrival: Arrival, share: Option<OwnedSemaphorePermit>) -> Result<Receipt, Refusal> {
        self.hand_over(Item::Delivery(arrival), share).await
    }

    /// As [`Intake::submit`], for what was learned without a delivery.
    pub async fn learn(&self, observations: Vec<Observation>) -> Result<Receipt, Refusal> {
        self.hand_over(Item::Learned(observations), None).await
    }

    /// As [`Intake::learn`], in the name of a lease: if somebody else has it, nothing is merged and the receipt says so.
    pub async fn sweep(&self, observations: Vec<Observation>, fence: Fence) -> Result<Receipt, Refusal> {
        self.hand_over(Item::Swept(observations, fence), None).await
    }

    async fn hand_over(&self, item: Item, share: Option<OwnedSemaphorePermit>) -> Result<Receipt, Refusal> {
        let (reply, outcome) = oneshot::channel();
        self.queue.try_send(Waiting { item, share, reply, span: Span::current() }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refusal::Full,
            mpsc::error::TrySendError::Closed(_) => Refusal::Stopping,
        })?;
        match tokio::time::timeout(MAX_WAIT, outcome).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Refusal::Stopping),
            Err(_) => Err(Refusal::Late),
        }
    }

    /// Deliveries that wait now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }
}

impl Worker {
    /// Who is told after each commit.
    #[must_use]
    pub fn committed(&self) -> Committed {
        self.committed.clone()
    }

    /// Runs until every [`Intake`] is dropped and what they handed over is answered.
    pub async fn run(mut self) {
        while self.step().await {}
    }

    /// Takes what waits, commits it and answers, and goes on for as long as the next batch is there when one is written.
    /// `false` when nothing can come any more.
    pub async fn step(&mut self) -> bool {
        self.queue.has_company = self.writer.has_company();
        let Some(batch) = self.queue.gather().await else { return false };
        let mut turn = Turn::Write(batch);
        loop {
            turn = match turn {
                Turn::Rest => return true,
                Turn::Write(batch) => self.write(batch).await,
                Turn::Finish(batch) => self.finish(batch).await,
            }
        }
    }

    async fn write(&mut self, batch: Batch) -> Turn {
        let now = self.clock.now();
        let span = tracing::info_span!(target: TRACE, parent: &batch.span, "write");
        match in_time(self.writer.write(&batch.items, now)).instrument(span).await {
            Ok(()) => Turn::Finish(batch),
            Err(error) => {
                self.failed(batch, error, false).await;
                Turn::Rest
            }
        }
    }

    /// Commits what was written, and writes what has arrived meanwhile.
    async fn finish(&mut self, batch: Batch) -> Turn {
        self.queue.has_company = self.writer.has_company();
        let (now, queue) = (self.clock.now(), &mut self.queue);
        self.metrics.batch(batch.items.len());
        let (mut replies, mut following) = (Some(batch.replies), None);
        let announced = self.committed.replicas.is_due(now).then_some(now);
        let committed = |receipts| {
            answer_all(replies.take().unwrap_or_default(), receipts);
            self.committed.tell(announced);
        };
        let next = || following.insert(queue.at_hand()?).items.clone().into();
        let span = tracing::info_span!(target: TRACE, parent: &batch.span, "commit");
        let result =
            in_time(self.writer.finish_and_write(now, announced.is_some(), committed, next)).instrument(span).await;
        match (result, replies) {
            (Ok(_), _) => following.map_or(Turn::Rest, Turn::Finish),
            (Err(error), Some(replies)) => {
                self.failed(Batch { replies, ..batch }, error, announced.is_some()).await;
                following.map_or(Turn::Rest, Turn::Write)
            }
            (Err(error), None) => {
                if let Some(batch) = following {
                    self.failed(batch, error, false).await;
                }
                Turn::Rest
            }
        }
    }

    /// Answers a batch whose transaction failed, after having tried what may help. After a lost connection that is another
    /// try on a new one: the old one may have been idle since the database restarted, and committing twice is harmless.
    /// `announced` says whether the commit announced itself, for which PostgreSQL may have no room.
    async fn failed(&mut self, batch: Batch, error: Error, announced: bool) {
        let Batch { items, shares: _shares, replies, span } = batch;
        self.committed.replicas.hold_up(self.clock.now());
        traces::failed(&span);
        let error = match error {
            Error::Unavailable(reason) => {
                tracing::warn!(reason, "the commit failed; trying once more");
                match self.try_commit(&items).await {
                    Ok(receipts) => {
                        self.committed.tell(None);
                        return answer_all(replies, receipts);
                    }
                    Err(error) => error,
                }
            }
            error => error,
        };
        if let Error::Unavailable(_) = error {
            let refusal = Refusal::Unavailable(error.to_string());
            return replies.into_iter().for_each(|reply| answer(reply, Err(refusal.clone())));
        }
        self.one_by_one(&items, replies, error, announced).await;
    }

    /// Tries the members of a failed batch alone, so that only the one at fault suffers. Each is answered at once: a member
    /// that must wait for a lock holds nobody up but those behind it, and a sender that has given up is not waited for. A lone
    /// member has been tried, unless the announcement may be what was refused.
    async fn one_by_one(&mut self, items: &[Item], replies: Vec<Reply>, error: Error, announced: bool) {
        if items.len() > 1 {
            tracing::warn!(%error, members = items.len(), "a batch failed; trying its members one by one");
        }
        let mut failed = (items.len() == 1 && (!announced || error.is_passing())).then_some(error);
        for (item, reply) in items.iter().zip(replies) {
            if reply.is_closed() {
                continue;
            }
            let committed = match failed.take() {
                Some(error) => Err(error),
                None => self.commit(std::slice::from_ref(item)).await,
            };
            let outcome = match committed {
                Ok(mut receipts) => receipts.pop().ok_or(Refusal::Late),
                Err(error) => self.refused(item, error).await,
            };
            answer(reply, outcome);
        }
    }

    /// What becomes of a single member that could not be committed: back to its sender while the reason may pass. When the
    /// database would refuse it every time, a delivery is quarantined; what came without one comes again by itself.
    async fn refused(&mut self, item: &Item, error: Error) -> Result<Receipt, Refusal> {
        let arrival = match item {
            Item::Delivery(arrival) if !error.is_passing() => arrival,
            Item::Delivery(_) | Item::Learned(_) | Item::Swept(..) => {
                return Err(Refusal::Unavailable(error.to_string()));
            }
        };
        tracing::error!(%error, svix_id = arrival.svix_id, "a delivery cannot be stored and is quarantined");
        in_time(self.writer.quarantine(arrival, &error.to_string()))
            .await
            .map_err(|error| Refusal::Unavailable(error.to_string()))
    }

    /// One commit, tried a second time on a new connection when the first was lost: the connection may have been idle
    /// since the database restarted, and committing twice is harmless.
    async fn commit(&mut self, items: &[Item]) -> Result<Vec<Receipt>, Error> {
        match self.try_commit(items).await {
            Err(Error::Unavailable(reason)) => {
                tracing::warn!(reason, "the commit failed; trying once more");
                self.try_commit(items).await
            }
            other => other,
        }
    }

    async fn try_commit(&mut self, items: &[Item]) -> Result<Vec<Receipt>, Error> {
        let now = self.clock.now();
        in_time(self.writer.commit(items, now)).await
    }
}

/// Gives the database its time, and makes an error of a panic.
async fn in_time<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    match tokio::time::timeout(COMMIT_DEADLINE, AssertUnwindSafe(work).catch_unwind()).await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(Error::Refused("a panic while merging; this is a bug".into())),
        Err(_) => Err(Error::Busy("no answer within 7 s".into())),
    }
}

impl Queue {
    /// Waits for the next batch. `None` when nothing can come any more.
    async fn gather(&mut self) -> Option<Batch> {
        let first = self.waiting.recv().await?;
        let mut bytes = size(&first);
        let mut batch = vec![first];
        let patience = tokio::time::sleep(GATHER);
        tokio::pin!(patience);
        while batch.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES {
            let next = match self.waiting.try_recv() {
                Ok(next) => next,
                Err(_) if batch.len() >= self.enough() => break,
                Err(_) => tokio::select! {
                    next = self.waiting.recv() => match next {
                        Some(next) => next,
                        None => break,
                    },
                    () = &mut patience => break,
                },
            };
            bytes += size(&next);
            batch.push(next);
        }
        Some(self.batch(batch))
    }

    /// What waits now, if it is enough for a batch.
    fn at_hand(&mut self) -> Option<Batch> {
        if self.waiting.len() < self.enough() {
            return None;
        }
        let (mut bytes, mut batch) = (0, Vec::with_capacity(self.waiting.len().min(MAX_BATCH)));
        while batch.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES {
            let Ok(next) = self.waiting.try_recv() else { break };
            bytes += size(&next);
            batch.push(next);
        }
        Some(self.batch(batch))
    }

    /// How much of what came the last time is worth a turn.
    fn enough(&self) -> usize {
        if self.has_company { (self.last_batch * 9).div_ceil(10) } else { self.last_batch.div_ceil(2) }
    }

    fn batch(&mut self, waiting: Vec<Waiting>) -> Batch {
        self.last_batch = waiting.len();
        let span = span_of(&waiting);
        let (mut items, mut shares, mut replies) = (Vec::with_capacity(waiting.len()), Vec::new(), Vec::new());
        for one in waiting {
            items.push(one.item);
            shares.extend(one.share);
            replies.push(one.reply);
        }
        Batch { items: items.into(), shares, replies, span }
    }
}

/// A batch has many causes, and a span one parent: it stands below its first member and links to the others.
fn span_of(waiting: &[Waiting]) -> Span {
    if !traces::is_on() {
        return Span::none();
    }
    let first = waiting.first().and_then(|first| first.span.id());
    let span = tracing::info_span!(target: TRACE, parent: first, "batch", faircopy.deliveries = waiting.len(), trace.failed = LATER);
    waiting.iter().skip(1).filter_map(|other| other.span.id()).for_each(|other| {
        span.follows_from(other);
    });
    span
}

fn size(waiting: &Waiting) -> usize {
    match &waiting.item {
        Item::Delivery(arrival) => arrival.content.payload.as_ref().map_or(0, String::len),
        Item::Learned(_) | Item::Swept(..) => 0,
    }
}

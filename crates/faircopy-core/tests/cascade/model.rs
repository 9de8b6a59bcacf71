//! One deletion in a linked workspace `w`, another tenant's workspace `v`, two workers, and everything that can go wrong.
//!
//! What is one action here happens at once, or not at all: a transaction (which locks what it reads: the fence, the job, the
//! rows), or a call with the question that goes before it. Between any two actions either worker may crash, lose its lease to
//! the other, be cancelled or overtaken by the application. Faults are counted, so that they end; time is left out: what is due
//! may be done at any time.
//!
//! Assumed is what no lock can enforce: that a call takes effect at once or never, and that nobody gives an id out again between
//! the question whether a live row claims it and the call. [`Mutant::StoppedBeforeTheCall`] shows what happens else.

use faircopy_core::Millis;
use faircopy_core::cascade::job::{Clerk, Event, Job, Reason, Refusal, Rules, State as At};
use stateright::{Model, Property};

/// Rows with a room each, and the rooms.
const DOCS: usize = 2;
const NOW: Millis = Millis(0);
const RULES: Rules = Rules { hold_ms: 0, second_sweep_ms: 1 };

/// Each kind of fault, and each thing that others do, happens so often at most,
const FAULTS: Budget = Budget {
    crashes: 1,
    leases: 1,
    lost_replies: 1,
    odd_answers: 1,
    cancels: 1,
    triggers: 1,
    children: 1,
    comes_back: 1,
    links: 1,
    moves: 1,
    missing_keys: 1,
};
/// and so many of them in one history: the wrong rules need half of them. With all eleven there are three million states, and in
/// none of them anything else is found.
const MAX_FAULTS: u8 = 6;

pub(crate) const I4: &str = "I4: done means that nothing is left";
pub(crate) const I11: &str = "I11: nothing of anybody else's is touched";
pub(crate) const I13: &str = "I13: who lost the lease commits nothing";
pub(crate) const AFTER_NO: &str = "nothing goes after a no";
pub(crate) const DONE_STAYS: &str = "done is not left by itself";

/// Where a row hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    /// In the workspace that ends.
    W,
    /// In another tenant's.
    V,
}

/// Whose a room is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Room {
    /// Of a document of the workspace that ends, or of nobody: made again by a client that had not heard of the end.
    Ended,
    /// Of somebody who lives: the other tenant, or the workspace that has begun anew.
    Live,
}

/// A step of the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    None,
    Pending,
    Confirmed,
    Kept,
    Skipped,
}

/// The workspace `w`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Workspace {
    /// Before the organization goes.
    First,
    /// Marked by the transaction of the tombstone.
    Ended,
    /// Its row is deleted.
    Gone,
    /// Another organization has linked it: it began anew.
    Again,
}

/// A worker's memory: lost with a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Worker {
    /// The fence that it was given; 0 for none.
    fence: u8,
    /// A room whose deletion was answered, and is to be written down.
    answered: Option<usize>,
    /// A room that it has asked the tree about ([`Mutant::StoppedBeforeTheCall`]).
    asked: Option<usize>,
    /// An id that is to be written to the outbox ([`Mutant::OutboxAfterTheRows`]).
    owes: Option<usize>,
    /// That the job is deleting, as it once read ([`Mutant::JobReadOnce`]).
    believes: bool,
}

/// What may still go wrong, and what others may still do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    crashes: u8,
    leases: u8,
    lost_replies: u8,
    odd_answers: u8,
    cancels: u8,
    triggers: u8,
    children: u8,
    comes_back: u8,
    links: u8,
    moves: u8,
    missing_keys: u8,
}

impl Budget {
    /// All that may still happen.
    fn left(&self) -> u8 {
        let Self { crashes, leases, lost_replies, odd_answers, cancels, .. } = self;
        let Self { triggers, children, comes_back, links, moves, missing_keys, .. } = self;
        let ours = crashes + leases + lost_replies + odd_answers + missing_keys;
        ours + cancels + triggers + children + comes_back + links + moves
    }
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    job: Option<Job>,
    workspace: Workspace,
    docs: [Option<Place>; DOCS],
    /// A row below the first document. It has no room.
    child: bool,
    rooms: [Option<Room>; DOCS],
    outbox: [Step; DOCS],
    /// The newest fence.
    fence: u8,
    workers: [Worker; 2],
    budget: Budget,
    /// Rooms that were deleted, or were not there, at least once.
    called: [bool; DOCS],
    /// Rooms whose row the job has deleted.
    owed: [bool; DOCS],
    broken: Option<Broken>,
}

/// What must never happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Broken {
    /// I11.
    Foreign,
    /// I13.
    StaleCommit,
    /// A row went although the job was cancelled, paused or not yet allowed.
    AfterNo,
    /// A job that was done began again by itself.
    DoneLeft,
}

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Trigger,
    Take(usize),
    Crash(usize),
    NoticeLoss(usize),
    Look(usize, Clerk, bool),
    Batch(usize),
    WriteOwed(usize),
    RowsGone(usize),
    Ask(usize, usize),
    Call(usize, usize, Reply),
    Skip(usize, usize),
    Record(usize),
    Confirm(usize),
    Cancel,
    Resume,
    InsertChild,
    ComesBack(usize),
    Link,
    MakeRoom(usize),
    MakeRow(usize),
    Move(usize),
}

/// What becomes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Reply {
    Arrives,
    IsLost,
}

/// What a cascade could do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A worker commits without looking whether its fence is the newest.
    NoFence,
    /// The ids go to the outbox in a transaction after that which deletes the rows.
    OutboxAfterTheRows,
    /// Nobody asks whether a live row claims the id.
    NoClaims,
    /// A batch does not look at the job again.
    JobReadOnce,
    /// A document goes although something hangs on it.
    ParentsFirst,
    /// A workspace may begin anew as soon as its rows are gone.
    LinkBeforeDone,
    /// A job goes on although the workspace lives again.
    ResumeRegardless,
    /// A step is confirmed when it is called, and not when it is answered.
    ConfirmedFirst,
    /// A second trigger begins a second job.
    TriggerAnew,
    /// A process is stopped between the question to the tree and the call.
    StoppedBeforeTheCall,
}

/// The system, or one that does something wrong.
pub(crate) struct System(pub(crate) Option<Mutant>);

impl System {
    fn is(&self, mutant: Mutant) -> bool {
        self.0 == Some(mutant)
    }

    /// Whether a worker believes that it may work: only a commit finds out that its lease is lost.
    fn may(world: &World, worker: usize) -> bool {
        world.workers[worker].fence > 0
    }

    /// Whether a commit goes through, for all that the lease says.
    fn holds(&self, world: &World, worker: usize) -> bool {
        Self::may(world, worker) && (world.workers[worker].fence == world.fence || self.is(Mutant::NoFence))
    }

    fn worker_actions(&self, world: &World, worker: usize, actions: &mut Vec<Action>) {
        let mind = world.workers[worker];
        let budget = &world.budget;
        if mind != Worker::default() && budget.crashes > 0 {
            actions.push(Action::Crash(worker));
        }
        // The first lease is free; each change of hands is a fault.
        let is_free = world.workers.iter().all(|worker| worker.fence != world.fence || worker.fence == 0);
        // The two are alike: it is the first one that begins.
        let may_take = if world.fence == 0 { worker == 0 } else { is_free || budget.leases > 0 };
        if mind == Worker::default() && may_take {
            actions.push(Action::Take(worker));
        }
        if mind.fence > 0 && mind.fence < world.fence && !self.is(Mutant::NoFence) {
            actions.push(Action::NoticeLoss(worker));
        }
        // What a mutant does without asking the database first.
        if let Some(room) = mind.asked {
            actions.push(Action::Call(worker, room, Reply::Arrives));
            return;
        }
        let Some(job) = world.job.filter(|_| self.holds(world, worker)) else { return };
        if mind.owes.is_some() {
            actions.push(Action::WriteOwed(worker));
            return;
        }
        if mind.answered.is_some() {
            actions.push(Action::Record(worker));
            return;
        }
        match job.state {
            At::Waiting => {
                actions.push(Action::Look(worker, Clerk::Gone, false));
                if budget.odd_answers > 0 {
                    let odd = [(Clerk::Unknown, false), (Clerk::There, false), (Clerk::NoKey, true)];
                    actions.extend(odd.map(|(clerk, burst)| Action::Look(worker, clerk, burst)));
                }
            }
            At::Deleting if world.has_rows() => actions.push(Action::Batch(worker)),
            At::Deleting => actions.push(Action::RowsGone(worker)),
            At::Calling | At::Paused(Reason::KeyRefused) => self.calls(world, worker, actions),
            _ => {}
        }
        if mind.believes && job.state != At::Deleting && world.has_rows() {
            actions.push(Action::Batch(worker));
        }
    }

    fn calls(&self, world: &World, worker: usize, actions: &mut Vec<Action>) {
        for room in 0..DOCS {
            if world.outbox[room] != Step::Pending {
                continue;
            }
            if self.is(Mutant::StoppedBeforeTheCall) {
                actions.push(Action::Ask(worker, room));
                continue;
            }
            actions.push(Action::Call(worker, room, Reply::Arrives));
            if world.budget.lost_replies > 0 {
                actions.push(Action::Call(worker, room, Reply::IsLost));
            }
            if world.budget.missing_keys > 0 {
                actions.push(Action::Skip(worker, room));
            }
        }
        if !world.outbox.contains(&Step::Pending) {
            actions.push(Action::Confirm(worker));
        }
    }

    fn others(&self, world: &World, actions: &mut Vec<Action>) {
        let budget = &world.budget;
        if world.workspace == Workspace::First || budget.triggers > 0 {
            actions.push(Action::Trigger);
        }
        let Some(job) = world.job else { return };
        if budget.cancels > 0 && !matches!(job.state, At::Done | At::Cancelled) {
            actions.push(Action::Cancel);
        }
        let is_resumable =
            matches!(job.state, At::Cancelled | At::Paused(_)) || (job.state == At::Done && job.has_skipped);
        if is_resumable && (!world.lives_again() || self.is(Mutant::ResumeRegardless)) {
            actions.push(Action::Resume);
        }
        if budget.children > 0 && world.docs[0] == Some(Place::W) && !world.child {
            actions.push(Action::InsertChild);
        }
        for room in 0..DOCS {
            let is_under_way = !matches!(job.state, At::Done | At::Cancelled);
            if budget.comes_back > 0 && world.called[room] && world.rooms[room].is_none() && is_under_way {
                actions.push(Action::ComesBack(room));
            }
        }
        let may_begin = matches!(job.state, At::Done | At::Cancelled)
            || (self.is(Mutant::LinkBeforeDone) && world.workspace == Workspace::Gone);
        if budget.links > 0 && may_begin && matches!(world.workspace, Workspace::Ended | Workspace::Gone) {
            actions.push(Action::Link);
        }
        // The workspace that began anew makes a room before its row; the other tenant a row before its room.
        if world.lives_again() && world.docs[0].is_none() {
            let made = world.rooms[0] == Some(Room::Live);
            actions.push(if made { Action::MakeRow(0) } else { Action::MakeRoom(0) });
        }
        if world.docs[0] == Some(Place::V) && world.rooms[0].is_none() {
            actions.push(Action::MakeRoom(0));
        }
        if budget.moves > 0 && world.docs[0].is_none() && world.owed[0] {
            actions.push(Action::Move(0));
        }
    }

    /// A transaction of the worker's that changes the job.
    fn commit(&self, world: &mut World, worker: usize, event: Event) -> bool {
        let Some(job) = world.job else { return false };
        if !self.holds(world, worker) {
            return false;
        }
        let Ok(after) = job.after(event, NOW, &RULES) else { return false };
        world.note_commit(worker);
        world.set(after);
        true
    }

    fn batch(&self, world: &mut World, worker: usize) -> bool {
        let state = world.job.map(|job| job.state);
        if state != Some(At::Deleting) {
            if !world.workers[worker].believes {
                return false;
            }
            world.broken = Some(Broken::AfterNo);
        }
        let passes = world.job.map_or(0, |job| job.passes);
        if state == Some(At::Deleting) {
            if passes > 0 && !self.commit(world, worker, Event::FoundAgain) {
                return false;
            }
            if !self.commit(world, worker, Event::RowsLeft { rest_ms: 0 }) {
                return false;
            }
        }
        if world.workspace != Workspace::Ended {
            world.broken = Some(Broken::Foreign);
        }
        world.workers[worker].believes = self.is(Mutant::JobReadOnce);
        let document = (0..DOCS).rev().find(|doc| world.docs[*doc] == Some(Place::W));
        let has_child = document == Some(0) && world.child;
        if has_child && !self.is(Mutant::ParentsFirst) {
            world.child = false;
            return true;
        }
        let Some(document) = document else { return false };
        world.docs[document] = None;
        world.owed[document] = true;
        if self.is(Mutant::OutboxAfterTheRows) {
            world.workers[worker].owes = Some(document);
        } else {
            world.outbox[document] = Step::Pending;
        }
        true
    }

    fn call(&self, world: &mut World, worker: usize, room: usize, reply: Reply) -> bool {
        let is_asked = world.workers[worker].asked.take() == Some(room);
        if !is_asked && world.is_claimed(room) && !self.is(Mutant::NoClaims) {
            world.note_commit(worker);
            world.outbox[room] = Step::Kept;
            return true;
        }
        if world.rooms[room] == Some(Room::Live) {
            world.broken = Some(Broken::Foreign);
        }
        if self.is(Mutant::ConfirmedFirst) {
            world.outbox[room] = Step::Confirmed;
            if reply == Reply::IsLost {
                // It never arrived.
                world.budget.lost_replies -= 1;
                return true;
            }
        }
        world.rooms[room] = None;
        world.called[room] = true;
        match reply {
            Reply::Arrives => world.workers[worker].answered = Some(room),
            Reply::IsLost => world.budget.lost_replies -= 1,
        }
        true
    }

    fn rows_gone(&self, world: &mut World, worker: usize) -> bool {
        let is_later = world.job.is_some_and(|job| job.passes > 0);
        let came_back = |room: usize| world.outbox[room] == Step::Confirmed && world.rooms[room].is_some();
        let again: Vec<usize> = (0..DOCS).filter(|room| is_later && came_back(*room)).collect();
        if !again.is_empty() && !self.commit(world, worker, Event::FoundAgain) {
            return false;
        }
        if !self.commit(world, worker, Event::RowsGone) {
            return false;
        }
        for room in again {
            world.outbox[room] = Step::Pending;
        }
        if world.workspace == Workspace::Ended {
            world.workspace = Workspace::Gone;
        }
        true
    }

    fn link(world: &mut World) {
        world.budget.links -= 1;
        world.workspace = Workspace::Again;
        // What was left is the new one's, with its rooms.
        for doc in 0..DOCS {
            if world.docs[doc] == Some(Place::W) && world.rooms[doc].is_some() {
                world.rooms[doc] = Some(Room::Live);
            }
        }
    }

    fn trigger(&self, world: &mut World) {
        if world.workspace == Workspace::First {
            world.workspace = Workspace::Ended;
        } else {
            world.budget.triggers -= 1;
        }
        let triggered = |job: Job| job.after(Event::Triggered, NOW, &RULES).unwrap_or(job);
        let job = world.job.filter(|_| !self.is(Mutant::TriggerAnew)).map(triggered);
        world.set(job.unwrap_or_else(|| Job::new(NOW, &RULES)));
    }

    fn happen(&self, world: &mut World, action: Action) -> bool {
        match action {
            Action::Trigger => self.trigger(world),
            Action::Take(worker) => {
                if world.workers.iter().any(|worker| worker.fence == world.fence && worker.fence > 0) {
                    world.budget.leases -= 1;
                }
                world.fence += 1;
                world.workers[worker].fence = world.fence;
            }
            Action::Crash(worker) => {
                world.budget.crashes -= 1;
                world.workers[worker] = Worker::default();
            }
            Action::NoticeLoss(worker) => world.workers[worker] = Worker::default(),
            Action::Look(worker, clerk, burst) => {
                if clerk != Clerk::Gone || burst {
                    world.budget.odd_answers -= 1;
                }
                return self.commit(world, worker, Event::Looked { clerk, burst, chance: u64::MAX / 2 });
            }
            Action::Batch(worker) => return self.batch(world, worker),
            Action::WriteOwed(worker) => {
                world.note_commit(worker);
                if let Some(room) = world.workers[worker].owes.take() {
                    world.outbox[room] = Step::Pending;
                }
            }
            Action::RowsGone(worker) => return self.rows_gone(world, worker),
            Action::Ask(worker, room) => {
                if world.is_claimed(room) {
                    world.outbox[room] = Step::Kept;
                } else {
                    world.workers[worker].asked = Some(room);
                }
            }
            Action::Call(worker, room, reply) => return self.call(world, worker, room, reply),
            Action::Skip(worker, room) => {
                world.note_commit(worker);
                world.budget.missing_keys -= 1;
                world.outbox[room] = Step::Skipped;
            }
            Action::Record(worker) => {
                world.note_commit(worker);
                if let Some(room) = world.workers[worker].answered.take() {
                    world.outbox[room] = Step::Confirmed;
                }
            }
            Action::Confirm(worker) => {
                let skipped = world.outbox.contains(&Step::Skipped);
                return self.commit(world, worker, Event::StepsConfirmed { skipped });
            }
            Action::Cancel => {
                world.budget.cancels -= 1;
                return world.told(Event::Cancel);
            }
            Action::Resume => return self.resume(world),
            Action::InsertChild => {
                world.budget.children -= 1;
                world.child = true;
            }
            Action::ComesBack(room) => {
                world.budget.comes_back -= 1;
                world.rooms[room] = Some(if world.is_claimed(room) { Room::Live } else { Room::Ended });
            }
            Action::Link => Self::link(world),
            Action::MakeRoom(room) => world.rooms[room] = Some(Room::Live),
            Action::MakeRow(room) => world.docs[room] = Some(Place::W),
            Action::Move(room) => {
                world.budget.moves -= 1;
                world.docs[room] = Some(Place::V);
                world.rooms[room] = world.rooms[room].map(|_| Room::Live);
            }
        }
        true
    }

    fn resume(&self, world: &mut World) -> bool {
        let lives_again = world.lives_again() && !self.is(Mutant::ResumeRegardless);
        for step in &mut world.outbox {
            if *step == Step::Skipped {
                *step = Step::Pending;
            }
        }
        world.told(Event::Resume { lives_again })
    }
}

impl World {
    fn new() -> Self {
        Self {
            job: None,
            workspace: Workspace::First,
            docs: [Some(Place::W); DOCS],
            child: true,
            rooms: [Some(Room::Ended); DOCS],
            outbox: [Step::None; DOCS],
            fence: 0,
            workers: [Worker::default(); 2],
            budget: FAULTS,
            called: [false; DOCS],
            owed: [false; DOCS],
            broken: None,
        }
    }

    fn has_rows(&self) -> bool {
        // A child is found through its document alone.
        self.docs.contains(&Some(Place::W))
    }

    fn is_claimed(&self, room: usize) -> bool {
        self.docs[room].is_some()
    }

    fn lives_again(&self) -> bool {
        self.workspace == Workspace::Again
    }

    /// What is written is written; who had lost the lease should not have.
    fn note_commit(&mut self, worker: usize) {
        if self.workers[worker].fence != self.fence {
            self.broken = Some(Broken::StaleCommit);
        }
    }

    /// An operator's word.
    fn told(&mut self, event: Event) -> bool {
        let after: Option<Result<Job, Refusal>> = self.job.map(|job| job.after(event, NOW, &RULES));
        let Some(Ok(after)) = after else { return false };
        let is_resumed = matches!(event, Event::Resume { .. });
        if is_resumed && self.job.is_some_and(|job| job.state == At::Done) {
            self.job = None;
        }
        self.set(after);
        true
    }

    /// The job as it is written. Time is left out: what is due is due.
    fn set(&mut self, job: Job) {
        if self.job.is_some_and(|before| before.state == At::Done && job.state != At::Done) {
            self.broken = Some(Broken::DoneLeft);
        }
        let due_at = job.due_at.map(|_| NOW);
        self.job = Some(Job { due_at, failures: job.failures.min(1), ..job });
    }

    /// I4, for what is this job's: below a workspace that lives again nothing is.
    fn is_complete(&self) -> bool {
        let has_left = !self.lives_again() && (self.child || self.docs.contains(&Some(Place::W)));
        let is_seen_to = |room: usize| !self.owed[room] || self.called[room] || self.outbox[room] == Step::Kept;
        !has_left && (0..DOCS).all(is_seen_to) && !self.outbox.contains(&Step::Pending)
    }

    /// Whether it is right that nothing happens any more.
    pub(crate) fn has_ended(&self) -> bool {
        let state = self.state();
        state == Some(At::Done) || (state == Some(At::Cancelled) && self.lives_again())
    }

    fn state(&self) -> Option<At> {
        self.job.map(|job| job.state)
    }
}

impl Model for System {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new()]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_some() {
            return;
        }
        self.others(world, actions);
        for worker in 0..world.workers.len() {
            self.worker_actions(world, worker, actions);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        let is_possible = self.happen(&mut next, action) && next.budget.left() + MAX_FAULTS >= FAULTS.left();
        is_possible.then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(I4, |_, world: &World| {
                let is_done = world.job.is_some_and(|job| job.state == At::Done && !job.has_skipped);
                !is_done || world.is_complete()
            }),
            Property::always(I11, |_, world: &World| world.broken != Some(Broken::Foreign)),
            Property::always(I13, |_, world: &World| world.broken != Some(Broken::StaleCommit)),
            Property::always(AFTER_NO, |_, world: &World| world.broken != Some(Broken::AfterNo)),
            Property::always(DONE_STAYS, |_, world: &World| world.broken != Some(Broken::DoneLeft)),
            // What the faults are for is reached.
            Property::sometimes("a room is kept for a live row", |_, world: &World| world.outbox.contains(&Step::Kept)),
            Property::sometimes("a workspace begins anew after the end", |_, world: &World| {
                world.lives_again() && world.state() == Some(At::Done)
            }),
            Property::sometimes("a room comes back and goes again", |_, world: &World| {
                world.job.is_some_and(|job| job.state == At::Done && job.passes > 2)
            }),
            Property::sometimes("skipped steps are taken up", |_, world: &World| {
                world.budget.missing_keys == 0 && world.job.is_some_and(|job| job.state == At::Done && !job.has_skipped)
            }),
        ]
    }
}

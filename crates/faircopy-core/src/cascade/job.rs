//! One deletion, from its trigger to its receipt.
//!
//! ```text
//! waiting ──▶ deleting ──▶ calling ──▶ done            paused(burst, still-there) ──resume──▶ waiting
//!                ▲            │                        paused(key-refused) ──resume, or a key that works──▶ calling
//!                └── later ───┘                        cancelled ──resume──▶ waiting
//! ```
//!
//! A pass is `deleting` and `calling`. After the first one the job waits for [`Rules::second_sweep_ms`] and passes again, because somebody
//! may have made rows or rooms meanwhile; while a pass finds something there is another one, up to [`MAX_PASSES`]. So `done` means
//! that nothing was left when it was last looked for.
//!
//! A crash and a lost lease are no events: nothing was committed, and the next look finds what is left. A second trigger
//! meets the job that is there: [`Event::Triggered`] changes nothing.

use crate::retry::Backoff;
use crate::time::Millis;

/// The wait after an answer of Clerk's that says neither that the organization is gone nor that it is there.
pub const ASK_AGAIN: Backoff = Backoff { base_ms: 1_000, cap_ms: 300_000 };
/// The wait never is shorter: chance may say 0, and Clerk is not asked in a loop.
pub const MIN_ASK_AGAIN_MS: i64 = 250;
/// Passes of one job. Each after the second was asked for by something that came back; what comes back that often is made
/// by somebody who was not told of the end, and more passes would not help.
pub const MAX_PASSES: u32 = 4;
/// The second sweep, unless set: a client that lost its room connects again within a minute.
pub const SECOND_SWEEP_MS: i64 = 120_000;

/// Where a job stands. In the order of the table in decision 18.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// For the end of the hold, for Clerk's word, for a calm moment.
    Waiting,
    /// Rows go.
    Deleting,
    /// Rows are gone; outside steps are under way.
    Calling,
    /// Nothing is left.
    Done,
    /// Something speaks against going on.
    Paused(Reason),
    /// An operator said no. What is gone is gone; what is left stays.
    Cancelled,
}

/// Why a job is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Too many deletions at once: see [`Burst`](super::Burst).
    Burst,
    /// Clerk still has the organization or the user.
    StillThere,
    /// A service refuses the key. The job goes on by itself as soon as a probe finds one that works.
    KeyRefused,
}

impl Reason {
    /// As tables, logs and answers name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Burst => "burst",
            Self::StillThere => "still-there",
            Self::KeyRefused => "key-refused",
        }
    }
}

impl State {
    /// As tables, logs and answers name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Deleting => "deleting",
            Self::Calling => "calling",
            Self::Done => "done",
            Self::Paused(_) => "paused",
            Self::Cancelled => "cancelled",
        }
    }

    /// Why it is paused, if it is.
    #[must_use]
    pub fn reason(self) -> Option<Reason> {
        if let Self::Paused(reason) = self { Some(reason) } else { None }
    }

    /// Reads what [`name`](Self::name) and [`Reason::name`] write.
    #[must_use]
    pub fn read(name: &str, reason: Option<&str>) -> Option<Self> {
        ALL_STATES.into_iter().find(|state| state.name() == name && state.reason().map(Reason::name) == reason)
    }

    /// Whether the worker has something to do for it, now or later, without a word from anybody.
    #[must_use]
    pub fn is_under_way(self) -> bool {
        matches!(self, Self::Waiting | Self::Deleting | Self::Calling | Self::Paused(Reason::KeyRefused))
    }
}

/// Every state.
pub const ALL_STATES: [State; 8] = [
    State::Waiting,
    State::Deleting,
    State::Calling,
    State::Done,
    State::Paused(Reason::Burst),
    State::Paused(Reason::StillThere),
    State::Paused(Reason::KeyRefused),
    State::Cancelled,
];

/// What Clerk says of the organization or user, just before the first row goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Clerk {
    /// 404.
    Gone,
    /// 200.
    There,
    /// Anything else: a refused key, a limit, an error, no answer, a page that is none of Clerk's.
    Unknown,
    /// There is no key to ask with: the delivery's signature is what is known.
    NoKey,
}

/// What the settings say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// So long after its trigger nothing goes, and the job can be cancelled without any loss.
    pub hold_ms: i64,
    /// So long after a pass another one looks for what came back; 0 for never.
    pub second_sweep_ms: i64,
}

impl Default for Rules {
    fn default() -> Self {
        Self { hold_ms: 0, second_sweep_ms: SECOND_SWEEP_MS }
    }
}

/// One deletion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Job {
    /// Where it stands.
    pub state: State,
    /// When the tombstone was written that triggered it.
    pub created_at: Millis,
    /// When the worker is to take it up; `None` where it waits for somebody's word, or for nothing any more.
    pub due_at: Option<Millis>,
    /// Answers of Clerk's in a row that said nothing.
    pub failures: u32,
    /// Passes that are complete.
    pub passes: u32,
    /// Whether this pass, which is not the first, found something.
    pub found_again: bool,
    /// An operator has let it go on: the breaker holds it no more.
    pub is_released: bool,
    /// Outside steps were left out because there was no key for them.
    pub has_skipped: bool,
}

/// What happens to a job.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Event {
    /// The organization or user was deleted again.
    Triggered,
    /// The hold is over (else see [`Job::is_held`]), and what speaks against it was asked for.
    Looked {
        /// What Clerk says.
        clerk: Clerk,
        /// [`Burst::holds`](super::Burst::holds).
        burst: bool,
        /// Any number, all equally likely.
        chance: u64,
    },
    /// A batch of rows was deleted, and there may be more after a rest.
    RowsLeft {
        /// How long to rest, so that others have their turn.
        rest_ms: i64,
    },
    /// No row is left that is this job's: none below a workspace that it ended. One that was created again is not its.
    RowsGone,
    /// Outside steps are not confirmed yet.
    StepsLeft {
        /// When the next one is due.
        next: Millis,
    },
    /// Outside steps are left, and their service refuses the key.
    KeyRefused {
        /// When the next probe is due.
        probe: Millis,
    },
    /// Every outside step is confirmed, kept because a live row claims it, or skipped.
    StepsConfirmed {
        /// Whether any was skipped for want of a key.
        skipped: bool,
    },
    /// A later pass found a row or a room that somebody made meanwhile.
    FoundAgain,
    /// An operator says no.
    Cancel,
    /// An operator says yes.
    Resume {
        /// Whether a workspace of this id lives (again), or the user does: what is there now is not what this job ended.
        lives_again: bool,
    },
}

/// Why an event means nothing to a job as it stands. Nothing is to be committed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nothing is left to cancel or to resume.
    #[error("the job is done: nothing of it is left to stop or to do")]
    Done,
    /// A second no.
    #[error("the job is cancelled already")]
    Cancelled,
    /// There is nothing to resume.
    #[error("the job is {}, and goes on by itself", .0.name())]
    UnderWay(State),
    /// What is below the workspace now, and what its rows have outside, is somebody else's.
    #[error("what the job ended lives again, and what is there now is not the job's to delete")]
    LivesAgain,
    /// The hold is not over.
    #[error("the job is held until {0}")]
    Held(Millis),
    /// What was done was done for another state: the job was paused, cancelled or taken on meanwhile.
    #[error("the job is {} meanwhile", .0.name())]
    Elsewhere(State),
}

impl Job {
    /// As the trigger writes it.
    #[must_use]
    pub fn new(now: Millis, rules: &Rules) -> Self {
        Self {
            state: State::Waiting,
            created_at: now,
            due_at: Some(now.plus(rules.hold_ms.max(0))),
            failures: 0,
            passes: 0,
            found_again: false,
            is_released: false,
            has_skipped: false,
        }
    }

    /// Whether the worker is to take it up.
    #[must_use]
    pub fn is_due(&self, now: Millis) -> bool {
        self.due_at.is_some_and(|due| due <= now)
    }

    /// When the hold is over, for a job that waits for it.
    #[must_use]
    pub fn held_until(&self, rules: &Rules) -> Millis {
        self.created_at.plus(rules.hold_ms.max(0))
    }

    /// Whether it waits for the end of its hold alone: neither Clerk nor the breaker needs to be asked.
    #[must_use]
    pub fn is_held(&self, now: Millis, rules: &Rules) -> bool {
        self.state == State::Waiting && now < self.held_until(rules)
    }

    /// The job after an event, or why there is none.
    pub fn after(self, event: Event, now: Millis, rules: &Rules) -> Result<Self, Refusal> {
        match event {
            Event::Triggered => Ok(self),
            Event::Looked { clerk, burst, chance } => self.looked(clerk, burst, chance, now, rules),
            Event::RowsLeft { rest_ms } => {
                self.in_state(&[State::Deleting])?;
                Ok(self.to(State::Deleting, now.plus(rest_ms.max(0))))
            }
            Event::RowsGone => {
                self.in_state(&[State::Deleting])?;
                Ok(self.to(State::Calling, now))
            }
            Event::StepsLeft { next } => {
                self.in_state(&CALLS)?;
                Ok(self.to(State::Calling, next))
            }
            Event::KeyRefused { probe } => {
                self.in_state(&CALLS)?;
                Ok(self.to(State::Paused(Reason::KeyRefused), probe))
            }
            Event::StepsConfirmed { skipped } => self.confirmed(skipped, now, rules),
            Event::FoundAgain => {
                self.in_state(&PASSES)?;
                Ok(Self { found_again: self.passes > 0, ..self })
            }
            Event::Cancel => match self.state {
                State::Done => Err(Refusal::Done),
                State::Cancelled => Err(Refusal::Cancelled),
                _ => Ok(Self { state: State::Cancelled, due_at: None, ..self }),
            },
            Event::Resume { lives_again } => self.resumed(lives_again, now),
        }
    }

    fn looked(self, clerk: Clerk, burst: bool, chance: u64, now: Millis, rules: &Rules) -> Result<Self, Refusal> {
        self.in_state(&[State::Waiting])?;
        if self.is_held(now, rules) {
            return Err(Refusal::Held(self.held_until(rules)));
        }
        if burst && !self.is_released {
            return Ok(self.paused(Reason::Burst));
        }
        match clerk {
            Clerk::There => Ok(self.paused(Reason::StillThere)),
            Clerk::Unknown => {
                let wait = ASK_AGAIN.delay_ms(self.failures.saturating_add(1), chance).max(MIN_ASK_AGAIN_MS);
                Ok(Self { failures: self.failures.saturating_add(1), due_at: Some(now.plus(wait)), ..self })
            }
            Clerk::Gone | Clerk::NoKey => Ok(Self { failures: 0, ..self.to(State::Deleting, now) }),
        }
    }

    /// The end of a pass.
    fn confirmed(self, skipped: bool, now: Millis, rules: &Rules) -> Result<Self, Refusal> {
        self.in_state(&CALLS)?;
        let passes = self.passes.saturating_add(1);
        let pass = Self { passes, found_again: false, has_skipped: skipped, ..self };
        let looks_again = (self.passes == 0 || self.found_again) && passes < MAX_PASSES && rules.second_sweep_ms > 0;
        if looks_again {
            return Ok(pass.to(State::Deleting, now.plus(rules.second_sweep_ms)));
        }
        Ok(Self { state: State::Done, due_at: None, ..pass })
    }

    fn resumed(self, lives_again: bool, now: Millis) -> Result<Self, Refusal> {
        let is_over = self.state == State::Cancelled || (self.state == State::Done && self.has_skipped);
        if lives_again && is_over {
            return Err(Refusal::LivesAgain);
        }
        // A word of the operator's is needed once: the breaker has stopped it, and he has looked.
        let released = Self { is_released: true, failures: 0, ..self };
        match self.state {
            State::Paused(Reason::Burst | Reason::StillThere) => Ok(released.to(State::Waiting, now)),
            State::Paused(Reason::KeyRefused) => Ok(self.to(State::Calling, now)),
            // What came back since is looked for as if it were the first time.
            State::Cancelled => Ok(Self { passes: 0, found_again: false, ..released.to(State::Waiting, now) }),
            // The rows are gone, and were looked for again; the steps that wanted a key are taken up.
            State::Done if self.has_skipped => Ok(Self { has_skipped: false, ..self.to(State::Calling, now) }),
            State::Done => Err(Refusal::Done),
            State::Waiting | State::Deleting | State::Calling => Err(Refusal::UnderWay(self.state)),
        }
    }

    fn in_state(&self, states: &[State]) -> Result<(), Refusal> {
        if states.contains(&self.state) { Ok(()) } else { Err(Refusal::Elsewhere(self.state)) }
    }

    fn to(self, state: State, due: Millis) -> Self {
        Self { state, due_at: Some(due), ..self }
    }

    fn paused(self, reason: Reason) -> Self {
        Self { state: State::Paused(reason), due_at: None, failures: 0, ..self }
    }
}

/// Where outside steps are under way.
const CALLS: [State; 2] = [State::Calling, State::Paused(Reason::KeyRefused)];
/// Where a pass is.
const PASSES: [State; 3] = [State::Deleting, State::Calling, State::Paused(Reason::KeyRefused)];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Millis = Millis(1_000_000);
    const RULES: Rules = Rules { hold_ms: 0, second_sweep_ms: 60_000 };
    const CALM: Event = Event::Looked { clerk: Clerk::Gone, burst: false, chance: u64::MAX / 2 };
    const RESUME: Event = Event::Resume { lives_again: false };
    const CONFIRMED: Event = Event::StepsConfirmed { skipped: false };

    fn job(state: State) -> Job {
        Job { state, ..Job::new(NOW, &RULES) }
    }

    fn looked(clerk: Clerk, burst: bool) -> Event {
        Event::Looked { clerk, burst, chance: u64::MAX / 2 }
    }

    /// The events one after another, at one moment.
    fn run(job: Job, events: &[Event]) -> Job {
        events.iter().fold(job, |job, event| job.after(*event, NOW, &RULES).unwrap())
    }

    #[test]
    fn the_plain_way_passes_twice() {
        let first = run(Job::new(NOW, &RULES), &[CALM, Event::RowsLeft { rest_ms: 7 }]);
        assert_eq!((first.state, first.due_at), (State::Deleting, Some(NOW.plus(7))));
        let between = run(first, &[Event::RowsGone, Event::StepsLeft { next: NOW.plus(9) }, CONFIRMED]);
        assert_eq!((between.state, between.due_at), (State::Deleting, Some(NOW.plus(60_000))));
        let done = run(between, &[Event::RowsGone, CONFIRMED]);
        assert_eq!((done.state, done.due_at, done.passes), (State::Done, None, 2));
    }

    #[test]
    fn without_a_second_sweep_one_pass_is_all() {
        let calling = run(job(State::Deleting), &[Event::RowsGone]);
        let done = calling.after(CONFIRMED, NOW, &Rules { second_sweep_ms: 0, ..RULES }).unwrap();
        assert_eq!((done.state, done.passes), (State::Done, 1));
    }

    #[test]
    fn what_comes_back_is_looked_for_again_but_not_for_ever() {
        let pass = [Event::FoundAgain, Event::RowsGone, CONFIRMED];
        let mut at = job(State::Deleting);
        for passes in 1..MAX_PASSES {
            at = run(at, &pass);
            assert_eq!((at.state, at.passes, at.found_again), (State::Deleting, passes, false));
        }
        assert_eq!(run(at, &pass).state, State::Done);
        // The first pass finds what it is there for.
        assert!(!run(job(State::Deleting), &[Event::FoundAgain]).found_again);
    }

    #[test]
    fn nothing_goes_before_the_hold_is_over() {
        let rules = Rules { hold_ms: 500, ..RULES };
        let job = Job::new(NOW, &rules);
        assert_eq!(job.due_at, Some(NOW.plus(500)));
        assert!(job.is_held(NOW.plus(499), &rules) && !job.is_held(NOW.plus(500), &rules));
        assert!(!job.is_due(NOW.plus(499)) && job.is_due(NOW.plus(500)));
        assert_eq!(job.after(CALM, NOW.plus(499), &rules), Err(Refusal::Held(NOW.plus(500))));
        assert_eq!(job.after(CALM, NOW.plus(500), &rules).unwrap().state, State::Deleting);
    }

    #[test]
    fn only_a_clear_word_lets_rows_go() {
        let check = |event: Event, state: State, due: Option<i64>| {
            let after = Job::new(NOW, &RULES).after(event, NOW, &RULES).unwrap();
            assert_eq!((after.state, after.due_at), (state, due.map(|ms| NOW.plus(ms))), "{event:?}");
        };
        check(looked(Clerk::Gone, false), State::Deleting, Some(0));
        check(looked(Clerk::NoKey, false), State::Deleting, Some(0));
        check(looked(Clerk::There, false), State::Paused(Reason::StillThere), None);
        check(looked(Clerk::Unknown, false), State::Waiting, Some(500));
        for clerk in [Clerk::Gone, Clerk::NoKey, Clerk::There, Clerk::Unknown] {
            check(looked(clerk, true), State::Paused(Reason::Burst), None);
        }
    }

    #[test]
    fn unknown_answers_are_asked_again_ever_later() {
        let mut at = Job::new(NOW, &RULES);
        for wait in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 300_000, 300_000] {
            at =
                at.after(Event::Looked { clerk: Clerk::Unknown, burst: false, chance: u64::MAX }, NOW, &RULES).unwrap();
            assert_eq!((at.state, at.due_at), (State::Waiting, Some(NOW.plus(wait))));
        }
        let soonest = at.after(Event::Looked { clerk: Clerk::Unknown, burst: false, chance: 0 }, NOW, &RULES).unwrap();
        assert_eq!(soonest.due_at, Some(NOW.plus(MIN_ASK_AGAIN_MS)));
        assert_eq!(run(at, &[CALM]).failures, 0);
    }

    #[test]
    fn resume_takes_up_what_stopped() {
        let burst = run(Job::new(NOW, &RULES), &[looked(Clerk::Gone, true), RESUME]);
        assert_eq!((burst.state, burst.due_at), (State::Waiting, Some(NOW)));
        // The breaker holds no job that an operator let go; Clerk is asked all the same.
        assert_eq!(run(burst, &[looked(Clerk::Gone, true)]).state, State::Deleting);
        assert_eq!(run(burst, &[looked(Clerk::There, true)]).state, State::Paused(Reason::StillThere));
        let cancelled = run(job(State::Calling), &[CONFIRMED, Event::Cancel]);
        assert_eq!((cancelled.state, cancelled.due_at, cancelled.passes), (State::Cancelled, None, 1));
        // Whoever took the workspace over meanwhile keeps what is left.
        assert_eq!(cancelled.after(Event::Resume { lives_again: true }, NOW, &RULES), Err(Refusal::LivesAgain));
        let resumed = run(cancelled, &[RESUME]);
        assert_eq!((resumed.state, resumed.passes), (State::Waiting, 0));
    }

    #[test]
    fn a_key_that_works_again_needs_no_word() {
        let probe = NOW.plus(60_000);
        let parked = run(job(State::Calling), &[Event::KeyRefused { probe }]);
        assert_eq!((parked.state, parked.due_at), (State::Paused(Reason::KeyRefused), Some(probe)));
        assert_eq!(run(parked, &[Event::KeyRefused { probe }]), parked);
        assert_eq!(run(parked, &[Event::StepsLeft { next: NOW }]).state, State::Calling);
        assert_eq!(run(parked, &[CONFIRMED]).passes, 1);
        assert_eq!(run(parked, &[RESUME]).state, State::Calling);
    }

    #[test]
    fn steps_without_a_key_are_taken_up_by_resume() {
        let rules = Rules { second_sweep_ms: 0, ..RULES };
        let done = job(State::Calling).after(Event::StepsConfirmed { skipped: true }, NOW, &rules).unwrap();
        assert_eq!(done.state, State::Done);
        assert_eq!(done.after(Event::Resume { lives_again: true }, NOW, &rules), Err(Refusal::LivesAgain));
        let resumed = done.after(RESUME, NOW, &rules).unwrap();
        assert_eq!((resumed.state, resumed.due_at), (State::Calling, Some(NOW)));
        let done = resumed.after(CONFIRMED, NOW, &rules).unwrap();
        assert_eq!(done.state, State::Done);
        assert_eq!(done.after(RESUME, NOW, &rules), Err(Refusal::Done));
    }

    #[test]
    fn states_are_read_as_they_are_written() {
        for state in ALL_STATES {
            assert_eq!(State::read(state.name(), state.reason().map(Reason::name)), Some(state));
        }
        assert_eq!(State::read("paused", None), None);
        assert_eq!(State::read("done", Some("burst")), None);
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let clerk = proptest::sample::select(vec![Clerk::Gone, Clerk::There, Clerk::Unknown, Clerk::NoKey]);
        prop_oneof![
            Just(Event::Triggered),
            (clerk, any::<bool>(), any::<u64>()).prop_map(|(clerk, burst, chance)| Event::Looked {
                clerk,
                burst,
                chance
            }),
            (0..1_000_i64).prop_map(|rest_ms| Event::RowsLeft { rest_ms }),
            Just(Event::RowsGone),
            (0..1_000_i64).prop_map(|ms| Event::StepsLeft { next: NOW.plus(ms) }),
            (0..1_000_i64).prop_map(|ms| Event::KeyRefused { probe: NOW.plus(ms) }),
            any::<bool>().prop_map(|skipped| Event::StepsConfirmed { skipped }),
            Just(Event::FoundAgain),
            Just(Event::Cancel),
            Just(RESUME),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// Over any events at any times: rows go only after the hold and a clear word; `done` comes after a pass in which rows and
        /// steps were said to be gone, and is left by skipped steps alone; whoever waits for no word is due at some time.
        #[test]
        fn whatever_happens(
            events in proptest::collection::vec((any_event(), 0..5_000_i64), 1..60),
            hold_ms in 0..20_000_i64,
            second_sweep_ms in 0..20_000_i64,
        ) {
            let rules = Rules { hold_ms, second_sweep_ms };
            let (mut now, mut at, mut again) = (NOW, Job::new(NOW, &rules), 0);
            for (event, later) in events {
                now = now.plus(later);
                let Ok(after) = at.after(event, now, &rules) else { continue };
                prop_assert_eq!(after.due_at.is_some(), after.state.is_under_way(), "{:?}", after);
                if at.state == State::Waiting && after.state == State::Deleting {
                    prop_assert!(now >= NOW.plus(hold_ms));
                    let is_clear = matches!(event, Event::Looked { clerk: Clerk::Gone | Clerk::NoKey, .. });
                    prop_assert!(is_clear);
                }
                if after.state == State::Deleting {
                    let entered = at.state == State::Waiting || at.state == State::Deleting || after.passes > at.passes;
                    prop_assert!(entered, "{:?} {:?}", at, event);
                }
                if after.state == State::Done && at.state != State::Done {
                    let are_confirmed = matches!(event, Event::StepsConfirmed { .. });
                    prop_assert!(are_confirmed);
                }
                if at.state == State::Done && after != at {
                    prop_assert!(at.has_skipped && event == RESUME && after.state == State::Calling);
                    again += 1;
                }
                if at.state == State::Cancelled && after != at {
                    prop_assert!(event == RESUME);
                }
                prop_assert!(after.passes <= MAX_PASSES + again);
                at = after;
            }
            // Whatever happened, what an operator lets go on comes to its end when nothing speaks against it any more.
            if !at.state.is_under_way() && at.state != State::Done {
                at = at.after(RESUME, now, &rules).unwrap();
            }
            for _ in 0..40 {
                now = at.due_at.map_or(now, |due| due.max(now));
                let event = match at.state {
                    State::Waiting => {
                        now = now.max(at.held_until(&rules));
                        Event::Looked { clerk: Clerk::Gone, burst: false, chance: 0 }
                    }
                    State::Deleting => Event::RowsGone,
                    State::Calling | State::Paused(_) => Event::StepsConfirmed { skipped: false },
                    State::Done | State::Cancelled => break,
                };
                at = at.after(event, now, &rules).unwrap();
            }
            prop_assert_eq!(at.state, State::Done);
        }
    }
}

//! One lock around everything: the only place where the instance and the post meet.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::chance::Chance;
use crate::chaos::{self, Chaos, DeliveryChaos};
use crate::clock::Clock;
use crate::instance::{Dice, Instance, Past};
use crate::journal::{Journal, JournalError, Rest};
use crate::keys::{Keys, Written};
use crate::limit::{Meter, RateLimit};
use crate::liveblocks::{RoomChange, Rooms};
use crate::post::sender::Office;
use crate::post::{Origin, Post};

/// How often is looked whether everything is sent.
const UNTIL_SENT_POLL: Duration = Duration::from_millis(5);

/// Everything that changes.
#[derive(Debug)]
pub struct State {
    /// The instance.
    pub instance: Instance,
    /// The deliveries.
    pub post: Post,
    /// What goes wrong on purpose.
    pub(crate) chaos: Chaos,
    /// The instance as it was, while anything answers from the past.
    pub(crate) past: Option<Past>,
    /// How many requests may come.
    pub rate_limit: RateLimit,
    pub(crate) meter: Meter,
    /// Draws the ids of traces.
    pub(crate) traces: Dice,
    /// Who causes the change that is under way.
    pub(crate) origin: Origin,
    /// Where everything is written down, if anywhere.
    pub(crate) journal: Option<Journal>,
}

/// What all parts of a running sandbox share.
pub struct Shared {
    state: Mutex<State>,
    clock: Arc<dyn Clock>,
    keys: Keys,
    /// Told after each change: the sender looks for what is to be sent.
    pub wake: Notify,
}

impl Shared {
    pub(crate) fn new(state: State, clock: Arc<dyn Clock>, keys: Keys) -> Self {
        Self { state: Mutex::new(state), clock, keys, wake: Notify::new() }
    }

    /// The instance's names.
    #[must_use]
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Now.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// What tells the time.
    #[must_use]
    pub fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until everything is sent that is due by now: what is to be tried later is not waited for.
    pub async fn until_sent(&self) {
        while !self.with_post(|post, _| post.is_idle(self.now_ms())) {
            tokio::time::sleep(UNTIL_SENT_POLL).await;
        }
    }

    /// Writes nothing down any more.
    pub(crate) fn close(&self) {
        if let Some(journal) = self.lock().journal.take() {
            journal.release();
        }
    }

    /// Writes down what changed with the rooms, which have a lock of their own: theirs is taken before this one.
    pub(crate) fn write_rooms(&self, changes: Vec<RoomChange>) {
        if let Some(journal) = &mut self.lock().journal {
            journal.write_rooms(changes);
        }
    }

    /// Changes the instance: what it emitted is in the post before anybody else sees the change.
    pub fn change<T>(&self, change: impl FnOnce(&mut Instance, i64) -> T) -> T {
        self.with(|state, now| change(&mut state.instance, now))
    }

    /// Changes anything, as one step.
    pub fn with<T>(&self, change: impl FnOnce(&mut State, i64) -> T) -> T {
        let mut state = self.lock();
        let now = self.clock.now_ms();
        state.remember(now);
        let result = change(&mut state, now);
        state.settle(now);
        state.write_down();
        drop(state);
        self.wake.notify_one();
        result
    }
}

impl State {
    /// Keeps the instance as it is, if answers from the past will need it.
    fn remember(&mut self, now: i64) {
        if let Some(past) = &mut self.past {
            past.keep(&self.instance, now);
        }
    }

    /// Moves what the instance emitted into the post.
    fn settle(&mut self, now: i64) {
        let (faults, chance) = self.chaos.of_deliveries();
        for event in self.instance.take_events() {
            self.post.accept(&event, self.instance.id(), &self.origin, (faults, chance), now);
        }
        self.origin = Origin::default();
        if let Some(past) = self.past.as_mut().filter(|_| self.instance.is_touched()) {
            past.changed(now);
        }
    }

    /// Writes down what changed.
    fn write_down(&mut self) {
        if self.journal.is_none() {
            self.instance.forget_touched();
            self.post.forget_changes();
            return;
        }
        let (rows, post, rest) = (self.instance.take_puts(), self.post.changes(), self.rest());
        if let Some(journal) = &mut self.journal {
            journal.write(rows, post, rest);
        }
    }

    /// What is neither a row nor a message.
    pub(crate) fn rest(&self) -> Rest {
        Rest {
            instance: self.instance.remainder(),
            chaos: self.chaos.clone(),
            rate_limit: self.rate_limit,
            traces: self.traces,
        }
    }

    /// Writes everything down, and from now on what changes.
    pub(crate) fn write_to(&mut self, path: &Path, keys: Written, rooms: &Rooms) -> Result<(), JournalError> {
        self.instance.forget_touched();
        self.post.forget_changes();
        self.journal = Some(Journal::begin(path, keys, (&self.instance, &self.post, rooms), self.rest())?);
        Ok(())
    }

    /// What goes wrong on purpose.
    #[must_use]
    pub fn chaos(&self) -> &Chaos {
        &self.chaos
    }

    /// Sets what goes wrong on purpose. Answers from the past come from this moment on, until that is unset.
    ///
    /// # Errors
    /// If a setting is out of bounds; nothing is changed then.
    pub fn set_chaos(&mut self, settings: chaos::Settings, now: i64) -> Result<(), chaos::Unfit> {
        self.chaos.set(settings)?;
        let stale = &self.chaos.settings().api.stale;
        if !stale.lists && !stale.reads {
            self.past = None;
        } else if self.past.as_ref().is_none_or(|past| past.lag_ms() != stale.lag_ms) {
            self.past = Some(Past::new(&self.instance, stale.lag_ms, now));
        }
        Ok(())
    }
}

impl Office for Shared {
    fn with_post<R>(&self, act: impl FnOnce(&mut Post, (&DeliveryChaos, Chance)) -> R) -> R {
        let mut state = self.lock();
        let State { post, chaos, .. } = &mut *state;
        let result = act(post, chaos.of_deliveries());
        state.write_down();
        result
    }

    fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    fn bell(&self) -> &Notify {
        &self.wake
    }
}

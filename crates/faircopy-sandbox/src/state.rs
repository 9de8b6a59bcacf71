//! One lock around everything: the only place where the instance and the post meet.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::instance::{Dice, Instance};
use crate::keys::Keys;
use crate::limit::{Meter, RateLimit};
use crate::post::Post;

/// Everything that changes.
#[derive(Debug)]
pub struct State {
    /// The instance.
    pub instance: Instance,
    /// The deliveries.
    pub post: Post,
    /// How many requests may come.
    pub rate_limit: RateLimit,
    pub(crate) meter: Meter,
    /// Draws the ids of traces.
    pub(crate) traces: Dice,
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the instance: what it emitted is in the post before anybody else sees the change.
    pub fn change<T>(&self, change: impl FnOnce(&mut Instance, i64) -> T) -> T {
        self.with(|state, now| change(&mut state.instance, now))
    }

    /// Changes anything, as one step.
    pub fn with<T>(&self, change: impl FnOnce(&mut State, i64) -> T) -> T {
        let mut state = self.lock();
        let now = self.clock.now_ms();
        let result = change(&mut state, now);
        state.settle(now);
        drop(state);
        self.wake.notify_one();
        result
    }
}

impl State {
    /// Moves what the instance emitted into the post.
    fn settle(&mut self, _now: i64) {
        for event in self.instance.take_events() {
            self.post.accept(event);
        }
        self.instance.take_puts();
    }
}

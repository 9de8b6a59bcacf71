//! When a worker's next turn is, by the clock that it was given.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::app::Clock;

/// How often the clock is looked at.
const TICK: Duration = Duration::from_secs(1);

/// A worker's turns: one a period, counted from the end of the one before.
pub(super) struct Turns {
    clock: Arc<dyn Clock>,
    period_ms: i64,
    due: faircopy_core::Millis,
    tick: Interval,
}

impl Turns {
    /// Turns of which the first is due so many milliseconds from now.
    pub(super) fn new(clock: Arc<dyn Clock>, first_ms: i64, period_ms: i64) -> Self {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { due: clock.now().plus(first_ms), clock, period_ms, tick }
    }

    /// Waits for the next turn.
    pub(super) async fn next(&mut self) {
        loop {
            self.tick.tick().await;
            let now = self.clock.now();
            // A clock that went back must not stop the worker until it has caught up.
            self.due = self.due.min(now.plus(self.period_ms));
            if now >= self.due {
                return;
            }
        }
    }

    /// The turn is over.
    pub(super) fn done(&mut self) {
        self.due = self.clock.now().plus(self.period_ms);
    }
}

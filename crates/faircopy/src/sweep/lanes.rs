//! How many questions are under way at once: one at first, more while Clerk answers, fewer when it asks for quiet.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The most: each list is read by one question after the other, and there are four.
const MAX_LANES: usize = 4;
/// Good answers after which there is one more.
const GOOD_FOR_MORE: u32 = 10;

/// The lanes of a sweep.
#[derive(Debug)]
pub(super) struct Lanes {
    places: Semaphore,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    open: usize,
    good: u32,
    /// Lanes that are to be closed as soon as whoever has one leaves it.
    closing: usize,
}

impl Lanes {
    pub(super) fn new() -> Self {
        Self { places: Semaphore::new(1), state: Mutex::new(State { open: 1, good: 0, closing: 0 }) }
    }

    /// Waits for a lane.
    pub(super) async fn enter(&self) -> Option<SemaphorePermit<'_>> {
        self.places.acquire().await.ok()
    }

    /// Leaves a lane after a good answer.
    pub(super) fn answered(&self, place: SemaphorePermit<'_>) {
        let mut state = self.state();
        state.good += 1;
        if state.good >= GOOD_FOR_MORE && state.open < MAX_LANES {
            (state.good, state.open) = (0, state.open + 1);
            self.places.add_permits(1);
        }
        self.leave(&mut state, place);
    }

    /// Leaves a lane after Clerk has asked for quiet: half of them stay.
    pub(super) fn refused(&self, place: SemaphorePermit<'_>) {
        let mut state = self.state();
        let kept = (state.open / 2).max(1);
        state.closing += state.open - kept;
        (state.open, state.good) = (kept, 0);
        self.leave(&mut state, place);
    }

    /// Leaves a lane of which nothing follows.
    pub(super) fn failed(&self, place: SemaphorePermit<'_>) {
        let mut state = self.state();
        state.good = 0;
        self.leave(&mut state, place);
    }

    fn leave(&self, state: &mut State, place: SemaphorePermit<'_>) {
        if state.closing > 0 {
            state.closing -= 1;
            place.forget();
        }
        state.closing -= self.places.forget_permits(state.closing);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn good(lanes: &Lanes, times: u32) {
        for _ in 0..times {
            lanes.answered(lanes.enter().await.unwrap());
        }
    }

    #[tokio::test]
    async fn good_answers_open_lanes_and_a_refusal_closes_half() {
        let lanes = Lanes::new();
        assert_eq!(lanes.places.available_permits(), 1);
        good(&lanes, 9).await;
        assert_eq!(lanes.places.available_permits(), 1);
        good(&lanes, 1).await;
        assert_eq!(lanes.places.available_permits(), 2);
        good(&lanes, 100).await;
        assert_eq!(lanes.places.available_permits(), MAX_LANES);
        lanes.refused(lanes.enter().await.unwrap());
        assert_eq!(lanes.places.available_permits(), 2);
        lanes.refused(lanes.enter().await.unwrap());
        lanes.refused(lanes.enter().await.unwrap());
        assert_eq!(lanes.places.available_permits(), 1, "never none");
        good(&lanes, 10).await;
        assert_eq!(lanes.places.available_permits(), 2);
    }

    /// Lanes that are in use when they are to be closed are closed when they are left.
    #[tokio::test]
    async fn a_lane_in_use_is_closed_later() {
        let lanes = Lanes::new();
        good(&lanes, 40).await;
        let mut held = Vec::new();
        for _ in 0..MAX_LANES {
            held.push(lanes.enter().await.unwrap());
        }
        lanes.refused(held.pop().unwrap());
        while let Some(place) = held.pop() {
            lanes.failed(place);
        }
        assert_eq!(lanes.places.available_permits(), 2);
    }
}

//! Liveblocks' rooms on the sandbox's port, below `/v2` as at Liveblocks, and what nobody offers but a sandbox below
//! `/sandbox/v1/liveblocks`: faults, rooms that come back, and the requests that came.
//!
//! `rooms`, `query`, `faults` and `state` are pure; `routes` puts them behind HTTP and one lock.

mod faults;
mod query;
mod rooms;
mod routes;
mod serve;
mod state;

pub use faults::{Faults, Wrong};
pub(crate) use rooms::RoomChange;
pub use rooms::{Refusal, Room, Rooms};
pub use serve::LiveblocksSandbox;
pub use state::{Answer, Asked, Call, State};

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;

use crate::clock::Clock;

/// The secret key of a project that nobody gave one: that of Liveblocks' own local server, which its tools know.
pub const LOCAL_KEY: &str = "sk_localdev";

/// The rooms of one project. Clones are the same project.
#[derive(Clone)]
pub struct Liveblocks {
    shared: Arc<Shared>,
}

struct Shared {
    /// The secret key that is accepted.
    key: String,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// Where changes are written down, if anywhere.
    kept: Option<Arc<crate::state::Shared>>,
}

impl Liveblocks {
    /// A project without rooms, with this secret key (`sk_…`).
    #[must_use]
    pub fn new(key: impl Into<String>, clock: Arc<dyn Clock>) -> Self {
        Self::restored(key, clock, State::default())
    }

    /// A project as it was.
    #[must_use]
    pub fn restored(key: impl Into<String>, clock: Arc<dyn Clock>, state: State) -> Self {
        Self::made(key, clock, state, None)
    }

    /// A project as it was, whose changes go into the sandbox's file.
    pub(crate) fn kept(
        key: impl Into<String>,
        clock: Arc<dyn Clock>,
        rooms: Rooms,
        file: Arc<crate::state::Shared>,
    ) -> Self {
        let mut state = State::default();
        state.rooms = rooms;
        Self::made(key, clock, state, Some(file))
    }

    fn made(
        key: impl Into<String>,
        clock: Arc<dyn Clock>,
        state: State,
        kept: Option<Arc<crate::state::Shared>>,
    ) -> Self {
        Self { shared: Arc::new(Shared { key: key.into(), clock, state: Mutex::new(state), kept }) }
    }

    /// The secret key that is accepted: `LIVEBLOCKS_SECRET_KEY` of who uses it.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.shared.key
    }

    /// Looks at, or changes, everything at once. No request is answered meanwhile; what changed is written down first.
    pub fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut state);
        let changes = state.rooms.take_changes();
        // Still under the lock: the file has the changes in their order.
        if let Some(kept) = self.shared.kept.as_ref().filter(|_| !changes.is_empty()) {
            kept.write_rooms(changes);
        }
        result
    }

    /// A client that still has this room open connects: the room is there, or there again.
    ///
    /// # Errors
    /// When no room may have this id.
    pub fn reconnect(&self, id: &str) -> Result<Room, Refusal> {
        let now_ms = self.shared.clock.now_ms();
        self.with(|state| state.rooms.reconnect(id, now_ms).cloned())
    }

    /// Everything that goes wrong from now on.
    ///
    /// # Errors
    /// The sentence that says which setting makes no sense; nothing is changed then.
    pub fn set_faults(&self, faults: Faults) -> Result<(), &'static str> {
        faults.check()?;
        self.with(|state| state.faults = faults);
        Ok(())
    }

    /// The ids of the rooms that exist.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.with(|state| state.rooms.all().map(|room| room.id.clone()).collect())
    }

    /// How many requests of this kind came (`list`, `create`, `get`, `delete`, `unknown`).
    #[must_use]
    pub fn count(&self, call: &str) -> u64 {
        self.with(|state| state.counts.get(call).copied().unwrap_or(0))
    }

    fn answer(&self, authorization: Option<&str>, call: &Call) -> Answer {
        let now_ms = self.shared.clock.now_ms();
        self.with(|state| state.answer(&self.shared.key, authorization, call, now_ms))
    }

    /// Liveblocks' own routes, below `/v2`.
    pub fn router(&self) -> Router {
        routes::api(self.clone())
    }

    /// The sandbox's own, below `/liveblocks`: for whoever nests them below `/sandbox/v1` behind a door.
    pub fn control(&self) -> Router {
        routes::control(self.clone())
    }
}

//! A pure model of a Clerk instance: it changes at random, emits the events that Clerk would send, and knows the truth.
//!
//! It does no input or output and has no clock: the seed and the start time are arguments, and the same arguments give
//! the same events. It is written from the specification alone and shares no code with Faircopy's merge, so that it can
//! be the oracle against which the merge is judged.
//!
//! ```
//! use faircopy_world::{Settings, World, shuffled};
//!
//! let mut world = World::new(7, Settings::default());
//! for _ in 0..20 {
//!     world.advance();
//! }
//! let deliveries = shuffled(&world.take_events(), 1, 25);
//! let truth = world.truth(); // what the tables must hold once all of `deliveries` were merged
//! assert!(!deliveries.is_empty() && !truth.users.is_empty());
//! ```

#![recursion_limit = "256"] // `json!` recurses once for each token of a user

mod change;
mod company;
mod dice;
mod event;
mod names;
mod shuffle;
#[cfg(test)]
mod tests;
pub mod token;
mod truth;
mod world;

pub use company::{COMPANY_SPAN_MS, company, hard_histories, hard_history};
pub use event::Event;
pub use shuffle::shuffled;
pub use truth::{InvitationRow, MemberRow, OrganizationRow, Truth, UserRow, WorkspaceRow, Workspaces};
pub use world::{Settings, World};

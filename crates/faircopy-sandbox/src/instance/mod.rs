//! The instance itself: what exists in it, and the events that its changes emit.
//!
//! It does no input or output: time is an argument, and chance a seed. A change either happens with all its events or is
//! refused and leaves no trace.

mod dice;
mod document;
mod fields;
mod invitations;
mod lists;
mod living;
mod memberships;
mod metadata;
mod names;
mod options;
mod organizations;
mod past;
mod populate;
mod query;
mod refusal;
mod roles;
mod sessions;
mod store;
mod table;
mod tokens;
mod users;

use serde_json::Value;

pub use dice::Dice;
pub use document::Document;
pub use lists::Listed;
pub use options::{Options, TokenTemplate, TokenVersion};
pub use past::Past;
pub use populate::Population;
pub use query::{MAX_LIMIT, MAX_VALUES, Query};
pub use refusal::Refusal;
pub use store::{Instance, Kind, Put, Remainder};
pub(crate) use store::{identifier, text_of};
pub(crate) use table::Id;
pub use tokens::Claims;

/// What a change emitted: one event, as Clerk would send it but for the envelope.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Such as `user.created`.
    pub kind: &'static str,
    /// The event's `data`.
    pub data: Value,
    /// When it happened, in milliseconds: the envelope's `timestamp`.
    pub at_ms: i64,
}

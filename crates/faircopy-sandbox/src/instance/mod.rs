//! The instance itself: what exists in it, and the events that its changes emit.

use serde_json::Value;

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

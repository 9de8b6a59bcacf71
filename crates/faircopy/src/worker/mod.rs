//! What runs in the background: each worker owns its connection, and no request waits in one but for its own outcome.

pub mod activity;
pub mod alerts;
pub mod announce;
pub mod cascade;
pub mod confirm;
pub mod destinations;
pub mod intake;
pub mod janitor;
pub mod probe;
pub mod reconcile;
mod settle;
mod turns;
pub mod watch;

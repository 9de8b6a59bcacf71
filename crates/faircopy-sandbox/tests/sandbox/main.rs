//! The sandbox as its users meet it: over HTTP, from client libraries, with its file, its webhooks and its faults. One program,
//! because each would be linked with everything.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod clients;
mod control;
mod deliveries;
mod instance;
mod journal;
mod lists;
mod liveblocks;
mod openapi;
mod sender;
mod support;

//! Services outside: Liveblocks and the application's own steps, as clients and as targets of a courier.
//!
//! | module | holds |
//! | --- | --- |
//! | [`fake`] | a server that answers what no service would |
//! | [`desk`] | steps kept in memory, and a clock that is moved: what the worker does with a database |
//! | [`liveblocks`] | the client, against the sandbox's rooms and against strange answers |
//! | [`step`] | signed steps, verified by Svix's own library |
//! | [`courier`] | faults.md L1 to L4, an outage, chaos |
//! | [`slow`] | faults.md L6, and L3 with an answer that never comes: real deadlines |
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "a test measures how long real deadlines take")]

mod courier;
mod desk;
mod fake;
mod liveblocks;
mod slow;
mod step;

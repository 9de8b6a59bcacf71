//! A stand-in for a Clerk instance on one port: the Backend API, the keys and tokens of sessions, signed deliveries with
//! Svix's schedule, and whatever may go wrong with them, on request (docs/decisions/0014-the-sandbox.md).

pub mod chance;
pub mod chaos;
pub mod clock;
pub mod instance;
pub mod liveblocks;
pub mod page;
pub mod post;

//! What the tests and the benchmark share: private PostgreSQL clusters, the real binary, a signing sender.
//!
//! | module | gives |
//! | --- | --- |
//! | [`postgres`] | a private cluster that can be killed, paused and restarted, and never outlives the test process |
//! | [`proxy`] | a TCP proxy that delays what it forwards and cuts connections at any byte |
//! | [`pgbouncer`] | PgBouncer in transaction mode before a cluster |
//! | [`server`] | the real `faircopy` binary on a port of its own |
//! | [`sender`] | deliveries signed by the reference library, sent once or in a closed loop with an ack journal |
//! | [`tables`] | the public tables of either database as plain comparable rows |
//! | [`node`] | programs of npm packages, installed from a committed lock file |
//! | [`seed`] | the seed of a random test, told when the test fails |
//! | [`clerk`] | a small Clerk Backend API that can be made to fail, lag and lie |
//! | [`receiver`] | somebody who is told something by POST, takes it or does not, and remembers it |
//! | [`nats`] | a private NATS server with JetStream that can be killed and restarted |
//! | [`convex`] | the small deployment over the project's Convex module, the same |
//! | [`client`] | the small HTTP client beneath `server` and `sender`: one connection, one request at a time |
//! | [`port`] | ports that no two tests of this machine hold at once |
//!
//! The crate is for tests only: what cannot be set up panics, and says what to install or to look at.
#![allow(
    clippy::disallowed_methods,
    reason = "the test kit waits for real processes and reads the test run's settings"
)]

pub mod clerk;
pub mod client;
pub mod convex;
mod difference;
mod killable;
pub mod nats;
pub mod node;
pub mod pgbouncer;
pub mod port;
pub mod postgres;
pub mod proxy;
pub mod receiver;
pub mod seed;
pub mod sender;
pub mod server;
pub mod tables;
mod watchdog;

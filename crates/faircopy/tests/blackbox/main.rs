//! The real binary, killed, starved, disconnected and flooded: what it acknowledged is kept, and the copy stays exact.
//!
//! | module | breaks |
//! | --- | --- |
//! | [`shuffle`] | the order of deliveries, over one process or three, killed meanwhile or not |
//! | [`steps`] | the process at every named step of a delivery and of a migration |
//! | [`postgres`] | the database server: killed, paused, read-only, out of connections, unsafe |
//! | [`sqlite`] | the disk: full, shared with other processes; and proves that it is synced |
//! | [`input`] | what is sent: a storm of duplicates, poison, another instance's events |
//! | [`process`] | the process's surroundings: SIGTERM, file descriptors, memory, senders that hang up |
//! | [`commands`] | the command line, by hand |
//!
//! The binary must be built with the feature `failpoints` (`./test blackbox` does it). Random tests take their seed from
//! `FAIRCOPY_TEST_SEED` and tell it when they fail.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests wait for real processes, and histories must lie in the real past"
)]

mod commands;
mod input;
mod postgres;
mod process;
mod shuffle;
mod sqlite;
mod steps;
mod support;

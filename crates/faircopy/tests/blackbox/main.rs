//! The real binary, killed, starved, disconnected and flooded: what it acknowledged is kept, and the copy stays exact.
//!
//! | module | breaks |
//! | --- | --- |
//! | [`shuffle`] | the order of deliveries, over one process or three, killed meanwhile or not |
//! | [`steps`] | the process at every named step of a delivery and of a migration |
//! | [`postgres`] | the database server: killed, paused, read-only, out of connections, unsafe |
//! | [`network`] | the way to the database server: cut at any byte, slow |
//! | [`contention`] | others at the database server: conflicts, held snapshots and rows |
//! | [`pooler`] | the way to the database server again: PgBouncer |
//! | [`sqlite`] | SQLite's file: at its limit, shared with other processes; and proves that it is synced |
//! | [`disk`] | SQLite's disk: failing calls, a damaged log, long readers, copies under load |
//! | [`mounted`] | file systems of its own: full, read-only (needs root) |
//! | [`overload`] | three times what fits, a flood that nobody signed |
//! | [`input`] | what is sent: a storm of duplicates, poison, another instance's events |
//! | [`process`] | the process's surroundings: SIGTERM, file descriptors, memory, senders that hang up |
//! | [`embedded`] | nothing: an application with Faircopy inside |
//! | [`explain`] | nothing: why the copy holds what it holds, and held it |
//! | [`commands`] | the command line, by hand |
//! | [`deploy`] | nothing: what docs/deploy.md tells an operator to do |
//! | [`doctor`] | settings, keys and the endpoint, for `faircopy doctor` to find |
//! | [`telling`] | nothing: what is told meanwhile, as lines and as traces |
//! | [`cascade`] | what goes with an organization, here and at Liveblocks, whoever is killed |
//! | [`destinations`] | the service and the places that the copy goes on to: webhooks, Convex, NATS |
//! | [`erasure`] | nothing: a user is deleted, and the raw files are searched for them |
//! | [`clerk_side`] | backfill and reconcile: killed, interrupted, refused, held back; the sandbox as a command |
//!
//! The binary must be built with the feature `failpoints` (`./test blackbox` does it). Random tests take their seed from
//! `FAIRCOPY_TEST_SEED` and tell it when they fail; those whose fault needs time last `FAIRCOPY_TEST_SCALE` times as long.
//!
//! Left out of faults.md: S3 (power loss) needs LazyFS or a virtual machine; P8 (rolling upgrade) needs an older version,
//! and there is none yet; the promotion of a standby (half of D6) needs replication, which these clusters have not.
#![allow(
    clippy::disallowed_methods,
    reason = "the tests wait for real processes, and histories must lie in the real past"
)]

mod cascade;
mod clerk_side;
mod commands;
mod contention;
mod deploy;
mod destinations;
mod disk;
mod doctor;
mod embedded;
mod erasure;
mod explain;
mod input;
mod mounted;
mod network;
mod overload;
mod pooler;
mod postgres;
mod process;
mod shuffle;
mod sqlite;
mod steps;
mod support;
mod telling;

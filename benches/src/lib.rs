//! What the benchmark program and the micro-benchmarks of the core share.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock and draws keys")]

pub mod delivery;
pub mod operation;
pub mod token;

/// The key that every contestant's deliveries are signed with.
pub const SIGNING_KEY: &[u8; 24] = b"faircopy benchmark key 1";

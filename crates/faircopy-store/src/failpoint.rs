//! Named steps at which the black-box tests stop the process, to prove that what was acknowledged is kept.
//!
//! Compiled to nothing without the feature `failpoints`; with it, `FAILPOINTS=<name>=return` (see the `fail` crate)
//! ends the process at the step as `kill -9` would: no destructor runs, nothing is flushed.

/// Every named step, in the order in which a delivery passes them.
pub const STEPS: [&str; 14] = [
    "recv",
    "verified",
    "queued",
    "pre-insert",
    "mid-merge",
    "post-insert-pre-commit",
    "post-commit-pre-ack",
    "migration-step",
    "expiry",
    "cascade-chunk",
    "cascade-end",
    "pre-http",
    "post-http-pre-mark",
    "destination-sent",
];

/// A delivery (or a migration) has come to this step.
#[cfg(feature = "failpoints")]
pub fn step(name: &str) {
    fail::fail_point!(name, |_| std::process::abort());
}

/// A delivery (or a migration) has come to this step.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub fn step(_name: &str) {}

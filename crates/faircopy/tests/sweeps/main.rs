//! Sweeps against the sandbox: whatever was lost, the copy equals Clerk after one reconcile, and nothing that lives is removed.
//!
//! | module | asks |
//! | --- | --- |
//! | `random` | random worlds with lost, doubled and shuffled deliveries, and writes going on (I8, I9) |
//! | `guards` | a wrong key, empty lists, half a page, too much at once: nothing is deleted, and it says why |
//! | `schedule` | when `serve` reconciles by itself |
//! | `deletions` | what goes with an organization or a user: what holds it, what stops it, what comes back |
//! | `resume` | a sweep that is stopped anywhere goes on; a lease that is lost commits nothing (I13) |
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod deletions;
mod guards;
mod place;
mod random;
mod resume;
mod schedule;

//! A sweep reads lists of Clerk's from end to end (merge.md, reconcile). What is decided on the way is decided here: which
//! part of a list is read next, whether the whole of it was seen, and whether what was not seen may be taken for gone.
//!
//! A row that is missing from a listing is never a deletion by itself. [`Walk`] makes it unlikely that a row is missed,
//! [`Evidence`] says when nothing may be concluded, and whoever sweeps asks for each row directly before it goes.

mod guard;
mod walk;

pub use guard::{Evidence, Hold, MAX_ABSENT, MAX_ABSENT_PERCENT, MAX_SHRINK_PERCENT};
pub use walk::{From, MAX_PAGES, OVERLAP, PAGE, Step, Taken, Walk};

//! What goes with an organization or a user, in which order, and what one such deletion is waiting for.
//!
//! [`Tree`] is made from what the application declares and says which rows hang on which; [`Pattern`] gives the id of what a row
//! has outside the database; [`Job`] is one deletion from its trigger to its receipt, and [`Burst`] stops it when too many come
//! at once. The store and the worker do what is decided here, and the model checker walks through the same functions.

pub mod burst;
pub mod job;
pub mod pattern;
pub mod tree;

pub use burst::Burst;
pub use job::{Clerk, Event, Job, Reason, Refusal, State};
pub use pattern::{Pattern, PatternFault, Unrendered};
pub use tree::{Declared, External, Fault, FaultKind, Hang, Name, Node, Parent, Root, Target, Tree};

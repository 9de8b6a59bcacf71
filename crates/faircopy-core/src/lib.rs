//! The pure heart of Faircopy: is this delivery authentic, what does it say, and what must the copy hold now? Is this
//! session good?
//!
//! Nothing here performs I/O, reads a clock or draws a random number: time is an argument, and the only failures are
//! those of the input. So there is no `async`, and every rule can be tested over hundreds of thousands of histories.
//!
//! The way of one delivery: [`signature`] says whether the bytes are authentic, [`payload`] takes out what must never be
//! stored, [`event`] reads what is left into [`Observation`]s, and [`merge`] decides which rows follow. [`token`] says
//! whether a session is good, and reads it into observations of the same kind.
//! [`retry`] says when what failed is tried again, and [`courier`] when a service outside may be called at all.
//! [`sweep`] decides how lists of Clerk's are read from end to end, and what may be concluded from what they lack.
//! [`explain`] says of everything that was learned of a subject what the merge made of it.
//! [`watch`] says what numbers mean, and [`alert`] what is said about it, and when.
//! [`destination`] says what is told to the places that the copy goes on to, and when again.
//! [`cascade`] says what goes with an organization or a user, in which order, and what one such deletion waits for.

pub mod alert;
pub mod cascade;
pub mod courier;
pub mod destination;
pub mod event;
pub mod example;
pub mod explain;
pub mod heartbeat;
pub mod id;
pub mod merge;
pub mod payload;
pub mod record;
pub mod retry;
pub mod signature;
pub mod sweep;
pub mod time;
pub mod token;
pub mod watch;

pub use event::Observation;
pub use id::{InvitationId, MembershipId, OrganizationId, UserId};
pub use time::Millis;

/// How much of a person is kept (contract.md, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProfileMode {
    /// Every profile column.
    #[default]
    Full,
    /// Ids, workspace and times only; nothing personal is written anywhere, stored deliveries included.
    Minimal,
}

/// Which workspaces organizations have (docs/workspaces.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WorkspaceMode {
    /// Each its own, with the organization's id as its own.
    #[default]
    PerOrganization,
    /// The one that its public metadata names, which other organizations may name too.
    Linked,
    /// None is kept.
    Off,
}

/// Every mode.
pub const WORKSPACE_MODES: [WorkspaceMode; 3] =
    [WorkspaceMode::PerOrganization, WorkspaceMode::Linked, WorkspaceMode::Off];

impl WorkspaceMode {
    /// As the setting names it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PerOrganization => "per_organization",
            Self::Linked => "linked",
            Self::Off => "off",
        }
    }

    /// `organizations.workspace_id` of an organization whose public metadata names this workspace.
    #[must_use]
    pub fn workspace_of(self, organization: &OrganizationId, linked: Option<String>) -> Option<String> {
        match self {
            Self::PerOrganization => Some(linked.unwrap_or_else(|| organization.to_string())),
            Self::Linked | Self::Off => linked,
        }
    }
}

//! SQL storage for Faircopy: the only crate that names the database library.
//!
//! [`Store`] reads, [`Writer`] writes. There is one writer per process, owned by one worker: no request handler owns a
//! transaction, because a client that hangs up drops its handler, and a dropped transaction would leave a shared
//! connection inside an open one. The rows follow from `faircopy_core::merge`; this crate loads what the merge needs to
//! know and writes what it decides, together with the change feed and the delivery records, in one transaction.

mod activity;
mod alerts;
mod caller;
mod cascades;
mod changes;
mod clearing;
mod comparison;
mod content;
mod deliveries;
mod desk;
mod destinations;
mod directory;
mod engine;
mod erasures;
mod error;
pub mod failpoint;
mod findings;
mod history;
mod inspect;
mod intake;
mod leases;
mod migrate;
mod outbox;
mod overview;
mod provisional;
mod public;
mod reading;
mod readings;
mod records;
mod registers;
mod retention;
pub mod rls;
mod secrets;
mod server;
mod signed_in;
mod standing;
mod sweeps;
mod validate;
mod watch;
mod workspaces;

pub use activity::{Activity, Arrivals, Grain};
pub use alerts::{ALERTS_KEPT, Alert, AlertTarget};
pub use caller::{Caller, READER_ROLE};
pub use cascades::{Cascade, CascadesStanding, RECEIPTS_KEPT_MS, Removed, Subject};
pub use changes::{Echo, Entry};
pub use clearing::{Batch, Ended, LEAVES_AT_ONCE, Mandate, PARENTS_AT_ONCE, Which};
pub use comparison::Difference;
pub use content::{ContentCount, ContentFault, ExternalCount};
pub use deliveries::{Arrived, Delivery, DeliveryFilter, DeliverySummary};
pub use destinations::{Declared, Destination, DestinationOrder, DestinationStanding, Trouble};
pub use directory::{Found, Place};
pub use engine::Address;
pub use erasures::{DueErasure, Erasure};
pub use error::{Error, Result};
pub use findings::{COUNTS_DIFFER, Finding, UNDELIVERED};
pub use history::About;
pub use inspect::{ServerState, Told};
pub use intake::{Arrival, Content, Input, Item, Outcome, Receipt, Writer};
pub use leases::Fence;
pub use migrate::Migration;
pub use outbox::{Step, StepCount, StepState, Tried};
pub use overview::{COUNTED, COUNTED_AT_ONCE, Pulse, RowCount, Waiting};
pub use provisional::{Of, Pair, Provisional};
pub use public::{Row, row};
pub use reading::{Channel, Membership, OrganizationRecord, Person, Room, UserRecord, WorkspaceRecord};
pub use readings::{READINGS_KEPT_MS, Reading};
pub use records::{Counts, OutcomeCount};
pub use server::Server;
pub use standing::{Basis, Freshness, Member, Standing};
pub use sweeps::{Absence, Part, Progress, Sweep, Swept, Unseen};
pub use validate::Validated;
pub use watch::{Gauge, Stretch, Tally};
pub use workspaces::Settled;

use engine::Readers;
use faircopy_core::WorkspaceMode;

/// An open database, for reading. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    address: Address,
    workspaces: WorkspaceMode,
    readers: Readers,
    second_wall: caller::SecondWall,
    cursor_key: secrets::Kept,
    questions: standing::Questions,
}

impl Store {
    /// Opens a database without touching it: connections are made when they are needed.
    #[must_use]
    pub fn new(address: Address) -> Self {
        let readers = Readers::open(&address);
        Self {
            address,
            workspaces: WorkspaceMode::default(),
            readers,
            second_wall: caller::SecondWall::default(),
            cursor_key: secrets::Kept::default(),
            questions: standing::Questions::default(),
        }
    }

    /// The same with another mode of workspaces than each organization's own. All that write one database must have the same;
    /// [`Writer::settle_workspaces`] brings one that was filled in another up to this.
    #[must_use]
    pub fn with_workspaces(mut self, mode: WorkspaceMode) -> Self {
        self.workspaces = mode;
        self
    }

    /// The mode of workspaces.
    #[must_use]
    pub fn workspaces(&self) -> WorkspaceMode {
        self.workspaces
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// A writer with a connection of its own.
    #[must_use]
    pub fn writer(&self) -> Writer {
        Writer::new(self.address.clone(), self.workspaces)
    }

    /// Closes the connections for reading.
    pub async fn close(&self) {
        self.readers.close().await;
    }
}

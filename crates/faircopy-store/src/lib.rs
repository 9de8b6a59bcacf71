//! SQL storage for Faircopy: the only crate that names the database library.
//!
//! [`Store`] reads, [`Writer`] writes. There is one writer per process, owned by one worker: no request handler owns a
//! transaction, because a client that hangs up drops its handler, and a dropped transaction would leave a shared
//! connection inside an open one. The rows follow from `faircopy_core::merge`; this crate loads what the merge needs to
//! know and writes what it decides, together with the change feed and the delivery records, in one transaction.

mod caller;
mod changes;
mod comparison;
mod content;
mod deliveries;
mod desk;
mod engine;
mod error;
pub mod failpoint;
mod findings;
mod intake;
mod leases;
mod migrate;
mod provisional;
mod public;
mod reading;
mod records;
mod registers;
pub mod rls;
mod secrets;
mod server;
mod standing;
mod sweeps;
mod validate;

pub use caller::{Caller, READER_ROLE};
pub use changes::Entry;
pub use comparison::Difference;
pub use content::{ContentCount, ContentFault, ExternalCount};
pub use deliveries::{Arrived, Delivery, DeliveryFilter, DeliverySummary};
pub use engine::Address;
pub use error::{Error, Result};
pub use findings::{COUNTS_DIFFER, Finding, UNDELIVERED};
pub use intake::{Arrival, Content, Input, Item, Outcome, Receipt, Writer};
pub use leases::Fence;
pub use migrate::Migration;
pub use provisional::{Of, Pair, Provisional};
pub use public::Row;
pub use reading::{Membership, OrganizationRecord, Person, UserRecord};
pub use records::{Counts, OutcomeCount};
pub use server::Server;
pub use standing::{Basis, Freshness, Member, Standing};
pub use sweeps::{Absence, Part, Progress, Sweep, Swept, Unseen};
pub use validate::Validated;

use engine::Readers;

/// An open database, for reading. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    address: Address,
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
            readers,
            second_wall: caller::SecondWall::default(),
            cursor_key: secrets::Kept::default(),
            questions: standing::Questions::default(),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// A writer with a connection of its own.
    #[must_use]
    pub fn writer(&self) -> Writer {
        Writer::new(self.address.clone())
    }

    /// Closes the connections for reading.
    pub async fn close(&self) {
        self.readers.close().await;
    }
}

//! A batch in one transaction: records, registers, rows and change feed, or nothing.
//!
//! A batch is made of [`Input`]s: deliveries, which leave a record each, and what was learned without one (a session
//! token). Both are merged alike; only the record differs.

mod record;
mod writer;

use faircopy_core::event::{Event, Observation, Reading};
use faircopy_core::{Millis, event, payload};
use sha2::{Digest, Sha256};

use crate::leases::Fence;

pub use writer::Writer;

/// One delivery, verified and read, as the intake takes it.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// The message id.
    pub svix_id: String,
    /// When this attempt was signed.
    pub signed_at: Millis,
    /// When it arrived.
    pub received_at: Millis,
    /// A hash of the body as it was signed: the same id with another one is a conflict.
    pub body_hash: i64,
    /// What it says.
    pub content: Content,
}

/// What one member of a batch says. Implemented for a delivery alone, so that whoever has only deliveries needs no other
/// type, and for either kind.
pub trait Input {
    /// What is merged, in this order.
    fn observations(&self) -> &[Observation];
    /// The delivery that said it, whose record is kept.
    fn delivery(&self) -> Option<&Arrival>;
    /// The lease in whose name it is merged: without it, it is not.
    fn fence(&self) -> Option<&Fence> {
        None
    }
}

/// Either kind of input, as one queue holds them.
#[derive(Debug, Clone)]
pub enum Item {
    /// A delivery.
    Delivery(Arrival),
    /// What was learned without a delivery: there is no record of it but the rows.
    Learned(Vec<Observation>),
    /// What a worker learned that has a lease.
    Swept(Vec<Observation>, Fence),
}

impl Input for Arrival {
    fn observations(&self) -> &[Observation] {
        match &self.content.event.reading {
            Reading::Observed(observations) => observations,
            Reading::Ignored | Reading::Quarantined(_) => &[],
        }
    }

    fn delivery(&self) -> Option<&Arrival> {
        Some(self)
    }
}

impl Input for Item {
    fn observations(&self) -> &[Observation] {
        match self {
            Self::Delivery(arrival) => arrival.observations(),
            Self::Learned(observations) | Self::Swept(observations, _) => observations,
        }
    }

    fn delivery(&self) -> Option<&Arrival> {
        match self {
            Self::Delivery(arrival) => Some(arrival),
            Self::Learned(_) | Self::Swept(..) => None,
        }
    }

    fn fence(&self) -> Option<&Fence> {
        match self {
            Self::Swept(_, fence) => Some(fence),
            Self::Delivery(_) | Self::Learned(_) => None,
        }
    }
}

/// What a delivery says, and what of it is stored.
#[derive(Debug, Clone)]
pub struct Content {
    /// What is stored of the body; `None` where nothing may be.
    pub payload: Option<String>,
    /// What it means.
    pub event: Event,
}

impl Content {
    /// Takes from a body what may be stored, and reads that: live and on replay alike.
    #[must_use]
    pub fn read(body: &[u8], context: &event::Context<'_>) -> Self {
        match payload::keep(body, context.mode) {
            payload::Kept::Json(message) => {
                let event = event::read(&message, context);
                Self { payload: Some(message.into_text()), event }
            }
            payload::Kept::Unreadable { text, fault } => Self { payload: text, event: Event::unreadable(fault) },
        }
    }
}

impl Arrival {
    /// The hash of a body for [`Arrival::body_hash`].
    #[must_use]
    pub fn hash(body: &[u8]) -> i64 {
        let digest = Sha256::digest(body);
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        i64::from_le_bytes(first)
    }
}

/// What became of a delivery (contract.md, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It brought new information.
    Applied,
    /// It brought nothing that was not known.
    Stale,
    /// Its id was seen before. It was merged again.
    Duplicate,
    /// Its type is not mirrored, or it is another instance's.
    Ignored,
    /// It could not be understood. It is kept, and can be replayed after a mend.
    Quarantined,
}

impl Outcome {
    /// As answers, tables and metrics hold it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Stale => "stale",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::Quarantined => "quarantined",
        }
    }
}

/// What whoever handed it over is told once the commit is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// What became of the delivery.
    pub outcome: Outcome,
    /// It brought new information, whether or not its id was seen before.
    pub news: bool,
    /// The same id has come with another body.
    pub conflict: bool,
    /// Two snapshots with the same `updated_at` and other content were seen.
    pub contested: bool,
    /// Of what was learned without a delivery: whether each observation was news, in their order.
    pub parts: Vec<bool>,
    /// The lease in whose name it came is somebody else's: it was not merged.
    pub is_fenced_off: bool,
    /// The last number of the change feed once this was committed.
    pub sequence: i64,
}

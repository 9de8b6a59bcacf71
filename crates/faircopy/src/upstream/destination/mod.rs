//! A place that the copy goes on to, as somebody who is told: what is sent, and what an answer means.
//!
//! Each kind takes messages in their order and says of each whether it was taken. Answers hold nothing of what the place said but its
//! status: it may repeat what it was told.

mod convex;
#[cfg(feature = "nats")]
mod nats;
mod webhook;

use std::sync::Arc;

use faircopy_core::Millis;
use faircopy_core::courier::{Gate, Refusal, Reply};
use faircopy_core::destination::{Answer, Message, RowForm};

use super::exchange::{Fault, NO_CONNECTION};
use crate::app::Clock;
use crate::config::{DestinationKind, DestinationSettings};
use crate::telemetry::Metrics;

/// A message that has not begun so long after its batch waits for the next one: what is done by then is written down.
const BEGIN_WITHIN_MS: i64 = 5_000;

/// Any number, all equally likely.
pub type Chance = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A message on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    /// The message's id: the same on each attempt.
    pub id: String,
    /// Its text.
    pub body: String,
    /// Of which table, `all` for a sweep.
    pub entity: &'static str,
    /// `put`, `remove` or `sweep`.
    pub operation: &'static str,
}

/// What came of some messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// One for each, in their order.
    pub answers: Vec<Answer>,
    /// Why the place takes nothing, where that is so.
    pub trouble: Option<String>,
}

/// Why a place could not take anything now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It was not reached, or does not take the key.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// It is there, and what takes the messages is not.
    #[error("{0}")]
    Incomplete(String),
}

/// What is told, and when it may be.
pub struct Lane {
    target: Target,
    gate: Gate,
}

enum Target {
    Webhook(webhook::Webhook),
    Convex(convex::Convex),
    #[cfg(feature = "nats")]
    Nats(Box<nats::Nats>),
}

/// What a call is made with.
struct Calling<'a> {
    gate: &'a mut Gate,
    clock: &'a dyn Clock,
    chance: &'a Chance,
    began: Millis,
}

impl Lane {
    /// A lane to a destination, open at first; `None` where there is no TLS. Nothing is sent yet.
    #[must_use]
    pub fn new(settings: &DestinationSettings, metrics: &Metrics) -> Option<Self> {
        let target = match &settings.kind {
            DestinationKind::Webhook { secrets } => {
                Target::Webhook(webhook::Webhook::new(settings, secrets.clone(), metrics.clone())?)
            }
            DestinationKind::Convex { deploy_key } => {
                Target::Convex(convex::Convex::new(settings, deploy_key, metrics.clone())?)
            }
            #[cfg(feature = "nats")]
            DestinationKind::Nats { .. } => Target::Nats(Box::new(nats::Nats::new(settings.clone(), metrics.clone()))),
            #[cfg(not(feature = "nats"))]
            DestinationKind::Nats { .. } => return None,
        };
        Some(Self { target, gate: Gate::default() })
    }

    /// The message in the form in which this place takes it.
    #[must_use]
    pub fn parcel(&self, destination: &str, run: i64, message: &Message) -> Parcel {
        let form = match self.target {
            Target::Convex(_) => RowForm::Text,
            _ => RowForm::Object,
        };
        Parcel {
            id: message.id(destination, run),
            body: message.body(form),
            entity: message.entity(),
            operation: message.operation(),
        }
    }

    /// Until when nothing may be sent.
    pub fn closed_until(&mut self, now: Millis) -> Option<Millis> {
        self.gate.closed_until(now)
    }

    /// Opens it again: an operator says that it is mended.
    pub fn open(&mut self) {
        self.gate = Gate::default();
    }

    /// That the place does not take the key, if so.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        self.gate.refusal()
    }

    /// Sends these as far as it may now.
    pub async fn carry(&mut self, parcels: &[Parcel], clock: &dyn Clock, chance: &Chance) -> Carried {
        let calling = Calling { gate: &mut self.gate, clock, chance, began: clock.now() };
        match &mut self.target {
            Target::Webhook(webhook) => webhook.carry(parcels, calling).await,
            Target::Convex(convex) => convex.carry(parcels, calling).await,
            #[cfg(feature = "nats")]
            Target::Nats(nats) => nats.carry(parcels, calling).await,
        }
    }

    /// Whether the place is there and takes the key, without telling it anything: what was seen, or why not.
    pub async fn check(&mut self) -> Result<String, Unfit> {
        match &mut self.target {
            Target::Webhook(webhook) => webhook.check().await,
            Target::Convex(convex) => convex.check().await,
            #[cfg(feature = "nats")]
            Target::Nats(nats) => nats.check().await,
        }
    }
}

impl Calling<'_> {
    /// Whether the batch has lasted so long that nothing more of it is begun.
    fn is_late(&self) -> bool {
        self.clock.now().0 - self.began.0 >= BEGIN_WITHIN_MS
    }
}

/// What a fault says: of the place, and of the message.
fn judge(fault: Fault) -> (Reply, Answer) {
    let failed = || Answer::Failed { is_for_good: false, retry_after_ms: None, error: fault.to_string() };
    match fault {
        Fault::Limited { retry_after_ms } => (Reply::Limited { retry_after_ms }, Answer::Unsaid),
        Fault::Refused(_) => (Reply::Refused, Answer::Unsaid),
        // Whoever breaks off or does not answer may have stumbled over this message.
        Fault::Unreachable(NO_CONNECTION) => (Reply::Failed, Answer::Unsaid),
        Fault::Unreachable(_) => (Reply::Failed, failed()),
        // What a path answers that is written wrongly or has moved, and a proxy whose application is not there: it answers every message so.
        Fault::Status(300..=399 | 404 | 405 | 408 | 410 | 502..=504) => (Reply::Failed, Answer::Unsaid),
        Fault::Status(_) => (Reply::Failed, failed()),
        Fault::Forbidden | Fault::Malformed | Fault::TooLarge | Fault::Unnameable => (Reply::Failed, Answer::Unsaid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_about_the_place_or_about_the_message() {
        let check = |fault: Fault, reply: Reply, is_unsaid: bool| {
            let (said, answer) = judge(fault);
            assert_eq!((said, answer == Answer::Unsaid), (reply, is_unsaid), "{fault}");
        };
        let limited = Some(7_000);
        check(Fault::Limited { retry_after_ms: limited }, Reply::Limited { retry_after_ms: limited }, true);
        check(Fault::Refused(401), Reply::Refused, true);
        check(Fault::Unreachable(NO_CONNECTION), Reply::Failed, true);
        check(Fault::Unreachable("the answer broke off"), Reply::Failed, false);
        check(Fault::Forbidden, Reply::Failed, true);
        for status in [301, 404, 405, 408, 410, 502, 503, 504] {
            check(Fault::Status(status), Reply::Failed, true);
        }
        for status in [400, 409, 413, 422, 500, 501] {
            check(Fault::Status(status), Reply::Failed, false);
        }
    }
}

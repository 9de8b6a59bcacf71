//! Messages, their deliveries to endpoints, and the attempts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::instance::Event;

/// How much of a receiver's answer is kept, in characters: enough for a problem document.
pub const MAX_ANSWER_CHARS: usize = 2_000;
/// How many attempts of one delivery are kept, the last ones: eight of the schedule, and what people resend.
pub const MAX_ATTEMPTS: usize = 50;

/// Who caused a change: `event_attributes` of the envelope. Empty for what no request caused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The address that the request came from.
    pub client_ip: String,
    /// The request's user agent.
    pub user_agent: String,
}

/// The body of a message: Clerk's envelope around the event.
pub(super) fn envelope(event: &Event, instance: &str, origin: &Origin) -> String {
    json!({
        "data": event.data,
        "event_attributes": { "http_request": { "client_ip": origin.client_ip, "user_agent": origin.user_agent } },
        "instance_id": instance,
        "object": "event",
        "timestamp": event.at_ms,
        "type": event.kind,
    })
    .to_string()
}

/// One message. Its bytes are made once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `msg_…`: the `svix-id` of every attempt, at every endpoint.
    pub id: String,
    /// Counts the messages.
    pub number: u64,
    /// The event's type.
    #[serde(rename = "type")]
    pub kind: String,
    /// What is sent.
    pub body: String,
    /// When it was made, in milliseconds.
    pub created_at_ms: i64,
    /// By endpoint.
    pub deliveries: BTreeMap<String, Delivery>,
}

impl Message {
    /// Whether nothing is left to be done.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.deliveries.values().all(|delivery| delivery.turns.is_empty())
    }
}

/// A message's way to one endpoint.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Delivery {
    /// How it stands.
    pub state: DeliveryState,
    /// What was tried, in order of their beginning.
    pub attempts: Vec<Attempt>,
    /// What is still to be tried.
    pub turns: Vec<Turn>,
    /// How many attempts of the schedule were made.
    pub(super) tried: usize,
}

impl Delivery {
    /// When the next attempt is due.
    #[must_use]
    pub fn next_at_ms(&self) -> Option<i64> {
        self.turns.iter().map(|turn| turn.at_ms).min()
    }

    pub(super) fn turn(&mut self, order: u64) -> Option<&mut Turn> {
        self.turns.iter_mut().find(|turn| turn.order == order)
    }

    /// Takes away what the schedule would still do.
    pub(super) fn end_schedule(&mut self) {
        self.turns.retain(|turn| turn.trigger != Trigger::Schedule || turn.under_way.is_some());
    }

    pub(super) fn note(&mut self, attempt: Attempt) {
        if self.attempts.len() == MAX_ATTEMPTS {
            self.attempts.remove(0);
        }
        self.attempts.push(attempt);
    }
}

/// How a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// Attempts are to come.
    #[default]
    Waiting,
    /// The receiver took it.
    Delivered,
    /// No attempt succeeded and none is to come.
    Failed,
    /// Chaos: the sender takes it for delivered, and nobody got it.
    Lost,
}

impl DeliveryState {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }
}

/// Why an attempt is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// By the schedule.
    Schedule,
    /// A person asked for it. It is not tried again.
    Resend,
    /// Chaos: a second copy. It is not tried again.
    Duplicate,
}

/// An attempt that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// When it is due, in milliseconds.
    pub at_ms: i64,
    /// Why.
    pub trigger: Trigger,
    /// Its place among what is due at the same time; names it, too.
    pub(super) order: u64,
    /// Chaos: goes as soon as so many later ones have been sent off.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) overtaken_by: u32,
    /// The number of the attempt that is being made. Not kept: after a restart it was not made.
    #[serde(skip)]
    pub(super) under_way: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// One attempt, when it has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Counts the attempts of the whole sandbox.
    pub number: u64,
    /// Why it was made.
    pub trigger: Trigger,
    /// When it was signed and sent, in milliseconds.
    pub at_ms: i64,
    /// How long it took.
    pub took_ms: i64,
    /// Chaos: whether its signature was wrong.
    pub corrupted: bool,
    /// What came back.
    pub answer: Answer,
}

/// What came back from a receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// An answer.
    Response {
        /// Its status.
        status: u16,
        /// Its body, cut.
        body: String,
        /// What it says about this or further deliveries.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        control: Option<Control>,
        /// When it wants to be asked again, from then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<i64>,
    },
    /// None.
    Nothing {
        /// Why.
        error: String,
        /// Whether it just took too long.
        timeout: bool,
    },
}

impl Answer {
    /// A response that says nothing further.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Response { status, body: String::new(), control: None, retry_after_ms: None }
    }

    /// Whether the receiver took the message: 2xx and nothing else.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Response { status: 200..=299, .. })
    }

    pub(super) fn is_overload(&self) -> bool {
        matches!(self, Self::Response { status: 429, .. } | Self::Nothing { timeout: true, .. })
    }

    pub(super) fn control(&self) -> Option<Control> {
        if let Self::Response { control, .. } = self { *control } else { None }
    }
}

/// What a receiver's header `webhook-delivery` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Control {
    /// `abort-message`: this one is not to be sent again.
    AbortMessage,
    /// `disable`: nothing is to be sent again.
    Disable,
}

impl Control {
    /// Reads the header's value.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        match value.trim() {
            "abort-message" => Some(Self::AbortMessage),
            "disable" => Some(Self::Disable),
            _ => None,
        }
    }
}

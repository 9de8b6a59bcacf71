//! Deliveries: endpoints, messages, and the attempts to deliver them.
//!
//! [`Post`] is a state machine that does nothing itself. It is given events ([`Post::accept`]), says what is to be sent now
//! ([`Post::due`]) and when to ask again ([`Post::next_at`]), and is told how it went ([`Post::answered`]). Time, and the
//! chaos that is set, are arguments. [`sender`] does what it says.

mod again;
mod delivering;
mod endpoint;
mod keeping;
mod lanes;
mod message;
mod register;
mod schedule;
pub mod sender;
mod sign;
#[cfg(test)]
mod tests;

pub use delivering::Dispatch;
pub use endpoint::{
    DISABLED_AFTER_MS, Disabled, DisabledBy, Endpoint, FAILING_SPREAD_MS, FAILING_WINDOW_MS, Failing, MAX_SECRETS,
    OVERLAP_MS, Secret,
};
pub use keeping::{KEEP_MESSAGES, KEEP_MS, Record};
pub use message::{
    Answer, Attempt, Control, Delivery, DeliveryState, MAX_ANSWER_CHARS, MAX_ATTEMPTS, Message, Origin, Trigger, Turn,
};
pub use register::{EndpointChange, MAX_ENDPOINTS, NewEndpoint};
pub use schedule::{DELAYS_MS, JITTER_PERCENT, OVERLOADED_MS};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::chance::Chance;
use crate::chaos::{DeliveryChaos, Fate};
use crate::instance::Event;
use keeping::{Changed, Key};
use lanes::Lanes;

/// How many attempts at one endpoint are under way at once, unless somebody says otherwise.
pub const CONCURRENCY: usize = 16;
/// The fastest: an hour of Svix's passes in less than four milliseconds.
pub const MAX_SPEED: u32 = 1_000_000;

/// What a person may set about the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How many times faster than Svix's the schedule is: every delay is divided by it.
    pub speed: u32,
    /// By how much a delay may be longer or shorter.
    pub jitter_percent: u32,
    /// How many attempts at one endpoint are under way at once.
    pub concurrency: usize,
    /// How many finished messages are kept.
    pub keep_messages: usize,
    /// For how long finished messages are kept, in milliseconds.
    pub keep_ms: i64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            speed: 1,
            jitter_percent: JITTER_PERCENT,
            concurrency: CONCURRENCY,
            keep_messages: KEEP_MESSAGES,
            keep_ms: KEEP_MS,
        }
    }
}

/// Why something that a person asked for is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no endpoint of this name.
    #[error("there is no endpoint {0}")]
    NoEndpoint(String),
    /// There is no message of this name, or no more.
    #[error("there is no message {0}")]
    NoMessage(String),
    /// Nothing is sent to an endpoint that is disabled.
    #[error("the endpoint {0} is disabled")]
    Disabled(String),
    /// The address is not one.
    #[error("`url` must be an http or https address")]
    Url,
    /// The secret is not one.
    #[error("`secret` must be `whsec_` and the base64 of 24 to 64 bytes")]
    Secret,
    /// Enough endpoints.
    #[error("there are {MAX_ENDPOINTS} endpoints already")]
    TooMany,
    /// A setting is out of bounds.
    #[error("`{0}` must be {1}")]
    Setting(&'static str, &'static str),
}

/// The whole of it. What can be derived is not serialized.
#[derive(Debug, Serialize, Deserialize)]
#[serde(from = "keeping::Stored")]
pub struct Post {
    chance: Chance,
    settings: Settings,
    endpoints: BTreeMap<String, Endpoint>,
    messages: BTreeMap<u64, Message>,
    numbers: Numbers,
    #[serde(skip)]
    lanes: Lanes,
    #[serde(skip)]
    changed: Changed,
}

/// What was numbered last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    endpoints: u64,
    messages: u64,
    attempts: u64,
    orders: u64,
}

fn after(last: &mut u64) -> u64 {
    *last += 1;
    *last
}

impl Post {
    /// Without endpoints and messages. The seed makes ids, secrets and jitter.
    #[must_use]
    pub fn new(seed: u64, settings: Settings) -> Self {
        Self {
            chance: Chance::new(seed),
            settings,
            endpoints: BTreeMap::new(),
            messages: BTreeMap::new(),
            numbers: Numbers::default(),
            lanes: Lanes::default(),
            changed: Changed::default(),
        }
    }

    /// What is set about the schedule.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Sets it. Attempts that are due already stay so.
    ///
    /// # Errors
    /// If a setting is out of bounds.
    pub fn set(&mut self, settings: Settings) -> Result<(), Refused> {
        if !(1..=MAX_SPEED).contains(&settings.speed) {
            return Err(Refused::Setting("speed", "from 1 to 1000000"));
        }
        if settings.jitter_percent > 100 {
            return Err(Refused::Setting("jitter_percent", "from 0 to 100"));
        }
        if settings.concurrency == 0 {
            return Err(Refused::Setting("concurrency", "at least 1"));
        }
        self.settings = settings;
        self.changed.note(Key::Settings);
        Ok(())
    }

    /// Takes an event and makes it a message to every endpoint that wants it; gives its id.
    ///
    /// It is a message even if nobody wants it: whoever comes later can ask for what they missed.
    pub fn accept(
        &mut self,
        event: &Event,
        instance: &str,
        origin: &Origin,
        (chaos, seed): (&DeliveryChaos, Chance),
        now_ms: i64,
    ) -> String {
        let number = after(&mut self.numbers.messages);
        let id = format!("msg_{}", self.chance.of("message", &[number]).base62(27));
        let message = Message {
            id: id.clone(),
            number,
            kind: event.kind.to_owned(),
            body: message::envelope(event, instance, origin),
            created_at_ms: now_ms,
            deliveries: BTreeMap::new(),
        };
        self.lanes.names(&id, number);
        self.messages.insert(number, message);
        let wanting =
            self.endpoints.values().filter(|endpoint| endpoint.disabled.is_none() && endpoint.takes(event.kind));
        let wanting: Vec<(String, u64)> = wanting.map(|endpoint| (endpoint.id.clone(), endpoint.number)).collect();
        for (endpoint, endpoint_number) in wanting {
            let fate = chaos.fate(seed, number, endpoint_number);
            let held = self.lanes.held(&endpoint);
            self.address(number, &endpoint, fate, chaos.reorder_patience_ms, now_ms);
            self.overtake(&endpoint, held, now_ms);
        }
        self.changed.note(Key::Message(number));
        self.forget(now_ms);
        id
    }

    /// Puts a new message on its way to one endpoint.
    fn address(&mut self, message: u64, endpoint: &str, fate: Fate, patience_ms: i64, now_ms: i64) {
        let Some(found) = self.messages.get_mut(&message) else { return };
        let delivery = found.deliveries.entry(endpoint.to_owned()).or_default();
        if fate.lost {
            delivery.state = DeliveryState::Lost;
            return;
        }
        let held_ms = if fate.overtaken_by > 0 { patience_ms } else { 0 };
        let first = Turn {
            at_ms: now_ms + fate.delay_ms + held_ms,
            trigger: Trigger::Schedule,
            order: after(&mut self.numbers.orders),
            overtaken_by: fate.overtaken_by,
            under_way: None,
        };
        self.enqueue(message, endpoint, first.clone());
        if fate.doubled {
            let order = after(&mut self.numbers.orders);
            self.enqueue(message, endpoint, Turn { trigger: Trigger::Duplicate, order, overtaken_by: 0, ..first });
        }
    }

    fn enqueue(&mut self, message: u64, endpoint: &str, turn: Turn) {
        let Some(found) = self.messages.get_mut(&message) else { return };
        self.lanes.add(endpoint, message, &turn);
        found.deliveries.entry(endpoint.to_owned()).or_default().turns.push(turn);
        self.changed.note(Key::Message(message));
    }

    /// A later message was sent off to this endpoint: what was held back for it goes as soon as enough have overtaken it.
    fn overtake(&mut self, endpoint: &str, held: Vec<(u64, u64)>, now_ms: i64) {
        for (message, order) in held {
            let Some(found) = self.messages.get_mut(&message) else { continue };
            let Some(turn) = found.deliveries.get_mut(endpoint).and_then(|delivery| delivery.turn(order)) else {
                continue;
            };
            turn.overtaken_by = turn.overtaken_by.saturating_sub(1);
            if turn.overtaken_by == 0 {
                self.lanes.remove(endpoint, message, turn);
                turn.at_ms = turn.at_ms.min(now_ms);
                turn.order = after(&mut self.numbers.orders);
                self.lanes.add(endpoint, message, turn);
            }
            self.changed.note(Key::Message(message));
        }
    }

    /// The message of this id.
    ///
    /// # Errors
    /// If there is none.
    pub fn message(&self, id: &str) -> Result<&Message, Refused> {
        self.number_of(id)
            .and_then(|number| self.messages.get(&number).ok_or_else(|| Refused::NoMessage(id.to_owned())))
    }

    fn number_of(&self, id: &str) -> Result<u64, Refused> {
        self.lanes.number_of(id).ok_or_else(|| Refused::NoMessage(id.to_owned()))
    }

    /// All messages, the newest first.
    pub fn messages(&self) -> impl Iterator<Item = &Message> {
        self.messages.values().rev()
    }

    /// The messages before the one of this number, the newest first.
    pub fn messages_before(&self, number: u64) -> impl Iterator<Item = &Message> {
        self.messages.range(..number).rev().map(|(_, message)| message)
    }

    /// How many deliveries stand how.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<DeliveryState, usize> {
        let all = [DeliveryState::Waiting, DeliveryState::Delivered, DeliveryState::Failed, DeliveryState::Lost];
        let mut counts = BTreeMap::from(all.map(|state| (state, 0)));
        for delivery in self.messages.values().flat_map(|message| message.deliveries.values()) {
            *counts.entry(delivery.state).or_default() += 1;
        }
        counts
    }
}

//! What is kept, for how long, and what of it has changed since it was last written down.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::lanes::Lanes;
use super::{Endpoint, Message, Numbers, Post, Settings};
use crate::chance::Chance;

/// How many finished messages are kept, the newest: what a file and a person can still look through.
pub const KEEP_MESSAGES: usize = 100_000;
/// For how long finished messages are kept: 90 days, as Svix keeps payloads.
pub const KEEP_MS: i64 = 90 * 24 * 3_600_000;
/// After so many new messages it is looked for what need not be kept: so each costs little, and few too many are kept.
const LOOK_EVERY: u64 = 1_000;

/// What a post is made from again.
#[derive(Debug, Deserialize)]
pub(super) struct Stored {
    chance: Chance,
    settings: Settings,
    endpoints: BTreeMap<String, Endpoint>,
    messages: BTreeMap<u64, Message>,
    numbers: Numbers,
}

impl From<Stored> for Post {
    fn from(stored: Stored) -> Self {
        let Stored { chance, settings, endpoints, messages, numbers } = stored;
        let lanes = Lanes::of(messages.values());
        Self { chance, settings, endpoints, messages, numbers, lanes, changed: Changed::default() }
    }
}

/// What can change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Settings,
    Endpoint(String),
    Message(u64),
}

/// What has changed since it was last asked for.
#[derive(Debug, Default)]
pub(super) struct Changed(BTreeSet<Key>);

impl Changed {
    pub(super) fn note(&mut self, key: Key) {
        self.0.insert(key);
    }
}

/// One thing as it is now: it takes the place of what was recorded of it before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// What was numbered last.
    Numbers(Numbers),
    /// What makes ids, secrets and jitter.
    Seed(Chance),
    /// The settings.
    Settings(Settings),
    /// An endpoint.
    Endpoint(Box<Endpoint>),
    /// There is no such endpoint.
    NoEndpoint(String),
    /// A message with its deliveries.
    Message(Box<Message>),
    /// There is no such message.
    NoMessage(u64),
}

impl Post {
    /// What has changed since this was asked last: for a journal. Nothing if nothing has.
    pub fn changes(&mut self) -> Vec<Record> {
        let keys = std::mem::take(&mut self.changed.0);
        if keys.is_empty() {
            return Vec::new();
        }
        let records = keys.into_iter().map(|key| match key {
            Key::Settings => Record::Settings(self.settings),
            Key::Endpoint(id) => match self.endpoints.get(&id) {
                Some(endpoint) => Record::Endpoint(Box::new(endpoint.clone())),
                None => Record::NoEndpoint(id),
            },
            Key::Message(number) => match self.messages.get(&number) {
                Some(message) => Record::Message(Box::new(message.clone())),
                None => Record::NoMessage(number),
            },
        });
        records.chain([Record::Numbers(self.numbers)]).collect()
    }

    /// Everything: what makes an empty post the same.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let endpoints = self.endpoints.values().map(|endpoint| Record::Endpoint(Box::new(endpoint.clone())));
        let messages = self.messages.values().map(|message| Record::Message(Box::new(message.clone())));
        let first = [Record::Settings(self.settings), Record::Seed(self.chance)];
        first.into_iter().chain(endpoints).chain(messages).chain([Record::Numbers(self.numbers)])
    }

    /// What [`Post::changes`] gave, in its order, applied to a post that was as that one had been. Attempts that were under
    /// way are due again.
    pub fn apply(&mut self, records: impl IntoIterator<Item = Record>) {
        for record in records {
            match record {
                Record::Numbers(numbers) => self.numbers = numbers,
                Record::Seed(chance) => self.chance = chance,
                Record::Settings(settings) => self.settings = settings,
                Record::Endpoint(endpoint) => drop(self.endpoints.insert(endpoint.id.clone(), *endpoint)),
                Record::NoEndpoint(id) => drop(self.endpoints.remove(&id)),
                Record::Message(message) => drop(self.messages.insert(message.number, *message)),
                Record::NoMessage(number) => drop(self.messages.remove(&number)),
            }
        }
        self.lanes = Lanes::of(self.messages.values());
    }

    /// Forgets finished messages that are too many or too old, now and then.
    pub(super) fn forget(&mut self, now_ms: i64) {
        if self.numbers.messages.is_multiple_of(LOOK_EVERY) {
            self.forget_now(now_ms);
        }
    }

    /// Forgets finished messages that are too many or too old.
    pub fn forget_now(&mut self, now_ms: i64) {
        let too_many = self.messages.len().saturating_sub(self.settings.keep_messages);
        let oldest_ms = now_ms.saturating_sub(self.settings.keep_ms);
        let finished = self.messages.values().enumerate().filter(|(_, message)| message.is_finished());
        let leaving = finished.filter(|(place, message)| *place < too_many || message.created_at_ms < oldest_ms);
        let leaving: Vec<u64> = leaving.map(|(_, message)| message.number).collect();
        for number in leaving {
            if let Some(message) = self.messages.remove(&number) {
                self.lanes.forget(&message.id);
            }
            self.changed.note(Key::Message(number));
        }
    }
}

//! What is found quickly: what is due next at each endpoint, what is under way, which id is which message. Derived from the
//! messages, and made again from them after a restart.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::message::{Message, Turn};

/// An attempt that is being made.
#[derive(Debug, Clone)]
pub(super) struct UnderWay {
    pub message: u64,
    pub endpoint: String,
    pub order: u64,
    pub at_ms: i64,
    pub corrupted: bool,
}

/// When, the order, the message, and whether it is held back.
#[cfg(test)]
type Place = (i64, u64, u64, bool);

/// What waits at one endpoint, and how much is under way.
#[derive(Debug, Default)]
struct Lane {
    /// When, its order, the message.
    waiting: BTreeSet<(i64, u64, u64)>,
    /// The message and the order of what is held back.
    held: BTreeSet<(u64, u64)>,
    under_way: usize,
}

#[derive(Debug, Default)]
pub(super) struct Lanes {
    ids: HashMap<String, u64>,
    lanes: BTreeMap<String, Lane>,
    under_way: BTreeMap<u64, UnderWay>,
}

impl Lanes {
    pub(super) fn of<'m>(messages: impl Iterator<Item = &'m Message>) -> Self {
        let mut lanes = Self::default();
        for message in messages {
            lanes.names(&message.id, message.number);
            for (endpoint, delivery) in &message.deliveries {
                for turn in delivery.turns.iter().filter(|turn| turn.under_way.is_none()) {
                    lanes.add(endpoint, message.number, turn);
                }
            }
        }
        lanes
    }

    pub(super) fn names(&mut self, id: &str, message: u64) {
        self.ids.insert(id.to_owned(), message);
    }

    pub(super) fn forget(&mut self, id: &str) {
        self.ids.remove(id);
    }

    pub(super) fn number_of(&self, id: &str) -> Option<u64> {
        self.ids.get(id).copied()
    }

    pub(super) fn add(&mut self, endpoint: &str, message: u64, turn: &Turn) {
        let lane = self.lanes.entry(endpoint.to_owned()).or_default();
        lane.waiting.insert((turn.at_ms, turn.order, message));
        if turn.overtaken_by > 0 {
            lane.held.insert((message, turn.order));
        }
    }

    pub(super) fn remove(&mut self, endpoint: &str, message: u64, turn: &Turn) {
        let Some(lane) = self.lanes.get_mut(endpoint) else { return };
        lane.waiting.remove(&(turn.at_ms, turn.order, message));
        lane.held.remove(&(message, turn.order));
    }

    /// What is held back at an endpoint: messages and orders.
    pub(super) fn held(&self, endpoint: &str) -> Vec<(u64, u64)> {
        self.lanes.get(endpoint).map(|lane| lane.held.iter().copied().collect()).unwrap_or_default()
    }

    /// Takes the first that is due at an endpoint where fewer than so many are under way: when, its order, the message.
    pub(super) fn take_due(&mut self, endpoint: &str, concurrency: usize, now_ms: i64) -> Option<(i64, u64, u64)> {
        let lane = self.lanes.get_mut(endpoint).filter(|lane| lane.under_way < concurrency)?;
        let first = lane.waiting.first().copied().filter(|(at_ms, ..)| *at_ms <= now_ms)?;
        let (_, order, message) = first;
        lane.waiting.remove(&first);
        lane.held.remove(&(message, order));
        Some(first)
    }

    /// When the first attempt is due anywhere where there is room for it.
    pub(super) fn next_at(&self, concurrency: usize) -> Option<i64> {
        let free = self.lanes.values().filter(|lane| lane.under_way < concurrency);
        free.filter_map(|lane| lane.waiting.first().map(|(at_ms, ..)| *at_ms)).min()
    }

    pub(super) fn begins(&mut self, attempt: u64, what: UnderWay) {
        if let Some(lane) = self.lanes.get_mut(&what.endpoint) {
            lane.under_way += 1;
        }
        self.under_way.insert(attempt, what);
    }

    pub(super) fn ends(&mut self, attempt: u64) -> Option<UnderWay> {
        let what = self.under_way.remove(&attempt)?;
        if let Some(lane) = self.lanes.get_mut(&what.endpoint) {
            lane.under_way = lane.under_way.saturating_sub(1);
        }
        Some(what)
    }

    pub(super) fn all_under_way(&self) -> Vec<u64> {
        self.under_way.keys().copied().collect()
    }

    pub(super) fn count_under_way(&self) -> usize {
        self.under_way.len()
    }

    /// The messages that wait at an endpoint.
    pub(super) fn waiting_at(&self, endpoint: &str) -> Vec<u64> {
        self.lanes
            .get(endpoint)
            .map(|lane| lane.waiting.iter().map(|(.., message)| *message).collect())
            .unwrap_or_default()
    }

    /// What waits (when, its order, the message) and what of it is held back, by endpoint: to be compared.
    #[cfg(test)]
    pub(super) fn all(&self) -> BTreeMap<&str, Vec<Place>> {
        let waiting = |lane: &Lane| {
            let is_held = |order, message| lane.held.contains(&(message, order));
            let rows = lane.waiting.iter().map(|&(at, order, message)| (at, order, message, is_held(order, message)));
            assert!(lane.held.len() <= lane.waiting.len(), "what is held back waits");
            rows.collect::<Vec<_>>()
        };
        let lanes = self.lanes.iter().filter(|(_, lane)| !lane.waiting.is_empty());
        lanes.map(|(endpoint, lane)| (endpoint.as_str(), waiting(lane))).collect()
    }

    pub(super) fn endpoints(&self) -> Vec<String> {
        self.lanes.keys().cloned().collect()
    }
}

//! Deliveries: endpoints, messages, and the attempts to deliver them.

use crate::instance::Event;

/// What was emitted and is to be sent.
#[derive(Debug, Default)]
pub struct Post {
    /// Every event, the oldest first.
    pub messages: Vec<Event>,
}

impl Post {
    /// Takes an event.
    pub fn accept(&mut self, event: Event) {
        self.messages.push(event);
    }
}

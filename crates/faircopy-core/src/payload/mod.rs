//! What of a delivery may be stored, and nothing else.
//!
//! A stored delivery is what a replay reads, and a live delivery is read from the same text: so a replay sees exactly
//! what the first reading saw. Never stored: `private_metadata`, the client's address and user agent, one-time codes of
//! `email.*` and `sms.*`, the ticket in an invitation's `url`. In [`ProfileMode::Minimal`] nothing personal at all.
//!
//! What is kept is kept byte for byte, without the white space around it: a number has the digits and a text the escapes
//! that were sent. Keeping it again changes nothing.

mod rule;
mod salvage;
mod scan;

use std::ops::Range;

use crate::ProfileMode;
use rule::Rule;

pub use rule::WORKSPACE_LINKS;

/// What is kept of one body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// JSON, without what must not be stored.
    Json(Message),
    /// A body that is not the JSON of one event. It is kept whole, but for the secrets that could be found in it, so
    /// that it can be looked at and replayed after a mend.
    Unreadable {
        /// The body; `None` where keeping it could store what must never be stored.
        text: Option<String>,
        /// Why it cannot be read, in a sentence without any of its content.
        fault: String,
    },
}

/// Takes out of a body what must not be stored.
#[must_use]
pub fn keep(body: &[u8], mode: ProfileMode) -> Kept {
    let unreadable = |fault| Kept::Unreadable { text: salvage::salvage(body, mode), fault };
    let Ok(text) = str::from_utf8(body) else { return unreadable("not UTF-8".into()) };
    // The rule depends on the type, which may stand behind the data. Nearly always it stands last, where it is found at
    // once: what is copied by that guess counts if it turns out to be the type.
    let copied = |event_type: &str| scan::copy(text, Rule::of_event(event_type, mode));
    if let Some(guess) = scan::last_type(text)
        && let Ok(message) = copied(guess)
        && message.has_type(guess)
    {
        return Kept::Json(message);
    }
    match copied(&scan::event_type(text)) {
        Ok(message) => Kept::Json(message),
        Err(fault) => unreadable(fault),
    }
}

/// What stays of a stored payload when the user that it speaks of is deleted, or `None` where nothing does. What tells of an
/// organization too is kept without the person, byte for byte: read again, it says the same of all but the person. Doing it again changes
/// nothing.
#[must_use]
pub fn erase(payload: &str, event_type: &str) -> Option<String> {
    let message = scan::copy(payload, Rule::of_erased(event_type)?).ok()?;
    Some(message.into_text())
}

/// The text that is kept of a delivery: one JSON object, known to be well-formed, in which the values of the envelope
/// need not be looked for again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    text: String,
    /// Where the value of each [`Key`] stands in `text`; empty where there is none.
    values: [Range<usize>; 4],
}

/// The keys of the envelope. None may come twice: two readers would take different ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    Data,
    InstanceId,
    Timestamp,
    Type,
}

impl Key {
    fn of(key: &str) -> Option<Self> {
        Some(match key {
            "data" => Self::Data,
            "instance_id" => Self::InstanceId,
            "timestamp" => Self::Timestamp,
            "type" => Self::Type,
            _ => return None,
        })
    }
}

impl Message {
    /// The text, as it is stored.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text, as it is stored.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }

    /// The JSON of one value of the envelope.
    pub(crate) fn value(&self, key: Key) -> Option<&str> {
        self.text.get(self.values[key as usize].clone()).filter(|value| !value.is_empty())
    }

    /// Whether the type is this one, spelled without escapes.
    fn has_type(&self, event_type: &str) -> bool {
        let quoted = self.value(Key::Type).and_then(|json| json.strip_prefix('"')?.strip_suffix('"'));
        quoted == Some(event_type)
    }

    /// All of a body, whatever the rules say of it.
    #[cfg(test)]
    pub(crate) fn whole(body: &str) -> Self {
        scan::copy(body, Rule::Verbatim).expect("the JSON of an event")
    }
}

#[cfg(test)]
mod tests;

//! The former way of `payload::keep`, two passes of serde, as a second opinion: what it takes, what it leaves out and what
//! every kept value is. It writes texts and numbers anew, so only the values can be compared.
//!
//! One thing is not as it was: a `type` that is an object was read whole before it was copied, and refused for what was
//! left out of it, such as a number that is too large. Now it is ruled as every other value.

use std::fmt;

use faircopy_core::ProfileMode;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// What is kept of a body, or `None` where it is not the JSON of one event.
pub(crate) fn keep(body: &[u8], mode: ProfileMode) -> Option<String> {
    let kept = transcode(str::from_utf8(body).ok()?, mode).ok()?;
    serde_json::from_str::<Envelope>(&kept).ok()?;
    Some(kept)
}

/// Only to see whether a key of the envelope comes twice.
#[derive(Deserialize)]
#[allow(dead_code, reason = "what stands there is of no interest")]
struct Envelope {
    #[serde(default, rename = "type")]
    event_type: IgnoredAny,
    #[serde(default)]
    timestamp: IgnoredAny,
    #[serde(default)]
    instance_id: IgnoredAny,
    #[serde(default)]
    data: IgnoredAny,
}

/// Keys whose values are secret or personal wherever they stand, but for inside a metadata object.
const NEVER_STORED: [&str; 5] = ["private_metadata", "event_attributes", "client_ip", "user_agent", "ip_address"];
/// Objects of the application's own making: copied as they are.
const METADATA: [&str; 2] = ["public_metadata", "unsafe_metadata"];
/// All that is kept of `email.*` and `sms.*`: their text carries one-time codes.
const MESSAGE_KEYS: [&str; 13] = [
    "data",
    "delivered_by_clerk",
    "email_address_id",
    "id",
    "instance_id",
    "object",
    "phone_number_id",
    "slug",
    "status",
    "timestamp",
    "type",
    "user_id",
    "organization_id",
];
/// All that is kept in minimal mode, apart from what an organization says of itself.
const MINIMAL_KEYS: [&str; 18] = [
    "created_at",
    "created_by",
    "data",
    "deleted",
    "expires_at",
    "id",
    "instance_id",
    "object",
    "organization",
    "organization_id",
    "permissions",
    "public_user_data",
    "role",
    "status",
    "timestamp",
    "type",
    "updated_at",
    "user_id",
];
/// What an organization says of itself: a company's name is not personal.
const ORGANIZATION_KEYS: [&str; 3] = ["image_url", "name", "slug"];
/// Metadata keys that link a user or an organization to a workspace, in order of preference (product.md, system A).
const WORKSPACE_LINKS: [&str; 2] = ["workspaceId", "convexWorkspaceId"];

/// Which keys of the object at hand are kept.
#[derive(Clone, Copy)]
enum Rule {
    Verbatim,
    Full { ticket: bool },
    Message,
    Minimal(Part),
}

#[derive(Clone, Copy, PartialEq)]
enum Part {
    Envelope { data: &'static Part },
    User,
    UserMetadata,
    Organization,
    Other,
}

impl Rule {
    fn of_event(event_type: &str, mode: ProfileMode) -> Self {
        let family = event_type.split('.').next().unwrap_or_default();
        if matches!(family, "email" | "sms") {
            return Self::Message;
        }
        match (mode, family) {
            (ProfileMode::Full, _) => Self::Full { ticket: family.ends_with("nvitation") || family == "waitlistEntry" },
            (ProfileMode::Minimal, "user") => Self::Minimal(Part::Envelope { data: &Part::User }),
            (ProfileMode::Minimal, "organization") => Self::Minimal(Part::Envelope { data: &Part::Organization }),
            (ProfileMode::Minimal, _) => Self::Minimal(Part::Envelope { data: &Part::Other }),
        }
    }

    /// The rule for the value of `key`, or `None` where it is left out.
    fn for_key(self, key: &str) -> Option<Self> {
        match self {
            Self::Verbatim => Some(self),
            Self::Full { ticket } => match key {
                _ if NEVER_STORED.contains(&key) || (ticket && key == "url") => None,
                _ if METADATA.contains(&key) => Some(Self::Verbatim),
                _ => Some(self),
            },
            Self::Message => MESSAGE_KEYS.contains(&key).then_some(self),
            Self::Minimal(part) => part.for_key(key),
        }
    }
}

impl Part {
    fn for_key(self, key: &str) -> Option<Rule> {
        match (self, key) {
            (Self::Envelope { data }, "data") => Some(Rule::Minimal(*data)),
            (Self::User, "public_metadata") => Some(Rule::Minimal(Self::UserMetadata)),
            (Self::UserMetadata, _) => WORKSPACE_LINKS.contains(&key).then_some(Rule::Minimal(self)),
            (Self::Organization, "public_metadata") => Some(Rule::Verbatim),
            (Self::Organization, _) if ORGANIZATION_KEYS.contains(&key) => Some(Rule::Minimal(self)),
            (_, "organization") => Some(Rule::Minimal(Self::Organization)),
            (_, _) if MINIMAL_KEYS.contains(&key) => Some(Rule::Minimal(Self::Other)),
            _ => None,
        }
    }
}

/// A first pass that only wants the type: it may stand after the data that it rules.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default, rename = "type")]
    event_type: Option<&'a RawValue>,
}

fn transcode(text: &str, mode: ProfileMode) -> Result<String, serde_json::Error> {
    // A derived reader would take an array for an object, its items for the keys in order.
    if text.trim_ascii_start().starts_with('[') {
        return Err(serde_json::Error::custom("an array"));
    }
    let head: Head<'_> = serde_json::from_str(text)?;
    let event_type = head.event_type.and_then(|json| serde_json::from_str::<String>(json.get()).ok());
    let event_type = event_type.as_deref().unwrap_or_default();
    let mut out = String::with_capacity(text.len());
    let mut reader = serde_json::Deserializer::from_str(text);
    Transcode { out: &mut out, rule: Rule::of_event(event_type, mode) }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(out)
}

/// Writes the value that it reads, without the keys that its rule leaves out: one pass, no tree.
struct Transcode<'a> {
    out: &'a mut String,
    rule: Rule,
}

impl Transcode<'_> {
    fn push<E: serde::de::Error>(self, value: &(impl serde::Serialize + ?Sized)) -> Result<(), E> {
        self.out.push_str(&serde_json::to_string(value).map_err(E::custom)?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Transcode<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Transcode<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.out.push_str("null");
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.out.push_str(if value { "true" } else { "false" });
        Ok(())
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        self.push(&value)
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        self.push(&value)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<(), E> {
        self.push(&value)
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        push_string(self.out, value);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.out.push('[');
        let empty = self.out.len();
        loop {
            let before = self.out.len();
            if before > empty {
                self.out.push(',');
            }
            if items.next_element_seed(Transcode { out: self.out, rule: self.rule })?.is_none() {
                self.out.truncate(before);
                break;
            }
        }
        self.out.push(']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        self.out.push('{');
        let empty = self.out.len();
        while let Some(key) = entries.next_key::<Key<'de>>()? {
            let Some(rule) = self.rule.for_key(&key.0) else {
                entries.next_value::<IgnoredAny>()?;
                continue;
            };
            if self.out.len() > empty {
                self.out.push(',');
            }
            push_string(self.out, &key.0);
            self.out.push(':');
            entries.next_value_seed(Transcode { out: self.out, rule })?;
        }
        self.out.push('}');
        Ok(())
    }
}

/// Plain text, which is nearly all of it, is copied in one piece.
fn push_string(out: &mut String, text: &str) {
    if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

/// An object's key, borrowed where it holds no escape.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);

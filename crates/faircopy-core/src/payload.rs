//! What of a delivery may be stored, and nothing else.
//!
//! A stored delivery is what a replay reads, and a live delivery is read from the same text: so a replay sees exactly
//! what the first reading saw. Never stored: `private_metadata`, the client's address and user agent, one-time codes of
//! `email.*` and `sms.*`, the ticket in an invitation's `url`. In [`ProfileMode::Minimal`] nothing personal at all.

use std::fmt::{self, Write as _};

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::ProfileMode;

/// What is kept of one body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// JSON, without what must not be stored.
    Json(String),
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
    let Ok(text) = str::from_utf8(body) else {
        return Kept::Unreadable { text: salvage(body, mode), fault: "not UTF-8".into() };
    };
    match transcode(text, mode) {
        Ok(text) => Kept::Json(text),
        Err(error) => Kept::Unreadable { text: salvage(body, mode), fault: describe(&error) },
    }
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
pub const WORKSPACE_LINKS: [&str; 2] = ["workspaceId", "convexWorkspaceId"];

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
struct Head {
    #[serde(default, rename = "type")]
    event_type: Option<serde_json::Value>,
}

fn transcode(text: &str, mode: ProfileMode) -> Result<String, serde_json::Error> {
    // A derived reader would take an array for an object, its items for the keys in order.
    if text.trim_ascii_start().starts_with('[') {
        return Err(serde_json::Error::custom("an array"));
    }
    let head: Head = serde_json::from_str(text)?;
    let event_type = head.event_type.as_ref().and_then(|value| value.as_str()).unwrap_or_default();
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

/// A sentence about a parse error that repeats nothing of the content.
fn describe(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Eof => "the JSON ends too early",
        serde_json::error::Category::Syntax => "not JSON",
        serde_json::error::Category::Data => {
            "JSON, but not that of one event (a key came twice, or a number is too large)"
        }
        serde_json::error::Category::Io => "not readable",
    };
    format!("{what} (line {}, column {})", error.line(), error.column())
}

/// What may be kept of a body that is not JSON: all of it but for the values of [`NEVER_STORED`] keys, unless it looks
/// like a message with a one-time code or nothing personal may be kept.
fn salvage(body: &[u8], mode: ProfileMode) -> Option<String> {
    let text = readable(body);
    let message = ["email.", "sms."].iter().any(|family| text.contains(family));
    (mode == ProfileMode::Full && !message).then(|| scrub(&text))
}

/// A body as text. A byte that is no UTF-8 is written `\xNN`, which JSON refuses: it can be looked at, and no replay takes
/// it for something that nobody sent.
fn readable(body: &[u8]) -> String {
    let mut text = String::with_capacity(body.len());
    for chunk in body.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// Replaces the value after each secret key by `null`, in text that may break off anywhere.
fn scrub(text: &str) -> String {
    let secret = |key: &str| NEVER_STORED.contains(&key) || key == "url";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('"') {
        let after_key = open + string_length(&rest[open..]);
        let key = rest[open..after_key].trim_matches('"');
        out.push_str(&rest[..after_key]);
        rest = &rest[after_key..];
        let value = rest.trim_start();
        if let Some(value) = value.strip_prefix(':').filter(|_| secret(key)) {
            out.push_str(":null");
            let value = value.trim_start();
            rest = &value[value_length(value)..];
        }
    }
    out.push_str(rest);
    out.replace('\0', "")
}

/// The length of the quoted string that `text` starts with, or of all of `text` where it does not end.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of the JSON value that `text` starts with, or of all of `text` where it does not end. Not recursive.
fn value_length(text: &str) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while at < text.len() {
        let byte = text.as_bytes()[at];
        match byte {
            b'"' => at += string_length(&text[at..]) - 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' | b',' if depth == 0 => return at,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 && matches!(byte, b'"' | b'}' | b']') {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(body: &str, mode: ProfileMode) -> String {
        match keep(body.as_bytes(), mode) {
            Kept::Json(text) => text,
            Kept::Unreadable { fault, .. } => panic!("{fault}: {body}"),
        }
    }

    #[test]
    fn full_mode_leaves_out_secrets_and_keeps_metadata_as_it_is() {
        let check = |body: &str, expected: &str| assert_eq!(kept(body, ProfileMode::Full), expected);
        check(
            r#"{"type":"user.created","event_attributes":{"http_request":{"client_ip":"1.2.3.4"}},"data":{"id":"user_1","private_metadata":{"a":1},"x":[1,-2,2.5,null,true,"\u0000\n"]}}"#,
            r#"{"type":"user.created","data":{"id":"user_1","x":[1,-2,2.5,null,true,"\u0000\n"]}}"#,
        );
        check(
            r#"{"type":"user.updated","data":{"public_metadata":{"ip_address":"mine","private_metadata":{}}}}"#,
            r#"{"type":"user.updated","data":{"public_metadata":{"ip_address":"mine","private_metadata":{}}}}"#,
        );
        check(
            r#"{"type":"session.created","data":{"latest_activity":{"ip_address":"1.2.3.4","city":"x"}}}"#,
            r#"{"type":"session.created","data":{"latest_activity":{"city":"x"}}}"#,
        );
        check(
            r#"{"type":"organizationInvitation.created","data":{"url":"https://x?ticket=1","id":"i"}}"#,
            r#"{"type":"organizationInvitation.created","data":{"id":"i"}}"#,
        );
        check(r#"{"data":{"\u0070rivate_metadata":1},"type":"user.created"}"#, r#"{"data":{},"type":"user.created"}"#);
    }

    #[test]
    fn messages_keep_no_code() {
        let body = r#"{"data":{"body":"Your code is 424242","id":"ema_1","subject":"424242","data":{"otp_code":"424242"}},"type":"email.created"}"#;
        assert_eq!(kept(body, ProfileMode::Full), r#"{"data":{"id":"ema_1","data":{}},"type":"email.created"}"#);
    }

    #[test]
    fn minimal_mode_keeps_ids_times_and_links_only() {
        let check = |body: &str, expected: &str| assert_eq!(kept(body, ProfileMode::Minimal), expected);
        check(
            r#"{"type":"user.created","data":{"id":"user_1","first_name":"Ada","email_addresses":[{"id":"idn_1"}],"updated_at":5,"public_metadata":{"workspaceId":"w","phone":"1"}}}"#,
            r#"{"type":"user.created","data":{"id":"user_1","updated_at":5,"public_metadata":{"workspaceId":"w"}}}"#,
        );
        check(
            r#"{"type":"organizationMembership.created","data":{"id":"orgmem_1","organization":{"id":"org_1","name":"Acme","private_metadata":{}},"public_user_data":{"user_id":"user_1","identifier":"a@b.c"}}}"#,
            r#"{"type":"organizationMembership.created","data":{"id":"orgmem_1","organization":{"id":"org_1","name":"Acme"},"public_user_data":{"user_id":"user_1"}}}"#,
        );
    }

    #[test]
    fn what_is_not_json_is_kept_without_its_secrets() {
        let check = |body: &[u8], expected: Option<&str>| match keep(body, ProfileMode::Full) {
            Kept::Unreadable { text, .. } => assert_eq!(text.as_deref(), expected),
            Kept::Json(text) => panic!("read as JSON: {text}"),
        };
        check(b"not json", Some("not json"));
        check(
            b"{\"type\":\"user.created\",\"data\":{\"private_metadata\":{\"a\":[\"}\"]},\"id\":1",
            Some("{\"type\":\"user.created\",\"data\":{\"private_metadata\":null,\"id\":1"),
        );
        check(b"{\"client_ip\" : \"1.2.3.4", Some("{\"client_ip\":null"));
        check(b"{\"type\":\"email.created\",\"data\":{\"body\":\"424242\"", None);
        check(b"{\"a\":\"\xff\"}", Some("{\"a\":\"\\xff\"}"));
        check(b"{\"a\":1e400}", Some("{\"a\":1e400}"));
        check(b"\xef\xbb\xbf{}", Some("\u{feff}{}"));
        check(br#"{"type":"a","type":"b"}"#, Some(r#"{"type":"a","type":"b"}"#));
        check(br#"{"a":"\ud800"}"#, Some(r#"{"a":"\ud800"}"#));
        check(b"{} x", Some("{} x"));
        let deep = "[".repeat(100_000);
        check(deep.as_bytes(), Some(&deep));
        assert_eq!(
            keep(b"not json", ProfileMode::Minimal),
            Kept::Unreadable { text: None, fault: "not JSON (line 1, column 2)".into() }
        );
    }
}

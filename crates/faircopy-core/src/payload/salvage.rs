//! What may be kept of a body that is not the JSON of one event.

use std::fmt::Write as _;

use super::rule::never_stored;
use super::scan::{decode, text_end};
use crate::ProfileMode;

/// All of the body but for the values of secret keys, unless it looks like a message with a one-time code or nothing
/// personal may be kept.
pub(super) fn salvage(body: &[u8], mode: ProfileMode) -> Option<String> {
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
    let secret = |key: &str| never_stored(key) || key == "url";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('"') {
        let after_key = text_end(rest.as_bytes(), open + 1);
        let key = decode(&rest[open..after_key]);
        out.push_str(&rest[..after_key]);
        rest = &rest[after_key..];
        let value = rest.trim_start();
        if let Some(value) = value.strip_prefix(':').filter(|_| key.is_some_and(|key| secret(&key))) {
            out.push_str(":null");
            let value = value.trim_start();
            rest = &value[value_length(value)..];
        }
    }
    out.push_str(rest);
    out.replace('\0', "")
}

/// The length of the JSON value that `text` starts with, or of all of `text` where it does not end. Not recursive.
fn value_length(text: &str) -> usize {
    let (mut at, mut depth) = (0, 0_usize);
    while at < text.len() {
        let byte = text.as_bytes()[at];
        match byte {
            b'"' => at = text_end(text.as_bytes(), at + 1) - 1,
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

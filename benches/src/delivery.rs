//! Distinct, correctly signed deliveries of about 3 KB, made while they are sent.
//!
//! The request is laid out once; for each delivery only ids, type, times and signature are written over.
//! That and the HMAC cost a few microseconds, and no memory grows with the length of a run.

use std::ops::Range;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::SIGNING_KEY;

/// Clerk's own example, filled up by [`user`] to the size of a real user.
const EXAMPLE: &str = include_str!("../../fixtures/deliveries/user.created.json");

const ORGANIZATION_CREATED: &str = include_str!("../../fixtures/deliveries/organization.created.json");
const ORGANIZATION_DELETED: &str = include_str!("../../fixtures/deliveries/organization.deleted.json");

/// Stands where the 27 characters of an id go.
const ID: &str = "IIIIIIIIIIIIIIIIIIIIIIIIIII";
/// Stands where the milliseconds of this version of the user go.
const UPDATED_AT: u64 = 1_111_111_111_111;
/// Both types have the same length, so that the layout is the same.
const TYPES: [&[u8]; 2] = [b"user.created", b"user.updated"];

/// Whose deliveries are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subjects {
    /// Every delivery has a user of its own.
    Distinct,
    /// All deliveries update the same few users.
    Hot {
        /// How many there are.
        users: u64,
    },
    /// Every other delivery updates one of the users that the fill before `--growth` stores; the others have users of their own.
    Stored {
        /// How many are stored.
        users: u64,
    },
}

/// The layout of a request; shared by all connections.
pub struct Layout {
    bytes: Vec<u8>,
    body: Range<usize>,
    delivery_id: Range<usize>,
    attempted_at: Range<usize>,
    signature: Range<usize>,
    subject_ids: Vec<usize>,
    event_type: usize,
    updated_at: Vec<usize>,
    key: Hmac<Sha256>,
}

impl Default for Layout {
    /// Lays out the request.
    fn default() -> Layout {
        let body = user().to_string();
        // The widths are those of the values: an id of 31 characters, seconds, and the Base64 of 32 bytes.
        let head = format!(
            "POST /webhooks/clerk HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: Svix-Webhooks/1.0\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nsvix-id: msg_{ID}\r\n\
             svix-timestamp: 0000000000\r\nsvix-signature: v1,{}\r\n\r\n",
            body.len(),
            "S".repeat(44),
        );
        let after = |name: &str, width: usize| {
            let start = head.find(name).expect("the header is in the head above") + name.len();
            start..start + width
        };
        let positions = |pattern: &str| body.match_indices(pattern).map(|(at, _)| head.len() + at).collect::<Vec<_>>();
        Layout {
            body: head.len()..head.len() + body.len(),
            delivery_id: after("svix-id: ", 31),
            attempted_at: after("svix-timestamp: ", 10),
            signature: after("svix-signature: v1,", 44),
            subject_ids: positions(ID),
            event_type: positions("user.created")[0],
            updated_at: positions(&UPDATED_AT.to_string()),
            key: Hmac::new_from_slice(SIGNING_KEY).expect("HMAC takes keys of any length"),
            bytes: [head.as_bytes(), body.as_bytes()].concat(),
        }
    }
}

impl Layout {
    /// A body of the same kind for rows that are stored before the load; `id` goes where the ids go.
    pub fn stored_body(id: &str) -> String {
        user().to_string().replace(ID, id)
    }
}

/// A connection's own copy of the request, rewritten for each delivery.
pub struct Request {
    layout: Arc<Layout>,
    bytes: Vec<u8>,
    subjects: Subjects,
}

impl Request {
    /// A request for deliveries about `subjects`.
    pub fn new(layout: Arc<Layout>, subjects: Subjects) -> Request {
        Request { bytes: layout.bytes.clone(), layout, subjects }
    }

    /// The request with the `number`-th delivery of the run, signed at `now`.
    pub fn write(&mut self, number: u64, now: SystemTime) -> &[u8] {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let layout = &*self.layout;
        let subject = self.subjects.id(number, since.as_secs());
        for &at in &layout.subject_ids {
            self.bytes[at..at + ID.len()].copy_from_slice(&subject);
        }
        let kind = match self.subjects {
            Subjects::Hot { .. } => TYPES[1],
            _ => TYPES[usize::from(number % 2 == 1)],
        };
        self.bytes[layout.event_type..layout.event_type + kind.len()].copy_from_slice(kind);
        let updated_at = decimal::<13>(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        for &at in &layout.updated_at {
            self.bytes[at..at + updated_at.len()].copy_from_slice(&updated_at);
        }
        self.bytes[layout.delivery_id.start + "msg_".len()..layout.delivery_id.end]
            .copy_from_slice(&fresh_id(number, since.as_secs()));
        self.bytes[layout.attempted_at.clone()].copy_from_slice(&decimal::<10>(since.as_secs()));
        self.sign();
        &self.bytes
    }

    fn sign(&mut self) {
        let layout = &*self.layout;
        let part = |range: &Range<usize>| &self.bytes[range.clone()];
        let seal = seal(&layout.key, part(&layout.delivery_id), part(&layout.attempted_at), part(&layout.body));
        let written = BASE64.encode_slice(seal, &mut self.bytes[layout.signature.clone()]);
        debug_assert_eq!(written, Ok(44));
    }
}

/// What Svix signs: id, seconds and body.
fn seal(key: &Hmac<Sha256>, id: &[u8], attempted_at: &[u8], body: &[u8]) -> [u8; 32] {
    let mut mac = key.clone();
    for part in [id, b".", attempted_at, b".", body] {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// What happens to an organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Organization {
    /// `organization.created`.
    Created,
    /// `organization.deleted`.
    Deleted,
}

impl Organization {
    /// A delivery of its own about this organization, signed at `now`: the header lines that are Svix's, and the body.
    #[must_use]
    pub fn delivery(self, id: &str, now: SystemTime) -> (String, String) {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let (seconds, millis) = (since.as_secs(), u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        let (name, example) = match self {
            Organization::Created => ("new", ORGANIZATION_CREATED),
            Organization::Deleted => ("old", ORGANIZATION_DELETED),
        };
        let mut event: Value = serde_json::from_str(example).expect("the fixture is JSON");
        event["timestamp"] = json!(millis);
        event["data"]["id"] = json!(id);
        if self == Organization::Created {
            event["data"]["created_at"] = json!(millis);
            event["data"]["updated_at"] = json!(millis);
        }
        let (delivery, body) = (format!("msg_{name}_{id}"), event.to_string());
        let key = Hmac::new_from_slice(SIGNING_KEY).expect("HMAC takes keys of any length");
        let seal = seal(&key, delivery.as_bytes(), seconds.to_string().as_bytes(), body.as_bytes());
        let lines = format!(
            "svix-id: {delivery}\r\nsvix-timestamp: {seconds}\r\nsvix-signature: v1,{}\r\n",
            BASE64.encode(seal)
        );
        (lines, body)
    }
}

impl Subjects {
    fn id(self, number: u64, now_s: u64) -> [u8; 27] {
        match self {
            Subjects::Hot { users } => fresh_id(number % users, 0),
            Subjects::Stored { users } if number % 2 == 1 => stored_id(scramble(number) % users + 1),
            Subjects::Distinct | Subjects::Stored { .. } => fresh_id(number, now_s),
        }
    }
}

/// An id like Clerk's and Svix's own (KSUIDs): ascending by second, random within it. Distinct for distinct numbers.
fn fresh_id(number: u64, now_s: u64) -> [u8; 27] {
    let mut id = [b'3'; 27];
    base62(&mut id[1..7], now_s);
    base62(&mut id[7..18], scramble(number));
    base62(&mut id[18..27], scramble(!number));
    id
}

/// The id of the `number`-th stored row, counted from 1. `fill.rs` writes the same in SQL.
fn stored_id(number: u64) -> [u8; 27] {
    let mut id = [b'2'; 27];
    id[1..].copy_from_slice(&decimal::<26>(number));
    id
}

/// A permutation of all numbers that looks random (the last steps of SplitMix64).
fn scramble(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn base62(target: &mut [u8], mut number: u64) {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    for place in target.iter_mut().rev() {
        *place = DIGITS[usize::try_from(number % 62).unwrap_or(0)];
        number /= 62;
    }
}

fn decimal<const WIDTH: usize>(mut number: u64) -> [u8; WIDTH] {
    let mut digits = [b'0'; WIDTH];
    for place in digits.iter_mut().rev() {
        *place = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
    digits
}

/// A user as Clerk sends it: Clerk's example with addresses, an account at Google, a telephone number and metadata.
fn user() -> Value {
    let mut event: Value = serde_json::from_str(EXAMPLE).expect("the fixture is JSON");
    event["timestamp"] = json!(UPDATED_AT);
    let verification =
        json!({ "status": "verified", "strategy": "email_code", "attempts": 1, "expire_at": 1_716_883_800_000_u64 });
    let address = |prefix: &str, name: &str| {
        json!({
            "object": "email_address", "id": format!("{prefix}_{ID}"),
            "email_address": format!("{name}.{ID}@example.com"), "reserved": false, "verification": verification,
            "linked_to": [{ "type": "oauth_google", "id": format!("eac_{ID}") }],
            "matches_sso_connection": false, "created_at": 1_716_883_200_000_u64, "updated_at": 1_716_883_200_000_u64,
        })
    };
    let user = &mut event["data"];
    user["id"] = json!(format!("user_{ID}"));
    user["external_id"] = json!(format!("crm-{ID}"));
    user["username"] = json!(format!("ada-{ID}"));
    user["first_name"] = json!("Ada");
    user["last_name"] = json!("Lovelace");
    user["primary_email_address_id"] = json!(format!("idn_{ID}"));
    user["email_addresses"] = json!([address("idn", "ada"), address("idm", "countess")]);
    user["image_url"] = json!(format!("https://img.clerk.com/{ID}"));
    user["external_accounts"] = json!([{
        "object": "external_account", "id": format!("eac_{ID}"), "provider": "oauth_google",
        "identification_id": format!("idn_{ID}"), "provider_user_id": "104563298710293847561",
        "approved_scopes": "email https://www.googleapis.com/auth/userinfo.email openid profile",
        "email_address": format!("ada.{ID}@example.com"), "first_name": "Ada", "last_name": "Lovelace",
        "image_url": "https://img.clerk.com/account", "username": null, "public_metadata": {}, "label": null,
        "created_at": 1_716_883_200_000_u64, "updated_at": 1_716_883_200_000_u64, "verification": verification,
    }]);
    user["public_metadata"] = json!({ "plan": "team", "seats": 12, "features": ["whiteboard", "code", "conference"] });
    user["unsafe_metadata"] = json!({ "theme": "dark", "locale": "en-GB", "onboarding": { "step": 3, "done": false } });
    user["created_at"] = json!(1_716_883_200_000_u64);
    user["updated_at"] = json!(UPDATED_AT);
    event
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    fn body_of(request: &[u8]) -> Value {
        let text = std::str::from_utf8(request).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
        serde_json::from_str(body).expect("JSON")
    }

    #[test]
    fn a_delivery_has_the_size_and_shape_of_a_real_one() {
        let mut request = Request::new(Arc::new(Layout::default()), Subjects::Distinct);
        let bytes = request.write(1, UNIX_EPOCH + Duration::from_millis(1_800_000_000_123)).to_vec();
        let event = body_of(&bytes);
        assert_eq!(event["type"], "user.updated");
        assert_eq!(event["data"]["updated_at"], 1_800_000_000_123_u64);
        assert_eq!(event["data"]["id"].as_str().map(str::len), Some(32));
        assert_eq!(event["data"]["email_addresses"][0]["id"], event["data"]["primary_email_address_id"]);
        let body = request.layout.body.len();
        assert!((2_700..=3_300).contains(&body), "{body} bytes");
    }

    #[test]
    fn ids_are_distinct_and_hot_subjects_are_few() {
        let ids: BTreeSet<_> = (0..10_000).map(|number| Subjects::Distinct.id(number, 1_800_000_000)).collect();
        assert_eq!(ids.len(), 10_000);
        let hot: BTreeSet<_> = (0..10_000).map(|number| Subjects::Hot { users: 100 }.id(number, number)).collect();
        assert_eq!(hot.len(), 100);
    }

    #[test]
    fn a_delivery_about_an_organization_names_it() {
        let (lines, body) =
            Organization::Deleted.delivery("org_1", UNIX_EPOCH + Duration::from_millis(1_800_000_000_123));
        let event: Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((&event["type"], &event["data"]["id"]), (&json!("organization.deleted"), &json!("org_1")));
        assert_eq!(event["timestamp"], 1_800_000_000_123_u64);
        assert!(lines.starts_with("svix-id: msg_old_org_1\r\nsvix-timestamp: 1800000000\r\nsvix-signature: v1,"));
    }

    /// Svix's published example.
    #[test]
    fn the_signature_is_svix_own() {
        let key = BASE64.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("Base64");
        let key = Hmac::new_from_slice(&key).expect("any length");
        let seal = seal(&key, b"msg_p5jXN8AQM9LWM0D4loKWxJek", b"1614265330", br#"{"test": 2432232314}"#);
        let signature = BASE64.encode(seal);
        assert_eq!(signature, "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}

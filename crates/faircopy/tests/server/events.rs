//! Bodies to send.

use serde_json::{Value, json};

/// When the events of the tests happen: 2024-05-28T08:00:00Z.
pub(crate) const THEN: i64 = 1_716_883_200_000;
pub(crate) const INSTANCE: &str = "ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S";

/// An event around this `data`.
pub(crate) fn event(event_type: &str, data: &Value) -> Value {
    json!({ "object": "event", "type": event_type, "instance_id": INSTANCE, "timestamp": THEN, "data": data })
}

/// A user as Clerk sends it, in a version of this time.
pub(crate) fn user(id: &str, updated_at: i64) -> Value {
    json!({
        "object": "user", "id": id, "first_name": "Ada", "last_name": "Lovelace", "username": null,
        "image_url": "https://img.clerk.com/x", "public_metadata": {}, "banned": false, "locked": false,
        "primary_email_address_id": "idn_1",
        "email_addresses": [{ "id": "idn_1", "email_address": "ada@example.com", "verification": { "status": "verified" } }],
        "created_at": THEN, "updated_at": updated_at,
    })
}

/// `user.created` of this user.
pub(crate) fn user_created(id: &str) -> String {
    event("user.created", &user(id, THEN)).to_string()
}

/// A `user.created` of exactly this many bytes.
pub(crate) fn user_created_of_size(id: &str, bytes: usize) -> String {
    let mut body = event("user.created", &user(id, THEN));
    body["padding"] = "".into();
    let room = bytes - body.to_string().len();
    body["padding"] = "x".repeat(room).into();
    let text = body.to_string();
    assert_eq!(text.len(), bytes);
    text
}

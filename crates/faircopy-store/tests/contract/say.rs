//! Deliveries: those of the model world, and short ones by hand.

use faircopy_core::event::Context;
use faircopy_core::{Millis, ProfileMode};
use faircopy_store::{Arrival, Content};
use faircopy_world::Event;
use serde_json::{Value, json};

/// When every history here begins.
pub(crate) const START: i64 = 1_760_000_000_000;
/// When everything here is signed and committed: after every history, before any invitation of the world expires.
pub(crate) const NOW: Millis = Millis(START + 15 * 24 * 60 * 60 * 1000);
pub(crate) const INSTANCE: &str = "ins_contract";

/// A delivery as the endpoint reads it.
pub(crate) fn arrival_in(mode: ProfileMode, svix_id: &str, body: &[u8], instance: Option<&str>) -> Arrival {
    Arrival {
        svix_id: svix_id.to_owned(),
        signed_at: NOW,
        received_at: NOW,
        body_hash: Arrival::hash(body),
        content: Content::read(body, &Context { mode, signed_at: NOW, instance }),
    }
}

pub(crate) fn raw(svix_id: &str, body: &[u8]) -> Arrival {
    arrival_in(ProfileMode::Full, svix_id, body, None)
}

pub(crate) fn of_world(events: &[Event]) -> Vec<Arrival> {
    events.iter().map(|event| raw(&event.svix_id, event.body.as_bytes())).collect()
}

/// The moment number `n` of a history written by hand.
pub(crate) fn at(n: i64) -> i64 {
    START + n * 1000
}

pub(crate) fn body(event_type: &str, n: i64, data: &Value) -> String {
    json!({"object": "event", "type": event_type, "instance_id": INSTANCE, "timestamp": at(n), "data": data})
        .to_string()
}

/// A delivery of an event that happened at moment `n`.
pub(crate) fn event(svix_id: &str, event_type: &str, n: i64, data: &Value) -> Arrival {
    raw(svix_id, body(event_type, n, data).as_bytes())
}

pub(crate) fn user(id: &str, n: i64, name: &str, metadata: &Value) -> Value {
    json!({"object": "user", "id": id, "first_name": name, "last_name": null, "username": null, "external_id": null,
        "image_url": "https://img.example/u", "email_addresses": [], "primary_email_address_id": null,
        "public_metadata": metadata, "banned": false, "locked": false, "created_at": at(0), "updated_at": at(n)})
}

pub(crate) fn organization(id: &str, n: i64, name: &str, metadata: &Value) -> Value {
    json!({"object": "organization", "id": id, "name": name, "slug": "s", "image_url": null, "created_by": "user_boss",
        "public_metadata": metadata, "created_at": at(0), "updated_at": at(n)})
}

/// A membership that began at moment `began` and looks so at moment `n`.
pub(crate) fn member(id: &str, org: &str, user: &str, began: i64, n: i64, role: &str) -> Value {
    json!({"object": "organization_membership", "id": id, "role": role, "permissions": ["org:read"],
        "organization_id": org, "user_id": user, "created_at": at(began), "updated_at": at(n)})
}

pub(crate) fn invitation(id: &str, org: &str, n: i64, expires: i64, status: &str) -> Value {
    json!({"object": "organization_invitation", "id": id, "organization_id": org, "email_address": "guest@mail.example",
        "role": "org:member", "status": status, "expires_at": at(expires), "created_at": at(0), "updated_at": at(n)})
}

pub(crate) fn gone(object: &str, id: &str) -> Value {
    json!({"object": object, "id": id, "deleted": true})
}

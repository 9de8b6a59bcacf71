//! What the control API shows of endpoints and messages.

use serde::Deserialize;
use serde_json::{Value, json};

use super::failure::Failure;
use crate::post::{Delivery, DeliveryState, Endpoint, Message, Post};

/// How many messages a list has, unless somebody says otherwise.
const DEFAULT_LIMIT: usize = 50;
/// How many messages a list has at most.
const MAX_LIMIT: usize = 500;

/// Which messages are asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct MessageQuery {
    /// With a delivery in this state.
    state: Option<DeliveryState>,
    /// Of this event type.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Addressed to this endpoint.
    endpoint: Option<String>,
    /// Older than the message of this id.
    before: Option<String>,
    /// So many at most.
    limit: Option<usize>,
}

impl MessageQuery {
    fn fits(&self, message: &Message) -> bool {
        let of = |id: &String| self.endpoint.as_ref().is_none_or(|wanted| wanted == id);
        let stands = |delivery: &Delivery| self.state.is_none_or(|wanted| wanted == delivery.state);
        let any_delivery = message.deliveries.iter().any(|(id, delivery)| of(id) && stands(delivery));
        let is_wanted = (self.state.is_none() && self.endpoint.is_none()) || any_delivery;
        is_wanted && self.kind.as_ref().is_none_or(|kind| *kind == message.kind)
    }
}

pub(super) fn endpoint(endpoint: &Endpoint) -> Value {
    json!({
        "id": endpoint.id,
        "url": endpoint.url,
        "description": endpoint.description,
        "events": endpoint.events,
        "secret": endpoint.secret(),
        "secrets": endpoint.secrets,
        "disabled": endpoint.disabled.is_some(),
        "disabled_by": endpoint.disabled.map(|disabled| disabled.by),
        "disabled_since_ms": endpoint.disabled.map(|disabled| disabled.since_ms),
        "failing": endpoint.failing.is_some(),
        "created_at_ms": endpoint.created_at_ms,
    })
}

fn delivery(delivery: &Delivery) -> Value {
    let last = delivery.attempts.last();
    json!({
        "state": delivery.state,
        "attempt_count": delivery.attempts.len(),
        "next_at_ms": delivery.next_at_ms(),
        "last_attempt": last,
    })
}

/// A message without its body and with the last attempt of each delivery.
fn summary(message: &Message) -> Value {
    let deliveries = message.deliveries.iter().map(|(id, found)| (id.clone(), delivery(found)));
    json!({
        "id": message.id,
        "type": message.kind,
        "created_at_ms": message.created_at_ms,
        "deliveries": Value::Object(deliveries.collect()),
    })
}

/// A message with its body as it is sent, and all attempts.
pub(super) fn message(message: &Message) -> Value {
    let mut view = summary(message);
    view["body"] = Value::String(message.body.clone());
    for (id, found) in &message.deliveries {
        view["deliveries"][id]["attempts"] = json!(found.attempts);
    }
    view
}

/// A page of messages, the newest first; `next` goes on.
pub(super) fn messages(post: &Post, query: &MessageQuery) -> Result<Value, Failure> {
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(Failure::unfit("limit", format!("`limit` must be from 1 to {MAX_LIMIT}")));
    }
    let before =
        query.before.as_ref().map(|id| post.message(id)).transpose()?.map_or(u64::MAX, |message| message.number);
    let found = post.messages_before(before).filter(|message| query.fits(message));
    let mut found: Vec<&Message> = found.take(limit + 1).collect();
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|last| last.id.clone());
    Ok(json!({ "data": found.into_iter().map(summary).collect::<Vec<_>>(), "next": next }))
}

/// How many deliveries stand how, by the words of the states.
pub(super) fn counts(post: &Post) -> Value {
    let counts = post.counts().into_iter().map(|(state, count)| (state.as_str().to_owned(), json!(count)));
    let mut view = Value::Object(counts.collect());
    view["under_way"] = json!(post.under_way());
    view
}

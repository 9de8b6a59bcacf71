//! Endpoints and messages.

use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::views::{self, MessageQuery};
use super::{Answer, Asked, Body, On};
use crate::post::{EndpointChange, NewEndpoint, Post, Refused};

pub(super) async fn endpoints(State(shared): On) -> Answer {
    shared.with(|state, _| Ok(Json(json!({ "data": state.post.endpoints().map(views::endpoint).collect::<Vec<_>>() }))))
}

fn shown(post: &Post, id: &str) -> Answer {
    Ok(Json(views::endpoint(post.endpoint(id)?)))
}

pub(super) async fn endpoint(State(shared): On, Path(id): Path<String>) -> Answer {
    shared.with(|state, _| shown(&state.post, &id))
}

pub(super) async fn add_endpoint(State(shared): On, Body(new): Body<NewEndpoint>) -> Answer {
    shared.with(|state, now| {
        let id = state.post.add_endpoint(new, now)?;
        shown(&state.post, &id)
    })
}

pub(super) async fn change_endpoint(
    State(shared): On,
    Path(id): Path<String>,
    Body(change): Body<EndpointChange>,
) -> Answer {
    shared.with(|state, now| {
        state.post.change_endpoint(&id, change, now)?;
        shown(&state.post, &id)
    })
}

pub(super) async fn remove_endpoint(State(shared): On, Path(id): Path<String>) -> Answer {
    shared.with(|state, _| state.post.remove_endpoint(&id))?;
    Ok(Json(json!({ "id": id, "object": "endpoint", "deleted": true })))
}

/// A new secret.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Rotation {
    secret: Option<String>,
    overlap_ms: Option<i64>,
}

pub(super) async fn rotate_secret(State(shared): On, Path(id): Path<String>, Body(new): Body<Rotation>) -> Answer {
    shared.with(|state, now| {
        state.post.rotate_secret(&id, new.secret, new.overlap_ms, now)?;
        shown(&state.post, &id)
    })
}

/// From when on.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Since {
    since_ms: i64,
}

fn sent(count: Result<usize, Refused>) -> Answer {
    Ok(Json(json!({ "sent": count? })))
}

pub(super) async fn replay_missing(State(shared): On, Path(id): Path<String>, Body(since): Body<Since>) -> Answer {
    sent(shared.with(|state, now| state.post.replay_missing(&id, since.since_ms, now)))
}

pub(super) async fn recover(State(shared): On, Path(id): Path<String>, Body(since): Body<Since>) -> Answer {
    sent(shared.with(|state, now| state.post.recover(&id, since.since_ms, now)))
}

pub(super) async fn messages(State(shared): On, Asked(query): Asked<MessageQuery>) -> Answer {
    let page: Value = shared.with(|state, _| views::messages(&state.post, &query))?;
    Ok(Json(page))
}

pub(super) async fn message(State(shared): On, Path(id): Path<String>) -> Answer {
    shared.with(|state, _| Ok(Json(views::message(state.post.message(&id)?))))
}

/// Where to.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Destination {
    endpoint: Option<String>,
}

pub(super) async fn resend(State(shared): On, Path(id): Path<String>, Body(to): Body<Destination>) -> Answer {
    sent(shared.with(|state, now| state.post.resend(&id, to.endpoint.as_deref(), now)))
}

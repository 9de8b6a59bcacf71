//! Rooms behind HTTP.

use std::io;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::{BytesRejection, JsonRejection, PathRejection, QueryRejection};
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::{any, get, post, put};
use futures_util::stream;
use serde_json::{Value, json};

use super::rooms::Refusal;
use super::state::{Answer, Call};
use super::{Faults, Liveblocks};

/// Bytes of a body: 50 entries of metadata and 200 ids of accesses need less than a tenth of it.
const MAX_BODY_BYTES: usize = 256 * 1024;

type Reply = Response<Body>;
type Parameters = Result<Query<Vec<(String, String)>>, QueryRejection>;

pub(super) fn api(liveblocks: Liveblocks) -> Router {
    Router::new()
        .route("/v2/rooms", get(list).post(create).fallback(unknown))
        .route("/v2/rooms/{id}", get(room).delete(delete).fallback(unknown))
        .route("/v2", any(unknown))
        .route("/v2/{*path}", any(unknown))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(liveblocks)
}

pub(super) fn control(liveblocks: Liveblocks) -> Router {
    Router::new()
        .route("/liveblocks", get(shown))
        .route("/liveblocks/faults", put(set_faults))
        .route("/liveblocks/requests", get(requests).delete(forget))
        .route("/liveblocks/rooms/{id}/reconnect", post(reconnect))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(liveblocks)
}

async fn list(State(liveblocks): State<Liveblocks>, headers: HeaderMap, parameters: Parameters) -> Reply {
    let call = parameters.map(|Query(parameters)| Call::List(parameters)).unwrap_or(Call::Unknown);
    reply(&liveblocks, &headers, call).await
}

async fn create(
    State(liveblocks): State<Liveblocks>,
    headers: HeaderMap,
    parameters: Parameters,
    body: Result<Bytes, BytesRejection>,
) -> Reply {
    let asked = parameters.map(|Query(parameters)| parameters).unwrap_or_default();
    let value = asked.iter().find(|(name, _)| name == "idempotent").map(|(_, value)| value.as_str());
    let idempotent = value.is_some_and(|value| value != "false");
    // A body that is too long is answered like any other that is no room.
    let call = Call::Create { body: body.unwrap_or_default().to_vec(), idempotent };
    reply(&liveblocks, &headers, call).await
}

async fn room(
    State(liveblocks): State<Liveblocks>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
) -> Reply {
    reply(&liveblocks, &headers, named(id, Call::Get)).await
}

async fn delete(
    State(liveblocks): State<Liveblocks>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
) -> Reply {
    reply(&liveblocks, &headers, named(id, Call::Delete)).await
}

/// A name that is no text names no room.
fn named(id: Result<Path<String>, PathRejection>, call: fn(String) -> Call) -> Call {
    id.map_or(Call::Unknown, |Path(id)| call(id))
}

async fn unknown(State(liveblocks): State<Liveblocks>, headers: HeaderMap) -> Reply {
    reply(&liveblocks, &headers, Call::Unknown).await
}

async fn reply(liveblocks: &Liveblocks, headers: &HeaderMap, call: Call) -> Reply {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let answer = liveblocks.answer(authorization, &call);
    if answer.latency_ms > 0 {
        tokio::time::sleep(Duration::from_millis(answer.latency_ms)).await;
    }
    written(answer)
}

fn written(answer: Answer) -> Reply {
    let Some(status) = answer.status.and_then(|status| StatusCode::from_u16(status).ok()) else {
        return silence();
    };
    let mut reply = match answer.body {
        Some(body) => (status, Json(body)).into_response(),
        None => status.into_response(),
    };
    if let Some(seconds) = answer.retry_after_s {
        reply.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    reply
}

/// No answer: the body fails before the head has left, and the server closes the connection.
fn silence() -> Reply {
    let end = Err::<Bytes, io::Error>(io::Error::other("the connection is closed on request"));
    Response::new(Body::from_stream(stream::iter([end])))
}

async fn shown(State(liveblocks): State<Liveblocks>) -> Json<Value> {
    let key = liveblocks.key().to_owned();
    liveblocks.with(|state| {
        let rooms: Vec<Value> = state.rooms.all().map(super::Room::document).collect();
        Json(json!({ "secret_key": key, "faults": state.faults, "counts": state.counts, "rooms": rooms }))
    })
}

async fn set_faults(State(liveblocks): State<Liveblocks>, faults: Result<Json<Faults>, JsonRejection>) -> Reply {
    let faults = match faults {
        Ok(Json(faults)) => faults,
        Err(rejection) => return refused(&Refusal::unprocessable(rejection.body_text())),
    };
    match liveblocks.set_faults(faults.clone()) {
        Ok(()) => Json(faults).into_response(),
        Err(rule) => refused(&Refusal::unprocessable(rule)),
    }
}

async fn requests(State(liveblocks): State<Liveblocks>) -> Json<Value> {
    liveblocks.with(|state| Json(json!({ "counts": state.counts, "requests": state.requests })))
}

async fn forget(State(liveblocks): State<Liveblocks>) -> StatusCode {
    liveblocks.with(super::State::forget_requests);
    StatusCode::NO_CONTENT
}

async fn reconnect(State(liveblocks): State<Liveblocks>, Path(id): Path<String>) -> Reply {
    liveblocks.reconnect(&id).map_or_else(|refusal| refused(&refusal), |room| Json(room.document()).into_response())
}

fn refused(refusal: &Refusal) -> Reply {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(refusal.body())).into_response()
}

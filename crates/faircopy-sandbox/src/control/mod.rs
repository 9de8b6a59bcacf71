//! The control API, `/sandbox/v1/…`: what no Clerk has. Errors come in Clerk's envelope (docs/sandbox.md has every route).

mod clock;
mod deliveries;
mod failure;
mod guard;
mod settings;
mod tokens;
mod views;
mod world;

pub use failure::Failure;
pub use guard::{Door, Shut};

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use bytes::Bytes;
use http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::instance::Kind;
use crate::state::Shared;

/// The largest body: no setting is longer.
const MAX_BODY: usize = 64 * 1024;

/// What the handlers share.
type On = State<Arc<Shared>>;
/// What they answer.
type Answer = Result<axum::Json<Value>, Failure>;

/// A JSON body, or none for `{}`; refused in Clerk's envelope.
struct Body<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|rejection| Failure::new(rejection.status(), "request_body_invalid", rejection.body_text()))?;
        let text: &[u8] = if bytes.is_empty() { b"{}" } else { &bytes };
        let read = serde_json::from_slice(text);
        read.map(Self).map_err(|error| Failure::unfit("body", format!("The body cannot be read: {error}.")))
    }
}

/// Parameters, refused in Clerk's envelope.
struct Asked<T>(T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let read = axum::extract::Query::from_request_parts(parts, state).await;
        read.map(|axum::extract::Query(asked)| Self(asked))
            .map_err(|rejection| Failure::unfit("query", format!("{}.", rejection.body_text())))
    }
}

/// The routes, and those of other parts, behind the door.
pub fn routes(shared: Arc<Shared>, others: Router, door: Door) -> Router {
    let routes = Router::new()
        .route("/status", get(status))
        .route("/endpoints", get(deliveries::endpoints).post(deliveries::add_endpoint))
        .route(
            "/endpoints/{id}",
            get(deliveries::endpoint).patch(deliveries::change_endpoint).delete(deliveries::remove_endpoint),
        )
        .route("/endpoints/{id}/rotate-secret", post(deliveries::rotate_secret))
        .route("/endpoints/{id}/replay-missing", post(deliveries::replay_missing))
        .route("/endpoints/{id}/recover", post(deliveries::recover))
        .route("/messages", get(deliveries::messages))
        .route("/messages/{id}", get(deliveries::message))
        .route("/messages/{id}/resend", post(deliveries::resend))
        .route("/schedule", get(settings::schedule).patch(settings::change_schedule))
        .route(
            "/chaos",
            get(settings::chaos).put(settings::set_chaos).patch(settings::change_chaos).delete(settings::calm),
        )
        .route("/options", get(settings::options).patch(settings::change_options))
        .route("/clock", get(clock::show))
        .route("/clock/advance", post(clock::advance))
        .route("/tokens", post(tokens::mint))
        .route("/populate", post(world::populate))
        .route("/invitations/{id}/accept", post(world::accept_invitation))
        .route("/organizations/{id}", delete(world::delete_organization))
        .route("/users/{id}", delete(world::delete_user))
        .fallback(|| async { Failure::not_found("The control API has no such route: see docs/sandbox.md.") })
        .method_not_allowed_fallback(|| async {
            Failure::new(http::StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "This route takes another method.")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(shared)
        .merge(others)
        .layer(middleware::from_fn_with_state(Arc::new(door), guarded));
    Router::new().nest("/sandbox/v1", routes)
}

async fn guarded(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    match door.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(shut) => Failure::from(shut).into_response(),
    }
}

/// Everything at a glance, with the names and keys that others need.
async fn status(State(shared): On) -> Answer {
    let keys = shared.keys();
    let mut view = json!({
        "instance_id": keys.instance_id(),
        "issuer": keys.issuer(),
        "publishable_key": keys.publishable_key(),
        "secret_key": keys.secret_key(),
        "jwt_key": keys.pem(),
    });
    shared.with(|state, now| {
        let names = ["users", "organizations", "memberships", "invitations", "sessions"];
        let counts =
            names.into_iter().zip(Kind::ALL).map(|(name, kind)| (name.to_owned(), json!(state.instance.count(kind))));
        view["now_ms"] = json!(now);
        view["counts"] = Value::Object(counts.collect());
        view["options"] = json!(state.instance.options());
        view["schedule"] = json!(state.post.settings());
        view["deliveries"] = views::counts(&state.post);
        view["endpoints"] = json!(state.post.endpoints().map(views::endpoint).collect::<Vec<_>>());
        view["chaos"] = json!(state.chaos().settings());
    });
    Ok(axum::Json(view))
}

//! Is it alive, is it ready, and its figures.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;
use crate::app::App;

/// That the process answers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Live {
    #[schema(example = "ok")]
    status: &'static str,
}

/// That the database answers and its schema is complete.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ready {
    #[schema(example = "ready")]
    status: &'static str,
    sessions: Sessions,
    /// What is known of the Backend API's key.
    #[schema(example = "not configured")]
    clerk: &'static str,
}

/// Whether session tokens can be verified.
#[derive(Debug, Serialize, ToSchema)]
enum Sessions {
    #[serde(rename = "not configured")]
    NotConfigured,
    #[serde(rename = "no keys")]
    NoKeys,
    #[serde(rename = "ready")]
    Ready,
}

/// Alive: the process answers.
#[utoipa::path(get, path = "/healthz", operation_id = "getLiveness", tag = "service",
    responses((status = 200, description = "It does.", body = Live)))]
pub(super) async fn live() -> Json<Live> {
    Json(Live { status: "ok" })
}

/// Ready: the database answers and its schema is complete.
///
/// Whether session tokens can be verified is said beside it: a replica without keys still takes deliveries, and must not
/// lose them because Clerk cannot be reached. So is what is known of the Backend API's key.
#[utoipa::path(get, path = "/readyz", operation_id = "getReadiness", tag = "service",
    responses((status = 200, description = "It is.", body = Ready)))]
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.store.ready().await {
        Ok(true) => {
            let sessions = match (app.config.sessions.are_configured(), app.keys.is_ready()) {
                (false, _) => Sessions::NotConfigured,
                (true, false) => Sessions::NoKeys,
                (true, true) => Sessions::Ready,
            };
            let clerk = app.clerk.as_ref().map_or("not configured", |clerk| clerk.verdict().as_str());
            Json(Ready { status: "ready", sessions, clerk }).into_response()
        }
        Ok(false) => {
            Problem::new("database-unavailable", "Migrations are pending: run `faircopy migrate`.").into_response()
        }
        Err(error) => Problem::from(error).into_response(),
    }
}

/// The figures in Prometheus' text form.
#[utoipa::path(get, path = "/metrics", operation_id = "getMetrics", tag = "service",
    responses((status = 200, description = "All figures.", body = String, content_type = "text/plain")))]
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    app.metrics.waiting(app.intake.waiting());
    if let Some(age) = app.keys.age_ms() {
        app.metrics.keys_age(age);
    }
    if let Some(found) = app.store.second_wall_if_known() {
        app.metrics.second_wall(found);
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.render()).into_response()
}

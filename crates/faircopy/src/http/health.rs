//! Is it alive, is it ready, and its figures.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use serde_json::json;

use super::problem::Problem;
use crate::app::App;

/// The process answers.
pub(super) async fn live() -> Json<serde_json::Value> {
    Json(json!({ "status": "ok" }))
}

/// The database answers and its schema is complete. Whether session tokens can be verified is said beside it: a replica
/// without keys still takes deliveries, and must not lose them because Clerk cannot be reached.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.store.ready().await {
        Ok(true) => {
            let sessions = match (app.config.sessions.are_configured(), app.keys.is_ready()) {
                (false, _) => "not configured",
                (true, false) => "no keys",
                (true, true) => "ready",
            };
            Json(json!({ "status": "ready", "sessions": sessions })).into_response()
        }
        Ok(false) => {
            Problem::new("database-unavailable", "Migrations are pending: run `faircopy migrate`.").into_response()
        }
        Err(error) => Problem::from(error).into_response(),
    }
}

/// The figures in Prometheus' text form.
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

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

/// The database answers and its schema is complete.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.store.ready().await {
        Ok(true) => Json(json!({ "status": "ready" })).into_response(),
        Ok(false) => {
            Problem::new("database-unavailable", "Migrations are pending: run `faircopy migrate`.").into_response()
        }
        Err(error) => Problem::from(error).into_response(),
    }
}

/// The figures in Prometheus' text form.
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    app.metrics.waiting(app.intake.waiting());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], app.metrics.render()).into_response()
}

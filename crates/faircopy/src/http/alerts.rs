//! Who is told of trouble, and of what: for the operator.
#![allow(unused_qualifications, reason = "what utoipa makes of `params(…)` qualifies the name that it was given")]

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use faircopy_core::Millis;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;
use crate::alerts::{self, Overview, Tested};
use crate::app::App;

/// Up to when quarantined deliveries are known.
#[derive(Debug, Serialize, ToSchema)]
// A delivery is acknowledged, too.
#[schema(as = Known)]
pub(super) struct Acknowledged {
    /// Those that arrived until then are no finding any more.
    #[schema(value_type = String, format = DateTime)]
    until: Millis,
}

/// Who is told of trouble, and what is and was told.
#[utoipa::path(get, path = "/admin/v1/alerts", operation_id = "listAlerts", tag = "admin",
    responses((status = 200, description = "The targets, and the newest alerts.", body = Overview)))]
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Json<Overview>, Problem> {
    Ok(Json(alerts::overview(&app.store, &app.config.alerts).await?))
}

/// Sends a target a message that says that it is a test.
///
/// A 200 says that it was tried: `status` and `error` say what the target made of it.
#[utoipa::path(post, path = "/admin/v1/alerts/{target}/test", operation_id = "testAlertTarget", tag = "admin",
    params(("target" = String, Path, description = "The target's name in the settings.", example = "on-call")),
    responses((status = 200, description = "What the target answered.", body = Tested)))]
pub(super) async fn test(
    State(app): State<Arc<App>>,
    target: Result<Path<String>, PathRejection>,
) -> Result<Json<Tested>, Problem> {
    let unknown = || Problem::new("record-not-found", "No alert target has this name.");
    let Path(name) = target.map_err(|_| unknown())?;
    let target = app.alert_targets.iter().find(|target| target.name() == name).ok_or_else(unknown)?;
    Ok(Json(alerts::test(target, &app.store, app.clock.now()).await?))
}

/// Says that the quarantined deliveries are known: they stay where they are, and are no finding any more.
#[utoipa::path(post, path = "/admin/v1/alerts/acknowledge", operation_id = "acknowledgeQuarantined", tag = "admin",
    responses((status = 200, description = "They are known from now on.", body = Acknowledged)))]
pub(super) async fn acknowledge(State(app): State<Arc<App>>) -> Result<Json<Acknowledged>, Problem> {
    Ok(Json(Acknowledged { until: alerts::acknowledge(&app.store, app.clock.now()).await? }))
}

//! The places that the copy goes on to, for the operator.
#![allow(unused_qualifications, reason = "what utoipa makes of `params(…)` qualifies the name that it was given")]

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use faircopy_store::DestinationOrder;
use serde::Deserialize;
use utoipa::IntoParams;

use super::admin::checked;
use super::problem::Problem;
use crate::app::App;
use crate::destinations::{self, Detail, Overview, Shown, Unchanged};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RewindQuery {
    /// The number of the change feed after which it is told everything again.
    #[param(value_type = i64, minimum = 0)]
    to: i64,
}

/// The places that the copy goes on to, and where each stands.
#[utoipa::path(get, path = "/admin/v1/destinations", operation_id = "listDestinations", tag = "admin",
    responses((status = 200, description = "Every destination.", body = Overview)))]
pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Json<Overview>, Problem> {
    Ok(Json(destinations::overview(&app.store, &app.config.destinations, app.clock.now()).await?))
}

/// One destination, and whose changes it did not take.
#[utoipa::path(get, path = "/admin/v1/destinations/{name}", operation_id = "getDestination", tag = "admin",
    params(("name" = String, Path, description = "Its name in the settings.", example = "crm")),
    responses((status = 200, description = "The destination.", body = Detail)))]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Detail>, Problem> {
    let name = named(name)?;
    let detail = destinations::detail(&app.store, &app.config.destinations, &name, app.clock.now()).await?;
    detail.map(Json).ok_or_else(unknown)
}

/// Stops telling a destination anything, until it is resumed.
#[utoipa::path(post, path = "/admin/v1/destinations/{name}/pause", operation_id = "pauseDestination", tag = "admin",
    params(("name" = String, Path, description = "Its name in the settings.", example = "crm")),
    responses((status = 200, description = "The destination as it stands now.", body = Shown)))]
pub(super) async fn pause(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Shown>, Problem> {
    order(&app, name, DestinationOrder::Pause).await
}

/// Goes on telling it, and tries at once what waits and what is parked.
#[utoipa::path(post, path = "/admin/v1/destinations/{name}/resume", operation_id = "resumeDestination", tag = "admin",
    params(("name" = String, Path, description = "Its name in the settings.", example = "crm")),
    responses((status = 200, description = "The destination as it stands now.", body = Shown)))]
pub(super) async fn resume(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Shown>, Problem> {
    order(&app, name, DestinationOrder::Resume).await
}

/// Tells it the change feed again after an earlier number: for a destination that was restored from a backup.
#[utoipa::path(post, path = "/admin/v1/destinations/{name}/rewind", operation_id = "rewindDestination", tag = "admin",
    params(("name" = String, Path, description = "Its name in the settings.", example = "crm"), RewindQuery),
    responses((status = 200, description = "The destination as it stands now.", body = Shown)))]
pub(super) async fn rewind(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
    query: Result<Query<RewindQuery>, QueryRejection>,
) -> Result<Json<Shown>, Problem> {
    let RewindQuery { to } = checked(query)?;
    if to < 0 {
        return Err(Problem::new("invalid-parameter", "`to` must be a number of the change feed, or 0."));
    }
    order(&app, name, DestinationOrder::Rewind(to)).await
}

/// Sends it everything that the copy holds, and then tells it what the copy does not hold.
#[utoipa::path(post, path = "/admin/v1/destinations/{name}/resend", operation_id = "resendDestination", tag = "admin",
    params(("name" = String, Path, description = "Its name in the settings.", example = "crm")),
    responses((status = 200, description = "The destination as it stands now.", body = Shown)))]
pub(super) async fn resend(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<Shown>, Problem> {
    order(&app, name, DestinationOrder::Resend).await
}

async fn order(
    app: &App,
    name: Result<Path<String>, PathRejection>,
    order: DestinationOrder,
) -> Result<Json<Shown>, Problem> {
    let name = named(name)?;
    let carried = destinations::carry_out(&app.store, &app.config.destinations, &name, order, app.clock.now()).await;
    match carried {
        Ok(shown) => Ok(Json(shown)),
        Err(Unchanged::Unknown) => Err(unknown()),
        Err(Unchanged::Store(error)) => Err(error.into()),
        Err(refused @ Unchanged::Refused(_)) => Err(Problem::new("destination-not-changed", format!("{refused}."))),
    }
}

fn named(name: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    name.map(|Path(name)| name).map_err(|_| unknown())
}

fn unknown() -> Problem {
    Problem::new("record-not-found", "No destination has this name.")
}

//! Deletions, for the operator.
#![allow(unused_qualifications, reason = "what utoipa makes of `params(…)` qualifies the name that it was given")]

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use faircopy_core::Millis;
use serde::Deserialize;
use utoipa::IntoParams;

use super::admin::{checked, page};
use super::cursor::{Scope, Sealer};
use super::problem::Problem;
use super::records::{Page, paged};
use crate::app::App;
use crate::cascade::{self, Deletion, Order, Plan, Receipt, Unchanged};

/// Whoever holds the admin token is one reader.
const JOBS: Scope<'_> = Scope { list: "/admin/v1/jobs", user: "", organization: "" };

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Only those that are not done.
    #[param(value_type = bool, required = false)]
    open: Option<bool>,
    /// How many at most.
    #[param(value_type = i64, required = false, minimum = 1, maximum = 100, default = 50)]
    limit: Option<i64>,
    /// The `next` of the page before.
    #[param(value_type = String, required = false)]
    after: Option<String>,
}

/// Deletions of organizations and users, newest first.
#[utoipa::path(get, path = "/admin/v1/jobs", operation_id = "listJobs", tag = "admin", params(ListQuery),
    responses((status = 200, description = "A page of deletions.",
        body = Page<Deletion>, links(
            ("job" = (operation_id = "getJob", parameters(("id" = "$response.body#/data/0/id")))),
            ("next" = (operation_id = "listJobs", parameters(("after" = "$response.body#/next"))))))))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Page<Deletion>>, Problem> {
    let query = checked(query)?;
    let limit = page(query.limit)?;
    let cursors = Sealer::of(&app).await?;
    let place = query.after.map(|after| cursors.open(JOBS, &after)).transpose()?;
    let place = place.as_deref().and_then(|place| place.split_once(' '));
    let before = place.and_then(|(at, subject)| Some((Millis(at.parse().ok()?), subject)));
    let found = app.store.cascades_before(before, query.open == Some(true), limit + 1).await?;
    let place = |last: &faircopy_store::Cascade| format!("{} {}", last.job.created_at.0, last.subject);
    let Page { data, next } = paged(found, limit, |last| cursors.seal(JOBS, &place(last)));
    Ok(Json(Page { data: data.into_iter().map(Deletion::from).collect(), next }))
}

/// One deletion: how far it is, what went, what is left; in the end, its receipt.
#[utoipa::path(get, path = "/admin/v1/jobs/{id}", operation_id = "getJob", tag = "admin",
    params(("id" = String, Path, description = "The organization's or user's id.")),
    responses((status = 200, description = "The deletion.", body = Receipt)))]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Receipt>, Problem> {
    let id = named(id)?;
    cascade::receipt(&app.store, &id).await?.map(Json).ok_or_else(unknown)
}

/// What would go with an organization or a user, if it went now; or is still to go. Changes nothing.
#[utoipa::path(get, path = "/admin/v1/jobs/{id}/plan", operation_id = "planJob", tag = "admin",
    params(("id" = String, Path, description = "The organization's or user's id, whether there is a job or not.")),
    responses((status = 200, description = "Rows by table, and what they have outside.", body = Plan)))]
pub(super) async fn plan(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Plan>, Problem> {
    Ok(Json(cascade::plan(&app.store, &app.config, &named(id)?).await?))
}

/// Stops a deletion. Nothing is lost before its hold is over; later, what is gone is gone.
#[utoipa::path(post, path = "/admin/v1/jobs/{id}/cancel", operation_id = "cancelJob", tag = "admin",
    params(("id" = String, Path, description = "The organization's or user's id.")),
    responses((status = 200, description = "The deletion as it stands now.", body = Deletion)))]
pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Deletion>, Problem> {
    order(&app, &named(id)?, Order::Cancel).await
}

/// Lets a paused or cancelled deletion go on, and what was left outside for want of a key.
#[utoipa::path(post, path = "/admin/v1/jobs/{id}/resume", operation_id = "resumeJob", tag = "admin",
    params(("id" = String, Path, description = "The organization's or user's id.")),
    responses((status = 200, description = "The deletion as it stands now.", body = Deletion)))]
pub(super) async fn resume(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Deletion>, Problem> {
    order(&app, &named(id)?, Order::Resume).await
}

async fn order(app: &App, id: &str, order: Order) -> Result<Json<Deletion>, Problem> {
    let changed = cascade::carry_out(&app.store, id, order, app.clock.now()).await;
    app.cascades.notify_one();
    match changed {
        Ok(cascade) => Ok(Json(cascade.into())),
        Err(Unchanged::Unknown) => Err(unknown()),
        Err(Unchanged::Store(error)) => Err(error.into()),
        Err(refused @ (Unchanged::Refused(_) | Unchanged::Changing)) => {
            Err(Problem::new("job-not-changed", format!("{refused}.")))
        }
    }
}

fn named(id: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    id.map(|Path(id)| id).map_err(|_| unknown())
}

fn unknown() -> Problem {
    Problem::new("record-not-found", "Nothing is being deleted under this id.")
}

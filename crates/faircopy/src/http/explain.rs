//! Why the copy holds what it holds, for the operator.
#![allow(unused_qualifications, reason = "what utoipa makes of `params(…)` qualifies the name that it was given")]

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use utoipa::IntoParams;

use super::admin::{checked, time};
use super::problem::Problem;
use crate::app::App;
use crate::explain::{self, Explanation, FORMS};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainQuery {
    /// What the copy held then; now unless given.
    #[param(value_type = String, format = DateTime, required = false, example = "2026-01-31T12:00:00Z")]
    as_of: Option<String>,
}

/// Everything that came of a user, an organization, a membership or an invitation, in order: what won, what lost and why, and the row
/// that it came to.
#[utoipa::path(get, path = "/admin/v1/explain/{subject}", operation_id = "explain", tag = "admin", params(
    ("subject" = String, Path, description = "An id of Clerk's: `user_…`, `org_…`, `orgmem_…` or `orginv_…`; or a pair \
        `org_…/user_…`, whose `/` is sent as `%2F`.",
        pattern = "^((user|org|orgmem|orginv)_[A-Za-z0-9_-]{1,60}|org_[A-Za-z0-9_-]{1,60}/user_[A-Za-z0-9_-]{1,60})$", example = "user_29w83sxmDNGwOuEthce5gg56FcC"),
    ExplainQuery),
    responses((status = 200, description = "The explanation.", body = Explanation)))]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    subject: Result<Path<String>, PathRejection>,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Result<Json<Explanation>, Problem> {
    let as_of = checked(query)?.as_of.map(|text| time(&text, "as_of")).transpose()?;
    let no_id = || Problem::new("invalid-parameter", format!("This is no id of a subject; expected {FORMS}."));
    let Path(text) = subject.map_err(|_| no_id())?;
    let subject = explain::subject(&text).ok_or_else(no_id)?;
    let found = explain::explain(&app.store, app.config.profile_mode, &subject, as_of, app.clock.now()).await?;
    let unknown =
        || Problem::new("record-not-found", format!("Nothing was ever told of {subject}, as far as is stored."));
    found.map(Json).ok_or_else(unknown)
}

//! Receipts of erasures, for the operator.
#![allow(unused_qualifications, reason = "what utoipa makes of `params(…)` qualifies the name that it was given")]

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use faircopy_core::Millis;
use faircopy_store::Erasure;

use super::admin::{checked, page};
use super::cursor::{Scope, Sealer};
use super::problem::Problem;
use super::records::{Page, PageQuery, paged};
use crate::app::App;

/// Whoever holds the admin token is one reader.
const ERASURES: Scope<'_> = Scope { list: "/admin/v1/erasures", user: "", organization: "" };

/// Erasures of deleted users, newest first.
#[utoipa::path(get, path = "/admin/v1/erasures", operation_id = "listErasures", tag = "admin", params(PageQuery),
    responses((status = 200, description = "A page of erasures.",
        body = Page<Erasure>, links(
            ("erasure" = (operation_id = "getErasure",
                parameters(("clerk_user_id" = "$response.body#/data/0/clerk_user_id")))),
            ("next" = (operation_id = "listErasures", parameters(("after" = "$response.body#/next"))))))))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Page<Erasure>>, Problem> {
    let query = checked(query)?;
    let limit = page(query.limit)?;
    let cursors = Sealer::of(&app).await?;
    let place = query.after.map(|after| cursors.open(ERASURES, &after)).transpose()?;
    let place = place.as_deref().and_then(|place| place.split_once(' '));
    let before = place.and_then(|(at, user)| Some((Millis::parse(at)?, user)));
    let found = app.store.erasures_before(before, limit + 1).await?;
    let place = |last: &Erasure| format!("{} {}", last.began_at, last.clerk_user_id);
    Ok(Json(paged(found, limit, |last| cursors.seal(ERASURES, &place(last)))))
}

/// The erasure of one deleted user: how far it is; in the end, its receipt.
#[utoipa::path(get, path = "/admin/v1/erasures/{clerk_user_id}", operation_id = "getErasure", tag = "admin",
    params(("clerk_user_id" = String, Path, description = "The user's id.")),
    responses((status = 200, description = "The erasure.", body = Erasure)))]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Erasure>, Problem> {
    let unknown = || Problem::new("record-not-found", "No user was erased under this id.");
    let Path(id) = id.map_err(|_| unknown())?;
    if id.contains('\0') {
        return Err(unknown());
    }
    app.store.erasure(&id).await?.map(Json).ok_or_else(unknown)
}

//! The read API: what the caller may see of the copy, and nothing of what else there is.
#![allow(unused_qualifications, reason = "what utoipa makes of `params(…)` qualifies the name that it was given")]

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::{Extension, Json};
use faircopy_core::UserId;
use faircopy_store::{Membership, OrganizationRecord, Person, UserRecord, WorkspaceRecord};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::cursor::{Scope, Sealer};
use super::problem::Problem;
use super::session::{Caller, missing};
use crate::app::App;

/// The largest page.
const MAX_PAGE: i64 = 100;
/// A page unless asked otherwise.
const DEFAULT_PAGE: i64 = 50;

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Page<T> {
    /// In the order of the list.
    pub(super) data: Vec<T>,
    /// The `after` of the next page; `null` on the last.
    pub(super) next: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// How many at most.
    #[param(value_type = i64, required = false, minimum = 1, maximum = 100, default = 50)]
    pub(super) limit: Option<i64>,
    /// The `next` of the page before.
    #[param(value_type = String, required = false)]
    pub(super) after: Option<String>,
}

/// The caller's own record.
#[utoipa::path(get, path = "/v1/me", operation_id = "getMe", tag = "records",
    responses((status = 200, description = "The whole row.", body = UserRecord)))]
pub(super) async fn me(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<UserRecord>, Problem> {
    let mut user = app.store.user(&caller.reader()).await?.ok_or_else(missing)?;
    app.names.show(std::slice::from_mut(&mut user)).await;
    Ok(Json(user))
}

/// The caller's own memberships.
#[utoipa::path(get, path = "/v1/me/organizations", operation_id = "listMyOrganizations", tag = "records",
    params(PageQuery), responses((status = 200, description = "A page of memberships, with the organizations' names.",
        body = Page<Membership>, links(("next" = (operation_id = "listMyOrganizations", parameters(
            ("after" = "$response.body#/next"))))))))]
pub(super) async fn my_organizations(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Page<Membership>>, Problem> {
    let (limit, after) = page(query)?;
    let scope = Scope { list: "/v1/me/organizations", user: caller.user(), organization: "" };
    let cursors = Sealer::of(&app).await?;
    let after = after.map(|after| cursors.open(scope, &after)).transpose()?;
    let found = app.store.memberships_of(&caller.reader(), after.as_deref(), limit + 1).await?;
    Ok(Json(paged(found, limit, |last| cursors.seal(scope, &last.clerk_org_id))))
}

/// A user that the caller is, or shares an organization with.
#[utoipa::path(get, path = "/v1/users/{clerk_user_id}", operation_id = "getUser", tag = "records",
    params(("clerk_user_id" = String, Path, description = "The user's id.",
        example = "user_29w83sxmDNGwOuEthce5gg56FcC")),
    responses((status = 200, description = "The user, as their colleagues see them.", body = Person)))]
pub(super) async fn user(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Person>, Problem> {
    // What no id can be is the id of nobody.
    let id = id.ok().and_then(|Path(id)| UserId::parse(&id).ok()).ok_or_else(missing)?;
    let mut person = app.store.person(&caller.reader(), &id).await?.ok_or_else(missing)?;
    app.names.show(std::slice::from_mut(&mut person)).await;
    Ok(Json(person))
}

/// The active organization.
#[utoipa::path(get, path = "/v1/organization", operation_id = "getOrganization", tag = "records",
    responses((status = 200, description = "The whole row.", body = OrganizationRecord)))]
pub(super) async fn organization(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<OrganizationRecord>, Problem> {
    Ok(Json(app.store.organization(&caller.member()?).await?.ok_or_else(missing)?))
}

/// The members of the active organization, with names.
#[utoipa::path(get, path = "/v1/organization/members", operation_id = "listMembers", tag = "records",
    params(PageQuery), responses((status = 200, description = "A page of members.", body = Page<Membership>,
        links(
            ("member" = (operation_id = "getUser", parameters(
                ("clerk_user_id" = "$response.body#/data/0/clerk_user_id")))),
            ("next" = (operation_id = "listMembers", parameters(("after" = "$response.body#/next"))))))))]
pub(super) async fn members(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Page<Membership>>, Problem> {
    let (limit, after) = page(query)?;
    let (reader, cursors) = (caller.member()?, Sealer::of(&app).await?);
    let organization = reader.organization.as_ref().map_or("", |id| id.as_str());
    let scope = Scope { list: "/v1/organization/members", user: caller.user(), organization };
    let after = after.map(|after| cursors.open(scope, &after)).transpose()?;
    let found = app.store.members(&reader, after.as_deref(), limit + 1).await?;
    let mut page = paged(found, limit, |last| cursors.seal(scope, &last.clerk_user_id));
    app.names.show(&mut page.data).await;
    Ok(Json(page))
}

/// The active organization's workspace: its owner, its channels and rooms.
#[utoipa::path(get, path = "/v1/workspace", operation_id = "getWorkspace", tag = "records",
    responses((status = 200, description = "The workspace.", body = WorkspaceRecord)))]
pub(super) async fn workspace(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<WorkspaceRecord>, Problem> {
    Ok(Json(app.store.workspace(&caller.member()?).await?.ok_or_else(missing)?))
}

fn page(query: Result<Query<PageQuery>, QueryRejection>) -> Result<(i64, Option<String>), Problem> {
    let Query(query) = query.map_err(|error| Problem::new("invalid-parameter", error.body_text()))?;
    let limit = query.limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::new("invalid-parameter", format!("`limit` must be 1 to {MAX_PAGE}.")));
    }
    Ok((limit, query.after))
}

/// Cuts what was found to a page; one more than the page was asked for, to know whether there is a next one.
pub(super) fn paged<T>(mut found: Vec<T>, limit: i64, seal: impl Fn(&T) -> String) -> Page<T> {
    let limit = usize::try_from(limit).unwrap_or_default();
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(seal);
    Page { data: found, next }
}

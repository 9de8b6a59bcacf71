//! Users, organizations and members, for the operator: in pages, by search, one by one, and beside Clerk's.
#![allow(unused_qualifications, reason = "what utoipa makes of `params(…)` qualifies the name that it was given")]

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use faircopy_core::Millis;
use faircopy_core::event::api::Item;
use faircopy_core::event::{Fact, Observation};
use faircopy_core::explain::Record;
use faircopy_core::id::{OrganizationId, UserId};
use faircopy_core::merge::Key;
use faircopy_store::{Found, Membership, Of, OrganizationRecord, Place, Row, UserRecord};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::admin::{checked, page, plain};
use super::cursor::{Scope, Sealer};
use super::problem::Problem;
use super::records::{Page, paged};
use crate::app::App;
use crate::upstream::clerk::{Answer, Clerk, Share};

/// Memberships that are shown with a user; more are read as a list.
const MEMBERSHIPS_SHOWN: i64 = 100;
/// The longest text that is searched for: longer than any address or name.
const MAX_SEARCH: usize = 256;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct SearchQuery {
    /// Whoever has this id, or whose e-mail address (of an organization: slug) or name begins so, whatever the case of ASCII letters.
    #[param(value_type = String, required = false, max_length = 256, example = "ada")]
    search: Option<String>,
    /// How many at most.
    #[param(value_type = i64, required = false, minimum = 1, maximum = 100, default = 50)]
    limit: Option<i64>,
    /// The `next` of the page before.
    #[param(value_type = String, required = false)]
    after: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct MembersQuery {
    /// The members of this organization. Exactly one of the two is named.
    #[param(value_type = String, required = false, pattern = "^org_[A-Za-z0-9_-]{1,60}$", example = "org_29w9IfBrPmcpi0IeBVaKtA7R94W")]
    organization: Option<String>,
    /// The memberships of this user.
    #[param(value_type = String, required = false, pattern = "^user_[A-Za-z0-9_-]{1,60}$")]
    user: Option<String>,
    /// How many at most.
    #[param(value_type = i64, required = false, minimum = 1, maximum = 100, default = 50)]
    limit: Option<i64>,
    /// The `next` of the page before.
    #[param(value_type = String, required = false)]
    after: Option<String>,
}

/// A user with the organizations that they are in.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UserDetail {
    #[serde(flatten)]
    user: UserRecord,
    /// In the order of the organizations' ids, at most 100: more are listed by `/admin/v1/members`.
    memberships: Vec<Membership>,
}

/// An organization with its size.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OrganizationDetail {
    #[serde(flatten)]
    organization: OrganizationRecord,
    /// How many members it has.
    members: i64,
}

/// The copy's row beside Clerk's record.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Comparison {
    /// Whose.
    subject: String,
    /// When Clerk was asked.
    #[schema(value_type = String, format = DateTime)]
    read_at: Millis,
    /// Whether they are alike in every field.
    agrees: bool,
    /// The copy has it.
    in_copy: bool,
    /// Clerk has it.
    in_clerk: bool,
    /// Each column that Clerk knows of.
    fields: Vec<Field>,
}

/// One column of both.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Field {
    /// Its name.
    #[schema(example = "first_name")]
    column: String,
    /// What the copy holds.
    copy: Value,
    /// What Clerk says.
    clerk: Value,
    /// Whether they are alike.
    agrees: bool,
}

/// Users in the order of their ids, or whoever is searched for. A page may be short although there is a next one.
#[utoipa::path(get, path = "/admin/v1/users", operation_id = "listUsers", tag = "admin", params(SearchQuery),
    responses((status = 200, description = "A page of users.", body = Page<UserRecord>, links(
        ("user" = (operation_id = "getUserRecord", parameters(
            ("clerk_user_id" = "$response.body#/data/0/clerk_user_id")))),
        ("next" = (operation_id = "listUsers", parameters(("after" = "$response.body#/next"))))))))]
pub(super) async fn users(
    State(app): State<Arc<App>>,
    query: Result<Query<SearchQuery>, QueryRejection>,
) -> Result<Json<Page<UserRecord>>, Problem> {
    let search = Search::read(&app, "/admin/v1/users", query).await?;
    let found = app.store.find_users(search.text.as_deref(), search.after.clone(), search.limit).await?;
    let mut page = search.page(found);
    app.names.show(&mut page.data).await;
    Ok(Json(page))
}

/// One user: the whole row, and the memberships.
#[utoipa::path(get, path = "/admin/v1/users/{clerk_user_id}", operation_id = "getUserRecord", tag = "admin",
    params(("clerk_user_id" = String, Path, description = "The user's id.", example = "user_29w83sxmDNGwOuEthce5gg56FcC")),
    responses((status = 200, description = "The user.", body = UserDetail)))]
pub(super) async fn user(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<UserDetail>, Problem> {
    let id = user_id(id)?;
    let mut user = [app.store.user_record(&id).await?.ok_or_else(missing)?];
    app.names.show(&mut user).await;
    let [user] = user;
    let memberships = app.store.find_members(Of::User(&id), None, MEMBERSHIPS_SHOWN).await?;
    Ok(Json(UserDetail { user, memberships }))
}

/// Organizations in the order of their ids, or those that are searched for. A page may be short although there is a next one.
#[utoipa::path(get, path = "/admin/v1/organizations", operation_id = "listOrganizations", tag = "admin",
    params(SearchQuery),
    responses((status = 200, description = "A page of organizations.", body = Page<OrganizationRecord>, links(
        ("organization" = (operation_id = "getOrganizationRecord", parameters(
            ("clerk_org_id" = "$response.body#/data/0/clerk_org_id")))),
        ("next" = (operation_id = "listOrganizations", parameters(("after" = "$response.body#/next"))))))))]
pub(super) async fn organizations(
    State(app): State<Arc<App>>,
    query: Result<Query<SearchQuery>, QueryRejection>,
) -> Result<Json<Page<OrganizationRecord>>, Problem> {
    let search = Search::read(&app, "/admin/v1/organizations", query).await?;
    let found = app.store.find_organizations(search.text.as_deref(), search.after.clone(), search.limit).await?;
    Ok(Json(search.page(found)))
}

/// One organization: the whole row, and how many members it has.
#[utoipa::path(get, path = "/admin/v1/organizations/{clerk_org_id}", operation_id = "getOrganizationRecord", tag = "admin",
    params(("clerk_org_id" = String, Path, description = "The organization's id.",
        example = "org_29w9IfBrPmcpi0IeBVaKtA7R94W")),
    responses((status = 200, description = "The organization.", body = OrganizationDetail)))]
pub(super) async fn organization(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<OrganizationDetail>, Problem> {
    let id = organization_id(id)?;
    let organization = app.store.organization_record(&id).await?.ok_or_else(missing)?;
    Ok(Json(OrganizationDetail { organization, members: app.store.member_count(&id).await? }))
}

/// The members of an organization with their names, or the memberships of a user with the organizations' names.
#[utoipa::path(get, path = "/admin/v1/members", operation_id = "listMemberships", tag = "admin", params(MembersQuery),
    responses((status = 200, description = "A page of memberships.", body = Page<Membership>, links(
        ("next" = (operation_id = "listMemberships", parameters(("after" = "$response.body#/next"))))))))]
pub(super) async fn members(
    State(app): State<Arc<App>>,
    query: Result<Query<MembersQuery>, QueryRejection>,
) -> Result<Json<Page<Membership>>, Problem> {
    let query = checked(query)?;
    let limit = page(query.limit)?;
    let wrong = |name: &str| Problem::new("invalid-parameter", format!("`{name}` is no id of Clerk's."));
    let organization = query.organization.map(|text| OrganizationId::parse(&text).map_err(|_| wrong("organization")));
    let user = query.user.map(|text| UserId::parse(&text).map_err(|_| wrong("user")));
    let (organization, user) = (organization.transpose()?, user.transpose()?);
    let of = match (&organization, &user) {
        (Some(id), None) => Of::Organization(id),
        (None, Some(id)) => Of::User(id),
        _ => return Err(Problem::new("invalid-parameter", "Name either `organization` or `user`.")),
    };
    let named = |id: Option<&str>| id.unwrap_or_default().to_owned();
    let (user, organization) =
        (named(user.as_ref().map(UserId::as_str)), named(organization.as_ref().map(|id| id.as_str())));
    let scope = Scope { list: "/admin/v1/members", user: &user, organization: &organization };
    let cursors = Sealer::of(&app).await?;
    let after = query.after.map(|after| cursors.open(scope, &after)).transpose()?;
    let found = app.store.find_members(of, after.as_deref(), limit + 1).await?;
    let is_of_user = matches!(of, Of::User(_));
    let place = |last: &Membership| {
        let id = if is_of_user { &last.clerk_org_id } else { &last.clerk_user_id };
        cursors.seal(scope, id)
    };
    let mut page = paged(found, limit, place);
    if !is_of_user {
        app.names.show(&mut page.data).await;
    }
    Ok(Json(page))
}

/// The copy's row of a user beside Clerk's record: Clerk is read once, and nothing is changed.
#[utoipa::path(get, path = "/admin/v1/users/{clerk_user_id}/compare", operation_id = "compareUser", tag = "admin",
    params(("clerk_user_id" = String, Path, description = "The user's id.", example = "user_29w83sxmDNGwOuEthce5gg56FcC")),
    responses((status = 200, description = "Both, field by field.", body = Comparison)))]
pub(super) async fn compare_user(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Comparison>, Problem> {
    let id = user_id(id)?;
    let answer = clerk(&app)?.user(&id, Share::Foreground).await?;
    compare(&app, &Key::User(id), answer).await.map(Json)
}

/// The copy's row of an organization beside Clerk's record: Clerk is read once, and nothing is changed.
#[utoipa::path(get, path = "/admin/v1/organizations/{clerk_org_id}/compare", operation_id = "compareOrganization",
    tag = "admin", params(("clerk_org_id" = String, Path, description = "The organization's id.",
        example = "org_29w9IfBrPmcpi0IeBVaKtA7R94W")),
    responses((status = 200, description = "Both, field by field.", body = Comparison)))]
pub(super) async fn compare_organization(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<Comparison>, Problem> {
    let id = organization_id(id)?;
    let answer = clerk(&app)?.organization(&id, Share::Foreground).await?;
    compare(&app, &Key::Organization(id), answer).await.map(Json)
}

fn clerk(app: &App) -> Result<&Clerk, Problem> {
    let no_key = || Problem::new("clerk-not-configured", "Set CLERK_SECRET_KEY, so that Clerk can be asked.");
    app.clerk.as_deref().ok_or_else(no_key)
}

async fn compare(app: &App, subject: &Key, answer: Answer<Option<Item>>) -> Result<Comparison, Problem> {
    let observations = answer.found.map(|item| item.reading).transpose();
    let observations: Vec<Observation> = observations
        .map_err(|fault| Problem::new("clerk-unavailable", format!("Clerk's answer cannot be understood: {fault}.")))?
        .unwrap_or_default();
    let own = observations.into_iter().find(|observation| observation.fact.key() == *subject);
    let now = app.clock.now();
    let copy = app.store.public_row(subject).await?;
    let record = own.and_then(|own| match own.fact {
        Fact::User(user, _) => Some((Record::User(user), own.source)),
        Fact::Organization(organization, _) => Some((Record::Organization(organization), own.source)),
        _ => None,
    });
    let theirs: Option<Row> = record.as_ref().map(|record| faircopy_store::row(record, app.store.workspaces(), now));
    if copy.is_none() && theirs.is_none() {
        return Err(Problem::new("record-not-found", "Neither the copy nor Clerk has it."));
    }
    let difference = match &record {
        Some(record) => app.store.difference(record, now).await?,
        None => None,
    };
    let differing = difference.and_then(|difference| difference.columns).unwrap_or_default();
    let both = copy.is_some() && theirs.is_some();
    let columns: BTreeMap<&String, &Value> = theirs.as_ref().or(copy.as_ref()).into_iter().flatten().collect();
    // Where a row came from, and the workspace that follows from memberships, are the copy's own.
    let is_theirs = |column: &&String| {
        *column != "provenance"
            && (*column != "workspace_id" || theirs.as_ref().is_none_or(|row| row.contains_key(*column)))
    };
    let value = |row: Option<&Row>, column: &String| row.and_then(|row| row.get(column)).cloned().unwrap_or_default();
    let fields: Vec<Field> = columns
        .into_keys()
        .filter(is_theirs)
        .map(|column| Field {
            column: column.clone(),
            copy: value(copy.as_ref(), column),
            clerk: value(theirs.as_ref(), column),
            agrees: both && !differing.contains(column),
        })
        .collect();
    Ok(Comparison {
        subject: subject.to_string(),
        read_at: answer.asked_at,
        agrees: both && fields.iter().all(|field| field.agrees),
        in_copy: copy.is_some(),
        in_clerk: theirs.is_some(),
        fields,
    })
}

/// What a page of a list or a search was asked for.
struct Search {
    text: Option<String>,
    limit: usize,
    after: Option<Place>,
    cursors: Sealer,
    list: &'static str,
}

impl Search {
    async fn read(
        app: &App,
        list: &'static str,
        query: Result<Query<SearchQuery>, QueryRejection>,
    ) -> Result<Self, Problem> {
        let query = checked(query)?;
        let limit = usize::try_from(page(query.limit)?).unwrap_or_default();
        let text = query.search.map(|text| plain(text, "search")).transpose()?;
        if text.as_ref().is_some_and(|text| text.len() > MAX_SEARCH) {
            return Err(Problem::new("invalid-parameter", format!("`search` is longer than {MAX_SEARCH} bytes.")));
        }
        let mut search = Self { text, limit, after: None, cursors: Sealer::of(app).await?, list };
        let place = query.after.map(|after| search.cursors.open(search.scope(), &after)).transpose()?;
        search.after = place.as_deref().and_then(Place::parse);
        Ok(search)
    }

    /// A place holds for one search alone.
    fn scope(&self) -> Scope<'_> {
        Scope { list: self.list, user: self.text.as_deref().unwrap_or_default(), organization: "" }
    }

    fn page<T>(&self, found: Found<T>) -> Page<T> {
        let next = found.next.map(|place| self.cursors.seal(self.scope(), &place.to_string()));
        Page { data: found.rows, next }
    }
}

fn user_id(id: Result<Path<String>, PathRejection>) -> Result<UserId, Problem> {
    id.ok().and_then(|Path(id)| UserId::parse(&id).ok()).ok_or_else(missing)
}

fn organization_id(id: Result<Path<String>, PathRejection>) -> Result<OrganizationId, Problem> {
    id.ok().and_then(|Path(id)| OrganizationId::parse(&id).ok()).ok_or_else(missing)
}

fn missing() -> Problem {
    Problem::new("record-not-found", "The copy has no such row.")
}

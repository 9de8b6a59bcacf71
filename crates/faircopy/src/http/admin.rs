//! The admin API: what arrived, what became of it, and the change feed. For whoever holds the admin token.
#![allow(unused_qualifications, reason = "what utoipa makes of `params(…)` qualifies the name that it was given")]

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{ConnectInfo, Path, Query, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use faircopy_core::Millis;
use faircopy_store::{Counts, Delivery, DeliveryFilter, DeliverySummary, Entry, Finding};
use http::header::AUTHORIZATION;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use utoipa::{IntoParams, ToSchema};

use super::cursor::{Scope, Sealer};
use super::dashboard::session::{has_cookie, of_own_page, signed_in};
use super::problem::Problem;
use super::records::{Page, paged};
use crate::app::App;

/// Wrong tokens from one address within a minute before it is told to wait.
const MAX_WRONG: u32 = 10;
/// Addresses remembered: past it the list is begun anew, which only forgives.
const MAX_ADDRESSES: usize = 10_000;
const MINUTE_MS: i64 = 60_000;
/// The largest page.
const MAX_PAGE: i64 = 100;
const DEFAULT_PAGE: i64 = 50;
/// Whoever holds the admin token is one reader, whatever is filtered for: a place is a place in the list of all.
const DELIVERIES: Scope<'_> = Scope { list: "/admin/v1/deliveries", user: "", organization: "" };

/// Lets only the holder of the admin token in.
#[derive(Clone)]
pub(super) struct Guard {
    app: Arc<App>,
    wrong: Arc<Mutex<Wrong>>,
}

#[derive(Default)]
struct Wrong {
    minute: i64,
    by_address: HashMap<IpAddr, u32>,
}

impl Guard {
    pub(super) fn new(app: Arc<App>) -> Self {
        Self { app, wrong: Arc::default() }
    }

    /// The service that is guarded.
    pub(super) fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// The admin token; without one there is neither an admin API nor a dashboard.
    pub(super) fn token(&self) -> Result<&str, Problem> {
        let off = || Problem::new("admin-disabled", "Set FAIRCOPY_ADMIN_TOKEN to at least 32 random characters.");
        self.app.config.admin_token_text().ok_or_else(off)
    }

    /// Whether what was offered is the token. Whoever guesses too often is told to wait.
    pub(super) fn judge(&self, offered: &[u8], token: &str, address: IpAddr) -> Result<(), Problem> {
        if same(offered, token.as_bytes()) {
            Ok(())
        } else if self.count(address) {
            Err(Problem::new("too-many-attempts", "More than 10 wrong tokens within a minute."))
        } else {
            Err(Problem::new("unauthorized", "Send `Authorization: Bearer <FAIRCOPY_ADMIN_TOKEN>`."))
        }
    }

    /// Counts a wrong token; says whether the address has had enough of them.
    fn count(&self, address: IpAddr) -> bool {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = self.app.clock.now().0.div_euclid(MINUTE_MS);
        if wrong.minute != minute || wrong.by_address.len() >= MAX_ADDRESSES {
            *wrong = Wrong { minute, by_address: HashMap::new() };
        }
        let count = wrong.by_address.entry(address).or_default();
        *count += 1;
        *count > MAX_WRONG
    }
}

/// The session of a browser that a request came with; whoever sent the token itself has none.
#[derive(Clone)]
pub(super) struct SignedIn(pub(super) String);

pub(super) async fn require_token(
    State(guard): State<Guard>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let token = guard.token()?;
    let headers = request.headers();
    if !headers.contains_key(AUTHORIZATION) {
        if let Some(id) = signed_in(&guard.app, headers).await? {
            of_own_page(&guard.app, request.method(), headers)?;
            request.extensions_mut().insert(SignedIn(id));
            return Ok(next.run(request).await);
        }
        let detail = if has_cookie(headers) {
            "The session is over: sign in again."
        } else {
            "Send `Authorization: Bearer <FAIRCOPY_ADMIN_TOKEN>`."
        };
        // Whoever offers no token learns nothing about it.
        return Err(Problem::new("unauthorized", detail));
    }
    let mut offered = headers.get_all(AUTHORIZATION).iter();
    let bearer = offered.next().and_then(|value| value.as_bytes().split_at_checked(7));
    let offered = match (bearer, offered.next()) {
        (Some((scheme, offered)), None) if scheme.eq_ignore_ascii_case(b"bearer ") => offered,
        _ => b"",
    };
    guard.judge(offered, token, peer.ip())?;
    Ok(next.run(request).await)
}

/// Compares in a time that says nothing about either text: hashes have one length.
fn same(offered: &[u8], token: &[u8]) -> bool {
    Sha256::digest(offered).ct_eq(&Sha256::digest(token)).into()
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Of this outcome.
    #[param(value_type = String, required = false, pattern = "^(applied|stale|ignored|quarantined)$")]
    outcome: Option<String>,
    /// Of this event type.
    #[serde(alias = "event_type")]
    #[param(value_type = String, required = false, example = "user.created")]
    r#type: Option<String>,
    /// Of this `data.id`.
    #[serde(alias = "entity_id")]
    #[param(value_type = String, required = false)]
    entity: Option<String>,
    /// Arrived at or after.
    #[param(value_type = String, format = DateTime, required = false, example = "2026-01-31T12:00:00Z")]
    since: Option<String>,
    /// Arrived before.
    #[param(value_type = String, format = DateTime, required = false, example = "2026-02-01T00:00:00Z")]
    until: Option<String>,
    /// How many at most.
    #[param(value_type = i64, required = false, minimum = 1, maximum = 100, default = 50)]
    limit: Option<i64>,
    /// The `next` of the page before.
    #[param(value_type = String, required = false)]
    after: Option<String>,
}

/// Deliveries, newest first.
#[utoipa::path(get, path = "/admin/v1/deliveries", operation_id = "listDeliveries", tag = "admin", params(ListQuery),
    responses((status = 200, description = "A page of deliveries, without their payloads.",
        body = Page<DeliverySummary>, links(
            ("delivery" = (operation_id = "getDelivery", parameters(("svix_id" = "$response.body#/data/0/svix_id")))),
            ("next" = (operation_id = "listDeliveries", parameters(("after" = "$response.body#/next"))))))))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Page<DeliverySummary>>, Problem> {
    let query = checked(query)?;
    let limit = page(query.limit)?;
    let filter = DeliveryFilter {
        outcome: query.outcome.map(outcome).transpose()?,
        event_type: query.r#type.map(|text| plain(text, "type")).transpose()?,
        entity_id: query.entity.map(|text| plain(text, "entity")).transpose()?,
        since: query.since.map(|text| time(&text, "since")).transpose()?,
        until: query.until.map(|text| time(&text, "until")).transpose()?,
        svix_id: None,
    };
    let cursors = Sealer::of(&app).await?;
    let place = query.after.map(|after| cursors.open(DELIVERIES, &after)).transpose()?;
    let after = place.as_deref().map(read_place).transpose()?;
    let found = app.store.deliveries(&filter, after, true, limit + 1).await?;
    Ok(Json(paged(found, limit, |last| cursors.seal(DELIVERIES, &write_place(last)))))
}

/// One delivery with its payload.
#[utoipa::path(get, path = "/admin/v1/deliveries/{svix_id}", operation_id = "getDelivery", tag = "admin",
    params(("svix_id" = String, Path, description = "The message id.",
        example = "msg_2gVLh9rP3kDKQV8pvN1PmjW2zNE")),
    responses((status = 200, description = "The delivery.", body = Delivery, links(
        ("replay" = (operation_id = "replayDelivery", parameters(("svix_id" = "$response.body#/svix_id"))))))))]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    svix_id: Result<Path<String>, PathRejection>,
) -> Result<Json<Delivery>, Problem> {
    let svix_id = id(svix_id)?;
    Ok(Json(app.store.delivery(&svix_id).await?.ok_or_else(|| no_delivery(&svix_id))?))
}

/// Applies a stored delivery again.
#[utoipa::path(post, path = "/admin/v1/deliveries/{svix_id}/replay", operation_id = "replayDelivery", tag = "admin",
    params(("svix_id" = String, Path, description = "The message id.",
        example = "msg_2gVLh9rP3kDKQV8pvN1PmjW2zNE")),
    responses((status = 200, description = "It was merged again, durably.", body = Replayed)))]
pub(super) async fn replay(
    State(app): State<Arc<App>>,
    svix_id: Result<Path<String>, PathRejection>,
) -> Result<Json<Replayed>, Problem> {
    let svix_id = id(svix_id)?;
    let delivery = app.store.delivery(&svix_id).await?.ok_or_else(|| no_delivery(&svix_id))?;
    let arrival =
        crate::replay::arrival(&delivery, app.clock.now(), |signed_at| app.context(signed_at)).ok_or_else(|| {
            if delivery.summary.erased_at.is_some() {
                return Problem::new("delivery-erased", "What this delivery said was erased: nothing was changed.");
            }
            Problem::new("invalid-parameter", "Nothing of this delivery's body was kept; resend it from Clerk.")
        })?;
    let receipt = app.intake.submit(arrival, None).await?;
    let now = app.store.delivery(&svix_id).await?.ok_or_else(|| no_delivery(&svix_id))?;
    Ok(Json(Replayed { id: svix_id, outcome: now.summary.outcome, sequence: receipt.sequence }))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangesQuery {
    /// The last number that is already known: the `next` of the page before.
    #[param(value_type = i64, required = false, default = 0)]
    after: Option<i64>,
    /// How many at most.
    #[param(value_type = i64, required = false, minimum = 1, maximum = 100, default = 50)]
    limit: Option<i64>,
}

/// A stretch of the change feed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Changes {
    /// In the order of their numbers.
    data: Vec<Entry>,
    /// The `after` of the next stretch; at the end of the feed, that of this one.
    next: i64,
}

/// What became of a delivery that was applied again.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Replayed {
    /// The message id.
    id: String,
    /// What it is called from now on.
    #[schema(example = "applied")]
    outcome: String,
    /// The last number of the change feed after it.
    sequence: i64,
}

/// The change feed after a number: gap-free, in the order of the commits.
#[utoipa::path(get, path = "/admin/v1/changes", operation_id = "listChanges", tag = "admin", params(ChangesQuery),
    responses((status = 200, description = "A stretch of the feed.", body = Changes,
        links(("next" = (operation_id = "listChanges", parameters(("after" = "$response.body#/next"))))))))]
pub(super) async fn changes(
    State(app): State<Arc<App>>,
    query: Result<Query<ChangesQuery>, QueryRejection>,
) -> Result<Json<Changes>, Problem> {
    let query = checked(query)?;
    let after = query.after.unwrap_or_default();
    let entries = app.store.changes_after(after, page(query.limit)?).await?;
    // Asked after the entries were read: what was forgotten meanwhile counts.
    let forgotten = app.store.forgotten_changes().await?;
    // Below 0 is nothing: whoever asks so begins at the beginning.
    if after.max(0) < forgotten {
        let detail = format!(
            "The change feed begins after number {forgotten}. Read the tables anew, and go on from the `Faircopy-Sequence` of before."
        );
        return Err(Problem::new("changes-forgotten", detail));
    }
    let next = entries.last().map_or(after, |entry| entry.sequence);
    Ok(Json(Changes { data: entries, next }))
}

/// Counts of rows and deliveries.
#[utoipa::path(get, path = "/admin/v1/statistics", operation_id = "getStatistics", tag = "admin",
    responses((status = 200, description = "The counts.", body = Counts)))]
pub(super) async fn statistics(State(app): State<Arc<App>>) -> Result<Json<Counts>, Problem> {
    Ok(Json(app.store.counts().await?))
}

/// The troubles that are known now.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Findings {
    /// In the order of their names.
    data: Vec<Finding>,
}

/// The troubles that are known now: `docs/errors.md` has a section for each.
#[utoipa::path(get, path = "/admin/v1/findings", operation_id = "listFindings", tag = "admin",
    responses((status = 200, description = "The findings; none is good news.", body = Findings)))]
pub(super) async fn findings(State(app): State<Arc<App>>) -> Result<Json<Findings>, Problem> {
    Ok(Json(Findings { data: app.store.findings().await? }))
}

pub(super) fn checked<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    query.map(|Query(query)| query).map_err(|error| Problem::new("invalid-parameter", error.body_text()))
}

pub(super) fn page(limit: Option<i64>) -> Result<i64, Problem> {
    let limit = limit.unwrap_or(DEFAULT_PAGE);
    if (1..=MAX_PAGE).contains(&limit) {
        Ok(limit)
    } else {
        Err(Problem::new("invalid-parameter", format!("`limit` must be 1 to {MAX_PAGE}.")))
    }
}

pub(super) fn time(text: &str, name: &str) -> Result<Millis, Problem> {
    let detail = || format!("`{name}` is not a time; expected 2026-01-31T12:00:00Z.");
    Millis::parse(text).ok_or_else(|| Problem::new("invalid-parameter", detail()))
}

/// A stored outcome: a misspelt one would look like an empty list.
fn outcome(text: String) -> Result<String, Problem> {
    match text.as_str() {
        "applied" | "stale" | "ignored" | "quarantined" => Ok(text),
        _ => Err(Problem::new("invalid-parameter", "`outcome` must be applied, stale, ignored or quarantined.")),
    }
}

/// A text without NUL, which PostgreSQL refuses even to compare with.
pub(super) fn plain(text: String, name: &str) -> Result<String, Problem> {
    if text.contains('\0') {
        Err(Problem::new("invalid-parameter", format!("`{name}` holds a NUL.")))
    } else {
        Ok(text)
    }
}

/// The id of a delivery. What no id can be is the id of none.
fn id(path: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    match path {
        Ok(Path(svix_id)) if svix_id.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(svix_id),
        _ => Err(Problem::new("delivery-not-found", "No delivery has such an id.")),
    }
}

/// A delivery's place in the list. A time has no `~`.
fn write_place(delivery: &DeliverySummary) -> String {
    format!("{}~{}", delivery.received_at, delivery.svix_id)
}

fn read_place(place: &str) -> Result<(&str, &str), Problem> {
    place.split_once('~').ok_or_else(|| Problem::new("invalid-parameter", "`after` is not a cursor of this list."))
}

fn no_delivery(svix_id: &str) -> Problem {
    Problem::new("delivery-not-found", format!("No delivery has the id {svix_id}."))
}

//! What sweeps found: how far the copy was Clerk's, and what was done about it.
#![allow(unused_qualifications, reason = "what utoipa makes of `params(…)` qualifies the name that it was given")]

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use faircopy_core::Millis;
use faircopy_store::Sweep;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::admin::{checked, page};
use super::cursor::{Scope, Sealer};
use super::problem::Problem;
use super::records::{Page, PageQuery, paged};
use crate::app::App;
use crate::sweep::{Order, Report, Stop, Tally};

/// Whoever holds the admin token is one reader.
const REPORTS: Scope<'_> = Scope { list: "/admin/v1/drift", user: "", organization: "" };

/// A sweep, and how much it found.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DriftSummary {
    /// Its number.
    id: i64,
    /// `backfill` or `reconcile`.
    #[schema(example = "reconcile")]
    kind: String,
    /// `exact`, `repaired`, `differences` or, where another one took its place, `abandoned`; `null` while it is under way.
    #[schema(example = "exact")]
    pub(super) outcome: Option<String>,
    /// When it began.
    #[schema(format = DateTime)]
    began_at: String,
    /// When it ended.
    #[schema(format = DateTime)]
    finished_at: Option<String>,
    /// Rows that Clerk had and the copy had not.
    missing: u64,
    /// Rows that the copy had and Clerk had not.
    extra: u64,
    /// Rows that both had, not alike.
    different: u64,
    /// Of all these: still so when it ended.
    pub(super) left: u64,
}

/// A sweep with all that it found.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DriftReport {
    #[serde(flatten)]
    pub(super) summary: DriftSummary,
    /// What it found; of a sweep under way, so far.
    report: Report,
}

impl DriftReport {
    pub(super) fn of(sweep: Sweep) -> Self {
        // A sweep has no report before its first page.
        let began_at = Millis::parse(&sweep.began_at).unwrap_or_default();
        let report: Report = serde_json::from_str(&sweep.report).unwrap_or_else(|_| Report {
            kind: sweep.kind.clone(),
            began_at,
            ..Report::default()
        });
        let sum = |count: fn(&Tally) -> u64| report.kinds.values().map(count).sum();
        let summary = DriftSummary {
            id: sweep.id,
            kind: sweep.kind,
            outcome: sweep.outcome,
            began_at: sweep.began_at,
            finished_at: sweep.finished_at,
            missing: sum(|tally| tally.missing),
            extra: sum(|tally| tally.extra),
            different: sum(|tally| tally.different),
            left: sum(|tally| tally.left),
        };
        Self { summary, report }
    }
}

/// Backfills and reconciles, newest first.
#[utoipa::path(get, path = "/admin/v1/drift", operation_id = "listDriftReports", tag = "admin", params(PageQuery),
    responses((status = 200, description = "A page of sweeps, without the single differences.",
        body = Page<DriftSummary>, links(
            ("report" = (operation_id = "getDriftReport", parameters(("id" = "$response.body#/data/0/id")))),
            ("next" = (operation_id = "listDriftReports", parameters(("after" = "$response.body#/next"))))))))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<Page<DriftSummary>>, Problem> {
    let query = checked(query)?;
    let limit = page(query.limit)?;
    let cursors = Sealer::of(&app).await?;
    let place = query.after.map(|after| cursors.open(REPORTS, &after)).transpose()?;
    let before = place.and_then(|place| place.parse().ok());
    let found = app.store.sweeps_before(before, limit + 1).await?;
    let Page { data, next } = paged(found, limit, |last| cursors.seal(REPORTS, &last.id.to_string()));
    Ok(Json(Page { data: data.into_iter().map(|sweep| DriftReport::of(sweep).summary).collect(), next }))
}

/// One backfill or reconcile, with the differences one by one as far as they are told.
#[utoipa::path(get, path = "/admin/v1/drift/{id}", operation_id = "getDriftReport", tag = "admin",
    params(("id" = i64, Path, description = "Its number.", minimum = 1, example = 1)),
    responses((status = 200, description = "What it found.", body = DriftReport)))]
pub(super) async fn show(
    State(app): State<Arc<App>>,
    id: Result<Path<i64>, PathRejection>,
) -> Result<Json<DriftReport>, Problem> {
    let none = || Problem::new("record-not-found", "No backfill or reconcile has this number.");
    let Ok(Path(id)) = id else { return Err(none()) };
    let sweep = app.store.sweep(id).await?.ok_or_else(none)?;
    Ok(Json(DriftReport::of(sweep)))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RunQuery {
    /// Only find the differences, and change nothing.
    #[param(value_type = bool, required = false)]
    dry_run: Option<bool>,
}

/// A reconcile that was begun.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Begun {
    /// Nothing will be changed.
    dry_run: bool,
}

/// Compares the copy with Clerk now, and repairs it. The answer comes when it has begun; its report is the newest of the list.
#[utoipa::path(post, path = "/admin/v1/drift/run", operation_id = "runReconcile", tag = "admin", params(RunQuery),
    responses((status = 202, description = "It has begun.", body = Begun)))]
pub(super) async fn run(
    State(app): State<Arc<App>>,
    query: Result<Query<RunQuery>, QueryRejection>,
) -> Result<(StatusCode, Json<Begun>), Problem> {
    let dry_run = checked(query)?.dry_run == Some(true);
    let by_hand = app.by_hand.as_ref().ok_or_else(|| {
        Problem::new("clerk-not-configured", "Set CLERK_SECRET_KEY: without it Clerk cannot be read.")
    })?;
    let order = Order { grace_ms: app.config.reconcile.grace_ms, dry_run, ..Order::reconcile() };
    match by_hand.begin(order).await {
        Ok(()) => Ok((StatusCode::ACCEPTED, Json(Begun { dry_run }))),
        Err(Stop::Busy | Stop::LeaseLost) => Err(Problem::new(
            "sweep-under-way",
            "A backfill or reconcile is under way; see the newest of `/admin/v1/drift`.",
        )),
        Err(stop) => {
            tracing::error!(%stop, "a reconcile could not be begun");
            Err(Problem::new("database-unavailable", "The reconcile could not be begun."))
        }
    }
}

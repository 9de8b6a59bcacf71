//! Figures for people: what a page that is opened often may ask, whatever the tables hold.
#![allow(unused_qualifications, reason = "what utoipa makes of `params(…)` qualifies the name that it was given")]

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use faircopy_core::Millis;
use faircopy_store::{Arrivals, Basis, COUNTS_DIFFER, Finding, Freshness, Grain, RowCount, UNDELIVERED};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::admin::checked;
use super::drift::{DriftReport, DriftSummary};
use super::problem::Problem;
use crate::app::App;
use crate::sweep::Kind;

/// Deliveries whose lag is told.
const LAG_OF: i64 = 100;

/// Everything at a glance.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Glance {
    /// When this was so.
    #[schema(value_type = String, format = DateTime)]
    now: Millis,
    /// The program's version.
    version: &'static str,
    /// `sqlite` or `postgres`.
    #[schema(example = "sqlite")]
    engine: &'static str,
    /// The one Clerk instance that is copied, as far as it is known.
    instance_id: Option<String>,
    /// Whether Clerk can be read: a key is set.
    has_key: bool,
    /// How the copy stands.
    state: Standing,
    /// Up to when the copy is known to be complete, as far as `basis` goes; `null` where nothing is known.
    #[schema(value_type = Option<String>, format = DateTime)]
    as_of: Option<Millis>,
    /// What that is known from: `reconciled`, `delivered` or `none`.
    #[schema(example = "reconciled")]
    basis: &'static str,
    /// The number of the last change.
    sequence: i64,
    /// Rows of `users`, `organizations`, `members` and `invitations`.
    #[schema(value_type = HashMap<String, RowCount>)]
    rows: BTreeMap<&'static str, RowCount>,
    /// Rows that only a token speaks for.
    provisional: RowCount,
    /// How late deliveries are after their events.
    lag: Option<Lag>,
    /// When the newest delivery arrived.
    #[schema(value_type = Option<String>, format = DateTime)]
    last_delivery_at: Option<Millis>,
    /// Deliveries that arrived within the last minute.
    last_minute: RowCount,
    /// Deliveries that could not be understood.
    quarantined: RowCount,
    /// When the newest of them arrived.
    #[schema(format = DateTime)]
    quarantined_at: Option<String>,
    /// Deletions under way.
    deletions: RowCount,
    /// Of these: they wait for a word.
    paused: RowCount,
    /// When the oldest of them was begun.
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_deletion_at: Option<Millis>,
    /// Steps outside that wait.
    steps: RowCount,
    /// The last comparison with Clerk that came to its end.
    reconcile: Option<DriftSummary>,
    /// The one that is under way.
    under_way: Option<DriftSummary>,
    /// The troubles that are known now.
    findings: Vec<Finding>,
}

/// How the copy stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Standing {
    /// A comparison with Clerk left no difference, and nothing is known that is missing since.
    Exact,
    /// Something is known to differ.
    Different,
    /// Deliveries arrive; nothing was compared with Clerk yet.
    Unproven,
    /// Nothing has arrived.
    Empty,
}

/// How late the last deliveries were after their events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Lag {
    /// Half of them were earlier, in milliseconds.
    median_ms: i64,
    /// The latest.
    max_ms: i64,
    /// How many they are.
    of: usize,
}

impl Lag {
    fn of(mut lags: Vec<i64>) -> Option<Self> {
        lags.sort_unstable();
        Some(Self { median_ms: *lags.get(lags.len() / 2)?, max_ms: *lags.last()?, of: lags.len() })
    }
}

fn standing(freshness: &Freshness, left: Option<u64>, findings: &[Finding]) -> Standing {
    let is_behind = findings.iter().any(|finding| [UNDELIVERED, COUNTS_DIFFER].contains(&finding.name.as_str()));
    match freshness.basis {
        _ if is_behind || left.is_some_and(|left| left > 0) => Standing::Different,
        Basis::Reconciled => Standing::Exact,
        Basis::None => Standing::Empty,
        Basis::Delivered | Basis::Read => Standing::Unproven,
    }
}

/// Everything at a glance: how the copy stands, what waits, what is wrong. Costs the same whatever the tables hold.
#[utoipa::path(get, path = "/admin/v1/overview", operation_id = "getOverview", tag = "admin",
    responses((status = 200, description = "How it stands.", body = Glance)))]
pub(super) async fn overview(State(app): State<Arc<App>>) -> Result<Json<Glance>, Problem> {
    let (now, store) = (app.clock.now(), &app.store);
    let kind = Kind::Reconcile.as_str();
    // One after the other: a page that is open all day must not take the connections of those who work.
    let freshness = store.freshness().await?;
    let (rows, waiting) = (store.row_counts().await?, store.waiting(now).await?);
    let (arrivals, findings) = (store.last_arrivals(LAG_OF).await?, store.findings().await?);
    let (last, under_way) = (store.last_sweep(kind).await?, store.sweep_under_way(kind).await?);
    let summary = |sweep| DriftReport::of(sweep).summary;
    let (reconcile, under_way) = (last.map(summary), under_way.map(summary));
    let lags = arrivals.iter().filter_map(|arrived| Some((arrived.received_at.0 - arrived.event_at?.0).max(0)));
    Ok(Json(Glance {
        now,
        version: env!("CARGO_PKG_VERSION"),
        engine: store.address().engine(),
        instance_id: app.instance().map(ToOwned::to_owned),
        has_key: app.clerk.is_some(),
        state: standing(&freshness, reconcile.as_ref().map(|last| last.left), &findings),
        as_of: freshness.as_of,
        basis: freshness.basis.as_str(),
        sequence: freshness.sequence,
        rows,
        provisional: waiting.provisional,
        lag: Lag::of(lags.collect()),
        last_delivery_at: arrivals.first().map(|arrived| arrived.received_at),
        last_minute: waiting.last_minute,
        quarantined: waiting.quarantined,
        quarantined_at: waiting.quarantined_at,
        deletions: waiting.deletions,
        paused: waiting.paused,
        oldest_deletion_at: waiting.oldest_deletion,
        steps: waiting.steps,
        reconcile,
        under_way,
        findings,
    }))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ActivityQuery {
    /// How far back.
    #[param(value_type = String, required = false, pattern = "^(hour|day|week)$", example = "hour")]
    window: Option<String>,
}

/// What came within a window, stretch by stretch.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Activity {
    /// The window's name.
    #[schema(example = "hour")]
    window: &'static str,
    /// How long a stretch is, in milliseconds.
    stretch_ms: i64,
    /// More came lately than is counted when somebody asks: the newest stretches say too little for some seconds.
    is_partial: bool,
    /// Every stretch of the window, in the order of time, the last one not over yet.
    data: Vec<Stretch>,
}

/// What came within a stretch of time.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Stretch {
    /// When it begins.
    #[schema(value_type = String, format = DateTime)]
    at: Millis,
    #[serde(flatten)]
    came: Arrivals,
}

/// A window: its name, how finely it is known, how long its stretches are, and how many there are.
const WINDOWS: [(&str, Grain, i64, i64); 3] = [
    ("hour", Grain::Minute, 60_000, 60),
    ("day", Grain::Minute, 15 * 60_000, 96),
    ("week", Grain::Hour, 2 * 3_600_000, 84),
];

/// Deliveries over the last hour, day or week, by their first outcome.
#[utoipa::path(get, path = "/admin/v1/activity", operation_id = "getActivity", tag = "admin", params(ActivityQuery),
    responses((status = 200, description = "Counts, stretch by stretch.", body = Activity)))]
pub(super) async fn activity(
    State(app): State<Arc<App>>,
    query: Result<Query<ActivityQuery>, QueryRejection>,
) -> Result<Json<Activity>, Problem> {
    let wanted = checked(query)?.window;
    let wanted = wanted.as_deref().unwrap_or("hour");
    let unknown = || Problem::new("invalid-parameter", "`window` must be hour, day or week.");
    let (window, grain, stretch_ms, stretches) =
        WINDOWS.into_iter().find(|(name, ..)| *name == wanted).ok_or_else(unknown)?;
    let now = app.clock.now();
    let last = now.0.div_euclid(stretch_ms) * stretch_ms;
    let since = Millis(last - (stretches - 1) * stretch_ms);
    let mut found = app.store.activity(grain, since, stretch_ms, now).await?;
    let stretch = |at: i64| Stretch { at: Millis(at), came: found.stretches.remove(&at).unwrap_or_default() };
    let data = (0..stretches).map(|nth| since.0 + nth * stretch_ms).map(stretch).collect();
    Ok(Json(Activity { window, stretch_ms, is_partial: found.is_partial, data }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(name: &str) -> Finding {
        Finding {
            name: name.into(),
            since: String::new(),
            seen_at: String::new(),
            detail: String::new(),
            severity: String::new(),
        }
    }

    #[test]
    fn only_what_is_proven_is_exact() {
        let check = |basis, left, names: &[&str], expected| {
            let findings: Vec<Finding> = names.iter().map(|name| finding(name)).collect();
            let freshness = Freshness { basis, ..Freshness::default() };
            assert_eq!(standing(&freshness, left, &findings), expected, "{basis:?} {left:?} {names:?}");
        };
        check(Basis::None, None, &[], Standing::Empty);
        check(Basis::Delivered, None, &[], Standing::Unproven);
        check(Basis::Delivered, None, &["silence"], Standing::Unproven);
        check(Basis::Delivered, Some(2), &[], Standing::Different);
        check(Basis::Reconciled, Some(0), &[], Standing::Exact);
        check(Basis::Reconciled, Some(0), &["silence", "clerk-unreadable"], Standing::Exact);
        check(Basis::Reconciled, Some(1), &[], Standing::Different);
        check(Basis::Reconciled, Some(0), &[UNDELIVERED], Standing::Different);
        check(Basis::Reconciled, Some(0), &[COUNTS_DIFFER], Standing::Different);
    }

    #[test]
    fn lag_is_that_of_most() {
        assert_eq!(Lag::of(vec![]), None);
        assert_eq!(Lag::of(vec![9_000, 100, 200]), Some(Lag { median_ms: 200, max_ms: 9_000, of: 3 }));
    }
}

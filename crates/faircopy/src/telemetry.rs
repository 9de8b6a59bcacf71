//! Logs, figures and traces. None ever holds a secret, a body or anything personal: ids, counts and times only.
//! docs/observability.md lists all of them.

pub mod lines;
pub mod traces;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use faircopy_core::Millis;
use faircopy_core::alert::{self, Event};
use faircopy_store::{Outcome, Receipt};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::{Config, LogFormat};
use crate::sweep::{Ending, Report};
use lines::Columns;
use traces::{Collect, Exporter, TRACE};

/// Delivery durations, in seconds: from one commit on an idle machine to the point where Svix gives up.
const DURATIONS: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0];
/// How late a delivery is after its event, in seconds: from at once to Svix's last retry.
const LAGS: [f64; 10] = [0.1, 0.5, 1.0, 5.0, 30.0, 300.0, 1800.0, 7200.0, 36_000.0, 100_000.0];
/// Batch sizes up to the intake's bound.
const BATCHES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Refused signatures of this process that were not written down yet.
static REFUSED: AtomicI64 = AtomicI64::new(0);

/// The process's figures. Cheap to clone; every clone feeds the same registry.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// The one registry of this process, made at the first call.
    #[must_use]
    pub fn install() -> Self {
        static REGISTRY: OnceLock<PrometheusHandle> = OnceLock::new();
        Self(REGISTRY.get_or_init(recorder).clone())
    }

    /// The figures in Prometheus' text form.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// A delivery was acknowledged.
    pub fn delivery(&self, event_type: &str, receipt: &Receipt, seconds: f64, lag_ms: Option<i64>) {
        let event_type = known_type(event_type);
        metrics::counter!("faircopy_deliveries_total", "type" => event_type, "outcome" => receipt.outcome.as_str())
            .increment(1);
        metrics::histogram!("faircopy_delivery_duration_seconds").record(seconds);
        if let Some(lag) = lag_ms.filter(|_| receipt.outcome != Outcome::Duplicate) {
            #[expect(clippy::cast_precision_loss, reason = "a lag of 2^53 ms is beyond every bucket")]
            metrics::histogram!("faircopy_event_lag_seconds").record(lag.max(0) as f64 / 1000.0);
        }
        if receipt.conflict {
            metrics::counter!("faircopy_delivery_conflicts_total").increment(1);
        }
        if receipt.contested {
            metrics::counter!("faircopy_contested_versions_total").increment(1);
        }
    }

    /// A request was answered that was no delivery taken.
    pub fn request(&self, route: &str, status: u16) {
        let (route, status) = (route.to_owned(), status.to_string());
        metrics::counter!("faircopy_requests_total", "route" => route, "status" => status).increment(1);
    }

    /// A delivery failed its signature check.
    pub fn signature_failure(&self, reason: &'static str) {
        metrics::counter!("faircopy_signature_failures_total", "reason" => reason).increment(1);
        REFUSED.fetch_add(1, Ordering::Relaxed);
    }

    /// How many signatures were refused since this was last asked.
    #[must_use]
    pub fn take_refused(&self) -> i64 {
        REFUSED.swap(0, Ordering::Relaxed)
    }

    /// A reconcile has ended: what differed, and when it last went well.
    pub fn swept(&self, report: &Report, now: Millis) {
        self.drift(report);
        metrics::counter!("faircopy_sweeps_total", "outcome" => report.outcome.map_or("failed", Ending::as_str))
            .increment(1);
        if report.outcome.is_some_and(|ending| ending != Ending::Differences) && report.kind == "reconcile" {
            self.reconciled_at(now);
        }
    }

    /// What the last reconcile found, of whichever replica.
    pub fn drift(&self, report: &Report) {
        for (kind, tally) in &report.kinds {
            for (difference, rows) in [
                ("missing", tally.missing),
                ("extra", tally.extra),
                ("different", tally.different),
                ("left", tally.left),
            ] {
                #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
                metrics::gauge!("faircopy_drift_rows", "kind" => kind.as_str(), "difference" => difference)
                    .set(rows as f64);
            }
        }
    }

    /// A reconcile, of whichever replica, ended well then.
    pub fn reconciled_at(&self, at: Millis) {
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^53")]
        metrics::gauge!("faircopy_reconcile_last_success_timestamp_seconds").set(at.0 as f64 / 1000.0);
    }

    /// A sweep could not be finished.
    pub fn sweep_failed(&self) {
        metrics::counter!("faircopy_sweeps_total", "outcome" => "failed").increment(1);
    }

    /// How many jobs of a kind are not done, and for how long the oldest has been.
    pub fn jobs(&self, kind: &'static str, pending: u64, oldest_ms: u64) {
        #[expect(clippy::cast_precision_loss, reason = "figures to look at")]
        let (pending, oldest) = (pending as f64, oldest_ms as f64 / 1000.0);
        metrics::gauge!("faircopy_jobs_pending", "kind" => kind).set(pending);
        metrics::gauge!("faircopy_jobs_oldest_age_seconds", "kind" => kind).set(oldest);
    }

    /// Rows were deleted with an organization or a user.
    pub fn cascade_rows(&self, rows: u64) {
        metrics::counter!("faircopy_cascade_rows_total").increment(rows);
    }

    /// Something outside was tried, for a deletion: what it is now.
    pub fn cascade_step(&self, state: &'static str) {
        metrics::counter!("faircopy_cascade_steps_total", "state" => state).increment(1);
    }

    /// The janitor erased or forgot so many of a kind.
    pub fn cleaned(&self, kind: &'static str, rows: usize) {
        metrics::counter!("faircopy_janitor_rows_total", "kind" => kind).increment(rows as u64);
    }

    /// Whether a trouble is known (docs/errors.md).
    pub fn finding(&self, name: &'static str, is_known: bool) {
        metrics::gauge!("faircopy_finding", "name" => name).set(f64::from(u8::from(is_known)));
    }

    /// An alert was raised, or is over.
    pub fn alert(&self, name: &str, event: Event) {
        let name = alert::kind(name).map_or("other", |kind| kind.name);
        metrics::counter!("faircopy_alerts_total", "name" => name, "event" => event.as_str()).increment(1);
    }

    /// Somebody was told of trouble: the status, or why there was none. Targets are those of the settings.
    pub fn alert_post(&self, target: &str, result: &'static str) {
        metrics::counter!("faircopy_alert_posts_total", "target" => target.to_owned(), "result" => result).increment(1);
    }

    /// By how much this process's clock is ahead of another one.
    pub fn clock_lead(&self, of: &str, ahead_ms: i64) {
        #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
        metrics::gauge!("faircopy_clock_lead_seconds", "of" => of.to_owned()).set(ahead_ms as f64 / 1000.0);
    }

    /// How large the database is, and how much room there is beside it, where that can be seen.
    pub fn database(&self, bytes: u64, free: Option<u64>) {
        #[expect(clippy::cast_precision_loss, reason = "figures to look at")]
        let (bytes, free) = (bytes as f64, free.map(|free| free as f64));
        metrics::gauge!("faircopy_database_bytes").set(bytes);
        if let Some(free) = free {
            metrics::gauge!("faircopy_database_free_bytes").set(free);
        }
    }

    /// The worker that looks for trouble has looked.
    pub fn watched_at(&self, now: Millis) {
        #[expect(clippy::cast_precision_loss, reason = "seconds since 1970 are far below 2^53")]
        metrics::gauge!("faircopy_watched_timestamp_seconds").set(now.0 as f64 / 1000.0);
    }

    /// A probe counted the rows of a kind.
    pub fn rows(&self, kind: &'static str, clerk: u64, copy: u64) {
        #[expect(clippy::cast_precision_loss, reason = "figures to look at")]
        let (clerk, copy) = (clerk as f64, copy as f64);
        metrics::gauge!("faircopy_upstream_rows", "kind" => kind).set(clerk);
        metrics::gauge!("faircopy_copy_rows", "kind" => kind).set(copy);
    }

    /// Somebody listens to live queries, until this is dropped.
    #[must_use]
    pub fn live_subscriber(&self) -> Subscriber {
        metrics::gauge!("faircopy_live_subscribers").increment(1.0);
        Subscriber(())
    }

    /// A session token was looked at: `accepted`, or why not.
    pub fn session(&self, result: &'static str) {
        metrics::counter!("faircopy_session_tokens_total", "result" => result).increment(1);
    }

    /// What a session token said was news: `written`, or why it could not be.
    pub fn session_write(&self, result: &'static str) {
        metrics::counter!("faircopy_session_writes_total", "result" => result).increment(1);
    }

    /// A request was answered from the token alone, because the copy could not be read.
    pub fn session_unread(&self) {
        metrics::counter!("faircopy_session_copy_unread_total").increment(1);
    }

    /// The issuer's keys were fetched: `loaded`, or why not.
    pub fn keys_fetched(&self, result: &'static str) {
        metrics::counter!("faircopy_session_keys_fetches_total", "result" => result).increment(1);
    }

    /// How old the keys of session tokens are.
    pub fn keys_age(&self, millis: i64) {
        #[expect(clippy::cast_precision_loss, reason = "keys older than 2^53 ms are not used")]
        metrics::gauge!("faircopy_session_keys_age_seconds").set(millis as f64 / 1000.0);
    }

    /// Clerk's Backend API was asked: the status, or why there was none.
    pub fn clerk_request(&self, endpoint: &'static str, status: &'static str) {
        metrics::counter!("faircopy_clerk_requests_total", "endpoint" => endpoint, "status" => status).increment(1);
    }

    /// Liveblocks was asked to `delete` or to `list`: the status, or why there was none.
    pub fn liveblocks_request(&self, call: &'static str, status: &'static str) {
        metrics::counter!("faircopy_liveblocks_requests_total", "call" => call, "status" => status).increment(1);
    }

    /// A step of the application's own was told: the status, or why there was none.
    pub fn step_request(&self, step: &str, status: &'static str) {
        metrics::counter!("faircopy_step_requests_total", "step" => step.to_owned(), "status" => status).increment(1);
    }

    /// A destination was asked: the status, or why there was none. Destinations are those of the settings.
    pub fn destination_request(&self, destination: &str, status: &'static str) {
        metrics::counter!("faircopy_destination_requests_total", "destination" => destination.to_owned(), "status" => status)
            .increment(1);
    }

    /// Messages for a destination were `taken`, or `failed`; or subjects were `parked`.
    pub fn destination_messages(&self, destination: &str, result: &'static str, number: usize) {
        metrics::counter!("faircopy_destination_messages_total", "destination" => destination.to_owned(), "result" => result)
            .increment(number as u64);
    }

    /// How far a destination is behind the feed, and how many subjects wait and are parked there.
    pub fn destination_lag(&self, destination: &str, changes: i64, lag_ms: i64, waiting: i64, parked: i64) {
        let set = |name: &'static str, value: f64| {
            metrics::gauge!(name, "destination" => destination.to_owned()).set(value);
        };
        #[expect(clippy::cast_precision_loss, reason = "figures to look at")]
        let (changes, seconds, waiting, parked) =
            (changes as f64, lag_ms as f64 / 1000.0, waiting as f64, parked as f64);
        set("faircopy_destination_lag_changes", changes);
        set("faircopy_destination_lag_seconds", seconds);
        set("faircopy_destination_waiting", waiting);
        set("faircopy_destination_parked", parked);
    }

    /// Whether the key of the Backend API belongs to another instance than the one that is copied.
    pub fn clerk_key_is_foreign(&self, is_foreign: bool) {
        metrics::gauge!("faircopy_clerk_wrong_instance").set(f64::from(u8::from(is_foreign)));
    }

    /// So many provisional rows were found at one look.
    pub fn provisional(&self, rows: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a look finds at most 1500")]
        metrics::gauge!("faircopy_provisional_rows").set(rows as f64);
    }

    /// Clerk was read about provisional rows: so many it has, so many it does not have.
    pub fn confirmed(&self, confirmed: usize, denied: usize) {
        metrics::counter!("faircopy_confirmations_total", "result" => "confirmed").increment(confirmed as u64);
        metrics::counter!("faircopy_confirmations_total", "result" => "denied").increment(denied as u64);
    }

    /// Provisional rows could not be confirmed this time.
    pub fn confirmation_failed(&self) {
        metrics::counter!("faircopy_confirmations_total", "result" => "failed").increment(1);
    }

    /// Clerk was read for a request: `read`, or why the copy is no fresher.
    pub fn read_through(&self, result: &'static str) {
        metrics::counter!("faircopy_read_through_total", "result" => result).increment(1);
    }

    /// So many names were looked up for display: at hand, and not, or not newly enough.
    pub fn names_looked_up(&self, hits: usize, misses: usize) {
        metrics::counter!("faircopy_names_total", "result" => "hit").increment(hits as u64);
        metrics::counter!("faircopy_names_total", "result" => "miss").increment(misses as u64);
    }

    /// Of those not at hand, one was answered with less than a new name: an old one (`stale`), or the id, because Clerk knows
    /// `nobody` of it or did not answer (`failed`).
    pub fn name_shown(&self, result: &'static str) {
        metrics::counter!("faircopy_names_fallback_total", "result" => result).increment(1);
    }

    /// Clerk was asked for names in vain.
    pub fn names_unanswered(&self, reason: &'static str) {
        metrics::counter!("faircopy_names_unanswered_total", "reason" => reason).increment(1);
    }

    /// How many people's names are kept in memory.
    pub fn names_kept(&self, people: usize) {
        #[expect(clippy::cast_precision_loss, reason = "at most 10000 are kept")]
        metrics::gauge!("faircopy_names_kept").set(people as f64);
    }

    /// Whether reads for callers run under row-level security. PostgreSQL alone has this figure.
    pub fn second_wall(&self, found: bool) {
        metrics::gauge!("faircopy_row_level_security").set(if found { 1.0 } else { 0.0 });
    }

    /// A delivery was sent back to come again.
    pub fn refused(&self, reason: &'static str) {
        metrics::counter!("faircopy_deliveries_refused_total", "reason" => reason).increment(1);
    }

    /// So many deliveries shared a transaction.
    pub fn batch(&self, deliveries: usize) {
        #[expect(clippy::cast_precision_loss, reason = "a batch is at most 256")]
        metrics::histogram!("faircopy_batch_deliveries").record(deliveries as f64);
    }

    /// How many deliveries wait for a commit.
    pub fn waiting(&self, deliveries: usize) {
        #[expect(clippy::cast_precision_loss, reason = "the queue is bounded at 1024")]
        metrics::gauge!("faircopy_intake_waiting").set(deliveries as f64);
    }
}

fn recorder() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(suffix("delivery_duration_seconds"), &DURATIONS)
        .and_then(|builder| builder.set_buckets_for_metric(suffix("event_lag_seconds"), &LAGS))
        .and_then(|builder| builder.set_buckets_for_metric(suffix("batch_deliveries"), &BATCHES))
        .map(|builder| builder.build_recorder());
    let recorder = match recorder {
        Ok(recorder) => recorder,
        Err(error) => unreachable!("the bucket lists are constant and not empty: {error}"),
    };
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("another metrics recorder is installed; /metrics stays empty");
    }
    // A rule about what increases must know that it was nothing: what has not happened yet is shown as 0.
    for reason in ["no_match", "timestamp"] {
        metrics::counter!("faircopy_signature_failures_total", "reason" => reason).increment(0);
    }
    for reason in ["database-unavailable", "overloaded", "no-signing-secret"] {
        metrics::counter!("faircopy_deliveries_refused_total", "reason" => reason).increment(0);
    }
    for (kind, event) in alert::KINDS.iter().flat_map(|kind| [(kind, Event::Raised), (kind, Event::Resolved)]) {
        metrics::counter!("faircopy_alerts_total", "name" => kind.name, "event" => event.as_str()).increment(0);
    }
    metrics::gauge!("faircopy_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    handle
}

fn suffix(name: &str) -> metrics_exporter_prometheus::Matcher {
    metrics_exporter_prometheus::Matcher::Suffix(name.to_owned())
}

/// The type as a label: whatever is not a known one is `other`, so that no sender makes up new series.
fn known_type(event_type: &str) -> &'static str {
    faircopy_core::example::find(event_type).map_or("other", |example| example.event_type)
}

/// Sends log lines to standard error. A second call changes nothing.
pub fn log_to_stderr(filter: &str, format: LogFormat) -> Result<(), String> {
    install(filter, format, None)
}

/// The same for a service, and sends traces where the settings say so. Within a Tokio runtime.
pub fn start(config: &Config) -> Result<Option<Exporter>, String> {
    let (collect, exporter) = config.traces.as_ref().and_then(traces::start).unzip();
    install(&config.log, config.log_format, collect)?;
    Ok(exporter)
}

fn install(filter: &str, format: LogFormat, collect: Option<Collect>) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| format!("FAIRCOPY_LOG cannot be used: {error}"))?;
    // Lines hold what they say themselves: no span is made for them. What only asks whether there would be a line is no span either.
    let lines = filter.and(filter_fn(|metadata| !metadata.is_span()));
    let writer = tracing_subscriber::fmt::layer().with_writer(anstream::stderr);
    let writer: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Text => {
            let columns = Columns(tracing_subscriber::fmt::format().with_target(false));
            writer.event_format(columns).with_filter(lines).boxed()
        }
        LogFormat::Json => writer.json().flatten_event(true).with_filter(lines).boxed(),
    };
    let spans = filter_fn(|metadata| metadata.is_span() && metadata.target() == TRACE);
    let collect = collect.map(|collect| collect.with_filter(spans));
    drop(tracing_subscriber::registry().with(writer).with(collect).try_init());
    Ok(())
}

/// One who listens to live queries, counted.
#[derive(Debug)]
pub struct Subscriber(());

impl Drop for Subscriber {
    fn drop(&mut self) {
        metrics::gauge!("faircopy_live_subscribers").decrement(1.0);
    }
}

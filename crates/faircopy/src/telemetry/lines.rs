//! One line for each request and each delivery: docs/observability.md is the contract.
//!
//! A line is cheap and a flood of them is not: see [`LINES_A_SECOND`].

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use faircopy_core::Millis;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{Format, FormatEvent, FormatFields, Full, Writer};
use tracing_subscriber::registry::LookupSpan;

use crate::app::{Clock as _, SystemClock};
use crate::config::LogRequests;

/// What lines of deliveries are told as.
pub const DELIVERY: &str = "faircopy::delivery";
/// What lines of requests are told as.
pub const REQUEST: &str = "faircopy::request";
/// Lines in one second, unless all are wanted: at 5 µs each they cost 0.1 % of a core, and a person reads fewer.
pub const LINES_A_SECOND: u32 = 200;

/// Says which lines are written.
#[derive(Debug)]
pub struct Lines {
    wanted: LogRequests,
    second: AtomicI64,
    written: AtomicU32,
    left_out: AtomicU64,
}

impl Lines {
    /// Lines as the settings want them.
    #[must_use]
    pub fn new(wanted: LogRequests) -> Self {
        Self { wanted, second: AtomicI64::new(0), written: AtomicU32::new(0), left_out: AtomicU64::new(0) }
    }

    /// Whether one more line may be written now. Two that ask at the turn of a second may both begin it: the bound is one of cost, and
    /// need not be exact.
    pub fn take(&self, now: Millis) -> bool {
        match self.wanted {
            LogRequests::All => return true,
            LogRequests::Off => return false,
            LogRequests::Auto => {}
        }
        let second = now.0.div_euclid(1000);
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.written.store(0, Ordering::Relaxed);
            let left_out = self.left_out.swap(0, Ordering::Relaxed);
            if left_out > 0 {
                metrics::counter!("faircopy_log_lines_left_out_total").increment(left_out);
                tracing::info!(
                    lines = left_out,
                    "more requests and deliveries than lines (log_requests = \"all\" writes each)"
                );
            }
        }
        let is_within = self.written.fetch_add(1, Ordering::Relaxed) < LINES_A_SECOND;
        if !is_within {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        is_within
    }
}

/// Lines for people: requests and deliveries in columns, everything else as ever.
pub(super) struct Columns(pub(super) Format<Full>);

impl<S, N> FormatEvent<S, N> for Columns
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let target = event.metadata().target();
        if target != DELIVERY && target != REQUEST {
            return self.0.format_event(context, out, event);
        }
        let mut told = Told::default();
        event.record(&mut told);
        let now = SystemClock.now().to_string();
        // `2026-01-31T12:00:00.000Z`: the time of day.
        let time = now.get(11..19).unwrap_or(&now);
        writeln!(out, "{time}  {}", if target == DELIVERY { told.delivery() } else { told.request() })
    }
}

/// The fields of a line.
#[derive(Default)]
struct Told(Vec<(&'static str, String)>);

impl Told {
    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| value)
    }

    /// `user.created  user_29w8…  applied  3.1 ms`
    fn delivery(&self) -> String {
        let (event_type, entity) = (self.get("event_type"), self.get("entity_id"));
        let (outcome, ms) = (self.get("outcome"), self.get("duration_ms"));
        let note = if outcome == "stale" { "  newer copy kept" } else { "" };
        format!("{event_type:<30}  {entity:<31}  {outcome:<11}  {ms:>7} ms{note}")
    }

    /// `GET /v1/me  200  1.2 ms  request 5f0c…`
    fn request(&self) -> String {
        let what = format!("{} {}", self.get("method"), self.get("route"));
        let (status, ms, id) = (self.get("status"), self.get("duration_ms"), self.get("request_id"));
        format!("{what:<63}  {status:<11}  {ms:>7} ms  request {id}")
    }
}

impl Visit for Told {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push((field.name(), format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name(), value.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_writes_its_share_and_no_more() {
        let lines = Lines::new(LogRequests::Auto);
        let written = |second: i64, asked: usize| (0..asked).filter(|_| lines.take(Millis(second * 1000))).count();
        assert_eq!(written(1, 10_000), 200);
        assert_eq!(lines.left_out.load(Ordering::Relaxed), 9_800);
        assert_eq!(written(2, 150), 150);
        assert_eq!(lines.left_out.load(Ordering::Relaxed), 0, "what was left out is told once");
        assert!((0..1000).all(|_| Lines::new(LogRequests::All).take(Millis(0))));
        assert!(!Lines::new(LogRequests::Off).take(Millis(0)));
    }

    #[test]
    fn people_read_columns() {
        let told = |fields: &[(&'static str, &str)]| {
            Told(fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect())
        };
        let delivery = told(&[
            ("event_type", "user.updated"),
            ("entity_id", "user_29w83sxmDNGwOuEthce5gg56FcC"),
            ("outcome", "stale"),
            ("duration_ms", "3.1"),
        ]);
        let line = delivery.delivery();
        let parts: Vec<&str> = line.split("  ").map(str::trim).filter(|part| !part.is_empty()).collect();
        assert_eq!(parts, ["user.updated", "user_29w83sxmDNGwOuEthce5gg56FcC", "stale", "3.1 ms", "newer copy kept"]);
        let request = told(&[
            ("method", "GET"),
            ("route", "/v1/me"),
            ("status", "200"),
            ("duration_ms", "1.2"),
            ("request_id", "a1"),
        ]);
        let line = request.request();
        let parts: Vec<&str> = line.split("  ").map(str::trim).filter(|part| !part.is_empty()).collect();
        assert_eq!(parts, ["GET /v1/me", "200", "1.2 ms", "request a1"]);
    }
}

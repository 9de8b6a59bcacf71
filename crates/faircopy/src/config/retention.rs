//! How long each kind of thing is kept: `[retention]`, in days.

use serde::Deserialize;

use super::ConfigError;

/// A day.
const DAY_MS: i64 = 24 * 3_600_000;
/// A hundred years: as good as for ever.
const LONGEST: i64 = 36_500;
/// The shortest that tombstones are kept (merge.md): what could bring somebody back must be gone by then.
const TOMBSTONES_AT_LEAST: i64 = 400;

/// For how many milliseconds each kind is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Payloads of deliveries: what a replay reads.
    pub payloads_ms: i64,
    /// Deliveries without their payloads.
    pub deliveries_ms: i64,
    /// Entries of the change feed.
    pub changes_ms: i64,
    /// Reports of sweeps.
    pub drift_ms: i64,
    /// Receipts of erasures.
    pub erasures_ms: i64,
    /// That something was deleted at Clerk.
    pub tombstones_ms: i64,
}

/// `[retention]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RetentionFile {
    payloads_days: Option<i64>,
    deliveries_days: Option<i64>,
    changes_days: Option<i64>,
    drift_days: Option<i64>,
    erasures_days: Option<i64>,
    tombstones_days: Option<i64>,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            // A quarter: a fault in what was merged is noticed within one, and a reconcile repairs the rest.
            payloads_ms: 90 * DAY_MS,
            // As long as tombstones: who asks why a row went finds the delivery that said so.
            deliveries_ms: 400 * DAY_MS,
            // A month: a reader that stands still for longer reads the tables anew.
            changes_ms: 30 * DAY_MS,
            // A quarter, as payloads: what was repaired then can be explained no longer.
            drift_ms: 90 * DAY_MS,
            // Three years: claims about personal data come as late.
            erasures_ms: 1_100 * DAY_MS,
            tombstones_ms: TOMBSTONES_AT_LEAST * DAY_MS,
        }
    }
}

impl RetentionFile {
    pub(super) fn read(&self) -> Result<Retention, ConfigError> {
        let days = |key: &str, value: Option<i64>, least: i64, default_ms: i64| match value {
            None => Ok(default_ms),
            Some(days) if (least..=LONGEST).contains(&days) => Ok(days * DAY_MS),
            Some(days) => Err(ConfigError::Invalid {
                name: format!("retention.{key}"),
                fault: format!("is {days}; expected {least} to {LONGEST} days"),
            }),
        };
        let default = Retention::default();
        let retention = Retention {
            payloads_ms: days("payloads_days", self.payloads_days, 1, default.payloads_ms)?,
            deliveries_ms: days("deliveries_days", self.deliveries_days, 7, default.deliveries_ms)?,
            changes_ms: days("changes_days", self.changes_days, 1, default.changes_ms)?,
            drift_ms: days("drift_days", self.drift_days, 1, default.drift_ms)?,
            erasures_ms: days("erasures_days", self.erasures_days, 1, default.erasures_ms)?,
            tombstones_ms: days("tombstones_days", self.tombstones_days, TOMBSTONES_AT_LEAST, default.tombstones_ms)?,
        };
        // A replay of what was said before a deletion that nobody remembers would bring the row back.
        if retention.payloads_ms > retention.tombstones_ms {
            return Err(ConfigError::Invalid {
                name: "retention.payloads_days".into(),
                fault: "is more than `tombstones_days`: a replay could bring back what was deleted".into(),
            });
        }
        Ok(retention)
    }
}

//! What was said of findings, to whom, and how those answered (docs/decisions/0021-alerts.md).

use faircopy_core::Millis;
use faircopy_core::alert::{Event, Severity, Standing, Told};

use crate::engine::{Call, Row, Value};
use crate::error::{Error, Result};
use crate::leases::Fence;
use crate::{Store, Writer};

/// Alerts that are remembered, the newest: months of a noisy copy, years of a calm one.
pub const ALERTS_KEPT: i64 = 500;
/// Alerts that are forgotten in one transaction.
const FORGET_AT_ONCE: i64 = 50;
/// Alerts that targets may still have to be told of: one for each finding is open, and few end at once.
const MAX_UNTOLD: i64 = 200;

/// A finding, as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Its own name: the same in every replica and after a restart.
    pub id: String,
    /// The finding's name.
    pub name: String,
    /// How bad it was when it was last seen.
    pub severity: Severity,
    /// What was found, when it was last seen.
    pub detail: String,
    /// Since when it is, or was, so.
    pub since: Millis,
    /// When it was last seen.
    pub seen_at: Millis,
    /// Whether it is told, and over.
    pub standing: Standing,
}

/// How a target answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AlertTarget {
    /// Its name in the settings.
    pub name: String,
    /// How often in a row it did not take what it was told.
    pub failures: u32,
    /// Before then it is told nothing.
    pub due_at: Millis,
    /// When it last took something.
    pub last_ok_at: Option<Millis>,
    /// Why it did not take the last thing; `None` if it did.
    pub last_error: Option<String>,
}

const COLUMNS: &str =
    "a.id, a.name, a.severity, a.detail, a.since, a.seen_at, a.first_at, a.raised_at, a.gone_at, a.resolved_at";
/// What targets (a list in JSON) may still have to be told of.
const UNTOLD: &str = "a.raised_at IS NOT NULL AND (a.resolved_at IS NULL OR EXISTS (SELECT 1 FROM {s}alerts_told o \
    WHERE o.alert = a.id AND o.event <> 'resolved' AND o.target IN {list $1}))";

impl Store {
    /// The alerts that are not over, told or not.
    pub async fn open_alerts(&self) -> Result<Vec<Alert>> {
        let statement = format!("SELECT {COLUMNS} FROM {{s}}alerts a WHERE a.resolved_at IS NULL ORDER BY a.name");
        self.readers.read(&statement, vec![]).await?.iter().map(alert).collect()
    }

    /// The alerts that were raised last, newest first, those included that are over.
    pub async fn alerts(&self, limit: i64) -> Result<Vec<Alert>> {
        let statement = format!(
            "SELECT {COLUMNS} FROM {{s}}alerts a WHERE a.raised_at IS NOT NULL ORDER BY a.raised_at DESC, a.name LIMIT $1"
        );
        self.readers.read(&statement, vec![limit.into()]).await?.iter().map(alert).collect()
    }

    /// What one of these targets may have to be told of, oldest first; each with what targets were told of it last.
    pub async fn untold_alerts(&self, targets: &[&str]) -> Result<Vec<(Alert, Vec<(String, Told)>)>> {
        let list = serde_json::to_string(targets).unwrap_or_default();
        let scalars = || vec![Value::from(list.as_str()), MAX_UNTOLD.into()];
        let statement =
            format!("SELECT {COLUMNS} FROM {{s}}alerts a WHERE {UNTOLD} ORDER BY a.raised_at, a.name LIMIT $2");
        let alerts = self.readers.read(&statement, scalars()).await?;
        let mut found: Vec<(Alert, Vec<(String, Told)>)> =
            alerts.iter().map(|row| Ok((alert(row)?, Vec::new()))).collect::<Result<_>>()?;
        let ids: Vec<&str> = found.iter().map(|(alert, _)| alert.id.as_str()).collect();
        const TOLD: &str = "SELECT alert, target, event, severity, number, told_at FROM {s}alerts_told \
            WHERE alert IN {list $1} ORDER BY alert, target";
        let ids = serde_json::to_string(&ids).unwrap_or_default();
        for row in self.readers.read(TOLD, vec![ids.as_str().into()]).await? {
            let (id, target) = (row.required(0)?, row.required(1)?);
            let told = Told {
                event: read(&row, 2, "alerts_told", Event::parse)?,
                severity: read(&row, 3, "alerts_told", Severity::parse)?,
                at: Millis(row.int(5)?.unwrap_or_default()),
                number: row.int(4)?.unwrap_or_default(),
            };
            if let Some((_, known)) = found.iter_mut().find(|(alert, _)| alert.id == id) {
                known.push((target, told));
            }
        }
        Ok(found)
    }

    /// How the targets answered that were ever told something.
    pub async fn alert_targets(&self) -> Result<Vec<AlertTarget>> {
        const STATEMENT: &str =
            "SELECT name, failures, due_at, last_ok_at, last_error FROM {s}alert_targets ORDER BY name";
        let rows = self.readers.read(STATEMENT, vec![]).await?;
        rows.iter()
            .map(|row| {
                Ok(AlertTarget {
                    name: row.required(0)?,
                    failures: u32::try_from(row.int(1)?.unwrap_or_default()).unwrap_or(u32::MAX),
                    due_at: Millis(row.int(2)?.unwrap_or_default()),
                    last_ok_at: row.int(3)?.map(Millis),
                    last_error: row.text(4)?,
                })
            })
            .collect()
    }
}

impl Writer {
    /// Writes down how alerts stand, and forgets those that came and went before anybody was told (`gone`).
    pub async fn keep_alerts(&mut self, alerts: &[Alert], gone: &[String], fence: &Fence) -> Result<()> {
        const KEEP: &str = "INSERT INTO {s}alerts (id, name, severity, detail, since, seen_at, first_at, raised_at, \
            gone_at, resolved_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
            ON CONFLICT (id) DO UPDATE SET severity = excluded.severity, detail = excluded.detail, \
            since = excluded.since, seen_at = excluded.seen_at, raised_at = excluded.raised_at, gone_at = excluded.gone_at, \
            resolved_at = excluded.resolved_at";
        const FORGET: &str = "DELETE FROM {s}alerts WHERE id IN {list $1}";
        let mut calls = Vec::with_capacity(alerts.len() + 1);
        if !gone.is_empty() {
            let list = serde_json::to_string(gone).unwrap_or_default();
            calls.push(Call::new(FORGET, vec![list.as_str().into()]));
        }
        let time = |at: Option<Millis>| Value::Int(at.map(|at| at.0));
        calls.extend(alerts.iter().map(|alert| {
            let Standing { first_at, raised_at, gone_at, resolved_at } = alert.standing;
            let scalars = vec![
                alert.id.as_str().into(),
                alert.name.as_str().into(),
                alert.severity.as_str().into(),
                alert.detail.as_str().into(),
                alert.since.0.into(),
                alert.seen_at.0.into(),
                first_at.0.into(),
                time(raised_at),
                time(gone_at),
                time(resolved_at),
            ];
            Call::new(KEEP, scalars)
        }));
        if calls.is_empty() {
            return Ok(());
        }
        self.run_beside(Some(fence), calls).await.map(drop)
    }

    /// Writes down that a target was told something.
    pub async fn told_alert(&mut self, alert: &str, target: &str, told: &Told, fence: &Fence) -> Result<()> {
        const TELL: &str = "INSERT INTO {s}alerts_told (alert, target, event, severity, number, told_at) \
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (alert, target) DO UPDATE SET event = excluded.event, \
            severity = excluded.severity, number = excluded.number, told_at = excluded.told_at";
        let scalars = vec![
            alert.into(),
            target.into(),
            told.event.as_str().into(),
            told.severity.as_str().into(),
            told.number.into(),
            told.at.0.into(),
        ];
        self.run_beside(Some(fence), vec![Call::new(TELL, scalars)]).await.map(drop)
    }

    /// Writes down how a target answered. Whoever tries a target by hand needs no lease.
    pub async fn keep_alert_target(&mut self, target: &AlertTarget, fence: Option<&Fence>) -> Result<()> {
        const KEEP: &str = "INSERT INTO {s}alert_targets (name, failures, due_at, last_ok_at, last_error) \
            VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name) DO UPDATE SET failures = excluded.failures, \
            due_at = excluded.due_at, last_ok_at = excluded.last_ok_at, last_error = excluded.last_error";
        let scalars = vec![
            target.name.as_str().into(),
            i64::from(target.failures).into(),
            target.due_at.0.into(),
            Value::Int(target.last_ok_at.map(|at| at.0)),
            Value::Text(target.last_error.clone()),
        ];
        self.run_beside(fence, vec![Call::new(KEEP, scalars)]).await.map(drop)
    }

    /// Forgets the oldest of the alerts that are over, beyond [`ALERTS_KEPT`], a part at a time. Returns how many.
    pub async fn forget_alerts(&mut self, fence: &Fence) -> Result<usize> {
        const OLD: &str = "SELECT id FROM {s}alerts WHERE resolved_at IS NOT NULL \
            ORDER BY raised_at DESC, id LIMIT $2 OFFSET $1";
        let scalars = vec![ALERTS_KEPT.into(), FORGET_AT_ONCE.into()];
        let found = self.run_beside(Some(fence), vec![Call::new(OLD, scalars)]).await?;
        let old: Vec<String> = found.iter().flatten().map(|row| row.required(0)).collect::<Result<_>>()?;
        if !old.is_empty() {
            let list = serde_json::to_string(&old).unwrap_or_default();
            let forget =
                ["DELETE FROM {s}alerts_told WHERE alert IN {list $1}", "DELETE FROM {s}alerts WHERE id IN {list $1}"];
            let calls = forget.map(|statement| Call::new(statement, vec![list.as_str().into()]));
            self.run_beside(Some(fence), calls.into()).await?;
        }
        Ok(old.len())
    }
}

fn alert(row: &Row) -> Result<Alert> {
    let time = |column| Ok::<_, Error>(Millis(row.int(column)?.unwrap_or_default()));
    Ok(Alert {
        id: row.required(0)?,
        name: row.required(1)?,
        severity: read(row, 2, "alerts", Severity::parse)?,
        detail: row.required(3)?,
        since: time(4)?,
        seen_at: time(5)?,
        standing: Standing {
            first_at: time(6)?,
            raised_at: row.int(7)?.map(Millis),
            gone_at: row.int(8)?.map(Millis),
            resolved_at: row.int(9)?.map(Millis),
        },
    })
}

/// A word that this program wrote: a severity, or an event.
fn read<T>(row: &Row, column: usize, table: &'static str, parse: impl Fn(&str) -> Option<T>) -> Result<T> {
    let row_name = row.required(0)?;
    parse(&row.required(column)?).ok_or(Error::Corrupt { table, column: "severity or event", row: row_name })
}

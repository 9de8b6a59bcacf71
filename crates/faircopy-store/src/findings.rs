//! Troubles that are known now: found by one replica, told by all of them (docs/errors.md).

use faircopy_core::Millis;
use faircopy_core::alert::{self, Severity};

use crate::engine::{Call, Row, Value};
use crate::error::Result;
use crate::leases::Fence;
use crate::{Store, Writer};

/// The name of the finding that says that deliveries do not arrive which Clerk ought to have sent. While it stands, deliveries
/// alone prove nothing about what happened since (docs/freshness.md).
pub const UNDELIVERED: &str = "undelivered";
/// The name of the finding that says that the copy has more or fewer rows than Clerk. The same holds for it.
pub const COUNTS_DIFFER: &str = "counts-differ";

/// A trouble that is known now.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Finding {
    /// Its name: a section of `docs/errors.md`.
    #[schema(example = "silence")]
    pub name: String,
    /// How bad it is: `warning` or `critical`.
    #[schema(example = "warning")]
    pub severity: String,
    /// Since when it is so, as far as is known.
    #[schema(format = DateTime)]
    pub since: String,
    /// When it was last seen to be so.
    #[schema(format = DateTime)]
    pub seen_at: String,
    /// What was found, in a sentence.
    pub detail: String,
}

impl Store {
    /// The troubles that are known now, in the order of their names.
    pub async fn findings(&self) -> Result<Vec<Finding>> {
        let statement = "SELECT name, {time since}, {time seen_at}, detail, severity FROM {s}findings ORDER BY name";
        self.readers.read(statement, vec![]).await?.iter().map(finding).collect()
    }
}

impl Writer {
    /// Says that a trouble is there, since then, and as bad as its name. Where it was known, `since` stays what it was. Returns
    /// whether it is new.
    pub async fn raise_finding(
        &mut self,
        name: &str,
        since: Millis,
        detail: &str,
        now: Millis,
        fence: &Fence,
    ) -> Result<bool> {
        self.raise_finding_as(name, None, since, detail, now, fence).await
    }

    /// As [`Writer::raise_finding`], and this bad.
    pub async fn raise_finding_as(
        &mut self,
        name: &str,
        severity: Option<Severity>,
        since: Millis,
        detail: &str,
        now: Millis,
        fence: &Fence,
    ) -> Result<bool> {
        const KNOWN: &str = "SELECT name FROM {s}findings WHERE name = $1";
        const RAISE: &str = "INSERT INTO {s}findings (name, since, seen_at, detail, severity) \
            VALUES ($1, {as-time $2}, {as-time $3}, $4, $5) ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at, \
            detail = excluded.detail, severity = excluded.severity";
        let severity = Value::Text(severity.map(|severity| severity.as_str().to_owned()));
        let scalars = vec![name.into(), since.into(), now.into(), detail.into(), severity];
        let calls = vec![Call::new(KNOWN, vec![name.into()]), Call::new(RAISE, scalars)];
        let answers = self.run_under(Some(fence), calls).await?;
        Ok(answers.first().is_none_or(Vec::is_empty))
    }

    /// Says that a trouble is over. Returns whether there was one.
    pub async fn clear_finding(&mut self, name: &str, fence: &Fence) -> Result<bool> {
        const CLEAR: &str = "DELETE FROM {s}findings WHERE name = $1 RETURNING name";
        let answers = self.run_under(Some(fence), vec![Call::new(CLEAR, vec![name.into()])]).await?;
        Ok(answers.first().is_some_and(|rows| !rows.is_empty()))
    }
}

fn finding(row: &Row) -> Result<Finding> {
    let name = row.required(0)?;
    let by_name = || alert::kind(&name).map_or(Severity::Warning, |kind| kind.severity);
    let severity = row.text(4)?.unwrap_or_else(|| by_name().as_str().to_owned());
    Ok(Finding { severity, since: row.required(1)?, seen_at: row.required(2)?, detail: row.required(3)?, name })
}

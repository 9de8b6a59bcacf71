//! What reads of Clerk and session tokens brought: what came without a delivery, and changed something.

use faircopy_core::Millis;
use faircopy_core::event::{Fact, Observation};
use faircopy_core::id::{OrganizationId, UserId};
use faircopy_core::merge::{Change, Changes, Key};
use faircopy_core::record::Provenance;

use crate::engine::{Call, Row, Rows};
use crate::error::{Error, Result};
use crate::intake::Input;
use crate::{Store, Writer};

/// How long a reading is kept: a quarter, as long as somebody may still ask why a row became what it is. A backfill writes one for each
/// record, and they would be as many as the rows for ever.
pub const READINGS_KEPT_MS: i64 = 90 * 24 * 3_600_000;

/// Something that a read of Clerk or a token brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// When it was merged.
    pub read_at: Millis,
    /// `api`, `sweep` or `token`.
    pub source: String,
    /// [`Fact::kind`].
    pub kind: String,
    /// The version that it brought, where it was a snapshot.
    pub updated_at: Option<Millis>,
    /// When what it tells happened, was read or was issued.
    pub event_at: Millis,
    /// What it said; `None` where that is not kept any more.
    pub observation: Option<Observation>,
}

/// The news of a batch that no delivery brought.
#[derive(Default)]
pub(crate) struct News<'b>(Vec<(&'static str, &'b Observation)>);

impl<'b> News<'b> {
    /// Takes what an input brought, given which of its observations were news.
    pub(crate) fn take<I: Input>(&mut self, input: &'b I, parts: &[bool]) {
        if input.delivery().is_some() {
            return;
        }
        let is_swept = input.fence().is_some();
        let news = input.observations().iter().zip(parts).filter(|(_, is_news)| **is_news);
        self.0.extend(news.map(|(observation, _)| (source(observation, is_swept), observation)));
    }

    /// Writes it down. What it said of whoever is gone by the end of the batch is not kept.
    pub(crate) fn record(&self, changes: &Changes, now: Millis) -> Call<'b> {
        const STATEMENT: &str = "INSERT INTO {s}readings \
            (subject, clerk_org_id, source, kind, updated_at, event_at, read_at, fact) {values v.*}";
        let facts = || self.0.iter().map(|(_, observation)| &observation.fact);
        let rows = Rows::new(self.0.len())
            .text("subject", facts().map(|fact| Some(fact.key().to_string())))
            .text("clerk_org_id", facts().map(|fact| inviting(fact).map(OrganizationId::as_str)))
            .text("source", self.0.iter().map(|(source, _)| Some(*source)))
            .text("kind", facts().map(|fact| Some(fact.kind())))
            .time("updated_at", facts().map(|fact| fact.stamp().map(|stamp| stamp.updated_at)))
            .time("event_at", facts().map(|fact| Some(fact.happened_at())))
            .time("read_at", facts().map(|_| Some(now)))
            .text("fact", facts().map(|fact| kept(fact, changes)));
        Call::over(STATEMENT, rows)
    }
}

fn source(observation: &Observation, is_swept: bool) -> &'static str {
    match observation.source {
        Provenance::Token => "token",
        _ if is_swept => "sweep",
        _ => "api",
    }
}

fn inviting(fact: &Fact) -> Option<&OrganizationId> {
    match fact {
        Fact::Invitation(invitation, _) => Some(&invitation.organization),
        _ => None,
    }
}

fn kept(fact: &Fact, changes: &Changes) -> Option<String> {
    let is_gone = |key: &Key| match key {
        Key::User(id) => matches!(changes.users.get(id), Some(Change::Remove)),
        Key::Organization(id) => matches!(changes.organizations.get(id), Some(Change::Remove)),
        _ => false,
    };
    let inviter = inviting(fact).map(|id| Key::Organization(id.clone()));
    let is_erased = fact.stamp().is_some() && (is_gone(&fact.key()) || inviter.is_some_and(|key| is_gone(&key)));
    // What cannot be written as JSON does not exist.
    if is_erased { None } else { serde_json::to_string(fact).ok() }
}

/// Empties what was said of users who are gone.
pub(crate) fn erase_users<'a>(gone: &[&'a UserId]) -> Call<'a> {
    const STATEMENT: &str = "UPDATE {s}readings SET fact = NULL WHERE fact IS NOT NULL \
        AND kind IN ('user', 'part_of_user') AND subject {any-of SELECT v.id FROM {rows} AS v}";
    Call::over(STATEMENT, Rows::new(gone.len()).text("id", gone.iter().map(|id| Some(id.as_str()))))
}

/// Empties what was said of organizations that are gone.
pub(crate) fn erase_organizations<'a>(gone: &[&'a OrganizationId]) -> Call<'a> {
    const STATEMENT: &str = "UPDATE {s}readings SET fact = NULL WHERE fact IS NOT NULL \
        AND kind IN ('organization', 'part_of_organization') AND subject {any-of SELECT v.id FROM {rows} AS v}";
    Call::over(STATEMENT, Rows::new(gone.len()).text("id", gone.iter().map(|id| Some(id.as_str()))))
}

/// Empties what was said of invitations to organizations that are gone.
pub(crate) fn erase_invitations<'a>(gone: &[&'a OrganizationId]) -> Call<'a> {
    const STATEMENT: &str = "UPDATE {s}readings SET fact = NULL WHERE fact IS NOT NULL \
        AND clerk_org_id {any-of SELECT v.id FROM {rows} AS v}";
    Call::over(STATEMENT, Rows::new(gone.len()).text("id", gone.iter().map(|id| Some(id.as_str()))))
}

impl Store {
    /// What reads and tokens brought of a subject, newest first.
    pub async fn readings(&self, subject: &Key, limit: i64) -> Result<Vec<Reading>> {
        const STATEMENT: &str = "SELECT {time read_at}, source, kind, {time updated_at}, {time event_at}, fact \
            FROM {s}readings WHERE subject = $1 ORDER BY id DESC LIMIT $2";
        let scalars = vec![subject.to_string().as_str().into(), limit.into()];
        self.readers.read(STATEMENT, scalars).await?.iter().map(|row| read(row, subject)).collect()
    }
}

impl Writer {
    /// Forgets readings of before a time, the oldest first, at most `limit` of them. Returns how many.
    pub async fn forget_readings(&mut self, before: Millis, limit: i64) -> Result<usize> {
        const STATEMENT: &str = "DELETE FROM {s}readings WHERE read_at < {as-time $1} \
            AND id IN (SELECT id FROM {s}readings ORDER BY id LIMIT $2) RETURNING subject";
        let found = self.run_beside(None, vec![Call::new(STATEMENT, vec![before.into(), limit.into()])]).await?;
        Ok(found.iter().flatten().count())
    }
}

fn read(row: &Row, subject: &Key) -> Result<Reading> {
    let time = |column| Ok::<_, Error>(row.text(column)?.and_then(|text| Millis::parse(&text)));
    let source = row.required(1)?;
    let corrupt = |_| Error::Corrupt { table: "readings", column: "fact", row: subject.to_string() };
    let fact: Option<Fact> = row.text(5)?.map(|text| serde_json::from_str(&text).map_err(corrupt)).transpose()?;
    let provenance = if source == "token" { Provenance::Token } else { Provenance::Api };
    Ok(Reading {
        read_at: time(0)?.unwrap_or_default(),
        kind: row.required(2)?,
        updated_at: time(3)?,
        event_at: time(4)?.unwrap_or_default(),
        observation: fact.map(|fact| Observation { source: provenance, fact }),
        source,
    })
}

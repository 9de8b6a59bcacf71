//! What leaves the stored deliveries with a user who was deleted, and the receipts of it
//! (docs/decisions/0020-erasure-and-retention.md).
//!
//! Every statement here changes only what is not erased yet: whoever does it again, or at the same time, changes and counts
//! nothing twice.

use std::collections::BTreeMap;

use crate::engine::{self, Call, Connection, Dialect, Row, Rows, Value};
use crate::error::Result;
use crate::intake::{Arrival, Content};
use crate::{Store, Writer};
use faircopy_core::event::{Context, Event, Reading};
use faircopy_core::id::UserId;
use faircopy_core::merge::{Key, Register};
use faircopy_core::{Millis, ProfileMode, payload};

/// Deliveries that are erased in one transaction: a few milliseconds, and at most 50 MiB of bodies.
const ERASE_AT_ONCE: i64 = 50;
/// Deliveries that are given their names in one transaction: most are only looked at.
const NAME_AT_ONCE: i64 = 200;
/// Erasures of users who were deleted before there were any, begun in one transaction.
const BEGIN_AT_ONCE: i64 = 500;
/// How large a SQLite file may be to be written anew after erasures: writers wait for about half a second. `secure_delete` overwrites what
/// is deleted, but not what a row leaves behind in a page's free room when it is moved to another page.
const REWRITTEN_BYTES: i64 = 64 * 1024 * 1024;
/// What stands in place of an error that may have quoted the body.
const NO_ERROR: &str = "erased with its user";

/// An erasure that is to be gone on with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueErasure {
    /// Whose.
    pub user: String,
    /// Since when. It begins anew when something is stored about them without a look at it.
    pub since: Millis,
}

/// One erasure: while it is under way, how far it is; in the end, its receipt. Nothing personal.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Erasure {
    /// The user who was deleted.
    #[schema(example = "user_2g7np7Hrk0SN6kj5EDMLDaKNL0S")]
    pub clerk_user_id: String,
    /// When the deletion was known.
    #[schema(format = DateTime)]
    pub began_at: String,
    /// Deliveries whose payload was emptied.
    pub emptied: i64,
    /// Deliveries that keep what is not the user's.
    pub redacted: i64,
    /// Deliveries that came after the deletion, and were stored without the user's data.
    pub late: i64,
    /// When no stored delivery about the user held anything any more, as a last look at them showed.
    #[schema(format = DateTime)]
    pub finished_at: Option<String>,
    /// When the freed bytes were given up: SQLite's log emptied, PostgreSQL's dead rows vacuumed.
    #[schema(format = DateTime)]
    pub scrubbed_at: Option<String>,
}

const COLUMNS: &str = "clerk_user_id, began_at, emptied, redacted, late, {time finished_at}, {time scrubbed_at}";

impl Store {
    /// The erasure of a user.
    pub async fn erasure(&self, user: &str) -> Result<Option<Erasure>> {
        let statement = format!("SELECT {COLUMNS} FROM {{s}}erasures WHERE clerk_user_id = $1");
        self.readers.read(&statement, vec![user.into()]).await?.first().map(read).transpose()
    }

    /// Erasures, newest first, after a place `(began_at, user)`.
    pub async fn erasures_before(&self, before: Option<(Millis, &str)>, limit: i64) -> Result<Vec<Erasure>> {
        let (at, user) = before.unwrap_or((Millis(i64::MAX), ""));
        let statement = format!(
            "SELECT {COLUMNS} FROM {{s}}erasures WHERE (began_at, clerk_user_id) < ($1, $2) \
             ORDER BY began_at DESC, clerk_user_id DESC LIMIT $3"
        );
        self.readers.read(&statement, vec![at.0.into(), user.into(), limit.into()]).await?.iter().map(read).collect()
    }

    /// Erasures that are to be gone on with, those that wait longest first.
    pub async fn erasures_due(&self, now: Millis, limit: i64) -> Result<Vec<DueErasure>> {
        const STATEMENT: &str =
            "SELECT clerk_user_id, due_at FROM {s}erasures WHERE due_at <= $1 ORDER BY due_at, clerk_user_id LIMIT $2";
        let rows = self.readers.read(STATEMENT, vec![now.0.into(), limit.into()]).await?;
        let due = |row: &Row| Ok(DueErasure { user: row.required(0)?, since: Millis(row.int(1)?.unwrap_or_default()) });
        rows.iter().map(due).collect()
    }
}

impl Writer {
    /// Takes the user out of the next stored deliveries; returns how many were changed. Call again while it is not 0.
    pub async fn erase_deliveries(&mut self, user: &str, now: Millis) -> Result<usize> {
        let connection = self.fresh().await?;
        let result = engine::complete(connection.dialect(), Box::pin(erase(connection, user, now))).await;
        self.settle(result).await
    }

    /// Writes down that nothing is left to be erased, and when the bytes are to be scrubbed. Unless something was stored about the user since
    /// the erasure was found due: then it stays so.
    pub async fn finish_erasure(&mut self, due: &DueErasure, now: Millis, scrub_at: Millis) -> Result<()> {
        const STATEMENT: &str = "UPDATE {s}erasures SET finished_at = coalesce(finished_at, {as-time $2}), \
            scrubbed_at = NULL, due_at = $3 WHERE clerk_user_id = $1 AND due_at = $4";
        let scalars = vec![due.user.as_str().into(), now.into(), scrub_at.0.into(), due.since.0.into()];
        self.write_beside(vec![Call::new(STATEMENT, scalars)]).await
    }

    /// Gives up the bytes that erasures have freed: empties SQLite's log, vacuums PostgreSQL's table. Returns whether it
    /// could: a reader may stand in the way.
    pub async fn scrub(&mut self, now: Millis) -> Result<bool> {
        const STATEMENT: &str = "UPDATE {s}erasures SET scrubbed_at = {as-time $1}, due_at = NULL \
            WHERE due_at <= $2 AND finished_at IS NOT NULL";
        let connection = self.fresh().await?;
        let result = engine::complete(connection.dialect(), Box::pin(give_up_bytes(connection))).await;
        let is_done = self.settle(result).await?;
        if is_done {
            self.write_beside(vec![Call::new(STATEMENT, vec![now.into(), now.0.into()])]).await?;
        }
        Ok(is_done)
    }

    /// Writes the tables that held personal data anew, so that no page of theirs holds what was deleted. Nobody else can use
    /// them meanwhile.
    pub async fn rewrite(&mut self) -> Result<()> {
        const POSTGRES: [&str; 5] =
            ["webhook_deliveries", "users", "organization_members", "organization_invitations", "sweeps"];
        let connection = self.fresh().await?;
        let dialect = connection.dialect();
        let work = async move {
            match dialect {
                Dialect::Sqlite => {
                    connection.rewrite_file()?;
                    connection.empty_log().map(drop)
                }
                Dialect::Postgres => {
                    for table in POSTGRES {
                        connection.script(&format!("VACUUM (FULL, ANALYZE) faircopy.{table}")).await?;
                    }
                    give_up_bytes(connection).await.map(drop)
                }
            }
        };
        let result = engine::complete(dialect, Box::pin(work)).await;
        self.settle(result).await
    }

    /// Goes on with what a database held before deliveries were named: gives the next ones their names, and begins erasures of
    /// users who had been deleted. Returns whether there is more to do at once.
    pub async fn walk(&mut self, now: Millis) -> Result<bool> {
        let connection = self.fresh().await?;
        let result = engine::complete(connection.dialect(), Box::pin(walk(connection, now))).await;
        self.settle(result).await
    }

    /// Writes beside the pen.
    pub(crate) async fn write_beside(&mut self, calls: Vec<Call<'_>>) -> Result<()> {
        let connection = self.fresh().await?;
        let dialect = connection.dialect();
        let work = async move {
            connection.begin_beside_pen(calls).await?;
            connection.finish(vec![]).await
        };
        let result = engine::complete(dialect, Box::pin(work)).await;
        self.settle(result).await
    }
}

async fn give_up_bytes(connection: &mut Connection) -> Result<bool> {
    match connection.dialect() {
        Dialect::Sqlite => {
            // A file that is written anew goes through the log, which only grows while somebody reads what is in it.
            if !connection.empty_log()? {
                return Ok(false);
            }
            const BYTES: &str = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
            let bytes = connection.run(Call::new(BYTES, vec![])).await?;
            let bytes = bytes.first().map_or(Ok(None), |row| row.int(0))?;
            if bytes.is_none_or(|bytes| bytes > REWRITTEN_BYTES) {
                return Ok(true);
            }
            connection.rewrite_file()?;
            connection.empty_log()
        }
        Dialect::Postgres => {
            connection.script("VACUUM (ANALYZE) faircopy.webhook_deliveries").await?;
            Ok(true)
        }
    }
}

async fn erase(connection: &mut Connection, user: &str, now: Millis) -> Result<usize> {
    // Two statements, so that each is answered by its index, whatever the planner believes.
    const OWN: &str = "SELECT svix_id, event_type, payload FROM {s}webhook_deliveries \
        WHERE entity_id = $1 AND erased_at IS NULL LIMIT $2";
    const NAMING: &str = "SELECT svix_id, event_type, payload FROM {s}webhook_deliveries \
        WHERE clerk_user_id = $1 AND erased_at IS NULL LIMIT $2";
    // A body that could not be read has no names: it is looked into. Such bodies are few.
    const UNREAD: &str = "SELECT svix_id, event_type, payload FROM {s}webhook_deliveries \
        WHERE outcome = 'quarantined' AND entity_id IS NULL AND erased_at IS NULL AND payload LIKE '%' || $1 || '%' LIMIT $2";
    const COUNT: &str =
        "UPDATE {s}erasures SET emptied = emptied + $2, redacted = redacted + $3 WHERE clerk_user_id = $1";
    let scalars = || -> Vec<Value> { vec![user.into(), ERASE_AT_ONCE.into()] };
    let calls = [OWN, NAMING, UNREAD].map(|statement| Call::new(statement, scalars()));
    let found = connection.begin_beside_pen(calls.into()).await?;
    let mut erased = Vec::new();
    for (rows, is_read) in found.iter().zip([true, true, false]) {
        for row in rows {
            let (event_type, payload) = (row.required(1)?, row.text(2)?);
            if is_read {
                let remains = payload.and_then(|payload| payload::erase(&payload, &event_type));
                erased.push((row.required(0)?, remains));
            } else if payload.is_some_and(|payload| names(&payload, user)) {
                erased.push((row.required(0)?, None));
            }
        }
    }
    erased.sort_unstable();
    erased.dedup_by(|a, b| a.0 == b.0);
    let changed = connection.run(set_erased(&erased, now)).await?;
    let (mut emptied, mut redacted) = (0, 0);
    for row in &changed {
        let is_empty = row.bool(0)?.unwrap_or_default();
        *(if is_empty { &mut emptied } else { &mut redacted }) += 1_i64;
    }
    connection.finish(vec![Call::new(COUNT, vec![user.into(), emptied.into(), redacted.into()])]).await?;
    Ok(changed.len())
}

/// Whether a text holds the id as a word of its own.
fn names(text: &str, id: &str) -> bool {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-');
    text.match_indices(id).any(|(at, _)| !text[..at].ends_with(is_part) && !text[at + id.len()..].starts_with(is_part))
}

/// Sets what remains of deliveries, in the order of their ids. Returns of each that was changed whether its payload is empty.
fn set_erased<'a>(erased: &[(String, Option<String>)], now: Millis) -> Call<'a> {
    const STATEMENT: &str = "UPDATE {s}webhook_deliveries AS t SET payload = v.remains, erased_at = v.now, \
        error = CASE WHEN t.error IS NULL THEN NULL ELSE v.reason END FROM {rows} AS v \
        WHERE t.svix_id = v.svix_id AND t.svix_id {any-of SELECT v.svix_id FROM {rows} AS v} AND t.erased_at IS NULL \
        RETURNING payload IS NULL";
    let rows = Rows::new(erased.len())
        .text("svix_id", erased.iter().map(|(svix_id, _)| Some(svix_id.clone())))
        .text("remains", erased.iter().map(|(_, remains)| remains.clone()))
        .text("reason", erased.iter().map(|_| Some(NO_ERROR)))
        .time("now", erased.iter().map(|_| Some(now)));
    Call::over(STATEMENT, rows)
}

/// The user whom a delivery is about: whether they were deleted decides what of it is stored.
pub(crate) fn person(event: &Event) -> Option<UserId> {
    let id = event.about.user.as_deref().or(event.entity_id.as_deref())?;
    UserId::parse(id).ok()
}

/// The register that says so, where the delivery's observations do not name it anyway: a user's own and a member's do.
pub(crate) fn key_of(arrival: &Arrival) -> Option<Key> {
    let event = &arrival.content.event;
    let is_read_anyway = matches!(event.reading, Reading::Observed(_)) && event.about.user.is_none();
    if is_read_anyway { None } else { person(event).map(Key::User) }
}

/// What must be written for a batch: erasures that begin with their users' tombstones, and deliveries of users who have one,
/// which are stored without them. `is_new` says of which the id was not known before.
pub(crate) fn of_batch<'a>(
    registers: &'a BTreeMap<Key, Register>,
    late: &[(&Arrival, bool)],
    now: Millis,
) -> Vec<Call<'a>> {
    const BEGIN: &str = "INSERT INTO {s}erasures (clerk_user_id, began_at, due_at) SELECT v.id, v.now, v.now FROM {rows} AS v \
        WHERE true ON CONFLICT (clerk_user_id) DO NOTHING";
    const LATE: &str = "UPDATE {s}erasures AS t SET late = t.late + v.late, due_at = v.now \
        FROM {rows} AS v WHERE t.clerk_user_id = v.id";
    let buried: Vec<&str> = registers
        .iter()
        .filter_map(|(key, register)| match key {
            Key::User(id) if register.tombstone.is_some() => Some(id.as_str()),
            _ => None,
        })
        .collect();
    let begin = Rows::new(buried.len())
        .text("id", buried.iter().map(|id| Some(*id)))
        .int("now", buried.iter().map(|_| Some(now.0)));
    let mut erased: Vec<(String, Option<String>)> = Vec::new();
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for (arrival, is_new) in late {
        let Content { payload, event } = &arrival.content;
        let remains = payload.as_deref().and_then(|payload| payload::erase(payload, &event.event_type));
        erased.push((arrival.svix_id.clone(), remains));
        if *is_new
            && event.event_type != "user.deleted"
            && let Some(user) = person(event)
        {
            *counts.entry(user.as_str().to_owned()).or_default() += 1;
        }
    }
    erased.sort_unstable();
    erased.dedup_by(|a, b| a.0 == b.0);
    let late = Rows::new(counts.len())
        .text("id", counts.keys().map(|id| Some(id.clone())))
        .int("late", counts.values().map(|count| Some(*count)))
        // What was stored first, in this transaction, is to be scrubbed.
        .int("now", counts.values().map(|_| Some(now.0)));
    vec![Call::over(BEGIN, begin), set_erased(&erased, now), Call::over(LATE, late)]
}

/// Lets the erasure of a user, if there is one, be gone on with: something was stored about them without a look at it.
pub(crate) fn again<'a>(users: impl Iterator<Item = String>, now: Millis) -> Call<'a> {
    const STATEMENT: &str =
        "UPDATE {s}erasures AS t SET due_at = v.now, finished_at = NULL FROM {rows} AS v WHERE t.clerk_user_id = v.id";
    let users: Vec<String> = users.collect();
    let length = users.len();
    let rows =
        Rows::new(length).text("id", users.into_iter().map(Some)).int("now", std::iter::repeat_n(Some(now.0), length));
    Call::over(STATEMENT, rows)
}

async fn walk(connection: &mut Connection, now: Millis) -> Result<bool> {
    const WALKS: &str = "SELECT name, after, until FROM {s}walks ORDER BY name{for-update}";
    let found = connection.begin_beside_pen(vec![Call::new(WALKS, vec![])]).await?;
    let mut more = false;
    for row in found.first().into_iter().flatten() {
        let (name, after, until) = (row.required(0)?, row.required(1)?, row.required(2)?);
        let (last, is_full) = match name.as_str() {
            "deliveries" => name_deliveries(connection, &after, &until, now).await?,
            _ => begin_old(connection, &after, now).await?,
        };
        more |= is_full;
        let is_over = !is_full && Millis::parse(&until).is_none_or(|until| until < now);
        let scalars: Vec<Value> =
            if is_over { vec![name.as_str().into()] } else { vec![name.as_str().into(), last.as_str().into()] };
        let statement = if is_over {
            "DELETE FROM {s}walks WHERE name = $1"
        } else {
            "UPDATE {s}walks SET after = $2 WHERE name = $1"
        };
        connection.run(Call::new(statement, scalars)).await?;
    }
    connection.finish(vec![]).await?;
    Ok(more)
}

/// Gives the next deliveries their names; returns where it stands, and whether there may be more.
async fn name_deliveries(connection: &mut Connection, after: &str, until: &str, now: Millis) -> Result<(String, bool)> {
    const NEXT: &str = "SELECT svix_id, payload, {time received_at} FROM {s}webhook_deliveries \
        WHERE (received_at, svix_id) > ({as-time $1}, $2) AND received_at <= {as-time $3} \
        ORDER BY received_at, svix_id LIMIT $4";
    const NAME: &str = "UPDATE {s}webhook_deliveries AS t SET clerk_user_id = v.user_id, clerk_org_id = v.org_id \
        FROM {rows} AS v WHERE t.svix_id = v.svix_id AND t.svix_id {any-of SELECT v.svix_id FROM {rows} AS v}";
    let (at, id) = after.split_once('~').unwrap_or(("1970-01-01T00:00:00.000Z", ""));
    let scalars = vec![at.into(), id.into(), until.into(), NAME_AT_ONCE.into()];
    let found = connection.run(Call::new(NEXT, scalars)).await?;
    let context = Context { mode: ProfileMode::Full, signed_at: now, instance: None };
    let mut named = Vec::new();
    for row in &found {
        let Some(payload) = row.text(1)? else { continue };
        let about = Content::read(payload.as_bytes(), &context).event.about;
        if about.user.is_some() || about.organization.is_some() {
            named.push((row.required(0)?, about));
        }
    }
    named.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let rows = Rows::new(named.len())
        .text("svix_id", named.iter().map(|(svix_id, _)| Some(svix_id.as_str())))
        .text("user_id", named.iter().map(|(_, about)| about.user.as_deref()))
        .text("org_id", named.iter().map(|(_, about)| about.organization.as_deref()));
    connection.run(Call::over(NAME, rows)).await?;
    connection.run(again(named.iter().filter_map(|(_, about)| about.user.clone()), now)).await?;
    let last = found.last().map(|row| Ok::<_, crate::Error>(format!("{}~{}", row.required(2)?, row.required(0)?)));
    let is_full = i64::try_from(found.len()).is_ok_and(|length| length >= NAME_AT_ONCE);
    Ok((last.transpose()?.unwrap_or_else(|| after.to_owned()), is_full))
}

/// Begins the erasures of the next users who have a tombstone.
async fn begin_old(connection: &mut Connection, after: &str, now: Millis) -> Result<(String, bool)> {
    const NEXT: &str = "SELECT subject FROM {s}registers WHERE subject > $1 AND subject >= 'user_' AND subject < 'user`' \
        AND tombstone_at IS NOT NULL ORDER BY subject LIMIT $2";
    const BEGIN: &str = "INSERT INTO {s}erasures (clerk_user_id, began_at, due_at) SELECT v.id, v.now, v.now FROM {rows} AS v \
        WHERE true ON CONFLICT (clerk_user_id) DO NOTHING";
    let found = connection.run(Call::new(NEXT, vec![after.into(), BEGIN_AT_ONCE.into()])).await?;
    let users: Vec<String> = found.iter().map(|row| row.required(0)).collect::<Result<_>>()?;
    let rows = Rows::new(users.len())
        .text("id", users.iter().map(|id| Some(id.as_str())))
        .int("now", users.iter().map(|_| Some(now.0)));
    connection.run(Call::over(BEGIN, rows)).await?;
    let is_full = i64::try_from(users.len()).is_ok_and(|length| length >= BEGIN_AT_ONCE);
    Ok((users.into_iter().next_back().unwrap_or_else(|| after.to_owned()), is_full))
}

fn read(row: &Row) -> Result<Erasure> {
    Ok(Erasure {
        clerk_user_id: row.required(0)?,
        began_at: Millis(row.int(1)?.unwrap_or_default()).to_string(),
        emptied: row.int(2)?.unwrap_or_default(),
        redacted: row.int(3)?.unwrap_or_default(),
        late: row.int(4)?.unwrap_or_default(),
        finished_at: row.text(5)?,
        scrubbed_at: row.text(6)?,
    })
}

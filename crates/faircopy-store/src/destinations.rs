//! Where each destination stands in the change feed, who waits there, and the rows that it is told
//! (docs/decisions/0026-destinations.md).
//!
//! A destination's row is written by the worker under the fence of its lease, and by an operator's orders. An order raises `revision`, and
//! what was under way before it is not written down: it is sent once more, which no destination minds.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use faircopy_core::Millis;
use faircopy_core::destination::{Change, Entity, Operation, Place, Resend, Settled, Subject, Sweep, Waiting};

use crate::cascades::begin_fenced;
use crate::engine::{self, Call, Connection, Row, Rows, Value};
use crate::error::{Error, Result};
use crate::leases::Fence;
use crate::public;
use crate::{Store, Writer};

/// A declared destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// Its name in the settings.
    pub name: String,
    /// `webhook`, `convex` or `nats`.
    pub kind: String,
    /// An operator has stopped it.
    pub is_paused: bool,
    /// Goes up with each order.
    pub revision: i64,
    /// Where it stands.
    pub place: Place,
    /// How often everything was sent.
    pub runs: i64,
    /// Why it takes nothing, where it takes nothing.
    pub trouble: Option<Trouble>,
    /// When it last took something.
    pub last_ok_at: Option<Millis>,
}

/// Why a destination takes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Attempts in a row.
    pub failures: u32,
    /// Since when.
    pub since: Millis,
    /// What came of the last one.
    pub error: String,
}

/// A destination, and what there is to be done for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DestinationStanding {
    /// The destination.
    pub destination: Destination,
    /// The last number of the feed.
    pub newest: i64,
    /// The last number that the feed has forgotten.
    pub forgotten: i64,
    /// Subjects that wait for another attempt.
    pub waiting: i64,
    /// When the first of them is due.
    pub due_at: Option<Millis>,
    /// Subjects that are parked.
    pub parked: i64,
    /// When the oldest change was committed that it has not been told.
    pub oldest_at: Option<Millis>,
}

/// What came of declaring a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declared {
    /// It was known.
    Known,
    /// It is new, or leads elsewhere: everything is sent to it.
    Begins,
}

/// What an operator says of a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DestinationOrder {
    /// It is told nothing until it is resumed.
    Pause,
    /// It goes on, and who waits or is parked is tried again at once.
    Resume,
    /// It is told the feed again after this number.
    Rewind(i64),
    /// It is sent everything.
    Resend,
}

const COLUMNS: &str = "d.name, d.kind, d.is_paused, d.revision, d.sequence, d.runs, d.resend_number, d.resend_began_at, \
    d.resend_entity, d.resend_after, d.sweep_number, d.sweep_began_at, d.failures, d.failing_since, d.last_error, d.last_ok_at";
const WAITING: &str = "subject, sequence, operation, changed_at, is_resend, attempts, due_at, since, error";

impl Store {
    /// Every destination that was ever declared, in the order of the names.
    pub async fn destinations(&self) -> Result<Vec<DestinationStanding>> {
        let of = |condition: &str| {
            format!("(SELECT count(*) FROM {{s}}destination_parked p WHERE p.destination = d.name AND {condition})")
        };
        let statement = format!(
            "SELECT {COLUMNS}, f.sequence, f.forgotten, {}, {}, \
             (SELECT min(p.due_at) FROM {{s}}destination_parked p WHERE p.destination = d.name), \
             (SELECT {{ms c.changed_at}} FROM {{s}}changes c WHERE c.sequence > d.sequence ORDER BY c.sequence LIMIT 1) \
             FROM {{s}}destinations d JOIN {{s}}feed f ON true ORDER BY d.name",
            of("p.due_at IS NOT NULL"),
            of("p.due_at IS NULL"),
        );
        self.readers.read(&statement, vec![]).await?.iter().map(standing).collect()
    }

    /// One of them.
    pub async fn destination(&self, name: &str) -> Result<Option<DestinationStanding>> {
        // There are a handful.
        Ok(self.destinations().await?.into_iter().find(|standing| standing.destination.name == name))
    }

    /// Changes after a number, in order, at most `limit`.
    pub async fn feed_after(&self, sequence: i64, limit: i64) -> Result<Vec<Change>> {
        const STATEMENT: &str = "SELECT sequence, entity, id, operation, {ms changed_at} FROM {s}changes \
            WHERE sequence > $1 ORDER BY sequence LIMIT $2";
        let rows = self.readers.read(STATEMENT, vec![sequence.into(), limit.into()]).await?;
        let read = |row: &Row| {
            let sequence = row.int(0)?.unwrap_or_default();
            let corrupt = |column| Error::Corrupt { table: "changes", column, row: sequence.to_string() };
            let entity = Entity::parse(&row.required(1)?).ok_or_else(|| corrupt("entity"))?;
            let operation = Operation::parse(&row.required(3)?).ok_or_else(|| corrupt("operation"))?;
            let subject = Subject { entity, id: row.required(2)? };
            let changed_at = Millis(row.int(4)?.unwrap_or_default());
            Ok(Change { sequence, subject, operation, changed_at, is_resend: false })
        };
        rows.iter().map(read).collect()
    }

    /// Which of these subjects wait at a destination, parked or not.
    pub async fn waiting_among(&self, destination: &str, subjects: &[String]) -> Result<BTreeSet<Subject>> {
        const STATEMENT: &str =
            "SELECT subject FROM {s}destination_parked WHERE destination = $1 AND subject IN {list $2}";
        if subjects.is_empty() {
            return Ok(BTreeSet::new());
        }
        let list = serde_json::to_string(subjects).unwrap_or_default();
        let rows = self.readers.read(STATEMENT, vec![destination.into(), list.as_str().into()]).await?;
        rows.iter().map(|row| subject(row, 0)).collect()
    }

    /// Who is due at a destination, those that are due longest first.
    pub async fn waiting_due(&self, destination: &str, now: Millis, limit: i64) -> Result<Vec<Waiting>> {
        let statement = format!(
            "SELECT {WAITING} FROM {{s}}destination_parked WHERE destination = $1 AND due_at <= $2 ORDER BY due_at, subject LIMIT $3"
        );
        let rows = self.readers.read(&statement, vec![destination.into(), now.0.into(), limit.into()]).await?;
        rows.iter().map(waiting).collect()
    }

    /// Who waits at a destination: the parked first, then those that are due soonest.
    pub async fn waiting_at(&self, destination: &str, limit: i64) -> Result<Vec<Waiting>> {
        let statement = format!(
            "SELECT {WAITING} FROM {{s}}destination_parked WHERE destination = $1 \
             ORDER BY due_at IS NOT NULL, due_at, sequence, subject LIMIT $2"
        );
        let rows = self.readers.read(&statement, vec![destination.into(), limit.into()]).await?;
        rows.iter().map(waiting).collect()
    }

    /// The rows of these subjects as they are now, with one statement for each table.
    pub async fn rows_of(&self, subjects: &[Subject]) -> Result<HashMap<Subject, public::Row>> {
        let mut by_entity: BTreeMap<Entity, Vec<&str>> = BTreeMap::new();
        for subject in subjects {
            by_entity.entry(subject.entity).or_default().push(&subject.id);
        }
        let mut found = HashMap::with_capacity(subjects.len());
        for (entity, ids) in by_entity {
            for (id, row) in self.rows_by_key(table(entity), &ids).await? {
                found.insert(Subject { entity, id }, row);
            }
        }
        Ok(found)
    }

    /// A page of a table in the order of its keys, after one of them.
    pub async fn rows_after(&self, entity: Entity, after: &str, limit: i64) -> Result<Vec<(String, public::Row)>> {
        self.rows_after_key(table(entity), after, limit).await
    }
}

/// The public table of an entity.
fn table(entity: Entity) -> &'static str {
    match entity {
        Entity::User => "users",
        Entity::Organization => "organizations",
        Entity::Member => "organization_members",
        Entity::Invitation => "organization_invitations",
        Entity::Workspace => "workspaces",
    }
}

impl Writer {
    /// Makes a destination known. One that is new, or whose `target` is another one than before, is sent everything.
    pub async fn declare_destination(
        &mut self,
        name: &str,
        kind: &str,
        target: &str,
        now: Millis,
        fence: &Fence,
    ) -> Result<Declared> {
        const DECLARE: &str = "INSERT INTO {s}destinations AS d (name, kind, target, sequence, runs, resend_number, resend_began_at, \
            resend_entity, resend_after, declared_at) \
            SELECT $1, $2, $3, 0, 1, f.sequence, CAST($4 AS {bigint}), $5, '', CAST($4 AS {bigint}) FROM {s}feed f WHERE true \
            ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, target = excluded.target, runs = d.runs + 1, \
            revision = d.revision + 1, resend_number = excluded.resend_number, resend_began_at = excluded.resend_began_at, \
            resend_entity = excluded.resend_entity, resend_after = '', sweep_number = NULL, sweep_began_at = NULL, \
            failures = 0, failing_since = NULL, last_error = NULL WHERE d.target <> excluded.target RETURNING name";
        let scalars =
            || vec![name.into(), kind.into(), target.into(), now.0.into(), Value::from(Entity::ALL[0].as_str())];
        let connection = self.fresh().await?;
        let dialect = connection.dialect();
        let work = async {
            begin_fenced(connection, Some(fence)).await?;
            let begins = !connection.run(Call::new(DECLARE, scalars())).await?.is_empty();
            let calls = if begins { vec![forget_waiting(name)] } else { vec![] };
            connection.finish(calls).await?;
            Ok(if begins { Declared::Begins } else { Declared::Known })
        };
        let result = engine::complete(dialect, Box::pin(work)).await;
        self.settle(result).await
    }

    /// Writes down what came of a batch: where the destination stands, and who waits. `false` where an operator gave an order meanwhile:
    /// then nothing is.
    pub async fn settle_destination(
        &mut self,
        after: &Destination,
        settled: &Settled,
        fence: Option<&Fence>,
    ) -> Result<bool> {
        let connection = self.fresh().await?;
        let dialect = connection.dialect();
        let result = engine::complete(dialect, Box::pin(settle(connection, after, settled, fence))).await;
        self.settle(result).await
    }

    /// Carries out an operator's order, if the destination is so that it can: `false` where it is not, and nothing is changed.
    pub async fn order_destination(&mut self, name: &str, order: DestinationOrder, now: Millis) -> Result<bool> {
        const PAUSE: &str = "UPDATE {s}destinations SET is_paused = (1 = 1), revision = revision + 1 \
            WHERE name = $1 AND NOT is_paused RETURNING name";
        const RESUME: &str = "UPDATE {s}destinations SET is_paused = (1 = 0), revision = revision + 1, failures = 0, \
            failing_since = NULL, last_error = NULL WHERE name = $1 RETURNING name";
        const TRY_AGAIN: &str = "UPDATE {s}destination_parked SET due_at = $2, attempts = 0 WHERE destination = $1";
        const REWIND: &str = "UPDATE {s}destinations SET sequence = $2, revision = revision + 1 \
            WHERE name = $1 AND sequence >= $2 AND resend_number IS NULL RETURNING name";
        const RESEND: &str = "UPDATE {s}destinations SET resend_number = (SELECT sequence FROM {s}feed), resend_began_at = $2, \
            resend_entity = $3, resend_after = '', sweep_number = NULL, sweep_began_at = NULL, runs = runs + 1, \
            revision = revision + 1 WHERE name = $1 RETURNING name";
        let named = |more: Vec<Value>| [vec![Value::from(name)], more].concat();
        let (order, then) = match order {
            DestinationOrder::Pause => (Call::new(PAUSE, named(vec![])), None),
            DestinationOrder::Resume => {
                (Call::new(RESUME, named(vec![])), Some(Call::new(TRY_AGAIN, named(vec![now.0.into()]))))
            }
            DestinationOrder::Rewind(to) => (Call::new(REWIND, named(vec![to.into()])), None),
            DestinationOrder::Resend => {
                let scalars = named(vec![now.0.into(), Entity::ALL[0].as_str().into()]);
                (Call::new(RESEND, scalars), Some(forget_waiting(name)))
            }
        };
        let connection = self.fresh().await?;
        let dialect = connection.dialect();
        let work = async {
            connection.begin_beside_pen(vec![]).await?;
            let is_done = !connection.run(order).await?.is_empty();
            connection.finish(then.filter(|_| is_done).into_iter().collect()).await?;
            Ok(is_done)
        };
        let result = engine::complete(dialect, Box::pin(work)).await;
        self.settle(result).await
    }
}

/// Whoever waits is sent again with everything, or swept.
fn forget_waiting(destination: &str) -> Call<'static> {
    Call::new("DELETE FROM {s}destination_parked WHERE destination = $1", vec![destination.into()])
}

async fn settle(
    connection: &mut Connection,
    after: &Destination,
    settled: &Settled,
    fence: Option<&Fence>,
) -> Result<bool> {
    begin_fenced(connection, fence).await?;
    if connection.run(update(after)).await?.is_empty() {
        connection.rollback().await?;
        return Ok(false);
    }
    let name = after.name.as_str();
    let cleared: Vec<String> = settled.cleared.iter().map(ToString::to_string).collect();
    let subjects = |changes: &mut dyn Iterator<Item = &Change>| {
        changes.map(|change| change.subject.to_string()).collect::<Vec<_>>()
    };
    let waiting = subjects(&mut settled.waiting.iter().map(|waiting| &waiting.change));
    let held = subjects(&mut settled.held.iter());
    let calls = vec![clear(name, &cleared), wait(name, &settled.waiting, &waiting), hold(name, &settled.held, &held)];
    connection.finish(calls).await?;
    Ok(true)
}

fn update(after: &Destination) -> Call<'static> {
    const UPDATE: &str = "UPDATE {s}destinations SET sequence = $3, resend_number = $4, resend_began_at = $5, resend_entity = $6, \
        resend_after = $7, sweep_number = $8, sweep_began_at = $9, failures = $10, failing_since = $11, last_error = $12, \
        last_ok_at = $13, runs = $14 WHERE name = $1 AND revision = $2 RETURNING name";
    let resend = after.place.resend.as_ref();
    let trouble = after.trouble.as_ref();
    let text = |text: Option<&str>| Value::Text(text.map(ToOwned::to_owned));
    let scalars = vec![
        after.name.as_str().into(),
        after.revision.into(),
        after.place.sequence.into(),
        Value::Int(resend.map(|resend| resend.number)),
        Value::Int(resend.map(|resend| resend.began_at.0)),
        text(resend.map(|resend| resend.entity.as_str())),
        text(resend.map(|resend| resend.after.as_str())),
        Value::Int(after.place.sweep.map(|sweep| sweep.number)),
        Value::Int(after.place.sweep.map(|sweep| sweep.began_at.0)),
        i64::from(trouble.map_or(0, |trouble| trouble.failures)).into(),
        Value::Int(trouble.map(|trouble| trouble.since.0)),
        text(trouble.map(|trouble| trouble.error.as_str())),
        Value::Int(after.last_ok_at.map(|at| at.0)),
        after.runs.into(),
    ];
    Call::new(UPDATE, scalars)
}

fn clear<'a>(destination: &'a str, subjects: &'a [String]) -> Call<'a> {
    const CLEAR: &str = "DELETE FROM {s}destination_parked WHERE (destination, subject) IN \
        (SELECT v.destination, v.subject FROM {rows} AS v)";
    let rows = Rows::new(subjects.len())
        .text("destination", subjects.iter().map(|_| Some(destination)))
        .text("subject", subjects.iter().map(|subject| Some(subject.as_str())));
    Call::over(CLEAR, rows)
}

fn wait<'a>(destination: &'a str, waiting: &'a [Waiting], subjects: &'a [String]) -> Call<'a> {
    const WAIT: &str = "INSERT INTO {s}destination_parked (destination, subject, sequence, operation, changed_at, is_resend, \
        attempts, due_at, since, error) SELECT v.destination, v.subject, v.sequence, v.operation, v.changed_at, v.is_resend, \
        v.attempts, v.due_at, v.since, v.error FROM {rows} AS v WHERE true ON CONFLICT (destination, subject) DO UPDATE SET \
        sequence = excluded.sequence, operation = excluded.operation, changed_at = excluded.changed_at, \
        is_resend = excluded.is_resend, attempts = excluded.attempts, due_at = excluded.due_at, error = excluded.error";
    let rows = Rows::new(waiting.len())
        .text("destination", waiting.iter().map(|_| Some(destination)))
        .text("subject", subjects.iter().map(|subject| Some(subject.as_str())))
        .int("sequence", waiting.iter().map(|waiting| Some(waiting.change.sequence)))
        .text("operation", waiting.iter().map(|waiting| Some(waiting.change.operation.as_str())))
        .int("changed_at", waiting.iter().map(|waiting| Some(waiting.change.changed_at.0)))
        .bool("is_resend", waiting.iter().map(|waiting| Some(waiting.change.is_resend)))
        .int("attempts", waiting.iter().map(|waiting| Some(i64::from(waiting.attempts))))
        .int("due_at", waiting.iter().map(|waiting| waiting.due_at.map(|at| at.0)))
        .int("since", waiting.iter().map(|waiting| Some(waiting.since.0)))
        .text("error", waiting.iter().map(|waiting| Some(waiting.error.as_str())));
    Call::over(WAIT, rows)
}

fn hold<'a>(destination: &'a str, held: &'a [Change], subjects: &'a [String]) -> Call<'a> {
    const HOLD: &str = "UPDATE {s}destination_parked AS p SET sequence = v.sequence, operation = v.operation, \
        changed_at = v.changed_at, is_resend = v.is_resend FROM {rows} AS v \
        WHERE p.destination = v.destination AND p.subject = v.subject AND p.sequence < v.sequence";
    let rows = Rows::new(held.len())
        .text("destination", held.iter().map(|_| Some(destination)))
        .text("subject", subjects.iter().map(|subject| Some(subject.as_str())))
        .int("sequence", held.iter().map(|change| Some(change.sequence)))
        .text("operation", held.iter().map(|change| Some(change.operation.as_str())))
        .int("changed_at", held.iter().map(|change| Some(change.changed_at.0)))
        .bool("is_resend", held.iter().map(|change| Some(change.is_resend)));
    Call::over(HOLD, rows)
}

fn standing(row: &Row) -> Result<DestinationStanding> {
    let name = row.required(0)?;
    let time = |column| Ok::<_, Error>(row.int(column)?.map(Millis));
    let corrupt = |column| Error::Corrupt { table: "destinations", column, row: name.clone() };
    let resend = match row.int(6)? {
        None => None,
        Some(number) => Some(Resend {
            number,
            began_at: time(7)?.unwrap_or_default(),
            entity: Entity::parse(&row.required(8)?).ok_or_else(|| corrupt("resend_entity"))?,
            after: row.required(9)?,
        }),
    };
    let sweep = row.int(10)?.zip(row.int(11)?).map(|(number, at)| Sweep { number, began_at: Millis(at) });
    let failures = u32::try_from(row.int(12)?.unwrap_or_default()).unwrap_or(u32::MAX);
    let trouble = match time(13)? {
        Some(since) if failures > 0 => Some(Trouble { failures, since, error: row.required(14)? }),
        _ => None,
    };
    let count = |column| Ok::<_, Error>(row.int(column)?.unwrap_or_default());
    let destination = Destination {
        kind: row.required(1)?,
        is_paused: row.bool(2)?.unwrap_or_default(),
        revision: count(3)?,
        place: Place { sequence: count(4)?, resend, sweep },
        runs: count(5)?,
        trouble,
        last_ok_at: time(15)?,
        name,
    };
    Ok(DestinationStanding {
        destination,
        newest: count(16)?,
        forgotten: count(17)?,
        waiting: count(18)?,
        parked: count(19)?,
        due_at: time(20)?,
        oldest_at: time(21)?,
    })
}

fn subject(row: &Row, column: usize) -> Result<Subject> {
    let text = row.required(column)?;
    Subject::parse(&text).ok_or(Error::Corrupt { table: "destination_parked", column: "subject", row: text })
}

fn waiting(row: &Row) -> Result<Waiting> {
    let subject = subject(row, 0)?;
    let operation = Operation::parse(&row.required(2)?).ok_or_else(|| Error::Corrupt {
        table: "destination_parked",
        column: "operation",
        row: subject.to_string(),
    })?;
    let change = Change {
        sequence: row.int(1)?.unwrap_or_default(),
        subject,
        operation,
        changed_at: Millis(row.int(3)?.unwrap_or_default()),
        is_resend: row.bool(4)?.unwrap_or_default(),
    };
    Ok(Waiting {
        change,
        attempts: u32::try_from(row.int(5)?.unwrap_or_default()).unwrap_or(u32::MAX),
        due_at: row.int(6)?.map(Millis),
        since: Millis(row.int(7)?.unwrap_or_default()),
        error: row.required(8)?,
    })
}

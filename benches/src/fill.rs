//! Rows that are stored before the load: a million users and ten million deliveries take minutes, not a day, this way.
//!
//! **This is the one place that must follow Faircopy's tables**: [`faircopy_users`], [`faircopy_deliveries`] and what is in a
//! workspace ([`CONTENT`], [`Content`]).

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::contestant::Contestant;
use crate::database::Database;
use faircopy_bench::delivery::Layout;

/// Deliveries per statement: some hundred megabytes, so that progress is seen and no transaction grows without bound.
const DELIVERIES_PER_STATEMENT: u64 = 200_000;

/// `Dialect::long_ago` in milliseconds.
const LONG_AGO_MS: i64 = 1_735_689_600_000;

/// Deliveries have arrived evenly in these seconds until now: within what is kept of payloads (90 days), so that nothing is cleared
/// away while the load is measured.
const ARRIVED_WITHIN_S: u64 = 80 * 24 * 3600;

/// Stands in the payload where the id of the row goes.
const PAYLOAD_ID: &str = "@@@@@@@@@@@@@@@@@@@@@@@@@@@";

/// Stores `users` users and `deliveries` deliveries (of these users in turn), and lets the database settle.
///
/// The tables must be there: the contestant has made them at an earlier start.
pub(crate) fn fill(database: &Database<'_>, users: u64, deliveries: u64) -> Result<()> {
    let contestant = database.contestant();
    eprintln!("filling {} with {users} users and {deliveries} deliveries …", contestant.name());
    for statement in users_sql(contestant, users) {
        database.query(&statement)?;
    }
    let arrived = Dialect::of(contestant).arrived("n", deliveries);
    let mut from = 1;
    while from <= deliveries {
        let to = deliveries.min(from + DELIVERIES_PER_STATEMENT - 1);
        for statement in deliveries_sql(contestant, from, to, users.max(1), &arrived) {
            database.query(&statement)?;
        }
        eprintln!("  {to} of {deliveries} deliveries");
        from = to + 1;
    }
    tidy(database)
}

/// Leaves the tables as autovacuum would have left them long ago; otherwise the load pays for the fill.
pub(crate) fn tidy(database: &Database<'_>) -> Result<()> {
    let on_postgres = database.contestant().on_postgres();
    database.query(if on_postgres { "VACUUM ANALYZE;" } else { "PRAGMA wal_checkpoint(TRUNCATE);" })?;
    database.settle()
}

fn users_sql(contestant: Contestant, users: u64) -> Vec<String> {
    if contestant.is_faircopy() { faircopy_users(contestant, users) } else { vec![public_users(contestant, users)] }
}

fn deliveries_sql(contestant: Contestant, from: u64, to: u64, users: u64, arrived: &str) -> Vec<String> {
    if contestant.is_faircopy() {
        faircopy_deliveries(contestant, from, to, users, arrived)
    } else {
        vec![peer_deliveries(contestant, from, to, arrived)]
    }
}

// ─── FAIRCOPY'S TABLES: adapt what follows when a migration changes them ──────────────────────────────────────

/// Statements that store users 1 to `users` in Faircopy's tables: the public row, and what the merge remembers of it
/// (its version, so that an update of a stored user is an update).
fn faircopy_users(contestant: Contestant, users: u64) -> Vec<String> {
    let dialect = Dialect::of(contestant);
    let (schema, id, no, rows) = (contestant.schema(), dialect.id("n"), dialect.no, dialect.rows(1, users));
    let registers = format!(
        "INSERT INTO {schema}registers (subject, full_updated_at, full_event_at, full_hash, contested)
         SELECT 'user_' || {id}, {LONG_AGO_MS}, {LONG_AGO_MS}, n, {no} FROM {rows};"
    );
    vec![public_users(contestant, users), registers]
}

/// Statements that store deliveries `from` to `to` in Faircopy's audit table, as deliveries that were applied.
fn faircopy_deliveries(contestant: Contestant, from: u64, to: u64, users: u64, at: &str) -> Vec<String> {
    let dialect = Dialect::of(contestant);
    let (schema, id, rows) = (contestant.schema(), dialect.id("n"), dialect.rows(from, to));
    let user = dialect.id(&format!("(n % {users} + 1)"));
    vec![format!(
        "INSERT INTO {schema}webhook_deliveries
           (svix_id, event_type, entity_id, outcome, attempts, conflicts, event_at, signed_at, received_at, body_hash,
            payload)
         SELECT 'msg_' || {id}, 'user.updated', 'user_' || {user}, 'applied', 1, 0, {at}, {at}, {at}, n, {payload}
         FROM {rows};",
        payload = payload(&id),
    )]
}

/// How much an application has put into a workspace.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Content {
    pub(crate) channels: u64,
    /// Of all channels; one channel after the other gets one, so that those of a channel lie apart.
    pub(crate) messages: u64,
    /// Each with a document.
    pub(crate) rooms: u64,
}

/// Who has read a channel.
const READERS_OF_A_CHANNEL: u64 = 10;
/// What a message says: a line, as people write them.
const MESSAGE: &str =
    "Shall we look at the second draft on Thursday, before the others have seen it? I have put my notes there.";
/// The tables of a workspace, and the column whose value begins with the workspace's id.
const CONTENT: [(&str, &str); 6] = [
    ("channels", "id"),
    ("messages", "channel_id"),
    ("last_reads", "channel_id"),
    ("rooms", "id"),
    ("documents", "room_id"),
    ("workspaces", "id"),
];

impl Content {
    /// Rows of each table of [`CONTENT`], with the channel that the workspace begins with.
    fn expected(&self) -> Vec<u64> {
        let Content { channels, messages, rooms } = *self;
        vec![channels + 1, messages, channels * READERS_OF_A_CHANNEL, rooms, rooms, 1]
    }

    /// All rows.
    pub(crate) fn rows(&self) -> u64 {
        self.expected().iter().sum()
    }

    /// What the rows have at Liveblocks: the ids that the built-in tables say.
    pub(crate) fn room_ids<'a>(&self, workspace: &'a str) -> impl Iterator<Item = String> + use<'a> {
        (1..=self.rooms).flat_map(move |n| [format!("room:{workspace}-r{n}"), format!("doc:{workspace}-d{n}")])
    }

    /// Puts it into a workspace that is there. The tables are not [`tidy`] afterwards.
    pub(crate) fn fill(&self, database: &Database<'_>, workspace: &str) -> Result<()> {
        let Content { channels, messages, rooms } = *self;
        let (schema, dialect) = (database.contestant().schema(), Dialect::of(database.contestant()));
        database.query(&format!(
            "INSERT INTO {schema}channels (id, workspace_id, name)
             SELECT '{workspace}-c' || n, '{workspace}', 'channel ' || n FROM {};",
            dialect.rows(1, channels)
        ))?;
        let mut from = 1;
        while from <= messages {
            let to = messages.min(from + MESSAGES_PER_STATEMENT - 1);
            database.query(&format!(
                "INSERT INTO {schema}messages (id, channel_id, author_id, body)
                 SELECT '{workspace}-m' || n, '{workspace}-c' || (n % {channels} + 1), 'user_of_it', '{MESSAGE}' FROM {};",
                dialect.rows(from, to)
            ))?;
            from = to + 1;
        }
        database.query(&format!(
            "INSERT INTO {schema}last_reads (channel_id, clerk_user_id)
             SELECT '{workspace}-c' || (n % {channels} + 1), 'user_' || (n / {channels}) FROM {};",
            dialect.rows(0, channels * READERS_OF_A_CHANNEL - 1)
        ))?;
        database.query(&format!(
            "INSERT INTO {schema}rooms (id, workspace_id, name)
             SELECT '{workspace}-r' || n, '{workspace}', 'room ' || n FROM {};",
            dialect.rows(1, rooms)
        ))?;
        database.query(&format!(
            "INSERT INTO {schema}documents (id, room_id, title)
             SELECT '{workspace}-d' || n, '{workspace}-r' || n, 'document ' || n FROM {};",
            dialect.rows(1, rooms)
        ))?;
        self.is_whole(database, workspace)
    }

    /// Fails unless a workspace holds exactly this.
    pub(crate) fn is_whole(&self, database: &Database<'_>, workspace: &str) -> Result<()> {
        let (found, expected) = (rows_of(database, workspace)?, self.expected());
        ensure!(found == expected, "{workspace} holds {found:?} rows where {expected:?} were put: {CONTENT:?}");
        Ok(())
    }
}

/// Messages per statement: so many rows wait for their foreign keys to be looked at.
const MESSAGES_PER_STATEMENT: u64 = 200_000;

/// Fails unless nothing is left of a workspace.
pub(crate) fn is_gone(database: &Database<'_>, workspace: &str) -> Result<()> {
    let found = rows_of(database, workspace)?;
    ensure!(found.iter().all(|rows| *rows == 0), "{workspace} still holds {found:?} rows of {CONTENT:?}");
    Ok(())
}

/// Rows of a workspace in each table of [`CONTENT`].
fn rows_of(database: &Database<'_>, workspace: &str) -> Result<Vec<u64>> {
    let schema = database.contestant().schema();
    let length = workspace.len();
    let counts = CONTENT.map(|(table, column)| {
        format!("(SELECT count(*) FROM {schema}{table} WHERE substr({column}, 1, {length}) = '{workspace}')")
    });
    let row = database.query(&format!("SELECT {};", counts.join(", ")))?;
    row.split('|').map(|count| count.parse().with_context(|| format!("no counts: {row}"))).collect()
}

// ─────────────────────────────────────────────────────────────────────────────────────────────────────────────────────

/// The columns of `users` that the contract names; the peers have the same.
fn public_users(contestant: Contestant, users: u64) -> String {
    let dialect = Dialect::of(contestant);
    let (schema, id, at, no, rows) =
        (contestant.schema(), dialect.id("n"), dialect.long_ago, dialect.no, dialect.rows(1, users));
    format!(
        "INSERT INTO {schema}users
           (clerk_user_id, external_id, username, first_name, last_name, name, email, image_url, workspace_id,
            public_metadata, banned, locked, provenance, created_at, updated_at)
         SELECT 'user_' || {id}, 'crm-' || {id}, 'ada-' || {id}, 'Ada', 'Lovelace', 'Ada Lovelace',
                'ada.' || {id} || '@example.com', 'https://img.clerk.com/' || {id}, NULL,
                '{{\"plan\":\"team\",\"seats\":12}}', {no}, {no}, 'webhook', {at}, {at}
         FROM {rows};"
    )
}

fn peer_deliveries(contestant: Contestant, from: u64, to: u64, at: &str) -> String {
    let dialect = Dialect::of(contestant);
    let (schema, id, rows) = (contestant.schema(), dialect.id("n"), dialect.rows(from, to));
    format!(
        "INSERT INTO {schema}webhook_deliveries (svix_id, event_type, received_at, payload)
         SELECT 'msg_' || {id}, 'user.updated', {at}, {payload} FROM {rows};",
        payload = payload(&id),
    )
}

/// What the two databases write differently.
struct Dialect {
    long_ago: &'static str,
    no: &'static str,
    postgres: bool,
}

impl Dialect {
    fn of(contestant: Contestant) -> Dialect {
        if contestant.on_postgres() {
            let long_ago = "timestamptz '2025-01-01 00:00:00Z'";
            Dialect { long_ago, no: "false", postgres: true }
        } else {
            Dialect { long_ago: "'2025-01-01T00:00:00.000Z'", no: "0", postgres: false }
        }
    }

    /// The id of a row, without its prefix: `2` and the number in 26 digits, as [`faircopy_bench::delivery`] writes it.
    fn id(&self, number: &str) -> String {
        if self.postgres {
            format!("'2' || lpad(({number})::text, 26, '0')")
        } else {
            format!("'2' || printf('%026d', {number})")
        }
    }

    /// When the delivery of this number arrived, of so many: see [`ARRIVED_WITHIN_S`].
    fn arrived(&self, number: &str, total: u64) -> String {
        let ago_s = format!("({total} - {number}) * ({ARRIVED_WITHIN_S}.0 / {total})");
        if self.postgres {
            format!("now() - make_interval(secs => {ago_s})")
        } else {
            format!("strftime('%Y-%m-%dT%H:%M:%fZ', 'now', '-' || ({ago_s}) || ' seconds')")
        }
    }

    /// A source of the rows `n` from `from` to `to`.
    fn rows(&self, from: u64, to: u64) -> String {
        if self.postgres {
            return format!("generate_series({from}, {to}) AS rows(n)");
        }
        format!(
            "(WITH RECURSIVE rows(n) AS
                (SELECT {from} WHERE {from} <= {to} UNION ALL SELECT n + 1 FROM rows WHERE n < {to})
              SELECT n FROM rows)"
        )
    }
}

/// A payload of about 3 KB with the id of its row in it, as an expression.
fn payload(id: &str) -> String {
    let body = Layout::stored_body(PAYLOAD_ID).replace('\'', "''");
    format!("replace('{body}', '{PAYLOAD_ID}', {id})")
}

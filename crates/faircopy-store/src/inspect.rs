//! What the doctor asks a database about itself. Reads only, but for [`Writer::try_writing`], which changes nothing.

use faircopy_core::Millis;

use crate::engine::{self, Value};
use crate::error::{Error, Result};
use crate::server::{OLDEST, open_advisories};
use crate::{Address, Store, Swept, Writer};

/// Pages that may be named as damaged: one is enough to act.
const MAX_DAMAGES: i64 = 5;

/// PostgreSQL, as it says itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerState {
    /// `15.18`.
    pub version: String,
    /// Below what is served.
    pub is_too_old: bool,
    /// Known holes that touch row-level security and roles.
    pub open_advisories: Vec<String>,
    /// Settings under which an acknowledged commit can be lost.
    pub unsafe_settings: Vec<String>,
    /// Transactions begin read-only: a standby, or a setting.
    pub is_read_only: bool,
    /// The role of `DATABASE_URL`.
    pub role: String,
    /// It is a superuser, or `BYPASSRLS`.
    pub is_above_policies: bool,
    /// It may act as the owner of the copy's tables; `None` before there are any.
    pub owns_tables: Option<bool>,
    /// It may make the schema.
    pub may_create: bool,
    /// Connections that are open, of all databases.
    pub connections: i64,
    /// Connections that roles without privileges may open.
    pub max_connections: i64,
}

/// Which kinds of rows the copy has, and which the newest deliveries were about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Deliveries that were looked at.
    pub deliveries: i64,
    /// The types among them.
    pub types: Vec<String>,
    /// The kinds of which there is a row that is not known from a token alone.
    pub held: Vec<Swept>,
}

impl Store {
    /// What PostgreSQL says of itself; `None` on SQLite.
    pub async fn inspect_server(&self) -> Result<Option<ServerState>> {
        const SERVER: &str = "SELECT current_setting('server_version'), current_setting('server_version_num')::bigint, \
            current_setting('transaction_read_only'), current_user::text, r.rolsuper OR r.rolbypassrls, \
            (SELECT pg_has_role(current_user, c.relowner, 'USAGE') FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
                WHERE n.nspname = 'faircopy' AND c.relname = 'users'), \
            has_database_privilege(current_database(), 'CREATE'), \
            (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), \
            current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint \
            FROM pg_roles r WHERE r.rolname = current_user";
        const UNSAFE: &str = "SELECT name FROM pg_settings WHERE setting = 'off' \
            AND name IN ('fsync', 'synchronous_commit', 'full_page_writes') ORDER BY name";
        if matches!(self.address, Address::Sqlite(_)) {
            return Ok(None);
        }
        let rows = self.readers.read(SERVER, vec![]).await?;
        let row = rows.first().ok_or_else(|| Error::Refused("no answer".into()))?;
        let unsafe_settings = self.readers.read(UNSAFE, vec![]).await?;
        let number = row.int(1)?.unwrap_or_default();
        Ok(Some(ServerState {
            version: row.required(0)?,
            is_too_old: number < OLDEST,
            open_advisories: open_advisories(number),
            unsafe_settings: unsafe_settings.iter().map(|row| row.required(0)).collect::<Result<_>>()?,
            is_read_only: row.required(2)? == "on",
            role: row.required(3)?,
            is_above_policies: row.bool(4)?.unwrap_or_default(),
            owns_tables: row.bool(5)?,
            may_create: row.bool(6)?.unwrap_or_default(),
            connections: row.int(7)?.unwrap_or_default(),
            max_connections: row.int(8)?.unwrap_or_default(),
        }))
    }

    /// The database's own time; `None` on SQLite, whose time is the caller's.
    pub async fn database_time(&self) -> Result<Option<Millis>> {
        const NOW: &str = "SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint";
        if matches!(self.address, Address::Sqlite(_)) {
            return Ok(None);
        }
        let rows = self.readers.read(NOW, vec![]).await?;
        Ok(rows.first().map_or(Ok(None), |row| row.int(0))?.map(Millis))
    }

    /// Whether the database answers at all.
    pub async fn answers(&self) -> Result<()> {
        self.readers.read("SELECT 1", vec![]).await.map(drop)
    }

    /// The journal mode of SQLite's file; `None` on PostgreSQL.
    pub async fn journal_mode(&self) -> Result<Option<String>> {
        if matches!(self.address, Address::Postgres(_)) {
            return Ok(None);
        }
        let rows = self.readers.read("SELECT journal_mode FROM pragma_journal_mode", vec![]).await?;
        rows.first().map_or(Ok(None), |row| row.text(0))
    }

    /// Reads all of SQLite's file and says what is damaged: mostly nothing. Always nothing on PostgreSQL, which has checks of its
    /// own.
    pub async fn quick_check(&self) -> Result<Vec<String>> {
        if matches!(self.address, Address::Postgres(_)) {
            return Ok(Vec::new());
        }
        // As a table it takes the number for the name of one.
        let check = format!("PRAGMA quick_check({MAX_DAMAGES})");
        let said = self.readers.read(&check, vec![]).await?;
        let said = said.iter().map(|row| row.required(0)).collect::<Result<Vec<_>>>()?;
        Ok(said.into_iter().filter(|line| line != "ok").collect())
    }

    /// Which types the newest deliveries have, so many of them at most, and which kinds of rows the copy has.
    pub async fn told(&self, among: i64) -> Result<Told> {
        const NEWEST: &str = "SELECT event_type, count(*) FROM (SELECT event_type FROM {s}webhook_deliveries \
            ORDER BY received_at DESC LIMIT $1) newest GROUP BY event_type ORDER BY event_type";
        const HELD: &str = "SELECT CASE WHEN EXISTS (SELECT 1 FROM {s}organizations WHERE provenance <> 'token') THEN CAST(1 AS bigint) ELSE 0 END, \
            CASE WHEN EXISTS (SELECT 1 FROM {s}users WHERE provenance <> 'token') THEN CAST(1 AS bigint) ELSE 0 END, \
            CASE WHEN EXISTS (SELECT 1 FROM {s}organization_members WHERE provenance <> 'token') THEN CAST(1 AS bigint) ELSE 0 END, \
            CASE WHEN EXISTS (SELECT 1 FROM {s}organization_invitations) THEN CAST(1 AS bigint) ELSE 0 END";
        let (mut deliveries, mut types) = (0, Vec::new());
        for row in self.readers.read(NEWEST, vec![among.into()]).await? {
            types.push(row.required(0)?);
            deliveries += row.int(1)?.unwrap_or_default();
        }
        let rows = self.readers.read(HELD, vec![]).await?;
        let mut held = Vec::new();
        for (column, kind) in Swept::ALL.into_iter().enumerate() {
            if rows.first().map_or(Ok(None), |row| row.int(column))?.unwrap_or_default() > 0 {
                held.push(kind);
            }
        }
        Ok(Told { deliveries, types, held })
    }

    /// How many deliveries are quarantined, counted up to so many, and when the newest of them arrived.
    pub async fn quarantined(&self, at_most: i64) -> Result<(i64, Option<String>)> {
        const QUARANTINED: &str = "SELECT count(*), max({time received_at}) FROM (SELECT received_at FROM {s}webhook_deliveries \
            WHERE outcome = 'quarantined' ORDER BY received_at DESC LIMIT $1) newest";
        let rows = self.readers.read(QUARANTINED, vec![Value::from(at_most)]).await?;
        let Some(row) = rows.first() else { return Ok((0, None)) };
        Ok((row.int(0)?.unwrap_or_default(), row.text(1)?))
    }
}

impl Writer {
    /// Begins to write and stops: whether the database takes changes now.
    pub async fn try_writing(&mut self) -> Result<()> {
        let connection = self.fresh().await?;
        let tried = engine::complete(connection.dialect(), async {
            connection.begin_beside_pen(vec![]).await?;
            connection.rollback().await
        });
        let tried = tried.await;
        self.settle(tried).await
    }
}

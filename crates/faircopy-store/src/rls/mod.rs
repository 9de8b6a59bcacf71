//! `faircopy rls check`: is row-level security as it should be, and does it hold when somebody tries to cross?
//!
//! Two connections: the *owner's* looks into the catalogue, picks two tenants and knows what each may see; the
//! *application's* acts with the application's role and tries. Both see one snapshot, and both are rolled back.

mod catalog;
mod crossing;

use crate::engine::{Call, Connection, Row, Value};
use crate::error::{Error, Result};
use crate::{Address, Store};

/// Nothing that is tried may hold up the application: neither by waiting for its locks nor by a long scan, which also
/// bounds how long a lock of ours is held.
const LIMITS: &str = "SELECT set_config('lock_timeout', '1s', true), set_config('statement_timeout', '5s', true), \
    set_config('idle_in_transaction_session_timeout', '60s', true)";

/// The application's role, and how to become it.
#[derive(Debug, Clone)]
pub struct Application {
    /// Where to connect; the store's own address when there is none.
    pub address: Option<Address>,
    /// The role to take after connecting (`SET LOCAL ROLE`); the role of the connection when there is none.
    pub role: Option<String>,
}

/// What became of one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// To be mended.
    Finding,
}

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Check {
    /// What was looked at: a table, a view, a function, a role, the server.
    pub object: String,
    /// What was asked.
    pub check: &'static str,
    /// The answer.
    pub verdict: Verdict,
    /// The answer in words, with what to do.
    pub detail: String,
}

/// What a check of row-level security found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// The application's role.
    pub role: String,
    /// Whose eyes were borrowed.
    pub reader: Option<String>,
    /// His organization.
    pub organization: Option<String>,
    /// The organization that he is not a member of.
    pub other_organization: Option<String>,
    /// Every question and its answer.
    pub checks: Vec<Check>,
}

impl Report {
    /// How many things are to be mended.
    #[must_use]
    pub fn findings(&self) -> usize {
        self.checks.iter().filter(|check| check.verdict == Verdict::Finding).count()
    }

    fn say(&mut self, object: impl Into<String>, check: &'static str, verdict: Verdict, detail: impl Into<String>) {
        self.checks.push(Check { object: object.into(), check, verdict, detail: detail.into() });
    }

    /// A finding for each fault, or one word that there is none.
    fn judge(&mut self, object: &str, check: &'static str, faults: Vec<String>, fine: &str) {
        if faults.is_empty() {
            self.say(object, check, Verdict::Ok, fine);
        }
        for fault in faults {
            self.say(object, check, Verdict::Finding, fault);
        }
    }
}

impl Store {
    /// Looks for gaps in row-level security and tries to cross tenants as the application's role. Changes nothing.
    pub async fn check_row_level_security(&self, application: &Application) -> Result<Report> {
        if matches!(self.address, Address::Sqlite(_)) || matches!(application.address, Some(Address::Sqlite(_))) {
            return Err(Error::Refused("SQLite has no roles: whoever can open the file reads all of it".into()));
        }
        let mut owner = Connection::open(&self.address).await?;
        let mut actor = Connection::open(application.address.as_ref().unwrap_or(&self.address)).await?;
        let report = examine(&mut owner, &mut actor, application).await;
        // Whatever was tried is undone by the end of the connections at the latest.
        if report.is_ok() {
            actor.rollback().await?;
            owner.rollback().await?;
        }
        report
    }
}

async fn examine(owner: &mut Connection, actor: &mut Connection, application: &Application) -> Result<Report> {
    let snapshot = begin_owner(owner).await?;
    begin_actor(actor, &snapshot).await?;
    if let Some(role) = &application.role {
        actor.script(&format!("SET LOCAL ROLE {}", quoted(role))).await?;
    }
    let role = one(actor, "SELECT current_user::text", vec![]).await?.required(0)?;
    let mut report =
        Report { role: role.clone(), reader: None, organization: None, other_organization: None, checks: Vec::new() };
    catalog::look(owner, &role, &mut report).await?;
    crossing::attempt(owner, actor, &role, &mut report).await?;
    Ok(report)
}

async fn begin_owner(owner: &mut Connection) -> Result<String> {
    const SEES_ALL: &str = "SELECT pg_has_role(current_user, relowner, 'USAGE') FROM pg_class \
        WHERE oid = to_regclass('faircopy.users')";
    owner.script("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
    rows(owner, LIMITS, vec![]).await?;
    match rows(owner, SEES_ALL, vec![]).await?.first().map(|row| row.bool(0)).transpose()?.flatten() {
        None => return Err(Error::Schema("the tables are missing; run `faircopy migrate`".into())),
        Some(false) => {
            return Err(Error::Refused(
                "the role of DATABASE_URL does not own the copy's tables, and cannot know what the application must not see"
                    .into(),
            ));
        }
        Some(true) => {}
    }
    one(owner, "SELECT pg_export_snapshot()", vec![]).await?.required(0)
}

/// The owner's snapshot, so that what changes meanwhile is no finding; its own where the address leads to another server,
/// such as a replica.
async fn begin_actor(actor: &mut Connection, snapshot: &str) -> Result<()> {
    const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ";
    actor.script(BEGIN).await?;
    if actor.script(&format!("SET TRANSACTION SNAPSHOT '{snapshot}'")).await.is_err() {
        actor.rollback().await?;
        actor.script(BEGIN).await?;
    }
    rows(actor, LIMITS, vec![]).await.map(drop)
}

/// Runs a statement that must not be refused.
async fn rows(connection: &mut Connection, statement: &str, scalars: Vec<Value>) -> Result<Vec<Row>> {
    connection.run(Call::new(statement, scalars)).await
}

async fn one(connection: &mut Connection, statement: &str, scalars: Vec<Value>) -> Result<Row> {
    rows(connection, statement, scalars).await?.pop().ok_or_else(|| Error::Refused("no answer".into()))
}

/// A name as SQL reads it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

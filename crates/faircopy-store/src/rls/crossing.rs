//! Crossing tenants for real: somebody who is a member of one organization reads and writes whatever there is, under claims
//! that are his, that lie, that are broken, and under none.

use serde_json::{Value as Json, json};

use super::catalog::CONTENT;
use super::{Report, Verdict, quoted, rows};
use crate::engine::{Attempt, Connection, Row, Value};
use crate::error::{Error, Result};

/// One of what is foreign.
const FOREIGN_ONE: &str = "(SELECT jsonb_array_elements_text($1::text::jsonb) LIMIT 1)";
/// The server refuses for want of a right, or because a policy says no.
const REFUSED: &str = "42501";
/// Someone, an administrator if there is one, his organization, and somebody else with whom he shares none. Two hundred are
/// tried: enough to find one who is not in everybody's organization, and few enough to be quick where all are.
const TENANTS: &str = "SELECT mine.clerk_user_id, mine.clerk_org_id, other.clerk_user_id, other.clerk_org_id, \
        coalesce(mine.role = 'org:admin', false) \
    FROM (SELECT clerk_user_id, clerk_org_id, role FROM faircopy.organization_members \
            ORDER BY (role IS NOT DISTINCT FROM 'org:admin') DESC LIMIT 200) mine \
        JOIN faircopy.organization_members other ON other.clerk_org_id <> mine.clerk_org_id AND other.clerk_user_id <> mine.clerk_user_id \
    WHERE NOT EXISTS (SELECT FROM faircopy.organization_members a JOIN faircopy.organization_members b \
            ON a.clerk_org_id = b.clerk_org_id \
        WHERE a.clerk_user_id = mine.clerk_user_id AND b.clerk_user_id = other.clerk_user_id) LIMIT 1";
/// Whom he may see, as the copy's owner knows it.
const COLLEAGUES: &str = "SELECT coalesce(jsonb_agg(DISTINCT other.clerk_user_id), '[]')::text \
    FROM faircopy.organization_members mine JOIN faircopy.organization_members other USING (clerk_org_id) \
    WHERE mine.clerk_user_id = $1";

/// Two people of two organizations.
struct Tenants {
    user: String,
    organization: String,
    stranger: String,
    other: String,
    is_admin: bool,
    /// A JSON list.
    colleagues: String,
    /// What the one's active organization has of the content tables, and what is the other's.
    own: Content,
    foreign: Content,
}

/// A workspace, and what rows of the content tables hang on.
#[derive(Default)]
struct Content {
    workspace: Option<String>,
    /// JSON lists.
    channels: String,
    rooms: String,
}

impl Content {
    /// Something that a row may hang on by this column.
    fn parents(&self, column: &str) -> String {
        match column {
            "channel_id" => self.channels.clone(),
            "room_id" => self.rooms.clone(),
            _ => json!(self.workspace.iter().collect::<Vec<_>>()).to_string(),
        }
    }
}

/// What is set as the claims, and what may then be seen.
struct Guise {
    name: &'static str,
    /// Nothing is set where there are none.
    claims: Option<String>,
    /// Whether the claims are those of a person, with an active organization of his own.
    is_user: bool,
    is_member: bool,
}

/// Everything of the schema that can be read.
struct Relation {
    name: String,
    table: String,
    is_table: bool,
    /// The column that says whose a row is.
    key: Option<&'static str>,
    /// The column of a content table that names what a row hangs on.
    hangs_on: Option<&'static str>,
    /// A column that can be written.
    first: Option<String>,
}

/// What was tried on one object, and how it ended.
#[derive(Default)]
struct Tally {
    tried: usize,
    refused: usize,
    seen: i64,
    faults: Vec<String>,
}

impl Tally {
    fn fault(&mut self, guise: &Guise, what: impl std::fmt::Display) {
        self.faults.push(format!("{}: {what}", guise.name));
    }

    fn conclude(self, report: &mut Report, object: &str, check: &'static str) {
        let fine = if self.refused == self.tried {
            format!("{} tried, all refused", self.tried)
        } else {
            format!("{} tried, {} refused, {} own seen, 0 foreign", self.tried, self.refused, self.seen)
        };
        report.judge(object, check, self.faults, &fine);
    }
}

pub(super) async fn attempt(
    owner: &mut Connection,
    actor: &mut Connection,
    role: &str,
    report: &mut Report,
) -> Result<()> {
    let Some(tenants) = tenants(owner).await? else {
        let detail = "nothing was proven: the copy holds no two people who share no organization";
        report.say("tenants", "crossing", Verdict::Finding, detail);
        return Ok(());
    };
    report.reader = Some(tenants.user.clone());
    report.organization = Some(tenants.organization.clone());
    report.other_organization = Some(tenants.other.clone());
    let guises = guises(&tenants);
    for relation in relations(owner).await? {
        read(actor, &relation, &guises, &tenants, report).await?;
        match relation.hangs_on {
            Some(column) => write_below(actor, &relation, column, &guises, &tenants, report).await?,
            None if relation.is_table => write(actor, &relation, &guises, report).await?,
            None => {}
        }
    }
    functions(owner, actor, role, &guises, &tenants, report).await
}

async fn tenants(owner: &mut Connection) -> Result<Option<Tenants>> {
    let Some(row) = looked(owner, TENANTS, vec![]).await?.pop() else { return Ok(None) };
    let user = row.required(0)?;
    let colleagues = looked(owner, COLLEAGUES, vec![user.as_str().into()]).await?;
    let colleagues = colleagues.first().map_or(Ok(String::new()), |row| row.required(0))?;
    let (organization, other) = (row.required(1)?, row.required(3)?);
    let own = content(owner, &organization).await?;
    let mut foreign = content(owner, &other).await?;
    if foreign.workspace == own.workspace {
        // Both are linked to one workspace: it is foreign to neither.
        foreign = Content { workspace: None, channels: "[]".into(), rooms: "[]".into() };
    }
    Ok(Some(Tenants {
        user,
        organization,
        stranger: row.required(2)?,
        other,
        own,
        foreign,
        is_admin: row.bool(4)? == Some(true),
        colleagues,
    }))
}

/// Asks as the owner without keeping a lock: what the other connection tries to truncate would wait for it.
async fn looked(owner: &mut Connection, statement: &str, scalars: Vec<Value>) -> Result<Vec<Row>> {
    owner.attempt(statement, scalars).await?.map_err(|refusal| Error::Refused(refusal.message))
}

/// What an organization has of the content tables, as the copy's owner knows it.
async fn content(owner: &mut Connection, organization: &str) -> Result<Content> {
    const WORKSPACE: &str = "SELECT w.id FROM faircopy.organizations o JOIN faircopy.workspaces w \
            ON w.clerk_org_id = o.clerk_org_id OR (w.id = o.workspace_id AND w.is_linked AND w.clerk_org_id IS NOT NULL) \
        WHERE o.clerk_org_id = $1 AND w.ended_at IS NULL ORDER BY w.clerk_org_id = o.clerk_org_id DESC LIMIT 1";
    const BELOW: &str = "SELECT (SELECT coalesce(jsonb_agg(id), '[]')::text FROM faircopy.channels WHERE workspace_id = $1), \
        (SELECT coalesce(jsonb_agg(id), '[]')::text FROM faircopy.rooms WHERE workspace_id = $1)";
    let workspace = match looked(owner, WORKSPACE, vec![organization.into()]).await?.pop() {
        Some(row) => row.text(0)?,
        None => None,
    };
    let below = looked(owner, BELOW, vec![workspace.as_deref().unwrap_or_default().into()]).await?;
    let list = |column| below.first().map_or(Ok("[]".to_owned()), |row| row.required(column));
    Ok(Content { workspace, channels: list(0)?, rooms: list(1)? })
}

fn guises(tenants: &Tenants) -> Vec<Guise> {
    let Tenants { user, organization, other, .. } = tenants;
    let guise =
        |name, claims: Json, is_user, is_member| Guise { name, claims: Some(claims.to_string()), is_user, is_member };
    let text = |name, claims: &str| Guise { name, claims: Some(claims.to_owned()), is_user: false, is_member: false };
    vec![
        guise("v1", json!({"sub": user, "org_id": organization, "org_role": "org:member"}), true, true),
        guise("v2", json!({"v": 2, "sub": user, "o": {"id": organization, "rol": "member"}}), true, true),
        guise(
            "v1 of the other organization",
            json!({"sub": user, "org_id": other, "org_role": "org:admin"}),
            true,
            false,
        ),
        guise(
            "v2 of the other organization",
            json!({"v": 2, "sub": user, "o": {"id": other, "rol": "admin"}}),
            true,
            false,
        ),
        guise("two organizations", json!({"sub": user, "org_id": other, "o": {"id": organization}}), true, false),
        guise("no organization", json!({"sub": user}), true, false),
        guise("no user", json!({"org_id": other, "org_role": "org:admin"}), false, false),
        guise("empty user", json!({"sub": "", "org_id": other}), false, false),
        guise("user of a wrong type", json!({"sub": [user], "org_id": [other]}), false, false),
        guise("pending", json!({"v": 2, "sts": "pending", "sub": user, "o": {"id": organization}}), false, false),
        Guise { name: "no claims", claims: None, is_user: false, is_member: false },
        text("empty claims", ""),
        text("malformed claims", "{\"sub\":"),
        text("a null", "null"),
        text("a list", "[]"),
        text("a text", "\"org\""),
        text("a zero character", r#"{"sub":"\u0000"}"#),
    ]
}

async fn relations(owner: &mut Connection) -> Result<Vec<Relation>> {
    const RELATIONS: &str = "SELECT 'faircopy.' || quote_ident(c.relname), c.relname::text, c.relkind IN ('r', 'p', 'f'), \
            bool_or(a.attname = 'clerk_org_id'), bool_or(a.attname = 'clerk_user_id'), \
            (array_agg(a.attname::text ORDER BY a.attnum) FILTER (WHERE a.attgenerated = ''::\"char\"))[1] \
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
        WHERE c.relnamespace = 'faircopy'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
        GROUP BY c.oid ORDER BY 1";
    let mut relations = Vec::new();
    for row in rows(owner, RELATIONS, vec![]).await? {
        let has = |column| row.bool(column).map(|answer| answer == Some(true));
        let table = row.required(1)?;
        let key = match (has(3)?, has(4)?) {
            // The registers hold both, and are nobody's.
            _ if table == "registers" => None,
            // What is in a workspace is its members', whoever wrote it.
            _ if table == "workspaces" => Some("id"),
            _ if hangs_on(&table).is_some() => hangs_on(&table),
            (true, _) => Some("clerk_org_id"),
            (_, true) => Some("clerk_user_id"),
            _ => None,
        };
        let hangs_on = hangs_on(&table);
        let (name, is_table, first) = (row.required(0)?, has(2)?, row.text(5)?);
        relations.push(Relation { name, table, is_table, key, hangs_on, first });
    }
    Ok(relations)
}

fn hangs_on(table: &str) -> Option<&'static str> {
    CONTENT.iter().find(|(content, _)| *content == table).map(|(_, column)| *column)
}

/// Takes a guise for what follows in the transaction.
async fn wear(actor: &mut Connection, guise: &Guise) -> Result<()> {
    // An empty setting is what a transaction leaves behind; none at all is the reset one.
    let (statement, claims) = match &guise.claims {
        Some(claims) => ("SELECT set_config('request.jwt.claims', $1, true)", vec![claims.as_str().into()]),
        None => ("SELECT set_config('request.jwt.claims', NULL, true)", vec![]),
    };
    rows(actor, statement, claims).await.map(drop)
}

async fn read(
    actor: &mut Connection,
    relation: &Relation,
    guises: &[Guise],
    tenants: &Tenants,
    report: &mut Report,
) -> Result<()> {
    let mut tally = Tally::default();
    for guise in guises {
        wear(actor, guise).await?;
        let (statement, scalars) = question(relation, guise, tenants);
        tally.tried += 1;
        match actor.attempt(&statement, scalars).await? {
            Ok(found) => {
                let count = |column| found.first().map_or(Ok(None), |row| row.int(column));
                let (all, foreign) = (count(0)?.unwrap_or_default(), count(1)?.unwrap_or_default());
                tally.seen = tally.seen.max(all - foreign);
                if foreign > 0 {
                    tally.fault(guise, format_args!("{foreign} foreign rows can be read"));
                }
            }
            Err(refusal) if refusal.code == REFUSED => tally.refused += 1,
            Err(refusal) => tally.fault(guise, format_args!("fails: {} ({})", refusal.message, refusal.code)),
        }
    }
    unguarded(actor, relation, &mut tally).await?;
    tally.conclude(report, &relation.name, "reads");
    Ok(())
}

/// How many rows, and how many of them are not the guise's to see. A table without a rule is nobody's.
fn question(relation: &Relation, guise: &Guise, tenants: &Tenants) -> (String, Vec<Value>) {
    let admins_only = relation.table == "organization_invitations" && !tenants.is_admin;
    let (foreign, scalars): (&str, Vec<Value>) = match relation.key {
        Some("id") if guise.is_member => {
            ("id IS DISTINCT FROM $1", vec![tenants.own.workspace.as_deref().unwrap_or_default().into()])
        }
        Some(column @ ("workspace_id" | "channel_id" | "room_id")) if guise.is_member => {
            let foreign = match column {
                "workspace_id" => "workspace_id NOT IN (SELECT jsonb_array_elements_text($1::text::jsonb))",
                "channel_id" => "channel_id NOT IN (SELECT jsonb_array_elements_text($1::text::jsonb))",
                _ => "room_id NOT IN (SELECT jsonb_array_elements_text($1::text::jsonb))",
            };
            (foreign, vec![tenants.own.parents(column).as_str().into()])
        }
        Some("clerk_org_id") if guise.is_member && !admins_only => {
            ("clerk_org_id IS DISTINCT FROM $1", vec![tenants.organization.as_str().into()])
        }
        Some("clerk_user_id") if guise.is_user => (
            "clerk_user_id NOT IN (SELECT jsonb_array_elements_text($1::text::jsonb))",
            vec![tenants.colleagues.as_str().into()],
        ),
        _ => ("true", vec![]),
    };
    (format!("SELECT count(*), count(*) FILTER (WHERE {foreign}) FROM {}", relation.name), scalars)
}

/// Asks the server to leave the policies out, which it must refuse.
async fn unguarded(actor: &mut Connection, relation: &Relation, tally: &mut Tally) -> Result<()> {
    const SWITCH: &str = "SELECT set_config('row_security', $1, true)";
    rows(actor, SWITCH, vec!["off".into()]).await?;
    let answer = actor.attempt(&format!("SELECT count(*) FROM {}", relation.name), vec![]).await?;
    rows(actor, SWITCH, vec!["on".into()]).await?;
    tally.tried += 1;
    match answer {
        Ok(found) => {
            let seen = found.first().map_or(Ok(None), |row| row.int(0))?.unwrap_or_default();
            if seen > 0 {
                tally.faults.push(format!("row_security off: {seen} rows can be read"));
            }
        }
        Err(_) => tally.refused += 1,
    }
    Ok(())
}

async fn write(actor: &mut Connection, relation: &Relation, guises: &[Guise], report: &mut Report) -> Result<()> {
    let name = &relation.name;
    let mut statements = vec![
        ("insert", format!("WITH done AS (INSERT INTO {name} DEFAULT VALUES RETURNING 1) SELECT count(*) FROM done")),
        ("delete", format!("WITH done AS (DELETE FROM {name} RETURNING 1) SELECT count(*) FROM done")),
    ];
    if let Some(column) = &relation.first {
        let column = quoted(column);
        let update =
            format!("WITH done AS (UPDATE {name} SET {column} = DEFAULT RETURNING 1) SELECT count(*) FROM done");
        statements.push(("update", update));
    }
    let mut tally = Tally::default();
    for guise in guises {
        wear(actor, guise).await?;
        for (verb, statement) in &statements {
            tally.tried += 1;
            let answer = actor.attempt(statement, vec![]).await?;
            judge_write(&mut tally, guise, verb, &answer)?;
        }
    }
    truncate(actor, name, guises, &mut tally).await?;
    tally.conclude(report, name, "writes");
    Ok(())
}

/// Once: no policy and no claim counts here, and where it succeeds it costs new files.
async fn truncate(actor: &mut Connection, name: &str, guises: &[Guise], tally: &mut Tally) -> Result<()> {
    let Some(guise) = guises.first() else { return Ok(()) };
    wear(actor, guise).await?;
    tally.tried += 1;
    let answer = actor.attempt(&format!("TRUNCATE {name}"), vec![]).await?;
    judge_write(tally, guise, "truncate", &answer)
}

/// What is the application's to write: it may change its own and nothing of the other workspace's, nor move anything there.
async fn write_below(
    actor: &mut Connection,
    relation: &Relation,
    column: &str,
    guises: &[Guise],
    tenants: &Tenants,
    report: &mut Report,
) -> Result<()> {
    const FOREIGN: &str = "(SELECT jsonb_array_elements_text($1::text::jsonb))";
    let name = &relation.name;
    // Of the read marks those of somebody else in the own workspace are foreign, too.
    let (keys, values) = match relation.table.as_str() {
        "last_reads" => ("clerk_user_id", "faircopy.current_user_id()"),
        _ => ("id", "gen_random_uuid()::text"),
    };
    let counted = |change: &str| format!("WITH done AS ({change} RETURNING 1) SELECT count(*) FROM done");
    let statements = [
        (
            "insert",
            counted(&format!(
                "INSERT INTO {name} ({keys}, {column}) SELECT {values}, parent FROM {FOREIGN} AS given (parent) LIMIT 1"
            )),
        ),
        ("move", counted(&format!("UPDATE {name} SET {column} = {FOREIGN_ONE} WHERE {FOREIGN_ONE} IS NOT NULL"))),
        ("update", counted(&format!("UPDATE {name} SET {column} = {column} WHERE {column} IN {FOREIGN}"))),
        ("delete", counted(&format!("DELETE FROM {name} WHERE {column} IN {FOREIGN}"))),
    ];
    let foreign = tenants.foreign.parents(column);
    let mut tally = Tally::default();
    for guise in guises {
        wear(actor, guise).await?;
        for (verb, statement) in &statements {
            tally.tried += 1;
            let answer = actor.attempt(statement, vec![foreign.as_str().into()]).await?;
            judge_write(&mut tally, guise, verb, &answer)?;
        }
        if relation.table == "last_reads" {
            let others = counted(&format!("DELETE FROM {name} WHERE clerk_user_id IS DISTINCT FROM $1"));
            tally.tried += 1;
            let answer = actor.attempt(&others, vec![tenants.user.as_str().into()]).await?;
            judge_write(&mut tally, guise, "delete of others' marks", &answer)?;
        }
    }
    truncate(actor, name, guises, &mut tally).await?;
    tally.conclude(report, name, "writes");
    Ok(())
}

fn judge_write(tally: &mut Tally, guise: &Guise, verb: &str, answer: &Attempt) -> Result<()> {
    match answer {
        Err(refusal) if refusal.code == REFUSED => tally.refused += 1,
        // Any other refusal comes after the rights and the policies: a constraint, a foreign key, a trigger.
        Err(refusal) => {
            tally.fault(guise, format_args!("{verb} is only stopped by {} ({})", refusal.message, refusal.code));
        }
        Ok(found) => {
            let changed = found.first().map_or(Ok(None), |row| row.int(0))?;
            match changed {
                Some(0) => {}
                Some(changed) => tally.fault(guise, format_args!("{verb} of {changed} rows succeeds")),
                None => tally.fault(guise, format_args!("{verb} succeeds")),
            }
        }
    }
    Ok(())
}

/// Calls every function that takes texts or nothing, with the other organization and with the stranger.
async fn functions(
    owner: &mut Connection,
    actor: &mut Connection,
    role: &str,
    guises: &[Guise],
    tenants: &Tenants,
    report: &mut Report,
) -> Result<()> {
    const FUNCTIONS: &str = "SELECT p.oid::regprocedure::text, quote_ident(p.proname), p.pronargs::bigint, \
            (SELECT coalesce(bool_and(type = 'text'::regtype), true) FROM unnest(p.proargtypes) AS type), \
            p.provolatile = 'v' OR p.prokind <> 'f' OR p.prorettype IN ('trigger'::regtype, 'event_trigger'::regtype), \
            has_function_privilege($1, p.oid, 'EXECUTE') \
        FROM pg_proc p WHERE p.pronamespace = 'faircopy'::regnamespace ORDER BY 1";
    for row in rows(owner, FUNCTIONS, vec![role.into()]).await? {
        let (shown, name, arguments) = (row.required(0)?, row.required(1)?, row.int(2)?.unwrap_or_default());
        if row.bool(5)? != Some(true) {
            report.say(shown, "calls", Verdict::Ok, "may not be called");
            continue;
        }
        if row.bool(3)? != Some(true) || row.bool(4)? == Some(true) {
            report.say(shown, "calls", Verdict::Note, "was not called: it changes something, or takes more than texts");
            continue;
        }
        let list = vec!["$1"; usize::try_from(arguments).unwrap_or_default()].join(", ");
        let call = format!("SELECT to_jsonb(answer)::text FROM faircopy.{name}({list}) AS answer");
        let mut tally = Tally::default();
        for guise in guises {
            wear(actor, guise).await?;
            for foreign in [&tenants.other, &tenants.stranger] {
                let given = if arguments == 0 { vec![] } else { vec![foreign.as_str().into()] };
                tally.tried += 1;
                let answer = actor.attempt(&call, given).await?;
                judge_answer(&mut tally, guise, tenants, arguments > 0, &answer)?;
                if arguments == 0 {
                    break;
                }
            }
        }
        tally.conclude(report, &shown, "calls");
    }
    Ok(())
}

fn judge_answer(
    tally: &mut Tally,
    guise: &Guise,
    tenants: &Tenants,
    about_others: bool,
    answer: &Attempt,
) -> Result<()> {
    let found = match answer {
        Ok(found) => found,
        Err(refusal) if refusal.code == REFUSED => {
            tally.refused += 1;
            return Ok(());
        }
        Err(refusal) => {
            tally.fault(guise, format_args!("fails: {} ({})", refusal.message, refusal.code));
            return Ok(());
        }
    };
    for row in found {
        let text = row.text(0)?.unwrap_or_default();
        let value: Json = serde_json::from_str(&text).unwrap_or_default();
        if value.is_null() || value == json!(false) || is_echo(&value, guise) {
            continue;
        }
        let names = |id: &str| text.contains(id) && !guise.claims.as_deref().unwrap_or_default().contains(id);
        let agrees = about_others && value == json!(true);
        if agrees || !guise.is_user || names(&tenants.other) || names(&tenants.stranger) {
            tally.fault(guise, format_args!("answers {text}"));
        } else {
            tally.seen += 1;
        }
    }
    Ok(())
}

/// Whether an answer only repeats what the claims said.
fn is_echo(value: &Json, guise: &Guise) -> bool {
    let claims: Json = guise.claims.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    *value == claims
        || value.is_string()
            && [claims.pointer("/sub"), claims.pointer("/org_id"), claims.pointer("/o/id")].contains(&Some(value))
}

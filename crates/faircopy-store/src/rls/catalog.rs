//! What the catalogue says: rights, owners, switches. Every statement is asked by the owner's connection about a role.

use super::{Report, Verdict, rows};
use crate::engine::{Connection, Row};
use crate::error::Result;
use crate::server;

/// What the migrations give every function of theirs. `pg_temp` last, or a reader's temporary table would come first.
const FIXED_PATH: &str = "search_path=pg_catalog, pg_temp";
/// The tables and the view that a reader may be given, besides [`CONTENT`].
const READABLE: [&str; 6] =
    ["users", "organizations", "organization_members", "organization_invitations", "user_profiles", "workspaces"];
/// The tables that an application may be let to write, too, and the column that names what a row hangs on.
pub(super) const CONTENT: [(&str, &str); 8] = [
    ("channels", "workspace_id"),
    ("rooms", "workspace_id"),
    ("messages", "channel_id"),
    ("last_reads", "channel_id"),
    ("documents", "room_id"),
    ("code_files", "room_id"),
    ("whiteboards", "room_id"),
    ("meetings", "room_id"),
];
/// What row-level security guards, and so may be granted on these.
const GUARDED: [&str; 3] = ["INSERT", "UPDATE", "DELETE"];

pub(super) async fn look(owner: &mut Connection, role: &str, report: &mut Report) -> Result<()> {
    server(owner, report).await?;
    attributes(owner, role, report).await?;
    membership(owner, role, report).await?;
    creation(owner, role, report).await?;
    claims_at_hand(owner, role, report).await?;
    tables(owner, report).await?;
    rights(owner, role, report).await?;
    views(owner, role, report).await?;
    functions(owner, role, report).await
}

async fn server(owner: &mut Connection, report: &mut Report) -> Result<()> {
    const VERSION: &str = "SELECT current_setting('server_version'), current_setting('server_version_num')::bigint";
    for row in rows(owner, VERSION, vec![]).await? {
        let faults = server::open_advisories(row.int(1)?.unwrap_or_default());
        report.judge("server", "version", faults, &format!("PostgreSQL {}", row.required(0)?));
    }
    Ok(())
}

async fn attributes(owner: &mut Connection, role: &str, report: &mut Report) -> Result<()> {
    // Also those of the roles that it may become.
    const REACHABLE: &str = "SELECT rolname::text, rolsuper, rolbypassrls FROM pg_roles \
        WHERE (rolsuper OR rolbypassrls) AND CASE WHEN (SELECT rolsuper FROM pg_roles WHERE rolname = $1) \
            THEN rolname = $1 ELSE pg_has_role($1, oid, 'MEMBER') END ORDER BY rolname = $1 DESC, 1";
    let mut faults = Vec::new();
    for row in rows(owner, REACHABLE, vec![role.into()]).await? {
        let name = row.required(0)?;
        let what = if row.bool(1)? == Some(true) { "a superuser" } else { "BYPASSRLS" };
        faults.push(if name == role {
            format!("is {what}, and policies do not hold it; let the application connect as a role that is not")
        } else {
            format!("may become {name}, which is {what}; revoke that membership")
        });
    }
    report.judge(&format!("role {role}"), "attributes", faults, "no superuser, no BYPASSRLS, and cannot become one");
    Ok(())
}

async fn membership(owner: &mut Connection, role: &str, report: &mut Report) -> Result<()> {
    const OWNED: &str = "SELECT 'faircopy.' || quote_ident(c.relname), pg_get_userbyid(c.relowner)::text FROM pg_class c \
        WHERE c.relnamespace = 'faircopy'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
            AND pg_has_role($1, c.relowner, 'MEMBER') \
        UNION ALL SELECT 'schema faircopy', pg_get_userbyid(nspowner)::text FROM pg_namespace \
        WHERE nspname = 'faircopy' AND pg_has_role($1, nspowner, 'MEMBER') \
        UNION ALL SELECT 'function ' || p.oid::regprocedure::text, pg_get_userbyid(p.proowner)::text FROM pg_proc p \
        WHERE p.pronamespace = 'faircopy'::regnamespace AND pg_has_role($1, p.proowner, 'MEMBER') ORDER BY 1";
    let owned = rows(owner, OWNED, vec![role.into()]).await?;
    let mut faults = Vec::new();
    if let Some(first) = owned.first() {
        let (name, holder) = (first.required(0)?, first.required(1)?);
        let more = if owned.len() > 1 { format!(" and {} more", owned.len() - 1) } else { String::new() };
        faults.push(format!("owns {name}{more}, or may become {holder}, who does; an owner may switch policies off"));
    }
    report.judge(&format!("role {role}"), "ownership", faults, "owns nothing of the copy");
    Ok(())
}

async fn creation(owner: &mut Connection, role: &str, report: &mut Report) -> Result<()> {
    const CREATE: &str = "SELECT nspname::text FROM pg_namespace WHERE nspname IN ('public', 'faircopy') \
        AND has_schema_privilege($1, oid, 'CREATE') ORDER BY 1";
    for schema in ["faircopy", "public"] {
        let mut faults = Vec::new();
        for row in rows(owner, CREATE, vec![role.into()]).await? {
            if row.required(0)? == schema {
                faults.push(format!(
                    "{role} may create objects in it, which others may then run; REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC, {}",
                    super::quoted(role)
                ));
            }
        }
        report.judge(&format!("schema {schema}"), "create", faults, "the role may create nothing in it");
    }
    Ok(())
}

async fn claims_at_hand(owner: &mut Connection, role: &str, report: &mut Report) -> Result<()> {
    const PRESET: &str = "SELECT DISTINCT coalesce('role ' || r.rolname, 'database ' || d.datname, 'all') \
        FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase, \
            unnest(s.setconfig) AS setting \
        WHERE setting ILIKE 'request.jwt.claims=%' AND (s.setdatabase = 0 OR d.datname = current_database()) \
            AND (s.setrole = 0 OR r.rolname = $1)";
    let mut faults = Vec::new();
    for row in rows(owner, PRESET, vec![role.into()]).await? {
        faults.push(format!(
            "request.jwt.claims is preset for {}: every connection begins as somebody",
            row.required(0)?
        ));
    }
    report.judge(&format!("role {role}"), "claims", faults, "a connection begins without claims");
    Ok(())
}

/// Switches and policies of every table.
async fn tables(owner: &mut Connection, report: &mut Report) -> Result<()> {
    const TABLES: &str = "SELECT 'faircopy.' || quote_ident(c.relname), c.relkind::text, c.relrowsecurity, c.relforcerowsecurity, \
            pg_get_userbyid(c.relowner)::text, EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid \
                AND p.polpermissive AND p.polcmd = '*' AND pg_get_expr(p.polqual, p.polrelid) = 'true' \
                AND (SELECT bool_or(pg_has_role(c.relowner, held, 'USAGE')) FROM unnest(p.polroles) AS held WHERE held <> 0)) \
        FROM pg_class c WHERE c.relnamespace = 'faircopy'::regnamespace AND c.relkind IN ('r', 'p', 'f') ORDER BY 1";
    for row in rows(owner, TABLES, vec![]).await? {
        let (name, holder) = (row.required(0)?, row.required(4)?);
        let mut faults = Vec::new();
        if row.required(1)? == "f" {
            faults.push("is a foreign table, which row-level security cannot guard".to_owned());
        } else {
            if row.bool(2)? != Some(true) {
                faults.push(format!("is off; ALTER TABLE {name} ENABLE ROW LEVEL SECURITY"));
            }
            if row.bool(3)? != Some(true) {
                faults.push(format!("does not hold the owner; ALTER TABLE {name} FORCE ROW LEVEL SECURITY"));
            }
            if row.bool(5)? != Some(true) {
                let holder = super::quoted(&holder);
                faults.push(format!(
                    "the owner has no policy, and the service cannot write; \
                     CREATE POLICY owner_{name} ON {name} TO {holder} USING (true) WITH CHECK (true)",
                    name = name.replace("faircopy.", "")
                ));
            }
        }
        report.judge(&name, "row security", faults, "enabled and forced");
    }
    Ok(())
}

/// What the role was granted beyond reading what is there to be read.
async fn rights(owner: &mut Connection, role: &str, report: &mut Report) -> Result<()> {
    const RIGHTS: &str = "SELECT 'faircopy.' || quote_ident(c.relname), c.relname::text, \
            has_any_column_privilege($1, c.oid, 'SELECT'), (SELECT string_agg(word, ', ') FROM ( \
                SELECT word FROM unnest(ARRAY['INSERT', 'UPDATE', 'REFERENCES']) AS word \
                WHERE has_any_column_privilege($1, c.oid, word) \
                UNION ALL SELECT word FROM unnest(ARRAY['DELETE', 'TRUNCATE', 'TRIGGER']) AS word \
                WHERE has_table_privilege($1, c.oid, word)) AS held) \
        FROM pg_class c WHERE c.relnamespace = 'faircopy'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY 1";
    let mut readable = 0;
    let is_content = |table: &str| CONTENT.iter().any(|(content, _)| *content == table);
    for row in rows(owner, RIGHTS, vec![role.into()]).await? {
        let (name, table) = (row.required(0)?, row.required(1)?);
        let (reads, held) = (row.bool(2)? == Some(true), row.required(3)?);
        let held: Vec<&str> = held.split(", ").filter(|word| !word.is_empty()).collect();
        let (guarded, more): (Vec<&str>, Vec<&str>) =
            held.into_iter().partition(|word| is_content(&table) && GUARDED.contains(word));
        let mut faults = Vec::new();
        if !more.is_empty() {
            let more = more.join(", ");
            faults.push(format!("{role} holds {more}; REVOKE {more} ON {name} FROM {}", super::quoted(role)));
        }
        if reads && !READABLE.contains(&table.as_str()) && !is_content(&table) {
            faults.push(format!(
                "{role} may read a table of the service's own; REVOKE SELECT ON {name} FROM {}",
                super::quoted(role)
            ));
        }
        readable += usize::from(reads);
        let fine = match (reads, guarded.is_empty()) {
            (true, true) => "may be read, and no more".to_owned(),
            (false, true) => "none".to_owned(),
            (_, false) => format!("{} as well: policies hold it to the active workspace", guarded.join(", ")),
        };
        report.judge(&name, "rights", faults, &fine);
    }
    if readable == 0 {
        report.say(
            format!("role {role}"),
            "rights",
            Verdict::Note,
            format!("may read nothing; GRANT {} TO {}", crate::READER_ROLE, super::quoted(role)),
        );
    }
    Ok(())
}

/// Views over the copy, wherever they are.
async fn views(owner: &mut Connection, role: &str, report: &mut Report) -> Result<()> {
    const VIEWS: &str = "SELECT DISTINCT v.oid::regclass::text, v.relkind::text, coalesce((SELECT option_value::boolean \
            FROM pg_options_to_table(v.reloptions) WHERE option_name = 'security_invoker'), false) \
        FROM pg_class v LEFT JOIN pg_rewrite r ON r.ev_class = v.oid \
        LEFT JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid \
            AND d.refclassid = 'pg_class'::regclass AND d.refobjid <> v.oid \
        LEFT JOIN pg_class t ON t.oid = d.refobjid AND t.relnamespace = 'faircopy'::regnamespace \
        WHERE v.relkind IN ('v', 'm') AND (v.relnamespace = 'faircopy'::regnamespace \
            OR (t.oid IS NOT NULL AND has_any_column_privilege($1, v.oid, 'SELECT'))) ORDER BY 1";
    for row in rows(owner, VIEWS, vec![role.into()]).await? {
        let name = row.required(0)?;
        let mut faults = Vec::new();
        if row.required(1)? == "m" {
            faults.push("is a materialized view: a copy that no policy guards".to_owned());
        } else if row.bool(2)? != Some(true) {
            faults.push(format!("reads with its owner's rights; ALTER VIEW {name} SET (security_invoker = true)"));
        }
        report.judge(&name, "view", faults, "reads with its reader's rights");
    }
    Ok(())
}

/// Functions with their owner's rights: all of the schema, and elsewhere those of the copy's owner that the role may call.
async fn functions(owner: &mut Connection, role: &str, report: &mut Report) -> Result<()> {
    const DEFINERS: &str = "SELECT p.oid::regprocedure::text, p.pronamespace = 'faircopy'::regnamespace, \
            (SELECT setting FROM unnest(p.proconfig) AS setting WHERE setting LIKE 'search\\_path=%') \
        FROM pg_proc p WHERE p.prosecdef AND (p.pronamespace = 'faircopy'::regnamespace OR (has_function_privilege($1, p.oid, \
            'EXECUTE') AND p.proowner = (SELECT relowner FROM pg_class WHERE oid = 'faircopy.users'::regclass) \
            AND p.pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace))) ORDER BY 1";
    for row in rows(owner, DEFINERS, vec![role.into()]).await? {
        report.judge(
            &row.required(0)?,
            "definer",
            path_faults(&row)?,
            "runs with its owner's rights, and a fixed search_path",
        );
    }
    Ok(())
}

fn path_faults(row: &Row) -> Result<Vec<String>> {
    let (name, ours, path) = (row.required(0)?, row.bool(1)? == Some(true), row.text(2)?);
    let is_fixed = path.as_deref().is_some_and(|path| {
        if ours { path == FIXED_PATH } else { path == "search_path=\"\"" || path.ends_with("pg_temp") }
    });
    let fault = format!(
        "runs with its owner's rights and a search_path that its caller chooses; \
         ALTER FUNCTION {name} SET search_path = pg_catalog, pg_temp"
    );
    Ok(if is_fixed { Vec::new() } else { vec![fault] })
}

//! `faircopy rls check`.

use faircopy_store::rls::{Application, Report, Verdict};
use faircopy_store::{Address, Store};
use serde_json::json;

use super::{Failure, Global, output, require_schema};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  faircopy rls check --as-role authenticated")]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Try to cross tenants as the application's role; exit 1 if anything is found. Changes nothing
    Check(Check),
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  faircopy rls check --as-role authenticated\n  \
    faircopy rls check --app-database-url postgres://app@db/app --json\n\n\
    Connects as the application (or takes its role in a transaction), reads and writes every table, view and function\n\
    under the claims of one tenant, of another, under broken ones and none, and rolls everything back.")]
struct Check {
    /// The application's role, taken after connecting [env: FAIRCOPY_APP_ROLE]
    #[arg(long, value_name = "ROLE")]
    as_role: Option<String>,
    /// Where the application connects [env: FAIRCOPY_APP_DATABASE_URL; default: as the copy's owner, then --as-role]
    #[arg(long, value_name = "URL")]
    app_database_url: Option<String>,
}

pub(super) async fn run(arguments: Arguments, global: &Global) -> Result<(), Failure> {
    let Command::Check(arguments) = arguments.command;
    let mut flags = global.flags();
    flags.app_role = arguments.as_role;
    flags.app_database_url = arguments.app_database_url;
    let config = global.config_with(&flags)?;
    let store = config.store();
    if matches!(store.address(), Address::Sqlite(_)) {
        return no_roles(&store, global);
    }
    let application =
        Application { address: config.app_database.map(|database| database.0), role: config.app_role.clone() };
    if application.address.is_none() && application.role.is_none() {
        return Err(Failure::Usage(
            "which role does the application read with? Pass --as-role ROLE (on Supabase: authenticated, then anon), or \
             --app-database-url URL where it connects as a role of its own"
                .into(),
        ));
    }
    require_schema(&store).await?;
    let report = store.check_row_level_security(&application).await?;
    if global.json {
        let mut value = json!(report);
        value["database"] = json!(store.address().to_string());
        value["findings"] = json!(report.findings());
        output::json(&value)?;
    } else {
        anstream::eprintln!("{}   role {}", store.address(), report.role);
        anstream::print!("{}", describe(&report));
    }
    match report.findings() {
        0 => Ok(()),
        1 => Err(Failure::Failed("1 finding; see docs/row-level-security.md".into())),
        count => Err(Failure::Failed(format!("{count} findings; see docs/row-level-security.md"))),
    }
}

/// Nothing was checked, and nothing can be found: that is said, and is no failure.
fn no_roles(store: &Store, global: &Global) -> Result<(), Failure> {
    if global.json {
        let database = store.address().to_string();
        return output::json(&json!({ "database": database, "role": null, "checks": [], "findings": 0 }));
    }
    anstream::eprintln!(
        "{}: SQLite has no roles and no row-level security. Whoever can open the file reads all of it: \
         keep it readable for the service alone, and let applications ask the API.",
        store.address()
    );
    Ok(())
}

/// What was asked and answered, findings last, where a terminal shows them.
fn describe(report: &Report) -> String {
    let mut checks: Vec<_> = report.checks.iter().collect();
    checks.sort_by_key(|check| check.verdict == Verdict::Finding);
    let word = |verdict| match verdict {
        Verdict::Ok => "ok",
        Verdict::Note => "note",
        Verdict::Finding => "FINDING",
    };
    let mut text = output::table(
        &["OBJECT", "CHECK", "RESULT", "DETAIL"],
        checks.iter().map(|check| {
            vec![check.object.clone(), check.check.into(), word(check.verdict).into(), check.detail.clone()]
        }),
    );
    if let (Some(reader), Some(own), Some(other)) = (&report.reader, &report.organization, &report.other_organization) {
        text.push_str(&format!(
            "\ntried as {reader}, a member of {own} and not of {other}; everything was rolled back\n"
        ));
    }
    text
}

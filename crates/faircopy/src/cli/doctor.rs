//! `faircopy doctor`.

use std::sync::Arc;

use clap::builder::styling::{AnsiColor, Style};

use super::{Failure, Global, output};
use crate::app::{Clock as _, SystemClock};
use crate::config::{Config, Environment};
use crate::doctor::{Doctor, Name, Report, Status, Target};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  faircopy doctor\n  faircopy doctor --url https://app.example.com/webhooks/clerk\n  \
    faircopy doctor --only clock api-key --json\n\n\
    Changes nothing. Exit codes: 0 all is well, or there are warnings only; 1 something failed; 2 bad usage.\n\
    docs/errors.md has a section for each code."
)]
pub(super) struct Arguments {
    /// Where Clerk delivers to: the endpoint is tried there [default: the address it listens on]
    #[arg(long)]
    url: Option<String>,
    /// Only these checks
    #[arg(long, value_name = "NAME", num_args = 1.., value_delimiter = ',', value_parser = names())]
    only: Vec<Name>,
}

fn names() -> impl clap::builder::TypedValueParser<Value = Name> {
    use clap::builder::{PossibleValuesParser, TypedValueParser as _};
    let all = Name::ALL.iter().map(|name| name.as_str());
    let find = |text: String| Name::ALL.iter().copied().find(|name| name.as_str() == text);
    PossibleValuesParser::new(all).try_map(move |text| find(text).ok_or("unknown"))
}

pub(super) async fn run(arguments: Arguments, global: &Global) -> Result<(), Failure> {
    let report = match Config::load(&global.flags(), &Environment::of_process()) {
        Ok(config) => {
            let named = arguments.url.as_deref().map(|url| Target::named(url, &config)).transpose();
            let named = named.map_err(|fault| Failure::Usage(format!("--url {fault}")))?;
            let target = named.unwrap_or_else(|| Target::own(&config));
            Arc::new(Doctor::new(config, Arc::new(SystemClock), target)).report(&arguments.only).await
        }
        Err(error) => Report::without_settings(&error, &arguments.only, SystemClock.now()),
    };
    if global.json {
        output::json(&report)?;
    } else {
        anstream::print!("{}", describe(&report));
    }
    if report.status == Status::Failed { Err(Failure::Told) } else { Ok(()) }
}

/// Icon, word and colour of a status: each tells it without the others.
fn face(status: Status) -> (&'static str, &'static str, AnsiColor) {
    match status {
        Status::Ok => ("✓", "ok", AnsiColor::Green),
        Status::Warning => ("!", "warning", AnsiColor::Yellow),
        Status::Failed => ("✗", "failed", AnsiColor::Red),
        Status::Skipped => ("–", "skipped", AnsiColor::BrightBlack),
    }
}

/// A line for each check, what to do below those that need it, and the sum.
fn describe(report: &Report) -> String {
    let width = report.checks.iter().map(|check| check.title.len()).max().unwrap_or_default();
    let mut text = String::new();
    for check in &report.checks {
        let (icon, word, colour) = face(check.status);
        let style = Style::new().fg_color(Some(colour.into()));
        let code = check.code.map_or(String::new(), |code| format!(" [{code}]"));
        text.push_str(&format!(
            "{style}{icon} {word:<7}{style:#}  {:<width$}  {}{code}\n",
            check.title, check.evidence
        ));
        if let Some(remedy) = &check.remedy {
            text.push_str(&format!("{:11}{:<width$}  → {remedy}\n", "", ""));
        }
    }
    let counted = [Status::Failed, Status::Warning, Status::Ok, Status::Skipped];
    let counted = counted.map(|status| format!("{} {}", report.count(status), face(status).1));
    text.push_str(&format!("\n{}\n", counted.join(", ")));
    text
}

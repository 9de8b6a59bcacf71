//! What is wrong, and how to mend it: a closed list of checks, for the command line and the dashboard.
//!
//! Each check is a small function of the settings, the database, Clerk or a service outside. It changes nothing, and its answer
//! holds what was seen: numbers, and of secrets the last four characters at most. `docs/decisions/0022-doctor.md` says why so.

mod clerk;
mod database;
mod endpoint;
mod outside;
mod settings;
mod standing;

use std::sync::Arc;
use std::time::Duration;

use faircopy_core::Millis;
use faircopy_store::Store;
use serde::Serialize;
use tokio::sync::{Mutex, OnceCell};
use tokio::task::JoinSet;
use utoipa::ToSchema;

use crate::app::{App, Clock};
use crate::config::{Config, ConfigError, KnownSecret};
use crate::telemetry::Metrics;
use crate::upstream::clerk::{Clerk, Fault};
use crate::upstream::keys::{KeySet, Published};
pub use endpoint::{PROBE_PREFIX, Target};

/// How long one check may take: a wait for the issuer's keys (6 s) and then an exchange with Clerk (10 s) fit into it.
const CHECK_DEADLINE: Duration = Duration::from_secs(20);
/// How old a report may be that the dashboard is shown again: nothing that a person mends is mended faster, and Clerk is asked
/// twice a minute at most.
const REPORT_AGE_MS: i64 = 30_000;

/// How a check ended, and how the whole did: as its worst check, those that were skipped left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It was not looked at; the evidence says why.
    Skipped,
    /// As it should be.
    Ok,
    /// It works, and something will not, or a wall is weaker than it could be.
    Warning,
    /// The copy is wrong, is not told, or cannot be read.
    Failed,
}

/// One check and its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Check {
    /// What was looked at.
    #[schema(example = "clock")]
    pub name: &'static str,
    /// The same for people.
    #[schema(example = "Clock")]
    pub title: &'static str,
    /// How it ended.
    pub status: Status,
    /// What was seen, or why nothing was.
    pub evidence: String,
    /// What to do; `null` where nothing is.
    pub remedy: Option<String>,
    /// A section of `docs/errors.md`; `null` where there is nothing to explain.
    #[schema(example = "clock-skewed")]
    pub code: Option<&'static str>,
}

/// All checks that were asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
// A sweep has a report, too.
#[schema(as = Checkup)]
pub struct Report {
    /// The worst of the checks.
    pub status: Status,
    /// When they were made.
    #[schema(format = DateTime)]
    pub checked_at: String,
    /// Each check, in the order of the list.
    pub checks: Vec<Check>,
    /// The secrets that are set.
    pub secrets: Vec<KnownSecret>,
}

impl Report {
    fn of(checks: Vec<Check>, secrets: Vec<KnownSecret>, now: Millis) -> Self {
        let status = checks.iter().map(|check| check.status).max().unwrap_or(Status::Ok).max(Status::Ok);
        Self { status, checked_at: now.to_string(), checks, secrets }
    }

    /// The report where the settings cannot be used: that is all that can be said.
    #[must_use]
    pub fn without_settings(error: &ConfigError, only: &[Name], now: Millis) -> Self {
        let look = |name: &Name| match name {
            Name::Configuration => settings::unusable(error),
            _ => Answer::skipped("the settings cannot be used: see `configuration`"),
        };
        Self::of(chosen(only).iter().map(|name| look(name).under(*name)).collect(), Vec::new(), now)
    }

    /// How many checks ended so.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        self.checks.iter().filter(|check| check.status == status).count()
    }
}

/// What a check has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    status: Status,
    evidence: String,
    remedy: Option<String>,
    code: Option<&'static str>,
}

impl Answer {
    fn ok(evidence: impl Into<String>) -> Self {
        Self { status: Status::Ok, evidence: evidence.into(), remedy: None, code: None }
    }

    fn skipped(why: impl Into<String>) -> Self {
        Self { status: Status::Skipped, ..Self::ok(why) }
    }

    fn warning(code: &'static str, evidence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { status: Status::Warning, evidence: evidence.into(), remedy: Some(remedy.into()), code: Some(code) }
    }

    fn failed(code: &'static str, evidence: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { status: Status::Failed, ..Self::warning(code, evidence, remedy) }
    }

    fn under(self, name: Name) -> Check {
        let Self { status, evidence, remedy, code } = self;
        Check { name: name.as_str(), title: name.title(), status, evidence, remedy, code }
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $variant:ident $name:literal $title:literal),+ $(,)?) => {
        /// Everything that is looked at.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Name { $($(#[$doc])* $variant),+ }

        impl Name {
            /// All of them, in the order in which they are told: what others rest on first.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// As it is written.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// As people read it.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),+ }
            }
        }
    };
}

names!(
    /// The file, the variables, the admin token.
    Configuration "configuration" "Settings",
    /// It answers, takes changes, and its version is served.
    Database "database" "Database",
    /// What it acknowledges is on the disk.
    Durability "durability" "Durability",
    /// SQLite: room on the disk, size of the log.
    Disk "disk" "Disk",
    /// SQLite: who can open the file.
    Permissions "permissions" "File permissions",
    /// SQLite: the file is whole.
    Integrity "integrity" "Integrity",
    /// PostgreSQL: what the service's role may do.
    Role "role" "Database role",
    /// PostgreSQL: connections that are left.
    Connections "connections" "Connections",
    /// The schema is this program's.
    Migrations "migrations" "Migrations",
    /// Secrets that deliveries are signed with.
    SigningSecrets "signing-secrets" "Signing secrets",
    /// The keys of session tokens.
    SessionKeys "session-keys" "Session keys",
    /// A wrong signature is refused.
    SelfTest "self-test" "Signature self-test",
    /// The key of Clerk's Backend API: accepted, and of which instance.
    ApiKey "api-key" "Clerk API key",
    /// Our time against Clerk's and the database's.
    Clock "clock" "Clock",
    /// PostgreSQL: nobody crosses tenants.
    RowLevelSecurity "row-level-security" "Row-level security",
    /// Deliveries can reach this service, and verify.
    Endpoint "endpoint" "Webhook endpoint",
    /// When the last one came, and which never did.
    Deliveries "deliveries" "Deliveries",
    /// What could not be understood.
    Quarantine "quarantine" "Quarantine",
    /// What goes with an organization can be found.
    Content "content" "Content tree",
    /// Liveblocks' key.
    Liveblocks "liveblocks" "Liveblocks",
    /// The application's own steps.
    Steps "steps" "Outside steps",
    /// The places that the copy goes on to.
    Destinations "destinations" "Destinations",
    /// Troubles that are known.
    Findings "findings" "Known troubles",
    /// When the copy was last compared with Clerk.
    Reconcile "reconcile" "Reconcile",
);

/// Those that were asked for, in the order of the list; all where none is named.
fn chosen(only: &[Name]) -> Vec<Name> {
    Name::ALL.iter().copied().filter(|name| only.is_empty() || only.contains(name)).collect()
}

/// What looks.
pub struct Doctor {
    config: Config,
    store: Store,
    clock: Arc<dyn Clock>,
    keys: Arc<KeySet>,
    clerk: Option<Arc<Clerk>>,
    metrics: Metrics,
    target: Target,
    /// What Clerk said of the key, asked once.
    asked: OnceCell<Result<(), Fault>>,
    /// What the issuer publishes, asked once.
    published: OnceCell<Option<Result<Published, String>>>,
}

impl Doctor {
    /// A doctor for these settings, who asks Clerk with a client of its own.
    #[must_use]
    pub fn new(config: Config, clock: Arc<dyn Clock>, target: Target) -> Self {
        let metrics = Metrics::install();
        let keys = KeySet::new(&config.sessions, clock.clone(), metrics.clone());
        let clerk = Clerk::new(&config, keys.clone(), clock.clone(), metrics.clone());
        let store = config.store();
        Self { config, store, clock, keys, clerk, metrics, target, asked: OnceCell::new(), published: OnceCell::new() }
    }

    /// A doctor for a running service, who shares what it has.
    #[must_use]
    pub fn of(app: &App) -> Self {
        Self {
            config: app.config.clone(),
            store: app.store.clone(),
            clock: app.clock.clone(),
            keys: app.keys.clone(),
            clerk: app.clerk.clone(),
            metrics: app.metrics.clone(),
            target: Target::own(&app.config),
            asked: OnceCell::new(),
            published: OnceCell::new(),
        }
    }

    /// Makes these checks, or all where none is named: side by side, each within its time.
    pub async fn report(self: &Arc<Self>, only: &[Name]) -> Report {
        let names = chosen(only);
        let mut checks = JoinSet::new();
        for (place, name) in names.iter().copied().enumerate() {
            let doctor = self.clone();
            checks.spawn(async move { (place, within(CHECK_DEADLINE, doctor.look(name)).await.under(name)) });
        }
        let mut made: Vec<Option<Check>> = names.iter().map(|_| None).collect();
        while let Some(joined) = checks.join_next().await {
            if let Ok((place, check)) = joined {
                made[place] = Some(check);
            }
        }
        let broken = || Answer::failed("check-unfinished", "the check itself broke; this is a bug", "Report it.");
        let checks = names.iter().zip(made).map(|(name, check)| check.unwrap_or_else(|| broken().under(*name)));
        Report::of(checks.collect(), self.config.secrets(), self.clock.now())
    }

    async fn look(&self, name: Name) -> Answer {
        match name {
            Name::Configuration => settings::configuration(&self.config),
            Name::SigningSecrets => settings::signing_secrets(&self.config),
            Name::Database => self.database().await,
            Name::Durability => self.durability().await,
            Name::Disk => self.disk(),
            Name::Permissions => self.permissions(),
            Name::Integrity => self.integrity().await,
            Name::Role => self.role().await,
            Name::Connections => self.connections().await,
            Name::Migrations => self.migrations().await,
            Name::RowLevelSecurity => self.row_level_security().await,
            Name::SessionKeys => self.session_keys().await,
            Name::SelfTest => self.self_test().await,
            Name::ApiKey => self.api_key().await,
            Name::Clock => self.clock().await,
            Name::Endpoint => self.endpoint().await,
            Name::Deliveries => self.deliveries().await,
            Name::Quarantine => self.quarantine().await,
            Name::Content => self.content().await,
            Name::Liveblocks => self.liveblocks().await,
            Name::Steps => self.steps().await,
            Name::Destinations => self.destinations().await,
            Name::Findings => self.findings().await,
            Name::Reconcile => self.reconcile().await,
        }
    }
}

/// A check's answer, or that it did not come in time.
async fn within(deadline: Duration, check: impl Future<Output = Answer>) -> Answer {
    let late = |_| {
        let evidence = format!("no result within {} s", deadline.as_secs_f32());
        Answer::failed(
            "check-unfinished",
            evidence,
            "Look whether what it asks answers at all, and run it alone (--only).",
        )
    };
    tokio::time::timeout(deadline, check).await.unwrap_or_else(late)
}

/// The last report of a running service: one is made at a time, and shown to all who ask within [`REPORT_AGE_MS`].
#[derive(Default)]
pub struct Checkup(Mutex<Option<(Millis, Report)>>);

impl Checkup {
    /// The last report, or a new one.
    pub async fn report(&self, app: &App) -> Report {
        let mut last = self.0.lock().await;
        let now = app.clock.now();
        if let Some((made_at, report)) = &*last
            && (0..REPORT_AGE_MS).contains(&(now.0 - made_at.0))
        {
            return report.clone();
        }
        let report = Arc::new(Doctor::of(app)).report(&[]).await;
        last.insert((app.clock.now(), report)).1.clone()
    }
}

/// So long ago, as people say it.
fn ago(then: Millis, now: Millis) -> String {
    let seconds = (now.0 - then.0).max(0) / 1000;
    match seconds {
        ..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let names: std::collections::BTreeSet<_> = Name::ALL.iter().map(|name| name.as_str()).collect();
        assert_eq!(names.len(), Name::ALL.len());
    }

    #[tokio::test]
    async fn what_never_ends_is_given_up() {
        let answer = within(Duration::from_millis(5), std::future::pending()).await;
        assert_eq!((answer.status, answer.code), (Status::Failed, Some("check-unfinished")));
    }

    #[test]
    fn the_whole_is_as_its_worst_check() {
        let check = |answers: &[Answer], expected: Status| {
            let checks = answers.iter().map(|answer| answer.clone().under(Name::Clock)).collect();
            assert_eq!(Report::of(checks, vec![], Millis(0)).status, expected);
        };
        check(&[], Status::Ok);
        check(&[Answer::skipped("")], Status::Ok);
        check(&[Answer::warning("", "", ""), Answer::ok(""), Answer::skipped("")], Status::Warning);
        check(&[Answer::warning("", "", ""), Answer::failed("", "", "")], Status::Failed);
    }

    /// Each code that a check names has a section, and says what to do.
    #[test]
    fn every_code_is_documented() {
        let page = include_str!("../../../../docs/errors.md");
        let sources = [
            include_str!("mod.rs"),
            include_str!("clerk.rs"),
            include_str!("database.rs"),
            include_str!("endpoint.rs"),
            include_str!("outside.rs"),
            include_str!("settings.rs"),
            include_str!("standing.rs"),
        ];
        let mut codes = 0;
        for source in sources {
            let rest = source.split("mod tests {").next().unwrap_or_default();
            let named = ["Answer::warning(", "Answer::failed("].iter().flat_map(|call| rest.split(call).skip(1));
            for code in named.filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next()) {
                assert!(page.contains(&format!("## `{code}`")), "docs/errors.md lacks `{code}`");
                codes += 1;
            }
        }
        assert!(codes > 30, "codes are found in the sources: {codes}");
    }
}

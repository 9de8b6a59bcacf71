//! Settings: flag, environment, `faircopy.toml`, default, in this order. The only reader of the environment.
//!
//! Whatever is unknown or cannot be parsed is refused at start, with the key's name and the expected form, and never with
//! the value: it may be a secret.

mod alert;
mod cascade;
mod clerk;
mod dashboard;
mod destination;
mod outside;
mod retention;
mod sources;
mod traces;
mod webhook;

use std::net::SocketAddr;
use std::path::PathBuf;

use faircopy_core::signature::Secret;
use faircopy_core::{ProfileMode, WORKSPACE_MODES, WorkspaceMode};
use faircopy_store::{Address, Store};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::sweep::{DEFAULT_GRACE_MS, MAX_GRACE_SECONDS};
use alert::AlertFile;
pub use alert::{AlertFormat, AlertSettings};
pub use cascade::Cascade;
use cascade::{CascadeFile, ContentFile};
use clerk::ClerkFile;
pub use clerk::{BackendApi, Sessions};
pub use dashboard::Dashboard;
use dashboard::DashboardFile;
use destination::DestinationFile;
pub use destination::{DestinationKind, DestinationSettings};
pub use outside::{LIVEBLOCKS, LiveblocksApi, StepSettings};
use outside::{LiveblocksFile, StepFile};
pub use retention::Retention;
use retention::RetentionFile;
pub use sources::{Environment, Flags};
use sources::{Setting, Sources, is_overshadowed, read_file};
pub use traces::Traces;
use webhook::WebhookFile;
pub use webhook::{DEFAULT_MAX_BODY, LARGEST_MAX_BODY, Webhook, secrets_of};

/// The shortest admin token: 32 characters cannot be guessed within the life of a server.
pub const MIN_ADMIN_TOKEN: usize = 32;
/// A week: what is compared less often is not watched.
const MAX_EVERY_MINUTES: u32 = 7 * 24 * 60;
/// How old a name may be that is shown in the minimal profile mode, unless set: Clerk's own client libraries keep keys as long.
const DEFAULT_NAMES_TTL_SECONDS: i64 = 300;
/// The most that can be set: as long as a name is shown at all while Clerk does not answer.
const MAX_NAMES_TTL_SECONDS: i64 = 86_400;

/// Names that are read where the one before is not set.
const ALIASES: [(&str, &str); 2] =
    [("CLERK_WEBHOOK_SIGNING_SECRET", "CLERK_WEBHOOK_SECRET"), ("CLERK_JWT_ISSUER_DOMAIN", "CLERK_FRONTEND_API_URL")];
/// The shortest secret of which the last four characters are shown: of a shorter one they would be too large a part.
const SHOWN_FROM: usize = 16;

/// All settings, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that was read, if one was.
    pub file: Option<PathBuf>,
    /// Variables that are set and not read, each with the one that goes before it.
    pub overshadowed: Vec<(&'static str, &'static str)>,
    /// `DATABASE_URL`.
    pub database: Database,
    /// `FAIRCOPY_APP_DATABASE_URL`: where the application connects, for `rls check`.
    pub app_database: Option<Database>,
    /// `FAIRCOPY_APP_ROLE`: the role that the application reads with, for `rls check`.
    pub app_role: Option<String>,
    /// `FAIRCOPY_LISTEN`.
    pub listen: SocketAddr,
    /// `FAIRCOPY_ALLOWED_ORIGINS`: whose pages may call the API from a browser, apart from this service's own.
    pub allowed_origins: Vec<String>,
    /// `FAIRCOPY_ADMIN_TOKEN`: the admin API is off without it.
    pub admin_token: Option<SecretString>,
    /// `FAIRCOPY_PROFILE_MODE`.
    pub profile_mode: ProfileMode,
    /// `FAIRCOPY_NAMES_TTL_SECONDS`: how old a name may be that is shown in the minimal profile mode, in milliseconds.
    pub names_ttl_ms: i64,
    /// `FAIRCOPY_WORKSPACES`.
    pub workspaces: WorkspaceMode,
    /// `CLERK_INSTANCE_ID`.
    pub instance_id: Option<String>,
    /// Which session tokens are good.
    pub sessions: Sessions,
    /// Clerk's Backend API.
    pub api: BackendApi,
    /// Liveblocks' REST API.
    pub liveblocks: LiveblocksApi,
    /// The application's own outside steps.
    pub steps: Vec<StepSettings>,
    /// The webhook endpoint.
    pub webhook: Webhook,
    /// `FAIRCOPY_LOG`: a filter such as `info` or `faircopy=debug`.
    pub log: String,
    /// `FAIRCOPY_LOG_FORMAT`.
    pub log_format: LogFormat,
    /// `FAIRCOPY_LOG_REQUESTS`: which requests and deliveries have a line.
    pub log_requests: LogRequests,
    /// Where traces go; nothing is traced without.
    pub traces: Option<Traces>,
    /// When `serve` reconciles by itself.
    pub reconcile: Reconcile,
    /// What goes with an organization or a user.
    pub cascade: Cascade,
    /// How long each kind of thing is kept.
    pub retention: Retention,
    /// `FAIRCOPY_WATCH`: whether `serve` looks each minute for trouble, and tells of it.
    pub watch: bool,
    /// Who is told of trouble.
    pub alerts: Vec<AlertSettings>,
    /// The places that the copy goes on to.
    pub destinations: Vec<DestinationSettings>,
    /// How the dashboard is shown.
    pub dashboard: Dashboard,
    /// Start although the database may lose what it acknowledged.
    pub allow_unsafe_durability: bool,
}

/// When `serve` compares the copy with Clerk, and how carefully.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconcile {
    /// How often.
    pub every: Every,
    /// See [`crate::sweep::DEFAULT_GRACE_MS`].
    pub grace_ms: i64,
}

/// How often something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// As often as the size of the copy allows.
    Auto,
    /// Never by itself.
    Never,
    /// After so many minutes.
    Minutes(u32),
}

/// Where the copy is. Shown without credentials.
#[derive(Clone)]
pub struct Database(pub Address);

impl std::fmt::Debug for Database {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}", self.0)
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Which requests and deliveries have a line of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogRequests {
    /// Up to a number in each second.
    #[default]
    Auto,
    /// Each.
    All,
    /// None.
    Off,
}

/// A secret by its name, and by what a person tells it from others by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct KnownSecret {
    /// The variable.
    #[schema(example = "CLERK_WEBHOOK_SIGNING_SECRET")]
    pub name: String,
    /// Its last four characters; `null` where it is so short that they would say too much of it.
    #[schema(example = "LaSw")]
    pub last_four: Option<String>,
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value of the wrong form.
    #[error("{name} {fault}")]
    Invalid {
        /// The variable or key.
        name: String,
        /// What is wrong, and what is expected.
        fault: String,
    },
    /// A file that cannot be read.
    #[error("{name}: cannot read {path}: {fault}")]
    File {
        /// Which setting names the file.
        name: String,
        /// The file.
        path: String,
        /// Why.
        fault: String,
    },
}

/// `faircopy.toml`. Every key is in `faircopy.example.toml`; a test holds the two together.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    database_url: Option<String>,
    app_database_url: Option<String>,
    app_role: Option<String>,
    listen: Option<String>,
    allowed_origins: Option<String>,
    admin_token: Option<String>,
    profile_mode: Option<String>,
    names_ttl_seconds: Option<i64>,
    log: Option<String>,
    log_format: Option<String>,
    watch: Option<String>,
    log_requests: Option<String>,
    allow_unsafe_durability: Option<bool>,
    #[serde(default)]
    clerk: ClerkFile,
    #[serde(default)]
    liveblocks: LiveblocksFile,
    #[serde(default)]
    step: Vec<StepFile>,
    #[serde(default)]
    webhook: WebhookFile,
    #[serde(default)]
    reconcile: ReconcileFile,
    #[serde(default)]
    workspaces: WorkspacesFile,
    #[serde(default)]
    cascade: CascadeFile,
    #[serde(default)]
    retention: RetentionFile,
    #[serde(default)]
    content: Vec<ContentFile>,
    #[serde(default)]
    alert: Vec<AlertFile>,
    #[serde(default)]
    destination: Vec<DestinationFile>,
    #[serde(default)]
    dashboard: DashboardFile,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkspacesFile {
    mode: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReconcileFile {
    every: Option<String>,
    grace_seconds: Option<String>,
}

impl Config {
    /// Reads and checks all settings.
    pub fn load(flags: &Flags, environment: &Environment) -> Result<Self, ConfigError> {
        let (read, file) = read_file(flags, environment)?;
        let overshadowed = ALIASES.into_iter().filter(|(name, alias)| is_overshadowed(environment, name, alias));
        let sources = Sources { environment };
        let database_url = sources
            .first(flags.database_url.clone(), &["DATABASE_URL"], file.database_url)?
            .unwrap_or_else(|| Setting::fallback("DATABASE_URL", "sqlite://faircopy.db"));
        let app_database_url =
            sources.first(flags.app_database_url.clone(), &["FAIRCOPY_APP_DATABASE_URL"], file.app_database_url)?;
        let app_role = sources.first(flags.app_role.clone(), &["FAIRCOPY_APP_ROLE"], file.app_role)?;
        let listen = sources
            .first(flags.listen.clone(), &["FAIRCOPY_LISTEN"], file.listen)?
            .unwrap_or_else(|| Setting::fallback("FAIRCOPY_LISTEN", "127.0.0.1:8787"));
        let allowed_origins = sources.first(None, &["FAIRCOPY_ALLOWED_ORIGINS"], file.allowed_origins)?;
        let admin_token = sources.first(None, &["FAIRCOPY_ADMIN_TOKEN"], file.admin_token)?;
        let profile_mode = sources.first(None, &["FAIRCOPY_PROFILE_MODE"], file.profile_mode)?;
        let names_ttl = file.names_ttl_seconds.map(|seconds| seconds.to_string());
        let names_ttl = sources.first(None, &["FAIRCOPY_NAMES_TTL_SECONDS"], names_ttl)?;
        let workspaces = sources.first(None, &["FAIRCOPY_WORKSPACES"], file.workspaces.mode)?;
        let (sessions, api) = (file.clerk.sessions(&sources)?, file.clerk.api(&sources)?);
        let secrets = sources.first(
            None,
            &["CLERK_WEBHOOK_SIGNING_SECRET", "CLERK_WEBHOOK_SECRET"],
            file.clerk.webhook_signing_secret,
        )?;
        let instance_id = sources.first(None, &["CLERK_INSTANCE_ID"], file.clerk.instance_id)?;
        let every = sources.first(None, &["FAIRCOPY_RECONCILE_EVERY"], file.reconcile.every)?;
        let grace = sources.first(None, &["FAIRCOPY_RECONCILE_GRACE_SECONDS"], file.reconcile.grace_seconds)?;
        let steps = outside::steps(&file.step, &sources)?;
        let watch = sources.first(None, &["FAIRCOPY_WATCH"], file.watch)?;
        let log = sources.first(None, &["FAIRCOPY_LOG"], file.log)?;
        let log_format = sources.first(None, &["FAIRCOPY_LOG_FORMAT"], file.log_format)?;
        let log_requests = sources.first(None, &["FAIRCOPY_LOG_REQUESTS"], file.log_requests)?;
        Ok(Self {
            file: read,
            overshadowed: overshadowed.map(|(name, alias)| (alias, name)).collect(),
            database: database_url.read(database_of)?,
            app_database: app_database_url.map(|url| url.read(app_database_of)).transpose()?,
            app_role: app_role.map(|role| role.read(role_of)).transpose()?,
            listen: listen.read(|text| text.parse().map_err(|_| "is not an address; expected `127.0.0.1:8787`"))?,
            allowed_origins: allowed_origins.map_or(Ok(Vec::new()), |list| list.read(origins_of))?,
            admin_token: admin_token.map(|token| token.read(admin_token_of)).transpose()?,
            profile_mode: profile_mode.map_or(Ok(ProfileMode::Full), |mode| mode.read(profile_mode_of))?,
            names_ttl_ms: 1000 * names_ttl.map_or(Ok(DEFAULT_NAMES_TTL_SECONDS), |ttl| ttl.read(names_ttl_of))?,
            workspaces: workspaces.map_or(Ok(WorkspaceMode::default()), |mode| mode.read(workspaces_of))?,
            instance_id: instance_id.map(|id| id.read(instance_of)).transpose()?,
            sessions,
            api,
            liveblocks: file.liveblocks.read(&sources)?,
            webhook: file.webhook.read(secrets)?,
            reconcile: Reconcile {
                every: every.map_or(Ok(Every::Auto), |every| every.read(every_of))?,
                grace_ms: grace.map_or(Ok(DEFAULT_GRACE_MS), |grace| grace.read(grace_of))?,
            },
            cascade: file.cascade.read(&file.content, &steps, &sources)?,
            retention: file.retention.read()?,
            watch: watch.map_or(Ok(true), |watch| watch.read(switch_of))?,
            alerts: alert::alerts(&file.alert, &sources)?,
            destinations: destination::destinations(&file.destination, &sources)?,
            dashboard: file.dashboard.read(&sources)?,
            steps,
            log: log.map_or_else(|| "info".into(), |log| log.value),
            log_format: log_format.map_or(Ok(LogFormat::Text), |format| {
                format.read(|text| match text {
                    "text" => Ok(LogFormat::Text),
                    "json" => Ok(LogFormat::Json),
                    _ => Err("is unknown; expected `text` or `json`"),
                })
            })?,
            log_requests: log_requests.map_or(Ok(LogRequests::Auto), |wanted| wanted.read(log_requests_of))?,
            traces: traces::read(&sources)?,
            allow_unsafe_durability: flags.allow_unsafe_durability || file.allow_unsafe_durability == Some(true),
        })
    }
}

fn origins_of(text: &str) -> Result<Vec<String>, &'static str> {
    const FORM: &str = "is not a list of origins; expected `https://app.example.com`, several separated by commas";
    let origins = clerk::list(text).ok_or(FORM)?;
    if origins.iter().all(|origin| dashboard::origin_of(origin).is_ok()) { Ok(origins) } else { Err(FORM) }
}

fn switch_of(text: &str) -> Result<bool, &'static str> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("is unknown; expected `on` or `off`"),
    }
}

fn every_of(text: &str) -> Result<Every, &'static str> {
    const EXPECTED: &str = "is not understood; expected `auto`, `never` or a number of minutes";
    match text {
        "auto" => Ok(Every::Auto),
        "never" => Ok(Every::Never),
        minutes => match minutes.parse() {
            Ok(minutes @ 1..=MAX_EVERY_MINUTES) => Ok(Every::Minutes(minutes)),
            _ => Err(EXPECTED),
        },
    }
}

fn grace_of(text: &str) -> Result<i64, &'static str> {
    match text.parse() {
        Ok(seconds @ 0..=MAX_GRACE_SECONDS) => Ok(seconds * 1000),
        _ => Err("is not understood; expected a number of seconds, at most 86400"),
    }
}

fn database_of(url: &str) -> Result<Database, String> {
    Address::parse(url).map(Database).map_err(|error| {
        let text = error.to_string();
        text.strip_prefix("DATABASE_URL ").map(ToOwned::to_owned).unwrap_or(text)
    })
}

fn app_database_of(url: &str) -> Result<Database, String> {
    match database_of(url)? {
        Database(Address::Sqlite(_)) => Err("is not PostgreSQL; expected `postgres://user@host/database`".into()),
        database => Ok(database),
    }
}

fn log_requests_of(text: &str) -> Result<LogRequests, &'static str> {
    match text {
        "auto" => Ok(LogRequests::Auto),
        "all" => Ok(LogRequests::All),
        "off" => Ok(LogRequests::Off),
        _ => Err("is unknown; expected `auto`, `all` or `off`"),
    }
}

/// PostgreSQL cuts longer names off, and would take another role.
fn role_of(text: &str) -> Result<String, &'static str> {
    let is_name = (1..64).contains(&text.len()) && !text.contains('\0');
    if is_name { Ok(text.to_owned()) } else { Err("is not a role; expected a name of 1 to 63 bytes") }
}

fn admin_token_of(text: &str) -> Result<SecretString, &'static str> {
    if text.len() < MIN_ADMIN_TOKEN {
        Err("is too short; expected at least 32 characters")
    } else {
        Ok(text.to_owned().into())
    }
}

fn profile_mode_of(text: &str) -> Result<ProfileMode, &'static str> {
    match text {
        "full" => Ok(ProfileMode::Full),
        "minimal" => Ok(ProfileMode::Minimal),
        _ => Err("is unknown; expected `full` or `minimal`"),
    }
}

fn workspaces_of(text: &str) -> Result<WorkspaceMode, &'static str> {
    WORKSPACE_MODES
        .into_iter()
        .find(|mode| mode.as_str() == text)
        .ok_or("is unknown; expected `per_organization`, `linked` or `off`")
}

fn names_ttl_of(text: &str) -> Result<i64, String> {
    let seconds = text.parse().ok().filter(|seconds| (1..=MAX_NAMES_TTL_SECONDS).contains(seconds));
    seconds.ok_or_else(|| format!("is not a number of seconds; expected 1 to {MAX_NAMES_TTL_SECONDS}"))
}

fn instance_of(text: &str) -> Result<String, &'static str> {
    if text.starts_with("ins_") { Ok(text.to_owned()) } else { Err("is not an instance id; expected `ins_…`") }
}

impl Config {
    /// The copy, as these settings say that it is kept: what all commands open.
    #[must_use]
    pub fn store(&self) -> Store {
        Store::new(self.database.0.clone()).with_workspaces(self.workspaces)
    }

    /// Every secret that is set.
    #[must_use]
    pub fn secrets(&self) -> Vec<KnownSecret> {
        let known = |name: &str, last_four: Option<String>| KnownSecret { name: name.to_owned(), last_four };
        let shown = |secret: &Secret| Some(secret.last_four().to_owned());
        let signing = self.webhook.secrets.iter().map(|secret| known("CLERK_WEBHOOK_SIGNING_SECRET", shown(secret)));
        let texts = [
            ("FAIRCOPY_ADMIN_TOKEN", &self.admin_token),
            ("CLERK_SECRET_KEY", &self.api.secret_key),
            ("LIVEBLOCKS_SECRET_KEY", &self.liveblocks.secret_key),
        ];
        let texts = texts.into_iter().filter_map(|(name, secret)| Some((name, secret.as_ref()?.expose_secret())));
        let steps = self.steps.iter().map(|step| known(&outside::variable_of(&step.name), shown(&step.secret)));
        let destinations = self.destinations.iter().flat_map(DestinationSettings::secrets);
        let destinations = destinations.map(|(name, text)| known(&name, text));
        signing.chain(texts.map(|(name, text)| known(name, last_four(text)))).chain(steps).chain(destinations).collect()
    }

    /// The admin token's text, for comparing and for the demo's own calls.
    #[must_use]
    pub fn admin_token_text(&self) -> Option<&str> {
        self.admin_token.as_ref().map(ExposeSecret::expose_secret)
    }
}

/// The last four characters, where they are a small part.
fn last_four(text: &str) -> Option<String> {
    let characters: Vec<char> = text.chars().collect();
    (characters.len() >= SHOWN_FROM).then(|| characters[characters.len() - 4..].iter().collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::sources::parse_file;
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn load(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let environment = Environment(variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        Config::load(&Flags::default(), &environment)
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let config = load(&[]).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8787");
        assert_eq!(config.database.0.to_string(), "sqlite faircopy.db");
        assert!(config.webhook.secrets.is_empty() && config.admin_token.is_none());
        assert_eq!(config.workspaces, WorkspaceMode::PerOrganization);
    }

    #[test]
    fn the_mode_of_workspaces_reaches_the_store() {
        for (text, mode) in [("per_organization", WorkspaceMode::PerOrganization), ("linked", WorkspaceMode::Linked)] {
            assert_eq!(load(&[("FAIRCOPY_WORKSPACES", text)]).unwrap().store().workspaces(), mode);
        }
        assert_eq!(load(&[("FAIRCOPY_WORKSPACES", "off")]).unwrap().store().workspaces(), WorkspaceMode::Off);
    }

    #[test]
    fn unusable_values_are_refused_by_name_and_never_shown() {
        let check = |variable: &str, value: &str| {
            let error = load(&[(variable, value)]).unwrap_err().to_string();
            assert!(error.starts_with(variable), "{error}");
            let without_form = error.replace("`whsec_<base64>`", "");
            assert!(value.is_empty() || !without_form.contains(value), "{error}");
            assert!(error.contains("expected"), "{error}");
        };
        check("CLERK_WEBHOOK_SIGNING_SECRET", "");
        check("CLERK_WEBHOOK_SIGNING_SECRET", "whsec_");
        check("CLERK_WEBHOOK_SIGNING_SECRET", "whsec_c2hvcnQ=");
        check("CLERK_WEBHOOK_SIGNING_SECRET", "whsec_not base64!");
        check("FAIRCOPY_ADMIN_TOKEN", "too-short-a-token");
        check("FAIRCOPY_LISTEN", "nowhere");
        check("DATABASE_URL", "mysql://root:hunter2@host/db");
        check("FAIRCOPY_PROFILE_MODE", "some");
        check("FAIRCOPY_WORKSPACES", "each");
        check("FAIRCOPY_NAMES_TTL_SECONDS", "86401");
        check("FAIRCOPY_NAMES_TTL_SECONDS", "soon");
        check("CLERK_INSTANCE_ID", "prod");
        check("FAIRCOPY_APP_DATABASE_URL", "sqlite://app.db");
        check("FAIRCOPY_APP_ROLE", &"r".repeat(64));
        check("CLERK_JWT_ISSUER_DOMAIN", "http://clerk.test");
        check("CLERK_JWT_KEY", "-----BEGIN PRIVATE KEY-----");
        check("CLERK_JWT_AUDIENCE", ",");
        check("CLERK_AUTHORIZED_PARTIES", "app.test/");
        check("CLERK_SECRET_KEY", "pk_test_publishable");
        check("CLERK_API_URL", "http://api.test");
        check("FAIRCOPY_LOG_FORMAT", "xml");
        check("FAIRCOPY_LOG_REQUESTS", "some");
        check("FAIRCOPY_ALLOWED_ORIGINS", "*");
        check("FAIRCOPY_ALLOWED_ORIGINS", "https://app.example.com/");
        check("FAIRCOPY_PROBE", "yes");
        check("FAIRCOPY_WATCH", "yes");
        check("LIVEBLOCKS_SECRET_KEY", "pk_dev_publishable");
        check("LIVEBLOCKS_SECRET_KEY", "sk_two words");
        check("LIVEBLOCKS_API_URL", "http://api.test");
        check("LIVEBLOCKS_API_URL", "https://192.168.0.1");
        check("FAIRCOPY_CASCADE_HOLD_SECONDS", "tomorrow");
    }

    #[test]
    fn several_secrets_and_the_alias_are_read() {
        let two = format!("{SECRET}, {SECRET}");
        assert_eq!(load(&[("CLERK_WEBHOOK_SIGNING_SECRET", &two)]).unwrap().webhook.secrets.len(), 2);
        assert_eq!(load(&[("CLERK_WEBHOOK_SECRET", SECRET)]).unwrap().webhook.secrets.len(), 1);
    }

    #[test]
    fn secrets_are_known_by_their_last_four_characters() {
        let variables = [
            ("CLERK_WEBHOOK_SIGNING_SECRET", SECRET),
            ("CLERK_SECRET_KEY", "sk_test_0123456789abcdef"),
            ("LIVEBLOCKS_SECRET_KEY", "sk_short"),
        ];
        let known = load(&variables).unwrap().secrets();
        let shown: Vec<_> = known.iter().map(|secret| (secret.name.as_str(), secret.last_four.as_deref())).collect();
        let expected = [
            ("CLERK_WEBHOOK_SIGNING_SECRET", Some("LaSw")),
            ("CLERK_SECRET_KEY", Some("cdef")),
            ("LIVEBLOCKS_SECRET_KEY", None),
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn an_alias_beside_another_value_is_told() {
        let check = |alias: &str, overshadowed: usize| {
            let variables =
                [("CLERK_JWT_ISSUER_DOMAIN", "https://clerk.example.com"), ("CLERK_FRONTEND_API_URL", alias)];
            assert_eq!(load(&variables).unwrap().overshadowed.len(), overshadowed, "{alias}");
        };
        check("https://clerk.example.com", 0);
        check("https://other.example.com", 1);
        check("", 0);
    }

    #[test]
    fn the_issuer_has_an_alias_and_the_api_a_default() {
        let sessions = |name: &str| load(&[(name, "https://clerk.example.com/")]).unwrap().sessions;
        for name in ["CLERK_JWT_ISSUER_DOMAIN", "CLERK_FRONTEND_API_URL"] {
            assert_eq!(sessions(name).issuer.as_deref(), Some("https://clerk.example.com"));
            assert!(sessions(name).are_configured());
        }
        let config = load(&[]).unwrap();
        assert!(!config.sessions.are_configured() && config.api.secret_key.is_none());
        assert_eq!(config.api.url, "https://api.clerk.com");
        let key = "sk_test_canarycanarycanary";
        assert!(!format!("{:?}", load(&[("CLERK_SECRET_KEY", key)]).unwrap()).contains("canary"));
    }

    #[test]
    fn liveblocks_has_a_default_address_and_no_key() {
        let config = load(&[]).unwrap();
        assert!(config.liveblocks.secret_key.is_none() && config.steps.is_empty());
        assert_eq!(config.liveblocks.url, "https://api.liveblocks.io");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, "sk_dev_canary\n").unwrap();
        let variables =
            [("LIVEBLOCKS_SECRET_KEY_FILE", path.to_str().unwrap()), ("LIVEBLOCKS_API_URL", "http://localhost:1153/")];
        let config = load(&variables).unwrap();
        assert_eq!(config.liveblocks.url, "http://localhost:1153");
        assert_eq!(config.liveblocks.secret_key.as_ref().unwrap().expose_secret(), "sk_dev_canary");
        assert!(!format!("{config:?}").contains("canary"));
    }

    #[test]
    fn secrets_are_read_from_files_and_never_printed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, format!("{SECRET}\n")).unwrap();
        let config = load(&[("CLERK_WEBHOOK_SIGNING_SECRET_FILE", path.to_str().unwrap())]).unwrap();
        assert_eq!(config.webhook.secrets.len(), 1);
        let missing = load(&[("FAIRCOPY_ADMIN_TOKEN_FILE", "/nonexistent/token")]).unwrap_err().to_string();
        assert!(missing.contains("FAIRCOPY_ADMIN_TOKEN_FILE"), "{missing}");
        let token = "0123456789abcdef0123456789abcdef";
        let shown = format!(
            "{:?}",
            load(&[("FAIRCOPY_ADMIN_TOKEN", token), ("DATABASE_URL", "postgres://u:hunter2@h/d")]).unwrap()
        );
        assert!(!shown.contains(token) && !shown.contains("hunter2"), "{shown}");
        assert!(!format!("{config:?}").contains(&SECRET[6..]));
    }

    #[test]
    fn the_example_file_has_every_key_and_no_other() {
        let example = include_str!("../../../faircopy.example.toml");
        // Each key stands commented out with its default; without the marks it must parse as it is.
        let plain: String =
            example.lines().map(|line| format!("{}\n", line.strip_prefix("#: ").unwrap_or(line))).collect();
        let file = parse_file(&plain, Path::new("faircopy.example.toml")).unwrap();
        let debug = format!("{file:?}");
        assert!(!debug.contains("None"), "a key is missing from faircopy.example.toml: {debug}");
        assert!(
            !file.content.is_empty() && !file.step.is_empty() && !file.alert.is_empty() && !file.destination.is_empty(),
            "what may be there several times is there once"
        );
        let unknown = parse_file("listne = 'x'", Path::new("faircopy.toml")).unwrap_err().to_string();
        assert!(unknown.contains("listne") && unknown.contains("listen"), "{unknown}");
    }

    #[test]
    fn flags_go_before_the_environment() {
        let environment = Environment([("FAIRCOPY_LISTEN".to_owned(), "127.0.0.1:1".to_owned())].into());
        let flags = Flags { listen: Some("127.0.0.1:2".into()), ..Flags::default() };
        assert_eq!(Config::load(&flags, &environment).unwrap().listen.port(), 2);
    }
}

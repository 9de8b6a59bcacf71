//! The doctor: each trouble made, and recognised by its code; nothing secret in what it says.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use faircopy::app::{Clock, ManualClock, SystemClock};
use faircopy::config::{Config, Environment, Flags};
use faircopy::doctor::{Check, Doctor, Name, Report, Status, Target};
use faircopy_core::Millis;
use faircopy_testkit::clerk::{Clerk, KEY, Mood};
use faircopy_testkit::postgres::{Postgres, fresh_database};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::app::{ADMIN_TOKEN, Engine, SECRET, TestApp, assert_problem};
use crate::confirm;
use crate::events::user_created;
use crate::mint::{self, Answer, Issuer, KID};

/// A service that is looked at: settings, a folder of its own, a clock.
struct Patient {
    folder: TempDir,
    variables: Vec<(String, String)>,
    file: Option<PathBuf>,
    clock: Arc<dyn Clock>,
    url: Option<String>,
}

impl Patient {
    /// Well, as far as settings go: a secret, an admin token, a SQLite file that does not exist yet.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = format!("sqlite://{}", folder.path().join("copy.db").display());
        let clock = Arc::new(SystemClock);
        let patient = Self { folder, variables: vec![], file: None, clock, url: None };
        patient
            .set("DATABASE_URL", &database)
            .set("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)
            .set("FAIRCOPY_ADMIN_TOKEN", ADMIN_TOKEN)
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    fn unset(mut self, name: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self
    }

    /// With a `faircopy.toml` of this content and mode.
    fn file(mut self, content: &str, mode: u32) -> Self {
        let path = self.folder.path().join("faircopy.toml");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        self.file = Some(path);
        self
    }

    /// Our clock is so far ahead.
    fn ahead(mut self, millis: i64) -> Self {
        self.clock = Arc::new(ManualClock::at(Millis(SystemClock.now().0 + millis)));
        self
    }

    fn at(mut self, url: &str) -> Self {
        self.url = Some(url.to_owned());
        self
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("copy.db")
    }

    fn config(&self) -> Config {
        let flags = Flags { config: self.file.clone(), ..Flags::default() };
        Config::load(&flags, &Environment(self.variables.iter().cloned().collect())).unwrap()
    }

    /// With the schema.
    async fn migrated(self) -> Self {
        faircopy::app::prepare(&self.config(), &self.config().store(), SystemClock.now(), true).await.unwrap();
        self
    }

    async fn look(&self, name: Name) -> Check {
        let config = self.config();
        let target = match &self.url {
            Some(url) => Target::named(url, &config).unwrap(),
            None => Target::own(&config),
        };
        let report = Arc::new(Doctor::new(config, self.clock.clone(), target)).report(&[name]).await;
        assert_eq!(report.checks.len(), 1);
        report.checks.into_iter().next().unwrap()
    }

    /// The check ends so, and its evidence holds this.
    async fn check(&self, name: Name, status: Status, code: Option<&str>, evidence: &str) {
        let check = self.look(name).await;
        assert_eq!((check.status, check.code), (status, code), "{check:?}");
        assert!(check.evidence.contains(evidence), "{evidence}: {check:?}");
        assert_eq!(check.remedy.is_some(), code.is_some(), "{check:?}");
    }

    async fn fails(&self, name: Name, code: &str, evidence: &str) {
        self.check(name, Status::Failed, Some(code), evidence).await;
    }

    async fn warns(&self, name: Name, code: &str, evidence: &str) {
        self.check(name, Status::Warning, Some(code), evidence).await;
    }

    async fn passes(&self, name: Name, evidence: &str) {
        self.check(name, Status::Ok, None, evidence).await;
    }

    async fn skips(&self, name: Name, evidence: &str) {
        self.check(name, Status::Skipped, None, evidence).await;
    }

    /// With the key of this API.
    fn clerk(self, clerk: &Clerk) -> Self {
        self.set("CLERK_SECRET_KEY", KEY).set("CLERK_API_URL", clerk.url())
    }

    async fn sql(&self, statement: &str) {
        let mut connection = SqliteConnection::connect(&format!("sqlite://{}", self.path().display())).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

/// Somebody else's server: answers everything with this status and a page.
async fn stranger(status: u16) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            drop(stream.read(&mut request).await);
            let answer = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello");
            drop(stream.write_all(answer.as_bytes()).await);
            // Until the client has read it: what is closed with something unread is reset.
            while stream.read(&mut request).await.is_ok_and(|read| read > 0) {}
        }
    });
    url
}

/// An address at which nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

async fn administer(url: &str, statement: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn settings_that_are_wrong_or_weak() {
    Patient::new().passes(Name::Configuration, "admin API on").await;
    let none = Patient::new().unset("FAIRCOPY_ADMIN_TOKEN");
    none.warns(Name::Configuration, "admin-disabled", "dashboard").await;
    let weak = Patient::new().set("FAIRCOPY_ADMIN_TOKEN", &"ab".repeat(16));
    weak.warns(Name::Configuration, "admin-token-weak", "2 different").await;
    let alias = Patient::new().set("CLERK_WEBHOOK_SECRET", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD");
    alias.warns(Name::Configuration, "setting-not-read", "CLERK_WEBHOOK_SECRET is set").await;
    let line = format!("admin_token = '{ADMIN_TOKEN}'\n");
    Patient::new().file(&line, 0o644).warns(Name::Configuration, "secrets-readable", "644").await;
    Patient::new().file(&line, 0o600).passes(Name::Configuration, "faircopy.toml").await;
    Patient::new().file("log = 'info'\n", 0o644).passes(Name::Configuration, "faircopy.toml").await;

    let wrong = Environment([("FAIRCOPY_LISTEN".to_owned(), "nowhere".to_owned())].into());
    let error = Config::load(&Flags::default(), &wrong).unwrap_err();
    let report = Report::without_settings(&error, &[], Millis(0));
    assert_eq!((report.status, report.count(Status::Failed)), (Status::Failed, 1));
    assert_eq!(report.count(Status::Skipped), Name::ALL.len() - 1);
    assert_eq!(report.checks[0].code, Some("configuration-invalid"));
    assert!(report.checks[0].evidence.starts_with("FAIRCOPY_LISTEN"), "{report:?}");
}

#[tokio::test]
async fn signing_secrets_and_the_self_test() {
    let none = Patient::new().unset("CLERK_WEBHOOK_SIGNING_SECRET");
    none.fails(Name::SigningSecrets, "no-signing-secret", "503").await;
    none.skips(Name::SelfTest, "neither").await;
    let twice = Patient::new().set("CLERK_WEBHOOK_SIGNING_SECRET", &format!("{SECRET},{SECRET}"));
    twice.warns(Name::SigningSecrets, "signing-secret-twice", "…LaSw").await;
    Patient::new().passes(Name::SigningSecrets, "1 is set: …LaSw").await;
    Patient::new().set("CLERK_JWT_KEY", &mint::pem()).passes(Name::SelfTest, "2 tried").await;
}

#[tokio::test]
async fn a_sqlite_file_that_is_not_as_it_should_be() {
    let nothing = Patient::new();
    nothing.warns(Name::Database, "migrations-pending", "does not exist yet").await;
    nothing.fails(Name::Migrations, "migrations-pending", "0001 copy").await;
    let folder = Patient::new().set("DATABASE_URL", "sqlite:///nonexistent/copy.db");
    folder.fails(Name::Database, "database-unavailable", "/nonexistent").await;

    let well = Patient::new().migrated().await;
    well.passes(Name::Database, "takes changes").await;
    well.passes(Name::Durability, "wal").await;
    well.passes(Name::Integrity, "nothing damaged").await;
    well.passes(Name::Migrations, "all are applied").await;
    well.passes(Name::Permissions, "600").await;
    fs::set_permissions(well.folder.path(), Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(well.path(), Permissions::from_mode(0o644)).unwrap();
    well.passes(Name::Permissions, "closed to others").await;
    let disk = well.look(Name::Disk).await;
    assert!(disk.evidence.contains("MiB free; file "), "{disk:?}");
    for name in [Name::Role, Name::Connections, Name::RowLevelSecurity] {
        well.skips(name, "SQLite").await;
    }
    fs::set_permissions(well.folder.path(), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(well.path(), Permissions::from_mode(0o644)).unwrap();
    well.warns(Name::Permissions, "database-exposed", "644").await;
    fs::set_permissions(well.path(), Permissions::from_mode(0o600)).unwrap();
    well.passes(Name::Permissions, "600").await;
    well.sql("INSERT INTO schema_migrations VALUES (999, 'later', '2030-01-01T00:00:00.000Z')").await;
    well.fails(Name::Migrations, "schema-newer", "999").await;

    // Held by somebody who writes for longer than anybody waits.
    let held = Patient::new().migrated().await;
    let mut other = SqliteConnection::connect(&format!("sqlite://{}", held.path().display())).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    held.warns(Name::Database, "database-unavailable", "another process").await;

    let none_of_ours = Patient::new();
    fs::write(none_of_ours.path(), vec![b'x'; 8192]).unwrap();
    none_of_ours.fails(Name::Database, "database-unavailable", "not a database").await;
    none_of_ours.fails(Name::Integrity, "database-damaged", "not a database").await;
    none_of_ours.skips(Name::Migrations, "see `database`").await;

    // Pages in the middle that were overwritten.
    let damaged = Patient::new().migrated().await;
    damaged.sql("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA journal_mode = DELETE;").await;
    let mut bytes = fs::read(damaged.path()).unwrap();
    bytes[8192..20_480].fill(0x5a);
    fs::write(damaged.path(), bytes).unwrap();
    let check = damaged.look(Name::Integrity).await;
    assert_eq!((check.status, check.code), (Status::Failed, Some("database-damaged")), "{check:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_is_not_as_it_should_be() {
    let gone = Patient::new().set("DATABASE_URL", "postgres://nobody:hunter2@127.0.0.1:9/none");
    gone.fails(Name::Database, "database-unavailable", "postgres").await;
    gone.skips(Name::Durability, "see `database`").await;
    assert!(!format!("{:?}", gone.look(Name::Database).await).contains("hunter2"));

    let database = fresh_database().await;
    let patient = Patient::new().set("DATABASE_URL", database.url());
    patient.fails(Name::Migrations, "migrations-pending", "pending").await;
    patient.skips(Name::RowLevelSecurity, "migrations are pending").await;
    let patient = patient.migrated().await;
    patient.passes(Name::Durability, "fsync").await;
    patient.passes(Name::Migrations, "all").await;
    patient.passes(Name::Connections, "are open").await;
    patient.passes(Name::Clock, "the database").await;
    patient.warns(Name::Role, "role-too-mighty", "superuser").await;
    patient.passes(Name::RowLevelSecurity, "own reads").await;
    for name in [Name::Disk, Name::Permissions, Name::Integrity] {
        patient.skips(name, "PostgreSQL").await;
    }
    let patient = patient.set("FAIRCOPY_APP_ROLE", "postgres");
    patient.fails(Name::RowLevelSecurity, "row-level-security-open", "postgres").await;
    let patient = patient.set("FAIRCOPY_APP_ROLE", "nobody_there");
    patient.fails(Name::RowLevelSecurity, "row-level-security-open", "could not be tried").await;
    let late = patient.ahead(60_000);
    late.warns(Name::Clock, "clock-skewed", "the database").await;

    let set = format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name());
    administer(database.url(), &set).await;
    late.fails(Name::Database, "database-unavailable", "read-only").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_loses_what_it_acknowledged() {
    let cluster = Postgres::start_with(&[("fsync", "off"), ("max_connections", "12")]).await;
    let url = cluster.create_database("careless").await;
    let patient = Patient::new().set("DATABASE_URL", &url);
    patient.fails(Name::Durability, "database-not-durable", "fsync").await;
    patient.warns(Name::Connections, "connections-low", " of 9 ").await;
    let role = "CREATE ROLE visitor LOGIN; REVOKE CREATE ON DATABASE careless FROM PUBLIC";
    administer(&url, role).await;
    let visitor = url.replacen("postgres@", "visitor@", 1);
    assert_ne!(visitor, url, "the address names the role");
    let patient = Patient::new().set("DATABASE_URL", &visitor);
    patient.fails(Name::Role, "role-unfit", "may not make a schema").await;
    drop(Patient::new().set("DATABASE_URL", &url).file("allow_unsafe_durability = true\n", 0o600).migrated().await);
    patient.fails(Name::Role, "role-unfit", "does not own").await;
}

#[tokio::test]
async fn keys_of_session_tokens() {
    let keys = mint::jwks(&[(KID, mint::instance())]);
    Patient::new().skips(Name::SessionKeys, "is off").await;
    let pem = Patient::new().set("CLERK_JWT_KEY", &mint::pem());
    pem.warns(Name::SessionKeys, "issuer-unchecked", "1 key of 2048 bits").await;
    let pem = pem.set("CLERK_JWT_ISSUER_DOMAIN", mint::ISSUER);
    pem.passes(Name::SessionKeys, "nothing is fetched").await;

    let issuer = Issuer::start(Answer::Status(200, keys)).await;
    let patient = Patient::new().set("CLERK_JWT_ISSUER_DOMAIN", &issuer.url);
    patient.passes(Name::SessionKeys, KID).await;
    patient.passes(Name::SelfTest, "2 tried").await;
    for (answer, evidence) in [
        (Answer::Status(200, "<html>a page</html>".into()), "not a JSON object"),
        (Answer::Status(200, r#"{"keys":[]}"#.into()), "no usable key"),
        (Answer::Status(404, String::new()), "status 404"),
        (Answer::Status(302, String::new()), "status 302"),
    ] {
        issuer.answers(answer);
        patient.fails(Name::SessionKeys, "jwk-remote-failed-to-load", evidence).await;
    }
    let patient = Patient::new().set("CLERK_JWT_ISSUER_DOMAIN", &nobody().await);
    patient.fails(Name::SessionKeys, "jwk-remote-failed-to-load", "no connection").await;
}

#[tokio::test]
async fn the_key_of_clerks_api() {
    Patient::new().warns(Name::ApiKey, "clerk-key-missing", "no CLERK_SECRET_KEY").await;
    let clerk = confirm::clerk().await;
    let patient = Patient::new().clerk(&clerk);
    patient.passes(Name::ApiKey, "accepted, development, of ins_").await;
    let live = Patient::new().set("CLERK_SECRET_KEY", "sk_live_somebody-elses-key").set("CLERK_API_URL", clerk.url());
    live.fails(Name::ApiKey, "clerk-key-refused", "401").await;
    let foreign = Patient::new().clerk(&clerk).set("CLERK_INSTANCE_ID", "ins_another");
    foreign.fails(Name::ApiKey, "clerk-wrong-instance", "CLERK_INSTANCE_ID (ins_another)").await;
    let issuer = Issuer::start(Answer::Status(200, mint::jwks(&[("ins_other", mint::other())]))).await;
    let foreign = Patient::new().clerk(&clerk).set("CLERK_JWT_ISSUER_DOMAIN", &issuer.url);
    foreign.fails(Name::ApiKey, "clerk-wrong-instance", "the issuer's").await;
    issuer.answers(Answer::Status(500, String::new()));
    foreign.skips(Name::ApiKey, "session-keys").await;
    for (mood, evidence) in [
        (Mood::Status(500), "500"),
        (Mood::Html, "not the JSON"),
        (Mood::CutOff, "not the JSON"),
        (Mood::Redirect("http://127.0.0.1:9/".into()), "302"),
    ] {
        clerk.is(mood);
        patient.fails(Name::ApiKey, "clerk-unreachable", evidence).await;
    }
    clerk.is(Mood::Limited(Some(30)));
    patient.warns(Name::ApiKey, "clerk-rate-limited", "rate limit").await;
    let silent = Clerk::start("", "").await;
    Patient::new().clerk(&silent).warns(Name::ApiKey, "clerk-unproven", "does not tell").await;
    let nobody = Patient::new().set("CLERK_SECRET_KEY", KEY).set("CLERK_API_URL", &nobody().await);
    nobody.fails(Name::ApiKey, "clerk-unreachable", "no connection").await;
}

#[tokio::test]
async fn clocks_that_differ() {
    let clerk = confirm::clerk().await;
    Patient::new().skips(Name::Clock, "nobody to compare with").await;
    Patient::new().clerk(&clerk).passes(Name::Clock, "Clerk").await;
    Patient::new().clerk(&clerk).ahead(60_000).warns(Name::Clock, "clock-skewed", "ahead of Clerk").await;
    Patient::new().clerk(&clerk).ahead(-60_000).warns(Name::Clock, "clock-skewed", "behind Clerk").await;
    Patient::new().clerk(&clerk).ahead(400_000).fails(Name::Clock, "clock-skewed", "300 s").await;
}

#[tokio::test]
async fn the_endpoint_as_clerk_reaches_it() {
    let other = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let app = TestApp::build().on(engine).start().await;
        let patient = Patient::new().at(&app.url(""));
        patient.passes(Name::Endpoint, "verified 1 signed probes").await;
        let both = format!("{SECRET} {other}");
        let rotating = Patient::new().set("CLERK_WEBHOOK_SIGNING_SECRET", &both).at(&app.url(""));
        rotating.fails(Name::Endpoint, "endpoint-refuses", "b7oD").await;
        let patient = Patient::new().set("CLERK_WEBHOOK_SIGNING_SECRET", other).at(&app.url(""));
        patient.fails(Name::Endpoint, "endpoint-refuses", "our secret").await;
        let late = Patient::new().ahead(-400_000).at(&app.url(""));
        late.fails(Name::Endpoint, "clock-skewed", "300 s").await;
        let elsewhere = Patient::new().at(&app.url("/hooks"));
        elsewhere.fails(Name::Endpoint, "endpoint-refuses", "`not-found`").await;
        assert!(app.deliveries().await.is_empty(), "a probe is not stored");
        assert_eq!(app.outcome("msg_1", user_created("user_1")).await, "applied");
    }
    let app = TestApp::build().webhook("allow_from = ['203.0.113.0/24']").start().await;
    Patient::new().at(&app.url("")).skips(Name::Endpoint, "allow_from").await;
    for status in [200, 301, 401, 404, 502] {
        let patient = Patient::new().at(&stranger(status).await);
        patient.fails(Name::Endpoint, "endpoint-not-ours", &format!("answers {status}")).await;
    }
    let address = nobody().await;
    Patient::new().at(&address).fails(Name::Endpoint, "endpoint-unreachable", "no connection").await;
    let own = Patient::new().set("FAIRCOPY_LISTEN", address.trim_start_matches("http://"));
    own.warns(Name::Endpoint, "endpoint-unreachable", "no connection").await;
    let unsigned = Patient::new().unset("CLERK_WEBHOOK_SIGNING_SECRET").at(&address);
    unsigned.skips(Name::Endpoint, "signing-secrets").await;
}

/// A probe that is not signed well is refused as any delivery is.
#[tokio::test]
async fn a_forged_probe_learns_nothing() {
    let app = TestApp::start().await;
    let mut signed = app.sign("faircopy_doctor_0011", "{}");
    assert_problem(&app.post(&signed.headers(), "{}").await, 422, "probe-verified");
    signed.signature = format!("v1,{}=", "A".repeat(43));
    assert_problem(&app.post(&signed.headers(), "{}").await, 400, "signature-invalid");
    // The word must begin the id, which is signed.
    assert_eq!(app.outcome("msg_faircopy_doctor_1", user_created("user_1")).await, "applied");
    assert_eq!(app.deliveries().await.len(), 1);
}

#[tokio::test]
async fn what_came_and_what_is_known() {
    let clerk = confirm::clerk().await;
    let app = TestApp::start().await;
    let patient = Patient::new().set("DATABASE_URL", &app.database_url).clerk(&clerk);
    patient.warns(Name::Deliveries, "no-delivery-yet", "none").await;
    patient.passes(Name::Quarantine, "nothing").await;
    patient.passes(Name::Findings, "none").await;
    patient.warns(Name::Reconcile, "reconcile-old", "none").await;
    assert_eq!(app.outcome("msg_1", user_created("user_1")).await, "applied");
    patient.passes(Name::Deliveries, "not seen: user.updated").await;
    assert_eq!(app.outcome("msg_2", "{").await, "quarantined");
    patient.warns(Name::Quarantine, "deliveries-quarantined", "1 deliveries").await;
    let mut connection = SqliteConnection::connect(&app.database_url).await.unwrap();
    let raise = "INSERT INTO findings (name, since, seen_at, detail) VALUES \
        ('undelivered', '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z', 'a user changed')";
    sqlx::raw_sql(raise).execute(&mut connection).await.unwrap();
    patient.fails(Name::Findings, "findings-known", "a user changed").await;
    let unmigrated = Patient::new();
    for name in [Name::Deliveries, Name::Quarantine, Name::Findings] {
        unmigrated.skips(name, "cannot be read").await;
    }
    unmigrated.skips(Name::Reconcile, "CLERK_SECRET_KEY").await;
}

#[tokio::test]
async fn what_deletions_need() {
    let well = Patient::new().migrated().await;
    well.passes(Name::Content, "tables").await;
    well.skips(Name::Liveblocks, "no LIVEBLOCKS_SECRET_KEY").await;
    well.skips(Name::Steps, "no `[[step]]`").await;
    let content = "[[content]]\ntable = 'notes'\nkey = 'id'\nparent = 'workspace'\nparent_key = 'workspace_id'\n";
    let wrong = Patient::new().file(content, 0o600).migrated().await;
    wrong.fails(Name::Content, "content-tree-invalid", "notes").await;

    let liveblocks =
        |url: &str| Patient::new().set("LIVEBLOCKS_SECRET_KEY", "sk_dev_canary").set("LIVEBLOCKS_API_URL", url);
    liveblocks(&stranger(401).await).fails(Name::Liveblocks, "outside-key-refused", "401").await;
    liveblocks(&stranger(404).await).fails(Name::Liveblocks, "outside-unreachable", "404").await;
    liveblocks(&nobody().await).fails(Name::Liveblocks, "outside-unreachable", "no connection").await;

    let step = |url: &str| format!("[[step]]\nname = 'search'\nurl = '{url}/deleted'\nsecret = '{SECRET}'\n");
    Patient::new().file(&step(&stranger(405).await), 0o600).passes(Name::Steps, "answers 405").await;
    let silent = Patient::new().file(&step(&nobody().await), 0o600);
    silent.fails(Name::Steps, "outside-unreachable", "`search`").await;
}

/// The route of the dashboard: the shape that it is built for, at most one report in 30 seconds, no secret.
#[tokio::test]
async fn the_dashboard_is_told_the_same() {
    let clerk = confirm::clerk().await;
    let clock = crate::app::manual_clock();
    let app = TestApp::build().clerk(&clerk).clock(&clock).without_reconcile().start().await;
    confirm::ready(&app).await;
    let report = app.admin_json("/admin/v1/doctor").await;
    assert_eq!(report["status"], "failed", "the clock of the test stands in 2025: {report}");
    let checks = report["checks"].as_array().unwrap();
    let names: Vec<&str> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(names, Name::ALL.iter().map(|name| name.as_str()).collect::<Vec<_>>());
    for check in checks {
        let mut keys: Vec<&String> = check.as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(keys, ["code", "evidence", "name", "remedy", "status", "title"], "{check}");
        let is_well = check["status"] == "ok" || check["status"] == "skipped";
        assert_eq!(check["code"].is_null() && check["remedy"].is_null(), is_well, "{check}");
    }
    let clock_check = checks.iter().find(|check| check["name"] == "clock").unwrap();
    assert_eq!((&clock_check["status"], &clock_check["code"]), (&json!("failed"), &json!("clock-skewed")));
    let known: Vec<(&Value, &Value)> =
        report["secrets"].as_array().unwrap().iter().map(|secret| (&secret["name"], &secret["last_four"])).collect();
    let expected =
        [("CLERK_WEBHOOK_SIGNING_SECRET", "LaSw"), ("FAIRCOPY_ADMIN_TOKEN", "ers!"), ("CLERK_SECRET_KEY", "ests")];
    assert_eq!(
        known,
        expected.map(|(name, last)| (json!(name), json!(last))).each_ref().map(|(name, last)| (name, last))
    );
    for secret in [SECRET, ADMIN_TOKEN, KEY, &SECRET[6..]] {
        assert!(!report.to_string().contains(secret), "{report}");
    }
    let asked = clerk.asked().len();
    let again = app.admin_json("/admin/v1/doctor").await;
    assert_eq!((again["checked_at"].clone(), clerk.asked().len()), (report["checked_at"].clone(), asked));
    clock.advance(30_000);
    let later = app.admin_json("/admin/v1/doctor").await;
    assert_ne!(later["checked_at"], report["checked_at"]);
    assert!(clerk.asked().len() > asked, "it is looked anew");
}

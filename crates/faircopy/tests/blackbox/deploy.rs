//! What docs/deploy.md tells an operator, done: its SQL, and the files that it ships.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use faircopy_testkit::postgres::Postgres;
use faircopy_testkit::seed::Seed;
use faircopy_testkit::server::{Options, Server, binary};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};
use tokio::process::Command;

use crate::support::{ADMIN_TOKEN, History, PATIENCE, Place, SECRET, Sent, admin, administer, check, faircopy, sender};

const DOCUMENT: &str = include_str!("../../../../docs/deploy.md");
/// What `systemd-analyze security` may say of the unit, in tenths: the document's 1.2.
const EXPOSURE: &str = "12";

/// A file of the repository.
fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn address_of(role: &str, url: &str) -> String {
    url.replacen("postgres@", &format!("{role}@"), 1)
}

/// How a program ends, and what it says.
async fn outcome(command: &mut Command) -> (bool, String) {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, output).await.expect("it ends").expect("it starts");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// What PostgreSQL refuses a role with.
async fn refusal(url: &str, statement: &str) -> String {
    let mut connection = PgConnection::connect(url).await.expect("connect");
    let error = connection.execute(AssertSqlSafe(statement.to_owned())).await.expect_err(statement);
    error.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned()
}

/// A service with the document's roles and no more rights than it says; a backup, and what is restored from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documents_roles_are_enough_and_its_backup_is_whole() {
    let blocks: Vec<&str> =
        DOCUMENT.split("```sql\n").skip(1).map(|rest| rest.split("```").next().expect("its end")).collect();
    let [roles, revoked, backup] = blocks[..] else { panic!("the document has other blocks of SQL") };
    // A cluster of its own: roles belong to the whole server.
    let postgres = Postgres::start().await;
    let place = Place::at(postgres.create_database("app").await);
    administer(place.url(), roles).await;
    let (owner, app) = (address_of("faircopy", place.url()), address_of("app", place.url()));
    let folder = tempfile::tempdir().expect("a folder");
    let migrated = faircopy(folder.path(), &[("DATABASE_URL", &owner)], &["migrate"]).await;
    assert_eq!(migrated.code, Some(0), "{migrated:?}");
    administer(place.url(), revoked).await;

    let seed = Seed::of_run();
    let history = History::company(seed.value(), 60, 8);
    let serve = |url: &str| place.options().env("DATABASE_URL", url).argument("--no-migrate");
    let server = Server::start(serve(&owner)).await;
    let mut sent = Sent::default();
    sent.add(&sender(&server).send_all(history.deliveries(seed.value()), 8, PATIENCE).await);
    check(&place, &server, &history, &sent).await;
    place.until_calm().await;
    let figures = server.get("/metrics").await.expect("an answer").text();
    assert!(figures.contains("\nfaircopy_row_level_security 1\n"), "{figures}");
    drop(server);

    assert_eq!(refusal(&owner, "CREATE SCHEMA another").await, "42501");
    assert_eq!(refusal(&owner, "CREATE ROLE another").await, "42501");
    for statement in [
        "DELETE FROM faircopy.users",
        "SELECT FROM faircopy.webhook_deliveries",
        "SELECT FROM faircopy.secrets",
        "CREATE TABLE faircopy.mine ()",
        "SET ROLE faircopy",
    ] {
        assert_eq!(refusal(&app, statement).await, "42501", "{statement}");
    }
    let mut reader = PgConnection::connect(&app).await.expect("connect");
    let seen: i64 = reader.fetch_one("SELECT count(*) FROM faircopy.users").await.expect("a count").get(0);
    assert_eq!(seen, 0, "without claims there is nothing to see");
    let env = [("DATABASE_URL", owner.as_str()), ("FAIRCOPY_APP_DATABASE_URL", app.as_str())];
    let found = faircopy(folder.path(), &env, &["rls", "check"]).await;
    assert_eq!(found.code, Some(0), "{found:?}");

    administer(place.url(), backup).await;
    let dump = folder.path().join("faircopy.dump");
    let save = |role: &str| {
        let mut command = Command::new(postgres.programs().join("pg_dump"));
        command.args(["--format=custom", "--schema=faircopy", "--dbname"]).arg(address_of(role, place.url()));
        command.arg("--file").arg(&dump);
        command
    };
    let (saved, said) = outcome(&mut save("faircopy")).await;
    assert!(!saved && said.contains("row-level security"), "the owner's dump would lack rows: {said}");
    let (saved, said) = outcome(&mut save("backup")).await;
    assert!(saved, "{said}");
    let restored = Place::at(postgres.create_database("restored").await);
    let mut restore = Command::new(postgres.programs().join("pg_restore"));
    let (whole, said) = outcome(restore.arg("--dbname").arg(restored.url()).arg(&dump)).await;
    assert!(whole, "{said}");
    let server = Server::start(serve(&address_of("faircopy", restored.url()))).await;
    check(&restored, &server, &history, &sent).await;
}

/// The health check of the image, against the service as it listens there.
#[tokio::test]
async fn the_images_health_check_tells_alive_from_dead() {
    let place = Place::sqlite();
    let mut server = place.serve().await;
    let port = server.url().rsplit_once(':').expect("a port").1.to_owned();
    let ask = || {
        let mut command = Command::new(file("ops/docker/healthy"));
        command.env("FAIRCOPY_LISTEN", format!("0.0.0.0:{port}"));
        command
    };
    let (healthy, said) = outcome(&mut ask()).await;
    assert!(healthy, "{said}");
    server.kill9().await;
    let (healthy, _) = outcome(&mut ask()).await;
    assert!(!healthy, "nobody answers");
}

/// What the Dockerfile takes from the repository is there, its compiler is new enough, and what it starts is what it has
/// copied. Whether an image comes of it needs Docker.
#[test]
fn the_dockerfile_names_what_is_there() {
    let text = fs::read_to_string(file("Dockerfile")).expect("read it");
    let manifest = fs::read_to_string(file("Cargo.toml")).expect("read it");
    let wanted = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).expect("a version");
    assert!(text.contains(&format!("FROM rust:{}-", wanted.trim_matches('"'))), "{wanted} is needed");
    let copied: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("COPY ")).collect();
    assert_eq!(copied.len(), 3, "{copied:?}");
    for line in copied {
        let source = line.split_whitespace().rfind(|word| !word.starts_with('/') && !word.starts_with("--"));
        match source {
            Some(source) => assert!(file(source).exists(), "{source}"),
            None => assert_eq!(line, "--from=build /src/target/release/faircopy /usr/local/bin/faircopy"),
        }
    }
    for line in ["USER 10001:10001", "ENTRYPOINT [\"faircopy\"]", "CMD [\"serve\"]", "CMD [\"healthy\"]"] {
        assert!(text.contains(line), "{line}");
    }
}

/// systemd understands every line of the unit, and finds it as little exposed as the document says. Where systemd is not
/// installed there is nothing that could read it.
#[tokio::test]
async fn systemd_takes_the_unit() {
    let unit = fs::read_to_string(file("ops/systemd/faircopy.service")).expect("read it");
    let program = "ExecStart=/usr/local/bin/faircopy serve --config /etc/faircopy/faircopy.toml\n";
    assert!(unit.contains(program), "what the document installs is started");
    let folder = tempfile::tempdir().expect("a folder");
    let here = folder.path().join("faircopy.service");
    // The program need not be installed on this machine.
    fs::write(&here, unit.replace("/usr/local/bin/faircopy", &binary().display().to_string())).expect("write it");
    if Command::new("systemd-analyze").arg("--version").stdout(Stdio::null()).status().await.is_err() {
        eprintln!("systemd-analyze is not installed");
        return;
    }
    let (taken, said) = outcome(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&here)).await;
    assert!(taken && !said.contains("faircopy.service:"), "{said}");
    let mut judge = Command::new("systemd-analyze");
    let judge = judge.args(["security", "--no-pager", "--offline=yes", "--threshold", EXPOSURE]).arg(&here);
    let (safe, said) = outcome(judge).await;
    assert!(safe, "{said}");
}

/// The unit's variables are those that the program reads, and name the files that the unit loads.
#[tokio::test]
async fn the_units_secrets_are_read_from_their_files() {
    let unit = fs::read_to_string(file("ops/systemd/faircopy.service")).expect("read it");
    let lines = |key: &'static str| unit.lines().filter_map(move |line| line.strip_prefix(key));
    let folder = tempfile::tempdir().expect("a folder");
    for line in lines("LoadCredential=") {
        let (name, source) = line.split_once(':').expect("where it is");
        assert_eq!(source, format!("/etc/faircopy/secrets/{name}"));
        let secret = if name == "admin-token" { ADMIN_TOKEN } else { SECRET };
        fs::write(folder.path().join(name), format!("{secret}\n")).expect("write it");
    }
    let copy = format!("sqlite://{}", folder.path().join("copy.db").display());
    let mut options = Options::new().env("DATABASE_URL", copy);
    for line in lines("Environment=") {
        let (name, value) = line.split_once('=').expect("a value");
        options = options.env(name, value.replace("%d", &folder.path().display().to_string()));
    }
    let server = Server::start(options).await;
    let history = History::random(Seed::of_run().value(), 10);
    sender(&server).send_all(history.deliveries(1), 1, PATIENCE).await.assert_complete();
    admin(&server, "GET", "deliveries").await;
}

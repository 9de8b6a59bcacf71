//! The database: does it answer, does it keep what it acknowledges, and who else gets at it?

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use faircopy_store::rls::{Application, Verdict};
use faircopy_store::{Address, Error, ServerState};

use super::{Answer, Doctor};

const MIB: u64 = 1024 * 1024;
/// Room on the disk below which deliveries are about to be sent back: an hour of 100 deliveries a second, of 3 KiB each, is 1 GiB.
const LOW_DISK_BYTES: u64 = 1024 * MIB;
/// Room below which it is a matter of minutes; the log alone may take as much before it is cut back.
const FULL_DISK_BYTES: u64 = 64 * MIB;
/// SQLite's log is cut back to 64 MiB after a checkpoint: four times as much says that checkpoints do not come to their end, because
/// somebody reads for ever.
const LARGE_LOG_BYTES: u64 = 256 * MIB;
/// The largest file that is read from end to end: a second or two.
const CHECKED_BYTES: u64 = 256 * MIB;
/// Whoever is not the owner may read or write.
const OPEN_TO_OTHERS: u32 = 0o077;
/// Connections that should be left: each replica takes up to 20 (readers, writers, workers), and an operator one.
const FEW_CONNECTIONS: i64 = 10;

fn unreadable(_: &Error) -> Answer {
    Answer::skipped("the database cannot be read: see `database`")
}

fn only_of_postgres() -> Answer {
    Answer::skipped("SQLite has none")
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(MIB))
}

impl Doctor {
    /// SQLite's file.
    fn file(&self) -> Option<&PathBuf> {
        match self.store.address() {
            Address::Sqlite(path) => Some(path),
            Address::Postgres(_) => None,
        }
    }

    async fn server(&self) -> Result<ServerState, Answer> {
        match self.store.inspect_server().await {
            Ok(Some(server)) => Ok(server),
            Ok(None) => Err(only_of_postgres()),
            Err(error) => Err(unreadable(&error)),
        }
    }

    pub(super) async fn database(&self) -> Answer {
        let address = self.store.address().to_string();
        if let Some(path) = self.file()
            && !path.exists()
        {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            return match folder.filter(|folder| !folder.is_dir()) {
                Some(folder) => Answer::failed(
                    "database-unavailable",
                    format!("{address}: the folder {} does not exist", folder.display()),
                    "Make the folder, or correct DATABASE_URL.",
                ),
                None => Answer::warning(
                    "migrations-pending",
                    format!("{address}: the file does not exist yet"),
                    "Start `faircopy serve`, or run `faircopy migrate`: either makes it.",
                ),
            };
        }
        let mut writer = self.store.writer();
        let reachable = match self.store.answers().await {
            Ok(()) => writer.try_writing().await,
            Err(error) => Err(error),
        };
        match reachable {
            Ok(()) => {}
            Err(Error::Busy(detail)) => {
                return Answer::warning(
                    "database-unavailable",
                    format!("{address}: another process holds it for more than 4 s ({detail})"),
                    "Look who holds a transaction open: a shell, a backup, another service on the same file.",
                );
            }
            Err(error) => {
                return Answer::failed(
                    "database-unavailable",
                    format!("{address}: {error}"),
                    "Start it, give it room and rights to write, and check DATABASE_URL.",
                );
            }
        }
        match self.store.inspect_server().await {
            Ok(None) => Answer::ok(format!("{address} answers and takes changes")),
            Ok(Some(server)) => judge_server(&address, &server),
            Err(error) => Answer::failed("database-unavailable", error.to_string(), "Check the rights of the role."),
        }
    }

    pub(super) async fn durability(&self) -> Answer {
        if self.file().is_some() {
            return match self.store.journal_mode().await {
                Ok(Some(mode)) if mode == "wal" => {
                    Answer::ok("journal_mode wal, synchronous full: a commit is on the disk")
                }
                Ok(mode) => Answer::warning(
                    "database-not-durable",
                    format!("journal_mode {}", mode.unwrap_or_default()),
                    "Let `faircopy serve` or `faircopy migrate` open the file: it sets the journal. A file system that cannot share \
                     memory (NFS) cannot have it: move the file.",
                ),
                Err(error) => unreadable(&error),
            };
        }
        let server = match self.server().await {
            Ok(server) => server,
            Err(answer) => return answer,
        };
        if server.unsafe_settings.is_empty() {
            return Answer::ok("fsync, full_page_writes and synchronous_commit are on");
        }
        let off = server.unsafe_settings.join(", ");
        Answer::failed(
            "database-not-durable",
            format!("{off}: off, so that what was acknowledged can be lost"),
            "Switch it on in postgresql.conf and reload. `serve` starts only with --allow-unsafe-durability until then.",
        )
    }

    pub(super) fn disk(&self) -> Answer {
        let Some(path) = self.file() else { return Answer::skipped("PostgreSQL's disk is watched where it is") };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let free = match rustix::fs::statvfs(folder) {
            Ok(disk) => disk.f_bavail.saturating_mul(disk.f_frsize),
            Err(error) => return Answer::skipped(format!("the disk says nothing of itself: {error}")),
        };
        judge_disk(free, size(path), size(&beside(path, "-wal")))
    }

    pub(super) fn permissions(&self) -> Answer {
        let Some(path) = self.file() else { return Answer::skipped("PostgreSQL keeps its files itself") };
        let Ok(metadata) = std::fs::metadata(path) else { return Answer::skipped("there is no file yet") };
        let mode = metadata.permissions().mode() & 0o777;
        if mode & OPEN_TO_OTHERS == 0 {
            return Answer::ok(format!("{} has the mode {mode:03o}, of user {}", path.display(), metadata.uid()));
        }
        let folder = path.parent().and_then(|folder| std::fs::metadata(folder).ok());
        if folder.is_some_and(|folder| folder.permissions().mode() & OPEN_TO_OTHERS == 0) {
            return Answer::ok(format!(
                "{} has the mode {mode:03o}, in a folder that is closed to others",
                path.display()
            ));
        }
        Answer::warning(
            "database-exposed",
            format!(
                "{} has the mode {mode:03o}: other users of this machine can open it and read everybody",
                path.display()
            ),
            format!("chmod 600 {0} {0}-wal {0}-shm, and run the service with umask 077.", path.display()),
        )
    }

    pub(super) async fn integrity(&self) -> Answer {
        let Some(path) = self.file() else { return Answer::skipped("PostgreSQL has pg_amcheck for that") };
        if !path.exists() {
            return Answer::skipped("there is no file yet");
        }
        let bytes = size(path);
        if bytes > CHECKED_BYTES {
            let command = format!("sqlite3 {} 'PRAGMA integrity_check'", path.display());
            return Answer::skipped(format!("{} would take too long to read through; run: {command}", mib(bytes)));
        }
        match self.store.quick_check().await {
            Ok(damages) if damages.is_empty() => Answer::ok(format!("{} read through, nothing damaged", mib(bytes))),
            Ok(damages) => damaged(&format!("{} damages, first: {}", damages.len(), damages[0].replace('\n', " "))),
            // What is no database, or too broken to be asked.
            Err(error) if is_damage(&error) => damaged(&error.to_string()),
            Err(error) => unreadable(&error),
        }
    }

    pub(super) async fn role(&self) -> Answer {
        match self.server().await {
            Ok(server) => judge_role(&server),
            Err(answer) => answer,
        }
    }

    pub(super) async fn connections(&self) -> Answer {
        match self.server().await {
            Ok(server) => judge_connections(server.connections, server.max_connections),
            Err(answer) => answer,
        }
    }

    pub(super) async fn migrations(&self) -> Answer {
        match self.store.pending_migrations().await {
            Ok(pending) if pending.is_empty() => Answer::ok("all are applied"),
            Ok(pending) => {
                let names: Vec<String> =
                    pending.iter().map(|migration| format!("{:04} {}", migration.version, migration.name)).collect();
                Answer::failed(
                    "migrations-pending",
                    format!("{} are pending: {}", names.len(), names.join(", ")),
                    "Run `faircopy migrate`, or start `faircopy serve` without --no-migrate.",
                )
            }
            Err(error @ Error::Schema(_)) => Answer::failed(
                "schema-newer",
                error.to_string(),
                "Run the version that migrated it, or a newer one. Migrations are never taken back.",
            ),
            Err(error) => unreadable(&error),
        }
    }

    pub(super) async fn row_level_security(&self) -> Answer {
        if self.file().is_some() {
            return Answer::skipped("SQLite has no roles: let applications ask the API");
        }
        match self.store.pending_migrations().await {
            Ok(pending) if pending.is_empty() => {}
            Ok(_) => return Answer::skipped("migrations are pending"),
            Err(error) => return unreadable(&error),
        }
        let address = self.config.app_database.as_ref().map(|database| database.0.clone());
        let application = Application { address, role: self.config.app_role.clone() };
        if application.address.is_none() && application.role.is_none() {
            return self.own_wall().await;
        }
        match self.store.check_row_level_security(&application).await {
            Ok(report) if report.findings() == 0 => Answer::ok(format!(
                "tried to cross as {}: {} questions, nothing found",
                report.role,
                report.checks.len()
            )),
            Ok(report) => {
                let first = report.checks.iter().find(|check| check.verdict == Verdict::Finding);
                let first = first.map_or(String::new(), |check| format!("{}: {}", check.object, check.detail));
                Answer::failed(
                    "row-level-security-open",
                    format!("{} findings as {}, first: {first}", report.findings(), report.role),
                    "Run `faircopy rls check` for all of them; docs/row-level-security.md says how each is mended.",
                )
            }
            Err(error) => Answer::failed(
                "row-level-security-open",
                format!("it could not be tried: {error}"),
                "Check FAIRCOPY_APP_DATABASE_URL and FAIRCOPY_APP_ROLE, and that DATABASE_URL owns the tables.",
            ),
        }
    }

    /// Nobody said which role the application reads with: whether the service's own reads have their wall.
    async fn own_wall(&self) -> Answer {
        match self.store.has_second_wall().await {
            Ok(true) => Answer::ok(
                "the service's own reads run under it; set FAIRCOPY_APP_ROLE to have the application's role tried as well",
            ),
            Ok(false) => Answer::warning(
                "row-level-security-open",
                "the service's own reads run without it: the role faircopy_reader is missing, lacks rights or may not be taken",
                "docs/row-level-security.md has the two statements that make and grant the role.",
            ),
            Err(error) => unreadable(&error),
        }
    }
}

fn damaged(what: &str) -> Answer {
    Answer::failed(
        "database-damaged",
        what,
        "Stop the service, copy the file and its -wal away, and restore a backup; then `faircopy reconcile` brings it up to Clerk.",
    )
}

/// SQLite's words for a file that is damaged (11) or none of its own (26).
fn is_damage(error: &Error) -> bool {
    let text = error.to_string();
    text.contains("(11)") || text.contains("(26)") || text.contains("malformed") || text.contains("not a database")
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn judge_disk(free: u64, file: u64, log: u64) -> Answer {
    let evidence = format!("{} free; file {}, log {}", mib(free), mib(file), mib(log));
    if free < FULL_DISK_BYTES {
        return Answer::failed("disk-low", evidence, "Make room now: deliveries are sent back (503) once it is full.");
    }
    if log > LARGE_LOG_BYTES {
        let remedy = "Look for whoever reads the file for hours (a backup, a shell with an open transaction): while it reads, the \
            log cannot be cut back.";
        return Answer::warning("wal-large", evidence, remedy);
    }
    if free < LOW_DISK_BYTES {
        return Answer::warning("disk-low", evidence, "Make room before it is full.");
    }
    Answer::ok(evidence)
}

fn judge_server(address: &str, server: &ServerState) -> Answer {
    let version = &server.version;
    if server.is_too_old {
        return Answer::failed(
            "postgres-too-old",
            format!("PostgreSQL {version}; the oldest that is served is 15"),
            "Upgrade the server.",
        );
    }
    if server.is_read_only {
        return Answer::failed(
            "database-unavailable",
            format!("{address}: PostgreSQL {version} is read-only"),
            "Point DATABASE_URL at the primary, or switch default_transaction_read_only off.",
        );
    }
    match server.open_advisories.as_slice() {
        [] => Answer::ok(format!("{address}: PostgreSQL {version} answers and takes changes")),
        open => Answer::warning(
            "postgres-outdated",
            format!("PostgreSQL {version} has {} known holes: {}", open.len(), open.join("; ")),
            "Install the newest minor version.",
        ),
    }
}

fn judge_role(server: &ServerState) -> Answer {
    let role = &server.role;
    match server.owns_tables {
        Some(false) => Answer::failed(
            "role-unfit",
            format!("{role} does not own the copy's tables"),
            "Use the role that migrated, or run `ALTER TABLE … OWNER TO` for the schema faircopy.",
        ),
        None if !server.may_create => Answer::failed(
            "role-unfit",
            format!("{role} may not make a schema in this database, and there is none yet"),
            format!("GRANT CREATE ON DATABASE … TO {role}"),
        ),
        _ if server.is_above_policies => Answer::warning(
            "role-too-mighty",
            format!("{role} is a superuser or has BYPASSRLS: the service needs neither"),
            "Make a role of its own that owns the schema faircopy (docs/row-level-security.md).",
        ),
        Some(true) => Answer::ok(format!("{role} owns the copy's tables and is no superuser")),
        None => Answer::ok(format!("{role} may make the schema")),
    }
}

fn judge_connections(open: i64, most: i64) -> Answer {
    let (left, evidence) = (most - open, format!("{open} of {most} are open"));
    if left < FEW_CONNECTIONS {
        let remedy = "Raise max_connections, close what idles, or put a pooler before it (`?pgbouncer=true`).";
        return Answer::warning("connections-low", evidence, remedy);
    }
    Answer::ok(evidence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_judged_by_what_is_left() {
        let check = |free: u64, log: u64, expected: Option<&str>| {
            assert_eq!(judge_disk(free * MIB, MIB, log * MIB).code, expected, "{free} {log}");
        };
        check(2048, 64, None);
        check(1023, 64, Some("disk-low"));
        check(2048, 257, Some("wal-large"));
        check(63, 257, Some("disk-low"));
    }

    #[test]
    fn a_server_is_judged_by_what_it_says() {
        let fine = ServerState {
            version: "17.6".into(),
            is_too_old: false,
            open_advisories: vec![],
            unsafe_settings: vec![],
            is_read_only: false,
            role: "app".into(),
            is_above_policies: false,
            owns_tables: Some(true),
            may_create: true,
            connections: 5,
            max_connections: 97,
        };
        let check = |server: &ServerState, database: Option<&str>, role: Option<&str>| {
            assert_eq!((judge_server("", server).code, judge_role(server).code), (database, role), "{server:?}");
        };
        check(&fine, None, None);
        check(&ServerState { is_too_old: true, ..fine.clone() }, Some("postgres-too-old"), None);
        check(&ServerState { is_read_only: true, ..fine.clone() }, Some("database-unavailable"), None);
        check(&ServerState { open_advisories: vec!["CVE".into()], ..fine.clone() }, Some("postgres-outdated"), None);
        check(&ServerState { owns_tables: Some(false), ..fine.clone() }, None, Some("role-unfit"));
        let before = ServerState { owns_tables: None, ..fine.clone() };
        check(&before, None, None);
        check(&ServerState { may_create: false, ..before }, None, Some("role-unfit"));
        check(&ServerState { is_above_policies: true, ..fine }, None, Some("role-too-mighty"));
        for (open, expected) in [(87, None), (88, Some("connections-low")), (97, Some("connections-low"))] {
            assert_eq!(judge_connections(open, 97).code, expected, "{open}");
        }
    }
}

//! An empty database of either engine for one test, and what is done to it behind the store's back.

use std::path::PathBuf;
use std::time::Duration;

use faircopy_core::Millis;
use faircopy_store::{Address, Arrival, Entry, Error, Receipt, Store, Writer};
use faircopy_testkit::{postgres, tables};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _, SqliteConnection};

use crate::say::NOW;

/// One database, empty at first. It goes when the value does.
pub(crate) struct Db {
    pub(crate) store: Store,
    url: String,
    home: Home,
}

enum Home {
    Folder(tempfile::TempDir),
    Database(#[expect(dead_code, reason = "dropping it removes the database")] postgres::Database),
}

pub(crate) fn on_sqlite(test: impl AsyncFn(&Db)) {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("copy.db").display());
        Box::pin(Db::at(url, Home::Folder(folder)).hold(test)).await;
    });
}

pub(crate) fn on_postgres(test: impl AsyncFn(&Db)) {
    run(async {
        let database = postgres::fresh_database().await;
        let url = database.url().to_owned();
        Box::pin(Db::at(url, Home::Database(database)).hold(test)).await;
    });
}

/// In a database that sorts text as a language does, as many in production do.
pub(crate) fn on_postgres_in_english(test: impl AsyncFn(&Db)) {
    run(async {
        let database = postgres::shared().await.fresh_database_in_language("en-US").await;
        let url = database.url().to_owned();
        Box::pin(Db::at(url, Home::Database(database)).hold(test)).await;
    });
}

pub(crate) fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test);
}

impl Db {
    fn at(url: String, home: Home) -> Self {
        Self { store: Store::new(Address::parse(&url).unwrap()), url, home }
    }

    async fn hold(self, test: impl AsyncFn(&Self)) {
        test(&self).await;
        self.store.close().await;
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self.home, Home::Folder(_))
    }

    /// A writer to a database with the whole schema.
    pub(crate) async fn writer(&self) -> Writer {
        let mut writer = self.store.writer();
        writer.migrate(NOW).await.unwrap();
        writer
    }

    /// The public tables, read without the store.
    pub(crate) async fn tables(&self) -> tables::Tables {
        tables::read(&self.url).await
    }

    /// The audit table, read without the store.
    pub(crate) async fn deliveries(&self) -> std::collections::BTreeMap<String, tables::Delivery> {
        tables::deliveries(&self.url).await
    }

    /// The files of a SQLite database.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let Home::Folder(folder) = &self.home else { return Vec::new() };
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// A connection to SQLite's file that is nobody's of the store.
    pub(crate) async fn reader(&self) -> SqliteConnection {
        SqliteConnection::connect(&self.url).await.unwrap()
    }

    /// The address for another role of PostgreSQL.
    pub(crate) fn url_of(&self, role: &str) -> String {
        let (_, place) = self.url.split_once('@').unwrap();
        format!("postgres://{role}@{place}")
    }

    /// A connection of somebody else to PostgreSQL.
    pub(crate) async fn outsider(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.unwrap()
    }

    /// Runs statements behind the store's back and returns the first column, which must be text. `{s}` is the schema.
    pub(crate) async fn sql(&self, statement: &str) -> Vec<Option<String>> {
        let text = statement.replace("{s}", if self.is_sqlite() { "" } else { "faircopy." });
        if self.is_sqlite() {
            let mut connection = self.reader().await;
            let rows = sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        } else {
            let mut connection = self.outsider().await;
            let rows = sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(&mut connection).await.unwrap();
            connection.close().await.unwrap();
            rows.iter().map(|row| row.get(0)).collect()
        }
    }

    /// How SQLite would answer a question.
    pub(crate) async fn plan(&self, question: &str) -> Vec<String> {
        let mut connection = self.reader().await;
        let text = format!("EXPLAIN QUERY PLAN {question}");
        let rows = sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        rows.iter().map(|row| row.get("detail")).collect()
    }

    /// Runs a statement of somebody else's that must be refused, on SQLite with foreign keys switched on, and returns why.
    pub(crate) async fn refused(&self, statement: &str) -> String {
        let text = statement.replace("{s}", if self.is_sqlite() { "" } else { "faircopy." });
        let refusal = if self.is_sqlite() {
            let mut connection = self.reader().await;
            sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await.map(drop)
        } else {
            sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut self.outsider().await).await.map(drop)
        };
        refusal.expect_err(statement).to_string()
    }

    /// Makes an empty file for SQLite.
    pub(crate) fn create_file(&self) {
        std::fs::write(self.url.trim_start_matches("sqlite://"), "").unwrap();
    }

    /// The whole change feed, which must have every number from 1 once and in order.
    pub(crate) async fn feed(&self) -> Vec<Entry> {
        let feed = self.store.changes_after(0, i64::MAX).await.unwrap();
        assert!(
            feed.iter().map(|entry| entry.sequence).eq(1..=i64::try_from(feed.len()).unwrap()),
            "a gap in the feed"
        );
        assert_eq!(self.store.counts().await.unwrap().sequence, i64::try_from(feed.len()).unwrap());
        feed
    }

    /// What the feed has said since a number: `put user user_a`, ….
    pub(crate) async fn said_since(&self, sequence: i64) -> Vec<String> {
        let feed = self.feed().await;
        let news = feed.iter().filter(|entry| entry.sequence > sequence);
        let mut said: Vec<String> =
            news.map(|entry| format!("{} {} {}", entry.operation, entry.entity, entry.id)).collect();
        said.sort();
        said
    }

    pub(crate) async fn sequence(&self) -> i64 {
        self.store.counts().await.unwrap().sequence
    }
}

/// Commits a batch; what is busy is tried again, as the worker does.
pub(crate) async fn commit(writer: &mut Writer, batch: &[Arrival]) -> Vec<Receipt> {
    commit_at(writer, batch, NOW).await
}

pub(crate) async fn commit_at(writer: &mut Writer, batch: &[Arrival], now: Millis) -> Vec<Receipt> {
    for _ in 0..200 {
        match writer.commit(batch, now).await {
            Ok(receipts) => return receipts,
            Err(Error::Busy(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("busy for too long");
}

/// Commits one delivery.
pub(crate) async fn deliver(writer: &mut Writer, arrival: Arrival) -> Receipt {
    commit(writer, &[arrival]).await.remove(0)
}

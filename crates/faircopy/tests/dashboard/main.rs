//! The dashboard in a real browser, against the real binary: the suites of this folder, run by Node.
//!
//! Screenshots are left in `target/dashboard/`: a person looks at them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use faircopy::app::{Clock as _, SystemClock};
use faircopy_core::ProfileMode;
use faircopy_core::event::Context;
use faircopy_store::{Address, Arrival, Content, Store};
use faircopy_testkit::node;
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

/// The folder of the suites, as the test kit sees it.
const SUITES: &str = "../faircopy/tests/dashboard";

/// A database with one delivery that could not be understood when it came, and can be now: somebody has mended what is stored of it.
async fn repaired(path: &Path) {
    // Not long ago: what is old is forgotten.
    let then = SystemClock.now().plus(-3_600_000);
    let url = format!("sqlite://{}", path.display());
    let mut writer = Store::new(Address::parse(&url).unwrap()).writer();
    writer.migrate(then).await.unwrap();
    let body = b"{\"type\": \"user.created\"";
    let context = Context { mode: ProfileMode::Full, signed_at: then, instance: None };
    let arrival = Arrival {
        svix_id: "msg_repaired".into(),
        signed_at: then,
        received_at: then,
        body_hash: Arrival::hash(body),
        content: Content::read(body, &context),
    };
    writer.commit(&[arrival], then).await.unwrap();
    let mended = serde_json::json!({
        "object": "event", "type": "user.created", "timestamp": then.0,
        "data": { "object": "user", "id": "user_repaired", "first_name": "Grace", "last_name": "Hopper", "email_addresses": [],
            "created_at": then.0, "updated_at": then.0 },
    });
    let mend = format!("UPDATE webhook_deliveries SET payload = '{mended}' WHERE outcome = 'quarantined'");
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    assert_eq!(sqlx::raw_sql(AssertSqlSafe(mend)).execute(&mut connection).await.unwrap().rows_affected(), 1);
    connection.close().await.unwrap();
}

fn run(file: &str, at_least: usize) {
    let folder = node::installed(SUITES);
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("dashboard");
    std::fs::create_dir_all(&pictures).unwrap();
    let own = tempfile::tempdir().unwrap();
    let database = own.path().join("repaired.db");
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(repaired(&database));
    let environment = [
        ("FAIRCOPY_BIN", env!("CARGO_BIN_EXE_faircopy")),
        ("PICTURES", pictures.to_str().expect("a path of text")),
        ("REPAIRED", database.to_str().expect("a path of text")),
    ];
    let tests = node::test(&folder, file, &environment);
    assert!(tests.passed >= at_least, "only {} tests of {file} ran:\n{}", tests.passed, tests.output);
}

/// Every page, in both themes and narrow: axe, the policy, hostile names, masking, the keyboard.
#[test]
fn pages() {
    run("pages.test.mjs", 8);
}

/// What is done from the page, and what happens while it is open.
#[test]
fn life() {
    run("life.test.mjs", 10);
}

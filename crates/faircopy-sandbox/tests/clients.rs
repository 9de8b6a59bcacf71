//! The client libraries that applications use, unchanged, against the sandbox: each file of `tests/node` has a sandbox of
//! its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "the clients compare times with this machine's clock")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use faircopy_sandbox::liveblocks::LiveblocksSandbox;
use faircopy_testkit::node;

/// The folder of the suites, as the test kit sees it.
const SUITES: &str = "../faircopy-sandbox/tests/node";

fn now_ms() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// Runs a suite beside the server that it talks to: both in this process would wait for each other.
async fn run(file: &'static str, at_least: usize, environment: Vec<(&'static str, String)>) {
    let tests = tokio::task::spawn_blocking(move || {
        let folder: PathBuf = node::installed(SUITES);
        let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
        node::test(&folder, file, &environment)
    });
    let tests = tests.await.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()));
    assert!(tests.passed >= at_least, "only {} tests of {file} ran:\n{}", tests.passed, tests.output);
}

#[tokio::test(flavor = "multi_thread")]
async fn liveblocks() {
    let sandbox = LiveblocksSandbox::start("sk_of_this_project", Arc::new(now_ms)).await.unwrap();
    let environment =
        vec![("LIVEBLOCKS_API_URL", sandbox.url().to_owned()), ("LIVEBLOCKS_SECRET_KEY", sandbox.key().to_owned())];
    run("liveblocks.test.mjs", 7, environment).await;
}

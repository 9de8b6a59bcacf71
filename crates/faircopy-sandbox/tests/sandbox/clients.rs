//! The client libraries that applications use, unchanged, against the sandbox: each file of `tests/node` has a sandbox of
//! its own.
#![allow(clippy::disallowed_methods, reason = "the clients compare times with this machine's clock")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use faircopy_sandbox::limit::RateLimit;
use faircopy_sandbox::{Sandbox, Settings};
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

/// Runs a suite with a Clerk instance of its own. Most ask more in ten seconds than a development instance may.
async fn run_with_clerk(file: &'static str, at_least: usize) {
    run_limited(RateLimit::Unlimited, file, at_least).await;
}

async fn run_limited(rate_limit: RateLimit, file: &'static str, at_least: usize) {
    let settings = Settings { rate_limit, ..Settings::default() };
    let sandbox = Sandbox::start(settings, Arc::new(now_ms), ([127, 0, 0, 1], 0).into()).await.unwrap();
    let keys = sandbox.shared().keys();
    let environment = vec![
        ("SANDBOX_URL", sandbox.url().to_owned()),
        ("SANDBOX_SECRET_KEY", keys.secret_key().to_owned()),
        ("SANDBOX_PUBLISHABLE_KEY", keys.publishable_key()),
        ("SANDBOX_JWT_KEY", keys.pem()),
        ("SANDBOX_ISSUER", keys.issuer().to_owned()),
    ];
    run(file, at_least, environment).await;
    sandbox.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users() {
    run_with_clerk("users.test.mjs", 16).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn organizations() {
    run_with_clerk("organizations.test.mjs", 13).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn invitations() {
    run_with_clerk("invitations.test.mjs", 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors() {
    run_with_clerk("errors.test.mjs", 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits() {
    run_limited(RateLimit::OfTheKey, "limits.test.mjs", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions() {
    run_with_clerk("sessions.test.mjs", 14).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks() {
    run_with_clerk("webhooks.test.mjs", 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn page() {
    run_with_clerk("page.test.mjs", 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn liveblocks() {
    let sandbox = Sandbox::start(Settings::default(), Arc::new(now_ms), ([127, 0, 0, 1], 0).into()).await.unwrap();
    let environment = vec![
        ("LIVEBLOCKS_API_URL", sandbox.url().to_owned()),
        ("LIVEBLOCKS_SECRET_KEY", sandbox.liveblocks().key().to_owned()),
    ];
    run("liveblocks.test.mjs", 7, environment).await;
}

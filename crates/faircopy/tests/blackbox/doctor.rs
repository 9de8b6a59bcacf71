//! `faircopy doctor` with the real binary: well, ill, and misused.

use std::collections::BTreeMap;

use faircopy_testkit::server::{Options, Server};
use serde_json::{Value, json};

use crate::support::{ADMIN_TOKEN, Output, Place, SECRET, faircopy, sender};

const KEY: &str = "sk_test_canary0123456789abcdefcanary";

/// The settings of a service with a local Clerk.
struct Settings(BTreeMap<&'static str, String>);

impl Settings {
    fn new(place: &Place, sandbox: &Server) -> Self {
        let settings = [
            ("DATABASE_URL", place.url().to_owned()),
            ("CLERK_WEBHOOK_SIGNING_SECRET", SECRET.to_owned()),
            ("FAIRCOPY_ADMIN_TOKEN", ADMIN_TOKEN.to_owned()),
            ("CLERK_SECRET_KEY", KEY.to_owned()),
            ("CLERK_API_URL", sandbox.url()),
            ("CLERK_JWT_ISSUER_DOMAIN", sandbox.url()),
        ];
        Self(settings.into())
    }

    fn set(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.0.insert(name, value.into());
        self
    }

    fn options(&self) -> Options {
        self.0.iter().fold(Options::new(), |options, (name, value)| options.env(name, value))
    }

    async fn run(&self, arguments: &[&str]) -> Output {
        let folder = tempfile::tempdir().expect("a folder");
        let variables: Vec<(&str, &str)> = self.0.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let output = faircopy(folder.path(), &variables, arguments).await;
        for canary in [SECRET, &SECRET[6..], ADMIN_TOKEN, KEY, "canary0123"] {
            assert!(!output.stdout.contains(canary) && !output.stderr.contains(canary), "{canary}: {output:?}");
        }
        output
    }

    async fn succeed(&self, arguments: &[&str]) -> Output {
        let output = self.run(arguments).await;
        assert_eq!(output.code, Some(0), "{arguments:?}: {output:?}");
        output
    }
}

async fn sandbox() -> Server {
    let command = ["sandbox", "--listen", "127.0.0.1:{port}", "--seed", "5", "--users", "8", "--secret-key", KEY];
    Server::start(Options::new().command(&command).ready_path("/.well-known/jwks.json")).await
}

fn of<'a>(report: &'a Value, name: &str) -> &'a Value {
    let checks = report["checks"].as_array().expect("checks");
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name}: {report}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_well_is_found_well() {
    let (place, sandbox) = (Place::sqlite(), sandbox().await);
    let settings = Settings::new(&place, &sandbox);
    let server = Server::start(settings.options()).await;
    sender(&server).send("msg_1", r#"{"type":"user.deleted","data":{"id":"user_gone","deleted":true}}"#).await;
    settings.succeed(&["backfill"]).await;
    settings.succeed(&["reconcile", "--grace", "0"]).await;
    let settings = settings.set("FAIRCOPY_LISTEN", server.url().trim_start_matches("http://"));
    let report = settings.succeed(&["doctor", "--json"]).await.json();
    let ill: Vec<&Value> = report["checks"]
        .as_array()
        .expect("checks")
        .iter()
        .filter(|check| check["status"] != "ok" && check["status"] != "skipped")
        .collect();
    assert!(ill.is_empty() && report["status"] == "ok", "{ill:#?}");
    for name in ["database", "durability", "api-key", "session-keys", "clock", "endpoint", "deliveries", "reconcile"] {
        assert_eq!(of(&report, name)["status"], "ok", "{name}");
    }
    assert_eq!(report["secrets"][0], json!({ "name": "CLERK_WEBHOOK_SIGNING_SECRET", "last_four": "b7oD" }));

    let text = settings.succeed(&["doctor", "--url", &server.url()]).await.stdout;
    for part in ["✓ ok ", "– skipped", "Webhook endpoint", "\n0 failed, 0 warning, "] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains('\u{1b}'), "no colour into a pipe");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_told_with_what_to_do() {
    let (place, sandbox) = (Place::sqlite(), sandbox().await);
    let settings = Settings::new(&place, &sandbox);
    settings.succeed(&["migrate"]).await;
    // Warnings alone are no failure.
    let warned = settings.succeed(&["doctor", "--only", "endpoint", "deliveries", "--json"]).await.json();
    assert_eq!(
        (&warned["status"], warned["checks"].as_array().map(Vec::len)),
        (&json!("warning"), Some(2)),
        "{warned}"
    );

    let ill = settings.set("CLERK_INSTANCE_ID", "ins_another");
    let told = ill.run(&["doctor", "--only", "api-key,clock"]).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    for part in ["✗ failed ", "[clerk-wrong-instance]", "→ Take key, issuer", "1 failed, 0 warning, 1 ok, 0 skipped"]
    {
        assert!(told.stdout.contains(part), "{part}: {told:?}");
    }
    // Settings that no command starts with are a finding like any other.
    let broken = ill.set("FAIRCOPY_LISTEN", "nowhere");
    let told = broken.run(&["doctor", "--json"]).await;
    assert_eq!(told.code, Some(1), "{told:?}");
    assert_eq!(of(&told.json(), "configuration")["code"], "configuration-invalid");
    assert_eq!(of(&told.json(), "database")["status"], "skipped");
}

#[tokio::test]
async fn bad_usage_is_told_from_bad_health() {
    let folder = tempfile::tempdir().expect("a folder");
    for arguments in [&["doctor", "--only", "nonsense"][..], &["doctor", "--url", "ftp://x"], &["doctor", "--wrong"]] {
        let output = faircopy(folder.path(), &[], arguments).await;
        assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""), "{arguments:?}: {output:?}");
    }
}

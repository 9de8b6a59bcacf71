//! Prometheus' rules and Grafana's dashboard (`ops/`): are they well formed, do the rules say what they should, and does the real
//! binary have every figure that they name?
#![allow(clippy::disallowed_methods, reason = "the tests wait for real processes, which have the real time")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod promtool;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use faircopy_sandbox::instance::Population;
use faircopy_sandbox::{Sandbox, Settings};
use faircopy_testkit::client::request;
use faircopy_testkit::receiver::Receiver;
use faircopy_testkit::sender::Sender;
use faircopy_testkit::server::{Options, Server, binary};
use faircopy_world::token;
use serde_json::{Value, json};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const OTHER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ADMIN_TOKEN: &str = "the-admin-token-of-the-ops-tests";
const KEY: &str = "sk_live_the-key-of-the-ops-tests";
/// How long the binary may take to show everything: its workers first look after 5 seconds.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);

/// A file of `ops/`.
pub(crate) fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../ops").join(name)
}

fn text(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The figures that a text names.
fn named(text: &str) -> BTreeSet<String> {
    let is_part = |sign: char| sign.is_ascii_lowercase() || sign == '_';
    let words = text.split(|sign| !is_part(sign));
    words
        .filter(|word| word.starts_with("faircopy_") && word.len() > "faircopy_".len())
        .map(ToOwned::to_owned)
        .collect()
}

/// The expressions of the rules, and those of the dashboard's panels.
fn expressions() -> String {
    let rules = text("prometheus/rules.yml");
    let dashboard: Value = serde_json::from_str(&text("grafana/dashboard.json")).unwrap();
    let of_panels = panels(&dashboard)
        .into_iter()
        .flat_map(|panel| targets(&panel))
        .filter_map(|target| target["expr"].as_str().map(ToOwned::to_owned));
    let mut all: Vec<String> = of_panels.collect();
    all.push(rules);
    all.join("\n")
}

fn panels(dashboard: &Value) -> Vec<Value> {
    dashboard["panels"].as_array().unwrap().clone()
}

fn targets(panel: &Value) -> Vec<Value> {
    panel["targets"].as_array().cloned().unwrap_or_default()
}

/// What Grafana needs of a dashboard that is imported.
#[test]
fn the_dashboard_is_well_formed() {
    let dashboard: Value = serde_json::from_str(&text("grafana/dashboard.json")).unwrap();
    assert!(dashboard["title"] == "Faircopy" && dashboard["schemaVersion"].is_u64() && dashboard["id"].is_null());
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert!(variables.iter().any(|it| it["name"] == "datasource" && it["type"] == "datasource"));
    let (mut ids, mut places) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().filter(|title| !title.is_empty()).unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another panel's");
        let place = &panel["gridPos"];
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| place[key].as_u64().unwrap());
        assert!(x + w <= 24 && w > 0 && h > 0, "{title}: {place}");
        for cell in (y..y + h).flat_map(|row| (x..x + w).map(move |column| (row, column))) {
            assert!(places.insert(cell), "{title} lies on another panel");
        }
        if panel["type"] == "row" {
            continue;
        }
        assert!(panel["description"].as_str().is_some_and(|text| !text.is_empty()), "{title}");
        let targets = targets(&panel);
        let refs: BTreeSet<&str> = targets.iter().map(|target| target["refId"].as_str().unwrap()).collect();
        assert!(!targets.is_empty() && refs.len() == targets.len(), "{title}: {refs:?}");
        for target in &targets {
            assert_eq!(target["datasource"], json!({ "type": "prometheus", "uid": "${datasource}" }), "{title}");
            assert!(!named(target["expr"].as_str().unwrap()).is_empty() || title.contains("answer"), "{title}");
        }
    }
    assert!(ids.len() > 15);
}

/// Each alert of the rules has a test, says what to do, and points to a section that exists.
#[test]
fn every_rule_is_tested_and_explained() {
    let (rules, tests) = (text("prometheus/rules.yml"), text("prometheus/rules.test.yml"));
    let operate = std::fs::read_to_string(file("../docs/operate.md")).unwrap();
    let names: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 10);
    for name in &names {
        assert!(tests.contains(name), "{name} has no test");
    }
    let says = |key: &str| rules.lines().filter(|line| line.trim().starts_with(key)).count();
    assert_eq!((says("summary:"), says("description:"), says("labels:")), (names.len(), names.len(), names.len()));
    let pointed_to = rules.lines().filter_map(|line| Some(line.split_once("docs/operate.md,")?.1));
    let sections: Vec<&str> = pointed_to.flat_map(|rest| rest.split('`').skip(1).step_by(2)).collect();
    assert!(sections.len() > 8);
    for section in sections {
        assert!(operate.contains(&format!("### `{section}`")), "no section {section}");
    }
}

/// The real binary, exercised: what it shows has every figure that rules and dashboard name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_figure_that_is_named_is_shown() {
    let (folder, receiver) = (tempfile::tempdir().unwrap(), Receiver::start().await);
    let settings = Settings {
        seed: 3,
        key_pair: Some(Arc::new(token::new_key())),
        secret_key: Some(KEY.to_owned()),
        population: Some(Population { users: 20, organizations: 2, members: 3, seed: 3 }),
        ..Settings::default()
    };
    let now = || {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        i64::try_from(since.as_millis()).unwrap()
    };
    let sandbox = Sandbox::start(settings, Arc::new(now), ([127, 0, 0, 1], 0).into()).await.unwrap();
    let config = folder.path().join("faircopy.toml");
    std::fs::write(&config, format!("[[alert]]\nname = 'ops'\nurl = '{}'\n", receiver.url())).unwrap();
    let database = format!("sqlite://{}", folder.path().join("copy.db").display());
    let variables = [
        ("DATABASE_URL", database.as_str()),
        ("FAIRCOPY_CONFIG", config.to_str().unwrap()),
        ("CLERK_SECRET_KEY", KEY),
        ("CLERK_API_URL", sandbox.url()),
        ("CLERK_WEBHOOK_SIGNING_SECRET", SECRET),
        ("FAIRCOPY_ADMIN_TOKEN", ADMIN_TOKEN),
    ];
    for arguments in [["migrate"].as_slice(), &["reconcile", "--grace", "0"], &["alerts", "test", "--target", "ops"]] {
        let run = tokio::process::Command::new(binary())
            .args(arguments)
            .current_dir(folder.path())
            .env_clear()
            .envs(variables)
            .output();
        let output = tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!(receiver.taken().len(), 1);
    let options = variables.iter().fold(Options::new(), |options, (name, value)| options.env(name, *value));
    let server = Server::start(options).await;

    // Each kind of answer; and a deletion, for which Clerk is asked.
    let url = format!("{}/webhooks/clerk", server.url());
    let deleted = json!({ "object": "event", "type": "organization.deleted", "timestamp": now(),
        "data": { "object": "organization", "id": "org_never", "deleted": true } });
    let status = |secret: &'static str, id: &'static str, body: String| {
        let sender = Sender::new(url.clone(), secret);
        async move { sender.send(id, &body).await }
    };
    status(SECRET, "msg_1", deleted.to_string()).await;
    status(SECRET, "msg_2", "not JSON".to_owned()).await;
    status(OTHER, "msg_3", deleted.to_string()).await;
    let bearer = format!("Bearer {ADMIN_TOKEN}");
    let test = format!("{}/admin/v1/alerts/ops/test", server.url());
    let tested = request("POST", &test, &[("authorization", &bearer)], "", PATIENCE).await.unwrap();
    assert_eq!(tested.json().unwrap()["status"], 204);

    let wanted = named(&expressions());
    assert!(wanted.len() > 15, "{wanted:?}");
    let started = Instant::now();
    loop {
        let shown = named(&server.get("/metrics").await.unwrap().text());
        let missing: Vec<&String> = wanted.difference(&shown).collect();
        if missing.is_empty() {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "the binary does not show {missing:?}");
        tokio::time::sleep(POLL).await;
    }
}

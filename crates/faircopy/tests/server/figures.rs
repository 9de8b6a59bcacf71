//! Figures and lines: docs/observability.md is what a server really tells, and no label is an id.

use std::collections::{BTreeMap, BTreeSet};

use faircopy_testkit::clerk::Mood;

use crate::app::{ADMIN_TOKEN, Engine, TestApp};
use crate::confirm;
use crate::events::user_created;

const PAGE: &str = include_str!("../../../../docs/observability.md");
/// Every place where a figure is made.
const SOURCES: [&str; 3] = [
    include_str!("../../src/telemetry.rs"),
    include_str!("../../src/telemetry/lines.rs"),
    include_str!("../../src/telemetry/traces.rs"),
];

/// The rows of the page's tables: the words in the first cell, and in the third.
fn rows() -> impl Iterator<Item = (Vec<&'static str>, Vec<&'static str>)> {
    let words = |cell: &'static str| cell.split('`').skip(1).step_by(2).collect::<Vec<_>>();
    PAGE.lines().filter(|line| line.starts_with("| `")).map(move |line| {
        let cells: Vec<&str> = line.split('|').collect();
        (words(cells[1]), cells.get(3).map_or(Vec::new(), |cell| words(cell)))
    })
}

/// What is documented: each figure with its labels.
fn documented() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let figures = rows().filter(|(names, _)| names[0].starts_with("faircopy_"));
    figures.map(|(names, labels)| (names[0], labels.into_iter().collect())).collect()
}

#[test]
fn every_figure_that_is_made_is_documented_and_no_other() {
    let made = SOURCES.iter().flat_map(|source| source.split('"').filter(|text| text.starts_with("faircopy_")));
    let made: BTreeSet<&str> =
        made.filter(|name| name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase())).collect();
    assert_eq!(made, documented().into_keys().collect());
}

/// A server that was asked everything: its figures are those of the page, with the labels of the page, and no label is an id.
#[tokio::test]
async fn what_a_server_exposes_is_what_the_page_says() {
    let documented = documented();
    let clerk = confirm::clerk().await;
    (0..5).for_each(|number| clerk.has_user(&format!("user_{number}"), "Ada"));
    for engine in [Engine::Sqlite, Engine::Postgres] {
        let app = TestApp::build().on(engine).sessions().clerk(&clerk).start().await;
        confirm::ready(&app).await;
        for number in 0..5 {
            let (id, user) = (format!("msg_{number}"), format!("user_{number}"));
            assert_eq!(app.outcome(&id, user_created(&user)).await, "applied");
            let token = app.token(&user, None);
            assert_eq!(app.bearer("GET", &format!("/v1/users/{user}"), &token).await.status, 200);
            app.get(&format!("/v1/nobody/{user}?email={user}@example.com")).await;
        }
        assert_eq!(app.outcome("msg_odd", r#"{"type":"moon.risen_17","data":{"id":"user_77"}}"#).await, "ignored");
        app.post(&[("svix-id", "msg_bad")], "{}").await;
        app.get("/v1/me").await;
        clerk.next([Mood::Status(500)]);
        app.admin_json("/admin/v1/doctor").await;
        app.sweep(faircopy::sweep::Order::reconcile()).await;
        let text = app.get("/metrics").await.text();
        let mut seen = BTreeSet::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            let (series, _) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
            let name = base.filter(|base| documented.contains_key(base)).unwrap_or(name);
            let known = documented.get(name).unwrap_or_else(|| panic!("{name} is not documented"));
            seen.insert(name.to_owned());
            for label in labels.trim_end_matches('}').split("\",").filter_map(|pair| pair.split_once("=\"")) {
                let (label, value) = (label.0, label.1.trim_end_matches('"'));
                assert!(known.contains(label) || matches!(label, "le" | "quantile"), "{name} has the label `{label}`");
                for id in ["user_", "org_", "msg_", "ins_", "orgmem_", "@", ADMIN_TOKEN] {
                    assert!(!value.contains(id) || value.contains('{'), "{name}{{{label}=\"{value}\"}} holds an id");
                }
            }
        }
        for name in [
            "faircopy_build_info",
            "faircopy_deliveries_total",
            "faircopy_delivery_duration_seconds",
            "faircopy_event_lag_seconds",
            "faircopy_signature_failures_total",
            "faircopy_requests_total",
            "faircopy_clerk_requests_total",
            "faircopy_drift_rows",
            "faircopy_reconcile_last_success_timestamp_seconds",
            "faircopy_session_tokens_total",
        ] {
            assert!(seen.contains(name), "{name}: {text}");
        }
        // Whatever is asked for, the number of series has a bound.
        let series = |text: &str| text.lines().filter(|line| line.starts_with("faircopy_requests_total")).count();
        let mut counts = Vec::new();
        for numbers in [100..101, 101..150] {
            for number in numbers {
                app.get(&format!("/v1/users/user_{number}")).await;
                app.get(&format!("/{number}")).await;
            }
            counts.push(series(&app.get("/metrics").await.text()));
        }
        assert_eq!(counts[0], counts[1], "each route has its own, whatever was in its place");
        app.stop().await;
    }
}

//! What the demo says: the story on standard error while it happens, then the result on standard output.

use std::collections::BTreeMap;

use faircopy_store::{Address, Counts, Store};
use serde_json::{Value, json};

use super::super::{Failure, Global, output, status};
use super::story::{Copied, Lived, Scene, Story};
use super::{ORGANIZATIONS, USERS};
use crate::sweep::{Report, Tally};

fn seconds(millis: i64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a duration for people")]
    let seconds = millis as f64 / 1000.0;
    format!("{seconds:.1} s")
}

pub(super) fn opening(scene: &Scene) {
    anstream::eprintln!(
        "A company of {USERS} people and {ORGANIZATIONS} organizations is at Clerk (a local one: {}),\n\
         and an empty copy at {}.\n",
        scene.sandbox.url(),
        scene.url,
    );
}

pub(super) fn copied(copied: &Copied) {
    let Copied { rows, requests, took_ms } = copied;
    anstream::eprintln!(
        "1. Backfill: {rows} rows read from Clerk's API with {requests} requests in {}",
        seconds(*took_ms)
    );
}

pub(super) fn lived(lived: &Lived) {
    let Lived { changes, deliveries, delivered, twice, overtaken, lost, took_ms, .. } = lived;
    anstream::eprintln!(
        "2. The company lives: {changes} changes at Clerk made {deliveries} signed deliveries within {}.\n   \
         {delivered} arrived, {twice} of them twice, {overtaken} after a later one; {lost} were lost for good",
        seconds(*took_ms)
    );
}

pub(super) fn examples(outcomes: &BTreeMap<String, usize>) {
    let sent: usize = outcomes.values().sum();
    let outcomes: Vec<String> = outcomes.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    anstream::eprintln!(
        "3. Clerk's own {sent} example deliveries, signed as well: {} (they are another instance's)",
        outcomes.join(", ")
    );
}

pub(super) fn reconciled(report: &Report, took_ms: i64) {
    let sum = |count: fn(&Tally) -> u64| report.kinds.values().map(count).sum::<u64>();
    anstream::eprintln!(
        "4. Reconcile: {} rows missing, {} different, {} extra; {} repaired, {} removed, {} left, with {} requests in {}\n",
        sum(|tally| tally.missing),
        sum(|tally| tally.different),
        sum(|tally| tally.extra),
        sum(|tally| tally.repaired),
        sum(|tally| tally.removed),
        sum(|tally| tally.left),
        report.requests,
        seconds(took_ms)
    );
}

pub(super) fn ending(scene: &Scene, story: &Story, counts: &Counts, global: &Global) -> Result<(), Failure> {
    let places = places(scene);
    if global.json {
        let mut value = json!(counts);
        value["seed"] = json!(scene.seed);
        value["sent"] = json!(story.life.requests + story.examples.values().sum::<usize>());
        value["differences"] = json!(story.differences);
        value["story"] = json!(story);
        value["places"] = places.iter().map(|(name, place)| ((*name).to_owned(), json!(place))).collect::<Value>();
        return output::json(&value);
    }
    anstream::println!("{}\n{}\n", status::describe(counts), verdict(story));
    for (name, place) in &places {
        anstream::println!("  {name:14} {place}");
    }
    anstream::println!("{}", next(scene));
    Ok(())
}

fn verdict(story: &Story) -> String {
    let Story { compared, differences, .. } = story;
    if differences.is_empty() {
        return format!("copy = Clerk: {compared} rows, every column compared with Clerk's own documents");
    }
    format!("copy ≠ Clerk: {} differences\n  {}", differences.len(), differences.join("\n  "))
}

/// Where everything is.
fn places(scene: &Scene) -> [(&'static str, String); 9] {
    let (url, clerk) = (&scene.url, scene.sandbox.url());
    [
        ("dashboard", format!("{url}/dashboard")),
        ("webhook", scene.webhook()),
        ("API", format!("{url}/docs")),
        ("health", format!("{url}/readyz")),
        ("metrics", format!("{url}/metrics")),
        ("database", database(&scene.app.store)),
        ("sandbox", format!("{clerk}/")),
        ("Clerk's API", format!("{clerk}/v1")),
        ("Clerk's key", scene.sandbox.shared().keys().secret_key().to_owned()),
    ]
}

fn database(store: &Store) -> String {
    match store.address() {
        Address::Sqlite(path) => format!("sqlite://{}", path.display()),
        Address::Postgres(_) => store.address().to_string(),
    }
}

/// What to paste next: the API as a member of the company sees it, and a change at Clerk that arrives in the copy.
fn next(scene: &Scene) -> String {
    let (url, clerk) = (&scene.url, scene.sandbox.url());
    let key = scene.sandbox.shared().keys().secret_key().to_owned();
    let Some((organization, user)) = somebody(scene) else { return String::new() };
    let wanted = json!({ "user_id": user, "organization_id": organization });
    format!(
        "\nnext: curl -H \"Authorization: Bearer $(curl -s {clerk}/sandbox/v1/tokens -d '{wanted}' \
         | sed 's/.*\"jwt\":\"\\([^\"]*\\).*/\\1/')\" {url}/v1/me\n\
         then: curl -X PATCH {clerk}/v1/users/{user} -H 'Authorization: Bearer {key}' -d '{{\"first_name\":\"Ada\"}}'"
    )
}

/// A member of one of the organizations.
fn somebody(scene: &Scene) -> Option<(String, String)> {
    let query = faircopy_sandbox::instance::Query::parse("limit=1");
    let page = scene.sandbox.shared().with(|state, _| state.instance.list_all_memberships(&query));
    let membership = page.ok()?.data.into_iter().next()?;
    let part = |object: &str, name: &str| Some(membership.get(object)?.get(name)?.as_str()?.to_owned());
    Some((part("organization", "id")?, part("public_user_data", "user_id")?))
}

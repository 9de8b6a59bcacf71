//! What is sent: a storm of duplicates, poison among good deliveries, another instance's events, changed bodies.

use faircopy_testkit::seed::Seed;
use faircopy_testkit::server::Server;
use serde_json::{Value, json};

use crate::support::{History, PATIENCE, Place, Sent, check, faircopy, feed, metric, now_ms, post, sender};

async fn duplicate_storm(place: Place) {
    const REPLICAS: usize = 3;
    const STORM: usize = 1_000;
    let mut servers = Vec::new();
    for _ in 0..REPLICAS {
        servers.push(place.serve().await);
    }
    let history = History::random(1, 1);
    let event = &history.events[0];
    let storm: Vec<_> = (0..REPLICAS)
        .map(|replica| {
            let sender = sender(&servers[replica]);
            let count = STORM / REPLICAS + usize::from(replica < STORM % REPLICAS);
            let same = vec![(event.svix_id.clone(), event.body.clone()); count];
            tokio::spawn(async move { sender.send_all(same, 50, PATIENCE).await })
        })
        .collect();
    let mut sent = Sent::default();
    for report in storm {
        sent.add(&report.await.expect("a sender"));
    }
    assert_eq!((sent.count(200), sent.by_status.len(), sent.unanswered), (STORM, 1, 0), "{:?}", sent.by_status);
    assert_eq!(sent.by_outcome["applied"], 1, "{:?}", sent.by_outcome);
    assert_eq!(sent.by_outcome["duplicate"], STORM - 1);
    let kept = place.deliveries().await;
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[&event.svix_id].attempts, 1_000);
    assert_eq!(feed(&servers[0]).await, 1, "one change");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_one_delivery_is_applied_once_on_sqlite() {
    duplicate_storm(Place::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_one_delivery_is_applied_once_on_postgres() {
    duplicate_storm(Place::postgres().await).await;
}

/// Bodies that must be kept aside, whole, with a 200: sending them again cannot help.
fn poison(user: &Value) -> Vec<(&'static str, Vec<u8>)> {
    let event = |change: &dyn Fn(&mut Value)| {
        let mut event = user.clone();
        change(&mut event);
        event.to_string().into_bytes()
    };
    let text = user.to_string();
    let deep =
        |depth: usize| format!("{{\"type\":\"user.created\",\"data\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let mut not_utf8 = text.clone().into_bytes();
    not_utf8.extend([0xff, 0xfe]);
    let twice = |key: &str, value: &str| text.replacen('{', &format!("{{\"{key}\":{value},"), 1).into_bytes();
    vec![
        ("empty", Vec::new()),
        ("not JSON", b"webhook".to_vec()),
        ("truncated", text[..text.len() / 2].into()),
        ("trailing junk", format!("{text}}}").into()),
        ("not an object", b"[1,2,3]".to_vec()),
        ("null", b"null".to_vec()),
        ("NaN", br#"{"type":"user.created","data":{"id":NaN}}"#.to_vec()),
        ("not UTF-8", not_utf8),
        ("deep", deep(200).into()),
        ("very deep", deep(100_000).into()),
        ("type twice", twice("type", "\"user.updated\"")),
        ("no type", event(&|event| drop(event.as_object_mut().expect("an object").remove("type")))),
        ("no data", br#"{"type":"user.created"}"#.to_vec()),
        ("data is a list", event(&|event| event["data"] = json!([]))),
        ("no id", event(&|event| event["data"]["id"] = Value::Null)),
        ("id of another kind", event(&|event| event["data"]["id"] = json!("org_2abc"))),
        ("long id", event(&|event| event["data"]["id"] = json!(format!("user_{}", "a".repeat(10_000))))),
        ("SQL", event(&|event| event["data"]["id"] = json!("user_'; DROP TABLE users; --"))),
        ("path", event(&|event| event["data"]["id"] = json!("user_../../etc/passwd"))),
        ("the end of time", event(&|event| event["data"]["updated_at"] = json!(i64::MAX))),
        ("tomorrow", event(&|event| event["data"]["updated_at"] = json!(now_ms() + 86_400_000))),
        ("an envelope of tomorrow", event(&|event| event["timestamp"] = json!(now_ms() + 86_400_000))),
        ("before time", event(&|event| event["data"]["updated_at"] = json!(-1))),
    ]
}

async fn poisoned(place: Place) {
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 600);
    let server = place.serve().await;
    // The poison speaks of a user who is in the copy at the end: it must not have touched the row (T8).
    let victim = history.truth.users.keys().next().expect("a user");
    let mentions = |event: &Value| event["data"]["id"] == json!(victim) && event["data"]["updated_at"].is_i64();
    let bodies = history.events.iter().map(|event| serde_json::from_str::<Value>(&event.body).expect("JSON"));
    let user = bodies.into_iter().find(mentions).expect("the user's own event");
    let good = history.deliveries(seed.value());
    let loading = {
        let sender = sender(&server);
        tokio::spawn(async move { sender.send_all(good, 8, PATIENCE).await })
    };
    let poison = poison(&user);
    for (at, (what, body)) in poison.iter().enumerate() {
        let answer = post(&sender(&server), &format!("msg_poison{at}"), body.clone()).await.expect(what);
        let outcome = answer.json().map(|body| body["outcome"].clone());
        assert_eq!((answer.status, outcome), (200, Some(json!("quarantined"))), "{what}: {}", answer.text());
    }
    let mut sent = Sent::default();
    sent.add(&loading.await.expect("the good deliveries"));

    let folder = tempfile::tempdir().expect("a folder");
    let env = [("DATABASE_URL", place.url())];
    let again = faircopy(folder.path(), &env, &["replay", "--failed", "--json"]).await;
    assert_eq!(again.code, Some(0), "{again:?}");
    let kept = place.deliveries().await;
    let (aside, others): (Vec<_>, Vec<_>) = kept.iter().partition(|(_, delivery)| delivery.outcome == "quarantined");
    assert_eq!(aside.len(), poison.len(), "quarantined = planted");
    assert!(aside.iter().all(|(id, delivery)| id.starts_with("msg_poison") && delivery.error.is_some()));
    assert_eq!(others.len(), history.events.len());
    place.tables().await.assert_same_as(&history.truth);
    feed(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_is_quarantined_and_nothing_else_on_sqlite() {
    poisoned(Place::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_is_quarantined_and_nothing_else_on_postgres() {
    poisoned(Place::postgres().await).await;
}

async fn foreign(place: Place) {
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 200);
    let server = Server::start(place.options().env("CLERK_INSTANCE_ID", "ins_2somebodyelses")).await;
    let report = sender(&server).send_all(history.deliveries(seed.value()), 8, PATIENCE).await;
    report.assert_complete();
    let outcomes: Vec<&str> = report.by_outcome.keys().map(String::as_str).collect();
    assert_eq!(outcomes, ["duplicate", "ignored"]);
    let tables = place.tables().await;
    assert_eq!(tables, faircopy_testkit::tables::Tables::default(), "0 rows");
    assert_eq!(feed(&server).await, 0);
    let kept = place.deliveries().await;
    assert_eq!(kept.len(), history.events.len());
    assert!(kept.values().all(|delivery| delivery.outcome == "ignored"));
}

#[tokio::test]
async fn another_instances_deliveries_change_nothing_on_sqlite() {
    foreign(Place::sqlite()).await;
}

#[tokio::test]
async fn another_instances_deliveries_change_nothing_on_postgres() {
    foreign(Place::postgres().await).await;
}

/// T7: one `svix-id`, two bodies, both signed. Both are merged, the conflict is counted, and order does not matter.
async fn changed_body(place: Place) {
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 300);
    let server = place.serve().await;
    let mut deliveries = history.deliveries(seed.value());
    let reused = deliveries[0].0.clone();
    let other = deliveries.iter().position(|(id, _)| *id != reused).expect("another delivery");
    let second = deliveries[other].clone();
    deliveries.retain(|(id, _)| *id != second.0);
    let mut sent = Sent::default();
    sent.add(&sender(&server).send_all(deliveries, 4, PATIENCE).await);
    let answer = sender(&server).send(&reused, &second.1).await;
    assert_eq!((answer.status, answer.outcome.as_deref()), (200, Some("duplicate")), "{}", answer.body);
    assert!((metric(&server, "faircopy_delivery_conflicts_total").await - 1.0).abs() < f64::EPSILON);
    place.tables().await.assert_same_as(&history.truth);
    // The other id comes in the end too, and brings nothing.
    sent.add(&sender(&server).send_all(vec![second], 1, PATIENCE).await);
    check(&place, &server, &history, &sent).await;
}

#[tokio::test]
async fn an_id_with_another_body_is_merged_and_counted_on_sqlite() {
    changed_body(Place::sqlite()).await;
}

#[tokio::test]
async fn an_id_with_another_body_is_merged_and_counted_on_postgres() {
    changed_body(Place::postgres().await).await;
}

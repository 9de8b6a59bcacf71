//! What the dashboard shows of time and of tables, and that it costs the same whatever they hold.

use faircopy_core::Millis;
use faircopy_store::{Arrival, Arrivals, COUNTED_AT_ONCE, Error, Grain};
use serde_json::json;

use crate::db::{Db, commit};
use crate::provisional::{learn, token};
use crate::say::{NOW, at, event, raw, user};

on_both_engines!(
    each_delivery_is_counted_once,
    a_lost_lease_adds_nothing_up,
    tables_are_counted_up_to_a_bound,
    what_waits_is_counted,
    whoever_signs_out_is_out,
    no_question_reads_a_whole_table,
);

const LEASE: &str = "activity";
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// A user delivered at this time, so long after it changed.
fn came(id: &str, received_at: Millis, lag_ms: i64) -> Arrival {
    let n = (received_at.0 - lag_ms - at(0)) / 1000;
    let name = format!("user_{id}");
    Arrival { received_at, ..event(&format!("msg_{id}"), "user.created", n, &user(&name, n, "U", &json!({}))) }
}

async fn each_delivery_is_counted_once(db: &Db) {
    let mut writer = db.writer().await;
    let now = Millis(NOW.0.div_euclid(HOUR) * HOUR + 10 * MINUTE);
    let first = now.plus(-5 * MINUTE);
    let odd = Arrival { received_at: first, ..raw("msg_odd", b"not json") };
    commit(&mut writer, &[came("a", first, 2_000), came("b", first.plus(500), 4_500), odd]).await;
    commit(&mut writer, &[came("c", now.plus(-1_000), 1_000)]).await;
    let expected = |at: Millis, applied, quarantined, lag_ms, max_lag_ms| {
        let arrivals = Arrivals {
            applied,
            quarantined,
            lag_ms: Some(lag_ms),
            max_lag_ms: Some(max_lag_ms),
            ..Arrivals::default()
        };
        (at.0.div_euclid(MINUTE) * MINUTE, arrivals)
    };
    let by_minute = [expected(first, 2, 1, 3_250, 4_500), expected(now.plus(-1_000), 1, 0, 1_000, 1_000)];
    let asked = async || db.store.activity(Grain::Minute, now.plus(-HOUR), MINUTE, now).await.unwrap();
    assert_eq!(asked().await.stretches, by_minute.clone().into(), "counted when asked");
    let fence = writer.take_lease(LEASE, "one", now, MINUTE).await.unwrap().unwrap();
    let from = db.store.first_arrival_since(now.plus(-HOUR)).await.unwrap();
    assert_eq!(from, Some(first));
    for (from, until) in [(first, first.plus(200)), (first.plus(200), first.plus(10_000))] {
        writer.add_up(&db.store, from, until, &fence).await.unwrap();
        assert_eq!(asked().await.stretches, by_minute.clone().into(), "added up until {until}");
    }
    assert_eq!(db.store.activity_until().await.unwrap(), Some(first.plus(10_000)));
    writer.add_up(&db.store, first.plus(10_000), now, &fence).await.unwrap();
    assert_eq!(asked().await.stretches, by_minute.into());
    assert_eq!(db.store.first_arrival_since(now).await.unwrap(), None);

    writer.add_refused(3, now).await.unwrap();
    writer.add_refused(4, now).await.unwrap();
    let by_hour = db.store.activity(Grain::Hour, now.plus(-24 * HOUR), 2 * HOUR, now).await.unwrap();
    let hour = by_hour.stretches.values().next().unwrap();
    assert_eq!((by_hour.stretches.len(), hour.applied, hour.quarantined, hour.refused), (1, 3, 1, 7));
    assert_eq!((hour.lag_ms, hour.max_lag_ms), (Some(2_500), Some(4_500)));

    writer.forget_activity(now.plus(47 * HOUR)).await.unwrap();
    assert_eq!(asked().await.stretches.len(), 3, "two days are kept by minutes");
    writer.forget_activity(now.plus(49 * HOUR)).await.unwrap();
    assert_eq!(asked().await.stretches.len(), 0);
    assert_eq!(db.store.activity(Grain::Hour, now.plus(-24 * HOUR), HOUR, now).await.unwrap().stretches.len(), 1);
}

/// I13: whoever lost the lease adds nothing, and nothing is added twice.
async fn a_lost_lease_adds_nothing_up(db: &Db) {
    let mut writer = db.writer().await;
    commit(&mut writer, &[came("a", NOW, 1_000)]).await;
    let (mut one, mut other) = (db.store.writer(), db.store.writer());
    let lost = one.take_lease(LEASE, "one", NOW, MINUTE).await.unwrap().unwrap();
    let newest = other.take_lease(LEASE, "other", NOW.plus(MINUTE), MINUTE).await.unwrap().unwrap();
    let late = one.add_up(&db.store, NOW, NOW.plus(1), &lost).await;
    assert!(matches!(late, Err(Error::LeaseLost(LEASE))), "{late:?}");
    assert_eq!(db.store.activity_until().await.unwrap(), None);
    other.add_up(&db.store, NOW, NOW.plus(1), &newest).await.unwrap();
    let found = db.store.activity(Grain::Minute, NOW.plus(-HOUR), MINUTE, NOW.plus(1)).await.unwrap();
    assert_eq!(found.stretches.values().map(|one| one.applied).sum::<i64>(), 1);
}

/// Fills a table behind the store's back.
async fn fill(db: &Db, statement: &str, rows: i64) {
    let numbers = if db.is_sqlite() {
        format!("(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {rows}) SELECT n FROM c)")
    } else {
        format!("generate_series(1, {rows}) AS c(n)")
    };
    db.sql(&statement.replace("{numbers}", &numbers)).await;
}

const USERS: &str = "INSERT INTO {s}users (clerk_user_id, provenance) SELECT 'user_' || n, 'webhook' FROM {numbers}";

async fn tables_are_counted_up_to_a_bound(db: &Db) {
    let mut writer = db.writer().await;
    fill(db, USERS, COUNTED_AT_ONCE).await;
    let users = async || db.store.row_counts().await.unwrap()["users"];
    assert_eq!((users().await.rows, users().await.is_at_least), (COUNTED_AT_ONCE, false));
    db.sql("INSERT INTO {s}users (clerk_user_id, provenance) VALUES ('user_x', 'webhook')").await;
    assert_eq!(
        (users().await.rows, users().await.is_at_least, users().await.counted_at),
        (COUNTED_AT_ONCE, true, None)
    );
    let fence = writer.take_lease(LEASE, "one", NOW, MINUTE).await.unwrap().unwrap();
    assert_eq!(writer.count_rows(&db.store, NOW, &fence).await.unwrap(), COUNTED_AT_ONCE + 1);
    let counted = users().await;
    assert_eq!((counted.rows, counted.is_at_least, counted.counted_at), (COUNTED_AT_ONCE + 1, false, Some(NOW.0)));
    assert_eq!(db.store.row_counts().await.unwrap()["members"].rows, 0);
}

async fn what_waits_is_counted(db: &Db) {
    let mut writer = db.writer().await;
    let empty = db.store.waiting(NOW).await.unwrap();
    assert_eq!((empty.quarantined.rows, empty.deletions.rows, empty.oldest_deletion), (0, 0, None));
    let odd = |id: &str, received_at| Arrival { received_at, ..raw(id, b"not json") };
    commit(&mut writer, &[odd("msg_1", NOW.plus(-MINUTE)), odd("msg_2", NOW.plus(-MINUTE - 1)), came("a", NOW, 1)])
        .await;
    learn(&mut writer, token("org_9", "user_9", 9)).await;
    db.sql(
        "INSERT INTO {s}cascades (subject, kind, state, created_at) VALUES ('org_1', 'organization', 'waiting', 7), \
         ('org_2', 'organization', 'paused', 5), ('org_3', 'organization', 'done', 1)",
    )
    .await;
    let found = db.store.waiting(NOW).await.unwrap();
    assert_eq!((found.quarantined.rows, found.quarantined_at), (2, Some(NOW.plus(-MINUTE).to_string())));
    assert_eq!((found.deletions.rows, found.paused.rows, found.oldest_deletion), (2, 1, Some(Millis(5))));
    assert_eq!((found.provisional.rows, found.last_minute.rows, found.steps.rows), (3, 2, 0));
    let pulse = db.store.pulse(NOW).await.unwrap();
    assert_eq!((pulse.recent, pulse.attempts, pulse.newest), (1, 1, Some(NOW.to_string())));
}

async fn whoever_signs_out_is_out(db: &Db) {
    let mut writer = db.writer().await;
    writer.sign_in("one", NOW, NOW.plus(HOUR)).await.unwrap();
    writer.sign_in("two", NOW, NOW.plus(2 * HOUR)).await.unwrap();
    let is_in = async |id: &str, now: Millis| db.store.is_signed_in(id, now).await.unwrap();
    assert!(is_in("one", NOW.plus(HOUR - 1)).await && !is_in("one", NOW.plus(HOUR)).await && !is_in("none", NOW).await);
    writer.sign_out("two").await.unwrap();
    assert!(!is_in("two", NOW).await && is_in("one", NOW).await);
    // Those that are over are forgotten, and the oldest when there are too many.
    for number in 0..210 {
        writer.sign_in(&format!("more {number:03}"), NOW.plus(HOUR + number), NOW.plus(9 * HOUR)).await.unwrap();
    }
    assert!(!is_in("more 009", NOW.plus(2 * HOUR)).await && is_in("more 010", NOW.plus(2 * HOUR)).await);
    let ids = db.sql("SELECT id FROM {s}dashboard_sessions").await;
    assert_eq!(ids.len(), 200);
}

/// Asked of a copy with many rows, every question goes along an index or ends early: none reads what it need not. SQLite says so in its
/// plan; PostgreSQL counts what it read.
async fn no_question_reads_a_whole_table(db: &Db) {
    const ROWS: i64 = 60_000;
    let mut writer = db.writer().await;
    fill(db, USERS, ROWS).await;
    let spread = if db.is_sqlite() {
        "strftime('%Y-%m-%dT%H:%M:%fZ', 1700000000 + n * 10, 'unixepoch')"
    } else {
        "to_timestamp(1700000000 + n * 10)"
    };
    let deliveries = format!(
        "INSERT INTO {{s}}webhook_deliveries (svix_id, event_type, entity_id, outcome, attempts, conflicts, signed_at, received_at, \
         body_hash, payload) SELECT 'msg_' || n, 'user.created', 'user_' || n, 'applied', 1, 0, {spread}, {spread}, 1, '{{}}' FROM {{numbers}}"
    );
    fill(db, &deliveries, ROWS).await;
    let now = Millis((1_700_000_000 + ROWS * 10) * 1000);
    let fence = writer.take_lease(LEASE, "one", now, MINUTE).await.unwrap().unwrap();
    writer.add_up(&db.store, now.plus(-7 * 24 * HOUR), now.plus(-MINUTE), &fence).await.unwrap();
    writer.count_rows(&db.store, now, &fence).await.unwrap();
    if !db.is_sqlite() {
        db.sql("ANALYZE").await;
    }
    let before = read_so_far(db).await;
    db.store.row_counts().await.unwrap();
    db.store.waiting(now).await.unwrap();
    db.store.last_arrivals(100).await.unwrap();
    db.store.pulse(now.plus(-15_000)).await.unwrap();
    db.store.activity(Grain::Minute, now.plus(-HOUR), MINUTE, now).await.unwrap();
    db.store.activity(Grain::Hour, now.plus(-7 * 24 * HOUR), 2 * HOUR, now).await.unwrap();
    db.store.first_arrival_since(now.plus(-HOUR)).await.unwrap();
    let Some(before) = before else { return no_full_scan(db).await };
    let read = read_so_far(db).await.unwrap() - before;
    let bound = 2 * COUNTED_AT_ONCE + 2_000;
    assert!((1..bound).contains(&read), "{read} rows were read of {ROWS} users and as many deliveries");
}

/// Rows of users and deliveries that PostgreSQL has read until now. A connection tells what it has read when it is used again a second
/// later: it is, until nothing more is told.
async fn read_so_far(db: &Db) -> Option<i64> {
    const READ: &str = "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint::text \
        FROM pg_stat_all_tables WHERE schemaname = 'faircopy' AND relname IN ('users', 'webhook_deliveries')";
    if db.is_sqlite() {
        return None;
    }
    let (mut last, mut times) = (-1, 0);
    while times < 20 {
        db.store.activity_until().await.unwrap();
        db.sql("SELECT pg_sleep(0.1)::text").await;
        let read = db.sql(READ).await[0].as_ref().map_or(0, |text| text.parse().unwrap());
        times = if read == last { times + 1 } else { 0 };
        last = read;
    }
    Some(last)
}

/// The plan of each question that looks at deliveries names an index and no scan.
async fn no_full_scan(db: &Db) {
    for (question, index) in [
        (
            "SELECT count(*) FROM (SELECT 1 FROM webhook_deliveries WHERE outcome = 'quarantined' LIMIT 9)",
            "webhook_deliveries_quarantined",
        ),
        (
            "SELECT count(*) FROM (SELECT 1 FROM webhook_deliveries WHERE received_at >= 'x' LIMIT 9)",
            "webhook_deliveries_received",
        ),
        (
            "SELECT received_at FROM webhook_deliveries WHERE outcome = 'quarantined' ORDER BY received_at DESC LIMIT 1",
            "webhook_deliveries_quarantined",
        ),
        (
            "SELECT received_at, event_at, outcome FROM webhook_deliveries WHERE received_at >= 'x' AND received_at < 'y' LIMIT 9",
            "webhook_deliveries_received",
        ),
        (
            "SELECT count(*) FROM (SELECT created_at FROM cascades WHERE state NOT IN ('done', 'cancelled') LIMIT 9)",
            "cascades_under_way",
        ),
        ("SELECT count(*) FROM (SELECT 1 FROM users WHERE provenance = 'token' LIMIT 9)", "users_provisional"),
        ("SELECT count(*) FROM (SELECT 1 FROM outbox WHERE state = 'waiting' LIMIT 9)", "outbox_waiting"),
    ] {
        let plan = db.plan(question).await.join("\n");
        assert!(plan.contains(index), "{question}\n{plan}");
    }
}

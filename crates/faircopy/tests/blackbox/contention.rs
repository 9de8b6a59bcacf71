//! Others at the same PostgreSQL: conflicts, a snapshot that is held, a row that is held.

use std::time::{Duration, Instant};

use faircopy_testkit::postgres::{Postgres, fresh_database};
use faircopy_testkit::seed::Seed;
use serde_json::json;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::support::{
    ANSWER_WITHIN, History, Load, PATIENCE, Place, Sent, administer, check, feed, now_ms, number, scale, sender,
};

/// Makes every fifth transaction fail, by chance, in PostgreSQL's two words for "try it again" in turn. A sequence counts
/// them, because it forgets nothing when a transaction is rolled back.
const CONFLICTS: [&str; 3] = [
    "CREATE SEQUENCE test_conflicts",
    "CREATE FUNCTION test_conflict() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        IF random() < 0.2 THEN \
            IF nextval('public.test_conflicts') % 2 = 0 \
            THEN RAISE EXCEPTION 'injected' USING ERRCODE = 'serialization_failure'; \
            ELSE RAISE EXCEPTION 'injected' USING ERRCODE = 'deadlock_detected'; END IF; \
        END IF; RETURN NULL; END $$",
    "CREATE TRIGGER test_conflict AFTER INSERT ON faircopy.webhook_deliveries \
        FOR EACH STATEMENT EXECUTE FUNCTION test_conflict()",
];

/// D7: a fifth of all transactions ends in 40001 or 40P01. Scale: one pass of 1,000 events, at least 40 conflicts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_with_others_are_tried_again_and_quarantine_nothing() {
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 1_000);
    let database = fresh_database().await;
    let place = Place::at(database.url());
    let server = place.serve().await;
    for statement in CONFLICTS {
        administer(place.url(), statement).await;
    }
    let count = "SELECT last_value FROM test_conflicts";
    let load = Load::start(vec![sender(&server)], history.deliveries(seed.value()), 8);
    let start = Instant::now();
    while number(place.url(), count).await < 40 * i64::from(scale()) || !load.has_passed() {
        assert!(start.elapsed() < PATIENCE * scale(), "too few conflicts, or what meets one is never taken");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let sent = load.finish().await;
    println!("{} conflicts, {:?}, {:?}", number(place.url(), count).await, sent.by_status, sent.by_outcome);
    assert_eq!(sent.unanswered, 0, "each request got an answer");
    let kept = place.deliveries().await;
    let aside: Vec<_> = kept.iter().filter(|(_, delivery)| delivery.outcome == "quarantined").collect();
    assert!(aside.is_empty(), "a conflict is no fault of the delivery: {aside:?}");
    check(&place, &server, &history, &sent).await;
}

/// Refuses the first commit that brings a user, as PostgreSQL refuses one that announces itself while its queue of notifications is full:
/// at the end, with nothing wrong in what it brings. Gigabytes of notifications that nobody reads would be the real thing.
const NO_ROOM: [&str; 3] = [
    "CREATE SEQUENCE test_room",
    "CREATE FUNCTION test_no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
        IF nextval('public.test_room') = 1 THEN \
            RAISE EXCEPTION 'too many notifications in the NOTIFY queue' USING ERRCODE = 'program_limit_exceeded'; \
        END IF; RETURN NULL; END $$",
    "CREATE CONSTRAINT TRIGGER test_no_room AFTER INSERT ON faircopy.users DEFERRABLE INITIALLY DEFERRED \
        FOR EACH ROW EXECUTE FUNCTION test_no_room()",
];

/// A hint to other replicas is no reason to set a delivery aside, and neither is it when the delivery came alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_room_for_its_announcement_goes_without() {
    let history = History::random(Seed::of_run().value(), 50);
    let database = fresh_database().await;
    let place = Place::at(database.url());
    let server = place.serve().await;
    for statement in NO_ROOM {
        administer(place.url(), statement).await;
    }
    // Each alone, and looked at as it is answered: what was set aside would be healed by another attempt.
    for (id, body) in &history.deliveries(1) {
        let answer = sender(&server).send(id, body).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_ne!(answer.outcome.as_deref(), Some("quarantined"), "it is no fault of the delivery");
    }
    assert!(number(place.url(), "SELECT last_value FROM test_room").await > 1, "nothing was refused");
    place.tables().await.assert_same_as(&history.truth);
}

/// D8: somebody's idle transaction holds a snapshot, so that no dead row version can be removed. Scale: what ten minutes
/// of 500 events a second leave behind, fifteen to a commit, is made by one statement; the load itself is 500 deliveries.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_that_is_held_does_not_hold_the_intake() {
    const COMMITS: u32 = 20_000;
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 1_500);
    let postgres = Postgres::start().await;
    let place = Place::at(postgres.create_database("copy").await);
    let server = place.serve().await;
    let deliveries = history.deliveries(seed.value());
    let mut sent = Sent::default();
    let before = sender(&server).send_all(deliveries[..500].to_vec(), 1, PATIENCE).await;
    sent.add(&before);
    let mut holder = PgConnection::connect(place.url()).await.expect("connect");
    holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM faircopy.users").await.expect("hold");
    // Each of the intake's commits writes the change feed's counter: the row with the most dead versions.
    let commits = COMMITS * scale();
    let churn = format!(
        "DO $$ BEGIN FOR i IN 1..{commits} LOOP UPDATE faircopy.feed SET sequence = sequence; COMMIT; END LOOP; END $$"
    );
    let mut churning = PgConnection::connect(place.url()).await.expect("connect");
    // Nothing of it must survive a crash, and each commit's sync would take a millisecond.
    churning.execute("SET synchronous_commit = off").await.expect("set");
    churning.execute(sqlx::AssertSqlSafe(churn)).await.expect("churn");
    churning.close().await.expect("close");
    let held = sender(&server).send_all(deliveries[500..1_000].to_vec(), 1, PATIENCE).await;
    sent.add(&held);
    holder.execute("ROLLBACK").await.expect("let go");
    administer(place.url(), "VACUUM faircopy.feed").await;
    let after = sender(&server).send_all(deliveries[1_000..].to_vec(), 1, PATIENCE).await;
    sent.add(&after);
    let p99 = |report: &faircopy_testkit::sender::Report| report.ack_time(99).expect("acknowledgements");
    println!("p99 {:?} before, {:?} held, {:?} after", p99(&before), p99(&held), p99(&after));
    assert_eq!(sent.by_status.keys().collect::<Vec<_>>(), [&200], "nobody is sent back: {:?}", sent.by_status);
    assert!(p99(&held) < Duration::from_millis(500), "p99 is {:?} while a snapshot is held", p99(&held));
    check(&place, &server, &history, &sent).await;
}

/// D9: somebody holds the row of one busy organization. Scale: 10 s instead of 30, longer than any answer may take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_held_for_long_holds_only_its_own() {
    let holds = Duration::from_secs(10) * scale();
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 1_000);
    let database = fresh_database().await;
    let place = Place::at(database.url());
    let server = place.serve().await;
    let sender = sender(&server);
    let since = now_ms() - 60 * 60 * 1_000;
    let hot = |number: i64| {
        let data = json!({
            "object": "organization", "id": "org_hot", "name": format!("Hot {number}"),
            "created_at": since, "updated_at": since + number,
        });
        let event = json!({ "object": "event", "type": "organization.updated", "timestamp": since, "data": data });
        (format!("msg_hot{number}"), event.to_string())
    };
    let mut sent = Sent::default();
    sent.add(&sender.send_all(vec![hot(0)], 1, PATIENCE).await);
    let mut holder = PgConnection::connect(place.url()).await.expect("connect");
    let lock = "BEGIN; SELECT * FROM faircopy.organizations WHERE clerk_org_id = 'org_hot' FOR UPDATE";
    holder.execute(lock).await.expect("hold the row");
    let held = Instant::now();
    let others = Load::start(vec![sender.clone()], history.deliveries(seed.value()), 7);
    let taken =
        "SELECT coalesce(sum(attempts), 0)::bigint FROM faircopy.webhook_deliveries WHERE svix_id NOT LIKE 'msg_hot%'";
    // One delivery after another for the held row, each with news.
    let mut last = 0;
    while held.elapsed() < holds {
        last += 1;
        let (id, body) = hot(last);
        let reply = sender.send(&id, &body).await;
        assert_eq!((reply.status, reply.retry_after.as_deref()), (503, Some("5")), "{id}: {}", reply.body);
        assert!(reply.elapsed <= ANSWER_WITHIN, "{id} was answered after {:?}", reply.elapsed);
    }
    let taken = number(place.url(), taken).await;
    println!("{taken} others taken while {last} for the held row were sent back");
    // D2's measure of progress: one a second.
    assert!(taken >= i64::try_from(holds.as_secs()).expect("seconds"), "only {taken} others were taken in {holds:?}");
    holder.execute("ROLLBACK").await.expect("let go");
    let others = others.finish().await;
    assert!(others.longest_wait <= ANSWER_WITHIN, "another was answered after {:?}", others.longest_wait);
    assert_eq!(others.unanswered, 0);
    sent.acked.extend(others.acked);
    sent.add(&sender.send_all((1..=last).map(hot).collect(), 4, PATIENCE).await);

    let kept = place.deliveries().await;
    assert!(sent.acked.iter().all(|id| kept.contains_key(id)), "an acknowledged delivery is lost");
    assert_eq!(kept.len(), history.events.len() + usize::try_from(last).expect("a count") + 1);
    let mut tables = place.tables().await;
    let organization = tables.organizations.remove("org_hot").expect("the organization that was held");
    assert_eq!(organization.name, Some(format!("Hot {last}")));
    let workspace = tables.workspaces.remove("org_hot").expect("its workspace");
    assert_eq!(workspace.name, organization.name);
    tables.assert_same_as(&history.truth);
    feed(&server).await;
}

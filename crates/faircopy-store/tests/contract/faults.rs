//! Dropped calls, an application's foreign keys, a lock held by somebody else.

use std::time::Duration;

use faircopy_store::{Address, Error, Outcome, Store, Writer};
use faircopy_testkit::proxy::{Cut, Proxy};
use faircopy_testkit::seed::Seed;
use faircopy_world::{company, shuffled};
use serde_json::json;
use sqlx::{Connection as _, Executor as _};

use crate::db::{Db, commit, deliver};
use crate::say::{NOW, START, event, gone, invitation, of_world, organization, user};

on_both_engines!(a_dropped_call_leaves_nothing_behind, a_refusal_leaves_the_writer_usable);
on_postgres!(
    rows_of_an_application_go_along,
    a_restricting_application_is_told,
    a_held_lock_delays_its_delivery_alone,
    whoever_waited_for_the_pen_sees_what_was_committed,
    a_read_after_connections_were_lost_gets_a_new_one,
    a_plan_that_knew_empty_tables_reads_no_whole_table,
);

async fn a_dropped_call_leaves_nothing_behind(db: &Db) {
    let seed = Seed::of_run();
    let (events, truth) = company(seed.value() + 5, 30, 4, START);
    let deliveries = of_world(&shuffled(&events, seed.value(), 0));
    let mut writer = db.writer().await;
    let (mut dropped, mut finished) = (0, 0);
    for round in 0..120_u64 {
        let start = usize::try_from(round).unwrap() * 17 % deliveries.len();
        let batch = &deliveries[start..deliveries.len().min(start + 20)];
        let within = Duration::from_micros(round * 5000 / 120);
        match tokio::time::timeout(within, writer.commit(batch, NOW)).await {
            Err(_) => dropped += 1,
            Ok(Ok(_)) => finished += 1,
            Ok(Err(Error::Busy(_))) => {}
            Ok(Err(error)) => panic!("{error}"),
        }
        // A call that is dropped may have been another one.
        if round % 10 == 0 {
            let _ = tokio::time::timeout(within / 2, writer.expire_invitations(NOW)).await;
            let _ = tokio::time::timeout(within / 2, writer.unsafe_settings()).await;
        }
    }
    // On SQLite nothing waits: a call that was begun also ends.
    let expected = if db.is_sqlite() { dropped == 0 } else { dropped > 20 };
    assert!(expected, "{dropped} calls were dropped, {finished} finished");
    for batch in deliveries.chunks(40) {
        commit(&mut writer, batch).await;
    }
    db.tables().await.assert_same_as(&truth);
    db.feed().await;
    assert_eq!(db.deliveries().await.len(), events.len());
    if !db.is_sqlite() {
        let idle = "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
        let mut left = db.sql(idle).await;
        // The server notices the end of a connection when it next reads from it.
        for _ in 0..200 {
            if left.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            left = db.sql(idle).await;
        }
        assert_eq!(left, []);
    }
}

/// Makes the database refuse users who are called Nobody: a trigger stands for whatever makes it refuse one row.
pub(crate) async fn refuse_nobody(db: &Db) {
    if db.is_sqlite() {
        db.sql(
            "CREATE TRIGGER refuse BEFORE INSERT ON users WHEN NEW.first_name = 'Nobody' \
             BEGIN SELECT RAISE(ABORT, 'no such name'); END",
        )
        .await;
    } else {
        db.sql("ALTER TABLE faircopy.users ADD CONSTRAINT refuse CHECK (first_name <> 'Nobody')").await;
    }
}

async fn a_refusal_leaves_the_writer_usable(db: &Db) {
    let mut writer = db.writer().await;
    refuse_nobody(db).await;
    let named = |id: &str, name: &str| event(&format!("msg_{id}"), "user.created", 1, &user(id, 1, name, &json!({})));
    let (bad, good) = (named("user_bad", "Nobody"), named("user_good", "Somebody"));
    assert!(matches!(writer.commit(&[good.clone(), bad.clone()], NOW).await, Err(Error::Refused(_))));
    // Nothing of the batch is there.
    assert!(db.tables().await.users.is_empty() && db.deliveries().await.is_empty() && db.feed().await.is_empty());
    assert_eq!(deliver(&mut writer, good).await.outcome, Outcome::Applied);
    let Err(Error::Refused(reason)) = writer.commit(std::slice::from_ref(&bad), NOW).await else {
        panic!("not refused")
    };
    let receipt = writer.quarantine(&bad, &reason).await.unwrap();
    assert_eq!((receipt.outcome, receipt.news), (Outcome::Quarantined, false));
    let stored = &db.deliveries().await["msg_user_bad"];
    assert_eq!(stored.outcome, "quarantined");
    assert!(stored.error.as_ref().is_some_and(|error| error.contains(&reason)), "{stored:?}");
    assert_eq!(db.tables().await.users.len(), 1);
    assert_eq!(db.feed().await.len(), 1);
    // After the mend the same delivery is applied.
    db.sql(if db.is_sqlite() { "DROP TRIGGER refuse" } else { "ALTER TABLE faircopy.users DROP CONSTRAINT refuse" })
        .await;
    let receipt = deliver(&mut writer, bad).await;
    assert_eq!((receipt.outcome, receipt.news), (Outcome::Duplicate, true));
    let stored = &db.deliveries().await["msg_user_bad"];
    assert_eq!((stored.outcome.as_str(), &stored.error), ("applied", &None));
    assert_eq!(db.tables().await.users.len(), 2);
}

/// A connection keeps its plans. What was best when the statistics said that a table is empty must not go through all of it later.
async fn a_plan_that_knew_empty_tables_reads_no_whole_table(db: &Db) {
    let (events, truth) = company(Seed::of_run().value(), 400, 200, START);
    let mut writer = db.writer().await;
    db.sql("ANALYZE").await;
    let deliveries = of_world(&events);
    for batch in deliveries.chunks(4) {
        commit(&mut writer, batch).await;
    }
    db.tables().await.assert_same_as(&truth);
    // The figures of a connection are complete when it has ended.
    drop(writer);
    let mut figures = db.outsider().await;
    let read = "SELECT relname, (coalesce(idx_tup_fetch, 0) + seq_tup_read)::bigint FROM pg_stat_user_tables \
        WHERE schemaname = 'faircopy' AND relname <> 'feed' ORDER BY 2 DESC";
    let ours =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'faircopy'";
    while sqlx::query_scalar::<_, i64>(ours).fetch_one(&mut figures).await.unwrap() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let read: Vec<(String, i64)> = sqlx::query_as(read).fetch_all(&mut figures).await.unwrap();
    println!("{} deliveries: {read:?}", deliveries.len());
    let most = i64::try_from(deliveries.len()).unwrap() * 8;
    assert!(read.iter().any(|(_, rows)| *rows > 0), "the figures are kept: {read:?}");
    assert!(read.iter().all(|(_, rows)| *rows < most), "{} deliveries read {read:?}", deliveries.len());
}

async fn with_users(db: &Db) -> Writer {
    let mut writer = db.writer().await;
    for id in ["user_a", "user_b"] {
        deliver(&mut writer, event(&format!("msg_{id}"), "user.created", 1, &user(id, 1, id, &json!({})))).await;
    }
    writer
}

async fn rows_of_an_application_go_along(db: &Db) {
    let mut writer = with_users(db).await;
    db.sql(
        "CREATE TABLE notes (id text PRIMARY KEY, author text NOT NULL REFERENCES faircopy.users ON DELETE CASCADE); \
         INSERT INTO notes VALUES ('1', 'user_a'), ('2', 'user_a'), ('3', 'user_b')",
    )
    .await;
    let notes = async || db.sql("SELECT id FROM notes ORDER BY id").await;
    for n in 2..5 {
        let changed = user("user_a", n, "Anew", &json!({"n": n}));
        assert_eq!(
            deliver(&mut writer, event(&format!("msg_{n}"), "user.updated", n, &changed)).await.outcome,
            Outcome::Applied
        );
    }
    assert_eq!(notes().await.len(), 3);
    deliver(&mut writer, event("msg_9", "user.deleted", 9, &gone("user", "user_a"))).await;
    assert_eq!(notes().await, [Some("3".to_owned())]);
}

async fn a_restricting_application_is_told(db: &Db) {
    let mut writer = with_users(db).await;
    db.sql(
        "CREATE TABLE bills (id text PRIMARY KEY, payer text NOT NULL REFERENCES faircopy.users ON DELETE RESTRICT); \
         INSERT INTO bills VALUES ('1', 'user_a')",
    )
    .await;
    let deletion = event("msg_gone", "user.deleted", 9, &gone("user", "user_a"));
    let other = event("msg_other", "user.updated", 9, &user("user_b", 9, "Bob", &json!({})));
    assert!(matches!(writer.commit(&[deletion.clone(), other.clone()], NOW).await, Err(Error::Refused(_))));
    assert_eq!(deliver(&mut writer, other).await.outcome, Outcome::Applied);
    let Err(Error::Refused(reason)) = writer.commit(std::slice::from_ref(&deletion), NOW).await else {
        panic!("not refused")
    };
    assert!(reason.contains("bills"), "{reason}");
    writer.quarantine(&deletion, &reason).await.unwrap();
    assert_eq!(db.deliveries().await["msg_gone"].outcome, "quarantined");
    assert_eq!(db.tables().await.users.len(), 2);
    // The application lets go, and the delivery comes again.
    db.sql("DELETE FROM bills").await;
    let receipt = deliver(&mut writer, deletion).await;
    assert_eq!((receipt.outcome, receipt.news), (Outcome::Duplicate, true));
    assert_eq!(db.deliveries().await["msg_gone"].outcome, "applied");
    assert_eq!(db.tables().await.users.keys().collect::<Vec<_>>(), ["user_b"]);
}

async fn a_held_lock_delays_its_delivery_alone(db: &Db) {
    let mut writer = db.writer().await;
    let named = |id: &str, n: i64| {
        event(
            &format!("msg_{id}{n}"),
            "organization.updated",
            n,
            &organization(id, n, &format!("{id} {n}"), &json!({})),
        )
    };
    commit(&mut writer, &[named("org_a", 1), named("org_b", 1)]).await;
    let mut outsider = db.outsider().await;
    outsider
        .execute("BEGIN; SELECT name FROM faircopy.organizations WHERE clerk_org_id = 'org_a' FOR UPDATE")
        .await
        .unwrap();
    let held = tokio::time::timeout(Duration::from_secs(5), writer.commit(&[named("org_a", 2)], NOW)).await;
    assert!(matches!(held, Ok(Err(Error::Busy(_)))), "{held:?}");
    for n in 2..6 {
        let receipts = writer.commit(&[named("org_b", n)], NOW).await.unwrap();
        assert_eq!(receipts[0].outcome, Outcome::Applied);
    }
    assert!(!db.deliveries().await.contains_key("msg_org_a2"), "what was not committed is not recorded");
    outsider.execute("ROLLBACK").await.unwrap();
    outsider.close().await.unwrap();
    assert_eq!(writer.commit(&[named("org_a", 2)], NOW).await.unwrap()[0].outcome, Outcome::Applied);
    let tables = db.tables().await;
    let name = |id: &str| tables.organizations[id].name.clone().unwrap();
    assert_eq!((name("org_a"), name("org_b")), ("org_a 2".to_owned(), "org_b 5".to_owned()));
}

/// A database may have another isolation by default, for its application's sake. What is read under the pen must not be as old as the
/// transaction: the tombstone of an organization that never had a row is no change that PostgreSQL could object to.
async fn whoever_waited_for_the_pen_sees_what_was_committed(db: &Db) {
    let name = db.sql("SELECT current_database()::text").await.remove(0).unwrap();
    drop(db.writer().await);
    db.sql(&format!("ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")).await;
    let (mut first, mut second) = (db.writer().await, db.writer().await);
    let mut holder = db.outsider().await;
    holder.execute("BEGIN; SELECT sequence FROM faircopy.feed FOR UPDATE").await.unwrap();
    let waiting =
        "SELECT pid::text FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let wait = async |number: usize| {
        while db.sql(waiting).await.len() < number {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let deletion = event("msg_gone", "organization.deleted", 9, &gone("organization", "org_a"));
    let pending = invitation("orginv_a", "org_a", 2, 900, "pending");
    let invited = event("msg_invited", "organizationInvitation.created", 2, &pending);
    let ((), (), ()) = tokio::join!(
        async { assert_eq!(first.commit(&[deletion], NOW).await.unwrap()[0].outcome, Outcome::Applied) },
        async {
            wait(1).await;
            assert_eq!(second.commit(&[invited], NOW).await.unwrap()[0].outcome, Outcome::Stale);
        },
        async {
            wait(2).await;
            holder.execute("ROLLBACK").await.unwrap();
        },
    );
    assert!(db.tables().await.invitations.is_empty());
}

/// What cuts one idle connection cuts them all, and each shows it only when it is used. How much a connection may send is tried out: some
/// of these bounds let through the first read of three connections, and not the second.
async fn a_read_after_connections_were_lost_gets_a_new_one(db: &Db) {
    drop(db.writer().await);
    let url = db.url_of("postgres");
    let port = url.rsplit_once(':').and_then(|(_, rest)| rest.split('/').next()?.parse().ok()).unwrap();
    let proxy = Proxy::to(port).await;
    let address = Address::parse(&proxy.url(&url)).unwrap();
    let mut lost = 0;
    for bytes in (100..1_500).step_by(20) {
        proxy.cut_by(move || Some(Cut::ToServer(bytes)));
        let store = Store::new(address.clone());
        let reads = tokio::join!(store.counts(), store.counts(), store.counts());
        if reads.0.is_ok() && reads.1.is_ok() && reads.2.is_ok() {
            proxy.cut_by(|| None);
            let before = proxy.cuts();
            store.counts().await.unwrap();
            lost += proxy.cuts() - before;
        }
        store.close().await;
    }
    assert!(lost > 0, "no connection was lost while it was idle");
}

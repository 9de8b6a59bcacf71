//! What was said of findings, and what is needed to see trouble.

use faircopy_core::Millis;
use faircopy_core::alert::{Event, Severity, Standing, Told};
use faircopy_core::watch::Quarantined;
use faircopy_store::{ALERTS_KEPT, Alert, AlertTarget, Error, Fence, Gauge, Progress, Stretch, Tally, Writer};

use crate::db::{Db, deliver};
use crate::say::{NOW, at, raw};

on_both_engines!(
    an_alert_is_kept_told_and_over,
    only_so_many_alerts_are_kept,
    a_lost_lease_writes_no_alert,
    a_finding_is_as_bad_as_it_says,
    counts_of_replicas_add_up,
    what_waits_is_seen,
    a_comparison_that_ended_well_is_remembered,
    room_is_measured_where_it_can_be,
);

const MINUTE: i64 = 60_000;

async fn lease(writer: &mut Writer) -> Fence {
    writer.take_lease("alerts", "one", NOW, MINUTE).await.unwrap().unwrap()
}

fn alert(id: &str, name: &str, minutes: i64) -> Alert {
    let first_at = NOW.plus(minutes * MINUTE);
    Alert {
        id: id.into(),
        name: name.into(),
        severity: Severity::Warning,
        detail: "1 MiB".into(),
        since: first_at.plus(-7),
        seen_at: first_at,
        standing: Standing::new(first_at),
    }
}

fn raised(alert: &Alert) -> Alert {
    let standing = Standing { raised_at: Some(alert.standing.first_at.plus(MINUTE)), ..alert.standing };
    Alert { standing, ..alert.clone() }
}

fn over(alert: &Alert) -> Alert {
    let end = Some(alert.standing.first_at.plus(2 * MINUTE));
    Alert { standing: Standing { gone_at: end, resolved_at: end, ..raised(alert).standing }, ..alert.clone() }
}

async fn an_alert_is_kept_told_and_over(db: &Db) {
    let mut writer = db.writer().await;
    let fence = lease(&mut writer).await;
    let (disk, drift) = (alert("alert_1", "disk", 0), alert("alert_2", "drift", 1));
    writer.keep_alerts(&[drift.clone(), disk.clone()], &[], &fence).await.unwrap();
    assert_eq!(db.store.open_alerts().await.unwrap(), [disk.clone(), drift.clone()]);
    assert_eq!(db.store.alerts(9).await.unwrap(), [], "nobody was told");
    assert_eq!(db.store.untold_alerts(&["ops"]).await.unwrap(), []);
    let worse = Alert { severity: Severity::Critical, detail: "0 MiB".into(), ..raised(&disk) };
    writer.keep_alerts(std::slice::from_ref(&worse), &["alert_2".into()], &fence).await.unwrap();
    assert_eq!(db.store.open_alerts().await.unwrap(), std::slice::from_ref(&worse), "the other came and went");
    assert_eq!(db.store.untold_alerts(&["ops"]).await.unwrap(), [(worse.clone(), vec![])]);

    let told = |event, number| Told { event, severity: Severity::Critical, at: NOW.plus(number), number };
    writer.told_alert("alert_1", "ops", &told(Event::Raised, 1), &fence).await.unwrap();
    writer.told_alert("alert_1", "gone", &told(Event::Raised, 1), &fence).await.unwrap();
    writer.told_alert("alert_1", "ops", &told(Event::Repeated, 2), &fence).await.unwrap();
    let known = vec![("gone".to_owned(), told(Event::Raised, 1)), ("ops".to_owned(), told(Event::Repeated, 2))];
    assert_eq!(db.store.untold_alerts(&["ops"]).await.unwrap(), [(worse.clone(), known)]);
    let ended = over(&worse);
    writer.keep_alerts(std::slice::from_ref(&ended), &[], &fence).await.unwrap();
    assert_eq!(db.store.open_alerts().await.unwrap(), []);
    assert_eq!(db.store.alerts(9).await.unwrap(), [ended]);
    assert_eq!(db.store.untold_alerts(&["ops"]).await.unwrap().len(), 1, "that it is over was not told");
    writer.told_alert("alert_1", "ops", &told(Event::Resolved, 3), &fence).await.unwrap();
    assert_eq!(
        db.store.untold_alerts(&["ops"]).await.unwrap(),
        [],
        "a target that is not there any more hears nothing"
    );
    // The same trouble again is another alert.
    writer.keep_alerts(&[alert("alert_3", "disk", 9)], &[], &fence).await.unwrap();
    assert_eq!(db.store.open_alerts().await.unwrap().len(), 1);

    assert_eq!(db.store.alert_targets().await.unwrap(), []);
    let failing = AlertTarget {
        name: "ops".into(),
        failures: 3,
        due_at: NOW.plus(5),
        last_ok_at: Some(NOW),
        last_error: Some("no connection".into()),
    };
    writer.keep_alert_target(&failing, Some(&fence)).await.unwrap();
    assert_eq!(db.store.alert_targets().await.unwrap(), std::slice::from_ref(&failing));
    let fine = AlertTarget { name: "ops".into(), last_ok_at: Some(NOW.plus(9)), ..AlertTarget::default() };
    writer.keep_alert_target(&fine, None).await.unwrap();
    assert_eq!(db.store.alert_targets().await.unwrap(), [fine]);
}

async fn only_so_many_alerts_are_kept(db: &Db) {
    let mut writer = db.writer().await;
    let fence = lease(&mut writer).await;
    let many: Vec<Alert> = (0..ALERTS_KEPT + 60).map(|n| over(&alert(&format!("alert_{n:04}"), "disk", n))).collect();
    writer.keep_alerts(&many, &[], &fence).await.unwrap();
    let told = Told { event: Event::Resolved, severity: Severity::Warning, at: NOW, number: 2 };
    writer.told_alert("alert_0000", "ops", &told, &fence).await.unwrap();
    let mut forgotten = 0;
    loop {
        match writer.forget_alerts(&fence).await.unwrap() {
            0 => break,
            some => forgotten += some,
        }
    }
    assert_eq!(forgotten, 60);
    let kept = db.store.alerts(i64::MAX).await.unwrap();
    assert_eq!(i64::try_from(kept.len()), Ok(ALERTS_KEPT));
    assert_eq!((kept[0].id.as_str(), kept[499].id.as_str()), ("alert_0559", "alert_0060"));
    assert_eq!(db.sql("SELECT alert FROM {s}alerts_told").await, []);
}

/// I13: whoever lost the lease tells nothing.
async fn a_lost_lease_writes_no_alert(db: &Db) {
    let (mut one, mut other) = (db.writer().await, db.store.writer());
    let lost = lease(&mut one).await;
    other.take_lease("alerts", "other", NOW.plus(MINUTE), MINUTE).await.unwrap().unwrap();
    let kept = one.keep_alerts(&[alert("alert_1", "disk", 0)], &[], &lost).await;
    assert!(matches!(kept, Err(Error::LeaseLost("alerts"))), "{kept:?}");
    let told = Told { event: Event::Raised, severity: Severity::Warning, at: NOW, number: 1 };
    let told = one.told_alert("alert_1", "ops", &told, &lost).await;
    assert!(matches!(told, Err(Error::LeaseLost("alerts"))), "{told:?}");
    assert_eq!(db.store.open_alerts().await.unwrap(), []);
}

async fn a_finding_is_as_bad_as_it_says(db: &Db) {
    let mut writer = db.writer().await;
    let fence = lease(&mut writer).await;
    let severity = async || db.store.findings().await.unwrap().remove(0).severity;
    writer.raise_finding("disk", NOW, "", NOW, &fence).await.unwrap();
    assert_eq!(severity().await, "warning", "as bad as its name");
    writer.raise_finding_as("disk", Some(Severity::Critical), NOW, "", NOW, &fence).await.unwrap();
    assert_eq!(severity().await, "critical");
    writer.raise_finding("database-unavailable", NOW, "", NOW, &fence).await.unwrap();
    assert_eq!(severity().await, "critical", "as bad as its name");
}

async fn counts_of_replicas_add_up(db: &Db) {
    let (mut one, mut other) = (db.writer().await, db.store.writer());
    let tally = |slot, kind: &str, number| Tally { slot, kind: kind.into(), number };
    let gauge = |value| Gauge { name: "clock:svix".into(), value };
    one.add_tallies(&[], "one", &[], NOW).await.unwrap();
    one.add_tallies(&[tally(7, "accepted", 2), tally(7, "failed", 1)], "one", &[gauge(-5)], NOW).await.unwrap();
    let later = NOW.plus(MINUTE);
    other.add_tallies(&[tally(7, "accepted", 3), tally(9, "failed", 4)], "other", &[gauge(9)], later).await.unwrap();
    one.add_tallies(&[], "one", &[gauge(-6)], NOW).await.unwrap();
    let all = [tally(7, "accepted", 5), tally(7, "failed", 1), tally(9, "failed", 4)];
    assert_eq!(db.store.tallies(7).await.unwrap(), all);
    assert_eq!(db.store.tallies(8).await.unwrap(), all[2..]);
    let since = async |other: &str| db.store.tallies_since_last("failed", other).await.unwrap();
    assert_eq!(since("accepted").await, Some(Stretch { first: 9, last: 9, number: 4 }));
    assert_eq!(since("never").await, Some(Stretch { first: 7, last: 9, number: 5 }));
    assert_eq!(db.store.tallies_since_last("never", "failed").await.unwrap(), None);
    assert_eq!(db.store.gauges(NOW).await.unwrap(), [gauge(-6), gauge(9)]);
    assert_eq!(db.store.gauges(later).await.unwrap(), [gauge(9)]);

    assert!(one.forget_tallies(9, later).await.unwrap());
    assert!(!one.forget_tallies(9, later).await.unwrap());
    assert_eq!(
        (db.store.tallies(0).await.unwrap().as_slice(), db.store.gauges(NOW).await.unwrap()),
        (&all[2..], vec![gauge(9)])
    );
    // More than are forgotten at once.
    let many: Vec<Tally> = (100..1_300).map(|slot| tally(slot, "accepted", 1)).collect();
    one.add_tallies(&many, "one", &[], NOW).await.unwrap();
    let mut rounds = 0;
    while one.forget_tallies(1_299, NOW).await.unwrap() {
        rounds += 1;
    }
    assert_eq!((rounds, db.store.tallies(0).await.unwrap().len()), (3, 1));
}

async fn what_waits_is_seen(db: &Db) {
    let mut writer = db.writer().await;
    assert_eq!(db.store.quarantined_after(Millis(0)).await.unwrap(), None);
    for n in 1..=3 {
        deliver(
            &mut writer,
            faircopy_store::Arrival { received_at: NOW.plus(n), ..raw(&format!("msg_{n}"), b"not JSON") },
        )
        .await;
    }
    let after = async |n: i64| db.store.quarantined_after(NOW.plus(n)).await.unwrap();
    assert_eq!(after(0).await, Some(Quarantined { deliveries: 3, oldest: NOW.plus(1) }));
    assert_eq!(after(1).await, Some(Quarantined { deliveries: 2, oldest: NOW.plus(2) }));
    assert_eq!(after(3).await, None);

    assert_eq!(db.store.mark("known").await.unwrap(), None);
    writer.set_mark("known", NOW).await.unwrap();
    writer.set_mark("known", NOW.plus(1)).await.unwrap();
    assert_eq!(db.store.mark("known").await.unwrap(), Some(NOW.plus(1)));

    assert_eq!(db.store.cascades_overdue(NOW).await.unwrap(), None);
    assert_eq!(db.store.steps_overdue().await.unwrap(), None);
    for (subject, state, due) in [("org_1", "waiting", -9), ("org_2", "calling", 9), ("org_3", "paused", -99)] {
        let (created, due) = (NOW.0, NOW.0 + due);
        db.sql(&format!(
            "INSERT INTO {{s}}cascades (subject, kind, state, created_at, due_at) VALUES ('{subject}', 'organization', '{state}', {created}, {due})"
        ))
        .await;
        db.sql(&format!(
            "INSERT INTO {{s}}outbox (subject, target, external_id, state, due_at, written_at) VALUES ('{subject}', 'liveblocks', 'doc:1', 'waiting', 0, '{}')",
            Millis(at(3))
        ))
        .await;
    }
    let cascades = db.store.cascades_overdue(NOW).await.unwrap().unwrap();
    assert_eq!((cascades.jobs, cascades.oldest), (1, NOW.plus(-9)), "one is not due, and one waits for a word");
    let steps = db.store.steps_overdue().await.unwrap().unwrap();
    assert_eq!((steps.jobs, steps.oldest), (1, Millis(at(3))), "of the deletion that calls");
    writer.take_lease("cascade", "one", NOW, MINUTE).await.unwrap();
    assert_eq!(db.store.cascades_overdue(NOW).await.unwrap(), None, "somebody works on them");
}

async fn a_comparison_that_ended_well_is_remembered(db: &Db) {
    let mut writer = db.writer().await;
    let fence = lease(&mut writer).await;
    assert_eq!(db.store.last_success("reconcile").await.unwrap(), None);
    for (outcome, minutes) in [("repaired", 1), ("exact", 2), ("differences", 3)] {
        let id = writer.begin_sweep("reconcile", "{}", NOW, &fence).await.unwrap();
        let end = NOW.plus(minutes * MINUTE);
        writer.finish_sweep(id, &Progress::default(), outcome, None, end, &fence).await.unwrap();
    }
    writer.begin_sweep("reconcile", "{}", NOW, &fence).await.unwrap();
    assert_eq!(db.store.last_success("reconcile").await.unwrap(), Some(NOW.plus(2 * MINUTE)));
    assert_eq!(db.store.last_success("backfill").await.unwrap(), None);
}

async fn room_is_measured_where_it_can_be(db: &Db) {
    drop(db.writer().await);
    assert!(db.store.database_bytes().await.unwrap() > 0);
    assert_eq!(db.store.disk().is_some(), db.is_sqlite());
    assert!(db.store.disk().is_none_or(|disk| disk.size > 0 && disk.free <= disk.size));
    let server = db.store.server_time().await.unwrap();
    assert_eq!(server.is_none(), db.is_sqlite());
    assert!(server.is_none_or(|at| at > NOW), "the present is later than the tests' time");
    assert!(
        Error::says_disk_full("could not extend file (53100)")
            && Error::says_disk_full("database or disk is full (13)")
    );
    assert!(!Error::says_disk_full("no such table (1)"));
}

//! Troubles that are known now.

use faircopy_core::Millis;
use faircopy_core::id::UserId;
use faircopy_store::{Arrival, Arrived, Basis, COUNTS_DIFFER, Error, Finding, Freshness, Progress, Swept, UNDELIVERED};
use serde_json::json;

use crate::db::{Db, deliver};
use crate::provisional::{learn, token};
use crate::say::{NOW, at, event, user};

on_both_engines!(
    a_trouble_is_told_until_it_is_over,
    a_lost_lease_writes_no_trouble,
    what_may_be_claimed_follows_from_what_is_known,
    what_came_last_is_told,
);

const LEASE: &str = "probe";
const MINUTE: i64 = 60_000;

fn finding(name: &str, since: i64, seen_at: i64, detail: &str) -> Finding {
    let at = |millis: i64| NOW.plus(millis).to_string();
    Finding {
        name: name.into(),
        severity: "warning".into(),
        since: at(since),
        seen_at: at(seen_at),
        detail: detail.into(),
    }
}

async fn a_trouble_is_told_until_it_is_over(db: &Db) {
    let mut writer = db.writer().await;
    let fence = writer.take_lease(LEASE, "one", NOW, MINUTE).await.unwrap().unwrap();
    assert_eq!(db.store.findings().await.unwrap(), []);
    assert!(!writer.clear_finding("silence", &fence).await.unwrap(), "there was none");
    assert!(writer.raise_finding("silence", NOW.plus(-5), "nothing came", NOW, &fence).await.unwrap());
    assert!(writer.raise_finding("counts-differ", NOW, "users: 2 and 1", NOW, &fence).await.unwrap());
    let later = NOW.plus(7);
    let again = writer.raise_finding("silence", later, "still nothing", later, &fence).await.unwrap();
    assert!(!again, "it was known");
    let expected = [finding("counts-differ", 0, 0, "users: 2 and 1"), finding("silence", -5, 7, "still nothing")];
    assert_eq!(db.store.findings().await.unwrap(), expected);
    assert!(writer.clear_finding("silence", &fence).await.unwrap());
    assert!(!writer.clear_finding("silence", &fence).await.unwrap(), "it is over already");
    assert_eq!(db.store.findings().await.unwrap(), expected[..1]);
    assert!(writer.raise_finding("silence", later, "again", later, &fence).await.unwrap(), "it begins anew");
    assert_eq!(db.store.findings().await.unwrap()[1], finding("silence", 7, 7, "again"));
}

/// I13: whoever lost the lease neither raises nor clears.
async fn a_lost_lease_writes_no_trouble(db: &Db) {
    let (mut one, mut other) = (db.writer().await, db.store.writer());
    let lost = one.take_lease(LEASE, "one", NOW, MINUTE).await.unwrap().unwrap();
    let newest = other.take_lease(LEASE, "other", NOW.plus(MINUTE), MINUTE).await.unwrap().unwrap();
    let raised = one.raise_finding("silence", NOW, "", NOW, &lost).await;
    assert!(matches!(raised, Err(Error::LeaseLost(LEASE))), "{raised:?}");
    assert_eq!(db.store.findings().await.unwrap(), []);
    assert!(other.raise_finding("silence", NOW, "", NOW, &newest).await.unwrap());
    let cleared = one.clear_finding("silence", &lost).await;
    assert!(matches!(cleared, Err(Error::LeaseLost(LEASE))), "{cleared:?}");
    assert_eq!(db.store.findings().await.unwrap().len(), 1);
}

/// A user is delivered: it happened at moment `n` and arrives at `received_at`.
fn arrives(id: &str, n: i64, received_at: Millis) -> Arrival {
    let name = format!("user_{id}");
    Arrival { received_at, ..event(&format!("msg_{id}"), "user.created", n, &user(&name, n, "U", &json!({}))) }
}

/// Deliveries carry the time forward, but not past what is known to be missing; a proof is all that counts once there is one.
async fn what_may_be_claimed_follows_from_what_is_known(db: &Db) {
    let mut writer = db.writer().await;
    let fence = writer.take_lease(LEASE, "one", NOW, MINUTE).await.unwrap().unwrap();
    let claimed = async |as_of: Option<Millis>, basis: Basis| {
        let freshness = db.store.freshness().await.unwrap();
        assert_eq!((freshness.as_of, freshness.basis), (as_of, basis));
        let standing = db.store.standing(&UserId::parse("user_1").unwrap(), None).await.unwrap();
        assert_eq!(standing.freshness, freshness, "the same, wherever it is read");
    };
    assert_eq!(db.store.freshness().await.unwrap(), Freshness::default());
    writer.raise_finding(UNDELIVERED, Millis(at(1)), "", NOW, &fence).await.unwrap();
    claimed(None, Basis::None).await;
    writer.clear_finding(UNDELIVERED, &fence).await.unwrap();

    deliver(&mut writer, arrives("1", 1, Millis(at(10)))).await;
    claimed(Some(Millis(at(10))), Basis::Delivered).await;
    for name in [UNDELIVERED, COUNTS_DIFFER] {
        writer.raise_finding(name, Millis(at(5)), "", NOW, &fence).await.unwrap();
        claimed(Some(Millis(at(5))), Basis::Delivered).await;
        writer.clear_finding(name, &fence).await.unwrap();
        claimed(Some(Millis(at(10))), Basis::Delivered).await;
    }
    // What began after the newest delivery takes nothing back; what says nothing about the copy does not either.
    writer.raise_finding(UNDELIVERED, Millis(at(15)), "", NOW, &fence).await.unwrap();
    writer.raise_finding("silence", Millis(at(2)), "", NOW, &fence).await.unwrap();
    claimed(Some(Millis(at(10))), Basis::Delivered).await;
    deliver(&mut writer, arrives("2", 18, Millis(at(20)))).await;
    claimed(Some(Millis(at(15))), Basis::Delivered).await;

    let id = writer.begin_sweep("reconcile", "{}", NOW, &fence).await.unwrap();
    writer.finish_sweep(id, &Progress::default(), "exact", Some(Millis(at(12))), NOW, &fence).await.unwrap();
    claimed(Some(Millis(at(12))), Basis::Reconciled).await;
    deliver(&mut writer, arrives("3", 28, Millis(at(30)))).await;
    claimed(Some(Millis(at(12))), Basis::Reconciled).await;
}

async fn what_came_last_is_told(db: &Db) {
    let mut writer = db.writer().await;
    assert_eq!(db.store.last_arrivals(5).await.unwrap(), []);
    for n in 1..=4 {
        deliver(&mut writer, arrives(&n.to_string(), n, Millis(at(10 - n)))).await;
    }
    let arrived = |n: i64| Arrived { received_at: Millis(at(10 - n)), event_at: Some(Millis(at(n))) };
    assert_eq!(db.store.last_arrivals(3).await.unwrap(), [1, 2, 3].map(arrived));
    learn(&mut writer, token("org_9", "user_9", 9)).await;
    let confirmed = db.store.confirmed().await.unwrap();
    assert_eq!(confirmed, Swept::ALL.map(|kind| (kind, if kind == Swept::User { 4 } else { 0 })));
    assert_eq!(db.store.shown(Swept::User).await.unwrap(), 5, "one of them only a token speaks for");
}

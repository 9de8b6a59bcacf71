//! Where destinations stand, who waits there, and what they are told.

use std::collections::BTreeSet;

use faircopy_core::Millis;
use faircopy_core::destination::{Change, Entity, Operation, Place, Resend, Settled, Subject, Sweep, Waiting};
use faircopy_store::{Declared, Destination, DestinationOrder, DestinationStanding, Error, Fence, Trouble, Writer};

use crate::db::{Db, deliver};
use crate::rls::people;
use crate::say::{NOW, event, gone};

on_both_engines!(
    a_destination_begins_with_everything,
    what_came_of_a_batch_is_written_as_a_whole,
    an_order_goes_before_what_was_under_way,
    a_lost_lease_writes_nothing,
    rows_are_found_by_subject_and_walked_by_page,
    the_feed_is_read_as_changes,
);

const MINUTE: i64 = 60_000;

async fn lease(writer: &mut Writer) -> Fence {
    writer.take_lease("destinations", "one", NOW, MINUTE).await.unwrap().unwrap()
}

async fn declared(db: &Db) -> (Writer, Fence) {
    let mut writer = db.writer().await;
    let fence = lease(&mut writer).await;
    people(&mut writer).await;
    writer.declare_destination("crm", "webhook", "here", NOW, &fence).await.unwrap();
    (writer, fence)
}

async fn standing(db: &Db) -> DestinationStanding {
    db.store.destination("crm").await.unwrap().unwrap()
}

fn user(id: &str) -> Subject {
    Subject { entity: Entity::User, id: id.into() }
}

fn change(sequence: i64, id: &str) -> Change {
    Change { sequence, subject: user(id), operation: Operation::Put, changed_at: NOW, is_resend: false }
}

fn waits(sequence: i64, id: &str, due_at: Option<Millis>) -> Waiting {
    Waiting { change: change(sequence, id), attempts: 1, due_at, since: NOW, error: "status 500".into() }
}

/// The same at another place.
fn at(standing: &DestinationStanding, sequence: i64) -> Destination {
    let place = Place { sequence, resend: None, sweep: None };
    Destination { place, ..standing.destination.clone() }
}

async fn a_destination_begins_with_everything(db: &Db) {
    let mut writer = db.writer().await;
    let fence = lease(&mut writer).await;
    assert_eq!(db.store.destinations().await.unwrap(), []);
    people(&mut writer).await;
    let newest = db.sequence().await;
    let declare = async |writer: &mut Writer, target: &str, now| {
        writer.declare_destination("crm", "webhook", target, now, &fence).await.unwrap()
    };
    assert_eq!(declare(&mut writer, "here", NOW).await, Declared::Begins);
    let resend = Resend { number: newest, began_at: NOW, entity: Entity::User, after: String::new() };
    let begun = standing(db).await;
    assert_eq!(begun.destination.place, Place { sequence: 0, resend: Some(resend.clone()), sweep: None });
    assert_eq!((begun.newest, begun.forgotten, begun.destination.runs), (newest, 0, 1));
    assert_eq!(begun.oldest_at, Some(NOW));
    assert_eq!(declare(&mut writer, "here", NOW.plus(1)).await, Declared::Known);
    assert_eq!(standing(db).await, begun, "nothing has changed");

    let settled = Settled { waiting: vec![waits(1, "user_ada", Some(NOW))], ..Settled::default() };
    assert!(writer.settle_destination(&at(&begun, newest), &settled, Some(&fence)).await.unwrap());
    assert_eq!(standing(db).await.waiting, 1);
    assert_eq!(standing(db).await.oldest_at, None, "it has everything");
    assert_eq!(declare(&mut writer, "elsewhere", NOW.plus(2)).await, Declared::Begins);
    let anew = standing(db).await;
    assert_eq!(anew.destination.place.resend, Some(Resend { began_at: NOW.plus(2), ..resend }));
    assert_eq!((anew.waiting, anew.destination.runs, anew.destination.revision), (0, 2, 1));
}

async fn what_came_of_a_batch_is_written_as_a_whole(db: &Db) {
    let (mut writer, fence) = declared(db).await;
    let before = standing(db).await;
    let trouble = Some(Trouble { failures: 3, since: NOW.plus(-5), error: "no connection".into() });
    let sweep = Some(Sweep { number: 7, began_at: NOW });
    let place = Place { sequence: 9, resend: None, sweep };
    let after = Destination { place, trouble, last_ok_at: Some(NOW.plus(-9)), ..before.destination.clone() };
    let first = Settled {
        waiting: vec![waits(5, "a", Some(NOW.plus(MINUTE))), waits(6, "b", Some(NOW)), waits(7, "c", None)],
        ..Settled::default()
    };
    assert!(writer.settle_destination(&after, &first, Some(&fence)).await.unwrap());
    let now = standing(db).await;
    assert_eq!(now.destination, after);
    assert_eq!((now.waiting, now.parked, now.due_at), (2, 1, Some(NOW)));
    assert_eq!(db.store.waiting_due("crm", NOW, 9).await.unwrap(), [waits(6, "b", Some(NOW))]);
    assert_eq!(db.store.waiting_due("other", NOW, 9).await.unwrap(), []);
    let all: Vec<String> =
        db.store.waiting_at("crm", 9).await.unwrap().into_iter().map(|waiting| waiting.change.subject.id).collect();
    assert_eq!(all, ["c", "b", "a"], "the parked first");
    let asked = ["user/a", "user/c", "user/x"].map(str::to_owned);
    assert_eq!(db.store.waiting_among("crm", &asked).await.unwrap(), BTreeSet::from([user("a"), user("c")]));

    let removal = Change { operation: Operation::Remove, ..change(12, "a") };
    let again =
        Waiting { attempts: 2, due_at: None, since: NOW.plus(99), error: "status 400".into(), ..waits(6, "b", None) };
    let second = Settled {
        cleared: vec![user("c"), user("x")],
        waiting: vec![again],
        held: vec![removal.clone(), change(2, "b")],
        ..Settled::default()
    };
    assert!(writer.settle_destination(&after, &second, Some(&fence)).await.unwrap());
    let kept = db.store.waiting_at("crm", 9).await.unwrap();
    let again = Waiting { attempts: 2, due_at: None, error: "status 400".into(), ..waits(6, "b", None) };
    let held = Waiting { change: removal, ..waits(5, "a", Some(NOW.plus(MINUTE))) };
    assert_eq!(kept, [again, held], "since when it waits stays, and what is older changes nothing");
}

async fn an_order_goes_before_what_was_under_way(db: &Db) {
    let (mut writer, fence) = declared(db).await;
    let order = async |order| db.store.writer().order_destination("crm", order, NOW.plus(7)).await.unwrap();
    let before = standing(db).await;
    assert!(!order(DestinationOrder::Rewind(0)).await, "everything is being sent");
    assert!(order(DestinationOrder::Pause).await);
    assert!(!order(DestinationOrder::Pause).await, "it is");
    let settled = Settled { waiting: vec![waits(1, "a", None)], ..Settled::default() };
    assert!(!writer.settle_destination(&at(&before, 9), &settled, Some(&fence)).await.unwrap());
    let paused = standing(db).await;
    assert!(paused.destination.is_paused && paused.parked == 0);
    assert_eq!(paused.destination.place, before.destination.place, "nothing was written");

    assert!(writer.settle_destination(&at(&paused, 9), &settled, Some(&fence)).await.unwrap());
    assert!(!order(DestinationOrder::Rewind(10)).await, "it is not so far");
    assert!(order(DestinationOrder::Rewind(4)).await);
    assert!(order(DestinationOrder::Resume).await);
    let resumed = standing(db).await;
    assert_eq!((resumed.destination.place.sequence, resumed.destination.is_paused), (4, false));
    assert_eq!((resumed.waiting, resumed.parked, resumed.due_at), (1, 0, Some(NOW.plus(7))));
    assert_eq!(db.store.waiting_at("crm", 9).await.unwrap()[0].attempts, 0);
    assert!(order(DestinationOrder::Resend).await);
    let resent = standing(db).await;
    let number = db.sequence().await;
    let resend = Resend { number, began_at: NOW.plus(7), entity: Entity::User, after: String::new() };
    assert_eq!(resent.destination.place.resend, Some(resend));
    assert_eq!((resent.waiting, resent.destination.runs, resent.destination.place.sequence), (0, 2, 4));
    let nobody = db.store.writer().order_destination("nobody", DestinationOrder::Resend, NOW).await.unwrap();
    assert!(!nobody);
}

/// I13: whoever lost the lease writes nothing down.
async fn a_lost_lease_writes_nothing(db: &Db) {
    let (mut one, lost) = declared(db).await;
    let before = standing(db).await;
    let mut other = db.store.writer();
    other.take_lease("destinations", "other", NOW.plus(MINUTE), MINUTE).await.unwrap().unwrap();
    let settled = one.settle_destination(&at(&before, 9), &Settled::default(), Some(&lost)).await;
    assert!(matches!(settled, Err(Error::LeaseLost("destinations"))), "{settled:?}");
    let declared = one.declare_destination("crm", "webhook", "elsewhere", NOW, &lost).await;
    assert!(matches!(declared, Err(Error::LeaseLost("destinations"))), "{declared:?}");
    assert_eq!(standing(db).await, before);
}

async fn rows_are_found_by_subject_and_walked_by_page(db: &Db) {
    let (_writer, _) = declared(db).await;
    for (entity, table) in [
        (Entity::User, "users"),
        (Entity::Organization, "organizations"),
        (Entity::Member, "organization_members"),
        (Entity::Invitation, "organization_invitations"),
        (Entity::Workspace, "workspaces"),
    ] {
        let mut all = db.store.public_rows(table).await.unwrap();
        assert!(all.len() >= 2, "{table}");
        let mut walked = Vec::new();
        let mut after = String::new();
        loop {
            let page = db.store.rows_after(entity, &after, 2).await.unwrap();
            let Some((last, _)) = page.last() else { break };
            after = last.clone();
            walked.extend(page);
        }
        // The order of a walk is the database's own.
        walked.sort_by(|(one, _), (other, _)| one.cmp(other));
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        assert_eq!(walked, all, "{table}");
    }
    let asked = [
        user("user_ada"),
        user("user_nobody"),
        Subject { entity: Entity::Member, id: "org_a/user_dan".into() },
        // Each half is there, and the pair is not.
        Subject { entity: Entity::Member, id: "org_b/user_ada".into() },
        Subject { entity: Entity::Organization, id: "org_b".into() },
    ];
    let found = db.store.rows_of(&asked).await.unwrap();
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[&asked[0]]["first_name"], "ada");
    assert_eq!(found[&asked[2]]["role"], "org:member");
    assert_eq!(found[&asked[4]]["name"], "org_b");
    assert!(db.store.rows_of(&[]).await.unwrap().is_empty());
}

async fn the_feed_is_read_as_changes(db: &Db) {
    let (mut writer, _) = declared(db).await;
    let before = db.sequence().await;
    deliver(&mut writer, event("msg_gone", "user.deleted", 9, &gone("user", "user_cyd"))).await;
    let changes = db.store.feed_after(before, 99).await.unwrap();
    let read: Vec<String> =
        changes.iter().map(|change| format!("{} {}", change.operation.as_str(), change.subject)).collect();
    assert!(read.contains(&"remove user/user_cyd".to_owned()), "{read:?}");
    assert!(read.contains(&"remove member/org_b/user_cyd".to_owned()), "{read:?}");
    assert!(changes.iter().all(|change| change.changed_at == NOW && !change.is_resend));
    assert!(changes.iter().map(|change| change.sequence).eq(before + 1..=db.sequence().await));
    assert_eq!(db.store.feed_after(before, 1).await.unwrap().len(), 1);
}

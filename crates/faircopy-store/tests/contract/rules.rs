//! Workspaces, deletions, generations of a membership, expiry.

use faircopy_core::{Millis, WorkspaceMode};
use faircopy_store::{Arrival, Outcome, Writer};
use serde_json::{Value, json};

use crate::db::{Db, commit, commit_at, deliver};
use crate::say::{NOW, at, event, gone, invitation, member, organization, user};

on_both_engines!(
    a_users_workspace,
    an_organization_takes_its_rows_along,
    a_user_takes_its_memberships_along,
    a_membership_may_end_by_its_id_alone,
    who_joins_again_is_a_member_again,
    invitations_expire,
);

const CREATED: &str = "organizationMembership.created";
const UPDATED: &str = "organizationMembership.updated";
const DELETED: &str = "organizationMembership.deleted";

/// Delivers events under numbers of their own.
struct Teller<'a> {
    db: &'a Db,
    writer: Writer,
    number: usize,
}

impl<'a> Teller<'a> {
    async fn new(db: &'a Db) -> Self {
        Self { db, writer: db.writer().await, number: 0 }
    }

    async fn in_mode(db: &'a Db, mode: WorkspaceMode) -> Self {
        drop(db.writer().await);
        Self { db, writer: db.store.clone().with_workspaces(mode).writer(), number: 0 }
    }

    fn event(&mut self, event_type: &str, n: i64, data: &Value) -> Arrival {
        self.number += 1;
        event(&format!("msg_{}", self.number), event_type, n, data)
    }

    /// Delivers one event and returns what became of it and what the feed said.
    async fn tell(&mut self, event_type: &str, n: i64, data: &Value) -> (Outcome, Vec<String>) {
        let before = self.db.sequence().await;
        let arrival = self.event(event_type, n, data);
        let receipt = deliver(&mut self.writer, arrival).await;
        assert_eq!(receipt.sequence, self.db.sequence().await);
        (receipt.outcome, self.db.said_since(before).await)
    }
}

/// Where organizations have no workspaces of their own.
async fn a_users_workspace(db: &Db) {
    let mut teller = Teller::in_mode(db, WorkspaceMode::Off).await;
    let workspace = async || db.tables().await.users["user_a"].workspace_id.clone();
    let linked = |link: &str| json!({"workspaceId": link});
    teller.tell("organization.created", 1, &organization("org_old", 1, "Old", &json!({}))).await;
    teller.tell("organization.created", 1, &organization("org_mid", 1, "Mid", &linked("w_mid"))).await;
    teller.tell(CREATED, 2, &member("orgmem_mid", "org_mid", "user_a", 2, 2, "org:member")).await;
    // The user comes after its membership.
    let own = json!({"convexWorkspaceId": "w_second", "workspaceId": "w_first"});
    teller.tell("user.created", 3, &user("user_a", 3, "A", &own)).await;
    assert_eq!(workspace().await.as_deref(), Some("w_first"));
    teller.tell("user.updated", 4, &user("user_a", 4, "A", &json!({"convexWorkspaceId": "w_second"}))).await;
    assert_eq!(workspace().await.as_deref(), Some("w_second"));
    teller.tell("user.updated", 5, &user("user_a", 5, "A", &json!({"workspaceId": ""}))).await;
    assert_eq!(workspace().await.as_deref(), Some("w_mid"));

    // Literally the oldest membership, even where its organization has no workspace.
    let (_, said) = teller.tell(CREATED, 6, &member("orgmem_old", "org_old", "user_a", 1, 6, "org:member")).await;
    assert_eq!(said, ["put member org_old/user_a", "put user user_a"]);
    assert_eq!(workspace().await, None);
    // A link that appears, changes and goes again.
    let (_, said) = teller.tell("organization.updated", 7, &organization("org_old", 7, "Old", &linked("w_old"))).await;
    assert_eq!(said, ["put organization org_old", "put user user_a"]);
    assert_eq!(workspace().await.as_deref(), Some("w_old"));
    teller.tell("organization.updated", 8, &organization("org_old", 8, "Old", &linked("w_new"))).await;
    assert_eq!(workspace().await.as_deref(), Some("w_new"));
    teller.tell("organization.updated", 9, &organization("org_old", 9, "Old", &json!({}))).await;
    assert_eq!(workspace().await, None);
    // What is not the oldest does not matter.
    let (_, said) = teller.tell("organization.updated", 9, &organization("org_mid", 9, "Mid", &linked("w_mid2"))).await;
    assert_eq!(said, ["put organization org_mid"]);
    // The oldest ends: the next one is the oldest.
    let (_, said) = teller.tell(DELETED, 10, &member("orgmem_old", "org_old", "user_a", 1, 6, "org:member")).await;
    assert_eq!(said, ["put user user_a", "remove member org_old/user_a"]);
    assert_eq!(workspace().await.as_deref(), Some("w_mid2"));
    // The organization of the last one is deleted.
    teller.tell("organization.deleted", 11, &gone("organization", "org_mid")).await;
    assert_eq!(workspace().await, None);
    // A user's own link is not touched by any of that.
    teller.tell("user.updated", 12, &user("user_a", 12, "A", &linked("w_own"))).await;
    let (_, said) = teller.tell(CREATED, 13, &member("orgmem_old2", "org_old", "user_a", 13, 13, "org:member")).await;
    assert_eq!(said, ["put member org_old/user_a"]);
    assert_eq!(workspace().await.as_deref(), Some("w_own"));
}

async fn an_organization_takes_its_rows_along(db: &Db) {
    let mut teller = Teller::new(db).await;
    for name in ["a", "b"] {
        let (id, pair) = (format!("user_{name}"), format!("orgmem_{name}"));
        teller.tell("user.created", 1, &user(&id, 1, name, &json!({}))).await;
        teller.tell(CREATED, 2, &member(&pair, "org_x", &id, 2, 2, "org:member")).await;
    }
    teller.tell("organization.created", 1, &organization("org_x", 1, "X", &json!({"workspaceId": "w_x"}))).await;
    teller.tell("organizationInvitation.created", 2, &invitation("orginv_x", "org_x", 2, 99, "pending")).await;
    let (outcome, said) = teller.tell("organization.deleted", 5, &gone("organization", "org_x")).await;
    assert_eq!(outcome, Outcome::Applied);
    let expected = [
        "put user user_a",
        "put user user_b",
        "put workspace org_x",
        "remove invitation orginv_x",
        "remove member org_x/user_a",
        "remove member org_x/user_b",
        "remove organization org_x",
    ];
    assert_eq!(said, expected);
    let registers = async || db.sql("SELECT subject FROM {s}registers ORDER BY subject").await;
    let left = ["org_x", "user_a", "user_b"].map(|subject| Some(subject.to_owned()));
    assert_eq!(registers().await, left);

    // Whatever comes late is absorbed, however new it looks.
    let mut embedding = member("orgmem_e", "org_x", "user_b", 9, 9, "org:member");
    embedding["organization"] = organization("org_x", 9, "X", &json!({}));
    embedding["public_user_data"] = json!({"user_id": "user_b"});
    let late = [
        (UPDATED, member("orgmem_a", "org_x", "user_a", 2, 9, "org:admin")),
        (CREATED, member("orgmem_new", "org_x", "user_b", 9, 9, "org:member")),
        (CREATED, embedding),
        (DELETED, member("orgmem_a", "org_x", "user_a", 2, 9, "org:admin")),
        ("organization.updated", organization("org_x", 9, "X", &json!({}))),
        ("organizationInvitation.created", invitation("orginv_late", "org_x", 9, 99, "pending")),
        ("organizationInvitation.accepted", invitation("orginv_x", "org_x", 9, 99, "accepted")),
        ("organization.deleted", gone("organization", "org_x")),
    ];
    for (event_type, data) in late {
        assert_eq!(teller.tell(event_type, 9, &data).await, (Outcome::Stale, vec![]), "{event_type}");
    }
    assert_eq!(registers().await, left);
}

async fn a_user_takes_its_memberships_along(db: &Db) {
    let mut teller = Teller::new(db).await;
    teller.tell("user.created", 1, &user("user_a", 1, "A", &json!({}))).await;
    for name in ["x", "y"] {
        let (id, pair) = (format!("org_{name}"), format!("orgmem_{name}"));
        teller.tell("organization.created", 1, &organization(&id, 1, name, &json!({}))).await;
        teller.tell(CREATED, 2, &member(&pair, &id, "user_a", 2, 2, "org:member")).await;
    }
    let (outcome, said) = teller.tell("user.deleted", 5, &gone("user", "user_a")).await;
    assert_eq!(outcome, Outcome::Applied);
    assert_eq!(said, ["remove member org_x/user_a", "remove member org_y/user_a", "remove user user_a"]);
    let registers = async || db.sql("SELECT subject FROM {s}registers ORDER BY subject").await;
    let left = ["org_x", "org_y", "user_a"].map(|subject| Some(subject.to_owned()));
    assert_eq!(registers().await, left);
    let mut embedding = member("orgmem_e", "org_x", "user_a", 9, 9, "org:member");
    embedding["public_user_data"] = json!({"user_id": "user_a", "first_name": "A", "identifier": "a@mail.example"});
    let late = [
        (UPDATED, member("orgmem_x", "org_x", "user_a", 2, 9, "org:admin")),
        (CREATED, embedding),
        (DELETED, member("orgmem_x", "org_x", "user_a", 2, 9, "org:admin")),
        ("user.updated", user("user_a", 9, "A", &json!({}))),
        ("user.deleted", gone("user", "user_a")),
    ];
    for (event_type, data) in late {
        assert_eq!(teller.tell(event_type, 9, &data).await, (Outcome::Stale, vec![]), "{event_type}");
    }
    assert_eq!(registers().await, left);
    // A deletion that comes first, and all of it in one batch.
    let batch = [
        teller.event("user.deleted", 5, &gone("user", "user_b")),
        teller.event("user.created", 1, &user("user_b", 1, "B", &json!({}))),
        teller.event(CREATED, 2, &member("orgmem_b", "org_x", "user_b", 2, 2, "org:member")),
    ];
    commit(&mut teller.writer, &batch).await;
    assert!(db.tables().await.users.is_empty() && db.tables().await.members.is_empty());
}

/// Every order of these.
fn orders<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    if items.is_empty() {
        return vec![vec![]];
    }
    let mut all = Vec::new();
    for place in 0..items.len() {
        let mut rest = items.to_vec();
        let first = rest.remove(place);
        all.extend(orders(&rest).into_iter().map(|order| [vec![first.clone()], order].concat()));
    }
    all
}

/// Type, moment, and the data for a pair of this name.
type OfPair = (&'static str, i64, fn(&str) -> Value);

/// Delivers a pair's events in every order, once in one batch and once each on its own, and returns the membership that
/// the pair shows in each case.
async fn in_every_order(db: &Db, events: &[OfPair]) -> Vec<Option<String>> {
    let mut teller = Teller::new(db).await;
    let mut pairs = Vec::new();
    for (number, order) in orders(events).iter().enumerate() {
        for together in [false, true] {
            let pair = format!("{number}{together}");
            let batch: Vec<Arrival> =
                order.iter().map(|(event_type, n, data)| teller.event(event_type, *n, &data(&pair))).collect();
            if together {
                commit(&mut teller.writer, &batch).await;
            } else {
                for arrival in batch {
                    deliver(&mut teller.writer, arrival).await;
                }
            }
            pairs.push(pair);
        }
    }
    let tables = db.tables().await;
    pairs
        .iter()
        .map(|pair| {
            let member = tables.members.get(&("org_x".to_owned(), format!("user_{pair}")))?;
            Some(member.clerk_membership_id.clone()?.replace(pair.as_str(), "") + member.role.as_deref()?)
        })
        .collect()
}

fn first(pair: &str) -> Value {
    member(&format!("orgmem_1{pair}"), "org_x", &format!("user_{pair}"), 1, 1, "org:member")
}

fn first_changed(pair: &str) -> Value {
    member(&format!("orgmem_1{pair}"), "org_x", &format!("user_{pair}"), 1, 2, "org:guest")
}

fn first_gone(pair: &str) -> Value {
    gone("organization_membership", &format!("orgmem_1{pair}"))
}

fn second(pair: &str) -> Value {
    member(&format!("orgmem_2{pair}"), "org_x", &format!("user_{pair}"), 4, 4, "org:admin")
}

async fn a_membership_may_end_by_its_id_alone(db: &Db) {
    let shown = in_every_order(db, &[(CREATED, 1, first), (UPDATED, 2, first_changed), (DELETED, 3, first_gone)]).await;
    assert_eq!(shown.len(), 12);
    assert!(shown.iter().all(Option::is_none), "{shown:?}");
}

async fn who_joins_again_is_a_member_again(db: &Db) {
    for (ended, name) in [(first as fn(&str) -> Value, "full"), (first_gone, "thin")] {
        let history = [(CREATED, 1, first as fn(&str) -> Value), (DELETED, 3, ended), (CREATED, 4, second)];
        let shown = in_every_order(db, &history).await;
        assert_eq!(shown.len(), 12);
        assert!(shown.iter().all(|row| row.as_deref() == Some("orgmem_2org:admin")), "{name}: {shown:?}");
        db.sql("DELETE FROM {s}organization_members; DELETE FROM {s}registers").await;
        db.sql("DELETE FROM {s}webhook_deliveries").await;
    }
}

async fn invitations_expire(db: &Db) {
    let mut teller = Teller::new(db).await;
    let status = async |id: &str| db.tables().await.invitations[id].status.clone().unwrap();
    teller.tell("organization.created", 1, &organization("org_x", 1, "X", &json!({}))).await;
    // Committed at a time at which it is still open.
    let open = teller.event("organizationInvitation.created", 1, &invitation("orginv_a", "org_x", 1, 50, "pending"));
    commit_at(&mut teller.writer, std::slice::from_ref(&open), Millis(at(2))).await;
    let settled =
        teller.event("organizationInvitation.accepted", 1, &invitation("orginv_b", "org_x", 1, 50, "accepted"));
    commit_at(&mut teller.writer, &[settled], Millis(at(2))).await;
    assert_eq!(status("orginv_a").await, "pending");
    assert_eq!(teller.writer.expire_invitations(Millis(at(50) - 1)).await.unwrap(), 0);
    let before = db.sequence().await;
    assert_eq!(teller.writer.expire_invitations(Millis(at(50))).await.unwrap(), 1);
    assert_eq!(db.said_since(before).await, ["put invitation orginv_a"]);
    assert_eq!(teller.writer.expire_invitations(Millis(at(60))).await.unwrap(), 0);
    assert_eq!((status("orginv_a").await, status("orginv_b").await), ("expired".to_owned(), "accepted".to_owned()));
    // Its creation comes again, and it stays what it is; that it was accepted in time is news.
    let before = db.sequence().await;
    commit_at(&mut teller.writer, &[open], Millis(at(61))).await;
    assert_eq!(db.said_since(before).await, Vec::<String>::new());
    assert_eq!(status("orginv_a").await, "expired");
    let accepted = invitation("orginv_a", "org_x", 40, 50, "accepted");
    assert_eq!(teller.tell("organizationInvitation.accepted", 40, &accepted).await.0, Outcome::Applied);
    assert_eq!(status("orginv_a").await, "accepted");
    // One that arrives when its time is over, and more than fit in one transaction.
    teller.tell("organizationInvitation.created", 1, &invitation("orginv_late", "org_x", 1, 50, "pending")).await;
    assert_eq!(status("orginv_late").await, "expired");
    let many: Vec<Arrival> = (0..520)
        .map(|number| {
            let data = invitation(&format!("orginv_many{number}"), "org_x", 1, 50, "pending");
            teller.event("organizationInvitation.created", 1, &data)
        })
        .collect();
    commit_at(&mut teller.writer, &many, Millis(at(2))).await;
    let mut expired = Vec::new();
    loop {
        match teller.writer.expire_invitations(NOW).await.unwrap() {
            0 => break,
            count => expired.push(count),
        }
    }
    assert_eq!((expired.len(), expired.iter().sum::<usize>()), (2, 520));
    assert!(db.tables().await.invitations.values().all(|row| row.status.as_deref() != Some("pending")));
    db.feed().await;
}

//! Rows that only a token speaks for: they are found, become what Clerk says, or go.

use faircopy_core::Millis;
use faircopy_core::event::{Fact, Observation};
use faircopy_core::id::{OrganizationId, UserId};
use faircopy_core::record::{Member, Organization, Provenance, Stamp, User};
use faircopy_store::{Item, Of, Provisional, Writer};
use serde_json::json;

use crate::db::{Db, deliver};
use crate::say::{NOW, at, event, member, organization, user};

on_both_engines!(provisional_rows_are_found_page_by_page, what_is_not_found_goes_alone, the_server_is_new_enough,);

fn ids(organization: &str, user: &str) -> (OrganizationId, UserId) {
    (OrganizationId::parse(organization).unwrap(), UserId::parse(user).unwrap())
}

/// What an administrator's token of this moment says.
pub(crate) fn token(organization: &str, user: &str, n: i64) -> Vec<Observation> {
    token_of(organization, user, n, None, "org:admin")
}

/// What a token of this moment says.
pub(crate) fn token_of(organization: &str, user: &str, n: i64, slug: Option<&str>, role: &str) -> Vec<Observation> {
    let (organization, user) = ids(organization, user);
    let stamp = Stamp { updated_at: Millis(0), event_at: Millis(at(n)), hash: 1 };
    let person = User { id: user.clone(), profile: None, linked_workspace: None, created_at: None, updated_at: None };
    let placeholder = Organization {
        id: organization.clone(),
        name: None,
        slug: slug.map(Into::into),
        image_url: None,
        created_by: None,
        settings: json!({}),
        created_at: None,
        updated_at: None,
    };
    let member = Member {
        organization,
        user,
        membership: None,
        role: Some(role.into()),
        permissions: vec![],
        created_at: None,
        updated_at: None,
    };
    let facts = [
        Fact::PartOfUser(person, stamp),
        Fact::PartOfOrganization(placeholder, stamp),
        Fact::TokenMember(member, Millis(at(n))),
    ];
    let source = Provenance::Token;
    facts.into_iter().map(|fact| Observation { source, fact }).collect()
}

pub(crate) async fn learn(writer: &mut Writer, observations: Vec<Observation>) {
    writer.commit(&[Item::Learned(observations)], NOW).await.unwrap();
}

async fn api(writer: &mut Writer, fact: Fact) {
    learn(writer, vec![Observation { source: Provenance::Api, fact }]).await;
}

async fn provisional_rows_are_found_page_by_page(db: &Db) {
    let mut writer = db.writer().await;
    assert!(db.store.provisional(&Provisional::default(), 10).await.unwrap().is_empty());
    for name in ["a", "b", "c"] {
        learn(&mut writer, token("org_1", &format!("user_{name}"), 1)).await;
    }
    let first = db.store.provisional(&Provisional::default(), 2).await.unwrap();
    assert_eq!(first.users, ["user_a", "user_b"].map(|id| UserId::parse(id).unwrap()));
    assert_eq!(first.members, [ids("org_1", "user_a"), ids("org_1", "user_b")]);
    let second = db.store.provisional(&first, 2).await.unwrap();
    assert_eq!((second.users.len(), second.organizations.len()), (1, 0));
    assert_eq!(second.members, [ids("org_1", "user_c")]);

    deliver(&mut writer, event("msg_1", "user.created", 1, &user("user_a", 1, "A", &json!({})))).await;
    deliver(&mut writer, event("msg_2", "organization.created", 1, &organization("org_1", 1, "One", &json!({})))).await;
    let row = member("orgmem_1", "org_1", "user_a", 1, 1, "org:member");
    deliver(&mut writer, event("msg_3", "organizationMembership.created", 1, &row)).await;
    let left = db.store.provisional(&Provisional::default(), 10).await.unwrap();
    assert_eq!((left.users.len(), left.organizations.len(), left.members.len()), (2, 0, 2));

    let (one, user_a) = ids("org_1", "user_a");
    assert_eq!(db.store.pairs(Of::Organization(&one), 10).await.unwrap().len(), 3);
    assert_eq!(db.store.pairs(Of::Organization(&one), 2).await.unwrap().len(), 2);
    assert_eq!(db.store.pairs(Of::User(&user_a), 10).await.unwrap(), [(one.clone(), user_a.clone())]);
    assert!(db.store.has_member(&(one.clone(), user_a)).await.unwrap());
    assert!(!db.store.has_member(&(one, UserId::parse("user_x").unwrap())).await.unwrap());
}

/// A user or an organization that Clerk does not find is withdrawn where only a part of it was known; memberships are their
/// own affair, what is known in full stays, and the change feed says exactly what changed.
async fn what_is_not_found_goes_alone(db: &Db) {
    let mut writer = db.writer().await;
    learn(&mut writer, token("org_1", "user_a", 10)).await;
    let row = member("orgmem_1", "org_1", "user_b", 1, 1, "org:member");
    deliver(&mut writer, event("msg_1", "organizationMembership.created", 1, &row)).await;
    let (organization_id, user_id) = ids("org_1", "user_a");

    let before = db.sequence().await;
    api(&mut writer, Fact::UserNotFound(user_id.clone(), Millis(at(9)))).await;
    assert_eq!(db.sequence().await, before, "the token is younger");
    api(&mut writer, Fact::UserNotFound(user_id.clone(), Millis(at(10)))).await;
    api(&mut writer, Fact::OrganizationNotFound(organization_id.clone(), Millis(at(10)))).await;
    assert_eq!(db.said_since(before).await, ["put workspace org_1", "remove organization org_1", "remove user user_a"]);
    let tables = db.tables().await;
    assert!(tables.users.is_empty() && tables.organizations.is_empty());
    assert_eq!(tables.members.len(), 2, "memberships speak for themselves");

    // The same token does not bring them back; a later one does, and so does a delivery, and then nothing takes it away.
    learn(&mut writer, token("org_1", "user_a", 10)).await;
    assert!(db.tables().await.users.is_empty());
    learn(&mut writer, token("org_1", "user_a", 11)).await;
    assert_eq!((db.tables().await.users.len(), db.tables().await.organizations.len()), (1, 1));
    deliver(&mut writer, event("msg_2", "user.created", 1, &user("user_a", 1, "A", &json!({})))).await;
    let before = db.sequence().await;
    api(&mut writer, Fact::UserNotFound(user_id, Millis(at(99)))).await;
    assert_eq!(db.sequence().await, before);
    assert_eq!(db.tables().await.users["user_a"].name.as_deref(), Some("A"));
}

async fn the_server_is_new_enough(db: &Db) {
    let server = db.writer().await.server().await.unwrap();
    assert_eq!(server.is_none(), db.is_sqlite());
    if let Some(server) = server {
        assert!(server.version.starts_with(|first: char| first.is_ascii_digit()), "{server:?}");
    }
}

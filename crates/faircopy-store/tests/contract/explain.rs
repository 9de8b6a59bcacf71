//! What is stored of the past, and what an operator finds: readings, deliveries about a subject, lists and searches.

use faircopy_core::event::{Fact, Observation};
use faircopy_core::explain::Record;
use faircopy_core::id::{MembershipId, OrganizationId, UserId};
use faircopy_core::merge::Key;
use faircopy_core::record::{Profile, Provenance, Stamp, User};
use faircopy_core::{Millis, WorkspaceMode};
use faircopy_store::{About, Found, Item, Of, READINGS_KEPT_MS, UserRecord, Writer, row};
use serde_json::{Value, json};

use crate::db::{Db, commit_at, deliver};
use crate::provisional::{learn, token};
use crate::say::{NOW, at, event, gone, invitation, member, organization, user};

on_both_engines!(in english;
    what_brought_news_is_written_down_and_nothing_else,
    what_was_said_of_the_deleted_is_emptied,
    readings_are_forgotten_a_few_at_a_time,
    deliveries_about_a_subject_come_newest_first,
    a_membership_is_of_its_pair,
    a_record_is_shown_as_its_row,
    everybody_is_listed_page_by_page,
    a_search_finds_each_once_whatever_the_case,
    members_are_listed_from_both_sides,
);

fn key(text: &str) -> Key {
    Key::parse(text).unwrap()
}

fn person(id: &str, n: i64, name: &str, email: &str) -> Fact {
    let profile = Profile {
        first_name: Some(name.into()),
        email: Some(email.into()),
        public_metadata: json!({"n": n}),
        ..Profile::default()
    };
    let user = User {
        id: UserId::parse(id).unwrap(),
        profile: Some(profile),
        linked_workspace: None,
        created_at: Some(Millis(at(0))),
        updated_at: Some(Millis(at(n))),
    };
    Fact::User(user, Stamp { updated_at: Millis(at(n)), event_at: Millis(at(n)), hash: n })
}

async fn read(writer: &mut Writer, fact: Fact) {
    learn(writer, vec![Observation { source: Provenance::Api, fact }]).await;
}

async fn what_brought_news_is_written_down_and_nothing_else(db: &Db) {
    let mut writer = db.writer().await;
    deliver(&mut writer, event("msg_1", "user.created", 1, &user("user_a", 1, "A", &json!({})))).await;
    assert_eq!(db.store.readings(&key("user_a"), 9).await.unwrap(), []);

    let fact = person("user_a", 2, "Ada", "ada@mail.example");
    read(&mut writer, fact.clone()).await;
    read(&mut writer, fact.clone()).await;
    read(&mut writer, person("user_a", 1, "Old", "old@mail.example")).await;
    let found = db.store.readings(&key("user_a"), 9).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    let reading = &found[0];
    assert_eq!((reading.source.as_str(), reading.kind.as_str(), reading.read_at), ("api", "user", NOW));
    assert_eq!((reading.updated_at, reading.event_at), (Some(Millis(at(2))), Millis(at(2))));
    assert_eq!(reading.observation, Some(Observation { source: Provenance::Api, fact }));

    learn(&mut writer, token("org_1", "user_a", 3)).await;
    assert_eq!(db.store.readings(&key("user_a"), 9).await.unwrap().len(), 1, "a token says nothing new of the user");
    let pair = db.store.readings(&key("org_1/user_a"), 9).await.unwrap();
    assert_eq!(
        pair.iter().map(|reading| (reading.source.as_str(), reading.kind.as_str())).collect::<Vec<_>>(),
        [("token", "token_member")]
    );
    assert_eq!(db.store.readings(&key("org_1"), 9).await.unwrap()[0].kind, "part_of_organization");

    let fence = writer.take_lease("sweep", "test", NOW, 1000).await.unwrap().unwrap();
    let swept = Observation { source: Provenance::Api, fact: person("user_a", 4, "Ada", "ada@mail.example") };
    writer.commit(&[Item::Swept(vec![swept], fence)], NOW).await.unwrap();
    let found = db.store.readings(&key("user_a"), 1).await.unwrap();
    assert_eq!((found.len(), found[0].source.as_str()), (1, "sweep"), "newest first, and no more than asked for");
}

async fn what_was_said_of_the_deleted_is_emptied(db: &Db) {
    let mut writer = db.writer().await;
    read(&mut writer, person("user_a", 2, "Canary", "canary@mail.example")).await;
    read(&mut writer, person("user_b", 2, "Stays", "stays@mail.example")).await;
    deliver(&mut writer, event("msg_1", "organization.created", 1, &organization("org_1", 1, "One", &json!({})))).await;
    learn(&mut writer, invited("orginv_1", "org_1")).await;
    deliver(&mut writer, event("msg_2", "user.deleted", 3, &gone("user", "user_a"))).await;
    deliver(&mut writer, event("msg_3", "organization.deleted", 3, &gone("organization", "org_1"))).await;
    // Learned and deleted within one transaction, in this order.
    let learned = Observation { source: Provenance::Api, fact: person("user_c", 2, "Canary", "canary@mail.example") };
    let end = Fact::NoUser(UserId::parse("user_c").unwrap(), Millis(at(3)));
    learn(&mut writer, vec![learned, Observation { source: Provenance::Api, fact: end.clone() }]).await;

    for id in ["user_a", "orginv_1"] {
        let found = db.store.readings(&key(id), 9).await.unwrap();
        assert_eq!((found.len(), &found[0].observation), (1, &None), "{id}");
    }
    let both = db.store.readings(&key("user_c"), 9).await.unwrap();
    let said: Vec<Option<Fact>> = both.into_iter().map(|reading| Some(reading.observation?.fact)).collect();
    assert_eq!(said, [Some(end), None], "that it ended is no secret");
    assert!(db.store.readings(&key("user_b"), 9).await.unwrap()[0].observation.is_some());
    let left = db.sql("SELECT fact FROM {s}readings WHERE lower(fact) LIKE '%canary%' OR fact LIKE '%guest@%'").await;
    assert_eq!(left, []);
}

fn invited(id: &str, org: &str) -> Vec<Observation> {
    let arrival = event("msg_x", "organizationInvitation.created", 1, &invitation(id, org, 1, 1_000_000, "pending"));
    let faircopy_core::event::Reading::Observed(said) = arrival.content.event.reading else { panic!("understood") };
    said.into_iter().map(|said| Observation { source: Provenance::Api, ..said }).collect()
}

async fn readings_are_forgotten_a_few_at_a_time(db: &Db) {
    let mut writer = db.writer().await;
    for n in 1..=5 {
        let said = Observation { source: Provenance::Api, fact: person("user_a", n, "Ada", "ada@mail.example") };
        writer.commit(&[Item::Learned(vec![said])], Millis(NOW.0 + n * 1000)).await.unwrap();
    }
    let old = NOW.plus(4000 + READINGS_KEPT_MS).plus(-READINGS_KEPT_MS);
    assert_eq!(writer.forget_readings(old, 2).await.unwrap(), 2);
    assert_eq!(writer.forget_readings(old, 2).await.unwrap(), 1, "of the next two one is young enough");
    assert_eq!(writer.forget_readings(old, 2).await.unwrap(), 0);
    let left: Vec<_> =
        db.store.readings(&key("user_a"), 9).await.unwrap().iter().map(|reading| reading.updated_at).collect();
    assert_eq!(left, [Some(Millis(at(5))), Some(Millis(at(4)))]);
}

async fn deliveries_about_a_subject_come_newest_first(db: &Db) {
    let mut writer = db.writer().await;
    for n in 1..=5 {
        let mut arrival = event(&format!("msg_{n}"), "user.updated", n, &user("user_a", n, "A", &json!({})));
        arrival.received_at = NOW.plus(n);
        deliver(&mut writer, arrival).await;
    }
    let joined = joined("orgmem_1", "org_1", "user_a", 1);
    deliver(&mut writer, event("msg_6", "organizationMembership.created", 6, &joined)).await;
    let ids = |found: Vec<faircopy_store::Delivery>| {
        found.into_iter().map(|delivery| delivery.summary.svix_id).collect::<Vec<_>>()
    };
    let own = About::Object("user_a");
    let first = db.store.deliveries_about(own, None, 2).await.unwrap();
    let (at, id) = (first[1].summary.received_at.clone(), first[1].summary.svix_id.clone());
    assert!(first[0].payload.as_ref().is_some_and(|payload| payload.contains("user.updated")));
    assert_eq!(ids(first), ["msg_5", "msg_4"]);
    assert_eq!(ids(db.store.deliveries_about(own, Some((&at, &id)), 9).await.unwrap()), ["msg_3", "msg_2", "msg_1"]);
    assert_eq!(db.store.count_deliveries_about(own, (&at, &id), 9).await.unwrap(), 3);
    assert_eq!(db.store.count_deliveries_about(own, (&at, &id), 2).await.unwrap(), 2, "counted no further");
    let of_type = About::ObjectOfType("user_a", "user.deleted");
    assert_eq!(ids(db.store.deliveries_about(of_type, None, 9).await.unwrap()), [] as [&str; 0]);

    let (org, ada) = (OrganizationId::parse("org_1").unwrap(), UserId::parse("user_a").unwrap());
    for about in [About::User(&ada), About::Organization(&org), About::Pair(&org, &ada)] {
        assert_eq!(ids(db.store.deliveries_about(about, None, 9).await.unwrap()), ["msg_6"], "{about:?}");
    }
}

/// A membership with what it embeds.
fn joined(id: &str, org: &str, person: &str, n: i64) -> Value {
    let mut data = member(id, org, person, n, n, "org:member");
    data["organization"] = organization(org, n, "One", &json!({}));
    data["public_user_data"] = json!({"user_id": person, "first_name": "A", "identifier": "a@mail.example"});
    data
}

async fn a_membership_is_of_its_pair(db: &Db) {
    let mut writer = db.writer().await;
    let (first, second) = (MembershipId::parse("orgmem_1").unwrap(), MembershipId::parse("orgmem_2").unwrap());
    let pair = (OrganizationId::parse("org_1").unwrap(), UserId::parse("user_a").unwrap());
    assert_eq!(db.store.pair_of(&first).await.unwrap(), None);
    for (id, n) in [("orgmem_1", 1), ("orgmem_2", 2)] {
        let data = joined(id, "org_1", "user_a", n);
        deliver(&mut writer, event(&format!("msg_{n}"), "organizationMembership.created", n, &data)).await;
    }
    // The older one is no more remembered; its delivery is.
    assert_eq!(db.store.pair_of(&first).await.unwrap(), Some(pair.clone()));
    assert_eq!(db.store.pair_of(&second).await.unwrap(), Some(pair.clone()));
    deliver(&mut writer, event("msg_3", "organization.deleted", 3, &gone("organization", "org_1"))).await;
    assert_eq!(db.store.pair_of(&second).await.unwrap(), Some(pair));
}

/// The row of a record in memory is the row that the record is written to, and the comparison says so.
async fn a_record_is_shown_as_its_row(db: &Db) {
    let mut writer = db.writer().await;
    let metadata = json!({"workspaceId": "ws_1", "n": 1.5});
    for (svix_id, event_type, data) in [
        ("msg_1", "user.created", user("user_a", 1, "Ada", &metadata)),
        ("msg_2", "organization.created", organization("org_1", 1, "One", &metadata)),
        ("msg_3", "organizationMembership.created", joined("orgmem_1", "org_1", "user_a", 1)),
        ("msg_4", "organizationInvitation.created", invitation("orginv_1", "org_1", 1, 5, "pending")),
    ] {
        let arrival = event(svix_id, event_type, 1, &data);
        let faircopy_core::event::Reading::Observed(said) = &arrival.content.event.reading else {
            panic!("understood")
        };
        let record = match said[0].fact.clone() {
            Fact::User(user, _) => Record::User(user),
            Fact::Organization(organization, _) => Record::Organization(organization),
            Fact::Member(member, ..) => Record::Member(member),
            Fact::Invitation(invitation, _) => Record::Invitation(invitation),
            other => panic!("{other:?}"),
        };
        let subject = said[0].fact.key();
        let shown = (record, Provenance::Webhook);
        assert_eq!(db.store.public_row(&subject).await.unwrap(), None);
        assert_eq!(db.store.difference(&shown, NOW).await.unwrap().unwrap().columns, None);
        deliver(&mut writer, arrival).await;
        let stored = db.store.public_row(&subject).await.unwrap().unwrap();
        assert_eq!(row(&shown, WorkspaceMode::PerOrganization, NOW), stored, "{subject}");
        assert_eq!(db.store.difference(&shown, NOW).await.unwrap(), None, "{subject}");
    }
    db.sql("UPDATE {s}users SET first_name = 'Somebody' WHERE clerk_user_id = 'user_a'").await;
    let arrival = event("msg_1", "user.created", 1, &user("user_a", 1, "Ada", &metadata));
    let faircopy_core::event::Reading::Observed(said) = &arrival.content.event.reading else { panic!("understood") };
    let Fact::User(ada, _) = said[0].fact.clone() else { panic!("a user") };
    let difference = db.store.difference(&(Record::User(ada), Provenance::Webhook), NOW).await.unwrap().unwrap();
    assert_eq!(difference.columns, Some(vec!["first_name".to_owned()]));
}

async fn people(writer: &mut Writer, people: &[(&str, &str, &str)]) {
    let learned = people.iter().map(|(id, name, email)| {
        let fact = person(id, 1, name, email);
        Item::Learned(vec![Observation { source: Provenance::Api, fact }])
    });
    writer.commit(&learned.collect::<Vec<_>>(), NOW).await.unwrap();
}

/// Everything that is found, page by page; no page may be longer than asked for.
async fn all(db: &Db, search: Option<&str>, limit: usize) -> Vec<String> {
    let (mut found, mut place) = (Vec::new(), None);
    for _ in 0..100 {
        let Found { rows, next } = db.store.find_users(search, place, limit).await.unwrap();
        assert!(rows.len() <= limit);
        found.extend(rows.into_iter().map(|row: UserRecord| row.clerk_user_id));
        let Some(next) = next else { return found };
        let text = next.to_string();
        place = faircopy_store::Place::parse(&text);
        assert_eq!(place.as_ref(), Some(&next));
    }
    panic!("a list without an end");
}

async fn everybody_is_listed_page_by_page(db: &Db) {
    let mut writer = db.writer().await;
    assert_eq!(all(db, None, 10).await, [] as [&str; 0]);
    let ids = ["user_a", "user_b", "user_c", "user_d", "user_e"];
    people(&mut writer, &ids.map(|id| (id, "N", "n@mail.example"))).await;
    for limit in 1..=6 {
        assert_eq!(all(db, None, limit).await, ids, "{limit}");
        assert_eq!(all(db, Some("  "), limit).await, ids, "{limit}");
    }
    let a = UserId::parse("user_a").unwrap();
    assert_eq!(db.store.user_record(&a).await.unwrap().unwrap().email.as_deref(), Some("n@mail.example"));
    assert_eq!(db.store.user_record(&UserId::parse("user_x").unwrap()).await.unwrap(), None);
}

async fn a_search_finds_each_once_whatever_the_case(db: &Db) {
    let mut writer = db.writer().await;
    people(
        &mut writer,
        &[
            ("user_1", "Ada", "ADA@mail.example"),
            ("user_2", "adam", "eve@mail.example"),
            ("user_3", "Zoe", "Adana@mail.example"),
            ("user_4", "Bob", "bob@mail.example"),
            ("user_5", "Ad", "ad_hoc@mail.example"),
            ("user_6", "Äda", "%@mail.example"),
            ("user_7", "ada_b", "user_4"),
        ],
    )
    .await;
    for limit in 1..=4 {
        // By address first, then by name; nobody twice.
        assert_eq!(all(db, Some("Ada"), limit).await, ["user_1", "user_3", "user_7", "user_2"], "{limit}");
        assert_eq!(all(db, Some("ada@"), limit).await, ["user_1"], "{limit}");
        assert_eq!(all(db, Some(" eve@MAIL"), limit).await, ["user_2"], "{limit}");
        assert_eq!(all(db, Some("zo"), limit).await, ["user_3"], "{limit}");
        // Nothing in a search is a pattern.
        assert_eq!(all(db, Some("%"), limit).await, ["user_6"], "{limit}");
        assert_eq!(all(db, Some("ad_"), limit).await, ["user_5"], "{limit}");
        assert_eq!(all(db, Some("nobody"), limit).await, [] as [&str; 0], "{limit}");
        // An id is found as a whole, and first.
        assert_eq!(all(db, Some("user_4"), limit).await, ["user_4", "user_7"], "{limit}");
        assert_eq!(all(db, Some("user_"), limit).await, ["user_7"], "{limit}");
    }
    for (n, id) in [(1, "org_1"), (2, "org_2")] {
        let mut data = organization(id, n, "The Firm", &json!({}));
        data["slug"] = json!(if n == 1 { "firm" } else { "the-other" });
        deliver(&mut writer, event(&format!("msg_{n}"), "organization.created", n, &data)).await;
    }
    for (search, expected) in [("THE", vec!["org_2", "org_1"]), ("firm", vec!["org_1"]), ("org_2", vec!["org_2"])] {
        let found = db.store.find_organizations(Some(search), None, 9).await.unwrap();
        let ids: Vec<_> = found.rows.iter().map(|row| row.clerk_org_id.as_str()).collect();
        assert_eq!((ids, found.next), (expected, None), "{search}");
    }
}

async fn members_are_listed_from_both_sides(db: &Db) {
    let mut writer = db.writer().await;
    let pairs = [("org_1", "user_a"), ("org_1", "user_b"), ("org_2", "user_a")];
    let joins = pairs.iter().enumerate().map(|(n, (org, person))| {
        let data = joined(&format!("orgmem_{n}"), org, person, 1);
        event(&format!("msg_{n}"), "organizationMembership.created", 1, &data)
    });
    commit_at(&mut writer, &joins.collect::<Vec<_>>(), NOW).await;
    let (one, ada) = (OrganizationId::parse("org_1").unwrap(), UserId::parse("user_a").unwrap());
    let found = db.store.find_members(Of::Organization(&one), None, 9).await.unwrap();
    assert_eq!(found.iter().map(|row| row.clerk_user_id.as_str()).collect::<Vec<_>>(), ["user_a", "user_b"]);
    assert_eq!(found[0].name.as_deref(), Some("A"));
    let found = db.store.find_members(Of::Organization(&one), Some("user_a"), 9).await.unwrap();
    assert_eq!(found.iter().map(|row| row.clerk_user_id.as_str()).collect::<Vec<_>>(), ["user_b"]);
    let found = db.store.find_members(Of::User(&ada), None, 1).await.unwrap();
    assert_eq!(found.iter().map(|row| row.clerk_org_id.as_str()).collect::<Vec<_>>(), ["org_1"]);
    assert_eq!(found[0].name.as_deref(), Some("One"));
    assert_eq!(db.store.member_count(&one).await.unwrap(), 2);
    assert_eq!(db.store.organization_record(&one).await.unwrap().unwrap().name.as_deref(), Some("One"));
}

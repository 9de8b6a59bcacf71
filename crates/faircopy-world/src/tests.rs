//! The model judged from outside: by its events alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Map, Value};

use crate::*;

fn random_world(seed: u64, changes: usize, settings: Settings) -> (Vec<Event>, Truth) {
    let mut world = World::new(seed, settings);
    for _ in 0..changes {
        world.advance();
    }
    (world.take_events(), world.truth())
}

fn envelope(event: &Event) -> Value {
    serde_json::from_str(&event.body).unwrap()
}

fn count(events: &[Event], event_type: &str) -> usize {
    events.iter().filter(|event| event.event_type == event_type).count()
}

#[test]
fn the_seed_decides_everything() {
    let bodies = |seed| -> Vec<(String, String)> {
        let (events, _) = random_world(seed, 40, Settings { ties: true, child_events: true, ..Settings::default() });
        events.into_iter().map(|event| (event.svix_id, event.body)).collect()
    };
    assert_eq!(bodies(1), bodies(1));
    assert_ne!(bodies(1), bodies(2));
    assert_eq!(company(3, 40, 4, 0).1, company(3, 40, 4, 0).1);
}

#[test]
fn a_member_who_joins_again_gets_a_new_membership() {
    let mut world = World::new(1, Settings::default());
    let ada = world.create_user("Ada", "Lovelace", "ada@example.com");
    let organization = world.create_organization("Acme", &ada);
    let first = world.truth().members[&(organization.clone(), ada.clone())].clone();
    assert_eq!(world.add_member(&organization, &ada, "org:member"), first.clerk_membership_id, "she is one already");
    world.remove_member(&organization, &ada);
    assert!(world.truth().members.is_empty());
    let id = world.add_member(&organization, &ada, "org:member");
    let second = world.truth().members[&(organization, ada)].clone();
    assert_eq!(id, second.clerk_membership_id);
    assert_ne!(id, first.clerk_membership_id);
    assert!(second.created_at_ms > first.created_at_ms);
}

#[test]
fn child_events_are_a_setting() {
    for child_events in [false, true] {
        let mut world = World::new(1, Settings { child_events, ..Settings::default() });
        let users: Vec<String> = (0..3).map(|_| world.create_user("A", "B", "")).collect();
        let organizations: Vec<String> = (0..2).map(|_| world.create_organization("O", &users[0])).collect();
        for user in &users[1..] {
            world.add_member(&organizations[0], user, "org:member");
        }
        world.take_events();
        world.delete_organization(&organizations[0]);
        let events = world.take_events();
        assert_eq!(count(&events, "organization.deleted"), 1);
        assert_eq!(count(&events, "organizationMembership.deleted"), if child_events { 3 } else { 0 });
        world.delete_user(&users[0]);
        let events = world.take_events();
        assert_eq!(count(&events, "user.deleted"), 1);
        assert_eq!(count(&events, "organizationMembership.deleted"), usize::from(child_events));
        assert!(world.truth().members.is_empty());
    }
}

fn assert_keys_within(fixture: &Value, body: &Value, at: &str) {
    match (fixture, body) {
        (Value::Object(wanted), Value::Object(found)) => {
            // What is inside metadata is the application's.
            for (key, value) in wanted.iter().filter(|_| !at.ends_with("_metadata")) {
                let inner = found.get(key).unwrap_or_else(|| panic!("{at}.{key} is missing"));
                assert_keys_within(value, inner, &format!("{at}.{key}"));
            }
        }
        (Value::Object(_), other) => panic!("{at} is {other}"),
        _ => {}
    }
}

fn without_thin_options(event_type: &str, mut fixture: Value) -> Value {
    if event_type.ends_with(".deleted") && !event_type.starts_with("organizationMembership") {
        for optional in ["external_id", "slug"] {
            fixture["data"].as_object_mut().unwrap().remove(optional);
        }
    }
    fixture
}

#[test]
fn bodies_have_every_key_of_the_fixtures_and_sorted_keys() {
    let mut seen = BTreeSet::new();
    for seed in 0..60 {
        for event in random_world(seed, 40, Settings::default()).0 {
            let path = format!("{}/../../fixtures/deliveries/{}.json", env!("CARGO_MANIFEST_DIR"), event.event_type);
            let fixture: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
            let body = envelope(&event);
            assert_keys_within(&without_thin_options(event.event_type, fixture), &body, event.event_type);
            assert_eq!(body["timestamp"], event.at_ms);
            assert_eq!(body["type"], event.event_type);
            assert_eq!(body.to_string(), event.body, "a parsed object has its keys in order");
            seen.insert(event.event_type);
        }
    }
    assert_eq!(seen.len(), 12, "{seen:?}");
}

#[test]
fn users_are_as_large_as_real_ones() {
    let mut sizes = Vec::new();
    for seed in 0..50 {
        let events = random_world(seed, 40, Settings::default()).0;
        sizes.extend(
            events.iter().filter(|e| matches!(e.event_type, "user.created" | "user.updated")).map(|e| e.body.len()),
        );
    }
    let mean = sizes.iter().sum::<usize>() / sizes.len();
    let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
    assert!((2_500..=3_500).contains(&mean), "mean {mean}, {least} to {most}");
    assert!(*least > 1_500 && *most < 6_000, "mean {mean}, {least} to {most}");
}

#[test]
fn ids_are_unique_and_well_formed() {
    let (events, truth) = company(5, 200, 10, 0);
    let ids: BTreeSet<&str> = events.iter().map(|event| event.svix_id.as_str()).collect();
    assert_eq!(ids.len(), events.len());
    let well_formed = |id: &str, prefix: &str| {
        id.strip_prefix(prefix).is_some_and(|rest| rest.len() == 27 && rest.chars().all(|c| c.is_ascii_alphanumeric()))
    };
    assert!(ids.iter().all(|id| well_formed(id, "msg_")));
    assert!(truth.users.keys().all(|id| well_formed(id, "user_")));
    assert!(truth.organizations.keys().all(|id| well_formed(id, "org_")));
    assert!(truth.members.values().all(|member| well_formed(&member.clerk_membership_id, "orgmem_")));
    assert!(truth.invitations.keys().all(|id| well_formed(id, "orginv_")));
}

#[test]
fn the_truth_of_one_history_is_as_worked_out_by_hand() {
    let mut world = World::new(42, Settings { start_ms: 1_000, ..Settings::default() });
    let ada = world.create_user("Ada", "Lovelace", "ada@example.com");
    let zoe = world.create_user("", "O'Brien", "");
    let gone = world.create_user("Gone", "", "gone@example.com");
    let acme = world.create_organization("Acme", &ada);
    let doomed = world.create_organization("Doomed", &zoe);
    world.add_member(&acme, &zoe, "org:guest");
    world.add_member(&acme, &gone, "org:member");
    world.change_role(&acme, &zoe, "org:billing_manager");
    let accepted = world.invite(&doomed, "gone@example.com", "org:member");
    world.accept_invitation(&accepted, &gone);
    let open = world.invite(&acme, "new@example.com", "org:admin");
    let revoked = world.invite(&acme, "old@example.com", "org:guest");
    world.revoke_invitation(&revoked);
    world.delete_user(&gone);
    // Links are chosen by chance; here they are set by hand.
    world.users.get_mut(&ada).unwrap().public_metadata =
        serde_json::json!({"workspaceId": "", "convexWorkspaceId": "own"});
    world.users.get_mut(&zoe).unwrap().public_metadata = serde_json::json!({"workspaceId": 42});
    world.organizations.get_mut(&acme).unwrap().public_metadata = serde_json::json!({"workspaceId": "acme"});
    world.organizations.get_mut(&doomed).unwrap().public_metadata = serde_json::json!({});

    let truth = world.truth();
    assert_eq!(truth.users.keys().collect::<BTreeSet<_>>(), BTreeSet::from([&ada, &zoe]));
    assert_eq!(truth.users[&ada].workspace_id.as_deref(), Some("own"));
    assert_eq!(truth.users[&ada].name.as_deref(), Some("Ada Lovelace"));
    assert_eq!(truth.users[&ada].email.as_deref(), Some("ada@example.com"));
    assert_eq!(truth.users[&zoe].workspace_id.as_ref(), Some(&doomed), "the oldest membership is in the unlinked one");
    let workspaces: Vec<_> = truth.workspaces.iter().map(|(id, row)| (id, &row.clerk_org_id)).collect();
    assert_eq!(BTreeSet::from_iter(workspaces), BTreeSet::from([(&acme, &acme), (&doomed, &doomed)]));
    let linked = world.truth_in(Workspaces::Linked);
    assert_eq!(linked.users[&zoe].workspace_id, None);
    assert_eq!(
        linked.workspaces.iter().map(|(id, row)| (id.as_str(), &row.clerk_org_id)).collect::<Vec<_>>(),
        [("acme", &acme)]
    );
    assert!(world.truth_in(Workspaces::Off).workspaces.is_empty());
    assert_eq!((truth.users[&zoe].name.as_deref(), truth.users[&zoe].first_name.as_deref()), (Some("O'Brien"), None));
    assert_eq!(truth.users[&zoe].email, None);
    assert_eq!(truth.members.len(), 3, "the deleted user is no member of anything");
    assert_eq!(truth.organizations[&acme].created_by.as_ref(), Some(&ada));

    world.delete_organization(&doomed);
    let truth = world.truth();
    assert_eq!(truth.users[&zoe].workspace_id.as_deref(), Some("acme"), "now that is the oldest");
    assert_eq!(truth.organizations.keys().collect::<Vec<_>>(), [&acme]);
    let role = |user: &String| truth.members[&(acme.clone(), user.clone())].role.as_str();
    assert_eq!((truth.members.len(), role(&ada), role(&zoe)), (2, "org:admin", "org:billing_manager"));
    let statuses: BTreeMap<_, _> = truth.invitations.iter().map(|(id, row)| (id, row.status.as_str())).collect();
    assert_eq!(statuses, BTreeMap::from([(&open, "pending"), (&revoked, "revoked")]));
    let open = &truth.invitations[&open];
    assert_eq!(open.expires_at_ms - open.created_at_ms, 2_592_000_000);
    assert_eq!(count(&world.take_events(), "organizationMembership.created"), 5);
}

#[test]
fn short_histories_meet_the_hard_cases() {
    let mut met: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..300 {
        let mut world = World::new(seed, Settings { child_events: true, ..Settings::default() });
        let mut joined: BTreeMap<(String, String), usize> = BTreeMap::new();
        let mut updates: BTreeMap<String, usize> = BTreeMap::new();
        let mut hit = BTreeSet::new();
        for _ in 0..24 {
            world.advance();
            let events = world.take_events();
            for event in &events {
                let data = &envelope(event)["data"];
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                match event.event_type {
                    "organizationMembership.created" => {
                        let pair = (text(&data["organization"]["id"]), text(&data["public_user_data"]["user_id"]));
                        let times = joined.entry(pair).or_default();
                        *times += 1;
                        if *times > 1 {
                            hit.insert("re-join");
                        }
                    }
                    "organizationMembership.updated" => drop(hit.insert("role change")),
                    "organization.deleted" if events.len() > 2 => drop(hit.insert("organization deleted with members")),
                    "user.deleted" if events.len() > 1 => drop(hit.insert("user deleted with memberships")),
                    "user.updated" => {
                        let times = updates.entry(text(&data["id"])).or_default();
                        *times += 1;
                        if *times > 2 {
                            hit.insert("one user updated three times");
                        }
                    }
                    _ => {}
                }
            }
        }
        let truth = world.truth();
        let absent = |(organization, user): &(String, String)| {
            truth.organizations.contains_key(organization)
                && truth.users.contains_key(user)
                && !truth.members.contains_key(&(organization.clone(), user.clone()))
        };
        if joined.keys().any(absent) {
            hit.insert("member removed for good");
        }
        for case in hit {
            *met.entry(case).or_default() += 1;
        }
    }
    assert_eq!(met.len(), 6, "{met:?}");
    assert!(met.values().all(|times| *times >= 75), "each in a quarter of 300 histories: {met:?}");
}

#[test]
fn versions_increase_except_in_ties() {
    for ties in [false, true] {
        let mut tied = 0;
        for seed in 0..100 {
            let (events, _) = random_world(seed, 40, Settings { ties, ..Settings::default() });
            let mut known: BTreeMap<String, (i64, i64)> = BTreeMap::new();
            for event in events.iter().filter(|event| !event.event_type.ends_with("deleted")) {
                let data = &envelope(event)["data"];
                let updated_at = data["updated_at"].as_i64().unwrap();
                let id = data["id"].as_str().unwrap().to_owned();
                if let Some((before, stamp)) = known.insert(id, (updated_at, event.at_ms)) {
                    if before == updated_at {
                        tied += 1;
                        assert!(event.at_ms > stamp);
                    } else {
                        assert!(before < updated_at && (0..=40).contains(&(event.at_ms - updated_at)));
                    }
                }
            }
        }
        assert_eq!(tied > 50, ties, "{tied} ties");
    }
}

#[test]
fn shuffling_keeps_every_event_and_adds_duplicates() {
    let (events, _) = company(9, 50, 3, 0);
    let ids = |events: &[Event]| -> BTreeSet<String> { events.iter().map(|event| event.svix_id.clone()).collect() };
    let mixed = shuffled(&events, 4, 20);
    assert_eq!(mixed.len(), events.len() + events.len() / 5);
    assert_eq!(ids(&mixed), ids(&events));
    assert_eq!(shuffled(&events, 4, 0).len(), events.len());
    assert!(shuffled(&[], 4, 100).is_empty());
    let order = |seed| shuffled(&events, seed, 20).into_iter().map(|event| event.svix_id).collect::<Vec<_>>();
    assert_eq!(order(4), order(4));
    assert_ne!(order(4), order(5));
}

#[test]
fn a_company_is_believable() {
    let start_ms = 1_700_000_000_000;
    let (events, truth) = company(1, 400, 12, start_ms);
    assert_eq!((truth.users.len(), truth.organizations.len()), (380, 10));
    assert!(truth.members.len() > 250, "{}", truth.members.len());
    assert!(events.iter().all(|event| (start_ms..=start_ms + COMPANY_SPAN_MS + 40).contains(&event.at_ms)));
    assert!(events.iter().all(|event| !event.body.contains("onerror=") && !event.body.contains("=cmd")));
    let types: BTreeSet<&str> = events.iter().map(|event| event.event_type).collect();
    assert_eq!(types.len(), 12);
    assert_eq!(company(1, 0, 5, 0).0.len(), 0);
    assert_eq!(company(1, 1, 1, 0).1.users.len(), 1);
    assert_eq!(company(1, 3, 9, 0).1.organizations.len(), 7);
}

#[test]
fn hard_histories_have_eight_events() {
    let [(rejoined, alive), (_, removed), (deleted, nobody)] = hard_histories();
    let types: Vec<&str> = deleted.iter().map(|event| event.event_type).collect();
    assert_eq!(
        types,
        [
            "user.created",
            "organization.created",
            "organizationMembership.created",
            "organizationMembership.deleted",
            "organizationMembership.created",
            "organizationMembership.updated",
            "organization.updated",
            "user.deleted",
        ]
    );
    assert_eq!(hard_history().1, nobody);
    assert_eq!((rejoined[7].event_type, alive.members.len()), ("user.updated", 1));
    assert_eq!((removed.users.len(), removed.members.len()), (1, 0));
    assert_eq!((nobody.users.len(), nobody.organizations.len(), nobody.members.len()), (0, 1, 0));
}

/// Works out from a set of events alone what must exist: for each object the newest version, unless it was deleted, and
/// for each pair the newest membership. Written apart from the model, so that a mistake in either shows.
fn rows_from_events(events: &[Event]) -> (BTreeMap<String, Value>, BTreeMap<(String, String), Value>) {
    let mut newest: BTreeMap<String, (i64, i64, Value)> = BTreeMap::new();
    let mut dead = BTreeSet::new();
    let mut pairs: BTreeMap<(String, String), (i64, String)> = BTreeMap::new();
    for event in events {
        let data = envelope(event)["data"].take();
        let id = data["id"].as_str().unwrap().to_owned();
        if data["object"] == "organization_membership" {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let pair = (text(&data["organization"]["id"]), text(&data["public_user_data"]["user_id"]));
            let generation = (data["created_at"].as_i64().unwrap(), id.clone());
            let known = pairs.entry(pair).or_insert_with(|| generation.clone());
            *known = generation.max(known.clone());
            observe(&mut newest, event.at_ms, data["organization"].clone());
        }
        if event.event_type.ends_with(".deleted") {
            dead.insert(id);
        } else {
            observe(&mut newest, event.at_ms, data);
        }
    }
    let alive: BTreeMap<String, Value> =
        newest.into_iter().filter(|(id, _)| !dead.contains(id)).map(|(id, (_, _, data))| (id, data)).collect();
    let visible = |(pair, (_, id)): ((String, String), (i64, String))| {
        let both = !dead.contains(&pair.0) && !dead.contains(&pair.1);
        alive.get(&id).filter(|_| both).map(|data| (pair, data.clone()))
    };
    let members = pairs.into_iter().filter_map(visible).collect();
    (alive, members)
}

fn observe(newest: &mut BTreeMap<String, (i64, i64, Value)>, stamp: i64, data: Value) {
    let version = (data["updated_at"].as_i64().unwrap(), stamp);
    let known = newest.entry(data["id"].as_str().unwrap().to_owned()).or_insert((i64::MIN, 0, Value::Null));
    if version > (known.0, known.1) {
        *known = (version.0, version.1, data);
    }
}

fn assert_follows(events: &[Event], truth: &Truth, what: &str) {
    let (alive, members) = rows_from_events(events);
    let of_kind =
        |kind: &str| -> BTreeMap<&String, &Value> { alive.iter().filter(|(_, v)| v["object"] == kind).collect() };
    let users = of_kind("user");
    assert_eq!(users.keys().copied().collect::<Vec<_>>(), truth.users.keys().collect::<Vec<_>>(), "{what}");
    for (id, row) in &truth.users {
        let data = users[id];
        assert_eq!(data["public_metadata"], row.public_metadata, "{what}");
        assert_eq!(data["first_name"].as_str(), row.first_name.as_deref(), "{what}");
        assert_eq!(data["image_url"].as_str(), row.image_url.as_deref(), "{what}");
        assert_eq!(data["external_id"].as_str(), row.external_id.as_deref(), "{what}");
        assert_eq!((&data["banned"], &data["locked"]), (&row.banned.into(), &row.locked.into()), "{what}");
        assert_eq!(data["updated_at"], row.updated_at_ms, "{what}");
    }
    let organizations = of_kind("organization");
    let ids: Vec<&String> = organizations.keys().copied().collect();
    assert_eq!(ids, truth.organizations.keys().collect::<Vec<_>>(), "{what}");
    for (id, row) in &truth.organizations {
        let data = organizations[id];
        assert_eq!(data["public_metadata"], row.settings, "{what}");
        assert_eq!(data["name"], row.name, "{what}");
        assert_eq!(data["slug"].as_str(), row.slug.as_deref(), "{what}");
        assert_eq!(data["image_url"].as_str(), row.image_url.as_deref(), "{what}");
    }
    assert_eq!(members.keys().collect::<Vec<_>>(), truth.members.keys().collect::<Vec<_>>(), "{what}");
    for (pair, row) in &truth.members {
        let data = &members[pair];
        assert_eq!(data["id"], row.clerk_membership_id, "{what}");
        assert_eq!(data["role"], row.role, "{what}");
        assert_eq!(data["permissions"], Value::from(row.permissions.clone()), "{what}");
        assert_eq!((&data["created_at"], &data["updated_at"]), (&row.created_at_ms.into(), &row.updated_at_ms.into()));
    }
    let invitations: Map<String, Value> = of_kind("organization_invitation")
        .into_iter()
        .filter(|(_, data)| organizations.contains_key(&data["organization_id"].as_str().unwrap().to_owned()))
        .map(|(id, data)| (id.clone(), data["status"].clone()))
        .collect();
    let expected: Map<String, Value> =
        truth.invitations.iter().map(|(id, row)| (id.clone(), Value::from(row.status.clone()))).collect();
    assert_eq!(invitations, expected, "{what}");
}

#[test]
fn the_truth_follows_from_the_events_in_any_order() {
    for seed in 0..400 {
        let settings = Settings { child_events: seed % 2 == 0, ties: seed % 3 == 0, ..Settings::default() };
        let changes = 8 + usize::try_from(seed % 33).unwrap();
        let (events, truth) = random_world(seed, changes, settings);
        assert_follows(&shuffled(&events, seed, 30), &truth, &format!("seed {seed}"));
    }
    for (events, truth) in hard_histories() {
        assert_follows(&shuffled(&events, 1, 0), &truth, "hard");
    }
    let (events, truth) = company(1, 300, 12, 0);
    assert_follows(&shuffled(&events, 1, 10), &truth, "company");
}

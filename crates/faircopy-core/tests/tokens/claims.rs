//! What comes out of a good token: both versions, the published permission vectors, and observations.

use faircopy_core::event::{Fact, Observation};
use faircopy_core::id::{OrganizationId, UserId};
use faircopy_core::merge::{Change, Verdict, Workset};
use faircopy_core::record::{Generation, Member, Profile, Provenance, Stamp, User};
use faircopy_core::token::{ActiveOrganization, Rejection, Session};
use faircopy_core::{MembershipId, Millis};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::mint::{Draft, NOW, good};
use crate::{judge, refused};

fn session(draft: &Draft) -> Session {
    judge(&draft.sign()).expect("a good token")
}

fn active(draft: &Draft) -> Option<ActiveOrganization> {
    session(draft).organization
}

fn organization(role: &str, permissions: &[&str]) -> ActiveOrganization {
    ActiveOrganization {
        id: OrganizationId::parse("org_1").expect("an id"),
        role: Some(role.into()),
        slug: Some("acme".into()),
        permissions: permissions.iter().map(|&permission| permission.into()).collect(),
        is_ambiguous: false,
    }
}

fn v1() -> Draft<'static> {
    let organization = json!({
        "org_id": "org_1", "org_role": "org:admin", "org_slug": "acme", "org_permissions": ["org:teams:read"],
    });
    good().without("v").claims(organization)
}

fn v2() -> Draft<'static> {
    let organization = json!({"id": "org_1", "rol": "member", "slg": "acme", "per": "read,manage", "fpm": "3"});
    good().claims(json!({"o": organization, "fea": "o:teams", "pla": "o:pro"}))
}

#[test]
fn a_session_says_what_its_token_says() {
    let expected = Session {
        user: UserId::parse("user_1").expect("an id"),
        id: Some("sess_1".into()),
        organization: None,
        issued_at: Millis::from_seconds(NOW),
        expires_at: Millis::from_seconds(NOW + 60),
        authorized_party: Some("https://app.example.com".into()),
        actor: None,
        is_pending: false,
    };
    assert_eq!(session(&good()), expected);
    let impersonated = good().claim("act", json!({"iss": "https://dashboard.clerk.com", "sub": "user_9"}));
    assert_eq!(session(&impersonated).actor.as_deref(), Some("user_9"));
    let bare = session(&good().without("sid").without("azp").without("sts"));
    assert_eq!((bare.id, bare.authorized_party), (None, None));
}

#[test]
fn both_versions_name_the_active_organization() {
    assert_eq!(active(&v1()), Some(organization("org:admin", &["org:teams:read"])));
    assert_eq!(active(&v1().claim("v", 1)), Some(organization("org:admin", &["org:teams:read"])));
    assert_eq!(active(&v2()), Some(organization("org:member", &["org:teams:read", "org:teams:manage"])));
    // Roles of old instances are handed on as they are.
    assert_eq!(
        active(&v1().claim("org_role", "basic_member")).and_then(|active| active.role).as_deref(),
        Some("basic_member")
    );
    // An organization without any slug, role or permission.
    let bare = active(&good().claim("o", json!({"id": "org_1"}))).expect("an organization");
    assert_eq!((bare.role, bare.slug, bare.permissions), (None, None, vec![]));
    let empty = active(&good().claim("o", json!({"id": "org_1", "rol": ""}))).expect("an organization");
    assert_eq!(empty.role, None);
    assert_eq!(active(&good().claim("o", Value::Null)), None);
    assert_eq!(active(&v1().claim("org_id", Value::Null)), None);
    assert_eq!(active(&v1().without("org_id")), None);
}

#[test]
fn the_version_decides_between_two_organizations() {
    let both = |version: Value| v2().claims(json!({"org_id": "org_9", "org_role": "org:owner", "v": version}));
    assert_eq!(active(&both(json!(2))).map(|active| active.id.to_string()).as_deref(), Some("org_1"));
    assert_eq!(active(&both(json!(1))).map(|active| active.id.to_string()).as_deref(), Some("org_9"));
    assert_eq!(active(&both(json!(null))).map(|active| active.id.to_string()).as_deref(), Some("org_9"));
    assert_eq!(active(&both(json!(2)).without("o")), None);
}

#[test]
fn an_organization_that_cannot_be_read_is_refused() {
    refused(&good().claim("o", json!({"rol": "admin"})), Rejection::Claim("o"));
    refused(&good().claim("o", json!({"id": "user_1"})), Rejection::Claim("o"));
    refused(&good().claim("o", json!({"id": 7})), Rejection::Claim("o"));
    refused(&v2().claim("fea", json!(["o:teams"])), Rejection::Claim("fea"));
    refused(&v2().claim("o", json!({"id": "org_1", "per": "read", "fpm": 1})), Rejection::Claim("o"));
    refused(&good().claim("act", json!({"sub": 7})), Rejection::Claim("act"));
    refused(&v1().claim("org_id", "org_../x"), Rejection::Claim("org_id"));
    refused(&v1().claim("org_role", 7), Rejection::Claim("org_role"));
    refused(&v1().claim("org_permissions", "org:teams:read"), Rejection::Claim("org_permissions"));
}

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    fea: String,
    o: Option<Value>,
    expect: Expected,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Expected {
    org_role: Option<String>,
    org_permissions: Option<Vec<String>>,
}

#[test]
fn the_published_permission_vectors_come_out() {
    let text = include_str!("../../../../fixtures/vectors/session_token_v2_permission_vectors.json");
    let vectors: Vectors = serde_json::from_str(text).expect("the vectors");
    assert_eq!(vectors.cases.len(), 16);
    for Vector { fea, o, expect } in vectors.cases {
        // Some of the vectors leave out the id, which no token does.
        let o = o.map(|mut o| {
            o.as_object_mut().expect("an object").entry("id").or_insert(json!("org_1"));
            o
        });
        let active = active(&good().claim("fea", fea.clone()).claim("o", o));
        assert_eq!(active.as_ref().map(|active| &active.permissions), expect.org_permissions.as_ref(), "{fea}");
        if expect.org_role.is_some() {
            assert_eq!(active.and_then(|active| active.role), expect.org_role, "{fea}");
        }
    }
}

#[test]
fn a_token_whose_masks_could_be_read_in_two_ways_is_marked() {
    let ambiguous = |features: &str| active(&v2().claim("fea", features)).expect("an organization").is_ambiguous;
    assert!(!ambiguous("o:teams,u:gold"));
    assert!(ambiguous("u:gold,o:teams"));
}

#[test]
fn a_session_becomes_provisional_rows() {
    let observations = session(&v2()).observations();
    assert!(observations.iter().all(|observation| observation.source == Provenance::Token));
    let mut copy = Workset::default();
    assert!(observations.iter().all(|observation| copy.merge(observation) == Verdict::News));
    assert!(observations.iter().all(|observation| copy.merge(observation) == Verdict::Known));
    let changes = copy.finish();
    assert!(matches!(changes.users.values().next(), Some(Change::Put(_, Provenance::Token))));
    let Some(Change::Put(organization, Provenance::Token)) = changes.organizations.values().next() else {
        panic!("{changes:?}");
    };
    assert_eq!(organization.slug.as_deref(), Some("acme"));
    let Some(Change::Put(member, Provenance::Token)) = changes.members.values().next() else { panic!("{changes:?}") };
    assert_eq!((member.role.as_deref(), member.membership.as_ref()), (Some("org:member"), None));
    assert_eq!(member.permissions, ["org:teams:read", "org:teams:manage"]);

    assert_eq!(session(&good()).observations().len(), 1);
    let unclean = v1().claim("org_slug", "a\0b").claim("org_role", "org:\0x");
    let texts = format!("{:?}", session(&unclean).observations());
    assert!(texts.contains("\"ab\"") && texts.contains("\"org:x\""), "{texts}");
}

fn both_orders(token: &[Observation], other: &Observation) -> [Vec<Observation>; 2] {
    let other = std::slice::from_ref(other);
    [[token, other].concat(), [other, token].concat()]
}

#[test]
fn a_token_says_less_than_a_delivery_and_nothing_after_a_deletion() {
    let (user, organization) =
        (UserId::parse("user_1").expect("an id"), OrganizationId::parse("org_1").expect("an id"));
    let token = session(&v2()).observations();
    let from_webhook = |fact| Observation { source: Provenance::Webhook, fact };
    let merged = |observations: &[Observation]| {
        let mut copy = Workset::default();
        for observation in observations {
            copy.merge(observation);
        }
        copy.finish()
    };

    // The name that a membership delivery embedded years ago outlives any token, in either order.
    let profile = Some(Profile { first_name: Some("Ada".into()), ..Profile::default() });
    let named = User { id: user.clone(), profile, linked_workspace: None, created_at: None, updated_at: None };
    let stamp = Stamp { updated_at: Millis::from_seconds(1), event_at: Millis::from_seconds(1), hash: i64::MIN };
    let embedded = from_webhook(Fact::PartOfUser(named, stamp));
    for order in both_orders(&token, &embedded) {
        let changes = merged(&order);
        let Some(Change::Put(shown, Provenance::Webhook)) = changes.users.get(&user) else { panic!("{changes:?}") };
        assert_eq!(shown.profile.as_ref().and_then(Profile::name).as_deref(), Some("Ada"));
    }

    // A member who was removed after the token was issued stays away; one removed before may be back.
    let removed = |at: i64| {
        let id = MembershipId::parse("orgmem_1").expect("an id");
        let generation = Generation { created_at: Millis::from_seconds(NOW - 100), id };
        from_webhook(Fact::NoMember(organization.clone(), user.clone(), generation, Millis::from_seconds(at)))
    };
    let pair = (organization.clone(), user.clone());
    let member_after = |order: &[Observation]| merged(order).members.remove(&pair);
    for (at, is_back) in [(NOW - 1, true), (NOW, false), (NOW + 1, false)] {
        for order in both_orders(&token, &removed(at)) {
            let shown: Option<Change<Member>> = member_after(&order);
            assert_eq!(matches!(shown, Some(Change::Put(_, Provenance::Token))), is_back, "removed at {at}");
        }
    }
}

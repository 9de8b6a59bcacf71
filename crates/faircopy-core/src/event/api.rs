//! What Clerk's Backend API answers, read by the same lenient rules as deliveries: into observations.
//!
//! An object of the API is what an event's `data` is (clerk-facts.md, section 2.2): one reader serves both. One object
//! that cannot be understood spoils nothing but itself. What an answer lacks proves nothing here: absence is for whoever
//! asked to judge.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::lenient::{List, Number, Object, Text};
use super::shape::{Limits, Reader};
use super::{Fault, MAX_AHEAD_MS, Observation};
use crate::ProfileMode;
use crate::id::UserId;
use crate::record::Provenance;
use crate::time::Millis;

/// What kind of object was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `User`.
    User,
    /// `Organization`.
    Organization,
    /// `OrganizationMembership`, with the organization and a part of the user.
    Member,
    /// `OrganizationInvitation`.
    Invitation,
}

/// What must be known to read an answer.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// How much of a person is kept.
    pub mode: ProfileMode,
    /// When the question was sent: what it was answered with was so then, or later.
    pub asked_at: Millis,
    /// Whose memberships were asked for, where it was one user's.
    pub user: Option<&'a UserId>,
}

/// One object of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its `id`, as the next page's cursor needs it.
    pub id: Option<String>,
    /// What it says, its own subject first.
    pub reading: Result<Vec<Observation>, Fault>,
}

/// A list, or a page of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its objects, in the order of the answer.
    pub items: Vec<Item>,
    /// How many there are in all, where the answer says so.
    pub total: Option<i64>,
}

/// An answer that is not the JSON that was asked for: cut off, or somebody else's page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer is not the JSON that Clerk's API gives")]
pub struct NotTheApi;

/// Reads one object.
pub fn object(kind: Kind, json: &str, context: &Context<'_>) -> Result<Item, NotTheApi> {
    let head: Head<'_> = read_object(json)?;
    Ok(Item { id: head.id.0.map(Into::into), reading: observations(kind, json, context) })
}

/// Reads a list: a bare array, as users come, or `{data, total_count}`, as everything else does.
pub fn page(kind: Kind, json: &str, context: &Context<'_>) -> Result<Page, NotTheApi> {
    let (objects, total) = if json.trim_start().starts_with('[') {
        (read::<Vec<&RawValue>>(json)?, None)
    } else {
        let envelope: Envelope<'_> = read_object(json)?;
        let total = match envelope.total_count {
            Number::Whole(total) => Some(total),
            Number::Absent | Number::Unusable => None,
        };
        (envelope.data, total)
    };
    let unreadable = |error: NotTheApi| Item { id: None, reading: Err(Fault::Unreadable(error.to_string())) };
    let item = |json: &RawValue| object(kind, json.get(), context).unwrap_or_else(unreadable);
    Ok(Page { items: objects.into_iter().map(item).collect(), total })
}

/// The id of the instance that a key belongs to, from `GET /v1/instance`.
pub fn instance(json: &str) -> Result<String, NotTheApi> {
    let head: Head<'_> = read_object(json)?;
    head.id.0.filter(|id| id.starts_with("ins_")).map(Into::into).ok_or(NotTheApi)
}

/// The codes of Clerk's error envelope. A status alone proves nothing: proxies and wrong addresses have 404s too.
pub fn error_codes(json: &str) -> Result<Vec<String>, NotTheApi> {
    let envelope: Errors<'_> = read_object(json)?;
    let code = |error: Object<Code<'_>>| error.0?.code.0.map(Into::into);
    Ok(envelope.errors.0.into_iter().filter_map(code).collect())
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default)]
    id: Text<'a>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
    #[serde(default)]
    total_count: Number,
}

#[derive(Deserialize)]
struct Errors<'a> {
    #[serde(borrow)]
    errors: List<Object<Code<'a>>>,
}

#[derive(Deserialize)]
struct Code<'a> {
    #[serde(borrow, default)]
    code: Text<'a>,
}

fn read<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, NotTheApi> {
    serde_json::from_str(json).map_err(|_| NotTheApi)
}

/// The library reads a list as a structure too, field by field.
fn read_object<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, NotTheApi> {
    if json.trim_start().starts_with('{') { read(json) } else { Err(NotTheApi) }
}

fn observations(kind: Kind, json: &str, context: &Context<'_>) -> Result<Vec<Observation>, Fault> {
    let reader = Reader {
        data: json,
        mode: context.mode,
        limits: Limits { latest: context.asked_at.plus(MAX_AHEAD_MS) },
        event_at: Some(context.asked_at),
        signed_at: context.asked_at,
        implied_user: context.user,
    };
    let facts = match kind {
        Kind::User => reader.user()?,
        Kind::Organization => reader.organization()?,
        Kind::Member => reader.member()?,
        Kind::Invitation => reader.invitation("pending")?,
    };
    let source = Provenance::Api;
    Ok(facts.into_iter().map(|fact| Observation { source, fact }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Fact;
    use crate::record::{Stamp, User};

    const ASKED_AT: Millis = Millis(1_760_000_000_000);

    fn context() -> Context<'static> {
        Context { mode: ProfileMode::Full, asked_at: ASKED_AT, user: None }
    }

    fn subjects(item: &Item) -> Vec<String> {
        let observations = item.reading.as_ref().unwrap();
        assert!(observations.iter().all(|observation| observation.source == Provenance::Api));
        observations.iter().map(|observation| observation.fact.subject().to_owned()).collect()
    }

    fn user(json: &str, context: &Context<'_>) -> (User, Stamp) {
        let item = object(Kind::User, json, context).unwrap();
        match item.reading.unwrap().remove(0).fact {
            Fact::User(user, stamp) => (user, stamp),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_user_is_read_as_from_a_delivery() {
        let json = include_str!("../../../../fixtures/api/user.json");
        let (read, stamp) = user(json, &context());
        let profile = read.profile.clone().unwrap();
        assert_eq!((profile.name().as_deref(), profile.email.as_deref()), (Some("Jane Doe"), Some("jane@example.com")));
        assert_eq!(profile.public_metadata, serde_json::json!({ "plan": "team" }));
        assert_eq!(read.updated_at, Some(Millis(1_716_883_260_000)));
        assert_eq!((stamp.updated_at, stamp.event_at), (Millis(1_716_883_260_000), ASKED_AT));
        let minimal = user(json, &Context { mode: ProfileMode::Minimal, ..context() }).0;
        assert_eq!((minimal.profile, minimal.id), (None, read.id));
    }

    /// The same object, delivered and read, has one version: neither is news after the other.
    #[test]
    fn a_delivery_and_a_read_of_one_version_have_the_same_content() {
        let json = include_str!("../../../../fixtures/api/user.json");
        let body = format!(r#"{{"type":"user.updated","timestamp":1716883260000,"data":{json}}}"#);
        let kept = crate::payload::keep(body.as_bytes(), ProfileMode::Full);
        let crate::payload::Kept::Json(message) = kept else { panic!("{kept:?}") };
        let delivered = crate::event::Context { mode: ProfileMode::Full, signed_at: ASKED_AT, instance: None };
        let crate::event::Reading::Observed(observations) = crate::event::read(&message, &delivered).reading else {
            panic!("not read")
        };
        let Fact::User(_, stamp) = &observations[0].fact else { panic!("{observations:?}") };
        assert!(stamp.same_content(&user(json, &context()).1));
    }

    #[test]
    fn an_organization_and_lists_of_either_form_are_read() {
        let organization =
            object(Kind::Organization, include_str!("../../../../fixtures/api/organization.json"), &context());
        assert_eq!(subjects(&organization.unwrap()), ["org_2g7np7Hrk0SN6kj5EDMLDaKNL0S"]);

        let users = page(Kind::User, include_str!("../../../../fixtures/api/users.json"), &context()).unwrap();
        let ids: Vec<_> = users.items.iter().map(|item| item.id.clone().unwrap()).collect();
        assert_eq!(ids, ["user_2h8op3Isl1QR7tKu5FGNfaLKEoU", "user_2h8op3Isl1QR7tKu5FGNfaLKEoV"]);
        assert_eq!(users.total, None);

        let members = include_str!("../../../../fixtures/api/organization_memberships.json");
        let members = page(Kind::Member, members, &context()).unwrap();
        assert_eq!((members.items.len(), members.total), (1, Some(1)));
        let expected = [
            "orgmem_2g7np7Hrk0SN6kj5EDMLDaKNL0S",
            "org_2g7np7Hrk0SN6kj5EDMLDaKNL0S",
            "user_2h8op3Isl1QR7tKu5FGNfaLKEoU",
        ];
        assert_eq!(subjects(&members.items[0]), expected);
    }

    #[test]
    fn a_membership_without_its_user_is_that_of_the_user_it_was_asked_for() {
        let json = r#"{"id":"orgmem_1","role":"org:member","organization":{"id":"org_1"},"created_at":1}"#;
        let asked = UserId::parse("user_1").unwrap();
        let read = |user| object(Kind::Member, json, &Context { user, ..context() }).unwrap().reading;
        assert_eq!(read(None), Err(Fault::MissingId("data.public_user_data.user_id")));
        let observations = read(Some(&asked)).unwrap();
        assert!(matches!(&observations[0].fact, Fact::Member(member, ..) if member.user == asked));
    }

    #[test]
    fn one_bad_object_spoils_only_itself() {
        let json = r#"[{"id":"user_1","updated_at":1},{"id":7},{"id":"user_2","updated_at":9999999999999},
            {"id":"user_3","name":"\ud800"},7,[],{"id":"user_5","id":"user_6"},{"id":"user_4","updated_at":1}]"#;
        let page = page(Kind::User, json, &context()).unwrap();
        let ids: Vec<_> = page.items.iter().map(|item| item.reading.is_ok()).collect();
        assert_eq!(ids, [true, false, false, true, false, false, false, true]);
        assert_eq!(page.items[2].reading, Err(Fault::Ahead("updated_at")));
    }

    #[test]
    fn what_is_not_the_api_is_refused() {
        let check = |json: &str| assert_eq!(page(Kind::User, json, &context()), Err(NotTheApi), "{json}");
        for json in ["", "[", "<html></html>", r#"[{"id":"user_1"}"#, r#"{"data":{}}"#, "{}", "null", "7"] {
            check(json);
        }
        assert_eq!(object(Kind::User, "[]", &context()), Err(NotTheApi));
    }

    #[test]
    fn errors_and_the_instance_are_read() {
        let body = include_str!("../../../../fixtures/api/not_found.json");
        assert_eq!(error_codes(body).unwrap(), ["resource_not_found"]);
        assert_eq!(error_codes(r#"{"errors":[]}"#).unwrap(), Vec::<String>::new());
        for not_clerk in ["<html>404</html>", r#"{"message":"not found"}"#, "[]", ""] {
            assert_eq!(error_codes(not_clerk), Err(NotTheApi), "{not_clerk}");
        }
        let json = include_str!("../../../../fixtures/api/instance.json");
        assert_eq!(instance(json).as_deref(), Ok("ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S"));
        assert_eq!(instance(r#"{"id":"org_1"}"#), Err(NotTheApi));
    }
}

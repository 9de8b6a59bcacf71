//! What queries show: made by the handlers of the `GET`s, once for all who are shown the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use faircopy_core::Millis;
use http::StatusCode;
use http_body_util::BodyExt as _;
use tokio::sync::Mutex as AsyncMutex;
use tower::ServiceExt as _;

use super::feed::Topic;
use crate::http::problem::Problem;
use crate::http::session::{Caller, active};

/// What a query is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// The caller.
    Caller,
    /// The caller's memberships, with the names of the organizations.
    Memberships,
    /// A user.
    User,
    /// The active organization: the same for each of its members.
    Organization,
    /// Its workspace, with the caller's role, and with channels and rooms that the application writes and the feed does not number.
    Workspace,
}

/// One query of one stream.
#[derive(Debug, Clone)]
pub(super) struct Query {
    /// As the reader named it.
    pub(super) path: String,
    pub(super) subject: Subject,
    /// What is the same for all who have the same.
    slot: Arc<Slot>,
}

impl Query {
    /// What it hears, apart from the caller's own topic.
    pub(super) fn topics(&self, caller: &Caller) -> Vec<Topic> {
        match self.subject {
            Subject::Caller | Subject::Memberships => vec![],
            Subject::Organization | Subject::Workspace => {
                active(&caller.session).map(|id| Topic::Organization(id.to_string())).into_iter().collect()
            }
            Subject::User => vec![Topic::User(self.user().to_owned())],
        }
    }

    /// Whether it hears a topic that is not the caller's own, with this active organization.
    pub(super) fn is_about(&self, topic: &Topic, active: Option<&Topic>) -> bool {
        match (self.subject, topic) {
            (Subject::Caller | Subject::Memberships, _) => false,
            (Subject::Organization | Subject::Workspace, topic) => Some(topic) == active,
            (Subject::User, Topic::User(id)) => id == self.user(),
            (Subject::User, Topic::Organization(_)) => false,
        }
    }

    /// Whom the path names.
    fn user(&self) -> &str {
        route(&self.path).rsplit('/').next().unwrap_or_default()
    }
}

/// What a query shows.
#[derive(Debug, Clone)]
pub(super) struct Value {
    /// The body of the `GET`, or what it answers instead.
    pub(super) body: Result<Bytes, Box<Problem>>,
    /// Of memberships: the organizations that it names.
    pub(super) organizations: Arc<[String]>,
}

/// A value that was made, and for how long it is good.
#[derive(Debug, Clone)]
struct Made {
    value: Value,
    /// Every change up to this one is in it.
    sequence: i64,
    at: Millis,
    /// Whom it was made for, where nobody else may be shown it.
    only_for: Option<String>,
}

#[derive(Debug, Default)]
struct Slot {
    made: AsyncMutex<Option<Made>>,
}

/// By what values are shared: the path, and whose it is.
type Key = (String, String);

/// The slots that somebody holds, and some that nobody holds any more.
#[derive(Default)]
struct Slots {
    by_key: HashMap<Key, Weak<Slot>>,
    /// How many there may be until those that nobody holds are dropped.
    sweep_at: usize,
}

impl Slots {
    fn get(&mut self, key: Key) -> Arc<Slot> {
        if let Some(slot) = self.by_key.get(&key).and_then(Weak::upgrade) {
            return slot;
        }
        if self.by_key.len() >= self.sweep_at {
            self.by_key.retain(|_, slot| slot.strong_count() > 0);
            self.sweep_at = (2 * self.by_key.len()).max(64);
        }
        let slot = Arc::<Slot>::default();
        self.by_key.insert(key, Arc::downgrade(&slot));
        slot
    }
}

/// Makes values, and keeps those that are shown.
pub(super) struct Values {
    reads: Router,
    slots: Mutex<Slots>,
}

/// How new a value must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    /// The newest change that touched it.
    pub(super) touched: i64,
    /// When it was made at the earliest: for what the feed does not number.
    pub(super) since: Option<Millis>,
    /// Every change up to this one was heard.
    pub(super) place: i64,
}

impl Values {
    pub(super) fn new(reads: Router) -> Self {
        Self { reads, slots: Mutex::default() }
    }

    /// The query that a path names, for this caller.
    pub(super) fn query(&self, path: String, caller: &Caller) -> Query {
        let organization = active(&caller.session).map(ToString::to_string).unwrap_or_default();
        let subject = match route(&path) {
            "/v1/me" => Subject::Caller,
            "/v1/me/organizations" => Subject::Memberships,
            "/v1/organization" | "/v1/organization/members" => Subject::Organization,
            "/v1/workspace" => Subject::Workspace,
            _ => Subject::User,
        };
        // What a member sees of their organization, every member sees; that the caller is one is known before. A workspace says
        // what its reader is in it.
        let is_shared = subject == Subject::Organization && caller.member.is_some();
        let whose = if is_shared { organization } else { format!("{}/{organization}", caller.user()) };
        let slot = self.slots.lock().unwrap_or_else(PoisonError::into_inner).get((path.clone(), whose));
        Query { path, subject, slot }
    }

    /// What the query shows a caller who is known to be one.
    pub(super) async fn value(&self, query: &Query, caller: &Caller, due: Due, now: Millis) -> Value {
        let mut made = query.slot.made.lock().await;
        if let Some(known) = made.as_ref() {
            let is_new = known.sequence >= due.touched && due.since.is_none_or(|since| known.at >= since);
            if is_new && known.only_for.as_deref().is_none_or(|user| user == caller.user()) {
                return known.value.clone();
            }
        }
        let value = self.ask(query, caller).await;
        // A page that goes on has a place in it that is sealed for one reader.
        let is_open = matches!(&value.body, Ok(body) if !goes_on(body));
        let only_for = (!is_open).then(|| caller.user().to_owned());
        // What touched it was committed before it was heard of.
        let sequence = due.place.max(due.touched).max(made.as_ref().map_or(0, |known| known.sequence));
        *made = Some(Made { value: value.clone(), sequence, at: now, only_for });
        value
    }

    async fn ask(&self, query: &Query, caller: &Caller) -> Value {
        let no_query = || Err(Box::new(Problem::new("not-found", "No query has this path.")));
        // As it is written here, it is what the topics were taken from: nothing is decoded.
        let path = query.path.strip_prefix("/v1").filter(|path| !route(path).contains('%'));
        let body = match path.map(|path| Request::get(path).body(Body::empty())) {
            Some(Ok(mut request)) => {
                request.extensions_mut().insert(caller.clone());
                answer(self.reads.clone().oneshot(request).await.unwrap_or_else(|never| match never {})).await
            }
            Some(Err(_)) | None => no_query(),
        };
        let organizations = match (&body, query.subject) {
            (Ok(body), Subject::Memberships) => organizations_in(body),
            _ => Arc::default(),
        };
        Value { body, organizations }
    }
}

/// A path without its parameters.
fn route(path: &str) -> &str {
    path.split('?').next().unwrap_or_default()
}

/// The body of an answer, or the problem that it is.
async fn answer(mut response: axum::response::Response) -> Result<Bytes, Box<Problem>> {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        return Err(Box::new(problem));
    }
    let broken = || Box::new(Problem::new("internal-error", "The value could not be made; this is a bug."));
    if response.status() != StatusCode::OK {
        return Err(broken());
    }
    let body = response.into_body().collect().await.map_err(|_| broken())?;
    Ok(body.to_bytes())
}

/// Whether there is a next page.
fn goes_on(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Page<'a> {
        #[serde(borrow, default)]
        next: Option<&'a serde_json::value::RawValue>,
    }
    serde_json::from_slice::<Page<'_>>(body).is_ok_and(|page| page.next.is_some())
}

/// The organizations of a page of memberships.
fn organizations_in(body: &[u8]) -> Arc<[String]> {
    #[derive(serde::Deserialize)]
    struct Page {
        data: Vec<Membership>,
    }
    #[derive(serde::Deserialize)]
    struct Membership {
        clerk_org_id: String,
    }
    let page = serde_json::from_slice::<Page>(body).map(|page| page.data).unwrap_or_default();
    page.into_iter().map(|membership| membership.clerk_org_id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_goes_on_is_told_from_the_last() {
        assert!(goes_on(br#"{"data":[],"next":"abc"}"#));
        assert!(!goes_on(br#"{"data":[],"next":null}"#));
        assert!(!goes_on(br#"{"clerk_user_id":"user_1"}"#));
    }

    #[test]
    fn memberships_name_their_organizations() {
        let body = br#"{"data":[{"clerk_org_id":"org_1","role":"org:admin"},{"clerk_org_id":"org_2"}],"next":null}"#;
        assert_eq!(&*organizations_in(body), ["org_1", "org_2"]);
    }
}

//! A small Clerk Backend API on a port of its own, for reading: an instance with users, organizations and memberships, that
//! answers well, badly, late, from the past, or for somebody else.
//!
//! It knows the routes that Faircopy reads, with Clerk's paging, filters, error envelopes and version header. Every request
//! is remembered.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// The key that is accepted.
pub const KEY: &str = "sk_test_a-secret-key-for-tests";
/// When everything in the instance was made, in milliseconds.
const THEN: i64 = 1_716_883_200_000;
/// How long a silent server says nothing.
const SILENCE: Duration = Duration::from_secs(60);

/// How one request is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mood {
    /// As Clerk would.
    Fine,
    /// With this status, in Clerk's own envelope.
    Status(u16),
    /// 429, with this `Retry-After`.
    Limited(Option<u64>),
    /// Not at all.
    Silent,
    /// So much later.
    Late(Duration),
    /// 200 with a page for people.
    Html,
    /// 404 with a page for people.
    HtmlNotFound,
    /// 200 with JSON that ends in the middle.
    CutOff,
    /// A redirect to this address.
    Redirect(String),
    /// A list, as if its filters had not been sent.
    Unfiltered,
}

impl Mood {
    /// The ways in which nothing is learned.
    #[must_use]
    pub fn without_an_answer() -> [Self; 8] {
        [
            Self::Status(500),
            Self::Status(401),
            Self::Html,
            Self::HtmlNotFound,
            Self::CutOff,
            Self::Redirect("http://127.0.0.1:9/".into()),
            Self::Limited(Some(30)),
            Self::Silent,
        ]
    }
}

#[derive(Clone, Default)]
struct World {
    instance: String,
    jwks: String,
    users: BTreeMap<String, Value>,
    organizations: BTreeMap<String, Value>,
    /// By organization and user.
    memberships: BTreeMap<(String, String), Value>,
    invitations: BTreeMap<String, Value>,
    /// Organizations are switched off.
    is_without_organizations: bool,
    /// Where webhooks are managed; not there before anybody has opened them.
    portal: Option<String>,
}

struct State {
    world: World,
    /// What is answered from while the API is behind.
    past: Option<World>,
    mood: Mood,
    /// The moods of the next requests, before that one.
    next: VecDeque<Mood>,
    asked: Vec<String>,
}

/// A running API. It ends when it is dropped.
pub struct Clerk {
    url: String,
    state: Arc<Mutex<State>>,
    accepting: JoinHandle<()>,
}

impl Drop for Clerk {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Clerk {
    /// An empty instance whose session tokens are verified with these keys. Without a name, or without keys, the API lacks
    /// the route that would tell.
    ///
    /// # Panics
    /// When no port can be listened on.
    pub async fn start(instance: &str, jwks: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let world = World { instance: instance.into(), jwks: jwks.into(), ..World::default() };
        let state = State { world, past: None, mood: Mood::Fine, next: VecDeque::new(), asked: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let accepting = tokio::spawn(accept(listener, state.clone()));
        Self { url, state, accepting }
    }

    /// Its address, for `CLERK_API_URL`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// There is a user of this first name now, or has it from now on: each call is a newer version.
    pub fn has_user(&self, id: &str, first_name: &str) {
        let users = &mut self.state().world.users;
        let version = users.get(id).and_then(|user| user["updated_at"].as_i64()).unwrap_or(THEN) + 1000;
        users.insert(id.to_owned(), user(id, first_name, version));
    }

    /// The same, with a version that was made at this time, in milliseconds.
    pub fn has_user_since(&self, id: &str, first_name: &str, updated_at: i64) {
        self.state().world.users.insert(id.to_owned(), user(id, first_name, updated_at));
    }

    /// Somebody is invited to the organization.
    pub fn invites(&self, organization: &str, id: &str) {
        self.state().world.invitations.insert(id.to_owned(), invitation(organization, id));
    }

    /// The user has these members of its object from now on, whatever they are.
    ///
    /// # Panics
    /// When there is no such user, or the members are no object.
    pub fn edits_user(&self, id: &str, members: &Value) {
        let mut state = self.state();
        let user = state.world.users.get_mut(id).and_then(Value::as_object_mut).expect("a user");
        user.extend(members.as_object().expect("an object").clone());
    }

    /// There is an organization of this name now.
    pub fn has_organization(&self, id: &str, name: &str) {
        let organizations = &mut self.state().world.organizations;
        let version = organizations.get(id).and_then(|old| old["updated_at"].as_i64()).unwrap_or(THEN) + 1000;
        organizations.insert(id.to_owned(), organization(id, name, version));
    }

    /// The user is a member now, in this role.
    ///
    /// # Panics
    /// When there is no such organization or user.
    pub fn joins(&self, organization: &str, user: &str, role: &str) {
        let mut state = self.state();
        let State { world, .. } = &mut *state;
        let (of, who) = (&world.organizations[organization], &world.users[user]);
        let membership = membership(of, who, role);
        world.memberships.insert((organization.to_owned(), user.to_owned()), membership);
    }

    /// Organizations are switched off from now on.
    pub fn has_no_organizations(&self) {
        self.state().world.is_without_organizations = true;
    }

    /// Webhooks were opened: this link leads to them.
    pub fn has_webhooks(&self, portal: &str) {
        self.state().world.portal = Some(portal.to_owned());
    }

    /// The user is not a member any more.
    pub fn leaves(&self, organization: &str, user: &str) {
        self.state().world.memberships.remove(&(organization.to_owned(), user.to_owned()));
    }

    /// The user is gone, and with it its memberships.
    pub fn deletes_user(&self, id: &str) {
        let world = &mut self.state().world;
        world.users.remove(id);
        world.memberships.retain(|(_, user), _| user != id);
    }

    /// The key belongs to another instance from now on: another name, other keys, nobody in it.
    pub fn becomes(&self, instance: &str, jwks: &str) {
        self.state().world = World { instance: instance.into(), jwks: jwks.into(), ..World::default() };
    }

    /// From now on everything is answered as it is now, whatever changes, until [`Clerk::catches_up`].
    pub fn falls_behind(&self) {
        let mut state = self.state();
        state.past = Some(state.world.clone());
    }

    /// Answers are about now again.
    pub fn catches_up(&self) {
        self.state().past = None;
    }

    /// How every request is answered from now on.
    pub fn is(&self, mood: Mood) {
        self.state().mood = mood;
    }

    /// How the next requests are answered, one after the other.
    pub fn next(&self, moods: impl IntoIterator<Item = Mood>) {
        self.state().next.extend(moods);
    }

    /// Every request so far: path and query.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.state().asked.clone()
    }

    /// How many requests so far had a path that begins like this.
    #[must_use]
    pub fn count(&self, prefix: &str) -> usize {
        self.state().asked.iter().filter(|path| path.starts_with(prefix)).count()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn user(id: &str, first_name: &str, updated_at: i64) -> Value {
    json!({
        "id": id, "object": "user", "username": null, "first_name": first_name, "last_name": "Of-Clerk",
        "image_url": "https://img.clerk.com/u", "external_id": null, "primary_email_address_id": "idn_1",
        "email_addresses": [{
            "id": "idn_1", "object": "email_address", "email_address": format!("{id}@example.com"),
            "verification": { "status": "verified" },
        }],
        "public_metadata": {}, "private_metadata": { "note": "never mirrored" }, "unsafe_metadata": {},
        "banned": false, "locked": false, "created_at": THEN, "updated_at": updated_at,
    })
}

fn organization(id: &str, name: &str, updated_at: i64) -> Value {
    json!({
        "object": "organization", "id": id, "name": name, "slug": id.replace('_', "-"), "has_image": false,
        "image_url": "https://img.clerk.com/o", "created_by": "user_owner", "public_metadata": {}, "private_metadata": {},
        "created_at": THEN, "updated_at": updated_at,
    })
}

fn membership(organization: &Value, user: &Value, role: &str) -> Value {
    let id = |of: &Value| of["id"].as_str().unwrap_or_default().to_owned();
    json!({
        "object": "organization_membership", "id": format!("orgmem_{}_{}", id(organization), id(user)), "role": role,
        "permissions": ["org:docs:read"], "public_metadata": {}, "organization": organization,
        "public_user_data": {
            "user_id": user["id"], "first_name": user["first_name"], "last_name": user["last_name"],
            "image_url": user["image_url"], "identifier": user["email_addresses"][0]["email_address"],
        },
        "created_at": THEN, "updated_at": THEN,
    })
}

fn invitation(organization: &str, id: &str) -> Value {
    json!({
        "object": "organization_invitation", "id": id, "organization_id": organization, "role": "org:member",
        "email_address": format!("{id}@example.com"), "status": "pending", "public_metadata": {}, "private_metadata": {},
        "url": null, "expires_at": null, "created_at": THEN, "updated_at": THEN,
    })
}

async fn accept(listener: TcpListener, state: Arc<Mutex<State>>) {
    // They end with this task.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let state = state.clone();
        connections.spawn(async move {
            let answer = service_fn(move |request| respond(request, state.clone()));
            // A client that hangs up is none of our business.
            drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await);
        });
        while connections.try_join_next().is_some() {}
    }
}

type Reply = Response<Full<Bytes>>;

async fn respond(request: Request<Incoming>, state: Arc<Mutex<State>>) -> Result<Reply, Infallible> {
    let path = request.uri().path_and_query().map_or("", |path| path.as_str()).to_owned();
    let (mood, world) = {
        let mut state = lock(&state);
        state.asked.push(path.clone());
        let mood = state.next.pop_front().unwrap_or_else(|| state.mood.clone());
        (mood, state.past.clone().unwrap_or_else(|| state.world.clone()))
    };
    let is_post = request.method() == http::Method::POST;
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    if header("authorization") != Some(&format!("Bearer {KEY}")) {
        return Ok(error(401, "clerk_key_invalid"));
    }
    if header("clerk-api-version").is_none() {
        return Ok(error(400, "api_version_invalid"));
    }
    if is_post != (path == "/v1/webhooks/svix_url") {
        return Ok(error(405, "method_not_allowed"));
    }
    let filtered = mood != Mood::Unfiltered;
    Ok(match mood {
        Mood::Fine | Mood::Unfiltered => world.answer(&path, filtered),
        Mood::Status(status) => error(status, "internal_clerk_error"),
        Mood::Limited(after) => {
            let mut reply = error(429, "too_many_requests");
            if let Some(after) = after {
                reply.headers_mut().insert("retry-after", after.into());
            }
            reply
        }
        Mood::Silent => {
            tokio::time::sleep(SILENCE).await;
            error(504, "gateway_timeout")
        }
        Mood::Late(by) => {
            tokio::time::sleep(by).await;
            world.answer(&path, filtered)
        }
        Mood::Html => page_for_people(200),
        Mood::HtmlNotFound => page_for_people(404),
        Mood::CutOff => {
            let whole = world.answer(&path, filtered);
            let half = reply(200, "application/json", r#"{"data":[{"id":"user_"#.to_owned());
            if whole.status() == StatusCode::OK { half } else { whole }
        }
        Mood::Redirect(to) => {
            let mut reply = error(302, "moved");
            reply.headers_mut().insert("location", to.parse().expect("an address"));
            reply
        }
    })
}

fn reply(status: u16, content_type: &str, body: String) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from(body)));
    *reply.status_mut() = StatusCode::from_u16(status).expect("a status");
    reply.headers_mut().insert("content-type", content_type.parse().expect("a content type"));
    reply
}

fn ok(body: &Value) -> Reply {
    reply(200, "application/json", body.to_string())
}

fn error(status: u16, code: &str) -> Reply {
    let body = json!({ "errors": [{ "message": code, "long_message": code, "code": code }], "clerk_trace_id": "0" });
    reply(status, "application/json", body.to_string())
}

fn page_for_people(status: u16) -> Reply {
    reply(status, "text/html", "<html><body>Somebody else's page</body></html>".to_owned())
}

impl World {
    fn answer(&self, path: &str, filtered: bool) -> Reply {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let pairs = if filtered { query } else { "" }.split('&').filter_map(|pair| pair.split_once('='));
        let query: Vec<(&str, &str)> = pairs.collect();
        let route: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let all =
            |name: &str| query.iter().filter(|(key, _)| *key == name).map(|(_, value)| *value).collect::<Vec<_>>();
        let found = |row: Option<&Value>| row.map_or_else(|| error(404, "resource_not_found"), ok);
        let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
        let (users, named, of) = (all("user_id"), all("organization_id"), |filter: &[&str], id: &str| {
            filter.is_empty() || filter.contains(&id)
        });
        match route[..] {
            ["v1", "instance"] if !self.instance.is_empty() => {
                ok(&json!({ "object": "instance", "id": self.instance, "environment_type": "test" }))
            }
            ["v1", "jwks"] if !self.jwks.is_empty() => reply(200, "application/json", self.jwks.clone()),
            ["v1", first, ..] if self.is_without_organizations && first.starts_with("organization") => {
                error(403, "organization_not_enabled_in_instance")
            }
            ["v1", "users"] => {
                let members = |user: &str| {
                    named.is_empty() || self.memberships.keys().any(|(o, u)| u == user && named.contains(&o.as_str()))
                };
                let rows = self.users.values().filter(|row| of(&users, &text(row, "id")) && members(&text(row, "id")));
                let mut rows: Vec<&Value> = rows.collect();
                if query.contains(&("order_by", "-updated_at")) {
                    rows.sort_by_key(|row| std::cmp::Reverse(row["updated_at"].as_i64()));
                }
                ok(&Value::Array(cut(rows.into_iter(), &query)))
            }
            ["v1", "users", "count"] => ok(&json!({ "object": "total_count", "total_count": self.users.len() })),
            ["v1", "users", id] => found(self.users.get(id)),
            ["v1", "users", id, "organization_memberships"] => {
                list(self.memberships.iter().filter(|((_, user), _)| user == id).map(|(_, row)| row), &query)
            }
            ["v1", "organizations"] => {
                list(self.organizations.values().filter(|row| of(&named, &text(row, "id"))), &query)
            }
            ["v1", "organizations", id] => found(self.organizations.get(id)),
            ["v1", "organizations", id, "memberships"] if self.organizations.contains_key(id) => {
                let rows = self.memberships.iter().filter(|((o, user), _)| o == id && of(&users, user));
                list(rows.map(|(_, row)| row), &query)
            }
            ["v1", "organization_invitations"] => list(self.invitations.values(), &query),
            ["v1", "webhooks", "svix_url"] => match &self.portal {
                Some(portal) => ok(&json!({ "svix_url": portal })),
                None => error(400, "svix_app_missing"),
            },
            ["v1", "organization_memberships"] => list(self.memberships.values(), &query),
            _ => error(404, "resource_not_found"),
        }
    }
}

/// A list with its total, and the part of it that the query asks for.
fn list<'a>(rows: impl Iterator<Item = &'a Value>, query: &[(&str, &str)]) -> Reply {
    let rows: Vec<&Value> = rows.collect();
    ok(&json!({ "data": cut(rows.iter().copied(), query), "total_count": rows.len() }))
}

/// Clerk's default page has ten rows.
fn cut<'a>(rows: impl Iterator<Item = &'a Value>, query: &[(&str, &str)]) -> Vec<Value> {
    let number = |name: &str| query.iter().find(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok());
    let after = query.iter().find(|(key, _)| *key == "starting_after").map(|(_, id)| *id);
    let rows = rows.skip_while(move |row| after.is_some_and(|id| row["id"] != id));
    let first = number("offset").unwrap_or(usize::from(after.is_some()));
    rows.skip(first).take(number("limit").unwrap_or(10)).cloned().collect()
}

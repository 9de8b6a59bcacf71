//! Clerk's API over HTTP: the Backend API under `/v1`, and what the Frontend API publishes about keys.
//!
//! [`routes::TABLE`] names every route. A request is read, admitted and carried out under one lock, so that what it
//! answers and what it emits belong to the same moment.

mod admission;
mod answer;
mod organizations;
mod public;
mod routes;
mod sessions;
mod users;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State as Shares};
use axum::response::Response;
use bytes::Bytes;
use http::header::USER_AGENT;
use http::{Method, StatusCode, request::Parts};
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;

use crate::chaos::{self, ApiFault, layer};
use crate::instance::{Document, Instance, Query, Refusal};
use crate::keys::Keys;
use crate::post::Origin;
use crate::state::{Shared, State};
use admission::Version;
use answer::Answer;
pub use routes::{Class, Route, TABLE};

/// The longest body that is read: more than any that Clerk takes.
const MAX_BODY: usize = 1024 * 1024;

/// A request, as a route's handler sees it.
pub(crate) struct Call<'a> {
    pub(crate) instance: &'a mut Instance,
    pub(crate) keys: &'a Keys,
    /// The parts of the path that the route leaves open.
    pub(crate) path: Vec<&'a str>,
    pub(crate) query: &'a Query,
    pub(crate) body: &'a Document,
    /// The members of the body, where the route takes a list.
    pub(crate) bodies: &'a [Document],
    pub(crate) version: Version,
    pub(crate) now: i64,
}

/// What a handler comes to.
pub(crate) type Outcome = Result<Answer, Refusal>;

impl<'a> Call<'a> {
    /// The open part of the path with this number.
    pub(crate) fn part(&self, number: usize) -> &'a str {
        self.path.get(number).copied().unwrap_or_default()
    }
}

/// Whoever sends this header, the page, is neither counted nor met by chaos: looking on changes nothing.
const ONLOOKER: &str = "faircopy-sandbox-onlooker";

/// Answers a request to Clerk's API, whatever its path.
pub(crate) async fn answer(Shares(shared): Shares<Arc<Shared>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let read = Limited::new(body, MAX_BODY).collect().await.map(http_body_util::Collected::to_bytes);
    let fault = shared.with(|state, now| state.fault(&head, now));
    let carry_out = async {
        shared.with(|state, now| match read {
            Ok(body) => state.respond(&head, &body, fault.stale, shared.keys(), now),
            Err(_) => {
                let long = "The request's body is too large or broke off.";
                answer::refused(&Refusal::new(413, "request_body_too_large", "too large", long), &state.trace())
            }
        })
    };
    layer::around(fault, carry_out).await
}

/// Who asks, as the events of what they change will say.
fn origin(head: &Parts) -> Origin {
    let peer = head.extensions.get::<SocketAddr>().map(|peer| peer.ip().to_string());
    let agent = head.headers.get(USER_AGENT).and_then(|value| value.to_str().ok());
    Origin { client_ip: peer.unwrap_or_default(), user_agent: agent.unwrap_or_default().to_owned() }
}

fn parse(body: &Bytes) -> Result<Document, Refusal> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Document::new());
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(document)) => Ok(document),
        Ok(Value::Null) => Ok(Document::new()),
        _ => Err(malformed("The request's body must be a JSON object.")),
    }
}

fn parse_list(body: &Bytes) -> Result<Vec<Document>, Refusal> {
    serde_json::from_slice(body).map_err(|_| malformed("The request's body must be a JSON array of objects."))
}

fn malformed(long: &str) -> Refusal {
    Refusal::new(400, "malformed_request_parameters", "malformed request parameters", long)
}

impl State {
    fn trace(&mut self) -> String {
        format!("{:016x}{:016x}", self.traces.number(), self.traces.number())
    }

    /// What goes wrong with a request on purpose. Keys, and what is no request of the Backend API, are left alone.
    fn fault(&mut self, head: &Parts, now: i64) -> ApiFault {
        let Ok((route, _)) = routes::find(&head.method, head.uri.path()) else { return ApiFault::default() };
        let kind = match route.class {
            Class::List => chaos::Route::List,
            Class::Read => chaos::Route::Read,
            Class::Write => chaos::Route::Write,
            Class::Public | Class::Keys => return ApiFault::default(),
        };
        if head.headers.contains_key(ONLOOKER) { ApiFault::default() } else { self.chaos.api_fault(kind, now) }
    }

    fn respond(&mut self, head: &Parts, body: &Bytes, stale: bool, keys: &Keys, now: i64) -> Response {
        self.origin = origin(head);
        let outcome = self.carry_out(head, body, stale, keys, now);
        match outcome {
            Ok(answer) => answer.into_response(),
            Err(refusal) => answer::refused(&refusal, &self.trace()),
        }
    }

    fn carry_out(&mut self, head: &Parts, body: &Bytes, stale: bool, keys: &Keys, now: i64) -> Outcome {
        let path = head.uri.path();
        let (route, parts) = routes::find(&head.method, path)?;
        let query = Query::parse(head.uri.query().unwrap_or_default());
        let mut version = Version::default();
        if route.class != Class::Public {
            admission::check_key(&head.headers, keys)?;
            version = admission::version(&head.headers, &query)?;
            if route.class != Class::Keys && !head.headers.contains_key(ONLOOKER) {
                admission::check_limit(&mut self.meter, self.rate_limit, keys, route.path, now)?;
            }
            if route.is_of_organizations() && !self.instance.options().organizations {
                return Err(admission::no_organizations());
            }
        }
        let (body, bodies) = match head.method {
            Method::GET => (Document::new(), Vec::new()),
            _ if route.takes_list() => (Document::new(), parse_list(body)?),
            _ => (parse(body)?, Vec::new()),
        };
        let parts: Vec<String> = parts.iter().map(|part| admission::decoded(part)).collect();
        let path = parts.iter().map(String::as_str).collect();
        let past = self.past.as_mut().filter(|_| stale).and_then(|past| past.at(now));
        let instance = past.unwrap_or(&mut self.instance);
        let mut call = Call { instance, keys, path, query: &query, body: &body, bodies: &bodies, version, now };
        (route.handler)(&mut call)
    }
}

/// A response of this status with JSON.
fn json_response(status: u16, body: &Value) -> Response {
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}

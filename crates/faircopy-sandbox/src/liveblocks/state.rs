//! One request for rooms after the other: what is done, what is answered, what is remembered. PURE.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::faults::{Faults, Wrong};
use super::rooms::{Refusal, Rooms};

/// Requests that are remembered one by one. The counts are of all.
const MAX_REQUESTS: usize = 10_000;

/// What is asked.
#[derive(Debug, Clone)]
pub enum Call {
    /// A page of rooms.
    List(Vec<(String, String)>),
    /// Make the room that this text describes.
    Create {
        /// The body as it came.
        body: Vec<u8>,
        /// Whether a room that exists will do.
        idempotent: bool,
    },
    /// One room.
    Get(String),
    /// Delete this room.
    Delete(String),
    /// What Liveblocks has no route for, or the sandbox has not.
    Unknown,
}

impl Call {
    /// The word that requests of this kind are counted under.
    fn name(&self) -> &'static str {
        match self {
            Self::List(_) => "list",
            Self::Create { .. } => "create",
            Self::Get(_) => "get",
            Self::Delete(_) => "delete",
            Self::Unknown => "unknown",
        }
    }

    fn room(&self) -> Option<String> {
        match self {
            Self::Get(id) | Self::Delete(id) => Some(id.clone()),
            Self::Create { body, .. } => {
                let body: Value = serde_json::from_slice(body).ok()?;
                body["id"].as_str().map(str::to_owned)
            }
            Self::List(_) | Self::Unknown => None,
        }
    }
}

/// One request that came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The how manieth it was.
    pub number: u64,
    /// When it came, in milliseconds since 1970.
    pub at_ms: i64,
    /// `list`, `create`, `get`, `delete` or `unknown`.
    pub call: String,
    /// The room that it named.
    pub room: Option<String>,
    /// The status of the answer, or null where the connection ended without one.
    pub status: Option<u16>,
    /// Whether it was carried out, answered or not.
    pub done: bool,
}

/// What is answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The status; none where the connection ends without an answer.
    pub status: Option<u16>,
    /// `Retry-After`, in seconds.
    pub retry_after_s: Option<u64>,
    /// The body.
    pub body: Option<Value>,
    /// How long the answer waits.
    pub latency_ms: u64,
}

/// Everything that the rooms' part of the sandbox knows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// The rooms.
    pub rooms: Rooms,
    /// What goes wrong.
    pub faults: Faults,
    /// Requests so far, by kind.
    pub counts: BTreeMap<String, u64>,
    /// The last requests, oldest first.
    pub requests: VecDeque<Asked>,
    asked: u64,
    /// When those of the last second came that were within the limit, where there is one.
    #[serde(skip)]
    lately: VecDeque<i64>,
}

impl State {
    /// Answers a request that comes with this `Authorization` to an instance of this key, carrying it out.
    pub fn answer(&mut self, key: &str, authorization: Option<&str>, call: &Call, now_ms: i64) -> Answer {
        self.asked += 1;
        let (wrong, latency_ms, outcome) = match authorize(key, authorization) {
            Err(refusal) => (Wrong::Nothing, 0, Some(Err(refusal))),
            Ok(()) => {
                let is_within = self.faults.allow(&mut self.lately, now_ms);
                let (wrong, latency_ms) = self.faults.decide(self.asked, matches!(call, Call::Delete(_)), is_within);
                let carried_out = matches!(wrong, Wrong::Nothing | Wrong::Lost);
                (wrong, latency_ms, carried_out.then(|| self.carry_out(call, now_ms)))
            }
        };
        let done = matches!(outcome, Some(Ok(_)));
        let answer = Answer { latency_ms, ..answer(wrong, outcome) };
        self.remember(call, now_ms, answer.status, done);
        answer
    }

    fn carry_out(&mut self, call: &Call, now_ms: i64) -> Result<(u16, Option<Value>), Refusal> {
        match call {
            Call::List(parameters) => Ok((200, Some(self.rooms.list(parameters)?))),
            Call::Create { body, idempotent } => {
                let wanted: Value = serde_json::from_slice(body).unwrap_or_default();
                Ok((200, Some(self.rooms.create(&wanted, *idempotent, now_ms)?.document())))
            }
            Call::Get(id) => Ok((200, Some(self.rooms.get(id)?.document()))),
            Call::Delete(id) => self.rooms.delete(id).map(|()| (204, None)),
            Call::Unknown => Err(Refusal {
                status: 404,
                code: "NOT_FOUND",
                message: "The sandbox has no such route.".into(),
                suggestion: "It has GET and POST /v2/rooms, GET and DELETE /v2/rooms/{id}.",
            }),
        }
    }

    fn remember(&mut self, call: &Call, at_ms: i64, status: Option<u16>, done: bool) {
        let name = call.name().to_owned();
        *self.counts.entry(name.clone()).or_default() += 1;
        self.requests.push_back(Asked { number: self.asked, at_ms, call: name, room: call.room(), status, done });
        if self.requests.len() > MAX_REQUESTS {
            self.requests.pop_front();
        }
    }

    /// Forgets the requests so far, and their counts. Their numbers go on.
    pub fn forget_requests(&mut self) {
        self.counts.clear();
        self.requests.clear();
    }
}

fn authorize(key: &str, authorization: Option<&str>) -> Result<(), Refusal> {
    let refused = |status, code, message: &str| {
        let suggestion = "Send the secret key of this project: Authorization: Bearer sk_…";
        Err(Refusal { status, code, message: message.into(), suggestion })
    };
    match authorization.and_then(|value| value.strip_prefix("Bearer ")).map(str::trim) {
        None | Some("") => refused(401, "MISSING_SECRET_KEY", "The secret key is missing."),
        Some(sent) if !sent.starts_with("sk_") => refused(401, "WRONG_KEY_USED", "This is not a secret key."),
        Some(sent) if sent != key => refused(403, "INVALID_SECRET_KEY", "The secret key is invalid."),
        Some(_) => Ok(()),
    }
}

type Outcome = Result<(u16, Option<Value>), Refusal>;

fn answer(wrong: Wrong, outcome: Option<Outcome>) -> Answer {
    let silence = Answer { status: None, retry_after_s: None, body: None, latency_ms: 0 };
    let error = |status: u16, code: &str, message: &str| Answer {
        status: Some(status),
        body: Some(json!({ "error": code, "message": message })),
        ..silence.clone()
    };
    match (wrong, outcome) {
        (Wrong::Limited(retry_after_s), _) => {
            Answer { retry_after_s, ..error(429, "RATE_LIMITED", "Too many requests.") }
        }
        (Wrong::Status(status), _) => error(status, "SANDBOX_FAULT", "An error on request."),
        (Wrong::Lost | Wrong::Closed, _) | (Wrong::Nothing, None) => silence,
        (Wrong::Nothing, Some(Ok((status, body)))) => Answer { status: Some(status), body, ..silence },
        (Wrong::Nothing, Some(Err(refusal))) => {
            Answer { status: Some(refusal.status), body: Some(refusal.body()), ..silence }
        }
    }
}

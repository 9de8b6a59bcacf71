//! A Convex deployment: batches for the internal mutation `faircopy:apply`, over its HTTP API (clerk-facts.md, 7.2).
//!
//! A function that fails answers 200 with `status: "error"`, or 560. Then the batch was not applied at all: it is cut in halves until the
//! one is found that fails alone. Before that the function is called with nothing: one that fails even then is at fault itself.

use std::collections::VecDeque;
use std::ops::Range;

use faircopy_core::courier::Reply;
use faircopy_core::destination::Answer;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{StatusCode, Url};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use tracing::Instrument as _;

use super::{Calling, Carried, Parcel, Unfit, judge};
use crate::config::DestinationSettings;
use crate::telemetry::Metrics;
use crate::upstream::exchange::{self, Fault};

/// The function that takes the changes: the module that the project ships.
const FUNCTION: &str = "faircopy:apply";
/// Bytes of one batch: half of what the smallest deployments write in a second, a fraction of what a call may carry.
const MAX_BATCH_BYTES: usize = 2 * 1024 * 1024;
/// The longest answer that is read: a development deployment adds what the function logged.
const MAX_ANSWER: usize = 1024 * 1024;
/// Calls of a sweep in one turn, each of which takes some hundred rows away. The rest comes with the next turn.
const MAX_SWEEP_CALLS: usize = 100;
/// The status of a function's failure that official clients know beside 200.
const FUNCTION_FAILED: u16 = 560;
/// Calls at once: batches are applied in their order.
const AT_ONCE: usize = 1;
/// The longest name of an error that is told.
const MAX_NAME: usize = 64;

pub(super) struct Convex {
    client: reqwest::Client,
    url: Url,
    name: String,
    metrics: Metrics,
}

#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Body {
    Success {
        value: Option<Applied>,
    },
    Error {
        #[serde(rename = "errorMessage", default)]
        message: String,
        #[serde(rename = "errorData", default)]
        data: serde_json::Value,
    },
}

/// What the function answers.
#[derive(Debug, Clone, Default, Deserialize)]
struct Applied {
    /// The same sweep is to be sent again: there is more to be taken away.
    #[serde(default)]
    more: bool,
}

/// Why a batch was not applied.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NotApplied {
    /// The deployment was not reached, or did not take it.
    Fault(Fault),
    /// The function failed: its error's name, and nothing of its text.
    Function(String),
}

impl Convex {
    pub(super) fn new(settings: &DestinationSettings, key: &SecretString, metrics: Metrics) -> Option<Self> {
        let url = Url::parse(settings.url.expose_secret()).ok()?.join("/api/mutation").ok()?;
        let mut authorization = HeaderValue::from_str(&format!("Convex {}", key.expose_secret())).ok()?;
        authorization.set_sensitive(true);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, authorization)]);
        match exchange::client_within(&url, headers, AT_ONCE, settings.allow_private) {
            Ok(client) => Some(Self { client, url, name: settings.name.clone(), metrics }),
            Err(error) => {
                tracing::error!(%error, destination = settings.name, "it can never be told: there is no TLS");
                None
            }
        }
    }

    /// Whether the function is there and takes the key: it is called with nothing.
    pub(super) async fn check(&self) -> Result<String, Unfit> {
        match self.apply(&[]).await {
            Ok(_) => Ok(format!("`{FUNCTION}` answers")),
            Err(NotApplied::Fault(fault)) => Err(fault.into()),
            Err(NotApplied::Function(error)) => {
                Err(Unfit::Incomplete(format!("`{FUNCTION}` fails or is not there ({error})")))
            }
        }
    }

    pub(super) async fn carry(&self, parcels: &[Parcel], calling: Calling<'_>) -> Carried {
        let mut answers = vec![Answer::Unsaid; parcels.len()];
        let mut is_known_to_work = false;
        let mut left: VecDeque<Range<usize>> = cut(parcels).into();
        while let Some(range) = left.pop_front() {
            if calling.is_late() {
                break;
            }
            let Ok(pass) = calling.gate.begin(0, calling.clock.now()) else { break };
            let sent = self.apply_all(&parcels[range.clone()]).await;
            // A function that fails has answered: the deployment is there.
            let reply = match &sent {
                Ok(_) | Err(NotApplied::Function(_)) => Reply::Confirmed,
                Err(NotApplied::Fault(fault)) => judge(*fault).0,
            };
            calling.gate.end(pass, reply, calling.clock.now(), (calling.chance)());
            let error = match sent {
                Ok(true) => {
                    answers[range].fill(Answer::Taken);
                    is_known_to_work = true;
                    continue;
                }
                // There is more to be taken away, in a turn of its own.
                Ok(false) => break,
                Err(NotApplied::Fault(fault)) => return Carried { answers, trouble: Some(fault.to_string()) },
                Err(NotApplied::Function(error)) => error,
            };
            if !is_known_to_work {
                match self.apply(&[]).await {
                    Ok(_) => is_known_to_work = true,
                    Err(NotApplied::Fault(fault)) => return Carried { answers, trouble: Some(fault.to_string()) },
                    Err(NotApplied::Function(error)) => {
                        let trouble = format!("`{FUNCTION}` fails whatever it is given ({error})");
                        return Carried { answers, trouble: Some(trouble) };
                    }
                }
            }
            match halves(&range) {
                Some([first, second]) => {
                    left.push_front(second);
                    left.push_front(first);
                }
                None => {
                    let error = format!("`{FUNCTION}` refuses it ({error})");
                    answers[range.start] = Answer::Failed { is_for_good: true, retry_after_ms: None, error };
                }
            }
        }
        Carried { answers, trouble: None }
    }

    /// Applies these, a sweep as often as there is more of it: `false` where there still is.
    async fn apply_all(&self, parcels: &[Parcel]) -> Result<bool, NotApplied> {
        for _ in 0..MAX_SWEEP_CALLS {
            if !self.apply(parcels).await?.more {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn apply(&self, parcels: &[Parcel]) -> Result<Applied, NotApplied> {
        let changes = parcels.iter().map(|parcel| parcel.body.as_str()).collect::<Vec<_>>().join(",");
        let body = format!(r#"{{"path":"{FUNCTION}","args":{{"changes":[{changes}]}},"format":"json"}}"#);
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(body);
        let reads = |status: StatusCode| status.is_success() || status.as_u16() == FUNCTION_FAILED;
        let span = exchange::span("destination", &self.name);
        let answer = exchange::exchange(request, MAX_ANSWER, reads).instrument(span.clone()).await;
        let read = answer.map_err(NotApplied::Fault).and_then(|answer| {
            if !reads(answer.status) {
                return Err(NotApplied::Fault(Fault::Status(answer.status.as_u16())));
            }
            read(&answer.body)
        });
        let status = match &read {
            Ok(_) => "2xx",
            Err(NotApplied::Function(_)) => "function_error",
            Err(NotApplied::Fault(fault)) => fault.kind(),
        };
        exchange::ended(&span, status, read.is_ok());
        self.metrics.destination_request(&self.name, status);
        read
    }
}

/// Reads the whole answer: an error comes with 200, too.
fn read(body: &[u8]) -> Result<Applied, NotApplied> {
    match serde_json::from_slice(body) {
        Ok(Body::Success { value }) => Ok(value.unwrap_or_default()),
        Ok(Body::Error { message, data }) => Err(NotApplied::Function(name_of(&message, &data))),
        Err(_) => Err(NotApplied::Fault(Fault::Malformed)),
    }
}

/// What may be told of a function's error: the code that it gives, or the error's name. Its text can repeat what it was given.
fn name_of(message: &str, data: &serde_json::Value) -> String {
    let is_name = |name: &str| {
        (1..=MAX_NAME).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let code = data.get("code").and_then(serde_json::Value::as_str).filter(|code| is_name(code));
    let uncaught = || message.split_once("Uncaught ").and_then(|(_, rest)| rest.split_once(':')).map(|(name, _)| name);
    let name = code.or_else(|| uncaught().filter(|name| is_name(name))).unwrap_or("an error");
    let request = message.split_once("[Request ID: ").and_then(|(_, rest)| rest.split_once(']')).map(|(id, _)| id);
    match request.filter(|id| is_name(id)) {
        Some(id) => format!("{name}, request {id} of Convex's log"),
        None => name.to_owned(),
    }
}

/// The batches of these, none larger than may be.
fn cut(parcels: &[Parcel]) -> Vec<Range<usize>> {
    let mut batches: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0;
    for (at, parcel) in parcels.iter().enumerate() {
        bytes += parcel.body.len();
        match batches.last_mut() {
            Some(batch) if bytes <= MAX_BATCH_BYTES => batch.end = at + 1,
            _ => {
                batches.push(at..at + 1);
                bytes = parcel.body.len();
            }
        }
    }
    batches
}

fn halves(range: &Range<usize>) -> Option<[Range<usize>; 2]> {
    let middle = range.start + range.len() / 2;
    (range.len() > 1).then_some([range.start..middle, middle..range.end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_whole() {
        assert!(!read(br#"{"status":"success","value":{"more":false,"outcomes":["applied"]}}"#).unwrap().more);
        assert!(read(br#"{"status":"success","value":{"more":true}}"#).unwrap().more);
        assert!(!read(br#"{"status":"success","value":null,"logLines":[]}"#).unwrap().more);
        let failed = read(
            br#"{"status":"error","errorMessage":"[Request ID: 0af1] Server Error\nUncaught TypeError: ada@example.com"}"#,
        );
        assert_eq!(failed.unwrap_err(), NotApplied::Function("TypeError, request 0af1 of Convex's log".into()));
        let named = read(br#"{"status":"error","errorMessage":"ada@example.com","errorData":{"code":"too-large"}}"#);
        assert_eq!(named.unwrap_err(), NotApplied::Function("too-large".into()));
        let unnamed = read(br#"{"status":"error","errorMessage":"Uncaught ada@example.com: x"}"#);
        assert_eq!(unnamed.unwrap_err(), NotApplied::Function("an error".into()));
        assert_eq!(read(b"<html>").unwrap_err(), NotApplied::Fault(Fault::Malformed));
        assert_eq!(read(br#"{"status":"maybe"}"#).unwrap_err(), NotApplied::Fault(Fault::Malformed));
    }

    #[test]
    fn batches_are_cut_by_their_size_and_halved_to_the_one() {
        let parcel =
            |length: usize| Parcel { id: String::new(), body: "x".repeat(length), entity: "user", operation: "put" };
        let half = MAX_BATCH_BYTES / 2;
        assert_eq!(cut(&[parcel(half), parcel(half), parcel(1)]), [0..2, 2..3]);
        assert_eq!(cut(&[parcel(2 * MAX_BATCH_BYTES), parcel(1)]), [0..1, 1..2], "one that is too large goes alone");
        assert!(cut(&[]).is_empty());
        assert_eq!(halves(&(3..6)), Some([3..4, 4..6]));
        assert_eq!(halves(&(3..4)), None);
    }
}

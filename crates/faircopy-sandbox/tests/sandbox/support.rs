//! A sandbox with a clock that stands still, and a client that has its key.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use aws_lc_rs::signature::RsaKeyPair;
use faircopy_sandbox::limit::RateLimit;
use faircopy_sandbox::{Sandbox, Settings};
use faircopy_world::token;
use serde_json::{Value, json};

/// When the tests begin, in milliseconds.
pub(crate) const NOW: i64 = 1_800_000_000_000;

/// One key pair for all sandboxes of a test program: making one takes a second.
pub(crate) fn pair() -> Arc<RsaKeyPair> {
    static PAIR: OnceLock<Arc<RsaKeyPair>> = OnceLock::new();
    PAIR.get_or_init(|| Arc::new(token::new_key())).clone()
}

/// Settings for tests: the shared key pair, and no limit.
pub(crate) fn settings() -> Settings {
    Settings { key_pair: Some(pair()), rate_limit: RateLimit::Unlimited, ..Settings::default() }
}

/// A running sandbox and its time.
pub(crate) struct Local {
    pub(crate) sandbox: Sandbox,
    pub(crate) time: Arc<AtomicI64>,
    client: reqwest::Client,
    /// The number of the message that was looked at last.
    seen: AtomicU64,
}

/// An event, as its message tells it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    pub(crate) kind: String,
    pub(crate) data: Value,
    pub(crate) at_ms: i64,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) retry_after: Option<String>,
}

impl Reply {
    /// The code of the error.
    pub(crate) fn code(&self) -> &str {
        self.body["errors"][0]["code"].as_str().unwrap_or_default()
    }

    /// The parameter that the error is about.
    pub(crate) fn param(&self) -> &str {
        self.body["errors"][0]["meta"]["param_name"].as_str().unwrap_or_default()
    }

    /// The body, if it is well.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }

    /// Whether it is this refusal.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.code()), (status, code), "{}", self.body);
    }
}

impl Local {
    pub(crate) async fn start() -> Self {
        Self::with(settings()).await
    }

    pub(crate) async fn with(settings: Settings) -> Self {
        let time = Arc::new(AtomicI64::new(NOW));
        let clock = time.clone();
        let clock = Arc::new(move || clock.load(Ordering::SeqCst));
        let sandbox = Sandbox::start(settings, clock, ([127, 0, 0, 1], 0).into()).await.expect("a sandbox");
        Self { sandbox, time, client: reqwest::Client::new(), seen: AtomicU64::new(0) }
    }

    /// Drops everything at once, and waits until nothing of it runs any more.
    pub(crate) async fn kill(self) {
        let shared = Arc::downgrade(self.sandbox.shared());
        drop(self);
        while shared.upgrade().is_some() {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) fn advance(&self, ms: i64) {
        self.time.fetch_add(ms, Ordering::SeqCst);
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("a method");
        let url = format!("{}{path}", self.sandbox.url());
        self.client
            .request(method, url)
            .bearer_auth(self.sandbox.shared().keys().secret_key())
            .header("clerk-api-version", "2026-05-12")
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        let retry_after =
            response.headers().get("retry-after").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let text = response.text().await.expect("a body");
        let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).expect("JSON") };
        Reply { status, body, retry_after }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(self.request("GET", path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.send(self.request("POST", path).json(&body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Reply {
        self.send(self.request("PATCH", path).json(&body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.send(self.request("DELETE", path)).await
    }

    /// A new user with this address.
    pub(crate) async fn user(&self, email: &str) -> String {
        let user = self.post("/v1/users", json!({ "email_address": [email], "first_name": "Ada" })).await.ok();
        user["id"].as_str().expect("an id").to_owned()
    }

    /// A new organization of this user.
    pub(crate) async fn organization(&self, name: &str, by: &str) -> String {
        let made = self.post("/v1/organizations", json!({ "name": name, "created_by": by })).await.ok();
        made["id"].as_str().expect("an id").to_owned()
    }

    /// The bodies of the messages so far, and from now on only new ones.
    pub(crate) fn bodies(&self) -> Vec<Value> {
        self.sandbox.shared().with(|state, _| {
            let seen = self.seen.load(Ordering::SeqCst);
            let new: Vec<_> = state.post.messages().take_while(|message| message.number > seen).collect();
            self.seen.store(new.first().map_or(seen, |newest| newest.number), Ordering::SeqCst);
            new.iter().rev().map(|message| serde_json::from_str(&message.body).expect("an envelope")).collect()
        })
    }

    /// The same as events.
    pub(crate) fn events(&self) -> Vec<Told> {
        self.bodies().into_iter().map(told).collect()
    }

    /// The kinds of the events so far.
    pub(crate) fn kinds(&self) -> Vec<String> {
        self.events().into_iter().map(|event| event.kind).collect()
    }
}

fn told(mut envelope: Value) -> Told {
    let kind = envelope["type"].as_str().expect("a type").to_owned();
    let at_ms = envelope["timestamp"].as_i64().expect("a time");
    Told { kind, data: envelope["data"].take(), at_ms }
}

/// The ids of a list.
pub(crate) fn ids(list: &Value) -> Vec<String> {
    let items = list.as_array().or_else(|| list["data"].as_array()).expect("a list");
    items.iter().map(|item| item["id"].as_str().expect("an id").to_owned()).collect()
}

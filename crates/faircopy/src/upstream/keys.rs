//! The keys that session tokens are verified with: from the issuer, or from a PEM and then without any network.
//!
//! [`KeyCache`] decides when to fetch; this fetches. One fetch at a time, in a task of its own, so that a caller who hangs
//! up takes nothing with it; who needs its outcome waits for it, and only so many may. Nobody waits while the key of a
//! token is at hand: a flood of tokens with made-up key names holds up none that is good.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use faircopy_core::Millis;
use faircopy_core::token::{Ignored, JwksError, Key, KeyCache, Keys, Kid, Lookup, MAX_DOCUMENT, Rejection};
use tokio::sync::{Semaphore, watch};
use tracing::Instrument as _;

use crate::app::Clock;
use crate::config::Sessions;
use crate::telemetry::Metrics;
use crate::upstream::{address, exchange};

/// How long a whole fetch may take (faults.md).
const FETCH_DEADLINE: Duration = Duration::from_secs(5);
/// How long making the connection may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// How long a request waits for a fetch: the fetch's own deadline, and a little.
const MAX_WAIT: Duration = Duration::from_secs(6);
/// Requests that may wait for one fetch. Those beyond are refused at once: whoever floods with unknown keys holds that many
/// requests and no more.
const MAX_WAITING: usize = 256;
/// Fetches that one request waits for: the one under way when it came, and one that knows of its key.
const MAX_TURNS: usize = 2;
/// How often the background looks whether a fetch is due. Keys are refreshed every 5 minutes; without any, every 5 s.
const PERIOD: Duration = Duration::from_secs(1);

/// The keys of the configured instance.
pub struct KeySet {
    cache: Mutex<KeyCache>,
    /// `None` where nothing is ever fetched.
    source: Option<Source>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// Counts the fetches that have ended: what requests wait for.
    ended: watch::Sender<u64>,
    waiting: Semaphore,
}

/// A document that was read.
struct Fetched {
    keys: Keys,
    ignored: Vec<Ignored>,
    /// The issuer's own time.
    date: Option<Millis>,
}

struct Source {
    client: reqwest::Client,
    url: reqwest::Url,
}

/// What the issuer publishes now.
#[derive(Debug, Clone)]
pub struct Published {
    /// The keys that can be used.
    pub keys: Keys,
    /// How many entries cannot.
    pub ignored: usize,
    /// How far our clock is ahead of the issuer's, in milliseconds, as far as it says.
    pub ahead_ms: Option<i64>,
}

/// Why a fetch brought nothing. None of these holds anything of what was answered.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the request failed: {0}")]
    Request(&'static str),
    #[error("the answer had the status {0}")]
    Status(u16),
    #[error("{0}")]
    Document(#[from] JwksError),
}

impl KeySet {
    /// The keys for these settings. Nothing is fetched yet.
    #[must_use]
    pub fn new(sessions: &Sessions, clock: Arc<dyn Clock>, metrics: Metrics) -> Arc<Self> {
        let cache = match &sessions.key {
            Some(keys) => KeyCache::fixed(keys.clone()),
            None => KeyCache::new(sessions.stale_keys_ms),
        };
        let issuer = sessions.issuer.as_ref().filter(|_| sessions.key.is_none());
        let source = issuer.and_then(|issuer| Source::new(issuer));
        let (ended, _) = watch::channel(0);
        let waiting = Semaphore::new(MAX_WAITING);
        Arc::new(Self { cache: Mutex::new(cache), source, clock, metrics, ended, waiting })
    }

    /// The key for tokens that name `kid`; fetches it where the issuer may know it.
    pub async fn find(self: &Arc<Self>, kid: Option<&Kid>) -> Result<Key, Rejection> {
        let mut ended = self.ended.subscribe();
        let mut turn = None;
        for _ in 0..=MAX_TURNS {
            ended.mark_unchanged();
            // Apart from the match: a lock taken in its head would be held through its arms.
            let found = self.cache().find(kid, self.clock.now());
            match found {
                Lookup::Use(key) => return Ok(key),
                Lookup::Refuse(rejection) => return Err(rejection),
                Lookup::Fetch => self.fetch_in_background(),
                Lookup::Wait => {}
            }
            if turn.is_none() {
                turn = Some(self.waiting.try_acquire().map_err(|_| self.refusal())?);
            }
            if tokio::time::timeout(MAX_WAIT, ended.changed()).await.is_err() {
                break;
            }
        }
        let found = self.cache().find(kid, self.clock.now());
        match found {
            Lookup::Use(key) => Ok(key),
            _ => Err(self.refusal()),
        }
    }

    /// Whether there are keys to verify with.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.cache().is_ready(self.clock.now())
    }

    /// How old the keys are; `None` where there are none, or none are fetched.
    #[must_use]
    pub fn age_ms(&self) -> Option<i64> {
        self.cache().age_ms(self.clock.now())
    }

    /// The keys that session tokens are verified with now; `None` where there are none.
    #[must_use]
    pub fn held(&self) -> Option<Keys> {
        self.cache().held(self.clock.now()).cloned()
    }

    /// Keeps the keys fresh until it is aborted.
    pub async fn run(self: Arc<Self>) {
        if self.source.is_none() {
            return;
        }
        let mut turn = tokio::time::interval(PERIOD);
        turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            turn.tick().await;
            if self.cache().is_due(self.clock.now()) {
                self.fetch_in_background();
            }
        }
    }

    /// What the issuer publishes now, or why that cannot be said: one fetch, of which nothing is kept. `None` where nothing is
    /// ever fetched.
    pub async fn published(&self) -> Option<Result<Published, String>> {
        let source = self.source.as_ref()?;
        let asked_at = self.clock.now();
        let fetched = tokio::time::timeout(FETCH_DEADLINE, source.fetch()).await;
        let fetched = fetched.unwrap_or(Err(Fault::Request("no answer within 5 s")));
        let now = self.clock.now();
        Some(match fetched {
            Ok(Fetched { keys, ignored, date }) => {
                let ahead_ms = date.map(|date| exchange::ahead_ms(date, asked_at, now));
                Ok(Published { keys, ignored: ignored.len(), ahead_ms })
            }
            Err(fault) => Err(fault.to_string()),
        })
    }

    fn refusal(&self) -> Rejection {
        if self.is_ready() { Rejection::UnknownKey } else { Rejection::NoKeys }
    }

    fn cache(&self) -> MutexGuard<'_, KeyCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the one fetch that may be made now, if it may.
    fn fetch_in_background(self: &Arc<Self>) {
        if self.source.is_some() && self.cache().begin(self.clock.now()) {
            let keys = self.clone();
            tokio::spawn(async move { keys.fetch().await });
        }
    }

    async fn fetch(&self) {
        let Some(source) = &self.source else { return };
        let span = exchange::span("issuer", "keys");
        let fetched = tokio::time::timeout(FETCH_DEADLINE, source.fetch()).instrument(span.clone()).await;
        let is_fine = matches!(fetched, Ok(Ok(_)));
        exchange::ended(&span, if is_fine { "loaded" } else { "failed" }, is_fine);
        match fetched.unwrap_or(Err(Fault::Request("no answer within 5 s"))) {
            Ok(Fetched { keys, ignored, .. }) => {
                for entry in &ignored {
                    tracing::warn!(kid = entry.kid.as_ref().map(ToString::to_string), why = %entry.why, "a key was left out");
                }
                self.metrics.keys_fetched("loaded");
                self.cache().loaded(keys, self.clock.now());
            }
            Err(fault) => {
                tracing::warn!(url = %source.url, error = %fault, "the issuer's keys could not be fetched; those at hand stay");
                self.metrics.keys_fetched(fault.kind());
                self.cache().failed();
            }
        }
        self.ended.send_modify(|count| *count += 1);
    }
}

impl Fault {
    fn kind(&self) -> &'static str {
        match self {
            Self::Request(_) => "unreachable",
            Self::Status(_) => "status",
            Self::Document(_) => "document",
        }
    }
}

impl Source {
    fn new(issuer: &str) -> Option<Self> {
        let url = reqwest::Url::parse(&format!("{issuer}/.well-known/jwks.json")).ok()?;
        let client = reqwest::Client::builder()
            .dns_resolver(address::guarded(&url))
            .connect_timeout(CONNECT_DEADLINE)
            .timeout(FETCH_DEADLINE)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .pool_max_idle_per_host(0)
            .user_agent(concat!("faircopy/", env!("CARGO_PKG_VERSION")))
            .build();
        match client {
            Ok(client) => Some(Self { client, url }),
            Err(error) => {
                tracing::error!(%error, "the issuer's keys can never be fetched: there is no TLS");
                None
            }
        }
    }

    async fn fetch(&self) -> Result<Fetched, Fault> {
        let mut response =
            self.client.get(self.url.clone()).send().await.map_err(|error| Fault::Request(cause(&error)))?;
        if response.status() != reqwest::StatusCode::OK {
            return Err(Fault::Status(response.status().as_u16()));
        }
        let date = exchange::date(response.headers());
        let announced = response.content_length().is_some_and(|length| length > MAX_DOCUMENT as u64);
        if announced {
            return Err(JwksError::TooLarge.into());
        }
        let mut document = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| Fault::Request(cause(&error)))? {
            if document.len() + part.len() > MAX_DOCUMENT {
                return Err(JwksError::TooLarge.into());
            }
            document.extend_from_slice(&part);
        }
        let (keys, ignored) = Keys::from_jwks(&document)?;
        Ok(Fetched { keys, ignored, date })
    }
}

fn cause(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the answer broke off"
    }
}

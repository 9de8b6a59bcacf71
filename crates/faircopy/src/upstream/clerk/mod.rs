//! A client of Clerk's Backend API, for reading. What it says of records becomes observations, which reach rows through the
//! merge only. The one request that is no read asks for a link to Clerk's webhooks: see [`portal`].
//!
//! What it promises: one configured host and no other (no redirects, no proxy of the environment, no address that is not
//! public unless the host is this machine), TLS always verified; a deadline, a size and a pace for every request; an answer
//! that is not Clerk's is a fault and never "nothing"; errors hold neither the key nor anything that was answered. And
//! nothing is answered by an instance that is not the one that is copied: see [`instance`].

mod count;
mod instance;
mod list;
mod pace;
mod people;
mod portal;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use faircopy_core::event::api::{self, Context, Item, Kind, NotTheApi, Page};
use faircopy_core::id::{InvitationId, OrganizationId, UserId};
use faircopy_core::{Millis, ProfileMode};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{StatusCode, Url};
use secrecy::ExposeSecret;
use tokio::sync::Semaphore;
use tracing::Instrument as _;

use super::address::NotPublic;
use super::exchange::{self, EXCHANGE_DEADLINE};
use super::keys::KeySet;
use crate::app::Clock;
use crate::config::Config;
use crate::telemetry::Metrics;
pub use instance::Verdict;
pub use list::{Cut, List, MAX_NAMED, MAX_PAGE, Start};
use pace::Pace;
pub use pace::Share;
pub use people::People;
pub use portal::Portal;

/// The version of the API that is asked for. What is read here is the same in all of them (clerk-facts.md, section 2.1).
const API_VERSION: &str = "2026-05-12";
/// The longest answer: a page of 500 users, each with all the metadata that Clerk allows (8 KiB in each of two fields that it
/// sends) is below it.
const MAX_ANSWER: usize = 12 * 1024 * 1024;
/// Requests under way at once: a bound on memory, as each may hold an answer of [`MAX_ANSWER`].
const MAX_UNDER_WAY: usize = 4;
/// How long a request waits for its turn before it is given up. A worker comes again at its next turn; a person does not wait
/// longer than this for a limit.
const BACKGROUND_PATIENCE: Duration = Duration::from_secs(5);
const FOREGROUND_PATIENCE: Duration = Duration::from_secs(2);
/// How often the pace is looked at while waiting: a pause that ends is seen this late at most.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Nothing is known of Clerk's clock.
const UNMEASURED: i64 = i64::MIN;
/// Clerk's word for what does not exist.
const NOT_FOUND: &str = "resource_not_found";
/// Clerk's word for an instance whose webhooks nobody has ever opened.
const NO_WEBHOOKS: &str = "svix_app_missing";
/// Clerk's word for an instance that has no organizations, because they are switched off.
const NO_ORGANIZATIONS: &str = "organization_not_enabled_in_instance";

/// Why a question has no answer. Apart from [`Fault::NotFound`], nothing follows for what was asked about. None holds the key,
/// or anything of the answer but its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection, no answer in time, or an answer that broke off.
    #[error("{0}")]
    Unreachable(&'static str),
    /// The name of the host leads to an address that is not public.
    #[error("{}", NotPublic)]
    Forbidden,
    /// Clerk asked for quiet, or this process has used its share: so many milliseconds are to be waited.
    #[error("Clerk's rate limit: {0} ms to wait")]
    Limited(i64),
    /// The key is not accepted.
    #[error("CLERK_SECRET_KEY was refused (status {0})")]
    Refused(u16),
    /// Another status: a failure of Clerk's, or a question that it does not understand.
    #[error("the answer had the status {0}")]
    Status(u16),
    /// Clerk says, in its own words, that there is no such thing.
    #[error("there is no such record")]
    NotFound,
    /// Clerk says, in its own words, that the instance's webhooks were never opened.
    #[error("the instance has no webhooks yet")]
    NoWebhooks,
    /// Clerk says, in its own words, that the instance has organizations switched off.
    #[error("organizations are switched off in the instance")]
    NoOrganizations,
    /// Not what Clerk's API answers: HTML, cut off, another record.
    #[error("the answer is not the JSON that Clerk's API gives")]
    Malformed,
    /// More than 12 MiB.
    #[error("the answer is longer than 12 MiB")]
    TooLarge,
    /// The key belongs to another instance than the one that is copied.
    #[error("CLERK_SECRET_KEY belongs to another instance than the one that is copied")]
    WrongInstance,
    /// It cannot be told yet whether the key belongs to the instance: the keys of its session tokens are not at hand.
    #[error("it cannot be told yet which instance CLERK_SECRET_KEY belongs to")]
    UnknownInstance,
}

impl Fault {
    /// Whether the same question may be answered later without anything being changed by hand.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Limited(_) | Self::UnknownInstance => true,
            Self::Status(status) => *status >= 500,
            Self::Malformed => true,
            Self::Forbidden | Self::Refused(_) | Self::NotFound => false,
            Self::NoWebhooks | Self::NoOrganizations => false,
            Self::TooLarge | Self::WrongInstance => false,
        }
    }

    /// Whether nothing at all can be read, whatever is asked.
    #[must_use]
    pub fn refuses_everything(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::WrongInstance | Self::UnknownInstance | Self::Forbidden)
    }

    /// As a metric's label.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Forbidden => "forbidden_address",
            Self::Limited(_) => "429",
            Self::Refused(_) => "refused",
            Self::Status(500..) => "5xx",
            Self::Status(_) => "other",
            Self::NotFound => "404",
            Self::NoWebhooks => "no_webhooks",
            Self::NoOrganizations => "no_organizations",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::WrongInstance => "wrong_instance",
            Self::UnknownInstance => "unknown_instance",
        }
    }
}

impl From<NotTheApi> for Fault {
    fn from(_: NotTheApi) -> Self {
        Self::Malformed
    }
}

/// An answer, and when it was asked for: it held then, or later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<T> {
    /// When the question was sent.
    pub asked_at: Millis,
    /// What was answered.
    pub found: T,
}

/// Clerk's Backend API, asked with the configured key.
pub struct Clerk {
    client: reqwest::Client,
    base: Url,
    mode: ProfileMode,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    pace: Mutex<Pace>,
    places: Semaphore,
    ownership: instance::Ownership,
    /// How far our clock was ahead of Clerk's at the last answer, in milliseconds; [`UNMEASURED`] before any.
    ahead_ms: AtomicI64,
    /// Whether nobody has taken that yet.
    is_ahead_new: AtomicBool,
}

impl Clerk {
    /// A client for these settings; `None` without a key. Nothing is asked yet.
    #[must_use]
    pub fn new(config: &Config, keys: Arc<KeySet>, clock: Arc<dyn Clock>, metrics: Metrics) -> Option<Arc<Self>> {
        let key = config.api.secret_key.as_ref()?.expose_secret();
        let base = Url::parse(&config.api.url).ok()?;
        let client = match client(key, &base) {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(%error, "Clerk can never be asked: there is no TLS");
                return None;
            }
        };
        Some(Arc::new(Self {
            client,
            base,
            mode: config.profile_mode,
            clock,
            metrics,
            pace: Mutex::new(Pace::new(key.starts_with("sk_live_"))),
            places: Semaphore::new(MAX_UNDER_WAY),
            ownership: instance::Ownership::new(config, keys),
            ahead_ms: AtomicI64::new(UNMEASURED),
            is_ahead_new: AtomicBool::new(false),
        }))
    }

    /// One user; `None` where Clerk says that there is none.
    pub async fn user(&self, id: &UserId, share: Share) -> Result<Answer<Option<Item>>, Fault> {
        self.object(Kind::User, &["users", id.as_str()], "users/{id}", id.as_str(), share).await
    }

    /// One organization; `None` where Clerk says that there is none.
    pub async fn organization(&self, id: &OrganizationId, share: Share) -> Result<Answer<Option<Item>>, Fault> {
        self.object(Kind::Organization, &["organizations", id.as_str()], "organizations/{id}", id.as_str(), share).await
    }

    /// One invitation to an organization; `None` where Clerk says that there is none.
    pub async fn invitation(
        &self,
        organization: &OrganizationId,
        id: &InvitationId,
        share: Share,
    ) -> Result<Answer<Option<Item>>, Fault> {
        let segments = ["organizations", organization.as_str(), "invitations", id.as_str()];
        self.object(Kind::Invitation, &segments, "organizations/{id}/invitations/{id}", id.as_str(), share).await
    }

    /// A part of a list; `None` where Clerk says that what the list is of does not exist. A row that is missing from a list
    /// proves nothing by itself (merge.md).
    pub async fn page(&self, list: &List<'_>, cut: Cut<'_>, share: Share) -> Result<Answer<Option<Page>>, Fault> {
        self.check_instance(share).await?;
        let url = list.url(&self.base, cut).ok_or(Fault::Malformed)?;
        let (asked_at, body) = self.get(url, list.endpoint(), share).await?;
        let context = Context { mode: self.mode, asked_at, user: list.user() };
        let found = body.map(|body| api::page(list.kind(), &body, &context)).transpose()?;
        let mut ids = found.iter().flat_map(|page| &page.items).filter_map(|item| item.id.as_deref());
        if ids.any(|id| list.names(id)) {
            self.found_ours();
        }
        Ok(Answer { asked_at, found })
    }

    /// By how much our clock is ahead of Clerk's, in milliseconds, as the newest answer since this was last asked showed.
    #[must_use]
    pub fn take_clock_lead(&self) -> Option<i64> {
        self.is_ahead_new.swap(false, Ordering::AcqRel).then(|| self.ahead_ms()).flatten()
    }

    /// How long Clerk wants quiet, in milliseconds.
    #[must_use]
    pub fn quiet_ms(&self) -> i64 {
        self.pace().quiet_ms(self.clock.now())
    }

    /// How far our clock was ahead of Clerk's at the last answer, in milliseconds: true to half a second, and half of the way there and
    /// back.
    #[must_use]
    pub fn ahead_ms(&self) -> Option<i64> {
        Some(self.ahead_ms.load(Ordering::Acquire)).filter(|ahead| *ahead != UNMEASURED)
    }

    async fn object(
        &self,
        kind: Kind,
        segments: &[&str],
        endpoint: &'static str,
        id: &str,
        share: Share,
    ) -> Result<Answer<Option<Item>>, Fault> {
        self.check_instance(share).await?;
        let url = list::address(&self.base, segments).ok_or(Fault::Malformed)?;
        let (asked_at, body) = self.get(url, endpoint, share).await?;
        let context = Context { mode: self.mode, asked_at, user: None };
        let found = body.map(|body| api::object(kind, &body, &context)).transpose()?;
        match found {
            // Organizations can be asked for by their slugs too: an answer about another record is none.
            Some(item) if item.id.as_deref() != Some(id) => Err(Fault::Malformed),
            found => {
                if found.is_some() {
                    self.found_ours();
                }
                Ok(Answer { asked_at, found })
            }
        }
    }

    /// Asks, and says when. `None` is Clerk's own 404.
    async fn get(&self, url: Url, endpoint: &'static str, share: Share) -> Result<(Millis, Option<String>), Fault> {
        self.send(self.client.get(url), endpoint, share).await
    }

    /// Sends a request at its turn. `None` is Clerk's own 404.
    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        endpoint: &'static str,
        share: Share,
    ) -> Result<(Millis, Option<String>), Fault> {
        let _place = self.places.acquire().await.map_err(|_| Fault::Unreachable("the service is stopping"))?;
        self.turn(share).await?;
        let asked_at = self.clock.now();
        let span = exchange::span("clerk", endpoint);
        let exchanged = tokio::time::timeout(EXCHANGE_DEADLINE, self.exchange(request)).instrument(span.clone()).await;
        let answer = exchanged.unwrap_or(Err(Fault::Unreachable("no answer within 10 s")));
        let status = answer.as_ref().map_or_else(Fault::kind, |_| "200");
        exchange::ended(&span, status, answer.is_ok() || answer == Err(Fault::NotFound));
        self.metrics.clerk_request(endpoint, status);
        match answer {
            Ok(body) => Ok((asked_at, Some(body))),
            Err(Fault::NotFound) => Ok((asked_at, None)),
            Err(fault) => Err(fault),
        }
    }

    /// Waits until a request may be sent, for so long as its share has patience.
    async fn turn(&self, share: Share) -> Result<(), Fault> {
        let mut patience = match share {
            Share::Background | Share::Operator => BACKGROUND_PATIENCE,
            Share::Foreground => FOREGROUND_PATIENCE,
        };
        loop {
            // Apart from the match: a lock taken in its head would be held through its arms.
            let taken = self.pace().take(share, self.clock.now());
            let Err(wait_ms) = taken else { return Ok(()) };
            let wait = Duration::from_millis(wait_ms.unsigned_abs());
            if wait > patience || patience.is_zero() {
                return Err(Fault::Limited(wait_ms));
            }
            let look = wait.min(LOOK_EVERY);
            tokio::time::sleep(look).await;
            patience = patience.saturating_sub(look);
        }
    }

    async fn exchange(&self, request: reqwest::RequestBuilder) -> Result<String, Fault> {
        let asked_at = self.clock.now();
        let mut response = request.send().await.map_err(|error| fault(&error))?;
        if let Some(date) = exchange::date(response.headers()) {
            let ahead_ms = exchange::ahead_ms(date, asked_at, self.clock.now());
            self.ahead_ms.store(ahead_ms, Ordering::Release);
            self.is_ahead_new.store(true, Ordering::Release);
        }
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            return Err(self.limited(response.headers()));
        }
        self.pace().answered();
        match status {
            StatusCode::OK | StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN => {}
            _ => return Err(denial(status, &[])),
        }
        if !exchange::is_json(response.headers()) {
            return Err(denial(status, &[]));
        }
        if response.content_length().is_some_and(|length| length > MAX_ANSWER as u64) {
            return Err(Fault::TooLarge);
        }
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| fault(&error))? {
            if body.len() + part.len() > MAX_ANSWER {
                return Err(Fault::TooLarge);
            }
            body.extend_from_slice(&part);
        }
        let body = String::from_utf8(body).map_err(|_| Fault::Malformed)?;
        if status == StatusCode::OK {
            return Ok(body);
        }
        Err(denial(status, &api::error_codes(&body).unwrap_or_default()))
    }

    /// Every request of this process keeps quiet, whatever it asks.
    fn limited(&self, headers: &HeaderMap) -> Fault {
        let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse::<i64>().ok());
        let now = self.clock.now();
        let mut pace = self.pace();
        pace.limited(seconds.map(|seconds| seconds.saturating_mul(1000)), now);
        let wait_ms = pace.quiet_ms(now);
        tracing::warn!(wait_ms, code = "clerk-rate-limited", "Clerk asked for quiet (429)");
        Fault::Limited(wait_ms)
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn client(key: &str, base: &Url) -> Result<reqwest::Client, reqwest::Error> {
    let mut headers = HeaderMap::new();
    // The settings only take keys that a header can hold.
    if let Ok(mut bearer) = HeaderValue::from_str(&format!("Bearer {key}")) {
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    headers.insert(HeaderName::from_static("clerk-api-version"), HeaderValue::from_static(API_VERSION));
    exchange::client(base, headers, MAX_UNDER_WAY)
}

/// What follows from a status and from Clerk's own words, where the answer has any: without them a 404 proves nothing, and
/// a 200 is none of Clerk's.
fn denial(status: StatusCode, codes: &[String]) -> Fault {
    let says = |word: &str| codes.iter().any(|code| code == word);
    match status {
        StatusCode::NOT_FOUND if says(NOT_FOUND) => Fault::NotFound,
        StatusCode::BAD_REQUEST if says(NO_WEBHOOKS) => Fault::NoWebhooks,
        StatusCode::FORBIDDEN if says(NO_ORGANIZATIONS) => Fault::NoOrganizations,
        StatusCode::OK | StatusCode::NOT_FOUND => Fault::Malformed,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Fault::Refused(status.as_u16()),
        _ => Fault::Status(status.as_u16()),
    }
}

fn fault(error: &reqwest::Error) -> Fault {
    exchange::reason(error).map_or(Fault::Forbidden, Fault::Unreachable)
}

//! One exchange with a service outside: the bounds that all of them share (Clerk's API, too), and why one comes to nothing.
//!
//! Only the configured host (no redirects, no proxy of the environment, no address that is not public unless the host is this
//! machine), TLS always verified; a deadline for the whole exchange and a size for what is read. Errors hold neither a key
//! nor anything that was answered.

use std::error::Error as _;
use std::time::Duration;

use faircopy_core::Millis;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER};
use reqwest::{StatusCode, Url};
use tracing::Span;

use super::address::{self, NotPublic};
use crate::telemetry::traces::{self, CLIENT, LATER, TRACE};

/// How long making the connection may take (faults.md).
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// How long a whole exchange may take (faults.md).
pub(super) const EXCHANGE_DEADLINE: Duration = Duration::from_secs(10);
/// The longest answer that is read, unless more is known to be right (faults.md).
pub(super) const MAX_ANSWER: usize = 64 * 1024;
/// The longest `Retry-After` that is read, in seconds. The gate has its own, shorter bound.
const MAX_RETRY_AFTER_S: i64 = 86_400;

/// Why a service was not reached at all: whatever was asked has not been seen there.
pub(super) const NO_CONNECTION: &str = "no connection";

/// Why a service did not do what was asked. None holds the key, or anything of the answer but its status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection, no answer in time, or an answer that broke off. It may have been done all the same.
    #[error("{0}")]
    Unreachable(&'static str),
    /// The name of the host leads to an address that is not public.
    #[error("{}", NotPublic)]
    Forbidden,
    /// Too many calls (429), or the service is not ready (503 with `Retry-After`); so many milliseconds it wants none.
    #[error("the service asked for quiet")]
    Limited {
        /// `Retry-After`, where there was one that makes sense.
        retry_after_ms: Option<i64>,
    },
    /// The key is not taken.
    #[error("the key was refused (status {0})")]
    Refused(u16),
    /// Another status.
    #[error("the answer had the status {0}")]
    Status(u16),
    /// Not what this service answers: HTML, cut off, of another form.
    #[error("the answer is not what the service gives")]
    Malformed,
    /// More than may be read.
    #[error("the answer is too long")]
    TooLarge,
    /// The service can have nothing of this name: it was not asked.
    #[error("the service can have nothing of this name")]
    Unnameable,
}

impl Fault {
    /// As a metric's label.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Forbidden => "forbidden_address",
            Self::Limited { .. } => "429",
            Self::Refused(_) => "refused",
            Self::Status(500..) => "5xx",
            Self::Status(_) => "other",
            Self::Malformed => "malformed",
            Self::TooLarge => "too_large",
            Self::Unnameable => "unnameable",
        }
    }
}

/// The head of an answer, and its body where that was read.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) is_json: bool,
    pub(super) body: Vec<u8>,
}

/// A status as a metric's label.
pub(super) fn label(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200..=299 => "2xx",
        404 => "404",
        410 => "410",
        500.. => "5xx",
        _ => "other",
    }
}

/// A client for this address and no other.
pub(super) fn client(base: &Url, headers: HeaderMap, at_once: usize) -> Result<reqwest::Client, reqwest::Error> {
    builder(base, headers, at_once).dns_resolver(address::guarded(base)).build()
}

/// The same for an address that the settings allow to be in a private network.
pub(super) fn client_within(
    base: &Url,
    headers: HeaderMap,
    at_once: usize,
    allow_private: bool,
) -> Result<reqwest::Client, reqwest::Error> {
    if allow_private { builder(base, headers, at_once).build() } else { client(base, headers, at_once) }
}

fn builder(base: &Url, headers: HeaderMap, at_once: usize) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .default_headers(headers)
        .https_only(base.scheme() == "https")
        .connect_timeout(CONNECT_DEADLINE)
        .timeout(EXCHANGE_DEADLINE)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(at_once)
        .user_agent(concat!("faircopy/", env!("CARGO_PKG_VERSION")))
}

/// Sends a request and reads the answer, up to so many bytes of its body if `reads` says so for its status. What the service
/// says of keys and of quiet is a fault here already.
pub(super) async fn exchange(
    request: reqwest::RequestBuilder,
    max: usize,
    reads: impl Fn(StatusCode) -> bool,
) -> Result<Answer, Fault> {
    let exchanged = tokio::time::timeout(EXCHANGE_DEADLINE, send(request, max, reads)).await;
    exchanged.unwrap_or(Err(Fault::Unreachable("no answer within 10 s")))
}

async fn send(
    request: reqwest::RequestBuilder,
    max: usize,
    reads: impl Fn(StatusCode) -> bool,
) -> Result<Answer, Fault> {
    let mut response = request.send().await.map_err(|error| fault(&error))?;
    let status = response.status();
    let retry_after_ms = retry_after_ms(response.headers());
    match status {
        StatusCode::TOO_MANY_REQUESTS => return Err(Fault::Limited { retry_after_ms }),
        StatusCode::SERVICE_UNAVAILABLE if retry_after_ms.is_some() => return Err(Fault::Limited { retry_after_ms }),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(Fault::Refused(status.as_u16())),
        _ => {}
    }
    let is_json = is_json(response.headers());
    let mut body = Vec::new();
    if reads(status) {
        if response.content_length().is_some_and(|length| length > max as u64) {
            return Err(Fault::TooLarge);
        }
        while let Some(part) = response.chunk().await.map_err(|error| fault(&error))? {
            if body.len() + part.len() > max {
                return Err(Fault::TooLarge);
            }
            body.extend_from_slice(&part);
        }
    }
    Ok(Answer { status, is_json, body })
}

/// `Retry-After` in seconds; its other form, a date, is no number and counts as none.
fn retry_after_ms(headers: &HeaderMap) -> Option<i64> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse::<i64>().ok()?;
    (seconds >= 0).then(|| seconds.min(MAX_RETRY_AFTER_S) * 1000)
}

/// The span of one question to somebody else.
pub(super) fn span(service: &'static str, call: &str) -> Span {
    tracing::info_span!(target: TRACE, "outside", faircopy.service = service, faircopy.call = call, trace.kind = CLIENT,
        faircopy.status = LATER, trace.failed = LATER)
}

/// What came of it.
pub(super) fn ended(span: &Span, status: &'static str, is_fine: bool) {
    span.record("faircopy.status", status);
    if !is_fine {
        traces::failed(span);
    }
}

/// When the answer was made, as its `Date` says to the second: taken as the middle of that second.
pub(super) fn date(headers: &HeaderMap) -> Option<Millis> {
    Some(Millis::parse_http_date(headers.get(DATE)?.to_str().ok()?)?.plus(500))
}

/// How far our clock is ahead of whoever answered then, taken for the middle between question and answer.
pub(super) fn ahead_ms(date: Millis, asked_at: Millis, answered_at: Millis) -> i64 {
    asked_at.0.midpoint(answered_at.0) - date.0
}

pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

fn fault(error: &reqwest::Error) -> Fault {
    reason(error).map_or(Fault::Forbidden, Fault::Unreachable)
}

/// Why there was no answer, in words that hold nothing of it; `None` where the address is not public.
pub(super) fn reason(error: &reqwest::Error) -> Option<&'static str> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if error.is::<NotPublic>() {
            return None;
        }
        cause = error.source();
    }
    // A connection that does not come about in time is none, and not an answer that is late.
    Some(if error.is_connect() {
        NO_CONNECTION
    } else if error.is_timeout() {
        "no answer in time"
    } else {
        "the answer broke off"
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    #[test]
    fn a_date_says_how_far_we_are_ahead() {
        let headers = HeaderMap::from_iter([(DATE, HeaderValue::from_static("Thu, 09 Oct 2025 08:53:20 GMT"))]);
        let date = date(&headers).unwrap();
        assert_eq!(date, Millis(1_760_000_000_500));
        assert_eq!(ahead_ms(date, Millis(1_760_000_000_000), Millis(1_760_000_001_000)), 0);
        assert_eq!(ahead_ms(date, Millis(1_760_000_060_500), Millis(1_760_000_060_500)), 60_000);
        assert_eq!(super::date(&HeaderMap::new()), None);
    }

    #[test]
    fn retry_after_is_a_bounded_number_of_seconds() {
        let check = |value: &str, expected: Option<i64>| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())]);
            assert_eq!(retry_after_ms(&headers), expected, "{value}");
        };
        check("0", Some(0));
        check(" 7 ", Some(7_000));
        check("999999999", Some(86_400_000));
        check("99999999999999999999", None);
        check("-1", None);
        check("1.5", None);
        check("Wed, 21 Oct 2026 07:28:00 GMT", None);
        check("", None);
        assert_eq!(retry_after_ms(&HeaderMap::new()), None);
    }
}

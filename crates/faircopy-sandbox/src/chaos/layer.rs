//! Puts what [`super::Chaos`] decided into effect, around the answer to a request.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use serde_json::{Value, json};

use super::{ApiFault, Route, Wrong};

const HTML: &str =
    "<!doctype html><html><head><title>One moment</title></head><body>Checking your browser.</body></html>";

impl Route {
    /// What kind of request this is; none if chaos leaves it alone: keys, and whatever is not the Backend API.
    #[must_use]
    pub fn of(method: &Method, path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/v1/")?;
        let segments: Vec<&str> = rest.split('/').filter(|segment| !segment.is_empty()).collect();
        match segments[..] {
            [] | ["jwks"] => None,
            _ if method != Method::GET => Some(Self::Write),
            // A collection, the name of one in it, a collection below that.
            [.., "count"] => Some(Self::List),
            _ if segments.len() % 2 == 1 => Some(Self::List),
            _ => Some(Self::Read),
        }
    }
}

/// Answers a request as it was decided. `answer` is what carries the request out; it is not asked if the fault comes first.
pub async fn around(fault: ApiFault, answer: impl Future<Output = Response>) -> Response {
    if let Some(wait) = u64::try_from(fault.latency_ms).ok().filter(|wait| *wait > 0) {
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
    match fault.wrong {
        None => answer.await,
        Some(Wrong::Closed) => closed(),
        Some(Wrong::Unavailable) => refusal(503, "service_unavailable", "The service is unavailable"),
        Some(Wrong::Limited(retry_after_s)) => limited(retry_after_s),
        Some(Wrong::Status(status)) => refusal(status, "internal_clerk_error", "Oops, an unexpected error occurred"),
        Some(Wrong::Truncated) => rewritten(answer.await, |body| body.slice(..body.len() / 2)).await,
        Some(Wrong::Html) => html(answer.await),
        Some(Wrong::HalfPage) => rewritten(answer.await, |body| half_page(&body).unwrap_or(body)).await,
    }
}

fn refusal(status: u16, code: &str, message: &str) -> Response {
    let error = json!({ "code": code, "message": message, "long_message": format!("{message}.") });
    let body = json!({ "errors": [error], "clerk_trace_id": "chaos" });
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn limited(retry_after_s: Option<u64>) -> Response {
    let mut response = refusal(429, "too_many_requests", "Too many requests");
    if let Some(seconds) = retry_after_s {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn html(mut response: Response) -> Response {
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response.map(|_| Body::from(HTML))
}

/// An answer with another body.
async fn rewritten(response: Response, rewrite: impl FnOnce(Bytes) -> Bytes) -> Response {
    let (mut parts, body) = response.into_parts();
    // The sandbox made this body: it is whole, and in memory.
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes) else { return closed() };
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(rewrite(body)))
}

/// The first half of a list, whatever is said about its total.
fn half_page(body: &[u8]) -> Option<Bytes> {
    let mut page: Value = serde_json::from_slice(body).ok()?;
    let rows = if page.is_array() { page.as_array_mut() } else { page.get_mut("data")?.as_array_mut() }?;
    rows.truncate(rows.len() / 2);
    Some(Bytes::from(page.to_string()))
}

/// An answer during which the connection ends.
fn closed() -> Response {
    Response::new(Body::new(Broken))
}

struct Broken;

impl hyper::body::Body for Broken {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionAborted.into())))
    }
}

//! Puts what [`super::Chaos`] decided into effect, around the answer to a request.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::body::Frame;
use serde_json::{Value, json};

use super::{ApiFault, Wrong};

const HTML: &str =
    "<!doctype html><html><head><title>One moment</title></head><body>Checking your browser.</body></html>";

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

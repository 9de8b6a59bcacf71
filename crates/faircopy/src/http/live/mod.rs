//! Live queries: a `GET` of the read API, answered anew whenever its value changes (docs/decisions/0025-live-queries.md).
//!
//! A value is made by the handler of the `GET`, for the caller of the stream. What wakes a query is the change feed, and who
//! may still listen is asked before anything is sent after the caller's own rows were touched.

mod feed;
pub(super) mod operator;
mod stream;
mod values;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Router};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, header};
use serde::Deserialize;
use tokio::sync::{Semaphore, mpsc};
use utoipa::ToSchema;

use super::body::{self, Memory};
use super::problem::Problem;
use super::server::{Seat, Stopping};
use super::session::Caller;
use crate::app::App;
use feed::Feed;
use stream::{Form, Stream, WAITING};
use values::Values;

/// Streams of one process. Each holds a connection, and about 30 KiB (docs/performance.md).
const MAX_STREAMS: usize = 20_000;
/// Queries in one stream: a page shows a few, and a mark is a bit of 63.
const MAX_QUERIES: usize = 32;
/// The longest body that names them: each with a sealed cursor.
const MAX_BODY: usize = 32 * 1024;
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What all streams of one process share.
pub(super) struct Hub {
    app: std::sync::Weak<App>,
    feed: Arc<Feed>,
    values: Values,
    streams: Arc<Semaphore>,
    memory: Memory,
}

impl Hub {
    /// Streams over the routes of `reads`, which asks nobody who they are: each request carries its [`Caller`].
    pub(super) fn new(app: &Arc<App>, reads: Router) -> Arc<Self> {
        let feed = Feed::new(app.store.clone(), app.clock.clone(), app.committed.clone());
        Arc::new(Self {
            app: Arc::downgrade(app),
            values: Values::new(reads),
            feed,
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            memory: Memory::default(),
        })
    }
}

/// A query, and what its reader has of it.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LiveQuery)]
pub(super) struct Wanted {
    /// The path of the `GET`, with its parameters.
    #[schema(example = "/v1/organization/members?limit=50")]
    path: String,
    /// The change number of the value that the reader has: it is sent again only if it may have changed since.
    #[serde(default)]
    #[schema(minimum = 0)]
    since: Option<i64>,
}

/// What is to be told in one stream.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = LiveQueries)]
pub(super) struct Queries {
    /// At most 32, each path once.
    #[schema(min_items = 1, max_items = 32)]
    queries: Vec<Wanted>,
}

/// Answers a `GET` that wants events with a stream of its values.
pub(super) async fn offer(State(hub): State<Arc<Hub>>, request: Request, next: Next) -> Response {
    if request.method() != Method::GET || !wants_events(request.headers()) {
        return next.run(request).await;
    }
    // The path as it was asked for, whatever it is nested in.
    let uri = request.extensions().get::<axum::extract::OriginalUri>().map_or(request.uri(), |original| &original.0);
    let path = uri.path_and_query().map_or_else(|| uri.path().to_owned(), ToString::to_string);
    let wanted = Wanted { path, since: last_event_id(request.headers()) };
    let (parts, _) = request.into_parts();
    match hub.open(parts.extensions, vec![wanted], Form::Single).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

/// Several live queries in one stream. `Last-Event-ID` stands for every `since` that is left out.
#[utoipa::path(post, path = "/v1/live", operation_id = "subscribe", tag = "records", request_body = Queries,
    responses((status = 200, description = "Server-sent events `value`, `problem`, `beat` and `end`, without an end.",
        body = String, content_type = "text/event-stream")))]
pub(super) async fn subscribe(
    State(hub): State<Arc<Hub>>,
    Extension(_): Extension<Caller>,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    body::check_headers(&parts.headers, MAX_BODY)?;
    let whole = body::read(body, MAX_BODY, &hub.memory).await?;
    let wrong = |detail: String| Problem::new("invalid-parameter", detail);
    let queries: Queries =
        serde_json::from_slice(&whole.bytes).map_err(|error| wrong(format!("The body names no queries: {error}.")))?;
    drop(whole);
    let mut wanted = queries.queries;
    if wanted.is_empty() || wanted.len() > MAX_QUERIES {
        return Err(wrong(format!("`queries` must name 1 to {MAX_QUERIES}.")));
    }
    let last = last_event_id(&parts.headers);
    for (at, query) in wanted.iter().enumerate() {
        if query.since.is_some_and(|since| since < 0) {
            return Err(wrong(format!("`since` of `{}` is no change number.", query.path)));
        }
        if wanted[..at].iter().any(|other| other.path == query.path) {
            return Err(wrong(format!("`{}` is named twice.", query.path)));
        }
    }
    wanted.iter_mut().for_each(|query| query.since = query.since.or(last));
    hub.open(parts.extensions, wanted, Form::Several).await
}

impl Hub {
    async fn open(
        self: &Arc<Self>,
        mut extensions: http::Extensions,
        wanted: Vec<Wanted>,
        form: Form,
    ) -> Result<Response, Problem> {
        let caller: Caller =
            extensions.remove().ok_or_else(|| Problem::new("token-missing", "Nobody is signed in."))?;
        let full = || Problem::new("overloaded", "As many listen as may.");
        let permit = self.streams.clone().try_acquire_owned().map_err(|_| full())?;
        let app = self.app.upgrade().ok_or_else(|| Problem::new("shutting-down", "The service stops."))?;
        let (events, waiting) = mpsc::channel(WAITING);
        let stream = Stream::open(self, &app, caller, wanted, form, events).await?;
        let stopping: Option<Stopping> = extensions.remove();
        // It is one of the streams now, and none of the connections for ordinary requests.
        if let Some(seat) = extensions.remove::<Seat>() {
            seat.give_up();
        }
        let counted = app.metrics.live_subscriber();
        drop(app);
        tokio::spawn(async move {
            stream.run(stopping).await;
            drop((permit, counted));
        });
        let mut response = endless(waiting);
        // Its seat among the connections is given up.
        response.headers_mut().insert(header::CONNECTION, http::HeaderValue::from_static("close"));
        Ok(response)
    }
}

/// An answer without an end: the events as they come.
fn endless(mut events: mpsc::Receiver<Bytes>) -> Response {
    let body = Body::from_stream(futures_util::stream::poll_fn(move |context| {
        events.poll_recv(context).map(|event| event.map(Ok::<Bytes, std::convert::Infallible>))
    }));
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        // nginx gathers answers unless it is told not to.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, body).into_response()
}

/// Whether events are asked for by name.
fn wants_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next())
        .any(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream"))
}

/// Where a reader was. What is no change number is none.
fn last_event_id(headers: &HeaderMap) -> Option<i64> {
    headers.get(LAST_EVENT_ID)?.to_str().ok()?.parse().ok().filter(|number| *number >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn events_are_asked_for_by_name() {
        let check = |accept: &'static str, expected| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(wants_events(&headers), expected, "{accept}");
        };
        check("text/event-stream", true);
        check("application/json, Text/Event-Stream; q=0.5", true);
        check("*/*", false);
        check("text/*", false);
        check("application/json", false);
    }
}

//! What goes around every request: an id, a line of the log, a span, and an answer even where a handler panics.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tracing::{Instrument as _, Level, Span};

use super::problem::Problem;
use crate::app::{App, Stopwatch, random_bytes};
use crate::telemetry::lines::REQUEST;
use crate::telemetry::traces::{self, LATER, Parent, SERVER, TRACE};

/// What a request's id is answered in.
const REQUEST_ID: HeaderName = HeaderName::from_static("faircopy-request-id");
/// Where an id of the caller's own is looked for, too.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The longest id that is taken from a caller: a UUID has 36 characters.
const MAX_REQUEST_ID: usize = 64;
/// What is told where no route matches: the path itself may hold anything.
const UNMATCHED: &str = "unmatched";
/// Asked every few seconds, by machines.
const QUIET: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// By what a request is found again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Marks {
    /// Its id.
    pub(super) request_id: Arc<str>,
    /// Its trace, where it belongs to one.
    pub(super) parent: Option<Parent>,
}

impl Marks {
    fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(REQUEST_ID).or_else(|| headers.get(X_REQUEST_ID)).and_then(request_id);
        let request_id = given.map_or_else(made_up, Arc::from);
        let parent = headers.get(TRACEPARENT).and_then(|value| Parent::read(value.to_str().ok()?));
        Self { request_id, parent: parent.or_else(|| traces::is_on().then(Parent::new)) }
    }

    /// The trace, for the log.
    pub(super) fn trace_id(&self) -> Option<&str> {
        self.parent.as_ref().map(|parent| parent.trace.as_str())
    }

    /// The span of the whole request; none where nothing is traced.
    fn span(&self, method: &str, route: &str) -> Span {
        let Some(parent) = self.parent.as_ref().filter(|_| traces::is_on()) else { return Span::none() };
        tracing::info_span!(target: TRACE, parent: None, "request",
            trace.id = parent.trace, trace.parent = parent.span, trace.unsampled = !parent.is_sampled, trace.kind = SERVER,
            http.request.method = method, http.route = route, faircopy.request_id = &*self.request_id,
            http.response.status_code = LATER, trace.failed = LATER)
    }
}

/// An id that can stand in a log and in a header.
fn request_id(value: &HeaderValue) -> Option<&str> {
    let text = value.to_str().ok()?;
    let is_plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    ((1..=MAX_REQUEST_ID).contains(&text.len()) && is_plain).then_some(text)
}

fn made_up() -> Arc<str> {
    format!("{:016x}", u64::from_le_bytes(random_bytes())).into()
}

/// Answers a request, and tells of it. Without an [`App`] there are no lines yet.
pub(super) async fn tell(app: Option<Arc<App>>, mut request: Request, next: Next) -> Response {
    let watch = Stopwatch::start();
    let marks = Marks::of(request.headers());
    let (method, matched) = (request.method().clone(), request.extensions().get::<MatchedPath>().cloned());
    let route = matched.as_ref().map_or(UNMATCHED, MatchedPath::as_str);
    let span = marks.span(method.as_str(), route);
    request.extensions_mut().insert(marks.clone());
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span.clone()).await;
    let mut response = answered.unwrap_or_else(|_| {
        tracing::error!(request_id = %marks.request_id, route, code = "internal-error", "a handler panicked; this is a bug");
        Problem::new("internal-error", "Something broke here; the log has it under this request's id.").into_response()
    });
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        *response.body_mut() = problem.about(&marks.request_id).into_body();
    }
    if let Ok(value) = HeaderValue::from_str(&marks.request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        traces::failed(&span);
    }
    if let Some(app) = app {
        let is_delivery = status == StatusCode::OK && app.config.webhook.paths.iter().any(|path| path == route);
        if !is_delivery {
            app.metrics.request(route, status.as_u16());
            line(&app, method.as_str(), route, status, watch, &marks);
        }
    }
    response
}

fn line(app: &App, method: &str, route: &str, status: StatusCode, watch: Stopwatch, marks: &Marks) {
    let (status, duration_ms, request_id) = (status.as_u16(), watch.tenths_of_ms(), &*marks.request_id);
    let trace_id = marks.trace_id();
    if QUIET.contains(&route) {
        tracing::debug!(target: REQUEST, method, route, status, duration_ms, request_id, trace_id, "request");
    } else if tracing::enabled!(target: REQUEST, Level::INFO) && app.lines.take(app.clock.now()) {
        tracing::info!(target: REQUEST, method, route, status, duration_ms, request_id, trace_id, "request");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    async fn ask(headers: &[(&str, &str)], path: &str) -> (Response<()>, String) {
        async fn broken() -> &'static str {
            panic!("canary@example.com is not to be told")
        }
        let router = Router::new()
            .route("/broken", get(broken))
            .fallback(|| async { Problem::new("not-found", "No route has this path.") })
            .layer(axum::middleware::from_fn(|request: Request, next: Next| tell(None, request, next)));
        let mut request = Request::builder().uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, body) = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (Response::from_parts(parts, ()), String::from_utf8(body.to_vec()).unwrap())
    }

    fn told(response: &Response<()>) -> &str {
        response.headers()["faircopy-request-id"].to_str().unwrap()
    }

    #[tokio::test]
    async fn a_panic_is_answered_with_the_id_and_nothing_else() {
        let (response, body) = ask(&[], "/broken").await;
        let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((response.status().as_u16(), &problem["code"]), (500, &"internal-error".into()));
        assert_eq!(response.headers()["content-type"], "application/problem+json");
        assert_eq!(problem["instance"], format!("urn:faircopy:request:{}", told(&response)));
        assert!(!body.contains("canary"), "{body}");
    }

    #[tokio::test]
    async fn an_id_is_taken_where_it_is_one_and_made_up_where_not() {
        let long = "a".repeat(65);
        let check = async |name: &str, value: &str, is_taken: bool| {
            let (response, body) = ask(&[(name, value)], "/nowhere").await;
            assert_eq!(told(&response) == value, is_taken, "{name}: {value}");
            assert!(body.contains(&format!("urn:faircopy:request:{}", told(&response))), "{body}");
            assert!(is_taken || told(&response).len() == 16, "{}", told(&response));
        };
        check("x-request-id", "req_1.a-B", true).await;
        check("faircopy-request-id", "0af7651916cd43dd8448eb211c80319c", true).await;
        check("x-request-id", "two words", false).await;
        check("x-request-id", "<script>", false).await;
        check("x-request-id", "", false).await;
        check("x-request-id", &long, false).await;
        check("x-other", "abc", false).await;
    }
}

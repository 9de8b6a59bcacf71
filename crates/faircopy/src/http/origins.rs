//! Browsers on pages of other origins: answered where the settings name theirs, and told nothing otherwise.

use std::time::Duration;

use axum::Router;
use http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// How long a browser remembers what it may: browsers keep it for two hours at the most.
const REMEMBERED: Duration = Duration::from_secs(3_600);

/// The routes, answering pages of these origins too. Never with credentials: a token comes as bearer, from whoever has it.
pub(super) fn allow<S: Clone + Send + Sync + 'static>(routes: Router<S>, origins: &[String]) -> Router<S> {
    let origins: Vec<HeaderValue> = origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    if origins.is_empty() {
        return routes;
    }
    let own = |name| HeaderName::from_static(name);
    let sent = [header::ACCEPT, header::AUTHORIZATION, header::CACHE_CONTROL, header::CONTENT_TYPE]
        .into_iter()
        .chain(["last-event-id", "faircopy-max-staleness", "faircopy-min-sequence", "faircopy-request-id"].map(own));
    let shown = ["faircopy-sequence", "faircopy-as-of", "faircopy-as-of-basis", "faircopy-request-id"].map(own);
    let layer = CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(sent.collect::<Vec<_>>())
        .expose_headers(shown.into_iter().chain([header::RETRY_AFTER, header::WWW_AUTHENTICATE]).collect::<Vec<_>>())
        .max_age(REMEMBERED);
    routes.layer(layer)
}

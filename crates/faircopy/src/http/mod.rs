//! The route table: every name that the service answers to, and who may call it.

mod admin;
mod alerts;
mod body;
mod cursor;
mod dashboard;
mod destinations;
mod directory;
mod doctor;
mod drift;
mod erasures;
mod explain;
mod fresh;
mod health;
mod jobs;
mod live;
pub mod openapi;
mod origins;
mod overview;
pub mod problem;
mod records;
pub mod server;
pub(crate) mod session;
mod told;
pub(crate) mod waiting;
mod webhook;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::Next;
use axum::routing::{MethodFilter, get, on, post};

use crate::app::App;
pub use body::LARGE_KIB;
use problem::Problem;

/// Who may call a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anyone.
    Public,
    /// Whoever signs with a configured secret.
    Signed,
    /// Whoever is signed in: a session token as bearer.
    Session,
    /// Whoever holds the admin token, or is signed in to the dashboard.
    Admin,
    /// Anyone: a part of the dashboard that holds nothing of the copy, or by which one signs in. No part of the API.
    Page,
}

/// Every route: method, path, who may call it. A test holds the router to this list, and a route under `/admin/` or `/v1/`
/// that is not listed still asks for a token.
pub const ROUTES: &[(&str, &str, Access)] = &[
    ("POST", "/webhooks/clerk", Access::Signed),
    ("GET", "/healthz", Access::Public),
    ("GET", "/readyz", Access::Public),
    ("GET", "/metrics", Access::Public),
    ("GET", "/openapi.json", Access::Public),
    ("GET", "/docs", Access::Public),
    ("GET", "/docs/scalar.js", Access::Public),
    ("POST", "/v1/session", Access::Session),
    ("GET", "/v1/auth", Access::Session),
    ("GET", "/v1/me", Access::Session),
    ("GET", "/v1/me/organizations", Access::Session),
    ("GET", "/v1/users/{clerk_user_id}", Access::Session),
    ("GET", "/v1/organization", Access::Session),
    ("GET", "/v1/organization/members", Access::Session),
    ("GET", "/v1/workspace", Access::Session),
    ("POST", "/v1/live", Access::Session),
    ("GET", "/admin/v1/deliveries", Access::Admin),
    ("GET", "/admin/v1/deliveries/{svix_id}", Access::Admin),
    ("POST", "/admin/v1/deliveries/{svix_id}/replay", Access::Admin),
    ("GET", "/admin/v1/changes", Access::Admin),
    ("GET", "/admin/v1/explain/{subject}", Access::Admin),
    ("GET", "/admin/v1/users", Access::Admin),
    ("GET", "/admin/v1/users/{clerk_user_id}", Access::Admin),
    ("GET", "/admin/v1/users/{clerk_user_id}/compare", Access::Admin),
    ("GET", "/admin/v1/organizations", Access::Admin),
    ("GET", "/admin/v1/organizations/{clerk_org_id}", Access::Admin),
    ("GET", "/admin/v1/organizations/{clerk_org_id}/compare", Access::Admin),
    ("GET", "/admin/v1/members", Access::Admin),
    ("GET", "/admin/v1/statistics", Access::Admin),
    ("GET", "/admin/v1/findings", Access::Admin),
    ("GET", "/admin/v1/alerts", Access::Admin),
    ("POST", "/admin/v1/alerts/acknowledge", Access::Admin),
    ("POST", "/admin/v1/alerts/{target}/test", Access::Admin),
    ("GET", "/admin/v1/doctor", Access::Admin),
    ("GET", "/admin/v1/drift", Access::Admin),
    ("GET", "/admin/v1/drift/{id}", Access::Admin),
    ("GET", "/admin/v1/erasures", Access::Admin),
    ("GET", "/admin/v1/erasures/{clerk_user_id}", Access::Admin),
    ("POST", "/admin/v1/drift/run", Access::Admin),
    ("GET", "/admin/v1/jobs", Access::Admin),
    ("GET", "/admin/v1/jobs/{id}", Access::Admin),
    ("GET", "/admin/v1/jobs/{id}/plan", Access::Admin),
    ("POST", "/admin/v1/jobs/{id}/cancel", Access::Admin),
    ("POST", "/admin/v1/jobs/{id}/resume", Access::Admin),
    ("GET", "/admin/v1/destinations", Access::Admin),
    ("GET", "/admin/v1/destinations/{name}", Access::Admin),
    ("POST", "/admin/v1/destinations/{name}/pause", Access::Admin),
    ("POST", "/admin/v1/destinations/{name}/resume", Access::Admin),
    ("POST", "/admin/v1/destinations/{name}/rewind", Access::Admin),
    ("POST", "/admin/v1/destinations/{name}/resend", Access::Admin),
    ("GET", "/admin/v1/overview", Access::Admin),
    ("GET", "/admin/v1/activity", Access::Admin),
    ("GET", "/admin/v1/live", Access::Admin),
    ("GET", "/dashboard", Access::Page),
    ("GET", "/dashboard/{*page}", Access::Page),
    ("GET", "/dashboard/assets/{name}", Access::Page),
    ("GET", "/dashboard/session", Access::Page),
    ("POST", "/dashboard/login", Access::Page),
    ("POST", "/dashboard/logout", Access::Page),
];

/// The service as a router.
pub fn router(app: &Arc<App>) -> Router {
    let guard = admin::Guard::new(app.clone());
    let admin = Router::new()
        .route("/deliveries", get(admin::list).fallback(only_get))
        .route("/deliveries/{svix_id}", get(admin::show).fallback(only_get))
        .route("/deliveries/{svix_id}/replay", post(admin::replay).fallback(only_post))
        .route("/changes", get(admin::changes).fallback(only_get))
        .route("/explain/{subject}", get(explain::show).fallback(only_get))
        .route("/users", get(directory::users).fallback(only_get))
        .route("/users/{clerk_user_id}", get(directory::user).fallback(only_get))
        .route("/users/{clerk_user_id}/compare", get(directory::compare_user).fallback(only_get))
        .route("/organizations", get(directory::organizations).fallback(only_get))
        .route("/organizations/{clerk_org_id}", get(directory::organization).fallback(only_get))
        .route("/organizations/{clerk_org_id}/compare", get(directory::compare_organization).fallback(only_get))
        .route("/members", get(directory::members).fallback(only_get))
        .route("/statistics", get(admin::statistics).fallback(only_get))
        .route("/findings", get(admin::findings).fallback(only_get))
        .route("/alerts", get(alerts::list).fallback(only_get))
        .route("/alerts/acknowledge", post(alerts::acknowledge).fallback(only_post))
        .route("/alerts/{target}/test", post(alerts::test).fallback(only_post))
        .route("/doctor", get(doctor::report).fallback(only_get))
        .route("/drift", get(drift::list).fallback(only_get))
        .route("/drift/{id}", get(drift::show).fallback(only_get))
        .route("/erasures", get(erasures::list).fallback(only_get))
        .route("/erasures/{clerk_user_id}", get(erasures::show).fallback(only_get))
        .route("/drift/run", post(drift::run).fallback(only_post))
        .route("/jobs", get(jobs::list).fallback(only_get))
        .route("/jobs/{id}", get(jobs::show).fallback(only_get))
        .route("/jobs/{id}/plan", get(jobs::plan).fallback(only_get))
        .route("/jobs/{id}/cancel", post(jobs::cancel).fallback(only_post))
        .route("/jobs/{id}/resume", post(jobs::resume).fallback(only_post))
        .route("/destinations", get(destinations::list).fallback(only_get))
        .route("/destinations/{name}", get(destinations::show).fallback(only_get))
        .route("/destinations/{name}/pause", post(destinations::pause).fallback(only_post))
        .route("/destinations/{name}/resume", post(destinations::resume).fallback(only_post))
        .route("/destinations/{name}/rewind", post(destinations::rewind).fallback(only_post))
        .route("/destinations/{name}/resend", post(destinations::resend).fallback(only_post))
        .route("/overview", get(overview::overview).fallback(only_get))
        .route("/activity", get(overview::activity).fallback(only_get))
        .route(
            "/live",
            get(live::operator::listen).fallback(only_get).with_state((app.clone(), live::operator::Hub::new(app))),
        )
        .fallback(nothing_here)
        .layer(axum::middleware::from_fn_with_state(guard.clone(), admin::require_token));
    let reads = Router::new()
        .route("/me", get(records::me).fallback(only_get))
        .route("/me/organizations", get(records::my_organizations).fallback(only_get))
        .route("/users/{clerk_user_id}", get(records::user).fallback(only_get))
        .route("/organization", get(records::organization).fallback(only_get))
        .route("/organization/members", get(records::members).fallback(only_get))
        .route("/workspace", get(records::workspace).fallback(only_get));
    let hub = live::Hub::new(app, reads.clone().fallback(nothing_here).with_state(app.clone()));
    let signed_in = reads
        .layer(axum::middleware::from_fn_with_state(hub.clone(), live::offer))
        .route("/live", post(live::subscribe).fallback(only_post).with_state(hub))
        .route("/session", post(session::store).fallback(only_post))
        .fallback(nothing_here)
        .layer(axum::middleware::from_fn_with_state(app.clone(), session::require_session))
        .layer(axum::middleware::from_fn_with_state(app.clone(), session::require_configuration))
        // Asks for the token itself: it takes the cookie too, and goes on without the database.
        .route("/auth", get(session::auth).fallback(only_get));
    let dashboard = Router::new()
        .route("/dashboard", get(dashboard::page).fallback(only_get))
        .route("/dashboard/{*page}", get(dashboard::page).fallback(only_get))
        .route("/dashboard/assets/{name}", get(dashboard::asset).fallback(only_get))
        .route("/dashboard/session", get(dashboard::session::standing).fallback(only_get))
        .route("/dashboard/login", post(dashboard::session::sign_in).fallback(only_post))
        .route("/dashboard/logout", post(dashboard::session::sign_out).fallback(only_post))
        .with_state(guard);
    let mut router = Router::new()
        .route("/healthz", get(health::live).fallback(only_get))
        .route("/readyz", get(health::ready).fallback(only_get))
        .route("/metrics", get(health::metrics).fallback(only_get))
        .route("/openapi.json", get(openapi::description).fallback(only_get))
        .route("/docs", get(openapi::page).fallback(only_get))
        .route("/docs/scalar.js", get(openapi::script).fallback(only_get))
        .nest("/v1", origins::allow(signed_in, &app.config.allowed_origins))
        .nest("/admin/v1", admin)
        .merge(dashboard)
        .fallback(nothing_here);
    let endpoint = webhook::Endpoint::new(app.clone());
    for path in &app.config.webhook.paths {
        let receive = on(MethodFilter::POST, webhook::receive).fallback(only_post).with_state(endpoint.clone());
        router = router.route(path, receive);
    }
    let teller = app.clone();
    router
        .layer(axum::middleware::from_fn(move |request: Request, next: Next| {
            told::tell(Some(teller.clone()), request, next)
        }))
        .layer(axum::middleware::map_response(harden))
        .with_state(app.clone())
}

/// Headers that every answer carries.
async fn harden(mut response: axum::response::Response) -> axum::response::Response {
    let headers = response.headers_mut();
    headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
    // What nobody said may be kept is not.
    headers.entry(http::header::CACHE_CONTROL).or_insert(http::HeaderValue::from_static("no-store"));
    response
}

async fn nothing_here() -> Problem {
    Problem::new("not-found", "No route has this path.")
}

async fn only_get() -> Problem {
    Problem::method_not_allowed("GET, HEAD")
}

async fn only_post() -> Problem {
    Problem::method_not_allowed("POST")
}

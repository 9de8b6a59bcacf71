//! `POST /webhooks/clerk`: raw bytes and headers in, an outcome out, and a 2xx only when it is durable.

use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::{Extension, Json};
use faircopy_core::event::Event;
use faircopy_core::signature::{self, SVIX_HEADERS, SignedHeaders, WEBHOOK_HEADERS};
use faircopy_store::{Arrival, Content, Error, Outcome, failpoint};
use http::HeaderMap;
use serde::Serialize;
use tracing::{Instrument as _, Level};
use utoipa::ToSchema;

use super::body;
use super::problem::Problem;
use super::told::Marks;
use crate::app::{App, Stopwatch};
use crate::config::Webhook;
use crate::doctor::PROBE_PREFIX;
use crate::telemetry::lines::DELIVERY;
use crate::telemetry::traces::{self, LATER, TRACE};
use crate::traffic::Count;

/// The endpoint, at all of its paths.
#[derive(Clone)]
pub(super) struct Endpoint {
    app: Arc<App>,
    memory: body::Memory,
}

impl Endpoint {
    pub(super) fn new(app: Arc<App>) -> Self {
        Self { app, memory: body::Memory::default() }
    }
}

/// What became of a delivery, once that is durable.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Acknowledged {
    outcome: Outcome,
    /// The `svix-id`.
    #[schema(example = "msg_2gVLh9rP3kDKQV8pvN1PmjW2zNE")]
    id: String,
}

/// Receives one signed delivery.
///
/// A 200 means that the delivery and its effect are on the disk. The signature is an HMAC-SHA256 over
/// `{svix-id}.{svix-timestamp}.{body}` with the endpoint's signing secret, as Svix and Standard Webhooks define it; the
/// headers `webhook-id`, `webhook-timestamp` and `webhook-signature` are read as well where they are configured, and there
/// may be other paths. What is signed and cannot be understood is kept aside and answered `quarantined`.
#[utoipa::path(post, path = "/webhooks/clerk", operation_id = "receiveDelivery", tag = "webhook",
    params(
        ("svix-id" = String, Header, description = "The message's id, the same on every attempt.",
            pattern = "^[A-Za-z0-9_-]{1,256}$", example = "msg_2gVLh9rP3kDKQV8pvN1PmjW2zNE"),
        ("svix-timestamp" = String, Header, description = "When this attempt was signed, in seconds since 1970; at most \
            300 seconds away.", pattern = "^[0-9]{1,12}$", example = "1760000000"),
        ("svix-signature" = String, Header, description = "One or more signatures, separated by spaces.",
            pattern = "^v1,[A-Za-z0-9+/]{43}=$", example = "v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="),
    ),
    request_body(content = serde_json::Value, description = "Clerk's event, as it was signed; at most 1 MiB.",
        content_type = "application/json", example = json!({
            "type": "user.deleted", "object": "event", "timestamp": 1760000000000_i64,
            "data": { "id": "user_29w83sxmDNGwOuEthce5gg56FcC", "object": "user", "deleted": true },
        })),
    responses((status = 200, description = "It is durable.", body = Acknowledged)))]
pub(super) async fn receive(
    State(Endpoint { app, memory }): State<Endpoint>,
    Extension(marks): Extension<Marks>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Result<Json<Acknowledged>, Problem> {
    let is_signed = looks_signed(request.headers());
    let answer = take(&app, &memory, &marks, peer, request).await;
    match &answer {
        Ok(_) => app.traffic.count(Count::Accepted),
        // What carries no such headers is nobody's attempt to deliver, and a probe of the doctor is none either.
        Err(problem) if is_signed && problem.code() != "probe-verified" => {
            app.traffic.count(Count::Failed);
            if problem.status() == http::StatusCode::SERVICE_UNAVAILABLE {
                app.traffic.count(Count::Refused);
            }
        }
        Err(_) => {}
    }
    answer
}

async fn take(
    app: &App,
    memory: &body::Memory,
    marks: &Marks,
    peer: SocketAddr,
    request: Request,
) -> Result<Json<Acknowledged>, Problem> {
    failpoint::step("recv");
    let (received_at, watch) = (app.clock.now(), Stopwatch::start());
    let (parts, content) = request.into_parts();
    let settings = &app.config.webhook;
    check_sender(settings, peer.ip(), &parts.headers)?;
    if settings.secrets.is_empty() {
        let detail = "Set CLERK_WEBHOOK_SIGNING_SECRET to the endpoint's signing secret (whsec_…).";
        return Err(Problem::new("no-signing-secret", detail).closing());
    }
    body::check_headers(&parts.headers, settings.max_body_bytes)?;

    let headers = signed_headers(&parts.headers);
    let rejected = |rejection: signature::Rejection| {
        app.metrics.signature_failure(rejection.reason());
        app.traffic.count(rejection.into());
        Problem::from(rejection)
    };
    let claim = signature::claim(&headers, settings.header_names, received_at).map_err(|r| rejected(r).closing())?;
    let body::Whole { bytes, memory: share } = body::read(content, settings.max_body_bytes, memory).await?;
    let verify = tracing::info_span!(target: TRACE, "verify", faircopy.bytes = bytes.len());
    verify.in_scope(|| claim.verify(&bytes, &settings.secrets)).map_err(rejected)?;
    drop(verify);
    app.traffic.arrived(received_at.0 - claim.signed_at.0);
    if claim.id.starts_with(PROBE_PREFIX) {
        return Err(Problem::new("probe-verified", "A probe of the doctor: the signature fits. It is not stored."));
    }
    failpoint::step("verified");

    let arrival = Arrival {
        svix_id: claim.id.to_owned(),
        signed_at: claim.signed_at,
        received_at,
        body_hash: Arrival::hash(&bytes),
        content: tracing::info_span!(target: TRACE, "read").in_scope(|| read(app, &bytes, claim.signed_at)),
    };
    // What is stored of it is a copy of its own, which takes over its share of the memory until the commit.
    drop(bytes);
    let (id, event_type) = (arrival.svix_id.clone(), arrival.content.event.event_type.clone());
    let (entity, event_at) = (arrival.content.event.entity_id.clone(), arrival.content.event.event_at);
    failpoint::step("queued");
    let span = tracing::info_span!(target: TRACE, "intake", faircopy.svix_id = id, faircopy.event_type = event_type,
        faircopy.outcome = LATER, trace.failed = LATER);
    let receipt = match app.intake.submit(arrival, Some(share)).instrument(span.clone()).await {
        Ok(receipt) => receipt,
        Err(refusal) => {
            traces::failed(&span);
            tracing::warn!(svix_id = id, request_id = &*marks.request_id, reason = %refusal, "a delivery was sent back");
            if Error::says_disk_full(&refusal.to_string()) {
                app.traffic.count(Count::DiskFull);
            }
            let problem = Problem::from(refusal);
            app.metrics.refused(problem.code());
            return Err(problem);
        }
    };
    let lag_ms = event_at.map(|at| received_at.0 - at.0);
    app.metrics.delivery(&event_type, &receipt, watch.seconds(), lag_ms);
    let outcome = receipt.outcome.as_str();
    span.record("faircopy.outcome", outcome);
    // `data.id` may hold anything; only what has an id's letters is known to name nobody.
    let entity_id =
        entity.filter(|id| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')));
    if tracing::enabled!(target: DELIVERY, Level::INFO) && app.lines.take(received_at) {
        let (duration_ms, request_id, trace_id) = (watch.tenths_of_ms(), &*marks.request_id, marks.trace_id());
        tracing::info!(target: DELIVERY, svix_id = id, event_type, entity_id, outcome, duration_ms, lag_ms, request_id, trace_id,
            "delivery");
    }
    Ok(Json(Acknowledged { outcome: receipt.outcome, id }))
}

/// Reads the body; a panic in there is a bug of ours, and the sender's delivery is kept aside instead of lost.
fn read(app: &App, bytes: &[u8], signed_at: faircopy_core::Millis) -> Content {
    let context = app.context(signed_at);
    std::panic::catch_unwind(AssertUnwindSafe(|| Content::read(bytes, &context)))
        .unwrap_or_else(|_| Content { payload: None, event: Event::unreadable("a panic while reading; this is a bug") })
}

/// Whether somebody meant to deliver something.
fn looks_signed(headers: &HeaderMap) -> bool {
    let has = |names: [&str; 3]| names.iter().all(|name| headers.contains_key(*name));
    has(SVIX_HEADERS) || has(WEBHOOK_HEADERS)
}

fn signed_headers(headers: &HeaderMap) -> SignedHeaders<'_> {
    let lines = |name: &str| headers.get_all(name).iter().map(http::HeaderValue::as_bytes).collect();
    SignedHeaders { svix: SVIX_HEADERS.map(lines), webhook: WEBHOOK_HEADERS.map(lines) }
}

/// The second wall: only senders from the allowed networks, where any is named.
fn check_sender(settings: &Webhook, peer: IpAddr, headers: &HeaderMap) -> Result<(), Problem> {
    if settings.allow_from.is_empty() {
        return Ok(());
    }
    let sender = sender(settings, peer, headers);
    if settings.allow_from.iter().any(|network| network.contains(&sender)) {
        return Ok(());
    }
    Err(Problem::new("sender-not-allowed", "This address is not in webhook.allow_from.").closing())
}

/// The address of the sender: the peer's, or, while the peer is a trusted proxy, the last address that it added.
fn sender(settings: &Webhook, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let trusted = |address: &IpAddr| settings.trusted_proxies.iter().any(|network| network.contains(address));
    let mut sender = peer;
    let lines = headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok());
    let chain: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    for hop in chain.iter().rev() {
        match hop.parse() {
            Ok(address) if trusted(&sender) => sender = address,
            _ => break,
        }
    }
    sender
}

#[cfg(test)]
mod tests {
    use super::*;
    use faircopy_core::signature::Names;

    #[test]
    fn a_forwarded_address_counts_only_behind_a_trusted_proxy() {
        let settings = Webhook {
            secrets: vec![],
            paths: vec![],
            max_body_bytes: 1,
            header_names: Names::Svix,
            allow_from: vec!["203.0.113.0/24".parse().unwrap()],
            trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()],
        };
        let check = |peer: &str, forwarded: Option<&str>, allowed: bool| {
            let mut headers = HeaderMap::new();
            if let Some(forwarded) = forwarded {
                headers.insert("x-forwarded-for", forwarded.parse().unwrap());
            }
            assert_eq!(
                check_sender(&settings, peer.parse().unwrap(), &headers).is_ok(),
                allowed,
                "{peer} {forwarded:?}"
            );
        };
        check("203.0.113.7", None, true);
        check("198.51.100.1", None, false);
        check("198.51.100.1", Some("203.0.113.7"), false);
        check("10.0.0.1", Some("203.0.113.7"), true);
        check("10.0.0.1", Some("203.0.113.7, 198.51.100.1"), false);
        check("10.0.0.1", Some("198.51.100.1, 203.0.113.7, 10.0.0.2"), true);
        check("10.0.0.1", Some("nonsense"), false);
    }
}

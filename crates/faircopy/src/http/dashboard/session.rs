//! Signing in to the dashboard: the admin token once, a cookie from then on.
//!
//! A browser sends a cookie by itself, whoever asks it to. So what comes with one must come from the dashboard's own page: see
//! [`of_own_page`]. docs/decisions/0024-dashboard.md says why so.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use http::{HeaderMap, Method, StatusCode, header};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::super::admin::Guard;
use super::super::problem::Problem;
use crate::app::{App, random_bytes};

/// How long somebody stays signed in: a working day.
const LIFE_MS: i64 = 12 * 3_600_000;
/// What a cookie holds: so much that nobody guesses, and a seal that tells a guess without a read.
const SECRET_BYTES: usize = 32;
const SEAL_BYTES: usize = 16;
/// The cookie's name over https, where a browser lets nobody but this very host set it, and elsewhere.
const SECURE_NAME: &str = "__Host-faircopy";
const PLAIN_NAME: &str = "faircopy";
/// Cookies of these names that are looked at: another one may be left from before https was.
const MAX_COOKIES: usize = 4;
/// The longest body of a request to sign in, and how long it may take.
const MAX_BODY: usize = 4096;
const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// What is sent to sign in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Offer {
    token: Option<String>,
}

/// Who looks at the page, and how it is shown.
#[derive(Serialize)]
pub(in crate::http) struct Standing {
    /// There is an admin token, and with it a dashboard.
    is_on: bool,
    /// Whoever asks is signed in.
    is_signed_in: bool,
    /// Whoever asks may sign in without a token.
    is_open: bool,
    /// Personal data is masked until somebody asks for it.
    mask: bool,
}

/// Whether somebody is signed in, and what there is to sign in to. Says nothing about the copy.
pub(in crate::http) async fn standing(
    State(guard): State<Guard>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Result<Json<Standing>, Problem> {
    let app = guard.app();
    let is_on = app.config.admin_token_text().is_some();
    let is_signed_in = is_on && signed_in(app, &headers).await?.is_some();
    let is_open = is_on && is_open_here(app, &headers, peer.ip());
    Ok(Json(Standing { is_on, is_signed_in, is_open, mask: app.config.dashboard.mask }))
}

/// Signs in: sets the cookie.
pub(in crate::http) async fn sign_in(
    State(guard): State<Guard>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let app = guard.app();
    let token = guard.token()?;
    of_own_page(app, &Method::POST, &headers)?;
    let is_good = match offered(&headers, body).await?.token {
        Some(offered) => guard.judge(offered.as_bytes(), token, peer.ip()).map(|()| true)?,
        None => is_open_here(app, &headers, peer.ip()),
    };
    if !is_good {
        return Err(Problem::new("unauthorized", "Send the admin token: `{\"token\": \"…\"}`."));
    }
    let secret = random_bytes::<SECRET_BYTES>();
    let now = app.clock.now();
    app.store.writer().sign_in(&id(&secret), now, now.plus(LIFE_MS)).await?;
    let mut value = secret.to_vec();
    value.extend_from_slice(&seal(app, token, &secret).await?.finalize().into_bytes()[..SEAL_BYTES]);
    let cookie = cookie(is_https(&headers), &URL_SAFE_NO_PAD.encode(value), LIFE_MS / 1000);
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// Signs out, on every replica: the cookie is worth nothing any more, wherever it was copied to.
pub(in crate::http) async fn sign_out(State(guard): State<Guard>, headers: HeaderMap) -> Result<Response, Problem> {
    let app = guard.app();
    of_own_page(app, &Method::POST, &headers)?;
    if let Some(id) = signed_in(app, &headers).await? {
        app.store.writer().sign_out(&id).await?;
    }
    let cookie = cookie(is_https(&headers), "", 0);
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// The session that a request comes with, if it is under way: its id.
pub(in crate::http) async fn signed_in(app: &Arc<App>, headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(token) = app.config.admin_token_text() else { return Ok(None) };
    for value in cookies(headers) {
        let Some((secret, offered)) = value.split_at_checked(SECRET_BYTES) else { continue };
        // In a time that says nothing about how much of the seal is right, and before anything is read.
        let is_sealed =
            offered.len() == SEAL_BYTES && seal(app, token, secret).await?.verify_truncated_left(offered).is_ok();
        let id = id(secret);
        if is_sealed && app.store.is_signed_in(&id, app.clock.now()).await? {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Whether a session that was good is so still.
pub(in crate::http) async fn goes_on(app: &App, id: &str) -> bool {
    // A database that is away for a moment ends nobody's session.
    app.store.is_signed_in(id, app.clock.now()).await.unwrap_or(true)
}

/// Refuses what a browser sends for another site. A request that changes something must name its origin, and it must be the one
/// that was asked: the page's own scripts always do, and no other site can.
pub(in crate::http) fn of_own_page(app: &App, method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    let refused = |detail: &str| Err(Problem::new("foreign-origin", detail));
    let site = headers.get("sec-fetch-site").map(|site| site.as_bytes());
    if !matches!(site, None | Some(b"same-origin" | b"none")) {
        return refused("A browser sent this for another site.");
    }
    let is_read = method == Method::GET || method == Method::HEAD;
    match origin(headers) {
        Some(origin) if is_own(origin, headers, app.config.dashboard.origin.as_deref()) => Ok(()),
        Some(_) => refused("The `Origin` is not this service's; behind a proxy set FAIRCOPY_DASHBOARD_ORIGIN."),
        None if is_read && !headers.contains_key(header::ORIGIN) => Ok(()),
        None => refused("With a cookie, whatever changes something must name its `Origin`."),
    }
}

/// The one `Origin`.
fn origin(headers: &HeaderMap) -> Option<&str> {
    single(headers, &header::ORIGIN)
}

fn single<'h>(headers: &'h HeaderMap, name: &header::HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

fn is_own(origin: &str, headers: &HeaderMap, configured: Option<&str>) -> bool {
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    let asked = single(headers, &header::HOST);
    configured == Some(origin) || host.zip(asked).is_some_and(|(host, asked)| host.eq_ignore_ascii_case(asked))
}

fn is_https(headers: &HeaderMap) -> bool {
    origin(headers).is_some_and(|origin| origin.starts_with("https://"))
}

/// Whether this is a browser of this machine, asked for by a name of this machine, and nothing in between: a page that has
/// its own name rebound to a loopback address names another host, and a tunnel says for whom it forwards.
fn is_open_here(app: &App, headers: &HeaderMap, peer: IpAddr) -> bool {
    const FORWARDED: [&str; 5] = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];
    let is_here = single(headers, &header::HOST).is_some_and(|host| {
        let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        ["localhost", "127.0.0.1", "[::1]"].contains(&name.map_or(host, |(name, _)| name))
    });
    app.config.dashboard.is_open_here
        && peer.is_loopback()
        && is_here
        && FORWARDED.iter().all(|name| !headers.contains_key(*name))
}

async fn offered(headers: &HeaderMap, body: Body) -> Result<Offer, Problem> {
    let unreadable = || Problem::new("invalid-parameter", "Expected JSON: `{\"token\": \"…\"}`.");
    // A form of another site can send no JSON.
    let kind = single(headers, &header::CONTENT_TYPE).unwrap_or_default();
    if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        return Err(unreadable());
    }
    let body = tokio::time::timeout(BODY_DEADLINE, axum::body::to_bytes(body, MAX_BODY)).await;
    let body = body.ok().and_then(Result::ok).ok_or_else(|| unreadable().closing())?;
    serde_json::from_slice(&body).map_err(|_| unreadable())
}

/// The cookies that may be ours, decoded.
fn cookies(headers: &HeaderMap) -> Vec<Vec<u8>> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let ours = pairs.filter(|(name, _)| [SECURE_NAME, PLAIN_NAME].contains(name));
    ours.take(MAX_COOKIES).filter_map(|(_, value)| URL_SAFE_NO_PAD.decode(value).ok()).collect()
}

/// Whether a request comes with a cookie that may be ours.
pub(in crate::http) fn has_cookie(headers: &HeaderMap) -> bool {
    !cookies(headers).is_empty()
}

fn cookie(is_secure: bool, value: &str, seconds: i64) -> String {
    let (name, secure) = if is_secure { (SECURE_NAME, "; Secure") } else { (PLAIN_NAME, "") };
    format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

/// What the database knows a session by.
fn id(secret: &[u8]) -> String {
    Sha256::digest(secret).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The seal of a cookie. All replicas make the same, and with another admin token another one. The key is the copy's; its other
/// use, for cursors, begins with another text.
async fn seal(app: &App, token: &str, secret: &[u8]) -> Result<Hmac<Sha256>, Problem> {
    let key = app.store.cursor_key().await?;
    // An HMAC takes a key of any length.
    let mut mac: Hmac<Sha256> =
        Hmac::new_from_slice(key.as_bytes()).unwrap_or_else(|_| unreachable!("a key of any length"));
    mac.update(b"faircopy dashboard 1");
    mac.update(&Sha256::digest(token));
    mac.update(secret);
    Ok(mac)
}

//! Who calls: a session token verified, its rows ensured, and the caller's standing in the copy.
//!
//! The token says who is signed in; the copy says what of it still holds. Whoever was removed is nobody there from the
//! first request after the delivery, whatever their token says until it ends.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use faircopy_core::event::{Fact, Observation};
use faircopy_core::token::{self, Rejection, Session};
use faircopy_core::{Millis, OrganizationId};
use faircopy_store::{Freshness, Member, Standing};
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use utoipa::ToSchema;

use super::fresh;
use super::problem::Problem;
use crate::app::{App, Refusal};

/// The copy's change number that an answer is at least as new as.
const SEQUENCE: HeaderName = HeaderName::from_static("faircopy-sequence");
/// Up to when the copy is known to be complete.
const AS_OF: HeaderName = HeaderName::from_static("faircopy-as-of");
/// What that is known from.
const AS_OF_BASIS: HeaderName = HeaderName::from_static("faircopy-as-of-basis");
/// The reader's own bound on how old that may be, in seconds.
const MAX_STALENESS: HeaderName = HeaderName::from_static("faircopy-max-staleness");
/// The change number that the reader has seen and wants to read from.
const MIN_SEQUENCE: HeaderName = HeaderName::from_static("faircopy-min-sequence");
/// How long a request waits for the change number that it wants. A commit of another replica is seen within milliseconds;
/// who waits longer reads from a standby that is behind, and had better come again.
const SEQUENCE_DEADLINE: Duration = Duration::from_secs(2);
/// How often it looks meanwhile.
const SEQUENCE_PERIOD: Duration = Duration::from_millis(25);
/// How long a request waits for its rows to be written when it does not depend on them. Past it the request goes on
/// without, and the write goes on without the request.
const ENSURE_DEADLINE: Duration = Duration::from_secs(2);
/// How long `GET /v1/auth` waits for the copy before it goes by the token alone: it stands before every request of an
/// application.
const READ_DEADLINE: Duration = Duration::from_secs(2);
/// The cookie in which Clerk keeps the session token.
const SESSION_COOKIE: &str = "__session";

/// Whoever calls, as the copy knows them.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) session: Arc<Session>,
    /// The membership of the active organization, in the copy.
    pub(super) member: Option<Member>,
    pub(super) freshness: Freshness,
    /// What this request has brought into the copy.
    created: Vec<&'static str>,
    /// Why what it would have brought could not be written, and whether the membership was part of that.
    unwritten: Option<(Refusal, bool)>,
}

impl Caller {
    pub(super) fn user(&self) -> &str {
        self.session.user.as_str()
    }

    /// Who the store reads for.
    pub(super) fn reader(&self) -> faircopy_store::Caller {
        let organization = active(&self.session).cloned();
        faircopy_store::Caller { user: self.session.user.clone(), organization }
    }

    /// The same, who is a member of the active organization.
    pub(super) fn member(&self) -> Result<faircopy_store::Caller, Problem> {
        match (&self.session.organization, &self.member) {
            (Some(_), Some(_)) => Ok(self.reader()),
            (None, _) => Err(Problem::new("no-active-organization", "The token names no active organization.")),
            (Some(_), None) => Err(missing()),
        }
    }
}

/// What does not exist and what the caller may not see: one and the same answer.
pub(super) fn missing() -> Problem {
    Problem::new("record-not-found", "There is no such record, or it is not for the caller to see.")
}

/// Lets only signed-in users on, and says how fresh what they are answered is.
pub(super) async fn require_session(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let (token, wishes) = (bearer(request.headers())?, Wishes::read(request.headers())?);
    let token = token.ok_or_else(|| Problem::new("token-missing", "Send `Authorization: Bearer <session token>`."))?;
    let session = verified(&app, &token).await?;
    wishes.wait(&app).await?;
    let said = session.observations();
    let standing = app.store.standing_after(&said, &session.user, active(&session)).await?;
    let mut caller = admitted(&app, session, said, standing).await?;
    if let Some(since) = wishes.unmet(&app, caller.freshness) {
        fresh::read_through(&app, &mut caller, request.uri().path(), since).await?;
    }
    let freshness = caller.freshness;
    request.extensions_mut().insert(caller);
    let mut response = next.run(request).await;
    say(&mut response, freshness);
    Ok(response)
}

/// Who is signed in, as reverse proxies and embedding applications are told.
#[derive(Debug, Clone)]
pub(crate) struct SignedIn {
    pub(crate) session: Arc<Session>,
    /// The active organization, if the caller is a member of it.
    pub(crate) organization: Option<OrganizationId>,
    /// What the caller is there.
    pub(crate) member: Option<Member>,
    /// `None` while the copy cannot be read, and the token alone was gone by.
    pub(crate) freshness: Option<Freshness>,
}

/// Judges the credentials of a request, and ensures the caller's rows. The copy cannot make it fail: while it cannot be
/// read, the token alone speaks.
pub(crate) async fn sign_in(app: &Arc<App>, headers: &HeaderMap) -> Result<SignedIn, Problem> {
    let session = signed_in(app, headers).await?;
    let said = session.observations();
    let read = app.store.standing_after(&said, &session.user, active(&session));
    let standing = match tokio::time::timeout(READ_DEADLINE, read).await {
        Ok(Ok(standing)) => standing,
        Ok(Err(error)) => {
            tracing::error!(%error, "the copy cannot be read; the token alone is gone by");
            app.metrics.session_unread();
            return Ok(by_token(session));
        }
        Err(_) => {
            tracing::error!("the copy did not answer within 2 s; the token alone is gone by");
            app.metrics.session_unread();
            return Ok(by_token(session));
        }
    };
    let caller = admitted(app, session, said, standing).await?;
    let (session, freshness) = (caller.session, Some(caller.freshness));
    // A membership that could not be written leaves the copy without a say in it; it has one where it knows better.
    let by_token = caller.unwritten.as_ref().is_some_and(|(_, membership)| *membership);
    let member = caller.member.or_else(|| word_of(&session).filter(|_| by_token));
    let organization = active(&session).filter(|_| member.is_some()).cloned();
    Ok(SignedIn { session, organization, member, freshness })
}

fn by_token(session: Session) -> SignedIn {
    let (organization, member) = (active(&session).cloned(), word_of(&session));
    SignedIn { session: Arc::new(session), organization, member, freshness: None }
}

/// What the token itself says of the membership.
fn word_of(session: &Session) -> Option<Member> {
    let active = session.organization.as_ref()?;
    Some(Member { role: active.role.clone(), permissions: active.permissions.clone() })
}

/// Forward-auth, for reverse proxies and any back end: who is signed in, in headers.
///
/// The copy cannot make it fail: while it cannot be read, the token alone speaks, and the answer has no
/// `Faircopy-Sequence`.
#[utoipa::path(get, path = "/v1/auth", operation_id = "authenticate", tag = "sessions",
    responses((status = 200, description = "Signed in.", headers(
        ("X-Auth-User-Id" = String, description = "The user."),
        ("X-Auth-Org-Id" = String, description = "The active organization, if they are a member of it."),
        ("X-Auth-Org-Role" = String, description = "Their role there, in Clerk's own form.")))))]
pub(super) async fn auth(State(app): State<Arc<App>>, headers: HeaderMap) -> Result<Response, Problem> {
    let caller = sign_in(&app, &headers).await?;
    let role = caller.member.as_ref().and_then(|member| member.role.as_deref());
    let member = caller.organization.as_ref().map(|organization| (organization.as_str(), role));
    let mut response = identified(caller.session.user.as_str(), member);
    if let Some(freshness) = caller.freshness {
        say(&mut response, freshness);
    }
    Ok(response)
}

/// The headers for the application behind the proxy. Where there is no organization, its headers are not there either.
fn identified(user: &str, member: Option<(&str, Option<&str>)>) -> Response {
    let mut response = http::StatusCode::OK.into_response();
    let mut set = |name: &'static str, value: &str| {
        // A role could be a text that no header can hold; then it is not told.
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    };
    set("x-auth-user-id", user);
    if let Some((organization, role)) = member {
        set("x-auth-org-id", organization);
        if let Some(role) = role {
            set("x-auth-org-role", role);
        }
    }
    response
}

/// Who is signed in, and what the request has brought into the copy.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Stored {
    identity: Identity,
    /// Of `user`, `organization`, `membership`: the rows that were not there before.
    created: Vec<&'static str>,
    sequence: i64,
}

/// Who is signed in, as the copy knows them.
#[derive(Debug, Serialize, ToSchema)]
struct Identity {
    clerk_user_id: String,
    session_id: Option<String>,
    /// First and last name joined, or the username. In the minimal profile mode as Clerk has it, or else the id.
    name: Option<String>,
    /// `true` where nobody could say a name and `name` is the user's id: only in the minimal profile mode. Left out otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    name_is_id: bool,
    email: Option<String>,
    clerk_org_id: Option<String>,
    slug: Option<String>,
    role: Option<String>,
    permissions: Vec<String>,
}

/// Stores the caller: user, organization and membership are in the copy when this is answered.
///
/// Safe to call on every sign-in: a token that says nothing new writes nothing.
#[utoipa::path(post, path = "/v1/session", operation_id = "storeSession", tag = "sessions",
    responses((status = 200, description = "The caller is in the copy.", body = Stored,
        links(("caller" = (operation_id = "getUser", parameters(
            ("clerk_user_id" = "$response.body#/identity/clerk_user_id"))))))))]
pub(super) async fn store(
    State(app): State<Arc<App>>,
    axum::Extension(caller): axum::Extension<Caller>,
) -> Result<Json<Stored>, Problem> {
    if let Some((refusal, _)) = caller.unwritten {
        return Err(refusal.into());
    }
    let mut user = app.store.user(&caller.reader()).await?;
    app.names.show(user.as_mut_slice()).await;
    let (name, name_is_id, email) = user.map(|user| (user.name, user.name_is_id, user.email)).unwrap_or_default();
    let active = caller.session.organization.as_ref().filter(|_| caller.member.is_some());
    let member = caller.member.clone();
    let identity = Identity {
        clerk_user_id: caller.session.user.to_string(),
        session_id: caller.session.id.clone(),
        name,
        name_is_id,
        email,
        clerk_org_id: active.map(|active| active.id.to_string()),
        slug: active.and_then(|active| active.slug.clone()),
        role: member.as_ref().and_then(|member| member.role.clone()),
        permissions: member.map(|member| member.permissions).unwrap_or_default(),
    };
    Ok(Json(Stored { identity, created: caller.created, sequence: caller.freshness.sequence }))
}

pub(super) fn active(session: &Session) -> Option<&OrganizationId> {
    session.organization.as_ref().map(|active| &active.id)
}

/// Verifies one token, counting what comes of it.
async fn verified(app: &App, token: &str) -> Result<Session, Problem> {
    let result = check(app, token).await;
    app.metrics.session(result.as_ref().map_or_else(|rejection| rejection.reason(), |_| "accepted"));
    Ok(result?)
}

async fn check(app: &App, token: &str) -> Result<Session, Rejection> {
    let token = token::open(token)?;
    let key = app.keys.find(token.kid()).await?;
    token.verify_again(&key, app.clock.now(), &app.policy, &app.verified)
}

/// The user of a request that may carry its token in the header, in Clerk's cookie, or in both. A browser sends both, made
/// at different times and even in different organizations: the header is the one that was meant. They must not name
/// different people; a cookie that merely has expired names nobody.
async fn signed_in(app: &App, headers: &HeaderMap) -> Result<Session, Problem> {
    configured(app)?;
    let (header, cookie) = (bearer(headers)?, session_cookie(headers)?);
    let missing = || Problem::new("token-missing", "Send a session token as bearer or in the cookie `__session`.");
    let (token, other) = match (header, cookie) {
        (Some(header), cookie) => (header, cookie),
        (None, Some(cookie)) => (cookie, None),
        (None, None) => return Err(missing()),
    };
    let session = verified(app, &token).await?;
    match other {
        Some(other) if other != token => match check(app, &other).await {
            Ok(theirs) if theirs.user == session.user => Ok(session),
            Err(Rejection::Expired) => Ok(session),
            Ok(_) | Err(_) => Err(ambiguous("The header and the cookie do not name the same user.")),
        },
        _ => Ok(session),
    }
}

fn ambiguous(detail: &str) -> Problem {
    Problem::new("credentials-ambiguous", detail)
}

fn configured(app: &App) -> Result<(), Problem> {
    if app.config.sessions.are_configured() {
        return Ok(());
    }
    Err(Problem::new("sessions-not-configured", "Set CLERK_JWT_ISSUER_DOMAIN or CLERK_JWT_KEY."))
}

/// The one bearer token of the header, whatever the case of its scheme.
fn bearer(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(ambiguous("There is more than one `Authorization`."));
    }
    let wrong = || Problem::new("token-invalid", "Expected `Authorization: Bearer <session token>`.");
    let (scheme, token) = line.to_str().ok().and_then(|line| line.split_once(' ')).ok_or_else(wrong)?;
    let token = token.trim();
    let fits = scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains([' ', ',']);
    if fits { Ok(Some(token.to_owned())) } else { Err(wrong()) }
}

/// The one session cookie. Two of them would come of two domains.
fn session_cookie(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let mut found = pairs.filter(|(name, value)| *name == SESSION_COOKIE && !value.is_empty()).map(|(_, value)| value);
    let Some(first) = found.next() else { return Ok(None) };
    if found.any(|value| value != first) {
        return Err(ambiguous("There are two different cookies `__session`."));
    }
    Ok(Some(first.to_owned()))
}

/// Ensures the rows of a session, unless the copy knows better, and says where the caller then stands. A failure to write
/// is logged and counted; what it means is for the route to say.
async fn admitted(
    app: &Arc<App>,
    session: Session,
    said: Vec<Observation>,
    standing: Standing,
) -> Result<Caller, Problem> {
    if standing.is_deleted {
        return Err(Problem::new("user-deleted", "The user of this token was deleted."));
    }
    let news = standing.news(said);
    let session = Arc::new(session);
    let Standing { freshness, has_user, has_organization, member, .. } = standing;
    let mut caller = Caller { session, member, freshness, created: Vec::new(), unwritten: None };
    if news.is_empty() {
        return Ok(caller);
    }
    let had_member = caller.member.is_some();
    let new_row = |fact: &Fact| match fact {
        Fact::PartOfUser(..) if !has_user => Some("user"),
        Fact::PartOfOrganization(..) if !has_organization => Some("organization"),
        Fact::TokenMember(..) if !had_member => Some("membership"),
        _ => None,
    };
    let new_rows: Vec<Option<&'static str>> = news.iter().map(|observation| new_row(&observation.fact)).collect();
    let has_membership = new_rows.contains(&Some("membership"));
    match tokio::time::timeout(ENSURE_DEADLINE, app.intake.learn(news)).await.unwrap_or(Err(Refusal::Late)) {
        Ok(receipt) => {
            app.metrics.session_write("written");
            app.provisional.notify_one();
            let news = new_rows.into_iter().zip(receipt.parts).filter(|(_, is_news)| *is_news);
            caller.created = news.filter_map(|(row, _)| row).collect();
            // A delivery may have been quicker, in either direction: the rows say what holds.
            let now = app.store.standing(&caller.session.user, active(&caller.session)).await;
            match now {
                Ok(now) if now.is_deleted => {
                    return Err(Problem::new("user-deleted", "The user of this token was deleted."));
                }
                Ok(now) => (caller.member, caller.freshness) = (now.member, now.freshness),
                Err(error) => caller.unwritten = Some((Refusal::Unavailable(error.to_string()), has_membership)),
            }
        }
        Err(refusal) => {
            tracing::warn!(reason = %refusal, "what a session token says could not be written");
            app.metrics.session_write("refused");
            caller.unwritten = Some((refusal, has_membership));
        }
    }
    Ok(caller)
}

/// The same caller, as the copy knows them now: for whoever is told something long after they signed in.
pub(super) async fn again(app: &App, caller: &Caller) -> Result<Caller, Problem> {
    let session = caller.session.clone();
    let standing = app.store.standing(&session.user, active(&session)).await?;
    if standing.is_deleted {
        return Err(Problem::new("user-deleted", "The user of this token was deleted."));
    }
    let Standing { freshness, member, .. } = standing;
    Ok(Caller { session, member, freshness, created: Vec::new(), unwritten: None })
}

/// What a reader asks of the copy's freshness.
struct Wishes {
    max_staleness_ms: Option<i64>,
    min_sequence: Option<i64>,
}

impl Wishes {
    fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let number = |name: &HeaderName| {
            let Some(value) = headers.get(name) else { return Ok(None) };
            let wrong = || Problem::new("invalid-parameter", format!("`{name}` must be a whole number, 0 or more."));
            let text = value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
            text.and_then(|text| text.parse::<i64>().ok()).map(Some).ok_or_else(wrong)
        };
        Ok(Self {
            max_staleness_ms: number(&MAX_STALENESS)?.map(|seconds| seconds.saturating_mul(1000)),
            min_sequence: number(&MIN_SEQUENCE)?,
        })
    }

    /// Waits until the copy has the change that the reader has already seen.
    async fn wait(&self, app: &App) -> Result<(), Problem> {
        let Some(wanted) = self.min_sequence else { return Ok(()) };
        let reached = async {
            while app.store.freshness().await?.sequence < wanted {
                tokio::time::sleep(SEQUENCE_PERIOD).await;
            }
            Ok(())
        };
        let behind = || Problem::new("copy-behind", format!("Change {wanted} was not here within 2 seconds."));
        tokio::time::timeout(SEQUENCE_DEADLINE, reached).await.unwrap_or_else(|_| Err(behind()))
    }

    /// Since when what is shown must be known, where the copy is staler than the reader bears.
    fn unmet(&self, app: &App, freshness: Freshness) -> Option<Millis> {
        let since = app.clock.now().plus(-self.max_staleness_ms?);
        (freshness.as_of.unwrap_or_default() < since).then_some(since)
    }
}

/// Says how fresh an answer is, and what that is known from. Where nothing is known: the epoch.
fn say(response: &mut Response, freshness: Freshness) {
    let as_of: Millis = freshness.as_of.unwrap_or_default();
    if let Ok(as_of) = HeaderValue::from_str(&as_of.to_string()) {
        response.headers_mut().insert(AS_OF, as_of);
    }
    let headers = response.headers_mut();
    headers.insert(AS_OF_BASIS, HeaderValue::from_static(freshness.basis.as_str()));
    headers.insert(SEQUENCE, freshness.sequence.into());
}

/// Before anything else: whether session tokens are set up at all.
pub(super) async fn require_configuration(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    configured(&app)?;
    Ok(next.run(request).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn exactly_one_bearer_token_is_read() {
        let check = |lines: &[(&'static str, &'static str)], expected: Result<Option<&str>, &str>| {
            let found = bearer(&headers(lines)).map_err(|problem| problem.code());
            assert_eq!(found.as_ref().map(Option::as_deref).map_err(|code| *code), expected, "{lines:?}");
        };
        check(&[], Ok(None));
        check(&[("authorization", "Bearer a.b.c")], Ok(Some("a.b.c")));
        check(&[("authorization", "bEARER  a.b.c ")], Ok(Some("a.b.c")));
        check(&[("authorization", "Basic a.b.c")], Err("token-invalid"));
        check(&[("authorization", "Bearer")], Err("token-invalid"));
        check(&[("authorization", "Bearer a, Bearer b")], Err("token-invalid"));
        check(&[("authorization", "Bearer a"), ("authorization", "Bearer a")], Err("credentials-ambiguous"));
    }

    #[test]
    fn exactly_one_session_cookie_is_read() {
        let check = |lines: &[(&'static str, &'static str)], expected: Result<Option<&str>, &str>| {
            let found = session_cookie(&headers(lines)).map_err(|problem| problem.code());
            assert_eq!(found.as_ref().map(Option::as_deref).map_err(|code| *code), expected, "{lines:?}");
        };
        check(&[], Ok(None));
        check(&[("cookie", "a=b; __session=t; __session_x=u")], Ok(Some("t")));
        check(&[("cookie", "__session=")], Ok(None));
        check(&[("cookie", "__session=t"), ("cookie", "__session=t")], Ok(Some("t")));
        check(&[("cookie", "__session=t; __session=u")], Err("credentials-ambiguous"));
    }
}

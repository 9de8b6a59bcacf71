//! The rules that the claims of a session token must meet (faults.md, session-JWT verification).

use super::class::{Class, MACHINE_SUBJECT};
use super::object::Object;
use super::permissions::grants;
use super::session::{ActiveOrganization, Session};
use super::{LEEWAY_MS, Policy, Rejection};
use crate::id::{OrganizationId, UserId};
use crate::time::{LATEST, Millis};

/// Reads the claims of a token whose signature fits, in the order of Clerk's SDK, so that a token with two faults is
/// refused for the same one.
pub(super) fn read(claims: &Object<'_>, now: Millis, policy: &Policy) -> Result<Session, Rejection> {
    let user = subject(claims)?;
    audience(claims, policy)?;
    let authorized_party = authorized_party(claims, policy)?;
    issuer(claims, policy)?;
    let (issued_at, expires_at) = times(claims, now, policy)?;
    let is_pending = claims.get::<String>("sts")?.as_deref() == Some("pending");
    if is_pending && !policy.accept_pending {
        return Err(Rejection::Pending);
    }
    Ok(Session {
        user,
        id: claims.get("sid")?,
        organization: organization(claims)?,
        issued_at,
        expires_at,
        authorized_party,
        actor: actor(claims)?,
        is_pending,
    })
}

fn subject(claims: &Object<'_>) -> Result<UserId, Rejection> {
    let subject: String = claims.get("sub")?.ok_or(Rejection::Claim("sub"))?;
    if subject.starts_with(MACHINE_SUBJECT) {
        return Err(Rejection::OtherClass(Class::Machine));
    }
    UserId::parse(&subject).map_err(|_| Rejection::Claim("sub"))
}

fn audience(claims: &Object<'_>, policy: &Policy) -> Result<(), Rejection> {
    if policy.audiences.is_empty() {
        return Ok(());
    }
    let named = match claims.get::<String>("aud") {
        Ok(one) => one.into_iter().collect(),
        Err(_) => claims.get::<Vec<String>>("aud").ok().flatten().unwrap_or_default(),
    };
    let accepted = named.iter().any(|name| policy.audiences.contains(name));
    accepted.then_some(()).ok_or(Rejection::Audience)
}

fn authorized_party(claims: &Object<'_>, policy: &Policy) -> Result<Option<String>, Rejection> {
    if policy.authorized_parties.is_empty() {
        return claims.get("azp");
    }
    let party: Option<String> = claims.get("azp").map_err(|_| Rejection::AuthorizedParty)?;
    if party.as_ref().is_some_and(|party| policy.authorized_parties.contains(party)) {
        Ok(party)
    } else {
        Err(Rejection::AuthorizedParty)
    }
}

fn issuer(claims: &Object<'_>, policy: &Policy) -> Result<(), Rejection> {
    let named: String = claims.get("iss").ok().flatten().ok_or(Rejection::Issuer)?;
    let expected = policy.issuer.as_ref().is_none_or(|issuer| *issuer == named);
    expected.then_some(()).ok_or(Rejection::Issuer)
}

/// When the token was issued, and when it ends. Each time is judged before the next is read, as Clerk's SDK does.
fn times(claims: &Object<'_>, now: Millis, policy: &Policy) -> Result<(Millis, Millis), Rejection> {
    let exp = time(claims, "exp")?;
    if exp <= now.plus(-LEEWAY_MS) {
        return Err(Rejection::Expired);
    }
    if time(claims, "nbf")? > now.plus(LEEWAY_MS) {
        return Err(Rejection::NotActiveYet);
    }
    let iat = time(claims, "iat")?;
    if iat > now.plus(LEEWAY_MS) {
        return Err(Rejection::IssuedInTheFuture);
    }
    if exp > iat.plus(policy.max_lifetime_ms) {
        return Err(Rejection::LivesTooLong);
    }
    Ok((iat, exp))
}

/// Whole seconds since the epoch, within what can be a time.
fn time(claims: &Object<'_>, name: &'static str) -> Result<Millis, Rejection> {
    let seconds: Option<i64> = claims.get(name)?;
    let possible = |seconds: &i64| (0..=LATEST.0 / 1000).contains(seconds);
    seconds.filter(possible).map(Millis::from_seconds).ok_or(Rejection::Claim(name))
}

/// The active organization. The version alone decides which claims are read: a token may carry both sets, and the other
/// one may be a custom claim that says anything.
fn organization(claims: &Object<'_>) -> Result<Option<ActiveOrganization>, Rejection> {
    match claims.get::<i64>("v")? {
        None | Some(1) => organization_v1(claims),
        Some(2) => organization_v2(claims),
        Some(_) => Err(Rejection::Version),
    }
}

fn organization_v1(claims: &Object<'_>) -> Result<Option<ActiveOrganization>, Rejection> {
    let Some(id) = claims.get::<String>("org_id")? else { return Ok(None) };
    Ok(Some(ActiveOrganization {
        id: OrganizationId::parse(&id).map_err(|_| Rejection::Claim("org_id"))?,
        role: claims.get("org_role")?,
        slug: claims.get("org_slug")?,
        permissions: claims.get("org_permissions")?.unwrap_or_default(),
        is_ambiguous: false,
    }))
}

fn organization_v2(claims: &Object<'_>) -> Result<Option<ActiveOrganization>, Rejection> {
    let Some(active) = claims.get::<Object<'_>>("o")? else { return Ok(None) };
    let text = |name| active.get::<String>(name).map_err(|_| Rejection::Claim("o"));
    let id = text("id")?.and_then(|id| OrganizationId::parse(&id).ok()).ok_or(Rejection::Claim("o"))?;
    let features: String = claims.get("fea")?.unwrap_or_default();
    let grants = grants(&features, &text("per")?.unwrap_or_default(), &text("fpm")?.unwrap_or_default());
    Ok(Some(ActiveOrganization {
        id,
        role: text("rol")?.filter(|role| !role.is_empty()).map(|role| format!("org:{role}")),
        slug: text("slg")?,
        permissions: grants.permissions,
        is_ambiguous: grants.ambiguous,
    }))
}

/// Who really sits there, when someone impersonates the user.
fn actor(claims: &Object<'_>) -> Result<Option<String>, Rejection> {
    let Some(actor) = claims.get::<Object<'_>>("act")? else { return Ok(None) };
    actor.get("sub").map_err(|_| Rejection::Claim("act"))
}

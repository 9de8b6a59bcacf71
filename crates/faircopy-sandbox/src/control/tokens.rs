//! Session tokens for whoever needs one, good and bad.

use aws_lc_rs::signature::RSA_PKCS1_SHA256;
use axum::Json;
use axum::extract::State;
use faircopy_world::token;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::world::under;
use super::{Answer, Body, Failure, On};
use crate::instance::{Claims, Document, Id, Instance, Options, Refusal, TokenVersion, text_of};

/// What is wanted.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Wanted {
    /// Whose it is to be.
    user_id: String,
    /// Which organization is to be active.
    organization_id: Option<String>,
    /// `"1"` or `"2"`; without, as the options say.
    version: Option<TokenVersion>,
    /// The template's name.
    template: Option<String>,
    /// The authorized party.
    azp: Option<String>,
    /// For how long it is good.
    lifetime_s: Option<i64>,
    /// So long ago it was made.
    age_s: i64,
    /// Claims that are set whatever they were; null takes one away.
    claims: Map<String, Value>,
    /// Signed with a key that is not the instance's.
    forged: bool,
}

/// Makes a token. The first one of a user signs them in.
pub(super) async fn mint(State(shared): On, Body(wanted): Body<Wanted>) -> Answer {
    let issuer = shared.keys().issuer().to_owned();
    let claims = shared.change(|instance, now| claims(instance, &wanted, &issuer, now))?;
    let jwt = if wanted.forged {
        let header = json!({ "alg": "RS256", "kid": shared.keys().instance_id(), "typ": "JWT" });
        let body = Value::Object(claims.claims.clone());
        token::sign(&header.to_string(), &body.to_string(), &token::new_key(), &RSA_PKCS1_SHA256)
    } else {
        shared.keys().sign(&claims)
    };
    Ok(Json(json!({ "object": "token", "jwt": jwt, "claims": claims.claims })))
}

fn claims(instance: &mut Instance, wanted: &Wanted, issuer: &str, now: i64) -> Result<Claims, Failure> {
    let session = session(instance, wanted, now)?;
    let edit = |options: &mut Options| {
        options.token_version = wanted.version.unwrap_or(options.token_version);
        options.authorized_party = wanted.azp.clone().or(options.authorized_party.take());
    };
    let mut made = under(instance, edit, |instance| {
        instance.token_claims(&session, wanted.template.as_deref(), wanted.lifetime_s, issuer, now)
    })?;
    for time in ["iat", "nbf", "exp"] {
        if let Some(at) = made.claims.get(time).and_then(Value::as_i64) {
            made.claims.insert(time.to_owned(), at.saturating_sub(wanted.age_s).into());
        }
    }
    for (name, value) in &wanted.claims {
        if value.is_null() {
            made.claims.remove(name);
        } else {
            made.claims.insert(name.clone(), value.clone());
        }
    }
    Ok(made)
}

/// A session of this user in which this organization is active: one that there is, or a new one.
fn session(instance: &mut Instance, wanted: &Wanted, now: i64) -> Result<String, Refusal> {
    let organization = wanted.organization_id.as_deref();
    let fits = |id: &&Id| {
        let session = instance.sessions.get(id);
        session.is_some_and(|session| text_of(&session, "last_active_organization_id") == organization)
    };
    if let Some(session) = instance.active_sessions(&wanted.user_id, now).iter().find(fits) {
        return Ok(session.to_string());
    }
    let mut body = Document::new();
    body.insert("user_id".to_owned(), wanted.user_id.clone().into());
    if let Some(organization) = organization {
        body.insert("active_organization_id".to_owned(), organization.into());
    }
    let session = instance.create_session(&body, now)?;
    Ok(text_of(&session, "id").unwrap_or_default().to_owned())
}

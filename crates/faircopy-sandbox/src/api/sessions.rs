//! Routes of sessions and their tokens.

use serde_json::{Value, json};

use super::answer::Answer;
use super::{Call, Outcome};
use crate::instance::Refusal;

pub(super) fn list(call: &mut Call<'_>) -> Outcome {
    let listed = call.instance.list_sessions(call.query, call.now)?;
    Ok(if call.query.flag("paginated")? { listed.into() } else { listed.data.into() })
}

pub(super) fn create(call: &mut Call<'_>) -> Outcome {
    if call.keys.is_live() {
        let long = "Sessions can be created in development instances alone.";
        return Err(Refusal::new(403, "request_invalid_for_instance", "not allowed", long));
    }
    Ok(call.instance.create_session(call.body, call.now)?.into())
}

pub(super) fn get(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.session_document(call.part(0), call.now)?.into())
}

pub(super) fn revoke(call: &mut Call<'_>) -> Outcome {
    Ok(call.instance.close_session(call.part(0), "revoked", call.now)?.into())
}

pub(super) fn token(call: &mut Call<'_>) -> Outcome {
    let lifetime = match call.body.get("expires_in_seconds") {
        None | Some(Value::Null) => None,
        Some(value) => Some(value.as_i64().ok_or_else(|| Refusal::of_type("expires_in_seconds", "integer"))?),
    };
    let template = call.path.get(1).copied();
    let claims = call.instance.token_claims(call.part(0), template, lifetime, call.keys.issuer(), call.now)?;
    Ok(Answer::Json(json!({ "object": "token", "jwt": call.keys.sign(&claims) })))
}

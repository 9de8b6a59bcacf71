//! Routes of the instance itself: its keys, its name, its webhooks' page.

use serde_json::json;

use super::answer::Answer;
use super::{Call, Outcome};

#[expect(clippy::unnecessary_wraps, reason = "a route's handler")]
pub(super) fn jwks(call: &mut Call<'_>) -> Outcome {
    Ok(Answer::Json(call.keys.jwks()))
}

#[expect(clippy::unnecessary_wraps, reason = "a route's handler")]
pub(super) fn openid_configuration(call: &mut Call<'_>) -> Outcome {
    let issuer = call.keys.issuer();
    Ok(Answer::Json(json!({
        "issuer": issuer, "jwks_uri": format!("{issuer}/.well-known/jwks.json"),
        "authorization_endpoint": format!("{issuer}/oauth/authorize"), "token_endpoint": format!("{issuer}/oauth/token"),
        "userinfo_endpoint": format!("{issuer}/oauth/userinfo"), "id_token_signing_alg_values_supported": ["RS256"],
        "response_types_supported": ["code"], "subject_types_supported": ["public"],
        "scopes_supported": ["openid", "profile", "email"], "grant_types_supported": ["authorization_code", "refresh_token"],
    })))
}

#[expect(clippy::unnecessary_wraps, reason = "a route's handler")]
pub(super) fn instance(call: &mut Call<'_>) -> Outcome {
    let environment = if call.keys.is_live() { "production" } else { "development" };
    Ok(Answer::Json(json!({
        "object": "instance", "id": call.instance.id(), "environment_type": environment, "allowed_origins": null,
        "workspace_id": null,
    })))
}

/// The page on which endpoints and messages are seen: the sandbox's own.
#[expect(clippy::unnecessary_wraps, reason = "a route's handler")]
pub(super) fn svix_url(call: &mut Call<'_>) -> Outcome {
    Ok(Answer::Json(json!({ "svix_url": format!("{}/#deliveries", call.keys.issuer()) })))
}

pub(super) fn create_svix(call: &mut Call<'_>) -> Outcome {
    svix_url(call)
}

#[expect(clippy::unnecessary_wraps, reason = "a route's handler")]
pub(super) fn delete_svix(_call: &mut Call<'_>) -> Outcome {
    Ok(Answer::Nothing)
}

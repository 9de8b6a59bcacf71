//! Errors as RFC 9457 problem documents. The one place that maps an error to a status.

use axum::Json;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use faircopy_core::{signature, token};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::Refusal;
use crate::upstream::clerk::Fault;

/// Seconds after which a sender should try again: Svix's own shortest delay.
pub(super) const RETRY_AFTER_SECONDS: &str = "5";

/// One error as the caller sees it. Each `code` has a section in `docs/errors.md`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// `urn:faircopy:problem:` and the code.
    #[serde(rename = "type")]
    kind: String,
    /// What the code means, in few words.
    title: &'static str,
    /// The status of the answer.
    #[serde(serialize_with = "as_number")]
    #[schema(value_type = i32)]
    status: StatusCode,
    /// What to branch on.
    code: &'static str,
    /// What happened here, in a sentence for people.
    detail: String,
    /// `urn:faircopy:request:` and the request's id, under which the log has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "urn:faircopy:request:5f0c2a91d3b84e67")]
    #[schema(value_type = Option<String>)]
    instance: Option<Box<str>>,
    #[serde(skip)]
    #[schema(ignore)]
    retry: bool,
    #[serde(skip)]
    #[schema(ignore)]
    close: bool,
    #[serde(skip)]
    #[schema(ignore)]
    allow: Option<&'static str>,
}

/// Every code that a route can answer with: `docs/errors.md` has a section for each.
pub const CODES: &[(&str, StatusCode, &str)] = &[
    ("admin-disabled", StatusCode::NOT_FOUND, "The admin API is off"),
    ("body-incomplete", StatusCode::BAD_REQUEST, "The body could not be read"),
    ("body-too-large", StatusCode::PAYLOAD_TOO_LARGE, "The body is too large"),
    ("body-too-slow", StatusCode::REQUEST_TIMEOUT, "The body came too slowly"),
    ("changes-forgotten", StatusCode::GONE, "The change feed begins later"),
    ("clerk-not-configured", StatusCode::SERVICE_UNAVAILABLE, "Clerk cannot be asked"),
    ("clerk-unavailable", StatusCode::SERVICE_UNAVAILABLE, "Clerk did not answer"),
    ("copy-behind", StatusCode::SERVICE_UNAVAILABLE, "The copy does not have the change yet"),
    ("copy-stale", StatusCode::SERVICE_UNAVAILABLE, "The copy is staler than asked"),
    ("credentials-ambiguous", StatusCode::BAD_REQUEST, "The credentials can be read in two ways"),
    ("database-unavailable", StatusCode::SERVICE_UNAVAILABLE, "The database is unavailable"),
    ("delivery-erased", StatusCode::CONFLICT, "What the delivery said was erased"),
    ("delivery-not-found", StatusCode::NOT_FOUND, "There is no such delivery"),
    ("destination-not-changed", StatusCode::CONFLICT, "The destination cannot be changed so"),
    ("encoding-not-supported", StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body is compressed"),
    ("foreign-origin", StatusCode::FORBIDDEN, "Another site asks"),
    ("internal-error", StatusCode::INTERNAL_SERVER_ERROR, "Something broke"),
    ("invalid-parameter", StatusCode::BAD_REQUEST, "A parameter cannot be used"),
    ("job-not-changed", StatusCode::CONFLICT, "The deletion cannot be changed so"),
    ("jwk-kid-mismatch", StatusCode::UNAUTHORIZED, "The token's key is not the instance's"),
    ("jwk-remote-failed-to-load", StatusCode::SERVICE_UNAVAILABLE, "The issuer's keys could not be fetched"),
    ("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed"),
    ("no-active-organization", StatusCode::NOT_FOUND, "No organization is active"),
    ("no-signing-secret", StatusCode::SERVICE_UNAVAILABLE, "No signing secret is configured"),
    ("not-found", StatusCode::NOT_FOUND, "There is nothing here"),
    ("not-permitted", StatusCode::FORBIDDEN, "The caller may not do this"),
    ("overloaded", StatusCode::SERVICE_UNAVAILABLE, "Too much is waiting"),
    ("probe-verified", StatusCode::UNPROCESSABLE_ENTITY, "The signature fits, and a probe is not stored"),
    ("record-not-found", StatusCode::NOT_FOUND, "There is no such record"),
    ("request-ambiguous", StatusCode::BAD_REQUEST, "The request can be read in two ways"),
    ("sender-not-allowed", StatusCode::FORBIDDEN, "The sender is not allowed"),
    ("session-pending", StatusCode::UNAUTHORIZED, "The session is pending"),
    ("sessions-not-configured", StatusCode::SERVICE_UNAVAILABLE, "Session tokens are not set up"),
    ("shutting-down", StatusCode::SERVICE_UNAVAILABLE, "The service is shutting down"),
    ("signature-invalid", StatusCode::BAD_REQUEST, "The signature check failed"),
    ("sweep-under-way", StatusCode::CONFLICT, "A sweep is under way"),
    ("token-critical-extension", StatusCode::UNAUTHORIZED, "The token asks for an extension"),
    ("token-expired", StatusCode::UNAUTHORIZED, "The token has expired"),
    ("token-iat-in-the-future", StatusCode::UNAUTHORIZED, "The token was issued in the future"),
    ("token-invalid", StatusCode::UNAUTHORIZED, "The token is malformed"),
    ("token-invalid-algorithm", StatusCode::UNAUTHORIZED, "The token's algorithm is not accepted"),
    ("token-invalid-authorized-parties", StatusCode::UNAUTHORIZED, "The token was made for another party"),
    ("token-invalid-issuer", StatusCode::UNAUTHORIZED, "The token is of another issuer"),
    ("token-invalid-signature", StatusCode::UNAUTHORIZED, "The token's signature is wrong"),
    ("token-lives-too-long", StatusCode::UNAUTHORIZED, "The token lives too long"),
    ("token-missing", StatusCode::UNAUTHORIZED, "There is no token"),
    ("token-not-active-yet", StatusCode::UNAUTHORIZED, "The token is not active yet"),
    ("token-type-mismatch", StatusCode::UNAUTHORIZED, "The token is not a session token"),
    ("token-unknown-version", StatusCode::UNAUTHORIZED, "The token's version is unknown"),
    ("token-verification-failed", StatusCode::UNAUTHORIZED, "A claim of the token is not accepted"),
    ("too-many-attempts", StatusCode::TOO_MANY_REQUESTS, "Too many wrong tokens"),
    ("unauthorized", StatusCode::UNAUTHORIZED, "The admin token is missing or wrong"),
    ("user-deleted", StatusCode::UNAUTHORIZED, "The user was deleted"),
];

impl Problem {
    /// A problem of a known code.
    #[must_use]
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        let found = CODES.iter().find(|(known, ..)| *known == code);
        debug_assert!(found.is_some(), "{code} is not in CODES");
        let (status, title) =
            found.map_or((StatusCode::INTERNAL_SERVER_ERROR, "Unknown"), |(_, status, title)| (*status, *title));
        Self {
            kind: format!("urn:faircopy:problem:{code}"),
            title,
            status,
            code,
            detail: detail.into(),
            instance: None,
            retry: status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS,
            close: false,
            allow: None,
        }
    }

    /// The same, and the connection is closed after it: the rest of the request was not read.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// The same, of the request with this id.
    #[must_use]
    pub(super) fn about(self, request_id: &str) -> Self {
        Self { instance: Some(format!("urn:faircopy:request:{request_id}").into()), ..self }
    }

    /// The document alone.
    pub(super) fn into_body(self) -> Body {
        Json(self).into_response().into_body()
    }

    /// A method that a route does not take, with those that it does.
    #[must_use]
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::new("method-not-allowed", format!("Allowed here: {allow}.")) }
    }

    /// The status that it is answered with.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.code
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self::new("clerk-unavailable", format!("Clerk could not be read: {fault}."))
    }
}

impl From<signature::Rejection> for Problem {
    fn from(rejection: signature::Rejection) -> Self {
        Self::new("signature-invalid", sentence(&format!("{rejection} ({})", rejection.reason())))
    }
}

impl From<token::Rejection> for Problem {
    fn from(rejection: token::Rejection) -> Self {
        Self::new(rejection.reason(), sentence(&rejection.to_string()))
    }
}

/// An error's text as people read sentences.
fn sentence(error: &str) -> String {
    let mut rest = error.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).chain(['.']).collect())
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::Full => "overloaded",
            Refusal::Unavailable(_) | Refusal::Late => "database-unavailable",
            Refusal::Stopping => "shutting-down",
        };
        // What the database said is logged and not told: it can name hosts and rows.
        Self::new(code, "Nothing was acknowledged. Send it again.")
    }
}

impl From<faircopy_store::Error> for Problem {
    fn from(error: faircopy_store::Error) -> Self {
        tracing::error!(%error, "a read failed");
        Self::new("database-unavailable", "The copy cannot be read now.")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, code, retry, close, allow) = (self.status, self.code, self.retry, self.close, self.allow);
        let told = self.clone();
        let mut response = (status, Json(self)).into_response();
        // For whoever knows which request this is about.
        response.extensions_mut().insert(told);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if retry {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        if close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, challenge(code));
        }
        if let Some(allow) = allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

/// RFC 6750, section 3: a request without any credentials is told no more than the scheme.
fn challenge(code: &'static str) -> HeaderValue {
    if code == "unauthorized" || code == "token-missing" {
        return HeaderValue::from_static("Bearer");
    }
    HeaderValue::from_str(&format!(r#"Bearer error="invalid_token", error_description="{code}""#))
        .unwrap_or(HeaderValue::from_static("Bearer"))
}

fn as_number<S: serde::Serializer>(status: &StatusCode, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_u16(status.as_u16())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_documented() {
        let page = include_str!("../../../../docs/errors.md");
        for (code, status, title) in CODES {
            let section = format!("## `{code}`");
            assert!(page.contains(&section), "docs/errors.md lacks {section}");
            assert!(status.is_client_error() || status.is_server_error(), "{title}");
        }
    }
}

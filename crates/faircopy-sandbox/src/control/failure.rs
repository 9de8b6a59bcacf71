//! Errors of the control API, in Clerk's envelope: whoever reads the one reads the other.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::guard::Shut;
use crate::chaos::Unfit;
use crate::instance::Refusal;
use crate::post::Refused;

/// Why a request is not carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    status: StatusCode,
    /// An item of the envelope's `errors`.
    error: Value,
}

impl Failure {
    /// Any failure: its status, a code to branch on, and a sentence.
    pub fn new(status: StatusCode, code: &str, message: impl std::fmt::Display) -> Self {
        let message = message.to_string();
        Self { status, error: json!({ "code": code, "message": message, "long_message": message }) }
    }

    fn about(mut self, param: &str) -> Self {
        self.error["meta"] = json!({ "param_name": param });
        self
    }

    /// A parameter or member that is not what it must be.
    pub fn unfit(param: &str, message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "form_param_value_invalid", message).about(param)
    }

    /// No such thing.
    pub fn not_found(message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "resource_not_found", message)
    }

    /// The things are not as the request needs them.
    pub fn conflict(message: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = json!({ "errors": [self.error] });
        let kind = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        (self.status, [kind], body.to_string()).into_response()
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match &refused {
            Refused::NoEndpoint(_) | Refused::NoMessage(_) => Self::not_found(refused),
            Refused::Disabled(_) | Refused::TooMany => Self::conflict(refused),
            Refused::Url => Self::unfit("url", refused),
            Refused::Secret => Self::unfit("secret", refused),
            Refused::Setting(name, _) => Self::unfit(name, &refused),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { status, error: refusal.document() }
    }
}

impl From<Unfit> for Failure {
    fn from(unfit: Unfit) -> Self {
        Self::unfit(unfit.name, &unfit)
    }
}

impl From<Shut> for Failure {
    fn from(shut: Shut) -> Self {
        let foreign = |message| Self::new(StatusCode::FORBIDDEN, "origin_invalid", message);
        match shut {
            Shut::ForeignOrigin => foreign("Pages of other origins may not use the sandbox's control API."),
            Shut::ForeignHost => foreign("The control API answers to localhost and loopback addresses only."),
            Shut::NoKey => Self::new(
                StatusCode::UNAUTHORIZED,
                "authentication_invalid",
                "This sandbox listens to more than its own machine: send its secret key as bearer token.",
            ),
        }
    }
}

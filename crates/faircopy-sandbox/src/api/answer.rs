//! What is answered, and Clerk's envelope for what is refused.

use axum::body::Body;
use axum::response::Response;
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::json_response;
use crate::instance::{Document, Listed, Refusal};

/// A request that was carried out.
pub(crate) enum Answer {
    /// 200 with this.
    Json(Value),
    /// 204.
    Nothing,
}

impl From<Document> for Answer {
    fn from(document: Document) -> Self {
        Self::Json(Value::Object(document))
    }
}

impl From<Vec<Document>> for Answer {
    fn from(documents: Vec<Document>) -> Self {
        Self::Json(documents.into_iter().map(Value::Object).collect())
    }
}

impl From<Listed> for Answer {
    fn from(listed: Listed) -> Self {
        let data: Vec<Value> = listed.data.into_iter().map(Value::Object).collect();
        Self::Json(json!({ "data": data, "total_count": listed.total }))
    }
}

impl Answer {
    pub(super) fn into_response(self) -> Response {
        match self {
            Self::Json(value) => json_response(200, &value),
            Self::Nothing => {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NO_CONTENT;
                response
            }
        }
    }
}

/// A refusal in Clerk's envelope.
pub(super) fn refused(refusal: &Refusal, trace: &str) -> Response {
    let envelope = json!({ "errors": [refusal.document()], "clerk_trace_id": trace });
    let mut response = json_response(refusal.status, &envelope);
    if let Some(seconds) = refusal.retry_after_s {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

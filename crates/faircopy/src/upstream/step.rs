//! An outside step of the application's own: a signed POST to an address that the settings name.
//!
//! Signed as Standard Webhooks says (`webhook-id`, `webhook-timestamp`, `webhook-signature`), so that every library for it
//! verifies what arrives. The id is the same on each attempt: whoever receives it does it once. Any 2xx confirms, and 410
//! (Gone) says that there was nothing to do. A 404 confirms nothing: that is what a path answers that was written wrongly.

use std::sync::Arc;

use faircopy_core::Millis;
use faircopy_core::courier::MAX_AT_ONCE;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{StatusCode, Url};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tracing::Instrument as _;

use super::exchange::{self, Fault};
use crate::config::StepSettings;
use crate::telemetry::Metrics;

/// Bytes of the hash that an id is made of: nobody meets the same one twice.
const ID_BYTES: usize = 16;

/// What is told. All of it stays as it is from attempt to attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    /// What went outside: an id of the application's.
    pub external_id: &'a str,
    /// Whose end this is.
    pub about: &'a About,
}

/// Whose end a step is part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// Who went.
    pub subject: Subject,
    /// The workspace that went with them, if one did.
    pub workspace_id: Option<String>,
    /// When.
    pub deleted_at: Millis,
}

/// Who went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// An organization, by Clerk's id.
    Organization(String),
    /// A user, by Clerk's id.
    User(String),
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    id: &'a str,
    external_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    organization: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    workspace_id: Option<&'a str>,
    deleted_at: Millis,
}

impl Message<'_> {
    /// The id of the message: the same for the same step, in every replica and on every attempt.
    #[must_use]
    pub fn id(&self, step: &str) -> String {
        let (kind, subject) = self.subject();
        let mut hash = Sha256::new();
        let workspace = self.about.workspace_id.as_deref().unwrap_or_default();
        let deleted_at = self.about.deleted_at.0.to_string();
        for part in [step, kind, subject, workspace, &deleted_at, self.external_id] {
            // With its length, so that no two lists of parts run together into the same text.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let hex = hash.finalize().iter().take(ID_BYTES).map(|byte| format!("{byte:02x}")).collect::<String>();
        format!("msg_{hex}")
    }

    fn subject(&self) -> (&'static str, &str) {
        match &self.about.subject {
            Subject::Organization(id) => ("organization", id),
            Subject::User(id) => ("user", id),
        }
    }

    fn body(&self, id: &str) -> String {
        let (kind, subject) = self.subject();
        let body = Body {
            r#type: "cascade.deleted",
            id,
            external_id: self.external_id,
            organization: Some(subject).filter(|_| kind == "organization"),
            user: Some(subject).filter(|_| kind == "user"),
            workspace_id: self.about.workspace_id.as_deref(),
            deleted_at: self.about.deleted_at,
        };
        // Texts and a time: nothing that JSON has no form for.
        serde_json::to_string(&body).unwrap_or_default()
    }
}

/// Whether there was anything to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It was done.
    Done,
    /// There was nothing of this name any more.
    WasGone,
}

/// One configured step.
pub struct Step {
    client: reqwest::Client,
    settings: StepSettings,
    url: Url,
    metrics: Metrics,
}

impl Step {
    /// A client for this step; `None` where there is no TLS. Nothing is sent yet.
    #[must_use]
    pub fn new(settings: StepSettings, metrics: Metrics) -> Option<Arc<Self>> {
        let url = Url::parse(&settings.url).ok()?;
        match exchange::client(&url, HeaderMap::new(), MAX_AT_ONCE) {
            Ok(client) => Some(Arc::new(Self { client, settings, url, metrics })),
            Err(error) => {
                tracing::error!(%error, step = settings.name, "a step can never be taken: there is no TLS");
                None
            }
        }
    }

    /// Whether anything answers at the address: its status. Asked with `HEAD`, which must change nothing anywhere.
    pub async fn answers(&self) -> Result<u16, Fault> {
        match exchange::exchange(self.client.head(self.url.clone()), 0, |_| false).await {
            Ok(answer) => Ok(answer.status.as_u16()),
            Err(Fault::Refused(status)) => Ok(status),
            Err(Fault::Limited { .. }) => Ok(StatusCode::TOO_MANY_REQUESTS.as_u16()),
            Err(fault) => Err(fault),
        }
    }

    /// Its name in the settings.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Tells it, signed now.
    pub async fn send(&self, message: &Message<'_>, now: Millis) -> Result<Told, Fault> {
        let id = message.id(self.name());
        let body = message.body(&id);
        let seconds = now.0.div_euclid(1000);
        let signature = self.settings.secret.sign(&id, seconds, body.as_bytes());
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signature)
            .body(body);
        // Its status says everything: the body of an answer is never read.
        let span = exchange::span("step", self.name());
        let answer = exchange::exchange(request, 0, |_| false).instrument(span.clone()).await;
        let status = answer.as_ref().map_or_else(Fault::kind, |answer| exchange::label(answer.status));
        exchange::ended(&span, status, answer.is_ok());
        self.metrics.step_request(self.name(), status);
        match answer?.status {
            status if status.is_success() => Ok(Told::Done),
            StatusCode::GONE => Ok(Told::WasGone),
            status => Err(Fault::Status(status.as_u16())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(subject: Subject) -> About {
        About { subject, workspace_id: Some("org_1".into()), deleted_at: Millis(1_760_000_000_123) }
    }

    #[test]
    fn an_id_is_the_steps_own_and_stays() {
        let organization = about(Subject::Organization("org_1".into()));
        let id = |step: &str, external_id: &str, about: &About| Message { external_id, about }.id(step);
        let first = id("search", "doc:1", &organization);
        assert_eq!(first, id("search", "doc:1", &organization));
        assert!(first.len() == 36 && first.starts_with("msg_") && !first.contains('.'), "{first}");
        let user = about(Subject::User("org_1".into()));
        let later = About { deleted_at: Millis(1_760_000_000_124), ..organization.clone() };
        let nowhere = About { workspace_id: None, ..organization.clone() };
        for other in [
            id("files", "doc:1", &organization),
            id("search", "doc:2", &organization),
            id("search", "doc:1", &user),
            id("search", "doc:1", &later),
            id("search", "doc:1", &nowhere),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn the_body_says_what_went_and_with_whom() {
        let organization = about(Subject::Organization("org_1".into()));
        assert_eq!(
            Message { external_id: "doc:\"1\"", about: &organization }.body("msg_1"),
            r#"{"type":"cascade.deleted","id":"msg_1","external_id":"doc:\"1\"","organization":"org_1","workspace_id":"org_1","deleted_at":"2025-10-09T08:53:20.123Z"}"#
        );
        let user = About { workspace_id: None, ..about(Subject::User("user_1".into())) };
        let body = Message { external_id: "a", about: &user }.body("msg_2");
        assert!(body.contains(r#""user":"user_1","workspace_id":null"#) && !body.contains("organization"), "{body}");
    }
}

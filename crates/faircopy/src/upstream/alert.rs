//! Somebody who is told of trouble: a POST to an address that the settings name.
//!
//! Messages hold names, counts, times and advice: nothing personal, no secret. Each has an id that is the same on every attempt
//! (`webhook-id`), so that who receives it twice does it once; where there is a secret it is signed as Standard Webhooks says. Any
//! 2xx confirms.

use std::sync::Arc;

use faircopy_core::Millis;
use faircopy_core::alert::{self, Event, Severity, Wish};
use faircopy_core::signature::Secret;
use reqwest::Url;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// Why a target did not take a message.
pub use super::exchange::Fault as NotTaken;
use super::exchange::{self, Fault};
use crate::config::{AlertFormat, AlertSettings};
use crate::telemetry::Metrics;

/// Messages to one target at once: they are told in their order.
const AT_ONCE: usize = 1;
/// Bytes of the hash that an id is made of: nobody meets the same one twice.
const ID_BYTES: usize = 16;

/// What is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// The message's id.
    id: String,
    /// `alert.raised`, `alert.repeated`, `alert.resolved` or `alert.test`.
    r#type: &'static str,
    /// About what.
    alert: About,
}

/// What an alert is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct About {
    /// The alert's id: the same in all messages about it.
    pub id: String,
    /// The finding's name.
    pub name: String,
    /// How bad it is.
    #[serde(serialize_with = "as_word")]
    pub severity: Severity,
    /// What it is, in a few words.
    pub title: String,
    /// What was found, with its numbers.
    pub detail: String,
    /// What to do first.
    pub advice: String,
    /// The section of the documentation.
    pub help: String,
    /// Since when it is so.
    pub since: Millis,
    /// When it was over.
    pub resolved_at: Option<Millis>,
}

fn as_word<S: serde::Serializer>(severity: &Severity, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(severity.as_str())
}

impl About {
    /// What is known of a finding's name, and this of the finding itself.
    #[must_use]
    pub fn new(id: &str, name: &str, severity: Severity, detail: &str, since: Millis) -> Self {
        let (title, advice) =
            alert::kind(name).map_or((name, "See the documentation."), |kind| (kind.title, kind.advice));
        Self {
            id: id.to_owned(),
            name: name.to_owned(),
            severity,
            title: title.to_owned(),
            detail: detail.to_owned(),
            advice: advice.to_owned(),
            help: help(name),
            since,
            resolved_at: None,
        }
    }
}

/// Where the documentation tells more of a finding.
#[must_use]
pub fn help(name: &str) -> String {
    format!("docs/errors.md#{name}")
}

/// An id made of these parts: the same wherever and whenever it is made of them.
#[must_use]
pub fn id_of(prefix: &str, parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // With its length, so that no two lists of parts run together into the same text.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let hex = hash.finalize().iter().take(ID_BYTES).map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("{prefix}_{hex}")
}

impl Notice {
    /// The message of this number about an alert, for a target.
    #[must_use]
    pub fn new(event: Event, number: i64, target: &str, alert: About) -> Self {
        let id = id_of("msg", &[target, &alert.id, &number.to_string()]);
        let r#type = match event {
            Event::Raised => "alert.raised",
            Event::Repeated => "alert.repeated",
            Event::Resolved => "alert.resolved",
        };
        Self { id, r#type, alert }
    }

    /// A message that says that it is a test.
    #[must_use]
    pub fn test(target: &str, now: Millis) -> Self {
        let id = id_of("msg", &["test", target, &now.0.to_string()]);
        let alert = About {
            id: id_of("alert", &["test", target, &now.0.to_string()]),
            name: "test".into(),
            severity: Severity::Warning,
            title: "This is a test".into(),
            detail: format!("somebody asked for a test message to `{target}`"),
            advice: "Nothing is to be done.".into(),
            help: "docs/operate.md#targets".into(),
            since: now,
            resolved_at: None,
        };
        Self { id, r#type: "alert.test", alert }
    }

    /// The message's id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    fn body(&self, format: AlertFormat) -> String {
        let body = match format {
            AlertFormat::Json => json!(self),
            AlertFormat::Slack => json!({ "text": self.text() }),
        };
        body.to_string()
    }

    /// For people, in Slack's own marks.
    fn text(&self) -> String {
        let About { name, severity, title, detail, advice, help, since, resolved_at, .. } = &self.alert;
        let (sign, state) = match (self.r#type, severity) {
            ("alert.resolved", _) => (":white_check_mark:", "resolved".to_owned()),
            ("alert.repeated", _) => (":repeat:", format!("still {}", severity.as_str())),
            ("alert.test", _) => (":wrench:", "test".to_owned()),
            (_, Severity::Critical) => (":rotating_light:", severity.as_str().to_owned()),
            (_, Severity::Warning) => (":warning:", severity.as_str().to_owned()),
        };
        let plain = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let head = format!("{sign} *Faircopy: {}* ({state}, `{name}`)\n{}", plain(title), plain(detail));
        match resolved_at {
            Some(at) => format!("{head}\nFrom {since} to {at}."),
            None => format!("{head}\nSince {since}. {}\nMore: {help}", plain(advice)),
        }
    }
}

/// One configured target.
pub struct Target {
    client: reqwest::Client,
    url: Url,
    name: String,
    host: String,
    format: AlertFormat,
    secret: Option<Secret>,
    wish: Wish,
    metrics: Metrics,
}

impl Target {
    /// Every configured target. Nothing is sent yet.
    #[must_use]
    pub fn all(settings: &[AlertSettings], metrics: &Metrics) -> Arc<[Arc<Self>]> {
        settings.iter().filter_map(|settings| Self::new(settings, metrics.clone())).collect()
    }

    fn new(settings: &AlertSettings, metrics: Metrics) -> Option<Arc<Self>> {
        let url = Url::parse(settings.url.expose_secret()).ok()?;
        let client = match exchange::client(&url, HeaderMap::new(), AT_ONCE) {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(%error, to = settings.name, "nobody can be told: there is no TLS");
                return None;
            }
        };
        Some(Arc::new(Self {
            client,
            url,
            name: settings.name.clone(),
            host: settings.host(),
            format: settings.format,
            secret: settings.secret.clone(),
            wish: settings.wish,
            metrics,
        }))
    }

    /// Its name in the settings.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host that is told, and no more of its address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// How it is told.
    #[must_use]
    pub fn format(&self) -> AlertFormat {
        self.format
    }

    /// What it wants to be told.
    #[must_use]
    pub fn wish(&self) -> Wish {
        self.wish
    }

    /// Tells it. Returns the status, which is a 2xx.
    pub async fn send(&self, notice: &Notice, now: Millis) -> Result<u16, NotTaken> {
        let (id, body) = (notice.id(), notice.body(self.format));
        let seconds = now.0.div_euclid(1000);
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header("webhook-id", id)
            .header("webhook-timestamp", seconds);
        if let Some(secret) = &self.secret {
            request = request.header("webhook-signature", secret.sign(id, seconds, body.as_bytes()));
        }
        // Its status says everything: the body of an answer is never read.
        let answer = exchange::exchange(request.body(body), 0, |_| false).await;
        let label = answer.as_ref().map_or_else(Fault::kind, |answer| exchange::label(answer.status));
        self.metrics.alert_post(&self.name, label);
        match answer?.status {
            status if status.is_success() => Ok(status.as_u16()),
            status => Err(Fault::Status(status.as_u16())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About {
        About::new("alert_1", "silence", Severity::Warning, "none since <then> & now", Millis(1_760_000_000_123))
    }

    #[test]
    fn an_id_is_the_messages_own_and_stays() {
        let id = |number, target: &str| Notice::new(Event::Raised, number, target, about()).id;
        assert_eq!(id(1, "ops"), id(1, "ops"));
        assert!(id(1, "ops").len() == 36 && !id(1, "ops").contains('.'));
        assert_ne!(id(1, "ops"), id(2, "ops"));
        assert_ne!(id(1, "ops"), id(1, "on-call"));
        let resolved = Notice::new(Event::Resolved, 1, "ops", about());
        assert_eq!(id(1, "ops"), resolved.id, "the number alone tells messages apart");
    }

    #[test]
    fn json_says_everything_and_slack_the_same_for_people() {
        let notice = Notice::new(Event::Raised, 1, "ops", about());
        let body: serde_json::Value = serde_json::from_str(&notice.body(AlertFormat::Json)).unwrap();
        assert_eq!((&body["type"], &body["id"]), (&json!("alert.raised"), &json!(notice.id)));
        let expected = json!({
            "id": "alert_1", "name": "silence", "severity": "warning", "title": "No delivery for longer than usual",
            "detail": "none since <then> & now", "advice": alert::kind("silence").unwrap().advice,
            "help": "docs/errors.md#silence", "since": "2025-10-09T08:53:20.123Z", "resolved_at": null,
        });
        assert_eq!(body["alert"], expected);
        let slack: serde_json::Value = serde_json::from_str(&notice.body(AlertFormat::Slack)).unwrap();
        let text = slack["text"].as_str().unwrap();
        assert!(text.starts_with(":warning: *Faircopy: No delivery"), "{text}");
        assert!(
            text.contains("none since &lt;then&gt; &amp; now") && text.contains("docs/errors.md#silence"),
            "{text}"
        );
        let over = About { resolved_at: Some(Millis(1_760_000_060_000)), ..about() };
        let text = Notice::new(Event::Resolved, 2, "ops", over).text();
        assert!(text.contains("resolved") && text.ends_with("to 2025-10-09T08:54:20.000Z."), "{text}");
        assert!(Notice::test("ops", Millis(0)).text().contains("test"));
    }
}

//! Alerts as people see them: who is told, what is and was told, and a message to try a target with.

use faircopy_core::Millis;
use faircopy_core::alert;
use faircopy_store::{Alert, AlertTarget, Store};
use serde::Serialize;
use utoipa::ToSchema;

use crate::config::AlertSettings;
use crate::upstream::alert::{Notice, Target, help};

/// Alerts that are shown: the newest.
pub const MAX_SHOWN: i64 = 100;
/// What stands for the rest of an address: it may be a secret.
const MASK: &str = "…";

/// Who is told, and of what.
#[derive(Debug, Serialize, ToSchema)]
pub struct Overview {
    /// The targets, in the order of the settings.
    pub targets: Vec<TargetShown>,
    /// The alerts that were raised last, newest first; at most 100.
    pub data: Vec<AlertShown>,
}

/// Somebody who is told.
#[derive(Debug, Serialize, ToSchema)]
pub struct TargetShown {
    /// Its name in the settings.
    #[schema(example = "on-call")]
    pub name: String,
    /// `json` or `slack`.
    #[schema(example = "slack")]
    pub format: String,
    /// Its host, and no more of its address.
    #[schema(example = "hooks.slack.com/…")]
    pub url: String,
    /// `warning` or `critical`: nothing that is less bad is told.
    #[schema(example = "warning")]
    pub minimum: String,
    /// When it last took something.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_ok_at: Option<Millis>,
    /// Why it did not take the last thing; `null` if it did, or was never told anything.
    pub last_error: Option<String>,
}

/// A finding that was told, or would be if somebody wanted to hear it.
#[derive(Debug, Serialize, ToSchema)]
pub struct AlertShown {
    /// The finding's name.
    #[schema(example = "silence")]
    pub name: String,
    /// `warning` or `critical`.
    #[schema(example = "warning")]
    pub severity: String,
    /// What it is, in a few words.
    pub title: String,
    /// What was found, when it was last seen.
    pub detail: String,
    /// What to do first.
    pub advice: String,
    /// Since when it is, or was, so.
    #[schema(value_type = String, format = DateTime)]
    pub since: Millis,
    /// When it was last seen.
    #[schema(value_type = String, format = DateTime)]
    pub seen_at: Millis,
    /// `raised` or `resolved`.
    #[schema(example = "raised")]
    pub state: &'static str,
    /// When it was over.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub resolved_at: Option<Millis>,
    /// Where the documentation tells more.
    #[schema(example = "docs/errors.md#silence")]
    pub help: String,
}

/// What a target answered to a message that says that it is a test.
#[derive(Debug, Serialize, ToSchema)]
pub struct Tested {
    /// The target.
    #[schema(example = "on-call")]
    pub target: String,
    /// The message's id.
    pub id: String,
    /// The status of a target that took it.
    #[schema(example = 200)]
    pub status: Option<u16>,
    /// Why it did not.
    pub error: Option<String>,
}

/// Who is told, and of what.
pub async fn overview(store: &Store, settings: &[AlertSettings]) -> Result<Overview, faircopy_store::Error> {
    let known = store.alert_targets().await?;
    let targets = settings.iter().map(|target| shown(target, &known)).collect();
    let findings = store.findings().await?;
    let data = store.alerts(MAX_SHOWN).await?.into_iter().map(|alert| {
        // What stands is seen again and again, and only its finding says when.
        let seen = findings.iter().filter(|of| alert.standing.resolved_at.is_none() && of.name == alert.name);
        let seen_at = seen.filter_map(|finding| Millis::parse(&finding.seen_at)).next().unwrap_or(alert.seen_at);
        AlertShown::from(Alert { seen_at, ..alert })
    });
    Ok(Overview { targets, data: data.collect() })
}

fn shown(target: &AlertSettings, known: &[AlertTarget]) -> TargetShown {
    let known = known.iter().find(|known| known.name == target.name);
    TargetShown {
        name: target.name.clone(),
        format: target.format.as_str().to_owned(),
        url: format!("{}/{MASK}", target.host()),
        minimum: target.wish.minimum.as_str().to_owned(),
        last_ok_at: known.and_then(|known| known.last_ok_at),
        last_error: known.and_then(|known| known.last_error.clone()),
    }
}

impl From<Alert> for AlertShown {
    fn from(alert: Alert) -> Self {
        let kind = alert::kind(&alert.name);
        let title = kind.map_or_else(|| alert.name.clone(), |kind| kind.title.to_owned());
        Self {
            severity: alert.severity.as_str().to_owned(),
            title,
            detail: alert.detail,
            advice: kind.map_or_else(String::new, |kind| kind.advice.to_owned()),
            since: alert.since,
            seen_at: alert.seen_at,
            state: if alert.standing.resolved_at.is_some() { "resolved" } else { "raised" },
            resolved_at: alert.standing.resolved_at,
            help: help(&alert.name),
            name: alert.name,
        }
    }
}

/// Sends a target a message that says that it is a test, and writes down what it answered.
pub async fn test(target: &Target, store: &Store, now: Millis) -> Result<Tested, faircopy_store::Error> {
    let notice = Notice::test(target.name(), now);
    let sent = target.send(&notice, now).await;
    let known = store.alert_targets().await?.into_iter().find(|known| known.name == target.name());
    let known = known.unwrap_or_else(|| AlertTarget { name: target.name().to_owned(), ..AlertTarget::default() });
    let after = match &sent {
        // What waits for it need not wait any longer.
        Ok(_) => AlertTarget { name: known.name, last_ok_at: Some(now), ..AlertTarget::default() },
        Err(error) => AlertTarget { last_error: Some(error.to_string()), ..known },
    };
    store.writer().keep_alert_target(&after, None).await?;
    Ok(Tested {
        target: target.name().to_owned(),
        id: notice.id().to_owned(),
        status: sent.as_ref().ok().copied(),
        error: sent.err().map(|error| error.to_string()),
    })
}

/// The mark that quarantined deliveries are known up to then.
pub const ACKNOWLEDGED: &str = "quarantine-acknowledged";

/// Says that the quarantined deliveries that arrived until now are known. Returns until when.
pub async fn acknowledge(store: &Store, now: Millis) -> Result<Millis, faircopy_store::Error> {
    store.writer().set_mark(ACKNOWLEDGED, now).await?;
    Ok(now)
}

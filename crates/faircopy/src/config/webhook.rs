//! The webhook endpoint: `[webhook]`, and the signing secrets.

use std::collections::HashSet;

use faircopy_core::signature::{Names, Secret};
use ipnet::IpNet;
use serde::Deserialize;

use super::ConfigError;
use super::sources::Setting;
use crate::http::{Access, ROUTES};

/// The body limit unless set: Svix sends at most about 350 kB (clerk-facts.md, section 4.2).
pub const DEFAULT_MAX_BODY: usize = 1024 * 1024;
/// The largest body limit: the memory for bodies (`http/body`) must hold one whole, or it would never be read.
pub const LARGEST_MAX_BODY: usize = 4 * 1024 * 1024;

/// The webhook endpoint's settings.
#[derive(Debug, Clone)]
pub struct Webhook {
    /// `CLERK_WEBHOOK_SIGNING_SECRET`: all are accepted.
    pub secrets: Vec<Secret>,
    /// Where deliveries arrive.
    pub paths: Vec<String>,
    /// The largest body.
    pub max_body_bytes: usize,
    /// Which header names are accepted.
    pub header_names: Names,
    /// Only senders from these networks, where any is named: a second wall, never the first.
    pub allow_from: Vec<IpNet>,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// `[webhook]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WebhookFile {
    paths: Option<Vec<String>>,
    max_body_bytes: Option<usize>,
    accept_webhook_headers: Option<bool>,
    allow_from: Option<Vec<String>>,
    trusted_proxies: Option<Vec<String>>,
}

impl WebhookFile {
    /// The settings, with the signing secrets, which are set elsewhere.
    pub(super) fn read(self, secrets: Option<Setting>) -> Result<Webhook, ConfigError> {
        Ok(Webhook {
            secrets: secrets.map_or(Ok(Vec::new()), |secrets| secrets.read(secrets_of))?,
            paths: self.paths.map_or(Ok(default_paths()), paths_of)?,
            max_body_bytes: self.max_body_bytes.map_or(Ok(DEFAULT_MAX_BODY), max_body_of)?,
            header_names: if self.accept_webhook_headers == Some(true) { Names::SvixOrWebhook } else { Names::Svix },
            allow_from: networks("webhook.allow_from", self.allow_from)?,
            trusted_proxies: networks("webhook.trusted_proxies", self.trusted_proxies)?,
        })
    }
}

/// Reads a list of signing secrets, separated by commas or spaces.
pub fn secrets_of(text: &str) -> Result<Vec<Secret>, String> {
    let parts = text.split([',', ' ', '\n', '\t']).filter(|part| !part.is_empty());
    let secrets: Result<Vec<Secret>, String> = parts
        .enumerate()
        .map(|(at, part)| {
            Secret::parse(part).map_err(|error| format!("{error} (secret {}); expected `whsec_<base64>`", at + 1))
        })
        .collect();
    match secrets {
        Ok(secrets) if secrets.is_empty() => Err("is empty; expected `whsec_<base64>`".into()),
        other => other,
    }
}

fn default_paths() -> Vec<String> {
    vec!["/webhooks/clerk".into()]
}

fn paths_of(paths: Vec<String>) -> Result<Vec<String>, ConfigError> {
    let plain = |path: &String| path.starts_with('/') && path.len() > 1 && !path.contains(['{', '}', '?', '#', '*']);
    let unusable = |fault: &str| {
        let fault = format!("{fault}; expected `[\"/webhooks/clerk\"]`");
        Err(ConfigError::Invalid { name: "webhook.paths".into(), fault })
    };
    if paths.is_empty() || !paths.iter().all(plain) {
        return unusable("is not a list of paths");
    }
    let ours = |path: &String| ROUTES.iter().any(|(_, route, access)| *access != Access::Signed && route == path);
    let twice = paths.iter().collect::<HashSet<_>>().len() < paths.len();
    if twice || paths.iter().any(ours) { unusable("names a path twice, or one that is taken") } else { Ok(paths) }
}

fn max_body_of(bytes: usize) -> Result<usize, ConfigError> {
    if (1..=LARGEST_MAX_BODY).contains(&bytes) {
        return Ok(bytes);
    }
    let fault = format!("is {bytes}; expected 1 to {LARGEST_MAX_BODY}");
    Err(ConfigError::Invalid { name: "webhook.max_body_bytes".into(), fault })
}

fn networks(name: &str, texts: Option<Vec<String>>) -> Result<Vec<IpNet>, ConfigError> {
    let parse = |text: String| {
        text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from)).map_err(|_| {
            ConfigError::Invalid {
                name: name.into(),
                fault: "holds something that is not a network; expected `44.228.126.217/32`".into(),
            }
        })
    };
    texts.unwrap_or_default().into_iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_webhooks_are_plain_and_apart() {
        let check = |paths: &[&str], usable: bool| {
            assert_eq!(paths_of(paths.iter().map(|path| (*path).to_owned()).collect()).is_ok(), usable, "{paths:?}");
        };
        check(&["/webhooks/clerk"], true);
        check(&["/clerk", "/api/webhooks/clerk"], true);
        check(&[], false);
        check(&["clerk"], false);
        check(&["/"], false);
        check(&["/{any}"], false);
        check(&["/clerk", "/clerk"], false);
        check(&["/metrics"], false);
        check(&["/admin/v1/deliveries"], false);
    }

    #[test]
    fn a_body_limit_is_refused_that_no_memory_could_hold() {
        for (bytes, usable) in [(0, false), (1, true), (LARGEST_MAX_BODY, true), (LARGEST_MAX_BODY + 1, false)] {
            assert_eq!(max_body_of(bytes).is_ok(), usable, "{bytes}");
        }
    }
}

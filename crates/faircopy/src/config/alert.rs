//! Who is told of trouble: `[[alert]]`.

use std::collections::HashSet;

use faircopy_core::alert::{Severity, Wish};
use faircopy_core::signature::Secret;
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::clerk::address;
use super::{ConfigError, Sources};

/// Targets that can be set: each is told every alert, and its name is a metric's label.
const MAX_ALERTS: usize = 16;
/// Characters of a target's name: it is part of a variable's and of a path.
const MAX_NAME: usize = 32;
/// How often a target is told again while trouble lasts, unless set: each day, when somebody is there again.
const DEFAULT_REPEAT_HOURS: u32 = 24;
/// Four weeks: what is repeated less often is not repeated.
const MAX_REPEAT_HOURS: u32 = 28 * 24;
const HOUR_MS: i64 = 3_600_000;

/// In which form a target is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertFormat {
    /// A JSON object with everything (docs/operate.md).
    Json,
    /// A message for people, as Slack's incoming webhooks take it.
    Slack,
}

impl AlertFormat {
    /// As the settings name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Slack => "slack",
        }
    }
}

/// Somebody who is told of trouble.
#[derive(Debug, Clone)]
pub struct AlertSettings {
    /// Its name.
    pub name: String,
    /// Where it is told. Whoever knows the address of a Slack channel can write to it: never shown.
    pub url: SecretString,
    /// How.
    pub format: AlertFormat,
    /// What the messages are signed with, if they are.
    pub secret: Option<Secret>,
    /// What it wants to be told, and how often.
    pub wish: Wish,
}

impl AlertSettings {
    /// The host that is told, which may be shown.
    #[must_use]
    pub fn host(&self) -> String {
        let host = |url: Url| url.host_str().map(ToOwned::to_owned);
        Url::parse(self.url.expose_secret()).ok().and_then(host).unwrap_or_default()
    }
}

/// `[[alert]]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AlertFile {
    name: Option<String>,
    url: Option<String>,
    format: Option<String>,
    secret: Option<String>,
    minimum: Option<String>,
    repeat_hours: Option<u32>,
}

/// All targets, each with a name of its own.
pub(super) fn alerts(files: &[AlertFile], sources: &Sources<'_>) -> Result<Vec<AlertSettings>, ConfigError> {
    let invalid = |fault: String| Err(ConfigError::Invalid { name: "alert".into(), fault });
    if files.len() > MAX_ALERTS {
        return invalid(format!("stands there {} times; expected at most {MAX_ALERTS}", files.len()));
    }
    let targets = files.iter().map(|file| file.read(sources)).collect::<Result<Vec<_>, _>>()?;
    let mut variables = HashSet::new();
    match targets.iter().find(|target| !variables.insert(variable_of(&target.name, "SECRET"))) {
        Some(target) => invalid(format!("`{}` stands there twice; expected names that differ", target.name)),
        None => Ok(targets),
    }
}

impl AlertFile {
    fn read(&self, sources: &Sources<'_>) -> Result<AlertSettings, ConfigError> {
        let name = self.name.as_deref().filter(|name| is_name(name));
        let name = name
            .ok_or_else(|| wrong("alert.name", "is not a name; expected 1 to 32 small letters, digits, `_` and `-`"))?;
        let (url_variable, secret_variable) = (variable_of(name, "URL"), variable_of(name, "SECRET"));
        let missing = || wrong(&url_variable, "is not set; expected `https://hooks.example.com/alerts`");
        let url = sources.first(None, &[&url_variable], self.url.clone())?.ok_or_else(missing)?.read(url_of)?;
        let secret = sources.first(None, &[&secret_variable], self.secret.clone())?;
        let format = match self.format.as_deref() {
            None | Some("json") => AlertFormat::Json,
            Some("slack") => AlertFormat::Slack,
            Some(_) => return Err(wrong("alert.format", "is unknown; expected `json` or `slack`")),
        };
        let minimum = Severity::parse(self.minimum.as_deref().unwrap_or(Severity::Warning.as_str()));
        let minimum = minimum.ok_or_else(|| wrong("alert.minimum", "is unknown; expected `warning` or `critical`"))?;
        let repeat = self.repeat_hours.unwrap_or(DEFAULT_REPEAT_HOURS);
        if repeat > MAX_REPEAT_HOURS {
            let fault = format!("is {repeat}; expected hours, at most {MAX_REPEAT_HOURS}, or 0 for once");
            return Err(wrong("alert.repeat_hours", &fault));
        }
        let repeat_ms = (repeat > 0).then(|| i64::from(repeat) * HOUR_MS);
        Ok(AlertSettings {
            name: name.to_owned(),
            url,
            format,
            secret: secret.map(|secret| secret.read(secret_of)).transpose()?,
            wish: Wish { minimum, repeat_ms },
        })
    }
}

fn wrong(name: &str, fault: &str) -> ConfigError {
    ConfigError::Invalid { name: name.into(), fault: fault.into() }
}

fn is_name(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(letter)
}

/// The variable that has a target's address or secret.
fn variable_of(name: &str, what: &str) -> String {
    format!("FAIRCOPY_ALERT_{}_{what}", name.to_ascii_uppercase().replace('-', "_"))
}

/// An address that may be told. Unlike other upstreams' it may have a query: some receivers have their key there.
fn url_of(text: &str) -> Result<SecretString, &'static str> {
    let plain = text.split_once('?').map_or(text, |(plain, _)| plain);
    match (address(plain), Url::parse(text)) {
        (Some(_), Ok(url)) if url.fragment().is_none() => Ok(text.to_owned().into()),
        _ => Err("is not an address; expected `https://hooks.example.com/alerts` (plain http only on loopback)"),
    }
}

fn secret_of(text: &str) -> Result<Secret, String> {
    Secret::parse(text).map_err(|error| format!("{error}; expected `whsec_<base64>`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment, Flags};

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<Vec<AlertSettings>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("faircopy.toml");
        std::fs::write(&path, text).unwrap();
        let environment = Environment(variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        let flags = Flags { config: Some(path), ..Flags::default() };
        Config::load(&flags, &environment).map(|config| config.alerts).map_err(|error| error.to_string())
    }

    #[test]
    fn a_target_needs_a_name_and_an_address() {
        let text = "[[alert]]\nname = 'on-call'\nurl = 'https://hooks.example.com/a/canary?key=canary'\n";
        let targets = load(text, &[]).unwrap();
        let [target] = &targets[..] else { panic!("{targets:?}") };
        assert_eq!((target.format, target.host()), (AlertFormat::Json, "hooks.example.com".to_owned()));
        assert_eq!(target.wish, Wish { minimum: Severity::Warning, repeat_ms: Some(24 * HOUR_MS) });
        assert!(target.secret.is_none() && !format!("{target:?}").contains("canary"));
        let rest = "format = 'slack'\nminimum = 'critical'\nrepeat_hours = 0\n";
        let variables = [("FAIRCOPY_ALERT_OPS_URL", "http://127.0.0.1:9/x"), ("FAIRCOPY_ALERT_OPS_SECRET", SECRET)];
        let target = load(&format!("[[alert]]\nname = 'ops'\n{rest}"), &variables).unwrap().remove(0);
        assert_eq!(target.wish, Wish { minimum: Severity::Critical, repeat_ms: None });
        assert!(target.secret.is_some() && target.format == AlertFormat::Slack);
    }

    #[test]
    fn unusable_values_are_refused_by_name() {
        let check = |rest: &str, expected: &str| {
            let error = load(&format!("[[alert]]\n{rest}"), &[]).unwrap_err();
            assert!(error.contains(expected) && !error.contains("canary"), "{error}");
        };
        let whole = |rest: &str| format!("name = 'a'\nurl = 'https://a.example/canary'\n{rest}");
        check("url = 'https://a.example/canary'", "alert.name");
        check("name = 'A'\nurl = 'https://a.example/'", "alert.name");
        check("name = 'a'", "FAIRCOPY_ALERT_A_URL is not set");
        for url in
            ["http://a.example/", "https://10.0.0.1/canary", "https://u:canary@a.example/", "https://a.example/#x"]
        {
            check(&format!("name = 'a'\nurl = '{url}'"), "FAIRCOPY_ALERT_A_URL is not an address");
        }
        check(&whole("format = 'xml'"), "alert.format");
        check(&whole("minimum = 'info'"), "alert.minimum");
        check(&whole("repeat_hours = 673"), "alert.repeat_hours");
        check(&whole("secret = 'canary'"), "FAIRCOPY_ALERT_A_SECRET");
        check(&whole("colour = 'red'"), "colour");
        let twice = [whole(""), whole("")].map(|text| format!("[[alert]]\n{text}")).concat();
        assert!(load(&twice, &[]).unwrap_err().contains("twice"));
        let many: String = (0..17).map(|n| format!("[[alert]]\nname = 'a{n}'\nurl = 'https://a.example'\n")).collect();
        assert!(load(&many, &[]).unwrap_err().contains("17 times"));
    }
}

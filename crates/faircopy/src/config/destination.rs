//! The places that the copy goes on to: `[[destination]]`.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::PathBuf;

use faircopy_core::destination::Entity;
use faircopy_core::signature::Secret;
use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{ConfigError, Sources, last_four, secrets_of};
use crate::upstream::address::is_public;

/// Destinations that can be set: each has requests under way, and its name is a metric's label.
const MAX_DESTINATIONS: usize = 8;
/// Characters of a name: it is part of a variable's, of a path and of each message's id.
const MAX_NAME: usize = 32;
/// Characters of a subject's prefix and of a stream's name.
const MAX_PREFIX: usize = 64;
/// What subjects begin with at NATS, unless set.
const DEFAULT_PREFIX: &str = "faircopy";

/// A place that the copy goes on to.
#[derive(Debug, Clone)]
pub struct DestinationSettings {
    /// Its name.
    pub name: String,
    /// Where it is. It may hold a key in its path or query: never shown.
    pub url: SecretString,
    /// How it is told.
    pub kind: DestinationKind,
    /// Which tables it is told of.
    pub entities: Vec<Entity>,
    /// It may be in a private network, or on this machine, and plain http.
    pub allow_private: bool,
}

/// How a destination is told.
#[derive(Debug, Clone)]
pub enum DestinationKind {
    /// A signed POST for each change.
    Webhook {
        /// What messages are signed with, by each of them: while one replaces the other the receiver may know either.
        secrets: Vec<Secret>,
    },
    /// Batches for a function of a Convex deployment.
    Convex {
        /// The deployment's key.
        deploy_key: SecretString,
    },
    /// Messages of a NATS JetStream.
    Nats {
        /// What subjects begin with.
        subject_prefix: String,
        /// The stream that must take them; whichever does, where none is named.
        stream: Option<String>,
        /// The server's token.
        token: Option<SecretString>,
        /// A file of credentials.
        credentials_file: Option<PathBuf>,
    },
}

impl DestinationKind {
    /// As the settings name it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Webhook { .. } => "webhook",
            Self::Convex { .. } => "convex",
            Self::Nats { .. } => "nats",
        }
    }
}

impl DestinationSettings {
    /// The host, which may be shown.
    #[must_use]
    pub fn host(&self) -> String {
        let host = |url: Url| url.host_str().map(ToOwned::to_owned);
        Url::parse(self.url.expose_secret()).ok().and_then(host).unwrap_or_default()
    }

    /// A hash of where it leads and what it wants. When that changes, it is sent everything; a new secret changes nothing.
    #[must_use]
    pub fn target(&self) -> String {
        let (prefix, stream) = match &self.kind {
            DestinationKind::Nats { subject_prefix, stream, .. } => {
                (subject_prefix.as_str(), stream.as_deref().unwrap_or_default())
            }
            DestinationKind::Webhook { .. } | DestinationKind::Convex { .. } => ("", ""),
        };
        let entities: Vec<&str> = self.entities.iter().map(|entity| entity.as_str()).collect();
        let mut hash = Sha256::new();
        for part in [self.kind.as_str(), self.url.expose_secret(), prefix, stream, &entities.join(",")] {
            // With its length, so that no two lists of parts run together into the same text.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Its secrets, by the variables that have them, with their last four characters where those may be shown.
    pub(super) fn secrets(&self) -> Vec<(String, Option<String>)> {
        let named = |what| variable_of(&self.name, what);
        let text = |secret: &SecretString| last_four(secret.expose_secret());
        match &self.kind {
            DestinationKind::Webhook { secrets } => {
                secrets.iter().map(|secret| (named("SECRET"), Some(secret.last_four().to_owned()))).collect()
            }
            DestinationKind::Convex { deploy_key } => vec![(named("DEPLOY_KEY"), text(deploy_key))],
            DestinationKind::Nats { token, .. } => token.iter().map(|token| (named("TOKEN"), text(token))).collect(),
        }
    }
}

/// `[[destination]]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DestinationFile {
    name: Option<String>,
    kind: Option<String>,
    url: Option<String>,
    entities: Option<Vec<String>>,
    allow_private: Option<bool>,
    secret: Option<String>,
    secret_file: Option<PathBuf>,
    deploy_key: Option<String>,
    deploy_key_file: Option<PathBuf>,
    subject_prefix: Option<String>,
    stream: Option<String>,
    token: Option<String>,
    token_file: Option<PathBuf>,
    credentials_file: Option<PathBuf>,
}

/// All destinations, each with a name of its own.
pub(super) fn destinations(
    files: &[DestinationFile],
    sources: &Sources<'_>,
) -> Result<Vec<DestinationSettings>, ConfigError> {
    if files.len() > MAX_DESTINATIONS {
        let fault = format!("stands there {} times; expected at most {MAX_DESTINATIONS}", files.len());
        return Err(wrong("destination", &fault));
    }
    let all = files.iter().map(|file| file.read(sources)).collect::<Result<Vec<_>, _>>()?;
    let mut variables = HashSet::new();
    match all.iter().find(|destination| !variables.insert(variable_of(&destination.name, ""))) {
        Some(twice) => {
            Err(wrong("destination", &format!("`{}` stands there twice; expected names that differ", twice.name)))
        }
        None => Ok(all),
    }
}

impl DestinationFile {
    fn read(&self, sources: &Sources<'_>) -> Result<DestinationSettings, ConfigError> {
        let name = self.name.as_deref().filter(|name| is_name(name)).ok_or_else(|| {
            wrong("destination.name", "is not a name; expected 1 to 32 small letters, digits, `_` and `-`")
        })?;
        let kind = self.kind.as_deref().unwrap_or_default();
        let known = ["webhook", "convex", "nats"];
        if !known.contains(&kind) {
            return Err(wrong("destination.kind", "is unknown; expected `webhook`, `convex` or `nats`"));
        }
        if kind == "nats" && cfg!(not(feature = "nats")) {
            return Err(wrong("destination.kind", "is `nats`, and this program was built without it (feature `nats`)"));
        }
        self.check_keys(kind)?;
        let allow_private = self.allow_private.unwrap_or_default();
        let variable = variable_of(name, "URL");
        let missing = || wrong(&variable, "is not set; expected an address such as `https://app.example.com/faircopy`");
        let url = sources.first(None, &[&variable], self.url.clone())?.ok_or_else(missing)?;
        let url = url.read(|text| url_of(text, kind, allow_private))?;
        Ok(DestinationSettings {
            name: name.to_owned(),
            url,
            kind: self.kind(name, kind, sources)?,
            entities: self.entities()?,
            allow_private,
        })
    }

    fn kind(&self, name: &str, kind: &str, sources: &Sources<'_>) -> Result<DestinationKind, ConfigError> {
        let secret = |what: &str, text: &Option<String>, file: &Option<PathBuf>| {
            let text = match (text, file) {
                (None, Some(path)) => Some(read_secret(&format!("destination.{}_file", what.to_lowercase()), path)?),
                (text, _) => text.clone(),
            };
            sources.first(None, &[&variable_of(name, what)], text)
        };
        let missing = |what: &str, form: &str| {
            let (variable, expected) = (variable_of(name, what), format!("is not set; expected {form}"));
            move || wrong(&variable, &expected)
        };
        Ok(match kind {
            "webhook" => {
                let secrets = secret("SECRET", &self.secret, &self.secret_file)?;
                let secrets = secrets.ok_or_else(missing("SECRET", "`whsec_<base64>`"))?.read(secrets_of)?;
                DestinationKind::Webhook { secrets }
            }
            "convex" => {
                let key = secret("DEPLOY_KEY", &self.deploy_key, &self.deploy_key_file)?;
                let key = key.ok_or_else(missing("DEPLOY_KEY", "`prod:<deployment>|…`"))?.read(deploy_key_of)?;
                DestinationKind::Convex { deploy_key: key }
            }
            _ => {
                let token = secret("TOKEN", &self.token, &self.token_file)?;
                if let Some(path) = &self.credentials_file {
                    read_secret("destination.credentials_file", path)?;
                }
                let prefix = self.subject_prefix.clone().unwrap_or_else(|| DEFAULT_PREFIX.to_owned());
                if !is_prefix(&prefix) {
                    let fault = "is not the beginning of a subject; expected words of letters, digits, `_` and `-` with `.` between";
                    return Err(wrong("destination.subject_prefix", fault));
                }
                if self.stream.as_deref().is_some_and(|stream| !is_prefix(stream) || stream.contains('.')) {
                    let fault = "is not the name of a stream; expected letters, digits, `_` and `-`";
                    return Err(wrong("destination.stream", fault));
                }
                DestinationKind::Nats {
                    subject_prefix: prefix,
                    stream: self.stream.clone(),
                    token: token.map(|token| token.read(token_of)).transpose()?,
                    credentials_file: self.credentials_file.clone(),
                }
            }
        })
    }

    /// A key that another kind has is a mistake: whoever wrote it expects something of it.
    fn check_keys(&self, kind: &str) -> Result<(), ConfigError> {
        let keys = [
            ("secret", self.secret.is_some(), "webhook"),
            ("secret_file", self.secret_file.is_some(), "webhook"),
            ("deploy_key", self.deploy_key.is_some(), "convex"),
            ("deploy_key_file", self.deploy_key_file.is_some(), "convex"),
            ("subject_prefix", self.subject_prefix.is_some(), "nats"),
            ("stream", self.stream.is_some(), "nats"),
            ("token", self.token.is_some(), "nats"),
            ("token_file", self.token_file.is_some(), "nats"),
            ("credentials_file", self.credentials_file.is_some(), "nats"),
        ];
        match keys.into_iter().find(|(_, is_set, of)| *is_set && *of != kind) {
            Some((key, _, of)) => {
                let fault = format!("is set for a destination of the kind `{kind}`; expected with `{of}` alone");
                Err(wrong(&format!("destination.{key}"), &fault))
            }
            None => Ok(()),
        }
    }

    fn entities(&self) -> Result<Vec<Entity>, ConfigError> {
        let fault = || {
            let known: Vec<&str> = Entity::ALL.iter().map(|entity| entity.as_str()).collect();
            wrong("destination.entities", &format!("is not understood; expected some of `{}`", known.join("`, `")))
        };
        let Some(names) = &self.entities else { return Ok(Entity::ALL.to_vec()) };
        let named =
            names.iter().map(|name| Entity::parse(name).ok_or_else(fault)).collect::<Result<HashSet<_>, _>>()?;
        if named.is_empty() {
            return Err(fault());
        }
        Ok(Entity::ALL.into_iter().filter(|entity| named.contains(entity)).collect())
    }
}

fn wrong(name: &str, fault: &str) -> ConfigError {
    ConfigError::Invalid { name: name.into(), fault: fault.into() }
}

fn read_secret(name: &str, path: &std::path::Path) -> Result<String, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError::File {
        name: name.to_owned(),
        path: path.display().to_string(),
        fault: error.kind().to_string(),
    })?;
    Ok(text.trim().to_owned())
}

fn is_name(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    (1..=MAX_NAME).contains(&text.len()) && text.bytes().all(letter)
}

fn is_prefix(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=MAX_PREFIX).contains(&text.len()) && text.split('.').all(|word| !word.is_empty() && word.bytes().all(letter))
}

/// The variable that has a destination's address or secret.
fn variable_of(name: &str, what: &str) -> String {
    format!("FAIRCOPY_DESTINATION_{}_{what}", name.to_ascii_uppercase().replace('-', "_"))
}

/// An address that may be told: public and encrypted, unless the settings say that it need not be.
fn url_of(text: &str, kind: &str, allow_private: bool) -> Result<SecretString, String> {
    let (form, encrypted, plain) = match kind {
        "nats" => ("tls://nats.example.com:4222", "tls", "nats"),
        "convex" => ("https://happy-otter-123.convex.cloud", "https", "http"),
        _ => ("https://app.example.com/faircopy", "https", "http"),
    };
    let fault = || {
        format!(
            "is not an address; expected `{form}` (private addresses, this machine and `{plain}://` only with `allow_private`)"
        )
    };
    let url = Url::parse(text).map_err(|_| fault())?;
    let host = url.host_str().ok_or_else(fault)?.trim_matches(['[', ']']).to_owned();
    let ip = host.parse::<IpAddr>().ok().or_else(|| literal(&host));
    let is_near = host == "localhost" || host.ends_with(".localhost") || ip.is_some_and(|ip| !is_public(ip));
    let scheme = url.scheme() == encrypted || (url.scheme() == plain && allow_private);
    let has_extras = !url.username().is_empty() || url.password().is_some() || url.fragment().is_some();
    // Only a webhook's address is an application's own, and may hold a key.
    let has_place = kind != "webhook" && (url.query().is_some() || !matches!(url.path(), "" | "/"));
    if !scheme || (is_near && !allow_private) || has_extras || has_place {
        return Err(fault());
    }
    let text = if kind == "webhook" { text } else { text.trim_end_matches('/') };
    Ok(text.to_owned().into())
}

/// An address of a scheme whose numbers the parser leaves as they are written (`0x7f.1`).
fn literal(host: &str) -> Option<IpAddr> {
    Url::parse(&format!("http://{host}/")).ok()?.host_str()?.parse().ok()
}

fn deploy_key_of(text: &str) -> Result<SecretString, &'static str> {
    if text.contains('|') && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned().into())
    } else {
        Err("is not a deploy key; expected `prod:<deployment>|…` of Convex's dashboard (Settings, Deploy keys)")
    }
}

fn token_of(text: &str) -> Result<SecretString, &'static str> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned().into())
    } else {
        Err("is not a token; expected printable characters without spaces")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment, Flags};

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<Vec<DestinationSettings>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("faircopy.toml");
        std::fs::write(&path, text).unwrap();
        let environment = Environment(variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect());
        let flags = Flags { config: Some(path), ..Flags::default() };
        Config::load(&flags, &environment).map(|config| config.destinations).map_err(|error| error.to_string())
    }

    #[test]
    fn each_kind_has_what_it_needs_and_nothing_is_shown() {
        let text = format!(
            "[[destination]]\nname = 'crm'\nkind = 'webhook'\nurl = 'https://crm.example.com/in/canary?key=canary'\n\
             secret = '{SECRET} {OTHER}'\nentities = ['member', 'user']\n\
             [[destination]]\nname = 'app'\nkind = 'convex'\nurl = 'https://happy-otter-123.convex.cloud/'\n\
             deploy_key = 'prod:happy-otter-123|canarycanary'\n\
             [[destination]]\nname = 'bus'\nkind = 'nats'\nurl = 'tls://nats.example.com:4222'\n\
             subject_prefix = 'clerk.copy'\nstream = 'COPY'\ntoken = 'canarycanary'\n"
        );
        let all = load(&text, &[]).unwrap();
        let [crm, app, bus] = &all[..] else { panic!("{all:?}") };
        let DestinationKind::Webhook { secrets } = &crm.kind else { panic!("{crm:?}") };
        assert_eq!((secrets.len(), crm.host()), (2, "crm.example.com".to_owned()));
        assert_eq!(crm.entities, [Entity::User, Entity::Member]);
        assert_eq!(app.url.expose_secret(), "https://happy-otter-123.convex.cloud");
        assert_eq!(app.entities, Entity::ALL);
        let DestinationKind::Nats { subject_prefix, stream, .. } = &bus.kind else { panic!("{bus:?}") };
        assert_eq!((subject_prefix.as_str(), stream.as_deref()), ("clerk.copy", Some("COPY")));
        assert!(!format!("{all:?}").contains("canary"), "{all:?}");
        let known: Vec<String> = all.iter().flat_map(DestinationSettings::secrets).map(|(name, _)| name).collect();
        let expected = ["CRM_SECRET", "CRM_SECRET", "APP_DEPLOY_KEY", "BUS_TOKEN"];
        assert_eq!(known, expected.map(|name| format!("FAIRCOPY_DESTINATION_{name}")));
    }

    #[test]
    fn what_it_leads_to_and_wants_is_its_target_and_its_secret_is_not() {
        let target = |rest: &str| {
            let head = "[[destination]]\nname = 'crm'\nkind = 'webhook'\n";
            load(&format!("{head}{rest}"), &[]).unwrap().remove(0).target()
        };
        let first = target(&format!("url = 'https://a.example/x'\nsecret = '{SECRET}'\n"));
        assert_eq!(first, target(&format!("url = 'https://a.example/x'\nsecret = '{OTHER}'\n")));
        assert_ne!(first, target(&format!("url = 'https://a.example/y'\nsecret = '{SECRET}'\n")));
        let users = format!("url = 'https://a.example/x'\nsecret = '{SECRET}'\nentities = ['user']\n");
        assert_ne!(first, target(&users));
    }

    #[test]
    fn secrets_come_from_variables_and_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, format!("{SECRET}\n")).unwrap();
        let path = path.to_str().unwrap();
        let head = "[[destination]]\nname = 'my-crm'\nkind = 'webhook'\nurl = 'https://a.example/'\n";
        assert!(load(&format!("{head}secret_file = '{path}'\n"), &[]).is_ok());
        assert!(load(head, &[("FAIRCOPY_DESTINATION_MY_CRM_SECRET", SECRET)]).is_ok());
        assert!(load(head, &[("FAIRCOPY_DESTINATION_MY_CRM_SECRET_FILE", path)]).is_ok());
        let missing = load(&format!("{head}secret_file = '/nonexistent/secret'\n"), &[]).unwrap_err();
        assert!(missing.contains("destination.secret_file"), "{missing}");
    }

    #[test]
    fn unusable_values_are_refused_by_name() {
        let check = |rest: &str, expected: &str| {
            let error = load(&format!("[[destination]]\n{rest}"), &[]).unwrap_err();
            assert!(error.contains(expected) && !error.contains("canary"), "{error}");
        };
        let webhook = |rest: &str| format!("name = 'a'\nkind = 'webhook'\n{rest}");
        let whole = |rest: &str| webhook(&format!("url = 'https://a.example/canary'\nsecret = '{SECRET}'\n{rest}"));
        check("kind = 'webhook'", "destination.name");
        check("name = 'A'\nkind = 'webhook'", "destination.name");
        check("name = 'a'\nkind = 'canary'", "destination.kind");
        check(&webhook(""), "FAIRCOPY_DESTINATION_A_URL is not set");
        check(&webhook("url = 'https://a.example/canary'"), "FAIRCOPY_DESTINATION_A_SECRET is not set");
        check(&webhook("url = 'https://a.example/'\nsecret = 'canary'"), "FAIRCOPY_DESTINATION_A_SECRET");
        check(&whole("deploy_key = 'canary'"), "destination.deploy_key");
        check(&whole("stream = 'canary'"), "destination.stream");
        check(&whole("entities = ['canary']"), "destination.entities");
        check(&whole("entities = []"), "destination.entities");
        let convex = "name = 'a'\nkind = 'convex'\nurl = 'https://a.convex.cloud'\n";
        check(convex, "FAIRCOPY_DESTINATION_A_DEPLOY_KEY is not set");
        check(&format!("{convex}deploy_key = 'canary canary'"), "FAIRCOPY_DESTINATION_A_DEPLOY_KEY");
        let nats = "name = 'a'\nkind = 'nats'\nurl = 'tls://nats.example.com'\n";
        check(&format!("{nats}subject_prefix = 'a..canary'"), "destination.subject_prefix");
        check(&format!("{nats}stream = 'a.canary'"), "destination.stream");
        check(&format!("{nats}credentials_file = '/nonexistent/nats.creds'"), "destination.credentials_file");
        let twice = format!("{}[[destination]]\n{}", whole(""), whole(""));
        check(&twice, "twice");
        let many: String = (0..9)
            .map(|n| format!("[[destination]]\nname = 'a{n}'\nkind = 'nats'\nurl = 'tls://nats.example.com'\n"))
            .collect();
        assert!(load(&many, &[]).unwrap_err().contains("9 times"));
    }

    #[test]
    fn private_addresses_must_be_allowed() {
        let check = |kind: &str, url: &str, public: bool, private: bool| {
            assert_eq!(url_of(url, kind, false).is_ok(), public, "{url}");
            assert_eq!(url_of(url, kind, true).is_ok(), private, "{url} with allow_private");
        };
        check("webhook", "https://app.example.com/hook?x=1", true, true);
        check("webhook", "http://app.example.com/hook", false, true);
        for url in [
            "https://10.0.0.1/x",
            "https://127.0.0.1/x",
            "https://localhost/x",
            "https://app.localhost/x",
            "https://[::1]/x",
            "https://169.254.169.254/latest",
            "https://0x7f.1/x",
            "https://2130706433/x",
            "http://127.0.0.1:3000/x",
        ] {
            check("webhook", url, false, true);
        }
        for url in ["https://u:canary@a.example/", "https://a.example/#x", "ftp://a.example/", "a.example"] {
            check("webhook", url, false, false);
        }
        check("convex", "https://a.convex.cloud/api/mutation", false, false);
        check("nats", "tls://nats.example.com:4222", true, true);
        check("nats", "nats://nats.example.com:4222", false, true);
        check("nats", "nats://127.0.0.1:4222", false, true);
        check("nats", "tls://0x7f.1:4222", false, true);
    }
}

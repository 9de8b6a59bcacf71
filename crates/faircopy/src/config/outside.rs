//! The services outside that a cascade tells what has gone: Liveblocks, and steps of the application's own.

use std::collections::HashSet;

use faircopy_core::signature::Secret;
use secrecy::SecretString;
use serde::Deserialize;

use super::clerk::address;
use super::{ConfigError, Sources};

/// Liveblocks' API, unless set.
const DEFAULT_LIVEBLOCKS_URL: &str = "https://api.liveblocks.io";
/// The name of the target that Liveblocks is.
pub const LIVEBLOCKS: &str = "liveblocks";
/// Steps that can be set: each has calls under way and a gate of its own.
const MAX_STEPS: usize = 16;
/// Characters of a step's name: it is part of a variable's and of a metric's.
const MAX_STEP_NAME: usize = 32;

/// Liveblocks' REST API.
#[derive(Debug, Clone)]
pub struct LiveblocksApi {
    /// `LIVEBLOCKS_SECRET_KEY`: rooms are left where they are without it.
    pub secret_key: Option<SecretString>,
    /// `LIVEBLOCKS_API_URL`, without a slash at the end.
    pub url: String,
}

/// A step of the application's own.
#[derive(Debug, Clone)]
pub struct StepSettings {
    /// The name by which content names it.
    pub name: String,
    /// Where it is told.
    pub url: String,
    /// What the messages are signed with.
    pub secret: Secret,
}

/// `[liveblocks]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LiveblocksFile {
    secret_key: Option<String>,
    api_url: Option<String>,
}

/// `[[step]]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StepFile {
    name: Option<String>,
    url: Option<String>,
    secret: Option<String>,
}

impl LiveblocksFile {
    pub(super) fn read(&self, sources: &Sources<'_>) -> Result<LiveblocksApi, ConfigError> {
        let secret_key = sources.first(None, &["LIVEBLOCKS_SECRET_KEY"], self.secret_key.clone())?;
        let url = sources.first(None, &["LIVEBLOCKS_API_URL"], self.api_url.clone())?;
        Ok(LiveblocksApi {
            secret_key: secret_key.map(|key| key.read(secret_key_of)).transpose()?,
            url: url.map_or(Ok(DEFAULT_LIVEBLOCKS_URL.into()), |url| url.read(api_url_of))?,
        })
    }
}

/// All steps, each with a name of its own.
pub(super) fn steps(files: &[StepFile], sources: &Sources<'_>) -> Result<Vec<StepSettings>, ConfigError> {
    let invalid = |fault: String| Err(ConfigError::Invalid { name: "step".into(), fault });
    if files.len() > MAX_STEPS {
        return invalid(format!("stands there {} times; expected at most {MAX_STEPS}", files.len()));
    }
    let steps = files.iter().map(|file| file.read(sources)).collect::<Result<Vec<_>, _>>()?;
    let mut variables = HashSet::new();
    match steps.iter().find(|step| !variables.insert(variable_of(&step.name))) {
        Some(step) => invalid(format!("`{}` stands there twice; expected names that differ", step.name)),
        None => Ok(steps),
    }
}

impl StepFile {
    fn read(&self, sources: &Sources<'_>) -> Result<StepSettings, ConfigError> {
        let wrong = |name: &str, fault: &str| ConfigError::Invalid { name: name.into(), fault: fault.into() };
        let name = self.name.as_deref().filter(|name| is_name(name));
        let name = name.ok_or_else(|| {
            let fault = "is not a name; expected 1 to 32 small letters, digits, `_` and `-`, other than `liveblocks`";
            wrong("step.name", fault)
        })?;
        let url = self.url.as_deref().filter(|url| address(url).is_some());
        let url = url.ok_or_else(|| {
            let fault = "is not an address; expected `https://app.example.com/deleted` (plain http only on loopback)";
            wrong("step.url", fault)
        })?;
        let variable = variable_of(name);
        let secret = sources.first(None, &[&variable], self.secret.clone())?;
        let missing = || wrong(&variable, "is not set; expected `whsec_<base64>`");
        let secret = secret.ok_or_else(missing)?.read(secret_of)?;
        Ok(StepSettings { name: name.to_owned(), url: url.to_owned(), secret })
    }
}

fn is_name(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    (1..=MAX_STEP_NAME).contains(&text.len()) && text.bytes().all(letter) && text != LIVEBLOCKS
}

/// The variable that has the secret of a step.
pub(super) fn variable_of(name: &str) -> String {
    format!("FAIRCOPY_STEP_{}_SECRET", name.to_ascii_uppercase().replace('-', "_"))
}

fn secret_of(text: &str) -> Result<Secret, String> {
    Secret::parse(text).map_err(|error| format!("{error}; expected `whsec_<base64>`"))
}

fn api_url_of(text: &str) -> Result<String, &'static str> {
    address(text).ok_or("is not an address; expected `https://api.liveblocks.io` (plain http only on loopback)")
}

fn secret_key_of(text: &str) -> Result<SecretString, &'static str> {
    if text.starts_with("sk_") && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned().into())
    } else {
        Err("is not a secret key of Liveblocks; expected `sk_…`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    fn file(name: &str, url: &str, secret: Option<&str>) -> StepFile {
        StepFile { name: Some(name.into()), url: Some(url.into()), secret: secret.map(Into::into) }
    }

    #[test]
    fn a_step_has_a_name_an_address_and_a_secret() {
        let check = |name: &str, url: &str, secret: Option<&str>, fault: Option<&str>| {
            let environment = Environment([("FAIRCOPY_STEP_SET_BY_HAND_SECRET".to_owned(), SECRET.to_owned())].into());
            let read = steps(&[file(name, url, secret)], &Sources { environment: &environment });
            assert_eq!(
                read.err().map(|error| error.to_string()).as_deref().map(|text| text.split(' ').next().unwrap()),
                fault,
                "{name} {url}"
            );
        };
        let url = "https://app.example.com/deleted/";
        check("search", url, Some(SECRET), None);
        check("set-by-hand", url, None, None);
        check("search", "http://127.0.0.1:3000/deleted", Some(SECRET), None);
        check("", url, Some(SECRET), Some("step.name"));
        check("Search", url, Some(SECRET), Some("step.name"));
        check("liveblocks", url, Some(SECRET), Some("step.name"));
        check(&"s".repeat(33), url, Some(SECRET), Some("step.name"));
        check("search", "http://app.example.com/deleted", Some(SECRET), Some("step.url"));
        check("search", "https://10.0.0.1/deleted", Some(SECRET), Some("step.url"));
        check("search", "https://169.254.169.254/latest", Some(SECRET), Some("step.url"));
        check("search", "https://user:password@app.example.com/", Some(SECRET), Some("step.url"));
        check("search", url, None, Some("FAIRCOPY_STEP_SEARCH_SECRET"));
        check("search", url, Some("whsec_c2hvcnQ="), Some("FAIRCOPY_STEP_SEARCH_SECRET"));
        check("search", url, Some("hunter2!"), Some("FAIRCOPY_STEP_SEARCH_SECRET"));
    }

    #[test]
    fn steps_are_told_apart_and_few() {
        let environment = Environment::default();
        let read = |names: &[&str]| {
            let files: Vec<StepFile> = names.iter().map(|name| file(name, "https://a.example", Some(SECRET))).collect();
            steps(&files, &Sources { environment: &environment }).map(|steps| steps.len())
        };
        assert_eq!(read(&["a", "b"]), Ok(2));
        assert!(read(&["a", "a"]).is_err());
        assert!(read(&["a-b", "a_b"]).is_err(), "they would share a variable");
        let many: Vec<String> = (0..17).map(|number| format!("s{number}")).collect();
        assert!(read(&many.iter().map(String::as_str).collect::<Vec<_>>()).is_err());
        let slash = steps(&[file("a", "https://a.example/x/", Some(SECRET))], &Sources { environment: &environment });
        let slash = slash.unwrap();
        assert_eq!(slash[0].url, "https://a.example/x/", "a path stays as it is written");
        assert!(!format!("{slash:?}").contains("MfKQ9r8"));
    }
}

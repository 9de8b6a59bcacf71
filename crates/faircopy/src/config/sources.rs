//! Where a setting comes from: a flag, the environment, a file that the environment names, `faircopy.toml`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::{ConfigError, File};

/// The file that is read when it is there.
const DEFAULT_FILE: &str = "faircopy.toml";

/// What the command line says; it goes before everything else.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--database-url`.
    pub database_url: Option<String>,
    /// `--app-database-url`.
    pub app_database_url: Option<String>,
    /// `--as-role`.
    pub app_role: Option<String>,
    /// `--listen`.
    pub listen: Option<String>,
    /// `--allow-unsafe-durability`.
    pub allow_unsafe_durability: bool,
}

/// The environment, as a value.
#[derive(Debug, Clone, Default)]
pub struct Environment(pub HashMap<String, String>);

impl Environment {
    /// The process's own.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this module is the one reader of the environment")]
    pub fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
        )
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }
}

/// The environment, and the order in which it is asked.
pub(super) struct Sources<'a> {
    pub(super) environment: &'a Environment,
}

/// A setting that is set: what it is called there, and its text.
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) value: String,
}

impl Setting {
    pub(super) fn fallback(name: &str, value: &str) -> Self {
        Self { name: name.into(), value: value.into() }
    }

    pub(super) fn read<T, F: ToString>(&self, parse: impl Fn(&str) -> Result<T, F>) -> Result<T, ConfigError> {
        let invalid = |fault: F| ConfigError::Invalid { name: self.name.clone(), fault: fault.to_string() };
        parse(self.value.trim()).map_err(invalid)
    }
}

impl Sources<'_> {
    /// The first that is set: the flag, each variable or the file that it names, the configuration file.
    pub(super) fn first(
        &self,
        flag: Option<String>,
        variables: &[&str],
        file: Option<String>,
    ) -> Result<Option<Setting>, ConfigError> {
        let name = variables[0].to_owned();
        if let Some(value) = flag {
            return Ok(Some(Setting { name, value }));
        }
        for variable in variables {
            if let Some(value) = self.environment.get(variable) {
                return Ok(Some(Setting { name: (*variable).into(), value: value.into() }));
            }
            // A secret that is set and blank is a mistake, not an absence.
            if self.environment.0.contains_key(*variable) && variable.ends_with("SECRET") {
                return Ok(Some(Setting { name: (*variable).into(), value: String::new() }));
            }
            let from_file = format!("{variable}_FILE");
            if let Some(path) = self.environment.get(&from_file) {
                let value = std::fs::read_to_string(path).map_err(|error| ConfigError::File {
                    name: from_file,
                    path: path.into(),
                    fault: error.kind().to_string(),
                })?;
                return Ok(Some(Setting { name: (*variable).into(), value: value.trim().to_owned() }));
            }
        }
        Ok(file.map(|value| Setting { name, value }))
    }
}

/// Whether an alias is set to something else than the name that goes before it.
pub(super) fn is_overshadowed(environment: &Environment, name: &str, alias: &str) -> bool {
    let (first, second) = (environment.get(name), environment.get(alias));
    first.zip(second).is_some_and(|(first, second)| first != second)
}

pub(super) fn read_file(flags: &Flags, environment: &Environment) -> Result<(Option<PathBuf>, File), ConfigError> {
    let named = flags.config.clone().or_else(|| environment.get("FAIRCOPY_CONFIG").map(PathBuf::from));
    let path = named.clone().unwrap_or_else(|| DEFAULT_FILE.into());
    if named.is_none() && !path.exists() {
        return Ok((None, File::default()));
    }
    let text = std::fs::read_to_string(&path).map_err(|error| ConfigError::File {
        name: "--config".into(),
        path: path.display().to_string(),
        fault: error.kind().to_string(),
    })?;
    let file = parse_file(&text, &path)?;
    Ok((Some(path), file))
}

pub(super) fn parse_file(text: &str, path: &Path) -> Result<File, ConfigError> {
    toml::from_str(text).map_err(|error| {
        // The message names the key and the expected form; the excerpt could show a secret and is left out.
        let message = error.message().replace('\n', "; ");
        // So could the message about a value of the wrong type, which does not name the key.
        let wrong_type = message.split_once("expected ").filter(|(before, _)| before.starts_with("invalid "));
        let key = error.span().and_then(|span| key_at(text, span.start));
        let fault = match (wrong_type, key) {
            (Some((_, expected)), Some(key)) => format!("cannot be used: `{key}` must be {expected}"),
            (Some((_, expected)), None) => format!("cannot be used: expected {expected}"),
            (None, _) => format!("cannot be used: {message}"),
        };
        ConfigError::Invalid { name: path.display().to_string(), fault }
    })
}

/// The key on the line that holds this place.
fn key_at(text: &str, at: usize) -> Option<&str> {
    let start = text.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
    let (key, _) = text.get(start..)?.lines().next()?.split_once('=')?;
    let key = key.trim();
    (!key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))).then_some(key)
}

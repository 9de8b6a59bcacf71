//! The settings, before anything is asked.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt as _;

use faircopy_core::signature::Secret;
use secrecy::ExposeSecret as _;

use super::Answer;
use crate::config::{Config, ConfigError};

/// Different characters that an admin token has at least: 32 random hexadecimal digits have fewer than 8 once in ten million times.
const MIN_TOKEN_LETTERS: usize = 8;
/// Whoever is neither the owner nor of the group may read.
const READABLE_BY_ALL: u32 = 0o004;

pub(super) fn unusable(error: &ConfigError) -> Answer {
    Answer::failed(
        "configuration-invalid",
        error.to_string(),
        "Correct the setting; `faircopy.example.toml` has every key with its form.",
    )
}

pub(super) fn configuration(config: &Config) -> Answer {
    let read = config.file.as_ref().map_or("no file".to_owned(), |path| path.display().to_string());
    let listens = format!("{read}; listens on {}", config.listen);
    if let Some((alias, name)) = config.overshadowed.first() {
        return Answer::warning(
            "setting-not-read",
            format!("{alias} is set, and {name} goes before it with another value"),
            format!("Unset {alias}, or give both the same value."),
        );
    }
    let is_open = |path: &std::path::PathBuf| {
        let mode = std::fs::metadata(path).ok()?.permissions().mode();
        (mode & READABLE_BY_ALL != 0 && !config.secrets().is_empty() && holds_secrets(path)).then_some(mode & 0o777)
    };
    if let (Some(path), Some(mode)) = (&config.file, config.file.as_ref().and_then(is_open)) {
        return Answer::warning(
            "secrets-readable",
            format!(
                "{} holds secrets and has the mode {mode:03o}: every user of this machine can read it",
                path.display()
            ),
            format!("chmod 600 {}", path.display()),
        );
    }
    match &config.admin_token {
        None => Answer::warning(
            "admin-disabled",
            format!("{listens}; no FAIRCOPY_ADMIN_TOKEN is set: the admin API and the dashboard are off"),
            "Set FAIRCOPY_ADMIN_TOKEN to at least 32 random characters (`openssl rand -hex 32`).",
        ),
        Some(token) if letters(token.expose_secret()) < MIN_TOKEN_LETTERS => Answer::warning(
            "admin-token-weak",
            format!("FAIRCOPY_ADMIN_TOKEN has {} different characters", letters(token.expose_secret())),
            "Make one by chance: `openssl rand -hex 32`.",
        ),
        Some(_) => Answer::ok(format!("{listens}; admin API on")),
    }
}

fn letters(text: &str) -> usize {
    text.chars().collect::<BTreeSet<_>>().len()
}

/// Whether a line of the file sets one of the keys of secrets.
fn holds_secrets(path: &std::path::Path) -> bool {
    const KEYS: [&str; 4] = ["admin_token", "webhook_signing_secret", "secret_key", "secret"];
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| line.split_once('=')).any(|(key, _)| KEYS.contains(&key.trim()))
}

pub(super) fn signing_secrets(config: &Config) -> Answer {
    let secrets = &config.webhook.secrets;
    let shown: Vec<String> = secrets.iter().map(|secret| format!("…{}", secret.last_four())).collect();
    let shown = shown.join(", ");
    match secrets.len() {
        0 => Answer::failed(
            "no-signing-secret",
            "none is set: every delivery is sent back (503)",
            "Copy the endpoint's signing secret (`whsec_…`) from Clerk's dashboard into CLERK_WEBHOOK_SIGNING_SECRET.",
        ),
        count if has_twins(secrets) => Answer::warning(
            "signing-secret-twice",
            format!("{count} are set, and some are the same: {shown}"),
            "While a secret is replaced both the old and the new one must be set; afterwards one is enough.",
        ),
        1 => Answer::ok(format!("1 is set: {shown}")),
        count => Answer::ok(format!("{count} are set, and all are accepted: {shown}")),
    }
}

/// Whether two are the same: they sign alike.
fn has_twins(secrets: &[Secret]) -> bool {
    let signed: BTreeSet<String> = secrets.iter().map(|secret| secret.sign("", 0, b"")).collect();
    signed.len() < secrets.len()
}

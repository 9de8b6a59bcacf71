//! What can be set about an instance.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What can be set about an instance, before it starts and while it runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Whether the deletion of an organization or a user also sends the events of what goes with it.
    pub child_events: bool,
    /// Whether `GET /v1/users` honours `starting_after`; an older deployment ignores it.
    pub cursors: bool,
    /// Whether the instance has organizations; without, every route for them answers 403.
    pub organizations: bool,
    /// How many members an organization may have unless it says otherwise; 0 is any number.
    pub max_allowed_memberships: i64,
    /// Which version session tokens have.
    pub token_version: TokenVersion,
    /// The origin that session tokens name as their authorized party.
    pub authorized_party: Option<String>,
    /// Templates of tokens, by name.
    pub templates: BTreeMap<String, TokenTemplate>,
}

/// A version of session tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum TokenVersion {
    /// Flat claims: `org_id`, `org_role`.
    #[serde(rename = "1")]
    V1,
    /// The claim `o`.
    #[default]
    #[serde(rename = "2")]
    V2,
}

/// A template of tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenTemplate {
    /// Claims; texts may hold shortcodes such as `{{user.id}}`.
    pub claims: BTreeMap<String, Value>,
    /// How long its tokens live.
    #[serde(default = "default_lifetime")]
    pub lifetime_s: i64,
    /// How much earlier they begin to be good than they were made.
    #[serde(default = "default_skew")]
    pub allowed_clock_skew_s: i64,
}

fn default_lifetime() -> i64 {
    faircopy_world::token::LIFETIME
}

/// Clerk's default.
fn default_skew() -> i64 {
    5
}

impl Default for Options {
    fn default() -> Self {
        Self {
            child_events: true,
            cursors: true,
            organizations: true,
            max_allowed_memberships: 0,
            token_version: TokenVersion::V2,
            authorized_party: None,
            templates: BTreeMap::new(),
        }
    }
}

//! What session tokens say.

use serde_json::{Map, Value, json};

use super::document::Document;
use super::options::{TokenTemplate, TokenVersion};
use super::refusal::Refusal;
use super::sessions::status_at;
use super::store::{Instance, number_of, text_of};

/// The shortest and the longest life that a token can be given, in seconds.
const LIFETIMES: std::ops::RangeInclusive<i64> = 30..=315_360_000;
/// How much earlier than it was made a session token begins to be good, in seconds.
const SKEW_S: i64 = 10;
/// Letters of a token's own id.
const ID_LETTERS: usize = 20;
/// Claims that a template cannot set: they are the token's own.
const OWN: [&str; 7] = ["azp", "exp", "iat", "iss", "jti", "nbf", "sub"];
/// Claims that only tokens of a session have.
const OF_SESSIONS: [&str; 4] = ["sid", "v", "pla", "fea"];

/// What is to be signed.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    /// Whether it is a session's own token, and not one of a template.
    pub of_session: bool,
    /// The claims.
    pub claims: Map<String, Value>,
}

/// Whom a token is about.
struct About {
    session: Document,
    user: Document,
    /// The active organization and the membership in it.
    organization: Option<(Document, Document)>,
}

impl Instance {
    /// The claims of a new token for a session, made now.
    pub fn token_claims(
        &mut self,
        session: &str,
        template: Option<&str>,
        lifetime_s: Option<i64>,
        issuer: &str,
        now: i64,
    ) -> Result<Claims, Refusal> {
        let session = self.session_document(session, now)?;
        if status_at(&session, now) != "active" {
            return Err(Refusal::not_found("The session is not active."));
        }
        if lifetime_s.is_some_and(|seconds| !LIFETIMES.contains(&seconds)) {
            return Err(Refusal::out_of_bounds("expires_in_seconds", "from 30 to 315360000"));
        }
        let user = self.user(text_of(&session, "user_id").unwrap_or_default())?;
        let organization = self.active_organization(&session);
        let about = About { session, user, organization };
        let seconds = now.div_euclid(1000);
        let template = template.map(|name| self.template(name)).transpose()?;
        let (lifetime, skew) = match &template {
            Some(template) => (template.lifetime_s, template.allowed_clock_skew_s),
            None => (faircopy_world::token::LIFETIME, SKEW_S),
        };
        let mut claims = Map::new();
        if let Some(template) = &template {
            claims.extend(template.claims.iter().map(|(name, value)| (name.clone(), about.filled(value))));
            claims.retain(|name, _| !OWN.contains(&name.as_str()) && !OF_SESSIONS.contains(&name.as_str()));
        } else {
            self.session_claims(&about, seconds, &mut claims);
        }
        claims.insert("sub".into(), about.user.get("id").cloned().unwrap_or_default());
        claims.insert("iss".into(), issuer.into());
        claims.insert("iat".into(), seconds.into());
        claims.insert("nbf".into(), (seconds - skew).into());
        claims.insert("exp".into(), (seconds + lifetime_s.unwrap_or(lifetime)).into());
        claims.insert("jti".into(), self.dice.letters(ID_LETTERS).into());
        if let Some(party) = &self.options.authorized_party {
            claims.insert("azp".into(), party.clone().into());
        }
        Ok(Claims { of_session: template.is_none(), claims })
    }

    fn template(&self, name: &str) -> Result<TokenTemplate, Refusal> {
        let missing = || Refusal::not_found(format!("No JWT template exists with name: {name}"));
        self.options.templates.get(name).cloned().ok_or_else(missing)
    }

    fn active_organization(&self, session: &Document) -> Option<(Document, Document)> {
        let id = text_of(session, "last_active_organization_id")?;
        let membership = self.membership_id(id, text_of(session, "user_id")?)?;
        Some((self.organizations.get(id)?, self.membership_document(&membership)?))
    }

    fn session_claims(&self, about: &About, now: i64, claims: &mut Map<String, Value>) {
        let age = (now - number_of(&about.session, "created_at").div_euclid(1000)).max(0) / 60;
        claims.insert("sid".into(), about.session.get("id").cloned().unwrap_or_default());
        claims.insert("fva".into(), json!([age, -1]));
        claims.insert("sts".into(), "active".into());
        let of = about.organization.as_ref().map(|(organization, membership)| {
            let role = text_of(membership, "role").unwrap_or_default();
            let own = self.roles.permissions(role).iter().filter(|key| !key.starts_with("org:sys_")).copied();
            (organization, role, own.collect::<Vec<_>>())
        });
        match (self.options.token_version, of) {
            (TokenVersion::V1, None) => {}
            (TokenVersion::V1, Some((organization, role, permissions))) => {
                claims.insert("org_id".into(), organization["id"].clone());
                claims.insert("org_slug".into(), organization.get("slug").cloned().unwrap_or_default());
                claims.insert("org_role".into(), role.into());
                claims.insert("org_permissions".into(), json!(permissions));
            }
            (TokenVersion::V2, of) => {
                claims.insert("v".into(), 2.into());
                if let Some((organization, role, permissions)) = of {
                    let mut compact = json!({
                        "id": organization["id"], "slg": organization.get("slug"),
                        "rol": role.strip_prefix("org:").unwrap_or(role),
                    });
                    if let Some((features, per, masks)) = packed(&permissions) {
                        claims.insert("fea".into(), features.into());
                        compact["per"] = per.into();
                        compact["fpm"] = masks.into();
                    }
                    claims.insert("o".into(), compact);
                }
            }
        }
    }
}

/// Permissions in version 2's form: the features, what can be done, and for each feature which of it.
fn packed(permissions: &[&str]) -> Option<(String, String, String)> {
    let pairs: Vec<(&str, &str)> =
        permissions.iter().filter_map(|key| key.strip_prefix("org:").and_then(|rest| rest.split_once(':'))).collect();
    let (mut features, mut actions) = (Vec::new(), Vec::new());
    for (feature, action) in &pairs {
        if !features.contains(feature) {
            features.push(*feature);
        }
        if !actions.contains(action) {
            actions.push(*action);
        }
    }
    let mask = |feature: &&str| -> String {
        let bits = actions.iter().enumerate().filter(|(_, action)| pairs.contains(&(*feature, **action)));
        bits.fold(0_u64, |mask, (bit, _)| mask | (1 << bit)).to_string()
    };
    let named: Vec<String> = features.iter().map(|feature| format!("o:{feature}")).collect();
    let masks: Vec<String> = features.iter().map(mask).collect();
    (!pairs.is_empty()).then(|| (named.join(","), actions.join(","), masks.join(",")))
}

impl About {
    /// A template's value with its shortcodes filled in.
    fn filled(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.text(text),
            Value::Array(items) => items.iter().map(|item| self.filled(item)).collect(),
            Value::Object(members) => members.iter().map(|(key, value)| (key.clone(), self.filled(value))).collect(),
            other => other.clone(),
        }
    }

    /// A text that is one shortcode becomes its value; shortcodes among other text become a part of the text.
    fn text(&self, text: &str) -> Value {
        let whole = text.strip_prefix("{{").and_then(|rest| rest.strip_suffix("}}"));
        if let Some(code) = whole.filter(|code| !code.contains("{{")) {
            return self.code(code);
        }
        let (mut out, mut rest) = (String::new(), text);
        while let Some((before, code, after)) = rest
            .split_once("{{")
            .and_then(|(before, rest)| rest.split_once("}}").map(|(code, after)| (before, code, after)))
        {
            out.push_str(before);
            match self.code(code) {
                Value::Null => {}
                Value::String(value) => out.push_str(&value),
                other => out.push_str(&other.to_string()),
            }
            rest = after;
        }
        out.push_str(rest);
        Value::String(out)
    }

    /// The first alternative that is something.
    fn code(&self, code: &str) -> Value {
        let alternatives = code.split("||").map(str::trim);
        let value = |one: &str| match one.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
            Some(literal) => literal.into(),
            None => self.named(one),
        };
        alternatives.map(value).find(|value| !value.is_null()).unwrap_or_default()
    }

    fn named(&self, name: &str) -> Value {
        let mut parts = name.split('.');
        let root = parts.next().unwrap_or_default();
        let path: Vec<&str> = parts.collect();
        let organization = self.organization.as_ref();
        let (document, first) = match (root, path.split_first()) {
            ("user", Some((first, _))) => (Some(&self.user), *first),
            ("session", Some((first, _))) => (Some(&self.session), *first),
            ("org", Some((&"role", _))) => (organization.map(|(_, membership)| membership), "role"),
            ("org", Some((first, _))) => (organization.map(|(organization, _)| organization), *first),
            ("org_membership", Some((first, _))) => (organization.map(|(_, membership)| membership), *first),
            _ => return Value::Null,
        };
        let Some(document) = document else { return Value::Null };
        let start = match (root, first) {
            ("user", "primary_email_address") => super::memberships::identifier_of(document),
            ("user", "full_name") => full_name(document),
            _ => document.get(first).cloned().unwrap_or_default(),
        };
        path[1..].iter().fold(start, |value, part| value.get(part).cloned().unwrap_or_default())
    }
}

fn full_name(user: &Document) -> Value {
    let parts: Vec<&str> = ["first_name", "last_name"].iter().filter_map(|name| text_of(user, name)).collect();
    if parts.is_empty() { Value::Null } else { parts.join(" ").into() }
}

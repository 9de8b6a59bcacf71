//! What is known of the Clerk instance: who issues its session tokens, with which key, and where its Backend API is.

use std::net::IpAddr;

use faircopy_core::token::{DEFAULT_STALE_MS, Keys, Policy};
use reqwest::Url;
use secrecy::SecretString;
use serde::Deserialize;

use super::{ConfigError, Sources, switch_of};
use crate::upstream::address::is_public;

/// Clerk's Backend API, unless set.
const DEFAULT_API_URL: &str = "https://api.clerk.com";
/// Values in one list: more are a mistake, and each token would be compared with all of them.
const MAX_LIST: usize = 64;

/// The part of the settings that says which session tokens are good. Without an issuer and a key no token is, and the
/// routes for applications say that they are not set up.
#[derive(Debug, Clone, Default)]
pub struct Sessions {
    /// `CLERK_JWT_ISSUER_DOMAIN`, as `iss` names it.
    pub issuer: Option<String>,
    /// `CLERK_JWT_KEY`: with it nothing is ever fetched.
    pub key: Option<Keys>,
    /// `CLERK_JWT_AUDIENCE`.
    pub audiences: Vec<String>,
    /// `CLERK_AUTHORIZED_PARTIES`: the application's origins.
    pub authorized_parties: Vec<String>,
    /// How long keys are used while the issuer cannot be reached.
    pub stale_keys_ms: i64,
}

impl Sessions {
    /// Whether any token can be good.
    #[must_use]
    pub fn are_configured(&self) -> bool {
        self.issuer.is_some() || self.key.is_some()
    }

    /// What a token must say.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy {
            audiences: self.audiences.clone(),
            authorized_parties: self.authorized_parties.clone(),
            ..Policy::new(self.issuer.clone())
        }
    }
}

/// Clerk's Backend API.
#[derive(Debug, Clone)]
pub struct BackendApi {
    /// `CLERK_SECRET_KEY`.
    pub secret_key: Option<SecretString>,
    /// `CLERK_API_URL`, without a slash at the end.
    pub url: String,
    /// `FAIRCOPY_PROBE`: whether `serve` looks each minute if it is still told of everything.
    pub probe: bool,
}

/// `[clerk]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClerkFile {
    pub(super) webhook_signing_secret: Option<String>,
    pub(super) instance_id: Option<String>,
    secret_key: Option<String>,
    api_url: Option<String>,
    jwt_issuer_domain: Option<String>,
    jwt_key: Option<String>,
    jwt_audience: Option<String>,
    authorized_parties: Option<String>,
    probe: Option<String>,
}

impl ClerkFile {
    pub(super) fn sessions(&self, sources: &Sources<'_>) -> Result<Sessions, ConfigError> {
        let first = |variables: &[&str], file: &Option<String>| sources.first(None, variables, file.clone());
        let issuer = first(&["CLERK_JWT_ISSUER_DOMAIN", "CLERK_FRONTEND_API_URL"], &self.jwt_issuer_domain)?;
        let key = first(&["CLERK_JWT_KEY"], &self.jwt_key)?;
        let audiences = first(&["CLERK_JWT_AUDIENCE"], &self.jwt_audience)?;
        let parties = first(&["CLERK_AUTHORIZED_PARTIES"], &self.authorized_parties)?;
        Ok(Sessions {
            issuer: issuer.map(|issuer| issuer.read(issuer_of)).transpose()?,
            key: key.map(|key| key.read(key_of)).transpose()?,
            audiences: audiences.map_or(Ok(Vec::new()), |list| list.read(audiences_of))?,
            authorized_parties: parties.map_or(Ok(Vec::new()), |list| list.read(parties_of))?,
            stale_keys_ms: DEFAULT_STALE_MS,
        })
    }

    pub(super) fn api(&self, sources: &Sources<'_>) -> Result<BackendApi, ConfigError> {
        let secret_key = sources.first(None, &["CLERK_SECRET_KEY"], self.secret_key.clone())?;
        let url = sources.first(None, &["CLERK_API_URL"], self.api_url.clone())?;
        let probe = sources.first(None, &["FAIRCOPY_PROBE"], self.probe.clone())?;
        Ok(BackendApi {
            secret_key: secret_key.map(|key| key.read(secret_key_of)).transpose()?,
            url: url.map_or(Ok(DEFAULT_API_URL.into()), |url| url.read(api_url_of))?,
            probe: probe.map_or(Ok(true), |probe| probe.read(switch_of))?,
        })
    }
}

/// The issuer as tokens name it. Clerk's dashboard shows it with and without the scheme.
fn issuer_of(text: &str) -> Result<String, &'static str> {
    const FORM: &str = "is not an issuer; expected `https://clerk.example.com` (plain http only on loopback)";
    let whole = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    address(&whole).ok_or(FORM)
}

fn api_url_of(text: &str) -> Result<String, &'static str> {
    address(text).ok_or("is not an address; expected `https://api.clerk.com` (plain http only on loopback)")
}

/// An address that may be asked: https, or plain http on this machine. Nothing but a host, a port and a path; no address
/// of a network that is not public, from where a cloud would give its secrets away.
pub(super) fn address(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
    let ip = host.parse::<IpAddr>().ok();
    let loopback = ip.map_or(host == "localhost", |ip| ip.is_loopback());
    let scheme = url.scheme() == "https" || (url.scheme() == "http" && loopback);
    let public = ip.is_none_or(|ip| loopback || is_public(ip));
    let plain =
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    (scheme && public && plain).then(|| text.trim_end_matches('/').to_owned())
}

fn key_of(text: &str) -> Result<Keys, String> {
    Keys::from_pem(text).map_err(|error| format!("{error}; expected the dashboard's JWKS public key in PEM form"))
}

fn secret_key_of(text: &str) -> Result<SecretString, &'static str> {
    if text.starts_with("sk_") && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.to_owned().into())
    } else {
        Err("is not a secret key; expected `sk_live_…` or `sk_test_…`")
    }
}

fn audiences_of(text: &str) -> Result<Vec<String>, &'static str> {
    list(text).ok_or("is not a list; expected audiences separated by commas")
}

fn parties_of(text: &str) -> Result<Vec<String>, &'static str> {
    const FORM: &str = "is not a list of origins; expected `https://app.example.com`, several separated by commas";
    let parties = list(text).ok_or(FORM)?;
    // `azp` is an origin, which never ends with a slash: such a party would match nobody.
    if parties.iter().any(|party| party.ends_with('/') || !party.contains("://")) { Err(FORM) } else { Ok(parties) }
}

/// The values of a list with commas, if there are not too many.
pub(super) fn list(text: &str) -> Option<Vec<String>> {
    let values: Vec<String> =
        text.split(',').map(str::trim).filter(|value| !value.is_empty()).map(ToOwned::to_owned).collect();
    (1..=MAX_LIST).contains(&values.len()).then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_an_address_that_may_be_asked() {
        let check =
            |text: &str, expected: Option<&str>| assert_eq!(issuer_of(text).ok().as_deref(), expected, "{text}");
        check("https://clerk.example.com", Some("https://clerk.example.com"));
        check("https://clerk.example.com/", Some("https://clerk.example.com"));
        check("clerk.example.com", Some("https://clerk.example.com"));
        check("https://app.example.com/__clerk", Some("https://app.example.com/__clerk"));
        check("http://127.0.0.1:4000", Some("http://127.0.0.1:4000"));
        check("http://[::1]:4000", Some("http://[::1]:4000"));
        check("http://localhost:4000", Some("http://localhost:4000"));
        check("http://clerk.example.com", None);
        check("http://169.254.169.254", None);
        check("https://169.254.169.254", None);
        check("https://10.0.0.1", None);
        check("https://100.64.0.1", None);
        check("https://[fd00::1]", None);
        check("https://[::ffff:10.0.0.1]", None);
        check("https://user:password@clerk.example.com", None);
        check("https://clerk.example.com?x=1", None);
        check("ftp://clerk.example.com", None);
        check("https://", None);
        check("not an address", None);
    }

    #[test]
    fn lists_are_separated_by_commas() {
        assert_eq!(audiences_of(" a, b ,,").unwrap(), ["a", "b"]);
        assert!(audiences_of(",").is_err());
        assert_eq!(parties_of("https://a.example, http://localhost:3000").unwrap().len(), 2);
        assert!(parties_of("https://a.example/").is_err());
        assert!(parties_of("a.example").is_err());
    }
}

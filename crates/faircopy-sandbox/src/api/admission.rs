//! Who may ask, in which version, and how often.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::instance::{Query, Refusal};
use crate::keys::Keys;
use crate::limit::{Meter, RateLimit};

/// The versions of the Backend API, the oldest first.
const VERSIONS: [&str; 6] = ["2021-02-05", "2024-10-01", "2025-03-12", "2025-04-10", "2025-11-10", "2026-05-12"];
/// The header and the parameter that name one.
const VERSION_HEADER: &str = "clerk-api-version";
const VERSION_PARAM: &str = "__clerk_api_version";

/// A version of the Backend API; without a word it is the oldest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(&'static str);

impl Default for Version {
    fn default() -> Self {
        Self(VERSIONS[0])
    }
}

impl Version {
    /// Whether users and organizations take metadata with their other changes.
    pub(crate) fn updates_metadata(self) -> bool {
        self.0 < "2026-05-12"
    }
}

pub(super) fn check_key(headers: &HeaderMap, keys: &Keys) -> Result<(), Refusal> {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Some((scheme, key)) = header.split_once(' ') else {
        let long = "Invalid Authorization header format. Must be 'Bearer <YOUR_API_KEY>'";
        return Err(Refusal::new(
            401,
            "authorization_header_format_invalid",
            "invalid authorization header format",
            long,
        ));
    };
    if scheme.eq_ignore_ascii_case("bearer") && keys.admits(key.trim()) {
        return Ok(());
    }
    let short = "The provided Clerk Secret Key is invalid. Make sure that your Clerk Secret Key is correct.";
    Err(Refusal::new(401, "clerk_key_invalid", short, short))
}

pub(super) fn version(headers: &HeaderMap, query: &Query) -> Result<Version, Refusal> {
    let wrong = |reason: &str| {
        let long = format!("Invalid Clerk API version: {reason}");
        Refusal::new(400, "api_version_invalid", "invalid API version", long)
    };
    let named = match (headers.get(VERSION_HEADER), query.first(VERSION_PARAM)) {
        (Some(_), Some(_)) => return Err(wrong("it is named by the header and by the query parameter")),
        (Some(header), None) => header.to_str().map_err(|_| wrong("it is no text"))?,
        (None, Some(param)) => param,
        (None, None) => return Ok(Version::default()),
    };
    let known = VERSIONS.into_iter().find(|version| *version == named);
    known.map(Version).ok_or_else(|| wrong(&format!("there is no version {named}")))
}

pub(super) fn check_limit(
    meter: &mut Meter,
    limit: RateLimit,
    keys: &Keys,
    endpoint: &'static str,
    now: i64,
) -> Result<(), Refusal> {
    meter.take(limit, keys.is_live(), endpoint, now).map_err(too_many)
}

/// A 429, with the seconds after which another try is worth it.
pub(super) fn too_many(seconds: i64) -> Refusal {
    let long = "Too many requests, retry later";
    let refusal = Refusal::new(429, "too_many_requests", "Too many requests", long);
    Refusal { retry_after_s: Some(seconds), ..refusal }
}

pub(super) fn no_organizations() -> Refusal {
    let long = "The organizations feature is not enabled for this instance.";
    Refusal::new(403, "organization_not_enabled_in_instance", "access denied", long)
}

/// A part of a path without its percent signs.
pub(super) fn decoded(part: &str) -> String {
    // The parser of forms takes a plus for a space, and an equals sign for an end: neither is encoded in a path.
    let escaped = part.replace('+', "%2B").replace('=', "%3D").replace('&', "%26");
    form_urlencoded::parse(escaped.as_bytes()).next().map_or_else(String::new, |(key, _)| key.into_owned())
}

#[cfg(test)]
mod tests {
    use super::decoded;

    #[test]
    fn parts_of_a_path_are_decoded_and_nothing_else() {
        assert_eq!(decoded("user_1"), "user_1");
        assert_eq!(decoded("a%2Fb+c=d&e%20f"), "a/b+c=d&e f");
        assert_eq!(decoded(""), "");
    }
}

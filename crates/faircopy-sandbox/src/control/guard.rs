//! Who may use the control API: whoever sits at the machine, or has the secret key; never a page of somebody else's.

use std::net::IpAddr;

use http::uri::Authority;
use http::{HeaderMap, header};
use subtle::ConstantTimeEq as _;

/// Who is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Door {
    /// Whoever reaches a loopback address, by a name that cannot be anybody else's.
    Loopback,
    /// Whoever brings this key as bearer.
    Key(String),
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shut {
    /// The page that asks is not the sandbox's own.
    ForeignOrigin,
    /// A loopback address under a name that may be somebody's: a page may have pointed its own name here.
    ForeignHost,
    /// No key, or a wrong one.
    NoKey,
}

impl Door {
    /// Whether a request with these headers is let in.
    ///
    /// # Errors
    /// Says why not.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Shut> {
        let host = text(headers, header::HOST.as_str());
        if is_foreign(headers, host) {
            return Err(Shut::ForeignOrigin);
        }
        match self {
            Self::Loopback if host.is_some_and(is_loopback_name) => Ok(()),
            Self::Loopback => Err(Shut::ForeignHost),
            Self::Key(key) => {
                let bearer =
                    text(headers, header::AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
                let fits = bearer.is_some_and(|bearer| bearer.as_bytes().ct_eq(key.as_bytes()).into());
                if fits { Ok(()) } else { Err(Shut::NoKey) }
            }
        }
    }
}

/// Whether a browser says that another site asks.
fn is_foreign(headers: &HeaderMap, host: Option<&str>) -> bool {
    let site = text(headers, "sec-fetch-site");
    let other_site = site.is_some_and(|site| site != "same-origin" && site != "none");
    let other_origin = headers.get(header::ORIGIN).is_some_and(|origin| {
        let named = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
        named.is_none() || named != host
    });
    other_site || other_origin
}

/// `localhost` or a loopback address, with or without a port: names that nobody can point elsewhere.
fn is_loopback_name(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(door: &Door, lines: &[(&'static str, &'static str)]) -> Result<(), Shut> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.insert(*name, http::HeaderValue::from_static(value));
        }
        door.check(&headers)
    }

    #[test]
    fn a_loopback_is_open_to_programs_and_its_own_page() {
        for host in ["127.0.0.1:5500", "localhost:5500", "[::1]:5500", "127.9.9.9", "localhost"] {
            assert_eq!(check(&Door::Loopback, &[("host", host)]), Ok(()), "{host}");
        }
        let own = [("host", "localhost:5500"), ("origin", "http://localhost:5500"), ("sec-fetch-site", "same-origin")];
        assert_eq!(check(&Door::Loopback, &own), Ok(()));
        assert_eq!(check(&Door::Loopback, &[("host", "localhost"), ("sec-fetch-site", "none")]), Ok(()));
    }

    #[test]
    fn no_foreign_page_is_let_in() {
        for origin in
            ["https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1:5500", "localhost:5500", ""]
        {
            let lines = [("host", "localhost:5500"), ("origin", origin)];
            assert_eq!(check(&Door::Loopback, &lines), Err(Shut::ForeignOrigin), "{origin}");
        }
        for site in ["cross-site", "same-site"] {
            let lines = [("host", "localhost:5500"), ("sec-fetch-site", site)];
            assert_eq!(check(&Door::Loopback, &lines), Err(Shut::ForeignOrigin), "{site}");
        }
    }

    #[test]
    fn a_name_that_was_pointed_here_is_not_let_in() {
        for host in [
            "evil.example:5500",
            "127.0.0.1.evil.example",
            "localhost.evil.example:5500",
            "10.0.0.1",
            "",
            "@localhost.evil",
        ] {
            assert_eq!(check(&Door::Loopback, &[("host", host)]), Err(Shut::ForeignHost), "{host}");
        }
        let rebound = [("host", "evil.example:5500"), ("origin", "http://evil.example:5500")];
        assert_eq!(check(&Door::Loopback, &rebound), Err(Shut::ForeignHost));
        assert_eq!(check(&Door::Loopback, &[]), Err(Shut::ForeignHost));
    }

    #[test]
    fn elsewhere_the_key_is_needed() {
        let door = Door::Key("sk_test_1".into());
        assert_eq!(check(&door, &[("host", "sandbox:80"), ("authorization", "Bearer sk_test_1")]), Ok(()));
        for wrong in ["Bearer sk_test_2", "Bearer ", "sk_test_1", "Basic sk_test_1", "Bearer sk_test_11"] {
            assert_eq!(check(&door, &[("host", "sandbox:80"), ("authorization", wrong)]), Err(Shut::NoKey), "{wrong}");
        }
        assert_eq!(check(&door, &[("host", "sandbox:80")]), Err(Shut::NoKey));
        let foreign =
            [("host", "sandbox:80"), ("authorization", "Bearer sk_test_1"), ("origin", "http://evil.example")];
        assert_eq!(check(&door, &foreign), Err(Shut::ForeignOrigin));
    }
}

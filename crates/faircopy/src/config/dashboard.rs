//! The dashboard's settings.

use serde::Deserialize;

use super::{ConfigError, Sources};

/// How the dashboard is shown, and where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dashboard {
    /// `FAIRCOPY_DASHBOARD_MASK`: personal data is masked until whoever looks asks for it.
    pub mask: bool,
    /// `FAIRCOPY_DASHBOARD_ORIGIN`: where browsers reach it, if a proxy on the way changes the `Host` header.
    pub origin: Option<String>,
    /// A browser of this machine needs no token: set by `serve --dev` and `demo`, and by nothing else.
    pub is_open_here: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DashboardFile {
    mask: Option<String>,
    origin: Option<String>,
}

impl DashboardFile {
    pub(super) fn read(self, sources: &Sources<'_>) -> Result<Dashboard, ConfigError> {
        let mask = sources.first(None, &["FAIRCOPY_DASHBOARD_MASK"], self.mask)?;
        let origin = sources.first(None, &["FAIRCOPY_DASHBOARD_ORIGIN"], self.origin)?;
        Ok(Dashboard {
            mask: mask.map_or(Ok(false), |mask| mask.read(switch_of))?,
            origin: origin.map(|origin| origin.read(origin_of)).transpose()?,
            is_open_here: false,
        })
    }
}

fn switch_of(text: &str) -> Result<bool, &'static str> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("is unknown; expected `on` or `off`"),
    }
}

/// As browsers write it: no path, no final slash, small letters.
pub(super) fn origin_of(text: &str) -> Result<String, &'static str> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or_default();
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-:[]".contains(&byte);
    let is_origin = !host.is_empty() && host.bytes().all(letter);
    if is_origin { Ok(text.to_owned()) } else { Err("is not an origin; expected `https://faircopy.example.com`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_as_browsers_write_it() {
        for good in ["https://faircopy.example.com", "http://localhost:8787", "http://[::1]:8787"] {
            assert_eq!(origin_of(good).as_deref(), Ok(good));
        }
        for bad in
            ["", "faircopy.example.com", "https://", "https://a.example/", "https://A.example", "ftp://a.example"]
        {
            assert!(origin_of(bad).is_err(), "{bad}");
        }
    }
}

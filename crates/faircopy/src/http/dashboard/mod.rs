//! The dashboard: a page at `/dashboard` that shows what the admin API says (docs/decisions/0024-dashboard.md).
//!
//! The files are those of `page/`, embedded as they are: there is no front-end build. They hold nothing of the copy, and are public;
//! the policy lets nothing be loaded or run that is not theirs, but for pictures of people that Clerk keeps.

pub(super) mod session;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderName, HeaderValue};

use super::problem::Problem;

/// What the page may load and do.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' https://img.clerk.com; \
                      connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! files {
    ($($name:literal $kind:ident),+ $(,)?) => {
        /// The files beside the page itself.
        const FILES: &[(&str, &str, &str)] = &[$(($name, $kind, include_str!(concat!("page/", $name)))),+];
    };
}

const SVG: &str = "image/svg+xml";

files!(
    "api.js" SCRIPT,
    "chart.js" SCRIPT,
    "deletions.js" SCRIPT,
    "deliveries.js" SCRIPT,
    "destinations.js" SCRIPT,
    "dom.js" SCRIPT,
    "drift.js" SCRIPT,
    "format.js" SCRIPT,
    "health.js" SCRIPT,
    "icon.svg" SVG,
    "icons.js" SCRIPT,
    "live.js" SCRIPT,
    "login.js" SCRIPT,
    "main.js" SCRIPT,
    "overview.js" SCRIPT,
    "parts.js" SCRIPT,
    "people.js" SCRIPT,
    "style.css" CSS,
);

/// The page, whatever comes after `/dashboard`: its script reads the address.
pub(super) async fn page() -> Response {
    file(HTML, include_str!("page/index.html"))
}

/// One of the files beside it.
pub(super) async fn asset(name: Result<Path<String>, PathRejection>) -> Result<Response, Problem> {
    let none = || Problem::new("not-found", "The dashboard has no such file.");
    let Ok(Path(name)) = name else { return Err(none()) };
    let found = FILES.iter().find(|(known, ..)| *known == name);
    found.map(|(_, kind, content)| file(kind, content)).ok_or_else(none)
}

fn file(kind: &'static str, content: &'static str) -> Response {
    let headers: [(HeaderName, HeaderValue); 7] = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
        (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
        // An address has no version: a browser asks again after an upgrade.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, content).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that was added and not named here would be missing from the binary.
    #[test]
    fn every_file_is_embedded() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/dashboard/page");
        let entries = std::fs::read_dir(folder).unwrap();
        let mut there: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "index.html")
            .collect();
        there.sort();
        let named: Vec<&str> = FILES.iter().map(|(name, ..)| *name).collect();
        assert_eq!(there, named);
    }

    /// The page must not need what its policy forbids, nor what would let a text become an element.
    #[test]
    fn nothing_is_inline() {
        let page = include_str!("page/index.html");
        assert!(!page.contains("<style") && !page.contains("style=") && !page.contains(" on"), "{page}");
        assert!(
            page.matches("<script").count() == page.matches("<script type=\"module\" src=\"/dashboard/assets/").count()
        );
        for (name, _, content) in FILES.iter().filter(|(name, ..)| name.ends_with(".js")) {
            for word in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                ".style",
                "DOMParser",
            ] {
                assert!(!content.contains(word), "{name} holds {word}");
            }
        }
    }
}

//! The description of the API (OpenAPI 3.1) and the page that shows it.

use std::collections::{BTreeMap, BTreeSet};

use faircopy::http::{Access, ROUTES, openapi};
use serde_json::Value;

use crate::app::TestApp;

/// The committed copy, for whoever generates a client without running the service.
#[test]
fn the_committed_copy_is_what_is_served() {
    let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    if std::fs::read_to_string(committed).is_ok_and(|text| text == openapi::text()) {
        return;
    }
    let made = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("openapi.json");
    std::fs::write(&made, openapi::text()).unwrap();
    panic!("docs/openapi.json is not what the service serves. To renew it: cp {} docs/openapi.json", made.display());
}

/// The dashboard's own routes are no part of the API.
fn api_routes() -> impl Iterator<Item = &'static (&'static str, &'static str, Access)> {
    ROUTES.iter().filter(|(.., access)| *access != Access::Page)
}

#[test]
fn the_description_and_the_route_table_are_the_same() {
    let document = openapi::document();
    assert_eq!(document["openapi"], "3.1.0");
    let mut described = BTreeMap::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let guards = operation["security"].as_array().expect("it says how it is guarded");
            let guards: Vec<&str> =
                guards.iter().flat_map(|guard| guard.as_object().unwrap().keys()).map(String::as_str).collect();
            described.insert((method.to_uppercase(), path.clone()), guards);
        }
    }
    let mut listed = BTreeMap::new();
    for (method, path, access) in api_routes() {
        let guards = match access {
            Access::Public | Access::Signed | Access::Page => vec![],
            Access::Session if *path == "/v1/auth" => vec!["sessionToken", "sessionCookie"],
            Access::Session => vec!["sessionToken"],
            Access::Admin => vec!["adminToken"],
        };
        listed.insert(((*method).to_owned(), (*path).to_owned()), guards);
    }
    assert_eq!(described, listed);
}

/// Each operation has a name of its own, says what it does, and shows an example of every problem.
#[test]
fn every_operation_is_told_whole() {
    let document = openapi::document();
    let (mut names, mut problems) = (BTreeSet::new(), 0);
    for (path, methods) in document["paths"].as_object().unwrap() {
        for operation in methods.as_object().unwrap().values() {
            let name = operation["operationId"].as_str().unwrap_or_else(|| panic!("{path} has no name"));
            assert!(names.insert(name.to_owned()), "{name} twice");
            assert!(operation["summary"].as_str().is_some_and(|summary| summary.len() > 5), "{name}");
            let tag = &operation["tags"][0];
            assert!(document["tags"].as_array().unwrap().iter().any(|known| known["name"] == *tag), "{name}: {tag}");
            for parameter in
                operation["parameters"].as_array().into_iter().flatten().filter(|p| p.get("$ref").is_none())
            {
                let told = parameter["description"].as_str().is_some_and(|text| !text.is_empty());
                assert!(told && parameter["schema"].is_object(), "{name}: {parameter}");
            }
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(response["description"].as_str().is_some_and(|text| !text.is_empty()), "{name} {status}");
                let Some(problem) = response["content"].get("application/problem+json") else { continue };
                for (code, example) in problem["examples"].as_object().unwrap() {
                    assert_eq!(example["value"]["code"], *code);
                    assert_eq!(example["value"]["status"].to_string(), *status);
                    problems += 1;
                }
                assert_eq!(
                    response["headers"].get("Retry-After").is_some(),
                    ["429", "503"].contains(&&**status),
                    "{name}"
                );
            }
        }
    }
    assert_eq!(names.len(), api_routes().count());
    assert!(problems > 150, "{problems} examples");
    references(&document, &document);
}

/// Every reference leads somewhere.
fn references(document: &Value, part: &Value) {
    if let Some(reference) = part["$ref"].as_str() {
        let place = reference.strip_prefix('#').expect("a place in this document");
        assert!(document.pointer(place).is_some(), "{reference}");
    }
    match part {
        Value::Array(parts) => parts.iter().for_each(|part| references(document, part)),
        Value::Object(parts) => parts.values().for_each(|part| references(document, part)),
        _ => {}
    }
}

#[tokio::test]
async fn the_description_is_served() {
    let app = TestApp::start().await;
    let answer = app.get("/openapi.json").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(answer.json(), Some(openapi::document()));
}

/// The page brings all it needs, and may load nothing from anywhere else.
#[tokio::test]
async fn the_page_stands_alone() {
    let app = TestApp::start().await;
    let page = app.get("/docs").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let text = page.text();
    assert!(!text.contains("://"), "{text}");
    let policy = page.header("content-security-policy").expect("a policy");
    for rule in ["default-src 'none'", "script-src 'self';", "connect-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(rule), "{rule}: {policy}");
    }
    assert!(!policy.contains("unsafe-eval") && !policy.contains("http") && !policy.contains('*'), "{policy}");
    assert!(
        !text.contains("<script>") && !text.contains("onload"),
        "its policy lets no script run from its text: {text}"
    );
    let script = app.get("/docs/scalar.js").await;
    assert_eq!(script.status, 200);
    assert_eq!(script.header("content-encoding"), Some("gzip"));
    assert_eq!(script.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(script.header("x-content-type-options"), Some("nosniff"));
    assert!(script.body.starts_with(&[0x1f, 0x8b]) && script.body.len() < 2_000_000, "{} bytes", script.body.len());
}

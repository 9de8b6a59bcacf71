//! The API's own description: OpenAPI 3.1, made from the handlers and the types that they answer with, and a page that
//! shows it.
//!
//! A handler describes what is its own. What many share is said here once: how a route is guarded, the headers of every
//! answer, and the problems, whose codes, statuses and titles are those of [`CODES`].

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::body::Bytes;
use axum::response::{Html, IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, VARY};
use serde_json::{Map, Value, json};
use utoipa::OpenApi;

use super::problem::{CODES, Problem};
use super::{
    Access, ROUTES, admin, alerts, destinations, directory, doctor, drift, erasures, explain, health, jobs, live,
    overview, records, session, webhook,
};

/// Scalar's page, compressed: a third of the size, and every browser takes it (assets/README.md).
const SCALAR: &[u8] = include_bytes!("../../assets/scalar.js.gz");
/// How long a browser keeps the page's script: its URL has the version.
const SCRIPT_AGE: &str = "public, max-age=86400";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Faircopy",
        description = "An exact copy of an application's Clerk users, organizations, memberships and invitations in its own \
            database.\n\nEvery error is a problem document (RFC 9457) with a stable `code`; `docs/errors.md` has a section \
            for each. Every answer to a signed-in caller says how fresh it is.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    servers((url = "/", description = "This service.")),
    paths(
        webhook::receive,
        session::store,
        session::auth,
        records::me,
        records::my_organizations,
        records::user,
        records::organization,
        records::members,
        records::workspace,
        admin::list,
        admin::show,
        admin::replay,
        admin::changes,
        explain::show,
        directory::users,
        directory::user,
        directory::compare_user,
        directory::organizations,
        directory::organization,
        directory::compare_organization,
        directory::members,
        admin::statistics,
        admin::findings,
        alerts::list,
        alerts::test,
        alerts::acknowledge,
        doctor::report,
        drift::list,
        drift::show,
        erasures::list,
        erasures::show,
        drift::run,
        jobs::list,
        jobs::show,
        jobs::plan,
        jobs::cancel,
        jobs::resume,
        destinations::list,
        destinations::show,
        destinations::pause,
        destinations::resume,
        destinations::rewind,
        destinations::resend,
        overview::overview,
        overview::activity,
        live::subscribe,
        live::operator::listen,
        health::live,
        health::ready,
        health::metrics,
        description,
        page,
        script,
    ),
    components(schemas(Problem)),
    tags(
        (name = "webhook", description = "Where Clerk's deliveries arrive."),
        (name = "sessions", description = "Who is signed in."),
        (name = "records", description = "What the caller may see of the copy."),
        (name = "admin", description = "What arrived, what became of it, the change feed, and how far the copy is Clerk's."),
        (name = "service", description = "Health, figures and this description."),
    )
)]
struct Described;

/// The members that are left out of an answer where they do not apply. All others are always there, `null` where nothing
/// is known.
const LEFT_OUT: [(&str, &str); 11] = [
    ("Drift", "columns"),
    ("ExplainedStep", "row_after"),
    ("Identity", "name_is_id"),
    ("LiveQuery", "since"),
    ("Membership", "email"),
    ("Membership", "name_is_id"),
    ("Membership", "slug"),
    ("Person", "name_is_id"),
    ("Problem", "instance"),
    ("Tally", "hold"),
    ("UserRecord", "name_is_id"),
];

/// What any session token can be refused for.
const TOKEN: &[&str] = &[
    "credentials-ambiguous",
    "jwk-kid-mismatch",
    "jwk-remote-failed-to-load",
    "session-pending",
    "sessions-not-configured",
    "token-critical-extension",
    "token-expired",
    "token-iat-in-the-future",
    "token-invalid",
    "token-invalid-algorithm",
    "token-invalid-authorized-parties",
    "token-invalid-issuer",
    "token-invalid-signature",
    "token-lives-too-long",
    "token-missing",
    "token-not-active-yet",
    "token-type-mismatch",
    "token-unknown-version",
    "token-verification-failed",
    "user-deleted",
];
/// What a read for a signed-in caller can be refused for beside it.
const READ: &[&str] = &["copy-behind", "copy-stale", "database-unavailable", "invalid-parameter"];
/// What every route of the admin API can answer.
const ADMIN: &[&str] =
    &["admin-disabled", "database-unavailable", "foreign-origin", "too-many-attempts", "unauthorized"];
/// What a write answers that was not taken.
const REFUSED: &[&str] = &["database-unavailable", "overloaded", "shutting-down"];
const WEBHOOK: &[&str] = &[
    "body-incomplete",
    "body-too-large",
    "body-too-slow",
    "encoding-not-supported",
    "no-signing-secret",
    "probe-verified",
    "request-ambiguous",
    "sender-not-allowed",
    "signature-invalid",
];

/// The codes of the problems that an operation can answer with.
fn problems(operation: &str) -> Vec<&'static str> {
    let lists: &[&[&'static str]] = match operation {
        "receiveDelivery" => &[WEBHOOK, REFUSED],
        "storeSession" => &[TOKEN, READ, REFUSED],
        "authenticate" => &[TOKEN],
        "getMe" | "getUser" => &[TOKEN, READ, &["record-not-found"]],
        "listMyOrganizations" => &[TOKEN, READ],
        "getOrganization" | "listMembers" | "getWorkspace" => {
            &[TOKEN, READ, &["no-active-organization", "record-not-found"]]
        }
        "listDeliveries" | "listErasures" => &[ADMIN, &["invalid-parameter"]],
        "listChanges" => &[ADMIN, &["changes-forgotten", "invalid-parameter"]],
        "getDelivery" => &[ADMIN, &["delivery-not-found"]],
        "replayDelivery" => &[ADMIN, REFUSED, &["delivery-erased", "delivery-not-found", "invalid-parameter"]],
        "getStatistics" | "listFindings" | "listAlerts" | "getDoctor" | "getOverview" | "acknowledgeQuarantined" => {
            &[ADMIN]
        }
        "testAlertTarget" => &[ADMIN, &["record-not-found"]],
        "getActivity" => &[ADMIN, &["invalid-parameter"]],
        "listen" => &[ADMIN, &["overloaded"]],
        "runReconcile" => &[ADMIN, &["invalid-parameter", "clerk-not-configured", "sweep-under-way"]],
        "listDriftReports" => &[ADMIN, &["invalid-parameter"]],
        "listUsers" | "listOrganizations" | "listMemberships" => &[ADMIN, &["invalid-parameter"]],
        "explain" => &[ADMIN, &["invalid-parameter", "record-not-found"]],
        "getUserRecord" | "getOrganizationRecord" => &[ADMIN, &["record-not-found"]],
        "compareUser" | "compareOrganization" => {
            &[ADMIN, &["clerk-not-configured", "clerk-unavailable", "record-not-found"]]
        }
        "listJobs" => &[ADMIN, &["invalid-parameter"]],
        "getDriftReport" | "getErasure" | "getJob" => &[ADMIN, &["record-not-found"]],
        "planJob" => &[ADMIN],
        "cancelJob" | "resumeJob" => &[ADMIN, &["job-not-changed", "record-not-found"]],
        "listDestinations" => &[ADMIN],
        "getDestination" => &[ADMIN, &["record-not-found"]],
        "pauseDestination" | "resumeDestination" | "resendDestination" => {
            &[ADMIN, &["destination-not-changed", "record-not-found"]]
        }
        "rewindDestination" => &[ADMIN, &["destination-not-changed", "invalid-parameter", "record-not-found"]],
        "getReadiness" => &[&["database-unavailable"]],
        _ => &[],
    };
    let mut codes: Vec<&str> = lists.concat();
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// The whole description.
#[must_use]
pub fn document() -> Value {
    let mut document = json!(Described::openapi());
    for (method, path, access) in ROUTES {
        let item = document["paths"].get_mut(path);
        if let Some(operation) = item.and_then(|item| item.get_mut(method.to_lowercase())) {
            share(operation, *access);
        }
    }
    let components = &mut document["components"];
    if let Some(schemas) = components["schemas"].as_object_mut() {
        for (name, schema) in schemas.iter_mut() {
            require(name, schema);
        }
        schemas["Problem"]["properties"]["code"]["enum"] = CODES.iter().map(|(code, ..)| *code).collect();
    }
    components["securitySchemes"] = json!({
        "sessionToken": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
            "description": "A session token of Clerk's, version 1 or 2." },
        "sessionCookie": { "type": "apiKey", "in": "cookie", "name": "__session",
            "description": "The same token in the cookie in which Clerk keeps it." },
        "adminToken": { "type": "http", "scheme": "bearer", "description": "`FAIRCOPY_ADMIN_TOKEN`." },
    });
    components["parameters"] = json!({
        "Faircopy-Max-Staleness": whole_number("Faircopy-Max-Staleness",
            "How many seconds ago `Faircopy-As-Of` may be: else 503 `copy-stale`.", 3600),
        "Faircopy-Min-Sequence": whole_number("Faircopy-Min-Sequence",
            "The number of a change that the answer must hold: waits for it up to 2 seconds, else 503 `copy-behind`.", 0),
    });
    components["headers"] = json!({
        "Faircopy-Sequence": { "required": true, "schema": { "type": "integer", "format": "int64", "minimum": 0 },
            "description": "The number of the last change that the answer holds.", "example": 42 },
        "Faircopy-As-Of": { "required": true, "schema": { "type": "string", "format": "date-time" },
            "description": "Up to when the copy is known to be complete, as far as `Faircopy-As-Of-Basis` goes; 1970 where \
                nothing is known.",
            "example": "2026-01-31T12:00:00.000Z" },
        "Faircopy-As-Of-Basis": { "required": true, "description": "What `Faircopy-As-Of` is known from: a comparison with \
                Clerk (`reconciled`), the newest delivery (`delivered`), a read of Clerk of what this answer shows (`read`), \
                or nothing (`none`). See `docs/freshness.md`.",
            "schema": { "type": "string", "enum": ["reconciled", "delivered", "read", "none"] }, "example": "reconciled" },
        "Retry-After": { "required": true, "schema": { "type": "integer", "minimum": 0 },
            "description": "Seconds after which another attempt is worth it.", "example": 5 },
        "WWW-Authenticate": { "required": true, "schema": { "type": "string" },
            "description": "The scheme, and what was wrong with the token (RFC 6750).",
            "example": "Bearer error=\"invalid_token\", error_description=\"token-expired\"" },
    });
    document
}

fn whole_number(name: &str, description: &str, example: i64) -> Value {
    json!({ "name": name, "in": "header", "required": false, "description": description, "example": example,
        "schema": { "type": "integer", "format": "int64", "minimum": 0, "maximum": i64::MAX } })
}

/// Adds to an operation what it shares with others.
fn share(operation: &mut Value, access: Access) {
    let id = operation["operationId"].as_str().unwrap_or_default().to_owned();
    let asks_by_cookie = id == "authenticate";
    operation["security"] = match access {
        Access::Public | Access::Signed | Access::Page => json!([]),
        Access::Session if asks_by_cookie => json!([{ "sessionToken": [] }, { "sessionCookie": [] }]),
        Access::Session => json!([{ "sessionToken": [] }]),
        Access::Admin => json!([{ "adminToken": [] }]),
    };
    if access == Access::Session {
        for header in ["Faircopy-Sequence", "Faircopy-As-Of", "Faircopy-As-Of-Basis"] {
            // Forward-auth answers without the copy too, and then knows nothing of its freshness.
            let mut reference = json!({ "$ref": format!("#/components/headers/{header}") });
            if asks_by_cookie {
                reference =
                    json!({ "schema": { "type": "string" }, "description": "As elsewhere; absent without the copy." });
            }
            operation["responses"]["200"]["headers"][header] = reference;
        }
        if !asks_by_cookie {
            let wishes = ["Faircopy-Max-Staleness", "Faircopy-Min-Sequence"];
            let wishes = wishes.map(|name| json!({ "$ref": format!("#/components/parameters/{name}") }));
            match operation.get_mut("parameters").and_then(Value::as_array_mut) {
                Some(parameters) => parameters.extend(wishes),
                None => operation["parameters"] = json!(wishes),
            }
        }
    }
    let mut by_status: BTreeMap<u16, Vec<Problem>> = BTreeMap::new();
    for code in problems(&id) {
        let title = CODES.iter().find(|(known, ..)| *known == code).map_or("", |(_, _, title)| *title);
        let problem = Problem::new(code, format!("{title}."));
        by_status.entry(problem.status().as_u16()).or_default().push(problem);
    }
    for (status, problems) in by_status {
        operation["responses"][status.to_string()] = answer(status, &problems);
    }
}

/// The answer of one status: its codes, and an example for each.
fn answer(status: u16, problems: &[Problem]) -> Value {
    let codes: Vec<&str> = problems.iter().map(Problem::code).collect();
    let examples: Map<String, Value> =
        problems.iter().map(|problem| (problem.code().to_owned(), json!({ "value": problem }))).collect();
    let one_of = json!({ "type": "object", "properties": { "code": { "enum": codes } } });
    let mut answer = json!({
        "description": codes.iter().map(|code| format!("`{code}`")).collect::<Vec<_>>().join(", "),
        "content": { "application/problem+json": {
            "schema": { "allOf": [{ "$ref": "#/components/schemas/Problem" }, one_of] }, "examples": examples,
        } },
    });
    let header = match status {
        401 => "WWW-Authenticate",
        429 | 503 => "Retry-After",
        _ => return answer,
    };
    answer["headers"] = json!({ header: { "$ref": format!("#/components/headers/{header}") } });
    answer
}

/// Makes the members of an answer required: the types' own `Option` says that they may be `null`.
fn require(name: &str, schema: &mut Value) {
    if let Some(parts) = schema.get_mut("allOf").and_then(Value::as_array_mut) {
        parts.iter_mut().for_each(|part| require(name, part));
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    let is_there = |property: &&String| !LEFT_OUT.contains(&(name, property.as_str()));
    schema["required"] = properties.keys().filter(is_there).map(String::as_str).collect();
}

/// The description as it is served and committed (docs/openapi.json).
#[must_use]
pub fn text() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", document()));
    &TEXT
}

/// This description: OpenAPI 3.1.
#[utoipa::path(get, path = "/openapi.json", operation_id = "getDescription", tag = "service",
    responses((status = 200, description = "The description.", body = Object)))]
pub(super) async fn description() -> Response {
    ([(CONTENT_TYPE, "application/json")], text()).into_response()
}

/// This description as a page for people.
///
/// Nothing on it comes from anywhere else, and its policy lets nothing go anywhere else.
#[utoipa::path(get, path = "/docs", operation_id = "getReference", tag = "service",
    responses((status = 200, description = "The page.", body = String, content_type = "text/html")))]
pub(super) async fn page() -> Response {
    ([(CONTENT_SECURITY_POLICY, POLICY), (REFERRER_POLICY, "no-referrer")], Html(PAGE)).into_response()
}

/// The page's script: Scalar.
#[utoipa::path(get, path = "/docs/scalar.js", operation_id = "getReferenceScript", tag = "service",
    responses((status = 200, description = "The script, compressed with gzip.", body = String,
        content_type = "text/javascript")))]
pub(super) async fn script() -> Response {
    let headers = [
        (CONTENT_TYPE, "text/javascript; charset=utf-8"),
        (CONTENT_ENCODING, "gzip"),
        (VARY, "accept-encoding"),
        (CACHE_CONTROL, SCRIPT_AGE),
    ];
    (headers, Bytes::from_static(SCALAR)).into_response()
}

/// What the page may do: run its own script and no text as code, ask this service and nobody else. Scalar puts styles into
/// the page as it goes, most of them without a nonce: they may stand, since nothing that a style names can be loaded.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src 'self' data:; \
    font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE: &str = r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Faircopy: API</title>
<link rel="icon" href="data:,">
</head>
<body>
<div id="api-reference" data-url="/openapi.json" data-configuration='{"withDefaultFonts":false,"telemetry":false,"showDeveloperTools":"never","hideClientButton":true,"agent":{"disabled":true},"mcp":{"disabled":true},"documentDownloadType":"direct","persistAuth":false}'></div>
<script src="/docs/scalar.js?1.72.1"></script>
</body>
</html>
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::problem::RETRY_AFTER_SECONDS;

    #[test]
    fn every_code_is_told_by_an_operation() {
        let mut told: Vec<&str> = Described::openapi()
            .paths
            .paths
            .values()
            .flat_map(|item| [&item.get, &item.post])
            .flatten()
            .flat_map(|operation| problems(operation.operation_id.as_deref().unwrap_or_default()))
            .collect();
        // What is answered where there is no operation, and by an application that Faircopy is embedded in.
        told.extend(["internal-error", "method-not-allowed", "not-found", "not-permitted"]);
        told.sort_unstable();
        told.dedup();
        assert_eq!(told, CODES.iter().map(|(code, ..)| *code).collect::<Vec<_>>());
    }

    #[test]
    fn a_retry_is_announced_as_it_is_sent() {
        assert_eq!(document()["components"]["headers"]["Retry-After"]["example"].to_string(), RETRY_AFTER_SECONDS);
    }
}

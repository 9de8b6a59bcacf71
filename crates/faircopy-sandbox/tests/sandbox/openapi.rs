//! Every answer and every event is what Clerk's own descriptions say (fixtures/openapi).

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{Local, Reply, settings};
use faircopy_sandbox::Settings;
use faircopy_sandbox::api::{Class, TABLE};
use faircopy_sandbox::instance::{Options, TokenTemplate};
use jsonschema::Validator;
use serde_json::{Value, json};

/// The schemas of one file, by name.
struct Schemas(BTreeMap<String, Validator>);

impl Schemas {
    fn read(text: &str) -> Self {
        let document: Value = serde_json::from_str(text).expect("JSON");
        let schemas = document["schemas"].as_object().expect("schemas");
        let validator = |name: &String| {
            let schema = json!({
                "$schema": document["$schema"], "$defs": document["$defs"],
                "allOf": [document["schemas"][name]],
            });
            (name.clone(), jsonschema::validator_for(&schema).expect("a schema"))
        };
        Self(schemas.keys().map(validator).collect())
    }

    #[track_caller]
    fn check(&self, name: &str, value: &Value) {
        let validator = self.0.get(name).unwrap_or_else(|| panic!("no schema for {name}"));
        let errors: Vec<String> =
            validator.iter_errors(value).map(|error| format!("{} at {}", error, error.instance_path())).collect();
        assert!(errors.is_empty(), "{name}: {errors:#?}\n{value:#}");
    }
}

/// A client that checks every answer, and remembers which routes it has seen.
struct Tour {
    local: Local,
    answers: Schemas,
    seen: BTreeSet<(String, String)>,
}

impl Tour {
    /// Asks a route, with these parts in its path, and gives the answer, which is well and as described.
    async fn ask(&mut self, method: &str, route: &str, parts: &[&str], body: Value) -> Value {
        let reply = self.reply(method, route, parts, body).await.ok();
        let operation = route.split_once('?').map_or(route, |(path, _)| path);
        self.answers.check(&format!("{method} {operation}"), &reply);
        reply
    }

    async fn reply(&mut self, method: &str, route: &str, parts: &[&str], body: Value) -> Reply {
        let (path, query) = route.split_once('?').unwrap_or((route, ""));
        let mut parts = parts.iter();
        let filled: Vec<&str> = path
            .split('/')
            .map(|part| if part.starts_with('{') { parts.next().expect("a part") } else { part })
            .collect();
        let request = self.local.request(method, &format!("/v1{}?{query}", filled.join("/")));
        self.seen.insert((method.to_owned(), format!("/v1{path}")));
        self.local.send(if body.is_null() { request } else { request.json(&body) }).await
    }

    async fn get(&mut self, route: &str, parts: &[&str]) -> Value {
        self.ask("GET", route, parts, Value::Null).await
    }
}

fn id(value: &Value) -> String {
    value["id"].as_str().expect("an id").to_owned()
}

fn with_template() -> Settings {
    let template = TokenTemplate {
        claims: BTreeMap::from([("email".to_owned(), json!("{{user.primary_email_address}}"))]),
        lifetime_s: 60,
        allowed_clock_skew_s: 5,
    };
    let options = Options { templates: BTreeMap::from([("mine".to_owned(), template)]), ..Options::default() };
    Settings { options, ..settings() }
}

#[tokio::test]
async fn every_answer_and_every_event_is_as_clerk_describes_it() {
    let answers = Schemas::read(include_str!("../../../../fixtures/openapi/answers.json"));
    let events = Schemas::read(include_str!("../../../../fixtures/openapi/events.json"));
    let mut tour = Tour { local: Local::with(with_template()).await, answers, seen: BTreeSet::new() };

    let ada = users(&mut tour).await;
    let acme = organizations(&mut tour, &ada).await;
    invitations(&mut tour, &acme, &ada).await;
    sessions(&mut tour, &acme, &ada).await;
    instance(&mut tour).await;
    lists(&mut tour, &acme, &ada).await;
    ends(&mut tour, &acme, &ada).await;

    let routes = TABLE.iter().filter(|route| route.class != Class::Public);
    let routes: BTreeSet<(String, String)> =
        routes.map(|route| (route.method.to_string(), route.path.replace("{template}", "{template_name}"))).collect();
    assert_eq!(routes.difference(&tour.seen).collect::<Vec<_>>(), Vec::<&(String, String)>::new(), "never asked");

    let sent = tour.local.bodies();
    let kinds: BTreeSet<&str> = sent.iter().filter_map(|body| body["type"].as_str()).collect();
    assert_eq!(kinds, events.0.keys().map(String::as_str).collect(), "every event is sent");
    for body in &sent {
        events.check(body["type"].as_str().expect("a type"), body);
    }
}

async fn users(tour: &mut Tour) -> String {
    let full = json!({
        "email_address": ["ada@example.com", "old@example.com"], "email_address_identification_status": ["verified", "reserved"],
        "phone_number": ["+15550100123"], "username": "ada_l", "first_name": "Ada", "last_name": "Lovelace",
        "external_id": "ext-1", "password": "correct horse", "public_metadata": {"plan": "pro"},
        "private_metadata": {"note": 1}, "unsafe_metadata": {"theme": "dark"}, "locale": "en-GB",
        "created_at": "2020-10-20T07:15:20.902Z", "legal_accepted_at": "2020-10-20T07:15:20.902Z",
        "create_organizations_limit": 3, "delete_self_enabled": false, "bypass_client_trust": true,
    });
    let ada = id(&tour.ask("POST", "/users", &[], full).await);
    tour.get("/users/{user_id}", &[&ada]).await;
    tour.ask("PATCH", "/users/{user_id}", &[&ada], json!({"first_name": "Augusta", "username": null})).await;
    tour.ask("PATCH", "/users/{user_id}/metadata", &[&ada], json!({"public_metadata": {"plan": null, "a": {"b": 1}}}))
        .await;
    tour.ask("PUT", "/users/{user_id}/metadata", &[&ada], json!({"private_metadata": {}})).await;
    for action in ["ban", "unban", "lock", "unlock"] {
        tour.ask("POST", &format!("/users/{{user_id}}/{action}"), &[&ada], Value::Null).await;
    }
    for action in ["ban", "unban"] {
        tour.ask("POST", &format!("/users/{action}"), &[], json!({"user_ids": [ada]})).await;
    }
    ada
}

async fn organizations(tour: &mut Tour, ada: &str) -> String {
    let made = json!({
        "name": "Acme", "created_by": ada, "slug": "acme", "public_metadata": {"a": 1}, "private_metadata": {"b": 2},
        "max_allowed_memberships": 20,
    });
    let acme = id(&tour.ask("POST", "/organizations", &[], made).await);
    tour.get("/organizations/{organization_id}", &["acme"]).await;
    tour.ask("PATCH", "/organizations/{organization_id}", &[&acme], json!({"name": "Acme Ltd"})).await;
    tour.ask("PATCH", "/organizations/{organization_id}/metadata", &[&acme], json!({"public_metadata": {"c": 3}}))
        .await;
    tour.ask("PUT", "/organizations/{organization_id}/metadata", &[&acme], json!({"public_metadata": {}})).await;
    let bob = id(&tour.ask("POST", "/users", &[], json!({"email_address": ["bob@example.com"]})).await);
    let members = "/organizations/{organization_id}/memberships";
    tour.ask("POST", members, &[&acme], json!({"user_id": bob, "role": "org:member", "public_metadata": {"x": 1}}))
        .await;
    let member = format!("{members}/{{user_id}}");
    tour.ask("PATCH", &member, &[&acme, &bob], json!({"role": "org:admin"})).await;
    tour.ask("PATCH", &format!("{member}/metadata"), &[&acme, &bob], json!({"private_metadata": {"y": 2}})).await;
    tour.ask("DELETE", &member, &[&acme, &bob], Value::Null).await;
    acme
}

async fn invitations(tour: &mut Tour, acme: &str, ada: &str) {
    let route = "/organizations/{organization_id}/invitations";
    let new = |email: &str| json!({"email_address": email, "role": "org:member", "inviter_user_id": ada});
    let first = id(&tour.ask("POST", route, &[acme], new("one@example.com")).await);
    tour.get(&format!("{route}/{{invitation_id}}"), &[acme, &first]).await;
    tour.ask("POST", &format!("{route}/{{invitation_id}}/revoke"), &[acme, &first], Value::Null).await;
    let second = id(&tour.ask("POST", route, &[acme], new("two@example.com")).await);
    let two = id(&tour.ask("POST", "/users", &[], json!({"email_address": ["two@example.com"]})).await);
    tour.local
        .sandbox
        .shared()
        .change(|instance, now| instance.accept_invitation(&second, &two, now))
        .expect("an invitation");
    tour.ask("POST", route, &[acme], json!({"email_address": "three@example.com", "role": "org:admin"})).await;
    let many = json!([new("four@example.com"), new("five@example.com")]);
    let made = tour.ask("POST", &format!("{route}/bulk"), &[acme], many).await;
    for made in made["data"].as_array().expect("a list") {
        tour.ask("POST", &format!("{route}/{{invitation_id}}/revoke"), &[acme, &id(made)], Value::Null).await;
    }
    tour.get(&format!("{route}/pending"), &[acme]).await;
}

async fn sessions(tour: &mut Tour, acme: &str, ada: &str) {
    let new = json!({"user_id": ada, "active_organization_id": acme});
    let session = id(&tour.ask("POST", "/sessions", &[], new.clone()).await);
    tour.get("/sessions/{session_id}", &[&session]).await;
    tour.ask("POST", "/sessions/{session_id}/tokens", &[&session], Value::Null).await;
    let token = "/sessions/{session_id}/tokens/{template_name}";
    tour.ask("POST", token, &[&session, "mine"], json!({"expires_in_seconds": 90})).await;
    tour.ask("POST", "/sessions/{session_id}/revoke", &[&session], Value::Null).await;
    let ended = id(&tour.ask("POST", "/sessions", &[], new.clone()).await);
    let shared = tour.local.sandbox.shared();
    shared.change(|instance, now| instance.close_session(&ended, "ended", now)).expect("a session");
    tour.ask("POST", "/sessions", &[], new).await;
}

async fn instance(tour: &mut Tour) {
    tour.get("/instance", &[]).await;
    tour.get("/jwks", &[]).await;
    tour.ask("POST", "/webhooks/svix", &[], Value::Null).await;
    tour.ask("POST", "/webhooks/svix_url", &[], Value::Null).await;
    let deleted = tour.reply("DELETE", "/webhooks/svix", &[], Value::Null).await;
    assert_eq!((deleted.status, deleted.body), (204, Value::Null));
}

async fn lists(tour: &mut Tour, acme: &str, ada: &str) {
    for (route, parts) in [
        ("/users", &[][..]),
        ("/users/count", &[]),
        ("/users/{user_id}/organization_memberships", &[ada]),
        ("/users/{user_id}/organization_invitations", &[ada]),
        ("/organizations", &[]),
        ("/organizations/{organization_id}/memberships", &[acme]),
        ("/organizations/{organization_id}/invitations", &[acme]),
        ("/organization_memberships", &[]),
        ("/organization_invitations", &[]),
        ("/organization_roles", &[]),
        ("/organization_permissions", &[]),
    ] {
        let listed = tour.get(route, parts).await;
        let length = listed.as_array().or_else(|| listed["data"].as_array()).map(Vec::len);
        let may_be_empty = route.ends_with("organization_invitations") || route.ends_with("count");
        assert!(may_be_empty || length.is_some_and(|length| length > 0), "{route} has something: {listed}");
    }
    let counted = tour
        .local
        .get("/v1/organizations?include_members_count=true&include_missing_member_with_elevated_permissions=true")
        .await
        .ok();
    tour.answers.check("GET /organizations", &counted);
    assert_eq!(
        (&counted["data"][0]["members_count"], &counted["data"][0]["pending_invitations_count"]),
        (&json!(2), &json!(1))
    );
    // The description of sessions leaves it open whether there is a list or a page of one.
    let sessions = tour.get(&format!("/sessions?user_id={ada}"), &[]).await;
    assert_eq!(sessions.as_array().map(Vec::len), Some(3));
    let pages = tour.local.get(&format!("/v1/sessions?user_id={ada}&paginated=true")).await.ok();
    assert_eq!(pages["total_count"], 3);
}

async fn ends(tour: &mut Tour, acme: &str, ada: &str) {
    tour.ask("DELETE", "/organizations/{organization_id}", &[acme], Value::Null).await;
    tour.ask("DELETE", "/users/{user_id}", &[ada], Value::Null).await;
    let gone = tour.reply("GET", "/users/{user_id}", &[ada], Value::Null).await;
    gone.refused(404, "resource_not_found");
    tour.answers.check("error", &gone.body);
}

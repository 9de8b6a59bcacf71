//! Lists: pages, cursors, orders and filters; who may ask and how often.

use crate::support;
use crate::support::{Local, ids, settings};
use faircopy_sandbox::Settings;
use faircopy_sandbox::instance::{Options, Population, Query};
use faircopy_sandbox::limit::RateLimit;
use serde_json::{Value, json};

async fn populated(users: usize, organizations: usize, members: usize) -> Local {
    let population = Some(Population { users, organizations, members, seed: 1 });
    Local::with(Settings { population, ..settings() }).await
}

/// All pages of a list by offset.
async fn by_offset(local: &Local, path: &str, limit: usize) -> Vec<String> {
    let (mut all, join) = (Vec::new(), if path.contains('?') { '&' } else { '?' });
    loop {
        let page = ids(&local.get(&format!("{path}{join}limit={limit}&offset={}", all.len())).await.ok());
        let last = page.len() < limit;
        all.extend(page);
        if last {
            return all;
        }
    }
}

/// All pages of the users by cursor.
async fn by_cursor(local: &Local, query: &str, limit: usize) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    loop {
        let after = all.last().map_or(String::new(), |last| format!("&starting_after={last}"));
        let page = ids(&local.get(&format!("/v1/users?limit={limit}{query}{after}")).await.ok());
        let last = page.len() < limit;
        all.extend(page);
        if last {
            return all;
        }
    }
}

#[track_caller]
fn distinct(ids: &[String], count: usize) {
    let mut sorted = ids.to_vec();
    sorted.sort();
    sorted.dedup();
    assert_eq!((ids.len(), sorted.len()), (count, count));
}

#[tokio::test]
async fn every_list_has_each_of_its_things_once_whatever_the_page() {
    let local = populated(230, 12, 20).await;
    let organization = ids(&local.get("/v1/organizations?limit=1").await.ok())[0].clone();
    let user = local.get(&format!("/v1/organizations/{organization}/memberships?limit=1")).await.ok();
    let user = user["data"][0]["public_user_data"]["user_id"].as_str().expect("a user").to_owned();
    let own = local.get(&format!("/v1/users/{user}/organization_memberships")).await.ok();
    for (path, count) in [
        ("/v1/users", 230),
        ("/v1/organizations", 12),
        ("/v1/organization_memberships?order_by=created_at", 240),
        ("/v1/organization_invitations", 12),
        (&*format!("/v1/organizations/{organization}/memberships"), 20),
        (&*format!("/v1/organizations/{organization}/invitations"), 1),
        (
            &*format!("/v1/users/{user}/organization_memberships"),
            usize::try_from(own["total_count"].as_u64().expect("a count")).expect("few"),
        ),
        ("/v1/organization_roles", 4),
        ("/v1/organization_permissions", 10),
    ] {
        for limit in [7, 500] {
            distinct(&by_offset(&local, path, limit).await, count);
        }
        let first = local.get(path).await.ok();
        assert_eq!(ids(&first).len(), count.min(10), "ten are the default of {path}");
        if let Some(total) = first.get("total_count") {
            assert_eq!(*total, count, "{path}");
        }
    }
    assert_eq!(local.get("/v1/users/count").await.ok(), json!({"object": "total_count", "total_count": 230}));
}

#[tokio::test]
async fn a_cursor_walks_users_in_both_directions_and_follows_clerks_rules() {
    let local = populated(101, 0, 0).await;
    let newest_first = by_offset(&local, "/v1/users", 500).await;
    let oldest_first: Vec<String> = newest_first.iter().rev().cloned().collect();
    for limit in [1, 10, 100, 101, 500] {
        assert_eq!(by_cursor(&local, "", limit).await, newest_first, "{limit}");
        assert_eq!(by_cursor(&local, "&order_by=created_at", limit).await, oldest_first, "{limit}");
        assert_eq!(by_cursor(&local, "&order_by=%2Bcreated_at", limit).await, oldest_first, "{limit}");
    }
    let after = &newest_first[3];
    for (query, param) in [("&order_by=updated_at", "order_by"), ("&offset=1", "offset")] {
        let refused = local.get(&format!("/v1/users?starting_after={after}{query}")).await;
        refused.refused(422, "form_param_value_invalid");
        assert_eq!(refused.param(), param);
    }
    local.get("/v1/users?starting_after=user_no").await.refused(422, "form_param_value_invalid");
    assert_eq!(
        ids(&local.get(&format!("/v1/users?starting_after={after}&offset=0&limit=2")).await.ok()),
        newest_first[4..6]
    );

    let older = Options { cursors: false, ..Options::default() };
    local.sandbox.shared().change(|instance, _| instance.set_options(older));
    let page = ids(&local.get(&format!("/v1/users?starting_after={after}&limit=2")).await.ok());
    assert_eq!(page, newest_first[..2], "an older deployment gives the first page for ever");
}

#[tokio::test]
async fn orders_are_those_that_each_list_has() {
    let local = Local::start().await;
    for (email, first) in [("c@example.com", "bert"), ("a@example.com", "Anna"), ("b@example.com", "")] {
        local.post("/v1/users", json!({"email_address": [email], "first_name": first})).await.ok();
        local.advance(1000);
    }
    let order = async |order: &str| -> Vec<String> {
        let listed = local.get(&format!("/v1/users?order_by={order}")).await.ok();
        let emails =
            listed.as_array().expect("users").iter().map(|user| user["email_addresses"][0]["email_address"].clone());
        emails.map(|email| email.as_str().expect("text")[..1].to_owned()).collect()
    };
    assert_eq!(order("created_at").await, ["c", "a", "b"]);
    assert_eq!(order("email_address").await, ["a", "b", "c"]);
    assert_eq!(order("-email_address").await, ["c", "b", "a"]);
    assert_eq!(order("first_name").await, ["a", "c", "b"], "nothing comes last");
    let anna = ids(&local.get("/v1/users?email_address=a@example.com").await.ok())[0].clone();
    local.patch(&format!("/v1/users/{anna}"), json!({"last_name": "Z"})).await.ok();
    assert_eq!(order("-updated_at").await, ["a", "b", "c"]);
    for path in [
        "/v1/users?order_by=slug",
        "/v1/organizations?order_by=updated_at",
        "/v1/organization_memberships?order_by=role",
        "/v1/organization_invitations?order_by=status",
        "/v1/organization_roles?order_by=id",
        "/v1/users?limit=0",
        "/v1/users?limit=501",
        "/v1/organizations?limit=1000",
        "/v1/organization_memberships?offset=-1",
        "/v1/organization_invitations?status=lost",
    ] {
        local.get(path).await.refused(422, "form_param_value_invalid");
    }
    local.get("/v1/users?limit=ten").await.refused(422, "form_param_type_invalid");
}

#[tokio::test]
async fn filters_let_through_what_they_name() {
    let local = Local::start().await;
    let mut users = Vec::new();
    for name in ["ada", "bob", "eve"] {
        let body = json!({"email_address": [format!("{name}@example.com")], "external_id": format!("ext-{name}"), "first_name": name});
        users.push(local.post("/v1/users", body).await.ok()["id"].as_str().expect("an id").to_owned());
        local.advance(1000);
    }
    let [ada, bob, eve] = &users[..] else { panic!("three users") };
    let acme = local.organization("Acme", ada).await;
    let other = local.organization("Other", bob).await;
    local
        .post(&format!("/v1/organizations/{acme}/memberships"), json!({"user_id": bob, "role": "org:guest"}))
        .await
        .ok();
    let then = support::NOW + 1000;
    let of = |members: &[&String]| members.iter().map(|id| (*id).clone()).collect::<Vec<_>>();
    for (query, expected) in [
        (format!("user_id={ada}&user_id[]={eve}"), of(&[ada, eve])),
        (format!("user_id=-{ada}"), of(&[bob, eve])),
        (format!("user_id=%2B{ada}&user_id=user_no"), of(&[ada])),
        ("email_address=ADA@example.com&email_address=no@example.com".into(), of(&[ada])),
        ("external_id=ext-bob".into(), of(&[bob])),
        ("external_id=-ext-bob".into(), of(&[ada, eve])),
        (format!("organization_id={acme}"), of(&[ada, bob])),
        (format!("organization_id={acme}&organization_id=-{other}"), of(&[ada])),
        ("query=EV".into(), of(&[eve])),
        ("query=example".into(), of(&[ada, bob, eve])),
        ("name_query=bo".into(), of(&[bob])),
        (format!("created_at_before={then}"), of(&[ada])),
        (format!("created_at_after={then}"), of(&[eve])),
        ("last_active_at_after=1".into(), of(&[])),
        ("username=nobody".into(), of(&[])),
    ] {
        let listed = ids(&local.get(&format!("/v1/users?order_by=created_at&{query}")).await.ok());
        assert_eq!(listed, expected, "{query}");
        let count = local.get(&format!("/v1/users/count?{query}")).await.ok();
        assert_eq!(count["total_count"], expected.len(), "{query}");
    }
    let organizations = async |query: &str| local.get(&format!("/v1/organizations?order_by=name&{query}")).await.ok();
    for (query, expected) in [
        ("".to_owned(), vec![&acme, &other]),
        (format!("organization_id={other}"), vec![&other]),
        (format!("organization_id=-{other}"), vec![&acme]),
        (format!("user_id={bob}"), vec![&acme, &other]),
        (format!("user_id=-{ada}"), vec![&other]),
        ("query=ACM".to_owned(), vec![&acme]),
    ] {
        let listed = organizations(&query).await;
        assert_eq!(
            (ids(&listed).iter().collect::<Vec<_>>(), &listed["total_count"]),
            (expected.clone(), &json!(expected.len())),
            "{query}"
        );
    }
    let members = async |query: &str| -> Vec<Value> {
        let listed = local.get(&format!("/v1/organizations/{acme}/memberships?order_by=created_at&{query}")).await.ok();
        listed["data"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|member| member["public_user_data"]["user_id"].clone())
            .collect()
    };
    assert_eq!(members("role=org:guest").await, [json!(bob)]);
    assert_eq!(members(&format!("user_id={ada}&user_id={eve}")).await, [json!(ada)]);
    assert_eq!(members("query=bob").await, [json!(bob)]);
    let many = vec!["user_id=x"; 101].join("&");
    local.get(&format!("/v1/users?{many}")).await.refused(422, "form_param_array_size_exceeded");
}

#[tokio::test]
async fn two_hundred_thousand_users_are_walked_by_cursor() {
    let local = populated(200_000, 0, 0).await;
    // Without HTTP: a test need not read half a gigabyte of JSON for this.
    let mut all: Vec<String> = Vec::new();
    loop {
        let after = all.last().map_or(String::new(), |last| format!("&starting_after={last}"));
        let query = Query::parse(&format!("limit=500{after}"));
        let page = local.sandbox.shared().change(|instance, _| instance.list_users(&query)).expect("a page");
        all.extend(page.iter().map(|user| user["id"].as_str().expect("an id").to_owned()));
        if page.len() < 500 {
            break;
        }
    }
    distinct(&all, 200_000);
    let page = ids(&local.get("/v1/users?limit=500&offset=199900").await.ok());
    assert_eq!(page.len(), 100);
    assert_eq!(ids(&local.get("/v1/users?order_by=-updated_at&limit=3").await.ok()).len(), 3);
}

#[tokio::test]
async fn only_the_key_opens_the_api_and_only_known_versions() {
    let local = Local::start().await;
    let url = local.sandbox.url().to_owned();
    let client = reqwest::Client::new();
    let ask = |key: Option<&str>, path: &str, version: Option<&str>| {
        let mut request = client.get(format!("{url}{path}"));
        if let Some(key) = key {
            request = request.header("authorization", key);
        }
        if let Some(version) = version {
            request = request.header("clerk-api-version", version);
        }
        local.send(request)
    };
    let key = format!("Bearer {}", local.sandbox.shared().keys().secret_key());
    let key = key.as_str();
    ask(None, "/v1/users", None).await.refused(401, "authorization_header_format_invalid");
    ask(Some("Bearer sk_test_wrong"), "/v1/users", None).await.refused(401, "clerk_key_invalid");
    ask(Some("Bearer sk_test_wrong"), "/v1/jwks", None).await.refused(401, "clerk_key_invalid");
    ask(Some(key), "/v1/users", None).await.ok();
    ask(Some(key), "/v1/users", Some("2021-02-05")).await.ok();
    ask(Some(key), "/v1/users?__clerk_api_version=2026-05-12", None).await.ok();
    ask(Some(key), "/v1/users", Some("2020-01-01")).await.refused(400, "api_version_invalid");
    ask(Some(key), "/v1/users?__clerk_api_version=2026-05-12", Some("2026-05-12"))
        .await
        .refused(400, "api_version_invalid");
    ask(Some(key), "/v1/nothing", None).await.refused(404, "url_not_found");
    local.send(local.request("PUT", "/v1/users")).await.refused(405, "method_not_allowed");
    local.send(local.request("POST", "/v1/users").body("{")).await.refused(400, "malformed_request_parameters");
    local.send(local.request("POST", "/v1/users").body("[]")).await.refused(400, "malformed_request_parameters");

    let keys = ask(None, "/.well-known/jwks.json", None).await.ok();
    assert_eq!(keys, ask(Some(key), "/v1/jwks", None).await.ok());
    let configuration = ask(None, "/.well-known/openid-configuration", None).await.ok();
    assert_eq!(configuration["issuer"], url);
    assert_eq!(configuration["jwks_uri"], format!("{url}/.well-known/jwks.json"));
    let instance = ask(Some(key), "/v1/instance", None).await.ok();
    assert_eq!((&instance["id"], &instance["environment_type"]), (&keys["keys"][0]["kid"], &json!("development")));

    let none = Options { organizations: false, ..Options::default() };
    local.sandbox.shared().change(|instance, _| instance.set_options(none));
    ask(Some(key), "/v1/organizations", None).await.refused(403, "organization_not_enabled_in_instance");
    ask(Some(key), "/v1/users", None).await.ok();
}

#[tokio::test]
async fn a_limit_is_told_with_the_seconds_and_keys_have_none() {
    let local = Local::with(Settings { rate_limit: RateLimit::OfTheKey, ..settings() }).await;
    for _ in 0..100 {
        local.get("/v1/users").await.ok();
    }
    local.advance(2_500);
    let limited = local.get("/v1/users").await;
    limited.refused(429, "too_many_requests");
    assert_eq!(limited.retry_after.as_deref(), Some("8"));
    local.get("/v1/jwks").await.ok();
    local.advance(7_500);
    local.get("/v1/users").await.ok();
}

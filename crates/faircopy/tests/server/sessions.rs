//! Session tokens: just-in-time rows, forward-auth, and who may see what (faults.md, sessions and read API).

use std::collections::BTreeSet;
use std::time::Duration;

use faircopy::http::{Access, ROUTES};
use faircopy_testkit::client::Response;
use faircopy_testkit::postgres::Postgres;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, SqliteConnection};

use crate::app::{Engine, TestApp, assert_problem, eventually, manual_clock};
use crate::events::{THEN, event, user, user_created};
use crate::mint;

const ENGINES: [Engine; 2] = [Engine::Sqlite, Engine::Postgres];

/// The clock of the tests, in milliseconds: long after [`THEN`].
const NOW: i64 = 1_760_000_000_000;

pub(crate) fn organization(id: &str) -> Value {
    json!({
        "object": "organization", "id": id, "name": format!("The {id}"), "slug": id.replace('_', "-"),
        "image_url": "https://img.clerk.com/o", "created_by": "user_owner",
        "public_metadata": { "workspaceId": format!("ws_{id}") }, "created_at": THEN, "updated_at": THEN,
    })
}

pub(crate) fn membership(id: &str, organization_id: &str, user: &str, role: &str, at: i64) -> Value {
    json!({
        "object": "organization_membership", "id": id, "role": role, "permissions": ["org:docs:read"],
        "organization": organization(organization_id), "public_user_data": { "user_id": user, "first_name": "Ada" },
        "created_at": THEN, "updated_at": at,
    })
}

pub(crate) fn at(event_type: &str, data: &Value, millis: i64) -> String {
    let mut body = event(event_type, data);
    body["timestamp"] = millis.into();
    body.to_string()
}

pub(crate) async fn joins(app: &TestApp, organization_id: &str, user_id: &str, role: &str) {
    let pair = format!("{organization_id}_{user_id}");
    app.outcome(&format!("msg_user_{pair}"), event("user.created", &user(user_id, THEN)).to_string()).await;
    let member = membership(&format!("orgmem_{pair}"), organization_id, user_id, role, THEN);
    app.outcome(&format!("msg_{pair}"), event("organizationMembership.created", &member).to_string()).await;
}

pub(crate) async fn leaves(app: &TestApp, organization_id: &str, user_id: &str, millis: i64) {
    let pair = format!("{organization_id}_{user_id}");
    let member = membership(&format!("orgmem_{pair}"), organization_id, user_id, "org:member", millis);
    let body = at("organizationMembership.deleted", &member, millis);
    assert_eq!(app.outcome(&format!("msg_gone_{pair}"), body).await, "applied");
}

async fn stored(app: &TestApp, token: &str) -> Value {
    let response = app.bearer("POST", "/v1/session", token).await;
    assert_eq!(response.status, 200, "{}", response.text());
    response.json().unwrap()
}

/// The identity headers of a forward-auth answer.
fn told(response: &Response) -> (Option<&str>, Option<&str>, Option<&str>) {
    assert_eq!(response.status, 200, "{}", response.text());
    (response.header("x-auth-user-id"), response.header("x-auth-org-id"), response.header("x-auth-org-role"))
}

fn sequence(response: &Response) -> i64 {
    response.header("faircopy-sequence").expect("a sequence").parse().unwrap()
}

/// Somebody signs up and uses the application before any webhook; then the webhooks come and win.
#[tokio::test]
async fn signing_up_before_the_webhook() {
    for engine in ENGINES {
        let clock = manual_clock();
        let app = TestApp::build().on(engine).clock(&clock).sessions().start().await;
        let token = app.token("user_new", Some(("org_new", "admin")));
        let answer = stored(&app, &token).await;
        assert_eq!(answer["created"], json!(["user", "organization", "membership"]));
        assert_eq!(answer["identity"]["clerk_user_id"], "user_new");
        assert_eq!(answer["identity"]["clerk_org_id"], "org_new");
        assert_eq!(answer["identity"]["role"], "org:admin");
        assert_eq!(app.bearer_json("/v1/me", &token).await["provenance"], "token");
        assert_eq!(app.bearer_json("/v1/organization", &token).await["name"], Value::Null);

        // Again and with the next token: nothing is written.
        let before = sequence(&app.bearer("GET", "/v1/auth", &token).await);
        clock.advance(30_000);
        let next = app.token("user_new", Some(("org_new", "admin")));
        assert_eq!(stored(&app, &next).await["created"], json!([]));
        assert_eq!(sequence(&app.bearer("GET", "/v1/auth", &next).await), before);

        joins(&app, "org_new", "user_new", "org:member").await;
        let me = app.bearer_json("/v1/me", &next).await;
        assert_eq!((&me["provenance"], &me["name"]), (&json!("webhook"), &json!("Ada Lovelace")));
        assert_eq!(app.bearer_json("/v1/organization", &next).await["name"], "The org_new");
        // The role is the copy's, not the token's.
        let answer = app.bearer("GET", "/v1/auth", &next).await;
        assert_eq!(told(&answer), (Some("user_new"), Some("org_new"), Some("org:member")));
        assert_eq!(stored(&app, &next).await["created"], json!([]));
        let members = app.bearer_json("/v1/organization/members", &next).await;
        assert_eq!(members["data"].as_array().unwrap().len(), 1, "one row: {members}");
        assert_eq!(members["data"][0]["clerk_membership_id"], "orgmem_org_new_user_new");
    }
}

/// A member is removed, and their token lives on: from the next request they see nothing, and are not brought back.
#[tokio::test]
async fn removal_while_a_token_lives() {
    for engine in ENGINES {
        let clock = manual_clock();
        let app = TestApp::build().on(engine).clock(&clock).sessions().start().await;
        joins(&app, "org_a", "user_ada", "org:admin").await;
        joins(&app, "org_a", "user_bob", "org:member").await;
        let token = app.token("user_bob", Some(("org_a", "member")));
        assert_eq!(app.bearer("GET", "/v1/organization", &token).await.status, 200);
        assert_eq!(app.bearer("GET", "/v1/users/user_ada", &token).await.status, 200);
        clock.advance(1_000);
        leaves(&app, "org_a", "user_bob", NOW + 1_000).await;
        for path in ["/v1/organization", "/v1/organization/members", "/v1/workspace", "/v1/users/user_ada"] {
            assert_problem(&app.bearer("GET", path, &token).await, 404, "record-not-found");
        }
        assert_eq!(told(&app.bearer("GET", "/v1/auth", &token).await), (Some("user_bob"), None, None));
        let answer = stored(&app, &token).await;
        assert_eq!((&answer["identity"]["clerk_org_id"], &answer["created"]), (&Value::Null, &json!([])));
        assert!(!app.tables().await.members.contains_key(&("org_a".into(), "user_bob".into())));

        // A deleted user is nobody.
        let token = app.token("user_ada", Some(("org_a", "admin")));
        let gone = at("user.deleted", &json!({ "id": "user_ada", "object": "user", "deleted": true }), NOW + 1_000);
        assert_eq!(app.outcome("msg_gone", gone).await, "applied");
        for path in ["/v1/auth", "/v1/me", "/v1/organization"] {
            assert_problem(&app.bearer("GET", path, &token).await, 401, "user-deleted");
        }
        assert_problem(&app.bearer("POST", "/v1/session", &token).await, 401, "user-deleted");
        assert!(!app.tables().await.users.contains_key("user_ada"));
        // So is a deleted organization.
        let gone = at("organization.deleted", &json!({ "id": "org_a", "deleted": true }), NOW + 2_000);
        assert_eq!(app.outcome("msg_gone_org", gone).await, "applied");
        clock.advance(5_000);
        let later = app.token("user_bob", Some(("org_a", "member")));
        assert_eq!(told(&app.bearer("GET", "/v1/auth", &later).await), (Some("user_bob"), None, None));
    }
}

/// What the application writes is shown, in each mode; a member of another organization sees nothing of it.
#[tokio::test]
async fn a_workspace_and_what_is_in_it() {
    for engine in ENGINES {
        for (mode, id) in [("per_organization", Some("org_a")), ("linked", Some("ws_org_a")), ("off", None)] {
            let app = TestApp::build().on(engine).clock(&manual_clock()).sessions().workspaces(mode).start().await;
            joins(&app, "org_a", "user_ada", "org:admin").await;
            joins(&app, "org_b", "user_bob", "org:admin").await;
            let (ada, bob) =
                (app.token("user_ada", Some(("org_a", "admin"))), app.token("user_bob", Some(("org_b", "admin"))));
            if let Some(id) = id {
                let place = if engine == Engine::Postgres { "faircopy." } else { "" };
                let insert = format!(
                    "INSERT INTO {place}rooms (id, workspace_id, name, kind) VALUES ('r', '{id}', 'Plan', 'code')"
                );
                let insert = sqlx::raw_sql(AssertSqlSafe(insert));
                if engine == Engine::Postgres {
                    insert.execute(&mut PgConnection::connect(&app.database_url).await.unwrap()).await.unwrap();
                } else {
                    insert.execute(&mut SqliteConnection::connect(&app.database_url).await.unwrap()).await.unwrap();
                }
            }
            let found = app.bearer_json("/v1/workspace", &ada).await;
            let link = json!("ws_org_a");
            assert_eq!(found["id"], id.map_or(link, |id| json!(id)), "{mode}");
            assert_eq!((&found["name"], &found["clerk_org_id"]), (&json!("The org_a"), &json!("org_a")));
            assert_eq!((&found["role"], &found["owner_id"]), (&json!("owner"), &json!("user_owner")));
            assert_eq!(found["channels"].as_array().unwrap().len(), usize::from(mode == "per_organization"));
            if id.is_some() {
                let room = &found["rooms"][0];
                assert_eq!((&room["id"], &room["name"], &room["kind"]), (&json!("r"), &json!("Plan"), &json!("code")));
                assert!(room["created_at"].as_str().is_some_and(|time| time.ends_with('Z')));
            }
            assert_eq!((&found["channels_truncated"], &found["rooms_truncated"]), (&json!(false), &json!(false)));
            let other = app.bearer_json("/v1/workspace", &bob).await;
            assert_eq!(other["rooms"], json!([]));
            assert_eq!(other["clerk_org_id"], "org_b");
            // The feed and the counts say so, too.
            let kept = if mode == "off" { 0 } else { 2 };
            assert_eq!(app.admin_json("/admin/v1/statistics").await["workspaces"], kept);
            let feed = app.admin_json("/admin/v1/changes").await;
            let of_workspaces = |entry: &&Value| entry["entity"] == "workspace";
            assert_eq!(feed["data"].as_array().unwrap().iter().filter(of_workspaces).count(), kept);
        }
    }
}

/// A user of two organizations sees the active one, and switches with the token.
#[tokio::test]
async fn two_organizations_and_the_switch_between_them() {
    for engine in ENGINES {
        let app = TestApp::build().on(engine).clock(&manual_clock()).sessions().start().await;
        joins(&app, "org_a", "user_ada", "org:admin").await;
        joins(&app, "org_b", "user_ada", "org:member").await;
        joins(&app, "org_b", "user_bob", "org:member").await;
        for (id, role, members) in [("org_a", "org:admin", 1), ("org_b", "org:member", 2)] {
            let token = app.token("user_ada", Some((id, "whatever")));
            assert_eq!(app.bearer_json("/v1/organization", &token).await["clerk_org_id"], id);
            let workspace = app.bearer_json("/v1/workspace", &token).await;
            assert_eq!((&workspace["id"], &workspace["owner_id"]), (&json!(id), &json!("user_owner")));
            assert_eq!(workspace["role"], if role == "org:admin" { "owner" } else { "member" });
            assert_eq!(workspace["channels"][0]["id"], format!("{id}:general"));
            assert_eq!((&workspace["channels"][0]["name"], &workspace["rooms"]), (&json!("general"), &json!([])));
            let list = app.bearer_json("/v1/organization/members", &token).await;
            assert_eq!(list["data"].as_array().unwrap().len(), members);
            assert_eq!(told(&app.bearer("GET", "/v1/auth", &token).await), (Some("user_ada"), Some(id), Some(role)));
            let mine = app.bearer_json("/v1/me/organizations", &token).await;
            let ids: Vec<&Value> = mine["data"].as_array().unwrap().iter().map(|m| &m["clerk_org_id"]).collect();
            assert_eq!(ids, ["org_a", "org_b"]);
        }
        // Without an active organization there is none to show.
        let token = app.token("user_ada", None);
        assert_problem(&app.bearer("GET", "/v1/organization", &token).await, 404, "no-active-organization");
        assert_eq!(app.bearer_json("/v1/users/user_bob", &token).await["name"], "Ada Lovelace");
    }
}

/// No webhook ever arrives: tokens alone carry the application, and a role that changes in them is followed.
#[tokio::test]
async fn the_webhook_path_is_down_for_the_whole_story() {
    for engine in ENGINES {
        let clock = manual_clock();
        let app = TestApp::build().on(engine).clock(&clock).sessions().start().await;
        for user in ["user_ada", "user_bob"] {
            stored(&app, &app.token(user, Some(("org_a", "member")))).await;
        }
        let token = app.token("user_ada", Some(("org_a", "member")));
        let list = app.bearer_json("/v1/organization/members", &token).await;
        assert_eq!(list["data"].as_array().unwrap().len(), 2);
        assert_eq!(app.bearer("GET", "/v1/users/user_bob", &token).await.status, 200);
        clock.advance(60_000);
        let promoted = app.token("user_ada", Some(("org_a", "admin")));
        assert_eq!(told(&app.bearer("GET", "/v1/auth", &promoted).await).2, Some("org:admin"));
        // The older token, still good for its leeway, does not take it back.
        assert_eq!(told(&app.bearer("GET", "/v1/auth", &token).await).2, Some("org:admin"));
    }
}

/// Tokens and deliveries of the same people at once: no error, no duplicate, and the delivery's word in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_race_with_webhooks() {
    for engine in ENGINES {
        let app = TestApp::build().on(engine).clock(&manual_clock()).sessions().start().await;
        let people: Vec<String> = (0..12).map(|number| format!("user_{number}")).collect();
        let sign_ins = futures_util::future::join_all(people.iter().map(async |id| {
            let token = app.token(id, Some(("org_race", "member")));
            let paths = [("POST", "/v1/session"), ("GET", "/v1/auth"), ("GET", "/v1/me")];
            let calls = paths.map(|(method, path)| app.bearer(method, path, &token));
            for answer in futures_util::future::join_all(calls).await {
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
        }));
        let webhooks = futures_util::future::join_all(people.iter().map(|id| joins(&app, "org_race", id, "org:admin")));
        tokio::join!(sign_ins, webhooks);
        let tables = app.tables().await;
        assert_eq!(tables.users.len(), people.len());
        assert_eq!(tables.members.len(), people.len());
        for (pair, row) in tables.members {
            let shown = (row.provenance.as_deref(), row.role.as_deref());
            assert_eq!(shown, (Some("webhook"), Some("org:admin")), "{pair:?}");
        }
    }
}

/// A member of one organization over all routes and all ids of another: as if it were not there.
#[tokio::test]
async fn nothing_of_another_organization_is_seen() {
    for engine in ENGINES {
        let app = TestApp::build().on(engine).clock(&manual_clock()).sessions().start().await;
        joins(&app, "org_a", "user_ada", "org:admin").await;
        joins(&app, "org_b", "user_bob", "org:admin").await;
        joins(&app, "org_b", "user_eve", "org:member").await;
        leaves(&app, "org_b", "user_eve", NOW + 60_000).await;
        let ada = app.token("user_ada", Some(("org_a", "admin")));
        // All of a problem but the id of the request, which no two share.
        let problem = |answer: &Response| {
            let mut problem = answer.json().expect("a problem");
            problem.as_object_mut().expect("an object").remove("instance").expect("the id of the request");
            problem
        };
        let nobody = app.bearer("GET", "/v1/users/user_nobody", &ada).await;
        for id in ["user_bob", "user_eve", "org_b", "orgmem_org_b_user_bob", "user_", "..%2Fme", "%00", "user_bob'--"] {
            let answer = app.bearer("GET", &format!("/v1/users/{id}"), &ada).await;
            assert_problem(&answer, 404, "record-not-found");
            assert_eq!(problem(&answer), problem(&nobody), "hidden and missing look alike");
        }
        // Eve was removed from org_b, and claims it with a token that is older than that.
        let eve = app.token("user_eve", Some(("org_b", "admin")));
        for (method, route, access) in ROUTES.iter().filter(|(.., access)| *access == Access::Session) {
            let path = route.replace("{clerk_user_id}", "user_bob");
            let answer = app.bearer(method, &path, &eve).await;
            let text = answer.text();
            assert!(!text.contains("org_b") && !text.contains("user_bob"), "{access:?} {path}: {text}");
            assert!(answer.headers.values().all(|value| value != "org_b"), "{path}");
        }
        // A cursor of one list shows nothing of another.
        let bob = app.token("user_bob", Some(("org_b", "admin")));
        assert_eq!(app.bearer_json("/v1/organization/members?limit=1", &bob).await["next"], Value::Null);
        // "user_", in front of everybody; and three zero bytes: no list gave them out.
        for cursor in ["dXNlcl8", "AAAA"] {
            let answer = app.bearer("GET", &format!("/v1/organization/members?after={cursor}"), &ada).await;
            assert_problem(&answer, 400, "invalid-parameter");
        }
    }
}

/// A cursor holds for its list, its user and the active organization, on every replica and after every start.
#[tokio::test]
async fn a_cursor_is_good_for_nobody_else() {
    for engine in ENGINES {
        let clock = manual_clock();
        let app = TestApp::build().on(engine).clock(&clock).sessions().start().await;
        for organization in ["org_a", "org_b"] {
            for user in ["user_ada", "user_ben", "user_cyd"] {
                joins(&app, organization, user, "org:member").await;
            }
        }
        let (members, mine) = ("/v1/organization/members", "/v1/me/organizations");
        let (ada, ben) = (app.token("user_ada", Some(("org_a", "m"))), app.token("user_ben", Some(("org_a", "m"))));
        let elsewhere = app.token("user_ada", Some(("org_b", "m")));
        let first = async |path: &str, token: &str| {
            let page = app.bearer_json(&format!("{path}?limit=1"), token).await;
            page["next"].as_str().expect("there is more").to_owned()
        };
        let (of_members, of_mine) = (first(members, &ada).await, first(mine, &ada).await);
        let delivery = app.admin_json("/admin/v1/deliveries?limit=1").await["next"].as_str().unwrap().to_owned();
        for (path, token, cursor) in [
            (members, &ben, &of_members),
            (members, &elsewhere, &of_members),
            (members, &ada, &of_mine),
            (members, &ada, &delivery),
            (mine, &ben, &of_mine),
            (mine, &ada, &of_members),
        ] {
            let answer = app.bearer("GET", &format!("{path}?after={cursor}"), token).await;
            let problem = assert_problem(&answer, 400, "invalid-parameter");
            assert_eq!(problem["detail"], "`after` is not a cursor of this list.");
        }
        for cursor in [&of_members, &of_mine] {
            let answer = app.admin("GET", &format!("/admin/v1/deliveries?after={cursor}")).await;
            assert_problem(&answer, 400, "invalid-parameter");
        }
        // The next token of the same user, at another replica: what is listed of all one's organizations does not depend
        // on which is active.
        clock.advance(30_000);
        let replica = TestApp::build().database_url(&app.database_url).clock(&clock).sessions().start().await;
        let rest = replica.bearer_json(&format!("{members}?after={of_members}"), &ada).await;
        let ids: Vec<&Value> = rest["data"].as_array().unwrap().iter().map(|row| &row["clerk_user_id"]).collect();
        assert_eq!(ids, ["user_ben", "user_cyd"]);
        let rest = replica.bearer_json(&format!("{mine}?after={of_mine}"), &elsewhere).await;
        assert_eq!(rest["data"][0]["clerk_org_id"], "org_b");
        let rest = replica.admin_json(&format!("/admin/v1/deliveries?after={delivery}&limit=100")).await;
        assert_eq!(rest["data"].as_array().unwrap().len(), 11);
    }
}

/// On PostgreSQL every read for a caller goes through the policies too: where they show nothing, nothing is answered,
/// although each statement's own condition holds.
#[tokio::test]
async fn the_second_wall_stands_behind_every_read() {
    let app = TestApp::build().on_postgres().clock(&manual_clock()).sessions().start().await;
    joins(&app, "org_a", "user_ada", "org:admin").await;
    joins(&app, "org_a", "user_ben", "org:member").await;
    let token = app.token("user_ada", Some(("org_a", "admin")));
    let reads = ["/v1/me", "/v1/users/user_ben", "/v1/organization", "/v1/workspace"];
    let lists = ["/v1/me/organizations", "/v1/organization/members"];
    for path in reads.iter().chain(&lists) {
        assert_eq!(app.bearer("GET", path, &token).await.status, 200, "{path}");
    }
    let found = async || app.get("/metrics").await.text().contains("faircopy_row_level_security 1");
    eventually("the wall is in the figures", Duration::from_secs(5), found).await;
    let mut owner = PgConnection::connect(&app.database_url).await.unwrap();
    for statement in [
        "ALTER POLICY reader ON faircopy.users USING (false)",
        "ALTER POLICY reader ON faircopy.organizations USING (false)",
        "ALTER POLICY reader ON faircopy.organization_members USING (false)",
        "CREATE OR REPLACE FUNCTION faircopy.current_user_id() RETURNS text LANGUAGE sql STABLE \
            SET search_path = pg_catalog, pg_temp AS 'SELECT NULL::text'",
    ] {
        owner.execute(statement).await.unwrap();
    }
    for path in reads {
        assert_problem(&app.bearer("GET", path, &token).await, 404, "record-not-found");
    }
    for path in lists {
        assert_eq!(app.bearer_json(path, &token).await["data"], json!([]), "{path}");
    }
    // Who the caller is and where he stands is the service's own to know.
    assert_eq!(
        told(&app.bearer("GET", "/v1/auth", &token).await),
        (Some("user_ada"), Some("org_a"), Some("org:admin"))
    );
}

/// Every route of the table that asks for a session refuses whoever has none, and says why.
#[tokio::test]
async fn every_route_refuses_bad_tokens_by_their_reason() {
    let app =
        TestApp::build().clock(&manual_clock()).sessions().authorized_parties("https://app.example.com").start().await;
    let now = app.now();
    let with = |name: &str, value: Value| mint::draft("user_1", now).claim(name, value).sign();
    let cases = [
        ("token-invalid", "not.a.token".to_owned()),
        ("token-invalid", "x".repeat(9000)),
        ("token-type-mismatch", "ak_live_123".to_owned()),
        ("token-invalid-signature", mint::draft("user_1", now).sign_with(mint::other())),
        ("token-expired", with("exp", json!(now - 6))),
        ("token-not-active-yet", with("nbf", json!(now + 3600))),
        ("token-iat-in-the-future", with("iat", json!(now + 30))),
        ("token-invalid-issuer", with("iss", json!("https://other.example.com"))),
        ("token-invalid-authorized-parties", with("azp", json!("https://evil.example.com"))),
        ("token-verification-failed", with("sub", json!(7))),
        ("token-unknown-version", with("v", json!(3))),
        ("session-pending", with("sts", json!("pending"))),
    ];
    let routes: Vec<_> = ROUTES.iter().filter(|(.., access)| *access == Access::Session).collect();
    assert_eq!(routes.len(), 9);
    for (method, route, _) in routes {
        let path = route.replace("{clerk_user_id}", "user_1");
        assert_problem(&app.request(method, &path, &[], "").await, 401, "token-missing");
        let good = app.token("user_1", None);
        let in_query = format!("{path}?token={good}&__session={good}");
        assert_problem(&app.request(method, &in_query, &[], "").await, 401, "token-missing");
        for (code, token) in &cases {
            let answer = app.bearer(method, &path, token).await;
            assert_problem(&answer, 401, code);
            assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer error=\"invalid_token\""));
            assert!(!answer.text().contains(token.as_str()));
        }
        let line = format!("Bearer {good}");
        let twice = [("authorization", line.as_str()), ("authorization", line.as_str())];
        assert_problem(&app.request(method, &path, &twice, "").await, 400, "credentials-ambiguous");
        let foreign = [("authorization", line.as_str()), ("origin", "https://evil.example.com")];
        let answer = app.request(method, &path, &foreign, "").await;
        assert!(answer.header("access-control-allow-origin").is_none());
    }
    assert_problem(&app.get("/v1/nowhere").await, 401, "token-missing");
    let lower = format!("bearer {}", app.token("user_1", None));
    assert_eq!(app.request("GET", "/v1/me", &[("authorization", &lower)], "").await.status, 200);

    let off = TestApp::start().await;
    for (method, route, _) in ROUTES.iter().filter(|(.., access)| *access == Access::Session) {
        let path = route.replace("{clerk_user_id}", "user_1");
        assert_problem(&off.bearer(method, &path, "a.b.c").await, 503, "sessions-not-configured");
    }
}

/// The cookie counts for forward-auth alone, and must not name another than the header.
#[tokio::test]
async fn the_cookie_is_for_forward_auth() {
    let clock = manual_clock();
    let app = TestApp::build().clock(&clock).sessions().start().await;
    let (ada, bob) = (app.token("user_ada", None), app.token("user_bob", None));
    let cookie = |token: &str| format!("theme=dark; __session={token}");
    let bearer = format!("Bearer {ada}");
    let own = cookie(&ada);
    assert_eq!(told(&app.request("GET", "/v1/auth", &[("cookie", &own)], "").await).0, Some("user_ada"));
    assert_problem(&app.request("GET", "/v1/me", &[("cookie", &own)], "").await, 401, "token-missing");
    for other in [cookie(&bob), cookie("garbage")] {
        let both = [("authorization", bearer.as_str()), ("cookie", other.as_str())];
        assert_problem(&app.request("GET", "/v1/auth", &both, "").await, 400, "credentials-ambiguous");
    }
    // An expired cookie beside a fresh token is the rule in a background tab.
    clock.advance(120_000);
    let (fresh, expired) = (format!("Bearer {}", app.token("user_ada", None)), cookie(&bob));
    let both = [("authorization", fresh.as_str()), ("cookie", expired.as_str())];
    assert_eq!(told(&app.request("GET", "/v1/auth", &both, "").await).0, Some("user_ada"));
}

#[tokio::test]
async fn lists_are_paged() {
    for engine in ENGINES {
        let app = TestApp::build().on(engine).clock(&manual_clock()).sessions().start().await;
        for number in 0..7 {
            joins(&app, "org_a", &format!("user_{number}"), "org:member").await;
        }
        let token = app.token("user_0", Some(("org_a", "member")));
        let (mut seen, mut after) = (Vec::new(), String::new());
        for expected in [3, 3, 1] {
            let page = app.bearer_json(&format!("/v1/organization/members?limit=3{after}"), &token).await;
            let data = page["data"].as_array().unwrap();
            assert_eq!(data.len(), expected);
            seen.extend(data.iter().map(|member| member["clerk_user_id"].as_str().unwrap().to_owned()));
            assert!(data.iter().all(|member| member["name"] == "Ada Lovelace"));
            assert_eq!(page["next"].is_null(), expected == 1);
            after = page["next"].as_str().map(|next| format!("&after={next}")).unwrap_or_default();
        }
        assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 7);
        for query in ["limit=0", "limit=101", "limit=x", "after=%00", "after=!!", "offset=1"] {
            for list in ["/v1/organization/members", "/v1/me/organizations"] {
                let answer = app.bearer("GET", &format!("{list}?{query}"), &token).await;
                assert_problem(&answer, 400, "invalid-parameter");
            }
        }
    }
}

#[tokio::test]
async fn every_answer_says_how_fresh_it_is() {
    for engine in ENGINES {
        let clock = manual_clock();
        let app = TestApp::build().on(engine).clock(&clock).sessions().start().await;
        let token = app.token("user_ada", None);
        let bearer = format!("Bearer {token}");
        let asked = async |name: &str, value: &str| {
            app.request("GET", "/v1/me", &[("authorization", &bearer), (name, value)], "").await
        };
        let answer = app.bearer("GET", "/v1/me", &token).await;
        assert_eq!(answer.header("faircopy-as-of"), Some("1970-01-01T00:00:00.000Z"), "nothing was ever delivered");
        assert_problem(&asked("faircopy-max-staleness", "60").await, 503, "copy-stale");
        app.outcome("msg_1", user_created("user_ada")).await;
        let answer = asked("faircopy-max-staleness", "60").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("faircopy-as-of"), Some("2025-10-09T08:53:20.000Z"));
        let sequence = sequence(&answer);
        assert!(sequence > 0);
        clock.advance(30_000);
        assert_eq!(asked("faircopy-max-staleness", "30").await.status, 200);
        assert_problem(&asked("faircopy-max-staleness", "29").await, 503, "copy-stale");
        // What does not exist is said as freshly.
        let answer = app.bearer("GET", "/v1/users/user_x", &token).await;
        assert!(answer.status == 404 && answer.header("faircopy-sequence").is_some());

        // Reading one's own writes: the change is waited for, and not for ever.
        assert_eq!(asked("faircopy-min-sequence", &sequence.to_string()).await.status, 200);
        let wanted = (sequence + 1).to_string();
        let written = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            app.outcome("msg_2", user_created("user_bob")).await;
        };
        let (answer, ()) = tokio::join!(asked("faircopy-min-sequence", &wanted), written);
        assert_eq!(answer.status, 200);
        assert_problem(&asked("faircopy-min-sequence", "1000000").await, 503, "copy-behind");
        for value in ["-1", "x", "", "1.5"] {
            for name in ["faircopy-min-sequence", "faircopy-max-staleness"] {
                assert_problem(&asked(name, value).await, 400, "invalid-parameter");
            }
        }
    }
}

/// Forward-auth goes on without the database, by the token alone; what needs the copy says that it is away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_database_never_fails_forward_auth() {
    let mut cluster = Postgres::start().await;
    let url = cluster.create_database("auth").await;
    let app = TestApp::build().database_url(&url).sessions().start().await;
    // The machine's clock runs: a new token for each request.
    let token = || app.token("user_ada", Some(("org_a", "admin")));
    let all = (Some("user_ada"), Some("org_a"), Some("org:admin"));
    // The copy can be read and not written: nothing may be inserted.
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let refuse = "CREATE FUNCTION faircopy.no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'; \
        CREATE TRIGGER no BEFORE INSERT ON faircopy.users FOR EACH STATEMENT EXECUTE FUNCTION faircopy.no()";
    connection.execute(refuse).await.unwrap();
    drop(connection);
    assert_eq!(told(&app.bearer("GET", "/v1/auth", &token()).await), all);
    assert_problem(&app.bearer("POST", "/v1/session", &token()).await, 503, "database-unavailable");
    cluster.kill();
    for _ in 0..3 {
        assert_eq!(told(&app.bearer("GET", "/v1/auth", &token()).await), all);
    }
    assert_problem(&app.bearer("GET", "/v1/me", &token()).await, 503, "database-unavailable");
    let metrics = app.get("/metrics").await.text();
    assert!(metrics.contains("faircopy_session_copy_unread_total"), "{metrics}");
    assert!(metrics.contains("faircopy_session_writes_total{result=\"refused\"}"), "{metrics}");
    cluster.restart().await;
}

/// Pages of the origins that are named are answered, with errors too; nobody else's origin is told anything.
#[tokio::test]
async fn only_pages_of_named_origins_are_answered() {
    const APP: &str = "https://app.example.com";
    let app = TestApp::build().sessions().allowed_origins(APP).start().await;
    app.outcome("msg_1", user_created("user_1")).await;
    let bearer = format!("Bearer {}", app.token("user_1", None));
    let get = async |origin: &str, bearer: &str| {
        app.request("GET", "/v1/me", &[("origin", origin), ("authorization", bearer)], "").await
    };
    let answer = get(APP, &bearer).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some(APP)));
    assert_eq!(answer.header("access-control-allow-credentials"), None);
    assert!(answer.header("access-control-expose-headers").unwrap().contains("faircopy-as-of"));
    let refused = get(APP, "Bearer nonsense").await;
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, Some(APP)));
    for other in ["https://evil.example.com", "null", "https://app.example.com.evil.com", "http://app.example.com"] {
        let answer = get(other, &bearer).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, None), "{other}");
    }
    let asks = [
        ("origin", APP),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type,last-event-id"),
    ];
    let answer = app.request("OPTIONS", "/v1/live", &asks, "").await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some(APP)));
    assert!(answer.header("access-control-allow-headers").unwrap().contains("last-event-id"));
    // The operator's API is for no page but the dashboard.
    let answer = app.request("GET", "/admin/v1/statistics", &[("origin", APP)], "").await;
    assert_eq!(answer.header("access-control-allow-origin"), None);
}

//! Why the copy holds what it holds, and who is in it, for the operator.

use faircopy::sweep::Order;
use faircopy_testkit::clerk::Mood;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

use crate::app::{Engine, TestApp, assert_problem, manual_clock};
use crate::confirm::{clerk, ready};
use crate::events::{THEN, event, user};

const ENGINES: [Engine; 2] = [Engine::Sqlite, Engine::Postgres];

fn membership(id: &str, organization: &str, user: &str, updated_at: i64) -> Value {
    json!({
        "object": "organization_membership", "id": id, "role": "org:member", "permissions": [],
        "organization": { "id": organization, "name": "The firm", "created_at": THEN, "updated_at": THEN },
        "public_user_data": { "user_id": user, "first_name": "Ada" },
        "created_at": THEN, "updated_at": updated_at,
    })
}

fn named(id: &str, name: &str, email: &str, updated_at: i64) -> String {
    let mut user = user(id, updated_at);
    user["first_name"] = json!(name);
    user["email_addresses"][0]["email_address"] = json!(email);
    event("user.updated", &user).to_string()
}

/// `(code, outcome)` of each step.
fn steps(explanation: &Value) -> Vec<(&str, &str)> {
    let steps = explanation["steps"].as_array().unwrap();
    steps.iter().map(|step| (step["code"].as_str().unwrap(), step["outcome"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn a_history_is_explained_as_it_came() {
    for engine in ENGINES {
        let clock = manual_clock();
        let app = TestApp::build().on(engine).clock(&clock).start().await;
        app.outcome("msg_1", named("user_a", "Ada", "ada@mail.example", THEN + 10)).await;
        clock.advance(1000);
        let between = app.now();
        clock.advance(1000);
        app.outcome("msg_2", named("user_a", "Augusta", "ada@mail.example", THEN + 20)).await;
        clock.advance(1000);
        app.outcome("msg_3", named("user_a", "Older", "ada@mail.example", THEN + 5)).await;
        app.outcome("msg_4", event("user.created", &json!({ "id": "user_a", "updated_at": -1 })).to_string()).await;
        let now = app.admin_json("/admin/v1/explain/user_a").await;
        let expected = [("first", "won"), ("newer", "won"), ("older", "lost"), ("quarantined", "quarantined")];
        assert_eq!(steps(&now), expected, "{now:#}");
        assert_eq!((&now["subject"], &now["as_of"], &now["older"]), (&json!("user_a"), &Value::Null, &json!(0)));
        assert_eq!((&now["row"]["first_name"], &now["stored"]["first_name"]), (&json!("Augusta"), &json!("Augusta")));
        assert_eq!(
            (&now["agrees"], &now["verdict"], &now["is_complete"]),
            (&json!(true), &json!("agrees"), &json!(true))
        );
        assert_eq!(now["complete_since"], now["steps"][0]["at"]);
        assert_eq!(now["steps"][1]["svix_id"], "msg_2");
        assert_eq!(now["steps"][1]["row_after"]["first_name"], "Augusta");
        assert!(now["steps"][2].get("row_after").is_none(), "it changed nothing");

        let at = Millis::from(between);
        let then = app.admin_json(&format!("/admin/v1/explain/user_a?as_of={at}")).await;
        assert_eq!((steps(&then), &then["row"]["first_name"]), (vec![("first", "won")], &json!("Ada")));
        assert_eq!(then["stored"]["first_name"], "Augusta");
        let before = app.admin_json("/admin/v1/explain/user_a?as_of=2020-01-01T00:00:00Z").await;
        assert_eq!((steps(&before), &before["row"], &before["is_complete"]), (vec![], &Value::Null, &json!(false)));

        assert_problem(&app.admin("GET", "/admin/v1/explain/user_x").await, 404, "record-not-found");
        assert_problem(&app.admin("GET", "/admin/v1/explain/ada").await, 400, "invalid-parameter");
        assert_problem(&app.admin("GET", "/admin/v1/explain/user_a?as_of=then").await, 400, "invalid-parameter");
        app.stop().await;
    }
}

/// RFC 3339 of seconds.
struct Millis(faircopy_core::Millis);

impl From<i64> for Millis {
    fn from(seconds: i64) -> Self {
        Self(faircopy_core::Millis::from_seconds(seconds))
    }
}

impl std::fmt::Display for Millis {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(out)
    }
}

/// A removed member whom a late delivery would bring back, by the membership and by the pair; and the end of all with the
/// organization.
#[tokio::test]
async fn a_removed_member_stays_removed_and_it_is_said_why() {
    for engine in ENGINES {
        let clock = manual_clock();
        let app = TestApp::build().on(engine).clock(&clock).start().await;
        for (id, event_type, updated_at) in [
            ("msg_1", "organizationMembership.created", THEN),
            ("msg_2", "organizationMembership.deleted", THEN),
            ("msg_3", "organizationMembership.updated", THEN + 50),
        ] {
            app.outcome(id, event(event_type, &membership("orgmem_1", "org_a", "user_a", updated_at)).to_string())
                .await;
            clock.advance(1000);
        }
        let expected = vec![("first", "won"), ("deleted", "ended"), ("after-removal", "absorbed")];
        for path in ["orgmem_1", "org_a%2Fuser_a"] {
            let found = app.admin_json(&format!("/admin/v1/explain/{path}")).await;
            assert_eq!((steps(&found), &found["row"]), (expected.clone(), &Value::Null), "{path}: {found:#}");
            assert_eq!((&found["subject"], &found["verdict"]), (&json!("org_a/user_a"), &json!("agrees")));
        }
        // The organization is known from what the membership embeds.
        let found = app.admin_json("/admin/v1/explain/org_a").await;
        assert_eq!(steps(&found), [("first", "won"), ("same-content", "same")], "{found:#}");
        app.outcome("msg_4", event("organization.deleted", &json!({ "id": "org_a", "deleted": true })).to_string())
            .await;
        let found = app.admin_json("/admin/v1/explain/org_a%2Fuser_a").await;
        assert_eq!(steps(&found)[3], ("organization-deleted", "ended"), "{found:#}");
        assert_eq!(found["verdict"], "agrees");
        app.stop().await;
    }
}

#[tokio::test]
async fn a_row_that_somebody_else_changed_is_told() {
    let app = TestApp::start().await;
    app.outcome("msg_1", named("user_a", "Ada", "ada@mail.example", THEN)).await;
    let sql = async |statement: &str| {
        let mut connection = SqliteConnection::connect(&app.database_url).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    };
    sql("UPDATE users SET first_name = 'Eve' WHERE clerk_user_id = 'user_a'").await;
    let found = app.admin_json("/admin/v1/explain/user_a").await;
    assert_eq!((&found["agrees"], &found["verdict"]), (&json!(false), &json!("damaged")), "{found:#}");
    assert_eq!(found["differs"], json!(["first_name"]));
    app.admin("POST", "/admin/v1/deliveries/msg_1/replay").await;
    assert_eq!(app.admin_json("/admin/v1/explain/user_a").await["verdict"], "agrees");
    // What the copy learned is not stored any more: nobody can say, and it says so.
    sql("DELETE FROM webhook_deliveries").await;
    let found = app.admin_json("/admin/v1/explain/user_a").await;
    assert_eq!((&found["verdict"], &found["complete_since"]), (&json!("incomplete"), &Value::Null), "{found:#}");
    // Deletions say all by their type and id.
    app.outcome("msg_2", event("user.deleted", &json!({ "id": "user_a", "deleted": true })).to_string()).await;
    sql("UPDATE webhook_deliveries SET payload = NULL").await;
    let found = app.admin_json("/admin/v1/explain/user_a").await;
    assert_eq!((steps(&found), &found["is_complete"]), (vec![("deleted", "ended")], &json!(true)), "{found:#}");
    app.stop().await;
}

/// What came without a delivery is part of the story.
#[tokio::test]
async fn what_clerk_was_asked_for_is_explained() {
    for engine in ENGINES {
        let (clerk, clock) = (clerk().await, manual_clock());
        clerk.has_user("user_a", "Ada");
        let app = TestApp::build().on(engine).clerk(&clerk).without_reconcile().clock(&clock).start().await;
        ready(&app).await;
        app.outcome("msg_1", named("user_a", "Old", "old@mail.example", THEN)).await;
        clock.advance(1000);
        app.sweep(Order::reconcile()).await;
        let found = app.admin_json("/admin/v1/explain/user_a").await;
        assert_eq!(steps(&found), [("first", "won"), ("newer", "won")], "{found:#}");
        assert_eq!((&found["steps"][1]["source"], &found["steps"][1]["svix_id"]), (&json!("sweep"), &Value::Null));
        assert_eq!((&found["verdict"], &found["row"]["provenance"]), (&json!("agrees"), &json!("api")));
        app.stop().await;
    }
}

#[tokio::test]
async fn the_copy_is_compared_with_clerk_field_by_field() {
    for engine in ENGINES {
        let (clerk, clock) = (clerk().await, manual_clock());
        clerk.has_user("user_a", "Ada");
        clerk.has_organization("org_a", "The firm");
        let app = TestApp::build().on(engine).clerk(&clerk).without_reconcile().clock(&clock).start().await;
        ready(&app).await;
        app.outcome("msg_1", named("user_a", "Old", "old@mail.example", THEN)).await;
        let path = "/admin/v1/users/user_a/compare";
        let found = app.admin_json(path).await;
        assert_eq!(
            (&found["agrees"], &found["in_copy"], &found["in_clerk"]),
            (&json!(false), &json!(true), &json!(true))
        );
        let field =
            |name: &str| found["fields"].as_array().unwrap().iter().find(|field| field["column"] == name).cloned();
        let expected = json!({ "column": "first_name", "copy": "Old", "clerk": "Ada", "agrees": false });
        assert_eq!(field("first_name"), Some(expected), "{found:#}");
        assert_eq!(field("banned").unwrap()["agrees"], json!(true), "{found:#}");
        assert_eq!((field("provenance"), field("workspace_id")), (None, None));
        assert_eq!(app.tables().await.users["user_a"].first_name.as_deref(), Some("Old"), "nothing was changed");
        app.sweep(Order::reconcile()).await;
        assert_eq!(app.admin_json(path).await["agrees"], json!(true));
        let found = app.admin_json("/admin/v1/organizations/org_a/compare").await;
        assert_eq!(found["agrees"], json!(true), "{found:#}");

        clerk.deletes_user("user_a");
        let found = app.admin_json(path).await;
        assert_eq!((&found["agrees"], &found["in_clerk"]), (&json!(false), &json!(false)), "{found:#}");
        let path = "/admin/v1/users/user_x/compare";
        assert_problem(&app.admin("GET", path).await, 404, "record-not-found");
        clerk.is(Mood::Status(500));
        assert_problem(&app.admin("GET", path).await, 503, "clerk-unavailable");
        app.stop().await;
    }
}

#[tokio::test]
async fn users_organizations_and_members_are_listed_and_searched() {
    for engine in ENGINES {
        let app = TestApp::build().on(engine).start().await;
        for n in 1..=3 {
            let body = named(&format!("user_{n}"), &format!("Ada {n}"), &format!("ada{n}@mail.example"), THEN);
            app.outcome(&format!("msg_{n}"), body).await;
            let joined = membership(&format!("orgmem_{n}"), "org_a", &format!("user_{n}"), THEN);
            app.outcome(&format!("msg_m{n}"), event("organizationMembership.created", &joined).to_string()).await;
        }
        let ids = |page: &Value, key: &str| -> Vec<String> {
            let rows = page["data"].as_array().unwrap().iter();
            rows.map(|row| row[key].as_str().unwrap().to_owned()).collect()
        };
        let first = app.admin_json("/admin/v1/users?search=ADA&limit=2").await;
        assert_eq!(ids(&first, "clerk_user_id"), ["user_1", "user_2"], "{first:#}");
        assert_eq!(first["data"][0]["email"], "ada1@mail.example");
        let after = first["next"].as_str().unwrap();
        let rest = app.admin_json(&format!("/admin/v1/users?search=ADA&limit=2&after={after}")).await;
        assert_eq!((ids(&rest, "clerk_user_id"), &rest["next"]), (vec!["user_3".to_owned()], &Value::Null));
        for path in [
            format!("/admin/v1/users?after={after}"),
            format!("/admin/v1/users?search=ad&after={after}"),
            format!("/admin/v1/organizations?search=ADA&after={after}"),
            "/admin/v1/users?limit=101".to_owned(),
            format!("/admin/v1/users?search={}", "a".repeat(300)),
            "/admin/v1/users?search=%00".to_owned(),
            "/admin/v1/members".to_owned(),
            "/admin/v1/members?user=user_1&organization=org_a".to_owned(),
            "/admin/v1/members?user=ada".to_owned(),
        ] {
            assert_problem(&app.admin("GET", &path).await, 400, "invalid-parameter");
        }
        let everybody = app.admin_json("/admin/v1/users").await;
        assert_eq!(ids(&everybody, "clerk_user_id").len(), 3);
        let detail = app.admin_json("/admin/v1/users/user_1").await;
        assert_eq!(
            (&detail["name"], &detail["memberships"][0]["name"]),
            (&json!("Ada 1 Lovelace"), &json!("The firm"))
        );
        let detail = app.admin_json("/admin/v1/organizations/org_a").await;
        assert_eq!((&detail["name"], &detail["members"]), (&json!("The firm"), &json!(3)));
        assert_eq!(ids(&app.admin_json("/admin/v1/organizations?search=the").await, "clerk_org_id"), ["org_a"]);
        let page = app.admin_json("/admin/v1/members?organization=org_a&limit=2").await;
        assert_eq!(ids(&page, "clerk_user_id"), ["user_1", "user_2"]);
        let after = page["next"].as_str().unwrap();
        let page = app.admin_json(&format!("/admin/v1/members?organization=org_a&limit=2&after={after}")).await;
        assert_eq!(ids(&page, "clerk_user_id"), ["user_3"]);
        let path = format!("/admin/v1/members?user=user_1&after={after}");
        assert_problem(&app.admin("GET", &path).await, 400, "invalid-parameter");
        let page = app.admin_json("/admin/v1/members?user=user_1").await;
        assert_eq!(
            (ids(&page, "clerk_org_id"), &page["data"][0]["name"]),
            (vec!["org_a".to_owned()], &json!("The firm"))
        );
        for path in ["/admin/v1/users/user_x", "/admin/v1/users/ada", "/admin/v1/organizations/org_x"] {
            assert_problem(&app.admin("GET", path).await, 404, "record-not-found");
        }
        app.stop().await;
    }
}

/// In the minimal mode nobody's name is in the copy: it is asked of Clerk for what is shown.
#[tokio::test]
async fn in_the_minimal_mode_names_are_asked_of_clerk() {
    let (clerk, clock) = (clerk().await, manual_clock());
    clerk.has_user("user_a", "Ada");
    let app = TestApp::build().minimal().clerk(&clerk).without_reconcile().clock(&clock).start().await;
    ready(&app).await;
    app.outcome("msg_1", named("user_a", "Old", "old@mail.example", THEN)).await;
    let joined = membership("orgmem_1", "org_a", "user_a", THEN);
    app.outcome("msg_2", event("organizationMembership.created", &joined).to_string()).await;
    let name = json!("Ada Of-Clerk");
    assert_eq!(app.admin_json("/admin/v1/users").await["data"][0]["name"], name);
    assert_eq!(app.admin_json("/admin/v1/users/user_a").await["name"], name);
    assert_eq!(app.admin_json("/admin/v1/members?organization=org_a").await["data"][0]["name"], name);
    let found = app.admin_json("/admin/v1/explain/user_a").await;
    assert_eq!((&found["row"]["name"], &found["verdict"]), (&Value::Null, &json!("agrees")), "{found:#}");
    app.stop().await;
}

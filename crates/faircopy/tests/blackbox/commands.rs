//! The command line as a person meets it: what it prints where, and how it ends.

use std::fs;

use faircopy_testkit::clerk::{self, Clerk, Mood};
use faircopy_testkit::seed::Seed;
use faircopy_testkit::server::{Options, Server};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;

use crate::support::{ADMIN_TOKEN, History, Output, PATIENCE, Place, SECRET, admin, faircopy, post, sender};

const COMMANDS: [&str; 17] = [
    "demo",
    "serve",
    "sandbox",
    "trigger",
    "backfill",
    "reconcile",
    "cascade",
    "erasures",
    "alerts",
    "replay",
    "explain",
    "status",
    "doctor",
    "endpoint",
    "rls",
    "migrate",
    "completions",
];

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Runs a command that must succeed.
async fn succeed(env: &[(&str, &str)], arguments: &[&str]) -> Output {
    let output = faircopy(folder().path(), env, arguments).await;
    assert_eq!(output.code, Some(0), "faircopy {arguments:?}: {output:?}");
    output
}

#[tokio::test]
async fn serve_does_not_start_with_content_that_could_not_go() {
    let folder = folder();
    let content = "[[content]]\ntable = 'notes'\nkey = 'id'\nparent = 'workspace'\nparent_key = 'workspace_id'\n";
    fs::write(folder.path().join("faircopy.toml"), content).expect("write faircopy.toml");
    let refused = faircopy(folder.path(), &[("FAIRCOPY_LISTEN", "127.0.0.1:0")], &["serve"]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    for part in ["content table `notes` is not in the file of DATABASE_URL", "content-tree-invalid"] {
        assert!(refused.stderr.contains(part), "{refused:?}");
    }
    fs::write(folder.path().join("faircopy.toml"), content.replace("'workspace'", "'romms'")).expect("write");
    let refused = faircopy(folder.path(), &[], &["serve"]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("content table `notes`: `parent` is `romms`"), "{refused:?}");
}

/// Company, mail and repair are other ones with each seed; the copy equals Clerk with all of them.
#[tokio::test]
async fn the_demo_proves_its_copy() {
    let output = succeed(&[], &["demo", "--once"]).await;
    assert!(output.stdout.contains("copy = Clerk: "), "{output:?}");
    for place in ["/webhooks/clerk", "/docs", "sandbox ", "/metrics", "next: curl ", "/v1/me"] {
        assert!(output.stdout.contains(place), "{place}: {output:?}");
    }
    for act in ["1. Backfill: ", "2. The company lives: ", "3. Clerk's own 45 example", "4. Reconcile: "] {
        assert!(output.stderr.contains(act), "{act}: {output:?}");
    }
    assert!(!output.stdout.contains('\u{1b}'), "no colour into a pipe");
    for seed in ["7", "8", "9"] {
        let json = succeed(&[], &["demo", "--once", "--json", "--seed", seed]).await.json();
        assert_eq!(json["differences"], json!([]), "{json}");
        assert!(json["users"].as_i64().is_some_and(|users| users > 100), "{json}");
        let (life, reconcile) = (&json["story"]["life"], &json["story"]["reconcile"]);
        let count = |name: &str| life[name].as_u64().unwrap_or_else(|| panic!("{name}: {life}"));
        assert_eq!(count("delivered") + count("lost"), count("deliveries"), "{life}");
        assert!(count("changes") == 300 && count("lost") > 0 && count("twice") > 0 && count("overtaken") > 0, "{life}");
        assert_eq!(json["story"]["examples"], json!({ "ignored": 45 }), "{json}");
        assert_eq!(reconcile["outcome"], json!("repaired"), "{reconcile}");
    }
}

#[tokio::test]
async fn the_demo_does_not_touch_a_database_that_is_there() {
    let folder = folder();
    let path = folder.path().to_str().expect("a readable path");
    fs::write(folder.path().join("faircopy-demo.db"), b"something").expect("write");
    let refused = faircopy(folder.path(), &[], &["demo", "--once", "--data-dir", path]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("faircopy-demo.db"), "{refused:?}");
    assert_eq!(fs::read(folder.path().join("faircopy-demo.db")).expect("read"), b"something");
}

async fn trigger(place: Place) {
    let server = place.serve().await;
    let url = format!("{}/webhooks/clerk", server.url());
    let arguments = ["trigger", "user.created", "--set", "data.first_name=Ada", "--url", &url, "--secret", SECRET];
    let output = succeed(&[], &arguments).await;
    assert!(output.stdout.contains("applied") && !output.stdout.contains(&SECRET[6..]), "{output:?}");
    let users = place.tables().await.users;
    assert_eq!(users.len(), 1);
    assert!(users.values().all(|user| user.first_name.as_deref() == Some("Ada")), "{users:?}");

    // Without --url and --secret it takes what the server was started with.
    let listen = server.url().trim_start_matches("http://").to_owned();
    let env = [("FAIRCOPY_LISTEN", listen.as_str()), ("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)];
    let json = succeed(&env, &["trigger", "user.updated", "--set", "data.first_name=Grace", "--json"]).await.json();
    assert_eq!((&json["status"], &json["answer"]["outcome"]), (&json!(200), &json!("applied")), "{json}");
    assert!(place.tables().await.users.values().any(|user| user.first_name.as_deref() == Some("Grace")));

    let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let refused = faircopy(folder().path(), &[], &["trigger", "user.created", "--url", &url, "--secret", other]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
}

#[tokio::test]
async fn trigger_changes_the_row_on_sqlite() {
    trigger(Place::sqlite()).await;
}

#[tokio::test]
async fn trigger_changes_the_row_on_postgres() {
    trigger(Place::postgres().await).await;
}

#[tokio::test]
async fn trigger_lists_every_type_and_knows_no_other() {
    let list = succeed(&[], &["trigger", "--list"]).await;
    assert_eq!(list.stdout.lines().count(), 45);
    assert!(list.stdout.lines().any(|line| line == "organizationMembership.deleted"));
    let json = succeed(&[], &["trigger", "--list", "--json"]).await.json();
    assert_eq!(json.as_array().map(Vec::len), Some(45));
    let unknown = faircopy(folder().path(), &[], &["trigger", "user.creatd", "--secret", SECRET]).await;
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
    assert!(unknown.stderr.contains("user.created"), "it names what is near: {unknown:?}");
    let nobody = ["trigger", "user.created", "--secret", SECRET, "--url", "http://127.0.0.1:1/webhooks/clerk"];
    let nobody = faircopy(folder().path(), &[], &nobody).await;
    assert_eq!(nobody.code, Some(1), "{nobody:?}");
    assert!(nobody.stderr.contains("faircopy serve"), "it says what to look at: {nobody:?}");
}

async fn migrate_and_status(place: Place) {
    let env = [("DATABASE_URL", place.url())];
    let pending = faircopy(folder().path(), &env, &["migrate", "--check", "--json"]).await;
    assert_eq!(pending.code, Some(1), "{pending:?}");
    assert!(pending.json()["pending"].as_array().is_some_and(|list| !list.is_empty()), "{pending:?}");
    let early = faircopy(folder().path(), &env, &["status"]).await;
    assert_eq!(early.code, Some(1), "{early:?}");
    assert!(early.stderr.contains("faircopy migrate"), "it says what to do: {early:?}");
    succeed(&env, &["migrate"]).await;
    succeed(&env, &["migrate", "--check"]).await;
    assert_eq!(succeed(&env, &["migrate", "--json"]).await.json()["applied"], json!([]), "a second time does nothing");

    let seed = Seed::of_run();
    let history = History::random(seed.value(), 300);
    let server = Server::start(place.options().argument("--no-migrate")).await;
    sender(&server).send_all(history.deliveries(seed.value()), 8, PATIENCE).await.assert_complete();
    let json = succeed(&env, &["status", "--json"]).await.json();
    assert_eq!(json["users"], json!(history.truth.users.len()), "{json}");
    assert_eq!(json["members"], json!(history.truth.members.len()), "{json}");
    assert!(!json["database"].is_null(), "{json}");
    let text = succeed(&env, &["status"]).await;
    assert!(text.stdout.contains("organization_members") && text.stdout.contains("applied"), "{text:?}");
}

#[tokio::test]
async fn migrate_and_status_tell_the_truth_on_sqlite() {
    migrate_and_status(Place::sqlite()).await;
}

#[tokio::test]
async fn migrate_and_status_tell_the_truth_on_postgres() {
    migrate_and_status(Place::postgres().await).await;
}

/// `status --check`: nothing on a whole copy, the finding and what to do on a damaged one, Clerk's numbers where there is a key.
async fn status_check(place: Place) {
    let env = [("DATABASE_URL", place.url())];
    let early = faircopy(folder().path(), &env, &["status", "--check"]).await;
    assert_eq!(early.code, Some(1), "{early:?}");
    let seed = Seed::of_run();
    let history = History::company(seed.value(), 20, 4);
    let server = place.serve().await;
    sender(&server).send_all(history.deliveries(seed.value()), 8, PATIENCE).await.assert_complete();
    let fine = succeed(&env, &["status", "--check"]).await;
    assert!(fine.stdout.contains("member-without-user") && !fine.stdout.contains("FINDING"), "{fine:?}");
    let json = succeed(&env, &["status", "--check", "--json"]).await.json();
    assert_eq!((&json["findings"], &json["unknown"], &json["clerk"]), (&json!(0), &json!(0), &json!([])), "{json}");
    assert!(json["checks"].as_array().is_some_and(|checks| checks.iter().all(|check| check["status"] == "ok")));

    // An instance with other numbers than the copy: its users and organizations are as many, its invitations none.
    let clerk = Clerk::start("ins_1", "").await;
    let count = |table: &str| match table {
        "users" => history.truth.users.len(),
        _ => history.truth.organizations.len(),
    };
    (0..count("users")).for_each(|number| clerk.has_user(&format!("user_{number}"), "Somebody"));
    (0..count("organizations")).for_each(|number| clerk.has_organization(&format!("org_{number}"), "Some"));
    let env = [env[0], ("CLERK_SECRET_KEY", clerk::KEY), ("CLERK_API_URL", clerk.url())];
    let differs = faircopy(folder().path(), &env, &["status", "--check", "--json"]).await;
    assert_eq!(differs.code, Some(3), "{differs:?}");
    let json = differs.json();
    let status: Vec<&Value> = json["clerk"].as_array().expect("totals").iter().map(|total| &total["status"]).collect();
    let invitations = if history.truth.invitations.is_empty() { "ok" } else { "finding" };
    assert_eq!(status, ["ok", "ok", "finding", invitations], "{json}");
    assert_eq!(json["clerk"][2]["copy"], json!(history.truth.members.len()), "{json}");
    clerk.has_no_organizations();
    let json = faircopy(folder().path(), &env, &["status", "--check", "--json"]).await.json();
    assert_eq!((&json["clerk"][1]["clerk"], &json["clerk"][1]["status"]), (&json!(0), &json!("finding")), "{json}");
    clerk.is(Mood::Status(500));
    let silent = faircopy(folder().path(), &env, &["status", "--check"]).await;
    assert_eq!(silent.code, Some(1), "{silent:?}");
    assert!(silent.stdout.contains("unknown") && silent.stderr.contains("Clerk could not be asked"), "{silent:?}");

    let gone = history.truth.users.keys().next().expect("a user");
    place.sql(&format!("DELETE FROM {{s}}users WHERE clerk_user_id = '{gone}'")).await;
    let found = faircopy(folder().path(), &env[..1], &["status", "--check"]).await;
    assert_eq!(found.code, Some(3), "{found:?}");
    assert!(found.stdout.contains("FINDING") && found.stdout.contains("row-missing"), "{found:?}");
    assert!(found.stdout.contains(gone.as_str()) && found.stdout.contains("What to do: "), "{found:?}");
    assert!(!found.stdout.contains('\u{1b}') && found.stderr.lines().count() == 1, "{found:?}");
}

#[tokio::test]
async fn status_check_finds_what_is_wrong_on_sqlite() {
    status_check(Place::sqlite()).await;
}

#[tokio::test]
async fn status_check_finds_what_is_wrong_on_postgres() {
    status_check(Place::postgres().await).await;
}

#[tokio::test]
async fn endpoint_says_every_step() {
    let types = [
        "user.created",
        "user.updated",
        "user.deleted",
        "organization.created",
        "organization.updated",
        "organization.deleted",
        "organizationMembership.created",
        "organizationMembership.updated",
        "organizationMembership.deleted",
        "organizationInvitation.created",
        "organizationInvitation.accepted",
        "organizationInvitation.revoked",
    ];
    let url = "https://app.example.com/webhooks/clerk";
    let told = succeed(&[], &["endpoint", "--url", "https://app.example.com"]).await;
    for word in [
        "Webhooks",
        "Add Endpoint",
        "Subscribe to events",
        "Signing Secret",
        "CLERK_WEBHOOK_SIGNING_SECRET",
        "Send Example",
        url,
    ] {
        assert!(told.stdout.contains(word), "{word}: {told:?}");
    }
    let ticked: Vec<&str> = told.stdout.lines().filter_map(|line| line.trim().strip_prefix("[x] ")).collect();
    assert_eq!(ticked, types);
    assert!(told.stderr.contains("CLERK_SECRET_KEY") && !told.stderr.contains("cannot deliver"), "{told:?}");
    let json = succeed(&[("FAIRCOPY_LISTEN", "127.0.0.1:4000")], &["endpoint", "--json"]).await;
    assert!(
        json.stderr.contains("clerk webhooks listen --forward-to http://127.0.0.1:4000/webhooks/clerk"),
        "{json:?}"
    );
    let json = json.json();
    assert_eq!((&json["events"], &json["reachable"]), (&json!(types), &json!(false)), "{json}");
    assert_eq!(json["url"], "http://127.0.0.1:4000/webhooks/clerk");
    assert_eq!((&json["portal_url"], &json["portal_missing"]), (&Value::Null, &json!("no-key")));
    for wrong in ["nonsense", "ftp://app.example.com", "https://u:p@app.example.com/", "https://app.example.com/?x=1"] {
        let refused = faircopy(folder().path(), &[], &["endpoint", "--url", wrong]).await;
        assert_eq!(refused.code, Some(2), "{wrong}: {refused:?}");
    }

    // With a key, a link: on standard output and nowhere else.
    const LINK: &str = "https://app.svix.com/login#key=canary-of-a-secret";
    let clerk = Clerk::start("ins_1", "").await;
    let env = [("CLERK_SECRET_KEY", clerk::KEY), ("CLERK_API_URL", clerk.url()), ("FAIRCOPY_LOG", "trace")];
    let early = succeed(&env, &["endpoint", "--url", url]).await;
    assert!(early.stderr.contains("no webhooks yet") && early.stdout.contains("Add Endpoint"), "{early:?}");
    clerk.has_webhooks(LINK);
    let told = succeed(&env, &["endpoint", "--url", url]).await;
    assert!(told.stdout.contains(LINK) && !told.stderr.contains("canary"), "{told:?}");
    assert_eq!(succeed(&env, &["endpoint", "--url", url, "--json"]).await.json()["portal_url"], LINK);
    clerk.has_webhooks("javascript:alert(1)");
    assert!(!succeed(&env, &["endpoint", "--url", url]).await.stdout.contains("javascript"));
    for mood in [Mood::Status(500), Mood::Status(401), Mood::Html, Mood::Limited(Some(60))] {
        clerk.is(mood.clone());
        let told = succeed(&env, &["endpoint", "--url", url]).await;
        assert!(told.stdout.contains("Add Endpoint") && told.stderr.contains("link"), "{mood:?}: {told:?}");
    }
    assert!(
        clerk.asked().iter().all(|path| ["/v1/jwks", "/v1/instance", "/v1/webhooks/svix_url"].contains(&path.as_str()))
    );
}

#[tokio::test]
async fn serve_without_migrations_is_not_ready() {
    let place = Place::sqlite();
    let options = place.options().argument("--no-migrate").ready_path("/healthz");
    let server = Server::start(options).await;
    assert_eq!(server.get("/readyz").await.expect("an answer").status, 503);
    let history = History::random(1, 1);
    let (id, body) = &history.deliveries(1)[0];
    let reply = sender(&server).send(id, body).await;
    assert_eq!(reply.status, 503, "nothing is acknowledged that cannot be stored: {}", reply.body);
}

#[tokio::test]
async fn rls_check_tries_to_cross_and_tells() {
    let place = Place::sqlite();
    let env = [("DATABASE_URL", place.url())];
    let none = succeed(&env, &["rls", "check"]).await;
    assert!(none.stdout.is_empty() && none.stderr.contains("SQLite has no roles"), "{none:?}");
    assert_eq!(succeed(&env, &["rls", "check", "--json"]).await.json()["findings"], json!(0));

    let place = Place::postgres().await;
    let env = [("DATABASE_URL", place.url())];
    let (_, name) = place.url().rsplit_once('/').expect("a database");
    let role = format!("app_{name}");
    let mut administrator = PgConnection::connect(place.url()).await.expect("connect");
    administrator.execute(AssertSqlSafe(format!("CREATE ROLE {role} LOGIN"))).await.expect("a role");
    let url = place.url().replacen("postgres@", &format!("{role}@"), 1);
    for arguments in [&["rls", "check"][..], &["rls", "check", "--app-database-url", "sqlite://app.db"]] {
        let refused = faircopy(folder().path(), &env, arguments).await;
        assert_eq!(refused.code, Some(2), "{refused:?}");
    }
    let early = faircopy(folder().path(), &env, &["rls", "check", "--as-role", &role]).await;
    assert_eq!(early.code, Some(1), "{early:?}");
    assert!(early.stderr.contains("faircopy migrate"), "it says what to do: {early:?}");

    let history = History::company(Seed::of_run().value(), 20, 4);
    let server = place.serve().await;
    sender(&server).send_all(history.deliveries(1), 8, PATIENCE).await.assert_complete();
    let grant = format!("GRANT faircopy_reader TO {role}");
    administrator.execute(AssertSqlSafe(grant)).await.expect("a grant");
    for arguments in [["rls", "check", "--as-role", &role], ["rls", "check", "--app-database-url", &url]] {
        let fine = succeed(&env, &arguments).await;
        assert!(fine.stdout.contains("faircopy.user_profiles") && !fine.stdout.contains("FINDING"), "{fine:?}");
    }
    let json = succeed(&[env[0], ("FAIRCOPY_APP_ROLE", &role)], &["rls", "check", "--json"]).await.json();
    assert_eq!((&json["findings"], &json["role"]), (&json!(0), &json!(role)), "{json}");

    let leak = "CREATE VIEW faircopy.everybody AS SELECT * FROM faircopy.users";
    administrator.execute(leak).await.expect("a view");
    let grant = format!("GRANT SELECT ON faircopy.everybody TO {role}");
    administrator.execute(AssertSqlSafe(grant)).await.expect("a grant");
    let found = faircopy(folder().path(), &env, &["rls", "check", "--as-role", &role]).await;
    assert_eq!(found.code, Some(1), "{found:?}");
    assert!(found.stdout.contains("FINDING") && found.stdout.contains("security_invoker"), "{found:?}");
    assert!(found.stderr.contains("docs/row-level-security.md"), "{found:?}");
    place.tables().await.assert_same_as(&history.truth);
}

async fn replay(place: Place) {
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 300);
    let server = place.serve().await;
    sender(&server).send_all(history.deliveries(seed.value()), 8, PATIENCE).await.assert_complete();
    post(&sender(&server), "msg_poison", "{").await.expect("an answer");
    let env = [("DATABASE_URL", place.url())];
    let count = history.events.len();

    // Of users who were deleted nothing is kept that could be applied.
    let told =
        |all: &Value| all["replayed"].as_u64().zip(all["erased"].as_u64()).map(|(replayed, erased)| replayed + erased);
    let all = succeed(&env, &["replay", "--all", "--json"]).await.json();
    assert_eq!((told(&all), &all["applied"]), (Some(count as u64 + 1), &json!(0)), "{all}");
    assert_eq!(all["quarantined"], json!(1), "{all}");
    let failed = succeed(&env, &["replay", "--failed", "--json"]).await.json();
    assert_eq!((&failed["replayed"], &failed["quarantined"]), (&json!(1), &json!(1)), "{failed}");
    let (one, two) = (history.events[0].svix_id.as_str(), history.events[1].svix_id.as_str());
    assert_eq!(told(&succeed(&env, &["replay", one, two, "--json"]).await.json()), Some(2));
    let since = succeed(&env, &["replay", "--since", "2020-01-01T00:00:00Z", "--json"]).await.json();
    assert_eq!(told(&since), Some(count as u64 + 1), "{since}");
    let unknown = faircopy(folder().path(), &env, &["replay", "msg_unknown"]).await;
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    let nothing = faircopy(folder().path(), &env, &["replay"]).await;
    assert_eq!(nothing.code, Some(2), "{nothing:?}");
    place.tables().await.assert_same_as(&history.truth);

    // One of nobody who could have been deleted.
    let kept = admin(&server, "GET", "deliveries?type=organization.created&limit=1").await;
    let kept = kept["data"][0]["svix_id"].as_str().expect("an organization in 300 events");
    let replayed = admin(&server, "POST", &format!("deliveries/{kept}/replay")).await;
    assert_eq!(replayed["id"], json!(kept));
}

#[tokio::test]
async fn replay_changes_nothing_that_is_known_on_sqlite() {
    replay(Place::sqlite()).await;
}

#[tokio::test]
async fn replay_changes_nothing_that_is_known_on_postgres() {
    replay(Place::postgres().await).await;
}

/// A copy from a saved file alone, and a damaged copy healed by a replay.
#[tokio::test]
async fn replay_of_a_file_makes_a_copy() {
    let seed = Seed::of_run();
    let history = History::random(seed.value(), 300);
    let place = Place::sqlite();
    let folder = folder();
    let lines: Vec<String> = history
        .deliveries(seed.value())
        .into_iter()
        .map(|(id, body)| {
            let body: Value = serde_json::from_str(&body).expect("JSON");
            json!({"headers": {"svix-id": id}, "payload": body}).to_string()
        })
        .collect();
    let file = folder.path().join("events.jsonl");
    fs::write(&file, lines.join("\n")).expect("write the file");
    let env = [("DATABASE_URL", place.url())];
    succeed(&env, &["migrate"]).await;
    for _ in 0..2 {
        succeed(&env, &["replay", "--file", file.to_str().expect("a readable path")]).await;
        place.tables().await.assert_same_as(&history.truth);
    }
    assert_eq!(place.deliveries().await.len(), history.events.len());
    let server = place.serve().await;
    crate::support::feed(&server).await;

    let broken = folder.path().join("broken.jsonl");
    fs::write(&broken, "nonsense\n").expect("write the file");
    let refused = faircopy(folder.path(), &env, &["replay", "--file", broken.to_str().expect("readable")]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("broken.jsonl:1"), "it names the line: {refused:?}");
}

#[tokio::test]
async fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = succeed(&[], &["completions", shell]).await;
        for command in COMMANDS {
            assert!(output.stdout.contains(command), "{shell}: {command} is missing");
        }
    }
    let bash = succeed(&[], &["completions", "bash"]).await;
    let file = folder();
    fs::write(file.path().join("completion"), bash.stdout).expect("write");
    let check = std::process::Command::new("bash").arg("-n").arg(file.path().join("completion")).status();
    assert!(check.expect("bash").success(), "bash reads it");
    assert_eq!(faircopy(file.path(), &[], &["completions", "cobol"]).await.code, Some(2));
}

#[tokio::test]
async fn bad_settings_are_refused_by_name_and_never_shown() {
    let check = async |env: &[(&str, &str)], file: Option<&str>, name: &str, secret: &str| {
        let folder = folder();
        if let Some(text) = file {
            fs::write(folder.path().join("faircopy.toml"), text).expect("write the file");
        }
        let output = faircopy(folder.path(), env, &["serve"]).await;
        assert_eq!(output.code, Some(2), "{env:?} {file:?}: {output:?}");
        assert!(output.stderr.contains(name), "{name} is not named: {output:?}");
        let shown = format!("{}{}", output.stdout, output.stderr);
        assert!(secret.is_empty() || !shown.contains(secret), "{secret} is shown: {output:?}");
    };
    let key = "CLERK_WEBHOOK_SIGNING_SECRET";
    check(&[(key, "")], None, key, "").await;
    check(&[(key, "whsec_")], None, key, "").await;
    check(&[(key, "whsec_c2hvcnQ=")], None, key, "c2hvcnQ").await;
    check(&[(key, "not-a-secret-of-svix")], None, key, "not-a-secret-of-svix").await;
    check(&[(key, &format!("{SECRET},whsec_???"))], None, key, &SECRET[6..]).await;
    check(&[("FAIRCOPY_ADMIN_TOKEN", "hunter2")], None, "FAIRCOPY_ADMIN_TOKEN", "hunter2").await;
    check(&[("DATABASE_URL", "mysql://root:hunter2@db/app")], None, "DATABASE_URL", "hunter2").await;
    check(&[("DATABASE_URL", "postgres://app:hunter2@db:notaport/app")], None, "DATABASE_URL", "hunter2").await;
    check(&[("FAIRCOPY_LISTEN", "everywhere")], None, "FAIRCOPY_LISTEN", "").await;
    check(&[("CLERK_WEBHOOK_SIGNING_SECRET_FILE", "/nowhere")], None, "CLERK_WEBHOOK_SIGNING_SECRET_FILE", "").await;
    check(&[("FAIRCOPY_CONFIG", "/nowhere.toml")], None, "/nowhere.toml", "").await;
    check(&[], Some("listne = \"127.0.0.1:1\""), "listne", "").await;
    check(&[], Some("[clerk]\nwebhook_secert = \"whsec_hunter2\""), "webhook_secert", "hunter2").await;
    check(&[], Some("[clerk]\nwebhook_signing_secret = 12345678"), "webhook_signing_secret", "12345678").await;
    check(&[], Some("admin_token = \"hunter2\""), "ADMIN_TOKEN", "hunter2").await;
    check(&[], Some("= hunter2"), "faircopy.toml", "hunter2").await;
}

#[tokio::test]
async fn wrong_usage_ends_with_2_and_a_dead_database_with_1() {
    for arguments in [&["frobnicate"][..], &["serve", "--frobnicate"], &["trigger"], &["replay", "--all", "msg_1"]] {
        let output = faircopy(folder().path(), &[], arguments).await;
        assert_eq!(output.code, Some(2), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty(), "talk goes to standard error: {output:?}");
    }
    let dead = "postgres://app:hunter2@127.0.0.1:1/app";
    for arguments in [&["status"][..], &["migrate"], &["replay", "--all"]] {
        let output = faircopy(folder().path(), &[("DATABASE_URL", dead)], arguments).await;
        assert_eq!(output.code, Some(1), "{arguments:?}: {output:?}");
        assert!(output.stderr.contains("DATABASE_URL"), "it says what to look at: {output:?}");
        assert!(!output.stderr.contains("hunter2"), "{output:?}");
    }
    // A database that is away is waited for, a folder that is not there is not.
    let nowhere = [("DATABASE_URL", "sqlite://no-such-folder/copy.db")];
    let output = faircopy(folder().path(), &nowhere, &["serve", "--listen", "127.0.0.1:0"]).await;
    assert_eq!(output.code, Some(1), "{output:?}");
    assert!(output.stderr.contains("names a folder that does not exist"), "{output:?}");
}

#[tokio::test]
async fn every_command_shows_an_example_and_no_colour_is_forced() {
    let help = succeed(&[], &["--help"]).await;
    for command in COMMANDS {
        assert!(help.stdout.contains(&format!("  {command} ")), "{command} is not in --help");
        let own = succeed(&[("NO_COLOR", "1")], &[command, "--help"]).await;
        let (_, example) = own.stdout.split_once("Example").unwrap_or_else(|| panic!("{command} has no example"));
        assert!(example.contains(&format!("faircopy {command}")), "{own:?}");
        assert!(!own.stdout.contains('\u{1b}'), "{own:?}");
    }
    assert!(succeed(&[], &["--version"]).await.stdout.starts_with("faircopy "));
}

/// A server and its commands with NO_COLOR on a terminal, as `script` makes one.
#[tokio::test]
async fn no_color_is_respected_on_a_terminal() {
    let place = Place::sqlite();
    let env = [("DATABASE_URL", place.url())];
    succeed(&env, &["migrate"]).await;
    let binary = faircopy_testkit::server::binary();
    let on_a_terminal = |no_color: &str| {
        let command = format!("{} status --nonsense; {} status", binary.display(), binary.display());
        let mut script = std::process::Command::new("script");
        script.args(["--quiet", "--command", &command, "/dev/null"]);
        script.env("TERM", "xterm").env("NO_COLOR", no_color).env("DATABASE_URL", place.url());
        script.stdin(std::process::Stdio::null());
        String::from_utf8(script.output().expect("script (util-linux)").stdout).expect("UTF-8")
    };
    let plain = on_a_terminal("1");
    assert!(plain.contains("webhook_deliveries") || plain.contains("organization_members"), "{plain}");
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    assert!(on_a_terminal("").contains('\u{1b}'), "without NO_COLOR a terminal gets some");
}

#[tokio::test]
async fn serve_in_development_prints_a_secret_that_works() {
    let place = Place::sqlite();
    let server = Server::start(Options::new().env("DATABASE_URL", place.url()).argument("--dev")).await;
    let printed = |name: &str| {
        let log = server.stderr();
        let line = log.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned));
        line.unwrap_or_else(|| panic!("{name} is not printed: {log}"))
    };
    let url = format!("{}/webhooks/clerk", server.url());
    let secret = printed("CLERK_WEBHOOK_SIGNING_SECRET");
    let output = succeed(&[], &["trigger", "user.created", "--url", &url, "--secret", &secret]).await;
    assert!(output.stdout.contains("applied"), "{output:?}");
    let bearer = format!("Bearer {}", printed("FAIRCOPY_ADMIN_TOKEN"));
    let statistics = format!("{}/admin/v1/statistics", server.url());
    let headers = [("authorization", bearer.as_str())];
    let answer = faircopy_testkit::client::request("GET", &statistics, &headers, "", PATIENCE).await;
    assert_eq!(answer.expect("an answer").status, 200);
}

#[tokio::test]
async fn a_banner_never_shows_what_is_configured() {
    let place = Place::sqlite();
    let server = place.serve().await;
    let shown = format!("{}{}", server.stdout(), server.stderr());
    assert!(shown.contains(&server.url()), "{shown}");
    assert!(!shown.contains(&SECRET[6..]) && !shown.contains(ADMIN_TOKEN), "{shown}");
}

#[tokio::test]
async fn a_taken_address_is_said() {
    let server = Place::sqlite();
    let first = server.serve().await;
    let listen = first.url().trim_start_matches("http://").to_owned();
    let env = [("DATABASE_URL", server.url()), ("CLERK_WEBHOOK_SIGNING_SECRET", SECRET)];
    let second = faircopy(folder().path(), &env, &["serve", "--listen", &listen]).await;
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.stderr.contains(&listen), "{second:?}");
}

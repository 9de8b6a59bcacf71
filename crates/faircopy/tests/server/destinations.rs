//! Destinations that are webhooks: what arrives, signed so that the libraries of others verify it; what becomes of what is not taken; and
//! what an operator says. The worker runs by itself; the clock is the test's own.

use std::collections::BTreeMap;
use std::time::Duration;

use faircopy::app::ManualClock;
use faircopy_core::destination::DELAYS_MS;
use faircopy_testkit::node;
use faircopy_testkit::receiver::{Post, Receiver};
use serde_json::{Value, json};
use svix::webhooks::Webhook;

use crate::app::{Builder, Engine, TestApp, assert_problem, eventually, manual_clock};
use crate::events::{THEN, event, user, user_created};

const ENGINES: [Engine; 2] = [Engine::Sqlite, Engine::Postgres];
const FIRST: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const SECOND: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
/// How long something is waited for that happens by itself.
const SOON: Duration = Duration::from_secs(30);

fn crm(receiver: &Receiver) -> String {
    format!(
        "name = 'crm'\nkind = 'webhook'\nurl = '{}/in?key=1'\nsecret = '{FIRST} {SECOND}'\nallow_private = true",
        receiver.url()
    )
}

struct Scene {
    clock: ManualClock,
    app: TestApp,
    receiver: Receiver,
}

impl Scene {
    async fn of(build: impl FnOnce(Builder) -> Builder) -> Self {
        let (clock, receiver) = (manual_clock(), Receiver::start().await);
        let app = build(TestApp::build()).clock(&clock).destination(&crm(&receiver)).start().await;
        let scene = Self { clock, app, receiver };
        // Everything is sent to a new one, and there is nothing yet.
        scene.until("the first sweep", |posts| posts.iter().any(|post| post.json()["operation"] == "sweep")).await;
        scene
    }

    async fn until(&self, what: &str, holds: impl Fn(&[Post]) -> bool) {
        eventually(what, SOON, || async { holds(&self.receiver.taken()) }).await;
    }

    async fn delivers(&self, id: &str, body: String) {
        assert_eq!(self.app.outcome(&format!("msg_{id}"), body).await, "applied");
    }

    async fn shown(&self) -> Value {
        self.app.admin_json("/admin/v1/destinations/crm").await
    }

    async fn until_shown(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        eventually(what, SOON, || async { holds(&self.shown().await) }).await;
    }

    async fn order(&self, order: &str) -> Value {
        let path = format!("/admin/v1/destinations/crm/{order}");
        let answer = self.app.admin("POST", &path).await;
        assert_eq!(answer.status, 200, "{order}: {}", answer.text());
        answer.json().unwrap()
    }
}

/// What a reader holds who applies what was taken by the highest number.
fn applied(posts: &[Post]) -> BTreeMap<String, Value> {
    let mut held: BTreeMap<String, (i64, Value)> = BTreeMap::new();
    for change in posts.iter().map(Post::json) {
        let number = change["sequence"].as_i64().unwrap();
        if change["operation"] == "sweep" {
            held.values_mut().filter(|(of, _)| *of < number).for_each(|of| *of = (number, Value::Null));
            continue;
        }
        let subject = format!("{}/{}", change["entity"].as_str().unwrap(), change["id"].as_str().unwrap());
        let known = held.get(&subject).map_or(0, |(of, _)| *of);
        if number > known || (number == known && change["resend"] == true) {
            held.insert(subject, (number, change["row"].clone()));
        }
    }
    held.into_iter().filter(|(_, (_, row))| !row.is_null()).map(|(subject, (_, row))| (subject, row)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_change_is_a_post_that_others_verify() {
    for engine in ENGINES {
        let scene = Scene::of(|builder| builder.on(engine)).await;
        scene.delivers("ada", user_created("user_ada")).await;
        scene.until("ada", |posts| applied(posts).contains_key("user/user_ada")).await;
        let mut renamed = user("user_ada", THEN + 1_000);
        renamed["first_name"] = "Augusta".into();
        scene.delivers("renamed", event("user.updated", &renamed).to_string()).await;
        scene.until("the new name", |posts| applied(posts)["user/user_ada"]["first_name"] == "Augusta").await;
        let expected = json!({
            "clerk_user_id": "user_ada", "external_id": null, "username": null, "first_name": "Augusta",
            "last_name": "Lovelace", "name": "Augusta Lovelace", "email": "ada@example.com",
            "image_url": "https://img.clerk.com/x", "workspace_id": null, "public_metadata": {}, "banned": false,
            "locked": false, "provenance": "webhook", "created_at": "2024-05-28T08:00:00.000Z",
            "updated_at": "2024-05-28T08:00:01.000Z",
        });
        assert_eq!(applied(&scene.receiver.taken())["user/user_ada"], expected);
        let gone = json!({ "object": "user", "id": "user_ada", "deleted": true });
        scene.delivers("gone", event("user.deleted", &gone).to_string()).await;
        scene.until("that she is gone", |posts| applied(posts).is_empty()).await;

        let posts = scene.receiver.posts();
        let messages: Vec<Value> = posts
            .iter()
            .map(|post| {
                assert_eq!((post.method.as_str(), post.header("content-type")), ("POST", "application/json"));
                let headers: BTreeMap<&str, &str> = post
                    .headers
                    .iter()
                    .filter(|(name, _)| name.as_str().starts_with("svix-") || name.as_str().starts_with("webhook-"))
                    .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
                    .collect();
                assert_eq!(headers["svix-id"], headers["webhook-id"]);
                assert_eq!(headers["webhook-signature"].split(' ').count(), 2, "one by each secret");
                json!({ "body": String::from_utf8(post.body.to_vec()).unwrap(), "headers": headers })
            })
            .collect();
        // The libraries look at their own clock, so what they are shown was signed at this time.
        assert!(posts.iter().all(|post| post.header("webhook-timestamp") == "1760000000"));
        for (post, secret) in posts.iter().flat_map(|post| [(post, FIRST), (post, SECOND)]) {
            let verified = Webhook::new(secret).unwrap().verify_ignoring_timestamp(&post.body, &post.headers);
            assert!(verified.is_ok(), "{verified:?}");
        }
        let ids: std::collections::BTreeSet<&str> = posts.iter().map(|post| post.header("webhook-id")).collect();
        assert_eq!(ids.len(), messages.len(), "each message has an id of its own");
        scene.app.stop().await;
    }
}

/// At the real time, because the libraries of others look at their own clock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_libraries_of_svix_and_standard_webhooks_verify_what_arrives() {
    let receiver = Receiver::start().await;
    let app = TestApp::build().destination(&crm(&receiver)).start().await;
    assert_eq!(app.outcome("msg_ada", user_created("user_ada")).await, "applied");
    eventually("ada", SOON, || async { applied(&receiver.taken()).contains_key("user/user_ada") }).await;
    let messages: Vec<Value> = receiver
        .taken()
        .iter()
        .map(|post| {
            let header = |name: &str| (name.to_owned(), post.header(name).to_owned());
            let names = ["id", "timestamp", "signature"];
            let headers: BTreeMap<String, String> = names
                .iter()
                .flat_map(|name| [header(&format!("svix-{name}")), header(&format!("webhook-{name}"))])
                .collect();
            json!({ "body": String::from_utf8(post.body.to_vec()).unwrap(), "headers": headers })
        })
        .collect();
    let wrong = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let input = json!({ "secrets": [FIRST, SECOND, wrong], "messages": messages }).to_string();
    let verdicts: Vec<[[String; 3]; 3]> =
        serde_json::from_str(&node::run(&node::installed("node"), "webhooks.mjs", &input)).expect("a verdict for each");
    assert_eq!(verdicts.len(), messages.len());
    for [first, second, wrong] in verdicts {
        assert_eq!(first, ["verified", "verified", "verified"]);
        assert_eq!(second, first);
        assert!(wrong.iter().all(|verdict| verdict != "verified"), "{wrong:?}");
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_waits_by_itself_and_is_parked_in_the_end() {
    for engine in ENGINES {
        let scene = Scene::of(|builder| builder.on(engine)).await;
        scene.receiver.answers(422, None);
        scene.delivers("ada", user_created("user_ada")).await;
        scene.until_shown("that ada waits", |shown| shown["waiting"] == 1).await;
        scene.receiver.answers(204, None);
        scene.delivers("ben", user_created("user_ben")).await;
        scene.until("ben", |posts| applied(posts).contains_key("user/user_ben")).await;
        assert!(!applied(&scene.receiver.taken()).contains_key("user/user_ada"), "her time has not come");
        // Her later change waits with her.
        scene.delivers("renamed", event("user.updated", &user("user_ada", THEN + 9)).to_string()).await;
        scene.until_shown("that it is hers", |shown| shown["subjects"][0]["sequence"] == 3).await;
        scene.receiver.answers(500, None);
        for attempt in 1..8 {
            scene.until_shown("the attempts so far", |shown| shown["subjects"][0]["attempts"] == attempt).await;
            let state = if attempt < 8 { "waiting" } else { "parked" };
            assert_eq!(scene.shown().await["subjects"][0]["state"], state);
            scene.clock.advance(DELAYS_MS[usize::try_from(attempt).unwrap() - 1] * 6 / 5 + 1);
        }
        scene.until_shown("that she is parked", |shown| shown["parked"] == 1).await;
        let shown = scene.shown().await;
        assert_eq!(shown["subjects"][0]["error"], "the answer had the status 500");
        assert_eq!((&shown["subjects"][0]["attempts"], &shown["subjects"][0]["due_at"]), (&json!(8), &Value::Null));
        scene.receiver.answers(204, None);
        scene.delivers("cyd", user_created("user_cyd")).await;
        scene.until("cyd", |posts| applied(posts).contains_key("user/user_cyd")).await;
        let metrics = scene.app.get("/metrics").await.text();
        assert!(metrics.contains(r#"faircopy_destination_parked{destination="crm"} 1"#), "{metrics}");
        let told =
            |found: &Value| found["data"].as_array().unwrap().iter().any(|of| of["name"] == "destination-parked");
        scene.clock.advance(20_000);
        eventually("the alarm", SOON, || async { told(&scene.app.admin_json("/admin/v1/findings").await) }).await;
        scene.order("resume").await;
        scene.until("ada at last", |posts| applied(posts).contains_key("user/user_ada")).await;
        scene.until_shown("that nobody waits", |shown| shown["parked"] == 0 && shown["waiting"] == 0).await;
        scene.clock.advance(20_000);
        eventually("its end", SOON, || async { !told(&scene.app.admin_json("/admin/v1/findings").await) }).await;
        scene.app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_takes_nothing_keeps_its_place_and_the_copy_its_pace() {
    let scene = Scene::of(|builder| builder).await;
    for (status, retry_after, error) in [
        (503, None, "the answer had the status 503"),
        (302, None, "the answer had the status 302"),
        (401, None, "the key was refused (status 401)"),
        (429, Some(60), "the service asked for quiet"),
    ] {
        scene.receiver.answers(status, retry_after);
        let id = format!("user_{status}");
        let before = scene.receiver.posts().len();
        scene.delivers(&id, user_created(&id)).await;
        scene.until_shown(error, |shown| shown["last_error"] == error).await;
        let shown = scene.shown().await;
        assert_eq!((&shown["state"], &shown["waiting"], &shown["parked"]), (&json!("failing"), &json!(0), &json!(0)));
        assert!(shown["behind"].as_i64() >= Some(1), "{shown}");
        if status == 429 {
            let asked = scene.receiver.posts().len();
            assert_eq!(asked, before + 1, "it asked for quiet");
        }
        scene.receiver.answers(204, None);
        scene.clock.advance(10 * 60_000);
        scene.until(&id, |posts| applied(posts).contains_key(&format!("user/{id}"))).await;
        scene.until_shown("that it goes on", |shown| shown["state"] == "running" && shown["behind"] == 0).await;
    }
    let known: Vec<String> = scene.receiver.posts().iter().map(|post| post.header("webhook-id").to_owned()).collect();
    assert!(known.len() > known.iter().collect::<std::collections::BTreeSet<_>>().len(), "an attempt keeps its id");
    scene.app.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_pauses_resumes_rewinds_and_sends_again() {
    let scene = Scene::of(|builder| builder.on_postgres()).await;
    scene.delivers("ada", user_created("user_ada")).await;
    scene.until("ada", |posts| applied(posts).contains_key("user/user_ada")).await;
    scene.until_shown("that it has everything", |shown| shown["behind"] == 0).await;
    assert_eq!(scene.order("pause").await["state"], "paused");
    assert_eq!(scene.order("pause").await["state"], "paused", "twice is once");
    let before = scene.receiver.posts().len();
    scene.delivers("ben", user_created("user_ben")).await;
    scene.until_shown("that it is behind", |shown| shown["behind"] == 1).await;
    scene.order("resume").await;
    scene.until("ben", |posts| applied(posts).contains_key("user/user_ben")).await;
    assert_eq!(scene.receiver.posts().len(), before + 1, "nothing was sent meanwhile");
    scene.until_shown("that it has everything", |shown| shown["behind"] == 0).await;

    let again = scene.receiver.posts().len();
    scene.order("rewind?to=0").await;
    scene.until("both again", |posts| posts.len() >= again + 2).await;
    let ids: Vec<String> = scene.receiver.posts().iter().map(|post| post.header("webhook-id").to_owned()).collect();
    assert!(ids[..again].contains(&ids[again]), "a change keeps its id");
    let further = scene.app.admin("POST", "/admin/v1/destinations/crm/rewind?to=99").await;
    assert_problem(&further, 409, "destination-not-changed");
    assert_problem(&scene.app.admin("POST", "/admin/v1/destinations/crm/rewind?to=-1").await, 400, "invalid-parameter");
    assert_problem(&scene.app.admin("POST", "/admin/v1/destinations/crm/rewind").await, 400, "invalid-parameter");
    assert_problem(&scene.app.admin("POST", "/admin/v1/destinations/nobody/pause").await, 404, "record-not-found");
    assert_problem(&scene.app.admin("GET", "/admin/v1/destinations/nobody").await, 404, "record-not-found");

    let whole = scene.receiver.posts().len();
    scene.order("resend").await;
    let all = |posts: &[Post]| posts.iter().skip(whole).map(Post::json).filter(|it| it["resend"] == true).count() == 2;
    scene
        .until("everything, and a sweep", |posts| {
            all(posts) && posts.last().is_some_and(|post| post.json()["operation"] == "sweep")
        })
        .await;
    let listed = scene.app.admin_json("/admin/v1/destinations").await;
    let [of] = &listed["data"].as_array().unwrap()[..] else { panic!("{listed}") };
    assert_eq!((&of["name"], &of["kind"], &of["url"]), (&json!("crm"), &json!("webhook"), &json!("127.0.0.1/…")));
    assert!(!listed.to_string().contains("key=1"), "{listed}");
    scene.app.stop().await;
}

/// A destination that hangs holds up neither the copy nor another destination, and its figures say so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_never_answers_holds_nobody_up() {
    // Connections are made, by the kernel, and nobody reads from them.
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let receiver = Receiver::start().await;
    let slow = format!(
        "name = 'slow'\nkind = 'webhook'\nurl = 'http://{}/'\nsecret = '{FIRST}'\nallow_private = true",
        hanging.local_addr().unwrap()
    );
    let app = TestApp::build().destination(&slow).destination(&crm(&receiver)).start().await;
    let is_taken_up = async || app.admin_json("/admin/v1/destinations/slow").await["state"] != "not-started";
    eventually("it is taken up", SOON, is_taken_up).await;
    for number in 0..20 {
        // Each within the time that a sender gives it, and all of them while the first request still hangs.
        assert_eq!(app.outcome(&format!("msg_{number}"), user_created(&format!("user_{number}"))).await, "applied");
    }
    eventually("the other one has all", SOON, || async { applied(&receiver.taken()).len() == 20 }).await;
    let slow = app.admin_json("/admin/v1/destinations/slow").await;
    assert!(slow["behind"].as_i64() >= Some(1) || !slow["resending_since"].is_null() || slow["waiting"] != 0, "{slow}");
    let metrics = app.get("/metrics").await.text();
    assert!(metrics.contains(r#"faircopy_destination_messages_total{destination="crm",result="taken"}"#), "{metrics}");
    app.stop().await;
}

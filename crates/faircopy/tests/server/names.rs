//! Names for display in the minimal profile mode: asked of Clerk in batches, kept for a while, never stored, never waited for
//! long (faults.md C1, C2).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use faircopy_testkit::clerk::{Clerk, Mood};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::app::{Builder, Engine, TestApp, eventually, manual_clock};
use crate::confirm::clerk;
use crate::events::{THEN, event, user};

const ENGINES: [Engine; 2] = [Engine::Sqlite, Engine::Postgres];
/// How long an answer waits for names that are not at hand, and what a machine that is busy adds.
const PATIENCE: Duration = Duration::from_millis(2_000 + 1_500);
/// How long it waits for newer names than it has.
const NEWS_PATIENCE: Duration = Duration::from_millis(250 + 1_500);
const TTL_MS: i64 = 300_000;
/// Longer than nothing is asked after failures.
const LONGEST_PAUSE_MS: i64 = 32_000;

fn member(number: usize) -> String {
    format!("user_m{number:04}")
}

fn minimal(clerk: &Clerk) -> Builder {
    TestApp::build().minimal().sessions().clerk(clerk)
}

/// Delivers an organization with so many members, who are known from their memberships alone; Clerk has them as well, with
/// names. The rows are full, so that no worker asks Clerk about them.
async fn company(app: &TestApp, clerk: &Clerk, members: usize) {
    let organization = json!({ "object": "organization", "id": "org_a", "name": "The first", "slug": "first",
        "public_metadata": {}, "created_at": THEN, "updated_at": THEN });
    assert_eq!(app.outcome("msg_org", event("organization.created", &organization).to_string()).await, "applied");
    let deliver = async |number: usize| {
        let id = member(number);
        clerk.has_user(&id, &format!("Canary{number}"));
        let membership = json!({ "object": "organization_membership", "id": format!("orgmem_{number}"),
            "role": "org:member", "permissions": [], "organization": organization, "created_at": THEN, "updated_at": THEN,
            "public_user_data": { "user_id": id, "first_name": format!("Canary{number}"), "last_name": "Canarylast",
                "identifier": format!("canary{number}@example.com"), "image_url": "https://img.clerk.com/canary" } });
        let user = event("user.created", &user(&id, THEN)).to_string();
        assert_eq!(app.outcome(&format!("msg_user_{number}"), user).await, "applied");
        let membership = event("organizationMembership.created", &membership).to_string();
        assert_eq!(app.outcome(&format!("msg_{number}"), membership).await, "applied");
    };
    for part in (0..members).collect::<Vec<_>>().chunks(50) {
        join_all(part.iter().map(|number| deliver(*number))).await;
    }
}

fn token(app: &TestApp) -> String {
    app.token(&member(0), Some(("org_a", "member")))
}

/// The first page of members, and how long it took.
async fn members(app: &TestApp) -> (Vec<Value>, Duration) {
    let (token, start) = (token(app), Instant::now());
    let page = app.bearer_json("/v1/organization/members?limit=100", &token).await;
    (page["data"].as_array().unwrap().clone(), start.elapsed())
}

/// What is shown of the first member: the name, and whether it says that it is the id.
async fn shown(app: &TestApp) -> (String, bool) {
    let (rows, _) = members(app).await;
    let row = &rows[0];
    assert_eq!(row["clerk_user_id"], member(0));
    (row["name"].as_str().unwrap().to_owned(), row.get("name_is_id").is_some_and(|flag| flag == true))
}

/// How often Clerk was asked for names.
fn questions(clerk: &Clerk) -> usize {
    clerk.count("/v1/users?")
}

/// How often each id was asked for.
fn asked_for(clerk: &Clerk) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for path in clerk.asked().iter().filter(|path| path.starts_with("/v1/users?")) {
        let ids = path.split(['?', '&']).filter_map(|pair| pair.strip_prefix("user_id="));
        let ids: Vec<&str> = ids.collect();
        assert!((1..=100).contains(&ids.len()), "{path}");
        ids.iter().for_each(|id| *counts.entry((*id).to_owned()).or_default() += 1);
    }
    counts
}

#[tokio::test]
async fn an_answer_shows_clerks_names_and_stores_none() {
    for engine in ENGINES {
        let (clerk, clock) = (clerk().await, manual_clock());
        let app = minimal(&clerk).on(engine).clock(&clock).start().await;
        company(&app, &clerk, 3).await;
        clerk.edits_user(&member(1), &json!({ "first_name": null, "last_name": null, "username": "canaryname" }));
        clerk.edits_user(&member(2), &json!({ "first_name": null, "last_name": null, "email_addresses": [] }));
        let token = token(&app);

        let me = app.bearer_json("/v1/me", &token).await;
        assert_eq!((&me["name"], &me["email"]), (&json!("Canary0 Of-Clerk"), &json!("user_m0000@example.com")));
        assert_eq!(me["image_url"], "https://img.clerk.com/u");
        assert!(
            me.get("name_is_id").is_none() && me["first_name"].is_null() && me["public_metadata"].is_null(),
            "{me}"
        );
        let other = app.bearer_json("/v1/users/user_m0001", &token).await;
        assert_eq!((&other["name"], &other["username"]), (&json!("canaryname"), &Value::Null));
        let (rows, _) = members(&app).await;
        let names: Vec<&Value> = rows.iter().map(|row| &row["name"]).collect();
        assert_eq!(names, ["Canary0 Of-Clerk", "canaryname", "user_m0002"]);
        assert_eq!((&rows[2]["name_is_id"], &rows[2]["email"]), (&json!(true), &Value::Null));
        let session = app.bearer("POST", "/v1/session", &token).await.json().unwrap();
        assert_eq!(session["identity"]["name"], "Canary0 Of-Clerk", "{session}");
        assert_eq!(session["identity"]["email"], "user_m0000@example.com");
        let mine = app.bearer_json("/v1/me/organizations", &token).await;
        assert_eq!(mine["data"][0]["name"], "The first", "an organization's name is nobody's");
        assert!(asked_for(&clerk).values().all(|count| *count == 1), "{:?}", clerk.asked());

        let metrics = app.get("/metrics").await.text();
        assert!(metrics.contains("faircopy_names_total{result=\"hit\"}") && metrics.contains("faircopy_names_kept"));
        for word in ["anary", "user_m", "org_a", "Of-Clerk"] {
            assert!(!metrics.contains(word), "{word} is a figure");
        }
        for row in app.tables().await.users.values() {
            assert!(row.name.is_none() && row.email.is_none() && row.image_url.is_none(), "{row:?}");
        }
        let url = app.database_url.clone();
        if let Some(path) = url.strip_prefix("sqlite://") {
            for file in [path.to_owned(), format!("{path}-wal")] {
                let bytes = std::fs::read(&file).unwrap();
                let text = String::from_utf8_lossy(&bytes);
                assert!(file.ends_with("-wal") || text.contains("users"), "{file}");
                for canary in ["anary", "Of-Clerk", "@example.com", "img.clerk.com"] {
                    assert!(!text.contains(canary), "{canary} is in {file}");
                }
            }
        }
        app.stop().await;
    }
}

/// In the full mode the copy has the names, and nobody is asked.
#[tokio::test]
async fn the_full_mode_asks_nobody() {
    let (clerk, clock) = (clerk().await, manual_clock());
    let app = TestApp::build().sessions().clerk(&clerk).clock(&clock).start().await;
    company(&app, &clerk, 2).await;
    let (rows, _) = members(&app).await;
    assert_eq!((&rows[0]["name"], &rows[0]["email"]), (&json!("Ada Lovelace"), &json!("ada@example.com")));
    assert_eq!((rows[0].get("name_is_id"), questions(&clerk)), (None, 0));
}

#[tokio::test]
async fn without_a_key_the_id_is_shown() {
    let (clerk, clock) = (clerk().await, manual_clock());
    let app = TestApp::build().minimal().sessions().clock(&clock).start().await;
    company(&app, &clerk, 2).await;
    assert_eq!(shown(&app).await, (member(0), true));
    let me = app.bearer_json("/v1/me", &token(&app)).await;
    assert_eq!((&me["name"], &me["name_is_id"], &me["email"]), (&json!("user_m0000"), &json!(true), &Value::Null));
}

/// Ids that are wanted within milliseconds are one question; pages of a large organization are one each; what was asked for
/// once is at hand for everybody.
#[tokio::test]
async fn ids_are_asked_for_together() {
    let (clerk, clock) = (clerk().await, manual_clock());
    let app = minimal(&clerk).clock(&clock).start().await;
    company(&app, &clerk, 1_000).await;
    assert_eq!(shown(&app).await, ("Canary0 Of-Clerk".into(), false));
    assert_eq!(questions(&clerk), 1, "a page is one question");

    let token = token(&app);
    let before = questions(&clerk);
    let others = (100..160).map(|number| {
        let (app, token) = (&app, &token);
        async move { app.bearer_json(&format!("/v1/users/{}", member(number)), token).await["name"].clone() }
    });
    let names = join_all(others).await;
    assert!(names.iter().zip(100..).all(|(name, number)| *name == json!(format!("Canary{number} Of-Clerk"))));
    let taken = questions(&clerk) - before;
    assert!(taken <= 12, "60 people were {taken} questions");

    let (mut after, mut rows) = (String::new(), 0);
    loop {
        let page = app.bearer_json(&format!("/v1/organization/members?limit=100{after}"), &token).await;
        let data = page["data"].as_array().unwrap();
        assert!(data.iter().all(|row| row["name"].as_str().unwrap().ends_with(" Of-Clerk")), "{page}");
        rows += data.len();
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    let counts = asked_for(&clerk);
    assert_eq!((rows, counts.len()), (1_000, 1_000));
    assert!(counts.values().all(|count| *count == 1), "each is asked for once");
    assert!(questions(&clerk) <= before + taken + 9, "{}", questions(&clerk));
}

#[tokio::test]
async fn a_hundred_readers_are_one_question() {
    let (clerk, clock) = (clerk().await, manual_clock());
    let app = minimal(&clerk).clock(&clock).start().await;
    company(&app, &clerk, 20).await;
    crate::confirm::ready(&app).await;
    clerk.is(Mood::Late(Duration::from_millis(500)));
    let pages = join_all((0..100).map(|_| members(&app))).await;
    assert!(pages.iter().all(|(rows, _)| rows.len() == 20 && rows[19]["name"] == "Canary19 Of-Clerk"));
    assert!(asked_for(&clerk).values().all(|count| *count == 1), "{:?}", asked_for(&clerk));
    assert_eq!(questions(&clerk), 1);
}

#[tokio::test]
async fn a_name_lives_as_long_as_is_set() {
    let (clerk, clock) = (clerk().await, manual_clock());
    let app = minimal(&clerk).names_ttl(40).clock(&clock).start().await;
    company(&app, &clerk, 1).await;
    assert_eq!(shown(&app).await.0, "Canary0 Of-Clerk");
    clerk.has_user(&member(0), "Renamed");
    clock.advance(39_999);
    assert_eq!((shown(&app).await.0.as_str(), questions(&clerk)), ("Canary0 Of-Clerk", 1));
    clock.advance(1);
    assert_eq!((shown(&app).await.0.as_str(), questions(&clerk)), ("Renamed Of-Clerk", 2));
}

/// While Clerk does not answer, an old name serves on for a day, nobody waits for long, and then there is the id.
#[tokio::test]
async fn an_old_name_serves_on_while_clerk_does_not_answer() {
    for mood in Mood::without_an_answer() {
        let (clerk, clock) = (clerk().await, manual_clock());
        let app = minimal(&clerk).clock(&clock).start().await;
        company(&app, &clerk, 1).await;
        assert_eq!(shown(&app).await.0, "Canary0 Of-Clerk", "{mood:?}");
        clerk.is(mood.clone());
        clerk.has_user(&member(0), "Renamed");
        clock.advance(TTL_MS);
        for _ in 0..3 {
            let (rows, took) = members(&app).await;
            assert_eq!(rows[0]["name"], "Canary0 Of-Clerk", "{mood:?}");
            assert!(took < NEWS_PATIENCE, "{mood:?}: {took:?}");
        }
        clock.advance(24 * 3_600_000);
        let (rows, took) = members(&app).await;
        assert_eq!((&rows[0]["name"], &rows[0]["name_is_id"]), (&json!(member(0)), &json!(true)), "{mood:?}");
        assert!(took < PATIENCE, "{mood:?}: {took:?}");
        // Once Clerk answers, so does the list.
        clerk.is(Mood::Fine);
        eventually("the name is read", Duration::from_secs(15), async || {
            clock.advance(LONGEST_PAUSE_MS);
            shown(&app).await == ("Renamed Of-Clerk".into(), false)
        })
        .await;
    }
}

/// Whoever has no name at hand waits a bounded time, once: then nothing is asked for a while.
#[tokio::test]
async fn a_cold_start_without_clerk_shows_ids_in_time() {
    let (clerk, clock) = (clerk().await, manual_clock());
    let app = minimal(&clerk).clock(&clock).start().await;
    company(&app, &clerk, 30).await;
    clerk.is(Mood::Silent);
    let answers = join_all((0..50).map(|_| members(&app))).await;
    for (rows, took) in answers {
        assert!(rows.iter().all(|row| row["name"] == row["clerk_user_id"] && row["name_is_id"] == true));
        assert!(took < PATIENCE, "{took:?}");
    }
    eventually("the question is given up", Duration::from_secs(10), async || {
        members(&app).await.1 < Duration::from_millis(200)
    })
    .await;
}

/// C1: while Clerk asks for quiet, it has quiet, however many want names.
#[tokio::test]
async fn a_storm_of_429_falls_silent() {
    let (clerk, clock) = (clerk().await, manual_clock());
    let app = minimal(&clerk).clock(&clock).start().await;
    company(&app, &clerk, 50).await;
    crate::confirm::ready(&app).await;
    clerk.is(Mood::Limited(Some(20)));
    let before = clerk.asked().len();
    for _ in 0..5 {
        for (rows, _) in join_all((0..20).map(|_| members(&app))).await {
            assert!(rows.iter().all(|row| row["name_is_id"] == true));
        }
        clock.advance(3_000);
    }
    assert!(clerk.asked().len() - before <= 2, "{:?}", &clerk.asked()[before..]);
    // Without a word of how long, it doubles.
    clerk.is(Mood::Limited(None));
    let before = clerk.asked().len();
    for _ in 0..60 {
        clock.advance(1_000);
        members(&app).await;
    }
    let asked = clerk.asked().len() - before;
    assert!((2..=10).contains(&asked), "{asked} requests in a minute of 429");
    clerk.is(Mood::Fine);
    clock.advance(600_000);
    assert_eq!(shown(&app).await.0, "Canary0 Of-Clerk");
}

/// C1: names take their share of the rate limit and no more; what is over it is an id, and no failure.
#[tokio::test]
async fn names_keep_within_the_rate_limit() {
    // Of a development key's 100 requests in 10 s, 40 % are for requests that somebody waits for; half of them at once.
    const AT_ONCE: usize = 20;
    let (clerk, clock) = (clerk().await, manual_clock());
    let app = minimal(&clerk).clock(&clock).start().await;
    company(&app, &clerk, 60).await;
    crate::confirm::ready(&app).await;
    let (token, mut named) = (token(&app), 0);
    let start = Instant::now();
    for number in 0..60 {
        let person = app.bearer_json(&format!("/v1/users/{}", member(number)), &token).await;
        named += usize::from(person.get("name_is_id").is_none());
    }
    assert!(start.elapsed() < 2 * PATIENCE, "{:?}", start.elapsed());
    assert_eq!(named, questions(&clerk), "one after the other, each is a question");
    assert!((AT_ONCE / 2..=AT_ONCE).contains(&named), "{named} questions at one moment");
}

/// Whom Clerk does not know is shown as an id, and not asked for again at once; a deleted user is not shown at all.
#[tokio::test]
async fn unknown_and_deleted_people_have_no_name() {
    let (clerk, clock) = (clerk().await, manual_clock());
    let app = minimal(&clerk).clock(&clock).start().await;
    company(&app, &clerk, 3).await;
    assert_eq!(shown(&app).await.0, "Canary0 Of-Clerk");
    clerk.deletes_user(&member(1));
    clock.advance(TTL_MS);
    let (rows, _) = members(&app).await;
    assert_eq!((&rows[1]["name"], &rows[1]["name_is_id"]), (&json!(member(1)), &json!(true)), "Clerk's word is newer");
    let before = questions(&clerk);
    clock.advance(29_999);
    members(&app).await;
    assert_eq!(questions(&clerk), before);
    clock.advance(1);
    members(&app).await;
    assert_eq!(questions(&clerk), before + 1);

    let gone = event("user.deleted", &json!({ "id": member(2), "object": "user", "deleted": true }));
    assert_eq!(app.outcome("msg_gone", gone.to_string()).await, "applied");
    let (rows, _) = members(&app).await;
    assert_eq!(rows.len(), 2);
    let person = app.bearer("GET", &format!("/v1/users/{}", member(2)), &token(&app)).await;
    assert_eq!(person.status, 404);
    clock.advance(TTL_MS);
    let before = clerk.asked().len();
    members(&app).await;
    assert!(clerk.asked()[before..].iter().all(|path| !path.contains(&member(2))), "nobody asks for who is gone");
}

/// An answer that is not about those who were asked for gives nobody a name that is not theirs, and takes none away.
#[tokio::test]
async fn an_answer_about_others_is_nobodys_name() {
    let (clerk, clock) = (clerk().await, manual_clock());
    let app = minimal(&clerk).clock(&clock).start().await;
    company(&app, &clerk, 2).await;
    assert_eq!(shown(&app).await.0, "Canary0 Of-Clerk");
    // More than fit on a page come before them.
    (0..150).for_each(|number| clerk.has_user(&format!("user_a{number:03}"), "Somebody else"));
    clerk.is(Mood::Unfiltered);
    clock.advance(TTL_MS);
    assert_eq!(shown(&app).await, ("Canary0 Of-Clerk".into(), false));
}

#[tokio::test]
async fn hostile_names_are_shown_as_texts() {
    let (clerk, clock) = (clerk().await, manual_clock());
    let app = minimal(&clerk).clock(&clock).start().await;
    company(&app, &clerk, 8).await;
    let long = "x".repeat(1_000_000);
    let edits = [
        (
            json!({ "first_name": "<script>alert(1)</script>", "last_name": "</title>" }),
            "<script>alert(1)</script> </title>",
        ),
        (json!({ "first_name": "a\u{0}b", "last_name": null }), "ab"),
        (json!({ "first_name": "\u{202e}adA", "last_name": "\u{feff}\"\\" }), "\u{202e}adA \u{feff}\"\\"),
        (json!({ "first_name": ["a"], "last_name": { "b": 1 }, "username": 7 }), "user_m0003"),
        (json!({ "first_name": "  ", "last_name": "", "username": "plain" }), "plain"),
        (json!({ "first_name": long, "last_name": null }), &long[..4096]),
        (json!({ "first_name": "é😀".repeat(10), "last_name": null }), &"é😀".repeat(10)),
        (json!({ "updated_at": 9_999_999_999_999_i64 }), "user_m0007"),
    ];
    for (number, (edit, _)) in edits.iter().enumerate() {
        clerk.edits_user(&member(number), edit);
    }
    let (rows, _) = members(&app).await;
    for (row, (edit, expected)) in rows.iter().zip(&edits) {
        assert!(row["name"] == *expected, "{}", edit.to_string().chars().take(200).collect::<String>());
    }
}

/// A key of another instance names nobody.
#[tokio::test]
async fn the_key_of_another_instance_names_nobody() {
    let wrong = Clerk::start("ins_other", &crate::mint::jwks(&[("ins_other", crate::mint::other())])).await;
    let (ours, clock) = (clerk().await, manual_clock());
    let app = minimal(&wrong).clock(&clock).start().await;
    company(&app, &ours, 1).await;
    wrong.has_user(&member(0), "Somebody else");
    assert_eq!((shown(&app).await, questions(&wrong)), ((member(0), true), 0));
}

//! The client of Liveblocks.

use faircopy::upstream::exchange::Fault;
use faircopy::upstream::liveblocks::Deleted;
use faircopy_core::Millis;
use serde_json::json;

use crate::desk::{KEY, clock, liveblocks, rooms, sandbox};
use crate::fake::{Fake, Reply, answer, bare, header};

#[tokio::test]
async fn a_room_of_any_name_is_deleted_and_no_other() {
    let sandbox = sandbox(&clock()).await;
    let client = liveblocks(sandbox.url(), KEY);
    let strange = [
        "doc:1",
        "../v2/rooms",
        "%2f",
        "%2F..",
        "a?b=c",
        "a#b",
        "a b",
        " ",
        "räume/ü",
        "房间",
        "a\\..\\b",
        "...",
        "a+b",
        "'",
        "\"",
        "%",
    ];
    let longest = "é".repeat(128);
    let all: Vec<&str> = strange.into_iter().chain([longest.as_str()]).collect();
    for id in &all {
        sandbox.with(|state| {
            state.rooms.create(&json!({ "id": id, "defaultAccesses": [] }), false, 0).map(drop).unwrap();
        });
    }
    for (at, id) in all.iter().enumerate() {
        assert_eq!(client.delete_room(id).await, Ok(Deleted::Gone), "{id}");
        assert!(!sandbox.ids().iter().any(|left| left == id));
        assert_eq!(sandbox.ids().len(), all.len() - at - 1, "{id} and nothing else");
        assert_eq!(client.delete_room(id).await, Ok(Deleted::WasGone), "{id}");
    }
    let asked = sandbox.count("delete");
    for id in ["", ".", "..", &"x".repeat(129)] {
        assert_eq!(client.delete_room(id).await, Err(Fault::Unnameable), "{id}");
    }
    assert_eq!((sandbox.count("delete"), sandbox.count("unknown")), (asked, 0));
}

#[tokio::test]
async fn a_room_counts_as_gone_only_if_liveblocks_says_so() {
    let check =
        async |reply: Reply, expected: Result<Deleted, Fault>| {
            let shown = format!("{reply:?}");
            // Whatever else is asked, such as a list, is answered by something else than Liveblocks.
            let fake = Fake::start(move |_, request| {
                if request.starts_with("DELETE") { reply.clone() } else { answer(404, "text/html", "<html>") }
            })
            .await;
            assert_eq!(liveblocks(&fake.url, KEY).delete_room("doc:1").await, expected, "{shown}");
        };
    let json = "application/json; charset=utf-8";
    check(bare(204, "x: y"), Ok(Deleted::Gone)).await;
    check(answer(200, json, "{}"), Ok(Deleted::Gone)).await;
    check(bare(200, "x: y"), Ok(Deleted::Gone)).await;
    check(answer(404, json, r#"{"error":"ROOM_NOT_FOUND","message":"…"}"#), Ok(Deleted::WasGone)).await;
    check(answer(200, "text/html", "<html>Sign in</html>"), Err(Fault::Malformed)).await;
    check(answer(404, "text/html", "<html>"), Err(Fault::Malformed)).await;
    check(answer(404, "text/plain", r#"{"error":"ROOM_NOT_FOUND"}"#), Err(Fault::Malformed)).await;
    check(answer(404, json, r#"{"errors":[]}"#), Err(Fault::Malformed)).await;
    check(answer(404, json, r#"{"error":"#), Err(Fault::Malformed)).await;
    check(answer(404, json, ""), Err(Fault::Malformed)).await;
    // Another word, from an address that gives no list.
    check(answer(404, json, r#"{"error":"Not Found"}"#), Err(Fault::Status(404))).await;
    check(answer(401, json, r#"{"error":"MISSING_SECRET_KEY"}"#), Err(Fault::Refused(401))).await;
    check(answer(403, "text/html", ""), Err(Fault::Refused(403))).await;
    check(answer(422, json, "{}"), Err(Fault::Status(422))).await;
    check(answer(500, json, r#"{"error":"ROOM_NOT_FOUND"}"#), Err(Fault::Status(500))).await;
    check(bare(503, "x: y"), Err(Fault::Status(503))).await;
    check(bare(503, "retry-after: 3"), Err(Fault::Limited { retry_after_ms: Some(3_000) })).await;
    check(bare(429, "retry-after: 7"), Err(Fault::Limited { retry_after_ms: Some(7_000) })).await;
    check(bare(429, "retry-after: soon"), Err(Fault::Limited { retry_after_ms: None })).await;
    check(bare(429, "retry-after: 99999999"), Err(Fault::Limited { retry_after_ms: Some(86_400_000) })).await;
    check(bare(202, "x: y"), Err(Fault::Status(202))).await;
    check(
        Reply::Bytes("HTTP/1.1 404 X\r\ncontent-length: 100\r\ncontent-type: application/json\r\n\r\n{".into()),
        Err(Fault::Unreachable("the answer broke off")),
    )
    .await;
    check(Reply::Bytes("HTTP/1.1 2".into()), Err(Fault::Unreachable("the answer broke off"))).await;
    check(Reply::Bytes("gone".into()), Err(Fault::Unreachable("the answer broke off"))).await;
}

/// Another word for a 404 counts once the address has given a list of rooms; it is asked for at most once.
#[tokio::test]
async fn another_word_of_liveblocks_counts_as_well() {
    let fake = Fake::start(|_, request| match request.split_once(' ').unwrap().0 {
        "DELETE" => answer(404, "application/json", r#"{"error":"NO_SUCH_ROOM"}"#),
        _ => answer(200, "application/json", r#"{"nextCursor":null,"data":[]}"#),
    })
    .await;
    let client = liveblocks(&fake.url, KEY);
    for _ in 0..3 {
        assert_eq!(client.delete_room("doc:1").await, Ok(Deleted::WasGone));
    }
    let asked: Vec<String> = fake.requests().iter().map(|request| request.lines().next().unwrap().to_owned()).collect();
    let delete = "DELETE /v2/rooms/doc%3A1 HTTP/1.1";
    assert_eq!(asked, [delete, "GET /v2/rooms?limit=1 HTTP/1.1", delete, delete]);
}

#[tokio::test]
async fn all_rooms_are_listed_newest_first() {
    let clock = clock();
    let sandbox = sandbox(&clock).await;
    let mut expected = rooms(&sandbox, 250);
    expected.reverse();
    let client = liveblocks(sandbox.url(), KEY);
    let (mut found, mut cursor, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = client.rooms(cursor.as_deref()).await.unwrap();
        pages += 1;
        assert!(page.rooms.iter().all(|room| room.created_at == Millis(0)));
        found.extend(page.rooms.into_iter().map(|room| room.id));
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    assert_eq!((found, pages), (expected, 3));
    assert_eq!(client.rooms(Some("made up")).await, Err(Fault::Status(422)));
}

#[tokio::test]
async fn a_key_is_checked_by_a_list_of_one() {
    let sandbox = sandbox(&clock()).await;
    rooms(&sandbox, 3);
    assert_eq!(liveblocks(sandbox.url(), KEY).check_key().await, Ok(()));
    assert_eq!(liveblocks(sandbox.url(), "sk_other").check_key().await, Err(Fault::Refused(403)));
    assert_eq!(sandbox.ids().len(), 3);
    let page = Fake::start(|_, _| answer(200, "text/html", "<html>")).await;
    assert_eq!(liveblocks(&page.url, KEY).check_key().await, Err(Fault::Malformed));
    let wrong = Fake::start(|_, _| answer(200, "application/json", r#"{"data":[{"id":7}]}"#)).await;
    assert_eq!(liveblocks(&wrong.url, KEY).check_key().await, Err(Fault::Malformed));
}

/// The key goes to the configured address alone, in its header, and into no error.
#[tokio::test]
async fn the_key_is_told_to_nobody() {
    let elsewhere = Fake::start(|_, _| bare(204, "x: y")).await;
    let to = elsewhere.url.clone();
    let fake = Fake::start(move |_, _| bare(307, &format!("location: {to}/v2/rooms/doc:1"))).await;
    let error = liveblocks(&fake.url, KEY).delete_room("doc:1").await.unwrap_err();
    assert_eq!(error, Fault::Status(307), "no redirect is followed");
    assert!(elsewhere.requests().is_empty());
    assert_eq!(header(&fake.requests()[0], "authorization").as_deref(), Some(&*format!("Bearer {KEY}")));
    for error in [error, liveblocks("http://127.0.0.1:9", KEY).delete_room("doc:1").await.unwrap_err()] {
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
    let metrics = faircopy::telemetry::Metrics::install().render();
    assert!(metrics.contains(r#"faircopy_liveblocks_requests_total{call="delete",status="unreachable"}"#), "{metrics}");
    assert!(!metrics.contains("canary") && !metrics.contains("doc:1"));
}

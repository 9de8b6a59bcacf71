//! faults.md L6, and L3 with an answer that never comes: what takes real time.

use std::time::{Duration, Instant};

use faircopy::upstream::exchange::Fault;
use faircopy::upstream::liveblocks::Deleted;
use faircopy::upstream::step::Message;
use faircopy_core::Millis;
use faircopy_sandbox::liveblocks::Faults;

use crate::desk::{KEY, about, clock, liveblocks, rooms, sandbox};
use crate::fake::{Fake, Reply, bare};
use crate::step::step;

/// A deadline of 10 s, and what a busy machine adds.
const WITHIN: std::ops::Range<Duration> = Duration::from_secs(9)..Duration::from_secs(14);

/// L6: whether it is the head or the body that comes drop by drop, a call ends after 10 s.
#[tokio::test]
async fn a_slow_drip_ends_at_the_deadline() {
    let check = async |first: &str, is_step: bool| {
        let reply = Reply::Drip(first.to_owned(), Duration::from_millis(200));
        let fake = Fake::start(move |_, _| reply.clone()).await;
        let began = Instant::now();
        let error = if is_step {
            let about = about();
            step("search", &fake.url).send(&Message { external_id: "a", about: &about }, Millis(0)).await.unwrap_err()
        } else {
            liveblocks(&fake.url, KEY).delete_room("doc:1").await.unwrap_err()
        };
        assert!(matches!(error, Fault::Unreachable(_)), "{first}: {error:?}");
        assert!(WITHIN.contains(&began.elapsed()), "{first}: {:?}", began.elapsed());
    };
    let body = "HTTP/1.1 200 X\r\ncontent-type: application/json\r\n\r\n";
    tokio::join!(check("HTTP/1.1 200 X\r\nx: ", false), check(body, false), check("HTTP/1.1 200 X\r\nx: ", true));
}

/// L6: of an answer without an end, 64 KiB are read.
#[tokio::test]
async fn a_huge_answer_is_not_read() {
    let check = async |first: &str| {
        let first = first.to_owned();
        let fake = Fake::start(move |_, _| Reply::Endless(first.clone())).await;
        let began = Instant::now();
        assert_eq!(liveblocks(&fake.url, KEY).delete_room("doc:1").await, Err(Fault::TooLarge));
        assert!(began.elapsed() < Duration::from_secs(5));
    };
    for status in [200, 404] {
        check(&format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n\r\n")).await;
        check(&format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: 65537\r\n\r\n")).await;
    }
}

/// L6: no redirect is followed, least of all to where a cloud gives its secrets away.
#[tokio::test]
async fn no_redirect_is_followed() {
    for status in [301, 302, 303, 307, 308] {
        let fake = Fake::start(move |_, _| bare(status, "location: http://169.254.169.254/latest/meta-data/")).await;
        let began = Instant::now();
        assert_eq!(liveblocks(&fake.url, KEY).delete_room("doc:1").await, Err(Fault::Status(status)));
        assert_eq!(fake.requests().len(), 1);
        assert!(began.elapsed() < Duration::from_secs(3), "nobody else is waited for");
    }
}

/// L3: the deletion was carried out, the answer hangs beyond the deadline, and the next one says 404.
#[tokio::test]
async fn an_answer_that_never_comes_is_found_out_by_the_next() {
    let sandbox = sandbox(&clock()).await;
    rooms(&sandbox, 1);
    sandbox.set_faults(Faults { latency_ms: [60_000, 60_000], ..Faults::default() }).unwrap();
    let client = liveblocks(sandbox.url(), KEY);
    let began = Instant::now();
    assert!(matches!(client.delete_room("doc:0").await, Err(Fault::Unreachable(_))));
    assert!(WITHIN.contains(&began.elapsed()), "{:?}", began.elapsed());
    assert!(sandbox.ids().is_empty(), "it was deleted all the same");
    sandbox.set_faults(Faults::default()).unwrap();
    assert_eq!(client.delete_room("doc:0").await, Ok(Deleted::WasGone));
}

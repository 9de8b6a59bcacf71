//! Signed steps, as whoever receives them sees them.

use std::sync::Arc;

use faircopy::app::{Clock as _, SystemClock};
use faircopy::config::StepSettings;
use faircopy::telemetry::Metrics;
use faircopy::upstream::exchange::Fault;
use faircopy::upstream::step::{Message, Step, Told};
use faircopy_core::Millis;
use faircopy_core::signature::Secret;
use serde_json::Value;
use svix::webhooks::Webhook;

use crate::desk::about;
use crate::fake::{Fake, Reply, bare, header};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

pub(crate) fn step(name: &str, url: &str) -> Arc<Step> {
    let secret = Secret::parse(SECRET).unwrap();
    Step::new(StepSettings { name: name.to_owned(), url: url.to_owned(), secret }, Metrics::install()).unwrap()
}

/// The headers as Svix's library takes them, and the body.
fn received(request: &str) -> (http::HeaderMap, String) {
    let mut headers = http::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, header(request, name).unwrap().parse().unwrap());
    }
    (headers, request.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[tokio::test]
async fn svix_verifies_what_is_sent() {
    let fake = Fake::start(|number, _| bare(if number == 0 { 500 } else { 200 }, "x: y")).await;
    let step = step("search", &format!("{}/deleted?from=faircopy", fake.url));
    let about = about();
    let message = Message { external_id: "doc:\"ü\"", about: &about };
    let now = SystemClock.now();
    assert_eq!(step.send(&message, now.plus(-2_000)).await, Err(Fault::Status(500)));
    assert_eq!(step.send(&message, now).await, Ok(Told::Done));
    let requests = fake.requests();
    let webhook = Webhook::new(SECRET).unwrap();
    let ids: Vec<String> = requests
        .iter()
        .map(|request| {
            assert!(request.starts_with("POST /deleted?from=faircopy HTTP/1.1\r\n"), "{request}");
            assert_eq!(header(request, "content-type").as_deref(), Some("application/json"));
            let (headers, body) = received(request);
            webhook.verify(body.as_bytes(), &headers).expect("Svix takes it for authentic");
            assert!(webhook.verify(format!("{body} ").as_bytes(), &headers).is_err());
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["id"], headers["webhook-id"].to_str().unwrap());
            assert_eq!(body["type"], "cascade.deleted");
            assert_eq!((&body["external_id"], &body["organization"]), (&"doc:\"ü\"".into(), &"org_1".into()));
            assert_eq!(
                (&body["workspace_id"], &body["deleted_at"]),
                (&"org_1".into(), &"2025-10-09T08:53:20.123Z".into())
            );
            header(request, "webhook-id").unwrap()
        })
        .collect();
    assert_eq!(ids[0], ids[1], "one message, whatever the attempts");
    assert_ne!(header(&requests[0], "webhook-signature"), header(&requests[1], "webhook-signature"), "signed anew");
    assert!(requests.iter().all(|request| !request.contains(&SECRET[6..])));
}

#[tokio::test]
async fn any_2xx_confirms_and_410_and_nothing_else() {
    let check = async |reply: Reply, expected: Result<Told, Fault>| {
        let shown = format!("{reply:?}");
        let fake = Fake::start(move |_, _| reply.clone()).await;
        let about = about();
        let sent = step("search", &fake.url).send(&Message { external_id: "a", about: &about }, Millis(0)).await;
        assert_eq!(sent, expected, "{shown}");
    };
    for status in [200, 201, 202, 204, 299] {
        check(bare(status, "x: y"), Ok(Told::Done)).await;
    }
    check(bare(410, "x: y"), Ok(Told::WasGone)).await;
    for status in [301, 302, 304, 307, 400, 404, 405, 409, 413, 422, 500, 502, 503, 504] {
        check(bare(status, "location: http://169.254.169.254/latest"), Err(Fault::Status(status))).await;
    }
    for status in [401, 403] {
        check(bare(status, "x: y"), Err(Fault::Refused(status))).await;
    }
    for status in [429, 503] {
        check(bare(status, "retry-after: 30"), Err(Fault::Limited { retry_after_ms: Some(30_000) })).await;
    }
    check(bare(429, "x: y"), Err(Fault::Limited { retry_after_ms: None })).await;
    // What was confirmed stays so, whatever the rest of the answer is like.
    check(Reply::Endless("HTTP/1.1 200 X\r\n\r\n".into()), Ok(Told::Done)).await;
    check(Reply::Bytes("HTTP/1.1 2".into()), Err(Fault::Unreachable("the answer broke off"))).await;
}

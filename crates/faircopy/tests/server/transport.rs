//! What surrounds a delivery: methods, encodings, sizes, framing and slow senders (faults.md, W15 to W21).

use std::time::{Duration, Instant};

use faircopy_testkit::client::Connection;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::app::{PATH, PATIENCE, TestApp, assert_problem};
use crate::events::{user_created, user_created_of_size};
use crate::raw::{self, chunked, exchange, head};

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn other_methods_are_not_allowed() {
    let app = TestApp::start().await;
    let body = user_created("user_1");
    let signed = app.sign("msg_1", &body);
    for method in ["GET", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "TRACE", "MOON"] {
        let response = app.request(method, PATH, &signed.headers(), body.clone()).await;
        assert_eq!((response.status, response.header("allow")), (405, Some("POST")), "{method}");
        if method != "HEAD" {
            assert_problem(&response, 405, "method-not-allowed");
        }
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(app.request("HEAD", path, &[], "").await.status, 200);
        let response = app.request("POST", path, &[], "").await;
        assert_problem(&response, 405, "method-not-allowed");
        assert_eq!(response.header("allow"), Some("GET, HEAD"));
    }
    assert_eq!(app.deliveries().await.len(), 0);
}

#[tokio::test]
async fn the_content_type_says_nothing() {
    let app = TestApp::start().await;
    for (number, kind) in
        [Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("nonsense"), None].iter().enumerate()
    {
        let (id, body) = (format!("msg_{number}"), user_created(&format!("user_{number}")));
        let signed = app.sign(&id, &body);
        let mut headers = signed.headers().to_vec();
        headers.extend(kind.map(|kind| ("content-type", kind)));
        assert_eq!(app.post(&headers, body).await.status, 200, "{kind:?}");
    }
}

#[tokio::test]
async fn compressed_bodies_are_refused_unread() {
    let app = TestApp::start().await;
    // As large as ten gigabytes of zeros that are compressed: it is never looked into, so what it holds is all one.
    let bomb = vec![0x1f; 10 * 1024];
    let signed = app.sign("msg_1", &bomb);
    for coding in ["gzip", "br", "zstd", "deflate", "GZIP", "identity, gzip", "x-unknown"] {
        let headers = [&signed.headers()[..], &[("content-encoding", coding)]].concat();
        let response = app.post(&headers, bomb.clone()).await;
        assert_problem(&response, 415, "encoding-not-supported");
        assert_eq!(response.header("connection"), Some("close"));
    }
    let twice = [&signed.headers()[..], &[("content-encoding", "identity"), ("content-encoding", "gzip")]].concat();
    assert_problem(&app.post(&twice, bomb.clone()).await, 415, "encoding-not-supported");
    assert_eq!(app.deliveries().await.len(), 0);
    let body = user_created("user_1");
    let plain = app.sign("msg_2", &body);
    let headers = [&plain.headers()[..], &[("content-encoding", "identity")]].concat();
    assert_eq!(app.post(&headers, body).await.status, 200);
}

#[tokio::test]
async fn a_body_has_a_largest_size() {
    let app = TestApp::build().webhook("max_body_bytes = 65536").start().await;
    sizes(&app, 65_536, 1 << 14).await;
}

/// The default of 1 MiB, as the contract says.
#[tokio::test]
async fn a_body_of_one_mebibyte_is_taken() {
    let app = TestApp::start().await;
    sizes(&app, 1024 * 1024, 1 << 16).await;
}

async fn sizes(app: &TestApp, limit: usize, chunk: usize) {
    for (difference, status) in [(-1, 200), (0, 200), (1, 413)] {
        let bytes = limit.checked_add_signed(difference).unwrap();
        let stored = app.deliveries().await.len();

        let (id, body) = (format!("msg_{bytes}"), user_created_of_size("user_1", bytes));
        let response = app.deliver(&id, &body).await;
        assert_eq!(response.status, status, "{bytes}: {}", response.text());
        if status == 413 {
            assert_problem(&response, 413, "body-too-large");
        }

        let id = format!("msg_{bytes}_chunked");
        let request = head(&app.sign(&id, &body), &["Transfer-Encoding: chunked", "Connection: close"]);
        let request = [request.as_bytes(), &chunked(body.as_bytes(), chunk)].concat();
        let heard = exchange(app.address, &request, false, SOON).await;
        assert_eq!(heard.statuses(), [status], "{bytes} in chunks: {}", heard.text());
        assert_eq!(app.deliveries().await.len(), stored + if status == 200 { 2 } else { 0 });
    }
    // A length that is only announced is refused before anything is sent.
    let request = head(&app.sign("msg_x", "x"), &["Content-Length: 99999999999"]);
    let heard = exchange(app.address, request.as_bytes(), false, SOON).await;
    assert_eq!((heard.statuses(), heard.closed), (vec![413], true), "{}", heard.text());
}

#[tokio::test]
async fn a_request_that_can_be_read_in_two_ways_is_not_taken() {
    let app = TestApp::start().await;
    let body = user_created("user_1");
    let length = body.len();
    let signed = app.sign("msg_1", &body);
    let whole = format!("Content-Length: {length}");
    let close = "Connection: close";
    let plain = |lines: &[&str]| [head(&signed, &[lines, &[close]].concat()).as_bytes(), body.as_bytes()].concat();
    let chunks = chunked(body.as_bytes(), 100);
    let in_chunks =
        |coding: &str| [head(&signed, &[&format!("Transfer-Encoding: {coding}"), close]).as_bytes(), &chunks].concat();
    let broken = |chunks: &[u8]| [head(&signed, &["Transfer-Encoding: chunked", close]).as_bytes(), chunks].concat();

    // What is whole, if it is read in some way; and what can only be seen to be broken when nothing more comes.
    let whole_ones: Vec<(&str, Vec<u8>)> = vec![
        ("shorter than the body", plain(&[&format!("Content-Length: {}", length - 5)])),
        ("two lengths", plain(&[&whole, "Content-Length: 5"])),
        ("two lengths, the other way round", plain(&["Content-Length: 5", &whole])),
        ("two lengths in one", plain(&[&format!("Content-Length: 5, {length}")])),
        ("a length with a sign", plain(&[&format!("Content-Length: +{length}")])),
        ("a length in hexadecimal", plain(&[&format!("Content-Length: {length:#x}")])),
        ("no length", plain(&[])),
        ("a folded header", plain(&[&whole, "X-Folded: one", " two"])),
        ("a space before the colon", plain(&["X-Spaced : one", &whole])),
        ("an unknown coding", in_chunks("xchunked")),
        ("chunked, then another coding", in_chunks("chunked, identity")),
        ("a broken chunk size", broken(&[b"zz\r\n", body.as_bytes()].concat())),
        ("a chunk size past 64 bits", broken(&[b"fffffffffffffffff\r\n", body.as_bytes()].concat())),
        ("a chunk longer than its size", broken(&[b"5\r\n", body.as_bytes(), b"\r\n0\r\n\r\n"].concat())),
        ("no version", format!("POST {PATH}\r\n\r\n").into_bytes()),
        ("a preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
    ];
    let cut_off: Vec<(&str, Vec<u8>)> = vec![
        ("longer than the body", plain(&[&format!("Content-Length: {}", length + 5)])),
        ("chunks that do not end", broken(&chunks[..chunks.len() - 5])),
        ("a chunk that does not end", broken(&chunks[..50])),
        ("bare CRs", head(&signed, &[&whole]).replace("\r\n", "\r").into_bytes()),
    ];
    let all = whole_ones.into_iter().map(|(name, request)| (name, request, false));
    for (name, request, half_close) in all.chain(cut_off.into_iter().map(|(name, request)| (name, request, true))) {
        let heard = exchange(app.address, &request, half_close, SOON).await;
        assert!(heard.closed, "{name}: the connection stays open: {}", heard.text());
        assert!(heard.statuses().iter().all(|status| (400..500).contains(status)), "{name}: {}", heard.text());
        assert!(heard.statuses().len() <= 1, "{name}: {}", heard.text());
        assert_eq!(app.deliveries().await.len(), 0, "{name}: it is stored");
    }
    // The same length said twice is one length (RFC 9110, section 8.6).
    let heard = exchange(app.address, &plain(&[&whole, &whole]), false, SOON).await;
    assert_eq!(heard.statuses(), [200], "{}", heard.text());
}

/// Both a length and chunks: hyper 1.12 goes by the chunks, drops the length before we see the headers, and closes the
/// connection after the answer, as RFC 9112 (section 6.3) asks of a server that does not refuse. What is read is what the
/// signature is checked against, and what stands behind it is never read as a request.
#[tokio::test]
async fn a_length_beside_chunks_ends_the_connection() {
    let app = TestApp::start().await;
    let body = user_created("user_1");
    let (signed, smuggled) = (app.sign("msg_1", &body), app.sign("msg_2", &body));
    let whole = format!("Content-Length: {}", body.len());
    let behind = [head(&smuggled, &[&whole]).as_bytes(), body.as_bytes()].concat();
    for lines in
        [["Content-Length: 5", "Transfer-Encoding: chunked"], ["Transfer-Encoding: chunked", "Content-Length: 5"]]
    {
        let request = [head(&signed, &lines).as_bytes(), &chunked(body.as_bytes(), 100), &behind].concat();
        let heard = exchange(app.address, &request, false, SOON).await;
        assert!(heard.closed, "{lines:?}: the connection stays open");
        assert_eq!(heard.statuses().len(), 1, "{lines:?}: {}", heard.text());
        // The body as the length frames it is another body.
        let request = [head(&signed, &lines).as_bytes(), body.as_bytes(), &behind].concat();
        let heard = exchange(app.address, &request, false, SOON).await;
        assert!(heard.closed && !heard.statuses().contains(&200), "{lines:?}: {}", heard.text());
    }
    assert!(!app.deliveries().await.contains_key("msg_2"), "the smuggled delivery is read");
}

/// A single LF ends a line for hyper, as RFC 9112 (section 2.2) lets a recipient do. It hides nothing: the signature is
/// checked over the body that was read.
#[tokio::test]
async fn a_bare_line_feed_hides_nothing() {
    let app = TestApp::start().await;
    let body = user_created("user_1");
    let signed = app.sign("msg_1", &body);
    let length = format!("Content-Length: {}", body.len());
    let lines = head(&signed, &[&length, "Connection: close"]).replace("\r\n", "\n");
    let heard = exchange(app.address, &[lines.as_bytes(), body.as_bytes()].concat(), false, SOON).await;
    assert!(matches!(heard.statuses()[..], [200 | 400]), "{}", heard.text());
    // In the midst of a value it starts another line; so a header cannot be hidden behind it.
    let hidden = head(&signed, &["X-Hiding: one\nsvix-id: msg_2", &length, "Connection: close"]);
    let heard = exchange(app.address, &[hidden.as_bytes(), body.as_bytes()].concat(), false, SOON).await;
    assert_eq!(heard.statuses().first(), Some(&400), "{}", heard.text());
    assert!(!app.deliveries().await.contains_key("msg_2"));
}

#[tokio::test]
async fn a_head_has_a_largest_size() {
    let app = TestApp::start().await;
    let body = user_created("user_1");
    let signed = app.sign("msg_1", &body);
    // Host, the three of the signature, the length and the connection are six.
    for (extra, status) in [(94, 200), (95, 431)] {
        let mut lines: Vec<String> = (0..extra).map(|number| format!("X-Header-{number}: x")).collect();
        lines.extend([format!("Content-Length: {}", body.len()), "Connection: close".to_owned()]);
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let request = [head(&signed, &lines).as_bytes(), body.as_bytes()].concat();
        let heard = exchange(app.address, &request, false, SOON).await;
        assert_eq!(heard.statuses().first(), Some(&status), "{extra} more headers: {}", heard.text());
    }
    let large = format!("X-Large: {}", "x".repeat(64 * 1024));
    let heard = exchange(app.address, head(&signed, &[&large, "Content-Length: 0"]).as_bytes(), false, SOON).await;
    assert_eq!(heard.statuses().first(), Some(&431), "{}", heard.text());
    let path = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(70_000));
    let heard = exchange(app.address, path.as_bytes(), false, SOON).await;
    assert!(matches!(heard.statuses()[..], [414 | 431]), "{}", heard.text());
    assert_eq!(app.deliveries().await.len(), 1);
}

/// The real time-outs are 10 s for a head and 12 s for a body: all slow senders are slow at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_senders_are_cut_off_and_hold_nobody_up() {
    const OF_EACH: usize = 100;
    let app = TestApp::start().await;
    let body = user_created("user_1");
    let signed = app.sign("msg_slow", &body);
    let head = head(&signed, &[&format!("Content-Length: {}", body.len())]);
    let idle = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    // What is sent at once, what is sent byte by byte, until when it must be closed (two seconds later than it is meant to
    // be: this machine may be busy), and what may come back.
    let kinds: [(&str, &str, &str, u64, &[u16]); 4] = [
        ("silent", "", "", 12, &[]),
        ("slow head", &head[..20], &head[20..], 12, &[408]),
        ("slow body", &head, &body, 15, &[408]),
        ("idle", idle, "", 30, &[200]),
    ];
    let mut slow = Vec::new();
    for (name, at_once, slowly, deadline, statuses) in kinds {
        for _ in 0..OF_EACH {
            let (address, at_once, slowly) = (app.address, at_once.to_owned(), slowly.as_bytes().to_vec());
            let sender = async move {
                let start = Instant::now();
                let stream = TcpStream::connect(address).await.expect("connect");
                let (mut from, mut to) = stream.into_split();
                to.write_all(at_once.as_bytes()).await.expect("write");
                let dripping = tokio::spawn(async move {
                    for byte in slowly {
                        if to.write_all(&[byte]).await.is_err() {
                            return None;
                        }
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                    // Kept open: a closed half would say that nothing more comes.
                    Some(to)
                });
                let mut bytes = Vec::new();
                let closed = tokio::time::timeout(Duration::from_secs(35), async {
                    // A connection that is reset has said what it had to say.
                    let _ = tokio::io::AsyncReadExt::read_to_end(&mut from, &mut bytes).await;
                });
                let closed = closed.await.is_ok();
                dripping.abort();
                (name, deadline, statuses, raw::Heard { bytes, closed, after: start.elapsed() })
            };
            slow.push(tokio::spawn(sender));
        }
    }
    // Meanwhile good requests are answered.
    let start = Instant::now();
    let mut connection = Connection::open(&app.url("/"), PATIENCE).await.unwrap();
    let (mut number, mut longest) = (0, Duration::ZERO);
    while start.elapsed() < Duration::from_secs(9) {
        number += 1;
        let (id, body) = (format!("msg_{number}"), user_created(&format!("user_{number}")));
        let signed = app.sign(&id, &body);
        let before = Instant::now();
        let response = connection.request("POST", PATH, &signed.headers(), body.into(), PATIENCE).await.unwrap();
        assert_eq!(response.status, 200, "{}", response.text());
        longest = longest.max(before.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(longest < Duration::from_secs(2), "a good request waited for {longest:?}");
    let mut late = Vec::new();
    for sender in slow {
        let (name, deadline, statuses, heard) = sender.await.unwrap();
        if !heard.closed || heard.after >= Duration::from_secs(deadline) {
            late.push((name, heard.closed, heard.after));
        }
        assert!(heard.statuses().iter().all(|status| statuses.contains(status)), "{name}: {}", heard.text());
    }
    assert!(late.is_empty(), "{} of {} are closed too late or never: {late:?}", late.len(), 4 * OF_EACH);
    assert_eq!(app.deliveries().await.len(), number);
}

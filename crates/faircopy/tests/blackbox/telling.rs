//! What a service tells while it works: lines with their documented fields, traces that a collector can read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use faircopy_testkit::client::request;
use faircopy_testkit::server::Server;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::{ADMIN_TOKEN, PATIENCE, POLL, Place, SECRET, sender};

const PAGE: &str = include_str!("../../../../docs/observability.md");
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// A delivery of somebody with a name that nobody may tell.
fn body(user: &str) -> String {
    serde_json::json!({
        "type": "user.created", "object": "event", "timestamp": 1_760_000_000_000_i64,
        "data": { "id": user, "object": "user", "first_name": "Canaryfirst", "created_at": 1, "updated_at": 1,
            "email_addresses": [{ "id": "idn_1", "email_address": "canary@example.com" }] },
    })
    .to_string()
}

fn assert_discreet(text: &str) {
    for canary in ["Canary", "canary", SECRET, &SECRET[6..], ADMIN_TOKEN] {
        assert!(!text.contains(canary), "{canary}: {text}");
    }
}

/// The fields that the page has for a target.
fn documented(target: &str) -> BTreeSet<&'static str> {
    let table = PAGE.split(&format!("| field of `{target}` | is |")).nth(1).expect("a table");
    let rows = table.trim_start().lines().skip(1).take_while(|line| line.starts_with("| `"));
    rows.filter_map(|line| line.split('`').nth(1)).collect()
}

/// Waits for a line of a target in JSON.
async fn line(server: &Server, target: &str) -> Value {
    let started = Instant::now();
    loop {
        let lines: Vec<Value> = server.stderr().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        if let Some(found) = lines.into_iter().find(|line| line["target"] == target) {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "no line of {target}: {}", server.stderr());
        tokio::time::sleep(POLL).await;
    }
}

async fn get(server: &Server, path: &str, headers: &[(&str, &str)]) -> faircopy_testkit::client::Response {
    let url = format!("{}{path}", server.url());
    request("GET", &url, headers, Bytes::new(), PATIENCE).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_have_the_fields_of_the_page() {
    let place = Place::sqlite();
    let server = Server::start(place.options().env("FAIRCOPY_LOG_FORMAT", "json")).await;
    sender(&server).send("msg_told", &body("user_told")).await;
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let path = "/v1/users/user_asked?email=canary@example.com";
    let answer = get(&server, path, &[("x-request-id", "req-7"), ("traceparent", &parent)]).await;
    assert_eq!(answer.header("faircopy-request-id"), Some("req-7"));
    for target in ["faircopy::delivery", "faircopy::request"] {
        let line = line(&server, target).await;
        let own = ["timestamp", "level", "target", "message"];
        let fields = line.as_object().expect("an object").keys().map(String::as_str);
        let fields: BTreeSet<&str> = fields.filter(|field| !own.contains(field)).collect();
        let documented = documented(target);
        assert!(fields.is_subset(&documented), "{target}: {line}");
        let optional = BTreeSet::from(["trace_id", "entity_id", "lag_ms"]);
        let missing: Vec<_> = documented.difference(&fields).filter(|field| !optional.contains(*field)).collect();
        assert!(missing.is_empty() && line["level"] == "INFO", "{missing:?}: {line}");
        if target == "faircopy::request" {
            let told = (&line["route"], &line["request_id"], &line["trace_id"], &line["method"]);
            let expected = ["/v1/users/{clerk_user_id}", "req-7", TRACE, "GET"].map(Value::from);
            assert_eq!(told, (&expected[0], &expected[1], &expected[2], &expected[3]));
        } else {
            let told = (&line["svix_id"], &line["entity_id"], &line["outcome"]);
            let expected = ["msg_told", "user_told", "applied"].map(Value::from);
            assert_eq!(told, (&expected[0], &expected[1], &expected[2]));
        }
    }
    assert_discreet(&server.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn people_read_a_column_for_each() {
    let place = Place::sqlite();
    let server = Server::start(place.options()).await;
    sender(&server).send("msg_told", &body("user_told")).await;
    get(&server, "/nowhere/canary@example.com", &[]).await;
    let started = Instant::now();
    let has_said = |parts: &[&str]| server.stderr().lines().any(|line| parts.iter().all(|part| line.contains(part)));
    while !(has_said(&["user.created", "user_told", "applied", " ms"])
        && has_said(&["GET unmatched", "404", "request "]))
    {
        assert!(started.elapsed() < PATIENCE, "{}", server.stderr());
        tokio::time::sleep(POLL).await;
    }
    assert_discreet(&server.stderr());
}

/// A field of a message of protobuf.
#[derive(Debug, Clone)]
enum Part<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, as protobuf writes them.
fn parts(mut bytes: &[u8]) -> Vec<(u64, Part<'_>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let (mut number, mut shift) = (0, 0);
        loop {
            let (byte, rest) = bytes.split_first().expect("a whole number");
            *bytes = rest;
            number |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return number;
            }
        }
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let part = match key & 7 {
            0 => Part::Number(varint(&mut bytes)),
            1 => {
                let (number, rest) = bytes.split_at(8);
                bytes = rest;
                Part::Number(u64::from_le_bytes(number.try_into().expect("8 bytes")))
            }
            2 => {
                let length = usize::try_from(varint(&mut bytes)).expect("a length");
                let (inner, rest) = bytes.split_at(length);
                bytes = rest;
                Part::Bytes(inner)
            }
            kind => panic!("a field of kind {kind}"),
        };
        found.push((key >> 3, part));
    }
    found
}

fn all(message: &[u8], field: u64) -> Vec<&[u8]> {
    let bytes = |(found, part)| match part {
        Part::Bytes(bytes) if found == field => Some(bytes),
        _ => None,
    };
    parts(message).into_iter().filter_map(bytes).collect()
}

fn number(message: &[u8], field: u64) -> u64 {
    let of = |(found, part): (u64, Part<'_>)| match part {
        Part::Number(number) if found == field => Some(number),
        _ => None,
    };
    parts(message).into_iter().find_map(of).unwrap_or_default()
}

fn text(message: &[u8], field: u64) -> String {
    all(message, field).first().map(|bytes| String::from_utf8(bytes.to_vec()).expect("a text")).unwrap_or_default()
}

fn hex(message: &[u8], field: u64) -> String {
    all(message, field).first().map_or(String::new(), |bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A span as a collector reads it.
#[derive(Debug, Clone)]
struct Span {
    name: String,
    trace: String,
    id: String,
    parent: String,
    kind: u64,
    nanos: (u64, u64),
    attributes: BTreeMap<String, String>,
    links: usize,
}

fn spans(request: &[u8]) -> Vec<Span> {
    let value = |any: &[u8]| match parts(any).first().cloned() {
        Some((_, Part::Bytes(text))) => String::from_utf8(text.to_vec()).expect("a text"),
        Some((_, Part::Number(number))) => number.to_string(),
        None => String::new(),
    };
    let span = |bytes: &[u8]| Span {
        name: text(bytes, 5),
        trace: hex(bytes, 1),
        id: hex(bytes, 2),
        parent: hex(bytes, 4),
        kind: number(bytes, 6),
        nanos: (number(bytes, 7), number(bytes, 8)),
        attributes: all(bytes, 9).into_iter().map(|pair| (text(pair, 1), value(all(pair, 2)[0]))).collect(),
        links: all(bytes, 13).len(),
    };
    let scopes = all(request, 1).into_iter().flat_map(|resource| all(resource, 2));
    scopes.flat_map(|scope| all(scope, 2)).map(span).collect()
}

/// A collector: every request's head and body.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Taken>>>);

/// One request: its head and its body.
type Taken = (String, Vec<u8>);

impl Collector {
    async fn start() -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let collector = Self::default();
        let taken = collector.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let taken = taken.clone();
                tokio::spawn(async move {
                    let mut bytes = Vec::new();
                    loop {
                        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n");
                        if let Some(head) = head {
                            let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
                            let length =
                                text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                            let end = head + 4 + length.unwrap_or(0);
                            if bytes.len() >= end {
                                taken.0.lock().expect("the list").push((text, bytes[head + 4..end].to_vec()));
                                bytes.drain(..end);
                                drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await);
                                continue;
                            }
                        }
                        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                            return;
                        }
                    }
                });
            }
        });
        (collector, url)
    }

    fn spans(&self) -> Vec<Span> {
        self.0.lock().expect("the list").iter().flat_map(|(_, body)| spans(body)).collect()
    }
}

async fn a_delivery_is_traced(place: Place) {
    let (collector, url) = Collector::start().await;
    let options = place
        .options()
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &url)
        .env("OTEL_EXPORTER_OTLP_HEADERS", "x-api-key=collector-key")
        .env("OTEL_SERVICE_NAME", "copy");
    let mut server = Server::start(options).await;
    let sender = sender(&server);
    let signed = sender.sign("msg_traced", body("user_traced").as_bytes());
    let parent = format!("00-{TRACE}-{CALLER}-01");
    let mut headers = signed.headers().to_vec();
    headers.push(("traceparent", &parent));
    let answer = request("POST", sender.url(), &headers, Bytes::from(body("user_traced")), PATIENCE).await;
    assert_eq!(answer.expect("an answer").status, 200);
    let unsampled = format!("00-{}-{CALLER}-00", TRACE.replace('0', "1"));
    get(&server, "/v1/me", &[("traceparent", &unsampled)]).await;

    let started = Instant::now();
    let wanted = ["request", "verify", "read", "intake", "batch", "write", "commit"];
    let found = loop {
        let ours: Vec<Span> = collector.spans().into_iter().filter(|span| span.trace == TRACE).collect();
        if wanted.iter().all(|name| ours.iter().any(|span| span.name == *name)) {
            break ours;
        }
        assert!(started.elapsed() < PATIENCE, "{ours:#?}");
        tokio::time::sleep(POLL).await;
    };
    let of = |name: &str| found.iter().find(|span| span.name == name).expect("a span");
    let below = |name: &str, parent: &str| assert_eq!(of(name).parent, of(parent).id, "{name} below {parent}");
    assert_eq!((of("request").parent.as_str(), of("request").kind), (CALLER, 2));
    for name in ["verify", "read", "intake"] {
        below(name, "request");
    }
    below("batch", "intake");
    below("write", "batch");
    below("commit", "batch");
    let attribute = |span: &str, name: &str| of(span).attributes.get(name).cloned().unwrap_or_default();
    assert_eq!(attribute("request", "http.route"), "/webhooks/clerk");
    assert_eq!(attribute("request", "http.response.status_code"), "200");
    assert_eq!(attribute("intake", "faircopy.svix_id"), "msg_traced");
    assert_eq!(attribute("intake", "faircopy.outcome"), "applied");
    assert_eq!((attribute("batch", "faircopy.deliveries"), of("batch").links), ("1".into(), 0));
    assert!(found.iter().all(|span| span.nanos.0 > 0 && span.nanos.1 >= span.nanos.0), "{found:#?}");

    // The last ones are sent when the service ends.
    get(&server, "/openapi.json", &[]).await;
    assert!(server.terminate().await.success());
    let requests = collector.0.lock().expect("the list").clone();
    assert!(
        collector
            .spans()
            .iter()
            .any(|span| span.attributes.get("http.route").is_some_and(|route| route == "/openapi.json"))
    );
    assert!(collector.spans().iter().all(|span| !span.trace.starts_with("1af")), "what nobody sampled is not sent");
    for (head, body) in requests {
        assert!(
            head.starts_with("post /v1/traces ") && head.contains("content-type: application/x-protobuf"),
            "{head}"
        );
        assert!(head.contains("x-api-key: collector-key"), "{head}");
        let service = all(all(all(&body, 1)[0], 1)[0], 1)[0];
        assert_eq!((text(service, 1), text(all(service, 2)[0], 1)), ("service.name".into(), "copy".into()));
        assert_discreet(&String::from_utf8_lossy(&body));
    }
    assert_discreet(&server.stderr());
    assert!(!server.stderr().contains("collector-key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_traced_on_sqlite() {
    a_delivery_is_traced(Place::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_traced_on_postgres() {
    a_delivery_is_traced(Place::postgres().await).await;
}

/// A collector that is away holds nothing up, and is told once.
#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_holds_nothing_up() {
    let place = Place::sqlite();
    let server = Server::start(place.options().env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")).await;
    for number in 0..50 {
        let reply = sender(&server).send(&format!("msg_{number}"), &body(&format!("user_{number}"))).await;
        assert!(reply.is_ack(), "{reply:?}");
    }
    let started = Instant::now();
    while !server.stderr().contains("traces-not-taken") {
        assert!(started.elapsed() < PATIENCE, "{}", server.stderr());
        tokio::time::sleep(POLL).await;
    }
}

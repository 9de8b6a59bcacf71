//! Traces over OTLP: spans of `tracing` on the target [`TRACE`], sent as protobuf over HTTP. Off unless an endpoint is set, and then a span
//! costs a load and a branch.
//!
//! Spans hold ids, counts and statuses: like the log, never a secret, a body or anything personal.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret as _;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Subscriber, field};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use crate::app::{nanos_now, random_bytes};
use crate::config::Traces;

/// What spans are made on.
pub const TRACE: &str = "faircopy::trace";
/// Ended spans that wait to be sent: two seconds of a busy service, and a few MiB.
const MAX_WAITING: usize = 4096;
/// Spans in one request.
const MAX_SENT: usize = 512;
/// How long an ended span waits for others.
const PERIOD: Duration = Duration::from_secs(1);
/// How long the collector may take: what comes later is not waited for, and its spans are gone.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long the last spans may take when the service ends.
const FINISH_DEADLINE: Duration = Duration::from_secs(1);
/// Links of one span: a batch has 256 causes, and 32 of them show what happened.
const MAX_LINKS: usize = 32;

/// Whether spans go anywhere.
static IS_ON: AtomicBool = AtomicBool::new(false);

/// Whether spans go anywhere: ids for them need not be made otherwise.
#[must_use]
pub fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// Where a request comes from, as W3C's `traceparent` says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// 32 hexadecimal digits.
    pub trace: String,
    /// 16 hexadecimal digits; none where the trace begins here.
    pub span: Option<String>,
    /// Whether anybody wants to see it.
    pub is_sampled: bool,
}

impl Parent {
    /// Reads the header; what is not of its form is not listened to.
    #[must_use]
    pub fn read(header: &str) -> Option<Self> {
        let parts: Vec<&str> = header.trim().split('-').collect();
        let [version, trace, span, flags, ..] = parts[..] else { return None };
        let is_hex = |text: &str, length: usize| {
            text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        };
        let is_nothing = |text: &str| text.bytes().all(|byte| byte == b'0');
        let fits = is_hex(version, 2) && version != "ff" && (version != "00" || parts.len() == 4);
        if !fits
            || !is_hex(trace, 32)
            || !is_hex(span, 16)
            || !is_hex(flags, 2)
            || is_nothing(trace)
            || is_nothing(span)
        {
            return None;
        }
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Some(Self { trace: trace.to_owned(), span: Some(span.to_owned()), is_sampled: flags & 1 == 1 })
    }

    /// The beginning of a trace.
    #[must_use]
    pub fn new() -> Self {
        Self { trace: hex(&random_bytes::<16>()), span: None, is_sampled: true }
    }
}

impl Default for Parent {
    fn default() -> Self {
        Self::new()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.get(..2 * N)?;
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
}

/// Which span, in which trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    trace: [u8; 16],
    span: [u8; 8],
}

/// A span that has not ended, and then one that has.
#[derive(Debug, Clone)]
struct Span {
    name: &'static str,
    place: Place,
    parent: Option<[u8; 8]>,
    is_sampled: bool,
    kind: u64,
    started: u64,
    ended: u64,
    attributes: Vec<(&'static str, Value)>,
    links: Vec<Place>,
    has_failed: bool,
}

/// What ended and is to be sent.
#[derive(Default)]
struct Queue {
    spans: Mutex<VecDeque<Span>>,
    /// Enough wait for a request.
    full: Notify,
}

impl Queue {
    fn push(&self, span: Span) {
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        if spans.len() >= MAX_WAITING {
            metrics::counter!("faircopy_trace_spans_total", "result" => "dropped").increment(1);
            return;
        }
        spans.push_back(span);
        if spans.len() >= MAX_SENT {
            self.full.notify_one();
        }
    }

    fn take(&self) -> Vec<Span> {
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        let count = spans.len().min(MAX_SENT);
        spans.drain(..count).collect()
    }
}

/// Makes spans of what `tracing` says.
pub(super) struct Collect {
    queue: Arc<Queue>,
}

/// Reads the fields of a span; those that begin with `trace.` say where it belongs.
#[derive(Default)]
struct Fields {
    attributes: Vec<(&'static str, Value)>,
    trace: Option<[u8; 16]>,
    parent: Option<[u8; 8]>,
    is_unsampled: bool,
    kind: Option<u64>,
    has_failed: bool,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "trace.id" => self.trace = bytes(value),
            "trace.parent" => self.parent = bytes(value),
            name => self.attributes.push((name, Value::Text(value.to_owned()))),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.attributes.push((field.name(), Value::Int(value)));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "trace.kind" => self.kind = Some(value),
            name => self.attributes.push((name, Value::Int(i64::try_from(value).unwrap_or(i64::MAX)))),
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.attributes.push((field.name(), Value::Float(value)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        match field.name() {
            "trace.unsampled" => self.is_unsampled = value,
            "trace.failed" => self.has_failed = value,
            name => self.attributes.push((name, Value::Bool(value))),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.attributes.push((field.name(), Value::Text(format!("{value:?}"))));
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Collect {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let above = span
            .parent()
            .and_then(|parent| parent.extensions().get::<Span>().map(|parent| (parent.place, parent.is_sampled)));
        let trace = fields.trace.or(above.map(|(place, _)| place.trace)).unwrap_or_else(random_bytes);
        let made = Span {
            name: span.name(),
            place: Place { trace, span: random_bytes() },
            parent: fields.parent.or(above.map(|(place, _)| place.span)),
            is_sampled: !fields.is_unsampled && above.is_none_or(|(_, is_sampled)| is_sampled),
            kind: fields.kind.unwrap_or(INTERNAL),
            started: nanos_now(),
            ended: 0,
            attributes: fields.attributes,
            links: Vec::new(),
            has_failed: fields.has_failed,
        };
        span.extensions_mut().insert(made);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        values.record(&mut fields);
        if let Some(made) = span.extensions_mut().get_mut::<Span>() {
            made.attributes.append(&mut fields.attributes);
            made.has_failed |= fields.has_failed;
        }
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        let place = |span: SpanRef<'_, S>| span.extensions().get::<Span>().map(|span| span.place);
        let Some(place) = context.span(follows).and_then(place) else { return };
        let Some(span) = context.span(id) else { return };
        if let Some(made) = span.extensions_mut().get_mut::<Span>()
            && made.links.len() < MAX_LINKS
        {
            made.links.push(place);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else { return };
        let ended = span.extensions_mut().remove::<Span>();
        if let Some(ended) = ended.filter(|span| span.is_sampled) {
            self.queue.push(Span { ended: nanos_now(), ..ended });
        }
    }
}

/// Sends what ended, until [`Exporter::finish`].
pub struct Exporter {
    sending: JoinHandle<()>,
    stop: Arc<Notify>,
}

/// A layer that makes spans, and what sends them. `None` where the collector can never be asked, which is logged.
pub(super) fn start(settings: &Traces) -> Option<(Collect, Exporter)> {
    let client = match client(settings) {
        Ok(client) => client,
        Err(error) => {
            tracing::error!(%error, "traces can never be sent: there is no TLS");
            return None;
        }
    };
    IS_ON.store(true, Ordering::Relaxed);
    let (queue, stop) = (Arc::new(Queue::default()), Arc::new(Notify::new()));
    let sending = tokio::spawn(send(client, settings.clone(), queue.clone(), stop.clone()));
    Some((Collect { queue }, Exporter { sending, stop }))
}

impl Exporter {
    /// Sends what is left, for a second at most.
    pub async fn finish(self) {
        self.stop.notify_one();
        if tokio::time::timeout(FINISH_DEADLINE, self.sending).await.is_err() {
            tracing::debug!("the last spans were not taken in time");
        }
    }
}

fn client(settings: &Traces) -> Result<reqwest::Client, reqwest::Error> {
    let mut headers = HeaderMap::new();
    for (name, value) in &settings.headers {
        // The settings only take headers that can be sent.
        if let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::from_str(value.expose_secret())) {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    reqwest::Client::builder()
        .default_headers(headers)
        .timeout(DEADLINE)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("faircopy/", env!("CARGO_PKG_VERSION")))
        .build()
}

async fn send(client: reqwest::Client, settings: Traces, queue: Arc<Queue>, stop: Arc<Notify>) {
    let mut has_failed = false;
    let mut is_over = false;
    while !is_over {
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = queue.full.notified() => {}
            () = stop.notified() => is_over = true,
        }
        loop {
            let spans = queue.take();
            if spans.is_empty() {
                break;
            }
            let count = spans.len() as u64;
            let request = client.post(settings.url.clone()).body(encode(&spans, &settings.service));
            let sent = request.send().await.and_then(reqwest::Response::error_for_status);
            let result = if sent.is_ok() { "sent" } else { "failed" };
            metrics::counter!("faircopy_trace_spans_total", "result" => result).increment(count);
            if let Err(error) = &sent
                && !has_failed
            {
                let status = error.status().map(|status| status.as_u16());
                tracing::warn!(
                    status,
                    code = "traces-not-taken",
                    "the collector does not take spans; told once until it does"
                );
            }
            has_failed = sent.is_err();
        }
    }
}

/// Kinds of spans, as OTLP numbers them.
const INTERNAL: u64 = 1;
/// A request that is answered here.
pub const SERVER: u64 = 2;
/// A question to somebody else.
pub const CLIENT: u64 = 3;

/// OTLP's `ExportTraceServiceRequest`, of the fields that are used (opentelemetry-proto, `trace.proto`).
fn encode(spans: &[Span], service: &str) -> Vec<u8> {
    let mut resource = Message::default();
    resource.message(1, &attribute("service.name", &Value::Text(service.to_owned())));
    resource.message(1, &attribute("service.version", &Value::Text(env!("CARGO_PKG_VERSION").to_owned())));
    let mut scope = Message::default();
    scope.text(1, "faircopy");
    let mut scoped = Message::default();
    scoped.message(1, &scope);
    spans.iter().for_each(|span| scoped.message(2, &encode_span(span)));
    let mut all = Message::default();
    all.message(1, &resource);
    all.message(2, &scoped);
    let mut request = Message::default();
    request.message(1, &all);
    request.0
}

fn encode_span(span: &Span) -> Message {
    let mut message = Message::default();
    message.bytes(1, &span.place.trace);
    message.bytes(2, &span.place.span);
    if let Some(parent) = &span.parent {
        message.bytes(4, parent);
    }
    message.text(5, span.name);
    message.number(6, span.kind);
    message.fixed(7, span.started);
    message.fixed(8, span.ended.max(span.started));
    span.attributes.iter().for_each(|(name, value)| message.message(9, &attribute(name, value)));
    for link in &span.links {
        let mut linked = Message::default();
        linked.bytes(1, &link.trace);
        linked.bytes(2, &link.span);
        message.message(13, &linked);
    }
    if span.has_failed {
        let mut status = Message::default();
        // STATUS_CODE_ERROR
        status.number(3, 2);
        message.message(15, &status);
    }
    message
}

fn attribute(name: &str, value: &Value) -> Message {
    let mut held = Message::default();
    match value {
        Value::Text(text) => held.text(1, text),
        Value::Bool(is) => held.number(2, u64::from(*is)),
        Value::Int(number) => held.number(3, number.cast_unsigned()),
        Value::Float(number) => held.fixed(4, number.to_bits()),
    }
    let mut pair = Message::default();
    pair.text(1, name);
    pair.message(2, &held);
    pair
}

/// A message of protobuf, as it is written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push((number & 0x7f) as u8);
    }

    fn number(&mut self, field: u64, number: u64) {
        self.varint(field << 3);
        self.varint(number);
    }

    fn fixed(&mut self, field: u64, number: u64) {
        self.varint(field << 3 | 1);
        self.0.extend(number.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }

    fn text(&mut self, field: u64, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    fn message(&mut self, field: u64, message: &Self) {
        self.bytes(field, &message.0);
    }
}

/// Marks the span of what failed.
pub fn failed(span: &tracing::Span) {
    span.record("trace.failed", true);
}

/// A field that is known later.
pub const LATER: field::Empty = field::Empty;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_w3c_writes_it() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let check = |header: &str, expected: Option<(Option<&str>, bool)>| {
            let read = Parent::read(header);
            assert_eq!(read.as_ref().map(|parent| (parent.span.as_deref(), parent.is_sampled)), expected, "{header}");
            assert!(read.is_none_or(|parent| parent.trace == trace));
        };
        check(&format!("00-{trace}-b7ad6b7169203331-01"), Some((Some("b7ad6b7169203331"), true)));
        check(&format!("00-{trace}-b7ad6b7169203331-00"), Some((Some("b7ad6b7169203331"), false)));
        check(&format!("cc-{trace}-b7ad6b7169203331-01-more"), Some((Some("b7ad6b7169203331"), true)));
        check(&format!("00-{trace}-b7ad6b7169203331-01-more"), None);
        check(&format!("ff-{trace}-b7ad6b7169203331-01"), None);
        check(&format!("00-{}-b7ad6b7169203331-01", trace.to_uppercase()), None);
        check(&format!("00-{trace}-0000000000000000-01"), None);
        check(&format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)), None);
        check("00-short-b7ad6b7169203331-01", None);
        check("", None);
    }

    #[test]
    fn numbers_are_written_as_protobuf_has_them() {
        let mut message = Message::default();
        message.number(3, 300);
        message.text(2, "hi");
        message.fixed(7, 1);
        assert_eq!(message.0, [0x18, 0xac, 0x02, 0x12, 2, b'h', b'i', 0x39, 1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes::<8>(&hex(&[1, 2, 3, 4, 5, 6, 7, 255])), Some([1, 2, 3, 4, 5, 6, 7, 255]));
    }

    #[test]
    fn a_queue_that_is_full_drops_and_does_not_wait() {
        let queue = Queue::default();
        let span = Span {
            name: "x",
            place: Place { trace: [1; 16], span: [1; 8] },
            parent: None,
            is_sampled: true,
            kind: INTERNAL,
            started: 0,
            ended: 0,
            attributes: vec![],
            links: vec![],
            has_failed: false,
        };
        (0..MAX_WAITING + 10).for_each(|_| queue.push(span.clone()));
        let mut taken = 0;
        loop {
            match queue.take().len() {
                0 => break,
                count => taken += count,
            }
        }
        assert_eq!(taken, MAX_WAITING);
    }
}

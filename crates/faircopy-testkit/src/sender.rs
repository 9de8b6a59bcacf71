//! Deliveries signed by the reference library (`svix`), sent once or in a closed loop with an ack journal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use svix::webhooks::Webhook;

use crate::client::{Connection, NoAnswer, Response, split};

/// Svix gives an endpoint 15 s to answer; what takes longer counts as not answered.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a worker waits before it sends a refused delivery again: short, so that recovery is seen at once.
const PAUSE_BEFORE_RESEND: Duration = Duration::from_millis(25);

/// Signs with one secret and sends to one address.
#[derive(Clone)]
pub struct Sender {
    url: String,
    webhook: Arc<Webhook>,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("url", &self.url).finish_non_exhaustive()
    }
}

/// One delivery to send: its `svix-id` and its body.
pub type Item = (String, String);

/// The answer to one delivery.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status code.
    pub status: u16,
    /// `outcome` of the answer's body, when there is one (`applied`, `stale`, `duplicate`, …).
    pub outcome: Option<String>,
    /// The body as text.
    pub body: String,
    /// The `Retry-After` header, when there is one.
    pub retry_after: Option<String>,
    /// From before the request was written until the answer was read.
    pub elapsed: Duration,
}

impl Reply {
    /// Whether the delivery was acknowledged: the sender will never send it again.
    #[must_use]
    pub fn is_ack(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// What happened in [`Sender::send_all`].
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The ack journal: the `svix-id` of every delivery that got a 2xx, in the order of the answers.
    pub acked: Vec<String>,
    /// Answers that are neither 2xx nor 503: their deliveries were not sent again.
    pub unexpected: Vec<(String, Reply)>,
    /// Deliveries that were still without a 2xx at the deadline, or never sent.
    pub unsent: Vec<String>,
    /// Number of answers by status.
    pub by_status: BTreeMap<u16, usize>,
    /// Number of acknowledgements by outcome; an answer without an outcome counts under the empty name.
    pub by_outcome: BTreeMap<String, usize>,
    /// Attempts without an answer: connection refused or broken, or no answer in time.
    pub unanswered: usize,
    /// The time of every acknowledged attempt, ascending.
    pub ack_times: Vec<Duration>,
    /// The longest that any attempt waited for its answer, or for the connection to break.
    pub longest_wait: Duration,
    /// From the first delivery to the last answer.
    pub elapsed: Duration,
}

impl Report {
    /// The ack journal as a set.
    #[must_use]
    pub fn acked_ids(&self) -> BTreeSet<&str> {
        self.acked.iter().map(String::as_str).collect()
    }

    /// Whether every delivery was acknowledged.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.unexpected.is_empty() && self.unsent.is_empty()
    }

    /// The ack time that `percent` of the acknowledgements did not exceed.
    #[must_use]
    pub fn ack_time(&self, percent: usize) -> Option<Duration> {
        let last = self.ack_times.len().checked_sub(1)?;
        self.ack_times.get(last * percent.min(100) / 100).copied()
    }

    /// Panics with the first unexpected answers unless every delivery was acknowledged.
    ///
    /// # Panics
    /// See above.
    pub fn assert_complete(&self) {
        let refused: Vec<String> = self
            .unexpected
            .iter()
            .take(5)
            .map(|(id, reply)| format!("{id}: {} {}", reply.status, reply.body.trim()))
            .collect();
        let left: Vec<&String> = self.unsent.iter().take(5).collect();
        assert!(
            self.is_complete(),
            "not every delivery was acknowledged: {} acked; {} unexpected answers, first {refused:#?}; {} without a 2xx \
             at the deadline, first {left:?}; answers by status {:?}, {} attempts without an answer",
            self.acked.len(),
            self.unexpected.len(),
            self.unsent.len(),
            self.by_status,
            self.unanswered,
        );
    }

    fn add(&mut self, other: Report) {
        self.acked.extend(other.acked);
        self.unexpected.extend(other.unexpected);
        self.unsent.extend(other.unsent);
        for (status, count) in other.by_status {
            *self.by_status.entry(status).or_default() += count;
        }
        for (outcome, count) in other.by_outcome {
            *self.by_outcome.entry(outcome).or_default() += count;
        }
        self.unanswered += other.unanswered;
        self.ack_times.extend(other.ack_times);
        self.longest_wait = self.longest_wait.max(other.longest_wait);
    }
}

/// The three headers of a signed delivery.
#[derive(Clone, Debug)]
pub struct Signed {
    /// `svix-id`
    pub id: String,
    /// `svix-timestamp`, in seconds
    pub timestamp: String,
    /// `svix-signature`
    pub signature: String,
}

impl Signed {
    /// As header pairs.
    #[must_use]
    pub fn headers(&self) -> [(&str, &str); 3] {
        [("svix-id", &self.id), ("svix-timestamp", &self.timestamp), ("svix-signature", &self.signature)]
    }
}

impl Sender {
    /// Sends to `url` (the whole address, with the path) and signs with `secret` (`whsec_…`).
    ///
    /// # Panics
    /// When the reference library does not accept the secret.
    #[must_use]
    pub fn new(url: impl Into<String>, secret: &str) -> Sender {
        let webhook = Webhook::new(secret).unwrap_or_else(|error| panic!("the secret is not one: {error}"));
        Sender { url: url.into(), webhook: Arc::new(webhook) }
    }

    /// The address that deliveries go to.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Signs a body as of now.
    #[must_use]
    pub fn sign(&self, svix_id: &str, body: &[u8]) -> Signed {
        self.sign_at(svix_id, body, Timestamp::now().as_second())
    }

    /// Signs a body as of `timestamp` (seconds).
    ///
    /// # Panics
    /// When the reference library refuses to sign.
    #[must_use]
    pub fn sign_at(&self, svix_id: &str, body: &[u8], timestamp: i64) -> Signed {
        let signature = self.webhook.sign(svix_id, timestamp, body).expect("the reference library signs any bytes");
        Signed { id: svix_id.to_owned(), timestamp: timestamp.to_string(), signature }
    }

    /// Sends one delivery over a connection of its own; `Err` when there is no answer.
    ///
    /// # Errors
    /// When the connection is refused, breaks, or the answer takes longer than [`ANSWER_TIMEOUT`].
    pub async fn try_send(&self, svix_id: &str, body: &str) -> Result<Reply, NoAnswer> {
        self.attempt(&mut None, svix_id, body).await
    }

    /// Sends one delivery over a connection of its own.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn send(&self, svix_id: &str, body: &str) -> Reply {
        self.try_send(svix_id, body).await.unwrap_or_else(|error| panic!("{svix_id} to {}: {error}", self.url))
    }

    /// Sends everything over `connections` keep-alive connections, each with one delivery in flight. A delivery without
    /// an answer, or answered 503, is signed and sent again until it gets a 2xx or `deadline` (from now) has passed.
    ///
    /// # Panics
    /// When one of its tasks does.
    pub async fn send_all(&self, items: Vec<Item>, connections: usize, deadline: Duration) -> Report {
        let start = Instant::now();
        let items = Arc::new(items);
        let next = Arc::new(AtomicUsize::new(0));
        let journal = Arc::new(std::sync::Mutex::new(Vec::with_capacity(items.len())));
        let workers: Vec<_> = (0..connections.max(1))
            .map(|_| {
                let worker = Worker {
                    sender: self.clone(),
                    items: Arc::clone(&items),
                    next: Arc::clone(&next),
                    journal: Arc::clone(&journal),
                    deadline: start + deadline,
                };
                tokio::spawn(worker.run())
            })
            .collect();
        let mut report = Report::default();
        for worker in workers {
            report.add(worker.await.expect("a sending task"));
        }
        report.acked = std::mem::take(&mut *journal.lock().expect("the ack journal"));
        report.ack_times.sort_unstable();
        report.elapsed = start.elapsed();
        report
    }

    /// Sends one delivery over a connection that is open, or over a new one, which stays open for the next.
    ///
    /// # Errors
    /// When the connection is refused, breaks, or the answer takes longer than [`ANSWER_TIMEOUT`].
    pub async fn attempt(
        &self,
        connection: &mut Option<Connection>,
        svix_id: &str,
        body: &str,
    ) -> Result<Reply, NoAnswer> {
        let start = Instant::now();
        let mut open = match connection.take() {
            Some(open) if !open.is_closed() => open,
            _ => Connection::open(&self.url, ANSWER_TIMEOUT).await?,
        };
        let signed = self.sign(svix_id, body.as_bytes());
        let [id, timestamp, signature] = signed.headers();
        let headers = [id, timestamp, signature, ("content-type", "application/json")];
        let (_, path) = split(&self.url);
        let body = Bytes::copy_from_slice(body.as_bytes());
        let response = open.request("POST", &path, &headers, body, ANSWER_TIMEOUT).await?;
        *connection = Some(open);
        Ok(reply(&response, start.elapsed()))
    }
}

/// One keep-alive connection's part of a closed loop.
struct Worker {
    sender: Sender,
    items: Arc<Vec<Item>>,
    next: Arc<AtomicUsize>,
    journal: Arc<std::sync::Mutex<Vec<String>>>,
    deadline: Instant,
}

impl Worker {
    async fn run(self) -> Report {
        let mut report = Report::default();
        let mut connection = None;
        while let Some((svix_id, body)) = self.items.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            self.deliver(&mut connection, svix_id, body, &mut report).await;
        }
        report
    }

    /// Sends one delivery until it is settled or the deadline has passed.
    async fn deliver(&self, connection: &mut Option<Connection>, svix_id: &str, body: &str, report: &mut Report) {
        while Instant::now() < self.deadline {
            let start = Instant::now();
            let answer = self.sender.attempt(connection, svix_id, body).await;
            report.longest_wait = report.longest_wait.max(start.elapsed());
            match answer {
                Err(_) => report.unanswered += 1,
                Ok(reply) => {
                    *report.by_status.entry(reply.status).or_default() += 1;
                    if reply.is_ack() {
                        self.journal.lock().expect("the ack journal").push(svix_id.to_owned());
                        report.ack_times.push(reply.elapsed);
                        *report.by_outcome.entry(reply.outcome.unwrap_or_default()).or_default() += 1;
                        return;
                    }
                    if reply.status != 503 {
                        report.unexpected.push((svix_id.to_owned(), reply));
                        return;
                    }
                }
            }
            tokio::time::sleep(PAUSE_BEFORE_RESEND).await;
        }
        report.unsent.push(svix_id.to_owned());
    }
}

fn reply(response: &Response, elapsed: Duration) -> Reply {
    let outcome = response.json().and_then(|body| Some(body.get("outcome")?.as_str()?.to_owned()));
    Reply {
        status: response.status,
        outcome,
        body: response.text(),
        retry_after: response.header("retry-after").map(str::to_owned),
        elapsed,
    }
}

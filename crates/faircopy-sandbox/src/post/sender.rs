//! Does what [`super::Post`] says: sends what is due, and tells how it went.
//!
//! The lock around the post is held for deciding and for writing down, never while something is sent.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::fmt::rfc2822;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::{Answer, Control, Dispatch, MAX_ANSWER_CHARS, Post};
use crate::chance::Chance;
use crate::chaos::DeliveryChaos;

/// How long a receiver may take to answer, by the machine's own clock: Svix's limit.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// The longest that the sandbox's clock is not looked at while something waits: somebody may move it.
const CLOCK_POLL: Duration = Duration::from_millis(50);
/// How much of an answer is read, in bytes: what is kept of it, in characters of up to four bytes.
const MAX_ANSWER_BYTES: usize = MAX_ANSWER_CHARS * 4;

/// Where the sender works: whoever holds the post, the chaos and the clock.
pub trait Office: Send + Sync + 'static {
    /// Does something with the post, under its lock.
    fn with_post<R>(&self, act: impl FnOnce(&mut Post, (&DeliveryChaos, Chance)) -> R) -> R;
    /// The sandbox's time.
    fn now_ms(&self) -> i64;
    /// Rung whenever something may have become due.
    fn bell(&self) -> &Notify;
}

/// What makes the requests.
///
/// # Errors
/// If the TLS library cannot be started.
pub fn client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(ANSWER_TIMEOUT)
        .no_proxy()
        .http1_only()
        .build()
}

/// Sends until it is told to stop. What is under way then counts as not made.
pub async fn run(office: Arc<impl Office>, client: reqwest::Client, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    let mut attempts = JoinSet::new();
    loop {
        let now_ms = office.now_ms();
        let (due, next_at) = office.with_post(|post, chaos| (post.due(chaos, now_ms), post.next_at()));
        for dispatch in due {
            attempts.spawn(attempt(office.clone(), client.clone(), dispatch));
        }
        tokio::select! {
            () = &mut stop => break,
            () = office.bell().notified() => {}
            Some(_) = attempts.join_next() => {}
            () = doze(next_at, now_ms) => {}
        }
        while attempts.try_join_next().is_some() {}
    }
    attempts.shutdown().await;
    office.with_post(|post, _| post.interrupt_all());
}

/// Sleeps until something is due, or the clock should be looked at again; for ever if nothing waits.
async fn doze(next_at: Option<i64>, now_ms: i64) {
    let Some(at_ms) = next_at else { return std::future::pending().await };
    let left = Duration::from_millis(u64::try_from(at_ms - now_ms).unwrap_or(0));
    tokio::time::sleep(left.min(CLOCK_POLL)).await;
}

async fn attempt(office: Arc<impl Office>, client: reqwest::Client, dispatch: Dispatch) {
    let number = dispatch.attempt;
    let answer = match send(&client, dispatch, office.now_ms()).await {
        Ok(answer) => answer,
        Err(error) => Answer::Nothing { timeout: error.is_timeout(), error: chain(&error.without_url()) },
    };
    let now_ms = office.now_ms();
    office.with_post(|post, _| post.answered(number, &answer, now_ms));
}

async fn send(client: &reqwest::Client, dispatch: Dispatch, now_ms: i64) -> reqwest::Result<Answer> {
    let mut request = client.post(&dispatch.url);
    for (name, value) in dispatch.headers() {
        request = request.header(name, value);
    }
    let mut response = request.body(dispatch.body).send().await?;
    let status = response.status().as_u16();
    let control = response.headers().get("webhook-delivery").and_then(|value| Control::parse(value.to_str().ok()?));
    let retry_after_ms = retry_after_ms(response.headers(), now_ms);
    let mut body = Vec::new();
    while body.len() < MAX_ANSWER_BYTES
        && let Some(chunk) = response.chunk().await?
    {
        body.extend_from_slice(&chunk[..chunk.len().min(MAX_ANSWER_BYTES - body.len())]);
    }
    let body = String::from_utf8_lossy(&body).chars().take(MAX_ANSWER_CHARS).collect();
    Ok(Answer::Response { status, body, control, retry_after_ms })
}

/// `Retry-After` in seconds or as a date.
fn retry_after_ms(headers: &HeaderMap, now_ms: i64) -> Option<i64> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u32>() {
        return Some(i64::from(seconds) * 1000);
    }
    let date = rfc2822::parse(value).ok()?;
    Some((date.timestamp().as_millisecond() - now_ms).max(0))
}

/// An error with its causes, as one sentence.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

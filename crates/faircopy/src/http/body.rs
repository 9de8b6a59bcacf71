//! Reading a body within bounds: of size, of time, and of the memory that all bodies together may hold.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::problem::Problem;
use crate::config::LARGEST_MAX_BODY;

/// How long a body may take: Svix itself gives up after 15 s.
const BODY_DEADLINE: Duration = Duration::from_secs(12);
/// How long a request waits for its share of memory before it is sent back.
const MEMORY_DEADLINE: Duration = Duration::from_secs(3);
/// How long a body may take while another waits for memory. Less than [`MEMORY_DEADLINE`], so that who waits still gets
/// what a dawdler held; Svix sends from a data centre, and a body of 1 MiB in less than a tenth of this.
const CROWDED_DEADLINE: Duration = Duration::from_secs(2);
/// Memory for all bodies being read or committed, in KiB; with [`SMALL_KIB`] it is eight of the largest bodies. On its way
/// to the database a body takes up to seven times its size (measured at 300 senders of 1 MiB): that stays within a
/// container of 128 MiB.
pub const LARGE_KIB: usize = 6 * 1024;
const _: () = assert!(LARGEST_MAX_BODY <= LARGE_KIB * 1024, "a body that may be sent must fit");
/// More of it that large bodies never take: whoever floods the service with them, signed or not, keeps no ordinary
/// delivery waiting. As many as the intake lets wait, at 2 KiB each.
const SMALL_KIB: usize = 2 * 1024;
/// The largest of the small bodies: an ordinary delivery has 1 to 8 KiB.
const SMALL_BODY_KIB: u32 = 32;

/// The memory that all bodies of one service share.
#[derive(Clone)]
pub(super) struct Memory(Arc<Shares>);

struct Shares {
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    /// How many wait for memory now.
    waiting: watch::Sender<usize>,
}

impl Default for Memory {
    fn default() -> Self {
        let semaphore = |kib| Arc::new(Semaphore::new(kib));
        let (small, large) = (semaphore(SMALL_KIB), semaphore(LARGE_KIB));
        Self(Arc::new(Shares { small, large, waiting: watch::Sender::new(0) }))
    }
}

/// A whole body, and the memory that it holds until it is dropped.
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    pub(super) memory: OwnedSemaphorePermit,
}

/// Refuses what can be refused by the headers alone.
pub(super) fn check_headers(headers: &HeaderMap, limit: usize) -> Result<(), Problem> {
    let identity = |coding: &http::HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(CONTENT_ENCODING).iter().all(identity) {
        // Never decompressed: ten kilobytes can hold ten gigabytes, and the signature is over the bytes as sent.
        return Err(
            Problem::new("encoding-not-supported", "Send the body as it is, without Content-Encoding.").closing()
        );
    }
    // hyper 1.12 goes by the chunks, drops the length before it comes here and closes the connection after the answer
    // (RFC 9112, section 6.3): this stands for a version that shows both.
    if headers.contains_key(TRANSFER_ENCODING) && headers.contains_key(CONTENT_LENGTH) {
        let detail = "Both Content-Length and Transfer-Encoding are set.";
        return Err(Problem::new("request-ambiguous", detail).closing());
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if length.is_some_and(|length| length > limit) { Err(too_large(limit)) } else { Ok(()) }
}

/// Reads the whole body, at most `limit` bytes of it.
pub(super) async fn read(body: Body, limit: usize, memory: &Memory) -> Result<Whole, Problem> {
    match tokio::time::timeout(BODY_DEADLINE, read_within(body, limit, memory)).await {
        Ok(result) => result,
        Err(_) => Err(Problem::new("body-too-slow", "The body did not arrive within 12 seconds.").closing()),
    }
}

async fn read_within(mut body: Body, limit: usize, memory: &Memory) -> Result<Whole, Problem> {
    // All that it may come to need is taken at once: bodies that took piece by piece would wait for each other.
    let announced = body.size_hint().exact().and_then(|length| usize::try_from(length).ok());
    let mut share = memory.take(announced.map_or(SMALL_BODY_KIB, kib)).await?;
    let crowded = memory.crowded();
    tokio::pin!(crowded);
    let mut bytes = BytesMut::with_capacity(announced.unwrap_or_default().min(limit));
    loop {
        let frame = tokio::select! {
            biased;
            frame = body.frame() => frame,
            () = &mut crowded => {
                return Err(Problem::new("overloaded", "The body came too slowly while others wait.").closing());
            }
        };
        let Some(frame) = frame else { break };
        let incomplete = |_| Problem::new("body-incomplete", "The body broke off or is framed wrongly.").closing();
        let Ok(data) = frame.map_err(incomplete)?.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(too_large(limit));
        }
        if share.num_permits() * 1024 < bytes.len() + data.len() {
            // Its length was not announced, and it is none of the small.
            share = memory.take(kib(limit)).await?;
            // What it waited for is not its own slowness.
            crowded.set(memory.crowded());
        }
        bytes.extend_from_slice(&data);
    }
    // What was taken and not needed is free again.
    let needed = bytes.len().div_ceil(1024);
    drop(share.split(share.num_permits().saturating_sub(needed)));
    Ok(Whole { bytes: bytes.freeze(), memory: share })
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

impl Memory {
    /// Takes memory at once or waits for it, first come, first served.
    async fn take(&self, kib: u32) -> Result<OwnedSemaphorePermit, Problem> {
        let Shares { small, large, .. } = &*self.0;
        let parts: &[_] = if kib <= SMALL_BODY_KIB { &[small, large] } else { &[large] };
        for part in parts {
            if let Ok(permit) = (*part).clone().try_acquire_many_owned(kib) {
                return Ok(permit);
            }
        }
        let part = parts[0];
        let _waiting = Waiting::count(&self.0.waiting);
        match tokio::time::timeout(MEMORY_DEADLINE, part.clone().acquire_many_owned(kib)).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Problem::new("overloaded", "Too many bodies are being read. Send it again.").closing()),
        }
    }

    /// Resolves once [`CROWDED_DEADLINE`] has passed and somebody waits for memory.
    async fn crowded(&self) {
        tokio::time::sleep(CROWDED_DEADLINE).await;
        // The sender lives as long as `self`.
        let _ = self.0.waiting.subscribe().wait_for(|waiting| *waiting > 0).await;
    }
}

/// One who waits for memory, counted until it is dropped: the client may hang up meanwhile.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl<'a> Waiting<'a> {
    fn count(all: &'a watch::Sender<usize>) -> Self {
        all.send_modify(|waiting| *waiting += 1);
        Self(all)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

fn too_large(limit: usize) -> Problem {
    Problem::new("body-too-large", format!("At most {limit} bytes are read.")).closing()
}

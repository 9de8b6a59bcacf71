//! Reading a body within bounds: of size, of time, and of the memory that all bodies together may hold.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, TRANSFER_ENCODING};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use super::problem::Problem;

/// How long a body may take: Svix itself gives up after 15 s.
const BODY_DEADLINE: Duration = Duration::from_secs(12);
/// How long a request waits for its share of memory, in all, before it is sent back.
const MEMORY_DEADLINE: Duration = Duration::from_secs(3);
/// Memory for all bodies being read or committed, in KiB: eight of the largest. On its way to the database a body takes up
/// to seven times its size (measured at 300 senders of 1 MiB): that stays within a container of 128 MiB.
pub const MEMORY_KIB: usize = 8 * 1024;
/// What a body takes of it at first, in KiB; more is taken as it grows.
const FIRST_KIB: u32 = 8;

/// The memory that all bodies of one service share.
#[derive(Clone)]
pub(super) struct Memory(Arc<Semaphore>);

impl Default for Memory {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MEMORY_KIB)))
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
    let mut patience = None;
    let mut share = memory.take(FIRST_KIB, &mut patience).await?;
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let incomplete = |_| Problem::new("body-incomplete", "The body broke off or is framed wrongly.").closing();
        let Ok(data) = frame.map_err(incomplete)?.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Err(too_large(limit));
        }
        let needed = u32::try_from((bytes.len() + data.len()).div_ceil(1024)).unwrap_or(u32::MAX);
        let held = u32::try_from(share.num_permits()).unwrap_or(u32::MAX);
        if needed > held {
            share.merge(memory.take(needed - held, &mut patience).await?);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Whole { bytes: bytes.freeze(), memory: share })
}

impl Memory {
    /// Takes memory at once or waits for it. `patience` begins with the first wait: a body that must wait for every piece
    /// of itself is sent back in time, and not taken for a slow sender's.
    async fn take(&self, kib: u32, patience: &mut Option<Pin<Box<Sleep>>>) -> Result<OwnedSemaphorePermit, Problem> {
        if let Ok(permit) = self.0.clone().try_acquire_many_owned(kib) {
            return Ok(permit);
        }
        let patience = patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(MEMORY_DEADLINE)));
        tokio::select! {
            biased;
            Ok(permit) = self.0.clone().acquire_many_owned(kib) => Ok(permit),
            () = patience => Err(Problem::new("overloaded", "Too many bodies are being read. Send it again.").closing()),
        }
    }
}

fn too_large(limit: usize) -> Problem {
    Problem::new("body-too-large", format!("At most {limit} bytes are read.")).closing()
}

//! Readers of live queries: each a connection that stays, and notes how long a change took to arrive.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What stands before the number of a change in the value that it leads to.
pub(crate) const MARK: &[u8] = b"change-";
/// How long a stream may take to begin, and a change to arrive: whoever takes longer has lost it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Latencies are kept to three digits.
const LATENCY_DIGITS: u8 = 3;

/// What all listeners have seen.
pub(crate) struct Seen {
    /// When each change was sent.
    pub(crate) sent: Vec<Instant>,
    /// From there to the arrival at each of its listeners, in microseconds.
    pub(crate) delays: Histogram<u64>,
    /// Streams that ended.
    pub(crate) lost: u64,
}

impl Seen {
    pub(crate) fn new() -> Result<Rc<RefCell<Seen>>> {
        let longest = u64::try_from(PATIENCE.as_micros())?;
        let delays = Histogram::new_with_max(longest, LATENCY_DIGITS).map_err(|error| anyhow!("{error}"))?;
        Ok(Rc::new(RefCell::new(Seen { sent: Vec::new(), delays, lost: 0 })))
    }
}

/// Opens a stream and waits for its first beat; then it is read by a task of its own.
pub(crate) async fn listen(address: SocketAddr, path: &str, token: &str, seen: Rc<RefCell<Seen>>) -> Result<()> {
    let mut stream = TcpStream::connect(address).await.context("a listener cannot connect")?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\naccept: text/event-stream\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut head = Vec::with_capacity(2048);
    let begun = async {
        while !contains(&head, b"event: beat") {
            let read = stream.read_buf(&mut head).await?;
            ensure!(read > 0, "a stream was refused: {}", String::from_utf8_lossy(&head));
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, begun).await.context("a stream does not begin")??;
    tokio::task::spawn_local(async move {
        let mut last = None;
        let mut buffer = Vec::with_capacity(4096);
        while let Ok(read) = stream.read_buf(&mut buffer).await {
            if read == 0 {
                break;
            }
            let now = Instant::now();
            if let Some(newest) = numbers(&buffer).max().filter(|newest| last.is_none_or(|last| *newest > last)) {
                let mut seen = seen.borrow_mut();
                if let Some(sent) = seen.sent.get(newest).copied() {
                    let delay = u64::try_from((now - sent).as_micros()).unwrap_or(u64::MAX);
                    seen.delays.saturating_record(delay);
                }
                last = Some(newest);
            }
            // A number may be cut in two: the rest of it comes with the next part.
            let keep = buffer.len().saturating_sub(32);
            buffer.drain(..keep);
        }
        seen.borrow_mut().lost += 1;
    });
    Ok(())
}

/// The numbers of changes in a part of a stream.
fn numbers(bytes: &[u8]) -> impl Iterator<Item = usize> {
    bytes.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK).filter_map(|(at, _)| {
        let digits = &bytes[at + MARK.len()..];
        let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        // Only a number whose end is here.
        (length > 0 && length < digits.len()).then(|| std::str::from_utf8(&digits[..length]).ok()?.parse().ok())?
    })
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_found() {
        assert_eq!(numbers(br#"{"name":"change-12","x":"change-7""#).collect::<Vec<_>>(), [12, 7]);
        assert_eq!(numbers(b"change-1").count(), 0);
    }
}

//! A server that answers with whatever bytes it is told to.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What is answered to one request; the connection ends after it.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// These bytes.
    Bytes(String),
    /// These bytes, so long after the request.
    After(Duration, String),
    /// These bytes, and then one more in each pause, for ever.
    Drip(String, Duration),
    /// These bytes, and then as many more as are taken.
    Endless(String),
}

/// An answer with a status, a type and a body.
pub(crate) fn answer(status: u16, kind: &str, body: &str) -> Reply {
    let length = body.len();
    Reply::Bytes(format!(
        "HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    ))
}

/// An answer with a status and one header.
pub(crate) fn bare(status: u16, header: &str) -> Reply {
    Reply::Bytes(format!("HTTP/1.1 {status} X\r\n{header}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"))
}

/// The server. It ends when it is dropped.
pub(crate) struct Fake {
    pub(crate) url: String,
    seen: Arc<Seen>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<String>>,
    under_way: AtomicUsize,
    most: AtomicUsize,
}

impl Fake {
    /// Answers each request as this says, which is given its number, from 0, and its text.
    pub(crate) async fn start(answer: impl Fn(usize, &str) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (seen, answer) = (Arc::new(Seen::default()), Arc::new(answer));
        let shared = seen.clone();
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (seen, answer) = (shared.clone(), answer.clone());
                connections.spawn(async move {
                    let mut stream = stream;
                    let Some(request) = read(&mut stream).await else { return };
                    let number = {
                        let mut requests = seen.requests.lock().unwrap();
                        requests.push(request.clone());
                        requests.len() - 1
                    };
                    let now = seen.under_way.fetch_add(1, Ordering::SeqCst) + 1;
                    seen.most.fetch_max(now, Ordering::SeqCst);
                    // A client that has heard enough hangs up.
                    let _ = write(&mut stream, &seen, answer(number, &request)).await;
                });
            }
        });
        Self { url, seen, serving }
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// How many were under way at once.
    pub(crate) fn most(&self) -> usize {
        self.seen.most.load(Ordering::SeqCst)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn read(stream: &mut TcpStream) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&part[..count]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = header(head, "content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
        if body.len() >= length {
            return Some(text.into_owned());
        }
    }
}

/// A header of a request.
pub(crate) fn header(request: &str, name: &str) -> Option<String> {
    let lines = request.split("\r\n\r\n").next()?.lines();
    lines
        .filter_map(|line| line.split_once(": "))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.to_owned())
}

async fn write(stream: &mut TcpStream, seen: &Seen, reply: Reply) -> std::io::Result<()> {
    let (after, first, drip) = match &reply {
        Reply::Bytes(first) => (Duration::ZERO, first, None),
        Reply::After(after, first) => (*after, first, None),
        Reply::Drip(first, pause) => (Duration::ZERO, first, Some((*pause, 1))),
        Reply::Endless(first) => (Duration::ZERO, first, Some((Duration::ZERO, 64 * 1024))),
    };
    tokio::time::sleep(after).await;
    seen.under_way.fetch_sub(1, Ordering::SeqCst);
    stream.write_all(first.as_bytes()).await?;
    while let Some((pause, length)) = drip {
        tokio::time::sleep(pause).await;
        stream.write_all(&vec![b'x'; length]).await?;
    }
    stream.shutdown().await
}

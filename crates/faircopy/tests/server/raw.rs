//! Requests as bytes: what no well-behaved client would write.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use faircopy_testkit::sender::Signed;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What came back, until the other side closed the connection or the wait was over.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) bytes: Vec<u8>,
    pub(crate) closed: bool,
    pub(crate) after: Duration,
}

impl Heard {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The status of each answer, in order.
    pub(crate) fn statuses(&self) -> Vec<u16> {
        let text = self.text();
        text.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.get(..3)?.parse().ok()).collect()
    }
}

/// Sends bytes over a connection of its own and listens. With `half_close` it then says that no more will come; hyper
/// leaves such a client without the answer to a request that it has not answered yet.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8], half_close: bool, wait: Duration) -> Heard {
    let mut stream = TcpStream::connect(address).await.expect("connect");
    // The other side may have answered and closed before it has read everything.
    let _ = stream.write_all(bytes).await;
    if half_close {
        let _ = stream.shutdown().await;
    }
    listen(&mut stream, wait).await
}

pub(crate) async fn listen(stream: &mut TcpStream, wait: Duration) -> Heard {
    let start = Instant::now();
    let mut bytes = Vec::new();
    let mut piece = [0; 16 * 1024];
    let closed = loop {
        let left = wait.saturating_sub(start.elapsed());
        match tokio::time::timeout(left, stream.read(&mut piece)).await {
            Err(_) => break false,
            Ok(Ok(0) | Err(_)) => break true,
            Ok(Ok(count)) => bytes.extend_from_slice(&piece[..count]),
        }
    };
    Heard { bytes, closed, after: start.elapsed() }
}

/// The head of a delivery up to its last header, with these lines after the signature's.
pub(crate) fn head(signed: &Signed, lines: &[&str]) -> String {
    let mut head = String::from("POST /webhooks/clerk HTTP/1.1\r\nHost: faircopy.test\r\n");
    for (name, value) in signed.headers() {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    for line in lines {
        head.push_str(&format!("{line}\r\n"));
    }
    head + "\r\n"
}

/// A body in chunks of this many bytes.
pub(crate) fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in body.chunks(size) {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

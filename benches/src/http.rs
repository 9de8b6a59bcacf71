//! HTTP/1.1 by hand: a general client would cost as much as what it measures.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The largest answer that is read; the contestants answer with some hundred bytes.
const MAX_ANSWER: usize = 16 * 1024;

/// How long a single look at the ready path may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

/// A keep-alive connection with one request in flight.
pub(crate) struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream, answer: vec![0; MAX_ANSWER] })
    }

    /// Sends a whole request, reads the whole answer, and gives its status.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> io::Result<u16> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        loop {
            if filled == self.answer.len() {
                return Err(io::Error::new(ErrorKind::InvalidData, "the answer is too long"));
            }
            let read = self.stream.read(&mut self.answer[filled..]).await?;
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            filled += read;
            if let Some(answer) = Answer::parse(&self.answer[..filled])? {
                return Ok(answer.status);
            }
        }
    }
}

struct Answer {
    status: u16,
}

impl Answer {
    /// The answer, when `bytes` hold all of it.
    fn parse(bytes: &[u8]) -> io::Result<Option<Answer>> {
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
        let invalid = |what| io::Error::new(ErrorKind::InvalidData, what);
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_| invalid("the head is not text"))?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| invalid("no status line"))?;
        let length = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse::<usize>().ok())
            .ok_or_else(|| invalid("no content-length: the load generator reads no other kind of body"))?;
        Ok((bytes.len() >= end + 4 + length).then_some(Answer { status }))
    }
}

/// The head of the answer to one `GET` with more header lines, on a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str, lines: &str) -> io::Result<String> {
    let mut stream = std::net::TcpStream::connect_timeout(&address, LOOK_TIMEOUT)?;
    stream.set_read_timeout(Some(LOOK_TIMEOUT))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{lines}connection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER as u64).read_to_string(&mut answer)?;
    Ok(answer.split_once("\r\n\r\n").map_or(answer.clone(), |(head, _)| format!("{head}\r\n")))
}

/// The status of one `GET`, on a connection of its own.
pub(crate) fn get_status(address: SocketAddr, path: &str) -> io::Result<u16> {
    let mut stream = std::net::TcpStream::connect_timeout(&address, LOOK_TIMEOUT)?;
    stream.set_read_timeout(Some(LOOK_TIMEOUT))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n").as_bytes())?;
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    let status = start.strip_prefix(b"HTTP/1.1 ").and_then(|status| std::str::from_utf8(status).ok());
    status.and_then(|status| status.parse().ok()).ok_or_else(|| ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::Answer;

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let check = |bytes: &[u8], expected| {
            assert_eq!(Answer::parse(bytes).expect("a valid start").map(|answer| answer.status), expected);
        };
        check(b"HTTP/1.1 200 OK\r\nContent-Le", None);
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", None);
        check(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Some(200));
        check(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", Some(503));
        assert!(Answer::parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }
}

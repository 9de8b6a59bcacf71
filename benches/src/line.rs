//! A keep-alive connection that asks one thing after the other and reads whole answers: for everything beside the load.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Bytes that are read at once.
const PIECE: usize = 256 * 1024;

/// One keep-alive connection, one request after the other.
pub(crate) struct Line {
    stream: TcpStream,
    head: String,
    answer: Vec<u8>,
    piece: Vec<u8>,
}

impl Line {
    /// Connects. Each request carries the header lines of `head`, each of which ends with its `\r\n`.
    pub(crate) fn open(address: SocketAddr, head: impl Into<String>) -> Result<Line> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(Line { stream, head: head.into(), answer: Vec::new(), piece: vec![0; PIECE] })
    }

    /// Asks, and gives the body of an answer that is 200 or 204.
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<&[u8]> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            self.head,
            body.len()
        );
        self.stream.write_all(request.as_bytes())?;
        self.answer.clear();
        let mut whole = None;
        loop {
            let read = self.stream.read(&mut self.piece)?;
            ensure!(read > 0, "{path}: {}", std::io::Error::from(ErrorKind::UnexpectedEof));
            self.answer.extend_from_slice(&self.piece[..read]);
            if whole.is_none() {
                whole = head(&self.answer)?;
            }
            if let Some((status, start, end)) = whole.filter(|(_, _, end)| self.answer.len() >= *end) {
                if status != 200 && status != 204 {
                    bail!("{method} {path}: {status}: {}", String::from_utf8_lossy(&self.answer[start..end]));
                }
                return Ok(&self.answer[start..end]);
            }
        }
    }

    /// What a path answers, as JSON.
    pub(crate) fn get(&mut self, path: &str) -> Result<Value> {
        let body = self.ask("GET", path, "")?;
        serde_json::from_slice(body).with_context(|| format!("{path}: no JSON"))
    }
}

/// Status, and where the body begins and ends, once the head is there.
fn head(answer: &[u8]) -> Result<Option<(u16, usize, usize)>> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&answer[..end])?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
    let lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let length = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = match length.map(|(_, value)| value.trim().parse::<usize>()).next() {
        Some(length) => length?,
        // "No content" has no length either.
        None if status == 204 => 0,
        None => bail!("no content-length"),
    };
    Ok(Some((status, end + 4, end + 4 + length)))
}

#[cfg(test)]
mod tests {
    use super::head;

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(head(answer).unwrap(), Some((200, 38, 40)));
        assert_eq!(head(&answer[..20]).unwrap(), None);
        assert_eq!(head(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap(), Some((204, 27, 27)));
        assert!(head(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }
}

//! The stand-in for Clerk that is read: `faircopy sandbox` in a process of its own, a plain reader of its lists, and changes that
//! nobody is told of.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use faircopy_testkit::port::Port;
use serde_json::Value;

use crate::arena::Arena;
use crate::contestant::{bound_to_us, clear_environment};

/// The key of a production instance: what a backfill may ask for in a second follows from it.
const SECRET_KEY: &str = "sk_live_of_the_benchmark";
/// Rows of a page: the most that Clerk gives.
pub(crate) const PAGE: usize = 500;
/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// What is asked with this header uses up nothing of the rate limit: that is Faircopy's.
const ONLOOKER: &str = "faircopy-sandbox-onlooker: 1";
/// What begins a user's own id, in a list of users.
const USER_ID: &[u8] = b"\"id\":\"user_";

/// A running sandbox; killed when dropped.
pub(crate) struct Upstream {
    child: Child,
    address: SocketAddr,
    issuer: String,
    _port: Port,
}

/// What reading all users once took.
pub(crate) struct Walk {
    pub(crate) rows: usize,
    pub(crate) seconds: f64,
    pub(crate) ids: Vec<String>,
}

impl Walk {
    pub(crate) fn per_second(&self) -> f64 {
        super::round::count(self.rows as u64) / self.seconds
    }
}

impl Upstream {
    /// Starts one with made-up users, organizations of eight members each, and an invitation each.
    pub(crate) fn start(arena: &Arena, users: u32, organizations: u32, rate_limit: &str) -> Result<Upstream> {
        let port = Port::take();
        let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
        let mut command = bound_to_us(arena.faircopy.as_os_str());
        clear_environment(&mut command);
        command
            .args(["sandbox", "--json", "--seed", "7", "--secret-key", SECRET_KEY, "--rate-limit", rate_limit])
            .args(["--listen", &address.to_string(), "--users", &users.to_string()])
            .args(["--organizations", &organizations.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().context("cannot start the sandbox")?;
        let said = child.stdout.take().context("no pipe")?;
        // It says what it is once it listens.
        let shown = serde_json::Deserializer::from_reader(said).into_iter::<Value>().next();
        let shown = shown.context("the sandbox ended before it was ready")??;
        let issuer = shown["issuer"].as_str().context("no issuer")?.to_owned();
        Ok(Upstream { child, address, issuer, _port: port })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The variables that let Faircopy read it at `address`, its own or that of a [`super::counter::Counter`].
    pub(crate) fn environment(&self, address: SocketAddr) -> [(&'static str, String); 3] {
        [
            ("CLERK_API_URL", format!("http://{address}")),
            ("CLERK_SECRET_KEY", SECRET_KEY.to_owned()),
            ("CLERK_JWT_ISSUER_DOMAIN", self.issuer.clone()),
        ]
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads all users page by page over one connection, looks for their ids, and keeps nothing else.
    pub(crate) fn walk(&self) -> Result<Walk> {
        let mut line = Line::open(self.address)?;
        let started = Instant::now();
        let mut ids: Vec<String> = Vec::new();
        loop {
            let after = ids.last().map(|id| format!("&starting_after={id}")).unwrap_or_default();
            let path = format!("/v1/users?limit={PAGE}&order_by=created_at{after}");
            let body = line.ask("GET", &path, "")?;
            let before = ids.len();
            ids.extend(user_ids(body));
            if ids.len() - before < PAGE {
                return Ok(Walk { rows: ids.len(), seconds: started.elapsed().as_secs_f64(), ids });
            }
        }
    }

    /// Renames users and deletes others. No endpoint is registered, so nobody is told.
    pub(crate) fn change(&self, renamed: &[String], deleted: &[String]) -> Result<()> {
        let mut line = Line::open(self.address)?;
        for id in renamed {
            line.ask("PATCH", &format!("/v1/users/{id}"), r#"{"first_name":"Renamed"}"#)?;
        }
        for id in deleted {
            line.ask("DELETE", &format!("/v1/users/{id}"), "")?;
        }
        Ok(())
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn user_ids(body: &[u8]) -> impl Iterator<Item = String> + '_ {
    let starts = body.windows(USER_ID.len()).enumerate().filter(|(_, part)| *part == USER_ID);
    starts.filter_map(|(at, _)| {
        let id = &body[at + USER_ID.len() - b"user_".len()..];
        let end = id.iter().position(|byte| *byte == b'"')?;
        String::from_utf8(id[..end].to_vec()).ok()
    })
}

/// One keep-alive connection, one request after the other.
struct Line {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Line {
    fn open(address: SocketAddr) -> Result<Line> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        Ok(Line { stream, answer: Vec::new() })
    }

    /// Asks, and gives the body of an answer that is 200.
    fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<&[u8]> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {SECRET_KEY}\r\n{ONLOOKER}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes())?;
        self.answer.clear();
        let mut piece = vec![0; 256 * 1024];
        let mut whole = None;
        loop {
            let read = self.stream.read(&mut piece)?;
            ensure!(read > 0, "{path}: {}", std::io::Error::from(ErrorKind::UnexpectedEof));
            self.answer.extend_from_slice(&piece[..read]);
            if whole.is_none() {
                whole = head(&self.answer)?;
            }
            if let Some((status, start, end)) = whole.filter(|(_, _, end)| self.answer.len() >= *end) {
                if status != 200 {
                    bail!("{method} {path}: {status}: {}", String::from_utf8_lossy(&self.answer[start..end]));
                }
                return Ok(&self.answer[start..end]);
            }
        }
    }
}

/// Status, and where the body begins and ends, once the head is there.
fn head(answer: &[u8]) -> Result<Option<(u16, usize, usize)>> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = std::str::from_utf8(&answer[..end])?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
    let lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    let length = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = length.map(|(_, value)| value.trim().parse::<usize>()).next().context("no content-length")??;
    Ok(Some((status, end + 4, end + 4 + length)))
}

#[cfg(test)]
mod tests {
    use super::{head, user_ids};

    #[test]
    fn users_are_found_by_their_own_ids() {
        let body = br#"[{"email_addresses":[{"id":"idn_1"}],"id":"user_a","x":{"user_id":"user_z"}},{"id":"user_b"}]"#;
        assert_eq!(user_ids(body).collect::<Vec<_>>(), ["user_a", "user_b"]);
    }

    #[test]
    fn an_answer_has_a_status_and_a_body() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(head(answer).unwrap(), Some((200, 38, 40)));
        assert_eq!(head(&answer[..20]).unwrap(), None);
    }
}

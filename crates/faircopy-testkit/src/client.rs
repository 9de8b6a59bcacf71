//! The small HTTP client beneath `server` and `sender`: one plain connection, one request at a time.
//!
//! It never retries and never pools, so a test knows which connection each request went over and which of them broke.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// What the other side answered.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Response {
    /// The body as text; what is not UTF-8 is shown as U+FFFD.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; `None` when it is not JSON.
    #[must_use]
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// A header's value, if it is there and readable.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Why there was no answer: nothing is known about what the other side did with the request.
#[derive(Clone, Debug)]
pub struct NoAnswer(String);

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer: {}", self.0)
    }
}

impl std::error::Error for NoAnswer {}

/// One keep-alive connection.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
}

impl Connection {
    /// Connects to the host and port of a `http://` address.
    ///
    /// # Errors
    /// When nobody accepts the connection within `timeout`.
    pub async fn open(url: &str, timeout: Duration) -> Result<Connection, NoAnswer> {
        let (authority, _) = split(url);
        let connect = async {
            let stream = TcpStream::connect(&authority).await.map_err(|error| NoAnswer(format!("connect: {error}")))?;
            stream.set_nodelay(true).map_err(|error| NoAnswer(error.to_string()))?;
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| NoAnswer(format!("handshake: {error}")))
        };
        let (sender, connection) = within(timeout, connect).await?;
        // Ends by itself when the sender is dropped or the other side closes; its error reaches the waiting request.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Connection { sender, authority })
    }

    /// Sends one request and reads the whole answer. After an error the connection is spent.
    ///
    /// # Errors
    /// When the connection breaks or the answer takes longer than `timeout`.
    ///
    /// # Panics
    /// When the request cannot be written down, for example for a header name with a space.
    pub async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
        timeout: Duration,
    ) -> Result<Response, NoAnswer> {
        let mut request = Request::builder().method(method).uri(path).header("host", &self.authority);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).expect("a request that can be written");
        let exchange = async {
            self.sender.ready().await.map_err(|error| NoAnswer(format!("closed: {error}")))?;
            let response =
                self.sender.send_request(request).await.map_err(|error| NoAnswer(format!("request: {error}")))?;
            let (head, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| NoAnswer(format!("body: {error}")))?.to_bytes();
            Ok(Response { status: head.status.as_u16(), headers: head.headers, body })
        };
        within(timeout, exchange).await
    }

    /// Whether the other side is known to have closed the connection.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

/// Sends one request over a connection of its own.
///
/// # Errors
/// When there is no whole answer within `timeout`.
pub async fn request(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
    timeout: Duration,
) -> Result<Response, NoAnswer> {
    let (_, path) = split(url);
    let mut connection = Connection::open(url, timeout).await?;
    connection.request(method, &path, headers, body.into(), timeout).await
}

/// `GET url` with a connection of its own and ten seconds to answer.
///
/// # Errors
/// When there is no whole answer in time.
pub async fn get(url: &str) -> Result<Response, NoAnswer> {
    request("GET", url, &[], Bytes::new(), Duration::from_secs(10)).await
}

/// Host with port, and path with query.
pub(crate) fn split(url: &str) -> (String, String) {
    let rest = url.strip_prefix("http://").unwrap_or_else(|| panic!("the test client speaks plain http only: {url}"));
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, "/"),
    };
    let authority = if authority.contains(':') { authority.to_owned() } else { format!("{authority}:80") };
    (authority, path.to_owned())
}

async fn within<T>(timeout: Duration, work: impl Future<Output = Result<T, NoAnswer>>) -> Result<T, NoAnswer> {
    tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| Err(NoAnswer(format!("not within {timeout:?}"))))
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn addresses_split_into_authority_and_path() {
        let check = |url: &str, authority: &str, path: &str| {
            assert_eq!(split(url), (authority.to_owned(), path.to_owned()), "{url}");
        };
        check("http://127.0.0.1:1/a/b?c=d", "127.0.0.1:1", "/a/b?c=d");
        check("http://127.0.0.1:1", "127.0.0.1:1", "/");
        check("http://localhost/", "localhost:80", "/");
    }
}

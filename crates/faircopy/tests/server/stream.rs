//! Answers without an end: server-sent events, read as they come.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::app::TestApp;

/// How long a stream may be silent: twice the pause between beats.
const SILENCE: Duration = Duration::from_secs(20);

/// A stream of events, read line by line.
pub(crate) struct Stream(BufReader<TcpStream>);

/// One event: its name, id and data. A message has no name.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) data: Value,
}

impl Told {
    /// The change number that is its id.
    pub(crate) fn number(&self) -> i64 {
        self.id.parse().unwrap_or_else(|_| panic!("{self:?} has no change number"))
    }
}

impl Stream {
    pub(crate) async fn open(app: &TestApp, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Self {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let (host, length) = (app.address, body.len());
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{headers}content-length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        Self(BufReader::new(stream))
    }

    pub(crate) async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = tokio::time::timeout(SILENCE, self.0.read_line(&mut line)).await;
        (read.expect("the stream goes on or ends").unwrap_or(0) > 0).then(|| line.trim_end().to_owned())
    }

    /// The next event, whatever it is; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Told> {
        let (mut name, mut id) = (String::new(), String::new());
        loop {
            let line = self.line().await?;
            if let Some(text) = line.strip_prefix("event: ") {
                text.clone_into(&mut name);
            } else if let Some(text) = line.strip_prefix("id: ") {
                text.clone_into(&mut id);
            } else if let Some(text) = line.strip_prefix("data: ") {
                return Some(Told { name, id, data: serde_json::from_str(text).unwrap() });
            }
        }
    }

    /// The next event of this name.
    pub(crate) async fn told(&mut self, wanted: &str) -> Told {
        loop {
            let told = self.next().await.expect("the stream goes on");
            if told.name == wanted {
                return told;
            }
        }
    }
}

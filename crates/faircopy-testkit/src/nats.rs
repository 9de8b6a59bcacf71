//! A private NATS server with JetStream: killed, started again on the same port and folder.

use std::net::Ipv4Addr;

use tempfile::TempDir;

use crate::killable::Killable;
use crate::port::Port;

/// A NATS server, killed when it is dropped.
#[derive(Debug)]
pub struct Nats {
    running: Option<Killable>,
    folder: TempDir,
    port: Port,
    token: String,
}

impl Nats {
    /// A server that wants this token.
    ///
    /// # Panics
    /// When `nats-server` is not installed or does not start.
    pub async fn start(token: &str) -> Nats {
        let folder = tempfile::Builder::new().prefix("faircopy-nats-").tempdir().expect("a temporary folder");
        let mut nats = Nats { running: None, folder, port: Port::take(), token: token.to_owned() };
        nats.restart().await;
        nats
    }

    /// `nats://127.0.0.1:PORT`
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://{}:{}", Ipv4Addr::LOCALHOST, self.port.number())
    }

    /// Kills it with SIGKILL. One that is gone already is fine.
    pub async fn kill9(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill9().await;
        }
    }

    /// Starts it, on what it had stored; one that runs is killed first.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        self.kill9().await;
        let (port, folder) = (self.port.number().to_string(), self.folder.path().to_str().expect("a readable path"));
        let words = [program(), "-a", "127.0.0.1", "-p", &port, "-js", "-sd", folder, "--auth", &self.token];
        self.running = Some(Killable::start(&words, self.port.number()).await);
    }
}

/// Debian keeps it where only the administrator's path leads.
fn program() -> &'static str {
    let known = ["/usr/sbin/nats-server", "/usr/bin/nats-server", "/usr/local/bin/nats-server"];
    let found = known.into_iter().find(|path| std::path::Path::new(path).is_file());
    found.expect("nats-server is missing: apt-get install nats-server (or run ./test, which does)")
}

//! A program that a test kills and starts again, and that never outlives the test process.

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::watchdog::Watchdog;

/// What is started here is there within a second; half a minute means that something is wrong.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long to wait between two looks at something that changes within milliseconds.
const POLL: Duration = Duration::from_millis(10);
const KILL: &str = r#"kill -KILL "$1""#;

/// It runs; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Killable {
    child: Child,
    watchdog: Option<Watchdog>,
}

impl Killable {
    /// Starts it, and waits until it listens on this port.
    pub(crate) async fn start(words: &[&str], port: u16) -> Killable {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let spawned = command.kill_on_drop(true).spawn();
        let child = spawned.unwrap_or_else(|error| panic!("start {words:?} (./test installs it): {error}"));
        let pid = child.id().expect("a child that nobody waited for").to_string();
        let mut started = Killable { child, watchdog: Some(Watchdog::start(KILL, &[&pid])) };
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_err() {
            let ended = started.child.try_wait().expect("look at our own child");
            assert!(ended.is_none() && start.elapsed() < READY_WITHIN, "{words:?} does not listen; ended: {ended:?}");
            tokio::time::sleep(POLL).await;
        }
        started
    }

    /// Kills it with SIGKILL, and returns when it is gone.
    pub(crate) async fn kill9(mut self) {
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.dismiss();
        }
        self.child.kill().await.expect("kill our own child");
    }

    /// Whether it ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("look at our own child").is_some()
    }
}

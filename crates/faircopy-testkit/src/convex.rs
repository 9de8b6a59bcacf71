//! The small deployment over the project's Convex module (clients/convex/front): killed, started again on the same port and state.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tempfile::TempDir;

use crate::client::{get, request};
use crate::killable::Killable;
use crate::node;
use crate::port::Port;

/// The folder of the module, as the test kit sees it.
const FOLDER: &str = "../../clients/convex";

/// A deployment, killed when it is dropped.
#[derive(Debug)]
pub struct Front {
    running: Option<Killable>,
    folder: PathBuf,
    home: TempDir,
    port: Port,
    key: String,
}

impl Front {
    /// An empty deployment with this deploy key.
    ///
    /// # Panics
    /// When Node is not installed, or the front does not start.
    pub async fn start(key: &str) -> Front {
        let home = tempfile::Builder::new().prefix("faircopy-convex-").tempdir().expect("a temporary folder");
        let folder = node::installed(FOLDER);
        let mut front = Front { running: None, folder, home, port: Port::take(), key: key.to_owned() };
        front.restart().await;
        front
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}:{}", Ipv4Addr::LOCALHOST, self.port.number())
    }

    /// Kills it with SIGKILL. One that is gone already is fine.
    pub async fn kill9(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill9().await;
        }
    }

    /// Whether it killed itself, as a fault told it to.
    pub fn has_ended(&mut self) -> bool {
        self.running.as_mut().is_none_or(Killable::has_ended)
    }

    /// Starts it, on what it had committed; one that runs is killed first.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn restart(&mut self) {
        self.kill9().await;
        let text = |path: PathBuf| path.to_str().expect("a readable path").to_owned();
        let (script, state) = (text(self.folder.join("front/front.mjs")), text(self.home.path().join("state.json")));
        let port = self.port.number().to_string();
        let words = ["node", &script, "--port", &port, "--deploy-key", &self.key, "--state", &state];
        self.running = Some(Killable::start(&words, self.port.number()).await);
    }

    /// What goes wrong from now on: see the module's README. `false` when nobody is there: what went wrong before may have ended it.
    ///
    /// # Panics
    /// When it does not take them.
    #[must_use]
    pub async fn faults(&self, faults: &Value) -> bool {
        let body = serde_json::json!({ "faults": faults }).to_string();
        let url = format!("{}/test/faults", self.url());
        let answer = request("POST", &url, &[], Bytes::from(body), Duration::from_secs(10)).await;
        let Ok(answer) = answer else { return false };
        assert_eq!(answer.status, 200, "{}", answer.text());
        true
    }

    /// All rows of a table.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn rows(&self, table: &str) -> Vec<Value> {
        let answer = get(&format!("{}/test/state", self.url())).await.expect("the front answers");
        let state = answer.json().expect("JSON");
        state["tables"][table].as_array().cloned().unwrap_or_default()
    }
}

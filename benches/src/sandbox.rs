//! `faircopy sandbox` in a process of its own: it stands in for Clerk and for Liveblocks.

use std::net::SocketAddr;
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result};
use faircopy_testkit::port::Port;
use serde_json::Value;

use crate::arena::Arena;
use crate::contestant::{bound_to_us, clear_environment};

/// A running sandbox; killed when dropped.
pub(crate) struct Sandbox {
    child: Child,
    address: SocketAddr,
    shown: Value,
    _port: Port,
}

impl Sandbox {
    /// Starts one with these arguments beside its address and seed.
    pub(crate) fn start(arena: &Arena, arguments: &[&str]) -> Result<Sandbox> {
        let port = Port::take();
        let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
        let mut command = bound_to_us(arena.faircopy.as_os_str());
        clear_environment(&mut command);
        command
            .args(["sandbox", "--json", "--seed", "7", "--listen", &address.to_string()])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().context("cannot start the sandbox")?;
        let said = child.stdout.take().context("no pipe")?;
        // It says what it is once it listens.
        let shown = serde_json::Deserializer::from_reader(said).into_iter::<Value>().next();
        let shown = shown.context("the sandbox ended before it was ready")??;
        Ok(Sandbox { child, address, shown, _port: port })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A text of what it says about itself.
    pub(crate) fn says(&self, key: &str) -> Result<&str> {
        self.shown[key].as_str().with_context(|| format!("the sandbox does not say its {key}"))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

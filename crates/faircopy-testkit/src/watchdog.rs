//! A shell that waits for the end of its standard input, and then clears away what this process started.
//!
//! The kernel closes our end of the pipe however this process ends, SIGKILL included; so nothing outlives it. The shell
//! has a process group of its own, or a test runner that kills a whole group would kill the cleaner with the rest.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

/// Runs its script when it is released, dropped, or when this process ends in any way.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
}

impl Watchdog {
    /// `script` is POSIX shell; `arguments` are its `$1`, `$2`, ….
    pub(crate) fn start(script: &str, arguments: &[&str]) -> Watchdog {
        let guarded = format!("trap '' HUP INT TERM\ncat >/dev/null\n{script}");
        let shell = Command::new("/bin/sh")
            .args(["-c", &guarded, "faircopy-test-watchdog"])
            .args(arguments)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("start /bin/sh");
        Watchdog { shell }
    }

    /// Ends the watchdog without running its script: what it watched is gone already.
    pub(crate) fn dismiss(mut self) {
        self.shell.kill().expect("kill our own watchdog");
        self.shell.wait().expect("wait for our own watchdog");
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

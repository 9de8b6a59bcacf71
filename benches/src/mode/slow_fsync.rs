//! `--slow-fsync`: the whole benchmark again under strace, which holds every fsync and fdatasync back.
//!
//! strace's seccomp filter stops a process at these two calls alone; all others run at full speed. The runner itself is
//! started under strace, because only children that strace starts can have the filter; it syncs nothing under load.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::program::says;

/// Set in the environment of the runner under strace.
const MARK: &str = "FAIRCOPY_BENCH_UNDER_STRACE";

pub(super) const NOTE: &str = "The delay is injected by `strace -f --seccomp-bpf`, which stops a process at fsync and \
    fdatasync alone. The stops themselves slow down whoever syncs often, by a fifth to a half on two cores: read these \
    figures beside those of `--slow-fsync 0us`, which stops and does not delay. strace's CPU time counts as foreign. \
    Processes that sync at once wait at once, as on a disk with a deep queue. Times to ready are not comparable.";

/// Whether this is the runner under strace.
pub(super) fn is_active() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Lets strace run as soon as it is needed: on busy cores each stop would otherwise await its turn. Without the right
/// to do so the delays become a little longer, which the control run shows.
pub(super) fn hurry_strace() {
    let strace = std::os::unix::process::parent_id().to_string();
    let _ = says(Command::new("renice").args(["-n", "-15", "-p", &strace]));
}

/// Starts this program again with the same arguments under strace, and gives its exit code.
pub(super) fn run_again_under_strace(delay: Duration) -> Result<ExitCode> {
    let inject = match delay.as_micros() {
        0 => "trace=fsync,fdatasync".to_owned(),
        micros => format!("inject=fsync,fdatasync:delay_exit={micros}"),
    };
    let status = Command::new("strace")
        .args(["-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", &inject])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(MARK, "1")
        .status()
        .context("--slow-fsync needs strace 5.3 or newer (apt-get install strace)")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

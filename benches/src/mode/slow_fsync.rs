//! `--slow-fsync`: the whole benchmark again, with a library before libc in every process that holds its fsync and fdatasync back.
//!
//! Nothing else is touched. A tracer that stops a process at these calls would cost it half of its speed on two cores, and a filter
//! of its system calls as much again.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use faircopy_testkit::postgres::PRELOAD;

const SOURCE: &str = include_str!("slow_fsync.c");
/// Set in the environment of the runner that has the library.
const MARK: &str = "FAIRCOPY_BENCH_SLOW_FSYNC";

pub(super) const NOTE: &str = "The delay comes from a library that is preloaded into contestants and Postgres: each fsync and \
    fdatasync returns so much later. Processes that sync at once wait at once, as on a disk with a deep queue.";

/// Whether this is the runner that has the library.
pub(super) fn is_active() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Starts this program again with the same arguments and the library, which whatever it starts has, too, and gives its exit code.
pub(super) fn run_again_slowed(delay: Duration) -> Result<ExitCode> {
    // Postgres runs as another user, who must get at the library.
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
    let library = folder.path().join("slow_fsync.so");
    let mut compiler = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-x", "c", "-"])
        .arg(format!("-DDELAY_US={}", delay.as_micros()))
        .arg("-o")
        .arg(&library)
        .stdin(Stdio::piped())
        .spawn()
        .context("--slow-fsync needs a C compiler (apt-get install build-essential)")?;
    compiler.stdin.take().context("the compiler's standard input")?.write_all(SOURCE.as_bytes())?;
    ensure!(compiler.wait()?.success(), "the library that slows fsync does not compile");
    let status = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(PRELOAD, &library)
        .env(MARK, "1")
        .status()?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

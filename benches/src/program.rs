//! Programs that are run to their end.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Runs a command with `input` on its standard input and gives its standard output; fails when the command fails.
pub(crate) fn pipe(command: &mut Command, input: &str) -> Result<String> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    // The programs used here read all input before they write more than a pipe holds, so that this cannot block.
    let mut stdin = child.stdin.take().context("no pipe")?;
    let written = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    written?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// What a command says on standard output; nothing when it cannot be run or fails.
pub(crate) fn says(command: &mut Command) -> Option<String> {
    pipe(command, "").ok()
}

/// Runs a command that talks to the user on stderr, and fails when it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.stdout(std::io::stderr()).status().with_context(|| format!("cannot run {shown}"))?;
    if !status.success() {
        bail!("{shown} ended with {status}");
    }
    Ok(())
}

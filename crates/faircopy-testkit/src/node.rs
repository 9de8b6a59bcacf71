//! Programs of npm packages: installed from a committed lock file, run to their end.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The folder of a package, relative to the test kit's own, with everything in its lock file installed.
///
/// # Panics
/// When npm is missing or cannot install: the message holds what it said.
#[must_use]
pub fn installed(folder: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    // Tests are processes of their own, and npm takes a folder apart that another npm is filling: one at a time. The lock
    // ends with the file, also when its holder is killed.
    let mut committed = File::open(folder.join("package-lock.json")).expect("a committed lock file");
    committed.lock().expect("lock our own file");
    let mut lock = Vec::new();
    committed.read_to_end(&mut lock).expect("read our own file");
    // Written when an installation is complete, so that one that was broken off is begun anew.
    let marker = folder.join("node_modules").join(".installed");
    if fs::read(&marker).is_ok_and(|installed| installed == lock) {
        return folder;
    }
    let npm =
        Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&folder).output();
    let output = npm.unwrap_or_else(|error| panic!("npm is needed (Debian: nodejs, npm): {error}"));
    assert!(output.status.success(), "npm ci in {}: {}", folder.display(), String::from_utf8_lossy(&output.stderr));
    fs::write(&marker, lock).expect("a marker beside the packages");
    folder
}

/// Runs a script of an installed folder with `input`, and gives what it prints.
///
/// # Panics
/// When Node is missing or the script fails.
#[must_use]
pub fn run(folder: &Path, script: &str, input: &str) -> String {
    let mut command = Command::new("node");
    command.arg(script).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("node is needed (Debian: nodejs): {error}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    // The scripts read everything before they print, so this cannot block.
    stdin.write_all(input.as_bytes()).expect("the script reads its input");
    drop(stdin);
    let output = child.wait_with_output().expect("wait for our own child");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// How the tests of a file ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tests {
    /// Tests that ran and passed. None failed, and none was skipped.
    pub passed: usize,
    /// What was printed.
    pub output: String,
}

/// Runs a file of tests of an installed folder with Node's own runner, in this environment besides the test's own.
///
/// # Panics
/// When Node is missing, or when a test fails, is skipped, or does not end: the message holds what was printed.
#[must_use]
pub fn test(folder: &Path, file: &str, environment: &[(&str, &str)]) -> Tests {
    let mut command = Command::new("node");
    command.args(["--test", "--test-reporter=tap", file]).current_dir(folder).stdin(Stdio::null());
    let output = command.envs(environment.iter().copied()).output();
    let output = output.unwrap_or_else(|error| panic!("node is needed (Debian: nodejs): {error}"));
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    // The runner ends with a line for each outcome: `# pass 12`.
    let count = |outcome: &str| {
        let mut lines = printed.lines().rev();
        lines.find_map(|line| line.strip_prefix("# ")?.strip_prefix(outcome)?.trim().parse::<usize>().ok())
    };
    let others = ["fail ", "cancelled ", "skipped ", "todo "].map(&count);
    assert!(output.status.success() && others == [Some(0); 4], "{file}:\n{printed}\n{errors}");
    Tests { passed: count("pass ").unwrap_or(0), output: printed }
}

//! The real `faircopy` binary as a process of its own: started on a port, waited for, killed, restarted.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::client::{NoAnswer, Response, get, request};
use crate::port::Port;
use crate::watchdog::Watchdog;

/// Names the binary to test; without it, it is looked for beside the test's own executable.
pub const BINARY_VARIABLE: &str = "FAIRCOPY_BIN";

/// `./test` builds on two busy cores: a start takes well under a second there, migrations included.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Kills the server `$1` and removes its folder `$2`.
const CLEAR_AWAY: &str = r#"kill -KILL "$1"; rm -rf "$2""#;
/// How long to wait between two looks at something that changes within milliseconds.
const POLL: Duration = Duration::from_millis(10);

/// How the server is started.
#[derive(Clone, Debug)]
pub struct Options {
    arguments: Vec<String>,
    env: BTreeMap<String, String>,
    prefix: Vec<String>,
    ready_path: String,
    ready_within: Duration,
    binary: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        Options::new()
    }
}

impl Options {
    /// `faircopy serve` with nothing set but `FAIRCOPY_LISTEN`: of the test's own environment it gets `PATH` alone.
    #[must_use]
    pub fn new() -> Options {
        Options {
            arguments: vec!["serve".to_owned()],
            env: BTreeMap::new(),
            prefix: Vec::new(),
            ready_path: "/readyz".to_owned(),
            ready_within: READY_WITHIN,
            binary: None,
        }
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Options {
        self.env.insert(name.to_owned(), value.into());
        self
    }

    /// Adds an argument after the others. `{port}` in it becomes the port.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Options {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Replaces the arguments (`serve`), for another command that listens. `{port}` in them becomes the port.
    #[must_use]
    pub fn command(mut self, arguments: &[&str]) -> Options {
        self.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self
    }

    /// Starts another binary than [`binary`] gives, for example that of an older version.
    #[must_use]
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Options {
        self.binary = Some(path.into());
        self
    }

    /// Starts the binary through another program, for example `["sh", "-c", "ulimit -n 64; exec \"$@\"", "-"]` or
    /// `["strace", "-D", "-f", "-c", "-o", file]`. The program must become the binary (`exec`), or its signals go astray.
    #[must_use]
    pub fn prefix(mut self, prefix: &[&str]) -> Options {
        self.prefix = prefix.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// What must answer 200 for the server to count as started: `/readyz` unless set.
    #[must_use]
    pub fn ready_path(mut self, path: &str) -> Options {
        path.clone_into(&mut self.ready_path);
        self
    }

    /// How long the start may take: 30 s unless set.
    #[must_use]
    pub fn ready_within(mut self, within: Duration) -> Options {
        self.ready_within = within;
        self
    }
}

/// Why a server did not start.
#[derive(Clone, Debug)]
pub struct NotStarted {
    /// The exit status, when it ended; `None` when it runs and is not ready in time.
    pub status: Option<ExitStatus>,
    /// The last answer of the ready path, or why there was none.
    pub last_answer: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) => write!(f, "faircopy ended at its start ({status})")?,
            None => write!(f, "faircopy is not ready in time (last: {})", self.last_answer)?,
        }
        write!(f, "; its standard error:\n{}", self.stderr)
    }
}

impl std::error::Error for NotStarted {}

/// A running `faircopy`, killed when it is dropped or when this process ends in whatever way.
#[derive(Debug)]
pub struct Server {
    running: Option<Running>,
    options: Options,
    port: Port,
    folder: TempDir,
}

#[derive(Debug)]
struct Running {
    child: Child,
    pid: u32,
    watchdog: Watchdog,
}

impl Server {
    /// Starts the binary and returns when it is ready.
    ///
    /// # Panics
    /// When it is not ready in time; the message holds its standard error.
    pub async fn start(options: Options) -> Server {
        Server::try_start(options).await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts the binary and returns when it is ready.
    ///
    /// # Errors
    /// When it ends at once, as it should with a bad configuration, or is not ready in time.
    pub async fn try_start(options: Options) -> Result<Server, NotStarted> {
        let folder = tempfile::Builder::new().prefix("faircopy-server-").tempdir().expect("a temporary folder");
        let mut server = Server { running: None, options, port: Port::take(), folder };
        server.try_restart().await?;
        Ok(server)
    }

    /// `http://127.0.0.1:PORT`
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}:{}", Ipv4Addr::LOCALHOST, self.port.number())
    }

    /// `GET` of a path of this server.
    ///
    /// # Errors
    /// When there is no whole answer within ten seconds.
    pub async fn get(&self, path: &str) -> Result<Response, NoAnswer> {
        get(&format!("{}{path}", self.url())).await
    }

    /// Its working directory: empty at first, kept across restarts, removed with this value.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The process id.
    ///
    /// # Panics
    /// When the server was killed or terminated.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.running.as_ref().expect("a server that runs").pid
    }

    /// Whether the process is alive.
    ///
    /// # Panics
    /// When the kernel does not say.
    pub fn is_running(&mut self) -> bool {
        self.running.as_mut().is_some_and(|running| running.child.try_wait().expect("look at our own child").is_none())
    }

    /// Sends a signal: `Signal::STOP` and `Signal::CONT` pause and resume it.
    ///
    /// # Panics
    /// When the server was killed or terminated.
    pub fn signal(&self, which: Signal) {
        signal(self.pid(), which);
    }

    /// Kills it with SIGKILL and returns when it is gone. One that is gone already is fine.
    ///
    /// # Panics
    /// When the kernel does not let go of it.
    pub async fn kill9(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.watchdog.dismiss();
            running.child.kill().await.expect("kill our own child");
        }
    }

    /// Asks it to end (SIGTERM) and returns its exit status.
    ///
    /// # Panics
    /// When it does not end within a minute, or runs no more.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(Duration::from_secs(60)).await
    }

    /// Waits until it ends by itself and returns its exit status.
    ///
    /// # Panics
    /// When it does not end in time, or was killed or terminated before.
    pub async fn wait(&mut self, within: Duration) -> ExitStatus {
        let mut running = self.running.take().expect("a server that runs");
        let status = tokio::time::timeout(within, running.child.wait()).await;
        running.watchdog.dismiss();
        match status {
            Ok(status) => status.expect("wait for our own child"),
            Err(_) => panic!("faircopy does not end within {within:?}; its standard error:\n{}", self.stderr()),
        }
    }

    /// Starts it again on the same port with the same settings and folder, and returns when it is ready. One that runs
    /// is killed first.
    ///
    /// # Panics
    /// When it is not ready in time; the message holds its standard error.
    pub async fn restart(&mut self) {
        self.try_restart().await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Like [`Server::restart`] with other settings from now on.
    ///
    /// # Panics
    /// When it is not ready in time; the message holds its standard error.
    pub async fn restart_with(&mut self, options: Options) {
        self.options = options;
        self.restart().await;
    }

    /// Like [`Server::restart`].
    ///
    /// # Errors
    /// When it ends at once or is not ready in time.
    pub async fn try_restart(&mut self) -> Result<(), NotStarted> {
        self.kill9().await;
        self.spawn();
        let start = Instant::now();
        let url = format!("{}{}", self.url(), self.options.ready_path);
        let mut last_answer;
        loop {
            last_answer = match request("GET", &url, &[], Bytes::new(), Duration::from_secs(5)).await {
                Ok(answer) if answer.status == 200 => return Ok(()),
                Ok(answer) => format!("{} {}", answer.status, answer.text()),
                Err(error) => error.to_string(),
            };
            let running = self.running.as_mut().expect("just started");
            let status = running.child.try_wait().expect("look at our own child");
            if status.is_some() || start.elapsed() > self.options.ready_within {
                self.kill9().await;
                return Err(NotStarted { status, last_answer, stderr: self.stderr() });
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Everything it wrote to standard error, across restarts.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.captured("stderr")
    }

    /// Everything it wrote to standard output, across restarts.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.captured("stdout")
    }

    fn captured(&self, name: &str) -> String {
        let bytes = fs::read(self.capture_file(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn capture_file(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!(".captured-{name}"))
    }

    fn capture(&self, name: &str) -> File {
        File::options().create(true).append(true).open(self.capture_file(name)).expect("a file for the output")
    }

    fn spawn(&mut self) {
        let port = self.port.number().to_string();
        let mut words = self.options.prefix.clone();
        let program = self.options.binary.clone().unwrap_or_else(binary);
        words.push(program.to_str().expect("a binary with a readable path").to_owned());
        words.extend(self.options.arguments.iter().map(|argument| argument.replace("{port}", &port)));
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).current_dir(self.folder.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("FAIRCOPY_LISTEN", format!("{}:{port}", Ipv4Addr::LOCALHOST)).envs(&self.options.env);
        command.stdin(Stdio::null()).stdout(self.capture("stdout")).stderr(self.capture("stderr"));
        let child = command.kill_on_drop(true).spawn().unwrap_or_else(|error| panic!("start {words:?}: {error}"));
        let pid = child.id().expect("a child that nobody waited for");
        let watchdog =
            Watchdog::start(CLEAR_AWAY, &[&pid.to_string(), self.folder.path().to_str().expect("a readable path")]);
        self.running = Some(Running { child, pid, watchdog });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(mut running) = self.running.take() else { return };
        running.watchdog.dismiss();
        let _ = running.child.start_kill();
        // Gone before its port and folder are given away; SIGKILL takes milliseconds.
        let start = Instant::now();
        while matches!(running.child.try_wait(), Ok(None)) && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// The binary to test: the one of [`BINARY_VARIABLE`], else `target/{profile}/faircopy` of the build that the running
/// test belongs to.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os(BINARY_VARIABLE).filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        return path.canonicalize().unwrap_or_else(|error| panic!("{BINARY_VARIABLE}={}: {error}", path.display()));
    }
    let test = std::env::current_exe().expect("the path of the running test");
    // target/{profile}/deps/test-0123: the binary is in a folder above.
    let found = test.ancestors().skip(1).take(3).map(|folder| folder.join("faircopy")).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("no faircopy binary above {}: cargo build -p faircopy (or set {BINARY_VARIABLE})", test.display())
    })
}

fn signal(pid: u32, which: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    // It may be gone already, which is as good.
    let _ = kill_process(pid, which);
}

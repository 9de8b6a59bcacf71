//! What outlives a round: the private Postgres, the scratch folder, the binaries, the secret.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tempfile::TempDir;

use faircopy_bench::SIGNING_KEY;

use crate::args::Args;
use crate::cluster::Cluster;
use crate::contestant::Contestant;
use crate::program::run;

/// The surroundings of all rounds.
pub(crate) struct Arena {
    /// Faircopy's release binary.
    pub(crate) faircopy: PathBuf,
    /// The folder of the peers, with their packages installed.
    pub(crate) peers: PathBuf,
    /// The signing secret in the form that contestants read.
    pub(crate) secret: String,
    cluster: Option<Cluster>,
    scratch: TempDir,
}

impl Arena {
    /// Builds, installs and starts whatever `contestants` need.
    pub(crate) fn open(args: &Args, contestants: &[Contestant]) -> Result<Arena> {
        let benches = Path::new(env!("CARGO_MANIFEST_DIR"));
        let faircopy = release_binary()?;
        if contestants.iter().any(|contestant| contestant.is_faircopy()) {
            if !args.no_build {
                build_faircopy(benches)?;
            }
            ensure!(faircopy.is_file(), "there is no release binary of Faircopy beside this program's target folder");
        }
        let peers = benches.join("peers");
        // SQLite files are read through the peers' package, so Faircopy on SQLite needs it too.
        let needs_peers = |contestant: &Contestant| *contestant != Contestant::FaircopyPostgres;
        if !args.backfill && contestants.iter().any(needs_peers) {
            install_peers(&peers)?;
        }
        let on_postgres = contestants.iter().any(|contestant| contestant.on_postgres());
        let cluster = on_postgres.then(Cluster::start).transpose()?;
        Ok(Arena {
            faircopy,
            peers,
            secret: format!("whsec_{}", BASE64.encode(SIGNING_KEY)),
            cluster,
            scratch: tempfile::Builder::new().prefix("faircopy-bench-").tempdir()?,
        })
    }

    /// The private Postgres.
    pub(crate) fn cluster(&self) -> Result<&Cluster> {
        self.cluster.as_ref().context("no contestant on Postgres takes part, so Postgres was not started")
    }

    /// The postmaster's process id, when Postgres runs.
    pub(crate) fn postmaster(&self) -> Option<u32> {
        self.cluster.as_ref().map(Cluster::postmaster)
    }

    /// The folder for files of the run; removed at its end.
    pub(crate) fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Where the output of a contestant goes.
    pub(crate) fn log_path(&self, contestant: Contestant) -> PathBuf {
        self.scratch().join(format!("{}.log", contestant.name()))
    }

    /// The open log of a contestant.
    pub(crate) fn log_file(&self, contestant: Contestant) -> Result<File> {
        let path = self.log_path(contestant);
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// `release/faircopy` in the target folder that this program itself was built into.
fn release_binary() -> Result<PathBuf> {
    let runner = std::env::current_exe()?;
    let target = runner.ancestors().nth(2).context("this program does not lie in a target folder")?;
    Ok(target.join("release").join("faircopy"))
}

fn build_faircopy(benches: &Path) -> Result<()> {
    eprintln!("building Faircopy (release) …");
    run(Command::new("cargo").args(["build", "--release", "-p", "faircopy"]).current_dir(benches))
}

fn install_peers(peers: &Path) -> Result<()> {
    let installed = |package: &str| peers.join("node_modules").join(package).exists();
    if installed("better-sqlite3/build") && installed("@clerk/backend") && installed("jose") {
        return Ok(());
    }
    eprintln!("installing the peers' packages …");
    run(Command::new("npm").args(["ci", "--omit=dev", "--no-audit", "--no-fund"]).current_dir(peers))
}

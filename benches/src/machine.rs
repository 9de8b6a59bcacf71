//! Facts about the machine, for the head of the report.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use crate::arena::Arena;
use crate::cluster::Cluster;
use crate::program::says;

/// How often the disk is asked.
const SYNCS: usize = 200;

/// What the figures depend on.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cores: usize,
    cpu: String,
    kernel: String,
    postgres: Option<String>,
    node: Option<String>,
    file_system: String,
    /// The median of a small write with `fdatasync`, where the databases lie.
    fdatasync_us: u128,
    load_average: String,
}

impl Machine {
    /// Looks at the machine as it is now.
    pub(crate) fn look(arena: &Arena) -> Result<Machine> {
        let cpuinfo = read("/proc/cpuinfo");
        let cpu = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Ok(Machine {
            cores: std::thread::available_parallelism()?.get(),
            cpu: cpu.map_or_else(|| "unknown CPU".to_owned(), |(_, name)| name.trim().to_owned()),
            kernel: read("/proc/sys/kernel/osrelease"),
            postgres: arena.cluster().ok().and_then(Cluster::version),
            node: says(Command::new("node").arg("--version")),
            file_system: says(Command::new("stat").args(["-f", "-c", "%T"]).arg(arena.scratch())).unwrap_or_default(),
            fdatasync_us: fdatasync(arena.scratch())?.as_micros(),
            load_average: read("/proc/loadavg"),
        })
    }

    /// The facts as Markdown list entries.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!("{} cores, {}; Linux {}", self.cores, self.cpu, self.kernel),
            format!("databases on {}; a small write with `fdatasync` takes {} µs", self.file_system, self.fdatasync_us),
        ];
        lines.extend(self.postgres.clone());
        lines.extend(self.node.as_ref().map(|version| format!("Node {version}")));
        lines.push(format!("load average before the first round: {}", self.load_average));
        lines
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn fdatasync(folder: &Path) -> Result<Duration> {
    let path = folder.join("fdatasync");
    let mut file = File::create(&path)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&[0; 4096])?;
        let started = Instant::now();
        file.sync_data()?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    fs::remove_file(path)?;
    Ok(times[SYNCS / 2])
}

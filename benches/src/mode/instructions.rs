//! Mode: how many instructions the core's steps take. The same on every run, so that a step that became dearer is seen
//! where time is too noisy to tell.

use std::collections::BTreeMap;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};

use faircopy_bench::operation::Operation;

/// What was counted when it was last committed: a name and a number each line.
const KNOWN: &str = include_str!("../../instructions.txt");
/// Two counts whose difference leaves out what starting costs.
const FEW: u64 = 50;
const MANY: u64 = 250;
/// By how much of a hundred a step may be dearer before the run fails: less than any change that one would notice.
const TOLERANCE: u64 = 3;

/// Counts every step and compares with what is committed.
pub(super) fn run() -> Result<ExitCode> {
    let known: BTreeMap<&str, u64> = KNOWN
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(name, count)| Some((name, count.parse().ok()?)))
        .collect();
    println!("| step | instructions | committed | |\n| --- | ---: | ---: | --- |");
    let mut worst = ExitCode::SUCCESS;
    for operation in Operation::ALL {
        let count = (count(operation, MANY)? - count(operation, FEW)?) / (MANY - FEW);
        let before = known.get(operation.name()).copied();
        let dearer = before.is_none_or(|before| count * 100 > before * (100 + TOLERANCE));
        if dearer {
            worst = ExitCode::FAILURE;
        }
        let before = before.map_or_else(|| "–".to_owned(), |before| before.to_string());
        println!("| {} | {count} | {before} | {} |", operation.name(), if dearer { "dearer" } else { "" });
    }
    println!("\nWhat is meant to change is committed in `benches/instructions.txt`, measured on the release profile.");
    Ok(worst)
}

/// Does a step so many times: what [`count`] runs under callgrind.
pub(super) fn repeat(name: &str, times: u64) -> Result<()> {
    let operation = Operation::ALL.into_iter().find(|operation| operation.name() == name).context("no such step")?;
    let step = operation.prepare();
    (0..times).for_each(|_| step());
    Ok(())
}

fn count(operation: Operation, times: u64) -> Result<u64> {
    let own = std::env::current_exe()?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(own)
        .args(["--repeat", operation.name(), "--times", &times.to_string()])
        .stdout(Stdio::null())
        .output()
        .context("cannot run valgrind: install it with `apt-get install valgrind`")?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    match collected {
        Some(count) if output.status.success() => Ok(count),
        _ => bail!("valgrind ended with {}: {}", output.status, said.trim()),
    }
}

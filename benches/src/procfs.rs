//! What `/proc` tells about processes: CPU time and resident memory.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};

/// Linux counts CPU time for programs in hundredths of a second (`USER_HZ`) on every architecture that matters here.
const TICKS_PER_SECOND: f64 = 100.0;

struct Stat {
    parent: u32,
    ticks: u64,
}

impl Stat {
    /// User and system time of the process and of its children that have ended.
    fn parse(text: &str) -> Option<Stat> {
        // The name stands in parentheses and may hold anything; fields are counted from behind it.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        let ticks = (11..=14).map(number).sum::<Option<u64>>()?;
        Some(Stat { parent: fields.get(1)?.parse().ok()?, ticks })
    }
}

/// CPU time in ticks of the processes `roots` and everything that descends from them, ended children included.
pub(crate) fn tree_ticks(roots: &[u32]) -> Result<u64> {
    let mut processes = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let stat = fs::read_to_string(entry.path().join("stat")).ok().and_then(|text| Stat::parse(&text));
        if let Some(stat) = stat {
            processes.insert(pid, stat);
        }
    }
    Ok(processes.iter().filter(|&(&pid, _)| descends(&processes, pid, roots)).map(|(_, stat)| stat.ticks).sum())
}

fn descends(processes: &BTreeMap<u32, Stat>, mut pid: u32, roots: &[u32]) -> bool {
    while let Some(stat) = processes.get(&pid) {
        if roots.contains(&pid) {
            return true;
        }
        pid = stat.parent;
    }
    false
}

/// CPU time of this process in ticks.
pub(crate) fn own_ticks() -> u64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Without the ended children: those are contestants of earlier rounds.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// Ticks as seconds.
#[allow(clippy::cast_precision_loss, reason = "ticks of hours are far below 2^52")]
pub(crate) fn seconds(ticks: u64) -> f64 {
    ticks as f64 / TICKS_PER_SECOND
}

/// CPU time of the whole machine in ticks: that of programs and the kernel, and what the hypervisor kept for others.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MachineTicks {
    pub(crate) busy: u64,
    pub(crate) stolen: u64,
}

impl MachineTicks {
    /// Until now.
    pub(crate) fn now() -> MachineTicks {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        MachineTicks::parse(text.lines().next().unwrap_or_default())
    }

    /// `cpu user nice system idle iowait irq softirq steal …`
    fn parse(line: &str) -> MachineTicks {
        let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
        let sum = |indices: &[usize]| indices.iter().filter_map(|&index| fields.get(index)).sum();
        MachineTicks { busy: sum(&[0, 1, 2, 5, 6]), stolen: sum(&[7]) }
    }
}

/// Resident memory of a process in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    status_bytes(pid, "VmRSS:")
}

/// The most that a process has been resident with, in bytes, since its start or [`reset_peak`].
pub(crate) fn peak_resident(pid: u32) -> Result<u64> {
    status_bytes(pid, "VmHWM:")
}

/// Lets the peak of a process begin anew.
pub(crate) fn reset_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").with_context(|| format!("/proc/{pid}/clear_refs"))
}

fn status_bytes(pid: u32, field: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kib.with_context(|| format!("no {field} in {path}"))? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_behind_the_name() {
        let line = "42 (a) odd) name) S 7 42 42 0 -1 4194560 1 2 3 4 100 20 3 4 20 0 1 0 5 6 7";
        let stat = Stat::parse(line).expect("a stat line");
        assert_eq!((stat.parent, stat.ticks), (7, 127));
    }

    #[test]
    fn this_process_has_memory_and_time() {
        let pid = std::process::id();
        let memory = resident(pid).expect("own memory");
        assert!(memory > 100_000);
        // Neither exact nor read at the same moment as the other: the kernel counts pages per thread at first.
        assert!(peak_resident(pid).expect("own peak") > memory / 2);
        let own = own_ticks();
        assert!(tree_ticks(&[pid]).expect("own ticks") >= own);
    }

    #[test]
    fn idle_time_is_not_busy() {
        let ticks = MachineTicks::parse("cpu  10 1 5 1000 200 2 3 7 0 0");
        assert_eq!((ticks.busy, ticks.stolen), (21, 7));
    }
}

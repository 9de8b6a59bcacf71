//! The name of a process as a holder of leases. On Linux it says which process of which machine it is: a successor beside it
//! sees at once that a killed one is gone, and need not wait for the end of its lease.
//!
//! Nothing depends on it but time: a lease that is taken from a holder who lives has a higher fence, and he commits nothing more.

use std::fs;

use faircopy_core::Millis;
use faircopy_store::{Error, Fence, Store, Writer};
use rustix::io::Errno;
use rustix::process::{Pid, getpid, test_kill_process};

/// The parts of a name: where the process is, its number there, when it began, and chance.
const PARTS: usize = 4;

/// The name of this process; without what only Linux tells it is chance alone.
pub(crate) fn name(chance: &str) -> String {
    let pid = getpid().as_raw_nonzero().get();
    match here().zip(began(pid)) {
        Some((here, began)) => format!("{here}/{pid}/{began}/{chance}"),
        None => chance.to_owned(),
    }
}

/// Takes a lease if it is free, or if whoever has it was killed on this machine.
pub(crate) async fn take(
    store: &Store,
    writer: &mut Writer,
    lease: &'static str,
    holder: &str,
    now: Millis,
    for_ms: i64,
) -> Result<Option<Fence>, Error> {
    if let Some(fence) = writer.take_lease(lease, holder, now, for_ms).await? {
        return Ok(Some(fence));
    }
    match store.lease_holder(lease).await? {
        Some(gone) if is_gone(&gone) => writer.inherit_lease(lease, &gone, holder, now, for_ms).await,
        _ => Ok(None),
    }
}

/// Whether the process of this name was on this machine, and is no more. What cannot be told is `false`.
pub(crate) fn is_gone(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    let (PARTS, [place, pid, began_then, ..]) = (parts.len(), parts.as_slice()) else { return false };
    if here().as_deref() != Some(*place) {
        return false;
    }
    let Some(pid) = pid.parse().ok().and_then(Pid::from_raw) else { return false };
    match test_kill_process(pid) {
        Err(Errno::SRCH) => true,
        // Somebody has this number; a process that began at another time is another one, and a zombie is none.
        _ => began(pid.as_raw_nonzero().get()).is_some_and(|began| began != *began_then),
    }
}

/// Where process numbers mean the same as here: this boot of this machine, and this namespace of processes.
fn here() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    let namespace: String = namespace.to_str()?.chars().filter(char::is_ascii_digit).collect();
    Some(format!("{}.{namespace}", boot.trim()))
}

/// When a process began, in ticks since the machine did; `Z` for one that has ended and was not buried.
fn began(pid: i32) -> Option<String> {
    /// Fields of `/proc/<pid>/stat` behind the name, which may hold anything but ends with the last parenthesis.
    const STATE: usize = 0;
    const START_TIME: usize = 19;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ended = matches!(*fields.get(STATE)?, "Z" | "X");
    Some(if ended { "Z".to_owned() } else { (*fields.get(START_TIME)?).to_owned() })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn whoever_lives_is_not_gone_and_whoever_cannot_be_known_neither() {
        let own = name("chance");
        assert!(!is_gone(&own), "{own}");
        for other in ["", "chance", "a/b/c", "a/b/c/d", "/1/2/3", "elsewhere/1/2/chance", &format!("{own}/more")] {
            assert!(!is_gone(other), "{other}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn whoever_was_killed_is_gone_buried_or_not() {
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let of_child = format!("{}/{pid}/{}/chance", here().unwrap(), began(pid).unwrap());
        let earlier = format!("{}/{pid}/0/chance", here().unwrap());
        assert!(!is_gone(&of_child), "{of_child}");
        assert!(is_gone(&earlier), "another process had its number before");
        child.kill().unwrap();
        while began(pid).is_some_and(|began| began != "Z") {
            std::thread::yield_now();
        }
        assert!(is_gone(&of_child), "a zombie");
        child.wait().unwrap();
        assert!(is_gone(&of_child), "buried");
    }
}

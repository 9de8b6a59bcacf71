//! Ports of 127.0.0.1 that no two tests of this machine hold at once.
//!
//! A port below the kernel's ephemeral range (32768 on) cannot be taken by an outgoing connection while its server is
//! down, so a server that was killed gets its port back. A lock on a small file keeps other test processes away.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};

/// The lowest port that is given out: above the well-known services.
const FIRST: u16 = 20_000;
/// How many are given out: up to, and without, the start of Linux's default ephemeral range (32768).
const COUNT: u16 = 12_000;

/// A port that belongs to this value until it is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Takes a port that nobody listens on and no other test holds.
    ///
    /// # Panics
    /// When none is free.
    #[must_use]
    pub fn take() -> Port {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let folder = lock_folder();
        // Each process starts its search elsewhere, so that processes seldom meet.
        let start = std::process::id().wrapping_mul(101);
        for _ in 0..COUNT {
            let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
            let offset = start.wrapping_add(step) % u32::from(COUNT);
            let number = FIRST + u16::try_from(offset).expect("an offset below COUNT");
            if let Some(port) = try_take(&folder, number) {
                return port;
            }
        }
        panic!("no free port between {FIRST} and {}", FIRST + COUNT);
    }

    /// The number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }
}

fn try_take(folder: &std::path::Path, number: u16) -> Option<Port> {
    let path = folder.join(number.to_string());
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path).ok()?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return None,
        Err(TryLockError::Error(error)) => panic!("cannot lock {}: {error}", path.display()),
    }
    // Bound and let go at once: a listening socket that had no connection leaves nothing behind.
    TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
    Some(Port { number, _lock: lock })
}

fn lock_folder() -> PathBuf {
    let uid = rustix::process::getuid().as_raw();
    let folder = std::env::temp_dir().join(format!("faircopy-test-ports-{uid}"));
    fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("cannot create {}: {error}", folder.display()));
    folder
}

#[cfg(test)]
mod tests {
    use super::Port;

    #[test]
    fn two_ports_held_at_once_differ() {
        let held: Vec<Port> = (0..50).map(|_| Port::take()).collect();
        let mut numbers: Vec<u16> = held.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);
    }
}

//! A way to the sandbox that counts the pages asked for on it: so a sweep can be killed at a share of its work, and what it reads
//! again is known.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Result;

/// What only requests for pages have: each is sent in one piece.
const PAGE: &[u8] = b"?limit=500&";

/// A counting forwarder; it lives as long as the program.
pub(crate) struct Counter {
    address: SocketAddr,
    pages: Arc<AtomicU64>,
}

impl Counter {
    /// Forwards to `server` from a port of its own.
    pub(crate) fn to(server: SocketAddr) -> Result<Counter> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let (address, pages) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
        let counted = pages.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A connection that cannot be forwarded ends: its client sees that and tries again.
                drop(forward(client, server, counted.clone()));
            }
        });
        Ok(Counter { address, pages })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Pages that were asked for until now.
    pub(crate) fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }
}

fn forward(client: TcpStream, server: SocketAddr, pages: Arc<AtomicU64>) -> std::io::Result<()> {
    let server = TcpStream::connect(server)?;
    for end in [&client, &server] {
        end.set_nodelay(true)?;
    }
    let (up, down) = ((client.try_clone()?, server.try_clone()?), (server, client));
    std::thread::spawn(move || {
        copy(up.0, up.1, |piece| {
            if piece.windows(PAGE.len()).any(|part| part == PAGE) {
                pages.fetch_add(1, Ordering::Relaxed);
            }
        });
    });
    std::thread::spawn(move || copy(down.0, down.1, |_| {}));
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream, mut look: impl FnMut(&[u8])) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut piece) {
        look(&piece[..read]);
        if to.write_all(&piece[..read]).is_err() {
            break;
        }
    }
    // The other end may be gone already.
    let _ = to.shutdown(Shutdown::Write);
}

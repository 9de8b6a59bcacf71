//! A TCP proxy on a port of its own that forwards to a server, late if it is told to, and cuts connections at any byte.
//!
//! A cut is a reset (RST) to both sides: neither learns anything else. What was forwarded before it arrives.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::port::Port;

/// PostgreSQL's message that a transaction is committed: `CommandComplete` with its length and the tag `COMMIT`.
const COMMITTED: &[u8] = b"C\0\0\0\x0bCOMMIT\0";
/// What is read at once.
const PIECE: usize = 16 * 1024;
/// Pieces that may wait for their time in each direction, so that a delay holds no more than a megabyte.
const PIECES: usize = 64;

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Once so many bytes have gone to the server.
    ToServer(usize),
    /// Once so many bytes have come back.
    ToClient(usize),
    /// In place of PostgreSQL's so-and-so-many-th answer (from 0) to `COMMIT`: it is durable, and the client never
    /// hears of it.
    CommitAnswer(usize),
}

/// Decides for each new connection whether and where it is cut.
type Plan = Box<dyn FnMut() -> Option<Cut> + Send>;

/// A proxy that ends, with all of its connections, when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    accepting: JoinHandle<()>,
    shared: Arc<Shared>,
    port: Port,
}

struct Shared {
    server: SocketAddr,
    delay_ms: AtomicU64,
    plan: Mutex<Plan>,
    cuts: AtomicUsize,
    commit_answers_cut: AtomicUsize,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Proxy {
    /// Forwards to a port of 127.0.0.1, at once and uncut until it is told otherwise.
    ///
    /// # Panics
    /// When its own port cannot be listened on.
    pub async fn to(port: u16) -> Proxy {
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let port = Port::take();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port.number())).await.expect("listen on our own port");
        let shared = Arc::new(Shared {
            server,
            delay_ms: AtomicU64::new(0),
            plan: Mutex::new(Box::new(|| None)),
            cuts: AtomicUsize::new(0),
            commit_answers_cut: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Proxy { accepting, shared, port }
    }

    /// The port that it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// A database's address with the proxy in the server's place.
    ///
    /// # Panics
    /// When the address does not name the server that the proxy forwards to.
    #[must_use]
    pub fn url(&self, database_url: &str) -> String {
        let (server, proxy) = (format!("@{}/", self.shared.server), format!("@127.0.0.1:{}/", self.port()));
        assert!(database_url.contains(&server), "{database_url} is not at {}", self.shared.server);
        database_url.replacen(&server, &proxy, 1)
    }

    /// Everything that the server sends from now on arrives so much later.
    ///
    /// # Panics
    /// When the delay is beyond all reason.
    pub fn delay(&self, by: Duration) {
        self.shared.delay_ms.store(u64::try_from(by.as_millis()).expect("a delay"), Ordering::SeqCst);
    }

    /// Asks for each new connection from now on whether and where it is cut. Those that are open keep their cut.
    ///
    /// # Panics
    /// When the plan before has panicked.
    pub fn cut_by(&self, plan: impl FnMut() -> Option<Cut> + Send + 'static) {
        *self.shared.plan.lock().expect("the plan") = Box::new(plan);
    }

    /// How many connections were cut until now.
    #[must_use]
    pub fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::SeqCst)
    }

    /// How many of them in place of the answer to a `COMMIT`.
    #[must_use]
    pub fn commit_answers_cut(&self) -> usize {
        self.shared.commit_answers_cut.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // They end with this task.
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let cut = (shared.plan.lock().expect("the plan"))();
        connections.spawn(forward(client, Arc::clone(&shared), cut));
        while connections.try_join_next().is_some() {}
    }
}

async fn forward(mut client: TcpStream, shared: Arc<Shared>, cut: Option<Cut>) {
    let Ok(mut server) = TcpStream::connect(shared.server).await else {
        reset(&client);
        return;
    };
    // Neither side may wait for more to send.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ended = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = pump(from_client, to_server, None, limit(cut, true));
        let down = pump(from_server, to_client, Some(&shared.delay_ms), limit(cut, false));
        tokio::try_join!(up, down)
    };
    match ended {
        Ok(_) => {}
        Err(Broken::ByPeer) => {
            reset(&client);
            reset(&server);
        }
        Err(Broken::Cut) => {
            reset(&client);
            reset(&server);
            shared.cuts.fetch_add(1, Ordering::SeqCst);
            let commit = usize::from(matches!(cut, Some(Cut::CommitAnswer(_))));
            shared.commit_answers_cut.fetch_add(commit, Ordering::SeqCst);
        }
    }
}

/// The connection is reset when it is dropped.
fn reset(stream: &TcpStream) {
    // One that is gone already needs none.
    let _ = stream.set_zero_linger();
}

enum Broken {
    Cut,
    ByPeer,
}

/// What one direction lets through.
enum Limit {
    None,
    Bytes(usize),
    CommitAnswers { left: usize, tail: Vec<u8> },
}

fn limit(cut: Option<Cut>, to_server: bool) -> Limit {
    match cut {
        Some(Cut::ToServer(bytes)) if to_server => Limit::Bytes(bytes),
        Some(Cut::ToClient(bytes)) if !to_server => Limit::Bytes(bytes),
        Some(Cut::CommitAnswer(number)) if !to_server => Limit::CommitAnswers { left: number, tail: Vec::new() },
        _ => Limit::None,
    }
}

impl Limit {
    /// How much of a piece may pass; `None` when all of it.
    fn cut(&mut self, piece: &[u8]) -> Option<usize> {
        match self {
            Limit::None => None,
            Limit::Bytes(left) if piece.len() >= *left => Some(*left),
            Limit::Bytes(left) => {
                *left -= piece.len();
                None
            }
            Limit::CommitAnswers { left, tail } => {
                let before = tail.len();
                tail.extend_from_slice(piece);
                let mut start = 0;
                while let Some(found) = tail[start..].windows(COMMITTED.len()).position(|window| window == COMMITTED) {
                    if *left == 0 {
                        // Its beginning may have passed with the piece before.
                        return Some((start + found).saturating_sub(before));
                    }
                    *left -= 1;
                    start += found + COMMITTED.len();
                }
                let keep = tail.len().saturating_sub(COMMITTED.len() - 1).max(start);
                tail.drain(..keep);
                None
            }
        }
    }
}

/// Forwards one direction until its end.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    delay_ms: Option<&AtomicU64>,
    mut limit: Limit,
) -> Result<(), Broken> {
    let mut waiting: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let (mut cut, mut ended) = (false, false);
    let mut buffer = vec![0; PIECE];
    loop {
        let due = waiting.front().map(|(due, _)| *due);
        if due.is_none() && cut {
            return Err(Broken::Cut);
        }
        if due.is_none() && ended {
            // The other direction may go on.
            return to.shutdown().await.map_err(|_| Broken::ByPeer);
        }
        tokio::select! {
            read = from.read(&mut buffer), if !cut && !ended && waiting.len() < PIECES => {
                let read = read.map_err(|_| Broken::ByPeer)?;
                ended = read == 0;
                let pass = limit.cut(&buffer[..read]);
                cut = pass.is_some();
                let delay = delay_ms.map_or(0, |delay| delay.load(Ordering::SeqCst));
                let piece = buffer[..pass.unwrap_or(read)].to_vec();
                waiting.push_back((Instant::now() + Duration::from_millis(delay), piece));
            }
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                let (_, piece) = waiting.pop_front().expect("what is due");
                to.write_all(&piece).await.map_err(|_| Broken::ByPeer)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{COMMITTED, Limit};

    #[test]
    fn the_answer_to_a_commit_is_found_in_any_pieces() {
        let stream = [b"Z\0\0\0\x05I".as_slice(), COMMITTED, b"12345", COMMITTED, b"6"].concat();
        let second = 6 + COMMITTED.len() + 5;
        for size in 1..stream.len() {
            let mut limit = Limit::CommitAnswers { left: 1, tail: Vec::new() };
            let mut passed = 0;
            let cut = stream.chunks(size).find_map(|piece| match limit.cut(piece) {
                None => {
                    passed += piece.len();
                    None
                }
                Some(keep) => Some(passed + keep),
            });
            let cut = cut.unwrap_or_else(|| panic!("not found in pieces of {size}"));
            assert!(cut >= second && cut < second + COMMITTED.len(), "cut at {cut} in pieces of {size}");
        }
    }
}

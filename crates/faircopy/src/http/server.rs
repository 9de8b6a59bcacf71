//! Connections: accepted within bounds, cut when they dawdle, drained at the end.
//!
//! axum's own `serve` has no time-outs for headers and idle connections, so hyper's HTTP/1 connection is used directly.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tower::ServiceExt as _;

/// Open connections. Beyond it new ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;
/// Connections that the kernel holds until they are accepted. Its usual 128 overflow when many senders come at once, and
/// who is dropped there tries again only after a second. The kernel bounds it by `net.core.somaxconn`.
const BACKLOG: u32 = 4096;
/// How long a request's head may take, and how long a connection may stay idle.
const HEADER_DEADLINE: Duration = Duration::from_secs(10);
/// The longest head: a request of Svix has about 1 KiB.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// Header lines in one request.
const MAX_HEADERS: usize = 100;
/// Pause after a failed accept, so that a process out of file descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long requests in flight may take to end once the service is told to stop.
const DRAIN_DEADLINE: Duration = Duration::from_secs(12);

/// Goes with each request: tells an answer without an end when the service is told to stop.
#[derive(Clone)]
pub(super) struct Stopping(watch::Receiver<()>);

impl Stopping {
    async fn told(mut self) {
        // Nothing is ever sent: the other side is dropped.
        while self.0.changed().await.is_ok() {}
    }
}

/// Resolves when the service is told to stop; never for a request that came by no server, as in tests of a router.
pub(super) async fn stopped(stopping: Option<Stopping>) {
    match stopping {
        Some(stopping) => stopping.told().await,
        None => std::future::pending().await,
    }
}

/// Goes with each request: its connection's place among the [`MAX_CONNECTIONS`].
#[derive(Clone)]
pub(super) struct Seat(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Seat {
    fn new(permit: Option<OwnedSemaphorePermit>) -> Self {
        Self(Arc::new(Mutex::new(permit)))
    }

    /// Leaves it to another connection: for an answer without an end, of which there is another bound.
    pub(super) fn give_up(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// Listens on an address.
pub fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A restart must not wait for the connections of the process before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `stop` resolves, then answers what is in flight and returns.
pub async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let graceful = GracefulShutdown::new();
    // Dropped at the end: whoever still dawdles is then cut off, and holds nothing of the service any longer.
    let (cut, uncut) = watch::channel(());
    // Dropped before the draining.
    let (going, goes_on) = watch::channel(());
    tokio::pin!(stop);
    loop {
        let accepted = async {
            let permit = connections.clone().acquire_owned().await;
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let seat = Seat::new(permit.ok());
                let marks = (Stopping(goes_on.clone()), seat.clone());
                let connection = graceful.watch(connection(stream, peer, router.clone(), marks));
                let mut uncut = uncut.clone();
                tokio::spawn(async move {
                    let ended = tokio::select! {
                        ended = connection => ended,
                        _ = uncut.changed() => Ok(()),
                    };
                    // A connection that fails fails for its own client only; hyper has answered what could be answered.
                    if let Err(error) = ended {
                        tracing::debug!(%error, "connection ended");
                    }
                    drop(seat);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop((listener, going));
    if tokio::time::timeout(DRAIN_DEADLINE, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end in time and were cut off");
    }
    drop(cut);
}

fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    (stopping, seat): (Stopping, Seat),
) -> impl hyper_util::server::graceful::GracefulConnection<Error = hyper::Error> + use<> {
    drop(stream.set_nodelay(true));
    // A socket for both families shows an IPv4 sender as `::ffff:a.b.c.d`, which is in no IPv4 network.
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let service = tower::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(stopping.clone());
        request.extensions_mut().insert(seat.clone());
        router.clone().oneshot(request)
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
}

//! Rooms on a port of their own: for tests that need nothing else.

use std::io;
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use super::Liveblocks;
use crate::clock::Clock;

/// Pause after a failed accept, so that a process out of file descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A project that listens on this machine. It ends, with its connections, when it is dropped.
pub struct LiveblocksSandbox {
    url: String,
    liveblocks: Liveblocks,
    serving: JoinHandle<()>,
}

impl LiveblocksSandbox {
    /// A project without rooms, with this secret key, on a free port of the loopback interface.
    ///
    /// # Errors
    /// When no port can be listened on.
    pub async fn start(key: &str, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let liveblocks = Liveblocks::new(key, clock);
        let router = liveblocks.router().nest("/sandbox/v1", liveblocks.control());
        Ok(Self { url, liveblocks, serving: tokio::spawn(serve(listener, router)) })
    }

    /// Its address: `LIVEBLOCKS_API_URL` of who uses it.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Deref for LiveblocksSandbox {
    type Target = Liveblocks;

    fn deref(&self) -> &Liveblocks {
        &self.liveblocks
    }
}

impl Drop for LiveblocksSandbox {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, router: Router) {
    // They end with this task.
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let service = TowerToHyperService::new(router.clone());
        connections.spawn(async move {
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new());
            // Also how a connection ends that is closed on request; a client that hangs up is its own affair.
            if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "connection ended");
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

//! What is answered until the database can be used for the first time: that the process is alive, and to all else that it should
//! be asked again.

use std::os::fd::AsFd as _;

use axum::Router;
use axum::extract::Request;
use axum::middleware::Next;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::problem::Problem;
use super::{harden, health, only_get, server, told};

/// Answers on the address of a service that has not started yet.
pub(crate) struct Waiting {
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Waiting {
    /// Takes connections from the same queue; `listener` keeps the address.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub(crate) fn start(listener: &TcpListener) -> std::io::Result<Self> {
        let shared = listener.as_fd().try_clone_to_owned()?;
        let listener = TcpListener::from_std(shared.into())?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(server::serve(listener, router(), async { drop(stopped.await) }));
        Ok(Self { stop, serving })
    }

    /// Takes no further connection, and returns when what was asked is answered.
    pub(crate) async fn finish(self) {
        drop(self.stop);
        drop(self.serving.await);
    }
}

fn router() -> Router {
    Router::new()
        .route("/healthz", get(health::live).fallback(only_get))
        .fallback(not_yet)
        .layer(axum::middleware::from_fn(|request: Request, next: Next| told::tell(None, request, next)))
        .layer(axum::middleware::map_response(harden))
}

async fn not_yet() -> Problem {
    Problem::new("database-unavailable", "The database could not be used since the start; it is tried each second.")
}

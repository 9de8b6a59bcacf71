//! Connections: each has a task, and all of them end with the sandbox.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

/// How long a request's head may take, and how long a connection may stay idle.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long requests in flight may take to end once the sandbox is told to stop.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);

/// Serves until it is told to stop; then answers what is in flight and returns. Dropped, it cuts every connection.
pub(crate) async fn serve(listener: TcpListener, router: Router, mut stop: oneshot::Receiver<()>) {
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stop => break,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        drop(stream.set_nodelay(true));
        let router = router.clone();
        let service = tower::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(peer);
            router.clone().oneshot(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_DEADLINE)
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let connection = graceful.watch(connection);
        connections.spawn(async move {
            // A connection that fails fails for its own client only.
            drop(connection.await);
        });
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    // What does not end in time is cut with the tasks.
    drop(tokio::time::timeout(DRAIN_DEADLINE, graceful.shutdown()).await);
}

//! A stand-in for a Clerk instance on one port: the Backend API, the keys and tokens of sessions, signed deliveries with
//! Svix's schedule, and whatever may go wrong with them, on request (docs/decisions/0014-the-sandbox.md).
//!
//! ```no_run
//! # async fn example() -> Result<(), faircopy_sandbox::StartError> {
//! use std::sync::Arc;
//! use faircopy_sandbox::{Sandbox, Settings};
//!
//! let clock = Arc::new(|| 1_800_000_000_000_i64);
//! let sandbox = Sandbox::start(Settings::default(), clock, ([127, 0, 0, 1], 0).into()).await?;
//! let key = sandbox.shared().keys().secret_key(); // for `CLERK_SECRET_KEY`, with `CLERK_API_URL` = sandbox.url()
//! # drop(key);
//! sandbox.stop().await;
//! # Ok(())
//! # }
//! ```

#![recursion_limit = "256"] // `json!` recurses once for each token of a user

pub mod api;
pub mod clock;
pub mod instance;
pub mod keys;
pub mod limit;
pub mod post;
mod server;
mod settings;
pub mod state;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::state::Shared;
pub use settings::Settings;

/// Why a sandbox does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
}

/// A running sandbox. It ends when it is dropped.
pub struct Sandbox {
    url: String,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Sandbox {
    /// Starts one.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub async fn start(settings: Settings, clock: Arc<dyn Clock>, listen: SocketAddr) -> Result<Self, StartError> {
        let cannot = |error| StartError::Listen(listen, error);
        let listener = TcpListener::bind(listen).await.map_err(cannot)?;
        let url = format!("http://{}", listener.local_addr().map_err(cannot)?);
        let shared = Arc::new(settings.open(clock, &url));
        let router = Router::new().fallback(api::answer).with_state(shared.clone());
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(server::serve(listener, router, stopped));
        Ok(Self { url, shared, stop: Some(stop), serving })
    }

    /// Where it is: the Backend API's address without `/v1`, and the issuer of its tokens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What is in it.
    #[must_use]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Answers what is in flight, and ends.
    pub async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            // Nobody listens if the server ended by itself.
            let _ = stop.send(());
        }
        drop((&mut self.serving).await);
    }
}

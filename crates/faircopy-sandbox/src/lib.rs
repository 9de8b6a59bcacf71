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
pub mod chance;
pub mod chaos;
pub mod clock;
pub mod control;
pub mod instance;
mod journal;
pub mod keys;
pub mod limit;
pub mod liveblocks;
pub mod page;
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
use crate::journal::Journal;
use crate::liveblocks::Liveblocks;
use crate::state::Shared;
pub use journal::JournalError;
pub use settings::Settings;

/// Why a sandbox does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// Deliveries cannot be sent.
    #[error("cannot make the client that sends deliveries: {0}")]
    Client(reqwest::Error),
    /// A setting about deliveries makes no sense.
    #[error(transparent)]
    Deliveries(#[from] post::Refused),
    /// A setting about chaos makes no sense.
    #[error(transparent)]
    Chaos(#[from] chaos::Unfit),
    /// The file cannot be gone on with.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A running sandbox. It ends when it is dropped.
pub struct Sandbox {
    url: String,
    shared: Arc<Shared>,
    liveblocks: Liveblocks,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
    stop_sending: Option<oneshot::Sender<()>>,
    sending: JoinHandle<()>,
    syncing: Option<JoinHandle<()>>,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.serving.abort();
        self.sending.abort();
        if let Some(syncing) = &self.syncing {
            syncing.abort();
        }
        // The tasks end when the runtime gets to them; the file is free now.
        self.shared.close();
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
        let client = post::sender::client().map_err(StartError::Client)?;
        let rooms_key = settings.liveblocks_key.clone().unwrap_or_else(|| liveblocks::LOCAL_KEY.to_owned());
        let (shared, rooms) = settings.open(clock.clone(), &url)?;
        let shared = Arc::new(shared);
        let liveblocks = Liveblocks::kept(rooms_key, clock, rooms, shared.clone());
        let router = routes(&shared, &liveblocks, listener.local_addr().map_err(cannot)?);
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(server::serve(listener, router, stopped));
        let (stop_sending, told) = oneshot::channel();
        let sending = tokio::spawn(post::sender::run(shared.clone(), client, async { drop(told.await) }));
        let syncing = shared.with(|state, _| state.journal.as_ref().map(Journal::syncing));
        let syncing = syncing.transpose().map_err(cannot)?.map(|syncing| tokio::spawn(syncing.run()));
        let (stop, stop_sending) = (Some(stop), Some(stop_sending));
        Ok(Self { url, shared, liveblocks, stop, serving, stop_sending, sending, syncing })
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

    /// The rooms beside it, at the same address.
    #[must_use]
    pub fn liveblocks(&self) -> &Liveblocks {
        &self.liveblocks
    }

    /// Answers what is in flight, and ends. Deliveries that are under way count as not made.
    pub async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            // Nobody listens if the server ended by itself.
            let _ = stop.send(());
        }
        drop((&mut self.serving).await);
        drop(self.stop_sending.take());
        drop((&mut self.sending).await);
    }
}

/// The page, the control API, the rooms, and Clerk's API wherever else.
fn routes(shared: &Arc<Shared>, liveblocks: &Liveblocks, listens: SocketAddr) -> Router {
    let door = match listens.ip().is_loopback() {
        true => control::Door::Loopback,
        false => control::Door::Key(shared.keys().secret_key().to_owned()),
    };
    let clerk = Router::new().fallback(api::answer).with_state(shared.clone());
    let control = control::routes(shared.clone(), liveblocks.control(), door);
    page::routes().merge(control).merge(liveblocks.router()).fallback_service(clerk)
}

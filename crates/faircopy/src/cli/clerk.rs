//! Clerk's Backend API, for commands that ask it themselves.

use std::sync::Arc;

use crate::app::{Clock, SystemClock};
use crate::config::Config;
use crate::telemetry::Metrics;
use crate::upstream::clerk::Clerk;
use crate::upstream::keys::KeySet;

/// A client with the configured key; `None` without one. The issuer's keys are fetched first: they tell whose key it is.
pub(super) async fn client(config: &Config) -> Option<Arc<Clerk>> {
    let (clock, metrics): (Arc<dyn Clock>, _) = (Arc::new(SystemClock), Metrics::install());
    let keys = KeySet::new(&config.sessions, clock.clone(), metrics.clone());
    let clerk = Clerk::new(config, keys.clone(), clock, metrics)?;
    if config.sessions.are_configured() {
        // Any outcome will do: the client says itself what it cannot tell without them.
        drop(keys.find(None).await);
    }
    Some(clerk)
}

//! Tells the other replicas that something was committed here, so that who listens there hears of it at once.

use std::sync::Arc;
use std::time::Duration;

use faircopy_store::Store;
use tokio::sync::Notify;

/// How often at the most: under load each look of the others finds many changes anyway.
const PERIOD: Duration = Duration::from_millis(20);

/// Announces after commits. Never in their way: it is a hint, and one that is lost costs its listeners a tenth of a second.
pub async fn run(store: Store, committed: Arc<Notify>) {
    loop {
        committed.notified().await;
        if let Err(error) = store.announce().await {
            tracing::debug!(%error, "the other replicas could not be told of a commit");
        }
        tokio::time::sleep(PERIOD).await;
    }
}

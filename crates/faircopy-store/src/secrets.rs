//! Secrets that the database keeps for all replicas of the service.

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::Store;
use crate::error::{Error, Result};

/// A secret that was read once.
pub(crate) type Kept = Arc<OnceCell<Arc<str>>>;

impl Store {
    /// The key that cursors are sealed with: made by a migration, the same for all replicas and after every start. Read
    /// once, and never through the role that reads for callers.
    pub async fn cursor_key(&self) -> Result<Arc<str>> {
        let read = || async {
            let rows = self.readers.read("SELECT secret FROM {s}secrets WHERE name = 'cursors'", vec![]).await?;
            let secret = rows.first().map_or(Ok(None), |row| row.text(0))?.filter(|secret| !secret.is_empty());
            secret.map(Arc::from).ok_or_else(|| Error::Refused("the cursors' key is missing from `secrets`".into()))
        };
        self.cursor_key.get_or_try_init(read).await.cloned()
    }
}

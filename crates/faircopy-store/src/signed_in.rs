//! Who is signed in to the dashboard: a row for each, by a hash of what their cookie holds.

use faircopy_core::Millis;

use crate::engine::Call;
use crate::error::Result;
use crate::{Store, Writer};

/// Sessions that are kept: more people do not look after one copy. The oldest go first.
const KEPT: i64 = 200;

impl Store {
    /// Whether a session is under way.
    pub async fn is_signed_in(&self, id: &str, now: Millis) -> Result<bool> {
        const STATEMENT: &str = "SELECT id FROM {s}dashboard_sessions WHERE id = $1 AND until_at > $2";
        Ok(!self.readers.read(STATEMENT, vec![id.into(), now.0.into()]).await?.is_empty())
    }
}

impl Writer {
    /// Begins a session, and forgets those that are over.
    pub async fn sign_in(&mut self, id: &str, now: Millis, until: Millis) -> Result<()> {
        const BEGIN: &str = "INSERT INTO {s}dashboard_sessions (id, began_at, until_at) VALUES ($1, $2, $3)";
        const FORGET: &str = "DELETE FROM {s}dashboard_sessions WHERE until_at <= $1 OR id IN \
            (SELECT id FROM {s}dashboard_sessions ORDER BY began_at DESC, id LIMIT 1000000 OFFSET $2)";
        let begin = Call::new(BEGIN, vec![id.into(), now.0.into(), until.0.into()]);
        let forget = Call::new(FORGET, vec![now.0.into(), KEPT.into()]);
        self.run_beside(None, vec![begin, forget]).await.map(drop)
    }

    /// Ends a session.
    pub async fn sign_out(&mut self, id: &str) -> Result<()> {
        const END: &str = "DELETE FROM {s}dashboard_sessions WHERE id = $1";
        self.run_beside(None, vec![Call::new(END, vec![id.into()])]).await.map(drop)
    }
}

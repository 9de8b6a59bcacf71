//! Tells the other replicas that something was committed here, so that who listens there hears of it at once.
//!
//! A commit announces itself, unless one has within [`PERIOD_MS`]; whoever was told then has most likely not looked yet, or will be told
//! of the next. Only what nobody announces that way is announced here, in a transaction of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use faircopy_core::Millis;
use faircopy_store::Store;
use tokio::sync::Notify;

/// How often at the most: under load each look of the others finds many changes anyway.
const PERIOD_MS: i64 = 20;
/// For how long commits do not announce themselves after one that failed: PostgreSQL refuses those that do while its queue of
/// notifications is full, because somebody listens and never reads.
const HELD_UP_MS: i64 = 1_000;
/// For how long a commit that nobody announced waits for the next one to do it.
const PATIENCE: Duration = Duration::from_millis(25);

/// What the other replicas have been told, and what not.
#[derive(Debug, Default)]
pub struct Announcements {
    /// From when on commits are to announce themselves again, in milliseconds since 1970.
    next: AtomicI64,
    /// A commit has not been announced.
    is_owed: AtomicBool,
    owed: Notify,
}

impl Announcements {
    /// Whether a commit of now is to announce itself.
    #[must_use]
    pub fn is_due(&self, now: Millis) -> bool {
        // A clock may be set back.
        !(1..=HELD_UP_MS).contains(&self.next().saturating_sub(now.0))
    }

    /// A commit has announced itself, and all before it.
    pub fn announced(&self, now: Millis) {
        self.is_owed.store(false, Ordering::SeqCst);
        self.next.store(now.plus(PERIOD_MS).0, Ordering::SeqCst);
    }

    /// A commit has failed.
    pub fn hold_up(&self, now: Millis) {
        self.next.store(now.plus(HELD_UP_MS).0, Ordering::SeqCst);
    }

    /// A commit has not.
    pub fn owe(&self) {
        if !self.is_owed.swap(true, Ordering::SeqCst) {
            self.owed.notify_one();
        }
    }

    fn next(&self) -> i64 {
        self.next.load(Ordering::SeqCst)
    }

    /// Waits until something is owed and nobody else has announced it for a while.
    async fn left_over(&self) {
        loop {
            while !self.is_owed.load(Ordering::SeqCst) {
                self.owed.notified().await;
            }
            let next = self.next();
            tokio::time::sleep(PATIENCE).await;
            if self.next() == next && self.is_owed.swap(false, Ordering::SeqCst) {
                return;
            }
        }
    }
}

/// Announces what is left over. Never in the way of a commit: it is a hint, and one that is lost costs its listeners a tenth of a second.
pub async fn run(store: Store, announcements: Arc<Announcements>) {
    loop {
        announcements.left_over().await;
        if let Err(error) = store.announce().await {
            tracing::debug!(%error, "the other replicas could not be told of a commit");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_announces_itself_unless_one_just_has() {
        let announcements = Announcements::default();
        let at = Millis(1_800_000_000_000);
        assert!(announcements.is_due(at));
        announcements.announced(at);
        assert!(!announcements.is_due(at));
        assert!(!announcements.is_due(at.plus(PERIOD_MS - 1)));
        assert!(announcements.is_due(at.plus(PERIOD_MS)));
        announcements.hold_up(at);
        assert!(!announcements.is_due(at.plus(HELD_UP_MS - 1)));
        assert!(announcements.is_due(at.plus(HELD_UP_MS)));
        assert!(announcements.is_due(at.plus(-1)), "a clock that was set back");
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_later_commit_announces_is_left_over() {
        let announcements = Announcements::default();
        let waits = async |millis| tokio::time::timeout(Duration::from_millis(millis), announcements.left_over()).await;
        assert!(waits(1_000).await.is_err(), "nothing is owed");
        announcements.owe();
        assert!(waits(20).await.is_err(), "the next commit may do it");
        announcements.announced(Millis(1));
        assert!(waits(1_000).await.is_err(), "it has");
        announcements.owe();
        announcements.owe();
        assert!(waits(1_000).await.is_ok());
        assert!(waits(1_000).await.is_err(), "once for both");
    }

    #[tokio::test(start_paused = true)]
    async fn under_load_nothing_is_left_over() {
        let announcements = Announcements::default();
        let load = async {
            for now in (0..10_000).step_by(2) {
                let now = Millis(now);
                if announcements.is_due(now) {
                    announcements.announced(now);
                } else {
                    announcements.owe();
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::select! {
            () = load => {}
            () = announcements.left_over() => panic!("left over"),
        }
    }
}

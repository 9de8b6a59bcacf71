//! The sandbox's time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// What tells the time, in milliseconds since 1970. The sandbox asks nothing else: tests move it, the program gives its own.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now_ms(&self) -> i64;

    /// Moves it on, if it can be moved: whether it was.
    fn advance(&self, _ms: i64) -> bool {
        false
    }

    /// Whether [`Clock::advance`] moves it.
    fn is_movable(&self) -> bool {
        false
    }
}

impl<F: Fn() -> i64 + Send + Sync + 'static> Clock for F {
    fn now_ms(&self) -> i64 {
        self()
    }
}

/// A clock that goes as another and can be moved ahead of it. Whoever checks signatures or tokens by another clock refuses
/// what is stamped more than a few minutes ahead.
pub struct Movable {
    of: Arc<dyn Clock>,
    ahead_ms: AtomicI64,
}

impl Movable {
    /// As that one, until it is moved.
    #[must_use]
    pub fn new(of: Arc<dyn Clock>) -> Self {
        Self { of, ahead_ms: AtomicI64::new(0) }
    }
}

impl Clock for Movable {
    fn now_ms(&self) -> i64 {
        self.of.now_ms().saturating_add(self.ahead_ms.load(Ordering::SeqCst))
    }

    fn advance(&self, ms: i64) -> bool {
        self.ahead_ms.fetch_add(ms, Ordering::SeqCst);
        true
    }

    fn is_movable(&self) -> bool {
        true
    }
}

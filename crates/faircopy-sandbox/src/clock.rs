//! The sandbox's time.

/// What tells the time, in milliseconds since 1970. The sandbox asks nothing else: tests move it, the program gives its own.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now_ms(&self) -> i64;
}

impl<F: Fn() -> i64 + Send + Sync + 'static> Clock for F {
    fn now_ms(&self) -> i64 {
        self()
    }
}

//! What the webhook endpoint answers, counted in memory until `worker/watch` takes it. A delivery pays an addition for it, and waits
//! for nothing.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use faircopy_core::signature::Rejection;

/// Deliveries whose way from signing to arrival is remembered: the newest of them, enough for a median.
const MAX_LAGS: usize = 63;
/// With fewer there is no median worth telling.
const MIN_LAGS: usize = 5;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Count {
    /// Acknowledged: 200.
    Accepted,
    /// Sent back to come again: 503.
    Refused,
    /// Whatever else than 200 was answered to a request that carries Svix's headers.
    Failed,
    /// The database said that its disk is full.
    DiskFull,
    /// No signature fitted.
    Unfit,
    /// Signed too long ago.
    TooOld,
    /// Signed too far ahead.
    TooNew,
    /// Headers that Svix does not send.
    Malformed,
}

impl Count {
    /// Everything that is counted.
    pub const ALL: [Self; 8] = [
        Self::Accepted,
        Self::Refused,
        Self::Failed,
        Self::DiskFull,
        Self::Unfit,
        Self::TooOld,
        Self::TooNew,
        Self::Malformed,
    ];

    /// As the table names it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::DiskFull => "disk-full",
            Self::Unfit => "unfit",
            Self::TooOld => "too-old",
            Self::TooNew => "too-new",
            Self::Malformed => "malformed",
        }
    }
}

impl From<Rejection> for Count {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::NoMatch => Self::Unfit,
            Rejection::TimestampTooOld => Self::TooOld,
            Rejection::TimestampTooNew => Self::TooNew,
            Rejection::MissingHeader(_)
            | Rejection::RepeatedHeader(_)
            | Rejection::ConflictingHeader(_)
            | Rejection::MalformedId
            | Rejection::MalformedTimestamp
            | Rejection::TooManySignatures => Self::Malformed,
        }
    }
}

/// The counts since they were last taken.
#[derive(Debug, Default)]
pub struct Traffic {
    counts: [AtomicU64; Count::ALL.len()],
    lags: Mutex<Lags>,
}

#[derive(Debug, Default)]
struct Lags {
    values: Vec<i64>,
    next: usize,
}

impl Traffic {
    /// Counts one.
    pub fn count(&self, what: Count) {
        self.counts[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A delivery whose signature fitted arrived so long after it was signed, by our clock. One that meets another here is
    /// left out: nobody waits.
    pub fn arrived(&self, lag_ms: i64) {
        let Ok(mut lags) = self.lags.try_lock() else { return };
        let at = lags.next % MAX_LAGS;
        lags.next = at + 1;
        match lags.values.get_mut(at) {
            Some(value) => *value = lag_ms,
            None => lags.values.push(lag_ms),
        }
    }

    /// Takes the counts that are not zero.
    pub fn take(&self) -> Vec<(Count, u64)> {
        let taken = Count::ALL.map(|what| (what, self.counts[what as usize].swap(0, Ordering::Relaxed)));
        taken.into_iter().filter(|(_, number)| *number > 0).collect()
    }

    /// Takes the lags of the newest deliveries, once there are enough to say something.
    pub fn take_lags(&self) -> Option<Vec<i64>> {
        let mut lags = self.lags.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        (lags.values.len() >= MIN_LAGS).then(|| std::mem::take(&mut *lags).values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_taken_once() {
        let traffic = Traffic::default();
        for what in Count::ALL {
            traffic.count(what);
        }
        traffic.count(Count::Refused);
        let taken = traffic.take();
        assert_eq!(taken.len(), Count::ALL.len());
        assert!(taken.iter().all(|(what, number)| *number == if *what == Count::Refused { 2 } else { 1 }));
        assert_eq!(traffic.take(), []);
    }

    #[test]
    fn a_few_of_the_newest_lags_are_kept() {
        let traffic = Traffic::default();
        (0..4).for_each(|lag| traffic.arrived(lag));
        assert_eq!(traffic.take_lags(), None, "too few");
        (4..200).for_each(|lag| traffic.arrived(lag));
        let lags = traffic.take_lags().unwrap();
        assert!(lags.len() == MAX_LAGS && lags.iter().all(|lag| *lag >= 137), "{lags:?}");
        assert_eq!(traffic.take_lags(), None);
    }
}

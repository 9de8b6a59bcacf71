//! Whether rows that a walk did not see may be taken for gone at all.

use serde::{Deserialize, Serialize};

/// So many rows of a kind may be absent in any copy, however small, before somebody is asked (merge.md, reconcile, 5).
pub const MAX_ABSENT: u64 = 20;
/// And so many per cent of those that the copy shows, if that is more.
pub const MAX_ABSENT_PERCENT: u64 = 1;
/// A list that shrinks by more than this while it is read is not the list that it was.
pub const MAX_SHRINK_PERCENT: u64 = 10;

/// What one kind's walk found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Evidence {
    /// Different rows that were seen.
    pub seen: u64,
    /// How many Clerk said there were when the walk began, where it said so.
    pub total_before: Option<u64>,
    /// And when it ended.
    pub total_after: Option<u64>,
    /// Rows of the kind that the copy shows.
    pub shown: u64,
    /// Those of them that ought to have been seen and were not.
    pub absent: u64,
    /// Clerk has no user at all: an instance that was used is never so, and a wrong key finds nothing.
    pub has_no_users: bool,
}

/// Why nothing is taken for gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "guard", rename_all = "snake_case")]
pub enum Hold {
    /// A page could not be read.
    #[error("a page could not be read: {reason}")]
    Failed {
        /// Why.
        reason: String,
    },
    /// Fewer rows than Clerk says there are.
    #[error("Clerk says that there are {total}, and its list held {seen}")]
    Incomplete {
        /// Rows of the list.
        seen: u64,
        /// What Clerk says.
        total: u64,
    },
    /// Clerk has none, or no user at all, and the copy has.
    #[error("Clerk has none, and the copy has {shown}")]
    Empty {
        /// Rows that the copy shows.
        shown: u64,
    },
    /// The list became much shorter while it was read.
    #[error("the list shrank from {before} to {after} while it was read")]
    Shrunk {
        /// At the beginning.
        before: u64,
        /// At the end.
        after: u64,
    },
    /// Too much is absent to be an everyday loss of deliveries.
    #[error("{absent} are absent, more than {limit}")]
    TooMany {
        /// Rows that the copy shows and the list lacks.
        absent: u64,
        /// How many may be.
        limit: u64,
    },
}

impl Hold {
    /// Whether an operator may say that it is all right (`--force`): what Clerk did not answer stays unknown.
    #[must_use]
    pub fn can_be_forced(&self) -> bool {
        matches!(self, Self::Shrunk { .. } | Self::TooMany { .. } | Self::Empty { .. })
    }
}

impl Evidence {
    /// What forbids to conclude anything from what was not seen. `force` is the operator's word that many are gone.
    pub fn judge(&self, force: bool) -> Result<(), Hold> {
        let total = self.total_before.into_iter().chain(self.total_after).min();
        if let Some(total) = total.filter(|total| self.seen < *total) {
            return Err(Hold::Incomplete { seen: self.seen, total });
        }
        if force {
            return Ok(());
        }
        if self.has_no_users && self.absent > 0 {
            return Err(Hold::Empty { shown: self.shown });
        }
        if let (Some(before), Some(after)) = (self.total_before, self.total_after) {
            let gone = before.saturating_sub(after);
            // One row of a handful is more than any share of it.
            if gone > 1 && gone * 100 > before * MAX_SHRINK_PERCENT {
                return Err(Hold::Shrunk { before, after });
            }
        }
        let limit = self.limit();
        if self.absent > limit { Err(Hold::TooMany { absent: self.absent, limit }) } else { Ok(()) }
    }

    /// How many may be absent.
    #[must_use]
    pub fn limit(&self) -> u64 {
        MAX_ABSENT.max(self.shown * MAX_ABSENT_PERCENT / 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(seen: u64, before: u64, after: u64, shown: u64, absent: u64) -> Evidence {
        Evidence { seen, total_before: Some(before), total_after: Some(after), shown, absent, has_no_users: false }
    }

    #[test]
    fn a_whole_list_with_few_absences_may_be_believed() {
        let check = |evidence: Evidence| assert_eq!(evidence.judge(false), Ok(()), "{evidence:?}");
        check(evidence(100, 100, 100, 100, 0));
        check(evidence(100, 100, 100, 120, 20));
        check(evidence(99_000, 99_000, 99_000, 100_000, 1_000));
        check(evidence(97, 100, 97, 100, 3));
        check(evidence(0, 0, 0, 5, 5));
        check(evidence(1, 2, 1, 2, 1));
        check(Evidence { seen: 3, ..Evidence::default() });
    }

    #[test]
    fn each_guard_holds_back() {
        let check = |evidence: Evidence, hold: Hold| assert_eq!(evidence.judge(false), Err(hold), "{evidence:?}");
        check(evidence(50, 100, 100, 100, 50), Hold::Incomplete { seen: 50, total: 100 });
        check(evidence(0, 100, 100, 100, 100), Hold::Incomplete { seen: 0, total: 100 });
        check(evidence(100, 100, 89, 100, 0), Hold::Shrunk { before: 100, after: 89 });
        check(evidence(79, 79, 79, 100, 21), Hold::TooMany { absent: 21, limit: 20 });
        check(evidence(98_999, 98_999, 98_999, 100_000, 1_001), Hold::TooMany { absent: 1_001, limit: 1_000 });
    }

    #[test]
    fn force_is_for_many_and_never_for_what_was_not_answered() {
        assert_eq!(evidence(79, 79, 79, 100, 21).judge(true), Ok(()));
        assert_eq!(evidence(80, 100, 80, 100, 20).judge(true), Ok(()));
        let nobody = Evidence { has_no_users: true, ..evidence(0, 0, 0, 3, 3) };
        assert_eq!(nobody.judge(false), Err(Hold::Empty { shown: 3 }));
        assert_eq!(nobody.judge(true), Ok(()));
        assert_eq!(Evidence { absent: 0, ..nobody }.judge(false), Ok(()));
        let unread = evidence(50, 100, 100, 100, 50).judge(true).unwrap_err();
        assert!(!unread.can_be_forced());
        assert!(Hold::TooMany { absent: 21, limit: 20 }.can_be_forced());
        assert!(!Hold::Failed { reason: String::new() }.can_be_forced());
    }
}

//! What the holder of the lease remembers from one probe to the next. It is no more than a minute's patience: who takes over
//! begins without it.

use faircopy_core::Millis;
use faircopy_core::id::UserId;
use faircopy_store::Swept;

use super::{MAX_FAILED, MAX_REFUSED};
use crate::upstream::clerk::Fault;

/// The least time between two wishes for a reconcile; while the same trouble lasts, it doubles up to the longest.
const FIRST_PAUSE_MS: i64 = 10 * 60_000;
const LONGEST_PAUSE_MS: i64 = 6 * 3_600_000;

/// How many rows of a kind there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) kind: Swept,
    pub(super) clerk: u64,
    pub(super) copy: u64,
}

impl Count {
    /// Whether this differs as it did before, and not only because something is always on its way: then the copy would by now
    /// have reached what Clerk had before.
    fn still_differs(&self, before: &Self) -> bool {
        let lacks = before.clerk > before.copy && self.clerk > self.copy && self.copy < before.clerk;
        let exceeds = before.clerk < before.copy && self.clerk < self.copy && self.copy > before.clerk;
        self.kind == before.kind && (lacks || exceeds)
    }
}

#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The lease's number that this was learned under.
    fence: i64,
    /// The counts of the probe before, and when they were taken.
    counts: Option<(Millis, Vec<Count>)>,
    /// A change that was too young to be missed.
    young: Option<(UserId, Millis)>,
    /// Probes that failed in a row, and since when.
    failures: u32,
    failing_since: Option<Millis>,
    /// Users that changed up to then were read.
    pub(super) caught_up_to: Option<Millis>,
    /// When a reconcile was last wished for, and how long none is from then on.
    wished: Option<(Millis, i64)>,
}

impl Memory {
    /// Forgets everything if another process has had the lease since.
    pub(super) fn belongs_to(&mut self, fence: i64) {
        if self.fence != fence {
            *self = Self { fence, ..Self::default() };
        }
    }

    /// A probe has failed. Returns since when and how often, once that is too often.
    pub(super) fn failed(&mut self, fault: Fault, now: Millis) -> Option<(Millis, u32)> {
        // To be asked for patience is no failure.
        if matches!(fault, Fault::Limited(_) | Fault::UnknownInstance) {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        let since = *self.failing_since.get_or_insert(now);
        let patience = if fault.is_passing() { MAX_FAILED } else { MAX_REFUSED };
        (self.failures >= patience).then_some((since, self.failures))
    }

    /// A probe was answered.
    pub(super) fn answered(&mut self) {
        (self.failures, self.failing_since) = (0, None);
    }

    pub(super) fn forget_counts(&mut self) {
        self.counts = None;
    }

    /// The counts that differ now as they did at the probe before, and when that was; `None` if there was none before.
    pub(super) fn differing(&mut self, counts: Vec<Count>, now: Millis) -> Option<(Millis, Vec<Count>)> {
        let before = self.counts.replace((now, counts.clone()));
        let (at, before) = before?;
        let still = |count: &Count| before.iter().any(|before| count.still_differs(before));
        Some((at, counts.into_iter().filter(still).collect()))
    }

    /// The changes that happened before `until`, of the newest one and the one that was too young before. Where users change
    /// all the time the newest is always too young; the one that is remembered is not for long.
    pub(super) fn due(&mut self, newest: Option<(UserId, Millis)>, until: Millis) -> Vec<(UserId, Millis)> {
        let (mut due, mut young) = (Vec::new(), None);
        for change in self.young.take().into_iter().chain(newest) {
            if change.1 < until {
                due.push(change);
            } else {
                young.get_or_insert(change);
            }
        }
        self.young = young;
        due
    }

    /// Whether to ask for a reconcile now.
    pub(super) fn wants_reconcile(&mut self, is_trouble: bool, now: Millis) -> bool {
        // A clock that went back must not stop it.
        let waits = self.wished.is_some_and(|(at, pause)| (0..pause).contains(&(now.0 - at.0)));
        match (is_trouble, waits) {
            (false, true) => {
                self.wished = self.wished.map(|(at, _)| (at, FIRST_PAUSE_MS));
                false
            }
            (false, false) => {
                self.wished = None;
                false
            }
            (true, true) => false,
            (true, false) => {
                let pause = self.wished.map_or(FIRST_PAUSE_MS, |(_, pause)| (pause * 2).min(LONGEST_PAUSE_MS));
                self.wished = Some((now, pause));
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    fn at(minute: i64) -> Millis {
        Millis(1_760_000_000_000 + minute * MINUTE)
    }

    #[test]
    fn counts_differ_when_the_copy_does_not_come_up() {
        let count = |(clerk, copy): (u64, u64)| vec![Count { kind: Swept::User, clerk, copy }];
        let check = |before: (u64, u64), now: (u64, u64), differs: bool| {
            let mut memory = Memory::default();
            assert_eq!(memory.differing(count(before), at(0)), None, "one look says nothing");
            let (since, found) = memory.differing(count(now), at(1)).unwrap();
            assert_eq!((since, !found.is_empty()), (at(0), differs), "{before:?}, then {now:?}");
        };
        check((5, 5), (5, 5), false);
        check((5, 4), (5, 4), true);
        check((4, 5), (4, 5), true);
        check((5, 4), (5, 5), false);
        check((5, 4), (4, 5), false);
        check((4, 5), (5, 4), false);
        check((5, 5), (6, 5), false);
        // Always something on its way, and never the same: the copy has what Clerk had a minute ago.
        check((105, 100), (205, 200), false);
        check((100, 105), (50, 55), false);
        // Deletions leave a gap as it was.
        check((100, 90), (95, 85), true);
    }

    #[test]
    fn a_change_is_due_two_probes_later_even_where_users_change_all_the_time() {
        let change = |name: &str, minute| (UserId::parse(name).unwrap(), at(minute));
        let mut memory = Memory::default();
        assert_eq!(memory.due(Some(change("user_0", 0)), at(-2)), []);
        assert_eq!(memory.due(Some(change("user_1", 1)), at(-1)), []);
        assert_eq!(memory.due(Some(change("user_2", 2)), at(0)), []);
        assert_eq!(memory.due(Some(change("user_3", 3)), at(1)), [change("user_0", 0)]);
        assert_eq!(memory.due(Some(change("user_3", 3)), at(4)), [change("user_3", 3), change("user_3", 3)]);
        assert_eq!(memory.due(None, at(9)), []);
    }

    #[test]
    fn a_refused_key_is_told_sooner_than_an_outage_and_a_limit_never() {
        let check = |fault: Fault, after: Option<u32>| {
            let mut memory = Memory::default();
            let told = (1..=20).find(|probe| memory.failed(fault, at(i64::from(*probe))).is_some());
            assert_eq!(told, after, "{fault:?}");
            assert_eq!(memory.failed(fault, at(30)).map(|(since, _)| since), after.map(|_| at(1)), "{fault:?}");
            memory.answered();
            assert_eq!(memory.failed(fault, at(31)), None, "{fault:?} begins anew");
        };
        check(Fault::Refused(401), Some(3));
        check(Fault::WrongInstance, Some(3));
        check(Fault::Status(500), Some(10));
        check(Fault::Unreachable("no connection"), Some(10));
        check(Fault::Limited(1000), None);
        check(Fault::UnknownInstance, None);
    }

    #[test]
    fn a_reconcile_is_wished_for_at_most_every_ten_minutes_and_less_while_it_does_not_help() {
        let mut memory = Memory::default();
        let mut wished = Vec::new();
        for minute in 0..100 {
            if memory.wants_reconcile(true, at(minute)) {
                wished.push(minute);
            }
        }
        assert_eq!(wished, [0, 10, 30, 70]);
        assert!(!memory.wants_reconcile(false, at(100)));
        assert!(memory.wants_reconcile(true, at(101)), "another trouble");
        assert!(!memory.wants_reconcile(true, at(110)));
        assert!(!memory.wants_reconcile(false, at(200)));
        assert!(memory.wants_reconcile(true, at(201)));
        assert!(!memory.wants_reconcile(true, at(210)));
        assert!(memory.wants_reconcile(true, at(211)));
        assert!(memory.wants_reconcile(true, at(5)), "a clock that went back");
    }

    #[test]
    fn who_takes_over_begins_without_it() {
        let mut memory = Memory::default();
        memory.belongs_to(1);
        memory.failed(Fault::Refused(401), at(0));
        memory.belongs_to(1);
        assert_eq!(memory.failures, 1);
        memory.belongs_to(3);
        assert_eq!(memory.failures, 0);
    }
}

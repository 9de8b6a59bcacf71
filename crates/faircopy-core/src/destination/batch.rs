//! From a piece of the feed to what is sent at once, and from the answers to what is written down.
//!
//! A batch holds each subject once: what the feed says of it last. So nothing is under way twice about a subject, and its messages
//! arrive in order. Who waits is not passed by his own later changes: they become his.

use std::collections::{BTreeMap, BTreeSet};

use super::schedule::{Failure, after_failure};
use super::{Change, Operation, Subject};
use crate::time::Millis;

/// A subject whose message was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// What is to be sent: the last that happened.
    pub change: Change,
    /// Attempts so far.
    pub attempts: u32,
    /// When the next is due; `None` where it is parked, and waits for a word.
    pub due_at: Option<Millis>,
    /// Since when it waits.
    pub since: Millis,
    /// Why the last attempt failed.
    pub error: String,
}

/// What a place made of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It has it.
    Taken,
    /// It did not take this one. That is the message's own trouble, as far as can be seen.
    Failed {
        /// Another attempt would end the same.
        is_for_good: bool,
        /// `Retry-After`, in milliseconds.
        retry_after_ms: Option<i64>,
        /// Why.
        error: String,
    },
    /// Nothing was said about this message: the place is away, busy or shut, or it was not sent.
    Unsaid,
}

/// What is sent at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// From the feed, or from the walk through the rows; each subject once, in their order.
    pub fresh: Vec<Change>,
    /// Subjects whose next attempt is due.
    pub due: Vec<Waiting>,
    /// Later changes of subjects that wait and are not due.
    pub held: Vec<Change>,
}

/// A piece of the feed, or of the walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Changes up to this number.
    Feed {
        /// The last one of the piece.
        until: i64,
    },
    /// Rows of a walk; there is no number to go on from.
    Walk,
}

/// Makes a batch of a piece of the feed, who waits among its subjects, and who is due.
#[must_use]
pub fn compose(piece: Vec<Change>, waiting: &BTreeSet<Subject>, due: Vec<Waiting>) -> Batch {
    let mut last: BTreeMap<Subject, usize> = BTreeMap::new();
    for (at, change) in piece.iter().enumerate() {
        last.insert(change.subject.clone(), at);
    }
    let mut batch = Batch { due, ..Batch::default() };
    for (at, change) in piece.into_iter().enumerate() {
        if last.get(&change.subject) != Some(&at) {
            continue;
        }
        if let Some(due) = batch.due.iter_mut().find(|due| due.change.subject == change.subject) {
            due.change = newer(&due.change, change);
        } else if waiting.contains(&change.subject) {
            batch.held.push(change);
        } else {
            batch.fresh.push(change);
        }
    }
    batch
}

/// The later one of two changes of a subject. A feed that is read again may bring back what is older; and the same number, without saying
/// that it is part of sending everything again, would be left out there after the sweep.
fn newer(known: &Change, read: Change) -> Change {
    if read.sequence > known.sequence { read } else { known.clone() }
}

/// What is to be written down after a batch, in one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// The place in the feed, where the piece was one of the feed.
    pub place: Option<i64>,
    /// The first fresh subject of which nothing was said. All before it are done with: taken, waiting, or without anything to be told.
    pub stopped_at: Option<Subject>,
    /// Subjects that wait, as they stand now.
    pub waiting: Vec<Waiting>,
    /// Subjects that waited and need not any more.
    pub cleared: Vec<Subject>,
    /// Later changes of subjects that wait: theirs are these now, where their numbers are higher.
    pub held: Vec<Change>,
    /// Messages that were taken.
    pub taken: usize,
    /// Messages that failed.
    pub failed: usize,
    /// Subjects that were parked now.
    pub parked: usize,
}

/// What comes of a batch. `answers` has one for each change of [`Batch::fresh`] and then of [`Batch::due`], `None` where there was nothing
/// to be told. `chance` draws any number, all equally likely.
#[must_use]
pub fn settle(
    batch: Batch,
    turn: Turn,
    answers: Vec<Option<Answer>>,
    mut chance: impl FnMut() -> u64,
    now: Millis,
) -> Settled {
    let mut settled = Settled { held: batch.held, ..Settled::default() };
    let mut answers = answers.into_iter().chain(std::iter::repeat(Some(Answer::Unsaid)));
    let mut first_unsaid = None;
    for change in batch.fresh {
        match answers.next().flatten() {
            None => {}
            Some(Answer::Taken) => settled.taken += 1,
            Some(Answer::Unsaid) => first_unsaid = first_unsaid.or(Some(change)),
            Some(Answer::Failed { is_for_good, retry_after_ms, error }) => {
                let failure = Failure { attempts: 0, is_for_good, retry_after_ms };
                let due_at = after_failure(failure, chance(), now);
                settled.fails(Waiting { change, attempts: 1, due_at, since: now, error });
            }
        }
    }
    for due in batch.due {
        match answers.next().flatten() {
            None => settled.cleared.push(due.change.subject),
            Some(Answer::Taken) => {
                settled.taken += 1;
                settled.cleared.push(due.change.subject);
            }
            // Its change may be a later one now, which the place in the feed has passed.
            Some(Answer::Unsaid) => settled.waiting.push(due),
            Some(Answer::Failed { is_for_good, retry_after_ms, error }) => {
                let failure = Failure { attempts: due.attempts, is_for_good, retry_after_ms };
                let due_at = after_failure(failure, chance(), now);
                settled.fails(Waiting { attempts: due.attempts.saturating_add(1), due_at, error, ..due });
            }
        }
    }
    settled.place = match turn {
        Turn::Feed { until } => Some(first_unsaid.as_ref().map_or(until, |change| change.sequence - 1)),
        Turn::Walk => None,
    };
    settled.stopped_at = first_unsaid.map(|change| change.subject);
    settled
}

impl Settled {
    fn fails(&mut self, waiting: Waiting) {
        self.failed += 1;
        self.parked += usize::from(waiting.due_at.is_none());
        self.waiting.push(waiting);
    }
}

impl Waiting {
    /// Whether it is tried no more.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.due_at.is_none()
    }

    /// Whether what is to be sent is that its row is gone.
    #[must_use]
    pub fn is_removal(&self) -> bool {
        self.change.operation == Operation::Remove
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::destination::{DELAYS_MS, Entity};

    const NOW: Millis = Millis(1_760_000_000_000);

    fn change(sequence: i64, id: &str) -> Change {
        let subject = Subject { entity: Entity::User, id: id.into() };
        Change { sequence, subject, operation: Operation::Put, changed_at: NOW, is_resend: false }
    }

    fn waits(sequence: i64, id: &str, attempts: u32) -> Waiting {
        Waiting { change: change(sequence, id), attempts, due_at: Some(NOW), since: NOW, error: String::new() }
    }

    fn ids(changes: &[Change]) -> Vec<(i64, &str)> {
        changes.iter().map(|change| (change.sequence, change.subject.id.as_str())).collect()
    }

    fn failed(is_for_good: bool) -> Option<Answer> {
        Some(Answer::Failed { is_for_good, retry_after_ms: None, error: "no".into() })
    }

    #[test]
    fn each_subject_is_sent_once_and_who_waits_keeps_his_changes() {
        let piece =
            vec![change(1, "a"), change(2, "b"), change(3, "a"), change(4, "c"), change(5, "d"), change(6, "c")];
        let waiting = ["c", "d"].map(|id| change(0, id).subject).into();
        let batch = compose(piece, &waiting, vec![waits(0, "d", 2)]);
        assert_eq!(ids(&batch.fresh), [(2, "b"), (3, "a")]);
        assert_eq!(ids(&batch.held), [(6, "c")]);
        assert_eq!(batch.due, [waits(5, "d", 2)], "the attempt that is due has the later change at once");
        let again = compose(vec![change(1, "d")], &waiting, vec![waits(5, "d", 2)]);
        assert_eq!(again.due, [waits(5, "d", 2)], "what is read again is not newer");
    }

    #[test]
    fn the_place_goes_on_up_to_what_nothing_was_said_of() {
        let check = |answers: Vec<Option<Answer>>, place: i64, stopped_at: Option<&str>, waiting: &[(i64, &str)]| {
            let piece = vec![change(11, "a"), change(12, "b"), change(14, "c")];
            let batch = compose(piece, &BTreeSet::new(), vec![]);
            let settled = settle(batch, Turn::Feed { until: 15 }, answers, || u64::MAX / 2, NOW);
            assert_eq!(settled.place, Some(place));
            assert_eq!(settled.stopped_at.map(|subject| subject.id).as_deref(), stopped_at);
            let changes: Vec<Change> = settled.waiting.iter().map(|waiting| waiting.change.clone()).collect();
            assert_eq!(ids(&changes), waiting);
        };
        let taken = || Some(Answer::Taken);
        check(vec![taken(), taken(), taken()], 15, None, &[]);
        check(vec![None, None, None], 15, None, &[]);
        check(vec![taken(), Some(Answer::Unsaid), taken()], 11, Some("b"), &[]);
        check(vec![taken(), failed(false), taken()], 15, None, &[(12, "b")]);
        check(vec![failed(true), Some(Answer::Unsaid), failed(false)], 11, Some("b"), &[(11, "a"), (14, "c")]);
        check(vec![], 10, Some("a"), &[]);
    }

    #[test]
    fn a_failure_waits_for_its_time_and_is_parked_in_the_end() {
        let settle_one = |due: Waiting, answer: Option<Answer>| {
            let batch = Batch { due: vec![due], ..Batch::default() };
            settle(batch, Turn::Walk, vec![answer], || u64::MAX / 2, NOW)
        };
        let later = settle_one(waits(5, "a", 3), failed(false));
        assert_eq!(later.waiting[0].due_at, Some(NOW.plus(DELAYS_MS[3])));
        assert_eq!((later.waiting[0].attempts, later.failed, later.parked), (4, 1, 0));
        let parked = settle_one(waits(5, "a", 7), failed(false));
        assert!(parked.waiting[0].is_parked() && parked.parked == 1);
        assert!(settle_one(waits(5, "a", 0), failed(true)).waiting[0].is_parked());
        let unsaid = settle_one(waits(5, "a", 3), Some(Answer::Unsaid));
        assert_eq!(unsaid.waiting, [waits(5, "a", 3)], "nothing about the message");
        for answer in [None, Some(Answer::Taken)] {
            assert_eq!(settle_one(waits(5, "a", 3), answer).cleared, [change(5, "a").subject]);
        }
    }
}

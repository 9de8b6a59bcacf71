//! Questions that are answered together: those that came while the last read ran share the next one.
//!
//! It is the group commit of the writer, for reading. One read at a time would let the program and the database wait for
//! each other, so there are [`MAX_READS`]. Nothing is remembered from one read to the next: an answer is as new as a read
//! of its own would have been.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::error::{Error, Result};

/// Reads under way at once: one works in the database while the answers of another are given out.
const MAX_READS: usize = 2;
/// Questions in one read. More of them would make the first wait for the last.
const MAX_QUESTIONS: usize = 64;
/// Questions that may wait: far more than a read of [`MAX_QUESTIONS`] can fall behind in the deadlines of those who ask.
const MAX_WAITING: usize = 16 * 1024;

/// Where questions wait. Cheap to clone.
pub(crate) struct Desk<Q, A>(Arc<Mutex<State<Q, A>>>);

struct State<Q, A> {
    waiting: VecDeque<(Q, oneshot::Sender<A>)>,
    reads: usize,
}

impl<Q, A> Clone for Desk<Q, A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<Q, A> Default for Desk<Q, A> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State { waiting: VecDeque::new(), reads: 0 })))
    }
}

impl<Q, T> Desk<Q, Result<T>> {
    /// Puts a question, and says whether whoever asked must now start a reader.
    pub(crate) fn ask(&self, question: Q) -> Result<(oneshot::Receiver<Result<T>>, bool)> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        if state.waiting.len() == MAX_WAITING {
            return Err(Error::Unavailable("too many reads are waiting".into()));
        }
        state.waiting.push_back((question, sender));
        let is_new_reader = state.reads < MAX_READS;
        state.reads += usize::from(is_new_reader);
        Ok((receiver, is_new_reader))
    }

    /// The reader that a call of [`Desk::ask`] wanted.
    pub(crate) fn reader(&self) -> Reader<'_, Q, Result<T>> {
        Reader { desk: self, has_ended: std::cell::Cell::new(false) }
    }
}

impl<Q, A> Desk<Q, A> {
    fn state(&self) -> MutexGuard<'_, State<Q, A>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes questions for as long as there are any.
pub(crate) struct Reader<'a, Q, A> {
    desk: &'a Desk<Q, A>,
    has_ended: std::cell::Cell<bool>,
}

impl<Q, A> Reader<'_, Q, A> {
    /// What has been asked by now, without those who have hung up; `None` ends the reader.
    pub(crate) fn next(&self) -> Option<Asked<Q, A>> {
        let mut state = self.desk.state();
        let mut asked = Vec::with_capacity(state.waiting.len().min(MAX_QUESTIONS));
        while asked.len() < MAX_QUESTIONS {
            let Some((question, sender)) = state.waiting.pop_front() else { break };
            if !sender.is_closed() {
                asked.push((question, sender));
            }
        }
        if asked.is_empty() {
            state.reads -= 1;
            self.has_ended.set(true);
            return None;
        }
        Some(Asked(asked))
    }
}

/// A reader that did not come to its end, because it panicked or its runtime ended, leaves nobody waiting for it.
impl<Q, A> Drop for Reader<'_, Q, A> {
    fn drop(&mut self) {
        if !self.has_ended.get() {
            let mut state = self.desk.state();
            state.reads -= 1;
            state.waiting.clear();
        }
    }
}

/// The questions of one read.
pub(crate) struct Asked<Q, A>(Vec<(Q, oneshot::Sender<A>)>);

impl<Q, T> Asked<Q, Result<T>> {
    /// In order.
    pub(crate) fn questions(&self) -> Vec<&Q> {
        self.0.iter().map(|(question, _)| question).collect()
    }

    /// Gives each its own answer, or all of them the failure of the read.
    pub(crate) fn answer(self, answers: Result<Vec<Result<T>>>) {
        let senders = self.0.into_iter().map(|(_, sender)| sender);
        match answers {
            // Whoever has hung up meanwhile needs no answer.
            Ok(answers) => senders.zip(answers).for_each(|(sender, answer)| drop(sender.send(answer))),
            Err(error) => senders.for_each(|sender| drop(sender.send(Err(error.clone())))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Numbers = Desk<u32, Result<u32>>;

    fn ask(desk: &Numbers, number: u32) -> (oneshot::Receiver<Result<u32>>, bool) {
        desk.ask(number).unwrap()
    }

    #[test]
    fn who_comes_during_a_read_shares_the_next() {
        let desk = Numbers::default();
        let (mut first, starts) = ask(&desk, 1);
        assert!(starts);
        let reader = desk.reader();
        let read = reader.next().unwrap();
        let later: Vec<_> = (2..5).map(|number| ask(&desk, number)).collect();
        assert_eq!(later.iter().filter(|(_, starts)| *starts).count(), MAX_READS - 1);
        read.answer(Ok(vec![Ok(10)]));
        assert_eq!(first.try_recv().unwrap().unwrap(), 10);
        let read = reader.next().unwrap();
        assert_eq!(read.questions(), [&2, &3, &4]);
        read.answer(Ok(vec![Ok(20), Err(Error::Busy("row".into())), Ok(40)]));
        let answers: Vec<_> = later.into_iter().map(|(mut answer, _)| answer.try_recv().unwrap().ok()).collect();
        assert_eq!(answers, [Some(20), None, Some(40)]);
        assert!(reader.next().is_none());
    }

    #[test]
    fn a_failure_of_the_read_is_told_to_all_and_forgotten() {
        let desk = Numbers::default();
        let mut asked: Vec<_> = (0..3).map(|number| ask(&desk, number).0).collect();
        // One has hung up.
        drop(asked.remove(1));
        let reader = desk.reader();
        let read = reader.next().unwrap();
        assert_eq!(read.questions(), [&0, &2]);
        read.answer(Err(Error::Unavailable("gone".into())));
        for mut answer in asked {
            assert!(matches!(answer.try_recv().unwrap(), Err(Error::Unavailable(_))));
        }
    }

    #[test]
    fn a_reader_that_breaks_off_leaves_nobody_waiting() {
        let desk = Numbers::default();
        for _ in 0..3 * MAX_READS {
            let (mut answer, starts) = ask(&desk, 1);
            assert!(starts, "its place was given back");
            drop(desk.reader());
            assert!(matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        }
    }

    #[test]
    fn the_queue_and_a_read_are_bounded() {
        let desk = Numbers::default();
        let answers: Vec<_> = (0..MAX_WAITING).map(|_| ask(&desk, 1)).collect();
        assert!(matches!(desk.ask(1), Err(Error::Unavailable(_))));
        let reader = desk.reader();
        assert_eq!(reader.next().unwrap().questions().len(), MAX_QUESTIONS);
        drop(answers);
        assert!(reader.next().is_none());
    }
}

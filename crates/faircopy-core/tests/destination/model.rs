//! The model: what the store keeps is kept here as plain values, and changes only where the worker commits.

use std::collections::{BTreeMap, BTreeSet};

use faircopy_core::Millis;
use faircopy_core::destination::{
    Answer, Change, Entity, Message, Next, Operation, Place, Settled, Subject, Turn, Waiting, compose, settle,
};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

/// Steps of one history.
const STEPS: usize = 120;
/// Changes and rows of one batch: small, so that there are many batches.
const PIECE: usize = 4;
/// Turns after which everything must be told that can be.
const MAX_TURNS: usize = 4_000;

/// How a reader applies what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    Right,
    WithoutNumbers,
    ForgetsRemoved,
    WithoutFloor,
    ResendsLikeOthers,
}

/// Who is told.
pub(crate) struct Reader {
    rule: Rule,
    rows: BTreeMap<Subject, (i64, Option<Value>)>,
    floor: i64,
}

impl Reader {
    pub(crate) fn new(rule: Rule) -> Self {
        Self { rule, rows: BTreeMap::new(), floor: 0 }
    }

    fn take(&mut self, message: &Message) {
        let (change, row) = match message {
            Message::Put(change, row) => (change, Some(row["version"].clone())),
            Message::Remove(change) => (change, None),
            Message::Sweep { sequence, .. } => {
                let rule = self.rule;
                self.rows.retain(|_, (number, row)| {
                    if *number < *sequence {
                        (*number, *row) = (*sequence, None);
                    }
                    rule != Rule::ForgetsRemoved || row.is_some()
                });
                self.floor = self.floor.max(*sequence);
                return;
            }
        };
        let floor = if self.rule == Rule::WithoutFloor { 0 } else { self.floor };
        let known = self.rows.get(&change.subject).map_or(floor, |(number, _)| (*number).max(floor));
        let is_equal_good = change.is_resend && self.rule != Rule::ResendsLikeOthers;
        let is_news = change.sequence > known || (is_equal_good && change.sequence == known);
        if !is_news && self.rule != Rule::WithoutNumbers {
            return;
        }
        if row.is_none() && self.rule == Rule::ForgetsRemoved {
            self.rows.remove(&change.subject);
        } else {
            self.rows.insert(change.subject.clone(), (change.sequence, row));
        }
    }

    /// Somebody changes a row there by mistake, and what is sent again mends it.
    fn damage(&mut self, subject: &Subject) {
        if let Some((_, Some(row))) = self.rows.get_mut(subject) {
            *row = Value::from("damaged");
        }
    }
}

/// What is kept of the destination.
#[derive(Clone, Default)]
struct Kept {
    place: Place,
    waiting: BTreeMap<Subject, Waiting>,
}

/// The copy, its feed, and a destination.
pub(crate) struct World {
    dice: StdRng,
    now: Millis,
    rows: BTreeMap<Subject, u64>,
    feed: Vec<Change>,
    forgotten: i64,
    kept: Kept,
    reader: Reader,
    /// Requests that were given up and are still on their way.
    late: Vec<Message>,
    is_healed: bool,
    /// Who is refused for good.
    pub(crate) poison: Option<String>,
}

impl World {
    pub(crate) fn new(seed: u64, reader: Reader) -> Self {
        Self {
            dice: StdRng::seed_from_u64(seed),
            now: Millis(1_760_000_000_000),
            rows: BTreeMap::new(),
            feed: Vec::new(),
            forgotten: 0,
            kept: Kept { place: Place::default().resend(0, Millis(0)), waiting: BTreeMap::new() },
            reader,
            late: Vec::new(),
            is_healed: false,
            poison: None,
        }
    }

    pub(crate) fn live(&mut self) {
        for _ in 0..STEPS {
            self.now = self.now.plus(self.dice.random_range(0..60_000));
            match self.dice.random_range(0..100) {
                0..45 => self.change(),
                45..82 => self.turn(),
                82..88 => self.late_arrival(),
                88..91 => {
                    self.kept.place = self.kept.place.resend_from(self.newest(), self.now, &mut self.kept.waiting);
                }
                91..93 => self.rewind(),
                93..95 => self.forget(),
                95..98 => self.resume(),
                _ => {
                    let subject = self.somebody();
                    self.reader.damage(&subject);
                    // Damage is mended by what is sent again.
                    self.kept.place = self.kept.place.resend_from(self.newest(), self.now, &mut self.kept.waiting);
                }
            }
        }
    }

    /// Faults end: everything is told, and whatever is late arrives.
    pub(crate) fn heal(&mut self) {
        self.is_healed = true;
        self.resume();
        for _ in 0..MAX_TURNS {
            let before = self.kept.place.clone();
            self.turn();
            let poisoned = self.kept.waiting.keys().filter(|subject| Some(&subject.id) == self.poison.as_ref()).count();
            let is_all_told = matches!(self.next(), Next::Rest) && self.kept.waiting.len() == poisoned;
            if is_all_told && before == self.kept.place {
                break;
            }
        }
        while !self.late.is_empty() {
            self.late_arrival();
        }
    }

    pub(crate) fn difference(&self) -> Option<String> {
        self.difference_but("")
    }

    pub(crate) fn difference_but(&self, id: &str) -> Option<String> {
        let rows: BTreeMap<&Subject, Value> = self
            .rows
            .iter()
            .filter(|(subject, _)| subject.id != id)
            .map(|(subject, version)| (subject, Value::from(*version)))
            .collect();
        let shown = self.reader.rows.iter().filter(|(subject, _)| subject.id != id);
        let shown: BTreeMap<&Subject, Value> =
            shown.filter_map(|(subject, (_, row))| Some((subject, row.clone()?))).collect();
        (rows != shown).then(|| format!("the copy has {rows:?}, the reader {shown:?}"))
    }

    fn newest(&self) -> i64 {
        self.forgotten + i64::try_from(self.feed.len()).unwrap()
    }

    fn somebody(&mut self) -> Subject {
        let entity = if self.dice.random_bool(0.5) { Entity::User } else { Entity::Member };
        let id = ["a", "b", "c", "d", "e", "f"][self.dice.random_range(0..6)].to_owned();
        Subject { entity, id }
    }

    fn change(&mut self) {
        let subject = self.somebody();
        let sequence = self.newest() + 1;
        let is_put = self.dice.random_bool(0.65);
        if is_put {
            self.rows.insert(subject.clone(), sequence.unsigned_abs());
        } else if self.rows.remove(&subject).is_none() {
            return;
        }
        let operation = if is_put { Operation::Put } else { Operation::Remove };
        self.feed.push(Change { sequence, subject, operation, changed_at: self.now, is_resend: false });
    }

    fn forget(&mut self) {
        let gone = self.dice.random_range(0..=self.feed.len() / 2);
        self.feed.drain(..gone);
        self.forgotten += i64::try_from(gone).unwrap();
    }

    fn rewind(&mut self) {
        if self.kept.place.resend.is_none() {
            self.kept.place.sequence = self.dice.random_range(0..=self.kept.place.sequence);
        }
    }

    fn resume(&mut self) {
        for waiting in self.kept.waiting.values_mut() {
            waiting.due_at = Some(self.now);
        }
    }

    fn late_arrival(&mut self) {
        if !self.late.is_empty() {
            let at = self.dice.random_range(0..self.late.len());
            let message = self.late.swap_remove(at);
            self.reader.take(&message);
        }
    }

    fn next(&self) -> Next {
        let count = |parked| self.kept.waiting.values().filter(|waiting| waiting.is_parked() == parked).count();
        let [waiting, parked] = [false, true].map(|parked| i64::try_from(count(parked)).unwrap());
        self.kept.place.next(self.forgotten, self.newest(), waiting, parked)
    }

    /// One turn of the worker, which may be killed anywhere.
    fn turn(&mut self) {
        let next = self.next();
        let (turn, piece, page, has_more) = match next {
            Next::BeginResend => {
                self.kept.place = self.kept.place.resend_from(self.newest(), self.now, &mut self.kept.waiting);
                return;
            }
            Next::Sweep(sweep) => {
                let message = Message::Sweep { sequence: sweep.number, changed_at: sweep.began_at };
                if self.send(message) == Answer::Taken && !self.dies() {
                    self.kept.place.sweep = None;
                }
                return;
            }
            Next::Walk(entity, after) => {
                let resend = self.kept.place.resend.clone().unwrap();
                let all = self.rows.keys().filter(|subject| subject.entity == entity && subject.id > after);
                let page: Vec<Subject> = all.take(PIECE + 1).cloned().collect();
                let has_more = page.len() > PIECE;
                let page: Vec<Subject> = page.into_iter().take(PIECE).collect();
                let changes = page.iter().map(|subject| Change {
                    sequence: resend.number,
                    subject: subject.clone(),
                    operation: Operation::Put,
                    changed_at: resend.began_at,
                    is_resend: true,
                });
                (Turn::Walk, changes.collect::<Vec<_>>(), page, has_more)
            }
            Next::Feed(after) => {
                let piece: Vec<Change> =
                    self.feed.iter().filter(|change| change.sequence > after).take(PIECE).cloned().collect();
                (Turn::Feed { until: piece.last().unwrap().sequence }, piece, vec![], false)
            }
            Next::Rest => (Turn::Feed { until: self.kept.place.sequence }, vec![], vec![], false),
        };
        let waiting: BTreeSet<Subject> = self.kept.waiting.keys().cloned().collect();
        let due = self.kept.waiting.values().filter(|waiting| waiting.due_at.is_some_and(|at| at <= self.now));
        let batch = compose(piece, &waiting, due.take(PIECE).cloned().collect());
        let mut answers = Vec::new();
        let all = batch.fresh.iter().chain(batch.due.iter().map(|due| &due.change)).cloned().collect::<Vec<_>>();
        for change in all {
            // The copy goes on meanwhile.
            if !self.is_healed && self.dice.random_bool(0.1) {
                self.change();
            }
            let version = self.rows.get(&change.subject).map(|version| [("version".to_owned(), Value::from(*version))]);
            let Some(message) = Message::of(change, version) else {
                answers.push(None);
                continue;
            };
            let answer = self.send(message);
            if self.dies() {
                return;
            }
            let is_end = answer == Answer::Unsaid && self.dice.random_bool(0.5);
            answers.push(Some(answer));
            if is_end {
                break;
            }
        }
        let chance = self.dice.random::<u64>();
        let settled = settle(batch, turn, answers, || chance, self.now);
        if !self.dies() {
            let ids: Vec<String> = page.into_iter().map(|subject| subject.id).collect();
            self.commit(turn, &settled, &ids, has_more);
        }
    }

    fn dies(&mut self) -> bool {
        !self.is_healed && self.dice.random_bool(0.08)
    }

    fn commit(&mut self, turn: Turn, settled: &Settled, page: &[String], has_more: bool) {
        for subject in &settled.cleared {
            self.kept.waiting.remove(subject);
        }
        for waiting in &settled.waiting {
            self.kept.waiting.insert(waiting.change.subject.clone(), waiting.clone());
        }
        for change in &settled.held {
            let waiting = self.kept.waiting.get_mut(&change.subject).unwrap();
            if change.sequence > waiting.change.sequence {
                waiting.change = change.clone();
            }
        }
        match turn {
            Turn::Feed { .. } => self.kept.place.sequence = settled.place.unwrap(),
            Turn::Walk => self.kept.place = self.kept.place.walked(page, has_more, settled.stopped_at.as_ref()),
        }
    }

    fn send(&mut self, message: Message) -> Answer {
        let is_poison = message.change().is_some_and(|change| Some(&change.subject.id) == self.poison.as_ref());
        let failed = |is_for_good| Answer::Failed { is_for_good, retry_after_ms: None, error: String::new() };
        if is_poison {
            return failed(true);
        }
        if self.is_healed {
            self.reader.take(&message);
            return Answer::Taken;
        }
        match self.dice.random_range(0..20) {
            0 => failed(true),
            1 => failed(false),
            2 => Answer::Unsaid,
            // It arrives, and the answer is lost.
            3 => {
                self.reader.take(&message);
                failed(false)
            }
            4 => {
                self.reader.take(&message);
                Answer::Unsaid
            }
            // It is given up, and arrives later.
            5 => {
                self.late.push(message);
                failed(false)
            }
            6 => {
                self.late.push(message);
                Answer::Unsaid
            }
            // It arrives twice.
            7 => {
                self.reader.take(&message);
                self.late.push(message);
                Answer::Taken
            }
            _ => {
                self.reader.take(&message);
                Answer::Taken
            }
        }
    }
}

trait ResendFrom {
    fn resend_from(&self, newest: i64, now: Millis, waiting: &mut BTreeMap<Subject, Waiting>) -> Place;
}

impl ResendFrom for Place {
    /// What waits is forgotten: all of it is sent again.
    fn resend_from(&self, newest: i64, now: Millis, waiting: &mut BTreeMap<Subject, Waiting>) -> Place {
        waiting.clear();
        self.resend(newest, now)
    }
}

//! What is explained is what the merge does (docs/decisions/0019-explain.md): over random histories with tokens and denials
//! strewn in, for every subject and at every time.

use std::collections::BTreeSet;

use faircopy_core::Millis;
use faircopy_core::event::{Fact, Observation};
use faircopy_core::explain::{Content, Explained, Outcome, Record, Row, Told, explain};
use faircopy_core::merge::{Key, Verdict as News};
use faircopy_core::record::Provenance;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::copy::{Replica, Rows};
use crate::history::History;
use crate::oracle::{Verdict, demand};
use crate::{every_history, tokens};

/// Everything that came of a history, and the tables after each.
struct Course {
    came: Vec<Vec<Observation>>,
    news: Vec<bool>,
    after: Vec<Replica>,
}

impl Course {
    fn random(history: &History, dice: &mut StdRng) -> Self {
        let order = history.order(dice);
        let mut came: Vec<Vec<Observation>> =
            order.iter().map(|&place| history.deliveries[place].observations.clone()).collect();
        for token in tokens(history, dice) {
            came.insert(dice.random_range(0..=came.len()), token.observations);
        }
        for denial in denials(&came, dice) {
            came.insert(dice.random_range(0..=came.len()), vec![denial]);
        }
        let mut replica = Replica::default();
        let (mut news, mut after) = (Vec::new(), Vec::new());
        for observations in &came {
            news.push(replica.merge(&observations.iter().collect::<Vec<_>>()) == News::News);
            after.push(replica.clone());
        }
        Self { came, news, after }
    }

    /// Everything from a place on, as it is told of a subject.
    fn told(&self, subject: &Key, from: usize, is_recorded: bool) -> Vec<Told> {
        let told = |place: usize| Told {
            at: Millis(i64::try_from(place).expect("few places")),
            content: Content::Observed(self.came[place].clone()),
            was_news: is_recorded.then(|| self.news[place]),
            is_own: self.came[place].first().is_some_and(|own| own.fact.key() == *subject),
        };
        (from..self.came.len()).map(told).collect()
    }

    fn subjects(&self) -> BTreeSet<Key> {
        self.came.iter().flatten().map(|observation| observation.fact.key()).collect()
    }
}

/// Reads of Clerk that find nothing, about whoever comes.
fn denials(came: &[Vec<Observation>], dice: &mut StdRng) -> Vec<Observation> {
    let facts = came.iter().flatten().filter_map(|observation| {
        let at = observation.fact.happened_at().plus(dice.random_range(-5_000..=5_000));
        let fact = match observation.fact.key() {
            Key::User(id) => Fact::UserNotFound(id, at),
            Key::Organization(id) => Fact::OrganizationNotFound(id, at),
            Key::Pair(organization, user) => Fact::NotAMember(organization, user, at),
            Key::Membership(_) | Key::Invitation(_) => return None,
        };
        dice.random_bool(0.1).then_some(Observation { source: Provenance::Api, fact })
    });
    facts.collect()
}

/// The row of a subject in the tables.
fn row_of(subject: &Key, rows: &Rows) -> Option<Row> {
    match subject {
        Key::User(id) => rows.users.get(id).map(|(user, source)| (Record::User(user.clone()), *source)),
        Key::Organization(id) => {
            rows.organizations.get(id).map(|(row, source)| (Record::Organization(row.clone()), *source))
        }
        Key::Pair(organization, user) => {
            let row = rows.members.get(&(organization.clone(), user.clone()));
            row.map(|(member, source)| (Record::Member(member.clone()), *source))
        }
        Key::Invitation(id) => rows.invitations.get(id).map(|(row, source)| (Record::Invitation(row.clone()), *source)),
        Key::Membership(_) => None,
    }
}

/// The row at each time.
fn rows_over(explained: &Explained, from: usize, count: usize) -> Vec<Option<Row>> {
    let mut steps = explained.steps.iter().peekable();
    let mut row = None;
    (0..count - from)
        .map(|place| {
            if let Some(step) = steps.next_if(|step| step.told == place) {
                row = step.row.clone();
            }
            row.clone()
        })
        .collect()
}

fn content(fact: &Fact) -> Option<Record> {
    match fact {
        Fact::User(user, _) | Fact::PartOfUser(user, _) => Some(Record::User(user.clone())),
        Fact::Organization(organization, _) | Fact::PartOfOrganization(organization, _) => {
            Some(Record::Organization(organization.clone()))
        }
        Fact::Member(member, ..) | Fact::TokenMember(member, _) => Some(Record::Member(member.clone())),
        Fact::Invitation(invitation, _) => Some(Record::Invitation(invitation.clone())),
        _ => None,
    }
}

/// A step's word is true: who won is in the row, who lost changed nothing, what ended is gone.
fn check_words(subject: &Key, course: &Course, explained: &Explained) -> Verdict {
    let mut before: Option<Row> = None;
    for step in &explained.steps {
        let said = || format!("{subject}, step {}: {:?}", step.told, step.finding);
        let row = step.row.as_ref();
        let is_true = match step.finding.outcome() {
            Outcome::Won | Outcome::Filled => {
                let mut told = course.came[step.told].iter().filter_map(|observation| content(&observation.fact));
                row.is_some_and(|(record, _)| told.any(|told| told == *record))
            }
            Outcome::Withdrawn => row.is_none(),
            // A younger token may speak for a pair whose membership has ended.
            Outcome::Ended => row.is_none_or(|(_, source)| *source == Provenance::Token),
            Outcome::Same => row.map(|(record, _)| record) == before.as_ref().map(|(record, _)| record),
            Outcome::Lost | Outcome::Absorbed => step.row == before,
            Outcome::Ignored | Outcome::Quarantined | Outcome::Erased => false,
        };
        demand(is_true, "words", || format!("{}\n{before:#?}\n{row:#?}", said()))?;
        before = step.row.clone();
    }
    Ok(())
}

#[test]
fn what_is_explained_at_any_time_is_what_the_merge_gave_then() {
    every_history(20, |seed| {
        let history = History::random(seed);
        let mut dice = StdRng::seed_from_u64(seed.rotate_left(7));
        let course = Course::random(&history, &mut dice);
        for subject in course.subjects() {
            let explained = explain(&subject, &course.told(&subject, 0, false));
            for (place, (row, real)) in
                rows_over(&explained, 0, course.came.len()).iter().zip(&course.after).enumerate()
            {
                let real = row_of(&subject, &real.rows);
                demand(*row == real, "explained", || format!("{subject} at {place}: {row:#?} instead of {real:#?}"))?;
            }
            let stored = course.after.last().and_then(|replica| replica.registers.get(&subject));
            demand(explained.ends_like(stored), "registers", || format!("{subject}: {explained:#?}\n{stored:#?}"))?;
            check_words(&subject, &course, &explained)?;
        }
        Ok(())
    });
}

/// What came first is not kept. What is said to be complete is right all the same: of users, organizations and invitations. (Of a
/// membership the record does not say whether it was the news, or the organization that the same delivery embeds.)
#[test]
fn what_is_said_to_be_complete_is_right_whatever_was_forgotten() {
    every_history(20, |seed| {
        let history = History::random(seed);
        let mut dice = StdRng::seed_from_u64(seed.rotate_left(11));
        let course = Course::random(&history, &mut dice);
        let from = dice.random_range(0..course.came.len());
        for subject in course.subjects().into_iter().filter(|subject| !matches!(subject, Key::Pair(..))) {
            let explained = explain(&subject, &course.told(&subject, from, true));
            let Some(since) = explained.complete_since else { continue };
            let rows = rows_over(&explained, from, course.came.len());
            for (row, place) in rows.iter().zip(from..).filter(|(_, place)| i64::try_from(*place).unwrap() >= since.0) {
                let real = row_of(&subject, &course.after[place].rows);
                demand(*row == real, "complete", || {
                    format!(
                        "{subject} at {place}, from {from}, since {since:?}: {row:#?} instead of {real:#?}\n{explained:#?}"
                    )
                })?;
            }
        }
        Ok(())
    });
}

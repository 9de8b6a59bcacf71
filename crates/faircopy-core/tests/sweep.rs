//! Walks through lists that change while they are read.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use faircopy_core::sweep::{From, OVERLAP, PAGE, Step, Walk};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::collections::BTreeSet;

/// Random lists that change while they are read.
const HISTORIES: u64 = 400;

/// A list as Clerk would give it, oldest row first.
struct List {
    rows: Vec<String>,
    /// What it makes of a cursor.
    cursors: Cursors,
    /// The longest page that it gives.
    cap: usize,
    made: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cursors {
    Honoured,
    Ignored,
    Refused,
}

impl List {
    fn of(length: usize, cursors: Cursors, cap: usize) -> Self {
        let mut list = Self { rows: Vec::new(), cursors, cap, made: 0 };
        (0..length).for_each(|_| list.grow());
        list
    }

    fn grow(&mut self) {
        self.made += 1;
        self.rows.push(format!("user_{:06}", self.made));
    }

    fn page(&self, from: From<'_>) -> Option<Vec<String>> {
        let first = match (from, self.cursors) {
            (From::Offset(offset), _) => offset,
            (From::After(_), Cursors::Ignored) => 0,
            (From::After(_), Cursors::Refused) => return None,
            // Rows are made in the order of their names, so that a cursor whose row is gone still has its place.
            (From::After(id), Cursors::Honoured) => self.rows.partition_point(|row| row.as_str() <= id),
        };
        Some(self.rows.iter().skip(first).take(PAGE.min(self.cap)).cloned().collect())
    }
}

/// Walks to the end while `change` changes the list between pages. Returns what was seen, and how many pages it took.
fn walk(
    list: &mut List,
    has_cursors: bool,
    has_total: bool,
    mut change: impl FnMut(&mut List),
) -> (BTreeSet<String>, u64) {
    let (mut walk, mut seen) = (Walk::new(has_cursors), BTreeSet::new());
    for _ in 0..10_000 {
        let total = has_total.then_some(list.rows.len() as u64);
        let Some(page) = list.page(walk.from()) else {
            walk.refused();
            continue;
        };
        let ids: Vec<&str> = page.iter().map(String::as_str).collect();
        let stored = serde_json::to_string(&walk).unwrap();
        let mut resumed: Walk = serde_json::from_str(&stored).unwrap();
        let taken = walk.take(&ids, total);
        assert_eq!(resumed.take(&ids, total), taken, "a stored walk goes on as the one that was stored");
        seen.extend(page.iter().cloned());
        match taken.step {
            Step::More => change(list),
            Step::End => return (seen, walk.pages()),
            Step::Endless => panic!("endless"),
        }
    }
    panic!("no end after 10,000 pages");
}

fn names(list: &List) -> BTreeSet<String> {
    list.rows.iter().cloned().collect()
}

#[test]
fn every_list_is_read_to_its_end() {
    for length in [0, 1, 19, 20, 21, 479, 480, 481, 499, 500, 501, 1000, 1499, 2345] {
        for cursors in [Cursors::Honoured, Cursors::Ignored, Cursors::Refused] {
            for (has_cursors, has_total) in [(false, true), (true, true), (true, false), (false, false)] {
                let mut list = List::of(length, cursors, PAGE);
                let (seen, pages) = walk(&mut list, has_cursors, has_total, |_| {});
                assert_eq!(seen, names(&list), "{length} {cursors:?}");
                let needed = length as u64 / (PAGE - OVERLAP) as u64 + 3;
                assert!(pages <= needed, "{pages} pages for {length} rows, {cursors:?}");
            }
        }
    }
}

#[test]
fn pages_that_are_shorter_than_asked_for_are_no_end() {
    for cap in [100, 499] {
        let mut list = List::of(1234, Cursors::Honoured, cap);
        for has_cursors in [true, false] {
            assert_eq!(walk(&mut list, has_cursors, true, |_| {}).0, names(&list));
        }
    }
}

/// What was there all the time is seen, whatever was made and deleted between the pages.
#[test]
fn a_row_that_stays_is_seen() {
    for seed in 0..HISTORIES {
        let mut dice = StdRng::seed_from_u64(seed);
        let cursors = [Cursors::Honoured, Cursors::Ignored, Cursors::Refused][dice.random_range(0..3)];
        let has_cursors = dice.random_bool(0.5);
        let mut list = List::of(dice.random_range(0..4000), cursors, PAGE);
        let worst = [0, 5, 19, 60, 400][dice.random_range(0..5)];
        let mut stayed = names(&list);
        let (seen, _) = walk(&mut list, has_cursors, dice.random_bool(0.8), |list| {
            for _ in 0..dice.random_range(0..=worst) {
                if !list.rows.is_empty() {
                    let gone = list.rows.remove(dice.random_range(0..list.rows.len()));
                    stayed.remove(&gone);
                }
            }
            (0..dice.random_range(0..10)).for_each(|_| list.grow());
        });
        let missed: Vec<_> = stayed.difference(&seen).collect();
        assert!(missed.is_empty(), "seed {seed}: {cursors:?}, at most {worst} deletions: missed {missed:?}");
    }
}

/// The mutant: pages that do not overlap miss rows, as merge.md says of them.
#[test]
fn without_an_overlap_rows_are_missed() {
    let mut list = List::of(3000, Cursors::Honoured, PAGE);
    let mut stayed = names(&list);
    let (mut seen, mut offset) = (BTreeSet::new(), 0);
    while let Some(page) = list.page(From::Offset(offset)).filter(|page| !page.is_empty()) {
        offset += page.len();
        seen.extend(page);
        stayed.remove(&list.rows.remove(7));
    }
    assert!(stayed.difference(&seen).next().is_some());
}

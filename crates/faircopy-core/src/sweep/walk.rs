//! The way through one list, oldest row first.
//!
//! Where Clerk has cursors the next page begins after the last row. Where it has offsets only, a row that is deleted
//! meanwhile shifts all behind it towards the reader, and the next page would begin too late: so each page begins a little
//! before the end of the one before, and if it shows none of that page's last rows, it is read again further back.

use serde::{Deserialize, Serialize};

/// Rows of one page: Clerk gives no more (clerk-facts.md, section 2.2).
pub const PAGE: usize = 500;
/// How many of the last rows the next page should show again. So many deletions between two pages cost nothing.
pub const OVERLAP: usize = 20;
/// Pages of one walk: fifty million rows. A list that has more never ends.
pub const MAX_PAGES: u64 = 100_000;
/// How much further back a page begins each time that the overlap is not found.
const BACK_FACTOR: usize = 4;

/// Where the next page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From<'a> {
    /// After so many rows.
    Offset(usize),
    /// After this row.
    After(&'a str),
}

/// How it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There may be more: ask again.
    More,
    /// This was the end.
    End,
    /// More pages than [`MAX_PAGES`]: this list does not end.
    Endless,
}

/// What of a page is new to the walk, and how it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The first row that was not in the page before; the page's length if there is none.
    pub fresh: usize,
    /// How it goes on.
    pub step: Step,
}

/// A walk under way. It can be stored after each page, and goes on from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    way: Way,
    /// The first row of all.
    first: Option<String>,
    /// The last rows, oldest first.
    tail: Vec<String>,
    /// Rows that were read, those of an overlap once.
    rows: u64,
    pages: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Way {
    Cursor,
    /// The rows up to `next` were read; the next page begins `back` rows before it.
    Offset {
        next: usize,
        back: usize,
    },
}

impl Walk {
    /// The beginning of a list that has cursors, or has not.
    #[must_use]
    pub fn new(has_cursors: bool) -> Self {
        let way = if has_cursors { Way::Cursor } else { Way::Offset { next: 0, back: OVERLAP } };
        Self { way, first: None, tail: Vec::new(), rows: 0, pages: 0 }
    }

    /// What to ask for.
    #[must_use]
    pub fn from(&self) -> From<'_> {
        match &self.way {
            Way::Cursor => self.tail.last().map_or(From::Offset(0), |id| From::After(id)),
            Way::Offset { next, back } => From::Offset(next.saturating_sub(*back)),
        }
    }

    /// Rows that were read so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Pages that were read so far.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Whether cursors are used.
    #[must_use]
    pub fn has_cursor(&self) -> bool {
        matches!(self.way, Way::Cursor)
    }

    /// The cursor was refused, perhaps because its row is gone, or is not understood: on by offset, from where it stands.
    pub fn refused(&mut self) {
        let next = usize::try_from(self.rows).unwrap_or(usize::MAX);
        self.way = Way::Offset { next, back: OVERLAP };
    }

    /// Takes the answer to [`Walk::from`]: the ids of a page in their order, and how many rows there are in all, where
    /// that is known.
    pub fn take(&mut self, ids: &[&str], total: Option<u64>) -> Taken {
        self.pages += 1;
        let taken = match self.way {
            Way::Cursor => self.after_cursor(ids, total),
            Way::Offset { next, back } => self.at_offset(ids, total, next, back),
        };
        match taken.step {
            Step::More if self.pages >= MAX_PAGES => Taken { step: Step::Endless, ..taken },
            _ => taken,
        }
    }

    fn after_cursor(&mut self, ids: &[&str], total: Option<u64>) -> Taken {
        // An older deployment that ignores the cursor answers with the first page for ever.
        let is_ignored = |id: &&str| self.first.as_deref() == Some(*id) || self.tail.iter().any(|known| known == id);
        if ids.iter().any(is_ignored) {
            self.refused();
            return Taken { fresh: ids.len(), step: Step::More };
        }
        self.advance(ids);
        let is_last = ids.is_empty() || (ids.len() < PAGE && total.is_none_or(|total| self.rows >= total));
        Taken { fresh: 0, step: if is_last { Step::End } else { Step::More } }
    }

    fn at_offset(&mut self, ids: &[&str], total: Option<u64>, next: usize, back: usize) -> Taken {
        let offset = next.saturating_sub(back);
        let known = ids.iter().rposition(|id| self.tail.iter().any(|known| known == id));
        if known.is_none() && !self.tail.is_empty() && offset > 0 {
            // Too much is gone: the rows behind the last one have moved before this page.
            self.way = Way::Offset { next, back: back.saturating_mul(BACK_FACTOR) };
            return Taken { fresh: ids.len(), step: Step::More };
        }
        let fresh = known.map_or(0, |known| known + 1);
        let reached = offset + ids.len();
        self.way = Way::Offset { next: reached, back: OVERLAP };
        self.advance(&ids[fresh..]);
        let ends_short = ids.len() < PAGE && total.is_none_or(|total| reached as u64 >= total);
        let is_last = ends_short || fresh == ids.len();
        Taken { fresh, step: if is_last { Step::End } else { Step::More } }
    }

    fn advance(&mut self, fresh: &[&str]) {
        if let (None, Some(first)) = (&self.first, fresh.first()) {
            self.first = Some((*first).to_owned());
        }
        self.rows += fresh.len() as u64;
        self.tail.extend(fresh.iter().rev().take(OVERLAP).rev().map(|id| (*id).to_owned()));
        self.tail.drain(..self.tail.len().saturating_sub(OVERLAP));
    }
}

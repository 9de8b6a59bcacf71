//! Catching up: the users that changed last are read, newest first, as far as the copy may not know them. It costs a page or
//! two where a sweep costs them all. Users alone can be asked for in this order (clerk-facts.md, section 2.3), and nothing
//! that was deleted is found.

use faircopy_core::event::Fact;
use faircopy_core::sweep::PAGE;
use faircopy_core::{Millis, Observation};

use super::{Stop, Sweeper};
use crate::app::Refusal;
use crate::upstream::clerk::{Cut, List, Start};

/// How much further back than was asked for: clocks are apart, and Clerk's list may be behind.
const MARGIN_MS: i64 = 60_000;
/// Pages of one catch-up. What is further behind is for a reconcile.
const MAX_PAGES: usize = 20;
/// Rows that the next page shows again: users that change meanwhile move to the front and push the others back, so this is
/// for those that are deleted.
const OVERLAP: usize = 20;

/// What a catch-up found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CaughtUp {
    /// Users that were read.
    pub read: usize,
    /// Users of whom the copy did not know the newest version.
    pub behind: usize,
    /// The newest change that Clerk knows of.
    pub newest: Option<Millis>,
    /// Everything since the time that was asked for was read.
    pub is_complete: bool,
}

impl Sweeper {
    /// Reads the users that have changed since then into the copy.
    pub async fn catch_up(&self, since: Millis) -> Result<CaughtUp, Stop> {
        let since = since.plus(-MARGIN_MS);
        let mut caught = CaughtUp::default();
        let mut offset = 0;
        for _ in 0..MAX_PAGES {
            let cut = Cut { limit: PAGE, from: Start::Offset(offset) };
            let answer = self.clerk.page(&List::NewestUsers, cut, self.share).await?;
            let items = answer.found.map(|page| page.items).unwrap_or_default();
            let length = items.len();
            let own: Vec<Observation> = items.into_iter().filter_map(|item| item.reading.ok()).flatten().collect();
            let changed = own.iter().filter_map(changed_at);
            caught.read += length;
            caught.newest = caught.newest.max(changed.clone().max());
            let oldest = changed.min();
            let found = self.store.differences(&own, self.clock.now()).await?;
            let behind = own
                .into_iter()
                .filter(|observation| found.iter().any(|difference| difference.subject == observation.fact.subject()));
            let behind: Vec<Observation> = behind.collect();
            caught.behind += behind.len();
            if !behind.is_empty() {
                self.intake.learn(behind).await.map_err(|refusal: Refusal| Stop::Copy(refusal.to_string()))?;
            }
            if length < PAGE || oldest.is_some_and(|oldest| oldest < since) {
                caught.is_complete = true;
                return Ok(caught);
            }
            offset += length - OVERLAP;
        }
        Ok(caught)
    }
}

fn changed_at(observation: &Observation) -> Option<Millis> {
    match &observation.fact {
        Fact::User(user, _) => user.updated_at,
        _ => None,
    }
}

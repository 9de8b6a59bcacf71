//! What a sweep found: counts for each kind, the differences one by one as far as they are few, and what held it back.
//! Ids and names of columns only, nothing personal.

use std::collections::BTreeMap;

use faircopy_core::Millis;
use faircopy_core::sweep::Hold;
use faircopy_store::Swept;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Differences that are told one by one; beyond it they are counted only.
pub const MAX_TOLD: usize = 1_000;

/// A report, under way or final.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Report {
    /// `backfill` or `reconcile`.
    pub kind: String,
    /// Nothing was changed.
    pub dry_run: bool,
    /// When the walks began.
    #[schema(value_type = String, format = DateTime)]
    pub began_at: Millis,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Millis>,
    /// How it ended.
    pub outcome: Option<Ending>,
    /// What was found of each kind.
    #[schema(value_type = HashMap<String, Tally>)]
    pub kinds: BTreeMap<Swept, Tally>,
    /// The first 1,000 differences ([`MAX_TOLD`]).
    pub differences: Vec<Drift>,
    /// There were more than are told.
    pub has_more: bool,
    /// Questions that were put to Clerk.
    pub requests: u64,
    /// How long Clerk's rate limit was waited for, in milliseconds.
    pub waited_ms: u64,
}

/// How a sweep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// Clerk and the copy were equal.
    Exact,
    /// They were not, and are now.
    Repaired,
    /// Differences were found and left: a dry run, or a guard, which is named.
    Differences,
}

impl Ending {
    /// As the sweeps' table holds it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Repaired => "repaired",
            Self::Differences => "differences",
        }
    }
}

/// What was found of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tally {
    /// Rows that Clerk's list held.
    pub seen: u64,
    /// How many there are, as Clerk says.
    pub total: Option<u64>,
    /// Clerk had them, the copy had not.
    pub missing: u64,
    /// The copy had them, Clerk has not.
    pub extra: u64,
    /// Both had them, not alike.
    pub different: u64,
    /// Of the missing and the different: written now.
    pub repaired: u64,
    /// Of the extra: removed now.
    pub removed: u64,
    /// Of all these: still so.
    pub left: u64,
    /// The copy was ahead of what Clerk's list said: no difference.
    pub ahead: u64,
    /// Records that could not be understood.
    pub unreadable: u64,
    /// Rows that were not in the list, and that Clerk has all the same.
    pub overlooked: u64,
    /// Why nothing was taken for gone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schema(value_type = Option<Object>)]
    pub hold: Option<Hold>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Drift {
    /// Which table.
    pub kind: Swept,
    /// Which row.
    pub id: String,
    /// How it differed.
    pub difference: Direction,
    /// The columns that differed.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub columns: Vec<String>,
    /// What became of it: `repaired`, `removed`, or why it was left.
    pub then: String,
}

/// How a row differed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Clerk has it, the copy had not.
    Missing,
    /// The copy had it, Clerk has not.
    Extra,
    /// Both have it, not alike.
    Different,
}

impl Report {
    /// The counts of a kind.
    pub fn of(&mut self, kind: Swept) -> &mut Tally {
        self.kinds.entry(kind).or_default()
    }

    /// Tells a difference.
    pub fn tell(&mut self, drift: Drift) {
        if self.differences.len() < MAX_TOLD {
            self.differences.push(drift);
        } else {
            self.has_more = true;
        }
    }

    /// How it stands, once nothing more can be found.
    #[must_use]
    pub fn ending(&self) -> Ending {
        let sum = |count: fn(&Tally) -> u64| self.kinds.values().map(count).sum::<u64>();
        let is_held = self.kinds.values().any(|tally| tally.hold.is_some());
        if is_held || sum(|tally| tally.left + tally.unreadable) > 0 {
            Ending::Differences
        } else if sum(|tally| tally.missing + tally.different + tally.extra) > 0 {
            Ending::Repaired
        } else {
            Ending::Exact
        }
    }
}

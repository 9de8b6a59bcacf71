//! What goes wrong with deliveries.

use serde::{Deserialize, Serialize};

use super::{LONGEST_MS, Unfit, check_percent, check_range};
use crate::chance::Chance;

/// The widest reordering: so many later messages can overtake one.
const MAX_WINDOW: u32 = 10_000;

/// What goes wrong with deliveries. Rates are in per cent of the deliveries, unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeliveryChaos {
    /// Sent once more than needed, with the same id.
    pub duplicate_percent: f64,
    /// Never sent, and never again: the sender takes it for delivered, and counts it as lost.
    pub drop_percent: f64,
    /// Of the attempts: signed with a wrong key.
    pub corrupt_percent: f64,
    /// Held back until later messages have overtaken it.
    pub reorder_percent: f64,
    /// By how many at most.
    pub reorder_window: u32,
    /// What is held back goes after so many milliseconds even if nothing overtakes it.
    pub reorder_patience_ms: i64,
    /// Comes late.
    pub delay_percent: f64,
    /// By how many milliseconds, at least and at most.
    pub delay_ms: [i64; 2],
    /// Every receiver is as if down: each attempt fails at the time that it was due.
    pub outage: bool,
    /// When the outage ends by itself, in milliseconds since 1970.
    pub outage_until_ms: Option<i64>,
}

impl Default for DeliveryChaos {
    fn default() -> Self {
        Self {
            duplicate_percent: 0.0,
            drop_percent: 0.0,
            corrupt_percent: 0.0,
            reorder_percent: 0.0,
            reorder_window: 10,
            reorder_patience_ms: 1_000,
            delay_percent: 0.0,
            delay_ms: [0, 10_000],
            outage: false,
            outage_until_ms: None,
        }
    }
}

/// What becomes of one message on its way to one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fate {
    /// Never sent.
    pub lost: bool,
    /// Sent once more.
    pub doubled: bool,
    /// Sent so much later.
    pub delay_ms: i64,
    /// Held back until so many later ones have been sent.
    pub overtaken_by: u32,
}

impl DeliveryChaos {
    pub(super) fn check(&self) -> Result<(), Unfit> {
        check_percent("deliveries.duplicate_percent", self.duplicate_percent)?;
        check_percent("deliveries.drop_percent", self.drop_percent)?;
        check_percent("deliveries.corrupt_percent", self.corrupt_percent)?;
        check_percent("deliveries.reorder_percent", self.reorder_percent)?;
        check_percent("deliveries.delay_percent", self.delay_percent)?;
        check_range("deliveries.delay_ms", self.delay_ms)?;
        if !(1..=MAX_WINDOW).contains(&self.reorder_window) {
            return Err(Unfit { name: "deliveries.reorder_window", rule: "must be from 1 to 10000" });
        }
        if !(0..=LONGEST_MS).contains(&self.reorder_patience_ms) {
            return Err(Unfit { name: "deliveries.reorder_patience_ms", rule: "must be from 0 to 86400000" });
        }
        Ok(())
    }

    /// What becomes of a message on its way to an endpoint, both by their numbers.
    #[must_use]
    pub fn fate(&self, chance: Chance, message: u64, endpoint: u64) -> Fate {
        let about = [message, endpoint];
        let happens = |what: &str, rate: f64| chance.of(what, &about).percent(rate);
        if happens("drop", self.drop_percent) {
            return Fate { lost: true, ..Fate::default() };
        }
        let [soonest, latest] = self.delay_ms;
        let delayed = happens("delay", self.delay_percent);
        let reordered = happens("reorder", self.reorder_percent);
        let by = chance.of("overtaken", &about).between(1, i64::from(self.reorder_window));
        Fate {
            lost: false,
            doubled: happens("duplicate", self.duplicate_percent),
            delay_ms: if delayed { chance.of("late", &about).between(soonest, latest) } else { 0 },
            overtaken_by: if reordered { u32::try_from(by).unwrap_or(1) } else { 0 },
        }
    }

    /// Whether an attempt carries a wrong signature: the message's number, the endpoint's, and how many came before.
    #[must_use]
    pub fn corrupts(&self, chance: Chance, attempt: [u64; 3]) -> bool {
        chance.of("corrupt", &attempt).percent(self.corrupt_percent)
    }

    /// Whether nobody was there to take a delivery at this time.
    #[must_use]
    pub fn outage_at(&self, at_ms: i64) -> bool {
        self.outage && self.outage_until_ms.is_none_or(|end| at_ms < end)
    }
}

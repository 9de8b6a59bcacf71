//! What goes wrong on purpose: to deliveries and to the API, by settings and by a seed.
//!
//! [`Chaos`] decides and does nothing: `post` asks it about deliveries, and whoever answers requests asks
//! [`Chaos::api_fault`] and lets [`layer::around`] do what it says.

mod api;
mod deliveries;
pub mod layer;
#[cfg(test)]
mod tests;

pub use api::{ApiChaos, ApiFault, ApiOutage, Route, Stale, Wrong};
pub use deliveries::{DeliveryChaos, Fate};

use serde::{Deserialize, Serialize};

use crate::chance::Chance;

/// The settings: what `GET /sandbox/v1/chaos` shows. All rates are in per cent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The same requests and events in the same order, with the same seed, meet the same chaos.
    pub seed: u64,
    /// What happens to deliveries.
    pub deliveries: DeliveryChaos,
    /// What happens to requests at the Backend API.
    pub api: ApiChaos,
}

/// A setting that makes no sense: its name, and what it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` {rule}")]
pub struct Unfit {
    /// The setting, such as `deliveries.drop_percent`.
    pub name: &'static str,
    /// What is asked of it, as the rest of the sentence.
    pub rule: &'static str,
}

impl Settings {
    /// Whether every setting is within its bounds.
    ///
    /// # Errors
    /// Names the first that is not.
    pub fn check(&self) -> Result<(), Unfit> {
        self.deliveries.check()?;
        self.api.check()
    }
}

/// The settings, and how many requests they were asked about.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Chaos {
    settings: Settings,
    asked: u64,
}

impl Chaos {
    /// Chaos of this kind, from the first request on.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, asked: 0 }
    }

    /// What is set.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Sets everything. The requests are counted on, or from the start again if there is another seed.
    ///
    /// # Errors
    /// If a setting is out of bounds; nothing is changed then.
    pub fn set(&mut self, settings: Settings) -> Result<(), Unfit> {
        settings.check()?;
        if settings.seed != self.settings.seed {
            self.asked = 0;
        }
        self.settings = settings;
        Ok(())
    }

    /// What happens to deliveries, with the seed that decides.
    #[must_use]
    pub fn of_deliveries(&self) -> (&DeliveryChaos, Chance) {
        (&self.settings.deliveries, Chance::new(self.settings.seed))
    }

    /// What happens to the next request at the API.
    pub fn api_fault(&mut self, route: Route, now_ms: i64) -> ApiFault {
        self.asked += 1;
        let mut draw = Chance::new(self.settings.seed).of("request", &[self.asked]);
        self.settings.api.decide(route, now_ms, &mut draw)
    }
}

/// A rate within 0 to 100.
fn check_percent(name: &'static str, rate: f64) -> Result<(), Unfit> {
    if (0.0..=100.0).contains(&rate) { Ok(()) } else { Err(Unfit { name, rule: "must be from 0 to 100" }) }
}

/// The longest that anything may be held back on purpose: a day. What is longer is an outage.
const LONGEST_MS: i64 = 24 * 3600 * 1000;

/// A range of milliseconds, smaller number first.
fn check_range(name: &'static str, range: [i64; 2]) -> Result<(), Unfit> {
    let [low, high] = range;
    let rule = "must be two numbers of milliseconds, from 0 to 86400000, the smaller first";
    if (0..=high).contains(&low) && high <= LONGEST_MS { Ok(()) } else { Err(Unfit { name, rule }) }
}

//! Random histories, read once through the real path, and the orders in which they arrive.

use faircopy_core::event::{self, Context, Observation, Reading};
use faircopy_core::payload::{self, Kept};
use faircopy_core::{Millis, ProfileMode};
use faircopy_world::{Event, Settings, Truth, World};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::oracle::Said;

/// What a source does beyond the model's own settings.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Twist {
    /// Every deleted membership is reported by its id alone.
    pub(crate) thin: bool,
    /// Envelope times are up to two seconds off, either way.
    pub(crate) skew: bool,
}

/// One event: what the core observes in it, and what it says to somebody who reads the JSON apart from the core.
pub(crate) struct Delivery {
    pub(crate) observations: Vec<Observation>,
    pub(crate) said: Said,
}

/// One history and its truth.
pub(crate) struct History {
    pub(crate) twist: Twist,
    pub(crate) deliveries: Vec<Delivery>,
    pub(crate) truth: Truth,
}

impl History {
    /// The history of a seed, in which everything is mixed: child events, ties, and (without ties) clock skew, and
    /// thin membership deletions.
    pub(crate) fn random(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(!seed);
        let settings =
            Settings { child_events: dice.random_bool(0.5), ties: dice.random_bool(0.4), ..Settings::default() };
        let twist = Twist { thin: dice.random_bool(0.2), skew: !settings.ties && dice.random_bool(0.3) };
        Self::of_world(seed, settings, twist)
    }

    /// A history of 8 to 40 changes.
    pub(crate) fn of_world(seed: u64, settings: Settings, twist: Twist) -> Self {
        let mut dice = StdRng::seed_from_u64(seed.rotate_left(17));
        let mut world = World::new(seed, settings);
        for _ in 0..dice.random_range(8..=40) {
            world.advance();
        }
        Self::of_events(seed, &world.take_events(), world.truth(), twist)
    }

    pub(crate) fn of_events(seed: u64, events: &[Event], truth: Truth, twist: Twist) -> Self {
        let mut dice = StdRng::seed_from_u64(seed.rotate_left(31));
        let deliveries = events.iter().map(|event| deliver(event, twist, &mut dice)).collect();
        Self { twist, deliveries, truth }
    }

    /// Every delivery once and a share of them again, in a random order.
    pub(crate) fn order(&self, dice: &mut StdRng) -> Vec<usize> {
        let count = self.deliveries.len();
        let mut order: Vec<usize> = (0..count).collect();
        order.extend((0..count / 4).map(|_| dice.random_range(0..count)));
        order.shuffle(dice);
        order
    }

    /// What is observed in one batch of deliveries.
    pub(crate) fn observations(&self, batch: &[usize]) -> Vec<&Observation> {
        batch.iter().flat_map(|&place| &self.deliveries[place].observations).collect()
    }
}

/// How an order is cut into batches.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Split {
    One,
    All,
    Random,
}

/// Cuts an order into the batches that arrive together.
pub(crate) fn batches<'a>(order: &'a [usize], split: Split, dice: &mut StdRng) -> Vec<&'a [usize]> {
    let mut rest = order;
    let mut batches = Vec::new();
    while !rest.is_empty() {
        let size = match split {
            Split::One => 1,
            Split::All => rest.len(),
            Split::Random => dice.random_range(1..=rest.len().min(7)),
        };
        let (batch, later) = rest.split_at(size);
        batches.push(batch);
        rest = later;
    }
    batches
}

fn deliver(event: &Event, twist: Twist, dice: &mut StdRng) -> Delivery {
    let mut at_ms = event.at_ms;
    let mut body = event.body.clone();
    let mut said = Said::read(&body);
    if twist.skew {
        at_ms += dice.random_range(-2_000..=2_000);
        body = body.replace(&format!("\"timestamp\":{}", event.at_ms), &format!("\"timestamp\":{at_ms}"));
    }
    if twist.thin
        && let Said::MemberDeleted { id, .. } = &said
    {
        let data = format!(r#"{{"deleted":true,"id":"{id}","object":"organization_membership"}}"#);
        body = format!(r#"{{"data":{data},"timestamp":{at_ms},"type":"{}"}}"#, event.event_type);
    }
    if twist.skew || twist.thin {
        said = Said::read(&body);
    }
    Delivery { observations: observe(&body, Millis(at_ms)), said }
}

fn observe(body: &str, signed_at: Millis) -> Vec<Observation> {
    let Kept::Json(message) = payload::keep(body.as_bytes(), ProfileMode::Full) else { panic!("not kept: {body}") };
    let context = Context { mode: ProfileMode::Full, signed_at, instance: None };
    match event::read(&message, &context).reading {
        Reading::Observed(observations) => observations,
        other => panic!("{other:?}: {body}"),
    }
}

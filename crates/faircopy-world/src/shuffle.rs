//! Deliveries as a webhook endpoint may see them: in any order, some more than once.

use crate::dice::Dice;
use crate::event::Event;

/// The events in a uniformly random order, with `duplicate_percent` of them delivered again, under the same `svix_id`,
/// at random places. A percentage above 100 repeats some events more than once.
///
/// ```
/// let (events, _) = faircopy_world::hard_history();
/// assert_eq!(faircopy_world::shuffled(&events, 1, 50).len(), 12);
/// ```
#[must_use]
pub fn shuffled(events: &[Event], seed: u64, duplicate_percent: u8) -> Vec<Event> {
    let mut dice = Dice::new(seed);
    let mut order: Vec<&Event> = events.iter().collect();
    dice.shuffle(&mut order);
    let duplicates = events.len() * usize::from(duplicate_percent) / 100;
    let mut all: Vec<&Event> = order.iter().copied().chain(order.iter().copied().cycle().take(duplicates)).collect();
    dice.shuffle(&mut all);
    all.into_iter().cloned().collect()
}

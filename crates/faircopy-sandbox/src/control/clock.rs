//! The sandbox's time.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Body, Failure, On};
use crate::state::Shared;

/// The furthest that the clock is moved at once: a hundred days, which is longer than anything here lasts.
const MAX_STEP_MS: i64 = 100 * 24 * 3_600_000;

fn shown(shared: &Shared) -> Answer {
    Ok(Json(json!({ "now_ms": shared.now_ms(), "movable": shared.clock().is_movable() })))
}

pub(super) async fn show(State(shared): On) -> Answer {
    shown(&shared)
}

/// How far.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    ms: i64,
}

pub(super) async fn advance(State(shared): On, Body(step): Body<Step>) -> Answer {
    if !(0..=MAX_STEP_MS).contains(&step.ms) {
        return Err(Failure::unfit("ms", format!("`ms` must be from 0 to {MAX_STEP_MS}")));
    }
    if !shared.clock().advance(step.ms) {
        return Err(Failure::conflict("This sandbox follows a clock that cannot be moved here."));
    }
    // Whoever waits for something looks again.
    shared.wake.notify_one();
    shown(&shared)
}

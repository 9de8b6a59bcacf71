//! What time alone changes: pending invitations expire without an event, and receipts of deletions and old readings are forgotten.

use std::sync::Arc;
use std::time::Duration;

use faircopy_store::{READINGS_KEPT_MS, RECEIPTS_KEPT_MS, Writer};

use crate::app::Clock;

/// How often the janitor looks. An invitation's status is at most this late.
const PERIOD: Duration = Duration::from_secs(30);

/// Receipts, or readings, that are forgotten in one transaction.
const FORGET_AT_ONCE: i64 = 200;

/// Runs until it is aborted. A failing database is tried again at the next turn.
pub async fn run(mut writer: Writer, clock: Arc<dyn Clock>) {
    let mut turn = tokio::time::interval(PERIOD);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turn.tick().await;
        if let Err(error) = step(&mut writer, clock.as_ref()).await {
            tracing::warn!(%error, "what is over could not be looked through");
        }
    }
}

/// One turn: lets everything expire that is due, and forgets old receipts. Returns how many invitations expired.
pub async fn step(writer: &mut Writer, clock: &dyn Clock) -> Result<usize, faircopy_store::Error> {
    let mut expired = 0;
    loop {
        let now = clock.now();
        match writer.expire_invitations(now).await? {
            0 => break,
            more => expired += more,
        }
    }
    while writer.forget_cascades(clock.now().plus(-RECEIPTS_KEPT_MS), FORGET_AT_ONCE).await? > 0 {}
    while writer.forget_readings(clock.now().plus(-READINGS_KEPT_MS), FORGET_AT_ONCE).await? > 0 {}
    Ok(expired)
}

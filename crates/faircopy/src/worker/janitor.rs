//! What time alone changes: pending invitations expire without an event.

use std::sync::Arc;
use std::time::Duration;

use faircopy_store::Writer;

use crate::app::Clock;

/// How often the janitor looks. An invitation's status is at most this late.
const PERIOD: Duration = Duration::from_secs(30);

/// Runs until it is aborted. A failing database is tried again at the next turn.
pub async fn run(mut writer: Writer, clock: Arc<dyn Clock>) {
    let mut turn = tokio::time::interval(PERIOD);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turn.tick().await;
        if let Err(error) = step(&mut writer, clock.as_ref()).await {
            tracing::warn!(%error, "invitations could not be looked through");
        }
    }
}

/// One turn: lets everything expire that is due. Returns how many invitations did.
pub async fn step(writer: &mut Writer, clock: &dyn Clock) -> Result<usize, faircopy_store::Error> {
    let mut expired = 0;
    loop {
        let now = clock.now();
        match writer.expire_invitations(now).await? {
            0 => return Ok(expired),
            more => expired += more,
        }
    }
}

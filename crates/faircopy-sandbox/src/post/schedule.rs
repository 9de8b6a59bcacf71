//! Svix's schedule: when an attempt that failed is made again.

use super::message::Answer;
use crate::chance::Draw;

/// How long after each failed attempt the next one is made, in milliseconds: eight attempts with the first, which is made
/// at once. About 27 hours and 35 minutes.
pub const DELAYS_MS: [i64; 7] = [5_000, 300_000, 1_800_000, 7_200_000, 18_000_000, 36_000_000, 36_000_000];
/// The least delay after a time-out or a 429: whoever is overloaded is left alone for a minute.
pub const OVERLOADED_MS: i64 = 60_000;
/// By how much a delay may be longer or shorter, in per cent.
pub const JITTER_PERCENT: u32 = 20;

/// The delay after the attempt of this number (the first is 1), before it is compressed; none after the last one.
///
/// `Retry-After` is honoured from once to twice the delay that would have been.
pub(super) fn delay_ms(attempt: usize, answer: &Answer, jitter_percent: u32, draw: &mut Draw) -> Option<i64> {
    let planned = *DELAYS_MS.get(attempt.checked_sub(1)?)?;
    let planned = if answer.is_overload() { planned.max(OVERLOADED_MS) } else { planned };
    if let Answer::Response { retry_after_ms: Some(asked), .. } = answer {
        return Some((*asked).clamp(planned, 2 * planned));
    }
    let jitter = planned / 100 * i64::from(jitter_percent.min(100));
    Some(draw.between(planned - jitter, planned + jitter))
}

//! Whether deliveries have stopped: how long none may stay out follows from how they used to come.
//!
//! Nothing is proven by this. Deliveries stop when nothing happens, and when they are lost; whoever hears of a silence looks
//! which.

use crate::time::Millis;

/// So many deliveries are looked at: enough to tell a habit, few enough to follow a change of it within a day.
pub const KNOWN: usize = 100;
/// With fewer there is no habit yet, and no silence.
pub const MIN_KNOWN: usize = 20;
/// The usual gap is the one that so many per cent of the known gaps do not exceed. Deliveries come in bursts, most gaps are
/// those within one, and the mean or the median would say little about the time between two bursts; the longest gap would be
/// that of the last outage.
pub const USUAL_PERCENT: usize = 95;
/// Silence is so many usual gaps without a delivery.
pub const USUAL_GAPS: i64 = 3;
/// And never less than this: what comes every second may well pause for a minute.
pub const FLOOR_MS: i64 = 10 * 60_000;

/// What is to be thought of the time since the newest delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heartbeat {
    /// Too few deliveries are known.
    Unknown,
    /// They come as they use to.
    Beating,
    /// There was none for longer than usual.
    Silent {
        /// When the newest delivery arrived.
        since: Millis,
        /// The usual gap.
        usual_ms: i64,
    },
}

/// Judges the time from the newest of these arrivals, the last [`KNOWN`] in any order, until now.
#[must_use]
pub fn listen(arrivals: &[Millis], now: Millis) -> Heartbeat {
    let Some(usual_ms) = usual_gap(arrivals) else { return Heartbeat::Unknown };
    let since = arrivals.iter().copied().max().unwrap_or(now);
    let allowed = usual_ms.saturating_mul(USUAL_GAPS).max(FLOOR_MS);
    if now.0.saturating_sub(since.0) > allowed { Heartbeat::Silent { since, usual_ms } } else { Heartbeat::Beating }
}

/// The usual time between two arrivals, in milliseconds; `None` while fewer than [`MIN_KNOWN`] are known.
#[must_use]
pub fn usual_gap(arrivals: &[Millis]) -> Option<i64> {
    if arrivals.len() < MIN_KNOWN {
        return None;
    }
    let mut sorted = arrivals.to_vec();
    sorted.sort_unstable();
    let mut gaps: Vec<i64> = sorted.windows(2).map(|pair| pair[1].0.saturating_sub(pair[0].0)).collect();
    gaps.sort_unstable();
    // The nearest rank: the smallest gap that is not exceeded by more than the rest.
    let rank = (gaps.len() * USUAL_PERCENT).div_ceil(100);
    gaps.get(rank.saturating_sub(1)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    /// Arrivals with these gaps in minutes between them, the newest at 0.
    fn arrivals(gaps: &[i64]) -> Vec<Millis> {
        let mut at = Millis(0);
        let mut arrivals = vec![at];
        for gap in gaps.iter().rev() {
            at = at.plus(-gap * MINUTE);
            arrivals.push(at);
        }
        arrivals
    }

    #[test]
    fn the_usual_gap_is_exceeded_by_one_in_twenty() {
        let check = |gaps: &[i64], minutes: Option<i64>| {
            assert_eq!(usual_gap(&arrivals(gaps)), minutes.map(|minutes| minutes * MINUTE), "{gaps:?}");
        };
        check(&[], None);
        check(&[1; 18], None);
        check(&[1; 19], Some(1));
        // 19 gaps: the longest counts. 20 and more: the longest of each twenty does not.
        let with =
            |one: i64, number: usize, other: i64, others: usize| [vec![one; number], vec![other; others]].concat();
        check(&with(1, 18, 500, 1), Some(500));
        check(&with(1, 19, 500, 1), Some(1));
        check(&with(1, 18, 500, 2), Some(500));
        check(&with(0, 90, 30, 9), Some(30));
        check(&with(0, 95, 30, 4), Some(0));
    }

    #[test]
    fn silence_is_three_usual_gaps_and_ten_minutes() {
        let silent = |gap: i64, after: i64| {
            let heard = listen(&arrivals(&[gap; 99]), Millis(after * MINUTE));
            assert_ne!(heard, Heartbeat::Unknown);
            heard == Heartbeat::Silent { since: Millis(0), usual_ms: gap * MINUTE }
        };
        for (gap, after, expected) in [
            (0, 10, false),
            (0, 11, true),
            (1, 10, false),
            (1, 11, true),
            (3, 10, false),
            (4, 12, false),
            (4, 13, true),
            (60, 180, false),
            (60, 181, true),
            (60, -5, false),
        ] {
            assert_eq!(silent(gap, after), expected, "every {gap} minutes, and {after} minutes of silence");
        }
    }

    #[test]
    fn too_few_deliveries_are_no_habit() {
        assert_eq!(listen(&[], Millis(0)), Heartbeat::Unknown);
        assert_eq!(listen(&arrivals(&[1; 18]), Millis(i64::MAX)), Heartbeat::Unknown);
        assert_ne!(listen(&arrivals(&[1; 19]), Millis(i64::MAX)), Heartbeat::Unknown);
    }
}

//! What numbers mean: from counts, ages and sizes to a finding, or to none. Whoever has the numbers asks; nothing is measured here.

use crate::alert::Severity;
use crate::time::Millis;

/// Counts are kept in slots of this length.
pub const SLOT_MS: i64 = 5 * 60_000;
/// What is told of "now" is told of this slot and so many before it: 10 to 15 minutes.
pub const WINDOW_SLOTS: i64 = 2;
/// Slots that are kept: three days beyond the five in which Svix may disable an endpoint.
pub const KEPT_SLOTS: i64 = 8 * DAY_MS / SLOT_MS;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// Deliveries sent back within the window, as a number and as a part of all: fewer are a restart.
const MIN_REFUSED: u64 = 3;
const REFUSED_PERCENT: u64 = 5;
/// Signatures that did not fit within the window: so many whatever else arrives, and so many while nothing is accepted. Svix tries a
/// message three times within six minutes.
const MANY_UNFIT: u64 = 20;
const FEW_UNFIT: u64 = 3;
/// Requests with headers that Svix does not send, within the window: fewer are the noise of the internet.
const MANY_MALFORMED: u64 = 100;
/// A clock that is so far off is told; and so far off, it is about to cost deliveries, whose signatures are good for 300 seconds.
const SKEWED_MS: i64 = 30_000;
const BADLY_SKEWED_MS: i64 = 240_000;
/// Svix disables an endpoint after five days in which every attempt failed. One day is a warning; after three, two are left.
const FAILING_MS: i64 = DAY_MS;
const FAILING_LONG_MS: i64 = 3 * DAY_MS;
/// Svix begins to count after failures that lie twelve hours apart. It tries a message again for 27 hours, so real ones do.
const FAILURES_APART_MS: i64 = 12 * HOUR_MS;
/// A disk is nearly full when less than a tenth of it and less than so much is free; and it is full soon with a third of both.
const FREE_PART: u64 = 10;
const FREE_BYTES: u64 = 1024 * 1024 * 1024;
const SOON: u64 = 3;
/// SQLite's log is cut back to 64 MiB when nobody reads the old; four times that means that somebody does.
const LOG_BYTES: u64 = 256 * 1024 * 1024;
/// Work that was due so long ago is done by nobody: a worker looks each second, and takes leases over within minutes.
const OVERDUE_MS: i64 = 30 * MINUTE_MS;
/// Something outside that is not done after so long: the longest pause between two tries is minutes.
const STEP_OVERDUE_MS: i64 = 2 * HOUR_MS;
/// A comparison with Clerk that is older proves little; unless set otherwise, one is made at least each day.
pub const COMPARED_MS: i64 = DAY_MS;

/// The slot of a time.
#[must_use]
pub fn slot(at: Millis) -> i64 {
    at.0.div_euclid(SLOT_MS)
}

/// When a slot began.
#[must_use]
pub fn slot_began(slot: i64) -> Millis {
    Millis(slot.saturating_mul(SLOT_MS))
}

/// A trouble that the numbers show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// How bad it is.
    pub severity: Severity,
    /// Since when it is so, as far as the numbers say.
    pub since: Millis,
    /// What was found, in a sentence with its numbers.
    pub detail: String,
}

/// What the endpoint has answered within a time, all replicas together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answered {
    /// Acknowledged: 200.
    pub accepted: u64,
    /// Sent back to come again: 503.
    pub refused: u64,
    /// The database said that its disk is full.
    pub disk_full: u64,
    /// No signature fitted.
    pub unfit: u64,
    /// Signed more than 300 seconds ago, by our clock.
    pub too_old: u64,
    /// Signed more than 300 seconds ahead.
    pub too_new: u64,
    /// Headers that Svix does not send.
    pub malformed: u64,
}

/// Deliveries that could not be understood, or that were sent back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quarantined {
    /// How many, none of which somebody has seen.
    pub deliveries: u64,
    /// When the oldest of them arrived.
    pub oldest: Millis,
}

/// `failures`: what the endpoint could not take. `window` began at `began`.
#[must_use]
pub fn failures(quarantined: Option<Quarantined>, window: &Answered, began: Millis) -> Option<Found> {
    let all = window.accepted + window.refused;
    let is_refusing = window.refused >= MIN_REFUSED && window.refused * 100 >= all * REFUSED_PERCENT;
    let refused = is_refusing.then(|| {
        let detail = format!("{} of {all} deliveries were sent back (503) within 15 minutes", window.refused);
        let severity = if window.accepted == 0 { Severity::Critical } else { Severity::Warning };
        Found { severity, since: began, detail }
    });
    let kept = quarantined.filter(|of| of.deliveries > 0).map(|of| Found {
        severity: Severity::Warning,
        since: of.oldest,
        detail: format!("{} deliveries are quarantined and were neither replayed nor acknowledged", of.deliveries),
    });
    match (kept, refused) {
        (Some(kept), Some(refused)) => Some(Found {
            severity: kept.severity.max(refused.severity),
            since: kept.since.min(refused.since),
            detail: format!("{}; {}", refused.detail, kept.detail),
        }),
        (kept, refused) => kept.or(refused),
    }
}

/// `signature-failures`: a burst.
#[must_use]
pub fn signatures(window: &Answered, began: Millis) -> Option<Found> {
    let Answered { accepted, unfit, malformed, .. } = *window;
    let found = |severity, detail| Some(Found { severity, since: began, detail });
    if unfit >= FEW_UNFIT && accepted == 0 {
        let detail = format!(
            "{unfit} deliveries fitted no signing secret within 15 minutes, and none was accepted: the endpoint's secret at Clerk \
             is another one than CLERK_WEBHOOK_SIGNING_SECRET"
        );
        return found(Severity::Critical, detail);
    }
    if unfit >= MANY_UNFIT {
        let detail = format!(
            "{unfit} deliveries fitted no signing secret within 15 minutes, and {accepted} were accepted: a second endpoint, or a \
             secret that was rotated"
        );
        return found(Severity::Warning, detail);
    }
    (malformed >= MANY_MALFORMED).then(|| Found {
        severity: Severity::Warning,
        since: began,
        detail: format!(
            "{malformed} requests within 15 minutes lacked the headers that Svix sends, or had malformed ones: they are not Clerk's"
        ),
    })
}

/// A clock beside another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clock {
    /// Whose the other is: `the database's`.
    pub other: &'static str,
    /// By how much ours is ahead; negative where it is behind.
    pub ahead_ms: i64,
}

/// `clock-skew`: clocks that are wrong, of any replica.
#[must_use]
pub fn clocks(measured: &[Clock], window: &Answered, began: Millis, now: Millis) -> Option<Found> {
    if window.accepted == 0 {
        let (number, how) = match (window.too_old, window.too_new) {
            (old, new) if old >= FEW_UNFIT && old > new => (old, "old: this clock is ahead, or a proxy holds them up"),
            (old, new) if new >= FEW_UNFIT && new > old => (new, "new: this clock is behind"),
            _ => (0, ""),
        };
        if number > 0 {
            let detail = format!(
                "{number} deliveries within 15 minutes were signed more than 300 s too {how}; none was accepted"
            );
            return Some(Found { severity: Severity::Critical, since: began, detail });
        }
    }
    let worst = measured.iter().max_by_key(|clock| clock.ahead_ms.unsigned_abs())?;
    let off_ms = worst.ahead_ms.unsigned_abs();
    (off_ms >= SKEWED_MS.unsigned_abs()).then(|| {
        let way = if worst.ahead_ms > 0 { "ahead of" } else { "behind" };
        let severity = if off_ms >= BADLY_SKEWED_MS.unsigned_abs() { Severity::Critical } else { Severity::Warning };
        Found { severity, since: now, detail: format!("this clock is {} s {way} {}", off_ms / 1000, worst.other) }
    })
}

/// How the attempts of Svix went that came since the last that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    /// When the first came.
    pub first: Millis,
    /// When the last came.
    pub last: Millis,
    /// How many.
    pub attempts: u64,
}

/// `endpoint-failing`: every attempt fails, or none comes although Clerk has changed since `undelivered`.
#[must_use]
pub fn endpoint(failed: Option<Failed>, undelivered: Option<Millis>, now: Millis) -> Option<Found> {
    let answered = failed.filter(|of| of.last.0 - of.first.0 >= FAILURES_APART_MS).map(|of| {
        (of.first, format!("each of {} attempts since {} was answered with an error", of.attempts, of.first))
    });
    let unheard =
        undelivered.map(|since| (since, format!("Clerk has changed since {since}, and no delivery was accepted")));
    let (since, what) = answered.into_iter().chain(unheard).min_by_key(|(since, _)| *since)?;
    let lasts_ms = now.0 - since.0;
    (lasts_ms >= FAILING_MS).then(|| {
        let severity = if lasts_ms >= FAILING_LONG_MS { Severity::Critical } else { Severity::Warning };
        let hours = lasts_ms / HOUR_MS;
        Found { severity, since, detail: format!("{what}: for {hours} hours; Svix disables an endpoint after 120") }
    })
}

/// The disk of an embedded database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that can be written.
    pub free: u64,
    /// Bytes of the file system.
    pub size: u64,
    /// Bytes of the write-ahead log.
    pub log: u64,
}

/// `disk`: there is little room, the log grows, or the database has said that there is none.
#[must_use]
pub fn disk(disk: Option<Disk>, window: &Answered, began: Millis, now: Millis) -> Option<Found> {
    let found = |severity, detail| Some(Found { severity, since: now, detail });
    if window.disk_full > 0 {
        let detail =
            format!("the database has said {} times within 15 minutes that its disk is full", window.disk_full);
        return Some(Found { severity: Severity::Critical, since: began, detail });
    }
    let Disk { free, size, log } = disk?;
    let mebi = |bytes: u64| bytes / (1024 * 1024);
    let is_below = |part: u64| free < size / FREE_PART / part && free < FREE_BYTES / part;
    if is_below(1) {
        let severity = if is_below(SOON) { Severity::Critical } else { Severity::Warning };
        return found(severity, format!("{} MiB of {} MiB are free on the database's disk", mebi(free), mebi(size)));
    }
    if log >= LOG_BYTES {
        let detail =
            format!("the write-ahead log has {} MiB: a reader holds it, and it grows until that ends", mebi(log));
        return found(Severity::Warning, detail);
    }
    None
}

/// Work of one kind that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// How much.
    pub jobs: u64,
    /// Since when the oldest is due.
    pub oldest: Millis,
}

/// `jobs-stuck`: deletions and erasures that nobody takes up, and what is to be done outside for too long.
#[must_use]
pub fn jobs(
    cascades: Option<Waiting>,
    steps: Option<Waiting>,
    erasures: Option<Waiting>,
    now: Millis,
) -> Option<Found> {
    let late = |of: Option<Waiting>, bound: i64| of.filter(|of| of.jobs > 0 && now.0 - of.oldest.0 >= bound);
    let minutes = |of: Waiting| (now.0 - of.oldest.0) / MINUTE_MS;
    let cascades = late(cascades, OVERDUE_MS)
        .map(|of| (of.oldest, format!("{} deletions are due, the oldest for {} minutes", of.jobs, minutes(of))));
    let steps = late(steps, STEP_OVERDUE_MS)
        .map(|of| (of.oldest, format!("{} steps outside wait, the oldest for {} minutes", of.jobs, minutes(of))));
    let erasures = late(erasures, OVERDUE_MS).map(|of| {
        let waited = minutes(of);
        (
            of.oldest,
            format!("{} deleted users are not erased from the deliveries, the oldest for {waited} minutes", of.jobs),
        )
    });
    let all: Vec<(Millis, String)> = cascades.into_iter().chain(steps).chain(erasures).collect();
    let since = all.iter().map(|(since, _)| *since).min()?;
    let detail = all.into_iter().map(|(_, detail)| detail).collect::<Vec<_>>().join("; ");
    Some(Found { severity: Severity::Warning, since, detail })
}

/// The middle one; `None` of none.
#[must_use]
pub fn median(mut values: Vec<i64>) -> Option<i64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;
    const NOW: Millis = Millis(1_760_000_000_000);

    fn severity(found: Option<Found>) -> Option<Severity> {
        found.map(|found| found.severity)
    }

    const WARNING: Option<Severity> = Some(Severity::Warning);
    const CRITICAL: Option<Severity> = Some(Severity::Critical);

    #[test]
    fn what_is_sent_back_is_told_as_a_part_of_all() {
        let check = |refused, accepted, expected| {
            let window = Answered { refused, accepted, ..Answered::default() };
            assert_eq!(severity(failures(None, &window, NOW)), expected, "{refused} of {}", refused + accepted);
        };
        check(0, 0, None);
        check(2, 0, None);
        check(3, 0, CRITICAL);
        check(3, 57, WARNING);
        check(3, 58, None);
        check(50, 950, WARNING);
        check(49, 951, None);
        let kept = Some(Quarantined { deliveries: 2, oldest: NOW.plus(-7) });
        let both = failures(kept, &Answered { refused: 3, ..Answered::default() }, NOW).unwrap();
        assert_eq!((both.severity, both.since), (Severity::Critical, NOW.plus(-7)));
        assert!(both.detail.contains("3 of 3") && both.detail.contains("2 deliveries are quarantined"));
        assert_eq!(failures(Some(Quarantined { deliveries: 0, oldest: NOW }), &Answered::default(), NOW), None);
    }

    #[test]
    fn a_burst_of_wrong_signatures_is_told() {
        let check = |unfit, accepted, malformed, expected| {
            let window = Answered { unfit, accepted, malformed, ..Answered::default() };
            assert_eq!(severity(signatures(&window, NOW)), expected, "{unfit} {accepted} {malformed}");
        };
        check(2, 0, 0, None);
        check(3, 0, 0, CRITICAL);
        check(3, 1, 0, None);
        check(20, 1, 0, WARNING);
        check(0, 0, 99, None);
        check(0, 0, 100, WARNING);
    }

    #[test]
    fn a_wrong_clock_is_told_by_how_much_and_which_way() {
        let check = |ahead_s: i64, expected, words: &str| {
            let clock = Clock { other: "the database's", ahead_ms: ahead_s * 1000 };
            let found = clocks(&[Clock { other: "Clerk's", ahead_ms: 0 }, clock], &Answered::default(), NOW, NOW);
            assert!(found.as_ref().is_none_or(|found| found.detail == words), "{found:?}");
            assert_eq!(severity(found), expected, "{ahead_s}");
        };
        check(29, None, "");
        check(30, WARNING, "this clock is 30 s ahead of the database's");
        check(-95, WARNING, "this clock is 95 s behind the database's");
        check(-240, CRITICAL, "this clock is 240 s behind the database's");
        assert_eq!(clocks(&[], &Answered::default(), NOW, NOW), None);
        let refused = |too_old, too_new, accepted| {
            clocks(&[], &Answered { too_old, too_new, accepted, ..Answered::default() }, NOW, NOW)
        };
        assert!(refused(3, 0, 0).is_some_and(|found| found.detail.contains("ahead")));
        assert!(refused(0, 3, 0).is_some_and(|found| found.detail.contains("behind")));
        assert_eq!((refused(2, 0, 0), refused(3, 3, 0), refused(3, 0, 1)), (None, None, None));
    }

    #[test]
    fn an_endpoint_is_told_a_day_after_its_first_failure_and_again_after_three() {
        let failed = |first_h: i64, last_h: i64| {
            Some(Failed { first: NOW.plus(first_h * HOUR_MS), last: NOW.plus(last_h * HOUR_MS), attempts: 5 })
        };
        let check = |failed, undelivered_h: Option<i64>, at_h: i64, expected| {
            let undelivered = undelivered_h.map(|hours| NOW.plus(hours * HOUR_MS));
            assert_eq!(severity(endpoint(failed, undelivered, NOW.plus(at_h * HOUR_MS))), expected, "{at_h}");
        };
        check(None, None, 99, None);
        check(failed(0, 20), None, 23, None);
        check(failed(0, 20), None, 24, WARNING);
        check(failed(0, 70), None, 72, CRITICAL);
        // One scanner at one time is no sender.
        check(failed(0, 11), None, 99, None);
        // Nothing reaches us at all.
        check(None, Some(0), 23, None);
        check(None, Some(0), 24, WARNING);
        check(failed(0, 11), Some(5), 77, CRITICAL);
    }

    #[test]
    fn a_disk_is_judged_by_part_and_by_size() {
        let check = |free: u64, size: u64, log: u64, expected| {
            let disk_of = Some(Disk { free: free * MIB, size: size * MIB, log: log * MIB });
            assert_eq!(severity(disk(disk_of, &Answered::default(), NOW, NOW)), expected, "{free} of {size}, {log}");
        };
        check(4, 32, 0, None);
        check(3, 32, 0, WARNING);
        check(1, 32, 0, CRITICAL);
        check(0, 32, 0, CRITICAL);
        check(1500, 100_000, 0, None);
        check(1000, 100_000, 0, WARNING);
        check(340, 100_000, 0, CRITICAL);
        check(9000, 10_000, 255, None);
        check(9000, 10_000, 256, WARNING);
        let full = Answered { disk_full: 1, ..Answered::default() };
        assert_eq!(severity(disk(None, &full, NOW, NOW)), CRITICAL);
        assert_eq!(disk(None, &Answered::default(), NOW, NOW), None);
    }

    #[test]
    fn work_that_nobody_does_is_told() {
        let waiting = |minutes: i64| Some(Waiting { jobs: 3, oldest: NOW.plus(-minutes * MINUTE_MS) });
        assert_eq!(jobs(waiting(29), waiting(119), waiting(29), NOW), None);
        assert!(
            jobs(waiting(30), None, None, NOW).is_some_and(|found| found.detail.starts_with("3 deletions are due"))
        );
        let both = jobs(waiting(30), waiting(120), None, NOW).unwrap();
        assert_eq!(both.since, NOW.plus(-120 * MINUTE_MS));
        assert_eq!(jobs(Some(Waiting { jobs: 0, oldest: Millis(0) }), None, None, NOW), None);
        let erasures = jobs(None, None, waiting(30), NOW).unwrap();
        assert!(erasures.detail.starts_with("3 deleted users are not erased"), "{}", erasures.detail);
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(vec![]), None);
        assert_eq!(median(vec![9, 1, 5]), Some(5));
        assert_eq!(median(vec![1]), Some(1));
    }
}

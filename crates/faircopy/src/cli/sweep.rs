//! What `faircopy backfill` and `faircopy reconcile` share: a sweep by itself, beside a running server or without one, with its
//! progress on standard error.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use faircopy_core::Millis;
use faircopy_store::Swept;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::{Failure, Global, output};
use crate::app::{self, Clock, SystemClock};
use crate::sweep::{Ending, Glimpse, Order, Patience, Phase, Report, Stop, Sweeper};
use crate::telemetry::{self, Metrics};
use crate::upstream::clerk::{Clerk, Share};
use crate::upstream::keys::KeySet;
use crate::worker::intake;

/// How often progress is shown on a terminal, and as lines.
const REDRAW: Duration = Duration::from_millis(200);
const LINE: Duration = Duration::from_secs(5);
/// How long another process's sweep is waited for: one that was killed is known to be gone after half a minute.
const WAIT_FOR_OTHERS: Duration = Duration::from_secs(45);
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Sweeps as ordered, and returns what was found.
pub(super) async fn run(order: Order, share: Share, global: &Global) -> Result<Report, Failure> {
    let config = global.config()?;
    telemetry::log_to_stderr("warn", config.log_format).map_err(Failure::Usage)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let metrics = Metrics::install();
    let keys = KeySet::new(&config.sessions, clock.clone(), metrics.clone());
    let Some(clerk) = Clerk::new(&config, keys.clone(), clock.clone(), metrics.clone()) else {
        return Err(Failure::Usage(
            "CLERK_SECRET_KEY is not set; expected the secret key of the instance's Backend API, `sk_live_…` or `sk_test_…`"
                .into(),
        ));
    };
    let store = config.store();
    app::prepare(&config, &store, clock.now(), true).await?;
    let fetching = tokio::spawn(keys.run());
    let (intake, worker) = intake::channel(store.writer(), clock.clone(), metrics.clone());
    let merging = tokio::spawn(worker.run());
    let sweeper = Sweeper {
        clerk,
        store,
        intake,
        clock,
        metrics,
        holder: app::holder().into(),
        share,
        patience: Patience::default(),
    };
    let outcome = watched(&sweeper, order).await;
    fetching.abort();
    let Sweeper { intake, store, .. } = sweeper;
    drop(intake);
    // What was accepted is committed before the connections go.
    drop(merging.await);
    store.close().await;
    outcome
}

async fn watched(sweeper: &Sweeper, order: Order) -> Result<Report, Failure> {
    let (sender, glimpses) = watch::channel(Glimpse::default());
    // Before the lease is taken: whoever is interrupted gives it up.
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut shown = Shown::new(sweeper.clock.now());
    let sweep = patiently(sweeper, order, &sender);
    tokio::pin!(sweep);
    let mut tick = tokio::time::interval(shown.period());
    let outcome = loop {
        tokio::select! {
            outcome = &mut sweep => break outcome,
            _ = interrupts.recv() => {
                shown.clear();
                drop(sweeper.release().await);
                return Err(Failure::Failed("stopped; the same command goes on where it was".into()));
            }
            _ = tick.tick() => shown.show(&glimpses.borrow(), sweeper.clock.now()),
        }
    };
    shown.clear();
    outcome.map_err(|stop| Failure::Failed(explain(&stop)))
}

/// Waits for another process that is sweeping.
async fn patiently(sweeper: &Sweeper, order: Order, glimpses: &watch::Sender<Glimpse>) -> Result<Report, Stop> {
    let mut waited = Duration::ZERO;
    loop {
        match sweeper.run(order, glimpses).await {
            Err(Stop::Busy) if waited < WAIT_FOR_OTHERS => {
                if waited.is_zero() {
                    anstream::eprintln!("another process is sweeping, or was killed while it did; waiting for it");
                }
                tokio::time::sleep(LOOK_AGAIN).await;
                waited += LOOK_AGAIN;
            }
            outcome => return outcome,
        }
    }
}

fn explain(stop: &Stop) -> String {
    let advice = match stop {
        Stop::Clerk(_) => {
            "Nothing is taken for gone that Clerk did not deny. Are CLERK_SECRET_KEY and CLERK_API_URL those of the instance \
             that is copied? Run the command again to go on where it was."
        }
        Stop::Copy(_) => "Is the database running? Run the command again to go on where it was.",
        Stop::LeaseLost | Stop::Busy => {
            "A server with CLERK_SECRET_KEY reconciles by itself: see its log, or try later."
        }
    };
    format!("{stop}\n  {advice}")
}

/// Bars on a terminal, lines elsewhere.
enum Shown {
    Bars { all: MultiProgress, bars: Vec<(Swept, ProgressBar)>, talk: ProgressBar },
    Lines { began_at: Millis, first: bool },
}

impl Shown {
    fn new(began_at: Millis) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines { began_at, first: true };
        }
        let all = MultiProgress::new();
        let style = ProgressStyle::with_template("{prefix:14} {bar:30} {human_pos} of {human_len} {per_sec} {eta}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = |kind: Swept| {
            let bar = all.add(ProgressBar::new(0)).with_prefix(plural(kind));
            bar.set_style(style.clone());
            (kind, bar)
        };
        let bars = Swept::ALL.map(bar).to_vec();
        let talk = all.add(ProgressBar::new_spinner());
        Self::Bars { all, bars, talk }
    }

    fn period(&self) -> Duration {
        match self {
            Self::Bars { .. } => REDRAW,
            Self::Lines { .. } => LINE,
        }
    }

    fn show(&mut self, glimpse: &Glimpse, now: Millis) {
        match self {
            Self::Bars { bars, talk, .. } => {
                for (kind, rows, total) in &glimpse.lists {
                    if let Some((_, bar)) = bars.iter().find(|(of, _)| of == kind) {
                        bar.set_length(total.unwrap_or(*rows).max(*rows));
                        bar.set_position(*rows);
                    }
                }
                talk.set_message(talk_of(glimpse, now));
            }
            // The first tick comes at once, when there is nothing to tell.
            Self::Lines { first, .. } if *first => *first = false,
            Self::Lines { began_at, .. } => anstream::eprintln!("{}", line(glimpse, *began_at, now)),
        }
    }

    fn clear(&self) {
        if let Self::Bars { all, .. } = self {
            // A terminal that is gone needs no clearing.
            drop(all.clear());
        }
    }
}

fn talk_of(glimpse: &Glimpse, now: Millis) -> String {
    let phase = match glimpse.phase {
        Phase::Walking => "reading Clerk's lists".to_owned(),
        Phase::Looking => "asking for what the lists had not".to_owned(),
        Phase::Waiting(until) => {
            format!("waiting {} s before asking once more (--grace)", (until.0 - now.0).max(0).div_euclid(1000))
        }
    };
    let waited = glimpse.report.waited_ms.div_ceil(1000);
    let limit = if waited == 0 { String::new() } else { format!(", {waited} s waited for the rate limit") };
    format!("{phase}; {} requests{limit}", glimpse.report.requests)
}

fn line(glimpse: &Glimpse, began_at: Millis, now: Millis) -> String {
    let seconds = (now.0 - began_at.0).max(1).unsigned_abs().div_ceil(1000).max(1);
    let list = |(kind, rows, total): &(Swept, u64, Option<u64>)| match total {
        Some(total) => {
            let rate = rows / seconds;
            let left = match total.saturating_sub(*rows) {
                0 => String::new(),
                more if rate > 0 => format!(", {} s left", more.div_ceil(rate)),
                _ => ", …".into(),
            };
            format!("{} {rows} of {total} ({rate} a second{left})", plural(*kind))
        }
        None => format!("{} {rows}", plural(*kind)),
    };
    let lists: Vec<String> = glimpse.lists.iter().map(list).collect();
    format!("{}; {}", talk_of(glimpse, now), lists.join("; "))
}

fn plural(kind: Swept) -> &'static str {
    match kind {
        Swept::Organization => "organizations",
        Swept::User => "users",
        Swept::Member => "members",
        Swept::Invitation => "invitations",
    }
}

/// Prints what was found: a table and a sentence for people, everything for programs.
pub(super) fn print(report: &Report, global: &Global) -> Result<(), Failure> {
    if global.json {
        return output::json(report);
    }
    let columns = ["KIND", "AT CLERK", "MISSING", "EXTRA", "DIFFERENT", "REPAIRED", "REMOVED", "LEFT"];
    let rows = report.kinds.iter().map(|(kind, tally)| {
        let counts =
            [tally.seen, tally.missing, tally.extra, tally.different, tally.repaired, tally.removed, tally.left];
        std::iter::once(plural(*kind).to_owned()).chain(counts.map(|count| count.to_string())).collect()
    });
    anstream::print!("{}", output::table(&columns, rows));
    for drift in report.differences.iter().take(MAX_SHOWN) {
        let columns = if drift.columns.is_empty() { String::new() } else { format!(" ({})", drift.columns.join(", ")) };
        let direction = format!("{:?}", drift.difference).to_lowercase();
        anstream::println!("  {direction:9} {}{columns}: {}", drift.id, drift.then);
    }
    if report.differences.len() > MAX_SHOWN || report.has_more {
        anstream::println!("  … and more; --json shows the first {}", crate::sweep::MAX_TOLD);
    }
    for (kind, tally) in &report.kinds {
        if let Some(hold) = &tally.hold {
            let force = if hold.can_be_forced() { "; if that is right, --force removes them" } else { "" };
            anstream::println!("{}: nothing was taken for gone: {hold}{force}", plural(*kind));
        }
    }
    let verdict = match (report.outcome, report.dry_run) {
        (Some(Ending::Exact), _) => "exact: Clerk and the copy are equal",
        (Some(Ending::Repaired), _) => "repaired: Clerk and the copy are equal now",
        (_, true) => "differences were found, and left: this was a dry run",
        _ => "differences are left",
    };
    anstream::println!("{verdict} (as of {}, {} requests)", report.began_at, report.requests);
    Ok(())
}

/// Prints what a backfill did: it finds what is missing and different, and nothing else.
pub(super) fn print_backfill(report: &Report, global: &Global) -> Result<(), Failure> {
    if global.json {
        output::json(report)?;
    } else {
        let rows = report.kinds.iter().map(|(kind, tally)| {
            let counts = [tally.seen, tally.missing, tally.different, tally.unreadable];
            std::iter::once(plural(*kind).to_owned()).chain(counts.map(|count| count.to_string())).collect()
        });
        anstream::print!("{}", output::table(&["KIND", "AT CLERK", "NEW", "CHANGED", "UNREADABLE"], rows));
        anstream::println!("copied, as of {}, with {} requests", report.began_at, report.requests);
        anstream::eprintln!("next: faircopy reconcile   (removes what Clerk no longer has)");
    }
    match report.kinds.iter().find_map(|(kind, tally)| Some((kind, tally.hold.as_ref()?))) {
        Some((kind, hold)) => Err(Failure::Failed(format!("{}: {hold}", plural(*kind)))),
        None => Ok(()),
    }
}

/// Differences that are printed for people.
const MAX_SHOWN: usize = 20;

//! What happens, as it happens: server-sent events for the operator's dashboard.
//!
//! Each event has a number made of the change feed's and of a time, so that a reader goes on where it was. Nothing is kept for
//! readers: each reads from the database what is new for it, a bounded part at a time, when one task has seen that there is
//! something (docs/decisions/0024-dashboard.md).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use faircopy_core::Millis;
use faircopy_store::{DeliveryFilter, DeliverySummary, Entry, Finding, Pulse, Store};
use http::HeaderMap;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::endless;
use crate::app::{App, Clock};
use crate::http::admin::SignedIn;
use crate::http::dashboard::session::goes_on;
use crate::http::problem::Problem;
use crate::http::server::{Stopping, stopped};

/// How often is looked while somebody listens: a change is seen within a second.
const LOOK: Duration = Duration::from_millis(400);
/// How often a reader is told that all is well; one that hears nothing for three times as long has lost the connection.
const BEAT: Duration = Duration::from_secs(4);
/// When a browser comes again that has lost the connection.
const RETRY_MS: u32 = 1_000;
/// Readers of one process: each reads for itself.
const MAX_READERS: usize = 32;
/// Events that wait for a reader, and how long it may not read until it is let go.
const WAITING: usize = 16;
const SLOW: Duration = Duration::from_secs(30);
/// Changes and deliveries in one event.
const AT_ONCE: i64 = 100;
/// A reader that is further behind is told to begin anew.
const MAX_BEHIND: i64 = 1_000;
/// Deliveries become visible in another order than they arrive, so much apart at most.
const VISIBLE_MS: i64 = 15_000;
/// The longest time that is gone back for a reader that comes again.
const MAX_BACK_MS: i64 = 10 * 60_000;

/// Who listens, and what wakes them.
pub(in crate::http) struct Hub {
    store: Store,
    clock: Arc<dyn Clock>,
    readers: Arc<Semaphore>,
    seen: watch::Sender<Seen>,
    /// Whether somebody looks.
    is_looked: Mutex<bool>,
}

/// What was seen last: whenever it differs, there is something new.
#[derive(Debug, Clone, Default, PartialEq)]
struct Seen {
    pulse: Pulse,
    findings: Vec<Finding>,
}

impl Hub {
    pub(in crate::http) fn new(app: &App) -> Arc<Self> {
        Arc::new(Self {
            store: app.store.clone(),
            clock: app.clock.clone(),
            readers: Arc::new(Semaphore::new(MAX_READERS)),
            seen: watch::Sender::default(),
            is_looked: Mutex::new(false),
        })
    }

    /// Wakes whoever listens when there is something new. One task looks, and ends with the last reader.
    fn listen(self: &Arc<Self>) -> watch::Receiver<Seen> {
        let mut is_looked = self.is_looked.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = self.seen.subscribe();
        if !std::mem::replace(&mut *is_looked, true) {
            tokio::spawn(self.clone().look());
        }
        seen
    }

    async fn look(self: Arc<Self>) {
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let since = self.clock.now().plus(-VISIBLE_MS);
            if let (Ok(pulse), Ok(findings)) = (self.store.pulse(since).await, self.store.findings().await) {
                let now = Seen { pulse, findings };
                self.seen.send_if_modified(|seen| std::mem::replace(seen, now.clone()) != now);
            }
            let mut is_looked = self.is_looked.lock().unwrap_or_else(PoisonError::into_inner);
            if self.seen.receiver_count() == 0 {
                *is_looked = false;
                return;
            }
        }
    }
}

/// Changes, deliveries and findings as they happen: server-sent events `changes`, `deliveries`, `findings`, and `beat` every few
/// seconds; `reset` says that more was missed than is told. `Last-Event-ID` goes on where a reader was.
#[utoipa::path(get, path = "/admin/v1/live", operation_id = "listen", tag = "admin",
    responses((status = 200, description = "Events without an end.", body = String, content_type = "text/event-stream")))]
pub(in crate::http) async fn listen(
    State((app, hub)): State<(Arc<App>, Arc<Hub>)>,
    signed_in: Option<Extension<SignedIn>>,
    stopping: Option<Extension<Stopping>>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let full = || Problem::new("overloaded", "As many listen as may.");
    let permit = hub.readers.clone().try_acquire_owned().map_err(|_| full())?;
    let now = app.clock.now();
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| read_id(id, now));
    let (pulse, findings) = (app.store.pulse(now).await?, app.store.findings().await?);
    let (sequence, since) = last.unwrap_or((pulse.sequence, now));
    let (events, waiting) = mpsc::channel(WAITING);
    let reader = Reader {
        seen: hub.listen(),
        store: app.store.clone(),
        clock: app.clock.clone(),
        events,
        // A place of another copy, or of one that was restored, is none.
        sequence: sequence.min(pulse.sequence),
        since: since.plus(-VISIBLE_MS),
        shown: HashMap::new(),
        findings: None,
        _permit: permit,
    };
    // Neither may hold the service when it is to end.
    let check = Check { app: Arc::downgrade(&app), session: signed_in.map(|Extension(SignedIn(id))| id) };
    let stopping = stopping.map(|Extension(stopping)| stopping);
    tokio::spawn(async move {
        tokio::select! {
            () = reader.run(check, Seen { pulse, findings }) => {}
            () = stopped(stopping) => {}
        }
    });
    Ok(endless(waiting))
}

/// Whether a reader may still be told.
struct Check {
    app: std::sync::Weak<App>,
    session: Option<String>,
}

impl Check {
    async fn holds(&self) -> bool {
        let Some(app) = self.app.upgrade() else { return false };
        match &self.session {
            Some(id) => goes_on(&app, id).await,
            None => true,
        }
    }
}

/// One that listens.
struct Reader {
    store: Store,
    clock: Arc<dyn Clock>,
    seen: watch::Receiver<Seen>,
    events: mpsc::Sender<Bytes>,
    /// The last change that it knows.
    sequence: i64,
    /// Deliveries that arrived before are known.
    since: Millis,
    /// Deliveries that it was told lately: how often they had come, and what had become of them.
    shown: HashMap<String, (i64, String)>,
    findings: Option<Vec<Finding>>,
    _permit: OwnedSemaphorePermit,
}

/// The reader has gone, or does not read.
struct Gone;

#[derive(Serialize)]
struct Changes<'a> {
    data: &'a [Entry],
}

#[derive(Serialize)]
struct Deliveries<'a> {
    data: &'a [DeliverySummary],
    has_more: bool,
}

#[derive(Serialize)]
struct Found<'a> {
    data: &'a [Finding],
}

#[derive(Serialize)]
struct Beat {
    at: Millis,
    sequence: i64,
}

impl Reader {
    async fn run(mut self, check: Check, first: Seen) {
        // What was missed, before what comes.
        if self.tell(first).await.is_err() {
            return;
        }
        let mut beat = tokio::time::interval(BEAT);
        beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let told = tokio::select! {
                changed = self.seen.changed() => match changed {
                    Ok(()) => {
                        let seen = self.seen.borrow_and_update().clone();
                        self.tell(seen).await
                    }
                    Err(_) => Err(Gone),
                },
                _ = beat.tick() => {
                    if !check.holds().await {
                        return;
                    }
                    let event = Beat { at: self.clock.now(), sequence: self.sequence };
                    self.send("beat", &event).await
                }
            };
            if told.is_err() {
                return;
            }
        }
    }

    /// Tells what is new. A database that does not answer is asked again when it has changed.
    async fn tell(&mut self, Seen { pulse, findings }: Seen) -> Result<(), Gone> {
        if self.findings.as_ref() != Some(&findings) {
            self.send("findings", &Found { data: &findings }).await?;
            self.findings = Some(findings);
        }
        if pulse.sequence - self.sequence > MAX_BEHIND {
            self.sequence = pulse.sequence;
            self.send("reset", &Beat { at: self.clock.now(), sequence: pulse.sequence }).await?;
        }
        self.tell_deliveries().await?;
        while self.sequence < pulse.sequence {
            let Ok(entries) = self.store.changes_after(self.sequence, AT_ONCE).await else { return Ok(()) };
            let Some(last) = entries.last() else { return Ok(()) };
            self.sequence = last.sequence;
            self.send("changes", &Changes { data: &entries }).await?;
        }
        Ok(())
    }

    async fn tell_deliveries(&mut self) -> Result<(), Gone> {
        let now = self.clock.now();
        let filter = DeliveryFilter { since: Some(self.since), ..DeliveryFilter::default() };
        let Ok(mut came) = self.store.deliveries(&filter, None, true, AT_ONCE + 1).await else { return Ok(()) };
        let has_more = i64::try_from(came.len()).is_ok_and(|count| count > AT_ONCE);
        came.truncate(usize::try_from(AT_ONCE).unwrap_or_default());
        let state = |delivery: &DeliverySummary| (delivery.attempts, delivery.outcome.clone());
        let shown = came.iter().map(|delivery| (delivery.svix_id.clone(), state(delivery))).collect();
        let known = std::mem::replace(&mut self.shown, shown);
        came.retain(|delivery| known.get(&delivery.svix_id) != Some(&state(delivery)));
        self.since = self.since.max(now.plus(-VISIBLE_MS));
        if came.is_empty() { Ok(()) } else { self.send("deliveries", &Deliveries { data: &came, has_more }).await }
    }

    async fn send(&self, name: &str, data: &impl Serialize) -> Result<(), Gone> {
        let data = serde_json::to_string(data).map_err(|_| Gone)?;
        let id = format!("{}-{}", self.sequence, self.clock.now().0);
        let event = Bytes::from(format!("retry: {RETRY_MS}\nid: {id}\nevent: {name}\ndata: {data}\n\n"));
        self.events.send_timeout(event, SLOW).await.map_err(|_| Gone)
    }
}

/// Where a reader was: the last change that it knew, and the time. What nobody can have sent is none.
fn read_id(id: &str, now: Millis) -> Option<(i64, Millis)> {
    let (sequence, at) = id.split_once('-')?;
    let (sequence, at): (i64, i64) = (sequence.parse().ok()?, at.parse().ok()?);
    (sequence >= 0).then(|| (sequence, Millis(at.clamp(now.0 - MAX_BACK_MS, now.0))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_goes_on_where_it_was() {
        let now = Millis(100 * MAX_BACK_MS);
        let check = |id: &str, expected| assert_eq!(read_id(id, now), expected, "{id}");
        check("7-59990000", Some((7, Millis(59_990_000))));
        check("7-1", Some((7, Millis(99 * MAX_BACK_MS))));
        check("7-9999999999999", Some((7, now)));
        for none in ["", "7", "-1-5", "7-", "x-1", "99999999999999999999-1"] {
            check(none, None);
        }
    }
}

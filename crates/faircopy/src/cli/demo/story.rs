//! What happens in the demo, in four acts; each is measured while it happens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use faircopy_core::Millis;
use faircopy_core::example::EXAMPLES;
use faircopy_core::signature::Secret;
use faircopy_sandbox::Sandbox;
use faircopy_sandbox::chaos::DeliveryChaos;
use faircopy_sandbox::instance::Dice;
use faircopy_sandbox::post::{Delivery, DeliveryState, Message};
use serde::Serialize;
use tokio::sync::watch;

use super::super::Failure;
use super::super::trigger::{Sender, message_id};
use super::telling;
use crate::app::{self, App, Clock as _, SystemClock};
use crate::compare;
use crate::sweep::{Glimpse, Order, Patience, Report, Stop, Sweeper};
use crate::upstream::clerk::Share;

/// How much happens to the company, and how fast: a second or two of it.
const CHANGES: usize = 300;
const BETWEEN_CHANGES: Duration = Duration::from_millis(4);
/// Changes that are tried at most: some are such as Clerk refuses.
const MAX_TRIES: usize = 3 * CHANGES;
/// How often is looked whether everything is sent, and for how long: beyond it the service did not take it.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const MAX_LOOKS: usize = 6_000;
/// How often the service's own reconcile is waited for if it happens to run.
const MAX_BUSY: usize = 60;

/// Who plays.
pub(super) struct Scene {
    pub(super) app: Arc<App>,
    /// Where the service is.
    pub(super) url: String,
    pub(super) sandbox: Sandbox,
    /// What signs deliveries.
    pub(super) secret: String,
    pub(super) seed: u64,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(super) struct Story {
    pub(super) backfill: Copied,
    pub(super) life: Lived,
    /// The answers to Clerk's example deliveries.
    pub(super) examples: BTreeMap<String, usize>,
    pub(super) reconcile: Report,
    pub(super) reconcile_ms: i64,
    /// Rows that were compared in the end, column by column.
    pub(super) compared: usize,
    pub(super) differences: Vec<String>,
}

/// The first act.
#[derive(Debug, Serialize)]
pub(super) struct Copied {
    pub(super) rows: u64,
    pub(super) requests: u64,
    pub(super) took_ms: i64,
}

/// The second act.
#[derive(Debug, Default, Serialize)]
pub(super) struct Lived {
    pub(super) changes: usize,
    /// Deliveries that the changes made.
    pub(super) deliveries: usize,
    /// Of them: taken by the service, …
    pub(super) delivered: usize,
    /// … of these, more than once, …
    pub(super) twice: usize,
    /// … and after one that was made later.
    pub(super) overtaken: usize,
    /// Never sent.
    pub(super) lost: usize,
    /// Requests to the webhook endpoint.
    pub(super) requests: usize,
    pub(super) took_ms: i64,
}

/// What goes wrong with the deliveries of the second act.
pub(super) fn unreliable_mail() -> DeliveryChaos {
    DeliveryChaos {
        duplicate_percent: 25.0,
        drop_percent: 10.0,
        reorder_percent: 50.0,
        reorder_window: 30,
        reorder_patience_ms: 500,
        delay_percent: 30.0,
        delay_ms: [0, 1_000],
        ..DeliveryChaos::default()
    }
}

impl Scene {
    /// The webhook endpoint.
    pub(super) fn webhook(&self) -> String {
        format!("{}/webhooks/clerk", self.url)
    }
}

/// Plays it to the end.
pub(super) async fn play(scene: &Scene) -> Result<Story, Failure> {
    let backfill = copy(scene).await?;
    telling::copied(&backfill);
    let life = live(scene).await?;
    telling::lived(&life);
    let examples = send_examples(scene).await?;
    telling::examples(&examples);
    let (reconcile, reconcile_ms) = sweep(scene, Order { grace_ms: 0, ..Order::reconcile() }).await?;
    telling::reconciled(&reconcile, reconcile_ms);
    let (compared, differences) = compare(scene).await?;
    Ok(Story { backfill, life, examples, reconcile, reconcile_ms, compared, differences })
}

async fn copy(scene: &Scene) -> Result<Copied, Failure> {
    let (report, took_ms) = sweep(scene, Order::backfill()).await?;
    let rows = report.kinds.values().map(|tally| tally.missing).sum();
    Ok(Copied { rows, requests: report.requests, took_ms })
}

/// Sweeps as ordered: with the service's own parts, as `serve` does it.
async fn sweep(scene: &Scene, order: Order) -> Result<(Report, i64), Failure> {
    let app = &scene.app;
    let clerk = app.clerk.clone().ok_or_else(|| Failure::Failed("the demo has no key of Clerk's API".into()))?;
    let sweeper = Sweeper {
        clerk,
        store: app.store.clone(),
        intake: app.intake.clone(),
        clock: app.clock.clone(),
        metrics: app.metrics.clone(),
        holder: app::holder().into(),
        share: Share::Operator,
        patience: Patience::default(),
    };
    for _ in 0..MAX_BUSY {
        let began = SystemClock.now();
        match sweeper.run(order, &watch::Sender::new(Glimpse::default())).await {
            Err(Stop::Busy) => tokio::time::sleep(Duration::from_secs(1)).await,
            outcome => {
                let report = outcome.map_err(|stop| Failure::Failed(stop.to_string()))?;
                return Ok((report, since(began)));
            }
        }
    }
    Err(Failure::Failed(Stop::Busy.to_string()))
}

/// The company lives, and its mail is not to be relied on; afterwards it is.
async fn live(scene: &Scene) -> Result<Lived, Failure> {
    let (shared, began) = (scene.sandbox.shared(), SystemClock.now());
    let mut dice = Dice::new(scene.seed);
    let mut changes = 0;
    for _ in 0..MAX_TRIES {
        if changes == CHANGES {
            break;
        }
        changes += usize::from(shared.change(|instance, now| instance.change_at_random(&mut dice, now)));
        tokio::time::sleep(BETWEEN_CHANGES).await;
    }
    until_sent(scene).await?;
    let calmed = shared.with(|state, now| state.set_chaos(faircopy_sandbox::chaos::Settings::default(), now));
    calmed.map_err(|unfit| Failure::Failed(unfit.to_string()))?;
    let lived = shared.with(|state, _| count(state.post.messages()));
    Ok(Lived { changes, took_ms: since(began), ..lived })
}

/// Waits until the sandbox has nothing more to send.
async fn until_sent(scene: &Scene) -> Result<(), Failure> {
    for _ in 0..MAX_LOOKS {
        if scene.sandbox.shared().with(|state, _| state.post.messages().all(Message::is_finished)) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Err(Failure::Failed("the server did not take every delivery within a minute".into()))
}

/// Counts what became of the messages, the newest first.
fn count<'a>(messages: impl Iterator<Item = &'a Message>) -> Lived {
    let mut lived = Lived::default();
    // When the first of the later ones was there.
    let mut first_of_later = i64::MAX;
    for delivery in messages.flat_map(|message| message.deliveries.values()) {
        let taken = taken_at(delivery);
        lived.deliveries += 1;
        lived.requests += delivery.attempts.len();
        lived.lost += usize::from(delivery.state == DeliveryState::Lost);
        lived.delivered += usize::from(!taken.is_empty());
        lived.twice += usize::from(taken.len() > 1);
        if let Some(at) = taken.into_iter().min() {
            lived.overtaken += usize::from(at > first_of_later);
            first_of_later = first_of_later.min(at);
        }
    }
    lived
}

/// When the attempts that succeeded did.
fn taken_at(delivery: &Delivery) -> Vec<i64> {
    let taken = delivery.attempts.iter().filter(|attempt| attempt.answer.is_success());
    taken.map(|attempt| attempt.at_ms + attempt.took_ms).collect()
}

/// Sends Clerk's examples as they are, and counts the answers. They are of another instance.
async fn send_examples(scene: &Scene) -> Result<BTreeMap<String, usize>, Failure> {
    let secret = Secret::parse(&scene.secret).map_err(|error| Failure::Failed(error.to_string()))?;
    let sender = Sender::new(scene.webhook(), secret)?;
    let mut outcomes = BTreeMap::new();
    for example in EXAMPLES {
        let outcome = send(&sender, example.body).await?;
        *outcomes.entry(outcome).or_default() += 1;
    }
    Ok(outcomes)
}

/// Sends until it is acknowledged, as Svix does, at most for half a minute.
async fn send(sender: &Sender, body: &str) -> Result<String, Failure> {
    const TRIES: u32 = 60;
    let id = message_id();
    for _ in 0..TRIES {
        let reply = sender.send(&id, SystemClock.now().0.div_euclid(1000), body.to_owned()).await?;
        match reply.status {
            200 => return Ok(reply.answer["outcome"].as_str().unwrap_or("no outcome").to_owned()),
            503 => tokio::time::sleep(Duration::from_millis(500)).await,
            other => return Err(Failure::Failed(format!("a delivery was answered with {other}: {}", reply.answer))),
        }
    }
    Err(Failure::Failed("the server did not take a delivery within 30 seconds".into()))
}

/// Compares every column of the copy with the sandbox's own documents: rows that were compared, and what differs.
async fn compare(scene: &Scene) -> Result<(usize, Vec<String>), Failure> {
    let truth = scene.sandbox.shared().with(|state, now| compare::truth_of(&state.instance, now));
    let truth = truth.map_err(|refusal| Failure::Failed(format!("the sandbox cannot be read: {refusal:?}")))?;
    let rows = truth.users.len() + truth.organizations.len() + truth.members.len() + truth.invitations.len();
    Ok((rows, compare::with_truth(&scene.app.store, &truth).await?))
}

fn since(began: Millis) -> i64 {
    (SystemClock.now().0 - began.0).max(0)
}

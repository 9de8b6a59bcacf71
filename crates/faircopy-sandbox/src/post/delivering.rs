//! Attempts: what is to be sent now, and what follows from how it went.

use super::keeping::Key;
use super::lanes::UnderWay;
use super::message::{Answer, Attempt, Control, DeliveryState, Trigger, Turn};
use super::{DisabledBy, Post, after, schedule};
use crate::chance::Chance;
use crate::chaos::DeliveryChaos;

/// The user agent of every attempt.
pub(super) const USER_AGENT: &str = "Svix-Webhooks/1.70.0 (sender-sandbox; faircopy)";

/// One request that is to be made: a POST with this body and these headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispatch {
    /// Names the attempt in [`Post::answered`].
    pub attempt: u64,
    /// Where to.
    pub url: String,
    /// `svix-id`.
    pub message: String,
    /// `svix-timestamp`, in seconds.
    pub timestamp_s: i64,
    /// `svix-signature`.
    pub signature: String,
    /// The body, byte for byte what was signed.
    pub body: String,
}

impl Dispatch {
    /// All headers.
    #[must_use]
    pub fn headers(&self) -> [(&'static str, String); 5] {
        [
            ("content-type", "application/json".to_owned()),
            ("user-agent", USER_AGENT.to_owned()),
            ("svix-id", self.message.clone()),
            ("svix-timestamp", self.timestamp_s.to_string()),
            ("svix-signature", self.signature.clone()),
        ]
    }
}

impl Post {
    /// What is to be sent now. Each is under way until [`Post::answered`] or [`Post::interrupted`] is told of it.
    ///
    /// During an outage, attempts are made and fail at the times that they were due, however late this is called.
    pub fn due(&mut self, (chaos, seed): (&DeliveryChaos, Chance), now_ms: i64) -> Vec<Dispatch> {
        let mut dispatches = Vec::new();
        for endpoint in self.lanes.endpoints() {
            while let Some((at_ms, order, message)) = self.lanes.take_due(&endpoint, self.settings.concurrency, now_ms)
            {
                let outage = chaos.outage_at(at_ms);
                let begins_ms = if outage { at_ms } else { now_ms };
                let Some(dispatch) = self.begin(message, &endpoint, order, (chaos, seed), begins_ms) else { continue };
                if outage {
                    let error = "nobody listens (an outage that the sandbox plays)".to_owned();
                    self.answered(dispatch.attempt, &Answer::Nothing { error, timeout: false }, begins_ms);
                } else {
                    dispatches.push(dispatch);
                }
            }
        }
        dispatches
    }

    /// When to ask [`Post::due`] again, if nothing happens before.
    #[must_use]
    pub fn next_at(&self) -> Option<i64> {
        self.lanes.next_at(self.settings.concurrency)
    }

    /// Whether nothing is under way, and nothing due before later.
    #[must_use]
    pub fn is_idle(&self, now_ms: i64) -> bool {
        self.under_way() == 0 && self.next_at().is_none_or(|at_ms| at_ms > now_ms)
    }

    /// How many attempts are under way.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.lanes.count_under_way()
    }

    fn begin(
        &mut self,
        message: u64,
        endpoint: &str,
        order: u64,
        (chaos, seed): (&DeliveryChaos, Chance),
        now_ms: i64,
    ) -> Option<Dispatch> {
        let found = self.messages.get_mut(&message)?;
        let delivery = found.deliveries.get_mut(endpoint)?;
        let attempt = after(&mut self.numbers.attempts);
        let so_far = delivery.attempts.len() as u64;
        let turn = delivery.turn(order)?;
        turn.under_way = Some(attempt);
        let to = self.endpoints.get(endpoint)?;
        let corrupted = chaos.corrupts(seed, [message, to.number, so_far]);
        // A signature over other bytes is as good a wrong one as any.
        let signed = if corrupted { "" } else { &found.body };
        let dispatch = Dispatch {
            attempt,
            url: to.url.clone(),
            message: found.id.clone(),
            timestamp_s: now_ms.div_euclid(1000),
            signature: to.signatures(&found.id, signed, now_ms),
            body: found.body.clone(),
        };
        self.lanes
            .begins(attempt, UnderWay { message, endpoint: endpoint.to_owned(), order, at_ms: now_ms, corrupted });
        Some(dispatch)
    }

    /// An attempt ended.
    pub fn answered(&mut self, attempt: u64, answer: &Answer, now_ms: i64) {
        let Some(what) = self.lanes.ends(attempt) else { return };
        let Some(trigger) = self.note(attempt, &what, answer, now_ms) else { return };
        if answer.is_success() {
            self.delivered(&what);
        } else {
            self.failed(&what, trigger, answer, now_ms);
        }
        self.changed.note(Key::Message(what.message));
        self.changed.note(Key::Endpoint(what.endpoint));
    }

    /// Writes down how an attempt ended, and takes away its turn.
    fn note(&mut self, number: u64, what: &UnderWay, answer: &Answer, now_ms: i64) -> Option<Trigger> {
        let delivery = self.messages.get_mut(&what.message)?.deliveries.get_mut(&what.endpoint)?;
        let place = delivery.turns.iter().position(|turn| turn.order == what.order)?;
        let Turn { trigger, .. } = delivery.turns.remove(place);
        let (at_ms, corrupted, answer) = (what.at_ms, what.corrupted, answer.clone());
        delivery.note(Attempt { number, trigger, at_ms, took_ms: (now_ms - at_ms).max(0), corrupted, answer });
        Some(trigger)
    }

    fn delivered(&mut self, what: &UnderWay) {
        self.end_schedule(what, DeliveryState::Delivered);
        if let Some(endpoint) = self.endpoints.get_mut(&what.endpoint) {
            endpoint.succeeded();
        }
    }

    fn failed(&mut self, what: &UnderWay, trigger: Trigger, answer: &Answer, now_ms: i64) {
        if trigger == Trigger::Schedule {
            self.schedule_next(what, answer, now_ms);
        } else {
            self.settle(what);
        }
        let Some(endpoint) = self.endpoints.get_mut(&what.endpoint) else { return };
        let mut ends = endpoint.failed(now_ms, i64::from(self.settings.speed));
        if answer.control() == Some(Control::Disable) {
            endpoint.disable(now_ms, DisabledBy::Receiver);
            ends = true;
        }
        if ends {
            self.give_up(&what.endpoint);
        }
    }

    fn schedule_next(&mut self, what: &UnderWay, answer: &Answer, now_ms: i64) {
        let Some(delivery) =
            self.messages.get_mut(&what.message).and_then(|message| message.deliveries.get_mut(&what.endpoint))
        else {
            return;
        };
        if delivery.state != DeliveryState::Waiting {
            // Somebody resent it meanwhile, and that arrived.
            return;
        }
        delivery.tried += 1;
        let mut draw = self.chance.of("jitter", &[what.message, delivery.tried as u64]);
        let delay = schedule::delay_ms(delivery.tried, answer, self.settings.jitter_percent, &mut draw);
        let aborted = answer.control() == Some(Control::AbortMessage);
        let is_open = self.endpoints.get(&what.endpoint).is_some_and(|endpoint| endpoint.disabled.is_none());
        let Some(delay) = delay.filter(|_| is_open && !aborted) else {
            return self.end_schedule(what, DeliveryState::Failed);
        };
        let at_ms = now_ms + delay / i64::from(self.settings.speed);
        let order = after(&mut self.numbers.orders);
        let turn = Turn { at_ms, trigger: Trigger::Schedule, order, overtaken_by: 0, under_way: None };
        self.enqueue(what.message, &what.endpoint, turn);
    }

    /// Something that is not tried again failed: if nothing else is to come, the delivery has failed.
    fn settle(&mut self, what: &UnderWay) {
        let found = self.messages.get_mut(&what.message).and_then(|message| message.deliveries.get_mut(&what.endpoint));
        if let Some(delivery) = found.filter(|delivery| delivery.turns.is_empty())
            && delivery.state == DeliveryState::Waiting
        {
            delivery.state = DeliveryState::Failed;
        }
    }

    /// Whatever else the schedule had is not needed any more.
    fn end_schedule(&mut self, what: &UnderWay, state: DeliveryState) {
        let Some(delivery) =
            self.messages.get_mut(&what.message).and_then(|message| message.deliveries.get_mut(&what.endpoint))
        else {
            return;
        };
        delivery.state = state;
        for turn in delivery.turns.iter().filter(|turn| turn.trigger == Trigger::Schedule) {
            self.lanes.remove(&what.endpoint, what.message, turn);
        }
        delivery.end_schedule();
    }

    /// Nothing that waits for this endpoint will be sent.
    pub(super) fn give_up(&mut self, endpoint: &str) {
        for number in self.lanes.waiting_at(endpoint) {
            let Some(delivery) =
                self.messages.get_mut(&number).and_then(|message| message.deliveries.get_mut(endpoint))
            else {
                continue;
            };
            for turn in delivery.turns.iter().filter(|turn| turn.under_way.is_none()) {
                self.lanes.remove(endpoint, number, turn);
            }
            delivery.turns.retain(|turn| turn.under_way.is_some());
            if delivery.state == DeliveryState::Waiting && delivery.turns.is_empty() {
                delivery.state = DeliveryState::Failed;
            }
            self.changed.note(Key::Message(number));
        }
    }

    /// An attempt was broken off on this side, and counts as not made: it is due again.
    pub fn interrupted(&mut self, attempt: u64) {
        let Some(what) = self.lanes.ends(attempt) else { return };
        let Some(delivery) =
            self.messages.get_mut(&what.message).and_then(|message| message.deliveries.get_mut(&what.endpoint))
        else {
            return;
        };
        if let Some(turn) = delivery.turn(what.order) {
            turn.under_way = None;
            self.lanes.add(&what.endpoint, what.message, turn);
        }
    }

    /// Everything that is under way was broken off on this side.
    pub fn interrupt_all(&mut self) {
        for attempt in self.lanes.all_under_way() {
            self.interrupted(attempt);
        }
    }
}

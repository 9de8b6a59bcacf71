//! Sending again what was sent, or was not: what Svix's portal calls resend, recover and replay missing.

use super::message::{Delivery, DeliveryState, Trigger, Turn};
use super::{Post, Refused, after};

impl Post {
    /// Sends a message once more, with the same id: to one endpoint, or to all that it was addressed to and that are enabled.
    /// Gives the number of endpoints.
    ///
    /// # Errors
    /// If there is no such message or endpoint, or the endpoint is disabled.
    pub fn resend(&mut self, message: &str, endpoint: Option<&str>, now_ms: i64) -> Result<usize, Refused> {
        let number = self.number_of(message)?;
        let endpoints = match endpoint {
            Some(one) => {
                self.open_endpoint(one)?;
                vec![one.to_owned()]
            }
            None => {
                self.message(message)?.deliveries.keys().filter(|id| self.open_endpoint(id).is_ok()).cloned().collect()
            }
        };
        for endpoint in &endpoints {
            self.send_again(number, endpoint, now_ms);
        }
        Ok(endpoints.len())
    }

    /// Sends an endpoint what was never tried there: messages from the time when it did not exist, was disabled, or wanted
    /// other events. Gives their number.
    ///
    /// # Errors
    /// If there is no such endpoint, or it is disabled.
    pub fn replay_missing(&mut self, endpoint: &str, since_ms: i64, now_ms: i64) -> Result<usize, Refused> {
        let never_tried = |delivery: Option<&Delivery>| {
            delivery.is_none_or(|delivery| delivery.attempts.is_empty() && delivery.state == DeliveryState::Failed)
        };
        self.send_all_again(endpoint, since_ms, now_ms, never_tried)
    }

    /// Sends an endpoint once more what failed there. Gives the number of messages.
    ///
    /// # Errors
    /// If there is no such endpoint, or it is disabled.
    pub fn recover(&mut self, endpoint: &str, since_ms: i64, now_ms: i64) -> Result<usize, Refused> {
        let failed =
            |delivery: Option<&Delivery>| delivery.is_some_and(|delivery| delivery.state == DeliveryState::Failed);
        self.send_all_again(endpoint, since_ms, now_ms, failed)
    }

    fn send_all_again(
        &mut self,
        endpoint: &str,
        since_ms: i64,
        now_ms: i64,
        wanted: impl Fn(Option<&Delivery>) -> bool,
    ) -> Result<usize, Refused> {
        let to = self.open_endpoint(endpoint)?;
        let messages = self.messages.values().filter(|message| {
            message.created_at_ms >= since_ms && to.takes(&message.kind) && wanted(message.deliveries.get(endpoint))
        });
        let numbers: Vec<u64> = messages.map(|message| message.number).collect();
        for number in &numbers {
            self.send_again(*number, endpoint, now_ms);
        }
        Ok(numbers.len())
    }

    fn send_again(&mut self, message: u64, endpoint: &str, now_ms: i64) {
        let order = after(&mut self.numbers.orders);
        let turn = Turn { at_ms: now_ms, trigger: Trigger::Resend, order, overtaken_by: 0, under_way: None };
        self.enqueue(message, endpoint, turn);
    }
}

//! The instance as it was, for answers that come from the past.
//!
//! A copy of an instance shares its rows with it, so it costs a pointer for each.

use std::collections::VecDeque;

use super::store::Instance;

/// Copies of an instance, from when somebody began to look back.
#[derive(Debug)]
pub struct Past {
    /// By how much answers lag; if by nothing, they come from the first copy, for ever.
    lag_ms: Option<i64>,
    /// When the instance changed last.
    changed_ms: i64,
    /// Copies and since when the instance had been so, the oldest first; never empty.
    copies: VecDeque<(i64, Instance)>,
}

impl Past {
    /// Begins to look back: nothing older than this is known.
    #[must_use]
    pub fn new(instance: &Instance, lag_ms: Option<i64>, now: i64) -> Self {
        Self { lag_ms, changed_ms: now, copies: VecDeque::from([(now, instance.clone())]) }
    }

    /// By how much answers lag.
    #[must_use]
    pub fn lag_ms(&self) -> Option<i64> {
        self.lag_ms
    }

    /// To be told before each change: keeps a copy if there is none of what is about to change, at most one in each lag.
    pub fn keep(&mut self, instance: &Instance, now: i64) {
        let Some(lag_ms) = self.lag_ms else { return };
        let newest = self.copies.back().map_or(i64::MIN, |(since, _)| *since);
        if self.changed_ms > newest && now.saturating_sub(newest) >= lag_ms {
            self.copies.push_back((self.changed_ms, instance.clone()));
        }
        let old_enough = |(since, _): &(i64, Instance)| *since <= now.saturating_sub(lag_ms);
        while self.copies.get(1).is_some_and(old_enough) {
            self.copies.pop_front();
        }
    }

    /// To be told after each change.
    pub fn changed(&mut self, now: i64) {
        self.changed_ms = now;
    }

    /// The instance as it was a lag ago, or up to a lag before that; none if it has been as it is for so long.
    pub fn at(&mut self, now: i64) -> Option<&mut Instance> {
        if let Some(lag_ms) = self.lag_ms {
            let then = now.saturating_sub(lag_ms);
            if self.changed_ms <= then {
                return None;
            }
            let place = self.copies.iter().rposition(|(since, _)| *since <= then).unwrap_or(0);
            return self.copies.get_mut(place).map(|(_, instance)| instance);
        }
        self.copies.front_mut().map(|(_, instance)| instance)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::instance::{Kind, Options};

    fn add(instance: &mut Instance, past: &mut Past, number: usize, now: i64) {
        past.keep(instance, now);
        let body = json!({ "first_name": "Ada", "external_id": number.to_string() });
        instance.create_user(body.as_object().expect("an object"), now).expect("a user");
        past.changed(now);
    }

    /// What is answered at a time, as the number of users.
    fn seen(instance: &Instance, past: &mut Past, now: i64) -> usize {
        past.keep(instance, now);
        past.at(now).map_or(instance.count(Kind::User), |then| then.count(Kind::User))
    }

    #[test]
    fn without_a_lag_the_first_moment_is_answered_for_ever() {
        let mut instance = Instance::new("ins_1", 1, Options::default());
        let mut past = Past::new(&instance, None, 1_000);
        for number in 0..5 {
            add(&mut instance, &mut past, number, 2_000);
        }
        assert_eq!(seen(&instance, &mut past, i64::MAX), 0);
    }

    #[test]
    fn with_a_lag_each_change_is_seen_after_one_lag_at_least_and_two_at_most() {
        for (lag, step) in [(100, 7), (100, 60), (100, 100), (100, 150), (100, 1_000)] {
            let mut instance = Instance::new("ins_1", 1, Options::default());
            let mut past = Past::new(&instance, Some(lag), 0);
            let mut made = Vec::new();
            for now in 1..3_000 {
                if now % step == 0 {
                    add(&mut instance, &mut past, made.len(), now);
                    made.push(now);
                }
                let seen = seen(&instance, &mut past, now);
                let due = made.iter().filter(|at| **at <= now - 2 * lag - step).count();
                let possible = made.iter().filter(|at| **at <= now - lag).count();
                assert!(
                    (due..=possible).contains(&seen),
                    "lag {lag}, step {step}, at {now}: {seen} of {due} to {possible}"
                );
                assert!(past.copies.len() <= 4);
            }
        }
    }
}

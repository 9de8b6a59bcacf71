//! Where a destination stands, and what is done next for it.
//!
//! Sending everything again walks through the rows under the number that the feed had when it began; afterwards the feed goes on from
//! there. The sweep that tells what is not in the copy comes when nobody waits for another attempt any more: until then a subject that
//! waits has a lower number there, and is in the copy. Those that are parked do not hold it up: what a destination refuses, it has not.

use super::{Entity, Subject};
use crate::time::Millis;

/// Subjects that may wait for one destination. Beyond it nothing new is sent: it takes nothing, and the feed keeps what it lacks.
pub const MAX_WAITING: i64 = 1_000;

/// Where a destination stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Everything up to this number of the feed was taken, or waits by itself.
    pub sequence: i64,
    /// Everything is being sent again.
    pub resend: Option<Resend>,
    /// Everything was sent again, and what is not in the copy is still to be swept.
    pub sweep: Option<Sweep>,
}

/// Everything is being sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resend {
    /// Under this number.
    pub number: i64,
    /// When it began.
    pub began_at: Millis,
    /// The table that is walked through.
    pub entity: Entity,
    /// After this id.
    pub after: String,
}

/// What has a lower number than this is not in the copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sweep {
    /// The number.
    pub number: i64,
    /// When the resend began.
    pub began_at: Millis,
}

/// What is done next. Whoever waits and is due is tried with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The feed begins later than the place: everything is to be sent again.
    BeginResend,
    /// Rows of this table after this id.
    Walk(Entity, String),
    /// The sweep.
    Sweep(Sweep),
    /// Changes after this number.
    Feed(i64),
    /// Nothing new.
    Rest,
}

impl Place {
    /// What is next, where the feed begins after `forgotten` and ends with `newest`, so many subjects wait for another attempt, and so many
    /// are parked.
    #[must_use]
    pub fn next(&self, forgotten: i64, newest: i64, waiting: i64, parked: i64) -> Next {
        match (&self.resend, self.sweep) {
            (None, _) if self.sequence < forgotten => Next::BeginResend,
            _ if waiting + parked >= MAX_WAITING => Next::Rest,
            (Some(resend), _) => Next::Walk(resend.entity, resend.after.clone()),
            (None, Some(sweep)) if waiting == 0 => Next::Sweep(sweep),
            (None, _) if self.sequence < newest => Next::Feed(self.sequence),
            (None, _) => Next::Rest,
        }
    }

    /// The beginning of a resend, where the feed ends with `newest` now.
    #[must_use]
    pub fn resend(&self, newest: i64, now: Millis) -> Self {
        let resend = Resend { number: newest, began_at: now, entity: Entity::ALL[0], after: String::new() };
        Self { sequence: self.sequence, resend: Some(resend), sweep: None }
    }

    /// After a page of the walk: its ids in their order, whether the table has more, and where the place stopped taking.
    #[must_use]
    pub fn walked(&self, page: &[String], has_more: bool, stopped_at: Option<&Subject>) -> Self {
        let Some(resend) = &self.resend else { return self.clone() };
        let stop = stopped_at.and_then(|subject| page.iter().position(|id| *id == subject.id));
        let done = stop.unwrap_or(page.len());
        let after = done.checked_sub(1).and_then(|last| page.get(last)).unwrap_or(&resend.after).clone();
        if has_more || stop.is_some() {
            return Self { resend: Some(Resend { after, ..resend.clone() }), ..self.clone() };
        }
        let next = Entity::ALL.iter().copied().skip_while(|entity| *entity != resend.entity).nth(1);
        match next {
            Some(entity) => {
                let resend = Resend { entity, after: String::new(), ..resend.clone() };
                Self { resend: Some(resend), ..self.clone() }
            }
            None => {
                let sweep = Some(Sweep { number: resend.number, began_at: resend.began_at });
                Self { sequence: resend.number, resend: None, sweep }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_760_000_000_000);

    #[test]
    fn what_is_next() {
        let at = |sequence| Place { sequence, ..Place::default() };
        let check = |place: &Place, (forgotten, newest, waiting), expected: Next| {
            assert_eq!(place.next(forgotten, newest, waiting, 0), expected);
        };
        check(&at(5), (0, 9, 0), Next::Feed(5));
        check(&at(5), (5, 9, MAX_WAITING - 1), Next::Feed(5));
        check(&at(5), (5, 9, MAX_WAITING), Next::Rest);
        check(&at(9), (0, 9, 0), Next::Rest);
        check(&at(5), (6, 9, 0), Next::BeginResend);
        let resend = at(5).resend(9, NOW);
        check(&resend, (6, 12, 3), Next::Walk(Entity::User, String::new()));
        check(&resend, (6, 12, MAX_WAITING), Next::Rest);
        let sweep = Sweep { number: 9, began_at: NOW };
        let swept = Place { sweep: Some(sweep), ..at(9) };
        check(&swept, (0, 12, 0), Next::Sweep(sweep));
        check(&swept, (0, 12, 1), Next::Feed(9));
        check(&swept, (10, 12, 0), Next::BeginResend);
        assert_eq!(swept.next(0, 12, 0, 7), Next::Sweep(sweep), "who is parked does not hold it up");
        assert_eq!(at(5).next(0, 9, 1, MAX_WAITING - 1), Next::Rest);
    }

    #[test]
    fn a_walk_goes_through_every_table_and_stops_where_nothing_was_taken() {
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let stop = |id: &str| Subject { entity: Entity::User, id: id.into() };
        let mut place = Place::default().resend(9, NOW);
        let after = |place: &Place| place.resend.clone().map(|resend| (resend.entity, resend.after)).unwrap();
        place = place.walked(&ids(&["a", "b"]), true, None);
        assert_eq!(after(&place), (Entity::User, "b".into()));
        place = place.walked(&ids(&["c", "d"]), false, Some(&stop("d")));
        assert_eq!(after(&place), (Entity::User, "c".into()));
        place = place.walked(&ids(&["d"]), false, Some(&stop("d")));
        assert_eq!(after(&place), (Entity::User, "c".into()), "nothing was taken");
        for entity in Entity::ALL {
            assert_eq!(after(&place).0, entity);
            place = place.walked(&[], false, None);
        }
        assert_eq!(place, Place { sequence: 9, resend: None, sweep: Some(Sweep { number: 9, began_at: NOW }) });
    }
}

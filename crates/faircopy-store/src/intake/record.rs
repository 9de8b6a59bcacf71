//! The delivery records of a batch.
//!
//! They are written before the pen is taken, while another replica may be using it: they are most of a batch's bytes. What the
//! merge will say is not known then, so what was understood is recorded as `applied`, which it mostly is, and set right in
//! the same transaction.

use std::collections::{BTreeMap, HashMap};

use faircopy_core::event::Reading;

use super::{Arrival, Input, Outcome};
use crate::engine::{Call, Returning, Row, Rows};
use crate::error::Result;

/// Which attempts of a batch share a record. Within one statement an id stands once, because a statement cannot change a row
/// twice: attempts with the same body are counted together, and those with another body go to a later round.
pub(super) struct Record {
    /// Members of the batch, those without a delivery included.
    length: usize,
    rounds: Vec<Vec<Group>>,
}

/// The places in the batch of the attempts of one delivery with one body. Never empty.
struct Group(Vec<usize>);

impl Group {
    fn first(&self) -> usize {
        self.0[0]
    }

    fn arrival<'b, I: Input>(&self, batch: &'b [I]) -> Option<&'b Arrival> {
        batch[self.first()].delivery()
    }

    fn attempts(&self) -> i64 {
        i64::try_from(self.0.len()).unwrap_or(i64::MAX)
    }
}

/// What the records knew of an attempt.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Seen {
    pub(super) before: bool,
    pub(super) with_another_body: bool,
}

impl Record {
    pub(super) fn of<I: Input>(batch: &[I]) -> Self {
        let mut bodies: HashMap<&str, Vec<(i64, Group)>> = HashMap::with_capacity(batch.len());
        let deliveries = batch.iter().enumerate().filter_map(|(place, input)| Some((place, input.delivery()?)));
        for (place, arrival) in deliveries {
            let groups = bodies.entry(&arrival.svix_id).or_default();
            match groups.iter_mut().find(|(body_hash, _)| *body_hash == arrival.body_hash) {
                Some((_, group)) => group.0.push(place),
                None => groups.push((arrival.body_hash, Group(vec![place]))),
            }
        }
        let mut rounds: Vec<Vec<Group>> = Vec::new();
        for groups in bodies.into_values() {
            for (round, (_, group)) in groups.into_iter().enumerate() {
                if rounds.len() <= round {
                    rounds.push(Vec::with_capacity(batch.len()));
                }
                rounds[round].push(group);
            }
        }
        // Replicas lock records in this one order, and only then the pen. It also keeps the index's pages together.
        let id = |group: &Group| group.arrival(batch).map(|arrival| arrival.svix_id.as_str());
        for round in &mut rounds {
            round.sort_unstable_by(|a, b| id(a).cmp(&id(b)));
        }
        Self { length: batch.len(), rounds }
    }

    /// The statements, a round each. A known id counts another attempt and keeps its first payload; what was quarantined or
    /// ignored and is now understood is `stale` until [`Record::corrections`] says otherwise.
    pub(super) fn calls<'b, I: Input>(&self, batch: &'b [I]) -> Vec<Call<'b>> {
        const STATEMENT: &str = "INSERT INTO {s}webhook_deliveries AS t (conflicts, svix_id, event_type, entity_id, outcome, \
            attempts, event_at, signed_at, received_at, body_hash, payload, instance_id, error, clerk_user_id, clerk_org_id) \
            {values 0, v.*} \
            ON CONFLICT (svix_id) DO UPDATE SET attempts = t.attempts + excluded.attempts, \
            conflicts = t.conflicts + CASE WHEN t.body_hash <> excluded.body_hash THEN excluded.attempts ELSE 0 END, \
            error = CASE WHEN t.outcome IN ('quarantined', 'ignored') THEN excluded.error ELSE t.error END, \
            entity_id = COALESCE(t.entity_id, excluded.entity_id), \
            clerk_user_id = COALESCE(t.clerk_user_id, excluded.clerk_user_id), \
            clerk_org_id = COALESCE(t.clerk_org_id, excluded.clerk_org_id), \
            outcome = CASE WHEN t.outcome NOT IN ('quarantined', 'ignored') THEN t.outcome \
            WHEN excluded.outcome = 'applied' THEN 'stale' ELSE excluded.outcome END";
        const RETURNING: Returning<'static> = Returning {
            table: "webhook_deliveries",
            keys: &["svix_id"],
            columns: "svix_id, attempts, body_hash, outcome",
        };
        self.rounds.iter().map(|round| Call::over(STATEMENT, rows(round, batch)).returning(RETURNING)).collect()
    }

    /// Reads what [`Record::calls`] returned: for each attempt of the batch what was known of it, and which records have
    /// another outcome than they should once the merge has said its `outcomes`.
    pub(super) fn read<'b, I: Input>(
        &self,
        batch: &'b [I],
        outcomes: &[Outcome],
        found: &[Vec<Row>],
    ) -> Result<(Vec<Seen>, Corrections<'b>)> {
        let (mut seen, mut corrections) = (vec![Seen::default(); self.length], Corrections::default());
        for (round, rows) in self.rounds.iter().zip(found) {
            let arrivals: Vec<_> = round.iter().filter_map(|group| Some((group, group.arrival(batch)?))).collect();
            for row in rows {
                let (svix_id, attempts, body_hash) = (row.required(0)?, row.int(1)?, row.int(2)?);
                let Ok(at) = arrivals.binary_search_by(|(_, arrival)| arrival.svix_id.as_str().cmp(&svix_id)) else {
                    continue;
                };
                let (group, arrival) = arrivals[at];
                let with_another_body = body_hash != Some(arrival.body_hash);
                let is_known = attempts != Some(group.attempts());
                for (nth, place) in group.0.iter().enumerate() {
                    seen[*place] = Seen { before: nth > 0 || is_known, with_another_body };
                }
                let (outcome, recorded) = (outcomes[group.first()], row.required(3)?);
                match outcome {
                    Outcome::Stale if !is_known => corrections.set(&arrival.svix_id, outcome),
                    Outcome::Applied if recorded == Outcome::Stale.as_str() => {
                        corrections.set(&arrival.svix_id, outcome);
                    }
                    // An attempt with another body, in this batch, was stale: this one is what its id has brought.
                    Outcome::Applied => corrections.lift(&arrival.svix_id),
                    _ => {}
                }
            }
        }
        Ok((seen, corrections))
    }
}

/// Records whose outcome is to be set right.
#[derive(Default)]
pub(super) struct Corrections<'b>(BTreeMap<&'b str, Outcome>);

impl<'b> Corrections<'b> {
    fn set(&mut self, svix_id: &'b str, outcome: Outcome) {
        self.0.insert(svix_id, outcome);
    }

    fn lift(&mut self, svix_id: &str) {
        self.0.remove(svix_id);
    }

    pub(super) fn call(&self) -> Call<'b> {
        const STATEMENT: &str = "UPDATE {s}webhook_deliveries AS t SET outcome = v.outcome FROM {rows} AS v \
            WHERE t.svix_id = v.svix_id AND t.svix_id {any-of SELECT v.svix_id FROM {rows} AS v}";
        let rows = Rows::new(self.0.len())
            .text("svix_id", self.0.keys().map(|svix_id| Some(*svix_id)))
            .text("outcome", self.0.values().map(|outcome| Some(outcome.as_str())));
        Call::over(STATEMENT, rows)
    }
}

fn rows<'b, I: Input>(round: &[Group], batch: &'b [I]) -> Rows<'b> {
    let arrivals: Vec<(&Group, &'b Arrival)> =
        round.iter().filter_map(|group| Some((group, group.arrival(batch)?))).collect();
    let all = || arrivals.iter().map(|(_, arrival)| *arrival);
    let event = || all().map(|arrival| &arrival.content.event);
    Rows::new(arrivals.len())
        .text("svix_id", all().map(|arrival| Some(arrival.svix_id.as_str())))
        .text("event_type", event().map(|event| Some(event.event_type.as_str())))
        .text("entity_id", event().map(|event| event.entity_id.as_deref()))
        .text(
            "outcome",
            event().map(|event| {
                Some(match &event.reading {
                    Reading::Observed(_) => Outcome::Applied.as_str(),
                    Reading::Ignored => Outcome::Ignored.as_str(),
                    Reading::Quarantined(_) => Outcome::Quarantined.as_str(),
                })
            }),
        )
        .int("attempts", arrivals.iter().map(|(group, _)| Some(group.attempts())))
        .time("event_at", event().map(|event| event.event_at))
        .time("signed_at", all().map(|arrival| Some(arrival.signed_at)))
        .time("received_at", all().map(|arrival| Some(arrival.received_at)))
        .int("body_hash", all().map(|arrival| Some(arrival.body_hash)))
        .text("payload", all().map(|arrival| arrival.content.payload.as_deref()))
        .text("instance_id", event().map(|event| event.instance_id.as_deref()))
        .seldom()
        .text(
            "error",
            event().map(|event| match &event.reading {
                Reading::Quarantined(fault) => Some(fault.to_string()),
                Reading::Observed(_) | Reading::Ignored => None,
            }),
        )
        .text("clerk_user_id", event().map(|event| event.about.user.as_deref()))
        .text("clerk_org_id", event().map(|event| event.about.organization.as_deref()))
}

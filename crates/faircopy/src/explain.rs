//! Why the copy holds what it holds, for people and programs: what is stored of one subject's past is gathered here, and
//! `core::explain` says what the merge made of it (docs/explain.md).

use std::collections::{BTreeMap, BTreeSet};

use faircopy_core::event::{Context, Fact, Observation, Reading};
use faircopy_core::explain::{self, Content, Explained, Told};
use faircopy_core::id::OrganizationId;
use faircopy_core::merge::{Key, Register};
use faircopy_core::{Millis, ProfileMode};
use faircopy_store::{About, Delivery, Outcome, Row, Store};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

/// Deliveries of the subject itself that are looked at, the newest: more than anybody reads, and a second's work. Older ones are
/// counted.
const MAX_OWN: usize = 500;
/// And of those that speak of it: each membership's delivery embeds its organization.
const MAX_OTHERS: usize = 500;
/// Readings that are looked at, the newest.
const MAX_READINGS: i64 = 500;
/// Deliveries that are read at once. Each may have a body of a megabyte, and of most little is left once it is read.
const PAGE: usize = 50;
/// How far older deliveries are counted: beyond it the number says nothing that "more" does not.
const MAX_COUNTED: i64 = 10_000;
/// Memberships of one pair whose ends are looked for by their ids alone.
const MAX_MEMBERSHIPS: usize = 20;
/// Deletions of a parent that are looked at: one is the rule.
const MAX_DELETIONS: usize = 5;

/// What a text must be to name a subject.
pub const FORMS: &str = "user_…, org_…, orgmem_…, orginv_… or org_…/user_…";

/// A subject's past, and what it came to.
#[derive(Debug, Serialize, ToSchema)]
pub struct Explanation {
    /// What was explained; a membership by its pair, `<organization>/<user>`.
    #[schema(example = "user_29w83sxmDNGwOuEthce5gg56FcC")]
    pub subject: String,
    /// The time that was asked for; `null` for now.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub as_of: Option<Millis>,
    /// From when on the answer lacks nothing. `null` where what is stored does not reach back far enough.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub complete_since: Option<Millis>,
    /// Whether the answer lacks nothing at the time that was asked for.
    pub is_complete: bool,
    /// The row then, as what is stored explains it; `null` where there was none. A user's `workspace_id` is there only where the
    /// public metadata names it: else it follows from memberships.
    #[schema(value_type = Object, nullable)]
    pub row: Option<Row>,
    /// The row that the copy holds now.
    #[schema(value_type = Object, nullable)]
    pub stored: Option<Row>,
    /// Whether the row that is explained for now is the one that the copy holds.
    pub agrees: bool,
    /// `agrees`; `damaged`: the copy's row was changed by somebody else, and `faircopy replay` or `faircopy reconcile` mends it; or
    /// `incomplete`: something came that is not stored any more.
    #[schema(example = "agrees")]
    pub verdict: &'static str,
    /// The columns in which the two differ.
    pub differs: Vec<String>,
    /// Older deliveries that were not looked at; 10,000 means that or more.
    pub older: i64,
    /// What came, oldest first.
    pub steps: Vec<ExplainedStep>,
}

/// Something that came, and what the merge made of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExplainedStep {
    /// When it came.
    #[schema(value_type = String, format = DateTime)]
    pub at: Millis,
    /// `webhook`, `api` (a single read), `sweep` (a backfill or reconcile) or `token`.
    #[schema(example = "webhook")]
    pub source: String,
    /// Of a delivery: its id.
    pub svix_id: Option<String>,
    /// Of a delivery: its type. Of anything else: what kind of thing was learned, such as `user` or `not_a_member`.
    #[schema(example = "user.updated")]
    pub event_type: String,
    /// The version that it brought.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub updated_at: Option<Millis>,
    /// When it happened, was read or was issued.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub event_at: Option<Millis>,
    /// The hash of what it brought: it decides between two of the same times.
    pub hash: Option<String>,
    /// `won`, `filled`, `ended`, `withdrawn`, `same`, `lost`, `absorbed`, `ignored`, `quarantined` or `erased`.
    #[schema(example = "won")]
    pub outcome: &'static str,
    /// A stable word for the reason: `docs/explain.md` lists them.
    #[schema(example = "newer")]
    pub code: &'static str,
    /// The reason, for people.
    pub reason: String,
    /// The row after it, `null` where there was none; left out where it stayed as it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Object, nullable)]
    pub row_after: Option<Option<Row>>,
}

/// Reads the name of a subject.
#[must_use]
pub fn subject(text: &str) -> Option<Key> {
    Key::parse(text.trim())
}

/// Explains a subject. `None` where nothing at all is known of it.
pub async fn explain(
    store: &Store,
    mode: ProfileMode,
    subject: &Key,
    as_of: Option<Millis>,
    now: Millis,
) -> Result<Option<Explanation>, faircopy_store::Error> {
    let subject = match subject {
        Key::Membership(id) => match store.pair_of(id).await? {
            Some((organization, user)) => Key::Pair(organization, user),
            None => subject.clone(),
        },
        other => other.clone(),
    };
    let past = Past::gather(store, mode, &subject).await?;
    let (stored, register) = (store.public_row(&subject).await?, past.registers.get(&subject));
    if past.came.is_empty() && stored.is_none() && register.is_none() {
        return Ok(None);
    }
    let told: Vec<Told> = past.came.iter().map(|came| came.told.clone()).collect();
    let explained = explain::explain(&subject, &told);
    let differs = differences(store, &explained, stored.as_ref(), now).await?;
    let ends_alike = explained.ends_like(register);
    let complete_since = explained.complete_since.filter(|_| ends_alike);
    let verdict = match (differs.is_some(), ends_alike) {
        (false, _) => "agrees",
        (true, true) => "damaged",
        (true, false) => "incomplete",
    };
    let until = as_of.unwrap_or(now);
    let is_then = |step: &&explain::Step| as_of.is_none() || told[step.told].at <= until;
    let row = |row: Option<&explain::Row>| row.map(|row| faircopy_store::row(row, store.workspaces(), until));
    let (mut steps, mut before) = (Vec::new(), None);
    for step in explained.steps.iter().filter(is_then) {
        let came = &past.came[step.told];
        let after = step.row.as_ref();
        let row_after = (before != after).then(|| row(after));
        before = after;
        steps.push(came.step(step, row_after));
    }
    Ok(Some(Explanation {
        subject: subject.to_string(),
        as_of,
        is_complete: complete_since.is_some_and(|since| since <= until),
        complete_since,
        row: row(before),
        stored,
        agrees: differs.is_none(),
        verdict,
        differs: differs.unwrap_or_default(),
        older: past.older,
        steps,
    }))
}

/// The columns in which the row explained differs from the one that is stored; `None` where they are alike.
async fn differences(
    store: &Store,
    explained: &Explained,
    stored: Option<&Row>,
    now: Millis,
) -> Result<Option<Vec<String>>, faircopy_store::Error> {
    let Some(explained) = explained.row() else {
        return Ok(stored.map(|row| row.keys().cloned().collect()));
    };
    let Some(difference) = store.difference(explained, now).await? else { return Ok(None) };
    // A row that only a token speaks for is always told, and may well be as it should.
    let columns = difference.columns.unwrap_or_else(|| vec!["(the row is missing)".to_owned()]);
    Ok(if columns.is_empty() { None } else { Some(columns) })
}

/// Something that came, and how it is shown.
struct Came {
    told: Told,
    source: String,
    svix_id: Option<String>,
    event_type: String,
    updated_at: Option<Millis>,
    event_at: Option<Millis>,
}

impl Came {
    fn step(&self, step: &explain::Step, row_after: Option<Option<Row>>) -> ExplainedStep {
        ExplainedStep {
            at: self.told.at,
            source: self.source.clone(),
            svix_id: self.svix_id.clone(),
            event_type: self.event_type.clone(),
            updated_at: step.stamp.map(|stamp| stamp.updated_at).or(self.updated_at),
            event_at: self.event_at.or(step.stamp.map(|stamp| stamp.event_at)),
            hash: step.stamp.map(|stamp| format!("{:016x}", stamp.hash.cast_unsigned())),
            outcome: step.finding.outcome().as_str(),
            code: step.finding.code(),
            reason: step.finding.to_string(),
            row_after,
        }
    }

    fn place(&self) -> (Millis, bool, Option<&str>) {
        (self.told.at, self.svix_id.is_none(), self.svix_id.as_deref())
    }

    fn observations(&self) -> &[Observation] {
        match &self.told.content {
            Content::Observed(observations) => observations,
            _ => &[],
        }
    }
}

/// All that is stored of a subject's past.
struct Past<'a> {
    store: &'a Store,
    mode: ProfileMode,
    registers: BTreeMap<Key, Register>,
    came: Vec<Came>,
    seen: BTreeSet<String>,
    older: i64,
}

impl<'a> Past<'a> {
    async fn gather(store: &'a Store, mode: ProfileMode, subject: &Key) -> Result<Self, faircopy_store::Error> {
        let registers = BTreeMap::new();
        let mut past = Self { store, mode, registers, came: vec![], seen: BTreeSet::new(), older: 0 };
        past.remember(std::slice::from_ref(subject)).await?;
        match subject {
            Key::User(id) => {
                past.deliveries(About::Object(id.as_str()), true, MAX_OWN).await?;
                past.deliveries(About::User(id), false, MAX_OTHERS).await?;
            }
            Key::Organization(id) => {
                past.deliveries(About::Object(id.as_str()), true, MAX_OWN).await?;
                past.deliveries(About::Organization(id), false, MAX_OTHERS).await?;
            }
            Key::Pair(organization, user) => {
                past.deliveries(About::Pair(organization, user), true, MAX_OWN).await?;
                past.remember(&[Key::Organization(organization.clone()), Key::User(user.clone())]).await?;
                past.parent(&Key::Organization(organization.clone()), "organization.deleted", "no_organization")
                    .await?;
                past.parent(&Key::User(user.clone()), "user.deleted", "no_user").await?;
            }
            Key::Membership(id) => past.deliveries(About::Object(id.as_str()), true, MAX_OWN).await?,
            Key::Invitation(id) => past.deliveries(About::Object(id.as_str()), true, MAX_OWN).await?,
        }
        past.readings(subject, None).await?;
        match subject {
            Key::Pair(..) => past.ends_by_id().await?,
            Key::Invitation(_) => past.inviter().await?,
            _ => {}
        }
        // In the order of arrival. A delivery goes before a reading of the same millisecond, which may have come of it.
        past.came.sort_by(|a, b| a.place().cmp(&b.place()));
        Ok(past)
    }

    async fn remember(&mut self, subjects: &[Key]) -> Result<(), faircopy_store::Error> {
        self.registers.extend(self.store.registers(subjects).await?);
        Ok(())
    }

    /// Takes the newest deliveries in, and counts the others of the subject's own.
    async fn deliveries(&mut self, about: About<'_>, is_own: bool, most: usize) -> Result<(), faircopy_store::Error> {
        let mut place: Option<(String, String)> = None;
        let mut left = most;
        while left > 0 {
            let limit = left.min(PAGE);
            let before = place.as_ref().map(|(at, id)| (at.as_str(), id.as_str()));
            let page = self.store.deliveries_about(about, before, i64::try_from(limit).unwrap_or(1)).await?;
            let is_last = page.len() < limit;
            left -= page.len();
            place = page.last().map(|last| (last.summary.received_at.clone(), last.summary.svix_id.clone())).or(place);
            for delivery in page {
                self.take(&delivery, is_own);
            }
            if is_last {
                return Ok(());
            }
        }
        if let Some((at, id)) = place {
            self.older += self.store.count_deliveries_about(about, (&at, &id), MAX_COUNTED).await?;
            self.older = self.older.min(MAX_COUNTED);
        }
        Ok(())
    }

    fn take(&mut self, delivery: &Delivery, is_own: bool) {
        let summary = &delivery.summary;
        if !self.seen.insert(summary.svix_id.clone()) {
            return;
        }
        let time = |text: &str| Millis::parse(text);
        let was_news = match summary.outcome.as_str() {
            outcome if outcome == Outcome::Applied.as_str() => Some(true),
            outcome if outcome == Outcome::Stale.as_str() => Some(false),
            _ => None,
        };
        let told = Told {
            at: time(&summary.received_at).unwrap_or_default(),
            content: content(delivery, self.mode),
            was_news,
            is_own,
        };
        self.came.push(Came {
            told,
            source: "webhook".to_owned(),
            svix_id: Some(summary.svix_id.clone()),
            event_type: summary.event_type.clone(),
            updated_at: None,
            event_at: summary.event_at.as_deref().and_then(time),
        });
    }

    /// Takes in what reads and tokens brought, all of it or of one kind.
    async fn readings(&mut self, of: &Key, kind: Option<&str>) -> Result<(), faircopy_store::Error> {
        let readings = self.store.readings(of, MAX_READINGS).await?;
        // Of one millisecond the later was written later.
        for reading in readings.into_iter().rev().filter(|reading| kind.is_none_or(|kind| reading.kind == kind)) {
            let content = reading.observation.map_or(Content::Erased, |said| Content::Observed(vec![said]));
            self.came.push(Came {
                told: Told { at: reading.read_at, content, was_news: Some(true), is_own: true },
                source: reading.source,
                svix_id: None,
                event_type: reading.kind,
                updated_at: reading.updated_at,
                event_at: Some(reading.event_at),
            });
        }
        Ok(())
    }

    /// The end of what the subject belongs to, where it has ended.
    async fn parent(&mut self, parent: &Key, event_type: &str, kind: &str) -> Result<(), faircopy_store::Error> {
        if self.registers.get(parent).is_some_and(|register| register.tombstone.is_some()) {
            let id = parent.to_string();
            self.deliveries(About::ObjectOfType(&id, event_type), false, MAX_DELETIONS).await?;
            self.readings(parent, Some(kind)).await?;
        }
        Ok(())
    }

    /// The ends of the pair's memberships that name nothing but the membership.
    async fn ends_by_id(&mut self) -> Result<(), faircopy_store::Error> {
        let remembered = self.registers.values().filter_map(|register| register.generation.as_ref());
        let told = self.came.iter().flat_map(Came::observations).filter_map(|observation| match &observation.fact {
            Fact::Member(_, generation, _) | Fact::NoMember(_, _, generation, _) => Some(generation),
            _ => None,
        });
        let ids: BTreeSet<_> = remembered.chain(told).map(|generation| generation.id.clone()).collect();
        for id in ids.into_iter().take(MAX_MEMBERSHIPS) {
            self.deliveries(About::ObjectOfType(id.as_str(), MEMBERSHIP_DELETED), true, MAX_DELETIONS).await?;
            self.readings(&Key::Membership(id), None).await?;
        }
        Ok(())
    }

    /// The end of the organization that invites.
    async fn inviter(&mut self) -> Result<(), faircopy_store::Error> {
        let inviting = |observation: &Observation| match &observation.fact {
            Fact::Invitation(invitation, _) => Some(invitation.organization.clone()),
            _ => None,
        };
        let inviting: Option<OrganizationId> = self.came.iter().flat_map(Came::observations).find_map(inviting);
        if let Some(id) = inviting {
            let parent = Key::Organization(id);
            self.remember(std::slice::from_ref(&parent)).await?;
            self.parent(&parent, "organization.deleted", "no_organization").await?;
        }
        Ok(())
    }
}

const MEMBERSHIP_DELETED: &str = "organizationMembership.deleted";

/// What is kept of a delivery, read as it was when it came.
fn content(delivery: &Delivery, mode: ProfileMode) -> Content {
    let summary = &delivery.summary;
    if summary.outcome == Outcome::Ignored.as_str() {
        return Content::Ignored;
    }
    if summary.outcome == Outcome::Quarantined.as_str() {
        return Content::Quarantined(summary.error.clone().unwrap_or_default());
    }
    let Some(body) = delivery.payload.clone().or_else(|| deletion(delivery)) else { return Content::Erased };
    let signed_at = Millis::parse(&summary.signed_at).unwrap_or_default();
    // That it is not another instance's is recorded.
    let context = Context { mode, signed_at, instance: None };
    match faircopy_store::Content::read(body.as_bytes(), &context).event.reading {
        Reading::Observed(observations) => Content::Observed(observations),
        Reading::Ignored => Content::Ignored,
        Reading::Quarantined(fault) => Content::Quarantined(fault.to_string()),
    }
}

/// The event of a deletion whose body is not kept: its type and its id say all of it.
fn deletion(delivery: &Delivery) -> Option<String> {
    let summary = &delivery.summary;
    let is_deletion =
        ["user.deleted", "organization.deleted", MEMBERSHIP_DELETED].contains(&summary.event_type.as_str());
    let id = summary.entity_id.as_deref().filter(|_| is_deletion)?;
    let event_at = summary.event_at.as_deref().and_then(Millis::parse).map(|at| at.0);
    Some(
        json!({ "type": summary.event_type, "timestamp": event_at, "data": { "id": id, "deleted": true } }).to_string(),
    )
}

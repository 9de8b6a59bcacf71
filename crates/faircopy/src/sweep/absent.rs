//! What the copy has and the lists had not. It may be gone at Clerk, or the lists may have missed it: each row is asked for
//! directly, twice, with a grace between, before it goes (merge.md, reconcile).

use std::collections::{BTreeMap, BTreeSet};

use faircopy_core::event::api::{Item, Page};
use faircopy_core::event::{Fact, Observation};
use faircopy_core::merge::{Key, Register};
use faircopy_core::record::Provenance;
use faircopy_core::sweep::{Evidence, Hold};
use faircopy_core::{Millis, OrganizationId, UserId};
use faircopy_store::{Absence, Progress, Swept};
use futures_util::FutureExt as _;

use super::lists::{row_id, subject};
use super::{Direction, Drift, MAX_TOLD, Phase, Report, Run, Stop};
use crate::refresh::READ_LAG_MS;
use crate::upstream::clerk::{Cut, Fault, List, MAX_NAMED};

/// Why a row is left that Clerk denies and the copy has just heard of.
const YOUNG: &str = "left: it was heard of less than the grace before; the next reconcile asks again";
/// Why a row is left of which nothing is known.
const UNANSWERED: &str = "Clerk did not say whether it is there";
/// Rows that are looked for together: as many as one question may name.
const AT_ONCE: i64 = 100;
/// Rows of the copy that are looked through together for those that were not seen: a few milliseconds.
const AMONG: i64 = 2_000;

/// What a direct question found.
pub(super) enum Found {
    /// It is there, so.
    There(Vec<Observation>),
    /// It was not there when this was asked.
    Gone(Millis),
    /// There was no answer to go by.
    Unknown,
}

impl Found {
    pub(super) fn is_there(&self) -> bool {
        matches!(self, Self::There(_))
    }
}

/// When the copy last heard of a row.
fn last_observed(register: &Register) -> Option<Millis> {
    let stamps = register.full.into_iter().chain(register.partial).map(|stamp| stamp.event_at);
    stamps.chain(register.token.as_ref().map(|word| word.issued_at)).max()
}

/// What follows from a row's absence: its end, with all that goes with it; or the weaker word where only a token spoke.
fn end(key: Key, register: Option<&Register>, is_provisional: bool, at: Millis) -> Observation {
    let fact = match key {
        Key::User(id) if is_provisional => Fact::UserNotFound(id, at),
        Key::User(id) => Fact::NoUser(id, at),
        Key::Organization(id) if is_provisional => Fact::OrganizationNotFound(id, at),
        Key::Organization(id) => Fact::NoOrganization(id, at),
        Key::Pair(organization, user) => match register.and_then(|register| register.generation.clone()) {
            Some(generation) => Fact::NoMember(organization, user, generation, at),
            None => Fact::NotAMember(organization, user, at),
        },
        Key::Invitation(id) => Fact::NoInvitation(id, at),
        Key::Membership(id) => Fact::NoMembership(id, at),
    };
    Observation { source: Provenance::Api, fact }
}

/// What may be absent.
#[derive(Default)]
struct Candidates {
    rows: Vec<Candidate>,
    /// How many there are, those included that are not held.
    count: u64,
}

struct Candidate {
    subject: String,
    is_provisional: bool,
    /// Heard of less than a grace before the walk began: Clerk's API may be behind, so it does not go this time.
    is_young: bool,
}

impl Run<'_> {
    pub(super) async fn look_for_the_unseen(&self) -> Result<(), Stop> {
        if !self.shared().state.looked {
            self.enter(Phase::Looking);
            self.look_for_all().await?;
            self.shared().state.looked = true;
            self.save(&Progress::default()).await?;
        }
        if self.order.dry_run {
            return Ok(());
        }
        self.second_look().await
    }

    /// Looks for what the walks have not seen, unless a guard forbids to conclude anything: one is enough to forbid it for
    /// all kinds.
    async fn look_for_all(&self) -> Result<(), Stop> {
        let mut all = Vec::new();
        let mut ruled: BTreeSet<String> = BTreeSet::new();
        for kind in Swept::ALL {
            let candidates = self.candidates(kind, &ruled).await?;
            // What goes with an organization or a user is not looked for itself. What only a token spoke for takes nothing
            // along.
            if matches!(kind, Swept::Organization | Swept::User) {
                let ending = candidates.rows.iter().filter(|row| !row.is_provisional && !row.is_young);
                ruled.extend(ending.map(|row| row.subject.clone()));
            }
            let judged = self.judge(kind, candidates.count).await?;
            all.push((kind, candidates, judged));
        }
        let held: Vec<(Swept, Hold)> =
            all.iter().filter_map(|(kind, _, judged)| Some((*kind, judged.clone().err()?))).collect();
        for (kind, candidates, _) in all {
            if held.is_empty() {
                for some in candidates.rows.chunks(usize::try_from(AT_ONCE).unwrap_or(1)) {
                    self.look_first(kind, some).await?;
                }
            } else {
                self.leave(kind, candidates, &held);
            }
        }
        Ok(())
    }

    /// Leaves what may be absent as it is, and says why.
    fn leave(&self, kind: Swept, candidates: Candidates, held: &[(Swept, Hold)]) {
        let mut shared = self.shared();
        let own = held.iter().find(|(of, _)| *of == kind).map(|(_, hold)| hold);
        if let Some(hold) = own {
            tracing::warn!(kind = kind.as_str(), %hold, code = "reconcile-held", "nothing is taken for gone");
            shared.report.of(kind).hold = Some(hold.clone());
        }
        let tally = shared.report.of(kind);
        (tally.extra, tally.left) = (tally.extra + candidates.count, tally.left + candidates.count);
        shared.report.has_more |= candidates.count > candidates.rows.len() as u64;
        let Some((of, hold)) = own.map(|hold| (kind, hold)).or_else(|| held.first().map(|(of, hold)| (*of, hold)))
        else {
            return;
        };
        for row in candidates.rows {
            let id = row_id(kind, &row.subject).to_owned();
            shared.report.tell(drift(kind, id, &format!("not looked for: {}: {hold}", of.as_str())));
        }
    }

    /// Known alive, not seen by the walk, not heard of since it began.
    async fn candidates(&self, kind: Swept, ruled: &BTreeSet<String>) -> Result<Candidates, Stop> {
        let began_at = self.shared().state.began_at;
        let shown = self.sweeper.store.shown(kind).await?;
        let limit = Evidence { shown, ..Evidence::default() }.limit();
        // More than the guard lets pass are only counted, unless an operator wants them gone: they are not held in memory.
        let kept = if self.order.force { u64::MAX } else { limit.max(MAX_TOLD as u64) };
        let (mut candidates, mut after) = (Candidates::default(), String::new());
        loop {
            let part = self.sweeper.store.unseen(self.id, kind, &after, AMONG).await?;
            let is_ruled = |subject: &str| subject.split('/').any(|part| ruled.contains(part));
            for row in part.unseen.into_iter().filter(|row| !is_ruled(&row.subject)) {
                let observed = row.register.as_ref().and_then(last_observed);
                // What is heard of while the walks go on may have come after its page was read.
                if observed.is_some_and(|observed| observed > began_at) {
                    continue;
                }
                candidates.count += 1;
                if candidates.count <= kept {
                    let is_young = observed.is_some_and(|observed| observed > began_at.plus(-self.order.grace_ms));
                    let (subject, is_provisional) = (row.subject, row.is_provisional);
                    candidates.rows.push(Candidate { subject, is_provisional, is_young });
                }
            }
            let Some(last) = part.last else { return Ok(candidates) };
            after = last;
        }
    }

    async fn judge(&self, kind: Swept, absent: u64) -> Result<Result<(), Hold>, Stop> {
        let (seen, shown) = (self.sweeper.store.seen(self.id, kind).await?, self.sweeper.store.shown(kind).await?);
        let users = self.sweeper.store.seen(self.id, Swept::User).await?;
        let shared = self.shared();
        let Some(list) = shared.state.lists.get(&kind) else { return Ok(Ok(())) };
        if let Some(reason) = &list.failed {
            return Ok(Err(Hold::Failed { reason: reason.clone() }));
        }
        let unreadable = shared.report.kinds.get(&kind).map_or(0, |tally| tally.unreadable);
        let evidence = Evidence {
            seen: seen + unreadable,
            total_before: list.total_before,
            total_after: list.total_after,
            shown,
            absent,
            has_no_users: users == 0,
        };
        Ok(evidence.judge(self.order.force))
    }

    async fn look_first(&self, kind: Swept, rows: &[Candidate]) -> Result<(), Stop> {
        let subjects: Vec<String> = rows.iter().map(|row| row.subject.clone()).collect();
        let looked = self.look(kind, &subjects).await?;
        let is =
            |subject: &str, what: fn(&Candidate) -> bool| rows.iter().any(|row| row.subject == subject && what(row));
        let (mut observations, mut absent) = (Vec::new(), Vec::new());
        {
            let mut shared = self.shared();
            for (subject, found) in looked {
                let id = row_id(kind, &subject).to_owned();
                match found {
                    Found::There(seen) => {
                        shared.report.of(kind).overlooked += 1;
                        observations.extend(seen);
                    }
                    Found::Gone(_) if self.order.dry_run || is(&subject, |row| row.is_young) => {
                        leave(&mut shared.report, kind, id, if self.order.dry_run { "left" } else { YOUNG });
                    }
                    Found::Gone(at) => absent.push((subject, at)),
                    Found::Unknown => {
                        leave(&mut shared.report, kind, id, UNANSWERED);
                    }
                }
            }
        }
        if !self.order.dry_run {
            self.learn(observations).await?;
        }
        let is_provisional = |subject: &str| is(subject, |row| row.is_provisional);
        let absent =
            absent.iter().map(|(subject, at)| (kind, subject.as_str(), *at, is_provisional(subject))).collect();
        self.save(&Progress { absent, ..Progress::default() }).await
    }

    /// Looks once more for what was not found, a grace later, and lets go what is not there then either.
    async fn second_look(&self) -> Result<(), Stop> {
        let mut latest = None;
        for kind in Swept::ALL {
            let mut after = String::new();
            loop {
                let page = self.sweeper.store.absences(self.id, kind, &after, AT_ONCE).await?;
                let Some(last) = page.last() else { break };
                after.clone_from(&last.subject);
                latest = latest.max(page.iter().map(|absence| absence.denied_at).max());
            }
        }
        let Some(latest) = latest else { return Ok(()) };
        let due = latest.plus(self.order.grace_ms);
        if self.order.grace_ms > 0 {
            self.enter(Phase::Waiting(due));
            self.wait_until(due).await?;
        }
        self.enter(Phase::Looking);
        // A key of another instance finds nothing at all.
        self.ask(|| self.sweeper.clerk.check_instance_again(self.sweeper.share).boxed()).await?;
        for kind in Swept::ALL {
            loop {
                let page = self.sweeper.store.absences(self.id, kind, "", AT_ONCE).await?;
                if page.is_empty() {
                    break;
                }
                self.look_again(kind, &page).await?;
            }
        }
        Ok(())
    }

    async fn look_again(&self, kind: Swept, denied: &[Absence]) -> Result<(), Stop> {
        let subjects: Vec<String> = denied.iter().map(|absence| absence.subject.clone()).collect();
        let looked = self.look(kind, &subjects).await?;
        let keys: Vec<Key> = subjects.iter().filter_map(|subject| kind.key(subject)).collect();
        let registers: BTreeMap<Key, Register> = self.sweeper.store.registers(&keys).await?.into_iter().collect();
        let mut observations = Vec::new();
        for (subject, found) in looked {
            let Some(key) = kind.key(&subject) else { continue };
            let Some(absence) = denied.iter().find(|absence| absence.subject == subject) else { continue };
            let (at, id) = (absence.denied_at, row_id(kind, &subject).to_owned());
            let register = registers.get(&key);
            let has_news = register.and_then(last_observed).is_some_and(|observed| observed > at);
            let mut shared = self.shared();
            match found {
                Found::There(seen) => {
                    shared.report.of(kind).overlooked += 1;
                    observations.extend(seen);
                }
                // Heard of since: whoever told knew better.
                Found::Gone(_) if has_news => shared.report.of(kind).overlooked += 1,
                Found::Gone(_) => {
                    let tally = shared.report.of(kind);
                    (tally.extra, tally.removed) = (tally.extra + 1, tally.removed + 1);
                    shared.report.tell(drift(kind, id, "removed"));
                    observations.push(end(key, register, absence.is_provisional, at.plus(-READ_LAG_MS)));
                }
                Found::Unknown => {
                    leave(&mut shared.report, kind, id, UNANSWERED);
                }
            }
        }
        self.learn(observations).await?;
        let settled = subjects.iter().map(|subject| (kind, subject.as_str())).collect();
        self.save(&Progress { settled, ..Progress::default() }).await
    }

    /// Asks for rows directly: together first, and then alone for whoever was not among them.
    pub(super) async fn look(&self, kind: Swept, subjects: &[String]) -> Result<Vec<(String, Found)>, Stop> {
        let mut found: BTreeMap<String, Found> = BTreeMap::new();
        let named = match kind {
            Swept::User => self.named_users(subjects).await,
            Swept::Organization => self.named_organizations(subjects).await,
            Swept::Member => self.named_members(subjects).await,
            Swept::Invitation => Ok(vec![]),
        };
        for item in known(named)?.unwrap_or_default() {
            if let Ok(observations) = item.reading
                && let Some((_, name)) = observations.first().and_then(subject)
            {
                found.insert(name, Found::There(observations));
            }
        }
        let mut looked = Vec::with_capacity(subjects.len());
        for name in subjects {
            let answer = match found.remove(name) {
                Some(found) => found,
                None => known(self.alone(kind, name).await)?.unwrap_or(Found::Unknown),
            };
            looked.push((name.clone(), answer));
        }
        Ok(looked)
    }

    async fn named_users(&self, subjects: &[String]) -> Result<Vec<Item>, Fault> {
        let ids: Vec<UserId> = subjects.iter().filter_map(|id| UserId::parse(id).ok()).collect();
        self.named(&List::UsersNamed(&ids), ids.len()).await
    }

    async fn named_organizations(&self, subjects: &[String]) -> Result<Vec<Item>, Fault> {
        let ids: Vec<OrganizationId> = subjects.iter().filter_map(|id| OrganizationId::parse(id).ok()).collect();
        self.named(&List::OrganizationsNamed(&ids), ids.len()).await
    }

    async fn named_members(&self, subjects: &[String]) -> Result<Vec<Item>, Fault> {
        let mut members: BTreeMap<OrganizationId, Vec<UserId>> = BTreeMap::new();
        for subject in subjects {
            if let Some(Key::Pair(organization, user)) = Swept::Member.key(subject) {
                members.entry(organization).or_default().push(user);
            }
        }
        let mut items = Vec::new();
        for (organization, users) in &members {
            // One alone is asked for alone anyway.
            for users in users.chunks(MAX_NAMED).filter(|users| users.len() > 1) {
                items.extend(self.named(&List::MembersNamed(organization, users), users.len()).await?);
            }
        }
        Ok(items)
    }

    async fn named(&self, list: &List<'_>, limit: usize) -> Result<Vec<Item>, Fault> {
        let (clerk, share) = (&self.sweeper.clerk, self.sweeper.share);
        let answer = self.ask(|| clerk.page(list, Cut::first(limit), share).boxed()).await?;
        Ok(answer.found.map(|page| page.items).unwrap_or_default())
    }

    async fn alone(&self, kind: Swept, name: &str) -> Result<Found, Fault> {
        let (clerk, share) = (&self.sweeper.clerk, self.sweeper.share);
        let answer = match kind.key(name) {
            Some(Key::User(id)) => self.ask(|| clerk.user(&id, share).boxed()).await?,
            Some(Key::Organization(id)) => self.ask(|| clerk.organization(&id, share).boxed()).await?,
            Some(Key::Invitation(id)) => {
                let Some(organization) = name.split_once('/').and_then(|(id, _)| OrganizationId::parse(id).ok()) else {
                    return Ok(Found::Unknown);
                };
                self.ask(|| clerk.invitation(&organization, &id, share).boxed()).await?
            }
            Some(Key::Pair(organization, user)) => return self.member(&organization, &user).await,
            Some(Key::Membership(_)) | None => return Ok(Found::Unknown),
        };
        Ok(match answer.found {
            Some(Item { reading: Ok(observations), .. }) => Found::There(observations),
            Some(_) => Found::Unknown,
            None => Found::Gone(answer.asked_at),
        })
    }

    /// Only an empty list of exactly this pair says that there is no membership; or that there is no organization.
    async fn member(&self, organization: &OrganizationId, user: &UserId) -> Result<Found, Fault> {
        let (clerk, share) = (&self.sweeper.clerk, self.sweeper.share);
        let list = List::MembersNamed(organization, std::slice::from_ref(user));
        let answer = self.ask(|| clerk.page(&list, Cut::first(1), share).boxed()).await?;
        let Some(Page { items, total }) = answer.found else {
            return self.goes_with(organization).await;
        };
        if items.is_empty() {
            let is_empty = total.is_none_or(|total| total == 0);
            return Ok(if is_empty { Found::Gone(answer.asked_at) } else { Found::Unknown });
        }
        let own = items.into_iter().filter_map(|item| item.reading.ok()).find(|observations| {
            matches!(observations.first().map(|own| &own.fact),
                Some(Fact::Member(member, ..)) if member.user == *user && member.organization == *organization)
        });
        Ok(own.map_or(Found::Unknown, Found::There))
    }

    /// What is below an organization that Clerk does not have is not there either.
    async fn goes_with(&self, organization: &OrganizationId) -> Result<Found, Fault> {
        let (clerk, share) = (&self.sweeper.clerk, self.sweeper.share);
        let answer = self.ask(|| clerk.organization(organization, share).boxed()).await?;
        Ok(if answer.found.is_none() { Found::Gone(answer.asked_at) } else { Found::Unknown })
    }
}

/// A question that was not answered leaves what was asked unknown; one that nobody may ask stops the sweep.
fn known<T>(answer: Result<T, Fault>) -> Result<Option<T>, Stop> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(fault) if fault.refuses_everything() => Err(fault.into()),
        Err(_) => Ok(None),
    }
}

/// Counts and tells a row that Clerk lacks and that stays.
fn leave(report: &mut Report, kind: Swept, id: String, why: &str) {
    let tally = report.of(kind);
    (tally.extra, tally.left) = (tally.extra + 1, tally.left + 1);
    report.tell(drift(kind, id, why));
}

fn drift(kind: Swept, id: String, then: &str) -> Drift {
    Drift { kind, id, difference: Direction::Extra, columns: vec![], then: then.to_owned() }
}

//! Reading the lists: each page is compared with the copy, and what differs is merged, while the next page is asked for.

use std::collections::HashSet;

use faircopy_core::event::Fact;
use faircopy_core::event::api::{Item, Page};
use faircopy_core::sweep::{From, PAGE, Step, Walk};
use faircopy_core::{Observation, UserId};
use faircopy_store::{Difference, Progress, Swept};
use futures_util::FutureExt as _;

use super::{Direction, Drift, Kind, Run, Stop};
use crate::upstream::clerk::{Cut, Fault, List, Start};

/// A page on its way into the copy.
struct Haul {
    items: Vec<Item>,
    /// Where the walk stands after it.
    walk: Walk,
    is_last: bool,
}

fn list(kind: Swept) -> List<'static> {
    match kind {
        Swept::User => List::Users,
        Swept::Organization => List::Organizations,
        Swept::Member => List::Memberships,
        Swept::Invitation => List::Invitations,
    }
}

/// How a row is named: as [`faircopy_store::Unseen`] names it.
pub(super) fn subject(observation: &Observation) -> Option<(Swept, String)> {
    match &observation.fact {
        Fact::User(user, _) => Some((Swept::User, user.id.to_string())),
        Fact::Organization(organization, _) => Some((Swept::Organization, organization.id.to_string())),
        Fact::Member(member, ..) => Some((Swept::Member, format!("{}/{}", member.organization, member.user))),
        Fact::Invitation(invitation, _) => {
            Some((Swept::Invitation, format!("{}/{}", invitation.organization, invitation.id)))
        }
        _ => None,
    }
}

/// The id of the row that a subject is about: of an invitation its own.
pub(super) fn row_id(kind: Swept, subject: &str) -> &str {
    match kind {
        Swept::Invitation => subject.split_once('/').map_or(subject, |(_, id)| id),
        _ => subject,
    }
}

impl Run<'_> {
    /// Reads all lists, side by side.
    pub(super) async fn walk_all(&self) -> Result<(), Stop> {
        let [a, b, c, d] = Swept::ALL.map(|kind| Box::pin(self.walk(kind)));
        tokio::try_join!(a, b, c, d).map(drop)
    }

    async fn walk(&self, kind: Swept) -> Result<(), Stop> {
        if self.shared().state.lists.get(&kind).is_none_or(|list| list.done) {
            return Ok(());
        }
        let outcome = self.walk_to_the_end(kind).await;
        let failed = match outcome {
            Ok(()) => None,
            // What refuses everything stops the sweep; what refuses a page holds back what follows from the list.
            Err(Stop::Clerk(fault)) if !fault.refuses_everything() => Some(fault.to_string()),
            Err(stop) => return Err(stop),
        };
        {
            let mut shared = self.shared();
            if let Some(list) = shared.state.lists.get_mut(&kind) {
                (list.done, list.failed) = (true, failed);
            }
        }
        self.save(&Progress::default()).await
    }

    async fn walk_to_the_end(&self, kind: Swept) -> Result<(), Stop> {
        let mut walk = self.shared().state.lists.get(&kind).map(|list| list.walk.clone()).unwrap_or(Walk::new(false));
        if self.shared().state.lists.get(&kind).is_some_and(|list| list.total_before.is_none()) {
            let total = self.total(kind).await?;
            let mut shared = self.shared();
            shared.report.of(kind).total = total;
            if let Some(list) = shared.state.lists.get_mut(&kind) {
                list.total_before = total;
            }
        }
        let mut haul: Option<Haul> = Some(self.read(kind, &mut walk).await?);
        while let Some(page) = haul.take() {
            let next = async { if page.is_last { Ok(None) } else { self.read(kind, &mut walk).await.map(Some) } };
            let (absorbed, next) = tokio::join!(self.absorb(kind, &page), next);
            absorbed?;
            haul = next?;
        }
        let total = self.total(kind).await?;
        if let Some(list) = self.shared().state.lists.get_mut(&kind) {
            list.total_after = total;
        }
        Ok(())
    }

    /// How many there are, as Clerk says.
    async fn total(&self, kind: Swept) -> Result<Option<u64>, Fault> {
        self.ask(|| self.sweeper.clerk.total(kind, self.sweeper.share).boxed()).await
    }

    /// Reads the next page that holds something new.
    async fn read(&self, kind: Swept, walk: &mut Walk) -> Result<Haul, Stop> {
        loop {
            let answered = self.ask(|| self.page(kind, walk).boxed()).await;
            let Page { mut items, total } = match answered {
                Ok(page) => page,
                // The cursor's row may be gone, or the deployment may not know cursors.
                Err(Fault::Status(400..=499)) if walk.has_cursor() && walk.pages() > 0 => {
                    walk.refused();
                    continue;
                }
                // An instance without organizations has none.
                Err(Fault::NoOrganizations) => Page { items: vec![], total: Some(0) },
                Err(fault) => return Err(fault.into()),
            };
            let known = self.shared().state.lists.get(&kind).and_then(|list| list.total_before);
            let total = total.and_then(|total| u64::try_from(total).ok()).or(known);
            let ids: Vec<&str> = items.iter().map(|item| item.id.as_deref().unwrap_or_default()).collect();
            let taken = walk.take(&ids, total);
            let is_last = match taken.step {
                Step::More => false,
                Step::End => true,
                Step::Endless => return Err(Fault::TooLarge.into()),
            };
            if is_last || taken.fresh < items.len() {
                items.drain(..taken.fresh);
                return Ok(Haul { items, walk: walk.clone(), is_last });
            }
        }
    }

    async fn page(&self, kind: Swept, walk: &Walk) -> Result<Page, Fault> {
        let cursor;
        let from = match walk.from() {
            From::Offset(offset) => Start::Offset(offset),
            From::After(id) => {
                cursor = UserId::parse(id).map_err(|_| Fault::Malformed)?;
                Start::After(&cursor)
            }
        };
        let cut = Cut { limit: PAGE, from };
        let answer = self.sweeper.clerk.page(&list(kind), cut, self.sweeper.share).await?;
        // A list of everything always exists.
        answer.found.ok_or(Fault::Status(404))
    }

    /// Brings the copy up to a page, and remembers that it was read.
    async fn absorb(&self, kind: Swept, haul: &Haul) -> Result<(), Stop> {
        let readable = || haul.items.iter().filter_map(|item| item.reading.as_ref().ok());
        let own: Vec<Observation> = readable().filter_map(|observations| observations.first().cloned()).collect();
        let named: Vec<(Swept, String)> = own.iter().filter_map(subject).collect();
        let unreadable = haul.items.len() - own.len();
        let found = self.sweeper.store.differences(&own, self.sweeper.clock.now()).await?;
        let subjects: HashSet<&str> = found.iter().map(|difference| difference.subject.as_str()).collect();
        let is_found = |observations: &&Vec<Observation>| {
            let own = observations.first().and_then(subject);
            own.is_some_and(|(kind, name)| subjects.contains(row_id(kind, &name)))
        };
        let differing: Vec<&Vec<Observation>> =
            if found.is_empty() { vec![] } else { readable().filter(is_found).collect() };
        let left = if self.order.dry_run || found.is_empty() {
            found.clone()
        } else {
            let news = self.learn(differing.iter().flat_map(|observations| (*observations).clone()).collect()).await?;
            self.sweeper.store.differences(&doubtful(&differing, &news), self.sweeper.clock.now()).await?
        };
        let own = differing.iter().filter_map(|observations| observations.first());
        self.tell(kind, &found, &left, own).await?;
        {
            let mut shared = self.shared();
            let tally = shared.report.of(kind);
            tally.seen += haul.items.len() as u64;
            tally.unreadable += unreadable as u64;
            if let Some(list) = shared.state.lists.get_mut(&kind) {
                list.walk = haul.walk.clone();
            }
            match self.order.kind {
                Kind::Reconcile => shared.seen.extend(named),
                Kind::Backfill => {}
            }
        }
        self.save_now_and_then().await
    }

    /// Puts what differed, and what of it still does, into the report.
    async fn tell<'o>(
        &self,
        kind: Swept,
        found: &[Difference],
        left: &[Difference],
        own: impl Iterator<Item = &'o Observation>,
    ) -> Result<(), Stop> {
        if found.is_empty() {
            return Ok(());
        }
        let mut ahead = Vec::new();
        let mut reasons: Vec<(String, &'static str)> = Vec::new();
        for observation in own {
            let Some((of, name)) = subject(observation) else { continue };
            let id = row_id(of, &name);
            let is_left = left.iter().any(|difference| difference.subject == id);
            if !is_left {
                continue;
            }
            match self.why_left(of, &name, observation).await? {
                Why::Ahead => ahead.push(id.to_owned()),
                Why::Ended => reasons.push((id.to_owned(), "it was deleted here")),
                Why::NotTaken => reasons.push((id.to_owned(), "left")),
            }
        }
        let mut shared = self.shared();
        for difference in found {
            if ahead.contains(&difference.subject) {
                shared.report.of(kind).ahead += 1;
                continue;
            }
            let tally = shared.report.of(kind);
            let direction = if difference.columns.is_some() { Direction::Different } else { Direction::Missing };
            match direction {
                Direction::Different => tally.different += 1,
                _ => tally.missing += 1,
            }
            let reason = reasons.iter().find(|(id, _)| *id == difference.subject).map(|(_, reason)| *reason);
            match reason {
                Some(_) => tally.left += 1,
                None => tally.repaired += 1,
            }
            shared.report.tell(Drift {
                kind,
                id: difference.subject.clone(),
                difference: direction,
                columns: difference.columns.clone().unwrap_or_default(),
                then: reason.unwrap_or("repaired").to_owned(),
            });
        }
        Ok(())
    }

    /// Why a row is not as Clerk's list says.
    async fn why_left(&self, kind: Swept, name: &str, observation: &Observation) -> Result<Why, Stop> {
        let Some(key) = kind.key(name) else { return Ok(Why::NotTaken) };
        let registers = self.sweeper.store.registers(std::slice::from_ref(&key)).await?;
        let Some((_, register)) = registers.into_iter().next() else {
            // The end of what rules it forgets it.
            return Ok(if self.is_ruled_out(kind, name).await? { Why::Ahead } else { Why::NotTaken });
        };
        let (stamp, generation) = match &observation.fact {
            Fact::User(_, stamp) | Fact::Organization(_, stamp) | Fact::Invitation(_, stamp) => (stamp, None),
            Fact::Member(_, generation, stamp) => (stamp, Some(generation)),
            _ => return Ok(Why::NotTaken),
        };
        let is_older_generation =
            generation.zip(register.generation.as_ref()).is_some_and(|(listed, known)| listed < known);
        let is_older = register.full.is_some_and(|known| known.updated_at > stamp.updated_at);
        if is_older_generation || is_older {
            return Ok(Why::Ahead);
        }
        if register.tombstone.is_none() {
            return Ok(Why::NotTaken);
        }
        // A list may be behind. Whether Clerk really has what was deleted here is asked once more.
        let looked = self.look(kind, &[name.to_owned()]).await?;
        Ok(if looked.iter().any(|(_, found)| found.is_there()) { Why::Ended } else { Why::Ahead })
    }

    async fn is_ruled_out(&self, kind: Swept, name: &str) -> Result<bool, Stop> {
        let parents: Vec<_> = match (kind, name.split_once('/')) {
            (Swept::Member, Some((organization, user))) => {
                [Swept::Organization.key(organization), Swept::User.key(user)].into_iter().flatten().collect()
            }
            (Swept::Invitation, Some((organization, _))) => Swept::Organization.key(organization).into_iter().collect(),
            _ => vec![],
        };
        let registers = self.sweeper.store.registers(&parents).await?;
        Ok(registers.iter().any(|(_, register)| register.tombstone.is_some()))
    }
}

/// What must be compared again after it was merged. A user's or organization's row is what was news of it; that of a member or
/// an invitation hangs on its parents, too.
fn doubtful(merged: &[&Vec<Observation>], news: &[bool]) -> Vec<Observation> {
    let mut next = 0;
    let mut doubtful = Vec::new();
    for observations in merged {
        let was_news = news.get(next).copied().unwrap_or_default();
        next += observations.len();
        let stands_alone = |own: &&Observation| matches!(own.fact, Fact::User(..) | Fact::Organization(..));
        doubtful.extend(observations.first().filter(|own| !(was_news && stands_alone(own))).cloned());
    }
    doubtful
}

enum Why {
    /// The copy knows better.
    Ahead,
    /// It was deleted here, and Clerk has it.
    Ended,
    NotTaken,
}

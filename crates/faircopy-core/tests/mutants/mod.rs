//! The wrong rules that merge.md names, over the same observations; and the right one again, written naively.

use std::collections::BTreeMap;

use faircopy_core::Millis;
use faircopy_core::event::{Fact, Observation};
use faircopy_core::id::{InvitationId, MembershipId, OrganizationId, UserId};
use faircopy_core::record::{Generation, Invitation, Member, Organization, Profile, Provenance, Stamp, User};

use crate::copy::{Copying, Rows};

/// How a copy is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The right rule, without registers: everything is remembered, and the rows are worked out anew each time.
    Naive,
    /// What comes last is right.
    ArrivalOrder,
    /// What is newest is right, and a deletion removes the row.
    LastWriteWins,
    /// A deletion counts against what happened before it.
    TimedTombstones,
    /// The public fields that a membership embeds overwrite those of the user.
    EmbeddedOverwrites,
    /// A pair is visible while any of its memberships is alive.
    AnyLiveMembership,
    /// The tombstones of an organization and a user do not reach their memberships.
    NoParentTombstones,
}

type Pair = (OrganizationId, UserId);

/// One membership: its newest version and its end.
#[derive(Debug, Default, Clone)]
struct Life {
    version: Option<(Stamp, Member)>,
    ended: Option<Millis>,
}

/// A copy kept by one rule.
pub(crate) struct Mutant {
    rule: Rule,
    users: BTreeMap<UserId, (Stamp, User)>,
    parts: BTreeMap<UserId, (Stamp, User)>,
    organizations: BTreeMap<OrganizationId, (Stamp, Organization)>,
    invitations: BTreeMap<InvitationId, (Stamp, Invitation)>,
    memberships: BTreeMap<Pair, BTreeMap<Generation, Life>>,
    bare_ends: BTreeMap<MembershipId, Millis>,
    no_user: BTreeMap<UserId, Millis>,
    no_organization: BTreeMap<OrganizationId, Millis>,
    rows: Rows,
}

impl Copying for Mutant {
    fn deliver(&mut self, batch: &[&Observation]) {
        for observation in batch {
            if matches!(self.rule, Rule::ArrivalOrder | Rule::LastWriteWins) {
                self.overwrite(&observation.fact);
            } else {
                self.remember(&observation.fact);
            }
        }
        if !matches!(self.rule, Rule::ArrivalOrder | Rule::LastWriteWins) {
            self.rows = self.visible();
        }
    }

    fn rows(&self) -> &Rows {
        &self.rows
    }
}

impl Mutant {
    pub(crate) fn new(rule: Rule) -> Self {
        Self {
            rule,
            users: BTreeMap::new(),
            parts: BTreeMap::new(),
            organizations: BTreeMap::new(),
            invitations: BTreeMap::new(),
            memberships: BTreeMap::new(),
            bare_ends: BTreeMap::new(),
            no_user: BTreeMap::new(),
            no_organization: BTreeMap::new(),
            rows: Rows::default(),
        }
    }

    /// The rules that know only rows. A deletion takes the children along, as a foreign key would.
    fn overwrite(&mut self, fact: &Fact) {
        let newer = |known: Option<&Stamp>, offered: &Stamp| {
            self.rule == Rule::ArrivalOrder || known.is_none_or(|known| known <= offered)
        };
        let rows = &mut self.rows;
        match fact {
            Fact::User(user, stamp) if newer(self.users.get(&user.id).map(|known| &known.0), stamp) => {
                self.users.insert(user.id.clone(), (*stamp, user.clone()));
                rows.users.insert(user.id.clone(), (user.clone(), Provenance::Webhook));
            }
            Fact::Organization(organization, stamp)
                if newer(self.organizations.get(&organization.id).map(|known| &known.0), stamp) =>
            {
                let id = organization.id.clone();
                self.organizations.insert(id.clone(), (*stamp, organization.clone()));
                rows.organizations.insert(id, (organization.clone(), Provenance::Webhook));
            }
            Fact::Invitation(invitation, stamp)
                if newer(self.invitations.get(&invitation.id).map(|known| &known.0), stamp) =>
            {
                let id = invitation.id.clone();
                self.invitations.insert(id.clone(), (*stamp, invitation.clone()));
                rows.invitations.insert(id, (invitation.clone(), Provenance::Webhook));
            }
            Fact::Member(member, generation, stamp) => {
                let pair = (member.organization.clone(), member.user.clone());
                let lives = self.memberships.entry(pair.clone()).or_default();
                let known = lives.values().filter_map(|life| life.version.as_ref().map(|version| version.0)).max();
                if newer(known.as_ref(), stamp) {
                    let version = Some((*stamp, member.clone()));
                    *lives = BTreeMap::from([(generation.clone(), Life { version, ended: None })]);
                    rows.members.insert(pair, (member.clone(), Provenance::Webhook));
                }
            }
            Fact::NoUser(id, _) => {
                self.users.remove(id);
                rows.users.remove(id);
                rows.members.retain(|pair, _| pair.1 != *id);
                self.memberships.retain(|pair, _| pair.1 != *id);
            }
            Fact::NoOrganization(id, _) => {
                self.organizations.remove(id);
                self.invitations.retain(|_, (_, invitation)| invitation.organization != *id);
                rows.organizations.remove(id);
                rows.invitations.retain(|_, (invitation, _)| invitation.organization != *id);
                rows.members.retain(|pair, _| pair.0 != *id);
                self.memberships.retain(|pair, _| pair.0 != *id);
            }
            Fact::NoMember(organization, user, ..) => {
                let pair = (organization.clone(), user.clone());
                rows.members.remove(&pair);
                self.memberships.remove(&pair);
            }
            Fact::NoMembership(id, _) => rows.members.retain(|_, (member, _)| member.membership.as_ref() != Some(id)),
            _ => {}
        }
    }

    fn remember(&mut self, fact: &Fact) {
        match fact {
            Fact::User(user, stamp) => newest(&mut self.users, user.id.clone(), *stamp, user),
            Fact::PartOfUser(user, stamp) => {
                newest(&mut self.parts, user.id.clone(), *stamp, user);
                if self.rule == Rule::EmbeddedOverwrites
                    && let (Some((_, known)), Some(part)) = (self.users.get_mut(&user.id), &user.profile)
                    && let Some(profile) = &mut known.profile
                {
                    let part = part.clone();
                    *profile = Profile {
                        first_name: part.first_name,
                        last_name: part.last_name,
                        image_url: part.image_url,
                        ..profile.clone()
                    };
                }
            }
            Fact::Organization(organization, stamp) => {
                newest(&mut self.organizations, organization.id.clone(), *stamp, organization);
            }
            Fact::Invitation(invitation, stamp) => {
                newest(&mut self.invitations, invitation.id.clone(), *stamp, invitation);
            }
            Fact::Member(member, generation, stamp) => {
                let pair = (member.organization.clone(), member.user.clone());
                let life = self.memberships.entry(pair).or_default().entry(generation.clone()).or_default();
                if life.version.as_ref().is_none_or(|known| known.0 < *stamp) {
                    life.version = Some((*stamp, member.clone()));
                }
            }
            Fact::NoMember(organization, user, generation, at) => {
                let pair = (organization.clone(), user.clone());
                let life = self.memberships.entry(pair).or_default().entry(generation.clone()).or_default();
                life.ended = life.ended.max(Some(*at));
            }
            Fact::NoMembership(id, at) => latest(&mut self.bare_ends, id, *at),
            Fact::NoUser(id, at) => latest(&mut self.no_user, id, *at),
            Fact::NoOrganization(id, at) => latest(&mut self.no_organization, id, *at),
            other => panic!("no delivery says {other:?}"),
        }
    }

    fn visible(&self) -> Rows {
        let mut rows = Rows::default();
        let from = Provenance::Webhook;
        for (id, (stamp, user)) in self.parts.iter().chain(&self.users) {
            if self.outlives(self.no_user.get(id), stamp) {
                rows.users.insert(id.clone(), (user.clone(), from));
            }
        }
        for (id, (stamp, organization)) in &self.organizations {
            if self.outlives(self.no_organization.get(id), stamp) {
                rows.organizations.insert(id.clone(), (organization.clone(), from));
            }
        }
        for (id, (stamp, invitation)) in &self.invitations {
            if self.outlives(self.no_organization.get(&invitation.organization), stamp) {
                rows.invitations.insert(id.clone(), (invitation.clone(), from));
            }
        }
        for (pair, lives) in &self.memberships {
            let candidates = if self.rule == Rule::AnyLiveMembership { lives.len() } else { 1 };
            let newest_first = lives.iter().rev().take(candidates);
            let alive = newest_first.filter_map(|(generation, life)| {
                let ended = life.ended.max(self.bare_ends.get(&generation.id).copied());
                life.version.as_ref().filter(|(stamp, _)| self.outlives(ended.as_ref(), stamp))
            });
            let parents = |stamp: &Stamp| {
                self.rule == Rule::NoParentTombstones
                    || (self.outlives(self.no_organization.get(&pair.0), stamp)
                        && self.outlives(self.no_user.get(&pair.1), stamp))
            };
            if let Some((_, member)) = alive.take(1).find(|(stamp, _)| parents(stamp)) {
                rows.members.insert(pair.clone(), (member.clone(), from));
            }
        }
        rows
    }

    /// Whether a version shows in spite of a deletion, if there is one.
    fn outlives(&self, ended: Option<&Millis>, version: &Stamp) -> bool {
        ended.is_none_or(|ended| self.rule == Rule::TimedTombstones && version.event_at > *ended)
    }
}

fn newest<K: Ord, T: Clone>(known: &mut BTreeMap<K, (Stamp, T)>, key: K, stamp: Stamp, content: &T) {
    if known.get(&key).is_none_or(|known| known.0 < stamp) {
        known.insert(key, (stamp, content.clone()));
    }
}

fn latest<K: Ord + Clone>(known: &mut BTreeMap<K, Millis>, key: &K, at: Millis) {
    let held = known.entry(key.clone()).or_insert(at);
    *held = at.max(*held);
}

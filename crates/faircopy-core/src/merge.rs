//! The rule by which the copy stays exact (merge.md).
//!
//! Everything that is learned is an [`Observation`], and rows change only by merging one. Per subject there is one
//! [`Register`], which remembers what decides; merging is associative, commutative and idempotent, so that order,
//! duplicates and the split over replicas do not matter. Public rows follow from the registers:
//!
//! - a user, organization or invitation is visible unless it has a tombstone; the newest full snapshot is shown, and a
//!   partial one only where no full one is known;
//! - a pair (organization, user) shows the newest generation of its membership, live *or dead*: if that one has ended,
//!   the pair is invisible, whatever older generation is still believed alive;
//! - nothing of an organization or a user with a tombstone is visible.
//!
//! Registers hold versions and ids, not content. The content of a row is that of the observation that won, so a
//! [`Workset`] emits a row exactly when the winner passes through it; passing again, it heals a damaged row.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::event::{Fact, Observation};
use crate::id::{InvitationId, MembershipId, OrganizationId, UserId};
use crate::record::{Generation, Invitation, Member, Organization, Provenance, Stamp, User};
use crate::time::Millis;

/// What a register is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A user.
    User(UserId),
    /// An organization.
    Organization(OrganizationId),
    /// All memberships, one after the other, of one user in one organization.
    Pair(OrganizationId, UserId),
    /// One membership of which only the id is known: remembered when it ended before its pair was known.
    Membership(MembershipId),
    /// An invitation.
    Invitation(InvitationId),
}

/// The register's key as one text; the prefixes keep the kinds apart.
impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(id) => id.fmt(out),
            Self::Organization(id) => id.fmt(out),
            Self::Pair(organization, user) => write!(out, "{organization}/{user}"),
            Self::Membership(id) => id.fmt(out),
            Self::Invitation(id) => id.fmt(out),
        }
    }
}

impl Key {
    /// Reads what [`fmt::Display`] writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some((organization, user)) = text.split_once('/') {
            return Some(Self::Pair(OrganizationId::parse(organization).ok()?, UserId::parse(user).ok()?));
        }
        match text.split_once('_')?.0 {
            "user" => UserId::parse(text).ok().map(Self::User),
            "org" => OrganizationId::parse(text).ok().map(Self::Organization),
            "orgmem" => MembershipId::parse(text).ok().map(Self::Membership),
            "orginv" => InvitationId::parse(text).ok().map(Self::Invitation),
            _ => None,
        }
    }
}

/// What is remembered of one subject. Which parts are used depends on the [`Key`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Register {
    /// The newest full snapshot; of a pair, that of its newest generation.
    pub full: Option<Stamp>,
    /// Another snapshot has the same `updated_at` as [`Self::full`] and other content: to be settled by a read of Clerk.
    pub contested: bool,
    /// The newest partial snapshot of a user or an organization.
    pub partial: Option<Stamp>,
    /// When the subject ended; of a pair, when its newest generation ended. Absorbing: never unset.
    pub tombstone: Option<Millis>,
    /// Pairs: the newest generation known, live or dead.
    pub generation: Option<Generation>,
    /// Pairs: the latest known end of any generation, or read of Clerk that found none. A token must be younger to speak
    /// for the pair. Users and organizations: the latest read of Clerk that did not find them. What is partial must be
    /// younger to be shown.
    pub last_end: Option<Millis>,
    /// Pairs: what the newest token said.
    pub token: Option<TokenWord>,
    /// Invitations: the organization that rules them.
    pub organization: Option<OrganizationId>,
}

/// What a session token said of a pair.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenWord {
    /// When the token was issued.
    pub issued_at: Millis,
    /// The role that it names.
    pub role: Option<String>,
    /// The permissions that it names.
    pub permissions: Vec<String>,
}

/// What merging one observation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As new as what is known, or older, or absorbed by a tombstone.
    Known,
    /// New information.
    News,
}

/// What must become of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<T> {
    /// It holds this.
    Put(T, Provenance),
    /// It is not there.
    Remove,
    /// It is not there, and nothing below it is touched: only a part of it was known, and Clerk does not know it.
    Withdraw,
}

/// The rows that follow from a batch. Removing a user or an organization removes its members and invitations too.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Changes {
    /// `users`.
    pub users: BTreeMap<UserId, Change<User>>,
    /// `organizations`.
    pub organizations: BTreeMap<OrganizationId, Change<Organization>>,
    /// `organization_members`.
    pub members: BTreeMap<(OrganizationId, UserId), Change<Member>>,
    /// `organization_invitations`.
    pub invitations: BTreeMap<InvitationId, Change<Invitation>>,
    /// Registers that changed.
    pub registers: BTreeMap<Key, Register>,
}

impl Fact {
    /// The register of what it is about.
    #[must_use]
    pub fn key(&self) -> Key {
        match self {
            Self::User(user, _) | Self::PartOfUser(user, _) => Key::User(user.id.clone()),
            Self::NoUser(id, _) | Self::UserNotFound(id, _) => Key::User(id.clone()),
            Self::Organization(organization, _) | Self::PartOfOrganization(organization, _) => {
                Key::Organization(organization.id.clone())
            }
            Self::NoOrganization(id, _) | Self::OrganizationNotFound(id, _) => Key::Organization(id.clone()),
            Self::Member(member, ..) | Self::TokenMember(member, _) => {
                Key::Pair(member.organization.clone(), member.user.clone())
            }
            Self::NoMember(organization, user, ..) | Self::NotAMember(organization, user, _) => {
                Key::Pair(organization.clone(), user.clone())
            }
            Self::NoMembership(id, _) => Key::Membership(id.clone()),
            Self::Invitation(invitation, _) => Key::Invitation(invitation.id.clone()),
            Self::NoInvitation(id, _) => Key::Invitation(id.clone()),
        }
    }
}

impl Observation {
    /// The registers that must be loaded to merge this: its own and those of the parents that can absorb it.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        let pair = |organization: &OrganizationId, user: &UserId| {
            vec![
                Key::Organization(organization.clone()),
                Key::Pair(organization.clone(), user.clone()),
                Key::User(user.clone()),
            ]
        };
        match &self.fact {
            Fact::User(user, _) | Fact::PartOfUser(user, _) => vec![Key::User(user.id.clone())],
            Fact::NoUser(id, _) | Fact::UserNotFound(id, _) => vec![Key::User(id.clone())],
            Fact::Organization(organization, _) | Fact::PartOfOrganization(organization, _) => {
                vec![Key::Organization(organization.id.clone())]
            }
            Fact::NoOrganization(id, _) | Fact::OrganizationNotFound(id, _) => vec![Key::Organization(id.clone())],
            Fact::Member(member, generation, _) => {
                let mut keys = pair(&member.organization, &member.user);
                keys.push(Key::Membership(generation.id.clone()));
                keys
            }
            Fact::NoMember(organization, user, _, _) | Fact::NotAMember(organization, user, _) => {
                pair(organization, user)
            }
            Fact::TokenMember(member, _) => pair(&member.organization, &member.user),
            // The pair, where it is known, must be looked up by the membership's id.
            Fact::NoMembership(id, _) => vec![Key::Membership(id.clone())],
            Fact::NoInvitation(id, _) => vec![Key::Invitation(id.clone())],
            Fact::Invitation(invitation, _) => {
                vec![Key::Invitation(invitation.id.clone()), Key::Organization(invitation.organization.clone())]
            }
        }
    }

    /// The membership whose pair must be looked up, because only its id is known.
    #[must_use]
    pub fn unpaired_membership(&self) -> Option<&MembershipId> {
        match &self.fact {
            Fact::NoMembership(id, _) => Some(id),
            _ => None,
        }
    }
}

/// The registers that a batch touches, and what has become of them.
#[derive(Debug, Default)]
pub struct Workset {
    registers: HashMap<Key, Register>,
    changes: Changes,
}

impl Workset {
    /// Starts from the stored registers. A key that is not there has never been heard of.
    #[must_use]
    pub fn new(stored: impl IntoIterator<Item = (Key, Register)>) -> Self {
        Self { registers: stored.into_iter().collect(), changes: Changes::default() }
    }

    /// Merges one observation. The registers that [`Observation::keys`] names must have been loaded.
    pub fn merge(&mut self, observation: &Observation) -> Verdict {
        let source = observation.source;
        match &observation.fact {
            Fact::User(user, stamp) => self.user(user, *stamp, true, source),
            Fact::PartOfUser(user, stamp) => self.user(user, *stamp, false, source),
            Fact::NoUser(id, at) => self.no_user(id, *at),
            Fact::UserNotFound(id, at) => self.user_not_found(id, *at),
            Fact::OrganizationNotFound(id, at) => self.organization_not_found(id, *at),
            Fact::Organization(organization, stamp) => self.organization(organization, *stamp, true, source),
            Fact::PartOfOrganization(organization, stamp) => self.organization(organization, *stamp, false, source),
            Fact::NoOrganization(id, at) => self.no_organization(id, *at),
            Fact::Member(member, generation, stamp) => self.member(member, generation, *stamp, source),
            Fact::NoMember(organization, user, generation, at) => {
                self.pair(organization, user, |pair| pair.end(generation, *at))
            }
            Fact::NoMembership(id, at) => self.no_membership(id, *at),
            Fact::NotAMember(organization, user, at) => {
                self.pair(organization, user, |pair| newest(&mut pair.last_end, *at))
            }
            Fact::TokenMember(member, issued_at) => self.token_member(member, *issued_at),
            Fact::Invitation(invitation, stamp) => self.invitation(invitation, *stamp, source),
            Fact::NoInvitation(id, at) => self.no_invitation(id, *at),
        }
    }

    /// Whether the observation's own subject has two snapshots of one `updated_at` and different content.
    #[must_use]
    pub fn is_contested(&self, observation: &Observation) -> bool {
        let is_whole = matches!(
            observation.fact,
            Fact::User(..) | Fact::Organization(..) | Fact::Member(..) | Fact::Invitation(..)
        );
        is_whole && self.registers.get(&observation.fact.key()).is_some_and(|register| register.contested)
    }

    /// What is remembered of a subject by now.
    #[must_use]
    pub fn register(&self, key: &Key) -> Option<&Register> {
        self.registers.get(key)
    }

    /// What must be written.
    #[must_use]
    pub fn finish(self) -> Changes {
        self.changes
    }

    fn user(&mut self, user: &User, stamp: Stamp, full: bool, source: Provenance) -> Verdict {
        let key = Key::User(user.id.clone());
        let (verdict, shown) = self.update(key, |register| register.snapshot(stamp, full));
        if shown {
            self.changes.users.insert(user.id.clone(), Change::Put(user.clone(), source));
        }
        verdict
    }

    fn organization(&mut self, organization: &Organization, stamp: Stamp, full: bool, source: Provenance) -> Verdict {
        let key = Key::Organization(organization.id.clone());
        let (verdict, shown) = self.update(key, |register| register.snapshot(stamp, full));
        if shown {
            let change = Change::Put(organization.clone(), source);
            self.changes.organizations.insert(organization.id.clone(), change);
        }
        verdict
    }

    fn invitation(&mut self, invitation: &Invitation, stamp: Stamp, source: Provenance) -> Verdict {
        let parent = Key::Organization(invitation.organization.clone());
        if self.ended(&parent) || self.ended(&Key::Invitation(invitation.id.clone())) {
            return Verdict::Known;
        }
        let (verdict, shown) = self.update(Key::Invitation(invitation.id.clone()), |register| {
            register.organization.get_or_insert_with(|| invitation.organization.clone());
            register.snapshot(stamp, true)
        });
        if shown {
            self.changes.invitations.insert(invitation.id.clone(), Change::Put(invitation.clone(), source));
        }
        verdict
    }

    fn no_invitation(&mut self, id: &InvitationId, at: Millis) -> Verdict {
        let verdict = self.bury(Key::Invitation(id.clone()), at);
        self.changes.invitations.insert(id.clone(), Change::Remove);
        verdict
    }

    fn no_user(&mut self, id: &UserId, at: Millis) -> Verdict {
        let verdict = self.bury(Key::User(id.clone()), at);
        self.changes.users.insert(id.clone(), Change::Remove);
        self.changes.members.retain(|(_, user), _| user != id);
        self.forget(|key, _| matches!(key, Key::Pair(_, user) if user == id));
        verdict
    }

    fn no_organization(&mut self, id: &OrganizationId, at: Millis) -> Verdict {
        let verdict = self.bury(Key::Organization(id.clone()), at);
        self.changes.organizations.insert(id.clone(), Change::Remove);
        self.changes.members.retain(|(organization, _), _| organization != id);
        let swept = |key: &Key, register: &Register| match key {
            Key::Pair(organization, _) => organization == id,
            Key::Invitation(_) => register.organization.as_ref() == Some(id),
            _ => false,
        };
        let invitations: Vec<InvitationId> = self
            .registers
            .iter()
            .filter(|(key, register)| swept(key, register))
            .filter_map(|(key, _)| match key {
                Key::Invitation(invitation) => Some(invitation.clone()),
                _ => None,
            })
            .collect();
        self.changes.invitations.retain(|invitation, _| !invitations.contains(invitation));
        self.forget(swept);
        verdict
    }

    fn user_not_found(&mut self, id: &UserId, at: Millis) -> Verdict {
        let (verdict, shown) = self.update(Key::User(id.clone()), |register| register.not_found(at));
        if !shown {
            self.changes.users.insert(id.clone(), Change::Withdraw);
        }
        verdict
    }

    fn organization_not_found(&mut self, id: &OrganizationId, at: Millis) -> Verdict {
        let (verdict, shown) = self.update(Key::Organization(id.clone()), |register| register.not_found(at));
        if !shown {
            self.changes.organizations.insert(id.clone(), Change::Withdraw);
        }
        verdict
    }

    /// A tombstone keeps ids and times, nothing else.
    fn bury(&mut self, key: Key, at: Millis) -> Verdict {
        self.update(key, |register| {
            let first = register.tombstone.is_none();
            let mut tombstone = register.tombstone;
            newest(&mut tombstone, at);
            *register = Register { tombstone, ..Register::default() };
            (if first { Verdict::News } else { Verdict::Known }, false)
        })
        .0
    }

    /// Drops what a parent's tombstone makes superfluous: the tombstone absorbs whatever comes later.
    fn forget(&mut self, swept: impl Fn(&Key, &Register) -> bool) {
        self.changes.registers.retain(|key, register| !swept(key, register));
        self.registers.retain(|key, register| !swept(key, register));
    }

    fn member(&mut self, member: &Member, generation: &Generation, stamp: Stamp, source: Provenance) -> Verdict {
        let ended_by_id = self.registers.get(&Key::Membership(generation.id.clone())).and_then(|known| known.tombstone);
        let mut shown = false;
        let verdict = self.pair(&member.organization, &member.user, |pair| {
            let verdict = pair.live(generation, stamp);
            let ended = ended_by_id.map_or(Verdict::Known, |at| pair.end(generation, at));
            shown = pair.is_live() && pair.full.is_some_and(|full| full.same_content(&stamp)) && pair.is(generation);
            verdict.max(ended)
        });
        if shown {
            let row = (member.organization.clone(), member.user.clone());
            self.changes.members.insert(row, Change::Put(member.clone(), source));
        }
        verdict
    }

    fn token_member(&mut self, member: &Member, issued_at: Millis) -> Verdict {
        let word = TokenWord { issued_at, role: member.role.clone(), permissions: member.permissions.clone() };
        self.pair(&member.organization, &member.user, |pair| newest(&mut pair.token, word))
    }

    fn no_membership(&mut self, id: &MembershipId, at: Millis) -> Verdict {
        let verdict =
            self.update(Key::Membership(id.clone()), |register| (newest_first(&mut register.tombstone, at), false)).0;
        let pairs: Vec<(OrganizationId, UserId, Generation)> = self
            .registers
            .iter()
            .filter_map(|(key, register)| match (key, &register.generation) {
                (Key::Pair(organization, user), Some(generation)) if generation.id == *id => {
                    Some((organization.clone(), user.clone(), generation.clone()))
                }
                _ => None,
            })
            .collect();
        pairs.into_iter().fold(verdict, |verdict, (organization, user, generation)| {
            verdict.max(self.pair(&organization, &user, |pair| pair.end(&generation, at)))
        })
    }

    /// Changes a pair's register, and its row where the row follows from the register alone. Absorbed when the
    /// organization or the user has a tombstone.
    fn pair(
        &mut self,
        organization: &OrganizationId,
        user: &UserId,
        change: impl FnOnce(&mut Register) -> Verdict,
    ) -> Verdict {
        if self.ended(&Key::Organization(organization.clone())) || self.ended(&Key::User(user.clone())) {
            return Verdict::Known;
        }
        let key = Key::Pair(organization.clone(), user.clone());
        let mut view = PairView::Invisible;
        let (verdict, _) = self.update(key, |register| {
            let verdict = change(register);
            view = register.view();
            (verdict, false)
        });
        let row = (organization.clone(), user.clone());
        match view {
            // The content comes with the observation that won.
            PairView::Live => {}
            PairView::Provisional(word) => {
                let member = Member {
                    organization: organization.clone(),
                    user: user.clone(),
                    membership: None,
                    role: word.role,
                    permissions: word.permissions,
                    created_at: None,
                    updated_at: None,
                };
                self.changes.members.insert(row, Change::Put(member, Provenance::Token));
            }
            PairView::Invisible => {
                self.changes.members.insert(row, Change::Remove);
            }
        }
        verdict
    }

    /// Whether the user is known to have been deleted, as far as their register was loaded.
    #[must_use]
    pub fn is_gone(&self, user: &UserId) -> bool {
        self.ended(&Key::User(user.clone()))
    }

    fn ended(&self, key: &Key) -> bool {
        self.registers.get(key).is_some_and(|register| register.tombstone.is_some())
    }

    /// Changes one register; a register that really changed is written.
    fn update<T>(&mut self, key: Key, change: impl FnOnce(&mut Register) -> T) -> T {
        let register = self.registers.entry(key.clone()).or_default();
        let before = register.clone();
        let result = change(register);
        if *register != before {
            self.changes.registers.insert(key, register.clone());
        }
        result
    }
}

/// How a pair looks from its own register, its parents being alive.
#[derive(Debug, Clone, PartialEq, Eq)]
enum PairView {
    Live,
    Provisional(TokenWord),
    Invisible,
}

impl Register {
    /// Takes a snapshot in; says whether it is news, and whether it is what the row must show.
    fn snapshot(&mut self, stamp: Stamp, full: bool) -> (Verdict, bool) {
        if self.tombstone.is_some() {
            return (Verdict::Known, false);
        }
        if full {
            let verdict = self.full_snapshot(stamp);
            return (verdict, self.full.is_some_and(|known| known.same_content(&stamp)));
        }
        if self.full.is_some() {
            return (Verdict::Known, false);
        }
        let verdict = newest(&mut self.partial, stamp);
        (verdict, self.believes_part() && self.partial.is_some_and(|known| known.same_content(&stamp)))
    }

    /// Whether what is partial is younger than the last read of Clerk that found nothing.
    fn believes_part(&self) -> bool {
        self.partial.is_some_and(|part| self.last_end.is_none_or(|end| part.event_at > end))
    }

    /// Takes in that a read found nothing; says whether it is news, and whether something is shown all the same. What a
    /// tombstone removed is left to it.
    fn not_found(&mut self, at: Millis) -> (Verdict, bool) {
        if self.tombstone.is_some() {
            return (Verdict::Known, true);
        }
        let verdict = newest(&mut self.last_end, at);
        (verdict, self.full.is_some() || self.believes_part())
    }

    fn full_snapshot(&mut self, stamp: Stamp) -> Verdict {
        let before = self.full;
        let tie = before.is_some_and(|known| known.updated_at == stamp.updated_at && known.hash != stamp.hash);
        newest(&mut self.full, stamp);
        // A full snapshot never goes away but by a tombstone, so what was partial can be forgotten.
        self.partial = None;
        let newer = before.is_none_or(|known| known.updated_at < stamp.updated_at);
        self.contested = (self.contested && !newer) || tie;
        let same = before.zip(self.full).is_some_and(|(before, after)| before.same_content(&after));
        if same { Verdict::Known } else { Verdict::News }
    }

    fn is(&self, generation: &Generation) -> bool {
        self.generation.as_ref().is_some_and(|known| known.id == generation.id)
    }

    fn is_live(&self) -> bool {
        self.generation.is_some() && self.tombstone.is_none()
    }

    fn view(&self) -> PairView {
        match &self.token {
            _ if self.is_live() => PairView::Live,
            Some(word) if self.last_end.is_none_or(|end| word.issued_at > end) => PairView::Provisional(word.clone()),
            _ => PairView::Invisible,
        }
    }

    /// Makes `generation` the one that decides, unless a newer one is known. Says whether it decides now.
    fn reach(&mut self, generation: &Generation) -> bool {
        if self.is(generation) {
            return true;
        }
        if self.generation.as_ref().is_some_and(|known| known > generation) {
            return false;
        }
        self.generation = Some(generation.clone());
        (self.full, self.tombstone, self.contested) = (None, None, false);
        true
    }

    fn live(&mut self, generation: &Generation, stamp: Stamp) -> Verdict {
        if !self.reach(generation) || self.tombstone.is_some() { Verdict::Known } else { self.full_snapshot(stamp) }
    }

    fn end(&mut self, generation: &Generation, at: Millis) -> Verdict {
        newest(&mut self.last_end, at);
        if !self.reach(generation) {
            return Verdict::Known;
        }
        (self.full, self.contested) = (None, false);
        newest_first(&mut self.tombstone, at)
    }
}

/// Keeps the greater of two values: the join that makes merging independent of order.
fn newest<T: Ord>(known: &mut Option<T>, offered: T) -> Verdict {
    if known.as_ref().is_some_and(|known| *known >= offered) {
        return Verdict::Known;
    }
    *known = Some(offered);
    Verdict::News
}

/// As [`newest`], but only the first value is news.
fn newest_first<T: Ord>(known: &mut Option<T>, offered: T) -> Verdict {
    let verdict = if known.is_none() { Verdict::News } else { Verdict::Known };
    newest(known, offered);
    verdict
}

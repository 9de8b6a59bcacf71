//! Why the copy holds what it holds: everything that came of one subject, in order, and what the merge made of each.
//!
//! What came is merged again, one observation after the other, by the real [`Workset`]. A [`Finding`] describes what it did, from
//! the registers before and after; nothing is decided here. So the last row explained is the row that the merge of everything
//! gives, and the row after the last step until some time is what the copy held then (docs/decisions/0019-explain.md).

use std::collections::BTreeMap;
use std::fmt;

use crate::event::{Fact, Observation};
use crate::id::{MembershipId, OrganizationId};
use crate::merge::{Change, Changes, Key, Register, Verdict, Workset};
use crate::record::{Generation, Invitation, Member, Organization, Provenance, Stamp, User};
use crate::time::Millis;

/// Something that came: a delivery, or what a read of Clerk or a token brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// When it came.
    pub at: Millis,
    /// What is kept of it.
    pub content: Content,
    /// Whether it brought anything that was not known, as it was recorded when it came. Of a delivery: for any of its subjects.
    pub was_news: Option<bool>,
    /// It is of the subject itself, and does not merely speak of it.
    pub is_own: bool,
}

impl Told {
    /// Whether it may have changed the subject, and how is not known any more.
    fn is_lost(&self) -> bool {
        self.is_own && self.content == Content::Erased && self.was_news != Some(false)
    }

    /// Whether after it the row is known, whatever came before and is not kept: by a full snapshot that won when it came, by an end,
    /// or by a part that was news when it came. What is recorded of a delivery is true of its own subject; of another that it
    /// speaks of only where it speaks of nothing else.
    fn decides(&self, finding: &Finding) -> bool {
        let is_alone = matches!(&self.content, Content::Observed(observations) if observations.len() == 1);
        match finding.outcome() {
            Outcome::Won => self.is_own || is_alone,
            Outcome::Ended => true,
            Outcome::Filled => is_alone && self.was_news == Some(true),
            _ => false,
        }
    }
}

/// What is kept of something that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// What it said, in the order in which it was merged.
    Observed(Vec<Observation>),
    /// It was not mirrored, or another instance's.
    Ignored,
    /// It could not be understood.
    Quarantined(String),
    /// What it said is not kept any more.
    Erased,
}

/// A row of any of the four kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// `users`.
    User(User),
    /// `organizations`.
    Organization(Organization),
    /// `organization_members`.
    Member(Member),
    /// `organization_invitations`.
    Invitation(Invitation),
}

/// A row, and where its content came from.
pub type Row = (Record, Provenance);

/// One thing that came and concerns the subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Its place in what was told.
    pub told: usize,
    /// What the merge made of it.
    pub finding: Finding,
    /// The version that it brought, where it was a snapshot.
    pub stamp: Option<Stamp>,
    /// The row after it.
    pub row: Option<Row>,
}

/// All that came, explained.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Explained {
    /// In the order in which it came.
    pub steps: Vec<Step>,
    /// What is remembered of the subject in the end.
    pub register: Option<Register>,
    /// From when on nothing can be missing: since a step that decided the row by itself, after which everything is kept. `None`
    /// where there is no such step.
    pub complete_since: Option<Millis>,
}

impl Explained {
    /// The row after the last step.
    #[must_use]
    pub fn row(&self) -> Option<&Row> {
        self.steps.last().and_then(|step| step.row.as_ref())
    }

    /// Whether what is remembered in the end is what is stored: else something came that is not kept.
    #[must_use]
    pub fn ends_like(&self, stored: Option<&Register>) -> bool {
        let empty = Register::default();
        let (ours, stored) = (self.register.as_ref().unwrap_or(&empty), stored.unwrap_or(&empty));
        // An equal snapshot of a later event is no news, and may not have been written down.
        let same = |ours: Option<Stamp>, stored: Option<Stamp>| match (ours, stored) {
            (Some(ours), Some(stored)) => ours.same_content(&stored),
            (ours, stored) => ours.is_none() && stored.is_none(),
        };
        same(ours.full, stored.full)
            && same(ours.partial, stored.partial)
            && ours.tombstone.is_some() == stored.tombstone.is_some()
            && ours.generation == stored.generation
    }
}

/// What became of something that came, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Its content is the row's since.
    Won,
    /// It filled a gap: only a part is known, and this is the newest.
    Filled,
    /// It ended the subject: there is no row since.
    Ended,
    /// It took back what only a part or a token had said.
    Withdrawn,
    /// It said what was known.
    Same,
    /// Something newer, or something that says more, was known.
    Lost,
    /// Its subject, or what that belongs to, had ended: nothing brings it back.
    Absorbed,
    /// It is not mirrored.
    Ignored,
    /// It could not be understood.
    Quarantined,
    /// What it said is not kept.
    Erased,
}

impl Outcome {
    /// As answers and tables hold it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Won => "won",
            Self::Filled => "filled",
            Self::Ended => "ended",
            Self::Withdrawn => "withdrawn",
            Self::Same => "same",
            Self::Lost => "lost",
            Self::Absorbed => "absorbed",
            Self::Ignored => "ignored",
            Self::Quarantined => "quarantined",
            Self::Erased => "erased",
        }
    }
}

/// What decides between two snapshots that are not alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Their `updated_at`.
    UpdatedAt(Millis),
    /// The times of their events, as their `updated_at` are equal.
    EventAt(Millis),
    /// The hashes of their contents, as their times are equal.
    Hash,
}

/// Whose end absorbs something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Its own.
    Own,
    /// That of the membership that it is of.
    Membership,
    /// That of the organization.
    Organization,
    /// That of the user.
    User,
}

/// What the merge made of an observation. Shown, it is a sentence; [`Finding::code`] is what to branch on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The first full snapshot.
    First,
    /// A full snapshot that is newer than the one before, whose time is told.
    Newer(By),
    /// A full snapshot that is older than the one that is known, whose time is told.
    Older(By),
    /// A snapshot with the content that is known.
    Same,
    /// The snapshot of a newer membership of the pair than this one.
    NewerMembership(MembershipId),
    /// It is of an older membership of the pair than this one.
    OlderMembership(MembershipId),
    /// A part of a user or an organization of which nothing more is known.
    Part,
    /// A part that is older than another one.
    OlderPart,
    /// A part, or a token, of what is known in full.
    KnownInFull,
    /// A part, or a token, that is not younger than a read of Clerk that found nothing, or than an end.
    Denied(Millis),
    /// A token speaks for the pair.
    Token,
    /// A younger token was known.
    OlderToken,
    /// The end.
    Ended,
    /// The end of the membership, after which a token was issued that speaks for the pair.
    EndedBeforeToken,
    /// An end that is not older than the token that had spoken for the pair alone.
    TokenEnded,
    /// The end of what the subject belongs to.
    ParentEnded(Whose),
    /// The end was known.
    EndedBefore,
    /// The end of an older membership of the pair than this one.
    OlderMembershipEnded(MembershipId),
    /// The end of a membership that was not known yet: it is remembered by its id.
    UnknownMembershipEnded,
    /// The end of this membership came before it, and was remembered.
    EndedAhead,
    /// It had ended at this time.
    Absorbed(Whose, Millis),
    /// A read of Clerk found nothing where only a part or a token had spoken.
    NotFound,
    /// A read of Clerk found nothing where a full snapshot is known: one read is no proof.
    NotFoundAgainstFull,
    /// A read of Clerk had found nothing before the part, or the token, that is shown.
    NotFoundEarlier,
    /// A read of Clerk found nothing where nothing was shown.
    NotFoundEither,
    /// It brought nothing when it came: what it lost against is not kept, or is told after it.
    NoNewsThen,
    /// See [`Content::Ignored`].
    Ignored,
    /// See [`Content::Quarantined`].
    Quarantined(String),
    /// See [`Content::Erased`].
    Erased,
}

impl Finding {
    /// A stable word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Newer(By::UpdatedAt(_)) => "newer",
            Self::Newer(By::EventAt(_)) => "tie-won-by-event-time",
            Self::Newer(By::Hash) => "tie-won-by-hash",
            Self::Older(By::UpdatedAt(_)) => "older",
            Self::Older(By::EventAt(_)) => "tie-lost-by-event-time",
            Self::Older(By::Hash) => "tie-lost-by-hash",
            Self::Same => "same-content",
            Self::NewerMembership(_) => "newer-membership",
            Self::OlderMembership(_) => "older-membership",
            Self::Part => "part",
            Self::OlderPart => "older-part",
            Self::KnownInFull => "known-in-full",
            Self::Denied(_) => "denied-since",
            Self::Token => "token",
            Self::OlderToken => "older-token",
            Self::Ended => "deleted",
            Self::EndedBeforeToken => "deleted-token-stays",
            Self::TokenEnded => "token-ended",
            Self::ParentEnded(Whose::Organization) => "organization-deleted",
            Self::ParentEnded(_) => "user-deleted",
            Self::EndedBefore => "deleted-before",
            Self::OlderMembershipEnded(_) => "older-membership-deleted",
            Self::UnknownMembershipEnded => "unknown-membership-deleted",
            Self::EndedAhead => "deletion-came-first",
            Self::Absorbed(Whose::Own, _) => "after-deletion",
            Self::Absorbed(Whose::Membership, _) => "after-removal",
            Self::Absorbed(Whose::Organization, _) => "after-organization-deletion",
            Self::Absorbed(Whose::User, _) => "after-user-deletion",
            Self::NotFound => "not-found",
            Self::NotFoundAgainstFull => "not-found-no-proof",
            Self::NotFoundEarlier => "not-found-earlier",
            Self::NotFoundEither => "not-found-nothing-shown",
            Self::NoNewsThen => "no-news-then",
            Self::Ignored => "ignored",
            Self::Quarantined(_) => "quarantined",
            Self::Erased => "not-kept",
        }
    }

    /// In a word.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::First | Self::Newer(_) | Self::NewerMembership(_) => Outcome::Won,
            Self::Part | Self::Token => Outcome::Filled,
            Self::Ended | Self::EndedBeforeToken | Self::ParentEnded(_) | Self::EndedAhead => Outcome::Ended,
            Self::NotFound | Self::TokenEnded => Outcome::Withdrawn,
            Self::Same | Self::EndedBefore | Self::NotFoundEither | Self::UnknownMembershipEnded => Outcome::Same,
            Self::Older(_) | Self::OlderMembership(_) | Self::OlderPart | Self::OlderToken => Outcome::Lost,
            Self::KnownInFull | Self::Denied(_) | Self::OlderMembershipEnded(_) => Outcome::Lost,
            Self::NotFoundAgainstFull | Self::NotFoundEarlier | Self::NoNewsThen => Outcome::Lost,
            Self::Absorbed(..) => Outcome::Absorbed,
            Self::Ignored => Outcome::Ignored,
            Self::Quarantined(_) => Outcome::Quarantined,
            Self::Erased => Outcome::Erased,
        }
    }
}

/// The sentence for people.
impl fmt::Display for Finding {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => out.write_str("the first full snapshot"),
            Self::Newer(By::UpdatedAt(known)) => write!(out, "newer than what was known (updated_at {known})"),
            Self::Newer(By::EventAt(known)) => {
                write!(out, "the same updated_at with other content; its event is later ({known} was known)")
            }
            Self::Newer(By::Hash) => {
                out.write_str("the same updated_at and event time with other content; the greater hash decides")
            }
            Self::Older(By::UpdatedAt(known)) => write!(out, "older than what was known (updated_at {known})"),
            Self::Older(By::EventAt(known)) => {
                write!(out, "the same updated_at with other content; its event is earlier ({known} was known)")
            }
            Self::Older(By::Hash) => {
                out.write_str("the same updated_at and event time with other content; the smaller hash gives way")
            }
            Self::Same => out.write_str("says what was known"),
            Self::NewerMembership(known) => write!(out, "the person joined again: a newer membership than {known}"),
            Self::OlderMembership(known) => write!(out, "of an older membership; {known} came after it"),
            Self::Part => out.write_str("a part, where nothing more was known"),
            Self::OlderPart => out.write_str("a part, older than the part that was known"),
            Self::KnownInFull => {
                out.write_str("a full snapshot was known, and a part or a token changes nothing of it")
            }
            Self::Denied(at) => write!(out, "not younger than the end, or the read that found nothing, of {at}"),
            Self::Token => out.write_str("a session token spoke for it, until a delivery or a read of Clerk says more"),
            Self::OlderToken => out.write_str("a younger token was known"),
            Self::Ended => out.write_str("deleted: nothing brings it back"),
            Self::EndedBeforeToken => out.write_str("deleted; a session token that is younger speaks for the pair"),
            Self::TokenEnded => out.write_str("an end that is not older than the session token that had spoken for it"),
            Self::ParentEnded(Whose::Organization) => out.write_str("the organization was deleted, and this with it"),
            Self::ParentEnded(_) => out.write_str("the user was deleted, and this with them"),
            Self::EndedBefore => out.write_str("the deletion was known"),
            Self::OlderMembershipEnded(known) => {
                write!(out, "the end of an older membership; {known} came after it and stays")
            }
            Self::UnknownMembershipEnded => {
                out.write_str("the end of a membership that was not known yet; its id is remembered")
            }
            Self::EndedAhead => out.write_str("the end of this membership had come before it"),
            Self::Absorbed(Whose::Own, at) => write!(out, "it had been deleted ({at}), and nothing brings it back"),
            Self::Absorbed(Whose::Membership, at) => {
                write!(out, "this membership had ended ({at}), and nothing brings it back")
            }
            Self::Absorbed(Whose::Organization, at) => write!(out, "the organization had been deleted ({at})"),
            Self::Absorbed(Whose::User, at) => write!(out, "the user had been deleted ({at})"),
            Self::NotFound => out.write_str("Clerk did not find it, and only a part or a token had spoken for it"),
            Self::NotFoundAgainstFull => {
                out.write_str("Clerk did not find it; against a full snapshot one read is no proof")
            }
            Self::NotFoundEarlier => {
                out.write_str("Clerk had not found it, before the part or the token that is shown")
            }
            Self::NotFoundEither => out.write_str("Clerk did not find it, and nothing was shown"),
            Self::NoNewsThen => out.write_str(
                "it brought nothing new when it came; what it lost against is not kept, or is told after it",
            ),
            Self::Ignored => out.write_str("not mirrored, or of another instance"),
            Self::Quarantined(fault) => write!(out, "could not be understood: {fault}"),
            Self::Erased => out.write_str("what it said is not kept any more"),
        }
    }
}

/// Explains a subject from what came, in the order in which it came.
#[must_use]
pub fn explain(subject: &Key, told: &[Told]) -> Explained {
    let mut replay = Replay::new(subject, told);
    let mut explained = Explained::default();
    for (place, told) in told.iter().enumerate() {
        let Some((finding, stamp)) = replay.take(told) else { continue };
        if told.is_lost() {
            explained.complete_since = None;
        } else if told.decides(&finding) {
            explained.complete_since = explained.complete_since.or(Some(told.at));
        }
        explained.steps.push(Step { told: place, finding, stamp, row: replay.row.clone() });
    }
    explained.register = replay.registers.get(subject).cloned();
    explained
}

/// The subject as it is by now.
struct Replay<'a> {
    subject: &'a Key,
    /// The memberships of the subject's pair that anything speaks of.
    memberships: BTreeMap<&'a MembershipId, &'a Generation>,
    /// The organization of the invitation.
    inviting: Option<&'a OrganizationId>,
    registers: BTreeMap<Key, Register>,
    row: Option<Row>,
}

impl<'a> Replay<'a> {
    fn new(subject: &'a Key, told: &'a [Told]) -> Self {
        let facts = || {
            told.iter().flat_map(|told| match &told.content {
                Content::Observed(observations) => observations.as_slice(),
                _ => &[],
            })
        };
        let memberships = facts().filter_map(|observation| match &observation.fact {
            Fact::Member(_, generation, _) | Fact::NoMember(_, _, generation, _)
                if observation.fact.key() == *subject =>
            {
                Some((&generation.id, generation))
            }
            _ => None,
        });
        let inviting = facts().find_map(|observation| match &observation.fact {
            Fact::Invitation(invitation, _) if observation.fact.key() == *subject => Some(&invitation.organization),
            _ => None,
        });
        Self { subject, memberships: memberships.collect(), inviting, registers: BTreeMap::new(), row: None }
    }

    /// Takes in one thing that came. `None`: it does not concern the subject.
    fn take(&mut self, told: &Told) -> Option<(Finding, Option<Stamp>)> {
        let own = |finding: Finding| told.is_own.then_some((finding, None));
        let observations = match &told.content {
            Content::Observed(observations) => observations,
            Content::Ignored => return own(Finding::Ignored),
            Content::Quarantined(fault) => return own(Finding::Quarantined(fault.clone())),
            Content::Erased => return Some((Finding::Erased, None)),
        };
        let mut said = None;
        for observation in observations {
            if !self.concerns(&observation.fact) {
                continue;
            }
            let finding = self.merge(observation, told.was_news == Some(false));
            // Of two that concern it the first is the event's own.
            said = said.or(Some((finding, observation.fact.stamp())));
        }
        said
    }

    fn concerns(&self, fact: &Fact) -> bool {
        let key = fact.key();
        if key == *self.subject {
            return true;
        }
        match (self.subject, fact) {
            (Key::Pair(_, user), Fact::NoUser(id, _)) => id == user,
            (Key::Pair(organization, _), Fact::NoOrganization(id, _)) => id == organization,
            (Key::Pair(..), Fact::NoMembership(id, _)) => self.memberships.contains_key(id),
            (Key::Invitation(_), Fact::NoOrganization(id, _)) => self.inviting == Some(id),
            _ => false,
        }
    }

    /// Merges an observation as the copy does, and describes what it did.
    fn merge(&mut self, observation: &Observation, was_no_news: bool) -> Finding {
        let mut workset = Workset::new(self.registers.clone());
        let verdict = workset.merge(observation);
        if was_no_news && verdict == Verdict::News {
            return Finding::NoNewsThen;
        }
        let after = workset.register(self.subject).cloned().unwrap_or_default();
        let finding = self.describe(&observation.fact, &after);
        let had_token = matches!(self.row, Some((_, Provenance::Token)));
        self.apply(workset.finish());
        match finding {
            Finding::Ended if self.row.is_some() => Finding::EndedBeforeToken,
            Finding::EndedBefore | Finding::OlderMembershipEnded(_) if had_token && self.row.is_none() => {
                Finding::TokenEnded
            }
            finding => finding,
        }
    }

    /// As the tables are written.
    fn apply(&mut self, changes: Changes) {
        let parents: [Option<&OrganizationId>; 2] = match self.subject {
            Key::Pair(organization, _) => [Some(organization), None],
            _ => [None, self.inviting],
        };
        let is_removed = |id: &OrganizationId| matches!(changes.organizations.get(id), Some(Change::Remove));
        let loses_organization = parents.into_iter().flatten().any(is_removed);
        let loses_user = match self.subject {
            Key::Pair(_, user) => matches!(changes.users.get(user), Some(Change::Remove)),
            _ => false,
        };
        if loses_organization || loses_user {
            self.row = None;
            self.registers.remove(self.subject);
        }
        match self.subject {
            Key::User(id) => put(&mut self.row, changes.users.get(id), Record::User),
            Key::Organization(id) => put(&mut self.row, changes.organizations.get(id), Record::Organization),
            Key::Pair(organization, user) => {
                let pair = (organization.clone(), user.clone());
                put(&mut self.row, changes.members.get(&pair), Record::Member);
            }
            Key::Invitation(id) => put(&mut self.row, changes.invitations.get(id), Record::Invitation),
            Key::Membership(_) => {}
        }
        self.registers.extend(changes.registers);
    }

    fn register(&self, key: &Key) -> Option<&Register> {
        self.registers.get(key)
    }

    /// What the merge of a fact did, by the registers before it and the subject's after it.
    fn describe(&self, fact: &Fact, after: &Register) -> Finding {
        let empty = Register::default();
        let before = self.register(self.subject).unwrap_or(&empty);
        if let Some((whose, at)) = self.parent_ended() {
            let is_end = matches!(fact, Fact::NoUser(..) | Fact::NoOrganization(..));
            return if is_end { Finding::EndedBefore } else { Finding::Absorbed(whose, at) };
        }
        match fact {
            Fact::User(_, stamp) | Fact::Organization(_, stamp) | Fact::Invitation(_, stamp) => {
                absorbed(before, Whose::Own).unwrap_or_else(|| snapshot(before, *stamp, after))
            }
            Fact::Member(_, generation, stamp) => self.member(before, generation, *stamp, after),
            Fact::PartOfUser(_, stamp) | Fact::PartOfOrganization(_, stamp) => part(before, *stamp, after),
            Fact::NoUser(id, _) if Key::User(id.clone()) != *self.subject => Finding::ParentEnded(Whose::User),
            Fact::NoOrganization(id, _) if Key::Organization(id.clone()) != *self.subject => {
                Finding::ParentEnded(Whose::Organization)
            }
            Fact::NoUser(..) | Fact::NoOrganization(..) | Fact::NoInvitation(..) => end(before),
            Fact::NoMember(_, _, generation, _) => match &before.generation {
                Some(known) if known > generation => Finding::OlderMembershipEnded(known.id.clone()),
                Some(known) if known.id == generation.id => end(before),
                _ => Finding::Ended,
            },
            Fact::NoMembership(id, _) => match (&before.generation, self.subject) {
                (_, Key::Membership(_)) => end(before),
                (Some(known), _) if known.id == *id => end(before),
                (Some(known), _) if self.memberships.get(id).is_some_and(|ended| *ended < known) => {
                    Finding::OlderMembershipEnded(known.id.clone())
                }
                _ => Finding::UnknownMembershipEnded,
            },
            Fact::UserNotFound(..) | Fact::OrganizationNotFound(..) => match absorbed(before, Whose::Own) {
                Some(absorbed) => absorbed,
                None if before.full.is_some() => Finding::NotFoundAgainstFull,
                None if self.row.is_none() => Finding::NotFoundEither,
                None if shows_part(after) => Finding::NotFoundEarlier,
                None => Finding::NotFound,
            },
            Fact::NotAMember(_, _, at) => match &self.row {
                Some((_, Provenance::Token)) if before.token.as_ref().is_some_and(|word| word.issued_at > *at) => {
                    Finding::NotFoundEarlier
                }
                Some((_, Provenance::Token)) => Finding::NotFound,
                Some(_) => Finding::NotFoundAgainstFull,
                None => Finding::NotFoundEither,
            },
            Fact::TokenMember(_, issued_at) => token(before, *issued_at, after),
        }
    }

    /// Which parent has ended, and when.
    fn parent_ended(&self) -> Option<(Whose, Millis)> {
        let ended = |whose, key: &Key| Some((whose, self.register(key)?.tombstone?));
        match self.subject {
            Key::Pair(organization, user) => ended(Whose::Organization, &Key::Organization(organization.clone()))
                .or_else(|| ended(Whose::User, &Key::User(user.clone()))),
            Key::Invitation(_) => ended(Whose::Organization, &Key::Organization(self.inviting?.clone())),
            _ => None,
        }
    }

    fn member(&self, before: &Register, generation: &Generation, stamp: Stamp, after: &Register) -> Finding {
        let ended_ahead = self.register(&Key::Membership(generation.id.clone())).is_some();
        match &before.generation {
            Some(known) if known.id == generation.id => {
                absorbed(before, Whose::Membership).unwrap_or_else(|| snapshot(before, stamp, after))
            }
            Some(known) if known > generation => Finding::OlderMembership(known.id.clone()),
            _ if ended_ahead => Finding::EndedAhead,
            Some(known) => Finding::NewerMembership(known.id.clone()),
            None => Finding::First,
        }
    }
}

fn put<T: Clone>(row: &mut Option<Row>, change: Option<&Change<T>>, record: impl FnOnce(T) -> Record) {
    match change {
        Some(Change::Put(content, source)) => *row = Some((record(content.clone()), *source)),
        Some(Change::Remove | Change::Withdraw) => *row = None,
        None => {}
    }
}

fn absorbed(before: &Register, whose: Whose) -> Option<Finding> {
    before.tombstone.map(|at| Finding::Absorbed(whose, at))
}

fn end(before: &Register) -> Finding {
    if before.tombstone.is_some() { Finding::EndedBefore } else { Finding::Ended }
}

/// A full snapshot: that it won is what the register says after it; what decided is where the two differ first.
fn snapshot(before: &Register, stamp: Stamp, after: &Register) -> Finding {
    let Some(known) = before.full else { return Finding::First };
    if known.same_content(&stamp) {
        return Finding::Same;
    }
    let by = if known.updated_at != stamp.updated_at {
        By::UpdatedAt(known.updated_at)
    } else if known.event_at != stamp.event_at {
        By::EventAt(known.event_at)
    } else {
        By::Hash
    };
    if after.full == Some(stamp) { Finding::Newer(by) } else { Finding::Older(by) }
}

fn part(before: &Register, stamp: Stamp, after: &Register) -> Finding {
    if let Some(absorbed) = absorbed(before, Whose::Own) {
        return absorbed;
    }
    match (before.full, before.partial, before.last_end) {
        (Some(_), ..) => Finding::KnownInFull,
        (_, Some(known), _) if known.same_content(&stamp) && shows_part(before) => Finding::Same,
        _ if after.partial != Some(stamp) => Finding::OlderPart,
        (.., Some(end)) if stamp.event_at <= end => Finding::Denied(end),
        _ => Finding::Part,
    }
}

/// Whether a register shows something although nothing is known in full.
fn shows_part(register: &Register) -> bool {
    register.partial.is_some_and(|part| register.last_end.is_none_or(|end| part.event_at > end))
}

fn token(before: &Register, issued_at: Millis, after: &Register) -> Finding {
    let is_live = before.generation.is_some() && before.tombstone.is_none();
    match (&before.token, before.last_end) {
        _ if is_live => Finding::KnownInFull,
        (_, Some(end)) if issued_at <= end => Finding::Denied(end),
        (known, _) if *known != after.token => Finding::Token,
        (Some(known), _) if known.issued_at > issued_at => Finding::OlderToken,
        _ => Finding::Same,
    }
}

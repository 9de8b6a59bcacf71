//! Bytes to observations: what a delivery says about the source, or why it says nothing.

pub mod api;
mod lenient;
mod shape;

use serde::{Deserialize, Serialize};

use crate::ProfileMode;
use crate::id::{IdError, InvitationId, MAX_ID_LENGTH, MembershipId, OrganizationId, UserId};
use crate::payload::{Key, Message};
use crate::record::{Generation, Invitation, Member, Organization, Provenance, Stamp, User, column_text};
use crate::time::Millis;
use lenient::{Number, Object, Text};

/// How far ahead of its signature an event's time may be. A version from the future would freeze its row for ever, so
/// such a delivery is quarantined (merge.md, hard cases).
pub const MAX_AHEAD_MS: i64 = 5 * 60 * 1000;

/// One thing learned about the source: at some time it held this, or nothing, for this subject. Rows change only by
/// merging observations; webhooks, API reads, tokens and replays are all sources of the same type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// What kind of source spoke.
    pub source: Provenance,
    /// What it said.
    pub fact: Fact,
}

/// The content of an [`Observation`]. As JSON it is what is stored of a reading: the names of the kinds are there to stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// A full snapshot of a user.
    User(User, Stamp),
    /// Some public fields of a user. They fill a gap and never overwrite a full snapshot.
    PartOfUser(User, Stamp),
    /// The user is gone. Absorbing.
    NoUser(UserId, Millis),
    /// A full snapshot of an organization.
    Organization(Organization, Stamp),
    /// The organization exists; the rest is a placeholder.
    PartOfOrganization(Organization, Stamp),
    /// The organization is gone. Absorbing.
    NoOrganization(OrganizationId, Millis),
    /// A full snapshot of one generation of a membership.
    Member(Member, Generation, Stamp),
    /// This generation of the pair's membership has ended. Absorbing for the generation.
    NoMember(OrganizationId, UserId, Generation, Millis),
    /// A membership has ended of which only the id is known.
    NoMembership(MembershipId, Millis),
    /// A read of Clerk found no membership of the pair at this time. It takes back what a token said before, and nothing
    /// else: one read is no proof of a deletion (merge.md).
    NotAMember(OrganizationId, UserId, Millis),
    /// A read of Clerk found no such user at this time. It takes back what is known from parts alone, and nothing else.
    UserNotFound(UserId, Millis),
    /// A read of Clerk found no such organization at this time. As [`Fact::UserNotFound`].
    OrganizationNotFound(OrganizationId, Millis),
    /// A token issued at this time speaks for the pair.
    TokenMember(Member, Millis),
    /// A full snapshot of an invitation.
    Invitation(Invitation, Stamp),
    /// The invitation is gone. Clerk has no event for it: an invitation goes with its organization.
    NoInvitation(InvitationId, Millis),
}

impl Fact {
    /// A stable word for the kind: that of the JSON.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::User(..) => "user",
            Self::PartOfUser(..) => "part_of_user",
            Self::NoUser(..) => "no_user",
            Self::Organization(..) => "organization",
            Self::PartOfOrganization(..) => "part_of_organization",
            Self::NoOrganization(..) => "no_organization",
            Self::Member(..) => "member",
            Self::NoMember(..) => "no_member",
            Self::NoMembership(..) => "no_membership",
            Self::NotAMember(..) => "not_a_member",
            Self::UserNotFound(..) => "user_not_found",
            Self::OrganizationNotFound(..) => "organization_not_found",
            Self::TokenMember(..) => "token_member",
            Self::Invitation(..) => "invitation",
            Self::NoInvitation(..) => "no_invitation",
        }
    }

    /// What decides which of two snapshots is newer, where this is one.
    #[must_use]
    pub fn stamp(&self) -> Option<Stamp> {
        match self {
            Self::User(_, stamp) | Self::PartOfUser(_, stamp) => Some(*stamp),
            Self::Organization(_, stamp) | Self::PartOfOrganization(_, stamp) => Some(*stamp),
            Self::Member(_, _, stamp) | Self::Invitation(_, stamp) => Some(*stamp),
            _ => None,
        }
    }

    /// When what it tells happened, was read or was issued.
    #[must_use]
    pub fn happened_at(&self) -> Millis {
        match self {
            Self::User(_, stamp) | Self::PartOfUser(_, stamp) => stamp.event_at,
            Self::Organization(_, stamp) | Self::PartOfOrganization(_, stamp) => stamp.event_at,
            Self::Member(_, _, stamp) | Self::Invitation(_, stamp) => stamp.event_at,
            Self::NoUser(_, at) | Self::UserNotFound(_, at) => *at,
            Self::NoOrganization(_, at) | Self::OrganizationNotFound(_, at) => *at,
            Self::NoMember(_, _, _, at) | Self::NoMembership(_, at) | Self::NotAMember(_, _, at) => *at,
            Self::TokenMember(_, at) | Self::NoInvitation(_, at) => *at,
        }
    }

    /// The id that Clerk's event names: of a membership its own, where it is known.
    #[must_use]
    pub fn subject(&self) -> &str {
        match self {
            Self::User(user, _) | Self::PartOfUser(user, _) => user.id.as_str(),
            Self::NoUser(id, _) | Self::UserNotFound(id, _) => id.as_str(),
            Self::Organization(organization, _) | Self::PartOfOrganization(organization, _) => organization.id.as_str(),
            Self::NoOrganization(id, _) | Self::OrganizationNotFound(id, _) => id.as_str(),
            Self::Member(_, generation, _) | Self::NoMember(_, _, generation, _) => generation.id.as_str(),
            Self::NoMembership(id, _) => id.as_str(),
            Self::NotAMember(_, user, _) => user.as_str(),
            Self::TokenMember(member, _) => member.user.as_str(),
            Self::Invitation(invitation, _) => invitation.id.as_str(),
            Self::NoInvitation(id, _) => id.as_str(),
        }
    }
}

/// What a delivery turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `type`, empty where there is none.
    pub event_type: String,
    /// `data.id`, where it is a text that can be shown.
    pub entity_id: Option<String>,
    /// Whom and what it speaks of besides.
    pub about: About,
    /// `instance_id`.
    pub instance_id: Option<String>,
    /// The envelope's `timestamp`.
    pub event_at: Option<Millis>,
    /// What follows from it.
    pub reading: Reading,
}

/// The user and the organization that an event speaks of, where its `entity_id` is neither's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// The user: of a membership, an accepted invitation, a message, a user's own session.
    pub user: Option<String>,
    /// The organization: of a membership, an invitation, or whatever names one.
    pub organization: Option<String>,
}

/// What follows from an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// These are merged, in this order; the first is the event's own subject.
    Observed(Vec<Observation>),
    /// Nothing follows: not mirrored, or not of this instance.
    Ignored,
    /// It should have meant something, and could not be understood.
    Quarantined(Fault),
}

/// Why an event of a mirrored type could not be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The body, or its `data`, is not the JSON that an event has.
    #[error("the body cannot be read: {0}")]
    Unreadable(String),
    /// No `type`.
    #[error("there is no `type`")]
    NoType,
    /// No `data` object.
    #[error("there is no `data` object")]
    NoData,
    /// An id is missing.
    #[error("`{0}` is missing or not a text")]
    MissingId(&'static str),
    /// An id is there and cannot be one.
    #[error("`{0}` {1}")]
    BadId(&'static str, IdError),
    /// A time that no event can have.
    #[error("`{0}` is not a usable time")]
    BadTime(&'static str),
    /// A time more than [`MAX_AHEAD_MS`] ahead of the signature.
    #[error("`{0}` is more than 5 minutes ahead of the signed timestamp")]
    Ahead(&'static str),
    /// The database refuses what follows from it.
    #[error("it could not be stored: {0}")]
    Refused(String),
}

/// What must be known to read an event.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// How much of a person is kept.
    pub mode: ProfileMode,
    /// When the delivery was signed: the bound for times inside it, and the time of an event that names none.
    pub signed_at: Millis,
    /// The one instance that is copied, where it is known.
    pub instance: Option<&'a str>,
}

impl Event {
    /// A delivery that is not the JSON of an event: nothing is known of it but why.
    #[must_use]
    pub fn unreadable(fault: impl Into<String>) -> Self {
        let reading = Reading::Quarantined(Fault::Unreadable(fault.into()));
        Self {
            event_type: String::new(),
            entity_id: None,
            about: About::default(),
            instance_id: None,
            event_at: None,
            reading,
        }
    }
}

struct Envelope<'a> {
    event_type: Text<'a>,
    timestamp: Number,
    instance_id: Text<'a>,
    /// The JSON of the object.
    data: Option<&'a str>,
}

impl<'a> Envelope<'a> {
    fn of(message: &'a Message) -> Self {
        Self {
            event_type: value(message, Key::Type),
            timestamp: value(message, Key::Timestamp),
            instance_id: value(message, Key::InstanceId),
            data: message.value(Key::Data).filter(|data| data.starts_with('{')),
        }
    }
}

/// One value of the envelope. The message is known to be JSON, and a lenient type takes any.
fn value<'a, T: Deserialize<'a> + Default>(message: &'a Message, key: Key) -> T {
    message.value(key).and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
}

/// Reads what is kept of a delivery (see [`crate::payload`]). Never fails: what cannot be understood is a
/// [`Reading::Quarantined`].
#[must_use]
pub fn read(message: &Message, context: &Context<'_>) -> Event {
    let envelope = Envelope::of(message);
    let mut event_at = None;
    let reading = interpret(&envelope, &mut event_at, context).unwrap_or_else(Reading::Quarantined);
    let named = || envelope.data.and_then(Head::of).unwrap_or_default();
    let (entity_id, about) = match &reading {
        Reading::Observed(observations) => {
            let own = observations.first().map(|own| &own.fact);
            (own.map(|fact| fact.subject().to_owned()), own.and_then(About::of).unwrap_or_else(|| named().about()))
        }
        Reading::Ignored | Reading::Quarantined(_) => {
            let head = named();
            (head.id.as_deref().map(printable), head.about())
        }
    };
    Event {
        event_type: envelope.event_type.as_deref().map(printable).unwrap_or_default(),
        entity_id,
        about,
        instance_id: envelope.instance_id.as_deref().map(printable),
        event_at,
        reading,
    }
}

fn interpret(envelope: &Envelope<'_>, event_at: &mut Option<Millis>, context: &Context<'_>) -> Result<Reading, Fault> {
    let event_type = envelope.event_type.as_deref().filter(|name| !name.is_empty()).ok_or(Fault::NoType)?;
    let limits = shape::Limits { latest: context.signed_at.plus(MAX_AHEAD_MS) };
    // An unmirrored event is ignored whatever its time looks like; a mirrored one with a bad time is quarantined.
    let timestamp = limits.time(envelope.timestamp, "timestamp");
    *event_at = timestamp.as_ref().ok().copied().flatten();
    let Some(kind) = Mirrored::of(event_type) else { return Ok(Reading::Ignored) };
    let foreign = context.instance.zip(envelope.instance_id.as_deref()).is_some_and(|(ours, theirs)| ours != theirs);
    if foreign {
        return Ok(Reading::Ignored);
    }
    let data = envelope.data.ok_or(Fault::NoData)?;
    let event_at = timestamp?;
    let reader =
        shape::Reader { data, mode: context.mode, limits, event_at, signed_at: context.signed_at, implied_user: None };
    let facts = match kind {
        Mirrored::User => reader.user()?,
        Mirrored::UserDeleted => reader.user_deleted()?,
        Mirrored::Organization => reader.organization()?,
        Mirrored::OrganizationDeleted => reader.organization_deleted()?,
        Mirrored::Member => reader.member()?,
        Mirrored::MemberDeleted => reader.member_deleted()?,
        Mirrored::Invitation(status) => reader.invitation(status)?,
    };
    let source = Provenance::Webhook;
    Ok(Reading::Observed(facts.into_iter().map(|fact| Observation { source, fact }).collect()))
}

/// The events that change the copy. Every other type, known today or not, is recorded and ignored.
#[derive(Clone, Copy)]
enum Mirrored {
    User,
    UserDeleted,
    Organization,
    OrganizationDeleted,
    Member,
    MemberDeleted,
    Invitation(&'static str),
}

/// Every type that changes the copy, and how it is read: the one list of them.
const MIRRORED: &[(&str, Mirrored)] = &[
    ("user.created", Mirrored::User),
    ("user.updated", Mirrored::User),
    ("user.deleted", Mirrored::UserDeleted),
    ("organization.created", Mirrored::Organization),
    ("organization.updated", Mirrored::Organization),
    ("organization.deleted", Mirrored::OrganizationDeleted),
    ("organizationMembership.created", Mirrored::Member),
    ("organizationMembership.updated", Mirrored::Member),
    ("organizationMembership.deleted", Mirrored::MemberDeleted),
    ("organizationInvitation.created", Mirrored::Invitation("pending")),
    ("organizationInvitation.accepted", Mirrored::Invitation("accepted")),
    ("organizationInvitation.revoked", Mirrored::Invitation("revoked")),
];

impl Mirrored {
    fn of(event_type: &str) -> Option<Self> {
        MIRRORED.iter().find(|(known, _)| *known == event_type).map(|(_, kind)| *kind)
    }
}

/// The types of the events that change the copy, those of one kind of object side by side: what an endpoint has to be
/// subscribed to.
pub fn mirrored_types() -> impl Iterator<Item = &'static str> {
    MIRRORED.iter().map(|(event_type, _)| *event_type)
}

impl About {
    /// As far as the event's own fact says it; `None` where its data has to be asked.
    fn of(fact: &Fact) -> Option<Self> {
        let pair = |organization: &OrganizationId, user: &UserId| Self {
            user: Some(user.as_str().to_owned()),
            organization: Some(organization.as_str().to_owned()),
        };
        match fact {
            Fact::Member(member, ..) => Some(pair(&member.organization, &member.user)),
            Fact::NoMember(organization, user, ..) => Some(pair(organization, user)),
            Fact::Invitation(..) | Fact::NoMembership(..) => None,
            _ => Some(Self::default()),
        }
    }
}

/// The ids that `data` names.
#[derive(Deserialize, Default)]
struct Head<'a> {
    #[serde(borrow, default)]
    id: Text<'a>,
    #[serde(borrow, default)]
    user_id: Text<'a>,
    #[serde(borrow, default)]
    organization_id: Text<'a>,
    #[serde(borrow, default)]
    public_user_data: Object<UserIdShape<'a>>,
    #[serde(borrow, default)]
    organization: Object<IdShape<'a>>,
}

#[derive(Deserialize)]
struct UserIdShape<'a> {
    #[serde(borrow, default)]
    user_id: Text<'a>,
}

#[derive(Deserialize)]
struct IdShape<'a> {
    #[serde(borrow, default)]
    id: Text<'a>,
}

impl<'a> Head<'a> {
    fn of(data: &'a str) -> Option<Self> {
        serde_json::from_str(data).ok()
    }

    fn about(&self) -> About {
        let embedded = self.public_user_data.0.as_ref().and_then(|user| user.user_id.as_deref());
        let within = self.organization.0.as_ref().and_then(|organization| organization.id.as_deref());
        let named = |text: Option<&str>| text.filter(|text| Some(*text) != self.id.as_deref()).map(printable);
        About {
            user: named(embedded.or(self.user_id.as_deref())),
            organization: named(within.or(self.organization_id.as_deref())),
        }
    }
}

/// A text of the sender's that goes into an index and onto a page: at most 128 visible characters.
fn printable(text: &str) -> String {
    let plain = text.len() <= MAX_ID_LENGTH && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if plain {
        text.to_owned()
    } else {
        column_text(text).chars().filter(|c| !c.is_control()).take(MAX_ID_LENGTH).collect()
    }
}

#[cfg(test)]
mod tests;

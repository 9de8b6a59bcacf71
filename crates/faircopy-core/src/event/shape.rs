//! The objects inside `data`, and what each means (clerk-facts.md, section 1.3).

use serde::Deserialize;
use serde_json::Value;

use super::lenient::{Flag, List, Number, Object, Text, metadata, no_metadata};
use super::{Fact, Fault};
use crate::ProfileMode;
use crate::id::{IdError, InvitationId, MembershipId, OrganizationId, UserId};
use crate::record::{
    Generation, Invitation, Member, Organization, Profile, Stamp, User, column_json, column_text, workspace_link,
};
use crate::time::Millis;

#[derive(Deserialize)]
struct UserShape<'a> {
    #[serde(borrow, default)]
    id: Text<'a>,
    #[serde(borrow, default)]
    external_id: Text<'a>,
    #[serde(borrow, default)]
    username: Text<'a>,
    #[serde(borrow, default)]
    first_name: Text<'a>,
    #[serde(borrow, default)]
    last_name: Text<'a>,
    #[serde(borrow, default)]
    image_url: Text<'a>,
    #[serde(borrow, default)]
    primary_email_address_id: Text<'a>,
    #[serde(borrow, default)]
    email_addresses: List<Object<EmailShape<'a>>>,
    #[serde(default = "no_metadata", deserialize_with = "metadata")]
    public_metadata: Value,
    #[serde(default)]
    banned: Flag,
    #[serde(default)]
    locked: Flag,
    #[serde(default)]
    created_at: Number,
    #[serde(default)]
    updated_at: Number,
}

#[derive(Deserialize)]
struct EmailShape<'a> {
    #[serde(borrow, default)]
    id: Text<'a>,
    #[serde(borrow, default)]
    email_address: Text<'a>,
    #[serde(borrow, default)]
    verification: Object<VerificationShape<'a>>,
}

#[derive(Deserialize)]
struct VerificationShape<'a> {
    #[serde(borrow, default)]
    status: Text<'a>,
}

#[derive(Deserialize)]
struct OrganizationShape<'a> {
    #[serde(borrow, default)]
    id: Text<'a>,
    #[serde(borrow, default)]
    name: Text<'a>,
    #[serde(borrow, default)]
    slug: Text<'a>,
    #[serde(borrow, default)]
    image_url: Text<'a>,
    #[serde(borrow, default)]
    created_by: Text<'a>,
    #[serde(default = "no_metadata", deserialize_with = "metadata")]
    public_metadata: Value,
    #[serde(default)]
    created_at: Number,
    #[serde(default)]
    updated_at: Number,
}

#[derive(Deserialize)]
struct MembershipShape<'a> {
    #[serde(borrow, default)]
    id: Text<'a>,
    #[serde(borrow, default)]
    role: Text<'a>,
    #[serde(borrow, default)]
    permissions: List<Text<'a>>,
    #[serde(borrow, default)]
    organization: Object<OrganizationShape<'a>>,
    #[serde(borrow, default)]
    organization_id: Text<'a>,
    #[serde(borrow, default)]
    public_user_data: Object<PublicUserShape<'a>>,
    #[serde(borrow, default)]
    user_id: Text<'a>,
    #[serde(default)]
    created_at: Number,
    #[serde(default)]
    updated_at: Number,
}

#[derive(Deserialize)]
struct PublicUserShape<'a> {
    #[serde(borrow, default)]
    user_id: Text<'a>,
    #[serde(borrow, default)]
    first_name: Text<'a>,
    #[serde(borrow, default)]
    last_name: Text<'a>,
    #[serde(borrow, default)]
    username: Text<'a>,
    #[serde(borrow, default)]
    image_url: Text<'a>,
    #[serde(borrow, default)]
    identifier: Text<'a>,
}

#[derive(Deserialize)]
struct InvitationShape<'a> {
    #[serde(borrow, default)]
    id: Text<'a>,
    #[serde(borrow, default)]
    organization_id: Text<'a>,
    #[serde(borrow, default)]
    public_organization_data: Object<IdShape<'a>>,
    #[serde(borrow, default)]
    email_address: Text<'a>,
    #[serde(borrow, default)]
    role: Text<'a>,
    #[serde(borrow, default)]
    status: Text<'a>,
    #[serde(default)]
    expires_at: Number,
    #[serde(default)]
    created_at: Number,
    #[serde(default)]
    updated_at: Number,
}

#[derive(Deserialize)]
struct IdShape<'a> {
    #[serde(borrow, default)]
    id: Text<'a>,
}

/// The bound on times.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) latest: Millis,
}

impl Limits {
    /// A time of the past: absent is fine, negative or endless is not, and the future would freeze the row.
    pub(super) fn time(self, number: Number, name: &'static str) -> Result<Option<Millis>, Fault> {
        let at = any_time(number, name)?;
        if at.is_some_and(|at| at > self.latest) { Err(Fault::Ahead(name)) } else { Ok(at) }
    }
}

/// A time that may well lie in the future.
fn any_time(number: Number, name: &'static str) -> Result<Option<Millis>, Fault> {
    match number {
        Number::Absent => Ok(None),
        Number::Whole(value) => Millis::from_seconds_or_millis(value).map(Some).ok_or(Fault::BadTime(name)),
        Number::Unusable => Err(Fault::BadTime(name)),
    }
}

/// Reads one `data` object.
pub(super) struct Reader<'a> {
    pub(super) data: &'a str,
    pub(super) mode: ProfileMode,
    pub(super) limits: Limits,
    pub(super) event_at: Option<Millis>,
    pub(super) signed_at: Millis,
    /// Whose membership this is, where it does not say so itself: it was asked for by its user.
    pub(super) implied_user: Option<&'a UserId>,
}

impl<'a> Reader<'a> {
    fn shape<T: Deserialize<'a>>(&self) -> Result<T, Fault> {
        serde_json::from_str(self.data).map_err(|_| Fault::Unreadable("a key of `data` came twice".into()))
    }

    pub(super) fn user(&self) -> Result<Vec<Fact>, Fault> {
        let shape: UserShape<'_> = self.shape()?;
        let id = id(&shape.id, "data.id", UserId::parse)?;
        let times = self.times(shape.created_at, shape.updated_at)?;
        let linked_workspace = workspace_link(&shape.public_metadata);
        let email = shape.email();
        let profile = self.personal(Profile {
            external_id: column(shape.external_id),
            username: column(shape.username),
            first_name: column(shape.first_name),
            last_name: column(shape.last_name),
            email,
            image_url: column(shape.image_url),
            public_metadata: column_json(shape.public_metadata),
            banned: shape.banned.0,
            locked: shape.locked.0,
        });
        let user =
            User { id, profile, linked_workspace, created_at: times.created_at, updated_at: Some(times.updated_at) };
        let stamp = times.stamp(user.content_hash());
        Ok(vec![Fact::User(user, stamp)])
    }

    pub(super) fn user_deleted(&self) -> Result<Vec<Fact>, Fault> {
        let shape: IdShape<'_> = self.shape()?;
        Ok(vec![Fact::NoUser(id(&shape.id, "data.id", UserId::parse)?, self.ended_at())])
    }

    pub(super) fn organization(&self) -> Result<Vec<Fact>, Fault> {
        Ok(vec![self.organization_fact(self.shape()?, "data.id")?])
    }

    pub(super) fn organization_deleted(&self) -> Result<Vec<Fact>, Fault> {
        let shape: IdShape<'_> = self.shape()?;
        Ok(vec![Fact::NoOrganization(id(&shape.id, "data.id", OrganizationId::parse)?, self.ended_at())])
    }

    pub(super) fn member(&self) -> Result<Vec<Fact>, Fault> {
        let mut shape: MembershipShape<'_> = self.shape()?;
        let user = match (shape.user_id(), self.implied_user) {
            (Err(Fault::MissingId(_)), Some(implied)) => implied.clone(),
            (user, _) => user?,
        };
        let organization = shape.organization_id()?;
        let membership = id(&shape.id, "data.id", MembershipId::parse)?;
        let times = self.times(shape.created_at, shape.updated_at)?;
        let generation = Generation { created_at: times.created_at.unwrap_or_default(), id: membership.clone() };
        let member = Member {
            organization,
            user: user.clone(),
            membership: Some(membership),
            role: column(shape.role),
            permissions: shape.permissions.0.into_iter().filter_map(column).collect(),
            created_at: times.created_at,
            updated_at: Some(times.updated_at),
        };
        let stamp = times.stamp(member.content_hash());
        let mut facts = vec![Fact::Member(member, generation, stamp)];
        // What is embedded fills the gap until the organization's and the user's own events arrive.
        if let Some(embedded) = shape.organization.0.take() {
            facts.push(self.organization_fact(embedded, "data.organization.id")?);
        }
        if let Some(embedded) = shape.public_user_data.0.take() {
            facts.push(self.part_of_user(user, embedded, times.updated_at));
        }
        Ok(facts)
    }

    pub(super) fn member_deleted(&self) -> Result<Vec<Fact>, Fault> {
        let shape: MembershipShape<'_> = self.shape()?;
        let membership = id(&shape.id, "data.id", MembershipId::parse)?;
        let ended_at = self.ended_at();
        // A thin delete names no pair. Nothing is taken from what a delete embeds: it may be older than a deletion of
        // the organization or the user that never arrived.
        let (organization, user) = match (shape.organization_id(), shape.user_id()) {
            (Ok(organization), Ok(user)) => (organization, user),
            (Err(Fault::MissingId(_)), _) | (_, Err(Fault::MissingId(_))) => {
                return Ok(vec![Fact::NoMembership(membership, ended_at)]);
            }
            (Err(fault), _) | (_, Err(fault)) => return Err(fault),
        };
        let created_at = self.limits.time(shape.created_at, "data.created_at")?.unwrap_or_default();
        Ok(vec![Fact::NoMember(organization, user, Generation { created_at, id: membership }, ended_at)])
    }

    pub(super) fn invitation(&self, implied_status: &'static str) -> Result<Vec<Fact>, Fault> {
        let shape: InvitationShape<'_> = self.shape()?;
        let organization = shape
            .organization_id
            .0
            .as_deref()
            .or_else(|| shape.public_organization_data.0.as_ref()?.id.as_deref())
            .ok_or(Fault::MissingId("data.organization_id"))?;
        let times = self.times(shape.created_at, shape.updated_at)?;
        let invitation = Invitation {
            id: id(&shape.id, "data.id", InvitationId::parse)?,
            organization: parse(organization, "data.organization_id", OrganizationId::parse)?,
            email: self.personal(column(shape.email_address)).flatten(),
            role: column(shape.role),
            status: column(shape.status).unwrap_or_else(|| implied_status.into()),
            expires_at: any_time(shape.expires_at, "data.expires_at")?,
            created_at: times.created_at,
            updated_at: Some(times.updated_at),
        };
        let stamp = times.stamp(invitation.content_hash());
        Ok(vec![Fact::Invitation(invitation, stamp)])
    }

    fn organization_fact(&self, shape: OrganizationShape<'_>, name: &'static str) -> Result<Fact, Fault> {
        let times = self.times(shape.created_at, shape.updated_at)?;
        let organization = Organization {
            id: id(&shape.id, name, OrganizationId::parse)?,
            name: column(shape.name),
            slug: column(shape.slug),
            image_url: column(shape.image_url),
            created_by: column(shape.created_by),
            settings: column_json(shape.public_metadata),
            created_at: times.created_at,
            updated_at: Some(times.updated_at),
        };
        let stamp = times.stamp(organization.content_hash());
        Ok(Fact::Organization(organization, stamp))
    }

    fn part_of_user(&self, id: UserId, shape: PublicUserShape<'_>, updated_at: Millis) -> Fact {
        let email = column(shape.identifier).filter(|identifier| identifier.contains('@'));
        let profile = self.personal(Profile {
            username: column(shape.username),
            first_name: column(shape.first_name),
            last_name: column(shape.last_name),
            email,
            image_url: column(shape.image_url),
            public_metadata: no_metadata(),
            ..Profile::default()
        });
        let user = User { id, profile, linked_workspace: None, created_at: None, updated_at: None };
        let stamp = Stamp { updated_at, event_at: self.event_at.unwrap_or(updated_at), hash: user.content_hash() };
        Fact::PartOfUser(user, stamp)
    }

    fn personal<T>(&self, value: T) -> Option<T> {
        (self.mode == ProfileMode::Full).then_some(value)
    }

    /// When a deletion happened: deletes carry no time of their own.
    fn ended_at(&self) -> Millis {
        self.event_at.unwrap_or(self.signed_at)
    }

    fn times(&self, created_at: Number, updated_at: Number) -> Result<Times, Fault> {
        let created_at = self.limits.time(created_at, "created_at")?;
        let updated_at =
            self.limits.time(updated_at, "updated_at")?.or(created_at).or(self.event_at).unwrap_or_default();
        Ok(Times { created_at, updated_at, event_at: self.event_at.unwrap_or(updated_at) })
    }
}

struct Times {
    created_at: Option<Millis>,
    updated_at: Millis,
    event_at: Millis,
}

impl Times {
    fn stamp(&self, hash: i64) -> Stamp {
        Stamp { updated_at: self.updated_at, event_at: self.event_at, hash }
    }
}

impl UserShape<'_> {
    /// The primary address, or the first verified one, or none.
    fn email(&self) -> Option<String> {
        let addresses = || self.email_addresses.0.iter().filter_map(|address| address.0.as_ref());
        let primary = self.primary_email_address_id.as_deref();
        let verified = |address: &&EmailShape<'_>| {
            address.verification.0.as_ref().and_then(|check| check.status.as_deref()) == Some("verified")
        };
        addresses()
            .find(|address| primary.is_some() && address.id.as_deref() == primary)
            .or_else(|| addresses().find(verified))
            .and_then(|address| address.email_address.as_deref().map(column_text))
    }
}

impl MembershipShape<'_> {
    fn organization_id(&self) -> Result<OrganizationId, Fault> {
        let embedded = self.organization.0.as_ref().and_then(|organization| organization.id.as_deref());
        let text = embedded.or(self.organization_id.as_deref()).ok_or(Fault::MissingId("data.organization.id"))?;
        parse(text, "data.organization.id", OrganizationId::parse)
    }

    fn user_id(&self) -> Result<UserId, Fault> {
        let embedded = self.public_user_data.0.as_ref().and_then(|user| user.user_id.as_deref());
        let text = embedded.or(self.user_id.as_deref()).ok_or(Fault::MissingId("data.public_user_data.user_id"))?;
        parse(text, "data.public_user_data.user_id", UserId::parse)
    }
}

fn id<T>(text: &Text<'_>, name: &'static str, parse_id: impl Fn(&str) -> Result<T, IdError>) -> Result<T, Fault> {
    parse(text.as_deref().ok_or(Fault::MissingId(name))?, name, parse_id)
}

fn parse<T>(text: &str, name: &'static str, parse_id: impl Fn(&str) -> Result<T, IdError>) -> Result<T, Fault> {
    parse_id(text).map_err(|error| Fault::BadId(name, error))
}

fn column(text: Text<'_>) -> Option<String> {
    text.0.map(|text| column_text(&text))
}

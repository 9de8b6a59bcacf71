//! Which keys of a body are stored.

use crate::ProfileMode;

/// Metadata keys that link a user or an organization to a workspace, in order of preference (product.md, system A).
pub const WORKSPACE_LINKS: [&str; 2] = ["workspaceId", "convexWorkspaceId"];

/// Keys whose values are secret or personal wherever they stand, but for inside a metadata object.
pub(super) fn never_stored(key: &str) -> bool {
    matches!(key, "private_metadata" | "event_attributes" | "client_ip" | "user_agent" | "ip_address")
}

/// Which keys of the object at hand are kept.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// Everything.
    Verbatim,
    /// Everything but secrets. The `url` of what invites somebody holds a ticket.
    Full { ticket: bool },
    /// Of `email.*` and `sms.*`: their text carries one-time codes.
    Message,
    /// Nothing personal.
    Minimal(Part),
    /// Nothing of a user who was deleted.
    Erased(Remains),
}

/// The objects of which something stays when their user is deleted.
#[derive(Clone, Copy)]
pub(super) enum Remains {
    Envelope {
        data: &'static Remains,
    },
    /// A membership, or an invitation.
    Bond,
    /// Ids alone.
    Ids,
}

/// The objects of which minimal mode keeps something of its own.
#[derive(Clone, Copy)]
pub(super) enum Part {
    Envelope { data: &'static Part },
    User,
    UserMetadata,
    Organization,
    Other,
}

impl Rule {
    pub(super) fn of_event(event_type: &str, mode: ProfileMode) -> Self {
        let family = event_type.split('.').next().unwrap_or_default();
        if matches!(family, "email" | "sms") {
            return Self::Message;
        }
        match (mode, family) {
            (ProfileMode::Full, _) => Self::Full { ticket: family.ends_with("nvitation") || family == "waitlistEntry" },
            (ProfileMode::Minimal, "user") => Self::Minimal(Part::Envelope { data: &Part::User }),
            (ProfileMode::Minimal, "organization") => Self::Minimal(Part::Envelope { data: &Part::Organization }),
            (ProfileMode::Minimal, _) => Self::Minimal(Part::Envelope { data: &Part::Other }),
        }
    }

    /// What stays of an event of this type when its user is deleted; `None` where nothing does.
    pub(super) fn of_erased(event_type: &str) -> Option<Self> {
        let data = match event_type.split_once('.').unwrap_or((event_type, "")) {
            ("organizationMembership" | "organizationInvitation", _) => &Remains::Bond,
            ("user", "deleted") => &Remains::Ids,
            _ => return None,
        };
        Some(Self::Erased(Remains::Envelope { data }))
    }

    /// The rule for the value of `key`, or `None` where it is left out.
    pub(super) fn for_key(self, key: &str) -> Option<Self> {
        match self {
            Self::Verbatim => Some(self),
            Self::Full { ticket } => match key {
                // Objects of the application's own making: copied as they are.
                "public_metadata" | "unsafe_metadata" => Some(Self::Verbatim),
                "url" if ticket => None,
                _ => (!never_stored(key)).then_some(self),
            },
            Self::Message => of_a_message(key).then_some(self),
            Self::Minimal(part) => part.for_key(key),
            Self::Erased(remains) => remains.for_key(key),
        }
    }
}

impl Remains {
    fn for_key(self, key: &str) -> Option<Rule> {
        match (self, key) {
            (Self::Envelope { data }, "data") => Some(Rule::Erased(*data)),
            (Self::Bond, "public_user_data") => Some(Rule::Erased(Self::Ids)),
            _ => self.keeps(key).then_some(Rule::Verbatim),
        }
    }

    /// Whether all of a value is kept. An organization is no person.
    fn keeps(self, key: &str) -> bool {
        match self {
            Self::Envelope { .. } => matches!(key, "instance_id" | "object" | "timestamp" | "type"),
            Self::Bond => matches!(
                key,
                "created_at"
                    | "expires_at"
                    | "id"
                    | "object"
                    | "organization"
                    | "organization_id"
                    | "permissions"
                    | "public_organization_data"
                    | "role"
                    | "status"
                    | "updated_at"
                    | "user_id"
            ),
            Self::Ids => matches!(key, "deleted" | "id" | "object" | "user_id"),
        }
    }
}

impl Part {
    fn for_key(self, key: &str) -> Option<Rule> {
        match (self, key) {
            (Self::Envelope { data }, "data") => Some(Rule::Minimal(*data)),
            (Self::User, "public_metadata") => Some(Rule::Minimal(Self::UserMetadata)),
            (Self::UserMetadata, _) => WORKSPACE_LINKS.contains(&key).then_some(Rule::Minimal(self)),
            (Self::Organization, "public_metadata") => Some(Rule::Verbatim),
            // A company's name is not personal.
            (Self::Organization, "image_url" | "name" | "slug") => Some(Rule::Minimal(self)),
            (_, "organization") => Some(Rule::Minimal(Self::Organization)),
            (_, _) => impersonal(key).then_some(Rule::Minimal(Self::Other)),
        }
    }
}

/// All that is kept of `email.*` and `sms.*`.
fn of_a_message(key: &str) -> bool {
    matches!(
        key,
        "data"
            | "delivered_by_clerk"
            | "email_address_id"
            | "id"
            | "instance_id"
            | "object"
            | "organization_id"
            | "phone_number_id"
            | "slug"
            | "status"
            | "timestamp"
            | "type"
            | "user_id"
    )
}

/// All that is kept in minimal mode, apart from what an organization says of itself.
fn impersonal(key: &str) -> bool {
    matches!(
        key,
        "created_at"
            | "created_by"
            | "data"
            | "deleted"
            | "expires_at"
            | "id"
            | "instance_id"
            | "object"
            | "organization_id"
            | "permissions"
            | "public_user_data"
            | "role"
            | "status"
            | "timestamp"
            | "type"
            | "updated_at"
            | "user_id"
    )
}

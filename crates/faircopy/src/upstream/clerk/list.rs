//! The lists of Clerk's Backend API, and which part of one is asked for (clerk-facts.md, sections 2.2 and 2.3).

use faircopy_core::event::api::Kind;
use faircopy_core::id::{OrganizationId, UserId};
use reqwest::Url;

/// The largest page that Clerk gives.
pub const MAX_PAGE: usize = 500;
/// Ids in one filter: Clerk takes no more.
pub const MAX_NAMED: usize = 100;

/// A list.
#[derive(Debug, Clone, Copy)]
pub enum List<'a> {
    /// All users, oldest first.
    Users,
    /// All users, those that changed last first.
    NewestUsers,
    /// These users, as far as they exist; at most [`MAX_NAMED`].
    UsersNamed(&'a [UserId]),
    /// The members of an organization, as users.
    UsersOf(&'a OrganizationId),
    /// All organizations, oldest first.
    Organizations,
    /// These organizations, as far as they exist; at most [`MAX_NAMED`].
    OrganizationsNamed(&'a [OrganizationId]),
    /// All memberships, oldest first.
    Memberships,
    /// The memberships of a user.
    MembershipsOf(&'a UserId),
    /// The memberships of an organization, oldest first.
    Members(&'a OrganizationId),
    /// The memberships of these users in an organization, as far as they exist; at most [`MAX_NAMED`].
    MembersNamed(&'a OrganizationId, &'a [UserId]),
    /// All invitations to organizations, oldest first.
    Invitations,
}

/// A part of a list.
#[derive(Debug, Clone, Copy)]
pub struct Cut<'a> {
    /// At most so many; 1 to [`MAX_PAGE`].
    pub limit: usize,
    /// Where it begins.
    pub from: Start<'a>,
}

/// Where a part of a list begins.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a> {
    /// After so many.
    Offset(usize),
    /// After this one. Only [`List::Users`] has cursors.
    After(&'a UserId),
}

impl Cut<'_> {
    /// The beginning of a list.
    #[must_use]
    pub fn first(limit: usize) -> Self {
        Self { limit, from: Start::Offset(0) }
    }
}

impl<'a> List<'a> {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Users | Self::NewestUsers | Self::UsersNamed(_) | Self::UsersOf(_) => Kind::User,
            Self::Organizations | Self::OrganizationsNamed(_) => Kind::Organization,
            Self::Memberships | Self::MembershipsOf(_) | Self::Members(_) | Self::MembersNamed(..) => Kind::Member,
            Self::Invitations => Kind::Invitation,
        }
    }

    /// Whether an object was asked for by this id, its own.
    pub(super) fn names(&self, id: &str) -> bool {
        match self {
            Self::UsersNamed(ids) => ids.iter().any(|named| named.as_str() == id),
            Self::OrganizationsNamed(ids) => ids.iter().any(|named| named.as_str() == id),
            _ => false,
        }
    }

    /// The user whom every object of the list belongs to, where there is one.
    pub(super) fn user(&self) -> Option<&'a UserId> {
        match self {
            Self::MembershipsOf(user) => Some(user),
            _ => None,
        }
    }

    /// The route, as a metric names it.
    pub(super) fn endpoint(&self) -> &'static str {
        match self {
            Self::Users | Self::NewestUsers | Self::UsersNamed(_) | Self::UsersOf(_) => "users",
            Self::Organizations | Self::OrganizationsNamed(_) => "organizations",
            Self::Memberships => "organization_memberships",
            Self::MembershipsOf(_) => "users/{id}/organization_memberships",
            Self::Members(_) | Self::MembersNamed(..) => "organizations/{id}/memberships",
            Self::Invitations => "organization_invitations",
        }
    }

    pub(super) fn url(&self, base: &Url, cut: Cut<'_>) -> Option<Url> {
        let segments: &[&str] = match self {
            Self::Users | Self::NewestUsers | Self::UsersNamed(_) | Self::UsersOf(_) => &["users"],
            Self::Organizations | Self::OrganizationsNamed(_) => &["organizations"],
            Self::Memberships => &["organization_memberships"],
            Self::MembershipsOf(user) => &["users", user.as_str(), "organization_memberships"],
            Self::Members(id) | Self::MembersNamed(id, _) => &["organizations", id.as_str(), "memberships"],
            Self::Invitations => &["organization_invitations"],
        };
        let mut url = address(base, segments)?;
        let mut query = url.query_pairs_mut();
        query.append_pair("limit", &cut.limit.clamp(1, MAX_PAGE).to_string());
        match cut.from {
            Start::Offset(0) => {}
            Start::Offset(offset) => {
                query.append_pair("offset", &offset.to_string());
            }
            Start::After(id) => {
                query.append_pair("starting_after", id.as_str());
            }
        }
        match self {
            Self::UsersNamed(ids) | Self::MembersNamed(_, ids) => {
                query.extend_pairs(ids.iter().map(|id| ("user_id", id.as_str())));
            }
            Self::OrganizationsNamed(ids) => {
                query.extend_pairs(ids.iter().map(|id| ("organization_id", id.as_str())));
            }
            Self::UsersOf(id) => {
                query.append_pair("organization_id", id.as_str());
            }
            _ => {}
        }
        match self {
            // The one list without an order to ask for.
            Self::MembershipsOf(_) => {}
            Self::NewestUsers => drop(query.append_pair("order_by", "-updated_at")),
            _ => drop(query.append_pair("order_by", "created_at")),
        }
        drop(query);
        Some(url)
    }
}

/// The address of a route. Each segment is encoded: whatever an id holds, it stays one segment.
pub(super) fn address(base: &Url, segments: &[&str]) -> Option<Url> {
    let mut url = base.clone();
    url.path_segments_mut().ok()?.pop_if_empty().push("v1").extend(segments);
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_its_address() {
        let base = Url::parse("https://api.clerk.com").unwrap();
        let (user, organization) = (UserId::parse("user_1").unwrap(), OrganizationId::parse("org_1").unwrap());
        let users = [user.clone(), UserId::parse("user_2").unwrap()];
        let check = |list: List<'_>, from: Start<'_>, expected: &str| {
            let url = list.url(&base, Cut { limit: 500, from }).unwrap();
            assert_eq!(url.as_str(), format!("https://api.clerk.com/v1/{expected}"));
        };
        let start = Start::Offset(0);
        check(List::Users, start, "users?limit=500&order_by=created_at");
        check(List::NewestUsers, start, "users?limit=500&order_by=-updated_at");
        check(List::Users, Start::After(&user), "users?limit=500&starting_after=user_1&order_by=created_at");
        check(List::UsersNamed(&users), start, "users?limit=500&user_id=user_1&user_id=user_2&order_by=created_at");
        check(List::UsersOf(&organization), start, "users?limit=500&organization_id=org_1&order_by=created_at");
        check(List::Organizations, Start::Offset(500), "organizations?limit=500&offset=500&order_by=created_at");
        check(
            List::OrganizationsNamed(std::slice::from_ref(&organization)),
            start,
            "organizations?limit=500&organization_id=org_1&order_by=created_at",
        );
        check(List::Memberships, start, "organization_memberships?limit=500&order_by=created_at");
        check(List::MembershipsOf(&user), start, "users/user_1/organization_memberships?limit=500");
        check(List::Members(&organization), start, "organizations/org_1/memberships?limit=500&order_by=created_at");
        check(
            List::MembersNamed(&organization, &users[..1]),
            start,
            "organizations/org_1/memberships?limit=500&user_id=user_1&order_by=created_at",
        );
        check(List::Invitations, start, "organization_invitations?limit=500&order_by=created_at");
    }

    #[test]
    fn a_segment_stays_one_segment() {
        let check = |base: &str, segment: &str, expected: &str| {
            assert_eq!(address(&Url::parse(base).unwrap(), &["users", segment]).unwrap().as_str(), expected);
        };
        check("https://api.test", "../rooms", "https://api.test/v1/users/..%2Frooms");
        check("https://api.test", "a?b#c", "https://api.test/v1/users/a%3Fb%23c");
        check("https://api.test/clerk", "é", "https://api.test/clerk/v1/users/%C3%A9");
        check("https://api.test/clerk/", "%2f", "https://api.test/clerk/v1/users/%252f");
    }
}

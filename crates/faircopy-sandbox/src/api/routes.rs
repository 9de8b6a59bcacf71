//! The route table.

use http::Method;

use super::{Call, Outcome, organizations, public, sessions, users};
use crate::instance::Refusal;

/// What kind of request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Anybody may ask.
    Public,
    /// The key set: no limit.
    Keys,
    /// A list or a count.
    List,
    /// One record.
    Read,
    /// A change.
    Write,
}

/// A route.
pub struct Route {
    /// Its method.
    pub method: Method,
    /// Its path; a part in braces is open.
    pub path: &'static str,
    /// What kind it is.
    pub class: Class,
    pub(super) handler: fn(&mut Call<'_>) -> Outcome,
}

impl Route {
    pub(super) fn is_of_organizations(&self) -> bool {
        self.path.contains("organization")
    }

    /// Whether its body is a list, and not an object.
    pub(super) fn takes_list(&self) -> bool {
        self.path.ends_with("/bulk")
    }

    /// The open parts of a path that fits.
    fn parts<'p>(&self, path: &'p str) -> Option<Vec<&'p str>> {
        let (mut open, mut given) = (Vec::new(), path.split('/'));
        for part in self.path.split('/') {
            let found = given.next()?;
            if part.starts_with('{') {
                if found.is_empty() {
                    return None;
                }
                open.push(found);
            } else if part != found {
                return None;
            }
        }
        given.next().is_none().then_some(open)
    }
}

/// The route of a request, and the open parts of its path.
pub(super) fn find<'p>(method: &Method, path: &'p str) -> Result<(&'static Route, Vec<&'p str>), Refusal> {
    let mut exists = false;
    for route in TABLE {
        if let Some(parts) = route.parts(path) {
            if route.method == *method {
                return Ok((route, parts));
            }
            exists = true;
        }
    }
    if exists {
        let long = format!("{method} is not supported here.");
        return Err(Refusal::new(405, "method_not_allowed", "method not allowed", long));
    }
    Err(Refusal::new(404, "url_not_found", "not found", format!("There is nothing at {path} in this sandbox.")))
}

macro_rules! table {
    ($($method:ident $class:ident $path:literal => $handler:path,)*) => {
        &[$(Route { method: Method::$method, path: $path, class: Class::$class, handler: $handler },)*]
    };
}

/// Every route. Where two fit, the first counts.
#[rustfmt::skip]
pub static TABLE: &[Route] = table![
    GET    Public "/.well-known/jwks.json"                                           => public::jwks,
    GET    Public "/.well-known/openid-configuration"                                => public::openid_configuration,
    GET    Keys   "/v1/jwks"                                                         => public::jwks,
    GET    Read   "/v1/instance"                                                     => public::instance,
    POST   Write  "/v1/webhooks/svix"                                                => public::create_svix,
    DELETE Write  "/v1/webhooks/svix"                                                => public::delete_svix,
    POST   Write  "/v1/webhooks/svix_url"                                            => public::svix_url,

    GET    List   "/v1/users"                                                        => users::list,
    POST   Write  "/v1/users"                                                        => users::create,
    GET    List   "/v1/users/count"                                                  => users::count,
    POST   Write  "/v1/users/ban"                                                    => users::ban_many,
    POST   Write  "/v1/users/unban"                                                  => users::unban_many,
    GET    Read   "/v1/users/{user_id}"                                              => users::get,
    PATCH  Write  "/v1/users/{user_id}"                                              => users::update,
    DELETE Write  "/v1/users/{user_id}"                                              => users::delete,
    POST   Write  "/v1/users/{user_id}/ban"                                          => users::ban,
    POST   Write  "/v1/users/{user_id}/unban"                                        => users::unban,
    POST   Write  "/v1/users/{user_id}/lock"                                         => users::lock,
    POST   Write  "/v1/users/{user_id}/unlock"                                       => users::unlock,
    PATCH  Write  "/v1/users/{user_id}/metadata"                                     => users::merge_metadata,
    PUT    Write  "/v1/users/{user_id}/metadata"                                     => users::replace_metadata,
    GET    List   "/v1/users/{user_id}/organization_memberships"                     => users::memberships,
    GET    List   "/v1/users/{user_id}/organization_invitations"                     => users::invitations,

    GET    List   "/v1/organizations"                                                => organizations::list,
    POST   Write  "/v1/organizations"                                                => organizations::create,
    GET    Read   "/v1/organizations/{organization_id}"                              => organizations::get,
    PATCH  Write  "/v1/organizations/{organization_id}"                              => organizations::update,
    DELETE Write  "/v1/organizations/{organization_id}"                              => organizations::delete,
    PATCH  Write  "/v1/organizations/{organization_id}/metadata"                     => organizations::merge_metadata,
    PUT    Write  "/v1/organizations/{organization_id}/metadata"                     => organizations::replace_metadata,
    GET    List   "/v1/organizations/{organization_id}/memberships"                  => organizations::members,
    POST   Write  "/v1/organizations/{organization_id}/memberships"                  => organizations::add_member,
    PATCH  Write  "/v1/organizations/{organization_id}/memberships/{user_id}"        => organizations::update_member,
    DELETE Write  "/v1/organizations/{organization_id}/memberships/{user_id}"        => organizations::remove_member,
    PATCH  Write  "/v1/organizations/{organization_id}/memberships/{user_id}/metadata" => organizations::merge_member_metadata,
    GET    List   "/v1/organizations/{organization_id}/invitations"                  => organizations::invitations,
    POST   Write  "/v1/organizations/{organization_id}/invitations"                  => organizations::invite,
    POST   Write  "/v1/organizations/{organization_id}/invitations/bulk"             => organizations::invite_many,
    GET    List   "/v1/organizations/{organization_id}/invitations/pending"          => organizations::pending_invitations,
    GET    Read   "/v1/organizations/{organization_id}/invitations/{invitation_id}"  => organizations::invitation,
    POST   Write  "/v1/organizations/{organization_id}/invitations/{invitation_id}/revoke" => organizations::revoke_invitation,
    GET    List   "/v1/organization_memberships"                                     => organizations::all_memberships,
    GET    List   "/v1/organization_invitations"                                     => organizations::all_invitations,
    GET    List   "/v1/organization_roles"                                           => organizations::roles,
    GET    List   "/v1/organization_permissions"                                     => organizations::permissions,

    GET    List   "/v1/sessions"                                                     => sessions::list,
    POST   Write  "/v1/sessions"                                                     => sessions::create,
    GET    Read   "/v1/sessions/{session_id}"                                        => sessions::get,
    POST   Write  "/v1/sessions/{session_id}/revoke"                                 => sessions::revoke,
    POST   Write  "/v1/sessions/{session_id}/tokens"                                 => sessions::token,
    POST   Write  "/v1/sessions/{session_id}/tokens/{template}"                      => sessions::token,
];

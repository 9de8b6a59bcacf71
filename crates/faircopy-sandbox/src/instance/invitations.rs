//! Invitations to organizations: made, revoked, accepted, expired.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::document::{Document, Template};
use super::fields::Fields;
use super::lists::Listed;
use super::memberships::identifier_of;
use super::metadata::{self, How};
use super::refusal::Refusal;
use super::store::{Instance, identifier, number_of, text_of, touch};
use super::table::Id;
use super::users::check_email;

/// A day in milliseconds.
const DAY_MS: i64 = 86_400_000;
/// For how many days an invitation is good unless it says otherwise: Clerk's default.
const DEFAULT_DAYS: i64 = 30;
/// For how many days one can be good: Clerk's limit.
const MAX_DAYS: i64 = 365;
/// Invitations in one request: Clerk's limit.
const MAX_AT_ONCE: usize = 10;
/// Letters of the ticket in an invitation's address.
const TICKET_LETTERS: usize = 40;

/// An invitation's status at a time: nobody writes down that it expired.
pub(crate) fn status_at(invitation: &Document, now: i64) -> &str {
    let status = text_of(invitation, "status").unwrap_or("pending");
    if status == "pending" && number_of(invitation, "expires_at") <= now { "expired" } else { status }
}

impl Instance {
    /// An invitation as it is answered. With `organization`, as the lists of the whole instance have it.
    pub(crate) fn invitation_document(&self, id: &str, organization: bool, now: i64) -> Option<Document> {
        let invitation = self.invitations.get(id)?;
        Some(self.joined_invitation(invitation, organization, now))
    }

    fn joined_invitation(&self, mut invitation: Document, organization: bool, now: i64) -> Document {
        let status = status_at(&invitation, now).to_owned();
        let role_name = self.roles.name(text_of(&invitation, "role").unwrap_or_default());
        if status != "pending" {
            invitation.insert("url".to_owned(), Value::Null);
        }
        let inviter = text_of(&invitation, "inviter_id").and_then(|id| self.users.get(id)).map(|user| {
            let member = |name: &str| user.get(name).cloned().unwrap_or_default();
            json!({
                "user_id": member("id"), "first_name": member("first_name"), "last_name": member("last_name"),
                "image_url": member("image_url"), "has_image": member("has_image"),
                "identifier": identifier_of(&user).as_str().unwrap_or_default(),
            })
        });
        if organization {
            let of = text_of(&invitation, "organization_id").and_then(|id| self.organizations.get(id)).map(public);
            invitation.insert("public_organization_data".to_owned(), of.unwrap_or_default());
        }
        invitation.insert("status".to_owned(), status.into());
        invitation.insert("role_name".to_owned(), role_name.into());
        invitation.insert("public_inviter_data".to_owned(), inviter.unwrap_or_default());
        invitation
    }

    /// As an event has it: the description of Clerk's webhooks has the organization in `data`, its types beside the rest.
    fn told_invitation(&self, id: &str, now: i64) -> Option<Document> {
        let mut told = self.invitation_document(id, true, now)?;
        let organization = told.get("public_organization_data").cloned().unwrap_or_default();
        told.insert("data".to_owned(), json!({ "public_organization_data": organization }));
        Some(told)
    }

    /// A new invitation.
    pub fn create_invitation(&mut self, organization: &str, body: &Document, now: i64) -> Result<Document, Refusal> {
        self.check_invitation(organization, body, 0, now)?;
        self.make_invitation(organization, body, now)
    }

    /// New invitations: all of them or none.
    pub fn create_invitations(&mut self, organization: &str, bodies: &[Document], now: i64) -> Result<Listed, Refusal> {
        if !(1..=MAX_AT_ONCE).contains(&bodies.len()) {
            let long = format!("There must be from 1 to {MAX_AT_ONCE} invitations.");
            return Err(Refusal::new(422, "form_param_value_invalid", "is invalid", long));
        }
        let mut emails = HashSet::new();
        for (before, body) in bodies.iter().enumerate() {
            self.check_invitation(organization, body, before, now)?;
            if !emails.insert(Fields::any(body).required("email_address")?.to_lowercase()) {
                return Err(invited_twice());
            }
        }
        let made = bodies.iter().map(|body| self.make_invitation(organization, body, now));
        let data: Vec<Document> = made.collect::<Result<_, _>>()?;
        Ok(Listed { total: data.len(), data })
    }

    /// Whether an invitation may be made, after so many others of the same request.
    fn check_invitation(&self, organization: &str, body: &Document, before: usize, now: i64) -> Result<(), Refusal> {
        let fields = Fields::any(body);
        self.organization(organization)?;
        let (email, role) = (fields.required("email_address")?, fields.required("role")?);
        check_email("email_address", email)?;
        self.roles.check(role)?;
        let email = email.to_lowercase();
        let inviter = fields.text("inviter_user_id")?.filter(|id| !id.is_empty());
        if let Some(inviter) = inviter {
            self.check_administers(organization, inviter)?;
        }
        self.check_invitable(organization, &email, before, now)?;
        if !(1..=MAX_DAYS).contains(&days_of(fields)?) {
            return Err(Refusal::out_of_bounds("expires_in_days", "from 1 to 365"));
        }
        metadata::set(&mut Document::new(), fields, metadata::OTHERS, How::Replaced)
    }

    /// Makes one that was checked.
    fn make_invitation(&mut self, organization: &str, body: &Document, now: i64) -> Result<Document, Refusal> {
        let fields = Fields::any(body);
        let (email, role) = (fields.required("email_address")?.to_lowercase(), fields.required("role")?);
        let inviter = fields.text("inviter_user_id")?.filter(|id| !id.is_empty());
        let days = days_of(fields)?;
        let at = self.birth(now);
        let id = self.dice.id("orginv");
        let ticket = self.dice.letters(TICKET_LETTERS);
        let mut invitation = Template::invitation().blank(&id, at);
        metadata::set(&mut invitation, fields, metadata::OTHERS, How::Replaced)?;
        let own = json!({
            "organization_id": organization, "email_address": email, "role": role, "inviter_id": inviter,
            "expires_at": at + days * DAY_MS, "url": format!("https://accounts.invalid/v1/tickets/accept?ticket={ticket}"),
        });
        if let Value::Object(own) = own {
            invitation.extend(own);
        }
        self.put_invitation(invitation);
        self.tell_invitation("organizationInvitation.created", &id, None, at);
        self.invitation_document(&id, false, now).ok_or_else(Refusal::no_organization)
    }

    fn check_administers(&self, organization: &str, user: &str) -> Result<(), Refusal> {
        self.user(user)?;
        let membership = self.membership_id(organization, user).and_then(|id| self.memberships.get(&id));
        let role = membership.as_ref().and_then(|membership| text_of(membership, "role"));
        if role.is_some_and(|role| self.roles.is_elevated(role)) {
            return Ok(());
        }
        let long =
            format!("{user} is not an administrator in the organization. Only administrators can perform this action.");
        Err(Refusal::new(403, "not_an_admin_in_organization", "not an administrator", long))
    }

    fn check_invitable(&self, organization: &str, email: &str, before: usize, now: i64) -> Result<(), Refusal> {
        let known = self.identifiers.get(&identifier("email_address", email));
        if known.is_some_and(|user| self.membership_id(organization, user).is_some()) {
            let long = format!("{email} is already a member of the organization.");
            return Err(Refusal::new(400, "already_a_member_in_organization", "already a member", long));
        }
        let mut pending = before;
        for invitation in self.invitations_of.of(organization, false).filter_map(|id| self.invitations.get(id)) {
            if status_at(&invitation, now) != "pending" {
                continue;
            }
            pending += 1;
            if text_of(&invitation, "email_address") == Some(email) {
                return Err(invited_twice());
            }
        }
        self.check_room(organization, self.members_of.count(organization) + pending)
    }

    /// The invitation of an organization.
    pub(crate) fn invitation_of(&self, organization: &str, id: &str) -> Result<Document, Refusal> {
        self.organization(organization)?;
        let invitation = self.invitations.get(id);
        let invitation = invitation.filter(|found| text_of(found, "organization_id") == Some(organization));
        invitation.ok_or_else(|| Refusal::not_found(format!("No invitation found with id {id}.")))
    }

    /// Revokes a pending invitation.
    pub fn revoke_invitation(
        &mut self,
        organization: &str,
        id: &str,
        body: &Document,
        now: i64,
    ) -> Result<Document, Refusal> {
        let invitation = self.invitation_of(organization, id)?;
        if let Some(by) = Fields::any(body).text("requesting_user_id")?.filter(|id| !id.is_empty()) {
            self.check_administers(organization, by)?;
        }
        check_pending(&invitation, now)?;
        self.invitation_changed(invitation, "revoked", None, now);
        self.invitation_document(id, false, now).ok_or_else(Refusal::no_organization)
    }

    /// Accepts a pending invitation, as a person would who follows its link: they become a member.
    pub fn accept_invitation(&mut self, id: &str, user: &str, now: i64) -> Result<Document, Refusal> {
        let missing = || Refusal::not_found(format!("No invitation found with id {id}."));
        let invitation = self.invitations.get(id).ok_or_else(missing)?;
        check_pending(&invitation, now)?;
        self.user(user)?;
        let part = |member: &str| text_of(&invitation, member).unwrap_or_default().to_owned();
        let (organization, role) = (part("organization_id"), part("role"));
        self.check_join(&organization, user)?;
        let kind = |name: &str| invitation.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
        let kinds = [kind("public_metadata"), kind("private_metadata")];
        let at = self.birth(now);
        self.invitation_changed(invitation, "accepted", Some(user), now);
        self.add_member(&organization, user, &role, kinds, at);
        self.invitation_document(id, false, now).ok_or_else(missing)
    }

    /// Removes an invitation because its organization ends.
    pub(crate) fn drop_invitation(&mut self, id: &Id, now: i64) {
        if let Some(invitation) = self.invitations.get(id)
            && self.options.child_events
            && status_at(&invitation, now) == "pending"
        {
            self.invitation_changed(invitation, "revoked", None, now);
        }
        self.remove_invitation(id);
    }

    fn invitation_changed(&mut self, mut invitation: Document, status: &'static str, by: Option<&str>, now: i64) {
        let at = touch(&mut invitation, now);
        invitation.insert("status".to_owned(), status.into());
        let id = text_of(&invitation, "id").unwrap_or_default().to_owned();
        self.put_invitation(invitation);
        let kind = if by.is_some() { "organizationInvitation.accepted" } else { "organizationInvitation.revoked" };
        self.tell_invitation(kind, &id, by, at);
    }

    fn tell_invitation(&mut self, kind: &'static str, id: &str, user: Option<&str>, at: i64) {
        if let Some(mut told) = self.told_invitation(id, at) {
            if let Some(user) = user {
                told.insert("user_id".to_owned(), user.into());
            }
            self.emit(kind, told, at);
        }
    }
}

fn days_of(fields: Fields<'_>) -> Result<i64, Refusal> {
    Ok(fields.number("expires_in_days")?.unwrap_or(DEFAULT_DAYS))
}

fn invited_twice() -> Refusal {
    let long = "Organizations cannot have duplicate pending invitations for an email address.";
    Refusal::new(400, "organization_invitation_not_unique", "organization invitation not unique", long)
}

fn check_pending(invitation: &Document, now: i64) -> Result<(), Refusal> {
    if status_at(invitation, now) == "pending" {
        return Ok(());
    }
    let long = "The organization invitation is not in the 'pending' status.";
    Err(Refusal::new(404, "organization_invitation_not_pending", "not pending", long))
}

/// What everybody may see of an organization.
#[expect(clippy::needless_pass_by_value, reason = "a step of a chain of options")]
fn public(organization: Document) -> Value {
    let member = |name: &str| organization.get(name).cloned().unwrap_or_default();
    json!({
        "id": member("id"), "name": member("name"), "slug": member("slug"), "image_url": member("image_url"),
        "has_image": member("has_image"),
    })
}

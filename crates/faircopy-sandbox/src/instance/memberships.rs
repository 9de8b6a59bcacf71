//! Memberships, and what is changed about them.

use serde_json::{Value, json};

use super::document::{Document, Template};
use super::fields::Fields;
use super::metadata::{self, How};
use super::refusal::Refusal;
use super::store::{Instance, number_of, text_of, touch};
use super::table::Id;

/// By what a person is known.
pub(crate) fn identifier_of(user: &Document) -> Value {
    let primary = user.get("primary_email_address_id");
    let emails = user.get("email_addresses").and_then(Value::as_array);
    let email = emails.into_iter().flatten().find(|email| Some(&email["id"]) == primary);
    let phones = user.get("phone_numbers").and_then(Value::as_array);
    let known = [
        email.map(|email| &email["email_address"]),
        user.get("username").filter(|name| !name.is_null()),
        phones.and_then(|phones| phones.first()).map(|phone| &phone["phone_number"]),
    ];
    known.into_iter().flatten().next().cloned().unwrap_or_default()
}

impl Instance {
    /// A membership as it is answered: with its organization, its user, and what its role says.
    pub(crate) fn membership_document(&self, id: &str) -> Option<Document> {
        let mut membership = self.memberships.get(id)?;
        let part = |member: &str| text_of(&membership, member).unwrap_or_default().to_owned();
        let (organization, user, role) = (part("organization_id"), part("user_id"), part("role"));
        let (organization, user) = (self.organizations.get(&organization)?, self.users.get(&user)?);
        membership.remove("organization_id");
        membership.remove("user_id");
        membership.insert("role_name".to_owned(), self.roles.name(&role).into());
        membership.insert("permissions".to_owned(), json!(self.roles.permissions(&role)));
        membership.insert("organization".to_owned(), Value::Object(organization));
        let member = |name: &str| user.get(name).cloned().unwrap_or_default();
        let public = json!({
            "user_id": member("id"), "first_name": member("first_name"), "last_name": member("last_name"),
            "profile_image_url": member("profile_image_url"), "image_url": member("image_url"),
            "has_image": member("has_image"), "identifier": identifier_of(&user), "username": member("username"),
            "banned": member("banned"), "deprovisioned": member("deprovisioned"),
        });
        membership.insert("public_user_data".to_owned(), public);
        Some(membership)
    }

    /// The membership of a user in an organization, both of which must exist.
    fn membership_of(&self, organization: &str, user: &str) -> Result<Id, Refusal> {
        self.organization(organization)?;
        self.membership_id(organization, user).ok_or_else(|| {
            Refusal::not_found(format!("No membership was found for user {user} in organization {organization}."))
        })
    }

    /// A new member.
    pub fn create_membership(&mut self, organization: &str, body: &Document, now: i64) -> Result<Document, Refusal> {
        let fields = Fields::any(body);
        let (user, role) = (fields.required("user_id")?, fields.required("role")?);
        self.organization(organization)?;
        self.user(user)?;
        self.roles.check(role)?;
        self.check_join(organization, user)?;
        let mut metadata = Document::new();
        metadata::set(&mut metadata, fields, metadata::OTHERS, How::Replaced)?;
        let kind = |name: &str| metadata.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
        let kinds = [kind("public_metadata"), kind("private_metadata")];
        let at = self.birth(now);
        self.add_member(organization, user, role, kinds, at).ok_or_else(Refusal::no_organization)
    }

    /// Refuses somebody who is a member already, and one more than may be.
    pub(crate) fn check_join(&self, organization: &str, user: &str) -> Result<(), Refusal> {
        if self.membership_id(organization, user).is_some() {
            let long = format!("{user} is already a member of the organization.");
            return Err(Refusal::new(400, "already_a_member_in_organization", "already a member", long));
        }
        self.check_room(organization, self.members_of.count(organization))
    }

    /// Refuses one more than may be.
    pub(crate) fn check_room(&self, organization: &str, taken: usize) -> Result<(), Refusal> {
        let most = number_of(&self.organization(organization)?, "max_allowed_memberships");
        if most == 0 || i64::try_from(taken).is_ok_and(|taken| taken < most) {
            return Ok(());
        }
        let long = format!(
            "You have reached your limit of {most} organization memberships, including outstanding invitations."
        );
        let short = "organization membership quota exceeded";
        Err(Refusal::new(403, "organization_membership_quota_exceeded", short, long))
    }

    /// Makes somebody a member; both exist.
    pub(crate) fn add_member(
        &mut self,
        organization: &str,
        user: &str,
        role: &str,
        [public, private]: [Document; 2],
        at: i64,
    ) -> Option<Document> {
        let id = self.dice.id("orgmem");
        let mut membership = Template::membership().blank(&id, at);
        membership.insert("organization_id".to_owned(), organization.into());
        membership.insert("user_id".to_owned(), user.into());
        membership.insert("role".to_owned(), role.into());
        membership.insert("public_metadata".to_owned(), Value::Object(public));
        membership.insert("private_metadata".to_owned(), Value::Object(private));
        self.put_membership(membership);
        let document = self.membership_document(&id)?;
        self.emit("organizationMembership.created", document.clone(), at);
        Some(document)
    }

    /// Gives a member another role.
    pub fn update_membership(
        &mut self,
        organization: &str,
        user: &str,
        body: &Document,
        now: i64,
    ) -> Result<Document, Refusal> {
        let role = Fields::any(body).required("role")?;
        let id = self.membership_of(organization, user)?;
        self.roles.check(role)?;
        if !self.roles.is_elevated(role) {
            self.check_not_last(organization, &id)?;
        }
        let mut membership = self.memberships.get(&id).ok_or_else(Refusal::no_organization)?;
        membership.insert("role".to_owned(), role.into());
        self.membership_changed(membership, now)
    }

    /// Merges metadata.
    pub fn set_membership_metadata(
        &mut self,
        organization: &str,
        user: &str,
        body: &Document,
        now: i64,
    ) -> Result<Document, Refusal> {
        let fields = Fields::only(body, metadata::OTHERS)?;
        let id = self.membership_of(organization, user)?;
        let mut membership = self.memberships.get(&id).ok_or_else(Refusal::no_organization)?;
        metadata::set(&mut membership, fields, metadata::OTHERS, How::Merged)?;
        self.membership_changed(membership, now)
    }

    /// Takes a member out. The answer is the membership that was.
    pub fn delete_membership(&mut self, organization: &str, user: &str, now: i64) -> Result<Document, Refusal> {
        let id = self.membership_of(organization, user)?;
        self.check_not_last(organization, &id)?;
        let document = self.membership_document(&id).ok_or_else(Refusal::no_organization)?;
        self.take_out(&id, now, true);
        Ok(document)
    }

    /// Refuses to take away the only one who may manage memberships.
    fn check_not_last(&self, organization: &str, membership: &Id) -> Result<(), Refusal> {
        let mut elevated = self.elevated_members(organization).take(2);
        if elevated.next() != Some(membership) || elevated.next().is_some() {
            return Ok(());
        }
        let long = "There has to be at least one organization member with the minimum required permissions";
        let short = "minimum organization permissions needed";
        Err(Refusal::new(400, "organization_minimum_permissions_needed", short, long))
    }

    /// Ends a membership because its organization or its user ends.
    pub(crate) fn end_membership(&mut self, id: &str, now: i64) {
        self.take_out(id, now, self.options.child_events);
    }

    fn take_out(&mut self, id: &str, now: i64, told: bool) {
        let Some(row) = self.memberships.row(id) else { return };
        let (updated_at, user, organization) = (row.updated_at, row.keys.user.clone(), row.keys.organization.clone());
        let document = self.membership_document(id);
        let at = self.removal(updated_at, now);
        self.remove_membership(id);
        self.leave_organization(&user, &organization, now);
        if let (true, Some(document)) = (told, document) {
            self.emit("organizationMembership.deleted", document, at);
        }
    }

    fn membership_changed(&mut self, mut membership: Document, now: i64) -> Result<Document, Refusal> {
        let at = touch(&mut membership, now);
        let id = text_of(&membership, "id").unwrap_or_default().to_owned();
        self.put_membership(membership);
        let document = self.membership_document(&id).ok_or_else(Refusal::no_organization)?;
        self.emit("organizationMembership.updated", document.clone(), at);
        Ok(document)
    }
}

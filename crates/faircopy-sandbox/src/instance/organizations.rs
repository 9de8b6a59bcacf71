//! Organizations, and what is changed about them.

use serde_json::Value;

use super::document::{Document, Template};
use super::fields::Fields;
use super::metadata::{self, How};
use super::refusal::Refusal;
use super::roles::ADMIN;
use super::store::{Instance, number_of, text_of, touch};
use super::table::Id;
use super::users::deleted;

/// What can be changed about an organization.
const UPDATE: &[&str] = &[
    "name",
    "slug",
    "max_allowed_memberships",
    "admin_delete_enabled",
    "created_at",
    "role_set_key",
    "public_metadata",
    "private_metadata",
];
/// The longest name: Clerk's limit.
const MAX_NAME: usize = 256;
/// Digits that make a slug of a name that somebody may have, too.
const SLUG_DIGITS: u64 = 10_000_000_000;

/// What is only answered where it is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Include {
    pub(crate) members_count: bool,
    pub(crate) missing_elevated: bool,
}

fn check_name(name: &str) -> Result<(), Refusal> {
    if name.chars().count() > MAX_NAME {
        return Err(Refusal::too_long("name", MAX_NAME));
    }
    let html = name.split_once('<').is_some_and(|(_, rest)| rest.contains('>'));
    if html || name.contains("://") {
        return Err(Refusal::value("name", name));
    }
    Ok(())
}

fn is_slug(slug: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !slug.is_empty() && slug.len() <= MAX_NAME && slug.bytes().all(letter)
}

/// A slug that a name suggests.
pub(crate) fn slug_of(name: &str, number: u64) -> String {
    let words = name.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let stem = words.map(str::to_lowercase).collect::<Vec<_>>().join("-");
    format!("{}-{}", if stem.is_empty() { "organization" } else { &stem }, number % SLUG_DIGITS)
}

impl Instance {
    /// A new organization; whoever created it is its first administrator.
    pub fn create_organization(&mut self, body: &Document, now: i64) -> Result<Document, Refusal> {
        let fields = Fields::any(body);
        let mut dice = self.dice;
        let name = fields.required("name")?;
        check_name(name)?;
        let id = dice.id("org");
        let at = self.birth(now);
        let mut organization = Template::organization().blank(&id, at);
        organization.insert("name".to_owned(), name.into());
        organization.insert("max_allowed_memberships".to_owned(), self.options.max_allowed_memberships.into());
        let slug = match fields.text("slug")?.filter(|slug| !slug.is_empty()) {
            Some(slug) => slug.to_owned(),
            None => slug_of(name, dice.number()),
        };
        organization.insert("slug".to_owned(), slug.into());
        self.set_details(&mut organization, fields)?;
        metadata::set(&mut organization, fields, metadata::OTHERS, How::Replaced)?;
        let creator = fields.text("created_by")?.filter(|id| !id.is_empty());
        if let Some(creator) = creator {
            if !self.users.has(creator) {
                let long = format!("No users found with id {creator}.");
                return Err(Refusal::new(400, "organization_creator_not_found", "creator not found", long));
            }
            organization.insert("created_by".to_owned(), creator.into());
        }
        self.dice = dice;
        self.put_organization(organization.clone());
        self.emit("organization.created", organization.clone(), at);
        if let Some(creator) = creator {
            self.add_member(&id, creator, ADMIN, [Document::new(), Document::new()], at);
        }
        Ok(organization)
    }

    /// Changes what the body names. With `metadata`, as before version 2026-05-12, it may name metadata.
    pub fn update_organization(
        &mut self,
        id: &str,
        body: &Document,
        metadata: bool,
        now: i64,
    ) -> Result<Document, Refusal> {
        let fields = Fields::only(body, UPDATE)?;
        let mut organization = self.organization(id)?;
        if let (false, Some(kind)) = (metadata, metadata::OTHERS.iter().find(|kind| fields.has(kind))) {
            return Err(Refusal::deprecated(kind, "Use PATCH /v1/organizations/{organization_id}/metadata."));
        }
        metadata::set(&mut organization, fields, metadata::OTHERS, How::Replaced)?;
        if let Some(name) = fields.text("name")? {
            check_name(name)?;
            organization.insert("name".to_owned(), name.into());
        }
        if let Some(slug) = fields.text("slug")? {
            organization.insert("slug".to_owned(), slug.into());
        }
        self.set_details(&mut organization, fields)?;
        Ok(self.organization_changed(organization, now))
    }

    /// Merges or replaces metadata.
    pub fn set_organization_metadata(
        &mut self,
        id: &str,
        body: &Document,
        replace: bool,
        now: i64,
    ) -> Result<Document, Refusal> {
        let fields = Fields::only(body, metadata::OTHERS)?;
        let mut organization = self.organization(id)?;
        let how = if replace { How::Replaced } else { How::Merged };
        metadata::set(&mut organization, fields, metadata::OTHERS, how)?;
        Ok(self.organization_changed(organization, now))
    }

    /// Deletes an organization with its memberships and invitations.
    pub fn delete_organization(&mut self, id: &str, now: i64) -> Result<Document, Refusal> {
        let organization = self.organization(id)?;
        let invitations: Vec<Id> = self.invitations_of.of(id, false).cloned().collect();
        for invitation in invitations {
            self.drop_invitation(&invitation, now);
        }
        let memberships: Vec<Id> = self.members_of.of(id, false).cloned().collect();
        for membership in memberships {
            self.end_membership(&membership, now);
        }
        let at = self.removal(number_of(&organization, "updated_at"), now);
        self.remove_organization(id);
        let mut gone = deleted("organization", id);
        if let Some(slug) = text_of(&organization, "slug") {
            gone.insert("slug".to_owned(), slug.into());
        }
        self.emit("organization.deleted", gone.clone(), at);
        Ok(gone)
    }

    fn set_details(&self, organization: &mut Document, fields: Fields<'_>) -> Result<(), Refusal> {
        let slug = text_of(organization, "slug").unwrap_or_default();
        if !is_slug(slug) {
            return Err(Refusal::format("slug", "made of lowercase letters, digits and dashes"));
        }
        let holder = self.slugs.get(slug);
        if holder.is_some_and(|holder| Some(&**holder) != text_of(organization, "id")) {
            return Err(Refusal::taken("slug", "slug"));
        }
        if let Some(most) = fields.count("max_allowed_memberships")? {
            organization.insert("max_allowed_memberships".to_owned(), most.into());
        }
        if let Some(flag) = fields.flag("admin_delete_enabled")? {
            organization.insert("admin_delete_enabled".to_owned(), flag.into());
        }
        if let Some(time) = fields.time("created_at")? {
            organization.insert("created_at".to_owned(), time.into());
        }
        Ok(())
    }

    fn organization_changed(&mut self, mut organization: Document, now: i64) -> Document {
        let at = touch(&mut organization, now);
        self.put_organization(organization.clone());
        self.emit("organization.updated", organization.clone(), at);
        organization
    }

    pub(crate) fn organization(&self, id: &str) -> Result<Document, Refusal> {
        self.organizations.get(id).ok_or_else(Refusal::no_organization)
    }

    /// An organization by its id or its slug, with what was asked for besides.
    pub(crate) fn organization_with(&self, id_or_slug: &str, include: Include) -> Result<Document, Refusal> {
        let id = self.slugs.get(id_or_slug).map_or(id_or_slug, |id| &**id);
        let mut organization = self.organization(id)?;
        if include.members_count {
            organization.insert("members_count".to_owned(), self.members_of.count(id).into());
            organization.insert("pending_invitations_count".to_owned(), self.pending_count(id).into());
        }
        if include.missing_elevated {
            let missing = !self.elevated_members(id).any(|_| true);
            organization.insert("missing_member_with_elevated_permissions".to_owned(), missing.into());
        }
        Ok(organization)
    }

    fn pending_count(&self, id: &str) -> usize {
        let pending = |invitation: &&Id| {
            let invitation = self.invitations.get(invitation);
            invitation.as_ref().and_then(|found| found.get("status")) == Some(&Value::from("pending"))
        };
        self.invitations_of.of(id, false).filter(pending).count()
    }

    /// The memberships of those who may manage memberships.
    pub(crate) fn elevated_members<'a>(&'a self, organization: &str) -> impl Iterator<Item = &'a Id> {
        self.members_of.of(organization, false).filter(|id| {
            let membership = self.memberships.get(id);
            membership
                .as_ref()
                .and_then(|found| text_of(found, "role"))
                .is_some_and(|role| self.roles.is_elevated(role))
        })
    }
}

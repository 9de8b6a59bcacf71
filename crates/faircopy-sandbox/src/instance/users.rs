//! Users, and what is changed about them.

use serde_json::{Value, json};

use super::document::{Document, Template};
use super::fields::Fields;
use super::metadata::{self, How};
use super::refusal::Refusal;
use super::store::{Instance, identifiers, number_of, text_of, touch};
use super::table::Id;

/// What a user can be made with.
const CREATE: &[&str] = &[
    "external_id",
    "first_name",
    "last_name",
    "locale",
    "email_address",
    "email_address_identification_status",
    "phone_number",
    "phone_number_identification_status",
    "web3_wallet",
    "username",
    "password",
    "password_digest",
    "password_hasher",
    "skip_password_checks",
    "skip_password_requirement",
    "totp_secret",
    "backup_codes",
    "public_metadata",
    "private_metadata",
    "unsafe_metadata",
    "delete_self_enabled",
    "legal_accepted_at",
    "skip_legal_checks",
    "skip_user_requirement",
    "create_organization_enabled",
    "create_organizations_limit",
    "created_at",
    "bypass_client_trust",
    "banned",
    "locked",
];
/// What can be changed about one.
const UPDATE: &[&str] = &[
    "external_id",
    "first_name",
    "last_name",
    "locale",
    "primary_email_address_id",
    "notify_primary_email_address_changed",
    "primary_phone_number_id",
    "primary_web3_wallet_id",
    "username",
    "profile_image_id",
    "password",
    "password_digest",
    "password_hasher",
    "skip_password_checks",
    "sign_out_of_other_sessions",
    "totp_secret",
    "backup_codes",
    "delete_self_enabled",
    "create_organization_enabled",
    "legal_accepted_at",
    "skip_legal_checks",
    "create_organizations_limit",
    "created_at",
    "bypass_client_trust",
    "public_metadata",
    "private_metadata",
    "unsafe_metadata",
];
/// The longest name: Clerk's limit.
const MAX_NAME: usize = 256;
/// The shortest password.
const MIN_PASSWORD: usize = 8;
/// For how long a locked user is locked, in seconds: Clerk's default.
const LOCKOUT_S: i64 = 3_600;
/// Identifiers of one kind at a user's creation.
const MAX_IDENTIFIERS: usize = 10;

fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else { return false };
    let domain_is_good = domain.contains('.') && !domain.starts_with('.') && !domain.ends_with('.');
    !local.is_empty() && domain_is_good && !domain.contains('@') && !text.contains(char::is_whitespace)
}

/// Refuses what is no e-mail address.
pub(crate) fn check_email(param: &str, text: &str) -> Result<(), Refusal> {
    if is_email(text) { Ok(()) } else { Err(Refusal::format(param, "a valid email address")) }
}

fn is_phone(text: &str) -> bool {
    text.strip_prefix('+')
        .is_some_and(|digits| (7..=15).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_digit()))
}

fn is_username(text: &str) -> bool {
    let letters = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    (4..=64).contains(&text.len()) && text.chars().all(letters)
}

impl Instance {
    /// A new user.
    pub fn create_user(&mut self, body: &Document, now: i64) -> Result<Document, Refusal> {
        let fields = Fields::only(body, CREATE)?;
        let mut dice = self.dice;
        let id = dice.id("user");
        let at = self.birth(now);
        let mut user = Template::user().blank(&id, at);
        set_plain(&mut user, fields)?;
        metadata::set(&mut user, fields, metadata::USERS, How::Replaced)?;
        for (list, member) in [("email_addresses", "email_address"), ("phone_numbers", "phone_number")] {
            let addresses = contacts(fields, member, at, &mut dice)?;
            let primary = addresses.first().map_or(Value::Null, |first| first["id"].clone());
            user.insert(format!("primary_{member}_id"), primary);
            user.insert(list.to_owned(), Value::Array(addresses));
        }
        for flag in ["banned", "locked"] {
            user.insert(flag.to_owned(), fields.flag(flag)?.unwrap_or_default().into());
        }
        if fields.flag("locked")?.unwrap_or_default() {
            user.insert("lockout_expires_in_seconds".to_owned(), LOCKOUT_S.into());
        }
        set_password(&mut user, fields, at)?;
        self.check_identifiers(&user, &id)?;
        let named = !identifiers(&user).is_empty() || fields.flag("skip_user_requirement")?.unwrap_or_default();
        if !named {
            let words = "data doesn't match user requirements set for this instance";
            return Err(Refusal::param("form_data_missing", "email_address", words));
        }
        self.dice = dice;
        self.put_user(user.clone());
        self.emit("user.created", user.clone(), at);
        Ok(user)
    }

    /// Changes what the body names. With `metadata`, as before version 2026-05-12, it may name metadata.
    pub fn update_user(&mut self, id: &str, body: &Document, metadata: bool, now: i64) -> Result<Document, Refusal> {
        let fields = Fields::only(body, UPDATE)?;
        let mut user = self.user(id)?;
        if let (false, Some(kind)) = (metadata, metadata::USERS.iter().find(|kind| fields.has(kind))) {
            return Err(Refusal::deprecated(kind, "Use PATCH /v1/users/{user_id}/metadata."));
        }
        metadata::set(&mut user, fields, metadata::USERS, How::Replaced)?;
        set_plain(&mut user, fields)?;
        set_primary(&mut user, fields, "email_addresses", "primary_email_address_id")?;
        set_primary(&mut user, fields, "phone_numbers", "primary_phone_number_id")?;
        set_password(&mut user, fields, now)?;
        self.check_identifiers(&user, id)?;
        Ok(self.user_changed(user, now))
    }

    /// Merges or replaces metadata.
    pub fn set_user_metadata(
        &mut self,
        id: &str,
        body: &Document,
        replace: bool,
        now: i64,
    ) -> Result<Document, Refusal> {
        let fields = Fields::only(body, metadata::USERS)?;
        let mut user = self.user(id)?;
        let how = if replace { How::Replaced } else { How::Merged };
        metadata::set(&mut user, fields, metadata::USERS, how)?;
        Ok(self.user_changed(user, now))
    }

    /// Bans a user, which revokes their sessions, or takes the ban away.
    pub fn ban_user(&mut self, id: &str, banned: bool, now: i64) -> Result<Document, Refusal> {
        let mut user = self.user(id)?;
        user.insert("banned".to_owned(), banned.into());
        let user = self.user_changed(user, now);
        if banned {
            for session in self.active_sessions(id, now) {
                self.close_session(&session, "revoked", now)?;
            }
        }
        Ok(user)
    }

    /// Locks a user, or unlocks them.
    pub fn lock_user(&mut self, id: &str, locked: bool, now: i64) -> Result<Document, Refusal> {
        let mut user = self.user(id)?;
        user.insert("locked".to_owned(), locked.into());
        let rest = if locked { json!(LOCKOUT_S) } else { Value::Null };
        user.insert("lockout_expires_in_seconds".to_owned(), rest);
        Ok(self.user_changed(user, now))
    }

    /// Deletes a user with their memberships and sessions.
    pub fn delete_user(&mut self, id: &str, now: i64) -> Result<Document, Refusal> {
        let user = self.user(id)?;
        let memberships: Vec<Id> = self.memberships_of.of(id, false).cloned().collect();
        for membership in memberships {
            self.end_membership(&membership, now);
        }
        let sessions: Vec<Id> = self.sessions_of.of(id, false).cloned().collect();
        for session in sessions {
            self.drop_session(&session, now);
        }
        let at = self.removal(number_of(&user, "updated_at"), now);
        self.remove_user(id);
        let mut gone = deleted("user", id);
        let mut data = gone.clone();
        if let Some(external) = text_of(&user, "external_id") {
            gone.insert("external_id".to_owned(), external.into());
            data.insert("external_id".to_owned(), external.into());
        }
        self.emit("user.deleted", data, at);
        Ok(gone)
    }

    /// Puts a changed user and says so.
    pub(crate) fn user_changed(&mut self, mut user: Document, now: i64) -> Document {
        let at = touch(&mut user, now);
        self.put_user(user.clone());
        self.emit("user.updated", user.clone(), at);
        user
    }

    fn check_identifiers(&self, user: &Document, id: &str) -> Result<(), Refusal> {
        for identifier in identifiers(user) {
            if let Some((kind, value)) = identifier.split_once(':') {
                self.check_free(kind, value, id)?;
            }
        }
        Ok(())
    }
}

/// What is answered and sent of something that is gone.
pub(crate) fn deleted(object: &str, id: &str) -> Document {
    let mut document = Document::new();
    document.insert("object".to_owned(), object.into());
    document.insert("id".to_owned(), id.into());
    document.insert("deleted".to_owned(), true.into());
    document
}

/// Sets a text that may be taken away with null or an empty one.
fn set_text(user: &mut Document, fields: Fields<'_>, name: &str) -> Result<(), Refusal> {
    if !fields.has(name) {
        return Ok(());
    }
    let text = fields.text(name)?.filter(|text| !text.is_empty());
    if text.is_some_and(|text| text.chars().count() > MAX_NAME) {
        return Err(Refusal::too_long(name, MAX_NAME));
    }
    user.insert(name.to_owned(), text.map_or(Value::Null, Value::from));
    Ok(())
}

fn set_plain(user: &mut Document, fields: Fields<'_>) -> Result<(), Refusal> {
    for name in ["external_id", "first_name", "last_name", "locale", "username"] {
        set_text(user, fields, name)?;
    }
    if fields.text("username")?.is_some_and(|name| !name.is_empty() && !is_username(name)) {
        return Err(Refusal::format("username", "4 to 64 letters, digits, `_` or `-`"));
    }
    for name in ["delete_self_enabled", "create_organization_enabled", "bypass_client_trust"] {
        if let Some(flag) = fields.flag(name)? {
            user.insert(name.to_owned(), flag.into());
        }
    }
    if let Some(limit) = fields.count("create_organizations_limit")? {
        user.insert("create_organizations_limit".to_owned(), limit.into());
    }
    for name in ["created_at", "legal_accepted_at"] {
        if let Some(time) = fields.time(name)? {
            user.insert(name.to_owned(), time.into());
        }
    }
    Ok(())
}

fn set_password(user: &mut Document, fields: Fields<'_>, at: i64) -> Result<(), Refusal> {
    let (plain, digest) = (fields.text("password")?, fields.text("password_digest")?);
    if plain.is_none() && digest.is_none() {
        return Ok(());
    }
    let unchecked = fields.flag("skip_password_checks")?.unwrap_or_default();
    if plain.is_some_and(|plain| plain.chars().count() < MIN_PASSWORD && !unchecked) {
        let words = "Passwords must be 8 characters or more.";
        return Err(Refusal::param("form_password_length_too_short", "password", words));
    }
    user.insert("password_enabled".to_owned(), true.into());
    user.insert("password_last_updated_at".to_owned(), at.into());
    Ok(())
}

fn set_primary(user: &mut Document, fields: Fields<'_>, list: &str, name: &str) -> Result<(), Refusal> {
    let Some(id) = fields.text(name)? else { return Ok(()) };
    let items = user.get(list).and_then(Value::as_array);
    let found = items.into_iter().flatten().find(|item| item["id"] == id);
    let Some(found) = found else { return Err(Refusal::value(name, id)) };
    if found["verification"]["status"] != "verified" {
        let words = "This identification needs to be verified before you can perform this action.";
        return Err(Refusal::param("form_verification_needed", name, words));
    }
    user.insert(name.to_owned(), id.into());
    Ok(())
}

/// The e-mail addresses or phone numbers of a new user.
fn contacts(fields: Fields<'_>, member: &str, at: i64, dice: &mut super::Dice) -> Result<Vec<Value>, Refusal> {
    let given = fields.texts(member)?;
    let status_name = format!("{member}_identification_status");
    let statuses = fields.texts(&status_name)?;
    if given.len() > MAX_IDENTIFIERS {
        return Err(Refusal::too_many(member, MAX_IDENTIFIERS));
    }
    if !statuses.is_empty() && statuses.len() != given.len() {
        let words = format!("{status_name} must contain exactly one item for each item in {member}.");
        return Err(Refusal::param("form_param_array_length_mismatch", &status_name, &words));
    }
    let mut contacts: Vec<Value> = Vec::with_capacity(given.len());
    for (place, text) in given.into_iter().enumerate() {
        if member == "email_address" {
            check_email(member, text)?;
        } else if !is_phone(text) {
            return Err(Refusal::format(member, "a valid phone number according to E.164"));
        }
        if contacts.iter().any(|earlier| earlier[member].as_str().is_some_and(|old| old.eq_ignore_ascii_case(text))) {
            return Err(Refusal::duplicate(member));
        }
        let reserved = match statuses.get(place) {
            None | Some(&"verified") => false,
            Some(&"reserved") => true,
            Some(other) => return Err(Refusal::value(&status_name, other)),
        };
        contacts.push(contact(member, text, reserved, at, &dice.id("idn")));
    }
    Ok(contacts)
}

/// One e-mail address or phone number.
pub(crate) fn contact(member: &str, text: &str, reserved: bool, at: i64, id: &str) -> Value {
    let verified = json!({
        "object": "verification_admin", "status": "verified", "strategy": "admin", "attempts": null, "expire_at": null,
    });
    let mut contact = json!({
        "object": member, "id": id, "reserved": reserved, "linked_to": [], "created_at": at, "updated_at": at,
        "verification": if reserved { Value::Null } else { verified },
    });
    if member == "email_address" {
        contact["email_address"] = text.to_lowercase().into();
        contact["matches_sso_connection"] = false.into();
    } else {
        contact[member] = text.into();
        contact["reserved_for_second_factor"] = false.into();
        contact["default_second_factor"] = false.into();
        contact["backup_codes"] = Value::Null;
    }
    contact
}

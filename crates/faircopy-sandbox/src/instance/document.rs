//! Documents as the API answers them, and how they are kept: without what is the same in all of them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// An object of the API.
pub type Document = Map<String, Value>;

/// What all documents of a kind have in common.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    common: Arc<Document>,
    /// Lists within the document whose items have something in common, too.
    nested: Arc<[(&'static str, Document)]>,
    /// Whether it has a picture that is drawn for its id.
    pictured: bool,
}

/// A document as it is kept.
pub(crate) struct Packed {
    pub(crate) id: String,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
    pub(crate) text: Box<RawValue>,
}

fn object(value: Value) -> Document {
    if let Value::Object(document) = value { document } else { Document::new() }
}

fn take_i64(document: &mut Document, key: &str) -> i64 {
    document.remove(key).and_then(|value| value.as_i64()).unwrap_or_default()
}

fn minus(document: &mut Document, common: &Document) {
    document.retain(|key, value| common.get(key) != Some(value));
}

fn plus(document: &mut Document, common: &Document) {
    for (key, value) in common {
        if !document.contains_key(key) {
            document.insert(key.clone(), value.clone());
        }
    }
}

/// The picture that Clerk draws for whoever has none.
fn picture(id: &str) -> Value {
    let drawn = format!(r#"{{"type":"default","rid":"{id}"}}"#);
    Value::String(format!("https://img.clerk.com/{}", URL_SAFE_NO_PAD.encode(drawn)))
}

/// The members that hold the picture.
const PICTURES: [&str; 2] = ["image_url", "profile_image_url"];

impl Template {
    fn new(common: Value, nested: Vec<(&'static str, Value)>, pictured: bool) -> Self {
        let nested: Vec<_> = nested.into_iter().map(|(key, common)| (key, object(common))).collect();
        Self { common: Arc::new(object(common)), nested: nested.into(), pictured }
    }

    /// What of a document is its own. It has an id.
    pub(crate) fn pack(&self, mut document: Document) -> Packed {
        let id = document.remove("id").and_then(|id| id.as_str().map(str::to_owned)).unwrap_or_default();
        let created_at = take_i64(&mut document, "created_at");
        let updated_at = take_i64(&mut document, "updated_at");
        if self.pictured {
            let drawn = picture(&id);
            document.retain(|key, value| !PICTURES.contains(&key.as_str()) || *value != drawn);
        }
        for (key, common) in self.nested.iter() {
            for item in document.get_mut(*key).and_then(Value::as_array_mut).into_iter().flatten() {
                if let Value::Object(item) = item {
                    minus(item, common);
                }
            }
        }
        minus(&mut document, &self.common);
        let text = serde_json::value::to_raw_value(&document).unwrap_or_default();
        Packed { id, created_at, updated_at, text }
    }

    /// The whole document again.
    pub(crate) fn unpack(&self, id: &str, created_at: i64, updated_at: i64, text: &RawValue) -> Document {
        let mut document: Document = serde_json::from_str(text.get()).unwrap_or_default();
        plus(&mut document, &self.common);
        for (key, common) in self.nested.iter() {
            for item in document.get_mut(*key).and_then(Value::as_array_mut).into_iter().flatten() {
                if let Value::Object(item) = item {
                    plus(item, common);
                }
            }
        }
        if self.pictured {
            let is_user = id.starts_with("user_");
            for key in PICTURES.iter().filter(|key| is_user || **key == "image_url") {
                if !document.contains_key(*key) {
                    document.insert((*key).to_owned(), picture(id));
                }
            }
        }
        document.insert("id".to_owned(), id.into());
        document.insert("created_at".to_owned(), created_at.into());
        document.insert("updated_at".to_owned(), updated_at.into());
        document
    }

    /// A document with nothing of its own.
    pub(crate) fn blank(&self, id: &str, now: i64) -> Document {
        let nothing = serde_json::value::to_raw_value(&Document::new()).unwrap_or_default();
        self.unpack(id, now, now, &nothing)
    }

    pub(crate) fn user() -> Self {
        let common = json!({
            "object": "user", "external_id": null, "primary_email_address_id": null, "primary_phone_number_id": null,
            "primary_web3_wallet_id": null, "username": null, "first_name": null, "last_name": null, "locale": null,
            "has_image": false, "public_metadata": {}, "private_metadata": {}, "unsafe_metadata": {},
            "email_addresses": [], "phone_numbers": [], "web3_wallets": [], "passkeys": [], "password_enabled": false,
            "two_factor_enabled": false, "totp_enabled": false, "backup_code_enabled": false, "mfa_enabled_at": null,
            "mfa_disabled_at": null, "password_last_updated_at": null, "external_accounts": [], "saml_accounts": [],
            "enterprise_accounts": [], "last_sign_in_at": null, "banned": false, "locked": false,
            "deprovisioned": false, "lockout_expires_in_seconds": null, "verification_attempts_remaining": 100,
            "delete_self_enabled": true, "create_organization_enabled": true, "create_organizations_limit": null,
            "last_active_at": null, "legal_accepted_at": null, "bypass_client_trust": false,
        });
        let email = json!({
            "object": "email_address", "reserved": false, "linked_to": [], "matches_sso_connection": false,
            "verification": {
                "object": "verification_admin", "status": "verified", "strategy": "admin", "attempts": null, "expire_at": null,
            },
        });
        let phone = json!({
            "object": "phone_number", "reserved": false, "reserved_for_second_factor": false,
            "default_second_factor": false, "linked_to": [], "backup_codes": null,
            "verification": {
                "object": "verification_admin", "status": "verified", "strategy": "admin", "attempts": null, "expire_at": null,
            },
        });
        Self::new(common, vec![("email_addresses", email), ("phone_numbers", phone)], true)
    }

    pub(crate) fn organization() -> Self {
        let common = json!({
            "object": "organization", "has_image": false, "admin_delete_enabled": true, "public_metadata": {},
            "private_metadata": {}, "max_allowed_memberships": 5,
        });
        Self::new(common, Vec::new(), true)
    }

    /// Without the organization, the user's data and what the role says: they are joined when it is answered.
    pub(crate) fn membership() -> Self {
        let common = json!({
            "object": "organization_membership", "public_metadata": {}, "private_metadata": {}, "role": "org:member",
        });
        Self::new(common, Vec::new(), false)
    }

    pub(crate) fn invitation() -> Self {
        let common = json!({
            "object": "organization_invitation", "status": "pending", "public_metadata": {}, "private_metadata": {},
            "inviter_id": null, "role": "org:member",
        });
        Self::new(common, Vec::new(), false)
    }

    pub(crate) fn session() -> Self {
        let common = json!({
            "object": "session", "status": "active", "actor": null, "last_active_organization_id": null, "tasks": null,
        });
        Self::new(common, Vec::new(), false)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Template;

    #[test]
    fn what_is_kept_comes_back_whole() {
        let template = Template::user();
        let mut document = template.blank("user_1", 5);
        document.insert("first_name".into(), json!("Ada"));
        document
            .insert("email_addresses".into(), json!([{"object": "email_address", "id": "idn_1", "reserved": true}]));
        document.insert("banned".into(), json!(true));
        document.insert("updated_at".into(), json!(7));
        let packed = template.pack(document.clone());
        assert_eq!(
            packed.text.get(),
            r#"{"banned":true,"email_addresses":[{"id":"idn_1","reserved":true}],"first_name":"Ada"}"#
        );
        let mut whole = template.unpack(&packed.id, packed.created_at, packed.updated_at, &packed.text);
        let email = whole.get_mut("email_addresses").expect("a list")[0].take();
        assert_eq!(email["linked_to"], json!([]), "{email}");
        whole.insert("email_addresses".into(), document["email_addresses"].clone());
        assert_eq!(whole, document);
    }
}

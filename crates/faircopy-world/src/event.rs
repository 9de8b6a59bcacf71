//! Events as Clerk sends them: an envelope around a full snapshot, or around a thin deletion.

use serde_json::{Map, Value, json};

use crate::names;
use crate::world::{Email, Invitation, Member, Organization, User, World};

/// One webhook message.
#[derive(Debug, Clone)]
pub struct Event {
    /// Svix's message id, unique, and the same on every retry.
    pub svix_id: String,
    /// The type, such as `user.created`.
    pub event_type: &'static str,
    /// The envelope's timestamp, in milliseconds.
    pub at_ms: i64,
    /// The whole JSON body, its keys sorted at every level.
    pub body: String,
}

const AGENTS: &[&str] = &[
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
    "clerk-sdk-go/2.5.1",
];

impl World {
    /// Emits an event for a change made at `changed_ms`: the envelope is stamped up to 40 ms later.
    pub(crate) fn emit(&mut self, event_type: &'static str, changed_ms: i64, data: Value) {
        let at_ms = changed_ms + self.dice.between(0, 40);
        self.emit_at(event_type, at_ms, data);
    }

    /// Emits an event whose envelope is stamped exactly `at_ms`.
    pub(crate) fn emit_at(&mut self, event_type: &'static str, at_ms: i64, data: Value) {
        let client_ip = format!("203.0.113.{}", self.dice.between(1, 254));
        let user_agent = *self.dice.pick(AGENTS);
        let mut body = json!({
            "event_attributes": {"http_request": {"client_ip": client_ip, "user_agent": user_agent}},
            "instance_id": self.settings.instance_id,
            "object": "event",
            "timestamp": at_ms,
            "type": event_type,
        });
        body["data"] = data;
        self.latest_stamp = self.latest_stamp.max(at_ms);
        let svix_id = self.dice.id("msg");
        self.events.push(Event { svix_id, event_type, at_ms, body: sorted(body).to_string() });
    }

    pub(crate) fn user_snapshot(&self, id: &str) -> Value {
        user(self.user(id))
    }

    pub(crate) fn organization_snapshot(&self, id: &str) -> Value {
        organization(self.organization(id))
    }

    pub(crate) fn membership_snapshot(&self, organization: &str, user: &str) -> Value {
        let member = &self.members[&(organization.to_owned(), user.to_owned())];
        membership(member, self.organization(organization), self.user(user))
    }

    pub(crate) fn invitation_snapshot(&self, id: &str) -> Value {
        invitation(self.invitation(id))
    }
}

/// The same value with the keys of every object in order, also where some crate turns on `serde_json/preserve_order`.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().collect();
            entries.sort_by(|left, right| left.0.cmp(&right.0));
            Value::Object(entries.into_iter().map(|(key, value)| (key, sorted(value))).collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

fn private_metadata(id: &str) -> Value {
    json!({"secret": format!("canary-private-{id}")})
}

fn user(user: &User) -> Value {
    json!({
        "object": "user",
        "id": user.id,
        "external_id": user.external_id,
        "primary_email_address_id": user.primary_email,
        "primary_phone_number_id": user.phone.as_ref().map(|(id, _)| id),
        "primary_web3_wallet_id": null,
        "username": user.username,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "profile_image_url": user.image_url,
        "image_url": user.image_url,
        "has_image": true,
        "public_metadata": user.public_metadata,
        "private_metadata": private_metadata(&user.id),
        "unsafe_metadata": user.unsafe_metadata,
        "email_addresses": user.emails.iter().map(|email| email_address(email, user)).collect::<Vec<_>>(),
        "phone_numbers": user.phone.iter().map(|(id, number)| phone_number(id, number, user)).collect::<Vec<_>>(),
        "web3_wallets": [],
        "passkeys": [],
        "password_enabled": user.google_id.is_none(),
        "two_factor_enabled": user.phone.is_some(),
        "totp_enabled": false,
        "backup_code_enabled": false,
        "mfa_enabled_at": null,
        "mfa_disabled_at": null,
        "external_accounts": user.google_id.iter().map(|id| external_account(id, user)).collect::<Vec<_>>(),
        "saml_accounts": [],
        "enterprise_accounts": [],
        "last_sign_in_at": user.updated_at,
        "banned": user.banned,
        "locked": user.locked,
        "lockout_expires_in_seconds": if user.locked { json!(3_600) } else { Value::Null },
        "verification_attempts_remaining": if user.locked { 0 } else { 100 },
        "updated_at": user.updated_at,
        "created_at": user.created_at,
        "delete_self_enabled": true,
        "create_organization_enabled": true,
        "create_organizations_limit": null,
        "last_active_at": user.updated_at,
        "legal_accepted_at": user.created_at,
        "locale": "en-US",
        "password_last_updated_at": user.created_at,
        "bypass_client_trust": false,
    })
}

fn email_address(email: &Email, user: &User) -> Value {
    let verification = json!({
        "object": "verification_otp",
        "status": if email.verified { "verified" } else { "unverified" },
        "strategy": "email_code",
        "attempts": if email.verified { json!(1) } else { Value::Null },
        "expire_at": email.created_at + 600_000,
        "verified_at_client": if email.verified { json!("client_2g7np7Hrk0SN6kj5EDMLDaKNL0S") } else { Value::Null },
    });
    let linked: Vec<Value> =
        user.google_id.iter().take(1).map(|id| json!({"id": id, "type": "oauth_google"})).collect();
    json!({
        "object": "email_address",
        "id": email.id,
        "email_address": email.address,
        "reserved": false,
        "verification": verification,
        "linked_to": linked,
        "matches_sso_connection": false,
        "created_at": email.created_at,
        "updated_at": email.created_at,
    })
}

fn phone_number(id: &str, number: &str, user: &User) -> Value {
    json!({
        "object": "phone_number",
        "id": id,
        "phone_number": number,
        "reserved_for_second_factor": true,
        "default_second_factor": true,
        "reserved": false,
        "verification": {
            "object": "verification_otp", "status": "verified", "strategy": "phone_code", "attempts": 1,
            "expire_at": user.created_at + 600_000,
        },
        "linked_to": [],
        "backup_codes": null,
        "created_at": user.created_at,
        "updated_at": user.created_at,
    })
}

fn external_account(id: &str, user: &User) -> Value {
    json!({
        "object": "external_account",
        "id": id,
        "provider": "oauth_google",
        "provider_user_id": "108377310000000000000",
        "identification_id": id.replacen("eac_", "idn_", 1),
        "approved_scopes": "email https://www.googleapis.com/auth/userinfo.email openid profile",
        "email_address": user.emails.first().map(|email| &email.address),
        "first_name": user.first_name,
        "last_name": user.last_name,
        "avatar_url": "https://lh3.googleusercontent.com/a/default",
        "image_url": "https://img.clerk.com/google",
        "username": null,
        "public_metadata": {},
        "label": null,
        "verification": {
            "object": "verification_oauth", "status": "verified", "strategy": "oauth_google", "attempts": null,
            "expire_at": user.created_at + 600_000,
        },
        "created_at": user.created_at,
        "updated_at": user.created_at,
    })
}

fn organization(organization: &Organization) -> Value {
    json!({
        "object": "organization",
        "id": organization.id,
        "name": organization.name,
        "slug": organization.slug,
        "image_url": organization.image_url,
        "has_image": true,
        "members_count": organization.members_count,
        "missing_member_with_elevated_permissions": false,
        "pending_invitations_count": organization.pending_count,
        "max_allowed_memberships": 500,
        "admin_delete_enabled": true,
        "public_metadata": organization.public_metadata,
        "private_metadata": private_metadata(&organization.id),
        "created_by": organization.created_by,
        "created_at": organization.created_at,
        "updated_at": organization.updated_at,
    })
}

fn membership(member: &Member, of: &Organization, user: &User) -> Value {
    let identifier = user.emails.first().map(|email| &email.address).or(user.username.as_ref());
    json!({
        "object": "organization_membership",
        "id": member.id,
        "role": member.role,
        "role_name": names::role(&member.role).0,
        "permissions": member.permissions(),
        "public_metadata": {},
        "private_metadata": private_metadata(&member.id),
        "organization": organization(of),
        "public_user_data": {
            "user_id": user.id,
            "first_name": user.first_name,
            "last_name": user.last_name,
            "profile_image_url": user.image_url,
            "image_url": user.image_url,
            "has_image": true,
            "identifier": identifier,
            "username": user.username,
            "banned": user.banned,
        },
        "created_at": member.created_at,
        "updated_at": member.updated_at,
    })
}

fn invitation(invitation: &Invitation) -> Value {
    let mut data = json!({
        "object": "organization_invitation",
        "id": invitation.id,
        "email_address": invitation.email,
        "role": invitation.role,
        "role_name": names::role(&invitation.role).0,
        "organization_id": invitation.organization,
        "status": invitation.status,
        "public_metadata": {},
        "private_metadata": private_metadata(&invitation.id),
        "url": format!("https://accounts.acme.example/accept-invitation?token={}", &invitation.id[7..]),
        "expires_at": invitation.expires_at(),
        "created_at": invitation.created_at,
        "updated_at": invitation.updated_at,
    });
    if let Some(user) = &invitation.accepted_by {
        data["user_id"] = json!(user);
    }
    data
}

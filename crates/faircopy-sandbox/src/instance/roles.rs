//! Roles and permissions: the two roles that every instance has, and two more that many have.

use serde_json::{Value, json};

use super::document::Document;
use super::refusal::Refusal;

/// When the instance was set up, in milliseconds: before everything in it.
const SET_UP_MS: i64 = 1_700_000_000_000;

/// The roles of an instance.
#[derive(Debug, Clone)]
pub(crate) struct Roles {
    roles: Vec<Role>,
}

#[derive(Debug, Clone)]
struct Role {
    key: &'static str,
    name: &'static str,
    creator: bool,
    permissions: &'static [&'static str],
}

const SYSTEM_ALL: &[&str] = &[
    "org:sys_profile:manage",
    "org:sys_profile:delete",
    "org:sys_memberships:read",
    "org:sys_memberships:manage",
    "org:sys_domains:read",
    "org:sys_domains:manage",
    "org:posts:read",
    "org:posts:manage",
    "org:billing:read",
    "org:billing:manage",
];

/// The role of whoever creates an organization.
pub(crate) const ADMIN: &str = "org:admin";
/// What a role must permit so that an organization can do without any other: somebody must have it.
const ELEVATED: &str = "org:sys_memberships:manage";

impl Default for Roles {
    fn default() -> Self {
        let role = |key, name, creator, permissions| Role { key, name, creator, permissions };
        let roles = vec![
            role(ADMIN, "Admin", true, SYSTEM_ALL),
            role("org:member", "Member", false, &["org:sys_memberships:read", "org:posts:read", "org:posts:manage"]),
            role("org:billing_manager", "Billing manager", false, &["org:billing:read", "org:billing:manage"]),
            role("org:guest", "Guest", false, &[]),
        ];
        Self { roles }
    }
}

/// The letters that make an id of a key: always the same.
fn id_of(prefix: &str, key: &str) -> String {
    let seed = key.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(131).wrapping_add(byte.into()));
    super::dice::Dice::new(seed).id(prefix)
}

fn permission(key: &str) -> Value {
    let words: Vec<&str> = key.trim_start_matches("org:").split(':').collect();
    let name = words.join(" ").replace('_', " ");
    let kind = if key.starts_with("org:sys_") { "system" } else { "user" };
    json!({
        "object": "permission", "id": id_of("perm", key), "name": name, "key": key,
        "description": format!("Permission to {name}"), "type": kind,
        "created_at": SET_UP_MS, "updated_at": SET_UP_MS,
    })
}

impl Roles {
    fn find(&self, key: &str) -> Option<&Role> {
        self.roles.iter().find(|role| role.key == key)
    }

    /// Refuses a role that the instance does not have.
    pub(crate) fn check(&self, key: &str) -> Result<(), Refusal> {
        let meta = Some(json!({ "param_name": "role" }));
        let missing = || Refusal { meta, ..Refusal::not_found("Organization role not found.") };
        self.find(key).map(|_| ()).ok_or_else(missing)
    }

    pub(crate) fn name(&self, key: &str) -> &'static str {
        self.find(key).map_or("", |role| role.name)
    }

    pub(crate) fn permissions(&self, key: &str) -> &'static [&'static str] {
        self.find(key).map_or(&[], |role| role.permissions)
    }

    /// Whether the role lets its holders manage memberships.
    pub(crate) fn is_elevated(&self, key: &str) -> bool {
        self.permissions(key).contains(&ELEVATED)
    }

    pub(crate) fn documents(&self) -> Vec<Document> {
        let role = |role: &Role| {
            let permissions: Vec<Value> = role.permissions.iter().map(|key| permission(key)).collect();
            json!({
                "object": "role", "id": id_of("role", role.key), "name": role.name, "key": role.key,
                "description": format!("The role {}", role.name), "is_creator_eligible": role.creator,
                "permissions": permissions, "created_at": SET_UP_MS, "updated_at": SET_UP_MS,
            })
        };
        self.roles.iter().filter_map(|found| role(found).as_object().cloned()).collect()
    }

    pub(crate) fn permission_documents(&self) -> Vec<Document> {
        SYSTEM_ALL.iter().filter_map(|key| permission(key).as_object().cloned()).collect()
    }
}

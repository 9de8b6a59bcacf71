//! What the copy must hold, read from the sandbox's own documents, without the product's reader.

use std::collections::BTreeMap;

use faircopy_sandbox::instance::{Instance, Query};
use faircopy_world::{InvitationRow, MemberRow, OrganizationRow, Truth, UserRow};
use serde_json::{Map, Value};

type Document = Map<String, Value>;

fn text(document: &Document, name: &str) -> Option<String> {
    document.get(name)?.as_str().map(ToOwned::to_owned)
}

fn number(document: &Document, name: &str) -> i64 {
    document.get(name).and_then(Value::as_i64).unwrap()
}

fn link(metadata: &Value) -> Option<String> {
    let named = ["workspaceId", "convexWorkspaceId"].iter().filter_map(|key| metadata.get(key)?.as_str());
    named.map(ToOwned::to_owned).find(|link| !link.is_empty())
}

fn metadata(document: &Document) -> Value {
    document.get("public_metadata").cloned().unwrap_or_default()
}

/// Everything of a list, page by page.
fn all<T>(mut page: impl FnMut(&Query) -> Vec<T>) -> Vec<T> {
    let mut rows = Vec::new();
    loop {
        let query = Query::parse(&format!("limit=500&order_by=created_at&offset={}", rows.len()));
        let more = page(&query);
        if more.is_empty() {
            return rows;
        }
        rows.extend(more);
    }
}

pub(crate) fn of(instance: &Instance, now: i64) -> Truth {
    let users = all(|query| instance.list_users(query).unwrap());
    let organizations = all(|query| instance.list_organizations(query).unwrap().data);
    let members = all(|query| instance.list_all_memberships(query).unwrap().data);
    let invitations = all(|query| instance.list_all_invitations(query, now).unwrap().data);
    let organizations: BTreeMap<String, OrganizationRow> =
        organizations.iter().map(|document| (text(document, "id").unwrap(), organization(document))).collect();
    let members: BTreeMap<(String, String), MemberRow> = members.iter().map(member).collect();
    let workspace = |user: &str| {
        let own = members.iter().filter(|((_, member), _)| member == user);
        let oldest = own.min_by_key(|(_, row)| (row.created_at_ms, row.clerk_membership_id.clone()));
        oldest.and_then(|((organization, _), _)| organizations.get(organization)?.workspace_id.clone())
    };
    let users = users.iter().map(|document| {
        let id = text(document, "id").unwrap();
        let workspace = workspace(&id);
        (id, user(document, workspace))
    });
    Truth {
        users: users.collect(),
        invitations: invitations.iter().map(|i| (text(i, "id").unwrap(), invitation(i))).collect(),
        organizations,
        members,
    }
}

fn user(document: &Document, workspace: Option<String>) -> UserRow {
    let (first, last) = (text(document, "first_name"), text(document, "last_name"));
    let parts: Vec<&str> =
        [&first, &last].into_iter().flatten().map(String::as_str).filter(|p| !p.is_empty()).collect();
    let username = text(document, "username");
    let addresses = document["email_addresses"].as_array().unwrap();
    let primary = text(document, "primary_email_address_id");
    let is_verified = |address: &&Value| address.pointer("/verification/status").is_some_and(|s| s == "verified");
    let chosen = addresses.iter().find(|a| a["id"].as_str() == primary.as_deref());
    let chosen = chosen.or_else(|| addresses.iter().find(is_verified));
    UserRow {
        external_id: text(document, "external_id"),
        name: if parts.is_empty() { username.clone() } else { Some(parts.join(" ")) },
        username,
        first_name: first,
        last_name: last,
        email: chosen.and_then(|address| address["email_address"].as_str()).map(ToOwned::to_owned),
        image_url: text(document, "image_url"),
        workspace_id: link(&metadata(document)).or(workspace),
        public_metadata: metadata(document),
        banned: document["banned"].as_bool().unwrap(),
        locked: document["locked"].as_bool().unwrap(),
        created_at_ms: number(document, "created_at"),
        updated_at_ms: number(document, "updated_at"),
    }
}

fn organization(document: &Document) -> OrganizationRow {
    OrganizationRow {
        name: text(document, "name").unwrap(),
        slug: text(document, "slug"),
        image_url: text(document, "image_url"),
        created_by: text(document, "created_by"),
        workspace_id: link(&metadata(document)),
        settings: metadata(document),
        created_at_ms: number(document, "created_at"),
        updated_at_ms: number(document, "updated_at"),
    }
}

fn member(document: &Document) -> ((String, String), MemberRow) {
    let organization = document["organization"]["id"].as_str().unwrap().to_owned();
    let user = document["public_user_data"]["user_id"].as_str().unwrap().to_owned();
    let permissions = document["permissions"].as_array().unwrap();
    let row = MemberRow {
        clerk_membership_id: text(document, "id").unwrap(),
        role: text(document, "role").unwrap(),
        permissions: permissions.iter().map(|permission| permission.as_str().unwrap().to_owned()).collect(),
        created_at_ms: number(document, "created_at"),
        updated_at_ms: number(document, "updated_at"),
    };
    ((organization, user), row)
}

fn invitation(document: &Document) -> InvitationRow {
    InvitationRow {
        clerk_org_id: text(document, "organization_id").unwrap(),
        email: text(document, "email_address").unwrap(),
        role: text(document, "role").unwrap(),
        status: text(document, "status").unwrap(),
        expires_at_ms: number(document, "expires_at"),
        created_at_ms: number(document, "created_at"),
        updated_at_ms: number(document, "updated_at"),
    }
}

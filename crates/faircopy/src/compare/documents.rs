//! What the copy must hold, read from the sandbox's own documents, without the reader that made the copy.

use std::collections::BTreeMap;

use faircopy_sandbox::instance::{Instance, Query, Refusal};
use faircopy_world::{InvitationRow, MemberRow, OrganizationRow, Truth, UserRow, Workspaces};
use serde_json::{Map, Value};

/// Rows of one page: the most that a list gives at once.
const PAGE: usize = 500;

type Document = Map<String, Value>;

fn text(document: &Document, name: &str) -> Option<String> {
    document.get(name)?.as_str().map(ToOwned::to_owned)
}

/// A text that every such document has.
fn required(document: &Document, name: &str) -> String {
    text(document, name).unwrap_or_default()
}

fn number(document: &Document, name: &str) -> i64 {
    document.get(name).and_then(Value::as_i64).unwrap_or_default()
}

fn flag(document: &Document, name: &str) -> bool {
    document.get(name).and_then(Value::as_bool).unwrap_or_default()
}

fn list<'a>(document: &'a Document, name: &str) -> &'a [Value] {
    document.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn link(metadata: &Value) -> Option<String> {
    let named = ["workspaceId", "convexWorkspaceId"].iter().filter_map(|key| metadata.get(key)?.as_str());
    named.map(ToOwned::to_owned).find(|link| !link.is_empty())
}

fn metadata(document: &Document) -> Value {
    document.get("public_metadata").cloned().unwrap_or_default()
}

/// Everything of a list, page by page.
fn all<T>(mut page: impl FnMut(&Query) -> Result<Vec<T>, Refusal>) -> Result<Vec<T>, Refusal> {
    let mut rows = Vec::new();
    loop {
        let query = Query::parse(&format!("limit={PAGE}&order_by=created_at&offset={}", rows.len()));
        let more = page(&query)?;
        if more.is_empty() {
            return Ok(rows);
        }
        rows.extend(more);
    }
}

/// What a copy of this instance must hold at this time, where each organization has a workspace of its own.
///
/// # Errors
/// If the instance refuses a list, as one without organizations does.
pub fn truth_of(instance: &Instance, now_ms: i64) -> Result<Truth, Refusal> {
    let users = all(|query| instance.list_users(query))?;
    let organizations = all(|query| Ok(instance.list_organizations(query)?.data))?;
    let members = all(|query| Ok(instance.list_all_memberships(query)?.data))?;
    let invitations = all(|query| Ok(instance.list_all_invitations(query, now_ms)?.data))?;
    let organizations: BTreeMap<String, OrganizationRow> =
        organizations.iter().map(|document| (required(document, "id"), organization(document))).collect();
    let members: BTreeMap<(String, String), MemberRow> = members.iter().map(member).collect();
    let workspaces = workspaces(&members, &organizations);
    let users = users.iter().map(|document| {
        let id = required(document, "id");
        let workspace = workspaces.get(id.as_str()).cloned().flatten();
        (id, user(document, workspace))
    });
    Ok(Truth {
        workspaces: Workspaces::PerOrganization.of(&organizations),
        users: users.collect(),
        invitations: invitations.iter().map(|i| (required(i, "id"), invitation(i))).collect(),
        organizations,
        members,
    })
}

/// For each member the workspace of the organization that they have been in for longest.
fn workspaces<'a>(
    members: &'a BTreeMap<(String, String), MemberRow>,
    organizations: &BTreeMap<String, OrganizationRow>,
) -> BTreeMap<&'a str, Option<String>> {
    let mut oldest: BTreeMap<&str, (i64, &str, &str)> = BTreeMap::new();
    for ((organization, user), row) in members {
        let own = (row.created_at_ms, row.clerk_membership_id.as_str(), organization.as_str());
        let known = oldest.entry(user).or_insert(own);
        *known = own.min(*known);
    }
    let workspace = |organization: &str| organizations.get(organization)?.workspace_id.clone();
    oldest.into_iter().map(|(user, (_, _, organization))| (user, workspace(organization))).collect()
}

fn user(document: &Document, workspace: Option<String>) -> UserRow {
    let (first, last) = (text(document, "first_name"), text(document, "last_name"));
    let parts: Vec<&str> =
        [&first, &last].into_iter().flatten().map(String::as_str).filter(|p| !p.is_empty()).collect();
    let username = text(document, "username");
    let addresses = list(document, "email_addresses");
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
        banned: flag(document, "banned"),
        locked: flag(document, "locked"),
        created_at_ms: number(document, "created_at"),
        updated_at_ms: number(document, "updated_at"),
    }
}

fn organization(document: &Document) -> OrganizationRow {
    OrganizationRow {
        name: required(document, "name"),
        slug: text(document, "slug"),
        image_url: text(document, "image_url"),
        created_by: text(document, "created_by"),
        workspace_id: link(&metadata(document)).or_else(|| text(document, "id")),
        settings: metadata(document),
        created_at_ms: number(document, "created_at"),
        updated_at_ms: number(document, "updated_at"),
    }
}

fn member(document: &Document) -> ((String, String), MemberRow) {
    let part = |object: &str, name: &str| Some(document.get(object)?.get(name)?.as_str()?.to_owned());
    let organization = part("organization", "id").unwrap_or_default();
    let user = part("public_user_data", "user_id").unwrap_or_default();
    let permissions = list(document, "permissions").iter().filter_map(Value::as_str);
    let row = MemberRow {
        clerk_membership_id: required(document, "id"),
        role: required(document, "role"),
        permissions: permissions.map(ToOwned::to_owned).collect(),
        created_at_ms: number(document, "created_at"),
        updated_at_ms: number(document, "updated_at"),
    };
    ((organization, user), row)
}

fn invitation(document: &Document) -> InvitationRow {
    InvitationRow {
        clerk_org_id: required(document, "organization_id"),
        email: required(document, "email_address"),
        role: required(document, "role"),
        status: required(document, "status"),
        expires_at_ms: number(document, "expires_at"),
        created_at_ms: number(document, "created_at"),
        updated_at_ms: number(document, "updated_at"),
    }
}

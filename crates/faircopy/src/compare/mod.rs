//! Is the copy what the made-up instance holds? Compared column by column, for the demo and the tests.

mod documents;

use std::collections::BTreeMap;

use faircopy_store::{Row, Store};
use faircopy_world::Truth;
use serde_json::{Value, json};

pub use documents::truth_of;

/// Every difference between the public tables and the truth, as sentences. Empty when the copy is exact.
pub async fn with_truth(store: &Store, truth: &Truth) -> Result<Vec<String>, faircopy_store::Error> {
    let mut differences = Vec::new();
    for (table, expected) in [
        ("users", users(truth)),
        ("organizations", organizations(truth)),
        ("organization_members", members(truth)),
        ("organization_invitations", invitations(truth)),
    ] {
        let found = store.public_rows(table).await?;
        compare(table, &found.into_iter().collect(), &expected, &mut differences);
    }
    // What has ended, or rests, is an organization's no more, and depends on when that was heard.
    let held = |row: &Row| row["ended_at"].is_null() && !row["clerk_org_id"].is_null();
    let found = store.public_rows("workspaces").await?.into_iter().filter(|(_, row)| held(row)).collect();
    compare("workspaces", &found, &workspaces(truth), &mut differences);
    Ok(differences)
}

fn compare(table: &str, found: &BTreeMap<String, Row>, expected: &BTreeMap<String, Row>, out: &mut Vec<String>) {
    for (key, row) in expected {
        match found.get(key) {
            None => out.push(format!("{table}: {key} is missing")),
            Some(copy) => {
                for (column, value) in row {
                    let held = copy.get(column).unwrap_or(&Value::Null);
                    if held != value {
                        out.push(format!("{table}: {key}: {column} is {held}, not {value}"));
                    }
                }
            }
        }
    }
    out.extend(found.keys().filter(|key| !expected.contains_key(*key)).map(|key| format!("{table}: {key} is extra")));
}

fn time(ms: i64) -> Value {
    json!(faircopy_core::Millis(ms).to_string())
}

fn row<const N: usize>(columns: [(&str, Value); N]) -> Row {
    columns.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn users(truth: &Truth) -> BTreeMap<String, Row> {
    let of = |user: &faircopy_world::UserRow| {
        row([
            ("external_id", json!(user.external_id)),
            ("username", json!(user.username)),
            ("first_name", json!(user.first_name)),
            ("last_name", json!(user.last_name)),
            ("name", json!(user.name)),
            ("email", json!(user.email)),
            ("image_url", json!(user.image_url)),
            ("workspace_id", json!(user.workspace_id)),
            ("public_metadata", user.public_metadata.clone()),
            ("banned", json!(user.banned)),
            ("locked", json!(user.locked)),
            ("created_at", time(user.created_at_ms)),
            ("updated_at", time(user.updated_at_ms)),
        ])
    };
    truth.users.iter().map(|(id, user)| (id.clone(), of(user))).collect()
}

fn organizations(truth: &Truth) -> BTreeMap<String, Row> {
    let of = |organization: &faircopy_world::OrganizationRow| {
        row([
            ("name", json!(organization.name)),
            ("slug", json!(organization.slug)),
            ("image_url", json!(organization.image_url)),
            ("created_by", json!(organization.created_by)),
            ("workspace_id", json!(organization.workspace_id)),
            ("settings", organization.settings.clone()),
            ("created_at", time(organization.created_at_ms)),
            ("updated_at", time(organization.updated_at_ms)),
        ])
    };
    truth.organizations.iter().map(|(id, organization)| (id.clone(), of(organization))).collect()
}

fn members(truth: &Truth) -> BTreeMap<String, Row> {
    let of = |member: &faircopy_world::MemberRow| {
        row([
            ("clerk_membership_id", json!(member.clerk_membership_id)),
            ("role", json!(member.role)),
            ("permissions", json!(member.permissions)),
            ("created_at", time(member.created_at_ms)),
            ("updated_at", time(member.updated_at_ms)),
        ])
    };
    truth.members.iter().map(|((organization, user), member)| (format!("{organization}/{user}"), of(member))).collect()
}

fn invitations(truth: &Truth) -> BTreeMap<String, Row> {
    let of = |invitation: &faircopy_world::InvitationRow| {
        row([
            ("clerk_org_id", json!(invitation.clerk_org_id)),
            ("email", json!(invitation.email)),
            ("role", json!(invitation.role)),
            ("status", json!(invitation.status)),
            ("expires_at", time(invitation.expires_at_ms)),
            ("created_at", time(invitation.created_at_ms)),
            ("updated_at", time(invitation.updated_at_ms)),
        ])
    };
    truth.invitations.iter().map(|(id, invitation)| (id.clone(), of(invitation))).collect()
}

fn workspaces(truth: &Truth) -> BTreeMap<String, Row> {
    let of = |workspace: &faircopy_world::WorkspaceRow| {
        row([
            ("clerk_org_id", json!(workspace.clerk_org_id)),
            ("name", json!(workspace.name)),
            ("owner_id", json!(workspace.owner_id)),
            ("created_at", time(workspace.created_at_ms)),
        ])
    };
    truth.workspaces.iter().map(|(id, workspace)| (id.clone(), of(workspace))).collect()
}

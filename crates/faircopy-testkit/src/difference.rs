//! What sets a copy apart from the truth, in words.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};

use faircopy_world::{InvitationRow, MemberRow, OrganizationRow, Truth, UserRow, WorkspaceRow};
use serde_json::Value;

use crate::tables::{Invitation, Member, Organization, Tables, User, Workspace};

/// More than this many differences tell no more than their number does.
const SHOWN: usize = 20;

impl Tables {
    /// Compares the copy with the truth: every row, and every column that the model world knows (all but `provenance`).
    ///
    /// The answer is empty when they are the same. Otherwise it is readable, for example
    /// `user user_x: name: copy Some("A") truth Some("B")`; after 20 differences, the number of the others follows.
    #[must_use]
    pub fn same_as(&self, truth: &Truth) -> Vec<String> {
        let mut found = Differences::default();
        found.tables("user", &self.users, &truth.users, String::clone, user);
        found.tables("organization", &self.organizations, &truth.organizations, String::clone, organization);
        found.tables("member", &self.members, &truth.members, |(org, user)| format!("{user} of {org}"), member);
        found.tables("invitation", &self.invitations, &truth.invitations, String::clone, invitation);
        // What has ended, or rests, is an organization's no more, and depends on when that was heard.
        let held = |row: &&Workspace| row.ended_at_ms.is_none() && row.clerk_org_id.is_some();
        let held = self.workspaces.values().filter(held).map(|row| (row.id.clone(), row)).collect();
        found.tables("workspace", &held, &truth.workspaces, String::clone, |row, copy, truth| {
            workspace(row, copy, truth);
        });
        found.shown()
    }

    /// Panics with the differences, if there are any.
    ///
    /// # Panics
    /// See above.
    pub fn assert_same_as(&self, truth: &Truth) {
        let differences = self.same_as(truth);
        assert!(differences.is_empty(), "the copy is not exact:\n{}", differences.join("\n"));
    }
}

fn user(row: &mut Comparison<'_>, copy: &User, truth: &UserRow) {
    row.column("external_id", &copy.external_id, &truth.external_id);
    row.column("username", &copy.username, &truth.username);
    row.column("first_name", &copy.first_name, &truth.first_name);
    row.column("last_name", &copy.last_name, &truth.last_name);
    row.column("name", &copy.name, &truth.name);
    row.column("email", &copy.email, &truth.email);
    row.column("image_url", &copy.image_url, &truth.image_url);
    row.column("workspace_id", &copy.workspace_id, &truth.workspace_id);
    row.column("public_metadata", &copy.public_metadata, &Some(truth.public_metadata.clone()));
    row.column("banned", &copy.banned, &Some(truth.banned));
    row.column("locked", &copy.locked, &Some(truth.locked));
    row.column("created_at", &copy.created_at_ms, &Some(truth.created_at_ms));
    row.column("updated_at", &copy.updated_at_ms, &Some(truth.updated_at_ms));
}

fn organization(row: &mut Comparison<'_>, copy: &Organization, truth: &OrganizationRow) {
    row.column("name", &copy.name, &Some(truth.name.clone()));
    row.column("slug", &copy.slug, &truth.slug);
    row.column("image_url", &copy.image_url, &truth.image_url);
    row.column("created_by", &copy.created_by, &truth.created_by);
    row.column("settings", &copy.settings, &Some(truth.settings.clone()));
    row.column("workspace_id", &copy.workspace_id, &truth.workspace_id);
    row.column("created_at", &copy.created_at_ms, &Some(truth.created_at_ms));
    row.column("updated_at", &copy.updated_at_ms, &Some(truth.updated_at_ms));
}

fn member(row: &mut Comparison<'_>, copy: &Member, truth: &MemberRow) {
    row.column("clerk_membership_id", &copy.clerk_membership_id, &Some(truth.clerk_membership_id.clone()));
    row.column("role", &copy.role, &Some(truth.role.clone()));
    row.column("permissions", &copy.permissions, &Some(Value::from(truth.permissions.clone())));
    row.column("created_at", &copy.created_at_ms, &Some(truth.created_at_ms));
    row.column("updated_at", &copy.updated_at_ms, &Some(truth.updated_at_ms));
}

fn invitation(row: &mut Comparison<'_>, copy: &Invitation, truth: &InvitationRow) {
    row.column("clerk_org_id", &copy.clerk_org_id, &Some(truth.clerk_org_id.clone()));
    row.column("email", &copy.email, &Some(truth.email.clone()));
    row.column("role", &copy.role, &Some(truth.role.clone()));
    row.column("status", &copy.status, &Some(truth.status.clone()));
    row.column("expires_at", &copy.expires_at_ms, &Some(truth.expires_at_ms));
    row.column("created_at", &copy.created_at_ms, &Some(truth.created_at_ms));
    row.column("updated_at", &copy.updated_at_ms, &Some(truth.updated_at_ms));
}

fn workspace(row: &mut Comparison<'_>, copy: &Workspace, truth: &WorkspaceRow) {
    row.column("clerk_org_id", &copy.clerk_org_id, &Some(truth.clerk_org_id.clone()));
    row.column("name", &copy.name, &Some(truth.name.clone()));
    row.column("owner_id", &copy.owner_id, &truth.owner_id);
    row.column("created_at", &copy.created_at_ms, &Some(truth.created_at_ms));
}

#[derive(Default)]
struct Differences {
    first: Vec<String>,
    count: usize,
}

impl Differences {
    fn add(&mut self, difference: impl FnOnce() -> String) {
        self.count += 1;
        if self.count <= SHOWN {
            self.first.push(difference());
        }
    }

    fn tables<K: Ord, C, T, N: Display>(
        &mut self,
        kind: &'static str,
        copy: &BTreeMap<K, C>,
        truth: &BTreeMap<K, T>,
        name: impl Fn(&K) -> N,
        compare: impl Fn(&mut Comparison<'_>, &C, &T),
    ) {
        for (key, truth) in truth {
            match copy.get(key) {
                Some(copy) => {
                    compare(&mut Comparison { row: format!("{kind} {}", name(key)), found: self }, copy, truth);
                }
                None => self.add(|| format!("{kind} {}: missing from the copy", name(key))),
            }
        }
        for key in copy.keys().filter(|key| !truth.contains_key(key)) {
            self.add(|| format!("{kind} {}: in the copy, and should not be", name(key)));
        }
    }

    fn shown(mut self) -> Vec<String> {
        if let Some(others) = self.count.checked_sub(SHOWN).filter(|others| *others > 0) {
            self.first.push(format!("and {others} more"));
        }
        self.first
    }
}

struct Comparison<'a> {
    row: String,
    found: &'a mut Differences,
}

impl Comparison<'_> {
    fn column<V: PartialEq + Debug>(&mut self, column: &str, copy: &V, truth: &V) {
        if copy != truth {
            let row = &self.row;
            self.found.add(|| format!("{row}: {column}: copy {copy:?} truth {truth:?}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use faircopy_world::{Settings, Truth, World};
    use serde_json::Value;

    use crate::tables::{Invitation, Member, Organization, Tables, User, Workspace};

    fn truth() -> Truth {
        let mut world = World::new(7, Settings::default());
        for _ in 0..300 {
            world.advance();
        }
        world.truth()
    }

    fn exact_copy(truth: &Truth) -> Tables {
        let provenance = || Some("webhook".to_owned());
        let users = truth.users.iter().map(|(key, row)| {
            let user = User {
                clerk_user_id: key.clone(),
                external_id: row.external_id.clone(),
                username: row.username.clone(),
                first_name: row.first_name.clone(),
                last_name: row.last_name.clone(),
                name: row.name.clone(),
                email: row.email.clone(),
                image_url: row.image_url.clone(),
                workspace_id: row.workspace_id.clone(),
                public_metadata: Some(row.public_metadata.clone()),
                banned: Some(row.banned),
                locked: Some(row.locked),
                provenance: provenance(),
                created_at_ms: Some(row.created_at_ms),
                updated_at_ms: Some(row.updated_at_ms),
            };
            (key.clone(), user)
        });
        let organizations = truth.organizations.iter().map(|(key, row)| {
            let organization = Organization {
                clerk_org_id: key.clone(),
                name: Some(row.name.clone()),
                slug: row.slug.clone(),
                image_url: row.image_url.clone(),
                created_by: row.created_by.clone(),
                settings: Some(row.settings.clone()),
                workspace_id: row.workspace_id.clone(),
                provenance: provenance(),
                created_at_ms: Some(row.created_at_ms),
                updated_at_ms: Some(row.updated_at_ms),
            };
            (key.clone(), organization)
        });
        let members = truth.members.iter().map(|(key, row)| {
            let member = Member {
                clerk_org_id: key.0.clone(),
                clerk_user_id: key.1.clone(),
                clerk_membership_id: Some(row.clerk_membership_id.clone()),
                role: Some(row.role.clone()),
                permissions: Some(Value::from(row.permissions.clone())),
                provenance: provenance(),
                created_at_ms: Some(row.created_at_ms),
                updated_at_ms: Some(row.updated_at_ms),
            };
            (key.clone(), member)
        });
        let invitations = truth.invitations.iter().map(|(key, row)| {
            let invitation = Invitation {
                clerk_invitation_id: key.clone(),
                clerk_org_id: Some(row.clerk_org_id.clone()),
                email: Some(row.email.clone()),
                role: Some(row.role.clone()),
                status: Some(row.status.clone()),
                expires_at_ms: Some(row.expires_at_ms),
                created_at_ms: Some(row.created_at_ms),
                updated_at_ms: Some(row.updated_at_ms),
            };
            (key.clone(), invitation)
        });
        let workspaces = truth.workspaces.iter().map(|(key, row)| {
            let workspace = Workspace {
                id: key.clone(),
                clerk_org_id: Some(row.clerk_org_id.clone()),
                name: Some(row.name.clone()),
                owner_id: row.owner_id.clone(),
                ended_at_ms: None,
                created_at_ms: Some(row.created_at_ms),
            };
            (key.clone(), workspace)
        });
        Tables {
            users: users.collect(),
            organizations: organizations.collect(),
            members: members.collect(),
            invitations: invitations.collect(),
            workspaces: workspaces.collect(),
        }
    }

    #[test]
    fn an_exact_copy_has_no_difference() {
        let truth = truth();
        assert!(!truth.users.is_empty() && !truth.members.is_empty() && !truth.organizations.is_empty());
        exact_copy(&truth).assert_same_as(&truth);
    }

    #[test]
    fn a_changed_a_missing_and_a_left_over_row_are_told() {
        let truth = truth();
        let mut copy = exact_copy(&truth);
        let (id, user) = copy.users.iter_mut().next().expect("a user");
        user.name = Some("Someone Else".to_owned());
        let expected_name = format!("user {id}: name: copy Some(\"Someone Else\") truth {:?}", truth.users[id].name);
        let ((org, member), _) = copy.members.pop_first().expect("a member");
        let left_over = copy.organizations.values().next().expect("an organization").clone();
        copy.organizations.insert("org_gone".to_owned(), left_over);
        let expected = [
            expected_name,
            "organization org_gone: in the copy, and should not be".to_owned(),
            format!("member {member} of {org}: missing from the copy"),
        ];
        assert_eq!(copy.same_as(&truth), expected);
    }

    #[test]
    fn many_differences_are_counted() {
        let mut truth = truth();
        let user = truth.users.values().next().expect("a user").clone();
        truth.users.extend((0..50).map(|number| (format!("user_{number}"), user.clone())));
        let rows = truth.users.len()
            + truth.organizations.len()
            + truth.members.len()
            + truth.invitations.len()
            + truth.workspaces.len();
        let differences = Tables::default().same_as(&truth);
        assert_eq!(differences.len(), 21);
        assert_eq!(differences[20], format!("and {} more", rows - 20));
    }
}

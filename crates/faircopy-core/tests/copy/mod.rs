//! A copy in memory: registers and rows, changed by worksets exactly as `faircopy-store` changes its tables.

use std::collections::{BTreeMap, BTreeSet};

use faircopy_core::event::Observation;
use faircopy_core::id::{InvitationId, MembershipId, OrganizationId, UserId};
use faircopy_core::merge::{Change, Changes, Key, Register, Verdict, Workset};
use faircopy_core::record::{Invitation, Member, Organization, Provenance, User};
use faircopy_world::{InvitationRow, MemberRow, OrganizationRow, Truth, UserRow, Workspaces};
use serde_json::Value;

/// A row and where it came from.
pub(crate) type Row<T> = (T, Provenance);

/// The public tables.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Rows {
    pub(crate) users: BTreeMap<UserId, Row<User>>,
    pub(crate) organizations: BTreeMap<OrganizationId, Row<Organization>>,
    pub(crate) members: BTreeMap<(OrganizationId, UserId), Row<Member>>,
    pub(crate) invitations: BTreeMap<InvitationId, Row<Invitation>>,
}

/// Whatever keeps rows by merging observations: the real rule, and the wrong ones.
pub(crate) trait Copying {
    fn deliver(&mut self, batch: &[&Observation]);
    fn rows(&self) -> &Rows;
}

/// The real rule over tables in memory.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Replica {
    pub(crate) registers: BTreeMap<Key, Register>,
    pub(crate) rows: Rows,
}

impl Copying for Replica {
    fn deliver(&mut self, batch: &[&Observation]) {
        self.merge(batch);
    }

    fn rows(&self) -> &Rows {
        &self.rows
    }
}

impl Replica {
    /// Merges one batch in one transaction, and says whether anything in it was news.
    pub(crate) fn merge(&mut self, batch: &[&Observation]) -> Verdict {
        let mut workset = Workset::new(self.load(batch));
        let verdict = batch.iter().map(|observation| workset.merge(observation)).max();
        let changes = workset.finish();
        assert_consistent(&changes);
        self.apply(changes);
        verdict.unwrap_or(Verdict::Known)
    }

    /// As `faircopy-store/src/intake.rs` loads: what the observations name, and the pairs of bare membership ids with
    /// their parents.
    fn load(&self, batch: &[&Observation]) -> BTreeMap<Key, Register> {
        let mut keys: BTreeSet<Key> = batch.iter().flat_map(|observation| observation.keys()).collect();
        let bare: BTreeSet<&MembershipId> =
            batch.iter().filter_map(|observation| observation.unpaired_membership()).collect();
        if !bare.is_empty() {
            for (key, register) in &self.registers {
                let newest = register.generation.as_ref().is_some_and(|generation| bare.contains(&generation.id));
                if let Key::Pair(organization, user) = key
                    && newest
                {
                    keys.insert(Key::Organization(organization.clone()));
                    keys.insert(Key::User(user.clone()));
                    keys.insert(key.clone());
                }
            }
        }
        keys.into_iter().filter_map(|key| self.registers.get(&key).cloned().map(|register| (key, register))).collect()
    }

    /// As `faircopy-store/src/records.rs` writes, in the same order.
    fn apply(&mut self, changes: Changes) {
        let Rows { users, organizations, members, invitations } = &mut self.rows;
        self.registers.extend(changes.registers);
        for (id, change) in changes.organizations {
            if change == Change::Withdraw {
                organizations.remove(&id);
                continue;
            }
            let Some(row) = put(change) else {
                members.retain(|pair, _| pair.0 != id);
                invitations.retain(|_, row| row.0.organization != id);
                organizations.remove(&id);
                self.registers.retain(|key, register| match key {
                    Key::Pair(organization, _) => *organization != id,
                    Key::Invitation(_) => register.organization.as_ref() != Some(&id),
                    _ => true,
                });
                continue;
            };
            organizations.insert(id, row);
        }
        for (pair, change) in changes.members {
            match put(change) {
                Some(row) => drop(members.insert(pair, row)),
                None => drop(members.remove(&pair)),
            }
        }
        for (id, change) in changes.users {
            if change == Change::Withdraw {
                users.remove(&id);
                continue;
            }
            let Some(row) = put(change) else {
                members.retain(|pair, _| pair.1 != id);
                users.remove(&id);
                self.registers.retain(|key, _| !matches!(key, Key::Pair(_, user) if *user == id));
                continue;
            };
            users.insert(id, row);
        }
        for (id, change) in changes.invitations {
            match put(change) {
                Some(row) => drop(invitations.insert(id, row)),
                None => drop(invitations.remove(&id)),
            }
        }
    }
}

/// Whatever the order in which changes are written: nothing is put below what is removed.
fn assert_consistent(changes: &Changes) {
    let removed = |organization: &OrganizationId, user: Option<&UserId>| {
        matches!(changes.organizations.get(organization), Some(Change::Remove))
            || user.is_some_and(|user| matches!(changes.users.get(user), Some(Change::Remove)))
    };
    for ((organization, user), change) in &changes.members {
        let put = matches!(change, Change::Put(..));
        assert!(!(put && removed(organization, Some(user))), "{user} in {organization} is put after a removal");
    }
    for change in changes.invitations.values() {
        if let Change::Put(invitation, _) = change {
            assert!(!removed(&invitation.organization, None), "{} is put after a removal", invitation.id);
        }
    }
}

fn put<T>(change: Change<T>) -> Option<Row<T>> {
    match change {
        Change::Put(record, provenance) => Some((record, provenance)),
        Change::Remove | Change::Withdraw => None,
    }
}

impl Rows {
    /// The rows in the words of the oracle. What a partial row lacks is -1 or null, which no truth holds.
    pub(crate) fn truth(&self) -> Truth {
        let at = |time: Option<faircopy_core::Millis>| time.map_or(-1, |at| at.0);
        let organizations: BTreeMap<String, OrganizationRow> = self
            .organizations
            .iter()
            .map(|(id, (organization, _))| {
                let row = OrganizationRow {
                    name: organization.name.clone().unwrap_or_default(),
                    slug: organization.slug.clone(),
                    image_url: organization.image_url.clone(),
                    created_by: organization.created_by.clone(),
                    workspace_id: organization.linked_workspace().or_else(|| Some(id.to_string())),
                    settings: organization.settings.clone(),
                    created_at_ms: at(organization.created_at),
                    updated_at_ms: at(organization.updated_at),
                };
                (id.to_string(), row)
            })
            .collect();
        let inherited = |user: &UserId| {
            let memberships = self.members.values().filter(|(member, _)| member.user == *user);
            let oldest = memberships.min_by_key(|(member, _)| (at(member.created_at), member.membership.clone()))?;
            organizations.get(oldest.0.organization.as_str())?.workspace_id.clone()
        };
        let users = self.users.iter().map(|(id, (user, _))| {
            let profile = user.profile.clone().unwrap_or_default();
            let row = UserRow {
                name: profile.name(),
                external_id: profile.external_id,
                username: profile.username,
                first_name: profile.first_name,
                last_name: profile.last_name,
                email: profile.email,
                image_url: profile.image_url,
                workspace_id: user.linked_workspace.clone().or_else(|| inherited(id)),
                public_metadata: if user.profile.is_some() { profile.public_metadata } else { Value::Null },
                banned: profile.banned.unwrap_or_default(),
                locked: profile.locked.unwrap_or_default(),
                created_at_ms: at(user.created_at),
                updated_at_ms: at(user.updated_at),
            };
            (id.to_string(), row)
        });
        let members = self.members.iter().map(|((organization, user), (member, _))| {
            let row = MemberRow {
                clerk_membership_id: member.membership.as_ref().map(ToString::to_string).unwrap_or_default(),
                role: member.role.clone().unwrap_or_default(),
                permissions: member.permissions.clone(),
                created_at_ms: at(member.created_at),
                updated_at_ms: at(member.updated_at),
            };
            ((organization.to_string(), user.to_string()), row)
        });
        let invitations = self.invitations.iter().map(|(id, (invitation, _))| {
            let row = InvitationRow {
                clerk_org_id: invitation.organization.to_string(),
                email: invitation.email.clone().unwrap_or_default(),
                role: invitation.role.clone().unwrap_or_default(),
                status: invitation.status.clone(),
                expires_at_ms: at(invitation.expires_at),
                created_at_ms: at(invitation.created_at),
                updated_at_ms: at(invitation.updated_at),
            };
            (id.to_string(), row)
        });
        Truth {
            users: users.collect(),
            members: members.collect(),
            invitations: invitations.collect(),
            workspaces: Workspaces::PerOrganization.of(&organizations),
            organizations,
        }
    }
}

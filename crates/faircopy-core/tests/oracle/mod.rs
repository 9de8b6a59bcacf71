//! A naive second opinion: what must be visible after a set of events was seen, in whatever order, worked out from
//! their JSON alone. It shares no code with the core.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::copy::Rows;

/// What one event says.
#[derive(Debug, Clone)]
pub(crate) enum Said {
    User { id: String, version: Version, image: String },
    UserDeleted { id: String },
    Organization { id: String, version: Version, image: String },
    OrganizationDeleted { id: String },
    Member { pair: Pair, membership: Membership, version: Version, role: String, embedded: (Version, String) },
    MemberDeleted { id: String, at: i64, pair: Option<(Pair, Membership)> },
    Invitation { id: String, organization: String, version: Version, status: String },
}

/// (`updated_at`, time of the event)
pub(crate) type Version = (i64, i64);
/// (organization, user)
pub(crate) type Pair = (String, String);
/// (`created_at`, id): the order of the generations of a pair.
pub(crate) type Membership = (i64, String);

#[derive(Deserialize)]
struct Body {
    timestamp: i64,
    #[serde(rename = "type")]
    event_type: String,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    id: String,
    created_at: Option<i64>,
    updated_at: Option<i64>,
    image_url: Option<String>,
    role: Option<String>,
    status: Option<String>,
    organization_id: Option<String>,
    organization: Option<Box<Data>>,
    public_user_data: Option<Person>,
}

#[derive(Deserialize)]
struct Person {
    user_id: String,
}

impl Said {
    /// Reads what the model emits; anything else is a mistake in the test.
    pub(crate) fn read(body: &str) -> Self {
        let Body { timestamp: at, event_type, data } = serde_json::from_str(body).expect("the model emits such events");
        let version = (data.updated_at.unwrap_or(-1), at);
        let pair = data.organization.as_ref().zip(data.public_user_data.as_ref());
        let pair = pair.map(|(organization, user)| (organization.id.clone(), user.user_id.clone()));
        let membership = (data.created_at.unwrap_or(-1), data.id.clone());
        let id = data.id;
        let image = data.image_url.unwrap_or_default();
        match event_type.as_str() {
            "user.deleted" => Self::UserDeleted { id },
            "organization.deleted" => Self::OrganizationDeleted { id },
            "organizationMembership.deleted" => {
                Self::MemberDeleted { id, at, pair: pair.map(|pair| (pair, membership)) }
            }
            "user.created" | "user.updated" => Self::User { id, version, image },
            "organization.created" | "organization.updated" => Self::Organization { id, version, image },
            "organizationMembership.created" | "organizationMembership.updated" => {
                let of = data.organization.expect("a membership embeds its organization");
                let embedded = ((of.updated_at.unwrap_or(-1), at), of.image_url.unwrap_or_default());
                let (pair, role) = (pair.expect("a membership names its pair"), data.role.expect("and a role"));
                Self::Member { pair, membership, version, role, embedded }
            }
            "organizationInvitation.created" | "organizationInvitation.accepted" | "organizationInvitation.revoked" => {
                let organization = data.organization_id.expect("an invitation names its organization");
                Self::Invitation { id, organization, version, status: data.status.expect("and its status") }
            }
            other => panic!("the model does not emit {other}"),
        }
    }
}

/// What a set of events says, taken together.
#[derive(Debug, Default)]
pub(crate) struct View<'a> {
    /// `None`: only known from a membership.
    users: BTreeMap<&'a str, Option<(Version, &'a str)>>,
    organizations: BTreeMap<&'a str, (Version, &'a str)>,
    invitations: BTreeMap<&'a str, (Version, &'a str, &'a str)>,
    /// The newest generation of each pair, live or dead.
    newest: BTreeMap<(&'a str, &'a str), (i64, &'a str)>,
    /// The newest version of each membership.
    memberships: BTreeMap<&'a str, (Version, &'a str)>,
    /// The pair of each membership that is known by more than its id.
    pair_of: BTreeMap<&'a str, (&'a str, &'a str)>,
    /// When the deletion of each membership happened.
    ended: BTreeMap<&'a str, i64>,
    /// Users, organizations and memberships of which a deletion was seen.
    dead: BTreeSet<&'a str>,
}

/// A broken invariant of merge.md.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) invariant: &'static str,
    pub(crate) what: String,
}

pub(crate) type Verdict = Result<(), Broken>;

/// Demands something.
pub(crate) fn demand(holds: bool, invariant: &'static str, what: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(Broken { invariant, what: what() }) }
}

impl<'a> View<'a> {
    pub(crate) fn of(seen: impl IntoIterator<Item = &'a Said>) -> Self {
        let mut view = Self::default();
        seen.into_iter().for_each(|said| view.see(said));
        view
    }

    pub(crate) fn see(&mut self, said: &'a Said) {
        match said {
            Said::User { id, version, image } => {
                let known = self.users.entry(id).or_default();
                *known = (*known).max(Some((*version, image)));
            }
            Said::Organization { id, version, image } => newest(&mut self.organizations, id, (*version, image)),
            Said::UserDeleted { id } | Said::OrganizationDeleted { id } => drop(self.dead.insert(id)),
            Said::Member { pair, membership, version, role, embedded } => {
                newest(&mut self.newest, (&pair.0, &pair.1), (membership.0, &membership.1));
                newest(&mut self.memberships, &membership.1, (*version, role));
                self.pair_of.insert(&membership.1, (&pair.0, &pair.1));
                newest(&mut self.organizations, &pair.0, (embedded.0, &embedded.1));
                self.users.entry(&pair.1).or_default();
            }
            Said::MemberDeleted { id, at, pair } => {
                self.dead.insert(id);
                self.ended.insert(id, *at);
                if let Some((pair, membership)) = pair {
                    newest(&mut self.newest, (&pair.0, &pair.1), (membership.0, &membership.1));
                    self.pair_of.insert(id, (&pair.0, &pair.1));
                }
            }
            Said::Invitation { id, organization, version, status } => {
                newest(&mut self.invitations, id, (*version, status, organization));
            }
        }
    }

    fn alive(&self, id: &str) -> bool {
        !self.dead.contains(id)
    }

    /// Who is a member: (membership id, `updated_at`, role).
    fn members(&self) -> BTreeMap<(&'a str, &'a str), (&'a str, i64, &'a str)> {
        let alive = self
            .newest
            .iter()
            .filter(|(pair, newest)| self.alive(pair.0) && self.alive(pair.1) && self.alive(newest.1));
        let shown = alive.map(|(pair, (_, id))| {
            let ((updated_at, _), role) = self.memberships[id];
            (*pair, (*id, updated_at, role))
        });
        shown.collect()
    }

    /// I2 and I7: nothing that was deleted shows, nor does a member of it.
    pub(crate) fn check_deletions(&self, rows: &Rows) -> Verdict {
        for id in rows.users.keys() {
            demand(self.alive(id.as_str()), "I2", || format!("{id} shows after its deletion"))?;
        }
        for id in rows.organizations.keys() {
            demand(self.alive(id.as_str()), "I2", || format!("{id} shows after its deletion"))?;
        }
        for (id, (invitation, _)) in &rows.invitations {
            let organization = &invitation.organization;
            demand(self.alive(organization.as_str()), "I2", || format!("{id} of the deleted {organization} shows"))?;
        }
        for ((organization, user), (member, _)) in &rows.members {
            let parents = self.alive(organization.as_str()) && self.alive(user.as_str());
            demand(parents, "I7", || format!("{user} shows in {organization}, one of which is deleted"))?;
            let membership = member.membership.as_ref().is_none_or(|id| self.alive(id.as_str()));
            demand(membership, "I2", || format!("{user} shows in {organization} by a membership that was deleted"))?;
        }
        Ok(())
    }

    /// I6: the effective membership of each pair is the newest generation, over live and dead. Rows that only a token
    /// speaks for are left aside.
    pub(crate) fn check_members(&self, rows: &Rows) -> Verdict {
        let expected = self.members();
        let full = || rows.members.iter().filter(|(_, (member, _))| member.membership.is_some());
        for ((organization, user), (member, _)) in full() {
            let wanted = expected.get(&(organization.as_str(), user.as_str()));
            let id = member.membership.as_ref().map(|id| id.as_str());
            let found = (id, member.updated_at.map(|at| at.0), member.role.as_deref());
            let same = wanted.is_some_and(|(id, updated_at, role)| found == (Some(id), Some(*updated_at), Some(role)));
            demand(same, "I6", || format!("{user} in {organization}: {found:?} instead of {wanted:?}"))?;
        }
        demand(full().count() == expected.len(), "I6", || format!("{} of {} members", full().count(), expected.len()))
    }

    /// Users, organizations and invitations show their newest version seen so far, and none is missing. Rows that only
    /// a token speaks for are left aside.
    pub(crate) fn check_versions(&self, rows: &Rows) -> Verdict {
        for (id, wanted) in self.users.iter().filter(|(id, _)| self.alive(id)) {
            let found = rows.users.iter().find(|(known, _)| known.as_str() == *id).map(|(_, (user, _))| user);
            let shown = found.and_then(|user| {
                let image = user.profile.as_ref()?.image_url.as_deref()?;
                Some((user.updated_at?.0, image))
            });
            let wanted = wanted.map(|((updated_at, _), image)| (updated_at, image));
            demand(found.is_some() && shown == wanted, "versions", || format!("{id}: {shown:?}, not {wanted:?}"))?;
        }
        for (id, ((updated_at, _), image)) in self.organizations.iter().filter(|(id, _)| self.alive(id)) {
            let found = rows.organizations.iter().find(|(known, _)| known.as_str() == *id);
            let shown = found.and_then(|(_, (row, _))| Some((row.updated_at?.0, row.image_url.as_deref()?)));
            demand(shown == Some((*updated_at, image)), "versions", || format!("{id}: {shown:?}, not {updated_at}"))?;
        }
        let open = || self.invitations.iter().filter(|(_, (_, _, organization))| self.alive(organization));
        for (id, ((updated_at, _), status, _)) in open() {
            let found = rows.invitations.iter().find(|(known, _)| known.as_str() == *id);
            let shown = found.and_then(|(_, (row, _))| Some((row.updated_at?.0, row.status.as_str())));
            demand(shown == Some((*updated_at, status)), "versions", || format!("{id}: {shown:?}, not {status}"))?;
        }
        let full = rows.users.values().filter(|(user, _)| user.updated_at.is_some());
        let known = self.users.iter().filter(|(id, version)| version.is_some() && self.alive(id));
        demand(full.count() == known.count(), "versions", || "a user too many".to_owned())?;
        demand(rows.invitations.len() == open().count(), "versions", || "an invitation too many".to_owned())
    }

    pub(crate) fn check(&self, rows: &Rows) -> Verdict {
        self.check_deletions(rows)?;
        self.check_members(rows)?;
        self.check_versions(rows)
    }

    /// I10: a row that only a token speaks for belongs to nobody whose deletion is known to be as late as the token.
    pub(crate) fn check_token_rows(&self, rows: &Rows, newest_token: impl Fn(&str, &str) -> Option<i64>) -> Verdict {
        let effective = self.members();
        for ((organization, user), (member, _)) in &rows.members {
            if member.membership.is_some() {
                continue;
            }
            let pair = (organization.as_str(), user.as_str());
            let issued = newest_token(pair.0, pair.1);
            let end = self.last_end(pair);
            demand(issued.is_some() && issued > end, "I10", || format!("{pair:?} is back: {issued:?}, ended {end:?}"))?;
            demand(!effective.contains_key(&pair), "I10", || format!("a token hides the membership of {pair:?}"))?;
        }
        Ok(())
    }

    /// The pairs of which any event spoke.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.newest.keys().copied()
    }

    /// When the last of the memberships of a pair was deleted that are known to have been.
    pub(crate) fn last_end(&self, pair: (&str, &str)) -> Option<i64> {
        self.ended.iter().filter(|(id, _)| self.pair_of.get(*id).is_some_and(|of| *of == pair)).map(|(_, at)| *at).max()
    }
}

fn newest<K: Ord, V: Ord>(known: &mut BTreeMap<K, V>, key: K, offered: V) {
    match known.entry(key) {
        std::collections::btree_map::Entry::Vacant(free) => drop(free.insert(offered)),
        std::collections::btree_map::Entry::Occupied(mut held) => {
            if *held.get() < offered {
                held.insert(offered);
            }
        }
    }
}

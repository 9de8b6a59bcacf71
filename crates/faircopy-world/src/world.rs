//! The instance itself, and the changes that can be made to it by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use serde_json::{Value, json};

use crate::dice::Dice;
use crate::event::Event;
use crate::names;

const INVITATION_LIFE_MS: i64 = 30 * 24 * 60 * 60 * 1_000;

/// How an instance behaves where Clerk's documentation leaves it open, and when and under which name it begins.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Deleting an organization or a user also emits `organizationMembership.deleted` for each of its memberships, some
    /// before and some after the deletion itself.
    pub child_events: bool,
    /// A quarter of the updates keep the `updated_at` of the version before, with different content and a later
    /// envelope timestamp.
    pub ties: bool,
    /// When the history begins, in milliseconds.
    pub start_ms: i64,
    /// The id of the instance, in every envelope.
    pub instance_id: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            child_events: false,
            ties: false,
            start_ms: 1_760_000_000_000,
            instance_id: "ins_2g7np7Hrk0SN6kj5EDMLDaKNL0S".to_owned(),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Email {
    pub(crate) id: String,
    pub(crate) address: String,
    pub(crate) verified: bool,
    pub(crate) created_at: i64,
}

#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) external_id: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) first_name: Option<String>,
    pub(crate) last_name: Option<String>,
    pub(crate) image_url: String,
    pub(crate) emails: Vec<Email>,
    pub(crate) primary_email: Option<String>,
    pub(crate) phone: Option<(String, String)>,
    pub(crate) google_id: Option<String>,
    pub(crate) public_metadata: Value,
    pub(crate) unsafe_metadata: Value,
    pub(crate) banned: bool,
    pub(crate) locked: bool,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
}

#[derive(Debug, Clone)]
pub(crate) struct Organization {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) slug: Option<String>,
    pub(crate) image_url: String,
    pub(crate) created_by: String,
    pub(crate) public_metadata: Value,
    pub(crate) members_count: usize,
    pub(crate) pending_count: usize,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
}

#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) role: String,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
}

impl Member {
    pub(crate) fn permissions(&self) -> Vec<String> {
        names::role(&self.role).1.iter().map(|permission| (*permission).to_owned()).collect()
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Invitation {
    pub(crate) id: String,
    pub(crate) organization: String,
    pub(crate) email: String,
    pub(crate) role: String,
    pub(crate) status: &'static str,
    pub(crate) accepted_by: Option<String>,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
}

impl Invitation {
    pub(crate) fn expires_at(&self) -> i64 {
        self.created_at + INVITATION_LIFE_MS
    }
}

/// A Clerk instance: what exists in it now, and the events that it has emitted and that nobody took yet.
///
/// Every change moves its clock by at least one millisecond. The changes made by hand panic when they name something
/// that does not exist: that is a mistake in the test, not a history that Clerk could have.
#[derive(Debug)]
pub struct World {
    pub(crate) settings: Settings,
    pub(crate) dice: Dice,
    pub(crate) now_ms: i64,
    /// The longest step of the clock.
    pub(crate) pace_ms: i64,
    /// Whether names of people and organizations are never hostile.
    pub(crate) friendly: bool,
    /// The latest envelope timestamp so far: a tie must be stamped after it, because that is what decides the tie.
    pub(crate) latest_stamp: i64,
    pub(crate) users: BTreeMap<String, User>,
    pub(crate) organizations: BTreeMap<String, Organization>,
    /// By (organization, user).
    pub(crate) members: BTreeMap<(String, String), Member>,
    /// The keys of `members` turned round: (user, organization).
    organizations_of: BTreeSet<(String, String)>,
    pub(crate) invitations: BTreeMap<String, Invitation>,
    pub(crate) events: Vec<Event>,
    /// Pairs that left and may join again.
    pub(crate) left: Vec<(String, String)>,
    /// Pairs that left and never join again.
    pub(crate) barred: BTreeSet<(String, String)>,
    /// The user who is updated most.
    pub(crate) restless: Option<String>,
}

impl World {
    /// An empty instance, whose history is decided by `seed` and by the changes asked for.
    #[must_use]
    pub fn new(seed: u64, settings: Settings) -> Self {
        Self {
            dice: Dice::new(seed),
            now_ms: settings.start_ms,
            latest_stamp: settings.start_ms,
            settings,
            pace_ms: 2_000,
            friendly: false,
            users: BTreeMap::new(),
            organizations: BTreeMap::new(),
            members: BTreeMap::new(),
            organizations_of: BTreeSet::new(),
            invitations: BTreeMap::new(),
            events: Vec::new(),
            left: Vec::new(),
            barred: BTreeSet::new(),
            restless: None,
        }
    }

    /// Takes the events that were emitted since the last call, in order of emission.
    pub fn take_events(&mut self) -> Vec<Event> {
        mem::take(&mut self.events)
    }

    /// Creates a user and returns its id. An empty `first` or `last` is sent as null; an empty `email` means no address.
    pub fn create_user(&mut self, first: &str, last: &str, email: &str) -> String {
        let now = self.tick();
        let dice = &mut self.dice;
        let emails: Vec<Email> = if email.is_empty() { Vec::new() } else { vec![new_email(dice, email, now)] };
        let user = User {
            id: dice.id("user"),
            external_id: dice.chance(30).then(|| format!("ext_{}", dice.base62(12))),
            username: dice.chance(40).then(|| format!("user_{}", dice.base62(6).to_lowercase())),
            first_name: some_text(first),
            last_name: some_text(last),
            image_url: names::image_url(dice),
            primary_email: emails.first().map(|email| email.id.clone()),
            emails,
            phone: dice.chance(25).then(|| (dice.id("idn"), format!("+1555{}", dice.between(1_000_000, 9_999_999)))),
            google_id: dice.chance(35).then(|| dice.id("eac")),
            public_metadata: names::public_metadata(dice, 20),
            unsafe_metadata: json!({"theme": dice.pick(&["dark", "light"]), "tour": {"step": dice.between(0, 9)}}),
            banned: false,
            locked: false,
            created_at: now,
            updated_at: now,
        };
        let id = user.id.clone();
        self.users.insert(id.clone(), user);
        self.emit("user.created", now, self.user_snapshot(&id));
        id
    }

    /// Changes something that can be seen of a user: a name, an address, the picture, the metadata, a flag.
    ///
    /// # Panics
    ///
    /// If the user does not exist.
    pub fn update_user(&mut self, id: &str) {
        let (updated_at, stamp) = self.next_version(self.user(id).updated_at);
        let tie = stamp.is_some();
        let friendly = self.friendly;
        let now = self.now_ms;
        let dice = &mut self.dice;
        let user = self.users.get_mut(id).expect("looked up above");
        user.updated_at = updated_at;
        if tie || dice.chance(15) {
            user.image_url = names::image_url(dice);
        }
        match dice.below(10) {
            0 => user.first_name = maybe_name(dice, friendly, names::first_name),
            1 => user.last_name = maybe_name(dice, friendly, names::last_name),
            2 => user.username = dice.chance(70).then(|| format!("user_{}", dice.base62(6).to_lowercase())),
            3 | 4 => user.public_metadata = names::public_metadata(dice, 35),
            5 => user.banned = !user.banned,
            6 => user.locked = !user.locked,
            7 if user.emails.len() < 3 => {
                let address = names::email(dice, user.first_name.as_deref().unwrap_or(""));
                user.emails.push(new_email(dice, &address, now));
            }
            7 | 8 if !user.emails.is_empty() => {
                let place = dice.below(user.emails.len());
                user.primary_email = dice.chance(80).then(|| user.emails[place].id.clone());
            }
            _ => user.external_id = dice.chance(80).then(|| format!("ext_{}", dice.base62(12))),
        }
        let data = self.user_snapshot(id);
        self.emit_version("user.updated", updated_at, stamp, data);
    }

    /// Deletes a user, and with it its memberships.
    ///
    /// # Panics
    ///
    /// If the user does not exist.
    pub fn delete_user(&mut self, id: &str) {
        let now = self.tick();
        let user = self.user(id);
        let mut data = json!({"object": "user", "id": id, "deleted": true});
        if let Some(external_id) = &user.external_id {
            data["external_id"] = json!(external_id);
        }
        let organizations: Vec<String> = self.organizations_of(id).collect();
        let pairs = organizations.into_iter().map(|organization| (organization, id.to_owned())).collect();
        self.delete_with_members("user.deleted", now, data, pairs);
        self.users.remove(id);
        self.left.retain(|pair| pair.1 != id);
        if self.restless.as_deref() == Some(id) {
            self.restless = None;
        }
    }

    /// Creates an organization, with its creator as its first member and administrator, and returns its id.
    ///
    /// # Panics
    ///
    /// If the creator does not exist.
    pub fn create_organization(&mut self, name: &str, created_by: &str) -> String {
        let id = self.found_organization(name, created_by);
        self.insert_member(&id, created_by, "org:admin", self.now_ms);
        id
    }

    /// Creates an organization without members, as the Backend API can, and returns its id.
    pub(crate) fn found_organization(&mut self, name: &str, created_by: &str) -> String {
        let now = self.tick();
        let created_by = self.user(created_by).id.clone();
        let dice = &mut self.dice;
        let organization = Organization {
            id: dice.id("org"),
            name: name.to_owned(),
            slug: dice.chance(90).then(|| names::slug(dice, name)),
            image_url: names::image_url(dice),
            created_by,
            public_metadata: names::public_metadata(dice, 55),
            members_count: 0,
            pending_count: 0,
            created_at: now,
            updated_at: now,
        };
        let id = organization.id.clone();
        self.organizations.insert(id.clone(), organization);
        self.emit("organization.created", now, self.organization_snapshot(&id));
        id
    }

    /// Changes something that can be seen of an organization: its name, slug, picture or metadata.
    ///
    /// # Panics
    ///
    /// If the organization does not exist.
    pub fn update_organization(&mut self, id: &str) {
        let (updated_at, stamp) = self.next_version(self.organization(id).updated_at);
        let tie = stamp.is_some();
        let friendly = self.friendly;
        let dice = &mut self.dice;
        let organization = self.organizations.get_mut(id).expect("looked up above");
        organization.updated_at = updated_at;
        if tie {
            organization.image_url = names::image_url(dice);
        }
        match dice.below(5) {
            0 => organization.name = names::organization_name(dice, friendly),
            1 => organization.slug = dice.chance(80).then(|| names::slug(dice, &organization.name)),
            2 => organization.image_url = names::image_url(dice),
            _ => organization.public_metadata = names::public_metadata(dice, 60),
        }
        let data = self.organization_snapshot(id);
        self.emit_version("organization.updated", updated_at, stamp, data);
    }

    /// Deletes an organization, and with it its memberships and invitations.
    ///
    /// # Panics
    ///
    /// If the organization does not exist.
    pub fn delete_organization(&mut self, id: &str) {
        let now = self.tick();
        let slug = self.organization(id).slug.clone();
        let mut data = json!({"object": "organization", "id": id, "deleted": true});
        if let Some(slug) = slug {
            data["slug"] = json!(slug);
        }
        let pairs: Vec<(String, String)> = self.members_of(id).collect();
        self.delete_with_members("organization.deleted", now, data, pairs);
        self.organizations.remove(id);
        self.invitations.retain(|_, invitation| invitation.organization != id);
        self.left.retain(|pair| pair.0 != id);
    }

    /// Makes a user a member and returns the id of the membership, always a new one; a user who is a member already
    /// stays as it is, and the id of that membership is returned.
    ///
    /// # Panics
    ///
    /// If the organization or the user does not exist.
    pub fn add_member(&mut self, org: &str, user: &str, role: &str) -> String {
        if let Some(member) = self.members.get(&(org.to_owned(), user.to_owned())) {
            return member.id.clone();
        }
        let now = self.tick();
        self.insert_member(org, user, role, now)
    }

    /// Gives a member another role.
    ///
    /// # Panics
    ///
    /// If the user is not a member.
    pub fn change_role(&mut self, org: &str, user: &str, role: &str) {
        let pair = (org.to_owned(), user.to_owned());
        let member = self.members.get(&pair).unwrap_or_else(|| panic!("{user} is not a member of {org}"));
        let (same, updated_at) = (member.role == role, member.updated_at);
        // A tie must differ in content: without another role this is an ordinary update.
        let (updated_at, stamp) = if same { (self.tick(), None) } else { self.next_version(updated_at) };
        let member = self.members.get_mut(&pair).expect("looked up above");
        role.clone_into(&mut member.role);
        member.updated_at = updated_at;
        let data = self.membership_snapshot(org, user);
        self.emit_version("organizationMembership.updated", updated_at, stamp, data);
    }

    /// Ends a membership.
    ///
    /// # Panics
    ///
    /// If the user is not a member.
    pub fn remove_member(&mut self, org: &str, user: &str) {
        let now = self.tick();
        let pair = (org.to_owned(), user.to_owned());
        assert!(self.members.contains_key(&pair), "{user} is not a member of {org}");
        let last = self.last_snapshot(&pair, now);
        self.forget_member(&pair);
        self.left.push(pair);
        self.emit("organizationMembership.deleted", now, last);
    }

    /// Invites an address to an organization and returns the id of the invitation.
    ///
    /// # Panics
    ///
    /// If the organization does not exist.
    pub fn invite(&mut self, org: &str, email: &str, role: &str) -> String {
        let now = self.tick();
        let organization = self.organization(org).id.clone();
        let invitation = Invitation {
            id: self.dice.id("orginv"),
            organization,
            email: email.to_owned(),
            role: role.to_owned(),
            status: "pending",
            accepted_by: None,
            created_at: now,
            updated_at: now,
        };
        let id = invitation.id.clone();
        self.invitations.insert(id.clone(), invitation);
        self.organization_mut(org).pending_count += 1;
        self.emit("organizationInvitation.created", now, self.invitation_snapshot(&id));
        id
    }

    /// Accepts a pending invitation for a user, who becomes a member with the role offered unless it is one already.
    ///
    /// # Panics
    ///
    /// If the invitation is not pending, or the user does not exist.
    pub fn accept_invitation(&mut self, invitation: &str, user: &str) {
        let user = self.user(user).id.clone();
        self.settle_invitation(invitation, "accepted", Some(user.clone()));
        let Invitation { organization, role, .. } = self.invitation(invitation).clone();
        if !self.members.contains_key(&(organization.clone(), user.clone())) {
            self.insert_member(&organization, &user, &role, self.now_ms);
        }
    }

    /// Takes a pending invitation back.
    ///
    /// # Panics
    ///
    /// If the invitation is not pending.
    pub fn revoke_invitation(&mut self, invitation: &str) {
        self.settle_invitation(invitation, "revoked", None);
    }

    fn settle_invitation(&mut self, id: &str, status: &'static str, accepted_by: Option<String>) {
        assert_eq!(self.invitation(id).status, "pending", "the invitation {id} is settled already");
        let now = self.tick();
        let invitation = self.invitations.get_mut(id).expect("looked up above");
        invitation.status = status;
        invitation.accepted_by = accepted_by;
        invitation.updated_at = now;
        let organization = invitation.organization.clone();
        self.organization_mut(&organization).pending_count -= 1;
        let event_type =
            if status == "accepted" { "organizationInvitation.accepted" } else { "organizationInvitation.revoked" };
        self.emit(event_type, now, self.invitation_snapshot(id));
    }

    fn insert_member(&mut self, org: &str, user: &str, role: &str, now: i64) -> String {
        assert!(self.users.contains_key(user), "no user {user}");
        let id = self.dice.id("orgmem");
        self.organization_mut(org).members_count += 1;
        let member = Member { id: id.clone(), role: role.to_owned(), created_at: now, updated_at: now };
        let pair = (org.to_owned(), user.to_owned());
        self.left.retain(|other| *other != pair);
        self.organizations_of.insert((pair.1.clone(), pair.0.clone()));
        self.members.insert(pair, member);
        self.emit("organizationMembership.created", now, self.membership_snapshot(org, user));
        id
    }

    /// The last snapshot of a membership that ends now; its `updated_at` is bumped or not.
    fn last_snapshot(&mut self, pair: &(String, String), now: i64) -> Value {
        self.organization_mut(&pair.0).members_count -= 1;
        let mut last = self.membership_snapshot(&pair.0, &pair.1);
        if self.dice.chance(50) {
            last["updated_at"] = json!(now);
        }
        last
    }

    fn forget_member(&mut self, pair: &(String, String)) {
        self.members.remove(pair);
        self.organizations_of.remove(&(pair.1.clone(), pair.0.clone()));
    }

    /// Emits a thin deletion, with or without those of the memberships that end with it, and forgets the memberships.
    fn delete_with_members(&mut self, event_type: &'static str, now: i64, data: Value, pairs: Vec<(String, String)>) {
        let mut children: Vec<Value> = pairs.iter().map(|pair| self.last_snapshot(pair, now)).collect();
        if !self.settings.child_events {
            children.clear();
        }
        let place = self.dice.below(children.len() + 1);
        let later = children.split_off(place);
        for child in children {
            self.emit("organizationMembership.deleted", now, child);
        }
        self.emit(event_type, now, data);
        for child in later {
            self.emit("organizationMembership.deleted", now, child);
        }
        for pair in pairs {
            self.forget_member(&pair);
        }
    }

    /// Moves the clock by at least a millisecond, and returns it.
    fn tick(&mut self) -> i64 {
        let step = if self.dice.chance(30) { 1 } else { self.dice.between(1, self.pace_ms) };
        self.now_ms += step;
        self.now_ms
    }

    /// The `updated_at` of the next version of an object, and the envelope timestamp if that is prescribed: a tie keeps
    /// the `updated_at`, and must be stamped after everything that may have carried the version before.
    fn next_version(&mut self, updated_at: i64) -> (i64, Option<i64>) {
        let now = self.tick();
        if !(self.settings.ties && self.dice.chance(25)) {
            return (now, None);
        }
        self.now_ms = now.max(self.latest_stamp + 1);
        (updated_at, Some(self.now_ms))
    }

    fn emit_version(&mut self, event_type: &'static str, updated_at: i64, stamp: Option<i64>, data: Value) {
        match stamp {
            Some(at_ms) => self.emit_at(event_type, at_ms, data),
            None => self.emit(event_type, updated_at, data),
        }
    }

    pub(crate) fn user(&self, id: &str) -> &User {
        self.users.get(id).unwrap_or_else(|| panic!("no user {id}"))
    }

    pub(crate) fn organization(&self, id: &str) -> &Organization {
        self.organizations.get(id).unwrap_or_else(|| panic!("no organization {id}"))
    }

    fn organization_mut(&mut self, id: &str) -> &mut Organization {
        self.organizations.get_mut(id).unwrap_or_else(|| panic!("no organization {id}"))
    }

    pub(crate) fn invitation(&self, id: &str) -> &Invitation {
        self.invitations.get(id).unwrap_or_else(|| panic!("no invitation {id}"))
    }

    pub(crate) fn is_member(&self, organization: &str, user: &str) -> bool {
        self.members.contains_key(&(organization.to_owned(), user.to_owned()))
    }

    /// The pairs of an organization's members.
    pub(crate) fn members_of(&self, organization: &str) -> impl Iterator<Item = (String, String)> {
        let first = (organization.to_owned(), String::new());
        self.members.range(first..).map(|(pair, _)| pair.clone()).take_while(move |pair| pair.0 == organization)
    }

    /// The organizations of which a user is a member.
    pub(crate) fn organizations_of(&self, user: &str) -> impl Iterator<Item = String> {
        let first = (user.to_owned(), String::new());
        self.organizations_of.range(first..).take_while(move |pair| pair.0 == user).map(|pair| pair.1.clone())
    }
}

fn some_text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// A name, or null, or (rarely) an empty text, which Clerk allows too.
fn maybe_name(dice: &mut Dice, friendly: bool, name: fn(&mut Dice, bool) -> String) -> Option<String> {
    match dice.below(10) {
        0 if !friendly => None,
        1 if !friendly => Some(String::new()),
        _ => Some(name(dice, friendly)),
    }
}

fn new_email(dice: &mut Dice, address: &str, now: i64) -> Email {
    Email { id: dice.id("idn"), address: address.to_owned(), verified: dice.chance(75), created_at: now }
}

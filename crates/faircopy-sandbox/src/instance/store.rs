//! What exists, and what it is found by. Every row comes and goes through here, whoever changes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::Event;
use super::dice::Dice;
use super::document::{Document, Template};
use super::options::Options;
use super::refusal::Refusal;
use super::roles::Roles;
use super::table::{Groups, Id, Row, Table};

/// What a membership belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    pub(crate) organization: Id,
    pub(crate) user: Id,
}

/// What an invitation or a session belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Owner(pub(crate) Id);

/// An instance.
#[derive(Debug, Clone)]
pub struct Instance {
    pub(crate) id: String,
    pub(crate) dice: Dice,
    pub(crate) options: Options,
    pub(crate) roles: Roles,
    pub(crate) users: Table<()>,
    pub(crate) organizations: Table<()>,
    pub(crate) memberships: Table<Pair>,
    pub(crate) invitations: Table<Owner>,
    pub(crate) sessions: Table<Owner>,
    /// Users by what nobody else may have: `email_address:ada@example.com`.
    pub(crate) identifiers: BTreeMap<Box<str>, Id>,
    /// Organizations by slug.
    pub(crate) slugs: BTreeMap<Box<str>, Id>,
    pub(crate) members_of: Groups,
    pub(crate) memberships_of: Groups,
    pub(crate) invitations_of: Groups,
    pub(crate) sessions_of: Groups,
    pairs: BTreeMap<(Id, Id), Id>,
    /// When something was removed last: what is made later is younger.
    pub(crate) removed_at: i64,
    pub(crate) events: Vec<Event>,
}

/// A kind of row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A user.
    User,
    /// An organization.
    Organization,
    /// A membership.
    Membership,
    /// An invitation to an organization.
    Invitation,
    /// A session.
    Session,
}

impl Kind {
    /// Every kind; what a row belongs to comes before it.
    pub const ALL: [Self; 5] = [Self::User, Self::Organization, Self::Membership, Self::Invitation, Self::Session];
}

/// What of an instance is no row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remainder {
    dice: Dice,
    options: Options,
    removed_at: i64,
}

/// A row as it is written down: what it is now, or that it is gone.
#[derive(Debug, Serialize, Deserialize)]
pub struct Put {
    /// Its kind.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// When it was made and changed, and its document; none if it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<(i64, i64, Box<RawValue>)>,
}

/// The identifiers of a user, of which nobody else may have one.
pub(crate) fn identifiers(user: &Document) -> Vec<Box<str>> {
    let mut found = Vec::new();
    let mut add = |kind: &str, value: Option<&str>| {
        if let Some(value) = value {
            found.push(identifier(kind, value));
        }
    };
    for (list, member) in [("email_addresses", "email_address"), ("phone_numbers", "phone_number")] {
        for item in user.get(list).and_then(Value::as_array).into_iter().flatten() {
            add(member, item[member].as_str());
        }
    }
    for member in ["username", "external_id"] {
        add(member, user.get(member).and_then(Value::as_str));
    }
    found
}

/// How an identifier is found: all but external ids without regard to case.
pub(crate) fn identifier(kind: &str, value: &str) -> Box<str> {
    let value = if kind == "external_id" { value.to_owned() } else { value.to_lowercase() };
    format!("{kind}:{value}").into()
}

/// The text of a member.
pub(crate) fn text_of<'a>(document: &'a Document, member: &str) -> Option<&'a str> {
    document.get(member).and_then(Value::as_str)
}

/// The number of a member; 0 if there is none.
pub(crate) fn number_of(document: &Document, member: &str) -> i64 {
    document.get(member).and_then(Value::as_i64).unwrap_or_default()
}

/// Moves the time of a document's last change: to now, and by at least a millisecond.
pub(crate) fn touch(document: &mut Document, now: i64) -> i64 {
    let at = now.max(number_of(document, "updated_at") + 1);
    document.insert("updated_at".into(), at.into());
    at
}

impl Instance {
    /// An empty instance. The seed makes ids.
    #[must_use]
    pub fn new(id: &str, seed: u64, options: Options) -> Self {
        Self {
            id: id.to_owned(),
            dice: Dice::new(seed),
            options,
            roles: Roles::default(),
            users: Table::new(Template::user()),
            organizations: Table::new(Template::organization()),
            memberships: Table::new(Template::membership()),
            invitations: Table::new(Template::invitation()),
            sessions: Table::new(Template::session()),
            identifiers: BTreeMap::new(),
            slugs: BTreeMap::new(),
            members_of: Groups::default(),
            memberships_of: Groups::default(),
            invitations_of: Groups::default(),
            sessions_of: Groups::default(),
            pairs: BTreeMap::new(),
            removed_at: i64::MIN,
            events: Vec::new(),
        }
    }

    /// Its id, which is also the name of its key.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What is set about it.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Sets it.
    pub fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// What of it is no row.
    #[must_use]
    pub fn remainder(&self) -> Remainder {
        Remainder { dice: self.dice, options: self.options.clone(), removed_at: self.removed_at }
    }

    /// Takes what is no row as it was written down.
    pub fn set_remainder(&mut self, remainder: Remainder) {
        Remainder { dice: self.dice, options: self.options, removed_at: self.removed_at } = remainder;
    }

    /// The events of what changed since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// How many rows there are of a kind.
    #[must_use]
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::User => self.users.len(),
            Kind::Organization => self.organizations.len(),
            Kind::Membership => self.memberships.len(),
            Kind::Invitation => self.invitations.len(),
            Kind::Session => self.sessions.len(),
        }
    }

    pub(crate) fn emit(&mut self, kind: &'static str, data: Document, at_ms: i64) {
        self.events.push(Event { kind, data: Value::Object(data), at_ms });
    }

    /// When something that is made now was made: after whatever was removed.
    pub(crate) fn birth(&self, now: i64) -> i64 {
        now.max(self.removed_at.saturating_add(1))
    }

    /// When something that last changed then is removed.
    pub(crate) fn removal(&mut self, updated_at: i64, now: i64) -> i64 {
        let at = now.max(updated_at + 1);
        self.removed_at = self.removed_at.max(at);
        at
    }

    pub(crate) fn user(&self, id: &str) -> Result<Document, Refusal> {
        self.users.get(id).ok_or_else(|| Refusal::no_user(id))
    }

    /// Refuses what somebody else than this user has.
    pub(crate) fn check_free(&self, kind: &str, value: &str, for_user: &str) -> Result<(), Refusal> {
        match self.identifiers.get(&identifier(kind, value)) {
            Some(holder) if &**holder != for_user => Err(Refusal::taken(kind, &kind.replace('_', " "))),
            _ => Ok(()),
        }
    }

    pub(crate) fn put_user(&mut self, user: Document) -> Id {
        let old = text_of(&user, "id").and_then(|id| self.users.get(id));
        for identifier in old.iter().flat_map(identifiers) {
            self.identifiers.remove(&identifier);
        }
        let new = identifiers(&user);
        let id = self.users.put(user, ());
        self.identifiers.extend(new.into_iter().map(|identifier| (identifier, id.clone())));
        id
    }

    pub(crate) fn remove_user(&mut self, id: &str) {
        for identifier in self.users.get(id).iter().flat_map(identifiers) {
            self.identifiers.remove(&identifier);
        }
        self.users.remove(id);
    }

    pub(crate) fn put_organization(&mut self, organization: Document) -> Id {
        let old = text_of(&organization, "id").and_then(|id| self.organizations.get(id));
        if let Some(slug) = old.as_ref().and_then(|old| text_of(old, "slug")) {
            self.slugs.remove(slug);
        }
        let slug: Option<Box<str>> = text_of(&organization, "slug").map(Into::into);
        let id = self.organizations.put(organization, ());
        if let Some(slug) = slug {
            self.slugs.insert(slug, id.clone());
        }
        id
    }

    pub(crate) fn remove_organization(&mut self, id: &str) {
        if let Some(slug) = self.organizations.get(id).as_ref().and_then(|old| text_of(old, "slug")) {
            self.slugs.remove(slug);
        }
        self.organizations.remove(id);
    }

    /// The membership of a user in an organization.
    pub(crate) fn membership_id(&self, organization: &str, user: &str) -> Option<Id> {
        let (organization, _) = self.organizations.entry(organization)?;
        let (user, _) = self.users.entry(user)?;
        self.pairs.get(&(organization.clone(), user.clone())).cloned()
    }

    /// Puts a membership of an organization and a user that exist.
    pub(crate) fn put_membership(&mut self, membership: Document) {
        let part = |member: &str| text_of(&membership, member).unwrap_or_default().to_owned();
        let (Some((organization, _)), Some((user, _))) =
            (self.organizations.entry(&part("organization_id")), self.users.entry(&part("user_id")))
        else {
            return;
        };
        let (organization, user) = (organization.clone(), user.clone());
        self.forget_membership(&part("id"));
        let at = number_of(&membership, "created_at");
        let id = self.memberships.put(membership, Pair { organization: organization.clone(), user: user.clone() });
        self.members_of.add(&organization, at, &id);
        self.memberships_of.add(&user, at, &id);
        self.pairs.insert((organization, user), id);
    }

    pub(crate) fn remove_membership(&mut self, id: &str) {
        self.forget_membership(id);
        self.memberships.remove(id);
    }

    fn forget_membership(&mut self, id: &str) {
        if let Some((id, row)) = self.memberships.entry(id) {
            let Pair { organization, user } = &row.keys;
            self.members_of.remove(organization, row.created_at, id);
            self.memberships_of.remove(user, row.created_at, id);
            self.pairs.remove(&(organization.clone(), user.clone()));
        }
    }

    pub(crate) fn put_invitation(&mut self, invitation: Document) {
        let owner = Id::from(text_of(&invitation, "organization_id").unwrap_or_default());
        put_owned(&mut self.invitations, &mut self.invitations_of, &owner, invitation);
    }

    pub(crate) fn remove_invitation(&mut self, id: &str) {
        remove_owned(&mut self.invitations, &mut self.invitations_of, id);
    }

    pub(crate) fn put_session(&mut self, session: Document) {
        let owner = Id::from(text_of(&session, "user_id").unwrap_or_default());
        put_owned(&mut self.sessions, &mut self.sessions_of, &owner, session);
    }

    pub(crate) fn remove_session(&mut self, id: &str) {
        remove_owned(&mut self.sessions, &mut self.sessions_of, id);
    }

    /// Whether a row changed since [`Instance::take_puts`].
    #[must_use]
    pub fn is_touched(&self) -> bool {
        self.users.is_touched()
            || self.organizations.is_touched()
            || self.memberships.is_touched()
            || self.invitations.is_touched()
            || self.sessions.is_touched()
    }

    /// The rows that changed since the last call, each as it is now.
    pub fn take_puts(&mut self) -> Vec<Put> {
        let touched: [(Kind, BTreeSet<Id>); 5] = [
            (Kind::User, self.users.take_touched()),
            (Kind::Organization, self.organizations.take_touched()),
            (Kind::Membership, self.memberships.take_touched()),
            (Kind::Invitation, self.invitations.take_touched()),
            (Kind::Session, self.sessions.take_touched()),
        ];
        touched
            .into_iter()
            .flat_map(|(kind, ids)| ids.into_iter().map(move |id| (kind, id)))
            .map(|(kind, id)| self.as_put(kind, &id))
            .collect()
    }

    /// Every row, in the order in which they can be applied again.
    pub fn puts(&self) -> impl Iterator<Item = Put> {
        Kind::ALL.into_iter().flat_map(move |kind| self.ids(kind).map(move |id| self.as_put(kind, id)))
    }

    fn ids(&self, kind: Kind) -> Box<dyn Iterator<Item = &Id> + '_> {
        use super::table::Time::Created;
        match kind {
            Kind::User => self.users.by(Created, false),
            Kind::Organization => self.organizations.by(Created, false),
            Kind::Membership => self.memberships.by(Created, false),
            Kind::Invitation => self.invitations.by(Created, false),
            Kind::Session => self.sessions.by(Created, false),
        }
    }

    fn as_put(&self, kind: Kind, id: &str) -> Put {
        fn written<K>(row: Option<&Row<K>>) -> Option<(i64, i64, Box<RawValue>)> {
            row.map(|row| (row.created_at, row.updated_at, row.text.clone()))
        }
        let row = match kind {
            Kind::User => written(self.users.row(id)),
            Kind::Organization => written(self.organizations.row(id)),
            Kind::Membership => written(self.memberships.row(id)),
            Kind::Invitation => written(self.invitations.row(id)),
            Kind::Session => written(self.sessions.row(id)),
        };
        Put { kind, id: id.to_owned(), row }
    }

    /// Takes a row as it was written down. It emits nothing.
    pub fn apply(&mut self, put: &Put) {
        let Some((created_at, updated_at, text)) = &put.row else {
            return match put.kind {
                Kind::User => self.remove_user(&put.id),
                Kind::Organization => self.remove_organization(&put.id),
                Kind::Membership => self.remove_membership(&put.id),
                Kind::Invitation => self.remove_invitation(&put.id),
                Kind::Session => self.remove_session(&put.id),
            };
        };
        let whole = |template: &Template| template.unpack(&put.id, *created_at, *updated_at, text);
        match put.kind {
            Kind::User => drop(self.put_user(whole(self.users.template()))),
            Kind::Organization => drop(self.put_organization(whole(self.organizations.template()))),
            Kind::Membership => self.put_membership(whole(self.memberships.template())),
            Kind::Invitation => self.put_invitation(whole(self.invitations.template())),
            Kind::Session => self.put_session(whole(self.sessions.template())),
        }
    }
}

fn put_owned(table: &mut Table<Owner>, groups: &mut Groups, owner: &Id, document: Document) {
    let at = number_of(&document, "created_at");
    if let Some((id, row)) = text_of(&document, "id").and_then(|id| table.entry(id)) {
        groups.remove(&row.keys.0, row.created_at, id);
    }
    let id = table.put(document, Owner(owner.clone()));
    groups.add(owner, at, &id);
}

fn remove_owned(table: &mut Table<Owner>, groups: &mut Groups, id: &str) {
    let removed: Option<(Id, Arc<Row<Owner>>)> = table.entry(id).map(|(id, _)| id.clone()).zip(table.remove(id));
    if let Some((id, row)) = removed {
        groups.remove(&row.keys.0, row.created_at, &id);
    }
}

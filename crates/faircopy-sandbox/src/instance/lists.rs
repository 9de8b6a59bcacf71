//! Lists: which rows, in which order, and which part of them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::document::Document;
use super::invitations;
use super::memberships::identifier_of;
use super::organizations::Include;
use super::query::{Order, Page, Query, Signed};
use super::refusal::Refusal;
use super::sessions;
use super::store::{Instance, identifier, number_of, text_of};
use super::table::{Id, Table, Time};

/// By what users are ordered.
const USER_ORDERS: &[&str] = &[
    "created_at",
    "updated_at",
    "email_address",
    "web3wallet",
    "first_name",
    "last_name",
    "phone_number",
    "username",
    "last_active_at",
    "last_sign_in_at",
];
/// By what organizations are ordered.
const ORGANIZATION_ORDERS: &[&str] = &["created_at", "name", "members_count"];
/// By what memberships are ordered: all but one by their user.
const MEMBERSHIP_ORDERS: &[&str] =
    &["created_at", "phone_number", "email_address", "first_name", "last_name", "username"];
/// By what invitations are ordered.
const INVITATION_ORDERS: &[&str] = &["created_at", "email_address"];
/// By what roles and permissions are ordered.
const ROLE_ORDERS: &[&str] = &["created_at", "name", "key"];
/// The statuses of an invitation.
const STATUSES: &[&str] = &["pending", "accepted", "revoked", "expired"];

/// A part of a list, and how long the whole is.
pub struct Listed {
    /// The documents.
    pub data: Vec<Document>,
    /// How many there are.
    pub total: usize,
}

/// By what something is ordered: nothing comes last.
type SortKey = (bool, String, i64);

fn key_of(value: &Value) -> SortKey {
    match value {
        Value::String(text) => (false, text.to_lowercase(), 0),
        Value::Number(number) => (false, String::new(), number.as_i64().unwrap_or_default()),
        _ => (true, String::new(), 0),
    }
}

/// The member of a user that an order or a filter means.
fn user_member(user: &Document, field: &str) -> Value {
    let first = |list: &str, member: &str| {
        let items = user.get(list).and_then(Value::as_array);
        items.and_then(|items| items.first()).map(|item| item[member].clone()).unwrap_or_default()
    };
    match field {
        "email_address" => match identifier_of(user) {
            Value::String(text) if text.contains('@') => Value::String(text),
            _ => first("email_addresses", field),
        },
        "phone_number" => first("phone_numbers", field),
        "web3wallet" => first("web3_wallets", "web3_wallet"),
        _ => user.get(field).cloned().unwrap_or_default(),
    }
}

/// The page of ids, and how many there are of those that match.
fn cut<'a>(ids: impl Iterator<Item = &'a Id>, page: Page, mut matches: impl FnMut(&Id) -> bool) -> (Vec<Id>, usize) {
    let (mut found, mut total) = (Vec::new(), 0);
    for id in ids.filter(|id| matches(id)) {
        if total >= page.offset && found.len() < page.limit {
            found.push(id.clone());
        }
        total += 1;
    }
    (found, total)
}

/// The ids in the order of a member, the equal ones by their ids.
fn sorted<'a>(ids: impl Iterator<Item = &'a Id>, order: Order, member: impl Fn(&Id) -> Value) -> Vec<Id> {
    let mut keyed: Vec<(SortKey, &Id)> = ids.map(|id| (key_of(&member(id)), id)).collect();
    keyed.sort();
    if order.descending {
        keyed.reverse();
    }
    keyed.into_iter().map(|(_, id)| id.clone()).collect()
}

fn allowed(signed: &Signed<'_>, value: &str) -> bool {
    (signed.with.is_empty() || signed.with.contains(&value)) && !signed.without.contains(&value)
}

/// What of a user a request filters by: the parts that need no document are settled at once.
struct UserFilter<'q> {
    /// The users that may be, where few may.
    candidates: Option<BTreeSet<Id>>,
    excluded: BTreeSet<Id>,
    /// Texts that must be somewhere in a member.
    texts: Vec<(&'static [&'static str], String)>,
    /// Bounds of times: the member, whether it must be later, and than what.
    times: Vec<(&'static str, bool, i64)>,
    banned: Option<bool>,
    wallets: Vec<&'q str>,
}

impl<'q> UserFilter<'q> {
    fn read(instance: &Instance, query: &'q Query, organizations: bool) -> Result<Self, Refusal> {
        let mut filter = Self {
            candidates: None,
            excluded: BTreeSet::new(),
            texts: Vec::new(),
            times: Vec::new(),
            banned: None,
            wallets: query.all("web3_wallet")?,
        };
        filter.take(&query.signed("user_id")?, |id| {
            instance.users.entry(id).map(|(id, _)| id.clone()).into_iter().collect()
        });
        let external = query.signed("external_id")?;
        filter.take(&external, |id| {
            instance.identifiers.get(&identifier("external_id", id)).cloned().into_iter().collect()
        });
        for name in ["email_address", "phone_number", "username"] {
            let with = Signed { with: query.all(name)?, without: Vec::new() };
            filter
                .take(&with, |value| instance.identifiers.get(&identifier(name, value)).cloned().into_iter().collect());
        }
        if organizations {
            filter.take(&query.signed("organization_id")?, |id| instance.users_of(id));
        }
        for (name, members) in [
            ("query", &["id", "email_addresses", "phone_numbers", "username", "first_name", "last_name"][..]),
            ("email_address_query", &["email_addresses"][..]),
            ("phone_number_query", &["phone_numbers"][..]),
            ("username_query", &["username"][..]),
            ("name_query", &["first_name", "last_name"][..]),
        ] {
            filter.texts.extend(query.first(name).map(|text| (members, text.to_lowercase())));
        }
        for (member, before, after) in [
            ("created_at", "created_at_before", "created_at_after"),
            ("last_active_at", "last_active_at_before", "last_active_at_after"),
            ("last_sign_in_at", "last_sign_in_at_before", "last_sign_in_at_after"),
        ] {
            filter.times.extend(query.number(before)?.map(|bound| (member, false, bound)));
            filter.times.extend(query.number(after)?.map(|bound| (member, true, bound)));
        }
        // An older name of `last_active_at_after`.
        filter.times.extend(query.number("last_active_at_since")?.map(|bound| ("last_active_at", true, bound)));
        if query.first("banned").is_some() {
            filter.banned = Some(query.flag("banned")?);
        }
        Ok(filter)
    }

    fn take(&mut self, signed: &Signed<'_>, find: impl Fn(&str) -> Vec<Id>) {
        if !signed.with.is_empty() {
            let found: BTreeSet<Id> = signed.with.iter().flat_map(|value| find(value)).collect();
            self.candidates = Some(match self.candidates.take() {
                Some(before) => before.intersection(&found).cloned().collect(),
                None => found,
            });
        }
        self.excluded.extend(signed.without.iter().flat_map(|value| find(value)));
    }

    /// Whether no document needs to be read to know who matches.
    fn needs_no_document(&self) -> bool {
        self.texts.is_empty() && self.times.is_empty() && self.banned.is_none() && self.wallets.is_empty()
    }

    /// Whether nobody is left out.
    fn is_empty(&self) -> bool {
        self.needs_no_document() && self.candidates.is_none() && self.excluded.is_empty()
    }

    fn matches(&self, instance: &Instance, id: &Id) -> bool {
        let may = self.candidates.as_ref().is_none_or(|candidates| candidates.contains(id));
        if !may || self.excluded.contains(id) {
            return false;
        }
        self.needs_no_document() || instance.users.get(id).is_some_and(|user| self.fits(&user))
    }

    fn fits(&self, user: &Document) -> bool {
        let has = |member: &str, text: &str| match user.get(member) {
            Some(Value::String(value)) => value.to_lowercase().contains(text),
            Some(Value::Array(items)) => items.iter().any(|item| {
                let value = item.get("email_address").or_else(|| item.get("phone_number")).and_then(Value::as_str);
                value.is_some_and(|value| value.to_lowercase().contains(text))
            }),
            _ => false,
        };
        let full_name = ["first_name", "last_name"].map(|name| text_of(user, name).unwrap_or_default()).join(" ");
        let texts = self.texts.iter().all(|(members, text)| {
            let by_name = members.contains(&"first_name") && full_name.to_lowercase().contains(text);
            by_name || members.iter().any(|member| has(member, text))
        });
        let times = self.times.iter().all(|(member, later, bound)| {
            let at = user.get(*member).and_then(Value::as_i64);
            at.is_some_and(|at| if *later { at > *bound } else { at < *bound })
        });
        let banned = self.banned.is_none_or(|banned| user.get("banned") == Some(&banned.into()));
        texts && times && banned && self.wallets.is_empty()
    }
}

impl Instance {
    /// `GET /v1/organizations/{id}`: by id or slug.
    pub fn get_organization(&self, id_or_slug: &str, query: &Query) -> Result<Document, Refusal> {
        self.organization_with(id_or_slug, Include::read(query)?)
    }

    /// `GET /v1/organizations/{id}/invitations/{id}`.
    pub fn get_invitation(&self, organization: &str, id: &str, now: i64) -> Result<Document, Refusal> {
        self.invitation_of(organization, id)?;
        self.invitation_document(id, false, now).ok_or_else(Refusal::no_organization)
    }

    fn users_of(&self, organization: &str) -> Vec<Id> {
        let members = self.members_of.of(organization, false);
        members.filter_map(|id| self.memberships.row(id)).map(|row| row.keys.user.clone()).collect()
    }

    /// `GET /v1/users`.
    pub fn list_users(&self, query: &Query) -> Result<Vec<Document>, Refusal> {
        let page = query.page()?;
        let order = query.order(USER_ORDERS, "-created_at")?;
        let cursor = query.first("starting_after").filter(|_| self.options.cursors);
        if cursor.is_some() && order.field != "created_at" {
            return Err(Refusal::value("order_by", order.field));
        }
        if cursor.is_some() && page.offset > 0 {
            return Err(Refusal::out_of_bounds("offset", "0 with starting_after"));
        }
        let filter = UserFilter::read(self, query, true)?;
        let sorted_ids: Vec<Id>;
        let ids: Box<dyn Iterator<Item = &Id> + '_> = match (order.field, cursor) {
            (_, Some(cursor)) => {
                self.users.after(cursor, order.descending).ok_or_else(|| Refusal::value("starting_after", cursor))?
            }
            ("created_at", None) => self.users.by(Time::Created, order.descending),
            ("updated_at", None) => self.users.by(Time::Updated, order.descending),
            (field, None) => {
                let member = |id: &Id| self.users.get(id).map(|user| user_member(&user, field)).unwrap_or_default();
                sorted_ids = sorted(self.users.by(Time::Created, false), order, member);
                Box::new(sorted_ids.iter())
            }
        };
        let page: Vec<&Id> = ids.filter(|id| filter.matches(self, id)).skip(page.offset).take(page.limit).collect();
        Ok(page.into_iter().filter_map(|id| self.users.get(id)).collect())
    }

    /// `GET /v1/users/count`.
    pub fn count_users(&self, query: &Query) -> Result<usize, Refusal> {
        let filter = UserFilter::read(self, query, true)?;
        if filter.is_empty() {
            return Ok(self.users.len());
        }
        Ok(self.users.by(Time::Created, false).filter(|id| filter.matches(self, id)).count())
    }

    /// `GET /v1/organizations`.
    pub fn list_organizations(&self, query: &Query) -> Result<Listed, Refusal> {
        let (page, order) = (query.page()?, query.order(ORGANIZATION_ORDERS, "-created_at")?);
        let include = Include::read(query)?;
        let (named, users) = (query.signed("organization_id")?, query.signed("user_id")?);
        let text = query.first("query").map(str::to_lowercase);
        let has = |user: &&str, id: &Id| self.membership_id(id, user).is_some();
        let matches = |id: &Id| {
            let with = users.with.is_empty() || users.with.iter().any(|user| has(user, id));
            allowed(&named, id)
                && with
                && !users.without.iter().any(|user| has(user, id))
                && self.is_called(id, text.as_deref())
        };
        let (ids, total) = if order.field == "created_at" {
            cut(self.organizations.by(Time::Created, order.descending), page, matches)
        } else {
            let member = |id: &Id| match order.field {
                "members_count" => self.members_of.count(id).into(),
                field => self.organizations.get(id).and_then(|found| found.get(field).cloned()).unwrap_or_default(),
            };
            cut(sorted(self.organizations.by(Time::Created, false), order, member).iter(), page, matches)
        };
        let data = ids.iter().filter_map(|id| self.organization_with(id, include).ok()).collect();
        Ok(Listed { data, total })
    }

    /// Whether an organization is meant by a text: its whole id, or a part of its name or slug.
    fn is_called(&self, id: &Id, text: Option<&str>) -> bool {
        let Some(text) = text else { return true };
        let Some(organization) = self.organizations.get(id) else { return false };
        let part = |member: &str| text_of(&organization, member).unwrap_or_default().to_lowercase().contains(text);
        id.to_lowercase() == text || part("name") || part("slug")
    }

    /// `GET /v1/organization_memberships`.
    pub fn list_all_memberships(&self, query: &Query) -> Result<Listed, Refusal> {
        let ids = |descending| self.memberships.by(Time::Created, descending);
        self.memberships_among(query, &ids, self.memberships.len(), |_| true, true)
    }

    /// `GET /v1/organizations/{id}/memberships`.
    pub fn list_members(&self, organization: &str, query: &Query) -> Result<Listed, Refusal> {
        self.organization(organization)?;
        let filter = UserFilter::read(self, query, false)?;
        let roles = query.all("role")?;
        let everybody = filter.is_empty() && roles.is_empty();
        let matches = |id: &Id| {
            let Some(row) = self.memberships.row(id) else { return false };
            let role = || {
                self.memberships
                    .get(id)
                    .is_some_and(|found| text_of(&found, "role").is_some_and(|role| roles.contains(&role)))
            };
            filter.matches(self, &row.keys.user) && (roles.is_empty() || role())
        };
        let ids = |descending| self.members_of.of(organization, descending);
        self.memberships_among(query, &ids, self.members_of.count(organization), matches, everybody)
    }

    /// `GET /v1/users/{id}/organization_memberships`.
    pub fn list_memberships_of(&self, user: &str, query: &Query) -> Result<Listed, Refusal> {
        self.user(user)?;
        let page = query.page()?;
        let (ids, total) = cut(self.memberships_of.of(user, true), page, |_| true);
        Ok(Listed { data: ids.iter().filter_map(|id| self.membership_document(id)).collect(), total })
    }

    fn memberships_among<'a>(
        &self,
        query: &Query,
        ids: &dyn Fn(bool) -> Box<dyn Iterator<Item = &'a Id> + 'a>,
        count: usize,
        matches: impl Fn(&Id) -> bool,
        everybody: bool,
    ) -> Result<Listed, Refusal> {
        let (page, order) = (query.page()?, query.order(MEMBERSHIP_ORDERS, "-created_at")?);
        let (ids, total) = match (order.field, everybody) {
            ("created_at", true) => {
                (ids(order.descending).skip(page.offset).take(page.limit).cloned().collect(), count)
            }
            ("created_at", false) => cut(ids(order.descending), page, matches),
            (field, _) => {
                let member = |id: &Id| {
                    let user = self.memberships.row(id).and_then(|row| self.users.get(&row.keys.user));
                    user.map(|user| user_member(&user, field)).unwrap_or_default()
                };
                cut(sorted(ids(false), order, member).iter(), page, matches)
            }
        };
        Ok(Listed { data: ids.iter().filter_map(|id: &Id| self.membership_document(id)).collect(), total })
    }

    /// `GET /v1/organization_invitations`.
    pub fn list_all_invitations(&self, query: &Query, now: i64) -> Result<Listed, Refusal> {
        self.invitations_among(query, &|descending| self.invitations.by(Time::Created, descending), true, now)
    }

    /// `GET /v1/organizations/{id}/invitations`.
    pub fn list_invitations(&self, organization: &str, query: &Query, now: i64) -> Result<Listed, Refusal> {
        self.organization(organization)?;
        self.invitations_among(query, &|descending| self.invitations_of.of(organization, descending), false, now)
    }

    /// `GET /v1/users/{id}/organization_invitations`: those to one of the user's addresses.
    pub fn list_invitations_to(&self, user: &str, query: &Query, now: i64) -> Result<Listed, Refusal> {
        let user = self.user(user)?;
        let emails = user.get("email_addresses").and_then(Value::as_array).cloned().unwrap_or_default();
        let theirs = |id: &&Id| {
            let invitation = self.invitations.get(id);
            let email = invitation.as_ref().and_then(|found| text_of(found, "email_address"));
            emails.iter().any(|own| own["email_address"].as_str() == email)
        };
        let ids = |descending| -> Box<dyn Iterator<Item = &Id> + '_> {
            Box::new(self.invitations.by(Time::Created, descending).filter(theirs))
        };
        self.invitations_among(query, &ids, true, now)
    }

    fn invitations_among<'a>(
        &self,
        query: &Query,
        ids: &dyn Fn(bool) -> Box<dyn Iterator<Item = &'a Id> + 'a>,
        organization: bool,
        now: i64,
    ) -> Result<Listed, Refusal> {
        let (page, order) = (query.page()?, query.order(INVITATION_ORDERS, "-created_at")?);
        let statuses = query.all("status")?;
        if let Some(unknown) = statuses.iter().find(|status| !STATUSES.contains(status)) {
            return Err(Refusal::value("status", unknown));
        }
        let (email, text) = (query.first("email_address"), query.first("query").map(str::to_lowercase));
        let matches = |id: &Id| {
            let Some(invitation) = self.invitations.get(id) else { return false };
            let address = text_of(&invitation, "email_address").unwrap_or_default();
            (statuses.is_empty() || statuses.contains(&invitations::status_at(&invitation, now)))
                && email.is_none_or(|email| email.eq_ignore_ascii_case(address))
                && text.as_ref().is_none_or(|text| address.contains(text))
        };
        let (ids, total) = if order.field == "created_at" {
            cut(ids(order.descending), page, matches)
        } else {
            let member = |id: &Id| {
                self.invitations.get(id).and_then(|found| found.get(order.field).cloned()).unwrap_or_default()
            };
            cut(sorted(ids(false), order, member).iter(), page, matches)
        };
        let data = ids.iter().filter_map(|id| self.invitation_document(id, organization, now)).collect();
        Ok(Listed { data, total })
    }

    /// `GET /v1/sessions`.
    pub fn list_sessions(&self, query: &Query, now: i64) -> Result<Listed, Refusal> {
        let page = query.page()?;
        let (user, client) = (query.first("user_id"), query.first("client_id"));
        let statuses = query.all("status")?;
        let ids = match user {
            Some(user) => self.sessions_of.of(user, true),
            None => Table::by(&self.sessions, Time::Created, true),
        };
        let (ids, total) = cut(ids, page, |id| {
            self.sessions.get(id).is_some_and(|session| {
                let status = statuses.is_empty() || statuses.contains(&sessions::status_at(&session, now));
                status && client.is_none_or(|client| text_of(&session, "client_id") == Some(client))
            })
        });
        Ok(Listed { data: ids.iter().filter_map(|id| self.session_document(id, now).ok()).collect(), total })
    }

    /// `GET /v1/organization_roles`.
    pub fn list_roles(&self, query: &Query) -> Result<Listed, Refusal> {
        named(self.roles.documents(), query)
    }

    /// `GET /v1/organization_permissions`.
    pub fn list_permissions(&self, query: &Query) -> Result<Listed, Refusal> {
        named(self.roles.permission_documents(), query)
    }
}

impl Include {
    /// What a request asks for besides.
    pub(crate) fn read(query: &Query) -> Result<Self, Refusal> {
        Ok(Self {
            members_count: query.flag("include_members_count")?,
            missing_elevated: query.flag("include_missing_member_with_elevated_permissions")?,
        })
    }
}

/// A short list of things with names and keys.
fn named(mut all: Vec<Document>, query: &Query) -> Result<Listed, Refusal> {
    let (page, order) = (query.page()?, query.order(ROLE_ORDERS, "-created_at")?);
    if let Some(text) = query.first("query") {
        let part = |found: &Document, member: &str| text_of(found, member).is_some_and(|value| value.contains(text));
        all.retain(|found| text_of(found, "id") == Some(text) || part(found, "name") || part(found, "key"));
    }
    let key = |found: &Document| match order.field {
        "created_at" => (number_of(found, "created_at"), String::new()),
        field => (0, text_of(found, field).unwrap_or_default().to_owned()),
    };
    all.sort_by_cached_key(|found| (key(found), text_of(found, "id").unwrap_or_default().to_owned()));
    if order.descending {
        all.reverse();
    }
    let total = all.len();
    Ok(Listed { data: all.into_iter().skip(page.offset).take(page.limit).collect(), total })
}

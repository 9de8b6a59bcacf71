//! Changes at random: what an instance goes through while people use it.

use serde_json::{Value, json};

use super::dice::Dice;
use super::document::Document;
use super::names;
use super::refusal::Refusal;
use super::store::{Instance, text_of};
use super::table::{Id, Table, Time};

/// Fewer users or organizations than this are not deleted from: something must be left to change.
const FEW: usize = 4;
/// The role that an organization must not run out of.
const ADMIN: &str = "org:admin";

/// The members of a request's body.
fn body(members: Value) -> Document {
    if let Value::Object(members) = members { members } else { Document::new() }
}

/// One of the rows, in the order in which they were made.
fn any<K>(table: &Table<K>, dice: &mut Dice) -> Option<Id> {
    let place = dice.below(table.len());
    table.by(Time::Created, false).nth(place).cloned()
}

impl Instance {
    /// Lets one thing happen to a user, an organization, a member or an invitation. Whether it happened: what Clerk would
    /// refuse does not.
    pub fn change_at_random(&mut self, dice: &mut Dice, now: i64) -> bool {
        let changed = match dice.below(16) {
            0 | 1 => self.somebody_comes(dice, now),
            2..=4 => self.somebody_changes(dice, now),
            5 => self.somebody_goes(dice, now),
            6 => self.an_organization_is_made(dice, now),
            7 => self.an_organization_changes(dice, now),
            8 => self.an_organization_goes(dice, now),
            9 | 10 => self.somebody_joins(dice, now),
            11 | 12 => self.a_role_changes(dice, now),
            13 => self.somebody_leaves(dice, now),
            14 => self.somebody_is_invited(dice, now),
            _ => self.an_invitation_ends(dice, now),
        };
        matches!(changed, Ok(true))
    }

    fn somebody_comes(&mut self, dice: &mut Dice, now: i64) -> Result<bool, Refusal> {
        let (first, last) = names::person(dice);
        let email = format!("{}.{}@example.com", names::plain(first), dice.letters(8).to_lowercase());
        let user = json!({
            "first_name": first, "last_name": last, "email_address": [email], "skip_password_requirement": true,
        });
        self.create_user(&body(user), now).map(|_| true)
    }

    fn somebody_changes(&mut self, dice: &mut Dice, now: i64) -> Result<bool, Refusal> {
        let Some(user) = any(&self.users, dice) else { return Ok(false) };
        match dice.below(3) {
            0 => {
                let link = (dice.below(3) == 0).then(|| format!("ws_{}", dice.letters(6).to_lowercase()));
                let metadata = json!({ "public_metadata": { "plan": dice.letters(4), "workspaceId": link } });
                self.set_user_metadata(&user, &body(metadata), false, now)?;
            }
            1 => {
                let is_banned = self.users.get(&user).is_some_and(|user| user.get("banned") == Some(&true.into()));
                self.ban_user(&user, !is_banned, now)?;
            }
            _ => {
                self.update_user(&user, &body(json!({ "last_name": names::person(dice).1 })), false, now)?;
            }
        }
        Ok(true)
    }

    fn somebody_goes(&mut self, dice: &mut Dice, now: i64) -> Result<bool, Refusal> {
        match any(&self.users, dice) {
            Some(user) if self.users.len() >= FEW => self.delete_user(&user, now).map(|_| true),
            _ => Ok(false),
        }
    }

    fn an_organization_is_made(&mut self, dice: &mut Dice, now: i64) -> Result<bool, Refusal> {
        let Some(user) = any(&self.users, dice) else { return Ok(false) };
        let organization = json!({ "name": names::organization(dice), "created_by": &*user });
        self.create_organization(&body(organization), now).map(|_| true)
    }

    fn an_organization_changes(&mut self, dice: &mut Dice, now: i64) -> Result<bool, Refusal> {
        let Some(organization) = any(&self.organizations, dice) else { return Ok(false) };
        let change = json!({ "name": names::organization(dice) });
        self.update_organization(&organization, &body(change), false, now).map(|_| true)
    }

    fn an_organization_goes(&mut self, dice: &mut Dice, now: i64) -> Result<bool, Refusal> {
        match any(&self.organizations, dice) {
            Some(organization) if self.organizations.len() >= FEW => {
                self.delete_organization(&organization, now).map(|_| true)
            }
            _ => Ok(false),
        }
    }

    fn somebody_joins(&mut self, dice: &mut Dice, now: i64) -> Result<bool, Refusal> {
        let Some((organization, user)) = any(&self.organizations, dice).zip(any(&self.users, dice)) else {
            return Ok(false);
        };
        let membership = json!({ "user_id": &*user, "role": dice.pick(&[ADMIN, "org:member"]) });
        self.create_membership(&organization, &body(membership), now).map(|_| true)
    }

    fn a_role_changes(&mut self, dice: &mut Dice, now: i64) -> Result<bool, Refusal> {
        let Some((organization, user, role)) = self.any_member(dice) else { return Ok(false) };
        let other = if role == ADMIN { "org:member" } else { ADMIN };
        self.update_membership(&organization, &user, &body(json!({ "role": other })), now).map(|_| true)
    }

    fn somebody_leaves(&mut self, dice: &mut Dice, now: i64) -> Result<bool, Refusal> {
        let Some((organization, user, _)) = self.any_member(dice) else { return Ok(false) };
        self.delete_membership(&organization, &user, now).map(|_| true)
    }

    fn any_member(&self, dice: &mut Dice) -> Option<(Id, Id, String)> {
        let id = any(&self.memberships, dice)?;
        let pair = self.memberships.row(&id)?.keys.clone();
        let role = text_of(&self.memberships.get(&id)?, "role")?.to_owned();
        Some((pair.organization, pair.user, role))
    }

    fn somebody_is_invited(&mut self, dice: &mut Dice, now: i64) -> Result<bool, Refusal> {
        let Some(organization) = any(&self.organizations, dice) else { return Ok(false) };
        let email = format!("{}@guests.example", dice.letters(10).to_lowercase());
        let invitation = json!({ "email_address": email, "role": "org:member" });
        self.create_invitation(&organization, &body(invitation), now).map(|_| true)
    }

    fn an_invitation_ends(&mut self, dice: &mut Dice, now: i64) -> Result<bool, Refusal> {
        let Some(id) = any(&self.invitations, dice) else { return Ok(false) };
        let Some(organization) = self.invitations.row(&id).map(|row| row.keys.0.clone()) else { return Ok(false) };
        match (dice.below(2), any(&self.users, dice)) {
            (0, Some(user)) => self.accept_invitation(&id, &user, now).map(|_| true),
            _ => self.revoke_invitation(&organization, &id, &Document::new(), now).map(|_| true),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::instance::{Options, Population};

    #[test]
    fn everything_happens_and_the_same_seed_makes_the_same() {
        let live = |seed: u64| {
            let mut instance = Instance::new("ins_1", 1, Options::default());
            let now = 1_800_000_000_000;
            instance.populate(Population { users: 30, organizations: 5, members: 6, seed: 1 }, now);
            let mut dice = Dice::new(seed);
            let changes = (0..600).filter(|number| instance.change_at_random(&mut dice, now + number * 1_000)).count();
            let events: Vec<(&str, String)> =
                instance.take_events().into_iter().map(|event| (event.kind, event.data.to_string())).collect();
            (changes, events)
        };
        let (changes, events) = live(3);
        assert!(
            (400..=600).contains(&changes) && events.len() >= changes,
            "{changes} changes, {} events",
            events.len()
        );
        let kinds: BTreeSet<&str> = events.iter().map(|(kind, _)| *kind).collect();
        for subject in ["user", "organization", "organizationMembership"] {
            for what in ["created", "updated", "deleted"] {
                assert!(kinds.contains(format!("{subject}.{what}").as_str()), "{subject}.{what}: {kinds:?}");
            }
        }
        for what in ["created", "accepted", "revoked"] {
            assert!(kinds.contains(format!("organizationInvitation.{what}").as_str()), "{what}: {kinds:?}");
        }
        assert_eq!(live(3), (changes, events.clone()));
        assert_ne!(live(4).1, events);
    }
}

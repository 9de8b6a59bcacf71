//! Random changes, weighted so that short histories meet the hard cases.

use std::collections::BTreeMap;

use crate::names;
use crate::world::World;

type Pair = (String, String);

impl World {
    /// Makes one random change that Clerk would allow.
    ///
    /// The weights make the hard cases frequent in histories of 8 to 40 changes: a member who leaves and joins again
    /// soon after or never, an organization deleted with its members, a user deleted with memberships, a role changed,
    /// and one user updated again and again.
    pub fn advance(&mut self) {
        let absent = self.absent_pairs();
        let pending = self.pending_invitations();
        let crowded = self.crowded_organizations();
        let joined: Vec<String> =
            self.users.keys().filter(|id| self.organizations_of(id).next().is_some()).cloned().collect();
        let (users, organizations, members) = (self.users.len(), self.organizations.len(), self.members.len());
        let when = |possible: bool, weight: usize| if possible { weight } else { 0 };
        let weights = [
            if users < 2 { 60 } else { when(users < 8, 9) },
            if organizations == 0 { when(users > 0, 40) } else { when(organizations < 4, 5) },
            when(!absent.is_empty(), 14),
            when(members > 0, 13),
            when(!self.left.is_empty(), 26),
            when(members > 0, 10),
            when(users > 0, 15),
            when(organizations > 0, 7),
            when(!crowded.is_empty(), 5),
            when(!joined.is_empty() && users > 1, 5),
            when(organizations > 0 && pending.len() < 3, 4),
            when(!pending.is_empty(), 5),
            when(!pending.is_empty(), 2),
        ];
        match self.dice.weighted(&weights) {
            0 => self.somebody_signs_up(),
            1 => {
                let creator = self.some_user();
                let name = names::organization_name(&mut self.dice, self.friendly);
                self.create_organization(&name, &creator);
            }
            2 => {
                let (organization, user) = self.dice.pick(&absent).clone();
                let role = self.some_role();
                self.add_member(&organization, &user, role);
            }
            3 => {
                let (organization, user) = self.some_member();
                self.remove_member(&organization, &user);
                if self.dice.chance(30) {
                    self.left.pop();
                    self.barred.insert((organization, user));
                }
            }
            4 => {
                // Mostly the last who left, so that the old and the new membership are close in time.
                let last = self.left.len() - 1;
                let place = if self.dice.chance(70) { last } else { self.dice.below(last + 1) };
                let (organization, user) = self.left[place].clone();
                let role = self.some_role();
                self.add_member(&organization, &user, role);
            }
            5 => {
                let (organization, user) = self.some_member();
                let role = self.some_role();
                self.change_role(&organization, &user, role);
            }
            6 => {
                let user = self.restless_user();
                self.update_user(&user);
            }
            7 => {
                let organization = self.some_organization();
                self.update_organization(&organization);
            }
            8 => {
                let organization = self.dice.pick(&crowded).clone();
                self.delete_organization(&organization);
            }
            9 => {
                let user = self.dice.pick(&joined).clone();
                self.delete_user(&user);
            }
            10 => {
                let organization = self.some_organization();
                let email = names::email(&mut self.dice, "guest");
                let role = self.some_role();
                self.invite(&organization, &email, role);
            }
            11 => {
                let invitation = self.dice.pick(&pending).clone();
                let user = self.some_user();
                let pair = (self.invitation(&invitation).organization.clone(), user.clone());
                if self.barred.contains(&pair) {
                    self.revoke_invitation(&invitation);
                } else {
                    self.accept_invitation(&invitation, &user);
                }
            }
            _ => {
                let invitation = self.dice.pick(&pending).clone();
                self.revoke_invitation(&invitation);
            }
        }
    }

    fn somebody_signs_up(&mut self) {
        let friendly = self.friendly;
        let dice = &mut self.dice;
        let first = if dice.chance(90) { names::first_name(dice, friendly) } else { String::new() };
        let last = if dice.chance(85) { names::last_name(dice, friendly) } else { String::new() };
        let email = if dice.chance(90) { names::email(dice, &first) } else { String::new() };
        self.create_user(&first, &last, &email);
    }

    /// Pairs that are not members and never were barred or waiting to join again.
    fn absent_pairs(&self) -> Vec<Pair> {
        let pairs = self
            .organizations
            .keys()
            .flat_map(|organization| self.users.keys().map(move |user| (organization.clone(), user.clone())));
        pairs
            .filter(|pair| !self.members.contains_key(pair) && !self.barred.contains(pair) && !self.left.contains(pair))
            .collect()
    }

    fn pending_invitations(&self) -> Vec<String> {
        self.invitations.values().filter(|invitation| invitation.status == "pending").map(|i| i.id.clone()).collect()
    }

    /// Organizations with two members or more: deleting one of these is what can go wrong.
    fn crowded_organizations(&self) -> Vec<String> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (organization, _) in self.members.keys() {
            *counts.entry(organization).or_default() += 1;
        }
        counts.into_iter().filter(|(_, count)| *count > 1).map(|(id, _)| id.to_owned()).collect()
    }

    fn some_user(&mut self) -> String {
        let ids: Vec<String> = self.users.keys().cloned().collect();
        self.dice.pick(&ids).clone()
    }

    fn some_organization(&mut self) -> String {
        let ids: Vec<String> = self.organizations.keys().cloned().collect();
        self.dice.pick(&ids).clone()
    }

    fn some_member(&mut self) -> Pair {
        let pairs: Vec<Pair> = self.members.keys().cloned().collect();
        self.dice.pick(&pairs).clone()
    }

    fn some_role(&mut self) -> &'static str {
        self.dice.pick::<&'static str>(names::ROLES)
    }

    /// Two times in three the user who was updated last time.
    fn restless_user(&mut self) -> String {
        if let Some(user) = self.restless.clone()
            && self.dice.chance(67)
        {
            return user;
        }
        let user = self.some_user();
        self.restless = Some(user.clone());
        user
    }
}

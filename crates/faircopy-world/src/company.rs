//! Whole histories, ready made: a believable company, and the eight events that are hardest to merge.

use crate::dice::Dice;
use crate::event::Event;
use crate::names;
use crate::truth::Truth;
use crate::world::{Settings, World};

/// The longest time that a company's history spans: 14 days. Start it that much in the past, and nothing in it lies in
/// the future.
pub const COMPANY_SPAN_MS: i64 = 14 * 24 * 60 * 60 * 1_000;

/// A believable history of a company's Clerk instance, in order of emission, and its truth.
///
/// Users and organizations appear interleaved, with joins, leaves, re-joins, role changes, profile updates and
/// invitations; at the end about 5 % of the users and two organizations are deleted, without an event for each
/// membership. Names are varied, but none is hostile. Without users there are no organizations.
#[must_use]
pub fn company(seed: u64, users: usize, organizations: usize, start_ms: i64) -> (Vec<Event>, Truth) {
    let mut world = World::new(seed, Settings { start_ms, ..Settings::default() });
    world.friendly = true;
    let changes = 10 * (users + organizations) + 10;
    let step = COMPANY_SPAN_MS / i64::try_from(changes).unwrap_or(i64::MAX);
    world.pace_ms = step.clamp(2, 15 * 60 * 1_000);

    let mut history = History {
        world,
        dice: Dice::new(seed ^ 0x00c0_ffee),
        users: Vec::with_capacity(users),
        organizations: Vec::with_capacity(organizations),
        members: Vec::new(),
        gone: Vec::new(),
        invited: Vec::new(),
    };
    for number in 1..=users {
        history.hire();
        while history.organizations.len() * users < number * organizations {
            history.found();
        }
        history.ordinary_day();
    }
    history.close_down();
    let mut world = history.world;
    (world.take_events(), world.truth())
}

/// A company in the making; what it keeps beside the world is there to pick from in constant time.
struct History {
    world: World,
    dice: Dice,
    users: Vec<String>,
    organizations: Vec<String>,
    members: Vec<(String, String)>,
    gone: Vec<(String, String)>,
    /// (invitation, organization, user)
    invited: Vec<(String, String, String)>,
}

impl History {
    fn hire(&mut self) {
        let first = names::first_name(&mut self.dice, true);
        let last = names::last_name(&mut self.dice, true);
        let email = names::email(&mut self.dice, &first);
        self.users.push(self.world.create_user(&first, &last, &email));
    }

    fn found(&mut self) {
        let creator = self.dice.pick(&self.users).clone();
        let name = names::organization_name(&mut self.dice, true);
        let organization = self.world.create_organization(&name, &creator);
        self.members.push((organization.clone(), creator));
        self.organizations.push(organization);
    }

    /// What happens besides a sign-up: at most eight changes.
    fn ordinary_day(&mut self) {
        if self.organizations.is_empty() {
            return;
        }
        let newcomer = self.users[self.users.len() - 1].clone();
        if self.dice.chance(70) {
            self.join(&newcomer);
        } else {
            self.invite(&newcomer);
        }
        if self.dice.chance(20) {
            let user = self.dice.pick(&self.users).clone();
            self.join(&user);
        }
        if self.dice.chance(25) {
            let user = self.dice.pick(&self.users).clone();
            self.world.update_user(&user);
        }
        if self.dice.chance(10) && !self.members.is_empty() {
            let (organization, user) = self.dice.pick(&self.members).clone();
            let role = self.role();
            self.world.change_role(&organization, &user, role);
        }
        if self.dice.chance(10) && !self.members.is_empty() {
            let place = self.dice.below(self.members.len());
            let (organization, user) = self.members.swap_remove(place);
            self.world.remove_member(&organization, &user);
            self.gone.push((organization, user));
        }
        if self.dice.chance(60) {
            self.answer_invitation();
        }
        if self.dice.chance(6) && !self.gone.is_empty() {
            let place = self.dice.below(self.gone.len());
            let (organization, user) = self.gone.swap_remove(place);
            self.enter(organization, user);
        }
        if self.dice.chance(4) {
            let organization = self.dice.pick(&self.organizations).clone();
            self.world.update_organization(&organization);
        }
    }

    fn join(&mut self, user: &str) {
        let organization = self.dice.pick(&self.organizations).clone();
        self.enter(organization, user.to_owned());
    }

    fn enter(&mut self, organization: String, user: String) {
        if self.world.is_member(&organization, &user) {
            return;
        }
        let role = self.role();
        self.world.add_member(&organization, &user, role);
        self.members.push((organization, user));
    }

    fn invite(&mut self, user: &str) {
        let organization = self.dice.pick(&self.organizations).clone();
        let email = names::email(&mut self.dice, "invited");
        let role = self.role();
        let invitation = self.world.invite(&organization, &email, role);
        self.invited.push((invitation, organization, user.to_owned()));
    }

    fn answer_invitation(&mut self) {
        if self.invited.is_empty() || self.dice.chance(40) {
            return;
        }
        let place = self.dice.below(self.invited.len());
        let (invitation, organization, user) = self.invited.swap_remove(place);
        if self.dice.chance(20) {
            self.world.revoke_invitation(&invitation);
            return;
        }
        let member = self.world.is_member(&organization, &user);
        self.world.accept_invitation(&invitation, &user);
        if !member {
            self.members.push((organization, user));
        }
    }

    fn role(&mut self) -> &'static str {
        match self.dice.below(10) {
            0 | 1 => "org:admin",
            2 => "org:guest",
            3 => "org:billing_manager",
            _ => "org:member",
        }
    }

    fn close_down(&mut self) {
        for _ in 0..(self.users.len() + 10) / 20 {
            let place = self.dice.below(self.users.len());
            let user = self.users.swap_remove(place);
            self.world.delete_user(&user);
        }
        for _ in 0..self.organizations.len().min(2) {
            let place = self.dice.below(self.organizations.len());
            let organization = self.organizations.swap_remove(place);
            self.world.delete_organization(&organization);
        }
    }
}

/// The eight events of one hard history, in order of emission, and its truth, the same for each of their 40,320 orders:
/// a user; an organization without members; the user joins, leaves, joins again and gets another role; the organization
/// changes; the user is deleted, and no membership event says so.
#[must_use]
pub fn hard_history() -> (Vec<Event>, Truth) {
    let [_, _, deleted] = hard_histories();
    deleted
}

/// [`hard_history`] with each of three endings, because each catches other mistakes. The seven events before are alike;
/// the eighth is:
///
/// 1. an update of the user: the newest membership is alive, so a late deletion of the old one must not remove it;
/// 2. the deletion of the second membership: nothing may bring either of the two back;
/// 3. the deletion of the user: the second membership was never deleted by itself, and still must not show.
#[must_use]
pub fn hard_histories() -> [(Vec<Event>, Truth); 3] {
    let endings: [fn(&mut World, &str, &str); 3] = [
        |world, _, user| world.update_user(user),
        |world, organization, user| world.remove_member(organization, user),
        |world, _, user| world.delete_user(user),
    ];
    endings.map(|ending| {
        let mut world = World::new(8, Settings::default());
        let user = world.create_user("Zoë", "O'Brien", "zoe@example.com");
        let organization = world.found_organization("Hard & Sons", &user);
        world.add_member(&organization, &user, "org:member");
        world.remove_member(&organization, &user);
        world.add_member(&organization, &user, "org:member");
        world.change_role(&organization, &user, "org:admin");
        world.update_organization(&organization);
        ending(&mut world, &organization, &user);
        (world.take_events(), world.truth())
    })
}

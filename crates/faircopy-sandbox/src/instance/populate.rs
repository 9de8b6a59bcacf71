//! A population: many users and organizations at once, as if they had come over the last year.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::dice::Dice;
use super::document::{Document, Template};
use super::names;
use super::organizations::slug_of;
use super::store::Instance;
use super::users::contact;

/// How long ago the first came, in milliseconds: a year.
const SPAN_MS: i64 = 365 * 86_400_000;
/// For how long their invitations are good, in milliseconds: Clerk's thirty days.
const INVITED_MS: i64 = 30 * 86_400_000;

/// How many there are to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Population {
    /// Users.
    pub users: usize,
    /// Organizations.
    #[serde(default)]
    pub organizations: usize,
    /// Members of each organization, as far as there are users.
    #[serde(default)]
    pub members: usize,
    /// Which ones.
    #[serde(default)]
    pub seed: u64,
}

fn time_of(number: usize, of: usize, now: i64) -> i64 {
    let share = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    now - SPAN_MS + (SPAN_MS - INVITED_MS).saturating_mul(share(number)) / share(of.max(1))
}

fn extend(document: &mut Document, members: serde_json::Value) {
    if let serde_json::Value::Object(members) = members {
        document.extend(members);
    }
}

impl Instance {
    /// Puts users, organizations, members and invitations into it. It emits nothing: they were there before anybody looked.
    pub fn populate(&mut self, population: Population, now: i64) {
        let mut dice = Dice::new(population.seed ^ 0x0070_6f70_756c_6174);
        let users: Vec<String> = (0..population.users)
            .map(|number| {
                let user = person(&mut dice, number, time_of(number, population.users, now));
                self.put_user(user).to_string()
            })
            .collect();
        for number in 0..population.organizations {
            let at = time_of(number, population.organizations, now);
            self.populate_organization(&mut dice, &users, population.members, at, now);
        }
    }

    fn populate_organization(&mut self, dice: &mut Dice, users: &[String], members: usize, at: i64, now: i64) {
        let (name, id) = (names::organization(dice), dice.id_at("org", at));
        let first = dice.below(users.len());
        let mut organization = Template::organization().blank(&id, at);
        let slug = slug_of(&name, dice.number());
        extend(&mut organization, json!({ "name": name, "slug": slug, "created_by": users.get(first) }));
        organization.retain(|_, value| !value.is_null());
        self.put_organization(organization);
        for place in 0..members.min(users.len()) {
            let role = match place {
                0 => "org:admin",
                _ => *dice.pick(&["org:member", "org:member", "org:member", "org:admin", "org:guest"]),
            };
            // In a row of users none comes twice.
            let user = &users[(first + place) % users.len()];
            let mut membership = Template::membership().blank(&dice.id_at("orgmem", at), at);
            extend(&mut membership, json!({ "organization_id": id, "user_id": user, "role": role }));
            self.put_membership(membership);
        }
        // Late enough that it has not expired.
        let invited = at.max(now - INVITED_MS / 2);
        let mut invitation = Template::invitation().blank(&dice.id_at("orginv", invited), invited);
        let (first_name, last_name) = names::person(dice);
        let email = format!(
            "{}.{}.{}@guests.example",
            names::plain(first_name),
            names::plain(last_name),
            dice.letters(6).to_lowercase()
        );
        extend(
            &mut invitation,
            json!({
                "organization_id": id, "email_address": email, "inviter_id": users.get(first),
                "expires_at": now + INVITED_MS / 2, "url": format!("https://accounts.invalid/v1/tickets/accept?ticket={}", dice.letters(40)),
            }),
        );
        self.put_invitation(invitation);
    }
}

fn person(dice: &mut Dice, number: usize, at: i64) -> Document {
    let (first, last) = names::person(dice);
    let mut user = Template::user().blank(&dice.id_at("user", at), at);
    let (email_id, seen) = (dice.id_at("idn", at), at + 60_000);
    let email = format!("{}.{}.{number}@example.com", names::plain(first), names::plain(last));
    extend(
        &mut user,
        json!({
            "first_name": first, "last_name": last, "primary_email_address_id": email_id,
            "email_addresses": [contact("email_address", &email, false, at, &email_id)],
            "last_sign_in_at": seen, "last_active_at": seen - seen.rem_euclid(86_400_000), "updated_at": seen,
        }),
    );
    user
}

//! Changes of the instance that the Backend API has no route for.

use axum::Json;
use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Asked, Body, Failure, On};
use crate::instance::{Document, Instance, Kind, Options, Population, Refusal, identifier, text_of};

/// The largest population at once: as many as the largest test of the service copies.
const MAX_POPULATION: usize = 1_000_000;

/// Does something to the instance under other options, and puts the options back.
pub(super) fn under<T>(
    instance: &mut Instance,
    edit: impl FnOnce(&mut Options),
    act: impl FnOnce(&mut Instance) -> T,
) -> T {
    let before = instance.options().clone();
    let mut options = before.clone();
    edit(&mut options);
    instance.set_options(options);
    let result = act(instance);
    instance.set_options(before);
    result
}

pub(super) async fn populate(State(shared): On, Body(population): Body<Population>) -> Answer {
    for (name, count) in
        [("users", population.users), ("organizations", population.organizations), ("members", population.members)]
    {
        if count > MAX_POPULATION {
            return Err(Failure::unfit(name, format!("`{name}` must be at most {MAX_POPULATION}")));
        }
    }
    if population.organizations > 0 && population.users == 0 {
        return Err(Failure::unfit("users", "organizations need users"));
    }
    shared.change(|instance, now| {
        instance.populate(population, now);
        Ok(Json(json!({ "users": instance.count(Kind::User), "organizations": instance.count(Kind::Organization) })))
    })
}

/// Who accepts.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Guest {
    user_id: Option<String>,
}

/// Accepts for a user; without one, for whoever has the invited address, who is made if there is nobody.
pub(super) async fn accept_invitation(State(shared): On, Path(id): Path<String>, Body(guest): Body<Guest>) -> Answer {
    shared.change(|instance, now| {
        let user = match guest.user_id {
            Some(user) => user,
            None => invited(instance, &id, now)?,
        };
        Ok(Json(Value::Object(instance.accept_invitation(&id, &user, now)?)))
    })
}

fn invited(instance: &mut Instance, invitation: &str, now: i64) -> Result<String, Refusal> {
    let missing = || Refusal::not_found(format!("No invitation found with id {invitation}."));
    let document = instance.invitations.get(invitation).ok_or_else(missing)?;
    let email = text_of(&document, "email_address").unwrap_or_default();
    if let Some(user) = instance.identifiers.get(&identifier("email_address", email)) {
        return Ok(user.to_string());
    }
    let body = json!({ "email_address": [email], "skip_password_requirement": true });
    let user = instance.create_user(body.as_object().unwrap_or(&Document::new()), now)?;
    Ok(text_of(&user, "id").unwrap_or_default().to_owned())
}

/// Whether the events of what goes with it are sent, too; without, as the options say.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Children {
    child_events: Option<bool>,
}

impl Children {
    fn set(&self, options: &mut Options) {
        options.child_events = self.child_events.unwrap_or(options.child_events);
    }
}

pub(super) async fn delete_organization(
    State(shared): On,
    Path(id): Path<String>,
    Asked(children): Asked<Children>,
) -> Answer {
    let gone = shared.change(|instance, now| {
        under(instance, |options| children.set(options), |instance| instance.delete_organization(&id, now))
    });
    Ok(Json(Value::Object(gone?)))
}

pub(super) async fn delete_user(State(shared): On, Path(id): Path<String>, Asked(children): Asked<Children>) -> Answer {
    let gone = shared.change(|instance, now| {
        under(instance, |options| children.set(options), |instance| instance.delete_user(&id, now))
    });
    Ok(Json(Value::Object(gone?)))
}

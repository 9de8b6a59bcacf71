//! The endpoints that there are, and what a person may change about them.

use serde::{Deserialize, Serialize};

use super::keeping::Key;
use super::{DisabledBy, Endpoint, OVERLAP_MS, Post, Refused, Secret, after, sign};

/// How many endpoints there can be: Svix's own limit is 50 for an application.
pub const MAX_ENDPOINTS: usize = 50;
/// The longest overlap of two secrets that Svix accepts: 7 days.
const MAX_OVERLAP_MS: i64 = 7 * 24 * 3_600_000;

/// An endpoint that is to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewEndpoint {
    /// The address.
    pub url: String,
    /// `whsec_…`; made up if there is none.
    pub secret: Option<String>,
    /// The event types that are wanted; empty: all.
    pub events: Vec<String>,
    /// For people.
    pub description: String,
}

/// What is to change about an endpoint; what is not named stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EndpointChange {
    /// The address.
    pub url: Option<String>,
    /// The event types that are wanted; empty: all.
    pub events: Option<Vec<String>>,
    /// For people.
    pub description: Option<String>,
    /// Whether anything is sent.
    pub disabled: Option<bool>,
}

impl Post {
    /// All endpoints, by id.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.values()
    }

    /// The endpoint of this id.
    ///
    /// # Errors
    /// If there is none.
    pub fn endpoint(&self, id: &str) -> Result<&Endpoint, Refused> {
        self.endpoints.get(id).ok_or_else(|| Refused::NoEndpoint(id.to_owned()))
    }

    /// The endpoint of this id, if it is enabled.
    pub(super) fn open_endpoint(&self, id: &str) -> Result<&Endpoint, Refused> {
        let endpoint = self.endpoint(id)?;
        if endpoint.disabled.is_some() { Err(Refused::Disabled(id.to_owned())) } else { Ok(endpoint) }
    }

    /// Makes an endpoint; gives its id.
    ///
    /// # Errors
    /// If the address or the secret is none, or there are too many.
    pub fn add_endpoint(&mut self, new: NewEndpoint, now_ms: i64) -> Result<String, Refused> {
        check_url(&new.url)?;
        if self.endpoints.len() >= MAX_ENDPOINTS {
            return Err(Refused::TooMany);
        }
        let secret = self.secret_or_new(new.secret, now_ms)?;
        let number = after(&mut self.numbers.endpoints);
        let id = format!("ep_{}", self.chance.of("endpoint", &[number]).base62(27));
        let endpoint = Endpoint {
            id: id.clone(),
            number,
            url: new.url,
            description: new.description,
            events: new.events,
            secrets: vec![Secret { secret, until_ms: None }],
            disabled: None,
            failing: None,
            created_at_ms: now_ms,
        };
        self.endpoints.insert(id.clone(), endpoint);
        self.changed.note(Key::Endpoint(id.clone()));
        Ok(id)
    }

    /// Changes an endpoint. One that is disabled forgets what waits for it; one that is enabled starts anew.
    ///
    /// # Errors
    /// If there is no such endpoint, or the address is none.
    pub fn change_endpoint(&mut self, id: &str, change: EndpointChange, now_ms: i64) -> Result<(), Refused> {
        if let Some(url) = &change.url {
            check_url(url)?;
        }
        let endpoint = self.endpoints.get_mut(id).ok_or_else(|| Refused::NoEndpoint(id.to_owned()))?;
        if let Some(url) = change.url {
            endpoint.url = url;
        }
        if let Some(events) = change.events {
            endpoint.events = events;
        }
        if let Some(description) = change.description {
            endpoint.description = description;
        }
        match change.disabled {
            Some(true) => {
                endpoint.disable(now_ms, DisabledBy::Person);
                self.give_up(id);
            }
            Some(false) => endpoint.enable(),
            None => (),
        }
        self.changed.note(Key::Endpoint(id.to_owned()));
        Ok(())
    }

    /// Removes an endpoint. What was sent to it stays to be looked at.
    ///
    /// # Errors
    /// If there is no such endpoint.
    pub fn remove_endpoint(&mut self, id: &str) -> Result<(), Refused> {
        self.endpoint(id)?;
        self.give_up(id);
        self.endpoints.remove(id);
        self.changed.note(Key::Endpoint(id.to_owned()));
        Ok(())
    }

    /// Gives an endpoint a new secret, made up unless it is given; the one before signs on for a day, or so long. Gives the
    /// new one.
    ///
    /// # Errors
    /// If there is no such endpoint, the secret is none, or the overlap is over 7 days.
    pub fn rotate_secret(
        &mut self,
        id: &str,
        secret: Option<String>,
        overlap_ms: Option<i64>,
        now_ms: i64,
    ) -> Result<String, Refused> {
        let overlap_ms = overlap_ms.unwrap_or(OVERLAP_MS);
        if !(0..=MAX_OVERLAP_MS).contains(&overlap_ms) {
            return Err(Refused::Setting("overlap_ms", "from 0 to 604800000"));
        }
        self.endpoint(id)?;
        let secret = self.secret_or_new(secret, now_ms)?;
        if let Some(endpoint) = self.endpoints.get_mut(id) {
            endpoint.rotate(secret.clone(), overlap_ms, now_ms);
        }
        self.changed.note(Key::Endpoint(id.to_owned()));
        Ok(secret)
    }

    fn secret_or_new(&mut self, given: Option<String>, now_ms: i64) -> Result<String, Refused> {
        match given {
            Some(secret) if sign::key_of(&secret).is_some() => Ok(secret),
            Some(_) => Err(Refused::Secret),
            None => {
                let order = after(&mut self.numbers.orders);
                Ok(sign::new_secret(&mut self.chance.of("secret", &[order, now_ms.unsigned_abs()])))
            }
        }
    }
}

fn check_url(url: &str) -> Result<(), Refused> {
    let parsed = reqwest::Url::parse(url).map_err(|_| Refused::Url)?;
    if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() { Ok(()) } else { Err(Refused::Url) }
}

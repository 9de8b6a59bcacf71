//! The endpoint at Clerk that deliveries come from, and how it comes to be.
//!
//! Clerk's API has no way to make one (clerk-facts.md, section 2.2), so a person does: [`ByHand`] says how, in the words of Clerk's
//! dashboard, with a link to it where there is a key. Another [`Management`] could make it by itself.

use std::sync::Arc;

use faircopy_core::event::mirrored_types;
use secrecy::SecretString;

use super::clerk::{Clerk, Fault, Portal};

/// What the endpoint shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Where deliveries shall arrive: an address that Clerk can reach.
    pub url: String,
}

impl Wanted {
    /// The events that it has to be subscribed to, those of one kind of object together: exactly those that change the copy.
    #[must_use]
    pub fn events() -> Vec<(&'static str, Vec<&'static str>)> {
        let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
        for event_type in mirrored_types() {
            let kind = event_type.split('.').next().unwrap_or(event_type);
            match groups.last_mut().filter(|(known, _)| *known == kind) {
                Some((_, types)) => types.push(event_type),
                None => groups.push((kind, vec![event_type])),
            }
        }
        groups
    }
}

/// What came of arranging for an endpoint.
pub struct Arrangement {
    /// What is left for a person to do, in order. Empty where nothing is.
    pub steps: Vec<Step>,
    /// A link that opens the instance's webhooks; a secret.
    pub portal: Option<SecretString>,
    /// What the link's absence comes of.
    pub portal_missing: Option<&'static str>,
}

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Step {
    /// What it is for: `create`, `secret`, `test` or `rotate`.
    pub part: &'static str,
    /// What to do.
    pub text: String,
}

/// How an endpoint comes to be.
pub trait Management {
    /// Does what it can, and says what is left to do.
    fn arrange(&self, wanted: &Wanted) -> impl Future<Output = Arrangement> + Send;
}

/// A person makes it in Clerk's dashboard.
pub struct ByHand {
    /// Whom to ask for a link, where there is a key.
    pub clerk: Option<Arc<Clerk>>,
}

impl Management for ByHand {
    async fn arrange(&self, wanted: &Wanted) -> Arrangement {
        let (portal, portal_missing) = match &self.clerk {
            None => (None, Some("no-key")),
            Some(clerk) => match clerk.portal().await {
                Ok(Portal::Link(link)) => (Some(link), None),
                Ok(Portal::NotThere) => (None, Some("no-webhooks-yet")),
                Err(fault) => {
                    tracing::debug!(%fault, "Clerk gave no link to its webhooks");
                    (None, Some(reason(fault)))
                }
            },
        };
        Arrangement { steps: steps(wanted), portal, portal_missing }
    }
}

fn reason(fault: Fault) -> &'static str {
    match fault {
        Fault::WrongInstance => "wrong-instance",
        Fault::Refused(_) => "key-refused",
        Fault::Limited(_) => "rate-limited",
        _ => "no-answer",
    }
}

/// The steps, in the words of Clerk's dashboard and of its own guides for syncing and for rotating.
fn steps(wanted: &Wanted) -> Vec<Step> {
    let events = Wanted::events().into_iter().flat_map(|(_, types)| types).count();
    let step = |part, text: String| Step { part, text };
    vec![
        step("create", "In Clerk's dashboard choose the application and the environment (Development or Production), then Configure > Webhooks.".into()),
        step("create", "Select Add Endpoint.".into()),
        step("create", format!("Endpoint URL: {}", wanted.url)),
        step("create", format!("Subscribe to events: tick these {events} and no others.")),
        step("create", "Select Create.".into()),
        step("secret", "On the endpoint's page copy the Signing Secret (the eye shows it) into CLERK_WEBHOOK_SIGNING_SECRET, and restart faircopy serve.".into()),
        step("test", "On the endpoint's page open Testing, choose user.created and select Send Example: the message must show 200. The example is of \
            another instance: where yours is known it is recorded as ignored, which is right.".into()),
        step("test", "Change a user in the dashboard (Users), and run `faircopy status`: one more is applied.".into()),
        step("rotate", "To replace the secret, create a second endpoint with the same URL and events, and set both secrets, separated by a comma, \
            until the second delivers; then delete the first (... > Delete) and take its secret out. Each event comes twice meanwhile, \
            and changes nothing the second time.".into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use faircopy_core::example;

    #[test]
    fn the_events_are_those_that_change_the_copy() {
        let groups = Wanted::events();
        let kinds: Vec<&str> = groups.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, ["user", "organization", "organizationMembership", "organizationInvitation"]);
        for (kind, types) in &groups {
            assert_eq!(types.len(), 3, "{kind}");
            assert!(types.iter().all(|event_type| example::find(event_type).is_some()), "{types:?}");
        }
    }

    /// A type is on the list exactly if an event of it is not ignored.
    #[test]
    fn no_event_outside_the_list_changes_anything() {
        use faircopy_core::event::{Context, Reading, read};
        use faircopy_core::{Millis, ProfileMode, payload};
        let listed: Vec<&str> = mirrored_types().collect();
        for known in example::EXAMPLES {
            let context = Context { mode: ProfileMode::Full, signed_at: Millis(1_760_000_000_000), instance: None };
            let payload::Kept::Json(message) = payload::keep(known.body.as_bytes(), ProfileMode::Full) else {
                panic!("{}", known.event_type)
            };
            let is_ignored = read(&message, &context).reading == Reading::Ignored;
            assert_eq!(!is_ignored, listed.contains(&known.event_type), "{}", known.event_type);
        }
    }
}

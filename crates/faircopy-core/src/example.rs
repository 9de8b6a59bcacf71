//! Clerk's own example deliveries, one of each of 45 event types: for `trigger`, the demo and the tests.

/// One of Clerk's example deliveries, as its OpenAPI file shows it.
#[derive(Debug, Clone, Copy)]
pub struct Example {
    /// The event's type.
    pub event_type: &'static str,
    /// The body, byte for byte.
    pub body: &'static str,
}

macro_rules! examples {
    ($($event_type:literal),+ $(,)?) => {
        /// All of them, by type in alphabetical order.
        pub const EXAMPLES: &[Example] = &[$(Example {
            event_type: $event_type,
            body: include_str!(concat!("../../../fixtures/deliveries/", $event_type, ".json")),
        }),+];
    };
}

examples!(
    "email.created",
    "organization.created",
    "organization.deleted",
    "organization.updated",
    "organizationDomain.created",
    "organizationDomain.deleted",
    "organizationDomain.updated",
    "organizationInvitation.accepted",
    "organizationInvitation.created",
    "organizationInvitation.revoked",
    "organizationMembership.created",
    "organizationMembership.deleted",
    "organizationMembership.updated",
    "paymentAttempt.created",
    "paymentAttempt.updated",
    "permission.created",
    "permission.deleted",
    "permission.updated",
    "role.created",
    "role.deleted",
    "role.updated",
    "session.created",
    "session.ended",
    "session.pending",
    "session.removed",
    "session.revoked",
    "sms.created",
    "subscription.active",
    "subscription.created",
    "subscription.pastDue",
    "subscription.updated",
    "subscriptionItem.abandoned",
    "subscriptionItem.active",
    "subscriptionItem.canceled",
    "subscriptionItem.ended",
    "subscriptionItem.freeTrialEnding",
    "subscriptionItem.incomplete",
    "subscriptionItem.pastDue",
    "subscriptionItem.upcoming",
    "subscriptionItem.updated",
    "user.created",
    "user.deleted",
    "user.updated",
    "waitlistEntry.created",
    "waitlistEntry.updated",
);

/// The example of one type.
#[must_use]
pub fn find(event_type: &str) -> Option<&'static Example> {
    EXAMPLES.iter().find(|example| example.event_type == event_type)
}

//! A stored delivery as an arrival: what was kept of it is read again, just as it was read the first time.

use faircopy_core::Millis;
use faircopy_core::event::Context;
use faircopy_store::{Arrival, Content, Delivery};

/// The stored delivery as it would arrive now, with its own signing time. `None` where nothing of the body is
/// kept, or so little that it would say something else: an invitation without its address.
pub fn arrival<'a>(delivery: &Delivery, now: Millis, context: impl FnOnce(Millis) -> Context<'a>) -> Option<Arrival> {
    let is_whole =
        delivery.summary.erased_at.is_none() || !delivery.summary.event_type.starts_with("organizationInvitation.");
    let payload = delivery.payload.as_deref().filter(|_| is_whole)?;
    let signed_at = Millis::parse(&delivery.summary.signed_at)?;
    Some(Arrival {
        svix_id: delivery.summary.svix_id.clone(),
        signed_at,
        received_at: now,
        body_hash: delivery.body_hash,
        content: Content::read(payload.as_bytes(), &context(signed_at)),
    })
}

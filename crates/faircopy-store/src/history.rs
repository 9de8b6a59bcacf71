//! The stored past of one subject: the deliveries that are about it.

use faircopy_core::id::{MembershipId, OrganizationId, UserId};

use crate::Store;
use crate::deliveries::{self, Delivery};
use crate::engine::Value;
use crate::error::Result;
use crate::provisional::{self, Pair};

/// Which deliveries.
#[derive(Debug, Clone, Copy)]
pub enum About<'a> {
    /// Those of an object: its id is the event's.
    Object(&'a str),
    /// Those of one type of an object.
    ObjectOfType(&'a str, &'a str),
    /// Those that speak of a user and are of something else.
    User(&'a UserId),
    /// Those that speak of an organization and are of something else.
    Organization(&'a OrganizationId),
    /// Those that speak of both.
    Pair(&'a OrganizationId, &'a UserId),
}

impl About<'_> {
    /// The condition, and what it compares with.
    fn condition(self) -> (&'static str, Vec<Value>) {
        match self {
            Self::Object(id) => ("entity_id = $1", vec![id.into()]),
            Self::ObjectOfType(id, event_type) => {
                ("entity_id = $1 AND event_type = $2", vec![id.into(), event_type.into()])
            }
            Self::User(id) => ("clerk_user_id = $1 AND entity_id <> $1", vec![id.as_str().into()]),
            Self::Organization(id) => ("clerk_org_id = $1 AND entity_id <> $1", vec![id.as_str().into()]),
            Self::Pair(organization, user) => {
                ("clerk_org_id = $1 AND clerk_user_id = $2", vec![organization.as_str().into(), user.as_str().into()])
            }
        }
    }
}

impl Store {
    /// The deliveries that are about something, newest first, before a place `(received_at, svix_id)`, with their payloads.
    pub async fn deliveries_about(
        &self,
        about: About<'_>,
        before: Option<(&str, &str)>,
        limit: i64,
    ) -> Result<Vec<Delivery>> {
        let (condition, mut scalars) = about.condition();
        let earlier = earlier(&mut scalars, before);
        scalars.push(limit.into());
        let statement = format!(
            "SELECT {} FROM {{s}}webhook_deliveries WHERE {condition}{earlier} \
             ORDER BY received_at DESC, svix_id DESC LIMIT ${}",
            deliveries::WHOLE.as_str(),
            scalars.len()
        );
        self.readers.read(&statement, scalars).await?.iter().map(deliveries::whole).collect()
    }

    /// How many more there are before a place; counted to `limit`.
    pub async fn count_deliveries_about(&self, about: About<'_>, before: (&str, &str), limit: i64) -> Result<i64> {
        let (condition, mut scalars) = about.condition();
        let earlier = earlier(&mut scalars, Some(before));
        scalars.push(limit.into());
        let statement = format!(
            "SELECT count(*) FROM (SELECT 1 FROM {{s}}webhook_deliveries WHERE {condition}{earlier} LIMIT ${}) AS older",
            scalars.len()
        );
        let rows = self.readers.read(&statement, scalars).await?;
        Ok(rows.first().map_or(Ok(None), |row| row.int(0))?.unwrap_or_default())
    }

    /// The pair that a membership is of: from what the merge remembers, or else from a delivery.
    pub async fn pair_of(&self, membership: &MembershipId) -> Result<Option<Pair>> {
        const REMEMBERED: &str = "SELECT clerk_org_id, clerk_user_id FROM {s}registers WHERE generation_id = $1 AND clerk_user_id IS NOT NULL";
        const DELIVERED: &str = "SELECT clerk_org_id, clerk_user_id FROM {s}webhook_deliveries WHERE entity_id = $1 \
            AND clerk_org_id IS NOT NULL AND clerk_user_id IS NOT NULL ORDER BY received_at DESC LIMIT 1";
        for statement in [REMEMBERED, DELIVERED] {
            if let Some(row) = self.readers.read(statement, vec![membership.as_str().into()]).await?.first() {
                return provisional::pair(row).map(Some);
            }
        }
        Ok(None)
    }
}

fn earlier(scalars: &mut Vec<Value>, before: Option<(&str, &str)>) -> String {
    let Some((received_at, svix_id)) = before else { return String::new() };
    scalars.extend([received_at.into(), svix_id.into()]);
    let (at, id) = (scalars.len() - 1, scalars.len());
    format!(" AND (received_at, svix_id) < ({{as-time ${at}}}, ${id})")
}

//! The audit table, for people and for replay.

use std::sync::LazyLock;

use faircopy_core::Millis;

use crate::Store;
use crate::engine::{Row, Value};
use crate::error::Result;

/// One delivery without its payload.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct DeliverySummary {
    /// The message id.
    #[schema(example = "msg_2gVLh9rP3kDKQV8pvN1PmjW2zNE")]
    pub svix_id: String,
    /// `type`.
    #[schema(example = "user.created")]
    pub event_type: String,
    /// `data.id`.
    pub entity_id: Option<String>,
    /// `instance_id`.
    pub instance_id: Option<String>,
    /// `applied`, `stale`, `ignored` or `quarantined`.
    #[schema(example = "applied")]
    pub outcome: String,
    /// How often the id has arrived.
    pub attempts: i64,
    /// How often it came with another body.
    pub conflicts: i64,
    /// Why it is quarantined.
    pub error: Option<String>,
    /// When the event happened.
    #[schema(format = DateTime)]
    pub event_at: Option<String>,
    /// When the first attempt was signed.
    #[schema(format = DateTime)]
    pub signed_at: String,
    /// When the first attempt arrived.
    #[schema(format = DateTime)]
    pub received_at: String,
    /// When the data of a deleted user left the payload, or the payload had been kept long enough.
    #[schema(format = DateTime)]
    pub erased_at: Option<String>,
}

/// One delivery with what is stored of its body.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Delivery {
    /// All but the payload.
    #[serde(flatten)]
    pub summary: DeliverySummary,
    /// What is stored of the body.
    pub payload: Option<String>,
    /// The hash of the body as signed.
    #[serde(skip)]
    #[schema(ignore)]
    pub body_hash: i64,
}

/// Which deliveries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// Of this outcome.
    pub outcome: Option<String>,
    /// Of this type.
    pub event_type: Option<String>,
    /// Of this `data.id`.
    pub entity_id: Option<String>,
    /// Arrived at or after.
    pub since: Option<Millis>,
    /// Arrived before.
    pub until: Option<Millis>,
    /// Only these ids.
    pub svix_id: Option<String>,
}

/// When a delivery arrived, and when what it tells had happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// When the first attempt arrived.
    pub received_at: Millis,
    /// When the event happened, as far as the delivery says.
    pub event_at: Option<Millis>,
}

const COLUMNS: &str = "svix_id, event_type, entity_id, instance_id, outcome, attempts, conflicts, error, \
    {time event_at}, {time signed_at}, {time received_at}, {time erased_at}";

/// The columns of [`whole`].
pub(crate) static WHOLE: LazyLock<String> = LazyLock::new(|| format!("{COLUMNS}, payload, body_hash"));

impl Store {
    /// Deliveries in the order of arrival, newest first or oldest first, after a cursor `(received_at, svix_id)`.
    pub async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        after: Option<(&str, &str)>,
        newest_first: bool,
        limit: i64,
    ) -> Result<Vec<DeliverySummary>> {
        let (mut conditions, mut scalars) = (vec!["true".to_owned()], Vec::new());
        let mut equal = |column: &str, value: &Option<String>| {
            if let Some(value) = value {
                scalars.push(Value::from(value.as_str()));
                conditions.push(format!("{column} = ${}", scalars.len()));
            }
        };
        equal("outcome", &filter.outcome);
        equal("event_type", &filter.event_type);
        equal("entity_id", &filter.entity_id);
        equal("svix_id", &filter.svix_id);
        for (sign, at) in [(">=", filter.since), ("<", filter.until)] {
            if let Some(at) = at {
                scalars.push(at.into());
                conditions.push(format!("received_at {sign} {{as-time ${}}}", scalars.len()));
            }
        }
        let (sign, order) = if newest_first { ("<", "DESC") } else { (">", "ASC") };
        if let Some((received_at, svix_id)) = after {
            scalars.extend([received_at.into(), svix_id.into()]);
            let (at, id) = (scalars.len() - 1, scalars.len());
            conditions.push(format!("(received_at, svix_id) {sign} ({{as-time ${at}}}, ${id})"));
        }
        scalars.push(limit.into());
        let statement = format!(
            "SELECT {COLUMNS} FROM {{s}}webhook_deliveries WHERE {} ORDER BY received_at {order}, svix_id {order} LIMIT ${}",
            conditions.join(" AND "),
            scalars.len(),
        );
        self.readers.read(&statement, scalars).await?.iter().map(summary).collect()
    }

    /// The deliveries that arrived last, newest first.
    pub async fn last_arrivals(&self, limit: i64) -> Result<Vec<Arrived>> {
        let statement = "SELECT {time received_at}, {time event_at} FROM {s}webhook_deliveries \
            ORDER BY received_at DESC LIMIT $1";
        let rows = self.readers.read(statement, vec![limit.into()]).await?;
        let time = |row: &Row, column| Ok::<_, crate::Error>(row.text(column)?.and_then(|text| Millis::parse(&text)));
        let arrived =
            |row: &Row| Ok(Arrived { received_at: time(row, 0)?.unwrap_or_default(), event_at: time(row, 1)? });
        rows.iter().map(arrived).collect()
    }

    /// One delivery with its payload.
    pub async fn delivery(&self, svix_id: &str) -> Result<Option<Delivery>> {
        let statement = format!("SELECT {} FROM {{s}}webhook_deliveries WHERE svix_id = $1", WHOLE.as_str());
        self.readers.read(&statement, vec![svix_id.into()]).await?.first().map(whole).transpose()
    }

    /// Whether the database answers and its schema is complete.
    pub async fn ready(&self) -> Result<bool> {
        Ok(self.pending_migrations().await?.is_empty())
    }
}

pub(crate) fn whole(row: &Row) -> Result<Delivery> {
    Ok(Delivery { summary: summary(row)?, payload: row.text(12)?, body_hash: row.int(13)?.unwrap_or_default() })
}

fn summary(row: &Row) -> Result<DeliverySummary> {
    Ok(DeliverySummary {
        svix_id: row.required(0)?,
        event_type: row.required(1)?,
        entity_id: row.text(2)?,
        instance_id: row.text(3)?,
        outcome: row.required(4)?,
        attempts: row.int(5)?.unwrap_or_default(),
        conflicts: row.int(6)?.unwrap_or_default(),
        error: row.text(7)?,
        event_at: row.text(8)?,
        signed_at: row.required(9)?,
        received_at: row.required(10)?,
        erased_at: row.text(11)?,
    })
}

//! Destinations as people see them: where each stands, who waits there, and what an operator may say.

use faircopy_core::Millis;
use faircopy_core::destination::Waiting;
use faircopy_store::{DestinationOrder, DestinationStanding, Error, Store};
use serde::Serialize;
use utoipa::ToSchema;

use crate::config::DestinationSettings;

/// Subjects that wait, as many as are shown.
pub const MAX_SHOWN: i64 = 100;
/// What stands for the rest of an address: it may be a secret.
const MASK: &str = "…";

/// The places that the copy goes on to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Destinations)]
pub struct Overview {
    /// Those of the settings, in their order, and then those that were there once.
    pub data: Vec<Shown>,
}

/// A place that the copy goes on to, and where it stands.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Destination)]
pub struct Shown {
    /// Its name in the settings.
    #[schema(example = "crm")]
    pub name: String,
    /// `webhook`, `convex` or `nats`.
    #[schema(example = "webhook")]
    pub kind: String,
    /// Its host, and no more of its address; `null` where it is not in the settings any more.
    #[schema(example = "crm.example.com/…")]
    pub url: Option<String>,
    /// The tables that it is told of.
    #[schema(example = json!(["user", "organization"]))]
    pub entities: Vec<String>,
    /// `running`, `resending` (everything is being sent), `failing` (it takes nothing), `paused`, `not-started` (no server has taken it up
    /// yet) or `not-set` (it is not in the settings any more).
    #[schema(example = "running")]
    pub state: &'static str,
    /// The last number of the change feed that it was told.
    pub place: i64,
    /// Changes that it was not told yet.
    pub behind: i64,
    /// For how many seconds the oldest of them has waited.
    pub behind_seconds: i64,
    /// Everything is being sent: since when.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub resending_since: Option<Millis>,
    /// Subjects that wait for another attempt.
    pub waiting: i64,
    /// Subjects that are parked: they wait for `resume`.
    pub parked: i64,
    /// When it last took something.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_ok_at: Option<Millis>,
    /// Since when it takes nothing.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub failing_since: Option<Millis>,
    /// Why.
    pub last_error: Option<String>,
}

/// A destination, and who waits there.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = DestinationDetail)]
pub struct Detail {
    #[serde(flatten)]
    /// The destination.
    pub destination: Shown,
    /// Subjects whose message was not taken: the parked first, at most 100.
    pub subjects: Vec<WaitingShown>,
}

/// A subject whose message was not taken.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = DestinationWaiting)]
pub struct WaitingShown {
    /// Of which table, and its id.
    #[schema(example = "member/org_2abc/user_2abc")]
    pub subject: String,
    /// The number of its last change.
    pub sequence: i64,
    /// `put` or `remove`.
    #[schema(example = "put")]
    pub operation: String,
    /// `waiting` or `parked`.
    #[schema(example = "parked")]
    pub state: &'static str,
    /// Attempts so far.
    pub attempts: u32,
    /// Since when it waits.
    #[schema(value_type = String, format = DateTime)]
    pub since: Millis,
    /// When the next attempt is due; `null` where it is parked.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub due_at: Option<Millis>,
    /// Why the last one failed.
    pub error: String,
}

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Unchanged {
    /// There is none of this name.
    #[error("no destination has this name")]
    Unknown,
    /// It is not so that it could be.
    #[error("{0}")]
    Refused(&'static str),
    /// The database.
    #[error(transparent)]
    Store(#[from] Error),
}

/// All destinations.
pub async fn overview(store: &Store, settings: &[DestinationSettings], now: Millis) -> Result<Overview, Error> {
    let standings = store.destinations().await?;
    let set = settings.iter().map(|of| {
        let standing = standings.iter().find(|standing| standing.destination.name == of.name);
        shown(&of.name, Some(of), standing, now)
    });
    let gone = standings.iter().filter(|standing| settings.iter().all(|of| of.name != standing.destination.name));
    let gone = gone.map(|standing| shown(&standing.destination.name, None, Some(standing), now));
    Ok(Overview { data: set.chain(gone).collect() })
}

/// One destination, and who waits there; `None` where there is none of this name.
pub async fn detail(
    store: &Store,
    settings: &[DestinationSettings],
    name: &str,
    now: Millis,
) -> Result<Option<Detail>, Error> {
    let Some(destination) = overview(store, settings, now).await?.data.into_iter().find(|of| of.name == name) else {
        return Ok(None);
    };
    let subjects = store.waiting_at(name, MAX_SHOWN).await?.into_iter().map(WaitingShown::from).collect();
    Ok(Some(Detail { destination, subjects }))
}

/// Carries out an order, and says how the destination stands then.
pub async fn carry_out(
    store: &Store,
    settings: &[DestinationSettings],
    name: &str,
    order: DestinationOrder,
    now: Millis,
) -> Result<Shown, Unchanged> {
    let is_done = store.writer().order_destination(name, order, now).await?;
    let found = overview(store, settings, now).await?.data.into_iter().find(|of| of.name == name);
    let after = found.ok_or(Unchanged::Unknown)?;
    match order {
        _ if is_done => Ok(after),
        _ if after.state == "not-started" => {
            Err(Unchanged::Refused("no server has taken it up yet: everything is sent to it when one does"))
        }
        DestinationOrder::Rewind(_) if after.resending_since.is_some() => {
            Err(Unchanged::Refused("everything is being sent to it already"))
        }
        DestinationOrder::Rewind(_) => Err(Unchanged::Refused("it has not been told so much yet")),
        // It was paused before.
        DestinationOrder::Pause | DestinationOrder::Resume | DestinationOrder::Resend => Ok(after),
    }
}

fn shown(
    name: &str,
    settings: Option<&DestinationSettings>,
    standing: Option<&DestinationStanding>,
    now: Millis,
) -> Shown {
    let destination = standing.map(|standing| &standing.destination);
    let resending_since = destination.and_then(|of| of.place.resend.as_ref()).map(|resend| resend.began_at);
    let trouble = destination.and_then(|of| of.trouble.as_ref());
    let state = match destination {
        None => "not-started",
        Some(_) if settings.is_none() => "not-set",
        Some(of) if of.is_paused => "paused",
        Some(_) if trouble.is_some() => "failing",
        Some(_) if resending_since.is_some() => "resending",
        Some(_) => "running",
    };
    let place = destination.map_or(0, |of| of.place.sequence);
    let oldest = resending_since.or(standing.and_then(|standing| standing.oldest_at));
    Shown {
        name: name.to_owned(),
        kind: settings
            .map(|of| of.kind.as_str().to_owned())
            .or_else(|| destination.map(|of| of.kind.clone()))
            .unwrap_or_default(),
        url: settings.map(|of| format!("{}/{MASK}", of.host())),
        entities: settings.iter().flat_map(|of| &of.entities).map(|entity| entity.as_str().to_owned()).collect(),
        state,
        place,
        behind: standing.map_or(0, |standing| standing.newest - place),
        behind_seconds: oldest.map_or(0, |since| (now.0 - since.0).max(0) / 1000),
        resending_since,
        waiting: standing.map_or(0, |standing| standing.waiting),
        parked: standing.map_or(0, |standing| standing.parked),
        last_ok_at: destination.and_then(|of| of.last_ok_at),
        failing_since: trouble.map(|trouble| trouble.since),
        last_error: trouble.map(|trouble| trouble.error.clone()),
    }
}

impl From<Waiting> for WaitingShown {
    fn from(waiting: Waiting) -> Self {
        Self {
            subject: waiting.change.subject.to_string(),
            sequence: waiting.change.sequence,
            operation: waiting.change.operation.as_str().to_owned(),
            state: if waiting.is_parked() { "parked" } else { "waiting" },
            attempts: waiting.attempts,
            since: waiting.since,
            due_at: waiting.due_at,
            error: waiting.error,
        }
    }
}

//! How many deliveries came when, and what became of them: counts by minute and by hour, kept apart from the audit table, so
//! that a chart costs the same whatever that holds (docs/decisions/0024-dashboard.md).

use std::collections::BTreeMap;

use faircopy_core::Millis;

use crate::engine::{Call, Row, Rows};
use crate::error::Result;
use crate::leases::Fence;
use crate::{Store, Writer};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// How long the counts of minutes are kept: twice the day that is shown by them.
const MINUTES_KEPT_MS: i64 = 48 * HOUR_MS;
/// How long those of hours are: five weeks.
const HOURS_KEPT_MS: i64 = 35 * 24 * HOUR_MS;
/// Arrivals that were not added up yet and are counted when somebody asks: fifteen seconds of a busy instance.
const RECENT_AT_ONCE: i64 = 2_000;
/// What refused signatures are counted under: no delivery has this outcome.
const REFUSED: &str = "refused";

/// How finely time is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grain {
    /// By minutes: the last two days are known so.
    Minute,
    /// By hours: the last five weeks.
    Hour,
}

impl Grain {
    /// Its length.
    #[must_use]
    pub fn ms(self) -> i64 {
        match self {
            Self::Minute => MINUTE_MS,
            Self::Hour => HOUR_MS,
        }
    }
}

/// What came within a stretch of time.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Arrivals {
    /// Deliveries that changed a row.
    pub applied: i64,
    /// Deliveries older than what was known.
    pub stale: i64,
    /// Deliveries of what is not mirrored.
    pub ignored: i64,
    /// Deliveries that could not be understood.
    pub quarantined: i64,
    /// Requests whose signature was not good, as far as the process that refused them could write it down.
    pub refused: i64,
    /// How late deliveries were after their events, on average, in milliseconds; `null` where none says.
    pub lag_ms: Option<i64>,
    /// How late the latest was.
    pub max_lag_ms: Option<i64>,
}

/// Counts that are added to one another.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    deliveries: i64,
    lagging: i64,
    lag_ms: i64,
    max_lag_ms: i64,
}

impl Count {
    fn add(&mut self, other: Self) {
        self.deliveries += other.deliveries;
        self.lagging += other.lagging;
        self.lag_ms += other.lag_ms;
        self.max_lag_ms = self.max_lag_ms.max(other.max_lag_ms);
    }
}

/// Counts by the beginning of a stretch, and outcome.
type Counts = BTreeMap<(i64, String), Count>;

/// What came, stretch by stretch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Activity {
    /// By the beginning of the stretch; what is not there saw nothing.
    pub stretches: BTreeMap<i64, Arrivals>,
    /// More came lately than is counted when somebody asks: the newest stretch says too little.
    pub is_partial: bool,
}

/// Deliveries of a stretch of arrivals, by minute and outcome.
const BY_MINUTE: &str = "SELECT d.at, d.outcome, count(*), count(d.lag), CAST(coalesce(sum(d.lag), 0) AS bigint), \
    CAST(coalesce(max(d.lag), 0) AS bigint) \
    FROM (SELECT {ms t.received_at} / 60000 * 60000 AS at, t.outcome, \
     CASE WHEN t.event_at <= t.received_at THEN {ms t.received_at} - {ms t.event_at} END AS lag \
     FROM (SELECT received_at, event_at, outcome FROM {s}webhook_deliveries \
      WHERE received_at >= {as-time $1} AND received_at < {as-time $2} LIMIT $3) AS t) AS d \
    GROUP BY d.at, d.outcome";

impl Store {
    /// What came since a time, in stretches of so many milliseconds, a multiple of the grain's. The cost follows from how many
    /// stretches there are, and not from how much came.
    pub async fn activity(&self, grain: Grain, since: Millis, stretch_ms: i64, now: Millis) -> Result<Activity> {
        const KEPT: &str = "SELECT at / $3 * $3, outcome, CAST(sum(deliveries) AS bigint), CAST(sum(lagging) AS bigint), \
            CAST(sum(lag_ms) AS bigint), max(max_lag_ms) FROM {s}activity \
            WHERE grain_ms = $1 AND at >= $2 GROUP BY 1, 2";
        // The place first: what is added up while this is read is then counted twice at worst, and by no one for good.
        let until = self.activity_until().await?.unwrap_or(since).max(since);
        let scalars = vec![grain.ms().into(), since.0.into(), stretch_ms.into()];
        let mut counts = Counts::new();
        for row in self.readers.read(KEPT, scalars).await? {
            let (at, outcome, count) = read(&row)?;
            counts.entry((at, outcome)).or_default().add(count);
        }
        // A clock that went back must not hide what came before it did.
        let end = now.plus(MINUTE_MS);
        let recent = vec![until.into(), end.into(), (RECENT_AT_ONCE + 1).into()];
        let mut came = 0;
        for row in self.readers.read(BY_MINUTE, recent).await? {
            let (at, outcome, count) = read(&row)?;
            came += count.deliveries;
            counts.entry((at.div_euclid(stretch_ms) * stretch_ms, outcome)).or_default().add(count);
        }
        Ok(Activity { stretches: by_stretch(&counts), is_partial: came > RECENT_AT_ONCE })
    }

    /// Up to which arrival deliveries were added up.
    pub async fn activity_until(&self) -> Result<Option<Millis>> {
        let rows = self.readers.read("SELECT until_at FROM {s}activity_place", vec![]).await?;
        Ok(rows.first().map_or(Ok(None), |row| row.int(0))?.map(Millis))
    }

    /// When the first delivery at or after a time arrived.
    pub async fn first_arrival_since(&self, at: Millis) -> Result<Option<Millis>> {
        const STATEMENT: &str = "SELECT {time received_at} FROM {s}webhook_deliveries \
            WHERE received_at >= {as-time $1} ORDER BY received_at LIMIT 1";
        let rows = self.readers.read(STATEMENT, vec![at.into()]).await?;
        Ok(rows.first().map_or(Ok(None), |row| row.text(0))?.and_then(|text| Millis::parse(&text)))
    }
}

impl Writer {
    /// Adds up the deliveries that arrived from `from` and before `until`, and remembers the place, in one transaction under the
    /// fence. Beside the pen: it is no row of the copy, and keeps no delivery waiting.
    pub async fn add_up(&mut self, store: &Store, from: Millis, until: Millis, fence: &Fence) -> Result<()> {
        const PLACE: &str = "UPDATE {s}activity_place SET until_at = $1";
        let mut minutes = Counts::new();
        for row in store.readers.read(BY_MINUTE, vec![from.into(), until.into(), i64::MAX.into()]).await? {
            let (at, outcome, count) = read(&row)?;
            minutes.insert((at, outcome), count);
        }
        let mut calls = additions(&minutes);
        calls.push(Call::new(PLACE, vec![until.0.into()]));
        self.run_beside(Some(fence), calls).await.map(drop)
    }

    /// Counts requests whose signature was refused. Every process has its own, and needs no lease to tell them.
    pub async fn add_refused(&mut self, refused: i64, now: Millis) -> Result<()> {
        let count = Count { deliveries: refused, ..Count::default() };
        let at = now.0.div_euclid(MINUTE_MS) * MINUTE_MS;
        let calls = additions(&Counts::from([((at, REFUSED.to_owned()), count)]));
        self.run_beside(None, calls).await.map(drop)
    }

    /// Forgets counts that nobody shows any more.
    pub async fn forget_activity(&mut self, now: Millis) -> Result<()> {
        const FORGET: &str = "DELETE FROM {s}activity WHERE grain_ms = $1 AND at < $2";
        let old = |grain: Grain, kept: i64| Call::new(FORGET, vec![grain.ms().into(), now.plus(-kept).0.into()]);
        let calls = vec![old(Grain::Minute, MINUTES_KEPT_MS), old(Grain::Hour, HOURS_KEPT_MS)];
        self.run_beside(None, calls).await.map(drop)
    }
}

/// The statements that add counts of minutes to those that are kept, by minute and by hour.
fn additions(minutes: &Counts) -> Vec<Call<'static>> {
    const ADD: &str = "INSERT INTO {s}activity AS t (grain_ms, at, outcome, deliveries, lagging, lag_ms, max_lag_ms) \
        {values v.*} ON CONFLICT (grain_ms, at, outcome) DO UPDATE SET \
        deliveries = t.deliveries + excluded.deliveries, lagging = t.lagging + excluded.lagging, \
        lag_ms = t.lag_ms + excluded.lag_ms, max_lag_ms = \
         CASE WHEN t.max_lag_ms < excluded.max_lag_ms THEN excluded.max_lag_ms ELSE t.max_lag_ms END";
    let mut rows: BTreeMap<(i64, i64, &str), Count> = BTreeMap::new();
    for ((at, outcome), count) in minutes {
        for grain in [MINUTE_MS, HOUR_MS] {
            rows.entry((grain, at.div_euclid(grain) * grain, outcome)).or_default().add(*count);
        }
    }
    let rows = Rows::new(rows.len())
        .int("grain_ms", rows.keys().map(|(grain, ..)| Some(*grain)))
        .int("at", rows.keys().map(|(_, at, _)| Some(*at)))
        .text("outcome", rows.keys().map(|(.., outcome)| Some(*outcome)))
        .int("deliveries", rows.values().map(|count| Some(count.deliveries)))
        .int("lagging", rows.values().map(|count| Some(count.lagging)))
        .int("lag_ms", rows.values().map(|count| Some(count.lag_ms)))
        .int("max_lag_ms", rows.values().map(|count| Some(count.max_lag_ms)));
    vec![Call::over(ADD, rows.into_owned())]
}

fn read(row: &Row) -> Result<(i64, String, Count)> {
    let int = |column| Ok::<i64, crate::Error>(row.int(column)?.unwrap_or_default());
    let count = Count { deliveries: int(2)?, lagging: int(3)?, lag_ms: int(4)?, max_lag_ms: int(5)? };
    Ok((int(0)?, row.required(1)?, count))
}

fn by_stretch(counts: &Counts) -> BTreeMap<i64, Arrivals> {
    let mut lags: BTreeMap<i64, Count> = BTreeMap::new();
    let mut stretches: BTreeMap<i64, Arrivals> = BTreeMap::new();
    for ((at, outcome), count) in counts {
        let arrivals = stretches.entry(*at).or_default();
        match outcome.as_str() {
            "applied" => arrivals.applied += count.deliveries,
            "stale" => arrivals.stale += count.deliveries,
            "ignored" => arrivals.ignored += count.deliveries,
            "quarantined" => arrivals.quarantined += count.deliveries,
            _ => arrivals.refused += count.deliveries,
        }
        lags.entry(*at).or_default().add(*count);
    }
    for (at, lag) in lags.into_iter().filter(|(_, lag)| lag.lagging > 0) {
        let arrivals = stretches.entry(at).or_default();
        (arrivals.lag_ms, arrivals.max_lag_ms) = (Some(lag.lag_ms / lag.lagging), Some(lag.max_lag_ms));
    }
    stretches
}

//! What only one replica should do at a time is done under a lease: a row, because a pooler carries no session's lock.
//!
//! A lease saves work, and its fence keeps what matters: each new holder has a higher one, and whatever is written in the name
//! of a lease is written only while its fence is the newest. Leases change hands under the pen, and fences are compared under
//! it, so that there is no moment between the two.

use std::collections::BTreeSet;

use faircopy_core::Millis;

use crate::engine::{self, Call, Connection, Row, Rows, Value};
use crate::error::{Error, Result};
use crate::{Store, Writer};

/// The right to do one kind of work, and the number that proves it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence {
    /// Which lease.
    pub lease: &'static str,
    /// Which of its holders.
    pub number: i64,
}

impl Store {
    /// Who had a lease last, and may still have it.
    pub async fn lease_holder(&self, lease: &str) -> Result<Option<String>> {
        const STATEMENT: &str = "SELECT holder FROM {s}leases WHERE name = $1";
        self.readers.read(STATEMENT, vec![lease.into()]).await?.first().map_or(Ok(None), |row| row.text(0))
    }
}

impl Writer {
    /// Takes a lease for so many milliseconds, or renews it where this holder has it; `None` while somebody else has.
    /// A holder is named by chance, anew for each run.
    pub async fn take_lease(
        &mut self,
        lease: &'static str,
        holder: &str,
        now: Millis,
        for_ms: i64,
    ) -> Result<Option<Fence>> {
        self.take(lease, holder, None, now, for_ms).await
    }

    /// Takes a lease over from a holder that is known to be gone, without waiting for its end; `None` if it is not that
    /// holder who has it any more.
    pub async fn inherit_lease(
        &mut self,
        lease: &'static str,
        gone: &str,
        holder: &str,
        now: Millis,
        for_ms: i64,
    ) -> Result<Option<Fence>> {
        self.take(lease, holder, Some(gone), now, for_ms).await
    }

    async fn take(
        &mut self,
        lease: &'static str,
        holder: &str,
        gone: Option<&str>,
        now: Millis,
        for_ms: i64,
    ) -> Result<Option<Fence>> {
        let connection = self.fresh().await?;
        let dialect = connection.dialect();
        let work = take(connection, lease, (holder, gone), now, now.plus(for_ms));
        let number = engine::complete(dialect, Box::pin(work)).await;
        Ok(self.settle(number).await?.map(|number| Fence { lease, number }))
    }

    /// Gives a lease up, so that nobody has to wait for its end.
    pub async fn give_up_lease(&mut self, fence: &Fence) -> Result<()> {
        let release = "UPDATE {s}leases SET until_at = 0 WHERE name = $1 AND fence = $2";
        let call = Call::new(release, vec![fence.lease.into(), fence.number.into()]);
        self.write_under(None, vec![call]).await
    }

    /// Writes under the pen, if the fence is still the newest.
    pub(crate) async fn write_under(&mut self, fence: Option<&Fence>, calls: Vec<Call<'_>>) -> Result<()> {
        self.run_under(fence, calls).await.map(drop)
    }

    /// As [`Writer::write_under`], and says what the calls answered.
    pub(crate) async fn run_under(&mut self, fence: Option<&Fence>, calls: Vec<Call<'_>>) -> Result<Vec<Vec<Row>>> {
        let connection = self.fresh().await?;
        let dialect = connection.dialect();
        let result = engine::complete(dialect, Box::pin(write(connection, fence, calls))).await;
        self.settle(result).await
    }
}

async fn write(connection: &mut Connection, fence: Option<&Fence>, calls: Vec<Call<'_>>) -> Result<Vec<Vec<Row>>> {
    let fences: BTreeSet<&Fence> = fence.into_iter().collect();
    let begun = connection.begin(vec![], vec![held(&fences)]).await?;
    if let Some(fence) = fence
        && !begun.under_pen.first().is_some_and(|rows| read_held(rows, &fences).contains(fence))
    {
        connection.rollback().await?;
        return Err(Error::LeaseLost(fence.lease));
    }
    let answers = connection.run_all(calls).await?;
    connection.finish(vec![]).await?;
    Ok(answers)
}

async fn take(
    connection: &mut Connection,
    lease: &'static str,
    (holder, gone): (&str, Option<&str>),
    now: Millis,
    until: Millis,
) -> Result<Option<i64>> {
    const LOOK: &str = "SELECT holder, fence, until_at FROM {s}leases WHERE name = $1";
    const TAKE: &str = "INSERT INTO {s}leases AS l (name, holder, fence, until_at) VALUES ($1, $2, $3, $4) \
        ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, fence = excluded.fence, until_at = excluded.until_at";
    let mut begun = connection.begin(vec![], vec![Call::new(LOOK, vec![lease.into()])]).await?;
    let known = begun.under_pen.pop().unwrap_or_default();
    let number = match known.first() {
        None => 1,
        Some(row) => {
            let (by, number) = (row.required(0)?, row.int(1)?.unwrap_or_default());
            let is_ours = by == holder;
            let is_free = row.int(2)?.unwrap_or_default() <= now.0 || gone == Some(by.as_str());
            if !is_ours && !is_free {
                connection.rollback().await?;
                return Ok(None);
            }
            number + i64::from(!is_ours)
        }
    };
    let scalars: Vec<Value> = vec![lease.into(), holder.into(), number.into(), until.0.into()];
    connection.finish(vec![Call::new(TAKE, scalars)]).await?;
    Ok(Some(number))
}

/// Asks which of these fences are the newest of their leases.
pub(crate) fn held<'a>(fences: &BTreeSet<&'a Fence>) -> Call<'a> {
    let rows = Rows::new(fences.len())
        .text("name", fences.iter().map(|fence| Some(fence.lease)))
        .int("fence", fences.iter().map(|fence| Some(fence.number)));
    Call::over(
        "SELECT l.name, l.fence FROM {rows} AS v JOIN {s}leases l ON l.name = v.name AND l.fence = v.fence",
        rows,
    )
}

/// Reads what [`held`] found.
pub(crate) fn read_held<'a>(rows: &[Row], fences: &BTreeSet<&'a Fence>) -> BTreeSet<&'a Fence> {
    let is_held = |fence: &Fence| {
        rows.iter().any(|row| {
            matches!((row.text(0), row.int(1)), (Ok(Some(name)), Ok(Some(number)))
                if name == fence.lease && number == fence.number)
        })
    };
    fences.iter().copied().filter(|fence| is_held(fence)).collect()
}

//! What is kept for so long and no longer (docs/data-protection.md). Each call changes a small number of rows, found by an index; call
//! again while it is not 0.

use faircopy_core::Millis;

use crate::engine::{self, Call, Row, Value};
use crate::error::Result;
use crate::{Store, Writer};

impl Store {
    /// The last number of the change feed that was forgotten; 0 where none was.
    pub async fn forgotten_changes(&self) -> Result<i64> {
        let rows = self.readers.read("SELECT forgotten FROM {s}feed", vec![]).await?;
        Ok(rows.first().map_or(Ok(None), |row| row.int(0))?.unwrap_or_default())
    }
}

impl Writer {
    /// Empties payloads of deliveries that arrived before this time and after `from`, the place where an earlier call ended. What is
    /// quarantined is kept: it waits for a mend. Returns how many were emptied, and where to go on; `None` when there are no more.
    pub async fn empty_payloads(
        &mut self,
        before: Millis,
        from: Option<&str>,
        limit: i64,
        now: Millis,
    ) -> Result<(usize, Option<String>)> {
        const NEXT: &str = "SELECT svix_id, {time received_at}, payload IS NOT NULL AND outcome <> 'quarantined' \
            FROM {s}webhook_deliveries WHERE (received_at, svix_id) > ({as-time $1}, $2) AND received_at < {as-time $3} \
            ORDER BY received_at, svix_id LIMIT $4";
        let (at, id) = from.and_then(|from| from.split_once('~')).unwrap_or(("1970-01-01T00:00:00.000Z", ""));
        let scalars = vec![at.into(), id.into(), before.into(), limit.into()];
        let found = self.run_beside(None, vec![Call::new(NEXT, scalars)]).await?.pop().unwrap_or_default();
        let mut full = Vec::new();
        for row in &found {
            if row.bool(2)?.unwrap_or_default() {
                full.push(row.required(0)?);
            }
        }
        full.sort_unstable();
        if !full.is_empty() {
            self.run_beside(None, vec![empty(&full, now)]).await?;
        }
        let is_full = i64::try_from(found.len()).is_ok_and(|length| length >= limit);
        let last = found.last().filter(|_| is_full);
        let last = last.map(|row| Ok::<_, crate::Error>(format!("{}~{}", row.required(1)?, row.required(0)?)));
        Ok((full.len(), last.transpose()?))
    }

    /// Forgets deliveries that arrived before this time.
    pub async fn forget_deliveries(&mut self, before: Millis, limit: i64) -> Result<usize> {
        // In the order of the ids, as the writers lock them.
        const FORGET: &str = "DELETE FROM {s}webhook_deliveries WHERE svix_id IN (SELECT svix_id FROM \
            (SELECT svix_id FROM {s}webhook_deliveries WHERE received_at < {as-time $1} ORDER BY received_at LIMIT $2) AS old \
            ORDER BY svix_id) RETURNING svix_id";
        self.forget(FORGET, vec![before.into(), limit.into()]).await
    }

    /// Forgets entries of the change feed that were written before this time, from the first on, and remembers up to which: whoever asks
    /// for them is told. The last entry stays.
    pub async fn forget_changes(&mut self, before: Millis, limit: i64) -> Result<usize> {
        const LAST: &str = "SELECT max(sequence) FROM (SELECT sequence, changed_at FROM {s}changes \
            WHERE sequence > (SELECT forgotten FROM {s}feed) AND sequence < (SELECT sequence FROM {s}feed) \
            ORDER BY sequence LIMIT $2) AS old WHERE changed_at < {as-time $1}";
        const FORGOTTEN: &str = "UPDATE {s}feed SET forgotten = $1";
        const FORGET: &str = "DELETE FROM {s}changes WHERE sequence <= $1 RETURNING sequence";
        let connection = self.fresh().await?;
        let dialect = connection.dialect();
        let work = async move {
            // Under the pen: the row is the feed's.
            let begun = connection.begin(vec![], vec![Call::new(LAST, vec![before.into(), limit.into()])]).await?;
            let last =
                begun.under_pen.first().and_then(|rows| rows.first()).map_or(Ok(None), |row: &Row| row.int(0))?;
            let mut gone = 0;
            if let Some(last) = last {
                connection.run(Call::new(FORGOTTEN, vec![last.into()])).await?;
                gone = connection.run(Call::new(FORGET, vec![last.into()])).await?.len();
            }
            connection.finish(vec![]).await?;
            Ok(gone)
        };
        let result = engine::complete(dialect, Box::pin(work)).await;
        self.settle(result).await
    }

    /// Forgets reports of sweeps that ended before this time, but for the newest of all.
    pub async fn forget_sweeps(&mut self, before: Millis, limit: i64) -> Result<usize> {
        const FORGET: &str = "DELETE FROM {s}sweeps WHERE id IN (SELECT id FROM {s}sweeps WHERE finished_at < {as-time $1} \
            AND id < (SELECT max(id) FROM {s}sweeps) ORDER BY finished_at LIMIT $2) RETURNING id";
        self.forget(FORGET, vec![before.into(), limit.into()]).await
    }

    /// Forgets receipts of erasures that were begun before this time and are done.
    pub async fn forget_erasures(&mut self, before: Millis, limit: i64) -> Result<usize> {
        const FORGET: &str = "DELETE FROM {s}erasures WHERE clerk_user_id IN (SELECT clerk_user_id FROM {s}erasures \
            WHERE began_at < $1 AND due_at IS NULL ORDER BY began_at LIMIT $2) RETURNING clerk_user_id";
        self.forget(FORGET, vec![before.0.into(), limit.into()]).await
    }

    async fn forget(&mut self, statement: &str, scalars: Vec<Value>) -> Result<usize> {
        Ok(self.run_beside(None, vec![Call::new(statement, scalars)]).await?.first().map_or(0, Vec::len))
    }
}

fn empty(full: &[String], now: Millis) -> Call<'_> {
    const STATEMENT: &str = "UPDATE {s}webhook_deliveries AS t SET payload = NULL, erased_at = coalesce(t.erased_at, v.now) \
        FROM {rows} AS v WHERE t.svix_id = v.svix_id AND t.svix_id {any-of SELECT v.svix_id FROM {rows} AS v}";
    let rows = engine::Rows::new(full.len())
        .text("svix_id", full.iter().map(|id| Some(id.as_str())))
        .time("now", full.iter().map(|_| Some(now)));
    Call::over(STATEMENT, rows)
}

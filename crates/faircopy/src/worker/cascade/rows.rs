//! The rows of a job: children before parents, a batch at a time, each in a transaction of its own.
//!
//! Nothing is remembered between batches but what is deleted: whoever takes the job up next finds what is left.

use std::time::Duration;

use faircopy_core::Millis;
use faircopy_core::cascade::tree::{Hang, Node, Parent, Root};
use faircopy_store::{Batch, Cascade, Error, Fence, LEAVES_AT_ONCE, Mandate, PARENTS_AT_ONCE, Store, Subject, Which};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::Cascader;

/// Batches of one job before the next job has its turn: about a second.
const BATCHES_AT_ONCE: u32 = 25;
/// The rest after a batch is so many times what it took: others have fifteen sixteenths of the database's time.
const REST: i64 = 15;
/// The shortest rest, because a clock counts whole milliseconds; and the longest: what a batch takes when the database is slow says
/// nothing about how long others need.
const SHORTEST_REST_MS: i64 = 2;
const LONGEST_REST_MS: i64 = 500;
/// How often rows that have children again are tried before the job is put off.
const TRIES: u32 = 3;

/// How far a turn has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cleared {
    /// Nothing hangs on the roots any more.
    All,
    /// The turn is over, and there is more.
    More,
    /// The job is not being carried out any more.
    Stopped,
}

/// One turn of one job.
pub(super) struct Turn<'c> {
    cascader: &'c mut Cascader,
    cascade: &'c Cascade,
    workspaces: &'c [String],
    fence: &'c Fence,
    left: u32,
    /// Rows that went in this turn.
    pub(super) removed: i64,
}

/// What a job's rows hang on, and under which key.
pub(super) async fn roots(store: &Store, cascade: &Cascade) -> Result<Vec<(Root, String)>, Error> {
    match cascade.kind {
        Subject::User => Ok(vec![(Root::User, cascade.subject.clone())]),
        Subject::Organization => {
            let workspaces = store.ended_workspaces(cascade).await?.into_iter().map(|id| (Root::Workspace, id));
            Ok(workspaces.chain([(Root::Organization, cascade.subject.clone())]).collect())
        }
    }
}

impl<'c> Turn<'c> {
    pub(super) fn new(
        cascader: &'c mut Cascader,
        cascade: &'c Cascade,
        workspaces: &'c [String],
        fence: &'c Fence,
    ) -> Self {
        Self { cascader, cascade, workspaces, fence, left: BATCHES_AT_ONCE, removed: 0 }
    }

    /// Deletes what hangs on these roots, as far as one turn reaches.
    pub(super) async fn clear_all(&mut self, roots: &[(Root, String)]) -> Result<Cleared, Error> {
        let tree = self.cascader.rules.tree.clone();
        for (root, key) in roots {
            for (node, hang) in tree.hanging_on(&Parent::Root(*root)) {
                match self.clear(node, hang, vec![key.clone()]).await? {
                    Cleared::All => {}
                    other => return Ok(other),
                }
            }
        }
        Ok(Cleared::All)
    }

    /// Deletes the rows of a table that hang on these, and first what hangs on them. (Boxed: it calls itself.)
    fn clear<'a>(
        &'a mut self,
        node: &'a Node,
        hang: &'a Hang,
        parents: Vec<String>,
    ) -> BoxFuture<'a, Result<Cleared, Error>> {
        async move {
            let tree = self.cascader.rules.tree.clone();
            let name = Parent::Table(node.name.clone());
            let below: Vec<(&Node, &Hang)> = tree.hanging_on(&name).collect();
            if below.is_empty() {
                return self.clear_leaves(node, hang, &parents).await;
            }
            let mut tries = 0;
            loop {
                let keys = self.cascader.store.hanging_on(node, hang, &parents, PARENTS_AT_ONCE).await?;
                if keys.is_empty() {
                    return Ok(Cleared::All);
                }
                for (child, of_child) in &below {
                    match self.clear(child, of_child, keys.clone()).await? {
                        Cleared::All => {}
                        other => return Ok(other),
                    }
                }
                match self.delete(node, Which::Named(&keys, &below)).await? {
                    Batch::Stopped => return Ok(Cleared::Stopped),
                    Batch::Deleted(_) => tries = 0,
                    Batch::HasChildren => tries += 1,
                }
                if self.left == 0 || tries == TRIES {
                    return Ok(Cleared::More);
                }
            }
        }
        .boxed()
    }

    async fn clear_leaves(&mut self, node: &Node, hang: &Hang, parents: &[String]) -> Result<Cleared, Error> {
        loop {
            match self.delete(node, Which::HangingOn(hang, parents)).await? {
                Batch::Stopped | Batch::HasChildren => return Ok(Cleared::Stopped),
                Batch::Deleted(rows) if rows < LEAVES_AT_ONCE => return Ok(Cleared::All),
                Batch::Deleted(_) if self.left == 0 => return Ok(Cleared::More),
                Batch::Deleted(_) => {}
            }
        }
    }

    /// One batch, and a rest.
    async fn delete(&mut self, node: &Node, which: Which<'_>) -> Result<Batch, Error> {
        self.cascader.renew(self.fence).await?;
        let now = self.cascader.clock.now();
        let without_key = self.cascader.outside.without_key();
        let (cascade, workspaces, fence) = (self.cascade, self.workspaces, self.fence);
        let mandate = Mandate { cascade, workspaces, fence, without_key: &without_key, now };
        let batch = self.cascader.writer.delete_rows(mandate, node, which).await?;
        if let Batch::Deleted(rows @ 1..) = batch {
            self.removed += rows;
            self.left = self.left.saturating_sub(1);
            self.cascader.metrics.cascade_rows(rows.unsigned_abs());
            tokio::time::sleep(rest(now, self.cascader.clock.now())).await;
        }
        Ok(batch)
    }
}

fn rest(began: Millis, now: Millis) -> Duration {
    Duration::from_millis((REST * (now.0 - began.0)).clamp(SHORTEST_REST_MS, LONGEST_REST_MS).unsigned_abs())
}

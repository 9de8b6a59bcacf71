//! Reconciles that an operator orders while the service runs: begun by a request, carried out by a worker, one at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, watch};

use super::{Glimpse, Order, Stop, Sweeper};

/// Orders reconciles. Cheap to clone.
#[derive(Clone)]
pub struct ByHand {
    sweeper: Sweeper,
    orders: mpsc::Sender<Order>,
    /// One was ordered and is not over.
    busy: Arc<AtomicBool>,
}

/// Carries them out.
pub struct Worker {
    sweeper: Sweeper,
    orders: mpsc::Receiver<Order>,
    busy: Arc<AtomicBool>,
}

/// Both ends; the sweeper's name as a holder of leases must be theirs alone.
#[must_use]
pub fn channel(sweeper: Sweeper) -> (ByHand, Worker) {
    let (sender, orders) = mpsc::channel(1);
    let busy = Arc::<AtomicBool>::default();
    (ByHand { sweeper: sweeper.clone(), orders: sender, busy: busy.clone() }, Worker { sweeper, orders, busy })
}

impl ByHand {
    /// Begins a reconcile, which goes on when this returns.
    ///
    /// # Errors
    /// [`Stop::Busy`] while another one is under way, in whichever process.
    pub async fn begin(&self, order: Order) -> Result<(), Stop> {
        if self.busy.swap(true, Ordering::AcqRel) {
            return Err(Stop::Busy);
        }
        let begun = self.try_begin(order).await;
        if begun.is_err() {
            self.busy.store(false, Ordering::Release);
        }
        begun
    }

    /// The lease is taken here, so that whoever ordered knows; the worker renews it.
    async fn try_begin(&self, order: Order) -> Result<(), Stop> {
        self.sweeper.take_lease(&mut self.sweeper.store.writer()).await?.ok_or(Stop::Busy)?;
        self.orders.try_send(order).map_err(|_| Stop::Busy)
    }
}

impl Worker {
    /// Runs until it is aborted. One that is broken off leaves its lease to run out.
    pub async fn run(mut self) {
        while let Some(order) = self.orders.recv().await {
            match self.sweeper.run(order, &watch::Sender::new(Glimpse::default())).await {
                Ok(report) => {
                    tracing::info!(outcome = ?report.outcome, dry_run = order.dry_run, "a reconcile by hand has ended");
                }
                Err(stop) => {
                    tracing::warn!(%stop, code = "reconcile-failed", "a reconcile by hand could not be finished");
                }
            }
            self.busy.store(false, Ordering::Release);
        }
    }
}

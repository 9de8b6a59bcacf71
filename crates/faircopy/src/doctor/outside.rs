//! What deletions need: a tree that fits, and services outside that answer.

use futures_util::future::join_all;

use super::{Answer, Doctor};
use crate::config::StepSettings;
use crate::upstream::destination::{Lane, Unfit};
use crate::upstream::exchange::Fault;
use crate::upstream::liveblocks::Liveblocks;
use crate::upstream::step::Step;

impl Doctor {
    pub(super) async fn content(&self) -> Answer {
        let tree = &self.config.cascade.tree;
        match self.store.content_faults(tree).await {
            Ok(faults) if faults.is_empty() => Answer::ok(format!("{} tables can be deleted from", tree.order().len())),
            Ok(faults) => Answer::failed(
                "content-tree-invalid",
                format!("{} faults, first: {}", faults.len(), faults[0]),
                "Correct `[[content]]`, or the table; docs/content-tree.md has the rules. `serve` does not start until then.",
            ),
            Err(_) => Answer::skipped("the database cannot be read: see `database`"),
        }
    }

    pub(super) async fn liveblocks(&self) -> Answer {
        let settings = &self.config.liveblocks;
        let Some(liveblocks) = Liveblocks::new(settings, self.metrics.clone()) else {
            return Answer::skipped("no LIVEBLOCKS_SECRET_KEY is set: rooms are left where they are");
        };
        match liveblocks.check_key().await {
            Ok(()) => Answer::ok(format!("{}: the key lists rooms", settings.url)),
            Err(fault @ Fault::Refused(_)) => Answer::failed(
                "outside-key-refused",
                format!("{}: {fault}", settings.url),
                "Copy the secret key (`sk_…`) anew from Liveblocks' dashboard; a public key cannot delete.",
            ),
            Err(fault @ Fault::Limited { .. }) => {
                Answer::warning("outside-unreachable", format!("{}: {fault}", settings.url), "Wait; deletions do.")
            }
            Err(fault) => Answer::failed(
                "outside-unreachable",
                format!("{}: {fault}", settings.url),
                "Check LIVEBLOCKS_API_URL and the way out of this network. Deletions wait meanwhile.",
            ),
        }
    }

    /// Whether each step's address answers at all. It is asked with `HEAD`, which must change nothing; so what it answers says little.
    pub(super) async fn steps(&self) -> Answer {
        let steps = &self.config.steps;
        if steps.is_empty() {
            return Answer::skipped("no `[[step]]` is set");
        }
        let seen = join_all(steps.iter().map(|step| self.ask(step))).await;
        let silent: Vec<String> = steps
            .iter()
            .zip(&seen)
            .filter_map(|(step, seen)| {
                seen.as_ref().err().map(|fault| format!("`{}` ({}): {fault}", step.name, step.url))
            })
            .collect();
        if silent.is_empty() {
            let shown = steps.iter().zip(&seen).filter_map(|(step, seen)| Some((step, seen.as_ref().ok()?)));
            let shown: Vec<String> =
                shown.map(|(step, status)| format!("`{}` answers {status} to HEAD", step.name)).collect();
            return Answer::ok(shown.join(", "));
        }
        Answer::failed(
            "outside-unreachable",
            silent.join("; "),
            "Start what listens there, or correct `step.url`. Deletions wait meanwhile.",
        )
    }

    /// Whether each destination is there and takes its key. Nothing of the copy is sent.
    pub(super) async fn destinations(&self) -> Answer {
        let settings = &self.config.destinations;
        if settings.is_empty() {
            return Answer::skipped("no `[[destination]]` is set");
        }
        let seen = join_all(settings.iter().map(|of| async {
            match Lane::new(of, &self.metrics) {
                Some(mut lane) => lane.check().await,
                None => Err(Unfit::Incomplete("there is no TLS".into())),
            }
        }));
        let seen: Vec<_> = settings.iter().zip(seen.await).collect();
        let told = |is_told: &dyn Fn(&Unfit) -> bool| {
            let unfit =
                seen.iter().filter_map(|(of, seen)| Some((of, seen.as_ref().err().filter(|unfit| is_told(unfit))?)));
            let told: Vec<String> =
                unfit.map(|(of, unfit)| format!("`{}` ({}): {unfit}", of.name, of.host())).collect();
            Some(told.join("; ")).filter(|told| !told.is_empty())
        };
        if let Some(refused) = told(&|unfit| matches!(unfit, Unfit::Fault(Fault::Refused(_)))) {
            return Answer::failed(
                "destination-key-refused",
                refused,
                "Copy the deploy key, token or credentials anew; what it lacks follows when it takes them.",
            );
        }
        if let Some(incomplete) = told(&|unfit| matches!(unfit, Unfit::Incomplete(_))) {
            return Answer::failed(
                "destination-incomplete",
                incomplete,
                "Deploy the module to Convex, or make the stream at NATS: docs/destinations.md has the steps.",
            );
        }
        if let Some(silent) = told(&|_| true) {
            return Answer::failed(
                "destination-unreachable",
                silent,
                "Start what listens there, or correct `destination.url`. What it lacks follows when it is there.",
            );
        }
        let shown = seen.iter().filter_map(|(of, seen)| Some(format!("`{}`: {}", of.name, seen.as_ref().ok()?)));
        Answer::ok(shown.collect::<Vec<_>>().join(", "))
    }

    async fn ask(&self, settings: &StepSettings) -> Result<u16, Fault> {
        let step = Step::new(settings.clone(), self.metrics.clone()).ok_or(Fault::Unreachable("there is no TLS"))?;
        step.answers().await
    }
}

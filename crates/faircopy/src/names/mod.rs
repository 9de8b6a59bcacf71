//! Names for display where the copy has none. In the minimal profile mode nothing personal is stored; what an answer shows of
//! people is asked of Clerk and kept in memory for a while.
//!
//! Ids that are wanted within [`GATHER`] are one question, and an id that many want is asked for once. No request fails
//! because of a name, and none waits longer than [`PATIENCE`]: what is not at hand then is the id. A name that has become old
//! serves on while Clerk does not answer. Only ids that the copy shows are ever looked up, so nobody's name outlives their row.

mod shelf;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use faircopy_core::id::UserId;
use faircopy_core::{Millis, ProfileMode};
use faircopy_store::{Membership, Person, Store, UserRecord};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};

use crate::app::Clock;
use crate::config::Config;
use crate::telemetry::Metrics;
use crate::upstream::clerk::{Clerk, Fault, MAX_NAMED, Share};
use shelf::{Look, Shelf, Shown, Wait};

/// How long ids are gathered before they are asked for together: a page's rows come at once, requests of one screen within
/// milliseconds.
const GATHER: Duration = Duration::from_millis(5);
/// How long an answer waits for names that are not at hand. Clerk mostly answers in a tenth of it.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an answer waits for newer names than those at hand.
const NEWS_PATIENCE: Duration = Duration::from_millis(250);
/// Questions under way at once: half of what the client has places for.
const MAX_UNDER_WAY: usize = 2;
/// How long one question may take, with the wait for its turn. After it Clerk counts as silent.
const DEADLINE: Duration = Duration::from_secs(5);
/// How often the copy is asked who of those that are kept is gone.
const PRUNE_MS: i64 = 60_000;
/// How often the clock is looked at for that.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many are asked about at once.
const PRUNE_AT_ONCE: usize = 500;

/// What names an answer shows.
#[derive(Clone)]
pub enum Names {
    /// Those of the copy: the full profile mode.
    OfTheCopy,
    /// None, because there is no key to ask with: ids.
    None,
    /// Clerk's.
    OfClerk(Arc<Desk>),
}

/// Where names of Clerk's are asked for and kept.
pub struct Desk {
    clerk: Arc<Clerk>,
    store: Store,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    shelf: Mutex<Shelf>,
    /// Somebody is wanted who was not.
    wanted: Notify,
    /// Counts the questions that have ended: what requests wait for.
    ended: watch::Sender<u64>,
}

/// A row that shows a person.
pub trait Named {
    /// Whom.
    fn id(&self) -> &str;
    /// Shows what is known of them; the id where there is no name.
    fn show(&mut self, shown: Option<&Shown>);
}

macro_rules! named {
    ($($row:ty),+) => {
        $(impl Named for $row {
            fn id(&self) -> &str {
                &self.clerk_user_id
            }

            fn show(&mut self, shown: Option<&Shown>) {
                if let Some(Shown { name, email, image_url }) = shown.cloned() {
                    (self.name, self.email, self.image_url) = (name, email, image_url);
                }
                if self.name.is_none() {
                    (self.name, self.name_is_id) = (Some(self.clerk_user_id.clone()), true);
                }
            }
        })+
    };
}

named!(UserRecord, Person, Membership);

impl Names {
    /// As the settings want it. Nothing is asked yet.
    #[must_use]
    pub fn new(
        config: &Config,
        clerk: Option<&Arc<Clerk>>,
        store: &Store,
        clock: &Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Self {
        match (config.profile_mode, clerk) {
            (ProfileMode::Full, _) => Self::OfTheCopy,
            (ProfileMode::Minimal, None) => Self::None,
            (ProfileMode::Minimal, Some(clerk)) => Self::OfClerk(Arc::new(Desk {
                clerk: clerk.clone(),
                store: store.clone(),
                clock: clock.clone(),
                metrics: metrics.clone(),
                shelf: Mutex::new(Shelf::new(config.names_ttl_ms)),
                wanted: Notify::new(),
                ended: watch::channel(0).0,
            })),
        }
    }

    /// Shows names in these rows, each of which the copy has just shown. Never fails, and waits at most [`PATIENCE`].
    pub async fn show<T: Named>(&self, rows: &mut [T]) {
        let desk = match self {
            Self::OfTheCopy => return,
            Self::None => return rows.iter_mut().for_each(|row| row.show(None)),
            Self::OfClerk(desk) => desk,
        };
        // What is no id is nobody's.
        let ids: Vec<Option<UserId>> = rows.iter().map(|row| UserId::parse(row.id()).ok()).collect();
        desk.wait_for(ids.iter().flatten()).await;
        let (now, shelf) = (desk.clock.now(), desk.shelf());
        for (row, id) in rows.iter_mut().zip(&ids) {
            match id.as_ref().map_or(Look::Missing, |id| shelf.look(id, now)) {
                Look::Fresh(shown) => row.show(Some(&shown)),
                Look::Stale(shown) => {
                    desk.metrics.name_shown("stale");
                    row.show(Some(&shown));
                }
                Look::Nobody => {
                    desk.metrics.name_shown("nobody");
                    row.show(None);
                }
                Look::Missing => {
                    desk.metrics.name_shown("failed");
                    row.show(None);
                }
            }
        }
    }

    /// Asks Clerk until it is aborted.
    pub async fn run(self) {
        if let Self::OfClerk(desk) = self {
            tokio::join!(desk.ask_on(), desk.prune_on());
        }
    }
}

impl Desk {
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until what is asked about these is answered, or patience has ended.
    async fn wait_for(&self, ids: impl Iterator<Item = &UserId> + Clone) {
        let mut ended = self.ended.subscribe();
        let now = self.clock.now();
        let (wait, hits, misses) = {
            let mut shelf = self.shelf();
            let hits = ids.clone().filter(|id| matches!(shelf.look(id, now), Look::Fresh(_))).count();
            (shelf.want(ids.clone(), now), hits, ids.clone().count() - hits)
        };
        self.metrics.names_looked_up(hits, misses);
        let patience = match wait {
            Wait::Nothing => return,
            Wait::News => NEWS_PATIENCE,
            Wait::Names => PATIENCE,
        };
        self.wanted.notify_one();
        let settled = async { while !self.shelf().is_settled(ids.clone()) && ended.changed().await.is_ok() {} };
        // Whoever is not known by then is asked for all the same: the next answer will have the name.
        let _ = tokio::time::timeout(patience, settled).await;
    }

    async fn ask_on(&self) {
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = self.wanted.notified(), if under_way.len() < MAX_UNDER_WAY => tokio::time::sleep(GATHER).await,
                Some(()) = under_way.next() => {}
            }
            while under_way.len() < MAX_UNDER_WAY {
                let ids = self.shelf().take(MAX_NAMED);
                if ids.is_empty() {
                    break;
                }
                under_way.push(self.ask(ids));
            }
        }
    }

    /// Puts one question.
    async fn ask(&self, ids: Vec<UserId>) {
        let asking = self.clerk.people(&ids, Share::Foreground);
        let late = Fault::Unreachable("no answer within 5 s");
        match tokio::time::timeout(DEADLINE, asking).await.unwrap_or(Err(late)) {
            Ok(answer) => {
                let found = answer.found.found.into_iter().map(|(id, profile)| (id, profile.into())).collect();
                let mut shelf = self.shelf();
                shelf.learn(&ids, found, answer.found.is_whole, answer.asked_at);
                self.metrics.names_kept(shelf.len());
            }
            Err(fault) => self.failed(&ids, fault),
        }
        self.ended.send_modify(|count| *count += 1);
    }

    fn failed(&self, ids: &[UserId], fault: Fault) {
        let wait_ms = match fault {
            Fault::Limited(wait_ms) => wait_ms,
            _ => 0,
        };
        let now = self.clock.now();
        let quiet_ms = {
            let mut shelf = self.shelf();
            shelf.failed(ids, wait_ms, now);
            shelf.quiet_ms(now)
        };
        self.metrics.names_unanswered(fault.kind());
        tracing::warn!(%fault, quiet_ms, code = "names-not-read", "names for display could not be read from Clerk");
    }

    async fn prune_on(&self) {
        let mut due = self.clock.now().plus(PRUNE_MS);
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = self.clock.now();
            // A clock that went back must not stop this until it has caught up.
            if now < due && due.0 - now.0 <= PRUNE_MS {
                continue;
            }
            due = now.plus(PRUNE_MS);
            if let Err(error) = self.prune(now).await {
                tracing::warn!(%error, "the copy could not be asked whose names are kept for nothing");
            }
        }
    }

    /// Forgets whoever the copy does not show any more.
    async fn prune(&self, now: Millis) -> Result<(), faircopy_store::Error> {
        let kept = self.shelf().prune(now);
        for ids in kept.chunks(PRUNE_AT_ONCE) {
            let gone = self.store.users_not_shown(ids.to_vec()).await?;
            let mut shelf = self.shelf();
            gone.iter().for_each(|id| shelf.forget(id));
        }
        self.metrics.names_kept(self.shelf().len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{ManualClock, prepare};
    use crate::config::{Environment, Flags};
    use crate::upstream::keys::KeySet;

    /// Whoever is gone from the copy is gone from memory soon after, read or not.
    #[tokio::test]
    async fn names_of_deleted_users_are_forgotten() {
        const NOW: Millis = Millis(1_760_000_000_000);
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("copy.db").display());
        let variables =
            [("CLERK_SECRET_KEY", "sk_test_1"), ("FAIRCOPY_PROFILE_MODE", "minimal"), ("DATABASE_URL", &url)];
        let environment = Environment(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        let config = Config::load(&Flags::default(), &environment).unwrap();
        let store = config.store();
        let (metrics, clock): (_, Arc<dyn Clock>) = (Metrics::install(), Arc::new(ManualClock::at(NOW)));
        prepare(&config, &store, NOW, true).await.unwrap();
        let keys = KeySet::new(&config.sessions, clock.clone(), metrics.clone());
        let clerk = Clerk::new(&config, keys, clock.clone(), metrics.clone());
        let Names::OfClerk(desk) = Names::new(&config, clerk.as_ref(), &store, &clock, &metrics) else {
            panic!("a desk")
        };

        let id = UserId::parse("user_gone").unwrap();
        let shown = Shown { name: Some("Ada".into()), email: None, image_url: None };
        desk.shelf().want([&id], NOW);
        desk.shelf().learn(std::slice::from_ref(&id), vec![(id.clone(), shown)], true, NOW);
        assert!(matches!(desk.shelf().look(&id, NOW), Look::Fresh(_)));
        desk.prune(NOW).await.unwrap();
        assert!(matches!(desk.shelf().look(&id, NOW), Look::Missing));
    }
}

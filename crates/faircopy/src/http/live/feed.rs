//! Who is to be woken by a change: the change feed, followed while somebody listens.
//!
//! Each entry touches topics. An [`Ear`] is registered under the topics of its queries, and is told which of them were touched and
//! by which change. What the value is then, the listener finds out by itself.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use faircopy_store::{Echo, Entry, Freshness, Store};
use tokio::sync::{Mutex as AsyncMutex, Notify};

use crate::app::Clock;
use faircopy_core::Millis;

/// How often the feed is read while somebody listens, whoever writes: what another replica commits is seen within this.
const PERIOD: Duration = Duration::from_millis(100);
/// How often it is tried to hear other replicas where that has failed.
const HEAR_PERIOD_MS: i64 = 30_000;
/// Entries that are read at once.
const AT_ONCE: i64 = 1_000;
/// Whoever is further behind than this asks anew instead of being told what changed.
pub(super) const MAX_BEHIND: i64 = 1_000;
/// How old a freshness may be that is told to listeners: each of them tells it every few seconds.
const FRESHNESS_MS: i64 = 1_000;

/// What a change is about, and a query depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Topic {
    /// A user: the row, and every membership of theirs.
    User(String),
    /// An organization: the row, its workspace, its members and their names.
    Organization(String),
}

/// Marks of the queries of one listener: bit `n` stands for its query `n`, and [`SELF`] for the listener itself.
pub(super) type Marks = u64;

/// The listener's own standing was touched.
pub(super) const SELF: Marks = 1 << 63;

/// What a listener hears with.
#[derive(Debug, Default)]
pub(super) struct Ear {
    touched: AtomicU64,
    /// The newest change that touched it.
    sequence: AtomicI64,
    wake: Notify,
}

impl Ear {
    fn touch(&self, marks: Marks, sequence: i64) {
        self.sequence.fetch_max(sequence, Ordering::SeqCst);
        self.touched.fetch_or(marks, Ordering::SeqCst);
        self.wake.notify_one();
    }

    /// Waits until something was touched.
    pub(super) async fn touched(&self) {
        self.wake.notified().await;
    }

    /// What was touched since this was asked last, and the newest change that did.
    pub(super) fn take(&self) -> (Marks, i64) {
        (self.touched.swap(0, Ordering::SeqCst), self.sequence.load(Ordering::SeqCst))
    }

    /// Has these touched again: what was taken could not be told.
    pub(super) fn put_back(&self, marks: Marks) {
        self.touch(marks, 0);
    }

    /// Whether everything that was touched was taken.
    pub(super) fn is_quiet(&self) -> bool {
        self.touched.load(Ordering::SeqCst) == 0
    }

    /// Whether the listener itself was touched.
    pub(super) fn hears_self(&self) -> bool {
        self.touched.load(Ordering::SeqCst) & SELF != 0
    }
}

/// The change feed as listeners of one process hear it.
pub(super) struct Feed {
    store: Store,
    clock: Arc<dyn Clock>,
    /// Told by this process's own commits.
    committed: Arc<Notify>,
    topics: Mutex<Topics>,
    /// Every change up to this number has touched its topics.
    place: AtomicI64,
    /// Whether somebody follows. Held while that is decided.
    is_followed: AsyncMutex<bool>,
    fresh: AsyncMutex<(Millis, Freshness)>,
}

#[derive(Default)]
struct Topics {
    ears: HashMap<Topic, HashMap<u64, (Arc<Ear>, Marks)>>,
    /// Numbers given out.
    last: u64,
    listeners: usize,
}

/// An ear that is registered, until this is dropped.
pub(super) struct Listening {
    feed: Arc<Feed>,
    number: u64,
    pub(super) ear: Arc<Ear>,
    topics: BTreeSet<Topic>,
}

impl Listening {
    /// Has these queries touched by this topic as well. Whether it was not heard before.
    pub(super) fn hear(&mut self, topic: Topic, marks: Marks) -> bool {
        let mut topics = self.feed.topics();
        let (_, known) =
            topics.ears.entry(topic.clone()).or_default().entry(self.number).or_insert_with(|| (self.ear.clone(), 0));
        *known |= marks;
        drop(topics);
        self.topics.insert(topic)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut topics = self.feed.topics();
        for topic in &self.topics {
            if let Some(ears) = topics.ears.get_mut(topic) {
                ears.remove(&self.number);
                if ears.is_empty() {
                    topics.ears.remove(topic);
                }
            }
        }
        topics.listeners -= 1;
    }
}

impl Feed {
    pub(super) fn new(store: Store, clock: Arc<dyn Clock>, committed: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            store,
            clock,
            committed,
            topics: Mutex::default(),
            place: AtomicI64::new(0),
            is_followed: AsyncMutex::new(false),
            fresh: AsyncMutex::new((Millis(i64::MIN), Freshness::default())),
        })
    }

    fn topics(&self) -> MutexGuard<'_, Topics> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a listener. From here on it hears of every change after [`Feed::place`] that touches what it hears.
    pub(super) async fn listen(self: &Arc<Self>) -> Result<Listening, faircopy_store::Error> {
        let mut is_followed = self.is_followed.lock().await;
        if !*is_followed {
            self.place.store(self.store.freshness().await?.sequence, Ordering::SeqCst);
            *is_followed = true;
            tokio::spawn(self.clone().follow());
        }
        let mut topics = self.topics();
        topics.last += 1;
        topics.listeners += 1;
        let number = topics.last;
        drop(topics);
        Ok(Listening { feed: self.clone(), number, ear: Arc::default(), topics: BTreeSet::new() })
    }

    /// Every change up to this number has touched its topics.
    pub(super) fn place(&self) -> i64 {
        self.place.load(Ordering::SeqCst)
    }

    /// How fresh the copy is, as known a second ago or later.
    pub(super) async fn freshness(&self) -> Freshness {
        let mut fresh = self.fresh.lock().await;
        let now = self.clock.now();
        if now.0 >= fresh.0.0.saturating_add(FRESHNESS_MS) || now < fresh.0 {
            // While the database cannot be read, what was known is still so.
            if let Ok(known) = self.store.freshness().await {
                *fresh = (now, known);
            }
        }
        fresh.1
    }

    /// Follows until nobody listens.
    async fn follow(self: Arc<Self>) {
        let heard = Arc::new(Notify::new());
        let (mut echo, mut tried_at): (Option<Echo>, _) = (None, Millis(i64::MIN));
        loop {
            let now = self.clock.now();
            if echo.as_ref().is_none_or(Echo::is_over) && now.0 >= tried_at.0.saturating_add(HEAR_PERIOD_MS) {
                tried_at = now;
                echo = self.store.hear(heard.clone()).await.ok().flatten();
            }
            let more = match self.look().await {
                Ok(more) => more,
                Err(error) => {
                    tracing::debug!(%error, "the change feed cannot be read");
                    false
                }
            };
            if more {
                continue;
            }
            tokio::select! {
                () = self.committed.notified() => {}
                () = heard.notified() => {}
                () = tokio::time::sleep(PERIOD) => {}
            }
            let mut is_followed = self.is_followed.lock().await;
            if self.topics().listeners == 0 {
                *is_followed = false;
                return;
            }
        }
    }

    /// Reads what is new and touches its topics; whether there is more.
    async fn look(&self) -> Result<bool, faircopy_store::Error> {
        let place = self.place();
        let entries = self.store.changes_after(place, AT_ONCE).await?;
        let Some(newest) = entries.last().map(|entry| entry.sequence) else { return Ok(false) };
        if entries.first().is_some_and(|first| first.sequence > place + 1) {
            // What lay between was forgotten meanwhile.
            self.touch_all(newest);
        } else {
            let topics = self.topics_of(&entries).await?;
            self.touch(topics.iter().flat_map(|(_, topics)| topics).collect(), newest);
        }
        self.place.store(newest, Ordering::SeqCst);
        Ok(i64::try_from(entries.len()).is_ok_and(|count| count == AT_ONCE))
    }

    /// The topics of some entries, each with its number.
    pub(super) async fn topics_of(&self, entries: &[Entry]) -> Result<Vec<(i64, Vec<Topic>)>, faircopy_store::Error> {
        // Lists of members show names.
        let names = |entry: &Entry| entry.entity == "user" && entry.operation == "put";
        let users: BTreeSet<String> =
            entries.iter().filter(|entry| names(entry)).map(|entry| entry.id.clone()).collect();
        let mut places: HashMap<String, Vec<String>> = HashMap::new();
        if !users.is_empty() {
            for (user, organization) in self.store.organizations_of(users.into_iter().collect()).await? {
                places.entry(user).or_default().push(organization);
            }
        }
        let topics = entries.iter().map(|entry| {
            let mut topics = own_topics(entry);
            if names(entry) {
                let organizations = places.get(&entry.id).into_iter().flatten();
                topics.extend(organizations.map(|id| Topic::Organization(id.clone())));
            }
            (entry.sequence, topics)
        });
        Ok(topics.collect())
    }

    fn touch(&self, touched: BTreeSet<&Topic>, sequence: i64) {
        let topics = self.topics();
        // Users come first: whoever was removed learns that before they learn what their organization has become.
        for (ear, marks) in touched.into_iter().filter_map(|topic| topics.ears.get(topic)).flat_map(HashMap::values) {
            ear.touch(*marks, sequence);
        }
    }

    fn touch_all(&self, sequence: i64) {
        for (ear, marks) in self.topics().ears.values().flat_map(HashMap::values) {
            ear.touch(*marks, sequence);
        }
    }
}

/// The topics that an entry names.
fn own_topics(entry: &Entry) -> Vec<Topic> {
    match entry.entity.as_str() {
        "user" => vec![Topic::User(entry.id.clone())],
        "member" => {
            let (organization, user) = entry.id.split_once('/').unwrap_or((&entry.id, ""));
            vec![Topic::User(user.to_owned()), Topic::Organization(organization.to_owned())]
        }
        // An organization's own workspace has its id. A linked one is looked at every second, like all of them.
        "organization" | "workspace" => vec![Topic::Organization(entry.id.clone())],
        _ => vec![],
    }
}

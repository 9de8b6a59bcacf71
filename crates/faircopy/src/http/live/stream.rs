//! One stream: what its reader was told, and what they are to be told next.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
use faircopy_core::Millis;
use faircopy_core::token::LEEWAY_MS;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior};

use super::feed::{Feed, Listening, MAX_BEHIND, Marks, SELF, Topic};
use super::values::{Due, Query, Subject, Value};
use super::{Hub, Wanted};
use crate::app::{App, Clock};
use crate::http::problem::Problem;
use crate::http::server::{Stopping, stopped};
use crate::http::session::{self, Caller};

/// Events that wait for a reader. Behind them it is told the newest value alone.
pub(super) const WAITING: usize = 4;
/// How long a reader may not read until it is let go.
const SLOW: Duration = Duration::from_secs(30);
/// How often a reader is told that all is well. Proxies cut off what is silent for a minute, some for half of it.
const BEAT: Duration = Duration::from_secs(10);
/// How often is looked at what the feed does not number.
const LOOK: Duration = Duration::from_secs(1);
/// When a value is tried again that could not be made.
const AGAIN: Duration = Duration::from_secs(1);
/// When a browser comes again that has lost the connection.
const RETRY_MS: u32 = 1_000;

/// How events are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Of one query: messages are its values.
    Single,
    /// Of several.
    Several,
}

/// One query, and what its reader has of it.
struct Told {
    query: Query,
    /// The hash of what was sent last.
    last: Option<u64>,
}

/// A reader of live queries.
pub(super) struct Stream {
    hub: Weak<Hub>,
    app: Weak<App>,
    clock: Arc<dyn Clock>,
    feed: Arc<Feed>,
    caller: Caller,
    queries: Vec<Told>,
    listening: Listening,
    form: Form,
    events: mpsc::Sender<Bytes>,
    /// How long the token is taken from when the stream was opened.
    lasts: Duration,
    /// Queries whose value could not be made.
    again: Marks,
}

/// The stream is over.
enum Over {
    /// The reader has gone, or does not read.
    Gone,
    /// It is told why.
    Because(Box<Problem>),
}

impl From<Problem> for Over {
    fn from(problem: Problem) -> Self {
        Self::Because(Box::new(problem))
    }
}

#[derive(Serialize)]
struct Valued<'a> {
    query: &'a str,
    sequence: i64,
    value: &'a RawValue,
}

#[derive(Serialize)]
struct Lost<'a> {
    query: &'a str,
    problem: &'a Problem,
}

#[derive(Serialize)]
struct Beat {
    sequence: i64,
    as_of: Option<Millis>,
    as_of_basis: &'static str,
}

impl Stream {
    /// Listens, and has the first values at hand: what a single query's `GET` would refuse is refused here.
    pub(super) async fn open(
        hub: &Arc<Hub>,
        app: &Arc<App>,
        caller: Caller,
        wanted: Vec<Wanted>,
        form: Form,
        events: mpsc::Sender<Bytes>,
    ) -> Result<Opened, Problem> {
        let left = caller.session.expires_at.plus(LEEWAY_MS).0 - app.clock.now().0;
        let lasts = Duration::from_millis(u64::try_from(left).unwrap_or_default());
        let mut listening = hub.feed.listen().await?;
        listening.hear(Topic::User(caller.user().to_owned()), SELF);
        // Who the caller is was asked before this heard anything.
        let caller = session::again(app, &caller).await?;
        let (mut queries, mut sinces) = (Vec::with_capacity(wanted.len()), Vec::with_capacity(wanted.len()));
        for (at, Wanted { path, since }) in wanted.into_iter().enumerate() {
            let query = hub.values.query(path, &caller);
            for topic in query.topics(&caller) {
                listening.hear(topic, 1 << at);
            }
            queries.push(Told { query, last: None });
            sinces.push(since);
        }
        // Whatever touches them after this place is heard.
        let place = hub.feed.place();
        let behind = Behind::read(&hub.feed, app, &caller, &sinces, place).await;
        let (hub_of, app_of, clock) = (Arc::downgrade(hub), Arc::downgrade(app), app.clock.clone());
        let feed = hub.feed.clone();
        let mut stream =
            Self { hub: hub_of, app: app_of, clock, feed, caller, queries, listening, form, events, lasts, again: 0 };
        let mut first = Vec::new();
        for (at, since) in sinces.into_iter().enumerate() {
            let value = stream.value(hub, at, Due { touched: place, since: None, place }).await;
            if let (Form::Single, Err(problem)) = (form, &value.body) {
                return Err((**problem).clone());
            }
            let has_it = since.is_some_and(|since| !behind.may_have_changed(&stream.queries[at].query, &value, since));
            let event = stream.event(at, &value, place);
            if has_it {
                // This may be newer than what the reader has, and it will be touched then.
                stream.queries[at].last = None;
            } else {
                first.extend(event);
            }
        }
        Ok(Opened { stream, first, place })
    }

    async fn run(mut self, first: Vec<Bytes>, place: i64) -> Result<(), Over> {
        for event in first {
            self.send(event).await?;
        }
        self.beat(place).await?;
        let (mut beat, mut look, mut retry) = (every(BEAT), every(LOOK), every(AGAIN));
        let ends = tokio::time::sleep(self.lasts);
        tokio::pin!(ends);
        let looked_at = self.marked(|query| query.subject == Subject::Workspace);
        loop {
            let ear = self.listening.ear.clone();
            tokio::select! {
                biased;
                () = self.events.closed() => return Err(Over::Gone),
                () = &mut ends => {
                    return Err(Problem::new("token-expired", "The token has expired. Come again with a new one.").into());
                }
                () = ear.touched() => self.tell_touched().await?,
                _ = look.tick(), if looked_at != 0 => self.tell_anew(looked_at, LOOK).await?,
                _ = retry.tick(), if self.again != 0 => {
                    let again = std::mem::take(&mut self.again);
                    self.tell_anew(again, AGAIN).await?;
                }
                _ = beat.tick() => {
                    let place = self.feed.place();
                    self.tell_touched().await?;
                    if self.listening.ear.is_quiet() && self.again == 0 {
                        self.beat(place).await?;
                    } else {
                        self.send(Bytes::from_static(b":\n\n")).await?;
                    }
                }
            }
        }
    }

    /// Tells what was touched. The place comes first: whatever touched something up to there is then told.
    async fn tell_touched(&mut self) -> Result<(), Over> {
        let place = self.feed.place();
        let (mut marks, touched) = self.listening.ear.take();
        if marks & SELF != 0 {
            let app = self.app.upgrade().ok_or(Over::Gone)?;
            match session::again(&app, &self.caller).await {
                Ok(caller) => self.caller = caller,
                Err(problem) if problem.status().is_server_error() => {
                    // Nothing is told until it is known who may be told.
                    drop(app);
                    tokio::time::sleep(AGAIN).await;
                    self.listening.ear.put_back(marks);
                    return Ok(());
                }
                Err(problem) => return Err(problem.into()),
            }
            // Whatever the caller sees may follow from who they are.
            marks |= self.marked(|_| true);
            let hub = self.hub.upgrade().ok_or(Over::Gone)?;
            for told in &mut self.queries {
                told.query = hub.values.query(told.query.path.clone(), &self.caller);
            }
        }
        self.tell(marks & !SELF, Due { touched, since: None, place }).await
    }

    /// Tells what may have changed without having been touched. What others had made within half a period is new enough.
    async fn tell_anew(&mut self, marks: Marks, period: Duration) -> Result<(), Over> {
        let place = self.feed.place();
        if !self.listening.ear.is_quiet() {
            self.tell_touched().await?;
        }
        let half = i64::try_from(period.as_millis()).unwrap_or_default() / 2;
        self.tell(marks, Due { touched: 0, since: Some(self.clock.now().plus(-half)), place }).await
    }

    /// Sends the values of these queries that are other than before.
    async fn tell(&mut self, marks: Marks, due: Due) -> Result<(), Over> {
        for at in (0..self.queries.len()).filter(|at| marks & (1 << at) != 0) {
            let hub = self.hub.upgrade().ok_or(Over::Gone)?;
            let value = self.value(&hub, at, due).await;
            drop(hub);
            // Who was removed meanwhile is told that, and no more of this.
            if self.listening.ear.hears_self() {
                self.listening.ear.put_back(marks);
                return Ok(());
            }
            let Some(event) = self.event(at, &value, due.place) else { continue };
            self.send(event).await?;
            if self.form == Form::Single && value.body.is_err() {
                return Err(Over::Gone);
            }
        }
        Ok(())
    }

    async fn value(&mut self, hub: &Hub, at: usize, due: Due) -> Value {
        let value = hub.values.value(&self.queries[at].query, &self.caller, due, self.clock.now()).await;
        let mut is_new = false;
        for organization in value.organizations.iter() {
            is_new |= self.listening.hear(Topic::Organization(organization.clone()), 1 << at);
        }
        // What touched these since the value was made was heard by nobody.
        if is_new && self.feed.place() != due.place {
            self.again |= 1 << at;
        }
        value
    }

    /// The event that tells a value, if it is another than was told last.
    fn event(&mut self, at: usize, value: &Value, sequence: i64) -> Option<Bytes> {
        let told = &mut self.queries[at];
        let mut hasher = DefaultHasher::new();
        match &value.body {
            Ok(body) => body.hash(&mut hasher),
            // Not a value, and no reason to take the last one away: it is tried again.
            Err(problem) if problem.status().is_server_error() => {
                self.again |= 1 << at;
                return None;
            }
            Err(problem) => problem.code().hash(&mut hasher),
        }
        let hash = hasher.finish();
        if told.last.replace(hash) == Some(hash) {
            return None;
        }
        let path = &told.query.path;
        match (&value.body, self.form) {
            (Ok(body), Form::Single) => Some(written(None, Some(sequence), body)),
            (Ok(body), Form::Several) => {
                let value = serde_json::from_slice(body).ok()?;
                written_json("value", Some(sequence), &Valued { query: path, sequence, value })
            }
            (Err(problem), Form::Single) => written_json("problem", None, problem),
            (Err(problem), Form::Several) => written_json("problem", None, &Lost { query: path, problem }),
        }
    }

    async fn beat(&mut self, sequence: i64) -> Result<(), Over> {
        let known = self.feed.freshness().await;
        let beat = Beat { sequence, as_of: known.as_of, as_of_basis: known.basis.as_str() };
        match written_json("beat", Some(sequence), &beat) {
            Some(event) => self.send(event).await,
            None => Ok(()),
        }
    }

    async fn send(&self, event: Bytes) -> Result<(), Over> {
        self.events.send_timeout(event, SLOW).await.map_err(|_| Over::Gone)
    }

    fn marked(&self, wanted: impl Fn(&Query) -> bool) -> Marks {
        (self.queries.iter().enumerate())
            .filter(|(_, told)| wanted(&told.query))
            .fold(0, |marks, (at, _)| marks | (1 << at))
    }
}

/// Ticks for the first time after a period.
fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.reset();
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// A stream with its first values.
pub(super) struct Opened {
    stream: Stream,
    first: Vec<Bytes>,
    place: i64,
}

impl Opened {
    /// Tells until the reader goes, their token ends, or the service does.
    pub(super) async fn run(self, stopping: Option<Stopping>) {
        let Self { stream, first, place } = self;
        let (events, form) = (stream.events.clone(), stream.form);
        let why = tokio::select! {
            ended = stream.run(first, place) => match ended {
                Err(Over::Because(problem)) => problem,
                Ok(()) | Err(Over::Gone) => return,
            },
            () = stopped(stopping) => Box::new(Problem::new("shutting-down", "The service stops. Come again at once.")),
        };
        let name = if form == Form::Single { "problem" } else { "end" };
        if let Some(event) = written_json(name, None, &why) {
            // Whoever does not read is not waited for.
            drop(events.try_send(event));
        }
    }
}

/// What lies between what a reader has and now.
struct Behind {
    place: i64,
    /// What the changes since the oldest number that the reader named touched, if there are not too many.
    topics: Option<Vec<(i64, Vec<Topic>)>>,
    /// The caller's own.
    own: Topic,
    organization: Option<Topic>,
}

impl Behind {
    async fn read(feed: &Feed, app: &App, caller: &Caller, sinces: &[Option<i64>], place: i64) -> Self {
        let oldest = sinces.iter().flatten().copied().filter(|since| *since <= place).min();
        let topics = match oldest {
            Some(oldest) if place - oldest <= MAX_BEHIND => Self::between(feed, app, oldest, place).await,
            _ => None,
        };
        let organization = session::active(&caller.session).map(|id| Topic::Organization(id.to_string()));
        Self { place, topics, own: Topic::User(caller.user().to_owned()), organization }
    }

    async fn between(feed: &Feed, app: &App, oldest: i64, place: i64) -> Option<Vec<(i64, Vec<Topic>)>> {
        let entries = app.store.changes_after(oldest, MAX_BEHIND + 1).await.ok()?;
        // What was forgotten may have been about anything.
        if oldest < place && entries.first().is_none_or(|first| first.sequence != oldest + 1) {
            return None;
        }
        feed.topics_of(&entries).await.ok()
    }

    /// Whether a query, which shows this now, may have shown something else at a number.
    fn may_have_changed(&self, query: &Query, value: &Value, since: i64) -> bool {
        // The feed does not number what the application writes.
        if query.subject == Subject::Workspace || since > self.place {
            return true;
        }
        let Some(topics) = &self.topics else { return true };
        let is_heard = |topic: &Topic| match topic {
            _ if *topic == self.own => true,
            Topic::Organization(id) if query.subject == Subject::Memberships => value.organizations.contains(id),
            topic => query.is_about(topic, self.organization.as_ref()),
        };
        topics.iter().any(|(sequence, touched)| *sequence > since && touched.iter().any(is_heard))
    }
}

fn written_json(name: &str, id: Option<i64>, data: &impl Serialize) -> Option<Bytes> {
    let data = serde_json::to_vec(data).ok()?;
    Some(written(Some(name), id, &data))
}

/// One event. JSON as it is written here has no line breaks.
fn written(name: Option<&str>, id: Option<i64>, data: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(data.len() + 64);
    event.put_slice(format!("retry: {RETRY_MS}\n").as_bytes());
    if let Some(id) = id {
        event.put_slice(format!("id: {id}\n").as_bytes());
    }
    if let Some(name) = name {
        event.put_slice(format!("event: {name}\n").as_bytes());
    }
    event.put_slice(b"data: ");
    event.put_slice(data);
    event.put_slice(b"\n\n");
    event.freeze()
}

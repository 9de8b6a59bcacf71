//! Which names are at hand, which are asked for, and whether Clerk is asked at all: a state machine without a clock.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use faircopy_core::Millis;
use faircopy_core::id::UserId;
use faircopy_core::record::Profile;

/// How long a name is shown that could not be read again. Whoever was renamed a day ago may be shown so; whoever asked to be
/// forgotten is not, because only ids that the copy shows are looked up.
pub(super) const STALE_MS: i64 = 24 * 3_600_000;
/// How long nothing is asked about somebody whom Clerk does not name: its API may be behind its tokens by less.
pub(super) const NOBODY_MS: i64 = 30_000;
/// People that are kept: every member of ten large organizations.
const MAX_KEPT: usize = 10_000;
/// Bytes of their texts. An ordinary name, address and picture take 200; at the longest that Clerk could send this holds 200
/// people, two whole questions.
const MAX_KEPT_BYTES: usize = 16 * 1024 * 1024;
/// What one person takes beside the texts: two ids, the entries of the map and of the order.
const KEPT_BYTES: usize = 256;
/// Ids that wait to be asked for: twenty questions, ten seconds of what Clerk allows to a development key. Beyond it an id is
/// not asked for this time.
const MAX_WAITING: usize = 2_000;
/// How long nothing is asked after a failure; twice as long after each further one.
const FIRST_PAUSE_MS: i64 = 1_000;
/// After so many failures the pause does not grow any more: 32 s.
const MAX_DOUBLINGS: u32 = 5;

/// What is shown of a person.
#[derive(Clone, PartialEq, Eq)]
pub struct Shown {
    /// First and last name joined, or the username.
    pub name: Option<String>,
    /// The primary address, or the first verified one.
    pub email: Option<String>,
    /// The picture's address.
    pub image_url: Option<String>,
}

impl From<Profile> for Shown {
    fn from(profile: Profile) -> Self {
        Self { name: profile.name(), email: profile.email, image_url: profile.image_url }
    }
}

impl Shown {
    fn bytes(&self) -> usize {
        [&self.name, &self.email, &self.image_url].iter().map(|text| text.as_ref().map_or(0, String::len)).sum()
    }
}

/// What is known of an id.
pub(super) enum Look {
    /// This.
    Fresh(Arc<Shown>),
    /// This, and it should be asked for again.
    Stale(Arc<Shown>),
    /// Clerk has nobody of that id, or nothing that could be read.
    Nobody,
    /// Nothing.
    Missing,
}

/// What somebody who wants names has to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wait {
    /// All are at hand, or not to be had now.
    Nothing,
    /// What is at hand could be newer.
    News,
    /// Some are not at hand.
    Names,
}

struct Kept {
    /// When it is asked for again.
    due: Millis,
    /// When it was read.
    read_at: Millis,
    shown: Option<Arc<Shown>>,
}

impl Kept {
    fn bytes(&self) -> usize {
        KEPT_BYTES + self.shown.as_ref().map_or(0, |shown| shown.bytes())
    }
}

pub(super) struct Shelf {
    ttl_ms: i64,
    kept: HashMap<UserId, Kept>,
    /// The same in the order in which they were read: the oldest gives way.
    order: BTreeSet<(Millis, UserId)>,
    bytes: usize,
    waiting: VecDeque<UserId>,
    /// Those that wait, and those that are being asked for.
    wanted: HashSet<UserId>,
    /// Since when nothing is asked, and for how long.
    pause: Option<(Millis, i64)>,
    /// In a row.
    failures: u32,
}

impl Shelf {
    pub(super) fn new(ttl_ms: i64) -> Self {
        Self {
            ttl_ms,
            kept: HashMap::new(),
            order: BTreeSet::new(),
            bytes: 0,
            waiting: VecDeque::new(),
            wanted: HashSet::new(),
            pause: None,
            failures: 0,
        }
    }

    pub(super) fn look(&self, id: &UserId, now: Millis) -> Look {
        let Some(kept) = self.kept.get(id) else { return Look::Missing };
        // A clock that went back makes nothing fresh for longer than a name lives.
        let is_fresh = (1..=self.ttl_ms.max(NOBODY_MS)).contains(&(kept.due.0 - now.0));
        match &kept.shown {
            Some(shown) if is_fresh => Look::Fresh(shown.clone()),
            Some(shown) if now.0 - kept.read_at.0 < STALE_MS => Look::Stale(shown.clone()),
            None if is_fresh => Look::Nobody,
            Some(_) | None => Look::Missing,
        }
    }

    /// Asks for whoever is not known freshly and not asked for yet. Says what there is to wait for.
    pub(super) fn want<'a>(&mut self, ids: impl IntoIterator<Item = &'a UserId>, now: Millis) -> Wait {
        let may_ask = self.quiet_ms(now) == 0;
        let mut wait = Wait::Nothing;
        for id in ids {
            let wanted = match self.look(id, now) {
                Look::Fresh(_) | Look::Nobody => continue,
                Look::Stale(_) => Wait::News,
                Look::Missing => Wait::Names,
            };
            if self.wanted.contains(id) {
                wait = wait.max(wanted);
            } else if may_ask && self.waiting.len() < MAX_WAITING {
                self.wanted.insert(id.clone());
                self.waiting.push_back(id.clone());
                wait = wait.max(wanted);
            }
        }
        wait
    }

    /// Whether nothing is on its way about any of these.
    pub(super) fn is_settled<'a>(&self, ids: impl IntoIterator<Item = &'a UserId>) -> bool {
        self.wanted.is_empty() || !ids.into_iter().any(|id| self.wanted.contains(id))
    }

    /// Whoever is to be asked for next, at most so many.
    pub(super) fn take(&mut self, limit: usize) -> Vec<UserId> {
        let count = limit.min(self.waiting.len());
        self.waiting.drain(..count).collect()
    }

    /// Keeps what was answered about `asked` at `read_at`. Whoever is missing from a whole answer is nobody; otherwise what was
    /// known of them stays, and is asked for again soon.
    pub(super) fn learn(&mut self, asked: &[UserId], found: Vec<(UserId, Shown)>, is_whole: bool, read_at: Millis) {
        self.failures = 0;
        self.pause = None;
        let mut missing: BTreeSet<&UserId> = asked.iter().collect();
        for (id, shown) in found {
            missing.remove(&id);
            self.keep(id, Kept { due: read_at.plus(self.ttl_ms), read_at, shown: Some(Arc::new(shown)) });
        }
        for id in missing {
            let before = self.kept.get(id).filter(|_| !is_whole).map(|known| (known.read_at, known.shown.clone()));
            let due = read_at.plus(NOBODY_MS);
            let (read_at, shown) = before.unwrap_or((read_at, None));
            self.keep(id.clone(), Kept { due, read_at, shown });
        }
        for id in asked {
            self.wanted.remove(id);
        }
    }

    /// There was no answer about `asked`. Nothing is asked for a while, at least for so long, and nobody waits for it.
    pub(super) fn failed(&mut self, asked: &[UserId], wait_ms: i64, now: Millis) {
        let pause = wait_ms.max(FIRST_PAUSE_MS << self.failures.min(MAX_DOUBLINGS));
        self.failures += 1;
        if self.quiet_ms(now) < pause {
            self.pause = Some((now, pause));
        }
        for id in asked.iter().chain(&self.waiting) {
            self.wanted.remove(id);
        }
        self.waiting.clear();
    }

    /// How long nothing is asked.
    pub(super) fn quiet_ms(&mut self, now: Millis) -> i64 {
        let Some((began_at, length)) = &mut self.pause else { return 0 };
        *began_at = now.min(*began_at);
        (began_at.0 + *length - now.0).max(0)
    }

    /// Forgets a person.
    pub(super) fn forget(&mut self, id: &UserId) {
        if let Some(kept) = self.kept.remove(id) {
            self.bytes -= kept.bytes();
            self.order.remove(&(kept.read_at, id.clone()));
        }
    }

    /// Forgets who is not shown any more anyway, and says who is kept.
    pub(super) fn prune(&mut self, now: Millis) -> Vec<UserId> {
        while let Some((_, id)) = self.order.first().filter(|(read_at, _)| now.0 - read_at.0 >= STALE_MS) {
            let id = id.clone();
            self.forget(&id);
        }
        self.kept.keys().cloned().collect()
    }

    /// How many are kept.
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    fn keep(&mut self, id: UserId, kept: Kept) {
        self.forget(&id);
        self.bytes += kept.bytes();
        self.order.insert((kept.read_at, id.clone()));
        self.kept.insert(id, kept);
        while self.kept.len() > MAX_KEPT || self.bytes > MAX_KEPT_BYTES {
            let Some((_, oldest)) = self.order.first().cloned() else { break };
            self.forget(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_760_000_000_000);
    const TTL: i64 = 300_000;

    fn ids(range: std::ops::Range<usize>) -> Vec<UserId> {
        range.map(|number| UserId::parse(&format!("user_{number}")).unwrap()).collect()
    }

    fn named(name: &str) -> Shown {
        Shown { name: Some(name.into()), email: None, image_url: None }
    }

    /// Wants these and answers with one name for all.
    fn read(shelf: &mut Shelf, ids: &[UserId], name: &str, now: Millis) {
        assert_eq!(shelf.want(ids, now), Wait::Names);
        while !shelf.is_settled(ids) {
            let asked = shelf.take(100);
            assert!(!asked.is_empty(), "they are asked for");
            let found = asked.iter().map(|id| (id.clone(), named(name))).collect();
            shelf.learn(&asked, found, true, now);
        }
    }

    fn look(shelf: &Shelf, id: &UserId, now: Millis) -> String {
        let name = |shown: Arc<Shown>| shown.name.clone().unwrap();
        match shelf.look(id, now) {
            Look::Fresh(shown) => format!("fresh {}", name(shown)),
            Look::Stale(shown) => format!("stale {}", name(shown)),
            Look::Nobody => "nobody".into(),
            Look::Missing => "missing".into(),
        }
    }

    #[test]
    fn a_name_lives_and_then_serves_on_until_its_bound() {
        let (mut shelf, ids) = (Shelf::new(TTL), ids(0..1));
        read(&mut shelf, &ids, "Ada", NOW);
        let check =
            |after: i64, expected: &str| assert_eq!(look(&shelf, &ids[0], NOW.plus(after)), expected, "{after}");
        check(0, "fresh Ada");
        check(TTL - 1, "fresh Ada");
        check(TTL, "stale Ada");
        check(STALE_MS - 1, "stale Ada");
        check(STALE_MS, "missing");
        check(-1, "stale Ada");
        assert_eq!(shelf.prune(NOW.plus(STALE_MS - 1)), ids);
        assert_eq!((shelf.prune(NOW.plus(STALE_MS)).len(), shelf.bytes, shelf.order.len()), (0, 0, 0));
    }

    #[test]
    fn one_id_is_one_question() {
        let (mut shelf, ids) = (Shelf::new(TTL), ids(0..150));
        for _ in 0..3 {
            assert_eq!(shelf.want(&ids, NOW), Wait::Names);
        }
        assert_eq!((shelf.take(100).len(), shelf.take(100).len(), shelf.take(100).len()), (100, 50, 0));
        assert_eq!(shelf.want(&ids, NOW), Wait::Names, "they are on their way");
        assert!(shelf.take(100).is_empty() && !shelf.is_settled(&ids));
    }

    #[test]
    fn whoever_clerk_does_not_name_is_nobody_for_a_while() {
        let (mut shelf, ids) = (Shelf::new(TTL), ids(0..2));
        read(&mut shelf, &ids, "Ada", NOW);
        let later = NOW.plus(TTL);
        assert_eq!(shelf.want(&ids, later), Wait::News);
        let asked = shelf.take(100);
        shelf.learn(&asked, vec![(ids[0].clone(), named("Grace"))], true, later);
        assert_eq!(look(&shelf, &ids[0], later), "fresh Grace");
        assert_eq!(look(&shelf, &ids[1], later), "nobody", "a name that Clerk no longer has is not shown");
        assert_eq!(shelf.want(&ids, later), Wait::Nothing);
        assert_eq!(look(&shelf, &ids[1], later.plus(NOBODY_MS)), "missing");
        // An answer that is not only about those who were asked for says nothing of whoever is missing.
        let later = later.plus(TTL);
        assert_eq!(shelf.want(&ids, later), Wait::Names);
        let asked = shelf.take(100);
        shelf.learn(&asked, vec![], false, later);
        assert_eq!(look(&shelf, &ids[0], later), "fresh Grace", "and is not asked for at once again");
        assert_eq!(look(&shelf, &ids[0], later.plus(NOBODY_MS)), "stale Grace");
        assert_eq!(look(&shelf, &ids[1], later), "nobody");
    }

    #[test]
    fn after_a_failure_nobody_waits_and_nothing_is_asked() {
        let (mut shelf, ids) = (Shelf::new(TTL), ids(0..150));
        let mut now = NOW;
        for expected in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 32_000] {
            assert_eq!(shelf.want(&ids, now), Wait::Names);
            let asked = shelf.take(100);
            shelf.failed(&asked, 0, now);
            assert!(shelf.is_settled(&ids), "nor for those that were not asked for yet");
            assert_eq!((shelf.want(&ids, now), shelf.quiet_ms(now)), (Wait::Nothing, expected));
            assert_eq!(shelf.want(&ids, now.plus(expected - 1)), Wait::Nothing);
            now = now.plus(expected);
        }
        let asked = {
            shelf.want(&ids, now);
            shelf.take(100)
        };
        shelf.failed(&asked, 60_000, now);
        assert_eq!(shelf.quiet_ms(now), 60_000, "as long as Clerk wants");
        assert_eq!(shelf.quiet_ms(now.plus(-86_400_000)), 60_000, "a clock that goes back makes it no longer");
        shelf.learn(&asked, vec![], true, now);
        assert_eq!(shelf.quiet_ms(now), 0);
    }

    #[test]
    fn what_is_kept_and_what_waits_is_bounded() {
        let (mut shelf, many) = (Shelf::new(TTL), ids(0..MAX_KEPT + 500));
        for (at, part) in (0..).zip(many.chunks(500)) {
            read(&mut shelf, part, "Ada", NOW.plus(at));
        }
        assert_eq!((shelf.len(), shelf.order.len()), (MAX_KEPT, MAX_KEPT));
        let now = NOW.plus(100);
        assert_eq!(look(&shelf, &many[0], now), "missing", "the oldest gave way");
        assert_eq!(look(&shelf, &many[500], now), "fresh Ada");
        let long = "x".repeat(40_000);
        for (at, part) in (200..).zip(many[..1000].chunks(100)) {
            let asked = {
                shelf.want(part, NOW.plus(at));
                shelf.take(100)
            };
            let found = asked.iter().map(|id| (id.clone(), named(&long))).collect();
            shelf.learn(&asked, found, true, NOW.plus(at));
            assert!(shelf.bytes <= MAX_KEPT_BYTES);
            let held: usize = shelf.kept.values().map(Kept::bytes).sum();
            assert_eq!((shelf.bytes, shelf.order.len()), (held, shelf.kept.len()));
        }
        let mut shelf = Shelf::new(TTL);
        assert_eq!(shelf.want(&many, NOW), Wait::Names);
        assert_eq!(shelf.waiting.len(), MAX_WAITING);
        assert_eq!(shelf.want(&many[MAX_WAITING..], NOW), Wait::Nothing, "nobody waits for what is not asked");
    }
}

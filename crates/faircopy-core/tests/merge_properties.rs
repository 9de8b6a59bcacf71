//! The copy stays exact (merge.md): over tens of thousands of random histories, read through the real path, each
//! delivered in four random orders with duplicates and random batches,
//!
//! - I1: every order, every duplicate and every split into batches ends in the same rows and registers, and the rows
//!   are those of an independent model of the source, in every column;
//! - I2, I7: at no step does anything show of which a deletion is known, nor a member of it;
//! - I5: at no step does a remembered version, generation or tombstone go back;
//! - I6: at every step the members are the newest generations, over live and dead, by a naive second opinion;
//! - I10: tokens strewn in at random change no full row, no version and no tombstone, bring nobody back whose deletion
//!   is as late as the token, and leave the truth in the end;
//! - merging everything again changes nothing and brings no news.
//!
//! The wrong rules that merge.md names are tried against the same properties, and each is caught. All 40,320 orders of
//! three hard histories are tried, and each of their prefixes; and those of cases that the model does not have.
//!
//! `FAIRCOPY_TEST_HISTORIES=1000000` asks for more histories, `FAIRCOPY_TEST_SEED=<seed>` repeats one.

mod copy;
mod explained;
mod history;
mod mutants;
mod oracle;

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use faircopy_core::Millis;
use faircopy_core::event::{Fact, Observation};
use faircopy_core::id::{MembershipId, OrganizationId, UserId};
use faircopy_core::merge::{Key, Register, Verdict as News, Workset};
use faircopy_core::record::{Generation, Member, Organization, Provenance, Stamp, User};
use faircopy_world::{Settings, hard_histories};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use copy::{Copying, Replica};
use history::{History, Split, Twist, batches};
use mutants::{Mutant, Rule};
use oracle::{Broken, Verdict, View, demand};

/// Millions of small maps and texts are made and given back: a third of the time with the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HISTORIES: u64 = 20_000;
const MUTANT_HISTORIES: u32 = 2_000;

/// Runs `examine` for one in `share` of the seeds, on all processors, and fails with the seed and the invariant of the
/// first that breaks.
fn every_history(share: u64, examine: impl Fn(u64) -> Verdict + Sync) {
    let seeds: Vec<u64> = match setting("FAIRCOPY_TEST_SEED") {
        Some(seed) => vec![seed],
        None => (0..setting("FAIRCOPY_TEST_HISTORIES").unwrap_or(HISTORIES) / share).collect(),
    };
    let next = AtomicUsize::new(0);
    let worker = || {
        while let Some(&seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed)) {
            match catch_unwind(AssertUnwindSafe(|| examine(seed))) {
                Ok(Ok(())) => {}
                Ok(Err(Broken { invariant, what })) => {
                    next.store(seeds.len(), Ordering::Relaxed);
                    panic!("FAIRCOPY_TEST_SEED={seed}: {invariant} is broken: {what}");
                }
                Err(panic) => {
                    eprintln!("FAIRCOPY_TEST_SEED={seed}");
                    resume_unwind(panic);
                }
            }
        }
    };
    thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(1, Into::into);
        let handles: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        let first = handles.into_iter().filter_map(|handle| handle.join().err()).next();
        if let Some(panic) = first {
            resume_unwind(panic);
        }
    });
}

#[expect(clippy::disallowed_methods, reason = "how long to search is the caller's to say, and changes no result")]
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// Delivers an order in batches and checks the rows after each batch against all that was delivered so far.
fn deliver(copy: &mut impl Copying, history: &History, order: &[usize], split: Split, dice: &mut StdRng) -> Verdict {
    let mut view = View::default();
    for batch in batches(order, split, dice) {
        copy.deliver(&history.observations(batch));
        batch.iter().for_each(|&place| view.see(&history.deliveries[place].said));
        view.check(copy.rows())?;
    }
    demand(copy.rows().truth() == history.truth, "I1", || {
        format!("the copy ends as\n{:#?}\ninstead of\n{:#?}", copy.rows().truth(), history.truth)
    })
}

/// The real rule, whose registers are watched after every batch.
struct Watched(Replica);

impl Copying for Watched {
    fn deliver(&mut self, batch: &[&Observation]) {
        let before = self.0.registers.clone();
        self.0.deliver(batch);
        assert_never_back(&before, &self.0.registers);
    }

    fn rows(&self) -> &copy::Rows {
        &self.0.rows
    }
}

/// I5, and the same for all else that a register remembers.
fn assert_never_back(before: &BTreeMap<Key, Register>, after: &BTreeMap<Key, Register>) {
    for (key, old) in before {
        let Some(new) = after.get(key) else {
            // Only what a parent's tombstone absorbs is forgotten.
            let ended = |key: Key| after.get(&key).is_some_and(|register| register.tombstone.is_some());
            let absorbed = match (key, &old.organization) {
                (Key::Pair(organization, user), _) => {
                    ended(Key::Organization(organization.clone())) || ended(Key::User(user.clone()))
                }
                (Key::Invitation(_), Some(organization)) => ended(Key::Organization(organization.clone())),
                _ => false,
            };
            assert!(absorbed, "I5: {key} was forgotten");
            continue;
        };
        assert!(old.generation <= new.generation, "I5: the generation of {key} goes back");
        assert!(old.last_end <= new.last_end, "I5: the last end of {key} goes back");
        assert!(old.token <= new.token, "I5: the token of {key} goes back");
        if old.generation == new.generation {
            assert!(old.tombstone <= new.tombstone, "I5: the tombstone of {key} goes back");
            assert!(new.tombstone.is_some() || old.full <= new.full, "I5: the version of {key} goes back");
        }
    }
}

/// The registers, without what a membership id that came alone can leave open: the last end of a pair that is known by
/// a newer membership already. It decides nothing but whether a token is believed that is older than that membership.
fn registers(copy: &Replica, history: &History) -> BTreeMap<Key, Register> {
    let mut registers = copy.registers.clone();
    if history.twist.thin {
        registers.values_mut().for_each(|register| register.last_end = None);
    }
    registers
}

#[test]
fn every_order_ends_in_the_truth_and_no_step_shows_what_is_gone() {
    every_history(1, |seed| {
        let history = History::random(seed);
        let mut dice = StdRng::seed_from_u64(seed);
        let mut first: Option<Replica> = None;
        for split in [Split::One, Split::Random, Split::Random, Split::All] {
            let order = history.order(&mut dice);
            let mut watched = Watched(Replica::default());
            deliver(&mut watched, &history, &order, split, &mut dice)?;
            let copy = watched.0;
            let same = first.as_ref().is_none_or(|first| {
                first.rows == copy.rows && registers(first, &history) == registers(&copy, &history)
            });
            demand(same, "I1", || format!("two orders end differently:\n{first:#?}\n{copy:#?}"))?;
            first = Some(copy);
        }
        let copy = first.unwrap_or_default();
        let mut again = copy.clone();
        for batch in batches(&history.order(&mut dice), Split::Random, &mut dice) {
            let news = again.merge(&history.observations(batch));
            demand(news == News::Known, "idempotence", || "merging everything again brings news".to_owned())?;
        }
        let same = again.rows == copy.rows && registers(&again, &history) == registers(&copy, &history);
        demand(same, "idempotence", || format!("merging everything again changes\n{copy:#?}\ninto\n{again:#?}"))
    });
}

/// A token, as three observations.
struct Token {
    pair: (String, String),
    issued_at: i64,
    observations: Vec<Observation>,
}

/// Tokens of the pairs of a history, none of which speaks for somebody whose last deletion came before it: most are as
/// late as that deletion, to the millisecond. Their snapshots claim to be newer than everything.
fn tokens(history: &History, dice: &mut StdRng) -> Vec<Token> {
    let all = View::of(history.deliveries.iter().map(|delivery| &delivery.said));
    let start = Settings::default().start_ms;
    let mut tokens = Vec::new();
    for pair in all.pairs() {
        for _ in 0..dice.random_range(0..3) {
            let live = history.truth.members.contains_key(&(pair.0.to_owned(), pair.1.to_owned()));
            let issued_at = match all.last_end(pair) {
                Some(end) if !live && dice.random_bool(0.5) => end,
                Some(end) if !live => end - dice.random_range(0..=20_000),
                _ => dice.random_range(start..=start + 80_000),
            };
            tokens.push(token(pair, issued_at, dice.random_range(0..=100_000_000)));
        }
    }
    tokens
}

fn token(pair: (&str, &str), issued_at: i64, ahead: i64) -> Token {
    let organization = OrganizationId::parse(pair.0).expect("the model's ids are well formed");
    let user = UserId::parse(pair.1).expect("the model's ids are well formed");
    let stamp = Stamp { updated_at: Millis(issued_at + ahead), event_at: Millis(issued_at + ahead), hash: i64::MAX };
    let member = Member {
        organization: organization.clone(),
        user: user.clone(),
        membership: None,
        role: Some("org:of_a_token".to_owned()),
        permissions: vec!["org:of_a_token:believed".to_owned()],
        created_at: None,
        updated_at: None,
    };
    let placeholder = Organization {
        id: organization,
        name: None,
        slug: Some("of-a-token".to_owned()),
        image_url: None,
        created_by: None,
        settings: serde_json::json!({"of": "a token"}),
        created_at: None,
        updated_at: None,
    };
    let person = User {
        id: user,
        profile: None,
        linked_workspace: Some("of a token".into()),
        created_at: None,
        updated_at: None,
    };
    let facts = [
        Fact::PartOfUser(person, stamp),
        Fact::PartOfOrganization(placeholder, stamp),
        Fact::TokenMember(member, Millis(issued_at)),
    ];
    let source = Provenance::Token;
    let observations = facts.into_iter().map(|fact| Observation { source, fact }).collect();
    Token { pair: (pair.0.to_owned(), pair.1.to_owned()), issued_at, observations }
}

/// All that a token may never change: the rows that are known in full, and the versions, generations and tombstones.
fn known_in_full(copy: &Replica) -> (copy::Rows, BTreeMap<Key, Register>) {
    let mut rows = copy.rows.clone();
    rows.users.retain(|_, (user, _)| user.updated_at.is_some());
    rows.organizations.retain(|_, (organization, _)| organization.updated_at.is_some());
    rows.members.retain(|_, (member, _)| member.membership.is_some());
    let mut registers = copy.registers.clone();
    for register in registers.values_mut() {
        (register.partial, register.token) = (None, None);
    }
    registers.retain(|_, register| *register != Register::default());
    (rows, registers)
}

#[test]
fn tokens_change_nothing_that_is_known_and_bring_nobody_back() {
    let shown = AtomicUsize::new(0);
    every_history(4, |seed| {
        let history = History::random(seed);
        // Where clocks are skewed and deletions name no pair, the last end of a pair cannot be known.
        if history.twist.thin && history.twist.skew {
            return Ok(());
        }
        let mut dice = StdRng::seed_from_u64(seed ^ 0x0074_6f6b_656e);
        let tokens = tokens(&history, &mut dice);
        let mut waiting: Vec<&Token> = tokens.iter().chain(&tokens).collect();
        waiting.shuffle(&mut dice);
        let order = history.order(&mut dice);
        let (mut copy, mut view) = (Replica::default(), View::default());
        let mut newest: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        let share = waiting.len().div_ceil(1 + order.len() / 4);
        let cut = batches(&order, Split::Random, &mut dice);
        let last = cut.len() - 1;
        for (number, batch) in cut.into_iter().enumerate() {
            let mut mixed = history.observations(batch);
            batch.iter().for_each(|&place| view.see(&history.deliveries[place].said));
            let kept = if number == last { 0 } else { waiting.len().saturating_sub(share) };
            let arriving: Vec<&Token> = waiting.split_off(kept);
            for token in &arriving {
                let known = newest.entry((&token.pair.0, &token.pair.1)).or_insert(token.issued_at);
                *known = token.issued_at.max(*known);
            }
            let mut words: Vec<&Observation> = arriving.iter().flat_map(|token| &token.observations).collect();
            if dice.random_bool(0.3) {
                mixed.append(&mut words);
                mixed.shuffle(&mut dice);
            }
            copy.merge(&mixed);
            let before = known_in_full(&copy);
            copy.merge(&words);
            demand(known_in_full(&copy) == before, "I10", || format!("tokens changed\n{before:#?}\ninto\n{copy:#?}"))?;
            view.check(&copy.rows)?;
            view.check_token_rows(&copy.rows, |organization, user| newest.get(&(organization, user)).copied())?;
            let provisional = copy.rows.members.values().filter(|(member, _)| member.membership.is_none());
            shown.fetch_add(provisional.count(), Ordering::Relaxed);
        }
        for round in ["once", "and again"] {
            let rows = copy.rows.truth();
            demand(rows == history.truth, "I10", || format!("{round}: {rows:#?}\ninstead of\n{:#?}", history.truth))?;
            copy.merge(&tokens.iter().flat_map(|token| &token.observations).collect::<Vec<_>>());
        }
        Ok(())
    });
    // Without provisional rows on the way the test would prove nothing.
    assert!(setting("FAIRCOPY_TEST_SEED").is_some() || shown.into_inner() > 1_000, "no token was ever believed");
}

/// Tries rules over the same histories and prints how many of these end wrong under each, and how many break any
/// property on the way.
fn check_rules(rules: &[Rule], settings: &Settings, twist: Twist) {
    let mut shares = vec![(0, 0); rules.len()];
    for seed in 0..MUTANT_HISTORIES {
        let history = History::of_world(seed.into(), settings.clone(), twist);
        for (rule, (wrong, caught)) in rules.iter().zip(&mut shares) {
            let mut dice = StdRng::seed_from_u64(seed.into());
            let (mut ends_wrong, mut breaks) = (false, false);
            for _ in 0..4 {
                let order = history.order(&mut dice);
                let (mut mutant, mut view) = (Mutant::new(*rule), View::default());
                for batch in batches(&order, Split::Random, &mut dice) {
                    mutant.deliver(&history.observations(batch));
                    batch.iter().for_each(|&place| view.see(&history.deliveries[place].said));
                    breaks = breaks || view.check(mutant.rows()).is_err();
                }
                ends_wrong = ends_wrong || mutant.rows().truth() != history.truth;
            }
            *wrong += u32::from(ends_wrong);
            *caught += u32::from(breaks || ends_wrong);
        }
    }
    for (rule, (wrong, caught)) in rules.iter().zip(shares) {
        let percent = |share: u32| f64::from(share) * 100.0 / f64::from(MUTANT_HISTORIES);
        println!("{rule:?}: {:.1} % end wrong, {:.1} % are caught", percent(wrong), percent(caught));
        match rule {
            Rule::Naive => assert_eq!((wrong, caught), (0, 0), "the properties refuse the right rule"),
            // Every deletion arrives in the end, so a membership that outlived its turn shows on the way only.
            Rule::AnyLiveMembership => assert!(wrong == 0 && caught > 0, "{rule:?}: {wrong} wrong, {caught} caught"),
            _ => assert!(wrong > 0, "{rule:?} is not caught"),
        }
    }
}

#[test]
fn each_wrong_rule_is_caught() {
    use Rule::{
        AnyLiveMembership, ArrivalOrder, EmbeddedOverwrites, LastWriteWins, Naive, NoParentTombstones, TimedTombstones,
    };
    let plain = Settings::default();
    let children = Settings { child_events: true, ..Settings::default() };
    let ties = Settings { ties: true, ..Settings::default() };
    let straight = Twist::default();
    check_rules(&[Naive], &ties, Twist { thin: true, ..straight });
    check_rules(&[NoParentTombstones], &plain, straight);
    check_rules(&[Naive, TimedTombstones], &children, Twist { skew: true, ..straight });
    let others = [ArrivalOrder, LastWriteWins, EmbeddedOverwrites, AnyLiveMembership];
    check_rules(&others, &children, straight);
}

/// Delivers what is left in every order, and counts the complete ones.
fn all_orders(history: &History, copy: &Replica, left: u32, states: &mut HashMap<u32, Replica>) -> usize {
    if left == 0 {
        assert_eq!(copy.rows.truth(), history.truth);
        return 1;
    }
    let mut complete = 0;
    for place in (0..history.deliveries.len()).filter(|place| left & (1 << place) != 0) {
        let mut next = copy.clone();
        next.merge(&history.observations(&[place]));
        let left = left & !(1 << place);
        // What is known depends on what was delivered, and on nothing else.
        let known = states.entry(left).or_insert_with(|| {
            let seen = (0..history.deliveries.len()).filter(|place| left & (1 << place) == 0);
            let view = View::of(seen.map(|place| &history.deliveries[place].said));
            view.check(&next.rows).unwrap_or_else(|broken| panic!("{broken:?}"));
            next.clone()
        });
        assert_eq!(*known, next);
        complete += all_orders(history, &next, left, states);
    }
    complete
}

#[test]
fn all_orders_of_the_hard_histories_end_in_their_truth() {
    for (events, truth) in hard_histories() {
        let history = History::of_events(0, &events, truth, Twist::default());
        let mut states = HashMap::new();
        assert_eq!(all_orders(&history, &Replica::default(), 0xff, &mut states), 40_320);
        assert_eq!(states.len(), 255, "every set of events was met");
    }
}

/// Merges in every order, each observation by itself and all at once, and demands one end.
fn one_end(observations: &[Observation]) -> Replica {
    fn permute(copy: &Replica, path: &[&Observation], left: &[&Observation], ends: &mut Vec<Replica>) {
        if left.is_empty() {
            let mut at_once = Replica::default();
            at_once.merge(path);
            ends.extend([copy.clone(), at_once]);
        }
        for place in 0..left.len() {
            let (mut next, mut path, mut left) = (copy.clone(), path.to_vec(), left.to_vec());
            let observation = left.remove(place);
            next.merge(&[observation]);
            path.push(observation);
            permute(&next, &path, &left, ends);
        }
    }
    let mut ends = Vec::new();
    permute(&Replica::default(), &[], &observations.iter().collect::<Vec<_>>(), &mut ends);
    let end = ends.pop().expect("there is an order");
    ends.iter().for_each(|other| assert_eq!(*other, end));
    end
}

fn webhook(fact: Fact) -> Observation {
    Observation { source: Provenance::Webhook, fact }
}

fn pair() -> (OrganizationId, UserId) {
    (OrganizationId::parse("org_1").expect("an id"), UserId::parse("user_1").expect("an id"))
}

fn generation(id: &str) -> Generation {
    Generation { created_at: Millis(1_000), id: MembershipId::parse(id).expect("an id") }
}

fn joins(id: &str, role: &str, stamp: Stamp) -> Observation {
    let ((organization, user), generation) = (pair(), generation(id));
    let member = Member {
        organization,
        user,
        membership: Some(generation.id.clone()),
        role: Some(role.to_owned()),
        permissions: Vec::new(),
        created_at: Some(generation.created_at),
        updated_at: Some(stamp.updated_at),
    };
    webhook(Fact::Member(member, generation, stamp))
}

fn leaves(id: &str, at: i64) -> Observation {
    let (organization, user) = pair();
    webhook(Fact::NoMember(organization, user, generation(id), Millis(at)))
}

fn stamp(updated_at: i64, event_at: i64, hash: i64) -> Stamp {
    Stamp { updated_at: Millis(updated_at), event_at: Millis(event_at), hash }
}

fn role(copy: &Replica) -> Option<&str> {
    copy.rows.members.get(&pair()).and_then(|(member, _)| member.role.as_deref())
}

#[test]
fn memberships_of_one_millisecond_are_told_apart_by_their_ids() {
    let (a, b) = (joins("orgmem_a", "a", stamp(1_000, 1_000, 1)), joins("orgmem_b", "b", stamp(1_000, 1_000, 2)));
    assert_eq!(role(&one_end(&[a.clone(), b.clone()])), Some("b"));
    assert_eq!(role(&one_end(&[a.clone(), b.clone(), leaves("orgmem_a", 1_000)])), Some("b"));
    assert_eq!(role(&one_end(&[a, b, leaves("orgmem_b", 1_000)])), None, "the older one does not come back");
}

#[test]
fn equal_times_are_decided_by_the_event_and_then_by_the_content_and_flagged() {
    let check = |stamps: [Stamp; 2], expected: &str, contested: bool| {
        let both = [joins("orgmem_a", "first", stamps[0]), joins("orgmem_a", "second", stamps[1])];
        let copy = one_end(&both);
        assert_eq!(role(&copy), Some(expected), "{stamps:?}");
        let register = &copy.registers[&Key::Pair(pair().0, pair().1)];
        assert_eq!(register.contested, contested, "{stamps:?}");
        let mut workset = Workset::new([(Key::Pair(pair().0, pair().1), register.clone())]);
        workset.merge(&both[0]);
        assert_eq!(workset.is_contested(&both[0]), contested, "{stamps:?}");
    };
    check([stamp(5, 5, 2), stamp(6, 4, 1)], "second", false);
    check([stamp(5, 6, 1), stamp(5, 5, 2)], "first", true);
    check([stamp(5, 5, 2), stamp(5, 5, 1)], "first", true);
    check([stamp(5, 5, -1), stamp(5, 5, -2)], "first", true);
    let tie = [joins("orgmem_a", "x", stamp(5, 5, 1)), joins("orgmem_a", "y", stamp(5, 6, 2))];
    let settled = one_end(&[tie[0].clone(), tie[1].clone(), joins("orgmem_a", "z", stamp(6, 7, 3))]);
    let register = &settled.registers[&Key::Pair(pair().0, pair().1)];
    assert_eq!((role(&settled), register.contested), (Some("z"), false), "a newer version settles it");
}

#[test]
fn what_clerk_denies_takes_a_provisional_row_away_and_a_full_one_never() {
    let (organization, user) = pair();
    let denied = |at: i64| webhook(Fact::NotAMember(organization.clone(), user.clone(), Millis(at)));
    let believed = token((organization.as_str(), user.as_str()), 1_000, 0).observations.remove(2);
    let shown = Some("org:of_a_token");
    assert_eq!(role(&one_end(std::slice::from_ref(&believed))), shown);
    assert_eq!(role(&one_end(&[believed.clone(), denied(999)])), shown, "the token is younger");
    assert_eq!(role(&one_end(&[believed.clone(), denied(1_000)])), None);
    assert_eq!(role(&one_end(&[believed.clone(), denied(1_001)])), None);
    let joined = joins("orgmem_a", "full", stamp(1_000, 1_000, 1));
    assert_eq!(role(&one_end(&[believed.clone(), denied(2_000), joined.clone()])), Some("full"));
    let left = leaves("orgmem_a", 999);
    assert_eq!(role(&one_end(&[joined.clone(), left, believed.clone()])), shown, "she came back after that");
    assert_eq!(role(&one_end(&[joined.clone(), leaves("orgmem_a", 1_000), believed.clone()])), None);
    let gone = webhook(Fact::NoUser(user.clone(), Millis(1)));
    assert_eq!(role(&one_end(&[believed.clone(), gone, joined.clone()])), None, "whatever the times");
    let gone = webhook(Fact::NoOrganization(organization.clone(), Millis(1)));
    assert_eq!(role(&one_end(&[believed, gone, joined])), None, "whatever the times");
}

/// A read that finds nothing takes back parts that are older, in every order, and nothing that is known in full; nothing of
/// what is below is touched, and a younger part is shown again.
#[test]
fn what_clerk_does_not_find_takes_parts_back_and_never_a_full_row() {
    let (organization, user) = pair();
    let part = |at: i64| token((organization.as_str(), user.as_str()), at, 0).observations;
    let (user_part, organization_part) = (part(1_000).remove(0), part(1_000).remove(1));
    let embedded = |observation: &Observation| Observation { source: Provenance::Webhook, ..observation.clone() };
    let no_user = |at: i64| webhook(Fact::UserNotFound(user.clone(), Millis(at)));
    let no_organization = |at: i64| webhook(Fact::OrganizationNotFound(organization.clone(), Millis(at)));
    let has = |observations: &[Observation]| {
        let copy = one_end(observations);
        (copy.rows.users.contains_key(&user), copy.rows.organizations.contains_key(&organization))
    };
    let both = [user_part.clone(), organization_part.clone()];
    assert_eq!(has(&both), (true, true));
    assert_eq!(has(&[&both[..], &[no_user(999), no_organization(999)]].concat()), (true, true), "the token is younger");
    assert_eq!(has(&[&both[..], &[no_user(1_000)]].concat()), (false, true));
    assert_eq!(has(&[&both[..], &[no_organization(1_001)]].concat()), (true, false));
    assert_eq!(has(&[no_user(1_000), user_part.clone(), part(1_001).remove(0)]), (true, false), "a later token");
    assert_eq!(has(&[no_user(1_000), embedded(&user_part), no_user(5)]), (false, false));

    let person = User { id: user.clone(), profile: None, linked_workspace: None, created_at: None, updated_at: None };
    let full = webhook(Fact::User(person, stamp(1, 1, 1)));
    assert_eq!(has(&[user_part.clone(), no_user(9_000), full.clone(), no_user(8_000)]), (true, false));
    let gone = webhook(Fact::NoUser(user.clone(), Millis(1)));
    assert_eq!(has(&[user_part.clone(), no_user(9_000), full, gone]), (false, false));

    let joined = joins("orgmem_a", "full", stamp(1_000, 1_000, 1));
    let copy = one_end(&[joined, user_part, organization_part, no_user(9_000), no_organization(9_000)]);
    assert_eq!(role(&copy), Some("full"), "what is below speaks for itself");
}

#[test]
fn a_bare_membership_id_ends_its_pair_in_every_order() {
    let bare = |id: &str| webhook(Fact::NoMembership(generation(id).id, Millis(2_000)));
    let joined = joins("orgmem_a", "full", stamp(1_000, 1_000, 1));
    let changed = joins("orgmem_a", "changed", stamp(3_000, 3_000, 2));
    assert_eq!(role(&one_end(&[joined.clone(), bare("orgmem_a"), changed])), None);
    assert_eq!(role(&one_end(&[joined, bare("orgmem_other")])), Some("full"));
}

/// What a sweep has found to be gone stays gone, in every order; nothing else is touched.
#[test]
fn an_invitation_that_is_gone_stays_gone() {
    let (organization, _) = pair();
    let invitation = |status: &str, at: i64| {
        let invitation = faircopy_core::record::Invitation {
            id: faircopy_core::InvitationId::parse("orginv_1").unwrap(),
            organization: organization.clone(),
            email: None,
            role: None,
            status: status.into(),
            expires_at: None,
            created_at: Some(Millis(1)),
            updated_at: Some(Millis(at)),
        };
        webhook(Fact::Invitation(invitation, stamp(at, at, at)))
    };
    let gone = webhook(Fact::NoInvitation(faircopy_core::InvitationId::parse("orginv_1").unwrap(), Millis(5)));
    assert_eq!(one_end(&[invitation("pending", 1), invitation("accepted", 9)]).rows.invitations.len(), 1);
    assert_eq!(one_end(&[invitation("pending", 1), gone, invitation("accepted", 9)]).rows.invitations.len(), 0);
}

//! The copy stays exact (merge.md): over tens of thousands of random histories, read through the real path, each
//! delivered in four random orders with duplicates and random batches,
//!
//! - I1: every order, every duplicate and every split into batches ends in the same rows and registers, and the rows are
//!   those of an independent model of the source, in every column;
//! - I2, I7: at no step does anything show of which a deletion is known, nor a member of it;
//! - I5: at no step does a remembered version, generation or tombstone go back;
//! - I6: at every step the members are the newest generations, over live and dead, by a naive second opinion;
//! - I10: tokens strewn in at random change no full row, no version and no tombstone, bring back nobody whose deletion is
//!   as late as the token, and leave the truth in the end;
//! - merging everything again changes nothing and brings no news.
//!
//! The wrong rules that merge.md names are tried against the same properties, and each is caught. All 40,320 orders of
//! three hard histories are tried, and each of their prefixes.
//!
//! `FAIRCOPY_TEST_HISTORIES=1000000` asks for more histories, `FAIRCOPY_TEST_SEED=<seed>` repeats one.

mod copy;
mod history;
mod mutants;
mod oracle;

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use faircopy_core::event::{Fact, Observation};
use faircopy_core::id::{OrganizationId, UserId};
use faircopy_core::merge::{Key, Register, Verdict as News};
use faircopy_core::record::{Member, Organization, Provenance, Stamp, User};
use faircopy_core::Millis;
use faircopy_world::{Settings, hard_histories};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use copy::{Copying, Replica};
use history::{History, Split, Twist, batches};
use mutants::{Mutant, Rule};
use oracle::{Broken, Verdict, View, demand};

const HISTORIES: usize = 20_000;
const MUTANT_HISTORIES: usize = 2_000;

/// Runs `examine` for every seed, on all processors, and fails with the seed and the invariant of the first that breaks.
fn every_history(examine: impl Fn(u64) -> Verdict + Sync) {
    let seeds: Vec<u64> = match setting("FAIRCOPY_TEST_SEED") {
        Some(seed) => vec![seed],
        None => (0..setting("FAIRCOPY_TEST_HISTORIES").unwrap_or(HISTORIES as u64)).collect(),
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
        first.map(|panic| resume_unwind(panic));
    });
}

#[expect(clippy::disallowed_methods, reason = "how long to search is the caller's to say, and changes no result")]
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// Delivers an order in batches and checks the rows after each batch against all that was delivered so far.
fn deliver(
    copy: &mut impl Copying,
    history: &History,
    order: &[usize],
    split: Split,
    dice: &mut StdRng,
) -> Verdict {
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
        let before = self.0.clone();
        self.0.deliver(batch);
        assert_never_back(&before, &self.0);
    }

    fn rows(&self) -> &copy::Rows {
        &self.0.rows
    }
}

/// I5, and the same for all else that a register remembers.
fn assert_never_back(before: &Replica, after: &Replica) {
    for (key, old) in &before.registers {
        let Some(new) = after.registers.get(key) else {
            // Only what a parent's tombstone absorbs is forgotten.
            let ended = |key: Key| after.registers.get(&key).is_some_and(|register| register.tombstone.is_some());
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

/// The registers, without what a membership id that came alone leaves open: which pair it ended (see the report of
/// `no_membership`). It only decides whether a token that is older than the pair's newest membership is believed.
fn registers(copy: &Replica, history: &History) -> BTreeMap<Key, Register> {
    let mut registers = copy.registers.clone();
    if history.twist.thin {
        registers.values_mut().for_each(|register| register.last_end = None);
    }
    registers
}

#[test]
fn every_order_ends_in_the_truth_and_no_step_shows_what_is_gone() {
    every_history(|seed| {
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
                Some(end) if !live => dice.random_range(start..=end),
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
    let person =
        User { id: user, profile: None, linked_workspace: Some("of a token".into()), created_at: None, updated_at: None };
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
    every_history(|seed| {
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
        for batch in batches(&order, Split::Random, &mut dice) {
            let mut mixed = history.observations(batch);
            batch.iter().for_each(|&place| view.see(&history.deliveries[place].said));
            let arriving: Vec<&Token> = waiting.split_off(waiting.len().saturating_sub(share));
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
        demand(waiting.is_empty() || order.len() < 4, "I10", || "not every token arrived".to_owned())?;
        for round in ["once", "and again"] {
            let mut rows = copy.rows.truth();
            // The one thing that is left open: a pair whose organization and user live, and whose end nobody reported.
            rows.members.retain(|_, row| !row.clerk_membership_id.is_empty());
            demand(rows == history.truth, "I10", || format!("{round}: {rows:#?}\ninstead of\n{:#?}", history.truth))?;
            demand(copy.rows.members.len() == rows.members.len(), "I10", || format!("a token stays: {copy:#?}"))?;
            copy.merge(&tokens.iter().flat_map(|token| &token.observations).collect::<Vec<_>>());
        }
        Ok(())
    });
    // Without provisional rows on the way the test would prove nothing.
    assert!(setting("FAIRCOPY_TEST_SEED").is_some() || shown.into_inner() > 1_000, "no token was ever believed");
}

/// How many of the histories end wrong under a rule, and how many break any property on the way.
fn shares(rule: Rule, settings: &Settings, twist: Twist) -> (usize, usize) {
    let (mut wrong, mut caught) = (0, 0);
    for seed in 0..MUTANT_HISTORIES as u64 {
        let history = History::of_world(seed, settings.clone(), twist);
        let mut dice = StdRng::seed_from_u64(seed);
        let (mut ends_wrong, mut breaks) = (false, false);
        for _ in 0..4 {
            let order = history.order(&mut dice);
            let mut mutant = Mutant::new(rule);
            breaks |= deliver(&mut mutant, &history, &order, Split::Random, &mut dice).is_err();
            let mut mutant = Mutant::new(rule);
            mutant.deliver(&history.observations(&order));
            ends_wrong |= mutant.rows().truth() != history.truth;
        }
        wrong += usize::from(ends_wrong);
        caught += usize::from(breaks);
    }
    (wrong, caught)
}

fn check_rule(rule: Rule, settings: &Settings, twist: Twist) {
    let (wrong, caught) = shares(rule, settings, twist);
    let percent = |share: usize| share as f64 * 100.0 / MUTANT_HISTORIES as f64;
    println!("{rule:?}: {:.1} % end wrong, {:.1} % break a property on the way", percent(wrong), percent(caught));
    if rule == Rule::Naive {
        assert_eq!((wrong, caught), (0, 0), "the properties refuse the right rule");
    } else {
        assert!(wrong > 0 && caught >= wrong, "{rule:?} is not caught: {wrong} wrong, {caught} caught");
    }
}

#[test]
fn each_wrong_rule_is_caught() {
    let plain = Settings::default();
    let children = Settings { child_events: true, ..Settings::default() };
    let ties = Settings { ties: true, ..Settings::default() };
    let (straight, skewed) = (Twist::default(), Twist { skew: true, ..Twist::default() });
    check_rule(Rule::Naive, &plain, skewed);
    check_rule(Rule::Naive, &ties, Twist { thin: true, ..straight });
    check_rule(Rule::ArrivalOrder, &children, straight);
    check_rule(Rule::LastWriteWins, &children, straight);
    check_rule(Rule::TimedTombstones, &children, skewed);
    check_rule(Rule::EmbeddedOverwrites, &children, straight);
    check_rule(Rule::AnyLiveMembership, &children, straight);
    check_rule(Rule::NoParentTombstones, &plain, straight);
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

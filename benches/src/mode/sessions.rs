//! `--sessions`: checks of session tokens, beside handlers that do the same with Clerk's SDK.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use faircopy_bench::token::{ISSUER, Instance};

use super::{open, settings};
use crate::args::Args;
use crate::contestant::{Contestant, Server};
use crate::http::get;
use crate::round::{self, Round};
use crate::summary::{Ratio, Summary};

/// Who is held against whom.
const PAIRS: [(Contestant, Contestant); 4] = [
    (Contestant::FaircopyPostgres, Contestant::TokenPeer),
    (Contestant::FaircopySqlite, Contestant::TokenPeer),
    (Contestant::FaircopyPostgres, Contestant::JosePeer),
    (Contestant::FaircopySqlite, Contestant::JosePeer),
];
/// Seconds beside the measured ones for which a token must be good: the start of the contestant and the first checks.
const SPARE: u64 = 120;

pub(super) fn run(args: &Args) -> Result<()> {
    let contestants = args.contestants(&Contestant::CHECKERS);
    ensure!(
        contestants.iter().all(|contestant| Contestant::CHECKERS.contains(contestant)),
        "--sessions takes faircopy-postgres, faircopy-sqlite, token-peer and jose-peer"
    );
    let (arena, mut report) = open(args, "Session checks beside Clerk's SDK", &contestants)?;
    report.counts("checks");
    let instance = Instance::default();
    let pem = instance.pem();
    let variables = [("CLERK_JWT_KEY", pem.as_str()), ("CLERK_JWT_ISSUER_DOMAIN", ISSUER)];
    let mut rounds: BTreeMap<Contestant, Vec<Round>> = BTreeMap::new();
    for number in 1..=args.rounds {
        eprintln!("round {number} of {}", args.rounds);
        for &contestant in &contestants {
            let tokens = tokens(args, &instance);
            let requests = Arc::new(tokens.iter().map(|token| request(token)).collect::<Vec<_>>());
            let check =
                |server: &Server| tokens.iter().enumerate().try_for_each(|(at, token)| check(server, at, token));
            let round = round::run_checks(&arena, contestant, &settings(args), &variables, &requests, check)?;
            rounds.entry(contestant).or_default().push(round);
        }
    }
    let title = |contestant: Contestant| contestant.title().to_owned();
    let summaries: Vec<_> = rounds.iter().map(|(&name, rounds)| (title(name), Summary::of(rounds))).collect();
    report.summaries(&summaries);
    let pair = |&(one, other): &(Contestant, Contestant)| {
        Some(Ratio::of(one.title(), rounds.get(&one)?, other.title(), rounds.get(&other)?))
    };
    report.ratios(&PAIRS.iter().filter_map(pair).collect::<Vec<_>>());
    rounds.values().for_each(|rounds| report.keep(rounds));
    report.note(format!(
        "`GET /v1/auth` over {} keep-alive connections, the tokens of {} users in turn, each a member of an organization; \
         user and membership are in the database. {} s measured after {} s of warm-up.",
        args.connections, users(args), args.seconds, args.warm_up
    ));
    report.note(
        "Before the load each token is sent once, which stores its rows, and once forged: the answers must name the user, \
         the organization and the role, and be 401. During it every answer is 200, or the run fails.",
    );
    report.note("Ratios are taken round by round; below 1 in the CPU column means that Faircopy needs less.");
    report.finish(args)
}

/// How many sign in unless somebody says so.
const USERS: u32 = 1000;

fn users(args: &Args) -> usize {
    usize::try_from(args.users.unwrap_or(USERS)).unwrap_or(usize::MAX)
}

fn tokens(args: &Args, instance: &Instance) -> Vec<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let lifetime = i64::try_from(args.seconds + args.warm_up + SPARE).unwrap_or(i64::MAX);
    let now = i64::try_from(now).unwrap_or_default();
    (0..users(args)).map(|number| instance.token(number, now, lifetime)).collect()
}

fn request(token: &str) -> Vec<u8> {
    format!("GET /v1/auth HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\n\r\n").into_bytes()
}

/// A token is answered with what it says; the same with another signature is refused.
fn check(server: &Server, number: usize, token: &str) -> Result<()> {
    let head = get(server.address(), "/v1/auth", &format!("authorization: Bearer {token}\r\n"))?.to_lowercase();
    ensure!(head.starts_with("http/1.1 200 "), "a good token was answered: {head}");
    for line in [format!("x-auth-user-id: user_2{number:026}\r\n"), "x-auth-org-role: org:member\r\n".to_owned()] {
        ensure!(head.contains(&line), "`{}` is missing from: {head}", line.trim());
    }
    ensure!(head.contains("x-auth-org-id: org_2"), "the organization is missing from: {head}");
    if number == 0 {
        let (signed, signature) = token.rsplit_once('.').unwrap_or_default();
        let forged: String = signature.chars().rev().collect();
        let head = get(server.address(), "/v1/auth", &format!("authorization: Bearer {signed}.{forged}\r\n"))?;
        ensure!(head.starts_with("HTTP/1.1 401 "), "a forged token was answered: {head}");
    }
    Ok(())
}

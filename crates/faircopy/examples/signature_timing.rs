//! faults.md W32, measured: does the time of a signature check say where a wrong signature differs from the right one?
//!
//! `cargo run --release --example signature_timing`, on a machine that does nothing else. It is no test: on a busy machine
//! the figure says nothing. Welch's t over 100,000 checks of each of two wrong signatures, one of which differs in its
//! first byte and one in its last, in random order; below 4.5 the two cannot be told apart (faults.md's bound, that of
//! "dudect"). The slowest twentieth is left out: it was interrupted.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "a measurement reads the clock, prints what it found and ends when it cannot go on"
)]

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use faircopy_core::Millis;
use faircopy_core::signature::{Names, Secret, SignedHeaders, claim};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

const CHECKS: usize = 100_000;
const BOUND: f64 = 4.5;

fn main() -> ExitCode {
    const AT: i64 = 1_760_000_000;
    let secrets = [Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()];
    let body = br#"{"type":"user.created","data":{"id":"user_1"}}"#;
    let right = STANDARD.decode(&secrets[0].sign("msg_1", AT, body)[3..]).unwrap();
    // Wrong in the first byte, and in the last.
    let wrong = [0, 31].map(|byte: usize| {
        let mut bytes = right.clone();
        bytes[byte] ^= 1;
        format!("v1,{}", STANDARD.encode(bytes))
    });
    let at = AT.to_string();
    // Both are checked in one place of memory: two places have times of their own.
    let mut signature = wrong[0].clone().into_bytes();
    let mut dice = StdRng::seed_from_u64(1);
    let mut times: [Vec<f64>; 2] = [Vec::new(), Vec::new()];
    // The first tenth only warms the processor.
    for round in 0..CHECKS * 22 / 10 {
        let which = usize::from(dice.random::<bool>());
        signature.copy_from_slice(wrong[which].as_bytes());
        let svix = [vec!["msg_1".as_bytes()], vec![at.as_bytes()], vec![signature.as_slice()]];
        let headers = SignedHeaders { svix, ..SignedHeaders::default() };
        let claim = claim(&headers, Names::Svix, Millis::from_seconds(AT)).unwrap();
        let start = Instant::now();
        let verdict = black_box(&claim).verify(black_box(body), &secrets);
        let time = start.elapsed();
        assert!(verdict.is_err(), "both are wrong");
        if round >= CHECKS * 2 / 10 {
            times[which].push(time.as_nanos() as f64);
        }
    }
    let mut all: Vec<f64> = times.concat();
    all.sort_by(f64::total_cmp);
    let slowest = all[all.len() * 95 / 100];
    let [first, last] =
        times.map(|times| moments(&times.into_iter().filter(|time| *time <= slowest).collect::<Vec<_>>()));
    let t = (first.mean - last.mean) / (first.variance / first.count + last.variance / last.count).sqrt();
    println!("first byte: {:.1} ns, last byte: {:.1} ns, Welch's t {t:.2} (bound {BOUND})", first.mean, last.mean);
    if t.abs() < BOUND { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Moments {
    count: f64,
    mean: f64,
    variance: f64,
}

fn moments(times: &[f64]) -> Moments {
    let count = times.len() as f64;
    let mean = times.iter().sum::<f64>() / count;
    let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (count - 1.0);
    Moments { count, mean, variance }
}

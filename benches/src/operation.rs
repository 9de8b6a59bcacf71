//! The steps of a delivery that the core does, one at a time: measured by time in `benches/core.rs`, and counted in
//! instructions by `faircopy-bench --instructions`.

use std::hint::black_box;

use faircopy_core::event::{self, Context, Observation, Reading};
use faircopy_core::merge::Workset;
use faircopy_core::payload::{self, Kept};
use faircopy_core::signature::{self, Names, SVIX_HEADERS, Secret, SignedHeaders};
use faircopy_core::{Millis, ProfileMode};

use crate::delivery::Layout;

/// When the deliveries are signed.
const NOW: Millis = Millis(1_760_000_000_000);
const SECRET: &str = "whsec_Y2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2M=";
/// Deliveries in one merge: a batch at 32 connections.
const BATCH: usize = 32;

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Verifying the signature of a body of 3 KB.
    Verify,
    /// Taking out of it what must not be stored, and reading what it means.
    Read,
    /// Merging 32 deliveries of users that are not known yet, and listing the changes.
    Merge,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Verify, Self::Read, Self::Merge];

    /// As reports name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Read => "read",
            Self::Merge => "merge",
        }
    }

    /// Prepares the step and returns what does it once.
    ///
    /// # Panics
    ///
    /// If the prepared delivery is not accepted.
    #[must_use]
    pub fn prepare(self) -> Box<dyn Fn()> {
        match self {
            Self::Verify => verify(),
            Self::Read => read(),
            Self::Merge => merge(),
        }
    }
}

fn verify() -> Box<dyn Fn()> {
    let (body, secrets) = (body(0), [Secret::parse(SECRET).expect("a secret")]);
    let (id, timestamp) = ("msg_2g7np7Hrk0SN6kj5EDMLDaKNL0S", NOW.0 / 1000);
    let (sent_at, signature) = (timestamp.to_string(), secrets[0].sign(id, timestamp, body.as_bytes()));
    let check = move || {
        let lines = [id, &sent_at, &signature].map(|value| vec![value.as_bytes()]);
        let headers = SignedHeaders { svix: lines, webhook: [vec![], vec![], vec![]] };
        let claim = signature::claim(&headers, Names::Svix, NOW)?;
        claim.verify(body.as_bytes(), &secrets)
    };
    assert_eq!(check(), Ok(()), "{SVIX_HEADERS:?}");
    Box::new(move || {
        let _ = black_box(check());
    })
}

fn read() -> Box<dyn Fn()> {
    let body = body(0);
    assert_eq!(observations(&body).len(), 1);
    Box::new(move || {
        black_box(observations(black_box(&body)));
    })
}

fn merge() -> Box<dyn Fn()> {
    let batch: Vec<Observation> = (0..BATCH).flat_map(|number| observations(&body(number))).collect();
    let merge = move || {
        let mut workset = Workset::new([]);
        for observation in &batch {
            black_box(workset.merge(observation));
        }
        workset.finish()
    };
    assert_eq!(merge().users.len(), BATCH);
    Box::new(move || {
        black_box(merge());
    })
}

fn body(number: usize) -> String {
    Layout::stored_body(&format!("2{number:026}"))
}

fn observations(body: &str) -> Vec<Observation> {
    let context = Context { mode: ProfileMode::Full, signed_at: NOW.plus(1_000_000_000_000), instance: None };
    let Kept::Json(message) = payload::keep(body.as_bytes(), ProfileMode::Full) else { return vec![] };
    match event::read(&message, &context).reading {
        Reading::Observed(observations) => observations,
        Reading::Ignored | Reading::Quarantined(_) => vec![],
    }
}

//! The service in this process: real sockets, a real database, and a clock of the test's own where time matters.
//!
//! | module | holds |
//! | --- | --- |
//! | [`app`], [`raw`], [`events`] | a service on a port of its own, bytes sent as they are, bodies to send |
//! | [`answers`] | every status of the endpoint, with its exact answer |
//! | [`signatures`] | faults.md W1 to W13, W29, W31 |
//! | [`transport`] | faults.md W15 to W21: methods, encodings, sizes, framing, slow senders |
//! | [`content`] | faults.md W22 to W28, the 45 examples, the minimal profile mode |
//! | [`admin`] | the route table, the token, the admin API |
//! | [`dashboard`] | signing in to the dashboard, its figures, what happens as it happens |
//! | [`live`], [`stream`] | live queries: what is told, to whom, and what is not told twice |
//! | [`mint`], [`sessions`] | session tokens, their stories, who may see what |
//! | [`confirm`], [`fresh`] | Clerk's Backend API: provisional rows, reads no staler than asked (C1 to C4), whose key it is |
//! | [`probe`] | counts, silence and what was never delivered: found, kept, told, over |
//! | [`alerts`] | each alarm, raised and resolved by breaking the thing itself; who is told, and how often |
//! | [`names`] | names for display in the minimal profile mode, which Clerk is asked for (C1, C2) |
//! | [`corpus`] | tokens of every kind, judged as Clerk's own SDK judges them |
//! | [`keys`] | the issuer's keys under fire (J1 to J5) |
//! | [`explain`] | why the copy holds what it holds; users, organizations and members for the operator |
//! | [`doctor`] | each trouble made, and recognised by its code |
//! | [`destinations`] | what the places are told that the copy goes on to, by webhook, and what they make of it |
//! | [`description`] | OpenAPI, and the page that shows it |
//! | [`figures`] | figures: those of docs/observability.md, and no label an id |
//! | [`health`] | liveness, readiness and figures; a database that hangs or is gone (W30, D4) |
//! | [`overload`] | bounded queues and memory |
//! | [`clock`] | a clock that is wrong and jumps (P6) |
//! | [`storm`] | clients that hang up (D13) |
//! | [`shutdown`] | the end, with requests in flight (P3) |
//! | [`logs`] | nothing secret or personal is logged |
//!
//! Left out here: W14 (refused settings) stands beside `config`; W32 is a measurement, `examples/signature_timing.rs`; P4,
//! P7 and W33 need limits on a process of their own, S1 and S5 a disk of their own: they belong to the black-box tests.
#![allow(
    clippy::disallowed_methods,
    reason = "a test waits for real sockets and real databases, and measures how long"
)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::large_futures, reason = "a test's future holds its whole story")]

mod admin;
mod alerts;
mod answers;
mod app;
mod clock;
mod confirm;
mod content;
mod corpus;
mod dashboard;
mod description;
mod destinations;
mod doctor;
mod events;
mod explain;
mod figures;
mod fresh;
mod health;
mod keys;
mod live;
mod logs;
mod mint;
mod names;
mod overload;
mod probe;
mod raw;
mod sessions;
mod shutdown;
mod signatures;
mod storm;
mod stream;
mod transport;

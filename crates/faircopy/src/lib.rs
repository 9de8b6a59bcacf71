//! The edges of Faircopy: settings, the HTTP service, the background workers and the command line.
//!
//! A Rust application can run all of it in its own process: see [`embed`].
//!
//! [`app`] puts the parts together and is the only place that makes time and chance. [`http`] answers requests, [`worker`]
//! writes; they do not import each other and meet in [`app`] and in the store.

pub mod alerts;
pub mod app;
pub mod cascade;
pub mod cli;
pub mod compare;
pub mod config;
pub mod destinations;
pub mod doctor;
pub mod embed;
pub mod explain;
mod holder;
pub mod http;
pub mod names;
pub mod outside;
pub mod refresh;
pub mod replay;
pub mod sweep;
pub mod telemetry;
pub mod traffic;
pub mod upstream;
pub mod worker;

//! Watchfire: stream-processing threat and anomaly detection on Kafka.
//!
//! The way of an event is the layout of the crate:
//!
//! ```text
//! record → decode → event → detect → (repartition) → correlate → alert → sink
//! ```
//!
//! A module imports only from modules to its left; everything up to `pipeline` is pure (no I/O, no
//! clock, no threads), so the same engine runs under Kafka, over files and in tests. The borders are
//! held by `tests/tidy.rs` and drawn in `docs/ARCHITECTURE.md`.

#![deny(missing_docs, unsafe_code)]

// What the unit tests share with `tests/` and `fuzz/` names the crate as those do.
#[cfg(test)]
extern crate self as watchfire;

pub mod limits;

pub mod ids;

pub mod time;

pub mod decimal;

mod prefetch;

pub mod event;

pub mod decode;

pub mod rule;

pub mod window;

pub mod detect;

pub mod correlate;

pub mod alert;

pub mod pipeline;

// Pure up to here; below are the edges.

#[cfg(feature = "service")]
pub mod config;

#[cfg(feature = "service")]
pub mod metrics;

#[cfg(feature = "service")]
pub mod bus;

#[cfg(feature = "service")]
pub mod kafka;

#[cfg(feature = "service")]
pub mod broker;

#[cfg(feature = "service")]
pub mod source;

#[cfg(feature = "service")]
pub mod sink;

#[cfg(feature = "service")]
pub mod http;

#[cfg(feature = "service")]
pub mod runtime;

#[cfg(feature = "service")]
pub mod cli;

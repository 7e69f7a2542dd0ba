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

pub mod limits;

pub mod ids;

pub mod time;

pub mod event;

pub mod decode;

pub mod rule;

pub mod window;

pub mod detect;

pub mod correlate;

pub mod alert;

pub mod pipeline;

// Pure up to here; below are the edges.

pub mod config;

pub mod metrics;

pub mod kafka;

pub mod broker;

pub mod source;

pub mod sink;

pub mod http;

pub mod runtime;

pub mod cli;

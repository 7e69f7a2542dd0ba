//! One record in, outputs out: the two stages as pure values.
//!
//! The first stage ([`Filter`]) decodes records and matches rules; the second ([`Correlate`]) folds
//! matches into findings. Neither does I/O: who drives them (Kafka, files, tests) carries the outputs.
//!
//! Accounting: read = quiet + detected + rejected. What the second stage cannot use (late, missing
//! field) it counts by itself.

mod bundle;
mod correlate;
mod filter;
mod undecoded;
mod unfed;

pub use bundle::{Bundle, Bundles};
pub use correlate::{Correlate, CorrelateOutput, Marker, Message, Progressed};
pub use filter::{Counts, Detected, Filter, FilterOutput, Record, Rejected};
pub use unfed::{Unfed, unfed};

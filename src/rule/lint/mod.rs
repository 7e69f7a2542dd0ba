//! What is legal and yet seldom meant: warnings and hints about rules that load.
//!
//! One file per part of a rule. A lint is worth its place only when it is nearly always right: public
//! rules are the measure (`tests/sigmahq.rs`). A comment in the rule allows a single finding.

mod allow;
mod correlation;
mod cost;
mod header;
mod logsource;
mod selection;

pub use allow::is_allowed;
pub use correlation::correlation;
pub use cost::cost;
pub use header::header;
pub use logsource::logsource;
pub use selection::{filter, tree};

//! Start and stop, worker loops, and what they need from the machine.

mod clock;
mod files;

pub use clock::{Stopwatch, SystemClock, Usage};
pub use files::{LoadError, LoadedRules, load_mappings, load_rules};

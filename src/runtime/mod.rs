//! Start and stop, worker loops, upkeep, and what they need from the machine.

mod alerts;
mod clock;
mod correlate;
mod files;
mod filter;
mod service;
mod shared;
mod signals;
mod stage;
mod upkeep;
mod views;
mod worker;

pub use clock::{Stopwatch, SystemClock, Usage};
pub use correlate::CorrelateStage;
pub use files::{
    LoadError, LoadedOptions, LoadedRules, RuleFiles, RuleTexts, load_mappings, load_options,
    load_rules, load_tables, read_rules, shipped_rules, yaml_files,
};
pub use filter::{FilterStage, SourceSpec};
pub use service::{Service, ServiceError};
pub use shared::{OwnTopics, Shared};
pub use signals::terminated;
pub use stage::{Assigned, Entry, Run, Stage};
pub use worker::Worker;

//! Detections per group → findings.
//!
//! [`Fold`] is the state of one partition of the correlation stage. It is a deterministic function of
//! the records given to it, in their order: no clock, no random number, and no iteration over a hash
//! map decides anything. So its state can be rebuilt by giving it the same records again.

mod counts;
mod explain;
mod fold;
mod groups;
mod index;
mod matches;
mod packed;
mod plan;
mod signal;
mod state;
mod store;
#[cfg(test)]
mod tests;
mod timers;
mod waiting;

use crate::ids::{Coordinate, GroupKey};
use crate::time::Timestamp;
use crate::window::Episode;

pub use counts::{FoldCounts, LATENESS_SECONDS, Late};
pub use explain::Explanation;
pub use fold::{Fold, FoldOptions, Offered, Updates};
pub use matches::{Match, PackedMatch};
pub use packed::{Part, encode};
pub use state::{Replay, Restore, Restored, SHARDS, Standpoint, StateError, StateRecord};
pub use store::{Applied, Bounds, Keyed, PREFETCHED, Spec, Store, Wanted};

/// A correlation held for a group in a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The correlation, by index.
    pub rule: usize,
    /// The group's values, in the order of the rule's group-by.
    pub group: GroupKey,
    /// Start, end and count so far.
    pub episode: Episode,
    /// Where the first and last contributing events lie.
    pub evidence: Vec<Coordinate>,
    /// The record that made it begin or grow.
    pub trigger: Coordinate,
}

/// A correlation could not take in new groups, since it or all together hold as many as they may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overflow {
    /// The correlation, by index.
    pub rule: usize,
    /// Event time of the first match that was refused.
    pub time: Timestamp,
    /// Groups that it held then.
    pub groups: usize,
    /// Bytes that they took.
    pub bytes: usize,
}

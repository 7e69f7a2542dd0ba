//! Detections per group → findings.
//!
//! [`Fold`] is the state of one partition of the correlation stage. It is a deterministic function of
//! the records given to it, in their order: no clock, no random number, and no iteration over a hash
//! map decides anything. So its state can be rebuilt by giving it the same records again.

mod fold;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{Coordinate, GroupKey, RuleId};
use crate::time::Timestamp;
use crate::window::Episode;

pub use fold::{Fold, FoldCounts};

/// One match of a rule that feeds correlations: what travels from the first stage to the second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Match {
    /// Time of the event.
    #[serde(rename = "m")]
    pub time: Timestamp,
    /// Where the event's record lies.
    #[serde(rename = "a")]
    pub at: Coordinate,
    /// The family of correlations that it feeds.
    #[serde(rename = "f")]
    pub family: Arc<str>,
    /// The rule that matched.
    #[serde(rename = "r")]
    pub rule: RuleId,
    /// The fields that the family needs and the event has, in text form.
    #[serde(rename = "v")]
    pub values: Vec<(Arc<str>, Arc<str>)>,
}

/// A correlation held for a group in a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The correlation, by index.
    pub rule: usize,
    /// The group's values, in the order of the rule's group-by.
    pub group: GroupKey,
    /// Start, end, count and evidence so far.
    pub episode: Episode,
    /// The record that made it begin or grow.
    pub trigger: Coordinate,
}

/// The value of a field in a match.
pub fn value_of<'v>(values: &'v [(Arc<str>, Arc<str>)], name: &str) -> Option<&'v Arc<str>> {
    values.iter().find(|(n, _)| **n == *name).map(|(_, v)| v)
}

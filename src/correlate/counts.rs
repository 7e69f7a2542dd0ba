//! What a fold could not use.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ids::RuleId;

/// Upper bounds of how late matches were, in seconds; the last class has none.
pub const LATENESS_SECONDS: [i64; 10] = [1, 2, 5, 10, 30, 60, 300, 900, 3600, 21_600];

/// How many matches were late, by how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Late {
    /// How many.
    pub count: u64,
    /// By how much together, microseconds.
    pub micros: u64,
    /// How many in each class of lateness, the least first: see [`LATENESS_SECONDS`].
    pub classes: [u64; LATENESS_SECONDS.len() + 1],
}

/// What a fold could not use, by reason. It only counts up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoldCounts {
    /// Matches before the watermark when they came, by topic and rule. How much they were behind is
    /// beyond what lateness allows already.
    pub late: BTreeMap<(Arc<str>, RuleId), Late>,
    /// Matches without a group-by field or value, by correlation.
    pub missing_field: BTreeMap<usize, u64>,
    /// Matches whose value is no number where one is measured, by correlation.
    pub no_number: BTreeMap<usize, u64>,
    /// Matches that would have opened a group over the limit, by correlation.
    pub overflow: BTreeMap<usize, u64>,
    /// Matches given to windows before the watermark passed them, since too many waited.
    pub released_early: u64,
    /// Matches that came twice while they waited; once is used.
    pub duplicates: u64,
    /// Matches of rules or families that are not loaded here.
    pub unknown_rule: u64,
}

impl Late {
    /// Notes one match that is late by so many microseconds.
    pub fn note(&mut self, micros: i64) {
        let class = LATENESS_SECONDS.iter().position(|s| micros <= s * 1_000_000);
        self.count += 1;
        self.micros = self.micros.saturating_add(micros.max(0).cast_unsigned());
        self.classes[class.unwrap_or(LATENESS_SECONDS.len())] += 1;
    }

    /// Adds what another has counted.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.micros = self.micros.saturating_add(other.micros);
        self.classes.iter_mut().zip(other.classes).for_each(|(class, more)| *class += more);
    }

    /// What has come since it stood as `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut since = *self;
        since.count -= before.count;
        since.micros -= before.micros;
        since.classes.iter_mut().zip(before.classes).for_each(|(class, less)| *class -= less);
        since
    }
}

impl FoldCounts {
    /// Notes a late match of a rule on an event of a topic, and by how many microseconds.
    pub(super) fn late(&mut self, topic: &Arc<str>, rule: &RuleId, micros: i64) {
        let key = (Arc::clone(topic), rule.clone());
        self.late.entry(key).or_default().note(micros);
    }

    /// How many matches were late in all.
    pub fn late_total(&self) -> u64 {
        self.late.values().map(|l| l.count).sum()
    }
}

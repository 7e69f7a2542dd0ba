//! What a fold could not use.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ids::RuleId;

/// Upper bounds of how late matches were, in seconds, and what they are called; the last class,
/// `more`, has none.
pub const LATENESS_SECONDS: [(i64, &str); 10] = [
    (1, "1s"),
    (2, "2s"),
    (5, "5s"),
    (10, "10s"),
    (30, "30s"),
    (60, "1m"),
    (300, "5m"),
    (900, "15m"),
    (3600, "1h"),
    (21_600, "6h"),
];

/// How many matches were late, by how much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Late {
    /// How many.
    pub count: u64,
    /// By how much together, microseconds.
    pub micros: u64,
    /// How many in each class of lateness, the least first: see [`Self::named`].
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
    /// How many there are in each class, with its name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = LATENESS_SECONDS.iter().map(|(_, name)| *name).chain(["more"]);
        names.zip(self.classes)
    }
}

impl FoldCounts {
    /// Notes a late match of a rule on an event of a topic, and by how many microseconds.
    pub(super) fn late(&mut self, topic: &Arc<str>, rule: &RuleId, micros: i64) {
        let key = (Arc::clone(topic), rule.clone());
        let late = self.late.entry(key).or_default();
        let class = LATENESS_SECONDS.iter().position(|(s, _)| micros <= s * 1_000_000);
        late.count += 1;
        late.micros = late.micros.saturating_add(micros.max(0).cast_unsigned());
        late.classes[class.unwrap_or(LATENESS_SECONDS.len())] += 1;
    }

    /// How many matches were late in all.
    pub fn late_total(&self) -> u64 {
        self.late.values().map(|l| l.count).sum()
    }
}

//! What the state of a correlation depends on, as one number.
//!
//! Groups that were kept belong to the rule that made them. A new title, level or tag leaves them as they
//! are; another condition, filter, group-by, timespan or measure means something else, and begins anew.
//!
//! The same is part of a family's name, and with it of every match on its way between the stages. So a rule
//! set that changes while instances are restarted one by one switches at a place in the log: matches of
//! the old meaning feed nobody but the old meaning, whoever reads them.

use std::fmt;
use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};

use super::{CorrelationRule, RuleRef, RuleSet};
use crate::ids::{hex, stable_hash};

/// Which meaning of a correlation its kept groups have: 64 bits of SHA-256 over all that shapes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateVersion(pub [u8; 8]);

impl fmt::Display for StateVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// Feeds whatever can be hashed to SHA-256, so that the result is the same in every process.
struct Stable(Sha256);

impl Hasher for Stable {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        u64::from_le_bytes(cut(self.0.clone()))
    }
}

fn cut(hash: Sha256) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize()[..8]);
    first
}

impl RuleSet {
    /// The state versions of the correlations, by index.
    pub fn state_versions(&self) -> Vec<StateVersion> {
        let mut versions = Vec::with_capacity(self.correlations.len());
        for rule in &self.correlations {
            let version = self.state_version(rule, &versions);
            versions.push(version);
        }
        versions
    }

    /// With the meaning of its members in the name of each family.
    pub(super) fn named(mut self) -> Self {
        let versions = self.state_versions();
        for family in &mut self.families {
            let mut parts = vec![family.id.as_bytes()];
            parts.extend(family.members.iter().map(|member| &versions[*member].0[..]));
            family.id = hex(&stable_hash(&parts)[..8]).into();
        }
        self
    }

    /// The state version of a correlation; `below` has those of all that it may refer to.
    fn state_version(&self, rule: &CorrelationRule, below: &[StateVersion]) -> StateVersion {
        let CorrelationRule { header, kind, inputs, group_by, .. } = rule;
        let mut hash = Stable(Sha256::new());
        // Which key of the family decides where a group is.
        (&header.id, &self.families[rule.family].id, group_by).hash(&mut hash);
        (rule.timespan_micros, rule.null_group).hash(&mut hash);
        // Thresholds and ratios are floating-point numbers, which have no hash but one text.
        format!("{kind:?} {:?}", rule.windowing).hash(&mut hash);
        for input in inputs {
            input.group_fields.hash(&mut hash);
            match input.rule {
                RuleRef::Correlation(i) => below.get(i).hash(&mut hash),
                RuleRef::Detection(i) => self.hash_detection(i, &mut hash),
            }
        }
        StateVersion(cut(hash.0))
    }

    /// What a detection rule matches, in every view.
    fn hash_detection(&self, index: usize, hash: &mut Stable) {
        let rule = &self.detections[index];
        (&rule.header.id, &rule.condition, rule.views.len()).hash(hash);
        format!("{:?}", rule.logsource).hash(hash);
        for view in rule.views.iter().flatten() {
            (&view.condition, &view.fields).hash(hash);
            format!("{:?}", view.logsource).hash(hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const RULES: &str = "\
title: Failed
name: failed
logsource: {product: test}
detection: {sel: {result: failed}, condition: sel}
---
title: Many
name: many
correlation: {type: event_count, rules: [failed], group-by: [ip], timespan: 5m, condition: {gte: 10}}
level: high
---
title: Many of many
correlation: {type: value_count, rules: [many], group-by: [user], timespan: 1h, condition: {field: ip, gte: 2}}
";

    fn versions(text: &str) -> Vec<StateVersion> {
        let file: Arc<str> = "rules.yml".into();
        let (rules, wrong) = RuleSet::compile([(&file, text)]);
        assert_eq!(rules.correlations.len(), 2, "{wrong:?}");
        rules.state_versions()
    }

    #[test]
    fn words_for_people_leave_the_state_and_meaning_does_not() {
        let before = versions(RULES);
        assert_eq!(versions(RULES), before);
        for (from, to) in [("title: Many\n", "title: More\n"), ("level: high", "level: low")] {
            assert_eq!(versions(&RULES.replace(from, to)), before, "{to}");
        }
        for (from, to) in [
            ("gte: 10", "gte: 11"),
            ("5m", "6m"),
            ("result: failed", "result: failure"),
            ("sel: {result", "sel: {results"),
            ("product: test", "product: tests"),
        ] {
            let after = versions(&RULES.replace(from, to));
            assert!(after[0] != before[0] && after[1] != before[1], "{to}");
        }
        // Both are of one family, whose matches they share.
        let after = versions(&RULES.replace("gte: 2", "gte: 3"));
        assert!(after[0] != before[0] && after[1] != before[1]);
    }
}

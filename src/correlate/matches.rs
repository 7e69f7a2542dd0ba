//! A match, as it travels between stages and as it is held.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::packed::{self, Part, Values};
use crate::ids::{Coordinate, RuleId, partition_of};
use crate::rule::{Family, RuleSet};
use crate::time::Timestamp;

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

/// A match as a process that runs the rules holds it, of which there may be millions a second: names are
/// numbers, values are in one piece, and where its record lies is known from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PackedMatch {
    /// Time of the event.
    pub time: Timestamp,
    /// The rule that matched, by index.
    pub rule: u32,
    /// The family of correlations that it feeds, by index.
    pub family: u32,
    /// Those of the family's fields, in their order.
    values: Values,
}

impl PackedMatch {
    /// A match of a rule for a family. `values` writes each of the family's fields in turn into the buffer.
    pub fn new(
        time: Timestamp,
        (rule, family): (usize, usize),
        buffer: &mut Vec<u8>,
        values: impl FnOnce(&mut Vec<u8>),
    ) -> Self {
        buffer.clear();
        values(buffer);
        let (rule, family) = (rule as u32, family as u32);
        Self { time, rule, family, values: Values::from_slice(buffer) }
    }

    /// The same at another time.
    #[must_use]
    pub fn at_time(&self, time: Timestamp) -> Self {
        Self { time, ..self.clone() }
    }

    /// The values as they are packed.
    pub fn values(&self) -> &[u8] {
        &self.values
    }

    /// The values of the family's key.
    pub fn key<'m>(&'m self, family: &'m Family) -> impl Iterator<Item = Part<'m>> {
        family.key_places.iter().filter_map(|place| packed::part(self.values(), *place))
    }

    /// Which of so many partitions of the matches topic it goes to: by its family and the family's key.
    pub fn partition(&self, family: &Family, partitions: i32) -> i32 {
        // What lacks a value is apart: this is not the text of any.
        let none = b"\0";
        let key = self.key(family).map(|part| part.bytes().unwrap_or(none));
        let all: Vec<&[u8]> = std::iter::once(family.id.as_bytes()).chain(key).collect();
        partition_of(&all, partitions)
    }

    /// With names, as others are told of it.
    pub fn unpack(&self, rules: &RuleSet, at: Coordinate) -> Match {
        let family = &rules.families[self.family as usize];
        Match {
            time: self.time,
            at,
            family: Arc::clone(&family.id),
            rule: rules.detections[self.rule as usize].header.id.clone(),
            values: self.named(family),
        }
    }

    /// The values that there are, with the names of their fields.
    pub fn named(&self, family: &Family) -> Vec<(Arc<str>, Arc<str>)> {
        named(&family.names, self.values())
    }
}

/// Packed values that there are, with the names of their fields.
pub fn named(names: &[Arc<str>], values: &[u8]) -> Vec<(Arc<str>, Arc<str>)> {
    let with_name = |(name, part): (&Arc<str>, Part<'_>)| {
        Some((Arc::clone(name), Arc::<str>::from(part.text()?)))
    };
    names.iter().zip(packed::parts(values)).filter_map(with_name).collect()
}

/// The value of a field among named ones.
pub fn value_of<'v>(values: &'v [(Arc<str>, Arc<str>)], name: &str) -> Option<&'v Arc<str>> {
    values.iter().find(|(n, _)| **n == *name).map(|(_, v)| v)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::correlate::encode;

    const RULES: &str = "title: A
name: a
logsource: {product: x}
detection: {s: {k: a}, condition: s}
---
title: Many
correlation:
  type: value_count
  rules: [a]
  group-by: [user, host]
  timespan: 5s
  condition: {field: address, gte: 4}
";

    #[test]
    fn a_match_has_its_names_again_and_none_for_what_it_lacks() {
        let file: Arc<str> = "r.yml".into();
        let (rules, _) = RuleSet::compile([(&file, RULES)]);
        let family = &rules.families[0];
        let value = |name: &str| [("user", "ann"), ("address", "::1")].iter().find(|v| v.0 == name);
        let packed = PackedMatch::new(Timestamp(7), (0, 0), &mut Vec::new(), |buffer| {
            family
                .names
                .iter()
                .for_each(|name| encode(value(name).map(|v| v.1.as_bytes()), buffer));
        });
        let at = Coordinate { topic: "t".into(), partition: 3, offset: 9 };
        let event = packed.unpack(&rules, at.clone());
        assert_eq!((event.time, &event.at, &*event.rule.0), (Timestamp(7), &at, "a"));
        let mut values = event.values;
        values.sort();
        assert_eq!(values, [("address".into(), "::1".into()), ("user".into(), "ann".into())]);
        let key: Vec<_> = packed.key(family).map(Part::text).collect();
        assert_eq!(key, [Some("ann"), None]);
        assert_eq!(packed.at_time(Timestamp(8)).unpack(&rules, at).time, Timestamp(8));
    }

    #[test]
    fn a_match_is_small() {
        assert_eq!(size_of::<PackedMatch>(), 56);
    }
}

//! Matches that differ by time and place alone, as one record.
//!
//! Where a rule counts a large share of all events, its matches are most of what the stages hand to each
//! other. Those of one group in one epoch say the same over and over, so they are gathered and told once:
//! the rule, the group's values, and a list of times and offsets. Nothing is added up: the second stage
//! takes each match as if it had come alone, so a bundle changes no answer.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use serde::{Deserialize, Serialize};

use super::Message;
use crate::correlate::{Match, PackedMatch};
use crate::ids::{Coordinate, RuleId};
use crate::limits::{BUNDLE_MATCHES_MAX, GATHERED_MATCHES_MAX};
use crate::rule::RuleSet;
use crate::time::Timestamp;

/// Matches of one source partition, rule and family with the same values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// Topic of the events.
    #[serde(rename = "t")]
    pub topic: Arc<str>,
    /// Partition of the events.
    #[serde(rename = "p")]
    pub partition: i32,
    /// The family of correlations that they feed.
    #[serde(rename = "f")]
    pub family: Arc<str>,
    /// The rule that matched.
    #[serde(rename = "r")]
    pub rule: RuleId,
    /// The fields that the family needs.
    #[serde(rename = "v")]
    pub values: Vec<(Arc<str>, Arc<str>)>,
    /// Time and offset of each, as what is added to the one before; the first to nothing.
    #[serde(rename = "s")]
    pub steps: Vec<(i64, i64)>,
}

impl Bundle {
    /// The matches again, in their order.
    pub fn matches(&self) -> impl Iterator<Item = Match> {
        self.places().map(|(time, at)| {
            let (family, rule) = (Arc::clone(&self.family), self.rule.clone());
            Match { time, at, family, rule, values: self.values.clone() }
        })
    }

    /// Time and place of each match.
    pub fn places(&self) -> impl Iterator<Item = (Timestamp, Coordinate)> {
        let (mut time, mut offset) = (0_i64, 0_i64);
        self.steps.iter().map(move |(later, further)| {
            (time, offset) = (time.wrapping_add(*later), offset.wrapping_add(*further));
            let topic = Arc::clone(&self.topic);
            (Timestamp(time), Coordinate { topic, partition: self.partition, offset })
        })
    }
}

/// A bundle that still grows, and where it goes.
struct Growing {
    hash: u64,
    target: i32,
    topic: Arc<str>,
    partition: i32,
    /// The first of its matches.
    first: PackedMatch,
    steps: Vec<(i64, i64)>,
    time: i64,
    offset: i64,
}

impl Growing {
    fn bundle(self, rules: &RuleSet) -> Bundle {
        let Self { topic, partition, first, steps, .. } = self;
        let family = &rules.families[first.family as usize];
        Bundle {
            topic,
            partition,
            family: Arc::clone(&family.id),
            rule: rules.detections[first.rule as usize].header.id.clone(),
            values: first.named(family),
            steps,
        }
    }
}

/// Gathers matches until they are sent.
pub struct Bundles {
    rules: Arc<RuleSet>,
    /// In the order in which they began.
    growing: Vec<Growing>,
    index: HashTable<usize>,
    hasher: RandomState,
    len: usize,
}

impl Bundles {
    /// Of matches of these rules.
    pub fn new(rules: Arc<RuleSet>) -> Self {
        let (growing, index, hasher) = (Vec::new(), HashTable::new(), RandomState::default());
        Self { rules, growing, index, hasher, len: 0 }
    }

    /// How many matches are gathered.
    pub fn gathered(&self) -> usize {
        self.len
    }

    /// Whether they are to be sent before their time.
    pub fn is_full(&self) -> bool {
        self.len >= GATHERED_MATCHES_MAX
    }

    /// Adds the match of a record, which goes to one of so many partitions of the matches topic.
    pub fn add(&mut self, event: PackedMatch, at: &Coordinate, partitions: i32) {
        let (time, values) = (event.time.0, event.values());
        let hash = self.hasher.hash_one((at.partition, event.family, event.rule, values));
        let growing = &self.growing;
        let same = |i: &usize| {
            let Growing { hash: other, topic, partition, first, steps, .. } = &growing[*i];
            *other == hash
                && steps.len() < BUNDLE_MATCHES_MAX
                && (*partition, &**topic) == (at.partition, &*at.topic)
                && (first.family, first.rule) == (event.family, event.rule)
                && first.values() == values
        };
        let found = self.index.find(hash, same).copied();
        let number = found.unwrap_or_else(|| {
            let target = event.partition(&self.rules.families[event.family as usize], partitions);
            let (topic, partition) = (Arc::clone(&at.topic), at.partition);
            let (steps, first) = (Vec::new(), event);
            let (time, offset) = (0, 0);
            let new = Growing { hash, target, topic, partition, first, steps, time, offset };
            self.growing.push(new);
            let number = self.growing.len() - 1;
            self.index.insert_unique(hash, number, |i| self.growing[*i].hash);
            number
        });
        let Growing { steps, time: last, offset, .. } = &mut self.growing[number];
        steps.push((time.wrapping_sub(*last), at.offset.wrapping_sub(*offset)));
        (*last, *offset) = (time, at.offset);
        self.len += 1;
    }

    /// Takes out all of them with the partitions that they go to. One that is alone is a plain match.
    pub fn take(&mut self) -> impl Iterator<Item = (i32, Message)> + use<> {
        (self.index, self.len) = (HashTable::new(), 0);
        let rules = Arc::clone(&self.rules);
        let message = move |growing: Growing| {
            let target = growing.target;
            let bundle = growing.bundle(&rules);
            let message = match bundle.steps.len() {
                1 => bundle.matches().next().map(Message::Match),
                _ => Some(Message::Bundle(bundle)),
            };
            message.map(|message| (target, message))
        };
        std::mem::take(&mut self.growing).into_iter().filter_map(message)
    }

    /// Throws all of them away.
    pub fn clear(&mut self) {
        (self.index, self.len) = (HashTable::new(), 0);
        self.growing.clear();
    }
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
title: B
name: b
logsource: {product: x}
detection: {s: {k: b}, condition: s}
---
title: Many
correlation:
  type: event_count
  rules: [a, b]
  group-by: [user]
  timespan: 5s
  condition: {gte: 4}
";

    fn rules() -> Arc<RuleSet> {
        let file: Arc<str> = "r.yml".into();
        let (rules, _) = RuleSet::compile([(&file, RULES)]);
        assert_eq!((rules.detections.len(), rules.families.len()), (2, 1));
        Arc::new(rules)
    }

    fn event(rule: usize, user: &str, time: i64, offset: i64) -> (PackedMatch, Coordinate) {
        let at = Coordinate { topic: "t".into(), partition: (offset % 2) as i32, offset };
        let user = |buffer: &mut Vec<u8>| encode(Some(user.as_bytes()), buffer);
        (PackedMatch::new(Timestamp(time), (rule, 0), &mut Vec::new(), user), at)
    }

    #[test]
    fn matches_come_out_as_they_went_in_and_alike_ones_together() {
        let rules = rules();
        let mut bundles = Bundles::new(Arc::clone(&rules));
        let mut all = Vec::new();
        for n in 0..1_000 {
            let time = [5, -7, i64::MAX, 0][(n % 4) as usize];
            all.push(event((n / 3 % 2) as usize, &format!("u{}", n % 5), time, n));
        }
        all.push(event(0, "alone", 3, 2_000));
        all.iter().for_each(|(e, at)| bundles.add(e.clone(), at, 1));
        assert_eq!(bundles.gathered(), all.len());
        let messages: Vec<(i32, Message)> = bundles.take().collect();
        let all: Vec<Match> = all.into_iter().map(|(e, at)| e.unpack(&rules, at)).collect();
        // Two rules, five users and two partitions, and the one that is alone.
        assert_eq!((messages.len(), bundles.gathered()), (21, 0));
        assert!(matches!(&messages[20], (0, Message::Match(e)) if *e == all[1_000]));
        let mut again = Vec::new();
        for (target, message) in messages {
            assert_eq!(target, 0);
            let bytes = message.encode();
            match Message::decode(&bytes).expect("a message") {
                Message::Match(event) => again.push(event),
                Message::Bundle(bundle) => again.extend(bundle.matches()),
                Message::Marker(_) => panic!("a marker"),
            }
        }
        again.sort_by_key(|e| e.at.offset);
        assert_eq!(again, all);
    }

    #[test]
    fn a_bundle_and_all_that_is_gathered_are_bounded() {
        let mut bundles = Bundles::new(rules());
        let mut n = 0;
        while !bundles.is_full() {
            let (event, at) = event(0, "u", n, 2 * n);
            bundles.add(event, &at, 1);
            n += 1;
        }
        assert_eq!(bundles.gathered(), GATHERED_MATCHES_MAX);
        let largest = bundles.take().map(|(_, m)| m.encode().len()).max();
        assert!(largest.is_some_and(|bytes| bytes < 1 << 20), "{largest:?} bytes");
    }
}

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
use crate::correlate::Match;
use crate::ids::{Coordinate, RuleId};
use crate::limits::{BUNDLE_MATCHES_MAX, GATHERED_MATCHES_MAX};
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
    pub fn matches(self) -> impl Iterator<Item = Match> {
        let Self { topic, partition, family, rule, values, steps } = self;
        let (mut time, mut offset) = (0_i64, 0_i64);
        steps.into_iter().map(move |(later, further)| {
            (time, offset) = (time.wrapping_add(later), offset.wrapping_add(further));
            let at = Coordinate { topic: Arc::clone(&topic), partition, offset };
            let (family, rule, values) = (Arc::clone(&family), rule.clone(), values.clone());
            Match { time: Timestamp(time), at, family, rule, values }
        })
    }
}

/// A bundle that still grows, and where it goes.
struct Growing {
    hash: u64,
    target: i32,
    bundle: Bundle,
    time: i64,
    offset: i64,
}

/// Gathers matches until they are sent.
#[derive(Default)]
pub struct Bundles {
    /// In the order in which they began.
    growing: Vec<Growing>,
    index: HashTable<usize>,
    hasher: RandomState,
    len: usize,
}

impl Bundles {
    /// How many matches are gathered.
    pub fn gathered(&self) -> usize {
        self.len
    }

    /// Whether they are to be sent before their time.
    pub fn is_full(&self) -> bool {
        self.len >= GATHERED_MATCHES_MAX
    }

    /// Adds a match that goes to partition `target` of the matches topic.
    pub fn add(&mut self, event: Match, target: i32) {
        let Match { time, at, family, rule, values } = event;
        let hash = self.hasher.hash_one((&at.topic, at.partition, &family, &rule, &values));
        let growing = &self.growing;
        let same = |i: &usize| {
            let Growing { hash: other, bundle, .. } = &growing[*i];
            *other == hash
                && bundle.steps.len() < BUNDLE_MATCHES_MAX
                && (bundle.partition, &bundle.topic) == (at.partition, &at.topic)
                && (&bundle.family, &bundle.rule, &bundle.values) == (&family, &rule, &values)
        };
        let found = self.index.find(hash, same).copied();
        let number = found.unwrap_or_else(|| {
            let (topic, partition) = (at.topic, at.partition);
            let bundle = Bundle { topic, partition, family, rule, values, steps: Vec::new() };
            self.growing.push(Growing { hash, target, bundle, time: 0, offset: 0 });
            let number = self.growing.len() - 1;
            self.index.insert_unique(hash, number, |i| self.growing[*i].hash);
            number
        });
        let Growing { bundle, time: last, offset, .. } = &mut self.growing[number];
        bundle.steps.push((time.0.wrapping_sub(*last), at.offset.wrapping_sub(*offset)));
        (*last, *offset) = (time.0, at.offset);
        self.len += 1;
    }

    /// Takes out all of them with the partitions that they go to. One that is alone is a plain match.
    pub fn take(&mut self) -> impl Iterator<Item = (i32, Message)> {
        (self.index, self.len) = (HashTable::new(), 0);
        let message = |Growing { target, bundle, .. }| {
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
        self.take().for_each(drop);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(rule: &str, user: &str, time: i64, offset: i64) -> Match {
        let at = Coordinate { topic: "t".into(), partition: (offset % 2) as i32, offset };
        let values = vec![("user".into(), user.into())];
        Match { time: Timestamp(time), at, family: "f".into(), rule: RuleId(rule.into()), values }
    }

    #[test]
    fn matches_come_out_as_they_went_in_and_alike_ones_together() {
        let mut bundles = Bundles::default();
        let mut all = Vec::new();
        for n in 0..1_000 {
            let rule = ["a", "b"][(n / 3 % 2) as usize];
            let time = [5, -7, i64::MAX, 0][(n % 4) as usize];
            all.push(event(rule, &format!("u{}", n % 5), time, n));
        }
        all.push(event("a", "alone", 3, 2_000));
        all.iter().for_each(|e| bundles.add(e.clone(), 7));
        assert_eq!(bundles.gathered(), all.len());
        let messages: Vec<(i32, Message)> = bundles.take().collect();
        // Two rules, five users and two partitions, and the one that is alone.
        assert_eq!((messages.len(), bundles.gathered()), (21, 0));
        assert!(matches!(&messages[20], (7, Message::Match(e)) if *e == all[1_000]));
        let mut again = Vec::new();
        for (target, message) in messages {
            assert_eq!(target, 7);
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
        let mut bundles = Bundles::default();
        let mut n = 0;
        while !bundles.is_full() {
            bundles.add(event("a", "u", n, 2 * n), 0);
            n += 1;
        }
        assert_eq!(bundles.gathered(), GATHERED_MATCHES_MAX);
        let largest = bundles.take().map(|(_, m)| m.encode().len()).max();
        assert!(largest.is_some_and(|bytes| bytes < 1 << 20), "{largest:?} bytes");
    }
}

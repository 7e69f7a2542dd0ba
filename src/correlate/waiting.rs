//! Matches that wait for the watermark.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::Match;
use crate::time::Timestamp;

/// Length of a bucket, microseconds.
const BUCKET_MICROS: i64 = 1_000_000;

/// Matches in buckets of event time, each put in order only when it is taken out: what comes is nearly
/// in order already.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    buckets: BTreeMap<i64, Vec<Match>>,
    len: usize,
}

impl Waiting {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds a match.
    pub fn push(&mut self, event: Match) {
        self.buckets.entry(event.time.0.div_euclid(BUCKET_MICROS)).or_default().push(event);
        self.len += 1;
    }

    /// Takes out what lies before `time`, in the order of event time, then of place, which is the same
    /// wherever and in whatever order matches arrive. A match that came twice is there once; how often
    /// that was is added to `duplicates`.
    pub fn take_before(&mut self, time: Timestamp, duplicates: &mut u64) -> Vec<Match> {
        let mut due: Vec<Match> = Vec::new();
        while let Some(entry) = self.buckets.first_entry() {
            if Timestamp(entry.key().saturating_mul(BUCKET_MICROS)) >= time {
                break;
            }
            let (bucket, mut events) = entry.remove_entry();
            events.sort_by(Self::order);
            let later = events.split_off(events.partition_point(|m| m.time < time));
            if !later.is_empty() {
                self.buckets.insert(bucket, later);
            }
            self.len -= events.len();
            let before = events.len();
            events.dedup_by(|a, b| Self::order(a, b) == Ordering::Equal);
            *duplicates += (before - events.len()) as u64;
            if due.is_empty() {
                due = events
            } else {
                due.append(&mut events)
            }
            if self.buckets.contains_key(&bucket) {
                break;
            }
        }
        due
    }

    /// The earliest time at which one waits.
    pub fn earliest(&self) -> Option<Timestamp> {
        let (_, first) = self.buckets.first_key_value()?;
        first.iter().map(|m| m.time).min()
    }

    /// All of them, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = &Match> {
        self.buckets.values().flatten()
    }

    /// By time and place; what is of one event is told apart by rule and family.
    pub fn order(a: &Match, b: &Match) -> Ordering {
        a.time
            .cmp(&b.time)
            .then_with(|| a.at.cmp(&b.at))
            .then_with(|| a.rule.cmp(&b.rule))
            .then_with(|| a.family.cmp(&b.family))
    }
}

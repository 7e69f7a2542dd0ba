//! Matches that wait for the watermark.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::Match;
use crate::ids::Coordinate;
use crate::time::Timestamp;

/// Length of a bucket, microseconds.
const BUCKET_MICROS: i64 = 1_000_000;

/// Matches of one second.
#[derive(Clone, Debug, Default)]
struct Bucket {
    events: VecDeque<Match>,
    /// Whether one came before another that belongs before it.
    mixed: bool,
    /// Where the first that was put in stands in the log.
    oldest: i64,
}

/// Matches in buckets of event time, each put in order only when it is taken out, and only when it is not
/// in order already.
#[derive(Clone, Debug, Default)]
pub struct Waiting {
    buckets: BTreeMap<i64, Bucket>,
    len: usize,
}

impl Waiting {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds a match that stands in the log at `offset`.
    pub fn push(&mut self, event: Match, offset: i64) {
        let bucket = self.buckets.entry(event.time.0.div_euclid(BUCKET_MICROS)).or_default();
        if bucket.events.is_empty() {
            bucket.oldest = offset;
        }
        let last = bucket.events.back();
        bucket.mixed |= last.is_some_and(|last| rank(last, &event) == Ordering::Greater);
        bucket.events.push_back(event);
        self.len += 1;
    }

    /// Takes out the first of those before `time`, in the order of event time, then of place, which is
    /// the same wherever and in whatever order matches arrive. A match that came twice is there once; how
    /// often that was is added to `duplicates`.
    pub fn pop_before(&mut self, time: Timestamp, duplicates: &mut u64) -> Option<Match> {
        let mut entry = self.buckets.first_entry()?;
        let bucket = entry.get_mut();
        if bucket.mixed && bucket.events.iter().any(|m| m.time < time) {
            bucket.events.make_contiguous().sort_by(rank);
            bucket.mixed = false;
        }
        let first = bucket.events.pop_front_if(|m| m.time < time)?;
        self.len -= 1;
        let mut at = 0;
        while bucket.events.get(at).is_some_and(|m| rank(m, &first) == Ordering::Equal) {
            if bucket.events[at].family == first.family {
                bucket.events.remove(at);
                *duplicates += 1;
                self.len -= 1;
            } else {
                at += 1;
            }
        }
        if bucket.events.is_empty() {
            entry.remove();
        }
        Some(first)
    }

    /// The earliest time at which one waits.
    pub fn earliest(&self) -> Option<Timestamp> {
        let (_, first) = self.buckets.first_key_value()?;
        first.events.iter().map(|m| m.time).min()
    }

    /// From where in the log on all that wait can be read again; it may be a little before the first.
    pub fn oldest(&self) -> Option<i64> {
        self.buckets.values().map(|b| b.oldest).min()
    }
}

/// By time and place; what is of one event is told apart by rule. Families have nothing to do with each
/// other, so they stay in the order in which they come.
fn rank(a: &Match, b: &Match) -> Ordering {
    a.time
        .cmp(&b.time)
        .then_with(|| order_of_places(&a.at, &b.at))
        .then_with(|| order_of_names(&a.rule.0, &b.rule.0))
}

fn order_of_places(a: &Coordinate, b: &Coordinate) -> Ordering {
    order_of_names(&a.topic, &b.topic)
        .then_with(|| a.partition.cmp(&b.partition))
        .then_with(|| a.offset.cmp(&b.offset))
}

/// Names are mostly one and the same text.
fn order_of_names(a: &Arc<str>, b: &Arc<str>) -> Ordering {
    if Arc::ptr_eq(a, b) { Ordering::Equal } else { a.cmp(b) }
}

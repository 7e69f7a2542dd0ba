//! How far event time has come: per source partition, and for all of them together.
//!
//! A watermark W promises: no event before W is still to come, save what is then called late. Each
//! source partition has its own; together the slowest counts, over *all* partitions that the topic
//! has. A partition that lags holds the others up. One that is empty, with nothing left to read, does
//! not. One that was read to its end goes on at the pace of the wall clock, from its last event.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits::FRONTIER_JUMP_MICROS_MAX;
use crate::time::Timestamp;

/// The latest believable event time of one partition.
///
/// A single event far ahead of all before it is not believed until a second one follows: one bad
/// clock must not close everybody's windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    latest: Option<Timestamp>,
    suspect: Option<Timestamp>,
}

impl Frontier {
    /// Takes the time of an event; true when it shows that an earlier jump ahead was a bad clock.
    pub fn observe(&mut self, time: Timestamp) -> bool {
        let Some(latest) = self.latest else {
            self.latest = Some(time);
            return false;
        };
        if time.since(latest) <= FRONTIER_JUMP_MICROS_MAX {
            self.latest = Some(latest.max(time));
            return self.suspect.take().is_some();
        }
        // Two in a row are believed as far as the earlier of them.
        if let Some(before) = self.suspect.replace(time) {
            self.latest = Some(before.min(time));
            self.suspect = None;
        }
        false
    }

    /// The latest believed time; `None` before the first event.
    pub fn latest(&self) -> Option<Timestamp> {
        self.latest
    }

    /// At the end of a partition no second event will come: the latest of all counts.
    pub fn at_end(&self) -> Option<Timestamp> {
        self.latest.max(self.suspect)
    }
}

/// How far one source partition has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// No event before this is expected any more; lateness is taken off already.
    #[serde(rename = "w")]
    Watermark(Timestamp),
    /// It never held an event, and there is nothing to read.
    #[serde(rename = "e")]
    Empty,
}

/// The watermark over all partitions of all source topics.
#[derive(Clone, Debug, Default)]
pub struct SourceClock {
    partitions: BTreeMap<Arc<str>, i32>,
    progress: BTreeMap<(Arc<str>, i32), Progress>,
    watermark: Option<Timestamp>,
}

impl SourceClock {
    /// Takes how many partitions a topic has; it can only grow.
    pub fn expect(&mut self, topic: &Arc<str>, partitions: i32) {
        let known = self.partitions.entry(Arc::clone(topic)).or_default();
        *known = (*known).max(partitions);
    }

    /// Takes the progress of one partition; it cannot go back.
    pub fn advance(&mut self, topic: &Arc<str>, partition: i32, progress: Progress) {
        let entry = self.progress.entry((Arc::clone(topic), partition)).or_insert(progress);
        *entry = match (*entry, progress) {
            (Progress::Watermark(a), Progress::Watermark(b)) => Progress::Watermark(a.max(b)),
            (Progress::Watermark(a), Progress::Empty) => Progress::Watermark(a),
            (Progress::Empty, new) => new,
        };
    }

    /// The watermark of all: `None` while a partition has not reported, or all are empty. It never
    /// goes back.
    pub fn watermark(&mut self) -> Option<Timestamp> {
        let slowest = self.slowest();
        self.watermark = self.watermark.max(slowest);
        self.watermark
    }

    fn slowest(&self) -> Option<Timestamp> {
        let mut slowest: Option<Timestamp> = None;
        for (topic, count) in &self.partitions {
            for partition in 0..*count {
                match self.progress.get(&(Arc::clone(topic), partition))? {
                    Progress::Empty => {}
                    Progress::Watermark(w) => slowest = Some(slowest.map_or(*w, |s| s.min(*w))),
                }
            }
        }
        slowest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bad_clock_does_not_move_the_frontier() {
        let mut frontier = Frontier::default();
        let hour = Timestamp(3_600_000_000);
        assert!(!frontier.observe(Timestamp(0)));
        assert!(!frontier.observe(hour));
        assert!(frontier.observe(Timestamp(1)), "the jump was a bad clock");
        assert_eq!(frontier.latest(), Some(Timestamp(1)));
        assert!(!frontier.observe(hour));
        assert!(!frontier.observe(hour.plus(5)), "a second one is believed");
        assert_eq!(frontier.latest(), Some(hour));
    }

    #[test]
    fn the_slowest_partition_of_all_counts_and_an_empty_one_does_not() {
        let topic: Arc<str> = "t".into();
        let mut clock = SourceClock::default();
        clock.expect(&topic, 3);
        let at = |t| Progress::Watermark(Timestamp(t));
        clock.advance(&topic, 0, at(10));
        clock.advance(&topic, 1, at(5));
        assert_eq!(clock.watermark(), None, "partition 2 has not reported");
        clock.advance(&topic, 2, Progress::Empty);
        assert_eq!(clock.watermark(), Some(Timestamp(5)));
        clock.advance(&topic, 2, at(1));
        assert_eq!(clock.watermark(), Some(Timestamp(5)), "it never goes back");
        clock.advance(&topic, 1, at(20));
        clock.advance(&topic, 2, at(30));
        assert_eq!(clock.watermark(), Some(Timestamp(10)));
    }
}

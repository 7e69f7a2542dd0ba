//! How far event time has come: per source partition, and for all of them together.
//!
//! A watermark W promises: no event before W is still to come, save what is then called late. Each
//! source partition has its own; together the slowest counts, over *all* partitions that the topic
//! has. A partition that lags holds the others up, however long.
//!
//! One that has been read to its end has nothing older to add to what the others had shown by then:
//! it lets event time come as far as any of them was *at that date*, and no further until it is seen
//! at its end again. So it does not matter in which order partitions happen to be fetched; and when
//! its reader dies, nobody renews the statement, and the partition holds the others up. When all are
//! at their ends, event time goes on at the pace of the wall clock from the latest event, so a replay
//! of old records stays in its own time.
//!
//! All dates come from the readers' statements: the watermark is a function of the records alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::limits::FRONTIER_JUMP_MICROS_MAX;
use crate::time::Timestamp;

/// The latest believable event time of one partition.
///
/// A single event far ahead of all before it, or the very first, is not believed until a second one
/// follows: one bad clock must not close everybody's windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    latest: Option<Timestamp>,
    suspect: Option<Timestamp>,
}

impl Frontier {
    /// Takes the time of an event; true when it shows that an earlier jump ahead was a bad clock.
    pub fn observe(&mut self, time: Timestamp) -> bool {
        if let Some(latest) = self.latest
            && time.since(latest) <= FRONTIER_JUMP_MICROS_MAX
        {
            self.latest = Some(latest.max(time));
            return self.suspect.take().is_some();
        }
        // Two in a row are believed as far as the earlier of them; the later goes on being suspect.
        let Some(before) = self.suspect.replace(time) else { return false };
        let (low, high) = (before.min(time), before.max(time));
        let near = high.since(low) <= FRONTIER_JUMP_MICROS_MAX;
        self.latest = self.latest.max(Some(if near { high } else { low }));
        self.suspect = (!near).then_some(high);
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

/// How far one source partition has come; lateness is taken off already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// It is being read: no event before this is expected any more.
    #[serde(rename = "w")]
    Active(Timestamp),
    /// It was read to its end; event time as the wall clock carries it on.
    #[serde(rename = "i")]
    AtEnd(Timestamp),
    /// It never held an event, and there is nothing to read.
    #[serde(rename = "e")]
    Empty,
}

impl Progress {
    fn time(self) -> Timestamp {
        match self {
            Self::Active(t) | Self::AtEnd(t) => t,
            Self::Empty => Timestamp::MIN,
        }
    }
}

/// Event time of one source partition, as its reader sees it.
#[derive(Clone, Copy, Debug, Default)]
pub struct PartitionClock {
    frontier: Frontier,
    /// When its last event was read, by the wall clock.
    read_at: Timestamp,
    /// When it was last seen read to its end, by the wall clock.
    ended_at: Option<Timestamp>,
}

impl PartitionClock {
    /// Takes the time of an event and when it was read; true as for [`Frontier::observe`].
    pub fn observe(&mut self, time: Timestamp, now: Timestamp) -> bool {
        self.read_at = now;
        // What lies in the future, within what is allowed, must not make others late.
        self.frontier.observe(time.min(now))
    }

    /// Takes that everything up to the end had been read at `now`.
    pub fn reached_end(&mut self, now: Timestamp) {
        self.ended_at = self.ended_at.max(Some(now));
    }

    /// How far event time has come, lateness taken off, as of when; `None` while nothing can be said.
    pub fn progress(&self, lateness: i64) -> Option<(Progress, Timestamp)> {
        let at_end = self.ended_at.filter(|t| *t >= self.read_at);
        match (at_end, self.frontier.at_end()) {
            (Some(ended), None) => Some((Progress::Empty, ended)),
            (Some(ended), Some(last)) => {
                let carried_on = last.plus(ended.since(self.read_at));
                Some((Progress::AtEnd(carried_on.minus(lateness)), ended))
            }
            (None, _) => {
                let latest = self.frontier.latest()?;
                Some((Progress::Active(latest.minus(lateness)), self.read_at))
            }
        }
    }
}

/// What is known of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Known {
    /// The latest event time that it is known to have reached.
    reached: Timestamp,
    /// As of when.
    at: Timestamp,
    /// How far it lets the watermark come.
    allows: Timestamp,
}

/// The watermark over all partitions of all source topics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceClock {
    partitions: BTreeMap<Arc<str>, i32>,
    known: BTreeMap<(Arc<str>, i32), Known>,
    watermark: Option<Timestamp>,
}

impl SourceClock {
    /// Takes all source topics with how many partitions each has. Topics that are no longer read drop
    /// out, so that they cannot hold the others up.
    pub fn expect(&mut self, topics: &[(Arc<str>, i32)]) {
        self.partitions = topics.iter().cloned().collect();
    }

    /// Takes what a partition's reader said as of `at`.
    pub fn advance(&mut self, topic: &Arc<str>, partition: i32, said: Progress, at: Timestamp) {
        let place = (Arc::clone(topic), partition);
        let before = self.known.get(&place).copied();
        let mut reached = before.map_or(said.time(), |k| k.reached.max(said.time()));
        if let (Progress::Empty, Some(k)) = (said, before.filter(|k| k.reached > Timestamp::MIN)) {
            // A new reader has seen nothing, but an earlier one had: event time goes on from there.
            reached = k.reached.plus(at.since(k.at).max(0));
        }
        let allows = match said {
            Progress::Active(_) => reached,
            Progress::AtEnd(_) | Progress::Empty => {
                let by_then = self.known.values().filter(|k| k.at <= at).map(|k| k.reached);
                by_then.fold(reached, Timestamp::max)
            }
        };
        self.known.insert(place, Known { reached, at, allows });
    }

    /// The watermark of all: `None` while a partition has not reported, or all are empty. It never
    /// goes back.
    pub fn watermark(&mut self) -> Option<Timestamp> {
        let allowed = self.allowed().filter(|t| *t > Timestamp::MIN);
        self.watermark = self.watermark.max(allowed);
        self.watermark
    }

    fn allowed(&self) -> Option<Timestamp> {
        let mut least: Option<Timestamp> = None;
        for (topic, count) in &self.partitions {
            for partition in 0..*count {
                let known = self.known.get(&(Arc::clone(topic), partition))?;
                least = Some(least.map_or(known.allows, |l| l.min(known.allows)));
            }
        }
        least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frontier(seconds: &[i64]) -> (Frontier, usize) {
        let mut frontier = Frontier::default();
        let bad = seconds.iter().filter(|s| frontier.observe(Timestamp(**s * 1_000_000))).count();
        (frontier, bad)
    }

    #[test]
    fn one_bad_clock_does_not_move_the_frontier() {
        let latest = |seconds: &[i64]| frontier(seconds).0.latest().map(|t| t.0 / 1_000_000);
        assert_eq!(latest(&[7]), None, "a single event is not believed");
        assert_eq!(latest(&[7, 8]), Some(8));
        assert_eq!(latest(&[0, 1, 3600, 2]), Some(2));
        assert_eq!(frontier(&[0, 1, 3600, 2]).1, 1, "and the bad clock is counted");
        assert_eq!(latest(&[0, 1, 3600, 3605]), Some(3605), "two in a row are believed");
        assert_eq!(latest(&[0, 600, 1200, 1800]), Some(1200), "sparse events: all but the last");
        assert_eq!(latest(&[9_999_999, 5, 6]), Some(6), "also when the first is the bad one");
        assert_eq!(frontier(&[7]).0.at_end(), Some(Timestamp(7_000_000)));
    }

    #[test]
    fn topics_that_are_no_longer_read_hold_nothing_up() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut clock = SourceClock::default();
        clock.expect(&[(Arc::clone(&a), 1), (Arc::clone(&b), 1)]);
        clock.advance(&a, 0, Progress::Active(Timestamp(10)), wall(0));
        clock.advance(&b, 0, Progress::Active(Timestamp(5)), wall(0));
        assert_eq!(clock.watermark(), Some(Timestamp(5)));
        clock.expect(&[(Arc::clone(&a), 1)]);
        assert_eq!(clock.watermark(), Some(Timestamp(10)));
    }

    fn wall(seconds: i64) -> Timestamp {
        Timestamp(1_000_000_000_000_000 + seconds * 1_000_000)
    }

    #[test]
    fn at_its_end_a_partition_goes_on_at_the_pace_of_the_wall_clock() {
        let mut clock = PartitionClock::default();
        assert_eq!(clock.progress(0), None);
        clock.reached_end(wall(0));
        assert_eq!(clock.progress(0), Some((Progress::Empty, wall(0))));
        clock.observe(Timestamp(49), wall(10));
        clock.observe(Timestamp(50), wall(10));
        let active = |t| Some((Progress::Active(Timestamp(t)), wall(10)));
        assert_eq!(clock.progress(0), active(50), "it lags again");
        assert_eq!(clock.progress(20), active(30), "lateness is taken off");
        clock.reached_end(wall(9));
        assert_eq!(clock.progress(0), active(50), "an old statement about the end");
        clock.reached_end(wall(15));
        assert_eq!(clock.progress(0), Some((Progress::AtEnd(Timestamp(5_000_050)), wall(15))));
    }

    /// A clock over partitions 0..n of one topic, and a way to feed it.
    fn clock(partitions: i32) -> impl FnMut(i32, Progress, i64) -> Option<i64> {
        let topic: Arc<str> = "t".into();
        let mut clock = SourceClock::default();
        clock.expect(&[(Arc::clone(&topic), partitions)]);
        move |partition, said, at| {
            clock.advance(&topic, partition, said, wall(at));
            clock.watermark().map(|t| t.0)
        }
    }

    fn active(t: i64) -> Progress {
        Progress::Active(Timestamp(t))
    }

    fn at_end(t: i64) -> Progress {
        Progress::AtEnd(Timestamp(t))
    }

    #[test]
    fn the_slowest_partition_counts_and_it_never_goes_back() {
        let mut say = clock(3);
        assert_eq!(say(0, active(10), 0), None);
        assert_eq!(say(1, active(5), 0), None, "partition 2 has not reported");
        assert_eq!(say(2, active(7), 0), Some(5));
        assert_eq!(say(1, active(1), 1), Some(5));
        assert_eq!(say(1, active(20), 1), Some(7));
    }

    #[test]
    fn a_partition_at_its_end_allows_what_others_had_shown_by_then() {
        let mut say = clock(2);
        assert_eq!(say(0, Progress::Empty, 0), None);
        assert_eq!(say(1, active(100), 5), None, "partition 0 was seen empty before that");
        assert_eq!(say(0, Progress::Empty, 6), Some(100));
        assert_eq!(say(1, active(200), 7), Some(100));
        assert_eq!(say(0, active(150), 8), Some(150), "it had older records after all");
        assert_eq!(say(0, at_end(151), 9), Some(200));
        assert_eq!(say(1, at_end(203), 10), Some(200));
        assert_eq!(say(0, at_end(155), 11), Some(203), "all are at their ends");
    }

    #[test]
    fn a_dead_reader_holds_the_others_up() {
        let mut say = clock(2);
        say(0, active(10), 0);
        assert_eq!(say(1, at_end(20), 1), Some(10));
        assert_eq!(say(0, active(500), 60), Some(20), "nobody has looked at partition 1 since");
        assert_eq!(say(1, at_end(21), 61), Some(500));
    }
}

//! Counting distinct values of a group.
//!
//! N distinct values lie within a timespan exactly when the N-th latest of the times at which each was
//! last seen does. So a window keeps each value once, in the order last seen, and may drop the one that
//! was seen longest ago when it holds more than N: the answer stays exact. What is lost then is only how
//! many more there were; a sketch says that, and the alert says that it is an estimate.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::hll::SlidingHyperLogLog;
use super::{Change, Episode, Happening, Place, ValueHash};
use crate::decimal::Decimal;
use crate::limits::DISTINCT_EXACT_MAX;
use crate::time::Timestamp;

/// A value: when and where it was last seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Last {
    value: ValueHash,
    time: Timestamp,
    at: Place,
    /// How many sightings came before it, of this or any value.
    number: u32,
}

/// The distinct values of a group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DistinctWindow {
    /// In the order of time. While there are few, each value is here once; among many, an entry whose
    /// number is not that of `latest` is an earlier sighting.
    seen: VecDeque<Last>,
    /// Value → number of its latest sighting, kept from `MANY` values on.
    latest: Option<BTreeMap<ValueHash, u32>>,
    next: u32,
    /// Estimates how many there are, once more than are counted exactly.
    sketch: Option<Box<SlidingHyperLogLog>>,
    pub(super) episode: Option<Box<Episode>>,
}

/// From so many values on they are looked up by hash, no longer one by one.
const MANY: usize = 128;

/// An estimate is made anew once for so many events.
const ESTIMATE_EVENTS: u64 = 256;

impl DistinctWindow {
    pub(super) fn apply(&mut self, enough: u64, timespan: i64, what: &Happening) -> Change {
        let Some(value) = what.value else { return Change::default() };
        let most = (enough as usize).max(DISTINCT_EXACT_MAX);
        self.see(Last { value, time: what.time, at: what.at, number: self.next });
        self.next = self.next.wrapping_add(1);
        self.forget(what.time, timespan, most);
        if let Some(sketch) = &mut self.sketch {
            sketch.add(value, what.time, timespan);
        }
        let distinct = self.len() as u64;
        let holds = distinct >= enough;
        match &mut self.episode {
            Some(episode) => {
                let mut count = distinct;
                if let Some(sketch) = &self.sketch {
                    episode.approximate = true;
                    if episode.revision % ESTIMATE_EVENTS == 0 {
                        count = count.max(sketch.estimate());
                    }
                }
                episode.grow(what.at, what.time, count.into());
            }
            None if holds => self.episode = self.begin(what.time).map(Box::new),
            None => {}
        }
        Change { holds, episode: self.episode.is_some() }
    }

    /// How many distinct values are held.
    fn len(&self) -> usize {
        self.latest.as_ref().map_or(self.seen.len(), BTreeMap::len)
    }

    fn see(&mut self, last: Last) {
        match &mut self.latest {
            Some(latest) => {
                latest.insert(last.value, last.number);
            }
            None => {
                if let Some(place) = self.seen.iter().position(|l| l.value == last.value) {
                    self.seen.remove(place);
                }
                if self.seen.len() == MANY {
                    self.latest = Some(self.seen.iter().map(|l| (l.value, l.number)).collect());
                    return self.see(last);
                }
            }
        }
        self.seen.push_back(last);
    }

    /// Whether an entry is the latest sighting of its value.
    fn is_latest(&self, last: &Last) -> bool {
        self.latest.as_ref().is_none_or(|l| l.get(&last.value) == Some(&last.number))
    }

    fn forget(&mut self, now: Timestamp, timespan: i64, most: usize) {
        while let Some(first) = self.seen.front().copied() {
            let latest = self.is_latest(&first);
            let expired = now.since(first.time) > timespan;
            if latest && !expired {
                if self.len() <= most {
                    break;
                }
                self.start_sketch(timespan);
            }
            self.seen.pop_front();
            if let Some(map) = self.latest.as_mut().filter(|_| latest) {
                map.remove(&first.value);
            }
        }
        // Sightings that are not the latest must not pile up behind one that is.
        if self.seen.len() > 2 * self.len().max(MANY) {
            let seen = std::mem::take(&mut self.seen);
            self.seen = seen.into_iter().filter(|l| self.is_latest(l)).collect();
        }
    }

    fn start_sketch(&mut self, timespan: i64) {
        if self.sketch.is_none() {
            let mut sketch = SlidingHyperLogLog::default();
            self.seen.iter().for_each(|l| sketch.add(l.value, l.time, timespan));
            self.sketch = Some(Box::new(sketch));
        }
    }

    fn begin(&self, now: Timestamp) -> Option<Episode> {
        let latest = || self.seen.iter().filter(|l| self.is_latest(l));
        let evidence = latest().map(|l| l.at).collect();
        let start = latest().next()?.time;
        let mut episode = Episode::begin(start, now, Decimal::from(self.len() as u64), evidence);
        episode.approximate = self.sketch.is_some();
        Some(episode)
    }

    pub(super) fn latest_time(&self) -> Timestamp {
        self.seen.back().map_or(Timestamp::MIN, |l| l.time)
    }

    /// How many distinct values lie within the timespan that ends at `now`.
    pub(super) fn count(&self, now: Timestamp, timespan: i64) -> u64 {
        let within = |l: &&Last| now.since(l.time) <= timespan && self.is_latest(l);
        self.seen.iter().filter(within).count() as u64
    }

    pub(super) fn bytes(&self) -> usize {
        let map = self.latest.as_ref().map_or(0, BTreeMap::len);
        self.seen.capacity() * size_of::<Last>()
            // A node of the tree holds eleven entries and is two thirds full.
            + map * size_of::<(ValueHash, u32)>() * 3 / 2
            + self.sketch.as_ref().map_or(0, |s| s.bytes())
            + Episode::bytes(self.episode.as_deref())
    }
}

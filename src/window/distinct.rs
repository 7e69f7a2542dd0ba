//! Counting distinct values of a group.
//!
//! N distinct values lie within a timespan exactly when the N-th latest of the times at which each was
//! last seen does. So a window keeps each value once, in the order last seen, and may drop the one that
//! was seen longest ago when it holds more than N: the answer stays exact. What is lost then is only how
//! many more there were; a sketch says that, and the alert says that it is an estimate.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::hll::SlidingHyperLogLog;
use super::{Change, Episode, Happening, Place, ValueHash};
use crate::decimal::Decimal;
use crate::limits::DISTINCT_EXACT_MAX;
use crate::prefetch::prefetch;
use crate::time::Timestamp;

/// Values that need no memory of their own. More would make the cell of every group larger.
const FEW: usize = 1;

/// A full list of few values has room for so many more then.
const GROWTH: usize = 2;

/// So many are brought near.
const NEAR: usize = 8;

/// From so many values on they are looked up by hash, no longer one by one.
const MANY: usize = 128;

/// An estimate is made anew once for so many events.
const ESTIMATE_EVENTS: u64 = 256;

/// A value: when and where it was last seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Last {
    value: ValueHash,
    time: Timestamp,
    at: Place,
}

/// The distinct values of a group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DistinctWindow {
    /// Each value once, in the order last seen, until there are many.
    few: SmallVec<[Last; FEW]>,
    /// What most groups have none of.
    rest: Option<Box<Rest>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Rest {
    many: Option<Many>,
    /// Estimates how many there are, once more than are counted exactly.
    sketch: Option<Box<SlidingHyperLogLog>>,
    episode: Option<Episode>,
}

/// Many values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Many {
    /// In the order of time, each with its number. One whose number is not that of `latest` is an earlier
    /// sighting.
    seen: VecDeque<(u32, Last)>,
    /// Value → number of its latest sighting.
    latest: BTreeMap<ValueHash, u32>,
    next: u32,
}

impl DistinctWindow {
    pub(super) fn apply(&mut self, enough: u64, timespan: i64, what: &Happening) -> Change {
        let Some(value) = what.value else { return Change::default() };
        self.see(Last { value, time: what.time, at: what.at });
        self.forget(what.time, timespan, (enough as usize).max(DISTINCT_EXACT_MAX));
        let distinct = self.len() as u64;
        let holds = distinct >= enough;
        if self.rest.is_none() && !holds {
            return Change { holds, episode: false };
        }
        let first = if self.episode().is_none() && holds { self.begin(what.time) } else { None };
        let Rest { sketch, episode, .. } = &mut **self.rest.get_or_insert_default();
        if let Some(sketch) = sketch {
            sketch.add(value, what.time, timespan);
        }
        match episode {
            Some(episode) => {
                let mut count = distinct;
                if let Some(sketch) = sketch {
                    episode.approximate = true;
                    if episode.revision % ESTIMATE_EVENTS == 0 {
                        count = count.max(sketch.estimate());
                    }
                }
                episode.grow(what.at, what.time, count.into());
            }
            None => *episode = first,
        }
        Change { holds, episode: episode.is_some() }
    }

    pub(super) fn episode(&self) -> Option<&Episode> {
        self.rest.as_ref()?.episode.as_ref()
    }

    pub(super) fn episode_mut(&mut self) -> Option<&mut Episode> {
        self.rest.as_mut()?.episode.as_mut()
    }

    fn many(&self) -> Option<&Many> {
        self.rest.as_ref()?.many.as_ref()
    }

    /// How many distinct values are held.
    fn len(&self) -> usize {
        self.many().map_or(self.few.len(), Many::len)
    }

    /// Each value that is held, in the order last seen.
    fn values(&self) -> impl Iterator<Item = &Last> {
        self.few.iter().chain(self.many().into_iter().flat_map(Many::values))
    }

    fn see(&mut self, last: Last) {
        if let Some(many) = self.rest.as_mut().and_then(|rest| rest.many.as_mut()) {
            return many.see(last);
        }
        if let Some(place) = self.few.iter().position(|l| l.value == last.value) {
            self.few.remove(place);
        }
        if self.few.len() < MANY {
            if self.few.len() == self.few.capacity() {
                // By a little and not by half: there are millions of these.
                self.few.reserve_exact(GROWTH.max(self.few.len() / 4));
            }
            return self.few.push(last);
        }
        let many = self.rest.get_or_insert_default().many.get_or_insert_default();
        std::mem::take(&mut self.few).into_iter().chain([last]).for_each(|l| many.see(l));
    }

    fn forget(&mut self, now: Timestamp, timespan: i64, most: usize) {
        let expired = |last: &Last| now.since(last.time) > timespan;
        let Some(Rest { many: Some(many), sketch, .. }) = self.rest.as_deref_mut() else {
            let gone = self.few.iter().take_while(|last| expired(last)).count();
            if gone > 0 {
                self.few.drain(..gone);
            }
            return;
        };
        while let Some((number, first)) = many.seen.front().copied() {
            let is_latest = many.is_latest(number, &first);
            if is_latest && !expired(&first) {
                if many.len() <= most {
                    break;
                }
                sketch.get_or_insert_with(|| Box::new(many.sketch(timespan)));
            }
            many.seen.pop_front();
            if is_latest {
                many.latest.remove(&first.value);
            }
        }
        many.tidy();
    }

    fn begin(&self, now: Timestamp) -> Option<Episode> {
        let evidence = self.values().map(|last| last.at).collect();
        let start = self.values().next()?.time;
        let mut episode = Episode::begin(start, now, Decimal::from(self.len() as u64), evidence);
        episode.approximate = self.rest.as_ref().is_some_and(|rest| rest.sketch.is_some());
        Some(episode)
    }

    pub(super) fn latest_time(&self) -> Timestamp {
        let many = || self.many()?.seen.back().map(|(_, last)| last);
        self.few.last().or_else(many).map_or(Timestamp::MIN, |last| last.time)
    }

    /// Has what lies apart brought near.
    pub(super) fn prefetch(&self) {
        if self.few.spilled() {
            prefetch(&self.few[..self.few.len().min(NEAR)]);
        }
        self.rest.iter().for_each(|rest| prefetch(&**rest));
    }

    /// How many distinct values lie within the timespan that ends at `now`.
    pub(super) fn count(&self, now: Timestamp, timespan: i64) -> u64 {
        self.values().filter(|last| now.since(last.time) <= timespan).count() as u64
    }

    pub(super) fn bytes(&self) -> usize {
        let few = if self.few.spilled() { self.few.capacity() * size_of::<Last>() } else { 0 };
        few + self.rest.as_ref().map_or(0, |rest| rest.bytes())
    }
}

impl Rest {
    fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.many.as_ref().map_or(0, Many::bytes)
            + self.sketch.as_ref().map_or(0, |sketch| sketch.bytes())
            + self.episode.as_ref().map_or(0, |episode| episode.evidence.bytes())
    }
}

impl Many {
    fn len(&self) -> usize {
        self.latest.len()
    }

    fn see(&mut self, last: Last) {
        self.latest.insert(last.value, self.next);
        self.seen.push_back((self.next, last));
        self.next = self.next.wrapping_add(1);
    }

    fn is_latest(&self, number: u32, last: &Last) -> bool {
        self.latest.get(&last.value) == Some(&number)
    }

    fn values(&self) -> impl Iterator<Item = &Last> {
        let latest = |(number, last): &&(u32, Last)| self.is_latest(*number, last);
        self.seen.iter().filter(latest).map(|(_, last)| last)
    }

    /// Sightings that are not the latest must not pile up behind one that is.
    fn tidy(&mut self) {
        if self.seen.len() > 2 * self.len().max(MANY) {
            let Self { seen, latest, .. } = self;
            seen.retain(|(number, last)| latest.get(&last.value) == Some(number));
        }
    }

    fn sketch(&self, timespan: i64) -> SlidingHyperLogLog {
        let mut sketch = SlidingHyperLogLog::default();
        self.seen.iter().for_each(|(_, last)| sketch.add(last.value, last.time, timespan));
        sketch
    }

    fn bytes(&self) -> usize {
        // A node of the tree holds eleven entries and is two thirds full.
        self.seen.capacity() * size_of::<(u32, Last)>()
            + self.latest.len() * size_of::<(ValueHash, u32)>() * 3 / 2
    }
}

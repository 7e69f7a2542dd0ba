//! Counting distinct values of a group.
//!
//! N distinct values lie within a timespan exactly when the N-th latest of the times at which each was
//! last seen does. So a window keeps each value once, in the order last seen, and may drop the one that
//! was seen longest ago when it holds more than N: the answer stays exact. What is lost then is only how
//! many more there were; a sketch says that, and the alert says that it is an estimate.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::entries::{Entries, NARROW_TIME, WIDE_TIME};
use super::hash::VALUE_WORDS;
use super::hll::SlidingHyperLogLog;
use super::place::PLACE_WORDS;
use super::{Change, Episode, Happening, Place, ValueHash};
use crate::decimal::Decimal;
use crate::limits::DISTINCT_EXACT_MAX;
use crate::prefetch::prefetch;
use crate::time::Timestamp;

/// Words of what stands beside the time of a value: its place, and itself.
const REST: usize = PLACE_WORDS + VALUE_WORDS;

/// Words of a value and all that stands beside it. One needs no memory of its own: more would make the cell
/// of every group larger.
const WIDE: usize = WIDE_TIME + REST;

/// A full list of few values grows by so many at least.
const GROWTH: usize = 2;

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

impl Last {
    fn of(time: Timestamp, rest: &[u16]) -> Self {
        let (at, value) = rest.split_at(PLACE_WORDS.min(rest.len()));
        Self { value: ValueHash::of_words(value), time, at: Place::of_words(at) }
    }

    fn rest(&self) -> [u16; REST] {
        let mut rest = [0; REST];
        rest[..PLACE_WORDS].copy_from_slice(&self.at.words());
        rest[PLACE_WORDS..].copy_from_slice(&self.value.words());
        rest
    }
}

/// The distinct values of a group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DistinctWindow {
    /// Each value once, in the order last seen, until there are many.
    few: Entries<{ NARROW_TIME + REST }, WIDE, WIDE>,
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
        self.see(Last { value, time: what.time, at: what.at }, timespan);
        self.forget(what.time, timespan, (enough as usize).max(DISTINCT_EXACT_MAX));
        let distinct = self.len(timespan) as u64;
        let holds = distinct >= enough;
        if self.rest.is_none() && !holds {
            return Change { holds, episode: false };
        }
        let begins = self.episode().is_none() && holds;
        let first = if begins { self.begin(what.time, timespan) } else { None };
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
    fn len(&self, timespan: i64) -> usize {
        self.many().map_or_else(|| self.few.len(timespan), Many::len)
    }

    /// Each value that is held, in the order last seen.
    fn values(&self, timespan: i64) -> impl Iterator<Item = Last> {
        let few = self.few.iter(timespan).map(|(time, rest)| Last::of(time, rest));
        few.chain(self.many().into_iter().flat_map(Many::values).copied())
    }

    fn see(&mut self, last: Last, timespan: i64) {
        if let Some(many) = self.rest.as_mut().and_then(|rest| rest.many.as_mut()) {
            return many.see(last);
        }
        let value = last.value.words();
        if let Some(place) = self.few.position(&value, timespan) {
            self.few.remove(place, timespan);
        }
        let expired = self.few.expired(last.time, timespan);
        if expired > 0 {
            self.few.drop_first(expired, timespan);
        }
        if self.few.len(timespan) < MANY {
            self.few.make_room(last.time, GROWTH, timespan);
            return self.few.push(last.time, last.rest(), timespan);
        }
        let few = std::mem::take(&mut self.few);
        let few = few.iter(timespan).map(|(time, rest)| Last::of(time, rest));
        let many = self.rest.get_or_insert_default().many.get_or_insert_default();
        few.chain([last]).for_each(|last| many.see(last));
    }

    /// Lets go of what is too old or too much, where there are many.
    fn forget(&mut self, now: Timestamp, timespan: i64, most: usize) {
        let Some(Rest { many: Some(many), sketch, .. }) = self.rest.as_deref_mut() else { return };
        let expired = |last: &Last| now.since(last.time) > timespan;
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

    fn begin(&self, now: Timestamp, timespan: i64) -> Option<Episode> {
        let evidence = self.values(timespan).map(|last| last.at).collect();
        let start = self.values(timespan).next()?.time;
        let distinct = Decimal::from(self.len(timespan) as u64);
        let mut episode = Episode::begin(start, now, distinct, evidence);
        episode.approximate = self.rest.as_ref().is_some_and(|rest| rest.sketch.is_some());
        Some(episode)
    }

    pub(super) fn latest_time(&self, timespan: i64) -> Timestamp {
        let many = || self.many()?.seen.back().map(|(_, last)| last.time);
        self.few.nth_back(1, timespan).or_else(many).unwrap_or(Timestamp::MIN)
    }

    /// Has what lies apart brought near.
    pub(super) fn prefetch(&self) {
        self.few.prefetch();
        self.rest.iter().for_each(|rest| prefetch(&**rest));
    }

    /// How many distinct values lie within the timespan that ends at `now`.
    pub(super) fn count(&self, now: Timestamp, timespan: i64) -> u64 {
        self.values(timespan).filter(|last| now.since(last.time) <= timespan).count() as u64
    }

    pub(super) fn bytes(&self) -> usize {
        self.few.bytes() + self.rest.as_ref().map_or(0, |rest| rest.bytes())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Coordinate;
    use crate::window::Places;

    /// Beside a list of all: few and many values, times of four and of eight bytes, and a base that moves.
    #[test]
    fn each_value_is_there_once_as_it_was_last_seen() {
        let hour = 3_600_000_000;
        for (timespan, step) in [(60_000_000, 7_000_000), (hour, hour / 8), (30 * hour, 5 * hour)] {
            for values in [1, 4, 30, 300] {
                let (mut window, mut places) = (DistinctWindow::default(), Places::default());
                let (mut all, mut time): (Vec<Last>, _) = (Vec::new(), Timestamp(1 << 50));
                for n in 0..1500_u64 {
                    // Many at one time, then a step.
                    time = time.plus(if n % 40 == 0 { step } else { 0 });
                    let value = ValueHash::of([(n * n % values).to_string().as_bytes()]);
                    let at = Coordinate { topic: "t".into(), partition: 0, offset: n as i64 };
                    let last = Last { value, time, at: places.place(&at) };
                    let what =
                        Happening { value: Some(value), ..Happening::plain(time, last.at, 0) };
                    window.apply(u64::MAX, timespan, &what);
                    all.retain(|l| l.value != value && time.since(l.time) <= timespan);
                    all.push(last);
                    assert_eq!(window.values(timespan).collect::<Vec<_>>(), all);
                    assert_eq!(
                        (window.len(timespan), window.latest_time(timespan)),
                        (all.len(), time)
                    );
                }
            }
        }
    }
}

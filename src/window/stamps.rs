//! Times and places of a group's last events.

use serde::{Deserialize, Serialize};

use super::Place;
use super::entries::{Entries, NARROW_TIME, WIDE_TIME};
use super::place::PLACE_WORDS;
use crate::time::Timestamp;

/// Times and places in the order of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stamps(Entries<NARROW, { WIDE_TIME + PLACE_WORDS }, { FEW * NARROW }>);

const NARROW: usize = NARROW_TIME + PLACE_WORDS;

/// Entries that need no memory of their own: most groups have no more.
const FEW: usize = 5;

/// A full list drops entries from its front when they are this part of it, so that moving the rest up
/// costs no more than a few words for each event.
const SLACK: usize = 4;

/// A full list grows by so many entries at least.
const GROWTH: usize = 3;

/// So few entries are moved up whenever there is anything to drop.
const MOVED: usize = 16;

impl Stamps {
    /// How many there are.
    pub fn len(&self, timespan: i64) -> usize {
        self.0.len(timespan)
    }

    /// The entries from the oldest.
    pub fn iter(&self, timespan: i64) -> impl Iterator<Item = (Timestamp, Place)> {
        self.0.iter(timespan).map(|(time, place)| (time, Place::of_words(place)))
    }

    /// The time of the `n`-th entry from the end, the last being the first.
    pub fn nth_back(&self, n: usize, timespan: i64) -> Option<Timestamp> {
        self.0.nth_back(n, timespan)
    }

    /// The time of the last entry.
    pub fn last(&self, timespan: i64) -> Timestamp {
        self.nth_back(1, timespan).unwrap_or(Timestamp::MIN)
    }

    /// Adds an entry, no earlier than the last; of the entries before it, those beyond `keep` or
    /// beyond the timespan may go.
    pub fn push(&mut self, time: Timestamp, at: Place, keep: usize, timespan: i64) {
        if self.len(timespan) >= keep + keep / SLACK || !self.0.has_room(time, timespan) {
            self.make_room(time, keep, timespan);
        }
        self.0.push(time, at.words(), timespan);
    }

    /// Makes room for one entry more: by dropping what has expired where that is worth moving the rest,
    /// else by growing.
    fn make_room(&mut self, now: Timestamp, keep: usize, timespan: i64) {
        let (len, most) = (self.len(timespan), keep + keep / SLACK);
        let surplus = if len >= most { len + 1 - keep } else { 0 };
        let gone = self.0.expired(now, timespan).max(surplus).min(len);
        let far = self.0.is_far(now, timespan);
        if far || surplus > 0 || gone > len / SLACK || gone > 0 && len <= MOVED {
            self.0.drop_first(gone, timespan);
        }
        self.0.make_room(now, GROWTH, timespan);
    }

    /// Has what lies apart brought near.
    pub(super) fn prefetch(&self) {
        self.0.prefetch();
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        self.0.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Coordinate;
    use crate::window::Places;

    /// Pushes times with a step that varies, and compares with a list that forgets nothing.
    #[test]
    fn the_last_few_are_always_there() {
        let mut places = Places::default();
        let (hour, second) = (3_600_000_000, 1_000_000);
        for (timespan, step) in [
            (10 * second, 3 * second),
            (300 * second, 1),
            (hour, hour / 8),
            (i64::MAX / 8, 1 << 45),
        ] {
            for keep in [1, 2, 3, 10, 64] {
                let (mut stamps, mut all) = (Stamps::default(), Vec::new());
                let mut time = Timestamp(0);
                for i in 0..200 {
                    time = time.plus(step * (i % 5));
                    let at = Coordinate { topic: "t".into(), partition: 0, offset: i };
                    let place = places.place(&at);
                    stamps.push(time, place, keep, timespan);
                    all.push((time, place));
                    let near = |(t, _): &&(Timestamp, Place)| time.since(*t) <= timespan;
                    let expect: Vec<_> = all.iter().rev().take(keep).filter(near).collect();
                    let held: Vec<_> = stamps.iter(timespan).collect();
                    let tail: Vec<_> = held.iter().rev().take(expect.len()).collect();
                    assert_eq!(tail, expect, "timespan {timespan}, keep {keep}, push {i}");
                    assert!(held.len() <= keep + keep / SLACK + 1);
                    let nth = all.len().checked_sub(keep).map(|n| all[n].0);
                    let enough =
                        |t: Option<Timestamp>| t.is_some_and(|t| time.since(t) <= timespan);
                    assert_eq!(enough(stamps.nth_back(keep, timespan)), enough(nth));
                }
            }
        }
    }
}

//! Times and places of a group's last events, packed.
//!
//! Of a group that is one of millions, this is most of what is held. Where a timespan fits into 32 bits
//! of microseconds (71 minutes) a time takes four bytes, as what has passed since a base that moves
//! along, else eight; a place takes eight.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::Place;
use crate::time::Timestamp;

/// Times and places in the order of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stamps {
    /// Time (one word, or two when wide), then place (two). A few are in the group itself.
    words: SmallVec<[u32; FEW_WORDS]>,
    base: Timestamp,
    last: Timestamp,
}

/// Words that need no memory of their own: four entries, of which most groups have no more.
const FEW_WORDS: usize = 4 * NARROW;

/// Words of one entry when times do not fit into one.
const WIDE: usize = 4;
const NARROW: usize = 3;

/// A full list drops entries from its front when they are this part of it, so that moving the rest up
/// costs no more than a few words for each event.
const SLACK: usize = 4;

/// A full list grows by so many entries at least.
const GROWTH: usize = 2;

/// So few entries are moved up whenever there is anything to drop.
const FEW: usize = 16;

impl Stamps {
    fn stride(timespan: i64) -> usize {
        if timespan < i64::from(u32::MAX) { NARROW } else { WIDE }
    }

    /// How many there are.
    pub fn len(&self, timespan: i64) -> usize {
        self.words.len() / Self::stride(timespan)
    }

    fn time(&self, entry: &[u32]) -> Timestamp {
        let micros = match *entry {
            [narrow, _, _] => i64::from(narrow),
            [high, low, _, _] => (i64::from(high) << 32) | i64::from(low),
            _ => 0,
        };
        self.base.plus(micros)
    }

    /// The entries from the oldest.
    pub fn iter(&self, timespan: i64) -> impl Iterator<Item = (Timestamp, Place)> {
        let entries = self.words.chunks_exact(Self::stride(timespan));
        entries.map(|e| (self.time(e), Place::of_words([e[e.len() - 2], e[e.len() - 1]])))
    }

    /// The time of the last entry that was added.
    pub fn last(&self) -> Timestamp {
        self.last
    }

    /// The time of the `n`-th entry from the end, the last being the first.
    pub fn nth_back(&self, n: usize, timespan: i64) -> Option<Timestamp> {
        let stride = Self::stride(timespan);
        let start = self.words.len().checked_sub(n * stride)?;
        self.words.get(start..start + stride).map(|e| self.time(e))
    }

    /// Adds an entry, no earlier than the last; of the entries before it, those beyond `keep` or
    /// beyond the timespan may go.
    pub fn push(&mut self, time: Timestamp, at: Place, keep: usize, timespan: i64) {
        let stride = Self::stride(timespan);
        self.make_room(time, keep, timespan);
        if self.words.is_empty() {
            self.base = time;
        }
        self.last = time;
        let micros = time.since(self.base).cast_unsigned();
        if stride == WIDE {
            self.words.push((micros >> 32) as u32);
        }
        self.words.push(micros as u32);
        self.words.extend_from_slice(&at.words());
    }

    /// Makes room for one entry more: by dropping what has expired where that is worth moving the rest,
    /// else by growing, by a little and not by half, since there are millions of these.
    fn make_room(&mut self, now: Timestamp, keep: usize, timespan: i64) {
        let stride = Self::stride(timespan);
        let far = stride == NARROW && now.since(self.base) > i64::from(u32::MAX);
        let most = keep + keep / SLACK;
        let full = self.words.len() + stride > self.words.capacity();
        if !(far || full || self.words.len() >= most * stride) {
            return;
        }
        let len = self.len(timespan);
        let expired = |entry: &&[u32]| now.since(self.time(entry)) > timespan;
        let expired = self.words.chunks_exact(stride).take_while(expired).count();
        let surplus = if len >= most { len + 1 - keep } else { 0 };
        let gone = expired.max(surplus).min(len);
        if far || surplus > 0 || gone > len / SLACK || gone > 0 && len <= FEW {
            self.words.drain(..gone * stride);
            if self.words.spilled() && self.words.len() <= FEW_WORDS / 2 {
                self.words.shrink_to_fit();
            }
        }
        if far {
            self.rebase(timespan);
        }
        if self.words.len() + stride > self.words.capacity() {
            self.words.reserve_exact((len / SLACK).max(GROWTH) * stride);
        }
    }

    /// Counts times from the oldest that is left.
    fn rebase(&mut self, timespan: i64) {
        let stride = Self::stride(timespan);
        let Some(oldest) = self.words.get(..stride).map(|e| self.time(e)) else { return };
        let moved = oldest.since(self.base) as u32;
        self.words.chunks_exact_mut(stride).for_each(|e| e[0] -= moved);
        self.base = oldest;
    }

    /// The first and the last word.
    pub(super) fn touch(&self) -> u64 {
        let word = |word: Option<&u32>| u64::from(word.copied().unwrap_or_default());
        word(self.words.first()) ^ word(self.words.last())
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        if self.words.spilled() { self.words.capacity() * size_of::<u32>() } else { 0 }
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
        for (timespan, step) in [(10_000_000, 3_000_000), (300_000_000, 1), (i64::MAX / 8, 1 << 45)]
        {
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

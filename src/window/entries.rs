//! What a group remembers of its events, each with its time, packed.
//!
//! Of a group that is one of millions, this is most of what is held. Where a timespan fits into 32 bits
//! of microseconds (71 minutes) a time takes four bytes, as what has passed since a base that moves
//! along, else eight.

use serde::{Deserialize, Serialize};

use super::words::Words;
use crate::prefetch::prefetch;
use crate::time::Timestamp;

/// Words of a time where it is not wide, and where it is.
pub const NARROW_TIME: usize = 2;
pub const WIDE_TIME: usize = 4;

/// A full list grows by this part of it.
const GROWTH: usize = 4;

/// Up to so many words are brought near, one and all.
const NEAR_WORDS: usize = 128;

/// Entries in the order of time: each is its time and what is remembered, together `NARROW` words where the
/// timespan is short, `WIDE` where it is not; those that fit into `FEW` words need no memory of their own. All
/// calls must name the same timespan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entries<const NARROW: usize, const WIDE: usize, const FEW: usize> {
    words: Words<FEW>,
    base: Timestamp,
}

const fn is_narrow(timespan: i64) -> bool {
    timespan < u32::MAX as i64
}

/// The highest first.
fn words_of(micros: u64) -> [u16; WIDE_TIME] {
    [48, 32, 16, 0].map(|shift| (micros >> shift) as u16)
}

impl<const NARROW: usize, const WIDE: usize, const FEW: usize> Entries<NARROW, WIDE, FEW> {
    const REST: usize = NARROW - NARROW_TIME;

    fn stride(timespan: i64) -> usize {
        if is_narrow(timespan) { NARROW } else { WIDE }
    }

    /// How many there are.
    pub fn len(&self, timespan: i64) -> usize {
        let words = self.words.as_slice().len();
        // By kind: what the compiler knows it need not divide by.
        if is_narrow(timespan) { words / NARROW } else { words / WIDE }
    }

    fn time(&self, entry: &[u16]) -> Timestamp {
        let time = &entry[..entry.len() - Self::REST];
        self.base.plus(time.iter().fold(0, |micros, word| micros << 16 | i64::from(*word)))
    }

    /// The entries from the oldest: when, and what.
    pub fn iter(&self, timespan: i64) -> impl Iterator<Item = (Timestamp, &[u16])> {
        let entries = self.words.as_slice().chunks_exact(Self::stride(timespan));
        entries.map(|entry| (self.time(entry), &entry[entry.len() - Self::REST..]))
    }

    /// The time of the `n`-th entry from the end, the last being the first.
    pub fn nth_back(&self, n: usize, timespan: i64) -> Option<Timestamp> {
        let (words, stride) = (self.words.as_slice(), Self::stride(timespan));
        let start = words.len().checked_sub(n * stride)?;
        words.get(start..start + stride).map(|entry| self.time(entry))
    }

    /// Where the first stands that ends with these words.
    pub fn position<const N: usize>(&self, end: &[u16; N], timespan: i64) -> Option<usize> {
        let words = self.words.as_slice();
        // By kind, so that every step is of a length that the compiler knows.
        if is_narrow(timespan) {
            words.as_chunks::<NARROW>().0.iter().position(|e| e.last_chunk() == Some(end))
        } else {
            words.as_chunks::<WIDE>().0.iter().position(|e| e.last_chunk() == Some(end))
        }
    }

    /// How many at the front lie a timespan and more before `now`.
    pub fn expired(&self, now: Timestamp, timespan: i64) -> usize {
        self.iter(timespan).take_while(|(time, _)| now.since(*time) > timespan).count()
    }

    /// Whether an entry of `now` can be added as things are.
    #[inline]
    pub fn has_room(&self, now: Timestamp, timespan: i64) -> bool {
        self.words.as_slice().len() + Self::stride(timespan) <= self.words.capacity()
            && !self.is_far(now, timespan)
    }

    /// Whether a time is too far from the base.
    pub fn is_far(&self, now: Timestamp, timespan: i64) -> bool {
        is_narrow(timespan) && now.since(self.base) > i64::from(u32::MAX)
    }

    /// Sees to it that an entry of `now` has room, which comes after the others; these lie within the
    /// timespan, if times are far from each other. Grows by so many entries at least: by a little and not by
    /// half, since there are millions of these.
    pub fn make_room(&mut self, now: Timestamp, growth: usize, timespan: i64) {
        let stride = Self::stride(timespan);
        if self.is_far(now, timespan) {
            self.move_base(timespan);
        }
        if self.words.as_slice().len() + stride > self.words.capacity() {
            self.words.grow((self.len(timespan) / GROWTH).max(growth) * stride);
        }
    }

    /// Moves the base along to the oldest entry.
    fn move_base(&mut self, timespan: i64) {
        let Some((oldest, _)) = self.iter(timespan).next() else { return };
        let moved = oldest.since(self.base) as u32;
        for entry in self.words.as_mut_slice().chunks_exact_mut(NARROW) {
            let micros = u32::from(entry[0]) << 16 | u32::from(entry[1]);
            let micros = micros.saturating_sub(moved);
            (entry[0], entry[1]) = ((micros >> 16) as u16, micros as u16);
        }
        self.base = oldest;
    }

    /// Adds an entry, no earlier than the last; there is room for it.
    #[inline]
    pub fn push<const REST: usize>(&mut self, time: Timestamp, rest: [u16; REST], timespan: i64) {
        if self.words.as_slice().is_empty() {
            self.base = time;
        }
        let micros = words_of(time.since(self.base).cast_unsigned());
        if is_narrow(timespan) {
            let mut entry = [0; NARROW];
            entry[..NARROW_TIME].copy_from_slice(&micros[WIDE_TIME - NARROW_TIME..]);
            entry[NARROW_TIME..].copy_from_slice(&rest);
            self.words.append(entry);
        } else {
            let mut entry = [0; WIDE];
            entry[..WIDE_TIME].copy_from_slice(&micros);
            entry[WIDE_TIME..].copy_from_slice(&rest);
            self.words.append(entry);
        }
    }

    /// Takes out the entry at a place.
    pub fn remove(&mut self, place: usize, timespan: i64) {
        let stride = Self::stride(timespan);
        self.words.remove(place * stride..(place + 1) * stride, stride);
    }

    /// Takes out so many from the front.
    pub fn drop_first(&mut self, count: usize, timespan: i64) {
        let stride = Self::stride(timespan);
        self.words.remove(0..count * stride, stride);
    }

    /// Has what lies apart brought near: all of it if that is not much, else its ends.
    pub fn prefetch(&self) {
        let Words::Many(words) = &self.words else { return };
        if words.len() <= NEAR_WORDS {
            prefetch(words.as_slice());
        } else {
            words.first().into_iter().chain(words.last()).for_each(prefetch);
        }
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        self.words.bytes()
    }
}

//! Times and places of a group's last events, packed.
//!
//! Of a group that is one of millions, this is most of what is held. Where a timespan fits into 32 bits
//! of microseconds (71 minutes) a time takes four bytes, as what has passed since a base that moves
//! along, else eight; a place takes six.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Place;
use crate::prefetch::prefetch;
use crate::time::Timestamp;

/// Times and places in the order of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stamps {
    /// Of each entry the time (two words, or four when wide), then the place (three).
    words: Words,
    base: Timestamp,
}

/// Words that need no memory of their own: five entries, of which most groups have no more.
const FEW_WORDS: usize = 5 * NARROW;

/// Words of one entry when times do not fit into one.
const WIDE: usize = 7;
const NARROW: usize = 5;

/// A full list drops entries from its front when they are this part of it, so that moving the rest up
/// costs no more than a few words for each event.
const SLACK: usize = 4;

/// A full list grows by so many entries at least.
const GROWTH: usize = 3;

/// So few entries are moved up whenever there is anything to drop.
const FEW: usize = 16;

/// Words of a place.
const PLACE: usize = 3;

const fn is_narrow(timespan: i64) -> bool {
    timespan < u32::MAX as i64
}

/// The highest first.
fn words_of(micros: u64) -> [u16; 4] {
    [48, 32, 16, 0].map(|shift| (micros >> shift) as u16)
}

impl Stamps {
    fn stride(timespan: i64) -> usize {
        if is_narrow(timespan) { NARROW } else { WIDE }
    }

    /// How many there are.
    pub fn len(&self, timespan: i64) -> usize {
        self.words.as_slice().len() / Self::stride(timespan)
    }

    fn time(&self, entry: &[u16]) -> Timestamp {
        let (time, _) = entry.split_at(entry.len().saturating_sub(PLACE));
        self.base.plus(time.iter().fold(0, |micros, word| micros << 16 | i64::from(*word)))
    }

    /// The entries from the oldest.
    pub fn iter(&self, timespan: i64) -> impl Iterator<Item = (Timestamp, Place)> {
        let entries = self.words.as_slice().chunks_exact(Self::stride(timespan));
        let place =
            |entry: &[u16]| entry.last_chunk().map_or(Place::UNKNOWN, |p| Place::of_words(*p));
        entries.map(move |entry| (self.time(entry), place(entry)))
    }

    /// The time of the `n`-th entry from the end, the last being the first.
    pub fn nth_back(&self, n: usize, timespan: i64) -> Option<Timestamp> {
        let (words, stride) = (self.words.as_slice(), Self::stride(timespan));
        let start = words.len().checked_sub(n * stride)?;
        words.get(start..start + stride).map(|e| self.time(e))
    }

    /// The time of the last entry.
    pub fn last(&self, timespan: i64) -> Timestamp {
        self.nth_back(1, timespan).unwrap_or(Timestamp::MIN)
    }

    /// Adds an entry, no earlier than the last; of the entries before it, those beyond `keep` or
    /// beyond the timespan may go.
    pub fn push(&mut self, time: Timestamp, at: Place, keep: usize, timespan: i64) {
        let [p, q, r] = at.words();
        if is_narrow(timespan) {
            let [_, _, c, d] = words_of(self.room::<NARROW>(time, keep, timespan));
            self.words.append([c, d, p, q, r]);
        } else {
            let [a, b, c, d] = words_of(self.room::<WIDE>(time, keep, timespan));
            self.words.append([a, b, c, d, p, q, r]);
        }
    }

    /// Makes sure that there is room for one entry more; gives its time since the base.
    fn room<const N: usize>(&mut self, now: Timestamp, keep: usize, timespan: i64) -> u64 {
        let len = self.words.as_slice().len();
        if len == 0 {
            self.base = now;
        }
        let full = len + N > self.words.capacity() || len >= (keep + keep / SLACK) * N;
        if full || N == NARROW && now.since(self.base) > i64::from(u32::MAX) {
            self.make_room::<N>(now, keep, timespan);
        }
        now.since(self.base).cast_unsigned()
    }

    /// Makes room for one entry more: by dropping what has expired where that is worth moving the rest,
    /// else by growing, by a little and not by half, since there are millions of these.
    fn make_room<const N: usize>(&mut self, now: Timestamp, keep: usize, timespan: i64) {
        let far = N == NARROW && now.since(self.base) > i64::from(u32::MAX);
        let (entries, _) = self.words.as_slice().as_chunks::<N>();
        let (len, most) = (entries.len(), keep + keep / SLACK);
        let expired = |entry: &&[u16; N]| now.since(self.time(*entry)) > timespan;
        let expired = entries.iter().take_while(expired).count();
        let surplus = if len >= most { len + 1 - keep } else { 0 };
        let gone = expired.max(surplus).min(len);
        if far || surplus > 0 || gone > len / SLACK || gone > 0 && len <= FEW {
            self.words.drop_first(gone * N);
        }
        match self.words.as_slice().first_chunk::<N>() {
            None => self.base = now,
            Some(oldest) if far => {
                let oldest = self.time(oldest);
                let moved = oldest.since(self.base) as u32;
                for entry in self.words.as_mut_slice().chunks_exact_mut(N) {
                    let micros = (u32::from(entry[0]) << 16 | u32::from(entry[1])) - moved;
                    (entry[0], entry[1]) = ((micros >> 16) as u16, micros as u16);
                }
                self.base = oldest;
            }
            Some(_) => {}
        }
        if self.words.as_slice().len() + N > self.words.capacity() {
            self.words.grow((len / SLACK).max(GROWTH) * N);
        }
    }

    /// Has what lies apart brought near: where entries are dropped, and where one is added.
    pub(super) fn prefetch(&self) {
        if let Words::Many(words) = &self.words {
            words.first().into_iter().chain(words.last()).for_each(prefetch);
        }
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        match &self.words {
            Words::Few(..) => 0,
            Words::Many(words) => words.capacity() * size_of::<u16>(),
        }
    }
}

/// A list that needs no memory of its own as long as it is short.
#[derive(Clone, Debug)]
enum Words {
    /// So many of these.
    Few(u8, [u16; FEW_WORDS]),
    Many(Vec<u16>),
}

impl Words {
    fn as_slice(&self) -> &[u16] {
        match self {
            Self::Few(len, words) => &words[..usize::from(*len).min(FEW_WORDS)],
            Self::Many(words) => words,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [u16] {
        match self {
            Self::Few(len, words) => &mut words[..usize::from(*len).min(FEW_WORDS)],
            Self::Many(words) => words,
        }
    }

    fn capacity(&self) -> usize {
        match self {
            Self::Few(..) => FEW_WORDS,
            Self::Many(words) => words.capacity(),
        }
    }

    /// Adds words; there is room for them.
    fn append<const N: usize>(&mut self, more: [u16; N]) {
        match self {
            Self::Few(len, words) => {
                let from = usize::from(*len);
                if let Some(to) = words.get_mut(from..from + N) {
                    to.copy_from_slice(&more);
                    *len += N as u8;
                }
            }
            Self::Many(words) => words.extend_from_slice(&more),
        }
    }

    /// Drops so many from the front; what is left needs no more memory than it should.
    fn drop_first(&mut self, count: usize) {
        match self {
            Self::Few(len, words) => {
                words.copy_within(count.., 0);
                *len -= count as u8;
            }
            // Not when it would be full: it would soon have to grow again.
            Self::Many(words) if words.len() - count < FEW_WORDS => {
                *self = Self::of(&words[count..]);
            }
            Self::Many(words) => drop(words.drain(..count)),
        }
    }

    /// Has room for so many more.
    fn grow(&mut self, more: usize) {
        match self {
            Self::Few(..) => {
                let few = self.as_slice();
                let mut words = Vec::with_capacity(few.len() + more);
                words.extend_from_slice(few);
                *self = Self::Many(words);
            }
            Self::Many(words) => words.reserve_exact(more),
        }
    }

    fn of(words: &[u16]) -> Self {
        let mut few = [0; FEW_WORDS];
        match few.get_mut(..words.len()) {
            Some(to) => {
                to.copy_from_slice(words);
                Self::Few(words.len() as u8, few)
            }
            None => Self::Many(words.to_vec()),
        }
    }
}

impl Default for Words {
    fn default() -> Self {
        Self::Few(0, [0; FEW_WORDS])
    }
}

impl PartialEq for Words {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Serialize for Words {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.as_slice().serialize(to)
    }
}

impl<'d> Deserialize<'d> for Words {
    fn deserialize<D: Deserializer<'d>>(from: D) -> Result<Self, D::Error> {
        Vec::deserialize(from).map(|words| Self::of(&words))
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

//! Which of many literals a text contains, found by short windows of them.
//!
//! Each literal is known by a few bytes of it, a gram. A text is probed at every fourth, second or
//! single byte, as its literals' lengths allow: a probe is one multiplication and one word. Where its
//! bits are set, the gram is looked up and the whole literal compared. Nothing is missed: whatever place of
//! the text a literal stands at, one of its grams stands at a place that is probed.

use super::few::Few;
use super::rates::guess;
use super::vector::{VECTOR_PAD, VectorPath};

/// Bytes that must be readable behind the end of a text.
pub const GRAM_PAD: usize = VECTOR_PAD;

/// Bytes that one round of probes reads at most.
const ROUND_BYTES: usize = 56;

/// Probes of one round; the last of them reads eight bytes.
const ROUND: usize = 8;

/// Odd, with bits all over: spreads grams by multiplication.
pub const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// Bits of the bitmap for each gram, where there is room.
const BITS_PER_GRAM: usize = 16;

/// Short literals are told apart by the bits of one word.
const SHORT_GROUP: usize = 64;

/// Up to so many long literals are probed for with the shorter ones, if there are any, as one pass with
/// more probes is cheaper than two; else at fewer places.
const LONG_FEW: usize = 256;

/// Literals to search for, each with the number by which it is reported.
#[derive(Clone, Debug, Default)]
pub struct Grams {
    few: Few,
    tiers: Vec<Tier>,
    short: Vec<Short>,
}

/// Literals that are too short to be probed for.
#[derive(Clone, Debug)]
struct Short {
    /// For each byte, which literals it stands for.
    of_byte: Box<[u64; 256]>,
    literals: Vec<(Box<[u8]>, u32)>,
}

/// Literals that are probed for in one way.
#[derive(Clone, Debug)]
struct Tier {
    way: Way,
    bits: Bits,
    /// Open addressing by gram; a slot without entries is free.
    slots: Box<[Slot]>,
    entries: Box<[Entry]>,
    bytes: Box<[u8]>,
}

/// Which grams there may be: two bits for each value of a hash. In three sizes, so that no bound has to be
/// checked.
#[derive(Clone, Debug)]
enum Bits {
    Small(Box<[u64; 128]>),
    Middle(Box<[u64; 1024]>),
    Large(Box<[u64; 4096]>),
}

impl Bits {
    fn new(grams: &[u64], width: usize) -> Self {
        let size = grams.len() * BITS_PER_GRAM / 64;
        match size {
            0..=128 => Self::Small(fill(grams, width)),
            129..=1024 => Self::Middle(fill(grams, width)),
            _ => Self::Large(fill(grams, width)),
        }
    }
}

fn fill<const WORDS: usize>(grams: &[u64], width: usize) -> Box<[u64; WORDS]> {
    let mut bits = Box::new([0; WORDS]);
    for gram in grams {
        let hash = hash(*gram, width);
        bits[word_of::<WORDS>(hash)] |= 1 << first_bit(hash) | 1 << second_bit(hash);
    }
    bits
}

/// The hash of the first `width` bytes of a word. The shift of the factor loses the others.
#[inline(always)]
fn hash(word: u64, width: usize) -> u64 {
    word.wrapping_mul(SPREAD << (64 - 8 * width))
}

#[inline(always)]
fn word_of<const WORDS: usize>(hash: u64) -> usize {
    (hash >> (64 - WORDS.trailing_zeros())) as usize
}

/// A gram is known by two bits of its word, so that few others are taken for it.
#[inline(always)]
fn first_bit(hash: u64) -> u32 {
    (hash >> 45) as u32 % 64
}

#[inline(always)]
fn second_bit(hash: u64) -> u32 {
    (hash >> 39) as u32 % 64
}

/// The last bit says whether the gram with this hash may be one.
#[inline(always)]
fn may_be<const WORDS: usize>(bits: &[u64; WORDS], hash: u64) -> u64 {
    let word = bits[word_of::<WORDS>(hash)];
    word >> first_bit(hash) & word >> second_bit(hash)
}

/// Width of grams, and how many bytes lie between two probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Six,
    Four,
    /// For literals of four bytes.
    Pair,
    Three,
    /// For few long literals: grams that are less rare, at fewer places.
    Wide,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    gram: u64,
    first: u32,
    count: u32,
}

/// A literal at one of its grams.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// Where in the literal the gram stands.
    offset: u32,
    start: u32,
    length: u32,
    number: u32,
}

impl Way {
    /// For a literal of that length, at least three bytes.
    fn of(length: usize) -> Self {
        match length {
            9.. => Self::Six,
            5.. => Self::Four,
            4 => Self::Pair,
            _ => Self::Three,
        }
    }

    fn width(self) -> usize {
        match self {
            Self::Six => 6,
            Self::Four | Self::Wide => 4,
            Self::Three | Self::Pair => 3,
        }
    }

    fn stride(self) -> usize {
        match self {
            Self::Six => 4,
            Self::Wide => 6,
            Self::Four | Self::Pair => 2,
            Self::Three => 1,
        }
    }

    /// Bytes of a literal that its grams cover.
    fn window(self) -> usize {
        self.width() + self.stride() - 1
    }
}

/// Where a literal is best looked for; its beginning will always do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spots {
    /// Where the window begins whose grams are rare one and all.
    pub window: usize,
    /// Where the rarest gram begins.
    pub gram: usize,
}

/// The best spots of a literal and the rate of its window, given the rate of grams of four bytes (three in
/// literals shorter than five, the whole in those shorter than three).
pub fn rarest_spots(literal: &[u8], rate: &impl Fn(Gram) -> f64) -> (Spots, f64) {
    if literal.len() < 3 {
        return (Spots::default(), rate(Gram::of(literal)));
    }
    let way = Way::of(literal.len());
    let part = way.width().min(4);
    // A gram is as rare as the rarest part of it, a window as common as its most common gram.
    let mut rates = [1.0; WINDOW_PLACES];
    let count = match part {
        4 => each_rate(literal.array_windows::<4>(), rate, &mut rates),
        _ => each_rate(literal.array_windows::<3>(), rate, &mut rates),
    };
    let smaller = |a: f64, b: f64| if a < b { a } else { b };
    let mut gram = (0, 1.0);
    for (at, rate) in rates[..count].iter().enumerate() {
        if *rate < gram.1 {
            gram = (at, *rate);
        }
    }
    let parts = way.width() - part;
    for at in 0..count - parts {
        rates[at] = rates[at + 1..=at + parts].iter().fold(rates[at], |a, b| smaller(a, *b));
    }
    let mut best = (0, 1.0);
    for (at, grams) in rates[..count - parts].windows(way.stride()).enumerate() {
        let window = grams.iter().fold(0.0, |a, b| if a > *b { a } else { *b });
        if window < best.1 {
            best = (at, window);
        }
    }
    (Spots { window: best.0, gram: gram.0 }, best.1)
}

/// Puts down the rates of the first grams; says how many that were.
fn each_rate<'l, const N: usize>(
    grams: impl Iterator<Item = &'l [u8; N]>,
    rate: &impl Fn(Gram) -> f64,
    rates: &mut [f64; WINDOW_PLACES],
) -> usize {
    grams.zip(rates).map(|(gram, place)| *place = rate(Gram::of(gram))).count()
}

/// A few bytes.
#[derive(Clone, Copy, Debug)]
pub struct Gram {
    /// The first four of them, the first in the lowest; those that there are not are zero.
    pub key: u32,
    /// How many there are, up to four.
    pub length: usize,
}

impl Gram {
    /// Of the first four of these bytes.
    #[inline]
    pub fn of(bytes: &[u8]) -> Self {
        let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
        let key = u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)]);
        Self { key, length: bytes.len().min(4) }
    }

    /// The bytes.
    pub fn bytes(self) -> impl Iterator<Item = u8> {
        self.key.to_le_bytes().into_iter().take(self.length)
    }
}

/// So many places of a literal are looked at for its rarest window.
const WINDOW_PLACES: usize = 48;

/// A literal, where it is best looked for, and its number.
pub type Draft<'l> = (&'l [u8], Spots, u32);

impl Grams {
    /// For literals; an empty one is in every text, and has no place here.
    pub fn new<'l>(literals: impl Iterator<Item = Draft<'l>>) -> Self {
        Self::with_path(literals, VectorPath::available().first().copied())
    }

    /// Does the same with given vector instructions, or with none.
    pub fn with_path<'l>(
        literals: impl Iterator<Item = Draft<'l>>,
        path: Option<VectorPath>,
    ) -> Self {
        let mut drafts = [const { Vec::new() }; 6];
        for draft in literals {
            let class = match draft.0.len() {
                0..=2 => 6 - draft.0.len().max(1),
                length => Way::of(length) as usize,
            };
            drafts[class].push(draft);
        }
        let few = Few::take(&mut drafts, path);
        let [six, four, pair, three, two, one] = &mut drafts;
        let mut long = Way::Six;
        if six.len() <= LONG_FEW {
            long = Way::Wide;
            if !four.is_empty() {
                four.append(six);
            }
        }
        if !pair.is_empty() && four.len() <= LONG_FEW {
            let narrowed = |(literal, spots, number)| (literal, narrowed(literal, spots), number);
            pair.extend(four.drain(..).map(narrowed));
        }
        let tiers = [(long, six), (Way::Four, four), (Way::Pair, pair), (Way::Three, three)];
        let tiers = tiers.into_iter().filter(|(_, literals)| !literals.is_empty());
        let tiers = tiers.map(|(way, literals)| Tier::new(way, literals)).collect();
        two.append(one);
        Self { few, tiers, short: two.chunks(SHORT_GROUP).map(Short::new).collect() }
    }

    /// Whether it takes more than two passes in vector instructions.
    pub fn is_costly(&self) -> bool {
        !self.tiers.is_empty() || !self.short.is_empty() || self.few.passes() > 2
    }

    /// Calls `found` with the number and place of each literal in `buffer[start..end]`, until
    /// it answers true; whether it did. [`GRAM_PAD`] bytes behind `end` must be there.
    #[inline]
    pub fn search(
        &self,
        buffer: &[u8],
        start: usize,
        end: usize,
        found: &mut impl FnMut(u32, usize) -> bool,
    ) -> bool {
        self.few.search(buffer, (start, end), found)
            || self.tiers.iter().any(|tier| match tier.way {
                Way::Six => tier.search::<6, 4>(buffer, start, end, found),
                Way::Four => tier.search::<4, 2>(buffer, start, end, found),
                Way::Pair => tier.search::<3, 2>(buffer, start, end, found),
                Way::Three => tier.search::<3, 1>(buffer, start, end, found),
                Way::Wide => tier.search::<4, 6>(buffer, start, end, found),
            })
            || self.short.iter().any(|short| short.search(&buffer[..end], start, found))
    }
}

/// Where in the window of a literal that of a pair of grams is best taken.
fn narrowed(literal: &[u8], spots: Spots) -> Spots {
    let (from, length) = (spots.window, Way::Pair.window());
    let common = |at: &usize| {
        let grams = literal[*at..at + length].windows(Way::Pair.width());
        grams.map(|gram| guess(Gram::of(gram))).fold(0.0, f64::max)
    };
    let all = Way::of(literal.len()).window();
    let places = (from..=from + all - length).map(|at| (at, common(&at)));
    let best = places.min_by(|a, b| a.1.total_cmp(&b.1));
    Spots { window: best.map_or(from, |(at, _)| at), ..spots }
}

impl Short {
    fn new(literals: &[Draft<'_>]) -> Self {
        let mut of_byte = Box::new([0; 256]);
        for (bit, (literal, ..)) in literals.iter().enumerate() {
            // The less usual one of its bytes tells more.
            let usual = |byte: &u8| byte.is_ascii_alphanumeric() || b"\\ .:/-".contains(byte);
            let told_by = literal.iter().find(|byte| !usual(byte)).or(literal.last());
            told_by.into_iter().for_each(|byte| of_byte[usize::from(*byte)] |= 1 << bit);
        }
        let literals = literals.iter().map(|(literal, _, number)| ((*literal).into(), *number));
        Self { of_byte, literals: literals.collect() }
    }

    fn search(
        &self,
        buffer: &[u8],
        start: usize,
        found: &mut impl FnMut(u32, usize) -> bool,
    ) -> bool {
        let text = &buffer[start..];
        let mut may_be = text.iter().fold(0, |bits, byte| bits | self.of_byte[usize::from(*byte)]);
        while may_be != 0 {
            let (literal, number) = &self.literals[may_be.trailing_zeros() as usize];
            for at in memchr::memmem::find_iter(text, literal) {
                if found(*number, start + at) {
                    return true;
                }
            }
            may_be &= may_be - 1;
        }
        false
    }
}

impl Tier {
    fn new(way: Way, literals: &[Draft<'_>]) -> Self {
        let mut bytes = Vec::new();
        let mut placed: Vec<(u64, Entry)> = Vec::with_capacity(literals.len() * way.stride());
        for (literal, spots, number) in literals {
            let start = bytes.len() as u32;
            bytes.extend_from_slice(literal);
            let window = spots.window.min(literal.len() - way.window());
            for offset in window..window + way.stride() {
                let mut word = [0; 8];
                word[..way.width()].copy_from_slice(&literal[offset..offset + way.width()]);
                let (length, number) = (literal.len() as u32, *number);
                let entry = Entry { offset: offset as u32, start, length, number };
                placed.push((u64::from_le_bytes(word), entry));
            }
        }
        // Counted, then put in their places from behind: each gram's in the order of their literals.
        let mut slots = vec![Slot::default(); (placed.len() * 2).next_power_of_two()];
        for (gram, _) in &placed {
            let at = slot_of(&slots, *gram);
            (slots[at].gram, slots[at].count) = (*gram, slots[at].count + 1);
        }
        let mut end = 0;
        for slot in &mut slots {
            end += slot.count;
            slot.first = end;
        }
        let mut entries = vec![Entry::default(); placed.len()];
        for (gram, entry) in placed.iter().rev() {
            let at = slot_of(&slots, *gram);
            slots[at].first -= 1;
            entries[slots[at].first as usize] = *entry;
        }
        let grams: Vec<u64> = slots.iter().filter(|s| s.count > 0).map(|s| s.gram).collect();
        let bits = Bits::new(&grams, way.width());
        let (slots, entries, bytes) = (slots.into(), entries.into(), bytes.into());
        Self { way, bits, slots, entries, bytes }
    }

    fn search<const WIDTH: usize, const STRIDE: usize>(
        &self,
        buffer: &[u8],
        start: usize,
        end: usize,
        found: &mut impl FnMut(u32, usize) -> bool,
    ) -> bool {
        match &self.bits {
            Bits::Small(b) => self.probe::<WIDTH, STRIDE, 128>(b, buffer, start, end, found),
            Bits::Middle(b) => self.probe::<WIDTH, STRIDE, 1024>(b, buffer, start, end, found),
            Bits::Large(b) => self.probe::<WIDTH, STRIDE, 4096>(b, buffer, start, end, found),
        }
    }

    fn probe<const WIDTH: usize, const STRIDE: usize, const WORDS: usize>(
        &self,
        bits: &[u64; WORDS],
        buffer: &[u8],
        start: usize,
        end: usize,
        found: &mut impl FnMut(u32, usize) -> bool,
    ) -> bool {
        if end < start + WIDTH {
            return false;
        }
        let mut at = start;
        while at + WIDTH <= end {
            let Some(window) = buffer[at..].first_chunk::<ROUND_BYTES>() else { break };
            let mut any = 0;
            for probe in 0..ROUND {
                let mut word = [0; 8];
                word.copy_from_slice(&window[probe * STRIDE..probe * STRIDE + 8]);
                let hash = hash(u64::from_le_bytes(word), WIDTH);
                any |= may_be(bits, hash);
            }
            if any & 1 != 0
                && self.confirm::<WIDTH, STRIDE, WORDS>(bits, buffer, (start, end), at, found)
            {
                return true;
            }
            at += ROUND * STRIDE;
        }
        false
    }

    /// Looks closer at a round of probes of which some hit.
    #[inline(never)]
    fn confirm<const WIDTH: usize, const STRIDE: usize, const WORDS: usize>(
        &self,
        bits: &[u64; WORDS],
        buffer: &[u8],
        (start, end): (usize, usize),
        at: usize,
        found: &mut impl FnMut(u32, usize) -> bool,
    ) -> bool {
        for at in (at..at + ROUND * STRIDE).step_by(STRIDE).filter(|at| at + WIDTH <= end) {
            let mut word = [0; 8];
            word[..WIDTH].copy_from_slice(&buffer[at..at + WIDTH]);
            let gram = u64::from_le_bytes(word);
            let hash = hash(gram, WIDTH);
            if may_be(bits, hash) & 1 == 0 {
                continue;
            }
            for entry in self.entries(gram) {
                let Some(from) = at.checked_sub(entry.offset as usize) else { continue };
                let to = from + entry.length as usize;
                let literal = &self.bytes[entry.start as usize..][..entry.length as usize];
                if from >= start
                    && to <= end
                    && buffer[from..to] == *literal
                    && found(entry.number, from)
                {
                    return true;
                }
            }
        }
        false
    }

    fn entries(&self, gram: u64) -> &[Entry] {
        let slot = self.slots[slot_of(&self.slots, gram)];
        if slot.count == 0 {
            return &[];
        }
        &self.entries[slot.first as usize..(slot.first + slot.count) as usize]
    }
}

/// The slot of a gram, or the one that is free for it; there are more slots than grams.
fn slot_of(slots: &[Slot], gram: u64) -> usize {
    let mask = slots.len() - 1;
    let mut at = (gram.wrapping_mul(SPREAD) >> 20) as usize & mask;
    while slots[at].count != 0 && slots[at].gram != gram {
        at = (at + 1) & mask;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(literals: &[String], text: &str, path: Option<VectorPath>) -> Vec<u32> {
        let anywhere = |n: u32| Spots { window: 0, gram: n as usize % 9 };
        let named = literals.iter().zip(0..).map(|(l, n)| (l.as_bytes(), anywhere(n), n));
        let grams = Grams::with_path(named, path);
        let mut buffer = b"ab".to_vec();
        buffer.extend_from_slice(text.as_bytes());
        let end = buffer.len();
        buffer.extend_from_slice(&[b'a'; GRAM_PAD]);
        let mut numbers = Vec::new();
        grams.search(&buffer, 2, end, &mut |n, at| {
            assert!(buffer[at..end].starts_with(literals[n as usize].as_bytes()));
            numbers.push(n);
            false
        });
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    proptest::proptest! {
        #[test]
        fn every_literal_that_is_there_is_found_and_no_other(
            // Few, or so many that several passes are made.
            literals in proptest::prop_oneof![
                proptest::collection::vec("[ab]{1,14}", 1..20),
                proptest::collection::vec("[abc]{4,9}", 60..300),
            ],
            text in "[abc]{0,80}|[abc]{110,150}|[ab]{1020,1100}",
        ) {
            let expect: Vec<u32> = literals
                .iter()
                .zip(0..)
                .filter(|(literal, _)| text.contains(literal.as_str()))
                .map(|(_, number)| number)
                .collect();
            let paths = VectorPath::available().into_iter().map(Some).chain([None]);
            for path in paths {
                proptest::prop_assert_eq!(found(&literals, &text, path), &*expect, "{:?}", path);
            }
        }
    }

    #[test]
    fn the_best_spots_avoid_what_is_common() {
        let rate = |gram: Gram| if gram.bytes().all(|b| b == b'a') { 0.9 } else { 0.1 };
        let spots = Spots { window: 6, gram: 8 };
        assert_eq!(rarest_spots(b"aaaaaaaaaaabcdefghi", &rate), (spots, 0.1));
    }
}

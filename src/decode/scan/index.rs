//! The first pass over a record: where its quotes and brackets stand, what is escaped, and which
//! blocks of 64 bytes are unusual. Bytes outside of strings are not judged here, but by `walk`.

use crate::event::{VIEW_PAD, View};

/// Bytes that are looked at together.
pub(super) const BLOCK: usize = 64;

/// Every second bit, from the second on.
const ODD: u64 = 0xAAAA_AAAA_AAAA_AAAA;

/// What stands in a block: one bit for each byte, the first byte lowest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    /// `"`.
    pub quotes: u64,
    /// `\`.
    pub backslashes: u64,
    /// `{`, `}`, `[`, `]`.
    pub brackets: u64,
    /// Below 0x20.
    pub controls: u64,
    /// The space.
    pub spaces: u64,
    /// Not ASCII.
    pub high: u64,
}

/// What the first pass knows of a record.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    /// Positions of the quotes that begin and end strings, and of the brackets outside of strings.
    pub places: Vec<u32>,
    /// How many places there are; behind them is what earlier records left.
    pub count: usize,
    /// A bit for each byte: whether it may not be in a key, being a space or a backslash. There are
    /// 64 zero bits behind the last block.
    pub marks: Vec<u8>,
    /// What is rare in each block: bytes that are not ASCII, and escaped ones but `\` and `"`.
    rare: Vec<[u64; 2]>,
    /// Whether some bytes are not ASCII.
    high: bool,
}

impl Index {
    /// Makes room for a record of that length, here and in the view.
    pub fn begin(&mut self, length: usize, view: &mut View) {
        let blocks = length / BLOCK + 1;
        grow(&mut self.places, (blocks + 1) * BLOCK);
        grow(&mut self.marks, (blocks + 1) * 8);
        grow(&mut self.rare, blocks);
        grow(&mut view.low, VIEW_PAD + length + VIEW_PAD);
        grow(&mut view.unusual, blocks / 64 + 1);
        view.low[..VIEW_PAD].fill(0);
    }

    /// Whether the bytes that are not ASCII are UTF-8. All of them are in unusual blocks, and what is
    /// around those is ASCII.
    pub fn is_utf8(&self, record: &[u8], view: &View) -> bool {
        if !self.high {
            return true;
        }
        let blocks = record.len().div_ceil(BLOCK);
        let unusual = |block: &usize| view.unusual[block / 64] >> (block % 64) & 1 == 1;
        let first = (0..blocks).find(unusual).unwrap_or(0);
        let last = (first..blocks).rfind(unusual).unwrap_or(first);
        let end = ((last + 1) * BLOCK).min(record.len());
        std::str::from_utf8(&record[first * BLOCK..end]).is_ok()
    }
}

/// Makes a buffer at least that long; what earlier records left stays in it.
fn grow<T: Default + Clone>(buffer: &mut Vec<T>, length: usize) {
    if buffer.len() < length {
        buffer.resize(length, T::default());
    }
}

/// What the blocks so far have left to the next.
#[derive(Default)]
struct Pass {
    /// 1 if the next byte is escaped.
    escaped: u64,
    /// All ones if the next byte is in a string.
    inside: u64,
    /// Control characters in strings, or a bad escape.
    refused: u64,
    /// What is rare in some block.
    rare: [u64; 2],
    /// How many places were found.
    count: usize,
}

/// Reads a record by blocks; false if it has a bad escape, a control character in a string or a string
/// without end. `look` classifies a block and writes its lowered copy, `parity` gives for each bit
/// whether an odd number of bits is set up to it, `put` writes the positions of the bits, counted from
/// a base.
#[inline(always)]
pub(super) fn read(
    record: &[u8],
    index: &mut Index,
    view: &mut View,
    look: impl Fn(&[u8; BLOCK], &mut [u8; BLOCK]) -> Block,
    parity: impl Fn(u64) -> u64,
    put: impl Fn(u64, u32, &mut [u32; BLOCK]),
) -> bool {
    let Index { places, count, marks, rare, high } = index;
    let low = &mut view.low[VIEW_PAD..];
    let (blocks, tail) = record.as_chunks::<BLOCK>();
    let full = blocks.len();
    let (marks, _) = marks.as_chunks_mut::<8>();
    let mut pass = Pass::default();
    let lows = low.as_chunks_mut::<BLOCK>().0.iter_mut();
    let notes = marks.iter_mut().zip(rare.iter_mut());
    for (number, ((bytes, low), (mark, rare))) in blocks.iter().zip(lows).zip(notes).enumerate() {
        let block = look(bytes, low);
        *mark = (block.spaces | block.backslashes).to_le_bytes();
        *rare = pass.take(block, number * BLOCK, places, &parity, &put);
    }
    let block = last(record, low, tail.len(), &look);
    marks[full] = (block.spaces | block.backslashes).to_le_bytes();
    marks[full + 1] = [0; 8];
    rare[full] = pass.take(block, full * BLOCK, places, &parity, &put);
    low[record.len()..][..VIEW_PAD].fill(0);
    *count = pass.count;
    *high = pass.rare[0] != 0;
    view.unusual[..full / 64 + 1].fill(0);
    let ordinary = pass.rare == [0; 2];
    pass.refused | pass.inside == 0
        && (ordinary || note_unusual(record, &rare[..=full], &mut view.unusual).is_some())
}

/// What stands in the last bytes, which are fewer than a block: looked at together with those before
/// them, which saves a copy, or with zeros behind a short record.
#[inline(always)]
fn last(
    record: &[u8],
    low: &mut [u8],
    length: usize,
    look: &impl Fn(&[u8; BLOCK], &mut [u8; BLOCK]) -> Block,
) -> Block {
    let from = record.len().saturating_sub(BLOCK);
    let (block, before) = match (record[from..].first_chunk(), low[from..].first_chunk_mut()) {
        (Some(bytes), Some(low)) => (look(bytes, low), BLOCK - length),
        (_, low) => {
            let mut padded = [0; BLOCK];
            padded[..length].copy_from_slice(record);
            (low.map(|low| look(&padded, low)).unwrap_or_default(), 0)
        }
    };
    let cut = |bits: u64| if before < BLOCK { bits >> before } else { 0 };
    Block {
        quotes: cut(block.quotes),
        backslashes: cut(block.backslashes),
        brackets: cut(block.brackets),
        controls: cut(block.controls),
        spaces: cut(block.spaces),
        high: cut(block.high),
    }
}

impl Pass {
    /// Takes the next block, which begins at `base`; says what is rare in it.
    #[inline(always)]
    fn take(
        &mut self,
        block: Block,
        base: usize,
        places: &mut [u32],
        parity: &impl Fn(u64) -> u64,
        put: &impl Fn(u64, u32, &mut [u32; BLOCK]),
    ) -> [u64; 2] {
        let escaped = match block.backslashes | self.escaped {
            0 => 0,
            _ => escaped(block.backslashes, &mut self.escaped),
        };
        let rare = [block.high, escaped & !block.backslashes & !block.quotes];
        self.rare = [self.rare[0] | rare[0], self.rare[1] | rare[1]];
        let quotes = block.quotes & !escaped;
        let inside = parity(quotes) ^ self.inside;
        self.inside = (inside as i64 >> 63) as u64;
        self.refused |= block.controls & inside;
        let found = quotes | (block.brackets & !inside);
        match places.get_mut(self.count..).and_then(|room| room.first_chunk_mut()) {
            Some(room) => put(found, base as u32, room),
            None => self.refused = 1,
        }
        self.count += found.count_ones() as usize;
        rare
    }
}

/// Checks what is rare in each block, and notes which of them are unusual; `None` if an escape is bad.
fn note_unusual(record: &[u8], rare: &[[u64; 2]], unusual: &mut [u64]) -> Option<()> {
    let mut pair = 0;
    for (number, [high, others]) in rare.iter().enumerate() {
        let escapes = *others != 0 && escapes(record, number * BLOCK, *others, &mut pair)?;
        unusual[number / 64] |= u64::from(*high != 0 || escapes) << (number % 64);
    }
    Some(())
}

/// Which bytes follow a backslash that is not itself escaped. Adding up from the start of each run of
/// backslashes tells its even places from its odd ones, as subtraction carries through a run.
#[inline(always)]
fn escaped(backslashes: u64, carry: &mut u64) -> u64 {
    let begins = backslashes & !*carry;
    let after = ((begins << 1) | ODD).wrapping_sub(begins) ^ ODD;
    let escaped = after ^ (backslashes | *carry);
    *carry = (after & backslashes) >> 63;
    escaped
}

/// Checks escapes other than `\\` and `\"`: whether some are unusual, `None` if one is bad. `pair` is
/// where the `u` of the second half of a surrogate pair has to stand.
fn escapes(record: &[u8], base: usize, mut bits: u64, pair: &mut usize) -> Option<bool> {
    let mut unusual = false;
    while bits != 0 {
        let at = base + bits.trailing_zeros() as usize;
        bits &= bits - 1;
        match record.get(at)? {
            b'n' | b'r' | b't' => continue,
            b'/' | b'b' | b'f' => {}
            b'u' => unicode(record, at, pair)?,
            _ => return None,
        }
        unusual = true;
    }
    Some(unusual)
}

/// Checks the escape whose `u` is at `at`: four hexadecimal digits, and surrogates in pairs only.
fn unicode(record: &[u8], at: usize, pair: &mut usize) -> Option<()> {
    match hex(record, at + 1)? {
        0xD800..=0xDBFF => {
            let follows = record.get(at + 5..at + 7)? == br"\u"
                && matches!(hex(record, at + 7)?, 0xDC00..=0xDFFF);
            *pair = at + 6;
            follows.then_some(())
        }
        0xDC00..=0xDFFF => (*pair == at).then_some(()),
        _ => Some(()),
    }
}

fn hex(record: &[u8], at: usize) -> Option<u32> {
    let digits = record.get(at..at + 4)?;
    digits.iter().try_fold(0, |n, digit| Some(n << 4 | char::from(*digit).to_digit(16)?))
}

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
    /// The blocks from the first that is not ASCII to behind the last.
    high: std::ops::Range<usize>,
}

impl Index {
    /// Makes room for a record of that length, here and in the view.
    pub fn begin(&mut self, length: usize, view: &mut View) {
        let blocks = length / BLOCK + 1;
        if self.places.len() < (blocks + 1) * BLOCK {
            self.places.resize((blocks + 1) * BLOCK, 0);
        }
        self.marks.resize((blocks + 1) * 8, 0);
        view.low.resize(VIEW_PAD + length + VIEW_PAD, 0);
        view.low[..VIEW_PAD].fill(0);
        view.unusual.clear();
        view.unusual.resize(blocks / 64 + 1, 0);
        self.count = 0;
        self.high = 0..0;
    }

    /// Whether the bytes that are not ASCII are UTF-8; what is around them is ASCII.
    pub fn is_utf8(&self, record: &[u8]) -> bool {
        let end = (self.high.end * BLOCK).min(record.len());
        self.high.is_empty() || std::str::from_utf8(&record[self.high.start * BLOCK..end]).is_ok()
    }
}

/// What one block leaves to the next.
#[derive(Default)]
struct Carry {
    /// 1 if the next byte is escaped.
    escaped: u64,
    /// All ones if the next byte is in a string.
    inside: u64,
    /// Where the `u` of the second half of a surrogate pair stands.
    pair: usize,
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
    let mut carry = Carry::default();
    let mut refused = 0;
    let mut padded = [0; BLOCK];
    let (blocks, tail) = record.as_chunks::<BLOCK>();
    padded[..tail.len()].copy_from_slice(tail);
    let lows = view.low[VIEW_PAD..].as_chunks_mut::<BLOCK>().0.iter_mut();
    let marks = index.marks.as_chunks_mut::<8>().0.iter_mut();
    let all = blocks.iter().chain([&padded]).zip(lows).zip(marks);
    for (number, ((bytes, low), mark)) in all.enumerate() {
        let block = look(bytes, low);
        *mark = (block.spaces | block.backslashes).to_le_bytes();
        let (mut quotes, mut unusual) = (block.quotes, block.high != 0);
        if block.high != 0 {
            let first = if index.high.is_empty() { number } else { index.high.start };
            index.high = first..number + 1;
        }
        if block.backslashes | carry.escaped != 0 {
            let escaped = escaped(block.backslashes, &mut carry.escaped);
            let others = escaped & !block.backslashes & !block.quotes;
            quotes &= !escaped;
            if others != 0 {
                match escapes(record, number * BLOCK, others, &mut carry.pair) {
                    Some(found) => unusual |= found,
                    None => return false,
                }
            }
        }
        let inside = parity(quotes) ^ carry.inside;
        carry.inside = (inside as i64 >> 63) as u64;
        refused |= block.controls & inside;
        view.unusual[number / 64] |= u64::from(unusual) << (number % 64);
        let places = quotes | (block.brackets & !inside);
        let Some(room) = index.places[index.count..].first_chunk_mut() else { return false };
        put(places, (number * BLOCK) as u32, room);
        index.count += places.count_ones() as usize;
    }
    view.low[VIEW_PAD + record.len()..].fill(0);
    index.marks[(blocks.len() + 1) * 8..].fill(0);
    refused | carry.inside == 0
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

/// Checks escapes other than `\\` and `\"`: whether some are unusual, `None` if one is bad.
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

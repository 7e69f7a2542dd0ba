//! Where windows of up to four bytes may begin in a text, in vector instructions.
//!
//! The windows are spread over eight buckets. For each of the four places of a window, a table says for
//! a byte in which buckets some window has it there; a position at which all four agree on a bucket may
//! be where one of its windows begins. So 64 positions cost four lookups and three `and`s, however many
//! windows there are; the more there are, the more positions are found for nothing. (The idea is that of
//! Teddy, of the Hyperscan library; with lookups in 128 bytes no byte is mistaken for another.)
//!
//! Unsafe are loads of whole arrays, and calls of functions whose instructions the machine was found to
//! have.
#![allow(unsafe_code, reason = "a plain loop takes ten times as long")]

/// Bytes of a window at most.
pub const WINDOW: usize = 4;

/// Positions that are looked at together.
const BLOCK: usize = 64;

/// Bytes that must be readable behind the end of a text.
pub const VECTOR_PAD: usize = BLOCK + WINDOW;

/// Sets of windows.
pub const BUCKETS: usize = 8;

/// The instructions that a search uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VectorPath {
    /// AVX-512 with VBMI.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2: bytes are looked up by halves, so that some are mistaken for others.
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl VectorPath {
    /// What this machine can do, the best first.
    pub fn available() -> Vec<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            let mut paths = Vec::new();
            let counts_bits = is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("bmi2");
            if counts_bits
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vbmi")
            {
                paths.push(Self::Avx512);
            }
            if counts_bits && is_x86_feature_detected!("avx2") {
                paths.push(Self::Avx2);
            }
            paths
        }
        #[cfg(not(target_arch = "x86_64"))]
        Vec::new()
    }

    /// Whether no ASCII byte is mistaken for another.
    pub fn is_exact(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => false,
        }
    }
}

/// In which buckets a byte stands at each place of a window.
#[derive(Clone, Debug)]
pub struct Tables {
    path: VectorPath,
    /// By the byte; those from 0x80 on share with those 0x80 below.
    bytes: [[u8; 128]; WINDOW],
    /// By the lower and the upper half of the byte.
    #[cfg(target_arch = "x86_64")]
    halves: [[[u8; 16]; 2]; WINDOW],
}

impl Tables {
    /// For windows with their buckets. `path` must be one that is [available](VectorPath::available).
    pub fn new<'w>(path: VectorPath, windows: impl Iterator<Item = (&'w [u8], usize)>) -> Self {
        assert!(VectorPath::available().contains(&path), "{path:?}");
        let mut bytes = [[0; 128]; WINDOW];
        let mut halves = [[[0; 16]; 2]; WINDOW];
        for (window, bucket) in windows {
            for place in 0..WINDOW {
                // Behind a short window any byte may stand.
                let any = window.get(place).is_none();
                let may_be = |byte: u8| any || window[place] % 128 == byte;
                for byte in (0..128).filter(|byte| may_be(*byte)) {
                    bytes[place][usize::from(byte)] |= 1 << bucket;
                    for upper in [byte >> 4, byte >> 4 | 8] {
                        halves[place][0][usize::from(byte & 15)] |= 1 << bucket;
                        halves[place][1][usize::from(upper)] |= 1 << bucket;
                    }
                }
            }
        }
        Self {
            path,
            bytes,
            #[cfg(target_arch = "x86_64")]
            halves,
        }
    }

    /// Calls `found` with each position of `buffer[start..end]` at which a window of some buckets, one
    /// bit each, of one of the tables may begin, until it answers true; whether it did. It is told the
    /// number of the table first. [`VECTOR_PAD`] bytes behind `end` must be there.
    #[inline]
    pub fn search<const N: usize>(
        all: [&Self; N],
        buffer: &[u8],
        (start, end): (usize, usize),
        found: &mut impl FnMut(usize, usize, u8) -> bool,
    ) -> bool {
        match all.first().map(|tables| tables.path) {
            // SAFETY: `new` found that the machine has what the function needs.
            #[cfg(target_arch = "x86_64")]
            Some(VectorPath::Avx512) => unsafe { x86::avx512(all, buffer, (start, end), found) },
            #[cfg(target_arch = "x86_64")]
            Some(VectorPath::Avx2) => all.iter().enumerate().any(|(number, tables)| {
                let mut found = |at, buckets| found(number, at, buckets);
                // SAFETY: as above.
                unsafe { x86::avx2(tables, buffer, (start, end), &mut found) }
            }),
            None => false,
        }
    }
}

/// Goes over a text by blocks. `look` gives for each table the buckets of each position of one, and
/// which of them are not empty.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn walk<const N: usize>(
    buffer: &[u8],
    (start, end): (usize, usize),
    found: &mut impl FnMut(usize, usize, u8) -> bool,
    look: impl Fn(&[u8; VECTOR_PAD], &mut [[u8; BLOCK]; N]) -> [u64; N],
) -> bool {
    let mut buckets = [[0; BLOCK]; N];
    let mut at = start;
    while at < end
        && let Some(bytes) = buffer[at..].first_chunk()
    {
        let places = look(bytes, &mut buckets);
        for (number, mut places) in places.into_iter().enumerate() {
            if end - at < BLOCK {
                places &= (1 << (end - at)) - 1;
            }
            while places != 0 {
                let place = places.trailing_zeros() as usize;
                places &= places - 1;
                if found(number, at + place, buckets[number][place]) {
                    return true;
                }
            }
        }
        at += BLOCK;
    }
    false
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{BLOCK, Tables, VECTOR_PAD, WINDOW, walk};

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,bmi1,bmi2")]
    pub(super) fn avx512<const N: usize>(
        all: [&Tables; N],
        buffer: &[u8],
        text: (usize, usize),
        found: &mut impl FnMut(usize, usize, u8) -> bool,
    ) -> bool {
        // SAFETY: 64 bytes are read, which is what each half of a table has.
        let load = |half: &[u8; 64]| unsafe { _mm512_loadu_si512(half.as_ptr().cast()) };
        // Written out, as what stands in a closure that others call is compiled without the vectors.
        let mut tables = [[(_mm512_setzero_si512(), _mm512_setzero_si512()); WINDOW]; N];
        for (table, from) in tables.iter_mut().zip(all) {
            for (table, bytes) in table.iter_mut().zip(&from.bytes) {
                let (halves, _) = bytes.as_chunks::<64>();
                *table = (load(&halves[0]), load(&halves[1]));
            }
        }
        walk(buffer, text, found, |bytes, buckets| {
            const { assert!(BLOCK + WINDOW <= VECTOR_PAD) };
            // SAFETY: 64 bytes from there are in the array, which has 68.
            let from = |place| unsafe { _mm512_loadu_si512(bytes.as_ptr().add(place).cast()) };
            let bytes = [from(0), from(1), from(2), from(3)];
            let mut places = [0; N];
            for number in 0..N {
                let of = |place: usize| {
                    let (lower, upper) = tables[number][place];
                    _mm512_permutex2var_epi8(lower, bytes[place], upper)
                };
                let first = _mm512_and_si512(of(0), of(1));
                let all = _mm512_and_si512(first, _mm512_and_si512(of(2), of(3)));
                places[number] = _mm512_test_epi8_mask(all, all);
                if places[number] != 0 {
                    // SAFETY: the array is as long as the vector.
                    unsafe { _mm512_storeu_si512(buckets[number].as_mut_ptr().cast(), all) };
                }
            }
            places
        })
    }

    #[target_feature(enable = "avx2,bmi1,bmi2")]
    pub(super) fn avx2(
        tables: &Tables,
        buffer: &[u8],
        text: (usize, usize),
        found: &mut impl FnMut(usize, u8) -> bool,
    ) -> bool {
        let load = |half: &[u8; 16]| {
            // SAFETY: 16 bytes are read, which is what the table has.
            _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(half.as_ptr().cast()) })
        };
        let table = |place: usize| {
            let [lower, upper] = &tables.halves[place];
            (load(lower), load(upper))
        };
        let tables = [table(0), table(1), table(2), table(3)];
        let low_half = _mm256_set1_epi8(15);
        let mut found = |_, at, buckets| found(at, buckets);
        walk(buffer, text, &mut found, |bytes, [buckets]| {
            let mut places = 0;
            for half in 0..2 {
                let of = |place: usize| {
                    let (lower, upper) = tables[place];
                    // SAFETY: 32 bytes from at most 35 are in the array, which has 68.
                    let bytes =
                        unsafe { _mm256_loadu_si256(bytes.as_ptr().add(32 * half + place).cast()) };
                    let by_lower = _mm256_shuffle_epi8(lower, _mm256_and_si256(bytes, low_half));
                    let above = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), low_half);
                    _mm256_and_si256(by_lower, _mm256_shuffle_epi8(upper, above))
                };
                let first = _mm256_and_si256(of(0), of(1));
                let all = _mm256_and_si256(first, _mm256_and_si256(of(2), of(3)));
                let none = _mm256_cmpeq_epi8(all, _mm256_setzero_si256());
                places |= u64::from(!_mm256_movemask_epi8(none) as u32) << (32 * half);
                // SAFETY: 32 bytes from 0 or 32 are in the array, which has 64.
                unsafe { _mm256_storeu_si256(buckets.as_mut_ptr().add(32 * half).cast(), all) };
            }
            [places]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a search finds: the table, the position, the buckets. Positions of one table come in order.
    fn found<const N: usize>(
        all: [&Tables; N],
        buffer: &[u8],
        text: (usize, usize),
    ) -> Vec<(usize, usize, u8)> {
        let mut found = Vec::new();
        let stopped = Tables::search(all, buffer, text, &mut |table, at, buckets| {
            found.push((table, at, buckets));
            false
        });
        let first = Tables::search(all, buffer, text, &mut |_, _, _| true);
        assert_eq!((stopped, first), (false, !found.is_empty()));
        found.sort_by_key(|(table, ..)| *table);
        assert!(found.is_sorted());
        found
    }

    proptest::proptest! {
        #[test]
        fn every_window_is_seen_where_it_begins(
            windows in proptest::collection::vec("[abcé]{1,2}[a-z]{0,2}", 1..40),
            text in "[abcdé]{0,250}",
        ) {
            let mut buffer = b"ab".to_vec();
            buffer.extend_from_slice(text.as_bytes());
            let text = (2, buffer.len());
            buffer.extend_from_slice(&[b'a'; VECTOR_PAD]);
            let windows = windows.iter().map(|w| &w.as_bytes()[..w.len().min(WINDOW)]);
            let windows: Vec<(&[u8], usize)> = windows.zip((0..BUCKETS).cycle()).collect();
            let of = |table| windows.iter().skip(table).step_by(3).copied();
            for path in VectorPath::available() {
                let tables: [Tables; 3] = std::array::from_fn(|table| Tables::new(path, of(table)));
                let [a, b, c] = tables.each_ref();
                let seen = found([a, b, c], &buffer, text);
                proptest::prop_assert_eq!(&seen[seen.partition_point(|s| s.0 < 2)..], {
                    let alone = found([c], &buffer, text);
                    alone.into_iter().map(|(_, at, buckets)| (2, at, buckets)).collect::<Vec<_>>()
                });
                proptest::prop_assert_eq!(&seen[..seen.partition_point(|s| s.0 < 2)], found([a, b], &buffer, text));
                proptest::prop_assert!(seen.iter().all(|(_, at, _)| (text.0..text.1).contains(at)));
                for (at, table) in (text.0..text.1).flat_map(|at| (0..3).map(move |table| (at, table))) {
                    for (window, bucket) in of(table).filter(|(w, _)| buffer[at..].starts_with(w)) {
                        let there = seen.iter().any(|s| (s.0, s.1) == (table, at) && s.2 >> bucket & 1 == 1);
                        proptest::prop_assert!(there, "{path:?} {at} {window:?}");
                    }
                }
            }
        }
    }
}

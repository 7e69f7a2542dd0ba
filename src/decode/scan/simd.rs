//! The first pass in the vector instructions of this machine, chosen at run time.
//!
//! Unsafe are loads and stores of whole arrays, and calls of functions whose instructions the machine was
//! found to have; all of it is behind [`Dispatch`].
#![allow(
    unsafe_code,
    reason = "vector instructions read a record three times as fast as plain ones"
)]

use super::index::{BLOCK, Block, Index, read};
use crate::event::View;

/// The instructions that the first pass of a scanner uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimdPath {
    /// AVX-512 with byte instructions and VBMI2.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// SSE2, which every x86-64 has.
    #[cfg(target_arch = "x86_64")]
    Sse2,
    /// NEON, which every AArch64 has.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// Eight bytes at a time in plain registers.
    Portable,
}

impl SimdPath {
    /// What this machine can do, the best first.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|path| path.is_available()).collect()
    }

    /// The best that this machine can do.
    pub fn best() -> Self {
        Self::ALL.into_iter().find(|path| path.is_available()).unwrap_or(Self::Portable)
    }
}

/// A path that this machine has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dispatch(SimdPath);

impl Dispatch {
    /// That path, or the portable one if the machine lacks it.
    pub fn new(path: SimdPath) -> Self {
        Self(if path.is_available() { path } else { SimdPath::Portable })
    }

    /// Makes the first pass over a record, see [`read`].
    #[inline]
    pub fn index(self, record: &[u8], index: &mut Index, view: &mut View) -> bool {
        match self.0 {
            // SAFETY: `new` found that the machine has what the function needs.
            #[cfg(target_arch = "x86_64")]
            SimdPath::Avx512 => unsafe { x86::avx512(record, index, view) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            SimdPath::Avx2 => unsafe { x86::avx2(record, index, view) },
            // SAFETY: every x86-64 has SSE2.
            #[cfg(target_arch = "x86_64")]
            SimdPath::Sse2 => unsafe { x86::sse2(record, index, view) },
            // SAFETY: every AArch64 that Rust knows has NEON.
            #[cfg(target_arch = "aarch64")]
            SimdPath::Neon => unsafe { neon::neon(record, index, view) },
            SimdPath::Portable => read(record, index, view, portable::look, parity, put),
        }
    }
}

/// For each bit, whether an odd number of bits is set up to it.
#[inline(always)]
fn parity(mut bits: u64) -> u64 {
    for step in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << step;
    }
    bits
}

/// Writes the positions of the bits, counted from `base`; what is behind them may be written too.
#[inline(always)]
fn put(mut bits: u64, base: u32, room: &mut [u32; BLOCK]) {
    let count = bits.count_ones() as usize;
    for eight in room.chunks_exact_mut(8).take(count.div_ceil(8)) {
        for place in eight {
            *place = base + bits.trailing_zeros();
            bits &= bits.wrapping_sub(1);
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl SimdPath {
    const ALL: [Self; 4] = [Self::Avx512, Self::Avx2, Self::Sse2, Self::Portable];

    fn is_available(self) -> bool {
        let common = || {
            is_x86_feature_detected!("pclmulqdq")
                && is_x86_feature_detected!("popcnt")
                && is_x86_feature_detected!("bmi1")
                && is_x86_feature_detected!("bmi2")
                && is_x86_feature_detected!("lzcnt")
        };
        match self {
            Self::Avx512 => {
                common()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512vbmi2")
            }
            Self::Avx2 => common() && is_x86_feature_detected!("avx2"),
            Self::Sse2 | Self::Portable => true,
        }
    }
}

#[cfg(target_arch = "aarch64")]
impl SimdPath {
    const ALL: [Self; 2] = [Self::Neon, Self::Portable];

    fn is_available(self) -> bool {
        true
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
impl SimdPath {
    const ALL: [Self; 1] = [Self::Portable];

    fn is_available(self) -> bool {
        true
    }
}

mod portable {
    use super::{BLOCK, Block};

    const LOW: u64 = 0x7F7F_7F7F_7F7F_7F7F;
    const HIGH: u64 = 0x8080_8080_8080_8080;

    const fn each(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }

    /// The highest bit of each byte that is zero.
    #[inline(always)]
    fn zero(word: u64) -> u64 {
        !(((word & LOW) + LOW) | word) & HIGH
    }

    /// The highest bit of each byte that is that byte.
    #[inline(always)]
    fn equal(word: u64, byte: u8) -> u64 {
        zero(word ^ each(byte))
    }

    /// One bit for the highest bit of each byte.
    #[inline(always)]
    fn gather(highest: u64) -> u64 {
        (highest >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
    }

    #[inline(always)]
    pub(super) fn look(bytes: &[u8; BLOCK], low: &mut [u8; BLOCK]) -> Block {
        let mut block = Block::default();
        let words = bytes.as_chunks::<8>().0.iter().zip(low.as_chunks_mut::<8>().0);
        for (eight, (bytes, low)) in words.enumerate() {
            let word = u64::from_le_bytes(*bytes);
            let add = |bits: u64, to: &mut u64| *to |= gather(bits) << (8 * eight);
            let folded = word | each(0x20);
            add(equal(word, b'"'), &mut block.quotes);
            add(equal(word, b'\\'), &mut block.backslashes);
            add(equal(folded, b'{') | equal(folded, b'}'), &mut block.brackets);
            add(zero(word & each(0xE0)), &mut block.controls);
            add(equal(word, b' '), &mut block.spaces);
            add(word & HIGH, &mut block.high);
            *low = lower(word).to_le_bytes();
        }
        block
    }

    #[inline(always)]
    fn lower(word: u64) -> u64 {
        let seven = word & LOW;
        let from_a = seven + each(0x80 - b'A');
        let behind_z = seven + each(0x7F - b'Z');
        word | (from_a & !behind_z & !word & HIGH) >> 2
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{BLOCK, Block, Index, View, parity, put, read};

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi2")]
    #[target_feature(enable = "pclmulqdq,popcnt,bmi1,bmi2,lzcnt")]
    pub(super) fn avx512(record: &[u8], index: &mut Index, view: &mut View) -> bool {
        let look = |bytes: &[u8; BLOCK], low: &mut [u8; BLOCK]| look512(bytes, low);
        let parity = |bits| parity_clmul(bits);
        read(record, index, view, look, parity, |bits, base, room| put512(bits, base, room))
    }

    #[target_feature(enable = "avx2,pclmulqdq,popcnt,bmi1,bmi2,lzcnt")]
    pub(super) fn avx2(record: &[u8], index: &mut Index, view: &mut View) -> bool {
        let look = |bytes: &[u8; BLOCK], low: &mut [u8; BLOCK]| look256(bytes, low);
        read(record, index, view, look, |bits| parity_clmul(bits), put)
    }

    #[target_feature(enable = "sse2")]
    pub(super) fn sse2(record: &[u8], index: &mut Index, view: &mut View) -> bool {
        let look = |bytes: &[u8; BLOCK], low: &mut [u8; BLOCK]| look128(bytes, low);
        read(record, index, view, look, parity, put)
    }

    #[inline]
    #[target_feature(enable = "pclmulqdq")]
    fn parity_clmul(bits: u64) -> u64 {
        let product = _mm_clmulepi64_si128(_mm_set_epi64x(0, bits as i64), _mm_set1_epi8(-1), 0);
        _mm_cvtsi128_si64(product) as u64
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    fn look512(bytes: &[u8; BLOCK], low: &mut [u8; BLOCK]) -> Block {
        // SAFETY: the array is as long as the vector; the load may be unaligned.
        let all = unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) };
        let equal = |bytes, byte: u8| _mm512_cmpeq_epi8_mask(bytes, _mm512_set1_epi8(byte as i8));
        let folded = _mm512_or_si512(all, _mm512_set1_epi8(0x20));
        let from_a = _mm512_sub_epi8(all, _mm512_set1_epi8(b'A' as i8));
        let upper = _mm512_cmplt_epu8_mask(from_a, _mm512_set1_epi8(26));
        let lowered = _mm512_mask_add_epi8(all, upper, all, _mm512_set1_epi8(0x20));
        // SAFETY: as above, for the store.
        unsafe { _mm512_storeu_si512(low.as_mut_ptr().cast(), lowered) };
        Block {
            quotes: equal(all, b'"'),
            backslashes: equal(all, b'\\'),
            brackets: equal(folded, b'{') | equal(folded, b'}'),
            controls: _mm512_cmplt_epu8_mask(all, _mm512_set1_epi8(0x20)),
            spaces: equal(all, b' '),
            high: _mm512_movepi8_mask(all),
        }
    }

    /// 0 to 63.
    const NUMBERS: [u8; BLOCK] = {
        let mut numbers = [0; BLOCK];
        let mut at = 0;
        while at < BLOCK {
            numbers[at] = at as u8;
            at += 1;
        }
        numbers
    };

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi2,popcnt")]
    fn put512(bits: u64, base: u32, room: &mut [u32; BLOCK]) {
        // SAFETY: the array is as long as the vector; the load may be unaligned.
        let numbers = unsafe { _mm512_loadu_si512(NUMBERS.as_ptr().cast()) };
        let numbers = _mm512_maskz_compress_epi8(bits, numbers);
        let base = _mm512_set1_epi32(base as i32);
        let (quarters, _) = room.as_chunks_mut::<16>();
        let mut write = |quarter: usize, numbers| {
            let places = _mm512_add_epi32(base, _mm512_cvtepu8_epi32(numbers));
            // SAFETY: a quarter of the room is as long as the vector; the store may be unaligned.
            unsafe { _mm512_storeu_si512(quarters[quarter].as_mut_ptr().cast(), places) };
        };
        let count = bits.count_ones();
        write(0, _mm512_castsi512_si128(numbers));
        if count > 16 {
            write(1, _mm512_extracti32x4_epi32::<1>(numbers));
        }
        if count > 32 {
            write(2, _mm512_extracti32x4_epi32::<2>(numbers));
            write(3, _mm512_extracti32x4_epi32::<3>(numbers));
        }
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn look256(bytes: &[u8; BLOCK], low: &mut [u8; BLOCK]) -> Block {
        let mut block = Block::default();
        let halves = bytes.as_chunks::<32>().0.iter().zip(low.as_chunks_mut::<32>().0);
        for (half, (bytes, low)) in halves.enumerate() {
            // SAFETY: the array is as long as the vector; the load may be unaligned.
            let all = unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) };
            let each = |byte: u8| _mm256_set1_epi8(byte as i8);
            let equal = |bytes, byte| _mm256_cmpeq_epi8(bytes, each(byte));
            let folded = _mm256_or_si256(all, each(0x20));
            let add = |found, to: &mut u64| {
                *to |= u64::from(_mm256_movemask_epi8(found) as u32) << (32 * half);
            };
            add(equal(all, b'"'), &mut block.quotes);
            add(equal(all, b'\\'), &mut block.backslashes);
            add(_mm256_or_si256(equal(folded, b'{'), equal(folded, b'}')), &mut block.brackets);
            add(_mm256_cmpeq_epi8(_mm256_min_epu8(all, each(0x1F)), all), &mut block.controls);
            add(equal(all, b' '), &mut block.spaces);
            add(all, &mut block.high);
            // Bytes are compared with their signs: `A` to `Z` are moved to the upper end.
            let moved = _mm256_add_epi8(all, each(0x7F - b'Z'));
            let upper = _mm256_cmpgt_epi8(moved, each(0x7F - 26));
            let lowered = _mm256_or_si256(all, _mm256_and_si256(upper, each(0x20)));
            // SAFETY: as above, for the store.
            unsafe { _mm256_storeu_si256(low.as_mut_ptr().cast(), lowered) };
        }
        block
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn look128(bytes: &[u8; BLOCK], low: &mut [u8; BLOCK]) -> Block {
        let mut block = Block::default();
        let quarters = bytes.as_chunks::<16>().0.iter().zip(low.as_chunks_mut::<16>().0);
        for (quarter, (bytes, low)) in quarters.enumerate() {
            // SAFETY: the array is as long as the vector; the load may be unaligned.
            let all = unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) };
            let each = |byte: u8| _mm_set1_epi8(byte as i8);
            let equal = |bytes, byte| _mm_cmpeq_epi8(bytes, each(byte));
            let folded = _mm_or_si128(all, each(0x20));
            let add = |found, to: &mut u64| {
                *to |= u64::from(_mm_movemask_epi8(found) as u32) << (16 * quarter);
            };
            add(equal(all, b'"'), &mut block.quotes);
            add(equal(all, b'\\'), &mut block.backslashes);
            add(_mm_or_si128(equal(folded, b'{'), equal(folded, b'}')), &mut block.brackets);
            add(_mm_cmpeq_epi8(_mm_min_epu8(all, each(0x1F)), all), &mut block.controls);
            add(equal(all, b' '), &mut block.spaces);
            add(all, &mut block.high);
            // Bytes are compared with their signs: `A` to `Z` are moved to the upper end.
            let moved = _mm_add_epi8(all, each(0x7F - b'Z'));
            let upper = _mm_cmpgt_epi8(moved, each(0x7F - 26));
            let lowered = _mm_or_si128(all, _mm_and_si128(upper, each(0x20)));
            // SAFETY: as above, for the store.
            unsafe { _mm_storeu_si128(low.as_mut_ptr().cast(), lowered) };
        }
        block
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::*;

    use super::{BLOCK, Block, Index, View, parity, put, read};

    #[target_feature(enable = "neon")]
    pub(super) fn neon(record: &[u8], index: &mut Index, view: &mut View) -> bool {
        let look = |bytes: &[u8; BLOCK], low: &mut [u8; BLOCK]| look(bytes, low);
        read(record, index, view, look, parity, put)
    }

    /// The bit of each byte within eight.
    const WEIGHTS: [u8; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128];

    /// One bit for each byte that is all ones, not zero.
    #[inline]
    #[target_feature(enable = "neon")]
    fn gather(found: [uint8x16_t; 4], weights: uint8x16_t) -> u64 {
        let [a, b, c, d] = found.map(|quarter| vandq_u8(quarter, weights));
        let pairs = vpaddq_u8(vpaddq_u8(a, b), vpaddq_u8(c, d));
        vgetq_lane_u64::<0>(vreinterpretq_u64_u8(vpaddq_u8(pairs, pairs)))
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn look(bytes: &[u8; BLOCK], low: &mut [u8; BLOCK]) -> Block {
        // SAFETY: the array is as long as the vector.
        let load = |bytes: &[u8; 16]| unsafe { vld1q_u8(bytes.as_ptr()) };
        let weights = load(&WEIGHTS);
        let (quarters, _) = bytes.as_chunks::<16>();
        let all = [0, 1, 2, 3].map(|quarter: usize| load(&quarters[quarter]));
        let equal = |all, byte| vceqq_u8(all, vdupq_n_u8(byte));
        let gather = |found| gather(found, weights);
        for (all, low) in all.into_iter().zip(low.as_chunks_mut::<16>().0) {
            let from_a = vsubq_u8(all, vdupq_n_u8(b'A'));
            let upper = vcltq_u8(from_a, vdupq_n_u8(26));
            let lowered = vorrq_u8(all, vandq_u8(upper, vdupq_n_u8(0x20)));
            // SAFETY: the array is as long as the vector.
            unsafe { vst1q_u8(low.as_mut_ptr(), lowered) };
        }
        Block {
            quotes: gather(all.map(|all| equal(all, b'"'))),
            backslashes: gather(all.map(|all| equal(all, b'\\'))),
            brackets: gather(all.map(|all| {
                let folded = vorrq_u8(all, vdupq_n_u8(0x20));
                vorrq_u8(equal(folded, b'{'), equal(folded, b'}'))
            })),
            controls: gather(all.map(|all| vcltq_u8(all, vdupq_n_u8(0x20)))),
            spaces: gather(all.map(|all| equal(all, b' '))),
            high: gather(all.map(|all| vcgeq_u8(all, vdupq_n_u8(0x80)))),
        }
    }
}

//! What stands for a value where only equality counts.

use serde::{Deserialize, Serialize};

use crate::ids::stable_hash;

/// Words that it takes.
pub(super) const VALUE_WORDS: usize = 8;

/// Bytes of a value that stands for itself.
const SHORT: usize = 15;

/// In place of the length of a short one.
const HASHED: u8 = u8::MAX;

/// A short value itself; of a longer one, or of several together, 120 bits of SHA-256. So no two short ones
/// look alike, and nobody who chooses the values can make two others do so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ValueHash([u64; 2]);

impl ValueHash {
    /// Of the parts of a value, each with its length.
    pub fn of<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Self {
        let mut parts = parts.into_iter();
        let (first, second) = (parts.next().unwrap_or_default(), parts.next());
        let mut bytes = [0; 16];
        match second {
            None if first.len() <= SHORT => {
                bytes[0] = first.len() as u8;
                bytes[1..=first.len()].copy_from_slice(first);
            }
            _ => {
                let all: Vec<&[u8]> = std::iter::once(first).chain(second).chain(parts).collect();
                bytes = stable_hash(&all);
                bytes[0] = HASHED;
            }
        }
        Self::joined(bytes)
    }

    fn joined(bytes: [u8; 16]) -> Self {
        let whole = u128::from_le_bytes(bytes);
        Self([whole as u64, (whole >> 64) as u64])
    }

    pub(super) fn words(self) -> [u16; VALUE_WORDS] {
        std::array::from_fn(|n| (self.0[n / 4] >> (16 * (n % 4))) as u16)
    }

    /// Of what [`words`](Self::words) gave.
    pub(super) fn of_words(words: &[u16]) -> Self {
        let mut value = [0; 2];
        for (n, word) in words.iter().enumerate().take(VALUE_WORDS) {
            value[n / 4] |= u64::from(*word) << (16 * (n % 4));
        }
        Self(value)
    }

    /// 64 bits that are as good as random, for a sketch.
    pub fn bits(self) -> u64 {
        let [low, high] = self.0.map(u64::to_le_bytes);
        let hash = stable_hash(&[&low, &high]);
        (u128::from_le_bytes(hash) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_differ_stand_apart() {
        let long = "x".repeat(40);
        let values: [&[&str]; 12] = [
            &[],
            &["a"],
            &["a\0"],
            &["ab"],
            &["fifteen bytes.."],
            &["sixteen bytes..."],
            &["sixteen bytes..!"],
            &[&long],
            &["a", "b"],
            &["ab", ""],
            &["", "ab"],
            &["a", "b", ""],
        ];
        let of = |parts: &[&str]| ValueHash::of(parts.iter().map(|part| part.as_bytes()));
        let all: std::collections::BTreeSet<_> = values.iter().map(|parts| of(parts)).collect();
        assert_eq!(all.len(), values.len());
        assert!(all.iter().all(|value| ValueHash::of_words(&value.words()) == *value));
        let bits: std::collections::BTreeSet<_> = all.iter().map(|value| value.bits()).collect();
        assert_eq!(bits.len(), values.len());
    }
}

//! What stands for a value where only equality counts.

use serde::{Deserialize, Serialize};

use crate::ids::stable_hash;

/// The hash of a value or a tuple of values: 128 bits of SHA-256, so that nobody who chooses the values
/// can make two of them look alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ValueHash([u64; 2]);

impl ValueHash {
    /// Of the parts of a value, each with its length.
    pub fn of<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Self {
        let mut parts = parts.into_iter();
        let (first, second) = (parts.next().unwrap_or_default(), parts.next());
        let Some(second) = second else { return Self::cut(stable_hash(&[first])) };
        let all: Vec<&[u8]> = [first, second].into_iter().chain(parts).collect();
        Self::cut(stable_hash(&all))
    }

    fn cut(hash: [u8; 16]) -> Self {
        let half = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&hash[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        Self([half(0), half(8)])
    }

    /// 64 of its bits.
    pub fn bits(self) -> u64 {
        self.0[0]
    }
}

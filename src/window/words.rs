//! A list of words that needs no memory of its own as long as it is short.

use std::ops::Range;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Words, up to `FEW` in place.
#[derive(Clone, Debug)]
pub enum Words<const FEW: usize> {
    /// So many of these.
    Few(u8, [u16; FEW]),
    /// Apart.
    Many(Vec<u16>),
}

impl<const FEW: usize> Words<FEW> {
    /// All of them.
    pub fn as_slice(&self) -> &[u16] {
        match self {
            Self::Few(len, words) => &words[..usize::from(*len).min(FEW)],
            Self::Many(words) => words,
        }
    }

    /// All of them, to be changed.
    pub fn as_mut_slice(&mut self) -> &mut [u16] {
        match self {
            Self::Few(len, words) => &mut words[..usize::from(*len).min(FEW)],
            Self::Many(words) => words,
        }
    }

    /// How many there is room for.
    pub fn capacity(&self) -> usize {
        match self {
            Self::Few(..) => FEW,
            Self::Many(words) => words.capacity(),
        }
    }

    /// Adds words; there is room for them.
    pub fn append<const N: usize>(&mut self, more: [u16; N]) {
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

    /// Takes out those in `gone`. What is left needs no more memory than it should, if so many more will
    /// have room too.
    pub fn remove(&mut self, gone: Range<usize>, more: usize) {
        match self {
            Self::Few(len, words) => {
                *len -= gone.len() as u8;
                words.copy_within(gone.end.., gone.start);
            }
            Self::Many(words) => {
                words.drain(gone);
                if words.len() + more <= FEW {
                    *self = Self::of(words);
                }
            }
        }
    }

    /// Has room for so many more.
    pub fn grow(&mut self, more: usize) {
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
        let mut few = [0; FEW];
        match few.get_mut(..words.len()) {
            Some(to) => {
                to.copy_from_slice(words);
                Self::Few(words.len() as u8, few)
            }
            None => Self::Many(words.to_vec()),
        }
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Few(..) => 0,
            Self::Many(words) => words.capacity() * size_of::<u16>(),
        }
    }
}

impl<const FEW: usize> Default for Words<FEW> {
    fn default() -> Self {
        Self::Few(0, [0; FEW])
    }
}

impl<const FEW: usize> PartialEq for Words<FEW> {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl<const FEW: usize> Serialize for Words<FEW> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.as_slice().serialize(to)
    }
}

impl<'d, const FEW: usize> Deserialize<'d> for Words<FEW> {
    fn deserialize<D: Deserializer<'d>>(from: D) -> Result<Self, D::Error> {
        Vec::deserialize(from).map(|words| Self::of(&words))
    }
}

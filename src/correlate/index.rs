//! Which group has a key of which hash.
//!
//! Hash and number stand side by side in one word, in a table that is probed one place after the other: what
//! is looked up lies in one line of memory, and what is not there nearly always too. The place of a hash
//! is its part of the table's length, so the table is nearly in the order of hashes, and growing moves
//! everything from front to back, without a look at any group.

use crate::prefetch::prefetch;

/// Hash → number, of many groups.
#[derive(Debug, Default)]
pub struct Index {
    /// The hash in the upper half, one more than the number in the lower; zero is an empty place.
    slots: Vec<u64>,
    len: usize,
}

/// The table grows by a quarter when four fifths of it are full: to find what is there takes three steps then.
const FULL: (usize, usize) = (4, 5);

const SLOTS_MIN: usize = 8;

fn slot_of(hash: u32, number: u32) -> u64 {
    u64::from(hash) << 32 | (u64::from(number) + 1)
}

fn hash_of(slot: u64) -> u32 {
    (slot >> 32) as u32
}

impl Index {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Where a hash would stand, if that place is free.
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.slots.len() as u64) >> 32) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 < self.slots.len() { at + 1 } else { 0 }
    }

    /// Has the place where a look for that hash begins brought near.
    pub fn prefetch(&self, hash: u32) {
        self.slots.get(self.home(hash)).into_iter().for_each(prefetch);
    }

    /// The number with that hash that is the right one.
    pub fn find(&self, hash: u32, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash);
        loop {
            let slot = *self.slots.get(at).filter(|slot| **slot > 0)?;
            let number = (slot as u32).wrapping_sub(1);
            if hash_of(slot) == hash && is_it(number) {
                return Some(number);
            }
            at = self.after(at);
        }
    }

    /// Adds one that is not there.
    pub fn insert(&mut self, hash: u32, number: u32) {
        if (self.len + 1) * FULL.1 > self.slots.len() * FULL.0 {
            let slots = (self.slots.len() + self.slots.len() / 4).max(SLOTS_MIN);
            let before = std::mem::replace(&mut self.slots, vec![0; slots]);
            before.into_iter().filter(|slot| *slot > 0).for_each(|slot| self.put(slot));
        }
        self.put(slot_of(hash, number));
        self.len += 1;
    }

    /// In the first free place from its own on.
    fn put(&mut self, slot: u64) {
        let mut at = self.home(hash_of(slot));
        while self.slots[at] > 0 {
            at = self.after(at);
        }
        self.slots[at] = slot;
    }

    /// Takes one out.
    pub fn remove(&mut self, hash: u32, number: u32) {
        let mut hole = self.home(hash);
        loop {
            match self.slots.get(hole) {
                Some(slot) if *slot == slot_of(hash, number) => break,
                None | Some(0) => return,
                Some(_) => hole = self.after(hole),
            }
        }
        // Those behind it move up, as far as their own places let them.
        let mut at = self.after(hole);
        while self.slots[at] > 0 {
            let home = self.home(hash_of(self.slots[at]));
            if self.steps(home, at) >= self.steps(hole, at) {
                self.slots[hole] = self.slots[at];
                hole = at;
            }
            at = self.after(at);
        }
        self.slots[hole] = 0;
        self.len -= 1;
    }

    fn steps(&self, from: usize, to: usize) -> usize {
        if to >= from { to - from } else { to + self.slots.len() - from }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Beside a list of all: many have one hash, and places at the end go on at the front.
    #[test]
    fn an_index_knows_what_went_in_and_did_not_come_out() {
        for spread in [0x1000_0000, 0x0fff_0000, 1] {
            let (mut index, mut all) = (Index::default(), BTreeMap::new());
            let mut random = 0x9e37_79b9_u32;
            for step in 0..20_000_u32 {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let number = random >> 22;
                let hash = u32::MAX - (number % 97).wrapping_mul(spread);
                // More come than go at first, then more go.
                if random & 7 < if step % 8000 < 4000 { 5 } else { 2 } {
                    if all.insert(number, hash).is_none() {
                        index.insert(hash, number);
                    }
                } else {
                    index.remove(hash, number);
                    all.remove(&number);
                }
                assert_eq!(index.len(), all.len());
                let found = index.find(hash, |n| n == number);
                assert_eq!(found.is_some(), all.contains_key(&number), "step {step}");
            }
            assert!(!all.is_empty());
            for (number, hash) in &all {
                assert_eq!(index.find(*hash, |n| n == *number), Some(*number));
                index.remove(*hash, *number);
                assert_eq!(index.find(*hash, |n| n == *number), None);
            }
            assert_eq!((index.len(), index.slots.iter().max()), (0, Some(&0)));
        }
    }
}

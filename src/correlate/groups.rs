//! The groups of one correlation: key → window, found by hash.

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

use super::packed::Key;
use super::store::Keyed;
use crate::window::Window;

/// Groups are kept in pieces of so many, so that growing moves nothing.
const PIECE: usize = 1 << PIECE_BITS;
const PIECE_BITS: u32 = 10;

/// What a group costs beside itself: its places in the index and among the timers.
const APART_BYTES: usize = 24;

/// One group.
#[derive(Debug)]
pub struct Group {
    /// Its values.
    pub key: Key,
    pub(super) hash: u32,
    /// The shard that it is written in.
    pub(super) shard: u8,
    /// Whether it has changed since it was written, and is listed as such.
    pub(super) changed: bool,
    /// Whether it has been written at some time.
    pub(super) written: bool,
    /// What it remembers.
    pub window: Window,
}

/// The groups of one correlation. A group keeps its number as long as it lives.
#[derive(Debug)]
pub struct Groups {
    index: HashTable<u32>,
    pieces: Vec<Vec<Option<Group>>>,
    free: Vec<u32>,
    hasher: RandomState,
    bytes: usize,
}

impl Default for Groups {
    fn default() -> Self {
        Self {
            index: HashTable::new(),
            pieces: Vec::new(),
            free: Vec::new(),
            // Seeded for this process: who chooses the values cannot choose where they collide. No
            // order of anything comes from it.
            hasher: RandomState::default(),
            bytes: 0,
        }
    }
}

fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

impl Groups {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Bytes that they take, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A group, to be looked up.
    pub fn keyed<'k>(&self, bytes: &'k [u8]) -> Keyed<'k> {
        Keyed { bytes, hash: self.hasher.hash_one(bytes) as u32 }
    }

    /// The number of a group that may have a key of that hash, without a look at the group.
    pub fn candidate(&self, hash: u32) -> Option<u32> {
        self.index.find(spread(hash), |_| true).copied()
    }

    /// The number of the group with that key.
    pub fn find(&self, key: Keyed<'_>) -> Option<u32> {
        let same = |number: &u32| {
            self.get(*number).is_some_and(|g| g.hash == key.hash && g.key.bytes() == key.bytes)
        };
        self.index.find(spread(key.hash), same).copied()
    }

    /// The group with that number.
    pub fn get(&self, number: u32) -> Option<&Group> {
        self.pieces.get(number as usize >> PIECE_BITS)?.get(number as usize % PIECE)?.as_ref()
    }

    /// The group with that number, to note something of it that takes no memory.
    pub fn get_mut(&mut self, number: u32) -> Option<&mut Group> {
        let piece = self.pieces.get_mut(number as usize >> PIECE_BITS)?;
        piece.get_mut(number as usize % PIECE)?.as_mut()
    }

    /// Adds a group that is not there yet; gives its number.
    pub fn insert(&mut self, key: Keyed<'_>, shard: u8, window: Window) -> u32 {
        let (hash, key) = (key.hash, Key::of(key.bytes));
        let group = Group { key, hash, shard, changed: false, written: false, window };
        self.bytes += size_of::<Group>() + APART_BYTES + group.key.heap() + group.window.bytes();
        let number = self.put(group);
        let Self { index, pieces, .. } = self;
        let rehash = |n: &u32| {
            let group = &pieces[*n as usize >> PIECE_BITS][*n as usize % PIECE];
            group.as_ref().map_or(0, |g| spread(g.hash))
        };
        index.insert_unique(spread(hash), number, rehash);
        number
    }

    fn put(&mut self, group: Group) -> u32 {
        if let Some(number) = self.free.pop() {
            self.pieces[number as usize >> PIECE_BITS][number as usize % PIECE] = Some(group);
            return number;
        }
        if self.pieces.last().is_none_or(|p| p.len() == PIECE) {
            self.pieces.push(Vec::with_capacity(PIECE));
        }
        let before = (self.pieces.len() - 1) << PIECE_BITS;
        let piece = &mut self.pieces[before >> PIECE_BITS];
        piece.push(Some(group));
        (before + piece.len() - 1) as u32
    }

    /// Lets the group's window do something, and accounts for what it takes then.
    pub fn change<T>(&mut self, number: u32, what: impl FnOnce(&mut Group) -> T) -> Option<T> {
        let group = self.get_mut(number)?;
        let before = group.window.bytes();
        let result = what(group);
        let after = group.window.bytes();
        self.bytes = self.bytes + after - before;
        Some(result)
    }

    /// Takes a group out.
    pub fn remove(&mut self, number: u32) -> Option<Group> {
        let piece = self.pieces.get_mut(number as usize >> PIECE_BITS)?;
        let group = piece.get_mut(number as usize % PIECE)?.take()?;
        if let Ok(entry) = self.index.find_entry(spread(group.hash), |n| *n == number) {
            entry.remove();
        }
        self.bytes -= size_of::<Group>() + APART_BYTES + group.key.heap() + group.window.bytes();
        self.free.push(number);
        if self.index.is_empty() && self.pieces.len() > 1 {
            // What many groups needed is given back when they are gone.
            (self.pieces, self.free) = (Vec::new(), Vec::new());
            self.index = HashTable::new();
        }
        Some(group)
    }

    /// All groups, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Group)> {
        let numbered = (0u32..).zip(self.pieces.iter().flatten());
        numbered.filter_map(|(number, group)| Some((number, group.as_ref()?)))
    }
}

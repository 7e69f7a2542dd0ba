//! The groups of one correlation: key → window, found by hash.

use foldhash::fast::RandomState;
use std::hash::BuildHasher;

use super::index::Index;
use super::packed::Key;
use super::store::Keyed;
use crate::prefetch::prefetch;
use crate::window::Window;

/// Groups are kept in pieces of so many, so that growing moves nothing.
const PIECE: usize = 1 << PIECE_BITS;
const PIECE_BITS: u32 = 10;

/// The number of no group.
pub const NOWHERE: u32 = u32::MAX;

/// What a group costs beside itself: its places in the index, among the timers and in the notes.
const APART_BYTES: usize = 24;

/// Of a cell most is the last few events of the group. It does not grow by mistake: so it never lies in more
/// than two lines of memory.
const _: () = assert!(size_of::<Option<Group>>() == 96);

/// One group.
#[derive(Debug)]
pub struct Group {
    /// Its values.
    pub key: Key,
    /// What it remembers.
    pub window: Window,
}

/// What is noted of a group where groups are written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Note {
    /// The shard that it is written in.
    pub shard: u8,
    /// Whether it has changed since it was written, and is listed as such.
    pub changed: bool,
    /// Whether it has been written at some time.
    pub written: bool,
}

/// The groups of one correlation. A group keeps its number as long as it lives.
#[derive(Debug, Default)]
pub struct Groups {
    index: Index,
    pieces: Vec<Vec<Option<Group>>>,
    /// By number; of none where groups are not written.
    notes: Vec<Note>,
    free: Vec<u32>,
    /// Seeded for this process: who chooses the values cannot choose where they collide. No order of
    /// anything comes from it.
    hasher: RandomState,
    bytes: usize,
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
        Keyed { bytes, hash: self.hash_of(bytes), number: NOWHERE }
    }

    fn hash_of(&self, bytes: &[u8]) -> u32 {
        self.hasher.hash_one(bytes) as u32
    }

    /// Has the place where a look for that hash begins brought near.
    pub(super) fn prefetch_slot(&self, hash: u32) {
        self.index.prefetch(hash);
    }

    /// Has the place where a look for the group with that number begins brought near.
    pub(super) fn prefetch_slot_of(&self, number: u32) {
        if let Some(group) = self.get(number) {
            self.prefetch_slot(self.hash_of(group.key.bytes()));
        }
    }

    /// Has the group that may have a key of that hash brought near; gives its number.
    pub(super) fn prefetch(&self, hash: u32) -> u32 {
        let number = self.index.find(hash, |_| true).unwrap_or(NOWHERE);
        self.prefetch_group(number);
        number
    }

    /// Has the group with that number brought near.
    pub(super) fn prefetch_group(&self, number: u32) {
        self.cell(number).into_iter().for_each(prefetch);
    }

    /// The number of the group with that key.
    pub fn find(&self, key: Keyed<'_>) -> Option<u32> {
        let same = |number| self.get(number).is_some_and(|g| g.key.bytes() == key.bytes);
        if same(key.number) { Some(key.number) } else { self.index.find(key.hash, same) }
    }

    /// The group with that number.
    pub fn get(&self, number: u32) -> Option<&Group> {
        self.cell(number)?.as_ref()
    }

    /// Where the group with that number is, or was.
    fn cell(&self, number: u32) -> Option<&Option<Group>> {
        self.pieces.get(number as usize >> PIECE_BITS)?.get(number as usize % PIECE)
    }

    /// Adds a group that is not there yet; gives its number.
    pub fn insert(&mut self, key: Keyed<'_>, window: Window) -> u32 {
        let group = Group { key: Key::of(key.bytes), window };
        self.bytes += size_of::<Group>() + APART_BYTES + group.key.heap() + group.window.bytes();
        let number = self.put(group);
        self.index.insert(key.hash, number);
        number
    }

    /// Notes something of the group with that number.
    pub(super) fn set_note(&mut self, number: u32, note: Note) {
        let number = number as usize;
        if self.notes.len() <= number {
            self.notes.resize(number + 1, Note::default());
        }
        self.notes[number] = note;
    }

    /// What is noted of the group with that number.
    pub(super) fn note(&mut self, number: u32) -> Option<&mut Note> {
        self.notes.get_mut(number as usize)
    }

    fn put(&mut self, group: Group) -> u32 {
        if let Some(number) = self.free.pop() {
            self.pieces[number as usize >> PIECE_BITS][number as usize % PIECE] = Some(group);
            return number;
        }
        if self.pieces.last().is_none_or(|p| p.len() == PIECE) {
            // Of most correlations one piece is more than enough: it grows as it is needed.
            let room = if self.pieces.is_empty() { 0 } else { PIECE };
            self.pieces.push(Vec::with_capacity(room));
        }
        let before = (self.pieces.len() - 1) << PIECE_BITS;
        let piece = &mut self.pieces[before >> PIECE_BITS];
        piece.push(Some(group));
        (before + piece.len() - 1) as u32
    }

    /// Lets the group's window do something, and accounts for what it takes then.
    pub fn change<T>(&mut self, number: u32, what: impl FnOnce(&mut Group) -> T) -> Option<T> {
        let piece = self.pieces.get_mut(number as usize >> PIECE_BITS)?;
        let group = piece.get_mut(number as usize % PIECE)?.as_mut()?;
        let before = group.window.bytes();
        let result = what(group);
        let after = group.window.bytes();
        self.bytes = self.bytes + after - before;
        Some(result)
    }

    /// Takes a group out, and what is noted of it.
    pub fn remove(&mut self, number: u32) -> Option<(Group, Note)> {
        let piece = self.pieces.get_mut(number as usize >> PIECE_BITS)?;
        let group = piece.get_mut(number as usize % PIECE)?.take()?;
        self.index.remove(self.hash_of(group.key.bytes()), number);
        self.bytes -= size_of::<Group>() + APART_BYTES + group.key.heap() + group.window.bytes();
        self.free.push(number);
        let note = self.note(number).map(std::mem::take).unwrap_or_default();
        if self.index.len() == 0 && self.pieces.len() > 1 {
            // What many groups needed is given back when they are gone; what was hashed remains valid.
            *self = Self { hasher: self.hasher.clone(), ..Self::default() };
        }
        Some((group, note))
    }

    /// All groups, in no order that means anything.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &Group)> {
        let numbered = (0u32..).zip(self.pieces.iter().flatten());
        numbered.filter_map(|(number, group)| Some((number, group.as_ref()?)))
    }
}

//! Which keys begin a wanted field: a table over the keys of a tree of objects.
//!
//! A field `a.b.c` is looked for as [`FieldPath::find`](crate::event::FieldPath::find) does: in an
//! object, the rest of its path as one flat key, else its first segment, below which the rest is looked
//! for in the same way. So each field adds, at every object on its way, a leaf and a way.

use std::collections::HashMap;

use crate::event::FieldPath;

/// No field, no object, no key.
pub(super) const NONE: u32 = u32::MAX;

/// The object at the top.
pub(super) const ROOT: u32 = 0;

/// The key must be read the slow way; stands in the place of a way.
pub(super) const STOP: u32 = u32::MAX - 1;

/// Any odd number with well mixed bits: 2^64 over the golden ratio.
const MIX: u64 = 0x9E37_79B9_7F4A_7C15;

/// Keeps that many bytes of a word.
const MASKS: [u64; 9] = {
    let mut masks = [u64::MAX; 9];
    let mut bytes = 0;
    while bytes < 8 {
        masks[bytes] = (1 << (8 * bytes)) - 1;
        bytes += 1;
    }
    masks
};

/// A key as it is compared first: all of it up to 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Words {
    /// The first eight bytes; zeros are behind a shorter key.
    head: u64,
    /// The last eight bytes; the same as `head` of a shorter key.
    tail: u64,
    /// The length, and the object that the key is of.
    tag: u64,
}

impl Words {
    /// Of a key of an object, from `start` in `text`.
    #[inline(always)]
    pub fn new(text: &[u8], start: usize, length: usize, object: u32) -> Self {
        let word = |at: usize| text.get(at..at + 8).and_then(|bytes| bytes.first_chunk());
        let (head, tail) = (word(start), word(start + length.saturating_sub(8)));
        let (Some(head), Some(tail)) = (head, tail) else {
            return Self::short(&text[start..start + length], object);
        };
        let mask = MASKS[length.min(8)];
        Self {
            head: u64::from_le_bytes(*head) & mask,
            tail: u64::from_le_bytes(*tail) & mask,
            tag: tag(length, object),
        }
    }

    /// Of a key with less than eight bytes from its start to the end of the text.
    #[cold]
    fn short(key: &[u8], object: u32) -> Self {
        let mut padded = [0; 8];
        padded[..key.len()].copy_from_slice(key);
        let head = u64::from_le_bytes(padded);
        Self { head, tail: head, tag: tag(key.len(), object) }
    }

    #[inline(always)]
    fn hash(self) -> u64 {
        (self.head ^ self.tail.rotate_left(23) ^ self.tag.rotate_left(56)).wrapping_mul(MIX)
    }
}

/// Keys and objects are fewer than 2^32.
fn tag(length: usize, object: u32) -> u64 {
    length as u64 | u64::from(object) << 32
}

/// A key of an object on the way to a wanted field.
#[derive(Clone, Debug)]
pub(super) struct Key {
    words: Words,
    /// Bytes 8 to 15.
    middle: u64,
    /// The field whose value it has.
    pub field: u32,
    /// The object that is below it, or [`STOP`].
    pub way: u32,
    /// Of a flat key with dots, the key of its first segment.
    pub rival: u32,
    name: Box<str>,
}

impl Key {
    /// Whether what the words leave out of the name is the same, too.
    #[inline(always)]
    fn continues(&self, name: &[u8]) -> bool {
        match name {
            [_, _, _, _, _, _, _, _, rest @ ..] if name.len() > 16 => {
                let middle = rest.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
                middle == Some(self.middle) && (name.len() <= 24 || self.name.as_bytes() == name)
            }
            _ => true,
        }
    }
}

/// The keys that are looked for.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    keys: Vec<Key>,
    /// Open addressing: a key's number plus one, or 0. A power of two, mostly empty.
    slots: Vec<u32>,
    shift: u32,
    prefixes: Vec<Box<str>>,
    /// A bit for the last six bits of the first byte of each prefix.
    starts: u64,
    fields: usize,
}

impl Keys {
    /// For fields by number.
    pub fn new(fields: &[FieldPath], stop_names: &[&str], stop_prefixes: &[&str]) -> Self {
        let mut tree = Tree::default();
        for (field, path) in (0..).zip(fields) {
            tree.add(path.as_str(), field);
        }
        for name in stop_names {
            let key = tree.key(ROOT, name);
            tree.keys[key as usize].way = STOP;
        }
        let slots = (tree.keys.len() * 8).next_power_of_two().max(64);
        let shift = 64 - slots.trailing_zeros();
        let slots = vec![0; slots];
        let mut all = Self {
            keys: tree.keys,
            slots,
            shift,
            prefixes: stop_prefixes.iter().map(|name| (*name).into()).collect(),
            starts: stop_prefixes.iter().fold(0, |all, name| all | starts(name)),
            fields: fields.len(),
        };
        (0..all.keys.len()).for_each(|key| all.place(key));
        all
    }

    fn place(&mut self, key: usize) {
        let mut slot = (self.keys[key].words.hash() >> self.shift) as usize;
        while self.slots[slot] != 0 {
            slot = (slot + 1) & (self.slots.len() - 1);
        }
        self.slots[slot] = key as u32 + 1;
    }

    /// How many fields there are.
    pub fn fields(&self) -> usize {
        self.fields
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key of that name, and its number.
    #[inline(always)]
    pub fn find(&self, words: Words, name: &[u8]) -> Option<(usize, &Key)> {
        let mut slot = (words.hash() >> self.shift) as usize;
        loop {
            let number = (self.slots[slot] as usize).checked_sub(1)?;
            let key = &self.keys[number];
            if key.words == words && key.continues(name) {
                return Some((number, key));
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }

    /// Whether a key at the top starts so that the slow way must read it.
    #[inline(always)]
    pub fn stops(&self, words: Words, name: &[u8]) -> bool {
        self.starts >> (words.head % 64) & 1 == 1
            && self.prefixes.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
    }
}

/// The bit of what a key starts with; an empty prefix has those of all.
fn starts(prefix: &str) -> u64 {
    prefix.bytes().next().map_or(u64::MAX, |byte| 1 << (byte % 64))
}

/// The keys while they are put together.
#[derive(Default)]
struct Tree {
    keys: Vec<Key>,
    numbers: HashMap<(u32, Box<str>), u32>,
    objects: u32,
}

impl Tree {
    /// The number of the key of an object.
    fn key(&mut self, object: u32, name: &str) -> u32 {
        let next = self.keys.len() as u32;
        let number = *self.numbers.entry((object, name.into())).or_insert(next);
        if number == next {
            let words = match name.len() {
                0..8 => Words::short(name.as_bytes(), object),
                length => Words::new(name.as_bytes(), 0, length, object),
            };
            let middle = name.as_bytes().get(8..).and_then(|rest| rest.first_chunk());
            let middle = middle.map_or(0, |bytes| u64::from_le_bytes(*bytes));
            let name = name.into();
            self.keys.push(Key { words, middle, field: NONE, way: NONE, rival: NONE, name });
        }
        number
    }

    fn add(&mut self, path: &str, field: u32) {
        let (mut object, mut rest) = (ROOT, path);
        loop {
            let leaf = self.key(object, rest) as usize;
            self.keys[leaf].field = field;
            let Some((segment, below)) = rest.split_once('.') else { return };
            let way = self.key(object, segment);
            self.keys[leaf].rival = way;
            let way = &mut self.keys[way as usize].way;
            if *way == NONE {
                self.objects += 1;
                *way = self.objects;
            }
            (object, rest) = (*way, below);
        }
    }
}

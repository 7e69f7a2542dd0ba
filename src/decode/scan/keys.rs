//! Which keys begin a wanted field: a table over the keys of a tree of objects.
//!
//! A field `a.b.c` is looked for as [`FieldPath::find`](crate::event::FieldPath::find) does: in an
//! object, the rest of its path as one flat key, else its first segment, below which the rest is looked
//! for in the same way. So each field adds, at every object on its way, a leaf and a way.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::event::FieldPath;

/// No field, no object, no key.
pub(super) const NONE: u32 = u32::MAX;

/// The object at the top.
pub(super) const ROOT: u32 = 0;

/// The key must be read the slow way; stands in the place of a way.
pub(super) const STOP: u32 = u32::MAX - 1;

/// The next identity; none has the first.
static IDENTITIES: AtomicU64 = AtomicU64::new(1);

/// Any odd number with well mixed bits: 2^64 over the golden ratio.
const MIX: u64 = 0x9E37_79B9_7F4A_7C15;

/// Keeps that many bytes of sixteen.
const MASKS: [u128; 17] = {
    let mut masks = [u128::MAX; 17];
    let mut bytes = 0;
    while bytes < 16 {
        masks[bytes] = (1 << (8 * bytes)) - 1;
        bytes += 1;
    }
    masks
};

/// A key as it is compared first: all of it up to 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Words {
    /// The first sixteen bytes; zeros are behind a shorter key.
    start: u128,
    /// The length, and the object that the key is of.
    tag: u64,
}

impl Words {
    /// Of a key of an object, from `start` in `text`.
    #[inline(always)]
    pub fn new(text: &[u8], start: usize, length: usize, object: u32) -> Self {
        // Keys and objects are fewer than 2^32.
        let tag = length as u64 | u64::from(object) << 32;
        Self { start: sixteen(text, start) & MASKS[length.min(16)], tag }
    }

    /// The first sixteen bytes; zeros are behind a shorter key.
    #[inline(always)]
    pub fn start(self) -> u128 {
        self.start
    }

    #[inline(always)]
    fn length(self) -> usize {
        self.tag as u32 as usize
    }

    fn object(self) -> u32 {
        (self.tag >> 32) as u32
    }

    #[inline(always)]
    pub fn hash(self) -> u64 {
        mixed(folded(self.start).wrapping_add(self.tag))
    }
}

/// Sixteen bytes in eight.
#[inline(always)]
pub(super) fn folded(bytes: u128) -> u64 {
    bytes as u64 ^ ((bytes >> 64) as u64).rotate_left(23)
}

/// A hash whose upper bits count.
#[inline(always)]
pub(super) fn mixed(word: u64) -> u64 {
    word.wrapping_mul(MIX)
}

/// Sixteen bytes from `start`, with zeros behind the end.
#[inline(always)]
pub(super) fn sixteen(text: &[u8], start: usize) -> u128 {
    match text.get(start..).and_then(|rest| rest.first_chunk()) {
        Some(bytes) => u128::from_le_bytes(*bytes),
        None => near_the_end(text, start),
    }
}

/// The bytes from `start`, which are fewer than sixteen.
#[cold]
fn near_the_end(text: &[u8], start: usize) -> u128 {
    text[start..].iter().rev().fold(0, |all, byte| all << 8 | u128::from(*byte))
}

/// A key of an object on the way to a wanted field.
#[derive(Clone, Debug)]
pub(super) struct Key {
    words: Words,
    /// The field whose value it has.
    pub field: u32,
    /// The object that is below it, or [`STOP`].
    pub way: u32,
    /// Of a flat key with dots, the key of its first segment.
    pub rival: u32,
    name: Box<str>,
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
    objects: u32,
    identity: u64,
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
        let stops = |key: &Key| stop_prefixes.iter().any(|prefix| key.name.starts_with(prefix));
        tree.keys
            .iter_mut()
            .filter(|key| key.words.object() == ROOT && stops(key))
            .for_each(|key| key.way = STOP);
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
            objects: tree.objects + 1,
            identity: IDENTITIES.fetch_add(1, Ordering::Relaxed),
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

    /// How many objects there are, that at the top being the first.
    pub fn objects(&self) -> u32 {
        self.objects
    }

    /// What no others have but copies of these.
    pub fn identity(&self) -> u64 {
        self.identity
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key of these words that begins there, and its number; it has no space and no backslash.
    #[inline(always)]
    pub fn find(&self, words: Words, text: &[u8], start: usize) -> Option<(usize, &Key)> {
        let mut slot = (words.hash() >> self.shift) as usize;
        loop {
            let number = (*self.slots.get(slot)? as usize).checked_sub(1)?;
            let key = self.keys.get(number)?;
            if key.words == words && (words.length() <= 16 || key.is_at(text, start)) {
                return Some((number, key));
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }

    /// Of a flat key with dots, the key of its first segment.
    pub fn rival(&self, key: u32) -> u32 {
        self.keys[key as usize].rival
    }

    /// Whether a key at the top starts so that the slow way must read it.
    #[inline(always)]
    pub fn stops(&self, words: Words, text: &[u8], start: usize) -> bool {
        self.starts >> (words.start as u64 % 64) & 1 == 1
            && self.has_prefix(&text[start..start + words.length()])
    }

    #[inline(never)]
    fn has_prefix(&self, name: &[u8]) -> bool {
        self.prefixes.iter().any(|prefix| name.starts_with(prefix.as_bytes()))
    }
}

impl Key {
    /// Whether the name of more than 16 bytes that begins there is this key's.
    #[inline(never)]
    fn is_at(&self, text: &[u8], start: usize) -> bool {
        let (name, text) = (self.name.as_bytes(), &text[start..]);
        let last = |bytes: &[u8]| bytes.last_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        match text.get(..name.len()) {
            // The words are the first 16 bytes.
            Some(text) if name.len() <= 24 => last(text) == last(name),
            text => text == Some(name),
        }
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
            let words = Words::new(name.as_bytes(), 0, name.len(), object);
            let name = name.into();
            self.keys.push(Key { words, field: NONE, way: NONE, rival: NONE, name });
        }
        number
    }

    /// Adds the keys of a field, unless no key that the scanner takes can be its own.
    fn add(&mut self, path: &str, field: u32) {
        if path.contains([' ', '\\']) {
            return;
        }
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

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

/// A key as it is compared: its first and last eight bytes, which overlap, or are the same, if it is
/// short; then there are zeros behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Words {
    head: u64,
    tail: u64,
    length: usize,
}

impl Words {
    /// Of a key that is not empty and lies in `text`.
    #[inline(always)]
    pub fn new(text: &[u8], start: usize, end: usize) -> Self {
        let length = end - start;
        let head = text.get(start..start + 8).and_then(|bytes| bytes.first_chunk());
        let tail = text.get(end.wrapping_sub(8)..end).and_then(|bytes| bytes.first_chunk());
        let (Some(head), Some(tail)) = (head, tail) else {
            return Self::near_an_end(&text[start..end]);
        };
        let spare = 64 - 8 * length.min(8) as u32;
        Self {
            head: u64::from_le_bytes(*head) << spare >> spare,
            tail: u64::from_le_bytes(*tail) >> spare,
            length,
        }
    }

    #[cold]
    fn near_an_end(key: &[u8]) -> Self {
        let (mut head, mut tail) = ([0; 8], [0; 8]);
        let short = key.len().min(8);
        head[..short].copy_from_slice(&key[..short]);
        tail[..short].copy_from_slice(&key[key.len() - short..]);
        Self { head: u64::from_le_bytes(head), tail: u64::from_le_bytes(tail), length: key.len() }
    }

    #[inline(always)]
    fn hash(self, object: u32) -> u64 {
        let extra = (self.length as u64) << 56 | u64::from(object) << 32;
        (self.head ^ self.tail.rotate_left(23) ^ extra).wrapping_mul(MIX)
    }
}

/// A key of an object on the way to a wanted field.
#[derive(Clone, Debug)]
pub(super) struct Key {
    words: Words,
    object: u32,
    /// The field whose value it has.
    pub field: u32,
    /// The object that is below it, or [`STOP`].
    pub way: u32,
    /// Of a flat key with dots, the key of its first segment.
    pub rival: u32,
    name: Box<str>,
}

/// How keys may begin that must be read the slow way.
#[derive(Clone, Debug)]
struct Prefix {
    head: u64,
    mask: u64,
    name: Box<str>,
}

/// The keys that are looked for.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    keys: Vec<Key>,
    /// Open addressing: a key's number plus one, or 0. A power of two, mostly empty.
    slots: Vec<u32>,
    shift: u32,
    prefixes: Vec<Prefix>,
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
        let prefixes = stop_prefixes.iter().map(|name| Prefix::new(name)).collect();
        let slots = vec![0; slots];
        let mut all = Self { keys: tree.keys, slots, shift, prefixes, fields: fields.len() };
        (0..all.keys.len()).for_each(|key| all.place(key));
        all
    }

    fn place(&mut self, key: usize) {
        let Key { words, object, .. } = self.keys[key];
        let mut slot = (words.hash(object) >> self.shift) as usize;
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

    /// The key of an object, and its number.
    #[inline(always)]
    pub fn find(&self, object: u32, words: Words, name: &[u8]) -> Option<(usize, &Key)> {
        let mut slot = (words.hash(object) >> self.shift) as usize;
        loop {
            let number = (self.slots[slot] as usize).checked_sub(1)?;
            let key = &self.keys[number];
            let same = key.words == words && key.object == object;
            if same && (words.length <= 16 || key.name.as_bytes() == name) {
                return Some((number, key));
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }

    /// Whether a key at the top starts so that the slow way must read it.
    #[inline(always)]
    pub fn stops(&self, words: Words, name: &[u8]) -> bool {
        let starts = |prefix: &Prefix| words.head & prefix.mask == prefix.head;
        self.prefixes.iter().any(|p| starts(p) && name.starts_with(p.name.as_bytes()))
    }
}

impl Prefix {
    fn new(name: &str) -> Self {
        let head = Words::near_an_end(name.as_bytes()).head;
        let mask = Words::near_an_end(&vec![u8::MAX; name.len()]).head;
        Self { head, mask, name: name.into() }
    }
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
            let words = Words::near_an_end(name.as_bytes());
            let name = name.into();
            self.keys.push(Key { words, object, field: NONE, way: NONE, rival: NONE, name });
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

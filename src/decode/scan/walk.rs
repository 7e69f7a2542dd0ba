//! The second pass over a record: its grammar outside of strings, and what is the value of what.
//!
//! `None` means that the slow way has to read the record. Strings are never looked into: the first
//! pass has found where they end.

use super::keys::{Keys, NONE, ROOT, STOP, Words};
use super::order::{NO_ROLE, Order, Role};
use crate::event::{Kind, View};

/// Containers in each other that are gone into; serde_json takes 127.
const DEPTH_MAX: u32 = 100;

/// Digits that an integer may have to be sure to fit in an i64.
const INT_DIGITS_MAX: usize = 18;

/// Bytes of a number that is no such integer, and digits of its exponent, so that it surely is below
/// what an f64 can hold.
const NUMBER_BYTES_MAX: usize = 100;
const EXPONENT_DIGITS_MAX: usize = 2;

/// When a key was last met, by the number of the object around it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// The key itself.
    key: u32,
    /// A flat key with dots whose first segment it is.
    rival: u32,
}

/// One record being read.
pub(super) struct Walk<'w> {
    pub keys: &'w Keys,
    /// Whether scalars that belong to no field are kept.
    pub keeps_all: bool,
    pub record: &'w [u8],
    /// Where quotes and brackets stand.
    pub places: &'w [u32],
    /// See [`Index`](super::index::Index).
    pub marks: &'w [u8],
    pub view: &'w mut View,
    pub seen: &'w mut [Seen],
    pub order: &'w mut Order,
    /// How many objects were read, ever.
    pub objects: &'w mut u32,
}

/// Where the walk is: the next byte, and the next of the indexed places.
#[derive(Clone, Copy)]
struct At {
    byte: usize,
    place: usize,
}

/// An object being read.
#[derive(Clone, Copy)]
struct Object {
    /// Which of those that lead to fields, if it does.
    number: u32,
    /// How many were read up to it.
    instance: u32,
    /// The way that its keys went so far.
    step: u32,
    /// Whether those are noted in `seen`: from the first on that is new.
    noted: bool,
}

/// In the place of an object: the slow way has to read the record.
const REFUSED: Role = Role { field: NONE, object: STOP };

impl Walk<'_> {
    /// Reads the whole record.
    pub fn record(mut self) -> Option<()> {
        let mut byte = 0;
        if self.solid(&mut byte)? != b'{' {
            return None;
        }
        let end = self.object(At { byte: byte + 1, place: 1 }, ROOT, DEPTH_MAX)?.byte;
        self.record[end..].iter().all(|b| is_space(*b)).then_some(())
    }

    /// The byte at a position, or the first behind it that is no whitespace.
    #[inline(always)]
    fn solid(&self, byte: &mut usize) -> Option<u8> {
        match *self.record.get(*byte)? {
            found if found > b' ' => Some(found),
            _ => {
                *byte = self.behind_space(*byte);
                self.record.get(*byte).copied()
            }
        }
    }

    #[inline(never)]
    fn behind_space(&self, byte: usize) -> usize {
        let rest = &self.record[byte..];
        byte + rest.iter().position(|b| !is_space(*b)).unwrap_or(rest.len())
    }

    #[inline(always)]
    fn place(&self, number: usize) -> Option<usize> {
        self.places.get(number).map(|place| *place as usize)
    }

    /// Reads an object from behind its bracket.
    fn object(&mut self, mut at: At, number: u32, depth: u32) -> Option<At> {
        *self.objects += 1;
        let step = self.order.first(number);
        let mut object = Object { number, instance: *self.objects, step, noted: false };
        match self.solid(&mut at.byte)? {
            b'}' => return Some(At { byte: at.byte + 1, place: at.place + 1 }),
            b'"' => {}
            _ => return None,
        }
        loop {
            at = self.texts(at, &mut object)?;
            let end = self.place(at.place + 1)?;
            let role = self.key(at.byte + 1, end, &mut object);
            if role.object == STOP {
                return None;
            }
            at = At { byte: self.behind_colon(end + 1)?, place: at.place + 2 };
            at = self.value(at, role, depth)?;
            match self.pair(at.byte) {
                Some([b',', b'"']) => at.byte += 1,
                _ if self.solid(&mut at.byte)? == b'}' => {
                    return Some(At { byte: at.byte + 1, place: at.place + 1 });
                }
                _ => at.byte = self.behind_comma(at.byte)?,
            }
        }
    }

    /// Reads the members from the key at hand on that are strings, written without whitespace and not
    /// the last: what most members are. Apart from [`Walk::object`], which so keeps what it needs in
    /// registers.
    #[inline(never)]
    fn texts(&mut self, mut at: At, object: &mut Object) -> Option<At> {
        let mut reading = *object;
        while let Some([_, close, start, end]) = self.places.get(at.place..)?.first_chunk() {
            let (close, start, end) = (*close as usize, *start as usize, *end as usize);
            if !self.has(close, b"\":\"") || !self.has(end, b"\",\"") {
                break;
            }
            let role = self.key(at.byte + 1, close, &mut reading);
            if role.object == STOP {
                return None;
            }
            self.push(role.field, Kind::Str, start + 1, end);
            at = At { byte: end + 2, place: at.place + 4 };
        }
        *object = reading;
        Some(at)
    }

    /// Whether these bytes stand there; false as well close to the end of the record.
    #[inline(always)]
    fn has(&self, byte: usize, expected: &[u8; 3]) -> bool {
        let [a, b, c] = *expected;
        let found = self.record.get(byte..).and_then(|rest| rest.first_chunk());
        found.is_some_and(|found| {
            u32::from_le_bytes(*found) << 8 == u32::from_le_bytes([0, a, b, c])
        })
    }

    #[inline(always)]
    fn pair(&self, byte: usize) -> Option<[u8; 2]> {
        self.record.get(byte..).and_then(|rest| rest.first_chunk()).copied()
    }

    /// The value behind a key that ends before `byte`.
    #[inline(always)]
    fn behind_colon(&self, mut byte: usize) -> Option<usize> {
        match self.pair(byte) {
            Some([b':', value]) if value > b' ' => Some(byte + 1),
            _ if self.solid(&mut byte)? == b':' => {
                byte += 1;
                self.solid(&mut byte).map(|_| byte)
            }
            _ => None,
        }
    }

    /// The next key behind the comma at `byte`.
    fn behind_comma(&self, mut byte: usize) -> Option<usize> {
        let comma = self.record[byte] == b',';
        byte += 1;
        (comma && self.solid(&mut byte)? == b'"').then_some(byte)
    }

    /// Reads an array from behind its bracket; its items have the role that it has.
    fn array(&mut self, mut at: At, role: Role, depth: u32) -> Option<At> {
        if self.solid(&mut at.byte)? == b']' {
            return Some(At { byte: at.byte + 1, place: at.place + 1 });
        }
        loop {
            self.solid(&mut at.byte)?;
            at = self.value(at, role, depth)?;
            match self.solid(&mut at.byte)? {
                b',' => at.byte += 1,
                b']' => return Some(At { byte: at.byte + 1, place: at.place + 1 }),
                _ => return None,
            }
        }
    }

    /// What a key of an object begins, or [`REFUSED`].
    #[inline(always)]
    fn key(&mut self, start: usize, end: usize, object: &mut Object) -> Role {
        if let Some((step, role)) = self.order.follow(object.step, self.record, start, end - start)
        {
            object.step = step;
            return role;
        }
        let role;
        (*object, role) = self.other_key(start, end, *object);
        role
    }

    /// The same for a key that is not the one that came there last, and how the object goes on.
    #[inline(never)]
    fn other_key(&mut self, start: usize, end: usize, object: Object) -> (Object, Role) {
        let length = end - start;
        if let Some((step, role)) = self.order.follow_any(object.step, self.record, start, length) {
            return (Object { step, ..object }, role);
        }
        if !object.noted {
            // Once: behind a new key all that begin a field are new. No object is part of one of its own number,
            // so nothing else goes on from there meanwhile but objects without fields.
            for key in self.order.way(object.step) {
                mark(self.keys, self.seen, key, object.instance);
            }
        }
        let Some(key) = self.new_key(start, length, object) else { return (object, REFUSED) };
        let step = self.order.add(object.step, self.record, (start, length), key);
        (Object { step, noted: true, ..object }, key.1)
    }

    /// The number of a key, if it is known, and what it begins. Those before it are noted.
    fn new_key(&mut self, start: usize, length: usize, object: Object) -> Option<(u32, Role)> {
        let Object { number: object, instance, .. } = object;
        let words = Words::new(self.record, start, length, object);
        let found = if object == NONE { None } else { self.keys.find(words, self.record, start) };
        let Some((number, key)) = found else {
            let stops = object == ROOT && self.keys.stops(words, self.record, start);
            return (!stops && self.is_plain(start, length)).then_some((NONE, NO_ROLE));
        };
        let seen = self.seen[number];
        let is_rival = key.rival != NONE && self.seen[key.rival as usize].key == instance;
        if key.way == STOP || seen.key == instance || seen.rival == instance || is_rival {
            return None;
        }
        let number = number as u32;
        mark(self.keys, self.seen, number, instance);
        Some((number, Role { field: key.field, object: key.way }))
    }

    /// Whether a key is not empty and has neither spaces nor escapes.
    #[inline(always)]
    fn is_plain(&self, start: usize, length: usize) -> bool {
        match self.marks.get(start / 8..).and_then(|bytes| bytes.first_chunk()) {
            Some(marks) if length.wrapping_sub(1) < 56 => {
                u64::from_le_bytes(*marks) >> (start % 8) << (64 - length) == 0
            }
            _ => self.is_plain_and_long(start, length),
        }
    }

    #[cold]
    fn is_plain_and_long(&self, start: usize, length: usize) -> bool {
        let mut name = self.record[start..start + length].iter();
        length > 0 && !name.any(|byte| b" \\".contains(byte))
    }

    /// Reads a value.
    #[inline(always)]
    fn value(&mut self, at: At, role: Role, depth: u32) -> Option<At> {
        let first = *self.record.get(at.byte)?;
        if first == b'"' {
            let end = self.place(at.place + 1)?;
            self.push(role.field, Kind::Str, at.byte + 1, end);
            return Some(At { byte: end + 1, place: at.place + 2 });
        }
        let (kind, end) = match first {
            b'{' | b'[' => return self.container(first, at, role, depth),
            b't' => (Kind::True, self.literal(at.byte, b"true")?),
            b'f' => (Kind::False, self.literal(at.byte, b"false")?),
            b'n' => (Kind::Null, self.literal(at.byte, b"null")?),
            _ => number(self.record, at.byte)?,
        };
        self.push(role.field, kind, at.byte, end);
        Some(At { byte: end, place: at.place })
    }

    #[inline(never)]
    fn container(&mut self, bracket: u8, at: At, role: Role, depth: u32) -> Option<At> {
        let depth = depth.checked_sub(1).filter(|left| *left > 0)?;
        if role.field != NONE {
            self.view.touch(role.field);
        }
        let behind = At { byte: at.byte + 1, place: at.place + 1 };
        match bracket {
            b'{' => self.object(behind, role.object, depth),
            _ => self.array(behind, role, depth),
        }
    }

    #[inline(always)]
    fn push(&mut self, field: u32, kind: Kind, start: usize, end: usize) {
        let (start, end) = (start as u32, end as u32);
        match field {
            NONE if !self.keeps_all => {}
            NONE => self.view.push(kind, start, end),
            field => self.view.push_to(field, kind, start, end),
        }
    }

    fn literal(&self, at: usize, word: &[u8]) -> Option<usize> {
        let end = at + word.len();
        (self.record.get(at..end)? == word).then_some(end)
    }
}

/// Notes that an object has a key.
fn mark(keys: &Keys, seen: &mut [Seen], key: u32, instance: u32) {
    seen[key as usize].key = instance;
    if let Some(rival) = seen.get_mut(keys.rival(key) as usize) {
        rival.rival = instance;
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// The kind and the end of the number at `at`.
#[inline(never)]
fn number(text: &[u8], at: usize) -> Option<(Kind, usize)> {
    let minus = usize::from(text[at] == b'-');
    let start = at + minus;
    let end = digits(text, start);
    let zero = text.get(start) == Some(&b'0');
    if end == start || zero && end > start + 1 {
        return None;
    }
    if matches!(text.get(end), Some(b'.' | b'e' | b'E')) {
        return fraction(text, at, end);
    }
    match end - start {
        1..=INT_DIGITS_MAX if !zero || minus == 0 => Some((Kind::Int, end)),
        1..=NUMBER_BYTES_MAX => Some((Kind::Number, end)),
        _ => None,
    }
}

/// The same, of one that has a fraction or an exponent at `at`.
fn fraction(text: &[u8], start: usize, mut at: usize) -> Option<(Kind, usize)> {
    if text.get(at) == Some(&b'.') {
        let end = digits(text, at + 1);
        if end == at + 1 {
            return None;
        }
        at = end;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at += 1 + usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        let end = digits(text, at);
        if !(1..=EXPONENT_DIGITS_MAX).contains(&(end - at)) {
            return None;
        }
        at = end;
    }
    (at - start <= NUMBER_BYTES_MAX).then_some((Kind::Number, at))
}

/// Behind the digits that begin at `at`.
#[inline(always)]
fn digits(text: &[u8], mut at: usize) -> usize {
    while text.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    at
}

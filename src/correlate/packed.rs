//! Values in one piece of memory.
//!
//! Each is its length, seven bits a byte, and its bytes; the length is one more than it is, so that none at all,
//! a zero, is not the empty text. What was packed so can be put together from parts of what was packed before.

use std::cmp::Ordering;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::ids::GroupKey;

/// The values of a group: an address or a user's name needs no memory of its own, mostly not even both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(Bytes);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Bytes {
    /// So many of these; the others are zero.
    Short(u8, [u8; SHORT]),
    Long(Box<[u8]>),
}

/// What fits beside the length where a long one has its pointer.
const SHORT: usize = 22;

/// The values of a match: nor do an address and a user's name.
pub type Values = SmallVec<[u8; 32]>;

impl Key {
    /// Of bytes that [`encode`] wrote.
    pub fn of(bytes: &[u8]) -> Self {
        let mut short = [0; SHORT];
        match short.get_mut(..bytes.len()) {
            Some(to) => {
                to.copy_from_slice(bytes);
                Self(Bytes::Short(bytes.len() as u8, short))
            }
            None => Self(Bytes::Long(bytes.into())),
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Bytes::Short(len, bytes) => &bytes[..usize::from(*len).min(SHORT)],
            Bytes::Long(bytes) => bytes,
        }
    }

    /// Bytes on the heap.
    pub fn heap(&self) -> usize {
        match &self.0 {
            Bytes::Short(..) => 0,
            Bytes::Long(bytes) => bytes.len(),
        }
    }

    /// The values again.
    pub fn group(&self) -> GroupKey {
        GroupKey(parts(self.bytes()).map(|part| part.text().map(Arc::from)).collect())
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.bytes().cmp(other.bytes())
    }
}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// One of some packed values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'b> {
    /// As it was packed.
    pub packed: &'b [u8],
    /// How many of its bytes say how long it is.
    head: usize,
}

impl<'b> Part<'b> {
    /// Whether it is a value at all.
    pub fn is_some(self) -> bool {
        self.packed.first().is_some_and(|first| *first > 0)
    }

    /// The bytes of its text.
    pub fn bytes(self) -> Option<&'b [u8]> {
        self.is_some().then(|| &self.packed[self.head..])
    }

    /// Its text.
    pub fn text(self) -> Option<&'b str> {
        // It was packed of a text.
        self.bytes().map(|bytes| std::str::from_utf8(bytes).unwrap_or_default())
    }
}

/// The values in their order.
pub fn parts(bytes: &[u8]) -> impl Iterator<Item = Part<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (size, head) = length(rest)?;
        let end = (head + size.saturating_sub(1)).min(rest.len());
        let packed;
        (packed, rest) = rest.split_at(end);
        Some(Part { packed, head })
    })
}

/// The value at a place.
pub fn part(bytes: &[u8], place: usize) -> Option<Part<'_>> {
    parts(bytes).nth(place)
}

/// Appends one value, the bytes of a text; none is not the empty text.
pub fn encode(value: Option<&[u8]>, into: &mut Vec<u8>) {
    let Some(text) = value else { return into.push(0) };
    let mut size = text.len() + 1;
    while size >= 0x80 {
        into.push(size as u8 | 0x80);
        size >>= 7;
    }
    into.push(size as u8);
    into.extend_from_slice(text);
}

/// Reads a length, seven bits a byte, the lowest first, and how many bytes it took.
fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut size = 0;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        size |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((size, at + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_out_as_they_went_in_and_no_two_look_alike() {
        let (long, longer) = ("x".repeat(126), "y".repeat(300));
        let groups: [&[Option<&str>]; 10] = [
            &[],
            &[None],
            &[Some("")],
            &[Some("a"), None],
            &[None, Some("a")],
            &[Some("ab"), Some("c")],
            &[Some("a"), Some("bc")],
            &[Some("203.0.113.100"), Some("user000001")],
            &[Some(&long), Some("ü")],
            &[Some(&longer), None, Some(&long)],
        ];
        let mut all = std::collections::BTreeSet::new();
        for group in groups {
            let mut bytes = Vec::new();
            group.iter().for_each(|v| encode(v.map(str::as_bytes), &mut bytes));
            let again = GroupKey(group.iter().map(|v| v.map(Arc::from)).collect());
            assert_eq!(Key::of(&bytes).group(), again);
            let texts: Vec<_> = parts(&bytes).map(Part::text).collect();
            assert_eq!(texts, group);
            let joined: Vec<u8> = parts(&bytes).flat_map(|p| p.packed.to_vec()).collect();
            assert_eq!(joined, bytes);
            assert_eq!(part(&bytes, group.len()), None);
            assert!(all.insert(bytes));
        }
    }

    #[test]
    fn bytes_that_nobody_packed_are_no_end_of_values() {
        for bytes in [&[0x80; 20][..], &[9, b'a'], &[2, 0xff], &[0xff; 3]] {
            assert!(parts(bytes).count() <= bytes.len());
            assert!(parts(bytes).all(|p| p.text().is_none_or(|t| t.len() < bytes.len())));
        }
    }
}

//! The values of a group in one piece of memory.

use std::sync::Arc;

use crate::ids::GroupKey;

/// Bytes that need no memory of their own: an address or a user's name.
const SHORT: usize = 22;

/// The values of a group, each with its length before it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Few bytes.
    Short(u8, [u8; SHORT]),
    /// More.
    Long(Box<[u8]>),
}

impl Default for Key {
    fn default() -> Self {
        Self::Short(0, [0; SHORT])
    }
}

impl Key {
    /// Of bytes that [`encode`] wrote.
    pub fn of(bytes: &[u8]) -> Self {
        if bytes.len() > SHORT {
            return Self::Long(bytes.into());
        }
        let mut short = [0; SHORT];
        short[..bytes.len()].copy_from_slice(bytes);
        Self::Short(bytes.len() as u8, short)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Short(len, bytes) => &bytes[..usize::from(*len)],
            Self::Long(bytes) => bytes,
        }
    }

    /// Bytes on the heap.
    pub fn heap(&self) -> usize {
        match self {
            Self::Short(..) => 0,
            Self::Long(bytes) => bytes.len(),
        }
    }

    /// The values again.
    pub fn group(&self) -> GroupKey {
        let (mut rest, mut values) = (self.bytes(), Vec::new());
        while let Some((size, after)) = length(rest) {
            let taken = size.saturating_sub(1).min(after.len());
            let text = || Arc::from(String::from_utf8_lossy(&after[..taken]));
            values.push((size > 0).then(text));
            rest = &after[taken..];
        }
        GroupKey(values)
    }
}

/// Appends one value; none is not the empty text.
pub fn encode(value: Option<&str>, into: &mut Vec<u8>) {
    let Some(text) = value else { return into.push(0) };
    let mut size = text.len() + 1;
    while size >= 0x80 {
        into.push(size as u8 | 0x80);
        size >>= 7;
    }
    into.push(size as u8);
    into.extend_from_slice(text.as_bytes());
}

/// Reads a length, seven bits a byte, the lowest first.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut size = 0;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        size |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((size, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_values_again_and_no_two_look_alike() {
        let long = "x".repeat(300);
        let groups: [&[Option<&str>]; 9] = [
            &[],
            &[None],
            &[Some("")],
            &[Some("a"), None],
            &[None, Some("a")],
            &[Some("ab"), Some("c")],
            &[Some("a"), Some("bc")],
            &[Some("203.0.113.100"), Some("user000001")],
            &[Some(&long), Some("ü")],
        ];
        let mut all = std::collections::BTreeSet::new();
        for group in groups {
            let mut bytes = Vec::new();
            group.iter().for_each(|v| encode(*v, &mut bytes));
            let key = Key::of(&bytes);
            let again = GroupKey(group.iter().map(|v| v.map(Arc::from)).collect());
            assert_eq!(key.group(), again);
            assert!(all.insert(bytes));
        }
    }
}

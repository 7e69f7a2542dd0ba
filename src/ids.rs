//! Names of things: rules, alerts, places in Kafka, groups.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A rule's `id` as written in its file, or its `name`, or its title where it has neither.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RuleId(pub Arc<str>);

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a record lies: topic, partition and offset. Files are partition 0, their lines the offsets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Coordinate {
    /// Topic name, or the file's name for `eval`.
    #[serde(rename = "t")]
    pub topic: Arc<str>,
    /// Partition number.
    #[serde(rename = "p")]
    pub partition: i32,
    /// Offset of the record, or the 0-based line of the file.
    #[serde(rename = "o")]
    pub offset: i64,
}

impl fmt::Display for Coordinate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.partition, self.offset)
    }
}

/// The values of `group-by`, in the rule's order; `None` where the event had none. Case is kept: `Bob` and
/// `bob` are two groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupKey(pub Vec<Option<Arc<str>>>);

/// Identity of an alert: the same input gives the same id, after a restart and on every instance.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AlertId([u8; 16]);

impl AlertId {
    /// Hashes the parts, each with its length before it, so that no two lists of parts collide by
    /// concatenation. SHA-256 cut to 128 bits.
    pub fn of(parts: &[&[u8]]) -> Self {
        Self(stable_hash(parts))
    }
}

impl fmt::Display for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for AlertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlertId({self})")
    }
}

/// Lower-case hexadecimal digits of bytes.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from(b"0123456789abcdef"[usize::from(n & 15)]);
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(*b)]).collect()
}

/// A fixed, documented hash for all that is persisted or decides a partition: SHA-256 over the parts,
/// each preceded by its length as u64 little-endian, cut to 16 bytes.
pub fn stable_hash(parts: &[&[u8]]) -> [u8; 16] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let mut out = [0; 16];
    out.copy_from_slice(&hash.finalize()[..16]);
    out
}

/// The partition that a key belongs to, among `partitions`.
///
/// # Panics
/// Never: fewer than one partition counts as one.
pub fn partition_of(parts: &[&[u8]], partitions: i32) -> i32 {
    let hash = stable_hash(parts);
    let mut head = [0; 8];
    head.copy_from_slice(&hash[..8]);
    (u64::from_le_bytes(head) % partitions.max(1) as u64) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_collide_by_concatenation() {
        assert_ne!(AlertId::of(&[b"ab", b"c"]), AlertId::of(&[b"a", b"bc"]));
        assert_eq!(AlertId::of(&[b"ab"]).to_string().len(), 32);
    }

    #[test]
    fn a_key_always_goes_to_the_same_partition_within_bounds() {
        for n in 1..40 {
            let p = partition_of(&[b"10.0.0.1"], n);
            assert!((0..n).contains(&p));
            assert_eq!(p, partition_of(&[b"10.0.0.1"], n));
        }
    }
}

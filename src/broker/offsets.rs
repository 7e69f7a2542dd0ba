//! The committed offsets of one group, and those which wait for their transaction to end (KIP-447).

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;

use super::ids::TopicPartition;

/// Longest metadata text beside an offset, as Kafka's `offset.metadata.max.bytes`.
const METADATA_BYTES_MAX: usize = 4_096;

/// One committed position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The next offset to read.
    pub offset: i64,
    /// Leader epoch of the last record read, or -1.
    pub leader_epoch: i32,
    /// Free text of the consumer.
    pub metadata: String,
}

impl Position {
    /// Checks and makes a position.
    ///
    /// # Errors
    /// `OffsetMetadataTooLarge` for more than 4096 bytes of metadata.
    pub fn new(offset: i64, leader_epoch: i32, metadata: &str) -> Result<Self, ResponseError> {
        if metadata.len() > METADATA_BYTES_MAX {
            return Err(ResponseError::OffsetMetadataTooLarge);
        }
        Ok(Position { offset, leader_epoch, metadata: metadata.to_owned() })
    }
}

/// The offsets of one group.
#[derive(Debug, Default)]
pub struct Offsets {
    committed: BTreeMap<TopicPartition, Position>,
    /// By producer id: what its open transaction will commit.
    pending: BTreeMap<i64, BTreeMap<TopicPartition, Position>>,
}

impl Offsets {
    /// Commits a position at once.
    pub fn commit(&mut self, partition: TopicPartition, position: Position) {
        self.committed.insert(partition, position);
    }

    /// Keeps a position until the producer's transaction ends.
    pub fn commit_with_transaction(
        &mut self,
        producer_id: i64,
        partition: TopicPartition,
        position: Position,
    ) {
        self.pending.entry(producer_id).or_default().insert(partition, position);
    }

    /// Ends the producer's transaction: its positions become real, or vanish.
    pub fn end_transaction(&mut self, producer_id: i64, commit: bool) {
        let pending = self.pending.remove(&producer_id).unwrap_or_default();
        if commit {
            self.committed.extend(pending);
        }
    }

    /// Reads a committed position; `None` if there is none.
    ///
    /// # Errors
    /// `UnstableOffsetCommit` if `stable` is asked for and an open transaction may still change it.
    pub fn fetch(
        &self,
        partition: &TopicPartition,
        stable: bool,
    ) -> Result<Option<&Position>, ResponseError> {
        if stable && self.pending.values().any(|offsets| offsets.contains_key(partition)) {
            return Err(ResponseError::UnstableOffsetCommit);
        }
        Ok(self.committed.get(partition))
    }

    /// Every partition with a committed or a pending position, in order.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        let pending = self.pending.values().flat_map(BTreeMap::keys);
        let mut all: Vec<_> = self.committed.keys().chain(pending).cloned().collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Forgets a deleted topic.
    pub fn forget_topic(&mut self, topic: &str) {
        self.committed.retain(|partition, _| partition.topic != topic);
        for offsets in self.pending.values_mut() {
            offsets.retain(|partition, _| partition.topic != topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pending_position_becomes_real_only_by_a_commit() {
        for (commit, expected) in [(true, 7), (false, 3)] {
            let mut offsets = Offsets::default();
            let partition = TopicPartition::new("t", 0);
            offsets.commit(partition.clone(), Position::new(3, -1, "").unwrap());
            offsets.commit_with_transaction(
                9,
                partition.clone(),
                Position::new(7, -1, "").unwrap(),
            );
            assert_eq!(offsets.fetch(&partition, true), Err(ResponseError::UnstableOffsetCommit));
            assert_eq!(offsets.fetch(&partition, false).unwrap().unwrap().offset, 3);
            offsets.end_transaction(9, commit);
            assert_eq!(offsets.fetch(&partition, true).unwrap().unwrap().offset, expected);
        }
    }

    #[test]
    fn metadata_is_bounded() {
        let metadata = "x".repeat(METADATA_BYTES_MAX + 1);
        assert_eq!(Position::new(0, -1, &metadata), Err(ResponseError::OffsetMetadataTooLarge));
    }
}

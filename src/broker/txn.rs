//! The transaction coordinator (KIP-98, KIP-360, KIP-447): who holds a transactional id, and what its transaction covers.
//!
//! It decides and remembers; it touches no log and no offset. Whatever ends a transaction gives an [`Ending`], which
//! the owner applies to the logs and groups in the same step, so the `Prepare…` states of Kafka do not exist here:
//!
//! ```text
//!   Empty ──add──▶ Ongoing ──end(commit)──▶ Committed ──┐
//!                  │  ▲ └────end(abort)───▶ Aborted ────┤
//!   timeout, init ─┘  └───────────add───────────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::error::ResponseError;

use super::ids::{Producer, TopicPartition};

/// Longest transaction timeout a client may ask for, as Kafka's `transaction.max.timeout.ms`.
const TIMEOUT_MS_MAX: i64 = 900_000;

/// What remains to be done when a transaction ends: markers into these partitions, offsets of these groups.
#[derive(Debug, PartialEq, Eq)]
pub struct Ending {
    /// The producer and the epoch the markers carry.
    pub producer: Producer,
    /// Committed, or aborted.
    pub commit: bool,
    /// Partitions which get a marker.
    pub partitions: BTreeSet<TopicPartition>,
    /// Groups whose pending offsets become real or vanish.
    pub groups: BTreeSet<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Empty,
    Ongoing { since_ms: i64 },
    Committed,
    Aborted,
}

#[derive(Debug)]
struct Transaction {
    producer: Producer,
    /// The epoch before, when its holder asked for the bump itself and may ask again (KIP-360).
    previous_epoch: Option<i16>,
    timeout_ms: i64,
    status: Status,
    partitions: BTreeSet<TopicPartition>,
    groups: BTreeSet<String>,
}

impl Transaction {
    fn deadline_ms(&self) -> Option<i64> {
        match self.status {
            Status::Ongoing { since_ms } => Some(since_ms.saturating_add(self.timeout_ms)),
            _ => None,
        }
    }

    fn begin(&mut self, now_ms: i64) {
        if !matches!(self.status, Status::Ongoing { .. }) {
            self.status = Status::Ongoing { since_ms: now_ms };
        }
    }

    fn finish(&mut self, commit: bool) -> Ending {
        self.status = if commit { Status::Committed } else { Status::Aborted };
        Ending {
            producer: self.producer,
            commit,
            partitions: std::mem::take(&mut self.partitions),
            groups: std::mem::take(&mut self.groups),
        }
    }

    /// Ends an ongoing transaction against its holder's will, whose epoch is spent by it.
    fn fence(&mut self) -> Ending {
        self.producer.epoch = self.producer.epoch.saturating_add(1);
        self.previous_epoch = None;
        self.finish(false)
    }
}

/// All transactional ids.
#[derive(Debug, Default)]
pub struct Coordinator {
    transactions: BTreeMap<String, Transaction>,
    next_producer_id: i64,
}

impl Coordinator {
    /// Gives an id to a producer which is only idempotent.
    pub fn idempotent_producer(&mut self) -> Producer {
        let id = self.next_producer_id;
        self.next_producer_id += 1;
        Producer { id, epoch: 0 }
    }

    /// Makes the caller the holder of a transactional id: a new epoch, and the abort of what the former holder left open.
    ///
    /// `current` is what the caller believes to hold, if it asks for a new epoch after an error (KIP-360).
    ///
    /// # Errors
    /// `InvalidTransactionTimeout` for zero or more than 15 minutes, `ProducerFenced` if `current` is not the holder.
    pub fn init(
        &mut self,
        id: &str,
        current: Option<Producer>,
        timeout_ms: i32,
    ) -> Result<(Producer, Option<Ending>), ResponseError> {
        let timeout_ms = i64::from(timeout_ms);
        if !(1..=TIMEOUT_MS_MAX).contains(&timeout_ms) {
            return Err(ResponseError::InvalidTransactionTimeout);
        }
        let Some(txn) = self.transactions.get_mut(id) else {
            let producer = self.idempotent_producer();
            let (status, partitions, groups) = (Status::Empty, BTreeSet::new(), BTreeSet::new());
            let txn = Transaction {
                producer,
                previous_epoch: None,
                timeout_ms,
                status,
                partitions,
                groups,
            };
            self.transactions.insert(id.to_owned(), txn);
            return Ok((producer, None));
        };
        if let Some(current) = current {
            if current.id == txn.producer.id && txn.previous_epoch == Some(current.epoch) {
                return Ok((txn.producer, None));
            }
            if current != txn.producer {
                return Err(ResponseError::ProducerFenced);
            }
        }
        let ending = txn.deadline_ms().map(|_| txn.fence());
        txn.timeout_ms = timeout_ms;
        txn.status = Status::Empty;
        txn.previous_epoch = current.map(|c| c.epoch);
        if txn.producer.epoch >= i16::MAX - 1 {
            txn.producer = Producer { id: self.next_producer_id, epoch: 0 };
            txn.previous_epoch = None;
            self.next_producer_id += 1;
        } else {
            txn.producer.epoch += 1;
        }
        Ok((txn.producer, ending))
    }

    /// Puts partitions under the transaction, which begins with the first of them.
    ///
    /// # Errors
    /// Those of a caller which is not the holder: `InvalidProducerIdMapping`, `InvalidProducerEpoch`.
    pub fn add_partitions(
        &mut self,
        id: &str,
        producer: Producer,
        partitions: impl IntoIterator<Item = TopicPartition>,
        now_ms: i64,
    ) -> Result<(), ResponseError> {
        let txn = self.held_mut(id, producer)?;
        txn.begin(now_ms);
        txn.partitions.extend(partitions);
        Ok(())
    }

    /// Puts a group's offsets under the transaction.
    ///
    /// # Errors
    /// As [`Coordinator::add_partitions`].
    pub fn add_group(
        &mut self,
        id: &str,
        producer: Producer,
        group: &str,
        now_ms: i64,
    ) -> Result<(), ResponseError> {
        let txn = self.held_mut(id, producer)?;
        txn.begin(now_ms);
        txn.groups.insert(group.to_owned());
        Ok(())
    }

    /// Ends the transaction. A repeat of the same end gives `None`: it was applied before.
    ///
    /// # Errors
    /// As [`Coordinator::add_partitions`], and `InvalidTxnState` when there is nothing to end or it ended the other way.
    pub fn end(
        &mut self,
        id: &str,
        producer: Producer,
        commit: bool,
    ) -> Result<Option<Ending>, ResponseError> {
        let txn = self.held_mut(id, producer)?;
        match (txn.status, commit) {
            (Status::Ongoing { .. }, _) => Ok(Some(txn.finish(commit))),
            (Status::Committed, true) | (Status::Aborted, false) => Ok(None),
            _ => Err(ResponseError::InvalidTxnState),
        }
    }

    /// Checks that the producer may write to a partition now (KIP-890, part one).
    ///
    /// # Errors
    /// As [`Coordinator::add_partitions`], and `InvalidTxnState` if the partition is not under the transaction.
    pub fn verify_partition(
        &self,
        id: &str,
        producer: Producer,
        partition: &TopicPartition,
    ) -> Result<(), ResponseError> {
        let covered = self.held(id, producer)?.partitions.contains(partition);
        if covered { Ok(()) } else { Err(ResponseError::InvalidTxnState) }
    }

    /// Checks that the producer may commit a group's offsets now.
    ///
    /// # Errors
    /// As [`Coordinator::verify_partition`].
    pub fn verify_group(
        &self,
        id: &str,
        producer: Producer,
        group: &str,
    ) -> Result<(), ResponseError> {
        let covered = self.held(id, producer)?.groups.contains(group);
        if covered { Ok(()) } else { Err(ResponseError::InvalidTxnState) }
    }

    /// Aborts and fences every transaction whose timeout has passed.
    pub fn expire(&mut self, now_ms: i64) -> Vec<Ending> {
        let overdue =
            |t: &&mut Transaction| t.deadline_ms().is_some_and(|deadline| deadline <= now_ms);
        self.transactions.values_mut().filter(overdue).map(Transaction::fence).collect()
    }

    /// When the next transaction times out.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        self.transactions.values().filter_map(Transaction::deadline_ms).min()
    }

    fn held(&self, id: &str, producer: Producer) -> Result<&Transaction, ResponseError> {
        let txn = self.transactions.get(id).ok_or(ResponseError::InvalidProducerIdMapping)?;
        check_holder(txn.producer, producer)?;
        Ok(txn)
    }

    fn held_mut(
        &mut self,
        id: &str,
        producer: Producer,
    ) -> Result<&mut Transaction, ResponseError> {
        let txn = self.transactions.get_mut(id).ok_or(ResponseError::InvalidProducerIdMapping)?;
        check_holder(txn.producer, producer)?;
        Ok(txn)
    }
}

fn check_holder(holder: Producer, caller: Producer) -> Result<(), ResponseError> {
    if holder.id != caller.id {
        return Err(ResponseError::InvalidProducerIdMapping);
    }
    // The old name of `ProducerFenced`, which the versions spoken here still use. Clients treat both as fenced.
    if holder.epoch == caller.epoch { Ok(()) } else { Err(ResponseError::InvalidProducerEpoch) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> TopicPartition {
        TopicPartition::new("t", 0)
    }

    fn begun(coordinator: &mut Coordinator) -> Producer {
        let (producer, _) = coordinator.init("x", None, 1_000).unwrap();
        coordinator.add_partitions("x", producer, [partition()], 100).unwrap();
        producer
    }

    #[test]
    fn an_end_is_applied_once_and_its_repeat_is_no_error() {
        for commit in [true, false] {
            let mut coordinator = Coordinator::default();
            let producer = begun(&mut coordinator);
            let ending = coordinator.end("x", producer, commit).unwrap().unwrap();
            assert_eq!((ending.commit, ending.partitions.len()), (commit, 1));
            assert_eq!(coordinator.end("x", producer, commit), Ok(None));
            assert_eq!(
                coordinator.end("x", producer, !commit),
                Err(ResponseError::InvalidTxnState)
            );
        }
    }

    #[test]
    fn nothing_to_end_is_an_error() {
        let mut coordinator = Coordinator::default();
        let (producer, _) = coordinator.init("x", None, 1_000).unwrap();
        assert_eq!(coordinator.end("x", producer, true), Err(ResponseError::InvalidTxnState));
        assert_eq!(
            coordinator.end("y", producer, true),
            Err(ResponseError::InvalidProducerIdMapping)
        );
    }

    #[test]
    fn a_second_holder_aborts_the_first_ones_transaction_and_fences_it() {
        let mut coordinator = Coordinator::default();
        let first = begun(&mut coordinator);
        let (second, ending) = coordinator.init("x", None, 1_000).unwrap();
        let ending = ending.unwrap();
        assert_eq!((second.id, second.epoch), (first.id, first.epoch + 2));
        assert_eq!((ending.commit, ending.producer.epoch), (false, first.epoch + 1));
        assert_eq!(coordinator.end("x", first, true), Err(ResponseError::InvalidProducerEpoch));
        assert_eq!(coordinator.init("x", Some(first), 1_000), Err(ResponseError::ProducerFenced));
    }

    #[test]
    fn a_timeout_aborts_with_a_new_epoch() {
        let mut coordinator = Coordinator::default();
        let producer = begun(&mut coordinator);
        assert_eq!(coordinator.next_deadline_ms(), Some(1_100));
        assert_eq!(coordinator.expire(1_099), vec![]);
        let endings = coordinator.expire(1_100);
        assert_eq!(endings.len(), 1);
        assert_eq!((endings[0].commit, endings[0].producer.epoch), (false, producer.epoch + 1));
        assert_eq!(coordinator.next_deadline_ms(), None);
        assert_eq!(coordinator.end("x", producer, true), Err(ResponseError::InvalidProducerEpoch));
    }

    #[test]
    fn a_holder_may_ask_for_a_new_epoch_and_repeat_the_question() {
        let mut coordinator = Coordinator::default();
        let (first, _) = coordinator.init("x", None, 1_000).unwrap();
        let (second, _) = coordinator.init("x", Some(first), 1_000).unwrap();
        assert_eq!(second.epoch, first.epoch + 1);
        assert_eq!(coordinator.init("x", Some(first), 1_000), Ok((second, None)));
    }

    #[test]
    fn an_exhausted_epoch_brings_a_new_producer_id() {
        let mut coordinator = Coordinator::default();
        let (mut producer, _) = coordinator.init("x", None, 1_000).unwrap();
        let first_id = producer.id;
        for _ in 0..i32::from(i16::MAX) {
            producer = coordinator.init("x", None, 1_000).unwrap().0;
            assert!((0..i16::MAX).contains(&producer.epoch));
        }
        assert_ne!(producer.id, first_id);
    }

    #[test]
    fn a_timeout_out_of_range_is_refused() {
        for timeout_ms in [0, -1, 900_001] {
            let refused = Coordinator::default().init("x", None, timeout_ms);
            assert_eq!(refused, Err(ResponseError::InvalidTransactionTimeout), "{timeout_ms}");
        }
    }

    #[test]
    fn only_what_was_added_is_covered() {
        let mut coordinator = Coordinator::default();
        let producer = begun(&mut coordinator);
        let other = TopicPartition::new("t", 1);
        assert_eq!(coordinator.verify_partition("x", producer, &partition()), Ok(()));
        assert_eq!(
            coordinator.verify_partition("x", producer, &other),
            Err(ResponseError::InvalidTxnState)
        );
        assert_eq!(
            coordinator.verify_group("x", producer, "g"),
            Err(ResponseError::InvalidTxnState)
        );
    }
}

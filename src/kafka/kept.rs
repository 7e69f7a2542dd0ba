//! Compacted topics, read from the start to what is committed.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message as _, Offset, TopicPartitionList};

use super::{Clients, WorkerContext};
use crate::bus::{BusError, KeptReader};
use crate::limits::CONSUMER_QUEUE_KIB;

/// A consumer without a group. It is made for one restore and dropped after it.
pub struct KafkaKept {
    consumer: BaseConsumer<WorkerContext>,
    unread: BTreeSet<i32>,
}

impl KafkaKept {
    /// Begins to read.
    ///
    /// # Errors
    /// When the client refuses.
    pub fn open(clients: &Clients, topic: &str, partitions: &[i32]) -> Result<Self, BusError> {
        let consumer: BaseConsumer<WorkerContext> = clients
            .plain()
            // librdkafka has no consumer without the name of a group; nothing is committed to it.
            .set("group.id", "unused")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "error")
            // Where the last stable offset is, markers included, is said by this and by nothing else.
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "10")
            .set("queued.max.messages.kbytes", CONSUMER_QUEUE_KIB.to_string())
            // A queue that was full is looked at again after a second by default: most of a restore.
            .set("fetch.queue.backoff.ms", "5")
            .set("check.crcs", "true")
            .create_with_context(WorkerContext::new(clients.tokens()))?;
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition_offset(topic, *partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        Ok(Self { consumer, unread: partitions.iter().copied().collect() })
    }
}

impl KeptReader for KafkaKept {
    fn read(
        &mut self,
        max: usize,
        take: &mut impl FnMut(i32, &[u8], Option<&[u8]>),
    ) -> Result<Vec<i32>, BusError> {
        let mut ended = Vec::new();
        for _ in 0..max {
            if self.unread.is_empty() {
                break;
            }
            match self.consumer.poll(Duration::ZERO) {
                None => break,
                Some(Ok(record)) if self.unread.contains(&record.partition()) => {
                    take(record.partition(), record.key().unwrap_or_default(), record.payload());
                }
                Some(Ok(_)) => {}
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    // It comes again when somebody writes; what is committed later is not for this reader.
                    ended.extend(self.unread.take(&partition));
                }
                Some(Err(error)) => return Err(error.into()),
            }
        }
        Ok(ended)
    }
}

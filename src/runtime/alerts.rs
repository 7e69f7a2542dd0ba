//! The alerts that the API shows: read from the alerts topic, committed ones only.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message, Offset, TopicPartitionList};

use super::shared::Shared;
use crate::http::AlertIndex;
use crate::kafka::{Clients, WorkerContext, partition_count};
use crate::limits::RESTART_BACKOFF_MS_MAX;

/// Reads the alerts topic from its start until told to stop. It needs no group: every instance shows
/// all alerts.
pub fn follow_alerts(shared: &Shared, index: &AlertIndex, clients: &Clients) {
    while !shared.stop.load(Ordering::Relaxed) {
        if let Err(error) = follow(shared, index, clients) {
            tracing::warn!(%error, "reading alerts for the API");
            shared.health.set_check("alerts", false, error.to_string());
            std::thread::sleep(Duration::from_millis(RESTART_BACKOFF_MS_MAX));
        }
    }
}

fn follow(
    shared: &Shared,
    index: &AlertIndex,
    clients: &Clients,
) -> Result<(), Box<dyn std::error::Error>> {
    let topic = &shared.topics.alerts;
    let consumer: BaseConsumer<WorkerContext> = clients
        .plain()
        .set("group.id", format!("{}-api-unused", shared.config.app))
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "earliest")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "50")
        .set("queued.max.messages.kbytes", "4096")
        .create_with_context(WorkerContext::new(clients.tokens()))?;
    let mut partitions = TopicPartitionList::new();
    for partition in 0..partition_count(&consumer, topic)? {
        partitions.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&partitions)?;
    // Answers are complete once every partition has been read to its end.
    let mut unread: BTreeSet<i32> = (0..partitions.count() as i32).collect();
    while !shared.stop.load(Ordering::Relaxed) {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                let position = (message.partition(), message.offset());
                let body = message.payload().unwrap_or_default().to_vec();
                if let Err(error) = index.insert(position, body.into()) {
                    tracing::warn!(%error, ?position, "an alert that the API cannot show");
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unread.remove(&partition);
                let detail = format!("{} partitions are still being read", unread.len());
                shared.health.set_check("alerts", unread.is_empty(), detail);
            }
            Some(Err(error)) => return Err(error.into()),
            None => {}
        }
    }
    Ok(())
}

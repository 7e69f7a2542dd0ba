//! Callbacks of librdkafka, turned into messages.
//!
//! A rebalance callback does not assign anything itself: it leaves a message, and the worker
//! acknowledges it by assigning or unassigning once its transaction is committed. Only while the
//! consumer is being closed, when nobody would acknowledge any more, does the callback act at once;
//! otherwise closing would wait forever.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use rdkafka::statistics::Statistics;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka::{Message, TopicPartitionList};

use super::TokenSource;
use crate::time::Timestamp;

/// What the group asks of this worker.
#[derive(Clone, Debug)]
pub enum Rebalance {
    /// Take these partitions, besides those it has.
    Assign(TopicPartitionList),
    /// Finish and give these back.
    Revoke(TopicPartitionList),
    /// These were taken away already: what is unfinished must not be committed.
    Lost(TopicPartitionList),
}

/// What librdkafka knows of one partition without asking anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionStats {
    /// First offset that is still there, as of the last fetch.
    pub offset_low: i64,
    /// End of what may be read (the last stable offset).
    pub offset_high: i64,
    /// Whether nothing fetched was waiting to be handed out, up to the end.
    pub drained: bool,
    /// When the broker last said so; `None` while it cannot be reached.
    pub at: Option<Timestamp>,
}

impl PartitionStats {
    /// When a reader whose next offset is `next` was known to have read everything, if it has. The
    /// second way is for topics that end in transaction markers, which no reader sees; the queue that
    /// it asks about is shared with other partitions, so it can only say no too often.
    pub fn read_to_end(&self, next: i64) -> Option<Timestamp> {
        self.at.filter(|_| next >= self.offset_high || self.drained)
    }
}

/// Shared between a client's callbacks and its worker.
#[derive(Default)]
pub struct WorkerContext {
    rebalances: Mutex<VecDeque<Rebalance>>,
    closing: AtomicBool,
    stats: Mutex<BTreeMap<(Arc<str>, i32), PartitionStats>>,
    delivery_error: Mutex<Option<String>>,
    tokens: Option<TokenSource>,
}

impl WorkerContext {
    /// With the source of OAUTHBEARER tokens, if any.
    pub fn new(tokens: Option<TokenSource>) -> Self {
        Self { tokens, ..Self::default() }
    }

    /// The next thing that the group asks.
    pub fn next_rebalance(&self) -> Option<Rebalance> {
        lock(&self.rebalances).pop_front()
    }

    /// The next thing that the group asks, if that is to give partitions back.
    pub fn next_revocation(&self) -> Option<TopicPartitionList> {
        match lock(&self.rebalances).pop_front_if(|next| matches!(next, Rebalance::Revoke(_)))? {
            Rebalance::Revoke(partitions) => Some(partitions),
            Rebalance::Assign(_) | Rebalance::Lost(_) => None,
        }
    }

    /// Takes the latest statistics.
    pub fn take_stats(&self) -> BTreeMap<(Arc<str>, i32), PartitionStats> {
        std::mem::take(&mut *lock(&self.stats))
    }

    /// Why a message could not be delivered, if any could not.
    pub fn take_delivery_error(&self) -> Option<String> {
        lock(&self.delivery_error).take()
    }

    /// From now on rebalances are acknowledged at once.
    pub fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }
}

/// A poisoned lock holds data that is as good as before: nothing here can be left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ClientContext for WorkerContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn stats(&self, statistics: Statistics) {
        let now = Timestamp(statistics.time.saturating_mul(1_000_000));
        // What is known of the end is as old as the last answer of the partition's broker.
        let heard = |id: i32| {
            let broker = statistics.brokers.values().find(|b| b.nodeid == id && b.state == "UP")?;
            Some(now.minus(broker.rxidle.max(0)))
        };
        let mut known = lock(&self.stats);
        for (name, topic) in &statistics.topics {
            let name: Arc<str> = name.as_str().into();
            for (number, p) in topic.partitions.iter().filter(|(n, p)| **n >= 0 && p.ls_offset >= 0)
            {
                let stats = PartitionStats {
                    offset_low: p.lo_offset,
                    offset_high: p.ls_offset,
                    drained: p.fetchq_cnt == 0 && p.next_offset >= p.ls_offset,
                    at: heard(p.broker).filter(|_| p.fetch_state == "active"),
                };
                known.insert((Arc::clone(&name), *number), stats);
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition comes as an error, too; whoever asked for it is told by `poll`.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
            tracing::warn!(%error, reason, "kafka");
        }
    }

    fn generate_oauth_token(
        &self,
        _config: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        match &self.tokens {
            Some(source) => Ok(source.fetch()?),
            None => Err("no kafka.security.sasl.oauth is configured".into()),
        }
    }
}

impl ConsumerContext for WorkerContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        err: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let assigned = err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::SeqCst) {
            let done = match assigned {
                true => consumer.incremental_assign(partitions),
                false => consumer.incremental_unassign(partitions),
            };
            if let Err(error) = done {
                tracing::debug!(%error, "rebalance while closing");
            }
            return;
        }
        let message = match (assigned, consumer.assignment_lost()) {
            (true, _) => Rebalance::Assign(partitions.clone()),
            (false, true) => Rebalance::Lost(partitions.clone()),
            (false, false) => Rebalance::Revoke(partitions.clone()),
        };
        lock(&self.rebalances).push_back(message);
    }
}

impl ProducerContext for WorkerContext {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: ()) {
        if let Err((error, message)) = result {
            let what =
                format!("{error} (topic {}, partition {})", message.topic(), message.partition());
            lock(&self.delivery_error).get_or_insert(what);
        }
    }
}

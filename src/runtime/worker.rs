//! The loop of one worker: one thread, one consumer, one transactional producer, its partitions' state.
//!
//! ```text
//!   poll ─▶ batch ─▶ runs ─▶ stage ─▶ outputs ─┐
//!    ▲  └─▶ rebalance: commit, then            ├─▶ commit (outputs and offsets, one transaction) ─┐
//!    │      assign or unassign                 │                                                  │
//!    └─────────────────────────────────────────┴──────────────────────────────────────────────────┘
//! ```
//!
//! What a batch holds of one partition in a row is a *run*: positions, state and clocks are looked up
//! once for it. Only the stage works record by record.
//!
//! When an epoch is aborted, the worker keeps its place in the group and goes back to the committed
//! offsets with fresh state. When anything else fails, it is dropped with all it holds and built anew.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

pub use super::stage::{Assigned, Place, Run, Stage};
use super::{Stopwatch, SystemClock};
use crate::config::Start;
use crate::kafka::{
    Clients, Message, Offsets, Reader, Rebalance, TransactionError, Transactional, WorkerContext,
    tpl_of,
};
use crate::limits::{
    BROKER_CALL_MS_MAX, FENCING_LOOKS, OFFSETS_ONLY_COMMIT_MS, POLL_BATCH_RECORDS_MAX,
    POLL_WAIT_MS, STATISTICS_INTERVAL_MS,
};
use crate::metrics::{LatencyRecorder, Metrics};
use crate::source::{Bounds, beginning};
use crate::time::{Clock, Timestamp};

/// Why a worker ended.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// Its transaction failed, or it was fenced.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// A call to Kafka failed.
    #[error("kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// The group took the partitions away before the worker could finish.
    #[error("the assignment was lost")]
    Lost,
}

impl WorkerError {
    /// Whether another instance has this worker's name, so that trying again would do harm.
    pub fn is_fenced(&self) -> bool {
        match self {
            Self::Transaction(TransactionError::Fenced { .. }) => true,
            Self::Kafka(e) => e.rdkafka_error_code() == Some(RDKafkaErrorCode::FencedInstanceId),
            _ => false,
        }
    }
}

/// Where an assigned partition stands.
struct Position {
    /// Next offset to process.
    next: i64,
    /// Records before this were committed by an earlier owner.
    committed: i64,
}

/// One worker.
pub struct Worker<'w, S: Stage> {
    stage: S,
    /// Shared with the batch at hand only.
    reader: Rc<Reader>,
    producer: Transactional,
    positions: BTreeMap<Place, Position>,
    topics: Vec<Arc<str>>,
    /// Positions that the next commit writes.
    dirty: Offsets,
    /// Whether a partition got its first position, which is to be kept at once.
    fresh: bool,
    /// Since when statistics may speak of a reading that has been thrown away.
    rewound: Option<Stopwatch>,
    epoch: Stopwatch,
    interval: Duration,
    metrics: &'w Metrics,
    latency: LatencyRecorder,
    joined: bool,
    /// Partitions held and being restored, as last told to the stage.
    told: Option<(usize, usize)>,
    /// What the group asked and was not answered yet. Closing waits for the answer.
    unacknowledged: Option<Rebalance>,
}

impl<'w, S: Stage> Worker<'w, S> {
    /// Connects worker `number` of a stage.
    ///
    /// # Errors
    /// When Kafka cannot be reached or refuses.
    pub fn connect(
        clients: &Clients,
        number: usize,
        stage: S,
        interval: Duration,
        metrics: &'w Metrics,
    ) -> Result<Self, WorkerError> {
        let context = || WorkerContext::new(clients.tokens());
        let name = clients.worker_name(S::NAME, number);
        let producer =
            Transactional::connect(&clients.worker_producer(S::NAME, number), name, context())?;
        let consumer = BaseConsumer::from_config_and_context(
            &clients.worker_consumer(S::NAME, number),
            context(),
        )?;
        let topics = stage.topics();
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        consumer.subscribe(&names)?;
        Ok(Self {
            topics: topics.into_iter().map(Arc::from).collect(),
            stage,
            reader: Rc::new(Reader::new(consumer)?),
            producer,
            positions: BTreeMap::new(),
            dirty: Offsets::new(),
            fresh: false,
            rewound: None,
            epoch: Stopwatch::start(),
            interval,
            latency: metrics.latency(S::NAME),
            metrics,
            joined: false,
            told: None,
            unacknowledged: None,
        })
    }

    /// Works until told to stop; then commits what is done and gives the partitions back.
    ///
    /// # Errors
    /// The first failure; the worker is spent then.
    pub fn run(mut self, stop: &AtomicBool) -> Result<(), WorkerError> {
        let mut done = self.work(stop);
        if let Err(error) = &done {
            self.producer.abort();
            if error.is_fenced() && !self.is_replaced() {
                // A transaction that took too long, as after a pause of the whole machine, looks the
                // same to the producer; but then nobody has taken this worker's place in the group.
                done = Err(TransactionError::Failed(error.to_string()).into());
            }
        }
        self.context().close();
        done
    }

    /// Whether another process has joined the group under this worker's name. One that has just fenced
    /// the producer joins moments later.
    fn is_replaced(&self) -> bool {
        (0..FENCING_LOOKS).any(|_| {
            let polled = self.consumer().poll(Duration::from_millis(100));
            let code = polled.and_then(Result::err).and_then(|e| e.rdkafka_error_code());
            let fatal = self.consumer().client().fatal_error().map(|(code, _)| code);
            [code, fatal].contains(&Some(RDKafkaErrorCode::FencedInstanceId))
        })
    }

    fn work(&mut self, stop: &AtomicBool) -> Result<(), WorkerError> {
        while !stop.load(Ordering::Relaxed) {
            if let Err(error) = self.reader.serve() {
                self.poll_error(error)?;
            }
            while let Some(message) = self.context().next_rebalance() {
                self.rebalance(message)?;
            }
            self.poll()?;
            self.observe();
            if self.joined {
                self.stage.tick(SystemClock.now(), &mut self.producer)?;
                let restoring = self.positions.values().filter(|p| p.next < p.committed).count();
                let stands = (self.positions.len(), restoring);
                if self.told != Some(stands) {
                    self.told = Some(stands);
                    self.stage.ready(restoring);
                }
            }
            if self.is_commit_due() {
                let done = self.commit();
                self.recover(done)?;
            }
        }
        self.commit()
    }

    fn consumer(&self) -> &BaseConsumer<WorkerContext> {
        self.reader.consumer()
    }

    fn context(&self) -> &WorkerContext {
        self.reader.consumer().context()
    }

    /// Hands statistics to the stage.
    fn observe(&mut self) {
        let stats = self.context().take_stats();
        // Records that were at hand when the epoch was aborted counted as read by then.
        let stale = Duration::from_millis(2 * STATISTICS_INTERVAL_MS);
        if stats.is_empty() || self.rewound.is_some_and(|since| since.elapsed() < stale) {
            return;
        }
        for (place, position) in &mut self.positions {
            // Before the group's position there may be nothing but markers, which no reader sees: at the
            // end of the partition all of it has been read in any case.
            if stats.get(place).is_some_and(|s| s.drained) {
                position.next = position.next.max(position.committed);
            }
        }
        let next = self.positions.iter().map(|(p, at)| (p.clone(), at.next)).collect();
        self.stage.observe(&stats, &next);
    }

    /// After an aborted epoch: takes all partitions anew, from the committed offsets. The group is not
    /// left for this; a member that leaves between two generations can strand its partitions.
    fn recover(&mut self, done: Result<(), WorkerError>) -> Result<(), WorkerError> {
        let Err(WorkerError::Transaction(TransactionError::Aborted(why))) = done else {
            return done;
        };
        tracing::info!(worker = S::NAME, why, "an epoch was aborted");
        self.dirty.clear();
        self.rewound = Some(Stopwatch::start());
        self.stage.aborted();
        if self.consumer().assignment_lost() {
            return Err(WorkerError::Lost);
        }
        let mut all = TopicPartitionList::new();
        for ((topic, partition), position) in &self.positions {
            all.add_partition_offset(topic, *partition, Offset::Offset(position.committed))?;
            self.stage.revoke(&(Arc::clone(topic), *partition));
        }
        if all.count() == 0 {
            return Ok(());
        }
        let all = self.give_back(&all)?;
        if all.count() == 0 {
            return Ok(());
        }
        // Where the group has no position yet, the beginning stays that which was decided at first.
        let mut known = self.consumer().committed_offsets(all.clone(), call())?;
        for element in all.elements() {
            let found = known.find_partition(element.topic(), element.partition());
            if found.is_some_and(|f| !matches!(f.offset(), Offset::Offset(_))) {
                known.set_partition_offset(
                    element.topic(),
                    element.partition(),
                    element.offset(),
                )?;
            }
        }
        self.take(&known)
    }

    /// Takes the records that are at hand, and commits when the epoch is full before they are done.
    fn poll(&mut self) -> Result<(), WorkerError> {
        let reader = Rc::clone(&self.reader);
        let batch = reader.batch(Duration::from_millis(POLL_WAIT_MS), POLL_BATCH_RECORDS_MAX);
        let now = SystemClock.now();
        let mut rest = &batch[..];
        while let Some(first) = rest.first() {
            let same = |m: &&Message<'_>| m.is_beside(first) && m.error().is_none();
            let run = &rest[..rest.iter().take_while(same).count()];
            let taken = if run.is_empty() { 1 } else { self.process(run, now)? };
            rest = &rest[taken..];
            if self.producer.is_full() {
                let done = self.commit();
                if done.is_err() {
                    // All is read anew from the committed positions, the rest of the batch too.
                    return self.recover(done);
                }
            }
        }
        // Not before the records: a lost position is to be judged by all that was read before it.
        batch.iter().try_for_each(|message| match message.error() {
            Some(code) => {
                self.poll_error(KafkaError::MessageConsumption(code))?;
                self.begin_again(message)
            }
            None => Ok(()),
        })
    }

    /// Reads the partition of an error on from where the worker stands. librdkafka counts an error that
    /// comes by the batch as a record read: after its next pause it would go on one record too far.
    fn begin_again(&mut self, error: &Message<'_>) -> Result<(), WorkerError> {
        let place = place_of(&self.topics, error);
        let Some((place, position)) = place.and_then(|p| self.positions.get_key_value(&p)) else {
            return Ok(());
        };
        let from = tpl_of(&Offsets::from([(place.clone(), position.next)]))?;
        // What is given back must be committed: others may get it.
        let done = self.commit();
        if done.is_err() {
            return self.recover(done);
        }
        let from = self.give_back(&from)?;
        Ok(self.reader.assign(&from)?)
    }

    /// Hands records of one partition to the stage; gives how many it took.
    fn process(&mut self, records: &[Message<'_>], now: Timestamp) -> Result<usize, WorkerError> {
        let place = place_of(&self.topics, &records[0]);
        let known = place.as_ref().and_then(|place| self.positions.get_mut(place));
        let (Some(place), Some(position)) = (&place, known) else { return Ok(records.len()) };
        let restoring = records[0].offset() < position.committed;
        let turn = records.partition_point(|m| m.offset() < position.committed);
        let records = if restoring { &records[..turn] } else { records };
        let taken = self.stage.run(Run { place, records, restoring, now }, &mut self.producer)?;
        position.next = records[taken - 1].offset() + 1;
        if !restoring {
            self.dirty.insert(place.clone(), position.next);
        }
        Ok(taken)
    }

    fn poll_error(&mut self, error: KafkaError) -> Result<(), WorkerError> {
        let code = error.rdkafka_error_code();
        let label = code.map_or_else(|| "other".to_owned(), |c| format!("{c:?}"));
        self.metrics.kafka_errors.add([&label], 1);
        match (&error, code) {
            (KafkaError::MessageConsumptionFatal(_), _) => Err(error.into()),
            (_, Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)) => {
                self.find_losses()
            }
            _ => {
                tracing::warn!(%error, stage = S::NAME, "poll");
                Ok(())
            }
        }
    }

    /// A position is gone: finds out which, and begins anew at what is left.
    fn find_losses(&mut self) -> Result<(), WorkerError> {
        let mut gone = TopicPartitionList::new();
        for ((topic, partition), position) in &self.positions {
            let (low, high) = self.consumer().fetch_watermarks(topic, *partition, call())?;
            if position.next < low || position.next > high {
                // While state is rebuilt, records before the group's position are read a second time:
                // losing those is no loss of events.
                let reached = position.next.max(position.committed);
                gone.add_partition_offset(topic, *partition, Offset::Offset(reached))?;
            }
        }
        if gone.count() == 0 {
            return Ok(());
        }
        let done = self.commit();
        if done.is_err() {
            return self.recover(done);
        }
        let gone = self.give_back(&gone)?;
        self.take(&gone)
    }

    /// Gives partitions back in order to take them anew, all committed or aborted; gives those that are
    /// still this worker's.
    fn give_back(&mut self, all: &TopicPartitionList) -> Result<TopicPartitionList, WorkerError> {
        let (own, revoked) = self.reader.give_back(all)?;
        revoked.iter().for_each(|partitions| self.release(partitions));
        Ok(own)
    }

    /// These are somebody else's from now on.
    fn release(&mut self, partitions: &TopicPartitionList) {
        self.metrics.rebalances.add(["revoke"], 1);
        for element in partitions.elements() {
            let place = (Arc::from(element.topic()), element.partition());
            self.stage.revoke(&place);
            self.dirty.remove(&place);
            self.positions.remove(&place);
            self.forget(&place);
        }
    }

    fn rebalance(&mut self, message: Rebalance) -> Result<(), WorkerError> {
        self.unacknowledged = Some(message.clone());
        match message {
            Rebalance::Assign(partitions) => {
                self.metrics.rebalances.add(["assign"], 1);
                self.joined = true;
                let known = self.consumer().committed_offsets(partitions, call())?;
                self.take(&known)?;
                self.unacknowledged = None;
            }
            Rebalance::Revoke(partitions) => {
                let done = self.commit();
                self.release(&partitions);
                self.consumer().incremental_unassign(&partitions)?;
                self.unacknowledged = None;
                self.recover(done)?;
            }
            Rebalance::Lost(partitions) => {
                self.metrics.rebalances.add(["lost"], 1);
                self.consumer().incremental_unassign(&partitions)?;
                self.unacknowledged = None;
                return Err(WorkerError::Lost);
            }
        }
        Ok(())
    }

    /// Decides where to begin in each partition, whose positions are given, reports what was lost, and
    /// starts reading.
    fn take(&mut self, known: &TopicPartitionList) -> Result<(), WorkerError> {
        let mut reading = Offsets::new();
        for element in known.elements() {
            element.error()?;
            let place: Place = (Arc::from(element.topic()), element.partition());
            let (offset_low, offset_high) =
                self.consumer().fetch_watermarks(element.topic(), element.partition(), call())?;
            let bounds = Bounds { offset_low, offset_high };
            let committed = match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            let mut start = self.stage.start(element.topic());
            if committed.is_none()
                && start == Start::Latest
                && self.is_added(element.topic(), element.partition())?
            {
                start = Start::Earliest;
            }
            let beginning = beginning(committed, bounds, start);
            if beginning.rewound {
                tracing::error!(
                    topic = element.topic(),
                    partition = element.partition(),
                    ?committed,
                    offset_high,
                    "the position lies beyond the end of the partition: it was made anew or cut"
                );
            }
            let assigned = Assigned { place: place.clone(), beginning, bounds };
            let from = self.stage.assign(&assigned, &mut self.producer)?;
            if beginning.lost.is_some() || committed.is_none() || beginning.rewound {
                // From now on the group has a position: a later loss before it will be exact.
                self.dirty.insert(place.clone(), beginning.offset);
                self.fresh = true;
            }
            let position = Position { next: from, committed: beginning.offset };
            if self.positions.insert(place.clone(), position).is_none() {
                self.metrics.partitions_assigned.add([element.topic()], 1.0);
            }
            reading.insert(place, from);
        }
        self.reader.assign(&tpl_of(&reading)?)?;
        self.told = None;
        Ok(())
    }

    /// A partition belongs to somebody else now, who tells how it stands.
    fn forget(&self, (topic, partition): &Place) {
        let metrics = self.metrics;
        metrics.partitions_assigned.add([topic], -1.0);
        let labels = [&**topic, &*partition.to_string()];
        metrics.consumer_lag.remove(labels);
        metrics.retention_headroom_events.remove(labels);
        metrics.retention_headroom_seconds.remove(labels);
        metrics.watermark_lag.remove(labels);
    }

    /// Whether a partition without a position has been added to a topic that was being read already:
    /// those before it have positions. Its first records are new, whatever `start` says of old ones.
    fn is_added(&self, topic: &str, partition: i32) -> Result<bool, WorkerError> {
        if partition == 0 {
            return Ok(false);
        }
        let mut before = TopicPartitionList::new();
        before.add_partition_range(topic, 0, partition - 1);
        let known = self.consumer().committed_offsets(before, call())?;
        Ok(known.elements().iter().all(|e| matches!(e.offset(), Offset::Offset(_))))
    }

    /// Outputs are committed after the interval; positions alone may wait a little longer.
    fn is_commit_due(&self) -> bool {
        let age = self.epoch.elapsed();
        let outputs = self.producer.messages() > 0 && age >= self.interval;
        let offsets =
            !self.dirty.is_empty() && age >= Duration::from_millis(OFFSETS_ONLY_COMMIT_MS);
        self.fresh || self.producer.is_full() || outputs || offsets
    }

    fn commit(&mut self) -> Result<(), WorkerError> {
        if self.dirty.is_empty() && self.producer.messages() == 0 {
            return Ok(());
        }
        let Some(group) = self.consumer().group_metadata() else { return Err(WorkerError::Lost) };
        let clock = Stopwatch::start();
        let done = self.producer.commit(&self.dirty, &group);
        let outcome = if done.is_ok() { "committed" } else { "failed" };
        self.metrics.transactions.add([S::NAME, outcome], 1);
        self.latency.record(clock.elapsed());
        self.latency.publish();
        done?;
        self.stage.committed();
        self.dirty.clear();
        self.fresh = false;
        self.epoch = Stopwatch::start();
        Ok(())
    }
}

impl<S: Stage> Drop for Worker<'_, S> {
    fn drop(&mut self) {
        let reader = Rc::clone(&self.reader);
        let context = reader.consumer().context();
        context.close();
        let open = self.unacknowledged.take();
        let open = open.into_iter().chain(std::iter::from_fn(|| context.next_rebalance()));
        for message in open {
            let answered = match message {
                Rebalance::Assign(partitions) => self.consumer().incremental_assign(&partitions),
                Rebalance::Revoke(partitions) | Rebalance::Lost(partitions) => {
                    self.consumer().incremental_unassign(&partitions)
                }
            };
            if let Err(error) = answered {
                tracing::debug!(%error, "rebalance while closing");
            }
        }
        for place in self.positions.keys() {
            self.forget(place);
        }
    }
}

fn place_of(topics: &[Arc<str>], message: &Message<'_>) -> Option<Place> {
    let topic = topics.iter().find(|t| ***t == *message.topic())?;
    Some((Arc::clone(topic), message.partition()))
}

fn call() -> Duration {
    Duration::from_millis(BROKER_CALL_MS_MAX)
}

//! The bus over librdkafka: a consumer in a group, its records by the batch, and a transactional producer.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::{Clients, KafkaKept, Message, Reader, Transactional, WorkerContext};
use crate::bus::{
    Bounds, Bus, BusError, GivenBack, Offsets, Place, ReadError, Rebalance, Record, Remedy, Stats,
    TransactionError,
};
use crate::limits::{BROKER_CALL_MS_MAX, FENCING_LOOKS, HEARING_MS};
use crate::time::Timestamp;

/// A worker's consumer.
///
/// It lives as long as its membership. librdkafka joins again by itself when the group has expelled it, and
/// does not call its partitions lost if that happened in the middle of a rebalance: it goes on reading them,
/// and its next commit would carry the new generation, whoever has had the partitions since.
pub struct KafkaBus {
    reader: Reader,
    clients: Clients,
    /// The id with which it got its first partitions.
    member: OnceCell<String>,
}

impl KafkaBus {
    /// Connects worker `number` of a stage, which takes over the name of the worker before it.
    ///
    /// # Errors
    /// When Kafka cannot be reached or refuses.
    pub fn connect(
        clients: &Clients,
        stage: &str,
        number: usize,
        topics: &[String],
    ) -> Result<(Self, Transactional), BusError> {
        // It joins while the producer waits for what its predecessor left open to be aborted. What the
        // group gives is looked at after that: positions are not asked for before.
        let bus = Self::join(clients, &clients.worker_consumer(stage, number), topics)?;
        let name = clients.worker_name(stage, number);
        let settings = clients.worker_producer(stage, number);
        let context = WorkerContext::new(clients.tokens());
        match Transactional::connect(&settings, name, context) {
            Ok(producer) => Ok((bus, producer)),
            Err(error) => {
                // What the group has asked by now, nobody else would answer.
                bus.close(None);
                Err(error.into())
            }
        }
    }

    /// Joins the group of a stage without being a worker of it.
    ///
    /// # Errors
    /// When the client refuses.
    pub fn guest(clients: &Clients, stage: &str, topics: &[String]) -> Result<Self, BusError> {
        Self::join(clients, &clients.guest(stage), topics)
    }

    fn join(clients: &Clients, config: &ClientConfig, topics: &[String]) -> Result<Self, BusError> {
        let context = WorkerContext::new(clients.tokens());
        let consumer = BaseConsumer::from_config_and_context(config, context)?;
        let names: Vec<&str> = topics.iter().map(String::as_str).collect();
        consumer.subscribe(&names)?;
        let reader = Reader::new(consumer)?;
        Ok(Self { reader, clients: clients.clone(), member: OnceCell::new() })
    }

    /// Commits positions alone: what comes before them is acknowledged. A group that changes meanwhile
    /// refuses, and the worker goes back, as after an aborted transaction.
    fn commit_positions(&self, offsets: &Offsets) -> Result<(), BusError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let done = self.consumer().commit(&tpl_of(offsets)?, CommitMode::Sync);
        done.map_err(|error| match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::IllegalGeneration
                | RDKafkaErrorCode::UnknownMemberId
                | RDKafkaErrorCode::RebalanceInProgress,
            ) => TransactionError::Aborted(error.to_string()).into(),
            _ => error.into(),
        })
    }

    fn consumer(&self) -> &BaseConsumer<WorkerContext> {
        self.reader.consumer()
    }

    fn context(&self) -> &WorkerContext {
        self.reader.consumer().context()
    }
}

impl Bus for KafkaBus {
    type Record<'b> = Message<'b>;
    type Outbox = Transactional;
    type KeptReader = KafkaKept;

    fn read_kept(&self, topic: &str, partitions: &[i32]) -> Result<KafkaKept, BusError> {
        KafkaKept::open(&self.clients, topic, partitions)
    }

    fn serve(&self) -> Result<(), ReadError> {
        self.reader.serve().map_err(ReadError::from)
    }

    fn next_rebalance(&self) -> Option<Rebalance> {
        let next = self.context().next_rebalance()?;
        if let Rebalance::Assign(_) = next {
            self.member.get_or_init(|| self.reader.member_id());
        }
        Some(next)
    }

    fn is_lost(&self) -> bool {
        self.consumer().assignment_lost()
    }

    fn take_stats(&self) -> Stats {
        self.context().take_stats()
    }

    fn batch(&self, wait: Duration, max: usize) -> Vec<Message<'_>> {
        self.reader.batch(wait, max)
    }

    fn committed(&self, places: &[Place]) -> Result<BTreeMap<Place, Option<i64>>, BusError> {
        let known = self.consumer().committed_offsets(list_of(places), call())?;
        let position = |place: &Place| {
            let found = known.find_partition(&place.0, place.1);
            let none = || BusError::Call(format!("no answer about {}[{}]", place.0, place.1));
            let element = found.ok_or_else(none)?;
            element.error()?;
            let offset = match element.offset() {
                Offset::Offset(offset) => Some(offset),
                _ => None,
            };
            Ok((place.clone(), offset))
        };
        places.iter().map(position).collect()
    }

    fn bounds(&self, (topic, partition): &Place) -> Result<Bounds, BusError> {
        let (offset_low, offset_high) =
            self.consumer().fetch_watermarks(topic, *partition, call())?;
        Ok(Bounds { offset_low, offset_high })
    }

    fn assign(&self, from: &Offsets) -> Result<(), BusError> {
        Ok(self.reader.assign(&tpl_of(from)?)?)
    }

    fn unassign(&self, places: &[Place]) -> Result<(), BusError> {
        Ok(self.consumer().incremental_unassign(&list_of(places))?)
    }

    fn give_back(&self, places: &[Place]) -> Result<GivenBack, BusError> {
        self.unassign(places)?;
        while let Some(heard) = self.consumer().poll(Duration::from_millis(HEARING_MS)) {
            match heard {
                Err(error @ KafkaError::MessageConsumptionFatal(_)) => return Err(error.into()),
                Err(error) => tracing::warn!(%error, "poll"),
                Ok(_) => return Err(BusError::Call("a record went astray".to_owned())),
            }
        }
        let mut revoked = Vec::new();
        while let Some(asked) = self.context().next_revocation() {
            let others: Vec<Place> =
                asked.iter().filter(|p| !places.contains(p)).cloned().collect();
            // Also when there are none: the group may have asked after they were given back, and waits.
            self.unassign(&others)?;
            revoked.extend(asked);
        }
        Ok(GivenBack::new(places, revoked))
    }

    fn begin_commit(&self, outbox: &mut Transactional, offsets: &Offsets) -> Result<(), BusError> {
        let Some(group) = self.consumer().group_metadata() else { return Err(BusError::Lost) };
        // Ids do not come back: if it is the same after, what was taken before is of it, too.
        if self.member.get().is_some_and(|member| *member != self.reader.member_id()) {
            return Err(BusError::Lost);
        }
        if outbox.is_loose() {
            outbox.flush()?;
            return self.commit_positions(offsets);
        }
        Ok(outbox.begin_commit(offsets, group)?)
    }

    fn end_commit(
        &self,
        outbox: &mut Transactional,
        is_awaited: bool,
    ) -> Option<Result<(), BusError>> {
        Some(outbox.end_commit(is_awaited)?.map_err(BusError::from))
    }

    fn abort(&self, outbox: &mut Transactional) {
        outbox.abort();
    }

    /// One that has just fenced the producer joins moments later.
    fn is_replaced(&self) -> bool {
        (0..FENCING_LOOKS).any(|_| {
            let polled = self.consumer().poll(Duration::from_millis(100));
            let code = polled.and_then(Result::err).and_then(|e| e.rdkafka_error_code());
            let fatal = self.consumer().client().fatal_error().map(|(code, _)| code);
            [code, fatal].contains(&Some(RDKafkaErrorCode::FencedInstanceId))
        })
    }

    fn close(&self, open: Option<Rebalance>) {
        self.context().close();
        let open = open.into_iter().chain(std::iter::from_fn(|| self.next_rebalance()));
        for message in open {
            let answered = match message {
                Rebalance::Assign(places) => self.consumer().incremental_assign(&list_of(&places)),
                Rebalance::Revoke(places) | Rebalance::Lost(places) => {
                    self.consumer().incremental_unassign(&list_of(&places))
                }
            };
            if let Err(error) = answered {
                tracing::debug!(%error, "rebalance while closing");
            }
        }
    }
}

impl Record for Message<'_> {
    #[inline]
    fn error(&self) -> Option<ReadError> {
        self.code().map(|code| KafkaError::MessageConsumption(code).into())
    }

    fn topic(&self) -> &str {
        self.topic()
    }

    fn partition(&self) -> i32 {
        self.partition()
    }

    fn is_beside(&self, other: &Self) -> bool {
        self.is_beside(other)
    }

    fn offset(&self) -> i64 {
        self.offset()
    }

    fn payload(&self) -> Option<&[u8]> {
        self.payload()
    }

    fn written_at(&self) -> Option<Timestamp> {
        self.written_at()
    }

    fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.headers()
    }
}

impl From<KafkaError> for ReadError {
    fn from(error: KafkaError) -> Self {
        let code = error.rdkafka_error_code();
        let remedy = match (&error, code) {
            (KafkaError::MessageConsumptionFatal(_), _) => Remedy::Rebuild,
            (_, Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange)) => {
                Remedy::FindLosses
            }
            _ => Remedy::None,
        };
        let code = code.map_or_else(|| "other".to_owned(), |c| format!("{c:?}"));
        Self { code, remedy, error: error.into() }
    }
}

impl From<KafkaError> for BusError {
    fn from(error: KafkaError) -> Self {
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::FencedInstanceId) => Self::Replaced(error.to_string()),
            _ => Self::Call(error.to_string()),
        }
    }
}

fn list_of(places: &[Place]) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(places.len());
    for (topic, partition) in places {
        list.add_partition(topic, *partition);
    }
    list
}

/// Makes librdkafka's list of positions.
///
/// # Errors
/// When librdkafka refuses an offset.
pub fn tpl_of(offsets: &Offsets) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for ((topic, partition), offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))?;
    }
    Ok(list)
}

fn call() -> Duration {
    Duration::from_millis(BROKER_CALL_MS_MAX)
}

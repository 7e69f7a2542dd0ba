//! What rust-rdkafka does not wrap of librdkafka, behind a safe face: records by the batch, a flush that
//! sleeps, and a token for a client that nobody polls. All unsafe code of the crate is in this file.
//!
//! ```text
//!   partition ─┐
//!   partition ─┼─ forwarded ─▶ records ──▶ Reader::batch   one call and one lock a batch
//!   partition ─┘
//!   rebalances, statistics, tokens, errors ──▶ Reader::serve   rust-rdkafka's own poll
//! ```
//!
//! Rebalances and records must not share a queue. The batch call serves whatever it finds besides records
//! by callbacks, rust-rdkafka has set none but asks for events, and librdkafka would answer a rebalance
//! that nobody takes by dropping the assignment. So the partitions get a queue of their own.
//!
//! A partition is pointed at that queue before it is assigned: later would be too late for what has been
//! fetched by then. That stays known to librdkafka, but the pointer does not: a fetch that is being
//! stopped clears it when it comes to it. Partitions that are given back and taken again are therefore
//! pointed once more when the assignment has been answered, for then every stop before it is done; what
//! the partition has fetched meanwhile goes along, in its order.

#![allow(unsafe_code, reason = "rust-rdkafka has no safe call for what is done here")]

use std::ffi::{CStr, CString, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::time::Duration;

use rdkafka::bindings as c;
use rdkafka::client::{Client, ClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka::{Message as _, TopicPartitionList};

use super::{TokenError, TokenSource, WorkerContext};
use crate::limits::HEARING_MS;
use crate::time::Timestamp;

/// A queue of librdkafka.
struct Queue(NonNull<c::rd_kafka_queue_t>);

impl Queue {
    /// An empty queue of a client, which must outlive it.
    fn new(client: &Client<WorkerContext>) -> Option<Self> {
        // SAFETY: the handle is valid as long as `client` is borrowed.
        NonNull::new(unsafe { c::rd_kafka_queue_new(client.native_ptr()) }).map(Self)
    }

    /// Where librdkafka puts what it fetches of a partition.
    fn of_partition(client: &Client<WorkerContext>, topic: &CStr, partition: i32) -> Option<Self> {
        // SAFETY: the handle is valid as long as `client` is borrowed, and the name ends in NUL.
        let queue = unsafe {
            c::rd_kafka_queue_get_partition(client.native_ptr(), topic.as_ptr(), partition)
        };
        NonNull::new(queue).map(Self)
    }

    /// From now on, what comes into this queue goes to `target`; what is in it goes first.
    fn forward(&self, target: &Self) {
        // SAFETY: both queues are valid until they are dropped; librdkafka counts its own reference to
        // the target.
        unsafe { c::rd_kafka_queue_forward(self.0.as_ptr(), target.0.as_ptr()) }
    }

    /// Fills the spare room of `found`: waits for the first record, then takes what is there.
    fn take(&self, wait: Duration, found: &mut Vec<*mut c::rd_kafka_message_t>) {
        let room = found.spare_capacity_mut();
        let (start, size) = (room.as_mut_ptr().cast::<*mut c::rd_kafka_message_t>(), room.len());
        let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
        let read = |wait_ms, at: usize, size: usize| {
            // SAFETY: `size` pointers have room from `at` on; the queue is valid. No second call runs on
            // this client at the same time: a `Reader` has its only queue and stays on its thread.
            let n = unsafe {
                c::rd_kafka_consume_batch_queue(self.0.as_ptr(), wait_ms, start.add(at), size)
            };
            usize::try_from(n).unwrap_or(0).min(size)
        };
        // In one call it would wait until all the room is filled.
        let first = read(wait_ms, 0, size.min(1));
        let more = if first == 0 { 0 } else { read(0, first, size - first) };
        // SAFETY: librdkafka has written so many pointers.
        unsafe { found.set_len(found.len() + first + more) }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: made by librdkafka and destroyed only here.
        unsafe { c::rd_kafka_queue_destroy(self.0.as_ptr()) }
    }
}

/// A consumer whose records come by the batch.
pub struct Reader {
    /// Dropped before the consumer, which waits for it.
    records: Queue,
    consumer: BaseConsumer<WorkerContext>,
}

impl Reader {
    /// Takes a consumer that has no partitions yet.
    ///
    /// # Errors
    /// When librdkafka has no memory for a queue.
    pub fn new(consumer: BaseConsumer<WorkerContext>) -> Result<Self, KafkaError> {
        let none = || KafkaError::ClientCreation("no queue for records".to_owned());
        Ok(Self { records: Queue::new(consumer.client()).ok_or_else(none)?, consumer })
    }

    /// The consumer, for everything but records and assignment.
    pub fn consumer(&self) -> &BaseConsumer<WorkerContext> {
        &self.consumer
    }

    /// Serves rebalances, statistics and tokens that are due; gives an error of the consumer, if any.
    ///
    /// # Errors
    /// What went wrong; also a record that did not come by the batch, which would be lost.
    pub fn serve(&self) -> Result<(), KafkaError> {
        match self.consumer.poll(Duration::ZERO) {
            None => Ok(()),
            Some(Err(error)) => Err(error),
            Some(Ok(stray)) => {
                let (topic, partition) = (stray.topic(), stray.partition());
                tracing::error!(topic, partition, offset = stray.offset(), "a record went astray");
                Err(KafkaError::MessageConsumptionFatal(RDKafkaErrorCode::Inconsistent))
            }
        }
    }

    /// Adds partitions with the offsets from which to read them.
    ///
    /// # Errors
    /// When librdkafka refuses; when it does not know a partition.
    pub fn assign(&self, partitions: &TopicPartitionList) -> Result<(), KafkaError> {
        self.forward(partitions)?;
        self.consumer.incremental_assign(partitions)?;
        self.forward(partitions)
    }

    /// Gives partitions back in order to take them anew; gives those that may be, and what the group had
    /// asked back by then.
    ///
    /// If it had, and nobody has heard of it yet, librdkafka takes this call for the answer, and others get
    /// those partitions: to take them again would be to read them twice. What was asked before the call
    /// can be heard after it, and is answered with it.
    ///
    /// # Errors
    /// When librdkafka refuses; when the consumer cannot go on.
    pub fn give_back(
        &self,
        partitions: &TopicPartitionList,
    ) -> Result<(TopicPartitionList, Vec<TopicPartitionList>), KafkaError> {
        self.consumer.incremental_unassign(partitions)?;
        while let Some(heard) = self.consumer.poll(Duration::from_millis(HEARING_MS)) {
            match heard {
                Err(error @ KafkaError::MessageConsumptionFatal(_)) => return Err(error),
                Err(error) => tracing::warn!(%error, "poll"),
                Ok(_) => {
                    let code = RDKafkaErrorCode::Inconsistent;
                    return Err(KafkaError::MessageConsumptionFatal(code));
                }
            }
        }
        let (mut own, mut revoked) = (partitions.clone(), Vec::new());
        while let Some(asked) = self.consumer.context().next_revocation() {
            let others = without(&asked, partitions)?;
            if others.count() > 0 {
                self.consumer.incremental_unassign(&others)?;
            }
            own = without(&own, &asked)?;
            revoked.push(asked);
        }
        Ok((own, revoked))
    }

    fn forward(&self, partitions: &TopicPartitionList) -> Result<(), KafkaError> {
        for element in partitions.elements() {
            let (topic, partition) = (element.topic(), element.partition());
            let queue = CString::new(topic)
                .ok()
                .and_then(|name| Queue::of_partition(self.consumer.client(), &name, partition));
            let none = || KafkaError::Subscription(format!("no partition {partition} of {topic}"));
            queue.ok_or_else(none)?.forward(&self.records);
        }
        Ok(())
    }

    /// Takes up to `max` records and errors of partitions; waits for the first of them only.
    pub fn batch(&self, wait: Duration, max: usize) -> Vec<Message<'_>> {
        let mut found = Vec::with_capacity(max);
        self.records.take(wait, &mut found);
        let own = |raw| Message { raw, reader: PhantomData };
        found.into_iter().filter_map(NonNull::new).map(own).collect()
    }
}

/// The partitions of one list that are not in the other.
fn without(
    all: &TopicPartitionList,
    gone: &TopicPartitionList,
) -> Result<TopicPartitionList, KafkaError> {
    let mut left = TopicPartitionList::new();
    for element in all.elements() {
        let (topic, partition) = (element.topic(), element.partition());
        if gone.find_partition(topic, partition).is_none() {
            left.add_partition_offset(topic, partition, element.offset())?;
        }
    }
    Ok(left)
}

/// A record, or an error of a partition. It keeps what was fetched with it in memory until it is dropped.
pub struct Message<'r> {
    raw: NonNull<c::rd_kafka_message_t>,
    reader: PhantomData<&'r Reader>,
}

impl Message<'_> {
    fn raw(&self) -> &c::rd_kafka_message_t {
        // SAFETY: valid until it is destroyed, which only `drop` does.
        unsafe { self.raw.as_ref() }
    }

    /// What went wrong with the partition, if this is no record.
    pub fn error(&self) -> Option<RDKafkaErrorCode> {
        let code = self.raw().err;
        (code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| code.into())
    }

    /// Its topic; empty for an error of no partition.
    pub fn topic(&self) -> &str {
        let topic = self.raw().rkt;
        if topic.is_null() {
            return "";
        }
        // SAFETY: the message holds a reference to its topic, whose name ends in NUL and never changes.
        let name = unsafe { CStr::from_ptr(c::rd_kafka_topic_name(topic)) };
        name.to_str().unwrap_or_default()
    }

    /// Its partition.
    pub fn partition(&self) -> i32 {
        self.raw().partition
    }

    /// Whether another message is of the same topic and partition.
    pub fn is_beside(&self, other: &Message<'_>) -> bool {
        (self.raw().rkt, self.raw().partition) == (other.raw().rkt, other.raw().partition)
    }

    /// Its offset.
    pub fn offset(&self) -> i64 {
        self.raw().offset
    }

    /// Its value; `None` for a null. Of an error, what librdkafka says about it.
    pub fn payload(&self) -> Option<&[u8]> {
        // SAFETY: `payload` is null or has `len` bytes, as long as the message is there.
        unsafe { bytes(self.raw().payload, self.raw().len) }
    }

    /// When it was written, by the time that Kafka keeps with it.
    pub fn written_at(&self) -> Option<Timestamp> {
        // SAFETY: the message is valid; the kind of timestamp is not asked for.
        let ms = unsafe { c::rd_kafka_message_timestamp(self.raw.as_ptr(), ptr::null_mut()) };
        (ms >= 0).then(|| Timestamp::from_millis(ms))
    }

    /// Its headers, without those whose name is not UTF-8.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let mut all = ptr::null_mut();
        // SAFETY: the message is valid and keeps its headers; `all` is only used if they are there.
        let code = unsafe { c::rd_kafka_message_headers(self.raw.as_ptr(), &mut all) };
        let found = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
        let header = move |index| {
            let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
            // SAFETY: `all` lives as long as the message; an index beyond the end gives an error.
            let code =
                unsafe { c::rd_kafka_header_get_all(all, index, &mut name, &mut value, &mut size) };
            // SAFETY: the name ends in NUL, and the value is null or of that size; both live as long as
            // the message.
            (code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR)
                .then(|| unsafe { (CStr::from_ptr(name), bytes(value, size)) })
        };
        let headers = (0..).map_while(move |index| if found { header(index) } else { None });
        headers.filter_map(|(name, value)| Some((name.to_str().ok()?, value)))
    }
}

impl Drop for Message<'_> {
    fn drop(&mut self) {
        // SAFETY: made by librdkafka, handed out once, and destroyed only here.
        unsafe { c::rd_kafka_message_destroy(self.raw.as_ptr()) }
    }
}

/// The bytes at an address; `None` for a null.
///
/// # Safety
/// There are so many for as long as `'b`.
unsafe fn bytes<'b>(at: *const c_void, size: usize) -> Option<&'b [u8]> {
    // SAFETY: as promised by the caller.
    (!at.is_null()).then(|| unsafe { std::slice::from_raw_parts(at.cast(), size) })
}

/// Has a producer send what it still gathers, and waits until all is acknowledged, at most so long.
///
/// rust-rdkafka's own flush only starts this and then polls; until the broker thread looks, the start is
/// over, and what is gathered waits for `linger.ms` after all.
pub fn flush<C: ClientContext>(producer: &Client<C>, wait: Duration) {
    let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the handle is valid as long as the client is borrowed. Reports of deliveries are events
    // here, so no callback runs. How it ended shows in what is still in flight.
    let _ = unsafe { c::rd_kafka_flush(producer.native_ptr(), wait_ms) };
}

/// Fetches a token and sets it.
///
/// Clients ask for tokens through an event that somebody must poll for. The administration client of
/// rust-rdkafka polls for the results of its calls only, so it would never get one; it is used for some
/// seconds at the start, for which one token is enough.
///
/// # Errors
/// When there is no token, or librdkafka refuses it.
pub fn set_token<C: ClientContext>(
    client: &Client<C>,
    source: &TokenSource,
) -> Result<(), TokenError> {
    let token = source.fetch()?;
    let text = |s: String| CString::new(s).map_err(|_| TokenError::Claims);
    let (value, principal) = (text(token.token)?, text(token.principal_name)?);
    let mut reason = [0; 512];
    // SAFETY: `client` keeps its handle alive during the call; both strings end in NUL and outlive it;
    // the list of extensions may be null when its length is 0; `reason` is as long as is said.
    let code = unsafe {
        c::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            value.as_ptr(),
            token.lifetime_ms,
            principal.as_ptr(),
            ptr::null_mut(),
            0,
            reason.as_mut_ptr(),
            reason.len(),
        )
    };
    match code {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        _ => {
            let bytes: Vec<u8> = reason.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
            Err(TokenError::Refused(String::from_utf8_lossy(&bytes).into_owned()))
        }
    }
}

//! What a worker needs of Kafka, as traits: one side reads, one sends, and a commit ties them together.
//!
//! ```text
//!            next_rebalance, take_stats, batch                  send
//!   Kafka ───────────────────────────────────▶ worker ─────────────────▶ Outbox ─┐
//!     ▲        committed, bounds, assign                                          │
//!     └──────── begin_commit … end_commit: outputs and positions, or neither ──────┘
//! ```
//!
//! [`crate::kafka`] has the real ones; the simulator of the tests has others, under which every order of
//! events can be had. So nothing here names a type of librdkafka. All calls are bound at compile time:
//! a record costs no more than it does without the traits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::time::Timestamp;

/// A topic and a partition of it.
pub type Place = (Arc<str>, i32);

/// Next offset to read by topic and partition.
pub type Offsets = BTreeMap<Place, i64>;

/// What is known of partitions without asking anybody.
pub type Stats = BTreeMap<Place, PartitionStats>;

/// What the group asks of a worker. It waits until that is answered by assigning or unassigning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebalance {
    /// Take these partitions, besides those it has.
    Assign(Vec<Place>),
    /// Finish and give these back.
    Revoke(Vec<Place>),
    /// These were taken away already: what is unfinished must not be committed.
    Lost(Vec<Place>),
}

/// What the broker says about a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// First offset that is still there.
    pub offset_low: i64,
    /// The offset that the next record will get.
    pub offset_high: i64,
}

/// What the client knows of one partition without asking anybody.
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

/// Why an epoch could not be committed.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    /// Another instance uses this worker's name. Trying again would only fence it in turn.
    #[error("another instance has taken over `{name}`: {reason}")]
    Fenced {
        /// The worker's name.
        name: String,
        /// What the client said.
        reason: String,
    },
    /// The epoch was thrown away, as happens when the group changes at the same moment; the producer
    /// can go on.
    #[error("transaction aborted: {0}")]
    Aborted(String),
    /// The epoch is lost; the worker must be built anew.
    #[error("transaction failed: {0}")]
    Failed(String),
}

/// Why a worker cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// Its transaction failed, or it was fenced.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// A call to Kafka failed.
    #[error("kafka: {0}")]
    Call(String),
    /// Another instance has joined the group under this worker's name.
    #[error("kafka: {0}")]
    Replaced(String),
    /// The group took the partitions away before the worker could finish.
    #[error("the assignment was lost")]
    Lost,
}

impl BusError {
    /// Whether another instance has this worker's name, so that trying again would do harm.
    pub fn is_fenced(&self) -> bool {
        matches!(self, Self::Transaction(TransactionError::Fenced { .. }) | Self::Replaced(_))
    }
}

/// What became of partitions that were given back in order to be taken anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GivenBack {
    /// Those that may be.
    pub own: Vec<Place>,
    /// What the group had asked for by then, these or others: it is somebody else's.
    pub revoked: Vec<Place>,
}

impl GivenBack {
    /// Of all partitions that were given back, and what the group had asked for.
    pub fn new(all: &[Place], revoked: Vec<Place>) -> Self {
        let own = all.iter().filter(|place| !revoked.contains(place)).cloned().collect();
        Self { own, revoked }
    }
}

/// What is wrong with reading.
#[derive(Debug)]
pub struct ReadError {
    /// Its name, for the metric.
    pub code: String,
    /// What is to be done about it.
    pub remedy: Remedy,
    /// What the client said.
    pub error: BusError,
}

/// What is to be done about an error of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Nothing: the client goes on by itself.
    None,
    /// A position is gone: to look up which, and what was lost.
    FindLosses,
    /// The client is spent.
    Rebuild,
}

/// A record, or an error of a partition.
pub trait Record {
    /// What went wrong with the partition, if this is no record.
    fn error(&self) -> Option<ReadError>;

    /// Its topic; empty for an error of no partition.
    fn topic(&self) -> &str;

    /// Its partition.
    fn partition(&self) -> i32;

    /// Whether both are of the same topic and partition.
    fn is_beside(&self, other: &Self) -> bool;

    /// Its offset.
    fn offset(&self) -> i64;

    /// Its value; `None` for a null.
    fn payload(&self) -> Option<&[u8]>;

    /// When it was written, by the time that Kafka keeps with it.
    fn written_at(&self) -> Option<Timestamp>;

    /// Its headers, without those whose name is not UTF-8.
    fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)>;
}

/// A record to be written.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'o> {
    /// Its topic.
    pub topic: &'o str,
    /// Its partition; `None` to go by the key.
    pub partition: Option<i32>,
    /// Its key.
    pub key: &'o [u8],
    /// Its value; `None` for a null.
    pub payload: Option<&'o [u8]>,
    /// Its headers.
    pub headers: &'o [(&'o str, &'o [u8])],
}

/// Takes the outputs of an epoch.
pub trait Outbox {
    /// Adds a record to the epoch.
    ///
    /// # Errors
    /// When a transaction cannot be begun or the record not be queued.
    fn send(&mut self, record: Outgoing<'_>) -> Result<(), TransactionError>;

    /// Records of the open epoch.
    fn messages(&self) -> usize;

    /// Whether the epoch is to be committed before its time.
    fn is_full(&self) -> bool;
}

/// Reads partitions of a compacted topic from their start to their end.
pub trait KeptReader {
    /// Hands out what is at hand, up to `max` records: partition, key and value, `None` for a deletion.
    /// Gives the partitions that have been read to their end by now.
    ///
    /// # Errors
    /// When they cannot be read.
    fn read(
        &mut self,
        max: usize,
        take: &mut impl FnMut(i32, &[u8], Option<&[u8]>),
    ) -> Result<Vec<i32>, BusError>;
}

/// A worker's place in its group and the partitions that it reads.
pub trait Bus {
    /// A record of a batch, or an error of a partition.
    type Record<'b>: Record
    where
        Self: 'b;
    /// Where the outputs go that are committed together with positions.
    type Outbox: Outbox;
    /// Reads what was kept.
    type KeptReader: KeptReader;

    /// Begins to read these partitions of a compacted topic, as far as they are committed by now.
    ///
    /// # Errors
    /// When they cannot be read.
    fn read_kept(&self, topic: &str, partitions: &[i32]) -> Result<Self::KeptReader, BusError>;

    /// Serves whatever is due besides records.
    ///
    /// # Errors
    /// What went wrong with the consumer.
    fn serve(&self) -> Result<(), ReadError>;

    /// The next thing that the group asks.
    fn next_rebalance(&self) -> Option<Rebalance>;

    /// Whether the group has taken the partitions away.
    fn is_lost(&self) -> bool;

    /// Takes what is known of the partitions, if there is news.
    fn take_stats(&self) -> Stats;

    /// Takes up to `max` records and errors of partitions; waits for the first of them only.
    fn batch(&self, wait: Duration, max: usize) -> Vec<Self::Record<'_>>;

    /// The group's position in each of these partitions, once no open transaction can change it.
    ///
    /// # Errors
    /// When one cannot be had.
    fn committed(&self, places: &[Place]) -> Result<BTreeMap<Place, Option<i64>>, BusError>;

    /// What is there of a partition.
    ///
    /// # Errors
    /// When its broker cannot be asked.
    fn bounds(&self, place: &Place) -> Result<Bounds, BusError>;

    /// Adds partitions, to be read from these offsets.
    ///
    /// # Errors
    /// When the client refuses.
    fn assign(&self, from: &Offsets) -> Result<(), BusError>;

    /// Gives partitions back.
    ///
    /// # Errors
    /// When the client refuses.
    fn unassign(&self, places: &[Place]) -> Result<(), BusError>;

    /// Gives partitions back in order to take them anew; all that was made of them must be committed or
    /// aborted.
    ///
    /// If the group had asked for some, and nobody has heard of it yet, the client takes this for the
    /// answer, and others get them: to take them again would be to read them twice. What was asked before
    /// the call can be heard after it, and is answered with it.
    ///
    /// # Errors
    /// When the client refuses or cannot go on.
    fn give_back(&self, places: &[Place]) -> Result<GivenBack, BusError>;

    /// Begins to commit the outputs of the epoch together with these positions. The next epoch begins with
    /// that: what is sent from now on is held until the commit is over.
    ///
    /// # Errors
    /// As [`Bus::end_commit`] gives them.
    fn begin_commit(&self, outbox: &mut Self::Outbox, offsets: &Offsets) -> Result<(), BusError>;

    /// How the commit that was begun has ended, if it has; to be asked until it has. After a failure the
    /// outputs of the epoch after it are thrown away, too.
    ///
    /// [`TransactionError::Aborted`] says that the worker can go on from the committed positions; after any
    /// other error it is spent.
    fn end_commit(
        &self,
        outbox: &mut Self::Outbox,
        is_awaited: bool,
    ) -> Option<Result<(), BusError>>;

    /// Throws the epoch away, as far as that is possible; nothing is being committed.
    fn abort(&self, outbox: &mut Self::Outbox);

    /// Whether another instance has joined the group under this worker's name. Takes its time.
    fn is_replaced(&self) -> bool;

    /// Answers what the group still asks, also `open`, which was taken up and not answered. From now on
    /// answers are given at once.
    fn close(&self, open: Option<Rebalance>);
}

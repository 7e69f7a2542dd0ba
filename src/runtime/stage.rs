//! What a worker asks of its stage, and what the two hand each other.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::worker::WorkerError;
use crate::config::Start;
use crate::kafka::{Message, PartitionStats, Transactional};
use crate::source::{Beginning, Bounds};
use crate::time::Timestamp;

/// A topic and a partition of it.
pub type Place = (Arc<str>, i32);

/// A partition that a worker is about to read.
#[derive(Clone, Debug)]
pub struct Assigned {
    /// Topic and partition.
    pub place: Place,
    /// Where reading begins by the group's position; what was lost before it.
    pub beginning: Beginning,
    /// What is there.
    pub bounds: Bounds,
}

/// Records of one partition in a row, at least one.
#[derive(Clone, Copy)]
pub struct Run<'b> {
    /// Topic and partition.
    pub place: &'b Place,
    /// The records in their order.
    pub records: &'b [Message<'b>],
    /// Whether their outputs are committed already: they are read again to rebuild state.
    pub restoring: bool,
    /// When they are read.
    pub now: Timestamp,
}

/// What a stage does with records. Its state belongs to the worker.
pub trait Stage {
    /// The name in groups, transactional ids and metrics.
    const NAME: &'static str;

    /// The topics to read.
    fn topics(&self) -> Vec<String>;

    /// Where a topic is begun without a position.
    fn start(&self, topic: &str) -> Start;

    /// Takes a partition; gives the offset from which to read, which may lie before the group's
    /// position when state has to be rebuilt.
    ///
    /// # Errors
    /// When an output cannot be sent.
    fn assign(&mut self, partition: &Assigned, out: &mut Transactional)
    -> Result<i64, WorkerError>;

    /// Gives a partition back; its outputs are committed.
    fn revoke(&mut self, place: &Place);

    /// Processes a run, up to the record with which the epoch is full; gives how many records.
    ///
    /// # Errors
    /// When an output cannot be sent.
    fn run(&mut self, run: Run<'_>, out: &mut Transactional) -> Result<usize, WorkerError>;

    /// Takes what librdkafka knows of the partitions, with the next offset of each.
    fn observe(&mut self, stats: &BTreeMap<Place, PartitionStats>, next: &BTreeMap<Place, i64>);

    /// Called in every round; may send what is due by time.
    ///
    /// # Errors
    /// When an output cannot be sent.
    fn tick(&mut self, now: Timestamp, out: &mut Transactional) -> Result<(), WorkerError>;

    /// Called after each commit: now its outputs have happened.
    fn committed(&mut self);

    /// Called after an aborted epoch: its outputs have not happened.
    fn aborted(&mut self);

    /// Says how it stands: whether it is ready, and in words. Called when that has changed.
    fn ready(&mut self, restoring: usize);
}

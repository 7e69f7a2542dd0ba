//! What the two stages have in common: how a worker hands them partitions and records.

use std::collections::BTreeMap;

use crate::bus::{Bounds, BusError, Outbox, Place, Record, Stats};
use crate::config::Start;
use crate::source::Beginning;
use crate::time::Timestamp;

/// A partition that a worker is about to read.
#[derive(Clone, Debug)]
pub struct Assigned {
    /// Topic and partition.
    pub place: Place,
    /// The group's position.
    pub committed: Option<i64>,
    /// Where reading begins by that; what was lost before it.
    pub beginning: Beginning,
    /// What is there.
    pub bounds: Bounds,
}

/// Where a partition is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The first record; it may lie before the group's position when state has to be rebuilt.
    pub from: i64,
    /// Outputs of records before this have been published.
    pub published: i64,
}

/// Records of one partition in a row, at least one.
pub struct Run<'b, R> {
    /// Topic and partition.
    pub place: &'b Place,
    /// The records in their order.
    pub records: &'b [R],
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

    /// The compacted topic in which state is kept, if it is: partition by partition beside the topic
    /// that is read.
    fn keeps_state_in(&self) -> Option<&str> {
        None
    }

    /// Takes a partition. Where state is kept, what is kept of the partition follows.
    ///
    /// # Errors
    /// When an output cannot be sent.
    fn assign(&mut self, partition: &Assigned, out: &mut impl Outbox) -> Result<(), BusError>;

    /// Takes a record of what was kept of a partition; without a value it is no longer so.
    fn kept(&mut self, _place: &Place, _key: &[u8], _value: Option<&[u8]>) {}

    /// Says where the partition is to be read from; all that was kept of it has been handed over.
    ///
    /// # Errors
    /// When an output cannot be sent.
    fn enter(&mut self, partition: &Assigned, _out: &mut impl Outbox) -> Result<Entry, BusError> {
        let from = partition.beginning.offset;
        Ok(Entry { from, published: from })
    }

    /// Keeps what there is of partitions that are about to be given back, in the epoch that is then
    /// committed.
    ///
    /// # Errors
    /// When an output cannot be sent.
    fn leave(&mut self, _places: &[Place], _out: &mut impl Outbox) -> Result<(), BusError> {
        Ok(())
    }

    /// Gives a partition back; its outputs are committed.
    fn revoke(&mut self, place: &Place);

    /// Processes a run, up to the record with which the epoch is full; gives how many records.
    ///
    /// # Errors
    /// When an output cannot be sent.
    fn run<R: Record>(&mut self, run: Run<'_, R>, out: &mut impl Outbox)
    -> Result<usize, BusError>;

    /// Takes what the client knows of the partitions, with the next offset of each.
    fn observe(&mut self, stats: &Stats, next: &BTreeMap<Place, i64>);

    /// Called in every round; may send what is due by time.
    ///
    /// # Errors
    /// When an output cannot be sent.
    fn tick(&mut self, now: Timestamp, out: &mut impl Outbox) -> Result<(), BusError>;

    /// How many outputs it has gathered that go out with the epoch.
    fn gathered(&self) -> usize {
        0
    }

    /// Sends what it has gathered; the epoch is about to be committed.
    ///
    /// # Errors
    /// When an output cannot be sent.
    fn send_gathered(&mut self, _out: &mut impl Outbox) -> Result<(), BusError> {
        Ok(())
    }

    /// Called when a commit has begun: what is sent from now on is of the next epoch.
    fn sealed(&mut self);

    /// Called after each commit: now the outputs of the sealed epoch have happened.
    fn committed(&mut self);

    /// Called after an aborted epoch: its outputs have not happened, nor have those of the one after it.
    fn aborted(&mut self);

    /// Says how it stands: whether it is ready, and in words. Called when that has changed.
    fn ready(&mut self, restoring: usize);
}
